// SPDX-License-Identifier: Apache-2.0
// Front doors of the rows of actors, critics and ensembles, and of those of experience: check
// shapes once, count work, dispatch. A wrong shape is a bug of the caller: RGM_ASSERT.

#include "kernels/door.h"

#include <math.h>


// an output that may be left out
static bool is_optional(rgm_tensor t, int64_t d0, int64_t d1, int64_t d2) {
  return t.data == NULL || is_shape(t, d0, d1, d2, 1);
}


// logits of `actions` actions for R replicas and B rows
static bool is_head(rgm_tensor t, int64_t replicas, int64_t rows, int64_t actions) {
  return is_shape(t, replicas, rows, t.dims[2], 1) && t.dims[2] >= actions;
}


// ---- targets, critics, actors ------------------------------------------------------------------

// floating-point operations of a log-softmax over n numbers, exp and log among them
static double softmax_flops(double n) {
  return 30.0 * n;
}


void rgm_soft_target(rgm_stream *s, const rgm_target *t) {
  const int64_t replicas = t->q.dims[0], rows = t->q.dims[2];
  const bool discrete = t->head.data != NULL;
  RGM_ASSERT(t->q.dtype == RGM_F32 && t->actions > 0 && t->actions <= t->q.dims[3]);
  RGM_ASSERT(discrete ? is_head(t->head, replicas, rows, t->actions) : t->actions == 1);
  RGM_ASSERT(discrete || t->log_alpha.data == NULL || is_shape(t->log_pi, replicas, rows, 1, 1));
  RGM_ASSERT(is_shape(t->y, replicas, rows, 1, 1) && is_shape(t->reward, replicas, rows, 1, 1));
  RGM_ASSERT(is_shape(t->terminated, replicas, rows, 1, 1));
  RGM_ASSERT(is_each(t->gamma, RGM_F32, replicas) && is_each(t->active, RGM_U32, replicas));
  RGM_ASSERT(t->log_alpha.data == NULL || is_each(t->log_alpha, RGM_F32, replicas));
  const double values = (double)(replicas * rows) * t->actions;
  LAUNCH(s, soft_target, discrete ? softmax_flops(values) : values,
         4.0 * values * (double)(t->q.dims[1] + 1) + 3.0 * size_of(t->y), t);
}


void rgm_critic_loss(rgm_stream *s, const rgm_critic *c) {
  const int64_t *d = c->q.dims, replicas = d[0], nets = d[1], rows = d[2];
  const bool discrete = c->action.data != NULL, sampled = c->sampled.data != NULL;
  const bool soft = c->push >= RGM_PUSH_LOGSUMEXP_MODEL;
  RGM_ASSERT(same_shape(c->dq, c->q) && c->q.dtype == RGM_F32 && c->dq.data != NULL);
  RGM_ASSERT(c->actions > 0 && c->actions <= d[3] && (discrete || c->actions == 1));
  RGM_ASSERT(!discrete || is_shape(c->action, replicas, rows, 1, 1));
  RGM_ASSERT(is_shape(c->y, replicas, rows, 1, 1) && is_each(c->active, RGM_U32, replicas));
  RGM_ASSERT(is_optional(c->loss, replicas, nets, rows) &&
             is_optional(c->gap, replicas, nets, rows));
  RGM_ASSERT(c->delta.data == NULL || is_each(c->delta, RGM_F32, replicas));
  RGM_ASSERT(c->real.data == NULL || is_each(c->real, RGM_U32, replicas));
  RGM_ASSERT(c->log_multiplier.data == NULL || is_each(c->log_multiplier, RGM_F32, replicas));
  RGM_ASSERT(c->push == RGM_PUSH_NONE || is_each(c->beta, RGM_F32, replicas));
  RGM_ASSERT(!soft || is_each(c->temperature, RGM_F32, replicas));
  RGM_ASSERT(c->push != RGM_PUSH_RHO_EXPECT ||
             (discrete && is_head(c->head, replicas, rows, c->actions)));
  RGM_ASSERT(sampled == (soft && !discrete));
  if (sampled) {
    const int64_t all = c->sampled.dims[2];
    RGM_ASSERT(c->samples > 0 && all % (rows * c->samples) == 0 && all > 0);
    RGM_ASSERT(is_shape(c->sampled, replicas, nets, all, c->sampled.dims[3]));
    RGM_ASSERT(same_shape(c->dsampled, c->sampled) && c->dsampled.data != NULL);
    RGM_ASSERT(is_shape(c->log_q, replicas, all, 1, 1));
  }
  const double values = sampled ? (double)(replicas * nets * c->sampled.dims[2])
                                : (double)(replicas * nets * rows) * c->actions;
  LAUNCH(s, critic_loss, c->push >= RGM_PUSH_RHO_EXPECT ? softmax_flops(values) : 6.0 * values,
         2.0 * size_of(c->q) + (sampled ? size_of(c->dsampled) + 8.0 * values : 0.0) +
             size_if(c->loss) + size_if(c->gap),
         c);
}


