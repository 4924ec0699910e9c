// SPDX-License-Identifier: Apache-2.0
// Tabular Markov decision problems on the GPU. A block of threads has a block of states: a thread a
// lane of its slices, so that loads of p and next are coalesced, then a thread a state. A small
// problem is solved whole by one block of threads a replica; a learner is a thread.

#include "kernels/cuda/cuda.cuh"
#include "kernels/tabular.h"

#include <math.h>

enum { THREADS = 256 };

// What a sweep reads and writes of one replica.
struct sweep {
  const rgm_mdp_rows *rows;
  int64_t r;
  const double *value;
  double *out, *q; // q may be null
  int32_t *action; // may be null
  double gamma, tie, offset;
  bool least;
};


RGM_DEVICE double *f64(const rgm_tensor &t, int64_t r) {
  return (double *)t.data + r * t.stride0;
}
RGM_DEVICE int32_t *i32(const rgm_tensor &t, int64_t r) {
  return (int32_t *)t.data + r * t.stride0;
}


// sum_k p_k v(next_k) of a lane, in order
RGM_DEVICE double lane_sum(const rgm_mdp_rows *m, int64_t r, int64_t n, int lane, const double *v) {
  const size_t at = RGM_SLICE * (size_t)rgm_at_u32(m->start, 0, n) + (size_t)lane;
  const uint32_t length = rgm_at_u32(m->length, r, n);
  double x = 0.0;
  if (m->next.data != nullptr) {
    const double *p = f64(m->p, r) + at;
    const int32_t *next = i32(m->next, r) + at;
    for (uint32_t k = 0; k < length; k++) {
      x = rgm_fma64(p[RGM_SLICE * (size_t)k], v[next[RGM_SLICE * (size_t)k]], x);
    }
  } else {
    const uint32_t *entry = rgm_u32(m->p, r) + at;
    const int32_t home = rgm_at_i32(m->home, 0, RGM_SLICE * n + lane);
    for (uint32_t k = 0; k < length; k++) {
      const uint32_t e = entry[RGM_SLICE * (size_t)k];
      x = rgm_fma64((double)(e & 0xFFFFu), v[home + ((int32_t)e >> 16)], x);
    }
  }
  return x;
}


// The states of block b by all threads: q and bound[2 * THREADS] are shared. Thread 0 has the
// block's least and largest change in bound[0], bound[THREADS]; ends with a barrier.
RGM_DEVICE void sweep_block(const sweep &w, int64_t b, double *q, double *bound) {
  const rgm_mdp_rows *m = w.rows;
  const uint32_t *first = (const uint32_t *)m->first.data;
  const int64_t begin = rgm_at_u32(m->block, 0, b), end = rgm_at_u32(m->block, 0, b + 1);
  const int64_t slice = rgm_at_u32(m->slice, 0, b), slices = rgm_at_u32(m->slice, 0, b + 1) - slice;
  const double *reward = f64(m->reward, w.r) + first[begin];
  const double gamma = w.gamma * m->scale;
  for (int64_t i = threadIdx.x; i < RGM_SLICE * slices; i += THREADS) {
    const int32_t row = rgm_at_i32(m->lane, w.r, RGM_SLICE * slice + i);
    if (row != RGM_MDP_LANE) {
      const double sum = lane_sum(m, w.r, slice + i / RGM_SLICE, (int)(i % RGM_SLICE), w.value);
      q[row] = rgm_fma64(gamma, sum, reward[row]);
      if (w.q != nullptr) {
        w.q[first[begin] + (uint32_t)row] = q[row];
      }
    }
  }
  __syncthreads();
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (int64_t s = begin + threadIdx.x; s < end; s += THREADS) {
    const int count = (int)(first[s + 1] - first[s]);
    double value = w.value[s];
    if (count > 0) {
      int action = w.action != nullptr ? w.action[s] : (int)RGM_MDP_LANE;
      value = rgm_mdp_best(q + (first[s] - first[begin]), count, action, w.tie, w.least, &action);
      if (w.action != nullptr) {
        w.action[s] = count == 1 ? 0 : action;
      }
    }
    const double change = value - w.value[s];
    low = change < low ? change : low;
    high = change > high ? change : high;
    w.out[s] = value - w.offset;
  }
  bound[threadIdx.x] = low;
  bound[THREADS + threadIdx.x] = high;
  __syncthreads();
  for (int apart = THREADS / 2; apart > 0; apart /= 2) {
    if ((int)threadIdx.x < apart) {
      const double l = bound[threadIdx.x + apart], h = bound[THREADS + threadIdx.x + apart];
      bound[threadIdx.x] = l < bound[threadIdx.x] ? l : bound[threadIdx.x];
      bound[THREADS + threadIdx.x] =
          h > bound[THREADS + threadIdx.x] ? h : bound[THREADS + threadIdx.x];
    }
    __syncthreads();
  }
}


