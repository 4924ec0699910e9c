// SPDX-License-Identifier: Apache-2.0
// What is a plan worth that was learned from records? Patients are simulated from a problem that is
// known (the planted truth) under a clinician's policy, transitions are counted, pairs seen too
// rarely dropped, the best policy of the counted model found; then the model's own opinion of it,
// weighted importance sampling (Precup et al. 2000; AI-Clinician's recipe, Komorowski et al. 2018)
// with its effective sample size and a bootstrap interval, and the truth, side by side. Trains
// nothing.

#include "algorithms/dp.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct audit_keys {
  double gamma, soften, holdout, tie;
  int64_t patients, repeats, longest, resamples;
  rgm_list counts;
  char behaviour[RGM_STRING_SIZE];
  int rare;
} audit_keys;

#define KEY(member) offsetof(audit_keys, member)

static const char *const rares[] = {"frequent", "end", NULL};

static const rgm_field fields[] = {
    {"gamma", RGM_FLOAT, KEY(gamma), "1", "0.99", 0, 0.999999, NULL, 0, "Discount of a step."},
    {"behaviour", RGM_STRING, KEY(behaviour), "", "", 0, 0, NULL, 0,
     "The clinicians' policy: a line of probabilities of all actions a state; empty: uniform."},
    {"patients", RGM_INT, KEY(patients), "1", "17083", 2, 1e7, NULL, 0,
     "Patients of each record; 17,083 are those of AI-Clinician in MIMIC-III."},
    {"repeats", RGM_INT, KEY(repeats), "1", "5", 1, 1000, NULL, 0,
     "Records that are simulated, each with a seed of its own."},
    {"counts", RGM_LIST, KEY(counts), "1", "[0, 5, 20]", 0, 1e6, NULL, 0,
     "Pairs seen at most so often are dropped before planning; a row of the table for each."},
    {"rare_states", RGM_CHOICE, KEY(rare), "", "frequent", 0, 0, rares, 0,
     "States that lose all pairs: frequent keeps the most frequent one, end makes them ends of "
     "value "
     "0, where the clinicians go on as before."},
    {"soften", RGM_FLOAT, KEY(soften), "1", "0.01", 0, 1, NULL, 0,
     "Share of the plan that is spread over the kept actions, for importance sampling."},
    {"holdout", RGM_FLOAT, KEY(holdout), "1", "0.3", 0, 0.9, NULL, 0,
     "Share of the patients that importance sampling alone sees; 0: all plan and judge, as often "
     "done."},
    {"resamples", RGM_INT, KEY(resamples), "1", "200", 2, 100000, NULL, 0,
     "Resamples of patients for the interval of importance sampling."},
    {"longest", RGM_INT, KEY(longest), "steps", "500", 1, 1e6, NULL, 0,
     "Steps after which a stay is cut."},
    {"tie", RGM_FLOAT, KEY(tie), "1", "1e-12", 0, 1e9, NULL, 0,
     "An action is changed for a gain of more than this."},
    {0},
};

// One transition of the records: a row of the truth and where it led.
typedef struct visit {
  int64_t row;
  int32_t next;
  float reward;
} visit;

typedef struct records {
  visit *visit;
  int64_t *start; // (patients + 1)
  int64_t patients, count, room;
} records;

typedef struct judged {
  double model, wis, low, ess, truth;
  int64_t kept; // pairs
} judged;


// ---- records -----------------------------------------------------------------------------------

static rgm_status keep_visit(records *all, visit v) {
  if (all->count == all->room) {
    all->room = all->room > 0 ? 2 * all->room : 65536;
    visit *more = realloc(all->visit, (size_t)all->room * sizeof *more);
    if (more == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for %lld transitions", (long long)all->room);
    }
    all->visit = more;
  }
  all->visit[all->count++] = v;
  return RGM_OK;
}


static rgm_status simulate(const audit_keys *k, const rgm_mdp *m, const double *weight,
                           uint64_t seed, records *all) {
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  all->patients = k->patients;
  all->start = calloc((size_t)k->patients + 1, sizeof *all->start);
  if (all->start == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld patients", (long long)k->patients);
  }
  for (int64_t i = 0; i < k->patients; i++) {
    rgm_rng rng = {rgm_stream_key(words, RGM_RANDOM_PATIENT), 0, (uint32_t)i, 0};
    int64_t s = rgm_mdp_choose(m->begin, m->states, rgm_unit64(rgm_rng_next(&rng)));
    for (int64_t t = 0; t < k->longest && !rgm_mdp_is_end(m, s); t++) {
      const int64_t first = m->first[s];
      const int64_t row = first + rgm_mdp_choose(weight + first, m->first[s + 1] - first,
                                                 rgm_unit64(rgm_rng_next(&rng)));
      const int64_t at =
          m->start[row] + rgm_mdp_choose(m->p + m->start[row], m->start[row + 1] - m->start[row],
                                         rgm_unit64(rgm_rng_next(&rng)));
      RGM_TRY(keep_visit(all, (visit){row, m->next[at], (float)m->gain[at]}));
      s = m->next[at];
    }
    all->start[i + 1] = all->count;
  }
  return RGM_OK;
}


