// SPDX-License-Identifier: Apache-2.0
// The fused whole-episode loop of the CPU: an environment's header and the controllers, 16
// episodes at a time with every word of their state in a row of 16 lanes, so that the compiler
// turns the scalar functions into vector code. A template: include it once per environment with
// these macros set.
//   ENV                   the name, prefix of the functions (propofol)
//   ENV_PATIENT(X)        words of a patient that the loop reads; ENV_WORDS of them are stored
//   ENV_STATE(X)          words that change
//   ENV_OBS, ENV_ACT, ENV_SIGNALS   how many numbers an observation, an action and a record have
//   ENV_DRAWS             optional: philox calls of a step for noise of its own, four normals each
//   ENV_CLINICIAN         optional: there is ENV_clinician, a rule of the environment's own (it
//                         reads its parameters unconditionally, or there are no vectors)
// and those of kernels/env_step.h. The last observation changes at events only. It defines
// RGM_CPU(ENV_sample), RGM_CPU(ENV_rollout) and RGM_CPU(ENV_step). Random words of step t: philox
// at draw t / 2 gives normals (w0, w1) and logistic variates of the action (w2, w3) of two steps;
// members 1 ... ENV_DRAWS at draw t give four more normals each. ENV_observe finds them in noise[0
// ... 4 ENV_DRAWS], the first one first.

#include "kernels/cpu/cpu.h"
#include "kernels/policy.h"
#include "kernels/rng.h"

#include <string.h>

#ifndef ENV_DRAWS
#define ENV_DRAWS 0
#endif

#define LOOP_PASTE2(a, b) a##_##b
#define LOOP_PASTE(a, b) LOOP_PASTE2(a, b)
#define ENV_(name) LOOP_PASTE(ENV, name)

// no loop over lanes carries a dependence, and none may be unrolled before it is vectorised; gcc
// must be told both
#define LOOP_LANES _Pragma("GCC ivdep") _Pragma("GCC unroll 1") for (int j = 0; j < LANES; j++)
// a short loop within one, which must be gone before that is vectorised
#define LOOP_WORDS(count) _Pragma("GCC unroll 64") for (int k = 0; k < (count); k++)

enum {
  LANES = 16,
  FLUSH = 16,
  BLOCK = 4
}; // lanes of a tile, steps between flushes, tiles of a block

#define LOOP_INDEX(name) LOOP_STATE_##name,
#define LOOP_PATIENT_INDEX(name) LOOP_PATIENT_##name,
enum { ENV_STATE(LOOP_INDEX) LOOP_STATE_WORDS };
enum { ENV_PATIENT(LOOP_PATIENT_INDEX) LOOP_PATIENT_WORDS };

#include "kernels/env_step.h"

// The policy of a tile, and the same with the last observation folded in, while all lanes share it.
typedef struct loop_policy {
  float whole[RGM_POLICY_MAX_HIDDEN * (ENV_OBS + 2) + 1];
  float shorter[RGM_POLICY_MAX_HIDDEN * (ENV_OBS + 1) + 1];
  bool shared;
} loop_policy;

// Everything that 16 episodes need; row k of a table holds word k of every lane.
typedef struct loop_tile {
  float patient[LOOP_PATIENT_WORDS][LANES];
  float state[LOOP_STATE_WORDS][LANES];
  float integral[LANES];
  float returns[LANES], recent[LANES]; // sum of rewards: of whole blocks of 16 steps, and since
  // the 16 steps from the last flush on: their random numbers, and what waits to be written
  float normal[FLUSH][LANES], logistic[FLUSH][LANES];
  float noise[4 * ENV_DRAWS + 1][LANES]; // of this step; the last row is not used
  float obs[FLUSH][ENV_OBS][LANES];
  float act[FLUSH][ENV_ACT][LANES];
  float logits[FLUSH][LANES];
  float signals[FLUSH][ENV_SIGNALS][LANES];
  uint32_t item[LANES]; // episodes of the batch
  int used;             // lanes that have an episode of their own; the others repeat the last
} __attribute__((aligned(64))) loop_tile;

// Tiles that run step by step side by side: their chains of dependent operations overlap, and two
// vectors share each load of a weight.
typedef struct loop_block {
  loop_tile tile[BLOCK];
  int tiles;
  int64_t first; // slot
} loop_block;

