// SPDX-License-Identifier: Apache-2.0
// Regressions with sixteen resamples in lanes: a block is a group, its 256 threads sixteen lanes of
// sixteen parts. A tile of 64 rows gets its weights from all threads; then each thread sums its own
// entries of the Gram matrix over the tile in order, so that bits are those of the CPU. The systems
// are solved by the sixteen threads of part 0, a lane each.

#include "kernels/cuda/cuda.cuh"
#include "kernels/logistic.h"
#include "kernels/rng.h"

enum {
  THREADS = 256,
  LANES = RGM_FIT_LANES,
  PARTS = THREADS / LANES,
  TILE = 64,
  SUMS = RGM_FIT_TRIANGLE + RGM_FIT_COLUMNS + 1,
  MINE = (SUMS + PARTS - 1) / PARTS, // entries of a thread, at most
  GROUPS = RGM_CUDA_SCRATCH / 2 / (SUMS * LANES),
};

RGM_DEVICE float fit_fma(float a, float b, float c) {
  return rgm_fma(a, b, c);
}

RGM_DEVICE double fit_fma(double a, double b, double c) {
  return rgm_fma64(a, b, c);
}

RGM_DEVICE float fit_logistic(float x) {
  return rgm_logistic32(x);
}

RGM_DEVICE double fit_logistic(double x) {
  return rgm_logistic64(x);
}

// The start of group g.
template <class T> RGM_DEVICE T *fit_at(rgm_tensor t, int64_t g) {
  return static_cast<T *>(t.data) + g * t.stride0;
}


// ---- sums over rows ----------------------------------------------------------------------------

// What a block shares while it sums; numbers of a design in float are kept as doubles.
struct fit_tile {
  double weight[TILE][LANES], right[TILE][LANES];
};

// What is summed: products of columns by weights in H, columns by right sides in G, and (`ones`)
// the weights. `products` are given, or else those of the columns of `h`.
template <class H, class G> struct fit_sums {
  const H *products, *h; // (n, triangle); (columns, n)
  const G *x;            // (columns, n)
  int triangle, columns, ones;
  int64_t n;
};


// a block of rows joins the tree of this thread's entries
RGM_DEVICE void fit_join(double level[RGM_FIT_LEVELS + 1][MINE], int64_t count, int mine,
                         const double *block) {
  int top = 0;
  for (int64_t full = count; full & 1; full >>= 1) {
    top++;
  }
  for (int e = 0; e < mine; e++) {
    double sum = block[e];
    for (int k = 0; k < top; k++) {
      sum = level[k][e] + sum;
    }
    level[top][e] = sum;
  }
}


// an entry of the lower triangle: its row and column
RGM_DEVICE void fit_place(int entry, int64_t *row, int64_t *column) {
  int64_t i = 0;
  while ((i + 1) * (i + 2) / 2 <= entry) {
    i++;
  }
  *row = i;
  *column = entry - i * (i + 1) / 2;
}


// sum += the tile's part of an entry
template <class H, class G>
RGM_DEVICE double fit_part(const fit_sums<H, G> &f, const fit_tile *tile, int entry, int64_t at,
                           int rows, int lane, double begun) {
  const int column = entry - f.triangle;
  if (column >= 0 && column < f.columns) {
    G sum = (G)begun;
    for (int i = 0; i < rows; i++) {
      sum = fit_fma(f.x[column * f.n + at + i], (G)tile->right[i][lane], sum);
    }
    return (double)sum;
  }
  H sum = (H)begun;
  if (column >= 0) {
    for (int i = 0; i < rows; i++) {
      sum = fit_fma(H(1), (H)tile->weight[i][lane], sum);
    }
  } else if (f.products != nullptr) {
    for (int i = 0; i < rows; i++) {
      sum = fit_fma(f.products[(at + i) * f.triangle + entry], (H)tile->weight[i][lane], sum);
    }
  } else {
    int64_t a, b;
    fit_place(entry, &a, &b);
    for (int i = 0; i < rows; i++) {
      const H factor = f.h[a * f.n + at + i] * f.h[b * f.n + at + i];
      sum = fit_fma(factor, (H)tile->weight[i][lane], sum);
    }
  }
  return (double)sum;
}


