// SPDX-License-Identifier: Apache-2.0
// Tests of the kernel table: every row against a double-precision reference, the documented order
// of sums, the same bits on every instruction set, thread count and replica count, masks, strides,
// finite differences, random numbers, and the threads themselves.

#include "tests/kernel_checks.h"

#include <criterion/criterion.h>
#include <float.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

TestSuite(kernels, .init = open_streams, .fini = close_streams, .timeout = 30);

Test(kernels, reference) {
  for_all(check_values);
}


Test(kernels, strides) {
  for_all(check_strides);
}


Test(kernels, same_bits_on_every_stream) {
  for_all(check_devices);
}


Test(kernels, same_bits_alone_and_packed) {
  for_all(check_alone);
}


Test(kernels, masked_replicas_stay) {
  for_all(check_mask);
  cr_assert_gt(masked_kernels, 0);
}


Test(kernels, linear_sums_in_order) {
  for (int k = 0; mlp_shapes[k][0] > 0; k++) {
    const int64_t *n = mlp_shapes[k], inputs = n[2], outputs = n[3];
    int64_t plain[NUMBERS];
    memcpy(plain, n, sizeof plain);
    plain[4] = RGM_LINEAR;
    call y = make_call(find_kernel("linear"), plain, 0, 0);
    call dx = make_call(find_kernel("linear_dx"), plain, 0, 0);
    run_call(&y, streams[0]);
    run_call(&dx, streams[0]);
    for (int64_t i = 0; i < n[0] * n[1] * outputs; i++) {
      const int64_t r = i / outputs / n[1], row = i / outputs % n[1], o = i % outputs;
      float sum = f32(y.t[3], r)[o];
      for (int64_t j = 0; j < inputs; j++) {
        sum = fmaf(f32(y.t[1], r)[row * inputs + j], f32(y.t[2], r)[j * outputs + o], sum);
      }
      cr_assert(same_number(sum, f32(y.t[0], r)[row * outputs + o]), "linear, shape %d", k);
    }
    for (int64_t i = 0; i < n[0] * n[1] * inputs; i++) {
      const int64_t r = i / inputs / n[1], row = i / inputs % n[1], j = i % inputs;
      float sum = 0.0f;
      for (int64_t o = 0; o < outputs; o++) {
        sum = fmaf(f32(dx.t[1], r)[row * outputs + o], f32(dx.t[2], r)[j * outputs + o], sum);
      }
      cr_assert(same_number(sum, f32(dx.t[0], r)[row * inputs + j]), "linear_dx, shape %d", k);
    }
    drop_all();
  }
}


// What nothing pushes any more shrinks to 0 and does not stay where numbers lose their digits, in
// which every operation takes a hundred times as long: moments and velocity of a parameter without
// a gradient, one under decay alone, a target.
Test(kernels, what_is_dead_comes_to_rest) {
  enum { ADAM, ADAM_DECAYING, SGD, EMA, CASES, STEPS = 120000 };
  static const char *const names[] = {"adam", "adam under decay", "sgd", "ema"};
  for (int k = 0; k < CASES; k++) {
    float state[3] = {0.3f, 1e-3f, 1e-6f}, g = 0.0f, rate = 1e-2f, beta = 0.9f, second = 0.999f;
    float small = 1e-8f, gone = 0.0f;
    uint32_t count = 0, active = 1;
    rgm_tensor t[3], numbers[5];
    float *const given[] = {&g, &rate, &beta, &second, &small};
    for (int i = 0; i < 3; i++) {
      t[i] = rgm_view(&state[i], RGM_F32, 1, 1, 0, 0);
    }
    for (int i = 0; i < 5; i++) {
      numbers[i] = rgm_view(given[i], RGM_F32, 1, i == 0 ? 1 : 0, 0, 0);
    }
    const rgm_tensor steps = rgm_view(&count, RGM_U32, 1, 0, 0, 0);
    const rgm_tensor on = rgm_view(&active, RGM_U32, 1, 0, 0, 0);
    for (int n = 0; n < STEPS; n++) {
      g = k == ADAM_DECAYING ? 1e-4f * state[0] : 0.0f;
      if (k == EMA) {
        rgm_ema(host_stream(), t[0], rgm_view(&gone, RGM_F32, 1, 1, 0, 0), numbers[1], on);
      } else if (k == SGD) {
        rgm_sgd(host_stream(), t[0], t[1], numbers[0], numbers[1], numbers[2], on);
      } else {
        rgm_adam(host_stream(), t[0], t[1], t[2], steps, numbers[0], numbers[1], numbers[2],
                 numbers[3], numbers[4], on);
      }
      for (int i = 0; i < 3; i++) {
        cr_assert(fpclassify(state[i]) != FP_SUBNORMAL, "%s, step %d: number %d", names[k], n, i);
      }
    }
    cr_assert(k == EMA ? state[0] == 0.0f : state[1] == 0.0f, "%s: moves still", names[k]);
    cr_assert(k != ADAM || state[2] == 0.0f, "%s: its mean square is left", names[k]);
  }
}


