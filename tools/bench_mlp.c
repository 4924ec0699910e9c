// SPDX-License-Identifier: Apache-2.0
// `regimen bench mlp`: a layer forward and backward for packs of replicas, beside the matrix
// products alone of other libraries where those are installed: on the CPU oneDNN and OpenBLAS, on a
// GPU its maker's; and what optimisers take from memory.

#include "tools/bench.h"

#include <dlfcn.h>
#include <stdlib.h>

enum { SIDE = 256 }; // rows, inputs and outputs

typedef struct mlp_job {
  rgm_stream *stream;
  rgm_arena *arena;
  rgm_tensor x, w, b, y, dy, dx, dw, db, m, v, count, rate, one, active;
} mlp_job;


static void plan_job(mlp_job *j, int64_t R) {
  rgm_arena *a = j->arena;
  j->x = rgm_plan(a, "x", RGM_F32, RGM_BLOCK, "r, b, i", "1", R, SIDE, SIDE, 0);
  j->w = rgm_plan(a, "w", RGM_F32, RGM_BLOCK, "r, i, o", "1", R, SIDE, SIDE, 0);
  j->b = rgm_plan(a, "b", RGM_F32, RGM_BLOCK, "r, o", "1", R, SIDE, 0, 0);
  j->y = rgm_plan(a, "y", RGM_F32, RGM_BLOCK, "r, b, o", "1", R, SIDE, SIDE, 0);
  j->dy = rgm_plan(a, "dy", RGM_F32, RGM_BLOCK, "r, b, o", "1", R, SIDE, SIDE, 0);
  j->dx = rgm_plan(a, "dx", RGM_F32, RGM_BLOCK, "r, b, i", "1", R, SIDE, SIDE, 0);
  j->dw = rgm_plan(a, "dw", RGM_F32, RGM_BLOCK, "r, i, o", "1", R, SIDE, SIDE, 0);
  j->db = rgm_plan(a, "db", RGM_F32, RGM_BLOCK, "r, o", "1", R, SIDE, 0, 0);
  j->m = rgm_plan(a, "m", RGM_F32, RGM_BLOCK, "r, i, o", "1", R, SIDE, SIDE, 0);
  j->v = rgm_plan(a, "v", RGM_F32, RGM_BLOCK, "r, i, o", "1", R, SIDE, SIDE, 0);
  j->count = rgm_plan(a, "count", RGM_U32, RGM_BLOCK, "r", "1", R, 0, 0, 0);
  j->rate = rgm_plan(a, "rate", RGM_F32, RGM_BLOCK, "r", "1", R, 0, 0, 0);
  j->one = rgm_plan(a, "one", RGM_F32, RGM_BLOCK, "r", "1", R, 0, 0, 0);
  j->active = rgm_plan(a, "active", RGM_U32, RGM_BLOCK, "r", "1", R, 0, 0, 0);
}


static rgm_status open_job(mlp_job *j, rgm_run *run) {
  j->stream = run->stream;
  RGM_TRY(rgm_arena_create(run->stream, &j->arena));
  plan_job(j, run->replicas);
  RGM_TRY(rgm_arena_bind(j->arena));
  plan_job(j, run->replicas);
  RGM_TRY(rgm_arena_seal(j->arena));
  const rgm_tensor filled[] = {j->x, j->w, j->dy, j->m, j->v};
  for (uint32_t i = 0; i < sizeof filled / sizeof *filled; i++) {
    rgm_uniform(run->stream, filled[i], run->seeds, RGM_RANDOM_INIT, i, 0.01f, 0.1f, SIDE);
  }
  rgm_fill(run->stream, j->active, 1);
  return rgm_sync(run->stream);
}


static void forward(void *job) {
  const mlp_job *j = job;
  rgm_linear(j->stream, j->y, j->x, j->w, j->b, RGM_RELU);
  (void)rgm_sync(j->stream);
}


static void backward_dx(void *job) {
  const mlp_job *j = job;
  rgm_linear_dx(j->stream, j->dx, j->dy, j->w, j->x, RGM_RELU);
  (void)rgm_sync(j->stream);
}


static void backward_dw(void *job) {
  const mlp_job *j = job;
  rgm_linear_dw(j->stream, j->dw, j->db, j->x, j->dy);
  (void)rgm_sync(j->stream);
}


// a group of replicas at a time, so that what a layer needs stays in the cache
static void whole_layer(void *job) {
  const mlp_job *j = job;
  const int64_t R = j->x.dims[0], group = rgm_group(j->stream, R);
  for (int64_t r = 0; r < R; r += group) {
    const int64_t n = R - r < group ? R - r : group;
    const rgm_tensor x = rgm_slice(j->x, r, n), w = rgm_slice(j->w, r, n);
    const rgm_tensor dy = rgm_slice(j->dy, r, n);
    rgm_linear(j->stream, rgm_slice(j->y, r, n), x, w, rgm_slice(j->b, r, n), RGM_RELU);
    rgm_linear_dx(j->stream, rgm_slice(j->dx, r, n), dy, w, x, RGM_RELU);
    rgm_linear_dw(j->stream, rgm_slice(j->dw, r, n), rgm_slice(j->db, r, n), x, dy);
  }
  (void)rgm_sync(j->stream);
}


