// SPDX-License-Identifier: Apache-2.0
// Tests of the propofol environment against a reference of its own (propofol_reference.h).

#include "engine/engine.h"
#include "envs/controllers.h"
#include "tests/propofol_reference.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- the engine's side -------------------------------------------------------------------------

// the loop's constants under these overrides
static propofol_config configure(const char *const *overrides, int count) {
  static const char text[] = "run:\n  threads: 1\n  backend: cpu\n"
                             "algorithm:\n  name: pid\nenv:\n  name: propofol\n";
  rgm_config *config;
  rgm_run *run;
  propofol_config out;
  cr_assert(rgm_config_parse("test.yaml", text, overrides, count, &config) == RGM_OK);
  cr_assert(rgm_run_plan_only(config, &run) == RGM_OK, "%s", rgm_last_error());
  cr_assert(rgm_envs[0]->config_size == sizeof out);
  cr_assert(rgm_envs[0]->prepare(rgm_env_keys(run, 0), run->config, &out) == RGM_OK);
  rgm_run_free(run);
  return out;
}


// Buffers of a rollout, fenced. Every replica has its own seed, noise and parameters.
typedef struct world {
  rgm_stream *stream;
  const rgm_env_kernels *kernels;
  int64_t r, p, k, t, first; // first patient
  propofol_config config[REPLICAS];
  uint32_t seeds[2 * REPLICAS], active[REPLICAS], clock[REPLICAS], eval;
  float params[REPLICAS][POLICY];
  float *patients, *returns, *obs, *act, *logits, *signals;
  bool returns_only;
} world;


static float *fenced(int64_t n) {
  float *memory = malloc((size_t)(n + 2 * FENCE) * sizeof *memory);
  cr_assert(memory != NULL);
  for (int64_t i = 0; i < n + 2 * FENCE; i++) {
    memory[i] = -12345.0f;
  }
  return memory + FENCE;
}


static bool blank(const float *x, int64_t n) {
  bool yes = true;
  for (int64_t i = 0; i < n; i++) {
    yes = yes && x[i] == -12345.0f;
  }
  return yes;
}


static void unfence(float *data, int64_t n) {
  cr_assert(blank(data - FENCE, FENCE) && blank(data + n, FENCE),
            "something was written outside a tensor of %lld", (long long)n);
  free(data - FENCE);
}


// makes replica i the one that is the which-th elsewhere
static void world_replica(world *w, int i, const propofol_config *config, int which) {
  w->config[i] = *config;
  w->config[i].noise_sd *= 1.0f + 0.25f * (float)which;
  w->seeds[2 * i] = 1000u + 7u * (uint32_t)which;
  w->seeds[2 * i + 1] = 3;
  w->active[i] = 1;
  w->clock[i] = 12 + 7 * (uint32_t)which;
  random_policy(w->params[i], 5000u * (uint32_t)(1 + which));
}


static world world_open(const char *isa, int threads, const propofol_config *config, int64_t r,
                        int64_t p, int64_t k, int64_t t) {
  world w = {.r = r, .p = p, .k = k, .t = t};
  const rgm_device_options options = {threads, isa, 0};
  char note[256];
  cr_assert(rgm_open("cpu", &options, &w.stream, note, sizeof note) == RGM_OK, "%s",
            rgm_last_error());
  w.kernels = rgm_envs[0]->kernels(w.stream->backend);
  for (int i = 0; i < r; i++) {
    world_replica(&w, i, config, i);
  }
  w.patients = fenced(r * p * PROPOFOL_WORDS);
  w.returns = fenced(r * k);
  w.obs = fenced(r * k * t * PROPOFOL_OBS);
  w.act = fenced(r * k * t);
  w.logits = fenced(r * k * t);
  w.signals = fenced(r * k * t * PROPOFOL_SIGNALS);
  return w;
}


