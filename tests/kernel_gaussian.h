// SPDX-License-Identifier: Apache-2.0
// The rows of the kernel table for tanh-Gaussian policies and ensembles: losses of an element in
// double, written from the formulas, and references whose gradients are their central differences.
// Part of kernel_table.h.

#ifndef RGM_TESTS_KERNEL_GAUSSIAN_H
#define RGM_TESTS_KERNEL_GAUSSIAN_H

#include "tests/kernel_actor.h"

// a dim of a tanh-Gaussian: x = {mu, raw log sigma}
typedef struct action_about {
  double low, high, noise, scale, shift, da, share;
} action_about;

static double double_softplus(double x) {
  return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}


static double double_action(double mu, double raw, const action_about *c, double *log_pi) {
  const double log_sd = fmin(fmax(raw, c->low), c->high), u = mu + exp(log_sd) * c->noise;
  *log_pi = -0.5 * c->noise * c->noise - log_sd - 0.5 * log(2.0 * acos(-1.0)) -
            2.0 * (log(2.0) - u - double_softplus(-2.0 * u)) - log(c->scale);
  return c->scale * tanh(u) + c->shift;
}


static double double_action_loss(const double *x, const void *about) {
  const action_about *c = about;
  double log_pi;
  const double a = double_action(x[0], x[1], c, &log_pi);
  return c->da * a + c->share * log_pi;
}


// x = {mu, raw log-variance, max, min}
typedef struct nll_about {
  double target, share;
} nll_about;

static double double_nll(const double *x, const void *about) {
  const nll_about *c = about;
  const double w = x[2] - double_softplus(x[2] - x[1]), v = x[3] + double_softplus(w - x[3]);
  return c->share * ((x[0] - c->target) * (x[0] - c->target) * exp(-v) + v);
}


// ---- action_draw: R, B, K, D, draw, choices

static const int64_t action_shapes[][NUMBERS] = {
    {1, 1, 1, 1, RGM_DRAW_POLICY},     {2, 5, 3, 4, RGM_DRAW_POLICY},
    {3, 17, 10, 6, RGM_DRAW_POLICY},   {7, 31, 1, 9, RGM_DRAW_MEAN},
    {1, 257, 1, 2, RGM_DRAW_POLICY},   {2, 5, 7, 5, RGM_DRAW_UNIFORM},
    {1, 1, 1, 1, RGM_DRAW_POLICY, 1},  {3, 17, 10, 1, RGM_DRAW_POLICY, 6},
    {7, 31, 1, 1, RGM_DRAW_MEAN, 2},   {1, 257, 3, 1, RGM_DRAW_POLICY, 17},
    {2, 5, 7, 1, RGM_DRAW_UNIFORM, 5}, {0},
};

// of classes there are logits
static int64_t head_columns(const int64_t *n) {
  return pad16(n[5] > 0 ? n[5] : 2 * n[3]);
}


static void action_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1] * n[2], n[3]);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1] * n[2], 0);
  o[2] = op3(IN, RGM_F32, WIDE, n[0], n[1], head_columns(n));
  o[3] = op3(IN, RGM_F32, POSITIVE, n[0], n[3], 0);
  o[4] = op3(IN, RGM_F32, SIGNED, n[0], n[3], 0);
  o[5] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[6] = op3(IN, RGM_F32, POSITIVE, n[0], 0, 0);
  o[7] = op3(IN, RGM_U32, WORDS, n[0], 2, 0);
  o[8] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[9] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// half of the logarithms lie below, some above; mu within +-4
static void action_prepare(const rgm_tensor *t, const int64_t *n) {
  const int64_t columns = head_columns(n);
  for (int64_t r = 0; r < n[0]; r++) {
    f32(t[5], r)[0] -= 2.0f;
    for (int64_t i = 0; i < n[1] * columns; i++) {
      f32(t[2], r)[i] *= 0.5f;
    }
  }
  spoil_padding(t[2], n[5] > 0 ? n[5] : 2 * n[3]);
}


static rgm_policy_draw action_policy(const rgm_tensor *t, rgm_draw draw, int64_t choices) {
  return (rgm_policy_draw){.act = t[0],
                           .log_pi = t[1],
                           .head = t[2],
                           .scale = t[3],
                           .shift = t[4],
                           .low = t[5],
                           .high = t[6],
                           .seeds = t[7],
                           .clock = t[8],
                           .active = t[9],
                           .random = RGM_RANDOM_ACTION,
                           .member = 3,
                           .draw = draw,
                           .choices = (int)choices};
}


