// SPDX-License-Identifier: Apache-2.0
// The fused gradient of the two-class policy, twin of kernels/cpu/policy.c, whose formulas and
// orders of sums hold here: in order within blocks of 256 rows, where the last input belongs to the
// bias over a run of rows that share it, then the tree over the blocks of the groups in use.
//
// Four kernels. `place` numbers the groups in use; `block` takes 256 rows and a slice of hidden
// units, a thread each, with the rows in shared memory; `chunk` adds 16 neighbouring partials
// where there are many, again and again; `gradient` adds what is left and folds v in.

#include "kernels/cuda/cuda.cuh"
#include "kernels/policy.h"

enum {
  ROWS = RGM_ROW_BLOCK,
  UNITS = 128, // of a slice
  SIDE = 32,   // threads beside them: they sum the loss and the gradient of the output bias
  CHUNK = 16,  // partials that a thread adds at once
  FEW = 64,    // partials that `gradient` adds one by one
  THREADS = 128,
  LEVELS = 8, // of its tree
};

// A block's partial sums, in the order of the blocks in use: rows S_0 ... S_{I-1}, S_b of `padded`
// floats, then dc and the loss.
typedef struct policy_args {
  rgm_tensor grad, loss, work, x, z, label, weight, params, active;
  float *place; // (R, G + 1): how many groups before this one have a weight
  int inputs, padded, slices;
  int64_t groups, rows, blocks; // blocks of 256 rows in a group
  int64_t size;                 // floats of a partial
} policy_args;


// ---- groups in use -----------------------------------------------------------------------------

// a warp per replica
RGM_KERNEL(32) policy_place_kernel(policy_args a) {
  const int64_t r = blockIdx.x;
  const int lane = (int)threadIdx.x;
  int *place = reinterpret_cast<int *>(a.place) + r * (a.groups + 1);
  int count = 0;
  for (int64_t first = 0; first < a.groups; first += 32) {
    const int64_t group = first + lane;
    const bool used = group < a.groups && rgm_f32(a.weight, r)[group] != 0.0f;
    const unsigned all = __ballot_sync(0xffffffffu, used);
    if (group < a.groups) {
      place[group] = count + __popc(all & ((1u << lane) - 1u));
    }
    count += __popc(all);
  }
  if (lane == 0) {
    place[a.groups] = count;
  }
}


RGM_DEVICE const int *places(const policy_args &a, int64_t r) {
  return reinterpret_cast<const int *>(a.place) + r * (a.groups + 1);
}


// ---- 256 rows ----------------------------------------------------------------------------------

// A row: the inputs but the last, padded with zeros, the gradient g of its logit, g x of them, and
// its loss; INPUTS + 1 is a multiple of 4, so that threads read it as float4.
template <int INPUTS> struct alignas(16) policy_row { float x[INPUTS], g, gx[INPUTS], loss; };

// What a block works on. Bit k of ends[j]: a run of rows that share the last input ends at row
// 32 j + k.
template <int INPUTS> struct policy_rows {
  policy_row<INPUTS> row[ROWS];
  float last[ROWS];
  unsigned ends[ROWS / 32];
};


