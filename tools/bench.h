// SPDX-License-Identifier: Apache-2.0
// `regimen bench`: what its files share. A case is timed in blocks for about a second; the best
// block counts, and the median is told beside it. The peaks of arithmetic and memory are measured
// with the same threads in the same run, before and after each case.

#ifndef RGM_BENCH_H
#define RGM_BENCH_H

#include "engine/engine.h"
#include "engine/regimen.h"

typedef struct bench {
  const rgm_options *options;
  rgm_json json;    // out is NULL where a table is wanted
  int threads;      // the most that cases use
  double seconds;   // of a case
  const char *only; // of a suite's cases, as in `bench offline:CASE`; NULL: all
} bench;

// One case's stream with its peaks; the peaks only rise as more is measured.
typedef struct bench_stream {
  rgm_stream *stream;
  int threads;
  double seconds;      // that each peak is measured for
  double flops, bytes; // per second
} bench_stream;

typedef struct bench_time {
  double best, median; // s per call
  double processor;    // least processor time of this thread, s per call
} bench_time;

typedef struct bench_case {
  const char *suite, *name;
  int threads;
  int64_t replicas, patients; // 0 where it means nothing
  double work;                // units of a call
  const char *unit;           // "env-steps/s"
  bool seconds;               // the value is the time of a call, not work over time
  double flops, bytes;        // of a call
  double memory;              // bytes of the run's tensors; not 0: floors are told too
  const char *library;        // whose it is, with the version; NULL: ours, or not known
  double ours;                // s per call of our own rows for the same work, 0: not compared
} bench_case;

// Processor time of this thread, s: what others take of the machine does not count.
double bench_processor(void);

// Times fn(arg): blocks of at least 5 ms for at least `seconds`.
bench_time bench_measure(double seconds, void (*fn)(void *), void *arg);

// Raises the stream's peaks to what is measured now.
void bench_peaks(bench_stream *s);

// Prints or emits a row; `s` NULL: no fraction of a peak.
void bench_report(bench *b, const bench_case *c, bench_time time, const bench_stream *s);

// Opens a run from defaults, these overrides (ended by NULL), those of the command line, and so
// many threads (0: as the command line says).
rgm_status bench_open(const bench *b, const char *const *overrides, int threads, rgm_run **out);

// The suites: tools/bench_*.c
rgm_status bench_rollout(bench *b);
rgm_status bench_mlp(bench *b);
rgm_status bench_cem(bench *b);
rgm_status bench_io(bench *b);
rgm_status bench_offline(bench *b);
rgm_status bench_mdp(bench *b);
rgm_status bench_mdp_large(bench *b);
rgm_status bench_dtr(bench *b);

// The command.
rgm_status bench_command(const rgm_options *options);

#endif
