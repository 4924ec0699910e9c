// SPDX-License-Identifier: Apache-2.0
// Regressions with sixteen resamples in lanes: a block is a group, its 256 threads sixteen lanes of
// sixteen parts. A tile of 64 rows gets its weights from all threads; then each thread sums its own
// entries of the Gram matrix over the tile in order, so that bits are those of the CPU. The systems
// are solved by the sixteen threads of part 0, a lane each.

#include "kernels/cuda/cuda.cuh"
#include "kernels/logistic.h"

enum {
  THREADS = 256,
  LANES = RGM_FIT_LANES,
  PARTS = THREADS / LANES,
  TILE = 64,
  SUMS = RGM_FIT_TRIANGLE + RGM_FIT_COLUMNS + 1,
  MINE = (SUMS + PARTS - 1) / PARTS, // entries of a thread, at most
  GROUPS = RGM_CUDA_SCRATCH / 2 / (SUMS * LANES),
  STEPS = 25,
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

// what a block shares while it sums
template <class REAL> struct fit_tile { REAL weight[TILE][LANES], right[TILE][LANES]; };

// What is summed: products by weights, columns by right sides, and (`ones`) the weights.
template <class REAL> struct fit_sums {
  const REAL *products, *x;
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


// out (entries, 16) = the sums of all rows, weighed by weigh(row, lane, &weight, &right)
template <class REAL, class WEIGH>
RGM_DEVICE void fit_all(const fit_sums<REAL> f, fit_tile<REAL> *tile, WEIGH weigh, double *out) {
  const int lane = (int)threadIdx.x % LANES, part = (int)threadIdx.x / LANES;
  const int entries = f.triangle + f.columns + f.ones;
  const int mine = part < entries ? (entries - part + PARTS - 1) / PARTS : 0;
  double level[RGM_FIT_LEVELS + 1][MINE], wide[MINE];
  REAL block[MINE];
  int64_t count = 0;
  for (int64_t first = 0; first < f.n; first += RGM_ROW_BLOCK, count++) {
    const int64_t end = first + RGM_ROW_BLOCK < f.n ? first + RGM_ROW_BLOCK : f.n;
    for (int e = 0; e < mine; e++) {
      block[e] = 0;
    }
    for (int64_t at = first; at < end; at += TILE) {
      const int rows = (int)(at + TILE < end ? int64_t{TILE} : end - at);
      for (int i = part; i < rows; i += PARTS) {
        weigh(at + i, lane, &tile->weight[i][lane], &tile->right[i][lane]);
      }
      __syncthreads();
      for (int e = 0; e < mine; e++) {
        const int entry = e * PARTS + part, column = entry - f.triangle;
        const bool square = column < 0, one = column >= f.columns;
        const REAL *from = square ? f.products + entry : f.x + (one ? 0 : column);
        const int64_t stride = square ? f.triangle : f.columns;
        REAL sum = block[e];
        for (int i = 0; i < rows; i++) {
          const REAL factor = one ? REAL(1) : from[(at + i) * stride];
          sum = fit_fma(factor, square || one ? tile->weight[i][lane] : tile->right[i][lane], sum);
        }
        block[e] = sum;
      }
      __syncthreads();
    }
    for (int e = 0; e < mine; e++) {
      wide[e] = (double)block[e];
    }
    fit_join(level, count, mine, wide);
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


// one lane's system; right becomes the solution, NaN where a pivot is none
RGM_DEVICE uint32_t fit_solve(double *gram, double *right, int64_t columns, int lane) {
  uint32_t status = RGM_FIT_DONE;
  for (int64_t j = 0; j < columns; j++) {
    double *pivot = fit_entry(gram, j, j) + lane;
    const double least = 1e-12 * *pivot;
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
    rgm_u32(status, g)[lane] =
        fit_solve(fit_at<double>(gram, g), fit_at<double>(right, g), right.dims[1], lane);
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
  RGM_SHARED(fit_tile<double>, tile, [1]);
  RGM_REPLICAS (g, products.dims[0]) {
    fit_sums<double> f = {};
    f.products = fit_at<double>(products, g);
    f.x = f.products;
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

template <class REAL>
RGM_DEVICE REAL fit_score(const REAL *x, const double *beta, int64_t columns, int lane) {
  REAL eta = 0;
  for (int64_t j = 0; j < columns; j++) {
    eta = fit_fma(x[j], (REAL)beta[j * LANES + lane], eta);
  }
  return eta;
}


template <class REAL> struct irls_weigh {
  const REAL *x;
  const double *label, *beta;
  const uint32_t *rows;
  const uint8_t *counts;
  int64_t columns;
  RGM_DEVICE_MEMBER void operator()(int64_t row, int lane, REAL *w, REAL *right) const {
    const REAL count = (REAL)(int32_t)counts[(int64_t)rows[row] * LANES + lane];
    const REAL p = fit_logistic(fit_score(x + row * columns, beta, columns, lane));
    *w = count * (p * (1 - p));
    *right = count * ((REAL)label[row] - p);
  }
};


// lanes in which only one treatment occurs have no fit
RGM_DEVICE uint32_t fit_treatments(const rgm_irls &f, int64_t g, int lane) {
  const double *label = fit_at<double>(f.label, g);
  const uint32_t *rows = rgm_u32(f.rows, g);
  const uint8_t *counts = fit_at<uint8_t>(f.counts, g);
  uint32_t treated = 0, all = 0;
  for (int64_t i = 0; i < f.x.dims[1]; i++) {
    const uint32_t c = counts[(int64_t)rows[i] * LANES + lane];
    treated += label[i] != 0.0 ? c : 0u;
    all += c;
  }
  return (uint32_t)(treated > 0 && treated < all ? RGM_FIT_DONE : RGM_FIT_EMPTY);
}


// a Newton step of one lane; true where it goes on
RGM_DEVICE bool fit_move(double *beta, const double *step, uint32_t solved, uint32_t *status,
                         uint32_t *steps, bool *arrived, int64_t columns, int lane,
                         double tolerance) {
  if (*arrived || *status != RGM_FIT_DONE) {
    return false;
  }
  if (solved != RGM_FIT_DONE) {
    *status = solved;
    return false;
  }
  double most = 0.0;
  for (int64_t j = 0; j < columns; j++) {
    const double by = step[j * LANES + lane];
    beta[j * LANES + lane] += by;
    most = rgm_abs64(by) > most ? rgm_abs64(by) : most;
  }
  ++*steps;
  *arrived = most <= tolerance;
  return !*arrived;
}


template <class REAL> RGM_KERNEL(THREADS) irls_kernel(rgm_irls f, double *work, double tolerance) {
  RGM_SHARED(fit_tile<REAL>, tile, [1]);
  RGM_SHARED(int, busy, [LANES]);
  const int lane = (int)threadIdx.x % LANES;
  const bool solves = (int)threadIdx.x < LANES;
  const int64_t columns = f.x.dims[2], triangle = columns * (columns + 1) / 2;
  double *total = work + (int64_t)blockIdx.y * (SUMS * LANES);
  RGM_REPLICAS (g, f.x.dims[0]) {
    double *beta = fit_at<double>(f.beta, g);
    uint32_t *status = rgm_u32(f.status, g) + lane, *steps = rgm_u32(f.steps, g) + lane;
    bool arrived = false, any = true;
    if (solves) {
      *status = fit_treatments(f, g, lane);
      *steps = 0;
      for (int64_t j = 0; j < columns; j++) {
        beta[j * LANES + lane] = fit_at<double>(f.start, g)[j];
      }
    }
    __syncthreads();
    fit_sums<REAL> sums = {};
    sums.products = fit_at<REAL>(f.products, g);
    sums.x = fit_at<REAL>(f.x, g);
    sums.triangle = (int)triangle;
    sums.columns = (int)columns;
    sums.n = f.x.dims[1];
    irls_weigh<REAL> weigh = {};
    weigh.x = sums.x;
    weigh.label = fit_at<double>(f.label, g);
    weigh.beta = beta;
    weigh.rows = rgm_u32(f.rows, g);
    weigh.counts = fit_at<uint8_t>(f.counts, g);
    weigh.columns = columns;
    for (int step = 0; step < STEPS && any; step++) {
      fit_all(sums, tile, weigh, total);
      if (solves) {
        const uint32_t solved = fit_solve(total, total + triangle * LANES, columns, lane);
        busy[lane] = fit_move(beta, total + triangle * LANES, solved, status, steps, &arrived,
                              columns, lane, tolerance);
      }
      __syncthreads();
      any = false;
      for (int l = 0; l < LANES; l++) {
        any = any || busy[l] != 0;
      }
      __syncthreads();
    }
    if (solves && *status == RGM_FIT_DONE && !arrived) {
      *status = RGM_FIT_SEPARATED;
    }
    __syncthreads();
  }
}


void rgm_cuda_irls(rgm_stream *s, const rgm_irls *fit) {
  const dim3 grid(1, rgm_blocks(fit->x.dims[0], 1, GROUPS));
  double *work = reinterpret_cast<double *>(rgm_cuda_scratch(s));
  if (fit->x.dtype == RGM_F64) {
    RGM_LAUNCH(irls_kernel<double>, grid, THREADS, 0, s, *fit, work, 1e-6);
  } else {
    RGM_LAUNCH(irls_kernel<float>, grid, THREADS, 0, s, *fit, work, 1e-4);
  }
}


// ---- least squares and pseudo-outcomes ---------------------------------------------------------

template <class REAL> struct wls_weigh {
  const REAL *x;
  const double *label, *beta, *given, *y;
  const uint32_t *rows;
  const uint8_t *counts;
  int64_t columns, lanes;
  rgm_weighting weighting;
  REAL cap;
  RGM_DEVICE_MEMBER void operator()(int64_t row, int lane, REAL *w, REAL *right) const {
    const int64_t at = rows[row];
    REAL weight = (REAL)(int32_t)counts[at * LANES + lane] * (given ? (REAL)given[row] : REAL(1));
    if (weighting != RGM_WEIGHT_NONE) {
      // overlap: the probability of the other treatment; inverse: of the given one
      const REAL side = weighting == RGM_WEIGHT_OVERLAP ? 1 : -1;
      const REAL eta = fit_score(x + row * columns, beta, columns, lane);
      REAL p = fit_logistic(eta * (label[row] != 0.0 ? -side : side));
      if (weighting == RGM_WEIGHT_INVERSE) {
        p = 1 / p;
        p = p > cap ? cap : p;
      }
      weight *= p;
    }
    *w = weight;
    *right = weight * (REAL)y[at * lanes + (lanes == 1 ? 0 : lane)];
  }
};


template <class REAL> RGM_KERNEL(THREADS) wls_kernel(rgm_wls f, double *work) {
  RGM_SHARED(fit_tile<REAL>, tile, [1]);
  const int lane = (int)threadIdx.x % LANES;
  const int64_t columns = f.z.dims[2], triangle = columns * (columns + 1) / 2;
  double *total = work + (int64_t)blockIdx.y * (SUMS * LANES);
  RGM_REPLICAS (g, f.z.dims[0]) {
    fit_sums<REAL> sums = {};
    sums.products = fit_at<REAL>(f.products, g);
    sums.x = fit_at<REAL>(f.z, g);
    sums.triangle = (int)triangle;
    sums.columns = (int)columns;
    sums.ones = 1;
    sums.n = f.z.dims[1];
    wls_weigh<REAL> weigh = {};
    weigh.weighting = f.weighting;
    if (f.weighting != RGM_WEIGHT_NONE) {
      weigh.x = fit_at<REAL>(f.x, g);
      weigh.label = fit_at<double>(f.label, g);
      weigh.beta = fit_at<double>(f.beta, g);
      weigh.columns = f.x.dims[2];
    }
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
      rgm_u32(f.status, g)[lane] = fit_solve(total, right, columns, lane);
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
  const int64_t columns = p.h.dims[2];
  RGM_REPLICAS (g, p.y.dims[0]) {
    RGM_ELEMENTS (i, p.h.dims[1] * LANES) {
      const int64_t row = i / LANES, lane = i % LANES;
      const double *h = fit_at<double>(p.h, g) + row * columns;
      const double *psi = fit_at<double>(p.coef, g) + p.first * LANES;
      double gamma = 0.0;
      for (int64_t j = 0; j < columns; j++) {
        gamma = rgm_fma64(h[j], psi[j * LANES + lane], gamma);
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
  const dim3 grid(rgm_blocks(pseudo->h.dims[1] * LANES, THREADS, 4096), groups);
  RGM_LAUNCH(pseudo_kernel, grid, THREADS, 0, s, *pseudo);
}
