// SPDX-License-Identifier: Apache-2.0
// The door of the CUDA module, which kernels/module.c opens at run time. No CUDA header, so that
// the program needs none.

#ifndef RGM_CUDA_MODULE_H
#define RGM_CUDA_MODULE_H

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// The table of rows; errors of the module go to `fail`, the program's rgm_fail.
typedef const rgm_backend *(*rgm_cuda_backend_fn)(rgm_fail_fn fail);
#define RGM_CUDA_ENTRY "rgm_cuda_backend"
__attribute__((visibility("default"))) const rgm_backend *rgm_cuda_backend(rgm_fail_fn fail);

#ifdef __cplusplus
}
#endif
#endif
