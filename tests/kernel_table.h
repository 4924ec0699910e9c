// SPDX-License-Identifier: Apache-2.0
// The table of all kernels for the tests: shapes, operands, and a plain double-precision reference
// whose tolerance bounds the rounding of float and nothing more.

#ifndef RGM_TESTS_KERNEL_TABLE_H
#define RGM_TESTS_KERNEL_TABLE_H

#include "tests/kernel_actor.h"
#include "tests/kernel_dynamics.h"
#include "tests/kernel_gaussian.h"
#include "tests/kernel_guided.h"
#include "tests/kernel_mlp.h"
#include "tests/kernel_replay.h"
#include "tests/kernel_search.h"
#include "tests/kernel_util.h"

// ---- softmax_xent: shapes are R, B, O, classes

static const int64_t softmax_shapes[][NUMBERS] = {
    {1, 1, 16, 1},      {2, 5, 16, 2},   {3, 17, 32, 17},   {7, 255, 48, 48},
    {1, 256, 256, 250}, {2, 257, 16, 3}, {1, 1000, 16, 16}, {0},
};

static void softmax_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], 0);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[2] = op3(IN, RGM_F32, WIDE, n[0], n[1], n[2]);
  o[3] = op3(IN, RGM_F32, POSITIVE, n[0], n[1], 0);
  o[4] = op3(IN, RGM_F32, SIGNED, n[0], n[1], 0);
}


// labels from the random bits; NaN and giants in the padding, which must not be read
static void softmax_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[1]; k++) {
    const int64_t r = k / n[1], row = k % n[1];
    f32(t[3], r)[row] = (float)((u32(t[3], r)[row] >> 4) % (uint32_t)n[3]);
    for (int64_t c = n[3]; c < n[2]; c++) {
      f32(t[2], r)[row * n[2] + c] = c % 2 == 0 ? 1e30f : NAN;
    }
  }
}


static void softmax_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_softmax_xent(s, t[0], t[1], t[2], t[3], t[4], (int)n[3]);
}


static void softmax_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                              const int64_t *n) {
  const int64_t classes = n[3];
  for (int64_t k = 0; k < n[0] * n[1]; k++) {
    const int64_t r = k / n[1], row = k % n[1];
    const float *z = f32(t[2], r) + row * n[2];
    const int label = (int)f32(t[3], r)[row];
    const double weight = (double)f32(t[4], r)[row];
    double sum = 0.0, top = (double)z[0];
    for (int64_t c = 0; c < classes; c++) {
      sum += exp((double)z[c]);
      top = fmax(top, (double)z[c]);
    }
    const double error = eps * fabs(weight) * (8.0 + 2.0 * sqrt((double)classes));
    want[0][k] = weight * (log(sum) - (double)z[label]);
    tol[0][k] = error * (1.0 + top - (double)z[label]);
    for (int64_t c = 0; c < classes; c++) {
      const double p = exp((double)z[c]) / sum;
      want[1][k * n[2] + c] = weight * (p - (c == label ? 1.0 : 0.0));
      tol[1][k * n[2] + c] = error * (p * (1.0 + top - (double)z[c]) + (c == label ? 1.0 : 0.0));
    }
  }
}


// ---- policy_xent: shapes are R, G, T, I, hidden

static const int64_t policy_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 1},
    {2, 3, 255, 3, 8},
    {3, 1, 256, 4, 100},
    {1, 16, 257, 7, 128},
    {1, 3, 2000, 4, 130},
    {7, 3, 257, 1, 130},
    {2, 16, 1, 4, 8},
    {1, 2, 513, 16, 33},
    {2, 70, 5, 4, 8},
    {1, 1900, 2, 2, 8},
    {0},
};

