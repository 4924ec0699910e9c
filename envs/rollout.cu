// SPDX-License-Identifier: Apache-2.0
// Every environment x every controller for CUDA, the twin of rollout.c, and the door by which the
// module hands out the rows of environments.

#include "envs/controllers.h"
#include "envs/propofol.h"

#define ENV propofol
#define ENV_PATIENT PROPOFOL_PATIENT
#define ENV_STATE PROPOFOL_STATE
#define ENV_WORDS PROPOFOL_WORDS
#define ENV_OBS PROPOFOL_OBS
#define ENV_ACT PROPOFOL_ACT
#define ENV_SIGNALS PROPOFOL_SIGNALS
#define ENV_EPISODES 2
#define ENV_RESIDENT 0
#include "kernels/cuda/env_loop.cuh"

extern const rgm_env_kernels rgm_cuda_propofol_kernels, rgm_cuda_eleveld_kernels;
extern const rgm_env_kernels rgm_cuda_heparin_kernels;
const rgm_env_kernels rgm_cuda_propofol_kernels = {"cuda", PROPOFOL_OBS, rgm_cuda_propofol_sample,
                                                   rgm_cuda_propofol_rollout};


extern "C" const rgm_env_kernels *rgm_cuda_env_kernels(const char *name) {
  if (strcmp(name, "propofol") == 0) {
    return &rgm_cuda_propofol_kernels;
  }
  if (strcmp(name, "heparin") == 0) {
    return &rgm_cuda_heparin_kernels;
  }
  return strcmp(name, "eleveld") == 0 ? &rgm_cuda_eleveld_kernels : NULL;
}
