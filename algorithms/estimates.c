// SPDX-License-Identifier: Apache-2.0
// Values of a policy from episodes under another one. See estimates.h. Every estimate is a function
// of sums over patients, so that a bootstrap draw adds up rows of one table and nothing else.

#include "algorithms/estimates.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const rgm_estimate_names[RGM_ESTIMATES] = {"fqe",   "model", "wdr", "dr",
                                                       "pdwis", "pdis",  "wis", "is"};

// Columns of the table of sums; then four blocks of one column a step.
enum { SUM_EPISODES, SUM_W, SUM_WG, SUM_PDIS, SUM_DR, SUM_V0, SUM_MODEL, SUM_STEPS };
enum { STEP_W, STEP_REWARD, STEP_REST, STEP_VALUE, STEP_BLOCKS };
enum { MOST_LOG = 300 }; // weights are scaled so that no logarithm of one is greater

typedef struct table {
  int64_t longest, width;
  double shift; // logarithm that all weights are divided by
  double *sum;  // (patients, width)
} table;


static double *step_of(const table *t, double *row, int block) {
  return row + SUM_STEPS + block * t->longest;
}


// ---- sums --------------------------------------------------------------------------------------

// one episode into the sums of its patient
static void add_episode(const rgm_courses *c, const table *t, const double *log_ratio,
                        const double *q, const double *v, const double *model, int64_t e) {
  double *row = t->sum + c->patient[e] * t->width;
  const int64_t first = c->start[e], length = c->start[e + 1] - first;
  double log_w = -t->shift, before = exp(log_w), w = before, g = 1.0;
  double total = 0.0, pdis = 0.0, dr = 0.0;
  for (int64_t k = 0; k < t->longest; k++) {
    const bool on = k < length;
    const double reward = on ? c->reward[first + k] : 0.0;
    const double rest = on && q != NULL ? reward - q[first + k] : 0.0;
    const double value = on && v != NULL ? v[first + k] : 0.0;
    if (on && log_ratio != NULL) {
      log_w += log_ratio[first + k];
      w = exp(log_w);
    }
    total += g * reward;
    pdis += g * w * reward;
    dr += g * (w * rest + before * value);
    step_of(t, row, STEP_W)[k] += w;
    step_of(t, row, STEP_REWARD)[k] += w * reward;
    step_of(t, row, STEP_REST)[k] += w * rest;
    step_of(t, row, STEP_VALUE)[k] += before * value;
    before = w;
    g *= c->gamma;
  }
  row[SUM_EPISODES] += 1.0;
  row[SUM_W] += w;
  row[SUM_WG] += w * total;
  row[SUM_PDIS] += pdis;
  row[SUM_DR] += dr;
  row[SUM_V0] += v != NULL ? v[first] : 0.0;
  row[SUM_MODEL] += model != NULL ? model[e] : 0.0;
}


// sums over patients -> estimates
static void conclude(const rgm_courses *c, const table *t, double *sum, double *out) {
  const double n = sum[SUM_EPISODES], scale = exp(t->shift);
  const double *w = step_of(t, sum, STEP_W), *reward = step_of(t, sum, STEP_REWARD);
  const double *rest = step_of(t, sum, STEP_REST), *value = step_of(t, sum, STEP_VALUE);
  double pdwis = 0.0, wdr = 0.0, g = 1.0, before = n / scale;
  for (int64_t k = 0; k < t->longest; k++) {
    pdwis += g * reward[k] / w[k];
    wdr += g * (rest[k] / w[k] + value[k] / before);
    before = w[k];
    g *= c->gamma;
  }
  out[RGM_ESTIMATE_IS] = scale * sum[SUM_WG] / n;
  out[RGM_ESTIMATE_WIS] = sum[SUM_WG] / sum[SUM_W];
  out[RGM_ESTIMATE_PDIS] = scale * sum[SUM_PDIS] / n;
  out[RGM_ESTIMATE_PDWIS] = pdwis;
  out[RGM_ESTIMATE_DR] = scale * sum[SUM_DR] / n;
  out[RGM_ESTIMATE_WDR] = wdr;
  out[RGM_ESTIMATE_FQE] = sum[SUM_V0] / n;
  out[RGM_ESTIMATE_MODEL] = sum[SUM_MODEL] / n;
}


// Kish's effective numbers of episodes, which are about episodes and no sums over patients
static void count_effective(const rgm_courses *c, const table *t, const double *log_ratio,
                            rgm_estimates *out) {
  double steps = 0.0;
  for (int64_t k = 0; k < t->longest; k++) {
    double sum = 0.0, square = 0.0, none = 0.0;
    for (int64_t e = 0; e < c->episodes; e++) {
      const int64_t length = c->start[e + 1] - c->start[e], last = k < length ? k : length - 1;
      double log_w = -t->shift;
      for (int64_t i = 0; i <= last && log_ratio != NULL; i++) {
        log_w += log_ratio[c->start[e] + i];
      }
      const double w = exp(log_w);
      sum += w;
      square += w * w;
      none += w == 0.0;
    }
    out->ess = square > 0.0 ? sum * sum / square : 0.0;
    out->zero = none / (double)c->episodes;
    steps += out->ess;
  }
  out->step_ess = steps / (double)t->longest;
}


