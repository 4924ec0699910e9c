// SPDX-License-Identifier: Apache-2.0
// The fused whole-episode loop of CUDA, twin of kernels/env_loop.h: one launch runs all steps of
// all episodes, with patient, state and random numbers in registers and the policy in shared
// memory. A template: include it once per environment with the macros that kernels/env_loop.h
// lists, and
//   ENV_EPISODES          episodes that a thread can hold in its registers (1 or 2)
//   ENV_RESIDENT          blocks of the long form that are to share a processor; 0: as ptxas finds
// It defines rgm_cuda_ENV_sample, rgm_cuda_ENV_rollout and rgm_cuda_ENV_step.
//
// Two forms. Long: a thread has an episode, or two that share the loads of weights. Short, for few
// episodes: eight lanes have one, each with every eighth hidden unit (one of the eight partials);
// everything else they all compute, but the random numbers, of which each makes those of two steps
// in sixteen. All forms do the operations of the CPU in its order and give the same bits. A block
// works for one replica; replicas lie behind each other on the grid's x axis.

#include "kernels/cuda/policy.cuh"
#include "kernels/rng.h"

#include <cstdlib>

#ifndef ENV_DRAWS
#define ENV_DRAWS 0
#endif

#define LOOP_PASTE2(a, b) a##_##b
#define LOOP_PASTE(a, b) LOOP_PASTE2(a, b)
#define ENV_(name) LOOP_PASTE(ENV, name)
#define LOOP_CUDA(name) LOOP_PASTE(rgm_cuda, ENV_(name))

enum {
  LOOP_THREADS = 128,     // the most of a block
  LOOP_SUM = 16,          // steps whose rewards are summed first
  LOOP_STAGE = 8,         // steps that wait to be written: a sector of 32 bytes of the narrowest
  LOOP_SHARED = 96 << 10, // bytes that a block may have on every device since sm_80
};

#define LOOP_INDEX(name) LOOP_STATE_##name,
#define LOOP_PATIENT_INDEX(name) LOOP_PATIENT_##name,
enum { ENV_STATE(LOOP_INDEX) LOOP_STATE_WORDS };
enum { ENV_PATIENT(LOOP_PATIENT_INDEX) LOOP_PATIENT_WORDS };

#include "kernels/env_step.h"

#define LOOP_START(name) e->state.name = start[LOOP_STATE_##name];
#define LOOP_START_PATIENT(name) e->patient.name = words[LOOP_PATIENT_##name];

// An episode: all of it lies in registers.
typedef struct loop_episode {
  ENV_(patient) patient;
  ENV_(state) state;
  float integral, returns, recent;            // PID's; sum of whole blocks of 16 rewards, and since
  float normal, logistic, normal2, logistic2; // of this step, and of the next after an even one
  float act[ENV_ACT], signals[ENV_SIGNALS];
} loop_episode;

// What the threads of a block share.
typedef struct loop_block {
  ENV_(config) config;
  float last; // observation, while `shared`
  int shared;
} loop_block;

// Where a thread's block stands, alike for all of its threads.
typedef struct loop_place {
  int64_t r, first, episodes; // replica, its first slot here, slots that run an episode
  rgm_key key;
  uint32_t step; // counter word
} loop_place;


// Keeps the compiler from computing ahead of the loop over time what it could then only keep in
// registers that the episodes need: constants of the config, terms of a patient's words.
#define LOOP_FORGET(name) RGM_FORGET_FLOAT(e->patient.name);

RGM_DEVICE void loop_forget(loop_episode *e) {
  RGM_FORGET_MEMORY();
  ENV_PATIENT(LOOP_FORGET)
  (void)e;
}


// ---- pieces of both forms ----------------------------------------------------------------------

// slots of a replica that run an episode
RGM_DEVICE int64_t loop_used(const rgm_rollout &o, int64_t r) {
  const int64_t slots = o.returns.dims[1];
  const int64_t count = o.items.data != NULL ? (int64_t)rgm_u32(o.count, r)[0] : slots;
  return count < slots ? count : slots;
}