static void action_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_policy_draw draw = action_policy(t, (rgm_draw)n[4], n[5]);
  rgm_action_draw(s, &draw);
}


// what dim d of sample m draws, in double; *size bounds the noise
static double double_noise(const rgm_tensor *t, int64_t r, int64_t m, int64_t d, rgm_draw draw,
                           double *size) {
  const rgm_key key = rgm_stream_key(u32(t[7], r), RGM_RANDOM_ACTION);
  const rgm_words w = rgm_philox(key, u32(t[8], r)[0], (uint32_t)m, (uint32_t)(d / 4), 3);
  const uint32_t word[4] = {w.w0, w.w1, w.w2, w.w3};
  *size = draw == RGM_DRAW_POLICY ? 1.0 : 0.0;
  if (draw == RGM_DRAW_UNIFORM) {
    return 2.0 * floor((double)word[d % 4] / 256.0) * 0x1p-24 - 1.0;
  }
  const uint32_t radius = word[d % 4 < 2 ? 0 : 2], angle = word[d % 4 < 2 ? 1 : 3];
  const double turn = 2.0 * acos(-1.0) * floor((double)angle / 256.0) * 0x1p-24;
  *size *= sqrt(-2.0 * log((floor((double)radius / 256.0) + 1.0) * 0x1p-24));
  return *size * (d % 2 == 0 ? cos(turn) : sin(turn));
}


static action_about action_row(const rgm_tensor *t, int64_t r, int64_t m, int64_t d, rgm_draw draw,
                               double *size) {
  return (action_about){.low = (double)f32(t[5], r)[0],
                        .high = (double)f32(t[6], r)[0],
                        .noise = double_noise(t, r, m, d, draw, size),
                        .scale = (double)f32(t[3], r)[d],
                        .shift = (double)f32(t[4], r)[d]};
}


// the class of sample m at cumulative probability u; *near: the next one is as good, in float
static int double_class(const float *z, int64_t choices, rgm_draw draw, double u, double *log_pi,
                        bool *near) {
  double sum = 0.0, all = 0.0;
  int which = 0;
  for (int64_t a = 0; a < choices; a++) {
    all += exp((double)z[a] - (double)z[0]);
    which = draw == RGM_DRAW_MEAN && z[a] > z[which] ? (int)a : which;
  }
  *near = false;
  for (int64_t a = 0; a < choices && draw == RGM_DRAW_POLICY; a++) {
    sum += exp((double)z[a] - (double)z[0]) / all;
    *near = *near || fabs(sum - u) < 40.0 * eps;
    which = (int)a;
    if (sum > u) {
      break;
    }
  }
  *log_pi = (double)z[which] - (double)z[0] - log(all);
  return which;
}


static void class_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  const int64_t samples = n[1] * n[2];
  for (int64_t k = 0; k < n[0] * samples; k++) {
    const int64_t r = k / samples, m = k % samples;
    const float *z = f32(t[2], r) + m / n[2] * head_columns(n);
    const rgm_key key = rgm_stream_key(u32(t[7], r), RGM_RANDOM_ACTION);
    const rgm_words w = rgm_philox(key, u32(t[8], r)[0], (uint32_t)m, 0, 3);
    const double u = floor((double)w.w0 / 256.0) * 0x1p-24;
    bool near = false;
    if (n[4] == RGM_DRAW_UNIFORM) {
      want[0][k] = floor(u * (double)n[5]);
      want[1][k] = -log((double)n[5]);
    } else {
      want[0][k] = double_class(z, n[5], (rgm_draw)n[4], u, &want[1][k], &near);
    }
    tol[0][k] = near ? 1.0 : 0.0;
    tol[1][k] = near ? INFINITY : 60.0 * eps * (1.0 + fabs(want[1][k]));
  }
}


