// SPDX-License-Identifier: Apache-2.0
// Multiple imputation by chained equations (van Buuren & Groothuis-Oudshoorn 2011, J Stat Softw
// 45(3)), in the form of R's mice: predictive mean matching with type-1 matching, the Bayesian
// linear model, logistic and polytomous regression, derived columns, imputation arm by arm.
//
// A chain keeps one design of all columns, standardised, and its Gram matrix. For a target, the
// rows that lack it are taken out of the Gram matrix, which is then that of the regression; its new
// values put them back. All random numbers of a chain come from its own number, so that chains run
// side by side and one alone gives the same.

#include "algorithms/mice_private.h"
#include "algorithms/wide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  CHAINS = 16, // at a time
  SOON = 16,   // rows ahead that are asked for
  ROWS = RGM_WIDE_ROWS,
  UNIT = RGM_WIDE_UNIT,
};

// A chain at work. Design and Gram matrices have columns of 0 up to a whole unit.
typedef struct chain {
  const mice_plan *plan;
  int64_t stride; // P, rounded up
  double *values; // (N, C)
  double *design; // (N, stride)
  double *gram;   // (arms, P, stride), lower triangles filled in full
  double *work;   // (N) predictions of rows, (N + 2 donors) the same in order
  uint64_t *seen; // (N) rows with a value
  uint64_t *sort; // (2 N)
  mice_draws draws;
} chain;


// ---- the design --------------------------------------------------------------------------------

// a column of the design from a row's values
static double standardised(const mice_column *c, const double *values) {
  const double x = values[c->column];
  return ((c->is_level ? x == c->level : x) - c->centre) / c->scale;
}


static double *gram_of(const chain *c, int arm) {
  return c->gram + arm * c->plan->width * c->stride;
}


RGM_WIDE(rgm_add_products,
         (double *gram, const double *const *x, const double *w, int count, int width,
          int64_t stride),
         (gram, x, w, count, width, stride))


static void add_to_gram(const chain *c, int arm, const double *const *x, int count, double sign) {
  const double signs[] = {sign, sign, sign, sign};
  rgm_add_products(gram_of(c, arm), x, signs, count, c->plan->width, c->stride);
}


// rows into the Gram matrices of their arms, or (sign -1) out of them; `rows` NULL: all
static void add_rows(const chain *c, const int64_t *rows, int64_t count, double sign) {
  const mice_plan *p = c->plan;
  const double *x[MICE_ARMS][ROWS];
  int held[MICE_ARMS] = {0};
  for (int64_t i = 0; i < count; i++) {
    const int64_t row = rows != NULL ? rows[i] : i, soon = i + SOON < count ? i + SOON : count - 1;
    const double *next = c->design + (rows != NULL ? rows[soon] : soon) * c->stride;
    for (int64_t j = 0; j < c->stride; j += UNIT) {
      __builtin_prefetch(next + j);
    }
    const int arm = p->arm[row];
    x[arm][held[arm]++] = c->design + row * c->stride;
    if (held[arm] == ROWS) {
      add_to_gram(c, arm, x[arm], ROWS, sign);
      held[arm] = 0;
    }
  }
  for (int arm = 0; arm < p->arms; arm++) {
    add_to_gram(c, arm, x[arm], held[arm], sign);
  }
}


// ---- linear algebra ----------------------------------------------------------------------------

// Cholesky of a (n, n), lower; false where a pivot is less than 1e-10 of its column
static bool factorise(double *a, int n) {
  for (int j = 0; j < n; j++) {
    const double size = a[j * n + j];
    for (int k = 0; k < j; k++) {
      a[j * n + j] -= a[j * n + k] * a[j * n + k];
    }
    if (!(a[j * n + j] > 1e-10 * size)) {
      return false;
    }
    a[j * n + j] = sqrt(a[j * n + j]);
    for (int i = j + 1; i < n; i++) {
      for (int k = 0; k < j; k++) {
        a[i * n + j] -= a[i * n + k] * a[j * n + k];
      }
      a[i * n + j] /= a[j * n + j];
    }
  }
  return true;
}


