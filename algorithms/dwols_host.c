// SPDX-License-Identifier: Apache-2.0
// A stage fitted to the sample itself: weighted least squares or G-estimation (Robins 2004),
// sandwich standard errors as DTRreg has them, and the diagnostics of propensity, balance and
// residuals.

#include "algorithms/dwols.h"
#include "kernels/scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const dwols_diag_names[DIAG_COUNT] = {
    "n",
    "treated",
    "deviance",
    "sum_weights",
    "max_weight",
    "ess_treated",
    "ess_untreated",
    "e_min",
    "e_max",
    "e_within_5_95",
    "smd_before",
    "smd_after",
    "residual_sd",
    "r2",
    "blip_positive",
    "blip_near_zero",
    "mean_pseudo_outcome",
};


// ---- linear algebra ----------------------------------------------------------------------------

bool dwols_solve(double *a, double *b, int n, int *column) {
  for (int k = 0; k < n; k++) {
    int best = k;
    for (int i = k + 1; i < n; i++) {
      best = fabs(a[i * n + k]) > fabs(a[best * n + k]) ? i : best;
    }
    if (!(fabs(a[best * n + k]) > 1e-13)) {
      *column = k;
      return false;
    }
    for (int j = 0; j < n && best != k; j++) {
      const double t = a[k * n + j];
      a[k * n + j] = a[best * n + j];
      a[best * n + j] = t;
    }
    const double t = b[k];
    b[k] = b[best];
    b[best] = t;
    for (int i = k + 1; i < n; i++) {
      const double factor = a[i * n + k] / a[k * n + k];
      for (int j = k; j < n; j++) {
        a[i * n + j] -= factor * a[k * n + j];
      }
      b[i] -= factor * b[k];
    }
  }
  for (int k = n - 1; k >= 0; k--) {
    for (int j = k + 1; j < n; j++) {
      b[k] -= a[k * n + j] * b[j];
    }
    b[k] /= a[k * n + k];
  }
  return true;
}


int dwols_dependent(const double *z, int64_t n, int q) {
  double gram[RGM_FORMULA_COLUMNS][RGM_FORMULA_COLUMNS] = {{0}};
  for (int64_t i = 0; i < n; i++) {
    for (int a = 0; a < q; a++) {
      for (int b = 0; b <= a; b++) {
        gram[a][b] += z[i * q + a] * z[i * q + b];
      }
    }
  }
  for (int j = 0; j < q; j++) {
    const double size = gram[j][j];
    for (int k = 0; k < j; k++) {
      gram[j][j] -= gram[j][k] * gram[j][k];
    }
    if (!(gram[j][j] > 1e-12 * size)) {
      return j;
    }
    gram[j][j] = sqrt(gram[j][j]);
    for (int i = j + 1; i < q; i++) {
      for (int k = 0; k < j; k++) {
        gram[i][j] -= gram[i][k] * gram[j][k];
      }
      gram[i][j] /= gram[j][j];
    }
  }
  return -1;
}


// ---- weights -----------------------------------------------------------------------------------

// propensities (n) at beta
static void propensities(const dwols_stage *s, const double *beta, double *e) {
  for (int64_t i = 0; i < s->n; i++) {
    double eta = 0.0;
    for (int j = 0; j < s->p; j++) {
      eta += s->x[i * s->p + j] * beta[j];
    }
    e[i] = rgm_sigmoid64(eta);
  }
}


static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


void dwols_weights(const dwols_stage *s, int weight, const double *beta, double *w, double *cap) {
  propensities(s, beta, w);
  *cap = INFINITY;
  for (int64_t i = 0; i < s->n; i++) {
    const double e = w[i], a = s->label[i];
    switch (weight) {
    case WEIGHT_OVERLAP:
      w[i] = fabs(a - e);
      break;
    case WEIGHT_IPW:
    case WEIGHT_CAPPED:
      w[i] = a != 0 ? 1.0 / e : 1.0 / (1.0 - e);
      break;
    default:
      w[i] = 1.0;
    }
  }
  if (weight == WEIGHT_CAPPED) {
    // the 99th percentile, as DTRreg cuts them
    double *sorted = malloc((size_t)s->n * sizeof *sorted);
    if (sorted != NULL) {
      memcpy(sorted, w, (size_t)s->n * sizeof *sorted);
      qsort(sorted, (size_t)s->n, sizeof *sorted, by_value);
      *cap = rgm_quantile_sorted(sorted, s->n, 0.99);
      free(sorted);
    }
    for (int64_t i = 0; i < s->n; i++) {
      w[i] = fmin(w[i], *cap);
    }
  }
  for (int64_t i = 0; i < s->n && s->given != NULL; i++) {
    w[i] *= s->given[i];
  }
}


