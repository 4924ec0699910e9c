// SPDX-License-Identifier: Apache-2.0
// The rows of the kernel table for targets, critics, actors and multipliers: losses of a row in
// double, written from the formulas, and references whose gradients are their central differences.
// Part of kernel_table.h.

#ifndef RGM_TESTS_KERNEL_ACTOR_H
#define RGM_TESTS_KERNEL_ACTOR_H

#include "tests/kernel_mlp.h"
#include "tests/kernel_util.h"

// ---- losses of a row, in double ----------------------------------------------------------------

typedef double (*row_loss)(const double *x, const void *about);

// the slope of a loss by x[i]
static double slope_of(row_loss loss, const double *x, int64_t count, int64_t i,
                       const void *about) {
  double moved[512];
  const double step = 1e-5;
  cr_assert(count <= 512);
  memcpy(moved, x, (size_t)count * sizeof *x);
  moved[i] = x[i] + step;
  const double above = loss(moved, about);
  moved[i] = x[i] - step;
  return (above - loss(moved, about)) / (2.0 * step);
}


// T log sum exp(x / T - bias), by its largest term
static double double_lse(const double *x, const double *bias, int64_t count, double heat) {
  double top = -INFINITY, sum = 0.0;
  for (int64_t i = 0; i < count; i++) {
    top = fmax(top, x[i] / heat - (bias != NULL ? bias[i] : 0.0));
  }
  for (int64_t i = 0; i < count; i++) {
    sum += exp(x[i] / heat - (bias != NULL ? bias[i] : 0.0) - top);
  }
  return heat * (top + log(sum));
}


static double double_log_pi(const double *z, int64_t actions, int64_t a) {
  return z[a] - double_lse(z, NULL, actions, 1.0);
}


// sum_a pi (alpha log pi - least)
typedef struct actor_about {
  int64_t actions;
  const double *least;
  double alpha;
} actor_about;

static double double_actor(const double *z, const void *about) {
  const actor_about *c = about;
  double sum = 0.0;
  for (int64_t a = 0; a < c->actions; a++) {
    const double log_pi = double_log_pi(z, c->actions, a);
    sum += exp(log_pi) * (c->alpha * log_pi - c->least[a]);
  }
  return sum;
}


static double double_entropy(const double *z, int64_t actions) {
  double sum = 0.0;
  for (int64_t a = 0; a < actions; a++) {
    sum -= exp(double_log_pi(z, actions, a)) * double_log_pi(z, actions, a);
  }
  return sum;
}


// One row of a critic's loss: x has the values of all actions, or of the row's own and of the
// sampled ones.
typedef struct critic_about {
  rgm_push push;
  bool real, down;    // a real row, a row pushed down
  int64_t count, own; // of x; the row's own action
  const double *pi;   // of rho_expect
  const double *bias; // log q of the sampled actions, x[1] on; NULL: discrete
  double y, delta, heat, beta, rows, ups, downs;
  bool gap_only;
} critic_about;

static double double_critic(const double *x, const void *about) {
  const critic_about *c = about;
  const double e = x[c->own] - c->y, size = fabs(e);
  const double huber = size <= c->delta ? 0.5 * e * e : c->delta * (size - 0.5 * c->delta);
  double push = 0.0, gap = 0.0;
  switch (c->push) {
  case RGM_PUSH_NONE:
    break;
  case RGM_PUSH_RHO_SAMPLE:
    push = x[c->own];
    break;
  case RGM_PUSH_RHO_EXPECT:
    for (int64_t a = 0; a < c->count; a++) {
      push += c->pi[a] * x[a];
    }
    break;
  default:
    push = c->bias != NULL ? double_lse(x + 1, c->bias, c->count - 1, c->heat)
                           : double_lse(x, NULL, c->count, c->heat);
  }
  gap += c->down && c->push != RGM_PUSH_NONE ? push / c->downs : 0.0;
  gap -= c->real && c->push != RGM_PUSH_NONE ? x[c->own] / c->ups : 0.0;
  return c->gap_only ? gap : huber / c->rows + c->beta * gap;
}


