// SPDX-License-Identifier: Apache-2.0
// CUDA on the CPU: the part of cuBLAS that kernels/cuda uses, as plain loops over the definition
// (reference BLAS: matrices lie by columns), with the library's checks of its arguments.

#include "tests/cuda_host/internal.h"

namespace {

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };

struct blas_handle {
  cudaStream_t stream; // NULL: none was set
};

cuda_host_installed installed = CUDA_HOST_ALL;


int blas_create(void **handle) {
  *handle = new blas_handle();
  return SUCCESS;
}


int blas_destroy(void *handle) {
  delete static_cast<blas_handle *>(handle);
  return SUCCESS;
}


int blas_set_stream(void *handle, cudaStream_t stream) {
  static_cast<blas_handle *>(handle)->stream = stream;
  return SUCCESS;
}


// fp32 only, as the default mode is and the pedantic one
int blas_set_math(void *, int mode) {
  return mode == 0 || mode == 2 ? SUCCESS : NOT_SUPPORTED;
}


int blas_property(int which, int *value) {
  *value = 1 + which;
  return which >= 0 && which < 3 ? SUCCESS : INVALID_VALUE;
}


// element i, j of a matrix by columns, or of its transpose
float at(const float *x, int op, int ld, int i, int j) {
  return op != 0 ? x[j + (int64_t)i * ld] : x[i + (int64_t)j * ld];
}


// c = alpha op(a) op(b) + beta c; where beta is 0, c is not read
int blas_sgemm(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha,
               const float *a, int lda, long long stride_a, const float *b, int ldb,
               long long stride_b, const float *beta, float *c, int ldc, long long stride_c,
               int count) {
  const bool good = m >= 0 && n >= 0 && k >= 0 && count >= 0 && op_a >= 0 && op_a <= 1 &&
                    op_b >= 0 && op_b <= 1 && lda >= (op_a != 0 ? k : m) &&
                    ldb >= (op_b != 0 ? n : k) && ldc >= m;
  if (!good) {
    return INVALID_VALUE;
  }
  const float *pointers[] = {a, b, c};
  cuda_host_check_argument("cublasSgemmStridedBatched", pointers, sizeof pointers);
  const cudaStream_t stream = static_cast<blas_handle *>(handle)->stream;
  if (stream == nullptr) {
    cuda_host_stop("cuBLAS works on the default stream, which waits for no other");
  }
  const float scale = *alpha, kept = *beta;
  cuda_host_do(stream, [=] {
    for (int64_t r = 0; r < count; r++) {
      for (int64_t x = 0; x < (int64_t)m * n; x++) {
        const int i = (int)(x % m), j = (int)(x / m);
        float *out = c + r * stride_c + i + (int64_t)j * ldc, sum = 0.0f;
        for (int l = 0; l < k; l++) {
          sum += at(a + r * stride_a, op_a, lda, i, l) * at(b + r * stride_b, op_b, ldb, l, j);
        }
        *out = kept != 0.0f ? scale * sum + kept * *out : scale * sum;
      }
    }
  });
  return SUCCESS;
}


const struct {
  const char *name;
  void *function;
} functions[] = {
    {"cublasCreate_v2", (void *)blas_create},
    {"cublasDestroy_v2", (void *)blas_destroy},
    {"cublasSetStream_v2", (void *)blas_set_stream},
    {"cublasSetMathMode", (void *)blas_set_math},
    {"cublasGetProperty", (void *)blas_property},
    {"cublasSgemmStridedBatched", (void *)blas_sgemm}, // not in old ones
};

} // namespace


void *cuda_host_library_open(const char *file) {
  const bool here = installed != CUDA_HOST_NONE && std::strcmp(file, "libcublas.so.12") == 0;
  return here ? (void *)&functions : nullptr;
}


void *cuda_host_library_find(void *library, const char *name) {
  if (library != &functions) {
    cuda_host_stop("a function of a library that was not opened");
  }
  const size_t count = sizeof functions / sizeof *functions;
  for (size_t i = 0; i < count - (installed == CUDA_HOST_OLD ? 1 : 0); i++) {
    if (std::strcmp(functions[i].name, name) == 0) {
      return functions[i].function;
    }
  }
  return nullptr;
}


extern "C" void cuda_host_install(cuda_host_installed what) {
  installed = what;
}
