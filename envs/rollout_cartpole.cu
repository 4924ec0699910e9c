// SPDX-License-Identifier: Apache-2.0
// The pole on a cart x every controller for CUDA, the twin of rollout_cartpole.c.

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
#define ENV_EPISODES 2
#define ENV_RESIDENT 0
#include "kernels/cuda/env_loop.cuh"

extern const rgm_env_kernels rgm_cuda_cartpole_kernels;
const rgm_env_kernels rgm_cuda_cartpole_kernels = {"cuda",
                                                   CARTPOLE_OBS,
                                                   STEP_WORDS,
                                                   rgm_cuda_cartpole_sample,
                                                   rgm_cuda_cartpole_rollout,
                                                   rgm_cuda_cartpole_step};
