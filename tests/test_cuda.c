// SPDX-License-Identifier: Apache-2.0
// Tests of the CUDA kernels, run on the CPU (tests/cuda_host) through the same door as the real
// module: every row against double precision and against the CPU backend bit for bit, strides,
// packs, masks, orders of threads, graphs, errors, and how a GPU is chosen.

#include "tests/cuda_host/cuda_host.h"
#include "tests/cuda_module.h"
#include "tests/kernel_checks.h"
#include "tests/kernel_library.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// stream 0 is CUDA, stream 1 the CPU
static void open_both(void) {
  char note[512];
  rgm_device_options options = {.threads = 1, .isa = "auto"};
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  cr_assert_eq(rgm_open("cuda", &options, &streams[0], note, sizeof note), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_open("cpu", &options, &streams[1], note, sizeof note), RGM_OK);
  stream_count = 2;
}


TestSuite(cuda, .init = open_both, .fini = close_streams, .timeout = 120);


static void seed_threads(uint64_t seed) {
  void (*set)(uint64_t);
  *(void **)&set = knob("cuda_host_seed");
  set(seed);
}


// ---- rows

// both with data that lies on 16 bytes, where kernels read four numbers at a time, and without
static void for_all_both(check_fn check) {
  for (device_shift = 0; device_shift <= 3; device_shift += 3) {
    for_all(check);
  }
}

Test(cuda, reference) {
  for_all(check_values);
}


Test(cuda, same_bits_as_the_cpu) {
  for_all_both(check_devices);
}


Test(cuda, same_bits_alone_and_packed) {
  for_all_both(check_alone);
}


// the paths that read four numbers at a time; the others where replicas lie apart by an odd number
Test(cuda, strides) {
  device_shift = 3;
  replica_gap = 8;
  for_all(check_strides);
}


Test(cuda, odd_strides) {
  static const int64_t layer[NUMBERS] = {3, 66, 17, 48, RGM_SIGMOID};
  for (int k = 0; kernels[k].shapes == mlp_shapes; k++) {
    check_strides(&kernels[k], layer);
    drop_all();
  }
}


Test(cuda, masked_replicas_stay) {
  for_all(check_mask);
  cr_assert_gt(masked_kernels, 0);
}


static void check_orders(const kernel_case *kernel, const int64_t *n) {
  call c = make_call(kernel, n, 0, 0), first = make_call(kernel, n, 0, 0);
  run_call(&first, streams[0]);
  for (uint64_t seed = 2; seed < 5; seed++) {
    seed_threads(seed);
    restore(&c);
    expect_same(&c, streams[0], &first, "other bits in another order of threads");
  }
}

Test(cuda, same_bits_in_every_order_of_threads) {
  for_all(check_orders);
}


// ---- sums that go through the work memory in parts: chunks of row blocks, columns, replicas

Test(cuda, long_sums_have_the_bits_of_the_cpu) {
  static const int64_t layers[][NUMBERS] = {
      {2, 17000, 8, 240}, {2, 17000, 4, 16, RGM_RELU}, {1, 700, 5, 32}};
  for (size_t k = 0; k < sizeof layers / sizeof *layers; k++) {
    check_devices(find_kernel("linear_dw"), layers[k]);
    drop_all();
  }
  device_shift = 3;
  check_devices(find_kernel("linear_dw_adam"), layers[1]);
  drop_all();
  static const int64_t sums[][NUMBERS] = {{3, 65536, 1, 1}, {2, 65537, 1, 1}, {1, 300000, 1, 1}};
  for (size_t k = 0; k < sizeof sums / sizeof *sums; k++) {
    check_devices(find_kernel("sum"), sums[k]);
    drop_all();
  }
}


// ---- order statistics, to the CPU's bits: ties, zeros of both signs, NaN, infinities

