// SPDX-License-Identifier: Apache-2.0
// Behaviour cloning (Pomerleau 1991): a policy that does what a data set's clinicians do. It
// maximises the likelihood of their actions, of classes by a softmax and of continuous ones by a
// tanh-Gaussian, or, `loss: mse`, fits a deterministic mean by the squared error in units of half
// the action's box,
//   L = -mean log pi(a | s)      or      L = mean (tanh mu(s) - (a - shift) / scale)^2
// with Adam on batches drawn with replacement. A step is `updates` of them, and then a look at the
// validation rows, all of them. What a replica's weights were when their loss there was least are
// kept ("best", what evaluation uses); a replica that has not become better for `patience` steps is
// retired with them.

#include "algorithms/bc.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ACTIONS = 64, ROWS_IN_ENV = RGM_BC_ROWS / 4 };

#define KEY(member) offsetof(rgm_bc_keys, member)

static const char *const losses[] = {"likelihood", "mse", NULL};
static const char *const activations[] = {"relu", "tanh", NULL};
static const char *const decays[] = {"none", "linear", "cosine", NULL};
static const char *const weights[] = {"best", "last", NULL};
static const rgm_act acts[] = {RGM_RELU, RGM_TANH};

static const rgm_field fields[] = {
    {"hidden", RGM_LIST, KEY(hidden), "units", "[256, 256]", 1, 4096, NULL, RGM_SHAPE,
     "Widths of the policy's hidden layers."},
    {"activation", RGM_CHOICE, KEY(activation), "", "relu", 0, 0, activations, RGM_SHAPE,
     "Activation of hidden layers."},
    {"loss", RGM_CHOICE, KEY(loss), "", "likelihood", 0, 0, losses, RGM_SHAPE,
     "likelihood of the actions, or mse of a deterministic mean (continuous actions only)."},
    {"batch", RGM_INT, KEY(batch), "rows", "256", 1, 65536, NULL, RGM_SHAPE,
     "Transitions of an update."},
    {"updates", RGM_INT, KEY(updates), "1", "100", 1, 1e6, NULL, RGM_SHAPE,
     "Updates of a step; the loss on validation rows is looked at after each step."},
    {"patience", RGM_INT, KEY(patience), "steps", "0", 0, 1e9, NULL, 0,
     "A replica whose validation loss has not become less for so many steps stops; 0: never."},
    {"evaluate", RGM_CHOICE, KEY(evaluate), "", "best", 0, 0, weights, 0,
     "Weights that evaluation uses: those of the least validation loss, or the last ones."},
    {"lr", RGM_FLOAT, KEY(lr), "1", "1e-3", 0, 1, NULL, 0, "Adam's rate."},
    {"beta1", RGM_FLOAT, KEY(beta1), "1", "0.9", 0, 0.999999, NULL, 0,
     "Adam's decay of first moments."},
    {"beta2", RGM_FLOAT, KEY(beta2), "1", "0.999", 0, 0.9999999, NULL, 0,
     "Adam's decay of second moments."},
    {"eps", RGM_FLOAT, KEY(eps), "1", "1e-8", 1e-16, 1, NULL, 0,
     "Adam's guard against division by zero."},
    {"warmup", RGM_FLOAT, KEY(warmup), "updates", "0", 0, 1e9, NULL, 0,
     "Updates over which the rate rises from 0."},
    {"decay", RGM_CHOICE, KEY(decay), "", "none", 0, 0, decays, RGM_SHAPE,
     "How the rate falls to 0 at decay_steps."},
    {"decay_steps", RGM_FLOAT, KEY(decay_steps), "updates", "1e6", 1, 1e9, NULL, 0,
     "Updates at whose end a decaying rate is 0."},
    {"clip", RGM_FLOAT, KEY(clip), "1", "0", 0, 1e9, NULL, RGM_SHAPE,
     "Most norm of the gradient; 0: any."},
    {"log_sd_low", RGM_FLOAT, KEY(log_sd_low), "1", "-5", -30, 10, NULL, 0,
     "Least log standard deviation of a continuous action before tanh."},
    {"log_sd_high", RGM_FLOAT, KEY(log_sd_high), "1", "2", -30, 10, NULL, 0, "Greatest one."},
    {0},
};


static const rgm_tensor none;


