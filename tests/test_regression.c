// SPDX-License-Identifier: Apache-2.0
// The rows of regressions: against independent sums and solutions in long double, with odd sizes;
// the same bits on AVX-512, AVX2 and CUDA (on the CPU), with any threads; degenerate lanes.

#include "kernels/kernels.h"
#include "kernels/logistic.h"
#include "kernels/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(regression, .timeout = 120);

// G groups, n of N rows, P and Q columns, of which all rows have FREE, H of the blip
enum { G = 3, ROWS = 601, ALL = 650, P = 5, Q = 14, FREE = 9, H = 4, L = RGM_FIT_LANES };
enum { PP = P * (P + 1) / 2, QQ = Q * (Q + 1) / 2 };

// Data of a case, in host memory.
typedef struct sample {
  double x[P * ROWS], z[Q * ROWS], h[H * ROWS], label[ROWS], given[ROWS], start[P], y[ALL];
  double wide[ROWS * Q]; // z row by row, for the Gram matrix
  float x32[P * ROWS], z32[Q * ROWS];
  double weight[G * ROWS * L];
  uint32_t rows[ROWS];
  uint8_t counts[G * ALL * L];
} sample;

// What the rows leave.
typedef struct outcome {
  double beta[G * P * L], coef[G * Q * L], sums[G * L], y[G * ALL * L], gram[G * QQ * L];
  double solution[G * P * L];
  uint32_t status[G * L], steps[G * L], solved[G * L], cholesky[G * L];
} outcome;


static sample *make_sample(void) {
  sample *s = calloc(1, sizeof *s);
  rgm_rng rng = {.key = {3, 5}};
  cr_assert_not_null(s);
  for (int i = 0; i < ROWS; i++) {
    double eta = -1.0;
    for (int j = 0; j < P; j++) {
      s->x[j * ROWS + i] = j == 0 ? 1.0 : rgm_rng_range(&rng, -1.7, 1.7);
      s->x32[j * ROWS + i] = (float)s->x[j * ROWS + i];
      eta += j > 0 ? 0.4 * s->x[j * ROWS + i] : 0.0;
    }
    s->label[i] = rgm_rng_range(&rng, 0, 1) < rgm_sigmoid64(eta);
    for (int j = 0; j < Q; j++) {
      const double value = j == 0 ? 1.0 : rgm_rng_range(&rng, -1.7, 1.7);
      s->z[j * ROWS + i] = j < FREE || s->label[i] != 0 ? value : 0.0;
      s->z32[j * ROWS + i] = (float)s->z[j * ROWS + i];
      s->wide[i * Q + j] = s->z[j * ROWS + i];
    }
    for (int j = 0; j < H; j++) {
      s->h[j * ROWS + i] = rgm_rng_range(&rng, -1, 1);
    }
    s->given[i] = rgm_rng_range(&rng, 0.5, 2);
    s->rows[i] = (uint32_t)(i + i / 13);
  }
  for (int i = 0; i < ALL; i++) {
    s->y[i] = rgm_rng_range(&rng, -20, 60);
  }
  for (int i = 0; i < G * ROWS * L; i++) {
    s->weight[i] = rgm_rng_range(&rng, 0, 2);
  }
  for (int i = 0; i < G * ALL * L; i++) {
    s->counts[i] = (uint8_t)(rgm_rng_next(&rng) % 4);
  }
  // group 1, lane 7: nobody is treated; lane 8: no rows at all
  for (int i = 0; i < ROWS; i++) {
    uint8_t *c = s->counts + (ALL + s->rows[i]) * L;
    c[7] = s->label[i] != 0 ? 0 : c[7];
    c[8] = 0;
  }
  return s;
}


// device copies, released with the stream's memory
static rgm_tensor put(rgm_stream *s, const void *from, rgm_dtype dtype, int64_t d0, int64_t d1,
                      int64_t d2) {
  rgm_tensor t = rgm_view(NULL, dtype, d0, d1, d2, 0);
  cr_assert_eq(s->backend->alloc(s, rgm_bytes(t), &t.data), RGM_OK);
  if (from != NULL) {
    rgm_copy(s, t.data, from, rgm_bytes(t));
  }
  return t;
}


static rgm_tensor spread(rgm_tensor t) {
  t.dims[0] = G;
  t.stride0 = 0;
  return t;
}


