// SPDX-License-Identifier: Apache-2.0
// Guided reward learning: windows of trajectories, weights of trajectories and the slope of the
// loss, the scale of rewards. A unit of parallel work is a replica.

#include "kernels/cpu/cpu.h"
#include "kernels/guide.h"


// ---- windows -----------------------------------------------------------------------------------

static void windows_task(void *arg, int64_t r) {
  const rgm_windows *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const rgm_key key = rgm_stream_key(rgm_u32(a->seeds, r), a->random);
  const uint32_t *list = a->list.data != NULL ? rgm_u32(a->list, r) : NULL;
  const uint32_t clock = rgm_u32(a->clock, r)[0], count = rgm_u32(a->count, r)[0];
  uint32_t *items = rgm_u32(a->items, r);
  for (int64_t j = 0; j < a->items.dims[1] / a->steps; j++) {
    const uint32_t start = rgm_window_start(key, clock, (uint32_t)j, a, list, count);
    for (int64_t t = 0; t < a->steps; t++) {
      items[j * a->steps + t] = start == 0xffffffffu ? start : start + (uint32_t)t * a->stride;
    }
  }
}


void RGM_CPU(windows)(rgm_stream *s, const rgm_windows *windows) {
  rgm_windows a = *windows;
  rgm_cpu_parallel(s, a.items.dims[0], windows_task, &a);
}


// ---- weights and slope -------------------------------------------------------------------------

// What the weights of one group say: log sum exp of what they are the softmax of (before it is
// truncated), their sum of squares.
typedef struct weighed {
  float log_sum, squares;
  bool any; // trajectory is alive
} weighed;

// x of `count` trajectories becomes their weights
static weighed weigh(float *x, int64_t count, rgm_weighing weighing, float bend) {
  weighed out = {0.0f, 0.0f, false};
  float top = RGM_GUIDE_NEVER;
  for (int64_t j = 0; j < count; j++) {
    top = x[j] > top ? x[j] : top;
  }
  out.any = top > RGM_GUIDE_NEVER;
  const float factor = weighing == RGM_WEIGH_TEMPERED ? bend : 1.0f;
  for (int64_t j = 0; j < count; j++) {
    x[j] = out.any ? rgm_exp(factor * (x[j] - top)) : 0.0f;
  }
  if (!out.any) {
    return out;
  }
  float sum = rgm_cpu_sum(x, count, false);
  out.log_sum = rgm_fma(factor, top, rgm_log(sum));
  if (weighing == RGM_WEIGH_TRUNCATED) {
    const float cap = rgm_guide_cap(sum, count, bend);
    for (int64_t j = 0; j < count; j++) {
      x[j] = rgm_min(x[j], cap);
    }
    sum = rgm_cpu_sum(x, count, false);
  }
  for (int64_t j = 0; j < count; j++) {
    x[j] = x[j] / sum;
  }
  out.squares = rgm_cpu_sum(x, count, true);
  return out;
}


static void guide_slopes(const rgm_guide *a, int64_t r, int64_t count, int64_t groups,
                         const rgm_guide_rates *k) {
  const int64_t columns = a->reward.dims[2];
  const float *alive = rgm_f32(a->alive, r), *weight = rgm_f32(a->weight, r);
  float *slope = rgm_f32(a->slope, r);
  for (int64_t row = 0; row < count * a->steps; row++) {
    const int64_t j = row / a->steps;
    slope[row * columns] =
        rgm_guide_slope(weight + j, count, groups, row % a->steps, alive[row], j < a->experts, k);
    for (int64_t c = 1; c < columns; c++) {
      slope[row * columns + c] = 0.0f;
    }
  }
}