typedef struct loop_job {
  const rgm_rollout *rollout;
  int64_t blocks; // per replica
  int tiles;      // of a block
} loop_job;

#define LOOP_LOAD(name) s.name = tile->state[LOOP_STATE_##name][j];
#define LOOP_STORE(name) tile->state[LOOP_STATE_##name][j] = s.name;
#define LOOP_LOAD_PATIENT(name) p.name = tile->patient[LOOP_PATIENT_##name][j];


// slots of a replica that run an episode
static int64_t loop_used(const rgm_rollout *o, int64_t r) {
  const int64_t slots = o->returns.dims[1];
  const int64_t count = o->items.data != NULL ? (int64_t)rgm_u32(o->count, r)[0] : slots;
  return count < slots ? count : slots;
}


// words of a lane's patient
static const float *loop_words(const loop_tile *tile, const rgm_rollout *o, int64_t r, int j) {
  const int64_t episodes = o->items.data != NULL ? o->episodes : o->returns.dims[1];
  return rgm_f32(o->patients, r) + tile->item[j] / (episodes / o->patients.dims[1]) * ENV_WORDS;
}


static void loop_reset(loop_tile *tile, const rgm_rollout *o, int64_t r, int64_t first) {
  const int64_t left = loop_used(o, r) - first;
  memset(tile, 0, sizeof *tile);
  tile->used = left < LANES ? (int)left : LANES;
  for (int j = 0; j < LANES; j++) {
    // lanes past the last episode repeat it, and are not written
    const int64_t slot = first + (j < tile->used ? j : tile->used - 1);
    tile->item[j] = o->items.data != NULL ? rgm_u32(o->items, r)[slot] : (uint32_t)slot;
    const float *words = loop_words(tile, o, r, j);
    float state[LOOP_STATE_WORDS] = {0};
    ENV_(reset)(state, words);
    for (int k = 0; k < LOOP_PATIENT_WORDS; k++) {
      tile->patient[k][j] = words[k];
    }
    for (int k = 0; k < LOOP_STATE_WORDS; k++) {
      tile->state[k][j] = state[k];
    }
  }
}


static void loop_event(loop_tile *tile, const rgm_rollout *o, const ENV_(config) * c, int64_t r,
                       int64_t event) {
  for (int j = 0; j < LANES; j++) {
    const float *words = loop_words(tile, o, r, j);
    ENV_(state) s;
    ENV_STATE(LOOP_LOAD)
    ENV_(event)(&s, words, c, event);
    ENV_STATE(LOOP_STORE)
  }
}


// the random numbers of 16 steps at once: they wait for nothing, so that their chains overlap
static void loop_draw(loop_tile *tile, rgm_key key, uint32_t step, uint32_t base, int64_t t,
                      bool stochastic) {
  uint32_t items[LANES], word[4][LANES];
  for (int j = 0; j < LANES; j++) {
    items[j] = base + tile->item[j];
  }
  for (int pair = 0; pair < FLUSH / 2; pair++) {
    for (int v = 0; v < LANES; v += RGM_LANE_WIDTH) {
      rgm_lanes_u32 words[4];
      rgm_philox_lanes(key, step, rgm_lanes_u32_load(items + v), (uint32_t)(t / 2 + pair), 0,
                       words);
      for (int k = 0; k < 4; k++) {
        rgm_lanes_u32_store(word[k] + v, words[k]);
      }
    }
    float *even = tile->normal[2 * pair], *odd = tile->normal[2 * pair + 1];
    LOOP_LANES {
      rgm_normals(word[0][j], word[1][j], &even[j], &odd[j]);
    }
    float *first = tile->logistic[2 * pair], *second = tile->logistic[2 * pair + 1];
    if (stochastic) {
      LOOP_LANES {
        first[j] = rgm_logistic(word[2][j]);
        second[j] = rgm_logistic(word[3][j]);
      }
    }
  }
}


