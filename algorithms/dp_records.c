// SPDX-License-Identifier: Apache-2.0
// What is the best plan of a problem that was counted from trajectories, and what is it worth by
// patients who were held out? Weighted importance sampling (Precup et al. 2000) with its effective
// sample size and a bootstrap interval, and the plan's value in a model that is counted from the
// held-out patients alone, beside what the plan's own model says and what the clinicians earned.
// Writes the plan as a table in the features' own units. Trains nothing.

#include "algorithms/dp.h"
#include "algorithms/dp_report.h"
#include "engine/trajectories.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct records_keys {
  double gamma, soften, tie;
  int64_t resamples;
  int judge;
} records_keys;

#define KEY(member) offsetof(records_keys, member)

enum { JUDGE_HELD_OUT, JUDGE_IN_SAMPLE };
static const char *const judges[] = {"held_out", "in_sample", NULL};

static const rgm_field fields[] = {
    {"gamma", RGM_FLOAT, KEY(gamma), "1", "0.99", 0, 0.999999, NULL, 0, "Discount of a step."},
    {"soften", RGM_FLOAT, KEY(soften), "1", "0.01", 0, 1, NULL, 0,
     "Share of the plan that is spread over the allowed actions, for importance sampling."},
    {"judge", RGM_CHOICE, KEY(judge), "", "held_out", 0, 0, judges, 0,
     "Whose records judge: patients who were held out, or, in_sample, those who made the plan."},
    {"resamples", RGM_INT, KEY(resamples), "1", "1000", 2, 100000, NULL, 0,
     "Resamples of stays for the interval of importance sampling."},
    {"tie", RGM_FLOAT, KEY(tie), "1", "1e-12", 0, 1e9, NULL, 0,
     "An action is changed for a gain of more than this."},
    {0},
};

// The plan and who judges it. Pairs are (states, actions).
typedef struct judging {
  const records_keys *k;
  const rgm_mdp *m;
  const rgm_mdp_origin *o;
  double *value;       // (S) of the plan, by its own model
  int32_t *choice;     // (S) among the allowed
  double *target;      // (pairs) the softened plan
  double *clinicians;  // (pairs) what was done
  int64_t *seen;       // (pairs) by all stays
  double *each, *work; // (2, stays), (resamples)
  int64_t judged, died, visits, followed;
  dp_weighed weighed;
  double model, model_held, covered, earned, earned_se;
} judging;


static bool is_judge(const judging *j, int64_t stay) {
  const bool held = j->o->held[stay] != 0;
  return held == (j->k->judge == JUDGE_HELD_OUT) && j->o->end[stay] != RGM_STAY_CUT;
}


static size_t pair_of(const judging *j, int64_t visit) {
  return (size_t)j->o->state[visit] * (size_t)j->m->actions + (size_t)j->o->action[visit];
}


// ---- the plan ----------------------------------------------------------------------------------

static void make_plan(judging *j) {
  const rgm_mdp *m = j->m;
  memset(j->choice, 0xFF, (size_t)m->states * sizeof *j->choice);
  for (int sweep = 0; sweep < 100000; sweep++) {
    if (dp_gauss_seidel(m, j->k->gamma, j->k->tie, j->value, j->choice) <= 1e-13) {
      break;
    }
  }
  for (int64_t s = 0; s < m->states; s++) {
    j->model = fma(m->begin[s], j->value[s], j->model);
    int64_t allowed = 0;
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      allowed += m->allowed[n] != 0;
    }
    const int64_t best = dp_action_of(m, s, j->choice[s]);
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      const double own = m->action[n] == best ? 1.0 - j->k->soften : 0.0;
      j->target[s * m->actions + m->action[n]] =
          m->allowed[n] != 0 ? own + j->k->soften / (double)allowed : 0.0;
    }
  }
}


// what clinicians do in each state, by all stays: actions alone, not what came of them
static void watch_clinicians(judging *j) {
  const int64_t A = j->m->actions;
  for (int64_t v = 0; v < j->o->visits; v++) {
    if (j->o->state[v] >= 0) {
      j->seen[pair_of(j, v)]++;
    }
  }
  for (int64_t s = 0; s < j->m->states; s++) {
    int64_t sum = 0;
    for (int64_t a = 0; a < A; a++) {
      sum += j->seen[s * A + a];
    }
    for (int64_t a = 0; a < A && sum > 0; a++) {
      j->clinicians[s * A + a] = (double)j->seen[s * A + a] / (double)sum;
    }
  }
}


// ---- importance sampling -----------------------------------------------------------------------

