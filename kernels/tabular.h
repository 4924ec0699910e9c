// SPDX-License-Identifier: Apache-2.0
// Rows of tabular Markov decision problems: the layout of transition probabilities that both
// devices read, one Bellman sweep, the copy of a policy's rows, a whole solution of a small
// problem, bootstrap draws, and tabular learning. All of it is in double; Puterman 1994 has the
// equations.
//
// A row is a state-action pair, the rows of a state are neighbours, and a state without rows is an
// end that keeps its value. Rows lie in slices of 8 (sliced ELLPACK): entry k of the 8 rows of a
// slice are neighbours, so that a vector, or a quarter of a warp, has a row a lane. Within a block
// of states the rows are sorted by length, longest first, to keep padding small. Padding has
// probability 0 and the row's own state, and changes no bit.
//
// The order of sums is the contract: x = 0, then x = fma(p_k, v(next_k), x) in the order of the
// entries, then q = fma(gamma scale, x, reward). Maxima take the first row of equals.

#ifndef RGM_TABULAR_H
#define RGM_TABULAR_H

#include "kernels/kernels.h"
#include "kernels/rng.h"
#include "kernels/scalar.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  RGM_SLICE = 8,         // rows of a slice
  RGM_BLOCK_STATES = 64, // states of a block at most
  RGM_BLOCK_ROWS = 4096, // rows of a block, hence of a state, at most
  RGM_MDP_UNIT = 65535,  // compact: a probability is a whole number of these parts
  RGM_MDP_LANE = -1,     // a lane without a row
};

// Wide: p f64 and next i32, 12 bytes an entry. Compact, for local models: p u32 and next.data NULL,
// 4 bytes an entry; the low half is p * 65535, the high half next - state, from -32768 to 32767.
// Tensors of one replica's structure are broadcast over the others (stride0 0).
typedef struct rgm_mdp_rows {
  rgm_tensor first;  // (S + 1) u32: rows first[s] ... first[s + 1] - 1 are those of state s
  rgm_tensor block;  // (B + 1) u32: states block[b] ... block[b + 1] - 1 are a block
  rgm_tensor slice;  // (B + 1) u32: first slice of a block
  rgm_tensor start;  // (N + 1) u32: where a slice's entries start, in units of 8 entries
  rgm_tensor length; // (R, N) u32: longest row of a slice
  rgm_tensor lane;   // (R, 8 N) i32: the row of a lane, counted within its block; or RGM_MDP_LANE
  rgm_tensor home;   // (8 N) i32, compact only: the state of a lane's row
  rgm_tensor p;      // (R, 8 start[N]) f64, or u32
  rgm_tensor next;   // (R, 8 start[N]) i32
  rgm_tensor reward; // (R, rows) f64: expected reward of a row
  double scale;      // 1, or 1 / 65535
} rgm_mdp_rows;

// One sweep: q of every row, out = max q, action = its row, counted within the state. An action
// that was there stays unless the gain is more than `tie`. Masked.
struct rgm_bellman {
  rgm_tensor out;     // (R, S) f64, written
  rgm_tensor q;       // (R, rows) f64, written unless data NULL
  rgm_tensor action;  // (R, S) i32, read and written; -1: none yet; data NULL: not asked for
  rgm_tensor partial; // (R, B, 2) f64, written: of a block the least and largest out - value
  rgm_tensor bounds;  // (R, 2) f64, written: of all
  rgm_tensor value;   // (R, S) f64
  rgm_tensor gamma;   // (R) f64
  rgm_tensor tie;     // (R) f64
  rgm_tensor active;  // (R) u32
  rgm_mdp_rows rows;
  bool least;        // min q in place of max q
  int64_t reference; // -1, or a state whose value is taken from all of `out` (White 1963)
};

// Copies a policy's rows: `to` has a row for each state that has any. Masked.
struct rgm_mdp_pick {
  rgm_mdp_rows to;   // length, lane, p, next and reward are written
  rgm_mdp_rows from; // wide
  rgm_tensor action; // (R, S) i32
  rgm_tensor active; // (R) u32
};

