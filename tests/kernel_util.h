// SPDX-License-Identifier: Apache-2.0
// What the kernel tests stand on: streams of every instruction set and thread count, and calls of
// a kernel with fenced buffers and repeatable data.

#ifndef RGM_TESTS_KERNEL_UTIL_H
#define RGM_TESTS_KERNEL_UTIL_H

// not every program that includes this uses all of it
#pragma GCC diagnostic ignored "-Wunused-function"

#include "kernels/kernels.h"
#include "kernels/rng.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  FENCE = 13,    // words before and after a tensor; odd, so that data is unaligned
  OPERANDS = 17, // the most tensors that a kernel takes
  NUMBERS = 6,   // of a shape; the first is R
};

// an output that nothing wrote, and the fences: a NaN that no kernel makes
static const uint32_t untouched = 0x7fedcba9u;

// unit roundoff of float, in which tolerances are stated
static const double eps = 0x1p-24;


// the error of a sum of k rounded terms, relative to the sum of their magnitudes: the worst case is
// k eps, the usual one sqrt(k) eps
static double sum_error(int64_t k) {
  return eps * (2.0 + 2.0 * sqrt((double)k));
}


// the same for a sum in blocks of 256 rows and a tree
static double block_error(int64_t rows) {
  return sum_error((rows < RGM_ROW_BLOCK ? rows : RGM_ROW_BLOCK) + 16);
}


// outputs of a layer are padded
static int64_t pad16(int64_t n) {
  return (n + 15) / 16 * 16;
}


// ---- memory of one test, freed by drop_all()

static void *held[4096];
static int held_count;

static void *keep(size_t bytes) {
  void *p = calloc(bytes > 0 ? bytes : 1, 1);
  cr_assert(p != NULL && held_count < 4096);
  held[held_count++] = p;
  return p;
}


static void drop_all(void) {
  while (held_count > 0) {
    free(held[--held_count]);
  }
}


// ---- streams

static rgm_stream *streams[16];
static int stream_count;
static const int thread_counts[] = {2, 1, 3, 5};

static void open_streams(void) {
  for (const char *const *isa = rgm_cpu_isas(); *isa != NULL; isa++) {
    for (size_t k = 0; k < sizeof thread_counts / sizeof *thread_counts; k++) {
      char note[256];
      const rgm_device_options options = {.threads = thread_counts[k], .isa = *isa};
      rgm_status status = rgm_open("cpu", &options, &streams[stream_count++], note, sizeof note);
      cr_assert_eq(status, RGM_OK, "%s", rgm_last_error());
    }
  }
}


// a stream whose memory the test itself can touch
static rgm_stream *host_stream(void) {
  for (int k = 0; k < stream_count; k++) {
    if (strcmp(streams[k]->backend->name, "cpu") == 0) {
      return streams[k];
    }
  }
  cr_assert_fail("no stream of the CPU");
  return NULL;
}


static void close_streams(void) {
  while (stream_count > 0) {
    rgm_close(streams[--stream_count]);
  }
  drop_all();
}


// ---- data

typedef enum fill_kind {
  NAN_FILL, // what a kernel overwrites
  SIGNED,   // [-1, 1), now and then +-0 or a denormal
  TIES,     // the same in steps of 1/8
  WIDE,     // [-8, 8)
  POSITIVE, // [0.1, 1.1)
  RATE,     // [0.05, 0.95)
  SMALL,    // [0.001, 0.01)
  GROUPS,   // [0.1, 1.1), one in three 0, one in six negative
  LABELS,   // 0, 1, now and then 0.3
  WILD,     // SIGNED, now and then NaN or infinite
  WORDS,    // u32
  COUNTS,   // u32 below 8
  ONES,     // u32
} fill_kind;

// a linear congruential generator, high half
static uint32_t next(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 32);
}


static float fill_float(fill_kind kind, uint64_t *state) {
  static const float wild[] = {INFINITY, -INFINITY, NAN};
  static const float odd[] = {0.0f, -0.0f, 0x1p-130f, -0x1.8p-140f};
  const uint32_t pick = next(state);
  const float u = (float)(next(state) >> 8) * 0x1p-24f;
  switch (kind) {
  case WILD:
    if (pick % 7 == 1) {
      return wild[pick / 7 % 3];
    }
    // fall through
  case SIGNED:
    return pick % 16 == 2 ? odd[pick / 16 % 4] : 2.0f * u - 1.0f;
  case TIES:
    return floorf(16.0f * u - 8.0f) / 8.0f;
  case WIDE:
    return 16.0f * u - 8.0f;
  case POSITIVE:
    return 0.1f + u;
  case RATE:
    return 0.05f + 0.9f * u;
  case SMALL:
    return 0.001f + 0.009f * u;
  case GROUPS:
    return pick % 3 == 0 ? 0.0f : pick % 6 == 1 ? -0.1f - u : 0.1f + u;
  case LABELS:
    return pick % 5 == 0 ? 0.3f : (float)(pick / 5 % 2);
  default:
    return NAN;
  }
}


