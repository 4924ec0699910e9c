// SPDX-License-Identifier: Apache-2.0
// `regimen bench mdp`: Bellman sweeps beside a read of the same bytes and beside bare gathers,
// measured in turn; ICU-Sepsis to a residual of 1e-11; 1,000 of its bootstrap draws; tabular
// learning on it. `mdp-large`: a local model of 10 million states and 1.3e9 non-zeros, solved.

#include "engine/engine.h"
#include "engine/mdp.h"
#include "tools/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { PAIRS = 15, CHUNK = 1 << 16 };

// A model being swept; arrays on the host.
typedef struct sweeping {
  rgm_stream *stream;
  rgm_mdp_layout layout;
  rgm_bellman bellman;
  double *memory;   // value, out, partial, bounds, gamma, tie
  int32_t *action;  // (S)
  uint32_t *active; // (1)
  uint64_t sink[64];
  bool gathers; // the yardstick: gathers of values, or a read of the bytes
} sweeping;


static void sweep(void *arg) {
  sweeping *w = arg;
  rgm_mdp_bellman(w->stream, &w->bellman);
  const rgm_tensor swap = w->bellman.value;
  w->bellman.value = w->bellman.out;
  w->bellman.out = swap;
}


// ---- yardsticks --------------------------------------------------------------------------------

// reads 64 KiB words of p and next, in the order of a sweep
static void read_task(void *arg, int64_t i) {
  sweeping *w = arg;
  uint64_t sum[8] = {0};
  const rgm_tensor part[2] = {w->layout.rows.p, w->layout.rows.next};
  const int64_t count = rgm_elements(part[0]);
  const int64_t begin = i * CHUNK, end = begin + CHUNK < count ? begin + CHUNK : count;
  for (int k = 0; k < 2 && part[k].data != NULL; k++) {
    const size_t size = rgm_dtype_size(part[k].dtype);
    const uint64_t *x = (const uint64_t *)((const char *)part[k].data + (size_t)begin * size);
    const int64_t words = (int64_t)((size_t)(end - begin) * size / 8);
    for (int64_t j = 0; j + 8 <= words; j += 8) {
      for (int lane = 0; lane < 8; lane++) {
        sum[lane] ^= x[j + lane];
      }
    }
  }
  for (int lane = 0; lane < 8; lane++) {
    w->sink[i % 8 * 8 + lane] ^= sum[lane];
  }
}


#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double gather_512(const int32_t *next, const double *v,
                                                            int64_t n) {
  __m512d x = _mm512_setzero_pd();
  for (int64_t j = 0; j + 8 <= n; j += 8) {
    x = _mm512_add_pd(x,
                      _mm512_i32gather_pd(_mm256_loadu_si256((const __m256i *)(next + j)), v, 8));
  }
  return _mm512_reduce_add_pd(x);
}
#endif


static double gather_plain(const int32_t *next, const double *v, int64_t n) {
  double x[4] = {0.0, 0.0, 0.0, 0.0};
  for (int64_t j = 0; j + 4 <= n; j += 4) {
    for (int k = 0; k < 4; k++) {
      x[k] += v[next[j + k]];
    }
  }
  return x[0] + x[1] + x[2] + x[3];
}


static void gather_task(void *arg, int64_t i) {
  sweeping *w = arg;
  const int64_t count = rgm_elements(w->layout.rows.next);
  const int64_t begin = i * CHUNK, n = begin + CHUNK < count ? CHUNK : count - begin;
  const int32_t *next = (const int32_t *)w->layout.rows.next.data + begin;
  const double *v = w->bellman.value.data;
#if defined(__x86_64__)
  const double x =
      __builtin_cpu_supports("avx512f") ? gather_512(next, v, n) : gather_plain(next, v, n);
#else
  const double x = gather_plain(next, v, n);
#endif
  w->sink[i % 8] += x > 0.0;
}


static void yardstick(void *arg) {
  sweeping *w = arg;
  const int64_t chunks = (rgm_elements(w->layout.rows.p) + CHUNK - 1) / CHUNK;
  rgm_cpu_parallel(w->stream, chunks, w->gathers ? gather_task : read_task, w);
}


// whether a case is asked for: all are, or one by its name
static bool wanted(const bench *b, const char *name) {
  return b->only == NULL || strcmp(b->only, name) == 0;
}


// ---- sweeps ------------------------------------------------------------------------------------

