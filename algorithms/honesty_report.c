// SPDX-License-Identifier: Apache-2.0
// What the data sets of a cell say: by method how often intervals hold the truth, errors, how well
// policies are ranked; by policy regret. See honesty.h.

#include "algorithms/honesty.h"

#include <math.h>
#include <string.h>


// ranks with ties in the middle
static void rank(const double *x, int n, double *out) {
  for (int i = 0; i < n; i++) {
    out[i] = 0.0;
    for (int j = 0; j < n; j++) {
      out[i] += x[j] < x[i] ? 1.0 : x[j] == x[i] ? 0.5 : 0.0;
    }
  }
}


// Spearman's correlation; NaN where there are fewer than three or all are equal
static double spearman(const double *x, const double *y, int n) {
  double a[VALUES_POLICIES], b[VALUES_POLICIES], xy = 0.0, xx = 0.0, yy = 0.0;
  rank(x, n, a);
  rank(y, n, b);
  for (int i = 0; i < n; i++) {
    const double p = a[i] - 0.5 * n, q = b[i] - 0.5 * n;
    xy += p * q;
    xx += p * p;
    yy += q * q;
  }
  return n >= 3 && xx > 0.0 && yy > 0.0 ? xy / sqrt(xx * yy) : NAN;
}


// Sums over policies and data sets of one method.
typedef struct tally {
  double n, held, sum, square, reliable, reliable_held, reliable_square, rank, ranks;
} tally;


static void count_method(const rgm_honesty_set *t, int seeds, int m, tally *y) {
  *y = (tally){.n = 0.0};
  for (int s = 0; s < seeds; s++) {
    double estimate[VALUES_POLICIES], truth[VALUES_POLICIES];
    int count = 0;
    for (int p = 0; p < t[s].count; p++) {
      const rgm_honesty_outcome *o = &t[s].policy[p];
      const double gap = o->of[m].value - o->truth;
      if (!isfinite(gap)) {
        continue;
      }
      const bool held = o->of[m].low <= o->truth && o->truth <= o->of[m].high;
      y->n += 1.0;
      y->held += held;
      y->sum += gap;
      y->square += gap * gap;
      y->reliable += o->reliable[m];
      y->reliable_held += o->reliable[m] && held;
      y->reliable_square += o->reliable[m] ? gap * gap : 0.0;
      estimate[count] = o->of[m].value;
      truth[count++] = o->truth;
    }
    const double rho = spearman(estimate, truth, count);
    y->rank += isfinite(rho) ? rho : 0.0;
    y->ranks += isfinite(rho);
  }
}


// a number of three digits, or a dash where there is none
static void print_figure(FILE *text, double value) {
  if (isfinite(value)) {
    fprintf(text, " %10.3g", value);
  } else {
    fprintf(text, " %10s", "-");
  }
}


static void write_methods(const rgm_honesty_set *t, int seeds, rgm_json *json, FILE *text) {
  rgm_json_open(json, "methods", '{');
  if (text != NULL) {
    fprintf(text, "  %-8s %10s %10s %10s %10s %10s %10s %10s\n", "method", "coverage", "bias",
            "rmse", "ranking", "reliable", "coverage*", "rmse*");
  }
  for (int m = 0; m < RGM_ESTIMATES; m++) {
    tally y;
    count_method(t, seeds, m, &y);
    const struct {
      const char *name;
      double value;
    } figures[] = {{"coverage", y.held / y.n},
                   {"bias", y.sum / y.n},
                   {"rmse", sqrt(y.square / y.n)},
                   {"ranking", y.rank / y.ranks},
                   {"reliable", y.reliable / y.n},
                   {"coverage_where_reliable", y.reliable_held / y.reliable},
                   {"rmse_where_reliable", sqrt(y.reliable_square / y.reliable)}};
    rgm_json_open(json, rgm_estimate_names[m], '{');
    rgm_json_number(json, "n", y.n);
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
      rgm_json_number(json, figures[i].name, figures[i].value);
    }
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text, "  %-8s", rgm_estimate_names[m]);
      for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        print_figure(text, figures[i].value);
      }
      fprintf(text, "\n");
    }
  }
  rgm_json_close(json, '}');
}


// policies that all data sets have, in the order of the first; a constant is named by its class
static void write_policies(const rgm_honesty_set *t, int seeds, rgm_json *json, FILE *text) {
  rgm_json_open(json, "policies", '{');
  if (text != NULL) {
    fprintf(text, "  %-12s %9s %9s %13s %20s\n", "policy", "return", "regret", "s.e.",
            "measured in range");
  }
  for (int p = 0; p < t[0].count; p++) {
    double regret[2] = {0.0, 0.0}, truth = 0.0, measured = 0.0;
    const bool constant = strncmp(t[0].policy[p].name, "constant", 8) == 0;
    const char *name = constant ? "constant" : t[0].policy[p].name;
    for (int s = 0; s < seeds; s++) {
      const rgm_honesty_outcome *o = &t[s].policy[p];
      regret[1] += (o->regret - regret[0]) * (o->regret - regret[0]) * s / (s + 1.0);
      regret[0] += (o->regret - regret[0]) / (s + 1.0);
      truth += o->truth / seeds;
      measured += o->measured / seeds;
    }
    const double error = seeds > 1 ? sqrt(regret[1] / (seeds - 1.0) / seeds) : NAN;
    rgm_json_open(json, name, '{');
    rgm_json_number(json, "return", truth);
    rgm_json_number(json, "regret", regret[0]);
    rgm_json_number(json, "regret_error", error);
    rgm_json_number(json, "measured_in_range", measured);
    rgm_json_close(json, '}');
    if (text != NULL) {
      fprintf(text, "  %-12s %9.1f %9.1f +-", name, truth, regret[0]);
      print_figure(text, error);
      fprintf(text, " %18.1f %%\n", measured);
    }
  }
  rgm_json_close(json, '}');
}


void rgm_honesty_write_cell(const rgm_honesty_cell *c, const rgm_honesty_set *t, int seeds,
                            rgm_json *json, FILE *text) {
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "noise", c->noise);
  rgm_json_number(json, "kappa", c->kappa);
  rgm_json_number(json, "patients", (double)c->patients);
  int redrawn = 0;
  for (int s = 0; s < seeds; s++) {
    redrawn += t[s].redrawn;
  }
  rgm_json_number(json, "redrawn", redrawn);
  if (text != NULL) {
    fprintf(text, "\nnoise %g, kappa %g s, %lld patients, %d data set%s", c->noise, c->kappa,
            (long long)c->patients, seeds, seeds == 1 ? "" : "s");
    if (redrawn > 0) {
      fprintf(text, " (%d more had too equal doses)", redrawn);
    }
    fprintf(text, "\n");
  }
  write_methods(t, seeds, json, text);
  write_policies(t, seeds, json, text);
  rgm_json_close(json, '}');
}


void rgm_honesty_write_rows(FILE *csv, const rgm_honesty_cell *at, int64_t seed,
                            const rgm_honesty_set *t) {
  for (int p = 0; p < t->count; p++) {
    for (int m = 0; m < RGM_ESTIMATES; m++) {
      const rgm_honesty_outcome *o = &t->policy[p];
      fprintf(csv, "%g,%g,%lld,%lld,%s,%.6f,%.6f,%s,%.6g,%.6g,%.6g,%d\n", at->noise, at->kappa,
              (long long)at->patients, (long long)seed, o->name, o->truth, o->regret,
              rgm_estimate_names[m], o->of[m].value, o->of[m].low, o->of[m].high, o->reliable[m]);
    }
  }
}
