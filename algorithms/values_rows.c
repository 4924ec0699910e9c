// SPDX-License-Identifier: Apache-2.0
// Rows of a data set as the critics of values see them, and what policies do there. See values.h.

#include "algorithms/values.h"
#include "kernels/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DIMS = 64, ASK = 1024 };


// ---- policies ----------------------------------------------------------------------------------

// the next of a text's words between commas, without spaces around; false at its end
static bool next_word(const char **at, char word[RGM_STRING_SIZE]) {
  *at += strspn(*at, " ,");
  const size_t length = strcspn(*at, ",");
  size_t end = length;
  while (end > 0 && (*at)[end - 1] == ' ') {
    end--;
  }
  snprintf(word, RGM_STRING_SIZE, "%.*s", (int)end, *at);
  *at += length;
  return end > 0;
}


static int64_t commonest(const rgm_transitions *t) {
  int64_t *count = calloc((size_t)t->choices + 1, sizeof *count), best = 0;
  for (int64_t i = 0; i < t->rows && count != NULL; i++) {
    count[(int64_t)t->action[i]] += t->split[i] == RGM_TRAIN;
  }
  for (int64_t a = 0; a < t->choices && count != NULL; a++) {
    best = count[a] > count[best] ? a : best;
  }
  free(count);
  return best;
}


static rgm_status add_baseline(rgm_run *run, const char *name, int n) {
  static const char *const names[] = {"clinician", "clone", "random", "constant", NULL};
  rgm_values *s = run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  rgm_valued *v = &s->valued[n];
  rgm_policy *p = &s->policy[n];
  int which = 0;
  while (names[which] != NULL && strcmp(names[which], name) != 0) {
    which++;
  }
  const char *where = rgm_config_where(run->config, "algorithm.baselines");
  if (names[which] == NULL) {
    const char *near = rgm_nearest(name, names);
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.baselines: no baseline \"%s\"%s%s; there are "
                    "clinician, clone, random, constant",
                    where, name, near != NULL ? "; did you mean " : "", near != NULL ? near : "");
  }
  if (which >= 2 && t->choices == 0) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: algorithm.baselines: %s is about classes, and the actions of %s are "
                    "continuous; use clinician, clone",
                    where, name, t->path);
  }
  *v = (rgm_valued){.policy = which < 2 ? &s->clone : p, .observed = which == 0};
  snprintf(v->name, sizeof v->name, "%s", names[which]);
  *p = (rgm_policy){.kind = which == 2 ? RGM_POLICY_EVEN : RGM_POLICY_ALWAYS,
                    .states = t->states,
                    .dims = t->actions,
                    .choices = t->choices,
                    .always = which == 3 && k->constant < 0 ? commonest(t) : k->constant};
  if (which == 3) {
    snprintf(v->name, sizeof v->name, "constant_%lld", (long long)p->always);
    v->likeliest = true;
  }
  return RGM_OK;
}


static rgm_status read_policies(rgm_run *run) {
  rgm_values *s = run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  char word[RGM_STRING_SIZE];
  int n = 0;
  if (rgm_policy_read(k->clone, t, 0, &s->clone) != RGM_OK) {
    const char *where = rgm_config_where(run->config, "algorithm.clone");
    char why[1024];
    snprintf(why, sizeof why, "%s", rgm_last_error());
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.clone: %s (a trained run of bc on the same data)",
                    where, why);
  }
  const char *at = strcmp(k->baselines, "none") == 0 ? "" : k->baselines;
  while (next_word(&at, word)) {
    RGM_TRY(add_baseline(run, word, n++));
  }
  for (at = k->runs; next_word(&at, word); n++) {
    RGM_ASSERT(n < VALUES_POLICIES);
    RGM_TRY(rgm_policy_read(word, t, 0, &s->policy[n]));
    s->valued[n] = (rgm_valued){.policy = &s->policy[n], .likeliest = k->acts == VALUES_LIKELIEST};
    memcpy(s->valued[n].name, s->policy[n].name, sizeof s->valued[n].name);
  }
  for (int i = 1; i < n; i++) {
    for (int m = 0; m < i; m++) {
      if (strcmp(s->valued[m].name, s->valued[i].name) == 0) {
        return rgm_fail(RGM_ECONFIG, "%s: algorithm.runs: two policies are called %s",
                        rgm_config_where(run->config, "algorithm.runs"), s->valued[i].name);
      }
    }
  }
  return n == s->count ? RGM_OK
                       : rgm_fail(RGM_ECONFIG, "%s: algorithm.runs: a name between commas is empty",
                                  rgm_config_where(run->config, "algorithm.runs"));
}


// ---- what they do ------------------------------------------------------------------------------