static uint32_t fill_word(fill_kind kind, uint64_t *state) {
  const uint32_t word = next(state);
  const uint32_t counts = word % 8;
  switch (kind) {
  case NAN_FILL:
    return untouched;
  case WORDS:
    return word;
  case COUNTS:
    return counts;
  case ONES:
    return 1;
  default:
    return rgm_bits(fill_float(kind, state));
  }
}


// ---- kernels and calls

typedef enum operand_role { END, IN, OUT, INOUT, SCRATCH, MASK } operand_role;

typedef struct operand {
  operand_role role;
  rgm_dtype dtype;
  fill_kind fill;
  int64_t dims[RGM_MAX_RANK]; // 0 from the rank on
} operand;

typedef struct kernel_case {
  const char *name;
  void (*plan)(operand *o, const int64_t *n);
  void (*run)(rgm_stream *s, const rgm_tensor *t, const int64_t *n);
  // fills want and tol of outputs, (R, slice) zeros before, from the operands before the call
  void (*reference)(const rgm_tensor *t, double *const *want, double *const *tol, const int64_t *n);
  void (*prepare)(const rgm_tensor *t, const int64_t *n); // adjusts inputs, may be NULL
  const int64_t (*shapes)[NUMBERS];                       // ended by R = 0
} kernel_case;

typedef struct call {
  const kernel_case *kernel;
  int64_t n[NUMBERS];
  int count;
  operand op[OPERANDS + 1];
  rgm_tensor t[OPERANDS];
  uint32_t *raw[OPERANDS], *before[OPERANDS]; // the whole buffer, now and before the call
  int64_t words[OPERANDS];
} call;


// an operand of up to three dims
static operand op3(operand_role role, rgm_dtype dtype, fill_kind fill, int64_t d0, int64_t d1,
                   int64_t d2) {
  return (operand){role, dtype, fill, {d0, d1, d1 > 0 ? d2 : 0, 0}};
}


static float *f32(rgm_tensor t, int64_t r) {
  return (float *)t.data + r * t.stride0;
}


static uint32_t *u32(rgm_tensor t, int64_t r) {
  return (uint32_t *)t.data + r * t.stride0;
}


static int64_t slice(rgm_tensor t) {
  return t.dims[1] * t.dims[2] * t.dims[3];
}


static bool is_output(const call *c, int k) {
  return c->op[k].role == OUT || c->op[k].role == INOUT;
}


// what the buffers hold now is what the next call starts from
static void commit(call *c) {
  for (int k = 0; k < c->count; k++) {
    memcpy(c->before[k], c->raw[k], (size_t)c->words[k] * 4);
  }
}


static void restore(call *c) {
  for (int k = 0; k < c->count; k++) {
    memcpy(c->raw[k], c->before[k], (size_t)c->words[k] * 4);
  }
}


// A call on data that depends on operand and replica only: replicas first, first + 1, ... with
// `gap` fence words between them.
static call make_call(const kernel_case *kernel, const int64_t *n, int64_t first, int64_t gap) {
  call c = {.kernel = kernel};
  memcpy(c.n, n, sizeof c.n);
  kernel->plan(c.op, n);
  for (int k = 0; c.op[k].role != END; k++, c.count++) {
    const int64_t *d = c.op[k].dims;
    rgm_tensor *t = &c.t[k];
    *t = rgm_view(NULL, c.op[k].dtype, d[0], d[1], d[2], d[3]);
    t->stride0 = slice(*t) + gap;
    c.words[k] = t->dims[0] * t->stride0 - gap + 2 * FENCE;
    c.raw[k] = keep((size_t)c.words[k] * 4);
    c.before[k] = keep((size_t)c.words[k] * 4);
    t->data = c.raw[k] + FENCE;
    for (int64_t i = 0; i < c.words[k]; i++) {
      c.raw[k][i] = untouched;
    }
    for (int64_t r = 0; r < t->dims[0]; r++) {
      uint64_t state = (uint64_t)(first + r) * 1000003u + (uint64_t)k * 7919u + 17u;
      for (int64_t i = 0; i < slice(*t); i++) {
        u32(*t, r)[i] = fill_word(c.op[k].fill, &state);
      }
    }
  }
  if (kernel->prepare != NULL) {
    kernel->prepare(c.t, n);
  }
  commit(&c);
  return c;
}


static void fail_at(const call *c, int k, const char *what) {
  const int64_t *n = c->n;
  cr_assert_fail("%s (%d, %d, %d, %d, %d, %d) operand %d: %s", c->kernel->name, (int)n[0],
                 (int)n[1], (int)n[2], (int)n[3], (int)n[4], (int)n[5], k, what);
}


// words by which a device's copies are shifted: 0 leaves data unaligned, as FENCE does; 3 puts it
// on a multiple of 16 bytes
static int64_t device_shift;