#if ENV_DRAWS > 0
// the noise of one step beyond its first normal
static void loop_draw_more(loop_tile *tile, rgm_key key, uint32_t step, uint32_t base, int64_t t) {
  uint32_t items[LANES], word[4][LANES];
  for (int j = 0; j < LANES; j++) {
    items[j] = base + tile->item[j];
  }
  for (int m = 0; m < ENV_DRAWS; m++) {
    for (int v = 0; v < LANES; v += RGM_LANE_WIDTH) {
      rgm_lanes_u32 words[4];
      rgm_philox_lanes(key, step, rgm_lanes_u32_load(items + v), (uint32_t)t, (uint32_t)m + 1,
                       words);
      for (int k = 0; k < 4; k++) {
        rgm_lanes_u32_store(word[k] + v, words[k]);
      }
    }
    float(*to)[LANES] = &tile->noise[4 * m];
    LOOP_LANES {
      rgm_normals(word[0][j], word[1][j], &to[0][j], &to[1][j]);
      rgm_normals(word[2][j], word[3][j], &to[2][j], &to[3][j]);
    }
  }
}
#endif


// what the state implies now: a long chain of operations in a short loop, so that those of several
// tiles overlap
static void loop_derive(loop_tile *tile) {
  LOOP_LANES {
    ENV_(state) s;
    ENV_(patient) p;
    ENV_STATE(LOOP_LOAD)
    ENV_PATIENT(LOOP_LOAD_PATIENT)
    ENV_(derive)(&s, &p);
    ENV_STATE(LOOP_STORE)
  }
}


static void loop_observe(loop_tile *tile, const ENV_(config) * c, int64_t t) {
  const float *normal = tile->normal[t % FLUSH];
  float(*record)[LANES] = tile->obs[t % FLUSH];
  LOOP_LANES {
    ENV_(state) s;
    ENV_(patient) p;
    float obs[ENV_OBS], noise[1 + 4 * ENV_DRAWS];
    ENV_STATE(LOOP_LOAD)
    ENV_PATIENT(LOOP_LOAD_PATIENT)
    noise[0] = normal[j];
    LOOP_WORDS(4 * ENV_DRAWS) {
      noise[1 + k] = tile->noise[k][j];
    }
    ENV_(observe)(&s, &p, c, t, noise, obs);
    ENV_STATE(LOOP_STORE)
    LOOP_WORDS(ENV_OBS) {
      record[k][j] = obs[k];
    }
  }
}


static void loop_step(loop_tile *tile, const ENV_(config) * c, int64_t t) {
  const float(*actions)[LANES] = (const float(*)[LANES])tile->act[t % FLUSH];
  float(*record)[LANES] = tile->signals[t % FLUSH];
  LOOP_LANES {
    ENV_(state) s;
    ENV_(patient) p;
    float act[ENV_ACT], signals[ENV_SIGNALS];
    ENV_STATE(LOOP_LOAD)
    ENV_PATIENT(LOOP_LOAD_PATIENT)
    LOOP_WORDS(ENV_ACT) {
      act[k] = actions[k][j];
    }
    tile->recent[j] += ENV_(step)(&s, &p, c, act, signals);
    ENV_STATE(LOOP_STORE)
    LOOP_WORDS(ENV_SIGNALS) {
      record[k][j] = signals[k];
    }
  }
}


// after an event: if every lane has the same last observation, it goes into the biases
static void loop_fold(loop_policy *policy, const loop_block *block, int hidden, int64_t t) {
  const float value = block->tile[0].obs[t % FLUSH][ENV_OBS - 1][0];
  policy->shared = true;
  for (int b = 0; b < block->tiles; b++) {
    for (int j = 0; j < LANES; j++) {
      policy->shared = policy->shared && block->tile[b].obs[t % FLUSH][ENV_OBS - 1][j] == value;
    }
  }
  if (policy->shared) {
    policy_fold_last(policy->shorter, policy->whole, ENV_OBS, hidden, value);
  }
}


// logits of n vectors of lanes from vector v of the block on; n, inputs and last_first are
// constants
RGM_INLINE void loop_logits(loop_block *block, const float *folded, int inputs, int hidden,
                            int64_t t, int v, int n, bool last_first) {
  rgm_lanes x[2 * ENV_OBS], z[2];
  for (int k = 0; k < n; k++) {
    const int lane = (v + k) * RGM_LANE_WIDTH;
    for (int i = 0; i < inputs; i++) {
      x[k * inputs + i] =
          rgm_lanes_load(block->tile[lane / LANES].obs[t % FLUSH][i] + lane % LANES);
    }
  }
  policy_logits(z, folded, inputs, hidden, x, n, last_first);
  for (int k = 0; k < n; k++) {
    const int lane = (v + k) * RGM_LANE_WIDTH;
    rgm_lanes_store(block->tile[lane / LANES].logits[t % FLUSH] + lane % LANES, z[k]);
  }
}


