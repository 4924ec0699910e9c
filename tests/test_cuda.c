// SPDX-License-Identifier: Apache-2.0
// Tests of the CUDA kernels, run on the CPU (tests/cuda_host) through the same door as the real
// module: every row against double precision and against the CPU backend bit for bit, strides,
// packs, masks, orders of threads, graphs, errors, and how a GPU is chosen.

#include "tests/cuda_host/cuda_host.h"
#include "tests/cuda_module.h"
#include "tests/kernel_checks.h"
#include "tests/kernel_library.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// stream 0 is CUDA, stream 1 the CPU
static void open_both(void) {
  char note[512];
  rgm_device_options options = {.threads = 1, .isa = "auto"};
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  cr_assert_eq(rgm_open("cuda", &options, &streams[0], note, sizeof note), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_open("cpu", &options, &streams[1], note, sizeof note), RGM_OK);
  stream_count = 2;
}


TestSuite(cuda, .init = open_both, .fini = close_streams, .timeout = 120);


static void seed_threads(uint64_t seed) {
  void (*set)(uint64_t);
  *(void **)&set = knob("cuda_host_seed");
  set(seed);
}


// ---- rows

// both with data that lies on 16 bytes, where kernels read four numbers at a time, and without
static void for_all_both(check_fn check) {
  for (device_shift = 0; device_shift <= 3; device_shift += 3) {
    for_all(check);
  }
}

Test(cuda, reference) {
  for_all(check_values);
}


Test(cuda, same_bits_as_the_cpu) {
  for_all_both(check_devices);
}


Test(cuda, same_bits_alone_and_packed) {
  for_all_both(check_alone);
}


// the paths that read four numbers at a time; the others where replicas lie apart by an odd number
Test(cuda, strides) {
  device_shift = 3;
  replica_gap = 8;
  for_all(check_strides);
}


Test(cuda, odd_strides) {
  static const int64_t layer[NUMBERS] = {3, 66, 17, 48, RGM_SIGMOID};
  for (int k = 0; kernels[k].shapes == mlp_shapes; k++) {
    check_strides(&kernels[k], layer);
    drop_all();
  }
}


Test(cuda, masked_replicas_stay) {
  for_all(check_mask);
  cr_assert_gt(masked_kernels, 0);
}


static void check_orders(const kernel_case *kernel, const int64_t *n) {
  call c = make_call(kernel, n, 0, 0), first = make_call(kernel, n, 0, 0);
  run_call(&first, streams[0]);
  for (uint64_t seed = 2; seed < 5; seed++) {
    seed_threads(seed);
    restore(&c);
    expect_same(&c, streams[0], &first, "other bits in another order of threads");
  }
}

Test(cuda, same_bits_in_every_order_of_threads) {
  for_all(check_orders);
}


// ---- sums that go through the work memory in parts: chunks of row blocks, columns, replicas

Test(cuda, long_sums_have_the_bits_of_the_cpu) {
  static const int64_t layers[][NUMBERS] = {
      {2, 17000, 8, 240}, {2, 17000, 4, 16, RGM_RELU}, {1, 700, 5, 32}};
  for (size_t k = 0; k < sizeof layers / sizeof *layers; k++) {
    check_devices(find_kernel("linear_dw"), layers[k]);
    drop_all();
  }
  device_shift = 3;
  check_devices(find_kernel("linear_dw_adam"), layers[1]);
  drop_all();
  static const int64_t sums[][NUMBERS] = {{3, 65536, 1, 1}, {2, 65537, 1, 1}, {1, 300000, 1, 1}};
  for (size_t k = 0; k < sizeof sums / sizeof *sums; k++) {
    check_devices(find_kernel("sum"), sums[k]);
    drop_all();
  }
}


// ---- order statistics, to the CPU's bits: ties, zeros of both signs, NaN, infinities

Test(cuda, quantiles_of_odd_numbers) {
  static const float odd[] = {0.0f, -0.0f, NAN, INFINITY, -INFINITY, 1.5f, -1.5f, 0x1p-140f};
  for (int64_t count = 1; count <= 9; count++) {
    const int64_t n[NUMBERS] = {64, count};
    call c = make_call(find_kernel("quantile"), n, 0, 0);
    uint64_t state = 7;
    for (int64_t i = 0; i < n[0] * count; i++) {
      f32(c.t[2], 0)[i] = odd[next(&state) % 8];
    }
    commit(&c);
    run_call(&c, streams[1]);
    float want[64];
    memcpy(want, f32(c.t[0], 0), sizeof want);
    restore(&c);
    run_call(&c, streams[0]);
    for (int r = 0; r < 64; r++) {
      const float got = f32(c.t[0], 0)[r];
      cr_assert(rgm_bits(got) == rgm_bits(want[r]) || (isnan(got) && isnan(want[r])),
                "%d numbers, replica %d: %g, want %g", (int)count, r, (double)got, (double)want[r]);
    }
  }
}


