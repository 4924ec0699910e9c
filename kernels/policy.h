// SPDX-License-Identifier: Apache-2.0
// The two-class policy net I -> hidden (ReLU) -> 2 (softmax), folded for evaluation. Only the
// difference of the two logits matters: P(class 1) = sigmoid(z), z = sum_h v_h relu(w_h . x + b_h)
// + c with v = w2[:,1] - w2[:,0] and c = b2[1] - b2[0]. One source for the rollout and the loss.

#ifndef RGM_POLICY_H
#define RGM_POLICY_H

#include "kernels/lanes.h"

enum {
  RGM_POLICY_PARTS = 8,
  RGM_POLICY_SIDE = 4,
  RGM_POLICY_MAX_HIDDEN = 1024,
  RGM_POLICY_MAX_INPUTS = 16,
};


// Floats of a folded policy: per hidden unit its I weights, bias and v; then c. Hidden units are
// padded with zeros to a multiple of 8.
RGM_FN int policy_folded_size(int inputs, int hidden) {
  const int padded = (hidden + RGM_POLICY_PARTS - 1) / RGM_POLICY_PARTS * RGM_POLICY_PARTS;
  return padded * (inputs + 2) + 1;
}


// Folds the parameters of one replica (rgm_mlp layout: w1[I][H16] b1[H16] w2[H16][16] b2[16]).
RGM_FN void policy_fold(float *folded, const float *params, int inputs, int hidden) {
  const int padded16 = (hidden + 15) / 16 * 16;
  const int padded8 = (hidden + RGM_POLICY_PARTS - 1) / RGM_POLICY_PARTS * RGM_POLICY_PARTS;
  const float *b1 = params + inputs * padded16;
  const float *w2 = b1 + padded16;
  const float *b2 = w2 + padded16 * 16;
  for (int h = 0; h < padded8; h++) {
    float *unit = folded + h * (inputs + 2);
    for (int i = 0; i < inputs; i++) {
      unit[i] = h < hidden ? params[i * padded16 + h] : 0.0f;
    }
    unit[inputs] = h < hidden ? b1[h] : 0.0f;
    unit[inputs + 1] = h < hidden ? w2[h * 16 + 1] - w2[h * 16] : 0.0f;
  }
  folded[padded8 * (inputs + 2)] = b2[1] - b2[0];
}


// Folds a last input that all lanes share (a target, say) into the biases: a policy of one input
// less that gives the same bits, since the last input is the first to be added to the bias.
RGM_FN void policy_fold_last(float *shorter, const float *folded, int inputs, int hidden,
                             float value) {
  const int padded8 = (hidden + RGM_POLICY_PARTS - 1) / RGM_POLICY_PARTS * RGM_POLICY_PARTS;
  for (int h = 0; h < padded8; h++) {
    const float *unit = folded + h * (inputs + 2);
    float *to = shorter + h * (inputs + 1);
    for (int i = 0; i < inputs - 1; i++) {
      to[i] = unit[i];
    }
    to[inputs - 1] = rgm_fma(unit[inputs - 1], value, unit[inputs]);
    to[inputs] = unit[inputs + 1];
  }
  shorter[padded8 * (inputs + 1)] = folded[padded8 * (inputs + 2)];
}


// z[k] for n vectors of lanes (n a constant, 1 or 2: a second vector shares the loads of weights);
// x[k * inputs + i] is input i of vector k. With `last_first` the last input is the first to be
// added to the bias (the order of a whole policy); without, it is folded in and x holds the
// others. The sum over hidden units runs in 8 interleaved partials (unit h into partial h mod 8,
// in order), added as ((0+1)+(2+3))+((4+5)+(6+7)), plus c.
RGM_INLINE void policy_logits(rgm_lanes *z, const float *folded, int inputs, int hidden,
                              const rgm_lanes *x, int n, bool last_first) {
  rgm_lanes part[2][RGM_POLICY_PARTS];
  for (int k = 0; k < n; k++) {
    for (int i = 0; i < RGM_POLICY_PARTS; i++) {
      part[k][i] = rgm_lanes_set(0.0f);
    }
  }
  const float *unit = folded;
  const int width = inputs + 2, last = inputs - 1, rest = last_first ? last : inputs;
  for (int h = 0; h < hidden; h += RGM_POLICY_PARTS) {
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#pragma GCC unroll 8
#endif
    for (int i = 0; i < RGM_POLICY_PARTS; i += RGM_POLICY_SIDE) {
      // units side by side, step by step: their chains fill each other's waits
      rgm_lanes a[2][RGM_POLICY_SIDE];
      for (int u = 0; u < RGM_POLICY_SIDE; u++) {
        for (int k = 0; k < n; k++) {
          a[k][u] = rgm_lanes_set(unit[u * width + inputs]);
          if (last_first) {
            a[k][u] =
                rgm_lanes_fma(rgm_lanes_set(unit[u * width + last]), x[k * inputs + last], a[k][u]);
          }
        }
      }
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#pragma GCC unroll 4
#endif
      for (int m = 0; m < rest; m++) {
        for (int u = 0; u < RGM_POLICY_SIDE; u++) {
          for (int k = 0; k < n; k++) {
            a[k][u] = rgm_lanes_fma(rgm_lanes_set(unit[u * width + m]), x[k * inputs + m], a[k][u]);
          }
        }
      }
      for (int u = 0; u < RGM_POLICY_SIDE; u++) {
        for (int k = 0; k < n; k++) {
          const rgm_lanes v = rgm_lanes_set(unit[u * width + inputs + 1]);
          part[k][i + u] = rgm_lanes_fma(v, rgm_lanes_relu(a[k][u]), part[k][i + u]);
        }
      }
      unit += RGM_POLICY_SIDE * width;
    }
  }
  for (int k = 0; k < n; k++) {
    const rgm_lanes *p = part[k];
    const rgm_lanes low = rgm_lanes_add(rgm_lanes_add(p[0], p[1]), rgm_lanes_add(p[2], p[3]));
    const rgm_lanes high = rgm_lanes_add(rgm_lanes_add(p[4], p[5]), rgm_lanes_add(p[6], p[7]));
    z[k] = rgm_lanes_add(rgm_lanes_add(low, high), rgm_lanes_set(*unit));
  }
}

#endif
