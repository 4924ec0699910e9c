// SPDX-License-Identifier: Apache-2.0
// Learned models of the world: rows to the elites that are drawn for them and back, a step of the
// model, appraisal on held-out rows, decay of weights. A unit of parallel work is some rows of a
// replica.

#include "kernels/cpu/cpu.h"
#include "kernels/model.h"

#include <string.h>

enum {
  ROWS = 64,    // rows of a batch in a unit of work
  PART = 32,    // outputs that are computed at a time
  PIECE = 8192, // parameters of a unit
};


// ---- rows to elites ----------------------------------------------------------------------------

typedef struct route_args {
  rgm_tensor x, from;
  const rgm_routing *routing;
  int64_t pieces; // of a replica
} route_args;


static uint32_t shift_of(const rgm_routing *t, int64_t r, int64_t group, int64_t elites) {
  const rgm_key key = rgm_stream_key(rgm_u32(t->seeds, r), t->random);
  return rgm_elite_shift(key, rgm_u32(t->clock, r)[0], (uint32_t)group, t->member,
                         (uint32_t)elites);
}


static void route_task(void *arg, int64_t index) {
  const route_args *a = arg;
  const int64_t r = index / a->pieces, begin = index % a->pieces * ROWS;
  const int64_t elites = a->x.dims[1], places = a->x.dims[2], width = a->x.dims[3];
  const int64_t rows = a->from.dims[1], end = begin + ROWS < places ? begin + ROWS : places;
  for (int64_t group = begin; group < end; group++) {
    const uint32_t shift = shift_of(a->routing, r, group, elites);
    for (int64_t e = 0; e < elites; e++) {
      const int64_t b = rgm_row_of(e, group, shift, elites);
      float *x = rgm_f32(a->x, r) + (e * places + group) * width;
      if (b < rows) {
        memcpy(x, rgm_f32(a->from, r) + b * width, (size_t)width * sizeof *x);
      } else {
        memset(x, 0, (size_t)width * sizeof *x);
      }
    }
  }
}


void RGM_CPU(route)(rgm_stream *s, rgm_tensor x, rgm_tensor from, const rgm_routing *routing) {
  route_args a = {x, from, routing, (x.dims[2] + ROWS - 1) / ROWS};
  rgm_cpu_parallel(s, x.dims[0] * a.pieces, route_task, &a);
}


// ---- a step of the model -----------------------------------------------------------------------

typedef struct model_args {
  rgm_model_step step;
  int64_t pieces;
} model_args;


// outputs `first` to `first` + `count` of row b, in units of the data
static void model_part(const rgm_model_step *a, int64_t r, int64_t b, const float *head,
                       const float *bounds, int64_t first, int64_t count, float *out) {
  const int64_t outputs = a->bounds.dims[3];
  const float *mean = rgm_f32(a->scale, r), *sd = mean + outputs;
  const float *max = bounds, *min = bounds + outputs;
  const rgm_key key = rgm_stream_key(rgm_u32(a->routing.seeds, r), a->routing.random);
  float noise[PART] = {0};
  for (int64_t i = 0; i < count && !a->quiet; i += 4) {
    rgm_model_noise(key, rgm_u32(a->routing.clock, r)[0], (uint32_t)b, (uint32_t)((first + i) / 4),
                    a->routing.member, noise + i);
  }
  _Pragma("GCC ivdep") for (int64_t i = 0; i < count; i++) {
    const int64_t k = first + i;
    out[i] = rgm_model_output(head[k], head[outputs + k], max[k], min[k], noise[i], sd[k], mean[k]);
  }
}


// what outputs `first` ... of row b make of its state; returns whether that lies outside the box
static bool model_move(const rgm_model_step *a, int64_t r, int64_t b, int64_t first, int64_t count,
                       const float *out) {
  const int64_t states = a->state.dims[2], outputs = states + 1;
  const float *state = rgm_f32(a->state, r) + b * states, *hold = rgm_f32(a->hold, r);
  const float *low = rgm_f32(a->range, r), *high = low + outputs;
  const float *box = a->box.data != NULL ? rgm_f32(a->box, r) : NULL;
  float *next = rgm_f32(a->next, r) + b * states;
  bool left = false;
  for (int64_t i = 0; i < count; i++) {
    const int64_t k = first + i;
    if (k == states) {
      rgm_f32(a->reward, r)[b] = rgm_within(out[i], low[k], high[k]);
      continue;
    }
    const float to = hold[k] != 0.0f ? state[k] : state[k] + out[i];
    left = left || (box != NULL && (to < box[k] || to > box[states + k]));
    next[k] = hold[k] != 0.0f ? to : rgm_within(to, low[k], high[k]);
  }
  return left;
}


static void model_row(const rgm_model_step *a, int64_t r, int64_t b, uint32_t shift) {
  const int64_t elites = a->head.dims[1], places = a->head.dims[2], columns = a->head.dims[3];
  const int64_t outputs = a->bounds.dims[3], e = rgm_elite_of(b, shift, elites);
  const bool all = a->kind != RGM_DOUBT_NONE;
  const float *heads = rgm_f32(a->head, r), *bounds = rgm_f32(a->bounds, r);
  const float *head = heads + (e * places + (all ? b : b / elites)) * columns;
  float out[PART];
  bool left = false;
  for (int64_t first = 0; first < outputs; first += PART) {
    const int64_t count = outputs - first < PART ? outputs - first : PART;
    model_part(a, r, b, head, bounds + 2 * e * outputs, first, count, out);
    left = model_move(a, r, b, first, count, out) || left;
  }
  float *alive = rgm_f32(a->alive, r) + b, doubt = 0.0f;
  rgm_f32(a->keep, r)[b] = *alive;
  rgm_f32(a->terminated, r)[b] = left ? 1.0f : 0.0f;
  *alive = left ? 0.0f : *alive;
  if (all) {
    doubt = rgm_doubt_of(heads + b * columns, places * columns, bounds, rgm_f32(a->hold, r),
                         (int)elites, (int)outputs, a->kind);
    float *reward = rgm_f32(a->reward, r) + b;
    *reward = rgm_fma(-rgm_f32(a->weight, r)[0], doubt, *reward);
  }
  if (a->doubt.data != NULL) {
    rgm_f32(a->doubt, r)[b] = doubt;
  }
}


