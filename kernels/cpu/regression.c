// SPDX-License-Identifier: Apache-2.0
// Regressions with sixteen resamples in lanes. A task is a group: its pseudo-outcomes stay in the
// second-level cache from one stage to the next. Tiles of 32 or 64 rows: scores and weights, eight
// vectors at a time since each is one long chain; products of columns; then their sums, up to
// thirteen by sixteen lanes in registers.

#include "kernels/cpu/cpu.h"
#include "kernels/logistic.h"
#include "kernels/rng.h"

#include <string.h>

enum { FIT_TILE32 = 64, FIT_TILE64 = 32, FIT_SUMS = RGM_FIT_TRIANGLE + RGM_FIT_COLUMNS + 1 };

// Pairwise sum of blocks as in rgm_tree, in double; the level above the fullest is the newcomer's.
typedef struct fit_tree {
  int64_t size, count;
  _Alignas(64) double block[FIT_SUMS * RGM_FIT_LANES]; // that joins next
  double level[RGM_FIT_LEVELS + 1][FIT_SUMS * RGM_FIT_LANES];
} fit_tree;


// an empty tree of sums of so many entries
static void tree_begin(fit_tree *tree, int64_t entries) {
  tree->size = entries * RGM_FIT_LANES;
  tree->count = 0;
}


static void tree_add(fit_tree *tree) {
  int level = 0;
  for (int64_t full = tree->count; full & 1; full >>= 1) {
    level++;
  }
  double *dst = tree->level[level];
  memcpy(dst, tree->block, (size_t)tree->size * sizeof *dst);
  for (int k = 0; k < level; k++) {
    const double *src = tree->level[k];
    for (int64_t i = 0; i < tree->size; i++) {
      dst[i] = src[i] + dst[i];
    }
  }
  tree->count++;
}


static void tree_sum(const fit_tree *tree, double *out) {
  bool any = false;
  memset(out, 0, (size_t)tree->size * sizeof *out);
  for (int k = 0; k <= RGM_FIT_LEVELS; k++) {
    if (tree->count >> k & 1) {
      const double *src = tree->level[k];
      for (int64_t i = 0; i < tree->size; i++) {
        out[i] = any ? src[i] + out[i] : src[i];
      }
      any = true;
    }
  }
}


// sums of at most 26 factors by vectors at a time
#define FIT_CASES \
  FIT_CASE(1)     \
  FIT_CASE(2)     \
  FIT_CASE(3)     \
  FIT_CASE(4)     \
  FIT_CASE(5)     \
  FIT_CASE(6)     \
  FIT_CASE(7)     \
  FIT_CASE(8)     \
  FIT_CASE(9)     \
  FIT_CASE(10)    \
  FIT_CASE(11)    \
  FIT_CASE(12)    \
  FIT_CASE(13)

#define FIT_VECTORS (RGM_FIT_LANES / FIT_WIDTH)
#define FIT_CHAINS (RGM_LANE_WIDTH == 16 ? 8 : FIT_VECTORS > 4 ? FIT_VECTORS : 4)
#define FIT_ROWS (FIT_CHAINS / FIT_VECTORS)

