// SPDX-License-Identifier: Apache-2.0
// Losses of ensembles: Gaussian heads with bounded log-variances, and the squared error.

#include "kernels/cuda/cuda.cuh"
#include "kernels/actor_critic.h"

enum {
  PART = 4,   // columns of a block of gaussian_nll
  WARPS = 8,  // row blocks of a block of mse at a time
  LANES = 32, // and its columns
  LEVELS = 20,
};


// row b of what net n is to predict
RGM_DEVICE const float *target_of(const rgm_tensor &target, int64_t r, int64_t n, int64_t rows,
                                  int64_t b, int64_t outputs) {
  return rgm_f32(target, r) + ((target.rank == 4 ? n * rows : 0) + b) * outputs;
}


// A block has PART columns of a net: a thread takes a row, and then 2 PART threads sum dmax and
// dmin over the rows in order.
RGM_KERNEL_RESIDENT(RGM_ROW_BLOCK, 3) nll_kernel(rgm_nll a) {
  RGM_SHARED(float, stage, [2 * PART][RGM_ROW_BLOCK + 1]);
  const int64_t nets = a.head.dims[1], rows = a.head.dims[2], columns = a.head.dims[3];
  const int64_t outputs = a.bounds.dims[3], first = (int64_t)blockIdx.x * PART;
  const int64_t count = outputs - first < PART ? outputs - first : (int64_t)PART;
  const int row = (int)threadIdx.x;
  const float share = 1.0f / (float)(rows * outputs);
  RGM_REPLICAS (net, a.head.dims[0] * nets) {
    const int64_t r = net / nets, n = net % nets;
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    const float *max = rgm_f32(a.bounds, r) + 2 * n * outputs, *min = max + outputs;
    rgm_counter_tree<LEVELS> tree = {};
    for (int64_t begin = 0; begin < rows; begin += RGM_ROW_BLOCK) {
      const int64_t b = begin + row;
      const int left = rows - begin < RGM_ROW_BLOCK ? (int)(rows - begin) : (int)RGM_ROW_BLOCK;
      if (b < rows) {
        const float *head = rgm_f32(a.head, r) + (n * rows + b) * columns;
        const float *target = target_of(a.target, r, n, rows, b, outputs);
        float *dhead = rgm_f32(a.dhead, r) + (n * rows + b) * columns;
        for (int i = 0; i < (int)count; i++) {
          const int64_t k = first + i;
          const rgm_nll_term term =
              rgm_nll_of(head[k], head[outputs + k], target[k], max[k], min[k], share);
          dhead[k] = term.dmean;
          dhead[outputs + k] = term.draw;
          stage[i][row] = term.dmax;
          stage[PART + i][row] = term.dmin;
        }
        for (int64_t c = 2 * outputs + blockIdx.x; c < columns; c += gridDim.x) {
          dhead[c] = 0.0f;
        }
      }
      __syncthreads();
      if (row < 2 * PART && row % PART < (int)count) {
        float sum = 0.0f;
        for (int i = 0; i < left; i++) {
          sum = sum + stage[row][i];
        }
        rgm_tree_push(&tree, sum);
      }
      __syncthreads();
    }
    if (row < 2 * PART && row % PART < (int)count) {
      const float total = rgm_tree_total(&tree), penalty = rgm_f32(a.penalty, r)[0];
      rgm_f32(a.dbounds, r)[(2 * n + row / PART) * outputs + first + row % PART] =
          row < PART ? total + penalty : total - penalty;
    }
  }
}