static rgm_status bc_check(const rgm_run *run) {
  const rgm_transitions *t = run->transitions;
  RGM_TRY(rgm_bins_check(run));
  for (int64_t r = 0; r < run->replicas; r++) {
    const rgm_bc_keys *k = rgm_algorithm_keys(run, r);
    RGM_TRY(rgm_check_hidden(run, "algorithm.hidden", &k->hidden));
    if (k->log_sd_low >= k->log_sd_high) {
      return rgm_fail(RGM_ECONFIG, "%s: algorithm.log_sd_low: %g is not below log_sd_high, %g",
                      rgm_config_where(run->config, "algorithm.log_sd_low"), k->log_sd_low,
                      k->log_sd_high);
    }
    if (k->decay != RGM_DECAY_NONE && k->warmup >= k->decay_steps) {
      return rgm_fail(RGM_ECONFIG, "%s: algorithm.warmup: %g updates leave none of %g to decay in",
                      rgm_config_where(run->config, "algorithm.warmup"), k->warmup, k->decay_steps);
    }
    if (k->patience > 0 && t->part[RGM_VALIDATION] == 0) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: algorithm.patience: %s has no validation rows to stop by: set "
                      "data.validation, or patience 0",
                      rgm_config_where(run->config, "algorithm.patience"), t->path);
    }
    if (k->loss == RGM_BC_MSE && t->choices > 0) {
      return rgm_fail(RGM_ECONFIG, "%s: algorithm.loss: the actions of %s are classes: likelihood",
                      rgm_config_where(run->config, "algorithm.loss"), t->path);
    }
  }
  return t->actions <= MOST_ACTIONS
             ? RGM_OK
             : rgm_fail(RGM_EDATA, "%s: %d continuous actions; bc takes %d at most", t->path,
                        t->actions, MOST_ACTIONS);
}


// ---- planning ----------------------------------------------------------------------------------

static rgm_tensor plan_own(rgm_run *run, const char *name, rgm_dtype dtype, unsigned flags,
                           const char *unit) {
  return rgm_plan(run->arena, name, dtype, flags, "replica", unit, run->replicas, 0, 0, 0);
}


static rgm_tensor plan_work(rgm_run *run, const char *name, unsigned flags, int64_t d0, int64_t d1,
                            int64_t d2, int64_t d3) {
  return rgm_plan(run->arena, name, RGM_F32, flags, "in group, ...", "1", d0, d1, d2, d3);
}


// what a replica has of its own beside its net
static void plan_owned(rgm_run *run, rgm_bc_self *s) {
  const rgm_transitions *t = run->transitions;
  const int64_t R = run->replicas, S = t->states, D = t->actions;
  const unsigned shown = RGM_STATE | RGM_EXPORTED;
  s->best = rgm_plan_mlp(run->arena, "best", R, s->actor.net[0].layers, s->actor.net[0].width,
                         RGM_STATE | RGM_EXPORTED);
  s->mean =
      rgm_plan(run->arena, "observation/mean", RGM_F32, shown, "replica, obs", "1", R, S, 0, 0);
  s->sd = rgm_plan(run->arena, "observation/sd", RGM_F32, shown, "replica, obs", "1", R, S, 0, 0);
  if (t->choices == 0) {
    s->scale =
        rgm_plan(run->arena, "action/scale", RGM_F32, shown, "replica, act", "1", R, D, 0, 0);
    s->shift =
        rgm_plan(run->arena, "action/shift", RGM_F32, shown, "replica, act", "1", R, D, 0, 0);
  }
  s->least = plan_own(run, "validation/least", RGM_F32, RGM_STATE, "nat");
  s->stale = plan_own(run, "validation/stale", RGM_U32, RGM_STATE, "steps");
  s->shown = rgm_plan(run->arena, "loss", RGM_F32, RGM_STATE, "replica, part", "nat", R, 2, 0, 0);
  s->loss = plan_own(run, "train/loss", RGM_F32, RGM_BLOCK, "nat");
  s->valid = plan_own(run, "validation/loss", RGM_F32, RGM_BLOCK, "nat");
  s->everyone = plan_own(run, "constant/everyone", RGM_U32, RGM_BLOCK, "");
  s->rate = plan_own(run, "rate", RGM_F32, RGM_SCRATCH, "1");
  s->lr = rgm_plan_hyper(run, "lr", KEY(lr));
  s->beta1 = rgm_plan_hyper(run, "beta1", KEY(beta1));
  s->beta2 = rgm_plan_hyper(run, "beta2", KEY(beta2));
  s->eps = rgm_plan_hyper(run, "eps", KEY(eps));
  s->warmup = rgm_plan_hyper(run, "warmup", KEY(warmup));
  s->decay_steps = rgm_plan_hyper(run, "decay_steps", KEY(decay_steps));
  s->clip = rgm_plan_hyper(run, "clip", KEY(clip));
  s->low = rgm_plan_hyper(run, "log_sd_low", KEY(log_sd_low));
  s->high = rgm_plan_hyper(run, "log_sd_high", KEY(log_sd_high));
}