// whether the block, of `wide` slots, has nothing to run; its empty slots return 0
RGM_DEVICE bool loop_rests(const rgm_rollout &o, int64_t r, int64_t first, int64_t wide) {
  if (rgm_u32(o.active, r)[0] == 0) {
    return true;
  }
  if (o.items.data == NULL) {
    return false;
  }
  const int64_t used = loop_used(o, r), end = o.returns.dims[1];
  for (int64_t slot = first + threadIdx.x; slot < first + wide && slot < end; slot += blockDim.x) {
    if (slot >= used) {
      rgm_f32(o.returns, r)[slot] = 0.0f;
    }
  }
  return first >= used;
}


// The block's replica and first slot. Loads what the block shares and
// ends with a barrier.
template <bool POLICY>
RGM_DEVICE loop_place loop_enter(loop_block *block, float *policy, const rgm_rollout &o, int64_t r,
                                 int64_t first) {
  loop_place at;
  at.r = r;
  at.first = first;
  at.episodes = loop_used(o, r);
  at.key = rgm_stream_key(rgm_u32(o.seeds, r), o.random);
  at.step = rgm_u32(o.clock, r)[0];
  const uint32_t *from = reinterpret_cast<const uint32_t *>(
      static_cast<const uint8_t *>(o.config.data) + r * o.config.stride0);
  uint32_t *to = reinterpret_cast<uint32_t *>(&block->config);
  static_assert(sizeof(ENV_(config)) % 4 == 0, "copied by words");
  for (unsigned i = threadIdx.x; i < sizeof(ENV_(config)) / 4; i += blockDim.x) {
    to[i] = from[i];
  }
  if constexpr (POLICY) {
    policy_load<ENV_OBS>(policy, rgm_f32(o.params, r), o.hidden);
  }
  __syncthreads();
  return at;
}


// a slot's episode in the batch; slots past the last one in use repeat it and are not written
RGM_DEVICE uint32_t loop_item(const rgm_rollout &o, const loop_place &at, int64_t slot) {
  const int64_t inside = slot < at.episodes ? slot : at.episodes - 1;
  return o.items.data != NULL ? rgm_u32(o.items, at.r)[inside] : (uint32_t)inside;
}


// words of its patient
RGM_DEVICE const float *loop_words(const rgm_rollout &o, const loop_place &at, int64_t slot) {
  const uint32_t each = (uint32_t)(o.episodes / o.patients.dims[1]);
  return rgm_f32(o.patients, at.r) + loop_item(o, at, slot) / each * ENV_WORDS;
}


RGM_DEVICE void loop_reset(loop_episode *e, const float *words) {
  float start[LOOP_STATE_WORDS] = {0};
  ENV_(reset)(start, words);
  ENV_STATE(LOOP_START)
  ENV_PATIENT(LOOP_START_PATIENT)
  e->integral = e->returns = e->recent = 0.0f;
  e->normal2 = e->logistic2 = e->logistic = 0.0f;
}


// the random numbers of steps 2 pair and 2 pair + 1
RGM_DEVICE void loop_draw(loop_episode *e, const loop_place &at, uint32_t item, uint32_t pair,
                          bool stochastic) {
  rgm_key key = at.key;
  RGM_FORGET_WORD(key.k0);
  RGM_FORGET_WORD(key.k1);
  const rgm_words w = rgm_philox(key, at.step, item, pair, 0);
  rgm_normals(w.w0, w.w1, &e->normal, &e->normal2);
  if (stochastic) {
    e->logistic = rgm_logistic(w.w2);
    e->logistic2 = rgm_logistic(w.w3);
  }
}


RGM_DEVICE void loop_observe(loop_episode *e, const loop_block *block, const loop_place &at,
                             uint32_t item, int t, float normal, float *obs) {
  float noise[1 + 4 * ENV_DRAWS];
  noise[0] = normal;
  rgm_key key = at.key;
  RGM_FORGET_WORD(key.k0);
  RGM_FORGET_WORD(key.k1);
#pragma unroll
  for (int m = 0; m < ENV_DRAWS; m++) {
    const rgm_words w = rgm_philox(key, at.step, item, (uint32_t)t, (uint32_t)m + 1);
    rgm_normals(w.w0, w.w1, &noise[1 + 4 * m], &noise[2 + 4 * m]);
    rgm_normals(w.w2, w.w3, &noise[3 + 4 * m], &noise[4 + 4 * m]);
  }
  ENV_(derive)(&e->state, &e->patient);
  ENV_(observe)(&e->state, &e->patient, &block->config, t, noise, obs);
}


