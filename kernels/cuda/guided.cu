// SPDX-License-Identifier: Apache-2.0
// Guided reward learning: windows of trajectories, weights of trajectories and the slope of the
// loss, the scale of rewards.

#include "kernels/cuda/cuda.cuh"
#include "kernels/guide.h"

enum { THREADS = RGM_SUM_THREADS, BLOCKS = 1024 };


// ---- windows -----------------------------------------------------------------------------------

// a window a thread
RGM_KERNEL(THREADS) windows_kernel(rgm_windows a) {
  const int64_t count = a.items.dims[1] / a.steps;
  RGM_REPLICAS (r, a.items.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const rgm_key key = rgm_stream_key(rgm_u32(a.seeds, r), a.random);
    const uint32_t *list = a.list.data != nullptr ? rgm_u32(a.list, r) : nullptr;
    const uint32_t clock = rgm_u32(a.clock, r)[0], rows = rgm_u32(a.count, r)[0];
    RGM_ELEMENTS (j, count) {
      const uint32_t start = rgm_window_start(key, clock, (uint32_t)j, &a, list, rows);
      for (int64_t t = 0; t < a.steps; t++) {
        rgm_u32(a.items, r)[j * a.steps + t] =
            start == 0xffffffffu ? start : start + (uint32_t)t * a.stride;
      }
    }
  }
}


void rgm_cuda_windows(rgm_stream *s, const rgm_windows *windows) {
  const rgm_tensor items = windows->items;
  const dim3 grid(rgm_blocks(items.dims[1] / windows->steps, THREADS, BLOCKS),
                  rgm_replica_blocks(items.dims[0]));
  RGM_LAUNCH(windows_kernel, grid, THREADS, 0, s, *windows);
}


// ---- weights and slope -------------------------------------------------------------------------

// The greatest of what the threads of a block have; all of them get it. part is shared memory.
RGM_DEVICE float block_greatest(float x, float *part) {
  part[threadIdx.x] = x;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if ((int)threadIdx.x < half) {
      part[threadIdx.x] = rgm_max(part[threadIdx.x], part[threadIdx.x + half]);
    }
    __syncthreads();
  }
  const float top = part[0];
  __syncthreads();
  return top;
}


// The sum of `count` floats, or of their squares; all threads get it.
template <bool SQUARES>
RGM_DEVICE float sum_of(const float *x, int64_t count, float (*stage)[RGM_SUM_COLUMNS + 1],
                        float *part, float *one) {
  const float sum = rgm_block_sum<SQUARES>(x, count, stage, part);
  if (threadIdx.x == 0) {
    one[0] = sum;
  }
  __syncthreads();
  const float all = one[0];
  __syncthreads();
  return all;
}


typedef struct weighed {
  float log_sum, squares;
  bool any;
} weighed;

// x of `count` trajectories becomes their weights
RGM_DEVICE weighed weigh(float *x, int64_t count, rgm_weighing weighing, float bend,
                         float (*stage)[RGM_SUM_COLUMNS + 1], float *part, float *one) {
  weighed out = {0.0f, 0.0f, false};
  float top = RGM_GUIDE_NEVER;
  for (int64_t j = threadIdx.x; j < count; j += THREADS) {
    top = x[j] > top ? x[j] : top;
  }
  top = block_greatest(top, part);
  out.any = top > RGM_GUIDE_NEVER;
  const float factor = weighing == RGM_WEIGH_TEMPERED ? bend : 1.0f;
  for (int64_t j = threadIdx.x; j < count; j += THREADS) {
    x[j] = out.any ? rgm_exp(factor * (x[j] - top)) : 0.0f;
  }
  __syncthreads();
  if (!out.any) {
    return out;
  }
  // once, and again when they are capped
  float sum = 0.0f;
#pragma unroll 1
  for (int pass = 0; pass < (weighing == RGM_WEIGH_TRUNCATED ? 2 : 1); pass++) {
    const float cap = pass > 0 ? rgm_guide_cap(sum, count, bend) : 0.0f;
    for (int64_t j = threadIdx.x; j < count && pass > 0; j += THREADS) {
      x[j] = rgm_min(x[j], cap);
    }
    __syncthreads();
    sum = sum_of<false>(x, count, stage, part, one);
    out.log_sum = pass == 0 ? rgm_fma(factor, top, rgm_log(sum)) : out.log_sum;
  }
  for (int64_t j = threadIdx.x; j < count; j += THREADS) {
    x[j] = x[j] / sum;
  }
  __syncthreads();
  out.squares = sum_of<true>(x, count, stage, part, one);
  return out;
}