// fills the rows; -log p(label) = softplus(z) - label z and its gradient. Ends with a barrier
template <int INPUTS>
RGM_DEVICE void load_rows(policy_rows<INPUTS> *b, const policy_args &a, int64_t r, int64_t group,
                          int64_t begin, int rows) {
  const int64_t row0 = group * a.rows + begin;
  const int rest = a.inputs - 1;
  const float *x = rgm_f32(a.x, r) + row0 * a.inputs, *z = rgm_f32(a.z, r) + row0;
  const float *label = rgm_f32(a.label, r) + row0;
  const float weight = rgm_f32(a.weight, r)[group] / (float)a.rows;
  for (int row = (int)threadIdx.x; row < ROWS; row += (int)blockDim.x) {
    bool ends = false;
    if (row < rows) {
      const float g = weight * (rgm_sigmoid(z[row]) - label[row]);
      const float last = x[row * a.inputs + rest];
      b->row[row].g = g;
      b->row[row].loss = weight * rgm_fma(-label[row], z[row], rgm_softplus(z[row]));
      b->last[row] = last;
      ends = row + 1 == rows || last != x[(row + 1) * a.inputs + rest];
#pragma unroll
      for (int i = 0; i < INPUTS; i++) {
        const float value = i < rest ? x[row * a.inputs + i] : 0.0f;
        b->row[row].x[i] = value;
        b->row[row].gx[i] = i < rest ? g * value : 0.0f;
      }
    }
    const unsigned all = __ballot_sync(0xffffffffu, ends);
    if (row % 32 == 0) {
      b->ends[row / 32] = all;
    }
  }
  __syncthreads();
}


// the row after the end of the run that has this row
template <int INPUTS> RGM_DEVICE int run_end(const policy_rows<INPUTS> *b, int row) {
  int word = row / 32;
  unsigned bits = b->ends[word] & (0xffffffffu << (row % 32));
  while (bits == 0) {
    bits = b->ends[++word];
  }
  return word * 32 + __ffs((int)bits);
}


// the sums of hidden unit h over the rows, in order
template <int INPUTS>
RGM_DEVICE void unit_sums(const policy_rows<INPUTS> *b, const policy_args &a, const float *params,
                          float *partial, int h, int rows) {
  const int rest = a.inputs - 1;
  const float last_w = params[rest * a.padded + h], b1 = params[a.inputs * a.padded + h];
  float w[INPUTS], sum[INPUTS], sum_last = 0.0f, sum_bias = 0.0f;
#pragma unroll
  for (int i = 0; i < INPUTS; i++) {
    w[i] = i < rest ? params[i * a.padded + h] : 0.0f;
    sum[i] = 0.0f;
  }
  for (int row = 0; row < rows;) {
    const float last = b->last[row], bias = rgm_fma(last_w, last, b1);
    const int end = run_end(b, row);
    float run = 0.0f;
#pragma unroll 2
    for (; row < end; row++) {
      const policy_row<INPUTS> x = b->row[row];
      float z = bias;
#pragma unroll
      for (int i = 0; i < INPUTS; i++) {
        z = rgm_fma(w[i], x.x[i], z);
      }
      const bool on = z > 0.0f;
#pragma unroll
      for (int i = 0; i < INPUTS; i++) {
        sum[i] = on ? sum[i] + x.gx[i] : sum[i];
      }
      run = on ? run + x.g : run;
    }
    sum_last = rgm_fma(last, run, sum_last);
    sum_bias = sum_bias + run;
  }
#pragma unroll
  for (int i = 0; i < INPUTS; i++) {
    if (i < rest) {
      partial[i * a.padded + h] = sum[i];
    }
  }
  partial[rest * a.padded + h] = sum_last;
  partial[a.inputs * a.padded + h] = sum_bias;
}


// INPUTS: room for all inputs but the last
template <int INPUTS> RGM_KERNEL(UNITS + SIDE) policy_block_kernel(policy_args a) {
  RGM_SHARED(policy_rows<INPUTS>, rows, );
  const int slice = (int)(blockIdx.x % (unsigned)a.slices);
  const int64_t index = blockIdx.x / (unsigned)a.slices, block = index % a.blocks;
  const int64_t group = index / a.blocks % a.groups, r = index / a.blocks / a.groups;
  if (rgm_u32(a.active, r)[0] == 0 || rgm_f32(a.weight, r)[group] == 0.0f) {
    return;
  }
  const int64_t begin = block * ROWS;
  const int count = (int)(a.rows - begin < ROWS ? a.rows - begin : (int64_t)ROWS);
  const int64_t at = places(a, r)[group] * a.blocks + block;
  float *partial = rgm_f32(a.work, r) + at * a.size;
  load_rows<INPUTS>(&rows, a, r, group, begin, count);

  const int units = (int)blockDim.x - SIDE, h = slice * UNITS + (int)threadIdx.x;
  if ((int)threadIdx.x < units) {
    if (h < a.padded) {
      unit_sums<INPUTS>(&rows, a, rgm_f32(a.params, r), partial, h, count);
    }
  } else if (slice == 0 && (int)threadIdx.x - units < 2) {
    const bool loss = (int)threadIdx.x != units;
    float sum = 0.0f;
    for (int row = 0; row < count; row++) {
      sum = sum + (loss ? rows.row[row].loss : rows.row[row].g);
    }
    partial[(a.inputs + 1) * a.padded + (int)threadIdx.x - units] = sum;
  }
}


