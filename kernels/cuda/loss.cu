// SPDX-License-Identifier: Apache-2.0
// Losses with their gradients: softmax cross-entropy over logits. A thread takes a row, since the
// sum over its classes runs in order.

#include "kernels/cuda/cuda.cuh"

enum { THREADS = 128, BLOCKS = 4096 };

typedef struct xent_args {
  rgm_tensor loss, dz, z, label, weight;
  int classes;
} xent_args;


RGM_KERNEL(THREADS) softmax_xent_kernel(xent_args a) {
  const int64_t columns = a.z.dims[2];
  RGM_REPLICAS (r, a.z.dims[0]) {
    RGM_ELEMENTS (row, a.z.dims[1]) {
      const float *z = rgm_f32(a.z, r) + row * columns;
      float *dz = rgm_f32(a.dz, r) + row * columns;
      const float weight = rgm_f32(a.weight, r)[row];
      const int label = (int)rgm_f32(a.label, r)[row];
      float top = z[0];
      for (int c = 1; c < a.classes; c++) {
        top = z[c] > top ? z[c] : top;
      }
      float sum = 0.0f;
      for (int c = 0; c < a.classes; c++) {
        const float e = rgm_exp(z[c] - top);
        dz[c] = e;
        sum = sum + e;
      }
      for (int c = 0; c < a.classes; c++) {
        dz[c] = weight * (dz[c] / sum - (c == label ? 1.0f : 0.0f));
      }
      for (int64_t c = a.classes; c < columns; c++) {
        dz[c] = 0.0f;
      }
      const float chosen = label >= 0 && label < a.classes ? z[label] - top : 0.0f;
      rgm_f32(a.loss, r)[row] = weight * (rgm_log(sum) - chosen);
    }
  }
}


void rgm_cuda_softmax_xent(rgm_stream *s, rgm_tensor loss, rgm_tensor dz, rgm_tensor z,
                           rgm_tensor label, rgm_tensor weight, int classes) {
  const xent_args a = {loss, dz, z, label, weight, classes};
  const dim3 grid(rgm_blocks(z.dims[1], THREADS, BLOCKS), rgm_replica_blocks(z.dims[0]));
  RGM_LAUNCH(softmax_xent_kernel, grid, THREADS, 0, s, a);
}