// heads of a policy at some of the data's rows
static rgm_status ask_rows(const rgm_run *run, const rgm_policy *p, const int64_t *of, int64_t rows,
                           bool next, float *head) {
  const rgm_transitions *t = run->transitions;
  const int64_t S = t->states;
  float *state = malloc((size_t)(rows * S) * sizeof *state);
  if (state == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)rows);
  }
  for (int64_t i = 0; i < rows; i++) {
    memcpy(state + i * S, (next ? t->next : t->obs) + of[i] * S, (size_t)S * sizeof *state);
  }
  const rgm_status status = rgm_policy_ask(p, state, rows, head);
  free(state);
  return status;
}


rgm_status rgm_values_log_pi(const rgm_run *run, int n, const int64_t *of, int64_t rows, bool next,
                             double *log_pi) {
  const rgm_values *s = run->self;
  const rgm_policy *p = n < 0 ? &s->clone : s->valued[n].policy;
  const bool likeliest = n >= 0 && s->valued[n].likeliest;
  const int64_t A = p->choices;
  float *head = malloc((size_t)(ASK * A) * sizeof *head);
  rgm_status status = head != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a policy");
  for (int64_t first = 0; first < rows && status == RGM_OK; first += ASK) {
    const int64_t count = rows - first < ASK ? rows - first : ASK;
    status = ask_rows(run, p, of + first, count, next, head);
    for (int64_t i = 0; i < count && status == RGM_OK; i++) {
      rgm_policy_log_pi(p, head + i * A, likeliest, log_pi + (first + i) * A);
    }
  }
  free(head);
  return status;
}


rgm_status rgm_values_actions(const rgm_run *run, int n, const int64_t *of, int64_t rows, bool next,
                              uint32_t draw, float *act) {
  const rgm_values *s = run->self;
  const rgm_policy *p = s->valued[n].policy;
  const uint64_t seed = (uint64_t)run->keys.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_ACTION + RGM_RANDOM_EVAL);
  const int64_t D = p->dims;
  float *head = malloc((size_t)(rows * 2 * D + 1) * sizeof *head), eps[MOST_DIMS + 1];
  rgm_status status = head != NULL ? ask_rows(run, p, of, rows, next, head)
                                   : rgm_fail(RGM_EMEMORY, "no memory for a policy");
  for (int64_t i = 0; i < rows && status == RGM_OK; i++) {
    for (int64_t d = 0; d < D; d += 2) {
      const rgm_words w = rgm_philox(key, (uint32_t)next, (uint32_t)of[i], (uint32_t)d, draw);
      rgm_normals(w.w0, w.w1, &eps[d], &eps[d + 1]);
    }
    rgm_policy_act(p, head + i * 2 * D, s->valued[n].likeliest ? NULL : eps, act + i * D);
  }
  free(head);
  return status;
}


// one row of rgm_values_choose, from its head
static void choose(const rgm_values *s, int n, const float *head, const uint32_t words[2],
                   float *act) {
  const rgm_policy *p = s->valued[n].policy;
  float eps[MOST_DIMS + 1];
  double log_pi[RGM_MAX_CLASSES];
  if (p->choices == 0) {
    for (int d = 0; d < p->dims; d += 2) {
      rgm_normals(words[0] + 0x9E3779B9u * (uint32_t)d, words[1] ^ (uint32_t)d, &eps[d],
                  &eps[d + 1]);
    }
    rgm_policy_act(p, head, s->valued[n].likeliest ? NULL : eps, act);
    return;
  }
  rgm_policy_log_pi(p, head, s->valued[n].likeliest, log_pi);
  double left = rgm_unit64(words[0]);
  int64_t choice = 0;
  while (choice + 1 < p->choices && left >= exp(log_pi[choice])) {
    left -= exp(log_pi[choice++]);
  }
  act[0] = (float)choice;
}


rgm_status rgm_values_choose(const rgm_run *run, int n, int64_t rows, const float *state,
                             const uint32_t *words, float *act) {
  const rgm_values *s = run->self;
  const rgm_policy *p = s->valued[n].policy;
  const int64_t W = rgm_policy_width(p);
  float *head = malloc((size_t)(rows * W) * sizeof *head);
  const rgm_status status = head != NULL
                                ? rgm_policy_ask(p, state, rows, head)
                                : rgm_fail(RGM_EMEMORY, "no memory for policy %s", p->name);
  for (int64_t i = 0; i < rows && status == RGM_OK; i++) {
    choose(s, n, head + i * W, words + 2 * i, act + i * p->dims);
  }
  free(head);
  return status;
}


// Imagined episodes side by side.
typedef struct imagined {
  float *state[2], *noise, *act, *reward; // (E, S) by turns, (E, N), (E, D), (E)
  uint32_t *words;                        // (E, 2)
  int *elite;                             // (E)
} imagined;


