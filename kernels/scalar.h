// SPDX-License-Identifier: Apache-2.0
// Scalar functions of our own (exp, log, tanh, ...): one source for the CPU and for CUDA.
//
// The contract: a function here returns the same bits for the same argument on every device, at
// every vector width, from every compiler. It holds because each body is a fixed sequence of
// explicit fused multiply-adds, single IEEE operations (+ - * / sqrt), comparisons, integer
// operations and bit casts: no libm, no tables, no branch but selects, so that gcc vectorises any
// loop that calls them. It needs round to nearest, denormals on (no FTZ or DAZ), and
//   gcc, g++  -ffp-contract=off (also -fno-math-errno -fno-trapping-math, so that loops vectorise;
//             -fno-signed-zeros changes nothing here), never -ffast-math; without FMA in the
//             target, fmaf of the C library gives the same bits, slowly
//   nvcc      -fmad=false with the defaults -ftz=false -prec-div=true -prec-sqrt=true
// A NaN result is some NaN: its sign and payload differ between devices and mean nothing.
//
// The errors in the comments are the largest ones measured, in units in the last place of the exact
// result (of the smallest denormal below the normal range). "exhaustive" means over all floats of
// the domain; the doubles were measured on 3 * 10^8 random arguments each, pow on 3 * 10^7.
// tests/test_scalar.c asserts the same constants on a sample. Names that end in _ are parts.
// Argument reduction follows Cody and Waite (1980); the coefficients are our own minimax fits
// (Remez), rounded to the type.

#ifndef RGM_SCALAR_H
#define RGM_SCALAR_H

#include "kernels/base.h"

#include <string.h>

#if defined(__FAST_MATH__)
#error "kernels/scalar.h: -ffast-math breaks the bit-exactness contract"
#endif

// ---- bit casts

RGM_FN uint32_t rgm_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

RGM_FN float rgm_from_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

