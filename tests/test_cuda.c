// SPDX-License-Identifier: Apache-2.0
// Tests of the CUDA kernels, run on the CPU (tests/cuda_host) through the same door as the real
// module: every row against double precision and against the CPU backend bit for bit, strides,
// packs, masks, orders of threads, graphs, errors, and how a GPU is chosen.

#include "tests/cuda_host/cuda_host.h"
#include "tests/kernel_checks.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// stream 0 is CUDA, stream 1 the CPU
static void open_both(void) {
  char note[512];
  rgm_device_options options = {.threads = 1, .isa = "auto"};
  setenv("RGM_CUDA_MODULE", RGM_CUDA_HOST_MODULE, 1);
  cr_assert_eq(rgm_open("cuda", &options, &streams[0], note, sizeof note), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_open("cpu", &options, &streams[1], note, sizeof note), RGM_OK);
  stream_count = 2;
}


TestSuite(cuda, .init = open_both, .fini = close_streams, .timeout = 120);


// a function of tests/cuda_host
static void *knob(const char *name) {
  void *module = dlopen(RGM_CUDA_HOST_MODULE, RTLD_NOW | RTLD_NOLOAD);
  void *function = module != NULL ? dlsym(module, name) : NULL;
  cr_assert(function != NULL, "%s", name);
  return function;
}


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


Test(cuda, strides) {
  for_all_both(check_strides);
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
