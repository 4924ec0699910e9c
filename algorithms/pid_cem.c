// SPDX-License-Identifier: Apache-2.0
// PID gains, or the parameters of an environment's own rule (a nomogram), tuned on a population by
// the cross-entropy method: Rubinstein & Kroese 2004, "The Cross-Entropy Method", chapter 5. A step
// is one generation: candidates for (kp, ki, kd) from a Gaussian in log space, all tried on the
// same random patients with the same noise, and the Gaussian moves towards the candidates with
// the best mean return. It starts from the environment's own baseline. Two rows: pid_cem, rule_cem.

#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_GAINS = 64 };

// A parameter of zero, which has no logarithm, starts here, where it does nothing.
#define NOTHING 1e-30

typedef struct pid_cem_keys {
  int64_t candidates, patients;
  double percentile, rate, min_sd, start_divisor, start_sd;
} pid_cem_keys;

#define KEY(member) offsetof(pid_cem_keys, member)

static const rgm_field fields[] = {
    {"candidates", RGM_INT, KEY(candidates), "1", "64", 2, 1e5, NULL, RGM_SHAPE,
     "Candidate gains of a generation, M."},
    {"patients", RGM_INT, KEY(patients), "1", "32", 1, 1e6, NULL, RGM_SHAPE,
     "Random patients of a generation, the same for all its candidates."},
    {"percentile", RGM_FLOAT, KEY(percentile), "1", "0.8", 0, 1, NULL, 0,
     "Candidates with a mean return at or above this quantile are the elite."},
    {"rate", RGM_FLOAT, KEY(rate), "1", "0.7", 0, 1, NULL, 0,
     "Share of the elite's mean and standard deviation in the next Gaussian."},
    {"min_sd", RGM_FLOAT, KEY(min_sd), "1", "0.1", 1e-6, 10, NULL, 0,
     "Least standard deviation of a log gain; below 0.05 a search may stall before it is there."},
    {"start_divisor", RGM_FLOAT, KEY(start_divisor), "1", "8", 1e-3, 1e6, NULL, 0,
     "The first mean is the environment's PID baseline divided by this."},
    {"start_sd", RGM_FLOAT, KEY(start_sd), "1", "1", 1e-6, 10, NULL, 0,
     "First standard deviation of a log gain."},
    {0},
};

typedef struct pid_cem {
  rgm_tensor mean, log_sd;             // (R, 3) of the logarithms of the gains
  rgm_tensor gains;                    // (R, 3) exp(mean): what evaluation uses
  rgm_tensor log_candidates;           // (R, M, 3)
  rgm_tensor candidates;               // (R, M, 3)
  rgm_tensor patients;                 // (R, P, words)
  rgm_tensor returns;                  // (R, M, P)
  rgm_tensor score, sorted, elite;     // (R, M) mean return; the same sorted; 1 / count or 0
  rgm_tensor threshold, average;       // (R) least score of the elite, mean score
  rgm_tensor percentile, rate, min_sd; // (R)
} pid_cem;


extern const rgm_algorithm rgm_rule_cem;

static rgm_control control_of(const rgm_run *run) {
  return run->algorithm == &rgm_rule_cem ? RGM_CONTROL_CLINICIAN : RGM_CONTROL_PID;
}


// the environment's first baseline of this kind, NULL where it has none
static const rgm_baseline *baseline_of(const rgm_run *run) {
  for (const rgm_baseline *b = run->env->baselines; b->name != NULL; b++) {
    if (b->control == control_of(run) && b->param_count <= MOST_GAINS) {
      return b;
    }
  }
  return NULL;
}


static rgm_status pid_cem_check(const rgm_run *run) {
  if (baseline_of(run) == NULL) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.name: %s starts from a %s baseline, and %s "
                    "has none",
                    rgm_config_where(run->config, "algorithm.name"), run->algorithm->name,
                    control_of(run) == RGM_CONTROL_PID ? "PID" : "rule's", run->env->name);
  }
  return RGM_OK;
}


