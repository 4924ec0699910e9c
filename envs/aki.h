// SPDX-License-Identifier: Apache-2.0
// Patients with acute kidney injury and three decisions, at 0, 24 and 48 h, whether to start renal
// replacement therapy: absorbing, as in Grolleau et al. 2024 (J Am Med Inform Assoc
// 31(5):1074-1083). Sizes and marginals of its Table 1 as far as they are published (development:
// MIMIC-III, validation: AKIKI and AKIKI 2); how covariates hang together, and what starting does,
// is invented and known:
//
//   Y = f(x_1) + noise - sum over stages k at which the patient was untreated of
//       (max(gamma_k, 0) - a_k gamma_k),   gamma_k = effect h_k'psi_k
//
// f is what the best rule earns, and that rule starts at k where gamma_k > 0: gamma_k are the true
// blips of a structural nested mean model (Robins 2004), exactly, as long as nobody dies between
// stages and the outcome is not bounded. Untreated patients may die between stages (`deaths`; Y =
// 0); `bounded` makes Y days from 0 to 60 with a lump of hospital deaths at 0.
//
// Plain scalar C in double on a plain struct, for both devices. Units: a, kg, mg/dL (creatinine,
// BUN), mmol/L (potassium), mL/kg/h (urine output), days (Y).

#ifndef ENV_AKI_H
#define ENV_AKI_H

#include "kernels/rng.h"
#include "kernels/scalar.h"

enum { AKI_STAGES = 3, AKI_PSI = 12, AKI_NORMALS = 24, AKI_UNIFORMS = 12 };

// What is the same for all patients of a cohort.
typedef struct aki_config {
  double effect;  // factor of all blips, 1
  double deaths;  // factor of the odds to die between stages, 0: nobody
  double starts;  // log odds of starting, beside the population's own
  double overlap; // factor of what laboratories do to the odds of starting
  double noise;   // d, standard deviation of Y given everything
  double margin;  // d, what the stringent rule asks of a blip
  int bounded;
  // of the population
  double male, age, age_sd, sofa, sofa_sd; // share, a, a, points, points
  double creatinine, creatinine_sd;        // log mg/dL
  double by_urine;                         // share with urine output below 0.3
  double urine, urine_sd;                  // log mL/kg/h of all others, and of all if `anuric`
  double anuric;                           // 1: urine output is log-normal in those too
  double mean;                             // d, of f
  double died;                             // log odds to die in hospital where Y is 34 d
  double dying;             // log odds to die untreated before the next stage, at median covariates
  double start[AKI_STAGES]; // log odds of starting at median laboratories
} aki_config;

typedef struct aki_patient {
  double age, male, weight, sofa, immuno, eth;
  double creat[AKI_STAGES], bun[AKI_STAGES], pot[AKI_STAGES], ph[AKI_STAGES], uo[AKI_STAGES];
  double best;                  // d, f and noise
  double uniform[AKI_UNIFORMS]; // starts 0-2, deaths 3-4, death in hospital 5, missing 6-11
} aki_patient;


RGM_FN double aki_clip(double x, double low, double high) {
  return x < low ? low : x > high ? high : x;
}

// to so many decimals: scale is 10, 100, ...
RGM_FN double aki_round(double x, double scale) {
  const double y = x * scale;
  return (double)(int64_t)(y < 0.0 ? y - 0.5 : y + 0.5) / scale;
}


// Urine output below 0.3 mL/kg/h: 0.3 (1 - (1 - u)^(1 / 0.39))^(1 / 1.8), Kumaraswamy's law fitted
// to the published quartiles 0.22, 0.28, 0.29.
RGM_FN double aki_low_urine(double u) {
  const double v = 1.0 - rgm_exp64(rgm_log64(1.0 - u) * (1.0 / 0.39));
  return 0.3 * rgm_exp64(rgm_log64(v < 1e-9 ? 1e-9 : v) * (1.0 / 1.8));
}


