// SPDX-License-Identifier: Apache-2.0
// Learning in tables from simulated transitions of a tabular problem: Q-learning (Watkins 1989),
// SARSA (Rummery & Niranjan 1994), expected SARSA (van Seijen et al. 2009), double Q-learning (van
// Hasselt 2010) and TD(0) of a policy (Sutton 1988). Seeds and settings are replicas side by side,
// thousands at a time. A step is a block of transitions of every learner; what is learned is judged
// exactly, by the problem itself.

#include "algorithms/dp.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct q_keys {
  double gamma, lr, lr_last, explore, explore_last, initial;
  int64_t updates, longest, span;
  int rule;
} q_keys;

#define KEY(member) offsetof(q_keys, member)

static const char *const rules[] = {"q", "sarsa", "expected_sarsa", "double_q", "td0", NULL};

static const rgm_field fields[] = {
    {"rule", RGM_CHOICE, KEY(rule), "", "q", 0, 0, rules, RGM_SHAPE,
     "What is learned; td0: the value of the environment's policy, or of the uniform one."},
    {"gamma", RGM_FLOAT, KEY(gamma), "1", "0.99", 0, 1, NULL, 0, "Discount of a step."},
    {"lr", RGM_FLOAT, KEY(lr), "1", "0.1", 0, 1, NULL, 0, "Learning rate at first."},
    {"lr_last", RGM_FLOAT, KEY(lr_last), "1", "0.003", 0, 1, NULL, 0,
     "Learning rate after algorithm.span updates, reached linearly."},
    {"explore", RGM_FLOAT, KEY(explore), "1", "1", 0, 1, NULL, 0,
     "Share of actions that are drawn evenly, at first."},
    {"explore_last", RGM_FLOAT, KEY(explore_last), "1", "0.05", 0, 1, NULL, 0,
     "The same after algorithm.span updates."},
    {"span", RGM_INT, KEY(span), "updates", "5000000", 1, 4e15, NULL, 0,
     "Updates until learning rate and exploration have their last values."},
    {"initial", RGM_FLOAT, KEY(initial), "reward", "0", -1e9, 1e9, NULL, 0,
     "Value that every pair starts from."},
    {"updates", RGM_INT, KEY(updates), "updates", "100000", 1, 1e9, NULL, RGM_SHAPE,
     "Transitions of each learner in a step."},
    {"longest", RGM_INT, KEY(longest), "transitions", "1000", 1, 1e9, NULL, RGM_SHAPE,
     "Transitions after which an episode is cut."},
    {0},
};

typedef struct learning {
  rgm_tensor q;                                               // (R, T, rows) f64
  rgm_tensor at;                                              // (R, 2) i32
  rgm_tensor tally;                                           // (R, 6) f64
  rgm_tensor lr, lr_last, explore, explore_last, span, gamma; // (R) f64
  rgm_tensor first, start, arrow, begin, policy;              // of the problem, see tabular.h
} learning;


static double lr_of(const rgm_run *run, int64_t r) {
  return ((const q_keys *)rgm_algorithm_keys(run, r))->lr;
}
static double lr_last_of(const rgm_run *run, int64_t r) {
  return ((const q_keys *)rgm_algorithm_keys(run, r))->lr_last;
}
static double explore_of(const rgm_run *run, int64_t r) {
  return ((const q_keys *)rgm_algorithm_keys(run, r))->explore;
}
static double explore_last_of(const rgm_run *run, int64_t r) {
  return ((const q_keys *)rgm_algorithm_keys(run, r))->explore_last;
}
static double span_of(const rgm_run *run, int64_t r) {
  return (double)((const q_keys *)rgm_algorithm_keys(run, r))->span;
}
static double gamma_of(const rgm_run *run, int64_t r) {
  return ((const q_keys *)rgm_algorithm_keys(run, r))->gamma;
}


// pairs and entries that may be taken
static void count_allowed(const rgm_mdp *m, int64_t *rows, int64_t *entries) {
  *rows = *entries = 0;
  for (int64_t n = 0; n < m->rows; n++) {
    *rows += m->allowed[n] != 0;
    *entries += m->allowed[n] != 0 ? m->start[n + 1] - m->start[n] : 0;
  }
}