static void action_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  if (n[5] > 0) {
    class_reference(t, want, tol, n);
    return;
  }
  const int64_t columns = pad16(2 * n[3]), samples = n[1] * n[2];
  for (int64_t k = 0; k < n[0] * samples * n[3]; k++) {
    const int64_t at = k / n[3], r = at / samples, m = at % samples, d = k % n[3];
    const float *head = f32(t[2], r) + m / n[2] * columns;
    double size, log_pi;
    const action_about c = action_row(t, r, m, d, (rgm_draw)n[4], &size);
    if (n[4] == RGM_DRAW_UNIFORM) {
      want[0][k] = c.shift + c.scale * c.noise;
      tol[0][k] = 2.0 * eps * (fabs(c.shift) + c.scale);
      want[1][at] -= log(2.0 * c.scale);
      tol[1][at] += 16.0 * eps;
      continue;
    }
    const double mu = (double)head[d], raw = (double)head[n[3] + d];
    want[0][k] = double_action(mu, raw, &c, &log_pi);
    const double sd = exp(fmin(fmax(raw, c.low), c.high)), u = mu + sd * c.noise;
    const double error = eps * (20.0 * sd * size + 2.0 * fabs(u)), t2 = tanh(u) * tanh(u);
    tol[0][k] = 4.0 * eps * (c.scale + fabs(c.shift)) + c.scale * error * (1.0 - t2 + error);
    want[1][at] += log_pi;
    tol[1][at] += 2.0 * error + eps * (60.0 + 8.0 * fabs(u) + 20.0 * size * size) * (double)n[3];
  }
}


// ---- action_backward: R, N (0: no critic), B, D

static const int64_t slopes_shapes[][NUMBERS] = {
    {1, 1, 1, 1}, {2, 2, 5, 4}, {3, 3, 17, 6}, {7, 0, 31, 9}, {1, 2, 257, 2}, {0},
};

static void slopes_plan(operand *o, const int64_t *n) {
  const int64_t nets = n[1] > 0 ? n[1] : 1;
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], pad16(2 * n[3]));
  o[1] = (operand){IN, RGM_F32, SIGNED, {n[0], nets, n[2], n[3] + 5}};
  action_plan(o + 2, (const int64_t[NUMBERS]){n[0], n[2], 1, n[3]});
  // the draw's outputs, which are not touched, make way
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[3] = o[4];
  memmove(o + 4, o + 5, 7 * sizeof *o);
  o[11].role = END;
}


// the operands of action_draw, in its order
static void slopes_operands(const rgm_tensor *t, rgm_tensor *draw) {
  draw[0] = draw[1] = only(t[0], false);
  for (int k = 2; k < 10; k++) {
    draw[k] = t[k + 1];
  }
}


static void slopes_prepare(const rgm_tensor *t, const int64_t *n) {
  rgm_tensor draw[10];
  slopes_operands(t, draw);
  action_prepare(draw, (const int64_t[NUMBERS]){n[0], n[2], 1, n[3]});
}


static void slopes_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_tensor operands[10];
  slopes_operands(t, operands);
  const rgm_policy_draw draw = action_policy(operands, RGM_DRAW_POLICY, 0);
  rgm_action_backward(s, t[0], only(t[1], n[1] > 0), t[2], &draw, 3);
}


static void slopes_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  const int64_t columns = pad16(2 * n[3]);
  rgm_tensor draw[10];
  slopes_operands(t, draw);
  for (int64_t k = 0; k < n[0] * n[2] * n[3]; k++) {
    const int64_t at = k / n[3], r = at / n[2], b = at % n[2], d = k % n[3];
    const double x[2] = {(double)f32(t[3], r)[b * columns + d],
                         (double)f32(t[3], r)[b * columns + n[3] + d]};
    double size, most = 0.0;
    action_about c = action_row(draw, r, b, d, RGM_DRAW_POLICY, &size);
    c.share = exp((double)f32(t[2], r)[0]) / (double)n[2];
    for (int64_t net = 0; net < n[1]; net++) {
      const double da = (double)f32(t[1], r)[(net * n[2] + b) * (n[3] + 5) + 3 + d];
      c.da += da;
      most += fabs(da);
    }
    const double sd = exp(fmin(fmax(x[1], c.low), c.high)), u = x[0] + sd * c.noise;
    const double scale = most * c.scale + c.share;
    const double error = eps * (20.0 + 40.0 * sd * size + 4.0 * fabs(u)) * scale + 1e-9 * scale;
    want[0][at * columns + d] = slope_of(double_action_loss, x, 2, 0, &c);
    tol[0][at * columns + d] = error;
    want[0][at * columns + n[3] + d] = slope_of(double_action_loss, x, 2, 1, &c);
    tol[0][at * columns + n[3] + d] = error * (1.0 + sd * size) * (1.0 + sd * size);
  }
}


// ---- action_score: R, B, 1, D, whether it has slopes, choices