// x becomes (l')^-1 x
static void solve_back(const double *l, int n, double *x) {
  for (int i = n - 1; i >= 0; i--) {
    x[i] /= l[i * n + i];
    for (int k = 0; k < i; k++) {
      x[k] -= l[i * n + k] * x[i];
    }
  }
}


// x becomes (l l')^-1 x
static void solve(const double *l, int n, double *x) {
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < i; k++) {
      x[i] -= l[i * n + k] * x[k];
    }
    x[i] /= l[i * n + i];
  }
  solve_back(l, n, x);
}


// beta += size (l')^-1 z, whose covariance is that of the coefficients: size^2 (l l')^-1
static void perturb(mice_draws *draws, const double *l, int n, double size, double *beta) {
  double z[MICE_WIDTH];
  for (int i = 0; i < n; i++) {
    z[i] = mice_normal(draws);
  }
  solve_back(l, n, z);
  for (int i = 0; i < n; i++) {
    beta[i] += size * z[i];
  }
}


// ---- targets -----------------------------------------------------------------------------------

// a regression of a target on its predictors: the factor of their Gram matrix, and coefficients
typedef struct regression {
  int n; // predictors
  double l[MICE_WIDTH * MICE_WIDTH], hat[MICE_WIDTH], star[MICE_WIDTH];
  double sigma;
} regression;


static double predict(const chain *c, const mice_target *t, const double *beta, int64_t row) {
  const double *x = c->design + row * c->stride;
  double sum = 0.0;
  for (int i = 0; i < t->predictors; i++) {
    sum += x[t->predictor[i]] * beta[i];
  }
  return sum;
}


// x'beta of so many rows of a design (rows, stride); columns where beta is 0 are not looked at.
// Sums by eights, then by halves.
RGM_INLINE void predict_rows_body(const double *design, int64_t stride, const uint64_t *row,
                                  int64_t count, const double *beta, double *out) {
  for (int64_t k = 0; k < count; k++) {
    const double *x = design + (int64_t)row[k] * stride;
    double sum[UNIT] = {0};
    for (int64_t first = 0; first < stride; first += UNIT) {
      for (int j = 0; j < UNIT; j++) {
        const double b = beta[first + j];
        sum[j] += b != 0.0 ? x[first + j] * b : 0.0;
      }
    }
    for (int half = UNIT / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; j++) {
        sum[j] += sum[j + half];
      }
    }
    out[k] = sum[0];
  }
}


RGM_WIDE(predict_rows,
         (const double *design, int64_t stride, const uint64_t *row, int64_t count,
          const double *beta, double *out),
         (design, stride, row, count, beta, out))

// predictions of rows with a target's coefficients
static void predict_all(const chain *c, const mice_target *t, const double *beta,
                        const uint64_t *row, int64_t count, double *out) {
  double wide[(MICE_WIDTH + UNIT - 1) / UNIT * UNIT] = {0};
  for (int i = 0; i < t->predictors; i++) {
    wide[t->predictor[i]] = beta[i];
  }
  predict_rows(c->design, c->stride, row, count, wide, out);
}


