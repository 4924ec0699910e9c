// SPDX-License-Identifier: Apache-2.0
// Soft actor-critic that acts while it learns: Haarnoja et al. 2018 (arXiv:1812.05905), algorithm
// 1, and for classes Christodoulou 2019 (arXiv:1910.07207). A step of the run is one step of E
// environments side by side, a row for each into the replay, and so many updates.

#include "algorithms/judge.h"
#include "engine/transitions.h"

typedef struct sac_keys {
  rgm_agent_keys agent;
  int64_t environments, start, replay, updates, judged;
} sac_keys;

#define KEY(member) offsetof(sac_keys, member)

static const rgm_field fields[] = {
    RGM_AGENT_FIELDS,
    {"environments", RGM_INT, KEY(environments), "1", "1", 1, 65536, NULL, RGM_SHAPE,
     "How many environments a replica steps side by side."},
    {"start", RGM_INT, KEY(start), "steps", "1000", 1, 1e9, NULL, RGM_SHAPE,
     "Steps with actions drawn at random from the box before anything is learned."},
    {"replay", RGM_INT, KEY(replay), "rows", "100000", 1, 4e9, NULL, RGM_SHAPE,
     "How many of the latest transitions are kept."},
    {"updates", RGM_INT, KEY(updates), "1", "1", 1, 1000, NULL, RGM_SHAPE,
     "Updates after each step."},
    {"judged", RGM_INT, KEY(judged), "episodes", "10", 0, 10000, NULL, RGM_SHAPE | RGM_PROVENANCE,
     "Episodes with the policy's mean whose return a report gives; 0: none."},
    {0},
};

typedef struct sac {
  rgm_agent agent;
  rgm_judge judge;
  rgm_ring ring;
  rgm_batch batch;                          // (G, B, ...)
  rgm_tensor state, obs;                    // (R, E, ...) of the environments
  rgm_tensor before, next, act, log_pi;     // (G, E, ...)
  rgm_tensor seen;                          // (G, E, S)
  rgm_tensor reward, terminated, truncated; // (G, E)
  rgm_pass act_pass;                        // (G, E)
} sac;

// what a step does
enum { PHASE_BEGIN, PHASE_START, PHASE_LEARN, PHASE_LOOK };


static rgm_status sac_check(const rgm_run *run) {
  const sac_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_problem problem = rgm_env_problem(run);
  if (k->replay < k->environments) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.replay: %lld rows do not hold one step of %lld environments",
                    rgm_config_where(run->config, "algorithm.replay"), (long long)k->replay,
                    (long long)k->environments);
  }
  return rgm_agent_check(run, &problem);
}


// the columns of the ring, in the order of rgm_batch's
static void plan_ring(rgm_run *run, sac *s, int64_t rows) {
  static const char *const names[] = {"replay/obs", "replay/act", "replay/reward", "replay/next",
                                      "replay/terminated"};
  const int64_t width[] = {s->agent.problem.obs, s->agent.problem.dims, 1, s->agent.problem.obs, 1};
  const unsigned flags = RGM_STATE | RGM_PRIVATE;
  for (int k = 0; k < RGM_BATCH_COLUMNS; k++) {
    s->ring.column[k] = rgm_plan(run->arena, names[k], RGM_F32, flags, "replica, row, ...", "1",
                                 run->replicas, rows, width[k], 0);
  }
  s->ring.columns = RGM_BATCH_COLUMNS;
  s->ring.head = rgm_plan(run->arena, "replay/head", RGM_U32, flags, "replica", "rows",
                          run->replicas, 0, 0, 0);
  s->ring.count = rgm_plan(run->arena, "replay/count", RGM_U32, flags, "replica", "rows",
                           run->replicas, 0, 0, 0);
}