static rgm_status q_plan(rgm_run *run) {
  learning *s = run->self;
  const q_keys *k = rgm_algorithm_keys(run, 0);
  rgm_arena *arena = run->arena;
  int64_t rows, entries;
  count_allowed(run->mdp, &rows, &entries);
  if (entries > UINT32_MAX || run->mdp->begin == NULL) {
    return rgm_fail(RGM_ECONFIG, "%s: learning needs %s", rgm_config_where(run->config, "env.name"),
                    run->mdp->begin == NULL ? "states to start from: set env.begin"
                                            : "a problem of fewer than 2^32 non-zeros");
  }
  const int64_t R = run->replicas, S = run->mdp->states;
  const bool td = k->rule == RGM_LEARN_TD0;
  s->q = rgm_plan(arena, "q", RGM_F64, RGM_STATE | RGM_EXPORTED, "replica, table, pair", "reward",
                  R, k->rule == RGM_LEARN_DOUBLE_Q ? 2 : 1, td ? S : rows, 0);
  s->at = rgm_plan(arena, "at", RGM_I32, RGM_STATE, "replica, state and action", "", R, 2, 0, 0);
  s->tally =
      rgm_plan(arena, "tally", RGM_F64, RGM_STATE, "replica, number", "1", R, RGM_TALLY, 0, 0);
  s->lr = rgm_plan(arena, "hyper/lr", RGM_F64, RGM_BLOCK, "replica", "1", R, 0, 0, 0);
  s->lr_last = rgm_plan(arena, "hyper/lr_last", RGM_F64, RGM_BLOCK, "replica", "1", R, 0, 0, 0);
  s->explore = rgm_plan(arena, "hyper/explore", RGM_F64, RGM_BLOCK, "replica", "1", R, 0, 0, 0);
  s->explore_last =
      rgm_plan(arena, "hyper/explore_last", RGM_F64, RGM_BLOCK, "replica", "1", R, 0, 0, 0);
  s->span = rgm_plan(arena, "hyper/span", RGM_F64, RGM_BLOCK, "replica", "updates", R, 0, 0, 0);
  s->gamma = rgm_plan(arena, "hyper/gamma", RGM_F64, RGM_BLOCK, "replica", "1", R, 0, 0, 0);
  s->first = rgm_plan(arena, "rows/first", RGM_U32, RGM_BLOCK, "state", "", S + 1, 0, 0, 0);
  s->start = rgm_plan(arena, "rows/start", RGM_U32, RGM_BLOCK, "pair", "", rows + 1, 0, 0, 0);
  s->arrow = rgm_plan(arena, "rows/arrow", RGM_U32, RGM_BLOCK, "entry, word", "", entries,
                      RGM_ARROW, 0, 0);
  s->begin = rgm_plan(arena, "rows/begin", RGM_U32, RGM_BLOCK, "state, word", "", S, 2, 0, 0);
  s->policy = rgm_plan(arena, "rows/policy", RGM_U32, RGM_BLOCK, "pair", "", rows, 0, 0, 0);
  return RGM_OK;
}


// ---- tables ------------------------------------------------------------------------------------

// Host copies of the problem's tables.
typedef struct tables {
  uint32_t *first, *start, *arrow, *begin, *policy, *alias;
  double *share;
} tables;


static uint32_t chance_of(double share) {
  return share >= 1.0 ? UINT32_MAX : (uint32_t)(share * 0x1p32);
}


// the arrows of pair `row` from entry `at` on
static void point(const rgm_mdp *m, int64_t row, uint32_t at, const tables *t) {
  const int64_t from = m->start[row], size = m->start[row + 1] - from;
  rgm_mdp_alias_table(m->p + from, size, t->share, t->alias);
  for (int64_t k = 0; k < size; k++) {
    uint32_t *arrow = t->arrow + RGM_ARROW * (size_t)(at + k);
    const int64_t other = from + t->alias[k];
    arrow[0] = chance_of(t->share[k]);
    arrow[1] = (uint32_t)m->next[from + k];
    arrow[2] = rgm_bits((float)m->gain[from + k]);
    arrow[3] = (uint32_t)m->next[other];
    arrow[4] = rgm_bits((float)m->gain[other]);
  }
}


