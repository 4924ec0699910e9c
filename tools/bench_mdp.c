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
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { ROUNDS = 8, PARTS = 32, CHUNK = 1 << 14, PAGE = 1 << 21 };

// A model being swept; arrays on the host, on huge pages as those of a run are.
typedef struct sweeping {
  rgm_stream *stream;
  rgm_mdp_layout layout;
  rgm_bellman bellman;
  double *memory;   // value, out, partial, bounds, gamma, tie
  int32_t *action;  // (S)
  uint32_t *active; // (1)
  bool gathers;     // the yardstick: gathers of values, or a read of the bytes
  double (*gather)(const int32_t *next, const double *v, int64_t n); // the faster way here
  // a part of the yardstick: entries, states; what it has read, a word a chunk
  int64_t entry, entries, state, states;
  uint64_t sink[64];
} sweeping;


// blocks part * B / PARTS ... of B
static int64_t part_begin(const sweeping *w, int64_t part) {
  return (w->layout.rows.block.dims[0] - 1) * part / PARTS;
}


static rgm_tensor from(rgm_tensor t, int64_t skip, int64_t count) {
  t.data = (char *)t.data + (size_t)skip * rgm_dtype_size(t.dtype);
  t.dims[t.rank - 1] = count;
  return t;
}


// A part of a sweep: a range of its blocks.
static void sweep_part(sweeping *w, int64_t part) {
  const int64_t begin = part_begin(w, part), blocks = part_begin(w, part + 1) - begin;
  rgm_bellman b = w->bellman;
  b.rows.block = from(b.rows.block, begin, blocks + 1);
  b.rows.slice = from(b.rows.slice, begin, blocks + 1);
  b.partial = rgm_view((double *)b.partial.data + 2 * begin, RGM_F64, 1, blocks, 2, 0);
  rgm_mdp_bellman(w->stream, &b);
}


static void swap(sweeping *w) {
  const rgm_tensor value = w->bellman.value;
  w->bellman.value = w->bellman.out;
  w->bellman.out = value;
}


static void sweep(sweeping *w) {
  rgm_mdp_bellman(w->stream, &w->bellman);
  swap(w);
}


// ---- yardsticks --------------------------------------------------------------------------------

static uint64_t read_words(const void *data, int64_t bytes) {
  const uint64_t *x = data;
  uint64_t sum[32] = {0};
  for (int64_t j = 0; j + 32 <= bytes / 8; j += 32) {
    for (int lane = 0; lane < 32; lane++) {
      sum[lane] ^= x[j + lane];
    }
  }
  for (int lane = 1; lane < 32; lane++) {
    sum[0] ^= sum[lane];
  }
  return sum[0];
}


// Reads what a sweep must: p and next of a chunk of entries, and its share of rewards, values and
// of what is written, each once.
static void read_task(void *arg, int64_t i) {
  sweeping *w = arg;
  const rgm_mdp_rows *m = &w->layout.rows;
  const int64_t chunks = (w->entries + CHUNK - 1) / CHUNK;
  const int64_t begin = w->entry + i * CHUNK, left = w->entries - i * CHUNK;
  const int64_t count = left < CHUNK ? left : CHUNK;
  const int64_t state = w->state + w->states * i / chunks;
  const int64_t states = w->state + w->states * (i + 1) / chunks - state;
  const int64_t row = rgm_at_u32(m->first, 0, state);
  const int64_t rows = rgm_at_u32(m->first, 0, state + states) - row;
  const rgm_tensor read[5] = {from(m->p, begin, count), from(m->next, begin, count),
                              from(m->reward, row, rows), from(w->bellman.value, state, states),
                              from(w->bellman.out, state, states)};
  uint64_t sum = 0;
  for (int k = 0; k < 5; k++) {
    if (k != 1 || m->next.data != NULL) {
      sum ^= read_words(read[k].data, (int64_t)(read[k].dims[1] * rgm_dtype_size(read[k].dtype)));
    }
  }
  w->sink[i % 64] ^= sum;
}


// bytes that read_task reads of a whole model
static double read_bytes(const sweeping *w) {
  const rgm_mdp_rows *m = &w->layout.rows;
  const double each = m->next.data != NULL ? 12.0 : 4.0;
  return each * (double)rgm_elements(m->p) + 8.0 * (double)rgm_elements(m->reward) +
         16.0 * (double)rgm_elements(w->bellman.value);
}


