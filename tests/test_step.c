// SPDX-License-Identifier: Apache-2.0
// Tests of environments that are stepped: every episode has the bits that the fused loop gives its
// actions, whatever the device, instruction set and threads; episodes begin anew; pendulum and
// cartpole against double and against Gymnasium; policies evaluated step by step.

#include "engine/engine.h"
#include "engine/trial.h"
#include "envs/controllers.h"
#include "tests/cuda_module.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

// odd numbers of replicas and episodes; longer than two blocks of 16 rewards
enum { R = 3, E = 17, T = 37, LONG = 3 * T, FIRST = 5, CLOCK = 40, MASKED = 1 };

static const uint32_t untouched = 0x7fedcba9u; // a NaN that no kernel makes

// what is tested, with events, ends and noise within few steps
static const struct {
  const char *name, *env, *set[4];
  bool ends; // some episodes terminate
} models[] = {
    {"propofol", "propofol", {"env.steps=37", "env.targets=3", "env.sex=random"}, false},
    {"eleveld", "propofol", {"env.steps=37", "env.targets=3", "env.model=eleveld"}, false},
    {"heparin",
     "heparin",
     {"env.bleed_hazard=0.02", "env.clot_hazard=0.02", "env.death_hazard=0.01",
      "env.clot_penalty=1.5"},
     true},
    {"pendulum", "pendulum", {"env.start_speed=2"}, false},
    {"cartpole", "cartpole", {"env.start=0.1"}, true},
};

// the devices that must agree; the first is what the others are compared with
enum { DEVICES = 4, GRAPH = 3 };
static const struct {
  const char *backend, *isa;
  int threads;
} devices[DEVICES] = {
    {"cpu", "auto", 1}, {"cpu", "avx2", 2}, {"cuda", "auto", 1}, {"cuda", "auto", 1}};


// ---- a device with an environment --------------------------------------------------------------

typedef struct world {
  rgm_run *run;
  const rgm_env *env;
  const rgm_env_kernels *kernels;
  rgm_stream *s;
  rgm_arena *arena;
  int64_t O, A, S, P;                                // obs, act, signals, patient words
  rgm_tensor config, seeds, clock, active, patients; // (R, ...)
  rgm_tensor state, obs, next, reward, terminated, truncated, finished, signals, act;
  rgm_tensor all_obs, all_act, all_signals, returns; // of whole episodes
} world;


static void plan_world(world *w) {
  rgm_arena *a = w->arena;
#define PLAN(member, ...) w->member = rgm_plan(a, #member, RGM_F32, 0, "", "", R, __VA_ARGS__)
  w->config =
      rgm_plan(a, "config", RGM_U8, RGM_BLOCK, "", "", R, (int64_t)w->env->config_size, 0, 0);
  w->seeds = rgm_plan(a, "seeds", RGM_U32, 0, "", "", R, 2, 0, 0);
  w->clock = rgm_plan(a, "clock", RGM_U32, 0, "", "", R, 0, 0, 0);
  w->active = rgm_plan(a, "active", RGM_U32, 0, "", "", R, 0, 0, 0);
  PLAN(patients, E, w->P, 0);
  PLAN(state, E, w->kernels->words, 0);
  PLAN(obs, E, w->O, 0);
  PLAN(next, E, w->O, 0);
  PLAN(reward, E, 0, 0);
  PLAN(terminated, E, 0, 0);
  PLAN(truncated, E, 0, 0);
  PLAN(finished, E, 0, 0);
  PLAN(signals, E, w->S, 0);
  PLAN(act, E, w->A, 0);
  PLAN(all_obs, E, T + 1, w->O);
  PLAN(all_act, E, T + 1, w->A);
  PLAN(all_signals, E, T + 1, w->S);
  PLAN(returns, E, 0, 0);
#undef PLAN
}


