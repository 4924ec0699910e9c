// SPDX-License-Identifier: Apache-2.0
// Kernels with one fault each, for tools/cuda_mix.sh --planted: never part of the module. The last
// ones are sound.

#include "kernels/cuda/cuda.cuh"

#include <mma.h>

enum { THREADS = 128, PLACES = 64 };

// an array indexed by data lies in local memory
RGM_KERNEL(THREADS) planted_local_kernel(float *x, const int *at) {
  float own[PLACES] = {};
  for (int i = 0; i < PLACES; i++) {
    own[at[i]] += x[i];
  }
  x[threadIdx.x] = own[at[threadIdx.x]];
}


RGM_KERNEL(THREADS) planted_double_kernel(float *x) {
  x[threadIdx.x] = (float)(x[threadIdx.x] * 1.1);
}


// fp64 is allowed, but not in the loop
RGM_KERNEL(THREADS) planted_double_loop_kernel(float *x, int n) {
  float sum = 0.0f;
#pragma unroll 1
  for (int i = 0; i < n; i++) {
    sum = (float)((double)sum * 1.1 + (double)x[i]);
  }
  x[threadIdx.x] = sum;
}


static __noinline__ __device__ float planted_function(const float *x) {
  return x[0] + x[1] * x[2];
}

RGM_KERNEL(THREADS) planted_call_kernel(float *x) {
  x[threadIdx.x] = planted_function(x + threadIdx.x);
}


// a division in what is said to be a tight loop
RGM_KERNEL(THREADS) planted_tight_kernel(float *x, int n) {
  RGM_SHARED(float, shared, [4 * THREADS]);
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  float sum = 1.0f;
#pragma unroll 1
  for (int i = 0; i < n; i++) {
    sum = shared[i] / sum;
  }
  x[threadIdx.x] = sum;
}


// reads global and shared memory word by word
RGM_KERNEL(THREADS) planted_narrow_kernel(float *x, int n) {
  RGM_SHARED(float, shared, [4 * THREADS]);
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  float sum = 1.0f;
#pragma unroll 1
  for (int i = 0; i < n; i++) {
    sum = rgm_fma(shared[i * 3 % THREADS], sum, sum);
  }
  x[threadIdx.x] = sum;
}


RGM_KERNEL(THREADS) planted_matrix_kernel(float *x) {
  x[threadIdx.x] = rgm_fma(x[threadIdx.x], 2.0f, 1.0f);
}


// more instructions than the ledger says, and one that it does not know
RGM_KERNEL(THREADS) planted_grown_kernel(float *x) {
  x[threadIdx.x] = rgm_fma(x[threadIdx.x], 2.0f, 1.0f);
}

RGM_KERNEL(THREADS) planted_new_kernel(float *x) {
  x[threadIdx.x] = rgm_fma(x[threadIdx.x], 2.0f, 1.0f);
}


// ---- sound: what the rules ask ------------------------------------------------------------------

RGM_KERNEL(THREADS) sound_kernel(float *x, int n) {
  RGM_SHARED(float, shared, [4 * THREADS]);
  reinterpret_cast<float4 *>(shared)[threadIdx.x] = reinterpret_cast<float4 *>(x)[threadIdx.x];
  __syncthreads();
  float sum = 1.0f;
#pragma unroll 1
  for (int i = 0; i < n; i++) {
    const float4 four = reinterpret_cast<const float4 *>(shared)[i];
    sum = rgm_fma(four.x, sum, four.y) + rgm_fma(four.z, sum, four.w);
  }
  x[threadIdx.x] = sum;
}


// a division is a few instructions and a call that is hardly ever made
RGM_KERNEL(THREADS) sound_division_kernel(float *x) {
  x[threadIdx.x] = 1.0f / x[threadIdx.x];
}


// matrix instructions where they are asked for
RGM_KERNEL(32) sound_matrix_kernel(float *x, const __half *a) {
  using namespace nvcuda::wmma;
  fragment<matrix_a, 16, 16, 16, __half, row_major> left;
  fragment<matrix_b, 16, 16, 16, __half, col_major> right;
  fragment<accumulator, 16, 16, 16, float> sums;
  fill_fragment(sums, 0.0f);
  load_matrix_sync(left, a, 16);
  load_matrix_sync(right, a, 16);
  mma_sync(sums, left, right, sums);
  store_matrix_sync(x, sums, 16, mem_row_major);
}


// templates aside, a static kernel is kept where its address is taken
const void *planted_kernels[] = {
    (const void *)planted_local_kernel,       (const void *)planted_double_kernel,
    (const void *)planted_double_loop_kernel, (const void *)planted_call_kernel,
    (const void *)planted_tight_kernel,       (const void *)planted_narrow_kernel,
    (const void *)planted_matrix_kernel,      (const void *)planted_grown_kernel,
    (const void *)planted_new_kernel,         (const void *)sound_kernel,
    (const void *)sound_division_kernel,      (const void *)sound_matrix_kernel,
};
