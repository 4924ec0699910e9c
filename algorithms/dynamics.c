// SPDX-License-Identifier: Apache-2.0
// A learned model of the world by itself: the probabilistic ensemble of ensemble.h, to be looked
// at, or to be shared by runs of mopo and combo (algorithm.dynamics). A step of the run is an epoch
// and its appraisal; a replica that has stopped early keeps its bits, and its steps cost nothing.

#include "algorithms/ensemble.h"

typedef struct dynamics_keys {
  rgm_ensemble_keys dynamics;
} dynamics_keys;

static const rgm_field fields[] = {RGM_ENSEMBLE_FIELDS(dynamics_keys), {0}};

typedef struct dynamics {
  rgm_ensemble ensemble;
} dynamics;


static rgm_status dynamics_check(const rgm_run *run) {
  return rgm_ensemble_check(run, offsetof(dynamics_keys, dynamics));
}


static rgm_status dynamics_plan(rgm_run *run) {
  dynamics *s = run->self;
  rgm_ensemble_plan(run, &s->ensemble, offsetof(dynamics_keys, dynamics));
  return RGM_OK;
}


static rgm_status dynamics_init(rgm_run *run) {
  dynamics *s = run->self;
  return rgm_ensemble_init(run, &s->ensemble);
}


static rgm_status dynamics_step(rgm_run *run) {
  dynamics *s = run->self;
  RGM_TRY(rgm_ensemble_epoch(run, &s->ensemble, 0));
  rgm_advance(run->stream, run->clock, run->active);
  return RGM_OK;
}


static rgm_status dynamics_report(rgm_run *run) {
  dynamics *s = run->self;
  return rgm_ensemble_report(run, &s->ensemble, true);
}


static double dynamics_work(const rgm_run *run) {
  const dynamics *s = run->self;
  return (double)run->replicas * (double)s->ensemble.updates;
}


static rgm_status dynamics_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  dynamics *s = run->self;
  return rgm_ensemble_evaluate(run, &s->ensemble, json, text);
}


const rgm_algorithm rgm_dynamics = {
    .name = "dynamics",
    .paper = "Chua et al. 2018; Yu et al. 2020",
    .doc = "An ensemble of probabilistic nets that predicts how patients change, by itself.",
    .fields = fields,
    .keys_size = sizeof(dynamics_keys),
    .self_size = sizeof(dynamics),
    .needs = RGM_NEEDS_DATASET,
    .work_unit = "updates",
    .work = dynamics_work,
    .check = dynamics_check,
    .plan = dynamics_plan,
    .init = dynamics_init,
    .step = dynamics_step,
    .report = dynamics_report,
    .evaluate = dynamics_evaluate,
    .best_metric = "holdout_mse",
    .best_is_min = true,
};
