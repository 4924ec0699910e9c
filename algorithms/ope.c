// SPDX-License-Identifier: Apache-2.0
// What off-policy evaluation of staged starts reads and fits: stages, policies, folds; logistic and
// linear regressions on weighted rows.

#include "algorithms/ope.h"
#include "algorithms/dwols.h"
#include "kernels/rng.h"
#include "kernels/scalar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const ope_rows[] = {"alive", "published", NULL};
const char *const ope_intervals[] = {"normal", "t", NULL};


static void where(const rgm_run *run, int stage, const char *key, char *text, size_t size) {
  char name[64];
  if (stage >= 0) {
    snprintf(name, sizeof name, "algorithm.stage%d.%s", stage + 1, key);
  } else {
    snprintf(name, sizeof name, "algorithm.%s", key);
  }
  snprintf(text, size, "%s: %s", rgm_config_where(run->config, name), name);
}


// the line of a row in the file
static long long line(const ope_data *d, int64_t i) {
  return (long long)d->line[i] + 2;
}


// an expression in every row; NaN where it is missing
static rgm_status evaluate(const rgm_run *run, const ope_data *d, int stage, const char *key,
                           const char *text, double *out) {
  char what[512];
  rgm_formula f;
  where(run, stage, key, what, sizeof what);
  if (text[0] == '\0') {
    return rgm_fail(RGM_ECONFIG, "%s: missing; an expression of columns is expected", what);
  }
  RGM_TRY(rgm_formula_parse(what, text, &d->frame, true, &f));
  for (int64_t i = 0; i < d->N; i++) {
    out[i] = rgm_formula_value(&f, d->frame.value + i * d->frame.columns);
  }
  return RGM_OK;
}


static rgm_status evaluate_flag(const rgm_run *run, const ope_data *d, int stage, const char *key,
                                const char *text, const uint8_t *needed, uint8_t *out) {
  double *x = malloc((size_t)d->N * sizeof *x);
  rgm_status status = x != NULL ? evaluate(run, d, stage, key, text, x)
                                : rgm_fail(RGM_EMEMORY, "no memory for %s", key);
  for (int64_t i = 0; i < d->N && status == RGM_OK; i++) {
    out[i] = x[i] == 1;
    if (x[i] != 0 && x[i] != 1 && (needed == NULL || needed[i])) {
      status = rgm_fail(RGM_EDATA, "%s:%lld: stage %d: %s: %s is neither 0 nor 1", d->path,
                        line(d, i), stage + 1, key, text);
    }
  }
  free(x);
  return status;
}


// ---- stages ------------------------------------------------------------------------------------

static rgm_status read_design(const rgm_run *run, const ope_data *d, int k, const char *key,
                              const char *text, const uint8_t *keep, ope_design *out) {
  char what[512];
  rgm_formula *f = malloc(sizeof *f);
  where(run, k, key, what, sizeof what);
  rgm_status status = f != NULL ? rgm_formula_parse(what, text, &d->frame, false, f)
                                : rgm_fail(RGM_EMEMORY, "no memory for a formula");
  status = status == RGM_OK ? rgm_formula_learn(what, f, &d->frame, keep) : status;
  if (status == RGM_OK) {
    out->columns = f->columns;
    out->x = malloc((size_t)(d->N * f->columns) * sizeof *out->x);
    status = out->x != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for %s", key);
  }
  for (int64_t i = 0; i < d->N && status == RGM_OK; i++) {
    double *row = out->x + i * f->columns;
    rgm_formula_row(f, d->frame.value + i * d->frame.columns, row);
    for (int j = 0; j < f->columns; j++) {
      if (keep[i] && !isfinite(row[j])) {
        status = rgm_fail(RGM_EDATA, "%s:%lld: stage %d: %s: the term %s is missing or infinite",
                          d->path, line(d, i), k + 1, key, f->name[j]);
      }
    }
  }
  for (int j = 1; status == RGM_OK && j < f->columns; j++) {
    double n = 0.0, mean = 0.0, square = 0.0;
    for (int64_t i = 0; i < d->N; i++) {
      n += keep[i];
      mean += keep[i] ? out->x[i * f->columns + j] : 0.0;
    }
    mean /= n;
    for (int64_t i = 0; i < d->N; i++) {
      const double t = keep[i] ? out->x[i * f->columns + j] - mean : 0.0;
      square += t * t / n;
    }
    if (!(square > 0)) {
      status = rgm_fail(RGM_EDATA, "%s: stage %d: %s: the term %s is the same in all rows", d->path,
                        k + 1, key, f->name[j]);
    }
    for (int64_t i = 0; i < d->N; i++) {
      out->x[i * f->columns + j] = (out->x[i * f->columns + j] - mean) / sqrt(square);
    }
  }
  free(f);
  return status;
}