static void fill_tables(const rgm_mdp *m, const double *weight, const tables *t) {
  uint32_t row = 0, entry = 0;
  for (int64_t s = 0; s < m->states; s++) {
    double sum = 0.0;
    t->first[s] = row;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      if (m->allowed[n] != 0) {
        t->start[row] = entry;
        point(m, n, entry, t);
        sum += weight[n];
        t->policy[row++] = chance_of(sum);
        entry += (uint32_t)(m->start[n + 1] - m->start[n]);
      }
    }
  }
  t->first[m->states] = row;
  t->start[row] = entry;
  rgm_mdp_alias_table(m->begin, m->states, t->share, t->alias);
  for (int64_t s = 0; s < m->states; s++) {
    t->begin[2 * s] = chance_of(t->share[s]);
    t->begin[2 * s + 1] = t->alias[s];
  }
}


static rgm_status upload_tables(rgm_run *run, learning *s) {
  const rgm_mdp *m = run->mdp;
  const size_t S = (size_t)m->states, N = (size_t)s->policy.dims[0];
  const size_t most = S > (size_t)m->entries ? S : (size_t)m->entries;
  const tables t = {calloc(S + 1, 4),
                    calloc(N + 1, 4),
                    calloc((size_t)rgm_elements(s->arrow), 4),
                    calloc(2 * S, 4),
                    calloc(N + 1, 4),
                    calloc(most, 4),
                    calloc(most, sizeof(double))};
  double *weight = calloc((size_t)m->rows + 1, sizeof *weight);
  int32_t *choice = calloc(S, sizeof *choice);
  const bool ok = t.first != NULL && t.start != NULL && t.arrow != NULL && t.begin != NULL &&
                  t.policy != NULL && t.alias != NULL && t.share != NULL && weight != NULL &&
                  choice != NULL;
  rgm_status status = ok ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for %lld pairs", (long long)N);
  if (ok && m->policy != NULL) {
    status = dp_given(m, choice);
    dp_weights_of(m, choice, weight);
  } else if (ok) {
    dp_weights_uniform(m, weight);
  }
  if (status == RGM_OK) {
    fill_tables(m, weight, &t);
    rgm_copy(run->stream, s->first.data, t.first, (S + 1) * 4);
    rgm_copy(run->stream, s->start.data, t.start, (N + 1) * 4);
    rgm_copy(run->stream, s->arrow.data, t.arrow, rgm_bytes(s->arrow));
    rgm_copy(run->stream, s->begin.data, t.begin, 2 * S * 4);
    rgm_copy(run->stream, s->policy.data, t.policy, N * 4);
    status = rgm_sync(run->stream);
  }
  free(t.first);
  free(t.start);
  free(t.arrow);
  free(t.begin);
  free(t.policy);
  free(t.alias);
  free(t.share);
  free(weight);
  free(choice);
  return status;
}


