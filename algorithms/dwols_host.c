// SPDX-License-Identifier: Apache-2.0
// A stage fitted to the sample itself: weighted least squares or G-estimation (Robins 2004),
// sandwich standard errors as DTRreg has them, and the diagnostics of propensity, balance and
// residuals.

#include "algorithms/dwols.h"
#include "algorithms/wide.h"
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


RGM_WIDE(rgm_add_products,
         (double *gram, const double *const *x, const double *w, int count, int width,
          int64_t stride),
         (gram, x, w, count, width, stride))

void dwols_gram_begin(dwols_gram *g, int width) {
  memset(g, 0, sizeof *g);
  g->width = width;
}


void dwols_gram_end(dwols_gram *g) {
  const double *const x[] = {g->x[0], g->x[1], g->x[2], g->x[3]};
  rgm_add_products(g->sum[0], x, g->w, g->held, g->width, DWOLS_GRAM);
  g->held = 0;
}


double *dwols_gram_row(dwols_gram *g, double w) {
  if (g->held == RGM_WIDE_ROWS) {
    dwols_gram_end(g);
  }
  g->w[g->held] = w;
  return g->x[g->held++];
}


int dwols_dependent(const double *z, int64_t n, int q) {
  dwols_gram g;
  dwols_gram_begin(&g, q);
  for (int64_t i = 0; i < n; i++) {
    memcpy(dwols_gram_row(&g, 1.0), z + i * q, (size_t)q * sizeof *z);
  }
  dwols_gram_end(&g);
  double(*gram)[DWOLS_GRAM] = g.sum;
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

void dwols_expected(const dwols_stage *s, const double *beta, double *expected) {
  if (s->arms.kind == TREAT_BINARY) {
    dwols_propensities(s, beta, expected);
  } else {
    dwols_treat_expected(s, beta, expected);
  }
}


// of two levels as the kernels have them
static void binary_weights(const dwols_stage *s, int weight, const double *beta, double *w) {
  dwols_propensities(s, beta, w);
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
}


bool dwols_weights(const dwols_stage *s, int weight, const double *beta, const double *count,
                   double *w, double *cap) {
  *cap = INFINITY;
  if (s->arms.kind != TREAT_BINARY || weight == WEIGHT_STABILISED) {
    if (!dwols_treat_weights(s, weight, beta, count, w)) {
      return false;
    }
  } else {
    binary_weights(s, weight, beta, w);
  }
  if (weight == WEIGHT_CAPPED && !dwols_cap(s->n, count, w, cap)) {
    return false;
  }
  for (int64_t i = 0; i < s->n && s->given != NULL; i++) {
    w[i] *= s->given[i];
  }
  return true;
}


// ---- fits --------------------------------------------------------------------------------------

// instrument j of row i for G-estimation: the column itself, (b_t - E[b_t]) h on the blip's
static double instrument(const dwols_stage *s, const double *expected, int64_t i, int j) {
  if (j < s->f) {
    return s->z[i * s->q + j];
  }
  const int t = s->arms.of[j - s->f], columns = s->arms.blip + s->arms.square;
  const double b = dwols_function(&s->arms, t, s->label[i] / s->dose);
  return (b - expected[i * s->arms.functions + t]) *
         s->blips[i * columns + s->arms.column[j - s->f]];
}


// sum w v z' of all rows with their instruments v: (q, q); and sum w v y: (q)
static void normal_equations(const dwols_stage *s, const double *w, const double *count,
                             const double *expected, const double *y, double *matrix,
                             double *right) {
  const int q = s->q;
  memset(matrix, 0, (size_t)(q * q) * sizeof *matrix);
  memset(right, 0, (size_t)q * sizeof *right);
  for (int64_t i = 0; i < s->n; i++) {
    const double c = w[i] * (count != NULL ? count[i] : 1.0);
    for (int j = 0; j < q && c != 0.0; j++) {
      const double v = c * instrument(s, expected, i, j);
      for (int k = 0; k < q; k++) {
        matrix[j * q + k] += v * s->z[i * q + k];
      }
      right[j] += v * y[s->rows[i]];
    }
  }
}


// the same of least squares, whose matrix is symmetric; the outcome is one more column
static void least_squares(const dwols_stage *s, const double *w, const double *count,
                          const double *y, double *matrix, double *right) {
  const int q = s->q;
  dwols_gram g;
  dwols_gram_begin(&g, q + 1);
  for (int64_t i = 0; i < s->n; i++) {
    const double c = w[i] * (count != NULL ? count[i] : 1.0);
    if (c != 0.0) {
      double *row = dwols_gram_row(&g, c);
      memcpy(row, s->z + i * q, (size_t)q * sizeof *row);
      row[q] = y[s->rows[i]];
    }
  }
  dwols_gram_end(&g);
  for (int j = 0; j < q; j++) {
    for (int k = 0; k < q; k++) {
      matrix[j * q + k] = k <= j ? g.sum[j][k] : g.sum[k][j];
    }
    right[j] = g.sum[q][j];
  }
}


bool dwols_equations(const dwols_stage *s, const double *w, const double *count,
                     const double *expected, const double *y, double *coef) {
  double matrix[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS];
  int column;
  if (expected == NULL) {
    least_squares(s, w, count, y, matrix, coef);
  } else {
    normal_equations(s, w, count, expected, y, matrix, coef);
  }
  return dwols_solve(matrix, coef, s->q, &column);
}


// Variance of the influence of a row on each coefficient, over n: cov(D^-1 U) / n, on raw columns,
// U = w v times the residual. inverse (q, q) is that of sum w v z'. The influences are a linear
// form of U, so that their squares are summed by sum U U'.
static void sandwich_errors(const dwols_stage *s, const double *inverse, const double *w,
                            const double *expected, const double *y, const double *coef,
                            double *out) {
  const int q = s->q;
  const double zero[DWOLS_TREAT] = {0}, n = (double)s->n;
  double sum[RGM_FORMULA_COLUMNS] = {0};
  double form[RGM_FORMULA_COLUMNS][RGM_FORMULA_COLUMNS]; // of a coefficient: its factors of U
  dwols_gram g;
  dwols_gram_begin(&g, q);
  for (int64_t i = 0; i < s->n; i++) {
    const double *z = s->z + i * q;
    double residual = y[s->rows[i]];
    for (int j = 0; j < q; j++) {
      residual -= z[j] * coef[j];
    }
    double *u = dwols_gram_row(&g, 1.0);
    for (int j = 0; j < q; j++) {
      u[j] = w[i] * residual * (expected == NULL ? z[j] : instrument(s, expected, i, j));
      sum[j] += u[j];
    }
  }
  dwols_gram_end(&g);
  for (int k = 0; k < q; k++) {
    double influence[RGM_FORMULA_COLUMNS], raw[DWOLS_ALL];
    for (int j = 0; j < q; j++) {
      influence[j] = n * inverse[j * q + k];
    }
    dwols_raw(s, zero, influence, raw);
    for (int j = 0; j < q; j++) {
      form[j][k] = raw[s->e + j];
    }
  }
  for (int c = 0; c < q; c++) {
    double mean = 0.0, square = 0.0;
    for (int j = 0; j < q; j++) {
      mean += form[c][j] * sum[j];
      for (int k = 0; k < q; k++) {
        square += form[c][j] * form[c][k] * (k <= j ? g.sum[j][k] : g.sum[k][j]);
      }
    }
    out[c] = sqrt((square - mean * mean / n) / (n - 1.0) / n);
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

// Of a design's columns the largest standardised mean difference, weighted, between those treated
// and not; of several levels between each and the reference.
static double imbalance(const dwols_stage *s, const double *x, int columns, int stride,
                        const double *w) {
  const int levels = s->arms.kind == TREAT_CONTINUOUS ? 2 : s->arms.levels;
  double most = 0.0;
  for (int j = 1; j < columns; j++) {
    double weight[DWOLS_LEVELS] = {0}, mean[DWOLS_LEVELS] = {0}, raw[DWOLS_LEVELS] = {0};
    double square[DWOLS_LEVELS] = {0}, count[DWOLS_LEVELS] = {0};
    for (int64_t i = 0; i < s->n; i++) {
      const int a = s->arms.kind == TREAT_CONTINUOUS ? s->label[i] > s->split : (int)s->label[i];
      const double value = x[i * stride + j], v = w != NULL ? w[i] : 1.0;
      weight[a] += v;
      mean[a] += v * value;
      count[a] += 1.0;
      raw[a] += value;
      square[a] += value * value;
    }
    // by the standard deviation before weighting, as usual (Austin 2011)
    for (int l = 1; l < levels; l++) {
      double variance = 0.0;
      for (int a = 0; a <= l; a += l) {
        variance += 0.5 * (square[a] / count[a] - raw[a] / count[a] * raw[a] / count[a]);
      }
      most = fmax(most, fabs(mean[l] / weight[l] - mean[0] / weight[0]) / sqrt(variance));
    }
  }
  return most;
}


// deviance and propensities: of two levels e itself, of more the least and the largest of all, of a
// dose those of its bins
static void diagnose_treatment(const dwols_stage *s, const double *beta, double *d) {
  if (s->arms.kind != TREAT_BINARY) {
    d[DIAG_DEVIANCE] = dwols_treat_deviance(s, beta);
  }
  d[DIAG_E_MIN] = INFINITY;
  for (int64_t i = 0; i < s->n; i++) {
    double shares[DWOLS_LEVELS], least = 1.0, most = 0.0;
    if (s->arms.kind == TREAT_BINARY) {
      double eta = 0.0;
      for (int j = 0; j < s->p; j++) {
        eta += s->x[i * s->p + j] * beta[j];
      }
      d[DIAG_DEVIANCE] += 2.0 * rgm_log1p64(rgm_exp64(s->label[i] != 0 ? -eta : eta));
      least = most = rgm_sigmoid64(eta);
    }
    const int levels = s->arms.kind == TREAT_BINARY ? 0 : dwols_treat_shares(s, beta, i, shares);
    for (int l = 0; l < levels; l++) {
      least = fmin(least, shares[l]);
      most = fmax(most, shares[l]);
    }
    d[DIAG_E_MIN] = fmin(d[DIAG_E_MIN], least);
    d[DIAG_E_MAX] = fmax(d[DIAG_E_MAX], most);
    d[DIAG_E_OVERLAP] += (least >= 0.05 && most <= 0.95) / (double)s->n;
  }
  if (s->arms.kind == TREAT_CONTINUOUS && s->bins == 0) {
    d[DIAG_E_MIN] = d[DIAG_E_MAX] = d[DIAG_E_OVERLAP] = NAN;
  }
}


static void diagnose(const dwols_stage *s, const double *beta, const double *y, const double *w,
                     const double *coef, double *d) {
  double sum[2] = {0}, square[2] = {0}, mean = 0.0, total = 0.0, left = 0.0, weights = 0.0;
  d[DIAG_N] = (double)s->n;
  diagnose_treatment(s, beta, d);
  for (int64_t i = 0; i < s->n; i++) {
    const int a = s->label[i] > s->split;
    d[DIAG_TREATED] += a;
    d[DIAG_WEIGHT_SUM] += w[i];
    d[DIAG_WEIGHT_MAX] = fmax(d[DIAG_WEIGHT_MAX], w[i]);
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
    double fit = 0.0, sums[DWOLS_LEVELS];
    for (int j = 0; j < s->q; j++) {
      fit += s->z[i * s->q + j] * coef[j];
    }
    dwols_stage_sums(s, i, coef + s->f, sums);
    const double r = y[s->rows[i]] - fit, t = y[s->rows[i]] - mean;
    left += w[i] * r * r;
    total += w[i] * t * t;
    const double best = dwols_best(&s->arms, sums, false);
    d[DIAG_BLIP_POSITIVE] += (best != dwols_reference(&s->arms)) / (double)s->n;
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
  const size_t wide = (size_t)(1 + s->arms.functions);
  double *w = malloc(wide * (size_t)s->n * sizeof *w), *expected = w != NULL ? w + s->n : NULL;
  const int weighting = method == METHOD_DWOLS ? weight : WEIGHT_NONE;
  if (w == NULL || !dwols_weights(s, weighting, beta, NULL, w, &cap)) {
    free(w);
    return rgm_fail(RGM_EMEMORY, "no memory for the weights of stage %d", stage + 1);
  }
  expected = method == METHOD_GEST ? expected : NULL;
  if (expected != NULL) {
    dwols_expected(s, beta, expected);
  }
  if (expected == NULL) {
    least_squares(s, w, NULL, y, matrix, coef);
  } else {
    normal_equations(s, w, NULL, expected, y, matrix, coef);
  }
  memcpy(copy, matrix, sizeof copy);
  int column = 0;
  const bool solved = dwols_solve(copy, coef, s->q, &column);
  if (solved && sandwich != NULL) {
    double inverse[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS];
    invert(matrix, s->q, inverse);
    sandwich_errors(s, inverse, w, expected, y, coef, sandwich);
  }
  if (solved && diag != NULL) {
    memset(diag, 0, DIAG_COUNT * sizeof *diag);
    diagnose(s, beta, y, w, coef, diag);
  }
  free(w);
  char name[RGM_FORMULA_NAME + 40] = "";
  if (!solved && column >= s->f) {
    dwols_psi_name(s, column - s->f, name);
  }
  return solved ? RGM_OK
                : rgm_fail(RGM_ENUMERIC, "%s: stage %d: the equations are singular at %s", m->path,
                           stage + 1, column < s->f ? s->free.name[column] : name);
}
