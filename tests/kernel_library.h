// SPDX-License-Identifier: Apache-2.0
// The row of the kernel table that is another's: matrix products by the library of the device's
// maker. It stands apart from the table of all rows since a backend may have none (the CPU has
// none) and since its bits are its own: it is only held to the reference, however replicas lie.

#ifndef RGM_TESTS_KERNEL_LIBRARY_H
#define RGM_TESTS_KERNEL_LIBRARY_H

#include "tests/kernel_util.h"

// R, M, N, K, whether a and b are transposed
static const int64_t library_sizes[][4] = {
    {1, 1, 1, 1},
    {1, 1, 16, 3},
    {7, 1, 16, 17},
    {1, 5, 3, 2},
    {2, 3, 5, 1},
    {7, 17, 48, 4},
    {7, 33, 19, 7},
    {1, 257, 16, 5},
    {3, 16, 272, 64},
    {1, 6, 32, 257},
    {0},
};

// no denormals: another library may take them for zero
static void library_plan(operand *o, const int64_t *n) {
  const int64_t rows = n[1], columns = n[2], sum = n[3];
  o[0] = op3(OUT, RGM_F32, NAN_FILL, n[0], rows, columns);
  o[1] = op3(IN, RGM_F32, WIDE, n[0], n[4] != 0 ? sum : rows, n[4] != 0 ? rows : sum);
  o[2] = op3(IN, RGM_F32, WIDE, n[0], n[5] != 0 ? columns : sum, n[5] != 0 ? sum : columns);
}


static void library_run(rgm_stream *s, const rgm_tensor *t, const int64_t *n) {
  rgm_library_gemm(s, t[0], t[1], t[2], n[4] != 0, n[5] != 0);
}


static void library_reference(const rgm_tensor *t, double *const *want, double *const *tol,
                              const int64_t *n) {
  const int64_t rows = n[1], columns = n[2], sum = n[3];
  for (int64_t at = 0; at < n[0] * rows * columns; at++) {
    const int64_t r = at / columns / rows, i = at / columns % rows, j = at % columns;
    const float *a = f32(t[1], r), *b = f32(t[2], r);
    for (int64_t k = 0; k < sum; k++) {
      const double x = (double)a[n[4] != 0 ? k * rows + i : i * sum + k];
      const double term = x * (double)b[n[5] != 0 ? j * sum + k : k * columns + j];
      want[0][at] += term;
      tol[0][at] += sum_error(sum) * fabs(term);
    }
  }
}


static const kernel_case library_case = {"library_gemm",    library_plan, library_run,
                                         library_reference, NULL,         NULL};


// dense, with replicas apart, and with one slice of an input for all of them
static void check_library(rgm_stream *s, const int64_t *n) {
  for (int64_t gap = 0; gap <= 8; gap += gap == 0 ? 7 : 1) {
    call c = make_call(&library_case, n, 0, gap);
    check_reference(&c, s);
    for (int k = 1; k <= 2; k++) {
      restore(&c);
      const int64_t stride = c.t[k].stride0;
      c.t[k].stride0 = 0;
      check_reference(&c, s);
      c.t[k].stride0 = stride;
    }
    drop_all();
  }
}

#endif
