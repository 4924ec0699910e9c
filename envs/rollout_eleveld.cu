// SPDX-License-Identifier: Apache-2.0
// Eleveld's patients x every controller for CUDA, the twin of rollout_eleveld.c. The monitor's
// delay line takes 40 registers, so a thread has one episode.

#include "envs/controllers.h"
#include "envs/eleveld.h"

#define ENV eleveld
#define ENV_PATIENT ELEVELD_PATIENT
#define ENV_STATE ELEVELD_STATE
#define ENV_WORDS PROPOFOL_WORDS
#define ENV_OBS PROPOFOL_OBS
#define ENV_ACT PROPOFOL_ACT
#define ENV_SIGNALS PROPOFOL_SIGNALS
#define ENV_EPISODES 1
#define ENV_RESIDENT 3 // four are a register short
#include "kernels/cuda/env_loop.cuh"

extern const rgm_env_kernels rgm_cuda_eleveld_kernels;
const rgm_env_kernels rgm_cuda_eleveld_kernels = {"cuda",
                                                  PROPOFOL_OBS,
                                                  STEP_WORDS,
                                                  rgm_cuda_eleveld_sample,
                                                  rgm_cuda_eleveld_rollout,
                                                  rgm_cuda_eleveld_step};
