// SPDX-License-Identifier: Apache-2.0
// Rows of experience: the ring that they go to and batches are drawn from, scaling, joining, and
// the norm of gradients.

#include "kernels/cpu/cpu.h"
#include "kernels/rng.h"

#include <string.h>

typedef struct replay_args {
  const rgm_ring *to;
  const rgm_tensor *rows;
  rgm_tensor keep, active;
} replay_args;


static void replay_append_task(void *arg, int64_t r) {
  const replay_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const uint32_t capacity = (uint32_t)a->to->column[0].dims[1];
  uint32_t head = rgm_u32(a->to->head, r)[0], added = 0;
  for (int64_t m = 0; m < a->rows[0].dims[1]; m++) {
    if (a->keep.data != NULL && rgm_f32(a->keep, r)[m] == 0.0f) {
      continue;
    }
    for (int k = 0; k < a->to->columns; k++) {
      const int64_t width = a->rows[k].dims[2];
      memcpy(rgm_f32(a->to->column[k], r) + head * width, rgm_f32(a->rows[k], r) + m * width,
             (size_t)width * sizeof(float));
    }
    head = head + 1 < capacity ? head + 1 : 0;
    added++;
  }
  const uint32_t count = rgm_u32(a->to->count, r)[0];
  rgm_u32(a->to->head, r)[0] = head;
  rgm_u32(a->to->count, r)[0] = capacity - count > added ? count + added : capacity;
}


void RGM_CPU(replay_append)(rgm_stream *s, const rgm_ring *to, const rgm_tensor *rows,
                            rgm_tensor keep, rgm_tensor active) {
  replay_args a = {to, rows, keep, active};
  rgm_cpu_parallel(s, rows[0].dims[0], replay_append_task, &a);
}


enum { DRAWN = 64 }; // rows of a batch that are drawn, asked for, and then copied

typedef struct gather_args {
  rgm_gather gather;
  int64_t blocks; // of a replica
} gather_args;


static uint32_t item_of(const rgm_gather *a, const rgm_ring *ring, int64_t r, int64_t row) {
  const uint32_t count = rgm_u32(ring->count, r)[0];
  if (a->given || count == 0) {
    return a->given ? rgm_u32(a->items, r)[row] : 0;
  }
  const rgm_key key = rgm_stream_key(rgm_u32(a->seeds, r), a->random);
  return rgm_below(key, rgm_u32(a->clock, r)[0], (uint32_t)row, a->member, count);
}


// Rows lie anywhere in a ring: all of a block are asked for before the first is copied.
static void replay_gather_task(void *arg, int64_t index) {
  const rgm_gather *a = &((const gather_args *)arg)->gather;
  const int64_t blocks = ((const gather_args *)arg)->blocks, r = index / blocks;
  const int64_t rows = a->row[0].dims[1], begin = index % blocks * DRAWN;
  const int64_t end = rows - begin < DRAWN ? rows : begin + DRAWN;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t share = a->other != NULL ? (int64_t)rgm_u32(a->share, r)[0] : rows;
  uint32_t item[DRAWN];
  for (int64_t b = begin; b < end; b++) {
    const rgm_ring *ring = b < share ? a->from : a->other;
    item[b - begin] = item_of(a, ring, r, b);
    for (int k = 0; k < a->from->columns; k++) {
      __builtin_prefetch(rgm_f32(ring->column[k], r) + item[b - begin] * a->row[k].dims[2]);
    }
  }
  for (int k = 0; k < a->from->columns; k++) {
    const int64_t width = a->row[k].dims[2];
    for (int64_t b = begin; b < end; b++) {
      const rgm_ring *ring = b < share ? a->from : a->other;
      float *to = rgm_f32(a->row[k], r) + b * width;
      if (item[b - begin] < rgm_u32(ring->count, r)[0]) {
        memcpy(to, rgm_f32(ring->column[k], r) + item[b - begin] * width,
               (size_t)width * sizeof *to);
        continue;
      }
      for (int64_t i = 0; i < width; i++) {
        to[i] = rgm_from_bits(0x7fc00000u);
      }
    }
  }
  if (a->items.data != NULL && !a->given) {
    memcpy(rgm_u32(a->items, r) + begin, item, (size_t)(end - begin) * sizeof *item);
  }
}


