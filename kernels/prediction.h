// SPDX-License-Identifier: Apache-2.0
// What batched regressions (kernels/regression.h) predict: sixteen resamples in lanes, whose
// coefficients differ and whose rows are the same.

#ifndef RGM_PREDICTION_H
#define RGM_PREDICTION_H

#include "kernels/regression.h"

#ifdef __cplusplus
extern "C" {
#endif

// out_(rows_i) = x_i'beta, summed in order with fma, or its logistic function, in every lane; other
// rows of `out` stay as they are.
typedef struct rgm_predict {
  rgm_tensor out;  // (G, N, 16) f64, its rows written
  rgm_tensor x;    // (G, n, P) f64
  rgm_tensor beta; // (G, P, 16) f64
  rgm_tensor rows; // (G, n) u32: which row of out
  bool logistic;
} rgm_predict;

void rgm_predict_rows(rgm_stream *s, const rgm_predict *predict);

#ifdef __cplusplus
}
#endif
#endif