// out (entries, 16) = the sums of all rows, weighed by weigh(row, lane, &weight, &right)
template <class H, class G, class WEIGH>
RGM_DEVICE void fit_all(const fit_sums<H, G> f, fit_tile *tile, WEIGH weigh, double *out) {
  const int lane = (int)threadIdx.x % LANES, part = (int)threadIdx.x / LANES;
  const int entries = f.triangle + f.columns + f.ones;
  const int mine = part < entries ? (entries - part + PARTS - 1) / PARTS : 0;
  double level[RGM_FIT_LEVELS + 1][MINE], block[MINE];
  int64_t count = 0;
  for (int64_t first = 0; first < f.n; first += RGM_ROW_BLOCK, count++) {
    const int64_t end = first + RGM_ROW_BLOCK < f.n ? first + RGM_ROW_BLOCK : f.n;
    for (int e = 0; e < mine; e++) {
      block[e] = 0.0;
    }
    for (int64_t at = first; at < end; at += TILE) {
      const int rows = (int)(at + TILE < end ? int64_t{TILE} : end - at);
      for (int i = part; i < rows; i += PARTS) {
        weigh(at + i, lane, &tile->weight[i][lane], &tile->right[i][lane]);
      }
      __syncthreads();
      for (int e = 0; e < mine; e++) {
        block[e] = fit_part(f, tile, e * PARTS + part, at, rows, lane, block[e]);
      }
      __syncthreads();
    }
    fit_join(level, count, mine, block);
  }
  for (int e = 0; e < mine; e++) {
    double sum = 0.0;
    bool any = false;
    for (int k = 0; k <= RGM_FIT_LEVELS; k++) {
      if (count >> k & 1) {
        sum = any ? level[k][e] + sum : level[k][e];
        any = true;
      }
    }
    out[(e * PARTS + part) * LANES + lane] = sum;
  }
  __syncthreads();
}


// ---- Cholesky ----------------------------------------------------------------------------------

RGM_DEVICE double *fit_entry(double *matrix, int64_t i, int64_t j) {
  return matrix + (i * (i + 1) / 2 + j) * LANES;
}


// one lane's system; right becomes the solution, NaN where a pivot is at most `share` of its column
RGM_DEVICE uint32_t fit_solve(double *gram, double *right, int64_t columns, double share,
                              int lane) {
  uint32_t status = RGM_FIT_DONE;
  for (int64_t j = 0; j < columns; j++) {
    double *pivot = fit_entry(gram, j, j) + lane;
    const double least = share * *pivot;
    double sum = *pivot;
    for (int64_t k = 0; k < j; k++) {
      const double a = fit_entry(gram, j, k)[lane];
      sum = rgm_fma64(-a, a, sum);
    }
    status = sum > least ? status : (uint32_t)RGM_FIT_SINGULAR;
    *pivot = sum > least ? rgm_sqrt64(sum) : rgm_from_bits64(0x7ff8000000000000u);
    const double inverse = 1.0 / *pivot;
    for (int64_t i = j + 1; i < columns; i++) {
      double *entry = fit_entry(gram, i, j) + lane, rest = *entry;
      for (int64_t k = 0; k < j; k++) {
        rest = rgm_fma64(-fit_entry(gram, i, k)[lane], fit_entry(gram, j, k)[lane], rest);
      }
      *entry = rest * inverse;
    }
  }
  for (int64_t i = 0; i < columns; i++) {
    double x = right[i * LANES + lane];
    for (int64_t k = 0; k < i; k++) {
      x = rgm_fma64(-fit_entry(gram, i, k)[lane], right[k * LANES + lane], x);
    }
    right[i * LANES + lane] = x / fit_entry(gram, i, i)[lane];
  }
  for (int64_t i = columns - 1; i >= 0; i--) {
    double x = right[i * LANES + lane];
    for (int64_t k = i + 1; k < columns; k++) {
      x = rgm_fma64(-fit_entry(gram, k, i)[lane], right[k * LANES + lane], x);
    }
    right[i * LANES + lane] = x / fit_entry(gram, i, i)[lane];
  }
  return status;
}