static void take(rgm_stream *s, rgm_tensor t, void *out) {
  rgm_copy(s, out, t.data, rgm_bytes(t));
  cr_assert_eq(rgm_sync(s), RGM_OK);
  s->backend->release(s, t.data);
}


// `single`: designs in float; `mixed`: first steps in float
static void run_rows(rgm_stream *s, const sample *d, bool single, bool mixed,
                     rgm_weighting weighting, outcome *o) {
  const rgm_dtype real = single ? RGM_F32 : RGM_F64;
  const rgm_tensor x = put(s, single ? (const void *)d->x32 : d->x, real, 1, P, ROWS);
  const rgm_tensor z = put(s, single ? (const void *)d->z32 : d->z, real, 1, Q, ROWS);
  const rgm_tensor near = put(s, d->x32, RGM_F32, 1, P, ROWS);
  const rgm_tensor wide = put(s, d->wide, RGM_F64, 1, ROWS, Q);
  const rgm_tensor pairs = put(s, NULL, RGM_F64, 1, ROWS, QQ);
  const rgm_tensor weight = put(s, d->weight, RGM_F64, G, ROWS, L);
  const rgm_tensor rows = put(s, d->rows, RGM_U32, 1, ROWS, 0);
  const rgm_tensor counts = put(s, d->counts, RGM_U8, G, ALL, L);
  const rgm_tensor label = put(s, d->label, RGM_F64, 1, ROWS, 0);
  const rgm_tensor given = put(s, d->given, RGM_F64, 1, ROWS, 0);
  const rgm_tensor start = put(s, d->start, RGM_F64, 1, P, 0);
  const rgm_tensor base = put(s, d->y, RGM_F64, 1, ALL, 1), h = put(s, d->h, RGM_F64, 1, H, ROWS);
  const rgm_irls irls = {.beta = put(s, NULL, RGM_F64, G, P, L),
                         .status = put(s, NULL, RGM_U32, G, L, 0),
                         .steps = put(s, NULL, RGM_U32, G, L, 0),
                         .x = spread(x),
                         .near = mixed ? spread(near) : (rgm_tensor){0},
                         .label = spread(label),
                         .rows = spread(rows),
                         .counts = counts,
                         .start = spread(start)};
  const rgm_wls wls = {.coef = put(s, NULL, RGM_F64, G, Q, L),
                       .status = put(s, NULL, RGM_U32, G, L, 0),
                       .weight = put(s, NULL, RGM_F64, G, L, 0),
                       .z = spread(z),
                       .y = spread(base),
                       .rows = spread(rows),
                       .counts = counts,
                       .given = spread(given),
                       .x = spread(x),
                       .beta = irls.beta,
                       .label = spread(label),
                       .weighting = weighting,
                       .first = FREE,
                       .cap = 3.0};
  const rgm_pseudo pseudo = {.y = put(s, NULL, RGM_F64, G, ALL, L),
                             .from = spread(base),
                             .h = spread(h),
                             .coef = wls.coef,
                             .label = spread(label),
                             .rows = spread(rows),
                             .first = 3};
  const rgm_tensor gram = put(s, NULL, RGM_F64, G, QQ, L);
  rgm_products(s, pairs, wide);
  rgm_irls_fit(s, &irls);
  rgm_wls_fit(s, &wls);
  rgm_pseudo_outcome(s, &pseudo);
  rgm_gram(s, gram, spread(pairs), weight);
  rgm_copy(s, o->gram, gram.data, sizeof o->gram);
  cr_assert_eq(rgm_sync(s), RGM_OK);

  // a system of the first P columns of that Gram matrix, and its next row as the right side
  const rgm_tensor small = put(s, NULL, RGM_F64, G, PP, L), right = put(s, NULL, RGM_F64, G, P, L);
  const rgm_tensor status = put(s, NULL, RGM_U32, G, L, 0);
  for (int g = 0; g < G; g++) {
    rgm_copy(s, (double *)small.data + g * PP * L, o->gram + g * QQ * L, PP * L * sizeof(double));
    rgm_copy(s, (double *)right.data + g * P * L, o->gram + (g * QQ + PP) * L,
             P * L * sizeof(double));
  }
  rgm_cholesky(s, small, right, status);
  take(s, irls.beta, o->beta);
  take(s, irls.status, o->status);
  take(s, irls.steps, o->steps);
  take(s, wls.coef, o->coef);
  take(s, wls.status, o->solved);
  take(s, wls.weight, o->sums);
  take(s, pseudo.y, o->y);
  take(s, right, o->solution);
  take(s, status, o->cholesky);
  const rgm_tensor inputs[] = {x,     z,     near,  wide, pairs, weight, rows, counts,
                               label, given, start, base, h,     gram,   small};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) {
    s->backend->release(s, inputs[i].data);
  }
}