static void policy_plan(operand *o, const int64_t *n) {
  const int64_t size = pad16(n[4]) * (n[3] + 17) + 16;
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], size, 0);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[2] = op3(SCRATCH, RGM_F32, NAN_FILL, n[0], rgm_policy_xent_work(n[1], n[2], n[3], n[4]), 0);
  o[3] = (operand){IN, RGM_F32, SIGNED, {n[0], n[1], n[2], n[3]}};
  o[4] = op3(IN, RGM_F32, LABELS, n[0], n[1], n[2]);
  o[5] = op3(IN, RGM_F32, GROUPS, n[0], n[1], 0);
  o[6] = op3(IN, RGM_F32, SIGNED, n[0], size, 0);
  o[7] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
  o[8] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
}


static void policy_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_policy_xent(s, t[0], t[1], t[2], t[3], t[8], t[4], t[5], t[6], t[7], (int)n[4]);
}


// hidden unit h before its ReLU, and the magnitude of the sum
static double policy_unit(const double *p, const float *x, int64_t h, const int64_t *n,
                          double *scale) {
  const int64_t padded = pad16(n[4]);
  double a = p[n[3] * padded + h];
  *scale = fabs(a);
  for (int64_t i = 0; i < n[3]; i++) {
    a += p[i * padded + h] * (double)x[i];
    *scale += fabs(p[i * padded + h] * (double)x[i]);
  }
  return a;
}


// logit of class 1 against class 0
static double policy_z(const double *p, const float *x, const int64_t *n, double *scale) {
  const int64_t padded = pad16(n[4]);
  const double *w2 = p + (n[3] + 1) * padded, *b2 = w2 + padded * 16;
  double z = b2[1] - b2[0], unit;
  *scale = fabs(b2[1]) + fabs(b2[0]);
  for (int64_t h = 0; h < n[4]; h++) {
    const double a = policy_unit(p, x, h, n, &unit);
    z += a > 0.0 ? (w2[h * 16 + 1] - w2[h * 16]) * a : 0.0;
    *scale += (fabs(w2[h * 16 + 1]) + fabs(w2[h * 16])) * unit;
  }
  return z;
}


static double *doubles(const float *x, int64_t count) {
  double *copy = keep((size_t)count * sizeof *copy);
  for (int64_t i = 0; i < count; i++) {
    copy[i] = (double)x[i];
  }
  return copy;
}


// the logits of a replica, as a rollout would have written them
static void policy_think(const rgm_tensor *t, const int64_t *n, int64_t r) {
  const double *p = doubles(f32(t[6], r), slice(t[6]));
  double scale;
  for (int64_t row = 0; row < n[1] * n[2]; row++) {
    f32(t[8], r)[row] = (float)policy_z(p, f32(t[3], r) + row * n[3], n, &scale);
  }
}


// the padding of hidden units is zero, as in every parameter block; that of the outputs is not read
static void policy_prepare(const rgm_tensor *t, const int64_t *n) {
  const int64_t inputs = n[3], hidden = n[4], padded = pad16(hidden);
  for (int64_t r = 0; r < n[0]; r++) {
    float *p = f32(t[6], r);
    for (int64_t k = 0; k < (inputs + 1) * padded; k++) {
      p[k] = k % padded < hidden ? p[k] : 0.0f;
    }
    for (int64_t k = hidden * 16; k < padded * 16; k++) {
      p[(inputs + 1) * padded + k] = 0.0f;
    }

    // with 4 inputs the last one changes only after 300 rows, as a target does
    for (int64_t row = 0; row < n[1] * n[2] && inputs == 4; row++) {
      f32(t[3], r)[row * inputs + inputs - 1] = f32(t[3], r)[row / 300 * 300 * inputs + inputs - 1];
    }
    policy_think(t, n, r);
  }
}


static void add(double *want, double *tol, int64_t at, double term, double error) {
  want[at] += term;
  tol[at] += block_error(RGM_ROW_BLOCK) * fabs(term) + error;
}


