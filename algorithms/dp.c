// SPDX-License-Identifier: Apache-2.0
// Dynamic programming on tabular problems (Puterman 1994): policy evaluation (6.1), value iteration
// (6.3), policy iteration (6.4), modified policy iteration (6.5), relative value iteration (8.5),
// backward induction (4.5), Gauss-Seidel sweeps and prioritised ones. A step is a sweep, or an
// improvement with the evaluation that follows; a replica retires when its bound is reached.
//
// The bound. With v' = T v and e = max |v' - v|, |v* - v'| <= e gamma / (1 - gamma). At gamma 1 it
// is e w, where w is the longest expected way to an end under any policy (Bertsekas 2012, 3.4): a
// problem with a policy that never ends is refused. Where v' is swept on under its greedy policy,
// v* and the policy's value may lie on either side of v': e is max(v' - v, 0) - min(v' - v, 0)
// there. Prioritised sweeps know e of v itself: e / (1 - gamma).

#include "algorithms/dp.h"
#include "algorithms/dp_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEY(member) offsetof(dp_keys, member)

static const char *const methods[] = {"modified",       "value_iteration", "policy_iteration",
                                      "gauss_seidel",   "prioritised",     "relative",
                                      "finite_horizon", "evaluate",        NULL};
static const char *const policies[] = {"given", "uniform", NULL};
static const char *const layouts[] = {"wide", "compact", NULL};

static const rgm_field fields[] = {
    {"method", RGM_CHOICE, KEY(method), "", "modified", 0, 0, methods, RGM_SHAPE,
     "How it is solved; evaluate: the value of a policy by sweeps."},
    {"gamma", RGM_FLOAT, KEY(gamma), "1", "0.99", 0, 1, NULL, 0, "Discount of a step."},
    {"tolerance", RGM_FLOAT, KEY(tolerance), "1", "1e-11", 0, 1e9, NULL, 0,
     "A replica is done when its values are known to be this near (relative: the gain); 0: never."},
    {"tie", RGM_FLOAT, KEY(tie), "1", "1e-12", 0, 1e9, NULL, 0,
     "An action is changed for a gain of more than this, so that ties do not cycle."},
    {"sweeps", RGM_INT, KEY(sweeps), "1", "20", 0, 1e6, NULL, RGM_SHAPE,
     "Sweeps of evaluation after an improvement (modified)."},
    {"horizon", RGM_INT, KEY(horizon), "steps", "20", 1, 1e5, NULL, RGM_SHAPE,
     "Steps of an episode (finite_horizon)."},
    {"policy", RGM_CHOICE, KEY(policy), "", "uniform", 0, 0, policies, RGM_SHAPE,
     "What evaluate evaluates: the environment's policy, or all allowed actions alike."},
    {"start", RGM_CHOICE, KEY(start), "", "uniform", 0, 0, policies, RGM_SHAPE,
     "What iteration starts from: given, the value of the environment's policy; uniform: zeros."},
    {"soften", RGM_FLOAT, KEY(soften), "1", "0", 0, 1, NULL, 0,
     "Share of the optimal policy that is spread over the allowed actions, in the report."},
    {"near", RGM_FLOAT, KEY(near), "1", "0.001", 0, 1e9, NULL, 0,
     "Actions that lose at most this are listed as near-optimal."},
    {"layout", RGM_CHOICE, KEY(layout), "", "wide", 0, 0, layouts, RGM_SHAPE,
     "wide: 12 bytes a non-zero; compact: 4, p rounded to 1 / 65535, next states near."},
    {0},
};


static double gamma_of(const rgm_run *run, int64_t r) {
  return ((const dp_keys *)rgm_algorithm_keys(run, r))->gamma;
}


static double tie_of(const rgm_run *run, int64_t r) {
  return ((const dp_keys *)rgm_algorithm_keys(run, r))->tie;
}


static bool is_serial(const dp_keys *k) {
  return k->method == DP_GAUSS_SEIDEL || k->method == DP_PRIORITISED;
}