static rgm_stream *open_stream(const char *backend, const char *isa, int threads) {
  rgm_stream *s = NULL;
  char note[512];
  const rgm_device_options options = {threads, isa, 0};
  setenv("RGM_CUDA_MODULE", RGM_CUDA_HOST_MODULE, 1);
  cr_assert_eq(rgm_open(backend, &options, &s, note, sizeof note), RGM_OK, "%s", rgm_last_error());
  return s;
}


// the same bytes; NaN are equal whatever their payload
static void same(const outcome *a, const outcome *b, const char *what) {
  const double *x = (const double *)a, *y = (const double *)b;
  const size_t doubles = offsetof(outcome, status) / sizeof(double);
  for (size_t i = 0; i < doubles; i++) {
    cr_assert(x[i] == y[i] || (isnan(x[i]) && isnan(y[i])), "%s: %zu: %.17g, not %.17g", what, i,
              y[i], x[i]);
  }
  cr_assert_eq(memcmp(a->status, b->status, sizeof *a - offsetof(outcome, status)), 0, "%s", what);
}


Test(regression, same_bits_everywhere) {
  static const struct {
    const char *backend, *isa;
    int threads;
  } streams[] = {{"cpu", "avx2", 1}, {"cpu", "auto", 3}, {"cuda", "auto", 1}};
  sample *d = make_sample();
  outcome *want = calloc(1, sizeof *want), *got = calloc(1, sizeof *got);
  for (int k = 0; k < 9; k++) {
    const bool single = k / 3 == 1, mixed = k / 3 == 2;
    rgm_stream *s = open_stream("cpu", "auto", 1);
    run_rows(s, d, single, mixed, (rgm_weighting)(k % 3), want);
    rgm_close(s);
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) {
      char what[64];
      snprintf(what, sizeof what, "%s %s %s, weighting %d", streams[i].backend, streams[i].isa,
               single  ? "float"
               : mixed ? "mixed"
                       : "double",
               k % 3);
      s = open_stream(streams[i].backend, streams[i].isa, streams[i].threads);
      run_rows(s, d, single, mixed, (rgm_weighting)(k % 3), got);
      rgm_close(s);
      same(want, got, what);
    }
  }
  free(d);
  free(want);
  free(got);
}


// ---- against long double -----------------------------------------------------------------------

// solves a symmetric system by Gauss's elimination
static void solve_long(long double *a, long double *b, int n) {
  for (int k = 0; k < n; k++) {
    for (int i = k + 1; i < n; i++) {
      const long double f = a[i * n + k] / a[k * n + k];
      for (int j = k; j < n; j++) {
        a[i * n + j] -= f * a[k * n + j];
      }
      b[i] -= f * b[k];
    }
  }
  for (int k = n - 1; k >= 0; k--) {
    for (int j = k + 1; j < n; j++) {
      b[k] -= a[k * n + j] * b[j];
    }
    b[k] /= a[k * n + k];
  }
}


