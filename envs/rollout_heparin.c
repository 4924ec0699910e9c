// SPDX-License-Identifier: Apache-2.0
// Heparin's patients x every controller for one instruction set of the CPU (RGM_ISA); a file of its
// own, since the loop's template makes one environment a file.

#include "envs/controllers.h"
#include "envs/heparin.h"

#define ENV heparin
#define ENV_PATIENT HEPARIN_PATIENT
#define ENV_STATE HEPARIN_STATE
#define ENV_WORDS HEPARIN_WORDS
#define ENV_OBS HEPARIN_OBS
#define ENV_ACT HEPARIN_ACT
#define ENV_SIGNALS HEPARIN_SIGNALS
#define ENV_DRAWS HEPARIN_DRAWS
#define ENV_CLINICIAN
#define ENV_ENDS
#include "kernels/env_loop.h"

extern const rgm_env_kernels RGM_CPU(heparin_kernels);
const rgm_env_kernels RGM_CPU(heparin_kernels) = {
    .isa = RGM_QUOTE(RGM_ISA),
    .obs = HEPARIN_OBS,
    .words = STEP_WORDS,
    .sample = RGM_CPU(heparin_sample),
    .rollout = RGM_CPU(heparin_rollout),
    .step = RGM_CPU(heparin_step),
};
