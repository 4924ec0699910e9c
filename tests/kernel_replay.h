// SPDX-License-Identifier: Apache-2.0
// The rows of the kernel table for rows of experience: shapes, operands, and references. Part of
// kernel_table.h.

#ifndef RGM_TESTS_KERNEL_REPLAY_H
#define RGM_TESTS_KERNEL_REPLAY_H

#include "tests/kernel_util.h"

// ---- replay_append: R, C, M, W0, W1, some are left out

static const int64_t append_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 1, 0},
    {2, 9, 5, 3, 1, 1},
    {3, 5, 5, 17, 2, 0},
    {7, 40, 31, 4, 1, 1},
    {1, 700, 700, 5, 33, 1},
    {2, 600, 257, 2, 1, 0},
    {0},
};

static void append_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], n[3]);
  o[1] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], n[4]);
  o[2] = op3(INOUT, RGM_U32, WORDS, n[0], 0, 0);
  o[3] = op3(INOUT, RGM_U32, WORDS, n[0], 0, 0);
  o[4] = op3(IN, RGM_F32, SIGNED, n[0], n[2], n[3]);
  o[5] = op3(IN, RGM_F32, SIGNED, n[0], n[2], n[4]);
  o[6] = op3(IN, RGM_F32, GROUPS, n[0], n[2], 0);
  o[7] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


static void append_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    u32(t[2], r)[0] %= (uint32_t)n[1];
    u32(t[3], r)[0] %= (uint32_t)n[1] + 1;
  }
}


// a ring of two columns from what the table holds
static rgm_ring ring_of(rgm_tensor first, rgm_tensor second, rgm_tensor head, rgm_tensor count) {
  return (rgm_ring){.column = {first, second}, .head = head, .count = count, .columns = 2};
}


static void append_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_ring ring = ring_of(t[0], t[1], t[2], t[3]);
  rgm_tensor keep = t[6];
  keep.data = n[5] != 0 ? keep.data : NULL;
  rgm_replay_append(s, &ring, t + 4, keep, t[7]);
}


static void append_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  (void)tol;
  for (int64_t r = 0; r < n[0]; r++) {
    int64_t head = (int64_t)u32(t[2], r)[0], count = (int64_t)u32(t[3], r)[0];
    for (int k = 0; k < 2; k++) {
      for (int64_t i = 0; i < n[1] * n[3 + k]; i++) {
        want[k][r * n[1] * n[3 + k] + i] = (double)f32(t[k], r)[i];
      }
    }
    for (int64_t m = 0; m < n[2]; m++) {
      if (n[5] != 0 && f32(t[6], r)[m] == 0.0f) {
        continue;
      }
      for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < n[3 + k]; i++) {
          want[k][(r * n[1] + head) * n[3 + k] + i] = (double)f32(t[4 + k], r)[m * n[3 + k] + i];
        }
      }
      head = (head + 1) % n[1];
      count = count < n[1] ? count + 1 : count;
    }
    want[2][r] = (double)head;
    want[3][r] = (double)count;
  }
}


// ---- replay_gather: R, B, W0, W1, C, bits: two rings, rows are given

static const int64_t gather_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 1, 0},
    {2, 5, 3, 1, 7, 0},
    {7, 31, 17, 2, 6, 1},
    {3, 257, 4, 1, 300, 1},
    {7, 31, 5, 33, 7, 2},
    {7, 17, 2, 3, 5, 3},
    {0},
};

static void gather_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[3]);
  o[2] = op3(INOUT, RGM_U32, COUNTS, n[0], n[1], 0);
  for (int k = 0; k < 2; k++) {
    o[3 + 3 * k] = op3(IN, RGM_F32, SIGNED, n[0], n[4], n[2]);
    o[4 + 3 * k] = op3(IN, RGM_F32, SIGNED, n[0], n[4], n[3]);
    o[5 + 3 * k] = op3(IN, RGM_U32, WORDS, n[0], 0, 0);
  }
  o[9] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[10] = op3(IN, RGM_U32, WORDS, n[0], 2, 0);
  o[11] = op3(IN, RGM_U32, COUNTS, n[0], 0, 0);
  o[12] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// rings that are empty, partly filled and full; no row to all rows from the first of two
