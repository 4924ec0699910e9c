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
  SHORT = 128,           // of one that stays in the nearest cache beside rows that lie apart
  BLOCK = RGM_ROW_BLOCK, // rows of a unit of parallel work
  TRANSPOSED = 16,       // rows and columns that are transposed at a time
  LINE = 16,             // floats of a line of the caches
};

typedef struct linear_args {
  rgm_tensor y, x, w, b;
  rgm_act act;
  int64_t panels, blocks;    // of a replica
  const rgm_adam_step *step; // that follows the gradient, or NULL
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
  const float *start;        // where the sums start: of a row, or NULL for 0
  bool resume;               // they go on from c
  bool relu;                 // what is negative in the end becomes 0
  const float *gate;         // and what stands beside y <= 0 here, in the layout of c; or NULL
  const float *const *ahead; // (depth) what is needed later is asked for on the way; or NULL
} product;


// asks for what a tile writes, and for its gate, before its sums are formed
RGM_INLINE void fetch(const product *p, int64_t first, int R, int V) {
  for (int r = 0; r < R; r++) {
    const int64_t row = (first + r) * p->c_stride;
    for (int64_t at = 0; at < V * RGM_LANE_WIDTH; at += LINE) {
      __builtin_prefetch(p->c + row + at, 1);
      if (p->gate != NULL) {
        __builtin_prefetch(p->gate + row + at);
      }
    }
  }
}


// the product for R rows of V vectors, both constants. Every third row has a pointer, since all of
// them would not stay in registers.
RGM_INLINE void multiply(const product *p, int64_t first, int R, int V, bool ahead) {
  rgm_lanes acc[ROWS][VECTORS];
  const float *a[(ROWS + 2) / 3], *panel = p->panel;
  const int64_t apart = p->a_row, step = p->a_step, stride = p->panel_stride;
  const float *c = p->c + first * p->c_stride;
  if (!p->resume) {
    fetch(p, first, R, V);
  }
  for (int r = 0; r < R; r++) {
    a[r / 3] = p->a + (first + r / 3 * 3) * apart;
    for (int v = 0; v < V; v++) {
      const int64_t at = v * RGM_LANE_WIDTH;
      acc[r][v] = p->resume          ? rgm_lanes_load(c + r * p->c_stride + at)
                  : p->start != NULL ? rgm_lanes_load(p->start + at)
                                     : rgm_lanes_set(0.0f);
    }
  }
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
      const rgm_lanes factor = rgm_lanes_set(a[r / 3][offset + r % 3 * apart]);
      for (int v = 0; v < V; v++) {
        acc[r][v] = rgm_lanes_fma(factor, column[v], acc[r][v]);
      }
    }
    if (ahead) {
      __builtin_prefetch(p->ahead[k], 1, 2);
    }
    panel += stride;
    offset += step;
  }
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V; v++) {
      const int64_t at = (first + r) * p->c_stride + v * RGM_LANE_WIDTH;
      rgm_lanes sum = p->relu ? rgm_lanes_relu(acc[r][v]) : acc[r][v];
      if (p->gate != NULL) {
        sum = rgm_lanes_where(rgm_lanes_positive(rgm_lanes_load(p->gate + at)), sum);
      }
      rgm_lanes_store(p->c + at, sum);
    }
  }
}


// the product for any number of rows up to ROWS, and VECTORS vectors or half of them
static void multiply_tile(const product *p, int64_t columns) {
  enum { SOME = ROWS / 3 > 0 ? ROWS / 3 : 1, HALF = VECTORS > 1 ? VECTORS / 2 : 1 };
  int row = 0;
  if (columns < COLUMNS) {
    for (; row + ROWS <= p->rows; row += ROWS) {
      multiply(p, row, ROWS, HALF, false);
    }
    for (; row < p->rows; row++) {
      multiply(p, row, 1, HALF, false);
    }
    return;
  }
  for (; row + ROWS <= p->rows && p->ahead != NULL; row += ROWS) {
    multiply(p, row, ROWS, VECTORS, true);
  }
  for (; row + ROWS <= p->rows; row += ROWS) {
    multiply(p, row, ROWS, VECTORS, false);
  }
  for (; row + SOME <= p->rows; row += SOME) {
    multiply(p, row, SOME, VECTORS, false);
  }
  for (; row < p->rows; row++) {
    multiply(p, row, 1, VECTORS, false);
  }
}