// the Bayesian linear model of a target in an arm: from its rows with a value
static rgm_status fit_linear(chain *c, const mice_target *t, int arm, regression *r) {
  const mice_plan *p = c->plan;
  const int n = t->predictors, y = t->place;
  const int64_t width = c->stride;
  const double *gram = gram_of(c, arm);
  double right[MICE_WIDTH];
  const double seen = gram[0];
  r->n = n;
  for (int ridge = 0; ridge < 2; ridge++) {
    for (int i = 0; i < n; i++) {
      for (int j = 0; j <= i; j++) {
        const int a = t->predictor[i], b = t->predictor[j];
        r->l[i * n + j] = gram[(a > b ? a : b) * width + (a > b ? b : a)];
      }
      const int a = t->predictor[i];
      right[i] = r->hat[i] = gram[(a > y ? a : y) * width + (a > y ? y : a)];
      r->l[i * n + i] *= ridge ? 1.0 + 1e-5 : 1.0;
    }
    if (factorise(r->l, n)) {
      break;
    }
    if (ridge) {
      return rgm_fail(RGM_ENUMERIC,
                      "%s: column %s: its predictors are singular; name fewer in "
                      "algorithm.impute.predictors",
                      p->path, p->frame.column[t->column].name);
    }
  }
  solve(r->l, n, r->hat);
  double rss = gram[y * width + y];
  for (int i = 0; i < n; i++) {
    rss -= right[i] * r->hat[i];
  }
  const double df = fmax(seen - n, 1.0);
  r->sigma = sqrt(fmax(rss, 1e-20 * seen) / mice_chi_square(&c->draws, df));
  memcpy(r->star, r->hat, sizeof r->star);
  perturb(&c->draws, r->l, n, r->sigma, r->star);
  return RGM_OK;
}


// whether a row counts for a target's regression in an arm
static bool is_seen(const mice_plan *p, const mice_target *t, int arm, int64_t row) {
  return p->arm[row] == arm && !t->lacks[row];
}


// Of `sorted` numbers the first of the `donors` nearest to one that is wanted; a tie takes the
// lower. The k-th below it is among them if it is no further than the (donors - k + 1)-th above.
// Around `sorted` stand `donors` numbers at infinity.
static int64_t nearest(const double *sorted, int64_t count, int64_t donors, double wanted) {
  int64_t low = 0, below = 0; // low: the first that is not below
  for (int64_t left = count; left > 0;) {
    const int64_t half = (left + 1) / 2;
    low += sorted[low + half - 1] < wanted ? half : 0;
    left -= half;
  }
  const double *at = sorted + low;
  for (int64_t k = 1; k <= donors; k++) {
    below += wanted - at[-k] <= at[donors - k] - wanted && low >= k;
  }
  return low - below;
}


// predictive mean matching: a donor among those whose prediction is nearest
static void match(chain *c, const mice_target *t, int arm, const regression *r) {
  const mice_plan *p = c->plan;
  const int64_t N = p->frame.rows, C = p->frame.columns, pad = p->keys->donors;
  double *prediction = c->work, *sorted = c->work + N + pad;
  uint64_t *order = c->sort, *lacking = c->sort + N;
  int64_t seen = 0, missing = 0;
  for (int64_t row = 0; row < N; row++) {
    c->seen[seen] = (uint64_t)row;
    seen += is_seen(p, t, arm, row);
  }
  predict_all(c, t, r->hat, c->seen, seen, prediction);
  mice_sort(prediction, seen, order, c->sort + N);
  for (int64_t i = 0; i < seen; i++) {
    sorted[i] = prediction[order[i]];
  }
  for (int64_t i = 0; i < pad; i++) {
    sorted[-1 - i] = -INFINITY;
    sorted[seen + i] = INFINITY;
  }
  for (int64_t i = 0; i < t->missing; i++) {
    lacking[missing] = (uint64_t)t->row[i];
    missing += p->arm[t->row[i]] == arm;
  }
  predict_all(c, t, r->star, lacking, missing, prediction);
  const int64_t donors = pad < seen ? pad : seen;
  for (int64_t i = 0; i < missing; i++) {
    const int64_t first = nearest(sorted, seen, donors, prediction[i]);
    const int64_t donor = first + (int64_t)mice_below(&c->draws, (uint32_t)donors);
    const int64_t from = (int64_t)c->seen[order[donor]];
    c->values[(int64_t)lacking[i] * C + t->column] = p->frame.value[from * C + t->column];
  }
}


