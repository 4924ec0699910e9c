// SPDX-License-Identifier: Apache-2.0
// The rows of the kernel table for layers: shapes, operands, and references in double precision.
// Part of kernel_table.h.

#ifndef RGM_TESTS_KERNEL_MLP_H
#define RGM_TESTS_KERNEL_MLP_H

#include "kernels/dynamics.h"
#include "tests/kernel_util.h"

// ---- MLP: shapes are R, B, I, O, act

static const int64_t mlp_shapes[][NUMBERS] = {
    {1, 1, 1, 16, RGM_LINEAR},    {2, 5, 3, 32, RGM_RELU},
    {3, 17, 4, 48, RGM_TANH},     {7, 255, 17, 16, RGM_RELU},
    {1, 256, 64, 256, RGM_TANH},  {2, 257, 3, 16, RGM_SIGMOID},
    {3, 513, 1, 48, RGM_LINEAR},  {1, 1000, 17, 32, RGM_RELU},
    {7, 5, 64, 272, RGM_SIGMOID}, {2, 1, 4, 16, RGM_TANH},
    {3, 66, 17, 48, RGM_SIGMOID}, {1, 3, 6, 16, RGM_LINEAR},
    {1, 2, 300, 208, RGM_RELU},   {1, 1, 17, 144, RGM_TANH},
    {1, 42, 300, 80, RGM_RELU},   {0},
};

static double activate(double z, int64_t act) {
  switch (act) {
  case RGM_RELU:
    return z > 0.0 ? z : 0.0;
  case RGM_TANH:
    return tanh(z);
  case RGM_SIGMOID:
    return 1.0 / (1.0 + exp(-z));
  default:
    return z;
  }
}


// act'(z) from y = act(z)
static double slope(double y, int64_t act) {
  const double slopes[] = {1.0, y > 0.0 ? 1.0 : 0.0, 1.0 - y * y, y * (1.0 - y)};
  return slopes[act];
}


static void linear_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[3]);
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], n[2], n[3]);
  o[3] = op3(IN, RGM_F32, SIGNED, n[0], n[3], 0);
}


static void linear_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_linear(s, t[0], t[1], t[2], t[3], (rgm_act)n[4]);
}


static void linear_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  const int64_t inputs = n[2], outputs = n[3];
  for (int64_t k = 0; k < n[0] * n[1] * outputs; k++) {
    const int64_t r = k / outputs / n[1], row = k / outputs % n[1], o = k % outputs;
    const float *x = f32(t[1], r) + row * inputs, *w = f32(t[2], r) + o, *b = f32(t[3], r) + o;
    double z = (double)*b, scale = fabs((double)*b);
    for (int64_t i = 0; i < inputs; i++) {
      const double term = (double)x[i] * (double)w[i * outputs];
      z += term;
      scale += fabs(term);
    }
    want[0][k] = activate(z, n[4]);
    tol[0][k] = sum_error(inputs) * scale + (n[4] >= RGM_TANH ? 4.0 * eps * fabs(want[0][k]) : 0.0);
  }
}


static void act_backward_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], n[3]);
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[3]);
}


static void act_backward_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_act_backward(s, t[0], t[1], (rgm_act)n[4]);
}


static void act_backward_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                                   const int64_t *n) {
  const int64_t size = n[1] * n[3];
  for (int64_t k = 0; k < n[0] * size; k++) {
    const double dz = (double)f32(t[0], k / size)[k % size];
    const double y = (double)f32(t[1], k / size)[k % size];
    want[0][k] = dz * slope(y, n[4]);
    tol[0][k] = n[4] >= RGM_TANH ? 4.0 * eps * fabs(want[0][k]) : 0.0;
  }
}


static void linear_dx_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[3]);
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], n[2], n[3]);
  o[3] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
}


// without an activation there is no tensor of it either
static void linear_dx_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_linear_dx(s, t[0], t[1], t[2], n[4] == RGM_LINEAR ? (rgm_tensor){0} : t[3], (rgm_act)n[4]);
}


static void linear_dx_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                                const int64_t *n) {
  const int64_t inputs = n[2], outputs = n[3];
  for (int64_t k = 0; k < n[0] * n[1] * inputs; k++) {
    const int64_t r = k / inputs / n[1], row = k / inputs % n[1];
    const float *dz = f32(t[1], r) + row * outputs, *w = f32(t[2], r) + k % inputs * outputs;
    for (int64_t o = 0; o < outputs; o++) {
      const double term = (double)dz[o] * (double)w[o];
      want[0][k] += term;
      tol[0][k] += sum_error(outputs) * fabs(term);
    }
    const double factor = slope((double)f32(t[3], r)[k % (n[1] * inputs)], n[4]);
    want[0][k] *= factor;
    tol[0][k] = tol[0][k] * fabs(factor) + (n[4] >= RGM_TANH ? 4.0 * eps * fabs(want[0][k]) : 0.0);
  }
}


