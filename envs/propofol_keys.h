// SPDX-License-Identifier: Apache-2.0
// The env.* keys of propofol and what its files on the host share (propofol.c, eleveld.c).

#ifndef RGM_PROPOFOL_KEYS_H
#define RGM_PROPOFOL_KEYS_H

#include "engine/engine.h"
#include "envs/eleveld.h"

// Where evaluation takes its patients from.
enum { PROPOFOL_DRAWN, PROPOFOL_INDIVIDUALS, PROPOFOL_INDIVIDUAL_PK, PROPOFOL_NHANES };

typedef struct propofol_keys {
  rgm_list age, height, weight, ke0, c50, gamma, target;
  double max_rate, noise_sd;
  double generic_age, generic_height, generic_weight, generic_ke0, generic_c50, generic_gamma;
  double tuning_target, variability;
  int64_t steps, targets;
  int sex, model, cohort, sampling, eta;
  bool opiates, delay;
  char pk_path[RGM_STRING_SIZE], pd_path[RGM_STRING_SIZE], covariates_path[RGM_STRING_SIZE];
} propofol_keys;

// Keys that fit together, where env.model or env.cohort asks for Eleveld's patients.
rgm_status eleveld_check(const propofol_keys *keys, const rgm_config *where);

// The test patients that env.cohort names, as rgm_env.patients says.
rgm_status eleveld_patients(const void *keys, const rgm_config *where, const void *config,
                            uint64_t seed, int64_t wanted, rgm_patients *out);

// Whether the full rate brings a patient of either model from drug-free to the highest target of
// the episode within one phase.
bool eleveld_reachable(const void *config, const float *words);

extern const rgm_scenario eleveld_scenarios[];

#endif