// ---- the counted model -------------------------------------------------------------------------

// The truth's state of a row.
static void owners(const rgm_mdp *m, int32_t *owner) {
  for (int64_t s = 0; s < m->states; s++) {
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      owner[n] = (int32_t)s;
    }
  }
}


// Counts of the first `patients`: a model of the pairs seen more than `least` times. Where a state
// has none of them, its most frequent action stays if `frequent`.
static rgm_status count_model(const rgm_mdp *m, const records *all, int64_t patients, double least,
                              bool frequent, const int32_t *owner, int64_t *seen, rgm_mdp **out) {
  memset(seen, 0, (size_t)m->rows * sizeof *seen);
  for (int64_t i = 0; i < all->start[patients]; i++) {
    seen[all->visit[i].row]++;
  }
  for (int64_t s = 0; s < m->states; s++) {
    int64_t most = m->first[s];
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      most = seen[n] > seen[most] ? n : most;
    }
    // what is dropped counts as never seen, with a minus to tell how often it was
    for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
      seen[n] = (double)seen[n] > least || (frequent && n == most) ? seen[n] : -seen[n];
    }
  }
  rgm_mdp_builder *b;
  RGM_TRY(rgm_mdp_builder_new("records", &b));
  rgm_status status = RGM_OK;
  for (int64_t i = 0; i < all->start[patients] && status == RGM_OK; i++) {
    const visit *v = &all->visit[i];
    if (seen[v->row] > 0) {
      status =
          rgm_mdp_add_count(b, i, owner[v->row], m->action[v->row], v->next, (double)v->reward);
    }
  }
  if (status != RGM_OK) {
    rgm_mdp_builder_free(b);
    return status;
  }
  const rgm_mdp_checks checks = {0};
  return rgm_mdp_finish(b, m->states, m->actions, &checks, out);
}


// Weighted importance sampling over patients from `first` on; `target` and `own` are weights of the
// truth's rows. each (2, n): ratio and return of each patient.
static void weigh(const audit_keys *k, const records *all, int64_t first, const double *target,
                  const double *own, double *each) {
  const int64_t n = all->patients - first;
  for (int64_t i = 0; i < n; i++) {
    double ratio = 1.0, back = 0.0, discount = 1.0;
    for (int64_t t = all->start[first + i]; t < all->start[first + i + 1]; t++) {
      const visit *v = &all->visit[t];
      ratio *= own[v->row] > 0.0 ? target[v->row] / own[v->row] : 0.0;
      back = fma(discount, (double)v->reward, back);
      discount *= k->gamma;
    }
    each[i] = ratio;
    each[n + i] = back;
  }
}


// ---- one record --------------------------------------------------------------------------------

// What a record is judged with: arrays of the truth's rows, states and patients.
typedef struct bench {
  const audit_keys *k;
  const rgm_mdp *m;
  double *clinicians, *target, *own, *value, *each, *work;
  int32_t *owner, *choice;
  int64_t *seen;
} bench;


static double start_value(const rgm_mdp *m, const double *begin, const double *value) {
  double sum = 0.0;
  for (int64_t s = 0; s < m->states; s++) {
    sum = fma(begin[s], value[s], sum);
  }
  return sum;
}


// The plan of a counted model by policy iteration with sweeps in place; value and choice.
static void plan_model(const bench *w, const rgm_mdp *model) {
  memset(w->value, 0, (size_t)model->states * sizeof *w->value);
  memset(w->choice, 0xFF, (size_t)model->states * sizeof *w->choice);
  for (int sweep = 0; sweep < 100000; sweep++) {
    if (dp_gauss_seidel(model, w->k->gamma, w->k->tie, w->value, w->choice) <= 1e-13) {
      return;
    }
  }
}


// weights of the truth's rows that the plan takes; where it has no opinion the clinicians' own
static void translate(const bench *w, const rgm_mdp *model, double soften, double *weight) {
  for (int64_t s = 0; s < w->m->states; s++) {
    const int64_t kept = model->first[s + 1] - model->first[s];
    for (int64_t n = w->m->first[s]; n < w->m->first[s + 1]; n++) {
      const int64_t row = kept > 0 ? rgm_mdp_row(model, s, w->m->action[n]) : -1;
      const double best = row >= 0 && row - model->first[s] == w->choice[s] ? 1.0 : 0.0;
      weight[n] = kept == 0 ? w->clinicians[n]
                  : row < 0 ? 0.0
                            : (1.0 - soften) * best + soften / (double)kept;
    }
  }
}


