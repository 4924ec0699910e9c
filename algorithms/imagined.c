// SPDX-License-Identifier: Apache-2.0
// Agents that learn from data and from what a learned model imagines. See imagined.h.

#include "algorithms/imagined.h"

#include <math.h>
#include <stdlib.h>

const char *const rgm_imagined_terminations[] = {"none", "box", NULL};

enum {
  FEW_ROWS = 32,  // of a net, so that the nets of a model go forwards at once
  SLOT_EPOCH = 0, // and the next one
  SLOT_ROLLOUT = 2,
  SLOT_UPDATE = 3,
  SLOT_LOOK = 4,        // RGM_IMAGINED_SLOTS of them
  DRAW_STARTS = 0x4000, // member of the draw of starts, and of actions at step 0 of a rollout
};


rgm_problem rgm_data_problem(const rgm_run *run) {
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


uint64_t rgm_imagined_before(const rgm_run *run) {
  const rgm_imagined *s = run->self;
  return first_steps(run) + s->between;
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
  const rgm_problem problem = rgm_data_problem(run);
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


rgm_dream rgm_plan_dream(rgm_run *run, const rgm_imagined *s, const char *name, int64_t b) {
  const int64_t G = rgm_group(run->stream, run->replicas), E = s->ensemble.elite.count;
  const int64_t S = s->agent.problem.obs, D = s->agent.problem.dims, I = s->ensemble.inputs;
  const int64_t C = s->doubt != RGM_DOUBT_NONE ? b : (b + E - 1) / E;
  rgm_dream d;
  const struct {
    rgm_tensor *tensor;
    const char *name;
    int64_t d1, d2, d3;
  } work[] = {
      {&d.state[0], "state/0", b, S, 0},
      {&d.state[1], "state/1", b, S, 0},
      {&d.seen, "seen", b, S, 0},
      {&d.act, "act", b, D, 0},
      {&d.log_pi, "log_pi", b, 0, 0},
      {&d.x, "x", b, I, 0},
      {&d.routed, "routed", E, C, I},
      {&d.reward, "reward", b, 1, 0},
      {&d.terminated, "terminated", b, 1, 0},
      {&d.alive, "alive", b, 0, 0},
      {&d.keep, "keep", b, 0, 0},
      {&d.doubts, "doubt", b, 0, 0},
  };
  char part[64];
  for (size_t i = 0; i < sizeof work / sizeof *work; i++) {
    snprintf(part, sizeof part, "%s/%s", name, work[i].name);
    *work[i].tensor = rgm_plan(run->arena, part, RGM_F32, RGM_SCRATCH, "in group, row, ...", "1", G,
                               work[i].d1, work[i].d2, work[i].d3);
  }
  snprintf(part, sizeof part, "%s/ones", name);
  d.ones = rgm_plan(run->arena, part, RGM_F32, RGM_BLOCK, "in group, row", "1", G, b, 0, 0);
  snprintf(part, sizeof part, "%s/pass", name);
  d.act_pass = rgm_plan_pass(run->arena, part, G, &s->agent.actor, b, false);
  snprintf(part, sizeof part, "%s/model", name);
  d.model_pass = rgm_plan_pass(run->arena, part, G, &s->ensemble.elite, C,
                               C <= FEW_ROWS ? RGM_AT_ONCE : RGM_NO_WAY_BACK);
  return d;
}


rgm_status rgm_imagined_plan(rgm_run *run, rgm_push push, rgm_doubt doubt) {
  rgm_imagined *s = run->self;
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_problem problem = rgm_data_problem(run);
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
  s->batch = rgm_plan_batch(run, "batch", rgm_group(run->stream, R), k->agent.batch, &problem);
  s->dream = rgm_plan_dream(run, s, "rollout", k->rollouts);
  return RGM_OK;
}


rgm_status rgm_imagined_init(rgm_run *run) {
  rgm_imagined *s = run->self;
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, S = s->agent.problem.obs;
  RGM_TRY(rgm_agent_init(run, &s->agent));
  RGM_TRY(rgm_judge_init(run, &s->judge));
  RGM_TRY(rgm_ensemble_init(run, &s->ensemble));
  RGM_TRY(rgm_put_number(run, s->dream.ones, 1.0f));
  uint32_t *real = malloc((size_t)R * sizeof *real);
  if (real == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)R);
  }
  for (int64_t r = 0; r < R; r++) {
    const rgm_imagined_keys *own = rgm_algorithm_keys(run, r);
    real[r] = (uint32_t)floor(own->real * (double)k->agent.batch + 0.5);
  }
  rgm_copy(run->stream, s->real.data, real, rgm_bytes(s->real));
  float box[2 * RGM_LIST_SIZE];
  for (int64_t i = 0; i < 2 * S && s->box.data != NULL; i++) {
    box[i] = (float)(i < S ? k->box_low.value[i] : k->box_high.value[i - S]);
  }
  if (s->box.data != NULL) {
    rgm_copy(run->stream, s->box.data, box, (size_t)(2 * S) * sizeof *box);
  }
  const rgm_status status = rgm_sync(run->stream);
  free(real);
  return status;
}


// ---- rollouts ----------------------------------------------------------------------------------

