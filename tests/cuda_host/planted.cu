// SPDX-License-Identifier: Apache-2.0
// Kernels with one error each, and the same without, to see that CUDA on the CPU finds it. Part of
// the tests only.

#include "kernels/cuda/cuda.cuh"
#include "tests/cuda_host/planted.h"

#include <string.h>

enum { THREADS = 64 };


// ---- what a kernel of a block does wrong

// the sum of x[64] through shared memory
RGM_KERNEL(THREADS) sum_kernel(float *y, const float *x, bool barrier) {
  RGM_SHARED(float, stage, [THREADS]);
  stage[threadIdx.x] = x[threadIdx.x];
  if (barrier) {
    __syncthreads();
  }
  if (threadIdx.x == 17) {
    float sum = 0.0f;
    for (int i = 0; i < THREADS; i++) {
      sum += stage[i];
    }
    *y = sum;
  }
}


// the largest index, or that of whoever comes last
RGM_KERNEL(THREADS) race_kernel(float *y, bool race) {
  if (race || (threadIdx.x == blockDim.x - 1 && blockIdx.x == gridDim.x - 1)) {
    *y = (float)(blockIdx.x * blockDim.x + threadIdx.x);
  }
}


RGM_KERNEL(THREADS) past_the_end_kernel(float *y, int n) {
  y[0] = 1.0f;
  if ((int)threadIdx.x <= n) {
    y[threadIdx.x] = 1.0f;
  }
}


RGM_KERNEL(THREADS) past_shared_kernel(float *y, int n) {
  RGM_DYNAMIC_SHARED(float, stage);
  if ((int)threadIdx.x <= n) {
    stage[threadIdx.x] = 1.0f;
  }
  __syncthreads();
  *y = stage[0];
}


RGM_KERNEL(THREADS) divergent_kernel(float *y, int half) {
  if ((int)threadIdx.x < half) {
    *y = 1.0f;
    __syncthreads();
  } else {
    __syncthreads();
  }
}


RGM_KERNEL(THREADS) left_kernel(float *y, int half) {
  if ((int)threadIdx.x >= half) {
    return;
  }
  __syncthreads();
  *y = 1.0f;
}


RGM_KERNEL(THREADS) lonely_lane_kernel(float *y, int lane) {
  if ((int)threadIdx.x != lane) {
    *y = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
  }
}


static void launch(rgm_stream *s, const char *what, float *y, const float *host) {
  const float *x = y + 1;
  const bool good = strncmp(what, "good ", 5) == 0;
  what = good ? what + 5 : what;
  if (strcmp(what, "barrier") == 0) {
    RGM_LAUNCH(sum_kernel, 1, THREADS, 0, s, y, x, good);
  } else if (strcmp(what, "race") == 0) {
    RGM_LAUNCH(race_kernel, 4, THREADS, 0, s, y, !good);
  } else if (strcmp(what, "past the end") == 0) {
    RGM_LAUNCH(past_the_end_kernel, 1, THREADS, 0, s, y + PLANTED - 8, good ? 7 : 8);
  } else if (strcmp(what, "past shared memory") == 0) {
    RGM_LAUNCH(past_shared_kernel, 1, THREADS, 8 * sizeof(float), s, y, good ? 7 : 8);
  } else if (strcmp(what, "divergent barrier") == 0) {
    RGM_LAUNCH(divergent_kernel, 1, THREADS, 0, s, y, good ? THREADS : THREADS / 2);
  } else if (strcmp(what, "left barrier") == 0) {
    RGM_LAUNCH(left_kernel, 1, THREADS, 0, s, y, good ? THREADS : THREADS / 2);
  } else if (strcmp(what, "lonely lane") == 0) {
    RGM_LAUNCH(lonely_lane_kernel, 1, THREADS, 0, s, y, good ? THREADS : 5);
  } else if (strcmp(what, "host pointer") == 0) {
    RGM_LAUNCH(sum_kernel, 1, THREADS, 0, s, y, good ? x : host, true);
  } else if (strcmp(what, "too many threads") == 0) {
    RGM_LAUNCH(race_kernel, 1, good ? 1024 : 1025, 0, s, y, false);
  }
}


extern "C" rgm_status cuda_host_planted(rgm_stream *s, const char *what, float *result) {
  float values[PLANTED];
  for (int i = 0; i < PLANTED; i++) {
    values[i] = (float)i;
  }
  void *memory;
  RGM_TRY(rgm_cuda_alloc(s, sizeof values, &memory));
  float *y = static_cast<float *>(memory);
  rgm_cuda_copy(s, y, values, sizeof values);
  launch(s, what, y, values + 1);
  rgm_cuda_copy(s, values, y, sizeof values);
  if (strcmp(what, "host reads") == 0) {
    values[0] = y[0];
  }
  const rgm_status status = rgm_cuda_sync(s);
  *result = values[0];
  rgm_cuda_release(s, memory);
  return status;
}


// ---- a row that takes replicas to lie one after the other

RGM_KERNEL(THREADS) dense_exponential_kernel(float *y, const float *x, int64_t n) {
  RGM_ELEMENTS (i, n) {
    y[i] = rgm_exp(x[i]);
  }
}


extern "C" void cuda_host_dense_exponential(rgm_stream *s, rgm_tensor y, rgm_tensor x,
                                            rgm_tensor active) {
  (void)active;
  RGM_LAUNCH(dense_exponential_kernel, 1, THREADS, 0, s, rgm_f32(y, 0), rgm_f32(x, 0),
             rgm_elements(x));
}
