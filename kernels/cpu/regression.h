// SPDX-License-Identifier: Apache-2.0
// The loops of regressions over rows of a group, a template over the type of the design: REAL with
// its vectors (FIT_VECTOR ...), functions named by FIT(name). For regression.c alone, which
// includes it once for double and once for float.

// a tile of rows: what IRLS and least squares weight products and columns by
typedef struct FIT(tile) {
  REAL eta[FIT_TILE * RGM_FIT_LANES];
  REAL weight[FIT_TILE * RGM_FIT_LANES];
  REAL right[FIT_TILE * RGM_FIT_LANES];
  REAL count[FIT_TILE * RGM_FIT_LANES];
  uint8_t bytes[FIT_TILE * RGM_FIT_LANES];
} FIT(tile);


// the counts of a tile's rows as numbers
static void FIT(gather)(FIT(tile) * t, const uint8_t *counts, const uint32_t *row, int64_t rows) {
  for (int64_t i = 0; i < rows; i++) {
    memcpy(t->bytes + i * RGM_FIT_LANES, counts + (int64_t)row[i] * RGM_FIT_LANES, RGM_FIT_LANES);
  }
  for (int64_t i = 0; i < rows * RGM_FIT_LANES; i++) {
    t->count[i] = (REAL)(int32_t)t->bytes[i];
  }
}


