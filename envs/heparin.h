// SPDX-License-Identifier: Apache-2.0
// Heparin titration: a patient on intravenous unfractionated heparin (UFH), hour by hour, up to
// 72 h. The agent sees vital signs, labs held with the age of the last aPTT, and sets an infusion
// rate and a bolus. Every number has its source: [published], [derived] from published figures
// (how is said), or [assumed]. They are defaults of keys of env.* (envs/heparin.c), but for the
// effects of covariates.
//
// Kinetics. One compartment (as in Lanoiselee et al. 2024, Pharmaceutics 16:770, linear) with the
// linear and the saturable elimination that de Swart et al. 1982 (Blood 60:1251) propose:
//   dC/dt = u / V - C (kl + vmax / (km + C)),  C in U/mL (anti-Xa), u in U/kg/h
//   V = 50 mL/kg [derived: between plasma volume, 45, and 68 mL/kg of Kandrotas et al. 1989, Ther
//   Drug Monit 11:674]. vmax = 1.22 U/mL/h, km = 0.83 U/mL, kl = 0.09 1/h [derived: least squares
//   in the logarithm on half-lives of 30, 60, 150 min after 25, 100, 400 U/kg (Hirsh et al. 2001,
//   AHA statement on heparin), of 63 min after 70 U/kg in patients with venous thrombosis (Hirsh
//   et al. 1976, sd 15 min), and 0.35 U/mL at 18 U/kg/h; they give 37, 66, 149, 55 min and 0.31
//   U/mL]. Clearance falls with age (direction [published]: levels are higher above 60 years, FDA
//   label; size [assumed]) and its linear part with creatinine (direction [published], size
//   [assumed]). Spread between patients: clearance 30 % [assumed; the half-life's 15 / 63 of
//   Hirsh 1976 is 24 %], V 15 % [assumed].
// Response. ln aPTT is linear in C (Whitfield & Levy 1980, Clin Pharmacol Ther 28:509; Bjornsson &
//   Wolfram 1982, Eur J Clin Pharmacol 21:491 [published]): aPTT = base exp(slope C), at most 400
//   s. base 33 s [derived: between the two samples' 25.6-36.2 and 28.4-59.7 s], slope 1.8 mL/U
//   [derived: 0.3-0.7 U/mL is then 57-116 s, so that 60-100 s lies within; published range
//   1.49-3.88]. Spread: slope 25 %, base 15 % [derived: ranges of 17 and 20 people over 3.6 and 3.7
//   standard deviations], correlation 0.9 (r = 0.905, Bjornsson & Wolfram [published]). Women's
//   slope is 10 % higher (direction [published], Whitfield & Levy; size [assumed]).
// Events. Hazards per hour: major bleeding, + 7 % per 10 s of aPTT (Anand et al. 2003, Circulation
//   107:2884 [published]), 1.7e-4 at 80 s [derived: 2 % in 5 days; "< 3 %", 7th ACCP]; thrombosis,
//   1.54 times where aPTT < 60 s (Anand 2003 [published]; Hull et al. 1997 found more, Anand et al.
//   1999 1.30, not significant), 1.4e-4 else [assumed]; death 4e-4 [assumed]. An event comes when
//   its hazard has added up to the patient's own exponential draw, so no policy changes another's
//   luck. A bleed or a death ends the episode: terminated; 72 h: truncated.
// Severity. A standard normal that nobody observes multiplies all hazards by exp(0.5 severity)
//   [assumed], and shifts how the clinician reads aPTT by `kappa` seconds: unmeasured confounding.
// Laboratory. An aPTT is drawn every six hours [published: Raschke et al. 1993], assayed with an
//   error, and known `lab_turnaround` later: 1 h is what hospitals promise for an urgent aPTT
//   (UCSF Clinical Laboratories and UTMB Health, handbooks: 1 h, routine 4 h; UCHealth: 35 min
//   from receipt) [published], in whole hours. What is seen is the last result that has come, and
//   its age since it was drawn. The sample from before treatment is known at its start.
// Vital signs and other labs are noise around a patient's own means, autoregressive and drawn daily
//   [assumed]; they carry no information but age, sex, weight and creatinine.
// Reward of an hour: tanh((x - 60) / 2) - tanh((x - 100) / 2) - 1 of the true aPTT x at its end.

#ifndef RGM_HEPARIN_H
#define RGM_HEPARIN_H

#include "kernels/rng.h"