// a trajectory a thread: its return, and in log space what it weighs
RGM_KERNEL(THREADS) guide_total_kernel(rgm_guide a) {
  const int64_t steps = a.steps, columns = a.reward.dims[2], count = a.total.dims[1];
  const rgm_guide_rates k = rgm_guide_rates_of(a.experts, count);
  RGM_REPLICAS (r, a.reward.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float *clone = a.log_clone.data != nullptr ? rgm_f32(a.log_clone, r) : nullptr;
    RGM_ELEMENTS (j, count) {
      const int64_t row = j * steps;
      rgm_f32(a.total, r)[j] = rgm_guide_add(
          rgm_f32(a.weight, r) + j, count, a.weight.dims[1], rgm_f32(a.reward, r) + row * columns,
          columns, rgm_f32(a.log_policy, r) + row, clone != nullptr ? clone + row : nullptr,
          rgm_f32(a.alive, r) + row, steps, j < a.experts, a.proposal, &k);
    }
  }
}


// a block a replica: its weights, and the loss without experts
RGM_KERNEL(THREADS) guide_weigh_kernel(rgm_guide a) {
  RGM_SHARED(float, stage, [THREADS][RGM_SUM_COLUMNS + 1]);
  RGM_SHARED(float, part, [THREADS]);
  RGM_SHARED(float, one, [1]);
  const int64_t count = a.total.dims[1], groups = a.weight.dims[1];
  RGM_REPLICAS (r, a.reward.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float bend = a.bend.data != nullptr ? rgm_f32(a.bend, r)[0] : 1.0f;
    float log_sum = 0.0f, share = 0.0f, living = 0.0f;
    for (int64_t g = 0; g < groups; g++) {
      const weighed w =
          weigh(rgm_f32(a.weight, r) + g * count, count, a.weighing, bend, stage, part, one);
      log_sum = w.any ? w.log_sum : log_sum;
      share = w.any ? share + 1.0f / (w.squares * (float)count) : share;
      living = w.any ? living + 1.0f : living;
    }
    if (threadIdx.x == 0) {
      rgm_f32(a.loss, r)[0] =
          (log_sum - rgm_log((float)count)) / (a.weighing == RGM_WEIGH_TEMPERED ? bend : 1.0f);
      rgm_f32(a.sample, r)[0] = share / living;
    }
    __syncthreads();
  }
}


// the mean of experts' returns, off the loss
RGM_KERNEL(THREADS) guide_loss_kernel(rgm_guide a) {
  RGM_SHARED(float, stage, [THREADS][RGM_SUM_COLUMNS + 1]);
  RGM_SHARED(float, part, [32]);
  RGM_REPLICAS (r, a.reward.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float sum = rgm_block_sum<false>(rgm_f32(a.total, r), a.experts, stage, part);
    if (threadIdx.x == 0) {
      float *loss = rgm_f32(a.loss, r);
      *loss = rgm_fma(-1.0f / (float)a.experts, sum, *loss);
    }
    __syncthreads();
  }
}


// a row a thread
RGM_KERNEL(THREADS) guide_slope_kernel(rgm_guide a) {
  const int64_t steps = a.steps, columns = a.reward.dims[2], count = a.total.dims[1];
  const rgm_guide_rates k = rgm_guide_rates_of(a.experts, count);
  RGM_REPLICAS (r, a.reward.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    RGM_ELEMENTS (i, count * steps * columns) {
      const int64_t row = i / columns, j = row / steps;
      rgm_f32(a.slope, r)[i] =
          i % columns == 0
              ? rgm_guide_slope(rgm_f32(a.weight, r) + j, count, a.weight.dims[1], row % steps,
                                rgm_f32(a.alive, r)[row], j < a.experts, &k)
              : 0.0f;
    }
  }
}


