// SPDX-License-Identifier: Apache-2.0
// The nearest centre of each row on the CPU: a lane is a centre, six rows (AVX2: four) and two
// vectors of centres at a time, so that a load of a centre serves all of them; or, where something
// is missing, one row and eight vectors, so that a branch serves eight. A block of 256 rows is a
// task.

#include "kernels/cpu/cpu.h"
#include "kernels/tabular.h"

#include <math.h>
#include <string.h>

enum {
  ROWS = RGM_LANE_WIDTH == 16 ? 6 : 4,
  GROUP = 16, // centres come in groups of so many
  VECTORS = GROUP / RGM_LANE_WIDTH,
  PAIR = RGM_LANE_WIDTH == 16 ? 2 : VECTORS, // vectors of centres at a time for these
  WIDE = RGM_LANE_WIDTH == 1 ? VECTORS : 8,  // and for one
  MOST = WIDE * RGM_LANE_WIDTH,
};


// distances of `rows` rows x (rows, D) to the centres of `vectors` vectors at c; out[row][lane].
// With `holes` features that are missing are left out.
RGM_INLINE void tile(const float *x, const float *c, int64_t features, int64_t centres, int rows,
                     int vectors, bool holes, float out[ROWS][MOST]) {
  rgm_lanes sum[ROWS][WIDE];
  for (int i = 0; i < rows; i++) {
    for (int v = 0; v < vectors; v++) {
      sum[i][v] = rgm_lanes_set(0.0f);
    }
  }
  for (int64_t d = 0; d < features; d++) {
    if (holes && isnan(x[d])) {
      continue;
    }
    for (int v = 0; v < vectors; v++) {
      const rgm_lanes at = rgm_lanes_load(c + d * centres + v * RGM_LANE_WIDTH);
      for (int i = 0; i < rows; i++) {
        const rgm_lanes apart = rgm_lanes_sub(at, rgm_lanes_set(x[i * features + d]));
        sum[i][v] = rgm_lanes_fma(apart, apart, sum[i][v]);
      }
    }
  }
  for (int i = 0; i < rows; i++) {
    for (int v = 0; v < vectors; v++) {
      rgm_lanes_store(out[i] + v * RGM_LANE_WIDTH, sum[i][v]);
    }
  }
}


// What the lanes of a row have found so far: of each the least distance, and its group's first.
typedef struct found {
  float least[GROUP];
  int32_t first[GROUP];
} found;


// distances to centres k ... k + 15 join those found; vectors by hand, since gcc makes sixteen
// scalars of these sixteen lanes
static inline void join(found *f, const float *distance, int32_t k) {
#if defined(__AVX512F__)
  const __m512 own = _mm512_loadu_ps(distance), old = _mm512_loadu_ps(f->least);
  const __mmask16 nearer = _mm512_cmp_ps_mask(own, old, _CMP_LT_OQ);
  _mm512_mask_storeu_ps(f->least, nearer, own);
  _mm512_mask_storeu_epi32(f->first, nearer, _mm512_set1_epi32(k));
#elif defined(__AVX2__)
  for (int l = 0; l < GROUP; l += 8) {
    const __m256 own = _mm256_loadu_ps(distance + l), old = _mm256_loadu_ps(f->least + l);
    const __m256 nearer = _mm256_cmp_ps(own, old, _CMP_LT_OQ);
    _mm256_storeu_ps(f->least + l, _mm256_blendv_ps(old, own, nearer));
    _mm256_maskstore_epi32(f->first + l, _mm256_castps_si256(nearer), _mm256_set1_epi32(k));
  }
#else
  for (int l = 0; l < GROUP; l++) {
    const bool nearer = distance[l] < f->least[l];
    f->least[l] = nearer ? distance[l] : f->least[l];
    f->first[l] = nearer ? k : f->first[l];
  }
#endif
}


// Rows `row` ... row + rows - 1 of replica r, all without holes, or one with holes.
RGM_INLINE void find(const rgm_nearest_centre *a, int64_t r, int64_t row, int rows, bool holes) {
  const int64_t features = a->centre.dims[1], centres = a->centre.dims[2];
  const float *x = rgm_f32(a->x, r) + row * features;
  const float *c = rgm_f32(a->centre, r);
  found f[ROWS];
  for (int i = 0; i < rows; i++) {
    for (int l = 0; l < GROUP; l++) {
      f[i].least[l] = INFINITY;
      f[i].first[l] = 0;
    }
  }
  for (int64_t k = 0; k < centres;) {
    float out[ROWS][MOST];
    const int64_t left = (centres - k) / RGM_LANE_WIDTH;
    int64_t step;
    if (holes && left >= WIDE) {
      tile(x, c + k, features, centres, rows, WIDE, holes, out);
      step = WIDE;
    } else if (holes && left >= WIDE / 2 && WIDE / 2 >= VECTORS) {
      tile(x, c + k, features, centres, rows, WIDE / 2, holes, out);
      step = WIDE / 2;
    } else if (left >= PAIR) {
      tile(x, c + k, features, centres, rows, PAIR, holes, out);
      step = PAIR;
    } else {
      tile(x, c + k, features, centres, rows, VECTORS, holes, out);
      step = VECTORS;
    }
    step *= RGM_LANE_WIDTH;
    for (int i = 0; i < rows; i++) {
      for (int64_t g = 0; g < step; g += GROUP) {
        join(&f[i], out[i] + g, (int32_t)(k + g));
      }
      if (a->all.data != NULL) {
        memcpy(rgm_f32(a->all, r) + (row + i) * centres + k, out[i], (size_t)step * sizeof(float));
      }
    }
    k += step;
  }
  for (int i = 0; i < rows; i++) {
    float least = f[i].least[0];
    int32_t index = f[i].first[0];
    for (int l = 1; l < GROUP; l++) {
      const int32_t at = f[i].first[l] + l;
      const bool nearer = f[i].least[l] < least || (f[i].least[l] == least && at < index);
      least = nearer ? f[i].least[l] : least;
      index = nearer ? at : index;
    }
    rgm_f32(a->least, r)[row + i] = least;
    ((int32_t *)a->index.data)[r * a->index.stride0 + row + i] = index;
  }
}


static bool has_holes(const float *x, int64_t count) {
  int holes = 0;
  for (int64_t i = 0; i < count; i++) {
    holes |= isnan(x[i]);
  }
  return holes != 0;
}


static void nearest_task(void *arg, int64_t index) {
  const rgm_nearest_centre *a = arg;
  const int64_t rows = a->index.dims[1], features = a->centre.dims[1];
  const int64_t blocks = (rows + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
  const int64_t r = index / blocks, first = index % blocks * RGM_ROW_BLOCK;
  const int64_t end = first + RGM_ROW_BLOCK < rows ? first + RGM_ROW_BLOCK : rows;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const float *x = rgm_f32(a->x, r);
  for (int64_t row = first; row < end;) {
    if (end - row >= ROWS && !has_holes(x + row * features, ROWS * features)) {
      find(a, r, row, ROWS, false);
      row += ROWS;
    } else {
      find(a, r, row, 1, true);
      row++;
    }
  }
}


void RGM_CPU(nearest)(rgm_stream *s, const rgm_nearest_centre *nearest) {
  rgm_nearest_centre a = *nearest;
  const int64_t blocks = (a.index.dims[1] + RGM_ROW_BLOCK - 1) / RGM_ROW_BLOCK;
  rgm_cpu_parallel(s, a.index.dims[0] * blocks, nearest_task, &a);
}