static void adam(void *job) {
  const mlp_job *j = job;
  rgm_adam(j->stream, j->w, j->m, j->v, j->count, j->dw, j->rate, j->one, j->one, j->rate,
           j->active);
  (void)rgm_sync(j->stream);
}


static void ema(void *job) {
  const mlp_job *j = job;
  rgm_ema(j->stream, j->v, j->w, j->rate, j->active);
  (void)rgm_sync(j->stream);
}


// ---- the same products by other libraries ------------------------------------------------------

typedef struct peer {
  const char *name, *files[3];
  void *handle;
  void (*cblas)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                int lda, const float *b, int ldb, float beta, float *c, int ldc);
  int (*dnnl)(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
              int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
} peer;

typedef struct peer_job {
  const mlp_job *mlp;
  const peer *peer;
} peer_job;


static void multiply(const peer *p, bool ta, bool tb, const float *a, const float *b, float *c) {
  if (p->cblas != NULL) {
    p->cblas(101, ta ? 112 : 111, tb ? 112 : 111, SIDE, SIDE, SIDE, 1.0f, a, SIDE, b, SIDE, 0.0f, c,
             SIDE);
  } else {
    p->dnnl(ta ? 'T' : 'N', tb ? 'T' : 'N', SIDE, SIDE, SIDE, 1.0f, a, SIDE, b, SIDE, 0.0f, c,
            SIDE);
  }
}


// the three products of a layer, no bias, activation or mask
static void peer_layer(void *job) {
  const peer_job *p = job;
  const mlp_job *j = p->mlp;
  for (int64_t r = 0; r < j->x.dims[0]; r++) {
    const int64_t o = r * SIDE * SIDE;
    const float *x = (float *)j->x.data + o, *w = (float *)j->w.data + o;
    const float *dy = (float *)j->dy.data + o;
    multiply(p->peer, false, false, x, w, (float *)j->y.data + o);
    multiply(p->peer, false, true, dy, w, (float *)j->dx.data + o);
    multiply(p->peer, true, false, x, dy, (float *)j->dw.data + o);
  }
}


// dlsym gives an object pointer; POSIX promises that it can become a function's
static void find(void *handle, const char *name, void *function) {
  *(void **)function = handle != NULL ? dlsym(handle, name) : NULL;
}


// OpenBLAS takes its slowest kernels for a processor it does not know: it is told
static bool open_peer(const bench *b, peer *p, int threads, const char *isa) {
  char count[16];
  snprintf(count, sizeof count, "%d", threads);
  setenv("OPENBLAS_CORETYPE", isa[3] == '5' ? "SkylakeX" : "Haswell", 1);
  setenv("OPENBLAS_NUM_THREADS", count, 1);
  setenv("OMP_NUM_THREADS", count, 1);
  for (int i = 0; i < 3 && p->files[i] != NULL && p->handle == NULL; i++) {
    p->handle = dlopen(p->files[i], RTLD_NOW | RTLD_LOCAL);
  }
  find(p->handle, "cblas_sgemm", &p->cblas);
  find(p->handle, "dnnl_sgemm", &p->dnnl);
  const bool good = p->cblas != NULL || p->dnnl != NULL;
  if (!good && b->options->progress != NULL) {
    fprintf(b->options->progress, "%s is not installed here (%s): no comparison with it\n", p->name,
            p->files[0]);
  }
  return good;
}


// ---- the same products by the library of the device's maker ------------------------------------

static void library_linear(void *job) {
  const mlp_job *j = job;
  rgm_library_gemm(j->stream, j->y, j->x, j->w, false, false);
  (void)rgm_sync(j->stream);
}


static void library_dx(void *job) {
  const mlp_job *j = job;
  rgm_library_gemm(j->stream, j->dx, j->dy, j->w, false, true);
  (void)rgm_sync(j->stream);
}


static void library_dw(void *job) {
  const mlp_job *j = job;
  rgm_library_gemm(j->stream, j->dw, j->x, j->dy, true, false);
  (void)rgm_sync(j->stream);
}


static rgm_status library_products(const mlp_job *j) {
  rgm_library_gemm(j->stream, j->y, j->x, j->w, false, false);
  rgm_library_gemm(j->stream, j->dx, j->dy, j->w, false, true);
  rgm_library_gemm(j->stream, j->dw, j->x, j->dy, true, false);
  return rgm_sync(j->stream);
}


static void library_layer(void *job) {
  (void)library_products(job);
}


