// SPDX-License-Identifier: Apache-2.0
// What dynamic programming tells: bounds while it runs; then values and policies as grids or lists,
// near-optimal actions, P(survive) and expected length of the optimal policy beside a softened one,
// the environment's own and the uniform one.

#include "algorithms/dp_report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED = 24, JSON_STATES = 100000 };


static const dp_keys *keys_of(const rgm_run *run, int64_t r) {
  return rgm_algorithm_keys(run, r);
}


const rgm_mdp *dp_problem(const rgm_run *run) {
  const dp *s = run->self;
  return s->chain != NULL ? s->chain : run->mdp;
}


int64_t dp_action_of(const rgm_mdp *m, int64_t s, int32_t choice) {
  for (int64_t n = m->first[s]; n < m->first[s + 1] && choice >= 0; n++) {
    if (m->allowed[n] != 0 && choice-- == 0) {
      return m->action[n];
    }
  }
  return -1;
}


rgm_status dp_given(const rgm_mdp *m, int32_t *choice) {
  for (int64_t s = 0; s < m->states; s++) {
    int32_t k = 0;
    choice[s] = m->first[s + 1] == m->first[s] ? RGM_MDP_LANE : INT32_MAX;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      choice[s] = m->action[n] == m->policy[s] && m->allowed[n] != 0 ? k : choice[s];
      k += m->allowed[n] != 0;
    }
    if (choice[s] == INT32_MAX) {
      return rgm_fail(RGM_ECONFIG, "the policy takes action %d in state %lld, which is not allowed",
                      m->policy[s], (long long)s);
    }
  }
  return RGM_OK;
}


bool dp_copies_rows(const dp_keys *k) {
  return k->method == DP_MODIFIED || k->method == DP_POLICY_ITERATION;
}


// how far values can be from the truth for each unit of change
static double factor_of(const rgm_run *run, int64_t r) {
  const dp *s = run->self;
  const dp_keys *k = keys_of(run, r);
  if (k->gamma == 1.0) {
    return s->longest > 0.0 ? s->longest : 1.0;
  }
  return (k->method == DP_PRIORITISED ? 1.0 : k->gamma) / (1.0 - k->gamma);
}


double dp_stop(const rgm_run *run, int64_t r) {
  const double factor = factor_of(run, r);
  return factor > 0.0 ? keys_of(run, r)->tolerance / factor : INFINITY;
}


bool dp_is_active(const rgm_run *run, int64_t r) {
  uint32_t active = 0;
  rgm_copy(run->stream, &active, (uint32_t *)run->active.data + r * run->active.stride0,
           sizeof active);
  return rgm_sync(run->stream) == RGM_OK && active != 0;
}


void dp_keep(rgm_run *run, rgm_tensor value, rgm_tensor out) {
  const size_t bytes = (size_t)value.dims[1] * sizeof(double);
  for (int64_t r = 0; r < run->replicas; r++) {
    if (dp_is_active(run, r)) {
      rgm_copy(run->stream, (double *)value.data + r * value.stride0,
               (double *)out.data + r * out.stride0, bytes);
    }
  }
}


double dp_work(const rgm_run *run) {
  const dp_keys *k = keys_of(run, 0);
  const double all = (double)run->mdp->rows, own = (double)run->mdp->states;
  return (double)run->replicas * (all + (k->method == DP_MODIFIED ? own * (double)k->sweeps : 0.0));
}


// ---- while it runs -----------------------------------------------------------------------------

// What a replica has reached: the change of the last sweep, and how far values can be from the
// truth, without rounding.
typedef struct reached {
  double change, bound, gain;
} reached;


static rgm_status reach(const rgm_run *run, int64_t r, reached *out) {
  const dp *s = run->self;
  const dp_keys *k = keys_of(run, r);
  double side[2];
  rgm_copy(run->stream, side, (double *)s->bounds.data + 2 * r, sizeof side);
  RGM_TRY(rgm_sync(run->stream));
  *out = (reached){.change = fmax(-side[0], side[1]), .gain = 0.5 * (side[0] + side[1])};
  if (k->method == DP_RELATIVE) {
    out->bound = 0.5 * (side[1] - side[0]);
  } else if (k->method == DP_FINITE_HORIZON) {
    out->bound = 0.0;
  } else {
    // values that were swept on under a policy may have gone the other way than the optimum
    const double span = fmax(side[1], 0.0) - fmin(side[0], 0.0);
    out->bound = factor_of(run, r) * (dp_copies_rows(k) ? span : out->change);
  }
  if (!isfinite(out->change)) {
    return rgm_fail(RGM_ENUMERIC,
                    "replica %lld: values are no numbers any more at step %llu; are "
                    "rewards too large?",
                    (long long)r, (unsigned long long)run->step);
  }
  return RGM_OK;
}