// what the squared error needs besides
static void plan_mse(rgm_run *run, rgm_bc_self *s, int64_t G, int64_t B, int64_t V) {
  const int64_t D = run->transitions->actions, O = rgm_padded(2 * D);
  s->mu = plan_work(run, "work/mu", RGM_SCRATCH, G, B, D, 0);
  s->unit = plan_work(run, "work/unit", RGM_SCRATCH, G, B, D, 0);
  s->padding = plan_work(run, "work/padding", RGM_BLOCK, G, B, O - D, 0);
  s->wide_mu = plan_work(run, "work/wide_mu", RGM_SCRATCH, G, B, O, 0);
  s->wide_unit = plan_work(run, "work/wide_unit", RGM_SCRATCH, G, B, O, 0);
  s->zero = plan_work(run, "constant/zero", RGM_BLOCK, G, O, 0, 0);
  s->half = plan_work(run, "constant/half", RGM_BLOCK, G, O, 0, 0);
  if (V > 0) {
    s->held_mu = plan_work(run, "held/mu", RGM_SCRATCH, G, V, D, 0);
    s->held_unit = plan_work(run, "held/unit", RGM_SCRATCH, G, V, D, 0);
    s->held_error = plan_work(run, "held/error", RGM_SCRATCH, G, 1, D, 0);
  }
}


static void plan_group(rgm_run *run, rgm_bc_self *s) {
  const rgm_transitions *t = run->transitions;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t G = rgm_group(run->stream, run->replicas), B = k->batch, D = t->actions;
  const int64_t O = rgm_padded(s->actor.net[0].width[s->actor.net[0].layers]);
  const int64_t V = t->part[RGM_VALIDATION], C = RGM_BC_ROWS;
  s->obs = plan_work(run, "batch/obs", RGM_SCRATCH, G, B, t->states, 0);
  s->act = plan_work(run, "batch/act", RGM_SCRATCH, G, B, D, 0);
  s->log_pi = plan_work(run, "batch/log_pi", RGM_SCRATCH, G, B, 0, 0);
  s->dhead = plan_work(run, "batch/dhead", RGM_SCRATCH, G, 1, B, O);
  s->seen = plan_work(run, "look/obs", RGM_SCRATCH, G, C, t->states, 0);
  s->look_act = plan_work(run, "look/act", RGM_SCRATCH, G, C, D, 0);
  s->look_log = plan_work(run, "look/log_pi", RGM_SCRATCH, G, C, 0, 0);
  if (V > 0) {
    s->held_log = plan_work(run, "held/log_pi", RGM_SCRATCH, G, V, 0, 0);
  }
  if (k->loss == RGM_BC_MSE) {
    plan_mse(run, s, G, B, V);
  }
  s->pass = rgm_plan_pass(run->arena, "pass/train", G, &s->actor, B, true);
  s->look = rgm_plan_pass(run->arena, "pass/look", G, &s->actor, C, false);
}


static rgm_status bc_plan(rgm_run *run) {
  rgm_bc_self *s = run->self;
  const rgm_transitions *t = run->transitions;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  const unsigned columns = 1u << RGM_RING_OBS | 1u << RGM_RING_ACTION;
  s->actor = rgm_plan_nets(run->arena, "actor", run->replicas, 1, t->states, &k->hidden,
                           t->choices > 0 ? t->choices : 2 * t->actions, acts[k->activation],
                           RGM_STATE | RGM_EXPORTED, k->clip > 0 ? RGM_WITH_GRADIENT : 0);
  plan_owned(run, s);
  rgm_bins_plan(run, &s->bins, run->env != NULL ? ROWS_IN_ENV : 0);
  plan_group(run, s);
  s->train = rgm_plan_ring(run, "data/train", RGM_TRAIN, columns);
  s->held[RGM_TRAIN] = s->train;
  if (t->part[RGM_VALIDATION] > 0) {
    s->held[RGM_VALIDATION] = rgm_plan_ring(run, "data/validation", RGM_VALIDATION, columns);
  }
  if (t->part[RGM_TEST] > 0) {
    s->held[RGM_TEST] = rgm_plan_ring(run, "data/test", RGM_TEST, columns);
  }
  return RGM_OK;
}


