// SPDX-License-Identifier: Apache-2.0
// What an ensemble consists of: its keys checked, its tensors named, what it learns from and is
// judged by put on the device, its slices. See ensemble.h.

#include "algorithms/ensemble.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const rgm_ensemble_activations[] = {"relu", "tanh", NULL};
const char *const rgm_ensemble_bootstraps[] = {"none", "row", "patient", NULL};

static const rgm_act activations[] = {RGM_RELU, RGM_TANH};

enum {
  BOOTSTRAP_NONE,
  BOOTSTRAP_ROW,
  BOOTSTRAP_PATIENT,
  DRAW_RESAMPLE = 0x2000, // members of the draws of resamples, those of inits, from here on
  DRAW_WEIGHTS = 0x1000,
};


static const rgm_ensemble_keys *keys_of(const rgm_run *run, size_t offset, int64_t r) {
  return (const void *)((const uint8_t *)rgm_algorithm_keys(run, r) + offset);
}


// whether a transition is one to learn from, or to be judged by: what follows is known
static bool is_of(const rgm_transitions *t, int64_t i, rgm_split part) {
  return t->known[i] != 0 && t->split[i] == part;
}


static int64_t count_of(const rgm_transitions *t, rgm_split part) {
  int64_t count = 0;
  for (int64_t i = 0; i < t->rows; i++) {
    count += is_of(t, i, part) ? 1 : 0;
  }
  return count;
}


rgm_status rgm_ensemble_check(const rgm_run *run, size_t offset) {
  const rgm_ensemble_keys *k = keys_of(run, offset, 0);
  const rgm_transitions *t = run->transitions;
  if (k->elites > k->nets) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.dynamics_elites: %lld of %lld nets cannot be elite",
                    rgm_config_where(run->config, "algorithm.dynamics_elites"),
                    (long long)k->elites, (long long)k->nets);
  }
  if (k->hidden.count >= RGM_MAX_LAYERS) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.dynamics_hidden: %d layers at most",
                    rgm_config_where(run->config, "algorithm.dynamics_hidden"), RGM_MAX_LAYERS - 1);
  }
  if (!t->has_reward) {
    return rgm_fail(RGM_EDATA, "%s: no column of role reward: a model cannot learn rewards",
                    t->path);
  }
  if (count_of(t, RGM_TRAIN) == 0 || count_of(t, RGM_VALIDATION) == 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: no %s rows with a known next state: a model learns from the former and is "
                    "judged by the latter; set data.validation, or use more patients",
                    t->path, count_of(t, RGM_TRAIN) == 0 ? "training" : "validation");
  }
  return RGM_OK;
}


// ---- planning ----------------------------------------------------------------------------------

// one copy for all replicas, which no checkpoint holds
static rgm_tensor plan_shared(rgm_run *run, const char *name, rgm_dtype dtype, int64_t rows,
                              int64_t width) {
  rgm_tensor t =
      rgm_plan(run->arena, name, dtype, RGM_BLOCK, "one, row, ...", "", 1, rows, width, 0);
  rgm_tensor all = rgm_view(t.data, dtype, run->replicas, rows, width, 0);
  all.stride0 = 0;
  return all;
}


// one number for all replicas
static rgm_tensor plan_constant(rgm_run *run, const char *name) {
  return plan_shared(run, name, RGM_F32, 0, 0);
}


static rgm_tensor plan_state(rgm_run *run, const char *name, rgm_dtype dtype, unsigned flags,
                             const char *axes, int64_t d1, int64_t d2, int64_t d3) {
  return rgm_plan(run->arena, name, dtype, RGM_STATE | flags, axes, "1", run->replicas, d1, d2, d3);
}


