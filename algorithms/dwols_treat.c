// SPDX-License-Identifier: Apache-2.0
// Treatments of a stage: two levels, several, or a dose. What a blip says of them, which is best,
// and the weights of dWOLS. A weight w(a, x) makes dWOLS doubly robust where w times the
// probability or density of a is a function of x times one of a (Wallace & Moodie 2015; Schulz &
// Moodie 2021): then treatment and x are independent in the weighted sample.
//
//   overlap      1 / pi_a / sum_l 1 / pi_l; of two levels |a - e|; of a dose by its quantile bins
//   ipw          1 / pi_a, or 1 / f(a | x) of a dose
//   capped       the same, at most its 99th percentile
//   stabilised   P(a) / pi_a, f(a) / f(a | x)
//   bins         1 / pi_bin of a dose (DTRreg: qpom)

#include "algorithms/dwols.h"
#include "kernels/scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


// ---- treatments and blips ----------------------------------------------------------------------

bool dwols_arms_make(dwols_arms *arms, int blip, int square) {
  arms->blip = blip;
  arms->square = square;
  arms->functions = arms->kind == TREAT_CONTINUOUS ? 1 + (square > 0) : arms->levels - 1;
  arms->terms = 0;
  for (int t = 0; t < arms->functions; t++) {
    const bool squared = arms->kind == TREAT_CONTINUOUS && t == 1;
    for (int c = 0; c < (squared ? square : blip); c++) {
      if (arms->terms == RGM_FORMULA_COLUMNS) {
        return false;
      }
      arms->of[arms->terms] = (uint8_t)t;
      arms->column[arms->terms++] = (uint8_t)(squared ? blip + c : c);
    }
  }
  return true;
}


double dwols_function(const dwols_arms *arms, int t, double a) {
  if (arms->kind == TREAT_CONTINUOUS) {
    return t == 0 ? a : a * a;
  }
  return a == (double)(t + 1);
}


double dwols_reference(const dwols_arms *arms) {
  return arms->kind == TREAT_CONTINUOUS ? fmin(fmax(0.0, arms->least), arms->most) : 0.0;
}


void dwols_contrast(const dwols_arms *arms, const double *row, double a, double b, double *h) {
  for (int j = 0; j < arms->terms; j++) {
    const int t = arms->of[j];
    h[j] = (dwols_function(arms, t, a) - dwols_function(arms, t, b)) * row[arms->column[j]];
  }
}


void dwols_sums(const dwols_arms *arms, const double *row, const double *psi, double *sums) {
  for (int t = 0; t < arms->functions; t++) {
    sums[t] = 0.0;
  }
  for (int j = 0; j < arms->terms; j++) {
    sums[arms->of[j]] += row[arms->column[j]] * psi[j];
  }
}


double dwols_gamma(const dwols_arms *arms, const double *sums, double a) {
  double gamma = 0.0;
  for (int t = 0; t < arms->functions; t++) {
    gamma += dwols_function(arms, t, a) * sums[t];
  }
  return gamma;
}


double dwols_best(const dwols_arms *arms, const double *sums, bool other) {
  if (arms->kind != TREAT_CONTINUOUS) {
    int best = other ? 1 : 0;
    for (int a = 1; a < arms->levels; a++) {
      best = sums[a - 1] > (best > 0 ? sums[best - 1] : 0.0) ? a : best;
    }
    return best;
  }
  // the vertex of a parabola that opens downwards, else an end
  const double square = arms->functions > 1 ? sums[1] : 0.0;
  if (square < 0.0) {
    return fmin(fmax(-0.5 * sums[0] / square, arms->least), arms->most);
  }
  const double low = dwols_gamma(arms, sums, arms->least);
  return dwols_gamma(arms, sums, arms->most) > low ? arms->most : arms->least;
}


