// SPDX-License-Identifier: Apache-2.0
// Losses of ensembles: Gaussian heads with bounded log-variances, and the squared error. A unit of
// parallel work is one net of one replica.

#include "kernels/cpu/cpu.h"
#include "kernels/actor_critic.h"

enum { PART = 32 }; // columns that are summed at a time


// row b of what net n is to predict
static const float *target_of(rgm_tensor target, int64_t r, int64_t n, int64_t rows, int64_t b,
                              int64_t outputs) {
  return rgm_f32(target, r) + ((target.rank == 4 ? n * rows : 0) + b) * outputs;
}


// columns `first` to `first` + `count` of a net: gradients, shares of the loss, sums of dmax, dmin
static void nll_part(const rgm_nll *a, int64_t r, int64_t n, int64_t first, int64_t count) {
  const int64_t rows = a->head.dims[2], columns = a->head.dims[3], outputs = a->bounds.dims[3];
  const float *max = rgm_f32(a->bounds, r) + 2 * n * outputs, *min = max + outputs;
  const float share = 1.0f / (float)(rows * outputs), penalty = rgm_f32(a->penalty, r)[0];
  float level[RGM_TREE_LEVELS * 2 * PART], sum[2 * PART];
  rgm_tree tree = {.size = 2 * PART, .level = level};
  for (int64_t begin = 0; begin < rows; begin += RGM_ROW_BLOCK) {
    const int64_t end = begin + RGM_ROW_BLOCK < rows ? begin + RGM_ROW_BLOCK : rows;
    for (int i = 0; i < 2 * PART; i++) {
      sum[i] = 0.0f;
    }
    for (int64_t b = begin; b < end; b++) {
      const float *head = rgm_f32(a->head, r) + (n * rows + b) * columns;
      const float *target = target_of(a->target, r, n, rows, b, outputs);
      float *dhead = rgm_f32(a->dhead, r) + (n * rows + b) * columns, part[PART];
      _Pragma("GCC ivdep") for (int64_t i = 0; i < count; i++) {
        const int64_t k = first + i;
        const rgm_nll_term term =
            rgm_nll_of(head[k], head[outputs + k], target[k], max[k], min[k], share);
        dhead[k] = term.dmean;
        dhead[outputs + k] = term.draw;
        part[i] = term.loss;
        sum[i] = sum[i] + term.dmax;
        sum[PART + i] = sum[PART + i] + term.dmin;
      }
      float *loss = a->loss.data != NULL ? rgm_f32(a->loss, r) + n * rows + b : NULL;
      float total = first > 0 && loss != NULL ? *loss : 0.0f;
      for (int64_t i = 0; i < count && loss != NULL; i++) {
        total = total + part[i];
      }
      if (loss != NULL) {
        *loss = total;
      }
    }
    rgm_tree_add(&tree, sum);
  }
  rgm_tree_sum(&tree, sum);
  float *dmax = rgm_f32(a->dbounds, r) + 2 * n * outputs + first, *dmin = dmax + outputs;
  for (int64_t i = 0; i < count; i++) {
    dmax[i] = sum[i] + penalty;
    dmin[i] = sum[PART + i] - penalty;
  }
}


static void gaussian_nll_task(void *arg, int64_t index) {
  const rgm_nll *a = arg;
  const int64_t r = index / a->head.dims[1], n = index % a->head.dims[1];
  const int64_t rows = a->head.dims[2], columns = a->head.dims[3], outputs = a->bounds.dims[3];
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  for (int64_t first = 0; first < outputs; first += PART) {
    nll_part(a, r, n, first, outputs - first < PART ? outputs - first : PART);
  }
  for (int64_t b = 0; b < rows; b++) {
    for (int64_t c = 2 * outputs; c < columns; c++) {
      rgm_f32(a->dhead, r)[(n * rows + b) * columns + c] = 0.0f;
    }
  }
}


void RGM_CPU(gaussian_nll)(rgm_stream *s, const rgm_nll *nll) {
  rgm_nll a = *nll;
  rgm_cpu_parallel(s, a.head.dims[0] * a.head.dims[1], gaussian_nll_task, &a);
}


typedef struct mse_args {
  rgm_tensor y, head, target;
} mse_args;


static void mse_task(void *arg, int64_t index) {
  const mse_args *a = arg;
  const int64_t r = index / a->head.dims[1], n = index % a->head.dims[1];
  const int64_t rows = a->head.dims[2], columns = a->head.dims[3], outputs = a->y.dims[2];
  float level[RGM_TREE_LEVELS * PART], sum[PART];
  for (int64_t first = 0; first < outputs; first += PART) {
    const int64_t count = outputs - first < PART ? outputs - first : PART;
    rgm_tree tree = {.size = PART, .level = level};
    for (int64_t begin = 0; begin < rows; begin += RGM_ROW_BLOCK) {
      const int64_t end = begin + RGM_ROW_BLOCK < rows ? begin + RGM_ROW_BLOCK : rows;
      for (int i = 0; i < PART; i++) {
        sum[i] = 0.0f;
      }
      for (int64_t b = begin; b < end; b++) {
        const float *head = rgm_f32(a->head, r) + (n * rows + b) * columns + first;
        const float *target = target_of(a->target, r, n, rows, b, outputs) + first;
        for (int64_t i = 0; i < count; i++) {
          const float e = head[i] - target[i];
          sum[i] = rgm_fma(e, e, sum[i]);
        }
      }
      rgm_tree_add(&tree, sum);
    }
    rgm_tree_sum(&tree, sum);
    for (int64_t i = 0; i < count; i++) {
      rgm_f32(a->y, r)[n * outputs + first + i] = sum[i] / (float)rows;
    }
  }
}


void RGM_CPU(mse)(rgm_stream *s, rgm_tensor y, rgm_tensor head, rgm_tensor target) {
  mse_args a = {y, head, target};
  rgm_cpu_parallel(s, head.dims[0] * head.dims[1], mse_task, &a);
}
