// SPDX-License-Identifier: Apache-2.0
// Q-learning (Watkins 1989) on a grid of two observations of a simulated patient, with a list of
// doses: how Moore et al. (2011, Anesth Analg 112:350; 2014, JMLR 15:655) titrated propofol. The
// state is the cell of the error and of the change of concentration that is foreseen; a greedy
// table acts. A step is one of all patients, whose updates follow one another in their
// order, so it runs on the CPU, a replica a thread.

#include "engine/engine.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct grid_keys {
  double gamma, lr, lr_last, explore, explore_last, initial;
  int64_t environments, span, rows, first, second, hold;
  rgm_list edges[2], doses;
} grid_keys;

#define KEY(member) offsetof(grid_keys, member)

static const rgm_field fields[] = {
    {"first", RGM_INT, KEY(first), "1", "0", 0, 4095, NULL, RGM_SHAPE,
     "Number of the observation on the grid's first axis."},
    {"first_edges", RGM_LIST, KEY(edges[0]), "observation",
     "[-0.3, -0.2, -0.12, -0.08, -0.05, -0.03, -0.015, 0, 0.015, 0.03, 0.05, 0.08, 0.12, 0.2, "
     "0.3]",
     -1e9, 1e9, NULL, RGM_SHAPE, "Where its cells meet, ascending."},
    {"second", RGM_INT, KEY(second), "1", "1", 0, 4095, NULL, RGM_SHAPE,
     "The same of the second axis."},
    {"second_edges", RGM_LIST, KEY(edges[1]), "observation",
     "[-0.3, -0.2, -0.15, -0.1, -0.07, -0.05, -0.03, -0.02, -0.01, -0.005, 0, 0.005, 0.01, "
     "0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3]",
     -1e9, 1e9, NULL, RGM_SHAPE, "Where its cells meet, ascending."},
    {"doses", RGM_LIST, KEY(doses), "1",
     "[0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 0.5, 1]", 0, 1, NULL, RGM_SHAPE,
     "Actions: shares of the largest dose."},
    {"hold", RGM_INT, KEY(hold), "steps", "5", 1, 1000, NULL, RGM_SHAPE,
     "Steps that a dose is held while learning: within one of propofol's it changes next to "
     "nothing."},
    {"gamma", RGM_FLOAT, KEY(gamma), "1", "0.85", 0, 1, NULL, 0, "Discount of a decision."},
    {"lr", RGM_FLOAT, KEY(lr), "1", "0.2", 0, 1, NULL, 0, "Learning rate at first."},
    {"lr_last", RGM_FLOAT, KEY(lr_last), "1", "0.002", 0, 1, NULL, 0,
     "Learning rate after algorithm.span steps, reached geometrically."},
    {"explore", RGM_FLOAT, KEY(explore), "1", "0.5", 0, 1, NULL, 0,
     "Share of actions that are drawn evenly, at first."},
    {"explore_last", RGM_FLOAT, KEY(explore_last), "1", "0.02", 0, 1, NULL, 0,
     "The same after algorithm.span steps, reached linearly."},
    {"span", RGM_INT, KEY(span), "steps", "100000", 1, 4e9, NULL, 0,
     "Steps until learning rate and exploration have their last values."},
    {"initial", RGM_FLOAT, KEY(initial), "reward", "0", -1e9, 1e9, NULL, 0,
     "Value that every pair of cell and action starts from; above the truth: all are tried."},
    {"environments", RGM_INT, KEY(environments), "1", "64", 1, 1e6, NULL, RGM_SHAPE,
     "Patients of each replica that are treated side by side."},
    {"rows", RGM_INT, KEY(rows), "1", "256", 1, 1e6, NULL, RGM_SHAPE | RGM_PROVENANCE,
     "Test patients that are treated side by side."},
    {0},
};

typedef struct grid {
  int64_t cells, actions;
  rgm_tensor q;                                   // (R, cells, actions) f64
  rgm_tensor earned;                              // (R, 2) f64: returns since the last report
  rgm_tensor state, obs;                          // (R, E, ...) of the patients
  rgm_tensor next, reward, terminated, truncated; // (R, E, ...)
  rgm_tensor sum;                                 // (R, E) f32: rewards since the decision
  rgm_tensor act, before, chosen, finished;       // (R, E, ...); cell and action before a step
} grid;