static rgm_dream slice_dream(const rgm_dream *whole, int64_t n) {
  rgm_dream d = *whole;
  rgm_tensor *const all[] = {&d.ones,   &d.state[0], &d.state[1], &d.seen,   &d.act,
                             &d.log_pi, &d.x,        &d.routed,   &d.reward, &d.terminated,
                             &d.alive,  &d.keep,     &d.doubts};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    *all[i] = rgm_slice(*all[i], 0, n);
  }
  d.act_pass = rgm_slice_pass(d.act_pass, 0, n);
  d.model_pass = rgm_slice_pass(d.model_pass, 0, n);
  return d;
}


void rgm_dreamer_of(const rgm_run *run, const rgm_dream *dream, int64_t first, int64_t n,
                    rgm_dreamer *out) {
  const rgm_imagined *s = run->self;
  out->dream = slice_dream(dream, n);
  rgm_slice_agent(&s->agent, first, n, &out->agent);
  rgm_slice_ensemble(&s->ensemble, first, n, &out->ensemble);
  out->box = rgm_slice_optional(s->box, 0, n);
  out->weight = rgm_slice(s->weight, first, n);
  out->doubt = s->doubt;
  out->draw = RGM_DRAW_POLICY;
  out->random = 0;
}


void rgm_dream_begin(rgm_stream *stream, const rgm_dreamer *d, const rgm_ring *starts) {
  rgm_ring states = *starts;
  states.columns = 1;
  const rgm_gather gather = {
      .row = {d->dream.state[0]},
      .from = &states,
      .seeds = d->agent.own.seeds,
      .clock = d->agent.own.clock,
      .active = d->agent.own.active,
      .random = RGM_RANDOM_REPLAY + d->random,
      .member = DRAW_STARTS,
  };
  rgm_replay_gather(stream, &gather);
  rgm_copy(stream, d->dream.alive.data, d->dream.ones.data, rgm_bytes(d->dream.alive));
}


void rgm_dream_step(rgm_stream *stream, const rgm_dreamer *d, uint32_t h) {
  const rgm_dream *room = &d->dream;
  const rgm_ensemble *e = &d->ensemble;
  const rgm_tensor state = room->state[h % 2];
  const bool all = d->doubt != RGM_DOUBT_NONE;
  const rgm_agent *agent = &d->agent;
  const rgm_model_step step = {
      .next = room->state[(h + 1) % 2],
      .reward = room->reward,
      .terminated = room->terminated,
      .doubt = room->doubts,
      .alive = room->alive,
      .keep = room->keep,
      .head = room->model_pass.out,
      .bounds = e->elite_bounds,
      .state = state,
      .scale = e->scale,
      .range = e->range,
      .hold = e->hold,
      .box = d->box,
      .weight = d->weight,
      .active = agent->own.active,
      .routing = {agent->own.seeds, agent->own.clock, RGM_RANDOM_MODEL + d->random, h},
      .kind = d->doubt,
  };
  rgm_agent_act(stream, agent, &room->act_pass, room->seen, state, room->act, room->log_pi, d->draw,
                DRAW_STARTS + h);
  rgm_concat(stream, room->x, state, room->act, agent->problem.choices);
  rgm_normalise(stream, room->x, room->x, e->input_mean, e->input_sd, false);
  if (!all) {
    rgm_route(stream, room->routed, room->x, &step.routing);
  }
  rgm_forward(stream, &e->elite, false, all ? room->x : room->routed, &room->model_pass);
  rgm_model(stream, &step);
}


static void enqueue_rollout(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const rgm_imagined *s = run->self;
  const rgm_imagined_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, G = s->dream.ones.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    const int64_t n = R - first < G ? R - first : G;
    rgm_dreamer d;
    rgm_dreamer_of(run, &s->dream, first, n, &d);
    const rgm_ring ring = rgm_slice_ring(&s->model, first, n);
    const rgm_ring starts = rgm_slice_ring(&s->data, first, n);
    rgm_dream_begin(stream, &d, &starts);
    for (uint32_t h = 0; h < (uint32_t)k->horizon; h++) {
      const rgm_tensor *state = d.dream.state;
      const rgm_tensor rows[] = {state[h % 2], d.dream.act, d.dream.reward, state[(h + 1) % 2],
                                 d.dream.terminated};
      rgm_dream_step(stream, &d, h);
      rgm_replay_append(stream, &ring, rows, d.dream.keep, d.agent.own.active);
      if (s->dreamt != NULL) {
        s->dreamt(run, stream, &d, first, h);
      }
    }
  }
}


// ---- updates -----------------------------------------------------------------------------------

static void update(const rgm_run *run, rgm_stream *stream, unsigned what) {
  const rgm_imagined *s = run->self;
  const int64_t R = run->replicas, G = s->dream.ones.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    const int64_t n = R - first < G ? R - first : G;
    rgm_agent agent;
    rgm_slice_agent(&s->agent, first, n, &agent);
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
  const uint64_t model = first_steps(run), before = model + s->between;

  // another run's ensemble is read once: whoever goes on, or is evaluated, has it
  if (run->step == 0 && k->model[0] != '\0') {
    RGM_TRY(rgm_ensemble_load(run, &s->ensemble, k->model));
  }
  if (run->step < model) {
    RGM_TRY(rgm_ensemble_epoch(run, &s->ensemble, SLOT_EPOCH));
    rgm_advance(run->stream, run->clock, run->active);
    return RGM_OK;
  }
  if (run->step < before) {
    return s->prepare(run);
  }
  if ((run->step - before) % (uint64_t)k->every == 0) {
    rgm_graph(run->stream, SLOT_ROLLOUT, enqueue_rollout, run);
    if (s->rolled != NULL) {
      s->rolled(run);
    }
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
