// SPDX-License-Identifier: Apache-2.0
// Tabular Markov decision problems on the CPU: a block of states at a time, eight rows a vector.
// The values of a local problem stay in the caches, so that a sweep is one stream of p and next.

#include "kernels/cpu/cpu.h"
#include "kernels/tabular.h"

#include <math.h>
#include <string.h>

// What a sweep reads and writes of one replica.
typedef struct sweep {
  const rgm_mdp_rows *rows;
  int64_t r;
  const double *value;
  double *out, *q;           // q may be NULL
  int32_t *action;           // may be NULL
  double gamma, tie, offset; // offset is taken from out
  bool least;
} sweep;


static inline double *f64(rgm_tensor t, int64_t r) {
  return (double *)t.data + r * t.stride0;
}
static inline int32_t *i32(rgm_tensor t, int64_t r) {
  return (int32_t *)t.data + r * t.stride0;
}


// ---- sums of a slice: sum[8] = sum_k p_k v(next_k) ---------------------------------------------

// Of a model that no cache holds entries are asked for so many ahead: processors look ahead by
// themselves within a page of 4 KiB only, and every page of p and next is a new one.
enum { AHEAD = 512, FAR = 1 << 20 };

static inline void ask_wide(const double *p, const int32_t *next, uint32_t k, bool ahead) {
  if (ahead) {
    RGM_FETCH(p + RGM_SLICE * (size_t)k + AHEAD);
    if (k % 2 == 0) {
      RGM_FETCH(next + RGM_SLICE * (size_t)k + AHEAD);
    }
  }
}


static inline void ask_compact(const uint32_t *entry, uint32_t k, bool ahead) {
  if (ahead && k % 2 == 0) {
    RGM_FETCH(entry + RGM_SLICE * (size_t)k + AHEAD);
  }
}


#if defined(__AVX2__) && defined(__FMA__)

// Four and eight values by single loads: on processors that guard gathers against data sampling
// (2023) the instruction takes 30 cycles, these loads 8. Two indices come by one load.
static inline __m256d four_of(const int32_t *at, const double *v) {
  uint64_t i, j;
  memcpy(&i, at, sizeof i);
  memcpy(&j, at + 2, sizeof j);
  const __m128d x = _mm_loadh_pd(_mm_load_sd(v + (uint32_t)i), v + (i >> 32));
  const __m128d y = _mm_loadh_pd(_mm_load_sd(v + (uint32_t)j), v + (j >> 32));
  return _mm256_insertf128_pd(_mm256_castpd128_pd256(x), y, 1);
}

#endif

#if defined(__AVX512F__)

static inline __m512d eight_of(const int32_t *at, const double *v) {
  return _mm512_insertf64x4(_mm512_castpd256_pd512(four_of(at, v)), four_of(at + 4, v), 1);
}


static inline void sum_wide(const double *p, const int32_t *next, const double *v, uint32_t length,
                            bool ahead, double *sum) {
  __m512d x = _mm512_setzero_pd();
  for (uint32_t k = 0; k < length; k++) {
    ask_wide(p, next, k, ahead);
    x = _mm512_fmadd_pd(_mm512_loadu_pd(p + RGM_SLICE * (size_t)k),
                        eight_of(next + RGM_SLICE * (size_t)k, v), x);
  }
  _mm512_storeu_pd(sum, x);
}


static inline void sum_compact(const uint32_t *entry, const int32_t *home, const double *v,
                               uint32_t length, bool ahead, double *sum) {
  const __m256i base = _mm256_loadu_si256((const __m256i *)home);
  const __m256i low = _mm256_set1_epi32(0xFFFF);
  __m512d x = _mm512_setzero_pd();
  for (uint32_t k = 0; k < length; k++) {
    const __m256i e = _mm256_loadu_si256((const __m256i *)(entry + RGM_SLICE * (size_t)k));
    ask_compact(entry, k, ahead);
    const __m256i at = _mm256_add_epi32(base, _mm256_srai_epi32(e, 16));
    x = _mm512_fmadd_pd(_mm512_cvtepi32_pd(_mm256_and_si256(e, low)), _mm512_i32gather_pd(at, v, 8),
                        x);
  }
  _mm512_storeu_pd(sum, x);
}

