// SPDX-License-Identifier: Apache-2.0
// What an ensemble is looked at by: errors on held-out rows in units of the data. See ensemble.h.

#include "algorithms/ensemble.h"

#include <math.h>
#include <stdlib.h>


// ---- errors ------------------------------------------------------------------------------------

// what held-out rows add to the errors of one replica: heads (E, rows, O) and targets (rows, K),
// both standardised
static void add_errors(const rgm_ensemble *e, const float *head, const float *bounds,
                       const float *target, const float *scale, int64_t rows, double *mse,
                       double *nll) {
  const int64_t K = e->outputs, O = e->elite_pass.out.dims[3], E = e->elite.count;
  for (int64_t i = 0; i < E * rows; i++) {
    const float *own = head + i * O, *max = bounds + i / rows * 2 * K, *min = max + K;
    const float *t = target + i % rows * K;
    for (int64_t k = 0; k < K; k++) {
      const double sd = (double)scale[K + k], miss = (double)own[k] - (double)t[k];
      const double w = (double)max[k] - log1p(exp((double)max[k] - (double)own[K + k]));
      const double v = (double)min[k] + log1p(exp(w - (double)min[k]));
      mse[k] += miss * miss * sd * sd;
      nll[k] += 0.5 * (miss * miss * exp(-v) + v + log(2.0 * acos(-1.0))) + log(sd);
    }
  }
}


// errors of n replicas from `first` on over rows `from` to `to`
static rgm_status errors_of(rgm_run *run, const rgm_ensemble *whole, int64_t first, int64_t n,
                            int64_t from, int64_t to, float *room, double *mse, double *nll) {
  rgm_ensemble e;
  rgm_slice_ensemble(whole, first, n, &e);
  const int64_t K = e.outputs, B = e.x.dims[2], E = e.elite.count, O = e.elite_pass.out.dims[3];
  float *head = room, *target = head + n * E * B * O, *bounds = target + B * K;
  float *scale = bounds + n * E * 2 * K;
  rgm_copy(run->stream, bounds, e.elite_bounds.data, (size_t)(n * E * 2 * K) * sizeof *bounds);
  rgm_copy(run->stream, scale, e.scale.data, (size_t)(n * 2 * K) * sizeof *scale);
  for (int64_t at = from; at < to; at += B) {
    const int64_t rows = to - at < B ? to - at : B;
    const rgm_pass pass = rgm_pass_rows(e.elite_pass, rows);
    const rgm_tensor t = rgm_rows(e.held_t, at, rows);
    rgm_forward(run->stream, &e.elite, false, rgm_rows(e.held_x, at, rows), &pass);
    for (int64_t r = 0; r < n; r++) {
      rgm_copy(run->stream, head + r * E * B * O,
               (float *)pass.out.data + r * e.elite_pass.out.stride0,
               (size_t)(E * rows * O) * sizeof *head);
    }
    rgm_copy(run->stream, target, t.data, (size_t)(rows * K) * sizeof *target);
    RGM_TRY(rgm_sync(run->stream));
    for (int64_t r = 0; r < n; r++) {
      add_errors(&e, head + r * E * B * O, bounds + r * E * 2 * K, target, scale + r * 2 * K, rows,
                 mse + (first + r) * K, nll + (first + r) * K);
    }
  }
  return RGM_OK;
}


rgm_status rgm_ensemble_errors(rgm_run *run, rgm_ensemble *e, bool test, double *mse, double *nll,
                               int64_t *rows) {
  const int64_t R = run->replicas, K = e->outputs, G = e->x.dims[0], B = e->x.dims[2];
  const int64_t E = e->elite.count, O = e->elite_pass.out.dims[3];
  const bool tests = test && e->tested > 0;
  const int64_t from = tests ? e->held : 0, to = tests ? e->held + e->tested : e->held;
  float *room = malloc((size_t)(G * E * B * O + B * K + G * (E + 1) * 2 * K) * sizeof *room);
  rgm_status status = room != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the report");
  for (int64_t i = 0; i < R * K; i++) {
    mse[i] = nll[i] = 0.0;
  }
  for (int64_t first = 0; first < R && status == RGM_OK; first += G) {
    status = errors_of(run, e, first, R - first < G ? R - first : G, from, to, room, mse, nll);
  }
  for (int64_t i = 0; i < R * K; i++) {
    mse[i] /= (double)((to - from) * E);
    nll[i] /= (double)((to - from) * E);
  }
  *rows = to - from;
  free(room);
  return status;
}


// the root mean square error of each output in its unit
static rgm_status report_outputs(rgm_run *run, const rgm_ensemble *e, const double *mse,
                                 float *values) {
  const rgm_transitions *t = run->transitions;
  const int64_t R = run->replicas, K = e->outputs;
  for (int64_t k = 0; k < K; k++) {
    char name[48];
    snprintf(name, sizeof name, "rmse_%.42s", k < e->states ? t->state[k].name : "reward");
    for (int64_t r = 0; r < R; r++) {
      values[r] = (float)sqrt(mse[r * K + k]);
    }
    RGM_TRY(rgm_report(run, name, k < e->states ? t->state[k].unit : "1", values));
  }
  return RGM_OK;
}


