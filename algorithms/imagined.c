// SPDX-License-Identifier: Apache-2.0
// Agents that learn from data and from what a learned model imagines. See imagined.h.

#include "algorithms/imagined.h"

#include <math.h>
#include <stdlib.h>

const char *const rgm_imagined_terminations[] = {"none", "box", NULL};

enum {
  SLOT_EPOCH = 0, // and the next one
  SLOT_ROLLOUT = 2,
  SLOT_UPDATE = 3,
  SLOT_LOOK = 4,
  DRAW_STARTS = 0x4000, // member of the draw of starts, and of actions at step 0 of a rollout
};


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


// steps of the run that train the ensemble
static uint64_t first_steps(const rgm_run *run) {
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  return k->model[0] != '\0' ? 0 : (uint64_t)k->dynamics_steps;
}


// ---- keys --------------------------------------------------------------------------------------

static rgm_status check_box(const rgm_run *run, const rgm_imagined_keys *k) {
  const int states = run->transitions->states;
  for (int i = 0; i < 2; i++) {
    const int count = i == 0 ? k->box_low.count : k->box_high.count;
    const char *key = i == 0 ? "algorithm.box_low" : "algorithm.box_high";
    if (count != states) {
      return rgm_fail(RGM_ECONFIG, "%s: %s: %d values for %d states",
                      rgm_config_where(run->config, key), key, count, states);
    }
  }
  for (int i = 0; i < states; i++) {
    if (!(k->box_low.value[i] < k->box_high.value[i])) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: algorithm.box_low: value %d, %g, is not below box_high's, %g",
                      rgm_config_where(run->config, "algorithm.box_low"), i + 1,
                      k->box_low.value[i], k->box_high.value[i]);
    }
  }
  return RGM_OK;
}


rgm_status rgm_imagined_check(const rgm_run *run) {
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_problem problem = problem_of(run);
  if (k->push_kind == RGM_PUSH_RHO_EXPECT && problem.choices == 0) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.push: rho_expect sums over classes of actions, and those of %s "
                    "are continuous; use rho_sample, logsumexp_model or logsumexp_mix",
                    rgm_config_where(run->config, "algorithm.push"), run->data.path);
  }
  if (k->termination == 1) {
    RGM_TRY(check_box(run, k));
  }
  RGM_TRY(rgm_ensemble_check(run, RGM_IMAGINED_KEY(dynamics)));
  RGM_TRY(rgm_bins_check(run));
  return rgm_agent_check(run, &problem);
}


// ---- planning ----------------------------------------------------------------------------------

static void plan_model_ring(rgm_run *run, rgm_imagined *s, int64_t rows) {
  static const char *const names[] = {"model/obs", "model/act", "model/reward", "model/next",
                                      "model/terminated"};
  const int64_t S = s->agent.problem.obs, width[] = {S, s->agent.problem.dims, 1, S, 1};
  const unsigned flags = RGM_STATE | RGM_PRIVATE;
  for (int k = 0; k < RGM_BATCH_COLUMNS; k++) {
    s->model.column[k] = rgm_plan(run->arena, names[k], RGM_F32, flags, "replica, row, ...", "1",
                                  run->replicas, rows, width[k], 0);
  }
  s->model.columns = RGM_BATCH_COLUMNS;
  s->model.head =
      rgm_plan(run->arena, "model/head", RGM_U32, flags, "replica", "rows", run->replicas, 0, 0, 0);
  s->model.count = rgm_plan(run->arena, "model/count", RGM_U32, flags, "replica", "rows",
                            run->replicas, 0, 0, 0);
}