// ---- fits --------------------------------------------------------------------------------------

// instrument j of row i: the column itself, or for G-estimation (a - e) h on the blip's columns
static double instrument(const dwols_stage *s, const double *e, int64_t i, int j) {
  return e != NULL && j >= s->f ? (s->label[i] - e[i]) * s->blips[i * s->h + j - s->f]
                                : s->z[i * s->q + j];
}


// sum w v z' of all rows with their instruments v: (q, q); and sum w v y: (q)
static void normal_equations(const dwols_stage *s, const double *w, const double *count,
                             const double *e, const double *y, double *matrix, double *right) {
  const int q = s->q;
  memset(matrix, 0, (size_t)(q * q) * sizeof *matrix);
  memset(right, 0, (size_t)q * sizeof *right);
  for (int64_t i = 0; i < s->n; i++) {
    const double c = (w != NULL ? w[i] : 1.0) * (count != NULL ? count[i] : 1.0);
    for (int j = 0; j < q && c != 0.0; j++) {
      const double v = c * instrument(s, e, i, j);
      for (int k = 0; k < q; k++) {
        matrix[j * q + k] += v * s->z[i * q + k];
      }
      right[j] += v * y[s->rows[i]];
    }
  }
}


bool dwols_gest(const dwols_stage *s, const double *y, const double *e, const double *count,
                double *coef) {
  double matrix[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS];
  int column;
  normal_equations(s, NULL, count, e, y, matrix, coef);
  return dwols_solve(matrix, coef, s->q, &column);
}


// Variance of the influence of a row on each coefficient, over n: cov(D^-1 U) / n, on raw columns.
// Destroys nothing; inverse (q, q) is that of sum w v z'.
static void sandwich_errors(const dwols_stage *s, const double *inverse, const double *w,
                            const double *e, const double *y, const double *coef, double *out) {
  const int q = s->q, all = s->p + q;
  double sum[RGM_FORMULA_COLUMNS * 2] = {0}, square[RGM_FORMULA_COLUMNS * 2] = {0};
  const double zero[RGM_FORMULA_COLUMNS] = {0}, n = (double)s->n;
  for (int64_t i = 0; i < s->n; i++) {
    double u[RGM_FORMULA_COLUMNS], influence[RGM_FORMULA_COLUMNS] = {0};
    double raw[RGM_FORMULA_COLUMNS * 2], residual = y[s->rows[i]];
    for (int j = 0; j < q; j++) {
      residual -= s->z[i * q + j] * coef[j];
    }
    for (int j = 0; j < q; j++) {
      u[j] = (w != NULL ? w[i] : 1.0) * residual * instrument(s, e, i, j);
    }
    for (int j = 0; j < q; j++) {
      for (int k = 0; k < q; k++) {
        influence[j] += n * inverse[j * q + k] * u[k];
      }
    }
    dwols_raw(s, zero, influence, raw);
    for (int j = s->p; j < all; j++) {
      sum[j - s->p] += raw[j];
      square[j - s->p] += raw[j] * raw[j];
    }
  }
  for (int j = 0; j < q; j++) {
    out[j] = sqrt((square[j] - sum[j] * sum[j] / n) / (n - 1.0) / n);
  }
}


static void invert(const double *matrix, int n, double *inverse) {
  for (int j = 0; j < n; j++) {
    double copy[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS], unit[RGM_FORMULA_COLUMNS] = {0};
    int column;
    memcpy(copy, matrix, (size_t)(n * n) * sizeof *copy);
    unit[j] = 1.0;
    (void)dwols_solve(copy, unit, n, &column);
    for (int i = 0; i < n; i++) {
      inverse[i * n + j] = unit[i];
    }
  }
}


// ---- diagnostics -------------------------------------------------------------------------------

// the largest standardised mean difference of a design's columns between the arms, weighted
static double imbalance(const dwols_stage *s, const double *x, int columns, int stride,
                        const double *w) {
  double most = 0.0;
  for (int j = 1; j < columns; j++) {
    double weight[2] = {0}, mean[2] = {0}, raw[2] = {0}, square[2] = {0}, count[2] = {0};
    for (int64_t i = 0; i < s->n; i++) {
      const int a = s->label[i] != 0;
      const double value = x[i * stride + j], v = w != NULL ? w[i] : 1.0;
      weight[a] += v;
      mean[a] += v * value;
      count[a] += 1.0;
      raw[a] += value;
      square[a] += value * value;
    }
    // by the standard deviation before weighting, as usual (Austin 2011)
    double variance = 0.0;
    for (int a = 0; a < 2; a++) {
      variance += 0.5 * (square[a] / count[a] - raw[a] / count[a] * raw[a] / count[a]);
    }
    most = fmax(most, fabs(mean[1] / weight[1] - mean[0] / weight[0]) / sqrt(variance));
  }
  return most;
}


