// SPDX-License-Identifier: Apache-2.0
// The pendulum x every controller for one instruction set of the CPU (RGM_ISA); a file of its own,
// since the loop's template makes one environment a file.

#include "envs/controllers.h"
#include "envs/pendulum.h"

#define ENV pendulum
#define ENV_PATIENT PENDULUM_PATIENT
#define ENV_STATE PENDULUM_STATE
#define ENV_WORDS PENDULUM_WORDS
#define ENV_OBS PENDULUM_OBS
#define ENV_ACT PENDULUM_ACT
#define ENV_SIGNALS PENDULUM_SIGNALS
#include "kernels/env_loop.h"

extern const rgm_env_kernels RGM_CPU(pendulum_kernels);
const rgm_env_kernels RGM_CPU(pendulum_kernels) = {
    .isa = RGM_QUOTE(RGM_ISA),
    .obs = PENDULUM_OBS,
    .words = STEP_WORDS,
    .sample = RGM_CPU(pendulum_sample),
    .rollout = RGM_CPU(pendulum_rollout),
    .step = RGM_CPU(pendulum_step),
};
