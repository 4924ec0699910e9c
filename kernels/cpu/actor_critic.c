// SPDX-License-Identifier: Apache-2.0
// Targets, losses and gradients of actors and critics, multipliers, actions of tanh-Gaussian
// policies. A unit of parallel work is some rows of one replica (and net).

#include "kernels/cpu/cpu.h"
#include "kernels/actor_critic.h"

enum { PIECE = 64 }; // rows of a unit

// rows `begin` to `end` of replica r, net n
typedef struct piece {
  int64_t r, n, begin, end;
} piece;


static int64_t pieces_of(int64_t rows) {
  return (rows + PIECE - 1) / PIECE;
}


static piece piece_of(int64_t index, int64_t nets, int64_t rows) {
  const int64_t blocks = pieces_of(rows), begin = index % blocks * PIECE;
  const int64_t left = rows - begin;
  return (piece){index / blocks / nets, index / blocks % nets, begin,
                 begin + (left < PIECE ? left : PIECE)};
}


// alpha of replica r; 0 where there is none
static float alpha_of(rgm_tensor log_alpha, int64_t r) {
  return log_alpha.data != NULL ? rgm_exp(rgm_f32(log_alpha, r)[0]) : 0.0f;
}


static void clear(float *x, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) {
    x[i] = 0.0f;
  }
}


// ---- targets -----------------------------------------------------------------------------------

static void soft_target_task(void *arg, int64_t index) {
  const rgm_target *t = arg;
  const int64_t *d = t->q.dims, apart = d[2] * d[3];
  const piece p = piece_of(index, 1, d[2]);
  if (rgm_u32(t->active, p.r)[0] == 0) {
    return;
  }
  const float alpha = alpha_of(t->log_alpha, p.r), gamma = rgm_f32(t->gamma, p.r)[0];
  for (int64_t b = p.begin; b < p.end; b++) {
    const float *q = rgm_f32(t->q, p.r) + b * d[3];
    float value;
    if (t->head.data != NULL) {
      const float *z = rgm_f32(t->head, p.r) + b * t->head.dims[2];
      value = rgm_soft_value(q, d[1], apart, z, t->actions, alpha);
    } else {
      int64_t which;
      const float least = rgm_least_critic(q, d[1], apart, &which);
      value =
          t->log_alpha.data != NULL ? rgm_fma(-alpha, rgm_f32(t->log_pi, p.r)[b], least) : least;
    }
    rgm_f32(t->y, p.r)[b] =
        rgm_backup(rgm_f32(t->reward, p.r)[b], rgm_f32(t->terminated, p.r)[b], gamma, value);
  }
}


void RGM_CPU(soft_target)(rgm_stream *s, const rgm_target *target) {
  rgm_target t = *target;
  rgm_cpu_parallel(s, t.q.dims[0] * pieces_of(t.q.dims[2]), soft_target_task, &t);
}


// ---- critics -----------------------------------------------------------------------------------

static rgm_critic_rates rates_of(const rgm_critic *c, int64_t r) {
  const bool push = c->push != RGM_PUSH_NONE, soft = c->push >= RGM_PUSH_LOGSUMEXP_MODEL;
  const int64_t rows = c->q.dims[2];
  return rgm_critic_rates_of(
      c->push, rows, c->real.data != NULL ? (int64_t)rgm_u32(c->real, r)[0] : rows,
      push ? rgm_f32(c->beta, r)[0] : 0.0f,
      c->log_multiplier.data != NULL ? rgm_exp(rgm_f32(c->log_multiplier, r)[0]) : 1.0f,
      soft ? rgm_f32(c->temperature, r)[0] : 1.0f,
      c->delta.data != NULL ? rgm_f32(c->delta, r)[0] : INFINITY);
}