RGM_KERNEL(THREADS) cholesky_kernel(rgm_tensor gram, rgm_tensor right, rgm_tensor status) {
  RGM_ELEMENTS (i, right.dims[0] * LANES) {
    const int64_t g = i / LANES;
    const int lane = (int)(i % LANES);
    rgm_u32(status, g)[lane] = fit_solve(fit_at<double>(gram, g), fit_at<double>(right, g),
                                         right.dims[1], RGM_FIT_PIVOT, lane);
  }
}


void rgm_cuda_cholesky(rgm_stream *s, rgm_tensor gram, rgm_tensor right, rgm_tensor status) {
  const unsigned blocks = rgm_blocks(right.dims[0] * LANES, THREADS, 4096);
  RGM_LAUNCH(cholesky_kernel, blocks, THREADS, 0, s, gram, right, status);
}


// ---- products and Gram matrices ----------------------------------------------------------------

template <class REAL> RGM_KERNEL(THREADS) products_kernel(rgm_tensor out, rgm_tensor z) {
  const int64_t columns = z.dims[2], pairs = out.dims[2];
  RGM_REPLICAS (g, z.dims[0]) {
    RGM_ELEMENTS (row, z.dims[1]) {
      const REAL *from = fit_at<REAL>(z, g) + row * columns;
      REAL *to = fit_at<REAL>(out, g) + row * pairs;
      for (int64_t i = 0; i < columns; i++) {
        for (int64_t j = 0; j <= i; j++) {
          *to++ = from[i] * from[j];
        }
      }
    }
  }
}


void rgm_cuda_products(rgm_stream *s, rgm_tensor out, rgm_tensor z) {
  const dim3 grid(rgm_blocks(z.dims[1], THREADS, 4096), rgm_replica_blocks(z.dims[0]));
  if (z.dtype == RGM_F64) {
    RGM_LAUNCH(products_kernel<double>, grid, THREADS, 0, s, out, z);
  } else {
    RGM_LAUNCH(products_kernel<float>, grid, THREADS, 0, s, out, z);
  }
}


struct gram_weigh {
  const double *weight;
  RGM_DEVICE_MEMBER void operator()(int64_t row, int lane, double *w, double *right) const {
    *w = weight[row * LANES + lane];
    *right = 0.0;
  }
};


RGM_KERNEL(THREADS) gram_kernel(rgm_tensor gram, rgm_tensor products, rgm_tensor weight) {
  RGM_SHARED(fit_tile, tile, [1]);
  RGM_REPLICAS (g, products.dims[0]) {
    fit_sums<double, double> f = {};
    f.products = fit_at<double>(products, g);
    f.triangle = (int)products.dims[2];
    f.n = products.dims[1];
    gram_weigh weigh = {};
    weigh.weight = fit_at<double>(weight, g);
    fit_all(f, tile, weigh, fit_at<double>(gram, g));
  }
}


void rgm_cuda_gram(rgm_stream *s, rgm_tensor gram, rgm_tensor products, rgm_tensor weight) {
  const dim3 grid(1, rgm_replica_blocks(products.dims[0]));
  RGM_LAUNCH(gram_kernel, grid, THREADS, 0, s, gram, products, weight);
}


// ---- logistic regression -----------------------------------------------------------------------

// x'beta of a row of a design x (columns, n)
template <class REAL>
RGM_DEVICE REAL fit_score(const REAL *x, const double *beta, int64_t n, int64_t columns, int lane) {
  REAL eta = 0;
  for (int64_t j = 0; j < columns; j++) {
    eta = fit_fma(x[j * n], (REAL)beta[j * LANES + lane], eta);
  }
  return eta;
}


// weights and right sides in G, the weights for a Hessian in H
template <class H, class G> struct irls_weigh {
  const G *x;
  const double *label, *beta;
  const uint32_t *rows;
  const uint8_t *counts;
  int64_t n, columns;
  RGM_DEVICE_MEMBER void operator()(int64_t row, int lane, double *w, double *right) const {
    const G count = (G)(int32_t)counts[(int64_t)rows[row] * LANES + lane];
    const G p = fit_logistic(fit_score(x + row, beta, n, columns, lane));
    *w = (double)(H)(count * (p * (1 - p)));
    *right = (double)(count * ((G)label[row] - p));
  }
};