static void loop_think(loop_block *block, const loop_policy *policy, int hidden, int64_t t) {
  const int vectors = block->tiles * LANES / RGM_LANE_WIDTH;
  const int paired = RGM_LANE_PAIRS ? vectors / 2 * 2 : 0;
  if (policy->shared) {
    for (int v = 0; v < paired; v += 2) {
      loop_logits(block, policy->shorter, ENV_OBS - 1, hidden, t, v, 2, false);
    }
    for (int v = paired; v < vectors; v++) {
      loop_logits(block, policy->shorter, ENV_OBS - 1, hidden, t, v, 1, false);
    }
  } else {
    for (int v = 0; v < paired; v += 2) {
      loop_logits(block, policy->whole, ENV_OBS, hidden, t, v, 2, true);
    }
    for (int v = paired; v < vectors; v++) {
      loop_logits(block, policy->whole, ENV_OBS, hidden, t, v, 1, true);
    }
  }
}


#ifdef ENV_CLINICIAN
// the environment's own rule, which keeps what it must remember in the state
static void loop_clinician(loop_tile *tile, const ENV_(config) * c, const float *params,
                           int64_t t) {
  float(*actions)[LANES] = tile->act[t % FLUSH];
  LOOP_LANES {
    ENV_(state) s;
    ENV_(patient) p;
    float act[ENV_ACT];
    ENV_STATE(LOOP_LOAD)
    ENV_PATIENT(LOOP_LOAD_PATIENT)
    ENV_(clinician)(&s, &p, c, params, t, act);
    ENV_STATE(LOOP_STORE)
    LOOP_WORDS(ENV_ACT) {
      actions[k][j] = act[k];
    }
  }
}
#endif


// the action of every lane at step t; policies and PID act on the first action only
static void loop_control(loop_tile *tile, const rgm_rollout *o, const ENV_(config) * c, int64_t r,
                         int64_t first, int64_t t) {
  const float *params = rgm_f32(o->params, r);
  float *act = tile->act[t % FLUSH][0];
  const float(*obs)[LANES] = (const float(*)[LANES])tile->obs[t % FLUSH];
  const float *logistic = tile->logistic[t % FLUSH], *z = tile->logits[t % FLUSH];
  (void)c;
  switch (o->control) {
  case RGM_CONTROL_STOCHASTIC:
    LOOP_LANES {
      act[j] = policy_stochastic(z[j], logistic[j]);
    }
    break;
  case RGM_CONTROL_DETERMINISTIC:
    LOOP_LANES {
      act[j] = policy_deterministic(z[j]);
    }
    break;
  case RGM_CONTROL_CONTINUOUS:
    LOOP_LANES {
      act[j] = policy_continuous(z[j]);
    }
    break;
  case RGM_CONTROL_PID:
    LOOP_LANES {
      act[j] = pid_act(&tile->integral[j], params, obs[0][j], obs[2][j]);
    }
    break;
  case RGM_CONTROL_CLINICIAN:
#ifdef ENV_CLINICIAN
    loop_clinician(tile, c, params, t);
#endif
    break;
  case RGM_CONTROL_OPEN_LOOP:
    for (int j = 0; j < LANES; j++) {
      const int64_t slot = first + (j < tile->used ? j : tile->used - 1);
      for (int k = 0; k < ENV_ACT; k++) {
        tile->act[t % FLUSH][k][j] = rgm_f32(o->act, r)[(slot * o->steps + t) * ENV_ACT + k];
      }
    }
    break;
  }
}


// writes `count` records of `words` numbers of every episode of the tile from step `begin` on: a
// lane's column of the record is a row of the output
static void loop_write(const loop_tile *tile, const rgm_rollout *o, rgm_tensor out, int64_t r,
                       int64_t first, int64_t begin, int64_t count, int words,
                       const float *record) {
  if (out.data == NULL) {
    return;
  }
  const int64_t lanes = tile->used;
  const int64_t stride = o->steps * words, rows = count * words;
  float *dst = rgm_f32(out, r) + first * stride + begin * words;
  int64_t row = 0;
  for (; row + LANES <= rows && lanes == LANES; row += LANES) {
    rgm_transpose16(record + row * LANES, LANES, dst + row, stride);
  }
  for (int64_t j = 0; j < lanes; j++) {
    for (int64_t i = row; i < rows; i++) {
      dst[j * stride + i] = record[i * LANES + j];
    }
  }
}


