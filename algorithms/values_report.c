// SPDX-License-Identifier: Apache-2.0
// What policies are worth on held-out patients, by the critics and by weights, and what they do in
// a simulator. See values.h.

#include "algorithms/values.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>


// ---- the critics' values -----------------------------------------------------------------------

// a chunk of rows through all critics: out (N, R, count, O)
static rgm_status look_chunk(rgm_run *run, const float *x, const float *act, int64_t rows,
                             int64_t first, int64_t count, float *host, double *value) {
  const rgm_values *s = run->self;
  const int64_t R = run->replicas, X = s->inputs, O = s->outputs, P = rgm_padded(O);
  const int64_t D = act != NULL ? run->transitions->actions : 0, W = X + D;
  for (int n = 0; n < s->count; n++) {
    if (n == 0 || act != NULL) {
      memset(host, 0, (size_t)(VALUES_ROWS * W) * sizeof *host);
      for (int64_t i = 0; i < count; i++) {
        memcpy(host + i * W, x + (first + i) * X, (size_t)X * sizeof *host);
        memcpy(host + i * W + X, act != NULL ? act + (n * rows + first + i) * D : x,
               (size_t)D * sizeof *host);
      }
      for (int64_t r = 0; r < R; r++) {
        rgm_copy(run->stream, (float *)s->look.data + r * s->look.stride0, host,
                 (size_t)(VALUES_ROWS * W) * sizeof *host);
      }
    }
    rgm_forward_net(run->stream, &s->critic, n, false, s->look, &s->look_pass);
    const rgm_tensor out = rgm_of_net(s->look_pass.out, n);
    for (int64_t r = 0; r < R; r++) {
      rgm_copy(run->stream, host, (const float *)out.data + r * out.stride0,
               (size_t)(count * P) * sizeof *host);
      RGM_TRY(rgm_sync(run->stream));
      for (int64_t i = 0; i < count * O; i++) {
        value[((n * R + r) * rows + first) * O + i] =
            (double)s->scale * (double)host[i / O * P + i % O];
      }
    }
  }
  return RGM_OK;
}


rgm_status rgm_values_look(rgm_run *run, const float *x, const float *act, int64_t rows,
                           double *value) {
  const rgm_values *s = run->self;
  const int64_t W = s->inputs + run->transitions->actions, P = rgm_padded(s->outputs);
  float *host = malloc((size_t)(VALUES_ROWS * (W > P ? W : P)) * sizeof *host);
  rgm_status status = host != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for values");
  for (int64_t first = 0; first < rows && status == RGM_OK; first += VALUES_ROWS) {
    const int64_t count = rows - first < VALUES_ROWS ? rows - first : VALUES_ROWS;
    status = look_chunk(run, x, act, rows, first, count, host, value);
  }
  free(host);
  return status;
}


// ---- worth -------------------------------------------------------------------------------------

// What is computed once for all policies, and for one.
typedef struct appraisal {
  rgm_run *run;
  rgm_courses courses;
  double *value;         // classes (N, R, rows, A); continuous (N, R, rows) of what was done
  double *drawn;         // continuous: (N, R, rows), the mean over draws of the policy
  double *log_pi, *mu;   // (rows, A) of a policy, of the clone
  double *ratio, *q, *v; // (rows)
  double *start;         // (R) mean V(s_0) of each seed
  double *imagined;      // (episodes) of a policy, in the learned model
} appraisal;


static void free_appraisal(appraisal *a) {
  void *const memory[] = {a->courses.start,
                          a->courses.patient,
                          a->courses.reward,
                          a->value,
                          a->drawn,
                          a->log_pi,
                          a->mu,
                          a->ratio,
                          a->q,
                          a->v,
                          a->start,
                          a->imagined};
  for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) {
    free(memory[i]);
  }
}


static int by_number(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}


// held-out rows as episodes of patients, who are numbered anew
static rgm_status find_courses(const rgm_run *run, rgm_courses *c) {
  const rgm_values *s = run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  const rgm_values_rows *h = &s->held;
  c->rows = h->rows;
  c->gamma = k->gamma;
  c->start = malloc((size_t)(h->rows + 1) * sizeof *c->start);
  c->patient = malloc((size_t)(h->rows + 1) * sizeof *c->patient);
  c->reward = malloc((size_t)(h->rows + 1) * sizeof *c->reward);
  int64_t *who = malloc((size_t)(h->rows + 1) * sizeof *who), people = 0;
  if (c->start == NULL || c->patient == NULL || c->reward == NULL || who == NULL) {
    free(who);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)h->rows);
  }
  for (int64_t i = 0; i < h->rows; i++) {
    c->reward[i] = (double)h->reward[i];
    if (i == 0 || t->episode[h->of[i]] != t->episode[h->of[i - 1]]) {
      c->patient[c->episodes] = who[c->episodes] = t->patient[h->of[i]];
      c->start[c->episodes++] = i;
    }
  }
  c->start[c->episodes] = h->rows;
  qsort(who, (size_t)c->episodes, sizeof *who, by_number);
  for (int64_t e = 0; e < c->episodes; e++) {
    people += e == 0 || who[e] != who[e - 1];
    who[people - 1] = who[e];
  }
  c->patients = people;
  for (int64_t e = 0; e < c->episodes; e++) {
    const int64_t *found = bsearch(&c->patient[e], who, (size_t)people, sizeof *who, by_number);
    c->patient[e] = found - who;
  }
  free(who);
  return RGM_OK;
}