static void draw_normal(chain *c, const mice_target *t, int arm, const regression *r) {
  const mice_plan *p = c->plan;
  const mice_column *wide = &p->wide[t->place];
  for (int64_t i = 0; i < t->missing; i++) {
    const int64_t row = t->row[i];
    if (p->arm[row] == arm) {
      const double y = predict(c, t, r->star, row) + r->sigma * mice_normal(&c->draws);
      c->values[row * p->frame.columns + t->column] = wide->centre + wide->scale * y;
    }
  }
}


// the logistic model of being at `level` among the rows at it or above, with the coefficients drawn
// from their posterior; a ridge of 1e-3 keeps separated ones finite
static bool fit_logistic(chain *c, const mice_target *t, int arm, double level, regression *r) {
  const mice_plan *p = c->plan;
  const int n = r->n = t->predictors;
  memset(r->hat, 0, sizeof r->hat);
  for (int step = 0; step < 25; step++) {
    double right[MICE_WIDTH] = {0}, most = 0.0;
    memset(r->l, 0, (size_t)(n * n) * sizeof *r->l);
    for (int64_t row = 0; row < p->frame.rows; row++) {
      const double value = p->frame.value[row * p->frame.columns + t->column];
      if (!is_seen(p, t, arm, row) || value < level) {
        continue;
      }
      const double *x = c->design + row * c->stride;
      const double e = rgm_sigmoid64(predict(c, t, r->hat, row)), v = e * (1.0 - e);
      for (int i = 0; i < n; i++) {
        const double xi = x[t->predictor[i]];
        right[i] += ((value == level) - e) * xi;
        for (int j = 0; j <= i; j++) {
          r->l[i * n + j] += v * xi * x[t->predictor[j]];
        }
      }
    }
    for (int i = 0; i < n; i++) {
      r->l[i * n + i] += 1e-3;
      right[i] -= 1e-3 * r->hat[i];
    }
    if (!factorise(r->l, n)) {
      return false;
    }
    solve(r->l, n, right);
    for (int i = 0; i < n; i++) {
      r->hat[i] += right[i];
      most = fmax(most, fabs(right[i]));
    }
    if (most < 1e-8) {
      break;
    }
  }
  memcpy(r->star, r->hat, sizeof r->star);
  perturb(&c->draws, r->l, n, 1.0, r->star);
  return true;
}


// each level against those that follow it by a regression of its own (nested logits), which for
// two levels is logistic regression
static rgm_status draw_levels(chain *c, const mice_target *t, int arm) {
  const mice_plan *p = c->plan;
  regression *all = calloc((size_t)t->levels, sizeof *all);
  if (all == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a regression");
  }
  bool good = true;
  for (int k = 0; k + 1 < t->levels && good; k++) {
    good = fit_logistic(c, t, arm, t->level[k], &all[k]);
  }
  for (int64_t i = 0; i < t->missing && good; i++) {
    const int64_t row = t->row[i];
    if (p->arm[row] != arm) {
      continue;
    }
    int chosen = 0;
    while (chosen + 1 < t->levels &&
           mice_unit(&c->draws) >= rgm_sigmoid64(predict(c, t, all[chosen].star, row))) {
      chosen++;
    }
    c->values[row * p->frame.columns + t->column] = t->level[chosen];
  }
  free(all);
  return good ? RGM_OK
              : rgm_fail(RGM_ENUMERIC,
                         "%s: column %s: its predictors are singular; name fewer in "
                         "algorithm.impute.predictors",
                         p->path, p->frame.column[t->column].name);
}


// ---- a chain -----------------------------------------------------------------------------------

// columns computed from others, in a row where they are missing
static void derive(const mice_plan *p, double *values, int64_t row) {
  for (int i = 0; i < p->derived_count; i++) {
    const int column = p->derived[i].column;
    if (isnan(p->frame.value[row * p->frame.columns + column])) {
      values[column] = rgm_formula_value(&p->derived[i].formula, values);
    }
  }
}


