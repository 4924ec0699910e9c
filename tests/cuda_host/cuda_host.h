// SPDX-License-Identifier: Apache-2.0
// Knobs of CUDA on the CPU, for tests of the tests: in C, since Criterion programs are.

#ifndef RGM_CUDA_HOST_H
#define RGM_CUDA_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

// The order of threads and blocks from here on; the environment's CUDA_HOST_SEED sets the first.
void cuda_host_seed(uint64_t seed);

// Whether red zones are also made known to the address sanitizer (they are, at first): a test that
// plants a write out of bounds wants the red zone's own message.
void cuda_host_use_sanitizer(bool use);

// Blocks that are allocated now, and threads that ever had to wait at a barrier.
size_t cuda_host_allocations(void);
uint64_t cuda_host_waits(void);

// Which libraries of the toolkit are installed from here on: all (at first), none, or some so old
// that they lack a function.
typedef enum cuda_host_installed {
  CUDA_HOST_ALL,
  CUDA_HOST_NONE,
  CUDA_HOST_OLD
} cuda_host_installed;
void cuda_host_install(cuda_host_installed what);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