void dwols_stage_sums(const dwols_stage *s, int64_t i, const double *psi, double *sums) {
  const int columns = s->arms.blip + s->arms.square;
  dwols_sums(&s->arms, s->blips + i * columns, psi, sums);
  for (int t = 0; t < s->arms.functions && s->arms.kind == TREAT_CONTINUOUS; t++) {
    sums[t] /= t == 0 ? s->dose : s->dose * s->dose;
  }
}


void dwols_add_regret(const dwols_stage *s, const double *psi, double *y) {
  for (int64_t i = 0; i < s->n; i++) {
    double sums[DWOLS_LEVELS];
    dwols_stage_sums(s, i, psi, sums);
    if (s->arms.kind == TREAT_BINARY) {
      y[s->rows[i]] += fmax(sums[0], 0.0) - s->label[i] * sums[0];
      continue;
    }
    const double best = dwols_gamma(&s->arms, sums, dwols_best(&s->arms, sums, false));
    y[s->rows[i]] += best - dwols_gamma(&s->arms, sums, s->label[i]);
  }
}


void dwols_psi_name(const dwols_stage *s, int j, char out[RGM_FORMULA_NAME + 40]) {
  const int t = s->arms.of[j], c = s->arms.column[j];
  const char *name = c < s->arms.blip ? s->blip.name[c] : s->square.name[c - s->arms.blip];
  snprintf(out, RGM_FORMULA_NAME + 40, "%s%s%s",
           s->arms.kind == TREAT_BINARY       ? ""
           : s->arms.kind != TREAT_CONTINUOUS ? s->arms.name[t + 1]
           : t == 0                           ? "a"
                                              : "a^2",
           s->arms.kind == TREAT_BINARY ? "" : ": ", name);
}


void dwols_treat_name(const dwols_stage *s, int j, char out[RGM_FORMULA_NAME + 40]) {
  const size_t size = RGM_FORMULA_NAME + 40;
  const int kind = s->arms.kind, cuts = (kind == TREAT_ORDINAL ? s->arms.levels : s->bins) - 1;
  const int at = kind == TREAT_CONTINUOUS ? j - s->p - 1 : j;
  if (kind == TREAT_MULTINOMIAL) {
    snprintf(out, size, "%s: %s", s->arms.name[j / s->p + 1], s->propensity.name[j % s->p]);
  } else if (kind == TREAT_BINARY || (kind == TREAT_CONTINUOUS && j < s->p)) {
    snprintf(out, size, "%s", s->propensity.name[j]);
  } else if (at < 0) {
    snprintf(out, size, "dispersion");
  } else if (at < cuts) {
    snprintf(out, size, "cut %d", at + 1);
  } else {
    snprintf(out, size, "%s%s", kind == TREAT_CONTINUOUS ? "odds: " : "",
             s->propensity.name[at - cuts + 1]);
  }
}


// ---- models of treatment -----------------------------------------------------------------------

int dwols_treat_size(const dwols_stage *s) {
  const int levels = s->arms.levels;
  switch (s->arms.kind) {
  case TREAT_BINARY:
    return s->p;
  case TREAT_MULTINOMIAL:
    return (levels - 1) * s->p;
  case TREAT_ORDINAL:
    return levels - 1 + s->p - 1;
  default:
    return s->p + 1 + (s->bins > 0 ? s->bins - 1 + s->p - 1 : 0);
  }
}


static double linear(const double *x, const double *beta, int columns) {
  double eta = 0.0;
  for (int j = 0; j < columns; j++) {
    eta += x[j] * beta[j];
  }
  return eta;
}


// pi_l of a multinomial logistic model; the reference's logit is 0
static void softmax(const double *x, const double *beta, int p, int levels, double *pi) {
  double most = 0.0, sum = 0.0;
  pi[0] = 0.0;
  for (int l = 1; l < levels; l++) {
    pi[l] = linear(x, beta + (l - 1) * p, p);
    most = fmax(most, pi[l]);
  }
  for (int l = 0; l < levels; l++) {
    pi[l] = pi[l] == most ? 1.0 : rgm_exp64(pi[l] - most);
    sum += pi[l];
  }
  for (int l = 0; l < levels; l++) {
    pi[l] /= sum;
  }
}


