// SPDX-License-Identifier: Apache-2.0
// Tabular problems from transitions in any order: sorting, merging of duplicates, tolerant checks
// of rows, masks. See mdp.h.

#include "engine/checkpoint_private.h"
#include "engine/trajectories.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_INDEX = INT32_MAX };

typedef struct item {
  int32_t s, a, next;
  int64_t place;
  double p, reward;
} item;

struct rgm_mdp_builder {
  char where[512];
  item *items;
  int64_t count, capacity;
  bool counted;
};


void rgm_mdp_free(rgm_mdp *m) {
  if (m == NULL) {
    return;
  }
  for (int64_t s = 0; m->state_name != NULL && s < m->states; s++) {
    free(m->state_name[s]);
  }
  for (int64_t a = 0; m->action_name != NULL && a < m->actions; a++) {
    free(m->action_name[a]);
  }
  void *const parts[] = {m->first,      m->action,      m->start,  m->next,    m->p,
                         m->gain,       m->reward,      m->count,  m->allowed, m->begin,
                         m->state_name, m->action_name, m->policy, m->good};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    free(parts[i]);
  }
  rgm_mdp_origin_free(m->origin);
  free(m);
}


size_t rgm_mdp_bytes(const rgm_mdp *m) {
  return (size_t)m->states * 16 + (size_t)m->rows * 21 +
         (size_t)m->entries * (m->count != NULL ? 24 : 20);
}


rgm_status rgm_mdp_digest(const rgm_mdp *m, char hex[65]) {
  const size_t S = (size_t)m->states, N = (size_t)m->rows, E = (size_t)m->entries;
  const struct {
    const void *data;
    size_t bytes;
  } part[] = {
      {&m->states, sizeof m->states},
      {&m->actions, sizeof m->actions},
      {m->first, (S + 1) * sizeof *m->first},
      {m->action, N * sizeof *m->action},
      {m->start, (N + 1) * sizeof *m->start},
      {m->next, E * sizeof *m->next},
      {m->p, E * sizeof *m->p},
      {m->gain, E * sizeof *m->gain},
      {m->count, E * sizeof *m->count},
      {m->allowed, N},
      {m->begin, S * sizeof *m->begin},
  };
  rgm_hash *hash = rgm_hash_new();
  for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
    const uint64_t bytes = part[i].data != NULL ? part[i].bytes : 0;
    rgm_hash_add(hash, &bytes, sizeof bytes);
    rgm_hash_add(hash, part[i].data, bytes);
  }
  return rgm_hash_end(hash, hex) ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a digest");
}


// ---- collecting --------------------------------------------------------------------------------

rgm_status rgm_mdp_builder_new(const char *where, rgm_mdp_builder **out) {
  rgm_mdp_builder *b = *out = calloc(1, sizeof *b);
  if (b == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", where);
  }
  snprintf(b->where, sizeof b->where, "%s", where);
  return RGM_OK;
}


void rgm_mdp_builder_free(rgm_mdp_builder *b) {
  if (b != NULL) {
    free(b->items);
    free(b);
  }
}


static rgm_status push(rgm_mdp_builder *b, item x) {
  if (b->count == b->capacity) {
    const int64_t capacity = b->capacity > 0 ? b->capacity * 2 : 4096;
    item *items = realloc(b->items, (size_t)capacity * sizeof *items);
    if (items == NULL) {
      return rgm_fail(RGM_EMEMORY, "%s: no memory for %lld transitions", b->where,
                      (long long)capacity);
    }
    b->items = items;
    b->capacity = capacity;
  }
  b->items[b->count++] = x;
  return RGM_OK;
}


static rgm_status check_index(const rgm_mdp_builder *b, int64_t place, const char *what,
                              int64_t i) {
  if (i >= 0 && i < MOST_INDEX) {
    return RGM_OK;
  }
  return rgm_fail(RGM_EDATA, "%s: row %lld: %s %lld is %s; states and actions count from 0",
                  b->where, (long long)place, what, (long long)i,
                  i < 0 ? "negative" : "more than 2147483646");
}


