// SPDX-License-Identifier: Apache-2.0
// The rows of the kernel table for learned models: shapes, operands, and references in double
// precision. Part of kernel_table.h.

#ifndef RGM_TESTS_KERNEL_DYNAMICS_H
#define RGM_TESTS_KERNEL_DYNAMICS_H

#include "kernels/dynamics.h"
#include "tests/kernel_gaussian.h"

enum { MODEL_MEMBER = 3 };

// By how much the elites of a group are turned: the first word whose product with their number is
// not among the 2^32 mod E too many.
static int64_t fair_shift(rgm_tensor seeds, rgm_tensor clock, int64_t r, int64_t group,
                          uint64_t elites) {
  const rgm_key key = rgm_stream_key(u32(seeds, r), RGM_RANDOM_MODEL);
  for (uint32_t attempt = 0;; attempt++) {
    const rgm_words w =
        rgm_philox(key, u32(clock, r)[0], (uint32_t)group, attempt / 4, MODEL_MEMBER + 0x80000000u);
    const uint32_t word[4] = {w.w0, w.w1, w.w2, w.w3};
    const uint64_t product = word[attempt % 4] * elites;
    if (product % 0x100000000u >= 0x100000000u % elites) {
      return (int64_t)(product / 0x100000000u);
    }
  }
}


static rgm_routing routing_of(rgm_tensor seeds, rgm_tensor clock) {
  return (rgm_routing){
      .seeds = seeds, .clock = clock, .random = RGM_RANDOM_MODEL, .member = MODEL_MEMBER};
}


// ---- route: R, B, W, E

static const int64_t route_shapes[][NUMBERS] = {
    {1, 1, 1, 1}, {2, 5, 3, 2}, {7, 31, 17, 5}, {3, 257, 4, 7}, {1, 700, 22, 5}, {0},
};

static void route_plan(operand *o, const int64_t *n) {
  o[0] = (operand){OUT, RGM_F32, NAN_FILL, {n[0], n[3], (n[1] + n[3] - 1) / n[3], n[2]}};
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[2] = op3(IN, RGM_U32, WORDS, n[0], 2, 0);
  o[3] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
}


static void route_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  const rgm_routing routing = routing_of(t[2], t[3]);
  rgm_route(s, t[0], t[1], &routing);
}


static void route_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  (void)tol;
  const int64_t elites = n[3], places = t[0].dims[2];
  for (int64_t at = 0; at < n[0] * n[1]; at++) {
    const int64_t r = at / n[1], b = at % n[1], group = b / elites;
    const int64_t e = (b + fair_shift(t[2], t[3], r, group, (uint64_t)elites)) % elites;
    for (int64_t i = 0; i < n[2]; i++) {
      want[0][((r * elites + e) * places + group) * n[2] + i] = (double)f32(t[1], r)[b * n[2] + i];
    }
  }
}


// ---- model: R, B, S, E, doubt, bits: a box, quiet

static const int64_t model_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 0, 0},    {2, 5, 3, 2, 0, 1},  {7, 31, 17, 5, 0, 1}, {3, 257, 4, 5, 1, 1},
    {1, 131, 40, 3, 0, 0}, {2, 65, 5, 4, 2, 0}, {3, 17, 6, 5, 1, 2},  {0},
};

static void model_plan(operand *o, const int64_t *n) {
  const int64_t outputs = n[2] + 1, places = n[4] != 0 ? n[1] : (n[1] + n[3] - 1) / n[3];
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], 0);
  o[2] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], 0);
  o[3] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], 0);
  o[4] = op3(INOUT, RGM_F32, GROUPS, n[0], n[1], 0);
  o[5] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], 0);
  o[6] = (operand){IN, RGM_F32, WIDE, {n[0], n[3], places, pad16(2 * outputs)}};
  o[7] = (operand){IN, RGM_F32, POSITIVE, {n[0], n[3], 2, outputs}};
  o[8] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[9] = op3(IN, RGM_F32, POSITIVE, n[0], 2, outputs);
  o[10] = op3(IN, RGM_F32, POSITIVE, n[0], 2, outputs);
  o[11] = op3(IN, RGM_F32, GROUPS, n[0], n[2], 0);
  o[12] = op3(IN, RGM_F32, POSITIVE, n[0], 2, n[2]);
  o[13] = op3(IN, RGM_F32, RATE, n[0], 0, 0);
  o[14] = op3(IN, RGM_U32, WORDS, n[0], 2, 0);
  o[15] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[16] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// Two of three rows are alive; one column in two is held; lower sides of bounds, range and box are