// pi_l of proportional odds: P(a <= l) = sigmoid(cut_l - x'slope); x begins with the constant
static void odds(const double *x, const double *beta, int p, int levels, double *pi) {
  const double eta = linear(x + 1, beta + levels - 1, p - 1);
  for (int l = 0; l < levels; l++) {
    // a difference of sigmoids, from the side where both are small
    const double high = l < levels - 1 ? beta[l] - eta : INFINITY;
    const double low = l > 0 ? beta[l - 1] - eta : -INFINITY;
    const bool flip = low > 0.0;
    const double a = flip ? -low : high, b = flip ? -high : low;
    pi[l] = (isfinite(a) ? rgm_sigmoid64(a) : 1.0) - (isfinite(b) ? rgm_sigmoid64(b) : 0.0);
  }
}


// What Newton's method works on: log likelihood, its slope (size) and minus its Hessian.
typedef struct ascent {
  double value, slope[DWOLS_TREAT], hessian[DWOLS_TREAT * DWOLS_TREAT];
} ascent;


// the lower triangle's entries become those above
static void mirror(double *matrix, int size) {
  for (int i = 0; i < size; i++) {
    for (int j = i + 1; j < size; j++) {
      matrix[i * size + j] = matrix[j * size + i];
    }
  }
}


// log of a product of many shares, a logarithm now and then
typedef struct product {
  double log, rest;
} product;


static void multiply(product *p, double share, double count) {
  const double of = fmax(share, 1e-100);
  for (double c = count; c > 0.0; c -= 1.0) {
    p->rest *= of;
    if (p->rest < 1e-200) {
      p->log += rgm_log64(p->rest);
      p->rest = 1.0;
    }
  }
}


enum { BLOCK = 64 };

// sigmoid(x'beta) of `count` <= BLOCK rows (p)
RGM_INLINE void logistic_body(const double *x, int p, int count, const double *beta, double *e) {
  double eta[BLOCK] = {0};
  for (int j = 0; j < p; j++) {
    for (int k = 0; k < count; k++) {
      eta[k] += x[(int64_t)k * p + j] * beta[j];
    }
  }
  for (int k = 0; k < BLOCK; k++) {
    e[k] = rgm_sigmoid64(eta[k]);
  }
}


RGM_WIDE(logistic, (const double *x, int p, int count, const double *beta, double *e),
         (x, p, count, beta, e))

// of two levels
static void derive_logistic(const dwols_stage *s, const double *label, const double *count,
                            const double *beta, ascent *d) {
  const int p = s->p;
  product likelihood = {0.0, 1.0};
  dwols_gram g;
  dwols_gram_begin(&g, p);
  for (int64_t first = 0; first < s->n; first += BLOCK) {
    const int rows = s->n - first < BLOCK ? (int)(s->n - first) : BLOCK;
    double e[BLOCK];
    logistic(s->x + first * p, p, rows, beta, e);
    for (int k = 0; k < rows; k++) {
      const double c = count != NULL ? count[first + k] : 1.0, *x = s->x + (first + k) * p;
      if (c == 0.0) {
        continue;
      }
      const bool own = label[first + k] != 0;
      const double slope = c * (own - e[k]);
      multiply(&likelihood, own ? e[k] : 1.0 - e[k], c);
      memcpy(dwols_gram_row(&g, c * e[k] * (1.0 - e[k])), x, (size_t)p * sizeof *x);
      for (int j = 0; j < p; j++) {
        d->slope[j] += slope * x[j];
      }
    }
  }
  dwols_gram_end(&g);
  for (int j = 0; j < p; j++) {
    memcpy(d->hessian + j * p, g.sum[j], (size_t)p * sizeof *d->hessian);
  }
  d->value = likelihood.log + rgm_log64(likelihood.rest);
  mirror(d->hessian, p);
}