static rgm_status read_stages(const rgm_run *run, ope_data *d, bool nuisances) {
  const int64_t N = d->N;
  d->a = calloc((size_t)(d->K * N), 1);
  d->alive = calloc((size_t)(d->K * N), 1);
  if (d->a == NULL || d->alive == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the stages");
  }
  for (int k = 0; k < d->K; k++) {
    const ope_stage_keys *s = &d->keys->stage[k];
    uint8_t *a = d->a + k * N, *alive = d->alive + k * N;
    RGM_TRY(evaluate_flag(run, d, k, "alive", s->alive, NULL, alive));
    RGM_TRY(evaluate_flag(run, d, k, "treatment", s->treatment, NULL, a));
    int64_t starts = 0, left = 0;
    for (int64_t i = 0; i < N; i++) {
      // tables put the dead back to untreated
      a[i] = k > 0 && !alive[i] ? a[i - N] : a[i];
      if (k > 0 && ((a[i - N] && !a[i]) || (!alive[i - N] && alive[i]))) {
        return rgm_fail(RGM_EDATA, "%s:%lld: stage %d: %s is undone", d->path, line(d, i), k + 1,
                        a[i - N] && !a[i] ? "a treatment" : "a death");
      }
      const bool open = alive[i] && (k == 0 || !a[i - N]);
      left += open;
      starts += open && a[i];
    }
    if (starts == 0 || starts == left) {
      return rgm_fail(RGM_EDATA, "%s: stage %d: of %lld rows %s starts: too few to learn from",
                      d->path, k + 1, (long long)left, starts == 0 ? "none" : "every one");
    }
    RGM_TRY(read_design(run, d, k, "propensity", s->propensity, alive, &d->e[k]));
    if (nuisances) {
      RGM_TRY(read_design(run, d, k, "covariates", s->covariates, alive, &d->mu[k]));
    }
  }
  return RGM_OK;
}


// ---- policies ----------------------------------------------------------------------------------

static rgm_status add_policy(const rgm_run *run, ope_data *d, const char *name, char *rules) {
  char *rest = NULL, what[512];
  where(run, -1, "policies", what, sizeof what);
  if (d->policies == OPE_POLICIES || strlen(name) >= sizeof d->policy[0].name) {
    return rgm_fail(RGM_ECONFIG, "%s: at most %d policies, with names of at most 31 characters",
                    what, OPE_POLICIES);
  }
  ope_policy *p = &d->policy[d->policies++];
  snprintf(p->name, sizeof p->name, "%s", name);
  p->is_observed = rules == NULL && strcmp(name, "observed") == 0;
  p->start = calloc((size_t)(d->K * d->N), 1);
  if (p->start == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for policies");
  }
  if (rules == NULL) {
    for (int64_t i = 0; i < d->K * d->N; i++) {
      p->start[i] = p->is_observed ? d->a[i] : 1;
    }
    return RGM_OK;
  }
  char *rule = strtok_r(rules, " ", &rest);
  for (int k = 0; k < d->K; k++, rule = strtok_r(NULL, " ", &rest)) {
    if (rule == NULL) {
      return rgm_fail(RGM_ECONFIG, "%s: policy %s has no rule for stage %d", what, name, k + 1);
    }
    RGM_TRY(evaluate_flag(run, d, k, "policies", rule, d->alive + k * d->N, p->start + k * d->N));
  }
  return rule == NULL
             ? RGM_OK
             : rgm_fail(RGM_ECONFIG, "%s: policy %s has more rules than stages", what, name);
}