// Modified policy iteration (Puterman and Shin 1978) until the largest |Tv - v| is at most `stop`,
// a replica a thread or a block, all in caches: for small problems in large numbers. Sweeps are in
// place: a block of states sees what the blocks before it have become (block Gauss-Seidel), and T
// is such a sweep, a contraction as any. Masked.
struct rgm_mdp_solve {
  rgm_tensor value;            // (R, S) f64, read and written
  rgm_tensor action;           // (R, S) i32, read and written
  rgm_tensor bounds;           // (R, 2) f64, written
  rgm_tensor rounds;           // (R) u32, written: sweeps over all actions
  rgm_tensor gamma, tie, stop; // (R) f64
  rgm_tensor active;           // (R) u32
  rgm_mdp_rows rows, chosen;   // all actions; a policy's, work
  uint32_t sweeps;             // of evaluation after each improvement
  uint32_t most;               // rounds
};

// Draws every row of an MDP again from what was counted: count(row) transitions with replacement
// from its own probabilities (the bootstrap of Efron 1979, a row at a time). Philox counter {clock,
// row, transition / 2, member}; two words find an entry in an alias table (Walker 1977).
struct rgm_mdp_draw {
  rgm_tensor p;      // (R, 8 start[N]) f64, written
  rgm_tensor reward; // (R, rows) f64, written: sum of p gain
  rgm_tensor count;  // (rows) u32
  rgm_tensor gain;   // (8 start[N]) f64: reward of an entry
  rgm_tensor chance; // (8 start[N]) u32: an entry's own share of its column, of 2^32
  rgm_tensor alias;  // (8 start[N]) u32: k of the entry that has the rest
  rgm_tensor size;   // (8 N) u32: entries of a lane's row
  rgm_tensor seeds;  // (R, 2) u32
  rgm_tensor clock;  // (R) u32
  rgm_tensor active; // (R) u32
  rgm_mdp_rows rows;
  uint32_t member;
};

typedef enum rgm_learn_rule {
  RGM_LEARN_Q = 0,              // Watkins 1989
  RGM_LEARN_SARSA = 1,          // Rummery and Niranjan 1994
  RGM_LEARN_EXPECTED_SARSA = 2, // van Seijen et al. 2009
  RGM_LEARN_DOUBLE_Q = 3,       // van Hasselt 2010
  RGM_LEARN_TD0 = 4,            // Sutton 1988: v of a given policy, in `q`
} rgm_learn_rule;

enum { RGM_TALLY = 6, RGM_ARROW = 5 };

// `updates` transitions of each learner and its updates: q += lr (r + gamma next - q). Actions are
// epsilon-greedy; lr and epsilon go linearly from their first to their last value over `span`
// updates. An episode ends in a state without rows, or, truncated, after `longest` transitions;
// the next begins at once. Philox counter {clock, update, draw, 0}. Masked.
struct rgm_mdp_learn {
  rgm_tensor q;     // (R, T, rows) f64, T = 2 for double Q, else 1; of TD(0) (R, 1, S)
  rgm_tensor at;    // (R, 2) i32: state, -1 before the first episode; SARSA: the action to come
  rgm_tensor tally; // (R, 6) f64: of this episode return, discount, length; of all that ended
                    // number, sums of returns and of lengths
  rgm_tensor lr, lr_last, explore, explore_last, span, gamma; // (R) f64
  rgm_tensor seeds;                                           // (R, 2) u32
  rgm_tensor clock;                                           // (R) u32, counts calls
  rgm_tensor active;                                          // (R) u32
  rgm_tensor first;                                           // (S + 1) u32
  rgm_tensor start;                                           // (rows + 1) u32: entries of a row
  rgm_tensor arrow;  // (entries, 5) u32: chance, next, its reward (f32), alias' next and reward
  rgm_tensor begin;  // (S, 2) u32: alias table of the states where episodes begin
  rgm_tensor policy; // (rows) u32, TD(0): cumulated probabilities within a state, of 2^32 - 1
  rgm_learn_rule rule;
  uint32_t updates, longest;
};

// The nearest of K centres for each row: distance = sum over features d, in order, of (x_d - c_d)^2
// by fma, without those whose x is NaN: what was not measured says nothing. The first of equals.
// Centres lie feature by feature; K is a multiple of 16, and what is no centre is infinite. Masked.
struct rgm_nearest_centre {
  rgm_tensor index;  // (R, N) i32, written
  rgm_tensor least;  // (R, N) f32, written: the distance to it
  rgm_tensor all;    // (R, N, K) f32, written: of all centres; data NULL: not asked for
  rgm_tensor x;      // (R, N, D) f32
  rgm_tensor centre; // (R, D, K) f32
  rgm_tensor active; // (R) u32
};

