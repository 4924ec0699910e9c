// SPDX-License-Identifier: Apache-2.0
// Patients of Eleveld et al. 2018 (Br J Anaesth 120:942): population PK/PD of propofol in double,
// and the loop's patient with two Hill exponents and the BIS monitor's delay.
//
// BIS = E0 (1 - effect), effect = Ce^g / (E50^g + Ce^g) with g = gamma_low up to E50 and gamma_high
// above; the level of unconsciousness is the effect, LoU = 1 - BIS / E0. Covariate model: tables 2
// and 3 there; the constants carry the digits of the authors' parameter file (the paper prints
// three). Between patients, parameter = typical exp(eta) with eta normal.
//
// The agent, its observations, actions and reward are those of propofol.h.

#ifndef RGM_ELEVELD_H
#define RGM_ELEVELD_H

#include "envs/propofol.h"

#define ELEVELD_E0 92.9824 // BIS without drug

typedef struct eleveld_body {
  double age, pma;           // years; weeks since the last period, eleveld_pma where unknown
  double weight, height;     // kg, cm
  int male, opiates, venous; // opiates given besides; concentrations sampled from a vein
} eleveld_body;

typedef struct eleveld_person {
  double v1, v2, v3;            // L
  double cl, q2, q3;            // L/min
  double ke0;                   // 1/min
  double e50;                   // mg/L
  double gamma_low, gamma_high; // Hill exponent up to and above E50
  double delay;                 // s, from effect to monitor
} eleveld_person;

enum {
  ELEVELD_ETA_V1,
  ELEVELD_ETA_V2,
  ELEVELD_ETA_V3,
  ELEVELD_ETA_CL,
  ELEVELD_ETA_Q2,
  ELEVELD_ETA_Q3,
  ELEVELD_ETA_KE0,
  ELEVELD_ETA_E50,
  ELEVELD_ETAS
};


// ---- the population model ----------------------------------------------------------------------

RGM_FN double eleveld_pow(double x, double y) {
  return rgm_exp64(y * rgm_log64(x));
}


// Postmenstrual age in weeks of somebody born at term.
RGM_FN double eleveld_pma(double age) {
  return 52.0 * age + 40.0;
}


// Fat-free mass, kg: Al-Sallami et al. 2015 (Clin Pharmacokinet 54:1169).
RGM_FN double eleveld_fat_free(double age, double weight, double height, int male) {
  const double bmi = weight / (height * height * 1e-4);
  const double man = 0.88 + (1.0 - 0.88) / (1.0 + eleveld_pow(age / 13.4, -12.7));
  const double woman = 1.11 + (1.0 - 1.11) / (1.0 + eleveld_pow(age / 7.1, -1.1));
  return male ? man * 9270.0 * weight / (6680.0 + 216.0 * bmi)
              : woman * 9270.0 * weight / (8780.0 + 244.0 * bmi);
}


// Standard deviation of eta `k`. The paper's figures are read as variances, as other programs do,
// or as standard deviations: the estimates of its own adults spread by 0.2 to 0.6 of the first and
// 0.5 to 1.1 of the second (tests/test_cohorts.c).
RGM_FN double eleveld_sd(int k, int are_sd) {
  const double printed[ELEVELD_ETAS] = {0.610, 0.565, 0.597, 0.265, 0.346, 0.209, 0.702, 0.242};
  return are_sd ? printed[k] : rgm_sqrt64(printed[k]);
}


// Delay of the BIS monitor, s.
RGM_FN double eleveld_delay(double age) {
  return 15.0 + rgm_exp64(0.0517399 * age);
}