#elif defined(__AVX2__) && defined(__FMA__)

static inline void sum_wide(const double *p, const int32_t *next, const double *v, uint32_t length,
                            bool ahead, double *sum) {
  __m256d x = _mm256_setzero_pd(), y = _mm256_setzero_pd();
  for (uint32_t k = 0; k < length; k++) {
    const double *pk = p + RGM_SLICE * (size_t)k;
    const int32_t *at = next + RGM_SLICE * (size_t)k;
    ask_wide(p, next, k, ahead);
    x = _mm256_fmadd_pd(_mm256_loadu_pd(pk), four_of(at, v), x);
    y = _mm256_fmadd_pd(_mm256_loadu_pd(pk + 4), four_of(at + 4, v), y);
  }
  _mm256_storeu_pd(sum, x);
  _mm256_storeu_pd(sum + 4, y);
}


static inline void sum_compact(const uint32_t *entry, const int32_t *home, const double *v,
                               uint32_t length, bool ahead, double *sum) {
  const __m128i low = _mm_set1_epi32(0xFFFF);
  for (int half = 0; half < RGM_SLICE; half += 4) {
    const __m128i base = _mm_loadu_si128((const __m128i *)(home + half));
    __m256d x = _mm256_setzero_pd();
    for (uint32_t k = 0; k < length; k++) {
      const uint32_t *from = entry + RGM_SLICE * (size_t)k + half;
      const __m128i e = _mm_loadu_si128((const __m128i *)from);
      int32_t at[4];
      ask_compact(entry, k, ahead && half == 0);
      _mm_storeu_si128((__m128i *)at, _mm_add_epi32(base, _mm_srai_epi32(e, 16)));
      x = _mm256_fmadd_pd(_mm256_cvtepi32_pd(_mm_and_si128(e, low)), four_of(at, v), x);
    }
    _mm256_storeu_pd(sum + half, x);
  }
}

#else

static inline void sum_wide(const double *p, const int32_t *next, const double *v, uint32_t length,
                            bool ahead, double *sum) {
  for (int i = 0; i < RGM_SLICE; i++) {
    double x = 0.0;
    for (uint32_t k = 0; k < length; k++) {
      const size_t at = RGM_SLICE * (size_t)k + (size_t)i;
      ask_wide(p, next, k, ahead && i == 0);
      x = rgm_fma64(p[at], v[next[at]], x);
    }
    sum[i] = x;
  }
}


static inline void sum_compact(const uint32_t *entry, const int32_t *home, const double *v,
                               uint32_t length, bool ahead, double *sum) {
  for (int i = 0; i < RGM_SLICE; i++) {
    double x = 0.0;
    for (uint32_t k = 0; k < length; k++) {
      const uint32_t e = entry[RGM_SLICE * (size_t)k + (size_t)i];
      ask_compact(entry, k, ahead && i == 0);
      x = rgm_fma64((double)(e & 0xFFFFu), v[home[i] + ((int32_t)e >> 16)], x);
    }
    sum[i] = x;
  }
}

#endif


// ---- a block of states -------------------------------------------------------------------------

