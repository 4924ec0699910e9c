// SPDX-License-Identifier: Apache-2.0
// Imputations before their resamples: designs, models of treatment, estimates, sandwich and
// diagnostics of the sample itself. One of them is one thread's work, so some are made at a time,
// a task each, as the chains are.

#include "algorithms/dwols.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// imputations at a time, as many as chains are; less where their designs do not fit into so much
enum { SAMPLES = 16, ROOM = 256 << 20 };

static const char *const why[] = {"", "they separate the treatments: coefficients run away",
                                  "the equations are singular", "a treatment that nobody has"};


// ---- the fit of the sample ---------------------------------------------------------------------

static rgm_status fit_treatments(const dwols_model *m, dwols_sample *out) {
  for (int k = 0; k < m->stages; k++) {
    const rgm_fit fit = dwols_treat_fit(&m->stage[k], NULL, NULL, out->beta[k]);
    if (fit != RGM_FIT_DONE) {
      return rgm_fail(RGM_ENUMERIC, "%s: stage %d: propensity: %s; take fewer terms", m->path,
                      k + 1, why[fit]);
    }
  }
  return RGM_OK;
}


// the share of rows in which what the best treatment gains over the reference (or would: another
// than the reference) has an interval, by the sandwich, that covers 0: a stage is near to irregular
static double share_near_zero(const dwols_stage *s, const double *coef, const double *sandwich) {
  const int columns = s->arms.blip + s->arms.square;
  double near = 0.0;
  for (int64_t i = 0; i < s->n; i++) {
    double sums[DWOLS_LEVELS], h[RGM_FORMULA_COLUMNS], value = 0.0, size = 0.0;
    dwols_stage_sums(s, i, coef + s->f, sums);
    const double best = dwols_best(&s->arms, sums, true), none = dwols_reference(&s->arms);
    dwols_contrast(&s->arms, s->blips + i * columns, best / s->dose, none / s->dose, h);
    for (int j = 0; j < s->h; j++) {
      const int c = s->arms.column[j], part = c < s->arms.blip ? 2 : 3;
      const int at = part == 2 ? c : c - s->arms.blip;
      const double dose = s->arms.kind != TREAT_CONTINUOUS ? 1.0
                          : s->arms.of[j] == 0             ? s->dose
                                                           : s->dose * s->dose;
      value += h[j] * coef[s->f + j];
      size += fabs(h[j]) * sandwich[s->f + j] * s->scale[part][at] * dose;
    }
    near += fabs(value) <= 1.96 * size ? 1.0 / (double)s->n : 0.0;
  }
  return near;
}


// estimates, sandwich and diagnostics, stage by stage from the last one; y (N) and w (N) are room
static rgm_status fit_stages(dwols_sample *out, double *y, double *w) {
  const dwols_model *m = &out->model;
  memcpy(y, m->y, (size_t)m->frame.rows * sizeof *y);
  out->near_zero = 0.0;
  for (int k = m->stages - 1; k >= 0; k--) {
    const dwols_stage *s = &m->stage[k];
    double errors[RGM_FORMULA_COLUMNS], mean = 0.0, *diag = out->diag + k * DIAG_COUNT;
    RGM_TRY(dwols_fit_stage(m, k, m->keys->method, m->keys->weight, out->beta[k], y, out->coef[k],
                            errors, diag));
    if (!dwols_weights(s, m->keys->weight, out->beta[k], NULL, w, &out->caps[k])) {
      return rgm_fail(RGM_EMEMORY, "no memory for the weights");
    }
    dwols_raw(s, out->beta[k], out->coef[k], out->theta + s->first_all);
    memcpy(out->sandwich + s->first_all + s->e, errors, (size_t)s->q * sizeof *errors);
    diag[DIAG_BLIP_NEAR_ZERO] = share_near_zero(s, out->coef[k], errors);
    out->near_zero = fmax(out->near_zero, k > 0 ? diag[DIAG_BLIP_NEAR_ZERO] : 0.0);
    for (int64_t i = 0; i < m->frame.rows; i++) {
      mean += y[i] / (double)m->frame.rows;
    }
    diag[DIAG_PSEUDO_MEAN] = mean;
    dwols_add_regret(s, out->coef[k] + s->f, y);
  }
  return RGM_OK;
}


