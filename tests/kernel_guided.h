// SPDX-License-Identifier: Apache-2.0
// The rows of the kernel table for guided reward learning: shapes, operands, and references in
// double precision. Part of kernel_table.h.

#ifndef RGM_TESTS_KERNEL_GUIDED_H
#define RGM_TESTS_KERNEL_GUIDED_H

#include "kernels/guided.h"
#include "tests/kernel_util.h"

enum { WINDOW_MEMBER = 5 };


// ---- windows: R, J, T, rows of the list (0: none), per, block

static const int64_t windows_shapes[][NUMBERS] = {
    {1, 1, 1, 0, 1, 1}, {3, 17, 5, 31, 1, 1}, {2, 300, 20, 0, 20, 10}, {7, 5, 3, 2, 1, 1}, {0},
};

static void windows_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_U32, NAN_FILL, n[0], n[1] * n[2], 0);
  o[1] = op3(IN, RGM_U32, WORDS, n[0], n[3] > 0 ? n[3] : 1, 0);
  o[2] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[3] = op3(IN, RGM_U32, WORDS, n[0], 2, 0);
  o[4] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[5] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// a list of small numbers; without one some rollouts, and now and then none
static void windows_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    const uint32_t count = u32(t[2], r)[0];
    u32(t[2], r)[0] = n[3] > 0 ? (uint32_t)n[3] : count * (uint32_t)(n[4] * n[5]);
    for (int64_t i = 0; i < n[3]; i++) {
      u32(t[1], r)[i] %= 1000;
    }
  }
}


static void windows_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_windows windows = {
      .items = t[0],
      .list = n[3] > 0 ? t[1] : (rgm_tensor){0},
      .count = t[2],
      .seeds = t[3],
      .clock = t[4],
      .active = t[5],
      .random = RGM_RANDOM_REPLAY,
      .member = WINDOW_MEMBER,
      .per = (uint32_t)n[4],
      .block = (uint32_t)n[5],
      .span = (uint32_t)(n[4] * n[5]),
      .stride = (uint32_t)n[5],
      .steps = n[2],
  };
  rgm_draw_windows(s, &windows);
}


static void windows_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                              const int64_t *n) {
  (void)tol;
  for (int64_t at = 0; at < n[0] * n[1]; at++) {
    const int64_t r = at / n[1], j = at % n[1];
    const uint64_t numbers = u32(t[2], r)[0] / (uint64_t)n[4];
    const rgm_key key = rgm_stream_key(u32(t[3], r), RGM_RANDOM_REPLAY);
    uint64_t number = 0;
    for (uint32_t attempt = 0; numbers > 0; attempt++) {
      const rgm_words w = rgm_philox(key, u32(t[4], r)[0], (uint32_t)j, attempt / 4, WINDOW_MEMBER);
      const uint32_t word[4] = {w.w0, w.w1, w.w2, w.w3};
      number = word[attempt % 4] * numbers;
      if (number % 0x100000000u >= 0x100000000u % numbers) {
        number /= 0x100000000u;
        break;
      }
    }
    number = n[3] > 0 ? u32(t[1], r)[number] : number;
    const uint64_t block = (uint64_t)n[5], start = number / block * block * (uint64_t)n[4];
    for (int64_t k = 0; k < n[2]; k++) {
      want[0][at * n[2] + k] =
          numbers > 0 ? (double)(start + number % block + (uint64_t)k * block) : 4294967295.0;
    }
  }
}


// ---- guide: R, T, M, n, weighing, proposal

static const int64_t guide_shapes[][NUMBERS] = {
    {1, 1, 2, 1, 0, 0},
    {3, 1, 200, 100, 0, 2},
    {2, 20, 17, 5, 0, 2},
    {7, 3, 31, 30, 1, 1},
    {2, 20, 300, 150, 1, 2},
    {1, 7, 257, 57, 2, 2},
    {3, 5, 40, 20, 2, 0},
    {2, 9, 33, 3, 3, 2},
    {1, 1, 4000, 2000, 3, 1},
    {1, 200, 20, 10, 0, 2},
    {0},
};