#define HEPARIN_SUBSTEP 0.125f // h: eight Runge-Kutta steps an hour
#define HEPARIN_MOST_APTT 400.0f
#define HEPARIN_MOST_RISK 200.0f // s: above it the bleeding hazard stays
enum { HEPARIN_PANEL_EVERY = 24 };

// What all patients of a replica share; filled by heparin_prepare (envs/heparin.c).
typedef struct heparin_config {
  double volume, vmax, km, linear;                         // mL/kg, U/mL/h, U/mL, 1/h
  double base, slope;                                      // s, mL/U
  double sd_clearance, sd_volume, sd_slope, sd_base, corr; // of logarithms; of slope and base
  double severity_hazard, severity_clearance;              // log hazard, log clearance a sd
  float max_rate, max_bolus;                               // U/kg/h, U/kg at action 1
  float lab_every, lab_late, lab_sd, lab_max;              // h, normal quantile, 1, s
  float bleed, bleed_slope, clot, clot_factor, death;      // 1/h, 1/s, 1/h, 1, 1/h
  float bleed_penalty, clot_penalty, death_penalty;
  float low, high;      // s, of the target
  float lab_turnaround; // h, whole, below lab_every
} heparin_config;

// Words of a patient, all of which the loop reads.
// clang-format off
#define HEPARIN_PATIENT(X)                                                                         \
  X(gain)                            /* concentration per dose, U/mL per U/kg */                   \
  X(vmax) X(km) X(linear)            /* U/mL/h, U/mL, 1/h */                                       \
  X(base) X(slope)                   /* s, mL/U */                                                 \
  X(severity) X(risk)                /* hidden; what it multiplies hazards by */                   \
  X(limit_bleed) X(limit_clot) X(limit_death) /* sums of hazard at which they come */              \
  X(age) X(male) X(weight)           /* years, 1 or 0, kg */                                       \
  X(m_gcs) X(m_sbp) X(m_dbp) X(m_rr) X(m_temp) X(m_pco2)   /* means of the vital signs */          \
  X(m_hgb) X(m_wbc) X(m_platelet) X(m_creatinine) X(m_bilirubin) X(m_inr) /* and of the labs */

// Words that change.
#define HEPARIN_STATE(X)                                                                           \
  X(conc) X(aptt)                    /* U/mL; s, true */                                           \
  X(sample) X(drawn)                 /* s, h: the last sample's aPTT and its age */                \
  X(last) X(lab_age)                 /* s, h: the last result that has come, and its age */        \
  X(given)                           /* U/kg of the last hour */                                   \
  X(rate) X(hold) X(tremor)          /* of the clinician: U/kg/h, h, normal of this hour */        \
  X(sum_bleed) X(sum_clot) X(sum_death) /* of hazards */                                           \
  X(clotted) X(over)                 /* 1: has happened; the episode has ended */                  \
  X(v_gcs) X(v_sbp) X(v_dbp) X(v_rr) X(v_temp) X(v_pco2)   /* normals of the vital signs */        \
  X(l_hgb) X(l_wbc) X(l_platelet) X(l_creatinine) X(l_bilirubin) X(l_inr) /* of the last panel */
// clang-format on

#define HEPARIN_COUNT(name) HEPARIN_WORD_##name,
enum { HEPARIN_PATIENT(HEPARIN_COUNT) HEPARIN_WORDS };
#undef HEPARIN_COUNT

// What the agent sees, in the units of the heparin data set; the last one never changes.
enum {
  HEPARIN_SEE_HOUR,
  HEPARIN_SEE_MALE,
  HEPARIN_SEE_WEIGHT, // kg
  HEPARIN_SEE_GCS,
  HEPARIN_SEE_SBP,        // mmHg
  HEPARIN_SEE_DBP,        // mmHg
  HEPARIN_SEE_RR,         // 1/min
  HEPARIN_SEE_TEMPC,      // C
  HEPARIN_SEE_HGB,        // g/dL
  HEPARIN_SEE_WBC,        // 1e9/L
  HEPARIN_SEE_PLATELET,   // 1e9/L
  HEPARIN_SEE_CREATININE, // mg/dL
  HEPARIN_SEE_BILIRUBIN,  // mg/dL
  HEPARIN_SEE_INR,
  HEPARIN_SEE_PT,       // s
  HEPARIN_SEE_PCO2,     // mmHg
  HEPARIN_SEE_APTT,     // s, last known
  HEPARIN_SEE_APTT_AGE, // h since it was drawn
  HEPARIN_SEE_HEPARIN,  // U/kg over the last hour
  HEPARIN_SEE_AGE,      // years
  HEPARIN_OBS
};
enum { HEPARIN_ACT = 2 };
#define HEPARIN_DRAWS 4 // for the preprocessor