static void diagnose(const dwols_stage *s, const double *beta, const double *y, const double *w,
                     const double *e, const double *coef, double *d) {
  double sum[2] = {0}, square[2] = {0}, mean = 0.0, total = 0.0, left = 0.0, weights = 0.0;
  d[DIAG_N] = (double)s->n;
  d[DIAG_E_MIN] = INFINITY;
  for (int64_t i = 0; i < s->n; i++) {
    const int a = s->label[i] != 0;
    double eta = 0.0;
    for (int j = 0; j < s->p; j++) {
      eta += s->x[i * s->p + j] * beta[j];
    }
    d[DIAG_TREATED] += a;
    d[DIAG_DEVIANCE] += 2.0 * rgm_log1p64(rgm_exp64(a ? -eta : eta));
    d[DIAG_WEIGHT_SUM] += w[i];
    d[DIAG_WEIGHT_MAX] = fmax(d[DIAG_WEIGHT_MAX], w[i]);
    d[DIAG_E_MIN] = fmin(d[DIAG_E_MIN], e[i]);
    d[DIAG_E_MAX] = fmax(d[DIAG_E_MAX], e[i]);
    d[DIAG_E_OVERLAP] += (e[i] >= 0.05 && e[i] <= 0.95) / (double)s->n;
    sum[a] += w[i];
    square[a] += w[i] * w[i];
    mean += w[i] * y[s->rows[i]];
    weights += w[i];
  }
  mean /= weights;
  d[DIAG_ESS_UNTREATED] = sum[0] * sum[0] / square[0];
  d[DIAG_ESS_TREATED] = sum[1] * sum[1] / square[1];
  d[DIAG_SMD_BEFORE] =
      fmax(imbalance(s, s->x, s->p, s->p, NULL), imbalance(s, s->z, s->f, s->q, NULL));
  d[DIAG_SMD_AFTER] = fmax(imbalance(s, s->x, s->p, s->p, w), imbalance(s, s->z, s->f, s->q, w));
  for (int64_t i = 0; i < s->n; i++) {
    double fit = 0.0, blip = 0.0;
    for (int j = 0; j < s->q; j++) {
      fit += s->z[i * s->q + j] * coef[j];
    }
    for (int j = 0; j < s->h; j++) {
      blip += s->blips[i * s->h + j] * coef[s->f + j];
    }
    const double r = y[s->rows[i]] - fit, t = y[s->rows[i]] - mean;
    left += w[i] * r * r;
    total += w[i] * t * t;
    d[DIAG_BLIP_POSITIVE] += (blip > 0) / (double)s->n;
  }
  d[DIAG_RESIDUAL_SD] = sqrt(left / weights);
  d[DIAG_R2] = 1.0 - left / total;
}


rgm_status dwols_fit_stage(const dwols_model *m, int stage, int method, int weight,
                           const double *beta, const double *y, double *coef, double *sandwich,
                           double *diag) {
  const dwols_stage *s = &m->stage[stage];
  double matrix[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS], cap;
  double copy[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS];
  double *w = malloc(2 * (size_t)s->n * sizeof *w), *e = w != NULL ? w + s->n : NULL;
  if (w == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the weights of stage %d", stage + 1);
  }
  dwols_weights(s, method == METHOD_DWOLS ? weight : WEIGHT_NONE, beta, w, &cap);
  propensities(s, beta, e);
  const double *instruments = method == METHOD_GEST ? e : NULL;
  normal_equations(s, w, NULL, instruments, y, matrix, coef);
  memcpy(copy, matrix, sizeof copy);
  int column = 0;
  const bool solved = dwols_solve(copy, coef, s->q, &column);
  if (solved && sandwich != NULL) {
    double inverse[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS];
    invert(matrix, s->q, inverse);
    sandwich_errors(s, inverse, w, instruments, y, coef, sandwich);
  }
  if (solved && diag != NULL) {
    memset(diag, 0, DIAG_COUNT * sizeof *diag);
    diagnose(s, beta, y, w, e, coef, diag);
  }
  free(w);
  return solved ? RGM_OK
                : rgm_fail(RGM_ENUMERIC, "%s: stage %d: the equations are singular at %s", m->path,
                           stage + 1,
                           column < s->f ? s->free.name[column] : s->blip.name[column - s->f]);
}