static int64_t guide_groups(const int64_t *n) {
  return n[4] == RGM_WEIGH_PREFIX ? n[1] : 1;
}

static void guide_plan(operand *o, const int64_t *n) {
  const int64_t rows = n[1] * n[2];
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], rows, 16);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[2] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[3] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], 0);
  o[4] = op3(OUT, RGM_F32, NAN_FILL, n[0], guide_groups(n), n[2]);
  o[5] = op3(IN, RGM_F32, SIGNED, n[0], rows, 16);
  o[6] = op3(IN, RGM_F32, POSITIVE, n[0], rows, 0);
  o[7] = op3(IN, RGM_F32, POSITIVE, n[0], rows, 0);
  o[8] = op3(IN, RGM_F32, POSITIVE, n[0], rows, 0);
  o[9] = op3(IN, RGM_F32, RATE, n[0], 0, 0);
  o[10] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// Densities below 1; experts live to the end, one sample in three does not; padding must not be
// read; of 200 steps rewards are up to 50.
static void guide_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t at = 0; at < n[0] * n[1] * n[2]; at++) {
    const int64_t r = at / (n[1] * n[2]), row = at % (n[1] * n[2]), j = row / n[1];
    const uint32_t bits = u32(t[7], r)[j * n[1]];
    const int64_t lives = j >= n[3] && bits % 3 == 0 ? bits / 3 % n[1] + 1 : n[1];
    f32(t[6], r)[row] *= -2.0f;
    f32(t[8], r)[row] = row % n[1] < lives ? 1.0f : 0.0f;
    f32(t[5], r)[row * 16] *= n[1] == 200 ? 50.0f : 1.0f;
    for (int64_t c = 1; c < 16; c++) {
      f32(t[5], r)[row * 16 + c] = c % 2 == 0 ? 1e30f : NAN;
    }
    if (f32(t[8], r)[row] == 0.0f) {
      f32(t[5], r)[row * 16] = NAN;
    }
    f32(t[9], r)[0] = n[4] == RGM_WEIGH_TRUNCATED && f32(t[9], r)[0] < 1.0f ? 1.0f + f32(t[9], r)[0]
                                                                            : f32(t[9], r)[0];
  }
  for (int64_t at = 0; at < n[0] * n[1] * n[2]; at++) {
    f32(t[7], at / (n[1] * n[2]))[at % (n[1] * n[2])] *= -2.0f;
  }
}


static void guide_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_guide guide = {
      .slope = t[0],
      .loss = t[1],
      .sample = t[2],
      .total = t[3],
      .weight = t[4],
      .reward = t[5],
      .log_policy = t[6],
      .log_clone = n[5] != RGM_PROPOSAL_ONE ? t[7] : (rgm_tensor){0},
      .alive = t[8],
      .bend = t[9],
      .active = t[10],
      .steps = n[1],
      .experts = n[3],
      .weighing = (rgm_weighing)n[4],
      .proposal = (rgm_proposal)n[5],
  };
  rgm_guide_reward(s, &guide);
}


static double log_add(double a, double b) {
  return fmax(a, b) + log1p(exp(-fabs(a - b)));
}


// log q of a trajectory from what policy and clone gave it
static double guide_density(const int64_t *n, bool expert, double policy, double clone) {
  if (n[5] == RGM_PROPOSAL_MIXTURE) {
    const double experts = (double)n[3] / (double)n[2];
    return log_add(log(experts) + clone, log(1.0 - experts) + policy);
  }
  return !expert ? policy : n[5] == RGM_PROPOSAL_CLONE ? clone : 0.0;
}