static world world_open(int model, int device) {
  static const char text[] = "run: {threads: 1, backend: cpu}\nalgorithm: {name: pid}\n";
  char name[64], note[512];
  const char *sets[5] = {name};
  int count = 1;
  world w = {0};
  rgm_config *config = NULL;
  snprintf(name, sizeof name, "env.name=%s", models[model].env);
  for (int i = 0; i < 4 && models[model].set[i] != NULL; i++) {
    sets[count++] = models[model].set[i];
  }
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  cr_assert_eq(rgm_config_parse("test", text, sets, count, &config), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_run_plan_only(config, &w.run), RGM_OK, "%s", rgm_last_error());
  const rgm_device_options options = {.threads = devices[device].threads,
                                      .isa = devices[device].isa};
  cr_assert_eq(rgm_open(devices[device].backend, &options, &w.s, note, sizeof note), RGM_OK, "%s",
               rgm_last_error());
  w.env = w.run->env;
  w.kernels = w.env->kernels_of != NULL ? w.env->kernels_of(rgm_env_keys(w.run, 0), w.s->backend)
                                        : w.env->kernels(w.s->backend);
  w.O = w.env->obs_dim;
  w.A = w.env->act_dim;
  w.S = w.env->signal_dim;
  w.P = w.env->patient_words;
  cr_assert_eq(rgm_arena_create(w.s, &w.arena), RGM_OK);
  plan_world(&w);
  cr_assert_eq(rgm_arena_bind(w.arena), RGM_OK, "%s", rgm_last_error());
  plan_world(&w);
  cr_assert_eq(rgm_arena_seal(w.arena), RGM_OK);

  // one set of constants, seeds of their own
  uint8_t *constants = calloc(R, w.env->config_size);
  cr_assert_eq(w.env->prepare(rgm_env_keys(w.run, 0), w.run->config, constants), RGM_OK);
  uint32_t seeds[2 * R], active[R];
  for (int r = 0; r < R; r++) {
    memmove(constants + (size_t)r * w.env->config_size, constants, w.env->config_size);
    seeds[2 * r] = 77u + 5u * (uint32_t)r;
    seeds[2 * r + 1] = 2;
    active[r] = r != MASKED;
  }
  rgm_copy(w.s, w.config.data, constants, R * w.env->config_size);
  rgm_copy(w.s, w.seeds.data, seeds, sizeof seeds);
  rgm_copy(w.s, w.active.data, active, sizeof active);
  cr_assert_eq(rgm_sync(w.s), RGM_OK);
  free(constants);
  return w;
}


static void world_close(world *w) {
  cr_assert_eq(rgm_arena_check(w->arena), RGM_OK, "%s", rgm_last_error());
  rgm_arena_free(w->arena);
  rgm_close(w->s);
  rgm_run_free(w->run);
}


static void set_clock(world *w, uint32_t value) {
  const uint32_t clock[R] = {value, value, value};
  rgm_copy(w->s, w->clock.data, clock, sizeof clock);
  cr_assert_eq(rgm_sync(w->s), RGM_OK);
}


// action k of episode e at a time: some steady, some wild, some out of bounds
static float action(int64_t r, int64_t e, int64_t t, int64_t k, const rgm_env *env) {
  const uint64_t mixed = (uint64_t)(((r * 131 + e) * 977 + t) * 7 + k + 1) * 0x9E3779B97F4A7C15u;
  const float u = (float)(int32_t)(mixed >> 41) * 0x1p-23f; // [0, 1)
  if (env->choices > 0) {
    return (float)(int32_t)(u * (float)env->choices);
  }
  const float low = env->act_low != NULL ? env->act_low[k] : 0.0f;
  const float high = env->act_high != NULL ? env->act_high[k] : 1.0f;
  return low + (1.2f * u - 0.1f) * (high - low);
}


static rgm_stepping stepping_of(const world *w) {
  return (rgm_stepping){
      .state = w->state,
      .obs = w->obs,
      .next = w->next,
      .reward = w->reward,
      .terminated = w->terminated,
      .truncated = w->truncated,
      .finished = w->finished,
      .signals = w->signals,
      .act = w->act,
      .config = w->config,
      .seeds = w->seeds,
      .clock = w->clock,
      .active = w->active,
      .patient = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
      .noise = RGM_RANDOM_NOISE + RGM_RANDOM_EVAL,
      .first = FIRST,
      .steps = T,
  };
}


// ---- episodes by steps -------------------------------------------------------------------------

enum { OBS, NEXT, REWARD, TERMINATED, TRUNCATED, FINISHED, SIGNALS, STATE, OUTPUTS };

