// SPDX-License-Identifier: Apache-2.0
// Gradients of linear layers by their parameters, alone or with the step that follows. Sums over
// rows go in order within a block of them, and by the tree over blocks, as kernels.h promises.
//
// One block: slopes are packed once, into panels; ROWS inputs at a time are packed beside them, and
// a tile's gradient leaves the registers only for its step, whose parameters, moments and targets
// have been asked for while it was summed. Many blocks: panel by panel, with sums of a group of
// inputs, small enough for the tree's levels.

#include "kernels/cpu/tile.h"

#include <string.h>

enum {
  SLOPES = 8 * COLUMNS,         // that are packed at a time
  SHORT = 128,                  // rows of a panel that stays near beside rows that lie apart
  GROUP = 16 * ROWS,            // inputs that go through the tree together
  SUMS = (GROUP + 1) * COLUMNS, // of a group: db, and below it dw
  STATES = 4,                   // p, m, v, target
};

typedef struct gradient_args {
  rgm_tensor dw, db, x, dz;  // of a step: dw has the shape of the weights, db is not there
  const rgm_adam_step *step; // what follows, or NULL
  int64_t panels, parts;     // of a replica
} gradient_args;


// ---- steps -------------------------------------------------------------------------------------

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


static rgm_adam_rates rates_of(const rgm_adam_step *s, int64_t r) {
  return rgm_adam_rates_of(rgm_f32(s->lr, r)[0], rgm_f32(s->beta1, r)[0], rgm_f32(s->beta2, r)[0],
                           rgm_f32(s->eps, r)[0], rgm_u32(s->count, r)[0] + 1);
}


// ---- packing -----------------------------------------------------------------------------------

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


static void sum_panel(float *sum, const float *dz, int64_t stride, int64_t rows, float *panel,
                      int64_t width) {
  if (width == COLUMNS) {
    sum_block(sum, dz, stride, rows, panel, VECTORS);
  } else {
    sum_block(sum, dz, stride, rows, panel, HALF);
  }
}


// packed[row] = x[row][0 ... count - 1], ROWS apart
static void pack_inputs(float *packed, const float *x, int64_t stride, int64_t rows,
                        int64_t count) {
  for (int64_t row = 0; row < rows && count == ROWS; row++) {
    memcpy(packed + row * ROWS, x + row * stride, ROWS * sizeof *x);
  }
  for (int64_t row = 0; row < rows && count < ROWS; row++) {
    memcpy(packed + row * ROWS, x + row * stride, (size_t)count * sizeof *x);
  }
}


// the slopes of `rows` rows and `wide` columns, packed into panels, and their sums over rows
static void pack_slopes(float *panels, float *db, const float *dz, int64_t stride, int64_t rows,
                        int64_t wide) {
  for (int64_t v = 0; v < wide; v++) {
    db[v] = 0.0f;
  }
  for (int64_t v = 0; v < wide; v += COLUMNS) {
    sum_panel(db + v, dz + v, stride, rows, panels + v * BLOCK, panel_width(v, wide));
  }
}


// ---- one block of rows -------------------------------------------------------------------------

// What a step reads of ROWS rows of a panel from `at` on: their lines, as far as there is room.
// Rows are short and far apart, so that nothing else sees them coming.
static void list_state(const float **list, int64_t depth, const rgm_adam_step *s, int64_t r,
                       int64_t at) {
  enum { LINES = ROWS * COLUMNS / LINE, ACROSS = COLUMNS / LINE };
  const rgm_tensor other = s->target.data != NULL ? s->target : s->p;
  const float *state[STATES] = {rgm_f32(s->p, r) + at, rgm_f32(s->m, r) + at, rgm_f32(s->v, r) + at,
                                rgm_f32(other, r) + at};
  const int64_t each = depth / STATES, stride = s->p.dims[2];
  for (int64_t k = 0; k < depth; k++) {
    list[k] = state[0];
  }
  for (int q = 0; q < STATES; q++) {
    for (int64_t line = 0; line < LINES && line < each; line++) {
      list[q * each + line] = state[q] + line / ACROSS * stride + line % ACROSS * LINE;
    }
  }
}


