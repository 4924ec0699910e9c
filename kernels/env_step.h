// SPDX-License-Identifier: Apache-2.0
// One episode of an environment step by step, in the scalar code that both devices compile: what
// the fused loop does between two actions, with all that an episode is kept in its row of
// rgm_stepping.state. A template, included by kernels/env_loop.h and kernels/cuda/env_loop.cuh with
// the macros that they list, and
//   ENV_ENDS              optional: there is ENV_ended, 1 where an episode has terminated
// Its operations, their order and the counters of its random numbers are the fused loop's, so an
// episode has the bits that RGM_CONTROL_OPEN_LOOP gives it with the same actions. The loop observes
// at the beginning of a step; here that is the end of the step before, or of a reset.

#ifndef ENV_ENDS
#define ENV_ENDED(s, c) ((void)(s), (void)(c), 0)
#else
#define ENV_ENDED(s, c) ENV_(ended)(s, c)
#endif

enum { STEP_SUM = 16 }; // steps whose rewards are summed first

// Words of an episode: its patient, the words that change, and these.
enum {
  STEP_STATE = ENV_WORDS,
  STEP_TIME = STEP_STATE + LOOP_STATE_WORDS, // u32: steps taken
  STEP_CLOCK,                                // u32: counter word `step` of its random numbers
  STEP_RETURN,                               // sum of rewards, of whole blocks of 16 steps
  STEP_RECENT,                               // and since
  STEP_WORDS
};

#define STEP_LOAD(name) s->name = words[STEP_STATE + LOOP_STATE_##name];
#define STEP_STORE(name) words[STEP_STATE + LOOP_STATE_##name] = s->name;
#define STEP_START(name) s->name = start[LOOP_STATE_##name];
#define STEP_LOAD_PATIENT(name) p->name = words[LOOP_PATIENT_##name];

// An episode in work: where its words are, and those of them that the functions take.
typedef struct step_episode {
  float *words; // (STEP_WORDS)
  uint32_t item;
  rgm_key noise;
  ENV_(patient) patient;
  ENV_(state) state;
} step_episode;


RGM_FN void step_load(step_episode *e) {
  const float *words = e->words;
  ENV_(patient) *p = &e->patient;
  ENV_(state) *s = &e->state;
  ENV_PATIENT(STEP_LOAD_PATIENT)
  ENV_STATE(STEP_LOAD)
}


RGM_FN void step_store(step_episode *e) {
  float *words = e->words;
  const ENV_(state) *s = &e->state;
  ENV_STATE(STEP_STORE)
}


// what is seen at the time that the episode has come to
RGM_FN void step_see(step_episode *e, const ENV_(config) * c, float *obs) {
  const uint32_t t = rgm_bits(e->words[STEP_TIME]), clock = rgm_bits(e->words[STEP_CLOCK]);
  const int64_t every = ENV_(event_every)(c);
  float noise[1 + 4 * ENV_DRAWS], even, odd;
  const rgm_words pair = rgm_philox(e->noise, clock, e->item, t / 2, 0);
  rgm_normals(pair.w0, pair.w1, &even, &odd);
  noise[0] = t % 2 == 0 ? even : odd;
#if defined(__CUDA_ARCH__)
#pragma unroll
#elif !defined(__CUDACC__)
#pragma GCC unroll 64
#endif
  for (int m = 0; m < ENV_DRAWS; m++) {
    const rgm_words w = rgm_philox(e->noise, clock, e->item, t, (uint32_t)m + 1);
    rgm_normals(w.w0, w.w1, &noise[1 + 4 * m], &noise[2 + 4 * m]);
    rgm_normals(w.w2, w.w3, &noise[3 + 4 * m], &noise[4 + 4 * m]);
  }
  if ((int64_t)t % every == 0) {
    ENV_(event)(&e->state, e->words, c, (int64_t)t / every);
  }
  ENV_(derive)(&e->state, &e->patient);
  ENV_(observe)(&e->state, &e->patient, c, (int64_t)t, noise, obs);
}


