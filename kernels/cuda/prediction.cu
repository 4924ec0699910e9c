// SPDX-License-Identifier: Apache-2.0
// Predictions of regressions with sixteen resamples in lanes: a thread is a lane of a row.

#include "kernels/cuda/cuda.cuh"
#include "kernels/logistic.h"

enum { THREADS = 256, LANES = RGM_FIT_LANES };


RGM_KERNEL(THREADS) predict_kernel(rgm_predict p) {
  const int64_t columns = p.x.dims[2];
  RGM_REPLICAS (g, p.x.dims[0]) {
    const double *x = static_cast<const double *>(p.x.data) + g * p.x.stride0;
    const double *beta = static_cast<const double *>(p.beta.data) + g * p.beta.stride0;
    double *out = static_cast<double *>(p.out.data) + g * p.out.stride0;
    RGM_ELEMENTS (i, p.x.dims[1] * LANES) {
      const int64_t row = i / LANES, lane = i % LANES;
      double eta = 0.0;
      for (int64_t j = 0; j < columns; j++) {
        eta = rgm_fma64(x[row * columns + j], beta[j * LANES + lane], eta);
      }
      out[(int64_t)rgm_u32(p.rows, g)[row] * LANES + lane] = p.logistic ? rgm_logistic64(eta) : eta;
    }
  }
}


void rgm_cuda_predict(rgm_stream *s, const rgm_predict *predict) {
  const dim3 grid(rgm_blocks(predict->x.dims[1] * LANES, THREADS, 4096),
                  rgm_replica_blocks(predict->x.dims[0]));
  RGM_LAUNCH(predict_kernel, grid, THREADS, 0, s, *predict);
}
