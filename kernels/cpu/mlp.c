// SPDX-License-Identifier: Apache-2.0
// Linear layers: forward, and gradients with respect to input and parameters. All three are one
// register tile of ROWS x COLUMNS sums that runs over a packed panel; they differ in what is packed
// and in how a tile starts and ends. The order of every sum is the one that kernels.h promises.

#include "kernels/cpu/cpu.h"

#include <string.h>

// a tile that fills the registers: ROWS x VECTORS sums, a row's factor, VECTORS of the panel
#if RGM_LANES_ALONE
enum { ROWS = 4, VECTORS = 16 };
#elif RGM_LANE_PAIRS
enum { ROWS = 12, VECTORS = 2 };
#else
enum { ROWS = 6, VECTORS = 2 };
#endif

enum {
  COLUMNS = VECTORS * RGM_LANE_WIDTH,
  DEPTH = RGM_ROW_BLOCK, // of a panel
  BLOCK = RGM_ROW_BLOCK, // rows of a unit of parallel work
  TRANSPOSED = 16,       // rows and columns that are transposed at a time
};

typedef struct linear_args {
  rgm_tensor y, x, w, b;
  rgm_act act;
  int64_t panels, blocks; // of a replica
} linear_args;

// c[rows][n] (+)= a[rows][depth] @ panel[depth][COLUMNS], in order over depth
typedef struct product {
  float *c;
  int64_t c_stride;
  const float *a;
  int64_t a_row, a_step; // between rows and between steps of depth
  const float *panel;
  int64_t panel_stride, depth;
  int rows;
  const float *start; // where the sums start: of a row, or NULL for 0
  bool resume;        // they go on from c
} product;


// the product for `rows` rows, at most R, of V vectors; R and V are constants
RGM_INLINE void multiply(const product *p, int R, int V) {
  rgm_lanes acc[ROWS][VECTORS];
  const float *a[ROWS];
  for (int r = 0; r < R; r++) {
    const int64_t row = r < p->rows ? r : 0; // rows past the last repeat the first
    a[r] = p->a + row * p->a_row;
    for (int v = 0; v < V; v++) {
      const int64_t at = v * RGM_LANE_WIDTH;
      acc[r][v] = p->resume          ? rgm_lanes_load(p->c + row * p->c_stride + at)
                  : p->start != NULL ? rgm_lanes_load(p->start + at)
                                     : rgm_lanes_set(0.0f);
    }
  }
  const float *panel = p->panel;
  const int64_t step = p->a_step, stride = p->panel_stride;
  int64_t offset = 0;
  for (int64_t k = 0; k < p->depth; k++) {
    rgm_lanes column[VECTORS];
    for (int v = 0; v < V; v++) {
      column[v] = rgm_lanes_load(panel + v * RGM_LANE_WIDTH);
    }
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 12
#endif
    for (int r = 0; r < R; r++) {
      const rgm_lanes factor = rgm_lanes_set(a[r][offset]);
      for (int v = 0; v < V; v++) {
        acc[r][v] = rgm_lanes_fma(factor, column[v], acc[r][v]);
      }
    }
    panel += stride;
    offset += step;
  }
  for (int r = 0; r < R && r < p->rows; r++) {
    for (int v = 0; v < V; v++) {
      rgm_lanes_store(p->c + r * p->c_stride + v * RGM_LANE_WIDTH, acc[r][v]);
    }
  }
}


// the product for any number of rows up to ROWS and one or VECTORS vectors
static void multiply_tile(const product *p, int64_t columns) {
  if (columns < COLUMNS) {
    multiply(p, ROWS, VECTORS > 1 ? VECTORS / 2 : 1);
  } else if (p->rows > ROWS / 3) {
    multiply(p, ROWS, VECTORS);
  } else {
    multiply(p, ROWS / 3 > 0 ? ROWS / 3 : 1, VECTORS);
  }
}


// how many columns the panel from `first` on has: COLUMNS or, at the end, half of them
static int64_t panel_width(int64_t first, int64_t all) {
  return all - first < COLUMNS ? all - first : COLUMNS;
}