// covariates of the first stage from normals n and uniforms u of their own
RGM_FN void aki_admit(const aki_config *c, const double *n, const double *u, aki_patient *p) {
  p->male = u[0] < c->male ? 1.0 : 0.0;
  p->age = aki_round(aki_clip(c->age + c->age_sd * n[0], 19.0, 90.0), 1.0);
  p->weight = aki_round(aki_clip(72.0 + 12.0 * p->male + 19.0 * n[1], 35.0, 200.0), 10.0);
  p->sofa = aki_round(aki_clip(c->sofa + c->sofa_sd * n[2], 3.0, 20.0), 1.0);
  p->immuno = u[1] < 0.15 ? 1.0 : 0.0;
  p->eth = u[2] < 0.7 ? 0.0 : u[2] < 0.82 ? 1.0 : u[2] < 0.92 ? 2.0 : 3.0;
  const double creatinine = c->creatinine + c->creatinine_sd * n[3];
  p->creat[0] = aki_round(aki_clip(rgm_exp64(creatinine), 0.3, 10.4), 100.0);
  p->bun[0] = aki_round(aki_clip(rgm_exp64(3.65 + 0.35 * n[3] + 0.4 * n[4]), 5.0, 140.0), 1.0);
  p->pot[0] = aki_round(aki_clip(4.4 + 0.2 * n[3] + 0.65 * n[5], 2.6, 8.0), 10.0);
  p->ph[0] = aki_round(aki_clip(7.33 - 0.02 * n[2] + 0.08 * n[6], 6.88, 7.63), 100.0);
  const double other = rgm_exp64(c->urine + c->urine_sd * n[7]);
  const double low = c->anuric > 0.0 ? other : aki_low_urine(u[4]);
  p->uo[0] = aki_round(aki_clip(u[3] < c->by_urine ? low : other, 0.0, 7.2), 1000.0);
}


// laboratories a day later, whether treated or not (those of the treated decide nothing)
RGM_FN void aki_next_day(int k, const double *n, aki_patient *p) {
  const double bun = rgm_log64(p->bun[k - 1]) + 0.06 + 0.18 * n[0];
  p->creat[k] =
      aki_round(aki_clip(p->creat[k - 1] * rgm_exp64(0.05 + 0.2 * n[1]), 0.3, 12.0), 100.0);
  p->bun[k] = aki_round(aki_clip(rgm_exp64(bun), 5.0, 215.0), 1.0);
  p->pot[k] = aki_round(aki_clip(4.3 + 0.5 * (p->pot[k - 1] - 4.4) + 0.5 * n[2], 2.6, 8.0), 10.0);
  p->ph[k] =
      aki_round(aki_clip(7.36 + 0.5 * (p->ph[k - 1] - 7.33) + 0.06 * n[3], 6.5, 7.63), 100.0);
  const double uo = rgm_log64(p->uo[k - 1] + 0.05) + 0.15 + 0.5 * n[4];
  p->uo[k] = aki_round(aki_clip(rgm_exp64(uo) - 0.05, 0.0, 4.8), 1000.0);
}


// what the best rule earns, in expectation
RGM_FN double aki_best(const aki_config *c, const aki_patient *p) {
  return c->mean - 0.25 * (p->age - 66.0) - 1.2 * (p->sofa - c->sofa) + 0.02 * (p->weight - 79.0) +
         1.0 * p->male - 0.8 * (p->creat[0] - 2.0) + 2.0 * (p->uo[0] - 0.3) - 3.0 * p->immuno +
         12.0 * (p->ph[0] - 7.33) - 0.02 * (p->bun[0] - 40.0) - 0.8 * (p->pot[0] - 4.4);
}