// parameters that only copies go to: the best of each net, and the elite
static void plan_copies(rgm_run *run, rgm_ensemble *e) {
  const rgm_mlp *net = &e->nets.net[0];
  char name[64];
  for (int n = 0; n < e->nets.count; n++) {
    snprintf(name, sizeof name, "dynamics/best/%d", n);
    e->best[n] = rgm_plan_mlp(run->arena, name, run->replicas, net->layers, net->width, RGM_STATE);
  }
  e->elite = (rgm_nets){.count = (int)e->keys.elites, .act = e->nets.act};
  for (int i = 0; i < e->elite.count; i++) {
    snprintf(name, sizeof name, "dynamics/elite/%d", i);
    e->elite.net[i] = rgm_plan_mlp(run->arena, name, run->replicas, net->layers, net->width,
                                   RGM_STATE | RGM_EXPORTED);
  }
}


// what a replica has of its own
static void plan_owned(rgm_run *run, rgm_ensemble *e) {
  static const char *const bounds = "replica, net, side, output";
  const int64_t N = e->keys.nets, E = e->keys.elites, K = e->outputs;
  const unsigned shown = RGM_EXPORTED;
  e->bounds = plan_state(run, "dynamics/bounds/value", RGM_F32, 0, bounds, N, 2, K);
  e->bounds_m = plan_state(run, "dynamics/bounds/m", RGM_F32, 0, bounds, N, 2, K);
  e->bounds_v = plan_state(run, "dynamics/bounds/v", RGM_F32, 0, bounds, N, 2, K);
  e->bounds_updates = plan_state(run, "dynamics/bounds/updates", RGM_U32, 0, "replica", 0, 0, 0);
  e->best_bounds = plan_state(run, "dynamics/best/bounds", RGM_F32, 0, bounds, N, 2, K);
  e->elite_bounds = plan_state(run, "dynamics/elite/bounds", RGM_F32, shown, bounds, E, 2, K);
  e->input_mean =
      plan_state(run, "dynamics/input/mean", RGM_F32, shown, "replica, input", e->inputs, 0, 0);
  e->input_sd =
      plan_state(run, "dynamics/input/sd", RGM_F32, shown, "replica, input", e->inputs, 0, 0);
  e->scale = plan_state(run, "dynamics/output/scale", RGM_F32, shown, "replica, mean or sd, output",
                        2, K, 0);
  e->range = plan_state(run, "dynamics/output/range", RGM_F32, shown,
                        "replica, low or high, output", 2, K, 0);
  e->hold = plan_state(run, "dynamics/hold", RGM_F32, shown, "replica, state", e->states, 0, 0);
  e->best_loss = plan_state(run, "dynamics/best/loss", RGM_F32, 0, "replica, net", N, 0, 0);
  e->idle = plan_state(run, "dynamics/idle", RGM_F32, 0, "replica", 0, 0, 0);
  e->elites = plan_state(run, "dynamics/elites", RGM_U32, 0, "replica, elite", E, 0, 0);
  e->training = plan_state(run, "dynamics/training", RGM_U32, 0, "replica", 0, 0, 0);
  const size_t at = e->offset;
  e->lr = rgm_plan_hyper(run, "dynamics_lr", at + offsetof(rgm_ensemble_keys, lr));
  e->penalty = rgm_plan_hyper(run, "dynamics_bounds", at + offsetof(rgm_ensemble_keys, bounds));
  e->margin = rgm_plan_hyper(run, "dynamics_margin", at + offsetof(rgm_ensemble_keys, margin));
  e->patience =
      rgm_plan_hyper(run, "dynamics_patience", at + offsetof(rgm_ensemble_keys, patience));
  e->decay = rgm_plan(run->arena, "dynamics/decay", RGM_F32, RGM_BLOCK, "replica, layer", "1",
                      run->replicas, e->nets.net[0].layers, 0, 0);
}


// the data's share
static void plan_data(rgm_run *run, rgm_ensemble *e) {
  const int64_t I = e->inputs, K = e->outputs, H = e->held + e->tested;
  e->train = (rgm_ring){.columns = 2};
  e->train.column[0] = plan_shared(run, "dynamics/train/x", RGM_F32, e->rows, I);
  e->train.column[1] = plan_shared(run, "dynamics/train/t", RGM_F32, e->rows, K);
  e->train.head = plan_shared(run, "dynamics/train/head", RGM_U32, 0, 0);
  e->train.count = plan_shared(run, "dynamics/train/count", RGM_U32, 0, 0);
  e->held_x = plan_shared(run, "dynamics/held/x", RGM_F32, H, I);
  e->held_t = plan_shared(run, "dynamics/held/t", RGM_F32, H, K);
  if (e->keys.bootstrap != BOOTSTRAP_NONE) {
    e->resample =
        rgm_plan(run->arena, "dynamics/resample", RGM_F32, RGM_BLOCK,
                 "replica, net, row, number as bits", "", run->replicas, e->keys.nets, e->rows, 1);
  }
}


