// SPDX-License-Identifier: Apache-2.0
// A step of dwols: all resamples of an imputation whose sample is fitted.

#include "algorithms/dwols.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


static void put(rgm_run *run, rgm_tensor t, const void *from) {
  rgm_copy(run->stream, t.data, from, rgm_bytes(t));
}


// ---- resamples ---------------------------------------------------------------------------------

typedef struct drawing {
  const dwols_model *m;
  uint8_t *counts; // (G, N, 16)
  int64_t draws, replicates;
} drawing;


// the reference data's generator: splitmix64 of a running number, its high word times n
static int64_t splitmix_below(uint64_t number, int64_t n) {
  uint64_t x = 42 + number * 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  x ^= x >> 31;
  const uint64_t high = (x >> 32) * (uint64_t)n, low = (x & 0xffffffffu) * (uint64_t)n;
  return (int64_t)((high + (low >> 32)) >> 32);
}


// a group's counts by that generator; the sample itself comes first, and fills up the last group
static void splitmix_task(void *arg, int64_t g) {
  const drawing *d = arg;
  const dwols_model *m = d->m;
  uint8_t *counts = d->counts + g * m->frame.rows * RGM_FIT_LANES;
  for (int64_t lane = 0; lane < RGM_FIT_LANES; lane++) {
    const int64_t r = g * RGM_FIT_LANES + lane;
    const bool whole = r == 0 || r > d->replicates;
    for (int64_t row = 0; row < m->frame.rows; row++) {
      counts[row * RGM_FIT_LANES + lane] = whole;
    }
    for (int64_t j = 0; j < d->draws && !whole; j++) {
      const uint64_t number = (uint64_t)((r - 1) * m->clusters + j + 1);
      const int64_t unit = splitmix_below(number, m->clusters);
      for (int64_t i = m->cluster_first[unit]; i < m->cluster_first[unit + 1]; i++) {
        uint8_t *c = counts + m->cluster_row[i] * RGM_FIT_LANES + lane;
        *c = *c < 255 ? (uint8_t)(*c + 1) : 255;
      }
    }
  }
}


// counts of all groups by the portable generator, made on the host
static rgm_status draw_portable(rgm_run *run, int64_t draws) {
  dwols *d = run->self;
  const dwols_model *m = d->model;
  const size_t bytes = (size_t)(d->groups * m->frame.rows * RGM_FIT_LANES);
  uint8_t *counts = malloc(bytes);
  if (counts == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for resamples");
  }
  drawing job = {.m = m, .counts = counts, .draws = draws, .replicates = m->keys->replicates};
  rgm_cpu_parallel(rgm_host(run->stream), d->groups, splitmix_task, &job);
  rgm_copy(run->stream, d->counts.data, counts, bytes);
  const rgm_status status = rgm_sync(run->stream);
  free(counts);
  return status;
}


// counts of all groups
static rgm_status draw(rgm_run *run, int64_t draws) {
  dwols *d = run->self;
  const dwols_model *m = d->model;
  const uint64_t seed = (uint64_t)rgm_run_seed(run, 0);
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_RESAMPLE);
  if (m->keys->resample == RESAMPLE_SPLITMIX) {
    return draw_portable(run, draws);
  }
  const rgm_resample resample = {
      .counts = d->counts,
      .first = d->first,
      .members = d->members,
      .units = m->clusters,
      .draws = draws,
      .replicates = m->keys->replicates,
      .key = {key.k0, key.k1},
      .step = m->keys->shared ? 0 : (uint32_t)run->step,
  };
  rgm_resample_counts(run->stream, &resample);
  return rgm_sync(run->stream);
}


// ---- fits --------------------------------------------------------------------------------------

// one slice for n groups
static rgm_tensor spread(rgm_tensor t, int64_t n) {
  t.dims[0] = n;
  t.stride0 = 0;
  return t;
}


