// SPDX-License-Identifier: Apache-2.0
// Reductions, order statistics, selection, random fills, counters and the non-finite guard.

#include "kernels/cpu/cpu.h"
#include "kernels/order.h"
#include "kernels/rng.h"

#include <string.h>

typedef struct data_args {
  rgm_tensor y, x, z, q;
  rgm_tensor seeds;
  uint32_t random, member;
  float low, high, scale;
  int64_t last_dim;
} data_args;


static void sum_task(void *arg, int64_t r) {
  const data_args *a = arg;
  const float *x = rgm_f32(a->x, r);
  rgm_f32(a->y, r)[0] = a->scale * rgm_cpu_sum(x, rgm_elements(a->x) / a->x.dims[0], false);
}


void RGM_CPU(sum)(rgm_stream *s, rgm_tensor y, rgm_tensor x, float scale) {
  data_args a = {.y = y, .x = x, .scale = scale};
  rgm_cpu_parallel(s, x.dims[0], sum_task, &a);
}


// ---- order statistics --------------------------------------------------------------------------

// shell sort: in place, no recursion, no allocation; fast enough for the batches of CEM. A total
// order, so that the result does not depend on the input's
static void sort(float *x, int64_t n) {
  int64_t gap = 1;
  while (gap < n / 3) {
    gap = 3 * gap + 1;
  }
  for (; gap > 0; gap /= 3) {
    for (int64_t i = gap; i < n; i++) {
      const float value = x[i];
      const uint32_t key = rgm_order_key(value);
      int64_t k = i;
      for (; k >= gap && key < rgm_order_key(x[k - gap]); k -= gap) {
        x[k] = x[k - gap];
      }
      x[k] = value;
    }
  }
}


static void quantile_task(void *arg, int64_t r) {
  const data_args *a = arg;
  const int64_t n = a->x.dims[1];
  float *sorted = rgm_f32(a->z, r);
  memcpy(sorted, rgm_f32(a->x, r), (size_t)n * sizeof *sorted);
  sort(sorted, n);
  const double position = (double)rgm_f32(a->q, r)[0] * (double)(n - 1);
  const int64_t below = (int64_t)position;
  const float low = sorted[below], high = sorted[below + 1 < n ? below + 1 : below];
  rgm_f32(a->y, r)[0] = rgm_between(low, high, (float)(position - (double)below));
}


void RGM_CPU(quantile)(rgm_stream *s, rgm_tensor y, rgm_tensor work, rgm_tensor x, rgm_tensor q) {
  data_args a = {.y = y, .x = x, .z = work, .q = q};
  rgm_cpu_parallel(s, x.dims[0], quantile_task, &a);
}


static void select_task(void *arg, int64_t r) {
  const data_args *a = arg;
  const int64_t n = a->x.dims[1];
  const float *x = rgm_f32(a->x, r), threshold = rgm_f32(a->q, r)[0];
  float *weight = rgm_f32(a->y, r);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    count += x[i] >= threshold;
  }
  const float share = count > 0 ? 1.0f / (float)count : 0.0f;
  for (int64_t i = 0; i < n; i++) {
    weight[i] = x[i] >= threshold ? share : 0.0f;
  }
}


void RGM_CPU(select)(rgm_stream *s, rgm_tensor weight, rgm_tensor x, rgm_tensor threshold) {
  data_args a = {.y = weight, .x = x, .q = threshold};
  rgm_cpu_parallel(s, x.dims[0], select_task, &a);
}


typedef struct enlist_args {
  rgm_tensor items, share, count, lost, weight, active;
} enlist_args;


static void enlist_task(void *arg, int64_t r) {
  const enlist_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const int64_t n = a->weight.dims[1], places = a->items.dims[1];
  const float *weight = rgm_f32(a->weight, r);
  uint32_t *items = rgm_u32(a->items, r);
  float *share = rgm_f32(a->share, r);
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    if (weight[i] != 0.0f && count++ < places) {
      items[count - 1] = (uint32_t)i;
      share[count - 1] = weight[i];
    }
  }
  for (int64_t k = count > places ? 0 : count; k < places; k++) {
    share[k] = count > places ? rgm_from_bits(0x7fc00000u) : 0.0f;
  }
  rgm_u32(a->count, r)[0] = (uint32_t)count;
  rgm_u32(a->lost, r)[0] += count > places ? (uint32_t)(count - places) : 0;
}


void RGM_CPU(enlist)(rgm_stream *s, rgm_tensor items, rgm_tensor share, rgm_tensor count,
                     rgm_tensor lost, rgm_tensor weight, rgm_tensor active) {
  enlist_args a = {items, share, count, lost, weight, active};
  rgm_cpu_parallel(s, weight.dims[0], enlist_task, &a);
}


// ---- fills and counters ------------------------------------------------------------------------

static void uniform_task(void *arg, int64_t r) {
  const data_args *a = arg;
  const int64_t columns = a->x.dims[a->x.rank - 1];
  const int64_t rows = rgm_elements(a->x) / a->x.dims[0] / columns;
  const rgm_key key = rgm_stream_key(rgm_u32(a->seeds, r), a->random);
  float *x = rgm_f32(a->x, r);
  uint32_t item = 0;
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t c = 0; c < columns; c++) {
      x[row * columns + c] = 0.0f;
      if (c < a->last_dim) {
        const rgm_words words = rgm_philox(key, 0, item++, 0, a->member);
        // rounding may reach `high`, which is not in the range
        const float value = rgm_fma(a->high - a->low, rgm_unit(words.w0), a->low);
        x[row * columns + c] = value < a->high ? value : a->low;
      }
    }
  }
}


void RGM_CPU(uniform)(rgm_stream *s, rgm_tensor x, rgm_tensor seeds, uint32_t random,
                      uint32_t member, float low, float high, int64_t last_dim) {
  data_args a = {.x = x,
                 .seeds = seeds,
                 .random = random,
                 .member = member,
                 .low = low,
                 .high = high,
                 .last_dim = last_dim};
  rgm_cpu_parallel(s, x.dims[0], uniform_task, &a);
}


void RGM_CPU(advance)(rgm_stream *s, rgm_tensor count, rgm_tensor active) {
  (void)s;
  for (int64_t r = 0; r < count.dims[0]; r++) {
    rgm_u32(count, r)[0] += rgm_u32(active, r)[0] != 0;
  }
}


void RGM_CPU(retire)(rgm_stream *s, rgm_tensor active, rgm_tensor x, rgm_tensor bound) {
  (void)s;
  for (int64_t r = 0; r < active.dims[0]; r++) {
    if (rgm_f32(x, r)[0] >= rgm_f32(bound, r)[0]) {
      rgm_u32(active, r)[0] = 0;
    }
  }
}


static void nonfinite_task(void *arg, int64_t r) {
  const data_args *a = arg;
  const int64_t n = rgm_elements(a->x) / a->x.dims[0];
  const float *x = rgm_f32(a->x, r);
  uint32_t count = 0;
  for (int64_t i = 0; i < n; i++) {
    count += !(rgm_abs(x[i]) <= 0x1.fffffep127f);
  }
  rgm_u32(a->y, r)[0] = count;
}


void RGM_CPU(nonfinite)(rgm_stream *s, rgm_tensor count, rgm_tensor x) {
  data_args a = {.y = count, .x = x};
  rgm_cpu_parallel(s, x.dims[0], nonfinite_task, &a);
}