// Backward induction (Puterman 4.5) on R small problems at once, dense: q = reward + gamma x, where
// x = 0, then x = fma(p, v(s'), x) in the order of the next states; actions of reward -inf may not
// be taken, maxima take the first of equals. Where no action may be taken, v stays what it is one
// step later. T is H, or 1: the same in every step. Masked.
struct rgm_induction {
  rgm_tensor value;  // (R, H + 1, S) f64, written but for stage H, which is read
  rgm_tensor action; // (R, H, S) i32, written; -1: there is none
  rgm_tensor p;      // (R, T, S * S, A) f64: row s S + s' has all actions of s
  rgm_tensor reward; // (R, T, S, A) f64
  rgm_tensor gamma;  // (R) f64
  rgm_tensor active; // (R) u32
};
enum { RGM_BACKWARD_ACTIONS = 64 }; // at most

// Front doors; shapes as above, RGM_ASSERT where they do not fit.
void rgm_mdp_bellman(rgm_stream *s, const rgm_bellman *b);
void rgm_mdp_copy_rows(rgm_stream *s, const rgm_mdp_pick *pick);
void rgm_mdp_solve_small(rgm_stream *s, const rgm_mdp_solve *solve);
void rgm_mdp_bootstrap(rgm_stream *s, const rgm_mdp_draw *draw);
void rgm_mdp_learning(rgm_stream *s, const rgm_mdp_learn *learn);
void rgm_mdp_nearest(rgm_stream *s, const rgm_nearest_centre *nearest);
void rgm_mdp_backward(rgm_stream *s, const rgm_induction *induct);

#ifdef __cplusplus
}
#endif

// ---- one source for both devices ---------------------------------------------------------------

// asks for a line of memory that is needed soon
#if defined(__GNUC__) && !defined(__CUDACC__)
#define RGM_FETCH(p) __builtin_prefetch(p)
#else
#define RGM_FETCH(p) (void)(p)
#endif

RGM_FN uint32_t rgm_at_u32(rgm_tensor t, int64_t r, int64_t i) {
  return ((const uint32_t *)t.data)[r * t.stride0 + i];
}

RGM_FN int32_t rgm_at_i32(rgm_tensor t, int64_t r, int64_t i) {
  return ((const int32_t *)t.data)[r * t.stride0 + i];
}

RGM_FN double rgm_at_f64(rgm_tensor t, int64_t r, int64_t i) {
  return ((const double *)t.data)[r * t.stride0 + i];
}

// The best of a state's q, of which `old` was the action: the value, and the action in its place.
RGM_FN double rgm_mdp_best(const double *q, int count, int old, double tie, bool least,
                           int *action) {
  int at = 0;
  double best = q[0];
  for (int a = 1; a < count; a++) {
    const bool better = least ? q[a] < best : q[a] > best;
    best = better ? q[a] : best;
    at = better ? a : at;
  }
  const bool keeps =
      old >= 0 && old < count &&
      (least ? q[old < 0 ? 0 : old] - best <= tie : best - q[old < 0 ? 0 : old] <= tie);
  *action = keeps ? old : at;
  return best;
}

// The best of the q of a state's actions, those of reward -inf apart: value, and action or -1.
RGM_FN void rgm_mdp_step_back(const double *q, const double *reward, int64_t actions, double later,
                              double *value, int32_t *action) {
  double best = later;
  int32_t at = -1;
  for (int64_t a = 0; a < actions; a++) {
    const bool better = reward[a] > -1e300 && (at < 0 || q[a] > best);
    best = better ? q[a] : best;
    at = better ? (int32_t)a : at;
  }
  *value = best;
  *action = at;
}

// Entry of a row, counted in the row, for a word: its high part is a column, its low part the coin
// between the column's own entry and its alias (to 2^-32 times the size of the row).
RGM_FN uint32_t rgm_mdp_alias(const rgm_mdp_draw *a, size_t at, uint32_t size, uint32_t word) {
  const uint64_t place = (uint64_t)word * size;
  const uint32_t k = (uint32_t)(place >> 32);
  const int64_t entry = (int64_t)(at + RGM_SLICE * (size_t)k);
  return (uint32_t)place <= rgm_at_u32(a->chance, 0, entry) ? k : rgm_at_u32(a->alias, 0, entry);
}

