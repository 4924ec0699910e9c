// SPDX-License-Identifier: Apache-2.0
// The pendulum x every controller for CUDA, the twin of rollout_pendulum.c.

#include "envs/controllers.h"
#include "envs/pendulum.h"

#define ENV pendulum
#define ENV_PATIENT PENDULUM_PATIENT
#define ENV_STATE PENDULUM_STATE
#define ENV_WORDS PENDULUM_WORDS
#define ENV_OBS PENDULUM_OBS
#define ENV_ACT PENDULUM_ACT
#define ENV_SIGNALS PENDULUM_SIGNALS
#define ENV_EPISODES 2
#define ENV_RESIDENT 0
#include "kernels/cuda/env_loop.cuh"

extern const rgm_env_kernels rgm_cuda_pendulum_kernels;
const rgm_env_kernels rgm_cuda_pendulum_kernels = {"cuda",
                                                   PENDULUM_OBS,
                                                   STEP_WORDS,
                                                   rgm_cuda_pendulum_sample,
                                                   rgm_cuda_pendulum_rollout,
                                                   rgm_cuda_pendulum_step};