static rgm_status dp_check(const rgm_run *run) {
  const dp_keys *k = rgm_algorithm_keys(run, 0);
  if (k->layout == 1 && (dp_copies_rows(k) || is_serial(k))) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.layout: compact goes with value_iteration, relative, "
                    "finite_horizon and evaluate",
                    rgm_config_where(run->config, "algorithm.layout"));
  }
  if (k->method == DP_FINITE_HORIZON && run->keys.steps < k->horizon) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: run.steps: %lld steps of backward induction for a horizon of "
                    "%lld; set run.steps to it",
                    rgm_config_where(run->config, "run.steps"), (long long)run->keys.steps,
                    (long long)k->horizon);
  }
  return RGM_OK;
}


// ---- planning ----------------------------------------------------------------------------------

// What is known of the problem before memory is bound: a policy's chain, whether gamma 1 is legal.
static rgm_status look(rgm_run *run, dp *s) {
  const dp_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_mdp *m = run->mdp;
  if (m->policy == NULL &&
      (k->start == DP_GIVEN || (k->method == DP_EVALUATE && k->policy == DP_GIVEN))) {
    return rgm_fail(RGM_ECONFIG, "%s: the environment has no policy; set env.policy",
                    rgm_config_where(run->config, k->method == DP_EVALUATE ? "algorithm.policy"
                                                                           : "algorithm.start"));
  }
  double *weight = malloc(((size_t)m->rows + 1) * sizeof *weight);
  s->given = calloc((size_t)m->states + 1, sizeof *s->given);
  if (weight == NULL || s->given == NULL) {
    free(weight);
    return rgm_fail(RGM_EMEMORY, "no memory for a policy");
  }
  rgm_status status = RGM_OK;
  if (m->policy != NULL) {
    status = dp_given(m, s->given);
  }
  if (status == RGM_OK && k->method == DP_EVALUATE) {
    if (k->policy == DP_GIVEN) {
      dp_weights_of(m, s->given, weight);
    } else {
      dp_weights_uniform(m, weight);
    }
    status = dp_chain(m, weight, &s->chain);
  }
  free(weight);
  RGM_TRY(status);
  for (int64_t r = 0; r < run->replicas && s->longest == 0.0; r++) {
    if (gamma_of(run, r) == 1.0 && k->method != DP_RELATIVE && k->method != DP_FINITE_HORIZON) {
      RGM_TRY(dp_longest(dp_problem(run), &s->longest));
    }
  }
  return RGM_OK;
}


static rgm_status dp_plan(rgm_run *run) {
  dp *s = run->self;
  const dp_keys *k = rgm_algorithm_keys(run, 0);
  rgm_arena *arena = run->arena;
  if (s->given == NULL) {
    RGM_TRY(look(run, s));
  }
  const int64_t R = run->replicas, S = run->mdp->states;
  const bool stages = k->method == DP_FINITE_HORIZON;
  const int64_t H = stages ? k->horizon : 1;
  if (is_serial(k) && !rgm_is_cpu(run->stream)) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.method: %s goes state by state, on the CPU alone; "
                    "set run.backend: cpu",
                    rgm_config_where(run->config, "algorithm.method"), methods[k->method]);
  }
  RGM_TRY(dp_plan_rows(run, dp_problem(run), k->layout == 1, dp_copies_rows(k) ? R : 0, &s->t));
  const int64_t B = s->t.rows.block.dims[0] - 1;
  s->value = rgm_plan(arena, "value", RGM_F64, RGM_STATE | RGM_EXPORTED, "replica, state", "reward",
                      R, S, 0, 0);
  s->action = rgm_plan(arena, "action", RGM_I32, RGM_STATE | RGM_EXPORTED, "replica, stage, state",
                       "", R, H, S, 0);
  s->bounds = rgm_plan(arena, "change", RGM_F64, RGM_STATE, "replica, least and largest", "reward",
                       R, 2, 0, 0);
  s->other =
      rgm_plan(arena, "work/value", RGM_F64, RGM_SCRATCH, "replica, state", "reward", R, S, 0, 0);
  s->partial = rgm_plan(arena, "work/change", RGM_F64, RGM_SCRATCH, "replica, block, side",
                        "reward", R, B, 2, 0);
  s->settle =
      rgm_plan(arena, "work/settle", RGM_F64, RGM_SCRATCH, "replica, side", "reward", R, 2, 0, 0);
  s->gamma = rgm_plan(arena, "hyper/gamma", RGM_F64, RGM_BLOCK, "replica", "1", R, 0, 0, 0);
  s->tie = rgm_plan(arena, "hyper/tie", RGM_F64, RGM_BLOCK, "replica", "reward", R, 0, 0, 0);
  return RGM_OK;
}