// q of a slice's rows from their sums; mostly these are eight neighbours
static inline void put_rows(const int32_t *lane, const double *sum, double gamma,
                            const double *reward, double *q) {
#if defined(__AVX512F__)
  const __m256i at = _mm256_loadu_si256((const __m256i *)lane);
  const __m256i neighbours =
      _mm256_add_epi32(_mm256_set1_epi32(lane[0]), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  if (lane[0] >= 0 && _mm256_movemask_epi8(_mm256_cmpeq_epi32(at, neighbours)) == -1) {
    _mm512_storeu_pd(q + lane[0], _mm512_fmadd_pd(_mm512_set1_pd(gamma), _mm512_loadu_pd(sum),
                                                  _mm512_loadu_pd(reward + lane[0])));
    return;
  }
#endif
  for (int i = 0; i < RGM_SLICE; i++) {
    if (lane[i] != RGM_MDP_LANE) {
      q[lane[i]] = rgm_fma64(gamma, sum[i], reward[lane[i]]);
    }
  }
}


// q of all rows of block b, in the order of the rows
static void block_rows(const sweep *w, int64_t b, double *q) {
  const rgm_mdp_rows *m = w->rows;
  const double *reward = f64(m->reward, w->r) + rgm_at_u32(m->first, 0, rgm_at_u32(m->block, 0, b));
  const double gamma = w->gamma * m->scale;
  const bool far = m->p.dims[1] >= FAR;
  const int64_t end = rgm_at_u32(m->slice, 0, b + 1);
  for (int64_t n = rgm_at_u32(m->slice, 0, b); n < end; n++) {
    const size_t at = RGM_SLICE * (size_t)rgm_at_u32(m->start, 0, n);
    const uint32_t length = rgm_at_u32(m->length, w->r, n);
    double sum[RGM_SLICE];
    if (m->next.data == NULL) {
      sum_compact(rgm_u32(m->p, w->r) + at, i32(m->home, 0) + RGM_SLICE * n, w->value, length, far,
                  sum);
    } else if (far) {
      sum_wide(f64(m->p, w->r) + at, i32(m->next, w->r) + at, w->value, length, true, sum);
    } else {
      sum_wide(f64(m->p, w->r) + at, i32(m->next, w->r) + at, w->value, length, false, sum);
    }
    put_rows(i32(m->lane, w->r) + RGM_SLICE * n, sum, gamma, reward, q);
  }
}


// the best row of a state, as rgm_mdp_best; eight rows at once where there are eight
static inline double best_of(const double *q, int count, int old, double tie, bool least,
                             int *action) {
#if defined(__AVX512F__)
  if (count == RGM_SLICE) {
    const __m512d x = _mm512_loadu_pd(q);
    const double best = least ? _mm512_reduce_min_pd(x) : _mm512_reduce_max_pd(x);
    const unsigned equal = _mm512_cmp_pd_mask(x, _mm512_set1_pd(best), _CMP_EQ_OQ);
    const bool keeps =
        old >= 0 && old < count && (least ? q[old] - best <= tie : best - q[old] <= tie);
    *action = keeps ? old : equal != 0 ? __builtin_ctz(equal) : 0;
    return best;
  }
#endif
  return rgm_mdp_best(q, count, old, tie, least, action);
}


// the states of block b: out, action; the least and largest change go to bound[2]
static void block_states(const sweep *w, int64_t b, double *bound) {
  const rgm_mdp_rows *m = w->rows;
  const uint32_t *first = rgm_u32(m->first, 0);
  const int64_t begin = rgm_at_u32(m->block, 0, b), end = rgm_at_u32(m->block, 0, b + 1);
  double own[RGM_BLOCK_ROWS];
  double *q = w->q != NULL ? w->q + first[begin] : own;
  double low = INFINITY, high = -INFINITY;
  block_rows(w, b, q);
  for (int64_t s = begin; s < end; s++) {
    const int count = (int)(first[s + 1] - first[s]);
    double value = w->value[s];
    if (count == 1) {
      value = q[first[s] - first[begin]];
    } else if (count > 1) {
      int action = w->action != NULL ? w->action[s] : RGM_MDP_LANE;
      value = best_of(q + (first[s] - first[begin]), count, action, w->tie, w->least, &action);
      if (w->action != NULL) {
        w->action[s] = action;
      }
    }
    if (count == 1 && w->action != NULL) {
      w->action[s] = 0;
    }
    const double change = value - w->value[s];
    low = change < low ? change : low;
    high = change > high ? change : high;
    w->out[s] = value - w->offset;
  }
  bound[0] = low;
  bound[1] = high;
}


static void widen(double *all, const double *part) {
  all[0] = part[0] < all[0] ? part[0] : all[0];
  all[1] = part[1] > all[1] ? part[1] : all[1];
}


static void bellman_task(void *arg, int64_t index) {
  const rgm_bellman *a = arg;
  const int64_t blocks = a->rows.block.dims[0] - 1, r = index / blocks, b = index % blocks;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const sweep w = {
      .rows = &a->rows,
      .r = r,
      .value = f64(a->value, r),
      .out = f64(a->out, r),
      .q = a->q.data != NULL ? f64(a->q, r) : NULL,
      .action = a->action.data != NULL ? i32(a->action, r) : NULL,
      .gamma = f64(a->gamma, r)[0],
      .tie = f64(a->tie, r)[0],
      .offset = a->reference >= 0 ? f64(a->value, r)[a->reference] : 0.0,
      .least = a->least,
  };
  block_states(&w, b, f64(a->partial, r) + 2 * b);
}


void RGM_CPU(bellman)(rgm_stream *s, const rgm_bellman *bellman) {
  rgm_bellman a = *bellman;
  const int64_t blocks = a.rows.block.dims[0] - 1;
  rgm_cpu_parallel(s, a.value.dims[0] * blocks, bellman_task, &a);
  for (int64_t r = 0; r < a.value.dims[0]; r++) {
    if (rgm_u32(a.active, r)[0] != 0) {
      double *bounds = f64(a.bounds, r);
      bounds[0] = INFINITY;
      bounds[1] = -INFINITY;
      for (int64_t b = 0; b < blocks; b++) {
        widen(bounds, f64(a.partial, r) + 2 * b);
      }
    }
  }
}


// ---- a policy's rows ---------------------------------------------------------------------------

// where the entries of row `row` of a block are: of its slice, and its lane in it
typedef struct found {
  int64_t slice;
  int lane;
  uint32_t length;
} found;


// Finds the rows of block b in the slices. `at` has a place for each of the block's rows.
static void find_rows(const rgm_mdp_rows *m, int64_t r, int64_t b, found *at) {
  for (int64_t n = rgm_at_u32(m->slice, 0, b); n < rgm_at_u32(m->slice, 0, b + 1); n++) {
    const int32_t *lane = i32(m->lane, r) + RGM_SLICE * n;
    for (int i = 0; i < RGM_SLICE; i++) {
      if (lane[i] != RGM_MDP_LANE) {
        at[lane[i]] = (found){n, i, rgm_at_u32(m->length, r, n)};
      }
    }
  }
}


// entries of a row that are not 0: those of a drawn problem often are, and add nothing
static uint32_t count_entries(const rgm_mdp_pick *a, int64_t r, found x) {
  const double *p = f64(a->from.p, r) + RGM_SLICE * (size_t)rgm_at_u32(a->from.start, 0, x.slice) +
                    (size_t)x.lane;
  uint32_t count = 0;
  for (uint32_t k = 0; k < x.length; k++) {
    count += p[RGM_SLICE * (size_t)k] != 0.0;
  }
  return count;
}


// Row `row` of `to` (one a state) in lane `lane` of slice n: a copy of a row of `from` without its
// zeros, padded.
static void copy_row(const rgm_mdp_pick *a, int64_t r, int64_t n, int lane, found source,
                     int32_t home, uint32_t length) {
  const size_t dst = RGM_SLICE * (size_t)rgm_at_u32(a->to.start, 0, n) + (size_t)lane;
  double *p = f64(a->to.p, r);
  int32_t *next = i32(a->to.next, r);
  const size_t src =
      RGM_SLICE * (size_t)rgm_at_u32(a->from.start, 0, source.slice) + (size_t)source.lane;
  const double *from_p = f64(a->from.p, r);
  const int32_t *from_next = i32(a->from.next, r);
  uint32_t at = 0;
  for (uint32_t k = 0; at < source.length; k++) {
    const double own = from_p[src + RGM_SLICE * (size_t)k];
    if (own != 0.0) {
      p[dst + RGM_SLICE * (size_t)at] = own;
      next[dst + RGM_SLICE * (size_t)at++] = from_next[src + RGM_SLICE * (size_t)k];
    }
  }
  for (; at < length; at++) {
    p[dst + RGM_SLICE * (size_t)at] = 0.0;
    next[dst + RGM_SLICE * (size_t)at] = home;
  }
}


// Block b: the rows that the policy takes, longest slices first, eight to a slice.
static void pick_block(const rgm_mdp_pick *a, int64_t r, int64_t b) {
  const uint32_t *first = rgm_u32(a->from.first, 0), *own = rgm_u32(a->to.first, 0);
  const int64_t begin = rgm_at_u32(a->to.block, 0, b), end = rgm_at_u32(a->to.block, 0, b + 1);
  found at[RGM_BLOCK_ROWS], chosen[RGM_BLOCK_STATES];
  int32_t state[RGM_BLOCK_STATES];
  int order[RGM_BLOCK_STATES], count = 0;
  find_rows(&a->from, r, b, at);
  for (int64_t s = begin; s < end; s++) {
    if (first[s + 1] > first[s]) {
      const int32_t action = i32(a->action, r)[s] > 0 ? i32(a->action, r)[s] : 0;
      chosen[count] = at[first[s] - first[begin] + (uint32_t)action];
      chosen[count].length = count_entries(a, r, chosen[count]);
      f64(a->to.reward, r)[own[s]] = f64(a->from.reward, r)[first[s] + (uint32_t)action];
      state[count] = (int32_t)s;
      count++;
    }
  }
  // a row's place is how many are longer, or as long and earlier
  for (int i = 0; i < count; i++) {
    int place = 0;
    for (int j = 0; j < count; j++) {
      place +=
          chosen[j].length > chosen[i].length || (chosen[j].length == chosen[i].length && j < i);
    }
    order[place] = i;
  }
  int64_t n = rgm_at_u32(a->to.slice, 0, b);
  for (int done = 0; done < count; done += RGM_SLICE, n++) {
    const uint32_t length = chosen[order[done]].length;
    rgm_u32(a->to.length, r)[n] = length;
    for (int i = 0; i < RGM_SLICE; i++) {
      const int k = done + i < count ? order[done + i] : -1;
      found source = k >= 0 ? chosen[k] : chosen[order[done]];
      source.length = k >= 0 ? source.length : 0;
      copy_row(a, r, n, i, source, state[k >= 0 ? k : order[done]], length);
      i32(a->to.lane, r)[RGM_SLICE * n + i] = k >= 0 ? k : RGM_MDP_LANE;
    }
  }
}


static void pick_task(void *arg, int64_t index) {
  const rgm_mdp_pick *a = arg;
  const int64_t blocks = a->to.block.dims[0] - 1, r = index / blocks;
  if (rgm_u32(a->active, r)[0] != 0) {
    pick_block(a, r, index % blocks);
  }
}


void RGM_CPU(mdp_pick)(rgm_stream *s, const rgm_mdp_pick *pick) {
  rgm_mdp_pick a = *pick;
  rgm_cpu_parallel(s, a.action.dims[0] * (a.to.block.dims[0] - 1), pick_task, &a);
}


// ---- whole solutions ---------------------------------------------------------------------------

// one sweep in place over all blocks
static void sweep_all(const sweep *w) {
  const int64_t blocks = w->rows->block.dims[0] - 1;
  for (int64_t b = 0; b < blocks; b++) {
    double unused[2];
    block_states(w, b, unused);
  }
}


// The same over all actions, with the changes' bounds; a block whose actions changed is picked anew
// (`fresh`: all are), since most stay what they were after the first rounds.
static void improve_all(const sweep *w, const rgm_mdp_pick *pick, bool fresh, double *bounds) {
  const int64_t blocks = w->rows->block.dims[0] - 1;
  bounds[0] = INFINITY;
  bounds[1] = -INFINITY;
  for (int64_t b = 0; b < blocks; b++) {
    const int64_t begin = rgm_at_u32(w->rows->block, 0, b);
    const size_t size = (size_t)(rgm_at_u32(w->rows->block, 0, b + 1) - begin) * sizeof(int32_t);
    int32_t before[RGM_BLOCK_STATES];
    double part[2];
    memcpy(before, w->action + begin, size);
    block_states(w, b, part);
    widen(bounds, part);
    if (fresh || memcmp(before, w->action + begin, size) != 0) {
      pick_block(pick, w->r, b);
    }
  }
}


static void solve_task(void *arg, int64_t r) {
  const rgm_mdp_solve *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const rgm_mdp_pick pick = {a->chosen, a->rows, a->action, a->active};
  double *v = f64(a->value, r), *bounds = f64(a->bounds, r);
  const sweep improve = {
      .rows = &a->rows,
      .r = r,
      .value = v,
      .out = v,
      .action = i32(a->action, r),
      .gamma = f64(a->gamma, r)[0],
      .tie = f64(a->tie, r)[0],
  };
  sweep follow = improve;
  follow.rows = &a->chosen;
  follow.action = NULL;
  for (uint32_t round = 1;; round++) {
    improve_all(&improve, &pick, round == 1, bounds);
    const double most = -bounds[0] > bounds[1] ? -bounds[0] : bounds[1];
    if (!(most > f64(a->stop, r)[0]) || round >= a->most) {
      rgm_u32(a->rounds, r)[0] = round;
      return;
    }
    for (uint32_t k = 0; k < a->sweeps; k++) {
      sweep_all(&follow);
    }
  }
}


void RGM_CPU(mdp_solve)(rgm_stream *s, const rgm_mdp_solve *solve) {
  rgm_mdp_solve a = *solve;
  rgm_cpu_parallel(s, a.value.dims[0], solve_task, &a);
}


// ---- bootstrap ---------------------------------------------------------------------------------

static void draw_task(void *arg, int64_t index) {
  const rgm_mdp_draw *a = arg;
  const int64_t blocks = a->rows.block.dims[0] - 1, r = index / blocks, b = index % blocks;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const uint32_t row = rgm_at_u32(a->rows.first, 0, rgm_at_u32(a->rows.block, 0, b));
  for (int64_t n = rgm_at_u32(a->rows.slice, 0, b); n < rgm_at_u32(a->rows.slice, 0, b + 1); n++) {
    const size_t at = RGM_SLICE * (size_t)rgm_at_u32(a->rows.start, 0, n);
    const uint32_t length = rgm_at_u32(a->rows.length, 0, n);
    for (int i = 0; i < RGM_SLICE; i++) {
      const int32_t lane = rgm_at_i32(a->rows.lane, 0, RGM_SLICE * n + i);
      if (lane != RGM_MDP_LANE) {
        rgm_mdp_draw_row(a, r, RGM_SLICE * n + i, (int64_t)row + lane, at + (size_t)i, length);
      } else {
        for (uint32_t k = 0; k < length; k++) {
          f64(a->p, r)[at + (size_t)i + RGM_SLICE * (size_t)k] = 0.0;
        }
      }
    }
  }
}


void RGM_CPU(mdp_draw)(rgm_stream *s, const rgm_mdp_draw *draw) {
  rgm_mdp_draw a = *draw;
  rgm_cpu_parallel(s, a.p.dims[0] * (a.rows.block.dims[0] - 1), draw_task, &a);
}


// ---- learning ----------------------------------------------------------------------------------

static bool learns(const rgm_mdp_learn *a, int64_t r) {
  return rgm_u32(a->active, r)[0] != 0;
}


// learners of group `index`: side by side where all of them learn, at one clock
static void learn_task(void *arg, int64_t index) {
  const rgm_mdp_learn *a = arg;
  const int64_t first = index * RGM_LEARNERS, left = a->q.dims[0] - first;
  bool whole = left >= RGM_LEARNERS;
  for (int64_t k = 0; k < RGM_LEARNERS && whole; k++) {
    whole = learns(a, first + k) &&
            rgm_at_u32(a->clock, first + k, 0) == rgm_at_u32(a->clock, first, 0);
  }
  if (whole) {
    rgm_mdp_learn_some(a, first, RGM_LEARNERS);
    return;
  }
  for (int64_t k = 0; k < RGM_LEARNERS && k < left; k++) {
    if (learns(a, first + k)) {
      rgm_mdp_learn_some(a, first + k, 1);
    }
  }
}


void RGM_CPU(mdp_learn)(rgm_stream *s, const rgm_mdp_learn *learn) {
  rgm_mdp_learn a = *learn;
  rgm_cpu_parallel(s, (a.q.dims[0] + RGM_LEARNERS - 1) / RGM_LEARNERS, learn_task, &a);
}
