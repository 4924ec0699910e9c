// SPDX-License-Identifier: Apache-2.0
// `regimen bench [SUITE]`: the frame of all suites, i.e. timing, peaks, rows, and the command.

#include "tools/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_BLOCKS = 256, MAX_OVERRIDES = 300 };

static const struct {
  const char *name;
  rgm_status (*run)(bench *b);
} suites[] = {
    {"rollout", bench_rollout}, {"mlp", bench_mlp},
    {"cem", bench_cem},         {"io", bench_io},
    {"offline", bench_offline}, {"dtr", bench_dtr},
    {"mdp", bench_mdp},         {"mdp-large", bench_mdp_large},
};

enum { SUITES = sizeof suites / sizeof *suites };


double bench_processor(void) {
  struct timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}


static double timed_calls(int64_t calls, void (*fn)(void *), void *arg) {
  const double begun = rgm_seconds();
  for (int64_t i = 0; i < calls; i++) {
    fn(arg);
  }
  return rgm_seconds() - begun;
}


bench_time bench_measure(double seconds, void (*fn)(void *), void *arg) {
  const double block = seconds < 0.005 ? seconds : 0.005;
  double sample[MAX_BLOCKS];
  int64_t calls = 1;

  // the first blocks find out how many calls fill one, and warm everything up
  double took = timed_calls(1, fn, arg);
  while (took < block) {
    calls = took > block / 64 ? (int64_t)((double)calls * block / took) + 1 : 2 * calls;
    took = timed_calls(calls, fn, arg);
  }
  int count = 0;
  double processor = INFINITY;
  for (double spent = 0; count < MAX_BLOCKS && (spent < seconds || count < 3); count++) {
    const double begun = bench_processor();
    took = timed_calls(calls, fn, arg);
    const double used = (bench_processor() - begun) / (double)calls;
    processor = used < processor ? used : processor;
    sample[count] = took / (double)calls;
    spent += took;
  }
  const rgm_summary summary = rgm_summarise(sample, count);
  return (bench_time){summary.min, summary.median, processor};
}


// ---- peaks -------------------------------------------------------------------------------------

enum { BURN_ROUNDS = 200000, TRIAD_FLOATS = 1 << 23 }; // three arrays of 32 MiB

typedef struct triad_job {
  rgm_stream *stream;
  rgm_tensor x, y, z;
} triad_job;

static void burn(void *stream) {
  rgm_burn(stream, BURN_ROUNDS);
}


static void triad(void *job_) {
  const triad_job *job = job_;
  rgm_triad(job->stream, job->y, job->x, job->z, 0.5f);
}


void bench_peaks(bench_stream *s) {
  const double flops = rgm_burn(s->stream, 1) * BURN_ROUNDS;
  const double rate = flops / bench_measure(s->seconds, burn, s->stream).best;
  s->flops = rate > s->flops ? rate : s->flops;

  void *memory[3] = {NULL};
  bool good = true;
  for (int i = 0; i < 3; i++) {
    good = good && s->stream->backend->alloc(s->stream, 4 * (size_t)TRIAD_FLOATS, &memory[i]) == 0;
  }
  if (good) {
    triad_job job = {s->stream, rgm_view(memory[0], RGM_F32, 1, TRIAD_FLOATS, 0, 0),
                     rgm_view(memory[1], RGM_F32, 1, TRIAD_FLOATS, 0, 0),
                     rgm_view(memory[2], RGM_F32, 1, TRIAD_FLOATS, 0, 0)};
    const double bytes = 12.0 * TRIAD_FLOATS / bench_measure(s->seconds, triad, &job).best;
    s->bytes = bytes > s->bytes ? bytes : s->bytes;
  }
  for (int i = 0; i < 3; i++) {
    if (memory[i] != NULL) {
      s->stream->backend->release(s->stream, memory[i]);
    }
  }
}


// ---- rows --------------------------------------------------------------------------------------

// 1.23 G, 45.6 M, ...
static void scaled(double value, char text[24]) {
  const char *prefix = "";
  if (value >= 1e9) {
    value *= 1e-9;
    prefix = "G";
  } else if (value >= 1e6) {
    value *= 1e-6;
    prefix = "M";
  } else if (value >= 1e4) {
    value *= 1e-3;
    prefix = "k";
  }
  snprintf(text, 24, "%.4g %s", value, prefix);
}


// the least time of a call at the peaks, in arithmetic and in memory
typedef struct floors {
  double flops, bytes; // s
} floors;

static floors floors_at(const bench_case *c, const bench_stream *s) {
  return s != NULL ? (floors){c->flops / s->flops, c->bytes / s->bytes} : (floors){0};
}


static void report_json(bench *b, const bench_case *c, double value, double median, double flops,
                        double bytes, double fraction, double times_ours, floors least,
                        double processor) {
  rgm_json_open(&b->json, NULL, '{');
  rgm_json_string(&b->json, "suite", c->suite);
  rgm_json_string(&b->json, "case", c->name);
  rgm_json_number(&b->json, "threads", c->threads);
  if (c->replicas > 0) {
    rgm_json_number(&b->json, "replicas", (double)c->replicas);
  }
  if (c->patients > 0) {
    rgm_json_number(&b->json, "patients", (double)c->patients);
  }
  rgm_json_number(&b->json, "value", value);
  rgm_json_string(&b->json, "unit", c->unit);
  rgm_json_number(&b->json, "median", median);
  rgm_json_number(&b->json, "flops", flops);
  rgm_json_number(&b->json, "bytes", bytes);
  rgm_json_number(&b->json, "fraction_of_peak", fraction);
  if (c->library != NULL) {
    rgm_json_string(&b->json, "library", c->library);
  }
  if (c->ours > 0) {
    rgm_json_number(&b->json, "times_ours", times_ours);
  }
  if (c->memory > 0) {
    rgm_json_number(&b->json, "floor_flops_s", least.flops);
    rgm_json_number(&b->json, "floor_bytes_s", least.bytes);
    rgm_json_number(&b->json, "memory", c->memory);
  }
  if (c->memory > 0 || strcmp(c->suite, "mdp") == 0) {
    rgm_json_number(&b->json, "processor_s", processor);
  }
  rgm_json_close(&b->json, '}');
}


