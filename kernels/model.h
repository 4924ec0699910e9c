// SPDX-License-Identifier: Apache-2.0
// The arithmetic of learned models of the world, a row of a batch at a time: one source for the CPU
// and for CUDA, so that both give the same bits.

#ifndef RGM_MODEL_H
#define RGM_MODEL_H

#include "kernels/dynamics.h"
#include "kernels/rng.h"
#include "kernels/scalar.h"


// how far the elites of group `group` are turned
RGM_FN uint32_t rgm_elite_shift(rgm_key key, uint32_t clock, uint32_t group, uint32_t member,
                                uint32_t elites) {
  return rgm_below(key, clock, group, member + 0x80000000u, elites);
}


// the elite of row b, whose group is turned by `shift`
RGM_FN int64_t rgm_elite_of(int64_t b, uint32_t shift, int64_t elites) {
  return (b % elites + (int64_t)shift) % elites;
}


// the row of place `group` of elite e
RGM_FN int64_t rgm_row_of(int64_t e, int64_t group, uint32_t shift, int64_t elites) {
  return group * elites + (e + elites - (int64_t)shift) % elites;
}


// four normals of a row
RGM_FN void rgm_model_noise(rgm_key key, uint32_t clock, uint32_t row, uint32_t draw,
                            uint32_t member, float *noise) {
  const rgm_words w = rgm_philox(key, clock, row, draw, member);
  rgm_normals(w.w0, w.w1, &noise[0], &noise[1]);
  rgm_normals(w.w2, w.w3, &noise[2], &noise[3]);
}


// the standard deviation that a raw log-variance stands for
RGM_INLINE float rgm_model_sd(float raw, float max, float min) {
  const float w = max - rgm_softplus(max - raw);
  return rgm_exp(0.5f * (min + rgm_softplus(w - min)));
}


// within the range; what is no number stays none
RGM_INLINE float rgm_within(float x, float low, float high) {
  const float top = x > high ? high : x;
  return top < low ? low : top;
}


// One output in units of the data.
RGM_INLINE float rgm_model_output(float mu, float raw, float max, float min, float noise, float sd,
                                  float mean) {
  return rgm_fma(rgm_fma(rgm_model_sd(raw, max, min), noise, mu), sd, mean);
}


// What the elites do not know of one row: heads and bounds of elite e lie e apart.
RGM_FN float rgm_doubt_of(const float *head, int64_t head_apart, const float *bounds,
                          const float *hold, int elites, int outputs, rgm_doubt kind) {
  float most = 0.0f;
  for (int e = 0; e < elites; e++) {
    const float *own = head + e * head_apart, *max = bounds + 2 * e * outputs;
    float sum = 0.0f;
    for (int k = 0; k < outputs; k++) {
      float x;
      if (kind == RGM_DOUBT_SD) {
        x = rgm_model_sd(own[outputs + k], max[k], max[outputs + k]);
      } else {
        float centre = 0.0f;
        for (int i = 0; i < elites; i++) {
          centre = centre + head[i * head_apart + k];
        }
        x = own[k] - centre / (float)elites;
      }
      const bool held = k < outputs - 1 && hold[k] != 0.0f;
      sum = rgm_fma(held ? 0.0f : x, x, sum);
    }
    const float norm = rgm_sqrt(sum);
    most = norm > most ? norm : most;
  }
  return most;
}


// L_n of one net, from the mean squares of chunks.
RGM_FN float rgm_holdout_of(const float *error, int64_t chunks, int64_t apart, int64_t outputs,
                            int64_t rows, int64_t chunk) {
  float sum = 0.0f;
  for (int64_t c = 0; c < chunks; c++) {
    const int64_t left = rows - c * chunk;
    const float share = (float)(left < chunk ? left : chunk) / (float)rows;
    float part = 0.0f;
    for (int64_t k = 0; k < outputs; k++) {
      part = part + error[c * apart + k];
    }
    sum = rgm_fma(share, part / (float)outputs, sum);
  }
  return sum;
}


// Whether `loss` is better than the best so far by the margin.
RGM_FN bool rgm_improved(float loss, float best, float margin) {
  return loss < best * (1.0f - margin);
}


// How many nets stand before net n in the order of their best losses.
RGM_FN uint32_t rgm_place_of(const float *best, int64_t nets, int64_t n) {
  uint32_t before = 0;
  for (int64_t i = 0; i < nets; i++) {
    before += best[i] < best[n] || (best[i] == best[n] && i < n) ? 1u : 0u;
  }
  return before;
}

#endif
