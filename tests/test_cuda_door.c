// SPDX-License-Identifier: Apache-2.0
// Tests of how the CUDA module is looked for: what is no module of ours is told and not used. A
// program of its own, since a suite beside another leaks in Criterion's own runner.

#include "kernels/kernels.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

TestSuite(cuda_door, .timeout = 30);

Test(cuda_door, a_module_that_cannot_be_opened_is_told) {
  rgm_stream *s = NULL;
  char note[512] = "";
  const rgm_device_options options = {.threads = 1, .isa = "auto"};
  setenv("RGM_CUDA_MODULE", "/nowhere/libregimen_cuda.so", 1);
  cr_assert_eq(rgm_open("cuda", &options, &s, note, sizeof note), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "/nowhere/libregimen_cuda.so") != NULL, "%s",
            rgm_last_error());
  cr_assert_eq(rgm_open("auto", &options, &s, note, sizeof note), RGM_OK);
  cr_assert_str_eq(s->backend->name, "cpu");
  cr_assert(strstr(note, "; no GPU: RGM_CUDA_MODULE: ") != NULL, "%s", note);
  rgm_close(s);
}


// a library that is no module of ours
Test(cuda_door, another_library_is_not_taken_for_the_module) {
  rgm_stream *s = NULL;
  char note[512] = "";
  const rgm_device_options options = {.threads = 1, .isa = "auto"};
  setenv("RGM_CUDA_MODULE", "libc.so.6", 1);
  cr_assert_eq(rgm_open("cuda", &options, &s, note, sizeof note), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "another version") != NULL, "%s", rgm_last_error());
}