rgm_status rgm_mdp_add(rgm_mdp_builder *b, int64_t place, int64_t s, int64_t a, int64_t next,
                       double p, double reward) {
  RGM_TRY(check_index(b, place, "state", s));
  RGM_TRY(check_index(b, place, "action", a));
  RGM_TRY(check_index(b, place, "next state", next));
  if (isnan(p)) {
    return rgm_fail(RGM_EDATA, "%s: row %lld: the probability is no number", b->where,
                    (long long)place);
  }
  if (p < 0.0) {
    return rgm_fail(RGM_EDATA, "%s: row %lld: a negative probability, %.17g", b->where,
                    (long long)place, p);
  }
  if (!isfinite(p)) {
    return rgm_fail(RGM_EDATA, "%s: row %lld: an infinite probability", b->where, (long long)place);
  }
  if (!isfinite(reward)) {
    return rgm_fail(RGM_EDATA, "%s: row %lld: the reward is %s", b->where, (long long)place,
                    isnan(reward) ? "no number" : "infinite");
  }
  return push(b, (item){(int32_t)s, (int32_t)a, (int32_t)next, place, p, reward});
}


rgm_status rgm_mdp_add_count(rgm_mdp_builder *b, int64_t place, int64_t s, int64_t a, int64_t next,
                             double reward) {
  b->counted = true;
  return rgm_mdp_add(b, place, s, a, next, 1.0, reward);
}


// ---- sorting and merging -----------------------------------------------------------------------

static int compare(const void *x, const void *y) {
  const item *a = x, *b = y;
  if (a->s != b->s) {
    return a->s < b->s ? -1 : 1;
  }
  if (a->a != b->a) {
    return a->a < b->a ? -1 : 1;
  }
  if (a->next != b->next) {
    return a->next < b->next ? -1 : 1;
  }
  return (a->place > b->place) - (a->place < b->place);
}


static void sort_items(rgm_mdp_builder *b) {
  bool sorted = true;
  for (int64_t i = 1; i < b->count && sorted; i++) {
    sorted = compare(&b->items[i - 1], &b->items[i]) <= 0;
  }
  if (!sorted) {
    qsort(b->items, (size_t)b->count, sizeof *b->items, compare);
  }
}


// Adds up transitions that were given twice; their reward is the mean by probability. Drops p = 0.
static rgm_status merge_items(rgm_mdp_builder *b, bool strict, int64_t *merged) {
  int64_t kept = 0;
  for (int64_t i = 0; i < b->count; i++) {
    item x = b->items[i];
    if (kept > 0 && !b->counted && b->items[kept - 1].s == x.s && b->items[kept - 1].a == x.a &&
        b->items[kept - 1].next == x.next && strict) {
      return rgm_fail(RGM_EDATA,
                      "%s: row %lld: state %d, action %d, next state %d stands in row %lld too; "
                      "env.duplicates: merge adds such rows up",
                      b->where, (long long)x.place, x.s, x.a, x.next,
                      (long long)b->items[kept - 1].place);
    }
    if (x.p == 0.0) {
      continue;
    }
    if (kept > 0 && b->items[kept - 1].s == x.s && b->items[kept - 1].a == x.a &&
        b->items[kept - 1].next == x.next) {
      item *to = &b->items[kept - 1];
      to->reward += (x.reward - to->reward) * (x.p / (to->p + x.p));
      to->p += x.p;
      ++*merged;
    } else {
      b->items[kept++] = x;
    }
  }
  b->count = kept;
  return RGM_OK;
}