// actions of all policies (N, rows, D), draw `draw`
static rgm_status actions_of_all(appraisal *a, uint32_t draw, float *act) {
  const rgm_values *s = a->run->self;
  const int64_t D = a->run->transitions->actions;
  for (int n = 0; n < s->count; n++) {
    RGM_TRY(rgm_values_actions(a->run, n, s->held.of, s->held.rows, false, draw,
                               act + n * s->held.rows * D));
  }
  return RGM_OK;
}


// continuous actions: Q of what was done, and its mean over what each policy would do
static rgm_status look_continuous(appraisal *a) {
  const rgm_values *s = a->run->self;
  const int64_t D = a->run->transitions->actions, rows = s->held.rows;
  const int64_t all = s->count * a->run->replicas * rows;
  float *act = malloc((size_t)(s->count * rows * D) * sizeof *act);
  double *one = malloc((size_t)all * sizeof *one);
  rgm_status status = act != NULL && one != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory");
  for (int n = 0; n < s->count && status == RGM_OK; n++) {
    memcpy(act + n * rows * D, s->held.act, (size_t)(rows * D) * sizeof *act);
  }
  status = status == RGM_OK ? rgm_values_look(a->run, s->held.x, act, rows, a->value) : status;
  for (uint32_t draw = 1; draw <= VALUES_DRAWS && status == RGM_OK; draw++) {
    status = actions_of_all(a, draw, act);
    status = status == RGM_OK ? rgm_values_look(a->run, s->held.x, act, rows, one) : status;
    for (int64_t i = 0; i < all; i++) {
      a->drawn[i] += one[i] / VALUES_DRAWS;
    }
  }
  free(act);
  free(one);
  return status;
}


static rgm_status open_appraisal(rgm_run *run, appraisal *a) {
  const rgm_values *s = run->self;
  const int64_t rows = s->held.rows, R = run->replicas, A = run->transitions->choices;
  *a = (appraisal){.run = run};
  RGM_TRY(find_courses(run, &a->courses));
  a->value = malloc((size_t)(s->count * R * rows * s->outputs) * sizeof *a->value);
  a->drawn = calloc(A > 0 ? 1 : (size_t)(s->count * R * rows), sizeof *a->drawn);
  a->log_pi = malloc((size_t)(rows * A + 1) * sizeof *a->log_pi);
  a->mu = malloc((size_t)(rows * A + 1) * sizeof *a->mu);
  a->ratio = malloc((size_t)rows * sizeof *a->ratio);
  a->q = malloc((size_t)rows * sizeof *a->q);
  a->v = malloc((size_t)rows * sizeof *a->v);
  a->start = malloc((size_t)R * sizeof *a->start);
  a->imagined = malloc((size_t)a->courses.episodes * sizeof *a->imagined);
  if (a->value == NULL || a->drawn == NULL || a->log_pi == NULL || a->mu == NULL ||
      a->ratio == NULL || a->q == NULL || a->v == NULL || a->start == NULL || a->imagined == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for values of %lld rows", (long long)rows);
  }
  if (A == 0) {
    return look_continuous(a);
  }
  RGM_TRY(rgm_values_look(run, s->held.x, NULL, rows, a->value));
  return rgm_values_log_pi(run, -1, s->held.of, rows, false, a->mu);
}