// What evaluation records of every hour. Rows with HEPARIN_SIGNAL_VALID 0 come after the end.
enum {
  HEPARIN_SIGNAL_CONC,     // U/mL at its start
  HEPARIN_SIGNAL_APTT,     // s, true, at its start
  HEPARIN_SIGNAL_NEXT,     // s, true, at its end
  HEPARIN_SIGNAL_REWARD,   // 1
  HEPARIN_SIGNAL_RATE,     // U/kg/h
  HEPARIN_SIGNAL_BOLUS,    // U/kg
  HEPARIN_SIGNAL_NEW,      // s: of the sample of this hour, known later; 0 where there is none
  HEPARIN_SIGNAL_BLEED,    // 1: in this hour
  HEPARIN_SIGNAL_CLOT,     // 1: in this hour, the first
  HEPARIN_SIGNAL_DEATH,    // 1: in this hour
  HEPARIN_SIGNAL_VALID,    // 1: the episode was running
  HEPARIN_SIGNAL_SEVERITY, // hidden
  HEPARIN_SIGNALS
};

// Parameters of the nomogram: a start, four limits of aPTT between five bands, and what is done in
// each. `FIXED` 1: doses are units, not units per kg (of 80 kg where a nomogram is weight-based).
// `NOISE`: standard deviation of the logarithm of a rate that is set. `KAPPA`: seconds by which
// aPTT is read too low for each standard deviation of the hidden severity.
enum {
  NOMOGRAM_BOLUS, // U/kg
  NOMOGRAM_RATE,  // U/kg/h
  NOMOGRAM_LIMIT, // s, four
  NOMOGRAM_BOLUS1 = NOMOGRAM_LIMIT + 4,
  NOMOGRAM_BOLUS2, // U/kg in the two bands below the target
  NOMOGRAM_UP1,
  NOMOGRAM_UP2,   // U/kg/h in these
  NOMOGRAM_DOWN1, // U/kg/h above it
  NOMOGRAM_DOWN2, // U/kg/h far above
  NOMOGRAM_HOLD,  // h without infusion there
  NOMOGRAM_FIXED,
  NOMOGRAM_NOISE,
  NOMOGRAM_KAPPA, // s
  NOMOGRAM_PARAMS
};

#define HEPARIN_WORD(name) float name;
typedef struct heparin_patient {
  HEPARIN_PATIENT(HEPARIN_WORD)
} heparin_patient;
typedef struct heparin_state {
  HEPARIN_STATE(HEPARIN_WORD)
} heparin_state;
#undef HEPARIN_WORD


// ---- patients ----------------------------------------------------------------------------------

// Kinetics and response of a patient with these covariates; `eta`: standard normals of clearance,
// volume, slope and base.
RGM_FN void heparin_describe(float *words, const heparin_config *c, double age, int male,
                             double creatinine, double severity, const double eta[4]) {
  const double clearance = rgm_exp64(c->sd_clearance * eta[0] + c->severity_clearance * severity -
                                     0.2 * rgm_log64(age / 65.0));
  const double kidney = rgm_exp64(-0.5 * rgm_log64(creatinine));
  const double shared = c->corr * eta[3] + rgm_sqrt64(1.0 - c->corr * c->corr) * eta[2];
  words[HEPARIN_WORD_gain] = (float)(rgm_exp64(-c->sd_volume * eta[1]) / c->volume);
  words[HEPARIN_WORD_vmax] = (float)(c->vmax * clearance);
  words[HEPARIN_WORD_km] = (float)c->km;
  words[HEPARIN_WORD_linear] = (float)(c->linear * clearance *
                                       (kidney > 2.0   ? 2.0
                                        : kidney < 0.5 ? 0.5
                                                       : kidney));
  words[HEPARIN_WORD_base] = (float)(c->base * rgm_exp64(c->sd_base * eta[3]));
  words[HEPARIN_WORD_slope] =
      (float)(c->slope * (male ? 1.0 : 1.1) * rgm_exp64(c->sd_slope * shared));
  words[HEPARIN_WORD_age] = (float)age;
  words[HEPARIN_WORD_male] = (float)male;
  words[HEPARIN_WORD_m_creatinine] = (float)creatinine;
  words[HEPARIN_WORD_severity] = (float)severity;
  words[HEPARIN_WORD_risk] = (float)rgm_exp64(c->severity_hazard * severity);
}