static void derive_multinomial(const dwols_stage *s, int levels, const double *category,
                               const double *count, const double *beta, ascent *d) {
  const int p = s->p, size = (levels - 1) * p;
  product likelihood = {0.0, 1.0};
  for (int64_t i = 0; i < s->n; i++) {
    const double c = count != NULL ? count[i] : 1.0, *x = s->x + i * p;
    double pi[DWOLS_LEVELS];
    if (c == 0.0) {
      continue;
    }
    softmax(x, beta, p, levels, pi);
    const int own = (int)category[i];
    multiply(&likelihood, pi[own], c);
    for (int l = 1; l < levels; l++) {
      const double slope = c * ((own == l) - pi[l]);
      for (int j = 0; j < p; j++) {
        d->slope[(l - 1) * p + j] += slope * x[j];
      }
      for (int m = 1; m <= l; m++) {
        const double v = c * pi[l] * ((l == m) - pi[m]);
        double *block = d->hessian + (l - 1) * p * size + (m - 1) * p;
        for (int j = 0; j < p; j++) {
          for (int k = 0; k < (l == m ? j + 1 : p); k++) {
            block[j * size + k] += v * x[j] * x[k];
          }
        }
      }
    }
  }
  d->value = likelihood.log + rgm_log64(likelihood.rest);
  mirror(d->hessian, size);
}


// of log(sigmoid(u) - sigmoid(v)) with u = cut_l - x'slope, v = cut_(l-1) - x'slope
static void derive_odds(const dwols_stage *s, int levels, const double *category,
                        const double *count, const double *beta, ascent *d) {
  const int p = s->p, cuts = levels - 1, size = cuts + p - 1;
  product likelihood = {0.0, 1.0};
  for (int64_t i = 0; i < s->n; i++) {
    const double c = count != NULL ? count[i] : 1.0, *x = s->x + i * p + 1;
    const int own = (int)category[i];
    double pi[DWOLS_LEVELS], a[DWOLS_TREAT], slope[2] = {0}, curve[3] = {0};
    if (c == 0.0) {
      continue;
    }
    odds(x - 1, beta, p, levels, pi);
    const double share = fmax(pi[own], 1e-300), eta = linear(x, beta + cuts, p - 1);
    multiply(&likelihood, share, c);
    for (int end = 0; end < 2; end++) {
      const int cut = own - end;
      if (cut >= 0 && cut < cuts) {
        const double e = rgm_sigmoid64(beta[cut] - eta), g = e * (1.0 - e);
        slope[end] = (end == 0 ? g : -g) / share;
        curve[end] = (end == 0 ? g : -g) * (1.0 - 2.0 * e) / share - slope[end] * slope[end];
      }
    }
    curve[2] = -slope[0] * slope[1];
    // by cut, and by every slope minus the sum over both ends
    for (int j = 0; j < p - 1; j++) {
      a[j] = x[j];
      d->slope[cuts + j] -= c * (slope[0] + slope[1]) * x[j];
    }
    for (int end = 0; end < 2; end++) {
      const int cut = own - end;
      if (cut < 0 || cut >= cuts) {
        continue;
      }
      d->slope[cut] += c * slope[end];
      d->hessian[cut * size + cut] -= c * curve[end];
      for (int j = 0; j < p - 1; j++) {
        d->hessian[(cuts + j) * size + cut] += c * (curve[end] + curve[2]) * a[j];
      }
    }
    if (own > 0 && own < cuts) {
      d->hessian[own * size + own - 1] -= c * curve[2];
    }
    const double both = c * (curve[0] + curve[1] + 2.0 * curve[2]);
    for (int j = 0; j < p - 1; j++) {
      for (int k = 0; k <= j; k++) {
        d->hessian[(cuts + j) * size + cuts + k] -= both * a[j] * a[k];
      }
    }
  }
  d->value = likelihood.log + rgm_log64(likelihood.rest);
  mirror(d->hessian, size);
}


