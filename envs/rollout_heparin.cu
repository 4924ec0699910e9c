// SPDX-License-Identifier: Apache-2.0
// Heparin's patients x every controller for CUDA, the twin of rollout_heparin.c. Patient and state
// are 51 words, so a thread has one episode.

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
#define ENV_EPISODES 1
#define ENV_RESIDENT 3 // four spill on sm_80
#include "kernels/cuda/env_loop.cuh"

extern const rgm_env_kernels rgm_cuda_heparin_kernels;
const rgm_env_kernels rgm_cuda_heparin_kernels = {"cuda",
                                                  HEPARIN_OBS,
                                                  STEP_WORDS,
                                                  rgm_cuda_heparin_sample,
                                                  rgm_cuda_heparin_rollout,
                                                  rgm_cuda_heparin_step};
