// SPDX-License-Identifier: Apache-2.0
// What an agent consists of: its keys checked, its tensors named and filled, its slices, its
// report. See agent.h.

#include "algorithms/agent.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const rgm_agent_temperatures[] = {"fixed", "auto", NULL};
const char *const rgm_agent_alpha_losses[] = {"linear", "exp", NULL};
const char *const rgm_agent_decays[] = {"none", "linear", "cosine", NULL};
const char *const rgm_agent_activations[] = {"relu", "tanh", NULL};

static const rgm_act activations[] = {RGM_RELU, RGM_TANH};


// ---- keys --------------------------------------------------------------------------------------

// the keys of an algorithm with an agent begin with the agent's
static const rgm_agent_keys *keys_of(const rgm_run *run, int64_t r) {
  return rgm_algorithm_keys(run, r);
}


// half the width of the box, and its middle
static double scale_of(const rgm_problem *p, int64_t d) {
  const double low = p->act_low != NULL ? (double)p->act_low[d] : 0.0;
  const double high = p->act_high != NULL ? (double)p->act_high[d] : 1.0;
  return 0.5 * (high - low);
}


static double shift_of(const rgm_problem *p, int64_t d) {
  return (p->act_low != NULL ? (double)p->act_low[d] : 0.0) + scale_of(p, d);
}


static rgm_status target_entropy(const rgm_run *run, const rgm_agent_keys *k,
                                 const rgm_problem *problem, double *target) {
  char where[640], *end;
  snprintf(where, sizeof where, "%s: algorithm.target_entropy",
           rgm_config_where(run->config, "algorithm.target_entropy"));
  if (strcmp(k->target_entropy, "auto") == 0) {
    *target = problem->choices > 0 ? 0.98 * log((double)problem->choices) : -(double)problem->dims;
    // densities are those of actions in their units; the rule is about a box of [-1, 1]
    for (int64_t d = 0; d < problem->dims && problem->choices == 0; d++) {
      *target += log(scale_of(problem, d));
    }
    return RGM_OK;
  }
  *target = strtod(k->target_entropy, &end);
  if (end == k->target_entropy || *end != '\0' || !isfinite(*target)) {
    return rgm_fail(RGM_ECONFIG, "%s: \"%s\" is neither auto nor a number of nats", where,
                    k->target_entropy);
  }
  return problem->choices > 0 && k->temperature == 1
             ? rgm_entropy_check(where, *target, problem->choices)
             : RGM_OK;
}


rgm_status rgm_agent_check(const rgm_run *run, const rgm_problem *problem) {
  for (int64_t r = 0; r < run->replicas; r++) {
    const rgm_agent_keys *k = keys_of(run, r);
    double target;
    RGM_TRY(target_entropy(run, k, problem, &target));
    RGM_TRY(rgm_check_hidden(run, "algorithm.actor_hidden", &k->actor_hidden));
    RGM_TRY(rgm_check_hidden(run, "algorithm.critic_hidden", &k->critic_hidden));
    if (k->log_sd_low >= k->log_sd_high) {
      return rgm_fail(RGM_ECONFIG, "%s: algorithm.log_sd_low: %g is not below log_sd_high, %g",
                      rgm_config_where(run->config, "algorithm.log_sd_low"), k->log_sd_low,
                      k->log_sd_high);
    }
    if (k->decay != RGM_DECAY_NONE && k->warmup >= k->decay_steps) {
      return rgm_fail(RGM_ECONFIG, "%s: algorithm.warmup: %g updates leave none of %g to decay in",
                      rgm_config_where(run->config, "algorithm.warmup"), k->warmup, k->decay_steps);
    }
  }
  return RGM_OK;
}


// ---- planning ----------------------------------------------------------------------------------

static rgm_tensor plan_own(rgm_run *run, const char *name, rgm_dtype dtype, unsigned flags,
                           const char *unit) {
  return rgm_plan(run->arena, name, dtype, flags, "replica", unit, run->replicas, 0, 0, 0);
}