// a return is summed within blocks of 16 steps, then over the blocks: less rounding than one by one
static void loop_flush(loop_tile *tile, const rgm_rollout *o, int64_t r, int64_t first, int64_t t) {
  for (int j = 0; j < LANES; j++) {
    tile->returns[j] += tile->recent[j];
    tile->recent[j] = 0.0f;
  }
  const int64_t begin = t / FLUSH * FLUSH, count = t - begin + 1;
  loop_write(tile, o, o->obs, r, first, begin, count, ENV_OBS, tile->obs[0][0]);
  loop_write(tile, o, o->logits, r, first, begin, count, 1, tile->logits[0]);
  loop_write(tile, o, o->signals, r, first, begin, count, ENV_SIGNALS, tile->signals[0][0]);
  if (o->control != RGM_CONTROL_OPEN_LOOP) {
    loop_write(tile, o, o->act, r, first, begin, count, ENV_ACT, tile->act[0][0]);
  }
}


// one step of all tiles of a block; `event`: the one numbered `events` happens now
static void loop_advance(loop_block *block, const rgm_rollout *o, const ENV_(config) * c,
                         loop_policy *policy, int64_t r, int64_t t, bool event, int64_t events) {
  const bool thinks = o->control <= RGM_CONTROL_CONTINUOUS;
  for (int b = 0; b < block->tiles; b++) {
    if (event) {
      loop_event(&block->tile[b], o, c, r, events);
    }
    loop_derive(&block->tile[b]);
  }
  for (int b = 0; b < block->tiles; b++) {
    loop_observe(&block->tile[b], c, t);
  }
  if (thinks && event) {
    loop_fold(policy, block, o->hidden, t);
  }
  if (thinks) {
    loop_think(block, policy, o->hidden, t);
  }
  for (int b = 0; b < block->tiles; b++) {
    loop_control(&block->tile[b], o, c, r, block->first + b * LANES, t);
    loop_step(&block->tile[b], c, t);
  }
}


static void loop_block_task(void *arg, int64_t index) {
  const loop_job *job = arg;
  const rgm_rollout *o = job->rollout;
  const int64_t r = index / job->blocks;
  if (rgm_u32(o->active, r)[0] == 0) {
    return;
  }
  loop_block block;
  block.first = index % job->blocks * job->tiles * LANES;
  const int64_t left = loop_used(o, r) - block.first;
  for (int64_t k = left > 0 ? left : 0; k < job->tiles * LANES; k++) {
    if (block.first + k < o->returns.dims[1]) {
      rgm_f32(o->returns, r)[block.first + k] = 0.0f; // empty slots
    }
  }
  if (left <= 0) {
    return;
  }
  ENV_(config) config;
  memcpy(&config, (const uint8_t *)o->config.data + r * o->config.stride0, sizeof config);
  const rgm_key key = rgm_stream_key(rgm_u32(o->seeds, r), o->random);

  // fold the policy's weights once for the episode
  loop_policy policy;
  if (o->control <= RGM_CONTROL_CONTINUOUS) {
    policy_fold(policy.whole, rgm_f32(o->params, r), ENV_OBS, o->hidden);
  }
  const int64_t tiles = (left + LANES - 1) / LANES;
  block.tiles = tiles < job->tiles ? (int)tiles : job->tiles;
  for (int b = 0; b < block.tiles; b++) {
    loop_reset(&block.tile[b], o, r, block.first + b * LANES);
  }
  const int64_t every = ENV_(event_every)(&config);
  int64_t due = 0, events = 0;
  for (int64_t t = 0; t < o->steps; t++) {
    for (int b = 0; b < block.tiles && t % FLUSH == 0; b++) {
      loop_draw(&block.tile[b], key, rgm_u32(o->clock, r)[0], (uint32_t)o->first, t,
                o->control == RGM_CONTROL_STOCHASTIC);
    }
#if ENV_DRAWS > 0
    for (int b = 0; b < block.tiles; b++) {
      loop_draw_more(&block.tile[b], key, rgm_u32(o->clock, r)[0], (uint32_t)o->first, t);
    }
#endif
    loop_advance(&block, o, &config, &policy, r, t, t == due, events);
    events += t == due;
    due += t == due ? every : 0;
    for (int b = 0; b < block.tiles && (t % FLUSH == FLUSH - 1 || t == o->steps - 1); b++) {
      loop_flush(&block.tile[b], o, r, block.first + b * LANES, t);
    }
  }
  for (int64_t k = 0; k < block.tiles * LANES && k < left; k++) {
    rgm_f32(o->returns, r)[block.first + k] = block.tile[k / LANES].returns[k % LANES];
  }
}


