// SPDX-License-Identifier: Apache-2.0
// The search for PID gains (algorithm pid_cem): moments of its draws, order of its sums, packs,
// resuming, threads, masks, what all candidates share, and that a short search finds better gains.
// The kernels against double, strides and the like are in test_kernels.

#include "engine/engine.h"
#include "kernels/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(search, .timeout = 120);

// odd sizes on purpose: 19 candidates, 5 patients, 301 steps
static const char small[] = "run: {steps: 6, seed: 11}\n"
                            "env: {name: propofol, steps: 301}\n"
                            "algorithm: {name: pid_cem, candidates: 19, patients: 5}\n";


static rgm_run *make_run(const char *text, int count, const char *const *sets) {
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  cr_assert_eq(rgm_config_parse("test", text, sets, count, &config), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_run_create(config, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


static void steps(rgm_run *run, int count) {
  for (int i = 0; i < count; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK);
    run->step++;
  }
  cr_assert_eq(rgm_guard(run), RGM_OK, "%s", rgm_last_error());
}


static rgm_checkpoint *snapshot(rgm_run *run) {
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  return c;
}


static void digest_of(rgm_run *run, char hex[65]) {
  rgm_checkpoint *c = snapshot(run);
  rgm_checkpoint_digest(c, hex);
  rgm_checkpoint_free(c);
}


// the planned tensor of a name, on the CPU
static rgm_tensor tensor(const rgm_run *run, const char *name) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    if (strcmp(e->name, name) == 0) {
      return e->tensor;
    }
  }
  cr_assert_fail("no tensor %s", name);
  return (rgm_tensor){0};
}


static const float *values(const rgm_run *run, const char *name) {
  return tensor(run, name).data;
}


// ---- kernels -----------------------------------------------------------------------------------

// many draws have the moments of the Gaussian, and dims and neighbours are independent
Test(search, draws_have_the_moments_of_the_gaussian) {
  enum { M = 40000, D = 5 };
  static float x[M * D];
  float mean[D] = {0.0f, 1.0f, -2.0f, 10.0f, 0.5f}, log_sd[D] = {0.0f, -1.0f, 1.0f, 0.5f, -3.0f};
  uint32_t seed[2] = {5, 6}, clock = 3, active = 1;
  rgm_stream *stream = NULL;
  char note[512];
  const rgm_device_options options = {1, "auto", 0};
  cr_assert_eq(rgm_open("cpu", &options, &stream, note, sizeof note), RGM_OK);
  rgm_gaussian_draw(stream, rgm_view(x, RGM_F32, 1, M, D, 0), rgm_view(mean, RGM_F32, 1, D, 0, 0),
                    rgm_view(log_sd, RGM_F32, 1, D, 0, 0), rgm_view(seed, RGM_U32, 1, 2, 0, 0),
                    rgm_view(&clock, RGM_U32, 1, 0, 0, 0), RGM_RANDOM_SEARCH,
                    rgm_view(&active, RGM_U32, 1, 0, 0, 0));
  cr_assert_eq(rgm_sync(stream), RGM_OK);
  for (int a = 0; a < D; a++) {
    // five standard errors: 1 / sqrt(M) of a mean and a correlation, 1 / sqrt(2 M) of a sd
    double sum = 0.0, square = 0.0;
    for (int m = 0; m < M; m++) {
      const double z = ((double)x[m * D + a] - (double)mean[a]) / exp((double)log_sd[a]);
      sum += z / M;
      square += z * z / M;
    }
    cr_assert_float_eq(sum, 0.0, 5.0 / sqrt(M), "mean of dim %d", a);
    cr_assert_float_eq(sqrt(square), 1.0, 5.0 / sqrt(2.0 * M), "sd of dim %d", a);
    for (int b = 0; b < D; b++) {
      double same = 0.0, next = 0.0;
      for (int m = 0; m + 1 < M; m++) {
        const double za = ((double)x[m * D + a] - (double)mean[a]) / exp((double)log_sd[a]);
        const double zb = ((double)x[m * D + b] - (double)mean[b]) / exp((double)log_sd[b]);
        const double zn = ((double)x[(m + 1) * D + b] - (double)mean[b]) / exp((double)log_sd[b]);
        same += za * zb / M;
        next += za * zn / M;
      }
      cr_assert_float_eq(same, a == b ? 1.0 : 0.0, a == b ? 0.05 : 5.0 / sqrt(M), "%d %d", a, b);
      cr_assert_float_eq(next, 0.0, 5.0 / sqrt(M), "%d and the next %d", a, b);
    }
  }
  rgm_close(stream);
}


