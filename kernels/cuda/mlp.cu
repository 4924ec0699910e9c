// SPDX-License-Identifier: Apache-2.0
// Linear layers: forward, and gradients with respect to input and parameters, the step of Adam in
// the epilogue. All are the tile machine of gemm.cuh; rows of a gradient are summed in blocks of
// 256 and a tree, through the stream's work memory where there is more than one block.

#include "kernels/cuda/gemm.cuh"

// A rule that sees shapes and alignment only chooses the tile; no bit depends on it.
typedef rgm_tile<128, 64, 2, 2, 3> big_tile;    // where there are enough of them to fill the device
typedef rgm_tile<128, 64, 2, 2, 2> big_dw_tile; // and all operands lie on 16 bytes
typedef rgm_tile<64, 64, 2, 1, 4> small_tile;   // else
typedef rgm_tile<64, 16, 1, 1, 8> thin_tile;    // layers of 16 outputs: heads

enum { THREADS = 256, BLOCKS = 1024 };
static const int64_t ROWS = RGM_ROW_BLOCK; // of a block that is summed in order


// ---- activations -------------------------------------------------------------------------------

RGM_DEVICE float activate(float z, rgm_act act) {
  switch (act) {
  case RGM_RELU:
    return z > 0.0f ? z : 0.0f;
  case RGM_TANH:
    return rgm_tanh(z);
  case RGM_SIGMOID:
    return rgm_sigmoid(z);
  case RGM_LINEAR:
    break;
  }
  return z;
}


// dz * act'(z) from y = act(z)
RGM_DEVICE float mask(float dz, float y, rgm_act act) {
  switch (act) {
  case RGM_RELU:
    return y > 0.0f ? dz : 0.0f;
  case RGM_TANH:
    return dz * rgm_fma(-y, y, 1.0f);
  case RGM_SIGMOID:
    return dz * (y * (1.0f - y));
  case RGM_LINEAR:
    break;
  }
  return dz;
}


RGM_KERNEL(THREADS) act_backward_kernel(rgm_tensor dz, rgm_tensor y, rgm_act act) {
  RGM_REPLICAS (r, dz.dims[0]) {
    float *to = rgm_f32(dz, r);
    const float *from = rgm_f32(y, r);
    RGM_ELEMENTS (i, rgm_per_replica(dz)) {
      to[i] = mask(to[i], from[i], act);
    }
  }
}


void rgm_cuda_act_backward(rgm_stream *s, rgm_tensor dz, rgm_tensor y, rgm_act act) {
  const dim3 grid(rgm_blocks(rgm_per_replica(dz), THREADS, BLOCKS), rgm_replica_blocks(dz.dims[0]));
  RGM_LAUNCH(act_backward_kernel, grid, THREADS, 0, s, dz, y, act);
}


// ---- forward, and gradient of the input --------------------------------------------------------

typedef struct linear_args {
  rgm_tensor y, x, w, b; // of dx: dx, dz, w and the gate, whose data may be NULL
  rgm_act act;
} linear_args;


// replicas that are this block's, on the grid's z axis
#define TILE_REPLICAS(r, n) for (int64_t r = blockIdx.z; r < (n); r += gridDim.z)


RGM_DEVICE rgm_operand operand_of(const float *data, int pitch, int count, int k) {
  rgm_operand a;
  a.data = data;
  a.pitch = pitch;
  a.count = count;
  a.k = k;
  return a;
}


// y = act(x @ w + b)
template <class TILE, bool WIDE>
RGM_KERNEL_RESIDENT(TILE::THREADS, TILE::RESIDENT)
linear_kernel(linear_args a) {
  const int rows = (int)a.x.dims[1], inputs = (int)a.w.dims[1], outputs = (int)a.w.dims[2];
  const int m = (int)blockIdx.x * TILE::BM, n = (int)blockIdx.y * TILE::BN;
  RGM_SHARED(float, shared, [TILE::SHARED]);
  TILE_REPLICAS (r, a.y.dims[0]) {
    rgm_sums<TILE> acc;
    const float *b = rgm_f32(a.b, r);
#pragma unroll
    for (int j = 0; j < TILE::N_GROUPS * 4; j++) {
      const int column = n + tile_column<TILE>(j);
      const float start = column < outputs ? b[column] : 0.0f;
#pragma unroll
      for (int i = 0; i < TILE::M_GROUPS * 4; i++) {
        acc.x[i][j] = start;
      }
    }
    multiply_tile<TILE, true, false, WIDE, false>(
        &acc, NULL, shared, operand_of(rgm_f32(a.x, r), inputs, rows, inputs),
        operand_of(rgm_f32(a.w, r), outputs, outputs, inputs), m, n);
    float *y = rgm_f32(a.y, r);
    put_tile(acc, shared, m, n, rows, outputs, [&](int row, int column, float z) {
      y[(int64_t)row * outputs + column] = activate(z, a.act);
    });
  }
}