static rgm_status count_sizes(const rgm_mdp_builder *b, int64_t states, int64_t actions,
                              rgm_mdp *m) {
  for (int64_t i = 0; i < b->count; i++) {
    const item *x = &b->items[i];
    const int64_t most = x->s > x->next ? x->s : x->next;
    if (states > 0 && most >= states) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: state %lld, but there are %lld states (0 to %lld)",
                      b->where, (long long)x->place, (long long)most, (long long)states,
                      (long long)states - 1);
    }
    if (actions > 0 && x->a >= actions) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: action %d, but there are %lld actions (0 to %lld)",
                      b->where, (long long)x->place, x->a, (long long)actions,
                      (long long)actions - 1);
    }
    m->states = most >= m->states ? most + 1 : m->states;
    m->actions = x->a >= m->actions ? x->a + 1 : m->actions;
    const bool fresh = i == 0 || b->items[i - 1].s != x->s || b->items[i - 1].a != x->a;
    m->rows += fresh;
  }
  m->states = states > 0 ? states : m->states;
  m->actions = actions > 0 ? actions : m->actions;
  m->entries = b->count;
  return m->entries > 0
             ? RGM_OK
             : rgm_fail(RGM_EDATA, "%s: holds no transitions; expected rows of s a s' p", b->where);
}


static rgm_status allocate(rgm_mdp *m, bool counted, const char *where) {
  const size_t S = (size_t)m->states, N = (size_t)m->rows, E = (size_t)m->entries;
  m->first = calloc(S + 1, sizeof *m->first);
  m->action = calloc(N + 1, sizeof *m->action);
  m->start = calloc(N + 1, sizeof *m->start);
  m->reward = calloc(N + 1, sizeof *m->reward);
  m->allowed = calloc(N + 1, 1);
  m->next = calloc(E + 1, sizeof *m->next);
  m->p = calloc(E + 1, sizeof *m->p);
  m->gain = calloc(E + 1, sizeof *m->gain);
  m->count = counted ? calloc(E + 1, sizeof *m->count) : NULL;
  if (m->first == NULL || m->action == NULL || m->start == NULL || m->reward == NULL ||
      m->allowed == NULL || m->next == NULL || m->p == NULL || m->gain == NULL ||
      (counted && m->count == NULL)) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for %lld transitions", where,
                    (long long)m->entries);
  }
  return RGM_OK;
}


static void fill(const rgm_mdp_builder *b, rgm_mdp *m) {
  int64_t row = -1;
  for (int64_t i = 0; i < b->count; i++) {
    const item *x = &b->items[i];
    if (i == 0 || b->items[i - 1].s != x->s || b->items[i - 1].a != x->a) {
      row++;
      m->action[row] = x->a;
      m->allowed[row] = 1;
      m->start[row] = i;
      m->first[x->s + 1]++;
    }
    m->next[i] = x->next;
    m->p[i] = x->p;
    m->gain[i] = x->reward;
    if (m->count != NULL) {
      m->count[i] = (uint32_t)x->p;
    }
  }
  m->start[m->rows] = m->entries;
  for (int64_t s = 0; s < m->states; s++) {
    m->first[s + 1] += m->first[s];
  }
}


// The sums of the rows: to 1, or scaled; then expected rewards.
static rgm_status sum_rows(const rgm_mdp_builder *b, const rgm_mdp_checks *checks, rgm_mdp *m) {
  const double tolerance = checks->tolerance > 0.0 ? checks->tolerance : 1e-8;
  int64_t s = 0;
  for (int64_t n = 0; n < m->rows; n++) {
    while (m->first[s + 1] <= n) {
      s++;
    }
    double sum = 0.0;
    for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
      sum += m->p[i];
    }
    const double off = fabs(sum - 1.0);
    m->off = !b->counted && off > m->off ? off : m->off;
    if (!b->counted && off > tolerance && !checks->normalise) {
      return rgm_fail(RGM_EDATA,
                      "%s: row %lld: probabilities of state %lld, action %d sum to %.12g; "
                      "env.normalise: true scales such rows, env.tolerance says what is rounding",
                      b->where, (long long)b->items[m->start[n]].place, (long long)s, m->action[n],
                      sum);
    }
    if (b->counted || (checks->normalise && off > 0.0)) {
      m->renormalised += !b->counted;
      for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
        m->p[i] /= sum;
      }
    }
    double reward = 0.0;
    for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
      reward = fma(m->p[i], m->gain[i], reward);
    }
    m->reward[n] = reward;
  }
  return RGM_OK;
}