static void weigh(judging *j, uint64_t seed) {
  const rgm_mdp_origin *o = j->o;
  double sum = 0.0, square = 0.0;
  for (int64_t i = 0; i < o->stays; i++) {
    if (!is_judge(j, i)) {
      continue;
    }
    double ratio = 1.0;
    for (int64_t v = o->first[i]; v < o->first[i + 1]; v++) {
      if (o->state[v] >= 0) {
        const size_t pair = pair_of(j, v);
        ratio *= j->target[pair] / j->clinicians[pair];
        j->followed += o->action[v] == dp_action_of(j->m, o->state[v], j->choice[o->state[v]]);
      }
      j->visits++;
    }
    const double back =
        pow(j->k->gamma, (double)(o->first[i + 1] - o->first[i] - 1)) * o->pay[o->end[i]];
    j->each[j->judged] = ratio;
    j->each[o->stays + j->judged] = back;
    sum += back;
    square = fma(back, back, square);
    j->judged++;
    j->died += o->end[i] == RGM_STAY_DIED;
  }
  const double n = (double)j->judged;
  j->earned = sum / n;
  j->earned_se = sqrt(fmax(square / n - j->earned * j->earned, 0.0) / n);
  dp_weigh(j->each, j->each + o->stays, j->judged, j->k->resamples, seed, j->work, &j->weighed);
}


// ---- the judges' own model ---------------------------------------------------------------------

// the model that the judges' records make, and where they began
static rgm_status count_judges(judging *j, double *begin, rgm_mdp **out) {
  const rgm_mdp_origin *o = j->o;
  rgm_mdp_builder *b;
  RGM_TRY(rgm_mdp_builder_new("held-out records", &b));
  rgm_status status = RGM_OK;
  double n = 0.0;
  for (int64_t i = 0; i < o->stays && status == RGM_OK; i++) {
    if (!is_judge(j, i)) {
      continue;
    }
    if (o->state[o->first[i]] >= 0) {
      begin[o->state[o->first[i]]] += 1.0;
      n += 1.0;
    }
    for (int64_t v = o->first[i]; v < o->first[i + 1] && status == RGM_OK; v++) {
      const bool last = v + 1 == o->first[i + 1];
      const int64_t next = last ? o->centres + (o->end[i] == RGM_STAY_SURVIVED) : o->state[v + 1];
      if (o->state[v] >= 0 && next >= 0) {
        status = rgm_mdp_add_count(b, v, o->state[v], o->action[v], next,
                                   last ? o->pay[o->end[i]] : 0.0);
      }
    }
  }
  for (int64_t s = 0; s < j->m->states && n > 0.0; s++) {
    begin[s] /= n;
  }
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  const rgm_mdp_checks checks = {0};
  return rgm_mdp_finish(b, j->m->states, j->m->actions, &checks, out);
}


// Weights of the judges' rows: the softened plan over what they know; where they know nothing of
// it, what they did themselves.
static void translate(judging *j, const rgm_mdp *own, double *weight) {
  int64_t known = 0, all = 0;
  for (int64_t s = 0; s < own->states; s++) {
    double sum = 0.0;
    int64_t visits = 0;
    for (int64_t n = own->first[s]; n < own->first[s + 1]; n++) {
      weight[n] = j->target[s * own->actions + own->action[n]];
      sum += weight[n];
      for (int64_t e = own->start[n]; e < own->start[n + 1]; e++) {
        visits += own->count[e];
      }
    }
    const double best = 1.0 - j->k->soften;
    known += sum >= best ? visits : 0;
    all += visits;
    for (int64_t n = own->first[s]; n < own->first[s + 1]; n++) {
      double seen = 0.0;
      for (int64_t e = own->start[n]; e < own->start[n + 1]; e++) {
        seen += (double)own->count[e];
      }
      weight[n] = sum >= best ? weight[n] / sum : seen / (double)visits;
    }
  }
  j->covered = all > 0 ? (double)known / (double)all : 0.0;
}


static rgm_status judge_by_model(judging *j) {
  rgm_mdp *own = NULL, *chain = NULL;
  double *begin = calloc(2 * (size_t)j->m->states, sizeof *begin), *weight = NULL;
  rgm_status status =
      begin != NULL ? count_judges(j, begin, &own) : rgm_fail(RGM_EMEMORY, "no memory for a model");
  if (status == RGM_OK) {
    weight = calloc((size_t)own->rows + 1, sizeof *weight);
    status = weight != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a model");
  }
  if (status == RGM_OK) {
    translate(j, own, weight);
    status = dp_chain(own, weight, &chain);
  }
  if (status == RGM_OK) {
    double *x = begin + j->m->states;
    status = dp_direct(chain, j->k->gamma, DP_VALUE, x);
    for (int64_t s = 0; s < j->m->states; s++) {
      j->model_held = fma(begin[s], x[s], j->model_held);
    }
  }
  rgm_mdp_free(chain);
  rgm_mdp_free(own);
  free(begin);
  free(weight);
  return status;
}


