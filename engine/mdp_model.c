// SPDX-License-Identifier: Apache-2.0
// Models without data, straight into the layout of the kernels, so that a problem as large as the
// memory needs no second copy: every state has so many actions and every action so many successors,
// near ones or any, with random probabilities and rewards.

#include "engine/mdp.h"
#include "kernels/rng.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 1 << 21 };

typedef struct making {
  const rgm_mdp_model *model;
  const rgm_mdp_rows *rows;
  rgm_key key;
} making;


// Successor k of row i: its state, and a weight from 1 to 65536.
static void successor(const making *g, int64_t row, int64_t k, int64_t *next, uint32_t *weight) {
  const rgm_mdp_model *m = g->model;
  const rgm_words w = rgm_philox(g->key, (uint32_t)row, (uint32_t)(row >> 32), (uint32_t)k / 2, 0);
  const uint32_t where = k % 2 == 0 ? w.w0 : w.w2, how = k % 2 == 0 ? w.w1 : w.w3;
  const int64_t s = row / m->actions, width = m->spread > 0 ? 2 * m->spread + 1 : m->states;
  int64_t to = (int64_t)((uint64_t)where * (uint64_t)width >> 32);
  to = m->spread > 0 ? s + to - m->spread : to;
  // beyond the ends it comes back
  to = to < 0 ? -to : to >= m->states ? 2 * (m->states - 1) - to : to;
  *next = to;
  *weight = (how >> 16) + 1;
}


static void make_row(const making *g, int64_t row, size_t at) {
  const rgm_mdp_model *m = g->model;
  const int64_t home = row / m->actions;
  int64_t next[RGM_MODEL_SUCCESSORS];
  uint32_t weight[RGM_MODEL_SUCCESSORS];
  uint64_t sum = 0;
  for (int64_t k = 0; k < m->successors; k++) {
    successor(g, row, k, &next[k], &weight[k]);
    sum += weight[k];
  }
  uint32_t left = RGM_MDP_UNIT;
  for (int64_t k = m->successors - 1; k >= 0; k--) {
    const size_t to = at + RGM_SLICE * (size_t)k;
    if (m->compact) {
      const uint32_t part = (uint32_t)((uint64_t)weight[k] * RGM_MDP_UNIT / sum);
      const uint32_t own = k > 0 ? part : left; // the first has what rounding left
      left -= part;
      ((uint32_t *)g->rows->p.data)[to] = own | (uint32_t)(int32_t)(next[k] - home) << 16;
    } else {
      ((double *)g->rows->p.data)[to] = (double)weight[k] / (double)sum;
      ((int32_t *)g->rows->next.data)[to] = (int32_t)next[k];
    }
  }
}


// Block b of the states, with its reward: uniform in [0, 1) by philox, draw 2^31.
static void make_block(void *arg, int64_t b) {
  const making *g = arg;
  const rgm_mdp_model *m = g->model;
  const rgm_mdp_rows *to = g->rows;
  const int64_t begin = b * RGM_BLOCK_STATES;
  const int64_t end = begin + RGM_BLOCK_STATES < m->states ? begin + RGM_BLOCK_STATES : m->states;
  const int64_t rows = (end - begin) * m->actions;
  const int64_t slice = b * (RGM_BLOCK_STATES * m->actions / RGM_SLICE);
  ((uint32_t *)to->block.data)[b] = (uint32_t)begin;
  ((uint32_t *)to->slice.data)[b] = (uint32_t)slice;
  for (int64_t s = begin; s < end; s++) {
    ((uint32_t *)to->first.data)[s] = (uint32_t)(s * m->actions);
  }
  for (int64_t i = 0; i < (rows + RGM_SLICE - 1) / RGM_SLICE * RGM_SLICE; i++) {
    const int64_t row = begin * m->actions + i, n = slice + i / RGM_SLICE;
    const size_t at = RGM_SLICE * (size_t)(n * m->successors) + (size_t)(i % RGM_SLICE);
    ((int32_t *)to->lane.data)[RGM_SLICE * n + i % RGM_SLICE] =
        i < rows ? (int32_t)i : (int32_t)RGM_MDP_LANE;
    if (m->compact) {
      ((int32_t *)to->home.data)[RGM_SLICE * n + i % RGM_SLICE] =
          i < rows ? (int32_t)(row / m->actions) : (int32_t)begin;
    }
    ((uint32_t *)to->start.data)[n] = (uint32_t)(n * m->successors);
    ((uint32_t *)to->length.data)[n] = (uint32_t)m->successors;
    if (i < rows) {
      const rgm_words w = rgm_philox(g->key, (uint32_t)row, (uint32_t)(row >> 32), 0x80000000u, 0);
      ((double *)to->reward.data)[row] = rgm_unit64(w.w0);
      make_row(g, row, at);
    }
  }
}