// of a normal mean, or a gamma's with a log link: log likelihood over 1 / dispersion
static void derive_mean(const dwols_stage *s, const double *count, const double *beta, ascent *d) {
  const int p = s->p;
  for (int64_t i = 0; i < s->n; i++) {
    const double c = count != NULL ? count[i] : 1.0, *x = s->x + i * p;
    const double eta = c != 0.0 ? linear(x, beta, p) : 0.0, a = s->label[i];
    const bool gamma = s->family == FAMILY_GAMMA;
    const double ratio = gamma ? a * rgm_exp64(-eta) : 1.0;
    const double slope = c * (gamma ? ratio - 1.0 : a - eta);
    d->value += c * (gamma ? -ratio - eta : -0.5 * (a - eta) * (a - eta));
    for (int j = 0; j < p && c != 0.0; j++) {
      d->slope[j] += slope * x[j];
      for (int k = 0; k <= j; k++) {
        d->hessian[j * p + k] += c * ratio * x[j] * x[k];
      }
    }
  }
  mirror(d->hessian, p);
}


enum { MODEL_MULTINOMIAL, MODEL_ODDS, MODEL_MEAN };

// Newton's method from beta, halved where it overshoots, until no coefficient moves by more than
// RGM_FIT_TOLERANCE of the largest, whose square is about what is then left
static rgm_fit climb(const dwols_stage *s, int model, int levels, const double *category,
                     const double *count, int size, double *beta) {
  double step[DWOLS_TREAT] = {0}, before = -INFINITY;
  ascent *d = malloc(sizeof *d);
  rgm_fit fit = d != NULL ? RGM_FIT_SEPARATED : RGM_FIT_SINGULAR;
  for (int steps = 0, halved = 0; steps < RGM_FIT_STEPS && d != NULL;) {
    int column;
    *d = (ascent){0};
    if (model == MODEL_MULTINOMIAL && levels == 2) {
      derive_logistic(s, category, count, beta, d);
    } else if (model == MODEL_MULTINOMIAL) {
      derive_multinomial(s, levels, category, count, beta, d);
    } else if (model == MODEL_ODDS) {
      derive_odds(s, levels, category, count, beta, d);
    } else {
      derive_mean(s, count, beta, d);
    }
    if (!(d->value >= before - 1e-9 * fabs(before)) && halved < 20) {
      for (int j = 0; j < size; j++) {
        step[j] *= 0.5;
        beta[j] -= step[j];
      }
      halved++;
      continue;
    }
    halved = 0;
    steps++;
    before = d->value;
    if (!dwols_solve(d->hessian, d->slope, size, &column)) {
      fit = RGM_FIT_SINGULAR;
      break;
    }
    double most = 0.0, largest = 1.0;
    for (int j = 0; j < size; j++) {
      step[j] = d->slope[j];
      beta[j] += step[j];
      most = fmax(most, fabs(step[j]));
      largest = fmax(largest, fabs(beta[j]));
    }
    if (most <= RGM_FIT_TOLERANCE * largest || largest > 1e6) {
      fit = most <= RGM_FIT_TOLERANCE * largest ? RGM_FIT_DONE : RGM_FIT_SEPARATED;
      break;
    }
  }
  free(d);
  return fit;
}


// quantile bins of a dose in a sample with counts, as dplyr's ntile: those of n mod bins come
// first and are larger by one; equal doses stay together
static void find_bins(const dwols_stage *s, const double *count, double *category) {
  double total = 0.0, at = 0.0;
  for (int64_t i = 0; i < s->n; i++) {
    total += count != NULL ? count[i] : 1.0;
  }
  const double size = floor(total / s->bins), longer = total - size * s->bins;
  for (int64_t k = 0; k < s->n; k++) {
    const int64_t i = s->order[k];
    const double head = longer * (size + 1.0);
    const bool same = k > 0 && s->label[i] == s->label[s->order[k - 1]];
    category[i] = same        ? category[s->order[k - 1]]
                  : at < head ? floor(at / (size + 1.0))
                              : longer + floor((at - head) / size);
    category[i] = fmin(category[i], s->bins - 1);
    at += count != NULL ? count[i] : 1.0;
  }
}


