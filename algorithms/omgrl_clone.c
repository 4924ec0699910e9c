// SPDX-License-Identifier: Apache-2.0
// The behaviour clone of OMG-RL, which gives experts' actions a density. With `clone_patience` it
// is looked at on all validation rows now and then; a replica whose loss there has not become less
// for so many looks stops, and each goes on with the weights of its least loss.

#include "algorithms/omgrl.h"

#include <float.h>
#include <stdlib.h>

enum {
  SLOT_CLONE = RGM_IMAGINED_SLOTS + 1, // beside that of the reward
  SLOT_LOOK,
  DRAW_CLONE = 0x5000, // members of the draws of its rows
  LOOK_ROWS = 256,
};

static const rgm_tensor none;


// ---- planning ----------------------------------------------------------------------------------

static rgm_tensor plan_own(rgm_run *run, const char *name, rgm_dtype dtype, unsigned flags) {
  return rgm_plan(run->arena, name, dtype, flags, "replica", "1", run->replicas, 0, 0, 0);
}


void rgm_omgrl_plan_clone(rgm_run *run) {
  rgm_omgrl *s = run->self;
  const int64_t V = run->transitions->part[RGM_VALIDATION];
  const int64_t G = rgm_group(run->stream, run->replicas);
  s->stops = ((const rgm_omgrl_keys *)rgm_algorithm_keys(run, 0))->clone_patience > 0;
  if (!s->stops) {
    return;
  }
  s->clone_best = rgm_plan_mlp(run->arena, "clone/best", run->replicas, s->clone.net[0].layers,
                               s->clone.net[0].width, RGM_STATE);
  s->clone_least = plan_own(run, "clone/least", RGM_F32, RGM_STATE);
  s->clone_stale = plan_own(run, "clone/stale", RGM_U32, RGM_STATE);
  s->clone_active = plan_own(run, "clone/active", RGM_U32, RGM_STATE);
  s->clone_valid = plan_own(run, "clone/validation_loss", RGM_F32, RGM_BLOCK);
  s->clone_held = rgm_plan_ring(run, "clone/validation", RGM_VALIDATION,
                                1u << RGM_RING_OBS | 1u << RGM_RING_ACTION);
  s->look_obs = rgm_plan(run->arena, "clone/look/obs", RGM_F32, RGM_SCRATCH, "in group, row, obs",
                         "1", G, LOOK_ROWS, s->imagined.agent.problem.obs, 0);
  s->look_log = rgm_plan(run->arena, "clone/look/log_pi", RGM_F32, RGM_SCRATCH, "in group, row",
                         "nat", G, V, 0, 0);
  s->look_pass =
      rgm_plan_pass(run->arena, "pass/clone_look", G, &s->clone, LOOK_ROWS, RGM_NO_WAY_BACK);
}


rgm_status rgm_omgrl_init_clone(rgm_run *run) {
  const rgm_omgrl *s = run->self;
  if (!s->stops) {
    return RGM_OK;
  }
  rgm_copy(run->stream, s->clone_best.block.data, s->clone.net[0].block.data,
           rgm_bytes(s->clone_best.block));
  rgm_copy(run->stream, s->clone_active.data, run->active.data, rgm_bytes(s->clone_active));
  return rgm_put_number(run, s->clone_least, FLT_MAX);
}


// ---- updates -----------------------------------------------------------------------------------

// a batch of experts' rows for n replicas from `first` on, and a step down -mean log pi
static void teach_clone(const rgm_run *run, rgm_stream *stream, int64_t first, int64_t n) {
  const rgm_omgrl *s = run->self;
  rgm_agent agent;
  rgm_slice_agent(&s->imagined.agent, first, n, &agent);
  rgm_nets clone;
  rgm_slice_nets(&s->clone, first, n, &clone);
  const rgm_pass pass = rgm_slice_pass(s->train_pass, 0, n);
  const rgm_tensor obs = rgm_slice(s->train_obs, 0, n), act = rgm_slice(s->train_act, 0, n);
  const rgm_tensor slope = rgm_slice(s->train_slope, 0, n), log_pi = rgm_slice(s->train_log, 0, n);
  const rgm_tensor active = s->stops ? rgm_slice(s->clone_active, first, n) : agent.own.active;
  rgm_ring ring = rgm_slice_ring(&s->imagined.data, first, n);
  ring.columns = 2;
  const rgm_gather gather = {
      .row = {obs, act},
      .from = &ring,
      .seeds = agent.own.seeds,
      .clock = clone.updates[0],
      .active = active,
      .random = RGM_RANDOM_REPLAY,
      .member = DRAW_CLONE,
  };
  rgm_replay_gather(stream, &gather);
  rgm_normalise(stream, obs, obs, agent.own.mean, agent.own.sd, false);
  rgm_forward(stream, &clone, false, obs, &pass);
  const rgm_policy_draw given = rgm_omgrl_density(&agent, rgm_of_net(pass.out, 0), act, log_pi);
  rgm_action_score(stream, rgm_of_net(slope, 0), &given);
  rgm_sum(stream, rgm_slice(s->clone_loss, first, n), log_pi, -1.0f / (float)obs.dims[1]);
  const rgm_descent step = {
      .lr = rgm_slice(s->clone_lr, first, n),
      .beta1 = agent.own.beta1,
      .beta2 = agent.own.beta2,
      .eps = agent.own.eps,
      .active = active,
  };
  rgm_backward(stream, &clone, obs, &pass, slope, none, &step);
}


