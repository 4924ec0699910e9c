// SPDX-License-Identifier: Apache-2.0
// Resamples of staged rules that are fitted one by one on the host, a task each: G-estimation
// (Robins 2004), whose propensities the kernels have fitted, and stages whose treatments have
// several levels or doses, which the kernels do not know.

#include "algorithms/dwols.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// All resamples at work, in the host's memory.
typedef struct loop_job {
  const dwols_model *m;
  double *beta[DWOLS_STAGES];         // (G, p, 16), NULL: to be fitted
  double *coef[DWOLS_STAGES];         // (G, q, 16)
  uint32_t *status[DWOLS_STAGES];     // (G, 16)
  uint32_t *fitted[DWOLS_STAGES];     // (G, 16)
  uint8_t *counts;                    // (G, N, 16)
  const double (*start)[DWOLS_TREAT]; // (K) the sample's models of treatment
  bool failed;
} loop_job;


static int64_t most_rows(const dwols_model *m) {
  int64_t most = 0;
  for (int k = 0; k < m->stages; k++) {
    const dwols_stage *s = &m->stage[k];
    most = s->n * s->arms.functions > most ? s->n * s->arms.functions : most;
  }
  return most;
}


// a stage of resample r; work has room for counts, weights and expected values
static void fit_stage(const loop_job *job, int k, int64_t r, const double *y, double *work,
                      double *coef) {
  const dwols_model *m = job->m;
  const dwols_stage *s = &m->stage[k];
  const int64_t group = r / RGM_FIT_LANES, at = r % RGM_FIT_LANES;
  double beta[DWOLS_TREAT], *count = work, *w = count + s->n, *expected = NULL, cap;
  for (int64_t i = 0; i < s->n; i++) {
    count[i] = job->counts[(group * m->frame.rows + s->rows[i]) * RGM_FIT_LANES + at];
  }
  if (job->beta[k] != NULL) {
    for (int j = 0; j < s->p; j++) {
      beta[j] = job->beta[k][(group * s->p + j) * RGM_FIT_LANES + at];
    }
  } else {
    job->fitted[k][r] = dwols_treat_fit(s, count, job->start[k], beta);
  }
  job->status[k][r] = job->fitted[k][r];
  if (job->fitted[k][r] != RGM_FIT_DONE) {
    return;
  }
  if (m->keys->method == METHOD_GEST) {
    expected = w + s->n;
    dwols_expected(s, beta, expected);
  }
  const int weight = m->keys->method == METHOD_DWOLS ? m->keys->weight : WEIGHT_NONE;
  const bool solved = dwols_weights(s, weight, beta, count, w, &cap) &&
                      dwols_equations(s, w, count, expected, y, coef);
  job->status[k][r] = solved ? RGM_FIT_DONE : RGM_FIT_SINGULAR;
}


static void loop_task(void *arg, int64_t r) {
  loop_job *job = arg;
  const dwols_model *m = job->m;
  const int64_t N = m->frame.rows;
  double *y = malloc((size_t)(3 * N + most_rows(m)) * sizeof *y);
  if (y == NULL) {
    job->failed = true;
    return;
  }
  memcpy(y, m->y, (size_t)N * sizeof *y);
  for (int k = m->stages - 1; k >= 0; k--) {
    const dwols_stage *s = &m->stage[k];
    const int64_t group = r / RGM_FIT_LANES, at = r % RGM_FIT_LANES;
    double coef[RGM_FORMULA_COLUMNS] = {0};
    fit_stage(job, k, r, y, y + N, coef);
    for (int j = 0; j < s->q; j++) {
      job->coef[k][(group * s->q + j) * RGM_FIT_LANES + at] = coef[j];
    }
    dwols_add_regret(s, coef + s->f, y);
  }
  free(y);
}


// a planned tensor in the host's memory: itself, or a copy
static rgm_status borrow(const rgm_run *run, rgm_tensor t, void *out) {
  void **to = out;
  *to = rgm_is_cpu(run->stream) ? t.data : malloc(rgm_bytes(t));
  if (*to == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for resamples");
  }
  if (*to != t.data) {
    rgm_copy(run->stream, *to, t.data, rgm_bytes(t));
  }
  return rgm_sync(run->stream);
}


static void give_back(const rgm_run *run, rgm_tensor t, void *from) {
  if (from != NULL && from != t.data) {
    rgm_copy(run->stream, t.data, from, rgm_bytes(t));
    (void)rgm_sync(run->stream);
    free(from);
  }
}


rgm_status dwols_loop(rgm_run *run, const dwols_sample *sample) {
  dwols *d = run->self;
  const dwols_model *m = &sample->model;
  const int64_t resamples = d->groups * RGM_FIT_LANES;
  loop_job job = {.m = m, .start = sample->beta};
  rgm_status status = borrow(run, d->counts, &job.counts);
  for (int k = 0; k < m->stages && status == RGM_OK; k++) {
    status = m->general ? RGM_OK : borrow(run, d->stage[k].beta, &job.beta[k]);
    status = status == RGM_OK ? borrow(run, d->stage[k].coef, &job.coef[k]) : status;
    status = status == RGM_OK ? borrow(run, d->stage[k].status, &job.status[k]) : status;
    status = status == RGM_OK ? borrow(run, d->stage[k].fitted, &job.fitted[k]) : status;
  }
  if (status == RGM_OK) {
    rgm_cpu_parallel(rgm_host(run->stream), resamples, loop_task, &job);
  }
  if (status == RGM_OK && job.failed) {
    status = rgm_fail(RGM_EMEMORY, "no memory for a resample");
  }
  give_back(run, d->counts, job.counts);
  for (int k = 0; k < m->stages; k++) {
    give_back(run, d->stage[k].beta, job.beta[k]);
    give_back(run, d->stage[k].coef, job.coef[k]);
    give_back(run, d->stage[k].status, job.status[k]);
    give_back(run, d->stage[k].fitted, job.fitted[k]);
  }
  return status;
}
