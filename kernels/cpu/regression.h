// SPDX-License-Identifier: Apache-2.0
// The loops of regressions over rows of a group, a template over the type of the design: REAL with
// its vectors (FIT_VECTOR ...), functions named by FIT(name). For regression.c alone, which
// includes it once for float and once for double.

// A tile of rows. Its columns and their products lie row after row, so that a sum takes a factor
// for all lanes from each; rows from `rows` on are 0 and are never summed.
typedef struct FIT(tile) {
  _Alignas(64) REAL weight[FIT_TILE * RGM_FIT_LANES];
  REAL right[FIT_TILE * RGM_FIT_LANES];
  REAL z[RGM_FIT_COLUMNS * FIT_TILE];
  REAL products[RGM_FIT_TRIANGLE * FIT_TILE];
  REAL label[FIT_TILE];
  uint32_t row[FIT_TILE];
  int64_t rows;
} FIT(tile);


// `columns` of a design whose columns are n long: rows first ... first + rows - 1
static void FIT(take)(REAL *z, const REAL *from, int64_t n, int64_t first, int64_t rows,
                      int64_t columns) {
  for (int64_t j = 0; j < columns; j++) {
    if (rows == FIT_TILE) {
      memcpy(z + j * FIT_TILE, from + j * n + first, FIT_TILE * sizeof *z);
    } else {
      memset(z + j * FIT_TILE, 0, FIT_TILE * sizeof *z);
      memcpy(z + j * FIT_TILE, from + j * n + first, (size_t)rows * sizeof *z);
    }
  }
}


// which rows of the counts a tile has, and their treatments (NULL: not wanted); beyond the
// end the first again
static void FIT(find)(FIT(tile) * t, const uint32_t *row, const double *label, int64_t first) {
  memcpy(t->row, row + first, (size_t)t->rows * sizeof *row);
  for (int64_t i = 0; i < t->rows && label != NULL; i++) {
    t->label[i] = (REAL)label[first + i];
  }
  for (int64_t i = t->rows; i < FIT_TILE; i++) {
    t->row[i] = t->row[0];
    t->label[i] = 0;
  }
}


// products of the columns of a tile: rows `from` to `columns` - 1 of the lower triangle
static void FIT(multiply)(REAL *products, const REAL *z, int64_t from, int64_t columns) {
  REAL *out = products;
  for (int64_t i = from; i < columns; i++) {
    for (int64_t j = 0; j <= i; j++, out += FIT_TILE) {
      for (int k = 0; k < FIT_TILE; k++) {
        out[k] = z[i * FIT_TILE + k] * z[j * FIT_TILE + k];
      }
    }
  }
}


// sum[e] += weight_i z_ei over rows for `entries` factors from z on, which lie `apart`; those of
// the next row lie a `step` further
RGM_INLINE void FIT(part)(REAL *sum, const REAL *weight, const REAL *z, int64_t rows,
                          const int entries, int64_t apart, int64_t step) {
  FIT_VECTOR s[FIT_ENTRIES][FIT_VECTORS];
#pragma GCC unroll 32
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
#pragma GCC unroll 32
    for (int e = 0; e < entries; e++) {
      const FIT_VECTOR factor = FIT_SET(z[e * apart + i * step]);
#pragma GCC unroll 16
      for (int v = 0; v < FIT_VECTORS; v++) {
        s[e][v] = FIT_FMA(factor, w[v], s[e][v]);
      }
    }
  }
#pragma GCC unroll 32
  for (int e = 0; e < entries; e++) {
#pragma GCC unroll 16
    for (int v = 0; v < FIT_VECTORS; v++) {
      FIT_STORE(sum + e * RGM_FIT_LANES + v * FIT_WIDTH, s[e][v]);
    }
  }
}