rgm_status rgm_mdp_finish(rgm_mdp_builder *b, int64_t states, int64_t actions,
                          const rgm_mdp_checks *checks, rgm_mdp **out) {
  rgm_mdp *m = *out = calloc(1, sizeof *m);
  rgm_status status =
      m != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "%s: no memory to read it", b->where);
  if (status == RGM_OK) {
    m->gamma = NAN;
    sort_items(b);
    status = merge_items(b, checks->strict, &m->merged);
  }
  if (status == RGM_OK) {
    status = count_sizes(b, states, actions, m);
  }
  if (status == RGM_OK) {
    status = allocate(m, b->counted, b->where);
  }
  if (status == RGM_OK) {
    fill(b, m);
    status = sum_rows(b, checks, m);
  }
  if (status == RGM_OK) {
    status = rgm_mdp_check(m, b->where);
  }
  if (status != RGM_OK) {
    rgm_mdp_free(m);
    *out = NULL;
  }
  rgm_mdp_builder_free(b);
  return status;
}


rgm_status rgm_mdp_name(char ***to, const char *const *names, int64_t count) {
  char **copy = calloc((size_t)count + 1, sizeof *copy);
  bool ok = copy != NULL;
  for (int64_t i = 0; i < count && ok; i++) {
    copy[i] = strdup(names[i]);
    ok = copy[i] != NULL;
  }
  if (!ok) {
    for (int64_t i = 0; copy != NULL && i < count; i++) {
      free(copy[i]);
    }
    free(copy);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld names", (long long)count);
  }
  *to = copy;
  return RGM_OK;
}


// ---- checks ------------------------------------------------------------------------------------

static rgm_status check_states(const rgm_mdp *m, const char *where) {
  for (int64_t s = 0; s < m->states; s++) {
    const int64_t count = m->first[s + 1] - m->first[s];
    if (count > RGM_BLOCK_ROWS) {
      return rgm_fail(RGM_EDATA, "%s: state %lld has %lld actions; %d is the most", where,
                      (long long)s, (long long)count, RGM_BLOCK_ROWS);
    }
    bool any = count == 0;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      any = any || m->allowed[n] != 0;
    }
    if (!any) {
      return rgm_fail(RGM_EDATA,
                      "%s: every action of state %lld is masked; leave one, or give the state no "
                      "rows, which makes it an end",
                      where, (long long)s);
    }
  }
  return RGM_OK;
}


rgm_status rgm_mdp_check(const rgm_mdp *m, const char *where) {
  RGM_TRY(check_states(m, where));
  if (m->begin != NULL) {
    double sum = 0.0;
    for (int64_t s = 0; s < m->states; s++) {
      if (!(m->begin[s] >= 0.0)) {
        return rgm_fail(RGM_EDATA, "%s: the start distribution of state %lld is %s", where,
                        (long long)s, m->begin[s] < 0.0 ? "negative" : "no number");
      }
      sum += m->begin[s];
    }
    if (!(fabs(sum - 1.0) <= 1e-6)) {
      return rgm_fail(RGM_EDATA, "%s: the start distribution sums to %.9g, not to 1", where, sum);
    }
  }
  return RGM_OK;
}


int64_t rgm_mdp_row(const rgm_mdp *m, int64_t s, int64_t a) {
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    if (m->action[n] == a) {
      return n;
    }
  }
  return -1;
}


int64_t rgm_mdp_choose(const double *weight, int64_t count, double u) {
  double sum = 0.0;
  int64_t last = 0;
  for (int64_t i = 0; i < count; i++) {
    sum += weight[i];
    last = weight[i] > 0.0 ? i : last;
    if (u < sum) {
      return i;
    }
  }
  return last;
}


bool rgm_mdp_is_absorbing(const rgm_mdp *m, int64_t s) {
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    if (m->allowed[n] != 0 && (m->start[n + 1] - m->start[n] != 1 || m->next[m->start[n]] != s)) {
      return false;
    }
  }
  return true;
}


bool rgm_mdp_is_end(const rgm_mdp *m, int64_t s) {
  bool pays = false;
  for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
    pays = pays || (m->allowed[n] != 0 && m->reward[n] != 0.0);
  }
  return !pays && rgm_mdp_is_absorbing(m, s);
}


