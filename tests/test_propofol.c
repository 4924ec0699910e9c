// SPDX-License-Identifier: Apache-2.0
// Tests of the propofol environment against a reference of its own: Schnider's formulas, a dense matrix
// exponential, Hill curve, PID, policy, philox and Box-Muller written again here in double. "Spec" is
// shared/spec/propofol.md; its golden numbers come from OpenPMX and 40-digit arithmetic.

#include "engine/engine.h"
#include "envs/controllers.h"
#include "envs/propofol.h"

#include <complex.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

enum { FENCE = 64, TARGETS = 4, HIDDEN = 20, POLICY = 4 * 32 + 32 + 32 * 16 + 16 };

static const double step_min = 5.0 / 60.0, noise_sd = 0.01414213562;


// keeps the largest error; a NaN counts as infinite
static void worsen(double *worst, double error) {
  if (!(fabs(error) <= *worst)) {
    *worst = isnan(error) ? HUGE_VAL : fabs(error);
  }
}


// ---- reference: random numbers -----------------------------------------------------------------

// philox4x32-10, Salmon et al. 2011
static void philox(const uint32_t key[2], const uint32_t counter[4], uint32_t out[4]) {
  uint32_t k[2] = {key[0], key[1]};
  memcpy(out, counter, 4 * sizeof *out);
  for (int round = 0; round < 10; round++) {
    const uint64_t a = 0xD2511F53ull * out[0], b = 0xCD9E8D57ull * out[2];
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ out[1] ^ k[0], (uint32_t)b,
                              (uint32_t)(a >> 32) ^ out[3] ^ k[1], (uint32_t)a};
    memcpy(out, next, sizeof next);
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
}


// the layout of kernels/rng.h: key {low, high ^ stream * golden ratio}, counter {step, item, draw, 0}
static void words_of(const uint32_t seed[2], uint32_t stream, uint32_t step, uint32_t item,
                     uint32_t draw, uint32_t out[4]) {
  const uint32_t key[2] = {seed[0], seed[1] ^ (stream * 0x9E3779B9u)};
  const uint32_t counter[4] = {step, item, draw, 0};
  philox(key, counter, out);
}


// normal and action uniform of time t: draw t / 2 serves two steps, words 0-1 the normals
static double normal_of(const uint32_t w[4], int64_t t) {
  const double radius = sqrt(-2.0 * log(((w[0] >> 8) + 1.0) * 0x1p-24));
  const double angle = 2.0 * M_PI * (double)(w[1] >> 8) * 0x1p-24;
  return radius * (t % 2 == 0 ? cos(angle) : sin(angle));
}
static double uniform_of(const uint32_t w[4], int64_t t) {
  return (double)(w[2 + t % 2] >> 8) * 0x1p-24;
}


// a stream of the tests' own, uniform in (0, 1)
static double toss(uint32_t *count) {
  const uint32_t key[2] = {1998, 7}, counter[4] = {(*count)++, 0, 0, 0};
  uint32_t w[4];
  philox(key, counter, w);
  return ((double)w[0] + 0.5) * 0x1p-32;
}


// ---- reference: patients -----------------------------------------------------------------------

typedef struct person {
  double age, height, weight;
  int male;
  double ke0, c50, gamma, target[TARGETS];
} person;

typedef struct rates {
  double lean, v2, cl1, cl2, k10, k12, k13, k21, k31;
} rates;

static const person generic = {30, 170, 70, 1, 0.17, 2.5, 5, {0.5, 0.5, 0.5, 0.5}};

// spec 1.2: age, height, weight, ke0, c50, gamma, target, in the order of the draws
static const double ranges[7][2] = {{18, 90}, {160, 190}, {50, 100},   {0.128, 0.213},
                                    {2, 6},   {5, 9},     {0.25, 0.75}};


