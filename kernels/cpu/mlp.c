// SPDX-License-Identifier: Apache-2.0
// Linear layers: forward, and gradients with respect to input and parameters, in register tiles of
// rows x 16 columns. The order of every sum is the one that kernels.h promises.

#include "kernels/cpu/cpu.h"

enum {
  TILE = 16,                       // columns of a tile
  VECTORS = TILE / RGM_LANE_WIDTH, // lane vectors across it
  ROWS = 4,                        // rows of a tile
  ROW_TASK = 64,                   // rows of a unit of parallel work
  CHUNK = 256,                     // outputs that linear_dx transposes at a time
};

typedef struct linear_args {
  rgm_tensor y, x, w, b;
  rgm_act act;
  int64_t tasks; // row tasks per replica
} linear_args;


static void activate_row(float *y, int64_t n, rgm_act act) {
  switch (act) {
  case RGM_RELU:
    for (int64_t i = 0; i < n; i++) {
      y[i] = y[i] > 0.0f ? y[i] : 0.0f;
    }
    break;
  case RGM_TANH:
    for (int64_t i = 0; i < n; i++) {
      y[i] = rgm_tanh(y[i]);
    }
    break;
  case RGM_SIGMOID:
    for (int64_t i = 0; i < n; i++) {
      y[i] = rgm_sigmoid(y[i]);
    }
    break;
  case RGM_LINEAR:
    break;
  }
}


// acc[rows][16] += x[rows][depth] @ w[depth][16], rows <= ROWS, in order over depth
static inline void multiply_tile(float *y, int64_t y_stride, const float *x, int64_t x_stride,
                                 const float *w, int64_t w_stride, int64_t depth, int rows) {
  rgm_lanes acc[ROWS][VECTORS];
  for (int r = 0; r < ROWS; r++) {
    for (int v = 0; v < VECTORS; v++) {
      acc[r][v] = rgm_lanes_load(y + (r < rows ? r : 0) * y_stride + v * RGM_LANE_WIDTH);
    }
  }
  for (int64_t i = 0; i < depth; i++) {
    rgm_lanes column[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      column[v] = rgm_lanes_load(w + i * w_stride + v * RGM_LANE_WIDTH);
    }
    for (int r = 0; r < ROWS; r++) {
      const rgm_lanes factor = rgm_lanes_set(x[(r < rows ? r : 0) * x_stride + i]);
      for (int v = 0; v < VECTORS; v++) {
        acc[r][v] = rgm_lanes_fma(factor, column[v], acc[r][v]);
      }
    }
  }
  for (int r = 0; r < rows; r++) {
    for (int v = 0; v < VECTORS; v++) {
      rgm_lanes_store(y + r * y_stride + v * RGM_LANE_WIDTH, acc[r][v]);
    }
  }
}


static void linear_task(void *arg, int64_t index) {
  const linear_args *a = arg;
  const int64_t r = index / a->tasks, begin = index % a->tasks * ROW_TASK;
  const int64_t rows = a->x.dims[1], inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t end = begin + ROW_TASK < rows ? begin + ROW_TASK : rows;
  const float *w = rgm_f32(a->w, r), *bias = rgm_f32(a->b, r);
  for (int64_t row = begin; row < end; row += ROWS) {
    const int n = (int)(end - row < ROWS ? end - row : ROWS);
    const float *x = rgm_f32(a->x, r) + row * inputs;
    float *y = rgm_f32(a->y, r) + row * outputs;

    // the sums start at the bias
    for (int k = 0; k < n; k++) {
      for (int64_t o = 0; o < outputs; o++) {
        y[k * outputs + o] = bias[o];
      }
    }
    for (int64_t o = 0; o < outputs; o += TILE) {
      multiply_tile(y + o, outputs, x, inputs, w + o, outputs, inputs, n);
    }
    activate_row(y, n * outputs, a->act);
  }
}


void RGM_CPU(linear)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b,
                     rgm_act act) {
  linear_args a = {y, x, w, b, act, (x.dims[1] + ROW_TASK - 1) / ROW_TASK};
  rgm_cpu_parallel(s, x.dims[0] * a.tasks, linear_task, &a);
}


// ---- gradients ---------------------------------------------------------------------------------

static void act_backward_task(void *arg, int64_t r) {
  const linear_args *a = arg;
  float *dz = rgm_f32(a->x, r);
  const float *y = rgm_f32(a->y, r);
  const int64_t n = rgm_elements(a->y) / a->y.dims[0];
  switch (a->act) {
  case RGM_RELU:
    for (int64_t i = 0; i < n; i++) {
      dz[i] = y[i] > 0.0f ? dz[i] : 0.0f;
    }
    break;
  case RGM_TANH:
    for (int64_t i = 0; i < n; i++) {
      dz[i] = dz[i] * rgm_fma(-y[i], y[i], 1.0f);
    }
    break;
  case RGM_SIGMOID:
    for (int64_t i = 0; i < n; i++) {
      dz[i] = dz[i] * (y[i] * (1.0f - y[i]));
    }
    break;
  case RGM_LINEAR:
    break;
  }
}


void RGM_CPU(act_backward)(rgm_stream *s, rgm_tensor dz, rgm_tensor y, rgm_act act) {
  linear_args a = {.y = y, .x = dz, .act = act};
  rgm_cpu_parallel(s, y.dims[0], act_backward_task, &a);
}