// the sums of gaussian_refit in the order that kernels.h promises, bit for bit; many dims, since
// root and logarithm hide most differences of one rounding
Test(search, refit_sums_in_order) {
  enum { M = 37, D = 200 };
  float x[M][D], weight[M], mean[D], log_sd[D], want[D], want_sd[D], rate = 0.9f, floor = 1e-4f;
  uint32_t active = 1, state = 12345;
  for (int i = 0; i < M * D; i++) {
    state = state * 1664525u + 1013904223u;
    x[i / D][i % D] = (float)(state >> 8) * 0x1p-23f - 1.0f;
    weight[i / D] = i / D % 3 == 0 ? 1.0f / 13.0f : 0.0f;
  }
  for (int d = 0; d < D; d++) {
    float centre = 0.0f, variance = 0.0f;
    mean[d] = 0.3f;
    log_sd[d] = -0.7f;
    for (int m = 0; m < M; m++) {
      centre = fmaf(weight[m], x[m][d], centre);
    }
    for (int m = 0; m < M; m++) {
      variance = fmaf(weight[m] * (x[m][d] - centre), x[m][d] - centre, variance);
    }
    const float sd = rgm_exp(log_sd[d]);
    want[d] = fmaf(rate, centre - mean[d], mean[d]);
    want_sd[d] = rgm_log(fmaf(rate, sqrtf(variance) - sd, sd));
  }
  rgm_stream *stream = NULL;
  char note[512];
  const rgm_device_options options = {1, "auto", 0};
  cr_assert_eq(rgm_open("cpu", &options, &stream, note, sizeof note), RGM_OK);
  rgm_gaussian_refit(stream, rgm_view(mean, RGM_F32, 1, D, 0, 0),
                     rgm_view(log_sd, RGM_F32, 1, D, 0, 0), rgm_view(x, RGM_F32, 1, M, D, 0),
                     rgm_view(weight, RGM_F32, 1, M, 0, 0), rgm_view(&rate, RGM_F32, 1, 0, 0, 0),
                     rgm_view(&floor, RGM_F32, 1, 0, 0, 0), rgm_view(&active, RGM_U32, 1, 0, 0, 0));
  cr_assert_eq(rgm_sync(stream), RGM_OK);
  for (int d = 0; d < D; d++) {
    cr_assert_eq(rgm_bits(mean[d]), rgm_bits(want[d]), "mean of dim %d", d);
    cr_assert_eq(rgm_bits(log_sd[d]), rgm_bits(want_sd[d]), "sd of dim %d", d);
  }
  rgm_close(stream);
}


// ---- the algorithm -----------------------------------------------------------------------------

// Ziegler-Nichols on the generic patient, recomputed outside this program (spec, section 1.5):
// 8.67, 0.2435, 77.2
Test(search, starts_from_the_baseline_divided) {
  static const char *const sets[] = {"algorithm.start_divisor=4", "algorithm.start_sd=0.5",
                                     "run.replicas=2"};
  static const double zn[] = {8.67, 0.2435, 77.2};
  rgm_run *run = make_run(small, 3, sets);
  for (int i = 0; i < 6; i++) {
    cr_assert_float_eq(values(run, "gains")[i], zn[i % 3] / 4.0, 2e-3 * zn[i % 3], "%d", i);
    cr_assert_float_eq(values(run, "search/log_sd")[i], log(0.5), 1e-6);
  }
  rgm_run_free(run);
}


// with almost no spread all candidates are one controller, and so must be their returns, patient by
// patient: they meet the same patients and the same noise
Test(search, candidates_meet_the_same_patients_and_noise) {
  static const char *const sets[] = {"run.replicas=3", "algorithm.start_sd=1e-6",
                                     "algorithm.start_divisor=8"};
  rgm_run *run = make_run(small, 3, sets);
  steps(run, 1);
  const float *returns = values(run, "generation/returns");
  for (int r = 0; r < 3; r++) {
    const float *first = returns + r * 19 * 5;
    cr_assert(fabsf(first[0] - first[1]) > 0.01f, "two patients have one return");
    cr_assert(fabsf(first[0] - returns[(r + 1) % 3 * 19 * 5]) > 0.01f, "two seeds have one return");
    for (int m = 0; m < 19; m++) {
      for (int p = 0; p < 5; p++) {
        cr_assert_float_eq(first[m * 5 + p], first[p], 0.01f, "replica %d, %d, %d", r, m, p);
      }
    }
  }
  rgm_run_free(run);
}


