// SPDX-License-Identifier: Apache-2.0
// The GPU's kernels, opened at run time.

#ifndef RGM_MODULE_H
#define RGM_MODULE_H

#include "kernels/kernels.h"

// The table of the CUDA module, or NULL: then `why` says in words why there is none.
const rgm_backend *rgm_module_backend(char *why, size_t size);

#endif
