// SPDX-License-Identifier: Apache-2.0
// The order of floats that order statistics use: one source for the CPU and for CUDA.

#ifndef RGM_ORDER_H
#define RGM_ORDER_H

#include "kernels/scalar.h"


// A number that grows as x does: a total order, -0 before +0, NaN (of any sign) last.
RGM_FN uint32_t rgm_order_key(float x) {
  const uint32_t bits = rgm_bits(x);
  const uint32_t key = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return x == x ? key : 0xffffffffu;
}


// The float of a key; NaN is one NaN.
RGM_FN float rgm_order_value(uint32_t key) {
  const uint32_t bits = (key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key;
  return rgm_from_bits(key == 0xffffffffu ? 0x7fc00000u : bits);
}


// `share` of the way from one order statistic to the next: an order statistic itself takes nothing
// from its neighbour, which may be NaN or infinite.
RGM_FN float rgm_between(float low, float high, float share) {
  return share == 0.0f || low == high ? low : rgm_fma(share, high - low, low);
}

#endif