// the gradient of one row, whose dloss/dz is g with an error of up to `error`; where rounding may
// turn a ReLU on or off, its whole term is uncertain
static void policy_row(double *want, double *tol, const double *p, const float *x, double g,
                       double error, const int64_t *n) {
  const int64_t inputs = n[3], padded = pad16(n[4]), w2 = (inputs + 1) * padded;
  for (int64_t h = 0; h < n[4]; h++) {
    double scale;
    const double a = policy_unit(p, x, h, n, &scale), v = p[w2 + h * 16 + 1] - p[w2 + h * 16];
    const double kink = sum_error(inputs) * scale, relu = a > 0.0 ? a : 0.0;
    const double unsure = fabs(a) <= kink ? fabs(g * v) : a > 0.0 ? error * fabs(v) : 0.0;
    const double dh = a > 0.0 ? g * v : 0.0;
    add(want, tol, w2 + h * 16, -g * relu, error * relu + fabs(g) * kink);
    add(want, tol, w2 + h * 16 + 1, g * relu, error * relu + fabs(g) * kink);
    add(want, tol, inputs * padded + h, dh, unsure);
    for (int64_t i = 0; i < inputs; i++) {
      add(want, tol, i * padded + h, dh * (double)x[i], unsure * fabs((double)x[i]));
    }
  }
  add(want, tol, w2 + padded * 16, -g, error);
  add(want, tol, w2 + padded * 16 + 1, g, error);
}


static void policy_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  const int64_t size = slice(t[6]), rows = n[1] * n[2];
  for (int64_t r = 0; r < n[0]; r++) {
    const double *p = doubles(f32(t[6], r), size);
    for (int64_t row = 0; row < rows; row++) {
      const double weight = (double)f32(t[5], r)[row / n[2]] / (double)n[2];
      const double label = (double)f32(t[4], r)[row];
      const float *x = f32(t[3], r) + row * n[3];
      double scale;
      if (weight != 0.0) {
        const double z = policy_z(p, x, n, &scale), error = sum_error(n[3] + n[4] / 8) * scale;
        const double softplus = fmax(z, 0.0) + log1p(exp(-fabs(z)));
        const double g = weight * (1.0 / (1.0 + exp(-z)) - label);
        add(want[1], tol[1], r, weight * (softplus - label * z),
            fabs(weight) * (error + 8.0 * eps * (softplus + fabs(z))));
        policy_row(want[0] + r * size, tol[0] + r * size, p, x, g,
                   fabs(weight) * (0.25 * error + 4.0 * eps), n);
      }
    }
  }
}


// ---- optimisers: shapes are R, W

// what they leave of x: nothing where it is nearer to 0 than `least`
static double or_nothing(double x, double least) {
  return fabs(x) < least ? 0.0 : x;
}


static const int64_t optimiser_shapes[][NUMBERS] = {
    {1, 1}, {2, 5}, {3, 17}, {7, 255}, {1, 1000}, {2, 2561}, {0},
};

static void adam_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], 0);
  o[1] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], 0);
  o[2] = op3(INOUT, RGM_F32, POSITIVE, n[0], n[1], 0);
  o[3] = op3(INOUT, RGM_U32, COUNTS, n[0], 0, 0);
  o[4] = op3(IN, RGM_F32, SIGNED, n[0], n[1], 0);
  for (int k = 5; k < 9; k++) {
    o[k] = op3(IN, RGM_F32, k == 8 ? SMALL : RATE, n[0], 0, 0);
  }
  o[9] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void adam_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_adam(s, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9]);
}


static void adam_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                           const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[1]; k++) {
    const int64_t r = k / n[1], i = k % n[1];
    const double lr = (double)f32(t[5], r)[0], beta1 = (double)f32(t[6], r)[0];
    const double beta2 = (double)f32(t[7], r)[0], small = (double)f32(t[8], r)[0];
    const double g = (double)f32(t[4], r)[i], step = (double)u32(t[3], r)[0] + 1.0;
    const double old_m = (double)f32(t[1], r)[i], old_v = (double)f32(t[2], r)[i];
    const double m = or_nothing(beta1 * old_m + (1.0 - beta1) * g, 0x1p-100);
    const double v = or_nothing(beta2 * old_v + (1.0 - beta2) * g * g, 0x1p-126);
    const double rate = lr / (1.0 - pow(beta1, step));
    const double root = sqrt(v / (1.0 - pow(beta2, step))) + small;
    const double scale = fabs(beta1 * old_m) + fabs((1.0 - beta1) * g);
    want[0][k] = or_nothing((double)f32(t[0], r)[i] - rate * m / root, 0x1p-100);
    tol[0][k] = 2.0 * eps * fabs(want[0][k]) + 10.0 * eps * rate * scale / root;
    want[1][k] = m;
    tol[1][k] = 4.0 * eps * scale;
    want[2][k] = v;
    tol[2][k] = 5.0 * eps * v;
    want[3][r] = step;
  }
}