static rgm_tensor plan_work(rgm_run *run, const char *name, int64_t d0, int64_t d1, int64_t d2,
                            int64_t d3) {
  return rgm_plan(run->arena, name, RGM_F32, RGM_SCRATCH, "in group, ...", "1", d0, d1, d2, d3);
}


static void plan_group(rgm_run *run, rgm_ensemble *e) {
  const int64_t R = run->replicas, G = rgm_group(run->stream, R), N = e->keys.nets;
  const int64_t B = e->keys.batch, K = e->outputs;
  e->loss =
      rgm_plan(run->arena, "dynamics/loss", RGM_F32, RGM_BLOCK, "replica, net", "1", R, N, 0, 0);
  e->improved =
      rgm_plan(run->arena, "dynamics/improved", RGM_U32, RGM_BLOCK, "replica, net", "", R, N, 0, 0);
  e->error = rgm_plan(run->arena, "dynamics/error", RGM_F32, RGM_BLOCK,
                      "replica, chunk, net, output", "1", R, (e->held + B - 1) / B, N, K);
  e->x = plan_work(run, "dynamics/batch/x", G, N, B, e->inputs);
  e->t = plan_work(run, "dynamics/batch/t", G, N, B, K);
  e->items = plan_work(run, "dynamics/batch/items", G, B, 1, 0);
  e->dhead = plan_work(run, "dynamics/dhead", G, N, B, rgm_padded(2 * K));
  e->dbounds = plan_work(run, "dynamics/dbounds", G, N, 2, K);
  e->pass = rgm_plan_pass(run->arena, "dynamics/pass", G, &e->nets, B, true);
  e->elite_pass = rgm_plan_pass(run->arena, "dynamics/elite_pass", G, &e->elite, B, false);
}


void rgm_ensemble_plan(rgm_run *run, rgm_ensemble *e, size_t offset) {
  const rgm_transitions *t = run->transitions;
  const rgm_ensemble_keys *k = keys_of(run, offset, 0);
  const int64_t held = count_of(t, RGM_VALIDATION), tested = count_of(t, RGM_TEST);
  e->keys = *k;
  e->offset = offset;
  e->states = t->states;
  e->dims = t->actions;
  e->choices = (int)t->choices;
  e->inputs = t->states + (t->choices > 0 ? t->choices : t->actions);
  e->outputs = t->states + 1;
  e->rows = count_of(t, RGM_TRAIN);
  e->held = held < k->holdout ? held : k->holdout;
  e->tested = tested < k->holdout ? tested : k->holdout;
  e->updates = k->epoch > 0 ? k->epoch : (e->rows + k->batch - 1) / k->batch;
  e->nets = rgm_plan_nets(run->arena, "dynamics/net", run->replicas, (int)k->nets, e->inputs,
                          &k->hidden, 2 * e->outputs, activations[k->activation], RGM_STATE, 0);
  plan_copies(run, e);
  plan_owned(run, e);
  plan_data(run, e);
  plan_group(run, e);
  e->beta1 = plan_constant(run, "dynamics/beta1");
  e->beta2 = plan_constant(run, "dynamics/beta2");
  e->eps = plan_constant(run, "dynamics/eps");
  e->seeds = run->seeds;
}


// ---- the data on the device --------------------------------------------------------------------

// What is standardised by what: means and sds of inputs and outputs, and ranges of the latter.
typedef struct figures {
  float *input_mean, *input_sd; // (I)
  float *scale, *range;         // (2, K)
  float *hold;                  // (S)
  float *memory;                // that they lie in
} figures;