#define REAL float
#define FIT(name) name##_f32
#define FIT_OP(name) rgm_lanes_##name
#define FIT_VECTOR rgm_lanes
#define FIT_LOAD rgm_lanes_load
#define FIT_STORE rgm_lanes_store
#define FIT_NARROW rgm_lanes_store
#define FIT_LOAD64 rgm_lanes_from64
#define FIT_SET rgm_lanes_set
#define FIT_ADD rgm_lanes_add
#define FIT_SUB rgm_lanes_sub
#define FIT_MUL rgm_lanes_mul
#define FIT_DIV rgm_lanes_div
#define FIT_MIN rgm_lanes_min
#define FIT_MAX rgm_lanes_max
#define FIT_FMA rgm_lanes_fma
#define FIT_FMA1 rgm_fma
#define FIT_SIGMOID rgm_logistic32
#define FIT_LIT(x) x##f
#define FIT_TILE FIT_TILE32
#define FIT_WIDTH RGM_LANE_WIDTH
#define FIT_ENTRIES (RGM_LANE_WIDTH == 16 ? 13 : RGM_LANE_WIDTH == 8 ? 5 : 1)
// rgm_exp_part_ of scalar.h
#define FIT_EXP_TERMS 0x1.6a23d6p-10f, 0x1.123a2p-7f, 0x1.5558f2p-5f, 0x1.555492p-3f, 0x1.fffffcp-2f
#define FIT_EXP_LEAST -87.0f
#define FIT_EXP_LOG2E 0x1.715476p+0f
#define FIT_EXP_MAGIC 0x1.8p+23f
#define FIT_EXP_HIGH -0x1.62e43p-1f
#define FIT_EXP_LOW 0x1.05c61p-29f
#define FIT_NEWTON 2
#include "kernels/cpu/regression.h"
#undef REAL
#undef FIT
#undef FIT_OP
#undef FIT_VECTOR
#undef FIT_LOAD
#undef FIT_STORE
#undef FIT_NARROW
#undef FIT_LOAD64
#undef FIT_SET
#undef FIT_ADD
#undef FIT_SUB
#undef FIT_MUL
#undef FIT_DIV
#undef FIT_MIN
#undef FIT_MAX
#undef FIT_FMA
#undef FIT_FMA1
#undef FIT_SIGMOID
#undef FIT_LIT
#undef FIT_TILE
#undef FIT_WIDTH
#undef FIT_ENTRIES
#undef FIT_EXP_TERMS
#undef FIT_EXP_LEAST
#undef FIT_EXP_LOG2E
#undef FIT_EXP_MAGIC
#undef FIT_EXP_HIGH
#undef FIT_EXP_LOW
#undef FIT_NEWTON

#define REAL double
#define FIT(name) name##_f64
#define FIT_OP(name) rgm_lanes64_##name
#define FIT_VECTOR rgm_lanes64
#define FIT_LOAD rgm_lanes64_load
#define FIT_STORE rgm_lanes64_store
#define FIT_NARROW rgm_lanes64_narrow
#define FIT_LOAD64 rgm_lanes64_load
#define FIT_SET rgm_lanes64_set
#define FIT_ADD rgm_lanes64_add
#define FIT_SUB rgm_lanes64_sub
#define FIT_MUL rgm_lanes64_mul
#define FIT_DIV rgm_lanes64_div
#define FIT_MIN rgm_lanes64_min
#define FIT_MAX rgm_lanes64_max
#define FIT_FMA rgm_lanes64_fma
#define FIT_FMA1 rgm_fma64
#define FIT_SIGMOID rgm_logistic64
#define FIT_LIT(x) x
#define FIT_TILE FIT_TILE64
#define FIT_WIDTH RGM_LANE64_WIDTH
#define FIT_ENTRIES (RGM_LANE64_WIDTH == 8 ? 13 : RGM_LANE64_WIDTH == 4 ? 3 : 1)
// rgm_exp64_part_ of scalar.h
#define FIT_EXP_TERMS                                                                          \
  0x1.ad7f393e88573p-26, 0x1.28ad9b3ef2749p-22, 0x1.71df25b66c101p-19, 0x1.a01999e2b7996p-16,  \
      0x1.a01a012a0e024p-13, 0x1.6c16c184388eap-10, 0x1.1111111127d1p-7, 0x1.555555555083fp-5, \
      0x1.55555555554f9p-3, 0x1.000000000000ap-1
#define FIT_EXP_LEAST -708.0
#define FIT_EXP_LOG2E 0x1.71547652b82fep+0
#define FIT_EXP_MAGIC 0x1.8p+52
#define FIT_EXP_HIGH -0x1.62e42fefa39efp-1
#define FIT_EXP_LOW -0x1.abc9e3b39803fp-56
#define FIT_NEWTON 3
#include "kernels/cpu/regression.h"


// ---- Cholesky ----------------------------------------------------------------------------------

#define ENTRY(matrix, i, j) ((matrix) + ((i) * ((i) + 1) / 2 + (j)) * RGM_FIT_LANES)

// row i of the factor up to column j: sum -= L_ik L_jk
static void subtract(double *sum, const double *gram, int64_t i, int64_t j) {
  for (int64_t k = 0; k < j; k++) {
    const double *a = ENTRY(gram, i, k), *b = ENTRY(gram, j, k);
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      sum[l] = rgm_fma64(-a[l], b[l], sum[l]);
    }
  }
}