// where a row of a batch with `real` real rows stands
static void place_row(critic_about *c, int64_t row, int64_t rows, int64_t real) {
  const int64_t first = c->push == RGM_PUSH_LOGSUMEXP_MIX ? 0 : real;
  c->real = row < real;
  c->down = row >= first;
  c->rows = (double)rows;
  c->ups = (double)real;
  c->downs = (double)(rows - first);
}


// ---- what the rows of the table share ----------------------------------------------------------

// NaN and giants in the padding of a tensor of rows, which must not be read
static void spoil_padding(rgm_tensor t, int64_t used) {
  const int64_t columns = t.dims[t.rank - 1];
  for (int64_t k = 0; k < rgm_elements(t); k++) {
    if (k % columns >= used) {
      f32(t, k / slice(t))[k % slice(t)] = k % 2 == 0 ? 1e30f : NAN;
    }
  }
}


// numbers of actions in place of what is there
static void number_actions(rgm_tensor t, int64_t actions) {
  for (int64_t k = 0; k < rgm_elements(t); k++) {
    float *x = f32(t, k / slice(t)) + k % slice(t);
    *x = (float)((rgm_bits(*x) >> 4) % (uint32_t)actions);
  }
}


// a row of N critics of which the least counts
static void least_of(rgm_tensor q, int64_t r, int64_t b, int64_t actions, double *least) {
  for (int64_t a = 0; a < actions; a++) {
    least[a] = INFINITY;
    for (int64_t n = 0; n < q.dims[1]; n++) {
      least[a] = fmin(least[a], (double)f32(q, r)[(n * q.dims[2] + b) * q.dims[3] + a]);
    }
  }
}


static void row_of(const float *from, int64_t count, double *to) {
  for (int64_t i = 0; i < count; i++) {
    to[i] = (double)from[i];
  }
}


static rgm_tensor only(rgm_tensor t, bool when) {
  t.data = when ? t.data : NULL;
  return t;
}


// ---- soft_target: R, N, B, A (0: continuous), entropy

static const int64_t target_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 1},   {2, 2, 5, 6, 1},  {3, 3, 17, 16, 0}, {7, 5, 257, 3, 1},
    {1, 2, 256, 6, 0}, {2, 1, 33, 0, 1}, {3, 7, 5, 0, 0},   {0},
};

static void target_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], 0);
  o[1] = (operand){IN, RGM_F32, WIDE, {n[0], n[1], n[2], 16}};
  o[2] = op3(IN, RGM_F32, WIDE, n[0], n[2], 32);
  for (int k = 3; k < 6; k++) {
    o[k] = op3(IN, RGM_F32, SIGNED, n[0], n[2], 0);
  }
  o[6] = op3(IN, RGM_F32, RATE, n[0], 0, 0);
  o[7] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[8] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void target_prepare(const rgm_tensor *t, const int64_t *n) {
  spoil_padding(t[1], n[3] > 0 ? n[3] : 1);
  spoil_padding(t[2], n[3]);
  for (int64_t k = 0; k < n[0] * n[2]; k++) {
    float *ended = f32(t[5], k / n[2]) + k % n[2];
    *ended = *ended > 0.4f ? 1.0f : 0.0f;
  }
}


static void target_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_target target = {.y = t[0],
                             .q = t[1],
                             .head = only(t[2], n[3] > 0),
                             .log_pi = t[3],
                             .reward = t[4],
                             .terminated = t[5],
                             .gamma = t[6],
                             .log_alpha = only(t[7], n[4] != 0),
                             .active = t[8],
                             .actions = n[3] > 0 ? (int)n[3] : 1};
  rgm_soft_target(s, &target);
}


static void target_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[2]; k++) {
    const int64_t r = k / n[2], b = k % n[2], actions = n[3] > 0 ? n[3] : 1;
    const double alpha = n[4] != 0 ? exp((double)f32(t[7], r)[0]) : 0.0;
    double least[16], z[16], value = 0.0, size = 0.0;
    least_of(t[1], r, b, actions, least);
    row_of(f32(t[2], r) + b * 32, n[3], z);
    for (int64_t a = 0; a < actions; a++) {
      const double log_pi = n[3] > 0 ? double_log_pi(z, n[3], a) : (double)f32(t[3], r)[b];
      const double pi = n[3] > 0 ? exp(log_pi) : 1.0;
      value += pi * (least[a] - alpha * log_pi);
      size += pi * (1.0 + fabs(log_pi)) * (fabs(least[a]) + alpha * fabs(log_pi));
    }
    const double gamma = (double)f32(t[6], r)[0] * (1.0 - (double)f32(t[5], r)[b]);
    want[0][k] = (double)f32(t[4], r)[b] + gamma * value;
    tol[0][k] = eps * (fabs(want[0][k]) + 40.0 * gamma * (size + alpha));
  }
}