static rgm_status pid_cem_plan(rgm_run *run) {
  pid_cem *s = run->self;
  const pid_cem_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, M = k->candidates, P = k->patients;
  const int64_t gains = baseline_of(run)->param_count;
  rgm_arena *arena = run->arena;

  // what training is: the Gaussian
  s->mean =
      rgm_plan(arena, "search/mean", RGM_F32, RGM_STATE, "replica, log gain", "1", R, gains, 0, 0);
  s->log_sd = rgm_plan(arena, "search/log_sd", RGM_F32, RGM_STATE, "replica, log gain", "1", R,
                       gains, 0, 0);
  s->gains = rgm_plan(arena, "gains", RGM_F32, RGM_STATE, "replica, gain", "1", R, gains, 0, 0);

  // what a generation needs
  s->log_candidates = rgm_plan(arena, "generation/log_candidates", RGM_F32, RGM_SCRATCH,
                               "replica, candidate, log gain", "1", R, M, gains, 0);
  s->candidates = rgm_plan(arena, "generation/candidates", RGM_F32, RGM_SCRATCH,
                           "replica, candidate, gain", "1", R, M, gains, 0);
  s->patients = rgm_plan(arena, "generation/patients", RGM_F32, RGM_SCRATCH,
                         "replica, patient, word", "1", R, P, run->env->patient_words, 0);
  s->returns = rgm_plan(arena, "generation/returns", RGM_F32, RGM_SCRATCH,
                        "replica, candidate, patient", "1", R, M, P, 0);
  s->score = rgm_plan(arena, "generation/score", RGM_F32, RGM_SCRATCH, "replica, candidate", "1", R,
                      M, 0, 0);
  s->sorted = rgm_plan(arena, "generation/sorted", RGM_F32, RGM_SCRATCH, "replica, candidate", "1",
                       R, M, 0, 0);
  s->elite = rgm_plan(arena, "generation/elite", RGM_F32, RGM_SCRATCH, "replica, candidate", "1", R,
                      M, 0, 0);
  s->threshold =
      rgm_plan(arena, "generation/threshold", RGM_F32, RGM_SCRATCH, "replica", "1", R, 0, 0, 0);
  s->average =
      rgm_plan(arena, "generation/average", RGM_F32, RGM_SCRATCH, "replica", "1", R, 0, 0, 0);
  s->percentile = rgm_plan_hyper(run, "percentile", KEY(percentile));
  s->rate = rgm_plan_hyper(run, "rate", KEY(rate));
  s->min_sd = rgm_plan_hyper(run, "min_sd", KEY(min_sd));
  return RGM_OK;
}


static rgm_status pid_cem_init(rgm_run *run) {
  const pid_cem *s = run->self;
  const rgm_baseline *baseline = baseline_of(run);
  const int n = baseline->param_count;
  for (int64_t r = 0; r < run->replicas; r++) {
    const pid_cem_keys *k = rgm_algorithm_keys(run, r);
    float gains[MOST_GAINS], mean[MOST_GAINS], log_sd[MOST_GAINS];
    RGM_TRY(baseline->params(rgm_env_keys(run, r), gains));
    for (int i = 0; i < n; i++) {
      mean[i] = (float)log(fmax((double)gains[i], NOTHING) / k->start_divisor);
      log_sd[i] = (float)log(k->start_sd);
    }
    const size_t bytes = (size_t)n * sizeof(float);
    rgm_copy(run->stream, (float *)s->mean.data + n * r, mean, bytes);
    rgm_copy(run->stream, (float *)s->log_sd.data + n * r, log_sd, bytes);
  }
  rgm_exponential(run->stream, s->gains, s->mean, run->active);
  return rgm_sync(run->stream);
}


// slice r of t as a tensor of its own, whose first dim is d0: n slices of d1 elements lie one after
// the other, or, with `shared`, all n are the one slice
static rgm_tensor slice_of(rgm_tensor t, int64_t r, int64_t n, bool shared) {
  rgm_tensor view = t;
  view.data = (char *)t.data + (size_t)(r * t.stride0) * rgm_dtype_size(t.dtype);
  if (shared) {
    view.dims[0] = n;
    view.stride0 = 0;
    return view;
  }
  RGM_ASSERT(t.dims[1] == n && t.rank > 1);
  return rgm_view(view.data, t.dtype, n, t.rank > 2 ? t.dims[2] : 0, t.rank > 3 ? t.dims[3] : 0, 0);
}


// every candidate of replica r is a replica of its own here, with r's patients, noise and constants
static void try_candidates(const rgm_run *run, rgm_stream *stream, int64_t r) {
  const pid_cem *s = run->self;
  const int64_t M = s->candidates.dims[1];
  const rgm_rollout rollout = {
      .returns = slice_of(s->returns, r, M, false),
      .patients = slice_of(s->patients, r, M, true),
      .config = slice_of(run->env_config, r, M, true),
      .params = slice_of(s->candidates, r, M, false),
      .seeds = slice_of(run->seeds, r, M, true),
      .clock = slice_of(run->clock, r, M, true),
      .active = slice_of(run->active, r, M, true),
      .control = control_of(run),
      .random = RGM_RANDOM_NOISE,
      .steps = run->env->steps(run->env_keys),
  };
  rgm_env_rollout(run->env_kernels, stream, &rollout);
}