// Draws row `row` again: lane `lane`, its first entry at `at`, `length` entries with padding.
RGM_FN void rgm_mdp_draw_row(const rgm_mdp_draw *a, int64_t r, int64_t lane, int64_t row, size_t at,
                             uint32_t length) {
  double *p = (double *)a->p.data + r * a->p.stride0 + at, reward = 0.0;
  const uint32_t count = rgm_at_u32(a->count, 0, row), size = rgm_at_u32(a->size, 0, lane);
  const uint32_t *seed = (const uint32_t *)a->seeds.data + r * a->seeds.stride0;
  const rgm_key key = rgm_stream_key(seed, RGM_RANDOM_BOOTSTRAP);
  const uint32_t clock = rgm_at_u32(a->clock, r, 0);
  // what was never counted is known, not estimated
  for (uint32_t k = 0; k < length; k++) {
    const int64_t entry = (int64_t)(at + RGM_SLICE * (size_t)k);
    p[RGM_SLICE * (size_t)k] = count > 0 ? 0.0 : rgm_at_f64(a->rows.p, 0, entry);
  }
  for (uint32_t i = 0; i < count; i += 4) {
    const rgm_words w = rgm_philox(key, clock, (uint32_t)row, i / 4, a->member);
    p[RGM_SLICE * (size_t)rgm_mdp_alias(a, at, size, w.w0)] += 1.0;
    if (i + 1 < count) {
      p[RGM_SLICE * (size_t)rgm_mdp_alias(a, at, size, w.w1)] += 1.0;
    }
    if (i + 2 < count) {
      p[RGM_SLICE * (size_t)rgm_mdp_alias(a, at, size, w.w2)] += 1.0;
    }
    if (i + 3 < count) {
      p[RGM_SLICE * (size_t)rgm_mdp_alias(a, at, size, w.w3)] += 1.0;
    }
  }
  const double share = count > 0 ? (double)count : 1.0;
  for (uint32_t k = 0; k < length; k++) {
    const int64_t entry = (int64_t)(at + RGM_SLICE * (size_t)k);
    p[RGM_SLICE * (size_t)k] = p[RGM_SLICE * (size_t)k] / share;
    reward = rgm_fma64(p[RGM_SLICE * (size_t)k], rgm_at_f64(a->gain, 0, entry), reward);
  }
  ((double *)a->reward.data)[r * a->reward.stride0 + row] = reward;
}

// One learner: what stays the same over its updates.
typedef struct rgm_learner {
  double *q, *twin;                                // twin NULL without a second table
  double gamma, explore, lr[2], explores[2], span; // first and last values
  const uint32_t *first;
  const uint32_t *arrow; // where the action leads
  uint32_t row;          // of the action
  int known;             // the greedy action where it is, -1: not known
} rgm_learner;

// q of row `row`; of both tables where there are two
RGM_FN double rgm_learner_q(const rgm_learner *l, uint32_t row) {
  return l->twin != NULL ? l->q[row] + l->twin[row] : l->q[row];
}

// The greedy action of a state, the first of equals, and its value.
RGM_FN int rgm_learner_greedy(const rgm_learner *l, int state, double *value) {
  const uint32_t first = l->first[state], count = l->first[state + 1] - first;
  int at = 0;
  double best = rgm_learner_q(l, first);
  for (uint32_t a = 1; a < count; a++) {
    const double x = rgm_learner_q(l, first + a);
    at = x > best ? (int)a : at;
    best = x > best ? x : best;
  }
  *value = best;
  return at;
}

// An epsilon-greedy action for two words; `known` is the greedy one if it is not negative.
RGM_FN int rgm_learner_act(const rgm_learner *l, int state, uint32_t coin, uint32_t which,
                           int known) {
  double value;
  if (rgm_unit64(coin) < l->explore) {
    return (int)((uint64_t)which * (l->first[state + 1] - l->first[state]) >> 32);
  }
  return known >= 0 ? known : rgm_learner_greedy(l, state, &value);
}

// What is expected from the next state on by SARSA, expected SARSA and double Q.
RGM_FN double rgm_learner_next(const rgm_learner *l, rgm_learn_rule rule, const double *other,
                               int state, int action) {
  const uint32_t first = l->first[state], count = l->first[state + 1] - first;
  if (count == 0) {
    return 0.0;
  }
  if (rule == RGM_LEARN_SARSA) {
    return l->q[first + (uint32_t)action];
  }
  if (rule == RGM_LEARN_EXPECTED_SARSA) {
    double best = other[first], sum = 0.0;
    for (uint32_t a = 0; a < count; a++) {
      const double x = other[first + a];
      best = x > best ? x : best;
      sum = sum + x;
    }
    return rgm_fma64(l->explore, sum / (double)count - best, best);
  }
  // double Q: the action by one table, its value by the other
  const double *own = other == l->q ? l->twin : l->q;
  double chosen = other[first], top = own[first];
  for (uint32_t a = 1; a < count; a++) {
    chosen = own[first + a] > top ? other[first + a] : chosen;
    top = own[first + a] > top ? own[first + a] : top;
  }
  return chosen;
}