// negative, the box a little wider than the range, so that both are met.
static void model_prepare(const rgm_tensor *t, const int64_t *n) {
  const int64_t outputs = n[2] + 1;
  for (int64_t r = 0; r < n[0]; r++) {
    for (int64_t b = 0; b < n[1]; b++) {
      f32(t[4], r)[b] = f32(t[4], r)[b] != 0.0f ? 1.0f : 0.0f;
    }
    for (int64_t e = 0; e < n[3]; e++) {
      for (int64_t k = 0; k < outputs; k++) {
        f32(t[7], r)[(2 * e + 1) * outputs + k] -= 6.0f;
      }
    }
    for (int64_t k = 0; k < outputs; k++) {
      f32(t[10], r)[k] = -1.0f - f32(t[10], r)[k];
      f32(t[10], r)[outputs + k] += 1.0f;
    }
    for (int64_t k = 0; k < n[2]; k++) {
      f32(t[12], r)[k] = -4.0f - f32(t[12], r)[k];
      f32(t[12], r)[n[2] + k] += 4.0f;
      f32(t[11], r)[k] = f32(t[11], r)[k] > 0.0f ? 1.0f : 0.0f;
    }
  }
  for (int64_t k = 0; k < rgm_elements(t[6]); k++) {
    f32(t[6], k / slice(t[6]))[k % slice(t[6])] *= 0.25f;
  }
  spoil_padding(t[6], 2 * outputs);
}


static void model_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_model_step step = {.next = t[0],
                               .reward = t[1],
                               .terminated = t[2],
                               .doubt = t[3],
                               .alive = t[4],
                               .keep = t[5],
                               .head = t[6],
                               .bounds = t[7],
                               .state = t[8],
                               .scale = t[9],
                               .range = t[10],
                               .hold = t[11],
                               .box = n[5] & 1 ? t[12] : (rgm_tensor){0},
                               .weight = t[13],
                               .active = t[16],
                               .routing = routing_of(t[14], t[15]),
                               .kind = (rgm_doubt)n[4],
                               .quiet = (n[5] & 2) != 0};
  rgm_model(s, &step);
}


// the standard deviation of output k of elite e in a row
static double model_sd(const rgm_tensor *t, int64_t r, int64_t e, int64_t place, int64_t k,
                       int64_t outputs) {
  const float *head = f32(t[6], r) + (e * t[6].dims[2] + place) * t[6].dims[3];
  const float *bounds = f32(t[7], r) + 2 * e * outputs;
  const double max = (double)bounds[k], min = (double)bounds[outputs + k];
  const double w = max - log1p(exp(max - (double)head[outputs + k]));
  return exp(0.5 * (min + log1p(exp(w - min))));
}


static double model_normal(const rgm_tensor *t, int64_t r, int64_t b, int64_t k) {
  const rgm_key key = rgm_stream_key(u32(t[14], r), RGM_RANDOM_MODEL);
  const rgm_words w =
      rgm_philox(key, u32(t[15], r)[0], (uint32_t)b, (uint32_t)(k / 4), MODEL_MEMBER);
  const uint32_t radius = k % 4 < 2 ? w.w0 : w.w2, angle = k % 4 < 2 ? w.w1 : w.w3;
  const double turn = 2.0 * acos(-1.0) * floor((double)angle / 256.0) * 0x1p-24;
  const double size = sqrt(-2.0 * log((floor((double)radius / 256.0) + 1.0) * 0x1p-24));
  return size * (k % 2 == 0 ? cos(turn) : sin(turn));
}