RGM_FN double heparin_between(double x, double low, double high) {
  return x < low ? low : x > high ? high : x;
}


// four normals
RGM_FN void heparin_normals(const rgm_rng *rng, uint32_t draw, double n[4]) {
  const rgm_words w = rgm_philox(rng->key, rng->step, rng->item, draw, 0);
  float a, b, c, d;
  rgm_normals(w.w0, w.w1, &a, &b);
  rgm_normals(w.w2, w.w3, &c, &d);
  n[0] = (double)a;
  n[1] = (double)b;
  n[2] = (double)c;
  n[3] = (double)d;
}


// Draws a patient: draws 0 to 4 are four normals each, 8 to 11 uniforms. Covariates are those of
// adults in intensive care [assumed].
RGM_FN void heparin_sample(float *words, const heparin_config *c, rgm_rng rng) {
  double eta[4], n[4];
  heparin_normals(&rng, 0, eta);
  heparin_normals(&rng, 1, n);
  rng.draw = 8;
  const int male = rgm_rng_range(&rng, 0.0, 1.0) < 0.57;
  const double creatinine = heparin_between(1.1 * rgm_exp64(0.5 * n[2]), 0.4, 8.0);
  heparin_describe(words, c, heparin_between(65.0 + 15.0 * n[0], 18.0, 95.0), male, creatinine,
                   n[3], eta);
  words[HEPARIN_WORD_weight] =
      (float)heparin_between((male ? 84.0 : 72.0) * rgm_exp64(0.22 * n[1]), 40.0, 180.0);
  words[HEPARIN_WORD_limit_bleed] = (float)-rgm_log64(rgm_rng_range(&rng, 0.0, 1.0));
  words[HEPARIN_WORD_limit_clot] = (float)-rgm_log64(rgm_rng_range(&rng, 0.0, 1.0));
  words[HEPARIN_WORD_limit_death] = (float)-rgm_log64(rgm_rng_range(&rng, 0.0, 1.0));
  heparin_normals(&rng, 2, n);
  words[HEPARIN_WORD_m_gcs] = (float)heparin_between(13.0 + 3.0 * n[0], 3.0, 15.0);
  words[HEPARIN_WORD_m_sbp] = (float)heparin_between(122.0 + 16.0 * n[1], 80.0, 190.0);
  words[HEPARIN_WORD_m_dbp] = (float)heparin_between(62.0 + 8.0 * n[2] + 4.0 * n[1], 35.0, 110.0);
  words[HEPARIN_WORD_m_rr] = (float)heparin_between(19.0 + 4.0 * n[3], 8.0, 40.0);
  heparin_normals(&rng, 3, n);
  words[HEPARIN_WORD_m_temp] = (float)(37.0 + 0.5 * n[0]);
  words[HEPARIN_WORD_m_pco2] = (float)heparin_between(41.0 + 8.0 * n[1], 20.0, 90.0);
  words[HEPARIN_WORD_m_hgb] = (float)heparin_between(10.4 + 1.8 * n[2], 6.0, 18.0);
  words[HEPARIN_WORD_m_wbc] = (float)(11.0 * rgm_exp64(0.4 * n[3]));
  heparin_normals(&rng, 4, n);
  words[HEPARIN_WORD_m_platelet] =
      (float)heparin_between(220.0 * rgm_exp64(0.4 * n[0]), 30.0, 900.0);
  words[HEPARIN_WORD_m_bilirubin] = (float)(0.8 * rgm_exp64(0.7 * n[1]));
  words[HEPARIN_WORD_m_inr] = (float)heparin_between(1.25 * rgm_exp64(0.15 * n[2]), 0.9, 4.0);
}


// ---- the loop ----------------------------------------------------------------------------------

// Drug-free start. The state is zeroed before.
RGM_FN void heparin_reset(float *state, const float *words) {
  (void)state;
  (void)words;
}


// Nothing happens at times that all lanes share.
RGM_FN int64_t heparin_event_every(const heparin_config *c) {
  (void)c;
  return 1 << 30;
}
RGM_FN void heparin_event(heparin_state *s, const float *words, const heparin_config *c,
                          int64_t event) {
  (void)s;
  (void)words;
  (void)c;
  (void)event;
}