static rgm_status open_imagined(const rgm_run *run, int64_t E, imagined *m) {
  const rgm_world *w = &((const rgm_values *)run->self)->world;
  const int64_t N = rgm_world_noise(w), D = run->transitions->actions;
  *m = (imagined){.state = {malloc((size_t)(E * w->states) * sizeof(float)),
                            malloc((size_t)(E * w->states) * sizeof(float))},
                  .noise = malloc((size_t)(E * N) * sizeof(float)),
                  .act = malloc((size_t)(E * D) * sizeof(float)),
                  .reward = malloc((size_t)E * sizeof(float)),
                  .words = malloc((size_t)(2 * E) * sizeof(uint32_t)),
                  .elite = malloc((size_t)E * sizeof(int))};
  return m->state[0] != NULL && m->state[1] != NULL && m->noise != NULL && m->act != NULL &&
                 m->reward != NULL && m->words != NULL && m->elite != NULL
             ? RGM_OK
             : rgm_fail(RGM_EMEMORY, "no memory for %lld imagined episodes", (long long)E);
}


static void free_imagined(imagined *m) {
  free(m->state[0]);
  free(m->state[1]);
  free(m->noise);
  free(m->act);
  free(m->reward);
  free(m->words);
  free(m->elite);
}


// a step of all episodes
static rgm_status imagine(const rgm_run *run, int n, rgm_key key, uint32_t at, uint32_t turn,
                          int64_t E, imagined *m) {
  const rgm_values *s = run->self;
  const rgm_world *w = &s->world;
  const int64_t N = rgm_world_noise(w);
  const float *state = m->state[at % 2];
  for (int64_t e = 0; e < E; e++) {
    const rgm_words own = rgm_philox(key, at, (uint32_t)e, 0, 2 * turn);
    m->elite[e] = (int)(own.w0 % (uint32_t)w->elites);
    m->words[2 * e] = own.w1;
    m->words[2 * e + 1] = own.w2;
    for (int64_t i = 0; i < N; i += 4) {
      rgm_model_noise(key, at, (uint32_t)e, (uint32_t)(i / 4), 2 * turn + 1, m->noise + e * N + i);
    }
  }
  RGM_TRY(rgm_values_choose(run, n, E, state, m->words, m->act));
  rgm_world_step(w, E, m->elite, state, m->act, m->noise, m->state[(at + 1) % 2], m->reward);
  return RGM_OK;
}


rgm_status rgm_values_imagine(const rgm_run *run, int n, const rgm_courses *c, double *value) {
  const rgm_values *s = run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  const uint64_t seed = (uint64_t)run->keys.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_MODEL + RGM_RANDOM_EVAL);
  const int64_t S = t->states;
  imagined m;
  rgm_status status = open_imagined(run, c->episodes, &m);
  memset(value, 0, (size_t)c->episodes * sizeof *value);
  for (int64_t turn = 0; turn < k->rollouts && status == RGM_OK; turn++) {
    double g = 1.0 / (double)k->rollouts;
    for (int64_t e = 0; e < c->episodes; e++) {
      memcpy(m.state[0] + e * S, t->obs + s->held.of[c->start[e]] * S, (size_t)S * sizeof(float));
    }
    for (int64_t step = 0; step < s->longest && status == RGM_OK; step++) {
      status = imagine(run, n, key, (uint32_t)step, (uint32_t)turn, c->episodes, &m);
      for (int64_t e = 0; e < c->episodes && status == RGM_OK; e++) {
        value[e] += g * (double)m.reward[e];
      }
      g *= k->gamma;
    }
  }
  free_imagined(&m);
  return status;
}


// ---- rows --------------------------------------------------------------------------------------

void rgm_values_free_rows(rgm_values_rows *r) {
  free(r->of);
  free(r->x);
  free(r->next);
  free(r->act);
  free(r->reward);
  free(r->end);
  free(r->behaviour);
  *r = (rgm_values_rows){0};
}


static void fill_state(const rgm_run *run, const float *state, double step, float *x) {
  const rgm_values *s = run->self;
  const rgm_transitions *t = run->transitions;
  for (int k = 0; k < t->states; k++) {
    x[k] = (state[k] - t->mean[k]) / t->sd[k];
  }
  if (s->inputs > t->states) {
    x[t->states] = (float)(2.0 * step / (double)s->longest - 1.0);
  }
}