void bench_report(bench *b, const bench_case *c, bench_time time, const bench_stream *s) {
  const double value = c->seconds ? time.best : c->work / time.best;
  const double median = c->seconds ? time.median : c->work / time.median;
  const double flops = c->flops / time.best, bytes = c->bytes / time.best;

  // how much faster another library is than ours
  const double times_ours = c->ours / time.best;

  // of the peak that is nearer
  double fraction = 0.0;
  const char *bound = "";
  if (s != NULL) {
    const bool memory = bytes / s->bytes > flops / s->flops;
    fraction = memory ? bytes / s->bytes : flops / s->flops;
    bound = memory ? "of memory" : "of FMA";
  }
  if (b->json.out != NULL) {
    report_json(b, c, value, median, flops, bytes, fraction, times_ours, floors_at(c, s),
                time.processor);
    return;
  }
  char shape[48] = "", best[24], middle[24], rate[24], stream[24];
  if (c->replicas > 0) {
    snprintf(shape, sizeof shape, "R %lld", (long long)c->replicas);
  }
  if (c->patients > 0) {
    snprintf(shape + strlen(shape), sizeof shape - strlen(shape), " K %lld",
             (long long)c->patients);
  }
  scaled(value, best);
  scaled(median, middle);
  scaled(flops, rate);
  scaled(bytes, stream);
  fprintf(b->options->result, "%-8s %-26s %-12s %2d  %9s%-12s (%s) %9sFLOP/s %9sB/s", c->suite,
          c->name, shape, c->threads, best, c->unit, middle, rate, stream);
  if (s != NULL) {
    fprintf(b->options->result, " %5.1f %% %s", 100.0 * fraction, bound);
  }
  if (c->ours > 0) {
    fprintf(b->options->result, ", %.2f times ours", times_ours);
  }
  if (c->memory > 0) {
    const floors least = floors_at(c, s);
    fprintf(b->options->result, ", floors %.3g and %.3g ms, %.1f MiB", 1e3 * least.flops,
            1e3 * least.bytes, c->memory / 0x1p20);
  }
  fputc('\n', b->options->result);
  fflush(b->options->result);
}


// ---- runs --------------------------------------------------------------------------------------

rgm_status bench_open(const bench *b, const char *const *overrides, int threads, rgm_run **out) {
  const char *all[MAX_OVERRIDES + 1];
  char last[64];
  int count = 0;
  for (; overrides[count] != NULL; count++) {
    all[count] = overrides[count];
  }
  for (int i = 0; i < b->options->set_count && count < MAX_OVERRIDES; i++) {
    all[count++] = b->options->set[i];
  }
  if (threads > 0) {
    snprintf(last, sizeof last, "run.threads=%d", threads);
    all[count++] = last;
  }
  rgm_config *config;
  *out = NULL;
  RGM_TRY(rgm_config_load(NULL, all, count, &config));
  return rgm_run_create(config, out);
}


// how many threads the machine, or the command line, gives
static rgm_status count_threads(bench *b) {
  static const char *const overrides[] = {"algorithm.name=pid", "env.name=propofol", NULL};
  rgm_run *run;
  const rgm_status status = bench_open(b, overrides, 0, &run);
  if (status == RGM_OK) {
    b->threads = rgm_is_cpu(run->stream) ? rgm_cpu_threads(run->stream) : 1;
    if (b->options->progress != NULL) {
      fprintf(b->options->progress, "%s on %s; best of blocks of 5 ms (median in brackets)\n",
              rgm_version_text(), run->device);
    }
  }
  rgm_run_free(run);
  return status;
}


// whether the first `length` letters of a text are a name
static bool names(const char *text, size_t length, const char *name) {
  return strlen(name) == length && strncmp(text, name, length) == 0;
}


rgm_status bench_command(const rgm_options *options) {
  bench b = {.options = options, .seconds = options->seconds > 0 ? options->seconds : 1.0};
  bool known = options->path == NULL;
  size_t length = 0;
  if (options->path != NULL) {
    length = strcspn(options->path, ":");
    b.only = options->path[length] == ':' ? options->path + length + 1 : NULL;
  }
  for (int i = 0; i < SUITES; i++) {
    known = known || names(options->path, length, suites[i].name);
  }
  if (!known) {
    return rgm_fail(RGM_EUSAGE,
                    "bench: there is no suite \"%s\"; there are rollout, mlp, cem, io, "
                    "offline, dtr, mdp, mdp-large",
                    options->path);
  }
  if (b.only != NULL && !names(options->path, length, "offline") &&
      !names(options->path, length, "mdp")) {
    return rgm_fail(RGM_EUSAGE,
                    "bench: single cases are for the suites offline and mdp (offline:CASE)");
  }
  RGM_TRY(count_threads(&b));
  b.json.out = options->json ? options->result : NULL;
  rgm_json_open(&b.json, NULL, '[');
  rgm_status status = RGM_OK;
  for (int i = 0; i < SUITES && status == RGM_OK; i++) {
    // by name alone: it wants 7 GB
    const bool large = suites[i].run == bench_mdp_large;
    if (options->path == NULL ? !large : names(options->path, length, suites[i].name)) {
      status = suites[i].run(&b);
    }
  }
  rgm_json_close(&b.json, ']');
  return status;
}