// All outputs of all steps: (steps + 1, R, E, ...); row 0 is the beginning.
typedef struct history {
  int64_t steps, words[OUTPUTS];
  float *data[OUTPUTS];
} history;

static const float *at(const history *h, int output, int64_t t, int64_t r, int64_t e) {
  return h->data[output] + ((t * R + r) * E + e) * h->words[output];
}


typedef struct captured {
  world *w;
  rgm_stepping o;
} captured;

static void enqueue(void *arg, rgm_stream *s) {
  captured *c = arg;
  rgm_env_step(c->w->kernels, s, &c->o);
  rgm_advance(s, c->w->clock, c->w->active);
}


// `graph`: a step is captured once and replayed
static history play(world *w, int64_t steps, bool hold, bool graph) {
  captured c = {w, stepping_of(w)};
  const rgm_tensor outputs[OUTPUTS] = {w->obs,       w->next,     w->reward,  w->terminated,
                                       w->truncated, w->finished, w->signals, w->state};
  history h = {.steps = steps};
  float *act = malloc((size_t)(R * E * w->A) * sizeof *act);
  for (int i = 0; i < OUTPUTS; i++) {
    h.words[i] = rgm_elements(outputs[i]) / (R * E);
    h.data[i] = calloc((size_t)(steps + 1), rgm_bytes(outputs[i]));
    for (int64_t j = 0; j < rgm_elements(outputs[i]); j++) {
      memcpy(&h.data[i][j], &untouched, sizeof untouched);
    }
    rgm_copy(w->s, outputs[i].data, h.data[i], rgm_bytes(outputs[i]));
  }
  set_clock(w, CLOCK);
  c.o.hold = hold;
  for (int64_t t = 0; t <= steps; t++) {
    c.o.begin = t == 0;
    for (int64_t j = 0; j < R * E * w->A; j++) {
      act[j] = action(j / w->A / E, j / w->A % E, t - 1, j % w->A, w->env);
    }
    rgm_copy(w->s, w->act.data, act, rgm_bytes(w->act));
    if (t == 0) {
      rgm_env_step(w->kernels, w->s, &c.o);
    } else if (graph) {
      rgm_graph(w->s, 2, enqueue, &c);
    } else {
      enqueue(&c, w->s);
    }
    for (int i = 0; i < OUTPUTS; i++) {
      rgm_copy(w->s, h.data[i] + t * R * E * h.words[i], outputs[i].data, rgm_bytes(outputs[i]));
    }
    cr_assert_eq(rgm_sync(w->s), RGM_OK, "%s", rgm_last_error());
  }
  free(act);
  return h;
}


static void drop(history *h) {
  for (int i = 0; i < OUTPUTS; i++) {
    free(h->data[i]);
  }
}


// ---- the same episodes by the fused loop -------------------------------------------------------

typedef struct fused {
  float *obs, *signals, *returns; // (R, E, steps, ...), (R, E)
} fused;

// episodes of `steps` steps at a clock, with the actions of times `from` on
static fused roll(world *w, uint32_t clock, int64_t from, int64_t steps) {
  const int64_t n = R * E;
  fused f = {malloc((size_t)(n * steps * w->O) * sizeof(float)),
             malloc((size_t)(n * steps * w->S) * sizeof(float)), malloc((size_t)n * sizeof(float))};
  float *act = malloc((size_t)(n * steps * w->A) * sizeof *act);
  for (int64_t j = 0; j < n * steps * w->A; j++) {
    const int64_t k = j % w->A, t = j / w->A % steps, e = j / w->A / steps;
    act[j] = action(e / E, e % E, from + t, k, w->env);
  }
  const rgm_cohort cohort = {
      .patients = w->patients,
      .config = w->config,
      .seeds = w->seeds,
      .clock = w->clock,
      .active = w->active,
      .random = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
      .first = FIRST,
  };
  const rgm_rollout rollout = {
      .returns = w->returns,
      .obs = rgm_view(w->all_obs.data, RGM_F32, R, E, steps, w->O),
      .act = rgm_view(w->all_act.data, RGM_F32, R, E, steps, w->A),
      .signals = rgm_view(w->all_signals.data, RGM_F32, R, E, steps, w->S),
      .patients = w->patients,
      .config = w->config,
      .seeds = w->seeds,
      .clock = w->clock,
      .active = w->active,
      .control = RGM_CONTROL_OPEN_LOOP,
      .random = RGM_RANDOM_NOISE + RGM_RANDOM_EVAL,
      .first = FIRST,
      .steps = steps,
  };
  set_clock(w, clock);
  rgm_copy(w->s, w->all_act.data, act, rgm_bytes(rollout.act));
  rgm_env_sample(w->kernels, w->s, &cohort);
  rgm_env_rollout(w->kernels, w->s, &rollout);
  rgm_copy(w->s, f.obs, rollout.obs.data, rgm_bytes(rollout.obs));
  rgm_copy(w->s, f.signals, rollout.signals.data, rgm_bytes(rollout.signals));
  rgm_copy(w->s, f.returns, w->returns.data, rgm_bytes(w->returns));
  cr_assert_eq(rgm_sync(w->s), RGM_OK, "%s", rgm_last_error());
  free(act);
  return f;
}


