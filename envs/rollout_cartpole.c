// SPDX-License-Identifier: Apache-2.0
// The pole on a cart x every controller for one instruction set of the CPU (RGM_ISA); a file of its
// own, since the loop's template makes one environment a file.

#include "envs/controllers.h"
#include "envs/cartpole.h"

#define ENV cartpole
#define ENV_PATIENT CARTPOLE_PATIENT
#define ENV_STATE CARTPOLE_STATE
#define ENV_WORDS CARTPOLE_WORDS
#define ENV_OBS CARTPOLE_OBS
#define ENV_ACT CARTPOLE_ACT
#define ENV_SIGNALS CARTPOLE_SIGNALS
#define ENV_CLINICIAN
#define ENV_ENDS
#include "kernels/env_loop.h"

extern const rgm_env_kernels RGM_CPU(cartpole_kernels);
const rgm_env_kernels RGM_CPU(cartpole_kernels) = {
    .isa = RGM_QUOTE(RGM_ISA),
    .obs = CARTPOLE_OBS,
    .words = STEP_WORDS,
    .sample = RGM_CPU(cartpole_sample),
    .rollout = RGM_CPU(cartpole_rollout),
    .step = RGM_CPU(cartpole_step),
};