RGM_INLINE float heparin_aptt(const heparin_patient *p, float conc) {
  return rgm_min(p->base * rgm_exp(p->slope * conc), HEPARIN_MOST_APTT);
}


RGM_INLINE float heparin_slope(const heparin_patient *p, float conc, float input) {
  return rgm_fma(-conc, p->linear + p->vmax / (p->km + conc), input);
}


// The classic Runge-Kutta step of fourth order.
RGM_INLINE float heparin_substep(const heparin_patient *p, float conc, float input) {
  const float h = HEPARIN_SUBSTEP;
  const float k1 = heparin_slope(p, conc, input);
  const float k2 = heparin_slope(p, rgm_fma(0.5f * h, k1, conc), input);
  const float k3 = heparin_slope(p, rgm_fma(0.5f * h, k2, conc), input);
  const float k4 = heparin_slope(p, rgm_fma(h, k3, conc), input);
  return rgm_fma(h / 6.0f, (k1 + k4) + 2.0f * (k2 + k3), conc);
}


// Concentration after an hour: a bolus at its start [U/kg], a constant rate [U/kg/h].
RGM_INLINE float heparin_hour(const heparin_patient *p, float conc, float rate, float bolus) {
  const float input = rate * p->gain;
  float x = rgm_fma(bolus, p->gain, conc);
  x = heparin_substep(p, x, input);
  x = heparin_substep(p, x, input);
  x = heparin_substep(p, x, input);
  x = heparin_substep(p, x, input);
  x = heparin_substep(p, x, input);
  x = heparin_substep(p, x, input);
  x = heparin_substep(p, x, input);
  return heparin_substep(p, x, input);
}


// Hazards of an hour that ends with this aPTT.
RGM_INLINE void heparin_hazards(const heparin_patient *p, const heparin_config *c, float aptt,
                                float *bleed, float *clot, float *death) {
  const float above = rgm_min(aptt, HEPARIN_MOST_RISK) - 80.0f;
  *bleed = c->bleed * p->risk * rgm_exp(c->bleed_slope * above);
  *clot = c->clot * p->risk * (aptt < c->low ? c->clot_factor : 1.0f);
  *death = c->death * p->risk;
}


RGM_INLINE float heparin_reward(const heparin_config *c, float aptt) {
  return rgm_tanh(0.5f * (aptt - c->low)) - rgm_tanh(0.5f * (aptt - c->high)) - 1.0f;
}


RGM_INLINE void heparin_derive(heparin_state *s, const heparin_patient *p) {
  s->aptt = heparin_aptt(p, s->conc);
}


// keep x old + take x noise. What depends on the hour alone is a factor and no branch.
RGM_INLINE float heparin_mix(float keep, float old, float take, float noise) {
  return rgm_fma(keep, old, take * noise);
}