// all groups through all stages
static void fit_groups(rgm_run *run, const double *caps) {
  dwols *d = run->self;
  const dwols_model *m = d->model;
  const dwols_keys *keys = m->keys;
  const int64_t n = d->groups;
  const bool single = keys->single;
  const rgm_tensor counts = rgm_slice(d->counts, 0, n), none = {0};
  const bool plain = keys->method != METHOD_DWOLS || keys->weight >= WEIGHT_NONE;
  rgm_irls irls[DWOLS_STAGES] = {0};
  rgm_wls wls[DWOLS_STAGES] = {0};
  rgm_pseudo pseudo[DWOLS_STAGES] = {0};
  for (int k = 0; k < m->stages; k++) {
    const dwols_stage *s = &m->stage[k];
    const rgm_tensor rows = spread(d->stage[k].rows, n), label = spread(d->stage[k].label, n);
    irls[k] = (rgm_irls){
        .beta = rgm_slice(d->stage[k].beta, 0, n),
        .status = rgm_slice(d->stage[k].fitted, 0, n),
        .steps = rgm_slice(d->stage[k].steps, 0, n),
        .x = spread(single ? d->stage[k].x32 : d->stage[k].x, n),
        .near = single ? none : spread(d->stage[k].x32, n),
        .label = label,
        .rows = rows,
        .counts = counts,
        .start = spread(d->stage[k].start, n),
    };
    wls[k] = (rgm_wls){
        .coef = rgm_slice(d->stage[k].coef, 0, n),
        .status = rgm_slice(d->stage[k].status, 0, n),
        .z = spread(single ? d->stage[k].z32 : d->stage[k].z, n),
        .y = k == m->stages - 1 ? spread(d->base, n) : d->y,
        .rows = rows,
        .counts = counts,
        .given = s->given != NULL ? spread(d->stage[k].given, n) : none,
        .x = irls[k].x,
        .beta = irls[k].beta,
        .label = label,
        .weighting = plain                            ? RGM_WEIGHT_NONE
                     : keys->weight == WEIGHT_OVERLAP ? RGM_WEIGHT_OVERLAP
                                                      : RGM_WEIGHT_INVERSE,
        .first = s->f,
        .cap = caps[k],
    };
    pseudo[k] = (rgm_pseudo){
        .y = d->y,
        .from = wls[k].y,
        .h = spread(d->stage[k].h, n),
        .coef = wls[k].coef,
        .label = label,
        .rows = rows,
        .first = s->f,
    };
  }
  const rgm_stages staged = {
      .stages = m->stages, .irls = irls, .wls = wls, .pseudo = pseudo, .y = d->y};
  rgm_staged_fit(run->stream, &staged);
}


// A design (n, columns) of the host onto the device, column by column: `wide` in f64, `narrow` in
// f32; data NULL: not wanted. `work` has room for n * columns doubles.
static rgm_status put_design(rgm_run *run, const double *x, int64_t n, int columns, rgm_tensor wide,
                             rgm_tensor narrow, double *work) {
  float *near = (float *)(void *)work;
  for (int j = 0; j < columns && wide.data != NULL; j++) {
    for (int64_t i = 0; i < n; i++) {
      work[j * n + i] = x[i * columns + j];
    }
  }
  if (wide.data != NULL) {
    put(run, wide, work);
    RGM_TRY(rgm_sync(run->stream));
  }
  for (int j = 0; j < columns && narrow.data != NULL; j++) {
    for (int64_t i = 0; i < n; i++) {
      near[j * n + i] = (float)x[i * columns + j];
    }
  }
  if (narrow.data != NULL) {
    put(run, narrow, near);
  }
  return rgm_sync(run->stream);
}


