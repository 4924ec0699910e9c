// SPDX-License-Identifier: Apache-2.0
// Every environment x every controller for one instruction set of the CPU (RGM_ISA); the twin of
// rollout.cu. One environment a section.

#include "envs/controllers.h"
#include "envs/propofol.h"

#define ENV propofol
#define ENV_PATIENT PROPOFOL_PATIENT
#define ENV_STATE PROPOFOL_STATE
#define ENV_WORDS PROPOFOL_WORDS
#define ENV_OBS PROPOFOL_OBS
#define ENV_ACT PROPOFOL_ACT
#define ENV_SIGNALS PROPOFOL_SIGNALS
#include "kernels/env_loop.h"

extern const rgm_env_kernels RGM_CPU(propofol_kernels);
const rgm_env_kernels RGM_CPU(propofol_kernels) = {
    .isa = RGM_QUOTE(RGM_ISA),
    .obs = PROPOFOL_OBS,
    .words = STEP_WORDS,
    .sample = RGM_CPU(propofol_sample),
    .rollout = RGM_CPU(propofol_rollout),
    .step = RGM_CPU(propofol_step),
};
