// SPDX-License-Identifier: Apache-2.0
// Front doors of the rows of tabular problems: check shapes once, count work, dispatch. A wrong
// shape is a bug of the caller: RGM_ASSERT.

#include "kernels/tabular.h"
#include "kernels/door.h"


static bool is_f64(rgm_tensor t, int64_t d0, int64_t d1) {
  return t.data != NULL && t.dtype == RGM_F64 && t.dims[0] == d0 && t.dims[1] == d1;
}


// The same of one structure for all replicas: a vector, or a broadcast one.
static bool is_rows(const rgm_mdp_rows *m, int64_t states) {
  const int64_t slices = m->start.dims[0] - 1, blocks = m->block.dims[0] - 1;
  return is_vector(m->first, RGM_U32, states + 1) && blocks >= 0 && slices >= 0 &&
         is_vector(m->slice, RGM_U32, blocks + 1) && m->start.dtype == RGM_U32 &&
         m->length.dtype == RGM_U32 && m->length.dims[1] == slices && m->lane.dtype == RGM_I32 &&
         m->lane.dims[1] == RGM_SLICE * slices && m->reward.dtype == RGM_F64 &&
         (m->next.data != NULL ? m->p.dtype == RGM_F64 && m->next.dtype == RGM_I32
                               : m->p.dtype == RGM_U32 && m->home.data != NULL) &&
         m->scale > 0.0;
}


// entries of one replica, padding among them, and bytes of a sweep over them
static double entries_of(const rgm_mdp_rows *m) {
  return (double)m->p.dims[1];
}


static double bytes_of(const rgm_mdp_rows *m, double states) {
  const double entry = m->next.data != NULL ? 12.0 : 4.0;
  return entries_of(m) * entry + 8.0 * (double)m->reward.dims[1] + 4.0 * (double)m->lane.dims[1] +
         24.0 * states;
}


void rgm_mdp_bellman(rgm_stream *s, const rgm_bellman *b) {
  const int64_t replicas = b->value.dims[0], states = b->value.dims[1];
  const int64_t blocks = b->rows.block.dims[0] - 1;
  RGM_ASSERT(is_f64(b->value, replicas, states) && is_f64(b->out, replicas, states));
  RGM_ASSERT(b->out.data != b->value.data && is_rows(&b->rows, states));
  RGM_ASSERT(b->q.data == NULL || is_f64(b->q, replicas, b->rows.reward.dims[1]));
  RGM_ASSERT(b->action.data == NULL || (b->action.dtype == RGM_I32 && b->action.dims[1] == states));
  RGM_ASSERT(b->partial.dims[1] == blocks && b->partial.dtype == RGM_F64);
  RGM_ASSERT(is_f64(b->bounds, replicas, 2) && is_each(b->active, RGM_U32, replicas));
  RGM_ASSERT(is_each(b->gamma, RGM_F64, replicas) && is_each(b->tie, RGM_F64, replicas));
  const double R = (double)replicas;
  LAUNCH(s, bellman, 2.0 * R * entries_of(&b->rows), R * bytes_of(&b->rows, (double)states), b);
}


void rgm_mdp_copy_rows(rgm_stream *s, const rgm_mdp_pick *p) {
  const int64_t replicas = p->action.dims[0], states = p->action.dims[1];
  RGM_ASSERT(is_rows(&p->from, states) && is_rows(&p->to, states) && p->from.next.data != NULL);
  RGM_ASSERT(p->to.next.data != NULL && p->to.length.dims[0] == replicas);
  RGM_ASSERT(p->to.block.dims[0] == p->from.block.dims[0] && p->action.dtype == RGM_I32);
  RGM_ASSERT(is_each(p->active, RGM_U32, replicas));
  LAUNCH(s, mdp_pick, 0.0, 24.0 * (double)replicas * entries_of(&p->to), p);
}


void rgm_mdp_solve_small(rgm_stream *s, const rgm_mdp_solve *a) {
  const int64_t replicas = a->value.dims[0], states = a->value.dims[1];
  RGM_ASSERT(is_f64(a->value, replicas, states) && a->most > 0);
  RGM_ASSERT(is_rows(&a->rows, states) && is_rows(&a->chosen, states));
  RGM_ASSERT(a->rows.next.data != NULL && a->chosen.length.dims[0] == replicas);
  RGM_ASSERT(a->action.dtype == RGM_I32 && is_f64(a->bounds, replicas, 2));
  RGM_ASSERT(is_each(a->gamma, RGM_F64, replicas) && is_each(a->tie, RGM_F64, replicas));
  RGM_ASSERT(is_each(a->stop, RGM_F64, replicas) && is_each(a->active, RGM_U32, replicas));
  RGM_ASSERT(is_each(a->rounds, RGM_U32, replicas));

  // of one round: how many there are is known afterwards
  const double R = (double)replicas;
  LAUNCH(s, mdp_solve, 2.0 * R * (entries_of(&a->rows) + a->sweeps * entries_of(&a->chosen)),
         R * bytes_of(&a->rows, (double)states), a);
}