static rgm_status prepare(sweeping *w, int64_t states, double gamma) {
  const int64_t blocks = w->layout.rows.block.dims[0] - 1;
  const size_t size = (size_t)(2 * states + 2 * blocks + 16);
  w->memory = calloc(size, sizeof *w->memory);
  w->action = malloc((size_t)states * sizeof *w->action);
  w->active = malloc(sizeof *w->active);
  if (w->memory == NULL || w->action == NULL || w->active == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)states);
  }
  memset(w->action, 0xFF, (size_t)states * sizeof *w->action);
  *w->active = 1;
  double *at = w->memory;
  w->bellman = (rgm_bellman){
      .value = rgm_view(at, RGM_F64, 1, states, 0, 0),
      .out = rgm_view(at + states, RGM_F64, 1, states, 0, 0),
      .partial = rgm_view(at + 2 * states, RGM_F64, 1, blocks, 2, 0),
      .bounds = rgm_view(at + 2 * states + 2 * blocks, RGM_F64, 1, 2, 0, 0),
      .gamma = rgm_view(at + 2 * states + 2 * blocks + 2, RGM_F64, 1, 0, 0, 0),
      .tie = rgm_view(at + 2 * states + 2 * blocks + 3, RGM_F64, 1, 0, 0, 0),
      .action = rgm_view(w->action, RGM_I32, 1, states, 0, 0),
      .active = rgm_view(w->active, RGM_U32, 1, 0, 0, 0),
      .rows = w->layout.rows,
      .reference = -1,
  };
  *(double *)w->bellman.gamma.data = gamma;
  return RGM_OK;
}


static void clean(sweeping *w) {
  rgm_mdp_layout_free(&w->layout);
  free(w->memory);
  free(w->action);
  free(w->active);
}


// in turn and by processor time, so that whoever else uses the machine slows both: the median of
// the ratios
static double paired(sweeping *w, bench_time *time) {
  double took[PAIRS], used[PAIRS], ratio[PAIRS];
  sweep(w);
  yardstick(w);
  for (int i = 0; i < PAIRS; i++) {
    const double before = bench_processor();
    yardstick(w);
    const double roof = bench_processor() - before, begun = rgm_seconds();
    sweep(w);
    took[i] = rgm_seconds() - begun;
    used[i] = bench_processor() - before - roof;
    ratio[i] = roof / used[i];
  }
  const rgm_summary s = rgm_summarise(took, PAIRS), r = rgm_summarise(ratio, PAIRS);
  *time = (bench_time){s.min, s.median, rgm_summarise(used, PAIRS).min};
  return r.median;
}


static rgm_status bench_sweep(bench *b, rgm_stream *stream, int threads, const char *name,
                              rgm_mdp_model model) {
  if (!wanted(b, name)) {
    return RGM_OK;
  }
  sweeping w = {.stream = stream, .gathers = model.spread == 0};
  rgm_status status = rgm_mdp_make_model(&model, stream, &w.layout);
  status = status == RGM_OK ? prepare(&w, model.states, 0.9) : status;
  if (status == RGM_OK) {
    bench_time time;
    const double fraction = paired(&w, &time);
    const double entries = (double)rgm_elements(w.layout.rows.p);
    const double bytes = entries * (model.compact ? 4.0 : 12.0);
    const bench_case c = {
        .suite = "mdp",
        .name = name,
        .threads = threads,
        .replicas = 1,
        .work = entries,
        .unit = "nnz/s",
        .flops = 2.0 * entries,
        .bytes = bytes,
    };
    // the yardstick's rate is the peak
    const bench_stream s = {stream, threads, b->seconds, 1e30, bytes / time.best / fraction};
    bench_report(b, &c, time, &s);
  }
  clean(&w);
  return status;
}


// ---- ICU-Sepsis --------------------------------------------------------------------------------

typedef struct solving {
  rgm_stream *stream;
  rgm_mdp *mdp;
  rgm_mdp_layout layout;
  rgm_mdp_solve solve;
  void *memory;
} solving;


static void solve_once(void *arg) {
  solving *w = arg;
  memset(w->solve.value.data, 0, rgm_bytes(w->solve.value));
  memset(w->solve.action.data, 0xFF, rgm_bytes(w->solve.action));
  rgm_mdp_solve_small(w->stream, &w->solve);
}


static void lay_out_once(void *arg) {
  solving *w = arg;
  rgm_mdp_layout layout;
  memset(w->mdp->allowed, 1, (size_t)w->mdp->rows);
  (void)rgm_mdp_mask_twins(w->mdp);
  (void)rgm_mdp_lay_out(w->mdp, false, &layout);
  rgm_mdp_layout_free(&layout);
}


static rgm_tensor take(char **at, rgm_dtype dtype, int64_t d0, int64_t d1) {
  const rgm_tensor t = rgm_view(*at, dtype, d0, d1, 0, 0);
  *at += (rgm_bytes(t) + 63) / 64 * 64;
  return t;
}