// what the elites do not know of row b
static double model_doubt(const rgm_tensor *t, int64_t r, int64_t b, const int64_t *n) {
  const int64_t outputs = n[2] + 1, columns = t[6].dims[3];
  double most = 0.0;
  // without doubt a head has places for routed rows only
  for (int64_t e = 0; e < n[3] && n[4] != RGM_DOUBT_NONE; e++) {
    double sum = 0.0;
    for (int64_t k = 0; k < outputs; k++) {
      double x = model_sd(t, r, e, b, k, outputs);
      if (n[4] == RGM_DOUBT_SPREAD) {
        x = (double)f32(t[6], r)[(e * n[1] + b) * columns + k];
        for (int64_t i = 0; i < n[3]; i++) {
          x -= (double)f32(t[6], r)[(i * n[1] + b) * columns + k] / (double)n[3];
        }
      }
      sum += k < n[2] && f32(t[11], r)[k] != 0.0f ? 0.0 : x * x;
    }
    most = fmax(most, sqrt(sum));
  }
  return most;
}


static void model_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  const int64_t outputs = n[2] + 1, columns = t[6].dims[3], places = t[6].dims[2];
  for (int64_t at = 0; at < n[0] * n[1]; at++) {
    const int64_t r = at / n[1], b = at % n[1], group = b / n[3];
    const int64_t e = (b + fair_shift(t[14], t[15], r, group, (uint64_t)n[3])) % n[3];
    const int64_t place = n[4] != 0 ? b : group;
    const float *range = f32(t[10], r), *box = f32(t[12], r);
    bool left = false;
    for (int64_t k = 0; k < outputs; k++) {
      const double noise = n[5] & 2 ? 0.0 : model_normal(t, r, b, k);
      const double sd = model_sd(t, r, e, place, k, outputs);
      const double mu = (double)f32(t[6], r)[(e * places + place) * columns + k];
      const double scale = (double)f32(t[9], r)[outputs + k];
      const double d = (mu + sd * noise) * scale + (double)f32(t[9], r)[k];
      const double error = eps * (40.0 * scale * (fabs(mu) + 6.0 * sd) + 4.0 * fabs(d) + 4.0);
      if (k == n[2]) {
        const double doubt = model_doubt(t, r, b, n);
        want[1][at] = fmin(fmax(d, (double)range[k]), (double)range[outputs + k]) -
                      (double)f32(t[13], r)[0] * doubt;
        tol[1][at] = error + 40.0 * eps * doubt;
        want[3][at] = doubt;
        tol[3][at] = 40.0 * eps * doubt;
        continue;
      }
      const double state = (double)f32(t[8], r)[b * n[2] + k];
      const bool holds = f32(t[11], r)[k] != 0.0f;
      const double next = holds ? state : state + d;
      left = left || (n[5] & 1 && (next < (double)box[k] || next > (double)box[n[2] + k]));
      want[0][at * n[2] + k] =
          holds ? state : fmin(fmax(next, (double)range[k]), (double)range[outputs + k]);
      tol[0][at * n[2] + k] = holds ? 0.0 : error;
    }
    want[2][at] = left ? 1.0 : 0.0;
    want[4][at] = left ? 0.0 : (double)f32(t[4], r)[b];
    want[5][at] = (double)f32(t[4], r)[b];
  }
}


// ---- appraise: R, P, N, K, E, rows of the last chunk

enum { CHUNK_ROWS = 7 };

static const int64_t appraise_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 1, 7}, {7, 3, 7, 5, 5, 2}, {3, 1, 7, 17, 5, 1}, {2, 40, 4, 3, 4, 6}, {0},
};

static void appraise_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[2], 0);
  o[1] = op3(INOUT, RGM_F32, POSITIVE, n[0], n[2], 0);
  o[2] = op3(OUT, RGM_U32, NAN_FILL, n[0], n[2], 0);
  o[3] = op3(INOUT, RGM_F32, POSITIVE, n[0], 0, 0);
  o[4] = op3(OUT, RGM_U32, NAN_FILL, n[0], n[4], 0);
  o[5] = (operand){IN, RGM_F32, POSITIVE, {n[0], n[1], n[2], n[3]}};
  o[6] = op3(IN, RGM_F32, SMALL, n[0], 0, 0);
  o[7] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// best losses near the new ones or far below, two of them equal; idle counts