// what a group of replicas works with: batches of B rows, rollouts of b
static void plan_group(rgm_run *run, rgm_imagined *s, const rgm_imagined_keys *k) {
  const int64_t G = rgm_group(run->stream, run->replicas), b = k->rollouts;
  const int64_t S = s->agent.problem.obs, D = s->agent.problem.dims;
  const int64_t E = k->dynamics.elites, I = s->ensemble.inputs;
  const int64_t C = s->doubt != RGM_DOUBT_NONE ? b : (b + E - 1) / E;
  const struct {
    rgm_tensor *tensor;
    const char *name;
    int64_t d1, d2, d3;
  } work[] = {
      {&s->state[0], "rollout/state/0", b, S, 0},
      {&s->state[1], "rollout/state/1", b, S, 0},
      {&s->seen, "rollout/seen", b, S, 0},
      {&s->act, "rollout/act", b, D, 0},
      {&s->log_pi, "rollout/log_pi", b, 0, 0},
      {&s->x, "rollout/x", b, I, 0},
      {&s->routed, "rollout/routed", E, C, I},
      {&s->reward, "rollout/reward", b, 1, 0},
      {&s->terminated, "rollout/terminated", b, 1, 0},
      {&s->alive, "rollout/alive", b, 0, 0},
      {&s->keep, "rollout/keep", b, 0, 0},
      {&s->doubts, "rollout/doubt", b, 0, 0},
  };
  for (size_t i = 0; i < sizeof work / sizeof *work; i++) {
    *work[i].tensor = rgm_plan(run->arena, work[i].name, RGM_F32, RGM_SCRATCH, "in group, row, ...",
                               "1", G, work[i].d1, work[i].d2, work[i].d3);
  }
  s->batch = rgm_plan_batch(run, "batch", G, k->agent.batch, &s->agent.problem);
  s->ones =
      rgm_plan(run->arena, "rollout/ones", RGM_F32, RGM_BLOCK, "in group, row", "1", G, b, 0, 0);
  s->act_pass = rgm_plan_pass(run->arena, "rollout/pass", G, &s->agent.actor, b, false);
  s->model_pass = rgm_plan_pass(run->arena, "rollout/model", G, &s->ensemble.elite, C, false);
}


rgm_status rgm_imagined_plan(rgm_run *run, rgm_push push, rgm_doubt doubt) {
  rgm_imagined *s = run->self;
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_problem problem = problem_of(run);
  const int64_t R = run->replicas, S = problem.obs;
  s->doubt = doubt;
  rgm_agent_plan(run, &s->agent, &problem, push, RGM_IMAGINED_KEY(push));
  rgm_ensemble_plan(run, &s->ensemble, RGM_IMAGINED_KEY(dynamics));
  rgm_judge_plan(run, &s->judge, &s->agent, k->judged);
  s->data = rgm_plan_ring(run, "data", RGM_TRAIN, RGM_RING_WHOLE);
  plan_model_ring(run, s, k->retain * k->rollouts * k->horizon);
  s->real = rgm_plan(run->arena, "real", RGM_U32, RGM_BLOCK, "replica", "rows", R, 0, 0, 0);
  s->weight = rgm_plan_hyper(run, "doubt_weight", RGM_IMAGINED_KEY(doubt_weight));
  if (k->termination == 1) {
    const rgm_tensor box =
        rgm_plan(run->arena, "box", RGM_F32, RGM_BLOCK, "one, low or high, state", "", 1, 2, S, 0);
    s->box = rgm_view(box.data, RGM_F32, R, 2, S, 0);
    s->box.stride0 = 0;
  }
  plan_group(run, s, k);
  return RGM_OK;
}


rgm_status rgm_imagined_init(rgm_run *run) {
  rgm_imagined *s = run->self;
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, S = s->agent.problem.obs, ones = rgm_elements(s->ones);
  RGM_TRY(rgm_agent_init(run, &s->agent));
  RGM_TRY(rgm_judge_init(run, &s->judge));
  RGM_TRY(rgm_ensemble_init(run, &s->ensemble));
  uint32_t *real = malloc((size_t)R * sizeof *real);
  float *one = malloc((size_t)ones * sizeof *one), box[2 * RGM_LIST_SIZE];
  rgm_status status = RGM_OK;
  if (real == NULL || one == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)R);
  } else {
    for (int64_t r = 0; r < R; r++) {
      const rgm_imagined_keys *own = rgm_algorithm_keys(run, r);
      real[r] = (uint32_t)floor(own->real * (double)k->agent.batch + 0.5);
    }
    for (int64_t i = 0; i < ones; i++) {
      one[i] = 1.0f;
    }
    for (int64_t i = 0; i < 2 * S && s->box.data != NULL; i++) {
      box[i] = (float)(i < S ? k->box_low.value[i] : k->box_high.value[i - S]);
    }
    rgm_copy(run->stream, s->real.data, real, rgm_bytes(s->real));
    rgm_copy(run->stream, s->ones.data, one, rgm_bytes(s->ones));
    if (s->box.data != NULL) {
      rgm_copy(run->stream, s->box.data, box, (size_t)(2 * S) * sizeof *box);
    }
    status = rgm_sync(run->stream);
  }
  free(real);
  free(one);
  return status;
}


