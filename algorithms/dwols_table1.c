// SPDX-License-Identifier: Apache-2.0
// Table 1 of staged rules: for every stage those eligible, by the treatment that they received, as
// observed (before any imputation): means, medians, shares, missing values, and standardised mean
// differences (Austin 2009). Of several levels all but the reference are "treated", of a dose those
// above its median. Counts from 1 to 4 are hidden. As CSV, LaTeX and JSON.

#include "algorithms/dwols.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALL, UNTREATED, TREATED, ARMS, LEAST = 5 };
static const char *const arm_names[] = {"all", "untreated", "treated"};

// A line of the table: a column of numbers, or a level of a factor or of a 0/1 column.
typedef struct line {
  char name[128];
  bool share;        // of a level, else a number
  double seen[ARMS]; // rows with a value
  double mean[ARMS]; // or the share
  double sd[ARMS], quartile[ARMS][3];
  double missing[ARMS];
  double smd;
} line;


static bool is_binary(const rgm_frame *f, int column) {
  for (int64_t row = 0; row < f->rows; row++) {
    const double x = f->value[row * f->columns + column];
    if (!isnan(x) && x != 0.0 && x != 1.0) {
      return false;
    }
  }
  return true;
}


// the values of a column (of a level: 0 or 1) in an arm of a stage, and how many are missing
static int64_t collect(const dwols_model *m, const dwols_stage *s, int column, double level,
                       int arm, double *x, double *missing) {
  int64_t n = 0;
  *missing = 0.0;
  for (int64_t i = 0; i < s->n; i++) {
    const double value = m->frame.value[s->rows[i] * m->frame.columns + column];
    if (arm != ALL && (s->label[i] > s->split) != (arm == TREATED)) {
      continue;
    }
    *missing += isnan(value) != 0;
    if (!isnan(value)) {
      x[n++] = isnan(level) ? value : value == level;
    }
  }
  return n;
}


static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