// the rows of a part, up to the horizon
static rgm_status fill_rows(const rgm_run *run, int part, rgm_values_rows *r) {
  const rgm_values *s = run->self;
  const rgm_transitions *t = run->transitions;
  const int64_t X = s->inputs, D = t->actions, most = t->part[part];
  *r = (rgm_values_rows){0};
  r->of = malloc((size_t)most * sizeof *r->of);
  r->x = malloc((size_t)(most * X) * sizeof *r->x);
  r->next = malloc((size_t)(most * X) * sizeof *r->next);
  r->act = malloc((size_t)(most * D) * sizeof *r->act);
  r->reward = malloc((size_t)most * sizeof *r->reward);
  r->end = malloc((size_t)most * sizeof *r->end);
  if (r->of == NULL || r->x == NULL || r->next == NULL || r->act == NULL || r->reward == NULL ||
      r->end == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for %lld rows", t->path, (long long)most);
  }
  for (int64_t i = 0, step = 0; i < t->rows; i++, step++) {
    step = i > 0 && t->episode[i] == t->episode[i - 1] ? step : 0;
    if (t->split[i] != part || step >= s->longest) {
      continue;
    }
    const int64_t k = r->rows++;
    const bool last = i + 1 == t->rows || t->episode[i + 1] != t->episode[i];
    r->of[k] = i;
    fill_state(run, t->obs + i * t->states, (double)step, r->x + k * X);
    fill_state(run, t->next + i * t->states, (double)step + 1.0, r->next + k * X);
    memcpy(r->act + k * D, t->action + i * D, (size_t)D * sizeof *r->act);
    r->reward[k] = t->reward[i];
    r->end[k] = t->terminated[i] > 0.0f || last || step + 1 == s->longest ? 1.0f : 0.0f;
  }
  return RGM_OK;
}


// standard deviation of what is still to come over rows: the scale of a critic's values
static float scale_of(const rgm_values_rows *r, double gamma) {
  double later = 0.0, mean = 0.0, square = 0.0, n = 0.0;
  for (int64_t i = r->rows; i-- > 0;) {
    later = (double)r->reward[i] + (r->end[i] > 0.0f ? 0.0 : gamma * later);
    n += 1.0;
    square += (later - mean) * (later - mean) * (n - 1.0) / n;
    mean += (later - mean) / n;
  }
  const double size = sqrt(square / n + mean * mean);
  return size > 0.0 ? (float)size : 1.0f;
}


// log-densities of what was done, under the clone
static rgm_status find_behaviour(const rgm_run *run, rgm_values_rows *r) {
  const rgm_values *s = run->self;
  const rgm_policy *p = &s->clone;
  const int64_t A = p->choices, W = rgm_policy_width(p);
  r->behaviour = malloc((size_t)(r->rows + 1) * sizeof *r->behaviour);
  double *log_pi = malloc((size_t)(r->rows * A + 1) * sizeof *log_pi);
  float *head = A == 0 ? malloc((size_t)(r->rows * W) * sizeof *head) : NULL;
  rgm_status status = r->behaviour != NULL && log_pi != NULL && (A > 0 || head != NULL)
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for the clone");
  if (status == RGM_OK) {
    status = A > 0 ? rgm_values_log_pi(run, -1, r->of, r->rows, false, log_pi)
                   : ask_rows(run, p, r->of, r->rows, false, head);
  }
  for (int64_t i = 0; i < r->rows && status == RGM_OK; i++) {
    r->behaviour[i] = A > 0 ? log_pi[i * A + (int64_t)r->act[i]]
                            : rgm_policy_density(p, head + i * W, r->act + i * p->dims);
  }
  free(log_pi);
  free(head);
  return status;
}


rgm_status rgm_values_load(rgm_run *run, rgm_values_rows *fit) {
  rgm_values *s = run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  const int held = k->on == VALUES_ON_TEST ? RGM_TEST : RGM_VALIDATION;
  if (t->actions > MOST_DIMS) {
    return rgm_fail(RGM_EDATA, "%s: %d continuous actions; values takes %d at most", t->path,
                    t->actions, MOST_DIMS);
  }
  RGM_TRY(read_policies(run));
  if (k->model[0] != '\0') {
    RGM_TRY(rgm_world_read(k->model, t, &s->world));
  }
  s->longest = 0;
  for (int64_t i = 0, step = 0; i < t->rows; i++) {
    step = i > 0 && t->episode[i] == t->episode[i - 1] ? step + 1 : 1;
    s->longest = step > s->longest ? step : s->longest;
  }
  s->longest = k->horizon > 0 && k->horizon < s->longest ? k->horizon : s->longest;
  rgm_status status = fill_rows(run, held, &s->held);
  status = status == RGM_OK ? find_behaviour(run, &s->held) : status;
  RGM_TRY(status);
  RGM_TRY(fill_rows(run, k->fit == VALUES_FIT_TRAIN ? RGM_TRAIN : held, fit));
  s->scale = scale_of(fit, k->gamma);
  for (int64_t i = 0; i < fit->rows; i++) {
    fit->reward[i] /= s->scale;
  }
  return RGM_OK;
}