// spec 1.1
static rates schnider(const person *p) {
  const double q = p->weight / p->height;
  rates r = {.lean = p->male ? 1.1 * p->weight - 128 * q * q : 1.07 * p->weight - 148 * q * q};
  r.v2 = 18.9 - 0.391 * (p->age - 53);
  r.cl1 =
      1.89 + 0.0456 * (p->weight - 77) - 0.0681 * (r.lean - 59) + 0.0264 * (p->height - 177);
  r.cl2 = 1.29 - 0.024 * (p->age - 53);
  r.k10 = r.cl1 / 4.27;
  r.k12 = r.cl2 / 4.27;
  r.k13 = 0.836 / 4.27;
  r.k21 = r.cl2 / r.v2;
  r.k31 = 0.836 / 238;
  return r;
}


// draws 0-5 are covariates, 7 the sex, 8 and up the targets; sex as in the config
static person draw_person(const uint32_t seed[2], uint32_t stream, uint32_t step, uint32_t item,
                          int sex) {
  double x[8 + TARGETS];
  for (uint32_t i = 0; i < 8 + TARGETS; i++) {
    uint32_t w[4];
    words_of(seed, stream, step, item, i, w);
    const double *range = ranges[i < 7 ? i : 6];
    const double low = i == 7 ? 0 : range[0], high = i == 7 ? 1 : range[1];
    x[i] = low + (high - low) * (((double)w[0] + 0.5) * 0x1p-32);
  }
  person p = {x[0], x[1], x[2], 0, x[3], x[4], x[5], {x[8], x[9], x[10], x[11]}};
  p.male = sex == PROPOFOL_MALE || (sex == PROPOFOL_RANDOM && x[7] < 0.5);
  return p;
}


// ---- reference: zero-order hold by a dense matrix exponential ----------------------------------

enum { N = 5 };

typedef struct matrix {
  double m[N][N];
} matrix;

// x <- a x + b u over a fixed time; x = C1, C2, C3, Ce in mg/L, u in mg/min
typedef struct plant {
  double a[4][4], b[4];
} plant;


static matrix multiply(const matrix *a, const matrix *b) {
  matrix c;
  for (int i = 0; i < N; i++) {
    for (int j = 0; j < N; j++) {
      c.m[i][j] = 0.0;
      for (int k = 0; k < N; k++) {
        c.m[i][j] += a->m[i][k] * b->m[k][j];
      }
    }
  }
  return c;
}


// scaling and squaring of a Taylor polynomial, in Horner's form, norm below 1/8
static matrix exponential(matrix a) {
  double norm = 0.0;
  for (int i = 0; i < N; i++) {
    double row = 0.0;
    for (int j = 0; j < N; j++) {
      row += fabs(a.m[i][j]);
    }
    norm = fmax(norm, row);
  }
  int squarings = 0;
  for (; norm > 0.125; squarings++) {
    norm *= 0.5;
  }
  matrix sum = {{{0}}};
  for (int i = 0; i < N; i++) {
    sum.m[i][i] = 1.0;
    for (int j = 0; j < N; j++) {
      a.m[i][j] = ldexp(a.m[i][j], -squarings);
    }
  }
  for (int order = 13; order >= 1; order--) {
    sum = multiply(&a, &sum);
    for (int i = 0; i < N; i++) {
      for (int j = 0; j < N; j++) {
        sum.m[i][j] = sum.m[i][j] / order + (i == j);
      }
    }
  }
  for (int i = 0; i < squarings; i++) {
    sum = multiply(&sum, &sum);
  }
  return sum;
}


// the augmented system, input as fifth state
static plant hold(const person *p, double minutes) {
  const rates r = schnider(p);
  matrix a = {{{-(r.k10 + r.k12 + r.k13), r.k12, r.k13, 0, 1 / 4.27},
               {r.k21, -r.k21, 0, 0, 0},
               {r.k31, 0, -r.k31, 0, 0},
               {p->ke0, 0, 0, -p->ke0, 0},
               {0, 0, 0, 0, 0}}};
  for (int i = 0; i < N; i++) {
    for (int j = 0; j < N; j++) {
      a.m[i][j] *= minutes;
    }
  }
  a = exponential(a);
  plant out;
  for (int i = 0; i < 4; i++) {
    memcpy(out.a[i], a.m[i], sizeof out.a[i]);
    out.b[i] = a.m[i][4];
  }
  return out;
}