void rgm_actor_loss(rgm_stream *s, const rgm_actor *a) {
  const int64_t *d = a->q.dims, replicas = d[0], rows = d[2];
  const bool discrete = a->head.data != NULL;
  RGM_ASSERT(a->q.dtype == RGM_F32 && a->actions > 0 && a->actions <= d[3]);
  RGM_ASSERT(is_optional(a->loss, replicas, rows, 1) && is_optional(a->entropy, replicas, rows, 1));
  RGM_ASSERT(is_each(a->log_alpha, RGM_F32, replicas) && is_each(a->active, RGM_U32, replicas));
  if (discrete) {
    RGM_ASSERT(is_head(a->head, replicas, rows, a->actions) && same_shape(a->dz, a->head));
  } else {
    RGM_ASSERT(a->actions == 1 && same_shape(a->dq, a->q) && a->dq.data != NULL);
    RGM_ASSERT(is_shape(a->log_pi, replicas, rows, 1, 1));
  }
  const double values = (double)(replicas * rows) * a->actions;
  LAUNCH(s, actor_loss, discrete ? 2.0 * softmax_flops(values) : 4.0 * values,
         4.0 * values * (double)d[1] + (discrete ? 2.0 * size_of(a->head) : size_of(a->dq)), a);
}


void rgm_dual(rgm_stream *s, rgm_tensor grad, rgm_tensor mean, rgm_tensor x, rgm_tensor weight,
              rgm_tensor target, rgm_tensor log_dual, rgm_tensor active, float scale,
              rgm_dual_form form) {
  const int64_t replicas = x.dims[0];
  RGM_ASSERT(x.dtype == RGM_F32 && is_each(grad, RGM_F32, replicas));
  RGM_ASSERT(mean.data == NULL || is_each(mean, RGM_F32, replicas));
  RGM_ASSERT(is_each(weight, RGM_F32, replicas) && is_each(target, RGM_F32, replicas));
  RGM_ASSERT((form == RGM_DUAL_LINEAR && log_dual.data == NULL) ||
             is_each(log_dual, RGM_F32, replicas));
  RGM_ASSERT(is_each(active, RGM_U32, replicas));
  LAUNCH(s, dual, (double)rgm_elements(x), size_of(x), grad, mean, x, weight, target, log_dual,
         active, scale, form);
}


rgm_status rgm_entropy_check(const char *key, double target, int actions) {
  const double most = log((double)actions);
  if (!(target >= 0.0 && target <= most)) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: the entropy of %d actions lies between 0 and log %d = %.4g nats, so a "
                    "policy cannot hold %.4g; use 0.98 log %d = %.4g",
                    key, actions, actions, most, target, actions, 0.98 * most);
  }
  return RGM_OK;
}


// ---- tanh-Gaussian policies --------------------------------------------------------------------

// what both directions read
static void check_policy(const rgm_policy_draw *p, int64_t replicas, int64_t dims) {
  const bool classes = p->choices > 0, uniform = p->draw == RGM_DRAW_UNIFORM;
  RGM_ASSERT(p->choices >= 0 && (!classes || dims == 1));
  RGM_ASSERT(classes || (is_shape(p->scale, replicas, dims, 1, 1) &&
                         is_shape(p->shift, replicas, dims, 1, 1)));
  RGM_ASSERT(is_each(p->active, RGM_U32, replicas));
  RGM_ASSERT(classes || uniform ||
             (is_each(p->low, RGM_F32, replicas) && is_each(p->high, RGM_F32, replicas)));
  RGM_ASSERT(uniform ||
             is_head(p->head, replicas, p->head.dims[1], classes ? p->choices : 2 * dims));
}


static void check_noise(const rgm_policy_draw *p, int64_t replicas) {
  RGM_ASSERT(is_each(p->clock, RGM_U32, replicas));
  RGM_ASSERT(is_vector(p->seeds, RGM_U32, 2 * replicas) && p->seeds.dims[1] == 2);
}