// Lines begin ... end - 1 of rows of COLUMNS that lie `stride` apart, onto a list of `depth`; those
// that find no place are not asked for.
static void list_lines(const float **list, int64_t depth, const float *from, int64_t stride,
                       int64_t begin, int64_t end) {
  enum { PER_ROW = COLUMNS / LINE };
  int64_t k = 0;
  for (int64_t line = begin; line < end && k < depth; line++, k++) {
    list[k] = from + line / PER_ROW * stride + line % PER_ROW * LINE;
  }
  for (; k < depth; k++) {
    list[k] = from;
  }
}


// how many columns the panel from `first` on has: COLUMNS or, at the end, half of them
static int64_t panel_width(int64_t first, int64_t all) {
  return all - first < COLUMNS ? all - first : COLUMNS;
}


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

// panel[k] = w[k] for n rows of `width` columns
static void pack(float *panel, const float *w, int64_t stride, int64_t n, int64_t width) {
  for (int64_t k = 0; k < n; k++) {
    for (int64_t v = 0; v < width; v += RGM_LANE_WIDTH) {
      rgm_lanes_store(panel + k * COLUMNS + v, rgm_lanes_load(w + k * stride + v));
    }
  }
}


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
    if (packs) {
      pack(panel, w + depth * outputs, outputs, n, width);
    }
    p.panel = packs ? panel : w + depth * outputs;
    p.panel_stride = packs ? COLUMNS : outputs;
    for (int64_t row = begin; row < end; row += ROWS) {
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
  a.panels = (w.dims[1] + COLUMNS - 1) / COLUMNS;
  a.blocks = (dz.dims[1] + BLOCK - 1) / BLOCK;
  rgm_cpu_parallel(s, dz.dims[0] * a.panels * a.blocks, linear_dx_task, &a);
}


// sum[V] += rows of V vectors, in order, which are copied into `panel`
RGM_INLINE void sum_block(float *sum, const float *dz, int64_t stride, int64_t rows, float *panel,
                          int V) {
  rgm_lanes acc[VECTORS];
  for (int v = 0; v < V; v++) {
    acc[v] = rgm_lanes_load(sum + v * RGM_LANE_WIDTH);
  }
  for (int64_t row = 0; row < rows; row++) {
    for (int v = 0; v < V; v++) {
      const rgm_lanes x = rgm_lanes_load(dz + row * stride + v * RGM_LANE_WIDTH);
      acc[v] = rgm_lanes_add(acc[v], x);
      rgm_lanes_store(panel + row * COLUMNS + v * RGM_LANE_WIDTH, x);
    }
  }
  for (int v = 0; v < V; v++) {
    rgm_lanes_store(sum + v * RGM_LANE_WIDTH, acc[v]);
  }
}


// What a step reads of ROWS rows of a panel from `at` on, so that it is near when their gradient is
// done: parameters and first moments or, on a second pass, second moments and targets. Rows are
// short and far apart, so that nothing else sees them coming.
static void list_state(const float **list, int64_t depth, const rgm_adam_step *s, int64_t r,
                       int64_t at, bool second) {
  enum { LINES = ROWS * (COLUMNS / LINE) };
  const int64_t stride = s->p.dims[2], half = depth / 2;
  const rgm_tensor other = s->target.data != NULL ? s->target : s->p;
  list_lines(list, half, rgm_f32(second ? s->v : s->p, r) + at, stride, 0, LINES);
  list_lines(list + half, depth - half, rgm_f32(second ? other : s->m, r) + at, stride, 0, LINES);
}


