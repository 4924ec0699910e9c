// SPDX-License-Identifier: Apache-2.0
// The nuisance models of the advantage, cross-fitted, sixteen resamples in lanes: propensities by
// logistic regression; outcomes of those who start now, outcomes of those who might have started
// next (weighed by 1 / e of the next stage) and deaths by regressions or by forests.

#include "algorithms/adr.h"
#include "kernels/scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// A block of memory that is freed with the fits.
typedef struct adr_block {
  struct adr_block *next;
  double space[];
} adr_block;


static void *take(adr_fits *f, size_t bytes) {
  adr_block *block = calloc(1, sizeof *block + bytes);
  if (block == NULL) {
    return NULL;
  }
  block->next = f->memory;
  f->memory = block;
  return block->space;
}


static rgm_status make(adr_fits *f, rgm_dtype dtype, int64_t d0, int64_t d1, int64_t d2,
                       rgm_tensor *out) {
  *out = rgm_view(NULL, dtype, d0, d1, d2, 0);
  out->data = take(f, rgm_bytes(*out));
  return out->data != NULL ? RGM_OK
                           : rgm_fail(RGM_EMEMORY, "no memory for the designs of nuisance models");
}


// numbers of group g
static uint32_t *words(rgm_tensor t, int64_t g) {
  return (uint32_t *)t.data + g * t.stride0;
}


// one slice for n groups
static rgm_tensor spread(rgm_tensor t, int64_t n) {
  t.dims[0] = n;
  t.stride0 = 0;
  return t;
}


// ---- designs -----------------------------------------------------------------------------------

// rows of a design in the order of `rows`
static rgm_status gather(adr_fits *f, const ope_design *from, rgm_tensor rows, rgm_tensor *out) {
  const int64_t n = rows.dims[1], columns = from->columns;
  RGM_TRY(make(f, RGM_F64, 1, n, columns, out));
  for (int64_t i = 0; i < n; i++) {
    memcpy((double *)out->data + i * columns, from->x + words(rows, 0)[i] * columns,
           (size_t)columns * sizeof(double));
  }
  return RGM_OK;
}


// (1, n, P) column by column, as least squares and Newton's method take it
static rgm_status turn(adr_fits *f, rgm_tensor x, rgm_tensor *out) {
  const int64_t n = x.dims[1], columns = x.dims[2];
  RGM_TRY(make(f, RGM_F64, 1, columns, n, out));
  for (int64_t i = 0; i < n * columns; i++) {
    ((double *)out->data)[i % columns * n + i / columns] = ((const double *)x.data)[i];
  }
  return RGM_OK;
}


static rgm_status find_rows(adr_fits *f, const uint8_t *used, rgm_tensor *out) {
  const int64_t N = f->d->N;
  int64_t n = 0;
  for (int64_t i = 0; i < N; i++) {
    n += used[i];
  }
  *out = (rgm_tensor){0};
  if (n == 0) {
    return RGM_OK;
  }
  RGM_TRY(make(f, RGM_U32, 1, n, 0, out));
  n = 0;
  for (int64_t i = 0; i < N; i++) {
    if (used[i]) {
      words(*out, 0)[n++] = (uint32_t)i;
    }
  }
  return RGM_OK;
}


static rgm_status make_regression(adr_fits *f, const ope_design *design, const uint8_t *used,
                                  const double *label, adr_regression *r) {
  const int64_t columns = design->columns;
  RGM_TRY(find_rows(f, used, &r->rows));
  r->n = r->rows.data != NULL ? r->rows.dims[1] : 0;
  if (r->n == 0) {
    return RGM_OK;
  }
  RGM_TRY(gather(f, design, r->rows, &r->x));
  RGM_TRY(turn(f, r->x, &r->by_column));
  RGM_TRY(make(f, RGM_F64, 1, r->n, 0, &r->label));
  for (int64_t i = 0; i < r->n; i++) {
    ((double *)r->label.data)[i] = label[words(r->rows, 0)[i]];
  }
  RGM_TRY(make(f, RGM_F64, 1, columns, 0, &r->start));
  RGM_TRY(make(f, RGM_F64, f->groups, columns, RGM_FIT_LANES, &r->beta));
  RGM_TRY(make(f, RGM_U32, f->groups, RGM_FIT_LANES, 0, &r->status));
  return make(f, RGM_U32, f->groups, RGM_FIT_LANES, 0, &r->steps);
}