void RGM_CPU(replay_gather)(rgm_stream *s, const rgm_gather *gather) {
  gather_args a = {*gather, (gather->row[0].dims[1] + DRAWN - 1) / DRAWN};
  rgm_cpu_parallel(s, gather->row[0].dims[0] * a.blocks, replay_gather_task, &a);
}


// ---- scaling and joining -----------------------------------------------------------------------

typedef struct scale_args {
  rgm_tensor y, x, mean, sd;
  bool inverse;
} scale_args;


static void normalise_task(void *arg, int64_t r) {
  const scale_args *a = arg;
  const float *x = rgm_f32(a->x, r), *mean = rgm_f32(a->mean, r), *sd = rgm_f32(a->sd, r);
  const int64_t rows = a->x.dims[1], width = a->x.dims[2];
  float *y = rgm_f32(a->y, r);
  for (int64_t b = 0; b < rows; b++) {
    for (int64_t i = 0; i < width; i++) {
      const float from = x[b * width + i];
      y[b * width + i] = a->inverse ? rgm_fma(from, sd[i], mean[i]) : (from - mean[i]) / sd[i];
    }
  }
}


void RGM_CPU(normalise)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor mean, rgm_tensor sd,
                        bool inverse) {
  scale_args a = {y, x, mean, sd, inverse};
  rgm_cpu_parallel(s, x.dims[0], normalise_task, &a);
}


typedef struct concat_args {
  rgm_tensor x, state, action;
  int classes;
} concat_args;


static void concat_task(void *arg, int64_t r) {
  const concat_args *a = arg;
  const int64_t rows = a->x.dims[1], width = a->x.dims[2], states = a->state.dims[2];
  const int64_t each = rows / a->state.dims[1], dims = a->action.dims[2];
  for (int64_t m = 0; m < rows; m++) {
    const float *state = rgm_f32(a->state, r) + m / each * states;
    const float *action = rgm_f32(a->action, r) + m * dims;
    float *x = rgm_f32(a->x, r) + m * width;
    memcpy(x, state, (size_t)states * sizeof *x);
    for (int64_t i = 0; i < width - states; i++) {
      x[states + i] = a->classes == 0 ? action[i] : action[0] == (float)i ? 1.0f : 0.0f;
    }
  }
}


void RGM_CPU(concat)(rgm_stream *s, rgm_tensor x, rgm_tensor state, rgm_tensor action,
                     int classes) {
  concat_args a = {x, state, action, classes};
  rgm_cpu_parallel(s, x.dims[0], concat_task, &a);
}


// ---- gradients ---------------------------------------------------------------------------------

typedef struct clip_args {
  rgm_tensor g, norm, limit, active;
} clip_args;


static void clip_norm_task(void *arg, int64_t r) {
  const clip_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t n = rgm_elements(a->g) / a->g.dims[0];
  const float limit = rgm_f32(a->limit, r)[0];
  float *g = rgm_f32(a->g, r);
  const float norm = rgm_sqrt(rgm_cpu_sum(g, n, true));
  const float factor = limit / norm;
  for (int64_t i = 0; i < n && norm > limit; i++) {
    g[i] = factor * g[i];
  }
  rgm_f32(a->norm, r)[0] = norm;
}


void RGM_CPU(clip_norm)(rgm_stream *s, rgm_tensor g, rgm_tensor norm, rgm_tensor limit,
                        rgm_tensor active) {
  clip_args a = {g, norm, limit, active};
  rgm_cpu_parallel(s, g.dims[0], clip_norm_task, &a);
}