RGM_FN uint64_t rgm_bits64(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

RGM_FN double rgm_from_bits64(uint64_t u) {
  double x;
  memcpy(&x, &u, sizeof x);
  return x;
}

// ---- single operations

// a * b + c, rounded once
RGM_FN float rgm_fma(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

// a * b + c, rounded once
RGM_FN double rgm_fma64(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

// square root, correctly rounded; x < 0 gives NaN
RGM_FN float rgm_sqrt(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}

// square root, correctly rounded; x < 0 gives NaN
RGM_FN double rgm_sqrt64(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

// |x|: clears the sign bit, of a NaN too
RGM_FN float rgm_abs(float x) {
  return rgm_from_bits(rgm_bits(x) & 0x7fffffffu);
}

// |x|: clears the sign bit, of a NaN too
RGM_FN double rgm_abs64(double x) {
  return rgm_from_bits64(rgm_bits64(x) & 0x7fffffffffffffffu);
}

// the smaller one; b when either is NaN, and when they are equal
RGM_FN float rgm_min(float a, float b) {
  return a < b ? a : b;
}

// the larger one; b when either is NaN, and when they are equal
RGM_FN float rgm_max(float a, float b) {
  return a > b ? a : b;
}

// x limited to [lo, hi], lo <= hi; a NaN x stays NaN
RGM_FN float rgm_clamp(float x, float lo, float hi) {
  float top = x > hi ? hi : x;
  return top < lo ? lo : top;
}

// y with the sign bit of x set on top of its own (y >= 0 or NaN)
RGM_FN float rgm_with_sign_(float y, float x) {
  return rgm_from_bits(rgm_bits(y) | (rgm_bits(x) & 0x80000000u));
}

// y with the sign bit of x set on top of its own (y >= 0 or NaN)
RGM_FN double rgm_with_sign64_(double y, double x) {
  return rgm_from_bits64(rgm_bits64(y) | (rgm_bits64(x) & 0x8000000000000000u));
}

// ---- exponentials, float

// exp(x) = p * 2^n: returns p in [0.7, 1.42]; *n has the integer n in its low 9 bits
RGM_FN float rgm_exp_part_(float x, uint32_t *n) {
  // n = the integer nearest x / ln 2, in the low bits of t
  float t = rgm_fma(x, 0x1.715476p+0f, 0x1.8p+23f);
  float k = t - 0x1.8p+23f;

  // r = x - n ln 2 in two steps
  float r = rgm_fma(k, -0x1.62e43p-1f, x);
  r = rgm_fma(k, 0x1.05c61p-29f, r);

  // exp(r) = 1 + r (1 + r q(r))
  float q = 0x1.6a23d6p-10f;
  q = rgm_fma(q, r, 0x1.123a2p-7f);
  q = rgm_fma(q, r, 0x1.5558f2p-5f);
  q = rgm_fma(q, r, 0x1.555492p-3f);
  q = rgm_fma(q, r, 0x1.fffffcp-2f);
  *n = rgm_bits(t);
  return rgm_fma(rgm_fma(q, r, 1.0f), r, 1.0f);
}

// exp(x) for x in [-104, 0] and below, NaN stays NaN: half the range needs half the scaling
RGM_FN float rgm_exp_negative_(float x) {
  uint32_t n;
  float p = rgm_exp_part_(x < -104.0f ? -104.0f : x, &n);
  return p * rgm_from_bits((n << 23) + ((127u + 64u) << 23)) * 0x1p-64f;
}

// e^x; -inf gives 0, overflow inf (x > 88.7228), denormal results right; 0.90 ulp, exhaustive
RGM_FN float rgm_exp(float x) {
  uint32_t n;
  float p = rgm_exp_part_(rgm_clamp(x, -104.0f, 89.0f), &n);

  // 2^n in two factors, so that only the last product can round or overflow
  uint32_t bias = x > 0.0f ? (127u - 64u) << 23 : (127u + 64u) << 23;
  float last = x > 0.0f ? 0x1p+64f : 0x1p-64f;
  return p * rgm_from_bits((n << 23) + bias) * last;
}

// e^x - 1; -inf gives -1, overflow inf, keeps -0 and denormals; 1.59 ulp, exhaustive
RGM_FN float rgm_expm1(float x) {
  // n = the integer nearest x / ln 2, and r + s = x - n ln 2
  float y = rgm_clamp(x, -18.0f, 89.0f);
  float t = rgm_fma(y, 0x1.715476p+0f, 0x1.8p+23f);
  float k = t - 0x1.8p+23f;
  float a = rgm_fma(k, -0x1.62e43p-1f, y);
  float r = rgm_fma(k, 0x1.05c61p-29f, a);
  float s = rgm_fma(k, 0x1.05c61p-29f, a - r);

  // p = exp(r + s) - 1
  float q = 0x1.6bec04p-10f;
  q = rgm_fma(q, r, 0x1.1227bp-7f);
  q = rgm_fma(q, r, 0x1.555674p-5f);
  q = rgm_fma(q, r, 0x1.5554bp-3f);
  q = rgm_fma(q, r, 0x1.fffffep-2f);
  float p = r + rgm_fma(r * r, q, s);

  // 2^n p + 2^n - 1, from half of it because 2^128 is no float
  float h = rgm_from_bits((rgm_bits(t) << 23) + (126u << 23));
  float e = rgm_fma(h, p, h - 0.5f) * 2.0f;
  return rgm_abs(x) < 0x1p-26f ? x : e;
}

// ---- logarithms, float

// k ln 2 + log(1 + f + lo) for f in [-1/3, 1/3] and an integer k; lo is below half an ulp of f
RGM_FN float rgm_log_part_(float f, float lo, float k) {
  // log(1 + f) = f + f^2 (-1/2 + f p(f))
  float p = 0x1.ebd676p-4f;
  p = rgm_fma(p, f, -0x1.0714acp-3f);
  p = rgm_fma(p, f, 0x1.b87ce8p-4f);
  p = rgm_fma(p, f, -0x1.f3888ep-4f);
  p = rgm_fma(p, f, 0x1.24f49ap-3f);
  p = rgm_fma(p, f, -0x1.559912p-3f);
  p = rgm_fma(p, f, 0x1.99977ep-3f);
  p = rgm_fma(p, f, -0x1.ffff0ep-3f);
  p = rgm_fma(p, f, 0x1.555556p-2f);
  float c = f * f * rgm_fma(p, f, -0.5f);

  // hi + rest = k ln 2 + f without error in the larger part; k ln2_hi is exact
  float a = k * 0x1.62e4p-1f;
  float hi = a + f;
  float rest = f - (hi - a);
  return hi + rgm_fma(k, 0x1.7f7d1cp-20f, c + (rest + lo));
}

// log x for finite x >= 2^-126, the same bits as rgm_log and half its work; 0.90 ulp, exhaustive
RGM_FN float rgm_log_normal(float x) {
  uint32_t u = rgm_bits(x) - 0x3f2aaaabu + (128u << 23);
  float f = rgm_from_bits((u & 0x007fffffu) + 0x3f2aaaabu) - 1.0f;
  return rgm_log_part_(f, 0.0f, (float)((int32_t)(u >> 23) - 128));
}

// log x; 0 gives -inf, x < 0 NaN, inf inf, denormals right; 0.90 ulp, exhaustive
RGM_FN float rgm_log(float x) {
  // x = 2^k (1 + f), 1 + f in [2/3, 4/3)
  float y = x < 0x1p-126f ? x * 0x1p+23f : x;
  int32_t shift = x < 0x1p-126f ? 128 + 23 : 128;
  uint32_t u = rgm_bits(y) - 0x3f2aaaabu + (128u << 23);
  float k = (float)((int32_t)(u >> 23) - shift);
  float f = rgm_from_bits((u & 0x007fffffu) + 0x3f2aaaabu) - 1.0f;
  float r = rgm_log_part_(f, 0.0f, k);

  // inf and NaN, 0, negative
  r = x < rgm_from_bits(0x7f800000u) ? r : x;
  r = x > 0.0f ? r : rgm_from_bits(x == 0.0f ? 0xff800000u : 0x7fc00000u);
  return r;
}

// log(1 + x) for finite x > -1
RGM_FN float rgm_log1p_part_(float x) {
  // u + c = 1 + x = 2^k (1 + f + lo), 1 + f in [2/3, 4/3)
  float u = 1.0f + x;
  float c = x - (u - 1.0f);
  uint32_t v = rgm_bits(u) - 0x3f2aaaabu + (128u << 23);
  int32_t k = (int32_t)(v >> 23) - 128;
  float g = rgm_from_bits((v & 0x007fffffu) + 0x3f2aaaabu) - 1.0f;
  float d = c * rgm_from_bits((uint32_t)(127 - (k < 126 ? k : 126)) << 23);
  float f = g + d;
  return rgm_log_part_(f, d - (f - g), (float)k);
}

// log(1 + x); -1 gives -inf, x < -1 NaN, inf inf, keeps -0 and denormals; 1.15 ulp, exhaustive
RGM_FN float rgm_log1p(float x) {
  float r = rgm_log1p_part_(x);
  r = rgm_abs(x) < 0x1p-26f ? x : r;
  r = x < rgm_from_bits(0x7f800000u) ? r : x;
  return x > -1.0f ? r : rgm_from_bits(x == -1.0f ? 0xff800000u : 0x7fc00000u);
}

// ---- activations, float

// tanh x; +-inf gives +-1, keeps -0 and denormals; 1.37 ulp, exhaustive
RGM_FN float rgm_tanh(float x) {
  // 1 - 2 / (exp(2 |x|) + 1) above 5/8
  uint32_t n;
  float a = rgm_abs(x);
  float p = rgm_exp_part_(2.0f * (a > 10.0f ? 10.0f : a), &n);
  float e = p * rgm_from_bits((n << 23) + (127u << 23));
  float large = 1.0f - 2.0f / (e + 1.0f);

  // |x| + |x|^3 q(x^2) below
  float z = a * a;
  float q = -0x1.75e1c2p-8f;
  q = rgm_fma(q, z, 0x1.522698p-6f);
  q = rgm_fma(q, z, -0x1.b83c5ap-5f);
  q = rgm_fma(q, z, 0x1.110726p-3f);
  q = rgm_fma(q, z, -0x1.555532p-2f);
  float small = rgm_fma(a * z, q, a);
  return rgm_with_sign_(a < 0.625f ? small : large, x);
}

// 1 / (1 + e^-x), relative accuracy in the tail too; -inf gives 0, inf 1; 1.65 ulp, exhaustive
RGM_FN float rgm_sigmoid(float x) {
  // e = exp(-|x|); e / (1 + e) = e - e e / (1 + e) and 1 / (1 + e) = 1 - e / (1 + e)
  float e = rgm_exp_negative_(-rgm_abs(x));
  float top = x < 0.0f ? e : 1.0f;
  return rgm_fma(-top, e / (1.0f + e), top);
}

// log(1 + e^x), relative accuracy in the tail too; -inf gives 0, inf inf; 1.68 ulp, exhaustive
RGM_FN float rgm_softplus(float x) {
  float e = rgm_exp_negative_(-rgm_abs(x));
  float l = rgm_log1p_part_(e);
  l = e < 0x1p-26f ? e : l;
  return (x > 0.0f ? x : 0.0f) + l;
}

// sin and cos of 2 pi u for u in [0, 1), the quarters exact (a zero's sign is fixed, not
// meaningful); relative also near the zeros: 0.99 ulp, exhaustive
RGM_FN void rgm_sincos2pi(float u, float *s, float *c) {
  // u = (n + t) / 4 with n in 0..4 and t in [-1/2, 1/2], exactly
  float v = 4.0f * u;
  float b = v + 0x1.8p+23f;
  float t = v - (b - 0x1.8p+23f);
  uint32_t n = rgm_bits(b);

  // sin(pi/2 t) with pi/2 in two parts, cos(pi/2 t)
  float z = t * t;
  float p = 0x1.4be09ep-13f;
  p = rgm_fma(p, z, -0x1.32cb0ep-8f);
  p = rgm_fma(p, z, 0x1.466bbcp-4f);
  p = rgm_fma(p, z, -0x1.4abbcep-1f);
  p = rgm_fma(p, z, -0x1.777a5cp-25f);
  float sine = rgm_fma(t, 0x1.921fb6p+0f, t * p);
  float q = 0x1.d9f7bcp-11f;
  q = rgm_fma(q, z, -0x1.55c664p-6f);
  q = rgm_fma(q, z, 0x1.03c1dep-2f);
  q = rgm_fma(q, z, -0x1.3bd3ccp+0f);
  float cosine = rgm_fma(q, z, 1.0f);

  // turn by n quarters
  float y = (n & 1u) ? cosine : sine;
  float x = (n & 1u) ? sine : cosine;
  *s = rgm_from_bits(rgm_bits(y) ^ ((n & 2u) << 30));
  *c = rgm_from_bits(rgm_bits(x) ^ (((n + 1u) & 2u) << 30));
}

// ---- double

// exp(x) = p * 2^n: returns p in [0.7, 1.42]; *n has the integer n in its low 12 bits
RGM_FN double rgm_exp64_part_(double x, uint64_t *n) {
  // n = the integer nearest x / ln 2, and r = x - n ln 2
  double t = rgm_fma64(x, 0x1.71547652b82fep+0, 0x1.8p+52);
  double k = t - 0x1.8p+52;
  double r = rgm_fma64(k, -0x1.62e42fefa39efp-1, x);
  r = rgm_fma64(k, -0x1.abc9e3b39803fp-56, r);

  // exp(r) = 1 + r (1 + r q(r))
  double q = 0x1.ad7f393e88573p-26;
  q = rgm_fma64(q, r, 0x1.28ad9b3ef2749p-22);
  q = rgm_fma64(q, r, 0x1.71df25b66c101p-19);
  q = rgm_fma64(q, r, 0x1.a01999e2b7996p-16);
  q = rgm_fma64(q, r, 0x1.a01a012a0e024p-13);
  q = rgm_fma64(q, r, 0x1.6c16c184388eap-10);
  q = rgm_fma64(q, r, 0x1.1111111127d1p-7);
  q = rgm_fma64(q, r, 0x1.555555555083fp-5);
  q = rgm_fma64(q, r, 0x1.55555555554f9p-3);
  q = rgm_fma64(q, r, 0x1.000000000000ap-1);
  *n = rgm_bits64(t);
  return rgm_fma64(rgm_fma64(q, r, 1.0), r, 1.0);
}

// e^x; -inf gives 0, overflow inf, denormal results right; 0.94 ulp
RGM_FN double rgm_exp64(double x) {
  uint64_t n;
  double y = x > 710.0 ? 710.0 : x;
  double p = rgm_exp64_part_(y < -746.0 ? -746.0 : y, &n);

  // 2^n in two factors, so that only the last product can round or overflow
  uint64_t bias = x > 0.0 ? (uint64_t)(1023 - 512) << 52 : (uint64_t)(1023 + 512) << 52;
  double last = x > 0.0 ? 0x1p+512 : 0x1p-512;
  return p * rgm_from_bits64((n << 52) + bias) * last;
}

// e^x - 1; -inf gives -1, overflow inf, keeps -0 and denormals; 1.62 ulp
RGM_FN double rgm_expm164(double x) {
  // n = the integer nearest x / ln 2, and r + s = x - n ln 2
  double y = x > 710.0 ? 710.0 : x;
  y = y < -40.0 ? -40.0 : y;
  double t = rgm_fma64(y, 0x1.71547652b82fep+0, 0x1.8p+52);
  double k = t - 0x1.8p+52;
  double a = rgm_fma64(k, -0x1.62e42fefa39efp-1, y);
  double r = rgm_fma64(k, -0x1.abc9e3b39803fp-56, a);
  double s = rgm_fma64(k, -0x1.abc9e3b39803fp-56, a - r);

  // p = exp(r + s) - 1
  double q = 0x1.1ee8847cf6e8ep-29;
  q = rgm_fma64(q, r, 0x1.af5ea860f0eb3p-26);
  q = rgm_fma64(q, r, 0x1.27e536461d32dp-22);
  q = rgm_fma64(q, r, 0x1.71ddf863b299ap-19);
  q = rgm_fma64(q, r, 0x1.a01a017baf16fp-16);
  q = rgm_fma64(q, r, 0x1.a01a01afdd8fbp-13);
  q = rgm_fma64(q, r, 0x1.6c16c16c1f0e8p-10);
  q = rgm_fma64(q, r, 0x1.111111110f6c4p-7);
  q = rgm_fma64(q, r, 0x1.555555555553ep-5);
  q = rgm_fma64(q, r, 0x1.5555555555559p-3);
  q = rgm_fma64(q, r, 0.5);
  double p = r + rgm_fma64(r * r, q, s);

  // 2^n p + 2^n - 1, from half of it because 2^1024 is no double
  double h = rgm_from_bits64((rgm_bits64(t) << 52) + ((uint64_t)1022 << 52));
  double e = rgm_fma64(h, p, h - 0.5) * 2.0;
  return rgm_abs64(x) < 0x1p-54 ? x : e;
}

// k ln 2 + log(1 + f + lo) for 1 + f in [1/sqrt 2, sqrt 2] and an integer k; lo is below half an
// ulp of f
RGM_FN double rgm_log64_part_(double f, double lo, double k) {
  // log(1 + f) = 2 atanh s = f - (h - s (h + r)), s = f / (2 + f), h = f^2 / 2
  double s = f / (2.0 + f);
  double z = s * s;
  double r = 0x1.2f0978de8d5a2p-3;
  r = rgm_fma64(r, z, 0x1.39a157f88fb5ap-3);
  r = rgm_fma64(r, z, 0x1.7466428857142p-3);
  r = rgm_fma64(r, z, 0x1.c71c51f8bb628p-3);
  r = rgm_fma64(r, z, 0x1.2492494204432p-2);
  r = rgm_fma64(r, z, 0x1.999999997fc78p-2);
  r = rgm_fma64(r, z, 0x1.5555555555593p-1);
  double h = 0.5 * f * f;
  double c = rgm_fma64(s, rgm_fma64(r, z, h), rgm_fma64(k, -0x1.8432a1b0e2634p-43, lo)) - h;

  // hi + rest = k ln 2 + f without error in the larger part; k ln2_hi is exact
  double a = k * 0x1.62e42fefa4p-1;
  double hi = a + f;
  return hi + (c + (f - (hi - a)));
}

// splits u = 2^k (1 + g), 1 + g in [1/sqrt 2, sqrt 2), normal u > 0; returns g, k as a double
RGM_FN double rgm_log64_split_(double u, double *k) {
  const uint64_t root = 0x3fe6a09e667f3bcdu;
  uint64_t v = rgm_bits64(u) - root + ((uint64_t)1024 << 52);
  *k = rgm_from_bits64((v >> 52) | 0x4330000000000000u) - (0x1p+52 + 1024.0);
  return rgm_from_bits64((v & 0x000fffffffffffffu) + root) - 1.0;
}

// log x; 0 gives -inf, x < 0 NaN, inf inf, denormals right; 0.85 ulp
RGM_FN double rgm_log64(double x) {
  double k;
  double f = rgm_log64_split_(x < 0x1p-1022 ? x * 0x1p+54 : x, &k);
  double r = rgm_log64_part_(f, 0.0, x < 0x1p-1022 ? k - 54.0 : k);
  r = x < rgm_from_bits64(0x7ff0000000000000u) ? r : x;
  double special = rgm_from_bits64(x == 0.0 ? 0xfff0000000000000u : 0x7ff8000000000000u);
  return x > 0.0 ? r : special;
}

// log(1 + x); -1 gives -inf, x < -1 NaN, inf inf, keeps -0 and denormals; 0.87 ulp
RGM_FN double rgm_log1p64(double x) {
  // u + c = 1 + x = 2^k (1 + f + lo)
  double k;
  double u = 1.0 + x;
  double c = x - (u - 1.0);
  double g = rgm_log64_split_(u, &k);
  double scale = rgm_from_bits64((rgm_bits64(0x1.8p+52 - (k < 1022.0 ? k : 1022.0)) << 52) +
                                 ((uint64_t)1023 << 52));
  double d = c * scale;
  double f = g + d;
  double r = rgm_log64_part_(f, d - (f - g), k);

  // tiny, inf and NaN, -1, below -1
  r = rgm_abs64(x) < 0x1p-54 ? x : r;
  r = x < rgm_from_bits64(0x7ff0000000000000u) ? r : x;
  double special = rgm_from_bits64(x == -1.0 ? 0xfff0000000000000u : 0x7ff8000000000000u);
  return x > -1.0 ? r : special;
}

// 1 / (1 + e^-x), relative accuracy in the tail too; -inf gives 0, inf 1; 1.68 ulp
RGM_FN double rgm_sigmoid64(double x) {
  uint64_t n;
  double a = -rgm_abs64(x);
  double p = rgm_exp64_part_(a < -746.0 ? -746.0 : a, &n);
  double e = p * rgm_from_bits64((n << 52) + ((uint64_t)(1023 + 512) << 52)) * 0x1p-512;
  double top = x < 0.0 ? e : 1.0;
  return rgm_fma64(-top, e / (1.0 + e), top);
}

// ---- powers

// x^y for x >= 0, in double; x < 0 gives NaN unless y = 0; x^0 = 1^y = 1 as in C; 0.500001 ulp
RGM_FN float rgm_pow(float x, float y) {
  double p = rgm_exp64((double)y * rgm_log64((double)x));
  p = y == 0.0f ? 1.0 : p;
  p = x == 1.0f ? 1.0 : p;
  return (float)p;
}

#endif
