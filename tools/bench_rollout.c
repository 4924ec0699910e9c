// SPDX-License-Identifier: Apache-2.0
// `regimen bench rollout`: whole episodes, policy and environment fused, over episodes, threads,
// replicas and controllers; and `bench cem`: the paper's whole training, alone and packed.

#include "tools/bench.h"

typedef struct rollout_shape {
  const char *name;
  int64_t replicas, episodes, patients; // patients 1: all share patient and targets
  rgm_control control;
  bool records; // observations and actions are written, as training does
  bool all;     // with all threads; else one
} rollout_shape;

static const rollout_shape rollout_shapes[] = {
    {"rollout_fused", 1, 256, 1, RGM_CONTROL_STOCHASTIC, false, false},
    {"rollout_fused", 1, 256, 1, RGM_CONTROL_STOCHASTIC, false, true},
    {"rollout_records", 1, 256, 1, RGM_CONTROL_STOCHASTIC, true, true},
    {"rollout_continuous", 1, 256, 1, RGM_CONTROL_CONTINUOUS, false, true},
    {"rollout_pid", 1, 256, 256, RGM_CONTROL_PID, false, true},
    {"rollout_patients", 1, 16, 16, RGM_CONTROL_STOCHASTIC, false, true},
    {"rollout_patients", 1, 64, 64, RGM_CONTROL_STOCHASTIC, false, true},
    {"rollout_patients", 1, 256, 256, RGM_CONTROL_STOCHASTIC, false, true},
    {"rollout_patients", 1, 1024, 1024, RGM_CONTROL_STOCHASTIC, false, true},
    {"rollout_patients", 1, 4096, 4096, RGM_CONTROL_STOCHASTIC, false, true},
    {"rollout_packed", 1, 16, 1, RGM_CONTROL_STOCHASTIC, true, true},
    {"rollout_packed", 8, 16, 1, RGM_CONTROL_STOCHASTIC, true, true},
    {"rollout_packed", 64, 16, 1, RGM_CONTROL_STOCHASTIC, true, true},
};

typedef struct rollout_job {
  rgm_run *run;
  rgm_arena *arena;
  rgm_cohort cohort;
  rgm_rollout rollout;
} rollout_job;

enum { HIDDEN = 128 };


static void plan_job(rollout_job *j, const rollout_shape *shape) {
  const rgm_env *env = j->run->env;
  const int64_t R = shape->replicas, K = shape->episodes, T = env->steps(j->run->env_keys);
  const int64_t width[] = {env->obs_dim, HIDDEN, 2};
  j->rollout.returns = rgm_plan(j->arena, "returns", RGM_F32, 0, "r, k", "1", R, K, 0, 0);
  j->rollout.params =
      rgm_plan(j->arena, "params", RGM_F32, 0, "r, w", "1", R, rgm_mlp_size(2, width), 0, 0);
  j->rollout.patients = rgm_plan(j->arena, "patients", RGM_F32, 0, "r, p, w", "1", R,
                                 shape->patients, env->patient_words, 0);
  if (shape->records) {
    j->rollout.obs =
        rgm_plan(j->arena, "obs", RGM_F32, 0, "r, k, t, o", "1", R, K, T, env->obs_dim);
    j->rollout.act =
        rgm_plan(j->arena, "act", RGM_F32, 0, "r, k, t, a", "1", R, K, T, env->act_dim);
  }
}


static rgm_status open_job(rollout_job *j, const rollout_shape *shape) {
  rgm_run *run = j->run;
  RGM_TRY(rgm_arena_create(run->stream, &j->arena));
  plan_job(j, shape);
  RGM_TRY(rgm_arena_bind(j->arena));
  plan_job(j, shape);
  RGM_TRY(rgm_arena_seal(j->arena));
  j->cohort = (rgm_cohort){.patients = j->rollout.patients,
                           .config = run->env_config,
                           .seeds = run->seeds,
                           .clock = run->clock,
                           .active = run->active,
                           .random = RGM_RANDOM_PATIENT};
  j->rollout.config = run->env_config;
  j->rollout.seeds = run->seeds;
  j->rollout.clock = run->clock;
  j->rollout.active = run->active;
  j->rollout.control = shape->control;
  j->rollout.hidden = HIDDEN;
  j->rollout.random = RGM_RANDOM_NOISE;
  j->rollout.steps = run->env->steps(run->env_keys);
  rgm_env_sample(run->env_kernels, run->stream, &j->cohort);
  rgm_uniform(run->stream, j->rollout.params, run->seeds, RGM_RANDOM_INIT, 0, -0.5f, 0.5f,
              j->rollout.params.dims[1]);
  return rgm_sync(run->stream);
}


static void roll(void *job_) {
  const rollout_job *j = job_;
  rgm_env_rollout(j->run->env_kernels, j->run->stream, &j->rollout);
  (void)rgm_sync(j->run->stream);
}