// ---- critic_loss: R, N, B, A, push, bits: Huber, multiplier, some rows real

static const int64_t critic_shapes[][NUMBERS] = {
    {1, 1, 1, 1, RGM_PUSH_LOGSUMEXP_MIX, 0},   {2, 2, 5, 6, RGM_PUSH_NONE, 0},
    {3, 2, 17, 6, RGM_PUSH_NONE, 1},           {7, 2, 31, 6, RGM_PUSH_LOGSUMEXP_MIX, 2},
    {7, 3, 31, 16, RGM_PUSH_LOGSUMEXP_MIX, 5}, {7, 2, 30, 6, RGM_PUSH_LOGSUMEXP_MODEL, 6},
    {7, 5, 31, 3, RGM_PUSH_RHO_SAMPLE, 4},     {7, 2, 29, 6, RGM_PUSH_RHO_EXPECT, 7},
    {1, 2, 257, 6, RGM_PUSH_RHO_EXPECT, 4},    {0},
};

static void critic_plan(operand *o, const int64_t *n) {
  o[0] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[1], n[2], 16}};
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[2] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[3] = (operand){IN, RGM_F32, WIDE, {n[0], n[1], n[2], 16}};
  o[4] = op3(IN, RGM_F32, SIGNED, n[0], n[2], 0);
  o[5] = op3(IN, RGM_F32, WIDE, n[0], n[2], 0);
  o[6] = op3(IN, RGM_F32, WIDE, n[0], n[2], 32);
  for (int k = 7; k < 10; k++) {
    o[k] = op3(IN, RGM_F32, POSITIVE, n[0], 0, 0);
  }
  o[10] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[11] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[12] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// from no real rows to more than there are
static void some_real(rgm_tensor real, int64_t rows) {
  for (int64_t r = 0; r < real.dims[0]; r++) {
    u32(real, r)[0] = u32(real, r)[0] * (uint32_t)rows / 6;
  }
}


static void critic_prepare(const rgm_tensor *t, const int64_t *n) {
  spoil_padding(t[3], n[3]);
  spoil_padding(t[6], n[3]);
  number_actions(t[4], n[3]);
  some_real(t[11], n[2]);
}


static void critic_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_critic critic = {.dq = t[0],
                             .loss = t[1],
                             .gap = t[2],
                             .q = t[3],
                             .action = t[4],
                             .y = t[5],
                             .head = t[6],
                             .delta = only(t[7], n[5] & 1),
                             .beta = t[8],
                             .temperature = t[9],
                             .log_multiplier = only(t[10], n[5] & 2),
                             .real = only(t[11], n[5] & 4),
                             .active = t[12],
                             .push = (rgm_push)n[4],
                             .actions = (int)n[3]};
  rgm_critic_loss(s, &critic);
}


// want and tol of loss, gap and gradient of one row
static void critic_want(critic_about *c, const double *x, double *loss, double *gap, double *dx,
                        double *loss_tol, double *gap_tol, double *dx_tol) {
  double most = fabs(c->y);
  for (int64_t i = 0; i < c->count; i++) {
    most = fmax(most, fabs(x[i]));
  }
  // exp loses as many digits as its argument has before the point
  const double argument = 1.0 + most / c->heat + (c->bias != NULL ? 8.0 : 0.0);
  const double shares = (c->real ? 1.0 / c->ups : 0.0) + (c->down ? 1.0 / c->downs : 0.0);
  const double error = 40.0 * eps, push = c->beta * shares;
  const double value = most + 8.0 * c->heat;
  *loss = double_critic(x, c);
  *loss_tol = error * (4.0 * most * most / c->rows + push * value);
  for (int64_t i = 0; i < c->count; i++) {
    const bool own = i == c->own, kink = own && fabs(fabs(x[i] - c->y) - c->delta) < 2e-5;
    dx[i] = slope_of(double_critic, x, c->count, i, c);
    dx_tol[i] = error * argument * (fabs(dx[i]) + (own ? most / c->rows + push : 0.0)) +
                1e-10 * (push + most / c->rows) / fmin(1.0, c->heat * c->heat) +
                (kink ? 1e-5 / c->rows : 0.0);
  }
  c->gap_only = true;
  *gap = double_critic(x, c);
  *gap_tol = error * shares * value;
  c->gap_only = false;
}