static rgm_status bc_init(rgm_run *run) {
  rgm_bc_self *s = run->self;
  const rgm_transitions *t = run->transitions;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  uint32_t member = 0;
  rgm_nets_init(run, &s->actor, 0.0f, &member);
  rgm_copy(run->stream, s->best.block.data, s->actor.net[0].block.data, rgm_bytes(s->best.block));
  RGM_TRY(rgm_bins_init(run, &s->bins));
  RGM_TRY(rgm_put_rows(run, s->mean, t->mean));
  RGM_TRY(rgm_put_rows(run, s->sd, t->sd));
  RGM_TRY(rgm_put_number(run, s->least, FLT_MAX));
  rgm_copy(run->stream, s->everyone.data, run->active.data, rgm_bytes(s->everyone));
  if (t->choices == 0) {
    float scale[MOST_ACTIONS], shift[MOST_ACTIONS];
    for (int d = 0; d < t->actions; d++) {
      scale[d] = 0.5f * (t->act_high[d] - t->act_low[d]);
      shift[d] = 0.5f * (t->act_high[d] + t->act_low[d]);
    }
    RGM_TRY(rgm_put_rows(run, s->scale, scale));
    RGM_TRY(rgm_put_rows(run, s->shift, shift));
  }
  if (k->loss == RGM_BC_MSE) {
    RGM_TRY(rgm_put_number(run, s->half, 0.5f * (float)(k->batch * t->actions)));
  }
  return RGM_OK;
}


// ---- one update --------------------------------------------------------------------------------

// actions at a head of n replicas from `first` on: those of `act` to score, or the mean into it
static rgm_policy_draw policy_of(const rgm_run *run, int64_t first, int64_t n, rgm_tensor head,
                                 rgm_tensor act, rgm_tensor log_pi) {
  const rgm_bc_self *s = run->self;
  return (rgm_policy_draw){
      .act = act,
      .log_pi = log_pi,
      .head = head,
      .scale = rgm_slice_optional(s->scale, first, n),
      .shift = rgm_slice_optional(s->shift, first, n),
      .low = rgm_slice(s->low, first, n),
      .high = rgm_slice(s->high, first, n),
      .seeds = rgm_slice(run->seeds, first, n),
      .clock = rgm_slice(run->clock, first, n),
      .active = rgm_slice(run->active, first, n),
      .random = RGM_RANDOM_ACTION,
      .draw = RGM_DRAW_MEAN,
      .choices = (int)run->transitions->choices,
  };
}


// the slope of the squared error by mu, 2 / (B D) (tanh mu - t) (1 - tanh^2 mu), and its mean
static void slope_of_mse(const rgm_run *run, rgm_stream *stream, const rgm_policy_draw *p,
                         rgm_tensor dhead, rgm_tensor loss, int64_t first) {
  const rgm_bc_self *s = run->self;
  const int64_t n = p->act.dims[0], D = p->act.dims[2];
  const rgm_tensor mu = rgm_slice(s->mu, 0, n), unit = rgm_slice(s->unit, 0, n);
  const rgm_tensor wide_mu = rgm_slice(s->wide_mu, 0, n), padding = rgm_slice(s->padding, 0, n);
  const rgm_tensor wide_unit = rgm_slice(s->wide_unit, 0, n);
  const rgm_tensor scale = rgm_slice(s->scale, first, n), shift = rgm_slice(s->shift, first, n);
  rgm_policy_draw draw = *p;
  draw.act = mu;
  rgm_action_draw(stream, &draw);
  rgm_normalise(stream, mu, mu, shift, scale, false);
  rgm_normalise(stream, unit, p->act, shift, scale, false);
  rgm_concat(stream, wide_mu, mu, padding, 0);
  rgm_concat(stream, wide_unit, unit, padding, 0);
  rgm_triad(stream, dhead, wide_mu, wide_unit, -1.0f);
  rgm_normalise(stream, dhead, dhead, rgm_slice(s->zero, 0, n), rgm_slice(s->half, 0, n), false);

  // the loss itself, column by column, in what is free by now
  const int64_t B = p->act.dims[1];
  rgm_tensor error = rgm_view(mu.data, RGM_F32, n, 1, B, D);
  rgm_tensor target = rgm_view(unit.data, RGM_F32, n, 1, B, D);
  rgm_tensor each = rgm_view(wide_unit.data, RGM_F32, n, 1, D, 0);
  rgm_mse(stream, each, error, target);
  rgm_sum(stream, loss, each, 1.0f / (float)D);
  rgm_act_backward(stream, dhead, wide_mu, RGM_TANH);
}