// lanes in which only one treatment occurs have no fit
RGM_DEVICE uint32_t fit_treatments(const rgm_irls &f, int64_t g, int lane) {
  const double *label = fit_at<double>(f.label, g);
  const uint32_t *rows = rgm_u32(f.rows, g);
  const uint8_t *counts = fit_at<uint8_t>(f.counts, g);
  uint32_t treated = 0, all = 0;
  for (int64_t i = 0; i < f.x.dims[2]; i++) {
    const uint32_t c = counts[(int64_t)rows[i] * LANES + lane];
    treated += label[i] != 0.0 ? c : 0u;
    all += c;
  }
  return (uint32_t)(treated > 0 && treated < all ? RGM_FIT_DONE : RGM_FIT_EMPTY);
}


// What a group's steps of Newton need, and where a lane's solving thread stands.
struct fit_newton {
  rgm_irls f;
  int64_t g;
  double *total; // work of a block: (SUMS, 16)
  fit_tile *tile;
  int *busy; // (16), shared
  bool going;
  uint32_t found;
};


// a step of one lane
RGM_DEVICE void fit_move(fit_newton *s, int64_t columns, double tolerance, double pivot, int lane) {
  double *beta = fit_at<double>(s->f.beta, s->g), most = 0.0;
  const double *step = s->total + columns * (columns + 1) / 2 * LANES;
  const uint32_t solved =
      fit_solve(s->total, s->total + columns * (columns + 1) / 2 * LANES, columns, pivot, lane);
  for (int64_t j = 0; j < columns && s->going && solved == RGM_FIT_DONE; j++) {
    const double by = step[j * LANES + lane];
    beta[j * LANES + lane] += by;
    most = rgm_abs64(by) > most ? rgm_abs64(by) : most;
  }
  if (s->going && (solved != RGM_FIT_DONE || most <= tolerance)) {
    s->found = solved;
    s->going = false;
  }
  rgm_u32(s->f.steps, s->g)[lane] += most > 0.0 ? 1u : 0u;
}


// true while any lane goes on
RGM_DEVICE bool fit_any(const fit_newton *s, bool solves, int lane) {
  if (solves) {
    s->busy[lane] = s->going;
  }
  __syncthreads();
  bool any = false;
  for (int l = 0; l < LANES; l++) {
    any = any || s->busy[l] != 0;
  }
  __syncthreads();
  return any;
}


// steps in the lanes that are `going`, which end with found DONE, SINGULAR or (too many) SEPARATED
template <class H, class G>
RGM_DEVICE void fit_iterate(fit_newton *s, const H *h, const G *x, int most_steps, bool from_start,
                            double tolerance, double pivot) {
  const int lane = (int)threadIdx.x % LANES;
  const bool solves = (int)threadIdx.x < LANES;
  const int64_t columns = s->f.x.dims[1];
  fit_sums<H, G> sums = {};
  sums.h = h;
  sums.x = x;
  sums.triangle = (int)(columns * (columns + 1) / 2);
  sums.columns = (int)columns;
  sums.n = s->f.x.dims[2];
  irls_weigh<H, G> weigh = {};
  weigh.x = x;
  weigh.label = fit_at<double>(s->f.label, s->g);
  weigh.beta = fit_at<double>(s->f.beta, s->g);
  weigh.rows = rgm_u32(s->f.rows, s->g);
  weigh.counts = fit_at<uint8_t>(s->f.counts, s->g);
  weigh.n = sums.n;
  weigh.columns = columns;
  s->found = RGM_FIT_SEPARATED;
  for (int64_t j = 0; j < columns && solves && s->going && from_start; j++) {
    fit_at<double>(s->f.beta, s->g)[j * LANES + lane] = fit_at<double>(s->f.start, s->g)[j];
  }
  bool any = fit_any(s, solves, lane);
  for (int step = 0; step < most_steps && any; step++) {
    fit_all(sums, s->tile, weigh, s->total);
    if (solves) {
      fit_move(s, columns, tolerance, pivot, lane);
    }
    any = fit_any(s, solves, lane);
  }
}


