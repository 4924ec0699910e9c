// SPDX-License-Identifier: Apache-2.0
// Brackets: trials that are compared with each other at rungs.
//
//   halving  Jamieson & Talwalkar 2016: at each rung the best 1 / reduction of those that came to
//            it go on. Brackets wait for no other, as in ASHA (Li et al. 2020): the slots that a
//            bracket frees are refilled with the next one at once; unlike there, what is decided
//            depends on nothing but the bracket.
//   pbt      Jaderberg et al. 2017: at each rung the worst `quantile` of the bracket take the
//            weights and hyperparameters of one of the best, and change the latter.

#include "engine/sweep.h"

#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


bool rgm_sweep_better(const rgm_sweep *s, double x, double y) {
  if (isnan(x) || isnan(y)) {
    return !isnan(x) && isnan(y);
  }
  return s->is_min ? x < y : x > y;
}


double rgm_entrant_score(const rgm_sweep *s, const rgm_entrant *e, int rung) {
  const int64_t n = s->space->keys.seeds;
  double mean = 0;
  for (int64_t i = 0; i < n; i++) {
    mean += (double)e->scores[rung * n + i] / (double)n;
  }
  return mean;
}


rgm_status rgm_entrant_prepare(rgm_sweep *s, rgm_entrant *e) {
  if (e->member != NULL) {
    return RGM_OK;
  }
  RGM_TRY(rgm_space_member(s->space, e->index, e->values, &e->member));
  char *shape = rgm_space_shape(e->member->config);
  for (e->group = 0; shape != NULL && e->group < s->group_count; e->group++) {
    if (strcmp(s->groups[e->group], shape) == 0) {
      free(shape);
      return RGM_OK;
    }
  }
  char **grown = realloc(s->groups, (size_t)(s->group_count + 1) * sizeof *grown);
  if (shape == NULL || grown == NULL) {
    free(shape);
    s->groups = grown != NULL ? grown : s->groups;
    return rgm_fail(RGM_EMEMORY, "no memory for the trials of a sweep");
  }
  s->groups = grown;
  s->groups[s->group_count++] = shape;
  return RGM_OK;
}


// ---- the trials --------------------------------------------------------------------------------

static void clear(const rgm_sweep *s, rgm_entrant *e) {
  for (int d = 0; d < s->space->dim_count; d++) {
    free(e->values[d]);
  }
  free(e->scores);
  rgm_checkpoint_free(e->state);
  rgm_run_free(e->member);
}


void rgm_bracket_free(const rgm_sweep *s, rgm_bracket *b) {
  if (b == NULL) {
    return;
  }
  for (int i = 0; b->trials != NULL && i < b->count; i++) {
    clear(s, &b->trials[i]);
  }
  free(b->trials);
  free(b);
}


static rgm_status begin(const rgm_sweep *s, rgm_entrant *e, int64_t index) {
  const size_t scores = (size_t)s->rungs * (size_t)s->space->keys.seeds;
  *e = (rgm_entrant){.index = index, .parent = -1};
  e->scores = malloc(scores * sizeof *e->scores);
  if (e->scores == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the trials of a sweep");
  }
  for (size_t i = 0; i < scores; i++) {
    e->scores[i] = NAN;
  }
  return rgm_space_point(s->space, index, e->values);
}


rgm_status rgm_bracket_blank(const rgm_sweep *s, int64_t unit, rgm_bracket **out) {
  const int64_t size = s->space->keys.bracket, first = unit * size;
  const int64_t left = s->space->points - first;
  rgm_bracket *b = *out = calloc(1, sizeof *b);
  if (b == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a bracket");
  }
  b->unit = unit;
  b->trials = calloc((size_t)(left < size ? left : size), sizeof *b->trials);
  if (b->trials == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a bracket");
  }
  for (int i = 0; i < (left < size ? left : size); i++) {
    b->count++;
    RGM_TRY(begin(s, &b->trials[i], first + i));
  }
  return RGM_OK;
}