// What the agent sees at hour t. noise: aPTT's assay; the clinician; whether the sample is late;
// six vital signs; six labs.
RGM_INLINE void heparin_observe(heparin_state *s, const heparin_patient *p, const heparin_config *c,
                                int64_t t, const float *noise, float *obs) {
  // vital signs are autoregressive, other labs are new once a day
  const float keep = t == 0 ? 0.0f : 0.9f, take = t == 0 ? 1.0f : 0.43588989f;
  const float panel = t % HEPARIN_PANEL_EVERY == 0 ? 1.0f : 0.0f, held = 1.0f - panel;
  const float due = t == 0 ? 0.0f : c->lab_every, late = t == 0 ? -100.0f : c->lab_late;
  const float older = s->drawn + 1.0f;
  const int draw = (older >= due) & (noise[2] >= late);
  const float measured = rgm_min(s->aptt * rgm_exp(c->lab_sd * noise[0]), c->lab_max);
  s->sample = draw ? measured : s->sample;
  s->drawn = draw ? 0.0f : older;
  // its result comes later; that of the first sample, drawn before, is there at the start alone
  const float wait = t == 0 ? 0.0f : (float)t <= c->lab_turnaround ? -1.0f : c->lab_turnaround;
  const int known = s->drawn == wait;
  s->last = known ? s->sample : s->last;
  s->lab_age = known ? c->lab_turnaround : s->lab_age + 1.0f;
  s->tremor = noise[1];
  s->v_gcs = heparin_mix(keep, s->v_gcs, take, noise[3]);
  s->v_sbp = heparin_mix(keep, s->v_sbp, take, noise[4]);
  s->v_dbp = heparin_mix(keep, s->v_dbp, take, noise[5]);
  s->v_rr = heparin_mix(keep, s->v_rr, take, noise[6]);
  s->v_temp = heparin_mix(keep, s->v_temp, take, noise[7]);
  s->v_pco2 = heparin_mix(keep, s->v_pco2, take, noise[8]);
  s->l_hgb = heparin_mix(held, s->l_hgb, panel, noise[9]);
  s->l_wbc = heparin_mix(held, s->l_wbc, panel, noise[10]);
  s->l_platelet = heparin_mix(held, s->l_platelet, panel, noise[11]);
  s->l_creatinine = heparin_mix(held, s->l_creatinine, panel, noise[12]);
  s->l_bilirubin = heparin_mix(held, s->l_bilirubin, panel, noise[13]);
  s->l_inr = heparin_mix(held, s->l_inr, panel, noise[14]);
  obs[HEPARIN_SEE_HOUR] = (float)t;
  obs[HEPARIN_SEE_MALE] = p->male;
  obs[HEPARIN_SEE_WEIGHT] = p->weight;
  const float gcs = (float)(int32_t)(p->m_gcs + s->v_gcs + 0.5f);
  obs[HEPARIN_SEE_GCS] = rgm_clamp(gcs, 3.0f, 15.0f);
  obs[HEPARIN_SEE_SBP] = rgm_fma(12.0f, s->v_sbp, p->m_sbp);
  obs[HEPARIN_SEE_DBP] = rgm_fma(7.0f, s->v_dbp, p->m_dbp);
  obs[HEPARIN_SEE_RR] = rgm_max(rgm_fma(3.0f, s->v_rr, p->m_rr), 4.0f);
  obs[HEPARIN_SEE_TEMPC] = rgm_fma(0.4f, s->v_temp, p->m_temp);
  obs[HEPARIN_SEE_HGB] = rgm_max(rgm_fma(0.5f, s->l_hgb, p->m_hgb), 3.0f);
  obs[HEPARIN_SEE_WBC] = p->m_wbc * rgm_exp(0.15f * s->l_wbc);
  obs[HEPARIN_SEE_PLATELET] = p->m_platelet * rgm_exp(0.1f * s->l_platelet);
  obs[HEPARIN_SEE_CREATININE] = p->m_creatinine * rgm_exp(0.1f * s->l_creatinine);
  obs[HEPARIN_SEE_BILIRUBIN] = p->m_bilirubin * rgm_exp(0.1f * s->l_bilirubin);
  const float inr = p->m_inr * rgm_exp(0.05f * s->l_inr);
  obs[HEPARIN_SEE_INR] = inr;
  obs[HEPARIN_SEE_PT] = 11.5f * inr;
  obs[HEPARIN_SEE_PCO2] = rgm_max(rgm_fma(4.0f, s->v_pco2, p->m_pco2), 10.0f);
  obs[HEPARIN_SEE_APTT] = s->last;
  obs[HEPARIN_SEE_APTT_AGE] = s->lab_age;
  obs[HEPARIN_SEE_HEPARIN] = s->given;
  obs[HEPARIN_SEE_AGE] = p->age;
}