// Which rows a model of the stage is fitted on: those of other folds who ...
enum { USED_E, USED_MU, USED_U, USED_RHO, USED_HELD };

static bool is_used(const ope_data *d, int which, int fold, int k, int64_t i) {
  const int64_t N = d->N, at = k * N + i;
  const bool open = k == 0 || !d->a[at - N], last = k == d->K - 1;
  if ((d->fold[i] == fold) != (which == USED_HELD) || !open) {
    return false;
  }
  switch (which) {
  case USED_E: // ... might start; as published the newly dead are untreated
    return d->keys->rows == COMPAT_PUBLISHED ? k == 0 || d->alive[at - N] : d->alive[at];
  case USED_MU: // ... start
    return d->alive[at] && d->a[at];
  case USED_U: // ... start next, for those who might have; at the end, who do not start
    return !d->a[at] && (last ? d->alive[at] : d->alive[at + N] && d->a[at + N]);
  case USED_RHO: // ... do not start, and may die
    return !last && d->alive[at] && !d->a[at];
  default:
    return d->alive[at];
  }
}


static rgm_status make_stage(adr_fits *f, int fold, int k, uint8_t *used, double *label) {
  const ope_data *d = f->d;
  const int64_t N = d->N;
  adr_stage *s = &f->stage[fold][k];
  adr_regression *const of[] = {&s->e, &s->mu, &s->u, &s->rho};
  for (int which = USED_E; which <= USED_HELD; which++) {
    for (int64_t i = 0; i < N; i++) {
      used[i] = is_used(d, which, fold, k, i);
      // of least squares: all count as treated, whose weight is 1 / e
      label[i] = which == USED_E                     ? d->a[k * N + i]
                 : which == USED_RHO && k + 1 < d->K ? !d->alive[(k + 1) * N + i]
                                                     : 1.0;
    }
    if (which == USED_HELD) {
      RGM_TRY(find_rows(f, used, &s->held));
    } else {
      RGM_TRY(make_regression(f, which == USED_E ? &d->e[k] : &d->mu[k], used, label, of[which]));
    }
    if (which == USED_RHO && s->rho.n > 0) {
      const int64_t columns = s->rho.x.dims[2];
      RGM_TRY(make(f, RGM_F64, 1, s->rho.n, columns * (columns + 1) / 2, &s->rho.products));
      rgm_products(f->stream, s->rho.products, s->rho.x);
    }
  }
  if (s->e.n == 0 || s->mu.n == 0 || s->u.n == 0) {
    return rgm_fail(RGM_ENUMERIC, "%s: stage %d: fold %d: nobody outside it %s: take fewer folds",
                    d->path, k + 1, fold + 1, s->mu.n == 0 ? "starts" : "waits and starts next");
  }
  if (k + 1 < d->K) {
    RGM_TRY(gather(f, &d->e[k + 1], s->u.rows, &s->weigher));
    RGM_TRY(turn(f, s->weigher, &s->weigher_by_column));
  }
  if (s->held.data != NULL) {
    RGM_TRY(gather(f, &d->e[k], s->held, &s->held_e));
    RGM_TRY(gather(f, &d->mu[k], s->held, &s->held_mu));
  }
  return RGM_OK;
}