// ---- the table ---------------------------------------------------------------------------------

// the action that was taken most in a state, -1: none was
static int64_t favourite(const judging *j, int64_t s) {
  int64_t best = -1, most = 0;
  for (int64_t a = 0; a < j->m->actions; a++) {
    const int64_t n = j->seen[s * j->m->actions + a];
    best = n > most ? a : best;
    most = n > most ? n : most;
  }
  return best;
}


// median training dose of each drug under an action
static void print_doses(const judging *j, int64_t action, FILE *out) {
  const rgm_mdp_origin *o = j->o;
  for (int64_t d = 0; d < o->drugs; d++) {
    const double dose = action < 0 ? NAN : rgm_origin_dose(o, d, action);
    if (isnan(dose)) {
      fprintf(out, ",");
    } else {
      fprintf(out, ",%.6g", dose);
    }
  }
}


static void print_state(const judging *j, int64_t s, FILE *out) {
  const rgm_mdp *m = j->m;
  const int64_t A = m->actions, best = dp_action_of(m, s, j->choice[s]), usual = favourite(j, s);
  double second = -INFINITY, top = -INFINITY;
  int64_t n = 0, allowed = 0;
  for (int64_t a = 0; a < A; a++) {
    n += j->seen[s * A + a];
  }
  for (int64_t row = m->first[s]; row < m->first[s + 1]; row++) {
    if (m->allowed[row] != 0) {
      const double q = dp_row(m, row, j->k->gamma, j->value);
      top = m->action[row] == best ? q : top;
      second = m->action[row] != best && q > second ? q : second;
      allowed++;
    }
  }
  fprintf(out, "%lld,%lld,\"%s\",\"%s\",%.6g,%.6g", (long long)s, (long long)n,
          m->action_name[best], usual >= 0 ? m->action_name[usual] : "",
          j->clinicians[s * A + best], j->value[s]);
  if (allowed > 1) {
    fprintf(out, ",%.6g,%lld", top - second, (long long)allowed);
  } else {
    fprintf(out, ",,%lld", (long long)allowed);
  }
  print_doses(j, best, out);
  print_doses(j, usual, out);
  for (int64_t d = 0; d < j->o->features; d++) {
    fprintf(out, ",%.6g", rgm_origin_centre(j->o, s, d));
  }
  fputc('\n', out);
}