// everything that one replica of a small solution needs
static rgm_status prepare_small(solving *w) {
  const int64_t S = w->mdp->states;
  const rgm_mdp_rows *own = &w->layout.chosen;
  const size_t bytes = 24 * (size_t)S + 12 * (size_t)own->p.dims[1] + 8 * (size_t)S +
                       64 * (size_t)own->length.dims[1] + 4096;
  char *at = w->memory = calloc(1, bytes);
  if (at == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)S);
  }
  rgm_mdp_solve *a = &w->solve;
  a->value = take(&at, RGM_F64, 1, S);
  a->action = take(&at, RGM_I32, 1, S);
  a->bounds = take(&at, RGM_F64, 1, 2);
  a->rounds = take(&at, RGM_U32, 1, 0);
  a->gamma = take(&at, RGM_F64, 1, 0);
  a->tie = take(&at, RGM_F64, 1, 0);
  a->stop = take(&at, RGM_F64, 1, 0);
  a->active = take(&at, RGM_U32, 1, 0);
  a->rows = w->layout.rows;
  a->chosen = *own;
  a->chosen.length = take(&at, RGM_U32, 1, own->length.dims[1]);
  a->chosen.lane = take(&at, RGM_I32, 1, own->lane.dims[1]);
  a->chosen.p = take(&at, RGM_F64, 1, own->p.dims[1]);
  a->chosen.next = take(&at, RGM_I32, 1, own->next.dims[1]);
  a->chosen.reward = take(&at, RGM_F64, 1, own->reward.dims[1]);
  RGM_ASSERT((size_t)(at - (char *)w->memory) <= bytes);
  a->sweeps = 20;
  a->most = 1000;
  *(double *)a->gamma.data = 0.99;
  *(double *)a->tie.data = 1e-12;
  *(double *)a->stop.data = 1e-11;
  *(uint32_t *)a->active.data = 1;
  return RGM_OK;
}


static double start_value(const solving *w) {
  double sum = 0.0;
  for (int64_t s = 0; s < w->mdp->states; s++) {
    sum += w->mdp->begin[s] * ((double *)w->solve.value.data)[s];
  }
  return sum;
}


static rgm_status find_tables(bench *b, char path[1024]) {
  const char *root = getenv("REGIMEN_DATA");
  snprintf(path, 1024, "%s/icu-sepsis-mdp", root != NULL ? root : "../shared/data");
  if (access(path, R_OK) == 0) {
    return RGM_OK;
  }
  if (b->options->progress != NULL) {
    fprintf(b->options->progress, "mdp: no ICU-Sepsis at %s; set REGIMEN_DATA\n", path);
  }
  return RGM_EIO;
}


static rgm_status bench_icu(bench *b, rgm_stream *stream) {
  char path[1024];
  solving w = {.stream = stream};
  if ((!wanted(b, "icu_sepsis_099") && !wanted(b, "icu_sepsis_layout")) ||
      find_tables(b, path) != RGM_OK) {
    return RGM_OK;
  }
  const rgm_mdp_source source = {.path = path, .kind = "icu-sepsis", .begin = "", .mask = ""};
  rgm_status status = rgm_mdp_read(&source, &w.mdp);
  if (status == RGM_OK) {
    (void)rgm_mdp_mask_twins(w.mdp);
    status = rgm_mdp_lay_out(w.mdp, false, &w.layout);
  }
  status = status == RGM_OK ? prepare_small(&w) : status;
  if (status == RGM_OK) {
    bench_case c = {.suite = "mdp", .threads = 1, .replicas = 1, .unit = "s", .seconds = true};
    c.name = "icu_sepsis_099";
    bench_report(b, &c, bench_measure(b->seconds, solve_once, &w), NULL);
    if (!(fabs(start_value(&w) - 0.801334390296) < 1e-9)) {
      status = rgm_fail(RGM_EINTERNAL, "ICU-Sepsis came out as %.12f, not 0.801334390296",
                        start_value(&w));
    }
    c.name = "icu_sepsis_layout";
    bench_report(b, &c, bench_measure(b->seconds, lay_out_once, &w), NULL);
  }
  rgm_mdp_layout_free(&w.layout);
  rgm_mdp_free(w.mdp);
  free(w.memory);
  return status;
}


// ---- whole runs --------------------------------------------------------------------------------