// opens it, and sees that it does its work before that is timed
static rgm_status open_library(const mlp_job *j, char *text, size_t size) {
  RGM_TRY(rgm_library(j->stream, text, size));
  return library_products(j);
}


// ---- the suite ---------------------------------------------------------------------------------

// times and reports the case; returns seconds of a call
static double row(bench *b, bench_stream *s, bench_case c, void (*fn)(void *), void *job) {
  bench_peaks(s);
  const bench_time time = bench_measure(b->seconds, fn, job);
  bench_peaks(s);
  c.suite = "mlp";
  c.threads = s->threads;
  c.work = c.flops > 0 ? c.flops : c.bytes;
  c.unit = c.flops > 0 ? "FLOP/s" : "B/s";
  bench_report(b, &c, time, s);
  return time.best;
}


typedef struct part {
  const char *name, *library; // of our row, and of the library's products alone
  void (*fn)(void *), (*library_fn)(void *);
  int products, squares; // products of matrices; matrices read or written
} part;

static const part parts[] = {
    {"linear_relu", "library_linear", forward, library_linear, 1, 3},
    {"linear_dx", "library_dx", backward_dx, library_dx, 1, 3},
    {"linear_dw", "library_dw", backward_dw, library_dw, 1, 3},
    {"layer_forward_backward", "library_products", whole_layer, library_layer, 3, 7},
};

enum { PARTS = sizeof parts / sizeof *parts };


// Our rows and, where the device has a library of such, its own beside each; `tell`: say where it
// has none. Returns seconds of the last part, the whole layer.
static double bench_parts(bench *b, bench_stream *s, mlp_job *j, bool tell) {
  const int64_t replicas = j->x.dims[0];
  const double product = 2.0 * SIDE * SIDE * SIDE * (double)replicas;
  const double square = 4.0 * SIDE * SIDE * (double)replicas;
  char library[64];
  const bool gpu = !rgm_is_cpu(s->stream);
  const bool found = gpu && open_library(j, library, sizeof library) == RGM_OK;
  if (gpu && !found && tell && b->options->progress != NULL) {
    fprintf(b->options->progress, "no comparison with the device's library: %s\n",
            rgm_last_error());
  }
  double ours = 0.0;
  for (int i = 0; i < PARTS; i++) {
    bench_case c = {
        .name = parts[i].name,
        .replicas = replicas,
        .flops = product * parts[i].products,
        .bytes = square * parts[i].squares,
    };
    ours = row(b, s, c, parts[i].fn, j);
    if (found) {
      c.name = parts[i].library;
      c.library = library;
      c.ours = ours;
      (void)row(b, s, c, parts[i].library_fn, j);
    }
  }
  return ours;
}


static rgm_status bench_pack(bench *b, int64_t replicas, peer *peers, bool tell) {
  char packed[64];
  snprintf(packed, sizeof packed, "run.replicas=%lld", (long long)replicas);
  const char *const overrides[] = {"algorithm.name=pid", "env.name=propofol", packed, NULL};
  rgm_run *run;
  rgm_status status = bench_open(b, overrides, b->threads, &run);
  mlp_job j = {0};
  if (status == RGM_OK) {
    status = open_job(&j, run);
  }
  if (status == RGM_OK) {
    bench_stream s = {.stream = run->stream, .threads = b->threads, .seconds = 0.1 * b->seconds};
    const double product = 2.0 * SIDE * SIDE * SIDE * (double)replicas;
    const double square = 4.0 * SIDE * SIDE * (double)replicas;
    bench_case c = {.replicas = replicas, .flops = 3 * product, .bytes = 7 * square};
    c.ours = bench_parts(b, &s, &j, tell);
    for (int i = 0; peers[i].name != NULL && rgm_is_cpu(run->stream); i++) {
      peer_job p = {&j, &peers[i]};
      if (peers[i].handle != NULL ||
          open_peer(b, &peers[i], b->threads, run->stream->backend->isa)) {
        c.name = peers[i].name;
        (void)row(b, &s, c, peer_layer, &p);
      }
    }
    (void)row(b, &s, (bench_case){.name = "adam", .replicas = replicas, .bytes = 7 * square}, adam,
              &j);
    (void)row(b, &s, (bench_case){.name = "ema", .replicas = replicas, .bytes = 3 * square}, ema,
              &j);
  }
  rgm_arena_free(j.arena);
  rgm_run_free(run);
  return status;
}


rgm_status bench_mlp(bench *b) {
  peer peers[] = {
      {.name = "onednn_products", .files = {"libdnnl.so.2", "libdnnl.so.3", "libdnnl.so"}},
      {.name = "openblas_products", .files = {"libopenblas.so.0", "libopenblas.so"}},
      {0},
  };
  static const int64_t packs[] = {1, 8, 64};
  for (int i = 0; i < 3; i++) {
    RGM_TRY(bench_pack(b, packs[i], peers, i == 0));
  }
  return RGM_OK;
}