// ---- the tree ----------------------------------------------------------------------------------

// Partials 0, step, 2 step, ... are nodes of the tree; 16 of them at a time become the next nodes,
// where the first of them stood. A thread takes a column of a chunk.
RGM_KERNEL(THREADS) policy_chunk_kernel(policy_args a, int64_t step, int64_t chunks) {
  const int64_t r = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
  const int64_t column = (int64_t)blockIdx.y * THREADS + threadIdx.x;
  const int64_t count = places(a, r)[a.groups] * a.blocks; // partials
  const int64_t first = chunk * CHUNK * step, columns = (int64_t)(a.inputs + 1) * a.padded + 2;
  if (rgm_u32(a.active, r)[0] == 0 || first >= count || column >= columns) {
    return;
  }
  float *from = rgm_f32(a.work, r) + first * a.size + column, x[CHUNK];
  const int64_t left = (count - first + step - 1) / step;
#pragma unroll
  for (int k = 0; k < CHUNK; k++) {
    x[k] = k < left ? from[k * step * a.size] : 0.0f;
  }
#pragma unroll
  for (int distance = 1; distance < CHUNK; distance *= 2) {
#pragma unroll
    for (int k = 0; k < CHUNK; k += 2 * distance) {
      x[k] = k + distance < left ? x[k] + x[k + distance] : x[k];
    }
  }
  from[0] = x[0];
}


// the nodes `step` apart that are left, in order
RGM_DEVICE float add_partials(const policy_args &a, int64_t r, int64_t column, int64_t step) {
  const int64_t count = places(a, r)[a.groups] * a.blocks;
  const float *from = rgm_f32(a.work, r) + column;
  rgm_counter_tree<LEVELS> tree = {};
  for (int64_t k = 0; k < count; k += step) {
    rgm_tree_push(&tree, from[k * a.size]);
  }
  return rgm_tree_total(&tree);
}


// the gradient of a hidden unit, in the layout of the parameters; one thread more has the outputs'
RGM_KERNEL(THREADS) policy_gradient_kernel(policy_args a, int64_t step, int pieces) {
  const int64_t r = blockIdx.x / (unsigned)pieces;
  const int h = (int)(blockIdx.x % (unsigned)pieces) * THREADS + (int)threadIdx.x;
  if (rgm_u32(a.active, r)[0] == 0 || h > a.padded) {
    return;
  }
  const float *params = rgm_f32(a.params, r), *w2 = params + (a.inputs + 1) * a.padded;
  float *grad = rgm_f32(a.grad, r), *dw2 = grad + (a.inputs + 1) * a.padded;
  float dv = 0.0f;
  if (h < a.padded) {
    const float v = w2[h * 16 + 1] - w2[h * 16];
    for (int i = a.inputs; i >= 0; i--) {
      const float sum = add_partials(a, r, i * a.padded + h, step);
      dv = rgm_fma(params[i * a.padded + h], sum, dv);
      grad[i * a.padded + h] = v * sum;
    }
  } else {
    dv = add_partials(a, r, (a.inputs + 1) * a.padded, step);
    rgm_f32(a.loss, r)[0] = add_partials(a, r, (a.inputs + 1) * a.padded + 1, step);
  }
  // a row of the output weights, or their biases below them
  for (int c = 0; c < 16; c++) {
    dw2[h * 16 + c] = c == 0 ? -dv : c == 1 ? dv : 0.0f;
  }
}