// a batch and a step down its loss, of n replicas from `first` on
static void update_group(const rgm_run *run, rgm_stream *stream, int64_t first, int64_t n) {
  const rgm_bc_self *s = run->self;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  rgm_nets actor;
  rgm_slice_nets(&s->actor, first, n, &actor);
  const rgm_pass pass = rgm_slice_pass(s->pass, 0, n);
  const rgm_ring ring = rgm_slice_ring(&s->train, first, n);
  const rgm_tensor obs = rgm_slice(s->obs, 0, n), act = rgm_slice(s->act, 0, n);
  const rgm_tensor dhead = rgm_slice(s->dhead, 0, n), active = rgm_slice(run->active, first, n);
  const rgm_tensor rate = rgm_slice(s->rate, first, n), loss = rgm_slice(s->loss, first, n);
  const rgm_tensor log_pi = rgm_slice(s->log_pi, 0, n);
  const rgm_gather gather = {
      .row = {obs, act},
      .from = &ring,
      .seeds = rgm_slice(run->seeds, first, n),
      .clock = actor.updates[0],
      .active = active,
      .random = RGM_RANDOM_REPLAY,
  };
  rgm_replay_gather(stream, &gather);
  rgm_normalise(stream, obs, obs, rgm_slice(s->mean, first, n), rgm_slice(s->sd, first, n), false);
  rgm_forward(stream, &actor, false, obs, &pass);

  // the loss and its slope
  const rgm_policy_draw given = policy_of(run, first, n, rgm_of_net(pass.out, 0), act, log_pi);
  if (k->loss == RGM_BC_MSE) {
    slope_of_mse(run, stream, &given, rgm_of_net(dhead, 0), loss, first);
  } else {
    rgm_action_score(stream, rgm_of_net(dhead, 0), &given);
    rgm_sum(stream, loss, log_pi, -1.0f / (float)k->batch);
  }

  // a step of Adam
  const rgm_descent step = {
      .lr = rate,
      .beta1 = rgm_slice(s->beta1, first, n),
      .beta2 = rgm_slice(s->beta2, first, n),
      .eps = rgm_slice(s->eps, first, n),
      .clip = k->clip > 0 ? rgm_slice(s->clip, first, n) : none,
      .active = active,
  };
  rgm_schedule(stream, rate, rgm_slice(s->lr, first, n), actor.updates[0],
               rgm_slice(s->warmup, first, n), rgm_slice(s->decay_steps, first, n),
               (rgm_decay)k->decay);
  rgm_backward(stream, &actor, obs, &pass, dhead, none, &step);
}


static void enqueue_update(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const rgm_bc_self *s = run->self;
  const int64_t R = run->replicas, group = s->obs.dims[0];
  for (int64_t first = 0; first < R; first += group) {
    update_group(run, stream, first, R - first < group ? R - first : group);
  }
}


// ---- a look at held-out rows -------------------------------------------------------------------

// The policy of n replicas from `first` on at states (n, rows, S), not more than RGM_BC_ROWS. All
// replicas are looked at, retired ones too; actions and log-densities are the caller's to set.
static rgm_policy_draw policy_at(const rgm_run *run, rgm_stream *stream, const rgm_nets *actor,
                                 rgm_tensor states, int64_t first, int64_t n) {
  const rgm_bc_self *s = run->self;
  const int64_t rows = states.dims[1];
  const rgm_pass pass = rgm_pass_rows(rgm_slice_pass(s->look, 0, n), rows);
  const rgm_tensor seen = rgm_rows(rgm_slice(s->seen, 0, n), 0, rows);
  rgm_normalise(stream, seen, states, rgm_slice(s->mean, first, n), rgm_slice(s->sd, first, n),
                false);
  rgm_forward(stream, actor, false, seen, &pass);
  rgm_policy_draw policy = policy_of(run, first, n, rgm_of_net(pass.out, 0), none, none);
  policy.active = rgm_slice(s->everyone, first, n);
  return policy;
}