// ---- the device

typedef struct enqueued {
  rgm_tensor clock, active, x, y;
  int calls;
} enqueued;

// y = x + 2 y; the clock goes on
static void enqueue(void *arg, rgm_stream *s) {
  enqueued *e = arg;
  e->calls++;
  rgm_advance(s, e->clock, e->active);
  rgm_triad(s, e->y, e->x, e->y, 2.0f);
}


// memory of the stream, n floats or words
static rgm_tensor device_tensor(rgm_stream *s, rgm_dtype dtype, int64_t n) {
  rgm_tensor t = rgm_view(NULL, dtype, 1, n, 0, 0);
  cr_assert_eq(s->backend->alloc(s, rgm_bytes(t), &t.data), RGM_OK);
  return t;
}


Test(cuda, graphs_are_captured_once_and_replayed) {
  rgm_stream *s = streams[0];
  enqueued e = {device_tensor(s, RGM_U32, 1), device_tensor(s, RGM_U32, 1),
                device_tensor(s, RGM_F32, 5), device_tensor(s, RGM_F32, 5), 0};
  enqueued other = e;
  const float ones[5] = {1, 1, 1, 1, 1};
  float y[5];
  const uint32_t on = 1;
  uint32_t clock;
  rgm_copy(s, e.active.data, &on, sizeof on);
  rgm_copy(s, e.x.data, ones, sizeof ones);
  for (int i = 1; i <= 4; i++) {
    rgm_graph(s, 3, enqueue, &e);
    rgm_copy(s, y, e.y.data, sizeof y);
    rgm_copy(s, &clock, e.clock.data, sizeof clock);
    cr_assert_eq(rgm_sync(s), RGM_OK, "%s", rgm_last_error());
    cr_assert(y[4] == (float)((1 << i) - 1) && clock == (uint32_t)i, "%g, %u", (double)y[4], clock);
    cr_assert_eq(e.calls, 1);
    cr_assert_eq(s->counts[RGM_ROW_triad].launches, (uint64_t)i);
    cr_assert_eq(s->counts[RGM_ROW_triad].bytes, 60.0 * i);
  }

  // another argument in the slot, and the first again: captured anew
  rgm_graph(s, 3, enqueue, &other);
  rgm_graph(s, 3, enqueue, &e);
  rgm_graph(s, 0, enqueue, &e);
  cr_assert(other.calls == 1 && e.calls == 3);

  // a timed stream calls the function itself
  s->timed = true;
  rgm_graph(s, 3, enqueue, &e);
  s->timed = false;
  rgm_copy(s, &clock, e.clock.data, sizeof clock);
  cr_assert_eq(rgm_sync(s), RGM_OK);
  cr_assert(e.calls == 4 && clock == 8 && s->counts[RGM_ROW_advance].launches == 8, "%u", clock);
  cr_assert_gt(s->counts[RGM_ROW_triad].seconds, 0.0);
  s->backend->release(s, e.clock.data);
  s->backend->release(s, e.active.data);
  s->backend->release(s, e.x.data);
  s->backend->release(s, e.y.data);
}


Test(cuda, memory_is_zero_and_can_run_out) {
  rgm_stream *s = streams[0];
  rgm_tensor t = device_tensor(s, RGM_F32, 250);
  unsigned char bytes[1000];
  rgm_tensor part = rgm_view((char *)t.data + 100, RGM_F32, 3, 7, 0, 0);
  rgm_fill(s, part, 0x5a);
  rgm_copy(s, bytes, t.data, sizeof bytes);
  cr_assert_eq(rgm_sync(s), RGM_OK);
  for (int i = 0; i < 1000; i++) {
    cr_assert_eq(bytes[i], i >= 100 && i < 184 ? 0x5a : 0);
  }
  s->backend->release(s, t.data);
  void *memory;
  cr_assert_eq(s->backend->alloc(s, (size_t)1 << 40, &memory), RGM_EMEMORY);
  cr_assert(strstr(rgm_last_error(), "1048576.0 MiB") != NULL, "%s", rgm_last_error());
  cr_assert_eq(rgm_sync(s), RGM_OK);
}


