// SPDX-License-Identifier: Apache-2.0
// A pole on a cart, to be kept upright by pushing the cart left or right: Barto, Sutton & Anderson
// 1983 (IEEE Trans SMC 13:834) as Gymnasium defines CartPole-v1 (Towers et al. 2024,
// arXiv:2407.17032; gymnasium.farama.org/environments/classic_control/cart_pole). With M the mass
// of cart and pole, m the pole's, l half its length, F the force of an action,
//   w      = (F + m l rate^2 sin(angle)) / M
//   rate'  = (g sin(angle) - w cos(angle)) / (l (4/3 - m cos(angle)^2 / M))
//   speed' = w - m l rate' cos(angle) / M
// by explicit Euler. Reward 1 for every step until the cart is further than limit_x from the middle
// or the pole further than limit_angle from upright, the step that does it included: terminated.
// 500 steps: truncated. What has ended stays where it is, without reward.

#ifndef RGM_CARTPOLE_H
#define RGM_CARTPOLE_H

#include "kernels/rng.h"

// What all episodes of a replica share; filled by cartpole_prepare (envs/cartpole.c).
typedef struct cartpole_config {
  double start;               // m, m/s, rad, rad/s: starts are uniform, so much either way
  float g, force, dt;         // m/s^2, N, s
  float arm, pole;            // m l / M [m], m / M [1]
  float total, length;        // M [kg], l [m]
  float limit_x, limit_angle; // m, rad
  float pad;
} cartpole_config;

// Words of a patient: how the episode starts. Words that change.
// clang-format off
#define CARTPOLE_PATIENT(X) X(x0) X(speed0) X(angle0) X(rate0) /* m, m/s, rad, rad/s */
#define CARTPOLE_STATE(X)                                                                          \
  X(x) X(speed) X(angle) X(rate) /* m, m/s, rad, rad/s */                                          \
  X(over)                        /* 1: it has ended */                                             \
  X(habit) X(tremor)             /* of the clinician: normals of the episode, of the step */
// clang-format on

enum { CARTPOLE_X, CARTPOLE_SPEED, CARTPOLE_ANGLE, CARTPOLE_RATE, CARTPOLE_OBS };
enum { CARTPOLE_WORDS = CARTPOLE_OBS, CARTPOLE_ACT = 1, CARTPOLE_CHOICES = 2 };

// Parameters of the clinician: who writes data sets.
enum {
  CLINICIAN_X,     // 1/m
  CLINICIAN_SPEED, // s/m
  CLINICIAN_ANGLE, // 1/rad
  CLINICIAN_RATE,  // s/rad
  CLINICIAN_LOW,   // shares of random pushes: an episode's is uniform between them
  CLINICIAN_HIGH,
  CLINICIAN_PARAMS
};

// What evaluation records of every step.
enum {
  CARTPOLE_SIGNAL_X,     // m, at its start
  CARTPOLE_SIGNAL_ANGLE, // rad, at its start
  CARTPOLE_SIGNAL_FORCE, // N
  CARTPOLE_SIGNAL_REWARD,
  CARTPOLE_SIGNALS
};

#define CARTPOLE_WORD(name) float name;
typedef struct cartpole_patient {
  CARTPOLE_PATIENT(CARTPOLE_WORD)
} cartpole_patient;
typedef struct cartpole_state {
  CARTPOLE_STATE(CARTPOLE_WORD)
} cartpole_state;
#undef CARTPOLE_WORD


// The start: draws 0 to 3.
RGM_FN void cartpole_sample(float *words, const cartpole_config *c, rgm_rng rng) {
  for (int k = 0; k < CARTPOLE_WORDS; k++) {
    words[k] = (float)rgm_rng_range(&rng, -c->start, c->start);
  }
}


RGM_FN void cartpole_reset(float *state, const float *words) {
  for (int k = 0; k < CARTPOLE_WORDS; k++) {
    state[k] = words[k];
  }
}


// The last observation is another one in every step (kernels/env_loop.h asks), and that is all that
// happens at times which all episodes share. The state implies nothing.
RGM_FN int64_t cartpole_event_every(const cartpole_config *c) {
  (void)c;
  return 1;
}
RGM_FN void cartpole_event(cartpole_state *s, const float *words, const cartpole_config *c,
                           int64_t event) {
  (void)s;
  (void)words;
  (void)c;
  (void)event;
}
RGM_INLINE void cartpole_derive(cartpole_state *s, const cartpole_patient *p) {
  (void)s;
  (void)p;
}