// after an event: whether all episodes of the block have the same last observation, which then goes
// into the biases. `value` and `same` are this thread's: its last observation, if its own agree.
RGM_DEVICE bool loop_fold(loop_block *block, float *policy, int hidden, float value, bool same) {
  if (threadIdx.x == 0) {
    block->last = value;
    block->shared = 1;
  }
  __syncthreads();
  if (!same || value != block->last) {
    block->shared = 0;
  }
  __syncthreads();
  const bool shared = block->shared != 0;
  if (shared) {
    policy_share_last<ENV_OBS>(policy, hidden, block->last);
  }
  __syncthreads();
  return shared;
}


// the action, the step and its reward; policies and PID act on the first action only
RGM_DEVICE void loop_step(loop_episode *e, const loop_block *block, const rgm_rollout &o, int64_t r,
                          int64_t episode, int t, const float *obs, float z, float logistic) {
#pragma unroll
  for (int k = 0; k < ENV_ACT; k++) {
    e->act[k] = 0.0f;
  }
  switch (o.control) {
  case RGM_CONTROL_STOCHASTIC:
    e->act[0] = policy_stochastic(z, logistic);
    break;
  case RGM_CONTROL_DETERMINISTIC:
    e->act[0] = policy_deterministic(z);
    break;
  case RGM_CONTROL_CONTINUOUS:
    e->act[0] = policy_continuous(z);
    break;
  case RGM_CONTROL_PID:
    e->act[0] = pid_act(&e->integral, rgm_f32(o.params, r), obs[0], obs[2]);
    break;
  case RGM_CONTROL_CLINICIAN:
#ifdef ENV_CLINICIAN
    ENV_(clinician)
    (&e->state, &e->patient, &block->config, rgm_f32(o.params, r), t, e->act);
#endif
    break;
  case RGM_CONTROL_OPEN_LOOP: {
    const int64_t last = o.returns.dims[1] - 1, inside = episode < last ? episode : last;
    for (int k = 0; k < ENV_ACT; k++) {
      e->act[k] = rgm_f32(o.act, r)[(inside * o.steps + t) * ENV_ACT + k];
    }
    break;
  }
  }
  e->recent += ENV_(step)(&e->state, &e->patient, &block->config, e->act, e->signals);
  if (t % LOOP_SUM == LOOP_SUM - 1 || t == (int)o.steps - 1) {
    e->returns += e->recent;
    e->recent = 0.0f;
  }
}


// ---- the long form -----------------------------------------------------------------------------

// Records of a warp wait in shared memory: row (t mod 8) * words + word of a record, one column per
// episode, so that threads write without conflicts; a pitch of one more lets them read so too.
RGM_DEVICE int loop_rows(const rgm_rollout &o) {
  return LOOP_STAGE *
         ((o.obs.data != NULL ? ENV_OBS : 0) + (o.act.data != NULL ? ENV_ACT : 0) +
          (o.logits.data != NULL ? 1 : 0) + (o.signals.data != NULL ? ENV_SIGNALS : 0));
}


// puts a record of this thread's column into the stage; returns where the next kind's rows begin
template <int WORDS, int PITCH>
RGM_DEVICE float *loop_put(float *column, rgm_tensor out, int t, const float *record) {
  if (out.data == NULL) {
    return column;
  }
#pragma unroll
  for (int k = 0; k < WORDS; k++) {
    column[(t % LOOP_STAGE * WORDS + k) * PITCH] = record[k];
  }
  return column + LOOP_STAGE * WORDS * PITCH;
}