// The value of the start distribution, or the mean over states without one.
static double value_of(const rgm_mdp *m, const double *value) {
  double sum = 0.0;
  for (int64_t s = 0; s < m->states; s++) {
    sum = fma(m->begin != NULL ? m->begin[s] : 1.0 / (double)m->states, value[s], sum);
  }
  return sum;
}


rgm_status dp_report(rgm_run *run) {
  const dp *s = run->self;
  const size_t R = (size_t)run->replicas, S = (size_t)run->mdp->states;
  float *out = malloc(3 * R * sizeof *out);
  double *value = malloc(R * S * sizeof *value);
  rgm_status status = out != NULL && value != NULL
                          ? rgm_read_back(run, s->value, value)
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld replicas", (long long)R);
  for (size_t r = 0; r < R && status == RGM_OK; r++) {
    const dp_keys *k = keys_of(run, (int64_t)r);
    reached at;
    status = reach(run, (int64_t)r, &at);
    if (status != RGM_OK) {
      break;
    }
    const bool relative = k->method == DP_RELATIVE;
    out[r] = (float)(relative ? at.gain : value_of(run->mdp, value + r * S));
    out[R + r] = (float)at.change;
    out[2 * R + r] = (float)at.bound;
    const bool endless = k->method == DP_FINITE_HORIZON || k->tolerance == 0.0;
    if (!endless && at.bound <= k->tolerance &&
        at.change <= (relative ? INFINITY : dp_stop(run, (int64_t)r))) {
      const uint32_t retired = 0;
      rgm_copy(run->stream, (uint32_t *)run->active.data + (int64_t)r * run->active.stride0,
               &retired, sizeof retired);
      status = rgm_sync(run->stream);
    }
  }
  const bool relative = keys_of(run, 0)->method == DP_RELATIVE;
  status = status == RGM_OK ? rgm_report(run, relative ? "gain" : "value", "reward", out) : status;
  status = status == RGM_OK ? rgm_report(run, "change", "reward", out + R) : status;
  status = status == RGM_OK ? rgm_report(run, "bound", "reward", out + 2 * R) : status;
  free(out);
  free(value);
  return status;
}


// ---- what came out -----------------------------------------------------------------------------

// One replica's answer, on the host.
typedef struct answer {
  const rgm_mdp *m;
  const dp_keys *k;
  reached at;
  double *value;                             // (S)
  int32_t *choice;                           // (H, S) among the allowed actions
  double *survive, *length, *other, *weight; // (S), (S), (S), (rows): work
  int32_t *near;                             // (S) how many actions are near-optimal
  FILE *text;
  rgm_json *json;
} answer;


static void grid_title(FILE *out, const char *title) {
  fprintf(out, "\n%s\n", title);
}


static void print_values(const answer *a, const char *title, const double *x) {
  grid_title(a->text, title);
  for (int r = 0; r < a->m->grid_rows; r++) {
    for (int c = 0; c < a->m->grid_columns; c++) {
      fprintf(a->text, " %17.12f", x[r * a->m->grid_columns + c]);
    }
    fputc('\n', a->text);
  }
}


// an action's name; ends have none
static const char *name_of(const answer *a, int64_t s, int32_t choice, char text[24]) {
  const int64_t action = dp_action_of(a->m, s, choice);
  bool still = true;
  for (int64_t n = a->m->first[s]; n < a->m->first[s + 1]; n++) {
    still = still && a->m->start[n + 1] - a->m->start[n] == 1 && a->m->next[a->m->start[n]] == s;
  }
  if (action < 0 || still) {
    return "-";
  }
  if (a->m->action_name != NULL) {
    return a->m->action_name[action];
  }
  snprintf(text, 24, "%lld", (long long)action);
  return text;
}


static void print_policy(const answer *a) {
  char name[24];
  grid_title(a->text, "policy");
  for (int r = 0; r < a->m->grid_rows; r++) {
    for (int c = 0; c < a->m->grid_columns; c++) {
      const int64_t s = (int64_t)r * a->m->grid_columns + c;
      fprintf(a->text, " %17s", name_of(a, s, a->choice[s], name));
    }
    fputc('\n', a->text);
  }
}