static rgm_status read_policies(const rgm_run *run, ope_data *d) {
  char text[RGM_STRING_SIZE], *rest = NULL;
  snprintf(text, sizeof text, "%s", d->keys->policies);
  for (char *item = strtok_r(text, ",", &rest); item != NULL; item = strtok_r(NULL, ",", &rest)) {
    char *colon = strchr(item, ':');
    item += strspn(item, " ");
    if (colon == NULL) {
      return rgm_fail(RGM_ECONFIG, "%s: algorithm.policies: \"%s\": expected NAME: rule rule ...",
                      rgm_config_where(run->config, "algorithm.policies"), item);
    }
    *colon = '\0';
    RGM_TRY(add_policy(run, d, item, colon + 1));
  }
  RGM_TRY(add_policy(run, d, "treat_all", NULL));
  return add_policy(run, d, "observed", NULL);
}


// ---- patients ----------------------------------------------------------------------------------

typedef struct member {
  double id;
  int64_t row;
} member;


static int by_id(const void *a, const void *b) {
  const member *x = a, *y = b;
  return x->id != y->id ? (x->id > y->id) - (x->id < y->id) : (x->row > y->row) - (x->row < y->row);
}


// patients, and folds of them: given, or drawn by patient (by row: copies of one are in both)
static rgm_status read_patients(const rgm_run *run, ope_data *d) {
  const int64_t N = d->N;
  member *all = malloc((size_t)N * sizeof *all);
  double *x = malloc((size_t)N * sizeof *x);
  d->cluster = calloc((size_t)N, sizeof *d->cluster);
  d->fold = calloc((size_t)N, sizeof *d->fold);
  rgm_status status = all != NULL && x != NULL && d->cluster != NULL && d->fold != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for the patients");
  for (int64_t i = 0; i < N && status == RGM_OK; i++) {
    x[i] = (double)d->line[i];
  }
  if (status == RGM_OK && d->keys->id[0] != '\0') {
    status = evaluate(run, d, -1, "id", d->keys->id, x);
  }
  for (int64_t i = 0; i < N && status == RGM_OK; i++) {
    all[i] = (member){x[i], i};
    status = isnan(x[i]) ? rgm_fail(RGM_EDATA, "%s:%lld: the id %s is missing", d->path, line(d, i),
                                    d->keys->id)
                         : RGM_OK;
  }
  if (status == RGM_OK) {
    qsort(all, (size_t)N, sizeof *all, by_id);
    for (int64_t i = 0; i < N; i++) {
      d->clusters += i == 0 || all[i].id != all[i - 1].id;
      d->cluster[all[i].row] = d->clusters - 1;
    }
  }
  const uint64_t seed = (uint64_t)rgm_run_seed(run, 0);
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_SPLIT);
  for (int64_t i = 0; i < N && status == RGM_OK; i++) {
    const int64_t unit = d->keys->split == FOLDS_ROW ? i : d->cluster[i];
    d->fold[i] = (int)rgm_below(key, 0, (uint32_t)unit, 0,
                                (uint32_t)(d->keys->folds > 0 ? d->keys->folds : 1));
  }
  if (status == RGM_OK && d->keys->fold[0] != '\0') {
    status = evaluate(run, d, -1, "fold", d->keys->fold, x);
    for (int64_t i = 0; i < N && status == RGM_OK; i++) {
      d->fold[i] = (int)x[i] - 1;
      if (!(x[i] >= 1 && x[i] <= (double)d->keys->folds && x[i] == floor(x[i]))) {
        status = rgm_fail(RGM_EDATA, "%s:%lld: the fold %s is not a number from 1 to %lld", d->path,
                          line(d, i), d->keys->fold, (long long)d->keys->folds);
      }
    }
  }
  free(all);
  free(x);
  return status;
}


static rgm_status read_outcomes(const rgm_run *run, ope_data *d, bool several) {
  char text[RGM_STRING_SIZE], *rest = NULL;
  snprintf(text, sizeof text, "%s", several ? d->keys->outcomes : d->keys->outcome);
  for (char *item = strtok_r(text, several ? "," : "\n", &rest); item != NULL;
       item = strtok_r(NULL, several ? "," : "\n", &rest)) {
    item += strspn(item, " ");
    if (d->outcomes == OPE_OUTCOMES) {
      return rgm_fail(RGM_ECONFIG, "algorithm.outcomes: at most %d", OPE_OUTCOMES);
    }
    double *y = d->outcome[d->outcomes] = malloc((size_t)d->N * sizeof *y);
    if (y == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for %s", item);
    }
    snprintf(d->outcome_name[d->outcomes++], 64, "%.63s", item);
    RGM_TRY(evaluate(run, d, -1, several ? "outcomes" : "outcome", item, y));
    for (int64_t i = 0; i < d->N; i++) {
      if (!isfinite(y[i])) {
        return rgm_fail(RGM_EDATA, "%s:%lld: the outcome %s is missing or infinite", d->path,
                        line(d, i), item);
      }
    }
  }
  d->y = d->outcome[0];
  return d->outcomes > 0 ? RGM_OK : rgm_fail(RGM_ECONFIG, "algorithm.outcomes: names nothing");
}