void rgm_cuda_guide(rgm_stream *s, const rgm_guide *guide) {
  const int64_t count = guide->total.dims[1], all = rgm_per_replica(guide->slope);
  const unsigned replicas = rgm_replica_blocks(guide->reward.dims[0]);
  RGM_LAUNCH(guide_total_kernel, dim3(rgm_blocks(count, THREADS, BLOCKS), replicas), THREADS, 0, s,
             *guide);
  RGM_LAUNCH(guide_weigh_kernel, dim3(1, replicas), THREADS, 0, s, *guide);
  RGM_LAUNCH(guide_loss_kernel, dim3(1, replicas), THREADS, 0, s, *guide);
  RGM_LAUNCH(guide_slope_kernel, dim3(rgm_blocks(all, THREADS, BLOCKS), replicas), THREADS, 0, s,
             *guide);
}


// ---- the scale of rewards ----------------------------------------------------------------------

// Column 0 less `centre`, or its square, summed in row-block order by a block: a thread sums a row
// block, then the tree. All threads get it.
RGM_DEVICE float sum_column(const float *x, int64_t rows, int64_t columns, float centre,
                            bool squares, float *part, float *one) {
  const int blocks = (int)((rows + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK);
  const int64_t begin = (int64_t)threadIdx.x * RGM_ROW_BLOCK;
  float block = 0.0f;
  for (int64_t i = begin; i < begin + RGM_ROW_BLOCK && i < rows; i++) {
    const float d = x[i * columns] - centre;
    block = squares ? rgm_fma(d, d, block) : block + d;
  }
  const float sum = rgm_block_tree(block, blocks, part);
  if (threadIdx.x == 0) {
    one[0] = sum;
  }
  __syncthreads();
  const float all = one[0];
  __syncthreads();
  return all;
}


typedef struct settle_args {
  rgm_tensor scale, count, x, rate, active;
  int64_t rows;
} settle_args;

RGM_KERNEL(THREADS) settle_kernel(settle_args a) {
  RGM_SHARED(float, part, [32]);
  RGM_SHARED(float, one, [1]);
  RGM_REPLICAS (r, a.x.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float *x = rgm_f32(a.x, r);
    const float mean = sum_column(x, a.rows, a.x.dims[2], 0.0f, false, part, one) / (float)a.rows;
    const float squares = sum_column(x, a.rows, a.x.dims[2], mean, true, part, one);
    if (threadIdx.x == 0) {
      rgm_settle_one(rgm_f32(a.scale, r), rgm_u32(a.count, r), mean, squares, a.rows,
                     rgm_f32(a.rate, r)[0]);
    }
    __syncthreads();
  }
}


void rgm_cuda_settle(rgm_stream *s, rgm_tensor scale, rgm_tensor count, rgm_tensor x,
                     rgm_tensor rate, rgm_tensor active, int64_t rows) {
  const settle_args a = {scale, count, x, rate, active, rows};
  RGM_LAUNCH(settle_kernel, dim3(1, rgm_replica_blocks(x.dims[0])), THREADS, 0, s, a);
}


RGM_KERNEL(THREADS)
worth_kernel(rgm_tensor y, rgm_tensor x, rgm_tensor scale, rgm_tensor limit) {
  RGM_REPLICAS (r, x.dims[0]) {
    RGM_ELEMENTS (b, x.dims[1]) {
      rgm_f32(y, r)[b] =
          rgm_worth_of(rgm_f32(x, r)[b * x.dims[2]], rgm_f32(scale, r), rgm_f32(limit, r)[0]);
    }
  }
}


void rgm_cuda_worth(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor scale, rgm_tensor limit) {
  const dim3 grid(rgm_blocks(x.dims[1], THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(worth_kernel, grid, THREADS, 0, s, y, x, scale, limit);
}


RGM_KERNEL(THREADS)
band_kernel(rgm_tensor y, rgm_tensor x, int64_t column, float low, float high) {
  RGM_REPLICAS (r, x.dims[0]) {
    RGM_ELEMENTS (b, x.dims[1]) {
      rgm_f32(y, r)[b] = rgm_band_of(rgm_f32(x, r)[b * x.dims[2] + column], low, high);
    }
  }
}


void rgm_cuda_band(rgm_stream *s, rgm_tensor y, rgm_tensor x, int64_t column, float low,
                   float high) {
  const dim3 grid(rgm_blocks(x.dims[1], THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(band_kernel, grid, THREADS, 0, s, y, x, column, low, high);
}