static void move(const plant *p, double *x, double u) {
  double y[4];
  for (int i = 0; i < 4; i++) {
    y[i] = p->b[i] * u;
    for (int j = 0; j < 4; j++) {
      y[i] += p->a[i][j] * x[j];
    }
  }
  memcpy(x, y, sizeof y);
}


static double hill(const person *p, double ce) {
  return ce <= 0.0 ? 0.0 : 1.0 / (1.0 + exp(-p->gamma * (log(ce) - log(p->c50))));
}


// ---- reference: controllers --------------------------------------------------------------------

// spec 1.5; *margin gets how far the output is from the edges where the integral's rule changes
static double pid(double *integral, const double gain[3], double error, double change,
                  double *margin) {
  const double next = *integral + 5.0 * error;
  const double raw = gain[0] * error + gain[1] * next - gain[2] * change / 30.0;
  *margin = fmin(fabs(raw), fabs(raw - 1.0));
  if (!(raw > 1.0 && error > 0.0) && !(raw < 0.0 && error < 0.0)) {
    *integral = next;
  }
  return fmin(fmax(gain[0] * error + gain[1] * *integral - gain[2] * change / 30.0, 0.0), 1.0);
}


// logit difference of the two-class net in the padded layout of rgm_mlp
static double logit(const float *params, const double obs[4]) {
  const int wide = (HIDDEN + 15) / 16 * 16;
  const float *b1 = params + 4 * wide, *w2 = b1 + wide, *b2 = w2 + wide * 16;
  double z[2] = {b2[0], b2[1]};
  for (int h = 0; h < HIDDEN; h++) {
    double sum = b1[h];
    for (int i = 0; i < 4; i++) {
      sum += obs[i] * params[i * wide + h];
    }
    z[0] += fmax(sum, 0.0) * w2[h * 16];
    z[1] += fmax(sum, 0.0) * w2[h * 16 + 1];
  }
  return z[1] - z[0];
}


// random weights; what pads the layers is NaN and must not be read
static void random_policy(float *params, uint32_t *count) {
  const int wide = (HIDDEN + 15) / 16 * 16;
  float *const w2 = params + 5 * wide, *const b2 = w2 + wide * 16;
  for (int i = 0; i < POLICY; i++) {
    params[i] = NAN;
  }
  for (int h = 0; h < HIDDEN; h++) {
    for (int i = 0; i < 5; i++) {
      params[i * wide + h] = (float)(2 * toss(count) - 1);
    }
    for (int j = 0; j < 2; j++) {
      w2[h * 16 + j] = (float)(3 * toss(count) - 1.5);
    }
  }
  // more drug below the target, so that actions change over an episode
  params[0] = 20.0f;
  params[wide] = params[2 * wide] = params[3 * wide] = params[4 * wide] = 0.0f;
  w2[0] = -2.0f;
  w2[1] = 3.0f;
  b2[0] = 0.5f;
  b2[1] = -0.25f;
}


// ---- the engine's side -------------------------------------------------------------------------

// Plans a run of the environment with these overrides; *run is to be freed.
static rgm_status plan_env(const char *const *overrides, int count, rgm_run **run) {
  static const char text[] = "run:\n  threads: 1\n  backend: cpu\n"
                             "algorithm:\n  name: pid\nenv:\n  name: propofol\n";
  rgm_config *config = NULL;
  *run = NULL;
  RGM_TRY(rgm_config_parse("test.yaml", text, overrides, count, &config));
  return rgm_run_plan_only(config, run);
}


static propofol_config configure(const char *const *overrides, int count) {
  rgm_run *run;
  propofol_config out;
  cr_assert(plan_env(overrides, count, &run) == RGM_OK, "%s", rgm_last_error());
  cr_assert(rgm_envs[0]->config_size == sizeof out);
  cr_assert(rgm_envs[0]->prepare(rgm_env_keys(run, 0), run->config, &out) == RGM_OK);
  rgm_run_free(run);
  return out;
}


