// SPDX-License-Identifier: Apache-2.0
// Status texts, assertions and tensor views.

#include "kernels/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>


static _Thread_local char last_error[2048];
static rgm_fail_fn elsewhere; // where a module's errors go


void rgm_fail_to(rgm_fail_fn fail) {
  elsewhere = fail == rgm_fail ? NULL : fail;
}


rgm_status rgm_fail(rgm_status status, const char *format, ...) {
  // format into a copy, since an argument may be the old text itself
  char text[sizeof last_error];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  snprintf(last_error, sizeof last_error, "%s", text);
  return elsewhere != NULL ? elsewhere(status, "%s", text) : status;
}


const char *rgm_last_error(void) {
  return last_error;
}


int rgm_exit_code(rgm_status status) {
  switch (status) {
  case RGM_OK:
    return 0;
  case RGM_EUSAGE:
  case RGM_ECONFIG:
    return 64;
  case RGM_EDATA:
  case RGM_ENUMERIC:
    return 65;
  case RGM_EIO:
  case RGM_EMEMORY:
  case RGM_EDEVICE:
    return 74;
  case RGM_ESTOPPED:
    return 75;
  case RGM_EINTERNAL:
    break;
  }
  return 70;
}


void rgm_assert_failed(const char *condition, const char *file, int line) {
  fprintf(stderr, "regimen: internal error at %s:%d: %s\nPlease report this line.\n", file, line,
          condition);
  abort();
}


size_t rgm_dtype_size(rgm_dtype dtype) {
  static const size_t size[] = {4, 8, 4, 4, 1};
  return size[dtype];
}


const char *rgm_dtype_name(rgm_dtype dtype) {
  static const char *const name[] = {"f32", "f64", "i32", "u32", "u8"};
  return name[dtype];
}


rgm_tensor rgm_view(void *data, rgm_dtype dtype, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
  rgm_tensor t = {.data = data, .dtype = dtype, .rank = 0, .dims = {d0, d1, d2, d3}};
  while (t.rank < RGM_MAX_RANK && t.dims[t.rank] > 0) {
    t.rank++;
  }
  for (int i = t.rank; i < RGM_MAX_RANK; i++) {
    t.dims[i] = 1;
  }
  t.stride0 = t.dims[1] * t.dims[2] * t.dims[3];
  return t;
}


rgm_tensor rgm_slice(rgm_tensor t, int64_t first, int64_t count) {
  RGM_ASSERT(first >= 0 && count > 0 && first + count <= t.dims[0]);
  t.data = (char *)t.data + first * t.stride0 * (int64_t)rgm_dtype_size(t.dtype);
  t.dims[0] = count;
  return t;
}


int64_t rgm_elements(rgm_tensor t) {
  return t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3];
}


size_t rgm_bytes(rgm_tensor t) {
  return (size_t)rgm_elements(t) * rgm_dtype_size(t.dtype);
}