static void fused_drop(fused *f) {
  free(f->obs);
  free(f->signals);
  free(f->returns);
}


static bool same(const float *a, const float *b, int64_t words) {
  return memcmp(a, b, (size_t)words * sizeof *a) == 0;
}


// ---- bits --------------------------------------------------------------------------------------

// the episode of a slot that begins at time b: its steps against a rollout at its clock; returns
// the time of its end
static int64_t check_episode(const world *w, const history *h, const fused *whole,
                             const fused *longer, int64_t b, int64_t r, int64_t e, bool hold) {
  const int64_t i = r * E + e;
  for (int64_t k = 0; k < T; k++) {
    const int64_t t = b + k + 1; // the step's row
    if (t > h->steps) {
      return h->steps + 1;
    }
    const float *seen = longer->obs + (i * (T + 1) + k) * w->O;
    const bool terminated = *at(h, TERMINATED, t, r, e) == 1.0f;
    const bool truncated = *at(h, TRUNCATED, t, r, e) == 1.0f;
    const bool first = !hold || *at(h, TERMINATED, t - 1, r, e) != 1.0f;
    cr_assert(same(at(h, OBS, t - 1, r, e), seen, w->O), "obs of step %d of %d, %d", (int)k, (int)r,
              (int)e);
    cr_assert(same(at(h, NEXT, t, r, e), seen + w->O, w->O), "next of step %d of %d, %d", (int)k,
              (int)r, (int)e);
    cr_assert(same(at(h, SIGNALS, t, r, e), longer->signals + (i * (T + 1) + k) * w->S, w->S),
              "signals of step %d of %d, %d", (int)k, (int)r, (int)e);
    cr_assert_eq(truncated, k == T - 1 && !terminated);
    if ((terminated || truncated) && first) {
      // rewards after an end are 0, so the fused return is that of the episode
      cr_assert(same(at(h, FINISHED, t, r, e), &whole->returns[i], 1), "return of %d, %d: %g, %g",
                (int)r, (int)e, (double)*at(h, FINISHED, t, r, e), (double)whole->returns[i]);
    } else {
      cr_assert(isnan(*at(h, FINISHED, t, r, e)));
    }
    if ((terminated || truncated) && !hold) {
      return t;
    }
  }
  return b + T;
}


static void check_masked(const history *h) {
  for (int i = 0; i < OUTPUTS; i++) {
    for (int64_t t = 0; t <= h->steps; t++) {
      for (int64_t j = 0; j < E * h->words[i]; j++) {
        cr_assert_eq(memcmp(at(h, i, t, MASKED, 0) + j, &untouched, sizeof untouched), 0);
      }
    }
  }
}