rgm_policy_draw rgm_bc_look(const rgm_run *run, rgm_stream *stream, const rgm_nets *actor, int part,
                            int64_t at, int64_t rows, int64_t first, int64_t n) {
  const rgm_bc_self *s = run->self;
  const rgm_ring ring = rgm_slice_ring(&s->held[part], first, n);
  rgm_policy_draw look =
      policy_at(run, stream, actor, rgm_rows(ring.column[0], at, rows), first, n);
  look.act = rgm_rows(ring.column[1], at, rows);
  return look;
}


// the loss of n replicas from `first` on over all validation rows
static void validate_group(const rgm_run *run, rgm_stream *stream, int64_t first, int64_t n) {
  const rgm_bc_self *s = run->self;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t V = run->transitions->part[RGM_VALIDATION], D = run->transitions->actions;
  rgm_nets actor;
  rgm_slice_nets(&s->actor, first, n, &actor);
  const rgm_tensor valid = rgm_slice(s->valid, first, n), log_pi = rgm_slice(s->held_log, 0, n);
  const bool mse = k->loss == RGM_BC_MSE;
  for (int64_t at = 0; at < V; at += RGM_BC_ROWS) {
    const int64_t rows = V - at < RGM_BC_ROWS ? V - at : RGM_BC_ROWS;
    rgm_policy_draw look = rgm_bc_look(run, stream, &actor, RGM_VALIDATION, at, rows, first, n);
    look.log_pi = rgm_rows(log_pi, at, rows);
    if (mse) {
      look.act = rgm_rows(rgm_slice(s->held_mu, 0, n), at, rows);
      rgm_action_draw(stream, &look);
    } else {
      rgm_action_score(stream, none, &look);
    }
  }
  if (!mse) {
    rgm_sum(stream, valid, log_pi, -1.0f / (float)V);
    return;
  }
  const rgm_tensor mu = rgm_slice(s->held_mu, 0, n), unit = rgm_slice(s->held_unit, 0, n);
  const rgm_tensor scale = rgm_slice(s->scale, first, n), shift = rgm_slice(s->shift, first, n);
  const rgm_tensor error = rgm_slice(s->held_error, 0, n);
  const rgm_ring ring = rgm_slice_ring(&s->held[RGM_VALIDATION], first, n);
  rgm_normalise(stream, mu, mu, shift, scale, false);
  rgm_normalise(stream, unit, ring.column[1], shift, scale, false);
  rgm_mse(stream, error, rgm_view(mu.data, RGM_F32, n, 1, V, D),
          rgm_view(unit.data, RGM_F32, n, 1, V, D));
  rgm_sum(stream, valid, error, 1.0f / (float)D);
}


static void enqueue_look(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const rgm_bc_self *s = run->self;
  const int64_t R = run->replicas, group = s->obs.dims[0];
  for (int64_t first = 0; first < R && run->transitions->part[RGM_VALIDATION] > 0; first += group) {
    validate_group(run, stream, first, R - first < group ? R - first : group);
  }
  rgm_advance(stream, run->clock, run->active);
}


// What the host decides on after a step: one number of each for every replica.
typedef struct verdict {
  float *loss, *valid, *least, *shown; // shown (R, 2)
  uint32_t *stale, *active;
} verdict;


// keeps the weights of who has become better, retires who has not for too long
static void judge(rgm_run *run, verdict *v) {
  rgm_bc_self *s = run->self;
  const bool any = run->transitions->part[RGM_VALIDATION] > 0;
  const rgm_tensor net = s->actor.net[0].block, best = s->best.block;
  s->over = true;
  for (int64_t r = 0; r < run->replicas; r++) {
    const rgm_bc_keys *k = rgm_algorithm_keys(run, r);
    if (v->active[r] == 0) {
      continue;
    }
    v->shown[2 * r] = v->loss[r];
    v->shown[2 * r + 1] = any ? v->valid[r] : 0.0f;
    const bool better = !any || v->valid[r] < v->least[r];
    v->stale[r] = better ? 0 : v->stale[r] + 1;
    if (better) {
      v->least[r] = any ? v->valid[r] : v->least[r];
      rgm_copy(run->stream, (float *)best.data + r * best.stride0,
               (const float *)net.data + r * net.stride0, (size_t)net.stride0 * sizeof(float));
    }
    v->active[r] = k->patience == 0 || (int64_t)v->stale[r] < k->patience;
    s->over = s->over && v->active[r] == 0;
  }
}


