// SPDX-License-Identifier: Apache-2.0
// From states and doses to a tabular problem: bins at quantiles of the training doses, counts of
// training transitions, rare pairs masked, states without any other merged into their neighbours,
// removed (as ICU-Sepsis does), or kept with their most frequent action; rewards at the end.

#include "engine/trajectories.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


// ---- actions -----------------------------------------------------------------------------------

int rgm_origin_bin(const rgm_mdp_origin *o, int64_t drug, double dose) {
  const double *edge = o->edge + drug * o->bins;
  int bin = dose > 0.0;
  while (bin > 0 && bin + 1 < o->bins && dose > edge[bin]) {
    bin++;
  }
  return bin;
}


int rgm_origin_bin_of(const rgm_mdp_origin *o, int64_t drug, int64_t action) {
  return (int)(o->drugs == 2 && drug == 0 ? action / o->bins : action % o->bins);
}


double rgm_origin_dose(const rgm_mdp_origin *o, int64_t drug, int64_t action) {
  return drug < o->drugs ? o->dose[drug * o->bins + rgm_origin_bin_of(o, drug, action)] : NAN;
}


static int by_value(const void *x, const void *y) {
  const double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}


// edges of drug d at quantiles of the training doses above 0, and the median of each bin; `work`
// (rows)
static rgm_status find_edges(trajectories *t, int d, double *work) {
  rgm_mdp_origin *o = t->origin;
  double *edge = o->edge + d * o->bins, *typical = o->dose + d * o->bins;
  int64_t n = 0;
  for (int64_t row = 0; row < t->rows; row++) {
    const double dose = t->dose[row * t->drugs + d];
    if (t->held[t->stay[row]] == 0 && dose > 0.0) {
      work[n++] = dose;
    }
  }
  if (n == 0) {
    return rgm_fail(RGM_EDATA, "%s: column %s: no training row has a dose above 0", t->path,
                    t->drug[d]);
  }
  qsort(work, (size_t)n, sizeof *work, by_value);
  for (int64_t b = 1; b < o->bins; b++) {
    edge[b] = b + 1 < o->bins ? rgm_quantile_sorted(work, n, (double)b / (double)(o->bins - 1))
                              : INFINITY;
    // no bin is empty, the last one neither
    if (b > 1 && (edge[b] <= edge[b - 1] || edge[b - 1] >= work[n - 1])) {
      return rgm_fail(RGM_EDATA,
                      "%s: column %s: two of its %lld quantiles are one dose; lower actions.bins",
                      t->path, t->drug[d], (long long)o->bins - 1);
    }
  }
  // the doses of a bin are neighbours now
  for (int64_t b = 1, from = 0; b < o->bins; b++) {
    int64_t to = from;
    while (to < n && work[to] <= edge[b]) {
      to++;
    }
    typical[b] = to > from ? rgm_quantile_sorted(work + from, to - from, 0.5) : NAN;
    from = to;
  }
  return RGM_OK;
}


static rgm_status take_origin(trajectories *t) {
  rgm_mdp_origin *o = t->origin;
  o->drugs = t->drugs;
  o->bins = t->drugs > 0 ? t->key.bins : 0;
  const size_t edges = (size_t)(o->drugs * o->bins) + 1;
  o->edge = calloc(edges, sizeof *o->edge);
  o->dose = calloc(edges, sizeof *o->dose);
  return o->edge != NULL && o->dose != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for bins");
}


rgm_status rgm_trajectories_actions(trajectories *t) {
  RGM_TRY(take_origin(t));
  if (t->drugs == 0) {
    return RGM_OK;
  }
  double *work = malloc((size_t)t->rows * sizeof *work);
  rgm_status status =
      work != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for %lld doses", (long long)t->rows);
  for (int d = 0; d < t->drugs && status == RGM_OK; d++) {
    status = find_edges(t, d, work);
  }
  free(work);
  // the first drug counts in steps of the second's bins
  for (int64_t row = 0; row < t->rows && status == RGM_OK; row++) {
    int64_t a = 0;
    for (int d = 0; d < t->drugs; d++) {
      a = a * t->origin->bins + rgm_origin_bin(t->origin, d, t->dose[row * t->drugs + d]);
    }
    t->action[row] = (int32_t)a;
  }
  return status;
}