static void world_close(world *w) {
  rgm_close(w->stream);
  unfence(w->patients, w->r * w->p * PROPOFOL_WORDS);
  unfence(w->returns, w->r * w->k);
  unfence(w->obs, w->r * w->k * w->t * PROPOFOL_OBS);
  unfence(w->act, w->r * w->k * w->t);
  unfence(w->logits, w->r * w->k * w->t);
  unfence(w->signals, w->r * w->k * w->t * PROPOFOL_SIGNALS);
}


static void world_sample(world *w) {
  const rgm_cohort cohort = {
      .patients = rgm_view(w->patients, RGM_F32, w->r, w->p, PROPOFOL_WORDS, 0),
      .config = rgm_view(w->config, RGM_U8, w->r, sizeof *w->config, 0, 0),
      .seeds = rgm_view(w->seeds, RGM_U32, w->r, 2, 0, 0),
      .clock = rgm_view(w->clock, RGM_U32, w->r, 0, 0, 0),
      .active = rgm_view(w->active, RGM_U32, w->r, 0, 0, 0),
      .random = RGM_RANDOM_PATIENT + w->eval,
      .first = w->first,
  };
  rgm_env_sample(w->kernels, w->stream, &cohort);
  cr_assert(rgm_sync(w->stream) == RGM_OK);
}


static void world_run(world *w, rgm_control control) {
  float *const none = NULL;
  const rgm_rollout rollout = {
      .returns = rgm_view(w->returns, RGM_F32, w->r, w->k, 0, 0),
      .obs = rgm_view(w->returns_only ? none : w->obs, RGM_F32, w->r, w->k, w->t, PROPOFOL_OBS),
      .act = rgm_view(w->returns_only ? none : w->act, RGM_F32, w->r, w->k, w->t, 1),
      .logits = rgm_view(w->returns_only ? none : w->logits, RGM_F32, w->r, w->k, w->t, 0),
      .signals = rgm_view(w->returns_only ? none : w->signals, RGM_F32, w->r, w->k, w->t,
                          PROPOFOL_SIGNALS),
      .patients = rgm_view(w->patients, RGM_F32, w->r, w->p, PROPOFOL_WORDS, 0),
      .config = rgm_view(w->config, RGM_U8, w->r, sizeof *w->config, 0, 0),
      .params = rgm_view(w->params, RGM_F32, w->r, POLICY, 0, 0),
      .seeds = rgm_view(w->seeds, RGM_U32, w->r, 2, 0, 0),
      .clock = rgm_view(w->clock, RGM_U32, w->r, 0, 0, 0),
      .active = rgm_view(w->active, RGM_U32, w->r, 0, 0, 0),
      .control = control,
      .hidden = HIDDEN,
      .random = RGM_RANDOM_NOISE + w->eval,
      .first = w->first * (w->k / w->p),
      .steps = w->t,
  };
  rgm_env_rollout(w->kernels, w->stream, &rollout);
  cr_assert(rgm_sync(w->stream) == RGM_OK);
}


static person world_person(const world *w, int64_t r, int64_t episode) {
  const int64_t patient = w->first + episode / (w->k / w->p);
  return draw_person(w->seeds + 2 * r, RGM_RANDOM_PATIENT + w->eval, w->clock[r], (uint32_t)patient,
                     w->config[r].sex);
}


static void world_words(const world *w, int64_t r, int64_t episode, int64_t t, uint32_t out[4]) {
  const int64_t item = w->first * (w->k / w->p) + episode;
  words_of(w->seeds + 2 * r, RGM_RANDOM_NOISE + w->eval, w->clock[r], (uint32_t)item,
           (uint32_t)(t / 2), out);
}


// ---- following an episode ----------------------------------------------------------------------

// Largest distance between what was recorded and the reference, which gets the recorded actions.
typedef struct drift {
  double ce;                   // relative, above 0.01 mg/L
  double lou, obs[4], returns; // returns: per step
  bool exact;                  // targets, rates and the sum of rewards have the very bits
} drift;