// writes the stage's records of one kind, `count` steps from `begin` on: neighbours in a warp write
// neighbours in a record, as many episodes at a time as make up a warp
template <int WORDS, int EPISODES>
RGM_DEVICE const float *loop_write(const float *stage, rgm_tensor out, const loop_place &at,
                                   int64_t steps, int begin, int count) {
  const int pitch = 32 * EPISODES + 1, rows = LOOP_STAGE * WORDS;
  const int wide = rows % 32 == 0 ? 32 : rows % 16 == 0 ? 16 : 8; // lanes of an episode
  static_assert(32 % wide == 0 && rows % wide == 0, "a warp writes whole rows");
  if (out.data == NULL) {
    return stage;
  }
  const int lane = (int)threadIdx.x % 32, mine = lane / wide;
  const int64_t first = at.first + threadIdx.x / 32 * 32, stride = steps * WORDS;
#pragma unroll 1
  for (int n = 0; n < EPISODES; n++) {
    const int64_t left = at.episodes - (first + n * (int)blockDim.x);
    const int columns = left < 32 ? (int)left : 32;
#pragma unroll 1
    for (int row = lane % wide; row < count * WORDS; row += wide) {
      const float *from = stage + row * pitch + n * 32;
      float *to = rgm_f32(out, at.r) + (first + n * (int)blockDim.x + mine) * stride +
                  (int64_t)begin * WORDS + row;
#pragma unroll(EPISODES > 1 ? 4 : 1)
      for (int column = mine; column < columns; column += 32 / wide) {
        *to = from[column];
        to += 32 / wide * stride;
      }
    }
  }
  return stage + rows * pitch;
}


template <int EPISODES>
RGM_DEVICE void loop_flush(const rgm_rollout &o, const loop_place &at, const float *stage, int t) {
  const int begin = t / LOOP_STAGE * LOOP_STAGE, count = t - begin + 1;
  rgm_tensor act = o.act;
  act.data = o.control != RGM_CONTROL_OPEN_LOOP ? act.data : NULL;
  __syncwarp();
  stage = loop_write<ENV_OBS, EPISODES>(stage, o.obs, at, o.steps, begin, count);
  stage = loop_write<ENV_ACT, EPISODES>(stage, act, at, o.steps, begin, count);
  stage = loop_write<1, EPISODES>(stage, o.logits, at, o.steps, begin, count);
  loop_write<ENV_SIGNALS, EPISODES>(stage, o.signals, at, o.steps, begin, count);
  __syncwarp();
}


// one step of this thread's episodes up to their observations; true: the last one is the same
template <int EPISODES>
RGM_DEVICE bool loop_see(loop_episode *e, const loop_block *block, const rgm_rollout &o,
                         const loop_place &at, int t, int event, float obs[][ENV_OBS]) {
  bool same = true;
#pragma unroll
  for (int n = 0; n < EPISODES; n++) {
    int index = n * (int)blockDim.x + (int)threadIdx.x;
    RGM_FORGET_WORD(index);
    loop_forget(&e[n]);
    if (t % 2 == 0) {
      loop_draw(&e[n], at, (uint32_t)o.first + loop_item(o, at, at.first + index), (uint32_t)t / 2,
                o.control == RGM_CONTROL_STOCHASTIC);
    } else {
      e[n].normal = e[n].normal2;
      e[n].logistic = e[n].logistic2;
    }
    if (event >= 0) {
      ENV_(event)(&e[n].state, loop_words(o, at, at.first + index), &block->config, event);
    }
    loop_observe(&e[n], block, at, (uint32_t)o.first + loop_item(o, at, at.first + index), t,
                 e[n].normal, obs[n]);
    same = same && obs[n][ENV_OBS - 1] == obs[0][ENV_OBS - 1];
  }
  return same;
}


// the rest of the step: actions, rewards, records
template <int EPISODES>
RGM_DEVICE void loop_act(loop_episode *e, const loop_block *block, const rgm_rollout &o,
                         const loop_place &at, float *stage, int t, const float obs[][ENV_OBS],
                         const float *z) {
  const int pitch = 32 * EPISODES + 1;
  rgm_tensor act = o.act;
  act.data = o.control != RGM_CONTROL_OPEN_LOOP ? act.data : NULL;
#pragma unroll
  for (int n = 0; n < EPISODES; n++) {
    const int64_t episode = at.first + n * (int)blockDim.x + threadIdx.x;
    loop_step(&e[n], block, o, at.r, episode, t, obs[n], z[n], e[n].logistic);
    float *column = stage + n * 32 + threadIdx.x % 32;
    column = loop_put<ENV_OBS, pitch>(column, o.obs, t, obs[n]);
    column = loop_put<ENV_ACT, pitch>(column, act, t, e[n].act);
    column = loop_put<1, pitch>(column, o.logits, t, &z[n]);
    loop_put<ENV_SIGNALS, pitch>(column, o.signals, t, e[n].signals);
  }
}