// sum of x[i] * y[i] over rows, in the order that kernels.h promises; x NULL counts as ones
static float ordered_sum(const float *x, int64_t x_stride, const float *y, int64_t y_stride,
                         int64_t rows) {
  float block[16] = {0.0f};
  for (int64_t i = 0; i < rows; i++) {
    float *sum = &block[i / RGM_ROW_BLOCK];
    *sum = fmaf(x != NULL ? x[i * x_stride] : 1.0f, y[i * y_stride], *sum);
  }
  return tree(block, (rows + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK);
}


Test(kernels, row_sums_in_blocks_and_a_tree) {
  static const int64_t rows[] = {1,    7,    255,  256,  257,  511,  512, 700,
                                 1024, 1100, 1500, 1536, 1700, 2000, 2304};
  for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
    const int64_t n = rows[k], inputs = 5, outputs = 32;
    const call c =
        make_call(find_kernel("linear_dw"), (int64_t[NUMBERS]){2, n, inputs, outputs}, 0, 0);
    call dw = c, sum = make_call(find_kernel("sum"), (int64_t[NUMBERS]){3, n}, 0, 0);
    run_call(&dw, streams[0]);
    run_call(&sum, streams[0]);
    for (int64_t i = 0; i < 2 * (inputs + 1) * outputs; i++) {
      const int64_t r = i % 2, j = i / 2 / outputs, o = i / 2 % outputs;
      const float *x = j < inputs ? f32(dw.t[2], r) + j : NULL, *dz = f32(dw.t[3], r) + o;
      const float got = j < inputs ? f32(dw.t[0], r)[j * outputs + o] : f32(dw.t[1], r)[o];
      cr_assert(same_number(ordered_sum(x, inputs, dz, outputs, n), got), "dw, %d rows", (int)n);
    }
    for (int64_t r = 0; r < 3; r++) {
      const float want = 0.3f * ordered_sum(NULL, 0, f32(sum.t[1], r), 1, n);
      cr_assert(same_number(want, f32(sum.t[0], r)[0]), "sum, %d elements", (int)n);
    }
    drop_all();
  }
}


// ---- gradients against central differences of a loss in double

// loss of softmax_xent's row
static double softmax_loss(const double *z, int64_t classes, int label, double weight) {
  double sum = 0.0;
  for (int64_t c = 0; c < classes; c++) {
    sum += exp(z[c]);
  }
  return weight * (log(sum) - z[label]);
}


Test(kernels, softmax_xent_is_the_slope_of_the_loss) {
  const int64_t n[NUMBERS] = {2, 17, 16, 7}, rows = n[1], columns = n[2];
  const double step = 1e-5;
  call c = make_call(find_kernel("softmax_xent"), n, 0, 0);
  run_call(&c, streams[0]);
  for (int64_t k = 0; k < n[0] * rows * columns; k++) {
    const int64_t r = k / columns / rows, row = k / columns % rows, at = k % columns;
    double *z = doubles(f32(c.t[2], r) + row * columns, columns), slope = 0.0;
    for (int sign = -1; sign <= 1; sign += 2) {
      z[at] = (double)f32(c.t[2], r)[row * columns + at] + sign * step;
      slope += sign * softmax_loss(z, n[3], (int)f32(c.t[3], r)[row], f32(c.t[4], r)[row]);
    }
    cr_assert_float_eq(f32(c.t[1], r)[row * columns + at], slope / (2.0 * step), 2e-6);
  }
}


// ---- order statistics and selection

typedef struct quantile_case {
  int64_t count;
  float x[5], q, want;
} quantile_case;

