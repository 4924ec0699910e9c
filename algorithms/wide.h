// SPDX-License-Identifier: Apache-2.0
// Loops of the host in the widest vectors that the processor at hand has. Sums run over rows in
// their order, and products are rounded one by one, so that all widths give the same bits.
// Private to the algorithms.

#ifndef RGM_WIDE_H
#define RGM_WIDE_H

#include "kernels/base.h"

// RGM_WIDE(name, parameters, arguments): a static function `name` of what RGM_INLINE name_body
// does, compiled for each width.
#if defined(__x86_64__)
#define RGM_WIDE(name, parameters, arguments)                                                \
  __attribute__((                                                                            \
      target("arch=x86-64-v4,prefer-vector-width=512"))) static void name##_512 parameters { \
    name##_body arguments;                                                                   \
  }                                                                                          \
  __attribute__((target("arch=x86-64-v3"))) static void name##_256 parameters {              \
    name##_body arguments;                                                                   \
  }                                                                                          \
  static void name parameters {                                                              \
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&           \
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {          \
      name##_512 arguments;                                                                  \
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {            \
      name##_256 arguments;                                                                  \
    } else {                                                                                 \
      name##_body arguments;                                                                 \
    }                                                                                        \
  }
#else
#define RGM_WIDE(name, parameters, arguments) \
  static void name parameters {               \
    name##_body arguments;                    \
  }
#endif

enum {
  RGM_WIDE_ROWS = 4, // at a time
  RGM_WIDE_UNIT = 8, // columns come in units
};

// gram (width, stride) += sum_k w_k x_k x_k' of `count` <= 4 rows, one after the other. Of four
// rows whole units of columns are read and written, whose entries above the diagonal mean nothing;
// x and gram have room for them.
RGM_INLINE void rgm_add_products_body(double *gram, const double *const *x, const double *w,
                                      int count, int width, int64_t stride) {
  if (count == RGM_WIDE_ROWS) {
    const double *p = x[0], *q = x[1], *r = x[2], *s = x[3];
    for (int i = 0; i < width; i++) {
      double *to = gram + i * stride;
      const double a = w[0] * p[i], b = w[1] * q[i], c = w[2] * r[i], d = w[3] * s[i];
      for (int first = 0; first <= i; first += RGM_WIDE_UNIT) {
        _Pragma("GCC ivdep") for (int j = first; j < first + RGM_WIDE_UNIT; j++) {
          to[j] = (((to[j] + a * p[j]) + b * q[j]) + c * r[j]) + d * s[j];
        }
      }
    }
    return;
  }
  for (int k = 0; k < count; k++) {
    for (int i = 0; i < width; i++) {
      const double factor = w[k] * x[k][i];
      _Pragma("GCC ivdep") for (int j = 0; j <= i; j++) {
        gram[i * stride + j] += factor * x[k][j];
      }
    }
  }
}

#endif