static void follow(const world *w, int64_t r, int64_t episode, const person *p, drift *worst) {
  const plant body = hold(p, step_min), agent = hold(&generic, step_min);
  const plant ahead = hold(&generic, 0.5);
  const int64_t at = r * w->k + episode, phase = (w->t + TARGETS - 1) / TARGETS;
  const float *obs = w->obs + at * w->t * 4, *act = w->act + at * w->t;
  const float *signals = w->signals + at * w->t * PROPOFOL_SIGNALS;
  double x[4] = {0}, model[4] = {0}, sum = 0.0;
  double *y = malloc((size_t)w->t * sizeof *y);
  float sum32 = 0.0f, block = 0.0f; // rewards add within blocks of 16 steps, then over them
  for (int64_t t = 0; t < w->t; t++, obs += 4, signals += PROPOFOL_SIGNALS) {
    uint32_t words[4];
    world_words(w, r, episode, t, words);
    const double target = p->target[t / phase], lou = hill(p, x[3]);
    const double noise = (double)w->config[r].noise_sd * normal_of(words, t);
    y[t] = fmin(fmax(lou + noise, 0.0), 1.0);
    double trend = -model[3];
    for (int i = 0; i < 4; i++) {
      trend += ahead.a[3][i] * model[i];
    }
    worsen(&worst->obs[0], obs[0] - (target - y[t]));
    worsen(&worst->obs[1], obs[1] - trend);
    worsen(&worst->obs[2], obs[2] - (y[t] - y[t < 6 ? 0 : t - 6]));
    worsen(&worst->obs[3], obs[3] - target);
    worsen(&worst->lou, signals[PROPOFOL_SIGNAL_LOU] - lou);
    worsen(&worst->ce, (signals[PROPOFOL_SIGNAL_CE] - x[3]) / fmax(x[3], 0.01));
    worst->exact = worst->exact && signals[PROPOFOL_SIGNAL_TARGET] == (float)target &&
                   signals[PROPOFOL_SIGNAL_RATE] == act[t] * 100.2f;
    block -= fabsf((float)target - signals[PROPOFOL_SIGNAL_LOU]);
    if (t % 16 == 15 || t == w->t - 1) {
      sum32 += block;
      block = 0.0f;
    }
    sum -= fabs(target - lou);
    move(&body, x, 100.2 * (double)act[t]);
    move(&agent, model, 100.2 * (double)act[t]);
  }
  worst->exact = worst->exact && sum32 == w->returns[at];
  worsen(&worst->returns, (w->returns[at] - sum) / (double)w->t);
  free(y);
}


// Twice what was measured, 320 patients x 2000 steps: Ce 5.4e-6 relative, LoU 2.8e-6, ...
static void expect_drift(const drift *d, const char *what) {
  cr_expect(d->ce <= 1.1e-5, "%s: relative error of Ce %.3g", what, d->ce);
  cr_expect(d->lou <= 5.6e-6, "%s: error of LoU %.3g", what, d->lou);
  cr_expect(d->obs[0] <= 5.6e-6 && d->obs[1] <= 2e-6 && d->obs[2] <= 3.6e-6 && d->obs[3] <= 6e-8,
            "%s: errors of observations %.3g %.3g %.3g %.3g", what, d->obs[0], d->obs[1], d->obs[2],
            d->obs[3]);
  cr_expect(d->returns <= 1e-6, "%s: error of returns %.3g a step", what, d->returns);
  cr_expect(d->exact, "%s: targets, rates or returns", what);
}


// ---- tests: patients and open loop --------------------------------------------------------------