// dx = (dz @ w^T) * act'(z)
template <class TILE, bool WIDE>
RGM_KERNEL_RESIDENT(TILE::THREADS, TILE::RESIDENT)
linear_dx_kernel(linear_args a) {
  const int rows = (int)a.y.dims[1], inputs = (int)a.w.dims[1], outputs = (int)a.w.dims[2];
  const int m = (int)blockIdx.x * TILE::BM, n = (int)blockIdx.y * TILE::BN;
  RGM_SHARED(float, shared, [TILE::SHARED]);
  TILE_REPLICAS (r, a.y.dims[0]) {
    rgm_sums<TILE> acc = {};
    multiply_tile<TILE, true, true, WIDE, false>(
        &acc, NULL, shared, operand_of(rgm_f32(a.x, r), outputs, rows, outputs),
        operand_of(rgm_f32(a.w, r), outputs, inputs, outputs), m, n);
    const float *gate = a.b.data != NULL ? rgm_f32(a.b, r) : NULL;
    float *dx = rgm_f32(a.y, r);
    put_tile(acc, shared, m, n, rows, inputs, [&](int row, int column, float x) {
      const int64_t at = (int64_t)row * inputs + column;
      dx[at] = gate != NULL ? mask(x, gate[at], a.act) : x;
    });
  }
}


static unsigned tiles(int64_t n, int size) {
  return (unsigned)((n + size - 1) / size);
}


// whether tiles of this size for all replicas are two for every processor
template <class TILE>
static bool fills(rgm_stream *s, int64_t rows, int64_t columns, int64_t replicas) {
  const int64_t count = (int64_t)tiles(rows, TILE::BM) * tiles(columns, TILE::BN) * replicas;
  return count >= 2 * rgm_cuda_processors(s);
}


template <class TILE, bool WIDE> static void launch_linear(rgm_stream *s, const linear_args &a) {
  const dim3 grid(tiles(a.x.dims[1], TILE::BM), tiles(a.w.dims[2], TILE::BN),
                  rgm_replica_blocks(a.y.dims[0]));
  RGM_LAUNCH((linear_kernel<TILE, WIDE>), grid, TILE::THREADS, 0, s, a);
}


void rgm_cuda_linear(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b,
                     rgm_act act) {
  const linear_args a = {y, x, w, b, act};
  const bool wide = rgm_is_wide(y) && rgm_is_wide(x) && rgm_is_wide(w) && w.dims[1] % 4 == 0;
  if (w.dims[2] <= thin_tile::BN) {
    wide ? launch_linear<thin_tile, true>(s, a) : launch_linear<thin_tile, false>(s, a);
  } else if (!wide) {
    launch_linear<small_tile, false>(s, a);
  } else if (fills<big_tile>(s, x.dims[1], w.dims[2], y.dims[0])) {
    launch_linear<big_tile, true>(s, a);
  } else {
    launch_linear<small_tile, true>(s, a);
  }
}


template <class TILE, bool WIDE> static void launch_linear_dx(rgm_stream *s, const linear_args &a) {
  const dim3 grid(tiles(a.y.dims[1], TILE::BM), tiles(a.w.dims[1], TILE::BN),
                  rgm_replica_blocks(a.y.dims[0]));
  RGM_LAUNCH((linear_dx_kernel<TILE, WIDE>), grid, TILE::THREADS, 0, s, a);
}