// ---- the grid ----------------------------------------------------------------------------------

static int64_t place_of(const rgm_list *edges, double x) {
  int64_t k = 0;
  while (k < edges->count && x >= edges->value[k]) {
    k++;
  }
  return k;
}


// the cell of an observation
static int64_t cell_of(const grid_keys *k, const float *obs) {
  return place_of(&k->edges[0], (double)obs[k->first]) * (k->edges[1].count + 1) +
         place_of(&k->edges[1], (double)obs[k->second]);
}


// the greedy action of a cell, the first of equals, and its value
static int64_t greedy(const double *q, int64_t actions, double *value) {
  int64_t at = 0;
  for (int64_t a = 1; a < actions; a++) {
    at = q[a] > q[at] ? a : at;
  }
  *value = q[at];
  return at;
}


static const grid_keys *keys_of(const rgm_run *run, int64_t r) {
  return rgm_algorithm_keys(run, r);
}


static double *f64(rgm_tensor t, int64_t r) {
  return (double *)t.data + r * t.stride0;
}
static float *f32(rgm_tensor t, int64_t r) {
  return (float *)t.data + r * t.stride0;
}
static int32_t *i32(rgm_tensor t, int64_t r) {
  return (int32_t *)t.data + r * t.stride0;
}
static uint32_t u32(rgm_tensor t, int64_t r) {
  return ((const uint32_t *)t.data)[r * t.stride0];
}


// ---- planning ----------------------------------------------------------------------------------

static rgm_status grid_check(const rgm_run *run) {
  const grid_keys *k = keys_of(run, 0);
  for (int axis = 0; axis < 2; axis++) {
    static const char *const names[2][2] = {{"algorithm.first", "algorithm.first_edges"},
                                            {"algorithm.second", "algorithm.second_edges"}};
    const rgm_list *edges = &k->edges[axis];
    for (int i = 1; i < edges->count; i++) {
      if (edges->value[i] <= edges->value[i - 1]) {
        return rgm_fail(RGM_ECONFIG, "%s: %s: edges ascend, each once",
                        rgm_config_where(run->config, names[axis][1]), names[axis][1]);
      }
    }
    const int64_t which = axis == 0 ? k->first : k->second;
    if (which >= run->env->obs_dim) {
      return rgm_fail(RGM_ECONFIG, "%s: %s: %s has observations 0 to %d",
                      rgm_config_where(run->config, names[axis][0]), names[axis][0], run->env->name,
                      run->env->obs_dim - 1);
    }
  }
  if (run->env->act_dim != 1 || run->env->choices > 0 || run->env->tabulate != NULL) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: a grid of doses needs an environment with one dose, such as "
                    "propofol",
                    rgm_config_where(run->config, "env.name"));
  }
  if (run->env->steps(run->env_keys) % k->hold != 0) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.hold: an episode is not a whole number of decisions",
                    rgm_config_where(run->config, "algorithm.hold"));
  }
  return k->doses.count > 1 ? RGM_OK
                            : rgm_fail(RGM_ECONFIG, "%s: algorithm.doses: two doses at least",
                                       rgm_config_where(run->config, "algorithm.doses"));
}


