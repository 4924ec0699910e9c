// SPDX-License-Identifier: Apache-2.0
// What the files of CUDA on the CPU share.

#ifndef RGM_CUDA_HOST_INTERNAL_H
#define RGM_CUDA_HOST_INTERNAL_H

#include "tests/cuda_host/cuda_host.h"
#include "tests/cuda_host/cuda_runtime.h"

// Runs a grid now.
void cuda_host_run(const cuda_host_launch_shape &shape, const std::function<void()> &kernel);

// Does the work, with device memory open to it, when the stream comes to it.
void cuda_host_do(cudaStream_t stream, std::function<void()> work);

// Says what went wrong and aborts.
[[noreturn]] void cuda_host_stop(const char *what);

#endif
