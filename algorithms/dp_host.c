// SPDX-License-Identifier: Apache-2.0
// Exact answers about policies of tabular problems, and sweeps whose order matters (Puterman 1994,
// ch. 6; Moore & Atkeson 1993). All in double, one thread, the same bits everywhere.

#include "algorithms/dp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


// ---- policies ----------------------------------------------------------------------------------

void dp_weights_of(const rgm_mdp *m, const int32_t *choice, double *weight) {
  for (int64_t s = 0; s < m->states; s++) {
    int32_t k = 0;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      weight[n] = m->allowed[n] != 0 && k++ == (choice[s] > 0 ? choice[s] : 0) ? 1.0 : 0.0;
    }
  }
}


void dp_weights_uniform(const rgm_mdp *m, double *weight) {
  memset(weight, 0, (size_t)m->rows * sizeof *weight);
  dp_weights_soften(m, 1.0, weight);
}


void dp_weights_soften(const rgm_mdp *m, double epsilon, double *weight) {
  for (int64_t s = 0; s < m->states; s++) {
    int64_t allowed = 0;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      allowed += m->allowed[n] != 0;
    }
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      weight[n] *= 1.0 - epsilon;
      weight[n] += m->allowed[n] != 0 ? epsilon / (double)allowed : 0.0;
    }
  }
}


static rgm_status add_chain(const rgm_mdp *m, const double *weight, rgm_mdp_builder *b) {
  for (int64_t s = 0; s < m->states; s++) {
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      for (int64_t i = m->start[n]; i < m->start[n + 1] && weight[n] > 0.0; i++) {
        RGM_TRY(rgm_mdp_add(b, n, s, 0, m->next[i], weight[n] * m->p[i], m->gain[i]));
      }
    }
  }
  return RGM_OK;
}


rgm_status dp_chain(const rgm_mdp *m, const double *weight, rgm_mdp **out) {
  rgm_mdp_builder *b;
  RGM_TRY(rgm_mdp_builder_new("the policy's chain", &b));
  const rgm_status status = add_chain(m, weight, b);
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  const rgm_mdp_checks checks = {.tolerance = 1e-6};
  RGM_TRY(rgm_mdp_finish(b, m->states, 1, &checks, out));

  // what belongs to the states comes along
  const size_t S = (size_t)m->states;
  (*out)->begin = m->begin != NULL ? malloc(S * sizeof *m->begin) : NULL;
  (*out)->good = m->good != NULL ? malloc(S) : NULL;
  if ((m->begin != NULL && (*out)->begin == NULL) || (m->good != NULL && (*out)->good == NULL)) {
    return rgm_fail(RGM_EMEMORY, "no memory for a policy's chain");
  }
  if (m->begin != NULL) {
    memcpy((*out)->begin, m->begin, S * sizeof *m->begin);
  }
  if (m->good != NULL) {
    memcpy((*out)->good, m->good, S);
  }
  return RGM_OK;
}


// ---- linear systems ----------------------------------------------------------------------------

double dp_row(const rgm_mdp *m, int64_t row, double gamma, const double *value) {
  double sum = 0.0;
  for (int64_t i = m->start[row]; i < m->start[row + 1]; i++) {
    sum = fma(m->p[i], value[m->next[i]], sum);
  }
  return fma(gamma, sum, m->reward[row]);
}


// x = right + gamma P x of the states that have a place; the others' x is known.
typedef struct linear {
  const rgm_mdp *chain;
  double gamma;
  int64_t *place; // (S) number among the unknown, -1: known
  int64_t *state; // (n)
  double *right;  // (S)
  int64_t n;
} linear;


// right + gamma P x - x of one state
static double residual_of(const linear *l, int64_t s, const double *x) {
  const rgm_mdp *m = l->chain;
  const int64_t row = m->first[s];
  double sum = 0.0;
  for (int64_t i = m->start[row]; i < m->start[row + 1]; i++) {
    sum = fma(m->p[i], x[m->next[i]], sum);
  }
  return fma(l->gamma, sum, l->right[s]) - x[s];
}