static const int64_t score_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 1, 0},    {2, 5, 1, 4, 1, 0},
    {3, 17, 1, 6, 0, 0},   {7, 31, 1, 9, 1, 0},
    {1, 257, 1, 2, 1, 0},  {1, 1, 1, 1, 1, 1},
    {3, 17, 1, 1, 1, 6},   {7, 31, 1, 1, 0, 2},
    {1, 257, 1, 1, 1, 17}, {0},
};

static void score_plan(operand *o, const int64_t *n) {
  o[0] = op3(n[4] != 0 ? OUT : IN, RGM_F32, n[4] != 0 ? NAN_FILL : SIGNED, n[0], n[1],
             head_columns(n));
  action_plan(o + 1, n);
  // the action is given here; no random number is read
  o[1].role = IN;
  o[1].fill = SIGNED;
  o[8] = o[10];
  o[9].role = END;
}


// the operands of action_draw, in its order
static void score_operands(const rgm_tensor *t, rgm_tensor *draw) {
  for (int k = 0; k < 10; k++) {
    draw[k] = k < 7 ? t[k + 1] : only(t[8], k == 9);
  }
}


// classes are numbers; some actions lie at the edge of the box and beyond
static void score_prepare(const rgm_tensor *t, const int64_t *n) {
  rgm_tensor draw[10];
  score_operands(t, draw);
  action_prepare(draw, n);
  for (int64_t k = 0; k < n[0] * n[1] * n[3]; k++) {
    const int64_t r = k / (n[1] * n[3]), at = k % (n[1] * n[3]), d = k % n[3];
    float *a = f32(t[1], r) + at;
    *a = n[5] > 0        ? (float)(at * 7 % n[5])
         : at % 11 == 10 ? 4.0f
                         : 0.95f * *a * f32(t[4], r)[d] + f32(t[5], r)[d];
  }
}


static void score_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_tensor operands[10];
  score_operands(t, operands);
  const rgm_policy_draw given = action_policy(operands, RGM_DRAW_POLICY, n[5]);
  rgm_action_score(s, only(t[0], n[4] != 0), &given);
}


// -log pi of a given action: x = {mu, raw log sigma}
static double double_score(const double *x, const void *about) {
  const action_about *c = about;
  const double log_sd = fmin(fmax(x[1], c->low), c->high), u = c->noise;
  const double e = (u - x[0]) * exp(-log_sd);
  return c->share * (0.5 * e * e + log_sd + 0.5 * log(2.0 * acos(-1.0)) +
                     2.0 * (log(2.0) - u - double_softplus(-2.0 * u)) + log(c->scale));
}


// -log pi of a given class: x = logits
typedef struct class_about {
  int64_t choices, which;
  double share;
} class_about;

static double double_class_score(const double *x, const void *about) {
  const class_about *c = about;
  double sum = 0.0;
  for (int64_t a = 0; a < c->choices; a++) {
    sum += exp(x[a] - x[0]);
  }
  return c->share * (log(sum) + x[0] - x[c->which]);
}


static void class_score_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                                  const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[1]; k++) {
    const int64_t r = k / n[1], b = k % n[1], columns = head_columns(n);
    const class_about c = {n[5], (int64_t)f32(t[1], r)[b], 1.0 / (double)n[1]};
    double x[64] = {0};
    for (int64_t a = 0; a < n[5]; a++) {
      x[a] = (double)f32(t[3], r)[b * columns + a];
    }
    want[2][k] = -(double)n[1] * double_class_score(x, &c);
    tol[2][k] = 60.0 * eps * (1.0 + fabs(want[2][k]));
    for (int64_t a = 0; a < n[5] && n[4] != 0; a++) {
      want[0][k * columns + a] = slope_of(double_class_score, x, (int)n[5], (int)a, &c);
      tol[0][k * columns + a] = 60.0 * eps * c.share + 1e-9 * c.share;
    }
  }
}