// output k of transition i, in its unit
static double output_of(const rgm_transitions *t, int64_t i, int64_t k) {
  const int64_t at = i * t->states + k;
  return k < t->states ? (double)t->next[at] - (double)t->obs[at] : (double)t->reward[i];
}


static void measure_outputs(const rgm_ensemble *e, const rgm_transitions *t, figures *f) {
  const int64_t K = e->outputs;
  for (int64_t k = 0; k < K; k++) {
    double sum = 0.0, squares = 0.0, low = INFINITY, high = -INFINITY;
    for (int pass = 0; pass < 2; pass++) {
      for (int64_t i = 0; i < t->rows; i++) {
        if (!is_of(t, i, RGM_TRAIN)) {
          continue;
        }
        const double x = output_of(t, i, k), apart = x - sum / (double)e->rows;
        sum += pass == 0 ? x : 0.0;
        squares += pass == 1 ? apart * apart : 0.0;
        low = x < low ? x : low;
        high = x > high ? x : high;
      }
    }
    const double sd = sqrt(squares / (double)e->rows);
    const bool flat = !(sd > 1e-12 * (fabs(low) + fabs(high))); // rounding of a constant, no spread
    f->scale[k] = (float)(sum / (double)e->rows);
    f->scale[K + k] = flat ? 1.0f : (float)sd;
    f->range[k] = (float)(k < t->states ? t->state[k].low : low);
    f->range[K + k] = (float)(k < t->states ? t->state[k].high : high);
  }
}


static rgm_status make_figures(const rgm_ensemble *e, const rgm_transitions *t, figures *f) {
  const int64_t I = e->inputs, K = e->outputs, S = e->states;
  f->memory = malloc((size_t)(2 * I + 4 * K + S) * sizeof *f->memory);
  if (f->memory == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its figures", t->path);
  }
  f->input_mean = f->memory;
  f->input_sd = f->input_mean + I;
  f->scale = f->input_sd + I;
  f->range = f->scale + 2 * K;
  f->hold = f->range + 2 * K;
  for (int64_t i = 0; i < I; i++) {
    const bool act = i >= S && e->choices == 0;
    f->input_mean[i] = i < S ? t->mean[i] : act ? (float)t->act[i - S].mean : 0.0f;
    f->input_sd[i] = i < S ? t->sd[i] : act ? (float)t->act[i - S].sd : 1.0f;
  }
  for (int64_t k = 0; k < S; k++) {
    f->hold[k] = t->state[k].fixed ? 1.0f : 0.0f;
  }
  measure_outputs(e, t, f);
  return RGM_OK;
}


// standardised inputs and targets of transition i
static void standardise(const rgm_ensemble *e, const rgm_transitions *t, const figures *f,
                        int64_t i, float *x, float *target) {
  for (int64_t k = 0; k < e->inputs; k++) {
    const int64_t d = k - e->states;
    float value;
    if (d < 0) {
      value = t->obs[i * e->states + k];
    } else if (e->choices > 0) {
      value = t->action[i] == (float)d ? 1.0f : 0.0f;
    } else {
      value = t->action[i * e->dims + d];
    }
    x[k] = (value - f->input_mean[k]) / f->input_sd[k];
  }
  for (int64_t k = 0; k < e->outputs; k++) {
    target[k] =
        (float)((output_of(t, i, k) - (double)f->scale[k]) / (double)f->scale[e->outputs + k]);
  }
}