static rgm_status q_init(rgm_run *run) {
  learning *s = run->self;
  RGM_TRY(upload_tables(run, s));
  RGM_TRY(dp_fill(run, s->lr, lr_of));
  RGM_TRY(dp_fill(run, s->lr_last, lr_last_of));
  RGM_TRY(dp_fill(run, s->explore, explore_of));
  RGM_TRY(dp_fill(run, s->explore_last, explore_last_of));
  RGM_TRY(dp_fill(run, s->span, span_of));
  RGM_TRY(dp_fill(run, s->gamma, gamma_of));
  const int64_t each = s->q.dims[1] * s->q.dims[2];
  double *q = malloc((size_t)each * sizeof *q);
  if (q == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld pairs", (long long)each);
  }
  rgm_status status = RGM_OK;
  for (int64_t r = 0; r < run->replicas && status == RGM_OK; r++) {
    const q_keys *k = rgm_algorithm_keys(run, r);
    const int32_t nowhere[2] = {-1, 0};
    for (int64_t i = 0; i < each; i++) {
      q[i] = k->initial;
    }
    // of TD(0) ends are worth nothing
    for (int64_t i = 0; i < each && k->rule == RGM_LEARN_TD0; i++) {
      q[i] = rgm_mdp_is_end(run->mdp, i) ? 0.0 : q[i];
    }
    rgm_copy(run->stream, (double *)s->q.data + r * each, q, (size_t)each * sizeof *q);
    rgm_copy(run->stream, (int32_t *)s->at.data + 2 * r, nowhere, sizeof nowhere);
    status = rgm_sync(run->stream);
  }
  free(q);
  return status;
}


static rgm_status q_step(rgm_run *run) {
  const learning *s = run->self;
  const q_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_mdp_learn learn = {
      .q = s->q,
      .at = s->at,
      .tally = s->tally,
      .lr = s->lr,
      .lr_last = s->lr_last,
      .explore = s->explore,
      .explore_last = s->explore_last,
      .span = s->span,
      .gamma = s->gamma,
      .seeds = run->seeds,
      .clock = run->clock,
      .active = run->active,
      .first = s->first,
      .start = s->start,
      .arrow = s->arrow,
      .begin = s->begin,
      .policy = s->policy,
      .rule = (rgm_learn_rule)k->rule,
      .updates = (uint32_t)k->updates,
      .longest = (uint32_t)k->longest,
  };
  rgm_mdp_learning(run->stream, &learn);
  rgm_advance(run->stream, run->clock, run->active);
  return RGM_OK;
}


// ---- what was learned --------------------------------------------------------------------------

// The exact value from the start distribution of the greedy policy of one replica's table; of
// TD(0) what it says itself. `x` has S places.
static rgm_status judge(const rgm_run *run, int64_t r, const double *q, double *x, double *value) {
  const rgm_mdp *m = run->mdp;
  const q_keys *k = rgm_algorithm_keys(run, r);
  const learning *s = run->self;
  rgm_status status = RGM_OK;
  if (k->rule == RGM_LEARN_TD0) {
    memcpy(x, q, (size_t)m->states * sizeof *x);
  } else {
    const double *twin = s->q.dims[1] == 2 ? q + s->q.dims[2] : NULL;
    double *weight = calloc((size_t)m->rows + 1, sizeof *weight);
    int32_t *choice = calloc((size_t)m->states, sizeof *choice);
    rgm_mdp *chain = NULL;
    status = weight != NULL && choice != NULL
                 ? RGM_OK
                 : rgm_fail(RGM_EMEMORY, "no memory for %lld pairs", (long long)m->rows);
    int64_t row = 0;
    for (int64_t i = 0; i < m->states && status == RGM_OK; i++) {
      double best = -INFINITY;
      int32_t a = 0;
      for (int64_t n = m->first[i]; n < m->first[i + 1]; n++) {
        if (m->allowed[n] != 0) {
          const double own = twin != NULL ? q[row] + twin[row] : q[row];
          choice[i] = own > best ? a : choice[i];
          best = own > best ? own : best;
          a++;
          row++;
        }
      }
    }
    if (status == RGM_OK) {
      dp_weights_of(m, choice, weight);
      status = dp_chain(m, weight, &chain);
      status = status == RGM_OK ? dp_direct(chain, k->gamma, DP_VALUE, x) : status;
    }
    rgm_mdp_free(chain);
    free(weight);
    free(choice);
  }
  *value = 0.0;
  for (int64_t i = 0; i < m->states; i++) {
    *value = fma(m->begin[i], x[i], *value);
  }
  return status;
}


enum { NUMBERS = 4 }; // of a replica: exact value, mean return and length of episodes, episodes

