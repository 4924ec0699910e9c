// SPDX-License-Identifier: Apache-2.0
// The pendulum to be swung up, as Gymnasium defines Pendulum-v1 (Towers et al. 2024,
// arXiv:2407.17032; gymnasium.farama.org/environments/classic_control/pendulum): a rod of mass m
// and length l, its angle measured from upright, under a torque u in [-2, 2] N m,
//   speed' = speed + (3 g / (2 l) sin(angle) + 3 / (m l^2) u) dt, at most max_speed either way
//   angle' = angle + speed' dt                                    (semi-implicit Euler)
// Reward -(angle^2 + 0.1 speed^2 + 0.001 u^2) of the state that the torque is applied in, angle in
// [-pi, pi]. Nothing terminates it; 200 steps: truncated. The angle is kept in [-pi, pi].

#ifndef RGM_PENDULUM_H
#define RGM_PENDULUM_H

#include "kernels/rng.h"

#define PENDULUM_TORQUE 2.0f              // N m, the most either way: the box of its action
#define PENDULUM_TURN_PART 0x1.45f306p-3f // 1 / (2 pi)
#define PENDULUM_TURN_HIGH 0x1.921fb6p+2f // 2 pi in two parts
#define PENDULUM_TURN_LOW (-0x1.777a5cp-23f)

// What all episodes of a replica share; filled by pendulum_prepare (envs/pendulum.c).
typedef struct pendulum_config {
  double start_angle, start_speed; // rad, rad/s: starts are uniform, so much either way
  float pull, push;                // 3 g / (2 l) [1/s^2], 3 / (m l^2) [1/(kg m^2)]
  float dt, max_speed;             // s, rad/s
} pendulum_config;

// Words of a patient: how the episode starts. Words that change.
// clang-format off
#define PENDULUM_PATIENT(X) X(angle0) X(speed0) /* rad, rad/s */
#define PENDULUM_STATE(X) X(angle) X(speed)     /* rad, rad/s */
// clang-format on

enum { PENDULUM_ANGLE0, PENDULUM_SPEED0, PENDULUM_WORDS };
enum { PENDULUM_COS, PENDULUM_SIN, PENDULUM_SPEED, PENDULUM_OBS };
enum { PENDULUM_ACT = 1 };

// What evaluation records of every step.
enum {
  PENDULUM_SIGNAL_ANGLE,  // rad, at its start
  PENDULUM_SIGNAL_SPEED,  // rad/s, at its start
  PENDULUM_SIGNAL_TORQUE, // N m
  PENDULUM_SIGNAL_REWARD,
  PENDULUM_SIGNALS
};

#define PENDULUM_WORD(name) float name;
typedef struct pendulum_patient {
  PENDULUM_PATIENT(PENDULUM_WORD)
} pendulum_patient;
typedef struct pendulum_state {
  PENDULUM_STATE(PENDULUM_WORD)
} pendulum_state;
#undef PENDULUM_WORD


// The start: draws 0 and 1.
RGM_FN void pendulum_sample(float *words, const pendulum_config *c, rgm_rng rng) {
  words[PENDULUM_ANGLE0] = (float)rgm_rng_range(&rng, -c->start_angle, c->start_angle);
  words[PENDULUM_SPEED0] = (float)rgm_rng_range(&rng, -c->start_speed, c->start_speed);
}


RGM_FN void pendulum_reset(float *state, const float *words) {
  state[0] = words[PENDULUM_ANGLE0];
  state[1] = words[PENDULUM_SPEED0];
}


// The last observation is another one in every step (kernels/env_loop.h asks), and that is all that
// happens at times which all episodes share. The state implies nothing.
RGM_FN int64_t pendulum_event_every(const pendulum_config *c) {
  (void)c;
  return 1;
}
RGM_FN void pendulum_event(pendulum_state *s, const float *words, const pendulum_config *c,
                           int64_t event) {
  (void)s;
  (void)words;
  (void)c;
  (void)event;
}
RGM_INLINE void pendulum_derive(pendulum_state *s, const pendulum_patient *p) {
  (void)s;
  (void)p;
}


// sin and cos of an angle in [-pi, pi]
RGM_INLINE void pendulum_sincos(float angle, float *sine, float *cosine) {
  float s;
  rgm_sincos2pi(rgm_min(rgm_abs(angle) * PENDULUM_TURN_PART, 0.5f), &s, cosine);
  *sine = angle < 0.0f ? -s : s;
}


// the same angle in [-pi, pi]: the nearest number of turns is taken away
RGM_INLINE float pendulum_wrap(float angle) {
  const float turns = rgm_fma(angle, PENDULUM_TURN_PART, 0x1.8p+23f) - 0x1.8p+23f;
  return rgm_fma(-turns, PENDULUM_TURN_LOW, rgm_fma(-turns, PENDULUM_TURN_HIGH, angle));
}


// What the agent sees: cos, sin, speed.
RGM_INLINE void pendulum_observe(pendulum_state *s, const pendulum_patient *p,
                                 const pendulum_config *c, int64_t t, const float *noise,
                                 float *obs) {
  (void)p;
  (void)c;
  (void)t;
  (void)noise;
  pendulum_sincos(s->angle, &obs[PENDULUM_SIN], &obs[PENDULUM_COS]);
  obs[PENDULUM_SPEED] = s->speed;
}


// A step under the torque act[0] [N m], clipped; returns the reward.
RGM_INLINE float pendulum_step(pendulum_state *s, const pendulum_patient *p,
                               const pendulum_config *c, const float *act, float *signals) {
  const float u = rgm_clamp(act[0], -PENDULUM_TORQUE, PENDULUM_TORQUE);
  const float angle = s->angle, speed = s->speed;
  float sine, cosine;
  (void)p;
  pendulum_sincos(angle, &sine, &cosine);
  const float faster = rgm_fma(rgm_fma(c->pull, sine, c->push * u), c->dt, speed);
  const float cost = rgm_fma(0.1f * speed, speed, angle * angle);
  const float reward = -rgm_fma(0.001f * u, u, cost);
  signals[PENDULUM_SIGNAL_ANGLE] = angle;
  signals[PENDULUM_SIGNAL_SPEED] = speed;
  signals[PENDULUM_SIGNAL_TORQUE] = u;
  signals[PENDULUM_SIGNAL_REWARD] = reward;
  s->speed = rgm_clamp(faster, -c->max_speed, c->max_speed);
  s->angle = pendulum_wrap(rgm_fma(s->speed, c->dt, angle));
  return reward;
}

#endif