static void critic_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[1] * n[2]; k++) {
    const int64_t r = k / n[2] / n[1], row = k % (n[1] * n[2]), b = k % n[2];
    const int64_t real = n[5] & 4 ? (int64_t)u32(t[11], r)[0] : n[2];
    double q[16], z[16], pi[16];
    row_of(f32(t[3], r) + row * 16, n[3], q);
    row_of(f32(t[6], r) + b * 32, n[3], z);
    for (int64_t a = 0; a < n[3]; a++) {
      pi[a] = exp(double_log_pi(z, n[3], a));
    }
    critic_about c = {.push = (rgm_push)n[4],
                      .count = n[3],
                      .own = (int64_t)f32(t[4], r)[b],
                      .pi = pi,
                      .y = (double)f32(t[5], r)[b],
                      .delta = n[5] & 1 ? (double)f32(t[7], r)[0] : INFINITY,
                      .heat = (double)f32(t[9], r)[0],
                      .beta = (double)f32(t[8], r)[0]};
    c.beta *= n[5] & 2 ? exp((double)f32(t[10], r)[0]) : 1.0;
    place_row(&c, b, n[2], real < n[2] ? real : n[2]);
    critic_want(&c, q, &want[1][k], &want[2][k], want[0] + k * 16, &tol[1][k], &tol[2][k],
                tol[0] + k * 16);
  }
}


// ---- critic_loss with sampled actions: R, N, B, K, G, push

static const int64_t sampled_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 1, RGM_PUSH_LOGSUMEXP_MIX},   {2, 2, 5, 3, 3, RGM_PUSH_LOGSUMEXP_MIX},
    {3, 2, 17, 10, 3, RGM_PUSH_LOGSUMEXP_MIX}, {7, 3, 5, 2, 3, RGM_PUSH_LOGSUMEXP_MODEL},
    {7, 3, 6, 4, 3, RGM_PUSH_LOGSUMEXP_MIX},   {7, 2, 17, 1, 1, RGM_PUSH_RHO_SAMPLE},
    {2, 2, 257, 1, 1, RGM_PUSH_NONE},          {0},
};

static void sampled_plan(operand *o, const int64_t *n) {
  const int64_t all = n[2] * n[3] * n[4];
  o[0] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[1], n[2], 16}};
  o[1] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[1], all, 16}};
  o[2] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[3] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[4] = (operand){IN, RGM_F32, WIDE, {n[0], n[1], n[2], 16}};
  o[5] = op3(IN, RGM_F32, WIDE, n[0], n[2], 0);
  o[6] = (operand){IN, RGM_F32, WIDE, {n[0], n[1], all, 16}};
  o[7] = op3(IN, RGM_F32, WIDE, n[0], all, 0);
  for (int k = 8; k < 10; k++) {
    o[k] = op3(IN, RGM_F32, POSITIVE, n[0], 0, 0);
  }
  o[10] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[11] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[12] = op3(IN, RGM_F32, POSITIVE, n[0], 0, 0);
  o[13] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void sampled_prepare(const rgm_tensor *t, const int64_t *n) {
  spoil_padding(t[4], 1);
  spoil_padding(t[6], 1);
  some_real(t[11], n[2]);
}


static bool is_sampled(const int64_t *n) {
  return n[5] >= RGM_PUSH_LOGSUMEXP_MODEL;
}


// real and model rows in one batch
static bool is_mixed(const int64_t *n) {
  return n[1] == 3 || (n[5] != RGM_PUSH_LOGSUMEXP_MIX && n[5] != RGM_PUSH_NONE);
}