static rgm_status judge(const bench *w, const records *all, double least, uint64_t seed,
                        judged *out) {
  const rgm_mdp *m = w->m;
  const int64_t held = (int64_t)(w->k->holdout * (double)all->patients);
  const int64_t first = held > 0 ? all->patients - held : 0;
  rgm_mdp *model = NULL, *chain = NULL;
  RGM_TRY(count_model(m, all, held > 0 ? first : all->patients, least, w->k->rare == 0, w->owner,
                      w->seen, &model));
  plan_model(w, model);
  out->kept = model->rows;

  // where patients started, as recorded
  double *begin = calloc((size_t)m->states, sizeof *begin);
  for (int64_t i = 0; begin != NULL && i < all->patients; i++) {
    if (all->start[i + 1] > all->start[i]) {
      begin[w->owner[all->visit[all->start[i]].row]] += 1.0 / (double)all->patients;
    }
  }
  rgm_status status = begin != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for a model");
  if (status == RGM_OK) {
    out->model = start_value(m, begin, w->value);

    // the clinicians as their records show them
    for (int64_t s = 0; s < m->states; s++) {
      int64_t sum = 0;
      for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
        sum += llabs((long long)w->seen[n]);
      }
      for (int64_t n = m->first[s]; n < m->first[s + 1]; n++) {
        w->own[n] = sum > 0 ? (double)llabs((long long)w->seen[n]) / (double)sum : 0.0;
      }
    }
    translate(w, model, w->k->soften, w->target);
    weigh(w->k, all, first, w->target, w->own, w->each);
    const int64_t n = all->patients - first;
    dp_weighed weighed;
    dp_weigh(w->each, w->each + n, n, w->k->resamples, seed, w->work, &weighed);
    out->wis = weighed.wis;
    out->low = weighed.low;
    out->ess = weighed.ess;

    // the truth
    translate(w, model, 0.0, w->target);
    status = dp_chain(m, w->target, &chain);
  }
  if (status == RGM_OK) {
    status = dp_direct(chain, w->k->gamma, DP_VALUE, w->value);
    out->truth = start_value(m, m->begin, w->value);
  }
  free(begin);
  rgm_mdp_free(model);
  rgm_mdp_free(chain);
  return status;
}


// ---- the table ---------------------------------------------------------------------------------

static void write_range(rgm_json *json, FILE *text, const char *name, const double *x, int64_t n) {
  double low = x[0], high = x[0], sum = 0.0;
  for (int64_t i = 0; i < n; i++) {
    low = fmin(low, x[i]);
    high = fmax(high, x[i]);
    sum += x[i];
  }
  rgm_json_open(json, name, '{');
  rgm_json_number(json, "mean", sum / (double)n);
  rgm_json_number(json, "low", low);
  rgm_json_number(json, "high", high);
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(text, high >= 2.0 ? "  %6.0f to %-6.0f" : "  %6.3f to %-6.3f", low, high);
  }
}


enum { COLUMNS = 6 };

static void write_row(const audit_keys *k, int64_t row, const judged *j, rgm_json *json, FILE *text,
                      double *x, double *worst) {
  static const char *const names[COLUMNS] = {"model", "wis", "wis_low", "ess", "pairs", "truth"};
  const int64_t n = k->repeats, C = k->counts.count;
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "dropped_up_to", k->counts.value[row]);
  if (text != NULL) {
    fprintf(text, "%5.0f", k->counts.value[row]);
  }
  for (int c = 0; c < COLUMNS; c++) {
    for (int64_t i = 0; i < n; i++) {
      const judged *one = &j[i * C + row];
      const double all[COLUMNS] = {one->model, one->wis,          one->low,
                                   one->ess,   (double)one->kept, one->truth};
      x[i] = all[c];
      *worst = fmax(*worst, fmax(one->model, one->wis) - one->truth);
    }
    write_range(json, text, names[c], x, n);
  }
  rgm_json_close(json, '}');
  if (text != NULL) {
    fputc('\n', text);
  }
}