// LU with partial pivoting of a (n, n), row by row; false where it is singular
static bool factorise(double *a, int64_t n, int64_t *pivot) {
  for (int64_t k = 0; k < n; k++) {
    int64_t best = k;
    for (int64_t i = k + 1; i < n; i++) {
      best = fabs(a[i * n + k]) > fabs(a[best * n + k]) ? i : best;
    }
    pivot[k] = best;
    if (!(fabs(a[best * n + k]) > 1e-300)) {
      return false;
    }
    for (int64_t j = 0; j < n && best != k; j++) {
      const double x = a[k * n + j];
      a[k * n + j] = a[best * n + j];
      a[best * n + j] = x;
    }
    for (int64_t i = k + 1; i < n; i++) {
      const double factor = a[i * n + k] / a[k * n + k];
      a[i * n + k] = factor;
      if (factor != 0.0) {
        double *restrict to = a + i * n;
        const double *restrict from = a + k * n;
        for (int64_t j = k + 1; j < n; j++) {
          to[j] -= factor * from[j];
        }
      }
    }
  }
  return true;
}


static void substitute(const double *a, int64_t n, const int64_t *pivot, double *b) {
  for (int64_t k = 0; k < n; k++) {
    const double x = b[pivot[k]];
    b[pivot[k]] = b[k];
    b[k] = x;
  }
  for (int64_t i = 0; i < n; i++) {
    double sum = b[i];
    for (int64_t j = 0; j < i; j++) {
      sum -= a[i * n + j] * b[j];
    }
    b[i] = sum;
  }
  for (int64_t i = n - 1; i >= 0; i--) {
    double sum = b[i];
    for (int64_t j = i + 1; j < n; j++) {
      sum -= a[i * n + j] * b[j];
    }
    b[i] = sum / a[i * n + i];
  }
}


enum { REFINEMENTS = 3 };

static rgm_status eliminate(const linear *l, double *x) {
  const int64_t n = l->n;
  const rgm_mdp *m = l->chain;
  double *a = calloc((size_t)(n * n) + 1, sizeof *a), *b = malloc(((size_t)n + 1) * sizeof *b);
  int64_t *pivot = malloc(((size_t)n + 1) * sizeof *pivot);
  rgm_status status = a != NULL && b != NULL && pivot != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld equations", (long long)n);
  for (int64_t k = 0; k < n && status == RGM_OK; k++) {
    const int64_t s = l->state[k], row = m->first[s];
    a[k * n + k] = 1.0;
    for (int64_t i = m->start[row]; i < m->start[row + 1]; i++) {
      const int64_t j = l->place[m->next[i]];
      if (j >= 0) {
        a[k * n + j] -= l->gamma * m->p[i];
      }
    }
  }
  if (status == RGM_OK && !factorise(a, n, pivot)) {
    status = rgm_fail(RGM_ENUMERIC, "the equations of the policy are singular: some state is never "
                                    "left; use gamma < 1");
  }
  // x starts from 0, and every pass solves for what is still missing
  for (int pass = 0; pass < REFINEMENTS && status == RGM_OK; pass++) {
    for (int64_t k = 0; k < n; k++) {
      b[k] = residual_of(l, l->state[k], x);
    }
    substitute(a, n, pivot, b);
    for (int64_t k = 0; k < n; k++) {
      x[l->state[k]] += b[k];
    }
  }
  free(a);
  free(b);
  free(pivot);
  return status;
}


enum { MOST_SWEEPS = 1000000 };

// Gauss-Seidel, until the changes are those of rounding
static rgm_status relax(const linear *l, double *x) {
  double size = 0.0;
  for (int64_t sweep = 0; sweep < MOST_SWEEPS; sweep++) {
    double change = 0.0;
    for (int64_t k = 0; k < l->n; k++) {
      const int64_t s = l->state[k];
      const double d = residual_of(l, s, x);
      x[s] += d;
      change = fmax(change, fabs(d));
      size = fmax(size, fabs(x[s]));
    }
    if (change <= 4e-16 * size || change == 0.0) {
      return RGM_OK;
    }
  }
  return rgm_fail(RGM_ENUMERIC, "the policy's equations did not settle in %d sweeps; use gamma < 1",
                  MOST_SWEEPS);
}


