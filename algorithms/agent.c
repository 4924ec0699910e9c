// SPDX-License-Identifier: Apache-2.0
// One update of an agent. See agent.h for what it goes down, kernels.h for the formulas of each
// row. Everything is enqueued, so that an update is one graph.

#include "algorithms/agent.h"

// which draws of a step are told apart by `member`: eight a turn
enum { DRAW_NEXT = 1, DRAW_BOX, DRAW_PUSH, DRAW_PUSH_NEXT, DRAW_ACTOR, DRAWS = 8 };

static const rgm_tensor none;


// M actions at the head of a pass over B rows, K = M / B for each
static rgm_policy_draw draw_of(const rgm_agent *a, rgm_tensor head, rgm_tensor act,
                               rgm_tensor log_pi, rgm_draw draw, uint32_t member) {
  return (rgm_policy_draw){
      .act = act,
      .log_pi = log_pi,
      .head = head,
      .scale = a->own.scale,
      .shift = a->own.shift,
      .low = a->own.low,
      .high = a->own.high,
      .seeds = a->own.seeds,
      .clock = a->own.clock,
      .active = a->own.active,
      .random = RGM_RANDOM_ACTION,
      .member = member,
      .draw = draw,
      .choices = a->problem.choices,
  };
}


static rgm_tensor head_of(const rgm_pass *pass) {
  return rgm_of_net(pass->out, 0);
}


void rgm_agent_act(rgm_stream *s, const rgm_agent *a, const rgm_pass *pass, rgm_tensor seen,
                   rgm_tensor obs, rgm_tensor act, rgm_tensor log_pi, rgm_draw draw,
                   uint32_t member) {
  rgm_tensor head = none;
  if (draw != RGM_DRAW_UNIFORM) {
    if (a->normalises) {
      rgm_normalise(s, seen, obs, a->own.mean, a->own.sd, false);
    }
    rgm_forward(s, &a->actor, false, a->normalises ? seen : obs, pass);
    head = head_of(pass);
  }
  const rgm_policy_draw d = draw_of(a, head, act, log_pi, draw, member);
  rgm_action_draw(s, &d);
}


// ---- targets -----------------------------------------------------------------------------------

// y = r + gamma (1 - terminated) V(s')
static void compute_targets(rgm_stream *s, const rgm_agent *a, const rgm_batch *b, uint32_t turn) {
  const rgm_agent_work *w = &a->work;
  const bool classes = a->problem.choices > 0;
  rgm_forward(s, &a->actor, false, b->next, &a->next_pass);
  rgm_tensor next = b->next;
  if (!classes) {
    const rgm_policy_draw d = draw_of(a, head_of(&a->next_pass), w->next_act, w->next_log_pi,
                                      RGM_DRAW_POLICY, DRAWS * turn + DRAW_NEXT);
    rgm_action_draw(s, &d);
    rgm_concat(s, w->next_x, b->next, w->next_act, 0);
    next = w->next_x;
  }
  rgm_forward(s, &a->critic, true, next, &a->target_pass);
  const rgm_target target = {
      .y = w->y,
      .q = a->target_pass.out,
      .head = classes ? head_of(&a->next_pass) : none,
      .log_pi = w->next_log_pi,
      .reward = b->reward,
      .terminated = b->terminated,
      .gamma = a->own.gamma,
      .log_alpha = a->keys.backup_entropy ? a->own.log_alpha : none,
      .active = a->own.active,
      .actions = classes ? a->problem.choices : 1,
  };
  rgm_soft_target(s, &target);
}


// ---- critics -----------------------------------------------------------------------------------

// what classes and continuous actions have in common
static rgm_critic critic_of(const rgm_agent *a, rgm_tensor real) {
  return (rgm_critic){
      .y = a->work.y,
      .delta = a->keys.huber > 0 ? a->own.huber : none,
      .beta = a->own.beta,
      .temperature = a->own.temperature,
      .log_multiplier = a->lagrange ? a->own.log_multiplier : none,
      .real = real,
      .active = a->own.active,
      .push = a->push,
      .actions = 1,
  };
}


static rgm_descent descent_of(const rgm_agent *a, rgm_tensor lr) {
  return (rgm_descent){
      .lr = lr,
      .beta1 = a->own.beta1,
      .beta2 = a->own.beta2,
      .eps = a->own.eps,
      .rate = a->own.tau,
      .clip = a->keys.clip > 0 ? a->own.clip : none,
      .active = a->own.active,
  };
}


