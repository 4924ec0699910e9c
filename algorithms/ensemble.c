// SPDX-License-Identifier: Apache-2.0
// How an ensemble learns and is judged. See ensemble.h.

#include "algorithms/ensemble.h"

#include <stdlib.h>

enum { DRAW_ROWS = 0x1000 }; // members of row draws from here on; agents' are below

// column c of (R, W), one number for each replica
static rgm_tensor column_of(rgm_tensor t, int64_t c) {
  rgm_tensor column = rgm_view((uint32_t *)t.data + c, t.dtype, t.dims[0], 0, 0, 0);
  column.stride0 = t.stride0;
  return column;
}


// net n of bounds (R, N, 2, K), flat
static rgm_tensor bounds_of(rgm_tensor t, int64_t n) {
  const int64_t size = 2 * t.dims[3];
  rgm_tensor flat = rgm_view((float *)t.data + n * size, RGM_F32, t.dims[0], size, 0, 0);
  flat.stride0 = t.stride0;
  return flat;
}


// ---- an update ---------------------------------------------------------------------------------

// rows for net n: of its resample, where there is one, or of all
static void draw_rows(rgm_stream *s, const rgm_ensemble *e, int n) {
  rgm_gather gather = {
      .row = {rgm_of_net(e->x, n), rgm_of_net(e->t, n)},
      .from = &e->train,
      .seeds = e->seeds,
      .clock = e->nets.updates[n],
      .active = e->training,
      .random = RGM_RANDOM_REPLAY,
      .member = DRAW_ROWS + (uint32_t)n,
  };
  if (e->keys.bootstrap != 0) {
    rgm_ring resample = e->train;
    resample.columns = 1;
    resample.column[0] = rgm_of_net(e->resample, n);
    rgm_gather numbers = gather;
    numbers.row[0] = e->items;
    numbers.from = &resample;
    rgm_replay_gather(s, &numbers);
    gather.items = e->items;
    gather.items.dtype = RGM_U32;
    gather.given = true;
  }
  rgm_replay_gather(s, &gather);
}


// one minibatch for every net of some replicas
static void update(rgm_stream *s, const rgm_ensemble *e) {
  for (int n = 0; n < e->nets.count; n++) {
    draw_rows(s, e, n);
  }
  rgm_forward(s, &e->nets, false, e->x, &e->pass);
  const rgm_nll nll = {
      .dhead = e->dhead,
      .dbounds = e->dbounds,
      .head = e->pass.out,
      .target = e->t,
      .bounds = e->bounds,
      .penalty = e->penalty,
      .active = e->training,
  };
  rgm_gaussian_nll(s, &nll);
  const rgm_descent step = {
      .lr = e->lr,
      .beta1 = e->beta1,
      .beta2 = e->beta2,
      .eps = e->eps,
      .decay = e->decay,
      .active = e->training,
  };
  rgm_backward(s, &e->nets, e->x, &e->pass, e->dhead, (rgm_tensor){0}, &step);
  rgm_adam(s, e->bounds, e->bounds_m, e->bounds_v, e->bounds_updates, e->dbounds, e->lr, e->beta1,
           e->beta2, e->eps, e->training);
}


static void enqueue_update(void *arg, rgm_stream *s) {
  const rgm_ensemble *whole = arg;
  const int64_t R = whole->training.dims[0], G = whole->x.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    rgm_ensemble e;
    rgm_slice_ensemble(whole, first, R - first < G ? R - first : G, &e);
    update(s, &e);
  }
}


// ---- appraisal ---------------------------------------------------------------------------------

// errors of the nets on held-out rows, chunk by chunk
static void measure(rgm_stream *s, const rgm_ensemble *e) {
  const int64_t N = e->nets.count, K = e->outputs, B = e->x.dims[2];
  for (int64_t p = 0; p < e->error.dims[1]; p++) {
    const int64_t left = e->held - p * B, rows = left < B ? left : B;
    const rgm_pass pass = rgm_pass_rows(e->pass, rows);
    rgm_tensor y = rgm_view((float *)e->error.data + p * N * K, RGM_F32, e->error.dims[0], N, K, 0);
    y.stride0 = e->error.stride0;
    rgm_forward(s, &e->nets, false, rgm_rows(e->held_x, p * B, rows), &pass);
    rgm_mse(s, y, pass.out, rgm_rows(e->held_t, p * B, rows));
  }
}


// remembers the nets that improved, and the elite of those that are remembered
static void remember(rgm_stream *s, const rgm_ensemble *e) {
  for (int n = 0; n < e->nets.count; n++) {
    const rgm_tensor improved = column_of(e->improved, n);
    rgm_adopt(s, e->best[n].block, e->nets.net[n].block, improved, 1);
    rgm_adopt(s, bounds_of(e->best_bounds, n), bounds_of(e->bounds, n), improved, 1);
  }
  for (int i = 0; i < e->elite.count; i++) {
    const rgm_tensor chosen = column_of(e->elites, i);
    for (int n = 0; n < e->nets.count; n++) {
      rgm_adopt(s, e->elite.net[i].block, e->best[n].block, chosen, (uint32_t)n);
      rgm_adopt(s, bounds_of(e->elite_bounds, i), bounds_of(e->best_bounds, n), chosen,
                (uint32_t)n);
    }
  }
}


static void enqueue_appraisal(void *arg, rgm_stream *s) {
  const rgm_ensemble *whole = arg;
  const int64_t R = whole->training.dims[0], G = whole->x.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    rgm_ensemble e;
    rgm_slice_ensemble(whole, first, R - first < G ? R - first : G, &e);
    measure(s, &e);
    const rgm_appraisal appraisal = {
        .loss = e.loss,
        .best = e.best_loss,
        .improved = e.improved,
        .idle = e.idle,
        .elites = e.elites,
        .error = e.error,
        .margin = e.margin,
        .active = e.training,
        .rows = e.held,
        .chunk = e.x.dims[2],
    };
    rgm_appraise(s, &appraisal);
    remember(s, &e);
    rgm_retire(s, e.training, e.idle, e.patience);
  }
}


rgm_status rgm_ensemble_epoch(rgm_run *run, rgm_ensemble *e, int slot) {
  uint32_t *training = malloc(rgm_bytes(e->training)), any = 0;
  if (training == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)run->replicas);
  }
  const rgm_status status = rgm_read_back(run, e->training, training);
  for (int64_t r = 0; r < run->replicas; r++) {
    any |= training[r];
  }
  free(training);
  if (status != RGM_OK || any == 0) {
    return status;
  }
  for (int64_t i = 0; i < e->updates; i++) {
    rgm_graph(run->stream, slot, enqueue_update, e);
  }
  rgm_graph(run->stream, slot + 1, enqueue_appraisal, e);
  return rgm_sync(run->stream);
}