// what becomes of the gradient of `count` rows of weights of a panel
static void use_rows(const gradient_args *a, int64_t r, int64_t input, int64_t count, int64_t first,
                     int64_t width, float *sums, rgm_adam_rates rates) {
  const int64_t outputs = a->dw.dims[2];
  for (int64_t i = 0; i < count; i++) {
    const int64_t at = (input + i) * outputs + first;
    float *g = sums + i * COLUMNS;
    if (a->step == NULL) {
      memcpy(rgm_f32(a->dw, r) + at, g, (size_t)width * sizeof *g);
      continue;
    }
    if (a->step->decay.data != NULL) {
      decay_row(a->step, r, at, width, g);
    }
    step_row(a->step, r, at, width, g, rates);
  }
}


// inputs begin ... end - 1 for the slopes that are packed, columns first ... first + wide - 1
static void one_block(const gradient_args *a, int64_t r, int64_t begin, int64_t end, int64_t first,
                      int64_t wide, const float *panels, rgm_adam_rates rates) {
  const int64_t rows = a->x.dims[1], inputs = a->dw.dims[1], outputs = a->dw.dims[2];
  float packed[BLOCK * ROWS], tile[ROWS * COLUMNS] __attribute__((aligned(64)));
  const float *ahead[BLOCK];

  // one panel alone does not pay for packing
  const bool packs = wide > COLUMNS;
  for (int64_t input = begin; input < end; input += ROWS) {
    const float *x = rgm_f32(a->x, r) + input;
    product p = {.c = tile, .c_stride = COLUMNS, .a_row = 1, .panel_stride = COLUMNS};
    p.rows = (int)(end - input < ROWS ? end - input : ROWS);
    p.depth = rows;
    p.a = packs ? packed : x;
    p.a_step = packs ? ROWS : inputs;
    p.ahead = a->step != NULL && p.rows == ROWS ? ahead : NULL;
    if (packs) {
      pack_inputs(packed, x, inputs, rows, p.rows);
    }
    if (p.ahead != NULL) {
      list_state(ahead, rows, a->step, r, input * outputs + first);
    }
    for (int64_t v = 0; v < wide; v += COLUMNS) {
      const int64_t width = panel_width(v, wide);
      p.panel = panels + v * BLOCK;
      p.ahead_offset = v;
      multiply_tile(&p, width);
      use_rows(a, r, input, p.rows, first + v, width, tile, rates);
    }
  }
}


// what becomes of a panel's sums over rows of slopes
static void use_bias(const gradient_args *a, int64_t r, int64_t first, int64_t width,
                     const float *sums, rgm_adam_rates rates) {
  if (a->step != NULL) {
    step_row(a->step, r, a->dw.dims[1] * a->dw.dims[2] + first, width, sums, rates);
  } else {
    memcpy(rgm_f32(a->db, r) + first, sums, (size_t)width * sizeof *sums);
  }
}


// where part `part` of n begins, of so many numbers of which `unit` stay together
static int64_t part_begins(int64_t part, int64_t n, int64_t numbers, int64_t unit) {
  const int64_t begin = (numbers + unit - 1) / unit * part / n * unit;
  return begin < numbers ? begin : numbers;
}


// a part of the outputs and of the inputs; the first one of these has the bias too
static void one_block_task(const gradient_args *a, int64_t index, rgm_adam_rates rates) {
  const int64_t r = index / a->panels / a->parts, part = index / a->panels % a->parts;
  const int64_t inputs = a->dw.dims[1], outputs = a->dw.dims[2], panel = index % a->panels;
  const int64_t begin = part_begins(part, a->parts, inputs, ROWS);
  const int64_t last = part_begins(part + 1, a->parts, inputs, ROWS);
  const int64_t end = part_begins(panel + 1, a->panels, outputs, COLUMNS);
  float panels[BLOCK * SLOPES] __attribute__((aligned(64))), db[SLOPES];
  for (int64_t first = part_begins(panel, a->panels, outputs, COLUMNS); first < end;
       first += SLOPES) {
    const int64_t wide = end - first < SLOPES ? end - first : SLOPES;
    pack_slopes(panels, db, rgm_f32(a->dz, r) + first, outputs, a->x.dims[1], wide);
    one_block(a, r, begin, last, first, wide, panels, rates);
    for (int64_t v = 0; v < wide && part == 0; v += COLUMNS) {
      use_bias(a, r, first + v, panel_width(v, wide), db + v, rates);
    }
  }
}


// ---- many blocks -------------------------------------------------------------------------------