// Patient `number` of a cohort: all that may befall it, whoever decides. key is of the stream of
// patients, counters are {cohort, patient, draw, 0}.
RGM_FN void aki_sample(const aki_config *c, rgm_key key, uint32_t cohort, uint32_t number,
                       aki_patient *p) {
  double n[AKI_NORMALS], u[AKI_UNIFORMS];
  for (uint32_t draw = 0; draw < AKI_NORMALS / 4; draw++) {
    const rgm_words w = rgm_philox(key, cohort, number, draw, 0);
    float a[4];
    rgm_normals(w.w0, w.w1, &a[0], &a[1]);
    rgm_normals(w.w2, w.w3, &a[2], &a[3]);
    for (int i = 0; i < 4; i++) {
      n[4 * draw + (uint32_t)i] = (double)a[i];
    }
  }
  for (uint32_t draw = 0; draw < 2 * AKI_UNIFORMS / 4; draw++) {
    const rgm_words w = rgm_philox(key, cohort, number, 100 + draw, 0);
    const uint32_t word[4] = {w.w0, w.w1, w.w2, w.w3};
    for (int i = 0; i < 4; i++) {
      const uint32_t at = 4 * draw + (uint32_t)i;
      const double x = ((double)word[i] + 0.5) * 0x1p-32;
      if (at < AKI_UNIFORMS) {
        u[at] = x;
      } else {
        p->uniform[at - AKI_UNIFORMS] = x;
      }
    }
  }
  aki_admit(c, n, u, p);
  aki_next_day(1, n + 8, p);
  aki_next_day(2, n + 13, p);
  p->best = aki_best(c, p) + c->noise * n[18];
}


// What starting at stage k (from 0) brings, in days: h_k'psi_k with the terms of the published
// rule.
RGM_FN double aki_blip(const aki_config *c, const double *psi, const aki_patient *p, int k) {
  double blip = 0.0;
  if (k == 0) {
    blip = psi[0] + psi[1] * p->age + psi[2] * p->creat[0] + psi[3] * p->pot[0];
  } else if (k == 1) {
    blip = psi[4] + psi[5] * p->sofa + psi[6] * p->bun[1] +
           psi[7] * rgm_abs64(p->ph[1] - p->ph[0]) + psi[8] * (p->uo[0] + p->uo[1]);
  } else {
    blip = psi[9] + psi[10] * p->uo[2] + psi[11] * (p->bun[2] / p->bun[0]);
  }
  return c->effect * blip;
}


// the log odds with which clinicians start at stage k: linear in BUN, pH, potassium, urine output
RGM_FN double aki_start_logit(const aki_config *c, const aki_patient *p, int k) {
  const double labs = 0.012 * (p->bun[k] - 45.0) - 5.0 * (p->ph[k] - 7.34) +
                      0.4 * (p->pot[k] - 4.4) - 0.8 * (p->uo[k] - 0.3);
  return c->start[k] + c->starts + c->overlap * labs;
}


// the log odds to die before stage k + 1 if not started at k, linear in that stage's covariates
RGM_FN double aki_death_logit(const aki_config *c, const aki_patient *p, int k) {
  return c->dying + 0.02 * (p->age - 66.0) + 0.12 * (p->sofa - c->sofa) - 2.0 * (p->ph[k] - 7.34);
}


// whether the patient dies between stages k and k + 1, untreated
RGM_FN int aki_dies(const aki_config *c, const aki_patient *p, int k) {
  const double odds = c->deaths * rgm_exp64(aki_death_logit(c, p, k));
  return p->uniform[3 + k] < odds / (1.0 + odds);
}


// The outcome of who started at stage `start` (AKI_STAGES: never) and was untreated, alive, before:
// days; *died in hospital.
RGM_FN double aki_outcome(const aki_config *c, const double *psi, const aki_patient *p, int start,
                          int *died) {
  double y = p->best;
  for (int k = 0; k < AKI_STAGES && k <= start; k++) {
    const double blip = aki_blip(c, psi, p, k);
    y -= (blip > 0.0 ? blip : 0.0) - (k == start ? blip : 0.0);
  }
  const double latent = (y - 34.0) / 18.0;
  *died = p->uniform[5] < rgm_sigmoid64(c->died - 0.8 * latent);
  if (c->bounded) {
    // alive: 60 less a log-normal stay
    const double days = 60.0 - rgm_exp64(2.495 - 0.852 * latent);
    y = *died || days < 0.0 ? 0.0 : aki_round(days, 1.0);
  }
  return y;
}

#endif