// shares of the loss, when they are asked for: a thread takes a row, its columns in order
RGM_KERNEL(RGM_ROW_BLOCK) nll_loss_kernel(rgm_nll a) {
  const int64_t nets = a.head.dims[1], rows = a.head.dims[2], outputs = a.bounds.dims[3];
  const float share = 1.0f / (float)(rows * outputs);
  RGM_REPLICAS (r, a.head.dims[0]) {
    if (rgm_u32(a.active, r)[0] == 0) {
      continue;
    }
    RGM_ELEMENTS (row, nets * rows) {
      const int64_t n = row / rows;
      const float *max = rgm_f32(a.bounds, r) + 2 * n * outputs, *min = max + outputs;
      const float *head = rgm_f32(a.head, r) + row * a.head.dims[3];
      const float *target = target_of(a.target, r, n, rows, row % rows, outputs);
      float loss = 0.0f;
      for (int64_t k = 0; k < outputs; k++) {
        loss = loss + rgm_nll_of(head[k], head[outputs + k], target[k], max[k], min[k], share).loss;
      }
      rgm_f32(a.loss, r)[row] = loss;
    }
  }
}


void rgm_cuda_gaussian_nll(rgm_stream *s, const rgm_nll *nll) {
  const int64_t *d = nll->head.dims, outputs = nll->bounds.dims[3];
  RGM_LAUNCH(nll_kernel,
             dim3((unsigned)((outputs + PART - 1) / PART), rgm_replica_blocks(d[0] * d[1])),
             RGM_ROW_BLOCK, 0, s, *nll);
  if (nll->loss.data != nullptr) {
    const dim3 grid(rgm_blocks(d[1] * d[2], RGM_ROW_BLOCK, 1024), rgm_replica_blocks(d[0]));
    RGM_LAUNCH(nll_loss_kernel, grid, RGM_ROW_BLOCK, 0, s, *nll);
  }
}


// a lane has a column, a warp a row block; the tree over the row blocks goes on from round to round
RGM_KERNEL(WARPS *LANES) mse_kernel(rgm_tensor y, rgm_tensor head, rgm_tensor target) {
  RGM_SHARED(float, part, [WARPS][LANES]);
  const int64_t nets = head.dims[1], rows = head.dims[2], outputs = y.dims[2];
  const int lane = (int)threadIdx.x % LANES, warp = (int)threadIdx.x / LANES;
  const int64_t k = (int64_t)blockIdx.x * LANES + lane;
  RGM_REPLICAS (net, head.dims[0] * nets) {
    const int64_t r = net / nets, n = net % nets;
    rgm_counter_tree<LEVELS> tree = {};
    for (int64_t round = 0; round < rows; round += WARPS * RGM_ROW_BLOCK) {
      const int64_t begin = round + (int64_t)warp * RGM_ROW_BLOCK;
      const int64_t end = begin + RGM_ROW_BLOCK < rows ? begin + RGM_ROW_BLOCK : rows;
      float sum = 0.0f;
      for (int64_t b = begin; b < end && k < outputs; b++) {
        const float e = rgm_f32(head, r)[(n * rows + b) * head.dims[3] + k] -
                        target_of(target, r, n, rows, b, outputs)[k];
        sum = rgm_fma(e, e, sum);
      }
      part[warp][lane] = sum;
      __syncthreads();
      if (warp == 0) {
        const int64_t left = (rows - round + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
        const int blocks = left < WARPS ? (int)left : (int)WARPS;
        for (int apart = 1; apart < blocks; apart *= 2) {
          for (int i = 0; i + apart < blocks; i += 2 * apart) {
            part[i][lane] = part[i][lane] + part[i + apart][lane];
          }
        }
        rgm_tree_push(&tree, part[0][lane]);
      }
      __syncthreads();
    }
    if (warp == 0 && k < outputs) {
      rgm_f32(y, r)[n * outputs + k] = rgm_tree_total(&tree) / (float)rows;
    }
  }
}


void rgm_cuda_mse(rgm_stream *s, rgm_tensor y, rgm_tensor head, rgm_tensor target) {
  const dim3 grid((unsigned)((y.dims[2] + LANES - 1) / LANES),
                  rgm_replica_blocks(head.dims[0] * head.dims[1]));
  RGM_LAUNCH(mse_kernel, grid, WARPS * LANES, 0, s, y, head, target);
}