Test(cuda, quantiles_of_odd_numbers) {
  static const float odd[] = {0.0f, -0.0f, NAN, INFINITY, -INFINITY, 1.5f, -1.5f, 0x1p-140f};
  for (int64_t count = 1; count <= 9; count++) {
    const int64_t n[NUMBERS] = {64, count};
    call c = make_call(find_kernel("quantile"), n, 0, 0);
    uint64_t state = 7;
    for (int64_t i = 0; i < n[0] * count; i++) {
      f32(c.t[2], 0)[i] = odd[next(&state) % 8];
    }
    commit(&c);
    run_call(&c, streams[1]);
    float want[64];
    memcpy(want, f32(c.t[0], 0), sizeof want);
    restore(&c);
    run_call(&c, streams[0]);
    for (int r = 0; r < 64; r++) {
      const float got = f32(c.t[0], 0)[r];
      cr_assert(rgm_bits(got) == rgm_bits(want[r]) || (isnan(got) && isnan(want[r])),
                "%d numbers, replica %d: %g, want %g", (int)count, r, (double)got, (double)want[r]);
    }
  }
}


// ---- the device

typedef struct enqueued {
  rgm_tensor clock, active, x, y;
  int calls;
} enqueued;

// y = x + 2 y; the clock goes on
static void enqueue(void *arg, rgm_stream *s) {
  enqueued *e = arg;
  e->calls++;
  rgm_advance(s, e->clock, e->active);
  rgm_triad(s, e->y, e->x, e->y, 2.0f);
}


// memory of the stream, n floats or words
static rgm_tensor device_tensor(rgm_stream *s, rgm_dtype dtype, int64_t n) {
  rgm_tensor t = rgm_view(NULL, dtype, 1, n, 0, 0);
  cr_assert_eq(s->backend->alloc(s, rgm_bytes(t), &t.data), RGM_OK);
  return t;
}


Test(cuda, graphs_are_captured_once_and_replayed) {
  rgm_stream *s = streams[0];
  enqueued e = {device_tensor(s, RGM_U32, 1), device_tensor(s, RGM_U32, 1),
                device_tensor(s, RGM_F32, 5), device_tensor(s, RGM_F32, 5), 0};
  enqueued other = e;
  const float ones[5] = {1, 1, 1, 1, 1};
  float y[5];
  const uint32_t on = 1;
  uint32_t clock;
  rgm_copy(s, e.active.data, &on, sizeof on);
  rgm_copy(s, e.x.data, ones, sizeof ones);
  for (int i = 1; i <= 4; i++) {
    rgm_graph(s, 3, enqueue, &e);
    rgm_copy(s, y, e.y.data, sizeof y);
    rgm_copy(s, &clock, e.clock.data, sizeof clock);
    cr_assert_eq(rgm_sync(s), RGM_OK, "%s", rgm_last_error());
    cr_assert(y[4] == (float)((1 << i) - 1) && clock == (uint32_t)i, "%g, %u", (double)y[4], clock);
    cr_assert_eq(e.calls, 1);
    cr_assert_eq(s->counts[RGM_ROW_triad].launches, (uint64_t)i);
    cr_assert_eq(s->counts[RGM_ROW_triad].bytes, 60.0 * i);
  }

  // another argument in the slot, and the first again: captured anew
  rgm_graph(s, 3, enqueue, &other);
  rgm_graph(s, 3, enqueue, &e);
  rgm_graph(s, 0, enqueue, &e);
  cr_assert(other.calls == 1 && e.calls == 3);

  // a timed stream calls the function itself
  s->timed = true;
  rgm_graph(s, 3, enqueue, &e);
  s->timed = false;
  rgm_copy(s, &clock, e.clock.data, sizeof clock);
  cr_assert_eq(rgm_sync(s), RGM_OK);
  cr_assert(e.calls == 4 && clock == 8 && s->counts[RGM_ROW_advance].launches == 8, "%u", clock);
  cr_assert_gt(s->counts[RGM_ROW_triad].seconds, 0.0);
  s->backend->release(s, e.clock.data);
  s->backend->release(s, e.active.data);
  s->backend->release(s, e.x.data);
  s->backend->release(s, e.y.data);
}


// ---- a whole update of actor and critics, captured

enum {
  SETS = 3,
  NETS = 2,
  BATCH = 32,
  INPUTS = 4,
  WEIGHTS = (INPUTS + 1) * 16,
  ACTIONS = 6,
  HELD = 64
};