void rgm_cuda_linear_dx(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w, rgm_tensor y,
                        rgm_act act) {
  const linear_args a = {dx, dz, w, y, act};
  const bool wide = rgm_is_wide(dz) && rgm_is_wide(w);
  if (w.dims[1] <= thin_tile::BN) {
    wide ? launch_linear_dx<thin_tile, true>(s, a) : launch_linear_dx<thin_tile, false>(s, a);
  } else if (!wide) {
    launch_linear_dx<small_tile, false>(s, a);
  } else if (fills<big_tile>(s, dx.dims[1], w.dims[1], dx.dims[0])) {
    launch_linear_dx<big_tile, true>(s, a);
  } else {
    launch_linear_dx<small_tile, true>(s, a);
  }
}


// ---- gradient of the parameters ----------------------------------------------------------------

typedef enum dw_form { DW_SUMS, DW_ADAM } dw_form;

// Sums over rows of the parameters [inputs + 1, outputs], the bias last, of columns first ... first
// + width - 1. Sums of row block k of replica r go to dw + r * stride + k * slot (db likewise),
// rows `pitch` apart; with DW_ADAM they become a step of `step` instead.
typedef struct dw_args {
  rgm_tensor x, dz, active; // active.data NULL: all
  int inputs, outputs, first, width, m_tiles;
  int64_t block, blocks; // the first row block, and how many
  float *dw, *db;
  int64_t dw_stride, db_stride, slot, pitch;
  rgm_adam_step step;
} dw_args;


RGM_DEVICE bool is_active(const dw_args &a, int64_t r) {
  return a.active.data == NULL || rgm_u32(a.active, r)[0] != 0;
}


// a step on parameter `at` of replica r, of which the gradient is g
RGM_DEVICE void adam_step(const rgm_adam_step &s, int64_t r, int64_t at, float g,
                          rgm_adam_rates rates) {
  float p = rgm_f32(s.p, r)[at];
  rgm_adam_one(&p, rgm_f32(s.m, r) + at, rgm_f32(s.v, r) + at, g, rates);
  rgm_f32(s.p, r)[at] = p;
  if (s.target.data != NULL) {
    float *target = rgm_f32(s.target, r) + at;
    *target = rgm_ema_one(*target, p, rgm_f32(s.rate, r)[0]);
  }
}


RGM_DEVICE rgm_adam_rates rates_of(const rgm_adam_step &s, int64_t r) {
  return rgm_adam_rates_of(rgm_f32(s.lr, r)[0], rgm_f32(s.beta1, r)[0], rgm_f32(s.beta2, r)[0],
                           rgm_f32(s.eps, r)[0], rgm_u32(s.count, r)[0] + 1);
}


// where the sum of (row i, column o) of row block k goes; row `inputs` is the bias
template <dw_form FORM>
RGM_DEVICE void put_sum(const dw_args &a, int64_t r, int64_t k, int i, int o, float sum,
                        const rgm_adam_rates *rates) {
  if (FORM == DW_ADAM) {
    const int64_t at = (int64_t)i * a.outputs + a.first + o;
    if (a.step.decay.data != NULL && i < a.inputs) {
      sum = rgm_fma(rgm_f32(a.step.decay, r)[0], rgm_f32(a.step.p, r)[at], sum);
    }
    adam_step(a.step, r, at, sum, *rates);
  } else if (i < a.inputs) {
    a.dw[r * a.dw_stride + k * a.slot + i * a.pitch + o] = sum;
  } else {
    a.db[r * a.db_stride + k * a.slot + o] = sum;
  }
}


// One row block of one tile of parameters; tiles of the first inputs also sum the bias.
template <class TILE, bool WIDE, dw_form FORM>
RGM_KERNEL_RESIDENT(TILE::THREADS, TILE::RESIDENT)
linear_dw_kernel(dw_args a) {
  RGM_SHARED(rgm_adam_rates, step, [1]);
  RGM_SHARED(float, shared, [TILE::SHARED]);
  const int64_t k = (int)blockIdx.x / a.m_tiles, begin = (a.block + k) * ROWS;
  const int64_t left = a.x.dims[1] - begin;
  const int rows = (int)(left < ROWS ? left : ROWS);
  const int m = (int)blockIdx.x % a.m_tiles * TILE::BM, n = (int)blockIdx.y * TILE::BN;
  TILE_REPLICAS (r, a.x.dims[0]) {
    if (!is_active(a, r)) {
      continue;
    }
    rgm_sums<TILE> acc = {};
    float bias = 0.0f;
    const float *x = rgm_f32(a.x, r) + begin * a.inputs;
    const float *dz = rgm_f32(a.dz, r) + begin * a.outputs + a.first;
    if (FORM == DW_ADAM && threadIdx.x == 0) {
      step[0] = rates_of(a.step, r);
    }
    multiply_tile<TILE, false, false, WIDE, true>(&acc, &bias, shared,
                                                  operand_of(x, a.inputs, a.inputs, rows),
                                                  operand_of(dz, a.outputs, a.width, rows), m, n);
    put_tile(acc, shared, m, n, a.inputs, a.width, [&](int row, int column, float sum) {
      put_sum<FORM>(a, r, k, row, column, sum, step);
    });
    const int own = n + (int)threadIdx.x;
    if (m == 0 && threadIdx.x < TILE::BN && own < a.width) {
      put_sum<FORM>(a, r, k, a.inputs, own, bias, step);
    }
    __syncthreads();
  }
}