// ---- counts ------------------------------------------------------------------------------------

// What is counted over and over while states go.
typedef struct counting {
  trajectories *t;
  int64_t states, actions;
  uint8_t *alive;  // (states)
  int32_t *number; // (states) its new number, -1: it went
  int64_t *seen;   // (states, actions) training transitions
  int64_t live;
} counting;


// where a visit leads: a state, `states` died, `states + 1` survived; -1: nobody knows
static int64_t next_of(const counting *c, int64_t row) {
  const trajectories *t = c->t;
  const int64_t stay = t->stay[row];
  if (row + 1 < t->first[stay + 1]) {
    const int32_t next = t->state[row + 1];
    return next >= 0 && c->alive[next] != 0 ? next : -1;
  }
  return t->end[stay] == RGM_STAY_DIED       ? c->states
         : t->end[stay] == RGM_STAY_SURVIVED ? c->states + 1
                                             : -1;
}


// whether a row is a transition of the problem
static bool counts(const counting *c, int64_t row) {
  const trajectories *t = c->t;
  return t->state[row] >= 0 && c->alive[t->state[row]] != 0 && next_of(c, row) >= 0;
}


static void count_pairs(counting *c) {
  const trajectories *t = c->t;
  memset(c->seen, 0, (size_t)(c->states * c->actions) * sizeof *c->seen);
  for (int64_t row = 0; row < t->rows; row++) {
    if (t->held[t->stay[row]] == 0 && counts(c, row)) {
      c->seen[t->state[row] * c->actions + t->action[row]]++;
    }
  }
}


// the state's largest count
static int64_t most_of(const counting *c, int64_t s) {
  int64_t most = 0;
  for (int64_t a = 0; a < c->actions; a++) {
    const int64_t n = c->seen[s * c->actions + a];
    most = n > most ? n : most;
  }
  return most;
}


// States that keep no pair go, until all that are left have one. Returns through c->live.
static rgm_status drop_states(counting *c, rgm_stream *stream) {
  trajectories *t = c->t;
  const trajectory_keys *k = &t->key;
  for (bool again = true; again;) {
    if (k->rare != RARE_REMOVE || c->live == c->states) {
      RGM_TRY(rgm_trajectories_assign(t, stream, c->alive));
    }
    count_pairs(c);
    again = false;
    for (int64_t s = 0; s < c->states; s++) {
      const int64_t least = k->rare == RARE_FREQUENT ? 0 : k->least;
      if (c->alive[s] != 0 && most_of(c, s) <= least) {
        c->alive[s] = 0;
        c->live--;
        again = true;
      }
    }
    if (c->live == 0) {
      return rgm_fail(RGM_EDATA,
                      "%s: no pair of state and action is seen more than %lld times in training; "
                      "lower counts.least or states.count",
                      t->path, (long long)k->least);
    }
  }
  t->count.removed = c->states - c->live;
  return RGM_OK;
}


// ---- the problem -------------------------------------------------------------------------------

static rgm_status build(counting *c) {
  trajectories *t = c->t;
  rgm_mdp_builder *b;
  RGM_TRY(rgm_mdp_builder_new(t->path, &b));
  rgm_status status = RGM_OK;
  for (int64_t row = 0; row < t->rows && status == RGM_OK; row++) {
    if (t->held[t->stay[row]] != 0 || !counts(c, row)) {
      continue;
    }
    const int64_t to = next_of(c, row);
    const int64_t next = to < c->states ? c->number[to] : c->live + (to - c->states);
    const double pay = to == c->states       ? t->key.died_pays
                       : to == c->states + 1 ? t->key.survived_pays
                                             : 0.0;
    status =
        rgm_mdp_add_count(b, t->place[row], c->number[t->state[row]], t->action[row], next, pay);
    t->count.transitions++;
  }
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  const rgm_mdp_checks checks = {0};
  return rgm_mdp_finish(b, c->live + 2, c->actions, &checks, &t->mdp);
}