// designs of an imputation and where its resamples begin onto the device
static rgm_status upload(rgm_run *run, const dwols_sample *sample) {
  dwols *d = run->self;
  const dwols_model *m = &sample->model;
  rgm_status status = RGM_OK;
  put(run, d->base, m->y);
  for (int k = 0; k < m->stages && status == RGM_OK; k++) {
    const dwols_stage *s = &m->stage[k];
    const int most = s->p > s->q ? s->p : s->q;
    double *work = malloc((size_t)(s->n * most) * sizeof *work);
    status = work != NULL ? put_design(run, s->x, s->n, s->p, d->stage[k].x, d->stage[k].x32, work)
                          : rgm_fail(RGM_EMEMORY, "no memory for the designs of stage %d", k + 1);
    status = status == RGM_OK
                 ? put_design(run, s->z, s->n, s->q, d->stage[k].z, d->stage[k].z32, work)
                 : status;
    status = status == RGM_OK
                 ? put_design(run, s->blips, s->n, s->h, d->stage[k].h, (rgm_tensor){0}, work)
                 : status;
    free(work);
    put(run, d->stage[k].start, sample->beta[k]);
  }
  return status == RGM_OK ? rgm_sync(run->stream) : status;
}


static void lane(const double *from, int columns, int64_t replicate, double *out) {
  const int64_t group = replicate / RGM_FIT_LANES, at = replicate % RGM_FIT_LANES;
  for (int j = 0; j < columns; j++) {
    out[j] = from[(group * columns + j) * RGM_FIT_LANES + at];
  }
}


// ---- a step ------------------------------------------------------------------------------------

// the resamples' psi, NaN where a stage failed, which is counted
static rgm_status collect(rgm_run *run, const dwols_model *m, double *psi, double *failures) {
  dwols *d = run->self;
  const int64_t B = m->keys->replicates;
  for (int k = m->stages - 1; k >= 0; k--) {
    const dwols_stage *s = &m->stage[k];
    const size_t lanes = (size_t)(d->groups * RGM_FIT_LANES);
    double *coef = malloc(lanes * (size_t)s->q * sizeof *coef);
    uint32_t *status = malloc(2 * lanes * sizeof *status);
    rgm_status good = coef != NULL && status != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for the resamples");
    if (good == RGM_OK) {
      rgm_copy(run->stream, coef, d->stage[k].coef.data, lanes * (size_t)s->q * sizeof *coef);
      rgm_copy(run->stream, status, d->stage[k].fitted.data, lanes * sizeof *status);
      rgm_copy(run->stream, status + lanes, d->stage[k].status.data, lanes * sizeof *status);
      good = rgm_sync(run->stream);
    }
    for (int64_t b = 0; b < B && good == RGM_OK; b++) {
      const uint32_t fitted = status[b + 1], solved = status[lanes + (size_t)b + 1];
      const uint32_t worst = fitted != RGM_FIT_DONE ? fitted : solved;
      const double zero[DWOLS_TREAT] = {0};
      double one[RGM_FORMULA_COLUMNS], raw[DWOLS_ALL];
      lane(coef, s->q, b + 1, one);
      dwols_raw(s, zero, one, raw);
      for (int j = 0; j < s->h; j++) {
        psi[b * m->psi + s->first + j] = worst == RGM_FIT_DONE ? raw[s->e + s->f + j] : NAN;
      }
      // an earlier stage is not blamed for a later one
      const bool later = k + 1 < m->stages && isnan(psi[b * m->psi + m->stage[k + 1].first]);
      failures[k * 4 + worst] += worst != RGM_FIT_DONE && !later;
    }
    free(coef);
    free(status);
    RGM_TRY(good);
  }
  return RGM_OK;
}


