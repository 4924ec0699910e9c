// SPDX-License-Identifier: Apache-2.0
// Losses with their gradients: softmax cross-entropy over logits, and the fused gradient of a small
// two-class policy (kernels/policy.h) from its inputs, which never leaves the level-2 cache.

#include "kernels/cpu/cpu.h"
#include "kernels/policy.h"

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


// ---- policy_xent -------------------------------------------------------------------------------

// A block's partial gradient: (inputs + 2, H16) rows of w1, b1, v, then c and the loss.
typedef struct policy_args {
  rgm_tensor grad, loss, work, x, label, weight, params, active;
  int inputs, hidden, padded;
  int64_t groups, rows, blocks; // blocks of 256 rows in a group
  int64_t size;                 // floats of a partial
} policy_args;


static bool is_used(const policy_args *a, int64_t r, int64_t group) {
  return rgm_u32(a->active, r)[0] != 0 && rgm_f32(a->weight, r)[group] != 0.0f;
}


// lanes are hidden units: one tile of gradients over the rows of a block, in order
static inline void hidden_tile(float *partial, const policy_args *a, const float *params, int h,
                               const float *x, const float *dz, int rows, int inputs) {
  const float *b1 = params + inputs * a->padded, *w2 = b1 + a->padded;
  float difference[RGM_LANE_WIDTH];
  for (int k = 0; k < RGM_LANE_WIDTH; k++) {
    difference[k] = w2[(h + k) * 16 + 1] - w2[(h + k) * 16];
  }
  const rgm_lanes v = rgm_lanes_load(difference), bias = rgm_lanes_load(b1 + h);
  rgm_lanes w[RGM_POLICY_MAX_INPUTS], dw[RGM_POLICY_MAX_INPUTS];
  for (int i = 0; i < inputs; i++) {
    w[i] = rgm_lanes_load(params + i * a->padded + h);
    dw[i] = rgm_lanes_set(0.0f);
  }
  rgm_lanes db = rgm_lanes_set(0.0f), dv = rgm_lanes_set(0.0f);
  for (int row = 0; row < rows; row++) {
    const rgm_lanes g = rgm_lanes_set(dz[row]);
    // the order of policy_logits: the last input first
    rgm_lanes z = rgm_lanes_fma(w[inputs - 1], rgm_lanes_set(x[row * inputs + inputs - 1]), bias);
    for (int i = 0; i < inputs - 1; i++) {
      z = rgm_lanes_fma(w[i], rgm_lanes_set(x[row * inputs + i]), z);
    }
    dv = rgm_lanes_fma(g, rgm_lanes_relu(z), dv);
    const rgm_lanes dh = rgm_lanes_gate(z, rgm_lanes_mul(g, v));
    db = rgm_lanes_add(db, dh);
    for (int i = 0; i < inputs; i++) {
      dw[i] = rgm_lanes_fma(dh, rgm_lanes_set(x[row * inputs + i]), dw[i]);
    }
  }
  for (int i = 0; i < inputs; i++) {
    rgm_lanes_store(partial + i * a->padded + h, dw[i]);
  }
  rgm_lanes_store(partial + inputs * a->padded + h, db);
  rgm_lanes_store(partial + (inputs + 1) * a->padded + h, dv);
}


// logits of a block's rows, lanes are rows; then dz and the loss
static void block_loss(float *dz, float *partial, const policy_args *a, const float *params,
                       const float *x, const float *label, int rows, float weight) {
  float folded[RGM_POLICY_MAX_HIDDEN * (RGM_POLICY_MAX_INPUTS + 2) + 1];
  policy_fold(folded, params, a->inputs, a->hidden);
  float column[RGM_POLICY_MAX_INPUTS][RGM_LANE_WIDTH];
  for (int row = 0; row < rows; row += RGM_LANE_WIDTH) {
    rgm_lanes inputs[RGM_POLICY_MAX_INPUTS];
    for (int i = 0; i < a->inputs; i++) {
      for (int k = 0; k < RGM_LANE_WIDTH; k++) {
        column[i][k] = x[(row + k < rows ? row + k : row) * a->inputs + i];
      }
      inputs[i] = rgm_lanes_load(column[i]);
    }
    // the four-input policy is the common one: constants let its loops unroll
    rgm_lanes z;
    if (a->inputs == 4) {
      policy_logits(&z, folded, 4, a->hidden, inputs, 1, true);
    } else {
      policy_logits(&z, folded, a->inputs, a->hidden, inputs, 1, true);
    }
    rgm_lanes_store(dz + row, z);
  }
  // -log p(label) = softplus(z) - label z
  float loss[RGM_ROW_BLOCK + RGM_LANE_WIDTH];
  for (int row = 0; row < rows; row++) {
    loss[row] = weight * rgm_fma(-label[row], dz[row], rgm_softplus(dz[row]));
    dz[row] = weight * (rgm_sigmoid(dz[row]) - label[row]);
  }
  float dc = 0.0f, total = 0.0f;
  for (int row = 0; row < rows; row++) {
    dc = dc + dz[row];
    total = total + loss[row];
  }
  partial[(a->inputs + 2) * a->padded] = dc;
  partial[(a->inputs + 2) * a->padded + 1] = total;
}