// sum[e] += weight_i z_ie for `entries` columns from z on, whose rows are `stride` apart
RGM_INLINE void FIT(part)(REAL *sum, const REAL *weight, const REAL *z, int64_t rows,
                          int64_t stride, const int entries) {
  FIT_VECTOR s[FIT_ENTRIES][FIT_VECTORS];
#pragma GCC unroll 16
  for (int e = 0; e < entries; e++) {
#pragma GCC unroll 16
    for (int v = 0; v < FIT_VECTORS; v++) {
      s[e][v] = FIT_LOAD(sum + e * RGM_FIT_LANES + v * FIT_WIDTH);
    }
  }
  for (int64_t i = 0; i < rows; i++) {
    FIT_VECTOR w[FIT_VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < FIT_VECTORS; v++) {
      w[v] = FIT_LOAD(weight + i * RGM_FIT_LANES + v * FIT_WIDTH);
    }
#pragma GCC unroll 16
    for (int e = 0; e < entries; e++) {
      const FIT_VECTOR factor = FIT_SET(z[i * stride + e]);
#pragma GCC unroll 16
      for (int v = 0; v < FIT_VECTORS; v++) {
        s[e][v] = FIT_FMA(factor, w[v], s[e][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int e = 0; e < entries; e++) {
#pragma GCC unroll 16
    for (int v = 0; v < FIT_VECTORS; v++) {
      FIT_STORE(sum + e * RGM_FIT_LANES + v * FIT_WIDTH, s[e][v]);
    }
  }
}


// the same for any number of columns
static void FIT(sums)(REAL *sum, const REAL *weight, const REAL *z, int64_t rows, int64_t columns) {
  int64_t e = 0;
  for (; e + FIT_ENTRIES <= columns; e += FIT_ENTRIES) {
    FIT(part)(sum + e * RGM_FIT_LANES, weight, z + e, rows, columns, FIT_ENTRIES);
  }
  for (; e + FIT_SOME <= columns; e += FIT_SOME) {
    FIT(part)(sum + e * RGM_FIT_LANES, weight, z + e, rows, columns, FIT_SOME);
  }
  for (; e < columns; e++) {
    FIT(part)(sum + e * RGM_FIT_LANES, weight, z + e, rows, columns, 1);
  }
}


// eta = x beta of `count` rows, beta (columns, 16)
RGM_INLINE void FIT(score)(REAL *eta, const REAL *x, const REAL *beta, int64_t columns,
                           const int count) {
  FIT_VECTOR s[FIT_ROWS][FIT_VECTORS];
#pragma GCC unroll 16
  for (int i = 0; i < count; i++) {
#pragma GCC unroll 16
    for (int v = 0; v < FIT_VECTORS; v++) {
      s[i][v] = FIT_SET(0);
    }
  }
  for (int64_t j = 0; j < columns; j++) {
    FIT_VECTOR b[FIT_VECTORS];
#pragma GCC unroll 16
    for (int v = 0; v < FIT_VECTORS; v++) {
      b[v] = FIT_LOAD(beta + j * RGM_FIT_LANES + v * FIT_WIDTH);
    }
#pragma GCC unroll 16
    for (int i = 0; i < count; i++) {
      const FIT_VECTOR factor = FIT_SET(x[i * columns + j]);
#pragma GCC unroll 16
      for (int v = 0; v < FIT_VECTORS; v++) {
        s[i][v] = FIT_FMA(factor, b[v], s[i][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < count; i++) {
#pragma GCC unroll 16
    for (int v = 0; v < FIT_VECTORS; v++) {
      FIT_STORE(eta + i * RGM_FIT_LANES + v * FIT_WIDTH, s[i][v]);
    }
  }
}


static void FIT(scores)(REAL *eta, const REAL *x, const REAL *beta, int64_t rows, int64_t columns) {
  int64_t i = 0;
  for (; i + FIT_ROWS <= rows; i += FIT_ROWS) {
    FIT(score)(eta + i * RGM_FIT_LANES, x + i * columns, beta, columns, FIT_ROWS);
  }
  for (; i < rows; i++) {
    FIT(score)(eta + i * RGM_FIT_LANES, x + i * columns, beta, columns, 1);
  }
}


// the block's sums join the tree, in double
static void FIT(join)(fit_tree *tree, const REAL *block) {
  double wide[FIT_SUMS * RGM_FIT_LANES];
  for (int64_t i = 0; i < tree->size; i++) {
    wide[i] = (double)block[i];
  }
  tree_add(tree, wide);
}


// ---- logistic regression

// a tile's weights and right sides at beta, or in the first step at what all lanes start from
static void FIT(irls_tile)(const rgm_irls *f, int64_t g, int64_t first, int64_t rows,
                           const REAL *beta, bool shared, FIT(tile) * t) {
  const int64_t columns = f->x.dims[2];
  const REAL *x = (const REAL *)f->x.data + g * f->x.stride0 + first * columns;
  const double *label = (const double *)f->label.data + g * f->label.stride0 + first;
  const uint32_t *row = (const uint32_t *)f->rows.data + g * f->rows.stride0 + first;
  const uint8_t *counts = (const uint8_t *)f->counts.data + g * f->counts.stride0;
  FIT(gather)(t, counts, row, rows);
  if (shared) {
    for (int64_t i = 0; i < rows; i++) {
      REAL eta = 0;
      for (int64_t j = 0; j < columns; j++) {
        eta = FIT_FMA1(x[i * columns + j], beta[j * RGM_FIT_LANES], eta);
      }
      const REAL p = FIT_SIGMOID(eta), v = p * (1 - p), r = (REAL)label[i] - p;
      const REAL *c = t->count + i * RGM_FIT_LANES;
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        t->weight[i * RGM_FIT_LANES + l] = c[l] * v;
        t->right[i * RGM_FIT_LANES + l] = c[l] * r;
      }
    }
    return;
  }
  FIT(scores)(t->eta, x, beta, rows, columns);
  for (int64_t i = 0; i < rows * RGM_FIT_LANES; i++) {
    t->eta[i] = FIT_SIGMOID(t->eta[i]);
  }
  for (int64_t i = 0; i < rows; i++) {
    const REAL a = (REAL)label[i];
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      const REAL p = t->eta[i * RGM_FIT_LANES + l], count = t->count[i * RGM_FIT_LANES + l];
      t->weight[i * RGM_FIT_LANES + l] = count * (p * (1 - p));
      t->right[i * RGM_FIT_LANES + l] = count * (a - p);
    }
  }
}


// Hessian and gradient at beta: total (triangle + columns, 16)
static void FIT(irls_sums)(const rgm_irls *f, int64_t g, const double *beta, bool shared,
                           double *total) {
  const int64_t n = f->x.dims[1], columns = f->x.dims[2], triangle = columns * (columns + 1) / 2;
  const REAL *x = (const REAL *)f->x.data + g * f->x.stride0;
  const REAL *products = (const REAL *)f->products.data + g * f->products.stride0;
  double level[RGM_FIT_LEVELS + 1][FIT_SUMS * RGM_FIT_LANES];
  fit_tree tree = {.size = (triangle + columns) * RGM_FIT_LANES, .level = level};
  REAL block[FIT_SUMS * RGM_FIT_LANES], narrow[RGM_FIT_COLUMNS * RGM_FIT_LANES];
  FIT(tile) tile;
  for (int64_t j = 0; j < columns * RGM_FIT_LANES; j++) {
    narrow[j] = (REAL)beta[j];
  }
  for (int64_t first = 0; first < n; first += RGM_ROW_BLOCK) {
    const int64_t end = first + RGM_ROW_BLOCK < n ? first + RGM_ROW_BLOCK : n;
    memset(block, 0, (size_t)tree.size * sizeof *block);
    for (int64_t at = first; at < end; at += FIT_TILE) {
      const int64_t rows = at + FIT_TILE < end ? FIT_TILE : end - at;
      FIT(irls_tile)(f, g, at, rows, narrow, shared, &tile);
      FIT(sums)(block, tile.weight, products + at * triangle, rows, triangle);
      FIT(sums)(block + triangle * RGM_FIT_LANES, tile.right, x + at * columns, rows, columns);
    }
    FIT(join)(&tree, block);
  }
  tree_sum(&tree, total);
}


// ---- weighted least squares

// a tile's weights c w and right sides c w y
static void FIT(wls_tile)(const rgm_wls *f, int64_t g, int64_t first, int64_t rows,
                          const REAL *beta, FIT(tile) * t) {
  const uint32_t *row = (const uint32_t *)f->rows.data + g * f->rows.stride0 + first;
  const uint8_t *counts = (const uint8_t *)f->counts.data + g * f->counts.stride0;
  const double *y = (const double *)f->y.data + g * f->y.stride0;
  const double *given = (const double *)f->given.data + g * f->given.stride0 + first;
  const int64_t lanes = f->y.dims[2];
  const REAL cap = (REAL)f->cap;
  if (f->weighting != RGM_WEIGHT_NONE) {
    const int64_t columns = f->x.dims[2];
    const double *label = (const double *)f->label.data + g * f->label.stride0 + first;
    FIT(scores)
    (t->eta, (const REAL *)f->x.data + g * f->x.stride0 + first * columns, beta, rows, columns);
    // overlap: the probability of the other treatment; inverse: of the given one
    const REAL side = f->weighting == RGM_WEIGHT_OVERLAP ? 1 : -1;
    for (int64_t i = 0; i < rows; i++) {
      const REAL sign = label[i] != 0.0 ? -side : side;
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        t->eta[i * RGM_FIT_LANES + l] *= sign;
      }
    }
    for (int64_t i = 0; i < rows * RGM_FIT_LANES; i++) {
      t->eta[i] = FIT_SIGMOID(t->eta[i]);
    }
    if (f->weighting == RGM_WEIGHT_INVERSE) {
      for (int64_t i = 0; i < rows * RGM_FIT_LANES; i++) {
        const REAL w = 1 / t->eta[i];
        t->eta[i] = w > cap ? cap : w;
      }
    }
  }
  FIT(gather)(t, counts, row, rows);
  for (int64_t i = 0; i < rows; i++) {
    const REAL *c = t->count + i * RGM_FIT_LANES;
    const double *yi = y + (int64_t)row[i] * lanes;
    const REAL factor = f->given.data != NULL ? (REAL)given[i] : 1;
    REAL *w = t->weight + i * RGM_FIT_LANES, *right = t->right + i * RGM_FIT_LANES;
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      w[l] = c[l] * factor;
    }
    for (int l = 0; l < RGM_FIT_LANES && f->weighting != RGM_WEIGHT_NONE; l++) {
      w[l] *= t->eta[i * RGM_FIT_LANES + l];
    }
    if (lanes == 1) {
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        right[l] = w[l] * (REAL)yi[0];
      }
    } else {
      for (int l = 0; l < RGM_FIT_LANES; l++) {
        right[l] = w[l] * (REAL)yi[l];
      }
    }
  }
}


// Gram matrix, right side and sum of weights: total (triangle + columns + 1, 16)
static void FIT(wls_sums)(const rgm_wls *f, int64_t g, double *total) {
  const int64_t n = f->z.dims[1], columns = f->z.dims[2], triangle = columns * (columns + 1) / 2;
  const REAL *z = (const REAL *)f->z.data + g * f->z.stride0;
  const REAL *products = (const REAL *)f->products.data + g * f->products.stride0;
  const double *wide = (const double *)f->beta.data + g * f->beta.stride0;
  double level[RGM_FIT_LEVELS + 1][FIT_SUMS * RGM_FIT_LANES];
  fit_tree tree = {.size = (triangle + columns + 1) * RGM_FIT_LANES, .level = level};
  REAL block[FIT_SUMS * RGM_FIT_LANES], beta[RGM_FIT_COLUMNS * RGM_FIT_LANES];
  FIT(tile) tile;
  for (int64_t j = 0; f->weighting != RGM_WEIGHT_NONE && j < f->x.dims[2] * RGM_FIT_LANES; j++) {
    beta[j] = (REAL)wide[j];
  }
  for (int64_t first = 0; first < n; first += RGM_ROW_BLOCK) {
    const int64_t end = first + RGM_ROW_BLOCK < n ? first + RGM_ROW_BLOCK : n;
    REAL *right = block + triangle * RGM_FIT_LANES, *weight = right + columns * RGM_FIT_LANES;
    memset(block, 0, (size_t)tree.size * sizeof *block);
    for (int64_t at = first; at < end; at += FIT_TILE) {
      const int64_t rows = at + FIT_TILE < end ? FIT_TILE : end - at;
      FIT(wls_tile)(f, g, at, rows, beta, &tile);
      FIT(sums)(block, tile.weight, products + at * triangle, rows, triangle);
      FIT(sums)(right, tile.right, z + at * columns, rows, columns);
      for (int64_t i = 0; i < rows; i++) {
        for (int l = 0; l < RGM_FIT_LANES; l++) {
          weight[l] += tile.weight[i * RGM_FIT_LANES + l];
        }
      }
    }
    FIT(join)(&tree, block);
  }
  tree_sum(&tree, total);
}
