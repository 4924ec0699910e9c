// SPDX-License-Identifier: Apache-2.0
// The logistic function of regressions: one source for both devices. As rgm_sigmoid64 of scalar.h,
// but the quotient is a reciprocal by Newton's method, since a division costs as much as all the
// rest; 2.5 ulp at most on 10^7 random arguments from -40 to 40.

#ifndef RGM_LOGISTIC_H
#define RGM_LOGISTIC_H

#include "kernels/scalar.h"

// 1 / (1 + e^-x); beyond +-708 as at 708
RGM_FN double rgm_logistic64(double x) {
  uint64_t n;
  const double a = -rgm_abs64(x);
  const double p = rgm_exp64_part_(a < -708.0 ? -708.0 : a, &n);
  const double e = p * rgm_from_bits64((n << 52) + ((uint64_t)1023 << 52));

  // 1 / d for d in [1, 2] from a parabola, good to 1.0 %, whose error squares three times
  const double d = 1.0 + e;
  double r = rgm_fma64(rgm_fma64(0.323223668, d, -1.454507104), d, 2.121174134);
  r = rgm_fma64(r, rgm_fma64(-d, r, 1.0), r);
  r = rgm_fma64(r, rgm_fma64(-d, r, 1.0), r);
  r = rgm_fma64(r, rgm_fma64(-d, r, 1.0), r);
  return x < 0.0 ? e * r : r;
}

// the same in float, its reciprocal from two steps
RGM_FN float rgm_logistic32(float x) {
  uint32_t n;
  const float a = -rgm_abs(x);
  const float p = rgm_exp_part_(a < -87.0f ? -87.0f : a, &n);
  const float e = p * rgm_from_bits((n << 23) + (127u << 23));
  const float d = 1.0f + e;
  float r = rgm_fma(rgm_fma(0.323223668f, d, -1.454507104f), d, 2.121174134f);
  r = rgm_fma(r, rgm_fma(-d, r, 1.0f), r);
  r = rgm_fma(r, rgm_fma(-d, r, 1.0f), r);
  return x < 0.0f ? e * r : r;
}

#endif