// The tree over the `from` slots of a replica, each [inputs + 1, width], for every parameter.
enum { TREE_LEVELS = 12 };

template <dw_form FORM>
RGM_KERNEL(THREADS)
dw_tree_kernel(dw_args a, const float *slots, int64_t from, int64_t stride) {
  RGM_SHARED(rgm_adam_rates, step, [1]);
  const int64_t size = (int64_t)(a.inputs + 1) * a.width;
  RGM_REPLICAS (r, a.x.dims[0]) {
    if (!is_active(a, r)) {
      continue;
    }
    if (FORM == DW_ADAM && threadIdx.x == 0) {
      step[0] = rates_of(a.step, r);
    }
    __syncthreads();
    RGM_ELEMENTS (i, size) {
      rgm_counter_tree<TREE_LEVELS> tree = {};
      for (int64_t k = 0; k < from; k++) {
        rgm_tree_push(&tree, slots[r * stride + k * size + i]);
      }
      put_sum<FORM>(a, r, 0, (int)(i / a.width), (int)(i % a.width), rgm_tree_total(&tree), step);
    }
    __syncthreads();
  }
}


template <class TILE, bool WIDE, dw_form FORM> static void launch_dw(rgm_stream *s, dw_args a) {
  a.m_tiles = (int)tiles(a.inputs, TILE::BM);
  const dim3 grid((unsigned)(a.m_tiles * a.blocks), tiles(a.width, TILE::BN),
                  rgm_replica_blocks(a.x.dims[0]));
  RGM_LAUNCH((linear_dw_kernel<TILE, WIDE, FORM>), grid, TILE::THREADS, 0, s, a);
}


template <dw_form FORM> static void choose_dw(rgm_stream *s, const dw_args &a) {
  const bool wide = rgm_is_wide(a.x) && rgm_is_wide(a.dz) && a.inputs % 4 == 0;
  if (a.width <= thin_tile::BN) {
    wide ? launch_dw<thin_tile, true, FORM>(s, a) : launch_dw<thin_tile, false, FORM>(s, a);
  } else if (!wide) {
    launch_dw<small_tile, false, FORM>(s, a);
  } else if (fills<big_dw_tile>(s, a.inputs, a.width, a.x.dims[0] * a.blocks)) {
    launch_dw<big_dw_tile, true, FORM>(s, a);
  } else {
    launch_dw<small_tile, true, FORM>(s, a);
  }
}


template <dw_form FORM>
static void launch_tree(rgm_stream *s, const dw_args &a, const float *slots, int64_t from,
                        int64_t stride) {
  const dim3 grid(rgm_blocks((int64_t)(a.inputs + 1) * a.width, THREADS, BLOCKS),
                  rgm_replica_blocks(a.x.dims[0]));
  RGM_LAUNCH((dw_tree_kernel<FORM>), grid, THREADS, 0, s, a, slots, from, stride);
}


// Row blocks are taken in chunks, a power of two of them, so that the tree over the sums of chunks
// continues the tree within each.
static const int64_t CHUNK = 64;