RGM_KERNEL(THREADS) bellman_kernel(rgm_bellman a) {
  RGM_SHARED(double, q, [RGM_BLOCK_ROWS]);
  RGM_SHARED(double, bound, [2 * THREADS]);
  const int64_t blocks = a.rows.block.dims[0] - 1;
  RGM_REPLICAS (r, a.value.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    sweep w;
    w.rows = &a.rows;
    w.r = r;
    w.value = f64(a.value, r);
    w.out = f64(a.out, r);
    w.q = a.q.data != nullptr ? f64(a.q, r) : nullptr;
    w.action = a.action.data != nullptr ? i32(a.action, r) : nullptr;
    w.gamma = f64(a.gamma, r)[0];
    w.tie = f64(a.tie, r)[0];
    w.offset = a.reference >= 0 ? w.value[a.reference] : 0.0;
    w.least = a.least;
    for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
      sweep_block(w, b, q, bound);
      if (threadIdx.x == 0) {
        f64(a.partial, r)[2 * b] = bound[0];
        f64(a.partial, r)[2 * b + 1] = bound[THREADS];
      }
      __syncthreads();
    }
  }
}


// least and largest over the blocks, a thread a replica and side
RGM_KERNEL(THREADS) bounds_kernel(rgm_bellman a) {
  const int64_t blocks = a.rows.block.dims[0] - 1;
  RGM_ELEMENTS (i, 2 * a.value.dims[0]) {
    const int64_t r = i / 2, side = i % 2;
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    double most = side == 0 ? HUGE_VAL : -HUGE_VAL;
    for (int64_t b = 0; b < blocks; b++) {
      const double x = f64(a.partial, r)[2 * b + side];
      most = (side == 0 ? x < most : x > most) ? x : most;
    }
    f64(a.bounds, r)[side] = most;
  }
}


void rgm_cuda_bellman(rgm_stream *s, const rgm_bellman *b) {
  const int64_t replicas = b->value.dims[0];
  const dim3 grid(rgm_blocks(b->rows.block.dims[0] - 1, 1, RGM_CUDA_MOST),
                  rgm_replica_blocks(replicas));
  RGM_LAUNCH(bellman_kernel, grid, THREADS, 0, s, *b);
  RGM_LAUNCH(bounds_kernel, dim3(rgm_blocks(2 * replicas, THREADS, 1024)), THREADS, 0, s, *b);
}


// ---- a policy's rows ---------------------------------------------------------------------------

// What the threads of a block share while they pick.
struct picking {
  uint16_t at[RGM_BLOCK_ROWS];       // the lane of a row, counted within the block's slices
  uint32_t length[RGM_BLOCK_STATES]; // of the chosen row of a state's turn
  int32_t state[RGM_BLOCK_STATES], lane[RGM_BLOCK_STATES];
  int order[RGM_BLOCK_STATES];
  int count;
};