// inputs input ... input + count - 1 of a panel over one block of rows: db, and below it dw
static void sum_group(const gradient_args *a, int64_t r, int64_t first, int64_t begin,
                      int64_t input, int64_t count, float *sums) {
  const int64_t rows = a->x.dims[1], inputs = a->dw.dims[1], outputs = a->dw.dims[2];
  const int64_t width = panel_width(first, outputs);
  const int64_t end = begin + BLOCK < rows ? begin + BLOCK : rows;
  float panel[SHORT * COLUMNS] __attribute__((aligned(64)));
  for (int64_t v = 0; v < width; v++) {
    sums[v] = 0.0f;
  }
  for (int64_t row = begin; row < end; row += SHORT) {
    const int64_t n = end - row < SHORT ? end - row : SHORT;
    sum_panel(sums, rgm_f32(a->dz, r) + row * outputs + first, outputs, n, panel, width);
    product p = {.c_stride = COLUMNS, .a_row = 1, .a_step = inputs, .panel = panel};
    p.panel_stride = COLUMNS;
    p.depth = n;
    p.resume = row > begin;
    for (int64_t i = 0; i < count; i += ROWS) {
      p.rows = (int)(count - i < ROWS ? count - i : ROWS);
      p.a = rgm_f32(a->x, r) + row * inputs + input + i;
      p.c = sums + (i + 1) * COLUMNS;
      multiply_tile(&p, width);
    }
  }
}


// a panel of outputs for a group of inputs; the last group has the bias too
static void many_blocks_task(const gradient_args *a, int64_t index, rgm_adam_rates rates) {
  const int64_t r = index / a->panels / a->parts, first = index % a->panels * COLUMNS;
  const int64_t input = index / a->panels % a->parts * GROUP, inputs = a->dw.dims[1];
  const int64_t count = inputs - input < GROUP ? inputs - input : GROUP;
  const int64_t width = panel_width(first, a->dw.dims[2]);
  float level[RGM_TREE_LEVELS * SUMS], block[SUMS] = {0}, sums[SUMS];
  rgm_tree tree = {.size = (count + 1) * COLUMNS, .level = level};
  for (int64_t begin = 0; begin < a->x.dims[1]; begin += BLOCK) {
    sum_group(a, r, first, begin, input, count, block);
    rgm_tree_add(&tree, block);
  }
  rgm_tree_sum(&tree, sums);
  use_rows(a, r, input, count, first, width, sums + COLUMNS, rates);
  if (input + count == inputs) {
    use_bias(a, r, first, width, sums, rates);
  }
}


// ---- rows --------------------------------------------------------------------------------------

static void gradient_task(void *arg, int64_t index) {
  const gradient_args *a = arg;
  const int64_t r = index / a->panels / a->parts;
  rgm_adam_rates rates = {0};
  if (a->step != NULL) {
    if (rgm_u32(a->step->active, r)[0] == 0) {
      return;
    }
    rates = rates_of(a->step, r);
  }
  if (a->x.dims[1] <= BLOCK) {
    one_block_task(a, index, rates);
  } else {
    many_blocks_task(a, index, rates);
  }
}


// Threads that find no replica of their own share one by the longer side: each packs the shorter
// one for itself.
static void run(rgm_stream *s, gradient_args *a) {
  const int64_t inputs = a->dw.dims[1], outputs = a->dw.dims[2], replicas = a->dw.dims[0];
  if (a->x.dims[1] <= BLOCK) {
    const int64_t share = (rgm_cpu_threads(s) + replicas - 1) / replicas;
    const int64_t tiles = (inputs + ROWS - 1) / ROWS;
    const bool across = outputs > inputs && outputs >= share * COLUMNS;
    a->panels = across ? share : 1;
    a->parts = across ? 1 : share < tiles ? share : tiles;
  } else {
    a->panels = (outputs + COLUMNS - 1) / COLUMNS;
    a->parts = (inputs + GROUP - 1) / GROUP;
  }
  rgm_cpu_parallel(s, replicas * a->panels * a->parts, gradient_task, a);
}


void RGM_CPU(linear_dw)(rgm_stream *s, rgm_tensor dw, rgm_tensor db, rgm_tensor x, rgm_tensor dz) {
  gradient_args a = {.dw = dw, .db = db, .x = x, .dz = dz};
  run(s, &a);
}


void RGM_CPU(linear_dw_adam)(rgm_stream *s, const rgm_adam_step *step, rgm_tensor x,
                             rgm_tensor dz) {
  gradient_args a = {.dw = step->p, .x = x, .dz = dz, .step = step};
  a.dw.dims[1]--;
  run(s, &a);
}