// States from which the chain comes to a state of `wanted`, itself included.
static void reaches(const rgm_mdp *m, const uint8_t *wanted, uint8_t *out) {
  bool more = true;
  memcpy(out, wanted, (size_t)m->states);
  while (more) {
    more = false;
    for (int64_t s = m->states - 1; s >= 0; s--) {
      for (int64_t n = m->first[s]; n < m->first[s + 1] && out[s] == 0; n++) {
        for (int64_t i = m->start[n]; i < m->start[n + 1] && out[s] == 0; i++) {
          out[s] = out[m->next[i]] != 0 && m->p[i] > 0.0;
          more = more || out[s] != 0;
        }
      }
    }
  }
}


// Which states are unknown, and what x is where it is known.
static rgm_status pose(linear *l, dp_goal goal, uint8_t *mark, uint8_t *able, double *x) {
  const rgm_mdp *m = l->chain;
  for (int64_t s = 0; s < m->states; s++) {
    const bool end = goal == DP_LENGTH ? rgm_mdp_is_absorbing(m, s) : rgm_mdp_is_end(m, s);
    mark[s] = goal == DP_SURVIVE ? m->good != NULL && m->good[s] != 0 : end;
    x[s] = goal == DP_SURVIVE && mark[s] != 0 ? 1.0 : 0.0;
  }
  reaches(m, mark, able);
  // what may miss every end comes to a state that cannot reach one
  if (goal == DP_LENGTH || (goal == DP_VALUE && l->gamma >= 1.0)) {
    uint8_t *lost = malloc((size_t)m->states), *misses = malloc((size_t)m->states);
    if (lost == NULL || misses == NULL) {
      free(lost);
      free(misses);
      return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)m->states);
    }
    int64_t some = -1;
    for (int64_t s = 0; s < m->states; s++) {
      lost[s] = able[s] == 0;
      some = lost[s] != 0 && some < 0 ? s : some;
    }
    reaches(m, lost, misses);
    for (int64_t s = 0; s < m->states; s++) {
      able[s] = able[s] != 0 && misses[s] == 0;
      x[s] = goal == DP_LENGTH && misses[s] != 0 ? INFINITY : x[s];
    }
    free(lost);
    free(misses);
    if (goal == DP_VALUE && some >= 0) {
      return rgm_fail(RGM_ENUMERIC,
                      "gamma is 1 and the policy is improper: from state %lld it never comes to an "
                      "end; use gamma < 1",
                      (long long)some);
    }
  }
  for (int64_t s = 0; s < m->states; s++) {
    const bool all = goal == DP_VALUE && l->gamma < 1.0;
    const bool unknown = m->first[s + 1] > m->first[s] && mark[s] == 0 && (all || able[s] != 0);
    // ends that pay are unknowns of their own where there is a discount: mark has only free ones
    l->place[s] = unknown ? l->n : -1;
    if (unknown) {
      l->state[l->n++] = s;
      l->right[s] = goal == DP_VALUE ? m->reward[m->first[s]] : goal == DP_LENGTH ? 1.0 : 0.0;
    }
  }
  return RGM_OK;
}


rgm_status dp_direct(const rgm_mdp *chain, double gamma, dp_goal goal, double *x) {
  const size_t S = (size_t)chain->states + 1;
  linear l = {.chain = chain, .gamma = goal == DP_VALUE ? gamma : 1.0};
  uint8_t *mark = calloc(S, 1), *able = calloc(S, 1);
  l.place = calloc(S, sizeof *l.place);
  l.state = calloc(S, sizeof *l.state);
  l.right = calloc(S, sizeof *l.right);
  const bool ok =
      mark != NULL && able != NULL && l.place != NULL && l.state != NULL && l.right != NULL;
  rgm_status status = ok ? pose(&l, goal, mark, able, x)
                         : rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)S);
  if (status == RGM_OK) {
    status = l.n <= DP_DIRECT ? eliminate(&l, x) : relax(&l, x);
  }
  free(mark);
  free(able);
  free(l.place);
  free(l.state);
  free(l.right);
  return status;
}