// sixteen systems at a time; right becomes the solution, NaN where a pivot is at most `share` of
// its column
static void solve_lanes(double *gram, double *right, uint32_t *status, int64_t columns,
                        double share) {
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    status[l] = RGM_FIT_DONE;
  }
  for (int64_t j = 0; j < columns; j++) {
    double *pivot = ENTRY(gram, j, j), least[RGM_FIT_LANES], inverse[RGM_FIT_LANES];
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      least[l] = share * pivot[l];
    }
    subtract(pivot, gram, j, j);
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      status[l] = pivot[l] > least[l] ? status[l] : RGM_FIT_SINGULAR;
      pivot[l] = pivot[l] > least[l] ? rgm_sqrt64(pivot[l]) : rgm_from_bits64(0x7ff8000000000000u);
      inverse[l] = 1.0 / pivot[l];
    }
    for (int64_t i = j + 1; i < columns; i++) {
      double *entry = ENTRY(gram, i, j);
      subtract(entry, gram, i, j);
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        entry[l] *= inverse[l];
      }
    }
  }

  // L u = right, then L' x = u
  for (int64_t i = 0; i < columns; i++) {
    double *x = right + i * RGM_FIT_LANES;
    for (int64_t k = 0; k < i; k++) {
      const double *a = ENTRY(gram, i, k), *u = right + k * RGM_FIT_LANES;
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        x[l] = rgm_fma64(-a[l], u[l], x[l]);
      }
    }
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      x[l] /= ENTRY(gram, i, i)[l];
    }
  }
  for (int64_t i = columns - 1; i >= 0; i--) {
    double *x = right + i * RGM_FIT_LANES;
    for (int64_t k = i + 1; k < columns; k++) {
      const double *a = ENTRY(gram, k, i), *u = right + k * RGM_FIT_LANES;
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        x[l] = rgm_fma64(-a[l], u[l], x[l]);
      }
    }
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      x[l] /= ENTRY(gram, i, i)[l];
    }
  }
}


typedef struct solve_args {
  rgm_tensor gram, right, status;
} solve_args;


static void solve_task(void *arg, int64_t g) {
  const solve_args *a = arg;
  solve_lanes((double *)a->gram.data + g * a->gram.stride0,
              (double *)a->right.data + g * a->right.stride0, rgm_u32(a->status, g),
              a->right.dims[1], RGM_FIT_PIVOT);
}


void RGM_CPU(cholesky)(rgm_stream *s, rgm_tensor gram, rgm_tensor right, rgm_tensor status) {
  solve_args a = {gram, right, status};
  rgm_cpu_parallel(s, right.dims[0], solve_task, &a);
}


// ---- products and Gram matrices ----------------------------------------------------------------

static void products_task(void *arg, int64_t g) {
  const solve_args *a = arg;
  const int64_t n = a->gram.dims[1], columns = a->gram.dims[2];
  const double *z = (const double *)a->gram.data + g * a->gram.stride0;
  const float *z32 = (const float *)a->gram.data + g * a->gram.stride0;
  double *out = (double *)a->right.data + g * a->right.stride0;
  float *out32 = (float *)a->right.data + g * a->right.stride0;
  const bool wide = a->gram.dtype == RGM_F64;
  int64_t entry = 0;
  for (int64_t row = 0; row < n; row++) {
    for (int64_t i = 0; i < columns; i++) {
      for (int64_t j = 0; j <= i; j++, entry++) {
        if (wide) {
          out[entry] = z[row * columns + i] * z[row * columns + j];
        } else {
          out32[entry] = z32[row * columns + i] * z32[row * columns + j];
        }
      }
    }
  }
}


void RGM_CPU(products)(rgm_stream *s, rgm_tensor out, rgm_tensor z) {
  solve_args a = {.gram = z, .right = out};
  rgm_cpu_parallel(s, z.dims[0], products_task, &a);
}