// episodes that go on after their end, and episodes that begin anew, on one device
static void check_against_fused(int model) {
  world w = world_open(model, 0);
  history held = play(&w, T, true, false), h = play(&w, LONG, false, false);
  int64_t ends[R * E] = {0};
  int begun = 0, early = 0;
  check_masked(&held);
  check_masked(&h);
  for (int64_t b = 0; b < LONG; b++) {
    fused whole = {0}, longer = {0};
    for (int64_t i = 0; i < R * E; i++) {
      if (i / E == MASKED || ends[i] != b) {
        continue;
      }
      if (longer.obs == NULL) {
        whole = roll(&w, (uint32_t)(CLOCK + b), b, T);
        longer = roll(&w, (uint32_t)(CLOCK + b), b, T + 1);
      }
      if (b == 0) {
        check_episode(&w, &held, &whole, &longer, 0, i / E, i % E, true);
      }
      ends[i] = check_episode(&w, &h, &whole, &longer, b, i / E, i % E, false);
      begun++;
      early += ends[i] < b + T;
    }
    fused_drop(&whole);
    fused_drop(&longer);
  }
  cr_assert_geq(begun, 3 * (R - 1) * E);
  cr_assert_eq(early > 10, models[model].ends, "%d", early);
  drop(&held);
  drop(&h);
  world_close(&w);
}


Test(step, propofol_has_the_bits_of_the_fused_loop) {
  check_against_fused(0);
}
Test(step, eleveld_has_the_bits_of_the_fused_loop) {
  check_against_fused(1);
}
Test(step, heparin_has_the_bits_of_the_fused_loop) {
  check_against_fused(2);
}
Test(step, pendulum_has_the_bits_of_the_fused_loop) {
  check_against_fused(3);
}
Test(step, cartpole_has_the_bits_of_the_fused_loop) {
  check_against_fused(4);
}


Test(step, devices_threads_and_graphs_give_the_same_bits) {
  for (int m = 0; m < COUNT(models); m++) {
    history want = {0};
    for (int d = 0; d < DEVICES; d++) {
      world w = world_open(m, d);
      history got = play(&w, LONG, false, d == GRAPH);
      for (int i = 0; i < OUTPUTS && d > 0; i++) {
        for (int64_t t = 0; t <= LONG; t++) {
          cr_assert(same(at(&got, i, t, 0, 0), at(&want, i, t, 0, 0), R * E * got.words[i]),
                    "%s on %s %s: output %d of step %d", models[m].name, devices[d].backend,
                    devices[d].isa, i, (int)t);
        }
      }
      if (d == 0) {
        want = got;
      } else {
        drop(&got);
      }
      world_close(&w);
    }
    drop(&want);
  }
}


// ---- the two classic environments --------------------------------------------------------------

// Both in double, written from their papers' and Gymnasium's definitions. u: N m; 0 or 1.
static double pendulum_once(double *x, double u) {
  u = fmax(-2.0, fmin(2.0, u));
  const double reward = -(x[0] * x[0] + 0.1 * x[1] * x[1] + 0.001 * u * u);
  const double speed = x[1] + (3.0 * 10.0 / (2.0 * 1.0) * sin(x[0]) + 3.0 / (1.0 * 1.0) * u) * 0.05;
  x[1] = fmax(-8.0, fmin(8.0, speed));
  x[0] = remainder(x[0] + x[1] * 0.05, 2.0 * M_PI);
  return reward;
}


static double cartpole_once(double *x, double u) {
  const double force = u == 1.0 ? 10.0 : -10.0, mass = 1.1, arm = 0.1 * 0.5, c = cos(x[2]);
  const double temp = (force + arm * x[3] * x[3] * sin(x[2])) / mass;
  const double turn = (9.8 * sin(x[2]) - c * temp) / (0.5 * (4.0 / 3.0 - 0.1 * c * c / mass));
  const double pull = temp - arm * turn * c / mass;
  x[0] += 0.02 * x[1];
  x[1] += 0.02 * pull;
  x[2] += 0.02 * x[3];
  x[3] += 0.02 * turn;
  return 1.0;
}


static bool cartpole_out(const double *x) {
  return fabs(x[0]) > 2.4 || fabs(x[2]) > 12.0 * 2.0 * M_PI / 360.0;
}


// an observation as a state
static void state_of(int model, const float *obs, double *x) {
  if (model == 3) {
    x[0] = atan2((double)obs[1], (double)obs[0]);
    x[1] = (double)obs[2];
    return;
  }
  for (int k = 0; k < 4; k++) {
    x[k] = (double)obs[k];
  }
}


