// SPDX-License-Identifier: Apache-2.0
// Kernels with planted errors: see planted.cu.

#ifndef RGM_CUDA_HOST_PLANTED_H
#define RGM_CUDA_HOST_PLANTED_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum { PLANTED = 65 }; // floats that they work on: 0, 1, 2, ...

// Runs the kernel `what` (its right form after "good ") and gives the first float.
rgm_status cuda_host_planted(rgm_stream *s, const char *what, float *result);

// The row `exponential` without strides and masks.
void cuda_host_dense_exponential(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor active);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