static void print_list(const answer *a) {
  char name[24], state[24];
  fprintf(a->text, "\n%-16s %17s %-10s %5s %10s %10s\n", "state", "value", "action", "near",
          "P(survive)", "length");
  for (int64_t s = 0; s < a->m->states && s < LISTED; s++) {
    snprintf(state, sizeof state, "%lld", (long long)s);
    fprintf(a->text, "%-16s %17.12f %-10s %5d %10.4f %10.3f\n",
            a->m->state_name != NULL ? a->m->state_name[s] : state, a->value[s],
            name_of(a, s, a->choice[s], name), a->near[s], a->survive[s], a->length[s]);
  }
  if (a->m->states > LISTED) {
    fprintf(a->text, "... %lld states more; --json has them all\n",
            (long long)a->m->states - LISTED);
  }
}


// how many actions of each state are within `near` of the best
static void count_near(answer *a) {
  const rgm_mdp *m = a->m;
  for (int64_t s = 0; s < m->states; s++) {
    double best = -INFINITY;
    a->near[s] = 0;
    for (int pass = 0; pass < 2; pass++) {
      for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
        const double q = m->allowed[n] != 0 ? dp_row(m, n, a->k->gamma, a->value) : -INFINITY;
        best = pass == 0 && q > best ? q : best;
        a->near[s] += pass == 1 && q >= best - a->k->near && m->allowed[n] != 0;
      }
    }
  }
}


// One policy's exact value, P(survive) and expected length from the start distribution.
static rgm_status judge(answer *a, const char *name, bool values) {
  rgm_mdp *chain = NULL;
  rgm_status status = dp_chain(a->m, a->weight, &chain);
  double value = NAN, survive = NAN, length = NAN;
  if (status == RGM_OK) {
    status = dp_direct(chain, 1.0, DP_LENGTH, a->length);
  }
  if (status == RGM_OK) {
    length = value_of(a->m, a->length);
    status = dp_direct(chain, 1.0, DP_SURVIVE, a->survive);
    survive = a->m->good != NULL ? value_of(a->m, a->survive) : NAN;
  }
  if (status == RGM_OK && (a->k->gamma < 1.0 || isfinite(length))) {
    status = dp_direct(chain, a->k->gamma, DP_VALUE, values ? a->other : a->other);
    value = value_of(a->m, a->other);
  }
  rgm_mdp_free(chain);
  RGM_TRY(status);
  if (a->text != NULL) {
    fprintf(a->text, "  %-10s value %15.12f", name, value);
    fprintf(a->text, isfinite(survive) ? "   P(survive) %.6f" : "", survive);
    fprintf(a->text, isfinite(length) ? "   length %.5f\n" : "   may never end\n", length);
  }
  rgm_json_open(a->json, name, '{');
  rgm_json_number(a->json, "value", value);
  rgm_json_number(a->json, "survive", survive);
  rgm_json_number(a->json, "length", length);
  rgm_json_close(a->json, '}');
  return RGM_OK;
}


static rgm_status judge_all(answer *a, const int32_t *given) {
  rgm_json_open(a->json, "policies", '{');
  if (a->text != NULL) {
    fprintf(a->text, "\npolicies, exactly, from the start distribution\n");
  }
  dp_weights_uniform(a->m, a->weight);
  RGM_TRY(judge(a, "uniform", false));
  if (a->m->policy != NULL) {
    dp_weights_of(a->m, given, a->weight);
    RGM_TRY(judge(a, "given", false));
  }
  dp_weights_of(a->m, a->choice, a->weight);
  if (a->k->soften > 0.0) {
    dp_weights_soften(a->m, a->k->soften, a->weight);
    RGM_TRY(judge(a, "softened", false));
    dp_weights_of(a->m, a->choice, a->weight);
  }
  RGM_TRY(judge(a, "optimal", true)); // the last: its P(survive) and length stay for the lists
  rgm_json_close(a->json, '}');
  return RGM_OK;
}


static void write_array(rgm_json *json, const char *key, const double *x, int64_t n) {
  rgm_json_open(json, key, '[');
  for (int64_t i = 0; i < n; i++) {
    rgm_json_number(json, NULL, x[i]);
  }
  rgm_json_close(json, ']');
}


static void write_states(const answer *a, int64_t stages) {
  const rgm_mdp *m = a->m;
  const int64_t all = stages * m->states <= JSON_STATES ? stages : 1;
  write_array(a->json, "values", a->value, m->states);
  write_array(a->json, "survive", a->survive, m->states);
  write_array(a->json, "lengths", a->length, m->states);
  rgm_json_open(a->json, "actions", '[');
  for (int64_t i = 0; i < all * m->states; i++) {
    rgm_json_number(a->json, NULL, (double)dp_action_of(m, i % m->states, a->choice[i]));
  }
  rgm_json_close(a->json, ']');
  rgm_json_open(a->json, "near_optimal", '[');
  for (int64_t s = 0; s < m->states; s++) {
    rgm_json_number(a->json, NULL, a->near[s]);
  }
  rgm_json_close(a->json, ']');
}