// the same over a tile for any number of factors, in parts of even size that fit into the registers
static void FIT(sums)(REAL *sum, const REAL *weight, const REAL *z, int64_t rows, int64_t entries) {
  int64_t parts = (entries + FIT_ENTRIES - 1) / FIT_ENTRIES;
  for (int64_t e = 0; parts > 0; parts--) {
    const int64_t size = (entries - e + parts - 1) / parts;
    REAL *to = sum + e * RGM_FIT_LANES;
    const REAL *from = z + e * FIT_TILE;
    e += size;
    switch (size) {
#define FIT_CASE(n)                                      \
  case n:                                                \
    if (n <= FIT_ENTRIES) {                              \
      FIT(part)(to, weight, from, rows, n, FIT_TILE, 1); \
    }                                                    \
    break;
      FIT_CASES
#undef FIT_CASE
    }
  }
}


// x = 1 / (1 + e^-x): rgm_logistic of kernels/logistic.h on `count` vectors at a time
RGM_INLINE void FIT(logistic)(FIT_VECTOR *x, const int count) {
  static const REAL terms[] = {FIT_EXP_TERMS};
  FIT_VECTOR t[FIT_CHAINS], r[FIT_CHAINS], q[FIT_CHAINS], e[FIT_CHAINS];
#define FIT_EACH _Pragma("GCC unroll 16") for (int i = 0; i < count; i++)
  FIT_EACH r[i] = FIT_MAX(FIT_SET(FIT_EXP_LEAST), FIT_OP(minus)(x[i]));
  FIT_EACH t[i] = FIT_FMA(r[i], FIT_SET(FIT_EXP_LOG2E), FIT_SET(FIT_EXP_MAGIC));
  FIT_EACH q[i] = FIT_SUB(t[i], FIT_SET(FIT_EXP_MAGIC));
  FIT_EACH r[i] = FIT_FMA(q[i], FIT_SET(FIT_EXP_HIGH), r[i]);
  FIT_EACH r[i] = FIT_FMA(q[i], FIT_SET(FIT_EXP_LOW), r[i]);
  FIT_EACH q[i] = FIT_SET(terms[0]);
#pragma GCC unroll 16
  for (size_t k = 1; k < sizeof terms / sizeof *terms; k++) {
    FIT_EACH q[i] = FIT_FMA(q[i], r[i], FIT_SET(terms[k]));
  }
  FIT_EACH q[i] = FIT_FMA(q[i], r[i], FIT_SET(1));
  FIT_EACH q[i] = FIT_FMA(q[i], r[i], FIT_SET(1));
  FIT_EACH e[i] = FIT_MUL(q[i], FIT_OP(power)(t[i]));

  // 1 / d by Newton's method
  FIT_EACH t[i] = FIT_ADD(FIT_SET(1), e[i]);
  FIT_EACH r[i] = FIT_FMA(FIT_SET(FIT_LIT(0.323223668)), t[i], FIT_SET(FIT_LIT(-1.454507104)));
  FIT_EACH r[i] = FIT_FMA(r[i], t[i], FIT_SET(FIT_LIT(2.121174134)));
  FIT_EACH t[i] = FIT_SUB(FIT_SET(-1), e[i]);
#pragma GCC unroll 4
  for (int k = 0; k < FIT_NEWTON; k++) {
    FIT_EACH q[i] = FIT_FMA(t[i], r[i], FIT_SET(1));
    FIT_EACH r[i] = FIT_FMA(r[i], q[i], r[i]);
  }
  FIT_EACH x[i] = FIT_OP(below)(x[i], FIT_MUL(e[i], r[i]), r[i]);
#undef FIT_EACH
}