static rgm_status decide(rgm_run *run) {
  const rgm_bc_self *s = run->self;
  const size_t R = (size_t)run->replicas;
  float *memory = malloc(7 * R * sizeof *memory);
  if (memory == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)run->replicas);
  }
  uint32_t *words = (uint32_t *)(void *)(memory + 5 * R);
  verdict v = {.loss = memory,
               .valid = memory + R,
               .least = memory + 2 * R,
               .shown = memory + 3 * R,
               .stale = words,
               .active = words + R};
  const struct {
    rgm_tensor tensor;
    void *host;
    bool back;
  } parts[] = {{s->loss, v.loss, false},  {s->valid, v.valid, false},
               {s->least, v.least, true}, {s->shown, v.shown, true},
               {s->stale, v.stale, true}, {run->active, v.active, true}};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    rgm_copy(run->stream, parts[i].host, parts[i].tensor.data, rgm_bytes(parts[i].tensor));
  }
  rgm_status status = rgm_sync(run->stream);
  if (status == RGM_OK) {
    judge(run, &v);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
      if (parts[i].back) {
        rgm_copy(run->stream, parts[i].tensor.data, parts[i].host, rgm_bytes(parts[i].tensor));
      }
    }
    status = rgm_sync(run->stream);
  }
  free(memory);
  return status;
}


static rgm_status bc_step(rgm_run *run) {
  const rgm_bc_self *s = run->self;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  if (s->over) {
    return RGM_OK;
  }
  for (int64_t u = 0; u < k->updates; u++) {
    rgm_graph(run->stream, 0, enqueue_update, run);
  }
  rgm_graph(run->stream, 1, enqueue_look, run);
  return decide(run);
}


static double bc_work(const rgm_run *run) {
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  return (double)run->replicas * (double)k->updates * (double)k->batch;
}


// ---- in a simulator ----------------------------------------------------------------------------

// the mean, or the likeliest class, of the weights that evaluation uses
static void act_in_env(rgm_run *run, rgm_stream *stream, rgm_tensor act, rgm_tensor obs) {
  rgm_bc_self *s = run->self;
  const rgm_bc_keys *k = rgm_algorithm_keys(run, 0);
  const int64_t R = run->replicas, group = s->obs.dims[0], rows = obs.dims[1];
  const rgm_tensor state = rgm_bins_see(run, &s->bins, stream, obs);
  const rgm_tensor choice = rgm_bins_choice(&s->bins, act);
  rgm_nets nets = s->actor;
  nets.net[0] = k->evaluate == RGM_BC_BEST ? s->best : nets.net[0];
  for (int64_t first = 0; first < R; first += group) {
    const int64_t n = R - first < group ? R - first : group;
    rgm_nets actor;
    rgm_slice_nets(&nets, first, n, &actor);
    const rgm_tensor log_pi = rgm_rows(rgm_slice(s->look_log, 0, n), 0, rows);
    rgm_policy_draw draw = policy_at(run, stream, &actor, rgm_slice(state, first, n), first, n);
    draw.act = rgm_slice(choice, first, n);
    draw.log_pi = log_pi;
    rgm_action_draw(stream, &draw);
  }
  rgm_bins_give(&s->bins, stream, act);
}


static int bc_contenders(rgm_run *run, rgm_contender *out, int max) {
  (void)run;
  RGM_ASSERT(max > 0);
  out[0] = (rgm_contender){.name = "bc", .act = act_in_env, .rows = ROWS_IN_ENV};
  return 1;
}


const rgm_algorithm rgm_bc = {
    .name = "bc",
    .paper = "Pomerleau 1991 (Neural Computation 3:88)",
    .doc = "Behaviour cloning: a policy that does what the clinicians of a data set do.",
    .fields = fields,
    .keys_size = sizeof(rgm_bc_keys),
    .self_size = sizeof(rgm_bc_self),
    .needs = RGM_NEEDS_DATASET | RGM_TAKES_ENV | RGM_TIMELESS,
    .work_unit = "rows",
    .work = bc_work,
    .check = bc_check,
    .plan = bc_plan,
    .init = bc_init,
    .step = bc_step,
    .report = rgm_bc_report,
    .contenders = bc_contenders,
    .evaluate = rgm_bc_evaluate,
    .best_metric = "validation_loss",
    .best_is_min = true,
};