// The nomogram: acts at the start and on every new result; between them the rate stays, after a
// hold. Raschke et al. 1993 (Ann Intern Med 119:874) with their parameters.
RGM_INLINE void heparin_clinician(heparin_state *s, const heparin_patient *p,
                                  const heparin_config *c, const float *params, int64_t t,
                                  float *act) {
  // factors of 0 or 1 in place of branches: all parameters are read, whatever happens
  const float begin = t == 0 ? 1.0f : 0.0f, later = 1.0f - begin;
  const float fresh = s->lab_age == c->lab_turnaround ? 1.0f : 0.0f;
  // the band: one of four outside of the target, the lower ones first, or none
  const float read = rgm_fma(-params[NOMOGRAM_KAPPA], p->severity, s->last);
  const float b0 = read < params[NOMOGRAM_LIMIT] ? 1.0f : 0.0f;
  const float b1 = read < params[NOMOGRAM_LIMIT + 1] ? 1.0f - b0 : 0.0f;
  const float left = 1.0f - b0 - b1;
  const float b3 = read >= params[NOMOGRAM_LIMIT + 3] ? left : 0.0f;
  const float b2 = read >= params[NOMOGRAM_LIMIT + 2] ? left - b3 : 0.0f;
  const float up = rgm_fma(b0, params[NOMOGRAM_UP1], b1 * params[NOMOGRAM_UP2]);
  const float down = rgm_fma(b3, params[NOMOGRAM_DOWN2], b2 * params[NOMOGRAM_DOWN1]);
  const float more = rgm_fma(b0, params[NOMOGRAM_BOLUS1], b1 * params[NOMOGRAM_BOLUS2]);
  const float bolus = fresh * rgm_fma(begin, params[NOMOGRAM_BOLUS], later * more);
  const float aim = rgm_fma(begin, params[NOMOGRAM_RATE], later * (s->rate + (up - down)));
  const float set = rgm_max(aim * rgm_exp(params[NOMOGRAM_NOISE] * s->tremor), 0.0f);
  s->rate = rgm_fma(fresh, set, (1.0f - fresh) * s->rate);
  const float stop = fresh * later * b3 * params[NOMOGRAM_HOLD];
  s->hold = rgm_max(rgm_max(s->hold - 1.0f, 0.0f), stop);
  const float unit = rgm_fma(params[NOMOGRAM_FIXED], 80.0f / p->weight - 1.0f, 1.0f);
  const float open = rgm_max(1.0f - s->hold, 0.0f); // share of the hour that is infused
  act[0] = rgm_clamp(s->rate * open * unit / c->max_rate, 0.0f, 1.0f);
  act[1] = rgm_clamp(bolus * unit / c->max_bolus, 0.0f, 1.0f);
}


// One hour at act[0] (share of the largest rate) after a bolus of act[1] (share of the largest),
// both clipped to [0, 1]; returns the reward.
RGM_INLINE float heparin_step(heparin_state *s, const heparin_patient *p, const heparin_config *c,
                              const float *act, float *signals) {
  const float rate = rgm_clamp(act[0], 0.0f, 1.0f) * c->max_rate;
  const float bolus = rgm_clamp(act[1], 0.0f, 1.0f) * c->max_bolus;
  const float conc = heparin_hour(p, s->conc, rate, bolus), aptt = heparin_aptt(p, conc);
  const float live = 1.0f - s->over;
  float bleed, clot, death;
  heparin_hazards(p, c, aptt, &bleed, &clot, &death);
  s->sum_bleed = rgm_fma(live, bleed, s->sum_bleed);
  s->sum_clot = rgm_fma(live, clot, s->sum_clot);
  s->sum_death = rgm_fma(live, death, s->sum_death);
  const float bled = s->sum_bleed > p->limit_bleed ? live : 0.0f;
  const float died = s->sum_death > p->limit_death ? live : 0.0f;
  const float clotted = s->sum_clot > p->limit_clot ? live * (1.0f - s->clotted) : 0.0f;
  float reward = live * heparin_reward(c, aptt);
  reward = rgm_fma(-c->bleed_penalty, bled, reward);
  reward = rgm_fma(-c->clot_penalty, clotted, reward);
  reward = rgm_fma(-c->death_penalty, died, reward);
  signals[HEPARIN_SIGNAL_CONC] = s->conc;
  signals[HEPARIN_SIGNAL_APTT] = s->aptt;
  signals[HEPARIN_SIGNAL_NEXT] = aptt;
  signals[HEPARIN_SIGNAL_REWARD] = reward;
  signals[HEPARIN_SIGNAL_RATE] = rate;
  signals[HEPARIN_SIGNAL_BOLUS] = bolus;
  signals[HEPARIN_SIGNAL_NEW] = s->drawn == 0.0f ? s->sample : 0.0f;
  signals[HEPARIN_SIGNAL_BLEED] = bled;
  signals[HEPARIN_SIGNAL_CLOT] = clotted;
  signals[HEPARIN_SIGNAL_DEATH] = died;
  signals[HEPARIN_SIGNAL_VALID] = live;
  signals[HEPARIN_SIGNAL_SEVERITY] = p->severity;
  s->conc = conc;
  s->given = rate + bolus;
  s->clotted = s->clotted + clotted;
  s->over = rgm_min(s->over + bled + died, 1.0f);
  return reward;
}


// A bleed or a death has terminated the episode.
RGM_FN int heparin_ended(const heparin_state *s, const heparin_config *c) {
  (void)c;
  return s->over > 0.0f;
}

#endif