static rgm_status write_all(const bench *w, const judged *j, rgm_json *json, FILE *text) {
  const audit_keys *k = w->k;
  rgm_mdp *chain = NULL;
  double *x = malloc((size_t)k->repeats * sizeof *x), worst = 0.0;
  rgm_status status = x != NULL ? dp_chain(w->m, w->clinicians, &chain)
                                : rgm_fail(RGM_EMEMORY, "no memory for a table");
  status = status == RGM_OK ? dp_direct(chain, k->gamma, DP_VALUE, w->value) : status;
  rgm_mdp_free(chain);
  if (status == RGM_OK) {
    const double clinicians = start_value(w->m, w->m->begin, w->value);
    plan_model(w, w->m);
    const double best = start_value(w->m, w->m->begin, w->value);
    rgm_json_open(json, NULL, '{');
    rgm_json_number(json, "clinicians", clinicians);
    rgm_json_number(json, "optimum", best);
    rgm_json_open(json, "rows", '[');
    if (text != NULL) {
      fprintf(text, "%lld records of %lld patients; truth: clinicians %.4f, optimum %.4f\n",
              (long long)k->repeats, (long long)k->patients, clinicians, best);
      fprintf(text, "%5s  %-16s  %-16s  %-16s  %-16s  %-16s  %s\n", "drop", "model says",
              "WIS says", "its 2.5 % bound", "ESS", "pairs kept", "true value");
    }
    for (int64_t row = 0; row < k->counts.count; row++) {
      write_row(k, row, j, json, text, x, &worst);
    }
    rgm_json_close(json, ']');
    rgm_json_number(json, "largest_optimism", worst);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(
          text,
          "WARNING: a plan looks better than it is to whoever made it: model and importance "
          "sampling were\nabove the true value by up to %.2f. Neither says what a plan is worth "
          "where few patients (ESS)\nwere treated as it asks; drop rare pairs, hold patients "
          "out, and believe the smallest number.\n",
          worst);
    }
  }
  free(x);
  return status;
}


static rgm_status audit_records(const rgm_run *run, const bench *w, judged *j) {
  rgm_status status = RGM_OK;
  for (int64_t i = 0; i < w->k->repeats && status == RGM_OK; i++) {
    const uint64_t seed = (uint64_t)(run->keys.seed + i);
    records all = {0};
    status = simulate(w->k, w->m, w->clinicians, seed, &all);
    for (int c = 0; c < w->k->counts.count && status == RGM_OK; c++) {
      status = judge(w, &all, w->k->counts.value[c], seed, &j[i * w->k->counts.count + c]);
    }
    free(all.visit);
    free(all.start);
  }
  return status;
}


static rgm_status audit_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  const audit_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_mdp *m = run->mdp;
  const size_t N = (size_t)m->rows + 1, S = (size_t)m->states + 1, P = (size_t)k->patients;
  bench w = {.k = k, .m = m};
  w.clinicians = calloc(3 * N + S + 2 * P + (size_t)k->resamples, sizeof *w.clinicians);
  w.owner = calloc(N + S, sizeof *w.owner);
  w.seen = calloc(N, sizeof *w.seen);
  judged *j = calloc((size_t)(k->repeats * k->counts.count) + 1, sizeof *j);
  rgm_status status = w.clinicians != NULL && w.owner != NULL && w.seen != NULL && j != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for an audit");
  if (status == RGM_OK) {
    w.target = w.clinicians + N;
    w.own = w.target + N;
    w.value = w.own + N;
    w.each = w.value + S;
    w.work = w.each + 2 * P;
    w.choice = w.owner + N;
    owners(m, w.owner);
    status = rgm_mdp_read_policy(k->behaviour, m, w.clinicians);
  }
  status = status == RGM_OK ? audit_records(run, &w, j) : status;
  status = status == RGM_OK ? write_all(&w, j, json, text) : status;
  free(w.clinicians);
  free(w.owner);
  free(w.seen);
  free(j);
  return status;
}


static rgm_status audit_check(const rgm_run *run) {
  const audit_keys *k = rgm_algorithm_keys(run, 0);
  return k->counts.count > 0 ? RGM_OK
                             : rgm_fail(RGM_ECONFIG, "%s: algorithm.counts: at least one threshold",
                                        rgm_config_where(run->config, "algorithm.counts"));
}


static rgm_status audit_plan(rgm_run *run) {
  return run->mdp->begin != NULL
             ? RGM_OK
             : rgm_fail(RGM_ECONFIG, "%s: an audit needs states to start from: set env.begin",
                        rgm_config_where(run->config, "env.name"));
}


static int audit_contenders(rgm_run *run, rgm_contender *out, int max) {
  (void)run, (void)out, (void)max;
  return 0;
}


const rgm_algorithm rgm_dp_audit = {
    .name = "dp_audit",
    .paper = "Precup et al. 2000; Komorowski et al. 2018",
    .doc = "What plans from records are worth, judged by a truth that is known.",
    .fields = fields,
    .keys_size = sizeof(audit_keys),
    .self_size = 1,
    .needs = RGM_NEEDS_ENV | RGM_NEEDS_MDP | RGM_TRAINS_NOT,
    .check = audit_check,
    .plan = audit_plan,
    .contenders = audit_contenders,
    .evaluate = audit_evaluate,
};