static void sgd_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], 0);
  o[1] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], 0);
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], n[1], 0);
  o[3] = op3(IN, RGM_F32, RATE, n[0], 0, 0);
  o[4] = op3(IN, RGM_F32, RATE, n[0], 0, 0);
  o[5] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void sgd_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_sgd(s, t[0], t[1], t[2], t[3], t[4], t[5]);
}


static void sgd_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                          const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[1]; k++) {
    const int64_t r = k / n[1], i = k % n[1];
    const double lr = (double)f32(t[3], r)[0], momentum = (double)f32(t[4], r)[0];
    want[1][k] = or_nothing(momentum * (double)f32(t[1], r)[i] + (double)f32(t[2], r)[i], 0x1p-100);
    tol[1][k] = 2.0 * eps * fabs(want[1][k]);
    want[0][k] = or_nothing((double)f32(t[0], r)[i] - lr * want[1][k], 0x1p-100);
    tol[0][k] = 2.0 * eps * (fabs(want[0][k]) + lr * fabs(want[1][k]));
  }
}


static void ema_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], 0);
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], n[1], 0);
  o[2] = op3(IN, RGM_F32, RATE, n[0], 0, 0);
  o[3] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void ema_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_ema(s, t[0], t[1], t[2], t[3]);
}


static void ema_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                          const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[1]; k++) {
    const int64_t r = k / n[1], i = k % n[1];
    const double target = (double)f32(t[0], r)[i], step = (double)f32(t[1], r)[i] - target;
    want[0][k] = or_nothing(target + (double)f32(t[2], r)[0] * step, 0x1p-100);
    tol[0][k] = 2.0 * eps * (fabs(want[0][k]) + fabs(step));
  }
}


// ---- data

// R, then the other dims
static const int64_t sum_shapes[][NUMBERS] = {
    {1, 1, 1, 1},    {2, 5, 1, 1},    {3, 16, 16, 1}, {7, 257, 1, 1},  {1, 513, 1, 1},
    {2, 3, 1000, 1}, {1, 2305, 1, 1}, {3, 7, 11, 13}, {2, 5000, 1, 1}, {0},
};

static void sum_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[1] = (operand){IN, RGM_F32, SIGNED, {n[0], n[1], n[2], n[3]}};
}


static void sum_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_sum(s, t[0], t[1], 0.3f);
}


static void sum_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                          const int64_t *n) {
  const int64_t size = slice(t[1]);
  for (int64_t k = 0; k < n[0] * size; k++) {
    const double term = (double)0.3f * (double)f32(t[1], k / size)[k % size];
    want[0][k / size] += term;
    tol[0][k / size] += block_error(size) * fabs(term);
  }
}


// R, N
static const int64_t row_shapes[][NUMBERS] = {
    {1, 1}, {2, 2}, {3, 17}, {7, 255}, {1, 256}, {2, 257}, {1, 1000}, {3, 2000}, {0},
};

static void quantile_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[1] = op3(SCRATCH, RGM_F32, NAN_FILL, n[0], n[1], 0);
  o[2] = op3(IN, RGM_F32, n[1] % 2 == 0 ? TIES : SIGNED, n[0], n[1], 0);
  o[3] = op3(IN, RGM_F32, RATE, n[0], 0, 0);
}


static void quantile_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_quantile(s, t[0], t[1], t[2], t[3]);
}


static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