Test(kernels, quantile_of_small_samples) {
  static const quantile_case cases[] = {
      {1, {7}, 0.3f, 7},
      {2, {1, 2}, 0.25f, 1.25f},
      {2, {3, 1}, 0, 1},
      {2, {3, 1}, 1, 3},
      {4, {2, 5, 2, 2}, 0.5f, 2},
      {4, {5, 5, 5, 5}, 0.7f, 5},
      {4, {4, 3, 2, 1}, 0.5f, 2.5f},
      {5, {40, 0, 20, 10, 30}, 0.125f, 5},
      {5, {40, 0, 20, 10, 30}, 0.75f, 30},
      {5, {-0.0f, 0, -1, 1, 0}, 0.5f, 0},
      // NaN is last, and an order statistic takes nothing from its neighbour
      {3, {NAN, 1, 2}, 0, 1},
      {3, {NAN, 1, 2}, 0.25f, 1.5f},
      {3, {NAN, 1, 2}, 0.5f, 2},
      {3, {NAN, 1, 2}, 0.75f, NAN},
      {3, {2, NAN, 1}, 1, NAN},
      {2, {NAN, NAN}, 0.5f, NAN},
      {3, {INFINITY, NAN, 1}, 0.5f, INFINITY},
      {3, {INFINITY, 1, 2}, 0.5f, 2},
      {3, {-INFINITY, 0, -INFINITY}, 0.25f, -INFINITY},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    const int64_t n[NUMBERS] = {1, cases[k].count};
    call c = make_call(find_kernel("quantile"), n, 0, 0);
    memcpy(f32(c.t[2], 0), cases[k].x, (size_t)n[1] * sizeof(float));
    f32(c.t[3], 0)[0] = cases[k].q;
    commit(&c);
    for (int s = 0; s < stream_count; s++) {
      restore(&c);
      run_call(&c, streams[s]);
      const float got = f32(c.t[0], 0)[0], want = cases[k].want;
      cr_assert(got == want || (isnan(got) && isnan(want)), "case %d: %g, want %g", (int)k,
                (double)got, (double)want);
    }
    drop_all();
  }
}


Test(kernels, select_of_small_samples) {
  static const float x[] = {1, NAN, 3, 3, -INFINITY};
  static const struct {
    float threshold, want[5];
  } cases[] = {
      {3, {0, 0, 0.5f, 0.5f, 0}},
      {4, {0, 0, 0, 0, 0}},
      {NAN, {0, 0, 0, 0, 0}},
      {2, {0, 0, 0.5f, 0.5f, 0}},
      {1, {1.0f / 3, 0, 1.0f / 3, 1.0f / 3, 0}},
      {-INFINITY, {0.25f, 0, 0.25f, 0.25f, 0.25f}},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    call c = make_call(find_kernel("select"), (int64_t[NUMBERS]){1, 5}, 0, 0);
    memcpy(f32(c.t[1], 0), x, sizeof x);
    f32(c.t[2], 0)[0] = cases[k].threshold;
    commit(&c);
    run_call(&c, streams[0]);
    for (int i = 0; i < 5; i++) {
      cr_assert(f32(c.t[0], 0)[i] == cases[k].want[i], "case %d, element %d: %g", (int)k, i,
                (double)f32(c.t[0], 0)[i]);
    }
    drop_all();
  }
}


// ---- random numbers

// Random123's kat_vectors, philox4x32 with 10 rounds
Test(kernels, philox_known_answers) {
  static const struct {
    uint32_t counter[4], key[2], want[4];
  } cases[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}},
      {{0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu},
       {0xffffffffu, 0xffffffffu},
       {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}},
      {{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
       {0xa4093822u, 0x299f31d0u},
       {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}},
  };
  for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
    const uint32_t *c = cases[k].counter, *want = cases[k].want;
    const rgm_key key = {cases[k].key[0], cases[k].key[1]};
    const rgm_words words = rgm_philox(key, c[0], c[1], c[2], c[3]);
    cr_assert(words.w0 == want[0] && words.w1 == want[1] && words.w2 == want[2] &&
                  words.w3 == want[3],
              "vector %d", (int)k);
  }

  // a stream of a seed is a key of its own
  const uint32_t seed[2] = {5, 9};
  cr_assert_eq(rgm_stream_key(seed, 0).k0, 5u);
  cr_assert_eq(rgm_stream_key(seed, 0).k1, 9u);
  cr_assert_eq(rgm_stream_key(seed, 1).k1, 9u ^ 0x9e3779b9u);
}