// means over outputs, standardised: those are what learning goes down
static rgm_status report_means(rgm_run *run, const rgm_ensemble *e, const double *mse,
                               const double *nll, const float *scale, float *values) {
  const int64_t R = run->replicas, K = e->outputs;
  for (int form = 0; form < 2; form++) {
    for (int64_t r = 0; r < R; r++) {
      double sum = 0.0;
      for (int64_t k = 0; k < K; k++) {
        const double sd = (double)scale[r * 2 * K + K + k];
        sum += form == 0 ? mse[r * K + k] / (sd * sd) : nll[r * K + k] - log(sd);
      }
      values[r] = (float)(sum / (double)K);
    }
    RGM_TRY(rgm_report(run, form == 0 ? "holdout_mse" : "holdout_nll", form == 0 ? "1" : "nat",
                       values));
  }
  return RGM_OK;
}


rgm_status rgm_ensemble_report(rgm_run *run, rgm_ensemble *e, bool features) {
  const int64_t R = run->replicas, K = e->outputs;
  double *mse = malloc(2 * (size_t)(R * K) * sizeof *mse);
  float *values = malloc((size_t)(R + R * 2 * K) * sizeof *values), *scale = values + R;
  rgm_status status = RGM_OK;
  int64_t rows;
  if (mse == NULL || values == NULL) {
    status = rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  if (status == RGM_OK) {
    status = rgm_ensemble_errors(run, e, false, mse, mse + R * K, &rows);
  }
  if (status == RGM_OK) {
    status = rgm_read_back(run, e->scale, scale);
  }
  if (status == RGM_OK) {
    status = report_means(run, e, mse, mse + R * K, scale, values);
  }
  if (status == RGM_OK) {
    status = rgm_report_vector(run, "epochs_idle", "epochs", e->idle);
  }
  if (status == RGM_OK && features && K + 8 <= RGM_MAX_METRICS) {
    status = report_outputs(run, e, mse, values);
  }
  free(mse);
  free(values);
  return status;
}


// ---- evaluation --------------------------------------------------------------------------------

// a row for each output: its error beside its spread over training rows, which is what predicting
// the mean change would miss
static rgm_status write_outputs(rgm_run *run, const rgm_ensemble *e, const double *mse,
                                const double *nll, rgm_json *json, FILE *text) {
  const rgm_transitions *t = run->transitions;
  const int64_t R = run->replicas, K = e->outputs;
  float *scale = malloc(rgm_bytes(e->scale));
  double *sorted = malloc((size_t)R * sizeof *sorted);
  rgm_status status = scale != NULL && sorted != NULL ? rgm_read_back(run, e->scale, scale)
                                                      : rgm_fail(RGM_EMEMORY, "no memory");
  for (int64_t k = 0; k < K && status == RGM_OK; k++) {
    const char *name = k < e->states ? t->state[k].name : "reward";
    const char *unit = k < e->states ? t->state[k].unit : "1";
    double figure[2];
    for (int form = 0; form < 2; form++) {
      for (int64_t r = 0; r < R; r++) {
        sorted[r] = form == 0 ? sqrt(mse[r * K + k]) : nll[r * K + k];
      }
      figure[form] = rgm_median(sorted, R);
    }
    const double spread = (double)scale[K + k];
    rgm_json_open(json, name, '{');
    rgm_json_string(json, "unit", unit);
    rgm_json_number(json, "rmse", figure[0]);
    rgm_json_number(json, "nll", figure[1]);
    rgm_json_number(json, "spread", spread);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text, "  %-24s %-8s %12.5g %12.5g %10.4f %10.4f\n", name, unit, figure[0], spread,
              figure[0] / spread, figure[1]);
    }
  }
  free(scale);
  free(sorted);
  return status;
}


rgm_status rgm_ensemble_write(rgm_run *run, rgm_ensemble *e, rgm_json *json, FILE *text) {
  const int64_t size = run->replicas * e->outputs;
  double *mse = malloc(2 * (size_t)size * sizeof *mse);
  int64_t rows = 0;
  rgm_status status = mse != NULL ? rgm_ensemble_errors(run, e, true, mse, mse + size, &rows)
                                  : rgm_fail(RGM_EMEMORY, "no memory for the errors");
  if (status == RGM_OK) {
    const char *part = e->tested > 0 ? "test" : "validation";
    rgm_json_string(json, "part", part);
    rgm_json_number(json, "rows", (double)rows);
    rgm_json_open(json, "outputs", '{');
    if (text != NULL) {
      fprintf(text,
              "one step ahead, %lld rows of %s patients; elites' mean, median of %lld replica%s\n"
              "  %-24s %-8s %12s %12s %10s %10s\n",
              (long long)rows, part, (long long)run->replicas, run->replicas == 1 ? "" : "s",
              "change of", "unit", "rmse", "spread", "ratio", "nll, nat");
    }
    status = write_outputs(run, e, mse, mse + size, json, text);
    rgm_json_close(json, '}');
  }
  free(mse);
  return status;
}


rgm_status rgm_ensemble_evaluate(rgm_run *run, rgm_ensemble *e, rgm_json *json, FILE *text) {
  rgm_json_open(json, NULL, '{');
  const rgm_status status = rgm_ensemble_write(run, e, json, text);
  rgm_json_close(json, '}');
  return status;
}
