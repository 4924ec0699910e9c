// SPDX-License-Identifier: Apache-2.0
// NVIDIA's library of matrix products, cuBLAS, as the yardstick of our own. It is opened by name
// when a bench asks for it, with cublasLt behind it; nothing links it and no training calls it,
// since its order of sums is its own. Its header may be absent where this is compiled: what is used
// of it stands here, with int for its enums (as C passes them), since version 11 unchanged.

#include "kernels/cuda/cuda.cuh"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
  BLAS_SUCCESS = 0,      // CUBLAS_STATUS_SUCCESS
  BLAS_AS_IT_IS = 0,     // CUBLAS_OP_N
  BLAS_TRANSPOSED = 1,   // CUBLAS_OP_T
  BLAS_DEFAULT_MATH = 0, // CUBLAS_DEFAULT_MATH: fp32 products and sums, no TF32
  BLAS_MAJOR = 0,        // libraryPropertyType: MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
};

// what was opened, once for the life of the process
static struct {
  bool ready;
  int (*create)(void **handle);
  int (*destroy)(void *handle);
  int (*set_stream)(void *handle, cudaStream_t queue);
  int (*set_math)(void *handle, int mode);
  int (*property)(int which, int *value);
  int (*sgemm)(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha,
               const float *a, int lda, long long stride_a, const float *b, int ldb,
               long long stride_b, const float *beta, float *c, int ldc, long long stride_c,
               int count);
} blas;


static rgm_cuda_stream *of(rgm_stream *s) {
  return reinterpret_cast<rgm_cuda_stream *>(s);
}


// POSIX promises that the pointer can become a function's
template <class F> static bool find(void *library, const char *name, F *function) {
  void *found = RGM_LIBRARY_FIND(library, name);
  memcpy(function, &found, sizeof found);
  return found != NULL;
}


static rgm_status open_blas(void) {
  static const char *const files[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};
  void *library = NULL;
  const char *file = NULL;
  for (int i = 0; i < 3 && library == NULL; i++) {
    file = files[i];
    library = RGM_LIBRARY_OPEN(file);
  }
  if (library == NULL) {
    return rgm_fail(RGM_EDEVICE, "cuBLAS is not found here (libcublas.so.13, .12 or .so); "
                                 "LD_LIBRARY_PATH must have its folder");
  }
  blas.ready = find(library, "cublasCreate_v2", &blas.create) &&
               find(library, "cublasDestroy_v2", &blas.destroy) &&
               find(library, "cublasSetStream_v2", &blas.set_stream) &&
               find(library, "cublasSetMathMode", &blas.set_math) &&
               find(library, "cublasGetProperty", &blas.property) &&
               find(library, "cublasSgemmStridedBatched", &blas.sgemm);
  if (!blas.ready) {
    return rgm_fail(RGM_EDEVICE, "%s is no cuBLAS that this build can use: a function is missing",
                    file);
  }
  return RGM_OK;
}


// a handle that works on the stream's queue
static rgm_status start(rgm_cuda_stream *s) {
  const cudaError_t error = cudaSetDevice(s->device);
  if (error != cudaSuccess) {
    return rgm_fail(RGM_EDEVICE, "cannot use GPU %d: %s", s->device, cudaGetErrorString(error));
  }
  int status = blas.create(&s->library);
  if (status != BLAS_SUCCESS) {
    s->library = NULL;
  } else {
    status = blas.set_stream(s->library, s->queue);
  }
  if (status == BLAS_SUCCESS) {
    status = blas.set_math(s->library, BLAS_DEFAULT_MATH);
  }
  if (status != BLAS_SUCCESS) {
    rgm_cuda_library_close(&s->base);
    return rgm_fail(RGM_EDEVICE, "cuBLAS does not start on GPU %d (its status %d)", s->device,
                    status);
  }
  return RGM_OK;
}


rgm_status rgm_cuda_library(rgm_stream *stream, char *text, size_t size) {
  rgm_cuda_stream *s = of(stream);
  if (!blas.ready) {
    RGM_TRY(open_blas());
  }
  if (s->library == NULL) {
    RGM_TRY(start(s));
  }
  int version[3] = {0, 0, 0};
  for (int i = 0; i < 3; i++) {
    (void)blas.property(BLAS_MAJOR + i, &version[i]);
  }
  snprintf(text, size, "cuBLAS %d.%d.%d", version[0], version[1], version[2]);
  return RGM_OK;
}


void rgm_cuda_library_close(rgm_stream *stream) {
  rgm_cuda_stream *s = of(stream);
  if (s->library != NULL) {
    (void)blas.destroy(s->library);
    s->library = NULL;
  }
}


static int as_int(int64_t n) {
  RGM_ASSERT(n <= INT_MAX);
  return static_cast<int>(n);
}


// Its matrices lie by columns, ours by rows, so that it sees the transpose of each of ours:
// C = A B is C' = B' A' to it, and a leading dimension is the length of our row.
void rgm_cuda_library_gemm(rgm_stream *stream, rgm_tensor c, rgm_tensor a, rgm_tensor b,
                           bool transpose_a, bool transpose_b) {
  rgm_cuda_stream *s = of(stream);
  RGM_ASSERT(s->library != NULL);
  const float one = 1.0f, zero = 0.0f;
  const int status =
      blas.sgemm(s->library, transpose_b ? BLAS_TRANSPOSED : BLAS_AS_IT_IS,
                 transpose_a ? BLAS_TRANSPOSED : BLAS_AS_IT_IS, as_int(c.dims[2]),
                 as_int(c.dims[1]), as_int(a.dims[transpose_a ? 1 : 2]), &one, rgm_f32(b, 0),
                 as_int(b.dims[2]), b.stride0, rgm_f32(a, 0), as_int(a.dims[2]), a.stride0, &zero,
                 rgm_f32(c, 0), as_int(c.dims[2]), c.stride0, as_int(c.dims[0]));
  if (status != BLAS_SUCCESS) {
    char where[64];
    snprintf(where, sizeof where, "cuBLAS (its status %d)", status);
    rgm_cuda_check(stream, cudaErrorLaunchFailure, where);
  }
}