// the greatest logarithm of a weight, where it is above what is safe to square
static double find_shift(const rgm_courses *c, const double *log_ratio) {
  double most = 0.0;
  for (int64_t e = 0; e < c->episodes && log_ratio != NULL; e++) {
    double log_w = 0.0;
    for (int64_t i = c->start[e]; i < c->start[e + 1]; i++) {
      log_w += log_ratio[i];
      most = log_w > most ? log_w : most;
    }
  }
  return most > MOST_LOG ? most - MOST_LOG : 0.0;
}


// ---- the bootstrap -----------------------------------------------------------------------------

// a draw of as many patients as there are, with replacement: the sums of their rows
static void draw_patients(const rgm_courses *c, const table *t, rgm_key key, int64_t b,
                          double *sum) {
  memset(sum, 0, (size_t)t->width * sizeof *sum);
  for (int64_t i = 0; i < c->patients; i++) {
    const int64_t p = rgm_below(key, (uint32_t)b, (uint32_t)i, 0, (uint32_t)c->patients);
    const double *row = t->sum + p * t->width;
    for (int64_t k = 0; k < t->width; k++) {
      sum[k] += row[k];
    }
  }
}


static void summarise(double *draws, int64_t resamples, double level, rgm_interval *out) {
  int64_t n = 0;
  for (int64_t b = 0; b < resamples; b++) {
    if (isfinite(draws[b])) {
      draws[n++] = draws[b];
    }
  }
  out->low = out->high = out->error = NAN;
  if (n > 1) {
    out->error = rgm_summarise(draws, n).sd;
    out->low = rgm_quantile_sorted(draws, n, 0.5 * (1.0 - level));
    out->high = rgm_quantile_sorted(draws, n, 0.5 * (1.0 + level));
  }
}


rgm_status rgm_estimate(const rgm_courses *c, const double *log_ratio, const double *q,
                        const double *v, const double *model, int64_t resamples, double level,
                        uint64_t seed, rgm_estimates *out) {
  table t = {.shift = find_shift(c, log_ratio)};
  for (int64_t e = 0; e < c->episodes; e++) {
    const int64_t length = c->start[e + 1] - c->start[e];
    t.longest = length > t.longest ? length : t.longest;
  }
  t.width = SUM_STEPS + STEP_BLOCKS * t.longest;
  t.sum = calloc((size_t)((c->patients + 1) * t.width), sizeof *t.sum);
  double *draws = malloc((size_t)(RGM_ESTIMATES * (resamples + 1)) * sizeof *draws);
  if (t.sum == NULL || draws == NULL) {
    free(t.sum);
    free(draws);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld patients", (long long)c->patients);
  }
  double *all = t.sum + c->patients * t.width, value[RGM_ESTIMATES];
  for (int64_t e = 0; e < c->episodes; e++) {
    add_episode(c, &t, log_ratio, q, v, model, e);
  }
  for (int64_t p = 0; p < c->patients; p++) {
    for (int64_t k = 0; k < t.width; k++) {
      all[k] += t.sum[p * t.width + k];
    }
  }
  conclude(c, &t, all, value);
  count_effective(c, &t, log_ratio, out);

  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_RESAMPLE);
  for (int64_t b = 0; b < resamples; b++) {
    double drawn[RGM_ESTIMATES];
    draw_patients(c, &t, key, b, all);
    conclude(c, &t, all, drawn);
    for (int m = 0; m < RGM_ESTIMATES; m++) {
      draws[m * resamples + b] = drawn[m];
    }
  }
  for (int m = 0; m < RGM_ESTIMATES; m++) {
    const bool ratios = m != RGM_ESTIMATE_FQE && m != RGM_ESTIMATE_MODEL;
    const bool critic = m == RGM_ESTIMATE_FQE || m == RGM_ESTIMATE_DR || m == RGM_ESTIMATE_WDR;
    const bool known = (log_ratio != NULL || !ratios) && (v != NULL || !critic) &&
                       (model != NULL || m != RGM_ESTIMATE_MODEL);
    out->of[m] = (rgm_interval){NAN, NAN, NAN, NAN};
    if (known) {
      summarise(draws + m * resamples, resamples, level, &out->of[m]);
      out->of[m].value = value[m];
    }
  }
  free(t.sum);
  free(draws);
  return RGM_OK;
}
