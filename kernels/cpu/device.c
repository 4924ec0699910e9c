// SPDX-License-Identifier: Apache-2.0
// The CPU as a device: memory and a pool of threads with a fixed split of work. Work is done
// before a call returns, so a stream needs no queue; threads spin briefly between kernels and then
// sleep.

#define _GNU_SOURCE // sched_getaffinity
#include "kernels/cpu/cpu.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_THREADS = 256, SPINS = 4000, ALIGNMENT = 64, HUGE = 1 << 21 };

// Invariants: `generation` rises once per job; a worker that has seen it takes its share of
// `job`, then lowers `busy`. The caller is thread 0 and waits until `busy` is 0.
typedef struct cpu_stream {
  rgm_stream base;
  int threads; // the caller included
  pthread_t handle[MAX_THREADS];
  pthread_mutex_t mutex;
  pthread_cond_t wake;
  _Atomic uint64_t generation;
  _Atomic int busy;
  _Atomic int sleeping;
  void (*fn)(void *, int64_t);
  void *arg;
  int64_t count;
  bool quit;
} cpu_stream;

typedef struct worker_start {
  cpu_stream *stream;
  int index;
} worker_start;


static void pause_briefly(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}


// thread `index` of n takes [count * index / n, count * (index + 1) / n)
static void run_share(const cpu_stream *s, int index) {
  const int64_t begin = s->count * index / s->threads;
  const int64_t end = s->count * (index + 1) / s->threads;
  for (int64_t i = begin; i < end; i++) {
    s->fn(s->arg, i);
  }
}


static void wait_for_job(cpu_stream *s, uint64_t seen) {
  for (int spin = 0; spin < SPINS; spin++) {
    if (atomic_load_explicit(&s->generation, memory_order_acquire) != seen) {
      return;
    }
    pause_briefly();
  }
  pthread_mutex_lock(&s->mutex);
  atomic_fetch_add(&s->sleeping, 1);
  while (atomic_load(&s->generation) == seen) {
    pthread_cond_wait(&s->wake, &s->mutex);
  }
  atomic_fetch_sub(&s->sleeping, 1);
  pthread_mutex_unlock(&s->mutex);
}


static void *worker(void *start_) {
  worker_start start = *(worker_start *)start_;
  free(start_);
  cpu_stream *s = start.stream;
  for (uint64_t seen = 0;; seen++) {
    wait_for_job(s, seen);
    if (s->quit) {
      return NULL;
    }
    run_share(s, start.index);
    atomic_fetch_sub_explicit(&s->busy, 1, memory_order_release);
  }
}


static void publish(cpu_stream *s) {
  atomic_fetch_add(&s->generation, 1);
  if (atomic_load(&s->sleeping) > 0) {
    pthread_mutex_lock(&s->mutex);
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->mutex);
  }
}


void rgm_cpu_parallel(rgm_stream *stream, int64_t count, void (*fn)(void *, int64_t), void *arg) {
  cpu_stream *s = (cpu_stream *)stream;
  if (s->threads == 1 || count == 1) {
    for (int64_t i = 0; i < count; i++) {
      fn(arg, i);
    }
    return;
  }
  s->fn = fn;
  s->arg = arg;
  s->count = count;
  atomic_store(&s->busy, s->threads - 1);
  publish(s);
  run_share(s, 0);

  // the others' shares are as long as ours: spin, then give the processor away
  for (int spin = 0; atomic_load_explicit(&s->busy, memory_order_acquire) > 0; spin++) {
    if (spin < SPINS) {
      pause_briefly();
    } else {
      sched_yield();
    }
  }
}


int rgm_cpu_threads(const rgm_stream *s) {
  return ((const cpu_stream *)s)->threads;
}


static int processors(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) {
    return 1;
  }
  return CPU_COUNT(&set);
}


rgm_status rgm_cpu_open(const rgm_device_options *options, rgm_stream **out) {
  cpu_stream *s = calloc(1, sizeof *s);
  if (s == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the CPU device");
  }
  int threads = options->threads > 0 ? options->threads : processors();
  s->threads = 1;
  pthread_mutex_init(&s->mutex, NULL);
  pthread_cond_init(&s->wake, NULL);
  if (threads > MAX_THREADS) {
    threads = MAX_THREADS;
  }
  const int wanted = threads;
  for (int i = 1; i < wanted; i++) {
    worker_start *start = malloc(sizeof *start);
    if (start != NULL) {
      *start = (worker_start){.stream = s, .index = i};
    }
    if (start == NULL || pthread_create(&s->handle[i], NULL, worker, start) != 0) {
      free(start);
      rgm_cpu_close(&s->base);
      return rgm_fail(RGM_EDEVICE, "cannot start thread %d of %d; lower run.threads", i, wanted);
    }
    s->threads = i + 1;
  }
  *out = &s->base;
  return RGM_OK;
}