Test(kernels, unit_and_normal_numbers) {
  cr_assert_eq(rgm_unit(0), 0.0f);
  cr_assert_eq(rgm_unit(0xffffffffu), 1.0f - 0x1p-24f);
  cr_assert(rgm_unit64(0) > 0.0 && rgm_unit64(0xffffffffu) < 1.0);

  // moments within 5 standard errors; |n| never beyond 5.77
  enum { PAIRS = 1 << 17 };
  const rgm_key key = {12345, 678};
  const double n = 2.0 * PAIRS;
  double sum[5] = {0.0}, product = 0.0, unit = 0.0, most = 0.0;
  for (uint32_t i = 0; i < PAIRS; i++) {
    const rgm_words words = rgm_philox(key, 0, i, 0, 0);
    float pair[2];
    rgm_normals(words.w0, words.w1, &pair[0], &pair[1]);
    for (int k = 0; k < 2; k++) {
      const double x = (double)pair[k];
      sum[1] += x;
      sum[2] += x * x;
      sum[3] += x * x * x;
      sum[4] += x * x * x * x;
      most = fmax(most, fabs(x));
    }
    product += (double)pair[0] * (double)pair[1];
    unit += (double)rgm_unit(words.w2);
  }
  cr_expect_float_eq(sum[1] / n, 0.0, 5.0 / sqrt(n));
  cr_expect_float_eq(sum[2] / n, 1.0, 5.0 * sqrt(2.0 / n));
  cr_expect_float_eq(sum[3] / n, 0.0, 5.0 * sqrt(15.0 / n));
  cr_expect_float_eq(sum[4] / n, 3.0, 5.0 * sqrt(96.0 / n));
  cr_expect_float_eq(product / PAIRS, 0.0, 5.0 / sqrt(PAIRS));
  cr_expect_float_eq(unit / PAIRS, 0.5, 5.0 / sqrt(12.0 * PAIRS));
  cr_expect(most > 4.0 && most < 5.77);

  // the ends of the radius
  float a, b;
  rgm_normals(0, 0, &a, &b);
  cr_expect(a > 5.76f && a < 5.77f && b == 0.0f);
  rgm_normals(0xffffffffu, 0x40000000u, &a, &b);
  cr_expect(a == 0.0f && b == 0.0f);
}


Test(kernels, uniform_does_not_depend_on_padding) {
  const int64_t narrow[NUMBERS] = {2, 9, 16, 5, 4}, wide[NUMBERS] = {2, 9, 48, 5, 4};
  call a = make_call(find_kernel("uniform"), narrow, 0, 0);
  call b = make_call(find_kernel("uniform"), wide, 0, 0);
  run_call(&a, streams[0]);
  run_call(&b, streams[0]);
  for (int64_t k = 0; k < 2 * 9 * 48; k++) {
    const int64_t r = k / 48 / 9, row = k / 48 % 9, c = k % 48;
    const float want = c < 5 ? f32(a.t[0], r)[row * 16 + c] : 0.0f;
    cr_assert(f32(b.t[0], r)[row * 48 + c] == want && want >= -0.25f && want < 0.75f);
  }

  // another member, another seed, another replica: other numbers
  call other = make_call(find_kernel("uniform"), (int64_t[NUMBERS]){2, 9, 16, 5, 5}, 0, 0);
  run_call(&other, streams[0]);
  cr_assert_neq(f32(a.t[0], 0)[0], f32(other.t[0], 0)[0]);
  cr_assert_neq(f32(a.t[0], 0)[0], f32(a.t[0], 1)[0]);
}


// ---- threads, devices

enum { MOST = 1000 };

typedef struct visits {
  _Atomic int count[MOST];
  pthread_t by[MOST];
} visits;

static void visit(void *arg, int64_t index) {
  visits *v = arg;
  atomic_fetch_add(&v->count[index], 1);
  v->by[index] = pthread_self();
}


static void expect_visits(visits *v, int64_t count, int times) {
  for (int64_t i = 0; i < MOST; i++) {
    cr_assert_eq(v->count[i], i < count ? times : 0, "index %d of %d ran %d times, want %d", (int)i,
                 (int)count, v->count[i], times);
    v->count[i] = 0;
  }
}


