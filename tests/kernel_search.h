// SPDX-License-Identifier: Apache-2.0
// The rows of the kernel table for searches without gradients: shapes, operands, and references in
// double precision. Part of kernel_table.h.

#ifndef RGM_TESTS_KERNEL_SEARCH_H
#define RGM_TESTS_KERNEL_SEARCH_H

#include "tests/kernel_util.h"

// R, M, D

static const int64_t search_shapes[][NUMBERS] = {
    {1, 1, 1}, {2, 5, 3}, {3, 17, 4}, {7, 64, 3}, {1, 255, 5}, {2, 33, 9}, {0},
};

static void draw_plan(operand *o, const int64_t *n) {
  o[0] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[1], n[2]}};
  o[1] = (operand){IN, RGM_F32, WIDE, {n[0], n[2]}};
  o[2] = (operand){IN, RGM_F32, SIGNED, {n[0], n[2]}};
  o[3] = (operand){IN, RGM_U32, WORDS, {n[0], 2}};
  o[4] = (operand){IN, RGM_U32, COUNTS, {n[0]}}; // the clocks
  o[5] = (operand){MASK, RGM_U32, ONES, {n[0]}};
}

static void draw_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_gaussian_draw(s, t[0], t[1], t[2], t[3], t[4], RGM_RANDOM_SEARCH, t[5]);
}


// Box-Muller in double; 2^-24 of a turn is all that the angle's rounding takes
static void draw_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                           const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[1] * n[2]; k++) {
    const int64_t r = k / n[2] / n[1], m = k / n[2] % n[1], d = k % n[2];
    const rgm_key key = rgm_stream_key(u32(t[3], r), RGM_RANDOM_SEARCH);
    const rgm_words w = rgm_philox(key, u32(t[4], r)[0], (uint32_t)m, (uint32_t)(d / 4), 0);
    const uint32_t radius = d % 4 < 2 ? w.w0 : w.w2, angle = d % 4 < 2 ? w.w1 : w.w3;
    const double turn = 2.0 * acos(-1.0) * floor((double)angle / 256.0) * 0x1p-24;
    const double size = sqrt(-2.0 * log((floor((double)radius / 256.0) + 1.0) * 0x1p-24));
    const double sd = exp((double)f32(t[2], r)[d]), mean = (double)f32(t[1], r)[d];
    const double step = sd * size * (d % 2 == 0 ? cos(turn) : sin(turn));
    want[0][k] = mean + step;
    tol[0][k] = eps * (fabs(mean + step) + 16.0 * sd * size);
  }
}


static void refit_plan(operand *o, const int64_t *n) {
  o[0] = (operand){INOUT, RGM_F32, SIGNED, {n[0], n[2]}};
  o[1] = (operand){INOUT, RGM_F32, SIGNED, {n[0], n[2]}};
  o[2] = (operand){IN, RGM_F32, SIGNED, {n[0], n[1], n[2]}};
  o[3] = (operand){IN, RGM_F32, GROUPS, {n[0], n[1]}};
  o[4] = (operand){IN, RGM_F32, RATE, {n[0]}};
  o[5] = (operand){IN, RGM_F32, RATE, {n[0]}};
  o[6] = (operand){MASK, RGM_U32, ONES, {n[0]}};
}


// weights >= 0 that sum to one; some replicas have none at all
static void refit_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    float *weight = f32(t[3], r), sum = 0.0f;
    for (int64_t m = 0; m < n[1]; m++) {
      sum += weight[m] = f32(t[4], r)[0] < 0.3f ? 0.0f : fmaxf(weight[m], 0.0f);
    }
    for (int64_t m = 0; m < n[1] && sum > 0.0f; m++) {
      weight[m] /= sum;
    }
  }
}


static void refit_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_gaussian_refit(s, t[0], t[1], t[2], t[3], t[4], t[5], t[6]);
}


static void refit_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[2]; k++) {
    const int64_t r = k / n[2], d = k % n[2];
    const double rate = (double)f32(t[4], r)[0], old = (double)f32(t[0], r)[d];
    const double old_sd = exp((double)f32(t[1], r)[d]);
    double total = 0.0, centre = 0.0, variance = 0.0;
    for (int64_t m = 0; m < n[1]; m++) {
      total += (double)f32(t[3], r)[m];
      centre += (double)f32(t[3], r)[m] * (double)f32(t[2], r)[m * n[2] + d];
    }
    for (int64_t m = 0; m < n[1]; m++) {
      const double apart = (double)f32(t[2], r)[m * n[2] + d] - centre;
      variance += (double)f32(t[3], r)[m] * apart * apart;
    }
    want[0][k] = old;
    want[1][k] = (double)f32(t[1], r)[d];
    if (total > 0.0) {
      // candidates lie in [-1, 1], so errors of the sums are absolute; that of the variance counts
      // as much as the square of the centre's where the variance vanishes
      const double error = sum_error(n[1]) * total, spread = sqrt(variance);
      const double spread_error = fmin(sqrt(4.0 * error * error + 4.0 * error * variance),
                                       4.0 * error * (1.0 + variance) / (spread + 1e-30));
      const double sd = old_sd + rate * (spread - old_sd), floor = (double)f32(t[5], r)[0];
      want[0][k] = old + rate * (centre - old);
      tol[0][k] = error + 4.0 * eps;
      want[1][k] = log(fmax(sd, floor));
      tol[1][k] = (rate * spread_error + 8.0 * eps * (old_sd + spread)) / fmax(sd, floor) +
                  2.0 * eps * fabs(want[1][k]) + eps;
    }
  }
}


static void exponential_plan(operand *o, const int64_t *n) {
  o[0] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[1], n[2]}};
  o[1] = (operand){IN, RGM_F32, WIDE, {n[0], n[1], n[2]}};
  o[2] = (operand){MASK, RGM_U32, ONES, {n[0]}};
}


static void exponential_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_exponential(s, t[0], t[1], t[2]);
}


static void exponential_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                                  const int64_t *n) {
  const int64_t size = n[1] * n[2];
  for (int64_t k = 0; k < n[0] * size; k++) {
    want[0][k] = exp((double)f32(t[1], k / size)[k % size]);
    tol[0][k] = 2.0 * eps * want[0][k];
  }
}

#endif
