// SPDX-License-Identifier: Apache-2.0
// Eleveld's patients x every controller for one instruction set of the CPU (RGM_ISA); a file of its
// own, since the loop's template makes one environment a file.

#include "envs/controllers.h"
#include "envs/eleveld.h"

#define ENV eleveld
#define ENV_PATIENT ELEVELD_PATIENT
#define ENV_STATE ELEVELD_STATE
#define ENV_WORDS PROPOFOL_WORDS
#define ENV_OBS PROPOFOL_OBS
#define ENV_ACT PROPOFOL_ACT
#define ENV_SIGNALS PROPOFOL_SIGNALS
#include "kernels/env_loop.h"

extern const rgm_env_kernels RGM_CPU(eleveld_kernels);
const rgm_env_kernels RGM_CPU(eleveld_kernels) = {
    .isa = RGM_QUOTE(RGM_ISA),
    .obs = PROPOFOL_OBS,
    .words = STEP_WORDS,
    .sample = RGM_CPU(eleveld_sample),
    .rollout = RGM_CPU(eleveld_rollout),
    .step = RGM_CPU(eleveld_step),
};