// how often each category occurs; false: one of them never
static bool count_categories(const dwols_stage *s, int levels, const double *category,
                             const double *count, double *of) {
  bool all = true;
  memset(of, 0, DWOLS_LEVELS * sizeof *of);
  for (int64_t i = 0; i < s->n; i++) {
    of[(int)category[i]] += count != NULL ? count[i] : 1.0;
  }
  for (int l = 0; l < levels; l++) {
    all = all && of[l] > 0.0;
  }
  return all;
}


// proportional odds, from `start` or cuts at the marginal odds
static rgm_fit fit_odds(const dwols_stage *s, int levels, const double *category,
                        const double *count, const double *start, double *beta) {
  double of[DWOLS_LEVELS], below = 0.0, total = 0.0;
  if (!count_categories(s, levels, category, count, of)) {
    return RGM_FIT_EMPTY;
  }
  for (int l = 0; l < levels; l++) {
    total += of[l];
  }
  memset(beta, 0, (size_t)(levels - 1 + s->p - 1) * sizeof *beta);
  for (int l = 0; l < levels - 1; l++) {
    below += of[l];
    beta[l] = rgm_log64(below / (total - below));
  }
  if (start != NULL) {
    memcpy(beta, start, (size_t)(levels - 1 + s->p - 1) * sizeof *beta);
  }
  return climb(s, MODEL_ODDS, levels, category, count, levels - 1 + s->p - 1, beta);
}


// mean and dispersion of a dose
static rgm_fit fit_mean(const dwols_stage *s, const double *count, const double *start,
                        double *beta) {
  const bool gamma = s->family == FAMILY_GAMMA;
  double total = 0.0, sum = 0.0;
  for (int64_t i = 0; i < s->n; i++) {
    const double c = count != NULL ? count[i] : 1.0;
    total += c;
    sum += c * s->label[i];
  }
  memset(beta, 0, (size_t)s->p * sizeof *beta);
  beta[0] = gamma ? rgm_log64(sum / total) : sum / total;
  if (start != NULL) {
    memcpy(beta, start, (size_t)s->p * sizeof *beta);
  }
  const rgm_fit fit = climb(s, MODEL_MEAN, 0, NULL, count, s->p, beta);
  sum = 0.0;
  for (int64_t i = 0; i < s->n && fit == RGM_FIT_DONE; i++) {
    const double eta = linear(s->x + i * s->p, beta, s->p);
    const double r = gamma ? s->label[i] * rgm_exp64(-eta) - 1.0 : s->label[i] - eta;
    sum += (count != NULL ? count[i] : 1.0) * r * r;
  }
  beta[s->p] = sum / (total - s->p);
  const double unit = gamma ? 1.0 : s->dose * s->dose;
  return fit == RGM_FIT_DONE && !(beta[s->p] > 1e-20 * unit) ? RGM_FIT_SINGULAR : fit;
}


rgm_fit dwols_treat_fit(const dwols_stage *s, const double *count, const double *start,
                        double *beta) {
  const int levels = s->arms.levels;
  double of[DWOLS_LEVELS];
  if (s->arms.kind == TREAT_ORDINAL) {
    return fit_odds(s, levels, s->label, count, start, beta);
  }
  if (s->arms.kind != TREAT_CONTINUOUS) {
    const size_t bytes = (size_t)dwols_treat_size(s) * sizeof *beta;
    if (!count_categories(s, levels, s->label, count, of)) {
      return RGM_FIT_EMPTY;
    }
    memset(beta, 0, bytes);
    if (start != NULL) {
      memcpy(beta, start, bytes);
    }
    return climb(s, MODEL_MULTINOMIAL, levels, s->label, count, (levels - 1) * s->p, beta);
  }
  rgm_fit fit = fit_mean(s, count, start, beta);
  if (fit == RGM_FIT_DONE && s->bins > 0) {
    double *category = malloc((size_t)s->n * sizeof *category);
    if (category == NULL) {
      return RGM_FIT_SINGULAR;
    }
    find_bins(s, count, category);
    fit = fit_odds(s, s->bins, category, count, start != NULL ? start + s->p + 1 : NULL,
                   beta + s->p + 1);
    free(category);
  }
  return fit;
}


