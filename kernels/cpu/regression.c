// SPDX-License-Identifier: Apache-2.0
// Regressions with sixteen resamples in lanes. A task is a group: its pseudo-outcomes stay in the
// second-level cache from one stage to the next. Tiles of 64 rows: scores, weights, then the sums
// of twelve entries at a time in registers.

#include "kernels/cpu/cpu.h"
#include "kernels/logistic.h"

#include <string.h>

enum { FIT_TILE = 64, FIT_SUMS = RGM_FIT_TRIANGLE + RGM_FIT_COLUMNS + 1, FIT_STEPS = 25 };

#define FIT_TOLERANCE 1e-6
#define FIT_TOLERANCE32 1e-4
#define FIT_PIVOT 1e-12

// Pairwise sum of blocks as in rgm_tree, in double; the level above the fullest is the newcomer's.
typedef struct fit_tree {
  int64_t size, count;
  double (*level)[FIT_SUMS * RGM_FIT_LANES];
} fit_tree;


static void tree_add(fit_tree *tree, const double *block) {
  int level = 0;
  for (int64_t full = tree->count; full & 1; full >>= 1) {
    level++;
  }
  double *dst = tree->level[level];
  memcpy(dst, block, (size_t)tree->size * sizeof *dst);
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


#define REAL double
#define FIT(name) name##_f64
#define FIT_VECTOR rgm_lanes64
#define FIT_LOAD rgm_lanes64_load
#define FIT_STORE rgm_lanes64_store
#define FIT_SET rgm_lanes64_set
#define FIT_FMA rgm_lanes64_fma
#define FIT_FMA1 rgm_fma64
#define FIT_SIGMOID rgm_logistic64
#define FIT_WIDTH RGM_LANE64_WIDTH
#define FIT_VECTORS (RGM_FIT_LANES / RGM_LANE64_WIDTH)
#define FIT_ENTRIES (RGM_LANE64_WIDTH == 8 ? 12 : 3)
#define FIT_SOME (RGM_LANE64_WIDTH == 8 ? 3 : 2)
#define FIT_ROWS (RGM_LANE64_WIDTH == 8 ? 8 : 2)
#include "kernels/cpu/regression.h"
#undef REAL
#undef FIT
#undef FIT_VECTOR
#undef FIT_LOAD
#undef FIT_STORE
#undef FIT_SET
#undef FIT_FMA
#undef FIT_FMA1
#undef FIT_SIGMOID
#undef FIT_WIDTH
#undef FIT_VECTORS
#undef FIT_ENTRIES
#undef FIT_SOME
#undef FIT_ROWS

#define REAL float
#define FIT(name) name##_f32
#define FIT_VECTOR rgm_lanes
#define FIT_LOAD rgm_lanes_load
#define FIT_STORE rgm_lanes_store
#define FIT_SET rgm_lanes_set
#define FIT_FMA rgm_lanes_fma
#define FIT_FMA1 rgm_fma
#define FIT_SIGMOID rgm_logistic32
#define FIT_WIDTH RGM_LANE_WIDTH
#define FIT_VECTORS (RGM_FIT_LANES / RGM_LANE_WIDTH)
#define FIT_ENTRIES (RGM_LANE_WIDTH == 16 ? 16 : 6)
#define FIT_SOME 3
#define FIT_ROWS (RGM_LANE_WIDTH == 16 ? 8 : 4)
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


// sixteen systems at a time; right becomes the solution, NaN where a pivot is none
static void solve_lanes(double *gram, double *right, uint32_t *status, int64_t columns) {
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    status[l] = RGM_FIT_DONE;
  }
  for (int64_t j = 0; j < columns; j++) {
    double *pivot = ENTRY(gram, j, j), least[RGM_FIT_LANES], inverse[RGM_FIT_LANES];
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      least[l] = FIT_PIVOT * pivot[l];
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
              a->right.dims[1]);
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


static void gram_task(void *arg, int64_t g) {
  const solve_args *a = arg; // gram, right = products, status = weight
  const int64_t n = a->right.dims[1], entries = a->right.dims[2];
  const double *products = (const double *)a->right.data + g * a->right.stride0;
  const double *weight = (const double *)a->status.data + g * a->status.stride0;
  double level[RGM_FIT_LEVELS + 1][FIT_SUMS * RGM_FIT_LANES], block[FIT_SUMS * RGM_FIT_LANES];
  fit_tree tree = {.size = entries * RGM_FIT_LANES, .level = level};
  for (int64_t first = 0; first < n; first += RGM_ROW_BLOCK) {
    const int64_t rows = first + RGM_ROW_BLOCK < n ? RGM_ROW_BLOCK : n - first;
    memset(block, 0, (size_t)tree.size * sizeof *block);
    sums_f64(block, weight + first * RGM_FIT_LANES, products + first * entries, rows, entries);
    tree_add(&tree, block);
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
  const int64_t n = f->x.dims[1];
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


// a Newton step in the lanes that are on their way; true while any is
static bool move(double *beta, const double *step, const uint32_t *solved, uint32_t *status,
                 bool *arrived, uint32_t *steps, int64_t columns, double tolerance) {
  bool any = false;
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    if (arrived[l] || status[l] != RGM_FIT_DONE) {
      continue;
    }
    if (solved[l] != RGM_FIT_DONE) {
      status[l] = solved[l];
      continue;
    }
    double most = 0.0;
    for (int64_t j = 0; j < columns; j++) {
      const double by = step[j * RGM_FIT_LANES + l];
      beta[j * RGM_FIT_LANES + l] += by;
      most = rgm_abs64(by) > most ? rgm_abs64(by) : most;
    }
    steps[l]++;
    arrived[l] = most <= tolerance;
    any = any || !arrived[l];
  }
  return any;
}


static void irls_task(void *arg, int64_t g) {
  const rgm_irls *f = arg;
  const int64_t columns = f->x.dims[2], triangle = columns * (columns + 1) / 2;
  const double *start = (const double *)f->start.data + g * f->start.stride0;
  double *beta = (double *)f->beta.data + g * f->beta.stride0;
  uint32_t *status = rgm_u32(f->status, g), *steps = rgm_u32(f->steps, g), solved[RGM_FIT_LANES];
  double total[FIT_SUMS * RGM_FIT_LANES];
  bool arrived[RGM_FIT_LANES] = {false}, any = true;
  const bool wide = f->x.dtype == RGM_F64;
  look_for_treatments(f, g, status);
  memset(steps, 0, RGM_FIT_LANES * sizeof *steps);
  for (int64_t j = 0; j < columns; j++) {
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      beta[j * RGM_FIT_LANES + l] = start[j];
    }
  }
  for (int step = 0; step < FIT_STEPS && any; step++) {
    if (wide) {
      irls_sums_f64(f, g, beta, step == 0, total);
    } else {
      irls_sums_f32(f, g, beta, step == 0, total);
    }
    double *right = total + triangle * RGM_FIT_LANES;
    solve_lanes(total, right, solved, columns);
    any = move(beta, right, solved, status, arrived, steps, columns,
               wide ? FIT_TOLERANCE : FIT_TOLERANCE32);
  }
  for (int l = 0; l < RGM_FIT_LANES; l++) {
    status[l] = status[l] == RGM_FIT_DONE && !arrived[l] ? RGM_FIT_SEPARATED : status[l];
  }
}


void RGM_CPU(irls)(rgm_stream *s, const rgm_irls *fit) {
  rgm_irls f = *fit;
  rgm_cpu_parallel(s, f.x.dims[0], irls_task, &f);
}


// ---- least squares and pseudo-outcomes ---------------------------------------------------------

static void wls_task(void *arg, int64_t g) {
  const rgm_wls *f = arg;
  const int64_t columns = f->z.dims[2], triangle = columns * (columns + 1) / 2;
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
  solve_lanes(total, right, rgm_u32(f->status, g), columns);
  memcpy((double *)f->coef.data + g * f->coef.stride0, right,
         (size_t)(columns * RGM_FIT_LANES) * sizeof *right);
}


void RGM_CPU(wls)(rgm_stream *s, const rgm_wls *fit) {
  rgm_wls f = *fit;
  rgm_cpu_parallel(s, f.z.dims[0], wls_task, &f);
}


static void pseudo_task(void *arg, int64_t g) {
  const rgm_pseudo *p = arg;
  const int64_t n = p->h.dims[1], columns = p->h.dims[2], all = p->y.dims[1];
  const int64_t lanes = p->from.dims[2];
  double *y = (double *)p->y.data + g * p->y.stride0;
  const double *from = (const double *)p->from.data + g * p->from.stride0;
  const double *h = (const double *)p->h.data + g * p->h.stride0;
  const double *psi = (const double *)p->coef.data + g * p->coef.stride0 + p->first * RGM_FIT_LANES;
  const double *label = (const double *)p->label.data + g * p->label.stride0;
  const uint32_t *row = rgm_u32(p->rows, g);
  if (y != from) {
    for (int64_t i = 0; i < all; i++) {
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        y[i * RGM_FIT_LANES + l] = from[i * lanes + (lanes == 1 ? 0 : l)];
      }
    }
  }
  for (int64_t i = 0; i < n; i++) {
    double gamma[RGM_FIT_LANES] = {0.0};
    for (int64_t j = 0; j < columns; j++) {
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        gamma[l] = rgm_fma64(h[i * columns + j], psi[j * RGM_FIT_LANES + l], gamma[l]);
      }
    }
    double *yi = y + (int64_t)row[i] * RGM_FIT_LANES;
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      yi[l] += (gamma[l] > 0.0 ? gamma[l] : 0.0) - label[i] * gamma[l];
    }
  }
}


void RGM_CPU(pseudo)(rgm_stream *s, const rgm_pseudo *pseudo) {
  rgm_pseudo p = *pseudo;
  rgm_cpu_parallel(s, p.y.dims[0], pseudo_task, &p);
}
