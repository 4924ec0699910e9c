// SPDX-License-Identifier: Apache-2.0
// Reductions, order statistics, selection, random fills, counters and the non-finite guard.

#include "kernels/cuda/cuda.cuh"
#include "kernels/order.h"
#include "kernels/rng.h"

enum {
  THREADS = 256,
  BLOCKS = 1024,
  LEVELS = 20, // of the tree over tiles: 2^36 elements
  WIDE = 512,  // threads where one block works for a replica
  BINS = 256,
  DIGITS = 4,
  DIGIT = 8, // of the radix selection
};


// ---- sum ---------------------------------------------------------------------------------------

// one tile of each replica
RGM_KERNEL(RGM_SUM_THREADS) sum_tiles_kernel(rgm_tensor to, rgm_tensor x, float scale) {
  RGM_SHARED(float, stage, [RGM_SUM_THREADS][RGM_SUM_COLUMNS + 1]);
  RGM_SHARED(float, part, [32]);
  const int64_t first = (int64_t)blockIdx.x * RGM_SUM_TILE, left = rgm_per_replica(x) - first;
  RGM_REPLICAS (r, x.dims[0]) {
    const float total = rgm_block_sum<false>(rgm_f32(x, r) + first, left, stage, part);
    if (threadIdx.x == 0) {
      rgm_f32(to, r)[blockIdx.x] = scale * total;
    }
    __syncthreads();
  }
}


// the tree over the tiles of a replica, in order
RGM_KERNEL(THREADS) sum_tree_kernel(rgm_tensor y, rgm_tensor tiles, float scale) {
  RGM_ELEMENTS (r, y.dims[0]) {
    rgm_counter_tree<LEVELS> tree = {};
    for (int64_t i = 0; i < tiles.dims[1]; i++) {
      rgm_tree_push(&tree, rgm_f32(tiles, r)[i]);
    }
    rgm_f32(y, r)[0] = scale * rgm_tree_total(&tree);
  }
}


void rgm_cuda_sum(rgm_stream *s, rgm_tensor y, rgm_tensor x, float scale) {
  const int64_t tiles = (rgm_per_replica(x) + RGM_SUM_TILE - 1) / RGM_SUM_TILE;
  if (tiles <= 1) {
    RGM_LAUNCH(sum_tiles_kernel, dim3(1, rgm_replica_blocks(x.dims[0])), THREADS, 0, s, y, x,
               scale);
    return;
  }
  // as many replicas at a time as the work memory holds
  const int64_t most = rgm_cuda_room(s) / tiles;
  RGM_ASSERT(most > 0);
  for (int64_t r = 0; r < x.dims[0]; r += most) {
    const int64_t count = x.dims[0] - r < most ? x.dims[0] - r : most;
    rgm_tensor part = rgm_view(rgm_cuda_scratch(s), RGM_F32, count, tiles, 0, 0);
    rgm_tensor some = x, out = y;
    some.data = rgm_f32(x, r);
    out.data = rgm_f32(y, r);
    some.dims[0] = out.dims[0] = count;
    RGM_LAUNCH(sum_tiles_kernel, dim3((unsigned)tiles, rgm_replica_blocks(count)), THREADS, 0, s,
               part, some, 1.0f);
    RGM_LAUNCH(sum_tree_kernel, rgm_blocks(count, THREADS, BLOCKS), THREADS, 0, s, out, part,
               scale);
  }
}


// ---- order statistics --------------------------------------------------------------------------

// The key of rank `rank` among x[n], by radix selection: in each pass a histogram of one digit of
// the keys that share the digits found so far. All threads of the block get it.
RGM_DEVICE uint32_t select_key(const float *x, int64_t n, int64_t rank, uint32_t *bins,
                               int64_t *found) {
  uint32_t prefix = 0;
  for (int digit = DIGITS - 1; digit >= 0; digit--) {
    const int shift = digit * DIGIT;
    for (int i = (int)threadIdx.x; i < BINS; i += (int)blockDim.x) {
      bins[i] = 0;
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
      const uint32_t key = rgm_order_key(x[i]);
      if (digit == DIGITS - 1 || key >> (shift + DIGIT) == prefix) {
        atomicAdd(&bins[key >> shift & (BINS - 1)], 1u);
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int64_t before = 0;
      int bin = 0;
      while (before + bins[bin] <= rank) {
        before += bins[bin++];
      }
      found[0] = bin;
      found[1] = rank - before;
    }
    __syncthreads();
    prefix = prefix << DIGIT | (uint32_t)found[0];
    rank = found[1];
    __syncthreads();
  }
  return prefix;
}


// how many keys are at most `key`, and the smallest above it
RGM_DEVICE void count_keys(const float *x, int64_t n, uint32_t key, unsigned long long *count,
                           uint32_t *above) {
  if (threadIdx.x == 0) {
    *count = 0;
    *above = 0xffffffffu;
  }
  __syncthreads();
  unsigned long long mine = 0;
  uint32_t least = 0xffffffffu;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    const uint32_t other = rgm_order_key(x[i]);
    mine += other <= key ? 1u : 0u;
    least = other > key && other < least ? other : least;
  }
  atomicAdd(count, mine);
  atomicMin(above, least);
  __syncthreads();
}