// ---- what they say -----------------------------------------------------------------------------

int dwols_treat_shares(const dwols_stage *s, const double *beta, int64_t i, double *shares) {
  const double *x = s->x + i * s->p;
  if (s->arms.kind == TREAT_ORDINAL) {
    odds(x, beta, s->p, s->arms.levels, shares);
  } else if (s->arms.kind != TREAT_CONTINUOUS) {
    softmax(x, beta, s->p, s->arms.levels, shares);
  } else if (s->bins > 0) {
    odds(x, beta + s->p + 1, s->p, s->bins, shares);
  }
  return s->arms.kind != TREAT_CONTINUOUS ? s->arms.levels : s->bins;
}


static double mean_dose(const dwols_stage *s, const double *beta, int64_t i) {
  const double eta = linear(s->x + i * s->p, beta, s->p);
  return s->family == FAMILY_GAMMA ? rgm_exp64(eta) : eta;
}


void dwols_propensities(const dwols_stage *s, const double *beta, double *e) {
  for (int64_t first = 0; first < s->n; first += BLOCK) {
    const int rows = s->n - first < BLOCK ? (int)(s->n - first) : BLOCK;
    double block[BLOCK];
    logistic(s->x + first * s->p, s->p, rows, beta, block);
    memcpy(e + first, block, (size_t)rows * sizeof *e);
  }
}


void dwols_treat_expected(const dwols_stage *s, const double *beta, double *expected) {
  const int T = s->arms.functions;
  for (int64_t i = 0; i < s->n; i++) {
    double shares[DWOLS_LEVELS];
    if (s->arms.kind != TREAT_CONTINUOUS) {
      (void)dwols_treat_shares(s, beta, i, shares);
      memcpy(expected + i * T, shares + 1, (size_t)T * sizeof *expected);
      continue;
    }
    const double mean = mean_dose(s, beta, i), square = mean * mean;
    const double variance = beta[s->p] * (s->family == FAMILY_GAMMA ? square : 1.0);
    expected[i * T] = mean / s->dose;
    if (T > 1) {
      expected[i * T + 1] = (variance + square) / (s->dose * s->dose);
    }
  }
}


double dwols_treat_deviance(const dwols_stage *s, const double *beta) {
  double deviance = 0.0;
  for (int64_t i = 0; i < s->n; i++) {
    double shares[DWOLS_LEVELS];
    const double a = s->label[i];
    if (s->arms.kind != TREAT_CONTINUOUS) {
      (void)dwols_treat_shares(s, beta, i, shares);
      deviance -= 2.0 * rgm_log64(fmax(shares[(int)a], 1e-300));
      continue;
    }
    const double mean = mean_dose(s, beta, i), r = a - mean;
    deviance += s->family == FAMILY_GAMMA ? 2.0 * (r / mean - rgm_log64(a / mean)) : r * r;
  }
  return deviance;
}


// ---- weights -----------------------------------------------------------------------------------

// log f of a dose, but for what is the same in all rows
static double log_density(int family, double a, double mean, double dispersion) {
  if (family == FAMILY_GAMMA) {
    const double shape = 1.0 / dispersion;
    return shape * (rgm_log64(a / mean) - a / mean) - rgm_log64(a);
  }
  return -0.5 * (a - mean) * (a - mean) / dispersion;
}


