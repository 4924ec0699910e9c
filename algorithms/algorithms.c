// SPDX-License-Identifier: Apache-2.0
// The table of algorithms: one row each, visible, ended by NULL.

#include "engine/engine.h"

extern const rgm_algorithm rgm_bc, rgm_cem, rgm_combo, rgm_compare, rgm_cql, rgm_dynamics, rgm_mopo;
extern const rgm_algorithm rgm_oracle, rgm_pid, rgm_pid_cem, rgm_replay, rgm_rule_cem, rgm_sac;
extern const rgm_algorithm rgm_omg_rl, rgm_sac_offline;
extern const rgm_algorithm rgm_dp, rgm_dp_audit, rgm_dp_bootstrap, rgm_tabular_q;
extern const rgm_algorithm rgm_adr, rgm_dwols, rgm_wis;
extern const rgm_algorithm rgm_honesty, rgm_values_of_policies;

// clang-format off
const rgm_algorithm *const rgm_algorithms[] = {
    &rgm_bc,
    &rgm_cem,
    &rgm_combo,
    &rgm_compare,
    &rgm_cql,
    &rgm_dynamics,
    &rgm_mopo,
    &rgm_omg_rl,
    &rgm_oracle,
    &rgm_pid,
    &rgm_pid_cem,
    &rgm_replay,
    &rgm_rule_cem,
    &rgm_sac,
    &rgm_sac_offline,
    &rgm_values_of_policies,
    &rgm_honesty,

    // tabular problems
    &rgm_dp,
    &rgm_dp_audit,
    &rgm_dp_bootstrap,
    &rgm_tabular_q,

    // staged treatment rules
    &rgm_dwols,
    &rgm_wis,
    &rgm_adr,
    NULL,
};
// clang-format on