// x'beta of FIT_ROWS rows of a tile from row i on, beta (columns, 16)
RGM_INLINE void FIT(score)(FIT_VECTOR eta[FIT_CHAINS], const REAL *x, const REAL *beta, int64_t i,
                           int64_t columns) {
#pragma GCC unroll 16
  for (int c = 0; c < FIT_CHAINS; c++) {
    eta[c] = FIT_SET(0);
  }
  for (int64_t j = 0; j < columns; j++) {
#pragma GCC unroll 16
    for (int c = 0; c < FIT_CHAINS; c++) {
      const FIT_VECTOR factor = FIT_SET(x[j * FIT_TILE + i + c / FIT_VECTORS]);
      const REAL *b = beta + j * RGM_FIT_LANES + c % FIT_VECTORS * FIT_WIDTH;
      eta[c] = FIT_FMA(factor, FIT_LOAD(b), eta[c]);
    }
  }
}


// ---- logistic regression

// A group's fit, in the type of its design.
typedef struct FIT(irls) {
  const rgm_irls *f;
  const REAL *x; // (P, n)
  const double *label;
  const uint32_t *row;
  const uint8_t *counts;
  const double *start, *beta; // (P), (P, 16)
} FIT(irls);


// group g, whose design is x
static FIT(irls) FIT(irls_of)(const rgm_irls *f, int64_t g, rgm_tensor x) {
  const FIT(irls) s = {
      .f = f,
      .x = (const REAL *)x.data + g * x.stride0,
      .label = (const double *)f->label.data + g * f->label.stride0,
      .row = rgm_u32(f->rows, g),
      .counts = (const uint8_t *)f->counts.data + g * f->counts.stride0,
      .start = (const double *)f->start.data + g * f->start.stride0,
      .beta = (const double *)f->beta.data + g * f->beta.stride0,
  };
  return s;
}


// weights c p (1 - p) and right sides c (a - p) of a tile; in `near`, unless NULL, the weights
RGM_INLINE void FIT(irls_tile)(const FIT(irls) * s, const REAL *beta, FIT(tile) * t, float *near) {
  const int64_t columns = s->f->x.dims[1];
  for (int64_t i = 0; i < t->rows; i += FIT_ROWS) {
    FIT_VECTOR p[FIT_CHAINS];
    FIT(score)(p, t->z, beta, i, columns);
    FIT(logistic)(p, FIT_CHAINS);
#pragma GCC unroll 16
    for (int c = 0; c < FIT_CHAINS; c++) {
      const int64_t at = i + c / FIT_VECTORS, lane = c % FIT_VECTORS * FIT_WIDTH;
      const int64_t out = at * RGM_FIT_LANES + lane;
      const FIT_VECTOR n = FIT_OP(bytes)(s->counts + (int64_t)t->row[at] * RGM_FIT_LANES + lane);
      const FIT_VECTOR v = FIT_MUL(n, FIT_MUL(p[c], FIT_SUB(FIT_SET(1), p[c])));
      if (near != NULL) {
        FIT_NARROW(near + out, v);
      } else {
        FIT_STORE(t->weight + out, v);
      }
      FIT_STORE(t->right + out, FIT_MUL(n, FIT_SUB(FIT_SET(t->label[at]), p[c])));
    }
  }
}


// the same at the start, where all lanes have the same propensity
static void FIT(irls_start)(const FIT(irls) * s, FIT(tile) * t) {
  const int64_t columns = s->f->x.dims[1];
  REAL p[FIT_TILE] = {0};
  for (int64_t j = 0; j < columns; j++) {
    for (int i = 0; i < FIT_TILE; i++) {
      p[i] = FIT_FMA1(t->z[j * FIT_TILE + i], (REAL)s->start[j], p[i]);
    }
  }
  for (int i = 0; i < FIT_TILE; i++) {
    p[i] = FIT_SIGMOID(p[i]);
  }
  for (int64_t i = 0; i < t->rows; i++) {
    const FIT_VECTOR v = FIT_SET(p[i] * (1 - p[i])), r = FIT_SET(t->label[i] - p[i]);
    const uint8_t *c = s->counts + (int64_t)t->row[i] * RGM_FIT_LANES;
#pragma GCC unroll 16
    for (int l = 0; l < RGM_FIT_LANES; l += FIT_WIDTH) {
      const FIT_VECTOR count = FIT_OP(bytes)(c + l);
      FIT_STORE(t->weight + i * RGM_FIT_LANES + l, FIT_MUL(count, v));
      FIT_STORE(t->right + i * RGM_FIT_LANES + l, FIT_MUL(count, r));
    }
  }
}