void RGM_CPU(ENV_(rollout))(rgm_stream *s, const rgm_rollout *rollout);
void RGM_CPU(ENV_(rollout))(rgm_stream *s, const rgm_rollout *rollout) {
  const int64_t episodes = rollout->returns.dims[1];
  RGM_ASSERT(rollout->patients.dims[2] == ENV_WORDS);
#ifndef ENV_CLINICIAN
  RGM_ASSERT(rollout->control != RGM_CONTROL_CLINICIAN);
#endif
  const int64_t replicas = rollout->returns.dims[0], tiles = (episodes + LANES - 1) / LANES;

  // as many tiles side by side as leave every thread some work
  int64_t share = replicas * tiles / rgm_cpu_threads(s);
  share = share > BLOCK ? BLOCK : share < 1 ? 1 : share;
  share = share > tiles ? tiles : share;
  loop_job job = {rollout, (tiles + share - 1) / share, (int)share};
  rgm_cpu_parallel(s, replicas * job.blocks, loop_block_task, &job);
}


static void loop_sample_task(void *arg, int64_t index) {
  const rgm_cohort *c = arg;
  const int64_t patients = c->patients.dims[1], r = index / patients, p = index % patients;
  if (rgm_u32(c->active, r)[0] == 0) {
    return;
  }
  ENV_(config) config;
  memcpy(&config, (const uint8_t *)c->config.data + r * c->config.stride0, sizeof config);
  const rgm_rng rng = {.key = rgm_stream_key(rgm_u32(c->seeds, r), c->random),
                       .step = rgm_u32(c->clock, r)[0],
                       .item = (uint32_t)(c->first + p)};
  ENV_(sample)(rgm_f32(c->patients, r) + p * ENV_WORDS, &config, rng);
}


void RGM_CPU(ENV_(sample))(rgm_stream *s, const rgm_cohort *cohort);
void RGM_CPU(ENV_(sample))(rgm_stream *s, const rgm_cohort *cohort) {
  rgm_cohort c = *cohort;
  rgm_cpu_parallel(s, c.patients.dims[0] * c.patients.dims[1], loop_sample_task, &c);
}


// 16 neighbours of a replica: the steps of one are too few to wake a thread for
static void loop_stepping_task(void *arg, int64_t index) {
  const rgm_stepping *o = arg;
  const int64_t episodes = o->state.dims[1], groups = (episodes + LANES - 1) / LANES;
  const int64_t r = index / groups, first = index % groups * LANES;
  if (rgm_u32(o->active, r)[0] == 0) {
    return;
  }
  ENV_(config) config;
  memcpy(&config, (const uint8_t *)o->config.data + r * o->config.stride0, sizeof config);
  for (int64_t e = first; e < first + LANES && e < episodes; e++) {
    step_episode_once(o, &config, r, e);
  }
}


void RGM_CPU(ENV_(step))(rgm_stream *s, const rgm_stepping *stepping);
void RGM_CPU(ENV_(step))(rgm_stream *s, const rgm_stepping *stepping) {
  rgm_stepping o = *stepping;
  RGM_ASSERT(o.state.dims[2] == STEP_WORDS);
  RGM_ASSERT(o.begin || o.act.dims[2] == ENV_ACT);
  RGM_ASSERT(o.signals.data == NULL || o.signals.dims[2] == ENV_SIGNALS);
  RGM_ASSERT(o.patients.data == NULL || o.patients.dims[2] == ENV_WORDS);
  const int64_t groups = (o.state.dims[1] + LANES - 1) / LANES;
  rgm_cpu_parallel(s, o.state.dims[0] * groups, loop_stepping_task, &o);
}