#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double gather_512(const int32_t *next, const double *v,
                                                            int64_t n) {
  __m512d x[2] = {_mm512_setzero_pd(), _mm512_setzero_pd()};
  for (int64_t j = 0; j + 16 <= n; j += 16) {
    for (int k = 0; k < 2; k++) {
      const __m256i index = _mm256_loadu_si256((const __m256i *)(next + j + 8 * k));
      x[k] = _mm512_add_pd(x[k], _mm512_i32gather_pd(index, v, 8));
    }
  }
  return _mm512_reduce_add_pd(_mm512_add_pd(x[0], x[1]));
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


// what a sweep must gather: values of a chunk of entries
static void gather_task(void *arg, int64_t i) {
  sweeping *w = arg;
  const int64_t left = w->entries - i * CHUNK, count = left < CHUNK ? left : CHUNK;
  const int32_t *next = (const int32_t *)w->layout.rows.next.data + w->entry + i * CHUNK;
  w->sink[i % 64] += w->gather(next, w->bellman.value.data, count) > 0.0;
}


static void yardstick(sweeping *w, int64_t part) {
  const rgm_mdp_rows *m = &w->layout.rows;
  const int64_t begin = part_begin(w, part), end = part_begin(w, part + 1);
  w->entry = RGM_SLICE * (int64_t)rgm_at_u32(m->start, 0, rgm_at_u32(m->slice, 0, begin));
  w->entries =
      RGM_SLICE * (int64_t)rgm_at_u32(m->start, 0, rgm_at_u32(m->slice, 0, end)) - w->entry;
  w->state = rgm_at_u32(m->block, 0, begin);
  w->states = rgm_at_u32(m->block, 0, end) - w->state;
  rgm_cpu_parallel(w->stream, (w->entries + CHUNK - 1) / CHUNK,
                   w->gathers ? gather_task : read_task, w);
}


// single loads, or the instruction, which some processors guard: whichever takes less here
static void choose_gather(sweeping *w) {
  w->gather = gather_plain;
#if defined(__x86_64__)
  double (*const ways[2])(const int32_t *, const double *, int64_t) = {gather_plain, gather_512};
  double least[2] = {1e9, 1e9};
  for (int i = 0; i < 2 * ROUNDS && __builtin_cpu_supports("avx512f"); i++) {
    const double before = bench_processor();
    w->gather = ways[i % 2];
    yardstick(w, i / 2 % PARTS);
    const double used = bench_processor() - before;
    least[i % 2] = used < least[i % 2] ? used : least[i % 2];
  }
  w->gather = ways[least[1] < least[0]];
#endif
}


// whether a case is asked for: all are, or one by its name
static bool wanted(const bench *b, const char *name) {
  return b->only == NULL || strcmp(b->only, name) == 0;
}


// ---- sweeps ------------------------------------------------------------------------------------

static rgm_status prepare(sweeping *w, int64_t states, double gamma) {
  const int64_t blocks = w->layout.rows.block.dims[0] - 1;
  const size_t bytes = (size_t)(2 * states + 2 * blocks + 16) * sizeof *w->memory;
  const size_t room = (bytes + PAGE - 1) / PAGE * PAGE;
  w->memory = aligned_alloc(PAGE, room);
  w->action = malloc((size_t)states * sizeof *w->action);
  w->active = malloc(sizeof *w->active);
  if (w->memory == NULL || w->action == NULL || w->active == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)states);
  }
#ifdef MADV_HUGEPAGE
  (void)madvise(w->memory, room, MADV_HUGEPAGE);
#endif
  memset(w->memory, 0, room);
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


// Sweep and yardstick take turns part by part, some milliseconds each, so that whoever else uses
// the machine slows both: the median of the ratios of processor time. The yardstick reads other
// parts than the sweep just has, so that neither finds its bytes in a cache; who goes first
// changes.
static double paired(sweeping *w, bench_time *time) {
  static double ratio[ROUNDS * PARTS];
  double took[ROUNDS] = {0.0}, used[ROUNDS] = {0.0};
  sweep(w);
  for (int64_t i = 0; i < ROUNDS * PARTS; i++) {
    const int64_t round = i / PARTS, part = i % PARTS, other = (part + PARTS / 2) % PARTS;
    double roof = 0.0, own = 0.0;
    for (int turn = 0; turn < 2; turn++) {
      const double before = bench_processor(), begun = rgm_seconds();
      if ((turn + part + round) % 2 == 0) {
        yardstick(w, other);
        roof = bench_processor() - before;
      } else {
        sweep_part(w, part);
        own = bench_processor() - before;
        took[round] += rgm_seconds() - begun;
      }
    }
    used[round] += own;
    ratio[i] = roof / own;
    if (part == PARTS - 1) {
      swap(w);
    }
  }
  const rgm_summary s = rgm_summarise(took, ROUNDS), r = rgm_summarise(ratio, ROUNDS * PARTS);
  *time = (bench_time){s.min, s.median, rgm_summarise(used, ROUNDS).min};
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
    if (w.gathers) {
      choose_gather(&w);
    }
    const double fraction = paired(&w, &time);
    const double entries = (double)rgm_elements(w.layout.rows.p);
    const double bytes = read_bytes(&w);
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