static rgm_tensor piece(char **at, rgm_dtype dtype, int64_t count, bool vector) {
  rgm_tensor t =
      vector ? rgm_view(*at, dtype, count, 0, 0, 0) : rgm_view(*at, dtype, 1, count, 0, 0);
  t.stride0 = 0;
  *at += ((size_t)count * rgm_dtype_size(dtype) + 63) / 64 * 64;
  return t;
}


rgm_status rgm_mdp_make_model(const rgm_mdp_model *m, rgm_stream *stream, rgm_mdp_layout *out) {
  *out = (rgm_mdp_layout){.memory = NULL};
  RGM_ASSERT(m->successors > 0 && m->successors <= RGM_MODEL_SUCCESSORS && m->states > 1);
  RGM_ASSERT(m->actions * RGM_BLOCK_STATES <= RGM_BLOCK_ROWS && m->spread < INT16_MAX);
  RGM_ASSERT(!m->compact || m->spread > 0);
  const int64_t blocks = (m->states + RGM_BLOCK_STATES - 1) / RGM_BLOCK_STATES;
  const int64_t each = RGM_BLOCK_STATES * m->actions / RGM_SLICE;
  const int64_t last = (m->states - (blocks - 1) * RGM_BLOCK_STATES) * m->actions;
  const int64_t slices = (blocks - 1) * each + (last + RGM_SLICE - 1) / RGM_SLICE;
  const int64_t entries = RGM_SLICE * slices * m->successors, rows = m->states * m->actions;
  const size_t entry = m->compact ? 4 : 12;
  const size_t bytes = (size_t)entries * entry + (size_t)slices * (8 + RGM_SLICE * 8) +
                       (size_t)rows * 8 + (size_t)m->states * 4 + (size_t)blocks * 8 + 4096;
  const size_t room = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  out->memory = aligned_alloc(HUGE_PAGE, room);
  if (out->memory == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %.1f GiB of a model", (double)bytes / 0x1p30);
  }
#ifdef MADV_HUGEPAGE
  (void)madvise(out->memory, room, MADV_HUGEPAGE);
#endif
  char *at = out->memory;
  rgm_mdp_rows *to = &out->rows;
  to->p = piece(&at, m->compact ? RGM_U32 : RGM_F64, entries, false);
  if (!m->compact) {
    to->next = piece(&at, RGM_I32, entries, false);
  } else {
    to->home = piece(&at, RGM_I32, RGM_SLICE * slices, false);
  }
  to->reward = piece(&at, RGM_F64, rows, false);
  to->lane = piece(&at, RGM_I32, RGM_SLICE * slices, false);
  to->length = piece(&at, RGM_U32, slices, false);
  to->first = piece(&at, RGM_U32, m->states + 1, true);
  to->start = piece(&at, RGM_U32, slices + 1, true);
  to->block = piece(&at, RGM_U32, blocks + 1, true);
  to->slice = piece(&at, RGM_U32, blocks + 1, true);
  to->scale = m->compact ? 1.0 / RGM_MDP_UNIT : 1.0;
  RGM_ASSERT((size_t)(at - (char *)out->memory) <= room);
  const uint32_t seed[2] = {(uint32_t)m->seed, (uint32_t)(m->seed >> 32)};
  making g = {m, to, rgm_stream_key(seed, RGM_RANDOM_INIT)};
  rgm_cpu_parallel(stream, blocks, make_block, &g);
  ((uint32_t *)to->first.data)[m->states] = (uint32_t)rows;
  ((uint32_t *)to->start.data)[slices] = (uint32_t)(slices * m->successors);
  ((uint32_t *)to->block.data)[blocks] = (uint32_t)m->states;
  ((uint32_t *)to->slice.data)[blocks] = (uint32_t)slices;
  return RGM_OK;
}