static void activate(float *y, int64_t n, rgm_act act) {
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


// dz *= act'(z) from y = act(z)
static void mask(float *dz, const float *y, int64_t n, rgm_act act) {
  switch (act) {
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


// ---- forward -----------------------------------------------------------------------------------

// a panel of columns for a block of rows
static void linear_task(void *arg, int64_t index) {
  const linear_args *a = arg;
  const int64_t r = index / a->panels / a->blocks, first = index % a->panels * COLUMNS;
  const int64_t begin = index / a->panels % a->blocks * BLOCK;
  const int64_t inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t end = begin + BLOCK < a->x.dims[1] ? begin + BLOCK : a->x.dims[1];
  const int64_t width = panel_width(first, outputs);
  const float *w = rgm_f32(a->w, r) + first;
  float panel[DEPTH * COLUMNS] __attribute__((aligned(64)));
  for (int64_t depth = 0; depth < inputs || depth == 0; depth += DEPTH) {
    const int64_t n = inputs - depth < DEPTH ? inputs - depth : DEPTH;
    product p = {.c_stride = outputs, .a_row = inputs, .a_step = 1, .depth = n};
    p.start = rgm_f32(a->b, r) + first;
    p.resume = depth > 0;

    // few rows do not pay for packing
    const bool packs = end - begin > 2 * ROWS;
    for (int64_t k = 0; k < n && packs; k++) {
      memcpy(panel + k * COLUMNS, w + (depth + k) * outputs, (size_t)width * sizeof *w);
    }
    p.panel = packs ? panel : w + depth * outputs;
    p.panel_stride = packs ? COLUMNS : outputs;
    for (int64_t row = begin; row < end; row += ROWS) {
      p.rows = (int)(end - row < ROWS ? end - row : ROWS);
      p.a = rgm_f32(a->x, r) + row * inputs + depth;
      p.c = rgm_f32(a->y, r) + row * outputs + first;
      multiply_tile(&p, width);
      for (int k = 0; k < p.rows && depth + n == inputs; k++) {
        activate(p.c + k * outputs, width, a->act);
      }
    }
  }
}


void RGM_CPU(linear)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b,
                     rgm_act act) {
  linear_args a = {.y = y, .x = x, .w = w, .b = b, .act = act};
  a.panels = (w.dims[2] + COLUMNS - 1) / COLUMNS;
  a.blocks = (x.dims[1] + BLOCK - 1) / BLOCK;
  rgm_cpu_parallel(s, x.dims[0] * a.panels * a.blocks, linear_task, &a);
}


// ---- gradients ---------------------------------------------------------------------------------

static void act_backward_task(void *arg, int64_t r) {
  const linear_args *a = arg;
  mask(rgm_f32(a->x, r), rgm_f32(a->y, r), rgm_elements(a->y) / a->y.dims[0], a->act);
}


void RGM_CPU(act_backward)(rgm_stream *s, rgm_tensor dz, rgm_tensor y, rgm_act act) {
  linear_args a = {.y = y, .x = dz, .act = act};
  rgm_cpu_parallel(s, y.dims[0], act_backward_task, &a);
}


// panel[k][i] = w[first + i][o + k] for `width` rows of w; what lies past them is 0
static void pack_transposed(float *panel, const float *w, int64_t outputs, int64_t n,
                            int64_t width) {
  for (int64_t i = 0; i < COLUMNS; i += TRANSPOSED) {
    for (int64_t k = 0; k < n; k += TRANSPOSED) {
      float *to = panel + k * COLUMNS + i;
      if (i + TRANSPOSED <= width) {
        rgm_transpose16(w + i * outputs + k, outputs, to, COLUMNS);
        continue;
      }
      for (int64_t row = 0; row < TRANSPOSED; row++) {
        for (int64_t j = 0; j < TRANSPOSED; j++) {
          to[j * COLUMNS + row] = i + row < width ? w[(i + row) * outputs + k + j] : 0.0f;
        }
      }
    }
  }
}


// a panel of inputs for a block of rows
static void linear_dx_task(void *arg, int64_t index) {
  const linear_args *a = arg;
  const int64_t r = index / a->panels / a->blocks, first = index % a->panels * COLUMNS;
  const int64_t begin = index / a->panels % a->blocks * BLOCK;
  const int64_t inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t end = begin + BLOCK < a->x.dims[1] ? begin + BLOCK : a->x.dims[1];
  const int64_t width = panel_width(first, inputs);
  float panel[DEPTH * COLUMNS] __attribute__((aligned(64))), part[ROWS * COLUMNS];
  for (int64_t depth = 0; depth < outputs; depth += DEPTH) {
    const int64_t n = outputs - depth < DEPTH ? outputs - depth : DEPTH;
    pack_transposed(panel, rgm_f32(a->w, r) + first * outputs + depth, outputs, n, width);
    product p = {.a_row = outputs, .a_step = 1, .panel = panel, .panel_stride = COLUMNS};
    p.depth = n;
    p.resume = depth > 0;
    for (int64_t row = begin; row < end; row += ROWS) {
      float *dx = rgm_f32(a->x, r) + row * inputs + first;
      p.rows = (int)(end - row < ROWS ? end - row : ROWS);
      p.a = rgm_f32(a->y, r) + row * outputs + depth;

      // a panel that reaches past the inputs goes through memory of its own
      p.c = width < COLUMNS ? part : dx;
      p.c_stride = width < COLUMNS ? COLUMNS : inputs;
      for (int k = 0; k < p.rows && width < COLUMNS && p.resume; k++) {
        memcpy(part + k * COLUMNS, dx + k * inputs, (size_t)width * sizeof *dx);
      }
      multiply_tile(&p, COLUMNS);
      for (int k = 0; k < p.rows && width < COLUMNS; k++) {
        memcpy(dx + k * inputs, part + k * COLUMNS, (size_t)width * sizeof *dx);
      }
      for (int k = 0; k < p.rows && depth + n == outputs && a->b.data != NULL; k++) {
        mask(dx + k * inputs, rgm_f32(a->b, r) + (row + k) * inputs + first, width, a->act);
      }
    }
  }
}


void RGM_CPU(linear_dx)(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w, rgm_tensor y,
                        rgm_act act) {
  linear_args a = {.y = dz, .x = dx, .w = w, .b = y, .act = act};
  a.panels = (w.dims[1] + COLUMNS - 1) / COLUMNS;
  a.blocks = (dz.dims[1] + BLOCK - 1) / BLOCK;
  rgm_cpu_parallel(s, dz.dims[0] * a.panels * a.blocks, linear_dx_task, &a);
}


// db of a panel, in blocks of rows; where there is one block only, its panel is packed as well
static void sum_rows(const linear_args *a, int64_t r, int64_t first, int64_t width, float *panel) {
  const int64_t rows = a->x.dims[1], outputs = a->w.dims[2];
  const float *dz = rgm_f32(a->y, r) + first;
  float level[RGM_TREE_LEVELS * COLUMNS], block[COLUMNS], total[COLUMNS];
  rgm_tree tree = {.size = width, .level = level};
  for (int64_t begin = 0; begin < rows; begin += BLOCK) {
    const int64_t end = begin + BLOCK < rows ? begin + BLOCK : rows;
    for (int64_t j = 0; j < COLUMNS; j++) {
      block[j] = 0.0f;
    }
    for (int64_t row = begin; row < end; row++) {
      for (int64_t j = 0; j < width; j++) {
        block[j] = block[j] + dz[row * outputs + j];
      }
      if (rows <= BLOCK) {
        memcpy(panel + row * COLUMNS, dz + row * outputs, (size_t)width * sizeof *dz);
      }
    }
    rgm_tree_add(&tree, block);
  }
  rgm_tree_sum(&tree, total);
  memcpy(rgm_f32(a->b, r) + first, total, (size_t)width * sizeof *total);
}


// a panel of dw and db: ROWS inputs x COLUMNS outputs at a time
static void linear_dw_task(void *arg, int64_t index) {
  const linear_args *a = arg;
  const int64_t rows = a->x.dims[1], inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t r = index / a->panels, first = index % a->panels * COLUMNS;
  const int64_t width = panel_width(first, outputs);
  float panel[DEPTH * COLUMNS] __attribute__((aligned(64)));
  float level[RGM_TREE_LEVELS * ROWS * COLUMNS], block[ROWS * COLUMNS], total[ROWS * COLUMNS];
  sum_rows(a, r, first, width, panel);
  const bool packed = rows <= BLOCK;
  for (int64_t input = 0; input < inputs; input += ROWS) {
    float *dw = rgm_f32(a->w, r) + input * outputs + first;
    const int n = (int)(inputs - input < ROWS ? inputs - input : ROWS);
    product p = {.a_row = 1, .a_step = inputs, .rows = n};
    rgm_tree tree = {.size = ROWS * COLUMNS, .level = level};
    p.c = packed ? dw : block;
    p.c_stride = packed ? outputs : COLUMNS;
    p.panel_stride = packed ? COLUMNS : outputs;
    for (int64_t begin = 0; begin < rows; begin += BLOCK) {
      p.a = rgm_f32(a->x, r) + begin * inputs + input;
      p.panel = packed ? panel : rgm_f32(a->y, r) + begin * outputs + first;
      p.depth = begin + BLOCK < rows ? BLOCK : rows - begin;
      multiply_tile(&p, width);
      if (!packed) {
        rgm_tree_add(&tree, block);
      }
    }
    if (!packed) {
      rgm_tree_sum(&tree, total);
      for (int k = 0; k < n; k++) {
        memcpy(dw + k * outputs, total + k * COLUMNS, (size_t)width * sizeof *dw);
      }
    }
  }
}


void RGM_CPU(linear_dw)(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz) {
  linear_args a = {.y = dz, .x = x, .w = dw, .b = db};
  a.panels = (dw.dims[2] + COLUMNS - 1) / COLUMNS;
  rgm_cpu_parallel(s, dw.dims[0] * a.panels, linear_dw_task, &a);
}
