// SPDX-License-Identifier: Apache-2.0
// Front doors of the rows of learned models: check shapes once, count work, dispatch. A wrong shape
// is a bug of the caller: RGM_ASSERT.

#include "kernels/dynamics.h"
#include "kernels/door.h"


static void check_routing(const rgm_routing *t, int64_t replicas) {
  RGM_ASSERT(is_vector(t->seeds, RGM_U32, 2 * replicas) && t->seeds.dims[1] == 2);
  RGM_ASSERT(is_each(t->clock, RGM_U32, replicas) && t->member < 0x80000000u);
}


static int64_t places_of(int64_t rows, int64_t elites) {
  return (rows + elites - 1) / elites;
}


void rgm_route(rgm_stream *s, rgm_tensor x, rgm_tensor from, const rgm_routing *routing) {
  const int64_t replicas = from.dims[0], rows = from.dims[1], width = from.dims[2];
  check_routing(routing, replicas);
  RGM_ASSERT(is_shape(from, replicas, rows, width, 1));
  RGM_ASSERT(is_shape(x, replicas, x.dims[1], places_of(rows, x.dims[1]), width));
  LAUNCH(s, route, 0, size_of(from) + size_of(x), x, from, routing);
}


void rgm_model(rgm_stream *s, const rgm_model_step *m) {
  const int64_t replicas = m->state.dims[0], rows = m->state.dims[1], states = m->state.dims[2];
  const int64_t elites = m->head.dims[1], outputs = states + 1;
  const bool all = m->kind != RGM_DOUBT_NONE;
  check_routing(&m->routing, replicas);
  RGM_ASSERT(is_shape(m->state, replicas, rows, states, 1) && same_shape(m->next, m->state));
  RGM_ASSERT(is_shape(m->reward, replicas, rows, 1, 1) && m->next.data != m->state.data);
  RGM_ASSERT(is_shape(m->terminated, replicas, rows, 1, 1));
  RGM_ASSERT(is_shape(m->alive, replicas, rows, 1, 1) && is_shape(m->keep, replicas, rows, 1, 1));
  RGM_ASSERT(m->doubt.data == NULL || is_shape(m->doubt, replicas, rows, 1, 1));
  RGM_ASSERT(
      is_shape(m->head, replicas, elites, all ? rows : places_of(rows, elites), m->head.dims[3]));
  RGM_ASSERT(m->head.dims[3] >= 2 * outputs);
  RGM_ASSERT(is_shape(m->bounds, replicas, elites, 2, outputs));
  RGM_ASSERT(is_shape(m->scale, replicas, 2, outputs, 1) && same_shape(m->range, m->scale));
  RGM_ASSERT(is_vector(m->hold, RGM_F32, replicas * states));
  RGM_ASSERT(m->box.data == NULL || is_shape(m->box, replicas, 2, states, 1));
  RGM_ASSERT(!all || is_each(m->weight, RGM_F32, replicas));
  RGM_ASSERT(is_each(m->active, RGM_U32, replicas));
  const double terms = (double)(replicas * rows * outputs);
  LAUNCH(s, model, (all ? 60.0 * (double)elites + 140.0 : 140.0) * terms,
         size_of(m->head) + 2.0 * size_of(m->state), m);
}


void rgm_appraise(rgm_stream *s, const rgm_appraisal *j) {
  const int64_t replicas = j->error.dims[0], chunks = j->error.dims[1], nets = j->error.dims[2];
  RGM_ASSERT(is_shape(j->error, replicas, chunks, nets, j->error.dims[3]));
  RGM_ASSERT(is_shape(j->loss, replicas, nets, 1, 1) && same_shape(j->best, j->loss));
  RGM_ASSERT(is_vector(j->improved, RGM_U32, replicas * nets) &&
             is_each(j->idle, RGM_F32, replicas));
  RGM_ASSERT(j->elites.dtype == RGM_U32 && j->elites.dims[0] == replicas);
  RGM_ASSERT(j->elites.dims[1] <= nets && rgm_elements(j->elites) == replicas * j->elites.dims[1]);
  RGM_ASSERT(is_each(j->margin, RGM_F32, replicas) && is_each(j->active, RGM_U32, replicas));
  RGM_ASSERT(j->rows > (chunks - 1) * j->chunk && j->rows <= chunks * j->chunk);
  LAUNCH(s, appraise, (double)rgm_elements(j->error), size_of(j->error), j);
}


void rgm_decay_weights(rgm_stream *s, rgm_tensor g, rgm_tensor p, rgm_tensor rate,
                       rgm_tensor active) {
  RGM_ASSERT(g.dtype == RGM_F32 && same_shape(g, p) && is_each(rate, RGM_F32, g.dims[0]));
  RGM_ASSERT(is_each(active, RGM_U32, g.dims[0]));
  LAUNCH(s, decay_weights, 2.0 * (double)rgm_elements(g), 3.0 * size_of(g), g, p, rate, active);
}


void rgm_adopt(rgm_stream *s, rgm_tensor to, rgm_tensor from, rgm_tensor chosen, uint32_t number) {
  RGM_ASSERT(to.dtype == RGM_F32 && same_shape(to, from) && is_each(chosen, RGM_U32, to.dims[0]));
  LAUNCH(s, adopt, 0, 2.0 * size_of(to), to, from, chosen, number);
}