static void quantile_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                               const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    double *x = doubles(f32(t[2], r), n[1]);
    qsort(x, (size_t)n[1], sizeof *x, by_value);
    const double position = (double)f32(t[3], r)[0] * (double)(n[1] - 1);
    const int64_t at = (int64_t)floor(position), above = at + 1 < n[1] ? at + 1 : at;
    want[0][r] = x[at] + (position - (double)at) * (x[above] - x[at]);
    tol[0][r] = 4.0 * eps * (fabs(x[at]) + fabs(x[above]));
  }
}


static void select_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], 0);
  o[1] = op3(IN, RGM_F32, TIES, n[0], n[1], 0);
  o[2] = op3(IN, RGM_F32, TIES, n[0], 0, 0);
}


static void select_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_select(s, t[0], t[1], t[2]);
}


static void select_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  (void)tol;
  for (int64_t r = 0; r < n[0]; r++) {
    int count = 0;
    for (int64_t i = 0; i < n[1]; i++) {
      count += f32(t[1], r)[i] >= f32(t[2], r)[0] ? 1 : 0;
    }
    for (int64_t i = 0; i < n[1]; i++) {
      want[0][r * n[1] + i] =
          f32(t[1], r)[i] >= f32(t[2], r)[0] ? (double)(1.0f / (float)count) : 0.0;
    }
  }
}


// R, N, E: no place too few, none too many, too few
static const int64_t enlist_shapes[][NUMBERS] = {
    {1, 1, 1}, {2, 5, 5}, {3, 17, 40}, {7, 255, 200}, {1, 32, 9}, {7, 70, 46}, {0},
};

static void enlist_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_U32, WORDS, n[0], n[2], 0);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], 0);
  o[2] = op3(OUT, RGM_U32, NAN_FILL, n[0], 0, 0);
  o[3] = op3(INOUT, RGM_U32, COUNTS, n[0], 0, 0);
  o[4] = op3(IN, RGM_F32, GROUPS, n[0], n[1], 0);
  o[5] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void enlist_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_enlist(s, t[0], t[1], t[2], t[3], t[4], t[5]);
}


static void enlist_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  (void)tol;
  for (int64_t r = 0; r < n[0]; r++) {
    int64_t count = 0;
    for (int64_t k = 0; k < n[2]; k++) {
      want[0][r * n[2] + k] = (double)u32(t[0], r)[k];
    }
    for (int64_t i = 0; i < n[1]; i++) {
      if (f32(t[4], r)[i] != 0.0f && count++ < n[2]) {
        want[0][r * n[2] + count - 1] = (double)i;
        want[1][r * n[2] + count - 1] = (double)f32(t[4], r)[i];
      }
    }
    for (int64_t k = 0; k < n[2] && count > n[2]; k++) {
      want[1][r * n[2] + k] = NAN;
    }
    want[2][r] = (double)count;
    want[3][r] = (double)u32(t[3], r)[0] + (double)(count > n[2] ? count - n[2] : 0);
  }
}


// R, rows (0: none), columns, last_dim, member
static const int64_t uniform_shapes[][NUMBERS] = {
    {1, 1, 16, 1, 0},    {2, 0, 16, 7, 3},     {3, 17, 32, 31, 1},
    {7, 255, 16, 16, 2}, {1, 64, 256, 250, 5}, {0},
};

static void uniform_plan(operand *o, const int64_t *n) {
  o[0] = n[1] > 0 ? op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2])
                  : op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], 0);
  o[1] = op3(IN, RGM_U32, WORDS, n[0], 2, 0);
}


static void uniform_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_uniform(s, t[0], t[1], RGM_RANDOM_INIT, (uint32_t)n[4], -0.25f, 0.75f, n[3]);
}


static void uniform_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                              const int64_t *n) {
  for (int64_t k = 0; k < rgm_elements(t[0]); k++) {
    const int64_t at = k % slice(t[0]), row = at / n[2], c = at % n[2];
    if (c < n[3]) {
      const rgm_key key = rgm_stream_key(u32(t[1], k / slice(t[0])), RGM_RANDOM_INIT);
      const uint32_t item = (uint32_t)(row * n[3] + c);
      const uint32_t word = rgm_philox(key, 0, item, 0, (uint32_t)n[4]).w0;
      want[0][k] = floor((double)word / 256.0) * 0x1p-24 - 0.25;
      tol[0][k] = eps;
    }
  }
}