// one step of a run on ICU-Sepsis, timed once: it takes seconds
static rgm_status bench_run(bench *b, const char *name, const char *const *sets, double work,
                            const char *unit) {
  char path[1024], set[1100];
  const char *overrides[24] = {"env.name=mdp",    "env.kind=icu-sepsis",
                               "env.masks=twins", "env.ends=[713, 714, 715]",
                               "run.steps=1",     set};
  int count = 6;
  if (!wanted(b, name) || find_tables(b, path) != RGM_OK) {
    return RGM_OK;
  }
  snprintf(set, sizeof set, "env.path=%s", path);
  for (; *sets != NULL; sets++) {
    overrides[count++] = *sets;
  }
  rgm_run *run;
  rgm_status status = bench_open(b, overrides, b->threads, &run);
  if (status == RGM_OK) {
    const double begun = rgm_seconds(), before = bench_processor();
    status = run->algorithm->step(run);
    status = status == RGM_OK ? rgm_sync(run->stream) : status;
    const double took = rgm_seconds() - begun, used = bench_processor() - before;
    const bench_case c = {.suite = "mdp",
                          .name = name,
                          .threads = b->threads,
                          .replicas = run->replicas,
                          .work = work,
                          .unit = unit,
                          .seconds = work == 0.0};
    bench_report(b, &c, (bench_time){took, took, used}, NULL);
  }
  rgm_run_free(run);
  return status;
}


rgm_status bench_mdp(bench *b) {
  static const char *const overrides[] = {"algorithm.name=pid", "env.name=propofol", NULL};
  static const rgm_mdp_model local = {1000000, 8, 16, 2000, 1, false};
  static const rgm_mdp_model compact = {1000000, 8, 16, 2000, 1, true};
  static const rgm_mdp_model quarter = {250000, 8, 16, 2000, 1, false};
  static const rgm_mdp_model any = {1000000, 8, 16, 0, 1, false};
  rgm_run *run;
  rgm_status status = bench_open(b, overrides, b->threads, &run);
  if (status == RGM_OK && !rgm_is_cpu(run->stream)) {
    status = rgm_fail(RGM_EUSAGE, "bench mdp measures the CPU; set run.backend: cpu");
  }
  rgm_stream *s = status == RGM_OK ? run->stream : NULL;
  status = status == RGM_OK ? bench_sweep(b, s, b->threads, "bellman_local", local) : status;
  status =
      status == RGM_OK ? bench_sweep(b, s, b->threads, "bellman_local_quarter", quarter) : status;
  status = status == RGM_OK ? bench_sweep(b, s, b->threads, "bellman_compact", compact) : status;
  status = status == RGM_OK ? bench_sweep(b, s, b->threads, "bellman_random", any) : status;
  status = status == RGM_OK ? bench_icu(b, s) : status;
  rgm_run_free(run);
  static const char *const draws[] = {"algorithm.name=dp_bootstrap", "algorithm.draws=1000",
                                      "algorithm.count=60", NULL};
  static const char *const learners[] = {"algorithm.name=tabular_q", "run.replicas=16",
                                         "algorithm.updates=1000000", "algorithm.gamma=1", NULL};
  status = status == RGM_OK ? bench_run(b, "bootstrap_mdp_1000", draws, 0.0, "s") : status;
  return status == RGM_OK ? bench_run(b, "qlearning_icu_sepsis", learners, 16e6, "updates/s")
                          : status;
}


// ---- ten million states ------------------------------------------------------------------------

rgm_status bench_mdp_large(bench *b) {
  static const char *const overrides[] = {"algorithm.name=pid", "env.name=propofol", NULL};
  const rgm_mdp_model model = {10000000, 8, 16, 2000, 1, true};
  const double gamma = 0.9, tolerance = 1e-6;
  rgm_run *run;
  rgm_status status = bench_open(b, overrides, b->threads, &run);
  sweeping w = {.stream = status == RGM_OK ? run->stream : NULL};
  status = status == RGM_OK ? rgm_mdp_make_model(&model, w.stream, &w.layout) : status;
  status = status == RGM_OK ? prepare(&w, model.states, gamma) : status;
  if (status == RGM_OK) {
    const double begun = rgm_seconds();
    double bound = INFINITY;
    int sweeps = 0;
    while (bound > tolerance) {
      sweep(&w);
      const double *side = w.bellman.bounds.data;
      bound = fmax(-side[0], side[1]) * gamma / (1.0 - gamma);
      sweeps++;
    }
    const double entries = (double)rgm_elements(w.layout.rows.p), took = rgm_seconds() - begun;
    const bench_case c = {
        .suite = "mdp",
        .name = "solve_local_10m",
        .threads = b->threads,
        .replicas = 1,
        .unit = "s",
        .seconds = true,
        .bytes = 4.0 * entries * sweeps,
        .flops = 2.0 * entries * sweeps,
    };
    bench_report(b, &c, (bench_time){took, took, took}, NULL);
    if (b->options->progress != NULL) {
      fprintf(b->options->progress, "%.3g non-zeros, %d sweeps, at most %.2g from the truth\n",
              entries, sweeps, bound);
    }
  }
  clean(&w);
  rgm_run_free(run);
  return status;
}
