// SPDX-License-Identifier: Apache-2.0
// Weighted importance sampling over patients (Precup et al. 2000): the estimate, how many patients
// it rests on (Kish 1965), and an interval by resampling patients. Used wherever plans are judged
// by records.

#include "algorithms/dp.h"
#include "kernels/rng.h"

#include <math.h>


void dp_weigh(const double *ratio, const double *earned, int64_t n, int64_t resamples,
              uint64_t seed, double *work, dp_weighed *out) {
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_EVAL + RGM_RANDOM_BOOTSTRAP);
  double sum = 0.0, square = 0.0, total = 0.0;
  for (int64_t i = 0; i < n; i++) {
    sum += ratio[i];
    square = fma(ratio[i], ratio[i], square);
    total = fma(ratio[i], earned[i], total);
  }
  out->wis = total / sum;
  out->ess = square > 0.0 ? sum * sum / square : 0.0;
  int64_t good = 0;
  for (int64_t b = 0; b < resamples; b++) {
    double w = 0.0, x = 0.0;
    for (int64_t i = 0; i < n; i++) {
      const uint32_t j = rgm_below(key, (uint32_t)b, (uint32_t)i, 0, (uint32_t)n);
      w += ratio[j];
      x = fma(ratio[j], earned[j], x);
    }
    if (w > 0.0) {
      work[good++] = x / w;
    }
  }
  (void)rgm_summarise(work, good);
  out->low = good > 0 ? rgm_quantile_sorted(work, good, 0.025) : NAN;
  out->high = good > 0 ? rgm_quantile_sorted(work, good, 0.975) : NAN;
}