void rgm_cpu_close(rgm_stream *stream) {
  cpu_stream *s = (cpu_stream *)stream;
  s->quit = true;
  publish(s);
  for (int i = 1; i < s->threads; i++) {
    pthread_join(s->handle[i], NULL);
  }
  pthread_mutex_destroy(&s->mutex);
  pthread_cond_destroy(&s->wake);
  free(s);
}


void rgm_cpu_describe(const rgm_stream *stream, char *text, size_t size) {
  // the processor's own name, where the kernel tells it
  char model[128] = "CPU";
  FILE *file = fopen("/proc/cpuinfo", "r");
  char line[256];
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
      snprintf(model, sizeof model, "%.100s", strchr(line, ':') + 2);
      model[strcspn(model, "\n")] = '\0';
      break;
    }
  }
  if (file != NULL) {
    fclose(file);
  }
  snprintf(text, size, "%s, %s, %d thread%s", model, stream->backend->isa, rgm_cpu_threads(stream),
           rgm_cpu_threads(stream) == 1 ? "" : "s");
}


rgm_status rgm_cpu_alloc(rgm_stream *s, size_t bytes, void **out) {
  (void)s;
  // a large block lies on huge pages, if the system gives any: fewer misses, steadier times
  const size_t unit = bytes >= 2 * HUGE ? HUGE : ALIGNMENT;
  const size_t rounded = (bytes + unit - 1) / unit * unit;
  *out = aligned_alloc(unit, rounded > 0 ? rounded : unit);
  if (*out == NULL) {
    return rgm_fail(RGM_EMEMORY,
                    "no memory for %.1f MiB; lower run.replicas or the batch (see `regimen plan`)",
                    (double)bytes / 0x1p20);
  }
#ifdef MADV_HUGEPAGE
  if (unit == HUGE) {
    (void)madvise(*out, rounded, MADV_HUGEPAGE);
  }
#endif
  memset(*out, 0, rounded);
  return RGM_OK;
}


void rgm_cpu_release(rgm_stream *s, void *memory) {
  (void)s;
  free(memory);
}


void rgm_cpu_copy(rgm_stream *s, void *dst, const void *src, size_t bytes) {
  (void)s;
  memmove(dst, src, bytes);
}


void rgm_cpu_fill(rgm_stream *s, void *dst, int byte, size_t bytes) {
  (void)s;
  memset(dst, byte, bytes);
}


rgm_status rgm_cpu_sync(rgm_stream *s) {
  (void)s;
  return RGM_OK;
}


void rgm_cpu_graph(rgm_stream *s, int slot, void (*fn)(void *, rgm_stream *), void *arg) {
  (void)slot;
  fn(arg, s);
}


// ---- instruction sets --------------------------------------------------------------------------

#if defined(__x86_64__)
extern const rgm_backend rgm_cpu_avx512_backend, rgm_cpu_avx2_backend;
#else
extern const rgm_backend rgm_cpu_generic_backend;
#endif


const char *const *rgm_cpu_isas(void) {
#if defined(__x86_64__)
  static const char *const both[] = {"avx512", "avx2", NULL};
  static const char *const none[] = {NULL};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512cd");
  return avx2 && avx512 ? both : avx2 ? both + 1 : none;
#else
  static const char *const generic[] = {"generic", NULL};
  return generic;
#endif
}


const rgm_backend *rgm_cpu_backend(const char *isa);

// The table of one instruction set, NULL where this processor does not run it; "auto" is the best.
const rgm_backend *rgm_cpu_backend(const char *isa) {
#if defined(__x86_64__)
  static const rgm_backend *const tables[] = {&rgm_cpu_avx512_backend, &rgm_cpu_avx2_backend};
#else
  static const rgm_backend *const tables[] = {&rgm_cpu_generic_backend};
#endif
  for (const char *const *name = rgm_cpu_isas(); *name != NULL; name++) {
    if (strcmp(isa, "auto") == 0 || strcmp(isa, *name) == 0) {
      for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (strcmp(tables[i]->isa, *name) == 0) {
          return tables[i];
        }
      }
    }
  }
  return NULL;
}