static rgm_status sac_plan(rgm_run *run) {
  sac *s = run->self;
  const sac_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_problem problem = rgm_env_problem(run);
  const int64_t R = run->replicas, G = rgm_group(run->stream, R);
  const int64_t E = k->environments, S = problem.obs, D = problem.dims;
  rgm_arena *arena = run->arena;
  rgm_agent_plan(run, &s->agent, &problem, RGM_PUSH_NONE, 0);
  plan_ring(run, s, k->replay);
  rgm_judge_plan(run, &s->judge, &s->agent, k->judged);
  s->state = rgm_plan(arena, "environment/state", RGM_F32, RGM_STATE | RGM_PRIVATE,
                      "replica, environment, word", "", R, E, run->env_kernels->words, 0);
  s->obs = rgm_plan(arena, "environment/obs", RGM_F32, RGM_STATE | RGM_PRIVATE,
                    "replica, environment, obs", "1", R, E, S, 0);
  const struct {
    rgm_tensor *tensor;
    const char *name;
    int64_t rows, width;
  } work[] = {
      {&s->before, "step/before", E, S},
      {&s->seen, "step/seen", E, S},
      {&s->next, "step/next", E, S},
      {&s->act, "step/act", E, D},
      {&s->log_pi, "step/log_pi", E, 0},
      {&s->reward, "step/reward", E, 1},
      {&s->terminated, "step/terminated", E, 1},
      {&s->truncated, "step/truncated", E, 1},
  };
  for (size_t i = 0; i < sizeof work / sizeof *work; i++) {
    *work[i].tensor = rgm_plan(arena, work[i].name, RGM_F32, RGM_SCRATCH, "in group, row, ...", "1",
                               G, work[i].rows, work[i].width, 0);
  }
  s->batch = rgm_plan_batch(run, "batch", G, k->agent.batch, &problem);
  s->act_pass = rgm_plan_pass(arena, "pass/act", G, &s->agent.actor, E, false);
  return RGM_OK;
}


// acts in the environments of n replicas from `first` on, and keeps what came of it
static void gather_step(const rgm_run *run, rgm_stream *stream, const rgm_agent *agent,
                        const rgm_ring *ring, int64_t first, int64_t n, int phase) {
  const sac *s = run->self;
  rgm_stepping step = {
      .state = rgm_slice(s->state, first, n),
      .obs = rgm_slice(s->obs, first, n),
      .next = rgm_slice(s->next, 0, n),
      .reward = rgm_slice(s->reward, 0, n),
      .terminated = rgm_slice(s->terminated, 0, n),
      .truncated = rgm_slice(s->truncated, 0, n),
      .act = rgm_slice(s->act, 0, n),
      .config = rgm_slice(run->env_config, first, n),
      .seeds = agent->own.seeds,
      .clock = agent->own.clock,
      .active = agent->own.active,
      .patient = RGM_RANDOM_PATIENT,
      .noise = RGM_RANDOM_NOISE,
      .steps = run->env->steps(run->env_keys),
      .begin = phase == PHASE_BEGIN,
  };
  if (phase != PHASE_BEGIN) {
    const rgm_tensor before = rgm_slice(s->before, 0, n);
    const rgm_pass pass = rgm_slice_pass(s->act_pass, 0, n);
    rgm_copy(stream, before.data, step.obs.data, rgm_bytes(before));
    rgm_agent_act(stream, agent, &pass, rgm_slice(s->seen, 0, n), step.obs, step.act,
                  rgm_slice(s->log_pi, 0, n),
                  phase == PHASE_START ? RGM_DRAW_UNIFORM : RGM_DRAW_POLICY, 0);
  }
  rgm_env_step(run->env_kernels, stream, &step);
  if (phase != PHASE_BEGIN) {
    const rgm_tensor rows[] = {rgm_slice(s->before, 0, n), step.act, step.reward, step.next,
                               step.terminated};
    rgm_replay_append(stream, ring, rows, (rgm_tensor){0}, agent->own.active);
  }
}