// masks of the rare pairs, of which the last of a state is never one
static void mask_rare(const counting *c) {
  trajectories *t = c->t;
  rgm_mdp *m = t->mdp;
  for (int64_t s = 0; s < c->states; s++) {
    const int64_t most = most_of(c, s);
    const int64_t own = c->number[s];
    bool kept = false;
    for (int64_t n = own >= 0 ? m->first[own] : 0; own >= 0 && n < m->first[own + 1]; n++) {
      const int64_t seen = c->seen[s * c->actions + m->action[n]];
      const bool only = t->key.rare == RARE_FREQUENT && seen == most && !kept;
      m->allowed[n] = seen > t->key.least || (most <= t->key.least && only);
      kept = kept || m->allowed[n] != 0;
      t->count.pairs++;
      t->count.kept += m->allowed[n];
      t->count.kept_transitions += m->allowed[n] != 0 ? seen : 0;
    }
  }
}


static rgm_status name_all(const counting *c) {
  const trajectories *t = c->t;
  rgm_mdp *m = t->mdp;
  const int64_t most = m->states > m->actions ? m->states : m->actions;
  char(*text)[320] = malloc((size_t)most * sizeof *text);
  const char **names = malloc((size_t)most * sizeof *names);
  rgm_status status =
      text != NULL && names != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for names");
  for (int64_t s = 0; s < m->states && status == RGM_OK; s++) {
    names[s] = text[s];
    snprintf(text[s], sizeof *text, "state %lld", (long long)s);
  }
  if (status == RGM_OK) {
    names[c->live] = "died";
    names[c->live + 1] = "survived";
    status = rgm_mdp_name(&m->state_name, names, m->states);
  }
  const int64_t bins = t->origin->bins;
  for (int64_t a = 0; a < m->actions && status == RGM_OK; a++) {
    names[a] = text[a];
    if (t->drugs == 2) {
      snprintf(text[a], sizeof *text, "%s %lld, %s %lld", t->drug[0], (long long)(a / bins),
               t->drug[1], (long long)(a % bins));
    } else {
      snprintf(text[a], sizeof *text, "%s %lld", t->drugs == 1 ? t->drug[0] : t->key.action,
               (long long)a);
    }
  }
  status = status == RGM_OK ? rgm_mdp_name(&m->action_name, names, m->actions) : status;
  free(text);
  free(names);
  return status;
}


// where training stays begin; where they survive
static rgm_status find_ends(const counting *c) {
  const trajectories *t = c->t;
  rgm_mdp *m = t->mdp;
  m->begin = calloc((size_t)m->states, sizeof *m->begin);
  m->good = calloc((size_t)m->states, 1);
  if (m->begin == NULL || m->good == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)m->states);
  }
  int64_t n = 0;
  for (int64_t i = 0; i < t->stays; i++) {
    const int32_t s = t->state[t->first[i]];
    if (t->held[i] == 0 && s >= 0 && c->alive[s] != 0) {
      m->begin[c->number[s]] += 1.0;
      n++;
    }
  }
  for (int64_t s = 0; s < m->states && n > 0; s++) {
    m->begin[s] /= (double)n;
  }
  m->good[c->live + 1] = 1;
  return n > 0
             ? RGM_OK
             : rgm_fail(RGM_EDATA, "%s: no training stay begins in a state that is kept", t->path);
}


// ---- what stays with it ------------------------------------------------------------------------

static rgm_status keep_names(rgm_mdp_origin *o, const trajectories *t) {
  const char *names[RGM_FEATURES];
  for (int64_t d = 0; d < o->features; d++) {
    names[d] = t->name[d];
  }
  RGM_TRY(rgm_mdp_name(&o->feature, names, o->features));
  for (int64_t d = 0; d < o->drugs; d++) {
    names[d] = t->drug[d];
  }
  return o->drugs > 0 ? rgm_mdp_name(&o->drug, names, o->drugs) : RGM_OK;
}


