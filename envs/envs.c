// SPDX-License-Identifier: Apache-2.0
// The table of environments: one row each, visible, ended by NULL.

#include "engine/engine.h"

extern const rgm_env rgm_propofol, rgm_heparin, rgm_pendulum, rgm_cartpole;

const rgm_env *const rgm_envs[] = {
    &rgm_propofol, &rgm_heparin, &rgm_pendulum, &rgm_cartpole, NULL,
};