// sums of a block become the next ones of the tree, in double
static void FIT(join)(fit_tree *tree, const REAL *block, int64_t first, int64_t entries) {
  double *wide = tree->block + first * RGM_FIT_LANES;
  for (int64_t i = 0; i < entries * RGM_FIT_LANES; i++) {
    wide[i] = (double)block[i];
  }
}


// Hessian and gradient at beta: total (triangle + columns, 16)
static void FIT(irls_sums)(const FIT(irls) * s, bool first_step, double *total) {
  const int64_t n = s->f->x.dims[2], columns = s->f->x.dims[1];
  const int64_t triangle = columns * (columns + 1) / 2;
  _Alignas(64) REAL block[FIT_SUMS * RGM_FIT_LANES], beta[RGM_FIT_COLUMNS * RGM_FIT_LANES];
  fit_tree tree;
  FIT(tile) tile;
  tree_begin(&tree, triangle + columns);
  for (int64_t j = 0; j < columns * RGM_FIT_LANES; j++) {
    beta[j] = (REAL)s->beta[j];
  }
  for (int64_t first = 0; first < n; first += RGM_ROW_BLOCK) {
    const int64_t end = first + RGM_ROW_BLOCK < n ? first + RGM_ROW_BLOCK : n;
    memset(block, 0, (size_t)tree.size * sizeof *block);
    for (int64_t at = first; at < end; at += FIT_TILE) {
      tile.rows = at + FIT_TILE < end ? FIT_TILE : end - at;
      FIT(take)(tile.z, s->x, n, at, tile.rows, columns);
      FIT(find)(&tile, s->row, s->label, at);
      FIT(multiply)(tile.products, tile.z, 0, columns);
      if (first_step) {
        FIT(irls_start)(s, &tile);
      } else {
        FIT(irls_tile)(s, beta, &tile, NULL);
      }
      FIT(sums)(block, tile.weight, tile.products, tile.rows, triangle);
      FIT(sums)(block + triangle * RGM_FIT_LANES, tile.right, tile.z, tile.rows, columns);
    }
    FIT(join)(&tree, block, 0, triangle + columns);
    tree_add(&tree);
  }
  tree_sum(&tree, total);
}


// ---- weighted least squares

// A group's sums so far, in the type of its design, and its rows that have all columns.
typedef struct FIT(wls) {
  FIT(tile) tile, treated, propensity; // of the last one z alone
  _Alignas(64) REAL block[FIT_SUMS * RGM_FIT_LANES];
  REAL beta[RGM_FIT_COLUMNS * RGM_FIT_LANES];
  REAL sign[FIT_TILE], given[FIT_TILE]; // of the scores; factors of the weights
  const rgm_wls *f;
  int64_t g;
  const uint8_t *counts;
  const double *y;
} FIT(wls);