template <dw_form FORM> static void sum_in_chunks(rgm_stream *s, const dw_args &out) {
  const int64_t all = (out.x.dims[1] + ROWS - 1) / ROWS;
  const int64_t chunks = (all + CHUNK - 1) / CHUNK, size = (int64_t)(out.inputs + 1) * out.width;
  const int64_t most = all < CHUNK ? all : CHUNK,
                stride = (chunks > 1 ? most + chunks : most) * size;
  float *slots = rgm_cuda_scratch(s), *sums = slots + most * size;
  for (int64_t chunk = 0; chunk < chunks; chunk++) {
    dw_args part = out;
    part.block = chunk * CHUNK;
    part.blocks = all - part.block < CHUNK ? all - part.block : CHUNK;
    part.dw = slots;
    part.db = slots + out.inputs * out.width;
    part.dw_stride = part.db_stride = stride;
    part.slot = size;
    part.pitch = out.width;
    choose_dw<DW_SUMS>(s, part);
    if (chunks == 1) {
      launch_tree<FORM>(s, out, slots, all, stride);
      return;
    }
    const int64_t count = part.blocks;
    part.dw = sums + chunk * size;
    part.db = part.dw + out.inputs * out.width;
    launch_tree<DW_SUMS>(s, part, slots, count, stride);
  }
  launch_tree<FORM>(s, out, sums, chunks, stride);
}


// replica r and the next ones of a view
static rgm_tensor from_replica(rgm_tensor t, int64_t r, int64_t count) {
  if (t.data != NULL) {
    t.data = static_cast<char *>(t.data) + r * t.stride0 * (int64_t)rgm_dtype_size(t.dtype);
  }
  t.dims[0] = count;
  return t;
}


static rgm_adam_step step_from_replica(const rgm_adam_step &s, int64_t r, int64_t count) {
  rgm_adam_step to = s;
  rgm_tensor *const parts[] = {&to.p,  &to.m,     &to.v,     &to.target, &to.decay, &to.count,
                               &to.lr, &to.beta1, &to.beta2, &to.eps,    &to.rate,  &to.active};
  for (rgm_tensor *part : parts) {
    *part = from_replica(*part, r, count);
  }
  return to;
}


// As many columns and replicas at a time as the work memory holds partial sums of.
template <dw_form FORM> static void sum_rows(rgm_stream *s, const dw_args &all) {
  const int64_t blocks = (all.x.dims[1] + ROWS - 1) / ROWS;
  if (blocks == 1) {
    dw_args a = all;
    a.blocks = 1;
    choose_dw<FORM>(s, a);
    return;
  }
  const int64_t slots = blocks <= CHUNK ? blocks : CHUNK + (blocks + CHUNK - 1) / CHUNK;
  const int64_t unit = slots * (all.inputs + 1), room = rgm_cuda_room(s);
  const int64_t columns = room / unit / 16 * 16;
  RGM_ASSERT(columns >= 16 && blocks < CHUNK << TREE_LEVELS);
  const int width = columns < all.outputs ? (int)columns : all.outputs;
  const int64_t most = room / (unit * width), replicas = all.x.dims[0];
  for (int64_t r = 0; r < replicas; r += most) {
    dw_args a = all;
    const int64_t count = replicas - r < most ? replicas - r : most;
    a.x = from_replica(all.x, r, count);
    a.dz = from_replica(all.dz, r, count);
    a.active = from_replica(all.active, r, count);
    a.step = step_from_replica(all.step, r, count);
    for (a.first = 0; a.first < all.outputs; a.first += width) {
      a.width = all.outputs - a.first < width ? all.outputs - a.first : width;
      a.dw = all.dw != NULL ? all.dw + r * all.dw_stride + a.first : NULL;
      a.db = all.db != NULL ? all.db + r * all.db_stride + a.first : NULL;
      sum_in_chunks<FORM>(s, a);
    }
  }
}


void rgm_cuda_linear_dw(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz) {
  dw_args a = {};
  a.x = x;
  a.dz = dz;
  a.inputs = (int)dw.dims[1];
  a.pitch = dw.dims[2];
  a.outputs = a.width = (int)dw.dims[2];
  a.dw = rgm_f32(dw, 0);
  a.db = rgm_f32(db, 0);
  a.dw_stride = dw.stride0;
  a.db_stride = db.stride0;
  sum_rows<DW_SUMS>(s, a);
}


void rgm_cuda_linear_dw_adam(rgm_stream *s, const rgm_adam_step *step, rgm_tensor x,
                             rgm_tensor dz) {
  dw_args a = {};
  a.x = x;
  a.dz = dz;
  a.active = step->active;
  a.inputs = (int)x.dims[2];
  a.outputs = a.width = (int)dz.dims[2];
  a.step = *step;
  sum_rows<DW_ADAM>(s, a);
}