// Discrete SAC with COMBO's penalty; nets of one layer. Batch: states, actions, rewards, states
// after, ends.
typedef struct learner {
  rgm_stream *stream;
  void *memory[HELD];
  int allocated, calls;
  rgm_tensor batch[5];
  rgm_ring data, model;
  rgm_tensor critic, critic_m, critic_v, target, actor, actor_m, actor_v, slope; // (R, [N,] W)
  rgm_tensor q, dq, gap, head, dz, entropy, y;
  rgm_tensor log_alpha, velocity, rise, heat, rate, small, goal; // (R)
  rgm_tensor seeds, clock, count, real, active;                  // (R) u32
} learner;


static rgm_tensor make(learner *l, rgm_dtype dtype, fill_kind kind, int64_t d0, int64_t d1,
                       int64_t d2, int64_t d3) {
  rgm_tensor t = rgm_view(NULL, dtype, d0, d1, d2, d3);
  uint64_t state = (uint64_t)l->allocated + 5;
  uint32_t *host = keep(rgm_bytes(t));
  for (int64_t i = 0; i < rgm_elements(t); i++) {
    host[i] = fill_word(kind, &state);
  }
  cr_assert_lt(l->allocated, HELD);
  cr_assert_eq(l->stream->backend->alloc(l->stream, rgm_bytes(t), &t.data), RGM_OK);
  l->memory[l->allocated++] = t.data;
  rgm_copy(l->stream, t.data, host, rgm_bytes(t));
  cr_assert_eq(rgm_sync(l->stream), RGM_OK);
  return t;
}


static rgm_ring make_ring(learner *l, int64_t places, bool shared) {
  static const int64_t width[] = {INPUTS, 1, 1, INPUTS, 1};
  const int64_t sets = shared ? 1 : SETS;
  rgm_ring ring = {.columns = 5, .head = make(l, RGM_U32, COUNTS, SETS, 0, 0, 0)};
  for (int k = 0; k < 5; k++) {
    // actions 0 and 1, and so are the ends
    ring.column[k] = make(l, RGM_F32, k % 3 == 1 ? LABELS : SIGNED, sets, places, width[k], 0);
    ring.column[k].dims[0] = SETS;
    ring.column[k].stride0 = shared ? 0 : ring.column[k].stride0;
  }
  const uint32_t full[SETS] = {50, 50, 50};
  ring.count = make(l, RGM_U32, ONES, SETS, 0, 0, 0);
  if (shared) {
    rgm_copy(l->stream, ring.count.data, full, sizeof full);
    cr_assert_eq(rgm_sync(l->stream), RGM_OK);
  }
  return ring;
}


static learner make_learner(rgm_stream *s) {
  learner l = {.stream = s};
  l.data = make_ring(&l, 50, true);
  l.model = make_ring(&l, 20, false);
  for (int k = 0; k < 5; k++) {
    l.batch[k] = make(&l, RGM_F32, NAN_FILL, SETS, BATCH, l.data.column[k].dims[2], 0);
  }
  rgm_tensor *const blocks[] = {&l.critic, &l.critic_m, &l.target,  &l.slope, &l.critic_v,
                                &l.actor,  &l.actor_m,  &l.actor_v, &l.gap};
  for (int k = 0; k < 8; k++) {
    *blocks[k] = make(&l, RGM_F32, k == 4 || k == 7 ? POSITIVE : SIGNED, SETS,
                      k < 5 ? NETS * WEIGHTS : WEIGHTS, 0, 0);
  }
  l.q = make(&l, RGM_F32, NAN_FILL, SETS, NETS, BATCH, 16);
  l.dq = make(&l, RGM_F32, NAN_FILL, SETS, NETS, BATCH, 16);
  l.gap = make(&l, RGM_F32, NAN_FILL, SETS, NETS, BATCH, 0);
  l.head = make(&l, RGM_F32, NAN_FILL, SETS, BATCH, 16, 0);
  l.dz = make(&l, RGM_F32, NAN_FILL, SETS, BATCH, 16, 0);
  l.entropy = make(&l, RGM_F32, NAN_FILL, SETS, BATCH, 0, 0);
  l.y = make(&l, RGM_F32, NAN_FILL, SETS, BATCH, 0, 0);
  rgm_tensor *const numbers[] = {&l.log_alpha, &l.velocity, &l.rise, &l.heat,
                                 &l.rate,      &l.small,    &l.goal};
  for (int k = 0; k < 7; k++) {
    *numbers[k] = make(&l, RGM_F32, k < 3 ? SIGNED : k == 5 ? SMALL : RATE, SETS, 0, 0, 0);
  }
  l.seeds = make(&l, RGM_U32, WORDS, SETS, 2, 0, 0);
  rgm_tensor *const counters[] = {&l.clock, &l.count, &l.real, &l.active};
  for (int k = 0; k < 4; k++) {
    *counters[k] = make(&l, RGM_U32, k == 3 ? ONES : COUNTS, SETS, 0, 0, 0);
  }
  return l;
}


