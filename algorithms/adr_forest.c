// SPDX-License-Identifier: Apache-2.0
// Outcomes and deaths of the advantage by forests. A task is a forest of a lane: its rows, weights
// and random numbers depend on nothing else.

#include "algorithms/adr.h"
#include "kernels/scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { L = RGM_FIT_LANES, MODELS = 3 };

typedef struct planting {
  adr_fits *f;
  int64_t first;
} planting;


// 1 / e of the next stage for u's rows, by this lane's propensity
static void weigh(const adr_fits *f, int fold, int k, int64_t g, int64_t lane, double *weight) {
  const adr_stage *s = &f->stage[fold][k];
  const adr_regression *e = &f->stage[fold][k + 1].e;
  const int64_t p = e->x.dims[2];
  const double *beta = (const double *)e->beta.data + g * p * L + lane;
  for (int64_t i = 0; i < s->u.n; i++) {
    double eta = 0.0;
    for (int64_t j = 0; j < p; j++) {
      eta += ((const double *)s->weigher.data)[i * p + j] * beta[j * L];
    }
    weight[i] = 1.0 / rgm_sigmoid64(eta);
  }
}


// a forest's own random numbers: by table, resample, fold, stage and model
static rgm_key make_key(const adr_fits *f, int64_t resample, int fold, int k, int model) {
  const uint32_t seed[2] = {(uint32_t)f->seed, (uint32_t)((uint64_t)f->seed >> 32)};
  const uint32_t number = (uint32_t)((fold * OPE_STAGES + k) * MODELS + model);
  const rgm_words words = rgm_philox(rgm_stream_key(seed, RGM_RANDOM_FOREST), (uint32_t)f->d->table,
                                     (uint32_t)resample, number, 0);
  return (rgm_key){words.w0, words.w1};
}


static void plant_task(void *arg, int64_t at) {
  const planting *job = arg;
  adr_fits *f = job->f;
  const ope_keys *keys = f->d->keys;
  const int K = f->d->K, model = (int)(at % MODELS), k = (int)(at / MODELS % K);
  const int fold = (int)(at / MODELS / K % keys->folds);
  const int64_t of = at / MODELS / K / keys->folds, g = of / L, lane = of % L;
  const adr_stage *s = &f->stage[fold][k];
  const adr_regression *r = model == 0 ? &s->mu : model == 1 ? &s->u : &s->rho;
  const rgm_tensor to = model == 0 ? f->of[k].mu : model == 1 ? f->of[k].u : f->of[k].rho;
  const int64_t m = s->held.data != NULL ? s->held.dims[1] : 0;
  const uint8_t *counts = (const uint8_t *)f->counts.data + g * f->counts.stride0 + lane;
  if (m == 0 || r->n == 0) {
    return;
  }
  double *memory = malloc((size_t)(2 * r->n + m) * sizeof *memory + (size_t)r->n);
  double *y = memory, *weight = y + r->n, *out = weight + r->n;
  uint8_t *count = (uint8_t *)(out + m);
  const uint32_t *rows = r->rows.data;
  bool good = memory != NULL;
  for (int64_t i = 0; i < r->n && good; i++) {
    y[i] = model == 2 ? ((const double *)r->label.data)[i] : f->d->y[rows[i]];
    count[i] = counts[(int64_t)rows[i] * L];
  }
  const bool weighed = model == 1 && k + 1 < K;
  if (good && weighed) {
    weigh(f, fold, k, g, lane, weight);
  }
  const int features = f->bins[k].features, third = features / 3;
  const int root = (int)sqrt((double)features), usual = model == 2 ? root : third;
  const forest_keys forest = {.trees = keys->trees,
                              .leaf = keys->leaf,
                              .tries = keys->tries > 0 ? keys->tries
                                       : usual > 0     ? usual
                                                       : 1,
                              .share = keys->share};
  const forest_task task = {.data = &f->bins[k],
                            .rows = rows,
                            .n = r->n,
                            .y = y,
                            .weight = weighed ? weight : NULL,
                            .count = count,
                            .held = s->held.data,
                            .m = m,
                            .key =
                                make_key(f, job->first > 0 ? job->first + of : 0, fold, k, model)};
  good = good && forest_predict(&forest, &task, out);
  for (int64_t i = 0; i < m && good; i++) {
    ((double *)to.data)[g * to.stride0 + (int64_t)task.held[i] * L + lane] = out[i];
  }
  if (!good) {
    f->lost[g * L + lane] = 1;
  }
  free(memory);
}


void adr_fit_forests(adr_fits *f, int64_t first, int64_t n) {
  planting job = {f, first};
  // of the sample one lane is enough
  const int64_t lanes = first > 0 ? n * L : 1;
  rgm_cpu_parallel(f->stream, lanes * f->d->keys->folds * f->d->K * MODELS, plant_task, &job);
}