// a tile's weights c w and right sides c w y
RGM_INLINE void FIT(wls_tile)(const FIT(wls) * s, FIT(tile) * t, const rgm_weighting weighting) {
  const int64_t columns = s->f->x.dims[1], lanes = s->f->y.dims[2];
  const FIT_VECTOR cap = FIT_SET((REAL)s->f->cap);
  for (int64_t i = 0; i < t->rows; i += FIT_ROWS) {
    FIT_VECTOR p[FIT_CHAINS];
    if (weighting != RGM_WEIGHT_NONE) {
      FIT(score)(p, s->propensity.z, s->beta, i, columns);
#pragma GCC unroll 16
      for (int c = 0; c < FIT_CHAINS; c++) {
        p[c] = FIT_MUL(p[c], FIT_SET(s->sign[i + c / FIT_VECTORS]));
      }
      FIT(logistic)(p, FIT_CHAINS);
    }
#pragma GCC unroll 16
    for (int c = 0; c < FIT_CHAINS; c++) {
      const int64_t at = i + c / FIT_VECTORS, lane = c % FIT_VECTORS * FIT_WIDTH;
      const int64_t row = t->row[at];
      FIT_VECTOR w = FIT_OP(bytes)(s->counts + row * RGM_FIT_LANES + lane);
      if (s->f->given.data != NULL) {
        w = FIT_MUL(w, FIT_SET(s->given[at]));
      }
      if (weighting == RGM_WEIGHT_OVERLAP) {
        w = FIT_MUL(w, p[c]);
      } else if (weighting == RGM_WEIGHT_INVERSE) {
        w = FIT_MUL(w, FIT_MIN(cap, FIT_DIV(FIT_SET(1), p[c])));
      }
      const FIT_VECTOR y =
          lanes == 1 ? FIT_SET((REAL)s->y[row]) : FIT_LOAD64(s->y + row * RGM_FIT_LANES + lane);
      FIT_STORE(t->weight + at * RGM_FIT_LANES + lane, w);
      FIT_STORE(t->right + at * RGM_FIT_LANES + lane, FIT_MUL(w, y));
    }
  }
}


// the same with what it needs
static void FIT(wls_weigh)(FIT(wls) * s, int64_t first) {
  const rgm_wls *f = s->f;
  const double *label = (const double *)f->label.data + s->g * f->label.stride0 + first;
  const double *given = (const double *)f->given.data + s->g * f->given.stride0 + first;
  FIT(tile) *t = &s->tile;
  FIT(find)(t, rgm_u32(f->rows, s->g), NULL, first);
  for (int64_t i = 0; i < t->rows && f->given.data != NULL; i++) {
    s->given[i] = (REAL)given[i];
  }
  if (f->weighting == RGM_WEIGHT_NONE) {
    FIT(wls_tile)(s, t, RGM_WEIGHT_NONE);
    return;
  }
  // overlap: the probability of the other treatment; inverse: of the given one
  const REAL side = f->weighting == RGM_WEIGHT_OVERLAP ? 1 : -1;
  for (int64_t i = 0; i < t->rows; i++) {
    s->sign[i] = label[i] != 0.0 ? -side : side;
  }
  FIT(take)
  (s->propensity.z, (const REAL *)f->x.data + s->g * f->x.stride0, f->x.dims[2], first, t->rows,
   f->x.dims[1]);
  if (f->weighting == RGM_WEIGHT_OVERLAP) {
    FIT(wls_tile)(s, t, RGM_WEIGHT_OVERLAP);
  } else {
    FIT(wls_tile)(s, t, RGM_WEIGHT_INVERSE);
  }
}


// the treated rows that have gathered go into the sums of the columns that they alone have
static void FIT(wls_flush)(FIT(wls) * s) {
  const int64_t columns = s->f->z.dims[1], from = s->f->first;
  const int64_t triangle = columns * (columns + 1) / 2, skipped = from * (from + 1) / 2;
  FIT(tile) *t = &s->treated;
  FIT(multiply)(t->products, t->z, from, columns);
  FIT(sums)
  (s->block + skipped * RGM_FIT_LANES, t->weight, t->products, t->rows, triangle - skipped);
  FIT(sums)
  (s->block + (triangle + from) * RGM_FIT_LANES, t->right, t->z + from * FIT_TILE, t->rows,
   columns - from);
  t->rows = 0;
}