// rows of d1 by d2 inside the replicas of a block
static rgm_tensor part_of(rgm_tensor t, int64_t offset, int64_t d1, int64_t d2) {
  rgm_tensor part = rgm_view((float *)t.data + offset, RGM_F32, SETS, d1, d2, 0);
  part.stride0 = t.stride0;
  return part;
}


static void forward(learner *l, rgm_tensor y, rgm_tensor x, rgm_tensor params, int nets) {
  for (int n = 0; n < nets; n++) {
    rgm_linear(l->stream, part_of(y, n * BATCH * 16, BATCH, 16), x,
               part_of(params, n * WEIGHTS, INPUTS, 16),
               part_of(params, n * WEIGHTS + INPUTS * 16, 16, 0), RGM_LINEAR);
  }
}


static void descend(learner *l, rgm_tensor dz, rgm_tensor p, rgm_tensor m, rgm_tensor v, int nets) {
  for (int n = 0; n < nets; n++) {
    const int64_t at = n * WEIGHTS;
    const rgm_adam_step step = {.p = part_of(p, at, INPUTS + 1, 16),
                                .m = part_of(m, at, INPUTS + 1, 16),
                                .v = part_of(v, at, INPUTS + 1, 16),
                                .count = l->count,
                                .lr = l->small,
                                .beta1 = l->rate,
                                .beta2 = l->rate,
                                .eps = l->small,
                                .active = l->active};
    rgm_linear_dw_adam(l->stream, &step, l->batch[0], part_of(dz, n * BATCH * 16, BATCH, 16));
  }
}


static void update(void *arg, rgm_stream *s) {
  learner *l = arg;
  l->calls++;
  const rgm_gather gather = {
      .row = {l->batch[0], l->batch[1], l->batch[2], l->batch[3], l->batch[4]},
      .from = &l->data,
      .other = &l->model,
      .share = l->real,
      .seeds = l->seeds,
      .clock = l->clock,
      .active = l->active,
      .random = RGM_RANDOM_REPLAY};
  rgm_replay_gather(s, &gather);
  forward(l, l->q, l->batch[3], l->target, NETS);
  forward(l, l->head, l->batch[3], l->actor, 1);
  const rgm_target target = {l->y,        l->q,    l->head,      {0},       l->batch[2],
                             l->batch[4], l->rate, l->log_alpha, l->active, ACTIONS};
  rgm_soft_target(s, &target);
  forward(l, l->q, l->batch[0], l->critic, NETS);
  forward(l, l->head, l->batch[0], l->actor, 1);
  const rgm_critic critic = {.dq = l->dq,
                             .gap = l->gap,
                             .q = l->q,
                             .action = l->batch[1],
                             .y = l->y,
                             .head = l->head,
                             .beta = l->rate,
                             .temperature = l->heat,
                             .real = l->real,
                             .active = l->active,
                             .push = RGM_PUSH_RHO_EXPECT,
                             .actions = ACTIONS};
  rgm_critic_loss(s, &critic);
  descend(l, l->dq, l->critic, l->critic_m, l->critic_v, NETS);
  const rgm_actor actor = {.dz = l->dz,
                           .entropy = l->entropy,
                           .q = l->q,
                           .head = l->head,
                           .log_alpha = l->log_alpha,
                           .active = l->active,
                           .actions = ACTIONS};
  rgm_actor_loss(s, &actor);
  descend(l, l->dz, l->actor, l->actor_m, l->actor_v, 1);
  const rgm_tensor none = {0};
  rgm_dual(s, l->rise, none, l->entropy, l->rate, l->goal, none, l->active, 1.0f / BATCH,
           RGM_DUAL_LINEAR);
  rgm_sgd(s, l->log_alpha, l->velocity, l->rise, l->small, l->rate, l->active);
  rgm_ema(s, l->target, l->critic, l->small, l->active);
  const rgm_tensor rows[] = {l->batch[0], l->batch[1], l->batch[2], l->batch[3], l->batch[4]};
  rgm_tensor fewer[5];
  for (int k = 0; k < 5; k++) { // seven rows of the batch go to the model's ring
    fewer[k] = rows[k];
    fewer[k].dims[1] = 7;
  }
  rgm_replay_append(s, &l->model, fewer, none, l->active);
  rgm_advance(s, l->count, l->active);
  rgm_advance(s, l->clock, l->active);
}


