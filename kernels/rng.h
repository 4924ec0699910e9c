// SPDX-License-Identifier: Apache-2.0
// Random numbers without state: philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
// easy as 1, 2, 3"). key = {seed low, seed high ^ stream}, counter = {step, item, draw, member}.
// The same key and counter give the same four words on every device, so nothing but seed and step
// is saved.

#ifndef RGM_RNG_H
#define RGM_RNG_H

#include "kernels/lanes.h"

typedef struct rgm_words {
  uint32_t w0, w1, w2, w3;
} rgm_words;

typedef struct rgm_key {
  uint32_t k0, k1;
} rgm_key;


// The key of a stream (rgm_random) of a seed; seed is {low, high}.
RGM_FN rgm_key rgm_stream_key(const uint32_t *seed, uint32_t stream) {
  rgm_key key;
  key.k0 = seed[0];
  key.k1 = seed[1] ^ (stream * 0x9E3779B9u);
  return key;
}


// Ten rounds; reads c0..c3 = {step, item, draw, member}.
RGM_FN rgm_words rgm_philox(rgm_key key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  uint32_t k0 = key.k0, k1 = key.k1;
  for (int round = 0; round < 10; round++) {
    const uint64_t a = (uint64_t)0xD2511F53u * c0;
    const uint64_t b = (uint64_t)0xCD9E8D57u * c2;
    c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)b;
    c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)a;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  rgm_words out;
  out.w0 = c0;
  out.w1 = c1;
  out.w2 = c2;
  out.w3 = c3;
  return out;
}


// The same words for a vector of items: lane j has counter {step, item[j], draw, member}. Even and
// odd lanes go through the rounds apart, each word in the lower half of 64 bits whose upper half
// means nothing: the widening product is then one instruction, and its low word needs none.
RGM_FN void rgm_philox_lanes(rgm_key key, uint32_t step, rgm_lanes_u32 item, uint32_t draw,
                             uint32_t member, rgm_lanes_u32 out[4]) {
#if RGM_LANES_ALONE
  const rgm_words words = rgm_philox(key, step, item, draw, member);
  out[0] = words.w0;
  out[1] = words.w1;
  out[2] = words.w2;
  out[3] = words.w3;
#else
  const rgm_lanes_u32 m0 = rgm_lanes_u32_set(0xD2511F53u), m1 = rgm_lanes_u32_set(0xCD9E8D57u);
  rgm_lanes_u32 c0[2], c1[2], c2[2], c3[2];
  c1[0] = item;
  c1[1] = rgm_lanes_u32_odd(item);
  for (int half = 0; half < 2; half++) {
    c0[half] = rgm_lanes_u32_set(step);
    c2[half] = rgm_lanes_u32_set(draw);
    c3[half] = rgm_lanes_u32_set(member);
  }
#pragma GCC unroll 10
  for (int round = 0; round < 10; round++) {
    const rgm_lanes_u32 k0 = rgm_lanes_u32_set(key.k0), k1 = rgm_lanes_u32_set(key.k1);
    for (int half = 0; half < 2; half++) {
      const rgm_lanes_u32 a = rgm_lanes_u32_mul(c0[half], m0);
      const rgm_lanes_u32 b = rgm_lanes_u32_mul(c2[half], m1);
      c0[half] = rgm_lanes_u32_xor3(rgm_lanes_u32_high(b), c1[half], k0);
      c1[half] = b;
      c2[half] = rgm_lanes_u32_xor3(rgm_lanes_u32_high(a), c3[half], k1);
      c3[half] = a;
    }
    key.k0 += 0x9E3779B9u;
    key.k1 += 0xBB67AE85u;
  }
  out[0] = rgm_lanes_u32_join(c0[0], c0[1]);
  out[1] = rgm_lanes_u32_join(c1[0], c1[1]);
  out[2] = rgm_lanes_u32_join(c2[0], c2[1]);
  out[3] = rgm_lanes_u32_join(c3[0], c3[1]);
#endif
}


// Uniform among 0 ... count - 1, count > 0, without bias (Lemire 2019): the high word of word *
// count, the next word where the low one is below 2^32 mod count. Attempt k takes word k % 4 of
// counter {step, item, k / 4, member}.
RGM_FN uint32_t rgm_below(rgm_key key, uint32_t step, uint32_t item, uint32_t member,
                          uint32_t count) {
  const uint32_t refused = (0u - count) % count;
  for (uint32_t draw = 0;; draw++) {
    const rgm_words words = rgm_philox(key, step, item, draw, member);
    const uint64_t p0 = (uint64_t)words.w0 * count, p1 = (uint64_t)words.w1 * count;
    const uint64_t p2 = (uint64_t)words.w2 * count, p3 = (uint64_t)words.w3 * count;
    uint64_t chosen = p3;
    chosen = (uint32_t)p2 >= refused ? p2 : chosen;
    chosen = (uint32_t)p1 >= refused ? p1 : chosen;
    chosen = (uint32_t)p0 >= refused ? p0 : chosen;
    if ((uint32_t)chosen >= refused) {
      return (uint32_t)(chosen >> 32);
    }
  }
}


// Uniform in [0, 1), a multiple of 2^-24.
RGM_FN float rgm_unit(uint32_t word) {
  return (float)(int32_t)(word >> 8) * 0x1p-24f;
}


// Uniform in (0, 1), a multiple of 2^-33.
RGM_FN double rgm_unit64(uint32_t word) {
  return ((double)word + 0.5) * 0x1p-32;
}


// Two independent standard normals by Box-Muller; |n| <= 5.77 since the radius has 24 bits.
RGM_FN void rgm_normals(uint32_t radius, uint32_t angle, float *n0, float *n1) {
  const float u = (float)(int32_t)((radius >> 8) + 1u) * 0x1p-24f; // (0, 1]
  const float r = rgm_sqrt(-2.0f * rgm_log_normal(u));
  float sine, cosine;
  rgm_sincos2pi(rgm_unit(angle), &sine, &cosine);
  *n0 = r * cosine;
  *n1 = r * sine;
}


// A standard logistic variate, log(u / (1 - u)) for u = (k + 1/2) 2^-23: symmetric about 0 and
// |x| <= 16.7. z > x has probability 1 / (1 + e^-z).
RGM_FN float rgm_logistic(uint32_t word) {
  const int32_t k = (int32_t)(word >> 9);
  const float u = (float)(2 * k + 1) * 0x1p-24f; // odd multiples of 2^-24 in (0, 1), exact
  return rgm_log_normal(u / (1.0f - u));
}


// A sequence of words for one item: draw counts up from 0. For code outside hot loops.
typedef struct rgm_rng {
  rgm_key key;
  uint32_t step, item, draw;
} rgm_rng;

RGM_FN uint32_t rgm_rng_next(rgm_rng *rng) {
  const rgm_words words = rgm_philox(rng->key, rng->step, rng->item, rng->draw++, 0);
  return words.w0;
}

// Uniform in (low, high), double.
RGM_FN double rgm_rng_range(rgm_rng *rng, double low, double high) {
  return low + (high - low) * rgm_unit64(rgm_rng_next(rng));
}

#endif
