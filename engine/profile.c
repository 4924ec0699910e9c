// SPDX-License-Identifier: Apache-2.0
// `regimen train --profile`: where the time of a training went, row by row of the kernel table.
// Every launch is waited for while it is measured, so on a GPU the whole is slower than without.

#include "engine/profile.h"

#include <stdlib.h>

typedef struct share {
  const char *name;
  rgm_counts counts;
} share;


static int longest_first(const void *a_, const void *b_) {
  const share *a = a_, *b = b_;
  return (a->counts.seconds < b->counts.seconds) - (a->counts.seconds > b->counts.seconds);
}


// rows that were launched, the longest first; returns how many
static int collect(const rgm_stream *stream, share shares[RGM_ROW_COUNT], double *kernels) {
  int count = 0;
  *kernels = 0.0;
  for (int i = 0; i < RGM_ROW_COUNT; i++) {
    if (stream->counts[i].launches > 0) {
      shares[count++] = (share){rgm_row_names[i], stream->counts[i]};
      *kernels += stream->counts[i].seconds;
    }
  }
  qsort(shares, (size_t)count, sizeof *shares, longest_first);
  return count;
}


void rgm_profile_start(rgm_stream *stream) {
  for (int i = 0; i < RGM_ROW_COUNT; i++) {
    stream->counts[i] = (rgm_counts){0};
  }
  stream->timed = true;
}


void rgm_profile_print(const rgm_stream *stream, double elapsed, FILE *out) {
  share shares[RGM_ROW_COUNT];
  double kernels;
  const int count = collect(stream, shares, &kernels);
  fprintf(out, "\n%-16s %10s %10s %6s %12s %10s %10s\n", "kernel", "launches", "s", "%",
          "us/launch", "GFLOP/s", "GB/s");
  for (int i = 0; i < count; i++) {
    const rgm_counts c = shares[i].counts;
    const double s = c.seconds > 0 ? c.seconds : 1e-9;
    fprintf(out, "%-16s %10llu %10.3f %6.1f %12.1f %10.1f %10.1f\n", shares[i].name,
            (unsigned long long)c.launches, c.seconds, 100.0 * c.seconds / elapsed,
            1e6 * c.seconds / (double)c.launches, 1e-9 * c.flops / s, 1e-9 * c.bytes / s);
  }
  fprintf(out, "%-16s %10s %10.3f %6.1f\n", "host", "", elapsed - kernels,
          100.0 * (elapsed - kernels) / elapsed);
}


void rgm_profile_json(const rgm_stream *stream, double elapsed, rgm_json *json) {
  share shares[RGM_ROW_COUNT];
  double kernels;
  const int count = collect(stream, shares, &kernels);
  rgm_json_open(json, "profile", '[');
  for (int i = 0; i < count; i++) {
    rgm_json_open(json, NULL, '{');
    rgm_json_string(json, "kernel", shares[i].name);
    rgm_json_number(json, "launches", (double)shares[i].counts.launches);
    rgm_json_number(json, "seconds", shares[i].counts.seconds);
    rgm_json_number(json, "flops", shares[i].counts.flops);
    rgm_json_number(json, "bytes", shares[i].counts.bytes);
    rgm_json_close(json, '}');
  }
  rgm_json_open(json, NULL, '{');
  rgm_json_string(json, "kernel", "host");
  rgm_json_number(json, "seconds", elapsed - kernels);
  rgm_json_close(json, '}');
  rgm_json_close(json, ']');
}