Test(kernels, parallel_runs_each_index_once) {
  static const int64_t counts[] = {1, 0, 2, 7, MOST};
  static visits v;
  for (size_t k = 0; k < sizeof thread_counts / sizeof *thread_counts; k++) {
    for (int i = 0; i < 5; i++) {
      for (int launch = 0; launch < 500; launch++) {
        rgm_cpu_parallel(streams[k], counts[i], visit, &v);
      }
      expect_visits(&v, counts[i], 500);
    }
  }

  // 10,000 in a row, of changing size
  for (int launch = 0; launch < 10000; launch++) {
    rgm_cpu_parallel(streams[launch / 2500], counts[launch % 4], visit, &v);
    atomic_fetch_sub(&v.count[0], counts[launch % 4] > 0 ? 1 : 0);
  }
  cr_assert_eq(v.count[0], 0);
  cr_assert_eq(v.count[1], 5000);
  cr_assert_eq(v.count[2], 2500);
  cr_assert_eq(v.count[6], 2500);
}


Test(kernels, parallel_wakes_sleeping_threads) {
  static visits v;
  for (int launch = 0; launch < 8; launch++) {
    const struct timespec rest = {0, 2000000};
    nanosleep(&rest, NULL);
    for (size_t k = 0; k < sizeof thread_counts / sizeof *thread_counts; k++) {
      rgm_cpu_parallel(streams[k], 7, visit, &v);
      expect_visits(&v, 7, 1);
    }
  }
}


Test(kernels, parallel_gives_each_thread_a_fixed_share) {
  static visits v;
  for (size_t k = 0; k < sizeof thread_counts / sizeof *thread_counts; k++) {
    const int threads = thread_counts[k];
    cr_assert_eq(rgm_cpu_threads(streams[k]), threads);
    pthread_t owner[8];
    for (int launch = 0; launch < 3; launch++) {
      rgm_cpu_parallel(streams[k], MOST, visit, &v);
      for (int t = 0; t < threads; t++) {
        const int begin = MOST * t / threads, end = MOST * (t + 1) / threads;
        owner[t] = launch == 0 ? v.by[begin] : owner[t];
        cr_assert(pthread_equal(owner[0], pthread_self()));
        cr_assert(t == 0 || !pthread_equal(owner[t], owner[t - 1]));
        for (int i = begin; i < end; i++) {
          cr_assert(pthread_equal(v.by[i], owner[t]), "index %d of thread %d", i, t);
        }
      }
    }
  }
}


static void count_call(void *arg, rgm_stream *s) {
  (void)s;
  ++*(int *)arg;
}

Test(kernels, device_rows) {
  for (int k = 0; k < stream_count; k++) {
    rgm_stream *s = streams[k];
    const rgm_backend *b = s->backend;
    void *memory;
    cr_assert_eq(b->alloc(s, 1000, &memory), RGM_OK);
    cr_assert_eq((uintptr_t)memory % 64, 0u);
    unsigned char *bytes = memory, copy[500];
    for (int i = 0; i < 1000; i++) {
      cr_assert_eq(bytes[i], 0);
    }

    // fill a middle part, copy a part of it
    rgm_fill(s, rgm_view(bytes + 100, RGM_F32, 3, 7, 0, 0), 0x5a);
    rgm_copy(s, copy, bytes + 50, sizeof copy);
    cr_assert_eq(rgm_sync(s), RGM_OK);
    for (int i = 0; i < 500; i++) {
      cr_assert_eq(copy[i], i >= 50 && i < 50 + 84 ? 0x5a : 0);
    }
    b->release(s, memory);

    // the work of a captured function is done each time
    int calls = 0;
    for (int i = 0; i < 3; i++) {
      rgm_graph(s, 1, count_call, &calls);
      cr_assert_eq(rgm_sync(s), RGM_OK);
      cr_assert_eq(calls, i + 1);
    }

    // the books: fill writes 84 bytes, copy reads and writes 500; linear has 2 B I O flops and is
    // timed on request
    cr_assert_eq(s->counts[RGM_ROW_fill].bytes, 84.0);
    cr_assert_eq(s->counts[RGM_ROW_copy].bytes, 1000.0);
    const rgm_counts before = s->counts[RGM_ROW_linear];
    s->timed = true;
    call c = make_call(find_kernel("linear"), (int64_t[NUMBERS]){2, 5, 3, 16, 0}, 0, 0);
    run_call(&c, s);
    s->timed = false;
    const rgm_counts after = s->counts[RGM_ROW_linear];
    cr_assert_eq(after.launches, before.launches + 1);
    cr_assert_eq(after.flops - before.flops, 2.0 * 2 * 5 * 3 * 16);
    cr_assert_eq(after.bytes - before.bytes, 4.0 * 2 * (5 * 3 + 5 * 16 + 3 * 16 + 16));
    cr_assert_gt(after.seconds, before.seconds);
    cr_assert_str_eq(rgm_row_names[RGM_ROW_linear], "linear");
  }
}