// level NaN: numbers
static line make_line(const dwols_model *m, const dwols_stage *s, int column, double level,
                      double *x) {
  const rgm_variable *v = &m->frame.column[column];
  line l = {.share = !isnan(level)};
  snprintf(l.name, sizeof l.name, "%s%s%s", v->name, v->levels > 0 ? " = " : "",
           v->levels > 0 ? v->level[(int)level] : "");
  for (int arm = 0; arm < ARMS; arm++) {
    const int64_t n = collect(m, s, column, level, arm, x, &l.missing[arm]);
    double square = 0.0;
    l.seen[arm] = (double)n;
    for (int64_t i = 0; i < n; i++) {
      l.mean[arm] += x[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
      square += (x[i] - l.mean[arm]) * (x[i] - l.mean[arm]);
    }
    // of a share p (1 - p)
    l.sd[arm] = sqrt(square / (l.share ? (double)n : (double)n - 1.0));
    qsort(x, (size_t)n, sizeof *x, by_value);
    for (int q = 0; q < 3; q++) {
      l.quartile[arm][q] = n > 0 ? rgm_quantile_sorted(x, n, 0.25 * (q + 1)) : NAN;
    }
  }
  const double pooled = sqrt(0.5 * (l.sd[UNTREATED] * l.sd[UNTREATED] + //
                                    l.sd[TREATED] * l.sd[TREATED]));
  // none of what is the same in each arm: the treatment itself
  l.smd = pooled > 1e-12 ? (l.mean[TREATED] - l.mean[UNTREATED]) / pooled : NAN;
  return l;
}


static bool is_hidden(double count) {
  return count > 0.0 && count < LEAST;
}


// a line whose counts, or those of the others beside them, are small shows no shares
static bool hides(const line *l) {
  bool hidden = false;
  for (int arm = 0; arm < ARMS; arm++) {
    const double count = l->share ? round(l->mean[arm] * l->seen[arm]) : l->seen[arm];
    hidden = hidden || is_hidden(count) || (l->share && is_hidden(l->seen[arm] - count));
  }
  return hidden;
}


static double shown(double count) {
  return is_hidden(count) ? NAN : count;
}


// ---- forms -------------------------------------------------------------------------------------

static void number(FILE *out, const char *before, double x) {
  if (isfinite(x)) {
    fprintf(out, "%s%.6g", before, x);
  } else {
    fputs(before, out);
  }
}


static void csv_line(FILE *csv, int stage, const line *l) {
  const bool hidden = hides(l);
  for (int arm = 0; arm < ARMS; arm++) {
    fprintf(csv, "%d,\"%s\",%s", stage, l->name, arm_names[arm]);
    number(csv, ",", shown(l->seen[arm]));
    number(csv, ",", shown(l->missing[arm]));
    number(csv, ",", hidden ? NAN : l->mean[arm]);
    number(csv, ",", hidden || l->share ? NAN : l->sd[arm]);
    for (int q = 0; q < 3; q++) {
      number(csv, ",", hidden || l->share ? NAN : l->quartile[arm][q]);
    }
    number(csv, ",", hidden ? NAN : l->smd);
    fputc('\n', csv);
  }
}


static void tex_line(FILE *tex, const line *l) {
  const bool hidden = hides(l);
  fprintf(tex, "\\verb|%s|", l->name);
  for (int arm = 0; arm < ARMS; arm++) {
    if (hidden) {
      fprintf(tex, " & hidden");
    } else if (l->share) {
      fprintf(tex, " & %.0f (%.1f\\,\\%%)", l->mean[arm] * l->seen[arm], 100.0 * l->mean[arm]);
    } else {
      fprintf(tex, " & %.4g (%.3g); %.4g [%.4g, %.4g]", l->mean[arm], l->sd[arm],
              l->quartile[arm][1], l->quartile[arm][0], l->quartile[arm][2]);
    }
  }
  if (hidden || !isfinite(l->smd)) {
    fprintf(tex, " & \\\\\n");
  } else {
    fprintf(tex, " & %.2f \\\\\n", l->smd);
  }
}


static void json_line(rgm_json *j, const line *l) {
  const bool hidden = hides(l);
  rgm_json_open(j, NULL, '{');
  rgm_json_string(j, "variable", l->name);
  for (int arm = 0; arm < ARMS; arm++) {
    rgm_json_open(j, arm_names[arm], '{');
    rgm_json_number(j, "n", shown(l->seen[arm]));
    rgm_json_number(j, "missing", shown(l->missing[arm]));
    rgm_json_number(j, l->share ? "share" : "mean", hidden ? NAN : l->mean[arm]);
    if (!l->share) {
      rgm_json_number(j, "sd", hidden ? NAN : l->sd[arm]);
      rgm_json_number(j, "q1", hidden ? NAN : l->quartile[arm][0]);
      rgm_json_number(j, "median", hidden ? NAN : l->quartile[arm][1]);
      rgm_json_number(j, "q3", hidden ? NAN : l->quartile[arm][2]);
    }
    rgm_json_close(j, '}');
  }
  rgm_json_number(j, "smd", hidden ? NAN : l->smd);
  rgm_json_close(j, '}');
}


static void write_stage(const dwols_model *m, int k, FILE *csv, FILE *tex, rgm_json *json,
                        double *x) {
  const dwols_stage *s = &m->stage[k];
  double treated = 0.0;
  for (int64_t i = 0; i < s->n; i++) {
    treated += s->label[i] > s->split;
  }
  if (tex != NULL) {
    fprintf(tex,
            "\\multicolumn{5}{l}{Stage %d: %lld eligible, %.0f untreated, %.0f treated} \\\\ "
            "\\hline\n",
            k + 1, (long long)s->n, (double)s->n - treated, treated);
  }
  rgm_json_open(json, NULL, '[');
  for (int c = 0; c < m->frame.columns; c++) {
    const int levels = m->frame.column[c].levels;
    const bool binary = levels == 0 && is_binary(&m->frame, c);
    for (int level = 0; level < (levels > 0 ? levels : 1); level++) {
      const line l = make_line(m, s, c, levels > 0 ? level : binary ? 1.0 : NAN, x);
      if (csv != NULL) {
        csv_line(csv, k + 1, &l);
        tex_line(tex, &l);
      }
      json_line(json, &l);
    }
  }
  rgm_json_close(json, ']');
}


rgm_status dwols_table1(const dwols_model *m, FILE *csv, FILE *tex, rgm_json *json) {
  double *x = malloc((size_t)m->frame.rows * sizeof *x);
  if (x == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for Table 1");
  }
  if (csv != NULL) {
    fprintf(csv, "stage,variable,arm,n,missing,mean_or_share,sd,q1,median,q3,smd\n");
    fprintf(tex, "\\begin{tabular}{lrrrr}\n & All & Untreated & Treated & SMD \\\\ \\hline\n");
  }
  rgm_json_open(json, "table1", '[');
  for (int k = 0; k < m->stages; k++) {
    write_stage(m, k, csv, tex, json, x);
  }
  rgm_json_close(json, ']');
  if (tex != NULL) {
    fprintf(tex, "\\end{tabular}\n");
  }
  free(x);
  return RGM_OK;
}