template <int EPISODES, bool POLICY>
RGM_KERNEL_RESIDENT(LOOP_THREADS, POLICY ? ENV_RESIDENT : 0)
ENV_(long_kernel)(const rgm_rollout o, int blocks) {
  RGM_SHARED(loop_block, block, );
  RGM_DYNAMIC_SHARED(float, policy);
  const int64_t r = blockIdx.x / (unsigned)blocks;
  const int64_t first = (int64_t)(blockIdx.x % (unsigned)blocks) * blockDim.x * EPISODES;
  if (loop_rests(o, r, first, (int64_t)blockDim.x * EPISODES)) {
    return;
  }
  const loop_place at = loop_enter<POLICY>(&block, policy, o, r, first);
  const int rows = loop_rows(o), octets = (o.hidden + 7) / 8;
  float *stage = policy + (POLICY ? octets * 8 * (ENV_OBS + POLICY_MORE) + 4 : 0) +
                 (int)threadIdx.x / 32 * rows * (32 * EPISODES + 1);
  loop_episode e[EPISODES];
#pragma unroll
  for (int n = 0; n < EPISODES; n++) {
    loop_reset(&e[n], loop_words(o, at, first + n * (int)blockDim.x + threadIdx.x));
  }
  const int steps = (int)o.steps;
  const int every = (int)ENV_(event_every)(&block.config);
  int due = 0, events = 0;
  bool shared = false;
#pragma unroll 1
  for (int t = 0; t < steps; t++) {
    float obs[EPISODES][ENV_OBS], z[EPISODES] = {0.0f};
    const bool event = t == due;
    const bool same = loop_see<EPISODES>(e, &block, o, at, t, event ? events : -1, obs);
    if (event) {
      due += every;
      events++;
    }
    if constexpr (POLICY) {
      if (event) {
        __syncthreads(); // nobody thinks with the old biases any more
        shared = loop_fold(&block, policy, o.hidden, obs[0][ENV_OBS - 1], same);
      }
      if (shared) {
        policy_think<ENV_OBS, EPISODES, true>(z, policy, o.hidden, obs);
      } else {
        policy_think<ENV_OBS, EPISODES, false>(z, policy, o.hidden, obs);
      }
    }
    loop_act<EPISODES>(e, &block, o, at, stage, t, obs, z);
    if (rows > 0 && (t % LOOP_STAGE == LOOP_STAGE - 1 || t == steps - 1)) {
      loop_flush<EPISODES>(o, at, stage, t);
    }
  }
#pragma unroll
  for (int n = 0; n < EPISODES; n++) {
    const int64_t episode = first + n * (int)blockDim.x + threadIdx.x;
    if (episode < at.episodes) {
      rgm_f32(o.returns, r)[episode] = e[n].returns;
    }
  }
}


// ---- the short form ----------------------------------------------------------------------------

// A lane's records: those of the step that has its number mod 8.
typedef struct loop_record {
  float obs[ENV_OBS], act[ENV_ACT], z, signals[ENV_SIGNALS];
} loop_record;

template <int WORDS>
RGM_DEVICE void loop_write_own(rgm_tensor out, const loop_place &at, int64_t row,
                               const float *record) {
  if (out.data != NULL) {
#pragma unroll
    for (int k = 0; k < WORDS; k++) {
      rgm_f32(out, at.r)[row * WORDS + k] = record[k];
    }
  }
}