// replica r of a pack, at a step of its own, has the bits of the run alone with seed + r there
Test(search, replica_of_a_pack_equals_the_run_alone) {
  static const char *const pack_sets[] = {"run.replicas=4", "run.threads=2"};
  static const char *const names[] = {"search/mean", "search/log_sd", "gains", "generation/returns",
                                      "clock"};
  rgm_run *pack = make_run(small, 2, pack_sets);
  for (uint32_t r = 0; r < 4; r++) {
    ((uint32_t *)pack->clock.data)[r] = r * r;
  }
  steps(pack, 5);
  for (int r = 0; r < 4; r++) {
    char seed[32];
    snprintf(seed, sizeof seed, "run.seed=%d", 11 + r);
    const char *const sets[] = {seed, "run.threads=1"};
    rgm_run *alone = make_run(small, 2, sets);
    ((uint32_t *)alone->clock.data)[0] = (uint32_t)(r * r);
    steps(alone, 5);
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
      const rgm_tensor t = tensor(alone, names[k]);
      const float *mine = values(pack, names[k]) + r * t.stride0;
      cr_assert(memcmp(mine, t.data, rgm_bytes(t)) == 0, "%s of replica %d", names[k], r);
    }
    rgm_run_free(alone);
  }
  cr_assert_neq(values(pack, "gains")[0], values(pack, "gains")[3]);
  rgm_run_free(pack);
}


Test(search, bits_do_not_depend_on_threads_or_isa) {
  char first[65] = "", hex[65];
  for (const char *const *isa = rgm_cpu_isas(); *isa != NULL; isa++) {
    for (int threads = 1; threads <= 5; threads += 2) {
      char a[64], b[64];
      snprintf(a, sizeof a, "run.isa=%s", *isa);
      snprintf(b, sizeof b, "run.threads=%d", threads);
      const char *const sets[] = {a, b, "run.replicas=3"};
      rgm_run *run = make_run(small, 3, sets);
      steps(run, 3);
      digest_of(run, hex);
      rgm_run_free(run);
      if (first[0] == '\0') {
        memcpy(first, hex, sizeof hex);
      }
      cr_assert_str_eq(hex, first, "%s with %d threads", *isa, threads);
    }
  }
}


Test(search, restored_run_goes_on_as_if_never_stopped) {
  static const char *const sets[] = {"run.replicas=3"};
  char straight[65], resumed[65];
  rgm_run *run = make_run(small, 1, sets);
  steps(run, 6);
  digest_of(run, straight);
  rgm_run_free(run);

  run = make_run(small, 1, sets);
  steps(run, 2);
  rgm_checkpoint *c = snapshot(run);
  rgm_run_free(run);
  run = make_run(small, 1, sets);
  steps(run, 1); // some other state, to be overwritten
  cr_assert_eq(rgm_run_restore(run, c, true), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(run->step, 2);
  steps(run, 4);
  digest_of(run, resumed);
  cr_assert_str_eq(straight, resumed);
  rgm_checkpoint_free(c);
  rgm_run_free(run);
}


// a replica that is masked keeps its Gaussian and gains, the others go on
Test(search, masked_replicas_keep_their_bits) {
  static const char *const sets[] = {"run.replicas=3"};
  static const char *const names[] = {"search/mean", "search/log_sd", "gains"};
  rgm_run *run = make_run(small, 1, sets);
  steps(run, 1);
  ((uint32_t *)tensor(run, "active").data)[1] = 0;
  rgm_checkpoint *before = snapshot(run);
  steps(run, 2);
  const uint32_t *clock = tensor(run, "clock").data;
  cr_assert(clock[0] == 3 && clock[1] == 1 && clock[2] == 3);
  for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
    const float *old = rgm_checkpoint_record(before, names[k])->data, *now = values(run, names[k]);
    for (int r = 0; r < 3; r++) {
      const bool same = memcmp(old + 3 * r, now + 3 * r, 3 * sizeof *old) == 0;
      cr_assert_eq(same, r == 1, "%s of replica %d", names[k], r);
    }
  }
  rgm_checkpoint_free(before);
  rgm_run_free(run);
}


// a short search: every seed ends above its start; the two generations are judged on different
// patients, so the margin is wide
Test(search, a_short_search_improves_the_return) {
  static const char *const sets[] = {"run.replicas=2", "env.steps=500", "env.targets=1",
                                     "algorithm.candidates=32", "algorithm.patients=16"};
  rgm_run *run = make_run(small, 5, sets);
  float first[2];
  steps(run, 1);
  memcpy(first, values(run, "generation/average"), sizeof first);
  steps(run, 11);
  const float *last = values(run, "generation/average");
  for (int r = 0; r < 2; r++) {
    cr_assert(last[r] > first[r] + 1.0f, "%g -> %g", (double)first[r], (double)last[r]);
    cr_assert(values(run, "search/log_sd")[3 * r] < -0.5f, "the Gaussian did not narrow");
  }
  rgm_run_free(run);
}