static void descend_discrete(rgm_stream *s, const rgm_agent *a, const rgm_batch *b, rgm_tensor real,
                             bool learn) {
  const rgm_agent_work *w = &a->work;
  const rgm_descent step = descent_of(a, a->own.critic_rate);
  const int64_t rows = b->obs.dims[1];
  rgm_critic critic = critic_of(a, real);
  critic.action = b->act;
  critic.head = a->actor_late ? none : head_of(&a->actor_pass);
  critic.actions = a->problem.choices;
  for (int n = 0; n < a->critic.count; n++) {
    rgm_forward_net(s, &a->critic, n, false, b->obs, &a->critic_pass);
    critic.q = rgm_part_of_net(a->critic_pass.out, n, 0, rows);
    critic.dq = rgm_part_of_net(w->dq, n, 0, rows);
    critic.loss = rgm_share_of_net(w->critic_loss, n);
    critic.gap = rgm_share_of_net(w->gap, n);
    rgm_critic_loss(s, &critic);
    if (learn) {
      rgm_backward_net(s, &a->critic, n, b->obs, &a->critic_pass, w->dq, none, &step);
    }
  }
}


// the batch's actions, and below them what is pushed down: groups of K for each row, drawn from the
// box, from pi(s) and from pi(s'), all valued at s
static void stack_actions(rgm_stream *s, const rgm_agent *a, const rgm_batch *b, uint32_t turn) {
  const rgm_agent_work *w = &a->work;
  const int64_t rows = b->obs.dims[1], each = rows * a->samples;
  rgm_concat(s, rgm_rows(w->x, 0, rows), b->obs, b->act, 0);
  for (int g = 0; g < 3 && a->samples > 0; g++) {
    static const uint32_t member[] = {DRAW_BOX, DRAW_PUSH, DRAW_PUSH_NEXT};
    const rgm_tensor act = rgm_rows(w->sampled_act, g * each, each);
    const rgm_tensor head = g == 0 ? none : head_of(g == 1 ? &a->actor_pass : &a->next_pass);
    const rgm_policy_draw d =
        draw_of(a, head, act, rgm_rows(w->log_q, g * each, each),
                g == 0 ? RGM_DRAW_UNIFORM : RGM_DRAW_POLICY, DRAWS * turn + member[g]);
    rgm_action_draw(s, &d);
    rgm_concat(s, rgm_rows(w->x, rows + g * each, each), b->obs, act, 0);
  }
}


static void descend_continuous(rgm_stream *s, const rgm_agent *a, const rgm_batch *b,
                               rgm_tensor real, uint32_t turn, bool learn) {
  const rgm_agent_work *w = &a->work;
  const rgm_descent step = descent_of(a, a->own.critic_rate);
  const int64_t rows = b->obs.dims[1], drawn = w->x.dims[1] - rows;
  stack_actions(s, a, b, turn);
  for (int n = 0; n < a->critic.count; n++) {
    rgm_forward_net(s, &a->critic, n, false, w->x, &a->critic_pass);
    rgm_critic critic = critic_of(a, real);
    critic.q = rgm_part_of_net(a->critic_pass.out, n, 0, rows);
    critic.dq = rgm_part_of_net(w->dq, n, 0, rows);
    critic.loss = rgm_share_of_net(w->critic_loss, n);
    critic.gap = rgm_share_of_net(w->gap, n);
    if (drawn > 0) {
      critic.sampled = rgm_part_of_net(a->critic_pass.out, n, rows, drawn);
      critic.dsampled = rgm_part_of_net(w->dq, n, rows, drawn);
      critic.log_q = w->log_q;
      critic.samples = (int)a->samples;
    }
    rgm_critic_loss(s, &critic);
    if (learn) {
      rgm_backward_net(s, &a->critic, n, w->x, &a->critic_pass, w->dq, none, &step);
    }
  }
}


// ---- actor -------------------------------------------------------------------------------------

static void improve_discrete(rgm_stream *s, const rgm_agent *a, const rgm_batch *b) {
  const rgm_agent_work *w = &a->work;
  if (!a->keys.share_forward) {
    rgm_forward(s, &a->critic, false, b->obs, &a->critic_pass);
  }
  const rgm_actor actor = {
      .dz = rgm_of_net(w->dhead, 0),
      .loss = w->actor_loss,
      .entropy = w->entropy,
      .q = a->critic_pass.out,
      .head = head_of(&a->actor_pass),
      .log_alpha = a->own.log_alpha,
      .active = a->own.active,
      .actions = a->problem.choices,
  };
  rgm_actor_loss(s, &actor);
}


// the slope goes through the critics to the drawn action, and from there to the policy's head
static void improve_continuous(rgm_stream *s, const rgm_agent *a, const rgm_batch *b,
                               uint32_t turn) {
  const rgm_agent_work *w = &a->work;
  const rgm_policy_draw d = draw_of(a, head_of(&a->actor_pass), w->pi_act, w->log_pi,
                                    RGM_DRAW_POLICY, DRAWS * turn + DRAW_ACTOR);
  rgm_action_draw(s, &d);
  rgm_concat(s, w->pi_x, b->obs, w->pi_act, 0);
  rgm_forward(s, &a->critic, false, w->pi_x, &a->pi_pass);
  const rgm_actor actor = {
      .dq = w->dpi,
      .loss = w->actor_loss,
      .q = a->pi_pass.out,
      .log_pi = w->log_pi,
      .log_alpha = a->own.log_alpha,
      .active = a->own.active,
      .actions = 1,
  };
  rgm_actor_loss(s, &actor);
  rgm_backward(s, &a->critic, w->pi_x, &a->pi_pass, w->dpi, w->dx, NULL);
  rgm_action_backward(s, rgm_of_net(w->dhead, 0), w->dx, a->own.log_alpha, &d, a->problem.obs);
}


