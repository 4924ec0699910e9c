// SPDX-License-Identifier: Apache-2.0
// What every row of the kernel table must do on every device: values, strides, packs, masks. Part
// of the programs that test a backend.

#ifndef RGM_TESTS_KERNEL_CHECKS_H
#define RGM_TESTS_KERNEL_CHECKS_H

#include "tests/kernel_table.h"

typedef void (*check_fn)(const kernel_case *kernel, const int64_t *n);

// calls check for every shape of every kernel
static void for_all(check_fn check) {
  cr_assert(stream_count >= 2);
  for (int k = 0; k < KERNELS; k++) {
    for (const int64_t(*n)[NUMBERS] = kernels[k].shapes; (*n)[0] > 0; n++) {
      check(&kernels[k], *n);
      drop_all();
    }
  }
}


// runs the call on stream s from its start and compares the outputs with those of `same`
static void expect_same(call *c, rgm_stream *s, const call *same, const char *what) {
  run_call(c, s);
  for (int k = 0; k < c->count; k++) {
    for (int64_t r = 0; is_output(c, k) && r < c->t[k].dims[0]; r++) {
      if (!same_slice(c, r, same, r, k)) {
        fail_at(c, k, what);
      }
    }
  }
}


// ---- every row against its reference, and what all rows have in common

static void check_values(const kernel_case *kernel, const int64_t *n) {
  call c = make_call(kernel, n, 0, 0);
  check_reference(&c, streams[0]);
}


// words between the replicas of a larger block: odd, or a multiple of 4 where alignment matters
static int64_t replica_gap = 7;

// parts of a larger block: replicas lie further apart than they are long; inputs, and masks, of one
// slice for all replicas
static void check_strides(const kernel_case *kernel, const int64_t *n) {
  call dense = make_call(kernel, n, 0, 0), apart = make_call(kernel, n, 0, replica_gap);
  run_call(&dense, streams[0]);
  expect_same(&apart, streams[0], &dense, "differs where replicas lie apart");

  // each input in turn: the slice of replica 0, copied to the others or shared with stride 0
  for (int k = 0; k < dense.count; k++) {
    if (dense.op[k].role != IN) {
      continue;
    }
    restore(&dense);
    restore(&apart);
    for (int64_t r = 1; r < n[0]; r++) {
      memcpy(u32(dense.t[k], r), u32(dense.t[k], 0), (size_t)slice(dense.t[k]) * 4);
    }
    commit(&dense);
    run_call(&dense, streams[0]);
    apart.t[k].stride0 = 0;
    expect_same(&apart, streams[0], &dense, "differs where an input is shared");
  }
}


static void check_devices(const kernel_case *kernel, const int64_t *n) {
  call first = make_call(kernel, n, 0, 0), c = make_call(kernel, n, 0, 0);
  run_call(&first, streams[0]);
  for (int k = 1; k < stream_count; k++) {
    char what[512], device[384];
    rgm_describe(streams[k], device, sizeof device);
    snprintf(what, sizeof what, "other bits on %s", device);
    restore(&c);
    expect_same(&c, streams[k], &first, what);
  }
}


static void check_alone(const kernel_case *kernel, const int64_t *n) {
  int64_t one[NUMBERS];
  call pack = make_call(kernel, n, 0, 0);
  run_call(&pack, streams[0]);
  memcpy(one, n, sizeof one);
  one[0] = 1;
  for (int64_t r = 0; r < n[0]; r++) {
    call alone = make_call(kernel, one, r, 0);
    run_call(&alone, streams[r % stream_count]);
    for (int k = 0; k < alone.count; k++) {
      if (is_output(&alone, k) && !same_slice(&alone, 0, &pack, r, k)) {
        fail_at(&pack, k, "a replica alone has other bits");
      }
    }
  }
}


static int masked_kernels;

static void check_mask(const kernel_case *kernel, const int64_t *n) {
  call all = make_call(kernel, n, 0, 0);
  const int mask = all.count - 1;
  if (all.op[mask].role != MASK) {
    return;
  }
  masked_kernels++;
  run_call(&all, streams[0]);
  for (int64_t odd = 0; odd < 2; odd++) {
    call c = make_call(kernel, n, 0, 0);
    for (int64_t r = 0; r < n[0]; r++) {
      u32(c.t[mask], r)[0] = r % 2 == odd ? 0 : 7;
    }
    commit(&c);
    run_call(&c, streams[0]);
    const call start = make_call(kernel, n, 0, 0);
    for (int k = 0; k < c.count; k++) {
      for (int64_t r = 0; is_output(&c, k) && r < n[0]; r++) {
        if (!same_slice(&c, r, r % 2 == odd ? &start : &all, r, k)) {
          fail_at(&c, k, r % 2 == odd ? "touched a masked replica" : "the mask changed others");
        }
      }
    }
  }
}

#endif