// ---- rollouts ----------------------------------------------------------------------------------

// a step of the imagined trajectories of n replicas from `first` on
static void imagine_step(const rgm_run *run, rgm_stream *stream, const rgm_agent *agent,
                         const rgm_ensemble *e, const rgm_ring *ring, int64_t first, int64_t n,
                         uint32_t h) {
  const rgm_imagined *s = run->self;
  const rgm_tensor state = rgm_slice(s->state[h % 2], 0, n);
  const rgm_tensor next = rgm_slice(s->state[(h + 1) % 2], 0, n);
  const rgm_tensor act = rgm_slice(s->act, 0, n), x = rgm_slice(s->x, 0, n);
  const rgm_tensor routed = rgm_slice(s->routed, 0, n), keep = rgm_slice(s->keep, 0, n);
  const rgm_pass act_pass = rgm_slice_pass(s->act_pass, 0, n);
  const rgm_pass pass = rgm_slice_pass(s->model_pass, 0, n);
  const bool all = s->doubt != RGM_DOUBT_NONE;
  const rgm_model_step step = {
      .next = next,
      .reward = rgm_slice(s->reward, 0, n),
      .terminated = rgm_slice(s->terminated, 0, n),
      .doubt = rgm_slice(s->doubts, 0, n),
      .alive = rgm_slice(s->alive, 0, n),
      .keep = keep,
      .head = pass.out,
      .bounds = e->elite_bounds,
      .state = state,
      .scale = e->scale,
      .range = e->range,
      .hold = e->hold,
      .box = rgm_slice_optional(s->box, 0, n),
      .weight = rgm_slice(s->weight, first, n),
      .active = agent->own.active,
      .routing = {agent->own.seeds, agent->own.clock, RGM_RANDOM_MODEL, h},
      .kind = s->doubt,
  };
  rgm_agent_act(stream, agent, &act_pass, rgm_slice(s->seen, 0, n), state, act,
                rgm_slice(s->log_pi, 0, n), RGM_DRAW_POLICY, DRAW_STARTS + h);
  rgm_concat(stream, x, state, act, agent->problem.choices);
  rgm_normalise(stream, x, x, e->input_mean, e->input_sd, false);
  if (!all) {
    rgm_route(stream, routed, x, &step.routing);
  }
  rgm_forward(stream, &e->elite, false, all ? x : routed, &pass);
  rgm_model(stream, &step);
  const rgm_tensor rows[] = {state, act, step.reward, next, step.terminated};
  rgm_replay_append(stream, ring, rows, keep, agent->own.active);
}


static void enqueue_rollout(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const rgm_imagined *s = run->self;
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, G = s->ones.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    const int64_t n = R - first < G ? R - first : G;
    const rgm_agent agent = rgm_slice_agent(&s->agent, first, n);
    const rgm_ensemble e = rgm_slice_ensemble(&s->ensemble, first, n);
    const rgm_ring ring = rgm_slice_ring(&s->model, first, n);
    rgm_ring starts = rgm_slice_ring(&s->data, first, n);
    starts.columns = 1;
    const rgm_gather gather = {
        .row = {rgm_slice(s->state[0], 0, n)},
        .from = &starts,
        .seeds = agent.own.seeds,
        .clock = agent.own.clock,
        .active = agent.own.active,
        .random = RGM_RANDOM_REPLAY,
        .member = DRAW_STARTS,
    };
    rgm_replay_gather(stream, &gather);
    const rgm_tensor alive = rgm_slice(s->alive, 0, n);
    rgm_copy(stream, alive.data, s->ones.data, rgm_bytes(alive));
    for (int64_t h = 0; h < k->horizon; h++) {
      imagine_step(run, stream, &agent, &e, &ring, first, n, (uint32_t)h);
    }
  }
}


// ---- updates -----------------------------------------------------------------------------------