// ---- sweeps ------------------------------------------------------------------------------------

// max of a state's allowed rows; *choice is the action among them
static double backup(const rgm_mdp *m, int64_t s, double gamma, double tie, const double *value,
                     int32_t *choice) {
  double best = -INFINITY, old = -INFINITY;
  int32_t k = 0, at = -1;
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    if (m->allowed[n] == 0) {
      continue;
    }
    const double q = dp_row(m, n, gamma, value);
    old = k == *choice ? q : old;
    at = q > best ? k : at;
    best = q > best ? q : best;
    k++;
  }
  if (k == 0) {
    return value[s];
  }
  *choice = best - old <= tie ? *choice : at;
  return best;
}


double dp_gauss_seidel(const rgm_mdp *m, double gamma, double tie, double *value, int32_t *choice) {
  double most = 0.0;
  for (int64_t s = 0; s < m->states; s++) {
    const double v = backup(m, s, gamma, tie, value, &choice[s]);
    most = fmax(most, fabs(v - value[s]));
    value[s] = v;
  }
  return most;
}


rgm_status dp_longest(const rgm_mdp *m, double *most) {
  const size_t S = (size_t)m->states + 1;
  uint8_t *trapped = calloc(S, 1);
  double *w = calloc(S, sizeof *w);
  const int64_t count = trapped != NULL && w != NULL ? rgm_mdp_traps(m, NULL, trapped) : -1;
  rgm_status status =
      count < 0 ? rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)S) : RGM_OK;
  for (int64_t s = 0; s < m->states && count > 0; s++) {
    if (trapped[s] != 0) {
      status = rgm_fail(RGM_EDATA,
                        "gamma is 1, and some policy keeps state %lld (and %lld others) from every "
                        "end for ever: improper; use algorithm.gamma < 1 or mask such actions",
                        (long long)s, (long long)count - 1);
      break;
    }
  }
  double change = 1.0;
  for (int sweep = 0; sweep < MOST_SWEEPS && status == RGM_OK && change > 1e-6; sweep++) {
    change = 0.0;
    for (int64_t s = 0; s < m->states; s++) {
      if (rgm_mdp_is_end(m, s)) {
        continue;
      }
      double best = 0.0;
      for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
        double sum = 0.0;
        for (int64_t i = m->start[n]; i < m->start[n + 1] && m->allowed[n] != 0; i++) {
          sum = fma(m->p[i], w[m->next[i]], sum);
        }
        best = fmax(best, sum);
      }
      change = fmax(change, best + 1.0 - w[s]);
      w[s] = best + 1.0;
    }
  }
  // sweeps from below leave w >= 1 + P w - change
  *most = 1.0;
  for (int64_t s = 0; s < m->states && status == RGM_OK; s++) {
    *most = fmax(*most, w[s] / (1.0 - 2.0 * change));
  }
  free(trapped);
  free(w);
  return status;
}


// ---- the largest residual first ----------------------------------------------------------------

// A heap of states by residual; at[s] is a state's place in it.
typedef struct heap {
  const double *key;
  int64_t *item, *at;
  int64_t count;
} heap;


static void put_item(heap *h, int64_t place, int64_t s) {
  h->item[place] = s;
  h->at[s] = place;
}


// moves a state to where its key belongs; of equals the smaller state is first
static void settle(heap *h, int64_t s) {
  int64_t i = h->at[s];
#define BEFORE(a, b) (h->key[a] > h->key[b] || (h->key[a] == h->key[b] && (a) < (b)))
  while (i > 0 && BEFORE(s, h->item[(i - 1) / 2])) {
    put_item(h, i, h->item[(i - 1) / 2]);
    i = (i - 1) / 2;
  }
  for (;;) {
    int64_t child = 2 * i + 1;
    if (child >= h->count) {
      break;
    }
    child += child + 1 < h->count && BEFORE(h->item[child + 1], h->item[child]);
    if (!BEFORE(h->item[child], s)) {
      break;
    }
    put_item(h, i, h->item[child]);
    i = child;
  }
  put_item(h, i, s);
#undef BEFORE
}