template <class REAL> RGM_KERNEL(THREADS) irls_kernel(rgm_irls f, double *work, double tolerance) {
  RGM_SHARED(fit_tile, tile, [1]);
  RGM_SHARED(int, busy, [LANES]);
  const int lane = (int)threadIdx.x % LANES;
  const bool solves = (int)threadIdx.x < LANES;
  fit_newton s = {};
  s.f = f;
  s.total = work + (int64_t)blockIdx.y * (SUMS * LANES);
  s.tile = tile;
  s.busy = busy;
  RGM_REPLICAS (g, f.x.dims[0]) {
    const REAL *x = fit_at<REAL>(f.x, g);
    uint32_t *status = rgm_u32(f.status, g) + lane;
    bool left = false;
    s.g = g;
    if (solves) {
      *status = fit_treatments(f, g, lane);
      rgm_u32(f.steps, g)[lane] = 0;
      left = *status == RGM_FIT_DONE;
    }
    s.going = left;
    if (f.near.data != nullptr) {
      const float *near = fit_at<float>(f.near, g);
      fit_iterate(&s, near, near, RGM_FIT_NEAR_STEPS, true, RGM_FIT_NEAR, RGM_FIT_NEAR_PIVOT);
      s.going = left && s.found == RGM_FIT_DONE;
      fit_iterate(&s, near, x, RGM_FIT_MIXED_STEPS, false, RGM_FIT_TOLERANCE_MIXED,
                  RGM_FIT_NEAR_PIVOT);
      left = left && s.found != RGM_FIT_DONE;
    }
    s.going = left;
    fit_iterate(&s, x, x, RGM_FIT_STEPS, true, tolerance, RGM_FIT_PIVOT);
    if (solves && left) {
      *status = s.found;
    }
    __syncthreads();
  }
}


void rgm_cuda_irls(rgm_stream *s, const rgm_irls *fit) {
  const dim3 grid(1, rgm_blocks(fit->x.dims[0], 1, GROUPS));
  double *work = reinterpret_cast<double *>(rgm_cuda_scratch(s));
  if (fit->x.dtype == RGM_F64) {
    RGM_LAUNCH(irls_kernel<double>, grid, THREADS, 0, s, *fit, work, RGM_FIT_TOLERANCE);
  } else {
    RGM_LAUNCH(irls_kernel<float>, grid, THREADS, 0, s, *fit, work, RGM_FIT_TOLERANCE32);
  }
}


// ---- least squares and pseudo-outcomes ---------------------------------------------------------

template <class REAL> struct wls_weigh {
  const REAL *x;
  const double *label, *beta, *given, *y;
  const uint32_t *rows;
  const uint8_t *counts;
  int64_t n, columns, lanes;
  rgm_weighting weighting;
  REAL cap;
  RGM_DEVICE_MEMBER void operator()(int64_t row, int lane, double *w, double *right) const {
    const int64_t at = rows[row];
    REAL weight = (REAL)(int32_t)counts[at * LANES + lane] * (given ? (REAL)given[row] : REAL(1));
    if (weighting != RGM_WEIGHT_NONE) {
      // overlap: the probability of the other treatment; inverse: of the given one
      const REAL side = weighting == RGM_WEIGHT_OVERLAP ? 1 : -1;
      const REAL eta = fit_score(x + row, beta, n, columns, lane);
      REAL p = fit_logistic(eta * (label[row] != 0.0 ? -side : side));
      if (weighting == RGM_WEIGHT_INVERSE) {
        p = 1 / p;
        p = p > cap ? cap : p;
      }
      weight *= p;
    }
    *w = (double)weight;
    *right = (double)(weight * (REAL)y[at * lanes + (lanes == 1 ? 0 : lane)]);
  }
};