// scratch for the largest model of deaths
static rgm_status make_newton(adr_fits *f) {
  const int64_t G = f->groups;
  int64_t rows = 0, columns = 0;
  adr_newton *s = &f->newton;
  for (int at = 0; at < (int)f->d->keys->folds * f->d->K; at++) {
    const adr_regression *r = &f->stage[at / f->d->K][at % f->d->K].rho;
    rows = r->n > rows ? r->n : rows;
    columns = r->n > 0 && r->x.dims[2] > columns ? r->x.dims[2] : columns;
  }
  if (rows == 0) {
    return RGM_OK;
  }
  RGM_TRY(make(f, RGM_F64, G, rows, RGM_FIT_LANES, &s->p));
  RGM_TRY(make(f, RGM_F64, G, rows, RGM_FIT_LANES, &s->right));
  RGM_TRY(make(f, RGM_F64, G, columns * (columns + 1) / 2, RGM_FIT_LANES, &s->gram));
  RGM_TRY(make(f, RGM_F64, G, columns, RGM_FIT_LANES, &s->step));
  RGM_TRY(make(f, RGM_U32, G, RGM_FIT_LANES, 0, &s->solved));
  RGM_TRY(make(f, RGM_U32, 1, rows, 0, &s->places));
  for (int64_t i = 0; i < rows; i++) {
    words(s->places, 0)[i] = (uint32_t)i;
  }
  s->before = take(f, (size_t)(G * RGM_FIT_LANES) * sizeof *s->before);
  return s->before != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for nuisance models");
}


static rgm_status make_all(adr_fits *f) {
  const ope_data *d = f->d;
  const int64_t N = d->N;
  RGM_TRY(make(f, RGM_U8, f->groups, N, RGM_FIT_LANES, &f->counts));
  f->y = rgm_view(d->y, RGM_F64, 1, N, 1, 0);
  f->stage = take(f, (size_t)d->keys->folds * sizeof *f->stage);
  f->lost = take(f, 2 * (size_t)(f->groups * RGM_FIT_LANES) * sizeof *f->lost);
  f->separated = f->lost + f->groups * RGM_FIT_LANES;
  uint8_t *used = take(f, (size_t)N);
  double *label = take(f, (size_t)N * sizeof *label);
  if (f->stage == NULL || f->lost == NULL || used == NULL || label == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for nuisance models");
  }
  for (int k = 0; k < d->K; k++) {
    rgm_tensor *of[] = {&f->of[k].e, &f->of[k].mu, &f->of[k].u, &f->of[k].rho};
    for (int j = 0; j < 4; j++) {
      RGM_TRY(make(f, RGM_F64, f->groups, N, RGM_FIT_LANES, of[j]));
    }
    if (d->keys->nuisance == NUISANCE_FOREST) {
      RGM_TRY(forest_bin(d->mu[k].x, N, d->mu[k].columns, 1, d->alive + k * N, d->keys->bins,
                         &f->bins[k]));
    }
    for (int fold = 0; fold < (int)d->keys->folds; fold++) {
      RGM_TRY(make_stage(f, fold, k, used, label));
    }
  }
  return make_newton(f);
}


// ---- fits --------------------------------------------------------------------------------------

static void fit_propensity(adr_fits *f, adr_regression *r, int64_t n) {
  const rgm_irls irls = {
      .beta = rgm_slice(r->beta, 0, n),
      .status = rgm_slice(r->status, 0, n),
      .steps = rgm_slice(r->steps, 0, n),
      .x = spread(r->by_column, n),
      .label = spread(r->label, n),
      .rows = spread(r->rows, n),
      .counts = rgm_slice(f->counts, 0, n),
      .start = spread(r->start, n),
  };
  rgm_irls_fit(f->stream, &irls);
}