// one generation: everything is enqueued, nothing is read back
static void enqueue_generation(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const pid_cem *s = run->self;
  const int64_t R = run->replicas, M = s->candidates.dims[1], P = s->patients.dims[1];
  const rgm_cohort cohort = {
      .patients = s->patients,
      .config = run->env_config,
      .seeds = run->seeds,
      .clock = run->clock,
      .active = run->active,
      .random = RGM_RANDOM_PATIENT,
  };
  rgm_gaussian_draw(stream, s->log_candidates, s->mean, s->log_sd, run->seeds, run->clock,
                    RGM_RANDOM_SEARCH, run->active);
  rgm_exponential(stream, s->candidates, s->log_candidates, run->active);
  rgm_env_sample(run->env_kernels, stream, &cohort);
  for (int64_t r = 0; r < R; r++) {
    try_candidates(run, stream, r);
  }

  // elite: mean return >= percentile
  rgm_sum(stream, rgm_view(s->score.data, RGM_F32, R * M, 0, 0, 0),
          rgm_view(s->returns.data, RGM_F32, R * M, P, 0, 0), 1.0f / (float)P);
  rgm_quantile(stream, s->threshold, s->sorted, s->score, s->percentile);
  rgm_select(stream, s->elite, s->score, s->threshold);
  rgm_sum(stream, s->average, s->score, 1.0f / (float)M);

  // the next Gaussian
  rgm_gaussian_refit(stream, s->mean, s->log_sd, s->log_candidates, s->elite, s->rate, s->min_sd,
                     run->active);
  rgm_exponential(stream, s->gains, s->mean, run->active);
  rgm_advance(stream, run->clock, run->active);
}


static rgm_status pid_cem_step(rgm_run *run) {
  rgm_graph(run->stream, 0, enqueue_generation, run);
  return RGM_OK;
}


// the columns of t (R, gains); `work` holds (gains + 1) R floats
static rgm_status report_gains(rgm_run *run, const char *prefix, const rgm_quantity *names,
                               bool units, rgm_tensor t, float *work) {
  const int64_t R = run->replicas, gains = t.dims[1];
  RGM_TRY(rgm_read_back(run, t, work));
  for (int64_t i = 0; i < gains; i++) {
    char name[64];
    float *column = work + gains * R;
    for (int64_t r = 0; r < R; r++) {
      column[r] = work[gains * r + i];
    }
    snprintf(name, sizeof name, "%s%s", prefix, names[i].name);
    RGM_TRY(rgm_report(run, name, units ? names[i].unit : "1", column));
  }
  return RGM_OK;
}


static rgm_status pid_cem_report(rgm_run *run) {
  static const rgm_quantity pid[] = {
      {"kp", "1/LoU", ""}, {"ki", "1/(LoU s)", ""}, {"kd", "s/LoU", ""}};
  const pid_cem *s = run->self;
  const rgm_baseline *baseline = baseline_of(run);
  const rgm_quantity *names = baseline->names != NULL ? baseline->names : pid;
  float *work = malloc((size_t)run->replicas * (MOST_GAINS + 1) * sizeof *work);
  if (work == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  rgm_status status = rgm_report_vector(run, "return_mean", "1", s->average);
  if (status == RGM_OK) {
    status = rgm_report_vector(run, "return_elite", "1", s->threshold);
  }
  if (status == RGM_OK) {
    status = report_gains(run, "", names, true, s->gains, work);
  }
  if (status == RGM_OK) {
    status = report_gains(run, "log_sd_", names, false, s->log_sd, work);
  }
  free(work);
  return status;
}


static double pid_cem_work(const rgm_run *run) {
  const pid_cem_keys *k = rgm_algorithm_keys(run, 0);
  return (double)run->replicas * (double)k->candidates * (double)k->patients *
         (double)run->env->steps(run->env_keys);
}


static int pid_cem_contenders(rgm_run *run, rgm_contender *out, int max) {
  const pid_cem *s = run->self;
  RGM_ASSERT(max >= 1);
  const bool pid = control_of(run) == RGM_CONTROL_PID;
  out[0] = (rgm_contender){
      .name = pid ? "pid_tuned" : "rule_tuned",
      .control = control_of(run),
      .params = s->gains,
  };
  return 1;
}


const rgm_algorithm rgm_pid_cem = {
    .name = "pid_cem",
    .paper = "Rubinstein & Kroese 2004",
    .doc = "PID whose gains the cross-entropy method tunes on a population of patients.",
    .fields = fields,
    .keys_size = sizeof(pid_cem_keys),
    .self_size = sizeof(pid_cem),
    .needs = RGM_NEEDS_ENV | RGM_TIMELESS,
    .work_unit = "env-steps",
    .work = pid_cem_work,
    .check = pid_cem_check,
    .plan = pid_cem_plan,
    .init = pid_cem_init,
    .step = pid_cem_step,
    .report = pid_cem_report,
    .contenders = pid_cem_contenders,
    .best_metric = "return_mean",
};

const rgm_algorithm rgm_rule_cem = {
    .name = "rule_cem",
    .paper = "Rubinstein & Kroese 2004",
    .doc = "The environment's own rule (a nomogram), tuned by the cross-entropy method.",
    .fields = fields,
    .keys_size = sizeof(pid_cem_keys),
    .self_size = sizeof(pid_cem),
    .needs = RGM_NEEDS_ENV | RGM_TIMELESS,
    .work_unit = "env-steps",
    .work = pid_cem_work,
    .check = pid_cem_check,
    .plan = pid_cem_plan,
    .init = pid_cem_init,
    .step = pid_cem_step,
    .report = pid_cem_report,
    .contenders = pid_cem_contenders,
    .best_metric = "return_mean",
};