static void gather_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    u32(t[5], r)[0] %= (uint32_t)n[4] + 1;
    u32(t[8], r)[0] = (uint32_t)n[4] - u32(t[8], r)[0] % 2;
    u32(t[9], r)[0] = u32(t[9], r)[0] * (uint32_t)n[1] / 6;
  }
}


static void gather_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  const rgm_ring from = ring_of(t[3], t[4], t[11], t[5]), other = ring_of(t[6], t[7], t[11], t[8]);
  const rgm_gather gather = {.row = {t[0], t[1]},
                             .items = t[2],
                             .from = &from,
                             .other = n[5] & 1 ? &other : NULL,
                             .share = t[9],
                             .seeds = t[10],
                             .clock = t[11],
                             .active = t[12],
                             .random = RGM_RANDOM_REPLAY,
                             .member = 2,
                             .given = (n[5] & 2) != 0};
  rgm_replay_gather(s, &gather);
}


// the first word whose product with `count` is not among the 2^32 mod count too many
static uint64_t fair_item(const rgm_tensor *t, int64_t r, int64_t b, uint64_t count) {
  const rgm_key key = rgm_stream_key(u32(t[10], r), RGM_RANDOM_REPLAY);
  for (uint32_t attempt = 0;; attempt++) {
    const rgm_words w = rgm_philox(key, u32(t[11], r)[0], (uint32_t)b, attempt / 4, 2);
    const uint32_t word[4] = {w.w0, w.w1, w.w2, w.w3};
    const uint64_t product = word[attempt % 4] * count;
    if (product % 0x100000000u >= 0x100000000u % count) {
      return product / 0x100000000u;
    }
  }
}


static void gather_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  (void)tol;
  for (int64_t at = 0; at < n[0] * n[1]; at++) {
    const int64_t r = at / n[1], b = at % n[1];
    const int ring = n[5] & 1 && b >= (int64_t)u32(t[9], r)[0] ? 6 : 3;
    const uint64_t count = u32(t[ring + 2], r)[0];
    const uint64_t item = n[5] & 2 ? u32(t[2], r)[b] : count > 0 ? fair_item(t, r, b, count) : 0;
    want[2][at] = (double)item;
    for (int k = 0; k < 2; k++) {
      for (int64_t i = 0; i < n[2 + k]; i++) {
        want[k][at * n[2 + k] + i] =
            item < count ? (double)f32(t[ring + k], r)[(int64_t)item * n[2 + k] + i] : NAN;
      }
    }
  }
}


// ---- normalise: R, B, W, inverse

static const int64_t scale_shapes[][NUMBERS] = {
    {1, 1, 1, 0}, {2, 5, 3, 1}, {7, 31, 17, 0}, {3, 257, 4, 1}, {0},
};

static void scale_plan(operand *o, const int64_t *n) {
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1], n[2]);
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[2]);
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], n[2], 0);
  o[3] = op3(IN, RGM_F32, POSITIVE, n[0], n[2], 0);
}


static void scale_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_normalise(s, t[0], t[1], t[2], t[3], n[3] != 0);
}


static void scale_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                            const int64_t *n) {
  for (int64_t k = 0; k < n[0] * n[1] * n[2]; k++) {
    const int64_t r = k / n[2] / n[1], i = k % n[2];
    const double x = (double)f32(t[1], r)[k % (n[1] * n[2])], mean = (double)f32(t[2], r)[i];
    const double sd = (double)f32(t[3], r)[i];
    want[0][k] = n[3] != 0 ? x * sd + mean : (x - mean) / sd;
    tol[0][k] = 2.0 * eps * fabs(want[0][k]);
  }
}