static rgm_status print_policy(const judging *j, const char *folder) {
  const rgm_mdp_origin *o = j->o;
  char path[4096];
  snprintf(path, sizeof path, "%s/policy.csv", folder);
  FILE *out = fopen(path, "w");
  if (out == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  fprintf(out, "state,n,recommended,usual,share_as_recommended,value,gap_to_second,allowed");
  for (int64_t i = 0; i < 2 * o->drugs; i++) {
    fprintf(out, ",\"%s %s\"", i < o->drugs ? "recommended" : "usual", o->drug[i % o->drugs]);
  }
  for (int64_t d = 0; d < o->features; d++) {
    fprintf(out, ",\"%s\"", o->feature[d]);
  }
  fputc('\n', out);
  for (int64_t s = 0; s < o->centres; s++) {
    print_state(j, s, out);
  }
  const bool ok = ferror(out) == 0;
  return fclose(out) == 0 && ok ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


// ---- what is told ------------------------------------------------------------------------------

static void write_json(const judging *j, rgm_json *json) {
  const struct {
    const char *name;
    double value;
  } rows[] = {
      {"model", j->model},
      {"wis", j->weighed.wis},
      {"wis_low", j->weighed.low},
      {"wis_high", j->weighed.high},
      {"ess", j->weighed.ess},
      {"stays", (double)j->judged},
      {"held_out_model", j->model_held},
      {"held_out_model_covers", j->covered},
      {"clinicians", j->earned},
      {"clinicians_se", j->earned_se},
      {"died", (double)j->died},
      {"visits", (double)j->visits},
      {"visits_as_recommended", (double)j->followed},
  };
  rgm_json_open(json, NULL, '{');
  rgm_json_string(json, "judged", judges[j->k->judge]);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rgm_json_number(json, rows[i].name, rows[i].value);
  }
  rgm_json_close(json, '}');
}


static void print_text(const judging *j, FILE *text) {
  const bool in_sample = j->k->judge == JUDGE_IN_SAMPLE;
  const char *who = in_sample ? "in sample" : "held out";
  fprintf(text, "the best plan of %lld states, gamma %.10g, judged by %lld stays (%s)\n",
          (long long)j->o->centres, j->k->gamma, (long long)j->judged, who);
  if (in_sample) {
    fprintf(text, "IN SAMPLE: these stays made the plan. Whatever follows is too good.\n");
  }
  fprintf(text, "  %-52s %8.4f +- %.4f\n", "what clinicians earned (mean, standard error)",
          j->earned, j->earned_se);
  fprintf(text, "  %-52s %8.4f\n", "what the plan's own model says", j->model);
  fprintf(text, "  %-52s %8.4f  (%.4f to %.4f), ESS %.1f of %lld\n",
          "weighted importance sampling, 95 % interval", j->weighed.wis, j->weighed.low,
          j->weighed.high, j->weighed.ess, (long long)j->judged);
  fprintf(text, "  %-52s %8.4f  (it knows the plan in %.1f %% of visits)\n",
          "the model of these stays alone", j->model_held, 100.0 * j->covered);
  fprintf(text, "  clinicians did as recommended in %.1f %% of %lld visits\n",
          100.0 * (double)j->followed / (double)j->visits, (long long)j->visits);
  if (j->weighed.ess < 100.0) {
    fprintf(text,
            "WARNING: importance sampling rests on %.0f stays' worth of records (ESS). It says "
            "little, and\nusually too much; believe the smallest figure, raise counts.least, or "
            "soften the plan.\n",
            j->weighed.ess);
  }
}


static rgm_status evaluate_all(judging *j, rgm_run *run, rgm_json *json, FILE *text) {
  int64_t judged = 0;
  for (int64_t i = 0; i < j->o->stays; i++) {
    judged += is_judge(j, i);
  }
  if (judged < 2) {
    return rgm_fail(RGM_EDATA,
                    "%lld stays to judge with; import with split.held_out above 0, or set "
                    "algorithm.judge: in_sample, which flatters the plan",
                    (long long)judged);
  }
  make_plan(j);
  watch_clinicians(j);
  weigh(j, (uint64_t)run->keys.seed);
  RGM_TRY(judge_by_model(j));
  write_json(j, json);
  if (text != NULL) {
    print_text(j, text);
  }
  if (run->out[0] == '\0') {
    return RGM_OK;
  }
  if (text != NULL) {
    fprintf(text, "%s/policy.csv: a line a state, its centre in the features' units\n", run->out);
  }
  return print_policy(j, run->out);
}


static rgm_status records_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  const rgm_mdp *m = run->mdp;
  judging j = {.k = rgm_algorithm_keys(run, 0), .m = m, .o = m->origin};
  const size_t S = (size_t)m->states, pairs = S * (size_t)m->actions, N = (size_t)j.o->stays;
  j.value = calloc(S + 2 * pairs + 2 * N + (size_t)j.k->resamples, sizeof *j.value);
  j.choice = calloc(S, sizeof *j.choice);
  j.seen = calloc(pairs, sizeof *j.seen);
  rgm_status status = j.value != NULL && j.choice != NULL && j.seen != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for %zu stays", N);
  if (status == RGM_OK) {
    j.target = j.value + S;
    j.clinicians = j.target + pairs;
    j.each = j.clinicians + pairs;
    j.work = j.each + 2 * N;
    status = evaluate_all(&j, run, json, text);
  }
  free(j.value);
  free(j.choice);
  free(j.seen);
  return status;
}


static rgm_status records_plan(rgm_run *run) {
  return run->mdp->origin != NULL
             ? RGM_OK
             : rgm_fail(RGM_ECONFIG,
                        "%s: a problem with its patients' visits is needed: make one by `regimen "
                        "import trajectories`",
                        rgm_config_where(run->config, "env.path"));
}


static int records_contenders(rgm_run *run, rgm_contender *out, int max) {
  (void)run, (void)out, (void)max;
  return 0;
}


const rgm_algorithm rgm_dp_records = {
    .name = "dp_records",
    .paper = "Komorowski et al. 2018; Precup et al. 2000",
    .doc = "The plan of a problem counted from trajectories, judged by patients held out.",
    .fields = fields,
    .keys_size = sizeof(records_keys),
    .self_size = 1,
    .needs = RGM_NEEDS_ENV | RGM_NEEDS_MDP | RGM_TRAINS_NOT,
    .plan = records_plan,
    .contenders = records_contenders,
    .evaluate = records_evaluate,
};
