// SPDX-License-Identifier: Apache-2.0
// Conservative offline model-based policy optimisation: Yu et al. 2021 (arXiv:2102.08363). The
// critics learn from data and imagined rows alike (equation 2, d_f), are pushed down where the
// model leads the policy (rho) and up at the data:
//   L_n = 1/2 mean_{d_f} (Q_n(s, a) - y)^2 + beta (push(rho) - mean_D Q_n(s, a)).
// `push` is the mean of Q at the imagined actions (rho_sample), its expectation over the policy at
// imagined states (rho_expect, classes), or CQL's log-sum-exp over imagined rows or over all.

#include "algorithms/imagined.h"

static const char *const pushes[] = {"none",          "rho_sample", "rho_expect", "logsumexp_model",
                                     "logsumexp_mix", NULL};

static const rgm_field fields[] = {
    RGM_IMAGINED_FIELDS("0.5", "5"),
    RGM_PUSH_FIELDS(rgm_imagined_keys),
    {"push", RGM_CHOICE, RGM_IMAGINED_KEY(push_kind), "", "rho_expect", 0, 0, pushes, RGM_SHAPE,
     "Where the critics are pushed down."},
    {0},
};


static rgm_status combo_plan(rgm_run *run) {
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  return rgm_imagined_plan(run, (rgm_push)k->push_kind, RGM_DOUBT_NONE);
}


const rgm_algorithm rgm_combo = {
    .name = "combo",
    .paper = "Yu et al. 2021",
    .doc = "Learns from data and a learned model, with critics pushed down where the model leads.",
    .fields = fields,
    .keys_size = sizeof(rgm_imagined_keys),
    .self_size = sizeof(rgm_imagined),
    .needs = RGM_NEEDS_DATASET | RGM_TAKES_ENV,
    .work_unit = "updates",
    .work = rgm_imagined_work,
    .check = rgm_imagined_check,
    .plan = combo_plan,
    .init = rgm_imagined_init,
    .step = rgm_imagined_step,
    .report = rgm_imagined_report,
    .evaluate = rgm_imagined_evaluate,
};