// values and actions to start from: zeros and none, or the environment's policy and its value
static rgm_status dp_init(rgm_run *run) {
  dp *s = run->self;
  const dp_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_mdp *m = run->mdp;
  const size_t S = (size_t)m->states, stages = (size_t)s->action.dims[1];
  RGM_TRY(dp_upload(run, &s->t));
  RGM_TRY(dp_fill(run, s->gamma, gamma_of));
  RGM_TRY(dp_fill(run, s->tie, tie_of));
  double *value = calloc(S, sizeof *value), *weight = calloc((size_t)m->rows + 1, sizeof *weight);
  int32_t *action = malloc(S * stages * sizeof *action);
  rgm_status status = value != NULL && action != NULL && weight != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)S);
  for (size_t i = 0; i < S * stages && status == RGM_OK; i++) {
    action[i] = k->start == DP_GIVEN ? s->given[i % S] : RGM_MDP_LANE;
  }
  for (int64_t r = 0; r < run->replicas && status == RGM_OK; r++) {
    if (k->start == DP_GIVEN && k->method != DP_EVALUATE) {
      rgm_mdp *chain = NULL;
      dp_weights_of(m, s->given, weight);
      status = dp_chain(m, weight, &chain);
      status = status == RGM_OK ? dp_direct(chain, gamma_of(run, r), DP_VALUE, value) : status;
      rgm_mdp_free(chain);
    }
    rgm_copy(run->stream, (double *)s->value.data + r * s->value.stride0, value, S * sizeof *value);
    rgm_copy(run->stream, (int32_t *)s->action.data + r * s->action.stride0, action,
             S * stages * sizeof *action);
    const rgm_status sync = rgm_sync(run->stream);
    status = status == RGM_OK ? sync : status;
  }
  free(value);
  free(weight);
  free(action);
  return status;
}


// ---- steps -------------------------------------------------------------------------------------

static void swap(rgm_tensor *a, rgm_tensor *b) {
  const rgm_tensor c = *a;
  *a = *b;
  *b = c;
}


// a sweep over all actions from value to other, then back into value
static void sweep(rgm_run *run, int64_t stage, int64_t reference) {
  dp *s = run->self;
  rgm_bellman b = {
      .out = s->other,
      .action = s->action,
      .partial = s->partial,
      .bounds = s->bounds,
      .value = s->value,
      .gamma = s->gamma,
      .tie = s->tie,
      .active = run->active,
      .rows = s->t.rows,
      .reference = reference,
  };
  const int64_t S = s->value.dims[1];
  b.action = rgm_view((int32_t *)s->action.data + stage * S, RGM_I32, run->replicas, S, 0, 0);
  b.action.stride0 = s->action.stride0;
  rgm_mdp_bellman(run->stream, &b);
  dp_keep(run, s->value, s->other);
}


// `count` sweeps over the rows of the policy, there and back, so an even number or one more
static void follow(rgm_run *run, int64_t count) {
  dp *s = run->self;
  rgm_tensor from = s->value, to = s->other;
  for (int64_t i = 0; i < count + count % 2; i++) {
    const rgm_bellman b = {
        .out = to,
        .partial = s->partial,
        .bounds = s->settle,
        .value = from,
        .gamma = s->gamma,
        .tie = s->tie,
        .active = run->active,
        .rows = s->t.chosen,
        .reference = -1,
    };
    rgm_mdp_bellman(run->stream, &b);
    swap(&from, &to);
  }
}