// fills the parts of a strided view and nothing between them
Test(kernels, fill_keeps_to_its_slices) {
  unsigned char bytes[64] = {0};
  rgm_tensor t = rgm_view(bytes, RGM_F32, 3, 2, 0, 0);
  t.stride0 = 5;
  rgm_fill(streams[0], t, 1);
  for (int i = 0; i < 64; i++) {
    cr_assert_eq(bytes[i], i < 48 && i % 20 < 8 ? 1 : 0, "byte %d", i);
  }
}


Test(kernels, open_says_what_is_wrong) {
  rgm_stream *s = NULL;
  char note[256] = "";
  rgm_device_options options = {.threads = 2, .isa = "sse9"};
  cr_assert_eq(rgm_open("cpu", &options, &s, note, sizeof note), RGM_EUSAGE);
  cr_assert(strstr(rgm_last_error(), "sse9") != NULL, "%s", rgm_last_error());
  options.isa = "auto";
  cr_assert_eq(rgm_open("abacus", &options, &s, note, sizeof note), RGM_EUSAGE);
  cr_assert(strstr(rgm_last_error(), "abacus") != NULL, "%s", rgm_last_error());

  // the best instruction set of this processor, said in the note
  cr_assert_eq(rgm_open("cpu", &options, &s, note, sizeof note), RGM_OK);
  cr_assert_str_eq(s->backend->isa, rgm_cpu_isas()[0]);
  cr_assert(strstr(note, rgm_cpu_isas()[0]) != NULL && strstr(note, "2 threads") != NULL, "%s",
            note);
  rgm_close(s);
  rgm_close(NULL);
}


Test(kernels, open_without_a_gpu) {
  if (access("/dev/nvidia0", F_OK) == 0) {
    cr_skip("this machine has a GPU");
  }
  rgm_stream *s = NULL;
  char note[256] = "";
  const rgm_device_options options = {.threads = 1, .isa = "auto"};
  cr_assert_eq(rgm_open("cuda", &options, &s, note, sizeof note), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "cuda") != NULL, "%s", rgm_last_error());
  cr_assert_gt(strlen(rgm_last_error()), 40u);
  cr_assert_eq(rgm_open("auto", &options, &s, note, sizeof note), RGM_OK);
  cr_assert_str_eq(s->backend->name, "cpu");
  cr_assert(strstr(note, "no GPU: ") != NULL, "%s", note);
  rgm_close(s);
}


// the yardstick library_gemm is a GPU's: on the CPU the bench has other ones (tools/bench_mlp.c)
Test(kernels, the_cpu_brings_no_library) {
  char text[64] = "";
  for (int k = 0; k < stream_count; k++) {
    cr_assert_eq(rgm_library(streams[k], text, sizeof text), RGM_EDEVICE);
    cr_assert(strstr(rgm_last_error(), "no library of matrix products") != NULL, "%s",
              rgm_last_error());
  }
  cr_assert_str_empty(text);
}


Test(kernels, to_call_a_library_that_is_not_there_is_our_bug, .signal = SIGABRT) {
  const rgm_tensor a = fresh(1, 2, 16), b = fresh(1, 16, 16);
  rgm_library_gemm(streams[0], fresh(1, 2, 16), a, b, false, false);
}


Test(kernels, a_wrong_shape_is_our_bug, .signal = SIGABRT) {
  const rgm_tensor x = fresh(1, 2, 16), w = fresh(1, 16, 17), b = fresh(1, 17, 0);
  rgm_linear(streams[0], fresh(1, 2, 17), x, w, b, RGM_LINEAR);
}
