// SPDX-License-Identifier: Apache-2.0
// Learning from a data set alone. cql: conservative Q-learning, Kumar et al. 2020
// (arXiv:2006.04779), CQL(H) of equation 4 on soft actor-critic, with classes exact and with
// continuous actions by samples of known density; with a multiplier where `lagrange` asks.
// sac_offline: the same without the conservative term, which overestimates what the data lack; it
// is there to compare with.

#include "algorithms/judge.h"
#include "engine/transitions.h"

#include <stdlib.h>
#include <string.h>

typedef struct cql_keys {
  rgm_agent_keys agent;
  rgm_push_keys push;
  int64_t judged, holdout;
} cql_keys;

#define KEY(member) offsetof(cql_keys, member)
#define SHARED_FIELDS                                                                             \
  {"judged",                                                                                      \
   RGM_INT,                                                                                       \
   KEY(judged),                                                                                   \
   "episodes",                                                                                    \
   "10",                                                                                          \
   0,                                                                                             \
   10000,                                                                                         \
   NULL,                                                                                          \
   RGM_SHAPE | RGM_PROVENANCE,                                                                    \
   "Where env.name is given: episodes with the policy's mean whose return a report gives."},      \
  {                                                                                               \
    "holdout", RGM_INT, KEY(holdout), "batches", "4", 0, 10000, NULL, RGM_SHAPE | RGM_PROVENANCE, \
        "Batches of validation rows on which a report gives the losses too."                      \
  }

static const rgm_field cql_fields[] = {
    RGM_AGENT_FIELDS,
    RGM_PUSH_FIELDS(cql_keys),
    SHARED_FIELDS,
    {0},
};
static const rgm_field offline_fields[] = {RGM_AGENT_FIELDS, SHARED_FIELDS, {0}};

typedef struct cql {
  rgm_agent agent;
  rgm_judge judge;
  rgm_ring data, holdout;
  rgm_batch batch;   // (G, B, ...)
  rgm_tensor clock0; // (R) u32 zeros: the rows of the holdout are the same ones each time
} cql;

// rows of a batch: what learning draws, and what the holdout draws
enum { MEMBER_TRAIN = 0, MEMBER_HOLDOUT = 1000 };


static bool conservative(const rgm_run *run) {
  return strcmp(run->algorithm->name, "cql") == 0;
}


static rgm_problem problem_of(const rgm_run *run) {
  const rgm_transitions *t = run->transitions;
  return (rgm_problem){
      .obs = t->states,
      .dims = t->actions,
      .choices = (int)t->choices,
      .mean = t->mean,
      .sd = t->sd,
      .act_low = t->act_low,
      .act_high = t->act_high,
  };
}


static rgm_status cql_check(const rgm_run *run) {
  const rgm_problem problem = problem_of(run);
  if (!run->transitions->has_reward) {
    return rgm_fail(RGM_EDATA, "%s: there are no rewards, so only behaviour can be cloned (bc)",
                    run->transitions->path);
  }
  RGM_TRY(rgm_bins_check(run));
  return rgm_agent_check(run, &problem);
}


static rgm_status cql_plan(rgm_run *run) {
  cql *s = run->self;
  const cql_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_problem problem = problem_of(run);
  const int64_t G = rgm_group(run->stream, run->replicas), B = k->agent.batch;
  rgm_agent_plan(run, &s->agent, &problem,
                 conservative(run) ? RGM_PUSH_LOGSUMEXP_MIX : RGM_PUSH_NONE, KEY(push));
  rgm_judge_plan(run, &s->judge, &s->agent, k->judged);
  s->data = rgm_plan_ring(run, "data", RGM_TRAIN, RGM_RING_WHOLE);
  s->holdout = rgm_plan_ring(run, "holdout", RGM_VALIDATION, RGM_RING_WHOLE);
  s->batch = rgm_plan_batch(run, "batch", G, B, &problem);
  s->clock0 = rgm_plan(run->arena, "holdout/clock", RGM_U32, RGM_BLOCK, "replica", "",
                       run->replicas, 0, 0, 0);
  return RGM_OK;
}


static rgm_status cql_init(rgm_run *run) {
  cql *s = run->self;
  RGM_TRY(rgm_judge_init(run, &s->judge));
  return rgm_agent_init(run, &s->agent);
}


// draws a batch for n replicas from `first` on, and learns from it or looks at it
static void update(const rgm_run *run, rgm_stream *stream, int64_t first, int64_t n,
                   const rgm_ring *from, uint32_t member, unsigned what) {
  const cql *s = run->self;
  rgm_agent agent;
  rgm_slice_agent(&s->agent, first, n, &agent);
  const rgm_ring ring = rgm_slice_ring(from, first, n);
  const rgm_batch batch = rgm_slice_batch(&s->batch, n);
  if (member >= MEMBER_HOLDOUT) {
    agent.own.clock = rgm_slice(s->clock0, first, n);
  }
  const rgm_gather gather = {
      .row = {batch.obs, batch.act, batch.reward, batch.next, batch.terminated},
      .from = &ring,
      .seeds = agent.own.seeds,
      .clock = agent.own.clock,
      .active = agent.own.active,
      .random = RGM_RANDOM_REPLAY,
      .member = member,
  };
  rgm_replay_gather(stream, &gather);
  rgm_agent_update(stream, &agent, &batch, (rgm_tensor){0}, member, what);
}