// q, v, ratios and the share outside of the clinicians' support, of classes
static rgm_status weigh_classes(appraisal *a, int n, rgm_worth *w) {
  const rgm_values *s = a->run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(a->run, 0);
  const int64_t rows = s->held.rows, R = a->run->replicas, A = a->run->transitions->choices;
  RGM_TRY(rgm_values_log_pi(a->run, n, s->held.of, rows, false, a->log_pi));
  memset(a->start, 0, (size_t)R * sizeof *a->start);
  for (int64_t i = 0; i < rows; i++) {
    const int64_t done = (int64_t)s->held.act[i];
    const bool first = i == 0 || s->held.end[i - 1] > 0.0f;
    a->ratio[i] = s->valued[n].observed ? 0.0 : a->log_pi[i * A + done] - s->held.behaviour[i];
    a->q[i] = a->v[i] = 0.0;
    for (int64_t r = 0; r < R; r++) {
      const double *value = a->value + ((n * R + r) * rows + i) * A;
      double mean = 0.0;
      for (int64_t c = 0; c < A; c++) {
        mean += exp(a->log_pi[i * A + c]) * value[c];
      }
      a->q[i] += value[done] / (double)R;
      a->v[i] += mean / (double)R;
      a->start[r] += first ? mean / (double)a->courses.episodes : 0.0;
    }
    for (int64_t c = 0; c < A; c++) {
      const bool rare = exp(a->mu[i * A + c]) < k->support;
      w->outside += rare ? exp(a->log_pi[i * A + c]) / (double)rows : 0.0;
    }
  }
  return RGM_OK;
}


// the density below which only a share of the clinicians' own actions lie
static double rare_density(const appraisal *a, double *work, double share) {
  const rgm_values *s = a->run->self;
  memcpy(work, s->held.behaviour, (size_t)s->held.rows * sizeof *work);
  rgm_summarise(work, s->held.rows);
  return rgm_quantile_sorted(work, s->held.rows, share);
}


// the same of continuous actions: a policy without spread has no density, and so no ratios
static rgm_status weigh_continuous(appraisal *a, int n, rgm_worth *w) {
  const rgm_values *s = a->run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(a->run, 0);
  const rgm_policy *p = s->valued[n].policy;
  const int64_t rows = s->held.rows, R = a->run->replicas, D = p->dims;
  const double rare = rare_density(a, a->ratio, k->support);
  float *head = malloc((size_t)(4 * D) * sizeof *head), *clone = head + 2 * D;
  float *act = malloc((size_t)(rows * D) * sizeof *act);
  rgm_status status = head != NULL && act != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory");
  if (status == RGM_OK) {
    status = rgm_values_actions(a->run, n, s->held.of, rows, false, 1, act);
  }
  memset(a->start, 0, (size_t)R * sizeof *a->start);
  for (int64_t i = 0; i < rows && status == RGM_OK; i++) {
    const float *state = a->run->transitions->obs + s->held.of[i] * p->states;
    const bool first = i == 0 || s->held.end[i - 1] > 0.0f;
    status = rgm_policy_ask(p, state, 1, head);
    status = status == RGM_OK ? rgm_policy_ask(&s->clone, state, 1, clone) : status;
    if (status == RGM_OK) {
      a->ratio[i] = s->valued[n].observed
                        ? 0.0
                        : rgm_policy_density(p, head, s->held.act + i * D) - s->held.behaviour[i];
      w->outside +=
          rgm_policy_density(&s->clone, clone, act + i * D) < rare ? 1.0 / (double)rows : 0.0;
    }
    a->q[i] = a->v[i] = 0.0;
    for (int64_t r = 0; r < R; r++) {
      const int64_t at = (n * R + r) * rows + i;
      a->q[i] += a->value[at] / (double)R;
      a->v[i] += a->drawn[at] / (double)R;
      a->start[r] += first ? a->drawn[at] / (double)a->courses.episodes : 0.0;
    }
  }
  free(head);
  free(act);
  return status;
}


static rgm_status weigh(appraisal *a, int n, rgm_worth *w) {
  const rgm_values *s = a->run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(a->run, 0);
  const bool classes = a->run->transitions->choices > 0;
  const bool ratios = classes || !s->valued[n].likeliest;
  *w = (rgm_worth){.outside = 0.0};
  RGM_TRY(classes ? weigh_classes(a, n, w) : weigh_continuous(a, n, w));
  const bool imagines = s->world.elites > 0;
  if (imagines) {
    RGM_TRY(rgm_values_imagine(a->run, n, &a->courses, a->imagined));
  }
  RGM_TRY(rgm_estimate(&a->courses, ratios ? a->ratio : NULL, a->q, a->v,
                       imagines ? a->imagined : NULL, k->resamples, k->level,
                       (uint64_t)a->run->keys.seed, &w->estimates));
  w->fqe_sd = rgm_summarise(a->start, a->run->replicas).sd;
  w->few_weights = !ratios || w->estimates.ess < k->least_ess;
  w->few_patients = a->courses.patients < k->least_patients;
  w->far = w->outside > k->most_outside;
  return RGM_OK;
}