static void appraise_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    for (int64_t k = 0; k < n[2]; k++) {
      f32(t[1], r)[k] *= k % 3 == 0 ? 0.1f : 1.0f;
    }
    f32(t[1], r)[n[2] - 1] = f32(t[1], r)[0];
    f32(t[3], r)[0] = floorf(10.0f * f32(t[3], r)[0]);
  }
}


static void appraise_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_appraisal appraisal = {.loss = t[0],
                                   .best = t[1],
                                   .improved = t[2],
                                   .idle = t[3],
                                   .elites = t[4],
                                   .error = t[5],
                                   .margin = t[6],
                                   .active = t[7],
                                   .rows = (n[1] - 1) * CHUNK_ROWS + n[5],
                                   .chunk = CHUNK_ROWS};
  rgm_appraise(s, &appraisal);
}


static void appraise_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                               const int64_t *n) {
  const double rows = (double)((n[1] - 1) * CHUNK_ROWS + n[5]);
  for (int64_t r = 0; r < n[0]; r++) {
    bool any = false;
    double *best = want[1] + r * n[2];
    for (int64_t k = 0; k < n[2]; k++) {
      double loss = 0.0;
      for (int64_t i = 0; i < n[1] * n[3]; i++) {
        const int64_t chunk = i / n[3];
        loss += (double)f32(t[5], r)[(chunk * n[2] + k) * n[3] + i % n[3]] / (double)n[3] *
                (chunk == n[1] - 1 ? (double)n[5] : (double)CHUNK_ROWS) / rows;
      }
      const double before = (double)f32(t[1], r)[k];
      const bool better = loss < before * (1.0 - (double)f32(t[6], r)[0]);
      want[0][r * n[2] + k] = loss;
      tol[0][r * n[2] + k] = sum_error(n[1] * n[3]) * loss;
      want[2][r * n[2] + k] = better ? 1.0 : 0.0;
      best[k] = better ? loss : before;
      tol[1][r * n[2] + k] = better ? sum_error(n[1] * n[3]) * loss : 0.0;
      any = any || better;
    }
    want[3][r] = any ? 0.0 : (double)f32(t[3], r)[0] + 1.0;
    // the least that is left, again and again
    bool taken[16] = {false};
    for (int64_t e = 0; e < n[4]; e++) {
      int64_t least = -1;
      for (int64_t k = 0; k < n[2]; k++) {
        least = !taken[k] && (least < 0 || best[k] < best[least]) ? k : least;
      }
      taken[least] = true;
      want[4][r * n[4] + e] = (double)least;
    }
  }
}


// ---- decay_weights: R, I, O; adopt: R, W, number

static const int64_t decay_shapes[][NUMBERS] = {
    {1, 1, 16}, {2, 5, 3}, {7, 17, 48}, {3, 257, 64}, {0},
};

static void decay_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[2] = op3(IN, RGM_F32, SMALL, n[0], 0, 0);
  o[3] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void decay_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_decay_weights(s, t[0], t[1], t[2], t[3]);
}


static void decay_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  const int64_t size = n[1] * n[2];
  for (int64_t k = 0; k < n[0] * size; k++) {
    const int64_t r = k / size, i = k % size;
    want[0][k] = (double)f32(t[0], r)[i] + (double)f32(t[2], r)[0] * (double)f32(t[1], r)[i];
    tol[0][k] = eps * fabs(want[0][k]); // one rounding
  }
}


static void adopt_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[1] = op3(IN, RGM_F32, WILD, n[0], n[1], n[2]);
  o[2] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
}


// every other replica has the number asked for
static void adopt_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    u32(t[2], r)[0] = u32(t[2], r)[0] % 2 == 0 ? 3 : u32(t[2], r)[0];
  }
}


static void adopt_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_adopt(s, t[0], t[1], t[2], 3);
}


static void adopt_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  (void)tol;
  const int64_t size = n[1] * n[2];
  for (int64_t k = 0; k < n[0] * size; k++) {
    const int64_t r = k / size;
    want[0][k] = (double)f32(t[u32(t[2], r)[0] == 3 ? 1 : 0], r)[k % size];
  }
}

#endif