void rgm_action_draw(rgm_stream *s, const rgm_policy_draw *p) {
  const int64_t replicas = p->act.dims[0], samples = p->act.dims[1], dims = p->act.dims[2];
  RGM_ASSERT(is_shape(p->act, replicas, samples, dims, 1));
  RGM_ASSERT(is_shape(p->log_pi, replicas, samples, 1, 1));
  check_policy(p, replicas, dims);
  check_noise(p, replicas);
  RGM_ASSERT(p->draw == RGM_DRAW_UNIFORM || samples % p->head.dims[1] == 0);
  LAUNCH(s, action_draw, 100.0 * (double)rgm_elements(p->act),
         size_of(p->act) + size_of(p->log_pi) + size_if(p->head), p);
}


void rgm_action_backward(rgm_stream *s, rgm_tensor dhead, rgm_tensor dx, rgm_tensor log_alpha,
                         const rgm_policy_draw *p, int64_t column) {
  const int64_t replicas = dhead.dims[0], rows = dhead.dims[1], dims = p->scale.dims[1];
  RGM_ASSERT(same_shape(dhead, p->head) && p->draw != RGM_DRAW_UNIFORM && column >= 0);
  RGM_ASSERT(p->choices == 0);
  check_policy(p, replicas, dims);
  check_noise(p, replicas);
  RGM_ASSERT(log_alpha.data == NULL || is_each(log_alpha, RGM_F32, replicas));
  if (dx.data != NULL) {
    RGM_ASSERT(is_shape(dx, replicas, dx.dims[1], rows, dx.dims[3]));
    RGM_ASSERT(column + dims <= dx.dims[3]);
  }
  LAUNCH(s, action_backward, 150.0 * (double)(replicas * rows * dims),
         2.0 * size_of(dhead) + 4.0 * (double)(replicas * rows * dims * dx.dims[1]), dhead, dx,
         log_alpha, p, column);
}


void rgm_action_score(rgm_stream *s, rgm_tensor dhead, const rgm_policy_draw *p) {
  const int64_t replicas = p->act.dims[0], rows = p->act.dims[1], dims = p->act.dims[2];
  RGM_ASSERT(is_shape(p->act, replicas, rows, dims, 1) && p->draw != RGM_DRAW_UNIFORM);
  RGM_ASSERT(is_shape(p->log_pi, replicas, rows, 1, 1) && p->head.dims[1] == rows);
  check_policy(p, replicas, dims);
  RGM_ASSERT(dhead.data == NULL || same_shape(dhead, p->head));
  LAUNCH(s, action_score, 100.0 * (double)rgm_elements(p->act),
         size_of(p->act) + size_of(p->log_pi) + size_of(p->head) + size_if(dhead), dhead, p);
}


// ---- ensembles ---------------------------------------------------------------------------------

// a target of each net, or one for all of them
static bool is_target(rgm_tensor t, const int64_t *d, int64_t outputs) {
  return t.rank == 4 ? is_shape(t, d[0], d[1], d[2], outputs)
                     : t.rank == 3 && is_shape(t, d[0], d[2], outputs, 1);
}


void rgm_gaussian_nll(rgm_stream *s, const rgm_nll *n) {
  const int64_t *d = n->head.dims, outputs = n->bounds.dims[3];
  RGM_ASSERT(same_shape(n->dhead, n->head) && n->head.dtype == RGM_F32 && 2 * outputs <= d[3]);
  RGM_ASSERT(is_shape(n->bounds, d[0], d[1], 2, outputs) && same_shape(n->dbounds, n->bounds));
  RGM_ASSERT(is_target(n->target, d, outputs) && is_optional(n->loss, d[0], d[1], d[2]));
  RGM_ASSERT(is_each(n->penalty, RGM_F32, d[0]) && is_each(n->active, RGM_U32, d[0]));
  const double terms = (double)(d[0] * d[1] * d[2] * outputs);
  LAUNCH(s, gaussian_nll, 150.0 * terms, 2.0 * size_of(n->head) + size_of(n->target), n);
}


void rgm_mse(rgm_stream *s, rgm_tensor y, rgm_tensor head, rgm_tensor target) {
  const int64_t *d = head.dims, outputs = y.dims[2];
  RGM_ASSERT(head.dtype == RGM_F32 && is_shape(y, d[0], d[1], outputs, 1) && outputs <= d[3]);
  RGM_ASSERT(is_target(target, d, outputs));
  const double terms = (double)(d[0] * d[1] * d[2] * outputs);
  LAUNCH(s, mse, 3.0 * terms, 4.0 * terms + size_of(target), y, head, target);
}


// ---- rows of experience ------------------------------------------------------------------------