static void sampled_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_critic critic = {.dq = t[0],
                             .dsampled = only(t[1], is_sampled(n)),
                             .loss = t[2],
                             .gap = t[3],
                             .q = t[4],
                             .y = t[5],
                             .sampled = only(t[6], is_sampled(n)),
                             .log_q = t[7],
                             .beta = t[8],
                             .temperature = t[9],
                             .log_multiplier = only(t[10], n[3] % 2 == 1),
                             .real = only(t[11], is_mixed(n)),
                             .delta = only(t[12], n[3] % 2 == 0),
                             .active = t[13],
                             .push = (rgm_push)n[5],
                             .actions = 1,
                             .samples = (int)n[3]};
  rgm_critic_loss(s, &critic);
}


static void sampled_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                              const int64_t *n) {
  const int64_t each = n[3] * n[4], all = n[2] * each;
  for (int64_t k = 0; k < n[0] * n[1] * all * 16 && !is_sampled(n); k++) {
    want[1][k] = NAN; // nothing is written
  }
  for (int64_t k = 0; k < n[0] * n[1] * n[2]; k++) {
    const int64_t r = k / n[2] / n[1], net = k / n[2], row = k % (n[1] * n[2]), b = k % n[2];
    const int64_t real = is_mixed(n) ? (int64_t)u32(t[11], r)[0] : n[2];
    double x[64], bias[64], dx[64], dx_tol[64];
    x[0] = (double)f32(t[4], r)[row * 16];
    for (int64_t j = 0; j < each; j++) {
      const int64_t at = (j / n[3] * n[2] + b) * n[3] + j % n[3];
      x[1 + j] = (double)f32(t[6], r)[(net % n[1] * all + at) * 16];
      bias[j] = (double)f32(t[7], r)[at];
    }
    critic_about c = {.push = (rgm_push)n[5],
                      .count = is_sampled(n) ? 1 + each : 1,
                      .bias = bias,
                      .y = (double)f32(t[5], r)[b],
                      .delta = n[3] % 2 == 0 ? (double)f32(t[12], r)[0] : INFINITY,
                      .heat = (double)f32(t[9], r)[0],
                      .beta = (double)f32(t[8], r)[0]};
    c.beta *= n[3] % 2 == 1 ? exp((double)f32(t[10], r)[0]) : 1.0;
    place_row(&c, b, n[2], real < n[2] ? real : n[2]);
    critic_want(&c, x, &want[2][k], &want[3][k], dx, &tol[2][k], &tol[3][k], dx_tol);
    want[0][k * 16] = dx[0];
    tol[0][k * 16] = dx_tol[0];
    for (int64_t j = 0; j < each && is_sampled(n); j++) {
      const int64_t at = (j / n[3] * n[2] + b) * n[3] + j % n[3];
      want[1][(net * all + at) * 16] = dx[1 + j];
      tol[1][(net * all + at) * 16] = 2.0 * dx_tol[1 + j];
    }
  }
}


// ---- actor_loss: R, N, B, A (0: continuous)

static const int64_t actor_shapes[][NUMBERS] = {
    {1, 1, 1, 1},   {2, 2, 5, 6},  {3, 3, 17, 16}, {7, 5, 257, 3},
    {1, 2, 256, 6}, {2, 1, 33, 0}, {3, 7, 5, 0},   {0},
};

static void actor_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], 32);
  o[1] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[1], n[2], 16}};
  o[2] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], 0);
  o[3] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], 0);
  o[4] = (operand){IN, RGM_F32, WIDE, {n[0], n[1], n[2], 16}};
  o[5] = op3(IN, RGM_F32, WIDE, n[0], n[2], 32);
  o[6] = op3(IN, RGM_F32, SIGNED, n[0], n[2], 0);
  o[7] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[8] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void actor_prepare(const rgm_tensor *t, const int64_t *n) {
  spoil_padding(t[4], n[3] > 0 ? n[3] : 1);
  spoil_padding(t[5], n[3]);
}


static void actor_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_actor actor = {.dz = t[0],
                           .dq = t[1],
                           .loss = t[2],
                           .entropy = t[3],
                           .q = t[4],
                           .head = only(t[5], n[3] > 0),
                           .log_pi = t[6],
                           .log_alpha = t[7],
                           .active = t[8],
                           .actions = n[3] > 0 ? (int)n[3] : 1};
  rgm_actor_loss(s, &actor);
}


