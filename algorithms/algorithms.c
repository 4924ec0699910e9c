// SPDX-License-Identifier: Apache-2.0
// The table of algorithms: one row each, visible, ended by NULL.

#include "engine/engine.h"

extern const rgm_algorithm rgm_cem, rgm_compare, rgm_oracle, rgm_pid, rgm_pid_cem, rgm_replay;
extern const rgm_algorithm rgm_rule_cem;
extern const rgm_algorithm rgm_dp, rgm_dp_bootstrap, rgm_tabular_q, rgm_dp_audit;

const rgm_algorithm *const rgm_algorithms[] = {
    &rgm_cem,
    &rgm_compare,
    &rgm_oracle,
    &rgm_pid,
    &rgm_pid_cem,
    &rgm_replay,
    &rgm_rule_cem,

    // tabular problems
    &rgm_dp,
    &rgm_dp_audit,
    &rgm_dp_bootstrap,
    &rgm_tabular_q,
    NULL,
};
