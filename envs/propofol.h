// SPDX-License-Identifier: Apache-2.0
// Propofol titration: a patient is a Schnider PK model with effect site and a Hill curve from
// effect site concentration to level of unconsciousness (LoU, 0 awake ... 1); the agent sees a
// noisy LoU every 5 s and sets the infusion rate. Schamberg et al. 2020 (AIME), sections 2.1-2.3.
// LoU = Ce^g / (C50^g + Ce^g). Each sum of modes is exact for a rate held over the step. Reward
// -|target - LoU|, true LoU.

#ifndef RGM_PROPOFOL_H
#define RGM_PROPOFOL_H

#include "envs/pkpd.h"
#include "kernels/rng.h"

#define PROPOFOL_STEP_MIN (5.0 / 60.0) // min
#define PROPOFOL_GAP \
  3e-4 // least relative distance of ke0 from another rate: float modes cancel there
enum { PROPOFOL_LAG = 6, PROPOFOL_MAX_TARGETS = 16 };

enum { PROPOFOL_MALE, PROPOFOL_FEMALE, PROPOFOL_RANDOM };
enum { PROPOFOL_SCHNIDER, PROPOFOL_ELEVELD };

// What all patients of a replica share; filled by propofol_prepare (envs/propofol.c).
typedef struct propofol_config {
  double age[2], height[2], weight[2];        // years, cm, kg: uniform ranges
  double ke0[2], c50[2], gamma[2], target[2]; // 1/min, mg/L, 1, LoU: uniform ranges
  double max_rate;                            // mg/min at action 1
  float fall1, fall2, fall3, fall4;     // the agent's own, generic PK model: fall of a mode over
  float gain1, gain2, gain3, gain4;     // a step, and what action 1 adds to it, mg/L
  float ahead1, ahead2, ahead3, ahead4; // Ce 30 s ahead without drug, minus Ce now
  float noise_sd;                       // LoU
  int32_t sex, targets, phase_steps;
  // what only Eleveld's patients have (envs/eleveld.h)
  int32_t model, opiates, venous, delay, eta_sd;
  double variability; // of the etas' standard deviations
} propofol_config;

// Words of a patient that the loop reads.
// clang-format off
#define PROPOFOL_PATIENT(X)                                                                        \
  X(fall1) X(fall2) X(fall3) X(fall4) /* change of a mode of Ce over a step, expm1(-lambda dt) */  \
  X(gain1) X(gain2) X(gain3) X(gain4) /* what action 1 adds to it, mg/L */                         \
  X(gamma) X(shift)                   /* Hill: LoU = sigmoid(gamma ln Ce - shift) */
// clang-format on

// Words that it does not: covariates and the targets of the phases.
enum {
  PROPOFOL_AGE = 10, // years
  PROPOFOL_HEIGHT,   // cm
  PROPOFOL_WEIGHT,   // kg
  PROPOFOL_SEX,      // 1 male, 0 female
  PROPOFOL_KE0,      // 1/min
  PROPOFOL_C50,      // mg/L
  PROPOFOL_TARGETS,  // LoU, one a phase
  PROPOFOL_WORDS = PROPOFOL_TARGETS + PROPOFOL_MAX_TARGETS
};

// Words that change. y1 ... y6 are the measurements of the last six steps.
// clang-format off
#define PROPOFOL_STATE(X)                                                                          \
  X(z1) X(z2) X(z3) X(z4)             /* modes of Ce, mg/L */                                      \
  X(x1) X(x2) X(x3) X(x4)             /* modes of the agent's model, mg/L */                       \
  X(y1) X(y2) X(y3) X(y4) X(y5) X(y6) /* LoU */                                                    \
  X(lou) X(ce) X(target)
// clang-format on

enum { PROPOFOL_OBS = 4, PROPOFOL_ACT = 1 };

// What evaluation records of every step.
enum {
  PROPOFOL_SIGNAL_LOU,    // true LoU
  PROPOFOL_SIGNAL_TARGET, // LoU
  PROPOFOL_SIGNAL_CE,     // mg/L
  PROPOFOL_SIGNAL_RATE,   // mg/min
  PROPOFOL_SIGNALS
};

#define PROPOFOL_WORD(name) float name;
typedef struct propofol_patient {
  PROPOFOL_PATIENT(PROPOFOL_WORD)
} propofol_patient;
typedef struct propofol_state {
  PROPOFOL_STATE(PROPOFOL_WORD)
} propofol_state;
#undef PROPOFOL_WORD


// The words of a patient with these covariates; words[PROPOFOL_TARGETS...] are left alone.
RGM_FN void propofol_describe(float *words, const propofol_config *c, double age, double height,
                              double weight, int male, double ke0, double c50, double gamma) {
  const pk_model model = pk_schnider(age, weight, height, male, ke0);
  const pk_modes modes = pk_decompose_apart(&model, PROPOFOL_GAP);
  for (int i = 0; i < PK_MODES; i++) {
    const double gain = pk_gain(modes.lambda[i], PROPOFOL_STEP_MIN);
    words[i] = (float)pk_fall(modes.lambda[i], PROPOFOL_STEP_MIN);
    words[PK_MODES + i] = (float)(modes.weight[PK_CE][i] * gain * c->max_rate);
  }
  words[8] = (float)gamma;
  words[9] = (float)(gamma * rgm_log64(c50));
  words[PROPOFOL_AGE] = (float)age;
  words[PROPOFOL_HEIGHT] = (float)height;
  words[PROPOFOL_WEIGHT] = (float)weight;
  words[PROPOFOL_SEX] = (float)male;
  words[PROPOFOL_KE0] = (float)ke0;
  words[PROPOFOL_C50] = (float)c50;
}