static void pick(rgm_run *run) {
  const dp *s = run->self;
  rgm_mdp_pick p = {.to = s->t.chosen, .from = s->t.rows, .active = run->active};
  p.action = rgm_view(s->action.data, RGM_I32, run->replicas, s->value.dims[1], 0, 0);
  rgm_mdp_copy_rows(run->stream, &p);
}


// evaluation until nothing changes but by rounding, or as near as is asked; looks every `batch`
static rgm_status evaluate_fully(rgm_run *run) {
  enum { BATCH = 20, MOST = 100000 };
  const dp *s = run->self;
  for (int done = 0; done < MOST; done += BATCH) {
    double last = INFINITY;
    bool settled = true;
    follow(run, BATCH);
    for (int64_t r = 0; r < run->replicas; r++) {
      double bounds[2];
      rgm_copy(run->stream, bounds, (double *)s->settle.data + 2 * r, sizeof bounds);
      RGM_TRY(rgm_sync(run->stream));
      last = fmax(-bounds[0], bounds[1]);
      settled = settled && (!dp_is_active(run, r) || last <= 0.1 * dp_stop(run, r));
    }
    if (settled) {
      return RGM_OK;
    }
  }
  return RGM_OK;
}


// the methods that go state by state
static rgm_status step_serial(rgm_run *run) {
  dp *s = run->self;
  const dp_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t S = run->mdp->states;
  rgm_status status = RGM_OK;
  for (int64_t r = 0; r < run->replicas && status == RGM_OK; r++) {
    double *value = (double *)s->value.data + r * s->value.stride0;
    double *bounds = (double *)s->bounds.data + 2 * r, change = 0.0;
    int32_t *action = (int32_t *)s->action.data + r * s->action.stride0;
    if (!dp_is_active(run, r)) {
      continue;
    }
    if (k->method == DP_GAUSS_SEIDEL) {
      change = dp_gauss_seidel(run->mdp, gamma_of(run, r), tie_of(run, r), value, action);
    } else {
      status = dp_prioritised(run->mdp, gamma_of(run, r), tie_of(run, r), dp_stop(run, r), S, value,
                              action, &change);
    }
    bounds[0] = -change;
    bounds[1] = change;
  }
  return status;
}


static rgm_status dp_step(rgm_run *run) {
  const dp *s = run->self;
  const dp_keys *k = rgm_algorithm_keys(run, 0);
  if (is_serial(k)) {
    RGM_TRY(step_serial(run));
  } else if (k->method == DP_FINITE_HORIZON) {
    // the last stage first
    const int64_t stage = k->horizon - 1 - (int64_t)run->step;
    if (stage >= 0) {
      sweep(run, stage, -1);
    }
  } else {
    sweep(run, 0, k->method == DP_RELATIVE ? s->reference : -1);
  }
  if (dp_copies_rows(k)) {
    pick(run);
    if (k->method == DP_MODIFIED) {
      follow(run, k->sweeps);
    } else {
      RGM_TRY(evaluate_fully(run));
    }
  }
  rgm_advance(run->stream, run->clock, run->active);
  return RGM_OK;
}


static void dp_free(rgm_run *run) {
  dp *s = run->self;
  dp_release(&s->t);
  rgm_mdp_free(s->chain);
  free(s->given);
}


const rgm_algorithm rgm_dp = {
    .name = "dp",
    .paper = "Puterman 1994",
    .doc = "Dynamic programming on tabular problems, with certified bounds.",
    .fields = fields,
    .keys_size = sizeof(dp_keys),
    .self_size = sizeof(dp),
    .needs = RGM_NEEDS_ENV | RGM_NEEDS_MDP,
    .work_unit = "backups",
    .work = dp_work,
    .check = dp_check,
    .plan = dp_plan,
    .init = dp_init,
    .step = dp_step,
    .report = dp_report,
    .evaluate = dp_print,
    .recommend = dp_recommend,
    .release = dp_free,
};