// dx of 16 rows: dz is transposed by chunks of outputs, so that lanes are rows
static void linear_dx_rows(const linear_args *a, int64_t r, int64_t row, int n) {
  const int64_t inputs = a->w.dims[1], outputs = a->w.dims[2];
  const float *w = rgm_f32(a->w, r), *dz = rgm_f32(a->y, r) + row * outputs;
  float *dx = rgm_f32(a->x, r) + row * inputs;
  float column[CHUNK][TILE], sum[TILE];
  for (int64_t first = 0; first < outputs; first += CHUNK) {
    const int64_t depth = outputs - first < CHUNK ? outputs - first : CHUNK;
    for (int64_t o = 0; o < depth; o++) {
      for (int k = 0; k < TILE; k++) {
        column[o][k] = dz[(k < n ? k : 0) * outputs + first + o];
      }
    }
    for (int64_t i = 0; i < inputs; i++) {
      rgm_lanes acc[VECTORS];
      for (int k = 0; k < TILE; k++) {
        sum[k] = first > 0 && k < n ? dx[k * inputs + i] : 0.0f;
      }
      for (int v = 0; v < VECTORS; v++) {
        acc[v] = rgm_lanes_load(sum + v * RGM_LANE_WIDTH);
      }
      for (int64_t o = 0; o < depth; o++) {
        const rgm_lanes factor = rgm_lanes_set(w[i * outputs + first + o]);
        for (int v = 0; v < VECTORS; v++) {
          acc[v] = rgm_lanes_fma(factor, rgm_lanes_load(column[o] + v * RGM_LANE_WIDTH), acc[v]);
        }
      }
      for (int v = 0; v < VECTORS; v++) {
        rgm_lanes_store(sum + v * RGM_LANE_WIDTH, acc[v]);
      }
      for (int k = 0; k < n; k++) {
        dx[k * inputs + i] = sum[k];
      }
    }
  }
}


static void linear_dx_task(void *arg, int64_t index) {
  const linear_args *a = arg;
  const int64_t r = index / a->tasks, begin = index % a->tasks * ROW_TASK;
  const int64_t end = begin + ROW_TASK < a->y.dims[1] ? begin + ROW_TASK : a->y.dims[1];
  for (int64_t row = begin; row < end; row += TILE) {
    linear_dx_rows(a, r, row, (int)(end - row < TILE ? end - row : TILE));
  }
}


void RGM_CPU(linear_dx)(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w) {
  linear_args a = {.y = dz, .x = dx, .w = w, .tasks = (dz.dims[1] + ROW_TASK - 1) / ROW_TASK};
  rgm_cpu_parallel(s, dz.dims[0] * a.tasks, linear_dx_task, &a);
}


// a tile of dw: ROWS inputs x 16 outputs, or the 16 outputs of db where `input` is past the last
static void linear_dw_task(void *arg, int64_t index) {
  const linear_args *a = arg;
  const int64_t rows = a->x.dims[1], inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t r = index / a->tasks, o = index % a->tasks * TILE;
  const float *dz = rgm_f32(a->y, r) + o;
  float level[RGM_TREE_LEVELS * ROWS * TILE], block[ROWS * TILE], total[ROWS * TILE];
  for (int64_t input = 0; input <= inputs; input += ROWS) {
    const int n = (int)(inputs - input < ROWS ? inputs - input : ROWS);
    rgm_tree tree = {.size = ROWS * TILE, .level = level};
    for (int64_t begin = 0; begin < rows; begin += RGM_ROW_BLOCK) {
      const int64_t end = begin + RGM_ROW_BLOCK < rows ? begin + RGM_ROW_BLOCK : rows;
      rgm_lanes acc[ROWS][VECTORS];
      for (int k = 0; k < ROWS * VECTORS; k++) {
        acc[k / VECTORS][k % VECTORS] = rgm_lanes_set(0.0f);
      }
      for (int64_t row = begin; row < end; row++) {
        const float *x = rgm_f32(a->x, r) + row * inputs + input;
        for (int v = 0; v < VECTORS; v++) {
          const rgm_lanes g = rgm_lanes_load(dz + row * outputs + v * RGM_LANE_WIDTH);
          for (int k = 0; k < ROWS; k++) {
            // the row after the last input is the bias, whose input is 1
            const float factor = k < n ? x[k] : 1.0f;
            acc[k][v] = rgm_lanes_fma(rgm_lanes_set(factor), g, acc[k][v]);
          }
        }
      }
      for (int k = 0; k < ROWS * VECTORS; k++) {
        rgm_lanes_store(block + k * RGM_LANE_WIDTH, acc[k / VECTORS][k % VECTORS]);
      }
      rgm_tree_add(&tree, block);
    }
    rgm_tree_sum(&tree, total);
    for (int k = 0; k < n; k++) {
      for (int j = 0; j < TILE; j++) {
        rgm_f32(a->w, r)[(input + k) * outputs + o + j] = total[k * TILE + j];
      }
    }
    if (n < ROWS) {
      for (int j = 0; j < TILE; j++) {
        rgm_f32(a->b, r)[o + j] = total[n * TILE + j];
      }
    }
  }
}


void RGM_CPU(linear_dw)(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz) {
  linear_args a = {.y = dz, .x = x, .w = dw, .b = db, .tasks = dw.dims[2] / TILE};
  rgm_cpu_parallel(s, dw.dims[0] * a.tasks, linear_dw_task, &a);
}