// x of M trajectories to weights, in place; returns log mean exp and, in *worth, 1 / sum w^2 / M
static double guide_weigh(double *x, int64_t count, rgm_weighing kind, double bend, double *worth) {
  double top = -INFINITY, sum = 0.0, squares = 0.0;
  const double power = kind == RGM_WEIGH_TEMPERED ? bend : 1.0;
  for (int64_t j = 0; j < count; j++) {
    x[j] *= power;
    top = fmax(top, x[j]);
  }
  for (int64_t j = 0; j < count; j++) {
    sum += exp(x[j] - top);
  }
  const double mean = top + log(sum / (double)count), most = mean + log(bend);
  sum = 0.0;
  for (int64_t j = 0; j < count; j++) {
    x[j] = exp((kind == RGM_WEIGH_TRUNCATED ? fmin(x[j], most) : x[j]) - top);
    sum += x[j];
  }
  for (int64_t j = 0; j < count; j++) {
    x[j] /= sum;
    squares += x[j] * x[j];
  }
  *worth = 1.0 / squares / (double)count;
  return mean / power;
}


static void guide_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  const int64_t T = n[1], M = n[2], U = guide_groups(n);
  for (int64_t r = 0; r < n[0]; r++) {
    double *x = want[4] + r * U * M, *size = keep((size_t)M * sizeof *size), worst = 0.0;
    double experts = 0.0, worth = 0.0;
    for (int64_t j = 0; j < M; j++) {
      double policy = 0.0, clone = 0.0, *total = &want[3][r * M + j];
      for (int64_t k = 0; k < T; k++) {
        const int64_t row = j * T + k;
        const bool lives = f32(t[8], r)[row] != 0.0f;
        *total += lives ? (double)f32(t[5], r)[row * 16] : 0.0;
        policy += lives ? (double)f32(t[6], r)[row] : 0.0;
        clone += lives ? (double)f32(t[7], r)[row] : 0.0;
        size[j] += lives ? fabs((double)f32(t[5], r)[row * 16]) + 5.0 : 0.0;
        x[(U > 1 ? k * M : 0) + j] =
            lives || U == 1 ? *total - guide_density(n, j < n[3], policy, clone) : -INFINITY;
      }
      worst = fmax(worst, sum_error(T) * size[j]);
      tol[3][r * M + j] = sum_error(T) * size[j];
      experts += j < n[3] ? *total / (double)n[3] : 0.0;
    }
    double mean = 0.0;
    for (int64_t g = 0; g < U; g++) {
      double one;
      mean = guide_weigh(x + g * M, M, (rgm_weighing)n[4], (double)f32(t[9], r)[0], &one);
      worth += one / (double)U;
    }

    // a relative error of weights comes from an absolute one of x
    const double relative = 4.0 * worst + 4.0 * block_error(M) + 16.0 * eps;
    want[1][r] = mean - experts;
    tol[1][r] = 8.0 * worst / (n[4] == RGM_WEIGH_TEMPERED ? (double)f32(t[9], r)[0] : 1.0) +
                relative + 4.0 * eps * (fabs(mean) + fabs(experts));
    want[2][r] = worth;
    tol[2][r] = 4.0 * relative * worth;
    for (int64_t i = 0; i < U * M; i++) {
      tol[4][r * U * M + i] = relative * x[i] + 1e-38;
    }
    for (int64_t row = 0; row < M * T; row++) {
      const int64_t j = row / T;
      const double w = x[(U > 1 ? row % T * M : 0) + j], e = j < n[3] ? 1.0 / (double)n[3] : 0.0;
      if (f32(t[8], r)[row] != 0.0f) {
        want[0][(r * M * T + row) * 16] = w - e;
        tol[0][(r * M * T + row) * 16] = relative * w + 2.0 * eps * e + 1e-38;
      }
    }
  }
}


// ---- settle: R, B, rows; worth: R, B; band: R, B, S

static const int64_t settle_shapes[][NUMBERS] = {
    {1, 2, 2}, {3, 100, 60}, {7, 257, 257}, {2, 2000, 1900}, {0},
};