// four updates in a graph leave the CPU's bits; it was captured once, 19 rows
Test(cuda, update_is_captured_and_has_the_bits_of_the_cpu) {
  learner l[2] = {make_learner(streams[0]), make_learner(streams[1])};
  float *copies[2][4];
  for (int k = 0; k < 2; k++) {
    uint64_t before = 0, after = 0;
    for (int i = 0; i < RGM_ROW_COUNT; i++) {
      before += streams[k]->counts[i].launches;
    }
    for (int i = 0; i < 4; i++) {
      rgm_graph(streams[k], 2, update, &l[k]);
    }
    for (int i = 0; i < RGM_ROW_COUNT; i++) {
      after += streams[k]->counts[i].launches;
    }
    cr_assert_eq(after - before, 4u * 19, "%d launches", (int)(after - before));
    const rgm_tensor out[] = {l[k].critic, l[k].actor, l[k].target, l[k].log_alpha};
    for (int i = 0; i < 4; i++) {
      copies[k][i] = keep(rgm_bytes(out[i]));
      rgm_copy(streams[k], copies[k][i], out[i].data, rgm_bytes(out[i]));
    }
    cr_assert_eq(rgm_sync(streams[k]), RGM_OK, "%s", rgm_last_error());
    for (int i = 0; i < 4; i++) {
      for (int64_t j = 0; j < rgm_elements(out[i]); j++) {
        cr_assert(isfinite(copies[k][i][j]), "stream %d, %d, %d", k, i, (int)j);
      }
      cr_assert(memcmp(copies[0][i], copies[k][i], rgm_bytes(out[i])) == 0, "%d", i);
    }
  }
  cr_assert(l[0].calls == 1 && l[1].calls == 4);
  for (int k = 0; k < 2; k++) {
    for (int i = 0; i < l[k].allocated; i++) {
      streams[k]->backend->release(streams[k], l[k].memory[i]);
    }
  }
}


Test(cuda, memory_is_zero_and_can_run_out) {
  rgm_stream *s = streams[0];
  rgm_tensor t = device_tensor(s, RGM_F32, 250);
  unsigned char bytes[1000];
  rgm_tensor part = rgm_view((char *)t.data + 100, RGM_F32, 3, 7, 0, 0);
  rgm_fill(s, part, 0x5a);
  rgm_copy(s, bytes, t.data, sizeof bytes);
  cr_assert_eq(rgm_sync(s), RGM_OK);
  for (int i = 0; i < 1000; i++) {
    cr_assert_eq(bytes[i], i >= 100 && i < 184 ? 0x5a : 0);
  }
  s->backend->release(s, t.data);
  void *memory;
  cr_assert_eq(s->backend->alloc(s, (size_t)1 << 40, &memory), RGM_EMEMORY);
  cr_assert(strstr(rgm_last_error(), "1048576.0 MiB") != NULL, "%s", rgm_last_error());
  cr_assert_eq(rgm_sync(s), RGM_OK);
}