rgm_status rgm_mdp_end_states(rgm_mdp *m, const double *states, int count) {
  for (int k = 0; k < count; k++) {
    if (!(states[k] >= 0.0 && states[k] < (double)m->states) || floor(states[k]) != states[k]) {
      return rgm_fail(RGM_EDATA, "env.ends: %g is no state; there are %lld, from 0 on", states[k],
                      (long long)m->states);
    }
  }
  int64_t row = 0, entry = 0, next_first = 0;
  for (int64_t s = 0; s < m->states; s++) {
    const int64_t first = next_first;
    next_first = m->first[s + 1];
    bool ends = false;
    for (int k = 0; k < count; k++) {
      ends = ends || states[k] == (double)s;
    }
    m->first[s] = row;
    for (int64_t n = first; n < next_first && !ends; n++, row++) {
      const int64_t begin = m->start[n], size = m->start[n + 1] - begin;
      m->action[row] = m->action[n];
      m->reward[row] = m->reward[n];
      m->allowed[row] = m->allowed[n];
      memmove(m->next + entry, m->next + begin, (size_t)size * sizeof *m->next);
      memmove(m->p + entry, m->p + begin, (size_t)size * sizeof *m->p);
      memmove(m->gain + entry, m->gain + begin, (size_t)size * sizeof *m->gain);
      if (m->count != NULL) {
        memmove(m->count + entry, m->count + begin, (size_t)size * sizeof *m->count);
      }
      m->start[row] = entry;
      entry += size;
    }
  }
  m->first[m->states] = m->rows = row;
  m->start[row] = m->entries = entry;
  return row > 0 ? RGM_OK : rgm_fail(RGM_EDATA, "env.ends: all states are ends");
}


// ---- masks -------------------------------------------------------------------------------------

enum { TWIN_SLACK = 1 }; // of 1e-15

static bool are_twins(const rgm_mdp *m, int64_t x, int64_t y) {
  const int64_t size = m->start[x + 1] - m->start[x];
  if (size != m->start[y + 1] - m->start[y] ||
      fabs(m->reward[x] - m->reward[y]) > TWIN_SLACK * 1e-15) {
    return false;
  }
  for (int64_t i = 0; i < size; i++) {
    const int64_t k = m->start[x] + i, l = m->start[y] + i;
    if (m->next[k] != m->next[l] || fabs(m->p[k] - m->p[l]) > TWIN_SLACK * 1e-15) {
      return false;
    }
  }
  return true;
}


int64_t rgm_mdp_mask_twins(rgm_mdp *m) {
  int64_t masked = 0;
  for (int64_t s = 0; s < m->states; s++) {
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      for (int64_t k = m->first[s]; k < n && m->allowed[n] != 0; k++) {
        if (m->allowed[k] != 0 && are_twins(m, k, n)) {
          m->allowed[n] = 0;
          masked++;
        }
      }
    }
  }
  return masked;
}


// Whether row n is the mean of the `count` rows in `others`. `sum` and `mark` have a place a state.
static bool is_mean(const rgm_mdp *m, int64_t n, const int64_t *others, int64_t count,
                    double *sum) {
  for (int64_t j = 0; j < count; j++) {
    for (int64_t i = m->start[others[j]]; i < m->start[others[j] + 1]; i++) {
      sum[m->next[i]] += m->p[i] / (double)count;
    }
  }
  for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
    sum[m->next[i]] -= m->p[i];
  }
  double off = 0.0;
  for (int64_t j = 0; j <= count; j++) {
    const int64_t row = j < count ? others[j] : n;
    for (int64_t i = m->start[row]; i < m->start[row + 1]; i++) {
      off = fmax(off, fabs(sum[m->next[i]]));
      sum[m->next[i]] = 0.0;
    }
  }
  return off <= 4e-15;
}