static void update(const rgm_run *run, rgm_stream *stream, unsigned what) {
  const rgm_imagined *s = run->self;
  const int64_t R = run->replicas, G = s->ones.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    const int64_t n = R - first < G ? R - first : G;
    const rgm_agent agent = rgm_slice_agent(&s->agent, first, n);
    const rgm_ring data = rgm_slice_ring(&s->data, first, n);
    const rgm_ring model = rgm_slice_ring(&s->model, first, n);
    const rgm_tensor real = rgm_slice(s->real, first, n);
    const rgm_batch batch = rgm_slice_batch(&s->batch, n);
    const rgm_gather gather = {
        .row = {batch.obs, batch.act, batch.reward, batch.next, batch.terminated},
        .from = &data,
        .other = &model,
        .share = real,
        .seeds = agent.own.seeds,
        .clock = agent.own.clock,
        .active = agent.own.active,
        .random = RGM_RANDOM_REPLAY,
    };
    rgm_replay_gather(stream, &gather);
    if (s->relabel != NULL) {
      s->relabel(run, stream, first, n, &batch);
    }
    rgm_agent_update(stream, &agent, &batch, real, 0, what);
  }
  rgm_advance(stream, run->clock, run->active);
}


static void enqueue_update(void *run, rgm_stream *stream) {
  update(run, stream, RGM_LEARN);
}


static void enqueue_look(void *run, rgm_stream *stream) {
  update(run, stream, RGM_LEARN | RGM_LOOK);
}


rgm_status rgm_imagined_step(rgm_run *run) {
  rgm_imagined *s = run->self;
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const uint64_t before = first_steps(run);

  // another run's ensemble is read once: whoever goes on, or is evaluated, has it
  if (run->step == 0 && k->model[0] != '\0') {
    RGM_TRY(rgm_ensemble_load(run, &s->ensemble, k->model));
  }
  if (run->step < before) {
    RGM_TRY(rgm_ensemble_epoch(run, &s->ensemble, SLOT_EPOCH));
    rgm_advance(run->stream, run->clock, run->active);
    return RGM_OK;
  }
  if ((run->step - before) % (uint64_t)k->every == 0) {
    rgm_graph(run->stream, SLOT_ROLLOUT, enqueue_rollout, run);
  }
  if (rgm_reports_next(run)) {
    rgm_graph(run->stream, SLOT_LOOK, enqueue_look, run);
  } else {
    rgm_graph(run->stream, SLOT_UPDATE, enqueue_update, run);
  }
  return RGM_OK;
}


// ---- reports -----------------------------------------------------------------------------------

// how many imagined rows there are
static rgm_status report_rows(rgm_run *run, const rgm_imagined *s) {
  const int64_t R = run->replicas;
  uint32_t *count = malloc((size_t)R * sizeof *count);
  float *values = malloc((size_t)R * sizeof *values);
  rgm_status status = count != NULL && values != NULL ? rgm_read_back(run, s->model.count, count)
                                                      : rgm_fail(RGM_EMEMORY, "no memory");
  for (int64_t r = 0; r < R && status == RGM_OK; r++) {
    values[r] = (float)count[r];
  }
  status = status == RGM_OK ? rgm_report(run, "model_rows", "rows", values) : status;
  free(count);
  free(values);
  return status;
}


rgm_status rgm_imagined_report(rgm_run *run) {
  rgm_imagined *s = run->self;
  RGM_TRY(rgm_judge_report(run, &s->judge, &s->agent));
  RGM_TRY(rgm_agent_report(run, &s->agent));
  RGM_TRY(rgm_ensemble_report(run, &s->ensemble, false));
  return report_rows(run, s);
}


double rgm_imagined_work(const rgm_run *run) {
  return (double)run->replicas;
}


static void act_mean(rgm_run *run, rgm_stream *stream, rgm_tensor act, rgm_tensor obs) {
  rgm_imagined *s = run->self;
  rgm_judge_act(run, &s->judge, &s->agent, stream, act, obs);
}


int rgm_imagined_contenders(rgm_run *run, rgm_contender *out, int max) {
  const rgm_imagined *s = run->self;
  RGM_ASSERT(max > 0);
  *out = (rgm_contender){.name = run->algorithm->name, .act = act_mean, .rows = s->judge.episodes};
  return s->judge.episodes > 0 ? 1 : 0;
}