// every lane keeps its step, and after eight of them writes it: eight lanes, eight steps in a row
RGM_DEVICE void loop_keep(loop_record *mine, const rgm_rollout &o, const loop_place &at,
                          int64_t episode, int t, const float *obs, const loop_episode *e,
                          float z) {
  const int lane = (int)threadIdx.x % LOOP_STAGE;
  if (t % LOOP_STAGE == lane) {
#pragma unroll
    for (int k = 0; k < ENV_OBS; k++) {
      mine->obs[k] = obs[k];
    }
#pragma unroll
    for (int k = 0; k < ENV_ACT; k++) {
      mine->act[k] = e->act[k];
    }
#pragma unroll
    for (int k = 0; k < ENV_SIGNALS; k++) {
      mine->signals[k] = e->signals[k];
    }
    mine->z = z;
  }
  const int own = t / LOOP_STAGE * LOOP_STAGE + lane;
  const bool full = t % LOOP_STAGE == LOOP_STAGE - 1 || t == (int)o.steps - 1;
  if (full && own <= t && episode < at.episodes) {
    const int64_t row = episode * o.steps + own;
    loop_write_own<ENV_OBS>(o.obs, at, row, mine->obs);
    loop_write_own<ENV_ACT>(o.act, at, row, mine->act);
    loop_write_own<1>(o.logits, at, row, &mine->z);
    loop_write_own<ENV_SIGNALS>(o.signals, at, row, mine->signals);
  }
}


RGM_KERNEL(LOOP_THREADS) ENV_(short_kernel)(const rgm_rollout o, int blocks) {
  RGM_SHARED(loop_block, block, );
  RGM_DYNAMIC_SHARED(float, policy);
  const int64_t r = blockIdx.x / (unsigned)blocks;
  const int64_t first = (int64_t)(blockIdx.x % (unsigned)blocks) * (blockDim.x / 8);
  if (loop_rests(o, r, first, blockDim.x / 8)) {
    return;
  }
  const loop_place at = loop_enter<true>(&block, policy, o, r, first);
  const int64_t episode = first + threadIdx.x / 8;
  const bool stochastic = o.control == RGM_CONTROL_STOCHASTIC;
  loop_episode e;
  loop_record mine = {};
  loop_reset(&e, loop_words(o, at, episode));
  const int steps = (int)o.steps;
  const int every = (int)ENV_(event_every)(&block.config);
  int due = 0, events = 0;
  bool shared = false;
#pragma unroll 1
  for (int t = 0; t < steps; t++) {
    loop_forget(&e);
    // lane k makes the numbers of two steps out of sixteen, and gives them when their time comes
    if (t % LOOP_SUM == 0) {
      loop_draw(&e, at, (uint32_t)o.first + loop_item(o, at, episode),
                (uint32_t)t / 2 + threadIdx.x % 8, stochastic);
    }
    const int from = t % LOOP_SUM / 2;
    const float normal = __shfl_sync(0xffffffffu, t % 2 == 0 ? e.normal : e.normal2, from, 8);
    const float mark = t % 2 == 0 ? e.logistic : e.logistic2;
    const float logistic = stochastic ? __shfl_sync(0xffffffffu, mark, from, 8) : 0.0f;
    const bool event = t == due;
    float obs[ENV_OBS];
    if (event) {
      ENV_(event)(&e.state, loop_words(o, at, episode), &block.config, events);
      due += every;
      events++;
    }
    loop_observe(&e, &block, at, (uint32_t)o.first + loop_item(o, at, episode), t, normal, obs);
    if (event) {
      __syncthreads();
      shared = loop_fold(&block, policy, o.hidden, obs[ENV_OBS - 1], true);
    }
    const float z = shared ? policy_think_together<ENV_OBS, true>(policy, o.hidden, obs)
                           : policy_think_together<ENV_OBS, false>(policy, o.hidden, obs);
    loop_step(&e, &block, o, r, episode, t, obs, z, logistic);
    loop_keep(&mine, o, at, episode, t, obs, &e, z);
  }
  if (threadIdx.x % 8 == 0 && episode < at.episodes) {
    rgm_f32(o.returns, r)[episode] = e.returns;
  }
}


// ---- launches ----------------------------------------------------------------------------------

enum loop_form { LOOP_SHORT, LOOP_LONG, LOOP_PAIR, LOOP_FORMS };
static const char *const loop_names[LOOP_FORMS] = {"short", "long", "pair"};