// A way into a state: from where, with which probability at most.
typedef struct way {
  int32_t from;
  double p;
} way;


// Ways into each state by allowed rows, one from each state: way[at[s]] ... way[at[s + 1] - 1].
// Masked rows, most of them where actions that nobody took are stored, cost nothing after this.
static bool list_ways(const rgm_mdp *m, int64_t **at_out, way **way_out) {
  int64_t *at = *at_out = calloc((size_t)m->states + 2, sizeof *at);
  int64_t *last = calloc((size_t)m->states + 1, sizeof *last); // 1 + the state that led here last
  int64_t count = 0;
  *way_out = NULL;
  for (int64_t n = 0; n < m->rows; n++) {
    count += m->allowed[n] != 0 ? m->start[n + 1] - m->start[n] : 0;
  }
  way *ways = *way_out = malloc(((size_t)count + 1) * sizeof *ways);
  const bool ok = at != NULL && ways != NULL && last != NULL;
  for (int pass = 0; pass < 2 && ok; pass++) {
    memset(last, 0, (size_t)m->states * sizeof *last);
    for (int64_t s = 0; s < m->states; s++) {
      for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
        for (int64_t i = m->start[n]; i < m->start[n + 1] && m->allowed[n] != 0; i++) {
          const int32_t next = m->next[i];
          const bool fresh = last[next] != s + 1;
          last[next] = s + 1;
          if (pass == 0) {
            at[next + 2] += fresh;
          } else if (fresh) {
            ways[at[next + 1]++] = (way){(int32_t)s, m->p[i]};
          } else {
            way *own = &ways[at[next + 1] - 1];
            own->p = fmax(own->p, m->p[i]);
          }
        }
      }
    }
    for (int64_t s = 0; s < m->states && pass == 0; s++) {
      at[s + 2] += at[s + 1];
    }
  }
  free(last);
  return ok;
}


// A change by `change` of state s raises the keys of those that lead there: the most that it can
// change their best action's value.
static void raise_keys(heap *h, double *key, const int64_t *at, const way *ways, int64_t s,
                       double change) {
  for (int64_t i = at[s]; i < at[s + 1]; i++) {
    if (ways[i].p > 0.0) {
      key[ways[i].from] += ways[i].p * change;
      settle(h, ways[i].from);
    }
  }
}


rgm_status dp_prioritised(const rgm_mdp *m, double gamma, double tie, double stop, int64_t updates,
                          double *value, int32_t *choice, double *residual) {
  const size_t S = (size_t)m->states + 1;
  int64_t *at;
  way *ways;
  double *key = calloc(S, sizeof *key);
  heap h = {key, calloc(S, sizeof *h.item), calloc(S, sizeof *h.at), m->states};
  rgm_status status = list_ways(m, &at, &ways) && key != NULL && h.item != NULL && h.at != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)S);
  for (int64_t s = 0; s < m->states && status == RGM_OK; s++) {
    int32_t unused = choice[s];
    key[s] = fabs(backup(m, s, gamma, tie, value, &unused) - value[s]);
    put_item(&h, s, s);
  }
  for (int64_t i = m->states - 1; i >= 0 && status == RGM_OK; i--) {
    settle(&h, h.item[i]);
  }
  for (int64_t k = 0; k < updates && status == RGM_OK && key[h.item[0]] > stop; k++) {
    const int64_t s = h.item[0];
    const double v = backup(m, s, gamma, tie, value, &choice[s]), change = fabs(v - value[s]);
    value[s] = v;
    key[s] = 0.0;
    settle(&h, s);
    if (change > 0.0) {
      raise_keys(&h, key, at, ways, s, gamma * change);
    }
  }
  if (status == RGM_OK) {
    *residual = key[h.item[0]];
  }
  free(at);
  free(ways);
  free(key);
  free(h.item);
  free(h.at);
  return status;
}