// least squares of the outcome, weighed by 1 / e where there is an `e` with x, column by column
static void fit_linear(adr_fits *f, adr_regression *r, const adr_regression *e, rgm_tensor x,
                       int64_t n) {
  const rgm_wls wls = {
      .coef = rgm_slice(r->beta, 0, n),
      .status = rgm_slice(r->status, 0, n),
      .z = spread(r->by_column, n),
      .y = spread(f->y, n),
      .rows = spread(r->rows, n),
      .counts = rgm_slice(f->counts, 0, n),
      .x = e != NULL ? spread(x, n) : (rgm_tensor){0},
      .beta = e != NULL ? rgm_slice(e->beta, 0, n) : (rgm_tensor){0},
      .label = spread(r->label, n),
      .weighting = e != NULL ? RGM_WEIGHT_INVERSE : RGM_WEIGHT_NONE,
      .first = r->x.dims[2],
      .cap = INFINITY,
  };
  rgm_wls_fit(f->stream, &wls);
}


static void predict(adr_fits *f, const adr_regression *r, rgm_tensor x, rgm_tensor rows,
                    bool logistic, int64_t n, rgm_tensor out) {
  const rgm_predict p = {
      .out = rgm_slice(out, 0, n),
      .x = spread(x, n),
      .beta = rgm_slice(r->beta, 0, n),
      .rows = spread(rows, n),
      .logistic = logistic,
  };
  rgm_predict_rows(f->stream, &p);
}


// propensities: coefficients stay where Newton's method left them, unless nobody starts
static void look_at_propensity(adr_fits *f, const adr_regression *r, int64_t n) {
  for (int64_t at = 0; at < n * RGM_FIT_LANES; at++) {
    const uint32_t status = ((const uint32_t *)r->status.data)[at];
    f->lost[at] |= status == RGM_FIT_EMPTY;
    f->separated[at] += status == RGM_FIT_SEPARATED || status == RGM_FIT_SINGULAR;
  }
}


// deaths: nobody is expected to die where nobody did
static void look_at_deaths(adr_fits *f, const adr_stage *s, int k, int64_t n) {
  const adr_regression *r = &s->rho;
  for (int64_t at = 0; at < n * RGM_FIT_LANES; at++) {
    const int64_t g = at / RGM_FIT_LANES, lane = at % RGM_FIT_LANES;
    const uint32_t status = words(r->status, g)[lane];
    const uint8_t *counts = (const uint8_t *)f->counts.data + g * f->counts.stride0;
    int64_t deaths = 0;
    f->separated[at] += status == RGM_FIT_SEPARATED || status == RGM_FIT_SINGULAR;
    for (int64_t i = 0; i < r->n && status == RGM_FIT_EMPTY; i++) {
      const int64_t row = words(r->rows, 0)[i];
      deaths += ((const double *)r->label.data)[i] != 0 ? counts[row * RGM_FIT_LANES + lane] : 0;
    }
    double *rho = (double *)f->of[k].rho.data + g * f->of[k].rho.stride0 + lane;
    for (int64_t i = 0; status == RGM_FIT_EMPTY && s->held.data != NULL && i < s->held.dims[1];
         i++) {
      rho[(int64_t)words(s->held, 0)[i] * RGM_FIT_LANES] = deaths > 0 ? 1.0 : 0.0;
    }
  }
}


// least squares whose columns repeat each other in a resample: without those that do, as in R
static void rescue(adr_fits *f, adr_regression *r, const adr_regression *e, rgm_tensor x,
                   int64_t n) {
  const int64_t q = r->x.dims[2], p = e != NULL ? e->x.dims[2] : 0;
  for (int64_t at = 0; at < n * RGM_FIT_LANES; at++) {
    const int64_t g = at / RGM_FIT_LANES, lane = at % RGM_FIT_LANES;
    const uint8_t *counts = (const uint8_t *)f->counts.data + g * f->counts.stride0;
    if (((const uint32_t *)r->status.data)[at] == RGM_FIT_DONE) {
      continue;
    }
    double beta[RGM_FORMULA_COLUMNS], *weight = malloc(2 * (size_t)r->n * sizeof *weight);
    for (int64_t i = 0; i < r->n && weight != NULL; i++) {
      const int64_t row = words(r->rows, 0)[i];
      double eta = 0.0;
      for (int64_t j = 0; j < p; j++) {
        eta += ((const double *)x.data)[i * p + j] *
               ((const double *)e->beta.data)[(g * p + j) * RGM_FIT_LANES + lane];
      }
      weight[i] = counts[row * RGM_FIT_LANES + lane];
      weight[i] /= e != NULL ? rgm_sigmoid64(eta) : 1.0;
      weight[r->n + i] = f->d->y[row];
    }
    if (weight == NULL || !ope_linear(r->x.data, r->n, (int)q, weight + r->n, weight, beta)) {
      f->lost[at] = 1;
    }
    for (int64_t j = 0; j < q && weight != NULL; j++) {
      ((double *)r->beta.data)[(g * q + j) * RGM_FIT_LANES + lane] = beta[j];
    }
    free(weight);
  }
}


