// SPDX-License-Identifier: Apache-2.0
// One tile machine for the three products of a linear layer: C[M,N] (+)= A[M,K] @ B[K,N], every sum
// in order over k with fma, so that tile sizes change no bit. A block makes BM x BN sums, a thread
// groups of 4 x 4 of them in registers. Two stages of BK steps in shared memory: while one is used,
// the next is on its way through registers. In the end the sums go through shared memory too, so
// that the epilogue is a plain loop with neighbours side by side.
//
// Where k runs past the end, a = +0 and b = -0: their product, -0, changes no sum, not even -0.

#ifndef RGM_CUDA_GEMM_CUH
#define RGM_CUDA_GEMM_CUH

#include "kernels/cuda/cuda.cuh"

// A matrix as it lies in memory: m (or n) and k, one of which is contiguous. Indices have 32 bits,
// which leaves registers to the sums.
typedef struct rgm_operand {
  const float *data;
  int pitch;    // elements between rows of memory
  int count, k; // how many m or n, and how many k
} rgm_operand;

// M_GROUPS x N_GROUPS groups of 4 x 4 sums a thread; RESIDENT blocks share a processor, which
// limits registers to 65,536 / RESIDENT / THREADS
template <int M, int N, int M_GROUPS_, int N_GROUPS_, int RESIDENT_> struct rgm_tile {
  enum {
    RESIDENT = RESIDENT_,
    BM = M,
    BN = N,
    BK = 16,
    M_GROUPS = M_GROUPS_,
    N_GROUPS = N_GROUPS_,
    ACROSS = N / (4 * N_GROUPS_), // threads
    DOWN = M / (4 * M_GROUPS_),
    THREADS = ACROSS * DOWN,
    PAD = 4, // keeps rows of shared memory 16 bytes apart from multiples of 128
    A_PITCH = M + PAD,
    B_PITCH = N + PAD,
    A_STAGE = BK * A_PITCH, // floats of a stage of an operand
    B_STAGE = BK * B_PITCH,
    GROUP = M / M_GROUPS, // rows that the epilogue takes at a time
    SHARED = 2 * (A_STAGE + B_STAGE) > GROUP *B_PITCH ? 2 * (A_STAGE + B_STAGE) : GROUP *B_PITCH,
  };
};

// Registers of a thread: its share of a stage of one operand.
template <int COUNT> struct rgm_staged { float x[4 * COUNT]; };


// four neighbours in memory: element `at` of a row of memory of `length`, where the row exists
template <bool WIDE>
RGM_DEVICE void load_four(float *to, const float *row, bool exists, int at, int length,
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


// A thread's share of the stage from `k` on, of EXTENT of m or n from `first` on. K_INNER: k is
// contiguous, and units of four k are dealt out; else units of four m or n.
template <int EXTENT, int BK, int THREADS, bool K_INNER, bool WIDE, int COUNT>
RGM_DEVICE void fetch(rgm_staged<COUNT> *to, rgm_operand a, int first, int k, float rest) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    const int unit = (int)threadIdx.x + i * THREADS;
    if (K_INNER) {
      const int row = first + unit / (BK / 4), at = k + unit % (BK / 4) * 4;
      load_four<WIDE>(&to->x[4 * i], a.data + (int64_t)row * a.pitch, row < a.count, at, a.k, rest);
    } else {
      const int row = k + unit / (EXTENT / 4), at = first + unit % (EXTENT / 4) * 4;
      load_four<WIDE>(&to->x[4 * i], a.data + (int64_t)row * a.pitch, row < a.k, at, a.count, rest);
    }
  }
}


// puts the share into shared memory, k by k
template <int EXTENT, int BK, int PITCH, int THREADS, bool K_INNER, int COUNT>
RGM_DEVICE void store_stage(float *stage, const rgm_staged<COUNT> *from) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    const int unit = (int)threadIdx.x + i * THREADS;
    const float *x = &from->x[4 * i];
    if (K_INNER) {
      const int row = unit / (BK / 4), at = unit % (BK / 4) * 4;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        stage[(at + j) * PITCH + row] = x[j];
      }
    } else {
      const int row = unit / (EXTENT / 4), at = unit % (EXTENT / 4) * 4;
      *reinterpret_cast<float4 *>(&stage[row * PITCH + at]) = make_float4(x[0], x[1], x[2], x[3]);
    }
  }
}


// The sums of a thread: acc.x[4 g + i][4 h + j] belongs to row g * BM / M_GROUPS + 4 * (its row)
// + i and to column h * BN / N_GROUPS + 4 * (its column) + j of the tile.
template <class TILE> struct rgm_sums { float x[TILE::M_GROUPS * 4][TILE::N_GROUPS * 4]; };


template <class TILE> RGM_DEVICE int tile_row(int i) {
  return i / 4 * (TILE::BM / TILE::M_GROUPS) + (int)threadIdx.x / TILE::ACROSS * 4 + i % 4;
}