static void guide_task(void *arg, int64_t r) {
  const rgm_guide *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t steps = a->steps, columns = a->reward.dims[2], count = a->total.dims[1];
  const int64_t groups = a->weight.dims[1];
  const rgm_guide_rates k = rgm_guide_rates_of(a->experts, count);
  const float bend = a->bend.data != NULL ? rgm_f32(a->bend, r)[0] : 1.0f;
  const float *clone = a->log_clone.data != NULL ? rgm_f32(a->log_clone, r) : NULL;
  float *weight = rgm_f32(a->weight, r), *total = rgm_f32(a->total, r);

  // returns, and in log space what each trajectory weighs
  for (int64_t j = 0; j < count; j++) {
    const int64_t row = j * steps;
    total[j] =
        rgm_guide_add(weight + j, count, groups, rgm_f32(a->reward, r) + row * columns, columns,
                      rgm_f32(a->log_policy, r) + row, clone != NULL ? clone + row : NULL,
                      rgm_f32(a->alive, r) + row, steps, j < a->experts, a->proposal, &k);
  }

  // weights, and how many trajectories they are worth
  float log_sum = 0.0f, share = 0.0f, living = 0.0f;
  for (int64_t g = 0; g < groups; g++) {
    const weighed w = weigh(weight + g * count, count, a->weighing, bend);
    log_sum = w.any ? w.log_sum : log_sum;
    share = w.any ? share + 1.0f / (w.squares * (float)count) : share;
    living = w.any ? living + 1.0f : living;
  }
  const float experts = rgm_cpu_sum(total, a->experts, false);
  const float mean =
      (log_sum - rgm_log((float)count)) / (a->weighing == RGM_WEIGH_TEMPERED ? bend : 1.0f);
  rgm_f32(a->loss, r)[0] = rgm_fma(-k.experts, experts, mean);
  rgm_f32(a->sample, r)[0] = share / living;
  guide_slopes(a, r, count, groups, &k);
}


void RGM_CPU(guide)(rgm_stream *s, const rgm_guide *guide) {
  rgm_guide a = *guide;
  rgm_cpu_parallel(s, a.reward.dims[0], guide_task, &a);
}


// ---- the scale of rewards ----------------------------------------------------------------------

typedef struct scale_args {
  rgm_tensor y, x, scale, count, rate, active;
  int64_t rows, column;
  float low, high;
} scale_args;


// sum of (column 0 - centre), or of its squares, in row-block order
static float sum_column(const float *x, int64_t rows, int64_t columns, float centre, bool squares) {
  float level[RGM_TREE_LEVELS], total;
  rgm_tree tree = {.size = 1, .level = level};
  for (int64_t begin = 0; begin < rows; begin += RGM_ROW_BLOCK) {
    const int64_t end = begin + RGM_ROW_BLOCK < rows ? begin + RGM_ROW_BLOCK : rows;
    float block = 0.0f;
    for (int64_t i = begin; i < end; i++) {
      const float d = x[i * columns] - centre;
      block = squares ? rgm_fma(d, d, block) : block + d;
    }
    rgm_tree_add(&tree, &block);
  }
  rgm_tree_sum(&tree, &total);
  return total;
}


static void settle_task(void *arg, int64_t r) {
  const scale_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const float *x = rgm_f32(a->x, r);
  const int64_t columns = a->x.dims[2];
  const float mean = sum_column(x, a->rows, columns, 0.0f, false) / (float)a->rows;
  const float squares = sum_column(x, a->rows, columns, mean, true);
  rgm_settle_one(rgm_f32(a->scale, r), rgm_u32(a->count, r), mean, squares, a->rows,
                 rgm_f32(a->rate, r)[0]);
}


void RGM_CPU(settle)(rgm_stream *s, rgm_tensor scale, rgm_tensor count, rgm_tensor x,
                     rgm_tensor rate, rgm_tensor active, int64_t rows) {
  scale_args a = {
      .x = x, .scale = scale, .count = count, .rate = rate, .active = active, .rows = rows};
  rgm_cpu_parallel(s, x.dims[0], settle_task, &a);
}


static void worth_task(void *arg, int64_t r) {
  const scale_args *a = arg;
  const float *x = rgm_f32(a->x, r), *scale = rgm_f32(a->scale, r);
  const float limit = rgm_f32(a->rate, r)[0];
  float *y = rgm_f32(a->y, r);
  for (int64_t b = 0; b < a->x.dims[1]; b++) {
    y[b] = rgm_worth_of(x[b * a->x.dims[2]], scale, limit);
  }
}


void RGM_CPU(worth)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor scale, rgm_tensor limit) {
  scale_args a = {.y = y, .x = x, .scale = scale, .rate = limit};
  rgm_cpu_parallel(s, x.dims[0], worth_task, &a);
}


static void band_task(void *arg, int64_t r) {
  const scale_args *a = arg;
  const float *x = rgm_f32(a->x, r) + a->column;
  float *y = rgm_f32(a->y, r);
  for (int64_t b = 0; b < a->x.dims[1]; b++) {
    y[b] = rgm_band_of(x[b * a->x.dims[2]], a->low, a->high);
  }
}


void RGM_CPU(band)(rgm_stream *s, rgm_tensor y, rgm_tensor x, int64_t column, float low,
                   float high) {
  scale_args a = {.y = y, .x = x, .column = column, .low = low, .high = high};
  rgm_cpu_parallel(s, x.dims[0], band_task, &a);
}
