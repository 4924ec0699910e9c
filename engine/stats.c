// SPDX-License-Identifier: Apache-2.0
// Summaries of samples and Student's t: quantiles of type 7 (Hyndman & Fan 1996), the regularised
// incomplete beta function by Lentz's continued fraction (Abramowitz & Stegun 26.5.8).

#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>


static int ascending(const void *a_, const void *b_) {
  const double a = *(const double *)a_, b = *(const double *)b_;
  if (isnan(a) || isnan(b)) {
    return isnan(a) - isnan(b);
  }
  return (a > b) - (a < b);
}


double rgm_quantile_sorted(const double *x, int64_t n, double q) {
  RGM_ASSERT(n > 0);
  const double position = q * (double)(n - 1);
  const int64_t below = (int64_t)position;
  if (below + 1 >= n) {
    return x[n - 1];
  }
  return x[below] + (position - (double)below) * (x[below + 1] - x[below]);
}


rgm_summary rgm_summarise(double *x, int64_t n) {
  RGM_ASSERT(n > 0);
  rgm_summary s = {0};
  qsort(x, (size_t)n, sizeof *x, ascending);
  for (int64_t i = 0; i < n; i++) {
    s.mean += x[i] / (double)n;
  }
  double squares = 0.0;
  for (int64_t i = 0; i < n; i++) {
    squares += (x[i] - s.mean) * (x[i] - s.mean);
  }
  s.sd = n > 1 ? sqrt(squares / (double)(n - 1)) : NAN;
  s.min = x[0];
  s.max = x[n - 1];
  s.median = rgm_quantile_sorted(x, n, 0.5);
  s.q25 = rgm_quantile_sorted(x, n, 0.25);
  s.q75 = rgm_quantile_sorted(x, n, 0.75);
  s.p95 = rgm_quantile_sorted(x, n, 0.95);
  return s;
}


// Hoare's selection
double rgm_order_statistic(double *x, int64_t n, int64_t k) {
  int64_t low = 0, high = n - 1;
  while (low < high) {
    const double pivot = x[low + (high - low) / 2];
    int64_t i = low, j = high;
    while (i <= j) {
      while (x[i] < pivot) {
        i++;
      }
      while (pivot < x[j]) {
        j--;
      }
      if (i <= j) {
        const double swap = x[i];
        x[i++] = x[j];
        x[j--] = swap;
      }
    }
    if (k <= j) {
      high = j;
    } else if (k >= i) {
      low = i;
    } else {
      break;
    }
  }
  return x[k];
}


double rgm_median(double *x, int64_t n) {
  const double upper = rgm_order_statistic(x, n, n / 2);
  if (n % 2 == 1) {
    return upper;
  }
  // the other middle value is the largest of the lower half
  double lower = x[0];
  for (int64_t i = 1; i < n / 2; i++) {
    lower = x[i] > lower ? x[i] : lower;
  }
  return 0.5 * (lower + upper);
}


static double incomplete_beta(double a, double b, double x) {
  if (x <= 0.0 || x >= 1.0) {
    return x <= 0.0 ? 0.0 : 1.0;
  }
  if (x > (a + 1.0) / (a + b + 2.0)) {
    return 1.0 - incomplete_beta(b, a, 1.0 - x);
  }
  const double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a;
  double c = 1.0, d = 1.0 / (1.0 - (a + b) * x / (a + 1.0)), fraction = d;
  for (int m = 1; m < 500; m++) {
    const double even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
    d = 1.0 / (1.0 + even * d);
    c = 1.0 + even / c;
    fraction *= c * d;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
    d = 1.0 / (1.0 + odd * d);
    c = 1.0 + odd / c;
    const double change = c * d;
    fraction *= change;
    if (fabs(change - 1.0) < 1e-15) {
      break;
    }
  }
  return front * fraction;
}


double rgm_t_test(double t, double df) {
  return isfinite(t) ? incomplete_beta(0.5 * df, 0.5, df / (df + t * t)) : isnan(t) ? NAN : 0.0;
}