// sums_f64 of rows of products that lie one after the other
static void sums_of_rows(double *sum, const double *weight, const double *products, int64_t rows,
                         int64_t entries) {
  int64_t parts = (entries + FIT_ENTRIES - 1) / FIT_ENTRIES;
  for (int64_t e = 0; parts > 0; parts--) {
    const int64_t size = (entries - e + parts - 1) / parts;
    double *to = sum + e * RGM_FIT_LANES;
    const double *from = products + e;
    e += size;
    switch (size) {
#define FIT_CASE(n)                                    \
  case n:                                              \
    if (n <= FIT_ENTRIES) {                            \
      part_f64(to, weight, from, rows, n, 1, entries); \
    }                                                  \
    break;
      FIT_CASES
#undef FIT_CASE
    }
  }
}


static void gram_task(void *arg, int64_t g) {
  const solve_args *a = arg; // gram, right = products, status = weight
  const int64_t n = a->right.dims[1], entries = a->right.dims[2];
  const double *products = (const double *)a->right.data + g * a->right.stride0;
  const double *weight = (const double *)a->status.data + g * a->status.stride0;
  fit_tree tree;
  tree_begin(&tree, entries);
  for (int64_t first = 0; first < n; first += RGM_ROW_BLOCK) {
    const int64_t end = first + RGM_ROW_BLOCK < n ? first + RGM_ROW_BLOCK : n;
    memset(tree.block, 0, (size_t)tree.size * sizeof *tree.block);
    sums_of_rows(tree.block, weight + first * RGM_FIT_LANES, products + first * entries,
                 end - first, entries);
    tree_add(&tree);
  }
  tree_sum(&tree, (double *)a->gram.data + g * a->gram.stride0);
}


void RGM_CPU(gram)(rgm_stream *s, rgm_tensor gram, rgm_tensor products, rgm_tensor weight) {
  solve_args a = {gram, products, weight};
  rgm_cpu_parallel(s, products.dims[0], gram_task, &a);
}


// ---- logistic regression -----------------------------------------------------------------------

// lanes in which only one treatment occurs have no fit
static void look_for_treatments(const rgm_irls *f, int64_t g, uint32_t *status) {
  const int64_t n = f->x.dims[2];
  const double *label = (const double *)f->label.data + g * f->label.stride0;
  const uint32_t *row = rgm_u32(f->rows, g);
  const uint8_t *counts = (const uint8_t *)f->counts.data + g * f->counts.stride0;
  uint32_t treated[RGM_FIT_LANES] = {0}, all[RGM_FIT_LANES] = {0};
  for (int64_t i = 0; i < n; i++) {
    const uint8_t *c = counts + (int64_t)row[i] * RGM_FIT_LANES;
    const uint32_t a = label[i] != 0.0;
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      treated[l] += a * c[l];
      all[l] += c[l];
    }
  }
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    const bool both = treated[l] > 0 && treated[l] < all[l];
    status[l] = both ? RGM_FIT_DONE : RGM_FIT_EMPTY;
  }
}


// Hessian in float and gradient in double at beta: total (triangle + columns, 16)
static void irls_sums_mixed(const irls_f64 *s, const float *narrow, double *total) {
  const int64_t n = s->f->x.dims[2], columns = s->f->x.dims[1];
  const int64_t triangle = columns * (columns + 1) / 2;
  _Alignas(64) float block[RGM_FIT_TRIANGLE * RGM_FIT_LANES];
  tile_f32 near;
  tile_f64 tile;
  fit_tree tree;
  tree_begin(&tree, triangle + columns);
  for (int64_t first = 0; first < n; first += RGM_ROW_BLOCK) {
    const int64_t end = first + RGM_ROW_BLOCK < n ? first + RGM_ROW_BLOCK : n;
    double *right = tree.block + triangle * RGM_FIT_LANES;
    memset(block, 0, (size_t)(triangle * RGM_FIT_LANES) * sizeof *block);
    memset(right, 0, (size_t)(columns * RGM_FIT_LANES) * sizeof *right);
    for (int64_t at = first; at < end; at += FIT_TILE32) {
      near.rows = at + FIT_TILE32 < end ? FIT_TILE32 : end - at;
      for (int64_t half = 0; half < near.rows; half += FIT_TILE64) {
        tile.rows = half + FIT_TILE64 < near.rows ? FIT_TILE64 : near.rows - half;
        take_f64(tile.z, s->x, n, at + half, tile.rows, columns);
        find_f64(&tile, s->row, s->label, at + half);
        irls_tile_f64(s, s->beta, &tile, near.weight + half * RGM_FIT_LANES);
        sums_f64(right, tile.right, tile.z, tile.rows, columns);
      }
      take_f32(near.z, narrow, n, at, near.rows, columns);
      multiply_f32(near.products, near.z, 0, columns);
      sums_f32(block, near.weight, near.products, near.rows, triangle);
    }
    join_f32(&tree, block, 0, triangle);
    tree_add(&tree);
  }
  tree_sum(&tree, total);
}


