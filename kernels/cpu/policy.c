// SPDX-License-Identifier: Apache-2.0
// The fused gradient of the two-class policy (kernels/policy.h): from observations, logits and
// actions to the gradient of the parameters, in blocks of 256 rows that never leave the nearest
// cache.
//
// With m = [z_h > 0] for hidden unit h of a row, and g the gradient of its logit, all that has to
// be summed over rows is S_i = sum m g x_i and S_b = sum m g; then, since z is linear where m is 1,
//   dw_i = v S_i,  db = v S_b,  dv = sum m g z = sum_i w_i S_i + b S_b.
// The last observation changes seldom (a target): rows are taken in runs that share it, and over a
// run it belongs to the bias.

#include "kernels/cpu/cpu.h"
#include "kernels/policy.h"

enum {
  ROWS = RGM_ROW_BLOCK,
  PIECE = 64,                    // hidden units of a unit of parallel reduction
  PAIRS = RGM_LANE_PAIRS ? 2 : 1 // vectors of hidden units at a time
};

// A block's partial sums: rows S_0 ... S_{I-1}, S_b of `padded` floats, then dc and the loss.
typedef struct policy_args {
  rgm_tensor grad, loss, work, x, z, label, weight, params, active;
  int inputs, padded;
  int64_t groups, rows, blocks; // blocks of 256 rows in a group
  int64_t size;                 // floats of a partial
  int64_t pieces;               // of the reduction
} policy_args;

// What a block works on: gradients g of the logits, g x, and where runs of rows that share the last
// input end.
typedef struct policy_block {
  const float *params, *x;
  float *partial;
  int rows, runs;
  int end[ROWS];
  float g[ROWS];
  float gx[ROWS * RGM_POLICY_MAX_INPUTS];
} policy_block;


static bool is_used(const policy_args *a, int64_t r, int64_t group) {
  return rgm_u32(a->active, r)[0] != 0 && rgm_f32(a->weight, r)[group] != 0.0f;
}


// -log p(label) = softplus(z) - label z and its gradient, row by row and summed in order
static void block_loss(policy_block *b, int padded, int inputs, const float *z, const float *label,
                       float weight) {
  float loss[ROWS];
  for (int row = 0; row < b->rows; row++) {
    loss[row] = weight * rgm_fma(-label[row], z[row], rgm_softplus(z[row]));
    b->g[row] = weight * (rgm_sigmoid(z[row]) - label[row]);
  }
  float dc = 0.0f, total = 0.0f;
  for (int row = 0; row < b->rows; row++) {
    dc = dc + b->g[row];
    total = total + loss[row];
  }
  b->partial[(inputs + 1) * padded] = dc;
  b->partial[(inputs + 1) * padded + 1] = total;
}


// g x and the runs; `inputs` is a constant where it is the common one
RGM_INLINE void block_rows(policy_block *b, int inputs) {
  b->runs = 0;
  for (int row = 0; row < b->rows; row++) {
    const float *x = b->x + row * inputs;
    for (int i = 0; i < inputs; i++) {
      b->gx[row * inputs + i] = b->g[row] * x[i];
    }
    if (row + 1 == b->rows || x[inputs - 1] != x[2 * inputs - 1]) {
      b->end[b->runs++] = row + 1;
    }
  }
}


// the sums of n vectors of hidden units over the rows of the block, in order; lanes are units
RGM_INLINE void hidden_sums(const policy_block *b, int padded, int h, int n, int inputs) {
  const int rest = inputs - 1;
  const float *last_w = b->params + rest * padded + h, *b1 = b->params + inputs * padded + h;
  rgm_lanes w[2][RGM_POLICY_MAX_INPUTS], sum[2][RGM_POLICY_MAX_INPUTS + 1];
  for (int k = 0; k < n; k++) {
    for (int i = 0; i < rest; i++) {
      w[k][i] = rgm_lanes_load(b->params + i * padded + h + k * RGM_LANE_WIDTH);
    }
    for (int i = 0; i <= inputs; i++) {
      sum[k][i] = rgm_lanes_set(0.0f);
    }
  }
  for (int i = 0, row = 0; i < b->runs; i++) {
    const rgm_lanes last = rgm_lanes_set(b->x[row * inputs + rest]);
    rgm_lanes bias[2], run[2];
    for (int k = 0; k < n; k++) {
      // the order of policy_logits: the last input first
      bias[k] = rgm_lanes_fma(rgm_lanes_load(last_w + k * RGM_LANE_WIDTH), last,
                              rgm_lanes_load(b1 + k * RGM_LANE_WIDTH));
      run[k] = rgm_lanes_set(0.0f);
    }
    for (; row < b->end[i]; row++) {
      const float *x = b->x + row * inputs, *gx = b->gx + row * inputs;
      for (int k = 0; k < n; k++) {
        rgm_lanes z = bias[k];
        for (int m = 0; m < rest; m++) {
          z = rgm_lanes_fma(w[k][m], rgm_lanes_set(x[m]), z);
        }
        const rgm_lanes_mask on = rgm_lanes_positive(z);
        for (int m = 0; m < rest; m++) {
          sum[k][m] = rgm_lanes_add_where(sum[k][m], on, rgm_lanes_set(gx[m]));
        }
        run[k] = rgm_lanes_add_where(run[k], on, rgm_lanes_set(b->g[row]));
      }
    }
    for (int k = 0; k < n; k++) {
      sum[k][rest] = rgm_lanes_fma(last, run[k], sum[k][rest]);
      sum[k][inputs] = rgm_lanes_add(sum[k][inputs], run[k]);
    }
  }
  for (int k = 0; k < n; k++) {
    for (int i = 0; i <= inputs; i++) {
      rgm_lanes_store(b->partial + i * padded + h + k * RGM_LANE_WIDTH, sum[k][i]);
    }
  }
}