static void enqueue_clone(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const rgm_omgrl *s = run->self;
  const int64_t R = run->replicas, G = s->train_obs.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    teach_clone(run, stream, first, R - first < G ? R - first : G);
  }
  rgm_advance(stream, run->clock, run->active);
}


// ---- looks -------------------------------------------------------------------------------------

// -mean log pi of n replicas from `first` on over all validation rows
static void look_group(const rgm_run *run, rgm_stream *stream, int64_t first, int64_t n) {
  const rgm_omgrl *s = run->self;
  const int64_t V = run->transitions->part[RGM_VALIDATION];
  rgm_agent agent;
  rgm_slice_agent(&s->imagined.agent, first, n, &agent);
  rgm_nets clone;
  rgm_slice_nets(&s->clone, first, n, &clone);
  const rgm_ring ring = rgm_slice_ring(&s->clone_held, first, n);
  const rgm_tensor log_pi = rgm_slice(s->look_log, 0, n);
  for (int64_t at = 0; at < V; at += LOOK_ROWS) {
    const int64_t rows = V - at < LOOK_ROWS ? V - at : LOOK_ROWS;
    const rgm_tensor seen = rgm_rows(rgm_slice(s->look_obs, 0, n), 0, rows);
    const rgm_pass pass = rgm_pass_rows(rgm_slice_pass(s->look_pass, 0, n), rows);
    rgm_normalise(stream, seen, rgm_rows(ring.column[0], at, rows), agent.own.mean, agent.own.sd,
                  false);
    rgm_forward(stream, &clone, false, seen, &pass);
    const rgm_policy_draw given =
        rgm_omgrl_density(&agent, rgm_of_net(pass.out, 0), rgm_rows(ring.column[1], at, rows),
                          rgm_rows(log_pi, at, rows));
    rgm_action_score(stream, none, &given);
  }
  rgm_sum(stream, rgm_slice(s->clone_valid, first, n), log_pi, -1.0f / (float)V);
}


static void enqueue_look(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const rgm_omgrl *s = run->self;
  const int64_t R = run->replicas, G = s->look_obs.dims[0];
  for (int64_t first = 0; first < R; first += G) {
    look_group(run, stream, first, R - first < G ? R - first : G);
  }
}


// replica r of a net's weights, from one to the other
static void copy_net(rgm_run *run, rgm_tensor to, rgm_tensor from, int64_t r) {
  rgm_copy(run->stream, (float *)to.data + r * to.stride0,
           (const float *)from.data + r * from.stride0, (size_t)to.stride0 * sizeof(float));
}


// keeps the weights of who has become better, stops who has not for too long
static rgm_status judge(rgm_run *run) {
  const rgm_omgrl *s = run->self;
  const size_t R = (size_t)run->replicas;
  float *valid = malloc(2 * R * sizeof *valid), *least = valid + R;
  uint32_t *stale = malloc(2 * R * sizeof *stale), *active = stale + R;
  rgm_status status =
      valid != NULL && stale != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a clone");
  status = status == RGM_OK ? rgm_read_back(run, s->clone_valid, valid) : status;
  status = status == RGM_OK ? rgm_read_back(run, s->clone_least, least) : status;
  status = status == RGM_OK ? rgm_read_back(run, s->clone_stale, stale) : status;
  status = status == RGM_OK ? rgm_read_back(run, s->clone_active, active) : status;
  for (size_t r = 0; r < R && status == RGM_OK; r++) {
    const rgm_omgrl_keys *k = rgm_algorithm_keys(run, (int64_t)r);
    if (active[r] == 0) {
      continue;
    }
    const bool better = valid[r] < least[r];
    stale[r] = better ? 0 : stale[r] + 1;
    if (better) {
      least[r] = valid[r];
      copy_net(run, s->clone_best.block, s->clone.net[0].block, (int64_t)r);
    }
    active[r] = (int64_t)stale[r] < k->clone_patience;
  }
  if (status == RGM_OK) {
    rgm_copy(run->stream, s->clone_least.data, least, R * sizeof *least);
    rgm_copy(run->stream, s->clone_stale.data, stale, R * sizeof *stale);
    rgm_copy(run->stream, s->clone_active.data, active, R * sizeof *active);
    status = rgm_sync(run->stream);
  }
  free(valid);
  free(stale);
  return status;
}


rgm_status rgm_omgrl_prepare(rgm_run *run) {
  const rgm_omgrl *s = run->self;
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  rgm_graph(run->stream, SLOT_CLONE, enqueue_clone, run);
  const uint64_t last = rgm_imagined_before(run), left = last - 1 - run->step;
  if (!s->stops || left % (uint64_t)k->clone_look != 0) {
    return RGM_OK;
  }
  rgm_graph(run->stream, SLOT_LOOK, enqueue_look, run);
  RGM_TRY(judge(run));
  for (int64_t r = 0; r < run->replicas && left == 0; r++) {
    copy_net(run, s->clone.net[0].block, s->clone_best.block, r);
  }
  return RGM_OK;
}
