// SPDX-License-Identifier: Apache-2.0
// Logistic regressions of rare deaths, sixteen resamples in lanes, by Newton's method from the
// sample's coefficients. In many resamples the few deaths are told apart from all others without
// error, so that the likelihood has no maximum: steps no longer shrink, and each makes what is
// predicted a little more certain. Such lanes stop after eight steps, close to 0 and 1 as they are.

#include "algorithms/adr.h"

#include <math.h>
#include <string.h>

enum { L = RGM_FIT_LANES, STEPS = 25, PATIENCE = 8 };

#define TOLERANCE 1e-6

typedef struct newton {
  const adr_fits *f;
  const adr_regression *r;
  adr_newton *s;
} newton;


// weights c p (1 - p) and right sides c (label - p) of a group's rows, in place of p
static void weigh_task(void *arg, int64_t g) {
  const newton *job = arg;
  const adr_regression *r = job->r;
  double *p = (double *)job->s->p.data + g * job->s->p.stride0;
  double *right = (double *)job->s->right.data + g * job->s->right.stride0;
  const uint8_t *counts = (const uint8_t *)job->f->counts.data + g * job->f->counts.stride0;
  const uint32_t *row = r->rows.data;
  const double *label = r->label.data;
  for (int64_t i = 0; i < r->n; i++) {
    const uint8_t *count = counts + (int64_t)row[i] * L;
    for (int l = 0; l < L; l++) {
      const double e = p[i * L + l], c = count[l];
      right[i * L + l] = c * (label[i] - e);
      p[i * L + l] = c * (e * (1.0 - e));
    }
  }
}


// a step of the lanes that are on their way; true while any is
static bool move(const newton *job, int64_t n, int step) {
  const int64_t columns = job->r->x.dims[2];
  bool any = false;
  for (int64_t at = 0; at < n * L; at++) {
    const int64_t g = at / L, l = at % L;
    uint32_t *status = (uint32_t *)job->r->status.data + at;
    double *beta = (double *)job->r->beta.data + g * columns * L + l, most = 0.0;
    const double *by = (const double *)job->s->step.data + g * columns * L + l;
    if (*status != ADR_MOVING) {
      continue;
    }
    if (((const uint32_t *)job->s->solved.data)[at] != RGM_FIT_DONE) {
      *status = RGM_FIT_SINGULAR;
      continue;
    }
    for (int64_t j = 0; j < columns; j++) {
      beta[j * L] += by[j * L];
      most = fmax(most, fabs(by[j * L]));
    }
    const bool stuck = step >= PATIENCE - 1 && most > 0.5 * job->s->before[at];
    job->s->before[at] = most;
    *status = most <= TOLERANCE ? RGM_FIT_DONE : stuck ? RGM_FIT_SEPARATED : ADR_MOVING;
    any = any || *status == ADR_MOVING;
  }
  return any;
}


// lanes in which nobody dies, or everybody, have no fit
static void begin(const newton *job, int64_t n) {
  const adr_regression *r = job->r;
  const int64_t columns = r->x.dims[2];
  for (int64_t at = 0; at < n * L; at++) {
    const int64_t g = at / L, l = at % L;
    const uint8_t *counts = (const uint8_t *)job->f->counts.data + g * job->f->counts.stride0 + l;
    int64_t deaths = 0, all = 0;
    for (int64_t i = 0; i < r->n; i++) {
      const uint8_t c = counts[(int64_t)((const uint32_t *)r->rows.data)[i] * L];
      deaths += ((const double *)r->label.data)[i] != 0 ? c : 0;
      all += c;
    }
    const bool both = deaths > 0 && deaths < all;
    ((uint32_t *)r->status.data)[at] = both ? ADR_MOVING : RGM_FIT_EMPTY;
    job->s->before[at] = INFINITY;
    for (int64_t j = 0; j < columns; j++) {
      ((double *)r->beta.data)[(g * columns + j) * L + l] = ((const double *)r->start.data)[j];
    }
  }
}


// one slice for n groups
static rgm_tensor spread(rgm_tensor t, int64_t n) {
  t.dims[0] = n;
  t.stride0 = 0;
  return t;
}


// the first `rows` of scratch for a model of fewer rows than the largest
static rgm_tensor cut(rgm_tensor t, int64_t groups, int64_t rows) {
  return rgm_view(t.data, t.dtype, groups, rows, t.dims[2], 0);
}


void adr_fit_deaths(const adr_fits *f, const adr_regression *r, adr_newton *scratch, int64_t n) {
  const int64_t columns = r->x.dims[2];
  adr_newton s = *scratch;
  s.p = cut(s.p, n, r->n);
  s.right = cut(s.right, n, r->n);
  s.gram = cut(s.gram, n, columns * (columns + 1) / 2);
  s.step = cut(s.step, n, columns);
  s.solved = rgm_slice(s.solved, 0, n);
  newton job = {f, r, &s};
  rgm_predict p = {
      .out = s.p,
      .x = spread(r->x, n),
      .beta = rgm_slice(r->beta, 0, n),
      .rows = spread(s.places, n),
      .logistic = true,
  };
  p.rows.dims[1] = r->n;
  begin(&job, n);
  bool any = true;
  for (int step = 0; step < STEPS && any; step++) {
    rgm_predict_rows(f->stream, &p);
    rgm_cpu_parallel(f->stream, n, weigh_task, &job);
    rgm_gram(f->stream, s.gram, spread(r->products, n), s.p);
    rgm_gram(f->stream, s.step, spread(r->x, n), s.right);
    rgm_cholesky(f->stream, s.gram, s.step, s.solved);
    any = move(&job, n, step);
  }
  for (int64_t at = 0; at < n * L; at++) {
    uint32_t *status = (uint32_t *)r->status.data + at;
    *status = *status == ADR_MOVING ? RGM_FIT_SEPARATED : *status;
  }
}