// the same on a device with memory of its own: the buffers, fences and all, go there and come back
static void run_on_device(call *c, rgm_stream *s) {
  void *memory[OPERANDS];
  rgm_tensor t[OPERANDS];
  for (int k = 0; k < c->count; k++) {
    const size_t bytes = (size_t)c->words[k] * 4;
    cr_assert_eq(s->backend->alloc(s, bytes + 16, &memory[k]), RGM_OK, "%s", rgm_last_error());
    uint32_t *start = (uint32_t *)memory[k] + device_shift;
    rgm_copy(s, start, c->raw[k], bytes);
    t[k] = c->t[k];
    t[k].data = start + ((uint32_t *)c->t[k].data - c->raw[k]);
  }
  c->kernel->run(s, t, c->n);
  for (int k = 0; k < c->count; k++) {
    rgm_copy(s, c->raw[k], (uint32_t *)memory[k] + device_shift, (size_t)c->words[k] * 4);
  }
  cr_assert_eq(rgm_sync(s), RGM_OK, "%s: %s", c->kernel->name, rgm_last_error());
  for (int k = 0; k < c->count; k++) {
    s->backend->release(s, memory[k]);
  }
  cr_assert_eq(rgm_sync(s), RGM_OK, "%s", rgm_last_error());
}


// runs the call; inputs and everything outside the tensors must stay as they were
static void run_call(call *c, rgm_stream *s) {
  if (strcmp(s->backend->name, "cpu") == 0) {
    c->kernel->run(s, c->t, c->n);
    cr_assert_eq(rgm_sync(s), RGM_OK);
  } else {
    run_on_device(c, s);
  }
  for (int k = 0; k < c->count; k++) {
    const int64_t stride = c->t[k].stride0;
    const bool written = is_output(c, k) || c->op[k].role == SCRATCH;
    for (int64_t i = 0; i < c->words[k]; i++) {
      const int64_t at = i - FENCE, last = c->words[k] - FENCE;
      const bool inside = written && at >= 0 && i < last && at % stride < slice(c->t[k]);
      if (!inside && c->raw[k][i] != c->before[k][i]) {
        fail_at(c, k, written ? "wrote outside the tensor" : "wrote to an input");
      }
    }
  }
}


// the same bytes in replica ra of a and rb of b?
static bool same_slice(const call *a, int64_t ra, const call *b, int64_t rb, int k) {
  return memcmp(u32(a->t[k], ra), u32(b->t[k], rb), (size_t)slice(a->t[k]) * 4) == 0;
}


// ---- the documented order of sums, bit for bit

// zeros of either sign are one number
static bool same_number(float a, float b) {
  return rgm_bits(a) == rgm_bits(b) || (a == 0.0f && b == 0.0f);
}


// runs the call and compares its outputs with the reference
static void check_reference(call *c, rgm_stream *s) {
  double *want[OPERANDS] = {NULL}, *tol[OPERANDS] = {NULL};
  for (int k = 0; k < c->count; k++) {
    if (is_output(c, k)) {
      want[k] = keep((size_t)rgm_elements(c->t[k]) * sizeof(double));
      tol[k] = keep((size_t)rgm_elements(c->t[k]) * sizeof(double));
    }
  }
  c->kernel->reference(c->t, want, tol, c->n);
  run_call(c, s);
  for (int k = 0; k < c->count; k++) {
    for (int64_t i = 0; want[k] != NULL && i < rgm_elements(c->t[k]); i++) {
      const int64_t r = i / slice(c->t[k]), at = i % slice(c->t[k]);
      const double got =
          c->op[k].dtype == RGM_U32 ? (double)u32(c->t[k], r)[at] : (double)f32(c->t[k], r)[at];
      const double allowed = tol[k][i] > 0.0 ? tol[k][i] + 0x1p-140 : 0.0; // denormals round too
      const bool both = isnan(got) && isnan(want[k][i]);
      if (!(both || got == want[k][i] || fabs(got - want[k][i]) <= allowed)) {
        char text[128];
        snprintf(text, sizeof text, "replica %d element %d is %.9g, want %.9g +- %.2g", (int)r,
                 (int)at, got, want[k][i], allowed);
        fail_at(c, k, text);
      }
    }
  }
}

// the pairwise tree over distances 1, 2, 4, ..., in place
static float tree(float *block, int64_t count) {
  for (int64_t distance = 1; distance < count; distance *= 2) {
    for (int64_t i = 0; i + distance < count; i += 2 * distance) {
      block[i] = block[i] + block[i + distance];
    }
  }
  return count > 0 ? block[0] : 0.0f;
}


// zeroed memory of the test
static rgm_tensor fresh(int64_t d0, int64_t d1, int64_t d2) {
  rgm_tensor t = rgm_view(NULL, RGM_F32, d0, d1, d2, 0);
  t.data = keep(rgm_bytes(t));
  return t;
}

#endif