static void enqueue(const rgm_run *run, rgm_stream *stream, unsigned what) {
  const cql *s = run->self;
  const int64_t R = run->replicas, G = s->batch.obs.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    update(run, stream, first, R - first < G ? R - first : G, &s->data, MEMBER_TRAIN, what);
  }
  rgm_advance(stream, run->clock, run->active);
}


static void enqueue_learn(void *run, rgm_stream *stream) {
  enqueue(run, stream, RGM_LEARN);
}


static void enqueue_look(void *run, rgm_stream *stream) {
  enqueue(run, stream, RGM_LEARN | RGM_LOOK);
}


static rgm_status cql_step(rgm_run *run) {
  if (rgm_reports_next(run)) {
    rgm_graph(run->stream, 0, enqueue_look, run);
  } else {
    rgm_graph(run->stream, 1, enqueue_learn, run);
  }
  return RGM_OK;
}


// mean losses over the holdout's batches
static rgm_status report_holdout(rgm_run *run) {
  cql *s = run->self;
  const cql_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, G = s->batch.obs.dims[0];
  if (k->holdout == 0 || s->holdout.column[0].dims[1] == 0) {
    return RGM_OK;
  }
  const struct {
    const char *name;
    rgm_tensor tensor;
  } rows[] = {{"holdout_critic_loss", s->agent.own.critic_loss},
              {"holdout_gap", s->agent.own.gap},
              {"holdout_q_mean", s->agent.own.value},
              {"holdout_actor_loss", s->agent.own.actor_loss}};
  enum { ROWS = sizeof rows / sizeof *rows };
  float *values = calloc((size_t)(ROWS + 1) * (size_t)R, sizeof *values), *one = values + ROWS * R;
  rgm_status status =
      values != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the report of the holdout");
  for (int64_t i = 0; i < k->holdout && status == RGM_OK; i++) {
    for (int64_t first = 0; first < R; first += G) {
      update(run, run->stream, first, R - first < G ? R - first : G, &s->holdout,
             MEMBER_HOLDOUT + (uint32_t)i, RGM_LOOK);
    }
    for (int m = 0; m < ROWS && status == RGM_OK; m++) {
      status = rgm_read_back(run, rows[m].tensor, one);
      for (int64_t r = 0; r < R; r++) {
        values[m * R + r] += one[r] / (float)k->holdout;
      }
    }
  }
  for (int m = 0; m < ROWS && status == RGM_OK; m++) {
    if (m != 1 || s->agent.push != RGM_PUSH_NONE) {
      status = rgm_report(run, rows[m].name, "1", values + m * R);
    }
  }
  free(values);
  return status;
}


static rgm_status cql_report(rgm_run *run) {
  cql *s = run->self;
  RGM_TRY(rgm_judge_report(run, &s->judge, &s->agent));
  RGM_TRY(rgm_agent_report(run, &s->agent));
  return report_holdout(run);
}


static void act_mean(rgm_run *run, rgm_stream *stream, rgm_tensor act, rgm_tensor obs) {
  cql *s = run->self;
  rgm_judge_act(run, &s->judge, &s->agent, stream, act, obs);
}


static int cql_contenders(rgm_run *run, rgm_contender *out, int max) {
  const cql *s = run->self;
  RGM_ASSERT(max > 0);
  *out = (rgm_contender){.name = run->algorithm->name, .act = act_mean, .rows = s->judge.episodes};
  return s->judge.episodes > 0 ? 1 : 0;
}


static double cql_work(const rgm_run *run) {
  return (double)run->replicas;
}


const rgm_algorithm rgm_cql = {
    .name = "cql",
    .paper = "Kumar et al. 2020",
    .doc = "Conservative Q-learning, CQL(H), from a data set; classes or continuous actions.",
    .fields = cql_fields,
    .keys_size = sizeof(cql_keys),
    .self_size = sizeof(cql),
    .needs = RGM_NEEDS_DATASET | RGM_TAKES_ENV,
    .work_unit = "updates",
    .work = cql_work,
    .check = cql_check,
    .plan = cql_plan,
    .init = cql_init,
    .step = cql_step,
    .report = cql_report,
    .contenders = cql_contenders,
};

const rgm_algorithm rgm_sac_offline = {
    .name = "sac_offline",
    .paper = "Haarnoja et al. 2018",
    .doc = "Soft actor-critic from a data set, without any caution; to compare with.",
    .fields = offline_fields,
    .keys_size = sizeof(cql_keys),
    .self_size = sizeof(cql),
    .needs = RGM_NEEDS_DATASET | RGM_TAKES_ENV,
    .work_unit = "updates",
    .work = cql_work,
    .check = cql_check,
    .plan = cql_plan,
    .init = cql_init,
    .step = cql_step,
    .report = cql_report,
    .contenders = cql_contenders,
};
