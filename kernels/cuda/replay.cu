// SPDX-License-Identifier: Apache-2.0
// Rows of experience: the ring that they go to and batches are drawn from, scaling, joining, and
// the norm of gradients.

#include "kernels/cuda/cuda.cuh"
#include "kernels/rng.h"

enum { THREADS = 256, BLOCKS = 1024, WARPS = THREADS / 32, LEVELS = 20 };


// ---- the ring ----------------------------------------------------------------------------------

typedef struct append_args {
  rgm_ring to;
  rgm_tensor row[RGM_RING_COLUMNS];
  rgm_tensor keep, active;
} append_args;


// The rows of a tile that are kept, in order, to kept[]; returns how many. All threads take part.
RGM_DEVICE int keep_rows(const float *keep, int64_t begin, int64_t rows, uint32_t *kept,
                         int *warps) {
  const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
  const int64_t m = begin + (int64_t)threadIdx.x;
  const bool mine = m < rows && (keep == nullptr || keep[m] != 0.0f);
  const unsigned all = __ballot_sync(0xffffffffu, mine);
  if (lane == 0) {
    warps[warp] = __popc(all);
  }
  __syncthreads();
  int before = __popc(all & ((1u << lane) - 1u)), total = 0;
  for (int w = 0; w < WARPS; w++) {
    before += w < warp ? warps[w] : 0;
    total += warps[w];
  }
  if (mine) {
    kept[before] = (uint32_t)m;
  }
  __syncthreads();
  return total;
}


// a block for a replica, 256 rows at a time; there are no more rows than places
RGM_KERNEL(THREADS) replay_append_kernel(append_args a) {
  RGM_SHARED(uint32_t, kept, [THREADS]);
  RGM_SHARED(int, warps, [WARPS]);
  const int64_t rows = a.row[0].dims[1], capacity = a.to.column[0].dims[1];
  RGM_REPLICAS (r, a.row[0].dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float *keep = a.keep.data != nullptr ? rgm_f32(a.keep, r) : nullptr;
    int64_t head = rgm_u32(a.to.head, r)[0], added = 0;
    for (int64_t begin = 0; begin < rows; begin += THREADS) {
      const int total = keep_rows(keep, begin, rows, kept, warps);
#pragma unroll
      for (int k = 0; k < RGM_RING_COLUMNS; k++) {
        if (k < a.to.columns) {
          const int width = (int)a.row[k].dims[2];
          for (int i = (int)threadIdx.x; i < total * width; i += THREADS) {
            const int64_t at = head + i / width, place = at < capacity ? at : at - capacity;
            rgm_f32(a.to.column[k], r)[place * width + i % width] =
                rgm_f32(a.row[k], r)[(int64_t)kept[i / width] * width + i % width];
          }
        }
      }
      head = head + total < capacity ? head + total : head + total - capacity;
      added += total;
      __syncthreads();
    }
    if (threadIdx.x == 0) {
      const int64_t count = rgm_u32(a.to.count, r)[0] + added;
      rgm_u32(a.to.head, r)[0] = (uint32_t)head;
      rgm_u32(a.to.count, r)[0] = (uint32_t)(count < capacity ? count : capacity);
    }
    __syncthreads();
  }
}


void rgm_cuda_replay_append(rgm_stream *s, const rgm_ring *to, const rgm_tensor *rows,
                            rgm_tensor keep, rgm_tensor active) {
  append_args a = {};
  a.to = *to;
  for (int k = 0; k < to->columns; k++) {
    a.row[k] = rows[k];
  }
  a.keep = keep;
  a.active = active;
  RGM_LAUNCH(replay_append_kernel, dim3(1, rgm_replica_blocks(rows[0].dims[0])), THREADS, 0, s, a);
}


typedef struct gather_args {
  rgm_tensor row[RGM_RING_COLUMNS];
  rgm_tensor items, share, seeds, clock, active;
  rgm_ring from, other;
  uint32_t random, member;
  bool given, two;
} gather_args;