// beta is a root of the score; coef solves its normal equations; y has the regret
static void check_lane(const sample *d, const outcome *o, rgm_weighting weighting, int g, int l) {
  long double score[P] = {0}, gram[Q * Q] = {0}, right[Q] = {0}, sum = 0;
  for (int i = 0; i < ROWS; i++) {
    const long double c = d->counts[(g * ALL + (int)d->rows[i]) * L + l];
    long double eta = 0, w = c * d->given[i];
    for (int j = 0; j < P; j++) {
      eta += (long double)d->x[j * ROWS + i] * o->beta[(g * P + j) * L + l];
    }
    const long double e = 1 / (1 + expl(-eta)), own = d->label[i] != 0 ? e : 1 - e;
    for (int j = 0; j < P; j++) {
      score[j] += c * (d->label[i] - e) * d->x[j * ROWS + i];
    }
    w *= weighting == RGM_WEIGHT_OVERLAP   ? 1 - own
         : weighting == RGM_WEIGHT_INVERSE ? (1 / own > 3 ? 3 : 1 / own)
                                           : 1;
    sum += w;
    for (int j = 0; j < Q; j++) {
      for (int k = 0; k < Q; k++) {
        gram[j * Q + k] += w * d->z[j * ROWS + i] * d->z[k * ROWS + i];
      }
      right[j] += w * d->z[j * ROWS + i] * d->y[d->rows[i]];
    }
  }
  solve_long(gram, right, Q);
  for (int j = 0; j < P; j++) {
    cr_assert_float_eq((double)score[j], 0.0, 1e-9, "score %d of lane %d", j, l);
  }
  cr_assert_float_eq(o->sums[g * L + l], (double)sum, 1e-9 * (double)sum);
  for (int j = 0; j < Q; j++) {
    cr_assert_float_eq(o->coef[(g * Q + j) * L + l], (double)right[j],
                       1e-9 * (1 + fabs((double)right[j])), "coefficient %d of lane %d", j, l);
  }
  for (int i = 0; i < ROWS; i++) {
    double gamma = 0.0;
    for (int j = 0; j < H; j++) {
      gamma += d->h[j * ROWS + i] * o->coef[(g * Q + 3 + j) * L + l];
    }
    const double want = d->y[d->rows[i]] + fmax(gamma, 0.0) - d->label[i] * gamma;
    cr_assert_float_eq(o->y[(g * ALL + (int)d->rows[i]) * L + l], want, 1e-10);
  }
}


Test(regression, against_long_double) {
  sample *d = make_sample();
  outcome *o = calloc(1, sizeof *o);
  rgm_stream *s = open_stream("cpu", "auto", 2);
  for (int k = 0; k < 6; k++) {
    const rgm_weighting weighting = (rgm_weighting)(k % 3);
    run_rows(s, d, false, k >= 3, weighting, o);
    for (int g = 0; g < G; g++) {
      for (int l = 0; l < L; l++) {
        if (g == 1 && (l == 7 || l == 8)) {
          cr_assert_eq(o->status[g * L + l], RGM_FIT_EMPTY);
          cr_assert(l == 7 || o->solved[g * L + l] == RGM_FIT_SINGULAR);
          continue;
        }
        cr_assert_eq(o->status[g * L + l], RGM_FIT_DONE);
        check_lane(d, o, weighting, g, l);
      }
    }
  }
  // Gram matrices of given weights, and a system of them
  for (int g = 0; g < G; g++) {
    for (int l = 0; l < L; l++) {
      long double gram[Q * Q] = {0}, small[P * P], right[P];
      for (int i = 0; i < ROWS; i++) {
        for (int j = 0; j < Q * Q; j++) {
          gram[j] += (long double)d->weight[(g * ROWS + i) * L + l] * d->wide[i * Q + j / Q] *
                     d->wide[i * Q + j % Q];
        }
      }
      for (int i = 0, at = 0; i < Q; i++) {
        for (int j = 0; j <= i; j++, at++) {
          cr_assert_float_eq(o->gram[(g * QQ + at) * L + l], (double)gram[i * Q + j], 1e-9);
        }
      }
      for (int i = 0; i < P; i++) {
        right[i] = gram[P * Q + i];
        for (int j = 0; j < P; j++) {
          small[i * P + j] = gram[i * Q + j];
        }
      }
      solve_long(small, right, P);
      for (int i = 0; i < P; i++) {
        cr_assert_float_eq(o->solution[(g * P + i) * L + l], (double)right[i], 1e-11);
      }
    }
  }
  rgm_close(s);
  free(d);
  free(o);
}


