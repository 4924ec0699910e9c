// SPDX-License-Identifier: Apache-2.0
// What policies are worth over imputed tables: Rubin's rules (Rubin 1987), beside the published
// way, the mean of each table's basic bootstrap limits.

#include "algorithms/dwols.h"
#include "algorithms/ope.h"

#include <math.h>
#include <stdlib.h>


static const ope_estimate *at(const ope_estimate *e, int64_t stride, int64_t table) {
  return (const ope_estimate *)((const char *)e + table * stride);
}


// means over tables; *psi and *within (tables) for Rubin's rules
static void average(const ope_keys *keys, const ope_estimate *first, int64_t stride, int64_t tables,
                    double *psi, double *within, ope_pooled *out) {
  const double m = (double)tables;
  double cluster = 0.0, square = 0.0;
  for (int64_t t = 0; t < tables; t++) {
    const ope_estimate *e = at(first, stride, t);
    const ope_spread *s = &e->spread;
    const double se = keys->replicates > 1 ? s->se : e->cluster_se;
    psi[t] = e->value;
    within[t] = se * se;
    out->value += e->value / m;
    cluster += e->cluster_se * e->cluster_se / m;
    square += s->se * s->se / m;
    out->spread.robust += s->robust / m;
    out->spread.low += s->low / m;
    out->spread.high += s->high / m;
    out->spread.lost += s->lost;
    out->basic[0] += (2.0 * e->value - s->high) / m;
    out->basic[1] += (2.0 * e->value - s->low) / m;
  }
  out->cluster_se = sqrt(cluster);
  out->spread.se = sqrt(square);
}


ope_pooled ope_pool(const ope_keys *keys, const ope_estimate *e, int64_t stride, int64_t tables,
                    int64_t patients) {
  ope_pooled out = {.tables = tables, .se = NAN, .lambda = NAN, .df = NAN};
  double *psi = malloc(2 * (size_t)tables * sizeof *psi);
  if (psi == NULL) {
    out.value = out.low = out.high = NAN;
    return out;
  }
  average(keys, e, stride, tables, psi, psi + tables, &out);
  const double half = dwols_quantile(keys->level, INFINITY) * out.cluster_se;
  out.low = keys->replicates > 1 ? out.spread.low : out.value - half;
  out.high = keys->replicates > 1 ? out.spread.high : out.value + half;
  if (tables > 1) {
    const double one = 1.0;
    dwols_pool rubin;
    dwols_pool_make(tables, 1, psi, psi + tables, &rubin);
    const dwols_form form =
        dwols_pool_form(&rubin, &one, 0, 1, (double)(patients - 1), keys->interval, keys->level);
    out.se = form.se;
    out.lambda = form.lambda;
    out.df = form.df;
    out.low = form.value - form.half;
    out.high = form.value + form.half;
  }
  free(psi);
  return out;
}


static void write_limits(rgm_json *json, const char *key, double low, double high) {
  rgm_json_open(json, key, '[');
  rgm_json_number(json, NULL, low);
  rgm_json_number(json, NULL, high);
  rgm_json_close(json, ']');
}


void ope_write_spread(rgm_json *json, const char *prefix, const ope_pooled *e) {
  char key[64];
  snprintf(key, sizeof key, "%sbootstrap", prefix);
  rgm_json_open(json, key, '{');
  rgm_json_number(json, "se", e->spread.se);
  rgm_json_number(json, "robust_se", e->spread.robust);
  write_limits(json, "ci", e->spread.low, e->spread.high);
  write_limits(json, "basic", e->basic[0], e->basic[1]);
  rgm_json_number(json, "resamples_without_fit", (double)e->spread.lost);
  rgm_json_close(json, '}');
  if (e->tables > 1) {
    snprintf(key, sizeof key, "%srubin", prefix);
    rgm_json_open(json, key, '{');
    rgm_json_number(json, "se", e->se);
    write_limits(json, "ci", e->low, e->high);
    rgm_json_number(json, "lambda", e->lambda);
    rgm_json_number(json, "df", e->df);
    rgm_json_close(json, '}');
  }
}