// ---- concat: R, B, samples of each row, S, D, classes

static const int64_t concat_shapes[][NUMBERS] = {
    {1, 1, 1, 1, 1, 0}, {2, 5, 3, 4, 2, 0}, {7, 31, 1, 17, 1, 6}, {3, 17, 10, 3, 6, 0}, {0},
};

static void concat_plan(operand *o, const int64_t *n) {
  const int64_t dims = n[5] > 0 ? n[5] : n[4];
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], n[1] * n[2], n[3] + dims);
  o[1] = op3(IN, RGM_F32, SIGNED, n[0], n[1], n[3]);
  o[2] = op3(IN, RGM_F32, SIGNED, n[0], n[1] * n[2], n[5] > 0 ? 0 : n[4]);
}


static void concat_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t k = 0; k < rgm_elements(t[2]) && n[5] > 0; k++) {
    float *x = f32(t[2], k / slice(t[2])) + k % slice(t[2]);
    *x = (float)((rgm_bits(*x) >> 4) % (uint32_t)n[5]);
  }
}


static void concat_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_concat(s, t[0], t[1], t[2], (int)n[5]);
}


static void concat_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                             const int64_t *n) {
  (void)tol;
  const int64_t samples = n[1] * n[2], width = t[0].dims[2];
  for (int64_t k = 0; k < n[0] * samples * width; k++) {
    const int64_t r = k / width / samples, m = k / width % samples, c = k % width - n[3];
    if (c < 0) {
      want[0][k] = (double)f32(t[1], r)[m / n[2] * n[3] + k % width];
    } else if (n[5] > 0) {
      want[0][k] = (int64_t)f32(t[2], r)[m] == c ? 1.0 : 0.0;
    } else {
      want[0][k] = (double)f32(t[2], r)[m * n[4] + c];
    }
  }
}


// ---- clip_norm: R, W

static const int64_t clip_shapes[][NUMBERS] = {
    {1, 1}, {2, 5}, {7, 17}, {3, 257}, {2, 2561}, {2, 8965}, {0},
};

static void clip_plan(operand *o, const int64_t *n) {
  o[0] = op3(INOUT, RGM_F32, SIGNED, n[0], n[1], 0);
  o[1] = op3(OUT, RGM_F32, NAN_FILL, n[0], 0, 0);
  o[2] = op3(IN, RGM_F32, POSITIVE, n[0], 0, 0);
  o[3] = op3(MASK, RGM_U32, ONES, n[0], 0, 0);
}


// limits below the norm and, in every other replica or so, above
static void clip_prepare(const rgm_tensor *t, const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    f32(t[2], r)[0] *= f32(t[2], r)[0] > 0.6f ? (float)n[1] : 1.0f;
  }
}


static void clip_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  (void)n;
  rgm_clip_norm(s, t[0], t[1], t[2], t[3]);
}


static void clip_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                           const int64_t *n) {
  for (int64_t r = 0; r < n[0]; r++) {
    const double limit = (double)f32(t[2], r)[0];
    double sum = 0.0;
    for (int64_t i = 0; i < n[1]; i++) {
      sum += (double)f32(t[0], r)[i] * (double)f32(t[0], r)[i];
    }
    want[1][r] = sqrt(sum);
    tol[1][r] = (block_error(n[1]) + 2.0 * eps) * sqrt(sum);
    const double factor = sqrt(sum) > limit ? limit / sqrt(sum) : 1.0;
    for (int64_t i = 0; i < n[1]; i++) {
      want[0][r * n[1] + i] = factor * (double)f32(t[0], r)[i];
      tol[0][r * n[1] + i] =
          factor < 1.0 ? (block_error(n[1]) + 4.0 * eps) * fabs(want[0][r * n[1] + i]) : 0.0;
    }
  }
}

#endif