// Draws a patient and the targets of its episode: draws 0-6 are covariates, 7 the sex, then
// targets.
RGM_FN void propofol_sample(float *words, const propofol_config *c, rgm_rng rng) {
  const double age = rgm_rng_range(&rng, c->age[0], c->age[1]);
  const double height = rgm_rng_range(&rng, c->height[0], c->height[1]);
  const double weight = rgm_rng_range(&rng, c->weight[0], c->weight[1]);
  const double ke0 = rgm_rng_range(&rng, c->ke0[0], c->ke0[1]);
  const double c50 = rgm_rng_range(&rng, c->c50[0], c->c50[1]);
  const double gamma = rgm_rng_range(&rng, c->gamma[0], c->gamma[1]);
  rng.draw = 7;
  const int coin = rgm_rng_range(&rng, 0.0, 1.0) < 0.5;
  const int male = c->sex == PROPOFOL_RANDOM ? coin : c->sex == PROPOFOL_MALE;
  propofol_describe(words, c, age, height, weight, male, ke0, c50, gamma);
  for (int k = 0; k < PROPOFOL_MAX_TARGETS; k++) {
    words[PROPOFOL_TARGETS + k] = (float)rgm_rng_range(&rng, c->target[0], c->target[1]);
  }
}


// Drug-free start. The state is zeroed before.
RGM_FN void propofol_reset(float *state, const float *words) {
  (void)state;
  (void)words;
}


// Things that happen at times shared by all lanes: every `phase_steps` the target changes.
RGM_FN int64_t propofol_event_every(const propofol_config *c) {
  return c->phase_steps;
}
RGM_FN void propofol_event(propofol_state *s, const float *words, const propofol_config *c,
                           int64_t event) {
  s->target = words[PROPOFOL_TARGETS + (event < c->targets ? event : c->targets - 1)];
}


// What the agent sees of a measurement (which is clipped) at step t: error to the target; change of
// effect site concentration over the next 30 s without drug, by the generic model [mg/L]; change of
// the measurement over the last 30 s; target.
RGM_FN void propofol_see(propofol_state *s, const propofol_config *c, int64_t t, float measured,
                         float *obs) {
  const float y = rgm_clamp(measured, 0.0f, 1.0f);
  const int start = t == 0;
  const float lagged = start ? y : s->y6;
  s->y6 = start ? y : s->y5;
  s->y5 = start ? y : s->y4;
  s->y4 = start ? y : s->y3;
  s->y3 = start ? y : s->y2;
  s->y2 = start ? y : s->y1;
  s->y1 = y;
  float ahead = c->ahead1 * s->x1;
  ahead = rgm_fma(c->ahead2, s->x2, ahead);
  ahead = rgm_fma(c->ahead3, s->x3, ahead);
  obs[0] = s->target - y;
  obs[1] = rgm_fma(c->ahead4, s->x4, ahead);
  obs[2] = y - lagged;
  obs[3] = s->target;
}


// Concentration and level now.
RGM_FN void propofol_derive(propofol_state *s, const propofol_patient *p) {
  s->ce = rgm_max((s->z1 + s->z2) + (s->z3 + s->z4), 0.0f);
  const float effect = rgm_fma(p->gamma, rgm_log_normal(rgm_max(s->ce, 0x1p-126f)), -p->shift);
  s->lou = s->ce > 0.0f ? rgm_sigmoid(effect) : 0.0f;
}


// What the agent sees at step t; noise[0] is the step's standard normal.
RGM_FN void propofol_observe(propofol_state *s, const propofol_patient *p, const propofol_config *c,
                             int64_t t, const float *noise, float *obs) {
  (void)p;
  propofol_see(s, c, t, rgm_fma(c->noise_sd, noise[0], s->lou), obs);
}


// Holds the action (share of the largest rate, clipped to [0, 1]) for one step; returns the reward
// of the state that it was taken in.
RGM_FN float propofol_step(propofol_state *s, const propofol_patient *p, const propofol_config *c,
                           const float *act, float *signals) {
  const float a = rgm_clamp(act[0], 0.0f, 1.0f);
  signals[PROPOFOL_SIGNAL_LOU] = s->lou;
  signals[PROPOFOL_SIGNAL_TARGET] = s->target;
  signals[PROPOFOL_SIGNAL_CE] = s->ce;
  signals[PROPOFOL_SIGNAL_RATE] = a * (float)c->max_rate;
  s->z1 = rgm_fma(p->gain1, a, rgm_fma(p->fall1, s->z1, s->z1));
  s->z2 = rgm_fma(p->gain2, a, rgm_fma(p->fall2, s->z2, s->z2));
  s->z3 = rgm_fma(p->gain3, a, rgm_fma(p->fall3, s->z3, s->z3));
  s->z4 = rgm_fma(p->gain4, a, rgm_fma(p->fall4, s->z4, s->z4));
  s->x1 = rgm_fma(c->gain1, a, rgm_fma(c->fall1, s->x1, s->x1));
  s->x2 = rgm_fma(c->gain2, a, rgm_fma(c->fall2, s->x2, s->x2));
  s->x3 = rgm_fma(c->gain3, a, rgm_fma(c->fall3, s->x3, s->x3));
  s->x4 = rgm_fma(c->gain4, a, rgm_fma(c->fall4, s->x4, s->x4));
  return -rgm_abs(s->target - s->lou);
}

#endif
