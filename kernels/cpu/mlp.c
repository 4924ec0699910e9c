// SPDX-License-Identifier: Apache-2.0
// Linear layers: forward, and gradients with respect to the input (gradient.c has the parameters').
// All three are one register tile that runs over a packed panel; they differ in what is packed and
// in how a tile starts and ends. The order of every sum is the one that kernels.h promises.

#include "kernels/cpu/tile.h"

#include <string.h>

enum {
  DEPTH = RGM_ROW_BLOCK, // of a panel
  LEAST = 1 << 17,       // multiply-adds that are worth a second thread: some 2 us
  WEIGHT = 8,            // of them take as long as reading a weight
  MANY = 32,             // rows of a thread that pay for a packed panel of its own
  TRANSPOSED = 16,       // rows and columns that are transposed at a time
};

typedef struct linear_args {
  rgm_tensor y, x, w, b;
  rgm_act act;
  int64_t panels, blocks; // of a replica
  int64_t rows;           // of a block
  int64_t columns;        // of a part, where rows are few
} linear_args;


// the activations that are not part of a product
static void activate(float *y, int64_t n, rgm_act act) {
  switch (act) {
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
  case RGM_RELU:
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
  const int64_t begin = index / a->panels % a->blocks * a->rows;
  const int64_t inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t end = begin + a->rows < a->x.dims[1] ? begin + a->rows : a->x.dims[1];
  const int64_t width = panel_width(first, outputs);
  const float *w = rgm_f32(a->w, r) + first;
  float panel[DEPTH * COLUMNS] __attribute__((aligned(64)));
  for (int64_t depth = 0; depth < inputs || depth == 0; depth += DEPTH) {
    const int64_t n = inputs - depth < DEPTH ? inputs - depth : DEPTH;
    product p = {.c_stride = outputs, .a_row = inputs, .a_step = 1, .depth = n};
    p.start = rgm_f32(a->b, r) + first;
    p.resume = depth > 0;

    // the first tile copies the panel for the others; few rows do not pay for it
    const bool packs = end - begin > 2 * ROWS;
    for (int64_t row = begin; row < end; row += ROWS) {
      const bool copied = packs && row > begin;
      p.panel = copied ? panel : w + depth * outputs;
      p.panel_stride = copied ? COLUMNS : outputs;
      p.keep = packs && !copied ? panel : NULL;
      p.rows = (int)(end - row < ROWS ? end - row : ROWS);
      p.a = rgm_f32(a->x, r) + row * inputs + depth;
      p.c = rgm_f32(a->y, r) + row * outputs + first;
      p.relu = depth + n == inputs && a->act == RGM_RELU;
      multiply_tile(&p, width);
      for (int k = 0; k < p.rows && depth + n == inputs && a->act > RGM_RELU; k++) {
        activate(p.c + k * outputs, width, a->act);
      }
    }
  }
}


// The product for up to FEW rows and WIDTH vectors.
__attribute__((noinline)) static void multiply_few(const product *p) {
  if (p->rows == 1) {
    multiply(p, 1, WIDTH, 0);
  } else {
    multiply(p, FEW, WIDTH, 0);
  }
}


// A row or two, a part of their outputs: as many sums side by side as registers hold, since each
// waits for the one before it, and weights in the order in which they lie
static void few_rows_task(void *arg, int64_t index) {
  const linear_args *a = arg;
  const int64_t r = index / a->panels, outputs = a->w.dims[2];
  const int64_t begin = index % a->panels * a->columns;
  const int64_t end = begin + a->columns < outputs ? begin + a->columns : outputs;
  product p = {.c_stride = outputs, .a_row = a->w.dims[1], .a_step = 1, .depth = a->w.dims[1]};
  p.rows = (int)a->x.dims[1];
  p.a = rgm_f32(a->x, r);
  p.panel_stride = outputs;
  p.relu = a->act == RGM_RELU;
  for (int64_t first = begin, width; first < end; first += width) {
    width = end - first < COLUMNS ? end - first : end - first < WIDE ? COLUMNS : WIDE;
    p.start = rgm_f32(a->b, r) + first;
    p.panel = rgm_f32(a->w, r) + first;
    p.c = rgm_f32(a->y, r) + first;
    if (width == WIDE) {
      multiply_few(&p);
    } else {
      multiply_tile(&p, width);
    }
    for (int k = 0; k < p.rows && a->act > RGM_RELU; k++) {
      activate(p.c + k * outputs, width, a->act);
    }
  }
}


// Tasks of a layer, shared by threads unless they are over before another thread has begun; what
// they sum does not depend on it.
static void share(rgm_stream *s, linear_args *a, int64_t count, void (*task)(void *, int64_t)) {
  const int64_t rows = a->x.dims[1] < WEIGHT ? WEIGHT : a->x.dims[1];
  if (rows * rgm_elements(a->w) >= LEAST) {
    rgm_cpu_parallel(s, count, task, a);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    task(a, i);
  }
}


// Work on rows of x and so many columns: panels by blocks of rows; a row's sums know nothing of its
// neighbours. Threads that find no replica of their own share one by its rows, so that what a layer
// leaves is near whoever takes the next one (a line of another core's takes longer than its sums);
// few rows they share by panels.
static void divide(rgm_stream *s, linear_args *a, rgm_tensor x, int64_t columns) {
  const int64_t rows = x.dims[1], replicas = x.dims[0];
  const int64_t share = (rgm_cpu_threads(s) + replicas - 1) / replicas;
  a->panels = (columns + COLUMNS - 1) / COLUMNS;
  a->rows = BLOCK;
  if (share > 1 && (rows >= share * MANY || share > a->panels)) {
    const int64_t each = (rows + share - 1) / share;
    a->rows = (each + ROWS - 1) / ROWS * ROWS;
    a->rows = a->rows < BLOCK ? a->rows : BLOCK;
  }
  a->blocks = (rows + a->rows - 1) / a->rows;
}


void RGM_CPU(linear)(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor w, rgm_tensor b,
                     rgm_act act) {
  linear_args a = {.y = y, .x = x, .w = w, .b = b, .act = act, .columns = WIDE};
  if (x.dims[1] <= FEW) {
    a.panels = (w.dims[2] + WIDE - 1) / WIDE;
    share(s, &a, x.dims[0] * a.panels, few_rows_task);
    return;
  }
  divide(s, &a, x, w.dims[2]);
  share(s, &a, x.dims[0] * a.panels * a.blocks, linear_task);
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
  const int64_t begin = index / a->panels % a->blocks * a->rows;
  const int64_t inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t end = begin + a->rows < a->x.dims[1] ? begin + a->rows : a->x.dims[1];
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
      const float *y = a->b.data != NULL ? rgm_f32(a->b, r) + row * inputs + first : NULL;
      const bool last = depth + n == outputs && y != NULL;
      const bool gated = width == COLUMNS && a->act == RGM_RELU;
      p.gate = last && gated ? y : NULL;
      p.c = width < COLUMNS ? part : dx;
      p.c_stride = width < COLUMNS ? COLUMNS : inputs;
      for (int k = 0; k < p.rows && width < COLUMNS && p.resume; k++) {
        memcpy(part + k * COLUMNS, dx + k * inputs, (size_t)width * sizeof *dx);
      }
      multiply_tile(&p, COLUMNS);
      for (int k = 0; k < p.rows && width < COLUMNS; k++) {
        memcpy(dx + k * inputs, part + k * COLUMNS, (size_t)width * sizeof *dx);
      }
      for (int k = 0; k < p.rows && last && !gated; k++) {
        mask(dx + k * inputs, y + k * inputs, width, a->act);
      }
    }
  }
}


void RGM_CPU(linear_dx)(rgm_stream *s, rgm_tensor dx, rgm_tensor dz, rgm_tensor w, rgm_tensor y,
                        rgm_act act) {
  linear_args a = {.y = dz, .x = dx, .w = w, .b = y, .act = act};
  divide(s, &a, dz, w.dims[1]);
  share(s, &a, dz.dims[0] * a.panels * a.blocks, linear_dx_task);
}
