// SPDX-License-Identifier: Apache-2.0
// The CUDA backend's table, and the one function by which the module is entered.

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/module.h"

const char *rgm_cuda_isa(void);


static rgm_backend table_of(void) {
  rgm_backend t = {};
  t.abi_version = RGM_BACKEND_ABI;
  t.size = sizeof t;
  t.name = "cuda";
  t.isa = rgm_cuda_isa();

  t.open = rgm_cuda_open;
  t.close = rgm_cuda_close;
  t.describe = rgm_cuda_describe;
  t.alloc = rgm_cuda_alloc;
  t.release = rgm_cuda_release;
  t.copy = rgm_cuda_copy;
  t.fill = rgm_cuda_fill;
  t.sync = rgm_cuda_sync;
  t.graph = rgm_cuda_graph;

  t.library = rgm_cuda_library;
  t.library_gemm = rgm_cuda_library_gemm;
  t.env_kernels = rgm_cuda_env_kernels;

#define ROW(name) t.name = rgm_cuda_##name;
  RGM_OWN_ROWS(ROW)
#undef ROW
  return t;
}


extern "C" const rgm_backend *rgm_cuda_backend(rgm_fail_fn fail) {
  static const rgm_backend table = table_of();
  rgm_fail_to(fail);
  return &table;
}