static void check_ring(const rgm_ring *ring, int64_t replicas) {
  RGM_ASSERT(ring->columns > 0 && ring->columns <= RGM_RING_COLUMNS);
  RGM_ASSERT(is_each(ring->head, RGM_U32, replicas) && is_each(ring->count, RGM_U32, replicas));
  const int64_t capacity = ring->column[0].dims[1];
  RGM_ASSERT(capacity > 0 && capacity <= UINT32_MAX);
  for (int k = 0; k < ring->columns; k++) {
    const rgm_tensor t = ring->column[k];
    RGM_ASSERT(is_shape(t, replicas, capacity, t.dims[2], 1));
  }
}


void rgm_replay_append(rgm_stream *s, const rgm_ring *to, const rgm_tensor *rows, rgm_tensor keep,
                       rgm_tensor active) {
  const int64_t replicas = rows[0].dims[0], count = rows[0].dims[1];
  double bytes = size_if(keep);
  check_ring(to, replicas);
  RGM_ASSERT(count <= to->column[0].dims[1] && is_each(active, RGM_U32, replicas));
  RGM_ASSERT(keep.data == NULL || is_shape(keep, replicas, count, 1, 1));
  for (int k = 0; k < to->columns; k++) {
    RGM_ASSERT(is_shape(rows[k], replicas, count, to->column[k].dims[2], 1));
    bytes += 2.0 * size_of(rows[k]);
  }
  LAUNCH(s, replay_append, 0, bytes, to, rows, keep, active);
}


void rgm_replay_gather(rgm_stream *s, const rgm_gather *g) {
  const int64_t replicas = g->row[0].dims[0], rows = g->row[0].dims[1];
  const rgm_ring *ring[] = {g->from, g->other != NULL ? g->other : g->from};
  double bytes = 0.0;
  for (int i = 0; i < 2; i++) {
    check_ring(ring[i], replicas);
    RGM_ASSERT(ring[i]->columns == g->from->columns);
    for (int k = 0; k < ring[i]->columns; k++) {
      RGM_ASSERT(is_shape(g->row[k], replicas, rows, ring[i]->column[k].dims[2], 1));
      bytes += size_of(g->row[k]);
    }
  }
  RGM_ASSERT(g->other == NULL || is_each(g->share, RGM_U32, replicas));
  RGM_ASSERT(is_each(g->active, RGM_U32, replicas));
  RGM_ASSERT(g->items.data == NULL
                 ? !g->given
                 : is_vector(g->items, RGM_U32, replicas * rows) && g->items.dims[0] == replicas);
  if (!g->given) {
    RGM_ASSERT(is_vector(g->seeds, RGM_U32, 2 * replicas) && g->seeds.dims[1] == 2);
    RGM_ASSERT(is_each(g->clock, RGM_U32, replicas));
  }
  LAUNCH(s, replay_gather, 0, bytes, g);
}


void rgm_normalise(rgm_stream *s, rgm_tensor y, rgm_tensor x, rgm_tensor mean, rgm_tensor sd,
                   bool inverse) {
  RGM_ASSERT(x.dtype == RGM_F32 && same_shape(y, x) && x.dims[3] == 1);
  RGM_ASSERT(is_shape(mean, x.dims[0], x.dims[2], 1, 1) && same_shape(mean, sd));
  LAUNCH(s, normalise, 2.0 * (double)rgm_elements(x), 2.0 * size_of(x), y, x, mean, sd, inverse);
}


void rgm_concat(rgm_stream *s, rgm_tensor x, rgm_tensor state, rgm_tensor action, int classes) {
  const int64_t replicas = x.dims[0], rows = x.dims[1], dims = classes > 0 ? 1 : action.dims[2];
  RGM_ASSERT(classes >= 0 && is_shape(action, replicas, rows, dims, 1));
  RGM_ASSERT(is_shape(state, replicas, state.dims[1], state.dims[2], 1));
  RGM_ASSERT(rows % state.dims[1] == 0);
  RGM_ASSERT(is_shape(x, replicas, rows, state.dims[2] + (classes > 0 ? classes : dims), 1));
  LAUNCH(s, concat, 0, size_of(x) + size_of(state) + size_of(action), x, state, action, classes);
}


void rgm_clip_norm(rgm_stream *s, rgm_tensor g, rgm_tensor norm, rgm_tensor limit,
                   rgm_tensor active) {
  const int64_t replicas = g.dims[0];
  RGM_ASSERT(g.dtype == RGM_F32 && is_each(norm, RGM_F32, replicas));
  RGM_ASSERT(is_each(limit, RGM_F32, replicas) && is_each(active, RGM_U32, replicas));
  LAUNCH(s, clip_norm, 3.0 * (double)rgm_elements(g), 3.0 * size_of(g), g, norm, limit, active);
}
