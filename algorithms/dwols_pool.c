// SPDX-License-Identifier: Apache-2.0
// Estimates of several imputations made one (Rubin 1987), with the total covariance as a matrix;
// the degrees of freedom of Barnard & Rubin 1999.

#include "algorithms/dwols.h"

#include <math.h>
#include <string.h>


void dwols_pool_make(int64_t imputations, int count, const double *psi, const double *within,
                     dwols_pool *out) {
  const double m = (double)imputations;
  *out = (dwols_pool){.imputations = imputations, .count = count};
  for (int64_t k = 0; k < imputations; k++) {
    for (int i = 0; i < count; i++) {
      out->psi[i] += psi[k * count + i] / m;
    }
    for (int i = 0; i < count * count; i++) {
      out->within[i] += within[k * count * count + i] / m;
    }
  }
  for (int64_t k = 0; k < imputations && imputations > 1; k++) {
    const double *x = psi + k * count;
    for (int i = 0; i < count; i++) {
      for (int j = 0; j < count; j++) {
        out->between[i * count + j] += (x[i] - out->psi[i]) * (x[j] - out->psi[j]) / (m - 1.0);
      }
    }
  }
  for (int i = 0; i < count * count; i++) {
    out->total[i] = out->within[i] + (1.0 + 1.0 / m) * out->between[i];
  }
}


static double form(const double *matrix, int count, const double *h, int first, int size) {
  double sum = 0.0;
  for (int i = 0; i < size; i++) {
    for (int j = 0; j < size; j++) {
      sum += h[i] * matrix[(first + i) * count + first + j] * h[j];
    }
  }
  return sum;
}


static double tail(double x, double df) {
  return isfinite(df) ? rgm_t_test(x, df) : erfc(x * sqrt(0.5));
}


double dwols_quantile(double level, double df) {
  // where the two-sided p-value is 1 - level, by bisection
  double low = 0.0, high = 1.0;
  while (tail(high, df) > 1.0 - level && high < 1e9) {
    high *= 2.0;
  }
  for (int i = 0; i < 200 && high - low > 1e-16 * high; i++) {
    const double middle = 0.5 * (low + high);
    if (tail(middle, df) > 1.0 - level) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return 0.5 * (low + high);
}


dwols_form dwols_pool_form(const dwols_pool *pool, const double *h, int first, int count, double n,
                           int interval, double level) {
  dwols_form f = {0};
  const double m = (double)pool->imputations,
               total = form(pool->total, pool->count, h, first, count);
  for (int i = 0; i < count; i++) {
    f.value += h[i] * pool->psi[first + i];
  }
  f.se = sqrt(total);
  f.lambda = (1.0 + 1.0 / m) * form(pool->between, pool->count, h, first, count) / total;
  f.lambda = total > 0 ? f.lambda : 0.0;

  // of few imputations, and of the complete data
  const double old = m > 1 && f.lambda > 0 ? (m - 1.0) / (f.lambda * f.lambda) : INFINITY;
  const double seen = isfinite(n) ? (n + 1.0) / (n + 3.0) * n * (1.0 - f.lambda) : INFINITY;
  f.df = isfinite(old) && isfinite(seen) ? old * seen / (old + seen) : fmin(old, seen);
  f.half = dwols_quantile(level, interval == INTERVAL_T ? f.df : INFINITY) * f.se;
  return f;
}
