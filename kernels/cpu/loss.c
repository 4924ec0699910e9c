// SPDX-License-Identifier: Apache-2.0
// Losses with their gradients: softmax cross-entropy over logits.

#include "kernels/cpu/cpu.h"

typedef struct xent_args {
  rgm_tensor loss, dz, z, label, weight;
  int classes;
} xent_args;


static void softmax_xent_task(void *arg, int64_t r) {
  const xent_args *a = arg;
  const int64_t rows = a->z.dims[1], columns = a->z.dims[2];
  for (int64_t row = 0; row < rows; row++) {
    const float *z = rgm_f32(a->z, r) + row * columns;
    float *dz = rgm_f32(a->dz, r) + row * columns;
    const float weight = rgm_f32(a->weight, r)[row];
    const int label = (int)rgm_f32(a->label, r)[row];
    float top = z[0];
    for (int c = 1; c < a->classes; c++) {
      top = z[c] > top ? z[c] : top;
    }
    float sum = 0.0f;
    for (int c = 0; c < a->classes; c++) {
      dz[c] = rgm_exp(z[c] - top);
      sum = sum + dz[c];
    }
    for (int c = 0; c < a->classes; c++) {
      dz[c] = weight * (dz[c] / sum - (c == label ? 1.0f : 0.0f));
    }
    for (int64_t c = a->classes; c < columns; c++) {
      dz[c] = 0.0f;
    }
    const float chosen = label >= 0 && label < a->classes ? z[label] - top : 0.0f;
    rgm_f32(a->loss, r)[row] = weight * (rgm_log(sum) - chosen);
  }
}


void RGM_CPU(softmax_xent)(rgm_stream *s, rgm_tensor loss, rgm_tensor dz, rgm_tensor z,
                           rgm_tensor label, rgm_tensor weight, int classes) {
  xent_args a = {loss, dz, z, label, weight, classes};
  rgm_cpu_parallel(s, z.dims[0], softmax_xent_task, &a);
}