static void score_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  if (n[5] > 0) {
    class_score_reference(t, want, tol, n);
    return;
  }
  const int64_t columns = head_columns(n);
  const double most = 1.0 - 0x1p-17;
  for (int64_t k = 0; k < n[0] * n[1] * n[3]; k++) {
    const int64_t at = k / n[3], r = at / n[1], b = at % n[1], d = k % n[3];
    const float *head = f32(t[3], r) + b * columns;
    const double scale = (double)f32(t[4], r)[d], shift = (double)f32(t[5], r)[d];
    // what float makes of the share of the box, whose inverse is steep at the edge
    const double y = (double)((f32(t[1], r)[b * n[3] + d] - f32(t[5], r)[d]) / f32(t[4], r)[d]);
    const double u = atanh(fmin(fmax(y, -most), most));
    const action_about c = {.low = (double)f32(t[6], r)[0],
                            .high = (double)f32(t[7], r)[0],
                            .noise = u,
                            .scale = scale,
                            .shift = shift,
                            .share = 1.0 / (double)n[1]};
    const double x[2] = {(double)head[d], (double)head[n[3] + d]};
    const double sd = exp(fmin(fmax(x[1], c.low), c.high)), e = fabs(u - x[0]) / sd;
    const double error = 20.0 * eps * (1.0 + e) * (fabs(u) + fabs(x[0]) + 1.0) / sd;
    want[2][at] -= double_score(x, &c) / c.share;
    tol[2][at] += 4.0 * error * (1.0 + e) + 80.0 * eps * (1.0 + e * e);
    if (n[4] != 0) {
      want[0][at * columns + d] = slope_of(double_score, x, 2, 0, &c);
      tol[0][at * columns + d] = c.share * (error / sd + 1e-9 * (1.0 + e / sd));
      want[0][at * columns + n[3] + d] = slope_of(double_score, x, 2, 1, &c);
      tol[0][at * columns + n[3] + d] = c.share * (4.0 * error * (1.0 + e) + 2e-8 * (1.0 + e * e));
    }
  }
}


// ---- schedule: R, decay

static const int64_t schedule_shapes[][NUMBERS] = {
    {1, RGM_DECAY_NONE},
    {7, RGM_DECAY_LINEAR},
    {300, RGM_DECAY_COSINE},
    {0},
};

static void schedule_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], 0, 0);
  o[2] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[3] = op3(IN, RGM_F32, POSITIVE, n[0], 0, 0);
  o[4] = op3(IN, RGM_F32, POSITIVE, n[0], 0, 0);
}


// clocks are 0 ... 7: warm-ups of 0 to 4 updates, totals that some have passed
static void schedule_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    f32(t[3], r)[0] = floorf(5.0f * (f32(t[3], r)[0] - 0.1f));
    f32(t[4], r)[0] = floorf(9.0f * (f32(t[4], r)[0] - 0.1f));
  }
}


static void schedule_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_schedule(s, t[0], t[1], t[2], t[3], t[4], (rgm_decay)n[1]);
}


static void schedule_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                               const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    const double now = (double)u32(t[2], r)[0];
    const double warmup = (double)f32(t[3], r)[0], total = (double)f32(t[4], r)[0];
    const double rise = warmup > 0.0 ? fmin(1.0, (now + 1.0) / warmup) : 1.0;
    double p = total > warmup ? (now - warmup) / (total - warmup) : 0.0;
    p = fmin(fmax(p, 0.0), 1.0);
    const double left = n[1] == RGM_DECAY_LINEAR   ? 1.0 - p
                        : n[1] == RGM_DECAY_COSINE ? 0.5 * (1.0 + cos(acos(-1.0) * p))
                                                   : 1.0;
    want[0][r] = (double)f32(t[1], r)[0] * rise * left;
    tol[0][r] = 8.0 * eps;
  }
}


// ---- gaussian_nll: R, N, B, K, a target for each net

static const int64_t nll_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 0},   {2, 7, 5, 3, 1},    {3, 2, 17, 17, 0}, {7, 3, 31, 8, 1},
    {1, 2, 257, 5, 0}, {1, 1, 700, 34, 1}, {2, 3, 1, 1, 1},   {0},
};

static void nll_plan(operand *o, const int64_t *n) {
  o[0] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[1], n[2], pad16(2 * n[3])}};
  o[1] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[1], 2, n[3]}};
  o[2] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[3] = (operand){IN, RGM_F32, WIDE, {n[0], n[1], n[2], pad16(2 * n[3])}};
  o[4] = n[4] != 0 ? (operand){IN, RGM_F32, SIGNED, {n[0], n[1], n[2], n[3]}}
                   : op3(IN, RGM_F32, SIGNED, n[0], n[2], n[3]);
  o[5] = (operand){IN, RGM_F32, POSITIVE, {n[0], n[1], 2, n[3]}};
  o[6] = op3(IN, RGM_F32, SMALL, n[0], 0, 0);
  o[7] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// the lower bound lies 4 below the other; means within +-1