Test(cuda, burn_counts_its_work) {
  cr_assert_eq(rgm_burn(streams[0], 10), 2.0 * 16 * 10 * 256 * 16);
  cr_assert_eq(rgm_sync(streams[0]), RGM_OK);
}


// ---- the library of the device's maker

Test(cuda, products_of_the_library) {
  char text[64];
  if (rgm_library(streams[0], text, sizeof text) != RGM_OK) {
    cr_skip_test("%s", rgm_last_error());
  }
  int shapes = 0;
  for (const int64_t(*size)[4] = library_sizes; (*size)[0] > 0; size++) {
    for (int form = 0; form < 4; form++, shapes++) {
      const int64_t n[NUMBERS] = {(*size)[0], (*size)[1], (*size)[2],
                                  (*size)[3], form & 1,   form >> 1};
      for (device_shift = 0; device_shift <= 3; device_shift += 3) {
        check_library(streams[0], n);
      }
    }
  }
  cr_assert_eq(shapes, 40);
  cr_assert_eq(streams[0]->counts[RGM_ROW_library_gemm].launches, 40u * 2 * 9);
}


static void install(cuda_host_installed what) {
  void (*set)(cuda_host_installed);
  *(void **)&set = knob("cuda_host_install");
  set(what);
}


// asked for again it may have been installed; it is opened once
Test(cuda, library_is_opened_when_it_is_there) {
  char text[64] = "";
  install(CUDA_HOST_NONE);
  cr_assert_eq(rgm_library(streams[0], text, sizeof text), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "cuBLAS is not found here") != NULL, "%s", rgm_last_error());
  install(CUDA_HOST_OLD);
  cr_assert_eq(rgm_library(streams[0], text, sizeof text), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "libcublas.so.12 is no cuBLAS that this build can use"), "%s",
            rgm_last_error());
  cr_assert_str_empty(text);
  install(CUDA_HOST_ALL);
  for (int i = 0; i < 2; i++) {
    cr_assert_eq(rgm_library(streams[0], text, sizeof text), RGM_OK, "%s", rgm_last_error());
    cr_assert_str_eq(text, "cuBLAS 1.2.3");
  }
  cr_assert_eq(rgm_sync(streams[0]), RGM_OK);
}


// it counts as any row; the other stream has no library, and says so
Test(cuda, library_counts_its_work) {
  char text[64];
  if (rgm_library(streams[0], text, sizeof text) != RGM_OK) {
    cr_skip_test("%s", rgm_last_error());
  }
  const int64_t n[NUMBERS] = {7, 5, 16, 3, 1, 0};
  call c = make_call(&library_case, n, 0, 0);
  run_call(&c, streams[0]);
  const rgm_counts *counts = &streams[0]->counts[RGM_ROW_library_gemm];
  cr_assert_eq(counts->launches, 1u);
  cr_assert_eq(counts->flops, 2.0 * 7 * 5 * 16 * 3);
  cr_assert_eq(counts->bytes, 4.0 * 7 * (5 * 16 + 3 * 5 + 3 * 16));
  cr_assert_eq(rgm_library(streams[1], text, sizeof text), RGM_EDEVICE);
  cr_assert(strstr(rgm_last_error(), "cpu brings no library") != NULL, "%s", rgm_last_error());
}


// ---- the choice of a device

Test(cuda, is_chosen_and_told) {
  rgm_stream *s = NULL;
  char note[512] = "";
  rgm_device_options options = {.threads = 1, .isa = "auto", .device = 1};
  cr_assert_eq(rgm_open("auto", &options, &s, note, sizeof note), RGM_OK);
  cr_assert_str_eq(s->backend->name, "cuda");
  cr_assert_str_eq(s->backend->isa, "sm_host");
  cr_assert(strstr(note, "CUDA on the CPU 1, GPU 1, sm_host, 1.0 GiB") != NULL, "%s", note);
  rgm_close(s);
  options.device = 2;
  cr_assert_eq(rgm_open("auto", &options, &s, note, sizeof note), RGM_EUSAGE);
  cr_assert(strstr(rgm_last_error(), "no GPU 2; this machine has 2") != NULL, "%s",
            rgm_last_error());
}
