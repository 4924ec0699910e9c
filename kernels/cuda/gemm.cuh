// SPDX-License-Identifier: Apache-2.0
// One tile machine for the three products of a linear layer: C[M,N] (+)= A[M,K] @ B[K,N], every sum
// in order over k with fma, so that tile sizes change no bit. A block makes BM x BN sums, a thread
// groups of 4 x 4 of them in registers. Two stages of BK steps in shared memory: while one is used,
// the next is on its way through registers.
//
// Where k runs past the end, a = +0 and b = -0: their product, -0, changes no sum, not even -0.

#ifndef RGM_CUDA_GEMM_CUH
#define RGM_CUDA_GEMM_CUH

#include "kernels/cuda/cuda.cuh"

// A matrix as it lies in memory: `along` (of m or n) and k, one of which is contiguous.
typedef struct rgm_operand {
  const float *data;
  int64_t pitch;    // elements between rows of memory
  int64_t count, k; // how many m or n, and how many k
} rgm_operand;

// M_GROUPS x N_GROUPS groups of 4 x 4 sums a thread
template <int M, int N, int M_GROUPS_, int N_GROUPS_> struct rgm_tile {
  enum {
    BM = M,
    BN = N,
    BK = 16,
    M_GROUPS = M_GROUPS_,
    N_GROUPS = N_GROUPS_,
    ACROSS = N / (4 * N_GROUPS_), // threads
    DOWN = M / (4 * M_GROUPS_),
    THREADS = ACROSS * DOWN,
    PAD = 4, // keeps rows of shared memory 16 bytes apart from multiples of 128
  };
};

// Registers of a thread: its share of a stage of one operand.
template <int COUNT> struct rgm_staged {
  float x[4 * COUNT];
};


// four neighbours in memory: element `at` of a row of memory of `length`, where the row exists
template <bool WIDE>
RGM_DEVICE void load_four(float *to, const float *row, bool exists, int64_t at, int64_t length,
                          float rest) {
  if (WIDE) {
    // a length that is a multiple of 4 has all or none
    if (exists && at < length) {
      const float4 four = *reinterpret_cast<const float4 *>(row + at);
      to[0] = four.x;
      to[1] = four.y;
      to[2] = four.z;
      to[3] = four.w;
    } else {
      to[0] = to[1] = to[2] = to[3] = rest;
    }
  } else {
#pragma unroll
    for (int j = 0; j < 4; j++) {
      to[j] = exists && at + j < length ? row[at + j] : rest;
    }
  }
}


// puts four neighbours
template <bool WIDE> RGM_DEVICE void store_four(float *to, float4 x) {
  if (WIDE) {
    *reinterpret_cast<float4 *>(to) = x;
  } else {
    to[0] = x.x;
    to[1] = x.y;
    to[2] = x.z;
    to[3] = x.w;
  }
}


// A thread's share of the stage from `k` on, of EXTENT of m or n from `first` on. K_INNER: k is
// contiguous, and units of four k are dealt out; else units of four m or n.
template <int EXTENT, int BK, int THREADS, bool K_INNER, bool WIDE, int COUNT>
RGM_DEVICE void fetch(rgm_staged<COUNT> *to, rgm_operand a, int64_t first, int64_t k, float rest) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    const int unit = (int)threadIdx.x + i * THREADS;
    if (K_INNER) {
      const int64_t row = first + unit / (BK / 4), at = k + unit % (BK / 4) * 4;
      load_four<WIDE>(&to->x[4 * i], a.data + row * a.pitch, row < a.count, at, a.k, rest);
    } else {
      const int64_t row = k + unit / (EXTENT / 4), at = first + unit % (EXTENT / 4) * 4;
      load_four<WIDE>(&to->x[4 * i], a.data + row * a.pitch, row < a.k, at, a.count, rest);
    }
  }
}


// puts the share into shared memory, k by k
template <int EXTENT, int BK, int PITCH, int THREADS, bool K_INNER, int COUNT>
RGM_DEVICE void store_stage(float (*stage)[PITCH], const rgm_staged<COUNT> *from) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    const int unit = (int)threadIdx.x + i * THREADS;
    const float *x = &from->x[4 * i];
    if (K_INNER) {
      const int row = unit / (BK / 4), at = unit % (BK / 4) * 4;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        stage[at + j][row] = x[j];
      }
    } else {
      const int row = unit / (EXTENT / 4), at = unit % (EXTENT / 4) * 4;
      *reinterpret_cast<float4 *>(&stage[row][at]) = make_float4(x[0], x[1], x[2], x[3]);
    }
  }
}


