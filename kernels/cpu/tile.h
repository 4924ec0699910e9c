// SPDX-License-Identifier: Apache-2.0
// The register tile that linear layers and their gradients are made of: ROWS x COLUMNS sums that
// run over a packed panel. For the files of the CPU backend alone.

#ifndef RGM_TILE_H
#define RGM_TILE_H

#include "kernels/cpu/cpu.h"

// A tile that fills the registers: ROWS x VECTORS sums, a row's factor, VECTORS of the panel
#if RGM_LANES_ALONE
enum { ROWS = 4, VECTORS = 16 };
#elif RGM_LANE_PAIRS
enum { ROWS = 12, VECTORS = 2 };
#else
enum { ROWS = 6, VECTORS = 2 };
#endif

enum {
  COLUMNS = VECTORS * RGM_LANE_WIDTH,
  HALF = VECTORS > 1 ? VECTORS / 2 : 1, // vectors of a panel that is half as wide
  FEW = RGM_LANES_ALONE ? 1 : 2,        // rows that are taken WIDTH vectors at a time
  WIDTH = 4 * VECTORS,                  // of them
  WIDE = WIDTH * RGM_LANE_WIDTH,
  BLOCK = RGM_ROW_BLOCK, // rows that are summed in order
  SOON = 16,             // steps of depth after which a line that is asked for is there
  LINE = 16,             // floats of a line of the caches
};

// what a tile does beside its sums
enum {
  APART = 1, // asks for the panel's next rows, which lie apart
  KEEP = 2,  // copies the panel
  AHEAD = 4, // asks for lines that are needed later
};

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
  float *keep;               // a copy of the panel that is made on the way, COLUMNS apart; or NULL
  const float *const *ahead; // (depth) lines that are needed later, asked for on the way; or NULL
  int64_t ahead_offset;      // from each of them
} product;


// asks for what a tile writes, and for its gate, before its sums are formed
RGM_INLINE void fetch(const product *p, int R, int V) {
  for (int r = 0; r < R; r++) {
    const int64_t row = r * p->c_stride;
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
RGM_INLINE void multiply(const product *p, int R, int V, unsigned how) {
  rgm_lanes acc[ROWS][WIDTH];
  const float *a[(ROWS + 2) / 3], *panel = p->panel;
  const int64_t apart = p->a_row, step = p->a_step, stride = p->panel_stride;
  if (!p->resume) {
    fetch(p, R, V);
  }
  for (int r = 0; r < R; r++) {
    a[r / 3] = p->a + r / 3 * 3 * apart;
    for (int v = 0; v < V; v++) {
      const int64_t at = v * RGM_LANE_WIDTH;
      acc[r][v] = p->resume          ? rgm_lanes_load(p->c + r * p->c_stride + at)
                  : p->start != NULL ? rgm_lanes_load(p->start + at)
                                     : rgm_lanes_set(0.0f);
    }
  }
  int64_t offset = 0;
  for (int64_t k = 0; k < p->depth; k++) {
    rgm_lanes column[WIDTH];
    for (int v = 0; v < V; v++) {
      column[v] = rgm_lanes_load(panel + v * RGM_LANE_WIDTH);
      if (how & APART) {
        __builtin_prefetch(panel + SOON * stride + v * RGM_LANE_WIDTH);
      }
      if (how & KEEP) {
        rgm_lanes_store(p->keep + k * COLUMNS + v * RGM_LANE_WIDTH, column[v]);
      }
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
    if (how & AHEAD) {
      __builtin_prefetch(p->ahead[k] + p->ahead_offset, 0, 2);
    }
    panel += stride;
    offset += step;
  }
  for (int r = 0; r < R; r++) {
    for (int v = 0; v < V; v++) {
      const int64_t at = r * p->c_stride + v * RGM_LANE_WIDTH;
      rgm_lanes sum = p->relu ? rgm_lanes_relu(acc[r][v]) : acc[r][v];
      if (p->gate != NULL) {
        sum = rgm_lanes_where(rgm_lanes_positive(rgm_lanes_load(p->gate + at)), sum);
      }
      rgm_lanes_store(p->c + at, sum);
    }
  }
}


// Functions of their own: in a caller, or beside each other, their sums and pointers would lose
// their registers (an eighth of the speed).
__attribute__((noinline)) static void multiply_whole(const product *p) {
  multiply(p, ROWS, VECTORS, 0);
}


__attribute__((noinline)) static void multiply_ahead(const product *p) {
  multiply(p, ROWS, VECTORS, AHEAD);
}


__attribute__((noinline)) static void multiply_keep(const product *p) {
  multiply(p, ROWS, VECTORS, APART | KEEP);
}


// fewer than ROWS rows of V vectors; V is a constant
RGM_INLINE void multiply_some(const product *p, int V) {
#define RGM_TILE(n)             \
  case n:                       \
    if (n < ROWS) {             \
      multiply(p, n, V, APART); \
    }                           \
    break
  switch (p->rows) {
    RGM_TILE(1);
    RGM_TILE(2);
    RGM_TILE(3);
    RGM_TILE(4);
    RGM_TILE(5);
    RGM_TILE(6);
    RGM_TILE(7);
    RGM_TILE(8);
    RGM_TILE(9);
    RGM_TILE(10);
    RGM_TILE(11);
  }
#undef RGM_TILE
}


__attribute__((noinline)) static void multiply_part(const product *p) {
  multiply_some(p, VECTORS);
}


__attribute__((noinline)) static void multiply_half(const product *p) {
  if (p->rows < ROWS) {
    multiply_some(p, HALF);
  } else if (p->keep != NULL) {
    multiply(p, ROWS, HALF, APART | KEEP);
  } else {
    multiply(p, ROWS, HALF, 0);
  }
}


// The product for up to ROWS rows, and VECTORS vectors or half of them. A copy of the panel is made
// and lines are asked for where there are ROWS rows, the latter for VECTORS vectors.
static void multiply_tile(const product *p, int64_t columns) {
  if (columns < COLUMNS) {
    multiply_half(p);
  } else if (p->rows < ROWS) {
    multiply_part(p);
  } else if (p->keep != NULL) {
    multiply_keep(p);
  } else if (p->ahead != NULL) {
    multiply_ahead(p);
  } else {
    multiply_whole(p);
  }
}


// how many columns the panel from `first` on has: COLUMNS or, at the end, half of them
static inline int64_t panel_width(int64_t first, int64_t all) {
  return all - first < COLUMNS ? all - first : COLUMNS;
}

#endif