static void linear_dw_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], n[3]);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[3], 0);
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[3] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[3]);
}


static void linear_dw_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_linear_dw(s, t[0], t[1], t[2], t[3]);
}


static void linear_dw_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                                const int64_t *n) {
  const int64_t inputs = n[2], outputs = n[3];
  const double error = block_error(n[1]);
  for (int64_t k = 0; k < n[0] * n[1] * outputs; k++) {
    const int64_t r = k / outputs / n[1], row = k / outputs % n[1], o = k % outputs;
    const double dz = (double)f32(t[3], r)[row * outputs + o];
    const float *x = f32(t[2], r) + row * inputs;
    want[1][r * outputs + o] += dz;
    tol[1][r * outputs + o] += error * fabs(dz);
    for (int64_t i = 0; i < inputs; i++) {
      const int64_t at = (r * inputs + i) * outputs + o;
      want[0][at] += (double)x[i] * dz;
      tol[0][at] += error * fabs((double)x[i] * dz);
    }
  }
}


// ---- linear_dw_adam: the rows linear_dw, decay_weights, adam, ema one after the other, to the bit

static void fused_plan(operand *o, const int64_t *n) {
  for (int k = 0; k < 4; k++) {
    o[k] = op3(INOUT, RGM_F32, k == 2 ? POSITIVE : SIGNED, n[0], n[2] + 1, n[3]); // p, m, v, target
  }
  o[4] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[5] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[3]);
  o[6] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  for (int k = 7; k < 12; k++) {
    o[k] = op3(IN, RGM_F32, k == 10 ? SMALL : RATE, n[0], 0, 0); // lr, betas, eps, average
  }
  o[12] = op3(IN, RGM_F32, SMALL, n[0], 0, 0); // decay
  o[13] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// without an activation there is no average either; with tanh and sigmoid, weights decay
static void fused_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_adam_step step = {.p = t[0],
                              .m = t[1],
                              .v = t[2],
                              .target = n[4] == RGM_LINEAR ? (rgm_tensor){0} : t[3],
                              .count = t[6],
                              .lr = t[7],
                              .beta1 = t[8],
                              .beta2 = t[9],
                              .eps = t[10],
                              .rate = t[11],
                              .decay = n[4] >= RGM_TANH ? t[12] : (rgm_tensor){0},
                              .active = t[13]};
  rgm_linear_dw_adam(s, &step, t[4], t[5]);
}


static void fused_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  (void)tol;
  const int64_t rows = n[2] + 1, size = rows * n[3];
  rgm_tensor now[4], grad = fresh(n[0], size, 0), count = fresh(n[0], 0, 0);
  for (int k = 0; k < 4; k++) {
    now[k] = fresh(n[0], size, 0);
  }
  count.dtype = RGM_U32;
  for (int64_t r = 0; r < n[0]; r++) {
    for (int k = 0; k < 4; k++) {
      memcpy(f32(now[k], r), f32(t[k], r), (size_t)size * sizeof(float));
    }
    u32(count, r)[0] = u32(t[6], r)[0];
  }
  rgm_tensor dw = rgm_view(f32(grad, 0), RGM_F32, n[0], n[2], n[3], 0);
  rgm_tensor db = rgm_view(f32(grad, 0) + n[2] * n[3], RGM_F32, n[0], n[3], 0, 0);
  dw.stride0 = db.stride0 = size;
  rgm_linear_dw(host_stream(), dw, db, t[4], t[5]);
  if (n[4] >= RGM_TANH) {
    rgm_tensor weight = t[0];
    weight.dims[1]--;
    rgm_decay_weights(host_stream(), dw, weight, t[12], t[13]);
  }
  rgm_adam(host_stream(), now[0], now[1], now[2], count, grad, t[7], t[8], t[9], t[10], t[13]);
  if (n[4] != RGM_LINEAR) {
    rgm_ema(host_stream(), now[3], now[0], t[11], t[13]);
  }
  for (int64_t k = 0; k < 4 * n[0] * size; k++) {
    want[k / n[0] / size][k % (n[0] * size)] =
        (double)f32(now[k / n[0] / size], 0)[k % (n[0] * size)];
  }
}

#endif