// Inputs input ... input + count - 1 of a panel of dw over one block of rows, to `dw`; and db, a
// by-product of packing.
static void linear_dw_block(const linear_args *a, int64_t r, int64_t first, int64_t begin,
                            int64_t input, int64_t count, float *dw, int64_t stride, float *db) {
  enum { HALF = VECTORS > 1 ? VECTORS / 2 : 1 };
  const int64_t rows = a->x.dims[1], inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t width = panel_width(first, outputs);
  const int64_t end = begin + BLOCK < rows ? begin + BLOCK : rows;
  const float *ahead[SHORT];
  float panel[SHORT * COLUMNS] __attribute__((aligned(64)));
  for (int64_t v = 0; v < width; v++) {
    db[v] = 0.0f;
  }
  for (int64_t row = begin; row < end; row += SHORT) {
    const float *dz = rgm_f32(a->y, r) + row * outputs + first;
    const int64_t n = end - row < SHORT ? end - row : SHORT;
    if (width == COLUMNS) {
      sum_block(db, dz, outputs, n, panel, VECTORS);
    } else {
      sum_block(db, dz, outputs, n, panel, HALF);
    }
    product p = {.c_stride = stride, .a_row = 1, .a_step = inputs, .panel = panel};
    p.panel_stride = COLUMNS;
    p.depth = n;
    p.resume = row > begin;
    p.ahead = a->step != NULL && begin == 0 && width == COLUMNS ? ahead : NULL;
    for (int64_t i = 0; i < count; i += ROWS) {
      p.rows = (int)(count - i < ROWS ? count - i : ROWS);
      if (p.ahead != NULL) {
        list_state(ahead, n, a->step, r, (input + i) * outputs + first, row > begin);
      }
      p.a = rgm_f32(a->x, r) + row * inputs + input + i;
      p.c = dw + i * stride;
      multiply_tile(&p, width);
    }
  }
}


// GROUP inputs of a panel, at most, over all rows: db in row 0 of `sums`, dw in those below. Blocks
// of rows are added by the tree.
enum { GROUP = 16 * ROWS, SUMS = (GROUP + 1) * COLUMNS };

static void linear_dw_group(const linear_args *a, int64_t r, int64_t first, int64_t input,
                            int64_t count, float *sums) {
  const int64_t rows = a->x.dims[1];
  if (rows <= BLOCK) {
    linear_dw_block(a, r, first, 0, input, count, sums + COLUMNS, COLUMNS, sums);
    return;
  }
  float level[RGM_TREE_LEVELS * SUMS], block[SUMS];
  rgm_tree tree = {.size = (count + 1) * COLUMNS, .level = level};
  for (int64_t begin = 0; begin < rows; begin += BLOCK) {
    linear_dw_block(a, r, first, begin, input, count, block + COLUMNS, COLUMNS, block);
    rgm_tree_add(&tree, block);
  }
  rgm_tree_sum(&tree, sums);
}


// a panel of dw and db; one block of rows needs no memory in between
static void linear_dw_task(void *arg, int64_t index) {
  const linear_args *a = arg;
  const int64_t r = index / a->panels, first = index % a->panels * COLUMNS;
  const int64_t inputs = a->w.dims[1], outputs = a->w.dims[2];
  const size_t width = (size_t)panel_width(first, outputs) * sizeof(float);
  float *dw = rgm_f32(a->w, r) + first, *db = rgm_f32(a->b, r) + first;
  if (a->x.dims[1] <= BLOCK) {
    linear_dw_block(a, r, first, 0, 0, inputs, dw, outputs, db);
    return;
  }
  float sums[SUMS] = {0};
  for (int64_t input = 0; input < inputs; input += GROUP) {
    const int64_t count = inputs - input < GROUP ? inputs - input : GROUP;
    linear_dw_group(a, r, first, input, count, sums);
    for (int64_t i = 0; i < count; i++) {
      memcpy(dw + (input + i) * outputs, sums + (i + 1) * COLUMNS, width);
    }
  }
  memcpy(db, sums, width);
}


