// SPDX-License-Identifier: Apache-2.0
// Predictions of regressions with sixteen resamples in lanes: eight rows at a time (two on AVX2),
// so that a coefficient is loaded once for all of them. A task is a group.

#include "kernels/cpu/cpu.h"
#include "kernels/logistic.h"

enum { ROWS = RGM_LANE64_WIDTH == 8 ? 8 : 2, VECTORS = RGM_FIT_LANES / RGM_LANE64_WIDTH };


// eta = x beta of `count` rows into where each goes
RGM_INLINE void score(double *out, const uint32_t *row, const double *x, const double *beta,
                      int64_t columns, const int count) {
  rgm_lanes64 sum[ROWS][VECTORS];
#pragma GCC unroll 16
  for (int i = 0; i < count; i++) {
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) {
      sum[i][v] = rgm_lanes64_set(0.0);
    }
  }
  for (int64_t j = 0; j < columns; j++) {
    rgm_lanes64 b[VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) {
      b[v] = rgm_lanes64_load(beta + j * RGM_FIT_LANES + v * RGM_LANE64_WIDTH);
    }
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
      const rgm_lanes64 factor = rgm_lanes64_set(x[i * columns + j]);
#pragma GCC unroll 16
      for (int v = 0; v < VECTORS; v++) {
        sum[i][v] = rgm_lanes64_fma(factor, b[v], sum[i][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < count; i++) {
#pragma GCC unroll 16
    for (int v = 0; v < VECTORS; v++) {
      rgm_lanes64_store(out + (int64_t)row[i] * RGM_FIT_LANES + v * RGM_LANE64_WIDTH, sum[i][v]);
    }
  }
}


static void predict_task(void *arg, int64_t g) {
  const rgm_predict *p = arg;
  const int64_t n = p->x.dims[1], columns = p->x.dims[2];
  const double *x = (const double *)p->x.data + g * p->x.stride0;
  const double *beta = (const double *)p->beta.data + g * p->beta.stride0;
  const uint32_t *row = rgm_u32(p->rows, g);
  double *out = (double *)p->out.data + g * p->out.stride0;
  int64_t i = 0;
  for (; i + ROWS <= n; i += ROWS) {
    score(out, row + i, x + i * columns, beta, columns, ROWS);
  }
  for (; i < n; i++) {
    score(out, row + i, x + i * columns, beta, columns, 1);
  }
  for (i = 0; p->logistic && i < n; i++) {
    double *eta = out + (int64_t)row[i] * RGM_FIT_LANES;
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      eta[l] = rgm_logistic64(eta[l]);
    }
  }
}


void RGM_CPU(predict)(rgm_stream *s, const rgm_predict *predict) {
  rgm_predict p = *predict;
  rgm_cpu_parallel(s, p.x.dims[0], predict_task, &p);
}