static void critic_loss_task(void *arg, int64_t index) {
  const rgm_critic *c = arg;
  const int64_t *d = c->q.dims, *e = c->sampled.dims;
  const piece p = piece_of(index, d[1], d[2]);
  if (rgm_u32(c->active, p.r)[0] == 0) {
    return;
  }
  const rgm_critic_rates k = rates_of(c, p.r);
  for (int64_t b = p.begin; b < p.end; b++) {
    const int64_t row = p.n * d[2] + b;
    const float *q = rgm_f32(c->q, p.r) + row * d[3];
    const float *z = c->head.data != NULL ? rgm_f32(c->head, p.r) + b * c->head.dims[2] : NULL;
    float *dq = rgm_f32(c->dq, p.r) + row * d[3], value = 0.0f;
    int64_t action = 0;
    clear(dq, c->action.data != NULL ? c->actions : 0, d[3]);
    if (c->action.data != NULL) {
      action = (int64_t)rgm_f32(c->action, p.r)[b];
      value = rgm_push_actions(dq, q, z, c->actions, b, c->push, &k);
    } else if (c->sampled.data != NULL) {
      const int64_t net = p.n * e[2] * e[3];
      value = rgm_push_samples(rgm_f32(c->dsampled, p.r) + net, rgm_f32(c->sampled, p.r) + net,
                               rgm_f32(c->log_q, p.r), e[2] / (d[2] * c->samples), d[2], c->samples,
                               e[3], b, &k);
    }
    const rgm_critic_row own = rgm_critic_own(q[action], rgm_f32(c->y, p.r)[b], value, b, &k);
    dq[action] = dq[action] + own.slope;
    if (c->loss.data != NULL) {
      rgm_f32(c->loss, p.r)[row] = own.loss;
    }
    if (c->gap.data != NULL) {
      rgm_f32(c->gap, p.r)[row] = own.gap;
    }
  }
}


void RGM_CPU(critic_loss)(rgm_stream *s, const rgm_critic *critic) {
  rgm_critic c = *critic;
  rgm_cpu_parallel(s, c.q.dims[0] * c.q.dims[1] * pieces_of(c.q.dims[2]), critic_loss_task, &c);
}


// ---- actors ------------------------------------------------------------------------------------

static void actor_loss_task(void *arg, int64_t index) {
  const rgm_actor *a = arg;
  const int64_t *d = a->q.dims, apart = d[2] * d[3], columns = a->head.dims[2];
  const piece p = piece_of(index, 1, d[2]);
  if (rgm_u32(a->active, p.r)[0] == 0) {
    return;
  }
  const float alpha = alpha_of(a->log_alpha, p.r), share = 1.0f / (float)d[2];
  for (int64_t b = p.begin; b < p.end; b++) {
    const float *q = rgm_f32(a->q, p.r) + b * d[3];
    float loss, entropy = 0.0f;
    if (a->head.data != NULL) {
      float *dz = rgm_f32(a->dz, p.r) + b * columns;
      rgm_actor_row(dz, &loss, &entropy, q, d[1], apart, rgm_f32(a->head, p.r) + b * columns,
                    a->actions, alpha, share);
      clear(dz, a->actions, columns);
    } else {
      int64_t which;
      const float least = rgm_least_critic(q, d[1], apart, &which);
      loss = share * rgm_fma(alpha, rgm_f32(a->log_pi, p.r)[b], -least);
      for (int64_t n = 0; n < d[1]; n++) {
        float *dq = rgm_f32(a->dq, p.r) + n * apart + b * d[3];
        clear(dq, 1, d[3]);
        dq[0] = n == which ? -share : 0.0f;
      }
    }
    if (a->loss.data != NULL) {
      rgm_f32(a->loss, p.r)[b] = loss;
    }
    if (a->head.data != NULL && a->entropy.data != NULL) {
      rgm_f32(a->entropy, p.r)[b] = entropy;
    }
  }
}


void RGM_CPU(actor_loss)(rgm_stream *s, const rgm_actor *actor) {
  rgm_actor a = *actor;
  rgm_cpu_parallel(s, a.q.dims[0] * pieces_of(a.q.dims[2]), actor_loss_task, &a);
}


// ---- multipliers -------------------------------------------------------------------------------

typedef struct dual_args {
  rgm_tensor grad, mean, x, weight, target, log_dual, active;
  float scale;
  rgm_dual_form form;
} dual_args;


static void dual_task(void *arg, int64_t r) {
  const dual_args *a = arg;
  if (rgm_u32(a->active, r)[0] == 0) {
    return;
  }
  const float mean =
      a->scale * rgm_cpu_sum(rgm_f32(a->x, r), rgm_elements(a->x) / a->x.dims[0], false);
  const float log_dual = a->log_dual.data != NULL ? rgm_f32(a->log_dual, r)[0] : 0.0f;
  rgm_f32(a->grad, r)[0] =
      rgm_dual_slope(a->form, mean, rgm_f32(a->weight, r)[0], rgm_f32(a->target, r)[0], log_dual);
  if (a->mean.data != NULL) {
    rgm_f32(a->mean, r)[0] = mean;
  }
}