void RGM_CPU(linear_dw)(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz) {
  linear_args a = {.y = dz, .x = x, .w = dw, .b = db};
  a.panels = (dw.dims[2] + COLUMNS - 1) / COLUMNS;
  rgm_cpu_parallel(s, dw.dims[0] * a.panels, linear_dw_task, &a);
}


// ---- gradient, Adam and moving average in one --------------------------------------------------

typedef struct fused_args {
  linear_args linear; // its w has the shape of the weights
  const rgm_adam_step *step;
  int64_t groups; // of inputs
} fused_args;


// the gradient of a row of weights, with its decay
static void decay_row(const rgm_adam_step *s, int64_t r, int64_t at, int64_t width, float *g) {
  const float *p = rgm_f32(s->p, r) + at, decay = rgm_f32(s->decay, r)[0];
  _Pragma("GCC ivdep") for (int64_t i = 0; i < width; i++) {
    g[i] = rgm_fma(decay, p[i], g[i]);
  }
}


// one row of parameters of a panel, whose width is a constant where it is whole
static void step_row(const rgm_adam_step *s, int64_t r, int64_t at, int64_t width, const float *g,
                     rgm_adam_rates rates) {
  float *p = rgm_f32(s->p, r) + at, *m = rgm_f32(s->m, r) + at, *v = rgm_f32(s->v, r) + at;
  if (width == COLUMNS) {
    rgm_adam_apply(p, m, v, g, COLUMNS, rates);
  } else {
    rgm_adam_apply(p, m, v, g, width, rates);
  }
  if (s->target.data == NULL) {
    return;
  }
  if (width == COLUMNS) {
    rgm_ema_apply(rgm_f32(s->target, r) + at, p, COLUMNS, rgm_f32(s->rate, r)[0]);
  } else {
    rgm_ema_apply(rgm_f32(s->target, r) + at, p, width, rgm_f32(s->rate, r)[0]);
  }
}


static void linear_dw_adam_task(void *arg, int64_t index) {
  const fused_args *f = arg;
  const linear_args *a = &f->linear;
  const rgm_adam_step *s = f->step;
  const int64_t r = index / a->panels / f->groups, first = index % a->panels * COLUMNS;
  const int64_t input = index / a->panels % f->groups * GROUP;
  const int64_t inputs = a->w.dims[1], outputs = a->w.dims[2];
  const int64_t count = inputs - input < GROUP ? inputs - input : GROUP;
  const int64_t width = panel_width(first, outputs);
  if (rgm_u32(s->active, r)[0] == 0) {
    return;
  }
  const rgm_adam_rates rates =
      rgm_adam_rates_of(rgm_f32(s->lr, r)[0], rgm_f32(s->beta1, r)[0], rgm_f32(s->beta2, r)[0],
                        rgm_f32(s->eps, r)[0], rgm_u32(s->count, r)[0] + 1);
  float sums[SUMS];
  linear_dw_group(a, r, first, input, count, sums);
  for (int64_t i = 0; i < count; i++) {
    const int64_t at = (input + i) * outputs + first;
    float *g = sums + (i + 1) * COLUMNS;
    if (s->decay.data != NULL) {
      decay_row(s, r, at, width, g);
    }
    step_row(s, r, at, width, g, rates);
  }
  if (input + count == inputs) {
    step_row(s, r, inputs * outputs + first, width, sums, rates);
  }
}


void RGM_CPU(linear_dw_adam)(rgm_stream *s, const rgm_adam_step *step, rgm_tensor x,
                             rgm_tensor dz) {
  fused_args f = {.linear = {.y = dz, .x = x, .w = step->p}, .step = step};
  f.linear.w.dims[1]--;
  f.linear.step = step;
  f.linear.panels = (f.linear.w.dims[2] + COLUMNS - 1) / COLUMNS;
  f.groups = (f.linear.w.dims[1] + GROUP - 1) / GROUP;
  rgm_cpu_parallel(s, f.linear.w.dims[0] * f.linear.panels * f.groups, linear_dw_adam_task, &f);
}