// every step from the state that is seen: the errors of one step in float
Test(step, pendulum_and_cartpole_follow_their_equations) {
  static const double most[] = {2e-6, 1e-6}; // pendulum: angles by atan2 of floats
  for (int m = 3; m <= 4; m++) {
    world w = world_open(m, 0);
    history h = play(&w, LONG, false, false);
    const int words = m == 3 ? 2 : 4;
    double worst = 0.0;
    for (int64_t i = 0; i < LONG * R * E; i++) {
      const int64_t t = i / (R * E), r = i / E % R, e = i % E;
      if (r == MASKED) {
        continue;
      }
      double x[4], y[4];
      state_of(m, at(&h, OBS, t, r, e), x);
      state_of(m, at(&h, NEXT, t + 1, r, e), y);
      const double u = (double)action(r, e, t, 0, w.env);
      const double reward = m == 3 ? pendulum_once(x, u) : cartpole_once(x, u);
      worst = fmax(worst, 0.1 * fabs(reward - (double)*at(&h, REWARD, t + 1, r, e)));
      for (int k = 0; k < words; k++) {
        const double error = k == 0 && m == 3 ? remainder(x[k] - y[k], 2.0 * M_PI) : x[k] - y[k];
        worst = fmax(worst, fabs(error));
      }
      cr_assert_eq(*at(&h, TERMINATED, t + 1, r, e) == 1.0f, m == 4 && cartpole_out(x));
    }
    cr_assert_lt(worst, most[m - 3], "%s: %g", models[m].name, worst);
    drop(&h);
    world_close(&w);
  }
}


// Trajectories of Gymnasium 1.4.0 (Pendulum-v1, CartPole-v1, unwrapped, in double, the state set by
// hand): the state after some steps, and where the episode ended (0: it did not).
static const struct {
  int model;
  float start[4];
  int ended, rows;
  struct {
    int step;
    double state[4], reward;
  } row[3];
} gymnasium[] = {
    {3,
     {2.5f, -0.75f},
     0,
     3,
     {{1, {2.4699427054038985, -0.6011458919220326}, -6.3102499999999999},
      {10, {-3.072741315018221, 2.6972153036833095}, -10.048431121408544},
      {40, {2.7887887857180615, 2.2451369837175199}, -7.426640252467239}}},
    {3,
     {-3.0f, 6.0f},
     0,
     3,
     {{1, {-2.7202920003022451, 5.5941599939550999}, -12.603999999999999},
      {10, {-1.386034073904479, 0.18268507230365472}, -1.9972068416805198},
      {40, {-3.0164500124152607, 6.1848441676109935}, -12.054196300155171}}},
    {3,
     {0.25f, 0.5f},
     0,
     3,
     {{1, {0.26927764847204461, 0.38555296944089223}, -0.091499999999999998},
      {10, {1.2622847943295075, 4.2518273734360026}, -2.2440966911610731},
      {40, {-0.12159504323051529, 0.054685626183431424}, -0.021777536164522934}}},
    {4,
     {0.03125f, -0.046875f, 0.015625f, 0.03125f},
     26,
     2,
     {{14,
       {-0.0099675725983590195, -0.055115212991449808, 0.082528075009517046, 0.21371120722659998},
       1},
      {26,
       {-0.048608374996671158, -0.077067163891680834, 0.21415853960430745, 0.71250738852864848},
       1}}},
    {4,
     {-0.5f, -1.75f, 0.125f, -0.75f},
     31,
     2,
     {{16, {-1.1248225689710687, -2.1526282584857142, 0.03291475442804135, 0.11522553861880319}, 1},
      {31,
       {-1.8466527516052109, -2.7569688249549604, 0.22190948446364653, 1.4429935898217678},
       1}}},
    {4,
     {2.25f, 1.5f, -0.0625f, 0.25f},
     5,
     2,
     {{3, {2.351756192952922, 2.0877584676489764, -0.066174055984850433, -0.68258818070044958}, 1},
      {5,
       {2.4391860407732877, 2.4798275266334633, -0.099732798447052573, -1.3119965641784501},
       1}}},
};


// the actions that these were made with
static float gymnasium_action(int which, int k) {
  return which < 3 ? (float)(k * 7 % 11) * 0.5f - 2.5f
                   : (float[]){(float)(k % 2), (float)(k * 5 % 7 < 3), 1.0f}[which - 3];
}


// the numbers of the last episode of the last replica, on the CPU
static float *last_of(rgm_tensor t) {
  return (float *)t.data + rgm_elements(t) - rgm_elements(t) / (R * E);
}