// the rows of one table, of those by `keep`
static rgm_status read_rows(const ope_tables *t, ope_data *d) {
  const int columns = t->frame.columns;
  d->frame = (rgm_frame){.rows = t->rows, .columns = columns};
  d->frame.column = malloc((size_t)columns * sizeof *d->frame.column);
  d->frame.value = malloc((size_t)(t->rows * columns) * sizeof *d->frame.value);
  if (d->frame.column == NULL || d->frame.value == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a table of %lld rows", (long long)t->rows);
  }
  memcpy(d->frame.column, t->frame.column, (size_t)columns * sizeof *d->frame.column);
  for (int64_t i = 0; i < t->rows; i++) {
    memcpy(d->frame.value + i * columns, t->frame.value + d->line[i] * columns,
           (size_t)columns * sizeof *d->frame.value);
  }
  return RGM_OK;
}


rgm_status ope_load(rgm_run *run, const ope_tables *t, int64_t table, bool outcomes_of_wis,
                    bool nuisances, ope_data *d) {
  *d = (ope_data){.keys = rgm_algorithm_keys(run, 0),
                  .path = run->data.path,
                  .line = t->row + table * t->rows,
                  .table = table,
                  .N = t->rows};
  d->K = (int)d->keys->stages;
  RGM_TRY(read_rows(t, d));
  RGM_TRY(read_outcomes(run, d, outcomes_of_wis));
  RGM_TRY(read_stages(run, d, nuisances));
  RGM_TRY(read_policies(run, d));
  return read_patients(run, d);
}


void ope_free(ope_data *d) {
  for (int k = 0; k < OPE_STAGES; k++) {
    free(d->e[k].x);
    free(d->mu[k].x);
  }
  for (int i = 0; i < OPE_POLICIES; i++) {
    free(d->policy[i].start);
  }
  for (int i = 0; i < OPE_OUTCOMES; i++) {
    free(d->outcome[i]);
  }
  free(d->a);
  free(d->alive);
  free(d->cluster);
  free(d->fold);
  rgm_frame_free(&d->frame);
}


// ---- regressions -------------------------------------------------------------------------------

double ope_score(const ope_design *x, const double *beta, int64_t row) {
  double sum = 0.0;
  for (int j = 0; j < x->columns; j++) {
    sum += x->x[row * x->columns + j] * beta[j];
  }
  return sum;
}


// the upper triangle into the lower one, and the solution
static bool finish(double *gram, double *right, int q) {
  int column;
  for (int i = 0; i < q; i++) {
    for (int j = 0; j < i; j++) {
      gram[j * q + i] = gram[i * q + j];
    }
  }
  return dwols_solve(gram, right, q, &column);
}


bool ope_linear(const double *x, int64_t n, int q, const double *y, const double *weight,
                double *beta) {
  double gram[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS] = {0};
  bool left[RGM_FORMULA_COLUMNS];
  memset(beta, 0, (size_t)q * sizeof *beta);
  for (int64_t i = 0; i < n; i++) {
    const double *row = x + i * q;
    for (int j = 0; j < q && weight[i] > 0; j++) {
      const double v = weight[i] * row[j];
      for (int k = 0; k <= j; k++) {
        gram[j * q + k] += v * row[k];
      }
      beta[j] += v * y[i];
    }
  }
  // Cholesky by rows, column by column, around those that have nothing of their own
  for (int j = 0; j < q; j++) {
    const double whole = gram[j * q + j];
    for (int k = 0; k <= j; k++) {
      double sum = gram[j * q + k];
      for (int i = 0; i < k; i++) {
        sum -= left[i] ? gram[j * q + i] * gram[k * q + i] : 0.0;
      }
      if (k == j) {
        left[j] = sum > 1e-12 * whole;
        gram[j * q + j] = left[j] ? sqrt(sum) : 1.0;
      } else {
        gram[j * q + k] = left[k] ? sum / gram[k * q + k] : 0.0;
      }
    }
  }
  for (int j = 0; j < q; j++) {
    for (int k = 0; k < j; k++) {
      beta[j] -= left[k] ? gram[j * q + k] * beta[k] : 0.0;
    }
    beta[j] = left[j] ? beta[j] / gram[j * q + j] : 0.0;
  }
  for (int j = q - 1; j >= 0; j--) {
    for (int k = j + 1; k < q; k++) {
      beta[j] -= left[j] ? gram[k * q + j] * beta[k] : 0.0;
    }
    beta[j] = left[j] ? beta[j] / gram[j * q + j] : 0.0;
  }
  return left[0];
}