// a new episode, with the patient of `given` or (NULL) one that is drawn, up to its first
// observation
RGM_FN void step_begin(step_episode *e, const rgm_stepping *o, const ENV_(config) * c, int64_t r,
                       uint32_t clock, const float *given, float *obs) {
  const float *words = e->words;
  float start[LOOP_STATE_WORDS] = {0};
  if (given != NULL) {
    for (int k = 0; k < ENV_WORDS; k++) {
      e->words[k] = given[k];
    }
  } else {
    rgm_rng rng;
    rng.key = rgm_stream_key(rgm_u32(o->seeds, r), o->patient);
    rng.step = clock;
    rng.item = e->item;
    rng.draw = 0;
    ENV_(sample)(e->words, c, rng);
  }
  ENV_(reset)(start, words);
  ENV_(patient) *p = &e->patient;
  ENV_(state) *s = &e->state;
  ENV_PATIENT(STEP_LOAD_PATIENT)
  ENV_STATE(STEP_START)
  e->words[STEP_TIME] = rgm_from_bits(0);
  e->words[STEP_CLOCK] = rgm_from_bits(clock);
  e->words[STEP_RETURN] = e->words[STEP_RECENT] = 0.0f;
  step_see(e, c, obs);
}


RGM_FN void step_write(rgm_tensor out, int64_t r, int64_t episode, int words, const float *from) {
  if (out.data == NULL) {
    return;
  }
  float *to = rgm_f32(out, r) + episode * words;
  for (int k = 0; k < words; k++) {
    to[k] = from[k];
  }
}


// whether an episode has ended: bit 0 terminated, bit 1 truncated
RGM_FN unsigned step_ended(const step_episode *e, const rgm_stepping *o, const ENV_(config) * c) {
  const unsigned ended = ENV_ENDED(&e->state, c) ? 1u : 0u;
  const unsigned late = (int64_t)rgm_bits(e->words[STEP_TIME]) >= o->steps ? 2u : 0u;
  return ended != 0 ? ended : late;
}


// takes the action of an episode: all outputs but `obs`; obs gets what is seen after it
RGM_FN unsigned step_act(step_episode *e, const rgm_stepping *o, const ENV_(config) * c, int64_t r,
                         int64_t episode, float *obs) {
  float act[ENV_ACT], signals[ENV_SIGNALS];
  for (int k = 0; k < ENV_ACT; k++) {
    act[k] = rgm_f32(o->act, r)[episode * ENV_ACT + k];
  }
  const unsigned before = step_ended(e, o, c);
  const float reward = ENV_(step)(&e->state, &e->patient, c, act, signals);
  const uint32_t taken = rgm_bits(e->words[STEP_TIME]) + 1;
  e->words[STEP_TIME] = rgm_from_bits(taken);
  e->words[STEP_RECENT] += reward;
  if (taken % STEP_SUM == 0) {
    e->words[STEP_RETURN] += e->words[STEP_RECENT];
    e->words[STEP_RECENT] = 0.0f;
  }
  const unsigned ended = step_ended(e, o, c);
  const float terminated = ended == 1 ? 1.0f : 0.0f, truncated = ended == 2 ? 1.0f : 0.0f;
  const float finished = ended != 0 && before == 0 ? e->words[STEP_RETURN] + e->words[STEP_RECENT]
                                                   : rgm_from_bits(0x7fc00000u);
  step_see(e, c, obs);
  step_write(o->reward, r, episode, 1, &reward);
  step_write(o->terminated, r, episode, 1, &terminated);
  step_write(o->truncated, r, episode, 1, &truncated);
  step_write(o->finished, r, episode, 1, &finished);
  step_write(o->signals, r, episode, ENV_SIGNALS, signals);
  step_write(o->next, r, episode, ENV_OBS, obs);
  return ended;
}


// One step, or (o->begin) the beginning, of episode `episode` of replica r.
RGM_FN void step_episode_once(const rgm_stepping *o, const ENV_(config) * c, int64_t r,
                              int64_t episode) {
  const uint32_t clock = rgm_u32(o->clock, r)[0];
  step_episode e;
  float obs[ENV_OBS];
  e.words = rgm_f32(o->state, r) + episode * STEP_WORDS;
  e.item = (uint32_t)(o->first + episode);
  e.noise = rgm_stream_key(rgm_u32(o->seeds, r), o->noise);
  if (o->begin) {
    const float *given =
        o->patients.data != NULL ? rgm_f32(o->patients, r) + episode * ENV_WORDS : NULL;
    step_begin(&e, o, c, r, clock, given, obs);
  } else {
    step_load(&e);
    if (step_act(&e, o, c, r, episode, obs) != 0 && !o->hold) {
      // its first step will be at the next clock
      step_begin(&e, o, c, r, clock + 1, NULL, obs);
    }
  }
  step_store(&e);
  step_write(o->obs, r, episode, ENV_OBS, obs);
}