void rgm_mdp_bootstrap(rgm_stream *s, const rgm_mdp_draw *a) {
  const int64_t replicas = a->p.dims[0], rows = a->rows.reward.dims[1];
  RGM_ASSERT(a->p.dtype == RGM_F64 && is_f64(a->reward, replicas, rows));
  RGM_ASSERT(is_vector(a->count, RGM_U32, rows) && a->p.dims[1] == a->rows.p.dims[1]);
  RGM_ASSERT(a->rows.next.data != NULL && a->seeds.dims[1] == 2);
  RGM_ASSERT(is_each(a->clock, RGM_U32, replicas) && is_each(a->active, RGM_U32, replicas));
  LAUNCH(s, mdp_draw, 0.0, size_of(a->p), a);
}


void rgm_mdp_learning(rgm_stream *s, const rgm_mdp_learn *a) {
  const int64_t replicas = a->q.dims[0], states = a->first.dims[0] - 1;
  const int64_t rows = a->start.dims[0] - 1;
  RGM_ASSERT(a->q.dtype == RGM_F64 && a->q.rank == 3 && a->updates > 0 && states > 0);
  RGM_ASSERT(a->q.dims[1] == (a->rule == RGM_LEARN_DOUBLE_Q ? 2 : 1));
  RGM_ASSERT(a->q.dims[2] == (a->rule == RGM_LEARN_TD0 ? states : rows));
  RGM_ASSERT(a->at.dtype == RGM_I32 && a->at.dims[1] == 2 && is_f64(a->tally, replicas, RGM_TALLY));
  RGM_ASSERT(is_each(a->lr, RGM_F64, replicas) && is_each(a->lr_last, RGM_F64, replicas));
  RGM_ASSERT(is_each(a->explore, RGM_F64, replicas) && is_each(a->span, RGM_F64, replicas));
  RGM_ASSERT(is_each(a->explore_last, RGM_F64, replicas) && is_each(a->gamma, RGM_F64, replicas));
  RGM_ASSERT(is_each(a->clock, RGM_U32, replicas) && is_each(a->active, RGM_U32, replicas));
  RGM_ASSERT(a->arrow.dtype == RGM_U32 && a->arrow.dims[1] == RGM_ARROW);
  RGM_ASSERT(a->rule != RGM_LEARN_TD0 || is_vector(a->policy, RGM_U32, rows));
  LAUNCH(s, mdp_learn, 0.0, 0.0, a);
}


void rgm_mdp_nearest(rgm_stream *s, const rgm_nearest_centre *a) {
  const int64_t replicas = a->index.dims[0], rows = a->index.dims[1];
  const int64_t features = a->centre.dims[1], centres = a->centre.dims[2];
  RGM_ASSERT(a->index.dtype == RGM_I32 && is_shape(a->least, replicas, rows, 1, 1));
  RGM_ASSERT(is_shape(a->x, replicas, rows, features, 1) && features > 0);
  RGM_ASSERT(is_shape(a->centre, replicas, features, centres, 1) && centres % 16 == 0);
  RGM_ASSERT(a->all.data == NULL || is_shape(a->all, replicas, rows, centres, 1));
  RGM_ASSERT(is_each(a->active, RGM_U32, replicas) && centres > 0);
  const double work = (double)replicas * (double)rows * (double)features * (double)centres;
  LAUNCH(s, nearest, 3.0 * work, size_of(a->x) + size_of(a->centre) + size_if(a->all), a);
}


void rgm_mdp_backward(rgm_stream *s, const rgm_induction *a) {
  const int64_t replicas = a->value.dims[0], steps = a->value.dims[1] - 1;
  const int64_t states = a->value.dims[2], actions = a->reward.dims[3], times = a->p.dims[1];
  RGM_ASSERT(a->value.dtype == RGM_F64 && steps > 0 && states > 0);
  RGM_ASSERT(a->action.dtype == RGM_I32 && a->action.dims[0] == replicas);
  RGM_ASSERT(a->action.dims[1] == steps && a->action.dims[2] == states);
  RGM_ASSERT(a->p.dtype == RGM_F64 && a->p.dims[0] == replicas && (times == 1 || times == steps));
  RGM_ASSERT(a->p.dims[2] == states * states && a->p.dims[3] == actions);
  RGM_ASSERT(actions > 0 && actions <= RGM_BACKWARD_ACTIONS);
  RGM_ASSERT(a->reward.dtype == RGM_F64 && a->reward.dims[0] == replicas);
  RGM_ASSERT(a->reward.dims[1] == times && a->reward.dims[2] == states);
  RGM_ASSERT(is_each(a->gamma, RGM_F64, replicas) && is_each(a->active, RGM_U32, replicas));
  const double sums = (double)(replicas * steps) * (double)(states * states * actions);
  LAUNCH(s, induct, 2.0 * sums, size_of(a->p) + size_of(a->reward) + size_of(a->value), a);
}