static rgm_status judge_all(rgm_run *run, double *out) {
  const learning *s = run->self;
  const int64_t R = run->replicas, each = s->q.dims[1] * s->q.dims[2];
  double *q = malloc((size_t)(R * each) * sizeof *q);
  double *tally = malloc((size_t)(R * RGM_TALLY) * sizeof *tally);
  double *x = malloc((size_t)run->mdp->states * sizeof *x);
  rgm_status status = q != NULL && tally != NULL && x != NULL
                          ? rgm_read_back(run, s->q, q)
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld learners", (long long)R);
  status = status == RGM_OK ? rgm_read_back(run, s->tally, tally) : status;
  for (int64_t r = 0; r < R && status == RGM_OK; r++) {
    const double *t = tally + RGM_TALLY * r;
    status = judge(run, r, q + r * each, x, &out[r]);
    out[R + r] = t[4] / t[3];
    out[2 * R + r] = t[5] / t[3];
    out[3 * R + r] = t[3];
  }
  free(q);
  free(tally);
  free(x);
  return status;
}


static rgm_status q_report(rgm_run *run) {
  static const char *const names[NUMBERS] = {"value", "return_episodes", "length_episodes",
                                             "episodes"};
  static const char *const units[NUMBERS] = {"reward", "reward", "transitions", "1"};
  const size_t R = (size_t)run->replicas;
  double *out = malloc(NUMBERS * R * sizeof *out);
  float *row = malloc(R * sizeof *row);
  rgm_status status = out != NULL && row != NULL
                          ? judge_all(run, out)
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld learners", (long long)R);
  for (int i = 0; i < NUMBERS && status == RGM_OK; i++) {
    for (size_t r = 0; r < R; r++) {
      row[r] = (float)out[(size_t)i * R + r];
    }
    status = rgm_report(run, names[i], units[i], row);
  }
  free(out);
  free(row);
  return status;
}


static rgm_status q_print(rgm_run *run, rgm_json *json, FILE *text) {
  const int64_t R = run->replicas;
  const q_keys *k = rgm_algorithm_keys(run, 0);
  double *out = malloc((size_t)(NUMBERS * R) * sizeof *out);
  const rgm_status status =
      out != NULL ? judge_all(run, out)
                  : rgm_fail(RGM_EMEMORY, "no memory for %lld learners", (long long)R);
  if (status == RGM_OK) {
    rgm_json_open(json, NULL, '{');
    rgm_json_number(json, "updates", (double)run->step * (double)k->updates);
    rgm_json_open(json, "values", '[');
    for (int64_t r = 0; r < R; r++) {
      rgm_json_number(json, NULL, out[r]);
    }
    rgm_json_close(json, ']');
    const rgm_summary v = rgm_summarise(out, R);
    rgm_json_number(json, "mean", v.mean);
    rgm_json_number(json, "sd", v.sd);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text, "%s: %lld learner%s, %.4g updates each; exact value of what was learned\n",
              rules[k->rule], (long long)R, R == 1 ? "" : "s",
              (double)run->step * (double)k->updates);
      fprintf(text, "  mean %.6f, sd %.6f, least %.6f, median %.6f, largest %.6f\n", v.mean, v.sd,
              v.min, v.median, v.max);
    }
  }
  free(out);
  return status;
}


static double q_work(const rgm_run *run) {
  const q_keys *k = rgm_algorithm_keys(run, 0);
  return (double)run->replicas * (double)k->updates;
}


const rgm_algorithm rgm_tabular_q = {
    .name = "tabular_q",
    .paper = "Watkins 1989; Rummery & Niranjan 1994; van Hasselt 2010; Sutton 1988",
    .doc = "Q-learning, SARSA, expected SARSA, double Q-learning and TD(0) in tables, packed.",
    .fields = fields,
    .keys_size = sizeof(q_keys),
    .self_size = sizeof(learning),
    .needs = RGM_NEEDS_ENV | RGM_NEEDS_MDP | RGM_TIMELESS,
    .work_unit = "updates",
    .work = q_work,
    .plan = q_plan,
    .init = q_init,
    .step = q_step,
    .report = q_report,
    .evaluate = q_print,
    .best_metric = "value",
};