// Instructions that a warp issues for a step, from the machine code (README_rollout.md, 128 hidden
// units, records of training), and its episodes. A warp alone on its scheduler waits about 2.5
// times as long as it issues.
static const double loop_slots[LOOP_FORMS] = {430.0, 1290.0, 2260.0};
static const int loop_lanes[LOOP_FORMS] = {4, 32, 64};


// The form that needs least time for a step: warps over schedulers, four to a processor, times what
// a warp issues, but no less than a warp alone needs. RGM_CUDA_LOOP names another one, for tests.
static loop_form loop_choose(rgm_stream *s, const rgm_rollout *o) {
  const bool policy = o->control <= RGM_CONTROL_CONTINUOUS;
  loop_form best = LOOP_LONG;
  double least = 0.0;
  const char *named = getenv("RGM_CUDA_LOOP");
  for (int f = 0; f < LOOP_FORMS && policy; f++) {
    const double warps = (double)o->returns.dims[0] *
                         (double)((o->returns.dims[1] + loop_lanes[f] - 1) / loop_lanes[f]);
    const double load = warps / (4.0 * rgm_cuda_processors(s));
    const double time = loop_slots[f] * (load > 2.5 ? load : 2.5);
    if (f == LOOP_PAIR && ENV_EPISODES < 2) {
      continue;
    }
    if (named != NULL && strcmp(named, loop_names[f]) == 0) {
      return static_cast<loop_form>(f);
    }
    if (f == 0 || time < least) {
      best = static_cast<loop_form>(f);
      least = time;
    }
  }
  return best;
}


static int64_t loop_policy_bytes(const rgm_rollout *o) {
  return o->control <= RGM_CONTROL_CONTINUOUS ? 4 * policy_floats(ENV_OBS, o->hidden) : 0;
}


// blocks of a replica; as many threads as its episodes need and shared memory allows
template <int EPISODES, bool POLICY> static void loop_launch(rgm_stream *s, const rgm_rollout *o) {
  const int64_t episodes = o->returns.dims[1];
  const int64_t words = (o->obs.data != NULL ? ENV_OBS : 0) + (o->act.data != NULL ? ENV_ACT : 0) +
                        (o->logits.data != NULL ? 1 : 0) +
                        (o->signals.data != NULL ? ENV_SIGNALS : 0);
  const int64_t warp = 4 * LOOP_STAGE * words * (32 * EPISODES + 1); // bytes of its records
  int64_t warps = (episodes + 32 * EPISODES - 1) / (32 * EPISODES);
  warps = warps < LOOP_THREADS / 32 ? warps : LOOP_THREADS / 32;
  while (warps > 1 && loop_policy_bytes(o) + warps * warp > LOOP_SHARED) {
    warps--;
  }
  const int64_t bytes = loop_policy_bytes(o) + warps * warp;
  const int64_t blocks = (episodes + 32 * EPISODES * warps - 1) / (32 * EPISODES * warps);
  RGM_ASSERT(o->returns.dims[0] * blocks <= INT32_MAX);
  rgm_cuda_check(s,
                 cudaFuncSetAttribute(ENV_(long_kernel) < EPISODES, POLICY >,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, LOOP_SHARED),
                 "shared memory of a rollout");
  RGM_LAUNCH((ENV_(long_kernel) < EPISODES, POLICY >), (unsigned)(o->returns.dims[0] * blocks),
             (unsigned)warps * 32, (size_t)bytes, s, *o, (int)blocks);
}


static void loop_launch_short(rgm_stream *s, const rgm_rollout *o) {
  const int64_t episodes = o->returns.dims[1];
  int64_t warps = (episodes + 3) / 4;
  warps = warps < LOOP_THREADS / 32 ? warps : LOOP_THREADS / 32;
  const int64_t blocks = (episodes + 4 * warps - 1) / (4 * warps);
  RGM_ASSERT(o->returns.dims[0] * blocks <= INT32_MAX);
  RGM_LAUNCH(ENV_(short_kernel), (unsigned)(o->returns.dims[0] * blocks), (unsigned)warps * 32,
             (size_t)loop_policy_bytes(o), s, *o, (int)blocks);
}