Test(cuda, burn_counts_its_work) {
  cr_assert_eq(rgm_burn(streams[0], 10), 2.0 * 16 * 10 * 256 * 16);
  cr_assert_eq(rgm_sync(streams[0]), RGM_OK);
}


// ---- the library of the device's maker

Test(cuda, products_of_the_library) {
  char text[64];
  if (rgm_library(streams[0], text, sizeof text) != RGM_OK) {
    cr_skip_test("%s", rgm_last_error());
  }
  int shapes = 0;
  for (const int64_t(*size)[4] = library_sizes; (*size)[0] > 0; size++) {
    for (int form = 0; form < 4; form++, shapes++) {
      const int64_t n[NUMBERS] = {(*size)[0], (*size)[1], (*size)[2],
                                  (*size)[3], form & 1,   form >> 1};
      for (device_shift = 0; device_shift <= 3; device_shift += 3) {
        check_library(streams[0], n);
      }
    }
  }
  cr_assert_eq(shapes, 40);
  cr_assert_eq(streams[0]->counts[RGM_ROW_library_gemm].launches, 40u * 2 * 9);
}


static void install(cuda_host_installed what) {
  void (*set)(cuda_host_installed);
  *(void **)&set = knob("cuda_host_install");
  set(what);
}


// asked for again it may have been installed; it is opened once
Test(cuda, library_is_opened_when_it_is_there) {
  char text[64] = "";
  install(CUDA_HOST_NONE);
  cr_assert_eq(rgm_library(streams[0], text, sizeof text), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "cuBLAS is not found here") != NULL, "%s", rgm_last_error());
  install(CUDA_HOST_OLD);
  cr_assert_eq(rgm_library(streams[0], text, sizeof text), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "libcublas.so.12 is no cuBLAS that this build can use"), "%s",
            rgm_last_error());
  cr_assert_str_empty(text);
  install(CUDA_HOST_ALL);
  for (int i = 0; i < 2; i++) {
    cr_assert_eq(rgm_library(streams[0], text, sizeof text), RGM_OK, "%s", rgm_last_error());
    cr_assert_str_eq(text, "cuBLAS 1.2.3");
  }
  cr_assert_eq(rgm_sync(streams[0]), RGM_OK);
}


// it counts as any row; the other stream has no library, and says so
Test(cuda, library_counts_its_work) {
  char text[64];
  if (rgm_library(streams[0], text, sizeof text) != RGM_OK) {
    cr_skip_test("%s", rgm_last_error());
  }
  const int64_t n[NUMBERS] = {7, 5, 16, 3, 1, 0};
  call c = make_call(&library_case, n, 0, 0);
  run_call(&c, streams[0]);
  const rgm_counts *counts = &streams[0]->counts[RGM_ROW_library_gemm];
  cr_assert_eq(counts->launches, 1u);
  cr_assert_eq(counts->flops, 2.0 * 7 * 5 * 16 * 3);
  cr_assert_eq(counts->bytes, 4.0 * 7 * (5 * 16 + 3 * 5 + 3 * 16));
  cr_assert_eq(rgm_library(streams[1], text, sizeof text), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "cpu brings no library") != NULL, "%s", rgm_last_error());
}


// ---- the choice of a device

Test(cuda, is_chosen_and_told) {
  rgm_stream *s = NULL;
  char note[512] = "";
  rgm_device_options options = {.threads = 1, .isa = "auto", .device = 1};
  cr_assert_eq(rgm_open("auto", &options, &s, note, sizeof note), RGM_OK);
  cr_assert_str_eq(s->backend->name, "cuda");
  cr_assert_str_eq(s->backend->isa, "sm_host");
  cr_assert(strstr(note, "CUDA on the CPU 1, GPU 1, sm_host, 1.0 GiB") != NULL, "%s", note);
  rgm_close(s);
  options.device = 2;
  cr_assert_eq(rgm_open("auto", &options, &s, note, sizeof note), RGM_EUSAGE);
  cr_assert(strstr(rgm_last_error(), "no GPU 2; this machine has 2") != NULL, "%s",
            rgm_last_error());
}