// missing cells get values of others, of the same arm (Rubin & Schafer)
static void begin_chain(chain *c, int64_t imputation) {
  const mice_plan *p = c->plan;
  const int64_t N = p->frame.rows, C = p->frame.columns;
  memcpy(c->values, p->frame.value, (size_t)(N * C) * sizeof *c->values);
  for (int k = 0; k < p->target_count; k++) {
    const mice_target *t = &p->target[k];
    mice_start(&c->draws, p, imputation, 0, t->column, 0);
    for (int64_t i = 0; i < t->missing; i++) {
      int64_t from;
      do {
        from = (int64_t)mice_below(&c->draws, (uint32_t)N);
      } while (!is_seen(p, t, p->arm[t->row[i]], from));
      c->values[t->row[i] * C + t->column] = p->frame.value[from * C + t->column];
    }
  }
  memset(c->gram, 0, (size_t)(p->arms * p->width * c->stride) * sizeof *c->gram);
  memset(c->design, 0, (size_t)(N * c->stride) * sizeof *c->design);
  for (int64_t row = 0; row < N; row++) {
    derive(p, c->values + row * C, row);
    c->design[row * c->stride] = 1.0;
    for (int i = 1; i < p->width; i++) {
      c->design[row * c->stride + i] = standardised(&p->wide[i], c->values + row * C);
    }
  }
  add_rows(c, NULL, N, 1.0);
}


static rgm_status impute(chain *c, const mice_target *t, int64_t imputation, int64_t iteration) {
  const mice_plan *p = c->plan;
  add_rows(c, t->row, t->missing, -1.0);
  for (int arm = 0; arm < p->arms; arm++) {
    regression r;
    mice_start(&c->draws, p, imputation, iteration + 1, t->column, arm);
    if (t->missing_in[arm] == 0) {
      continue;
    }
    if (t->method == MICE_PMM || t->method == MICE_NORM) {
      RGM_TRY(fit_linear(c, t, arm, &r));
      (t->method == MICE_PMM ? match : draw_normal)(c, t, arm, &r);
    } else {
      RGM_TRY(draw_levels(c, t, arm));
    }
  }
  for (int64_t i = 0; i < t->missing; i++) {
    const int64_t row = t->row[i];
    derive(p, c->values + row * p->frame.columns, row);
    for (int k = 0; k < t->written; k++) {
      const int place = t->write[k];
      c->design[row * c->stride + place] =
          standardised(&p->wide[place], c->values + row * p->frame.columns);
    }
  }
  add_rows(c, t->row, t->missing, 1.0);
  return RGM_OK;
}


static void trace(const chain *c, double *out) {
  const mice_plan *p = c->plan;
  for (int i = 0; i < 2 * p->frame.columns; i++) {
    out[i] = NAN;
  }
  for (int k = 0; k < p->target_count; k++) {
    const mice_target *t = &p->target[k];
    double mean = 0.0, square = 0.0;
    for (int64_t i = 0; i < t->missing; i++) {
      mean += c->values[t->row[i] * p->frame.columns + t->column] / (double)t->missing;
    }
    for (int64_t i = 0; i < t->missing; i++) {
      const double d = c->values[t->row[i] * p->frame.columns + t->column] - mean;
      square += d * d;
    }
    out[2 * t->column] = mean;
    out[2 * t->column + 1] = sqrt(square / fmax((double)t->missing - 1.0, 1.0));
  }
}


// the imputations of a file
static void take_given(const mice_plan *p, int64_t imputation, double *values) {
  memcpy(values, p->frame.value, (size_t)(p->frame.rows * p->frame.columns) * sizeof *values);
  for (int64_t i = 0; i < p->given_count; i++) {
    values[p->given_cell[i]] = p->given[i * p->given_sets + imputation];
  }
}