// Buffers of a rollout, fenced: replica r has seed 1000 + 7 r, clock 12, and words that match.
typedef struct world {
  rgm_stream *stream;
  const rgm_env_kernels *kernels;
  int64_t r, p, k, t, first; // first patient
  propofol_config *config;
  uint32_t *seeds, *active, clock, eval;
  float *patients, *returns, *obs, *act, *signals;
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


static void unfence(float *data, int64_t n) {
  bool intact = true;
  for (int i = 0; i < FENCE; i++) {
    intact = intact && data[-1 - i] == -12345.0f && data[n + i] == -12345.0f;
  }
  cr_assert(intact, "something was written outside a tensor of %lld", (long long)n);
  free(data - FENCE);
}


static world world_open(const char *isa, int threads, const propofol_config *config, int64_t r,
                        int64_t p, int64_t k, int64_t t) {
  world w = {.r = r, .p = p, .k = k, .t = t, .clock = 12};
  const rgm_device_options options = {threads, isa};
  char note[256];
  cr_assert(rgm_open("cpu", &options, &w.stream, note, sizeof note) == RGM_OK, "%s",
            rgm_last_error());
  w.kernels = rgm_envs[0]->kernels(w.stream->backend->isa);
  w.config = malloc((size_t)r * sizeof *w.config);
  w.seeds = malloc((size_t)r * 2 * sizeof *w.seeds);
  w.active = malloc((size_t)r * sizeof *w.active);
  for (int64_t i = 0; i < r; i++) {
    w.config[i] = *config;
    w.seeds[2 * i] = (uint32_t)(1000 + 7 * i);
    w.seeds[2 * i + 1] = 3;
    w.active[i] = 1;
  }
  w.patients = fenced(r * p * PROPOFOL_WORDS);
  w.returns = fenced(r * k);
  w.obs = fenced(r * k * t * PROPOFOL_OBS);
  w.act = fenced(r * k * t);
  w.signals = fenced(r * k * t * PROPOFOL_SIGNALS);
  return w;
}


static void world_close(world *w) {
  rgm_close(w->stream);
  free(w->config);
  free(w->seeds);
  free(w->active);
  unfence(w->patients, w->r * w->p * PROPOFOL_WORDS);
  unfence(w->returns, w->r * w->k);
  unfence(w->obs, w->r * w->k * w->t * PROPOFOL_OBS);
  unfence(w->act, w->r * w->k * w->t);
  unfence(w->signals, w->r * w->k * w->t * PROPOFOL_SIGNALS);
}


static void world_sample(world *w) {
  const rgm_cohort cohort = {
      .patients = rgm_view(w->patients, RGM_F32, w->r, w->p, PROPOFOL_WORDS, 0),
      .config = rgm_view(w->config, RGM_U8, w->r, sizeof *w->config, 0, 0),
      .seeds = rgm_view(w->seeds, RGM_U32, w->r, 2, 0, 0),
      .clock = rgm_view(&w->clock, RGM_U32, 1, 0, 0, 0),
      .active = rgm_view(w->active, RGM_U32, w->r, 0, 0, 0),
      .random = RGM_RANDOM_PATIENT + w->eval,
      .first = w->first,
  };
  w->kernels->sample(w->stream, &cohort);
  cr_assert(rgm_sync(w->stream) == RGM_OK);
}


static void world_run(world *w, rgm_control control, const float *params, int64_t size) {
  float *const none = NULL;
  const rgm_rollout rollout = {
      .returns = rgm_view(w->returns, RGM_F32, w->r, w->k, 0, 0),
      .obs = rgm_view(w->returns_only ? none : w->obs, RGM_F32, w->r, w->k, w->t, PROPOFOL_OBS),
      .act = rgm_view(w->returns_only ? none : w->act, RGM_F32, w->r, w->k, w->t, 1),
      .signals =
          rgm_view(w->returns_only ? none : w->signals, RGM_F32, w->r, w->k, w->t, PROPOFOL_SIGNALS),
      .patients = rgm_view(w->patients, RGM_F32, w->r, w->p, PROPOFOL_WORDS, 0),
      .config = rgm_view(w->config, RGM_U8, w->r, sizeof *w->config, 0, 0),
      // one set of parameters for all replicas
      .params = {(void *)(uintptr_t)params, RGM_F32, 2, {w->r, size, 1, 1}, 0},
      .seeds = rgm_view(w->seeds, RGM_U32, w->r, 2, 0, 0),
      .clock = rgm_view(&w->clock, RGM_U32, 1, 0, 0, 0),
      .active = rgm_view(w->active, RGM_U32, w->r, 0, 0, 0),
      .control = control,
      .hidden = HIDDEN,
      .random = RGM_RANDOM_NOISE + w->eval,
      .first = w->first * (w->k / w->p),
      .steps = w->t,
  };
  w->kernels->rollout(w->stream, &rollout);
  cr_assert(rgm_sync(w->stream) == RGM_OK);
}


static person world_person(const world *w, int64_t r, int64_t episode) {
  const int64_t patient = w->first + episode / (w->k / w->p);
  return draw_person(w->seeds + 2 * r, RGM_RANDOM_PATIENT + w->eval, w->clock, (uint32_t)patient,
                     w->config[r].sex);
}


static void world_words(const world *w, int64_t r, int64_t episode, int64_t t, uint32_t out[4]) {
  const int64_t item = w->first * (w->k / w->p) + episode;
  words_of(w->seeds + 2 * r, RGM_RANDOM_NOISE + w->eval, w->clock, (uint32_t)item,
           (uint32_t)(t / 2), out);
}


// ---- following an episode ----------------------------------------------------------------------

// Largest distance between what was recorded and the reference, which gets the recorded actions.
typedef struct drift {
  double ce; // relative, above 0.01 mg/L
  double lou, obs[4], returns;
  bool exact; // targets, rates and the sum of rewards have the very bits
} drift;


static void follow(const world *w, int64_t r, int64_t episode, const person *p, drift *worst) {
  const plant body = hold(p, step_min), agent = hold(&generic, step_min);
  const plant ahead = hold(&generic, 0.5);
  const int64_t at = r * w->k + episode, phase = (w->t + TARGETS - 1) / TARGETS;
  const float *obs = w->obs + at * w->t * 4, *act = w->act + at * w->t;
  const float *signals = w->signals + at * w->t * PROPOFOL_SIGNALS;
  double x[4] = {0}, model[4] = {0}, sum = 0.0;
  double *y = malloc((size_t)w->t * sizeof *y);
  float sum32 = 0.0f;
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
    sum32 -= fabsf((float)target - signals[PROPOFOL_SIGNAL_LOU]);
    sum -= fabs(target - lou);
    move(&body, x, 100.2 * (double)act[t]);
    move(&agent, model, 100.2 * (double)act[t]);
  }
  worst->exact = worst->exact && sum32 == w->returns[at];
  worsen(&worst->returns, (w->returns[at] - sum) / fmax(1.0, -sum));
  free(y);
}


static void expect_drift(const drift *d, const char *what) {
  // The float path's error. Measured over 300 patients x 2000 steps: see the test `float_path`.
  cr_expect(d->ce <= 2e-5, "%s: relative error of Ce %.3g", what, d->ce);
  cr_expect(d->lou <= 2e-5, "%s: error of LoU %.3g", what, d->lou);
  cr_expect(d->obs[0] <= 2e-5 && d->obs[1] <= 2e-5 && d->obs[2] <= 4e-5 && d->obs[3] <= 1e-7,
            "%s: errors of observations %.3g %.3g %.3g %.3g", what, d->obs[0], d->obs[1], d->obs[2],
            d->obs[3]);
  cr_expect(d->returns <= 1e-5, "%s: relative error of returns %.3g", what, d->returns);
  cr_expect(d->exact, "%s: targets, rates or returns", what);
}