static void fit_propensities(adr_fits *f, adr_stage *stage, int64_t n) {
  for (int k = 0; k < f->d->K; k++) {
    adr_stage *s = &stage[k];
    fit_propensity(f, &s->e, n);
    look_at_propensity(f, &s->e, n);
    if (s->held.data != NULL) {
      predict(f, &s->e, s->held_e, s->held, true, n, f->of[k].e);
    }
  }
}


static void fit_outcomes(adr_fits *f, adr_stage *stage, int64_t n) {
  const int K = f->d->K;
  for (int k = 0; k < K; k++) {
    adr_stage *s = &stage[k];
    const adr_regression *next = k + 1 < K ? &stage[k + 1].e : NULL;
    fit_linear(f, &s->mu, NULL, s->mu.by_column, n);
    rescue(f, &s->mu, NULL, s->mu.x, n);
    fit_linear(f, &s->u, next, s->weigher_by_column, n);
    rescue(f, &s->u, next, s->weigher, n);
    if (s->rho.n > 0) {
      adr_fit_deaths(f, &s->rho, &f->newton, n);
    }
    if (s->held.data != NULL) {
      predict(f, &s->mu, s->held_mu, s->held, false, n, f->of[k].mu);
      predict(f, &s->u, s->held_mu, s->held, false, n, f->of[k].u);
    }
    if (s->held.data != NULL && s->rho.n > 0) {
      predict(f, &s->rho, s->held_mu, s->held, true, n, f->of[k].rho);
      look_at_deaths(f, s, k, n);
    }
  }
}


// ---- resamples ---------------------------------------------------------------------------------

typedef struct drawing {
  adr_fits *f;
  int64_t first;
} drawing;


static void draw_task(void *arg, int64_t at) {
  const drawing *job = arg;
  const adr_fits *f = job->f;
  const int64_t g = at / RGM_FIT_LANES, lane = at % RGM_FIT_LANES;
  // the sample fills all lanes of its group
  const int64_t resample = job->first > 0 ? job->first + at : 0;
  f->separated[at] = 0;
  f->lost[at] = !ope_draw(f->d, f->seed, resample,
                          (uint8_t *)f->counts.data + g * f->counts.stride0 + lane, RGM_FIT_LANES);
}


void adr_fit(adr_fits *f, int64_t first, int64_t n) {
  drawing job = {f, first};
  rgm_cpu_parallel(f->stream, n * RGM_FIT_LANES, draw_task, &job);
  for (int fold = 0; fold < (int)f->d->keys->folds; fold++) {
    fit_propensities(f, f->stage[fold], n);
    if (f->d->keys->nuisance == NUISANCE_LINEAR) {
      fit_outcomes(f, f->stage[fold], n);
    }
  }
  if (f->d->keys->nuisance == NUISANCE_FOREST) {
    adr_fit_forests(f, first, n);
  }
}


static void start_at_sample(adr_regression *r) {
  const bool done = r->n > 0 && words(r->status, 0)[0] == RGM_FIT_DONE;
  for (int64_t c = 0; done && c < r->x.dims[2]; c++) {
    ((double *)r->start.data)[c] = ((double *)r->beta.data)[c * RGM_FIT_LANES];
  }
}