void LOOP_CUDA(rollout)(rgm_stream *s, const rgm_rollout *rollout);
void LOOP_CUDA(rollout)(rgm_stream *s, const rgm_rollout *rollout) {
  rgm_rollout o = *rollout;
  o.episodes = o.items.data != NULL ? o.episodes : o.returns.dims[1];
  RGM_ASSERT(o.patients.dims[2] == ENV_WORDS && o.episodes <= INT32_MAX);
  RGM_ASSERT(o.steps <= INT32_MAX && o.hidden <= RGM_POLICY_MAX_HIDDEN);
#ifndef ENV_CLINICIAN
  RGM_ASSERT(o.control != RGM_CONTROL_CLINICIAN);
#endif
  if (o.control > RGM_CONTROL_CONTINUOUS) {
    loop_launch<1, false>(s, &o);
    return;
  }
  switch (loop_choose(s, &o)) {
  case LOOP_SHORT:
    loop_launch_short(s, &o);
    break;
  case LOOP_PAIR:
    loop_launch<ENV_EPISODES, true>(s, &o);
    break;
  default:
    loop_launch<1, true>(s, &o);
  }
}


// ---- patients: one thread each, in double ------------------------------------------------------

RGM_KERNEL(LOOP_THREADS) ENV_(sample_kernel)(const rgm_cohort c) {
  const int64_t patients = c.patients.dims[1];
  const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  const int64_t r = index / patients, p = index % patients;
  if (r >= c.patients.dims[0] || rgm_u32(c.active, r)[0] == 0) {
    return;
  }
  const ENV_(config) *config = reinterpret_cast<const ENV_(config) *>(
      static_cast<const uint8_t *>(c.config.data) + r * c.config.stride0);
  rgm_rng rng;
  rng.key = rgm_stream_key(rgm_u32(c.seeds, r), c.random);
  rng.step = rgm_u32(c.clock, r)[0];
  rng.item = (uint32_t)(c.first + p);
  rng.draw = 0;
  ENV_(sample)(rgm_f32(c.patients, r) + p * ENV_WORDS, config, rng);
}


void LOOP_CUDA(sample)(rgm_stream *s, const rgm_cohort *cohort);
void LOOP_CUDA(sample)(rgm_stream *s, const rgm_cohort *cohort) {
  const int64_t patients = cohort->patients.dims[0] * cohort->patients.dims[1];
  RGM_LAUNCH(ENV_(sample_kernel), (unsigned)((patients + LOOP_THREADS - 1) / LOOP_THREADS),
             LOOP_THREADS, 0, s, *cohort);
}


// ---- one step: a thread an episode -------------------------------------------------------------

RGM_KERNEL(LOOP_THREADS) ENV_(step_kernel)(const rgm_stepping o) {
  const int64_t episodes = o.state.dims[1];
  const int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  const int64_t r = index / episodes;
  if (r >= o.state.dims[0] || rgm_u32(o.active, r)[0] == 0) {
    return;
  }
  const ENV_(config) *config = reinterpret_cast<const ENV_(config) *>(
      static_cast<const uint8_t *>(o.config.data) + r * o.config.stride0);
  step_episode_once(&o, config, r, index % episodes);
}


void LOOP_CUDA(step)(rgm_stream *s, const rgm_stepping *stepping);
void LOOP_CUDA(step)(rgm_stream *s, const rgm_stepping *stepping) {
  const int64_t episodes = stepping->state.dims[0] * stepping->state.dims[1];
  RGM_ASSERT(stepping->state.dims[2] == STEP_WORDS && episodes <= INT32_MAX);
  RGM_ASSERT(stepping->begin || stepping->act.dims[2] == ENV_ACT);
  RGM_ASSERT(stepping->signals.data == NULL || stepping->signals.dims[2] == ENV_SIGNALS);
  RGM_ASSERT(stepping->patients.data == NULL || stepping->patients.dims[2] == ENV_WORDS);
  RGM_LAUNCH(ENV_(step_kernel), (unsigned)((episodes + LOOP_THREADS - 1) / LOOP_THREADS),
             LOOP_THREADS, 0, s, *stepping);
}
