// SPDX-License-Identifier: Apache-2.0
// Which CUDA module the tests open: the sources run on the CPU or, where RGM_TEST_CUDA names it,
// the one for a card (tools/gpu_check.sh).

#ifndef RGM_TESTS_CUDA_MODULE_H
#define RGM_TESTS_CUDA_MODULE_H

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdlib.h>

static inline const char *cuda_module(void) {
  const char *named = getenv("RGM_TEST_CUDA");
  return named != NULL && named[0] != '\0' ? named : RGM_CUDA_HOST_MODULE;
}


// A function of tests/cuda_host; a test that needs one is skipped on a card.
static inline void *knob(const char *name) {
  void *module = dlopen(cuda_module(), RTLD_NOW | RTLD_NOLOAD);
  void *function = module != NULL ? dlsym(module, name) : NULL;
  if (function == NULL && getenv("RGM_TEST_CUDA") != NULL) {
    cr_skip_test("%s: only where CUDA runs on the CPU", name);
  }
  cr_assert(function != NULL, "%s", name);
  return function;
}

#endif