// The parameters of a body with these etas (ELEVELD_ETAS of them, 0 for the typical person). Q2 and
// Q3 follow the person's own V2 and V3, etas included, as in the paper.
RGM_FN eleveld_person eleveld_of(const eleveld_body *b, const double *eta) {
  eleveld_person p;
  const double lean = eleveld_fat_free(b->age, b->weight, b->height, b->male) /
                      eleveld_fat_free(35.0, 70.0, 170.0, 1);
  const double size = b->weight / 70.0, years = b->age - 35.0;
  const double central = b->weight / (b->weight + 33.5531248778544);
  const double central_ref = 70.0 / (70.0 + 33.5531248778544);

  // maturation, of no weight in adults
  const double grown = eleveld_pow(b->pma / 42.2760190602615, 9.0548452392807);
  const double grown_ref = eleveld_pow(eleveld_pma(35.0) / 42.2760190602615, 9.0548452392807);
  const double clearance = grown / (1.0 + grown) * ((1.0 + grown_ref) / grown_ref);
  const double slow = eleveld_pma(b->age) / (eleveld_pma(b->age) + 68.2767978846832);
  const double slow_ref = eleveld_pma(35.0) / (eleveld_pma(35.0) + 68.2767978846832);

  // opiates
  const double fewer = b->opiates ? rgm_exp64(-0.0138166 * b->age) : 1.0;
  const double slower = b->opiates ? rgm_exp64(-0.00285709 * b->age) : 1.0;

  p.v1 = 6.2830780766822 * central / central_ref * rgm_exp64(eta[ELEVELD_ETA_V1]);
  p.v2 = 25.5013145036879 * size * rgm_exp64(-0.015633 * years + eta[ELEVELD_ETA_V2]);
  p.v3 = 272.8166615043603 * lean * fewer * rgm_exp64(eta[ELEVELD_ETA_V3]);
  p.cl = (b->male ? 1.7895836588902 : 2.1002218877899) * eleveld_pow(size, 0.75) * clearance *
         slower * rgm_exp64(eta[ELEVELD_ETA_CL]);
  p.q2 = 1.7500983738779 * eleveld_pow(p.v2 / 25.5013145036879, 0.75) *
         (1.0 + 1.304268047136 * (1.0 - slow)) * rgm_exp64(eta[ELEVELD_ETA_Q2]);
  p.q3 = 1.1085424008536 * eleveld_pow(p.v3 / 272.8166615043603, 0.75) * (slow / slow_ref) *
         rgm_exp64(eta[ELEVELD_ETA_Q3]);
  if (b->venous) {
    p.v1 = p.v1 * (1.0 + 1.4189043652084 * (1.0 - central));
    p.q2 = p.q2 * 0.6805003109141;
  }
  p.ke0 = rgm_exp64((b->venous ? 0.215605 : -1.92162) + eta[ELEVELD_ETA_KE0]) *
          eleveld_pow(size, -0.25);
  p.e50 = rgm_exp64(1.12475 - 0.00634837 * years + eta[ELEVELD_ETA_E50]);
  p.gamma_low = rgm_exp64(0.6386410);
  p.gamma_high = rgm_exp64(0.3877210);
  p.delay = eleveld_delay(b->age);
  return p;
}


RGM_FN pk_model eleveld_model(const eleveld_person *p) {
  pk_model m;
  m.v1 = p->v1;
  m.v2 = p->v2;
  m.v3 = p->v3;
  m.cl1 = p->cl;
  m.cl2 = p->q2;
  m.cl3 = p->q3;
  m.k10 = p->cl / p->v1;
  m.k12 = p->q2 / p->v1;
  m.k13 = p->q3 / p->v1;
  m.k21 = p->q2 / p->v2;
  m.k31 = p->q3 / p->v3;
  m.ke0 = p->ke0;
  return m;
}


// Share of the largest effect at a concentration of ce mg/L.
RGM_FN double eleveld_effect(const eleveld_person *p, double ce) {
  const double gamma = ce > p->e50 ? p->gamma_high : p->gamma_low;
  return ce > 0.0 ? rgm_sigmoid64(gamma * rgm_log64(ce / p->e50)) : 0.0;
}


// ---- the loop's patient ------------------------------------------------------------------------

typedef propofol_config eleveld_config;

// Words of a patient that the loop reads.
// clang-format off
#define ELEVELD_PATIENT(X)                                                                         \
  X(fall1) X(fall2) X(fall3) X(fall4) /* as in propofol.h */                                       \
  X(gain1) X(gain2) X(gain3) X(gain4)                                                              \
  X(low) X(high) X(log_e50)           /* Hill exponents, ln of E50 in mg/L */                      \
  X(delay)                            /* of the monitor, steps; 0 for none */
// clang-format on

// Words that it does not; the targets stand where propofol.h has them.
enum {
  ELEVELD_LOW = 8,
  ELEVELD_HIGH,
  ELEVELD_LOG_E50,
  ELEVELD_DELAY,
  ELEVELD_AGE,    // years
  ELEVELD_HEIGHT, // cm
  ELEVELD_WEIGHT, // kg
  ELEVELD_SEX,    // 1 male, 0 female
};