// What the agent sees: where the cart is, its speed, the pole's angle, its rate. noise: of the
// clinician.
RGM_INLINE void cartpole_observe(cartpole_state *s, const cartpole_patient *p,
                                 const cartpole_config *c, int64_t t, const float *noise,
                                 float *obs) {
  (void)p;
  (void)c;
  s->habit = t == 0 ? noise[0] : s->habit;
  s->tremor = noise[0];
  obs[CARTPOLE_X] = s->x;
  obs[CARTPOLE_SPEED] = s->speed;
  obs[CARTPOLE_ANGLE] = s->angle;
  obs[CARTPOLE_RATE] = s->rate;
}


// The share of normals above x >= 0: Abramowitz & Stegun 1964, 26.2.17, to 7.5e-8.
RGM_INLINE float cartpole_tail(float x) {
  const float t = 1.0f / rgm_fma(0.2316419f, x, 1.0f);
  float sum = rgm_fma(1.330274429f, t, -1.821255978f);
  sum = rgm_fma(sum, t, 1.781477937f);
  sum = rgm_fma(sum, t, -0.356563782f);
  sum = rgm_fma(sum, t, 0.319381530f);
  return 0.39894228f * rgm_exp(-0.5f * x * x) * sum * t;
}


// The clinician pushes towards where a linear rule of what is seen says, and at random, either way
// alike, in a share of the steps that is the episode's own. Step 0 has the normal that gives the
// share, too.
RGM_INLINE void cartpole_clinician(cartpole_state *s, const cartpole_patient *p,
                                   const cartpole_config *c, const float *params, int64_t t,
                                   float *act) {
  (void)p;
  (void)c;
  (void)t;
  const float above = cartpole_tail(rgm_abs(s->habit));
  const float rank = s->habit < 0.0f ? above : 1.0f - above;
  const float share =
      rgm_fma(params[CLINICIAN_HIGH] - params[CLINICIAN_LOW], rank, params[CLINICIAN_LOW]);
  float lean = params[CLINICIAN_X] * s->x;
  lean = rgm_fma(params[CLINICIAN_SPEED], s->speed, lean);
  lean = rgm_fma(params[CLINICIAN_ANGLE], s->angle, lean);
  lean = rgm_fma(params[CLINICIAN_RATE], s->rate, lean);
  const float way = 2.0f * cartpole_tail(rgm_abs(s->tremor)) < share ? s->tremor : lean;
  act[0] = way > 0.0f ? 1.0f : 0.0f;
}


// A step with a push to the left (act[0] = 0) or to the right (1); returns the reward.
RGM_INLINE float cartpole_step(cartpole_state *s, const cartpole_patient *p,
                               const cartpole_config *c, const float *act, float *signals) {
  const float force = act[0] > 0.5f ? c->force : -c->force, live = 1.0f - s->over;
  float sine, cosine;
  (void)p;
  rgm_sincos2pi(rgm_abs(s->angle) * 0x1.45f306p-3f, &sine, &cosine);
  sine = s->angle < 0.0f ? -sine : sine;
  const float w = rgm_fma(c->arm * s->rate * s->rate, sine, force / c->total);
  const float turn = rgm_fma(c->g, sine, -(w * cosine)) /
                     (c->length * rgm_fma(-c->pole * cosine, cosine, 4.0f / 3.0f));
  const float pull = rgm_fma(-c->arm * turn, cosine, w);
  signals[CARTPOLE_SIGNAL_X] = s->x;
  signals[CARTPOLE_SIGNAL_ANGLE] = s->angle;
  signals[CARTPOLE_SIGNAL_FORCE] = live * force;
  signals[CARTPOLE_SIGNAL_REWARD] = live;
  const float step = live * c->dt;
  s->x = rgm_fma(step, s->speed, s->x);
  s->angle = rgm_fma(step, s->rate, s->angle);
  s->speed = rgm_fma(step, pull, s->speed);
  s->rate = rgm_fma(step, turn, s->rate);
  const int out = (rgm_abs(s->x) > c->limit_x) | (rgm_abs(s->angle) > c->limit_angle);
  s->over = out ? 1.0f : s->over;
  return live;
}


// The cart or the pole has left its bounds.
RGM_FN int cartpole_ended(const cartpole_state *s, const cartpole_config *c) {
  (void)c;
  return s->over > 0.0f;
}

#endif