// What sums are in: all in float; the Hessian in float, the gradient in double; all in double.
typedef enum fit_sort { FIT_NARROW_SUMS, FIT_MIXED_SUMS, FIT_WIDE_SUMS } fit_sort;

// A run of Newton steps in some lanes.
typedef struct fit_phase {
  fit_sort sort;
  int steps; // at most
  bool from_start;
  double tolerance, pivot;
} fit_phase;


// steps in the lanes that are `going`, which end with found DONE, SINGULAR or (too many) SEPARATED
static void iterate(const rgm_irls *f, int64_t g, const fit_phase *phase, bool *going,
                    uint32_t *found) {
  const int64_t columns = f->x.dims[1], triangle = columns * (columns + 1) / 2;
  const double *start = (const double *)f->start.data + g * f->start.stride0;
  double *beta = (double *)f->beta.data + g * f->beta.stride0;
  double total[FIT_SUMS * RGM_FIT_LANES], *right = total + triangle * RGM_FIT_LANES;
  uint32_t *steps = rgm_u32(f->steps, g), solved[RGM_FIT_LANES];
  const irls_f64 wide = irls_of_f64(f, g, f->x);
  const irls_f32 narrow = irls_of_f32(f, g, f->x.dtype == RGM_F32 ? f->x : f->near);
  bool any = false;
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    found[l] = RGM_FIT_SEPARATED;
    any = any || going[l];
    for (int64_t j = 0; j < columns && going[l] && phase->from_start; j++) {
      beta[j * RGM_FIT_LANES + l] = start[j];
    }
  }
  for (int step = 0; step < phase->steps && any; step++) {
    switch (phase->sort) {
    case FIT_NARROW_SUMS:
      irls_sums_f32(&narrow, step == 0, total);
      break;
    case FIT_MIXED_SUMS:
      irls_sums_mixed(&wide, narrow.x, total);
      break;
    case FIT_WIDE_SUMS:
      irls_sums_f64(&wide, step == 0, total);
    }
    solve_lanes(total, right, solved, columns, phase->pivot);
    any = false;
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      double most = 0.0;
      for (int64_t j = 0; j < columns && going[l] && solved[l] == RGM_FIT_DONE; j++) {
        const double by = right[j * RGM_FIT_LANES + l];
        beta[j * RGM_FIT_LANES + l] += by;
        most = rgm_abs64(by) > most ? rgm_abs64(by) : most;
      }
      if (going[l] && (solved[l] != RGM_FIT_DONE || most <= phase->tolerance)) {
        found[l] = solved[l];
        going[l] = false;
      }
      steps[l] += most > 0.0 ? 1 : 0;
      any = any || going[l];
    }
  }
}


static void irls_task(void *arg, int64_t g) {
  static const fit_phase near = {FIT_NARROW_SUMS, RGM_FIT_NEAR_STEPS, true, RGM_FIT_NEAR,
                                 RGM_FIT_NEAR_PIVOT};
  static const fit_phase mixed = {FIT_MIXED_SUMS, RGM_FIT_MIXED_STEPS, false,
                                  RGM_FIT_TOLERANCE_MIXED, RGM_FIT_NEAR_PIVOT};
  const rgm_irls *f = arg;
  const bool single = f->x.dtype == RGM_F32;
  const fit_phase whole = {single ? FIT_NARROW_SUMS : FIT_WIDE_SUMS, RGM_FIT_STEPS, true,
                           single ? RGM_FIT_TOLERANCE32 : RGM_FIT_TOLERANCE, RGM_FIT_PIVOT};
  uint32_t *status = rgm_u32(f->status, g), found[RGM_FIT_LANES];
  bool left[RGM_FIT_LANES], going[RGM_FIT_LANES];
  look_for_treatments(f, g, status);
  memset(rgm_u32(f->steps, g), 0, RGM_FIT_LANES * sizeof(uint32_t));
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    left[l] = going[l] = status[l] == RGM_FIT_DONE;
  }
  if (f->near.data != NULL) {
    iterate(f, g, &near, going, found);
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      going[l] = left[l] && found[l] == RGM_FIT_DONE;
    }
    iterate(f, g, &mixed, going, found);
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      left[l] = left[l] && found[l] != RGM_FIT_DONE;
    }
  }
  memcpy(going, left, sizeof going);
  iterate(f, g, &whole, going, found);
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    status[l] = left[l] ? found[l] : status[l];
  }
}