// The monitor's delay line: word k is what the monitor will have of the past in k steps.
enum { ELEVELD_LINE_STEPS = 40 };
#define ELEVELD_OLDEST 100.0 // years: the line holds 15 s + exp(5.17) s

// clang-format off
#define ELEVELD_LINE(X)                                                                            \
  X(0, d0, d1) X(1, d1, d2) X(2, d2, d3) X(3, d3, d4) X(4, d4, d5) X(5, d5, d6) X(6, d6, d7)       \
  X(7, d7, d8) X(8, d8, d9) X(9, d9, d10) X(10, d10, d11) X(11, d11, d12) X(12, d12, d13)          \
  X(13, d13, d14) X(14, d14, d15) X(15, d15, d16) X(16, d16, d17) X(17, d17, d18)                  \
  X(18, d18, d19) X(19, d19, d20) X(20, d20, d21) X(21, d21, d22) X(22, d22, d23)                  \
  X(23, d23, d24) X(24, d24, d25) X(25, d25, d26) X(26, d26, d27) X(27, d27, d28)                  \
  X(28, d28, d29) X(29, d29, d30) X(30, d30, d31) X(31, d31, d32) X(32, d32, d33)                  \
  X(33, d33, d34) X(34, d34, d35) X(35, d35, d36) X(36, d36, d37) X(37, d37, d38)                  \
  X(38, d38, d39)
#define ELEVELD_STATE(X)                                                                           \
  PROPOFOL_STATE(X)                                                                                \
  X(d0) X(d1) X(d2) X(d3) X(d4) X(d5) X(d6) X(d7) X(d8) X(d9) X(d10) X(d11) X(d12) X(d13) X(d14)   \
  X(d15) X(d16) X(d17) X(d18) X(d19) X(d20) X(d21) X(d22) X(d23) X(d24) X(d25) X(d26) X(d27)       \
  X(d28) X(d29) X(d30) X(d31) X(d32) X(d33) X(d34) X(d35) X(d36) X(d37) X(d38) X(d39)
// clang-format on

#define ELEVELD_WORD(name) float name;
typedef struct eleveld_patient {
  ELEVELD_PATIENT(ELEVELD_WORD)
} eleveld_patient;
typedef struct eleveld_state {
  ELEVELD_STATE(ELEVELD_WORD)
} eleveld_state;
#undef ELEVELD_WORD

// the part of the state that is propofol.h's, field by field
#define ELEVELD_TAKE(name) common.name = s->name;
#define ELEVELD_GIVE(name) s->name = common.name;


// The words of a patient; words[PROPOFOL_TARGETS...] are left alone.
RGM_FN void eleveld_describe(float *words, const eleveld_config *c, const eleveld_body *b,
                             const eleveld_person *p) {
  const pk_model model = eleveld_model(p);
  const pk_modes modes = pk_decompose_apart(&model, PROPOFOL_GAP);
  for (int i = 0; i < PK_MODES; i++) {
    const double gain = pk_gain(modes.lambda[i], PROPOFOL_STEP_MIN);
    words[i] = (float)pk_fall(modes.lambda[i], PROPOFOL_STEP_MIN);
    words[PK_MODES + i] = (float)(modes.weight[PK_CE][i] * gain * c->max_rate);
  }
  words[ELEVELD_LOW] = (float)p->gamma_low;
  words[ELEVELD_HIGH] = (float)p->gamma_high;
  words[ELEVELD_LOG_E50] = (float)rgm_log64(p->e50);
  words[ELEVELD_DELAY] = c->delay ? (float)(p->delay / (60.0 * PROPOFOL_STEP_MIN)) : 0.0f;
  words[ELEVELD_AGE] = (float)b->age;
  words[ELEVELD_HEIGHT] = (float)b->height;
  words[ELEVELD_WEIGHT] = (float)b->weight;
  words[ELEVELD_SEX] = (float)b->male;
}


// The targets of a patient's episode: draws 8 to 23, as for propofol.h's patients.
RGM_FN void eleveld_targets(float *words, const eleveld_config *c, rgm_rng rng) {
  rng.draw = 8;
  for (int k = 0; k < PROPOFOL_MAX_TARGETS; k++) {
    words[PROPOFOL_TARGETS + k] = (float)rgm_rng_range(&rng, c->target[0], c->target[1]);
  }
}