Test(propofol, golden_run) {
  // spec 3.3: generic man, a = 1 for steps 0-11; step, Ce, LoU, o1
  static const struct {
    int step;
    double ce, lou, trend;
  } rows[] = {
      {12, 1.3806920, 0.04886802, 0.8385677},   {24, 2.6251597, 0.56076198, 0.1559257},
      {36, 2.7950368, 0.63593705, -0.0643673},  {60, 2.3694747, 0.43337058, -0.1309397},
      {120, 1.3411300, 0.04253789, -0.0685775}, {400, 0.3038853, 0.00002654, -0.0056510},
  };
  static const char *const quiet[] = {"env.noise_sd=0", "env.steps=401"};
  const propofol_config config = configure(quiet, COUNT(quiet));
  for (const char *const *isa = rgm_cpu_isas(); *isa != NULL; isa++) {
    world w = world_open(*isa, 1, &config, 1, 1, 1, 401);
    propofol_describe(w.patients, &config, 30, 170, 70, 1, 0.17, 2.5, 5);
    for (int i = 0; i < PROPOFOL_MAX_TARGETS; i++) {
      w.patients[PROPOFOL_TARGETS + i] = 0.5f;
    }
    for (int t = 0; t < 401; t++) {
      w.act[t] = t < 12;
    }
    world_run(&w, RGM_CONTROL_OPEN_LOOP);
    for (int i = 0; i < COUNT(rows); i++) {
      const float *signals = w.signals + rows[i].step * PROPOFOL_SIGNALS;
      const float *obs = w.obs + rows[i].step * PROPOFOL_OBS;
      cr_expect(fabs(signals[PROPOFOL_SIGNAL_CE] / rows[i].ce - 1) <= 1.2e-5, "%s, Ce %.9g, row %d",
                *isa, (double)signals[PROPOFOL_SIGNAL_CE], i);
      cr_expect(fabs(signals[PROPOFOL_SIGNAL_LOU] - rows[i].lou) <= 3e-6, "%s, LoU %.9g, row %d",
                *isa, (double)signals[PROPOFOL_SIGNAL_LOU], i);
      cr_expect(fabs(obs[1] - rows[i].trend) <= 2e-6, "%s, o1 %.9g, row %d", *isa, (double)obs[1],
                i);
    }
    drift d = {.exact = true};
    follow(&w, 0, 0, &generic, &d);
    expect_drift(&d, *isa);
    world_close(&w);
  }
}


Test(propofol, float_path) {
  // 320 patients x 2000 steps, bursts of full rate, no noise
  static const char *const quiet[] = {"env.noise_sd=0", "env.sex=random"};
  const propofol_config config = configure(quiet, COUNT(quiet));
  world w = world_open("auto", 2, &config, 1, 320, 320, 2000);
  world_sample(&w);
  uint32_t count = 0;
  for (int64_t k = 0; k < w.k; k++) {
    const double share = 0.02 + 0.2 * toss(&count);
    float *act = w.act + k * w.t;
    for (int64_t t = 0; t < w.t; t++) {
      act[t] = t % 4 == 0 ? (float)(toss(&count) < share) : act[t - 1];
    }
  }
  world_run(&w, RGM_CONTROL_OPEN_LOOP);
  drift d = {.exact = true};
  double sum = 0.0;
  for (int64_t k = 0; k < w.k; k++) {
    const person p = world_person(&w, 0, k);
    follow(&w, 0, k, &p, &d);
    sum += w.signals[((k + 1) * w.t - 1) * PROPOFOL_SIGNALS] / (double)w.k;
  }
  cr_expect(sum > 0.2 && sum < 0.8, "the episodes should end all over the range, mean %g", sum);
  expect_drift(&d, "float path");
  world_close(&w);
}