static void model_task(void *arg, int64_t index) {
  const model_args *m = arg;
  const rgm_model_step *a = &m->step;
  const int64_t r = index / m->pieces, elites = a->head.dims[1], rows = a->state.dims[1];
  const int64_t begin = index % m->pieces * ROWS;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  uint32_t shift = 0;
  for (int64_t b = begin; b < rows && b < begin + ROWS; b++) {
    if (b == begin || b % elites == 0) {
      shift = shift_of(&a->routing, r, b / elites, elites);
    }
    model_row(a, r, b, shift);
  }
}


void RGM_CPU(model)(rgm_stream *s, const rgm_model_step *step) {
  model_args a = {*step, (step->state.dims[1] + ROWS - 1) / ROWS};
  rgm_cpu_parallel(s, step->state.dims[0] * a.pieces, model_task, &a);
}


// ---- appraisal ---------------------------------------------------------------------------------

static void appraise_task(void *arg, int64_t r) {
  const rgm_appraisal *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t chunks = a->error.dims[1], nets = a->error.dims[2], outputs = a->error.dims[3];
  float *best = rgm_f32(a->best, r), *loss = rgm_f32(a->loss, r), *idle = rgm_f32(a->idle, r);
  uint32_t *improved = rgm_u32(a->improved, r), *elites = rgm_u32(a->elites, r), any = 0;
  for (int64_t n = 0; n < nets; n++) {
    loss[n] = rgm_holdout_of(rgm_f32(a->error, r) + n * outputs, chunks, nets * outputs, outputs,
                             a->rows, a->chunk);
    improved[n] = rgm_improved(loss[n], best[n], rgm_f32(a->margin, r)[0]) ? 1 : 0;
    best[n] = improved[n] != 0 ? loss[n] : best[n];
    any |= improved[n];
  }
  idle[0] = any != 0 ? 0.0f : idle[0] + 1.0f;
  for (int64_t n = 0; n < nets; n++) {
    const uint32_t place = rgm_place_of(best, nets, n);
    if (place < (uint32_t)a->elites.dims[1]) {
      elites[place] = (uint32_t)n;
    }
  }
}


void RGM_CPU(appraise)(rgm_stream *s, const rgm_appraisal *appraisal) {
  rgm_appraisal a = *appraisal;
  rgm_cpu_parallel(s, a.error.dims[0], appraise_task, &a);
}


// ---- parameters --------------------------------------------------------------------------------

typedef struct weight_args {
  rgm_tensor to, from, rate, flag;
  int64_t pieces;
  uint32_t number;
} weight_args;


static int64_t pieces_of(rgm_tensor t) {
  return (rgm_elements(t) / t.dims[0] + PIECE - 1) / PIECE;
}


// parameters of unit `index` from *begin on: how many; its replica is *r
static int64_t piece_of(const weight_args *a, int64_t index, int64_t *r, int64_t *begin) {
  const int64_t all = rgm_elements(a->to) / a->to.dims[0];
  *r = index / a->pieces;
  *begin = index % a->pieces * PIECE;
  return all - *begin < PIECE ? all - *begin : PIECE;
}


static void decay_task(void *arg, int64_t index) {
  const weight_args *a = arg;
  int64_t r, begin;
  const int64_t n = piece_of(a, index, &r, &begin);
  if (rgm_u32(a->flag, r)[0] == 0) {
    return;
  }
  float *g = rgm_f32(a->to, r) + begin;
  const float *p = rgm_f32(a->from, r) + begin, rate = rgm_f32(a->rate, r)[0];
  _Pragma("GCC ivdep") for (int64_t i = 0; i < n; i++) {
    g[i] = rgm_fma(rate, p[i], g[i]);
  }
}


void RGM_CPU(decay_weights)(rgm_stream *s, rgm_tensor g, rgm_tensor p, rgm_tensor rate,
                            rgm_tensor active) {
  weight_args a = {.to = g, .from = p, .rate = rate, .flag = active, .pieces = pieces_of(g)};
  rgm_cpu_parallel(s, g.dims[0] * a.pieces, decay_task, &a);
}


static void adopt_task(void *arg, int64_t index) {
  const weight_args *a = arg;
  int64_t r, begin;
  const int64_t n = piece_of(a, index, &r, &begin);
  if (rgm_u32(a->flag, r)[0] == a->number) {
    memcpy(rgm_f32(a->to, r) + begin, rgm_f32(a->from, r) + begin, (size_t)n * sizeof(float));
  }
}


void RGM_CPU(adopt)(rgm_stream *s, rgm_tensor to, rgm_tensor from, rgm_tensor chosen,
                    uint32_t number) {
  weight_args a = {
      .to = to, .from = from, .flag = chosen, .pieces = pieces_of(to), .number = number};
  rgm_cpu_parallel(s, to.dims[0] * a.pieces, adopt_task, &a);
}
