// SPDX-License-Identifier: Apache-2.0
// What the propofol environment should do, written again in double: philox and Box-Muller,
// Schnider's formulas, a dense matrix exponential, the Hill curve, PID and the policy.
// "Spec" is shared/spec/propofol.md; its golden numbers come from OpenPMX and 40-digit arithmetic.

#ifndef RGM_TESTS_PROPOFOL_REFERENCE_H
#define RGM_TESTS_PROPOFOL_REFERENCE_H

#include "envs/propofol.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

enum { FENCE = 64, REPLICAS = 3, TARGETS = 4, HIDDEN = 20, POLICY = 4 * 32 + 32 + 32 * 16 + 16 };

static const double step_min = 5.0 / 60.0;


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


// the layout of kernels/rng.h: key {low, high ^ stream * golden ratio}, counter {step, item, draw,
// 0}
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
  return (double)(2 * (w[2 + t % 2] >> 9) + 1) * 0x1p-24;
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
  r.cl1 = 1.89 + 0.0456 * (p->weight - 77) - 0.0681 * (r.lean - 59) + 0.0264 * (p->height - 177);
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

// x <- a x + b u over a fixed time; x = C1, C2, C3, Ce in mg/L, u in mg/min
typedef struct plant {
  double a[4][4], b[4];
} plant;


static void multiply(double c[N][N], double a[N][N], double b[N][N]) {
  double out[N][N] = {{0}};
  for (int i = 0; i < N * N * N; i++) {
    out[i / N / N][i % N] += a[i / N / N][i / N % N] * b[i / N % N][i % N];
  }
  memcpy(c, out, sizeof out);
}


// The augmented system, input as fifth state: Taylor's polynomial in Horner's form at a 2^12th of
// the time, then squared twelve times.
static plant hold(const person *p, double minutes) {
  enum { SQUARINGS = 12, ORDER = 12 };
  const rates r = schnider(p);
  double a[N][N] = {{-(r.k10 + r.k12 + r.k13), r.k12, r.k13, 0, 1 / 4.27},
                    {r.k21, -r.k21, 0, 0, 0},
                    {r.k31, 0, -r.k31, 0, 0},
                    {p->ke0, 0, 0, -p->ke0, 0}};
  double sum[N][N] = {{0}};
  for (int i = 0; i < N * N; i++) {
    a[i / N][i % N] *= ldexp(minutes, -SQUARINGS);
    sum[i / N][i % N] = i / N == i % N;
  }
  for (int order = ORDER; order >= 1; order--) {
    multiply(sum, a, sum);
    for (int i = 0; i < N * N; i++) {
      sum[i / N][i % N] = sum[i / N][i % N] / order + (i / N == i % N);
    }
  }
  for (int i = 0; i < SQUARINGS; i++) {
    multiply(sum, sum, sum);
  }
  plant out;
  for (int i = 0; i < 4; i++) {
    memcpy(out.a[i], sum[i], sizeof out.a[i]);
    out.b[i] = sum[i][4];
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
static void random_policy(float *params, uint32_t count) {
  const int wide = (HIDDEN + 15) / 16 * 16;
  float *const w2 = params + 5 * wide, *const b2 = w2 + wide * 16;
  for (int i = 0; i < POLICY; i++) {
    params[i] = NAN;
  }
  for (int h = 0; h < HIDDEN; h++) {
    for (int i = 0; i < 5; i++) {
      params[i * wide + h] = (float)(2 * toss(&count) - 1);
    }
    for (int j = 0; j < 2; j++) {
      w2[h * 16 + j] = (float)(toss(&count) - 0.5);
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

#endif