// `wanted` rows of a part, evenly spread over all `count` of them, to tensors from row `at` on
static rgm_status put_part(rgm_run *run, const rgm_ensemble *e, const figures *f, rgm_split part,
                           int64_t count, int64_t wanted, rgm_tensor x, rgm_tensor target,
                           int64_t at) {
  const rgm_transitions *t = run->transitions;
  const int64_t I = e->inputs, K = e->outputs;
  float *rows = malloc((size_t)(wanted * (I + K) + 1) * sizeof *rows), *targets = rows + wanted * I;
  if (rows == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its rows", t->path);
  }
  int64_t seen = 0, to = 0;
  for (int64_t i = 0; i < t->rows && to < wanted; i++) {
    if (!is_of(t, i, part)) {
      continue;
    }
    if (seen == to * count / wanted) {
      standardise(e, t, f, i, rows + to * I, targets + to * K);
      to++;
    }
    seen++;
  }
  RGM_ASSERT(to == wanted);
  rgm_copy(run->stream, (float *)x.data + at * I, rows, (size_t)(wanted * I) * sizeof *rows);
  rgm_copy(run->stream, (float *)target.data + at * K, targets,
           (size_t)(wanted * K) * sizeof *rows);
  const rgm_status status = rgm_sync(run->stream);
  free(rows);
  return status;
}


static rgm_status put_data(rgm_run *run, const rgm_ensemble *e, const figures *f) {
  const rgm_transitions *t = run->transitions;
  const uint32_t head = 0, count = (uint32_t)e->rows;
  RGM_TRY(
      put_part(run, e, f, RGM_TRAIN, e->rows, e->rows, e->train.column[0], e->train.column[1], 0));
  RGM_TRY(put_part(run, e, f, RGM_VALIDATION, count_of(t, RGM_VALIDATION), e->held, e->held_x,
                   e->held_t, 0));
  RGM_TRY(put_part(run, e, f, RGM_TEST, count_of(t, RGM_TEST), e->tested, e->held_x, e->held_t,
                   e->held));
  rgm_copy(run->stream, e->train.head.data, &head, sizeof head);
  rgm_copy(run->stream, e->train.count.data, &count, sizeof count);
  return rgm_sync(run->stream);
}


// ---- resamples ---------------------------------------------------------------------------------

// The training rows by patient: those of patient p are sorted[first[p]] up to the next one's; row
// numbers are the ring's.
typedef struct patients {
  int64_t count, *first;
  struct patient_row {
    int64_t patient;
    uint32_t row;
  } * sorted;
} patients;


static int by_patient(const void *a_, const void *b_) {
  const struct patient_row *a = a_, *b = b_;
  return a->patient != b->patient ? (a->patient < b->patient ? -1 : 1)
                                  : (a->row < b->row ? -1 : a->row > b->row);
}


static void free_patients(patients *p) {
  free(p->first);
  free(p->sorted);
}


static rgm_status find_patients(const rgm_ensemble *e, const rgm_transitions *t, patients *p) {
  p->first = malloc((size_t)(e->rows + 1) * sizeof *p->first);
  p->sorted = malloc((size_t)e->rows * sizeof *p->sorted);
  if (p->first == NULL || p->sorted == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its patients", t->path);
  }
  uint32_t row = 0;
  for (int64_t i = 0; i < t->rows; i++) {
    if (is_of(t, i, RGM_TRAIN)) {
      p->sorted[row] = (struct patient_row){t->patient[i], row};
      row++;
    }
  }
  qsort(p->sorted, row, sizeof *p->sorted, by_patient);
  for (uint32_t i = 0; i < row; i++) {
    if (i == 0 || p->sorted[i].patient != p->sorted[i - 1].patient) {
      p->first[p->count++] = i;
    }
  }
  p->first[p->count] = row;
  return RGM_OK;
}


// as many rows as there are, drawn with replacement: each by itself, or a patient's together, the
// last patient's cut off
static void resample_net(const rgm_ensemble *e, const patients *p, rgm_key key, uint32_t net,
                         uint32_t *rows) {
  const uint32_t member = DRAW_RESAMPLE + net, count = (uint32_t)e->rows;
  uint32_t to = 0;
  for (uint32_t draw = 0; to < count; draw++) {
    if (e->keys.bootstrap == BOOTSTRAP_ROW) {
      rows[to++] = rgm_below(key, 0, draw, member, count);
      continue;
    }
    const uint32_t patient = rgm_below(key, 0, draw, member, (uint32_t)p->count);
    for (int64_t i = p->first[patient]; i < p->first[patient + 1] && to < count; i++) {
      rows[to++] = p->sorted[i].row;
    }
  }
}