// The policy's rows of block b into slices, longest first; ends with a barrier.
RGM_DEVICE void pick_block(const rgm_mdp_pick &a, int64_t r, int64_t b, picking *p) {
  const uint32_t *first = (const uint32_t *)a.from.first.data;
  const uint32_t *own = (const uint32_t *)a.to.first.data;
  const int64_t begin = rgm_at_u32(a.to.block, 0, b), end = rgm_at_u32(a.to.block, 0, b + 1);
  const int64_t slice = rgm_at_u32(a.from.slice, 0, b);
  const int64_t lanes = RGM_SLICE * (rgm_at_u32(a.from.slice, 0, b + 1) - slice);
  for (int64_t i = threadIdx.x; i < lanes; i += THREADS) {
    const int32_t row = rgm_at_i32(a.from.lane, r, RGM_SLICE * slice + i);
    if (row != RGM_MDP_LANE) {
      p->at[row] = (uint16_t)i;
    }
  }
  if (threadIdx.x == 0) {
    p->count = (int)(own[end] - own[begin]);
  }
  __syncthreads();
  for (int64_t s = begin + threadIdx.x; s < end; s += THREADS) {
    if (first[s + 1] > first[s]) {
      const int32_t action = i32(a.action, r)[s] > 0 ? i32(a.action, r)[s] : 0;
      const int turn = (int)(own[s] - own[begin]);
      const int lane = p->at[first[s] - first[begin] + (uint32_t)action];
      f64(a.to.reward, r)[own[s]] = f64(a.from.reward, r)[first[s] + (uint32_t)action];
      p->state[turn] = (int32_t)s;
      p->lane[turn] = lane;
      p->length[turn] = rgm_at_u32(a.from.length, r, slice + lane / RGM_SLICE);
    }
  }
  __syncthreads();
  for (int i = (int)threadIdx.x; i < p->count; i += THREADS) {
    int place = 0;
    for (int j = 0; j < p->count; j++) {
      place += p->length[j] > p->length[i] || (p->length[j] == p->length[i] && j < i);
    }
    p->order[place] = i;
  }
  __syncthreads();
  const int64_t to = rgm_at_u32(a.to.slice, 0, b);
  for (int done = 0; done < p->count; done += RGM_SLICE) {
    const int64_t n = to + done / RGM_SLICE;
    const int lead = p->order[done];
    const uint32_t length = p->length[lead];
    const size_t dst = RGM_SLICE * (size_t)rgm_at_u32(a.to.start, 0, n);
    for (size_t i = threadIdx.x; i < RGM_SLICE * (size_t)length; i += THREADS) {
      const int lane = (int)(i % RGM_SLICE);
      const bool there = done + lane < p->count;
      const int k = there ? p->order[done + lane] : lead;
      const bool real = there && i / RGM_SLICE < p->length[k];
      const int64_t from = slice + p->lane[k] / RGM_SLICE;
      const size_t src = RGM_SLICE * ((size_t)rgm_at_u32(a.from.start, 0, from) + i / RGM_SLICE) +
                         (size_t)(p->lane[k] % RGM_SLICE);
      f64(a.to.p, r)[dst + i] = real ? f64(a.from.p, r)[src] : 0.0;
      i32(a.to.next, r)[dst + i] = real ? i32(a.from.next, r)[src] : p->state[k];
    }
    if (threadIdx.x < RGM_SLICE) {
      const bool there = done + (int)threadIdx.x < p->count;
      i32(a.to.lane, r)[RGM_SLICE * n + threadIdx.x] =
          there ? p->order[done + threadIdx.x] : (int32_t)RGM_MDP_LANE;
    }
    if (threadIdx.x == 0) {
      rgm_u32(a.to.length, r)[n] = length;
    }
  }
  __syncthreads();
}


RGM_KERNEL(THREADS) pick_kernel(rgm_mdp_pick a) {
  RGM_SHARED(picking, p, );
  RGM_REPLICAS (r, a.action.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    for (int64_t b = blockIdx.x; b < a.to.block.dims[0] - 1; b += gridDim.x) {
      pick_block(a, r, b, &p);
    }
  }
}


void rgm_cuda_mdp_pick(rgm_stream *s, const rgm_mdp_pick *p) {
  const dim3 grid(rgm_blocks(p->to.block.dims[0] - 1, 1, RGM_CUDA_MOST),
                  rgm_replica_blocks(p->action.dims[0]));
  RGM_LAUNCH(pick_kernel, grid, THREADS, 0, s, *p);
}


// ---- whole solutions ---------------------------------------------------------------------------

// One sweep over all blocks by one block of threads; every thread has the largest |change|.
RGM_DEVICE double sweep_all(const sweep &w, double *q, double *bound, double *side) {
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (int64_t b = 0; b < w.rows->block.dims[0] - 1; b++) {
    sweep_block(w, b, q, bound);
    low = bound[0] < low ? bound[0] : low;
    high = bound[THREADS] > high ? bound[THREADS] : high;
    __syncthreads();
  }
  side[0] = low;
  side[1] = high;
  return -low > high ? -low : high;
}