rgm_status rgm_bracket_open(rgm_sweep *s, int64_t unit, int generation, rgm_bracket **out) {
  bool found = false;
  RGM_TRY(rgm_bracket_blank(s, unit, out));
  (*out)->generation = generation;
  RGM_TRY(rgm_bracket_restore(s, *out, &found));
  rgm_sweep_log(s, "bracket %lld: claimed, generation %d%s", (long long)unit, generation,
                found ? ", goes on from its progress" : "");
  return RGM_OK;
}


int rgm_bracket_ready(const rgm_bracket *b) {
  int ready = 0;
  for (int i = 0; i < b->count; i++) {
    ready += b->trials[i].status == RGM_TRIAL_READY;
  }
  return ready;
}


bool rgm_bracket_ended(const rgm_bracket *b) {
  for (int i = 0; i < b->count; i++) {
    if (b->trials[i].status <= RGM_TRIAL_RESTING) {
      return false;
    }
  }
  return true;
}


// ---- decisions ---------------------------------------------------------------------------------

// A trial and what it is ranked by.
typedef struct ranked {
  rgm_entrant *trial;
  double score;
  bool is_min;
} ranked;

// better first, then lower index; NaN last
static int by_score(const void *a_, const void *b_) {
  const ranked *a = a_, *b = b_;
  if (isnan(a->score) != isnan(b->score)) {
    return isnan(a->score) ? 1 : -1;
  }
  if (!isnan(a->score) && a->score != b->score) {
    return (a->score < b->score) == a->is_min ? -1 : 1;
  }
  return a->trial->index < b->trial->index ? -1 : 1;
}


// the trials that went to a rung, the best one first; those that failed on the way last
static ranked *rank(const rgm_sweep *s, const rgm_bracket *b, int rung, int *count) {
  ranked *list = calloc((size_t)b->count + 1, sizeof *list);
  *count = 0;
  for (int i = 0; list != NULL && i < b->count; i++) {
    rgm_entrant *e = &b->trials[i];
    if (e->rung == rung && (e->status == RGM_TRIAL_RESTING || e->status == RGM_TRIAL_FAILED)) {
      const double score = e->status == RGM_TRIAL_FAILED ? NAN : rgm_entrant_score(s, e, rung);
      list[(*count)++] = (ranked){e, score, s->is_min};
    }
  }
  if (list != NULL) {
    qsort(list, (size_t)*count, sizeof *list, by_score);
  }
  return list;
}


static void go_on(rgm_entrant *e) {
  e->rung++;
  e->status = RGM_TRIAL_READY;
}


static void halve(const rgm_sweep *s, ranked *list, int count) {
  const int share = (int)((double)count / s->space->keys.reduction), keep = share > 1 ? share : 1;
  for (int i = 0; i < count; i++) {
    rgm_entrant *e = list[i].trial;
    if (e->status == RGM_TRIAL_FAILED) {
      continue;
    }
    if (i < keep) {
      go_on(e);
    } else {
      e->status = RGM_TRIAL_STOPPED;
      rgm_checkpoint_free(e->state);
      e->state = NULL;
    }
  }
}


// all of it, the random numbers' place too
static rgm_status copy_state(const rgm_checkpoint *from, rgm_checkpoint **out) {
  rgm_checkpoint *c = calloc(1, sizeof *c);
  bool good = c != NULL;
  if (good) {
    c->schema = from->schema;
    c->confidential = from->confidential;
    c->step = from->step;
    c->records = calloc((size_t)from->record_count + 1, sizeof *c->records);
    good = c->records != NULL;
  }
  for (int i = 0; good && i < from->record_count; i++) {
    const rgm_record *source = &from->records[i];
    size_t bytes = rgm_dtype_size(source->dtype);
    for (int k = 0; k < source->rank; k++) {
      bytes *= (size_t)source->dims[k];
    }
    c->records[i] = *source;
    c->records[i].data = malloc(bytes);
    c->record_count++;
    good = c->records[i].data != NULL;
    if (good) {
      memcpy(c->records[i].data, source->data, bytes);
    }
  }
  if (!good) {
    rgm_checkpoint_free(c);
    return rgm_fail(RGM_EMEMORY, "no memory for a trial's state");
  }
  *out = c;
  return RGM_OK;
}