// a treated row joins those that have gathered
static void FIT(wls_gather)(FIT(wls) * s, int64_t first, int64_t i) {
  const int64_t n = s->f->z.dims[2], columns = s->f->z.dims[1];
  const REAL *z = (const REAL *)s->f->z.data + s->g * s->f->z.stride0 + first + i;
  FIT(tile) *t = &s->treated;
  for (int64_t j = 0; j < columns; j++) {
    t->z[j * FIT_TILE + t->rows] = z[j * n];
  }
  memcpy(t->weight + t->rows * RGM_FIT_LANES, s->tile.weight + i * RGM_FIT_LANES,
         RGM_FIT_LANES * sizeof *t->weight);
  memcpy(t->right + t->rows * RGM_FIT_LANES, s->tile.right + i * RGM_FIT_LANES,
         RGM_FIT_LANES * sizeof *t->right);
  if (++t->rows == FIT_TILE) {
    FIT(wls_flush)(s);
  }
}


// a tile joins the block's sums: its first columns, and of treated rows the others too
static void FIT(wls_add)(FIT(wls) * s, int64_t first) {
  const rgm_wls *f = s->f;
  const int64_t n = f->z.dims[2], columns = f->z.dims[1];
  const int64_t triangle = columns * (columns + 1) / 2;
  const REAL *z = (const REAL *)f->z.data + s->g * f->z.stride0;
  const double *label = (const double *)f->label.data + s->g * f->label.stride0 + first;
  FIT(tile) *t = &s->tile;
  FIT(wls_weigh)(s, first);
  FIT(take)(t->z, z, n, first, t->rows, f->first);
  FIT(multiply)(t->products, t->z, 0, f->first);
  FIT(sums)(s->block, t->weight, t->products, t->rows, f->first * (f->first + 1) / 2);
  FIT(sums)(s->block + triangle * RGM_FIT_LANES, t->right, t->z, t->rows, f->first);
  for (int64_t i = 0; i < t->rows && f->first < columns; i++) {
    if (label[i] != 0.0) {
      FIT(wls_gather)(s, first, i);
    }
  }
  REAL *sum = s->block + (triangle + columns) * RGM_FIT_LANES;
  for (int64_t i = 0; i < t->rows && f->weight.data != NULL; i++) {
    for (int l = 0; l < RGM_FIT_LANES; l++) {
      sum[l] += t->weight[i * RGM_FIT_LANES + l];
    }
  }
}


// Gram matrix, right side and sum of weights: total (triangle + columns + 1, 16)
static void FIT(wls_sums)(const rgm_wls *f, int64_t g, double *total) {
  const int64_t n = f->z.dims[2], columns = f->z.dims[1];
  const int64_t entries = columns * (columns + 1) / 2 + columns + 1;
  const double *beta = (const double *)f->beta.data + g * f->beta.stride0;
  fit_tree tree;
  FIT(wls) s;
  tree_begin(&tree, entries);
  s.f = f;
  s.g = g;
  s.counts = (const uint8_t *)f->counts.data + g * f->counts.stride0;
  s.y = (const double *)f->y.data + g * f->y.stride0;
  s.treated.rows = 0;
  memset(s.sign, 0, sizeof s.sign);
  memset(s.given, 0, sizeof s.given);
  for (int64_t j = 0; f->weighting != RGM_WEIGHT_NONE && j < f->x.dims[1] * RGM_FIT_LANES; j++) {
    s.beta[j] = (REAL)beta[j];
  }
  for (int64_t first = 0; first < n; first += RGM_ROW_BLOCK) {
    const int64_t end = first + RGM_ROW_BLOCK < n ? first + RGM_ROW_BLOCK : n;
    memset(s.block, 0, (size_t)tree.size * sizeof *s.block);
    for (int64_t at = first; at < end; at += FIT_TILE) {
      s.tile.rows = at + FIT_TILE < end ? FIT_TILE : end - at;
      FIT(wls_add)(&s, at);
    }
    FIT(wls_flush)(&s);
    FIT(join)(&tree, s.block, 0, entries);
    tree_add(&tree);
  }
  tree_sum(&tree, total);
}