// R
static const int64_t replica_shapes[][NUMBERS] = {{1}, {2}, {3}, {7}, {64}, {0}};

static void retire_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_U32, COUNTS, n[0], 0, 0);
  o[1] = op3(IN, RGM_F32, TIES, n[0], 0, 0);
  o[2] = op3(IN, RGM_F32, TIES, n[0], 0, 0);
}


// some at their bound, some NaN, which is never past it
static void retire_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    if (u32(t[0], r)[0] >= 6) {
      f32(t[2], r)[0] = f32(t[1], r)[0];
    } else if (u32(t[0], r)[0] == 5) {
      f32(t[1], r)[0] = NAN;
    }
  }
}


static void retire_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_retire(s, t[0], t[1], t[2]);
}


static void retire_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  (void)tol;
  for (int64_t r = 0; r < n[0]; r++) {
    want[0][r] = f32(t[1], r)[0] >= f32(t[2], r)[0] ? 0.0 : (double)u32(t[0], r)[0];
  }
}


static void advance_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_U32, COUNTS, n[0], 0, 0);
  o[1] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void advance_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_advance(s, t[0], t[1]);
}


static void advance_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                              const int64_t *n) {
  (void)tol;
  for (int64_t r = 0; r < n[0]; r++) {
    want[0][r] = (double)u32(t[0], r)[0] + 1.0;
  }
}


static void nonfinite_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_U32, NAN_FILL, n[0], 0, 0);
  o[1] = (operand){IN, RGM_F32, WILD, {n[0], n[1], n[2], n[3]}};
}


static void nonfinite_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_nonfinite(s, t[0], t[1]);
}


static void nonfinite_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                                const int64_t *n) {
  (void)tol;
  const int64_t size = slice(t[1]);
  for (int64_t k = 0; k < n[0] * size; k++) {
    want[0][k / size] += isfinite(f32(t[1], k / size)[k % size]) ? 0.0 : 1.0;
  }
}


static void triad_plan(operand *o, const int64_t *n) {
  for (int k = 0; k < 3; k++) {
    o[k] =
        (operand){k == 0 ? OUT : IN, RGM_F32, k == 0 ? NAN_FILL : SIGNED, {n[0], n[1], n[2], n[3]}};
  }
}


static void triad_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_triad(s, t[0], t[1], t[2], -1.75f);
}


static void triad_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  const int64_t size = slice(t[1]);
  for (int64_t k = 0; k < n[0] * size; k++) {
    const double x = f32(t[1], k / size)[k % size], z = f32(t[2], k / size)[k % size];
    want[0][k] = x - 1.75 * z;
    tol[0][k] = 0x1p-24 * fabs(want[0][k]); // one rounding
  }
}