// one block for a replica; `work` stays as it is
RGM_KERNEL(WIDE) quantile_kernel(rgm_tensor y, rgm_tensor x, rgm_tensor q) {
  RGM_SHARED(uint32_t, bins, [BINS]);
  RGM_SHARED(int64_t, found, [2]);
  RGM_SHARED(unsigned long long, count, [1]);
  RGM_SHARED(uint32_t, above, [1]);
  RGM_REPLICAS (r, x.dims[0]) {
    const int64_t n = x.dims[1];
    const double position = (double)rgm_f32(q, r)[0] * (double)(n - 1);
    const int64_t below = (int64_t)position;
    const uint32_t key = select_key(rgm_f32(x, r), n, below, bins, found);
    count_keys(rgm_f32(x, r), n, key, count, above);
    if (threadIdx.x == 0) {
      const bool same = below + 1 >= n || (int64_t)count[0] > below + 1;
      const float low = rgm_order_value(key), high = rgm_order_value(same ? key : above[0]);
      rgm_f32(y, r)[0] = rgm_between(low, high, (float)(position - (double)below));
    }
    __syncthreads();
  }
}


void rgm_cuda_quantile(rgm_stream *s, rgm_tensor y, rgm_tensor work, rgm_tensor x, rgm_tensor q) {
  (void)work;
  const int threads = x.dims[1] < WIDE ? THREADS : WIDE;
  RGM_LAUNCH(quantile_kernel, dim3(1, rgm_replica_blocks(x.dims[0])), threads, 0, s, y, x, q);
}


RGM_KERNEL(WIDE) select_kernel(rgm_tensor weight, rgm_tensor x, rgm_tensor threshold) {
  RGM_SHARED(unsigned long long, count, [1]);
  RGM_REPLICAS (r, x.dims[0]) {
    const float *from = rgm_f32(x, r), bound = rgm_f32(threshold, r)[0];
    if (threadIdx.x == 0) {
      count[0] = 0;
    }
    __syncthreads();
    unsigned long long mine = 0;
    for (int64_t i = threadIdx.x; i < x.dims[1]; i += blockDim.x) {
      mine += from[i] >= bound ? 1u : 0u;
    }
    atomicAdd(&count[0], mine);
    __syncthreads();
    const float share = count[0] > 0 ? 1.0f / (float)count[0] : 0.0f;
    for (int64_t i = threadIdx.x; i < x.dims[1]; i += blockDim.x) {
      rgm_f32(weight, r)[i] = from[i] >= bound ? share : 0.0f;
    }
    __syncthreads();
  }
}


void rgm_cuda_select(rgm_stream *s, rgm_tensor weight, rgm_tensor x, rgm_tensor threshold) {
  const int threads = x.dims[1] < WIDE ? THREADS : WIDE;
  RGM_LAUNCH(select_kernel, dim3(1, rgm_replica_blocks(x.dims[0])), threads, 0, s, weight, x,
             threshold);
}


typedef struct enlist_args {
  rgm_tensor items, share, count, lost, weight, active;
} enlist_args;


// a warp per replica: 32 weights at a time
RGM_KERNEL(32) enlist_kernel(enlist_args a) {
  const int64_t n = a.weight.dims[1], places = a.items.dims[1];
  const int lane = (int)threadIdx.x;
  RGM_REPLICAS (r, a.weight.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    uint32_t *items = rgm_u32(a.items, r);
    float *share = rgm_f32(a.share, r);
    int64_t count = 0;
    for (int64_t first = 0; first < n; first += 32) {
      const int64_t i = first + lane;
      const float weight = i < n ? rgm_f32(a.weight, r)[i] : 0.0f;
      const unsigned all = __ballot_sync(0xffffffffu, weight != 0.0f);
      const int64_t place = count + __popc(all & ((1u << lane) - 1u));
      if (weight != 0.0f && place < places) {
        items[place] = (uint32_t)i;
        share[place] = weight;
      }
      count += __popc(all);
    }
    __syncwarp();
    for (int64_t k = (count > places ? 0 : count) + lane; k < places; k += 32) {
      share[k] = count > places ? rgm_from_bits(0x7fc00000u) : 0.0f;
    }
    if (lane == 0) {
      rgm_u32(a.count, r)[0] = (uint32_t)count;
      rgm_u32(a.lost, r)[0] += count > places ? (uint32_t)(count - places) : 0u;
    }
  }
}