template <class TILE> RGM_DEVICE int tile_column(int j) {
  return j / 4 * (TILE::BN / TILE::N_GROUPS) + (int)threadIdx.x % TILE::ACROSS * 4 + j % 4;
}


template <class TILE>
RGM_DEVICE void multiply_stage(rgm_sums<TILE> *acc, const float *as, const float *bs) {
#pragma unroll 2
  for (int k = 0; k < TILE::BK; k++) {
    float a[TILE::M_GROUPS * 4], b[TILE::N_GROUPS * 4];
#pragma unroll
    for (int g = 0; g < TILE::M_GROUPS; g++) {
      const float4 x =
          *reinterpret_cast<const float4 *>(&as[k * TILE::A_PITCH + tile_row<TILE>(4 * g)]);
      a[4 * g] = x.x;
      a[4 * g + 1] = x.y;
      a[4 * g + 2] = x.z;
      a[4 * g + 3] = x.w;
    }
#pragma unroll
    for (int g = 0; g < TILE::N_GROUPS; g++) {
      const float4 x =
          *reinterpret_cast<const float4 *>(&bs[k * TILE::B_PITCH + tile_column<TILE>(4 * g)]);
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


// acc += the product of the tile at (m, n) over all k; shared[TILE::SHARED] is the block's.
// `columns` is the running sum, in order, of column threadIdx.x of B where it is asked for
// (COLUMN_SUMS and threadIdx.x < BN).
template <class TILE, bool A_K_INNER, bool B_K_INNER, bool WIDE, bool COLUMN_SUMS>
RGM_DEVICE void multiply_tile(rgm_sums<TILE> *acc, float *columns, float *shared, rgm_operand a,
                              rgm_operand b, int m, int n) {
  enum {
    BM = TILE::BM,
    BN = TILE::BN,
    BK = TILE::BK,
    T = TILE::THREADS,
    PA = TILE::A_PITCH,
    PB = TILE::B_PITCH,
  };
  static_assert(BM * BK % (4 * T) == 0 && BN * BK % (4 * T) == 0, "whole units for every thread");
  float *as = shared, *bs = shared + 2 * TILE::A_STAGE;
  rgm_staged<BM * BK / 4 / T> next_a;
  rgm_staged<BN * BK / 4 / T> next_b;
  fetch<BM, BK, T, A_K_INNER, WIDE>(&next_a, a, m, 0, 0.0f);
  fetch<BN, BK, T, B_K_INNER, WIDE>(&next_b, b, n, 0, -0.0f);
  store_stage<BM, BK, PA, T, A_K_INNER>(as, &next_a);
  store_stage<BN, BK, PB, T, B_K_INNER>(bs, &next_b);
  __syncthreads();
  int now = 0;
  for (int k = 0; k < a.k; k += BK) {
    const bool more = k + BK < a.k;
    if (more) {
      fetch<BM, BK, T, A_K_INNER, WIDE>(&next_a, a, m, k + BK, 0.0f);
      fetch<BN, BK, T, B_K_INNER, WIDE>(&next_b, b, n, k + BK, -0.0f);
    }
    multiply_stage<TILE>(acc, as + now * TILE::A_STAGE, bs + now * TILE::B_STAGE);
    if (COLUMN_SUMS && threadIdx.x < BN) {
#pragma unroll 2
      for (int i = 0; i < BK; i++) {
        *columns = *columns + bs[now * TILE::B_STAGE + i * PB + (int)threadIdx.x];
      }
    }
    now = 1 - now;
    if (more) {
      store_stage<BM, BK, PA, T, A_K_INNER>(as + now * TILE::A_STAGE, &next_a);
      store_stage<BN, BK, PB, T, B_K_INNER>(bs + now * TILE::B_STAGE, &next_b);
    }
    __syncthreads();
  }
}


// put(row, column, sum) for every sum of the tile that lies within `rows` and `columns`, by all
// threads of the block
template <class TILE, class PUT>
RGM_DEVICE void put_tile(const rgm_sums<TILE> &acc, float *shared, int m, int n, int rows,
                         int columns, PUT put) {
#pragma unroll
  for (int g = 0; g < TILE::M_GROUPS; g++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float *row = shared + tile_row<TILE>(i) * TILE::B_PITCH;
#pragma unroll
      for (int j = 0; j < TILE::N_GROUPS * 4; j += 4) {
        const float *x = &acc.x[4 * g + i][j];
        *reinterpret_cast<float4 *>(row + tile_column<TILE>(j)) =
            make_float4(x[0], x[1], x[2], x[3]);
      }
    }
    __syncthreads();
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < TILE::GROUP * TILE::BN; i += TILE::THREADS) {
      const int row = i / TILE::BN, column = i % TILE::BN;
      const int to = m + g * TILE::GROUP + row;
      if (to < rows && n + column < columns) {
        put(to, n + column, shared[row * TILE::B_PITCH + column]);
      }
    }
    __syncthreads();
  }
}

#endif