// The sums of a thread: acc[g][i][h][j] belongs to row g * BM / M_GROUPS + 4 * (its row) + i and to
// column h * BN / N_GROUPS + 4 * (its column) + j of the tile.
template <class TILE> struct rgm_sums {
  float x[TILE::M_GROUPS * 4][TILE::N_GROUPS * 4];
};


template <class TILE> RGM_DEVICE int tile_row(int i) {
  return i / 4 * (TILE::BM / TILE::M_GROUPS) + (int)threadIdx.x / TILE::ACROSS * 4 + i % 4;
}

template <class TILE> RGM_DEVICE int tile_column(int j) {
  return j / 4 * (TILE::BN / TILE::N_GROUPS) + (int)threadIdx.x % TILE::ACROSS * 4 + j % 4;
}


template <class TILE, int PA, int PB>
RGM_DEVICE void multiply_stage(rgm_sums<TILE> *acc, const float (*as)[PA], const float (*bs)[PB]) {
#pragma unroll
  for (int k = 0; k < TILE::BK; k++) {
    float a[TILE::M_GROUPS * 4], b[TILE::N_GROUPS * 4];
#pragma unroll
    for (int g = 0; g < TILE::M_GROUPS; g++) {
      const float4 x = *reinterpret_cast<const float4 *>(&as[k][tile_row<TILE>(4 * g)]);
      a[4 * g] = x.x;
      a[4 * g + 1] = x.y;
      a[4 * g + 2] = x.z;
      a[4 * g + 3] = x.w;
    }
#pragma unroll
    for (int g = 0; g < TILE::N_GROUPS; g++) {
      const float4 x = *reinterpret_cast<const float4 *>(&bs[k][tile_column<TILE>(4 * g)]);
      b[4 * g] = x.x;
      b[4 * g + 1] = x.y;
      b[4 * g + 2] = x.z;
      b[4 * g + 3] = x.w;
    }
#pragma unroll
    for (int i = 0; i < TILE::M_GROUPS * 4; i++) {
#pragma unroll
      for (int j = 0; j < TILE::N_GROUPS * 4; j++) {
        acc->x[i][j] = rgm_fma(a[i], b[j], acc->x[i][j]);
      }
    }
  }
}


// acc += the product of the tile at (m, n) over all k. `columns` is the running sum, in order, of
// column threadIdx.x of B where it is asked for (COLUMN_SUMS and threadIdx.x < BN).
template <class TILE, bool A_K_INNER, bool B_K_INNER, bool WIDE, bool COLUMN_SUMS>
RGM_DEVICE void multiply_tile(rgm_sums<TILE> *acc, float *columns, rgm_operand a, rgm_operand b,
                              int64_t m, int64_t n) {
  enum {
    BM = TILE::BM,
    BN = TILE::BN,
    BK = TILE::BK,
    T = TILE::THREADS,
    PA = BM + TILE::PAD,
    PB = BN + TILE::PAD,
  };
  static_assert(BM * BK % (4 * T) == 0 && BN * BK % (4 * T) == 0, "whole units for every thread");
  RGM_SHARED(float, as, [2][BK][PA]);
  RGM_SHARED(float, bs, [2][BK][PB]);
  rgm_staged<BM * BK / 4 / T> next_a;
  rgm_staged<BN * BK / 4 / T> next_b;
  fetch<BM, BK, T, A_K_INNER, WIDE>(&next_a, a, m, 0, 0.0f);
  fetch<BN, BK, T, B_K_INNER, WIDE>(&next_b, b, n, 0, -0.0f);
  store_stage<BM, BK, PA, T, A_K_INNER>(as[0], &next_a);
  store_stage<BN, BK, PB, T, B_K_INNER>(bs[0], &next_b);
  __syncthreads();
  int now = 0;
  for (int64_t k = 0; k < a.k; k += BK) {
    const bool more = k + BK < a.k;
    if (more) {
      fetch<BM, BK, T, A_K_INNER, WIDE>(&next_a, a, m, k + BK, 0.0f);
      fetch<BN, BK, T, B_K_INNER, WIDE>(&next_b, b, n, k + BK, -0.0f);
    }
    multiply_stage<TILE>(acc, as[now], bs[now]);
    if (COLUMN_SUMS && threadIdx.x < BN) {
#pragma unroll
      for (int i = 0; i < BK; i++) {
        *columns = *columns + bs[now][i][threadIdx.x];
      }
    }
    if (more) {
      store_stage<BM, BK, PA, T, A_K_INNER>(as[1 - now], &next_a);
      store_stage<BN, BK, PB, T, B_K_INNER>(bs[1 - now], &next_b);
    }
    __syncthreads();
    now = 1 - now;
  }
}

#endif