// ---- propensities alone, for weighted importance sampling --------------------------------------

// all rows teach and are predicted; as published, those who died before stage 2 count as untreated
// there, but not later
static rgm_status make_whole_stage(adr_fits *f, int k, uint8_t *used, double *label) {
  const ope_data *d = f->d;
  const int64_t N = d->N;
  adr_stage *s = &f->stage[0][k];
  for (int held = 0; held < 2; held++) {
    const bool dead_too = held == 0 && d->keys->rows == COMPAT_PUBLISHED && k == 1;
    for (int64_t i = 0; i < N; i++) {
      used[i] = d->alive[(dead_too ? 0 : k) * N + i] && (k == 0 || !d->a[(k - 1) * N + i]);
      label[i] = d->a[k * N + i];
    }
    RGM_TRY(held == 0 ? make_regression(f, &d->e[k], used, label, &s->e)
                      : find_rows(f, used, &s->held));
  }
  return gather(f, &d->e[k], s->held, &s->held_e);
}


rgm_status adr_open_propensities(const ope_data *d, rgm_stream *stream, int64_t seed,
                                 int64_t groups, adr_fits *f) {
  *f = (adr_fits){.d = d, .stream = stream, .groups = groups, .seed = seed};
  RGM_TRY(make(f, RGM_U8, groups, d->N, RGM_FIT_LANES, &f->counts));
  f->stage = take(f, sizeof *f->stage);
  f->lost = take(f, 2 * (size_t)(groups * RGM_FIT_LANES) * sizeof *f->lost);
  uint8_t *used = take(f, (size_t)d->N);
  double *label = take(f, (size_t)d->N * sizeof *label);
  if (f->stage == NULL || f->lost == NULL || used == NULL || label == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for propensities");
  }
  f->separated = f->lost + groups * RGM_FIT_LANES;
  for (int k = 0; k < d->K; k++) {
    RGM_TRY(make(f, RGM_F64, groups, d->N, RGM_FIT_LANES, &f->of[k].e));
    RGM_TRY(make_whole_stage(f, k, used, label));
  }
  adr_fit_propensities(f, 0, 1);
  for (int k = 0; k < d->K; k++) {
    start_at_sample(&f->stage[0][k].e);
  }
  return RGM_OK;
}


void adr_fit_propensities(adr_fits *f, int64_t first, int64_t n) {
  drawing job = {f, first};
  rgm_cpu_parallel(f->stream, n * RGM_FIT_LANES, draw_task, &job);
  fit_propensities(f, f->stage[0], n);
}


// ---- the sample --------------------------------------------------------------------------------

// resamples start where the sample ended
static rgm_status fit_sample(adr_fits *f) {
  const ope_data *d = f->d;
  adr_fit(f, 0, 1);
  if (f->lost[0]) {
    return rgm_fail(RGM_ENUMERIC,
                    "%s: a nuisance model has no fit in a fold: too few starts or "
                    "deaths for its terms; take fewer terms or folds",
                    d->path);
  }
  for (int at = 0; at < (int)d->keys->folds * d->K; at++) {
    adr_stage *s = &f->stage[at / d->K][at % d->K];
    adr_regression *of[] = {&s->e, &s->rho};
    for (int j = 0; j < 2; j++) {
      start_at_sample(of[j]);
    }
  }
  return RGM_OK;
}


rgm_status adr_open(const ope_data *d, rgm_stream *stream, int64_t seed, int64_t groups,
                    adr_fits *f) {
  *f = (adr_fits){.d = d, .stream = stream, .groups = groups, .seed = seed};
  RGM_TRY(make_all(f));
  return fit_sample(f);
}


void adr_close(adr_fits *f) {
  for (int k = 0; k < OPE_STAGES; k++) {
    forest_free(&f->bins[k]);
  }
  for (adr_block *block = f->memory; block != NULL;) {
    adr_block *next = block->next;
    free(block);
    block = next;
  }
  *f = (adr_fits){0};
}