static void settle_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, POSITIVE, n[0], 2, 0);
  o[1] = op3(INOUT, RGM_U32, COUNTS, n[0], 0, 0);
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], n[1], 16);
  o[3] = op3(IN, RGM_F32, RATE, n[0], 0, 0);
  o[4] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// half of the replicas settle for the first time; some have one reward everywhere
static void settle_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    const uint32_t count = u32(t[1], r)[0];
    u32(t[1], r)[0] = count < 4 ? 0 : count;
    for (int64_t b = 0; b < n[1] && count % 4 == 3; b++) {
      f32(t[2], r)[b * 16] = 0.25f;
    }
  }
}


static void settle_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_settle(s, t[0], t[1], t[2], t[3], t[4], n[2]);
}


static void settle_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    double mean = 0.0, squares = 0.0;
    for (int64_t b = 0; b < n[2]; b++) {
      mean += (double)f32(t[2], r)[b * 16] / (double)n[2];
    }
    for (int64_t b = 0; b < n[2]; b++) {
      squares += pow((double)f32(t[2], r)[b * 16] - mean, 2.0) / (double)(n[2] - 1);
    }
    const double now[2] = {mean, fmax(sqrt(squares), (double)1e-6f)};
    const double rate = u32(t[1], r)[0] == 0 ? 1.0 : (double)f32(t[3], r)[0];
    for (int k = 0; k < 2; k++) {
      const double before = (double)f32(t[0], r)[k];
      want[0][2 * r + k] = before + rate * (now[k] - before);
      tol[0][2 * r + k] = 8.0 * block_error(n[2]) + 4.0 * eps;
    }
    want[1][r] = (double)u32(t[1], r)[0] + 1.0;
  }
}


static const int64_t worth_shapes[][NUMBERS] = {{1, 1, 3}, {3, 17, 5}, {2, 300, 18}, {0}};

static void worth_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], 1);
  o[1] = op3(IN, RGM_F32, WIDE, n[0], n[1], 16);
  o[2] = op3(IN, RGM_F32, POSITIVE, n[0], 2, 0);
  o[3] = op3(IN, RGM_F32, GROUPS, n[0], 0, 0);
}


static void worth_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_worth(s, t[0], t[1], t[2], t[3]);
}


static void worth_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  for (int64_t at = 0; at < n[0] * n[1]; at++) {
    const int64_t r = at / n[1];
    const double limit = (double)f32(t[3], r)[0], sd = (double)f32(t[2], r)[1];
    const double x = (double)f32(t[1], r)[at % n[1] * 16], mean = (double)f32(t[2], r)[0];
    const double y = (x - mean) / sd;
    want[0][at] = limit > 0.0 ? fmin(fmax(y, -limit), limit) : y;
    tol[0][at] = 4.0 * eps * (fabs(x) + fabs(mean)) / sd;
  }
}


static void band_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], 1);
  o[1] = op3(IN, RGM_F32, WIDE, n[0], n[1], n[2]);
}


// seconds from 20 to 180, with both edges and far outside among them
static void band_prepare(const rgm_tensor *t, const int64_t *n) {
  static const float edges[] = {60.0f, 100.0f, 0.0f, 300.0f, 80.0f};
  for (int64_t at = 0; at < n[0] * n[1]; at++) {
    float *v = f32(t[1], at / n[1]) + at % n[1] * n[2] + 1;
    *v = at % n[1] % 3 == 0 ? edges[at % n[1] / 3 % 5] : 100.0f + 10.0f * *v;
  }
}


static void band_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_band(s, t[0], t[1], 1, 60.0f, 100.0f);
}


// as it is printed, which needs exponents that float has not
static void band_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                           const int64_t *n) {
  for (int64_t at = 0; at < n[0] * n[1]; at++) {
    const double v = (double)f32(t[1], at / n[1])[at % n[1] * n[2] + 1];
    want[0][at] = 2.0 / (1.0 + exp(-(v - 60.0))) - 2.0 / (1.0 + exp(-(v - 100.0))) - 1.0;
    tol[0][at] = 1e-6;
  }
}

#endif