// A patient with this body: etas from draws 24 and 25 (four normals each), scaled by the config's
// variability.
RGM_FN void eleveld_draw(float *words, const eleveld_config *c, const eleveld_body *b,
                         rgm_rng rng) {
  double eta[ELEVELD_ETAS];
  for (int k = 0; k < ELEVELD_ETAS; k += 4) {
    const rgm_words w = rgm_philox(rng.key, rng.step, rng.item, 24u + (uint32_t)k / 4u, 0);
    float n[4];
    rgm_normals(w.w0, w.w1, &n[0], &n[1]);
    rgm_normals(w.w2, w.w3, &n[2], &n[3]);
    for (int i = 0; i < 4; i++) {
      eta[k + i] = c->variability * eleveld_sd(k + i, c->eta_sd) * (double)n[i];
    }
  }
  const eleveld_person p = eleveld_of(b, eta);
  eleveld_describe(words, c, b, &p);
  eleveld_targets(words, c, rng);
}


// Draws a patient: draws 0-2 are age, height and weight, 7 the sex, as in propofol.h.
RGM_FN void eleveld_sample(float *words, const eleveld_config *c, rgm_rng rng) {
  eleveld_body b;
  b.age = rgm_rng_range(&rng, c->age[0], c->age[1]);
  b.height = rgm_rng_range(&rng, c->height[0], c->height[1]);
  b.weight = rgm_rng_range(&rng, c->weight[0], c->weight[1]);
  b.pma = eleveld_pma(b.age);
  rng.draw = 7;
  const int coin = rgm_rng_range(&rng, 0.0, 1.0) < 0.5;
  b.male = c->sex == PROPOFOL_RANDOM ? coin : c->sex == PROPOFOL_MALE;
  b.opiates = c->opiates;
  b.venous = c->venous;
  eleveld_draw(words, c, &b, rng);
}


// Drug-free start. The state is zeroed before.
RGM_FN void eleveld_reset(float *state, const float *words) {
  (void)state;
  (void)words;
}


RGM_FN int64_t eleveld_event_every(const eleveld_config *c) {
  return c->phase_steps;
}
RGM_FN void eleveld_event(eleveld_state *s, const float *words, const eleveld_config *c,
                          int64_t event) {
  s->target = words[PROPOFOL_TARGETS + (event < c->targets ? event : c->targets - 1)];
}


// As in propofol.h, but the Hill exponent changes at E50.
RGM_FN void eleveld_derive(eleveld_state *s, const eleveld_patient *p) {
  s->ce = rgm_max((s->z1 + s->z2) + (s->z3 + s->z4), 0.0f);
  const float x = rgm_log_normal(rgm_max(s->ce, 0x1p-126f)) - p->log_e50;
  const float effect = (x > 0.0f ? p->high : p->low) * x;
  s->lou = s->ce > 0.0f ? rgm_sigmoid(effect) : 0.0f;
}


// As in propofol.h, but the measurement is late: LoU enters the line where it will be due, shared
// between the two steps that its delay lies between.
RGM_FN void eleveld_observe(eleveld_state *s, const eleveld_patient *p, const eleveld_config *c,
                            int64_t t, const float *noise, float *obs) {
#define ELEVELD_SHIFT(k, here, next) \
  s->here = rgm_fma(rgm_max(1.0f - rgm_abs(k##.0f - p->delay), 0.0f), s->lou, s->next);
  ELEVELD_LINE(ELEVELD_SHIFT)
#undef ELEVELD_SHIFT
  s->d39 = rgm_max(1.0f - rgm_abs(39.0f - p->delay), 0.0f) * s->lou;

  propofol_state common;
  PROPOFOL_STATE(ELEVELD_TAKE)
  propofol_see(&common, c, t, rgm_fma(c->noise_sd, noise[0], s->d0), obs);
  PROPOFOL_STATE(ELEVELD_GIVE)
}


RGM_FN float eleveld_step(eleveld_state *s, const eleveld_patient *p, const eleveld_config *c,
                          const float *act, float *signals) {
  propofol_state common;
  const propofol_patient modes = {p->fall1, p->fall2, p->fall3, p->fall4, p->gain1,
                                  p->gain2, p->gain3, p->gain4, 0.0f,     0.0f};
  PROPOFOL_STATE(ELEVELD_TAKE)
  const float reward = propofol_step(&common, &modes, c, act, signals);
  PROPOFOL_STATE(ELEVELD_GIVE)
  return reward;
}

#undef ELEVELD_TAKE
#undef ELEVELD_GIVE
#endif
