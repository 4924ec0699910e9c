// SPDX-License-Identifier: Apache-2.0
// Tests of the test bench of the CUDA kernels: each planted error must be found, and the same
// kernel without it must pass.

#include "tests/cuda_host/cuda_host.h"
#include "tests/cuda_host/planted.h"
#include "tests/kernel_table.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
  rgm_status (*planted)(rgm_stream *s, const char *what, float *result);
  void (*dense)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active);
  void (*seed)(uint64_t seed);
  void (*use_sanitizer)(bool use);
  size_t (*allocations)(void);
} host;


static void open_module(void) {
  char note[512];
  const rgm_device_options options = {.threads = 1, .isa = "auto"};
  setenv("RGM_CUDA_MODULE", RGM_CUDA_HOST_MODULE, 1);
  cr_assert_eq(rgm_open("cuda", &options, &streams[0], note, sizeof note), RGM_OK, "%s",
               rgm_last_error());
  stream_count = 1;
  void *module = dlopen(RGM_CUDA_HOST_MODULE, RTLD_NOW | RTLD_NOLOAD);
  cr_assert(module != NULL);
  *(void **)&host.planted = dlsym(module, "cuda_host_planted");
  *(void **)&host.dense = dlsym(module, "cuda_host_dense_exponential");
  *(void **)&host.seed = dlsym(module, "cuda_host_seed");
  *(void **)&host.use_sanitizer = dlsym(module, "cuda_host_use_sanitizer");
  *(void **)&host.allocations = dlsym(module, "cuda_host_allocations");
  cr_assert(host.planted != NULL && host.dense != NULL && host.seed != NULL);
  cr_assert(host.use_sanitizer != NULL && host.allocations != NULL);
  host.use_sanitizer(false); // the bench's own words are wanted
}


TestSuite(cuda_host, .init = open_module, .fini = close_streams, .timeout = 30);


// what the kernel gives with a seed; it must run to its end
static float result_of(const char *what, uint64_t seed) {
  float result;
  host.seed(seed);
  cr_assert_eq(host.planted(streams[0], what, &result), RGM_OK, "%s: %s", what, rgm_last_error());
  return result;
}


// runs the kernel in a process of its own, which must end by `signal` after writing `text`
static void expect_end(const char *what, int signal, const char *text) {
  int ends[2], status;
  cr_assert_eq(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) {
    float result;
    dup2(ends[1], STDERR_FILENO);
    (void)host.planted(streams[0], what, &result);
    _exit(0);
  }
  close(ends[1]);
  char said[1024] = "";
  size_t length = 0;
  for (ssize_t n; (n = read(ends[0], said + length, sizeof said - 1 - length)) > 0;) {
    length += (size_t)n;
  }
  close(ends[0]);
  cr_assert_eq(waitpid(child, &status, 0), child);
  cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == signal, "%s ended with %d: %s", what, status,
            said);
  cr_assert(strstr(said, text) != NULL, "%s said: %s", what, said);
}


// a sum that reads what other threads write: right only where every other thread ran before
Test(cuda_host, finds_a_missing_barrier) {
  int wrong = 0;
  for (uint64_t seed = 1; seed <= 8; seed++) {
    cr_assert_eq(result_of("good barrier", seed), 2080.0f);
    wrong += result_of("barrier", seed) != 2080.0f;
  }
  cr_assert_geq(wrong, 7);
}


Test(cuda_host, finds_a_race) {
  int changes = 0;
  for (uint64_t seed = 1; seed <= 8; seed++) {
    cr_assert_eq(result_of("good race", seed), 255.0f);
    changes += result_of("race", seed) != result_of("race", seed + 1);
  }
  cr_assert_geq(changes, 6);
}


Test(cuda_host, finds_writes_out_of_bounds) {
  (void)result_of("good past the end", 1);
  expect_end("past the end", SIGABRT, "red zone of a block of 260 bytes is damaged, 260 bytes");
  (void)result_of("good past shared memory", 1);
  expect_end("past shared memory", SIGABRT, "past_shared_kernel: wrote past its 32 bytes");
}


Test(cuda_host, finds_barriers_that_not_all_reach) {
  (void)result_of("good divergent barrier", 1);
  expect_end("divergent barrier", SIGABRT,
             "divergent_kernel: some threads wait for all at planted");
  (void)result_of("good left barrier", 1);
  expect_end("left barrier", SIGABRT, "while others have left the kernel");
  (void)result_of("good lonely lane", 1);
  expect_end("lonely lane", SIGABRT, "lanes of a warp wait for each other at planted.cu");
}


Test(cuda_host, keeps_host_and_device_apart) {
  cr_assert_eq(result_of("good host pointer", 1), 2080.0f);
  expect_end("host pointer", SIGABRT, "sum_kernel: a host pointer among its arguments");
  signal(SIGSEGV, SIG_DFL);
  expect_end("host reads", SIGSEGV, "");
}


// a launch that cannot be is an error of the stream, once
Test(cuda_host, a_bad_launch_comes_out_of_sync) {
  float result;
  (void)result_of("good too many threads", 1);
  cr_assert_eq(host.planted(streams[0], "too many threads", &result), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "race_kernel: invalid configuration") != NULL, "%s",
            rgm_last_error());
  cr_assert_eq(rgm_sync(streams[0]), RGM_OK);
}


// the outputs of `exponential` where replicas lie apart, with a table's row for it
static bool same_apart(const rgm_backend *table) {
  const int64_t n[NUMBERS] = {3, 17, 4};
  const rgm_backend *own = streams[0]->backend;
  call dense = make_call(find_kernel("exponential"), n, 0, 0);
  call apart = make_call(find_kernel("exponential"), n, 0, 7);
  run_call(&dense, streams[0]);
  streams[0]->backend = table;
  run_on_device(&apart, streams[0]);
  streams[0]->backend = own;
  bool same = true;
  for (int64_t r = 0; r < n[0]; r++) {
    same = same && same_slice(&dense, r, &apart, r, 0);
  }
  return same;
}

Test(cuda_host, strides_are_checked) {
  rgm_backend wrong = *streams[0]->backend;
  wrong.exponential = host.dense;
  cr_assert(same_apart(streams[0]->backend));
  cr_assert(!same_apart(&wrong));
}


Test(cuda_host, releases_what_it_allocates) {
  const size_t before = host.allocations();
  (void)result_of("good barrier", 1);
  cr_assert_eq(host.allocations(), before);
}
