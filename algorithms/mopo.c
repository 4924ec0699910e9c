// SPDX-License-Identifier: Apache-2.0
// Model-based offline policy optimisation: Yu et al. 2020 (arXiv:2005.13239), algorithm 2. Imagined
// rewards are lowered by what the ensemble does not know, r - lambda u(s, a), with u the greatest
// norm of an elite's standard deviations, or how far an elite's mean is from theirs, in
// standardised units; soft actor-critic learns from data and imagined rows.

#include "algorithms/imagined.h"

static const char *const doubts[] = {"none", "sd", "spread", NULL};

static const rgm_field fields[] = {
    RGM_IMAGINED_FIELDS("0.05", "5"),
    {"doubt", RGM_CHOICE, RGM_IMAGINED_KEY(doubt), "", "sd", 0, 0, doubts, RGM_SHAPE,
     "What is taken off imagined rewards: the greatest norm of standard deviations, or the spread "
     "of the elites' means."},
    {"doubt_weight", RGM_FLOAT, RGM_IMAGINED_KEY(doubt_weight), "1", "1", 0, 1e6, NULL, 0,
     "Its weight, lambda, in the reward's unit."},
    {0},
};


static rgm_status mopo_plan(rgm_run *run) {
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  return rgm_imagined_plan(run, RGM_PUSH_NONE, (rgm_doubt)k->doubt);
}


const rgm_algorithm rgm_mopo = {
    .name = "mopo",
    .paper = "Yu et al. 2020",
    .doc = "Learns from data and a learned model, whose rewards pay for what it does not know.",
    .fields = fields,
    .keys_size = sizeof(rgm_imagined_keys),
    .self_size = sizeof(rgm_imagined),
    .needs = RGM_NEEDS_DATASET | RGM_TAKES_ENV,
    .work_unit = "updates",
    .work = rgm_imagined_work,
    .check = rgm_imagined_check,
    .plan = mopo_plan,
    .init = rgm_imagined_init,
    .step = rgm_imagined_step,
    .report = rgm_imagined_report,
    .evaluate = rgm_imagined_evaluate,
};