// covariance of the resamples that have all stages, times `scale`
static void covariance(const double *psi, int64_t B, int P, double scale, double *out) {
  double average[DWOLS_PSI] = {0}, kept = 0.0;
  for (int64_t b = 0; b < B; b++) {
    bool whole = true;
    for (int i = 0; i < P; i++) {
      whole = whole && !isnan(psi[b * P + i]);
    }
    kept += whole;
    for (int i = 0; i < P && whole; i++) {
      average[i] += psi[b * P + i];
    }
  }
  memset(out, 0, (size_t)(P * P) * sizeof *out);
  for (int64_t b = 0; b < B && kept > 1; b++) {
    bool whole = true;
    for (int i = 0; i < P; i++) {
      whole = whole && !isnan(psi[b * P + i]);
    }
    for (int i = 0; i < P && whole; i++) {
      for (int j = 0; j < P; j++) {
        out[i * P + j] += (psi[b * P + i] - average[i] / kept) *
                          (psi[b * P + j] - average[j] / kept) / (kept - 1.0) * scale;
      }
    }
  }
}


// how many rows a resample draws
static int64_t draws(const dwols_model *m, double near_zero) {
  const double n = (double)m->clusters, kappa = m->keys->adaptive;
  if (kappa > 0) {
    return (int64_t)ceil(pow(n, (1.0 + kappa * (1.0 - near_zero)) / (1.0 + kappa)));
  }
  return m->keys->draw > 0 && m->keys->draw < m->clusters ? m->keys->draw : m->clusters;
}


static rgm_status resample(rgm_run *run, int64_t imputation, const dwols_sample *fit) {
  dwols *d = run->self;
  const dwols_model *m = &fit->model;
  const int64_t B = m->keys->replicates, P = m->psi, drawn = draws(m, fit->near_zero);
  RGM_TRY(draw(run, drawn));
  if (!m->general) {
    fit_groups(run, fit->caps);
    RGM_TRY(rgm_sync(run->stream));
  }
  if (m->general || m->keys->method == METHOD_GEST) {
    RGM_TRY(dwols_loop(run, fit));
  }
  double failures[DWOLS_STAGES * 4] = {0}, count = (double)drawn;
  double *psi = malloc((size_t)(B * P + P * P) * sizeof *psi);
  rgm_status status = psi != NULL ? collect(run, m, psi, failures)
                                  : rgm_fail(RGM_EMEMORY, "no memory for the resamples");
  if (status == RGM_OK) {
    covariance(psi, B, (int)P, count / (double)m->clusters, psi + B * P);
    put(run, d->replicates, psi);
    rgm_copy(run->stream, (double *)d->covariance.data + imputation * P * P, psi + B * P,
             (size_t)(P * P) * sizeof *psi);
    rgm_copy(run->stream, (double *)d->failures.data + imputation * m->stages * 4, failures,
             (size_t)(m->stages * 4) * sizeof *failures);
    rgm_copy(run->stream, (double *)d->drawn.data + imputation, &count, sizeof count);
    status = rgm_sync(run->stream);
  }
  free(psi);
  return status;
}


// what the sample itself says
static rgm_status keep(rgm_run *run, int64_t imputation, const dwols_sample *s) {
  const dwols *d = run->self;
  const dwols_model *m = d->model;
  const size_t bytes = (size_t)m->all * sizeof(double);
  rgm_copy(run->stream, (double *)d->theta.data + imputation * m->all, s->theta, bytes);
  rgm_copy(run->stream, (double *)d->sandwich.data + imputation * m->all, s->sandwich, bytes);
  rgm_copy(run->stream, (double *)d->diagnostics.data + imputation * m->stages * DIAG_COUNT,
           s->diag, (size_t)(m->stages * DIAG_COUNT) * sizeof(double));
  return rgm_sync(run->stream);
}


rgm_status dwols_step(rgm_run *run) {
  const dwols *d = run->self;
  const dwols_model *m = d->model;
  const int64_t imputation = (int64_t)run->step;
  const dwols_sample *sample = NULL;
  RGM_TRY(dwols_sample_of(run, imputation, &sample));
  RGM_TRY(keep(run, imputation, sample));
  if (m->keys->replicates > 0) {
    RGM_TRY(m->general ? RGM_OK : upload(run, sample));
    RGM_TRY(resample(run, imputation, sample));
  }
  rgm_advance(run->stream, run->clock, run->active);
  return rgm_sync(run->stream);
}