static rgm_status bench_shape(bench *b, const rollout_shape *shape) {
  char replicas[64];
  const int count = shape->all ? b->threads : 1;
  snprintf(replicas, sizeof replicas, "run.replicas=%lld", (long long)shape->replicas);
  const char *const overrides[] = {"algorithm.name=pid", "env.name=propofol", replicas, NULL};
  rollout_job j = {0};
  rgm_status status = bench_open(b, overrides, count, &j.run);
  if (status == RGM_OK) {
    status = open_job(&j, shape);
  }
  if (status == RGM_OK) {
    bench_stream s = {.stream = j.run->stream, .threads = count, .seconds = 0.1 * b->seconds};
    bench_peaks(&s);
    const rgm_counts before = j.run->stream->counts[RGM_ROW_rollout];
    roll(&j);
    const rgm_counts after = j.run->stream->counts[RGM_ROW_rollout];
    const bench_time time = bench_measure(b->seconds, roll, &j);
    bench_peaks(&s);
    const bench_case c = {
        .suite = "rollout",
        .name = shape->name,
        .threads = count,
        .replicas = shape->replicas,
        .patients = shape->episodes,
        .work = (double)(shape->replicas * shape->episodes * j.rollout.steps),
        .unit = "env-steps/s",
        .flops = after.flops - before.flops,
        .bytes = after.bytes - before.bytes,
    };
    bench_report(b, &c, time, &s);
  }
  rgm_arena_free(j.arena);
  rgm_run_free(j.run);
  return status;
}


rgm_status bench_rollout(bench *b) {
  for (size_t i = 0; i < sizeof rollout_shapes / sizeof *rollout_shapes; i++) {
    RGM_TRY(bench_shape(b, &rollout_shapes[i]));
  }
  return RGM_OK;
}


// ---- whole trainings ---------------------------------------------------------------------------

typedef struct training {
  rgm_run *run;
  rgm_status status; // the first failure
} training;


static void step(void *training_) {
  training *t = training_;
  const rgm_status status = t->run->algorithm->step(t->run);
  t->status = t->status == RGM_OK ? status : t->status;
}


static void whole_training(void *training_) {
  training *t = training_;
  for (int64_t i = 0; i < t->run->keys.steps && t->status == RGM_OK; i++) {
    step(t);
  }
}


// flops and bytes of all rows of a stream; of the episodes, the elite only have a gradient
static void add_up(const rgm_stream *s, double *flops, double *bytes) {
  *flops = *bytes = 0.0;
  for (int i = 0; i < RGM_ROW_COUNT; i++) {
    *flops += s->counts[i].flops * (i == RGM_ROW_policy_xent ? 0.3 : 1.0);
    *bytes += s->counts[i].bytes;
  }
}


// the paper's training from its start to its end, once; or steps of a pack, the best of many
static rgm_status train(bench *b, const char *name, int64_t replicas, bool whole) {
  char packed[64];
  snprintf(packed, sizeof packed, "run.replicas=%lld", (long long)replicas);
  const char *const overrides[] = {"algorithm.name=cem", "env.name=propofol", packed,
                                   "run.steps=4000", NULL};
  training t = {0};
  t.status = bench_open(b, overrides, b->threads, &t.run);
  if (t.status == RGM_OK) {
    bench_stream s = {.stream = t.run->stream, .threads = b->threads, .seconds = 0.1 * b->seconds};
    bench_peaks(&s);
    bench_case c = {
        .suite = "cem",
        .name = name,
        .threads = b->threads,
        .replicas = replicas,
        .patients = 16,
        .work = (double)replicas,
        .unit = whole ? "s" : "updates/s",
        .seconds = whole,
    };
    for (int i = 0; i < RGM_ROW_COUNT; i++) {
      t.run->stream->counts[i] = (rgm_counts){0};
    }
    bench_time time = {0};
    if (whole) {
      const double begun = rgm_seconds();
      whole_training(&t);
      time.best = time.median = rgm_seconds() - begun;
      add_up(t.run->stream, &c.flops, &c.bytes);
    } else {
      step(&t);
      add_up(t.run->stream, &c.flops, &c.bytes);
      time = bench_measure(2.0 * b->seconds, step, &t);
    }
    bench_peaks(&s);
    if (t.status == RGM_OK) {
      bench_report(b, &c, time, &s);
    }
  }
  rgm_run_free(t.run);
  return t.status;
}


rgm_status bench_cem(bench *b) {
  RGM_TRY(train(b, "cem_training_paper", 1, true));
  for (int64_t replicas = 1; replicas <= 64; replicas *= 2) {
    RGM_TRY(train(b, "cem_training_packed", replicas, false));
  }
  return RGM_OK;
}