// what is said of the whole answer
static void print_head(const answer *a, const rgm_run *run) {
  static const char *const what[] = {"modified policy iteration", "value iteration",
                                     "policy iteration",          "Gauss-Seidel sweeps",
                                     "prioritised sweeps",        "relative value iteration",
                                     "backward induction",        "evaluation of a policy"};
  const double value = a->k->method == DP_RELATIVE ? a->at.gain : value_of(a->m, a->value);
  const char *name = a->k->method == DP_RELATIVE ? "gain" : "value";
  if (a->text != NULL) {
    fprintf(a->text, "%s: %lld states, %lld pairs, %lld non-zeros; %s, gamma %.10g, %lld step%s\n",
            run->env->name, (long long)a->m->states, (long long)a->m->rows,
            (long long)a->m->entries, what[a->k->method], a->k->gamma, (long long)run->step,
            run->step == 1 ? "" : "s");
    fprintf(a->text, "%s %.12f, last change %.3g, at most %.3g from the truth\n", name, value,
            a->at.change, a->at.bound);
  }
  rgm_json_number(a->json, "gamma", a->k->gamma);
  rgm_json_number(a->json, name, value);
  rgm_json_number(a->json, "change", a->at.change);
  rgm_json_number(a->json, "bound", a->at.bound);
}


static rgm_status print_replica(rgm_run *run, int64_t r, answer *a) {
  const dp *s = run->self;
  const int64_t S = a->m->states, H = s->action.dims[1];
  a->k = keys_of(run, r);
  rgm_copy(run->stream, a->value, (double *)s->value.data + r * s->value.stride0,
           (size_t)S * sizeof *a->value);
  rgm_copy(run->stream, a->choice, (int32_t *)s->action.data + r * s->action.stride0,
           (size_t)(S * H) * sizeof *a->choice);
  RGM_TRY(rgm_sync(run->stream));
  RGM_TRY(reach(run, r, &a->at));
  rgm_json_open(a->json, NULL, '{');
  print_head(a, run);
  const bool evaluated = a->k->method == DP_EVALUATE;
  for (int64_t i = 0; i < S && evaluated; i++) {
    a->choice[i] = a->k->policy == DP_GIVEN ? s->given[i] : RGM_MDP_LANE;
  }
  count_near(a);
  if (!evaluated) {
    RGM_TRY(judge_all(a, s->given));
  } else {
    if (a->k->policy == DP_GIVEN) {
      dp_weights_of(a->m, s->given, a->weight);
    } else {
      dp_weights_uniform(a->m, a->weight);
    }
    rgm_json_open(a->json, "policies", '{');
    RGM_TRY(judge(a, a->k->policy == DP_GIVEN ? "given" : "uniform", true));
    rgm_json_close(a->json, '}');
  }
  if (a->text != NULL && a->m->grid_rows > 0) {
    print_values(a, a->k->method == DP_RELATIVE ? "relative values" : "values", a->value);
    if (!evaluated || a->k->policy == DP_GIVEN) {
      print_policy(a);
    }
    print_values(a, "P(alive)", a->survive);
  } else if (a->text != NULL) {
    print_list(a);
  }
  if (a->json->out != NULL && S <= JSON_STATES) {
    write_states(a, H);
  }
  rgm_json_close(a->json, '}');
  return RGM_OK;
}


rgm_status dp_print(rgm_run *run, rgm_json *json, FILE *text) {
  const dp *s = run->self;
  const size_t S = (size_t)run->mdp->states, H = (size_t)s->action.dims[1];
  answer a = {.m = run->mdp, .text = text, .json = json};
  a.value = malloc(4 * S * sizeof *a.value);
  a.weight = malloc(((size_t)run->mdp->rows + 1) * sizeof *a.weight);
  a.choice = malloc(S * H * sizeof *a.choice);
  a.near = malloc(S * sizeof *a.near);
  rgm_status status = a.value != NULL && a.choice != NULL && a.near != NULL && a.weight != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %lld states", (long long)S);
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "step", (double)run->step);
  rgm_json_number(json, "states", (double)S);
  rgm_json_open(json, "replicas", '[');
  if (status == RGM_OK) {
    a.survive = a.value + S;
    a.length = a.value + 2 * S;
    a.other = a.value + 3 * S;
  }
  for (int64_t r = 0; r < run->replicas && status == RGM_OK; r++) {
    if (text != NULL && r > 0) {
      fputc('\n', text);
    }
    status = print_replica(run, r, &a);
  }
  rgm_json_close(json, ']');
  rgm_json_close(json, '}');
  free(a.value);
  free(a.weight);
  free(a.choice);
  free(a.near);
  return status;
}