bool ope_logistic(const ope_data *d, const ope_design *x, const double *label, const double *weight,
                  double *beta) {
  const int p = x->columns;
  memset(beta, 0, (size_t)p * sizeof *beta);
  for (int step = 0; step < 30; step++) {
    double gram[RGM_FORMULA_COLUMNS * RGM_FORMULA_COLUMNS] = {0}, right[RGM_FORMULA_COLUMNS] = {0};
    double most = 0.0;
    for (int64_t i = 0; i < d->N; i++) {
      if (!(weight[i] > 0)) {
        continue;
      }
      const double *row = x->x + i * p, e = rgm_sigmoid64(ope_score(x, beta, i));
      for (int j = 0; j < p; j++) {
        const double v = weight[i] * e * (1.0 - e) * row[j];
        for (int k = 0; k <= j; k++) {
          gram[j * p + k] += v * row[k];
        }
        right[j] += weight[i] * (label[i] - e) * row[j];
      }
    }
    if (!finish(gram, right, p)) {
      return false;
    }
    for (int j = 0; j < p; j++) {
      beta[j] += right[j];
      most = fmax(most, fabs(right[j]));
    }
    if (most < 1e-9) {
      return true;
    }
  }
  return false;
}


// ---- resamples ---------------------------------------------------------------------------------

// four draws from a philox call, each without bias: a word that is refused is drawn anew elsewhere
static void draw_units(rgm_key key, uint32_t table, uint32_t item, uint32_t n, uint8_t *drawn) {
  const uint32_t refused = (0u - n) % n;
  for (uint32_t j = 0; j < n; j += 4) {
    const rgm_words words = rgm_philox(key, table, item, j / 4, 0);
    const uint32_t word[4] = {words.w0, words.w1, words.w2, words.w3};
    for (uint32_t k = 0; k < 4 && j + k < n; k++) {
      const uint64_t product = (uint64_t)word[k] * n;
      uint8_t *c = &drawn[(uint32_t)product >= refused ? (uint32_t)(product >> 32)
                                                       : rgm_below(key, table, item, j + k + 1, n)];
      *c = *c < 255 ? (uint8_t)(*c + 1) : 255;
    }
  }
}


bool ope_draw(const ope_data *d, int64_t seed, int64_t replicate, uint8_t *count, int64_t stride) {
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)((uint64_t)seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_RESAMPLE);
  uint8_t *drawn = malloc((size_t)d->clusters);
  if (drawn == NULL) {
    return false;
  }
  memset(drawn, replicate == 0, (size_t)d->clusters);
  if (replicate > 0) {
    draw_units(key, (uint32_t)d->table, (uint32_t)(replicate - 1), (uint32_t)d->clusters, drawn);
  }
  for (int64_t i = 0; i < d->N; i++) {
    count[i * stride] = drawn[d->cluster[i]];
  }
  free(drawn);
  return true;
}


ope_spread ope_summarise(double *x, int64_t count, double level) {
  int64_t kept = 0;
  for (int64_t i = 0; i < count; i++) {
    if (isfinite(x[i])) {
      x[kept++] = x[i];
    }
  }
  if (kept < 2) {
    return (ope_spread){NAN, NAN, NAN, NAN, count - kept};
  }
  const rgm_summary s = rgm_summarise(x, kept);
  return (ope_spread){s.sd, (s.q75 - s.q25) / 1.3489795003921634,
                      rgm_quantile_sorted(x, kept, 0.5 * (1.0 - level)),
                      rgm_quantile_sorted(x, kept, 0.5 * (1.0 + level)), count - kept};
}