void rgm_cuda_enlist(rgm_stream *s, rgm_tensor items, rgm_tensor share, rgm_tensor count,
                     rgm_tensor lost, rgm_tensor weight, rgm_tensor active) {
  const enlist_args a = {items, share, count, lost, weight, active};
  RGM_LAUNCH(enlist_kernel, dim3(1, rgm_replica_blocks(weight.dims[0])), 32, 0, s, a);
}


// ---- fills and counters ------------------------------------------------------------------------

typedef struct uniform_args {
  rgm_tensor x, seeds;
  uint32_t random, member;
  float low, high;
  int64_t columns, used;
} uniform_args;


RGM_KERNEL(THREADS) uniform_kernel(uniform_args a) {
  RGM_REPLICAS (r, a.x.dims[0]) {
    const rgm_key key = rgm_stream_key(rgm_u32(a.seeds, r), a.random);
    float *x = rgm_f32(a.x, r);
    RGM_ELEMENTS (i, rgm_per_replica(a.x)) {
      const int64_t row = i / a.columns, column = i % a.columns;
      float value = 0.0f;
      if (column < a.used) {
        const uint32_t item = (uint32_t)(row * a.used + column);
        const rgm_words words = rgm_philox(key, 0, item, 0, a.member);
        // rounding may reach `high`, which is not in the range
        value = rgm_fma(a.high - a.low, rgm_unit(words.w0), a.low);
        value = value < a.high ? value : a.low;
      }
      x[i] = value;
    }
  }
}


void rgm_cuda_uniform(rgm_stream *s, rgm_tensor x, rgm_tensor seeds, uint32_t random,
                      uint32_t member, float low, float high, int64_t last_dim) {
  const uniform_args a = {x, seeds, random, member, low, high, x.dims[x.rank - 1], last_dim};
  const dim3 grid(rgm_blocks(rgm_per_replica(x), THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(uniform_kernel, grid, THREADS, 0, s, a);
}


RGM_KERNEL(THREADS) advance_kernel(rgm_tensor count, rgm_tensor active) {
  RGM_ELEMENTS (r, count.dims[0]) {
    rgm_u32(count, r)[0] += rgm_u32(active, r)[0] != 0 ? 1u : 0u;
  }
}


void rgm_cuda_advance(rgm_stream *s, rgm_tensor count, rgm_tensor active) {
  RGM_LAUNCH(advance_kernel, rgm_blocks(count.dims[0], THREADS, BLOCKS), THREADS, 0, s, count,
             active);
}


RGM_KERNEL(THREADS) retire_kernel(rgm_tensor active, rgm_tensor x, rgm_tensor bound) {
  RGM_ELEMENTS (r, active.dims[0]) {
    if (rgm_f32(x, r)[0] >= rgm_f32(bound, r)[0]) {
      rgm_u32(active, r)[0] = 0;
    }
  }
}


void rgm_cuda_retire(rgm_stream *s, rgm_tensor active, rgm_tensor x, rgm_tensor bound) {
  RGM_LAUNCH(retire_kernel, rgm_blocks(active.dims[0], THREADS, BLOCKS), THREADS, 0, s, active, x,
             bound);
}


// ---- non-finite numbers ------------------------------------------------------------------------

RGM_KERNEL(THREADS) zero_kernel(rgm_tensor count) {
  RGM_ELEMENTS (r, count.dims[0]) {
    rgm_u32(count, r)[0] = 0;
  }
}


// whole numbers: the order of the atomic additions does not matter
RGM_KERNEL(THREADS) nonfinite_kernel(rgm_tensor count, rgm_tensor x) {
  RGM_REPLICAS (r, x.dims[0]) {
    const float *from = rgm_f32(x, r);
    uint32_t mine = 0;
    RGM_ELEMENTS (i, rgm_per_replica(x)) {
      mine += rgm_abs(from[i]) <= 0x1.fffffep127f ? 0u : 1u;
    }
    if (mine > 0) {
      atomicAdd(rgm_u32(count, r), mine);
    }
  }
}


void rgm_cuda_nonfinite(rgm_stream *s, rgm_tensor count, rgm_tensor x) {
  RGM_LAUNCH(zero_kernel, rgm_blocks(count.dims[0], THREADS, BLOCKS), THREADS, 0, s, count);
  const dim3 grid(rgm_blocks(rgm_per_replica(x), THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(nonfinite_kernel, grid, THREADS, 0, s, count, x);
}