void RGM_CPU(irls)(rgm_stream *s, const rgm_irls *fit) {
  rgm_irls f = *fit;
  rgm_cpu_parallel(s, f.x.dims[0], irls_task, &f);
}


// ---- least squares and pseudo-outcomes ---------------------------------------------------------

static void wls_task(void *arg, int64_t g) {
  const rgm_wls *f = arg;
  const int64_t columns = f->z.dims[1], triangle = columns * (columns + 1) / 2;
  double total[FIT_SUMS * RGM_FIT_LANES], *right = total + triangle * RGM_FIT_LANES;
  if (f->z.dtype == RGM_F64) {
    wls_sums_f64(f, g, total);
  } else {
    wls_sums_f32(f, g, total);
  }
  if (f->weight.data != NULL) {
    memcpy((double *)f->weight.data + g * f->weight.stride0, right + columns * RGM_FIT_LANES,
           RGM_FIT_LANES * sizeof *right);
  }
  solve_lanes(total, right, rgm_u32(f->status, g), columns, RGM_FIT_PIVOT);
  memcpy((double *)f->coef.data + g * f->coef.stride0, right,
         (size_t)(columns * RGM_FIT_LANES) * sizeof *right);
}


void RGM_CPU(wls)(rgm_stream *s, const rgm_wls *fit) {
  rgm_wls f = *fit;
  rgm_cpu_parallel(s, f.z.dims[0], wls_task, &f);
}


static void pseudo_task(void *arg, int64_t g) {
  const rgm_pseudo *p = arg;
  const int64_t n = p->h.dims[2], columns = p->h.dims[1], all = p->y.dims[1];
  const int64_t lanes = p->from.dims[2];
  double *y = (double *)p->y.data + g * p->y.stride0;
  const double *from = (const double *)p->from.data + g * p->from.stride0;
  const double *h = (const double *)p->h.data + g * p->h.stride0;
  const double *psi = (const double *)p->coef.data + g * p->coef.stride0 + p->first * RGM_FIT_LANES;
  const double *label = (const double *)p->label.data + g * p->label.stride0;
  const uint32_t *row = rgm_u32(p->rows, g);
  for (int64_t i = 0; i < all && y != from; i++) {
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      y[i * RGM_FIT_LANES + l] = from[i * lanes + (lanes == 1 ? 0 : l)];
    }
  }
  for (int64_t i = 0; i < n; i++) {
    double *yi = y + (int64_t)row[i] * RGM_FIT_LANES;
    rgm_lanes64 gamma[RGM_FIT_LANES / RGM_LANE64_WIDTH];
#pragma GCC unroll 16
    for (int v = 0; v < RGM_FIT_LANES / RGM_LANE64_WIDTH; v++) {
      gamma[v] = rgm_lanes64_set(0.0);
    }
    for (int64_t j = 0; j < columns; j++) {
      const rgm_lanes64 factor = rgm_lanes64_set(h[j * n + i]);
#pragma GCC unroll 16
      for (int v = 0; v < RGM_FIT_LANES / RGM_LANE64_WIDTH; v++) {
        const double *b = psi + j * RGM_FIT_LANES + v * RGM_LANE64_WIDTH;
        gamma[v] = rgm_lanes64_fma(factor, rgm_lanes64_load(b), gamma[v]);
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < RGM_FIT_LANES / RGM_LANE64_WIDTH; v++) {
      const rgm_lanes64 regret =
          rgm_lanes64_sub(rgm_lanes64_max(gamma[v], rgm_lanes64_set(0.0)),
                          rgm_lanes64_mul(rgm_lanes64_set(label[i]), gamma[v]));
      double *at = yi + v * RGM_LANE64_WIDTH;
      rgm_lanes64_store(at, rgm_lanes64_add(rgm_lanes64_load(at), regret));
    }
  }
}