// The pendulum starts near upright too, where it multiplies what float rounds.
Test(step, trajectories_are_those_of_gymnasium) {
  for (int i = 0; i < COUNT(gymnasium); i++) {
    double worst = 0.0;
    world w = world_open(gymnasium[i].model, 0);
    rgm_stepping o = stepping_of(&w);
    const int words = (int)w.P, last = gymnasium[i].row[gymnasium[i].rows - 1].step;
    for (int j = 0; j < R * E * words; j++) {
      ((float *)w.patients.data)[j] = gymnasium[i].start[j % words];
    }
    o.patients = w.patients;
    o.steps = 60;
    o.hold = o.begin = true;
    rgm_env_step(w.kernels, w.s, &o);
    o.begin = false;
    for (int k = 0, row = 0; k < last; k++) {
      *last_of(w.act) = gymnasium_action(i, k);
      rgm_env_step(w.kernels, w.s, &o);
      cr_assert_eq(rgm_sync(w.s), RGM_OK);
      cr_assert_eq(*last_of(w.terminated) == 1.0f, k + 1 == gymnasium[i].ended);
      if (k + 1 != gymnasium[i].row[row].step) {
        continue;
      }
      double x[4];
      state_of(gymnasium[i].model, last_of(w.obs), x);
      for (int c = 0; c < words; c++) {
        worst = fmax(worst, fabs(x[c] - gymnasium[i].row[row].state[c]));
      }
      worst = fmax(worst, fabs((double)*last_of(w.reward) - gymnasium[i].row[row].reward));
      row++;
    }
    world_close(&w);
    cr_assert_lt(worst, gymnasium[i].model == 3 ? 5e-5 : 2e-6, "%d: %g", i, worst);
  }
}


// ---- policies evaluated step by step -----------------------------------------------------------