static rgm_status put_resamples(rgm_run *run, const rgm_ensemble *e) {
  patients p = {0};
  uint32_t *rows = malloc((size_t)e->rows * sizeof *rows);
  rgm_status status = rows != NULL ? find_patients(e, run->transitions, &p)
                                   : rgm_fail(RGM_EMEMORY, "no memory for resamples");
  for (int64_t i = 0; i < run->replicas * e->keys.nets && status == RGM_OK; i++) {
    const uint64_t seed = (uint64_t)rgm_run_seed(run, i / e->keys.nets);
    const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    resample_net(e, &p, rgm_stream_key(words, RGM_RANDOM_REPLAY), (uint32_t)(i % e->keys.nets),
                 rows);
    rgm_copy(run->stream, (float *)e->resample.data + i * e->rows, rows,
             (size_t)e->rows * sizeof *rows);
    status = rgm_sync(run->stream);
  }
  free_patients(&p);
  free(rows);
  return status;
}


// ---- filling -----------------------------------------------------------------------------------

// bounds of log-variances as they start, no loss yet, everybody learns
static rgm_status put_start(rgm_run *run, const rgm_ensemble *e) {
  const int64_t N = e->keys.nets, K = e->outputs, R = run->replicas;
  const int layers = e->nets.net[0].layers;
  float *start = malloc((size_t)(N * 2 * K + N) * sizeof *start), *worst = start + N * 2 * K;
  float *decay = malloc((size_t)(R * layers) * sizeof *decay);
  rgm_status status =
      start != NULL && decay != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory to start");
  const uint32_t one = 1;
  for (int64_t i = 0; i < N * 2 * K && status == RGM_OK; i++) {
    start[i] = i / K % 2 == 0 ? 0.5f : -10.0f;
  }
  for (int64_t n = 0; n < N && status == RGM_OK; n++) {
    worst[n] = 0x1.fffffep127f; // the largest number, which any loss improves on
  }
  for (int64_t i = 0; i < R * layers && status == RGM_OK; i++) {
    const rgm_list *list = &keys_of(run, e->offset, i / layers)->decay;
    const int at = (int)(i % layers), last = list->count - 1;
    decay[i] = last < 0 ? 0.0f : (float)list->value[at < last ? at : last];
  }
  if (status == RGM_OK) {
    rgm_copy(run->stream, e->decay.data, decay, rgm_bytes(e->decay));
    status = rgm_put_rows(run, e->bounds, start);
  }
  if (status == RGM_OK) {
    status = rgm_put_rows(run, e->best_loss, worst);
  }
  if (status == RGM_OK) {
    status = rgm_put_rows(run, e->training, &one);
  }
  free(start);
  free(decay);
  return status;
}


rgm_status rgm_ensemble_init(rgm_run *run, rgm_ensemble *e) {
  static const float beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f;
  uint32_t member = DRAW_WEIGHTS;
  figures f = {0};
  rgm_nets_init(run, &e->nets, 0.0f, &member);
  rgm_copy(run->stream, e->beta1.data, &beta1, sizeof beta1);
  rgm_copy(run->stream, e->beta2.data, &beta2, sizeof beta2);
  rgm_copy(run->stream, e->eps.data, &eps, sizeof eps);
  RGM_TRY(put_start(run, e));
  if (e->keys.bootstrap != BOOTSTRAP_NONE) {
    RGM_TRY(put_resamples(run, e));
  }
  rgm_status status = make_figures(e, run->transitions, &f);
  const struct {
    rgm_tensor to;
    const float *from;
  } rows[] = {{e->input_mean, f.input_mean},
              {e->input_sd, f.input_sd},
              {e->scale, f.scale},
              {e->range, f.range},
              {e->hold, f.hold}};
  for (int i = 0; i < 5 && status == RGM_OK; i++) {
    status = rgm_put_rows(run, rows[i].to, rows[i].from);
  }
  if (status == RGM_OK) {
    status = put_data(run, e, &f);
  }
  free(f.memory);
  return status;
}


// ---- slices ------------------------------------------------------------------------------------