// a warp for a row: all its lanes draw the same number
RGM_KERNEL_RESIDENT(THREADS, 4) replay_gather_kernel(gather_args a) {
  const int64_t rows = a.row[0].dims[1];
  const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
  RGM_REPLICAS (r, a.row[0].dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const int64_t share = a.two ? (int64_t)rgm_u32(a.share, r)[0] : rows;
    for (int64_t b = (int64_t)blockIdx.x * WARPS + warp; b < rows;
         b += (int64_t)gridDim.x * WARPS) {
      const bool second = b >= share;
      const uint32_t count = second ? rgm_u32(a.other.count, r)[0] : rgm_u32(a.from.count, r)[0];
      uint32_t item = 0;
      if (a.given) {
        item = rgm_u32(a.items, r)[b];
      } else if (count > 0) {
        const rgm_key key = rgm_stream_key(rgm_u32(a.seeds, r), a.random);
        item = rgm_below(key, rgm_u32(a.clock, r)[0], (uint32_t)b, a.member, count);
      }
#pragma unroll
      for (int k = 0; k < RGM_RING_COLUMNS; k++) {
        if (k < a.from.columns) {
          const int64_t width = a.row[k].dims[2];
          const float *ring = second ? rgm_f32(a.other.column[k], r) : rgm_f32(a.from.column[k], r);
          for (int64_t i = lane; i < width; i += 32) {
            rgm_f32(a.row[k], r)[b * width + i] =
                item < count ? ring[item * width + i] : rgm_from_bits(0x7fc00000u);
          }
        }
      }
      if (lane == 0 && a.items.data != nullptr && !a.given) {
        rgm_u32(a.items, r)[b] = item;
      }
    }
  }
}


void rgm_cuda_replay_gather(rgm_stream *s, const rgm_gather *g) {
  gather_args a = {};
  for (int k = 0; k < g->from->columns; k++) {
    a.row[k] = g->row[k];
  }
  a.items = g->items;
  a.share = g->share;
  a.seeds = g->seeds;
  a.clock = g->clock;
  a.active = g->active;
  a.from = *g->from;
  a.two = g->other != nullptr;
  a.other = a.two ? *g->other : *g->from;
  a.random = g->random;
  a.member = g->member;
  a.given = g->given;
  const dim3 grid(rgm_blocks(g->row[0].dims[1], WARPS, BLOCKS),
                  rgm_replica_blocks(g->row[0].dims[0]));
  RGM_LAUNCH(replay_gather_kernel, grid, THREADS, 0, s, a);
}


// ---- scaling and joining -----------------------------------------------------------------------

RGM_KERNEL_RESIDENT(THREADS, 4)
normalise_kernel(rgm_tensor y, rgm_tensor x, rgm_tensor mean, rgm_tensor sd, bool inverse) {
  const int64_t width = x.dims[2];
  RGM_REPLICAS (r, x.dims[0]) {
    RGM_ELEMENTS (i, rgm_per_replica(x)) {
      const float from = rgm_f32(x, r)[i], centre = rgm_f32(mean, r)[i % width];
      const float scale = rgm_f32(sd, r)[i % width];
      rgm_f32(y, r)[i] = inverse ? rgm_fma(from, scale, centre) : (from - centre) / scale;
    }
  }
}