static rgm_status grid_plan(rgm_run *run) {
  grid *s = run->self;
  const grid_keys *k = keys_of(run, 0);
  rgm_arena *arena = run->arena;
  const int64_t R = run->replicas, E = k->environments, O = run->env->obs_dim;
  if (!rgm_is_cpu(run->stream)) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: grid_q learns patient by patient, on the CPU alone; set run.backend: cpu",
                    rgm_config_where(run->config, "run.backend"));
  }
  s->cells = (k->edges[0].count + 1) * (k->edges[1].count + 1);
  s->actions = k->doses.count;
  const unsigned kept = RGM_STATE | RGM_PRIVATE;
  s->q = rgm_plan(arena, "q", RGM_F64, RGM_STATE | RGM_EXPORTED, "replica, cell, action", "reward",
                  R, s->cells, s->actions, 0);
  s->earned = rgm_plan(arena, "earned", RGM_F64, RGM_STATE, "replica, sum and number", "reward", R,
                       2, 0, 0);
  s->state = rgm_plan(arena, "environment/state", RGM_F32, kept, "replica, patient, word", "", R, E,
                      run->env_kernels->words, 0);
  s->obs =
      rgm_plan(arena, "environment/obs", RGM_F32, kept, "replica, patient, obs", "1", R, E, O, 0);
  const struct {
    rgm_tensor *tensor;
    const char *name;
    rgm_dtype dtype;
    unsigned flags;
    int64_t width;
  } rows[] = {
      {&s->act, "decision/dose", RGM_F32, kept, 1},
      {&s->before, "decision/cell", RGM_I32, kept, 0},
      {&s->chosen, "decision/action", RGM_I32, kept, 0},
      {&s->sum, "decision/reward", RGM_F32, kept, 0},
      {&s->next, "step/next", RGM_F32, RGM_SCRATCH, O},
      {&s->reward, "step/reward", RGM_F32, RGM_SCRATCH, 0},
      {&s->terminated, "step/terminated", RGM_F32, RGM_SCRATCH, 0},
      {&s->truncated, "step/truncated", RGM_F32, RGM_SCRATCH, 0},
      {&s->finished, "step/finished", RGM_F32, RGM_SCRATCH, 0},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    *rows[i].tensor = rgm_plan(arena, rows[i].name, rows[i].dtype, rows[i].flags,
                               "replica, patient, ...", "1", R, E, rows[i].width, 0);
  }
  return RGM_OK;
}


// ---- steps -------------------------------------------------------------------------------------

static void step_patients(rgm_run *run, bool begin) {
  const grid *s = run->self;
  const rgm_stepping step = {
      .state = s->state,
      .obs = s->obs,
      .next = s->next,
      .reward = s->reward,
      .terminated = s->terminated,
      .truncated = s->truncated,
      .finished = s->finished,
      .act = s->act,
      .config = run->env_config,
      .seeds = run->seeds,
      .clock = run->clock,
      .active = run->active,
      .patient = RGM_RANDOM_PATIENT,
      .noise = RGM_RANDOM_NOISE,
      .steps = run->env->steps(run->env_keys),
      .begin = begin,
  };
  rgm_env_step(run->env_kernels, run->stream, &step);
}


static rgm_status grid_init(rgm_run *run) {
  const grid *s = run->self;
  for (int64_t r = 0; r < run->replicas; r++) {
    for (int64_t i = 0; i < s->cells * s->actions; i++) {
      f64(s->q, r)[i] = keys_of(run, r)->initial;
    }
  }
  step_patients(run, true);
  return rgm_sync(run->stream);
}


// how far the rates of replica r have come
static double share_of(const rgm_run *run, int64_t r) {
  const double part = (double)u32(run->clock, r) / (double)keys_of(run, r)->span;
  return part < 1.0 ? part : 1.0;
}


// epsilon-greedy doses of replica r
static void act_task(void *arg, int64_t r) {
  const rgm_run *run = arg;
  const grid *s = run->self;
  const grid_keys *k = keys_of(run, r);
  if (u32(run->active, r) == 0 || u32(run->clock, r) % k->hold != 0) {
    return;
  }
  const uint32_t *seed = (const uint32_t *)run->seeds.data + r * run->seeds.stride0;
  const rgm_key key = rgm_stream_key(seed, RGM_RANDOM_ACTION);
  const double explore = fma(share_of(run, r), k->explore_last - k->explore, k->explore);
  for (int64_t e = 0; e < k->environments; e++) {
    const rgm_words w = rgm_philox(key, u32(run->clock, r), (uint32_t)e, 0, 0);
    const int64_t cell = cell_of(k, f32(s->obs, r) + e * run->env->obs_dim);
    double value;
    const int64_t best = greedy(f64(s->q, r) + cell * s->actions, s->actions, &value);
    const int64_t any = (int64_t)((uint64_t)w.w1 * (uint64_t)s->actions >> 32);
    const int64_t action = rgm_unit64(w.w0) < explore ? any : best;
    i32(s->before, r)[e] = (int32_t)cell;
    i32(s->chosen, r)[e] = (int32_t)action;
    f32(s->sum, r)[e] = 0.0f;
    f32(s->act, r)[e] = (float)k->doses.value[action];
  }
}