// ---- launches ----------------------------------------------------------------------------------

// some replicas: as many as the work memory has places for
static void policy_some(rgm_stream *s, const policy_args &a, int64_t replicas) {
  const int units = a.padded < UNITS ? (a.padded + 31) / 32 * 32 : UNITS;
  const int64_t blocks = replicas * a.groups * a.blocks * a.slices;
  const int64_t columns = (int64_t)(a.inputs + 1) * a.padded + 2;
  RGM_ASSERT(blocks <= INT32_MAX);
  RGM_LAUNCH(policy_place_kernel, (unsigned)replicas, 32, 0, s, a);
  if (a.inputs <= 4) {
    RGM_LAUNCH(policy_block_kernel<3>, (unsigned)blocks, units + SIDE, 0, s, a);
  } else {
    RGM_LAUNCH(policy_block_kernel<15>, (unsigned)blocks, units + SIDE, 0, s, a);
  }
  int64_t step = 1;
  for (int64_t nodes = a.groups * a.blocks; nodes > FEW; nodes = (nodes + CHUNK - 1) / CHUNK) {
    const int64_t chunks = (nodes + CHUNK - 1) / CHUNK;
    const dim3 grid((unsigned)(replicas * chunks), rgm_blocks(columns, THREADS, RGM_CUDA_MOST));
    RGM_LAUNCH(policy_chunk_kernel, grid, THREADS, 0, s, a, step, chunks);
    step *= CHUNK;
  }
  const int pieces = (a.padded + THREADS) / THREADS; // of padded + 1 threads
  RGM_LAUNCH(policy_gradient_kernel, (unsigned)(replicas * pieces), THREADS, 0, s, a, step, pieces);
}


void rgm_cuda_policy_xent(rgm_stream *s, rgm_tensor grad, rgm_tensor loss, rgm_tensor work,
                          rgm_tensor x, rgm_tensor z, rgm_tensor label, rgm_tensor weight,
                          rgm_tensor params, rgm_tensor active, int hidden) {
  policy_args a = {};
  a.grad = grad;
  a.loss = loss;
  a.work = work;
  a.x = x;
  a.z = z;
  a.label = label;
  a.weight = weight;
  a.params = params;
  a.active = active;
  a.place = rgm_cuda_scratch(s);
  a.inputs = (int)x.dims[3];
  a.padded = (hidden + 15) / 16 * 16;
  a.slices = (a.padded + UNITS - 1) / UNITS;
  a.groups = x.dims[1];
  a.rows = x.dims[2];
  a.blocks = (a.rows + ROWS - 1) / ROWS;
  a.size = (int64_t)a.padded * (a.inputs + 1) + 16;

  // places fill the stream's work memory, blocks the grid
  const int64_t each = a.groups * a.blocks * a.slices;
  int64_t most = RGM_CUDA_SCRATCH / (a.groups + 1);
  most = most < INT32_MAX / each ? most : INT32_MAX / each;
  RGM_ASSERT(most > 0 && a.groups * a.blocks <= INT32_MAX);
  for (int64_t r = 0; r < x.dims[0]; r += most) {
    policy_args some = a;
    rgm_tensor *t[] = {&some.grad,  &some.loss,   &some.work,   &some.x,     &some.z,
                       &some.label, &some.weight, &some.params, &some.active};
    for (rgm_tensor *one : t) {
      one->data = rgm_u32(*one, r); // all have elements of four bytes
    }
    policy_some(s, some, x.dims[0] - r < most ? x.dims[0] - r : most);
  }
}