// An action of the policy that TD(0) evaluates.
RGM_FN int rgm_learner_follow(const rgm_mdp_learn *a, const rgm_learner *l, int state,
                              uint32_t word) {
  const uint32_t first = l->first[state], count = l->first[state + 1] - first;
  uint32_t k = 0;
  while (k + 1 < count && rgm_at_u32(a->policy, 0, first + k) < word) {
    k++;
  }
  return (int)k;
}

// The first half of an update of learner r, number i of this call, with the words w: begins an
// episode where none goes on, chooses the action, finds the arrow that says where it leads.
RGM_FN void rgm_mdp_learn_choose(const rgm_mdp_learn *a, int64_t r, rgm_learner *l, rgm_key key,
                                 uint32_t clock, uint32_t i, const uint32_t *w) {
  const uint32_t *start = (const uint32_t *)a->start.data;
  const bool sarsa = a->rule == RGM_LEARN_SARSA, td = a->rule == RGM_LEARN_TD0;
  int32_t *at = (int32_t *)a->at.data + r * a->at.stride0;
  double *tally = (double *)a->tally.data + r * a->tally.stride0;
  if (at[0] < 0) {
    // a new episode; an action that SARSA had for the old one is void
    const rgm_words v = rgm_philox(key, clock, i, 1, 0);
    const uint32_t k = (uint32_t)((uint64_t)v.w0 * (uint64_t)(a->first.dims[0] - 1) >> 32);
    const uint32_t *b = (const uint32_t *)a->begin.data + 2 * (size_t)k;
    at[0] = (int32_t)(v.w1 <= b[0] ? k : b[1]);
    at[1] = sarsa ? rgm_learner_act(l, at[0], v.w2, v.w3, -1) : 0;
    l->known = -1;
    tally[0] = 0.0;
    tally[1] = 1.0;
    tally[2] = 0.0;
  }
  const int action = sarsa ? at[1]
                     : td  ? rgm_learner_follow(a, l, at[0], w[2])
                           : rgm_learner_act(l, at[0], w[2], w[3], l->known);
  l->row = l->first[at[0]] + (uint32_t)action;
  const uint32_t begin = start[l->row];
  const uint32_t k = (uint32_t)((uint64_t)w[0] * (start[l->row + 1] - begin) >> 32);
  l->arrow = (const uint32_t *)a->arrow.data + RGM_ARROW * (size_t)(begin + k);
  RGM_FETCH(l->arrow);
}

// The second half: goes there and learns. l->known is the greedy action of the state where it is,
// or -1, and becomes that of the next.
RGM_FN void rgm_mdp_learn_step(const rgm_mdp_learn *a, int64_t r, rgm_learner *l, const uint32_t *w,
                               double lr) {
  const bool sarsa = a->rule == RGM_LEARN_SARSA, td = a->rule == RGM_LEARN_TD0;
  int32_t *at = (int32_t *)a->at.data + r * a->at.stride0;
  double *tally = (double *)a->tally.data + r * a->tally.stride0;
  const int state = at[0];
  const uint32_t row = l->row;
  // a coin is no branch, which would be mispredicted every other time
  const uint32_t *side = l->arrow + 1 + 2 * (size_t)(w[1] > l->arrow[0]);
  const int next = (int)side[0];
  const double reward = (double)rgm_from_bits(side[1]);
  const bool ends = l->first[next + 1] == l->first[next];
  l->known = -1;
  if (td) {
    const double goal = rgm_fma64(l->gamma, l->q[next], reward);
    l->q[state] = rgm_fma64(lr, goal - l->q[state], l->q[state]);
  } else if (a->rule == RGM_LEARN_Q) {
    double best = 0.0;
    const int top = ends ? -1 : rgm_learner_greedy(l, next, &best);
    const double goal = rgm_fma64(l->gamma, best, reward);
    l->q[row] = rgm_fma64(lr, goal - l->q[row], l->q[row]);
    l->known = next != state ? top : -1; // of its own state the update may have changed it
  } else {
    double *table = l->twin != NULL && (w[2] & 1u) != 0 ? l->twin : l->q;
    const double *other = l->twin == NULL ? table : table == l->q ? l->twin : l->q;
    at[1] = sarsa && !ends ? rgm_learner_act(l, next, w[2], w[3], -1) : 0;
    const double goal =
        rgm_fma64(l->gamma, ends ? 0.0 : rgm_learner_next(l, a->rule, other, next, at[1]), reward);
    table[row] = rgm_fma64(lr, goal - table[row], table[row]);
  }
  tally[0] = rgm_fma64(tally[1], reward, tally[0]);
  tally[1] = tally[1] * l->gamma;
  tally[2] = tally[2] + 1.0;
  at[0] = next;
  if (ends || tally[2] >= (double)a->longest) {
    tally[3] = tally[3] + 1.0;
    tally[4] = tally[4] + tally[0];
    tally[5] = tally[5] + tally[2];
    at[0] = -1;
  }
}