// every row of rgm_backend that computes
static const kernel_case kernels[] = {
    {"linear", linear_plan, linear_run, linear_reference, NULL, mlp_shapes},
    {"act_backward", act_backward_plan, act_backward_run, act_backward_reference, NULL, mlp_shapes},
    {"linear_dx", linear_dx_plan, linear_dx_run, linear_dx_reference, NULL, mlp_shapes},
    {"linear_dw", linear_dw_plan, linear_dw_run, linear_dw_reference, NULL, mlp_shapes},
    {"linear_dw_adam", fused_plan, fused_run, fused_reference, NULL, mlp_shapes},
    {"softmax_xent", softmax_plan, softmax_run, softmax_reference, softmax_prepare, softmax_shapes},
    {"policy_xent", policy_plan, policy_run, policy_reference, policy_prepare, policy_shapes},
    {"soft_target", target_plan, target_run, target_reference, target_prepare, target_shapes},
    {"critic_loss", critic_plan, critic_run, critic_reference, critic_prepare, critic_shapes},
    {"critic_sampled", sampled_plan, sampled_run, sampled_reference, sampled_prepare,
     sampled_shapes},
    {"actor_loss", actor_plan, actor_run, actor_reference, actor_prepare, actor_shapes},
    {"dual", dual_plan, dual_run, dual_reference, dual_prepare, dual_shapes},
    {"action_draw", action_plan, action_run, action_reference, action_prepare, action_shapes},
    {"action_backward", slopes_plan, slopes_run, slopes_reference, slopes_prepare, slopes_shapes},
    {"action_score", score_plan, score_run, score_reference, score_prepare, score_shapes},
    {"schedule", schedule_plan, schedule_run, schedule_reference, schedule_prepare,
     schedule_shapes},
    {"gaussian_nll", nll_plan, nll_run, nll_reference, nll_prepare, nll_shapes},
    {"mse", mse_plan, mse_run, mse_reference, mse_prepare, nll_shapes},
    {"replay_append", append_plan, append_run, append_reference, append_prepare, append_shapes},
    {"replay_gather", gather_plan, gather_run, gather_reference, gather_prepare, gather_shapes},
    {"normalise", scale_plan, scale_run, scale_reference, NULL, scale_shapes},
    {"concat", concat_plan, concat_run, concat_reference, concat_prepare, concat_shapes},
    {"clip_norm", clip_plan, clip_run, clip_reference, clip_prepare, clip_shapes},
    {"adam", adam_plan, adam_run, adam_reference, NULL, optimiser_shapes},
    {"sgd", sgd_plan, sgd_run, sgd_reference, NULL, optimiser_shapes},
    {"ema", ema_plan, ema_run, ema_reference, NULL, optimiser_shapes},
    {"gaussian_draw", draw_plan, draw_run, draw_reference, NULL, search_shapes},
    {"gaussian_refit", refit_plan, refit_run, refit_reference, refit_prepare, search_shapes},
    {"exponential", exponential_plan, exponential_run, exponential_reference, NULL, search_shapes},
    {"sum", sum_plan, sum_run, sum_reference, NULL, sum_shapes},
    {"quantile", quantile_plan, quantile_run, quantile_reference, NULL, row_shapes},
    {"select", select_plan, select_run, select_reference, NULL, row_shapes},
    {"enlist", enlist_plan, enlist_run, enlist_reference, NULL, enlist_shapes},
    {"uniform", uniform_plan, uniform_run, uniform_reference, NULL, uniform_shapes},
    {"advance", advance_plan, advance_run, advance_reference, NULL, replica_shapes},
    {"retire", retire_plan, retire_run, retire_reference, retire_prepare, replica_shapes},
    {"nonfinite", nonfinite_plan, nonfinite_run, nonfinite_reference, NULL, sum_shapes},
    {"triad", triad_plan, triad_run, triad_reference, NULL, sum_shapes},
    {"route", route_plan, route_run, route_reference, NULL, route_shapes},
    {"model", model_plan, model_run, model_reference, model_prepare, model_shapes},
    {"appraise", appraise_plan, appraise_run, appraise_reference, appraise_prepare,
     appraise_shapes},
    {"decay_weights", decay_plan, decay_run, decay_reference, NULL, decay_shapes},
    {"adopt", adopt_plan, adopt_run, adopt_reference, adopt_prepare, decay_shapes},
    {"windows", windows_plan, windows_run, windows_reference, windows_prepare, windows_shapes},
    {"guide", guide_plan, guide_run, guide_reference, guide_prepare, guide_shapes},
    {"settle", settle_plan, settle_run, settle_reference, settle_prepare, settle_shapes},
    {"worth", worth_plan, worth_run, worth_reference, NULL, worth_shapes},
    {"band", band_plan, band_run, band_reference, band_prepare, worth_shapes},
};

enum { KERNELS = sizeof kernels / sizeof *kernels };


static const kernel_case *find_kernel(const char *name) {
  for (int k = 0; k < KERNELS; k++) {
    if (strcmp(kernels[k].name, name) == 0) {
      return &kernels[k];
    }
  }
  cr_assert_fail("no kernel %s", name);
  return NULL;
}

#endif