static rgm_status run_chain(const mice_plan *p, int64_t imputation, double *values,
                            double *traces) {
  const int64_t N = p->frame.rows, stride = (p->width + UNIT - 1) / UNIT * UNIT;
  const int64_t design = N * stride, gram = p->arms * p->width * stride,
                rows = 5 * N + 2 * p->keys->donors;
  if (p->given != NULL) {
    take_given(p, imputation, values);
    return RGM_OK;
  }
  const size_t bytes = (size_t)(design + gram + rows + UNIT - 1) / UNIT * UNIT * sizeof(double);
  double *memory = aligned_alloc(UNIT * sizeof(double), bytes);
  if (memory == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a chain");
  }
  chain c = {.plan = p,
             .stride = stride,
             .values = values,
             .design = memory,
             .gram = memory + design,
             .sort = (uint64_t *)(memory + design + gram),
             .seen = (uint64_t *)(memory + design + gram + 2 * N),
             .work = memory + design + gram + 3 * N};
  rgm_status status = RGM_OK;
  begin_chain(&c, imputation);
  for (int64_t iteration = 0; iteration < p->keys->iterations && status == RGM_OK; iteration++) {
    for (int k = 0; k < p->target_count && status == RGM_OK; k++) {
      status = impute(&c, &p->target[k], imputation, iteration);
    }
    if (traces != NULL) {
      trace(&c, traces + iteration * 2 * p->frame.columns);
    }
  }
  free(memory);
  return status;
}


// ---- what others call --------------------------------------------------------------------------

typedef struct chains {
  const mice_plan *plan;
  int64_t first;
  double *values;
  rgm_status status[CHAINS];
  char why[CHAINS][256];
} chains;


// errors are told by the thread that asked
static void chain_task(void *arg, int64_t i) {
  chains *job = arg;
  const mice_plan *p = job->plan;
  const rgm_frame *f = &p->frame;
  const int64_t number = job->first + i;
  double *traces =
      p->traces != NULL ? p->traces + 2 * number * p->keys->iterations * f->columns : NULL;
  job->status[i] = run_chain(p, number, job->values + i * f->rows * f->columns, traces);
  if (job->status[i] != RGM_OK) {
    snprintf(job->why[i], sizeof job->why[i], "%.255s", rgm_last_error());
  }
}


rgm_status mice_complete(mice_plan *plan, rgm_stream *stream, int64_t first, int64_t count,
                         double *values) {
  for (int64_t at = 0; at < count; at += CHAINS) {
    const int64_t n = at + CHAINS < count ? CHAINS : count - at;
    chains job = {.plan = plan,
                  .first = first + at,
                  .values = values + at * plan->frame.rows * plan->frame.columns};
    if (stream != NULL) {
      rgm_cpu_parallel(rgm_host(stream), n, chain_task, &job);
    } else {
      for (int64_t i = 0; i < n; i++) {
        chain_task(&job, i);
      }
    }
    for (int64_t i = 0; i < n; i++) {
      if (job.status[i] != RGM_OK) {
        return rgm_fail(job.status[i], "%s", job.why[i]);
      }
    }
  }
  return RGM_OK;
}


rgm_status mice_values(mice_plan *plan, rgm_stream *stream, int64_t imputation,
                       const double **values, int64_t *count) {
  const int64_t cells = plan->frame.rows * plan->frame.columns;
  const int64_t first = imputation / CHAINS * CHAINS;
  const int64_t left = plan->imputations - first, n = left < CHAINS ? left : CHAINS;
  if (plan->block == NULL) {
    plan->block = malloc((size_t)(CHAINS * cells) * sizeof *plan->block);
    plan->block_first = -1;
    if (plan->block == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for completed tables");
    }
  }
  if (plan->block_first != first) {
    RGM_TRY(mice_complete(plan, stream, first, n, plan->block));
    plan->block_first = first;
  }
  *values = plan->block + (imputation - first) * cells;
  if (count != NULL) {
    *count = first + n - imputation;
  }
  return RGM_OK;
}