// pbt: `e` takes over from `donor`, its hyperparameters one step away
static rgm_status take_over(rgm_sweep *s, rgm_entrant *e, const rgm_entrant *donor) {
  rgm_checkpoint *state = NULL;
  RGM_TRY(copy_state(donor->state, &state));
  rgm_checkpoint_free(e->state);
  e->state = state;

  // the seeds stay its own, or two that take over from one donor would be one
  for (int i = 0; i < state->record_count; i++) {
    uint32_t *words = state->records[i].data;
    for (int64_t r = 0; r < s->space->keys.seeds && strcmp(state->records[i].name, "seeds") == 0;
         r++) {
      const uint64_t seed = (uint64_t)rgm_space_seed(s->space, e->index) + (uint64_t)r;
      words[2 * r] = (uint32_t)seed;
      words[2 * r + 1] = (uint32_t)(seed >> 32);
    }
  }
  for (int d = 0; d < s->space->dim_count; d++) {
    free(e->values[d]);
    e->values[d] = NULL;
    // a condition may have begun or ceased to hold
    if (rgm_space_holds(s->space, d, e->values)) {
      e->draws++;
      RGM_TRY(rgm_space_perturb(s->space, d, donor->values[d], e->index, e->draws, &e->values[d]));
    }
  }
  rgm_run_free(e->member);
  e->member = NULL;
  e->parent = donor->index;
  e->step = donor->step;
  e->status = RGM_TRIAL_RESTING;
  return RGM_OK;
}


static rgm_status exploit(rgm_sweep *s, ranked *list, int count) {
  const uint64_t seed = (uint64_t)s->space->keys.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_SWEEP);
  const int share = (int)(s->space->keys.quantile * count);
  for (int i = 0; i < share; i++) {
    rgm_entrant *e = list[count - 1 - i].trial;
    e->draws++;
    const uint32_t word = rgm_philox(key, (uint32_t)e->index, RGM_MAX_DIMENSIONS, e->draws, 0).w0;
    const rgm_entrant *donor = list[(uint64_t)word * (uint64_t)share >> 32].trial;
    // the best may have failed too; then there is nothing to take over
    if (donor->status == RGM_TRIAL_RESTING && donor != e) {
      RGM_TRY(take_over(s, e, donor));
    }
  }
  for (int i = 0; i < count; i++) {
    if (list[i].trial->status == RGM_TRIAL_RESTING) {
      go_on(list[i].trial);
    }
  }
  return RGM_OK;
}


// of the trials that are done only those that may be kept need their tensors on
static void drop_states(const rgm_sweep *s, rgm_bracket *b) {
  for (int i = 0; i < b->count; i++) {
    rgm_entrant *e = &b->trials[i];
    int better = 0;
    for (int k = 0; k < b->count && e->status == RGM_TRIAL_DONE; k++) {
      const rgm_entrant *other = &b->trials[k];
      const double x = rgm_entrant_score(s, other, s->rungs - 1);
      const double y = rgm_entrant_score(s, e, s->rungs - 1);
      better += other->status == RGM_TRIAL_DONE && k != i &&
                (rgm_sweep_better(s, x, y) || (x == y && k < i));
    }
    if (e->status == RGM_TRIAL_DONE && better >= s->space->keys.keep) {
      rgm_checkpoint_free(e->state);
      e->state = NULL;
    }
  }
}


rgm_status rgm_bracket_decide(rgm_sweep *s, rgm_bracket *b) {
  drop_states(s, b);
  while (rgm_bracket_ready(b) == 0 && !rgm_bracket_ended(b)) {
    int rung = s->rungs, count = 0;
    for (int i = 0; i < b->count; i++) {
      const rgm_entrant *e = &b->trials[i];
      rung = e->status == RGM_TRIAL_RESTING && e->rung < rung ? e->rung : rung;
    }
    ranked *list = rank(s, b, rung, &count);
    if (list == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for a bracket");
    }
    rgm_status status = RGM_OK;
    if (s->space->keys.scheduler == RGM_SCHEDULE_PBT) {
      status = exploit(s, list, count);
    } else {
      halve(s, list, count);
    }
    free(list);
    RGM_TRY(status);
  }
  return RGM_OK;
}