int64_t rgm_mdp_mask_means(rgm_mdp *m) {
  double *sum = calloc((size_t)m->states, sizeof *sum);
  int64_t *kind = calloc((size_t)m->actions + 1, sizeof *kind);
  int64_t *head = calloc((size_t)m->actions + 1, sizeof *head);
  int64_t masked = sum != NULL && kind != NULL && head != NULL ? 0 : -1;
  for (int64_t s = 0; s < m->states && masked >= 0; s++) {
    // rows that are equal are of one kind; head has the first of each
    int64_t kinds = 0;
    const int64_t first = m->first[s], count = m->first[s + 1] - first;
    for (int64_t a = 0; a < count; a++) {
      int64_t k = 0;
      while (k < kinds && !are_twins(m, head[k], first + a)) {
        k++;
      }
      head[k] = k == kinds ? first + a : head[k];
      kinds += k == kinds;
      kind[a] = k;
    }
    for (int64_t k = 0; k < kinds && kinds > 2; k++) {
      const int64_t own = head[k];
      head[k] = head[kinds - 1];
      const bool mean = is_mean(m, own, head, kinds - 1, sum);
      head[k] = own;
      for (int64_t a = 0; a < count && mean; a++) {
        masked += kind[a] == k && m->allowed[first + a] != 0;
        m->allowed[first + a] = kind[a] == k ? 0 : m->allowed[first + a];
      }
      if (mean) {
        break;
      }
    }
  }
  free(sum);
  free(kind);
  free(head);
  return masked;
}


// ---- structure ---------------------------------------------------------------------------------

// Whether row n may be followed.
static bool follows(const rgm_mdp *m, const int64_t *policy, int64_t s, int64_t n) {
  return policy != NULL ? policy[s] == n : m->allowed[n] != 0;
}


// The rows that lead to a state: row[at[s]] ... row[at[s + 1] - 1].
static bool predecessors(const rgm_mdp *m, int64_t **at_out, int64_t **row_out) {
  int64_t *at = *at_out = calloc((size_t)m->states + 2, sizeof *at);
  int64_t *row = *row_out = malloc(((size_t)m->entries + 1) * sizeof *row);
  if (at == NULL || row == NULL) {
    return false;
  }
  for (int64_t i = 0; i < m->entries; i++) {
    at[m->next[i] + 2]++;
  }
  for (int64_t s = 0; s < m->states; s++) {
    at[s + 2] += at[s + 1];
  }
  for (int64_t n = 0; n < m->rows; n++) {
    for (int64_t i = m->start[n]; i < m->start[n + 1]; i++) {
      row[at[m->next[i] + 1]++] = n;
    }
  }
  return true;
}


// The greatest set without ends in which every state has a row that leads into the set alone: a row
// that leads out is struck, a state without rows leaves the set, and so on.
int64_t rgm_mdp_traps(const rgm_mdp *m, const int64_t *policy, uint8_t *trapped) {
  int64_t *at, *row;
  int64_t *left = calloc((size_t)m->states + 1, sizeof *left);
  int64_t *queue = malloc(((size_t)m->states + 1) * sizeof *queue);
  int32_t *owner = malloc(((size_t)m->rows + 1) * sizeof *owner);
  uint8_t *struck = calloc((size_t)m->rows + 1, 1);
  const bool ok = predecessors(m, &at, &row) && left != NULL && queue != NULL && owner != NULL &&
                  struck != NULL;
  int64_t head = 0, tail = 0, count = ok ? 0 : -1;
  for (int64_t s = 0; s < m->states && ok; s++) {
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      owner[n] = (int32_t)s;
      left[s] += follows(m, policy, s, n);
    }
    trapped[s] = left[s] > 0 && !rgm_mdp_is_end(m, s);
    if (!trapped[s]) {
      queue[tail++] = s;
    }
  }
  while (head < tail) {
    const int64_t s = queue[head++];
    for (int64_t i = at[s]; i < at[s + 1]; i++) {
      const int64_t n = row[i], from = owner[n];
      if (!struck[n] && trapped[from] && follows(m, policy, from, n)) {
        struck[n] = 1;
        if (--left[from] == 0) {
          trapped[from] = 0;
          queue[tail++] = from;
        }
      }
    }
  }
  for (int64_t s = 0; s < m->states && ok; s++) {
    count += trapped[s];
  }
  free(at);
  free(row);
  free(left);
  free(queue);
  free(owner);
  free(struck);
  return count;
}