static void plan_hypers(rgm_run *run, rgm_agent_own *o) {
  o->actor_lr = rgm_plan_hyper(run, "actor_lr", RGM_AGENT_KEY(actor_lr));
  o->critic_lr = rgm_plan_hyper(run, "critic_lr", RGM_AGENT_KEY(critic_lr));
  o->alpha_lr = rgm_plan_hyper(run, "alpha_lr", RGM_AGENT_KEY(alpha_lr));
  o->beta1 = rgm_plan_hyper(run, "beta1", RGM_AGENT_KEY(beta1));
  o->beta2 = rgm_plan_hyper(run, "beta2", RGM_AGENT_KEY(beta2));
  o->eps = rgm_plan_hyper(run, "eps", RGM_AGENT_KEY(eps));
  o->gamma = rgm_plan_hyper(run, "gamma", RGM_AGENT_KEY(gamma));
  o->tau = rgm_plan_hyper(run, "tau", RGM_AGENT_KEY(tau));
  o->low = rgm_plan_hyper(run, "log_sd_low", RGM_AGENT_KEY(log_sd_low));
  o->high = rgm_plan_hyper(run, "log_sd_high", RGM_AGENT_KEY(log_sd_high));
  o->huber = rgm_plan_hyper(run, "huber", RGM_AGENT_KEY(huber));
  o->clip = rgm_plan_hyper(run, "clip", RGM_AGENT_KEY(clip));
  o->warmup = rgm_plan_hyper(run, "warmup", RGM_AGENT_KEY(warmup));
  o->decay_steps = rgm_plan_hyper(run, "decay_steps", RGM_AGENT_KEY(decay_steps));
}


// what a replica has of its own: multipliers with their moments, scales, constants
static void plan_owned(rgm_run *run, rgm_agent *a, size_t push_offset) {
  rgm_agent_own *o = &a->own;
  const int64_t R = run->replicas, S = a->problem.obs, D = a->problem.dims;
  const unsigned kept = RGM_STATE, shown = RGM_STATE | RGM_EXPORTED;
  plan_hypers(run, o);
  o->log_alpha = plan_own(run, "temperature/log_alpha", RGM_F32, kept, "1");
  o->alpha_m = plan_own(run, "temperature/m", RGM_F32, kept, "1");
  o->alpha_v = plan_own(run, "temperature/v", RGM_F32, kept, "1");
  o->alpha_updates = plan_own(run, "temperature/updates", RGM_U32, kept, "steps");
  o->log_multiplier = plan_own(run, "multiplier/log", RGM_F32, a->lagrange ? kept : RGM_BLOCK, "1");
  if (a->lagrange) {
    o->multiplier_m = plan_own(run, "multiplier/m", RGM_F32, kept, "1");
    o->multiplier_v = plan_own(run, "multiplier/v", RGM_F32, kept, "1");
    o->multiplier_updates = plan_own(run, "multiplier/updates", RGM_U32, kept, "steps");
  }
  if (a->push != RGM_PUSH_NONE) {
    o->beta = rgm_plan_hyper(run, "beta", push_offset + offsetof(rgm_push_keys, beta));
    o->temperature =
        rgm_plan_hyper(run, "push_temperature", push_offset + offsetof(rgm_push_keys, temperature));
    o->threshold =
        rgm_plan_hyper(run, "threshold", push_offset + offsetof(rgm_push_keys, threshold));
    o->multiplier_lr =
        rgm_plan_hyper(run, "multiplier_lr", push_offset + offsetof(rgm_push_keys, multiplier_lr));
  }
  o->mean =
      rgm_plan(run->arena, "observation/mean", RGM_F32, shown, "replica, obs", "1", R, S, 0, 0);
  o->sd = rgm_plan(run->arena, "observation/sd", RGM_F32, shown, "replica, obs", "1", R, S, 0, 0);
  if (a->problem.choices == 0) {
    o->scale =
        rgm_plan(run->arena, "action/scale", RGM_F32, shown, "replica, act", "1", R, D, 0, 0);
    o->shift =
        rgm_plan(run->arena, "action/shift", RGM_F32, shown, "replica, act", "1", R, D, 0, 0);
  }
  o->target_entropy = plan_own(run, "temperature/target", RGM_F32, RGM_BLOCK, "nat");
  o->plus = plan_own(run, "constant/plus", RGM_F32, RGM_BLOCK, "1");
  o->minus = plan_own(run, "constant/minus", RGM_F32, RGM_BLOCK, "1");
  o->actor_rate = plan_own(run, "rate/actor", RGM_F32, RGM_SCRATCH, "1");
  o->critic_rate = plan_own(run, "rate/critic", RGM_F32, RGM_SCRATCH, "1");
  rgm_tensor *const seen[] = {&o->critic_loss, &o->gap,   &o->value,     &o->actor_loss,
                              &o->entropy,     &o->alpha, &o->multiplier};
  static const char *const names[] = {"seen/critic_loss", "seen/gap",     "seen/value",
                                      "seen/actor_loss",  "seen/entropy", "seen/alpha",
                                      "seen/multiplier"};
  for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
    *seen[i] = plan_own(run, names[i], RGM_F32, RGM_BLOCK, "1");
  }
  o->seeds = run->seeds;
  o->clock = run->clock;
  o->active = run->active;
}


