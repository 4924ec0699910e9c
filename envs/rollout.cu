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
extern const rgm_env_kernels rgm_cuda_heparin_kernels, rgm_cuda_pendulum_kernels;
extern const rgm_env_kernels rgm_cuda_cartpole_kernels;
const rgm_env_kernels rgm_cuda_propofol_kernels = {"cuda",
                                                   PROPOFOL_OBS,
                                                   STEP_WORDS,
                                                   rgm_cuda_propofol_sample,
                                                   rgm_cuda_propofol_rollout,
                                                   rgm_cuda_propofol_step};


extern "C" const rgm_env_kernels *rgm_cuda_env_kernels(const char *name) {
  static const struct {
    const char *name;
    const rgm_env_kernels *kernels;
  } rows[] = {
      {"propofol", &rgm_cuda_propofol_kernels}, {"eleveld", &rgm_cuda_eleveld_kernels},
      {"heparin", &rgm_cuda_heparin_kernels},   {"pendulum", &rgm_cuda_pendulum_kernels},
      {"cartpole", &rgm_cuda_cartpole_kernels},
  };
  for (const auto &row : rows) {
    if (strcmp(name, row.name) == 0) {
      return row.kernels;
    }
  }
  return NULL;
}