void RGM_CPU(dual)(rgm_stream *s, rgm_tensor grad, rgm_tensor mean, rgm_tensor x, rgm_tensor weight,
                   rgm_tensor target, rgm_tensor log_dual, rgm_tensor active, float scale,
                   rgm_dual_form form) {
  dual_args a = {grad, mean, x, weight, target, log_dual, active, scale, form};
  rgm_cpu_parallel(s, x.dims[0], dual_task, &a);
}


// ---- tanh-Gaussian policies --------------------------------------------------------------------

// classes of rows `begin` to `end` of replica r
static void draw_classes(const rgm_policy_draw *a, piece p) {
  const rgm_key key = rgm_stream_key(rgm_u32(a->seeds, p.r), a->random);
  const uint32_t step = rgm_u32(a->clock, p.r)[0];
  const bool uniform = a->draw == RGM_DRAW_UNIFORM;
  const int64_t each = uniform ? 1 : a->act.dims[1] / a->head.dims[1];
  for (int64_t m = p.begin; m < p.end; m++) {
    const float u = rgm_unit(rgm_philox(key, step, (uint32_t)m, 0, a->member).w0);
    float *log_pi = rgm_f32(a->log_pi, p.r) + m;
    const int which = uniform ? rgm_class_uniform(a->choices, u, log_pi)
                              : rgm_class_of(rgm_f32(a->head, p.r) + m / each * a->head.dims[2],
                                             a->choices, a->draw, u, log_pi);
    rgm_f32(a->act, p.r)[m] = (float)which;
  }
}


static void action_draw_task(void *arg, int64_t index) {
  const rgm_policy_draw *a = arg;
  const int64_t samples = a->act.dims[1], dims = a->act.dims[2], columns = a->head.dims[2];
  const piece p = piece_of(index, 1, samples);
  if (rgm_u32(a->active, p.r)[0] == 0) {
    return;
  }
  if (a->choices > 0) {
    draw_classes(a, p);
    return;
  }
  const rgm_key key = rgm_stream_key(rgm_u32(a->seeds, p.r), a->random);
  const uint32_t step = rgm_u32(a->clock, p.r)[0];
  const bool uniform = a->draw == RGM_DRAW_UNIFORM;
  const float low = uniform ? 0.0f : rgm_f32(a->low, p.r)[0];
  const float high = uniform ? 0.0f : rgm_f32(a->high, p.r)[0];
  const float *scale = rgm_f32(a->scale, p.r), *shift = rgm_f32(a->shift, p.r);
  const int64_t each = uniform ? 1 : samples / a->head.dims[1];
  for (int64_t m = p.begin; m < p.end; m++) {
    const float *head = uniform ? NULL : rgm_f32(a->head, p.r) + m / each * columns;
    float *act = rgm_f32(a->act, p.r) + m * dims, log_pi = 0.0f, noise[4];
    for (int64_t k = 0; k < dims; k++) {
      if (k % 4 == 0) {
        rgm_action_noise(key, step, (uint32_t)m, (uint32_t)(k / 4), a->member, a->draw, noise);
      }
      if (uniform) {
        act[k] = rgm_fma(scale[k], noise[k % 4], shift[k]);
        log_pi = log_pi - rgm_log(2.0f * scale[k]);
      } else {
        act[k] = rgm_action_of(head[k], rgm_clamp(head[dims + k], low, high), noise[k % 4],
                               scale[k], shift[k], &log_pi);
      }
    }
    rgm_f32(a->log_pi, p.r)[m] = log_pi;
  }
}


void RGM_CPU(action_draw)(rgm_stream *s, const rgm_policy_draw *draw) {
  rgm_policy_draw a = *draw;
  rgm_cpu_parallel(s, a.act.dims[0] * pieces_of(a.act.dims[1]), action_draw_task, &a);
}


typedef struct slopes_args {
  rgm_tensor dhead, dx, log_alpha;
  rgm_policy_draw draw;
  int64_t column;
} slopes_args;