rgm_status rgm_values_worth(rgm_run *run, rgm_worth *worth, int64_t *patients) {
  const rgm_values *s = run->self;
  appraisal a;
  rgm_status status = open_appraisal(run, &a);
  for (int n = 0; n < s->count && status == RGM_OK; n++) {
    status = weigh(&a, n, &worth[n]);
  }
  *patients = a.courses.patients;
  free_appraisal(&a);
  return status;
}


// ---- in the simulator --------------------------------------------------------------------------

// column k of the data set's states among what the environment shows
static int shown(const rgm_run *run, int k) {
  for (int i = 0; i < run->env->obs_dim; i++) {
    if (strcmp(run->env->obs[i].name, run->transitions->state[k].name) == 0) {
      return i;
    }
  }
  return k;
}


// random numbers of a draw: a function of what is seen, so that nothing has to be counted
static rgm_words words_of(const rgm_run *run, const float *state, int count) {
  const uint64_t seed = (uint64_t)run->eval.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  uint64_t hash = 14695981039346656037u;
  for (int k = 0; k < count; k++) {
    uint32_t bits;
    memcpy(&bits, &state[k], sizeof bits);
    hash = (hash ^ bits) * 1099511628211u;
  }
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_ACTION + RGM_RANDOM_EVAL);
  return rgm_philox(key, (uint32_t)hash, (uint32_t)(hash >> 32), 0, 0);
}


// the policy of a contender: all but the clinician are
static int acting_of(const rgm_values *s, int contender) {
  int n = 0;
  while (s->valued[n].observed || contender-- > 0) {
    n++;
  }
  return n;
}


// what the policy at work does in all rows of an environment: act (rows, act_dim) from what it
// shows, obs (rows, O), by way of states (rows, S), words (rows, 2) and choices (rows, D)
static rgm_status act_all(const rgm_run *run, int64_t rows, int64_t O, const float *obs,
                          float *state, uint32_t *words, float *chosen, float *act, int64_t width) {
  const rgm_values *s = run->self;
  const rgm_transitions *t = run->transitions;
  const bool doses = run->env->give_dose != NULL;
  const int64_t S = t->states;
  for (int k = 0; k < t->states; k++) {
    const int from = doses ? shown(run, k) : k;
    for (int64_t i = 0; i < rows; i++) {
      state[i * S + k] = obs[i * O + from];
    }
  }
  for (int64_t i = 0; i < rows; i++) {
    const rgm_words own = words_of(run, state + i * S, t->states);
    words[2 * i] = own.w0;
    words[2 * i + 1] = own.w1;
  }
  RGM_TRY(rgm_values_choose(run, acting_of(s, run->acting), rows, state, words, chosen));
  for (int64_t i = 0; i < rows; i++) {
    if (doses) {
      run->env->give_dose(run->env_keys, t->dose[(int64_t)chosen[i]], act + i * width);
    } else {
      memcpy(act + i * width, chosen + i * t->actions, (size_t)t->actions * sizeof *act);
    }
  }
  return RGM_OK;
}


// all replicas are the same patients under the same policy; an error of the device comes up where
// the caller waits for it
static void act_in_env(rgm_run *run, rgm_stream *stream, rgm_tensor act, rgm_tensor obs) {
  const rgm_transitions *t = run->transitions;
  const int64_t rows = obs.dims[1], O = obs.dims[2], D = act.dims[2];
  float *seen = calloc((size_t)(rows * (O + D + t->states + t->actions)), sizeof *seen);
  uint32_t *words = malloc((size_t)(2 * rows) * sizeof *words);
  if (seen != NULL && words != NULL) {
    float *done = seen + rows * O, *state = done + rows * D, *chosen = state + rows * t->states;
    rgm_copy(stream, seen, obs.data, (size_t)(rows * O) * sizeof *seen);
    if (rgm_sync(stream) == RGM_OK &&
        act_all(run, rows, O, seen, state, words, chosen, done, D) == RGM_OK) {
      for (int64_t r = 0; r < obs.dims[0]; r++) {
        rgm_copy(stream, (float *)act.data + r * act.stride0, done,
                 (size_t)(rows * D) * sizeof *done);
      }
      (void)rgm_sync(stream);
    }
  }
  free(seen);
  free(words);
}


// the environment has a clinician of its own
int rgm_values_contenders(rgm_run *run, rgm_contender *out, int max) {
  const rgm_values *s = run->self;
  int count = 0;
  for (int n = 0; n < s->count; n++) {
    RGM_ASSERT(count < max);
    if (!s->valued[n].observed) {
      out[count++] =
          (rgm_contender){.name = s->valued[n].name, .act = act_in_env, .rows = VALUES_ROWS};
    }
  }
  return count;
}