void RGM_CPU(pseudo)(rgm_stream *s, const rgm_pseudo *pseudo) {
  rgm_pseudo p = *pseudo;
  rgm_cpu_parallel(s, p.y.dims[0], pseudo_task, &p);
}


// ---- resamples ---------------------------------------------------------------------------------

enum { DRAWS = 64, OWN_ROWS = 8192 }; // draws at a time; rows whose counts have memory of their own

// one more in a count
static void count_one(uint8_t *count) {
  *count = (uint8_t)(*count + (*count < 255));
}


// one more of a cluster in a lane's counts, `stride` apart
static void count_unit(const rgm_resample *r, uint8_t *counts, uint32_t unit, int64_t stride) {
  const uint32_t *first = rgm_u32(r->first, 0), *members = rgm_u32(r->members, 0);
  for (uint32_t i = first[unit]; i < first[unit + 1]; i++) {
    count_one(counts + (int64_t)members[i] * stride);
  }
}


// words of the draws j ... j + DRAWS - 1 of a group's lanes: word[draw][lane]
static void draw_words(const rgm_resample *r, int64_t g, int64_t j,
                       uint32_t word[DRAWS][RGM_FIT_LANES]) {
  const rgm_key key = {r->key[0], r->key[1]};
  uint32_t item[RGM_FIT_LANES];
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    item[l] = (uint32_t)(g * RGM_FIT_LANES + l - 1);
  }
  for (int call = 0; call < DRAWS / 4; call++) {
    for (int l = 0; l < RGM_FIT_LANES; l += RGM_LANE_WIDTH) {
      rgm_lanes_u32 out[4];
      rgm_philox_lanes(key, r->step, rgm_lanes_u32_load(item + l), (uint32_t)(j / 4 + call), 0,
                       out);
      for (int k = 0; k < 4; k++) {
        rgm_lanes_u32_store(word[4 * call + k] + l, out[k]);
      }
    }
  }
}


// Which unit each word draws, the upper half of their product; false where one is drawn again.
static bool find_units(uint32_t word[DRAWS][RGM_FIT_LANES], uint32_t units,
                       uint32_t unit[DRAWS][RGM_FIT_LANES]) {
  const uint32_t *from = &word[0][0], refused = (0u - units) % units;
  uint32_t *to = &unit[0][0], again = 0;
  for (int i = 0; i < DRAWS * RGM_FIT_LANES; i++) {
    const uint64_t product = (uint64_t)from[i] * units;
    to[i] = (uint32_t)(product >> 32);
    again |= (uint32_t)product < refused;
  }
  return again == 0;
}


// draws j ... of a lane into its counts, `stride` apart
static void count_draws(const rgm_resample *r, int64_t g, int64_t j, int lane,
                        uint32_t word[DRAWS][RGM_FIT_LANES], uint8_t *counts, int64_t stride) {
  const uint32_t units = (uint32_t)r->units, refused = (0u - units) % units;
  const rgm_key key = {r->key[0], r->key[1]};
  const int many = r->draws - j < DRAWS ? (int)(r->draws - j) : DRAWS;
  for (int k = 0; k < many; k++) {
    const uint64_t product = (uint64_t)word[k][lane] * units;
    const bool taken = (uint32_t)product >= refused;
    const uint32_t unit = taken ? (uint32_t)(product >> 32)
                                : rgm_below(key, r->step, (uint32_t)(g * RGM_FIT_LANES + lane - 1),
                                            (uint32_t)(j + k + 1), units);
    if (r->first.data == NULL) {
      count_one(counts + (int64_t)unit * stride);
    } else {
      count_unit(r, counts, unit, stride);
    }
  }
}