static void action_backward_task(void *arg, int64_t index) {
  const slopes_args *a = arg;
  const rgm_policy_draw *draw = &a->draw;
  const int64_t rows = a->dhead.dims[1], columns = a->dhead.dims[2], dims = draw->scale.dims[1];
  const int64_t inputs = a->dx.dims[3];
  const piece p = piece_of(index, 1, rows);
  if (rgm_u32(draw->active, p.r)[0] == 0) {
    return;
  }
  const rgm_key key = rgm_stream_key(rgm_u32(draw->seeds, p.r), draw->random);
  const uint32_t step = rgm_u32(draw->clock, p.r)[0];
  const float low = rgm_f32(draw->low, p.r)[0], high = rgm_f32(draw->high, p.r)[0];
  const float share = alpha_of(a->log_alpha, p.r) / (float)rows;
  for (int64_t b = p.begin; b < p.end; b++) {
    const float *head = rgm_f32(draw->head, p.r) + b * columns;
    float *dhead = rgm_f32(a->dhead, p.r) + b * columns, noise[4];
    for (int64_t k = 0; k < dims; k++) {
      float da = 0.0f;
      if (k % 4 == 0) {
        rgm_action_noise(key, step, (uint32_t)b, (uint32_t)(k / 4), draw->member, draw->draw,
                         noise);
      }
      for (int64_t n = 0; a->dx.data != NULL && n < a->dx.dims[1]; n++) {
        da = da + rgm_f32(a->dx, p.r)[(n * rows + b) * inputs + a->column + k];
      }
      rgm_action_slopes(head[k], head[dims + k], low, high, noise[k % 4],
                        rgm_f32(draw->scale, p.r)[k], da, share, &dhead[k], &dhead[dims + k]);
    }
    clear(dhead, 2 * dims, columns);
  }
}


void RGM_CPU(action_backward)(rgm_stream *s, rgm_tensor dhead, rgm_tensor dx, rgm_tensor log_alpha,
                              const rgm_policy_draw *draw, int64_t column) {
  slopes_args a = {dhead, dx, log_alpha, *draw, column};
  rgm_cpu_parallel(s, dhead.dims[0] * pieces_of(dhead.dims[1]), action_backward_task, &a);
}


typedef struct score_args {
  rgm_tensor dhead;
  rgm_policy_draw given;
} score_args;


static void action_score_task(void *arg, int64_t index) {
  const score_args *a = arg;
  const rgm_policy_draw *given = &a->given;
  const int64_t rows = given->act.dims[1], dims = given->act.dims[2];
  const int64_t columns = given->head.dims[2];
  const piece p = piece_of(index, 1, rows);
  if (rgm_u32(given->active, p.r)[0] == 0) {
    return;
  }
  const bool classes = given->choices > 0, slopes = a->dhead.data != NULL;
  const float low = classes ? 0.0f : rgm_f32(given->low, p.r)[0];
  const float high = classes ? 0.0f : rgm_f32(given->high, p.r)[0];
  const float share = 1.0f / (float)rows;
  for (int64_t b = p.begin; b < p.end; b++) {
    const float *head = rgm_f32(given->head, p.r) + b * columns;
    const float *act = rgm_f32(given->act, p.r) + b * dims;
    float *dhead = slopes ? rgm_f32(a->dhead, p.r) + b * columns : NULL, log_pi = 0.0f;
    if (classes) {
      log_pi = rgm_class_score(dhead, head, given->choices, (int)act[0], share);
    }
    for (int64_t k = 0; k < dims && !classes; k++) {
      float dmu, draw;
      rgm_action_density(head[k], head[dims + k], low, high, act[k], rgm_f32(given->scale, p.r)[k],
                         rgm_f32(given->shift, p.r)[k], share, &log_pi, &dmu, &draw);
      if (slopes) {
        dhead[k] = dmu;
        dhead[dims + k] = draw;
      }
    }
    if (slopes) {
      clear(dhead, classes ? given->choices : 2 * dims, columns);
    }
    rgm_f32(given->log_pi, p.r)[b] = log_pi;
  }
}


void RGM_CPU(action_score)(rgm_stream *s, rgm_tensor dhead, const rgm_policy_draw *given) {
  score_args a = {dhead, *given};
  rgm_cpu_parallel(s, given->act.dims[0] * pieces_of(given->act.dims[1]), action_score_task, &a);
}