static void policy_block_task(void *arg, int64_t index) {
  const policy_args *a = arg;
  const int64_t block = index % a->blocks, group = index / a->blocks % a->groups;
  const int64_t r = index / a->blocks / a->groups, begin = block * ROWS;
  if (!is_used(a, r, group)) {
    return;
  }
  policy_block b;
  const int64_t row = group * a->rows + begin;
  b.params = rgm_f32(a->params, r);
  b.x = rgm_f32(a->x, r) + row * a->inputs;
  b.partial = rgm_f32(a->work, r) + (group * a->blocks + block) * a->size;
  b.rows = (int)(a->rows - begin < ROWS ? a->rows - begin : ROWS);
  block_loss(&b, a->padded, a->inputs, rgm_f32(a->z, r) + row, rgm_f32(a->label, r) + row,
             rgm_f32(a->weight, r)[group] / (float)a->rows);

  // the four-input policy is the common one: constants let its loops unroll
  int h = 0;
  if (a->inputs == 4) {
    block_rows(&b, 4);
    for (; h + PAIRS * RGM_LANE_WIDTH <= a->padded; h += PAIRS * RGM_LANE_WIDTH) {
      hidden_sums(&b, a->padded, h, PAIRS, 4);
    }
  } else {
    block_rows(&b, a->inputs);
  }
  for (; h < a->padded; h += RGM_LANE_WIDTH) {
    hidden_sums(&b, a->padded, h, 1, a->inputs);
  }
}


// ---- reduction ---------------------------------------------------------------------------------

// `n` floats from `offset` on of the partials of the groups in use, added by the tree
static void add_partials(const policy_args *a, int64_t r, int64_t offset, int64_t n, float *sum) {
  float level[RGM_TREE_LEVELS * PIECE];
  rgm_tree tree = {.size = n, .level = level};
  for (int64_t group = 0; group < a->groups; group++) {
    for (int64_t block = 0; block < a->blocks && is_used(a, r, group); block++) {
      rgm_tree_add(&tree, rgm_f32(a->work, r) + (group * a->blocks + block) * a->size + offset);
    }
  }
  rgm_tree_sum(&tree, sum);
}


// the gradient of a piece of hidden units, in the layout of the parameters
static void policy_reduce_task(void *arg, int64_t index) {
  const policy_args *a = arg;
  const int64_t r = index / a->pieces, h = index % a->pieces * PIECE, padded = a->padded;
  const int64_t n = padded - h < PIECE ? padded - h : PIECE;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const float *params = rgm_f32(a->params, r), *w2 = params + (a->inputs + 1) * padded;
  float *grad = rgm_f32(a->grad, r), *dw2 = grad + (a->inputs + 1) * padded;
  float sum[PIECE], dv[PIECE] = {0};
  for (int i = a->inputs; i >= 0; i--) {
    add_partials(a, r, i * padded + h, n, sum);
    for (int64_t k = 0; k < n; k++) {
      const float v = w2[(h + k) * 16 + 1] - w2[(h + k) * 16];
      dv[k] = rgm_fma(params[i * padded + h + k], sum[k], dv[k]);
      grad[i * padded + h + k] = v * sum[k];
    }
  }
  for (int64_t k = 0; k < n; k++) {
    float *row = dw2 + (h + k) * 16;
    for (int c = 0; c < 16; c++) {
      row[c] = c == 0 ? -dv[k] : c == 1 ? dv[k] : 0.0f;
    }
  }
  if (h == 0) {
    float *db2 = dw2 + padded * 16;
    add_partials(a, r, (a->inputs + 1) * padded, 2, sum);
    for (int c = 0; c < 16; c++) {
      db2[c] = c == 0 ? -sum[0] : c == 1 ? sum[0] : 0.0f;
    }
    rgm_f32(a->loss, r)[0] = sum[1];
  }
}


void RGM_CPU(policy_xent)(rgm_stream *s, rgm_tensor grad, rgm_tensor loss, rgm_tensor work,
                          rgm_tensor x, rgm_tensor z, rgm_tensor label, rgm_tensor weight,
                          rgm_tensor params, rgm_tensor active, int hidden) {
  policy_args a = {.grad = grad,
                   .loss = loss,
                   .work = work,
                   .x = x,
                   .z = z,
                   .label = label,
                   .weight = weight,
                   .params = params,
                   .active = active};
  a.inputs = (int)x.dims[3];
  a.padded = (hidden + 15) / 16 * 16;
  a.groups = x.dims[1];
  a.rows = x.dims[2];
  a.blocks = (a.rows + ROWS - 1) / ROWS;
  a.size = (int64_t)a.padded * (a.inputs + 1) + 16;
  a.pieces = (a.padded + PIECE - 1) / PIECE;
  rgm_cpu_parallel(s, x.dims[0] * a.groups * a.blocks, policy_block_task, &a);
  rgm_cpu_parallel(s, x.dims[0] * a.pieces, policy_reduce_task, &a);
}