RGM_KERNEL(THREADS) solve_kernel(rgm_mdp_solve a) {
  RGM_SHARED(double, q, [RGM_BLOCK_ROWS]);
  RGM_SHARED(double, bound, [2 * THREADS]);
  RGM_SHARED(picking, shared, );
  RGM_REPLICAS (r, a.value.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    rgm_mdp_pick pick;
    pick.to = a.chosen;
    pick.from = a.rows;
    pick.action = a.action;
    pick.active = a.active;
    double *v = f64(a.value, r), side[2], unused[2];
    sweep improve;
    improve.rows = &a.rows;
    improve.r = r;
    improve.value = v;
    improve.out = v;
    improve.q = nullptr;
    improve.action = i32(a.action, r);
    improve.gamma = f64(a.gamma, r)[0];
    improve.tie = f64(a.tie, r)[0];
    improve.offset = 0.0;
    improve.least = false;
    sweep follow = improve;
    follow.rows = &a.chosen;
    follow.action = nullptr;
    uint32_t round = 1;
    for (;; round++) {
      const double most = sweep_all(improve, q, bound, side);
      if (!(most > f64(a.stop, r)[0]) || round >= a.most) {
        break;
      }
      for (int64_t b = 0; b < a.rows.block.dims[0] - 1 && a.sweeps > 0; b++) {
        pick_block(pick, r, b, &shared);
      }
      for (uint32_t k = 0; k < a.sweeps; k++) {
        (void)sweep_all(follow, q, bound, unused);
      }
    }
    if (threadIdx.x == 0) {
      f64(a.bounds, r)[0] = side[0];
      f64(a.bounds, r)[1] = side[1];
      rgm_u32(a.rounds, r)[0] = round;
    }
    __syncthreads();
  }
}


void rgm_cuda_mdp_solve(rgm_stream *s, const rgm_mdp_solve *a) {
  const dim3 grid(1, rgm_replica_blocks(a->value.dims[0]));
  RGM_LAUNCH(solve_kernel, grid, THREADS, 0, s, *a);
}


// ---- bootstrap and learning --------------------------------------------------------------------

// a thread a lane
RGM_KERNEL(THREADS) draw_kernel(rgm_mdp_draw a) {
  const int64_t blocks = a.rows.block.dims[0] - 1;
  RGM_REPLICAS (r, a.p.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    for (int64_t b = blockIdx.x; b < blocks; b += gridDim.x) {
      const int64_t slice = rgm_at_u32(a.rows.slice, 0, b);
      const int64_t lanes = RGM_SLICE * (rgm_at_u32(a.rows.slice, 0, b + 1) - slice);
      const int64_t row = rgm_at_u32(a.rows.first, 0, rgm_at_u32(a.rows.block, 0, b));
      for (int64_t i = threadIdx.x; i < lanes; i += THREADS) {
        const int64_t n = slice + i / RGM_SLICE;
        const int32_t lane = rgm_at_i32(a.rows.lane, 0, RGM_SLICE * slice + i);
        const uint32_t length = rgm_at_u32(a.rows.length, 0, n);
        const size_t at =
            RGM_SLICE * (size_t)rgm_at_u32(a.rows.start, 0, n) + (size_t)(i % RGM_SLICE);
        if (lane != RGM_MDP_LANE) {
          rgm_mdp_draw_row(&a, r, RGM_SLICE * slice + i, row + lane, at, length);
        } else {
          for (uint32_t k = 0; k < length; k++) {
            f64(a.p, r)[at + RGM_SLICE * (size_t)k] = 0.0;
          }
        }
      }
    }
  }
}


void rgm_cuda_mdp_draw(rgm_stream *s, const rgm_mdp_draw *a) {
  const dim3 grid(rgm_blocks(a->rows.block.dims[0] - 1, 1, 1024), rgm_replica_blocks(a->p.dims[0]));
  RGM_LAUNCH(draw_kernel, grid, THREADS, 0, s, *a);
}


RGM_KERNEL(THREADS) learn_kernel(rgm_mdp_learn a) {
  RGM_ELEMENTS (r, a.q.dims[0]) {
    if (rgm_u32(a.active, r)[0] != 0) {
      rgm_mdp_learn_some(&a, r, 1);
    }
  }
}


void rgm_cuda_mdp_learn(rgm_stream *s, const rgm_mdp_learn *a) {
  RGM_LAUNCH(learn_kernel, dim3(rgm_blocks(a->q.dims[0], THREADS, 1024)), THREADS, 0, s, *a);
}