template <class REAL> RGM_KERNEL(THREADS) wls_kernel(rgm_wls f, double *work) {
  RGM_SHARED(fit_tile, tile, [1]);
  const int lane = (int)threadIdx.x % LANES;
  const int64_t columns = f.z.dims[1], triangle = columns * (columns + 1) / 2;
  double *total = work + (int64_t)blockIdx.y * (SUMS * LANES);
  RGM_REPLICAS (g, f.z.dims[0]) {
    fit_sums<REAL, REAL> sums = {};
    sums.h = fit_at<REAL>(f.z, g);
    sums.x = sums.h;
    sums.triangle = (int)triangle;
    sums.columns = (int)columns;
    sums.ones = 1;
    sums.n = f.z.dims[2];
    wls_weigh<REAL> weigh = {};
    weigh.weighting = f.weighting;
    if (f.weighting != RGM_WEIGHT_NONE) {
      weigh.x = fit_at<REAL>(f.x, g);
      weigh.label = fit_at<double>(f.label, g);
      weigh.beta = fit_at<double>(f.beta, g);
      weigh.columns = f.x.dims[1];
    }
    weigh.n = f.z.dims[2];
    weigh.given = f.given.data != nullptr ? fit_at<double>(f.given, g) : nullptr;
    weigh.y = fit_at<double>(f.y, g);
    weigh.rows = rgm_u32(f.rows, g);
    weigh.counts = fit_at<uint8_t>(f.counts, g);
    weigh.lanes = f.y.dims[2];
    weigh.cap = (REAL)f.cap;
    fit_all(sums, tile, weigh, total);
    if ((int)threadIdx.x < LANES) {
      double *right = total + triangle * LANES;
      if (f.weight.data != nullptr) {
        fit_at<double>(f.weight, g)[lane] = right[columns * LANES + lane];
      }
      rgm_u32(f.status, g)[lane] = fit_solve(total, right, columns, RGM_FIT_PIVOT, lane);
      for (int64_t j = 0; j < columns; j++) {
        fit_at<double>(f.coef, g)[j * LANES + lane] = right[j * LANES + lane];
      }
    }
    __syncthreads();
  }
}


void rgm_cuda_wls(rgm_stream *s, const rgm_wls *fit) {
  const dim3 grid(1, rgm_blocks(fit->z.dims[0], 1, GROUPS));
  double *work = reinterpret_cast<double *>(rgm_cuda_scratch(s));
  if (fit->z.dtype == RGM_F64) {
    RGM_LAUNCH(wls_kernel<double>, grid, THREADS, 0, s, *fit, work);
  } else {
    RGM_LAUNCH(wls_kernel<float>, grid, THREADS, 0, s, *fit, work);
  }
}


// every element from `from`; then, in another launch, the rows of the stage
RGM_KERNEL(THREADS) pseudo_base_kernel(rgm_pseudo p) {
  const int64_t lanes = p.from.dims[2];
  RGM_REPLICAS (g, p.y.dims[0]) {
    RGM_ELEMENTS (i, p.y.dims[1] * LANES) {
      fit_at<double>(p.y, g)[i] = fit_at<double>(p.from, g)[lanes == 1 ? i / LANES : i];
    }
  }
}


RGM_KERNEL(THREADS) pseudo_kernel(rgm_pseudo p) {
  const int64_t columns = p.h.dims[1], n = p.h.dims[2];
  RGM_REPLICAS (g, p.y.dims[0]) {
    RGM_ELEMENTS (i, n * LANES) {
      const int64_t row = i / LANES, lane = i % LANES;
      const double *h = fit_at<double>(p.h, g) + row;
      const double *psi = fit_at<double>(p.coef, g) + p.first * LANES;
      double gamma = 0.0;
      for (int64_t j = 0; j < columns; j++) {
        gamma = rgm_fma64(h[j * n], psi[j * LANES + lane], gamma);
      }
      double *y = fit_at<double>(p.y, g) + (int64_t)rgm_u32(p.rows, g)[row] * LANES + lane;
      *y += (gamma > 0.0 ? gamma : 0.0) - fit_at<double>(p.label, g)[row] * gamma;
    }
  }
}


void rgm_cuda_pseudo(rgm_stream *s, const rgm_pseudo *pseudo) {
  const unsigned groups = rgm_replica_blocks(pseudo->y.dims[0]);
  if (pseudo->y.data != pseudo->from.data) {
    const dim3 grid(rgm_blocks(pseudo->y.dims[1] * LANES, THREADS, 4096), groups);
    RGM_LAUNCH(pseudo_base_kernel, grid, THREADS, 0, s, *pseudo);
  }
  const dim3 grid(rgm_blocks(pseudo->h.dims[2] * LANES, THREADS, 4096), groups);
  RGM_LAUNCH(pseudo_kernel, grid, THREADS, 0, s, *pseudo);
}


// ---- resamples and all stages ------------------------------------------------------------------