// 1 / f(a | x), times f(a) where stabilised; the largest is 1
static void dose_weights(const dwols_stage *s, bool stabilised, const double *beta,
                         const double *count, double *w) {
  double total = 0.0, mean = 0.0, square = 0.0, most = -INFINITY;
  for (int64_t i = 0; i < s->n; i++) {
    const double c = count != NULL ? count[i] : 1.0;
    total += c;
    mean += c * s->label[i];
  }
  mean /= total;
  for (int64_t i = 0; i < s->n; i++) {
    square += (count != NULL ? count[i] : 1.0) * (s->label[i] - mean) * (s->label[i] - mean);
  }
  const double variance = square / (total - 1.0);
  const double dispersion = s->family == FAMILY_GAMMA ? variance / (mean * mean) : variance;
  for (int64_t i = 0; i < s->n; i++) {
    const double a = s->label[i];
    w[i] = -log_density(s->family, a, mean_dose(s, beta, i), beta[s->p]);
    w[i] += stabilised ? log_density(s->family, a, mean, dispersion) : 0.0;
    most = count == NULL || count[i] > 0.0 ? fmax(most, w[i]) : most;
  }
  for (int64_t i = 0; i < s->n; i++) {
    w[i] = rgm_exp64(fmin(w[i] - most, 0.0));
  }
}


// 1 / pi of what a row received, over the sum of all (overlap) or times its marginal share
static bool share_weights(const dwols_stage *s, int weight, const double *beta, const double *count,
                          double *w) {
  const bool dose = s->arms.kind == TREAT_CONTINUOUS;
  double of[DWOLS_LEVELS], total = 0.0, *category = s->label;
  const int levels = dose ? s->bins : s->arms.levels;
  if (dose) {
    category = malloc((size_t)s->n * sizeof *category);
    if (category == NULL) {
      return false;
    }
    find_bins(s, count, category);
  }
  (void)count_categories(s, levels, category, count, of);
  for (int l = 0; l < levels; l++) {
    total += of[l];
  }
  for (int64_t i = 0; i < s->n; i++) {
    double shares[DWOLS_LEVELS], sum = 0.0;
    const int own = (int)category[i];
    (void)dwols_treat_shares(s, beta, i, shares);
    for (int l = 0; l < levels; l++) {
      sum += 1.0 / fmax(shares[l], 1e-300);
    }
    w[i] = 1.0 / fmax(shares[own], 1e-300);
    w[i] *= weight == WEIGHT_OVERLAP      ? 1.0 / sum
            : weight == WEIGHT_STABILISED ? of[own] / total
                                          : 1.0;
  }
  if (dose) {
    free(category);
  }
  return true;
}


typedef struct counted {
  double value, count;
} counted;


static int by_value(const void *a, const void *b) {
  const counted *x = a, *y = b;
  return (x->value > y->value) - (x->value < y->value);
}


bool dwols_cap(int64_t n, const double *count, double *w, double *cap) {
  counted *sorted = malloc((size_t)n * sizeof *sorted);
  double total = 0.0, ends[2] = {0}, at = 0.0;
  if (sorted == NULL) {
    return false;
  }
  for (int64_t i = 0; i < n; i++) {
    sorted[i] = (counted){w[i], count != NULL ? count[i] : 1.0};
    total += sorted[i].count;
  }
  qsort(sorted, (size_t)n, sizeof *sorted, by_value);
  const double place = 0.99 * (total - 1.0), low = floor(place);
  for (int64_t i = 0; i < n; i++) {
    for (int end = 0; end < 2; end++) {
      const double k = fmin(low + end, total - 1.0);
      ends[end] = at <= k && k < at + sorted[i].count ? sorted[i].value : ends[end];
    }
    at += sorted[i].count;
  }
  *cap = ends[0] + (place - low) * (ends[1] - ends[0]);
  for (int64_t i = 0; i < n; i++) {
    w[i] = fmin(w[i], *cap);
  }
  free(sorted);
  return true;
}


bool dwols_treat_weights(const dwols_stage *s, int weight, const double *beta, const double *count,
                         double *w) {
  if (weight == WEIGHT_NONE || weight == WEIGHT_USER) {
    for (int64_t i = 0; i < s->n; i++) {
      w[i] = 1.0;
    }
    return true;
  }
  if (s->arms.kind == TREAT_CONTINUOUS && s->bins == 0) {
    dose_weights(s, weight == WEIGHT_STABILISED, beta, count, w);
    return true;
  }
  return share_weights(s, weight, beta, count, w);
}