// updates of replica r, patient after patient, where a dose was held to its end
static void learn_task(void *arg, int64_t r) {
  const rgm_run *run = arg;
  const grid *s = run->self;
  const grid_keys *k = keys_of(run, r);
  if (u32(run->active, r) == 0) {
    return;
  }
  double *q = f64(s->q, r);
  const double ratio = k->lr > 0.0 ? k->lr_last / k->lr : 0.0;
  const double lr = ratio > 0.0 ? k->lr * rgm_exp64(share_of(run, r) * rgm_log64(ratio)) : 0.0;
  const bool held = (u32(run->clock, r) + 1) % k->hold == 0;
  for (int64_t e = 0; e < k->environments; e++) {
    f32(s->sum, r)[e] += f32(s->reward, r)[e];
    if (!held) {
      continue;
    }
    const int64_t cell = cell_of(k, f32(s->next, r) + e * run->env->obs_dim);
    double *own = q + i32(s->before, r)[e] * s->actions + i32(s->chosen, r)[e], best;
    (void)greedy(q + cell * s->actions, s->actions, &best);
    best = f32(s->terminated, r)[e] != 0.0f ? 0.0 : best;
    const double goal = fma(k->gamma, best, (double)f32(s->sum, r)[e]);
    *own = fma(lr, goal - *own, *own);
  }
  for (int64_t e = 0; e < k->environments; e++) {
    const float finished = f32(s->finished, r)[e];
    if (!isnan(finished)) {
      f64(s->earned, r)[0] += (double)finished;
      f64(s->earned, r)[1] += 1.0;
    }
  }
}


static rgm_status grid_step(rgm_run *run) {
  rgm_cpu_parallel(run->stream, run->replicas, act_task, run);
  step_patients(run, false);
  rgm_cpu_parallel(run->stream, run->replicas, learn_task, run);
  rgm_advance(run->stream, run->clock, run->active);
  return RGM_OK;
}


static rgm_status grid_report(rgm_run *run) {
  const grid *s = run->self;
  float *value = malloc(2 * (size_t)run->replicas * sizeof *value);
  if (value == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)run->replicas);
  }
  for (int64_t r = 0; r < run->replicas; r++) {
    double *earned = f64(s->earned, r);
    value[r] = (float)(earned[0] / earned[1]);
    int64_t tried = 0;
    for (int64_t i = 0; i < s->cells * s->actions; i++) {
      tried += f64(s->q, r)[i] != keys_of(run, r)->initial;
    }
    value[run->replicas + r] = (float)tried / (float)(s->cells * s->actions);
    earned[0] = earned[1] = 0.0;
  }
  rgm_status status = rgm_report(run, "return_training", "1", value);
  status = status == RGM_OK ? rgm_report(run, "pairs_tried", "1", value + run->replicas) : status;
  free(value);
  return status;
}


// ---- the policy --------------------------------------------------------------------------------

static void act_greedy(rgm_run *run, rgm_stream *stream, rgm_tensor act, rgm_tensor obs) {
  const grid *s = run->self;
  (void)stream; // a CPU's: what is enqueued is done
  for (int64_t r = 0; r < act.dims[0]; r++) {
    const grid_keys *k = keys_of(run, r);
    for (int64_t i = 0; i < act.dims[1]; i++) {
      const int64_t cell = cell_of(k, f32(obs, r) + i * obs.dims[2]);
      double value;
      const int64_t a = greedy(f64(s->q, r) + cell * s->actions, s->actions, &value);
      f32(act, r)[i] = (float)k->doses.value[a];
    }
  }
}


static int grid_contenders(rgm_run *run, rgm_contender *out, int max) {
  RGM_ASSERT(max > 0);
  *out = (rgm_contender){.name = "grid_q", .act = act_greedy, .rows = keys_of(run, 0)->rows};
  return 1;
}


static double grid_work(const rgm_run *run) {
  return (double)(run->replicas * keys_of(run, 0)->environments);
}


const rgm_algorithm rgm_grid_q = {
    .name = "grid_q",
    .paper = "Moore et al. 2011, 2014; Watkins 1989",
    .doc = "Q-learning on a grid of two observations of a simulated patient, with a list of doses.",
    .fields = fields,
    .keys_size = sizeof(grid_keys),
    .self_size = sizeof(grid),
    .needs = RGM_NEEDS_ENV | RGM_TIMELESS,
    .work_unit = "env-steps",
    .work = grid_work,
    .check = grid_check,
    .plan = grid_plan,
    .init = grid_init,
    .step = grid_step,
    .report = grid_report,
    .contenders = grid_contenders,
    .best_metric = "return_training",
};