void rgm_cuda_normalise(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor mean, rgm_tensor sd,
                        bool inverse) {
  const dim3 grid(rgm_blocks(rgm_per_replica(x), THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(normalise_kernel, grid, THREADS, 0, s, y, x, mean, sd, inverse);
}


RGM_KERNEL(THREADS)
concat_kernel(rgm_tensor x, rgm_tensor state, rgm_tensor action, int classes) {
  const int64_t width = x.dims[2], states = state.dims[2], dims = action.dims[2];
  const int64_t each = x.dims[1] / state.dims[1];
  RGM_REPLICAS (r, x.dims[0]) {
    RGM_ELEMENTS (i, rgm_per_replica(x)) {
      const int64_t m = i / width, c = i % width, k = c - states;
      float value;
      if (k < 0) {
        value = rgm_f32(state, r)[m / each * states + c];
      } else if (classes == 0) {
        value = rgm_f32(action, r)[m * dims + k];
      } else {
        value = rgm_f32(action, r)[m] == (float)k ? 1.0f : 0.0f;
      }
      rgm_f32(x, r)[i] = value;
    }
  }
}


void rgm_cuda_concat(rgm_stream *s, rgm_tensor x, rgm_tensor state, rgm_tensor action,
                     int classes) {
  const dim3 grid(rgm_blocks(rgm_per_replica(x), THREADS, BLOCKS), rgm_replica_blocks(x.dims[0]));
  RGM_LAUNCH(concat_kernel, grid, THREADS, 0, s, x, state, action, classes);
}


// ---- gradients ---------------------------------------------------------------------------------

RGM_KERNEL(RGM_SUM_THREADS) square_tiles_kernel(rgm_tensor to, rgm_tensor g, rgm_tensor active) {
  RGM_SHARED(float, stage, [RGM_SUM_THREADS][RGM_SUM_COLUMNS + 1]);
  RGM_SHARED(float, part, [32]);
  const int64_t first = (int64_t)blockIdx.x * RGM_SUM_TILE, left = rgm_per_replica(g) - first;
  RGM_REPLICAS (r, g.dims[0]) {
    if (rgm_u32(active, r)[0] == 0) {
      continue;
    }
    const float total = rgm_block_sum<true>(rgm_f32(g, r) + first, left, stage, part);
    if (threadIdx.x == 0) {
      rgm_f32(to, r)[blockIdx.x] = total;
    }
    __syncthreads();
  }
}


typedef struct clip_args {
  rgm_tensor g, norm, limit, active, tiles;
} clip_args;


// every block adds the tiles up again: they are few
RGM_KERNEL(THREADS) clip_norm_kernel(clip_args a) {
  RGM_SHARED(float, norm, [1]);
  RGM_REPLICAS (r, a.g.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    if (threadIdx.x == 0) {
      rgm_counter_tree<LEVELS> tree = {};
      for (int64_t i = 0; i < a.tiles.dims[1]; i++) {
        rgm_tree_push(&tree, rgm_f32(a.tiles, r)[i]);
      }
      norm[0] = rgm_sqrt(rgm_tree_total(&tree));
    }
    __syncthreads();
    const float limit = rgm_f32(a.limit, r)[0], factor = limit / norm[0];
    if (norm[0] > limit) {
      RGM_ELEMENTS (i, rgm_per_replica(a.g)) {
        rgm_f32(a.g, r)[i] = factor * rgm_f32(a.g, r)[i];
      }
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      rgm_f32(a.norm, r)[0] = norm[0];
    }
    __syncthreads();
  }
}


void rgm_cuda_clip_norm(rgm_stream *s, rgm_tensor g, rgm_tensor norm, rgm_tensor limit,
                        rgm_tensor active) {
  const int64_t n = rgm_per_replica(g), tiles = (n + RGM_SUM_TILE - 1) / RGM_SUM_TILE;
  // as many replicas at a time as the work memory holds
  const int64_t most = rgm_cuda_room(s) / tiles;
  RGM_ASSERT(most > 0);
  for (int64_t r = 0; r < g.dims[0]; r += most) {
    const int64_t count = g.dims[0] - r < most ? g.dims[0] - r : most;
    const clip_args a = {rgm_slice(g, r, count), rgm_slice(norm, r, count),
                         rgm_slice(limit, r, count), rgm_slice(active, r, count),
                         rgm_view(rgm_cuda_scratch(s), RGM_F32, count, tiles, 0, 0)};
    RGM_LAUNCH(square_tiles_kernel, dim3((unsigned)tiles, rgm_replica_blocks(count)),
               RGM_SUM_THREADS, 0, s, a.tiles, a.g, a.active);
    const dim3 grid(rgm_blocks(n, THREADS, BLOCKS), rgm_replica_blocks(count));
    RGM_LAUNCH(clip_norm_kernel, grid, THREADS, 0, s, a);
  }
}
