// SPDX-License-Identifier: Apache-2.0
// The table of environments: one row each, visible, ended by NULL.

#include "engine/engine.h"

extern const rgm_env rgm_propofol, rgm_heparin, rgm_pendulum, rgm_cartpole;
extern const rgm_env rgm_sepsis_grid, rgm_sepsis_gumbel, rgm_tabular, rgm_aki;

const rgm_env *const rgm_envs[] = {
    &rgm_propofol,
    &rgm_heparin,
    &rgm_pendulum,
    &rgm_cartpole,

    // tabular problems
    &rgm_sepsis_grid,
    &rgm_sepsis_gumbel,
    &rgm_tabular,

    // tables of patients
    &rgm_aki,
    NULL,
};