static void actor_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  const double share = 1.0 / (double)n[2];
  for (int64_t k = 0; k < rgm_elements(t[0]) && n[3] == 0; k++) {
    want[0][k] = NAN; // nothing is written
  }
  for (int64_t k = 0; k < rgm_elements(t[1]); k++) {
    want[1][k] = n[3] == 0 ? 0.0 : NAN;
  }
  for (int64_t k = 0; k < n[0] * n[2]; k++) {
    const int64_t r = k / n[2], b = k % n[2], actions = n[3] > 0 ? n[3] : 1;
    const double alpha = exp((double)f32(t[7], r)[0]);
    double least[16], z[16];
    least_of(t[4], r, b, actions, least);
    row_of(f32(t[5], r) + b * 32, n[3], z);
    if (n[3] == 0) {
      int64_t net = 0;
      while ((double)f32(t[4], r)[(net * n[2] + b) * 16] != least[0]) {
        net++;
      }
      want[1][((r * n[1] + net) * n[2] + b) * 16] = -share;
      tol[1][((r * n[1] + net) * n[2] + b) * 16] = eps * share;
      want[2][k] = share * (alpha * (double)f32(t[6], r)[b] - least[0]);
      tol[2][k] = 4.0 * eps * share * (alpha + fabs(least[0]));
      want[3][k] = NAN;
      continue;
    }
    const actor_about c = {actions, least, alpha};
    want[2][k] = share * double_actor(z, &c);
    tol[2][k] = 60.0 * eps * share * (8.0 + alpha * 8.0);
    want[3][k] = double_entropy(z, actions);
    tol[3][k] = 60.0 * eps * (1.0 + want[3][k]);
    for (int64_t a = 0; a < actions; a++) {
      const double pi = exp(double_log_pi(z, actions, a));
      want[0][k * 32 + a] = share * slope_of(double_actor, z, actions, a, &c);
      tol[0][k * 32 + a] = share * (80.0 * eps * pi * (16.0 + alpha * 20.0) + 2e-9);
    }
  }
}


// ---- dual: R, two dims, form

static const int64_t dual_shapes[][NUMBERS] = {
    {1, 1, 1, RGM_DUAL_LINEAR},
    {7, 2, 256, RGM_DUAL_EXP},
    {7, 3, 257, RGM_DUAL_LAGRANGE},
    {2, 5, 700, RGM_DUAL_LINEAR},
    {0},
};

static void dual_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[3] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[4] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[5] = op3(IN, RGM_F32, WIDE, n[0], 0, 0);
  o[6] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// some multipliers beyond 1e6
static void dual_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    f32(t[5], r)[0] *= f32(t[5], r)[0] > 4.0f ? 4.0f : 1.0f;
  }
}


static void dual_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_dual(s, t[0], t[1], t[2], t[3], t[4], t[5], t[6], 0.3f, (rgm_dual_form)n[3]);
}


// x = {log m}
typedef struct dual_about {
  rgm_dual_form form;
  double h;
} dual_about;

static double double_dual(const double *x, const void *about) {
  const dual_about *c = about;
  const double m = exp(x[0]);
  return c->form == RGM_DUAL_LINEAR ? x[0] * c->h
         : c->form == RGM_DUAL_EXP  ? m * c->h
                                    : -fmin(m, 1e6) * c->h;
}


static void dual_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                           const int64_t *n) {
  const int64_t size = n[1] * n[2];
  for (int64_t r = 0; r < n[0]; r++) {
    double all = 0.0;
    for (int64_t i = 0; i < size; i++) {
      want[1][r] += (double)0.3f * (double)f32(t[2], r)[i];
      all += (double)0.3f * fabs((double)f32(t[2], r)[i]);
    }
    const double weight = (double)f32(t[3], r)[0], target = (double)f32(t[4], r)[0];
    const double x = (double)f32(t[5], r)[0];
    const dual_about c = {(rgm_dual_form)n[3], weight * want[1][r] - target};
    tol[1][r] = block_error(size) * all;
    want[0][r] = slope_of(double_dual, &x, 1, 0, &c);
    const double factor = c.form == RGM_DUAL_LINEAR ? 1.0 : exp(x);
    tol[0][r] = want[0][r] == 0.0 ? 0.0
                                  : factor * (fabs(weight) * tol[1][r] + 1e-9 * fabs(c.h) +
                                              4.0 * eps * (fabs(c.h) + fabs(target)));
  }
}

#endif