// the bound that logistic.h tells, and the ends
Test(regression, logistic_function) {
  double most = 0.0, most32 = 0.0;
  rgm_rng rng = {.key = {1, 2}};
  for (int i = 0; i < 200000; i++) {
    const double x = rgm_rng_range(&rng, -40, 40);
    const long double want = 1 / (1 + expl(-(long double)x));
    const float narrow = (float)x;
    const long double want32 = 1 / (1 + expl(-(long double)narrow));
    most = fmax(most, fabs((double)((rgm_logistic64(x) - want) / want)) / 0x1p-52);
    most32 = fmax(most32, fabs((double)((rgm_logistic32(narrow) - want32) / want32)) / 0x1p-23);
  }
  cr_assert_leq(most, 2.5, "%g", most);
  cr_assert_leq(most32, 2.5, "%g", most32);
  cr_assert_float_eq(rgm_logistic64(1e9), 1.0, 0x1p-51);
  cr_assert(rgm_logistic64(-1e9) < 1e-300);
  cr_assert_float_eq(rgm_logistic64(0.0), 0.5, 0x1p-51);
}


// ---- resamples and all stages ------------------------------------------------------------------

// units of five rows, the last one of what is left; 0: every row is a unit
static int64_t unit_bounds(int size, uint32_t *first, uint32_t *members) {
  int64_t units = 0;
  for (int i = 0; i < ALL; i++) {
    if (size == 0 || i % size == 0) {
      first[units++] = (uint32_t)i;
    }
    members[i] = (uint32_t)((i * 7) % ALL); // 7 and 650 have no common factor
  }
  first[units] = ALL;
  return units;
}


// every count by one philox word after the other
static void count_slowly(const rgm_resample *r, int size, const uint32_t *first,
                         const uint32_t *members, uint8_t *counts) {
  const rgm_key key = {r->key[0], r->key[1]};
  for (int b = 0; b < G * L; b++) {
    uint32_t count[ALL] = {0};
    const bool whole = b == 0 || b > r->replicates;
    for (uint32_t j = 0; j < (uint32_t)r->draws && !whole; j++) {
      const rgm_words words = rgm_philox(key, r->step, (uint32_t)b - 1, j / 4, 0);
      const uint32_t word[] = {words.w0, words.w1, words.w2, words.w3};
      const uint32_t unit = (uint32_t)(((uint64_t)word[j % 4] * (uint64_t)r->units) >> 32);
      for (uint32_t i = first[unit]; i < first[unit + 1]; i++) {
        count[size > 0 ? members[i] : i]++;
      }
    }
    for (int i = 0; i < ALL; i++) {
      const uint32_t want = whole ? 1 : count[i] < 255 ? count[i] : 255;
      counts[(b / L * ALL + i) * L + b % L] = (uint8_t)want;
    }
  }
}


Test(regression, resamples) {
  static const struct {
    const char *backend, *isa;
    int size, draws, replicates;
  } cases[] = {{"cpu", "auto", 0, ALL, 37},    {"cpu", "avx2", 0, 101, 47},
               {"cuda", "auto", 0, ALL, 37},   {"cpu", "auto", 5, 130, 3},
               {"cpu", "avx2", 5, 130, 0},     {"cuda", "auto", 5, 130, 30},
               {"cpu", "auto", 5, 130000, 20}, {"cpu", "avx2", 0, 200000, 20}};
  uint32_t *first = calloc(ALL + 1, sizeof *first), *members = calloc(ALL, sizeof *members);
  uint8_t *want = malloc(G * ALL * L), *got = malloc(G * ALL * L);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    rgm_stream *s = open_stream(cases[i].backend, cases[i].isa, 2);
    const int64_t units = unit_bounds(cases[i].size, first, members);
    rgm_resample r = {.counts = put(s, NULL, RGM_U8, G, ALL, L),
                      .units = units,
                      .draws = cases[i].draws,
                      .replicates = cases[i].replicates,
                      .key = {17, 4},
                      .step = 3};
    if (cases[i].size > 0) {
      r.first = put(s, first, RGM_U32, 1, units + 1, 0);
      r.members = put(s, members, RGM_U32, 1, ALL, 0);
    }
    rgm_resample_counts(s, &r);
    take(s, r.counts, got);
    count_slowly(&r, cases[i].size, first, members, want);
    cr_assert_eq(memcmp(want, got, G * ALL * L), 0, "case %d", (int)i);
    if (cases[i].size > 0) {
      s->backend->release(s, r.first.data);
      s->backend->release(s, r.members.data);
    }
    rgm_close(s);
  }
  free(first);
  free(members);
  free(want);
  free(got);
}