static rgm_run *trial_run_of(const char *text) {
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  cr_assert_eq(rgm_config_parse("test", text, NULL, 0, &config), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_run_create(config, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


enum { ROWS = 13, PATIENTS = 29 };

static rgm_contender extra; // added to those of the algorithm
static int (*usual)(rgm_run *run, rgm_contender *out, int max);
static float integral[2 * ROWS];
static int64_t calls, length;

static int with_extra(rgm_run *run, rgm_contender *out, int max) {
  const int count = usual(run, out, max);
  cr_assert_lt(count, max);
  out[count] = extra;
  return count + 1;
}


// PID with the gains of the run, one integral a row, anew with every episode
static void act_pid(rgm_run *run, rgm_stream *s, rgm_tensor act, rgm_tensor obs) {
  const float gains[PID_PARAMS] = {2.5f, 0.02f, 6.0f};
  (void)s;
  cr_assert(act.dims[0] == run->replicas && act.dims[1] == ROWS && obs.dims[1] == ROWS);
  if (calls++ % length == 0) {
    memset(integral, 0, sizeof integral);
  }
  for (int64_t i = 0; i < run->replicas * ROWS; i++) {
    const float *seen = (const float *)obs.data + i * obs.dims[2];
    ((float *)act.data)[i] = pid_act(&integral[i], gains, seen[0], seen[2]);
  }
}


// the policy of a run by matrix products; its actions as CEM's deterministic ones
static rgm_tensor layer_out[2];
static rgm_mlp net;
static void act_net(rgm_run *run, rgm_stream *s, rgm_tensor act, rgm_tensor obs) {
  rgm_linear(s, layer_out[0], obs, net.weight[0], net.bias[0], RGM_RELU);
  rgm_linear(s, layer_out[1], layer_out[0], net.weight[1], net.bias[1], RGM_LINEAR);
  for (int64_t i = 0; i < run->replicas * ROWS; i++) {
    const float *logits = (const float *)layer_out[1].data + i * layer_out[1].dims[2];
    ((float *)act.data)[i] = logits[1] > logits[0] ? 1.0f : 0.0f;
  }
}


static void expect_metrics(const rgm_trial *t, int a, int b, double most) {
  const int count = t->run->env->metric_count * (int)t->patients;
  for (int i = 0; i < count; i++) {
    const double x = t->scores[a].value[i], y = t->scores[b].value[i];
    cr_assert((isnan(x) && isnan(y)) || fabs(x - y) <= most * (1.0 + fabs(x)),
              "metric %d of patient %d: %g by %s, %g by %s", i / (int)t->patients,
              i % (int)t->patients, x, t->scores[a].name, y, t->scores[b].name);
  }
}


// PID in the fused loop and step by step: the same bits, patients and noise of every replica
Test(step, evaluates_a_controller_as_the_fused_loop_does) {
  rgm_run *run = trial_run_of("run: {threads: 2, backend: cpu, replicas: 2}\n"
                              "env: {name: propofol, steps: 130}\n"
                              "algorithm: {name: pid, kp: 2.5, ki: 0.02, kd: 6}\n"
                              "eval: {patients: 29}\n");
  rgm_algorithm mine = *run->algorithm;
  rgm_trial t;
  usual = mine.contenders;
  mine.contenders = with_extra;
  extra = (rgm_contender){.name = "stepped", .act = act_pid, .rows = ROWS};
  run->algorithm = &mine;
  length = 130;
  cr_assert_eq(rgm_trial_run(&t, run, true), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(t.patients, PATIENTS);
  cr_assert_eq(t.baseline, 4); // two controllers, two replicas
  cr_assert_eq(calls, length * ((PATIENTS + ROWS - 1) / ROWS));
  cr_assert_str_eq(t.scores[2].name, "stepped");
  expect_metrics(&t, 0, 2, 0.0);
  expect_metrics(&t, 1, 3, 0.0);
  cr_assert_eq(memcmp(t.scores[0].first, t.scores[2].first, (size_t)(130 * 4) * sizeof(float)), 0);
  rgm_trial_free(&t);
  rgm_run_free(run);
}


// a trained policy by matrix products, in episodes that end early
Test(step, evaluates_a_net_as_the_fused_loop_does) {
  rgm_run *run = trial_run_of(
      "run: {threads: 1, backend: cpu, replicas: 2, steps: 30, seed: 3}\n"
      "env: {name: cartpole, steps: 60}\n"
      "algorithm: {name: cem, episodes: 32, patients: 32, hidden: 16, evaluate: last}\n"
      "eval: {patients: 29}\n");
  for (int i = 0; i < 30; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
  }
  rgm_algorithm mine = *run->algorithm;
  rgm_contender all[8];
  usual = mine.contenders;
  cr_assert_eq(usual(run, all, 8), 2); // nothing between two actions
  cr_assert_eq(all[1].control, RGM_CONTROL_DETERMINISTIC);
  const int64_t width[] = {4, 16, 2};
  float *block = all[1].params.data;
  net = (rgm_mlp){.layers = 2};
  for (int l = 0; l < 2; l++) {
    net.weight[l] = rgm_view(block, RGM_F32, 2, width[l], 16, 0);
    net.bias[l] = rgm_view(block + width[l] * 16, RGM_F32, 2, 16, 0, 0);
    net.weight[l].stride0 = net.bias[l].stride0 = all[1].params.stride0;
    block += (width[l] + 1) * 16;
    layer_out[l] = rgm_view(calloc(2 * ROWS * 16, sizeof(float)), RGM_F32, 2, ROWS, 16, 0);
  }
  mine.contenders = with_extra;
  extra = (rgm_contender){.name = "net", .act = act_net, .rows = ROWS};
  run->algorithm = &mine;
  rgm_trial t;
  cr_assert_eq(rgm_trial_run(&t, run, true), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(t.count, 6);
  expect_metrics(&t, 2, 4, 1e-4);
  expect_metrics(&t, 3, 5, 1e-4);

  // some fell, some did not, and the seeds differ
  int fell = 0, differ = 0;
  for (int i = 0; i < 2 * PATIENTS; i++) {
    fell += t.scores[2 + i / PATIENTS].value[i % PATIENTS] > 0.0;
    differ +=
        t.scores[2].value[PATIENTS + i % PATIENTS] != t.scores[3].value[PATIENTS + i % PATIENTS];
  }
  cr_assert(fell > 0 && fell < 2 * PATIENTS && differ > 0, "%d fell, %d differ", fell, differ);
  rgm_trial_free(&t);
  free(layer_out[0].data);
  free(layer_out[1].data);
  rgm_run_free(run);
}