// ---- multipliers -------------------------------------------------------------------------------

static void step_multipliers(rgm_stream *s, const rgm_agent *a, int64_t rows) {
  const rgm_agent_own *o = &a->own;
  const rgm_agent_work *w = &a->work;
  const bool classes = a->problem.choices > 0;
  if (a->keys.temperature == 1) {
    rgm_dual(s, w->alpha_grad, none, classes ? w->entropy : w->log_pi, classes ? o->plus : o->minus,
             o->target_entropy, o->log_alpha, o->active, 1.0f / (float)rows,
             a->keys.alpha_loss == 0 ? RGM_DUAL_LINEAR : RGM_DUAL_EXP);
    rgm_adam(s, o->log_alpha, o->alpha_m, o->alpha_v, o->alpha_updates, w->alpha_grad, o->alpha_lr,
             o->beta1, o->beta2, o->eps, o->active);
  }
  if (a->lagrange) {
    rgm_dual(s, w->multiplier_grad, none, w->gap, o->beta, o->threshold, o->log_multiplier,
             o->active, 1.0f / (float)a->critic.count, RGM_DUAL_LAGRANGE);
    rgm_adam(s, o->log_multiplier, o->multiplier_m, o->multiplier_v, o->multiplier_updates,
             w->multiplier_grad, o->multiplier_lr, o->beta1, o->beta2, o->eps, o->active);
  }
}


// what a report reads; outputs beyond the actions are padding, and 0
static void look(rgm_stream *s, const rgm_agent *a, int64_t rows) {
  const rgm_agent_own *o = &a->own;
  const rgm_agent_work *w = &a->work;
  const bool classes = a->problem.choices > 0;
  const rgm_pass *valued = classes ? &a->critic_pass : &a->pi_pass;
  const float nets = 1.0f / (float)a->critic.count, row = 1.0f / (float)rows;
  rgm_sum(s, o->critic_loss, w->critic_loss, nets);
  rgm_sum(s, o->gap, w->gap, nets);
  rgm_sum(s, o->value, valued->out, nets * row / (float)(classes ? a->problem.choices : 1));
  rgm_sum(s, o->actor_loss, w->actor_loss, 1.0f);
  rgm_sum(s, o->entropy, classes ? w->entropy : w->log_pi, classes ? row : -row);
  rgm_exponential(s, o->alpha, o->log_alpha, o->active);
  rgm_exponential(s, o->multiplier, o->log_multiplier, o->active);
}


void rgm_agent_update(rgm_stream *s, const rgm_agent *a, const rgm_batch *b, rgm_tensor real,
                      uint32_t turn, unsigned what) {
  const rgm_agent_own *o = &a->own;
  const int64_t rows = b->obs.dims[1];
  const bool classes = a->problem.choices > 0, learn = (what & RGM_LEARN) != 0;
  if (a->normalises) {
    rgm_normalise(s, b->obs, b->obs, o->mean, o->sd, false);
    rgm_normalise(s, b->next, b->next, o->mean, o->sd, false);
  }
  rgm_schedule(s, o->critic_rate, o->critic_lr, a->critic.updates[0], o->warmup, o->decay_steps,
               (rgm_decay)a->keys.decay);
  rgm_schedule(s, o->actor_rate, o->actor_lr, a->actor.updates[0], o->warmup, o->decay_steps,
               (rgm_decay)a->keys.decay);

  // critics
  compute_targets(s, a, b, turn);
  if (!a->actor_late) {
    rgm_forward(s, &a->actor, false, b->obs, &a->actor_pass);
  }
  if (classes) {
    descend_discrete(s, a, b, real, learn);
    if (a->actor_late) {
      rgm_forward(s, &a->actor, false, b->obs, &a->actor_pass);
    }
    improve_discrete(s, a, b);
  } else {
    descend_continuous(s, a, b, real, turn, learn);
    improve_continuous(s, a, b, turn);
  }

  // actor, temperature, multiplier
  if (learn) {
    const rgm_descent step = descent_of(a, o->actor_rate);
    rgm_backward(s, &a->actor, b->obs, &a->actor_pass, a->work.dhead, none, &step);
    step_multipliers(s, a, rows);
  }
  if ((what & RGM_LOOK) != 0) {
    look(s, a, rows);
  }
}