static rgm_tensor plan_work(rgm_run *run, const char *name, int64_t d0, int64_t d1, int64_t d2,
                            int64_t d3) {
  return rgm_plan(run->arena, name, RGM_F32, RGM_SCRATCH, "in group, ...", "1", d0, d1, d2, d3);
}


static void plan_group(rgm_run *run, rgm_agent *a, int64_t G) {
  rgm_agent_work *w = &a->work;
  const int64_t B = a->keys.batch, N = a->critic.count, D = a->problem.dims;
  const int64_t X = a->problem.obs + D, drawn = 3 * B * a->samples;
  const int64_t O = rgm_padded(a->problem.choices > 0 ? a->problem.choices : 1);
  const int64_t H = rgm_padded(a->problem.choices > 0 ? a->problem.choices : 2 * D);
  w->y = plan_work(run, "work/y", G, B, 0, 0);
  w->dq = plan_work(run, "work/dq", G, N, B + drawn, O);
  w->dhead = plan_work(run, "work/dhead", G, 1, B, H);
  w->critic_loss = plan_work(run, "work/critic_loss", G, N, B, 0);
  w->gap = plan_work(run, "work/gap", G, N, B, 0);
  w->actor_loss = plan_work(run, "work/actor_loss", G, B, 0, 0);
  w->alpha_grad = plan_work(run, "work/alpha_grad", G, 0, 0, 0);
  w->multiplier_grad = plan_work(run, "work/multiplier_grad", G, 0, 0, 0);

  // nets that are done with go through the same memory, which stays in the nearer caches
  a->critic_pass =
      rgm_plan_pass(run->arena, "pass/critic", G, &a->critic, B + drawn, RGM_WAY_BACK_EACH);
  a->next_pass =
      rgm_plan_pass_in(run->arena, "pass/next", G, &a->actor, B, RGM_NO_WAY_BACK, &a->critic_pass);
  a->target_pass = rgm_plan_pass_in(run->arena, "pass/target", G, &a->critic, B, RGM_NO_WAY_BACK,
                                    &a->critic_pass);
  a->actor_pass = rgm_plan_pass_in(run->arena, "pass/actor", G, &a->actor, B, RGM_WAY_BACK_EACH,
                                   a->actor_late ? &a->critic_pass : NULL);
  if (a->problem.choices > 0) {
    w->entropy = plan_work(run, "work/entropy", G, B, 0, 0);
    return;
  }
  w->log_pi = plan_work(run, "work/log_pi", G, B, 0, 0);
  w->next_log_pi = plan_work(run, "work/next_log_pi", G, B, 0, 0);
  w->pi_act = plan_work(run, "work/pi_act", G, B, D, 0);
  w->next_act = plan_work(run, "work/next_act", G, B, D, 0);
  w->x = plan_work(run, "work/x", G, B + drawn, X, 0);
  w->next_x = plan_work(run, "work/next_x", G, B, X, 0);
  w->pi_x = plan_work(run, "work/pi_x", G, B, X, 0);
  w->dx = plan_work(run, "work/dx", G, N, B, X);
  w->dpi = plan_work(run, "work/dpi", G, N, B, O);
  if (drawn > 0) {
    w->sampled_act = plan_work(run, "work/sampled_act", G, drawn, D, 0);
    w->log_q = plan_work(run, "work/log_q", G, drawn, 0, 0);
  }
  a->pi_pass = rgm_plan_pass(run->arena, "pass/pi", G, &a->critic, B, RGM_WAY_BACK);
}