// centres in their new order, and the visits of all stays
static rgm_status keep_origin(const counting *c) {
  trajectories *t = c->t;
  rgm_mdp_origin *o = t->origin;
  const size_t width = (size_t)o->features * sizeof *o->centre;
  o->stays = t->stays;
  o->visits = t->rows;
  o->pay[RGM_STAY_DIED] = t->key.died_pays;
  o->pay[RGM_STAY_SURVIVED] = t->key.survived_pays;
  o->first = malloc((size_t)(t->stays + 1) * sizeof *o->first);
  o->held = malloc((size_t)t->stays + 1);
  o->end = malloc((size_t)t->stays + 1);
  o->state = malloc((size_t)t->rows * sizeof *o->state);
  o->action = malloc((size_t)t->rows * sizeof *o->action);
  if (o->first == NULL || o->held == NULL || o->end == NULL || o->state == NULL ||
      o->action == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld visits", (long long)t->rows);
  }
  memcpy(o->first, t->first, (size_t)(t->stays + 1) * sizeof *o->first);
  memcpy(o->held, t->held, (size_t)t->stays);
  memcpy(o->end, t->end, (size_t)t->stays);
  memcpy(o->action, t->action, (size_t)t->rows * sizeof *o->action);
  int64_t n[2] = {0, 0};
  for (int64_t row = 0; row < t->rows; row++) {
    const bool held = t->held[t->stay[row]] != 0,
               lost = t->state[row] < 0 || !c->alive[t->state[row]];
    o->state[row] = lost ? -1 : c->number[t->state[row]];
    t->count.lost_visits += lost;
    t->count.distance[held] += (double)t->distance[row];
    n[held]++;
    const int64_t pair = lost || !held ? -1 : rgm_mdp_row(t->mdp, o->state[row], t->action[row]);
    t->count.held_visits += held;
    t->count.held_kept += pair >= 0 && t->mdp->allowed[pair] != 0;
  }
  for (int held = 0; held < 2; held++) {
    t->count.distance[held] /= n[held] > 0 ? (double)n[held] : 1.0;
    t->count.missing[held] /= n[held] > 0 ? (double)(n[held] * o->features) : 1.0;
  }
  for (int64_t s = 0; s < c->states; s++) {
    if (c->number[s] >= 0) {
      memmove(o->centre + c->number[s] * o->features, o->centre + s * o->features, width);
    }
  }
  o->centres = c->live;
  return keep_names(o, t);
}


static rgm_status count_all(counting *c, rgm_stream *stream) {
  memset(c->alive, 1, (size_t)c->states);
  c->live = c->states;
  RGM_TRY(drop_states(c, stream));
  int32_t next = 0;
  for (int64_t s = 0; s < c->states; s++) {
    c->number[s] = c->alive[s] != 0 ? next++ : -1;
  }
  RGM_TRY(build(c));
  mask_rare(c);
  RGM_TRY(name_all(c));
  RGM_TRY(find_ends(c));
  RGM_TRY(keep_origin(c));
  c->t->mdp->origin = c->t->origin;
  c->t->origin = NULL; // the problem's from here on
  return rgm_mdp_check(c->t->mdp, c->t->path);
}


rgm_status rgm_trajectories_count(trajectories *t, rgm_stream *stream) {
  counting c = {.t = t, .states = t->origin->centres};
  for (int64_t row = 0; row < t->rows; row++) {
    c.actions = t->action[row] >= c.actions ? t->action[row] + 1 : c.actions;
  }
  const int64_t bins = t->origin->bins;
  c.actions = t->drugs == 2 ? bins * bins : t->drugs == 1 ? bins : c.actions;
  c.alive = malloc((size_t)c.states);
  c.number = malloc((size_t)c.states * sizeof *c.number);
  c.seen = malloc((size_t)(c.states * c.actions) * sizeof *c.seen);
  const rgm_status status =
      c.alive != NULL && c.number != NULL && c.seen != NULL
          ? count_all(&c, stream)
          : rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)c.states);
  free(c.alive);
  free(c.number);
  free(c.seen);
  return status;
}