static void enqueue(const rgm_run *run, rgm_stream *stream, int phase) {
  const sac *s = run->self;
  const sac_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, G = s->before.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    const int64_t n = R - first < G ? R - first : G;
    rgm_agent agent;
    rgm_slice_agent(&s->agent, first, n, &agent);
    const rgm_ring ring = rgm_slice_ring(&s->ring, first, n);
    const rgm_batch batch = rgm_slice_batch(&s->batch, n);
    gather_step(run, stream, &agent, &ring, first, n, phase);
    for (int64_t u = 0; u < k->updates && phase >= PHASE_LEARN; u++) {
      const rgm_gather gather = {
          .row = {batch.obs, batch.act, batch.reward, batch.next, batch.terminated},
          .from = &ring,
          .seeds = agent.own.seeds,
          .clock = agent.own.clock,
          .active = agent.own.active,
          .random = RGM_RANDOM_REPLAY,
          .member = (uint32_t)u,
      };
      rgm_replay_gather(stream, &gather);
      const bool looks = phase == PHASE_LOOK && u == k->updates - 1;
      rgm_agent_update(stream, &agent, &batch, (rgm_tensor){0}, (uint32_t)u,
                       looks ? RGM_LEARN | RGM_LOOK : RGM_LEARN);
    }
  }
  if (phase != PHASE_BEGIN) {
    rgm_advance(stream, run->clock, run->active);
  }
}


static void enqueue_start(void *run, rgm_stream *stream) {
  enqueue(run, stream, PHASE_START);
}


static void enqueue_learn(void *run, rgm_stream *stream) {
  enqueue(run, stream, PHASE_LEARN);
}


static void enqueue_look(void *run, rgm_stream *stream) {
  enqueue(run, stream, PHASE_LOOK);
}


static rgm_status sac_init(rgm_run *run) {
  sac *s = run->self;
  RGM_TRY(rgm_agent_init(run, &s->agent));
  enqueue(run, run->stream, PHASE_BEGIN);
  return rgm_sync(run->stream);
}


static rgm_status sac_step(rgm_run *run) {
  const sac_keys *k = rgm_algorithm_keys(run, 0);
  if (run->step < (uint64_t)k->start) {
    rgm_graph(run->stream, 0, enqueue_start, run);
  } else if (rgm_reports_next(run)) {
    rgm_graph(run->stream, 1, enqueue_look, run);
  } else {
    rgm_graph(run->stream, 2, enqueue_learn, run);
  }
  return RGM_OK;
}


static rgm_status sac_report(rgm_run *run) {
  sac *s = run->self;
  RGM_TRY(rgm_judge_report(run, &s->judge, &s->agent));
  return rgm_agent_report(run, &s->agent);
}


static void act_mean(rgm_run *run, rgm_stream *stream, rgm_tensor act, rgm_tensor obs) {
  sac *s = run->self;
  rgm_judge_act(run, &s->judge, &s->agent, stream, act, obs);
}


static int sac_contenders(rgm_run *run, rgm_contender *out, int max) {
  const sac *s = run->self;
  RGM_ASSERT(max > 0);
  *out = (rgm_contender){.name = run->algorithm->name, .act = act_mean, .rows = s->judge.episodes};
  return s->judge.episodes > 0 ? 1 : 0;
}


static double sac_work(const rgm_run *run) {
  const sac_keys *k = rgm_algorithm_keys(run, 0);
  return (double)(run->replicas * k->environments);
}


const rgm_algorithm rgm_sac = {
    .name = "sac",
    .paper = "Haarnoja et al. 2018; Christodoulou 2019",
    .doc = "Soft actor-critic that acts while it learns; classes or tanh-Gaussian actions.",
    .fields = fields,
    .keys_size = sizeof(sac_keys),
    .self_size = sizeof(sac),
    .needs = RGM_NEEDS_ENV,
    .work_unit = "env-steps",
    .work = sac_work,
    .check = sac_check,
    .plan = sac_plan,
    .init = sac_init,
    .step = sac_step,
    .report = sac_report,
    .contenders = sac_contenders,
    .best_metric = "return",
};