static void policy_block_task(void *arg, int64_t index) {
  const policy_args *a = arg;
  const int64_t block = index % a->blocks, group = index / a->blocks % a->groups;
  const int64_t r = index / a->blocks / a->groups, begin = block * RGM_ROW_BLOCK;
  if (!is_used(a, r, group)) {
    return;
  }
  const int rows = (int)(a->rows - begin < RGM_ROW_BLOCK ? a->rows - begin : RGM_ROW_BLOCK);
  const float *params = rgm_f32(a->params, r);
  const float *x = rgm_f32(a->x, r) + (group * a->rows + begin) * a->inputs;
  const float *label = rgm_f32(a->label, r) + group * a->rows + begin;
  const float weight = rgm_f32(a->weight, r)[group] / (float)a->rows;
  float *partial = rgm_f32(a->work, r) + (group * a->blocks + block) * a->size;
  float dz[RGM_ROW_BLOCK + RGM_LANE_WIDTH];
  block_loss(dz, partial, a, params, x, label, rows, weight);
  for (int h = 0; h < a->padded; h += RGM_LANE_WIDTH) {
    if (a->inputs == 4) {
      hidden_tile(partial, a, params, h, x, dz, rows, 4);
    } else {
      hidden_tile(partial, a, params, h, x, dz, rows, a->inputs);
    }
  }
}


// adds the partials of the groups in use by the tree and unfolds them into the parameters' layout
static void policy_reduce_task(void *arg, int64_t r) {
  const policy_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  enum { PIECE = 64 };
  float *grad = rgm_f32(a->grad, r);
  float level[RGM_TREE_LEVELS * PIECE], sum[PIECE];
  float *dw2 = grad + (a->inputs + 1) * a->padded, *db2 = dw2 + a->padded * 16;
  const int64_t weights = (int64_t)(a->inputs + 1) * a->padded, parts = weights + a->padded;
  for (int64_t i = 0; i < a->padded * 16 + 16; i++) {
    dw2[i] = 0.0f;
  }
  for (int64_t begin = 0; begin < a->size; begin += PIECE) {
    const int64_t n = a->size - begin < PIECE ? a->size - begin : PIECE;
    rgm_tree tree = {.size = n, .level = level};
    for (int64_t group = 0; group < a->groups; group++) {
      for (int64_t block = 0; block < a->blocks && is_used(a, r, group); block++) {
        rgm_tree_add(&tree, rgm_f32(a->work, r) + (group * a->blocks + block) * a->size + begin);
      }
    }
    rgm_tree_sum(&tree, sum);
    for (int64_t i = begin; i < begin + n; i++) {
      const float g = sum[i - begin];
      if (i < weights) {
        grad[i] = g;
      } else if (i < parts) {
        dw2[(i - weights) * 16] = -g;
        dw2[(i - weights) * 16 + 1] = g;
      } else if (i == parts) {
        db2[0] = -g;
        db2[1] = g;
      } else if (i == parts + 1) {
        rgm_f32(a->loss, r)[0] = g;
      }
    }
  }
}


void RGM_CPU(policy_xent)(rgm_stream *s, rgm_tensor grad, rgm_tensor loss, rgm_tensor work,
                          rgm_tensor x, rgm_tensor label, rgm_tensor weight, rgm_tensor params,
                          rgm_tensor active, int hidden) {
  policy_args a = {.grad = grad,
                   .loss = loss,
                   .work = work,
                   .x = x,
                   .label = label,
                   .weight = weight,
                   .params = params,
                   .active = active};
  a.inputs = (int)x.dims[3];
  a.hidden = hidden;
  a.padded = (hidden + 15) / 16 * 16;
  a.groups = x.dims[1];
  a.rows = x.dims[2];
  a.blocks = (a.rows + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
  a.size = (int64_t)a.padded * (a.inputs + 2) + 16;
  rgm_cpu_parallel(s, x.dims[0] * a.groups * a.blocks, policy_block_task, &a);
  rgm_cpu_parallel(s, x.dims[0], policy_reduce_task, &a);
}
