// SPDX-License-Identifier: Apache-2.0
// Front doors of the rows of guided reward learning: check shapes once, count work, dispatch. A
// wrong shape is a bug of the caller: RGM_ASSERT.

#include "kernels/guided.h"
#include "kernels/door.h"


void rgm_draw_windows(rgm_stream *s, const rgm_windows *w) {
  const int64_t replicas = w->items.dims[0];
  RGM_ASSERT(w->items.data != NULL && w->items.dtype == RGM_U32 && w->steps > 0);
  RGM_ASSERT(rgm_elements(w->items) == replicas * w->items.dims[1]);
  RGM_ASSERT(w->items.dims[1] % w->steps == 0);
  RGM_ASSERT(w->list.data == NULL || (w->list.dtype == RGM_U32 && w->list.dims[0] == replicas));
  RGM_ASSERT(is_each(w->count, RGM_U32, replicas) && is_each(w->clock, RGM_U32, replicas));
  RGM_ASSERT(is_vector(w->seeds, RGM_U32, 2 * replicas) && w->seeds.dims[1] == 2);
  RGM_ASSERT(is_each(w->active, RGM_U32, replicas));
  RGM_ASSERT(w->per > 0 && w->block > 0 && w->span > 0 && w->stride > 0);
  LAUNCH(s, windows, 0, size_of(w->items), w);
}


void rgm_guide_reward(rgm_stream *s, const rgm_guide *g) {
  const int64_t replicas = g->reward.dims[0], rows = g->reward.dims[1];
  const int64_t count = rows / g->steps, groups = g->weighing == RGM_WEIGH_PREFIX ? g->steps : 1;
  const bool bent = g->weighing >= RGM_WEIGH_TRUNCATED;
  RGM_ASSERT(is_shape(g->reward, replicas, rows, g->reward.dims[2], 1));
  RGM_ASSERT(same_shape(g->slope, g->reward) && g->slope.data != NULL);
  RGM_ASSERT(rows == count * g->steps && g->experts > 0 && g->experts < count);
  RGM_ASSERT(is_each(g->loss, RGM_F32, replicas) && is_each(g->sample, RGM_F32, replicas));
  RGM_ASSERT(is_shape(g->total, replicas, count, 1, 1));
  RGM_ASSERT(is_shape(g->weight, replicas, groups, count, 1) && count <= RGM_GUIDE_MOST);
  RGM_ASSERT(is_shape(g->log_policy, replicas, rows, 1, 1));
  RGM_ASSERT(is_shape(g->alive, replicas, rows, 1, 1) && is_each(g->active, RGM_U32, replicas));
  RGM_ASSERT(g->proposal == RGM_PROPOSAL_ONE || is_shape(g->log_clone, replicas, rows, 1, 1));
  RGM_ASSERT(!bent || is_each(g->bend, RGM_F32, replicas));
  LAUNCH(s, guide, 10.0 * (double)(replicas * rows) + 60.0 * (double)rgm_elements(g->weight),
         2.0 * size_of(g->reward) + 3.0 * size_of(g->log_policy), g);
}


void rgm_settle(rgm_stream *s, rgm_tensor scale, rgm_tensor count, rgm_tensor x, rgm_tensor rate,
                rgm_tensor active, int64_t rows) {
  const int64_t replicas = x.dims[0];
  RGM_ASSERT(is_shape(x, replicas, x.dims[1], x.dims[2], 1) && rows > 1 && rows <= x.dims[1]);
  RGM_ASSERT(rows <= RGM_GUIDE_MOST);
  RGM_ASSERT(is_shape(scale, replicas, 2, 1, 1) && is_each(count, RGM_U32, replicas));
  RGM_ASSERT(is_each(rate, RGM_F32, replicas) && is_each(active, RGM_U32, replicas));
  LAUNCH(s, settle, 4.0 * (double)(replicas * rows), 8.0 * (double)(replicas * rows), scale, count,
         x, rate, active, rows);
}


void rgm_worth(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor scale, rgm_tensor limit) {
  const int64_t replicas = x.dims[0], rows = x.dims[1];
  RGM_ASSERT(is_shape(x, replicas, rows, x.dims[2], 1) && is_shape(y, replicas, rows, 1, 1));
  RGM_ASSERT(is_shape(scale, replicas, 2, 1, 1) && is_each(limit, RGM_F32, replicas));
  LAUNCH(s, worth, 4.0 * (double)(replicas * rows), 2.0 * size_of(y), y, x, scale, limit);
}


void rgm_band(rgm_stream *s, rgm_tensor y, rgm_tensor x, int64_t column, float low, float high) {
  const int64_t replicas = x.dims[0], rows = x.dims[1];
  RGM_ASSERT(is_shape(x, replicas, rows, x.dims[2], 1) && is_shape(y, replicas, rows, 1, 1));
  RGM_ASSERT(column >= 0 && column < x.dims[2] && low < high);
  LAUNCH(s, band, 60.0 * (double)(replicas * rows), 2.0 * size_of(y), y, x, column, low, high);
}