// one more of a unit in a lane's counts
RGM_DEVICE void count_unit(const rgm_resample &r, uint8_t *counts, uint32_t unit) {
  const bool rows = r.first.data == nullptr;
  const uint32_t begin = rows ? unit : rgm_u32(r.first, 0)[unit];
  const uint32_t end = rows ? unit + 1 : rgm_u32(r.first, 0)[unit + 1];
  for (uint32_t i = begin; i < end; i++) {
    uint8_t *c = counts + (int64_t)(rows ? i : rgm_u32(r.members, 0)[i]) * LANES;
    *c = (uint8_t)(*c + (*c < 255));
  }
}


// a thread has a resample to itself: its bytes are nobody else's
RGM_KERNEL(THREADS) resample_kernel(rgm_resample r) {
  const rgm_key key = {r.key[0], r.key[1]};
  const uint32_t units = (uint32_t)r.units, refused = (0u - units) % units;
  RGM_ELEMENTS (b, r.counts.dims[0] * LANES) {
    const bool whole = b == 0 || b > r.replicates;
    uint8_t *counts = fit_at<uint8_t>(r.counts, b / LANES) + b % LANES;
    for (int64_t i = 0; i < r.counts.dims[1]; i++) {
      counts[i * LANES] = whole;
    }
    for (int64_t j = 0; j < r.draws && !whole; j += 4) {
      const rgm_words words = rgm_philox(key, r.step, (uint32_t)(b - 1), (uint32_t)(j / 4), 0);
      const uint32_t word[4] = {words.w0, words.w1, words.w2, words.w3};
      for (int k = 0; k < 4 && j + k < r.draws; k++) {
        const uint64_t product = (uint64_t)word[k] * units;
        count_unit(r, counts,
                   (uint32_t)product >= refused
                       ? (uint32_t)(product >> 32)
                       : rgm_below(key, r.step, (uint32_t)(b - 1), (uint32_t)(j + k + 1), units));
      }
    }
  }
}


void rgm_cuda_resample(rgm_stream *s, const rgm_resample *resample) {
  const unsigned blocks = rgm_blocks(resample->counts.dims[0] * LANES, THREADS, 4096);
  RGM_LAUNCH(resample_kernel, blocks, THREADS, 0, s, *resample);
}


// the groups first ... first + n - 1 of what a stage has
static rgm_irls irls_slice(rgm_irls f, int64_t first, int64_t n) {
  rgm_tensor *all[] = {&f.beta,  &f.status, &f.steps,  &f.x,    &f.near,
                       &f.label, &f.rows,   &f.counts, &f.start};
  for (rgm_tensor *t : all) {
    *t = t->data != nullptr ? rgm_slice(*t, first, n) : *t;
  }
  return f;
}


static rgm_wls wls_slice(rgm_wls f, int64_t first, int64_t n) {
  rgm_tensor *all[] = {&f.coef,   &f.status, &f.weight, &f.z,    &f.rows,
                       &f.counts, &f.given,  &f.x,      &f.beta, &f.label};
  for (rgm_tensor *t : all) {
    *t = t->data != nullptr ? rgm_slice(*t, first, n) : *t;
  }
  return f;
}


static rgm_pseudo pseudo_slice(rgm_pseudo f, int64_t first, int64_t n) {
  rgm_tensor *all[] = {&f.h, &f.coef, &f.label, &f.rows};
  for (rgm_tensor *t : all) {
    *t = rgm_slice(*t, first, n);
  }
  return f;
}


void rgm_cuda_staged(rgm_stream *s, const rgm_stages *f) {
  const int64_t groups = f->irls[0].x.dims[0], slots = f->y.dims[0];
  for (int64_t first = 0; first < groups; first += slots) {
    const int64_t n = first + slots < groups ? slots : groups - first;
    const rgm_tensor y = rgm_slice(f->y, 0, n);
    for (int k = f->stages - 1; k >= 0; k--) {
      const rgm_irls irls = irls_slice(f->irls[k], first, n);
      rgm_wls wls = wls_slice(f->wls[k], first, n);
      wls.y = k < f->stages - 1 ? y : rgm_slice(wls.y, first, n);
      rgm_cuda_irls(s, &irls);
      rgm_cuda_wls(s, &wls);
      if (k > 0) {
        rgm_pseudo pseudo = pseudo_slice(f->pseudo[k], first, n);
        pseudo.y = y;
        pseudo.from = wls.y;
        rgm_cuda_pseudo(s, &pseudo);
      }
    }
  }
}