// Learners that a thread takes side by side, an update of each in turn: the next state of one waits
// for three loads, during which the others go on.
enum { RGM_LEARNERS = 8 };

// Learner r before its updates.
RGM_FN void rgm_mdp_learner(const rgm_mdp_learn *a, int64_t r, rgm_learner *l) {
  l->q = (double *)a->q.data + r * a->q.stride0;
  l->twin = a->rule == RGM_LEARN_DOUBLE_Q ? l->q + a->q.dims[2] : NULL;
  l->gamma = rgm_at_f64(a->gamma, r, 0);
  l->first = (const uint32_t *)a->first.data;
  l->lr[0] = rgm_at_f64(a->lr, r, 0);
  l->lr[1] = rgm_at_f64(a->lr_last, r, 0);
  l->explores[0] = rgm_at_f64(a->explore, r, 0);
  l->explores[1] = rgm_at_f64(a->explore_last, r, 0);
  l->span = rgm_at_f64(a->span, r, 0);
  l->known = -1;
}


// All updates of `count` learners from r on, of one clock; words are drawn for as many at a time as
// there are lanes.
RGM_INLINE void rgm_mdp_learn_some(const rgm_mdp_learn *a, int64_t r, int count) {
  const uint32_t clock = rgm_at_u32(a->clock, r, 0);
  rgm_learner l[RGM_LEARNERS];
  rgm_key key[RGM_LEARNERS];
  for (int k = 0; k < count; k++) {
    const uint32_t *seed = (const uint32_t *)a->seeds.data + (r + k) * a->seeds.stride0;
    key[k] = rgm_stream_key(seed, RGM_RANDOM_LEARN);
    rgm_mdp_learner(a, r + k, &l[k]);
  }
  for (uint32_t begin = 0; begin < a->updates; begin += RGM_LANE_WIDTH) {
    uint32_t item[RGM_LANE_WIDTH], word[RGM_LEARNERS][4][RGM_LANE_WIDTH];
    for (uint32_t i = 0; i < RGM_LANE_WIDTH; i++) {
      item[i] = begin + i;
    }
    for (int k = 0; k < count; k++) {
      rgm_lanes_u32 out[4];
      rgm_philox_lanes(key[k], clock, rgm_lanes_u32_load(item), 0, 0, out);
      for (int j = 0; j < 4; j++) {
        rgm_lanes_u32_store(word[k][j], out[j]);
      }
    }
    for (uint32_t i = 0; i < RGM_LANE_WIDTH && begin + i < a->updates; i++) {
      const double done = (double)clock * (double)a->updates + (double)(begin + i);
      uint32_t w[RGM_LEARNERS][4];
      double lr[RGM_LEARNERS];
      for (int k = 0; k < count; k++) {
        const double part = done < l[k].span ? done / l[k].span : 1.0;
        for (int j = 0; j < 4; j++) {
          w[k][j] = word[k][j][i];
        }
        l[k].explore = rgm_fma64(part, l[k].explores[1] - l[k].explores[0], l[k].explores[0]);
        lr[k] = rgm_fma64(part, l[k].lr[1] - l[k].lr[0], l[k].lr[0]);
        rgm_mdp_learn_choose(a, r + k, &l[k], key[k], clock, begin + i, w[k]);
      }
      for (int k = 0; k < count; k++) {
        rgm_mdp_learn_step(a, r + k, &l[k], w[k], lr[k]);
      }
    }
  }
}

#endif