void rgm_agent_plan(rgm_run *run, rgm_agent *a, const rgm_problem *problem, rgm_push push,
                    size_t push_offset) {
  const rgm_agent_keys *k = keys_of(run, 0);
  const bool classes = problem->choices > 0, soft = push >= RGM_PUSH_LOGSUMEXP_MODEL;
  const rgm_push_keys *p = (const void *)((const uint8_t *)(const void *)k + push_offset);
  const unsigned with = k->clip > 0 ? RGM_WITH_GRADIENT : 0;
  a->problem = *problem;
  a->keys = *k;
  a->push = push;
  a->samples = soft && !classes ? p->samples : 0;
  a->lagrange = push != RGM_PUSH_NONE && p->lagrange;
  a->normalises = problem->mean != NULL;
  a->actor = rgm_plan_nets(run->arena, "actor", run->replicas, 1, problem->obs, &k->actor_hidden,
                           classes ? problem->choices : 2 * problem->dims,
                           activations[k->activation], RGM_STATE | RGM_EXPORTED, with);
  a->critic = rgm_plan_nets(run->arena, "critic", run->replicas, (int)k->critics,
                            problem->obs + (classes ? 0 : problem->dims), &k->critic_hidden,
                            classes ? problem->choices : 1, activations[k->activation],
                            RGM_STATE | RGM_EXPORTED, with | RGM_WITH_TARGET);
  a->actor_late = classes && push != RGM_PUSH_RHO_EXPECT && k->share_forward;
  plan_owned(run, a, push_offset);
  plan_group(run, a, rgm_group(run->stream, run->replicas));
}


rgm_batch rgm_plan_batch(rgm_run *run, const char *name, int64_t group, int64_t rows,
                         const rgm_problem *problem) {
  static const char *const names[] = {"obs", "next", "act", "reward", "terminated"};
  const int64_t width[] = {problem->obs, problem->obs, problem->dims, 1, 1};
  rgm_batch batch;
  rgm_tensor *const tensor[] = {&batch.obs, &batch.next, &batch.act, &batch.reward,
                                &batch.terminated};
  for (int k = 0; k < RGM_BATCH_COLUMNS; k++) {
    char part[64];
    snprintf(part, sizeof part, "%s/%s", name, names[k]);
    *tensor[k] = rgm_plan(run->arena, part, RGM_F32, RGM_SCRATCH, "in group, row, ...", "1", group,
                          rows, width[k], 0);
  }
  return batch;
}


bool rgm_reports_next(const rgm_run *run) {
  const uint64_t next = run->step + 1;
  return next % (uint64_t)run->keys.report_every == 0 || next == (uint64_t)run->keys.steps ||
         next == run->reports_at;
}


// ---- filling -----------------------------------------------------------------------------------

static rgm_status put_multipliers(rgm_run *run, rgm_agent *a) {
  float *alpha = malloc(2 * (size_t)run->replicas * sizeof *alpha);
  if (alpha == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)run->replicas);
  }
  float *entropy = alpha + run->replicas;
  rgm_status status = RGM_OK;
  for (int64_t r = 0; r < run->replicas && status == RGM_OK; r++) {
    double target = 0.0;
    status = target_entropy(run, keys_of(run, r), &a->problem, &target);
    alpha[r] = (float)log(keys_of(run, r)->alpha);
    entropy[r] = (float)target;
  }
  if (status == RGM_OK) {
    rgm_copy(run->stream, a->own.log_alpha.data, alpha, rgm_bytes(a->own.log_alpha));
    rgm_copy(run->stream, a->own.target_entropy.data, entropy, rgm_bytes(a->own.target_entropy));
    status = rgm_sync(run->stream);
  }
  free(alpha);
  return status;
}