static rgm_status make(dwols_sample *out, const double *values) {
  dwols_model *m = &out->model;
  RGM_TRY(dwols_model_design(m, values));
  RGM_TRY(fit_treatments(m, out));
  double *y = malloc((size_t)(2 * m->frame.rows) * sizeof *y);
  const rgm_status status = y != NULL ? fit_stages(out, y, y + m->frame.rows)
                                      : rgm_fail(RGM_EMEMORY, "no memory for the outcome");
  free(y);
  return status;
}


// ---- some at a time ----------------------------------------------------------------------------

static size_t design_doubles(const dwols_stage *s) {
  return (size_t)s->n * (size_t)(s->p + s->q + s->arms.blip + s->arms.square);
}


// the run's model with room of its own for y and designs, in one block that y begins
static rgm_status open(const dwols_model *m, dwols_sample *out) {
  size_t doubles = (size_t)m->frame.rows;
  for (int k = 0; k < m->stages; k++) {
    doubles += design_doubles(&m->stage[k]);
  }
  out->model = *m;
  double *at = out->model.y = malloc(doubles * sizeof *at);
  if (at == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the designs of an imputation");
  }
  at += m->frame.rows;
  for (int k = 0; k < m->stages; k++) {
    dwols_stage *s = &out->model.stage[k];
    s->x = at;
    s->z = s->x + s->n * s->p;
    s->blips = s->z + s->n * s->q;
    at += design_doubles(s);
  }
  return RGM_OK;
}


static rgm_status open_all(dwols *d) {
  const dwols_model *m = d->model;
  size_t bytes = 0;
  for (int k = 0; k < m->stages; k++) {
    bytes += design_doubles(&m->stage[k]) * sizeof(double);
  }
  const int64_t fit = (int64_t)(ROOM / (bytes + 1)), most = fit < SAMPLES ? fit : SAMPLES;
  const int64_t wanted = m->keys->imputations < most ? m->keys->imputations : most;
  d->ahead_most = wanted > 1 ? wanted : 1;
  d->ahead = calloc((size_t)d->ahead_most, sizeof *d->ahead);
  if (d->ahead == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the designs of an imputation");
  }
  for (int64_t i = 0; i < d->ahead_most; i++) {
    RGM_TRY(open(m, &d->ahead[i]));
  }
  return RGM_OK;
}


void dwols_samples_free(dwols *d) {
  for (int64_t i = 0; i < d->ahead_most && d->ahead != NULL; i++) {
    free(d->ahead[i].model.y);
  }
  free(d->ahead);
  d->ahead = NULL;
}


// Samples at work: those of tables `values` (count), each N * C numbers further.
typedef struct making {
  dwols_sample *sample;
  const double *values;
  int64_t cells;
} making;


static void make_task(void *arg, int64_t i) {
  const making *job = arg;
  dwols_sample *s = &job->sample[i];
  s->status = make(s, job->values + i * job->cells);
  if (s->status != RGM_OK) {
    snprintf(s->why, sizeof s->why, "%.511s", rgm_last_error());
  }
}


rgm_status dwols_sample_of(rgm_run *run, int64_t imputation, const dwols_sample **out) {
  dwols *d = run->self;
  const dwols_model *m = d->model;
  if (d->ahead == NULL) {
    RGM_TRY(open_all(d));
  }
  int64_t at = imputation - d->ahead_first;
  if (at < 0 || at >= d->ahead_count) {
    making job = {d->ahead, m->frame.value, m->frame.rows * m->frame.columns};
    int64_t count = 1;
    if (m->mice != NULL) {
      RGM_TRY(mice_values(m->mice, run->stream, imputation, &job.values, &count));
    }
    count = count < d->ahead_most ? count : d->ahead_most;
    rgm_cpu_parallel(rgm_host(run->stream), count, make_task, &job);
    d->ahead_first = imputation;
    d->ahead_count = count;
    at = 0;
  }
  *out = &d->ahead[at];
  return (*out)->status == RGM_OK ? RGM_OK : rgm_fail((*out)->status, "%s", (*out)->why);
}