Test(propofol, patients) {
  // the words of 5000 people are the draws of the reference
  static const int word[] = {PROPOFOL_AGE, PROPOFOL_HEIGHT, PROPOFOL_WEIGHT,
                             PROPOFOL_KE0, PROPOFOL_C50,    8};
  static const char *const any[] = {"env.sex=random"};
  enum { PEOPLE = 5000 };
  const propofol_config config = configure(any, 1);
  world w = world_open("auto", 2, &config, 1, PEOPLE, PEOPLE, 1);
  world_sample(&w);
  double worst = 0.0, men = 0.0;
  for (int i = 0; i < PEOPLE; i++) {
    const person p = world_person(&w, 0, i);
    const float *words = w.patients + i * PROPOFOL_WORDS;
    const double want[] = {p.age, p.height, p.weight, p.ke0, p.c50, p.gamma};
    for (int k = 0; k < COUNT(want); k++) {
      worsen(&worst, words[word[k]] / want[k] - 1);
    }
    for (int k = 0; k < TARGETS; k++) {
      worsen(&worst, words[PROPOFOL_TARGETS + k] / p.target[k] - 1);
    }
    worsen(&worst, words[PROPOFOL_SEX] - p.male);
    men += words[PROPOFOL_SEX] / PEOPLE;
  }
  cr_expect(worst <= 1e-7, "distance from the reference's draws: %.3g", worst);
  cr_expect(fabs(men - 0.5) < 4 * sqrt(0.25 / PEOPLE), "share of men: %g", men);
  world_close(&w);

  // the reference's philox is philox4x32-10 (Random123, kat_vectors)
  static const uint32_t want[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  uint32_t got[4];
  philox((uint32_t[]){0xa4093822, 0x299f31d0},
         (uint32_t[]){0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, got);
  cr_expect(memcmp(got, want, sizeof got) == 0, "known answer");
}


Test(propofol, sexes_and_streams) {
  // the sex changes the sex only, and test patients are others than training's
  static const char *const sex[] = {"env.sex=male", "env.sex=female"};
  world w[4];
  for (int i = 0; i < COUNT(w); i++) {
    const propofol_config config = configure(&sex[i % 2], 1);
    w[i] = world_open("auto", 1, &config, 1, 50, 50, 1);
    w[i].eval = i < 2 ? 0 : RGM_RANDOM_EVAL;
    world_sample(&w[i]);
  }
  int same = 0;
  for (int k = 0; k < 50 * PROPOFOL_WORDS; k++) {
    const int word = k % PROPOFOL_WORDS;
    const float man = w[0].patients[k], woman = w[1].patients[k];
    if (word == PROPOFOL_SEX) {
      cr_expect(man == 1.0f && woman == 0.0f);
    } else if (word >= 8) {
      cr_expect(man == woman && man != w[2].patients[k], "word %d", word);
    } else {
      same += man == woman;
    }
  }
  // of the modes' words only those of ke0's own decay agree
  cr_expect(same == 50, "%d", same);
  for (int i = 0; i < COUNT(w); i++) {
    world_close(&w[i]);
  }
}


// ---- tests: closed loops -----------------------------------------------------------------------

// Recorded actions against the reference's, which sees the recorded observations.
typedef struct decisions {
  int64_t steps, on, compared;
  double error; // of those that are not within 2e-6 of a threshold
} decisions;


static void decide(const world *w, int64_t r, int64_t episode, rgm_control control, decisions *d) {
  const float *params = w->params[r];
  const int64_t at = (r * w->k + episode) * w->t;
  double integral = 0.0;
  bool lost = false; // the integral's rule was too near to tell
  for (int64_t t = 0; t < w->t; t++) {
    const float *obs = w->obs + (at + t) * 4;
    const double seen[4] = {obs[0], obs[1], obs[2], obs[3]};
    double want, margin = 1.0;
    if (control == RGM_CONTROL_PID) {
      const double gains[3] = {params[0], params[1], params[2]};
      want = pid(&integral, gains, seen[0], seen[2], &margin);
      lost = lost || margin < 2e-6;
    } else {
      uint32_t words[4];
      world_words(w, r, episode, t, words);
      const double z = logit(params, seen), p = 1.0 / (1.0 + exp(-z)), u = uniform_of(words, t);
      const bool draw = control == RGM_CONTROL_STOCHASTIC, hard = control != RGM_CONTROL_CONTINUOUS;
      cr_assert_float_eq(w->logits[at + t], z, 4e-6 * (1.0 + fabs(z)), "logit at step %d", (int)t);
      margin = draw ? fabs(p - u) : hard ? fabs(z) : 1.0;
      want = draw ? u < p : hard ? z > 0.0 : p;
    }
    d->steps++;
    d->on += w->act[at + t] > 0.5f;
    if (margin >= 2e-6 && !lost) {
      d->compared++;
      worsen(&d->error, w->act[at + t] - want);
    }
  }
}


// draws the patients and runs them; PID has the gains of spec 1.5, a replica's a little less
static void run_all(world *w, rgm_control control) {
  static const float gains[PID_PARAMS] = {8.67f, 0.2435f, 77.2f};
  for (int i = 0; i < w->r && control == RGM_CONTROL_PID; i++) {
    for (int k = 0; k < PID_PARAMS; k++) {
      w->params[i][k] = gains[k] - (float)(w->seeds[2 * i] - 1000) * 1e-3f * gains[k];
    }
  }
  world_sample(w);
  world_run(w, control);
}


static void check_world(world *w, rgm_control control, const char *what, decisions *d) {
  drift drift_ = {.exact = true};
  run_all(w, control);
  for (int64_t i = 0; i < w->r * w->k; i++) {
    const person p = world_person(w, i / w->k, i % w->k);
    follow(w, i / w->k, i % w->k, &p, &drift_);
    decide(w, i / w->k, i % w->k, control, d);
  }
  expect_drift(&drift_, what);
  cr_expect(d->error <= 5e-7, "%s: error of actions %.3g", what, d->error);
}


static const char *const controls[] = {"stochastic", "deterministic", "continuous", "pid"};

Test(propofol, controllers) {
  // whole episodes with noise, so that targets change at steps 500, 1000 and 1500
  const propofol_config config = configure(NULL, 0);
  for (int control = 0; control < COUNT(controls); control++) {
    world w = world_open("auto", 2, &config, 2, 4, 16, 2000);
    decisions d = {0};
    check_world(&w, (rgm_control)control, controls[control], &d);
    cr_expect(d.on > d.steps / 100 && d.on < d.steps / 2, "%s: too few or too many actions, %lld",
              controls[control], (long long)d.on);
    cr_expect(d.compared > d.steps * 8 / 10, "%s: %lld actions compared", controls[control],
              (long long)d.compared);
    world_close(&w);
  }
}


Test(propofol, shapes) {
  // odd lengths, shorter than the lag, tiles of 16 episodes full, split and not begun
  static const int64_t lengths[] = {1, 2, 5, 7, 37}, episodes[] = {1, 5, 16, 17, 33};
  decisions d = {0};
  for (int i = 0; i < 100; i++) {
    const int64_t t = lengths[i / 20], k = episodes[i / 4 % 5];
    const int64_t p = i % 2 == 0 ? 1 : k, r = i / 2 % 2 == 0 ? 1 : 3;
    const rgm_control control = (rgm_control)((i % 4 + i / 4) % 4);
    char steps[32], what[96];
    snprintf(steps, sizeof steps, "env.steps=%lld", (long long)t);
    snprintf(what, sizeof what, "%s, R %lld, P %lld, K %lld, T %lld", controls[control],
             (long long)r, (long long)p, (long long)k, (long long)t);
    const char *const overrides[] = {steps};
    const propofol_config config = configure(overrides, 1);
    world w = world_open("auto", 2, &config, r, p, k, t);
    check_world(&w, control, what, &d);
    world_close(&w);
  }
  cr_expect(d.compared > d.steps * 9 / 10, "%lld of %lld", (long long)d.compared,
            (long long)d.steps);
}


// ---- tests: bits -------------------------------------------------------------------------------

// whether an episode of two worlds has the same bits throughout
static bool same_episode(const world *a, int64_t ra, int64_t ka, const world *b, int64_t rb,
                         int64_t kb) {
  const int64_t i = ra * a->k + ka, j = rb * b->k + kb;
  const int64_t m = ra * a->p + ka / (a->k / a->p), n = rb * b->p + kb / (b->k / b->p);
  const size_t t = (size_t)a->t;
  return memcmp(a->returns + i, b->returns + j, sizeof *a->returns) == 0 &&
         memcmp(a->act + i * a->t, b->act + j * a->t, t * sizeof *a->act) == 0 &&
         memcmp(a->logits + i * a->t, b->logits + j * a->t, t * sizeof *a->logits) == 0 &&
         memcmp(a->obs + i * a->t * 4, b->obs + j * a->t * 4, 4 * t * sizeof *a->obs) == 0 &&
         memcmp(a->signals + i * a->t * PROPOFOL_SIGNALS, b->signals + j * a->t * PROPOFOL_SIGNALS,
                PROPOFOL_SIGNALS * t * sizeof *a->signals) == 0 &&
         memcmp(a->patients + m * PROPOFOL_WORDS, b->patients + n * PROPOFOL_WORDS,
                PROPOFOL_WORDS * sizeof *a->patients) == 0;
}


static world run_world(const char *isa, int threads, const propofol_config *config, int64_t r,
                       int64_t p, int64_t first, int which, rgm_control control) {
  world w = world_open(isa, threads, config, r, p, 3 * p, 61);
  world_replica(&w, 0, config, which);
  w.first = first;
  w.eval = RGM_RANDOM_EVAL;
  run_all(&w, control);
  return w;
}


Test(propofol, bits) {
  const char *const overrides[] = {"env.steps=61"};
  const propofol_config config = configure(overrides, 1);
  const char *const *isas = rgm_cpu_isas();
  for (int c = 0; c < COUNT(controls); c++) {
    const rgm_control control = (rgm_control)c;
    world whole = run_world(isas[0], 1, &config, 3, 11, 0, 0, control);

    // any instruction set, any number of threads
    for (int i = 0; isas[i / 3] != NULL; i++) {
      world w = run_world(isas[i / 3], 1 + i % 3, &config, 3, 11, 0, 0, control);
      for (int64_t k = 0; k < 3 * 33; k++) {
        cr_assert(same_episode(&whole, k / 33, k % 33, &w, k / 33, k % 33), "%s: %s, %d threads",
                  controls[c], isas[i / 3], 1 + i % 3);
      }
      world_close(&w);
    }

    // each replica alone, in chunks of four patients
    for (int i = 0; i < 9; i++) {
      const int64_t first = i % 3 * 4, patients = first == 8 ? 3 : 4;
      world w = run_world(isas[0], 2, &config, 1, patients, first, i / 3, control);
      for (int64_t k = 0; k < 3 * patients; k++) {
        cr_assert(same_episode(&whole, i / 3, 3 * first + k, &w, 0, k),
                  "%s: replica %d from patient %d", controls[c], i / 3, (int)first);
      }
      world_close(&w);
    }
    world_close(&whole);
  }
}


Test(propofol, masks_and_missing_outputs) {
  const char *const overrides[] = {"env.steps=61"};
  const propofol_config config = configure(overrides, 1);
  world w[3]; // all there; the middle replica masked; returns only
  for (int i = 0; i < 3; i++) {
    w[i] = world_open("auto", 2, &config, 3, 17, 17, 61);
    w[i].active[1] = i != 1;
    w[i].returns_only = i == 2;
    run_all(&w[i], RGM_CONTROL_STOCHASTIC);
  }
  const int64_t n = 17 * 61;
  bool same = memcmp(w[0].returns, w[2].returns, 3 * 17 * sizeof *w[0].returns) == 0;
  for (int64_t k = 0; k < 17; k++) {
    same = same && same_episode(&w[0], 0, k, &w[1], 0, k) && same_episode(&w[0], 2, k, &w[1], 2, k);
  }
  const bool untouched = blank(w[1].act + n, n) && blank(w[1].logits + n, n) &&
                         blank(w[1].obs + 4 * n, 4 * n) && blank(w[1].signals + 4 * n, 4 * n) &&
                         blank(w[1].returns + 17, 17) &&
                         blank(w[1].patients + 17 * PROPOFOL_WORDS, 17 * PROPOFOL_WORDS);
  same = same && blank(w[2].act, 3 * n) && blank(w[2].logits, 3 * n) && blank(w[2].obs, 12 * n) &&
         blank(w[2].signals, 12 * n);
  cr_expect(untouched, "the masked replica was written");
  cr_expect(same, "a mask or a missing output changed something else");
  for (int i = 0; i < 3; i++) {
    world_close(&w[i]);
  }
}