void rgm_slice_ensemble(const rgm_ensemble *whole, int64_t first, int64_t count,
                        rgm_ensemble *out) {
  rgm_ensemble *e = out;
  memcpy(e, whole, offsetof(rgm_ensemble, nets));
  rgm_tensor *const own[] = {&e->bounds,      &e->bounds_m,     &e->bounds_v,   &e->bounds_updates,
                             &e->best_bounds, &e->elite_bounds, &e->input_mean, &e->input_sd,
                             &e->scale,       &e->range,        &e->hold,       &e->best_loss,
                             &e->idle,        &e->elites,       &e->training,   &e->lr,
                             &e->penalty,     &e->margin,       &e->patience,   &e->decay,
                             &e->beta1,       &e->beta2,        &e->eps,        &e->seeds,
                             &e->held_x,      &e->held_t,       &e->train.head, &e->train.count,
                             &e->loss,        &e->improved,     &e->error,      &e->resample};
  rgm_tensor *const work[] = {&e->x, &e->t, &e->items, &e->dhead, &e->dbounds};
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
    *own[i] = rgm_slice_optional(*own[i], first, count);
  }
  for (size_t i = 0; i < sizeof work / sizeof *work; i++) {
    *work[i] = rgm_slice(*work[i], 0, count);
  }
  e->train.column[0] = rgm_slice(e->train.column[0], first, count);
  e->train.column[1] = rgm_slice(e->train.column[1], first, count);
  rgm_slice_nets(&whole->nets, first, count, &e->nets);
  rgm_slice_nets(&whole->elite, first, count, &e->elite);
  for (int n = 0; n < e->nets.count; n++) {
    e->best[n] = whole->best[n];
    e->best[n].block = rgm_slice(e->best[n].block, first, count);
  }
  e->pass = rgm_slice_pass(e->pass, 0, count);
  e->elite_pass = rgm_slice_pass(e->elite_pass, 0, count);
}


// ---- an ensemble that is there -----------------------------------------------------------------

static rgm_status read_run(const char *path, rgm_checkpoint **out) {
  char newest[1024];
  const size_t length = strlen(path);
  *out = NULL;
  if (length > 3 && strcmp(path + length - 3, ".h5") == 0) {
    return rgm_checkpoint_read(path, out);
  }
  RGM_TRY(rgm_checkpoint_newest(path, NULL, newest, sizeof newest, out));
  return *out != NULL
             ? RGM_OK
             : rgm_fail(RGM_ECONFIG, "algorithm.dynamics: %s holds no checkpoint: train it first",
                        path);
}


// whether what was loaded standardises as this run's training rows do
static rgm_status compare_figures(rgm_run *run, const rgm_ensemble *e, const float *before,
                                  float *after, const char *path) {
  const size_t bytes = rgm_bytes(e->scale);
  RGM_TRY(rgm_read_back(run, e->scale, after));
  return memcmp(before, after, bytes) == 0
             ? RGM_OK
             : rgm_fail(RGM_ECONFIG,
                        "algorithm.dynamics: %s learned from other rows: data.path, data.seed, "
                        "data.validation and data.test must be as they are there",
                        path);
}


rgm_status rgm_ensemble_load(rgm_run *run, rgm_ensemble *e, const char *path) {
  rgm_checkpoint *checkpoint;
  const size_t bytes = rgm_bytes(e->scale);
  RGM_TRY(read_run(path, &checkpoint));
  float *before = malloc(2 * bytes);
  rgm_status status = before != NULL ? rgm_read_back(run, e->scale, before)
                                     : rgm_fail(RGM_EMEMORY, "no memory to compare figures");
  if (status == RGM_OK) {
    status = rgm_run_take_weights(run, checkpoint, "dynamics/", "algorithm.dynamics");
  }
  if (status == RGM_OK) {
    status = compare_figures(run, e, before, (float *)(void *)((uint8_t *)before + bytes), path);
  }
  rgm_fill(run->stream, e->training, 0);
  free(before);
  rgm_checkpoint_free(checkpoint);
  return status == RGM_OK ? rgm_sync(run->stream) : status;
}