// Draws of lanes low ... high - 1 into counts of rows, which lie together lane by lane. Counts are
// raised without a look at 255; a lane in which one has gone round to 0 lacks draws and is counted
// again, slowly.
static void count_rows(const rgm_resample *r, int64_t g, int low, int high, uint8_t *counts) {
  const int64_t rows = r->counts.dims[1];
  uint32_t word[DRAWS][RGM_FIT_LANES], unit[DRAWS][RGM_FIT_LANES];
  for (int64_t j = 0; j < r->draws; j += DRAWS) {
    const int many = r->draws - j < DRAWS ? (int)(r->draws - j) : DRAWS;
    draw_words(r, g, j, word);
    if (!find_units(word, (uint32_t)r->units, unit)) {
      for (int l = low; l < high; l++) {
        count_draws(r, g, j, l, word, counts + l * rows, 1);
      }
      continue;
    }
    for (int l = low; l < high; l++) {
      for (int k = 0; k < many; k++) {
        counts[l * rows + unit[k][l]]++;
      }
    }
  }
  for (int l = low; l < high; l++) {
    int64_t sum = 0;
    for (int64_t i = 0; i < rows; i++) {
      sum += counts[l * rows + i];
    }
    if (sum < r->draws) {
      memset(counts + l * rows, 0, (size_t)rows);
      for (int64_t j = 0; j < r->draws; j += DRAWS) {
        draw_words(r, g, j, word);
        count_draws(r, g, j, l, word, counts + l * rows, 1);
      }
    }
  }
}


// Lane by lane, in memory of its own where a lane's counts lie together in the first-level cache.
static void resample_task(void *arg, int64_t g) {
  const rgm_resample *r = arg;
  const int64_t all = r->counts.dims[1], end = r->replicates + 1 - g * RGM_FIT_LANES;
  uint8_t *counts = (uint8_t *)r->counts.data + g * r->counts.stride0;
  uint8_t own[RGM_FIT_LANES * OWN_ROWS];
  const bool near = all <= OWN_ROWS;
  uint8_t *to = near ? own : counts;
  const int64_t lane = near ? all : 1, stride = near ? 1 : RGM_FIT_LANES;

  // lanes that draw, and those that have the sample itself
  const int low = g == 0, high = end < 0 ? 0 : end > RGM_FIT_LANES ? RGM_FIT_LANES : (int)end;
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    for (int64_t i = 0; i < all; i++) {
      to[l * lane + i * stride] = l < low || l >= high;
    }
  }
  const bool quick = near && r->first.data == NULL && low < high;
  if (quick) {
    count_rows(r, g, low, high, own);
  }
  for (int64_t j = 0; j < r->draws && low < high && !quick; j += DRAWS) {
    uint32_t word[DRAWS][RGM_FIT_LANES];
    draw_words(r, g, j, word);
    for (int l = low; l < high; l++) {
      count_draws(r, g, j, l, word, to + l * lane, stride);
    }
  }
  for (int64_t i = 0; i < all && near; i++) {
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      counts[i * RGM_FIT_LANES + l] = own[l * all + i];
    }
  }
}


void RGM_CPU(resample)(rgm_stream *s, const rgm_resample *resample) {
  rgm_resample r = *resample;
  rgm_cpu_parallel(s, r.counts.dims[0], resample_task, &r);
}


// ---- all stages --------------------------------------------------------------------------------

// a tensor whose only slice is slice i
static rgm_tensor only(rgm_tensor t, int64_t i) {
  t.data = (double *)t.data + i * t.stride0;
  t.stride0 = 0;
  return t;
}


// the groups of a slice of y, one after the other: y stays in the second-level cache
static void staged_task(void *arg, int64_t slot) {
  const rgm_stages *f = arg;
  const int64_t groups = f->irls[0].x.dims[0], slots = f->y.dims[0];
  const rgm_tensor y = only(f->y, slot);
  for (int64_t g = groups * slot / slots; g < groups * (slot + 1) / slots; g++) {
    for (int k = f->stages - 1; k >= 0; k--) {
      rgm_irls irls = f->irls[k];
      rgm_wls wls = f->wls[k];
      wls.y = k < f->stages - 1 ? y : wls.y;
      irls_task(&irls, g);
      wls_task(&wls, g);
      if (k > 0) {
        rgm_pseudo pseudo = f->pseudo[k];
        pseudo.from = wls.y;
        pseudo.y = y;
        pseudo_task(&pseudo, g);
      }
    }
  }
}


void RGM_CPU(staged)(rgm_stream *s, const rgm_stages *staged) {
  rgm_stages f = *staged;
  rgm_cpu_parallel(s, f.y.dims[0], staged_task, &f);
}