rgm_status rgm_agent_init(rgm_run *run, rgm_agent *a) {
  const rgm_problem *p = &a->problem;
  uint32_t member = 0;
  rgm_nets_init(run, &a->actor, 0.0f, &member);
  rgm_nets_init(run, &a->critic, 0.0f, &member);
  RGM_TRY(rgm_put_number(run, a->own.plus, 1.0f));
  RGM_TRY(rgm_put_number(run, a->own.minus, -1.0f));
  RGM_TRY(p->mean != NULL ? rgm_put_rows(run, a->own.mean, p->mean)
                          : rgm_put_number(run, a->own.mean, 0.0f));
  RGM_TRY(p->sd != NULL ? rgm_put_rows(run, a->own.sd, p->sd)
                        : rgm_put_number(run, a->own.sd, 1.0f));
  if (p->choices == 0) {
    float scale[64], shift[64];
    RGM_ASSERT(p->dims <= 64);
    for (int64_t d = 0; d < p->dims; d++) {
      scale[d] = (float)scale_of(p, d);
      shift[d] = (float)shift_of(p, d);
    }
    RGM_TRY(rgm_put_rows(run, a->own.scale, scale));
    RGM_TRY(rgm_put_rows(run, a->own.shift, shift));
  }
  return put_multipliers(run, a);
}


// ---- slices ------------------------------------------------------------------------------------

// every tensor of a struct of tensors
static void slice_all(rgm_tensor *t, size_t size, int64_t first, int64_t count) {
  for (size_t i = 0; i < size / sizeof *t; i++) {
    t[i] = rgm_slice_optional(t[i], first, count);
  }
}


void rgm_slice_agent(const rgm_agent *whole, int64_t first, int64_t count, rgm_agent *out) {
  memcpy(out, whole, offsetof(rgm_agent, actor));
  slice_all((rgm_tensor *)(void *)&out->own, sizeof out->own, first, count);
  slice_all((rgm_tensor *)(void *)&out->work, sizeof out->work, 0, count);
  rgm_pass *const pass[] = {&out->actor_pass, &out->next_pass, &out->critic_pass, &out->target_pass,
                            &out->pi_pass};
  for (size_t i = 0; i < sizeof pass / sizeof *pass; i++) {
    *pass[i] = rgm_slice_pass(*pass[i], 0, count);
  }
  rgm_slice_nets(&whole->actor, first, count, &out->actor);
  rgm_slice_nets(&whole->critic, first, count, &out->critic);
}


rgm_batch rgm_slice_batch(const rgm_batch *batch, int64_t count) {
  rgm_batch b = *batch;
  slice_all((rgm_tensor *)(void *)&b, sizeof b, 0, count);
  return b;
}


// ---- reporting ---------------------------------------------------------------------------------

rgm_status rgm_agent_report(rgm_run *run, const rgm_agent *a) {
  const rgm_agent_own *o = &a->own;
  RGM_TRY(rgm_report_vector(run, "critic_loss", "1", o->critic_loss));
  RGM_TRY(rgm_report_vector(run, "q_mean", "1", o->value));
  RGM_TRY(rgm_report_vector(run, "actor_loss", "1", o->actor_loss));
  RGM_TRY(rgm_report_vector(run, "entropy", "nat", o->entropy));
  RGM_TRY(rgm_report_vector(run, "alpha", "1", o->alpha));
  if (a->push != RGM_PUSH_NONE) {
    RGM_TRY(rgm_report_vector(run, "gap", "1", o->gap));
  }
  return a->lagrange ? rgm_report_vector(run, "multiplier", "1", o->multiplier) : RGM_OK;
}