static void nll_prepare(const rgm_tensor *t, const int64_t *n) {
  const int64_t columns = pad16(2 * n[3]);
  for (int64_t k = 0; k < n[0] * n[1] * n[3]; k++) {
    const int64_t r = k / (n[1] * n[3]), net = k / n[3] % n[1];
    f32(t[5], r)[(2 * net + 1) * n[3] + k % n[3]] -= 4.0f;
  }
  for (int64_t k = 0; k < rgm_elements(t[3]); k++) {
    f32(t[3], k / slice(t[3]))[k % slice(t[3])] *= k % columns < n[3] ? 0.125f : 1.0f;
  }
  spoil_padding(t[3], 2 * n[3]);
}


static void nll_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  const rgm_nll nll = {.dhead = t[0],
                       .dbounds = t[1],
                       .loss = t[2],
                       .head = t[3],
                       .target = t[4],
                       .bounds = t[5],
                       .penalty = t[6],
                       .active = t[7]};
  rgm_gaussian_nll(s, &nll);
}


static double nll_target(rgm_tensor t, int64_t r, int64_t net, int64_t b, int64_t k,
                         const int64_t *n) {
  return (double)f32(t, r)[((n[4] != 0 ? net * n[2] : 0) + b) * n[3] + k];
}


static void nll_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                          const int64_t *n) {
  const int64_t columns = pad16(2 * n[3]);
  for (int64_t i = 0; i < n[0] * n[1] * n[2] * n[3]; i++) {
    const int64_t k = i % n[3], row = i / n[3], b = row % n[2], net = row / n[2] % n[1];
    const int64_t r = row / n[2] / n[1], bound = (row / n[2]) * 2 * n[3] + k;
    const float *head = f32(t[3], r) + (net * n[2] + b) * columns;
    const float *bounds = f32(t[5], r) + 2 * net * n[3];
    const double x[4] = {(double)head[k], (double)head[n[3] + k], (double)bounds[k],
                         (double)bounds[n[3] + k]};
    const nll_about c = {nll_target(t[4], r, net, b, k, n), 1.0 / (double)(n[2] * n[3])};
    const double e = x[0] - c.target, size = c.share * (1.0 + e * e * exp(-x[3]));
    const double error = 60.0 * eps * size + 2e-9 * size, penalty = (double)f32(t[6], r)[0];
    want[0][row * columns + k] = slope_of(double_nll, x, 4, 0, &c);
    tol[0][row * columns + k] = error + 60.0 * eps * c.share * fabs(e) * exp(-x[3]);
    want[0][row * columns + n[3] + k] = slope_of(double_nll, x, 4, 1, &c);
    tol[0][row * columns + n[3] + k] = error;
    want[1][bound] += slope_of(double_nll, x, 4, 2, &c) + penalty / (double)n[2];
    want[1][bound + n[3]] += slope_of(double_nll, x, 4, 3, &c) - penalty / (double)n[2];
    for (int64_t side = 0; side < 2; side++) {
      tol[1][bound + side * n[3]] += error + block_error(n[2]) * size + eps * penalty;
    }
    want[2][row] += double_nll(x, &c);
    tol[2][row] += (error + sum_error(n[3]) * size) * (1.0 + fabs(x[3]));
  }
}


// ---- mse: R, N, B, K, a target for each net

static void mse_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[3]);
  o[1] = (operand){IN, RGM_F32, SIGNED, {n[0], n[1], n[2], pad16(2 * n[3])}};
  o[2] = n[4] != 0 ? (operand){IN, RGM_F32, SIGNED, {n[0], n[1], n[2], n[3]}}
                   : op3(IN, RGM_F32, SIGNED, n[0], n[2], n[3]);
}


static void mse_prepare(const rgm_tensor *t, const int64_t *n) {
  spoil_padding(t[1], n[3]);
}


static void mse_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_mse(s, t[0], t[1], t[2]);
}


static void mse_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                          const int64_t *n) {
  for (int64_t i = 0; i < n[0] * n[1] * n[2] * n[3]; i++) {
    const int64_t k = i % n[3], row = i / n[3], b = row % n[2], net = row / n[2] % n[1];
    const int64_t r = row / n[2] / n[1], at = row / n[2] * n[3] + k;
    const double e = (double)f32(t[1], r)[(net * n[2] + b) * pad16(2 * n[3]) + k] -
                     nll_target(t[2], r, net, b, k, n);
    want[0][at] += e * e / (double)n[2];
    tol[0][at] += (block_error(n[2]) + 4.0 * eps) * e * e / (double)n[2];
  }
}

#endif