// three stages with one call, whatever the slices of y: what the rows give one after the other
static void run_stages(rgm_stream *s, const sample *d, int64_t slots, double *beta, double *coef) {
  const rgm_tensor x = put(s, d->x, RGM_F64, 1, P, ROWS),
                   near = put(s, d->x32, RGM_F32, 1, P, ROWS);
  const rgm_tensor z = put(s, d->z, RGM_F64, 1, Q, ROWS), h = put(s, d->h, RGM_F64, 1, H, ROWS);
  const rgm_tensor rows = put(s, d->rows, RGM_U32, 1, ROWS, 0);
  const rgm_tensor counts = put(s, d->counts, RGM_U8, G, ALL, L);
  const rgm_tensor label = put(s, d->label, RGM_F64, 1, ROWS, 0);
  const rgm_tensor start = put(s, d->start, RGM_F64, 1, P, 0);
  const rgm_tensor base = put(s, d->y, RGM_F64, 1, ALL, 1);
  const rgm_tensor y = put(s, NULL, RGM_F64, slots > 0 ? slots : G, ALL, L);
  const rgm_tensor status = put(s, NULL, RGM_U32, G, L, 0), steps = put(s, NULL, RGM_U32, G, L, 0);
  const rgm_tensor solved = put(s, NULL, RGM_U32, G, L, 0);
  rgm_irls irls[3];
  rgm_wls wls[3];
  rgm_pseudo pseudo[3];
  for (int k = 2; k >= 0; k--) {
    irls[k] = (rgm_irls){.beta = put(s, NULL, RGM_F64, G, P, L),
                         .status = status,
                         .steps = steps,
                         .x = spread(x),
                         .near = spread(near),
                         .label = spread(label),
                         .rows = spread(rows),
                         .counts = counts,
                         .start = spread(start)};
    wls[k] = (rgm_wls){.coef = put(s, NULL, RGM_F64, G, Q, L),
                       .status = solved,
                       .z = spread(z),
                       .y = k == 2 ? spread(base) : y,
                       .rows = spread(rows),
                       .counts = counts,
                       .x = spread(x),
                       .beta = irls[k].beta,
                       .label = spread(label),
                       .weighting = RGM_WEIGHT_OVERLAP,
                       .first = k > 0 ? FREE : Q};
    pseudo[k] = (rgm_pseudo){.y = y,
                             .from = wls[k].y,
                             .h = spread(h),
                             .coef = wls[k].coef,
                             .label = spread(label),
                             .rows = spread(rows),
                             .first = 3};
    if (slots == 0) {
      rgm_irls_fit(s, &irls[k]);
      rgm_wls_fit(s, &wls[k]);
      rgm_pseudo_outcome(s, &pseudo[k]);
    }
  }
  const rgm_stages stages = {.stages = 3, .irls = irls, .wls = wls, .pseudo = pseudo, .y = y};
  if (slots > 0) {
    rgm_staged_fit(s, &stages);
  }
  for (int k = 0; k < 3; k++) {
    take(s, irls[k].beta, beta + k * G * P * L);
    take(s, wls[k].coef, coef + k * G * Q * L);
  }
  const rgm_tensor all[] = {x,     near, z, h,      rows,  counts, label,
                            start, base, y, status, steps, solved};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    s->backend->release(s, all[i].data);
  }
}


Test(regression, stages_in_one_call) {
  static const struct {
    const char *backend, *isa;
    int threads, slots;
  } cases[] = {
      {"cpu", "auto", 1, 1}, {"cpu", "auto", 3, 2}, {"cpu", "avx2", 2, 3}, {"cuda", "auto", 1, 2}};
  sample *d = make_sample();
  double *want = calloc(2, 3 * G * (P + Q) * L * sizeof *want), *got = want + 3 * G * (P + Q) * L;
  rgm_stream *s = open_stream("cpu", "auto", 1);
  run_stages(s, d, 0, want, want + 3 * G * P * L);
  rgm_close(s);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    s = open_stream(cases[i].backend, cases[i].isa, cases[i].threads);
    run_stages(s, d, cases[i].slots, got, got + 3 * G * P * L);
    rgm_close(s);
    for (int j = 0; j < 3 * G * (P + Q) * L; j++) {
      cr_assert(want[j] == got[j] || (isnan(want[j]) && isnan(got[j])), "case %d: %d", (int)i, j);
    }
  }
  free(d);
  free(want);
}
