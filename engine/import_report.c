// SPDX-License-Identifier: Apache-2.0
// What an import tells: the flow chart (who was left after each rule), rows dropped and why, values
// used and not, Table 1, missing values before and after imputation, actions; as text, as JSON, as
// notes of the data set. Counts of patients below a size are hidden. And the copy in CSV.

#include "engine/import.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

// a count as text, hidden where it is small but not 0
static void show(const import *m, int64_t n, char out[24]) {
  if (n > 0 && n < m->rules.key.cells) {
    snprintf(out, 24, "<%lld", (long long)m->rules.key.cells);
  } else {
    snprintf(out, 24, "%lld", (long long)n);
  }
}


// ---- Table 1 -----------------------------------------------------------------------------------

enum { GROUPS = 3, FACTS = 3 };

// A row of Table 1: a count with its share, or a median with quartiles, in each group.
typedef struct line {
  char name[64], text[GROUPS][48];
} line;

typedef struct table1 {
  int groups, count;
  char group[GROUPS][32];
  line lines[IMPORT_VARIABLES + 16];
} table1;


static bool in_group(const import *m, const table1 *t, int group, int64_t row) {
  return group == 0 || m->stay == NULL ||
         strcasecmp(m->stay[m->panel.episode[row]].source, t->group[group]) == 0;
}


// the episode's first row
static bool is_first(const import_panel *p, int64_t row) {
  return row == 0 || p->episode[row] != p->episode[row - 1];
}


typedef double (*fact)(const import *m, int64_t row, int index);

static double variable_fact(const import *m, int64_t row, int index) {
  return m->panel.value[row * m->rules.variable_count + index];
}


static double hours_fact(const import *m, int64_t row, int index) {
  (void)index;
  int64_t n = 1;
  while (row + n < m->panel.rows && m->panel.episode[row + n] == m->panel.episode[row]) {
    n++;
  }
  return (double)n;
}


static double outcome_fact(const import *m, int64_t row, int index) {
  return m->panel.outcome[row * m->panel.outcome_count + index];
}


// one hidden group hides the others, which its difference to all would give away
static void hide_groups(const table1 *t, line *l) {
  bool hidden = false;
  for (int g = 1; g < t->groups; g++) {
    hidden |= l->text[g][0] == '<' || l->text[g][0] == 'h';
  }
  for (int g = 1; g < t->groups && hidden; g++) {
    snprintf(l->text[g], sizeof l->text[g], "hidden");
  }
}


// n (%) of the episodes where a fact of 0 or 1 is 1
static void add_share(const import *m, table1 *t, const char *name, fact f, int index) {
  line *l = &t->lines[t->count++];
  snprintf(l->name, sizeof l->name, "%.50s, n (%%)", name);
  for (int g = 0; g < t->groups; g++) {
    int64_t n = 0, all = 0;
    for (int64_t i = 0; i < m->panel.rows; i++) {
      const double x = is_first(&m->panel, i) && in_group(m, t, g, i) ? f(m, i, index) : NAN;
      n += x == 1;
      all += !isnan(x);
    }
    char count[24];
    show(m, n, count);
    const bool hidden =
        (n > 0 && n < m->rules.key.cells) || (n < all && all - n < m->rules.key.cells);
    if (hidden || all == 0) {
      snprintf(l->text[g], sizeof l->text[g], "%s",
               n > 0 && n < m->rules.key.cells ? count
               : all == 0                      ? "-"
                                               : "hidden");
    } else {
      snprintf(l->text[g], sizeof l->text[g], "%s (%.0f)", count, 100.0 * (double)n / (double)all);
    }
  }
  hide_groups(t, l);
}


// median [quartiles] over episodes, hidden where few have a value
static bool add_median(const import *m, table1 *t, const char *name, const char *unit, fact f,
                       int index) {
  double *x = malloc(((size_t)m->panel.rows + 1) * sizeof *x);
  if (x == NULL) {
    return false;
  }
  line *l = &t->lines[t->count++];
  snprintf(l->name, sizeof l->name, "%.40s, %.16s", name, unit);
  for (int g = 0; g < t->groups; g++) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->panel.rows; i++) {
      const double v = is_first(&m->panel, i) && in_group(m, t, g, i) ? f(m, i, index) : NAN;
      if (!isnan(v)) {
        x[n++] = v;
      }
    }
    if (n == 0 || n < m->rules.key.cells) {
      snprintf(l->text[g], sizeof l->text[g], "%s", n == 0 ? "-" : "hidden");
      continue;
    }
    const rgm_summary s = rgm_summarise(x, n);
    snprintf(l->text[g], sizeof l->text[g], "%.3g [%.3g, %.3g]", s.median, s.q25, s.q75);
  }
  free(x);
  return true;
}


// at the beginning of each episode: all, and by source where there are two
static bool make_table1(const import *m, table1 *t) {
  *t = (table1){.groups = 1};
  snprintf(t->group[0], sizeof t->group[0], "all");
  for (int64_t i = 0; i < m->stay_count && m->stay != NULL; i++) {
    bool known = m->stay[i].source[0] == '\0';
    for (int g = 1; g < t->groups; g++) {
      known |= strcasecmp(t->group[g], m->stay[i].source) == 0;
    }
    if (!known && t->groups < GROUPS) {
      snprintf(t->group[t->groups++], sizeof t->group[0], "%.31s", m->stay[i].source);
    }
  }
  if (t->groups == 3 && strcasecmp(t->group[1], t->group[2]) > 0) {
    char other[32];
    memcpy(other, t->group[1], sizeof other);
    memcpy(t->group[1], t->group[2], sizeof other);
    memcpy(t->group[2], other, sizeof other);
  }
  line *l = &t->lines[t->count++];
  snprintf(l->name, sizeof l->name, "episodes, n");
  for (int g = 0; g < t->groups; g++) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->panel.rows; i++) {
      n += is_first(&m->panel, i) && in_group(m, t, g, i);
    }
    char count[24];
    show(m, n, count);
    snprintf(l->text[g], sizeof l->text[g], "%s", count);
  }
  bool good = add_median(m, t, "steps of an episode", "1", hours_fact, 0);
  for (int v = 0; v < m->rules.variable_count && good; v++) {
    const import_variable *var = &m->rules.variable[v];
    if (var->how == HOW_MALE) {
      add_share(m, t, var->name, variable_fact, v);
    } else {
      good = add_median(m, t, var->name, var->unit, variable_fact, v);
    }
  }
  for (int k = 0; k < m->panel.outcome_count && good && m->stay != NULL; k++) {
    add_share(m, t, m->panel.outcome_name[k], outcome_fact, k);
  }
  return good;
}


// ---- missing values ----------------------------------------------------------------------------

typedef struct gaps {
  int64_t missing, fresh; // rows without a value; rows whose value is of the last hour
} gaps;

static gaps find_gaps(const import *m, int v) {
  gaps g = {0};
  for (int64_t i = 0; i < m->panel.rows; i++) {
    const int64_t cell = i * m->rules.variable_count + v;
    g.missing += isnan(m->panel.value[cell]);
    g.fresh += m->panel.age[cell] < 1;
  }
  return g;
}


static int64_t count_rows(const import *m, const uint8_t *flag) {
  int64_t n = 0;
  for (int64_t i = 0; i < m->panel.rows; i++) {
    n += flag[i];
  }
  return n;
}


static int64_t count_episodes(const import *m) {
  int64_t n = 0;
  for (int64_t i = 0; i < m->panel.rows; i++) {
    n += is_first(&m->panel, i);
  }
  return n;
}


static int64_t count_patients(const import *m) {
  int32_t most = -1;
  for (int64_t i = 0; i < m->panel.rows; i++) {
    most = m->panel.patient[i] > most ? m->panel.patient[i] : most;
  }
  return most + 1;
}


static int64_t count_fresh(const import *m) {
  int64_t n = 0;
  for (int64_t i = 0; i < m->panel.rows; i++) {
    n += !isnan(m->panel.fresh[i]);
  }
  return n;
}


// ---- text --------------------------------------------------------------------------------------

static void print_flow(const import *m, FILE *out) {
  char stays[24], patients[24];
  fprintf(out, "flow chart%46s %10s\n", "stays", "patients");
  for (int i = 0; i < m->flow_count; i++) {
    show(m, m->flow[i].stays, stays);
    show(m, m->flow[i].patients, patients);
    if (m->flow[i].patients < 0) {
      snprintf(patients, sizeof patients, "-"); // the table does not tell
    }
    fprintf(out, "  %-44s %9s %10s\n", m->flow[i].rule, stays, patients);
  }
  if (m->drop_count > 0) {
    fprintf(out, "\nrows\n");
  }
  for (int i = 0; i < m->drop_count; i++) {
    fprintf(out, "  %-16s %-44s %12lld\n", m->drop[i].table, m->drop[i].why,
            (long long)m->drop[i].rows);
  }
}


static void print_values(const import *m, FILE *out) {
  fprintf(out, "\nvalues of the cohort%12s %10s %12s %13s %13s\n", "used", "no number",
          "out of range", "unknown unit", "marked wrong");
  for (int v = 0; v < m->rules.variable_count; v++) {
    const import_variable *var = &m->rules.variable[v];
    const import_count *c = &var->count;
    if (c->used + c->no_number + c->out_of_range + c->unknown_unit + c->marked_wrong > 0) {
      fprintf(out, "  %-18s %11lld %10lld %12lld %13lld %13lld\n", var->name, (long long)c->used,
              (long long)c->no_number, (long long)c->out_of_range, (long long)c->unknown_unit,
              (long long)c->marked_wrong);
    }
  }
}


static void print_missing(const import *m, FILE *out) {
  const bool filled = m->rules.key.impute == IMPUTE_KNN;
  fprintf(out, "\nrows without a value %11s %10s %18s\n", "held", "filled", "measured within 1 h");
  for (int v = 0; v < m->rules.variable_count; v++) {
    const gaps g = find_gaps(m, v);
    const double n = (double)m->panel.rows;
    if (m->rules.variable[v].absent) {
      fprintf(out, "  %-18s never measured: left out\n", m->rules.variable[v].name);
      continue;
    }
    fprintf(out, "  %-18s %9.1f %% %8.1f %% %17.1f %%\n", m->rules.variable[v].name,
            100.0 * (double)g.missing / n, filled ? 0.0 : 100.0 * (double)g.missing / n,
            100.0 * (double)g.fresh / n);
  }
}


static void print_actions(const import *m, FILE *out) {
  if (m->edges == NULL) {
    return;
  }
  const int c = rgm_dataset_role(m->data, RGM_ROLE_ACTION);
  const int dose = rgm_dataset_role(m->data, RGM_ROLE_DOSE);
  fprintf(out, "\nactions: %s\n", m->data->column[dose].unit);
  const int first = m->rules.key.zero_bin;
  for (int64_t b = 0; b < m->rules.key.bins; b++) {
    int64_t n = 0;
    for (int64_t i = 0; i < m->panel.rows; i++) {
      n += rgm_cell_get(&m->data->column[c], i) == (double)b;
    }
    char range[64];
    if (b == 0 && first) {
      snprintf(range, sizeof range, "none");
    } else if (b == first) {
      snprintf(range, sizeof range, "up to %.4g", m->edges[0]);
    } else if (b - first == m->edge_count) {
      snprintf(range, sizeof range, "above %.4g", m->edges[b - first - 1]);
    } else {
      snprintf(range, sizeof range, "above %.4g, up to %.4g", m->edges[b - first - 1],
               m->edges[b - first]);
    }
    fprintf(out, "  %lld  %-32s median %-8.4g %6.1f %% of the rows\n", (long long)b, range,
            m->typical[b], 100.0 * (double)n / (double)m->panel.rows);
  }
}


static void print_table1(const import *m, FILE *out) {
  table1 *t = malloc(sizeof *t);
  if (t != NULL && make_table1(m, t)) {
    fprintf(out, "\nTable 1, at the first step %5s", "");
    for (int g = 0; g < t->groups; g++) {
      fprintf(out, " %-24s", t->group[g]);
    }
    fprintf(out, "\n");
    for (int i = 0; i < t->count; i++) {
      fprintf(out, "  %-30s", t->lines[i].name);
      for (int g = 0; g < t->groups; g++) {
        fprintf(out, " %-24s", t->lines[i].text[g]);
      }
      fprintf(out, "\n");
    }
  }
  free(t);
}


void rgm_import_report(const import *m, FILE *out) {
  const import_keys *key = &m->rules.key;
  if (key->title[0] != '\0') {
    fprintf(out, "%s\n\n", key->title);
  }
  if (key->warning[0] != '\0') {
    fprintf(out, "WARNING: %s\n\n", key->warning);
  }
  print_flow(m, out);
  const int64_t rows = m->panel.rows, episodes = count_episodes(m);
  fprintf(out, "\n%lld episodes, %lld patients, %lld rows, %lld transitions\n", (long long)episodes,
          (long long)count_patients(m), (long long)rows, (long long)(rows - episodes));
  fprintf(out, "episodes that ended by themselves %lld, cut %lld\n",
          (long long)count_rows(m, m->panel.terminated),
          (long long)count_rows(m, m->panel.truncated));
  if (m->rules.monitor >= 0) {
    fprintf(out, "%s measured in %lld of the rows\n", key->outcome, (long long)count_fresh(m));
  }
  print_values(m, out);
  print_table1(m, out);
  print_missing(m, out);
  print_actions(m, out);
}


// ---- JSON --------------------------------------------------------------------------------------

static void hidden_count(const import *m, rgm_json *j, const char *key, int64_t n) {
  char text[24];
  show(m, n, text);
  if (text[0] == '<') {
    rgm_json_string(j, key, text);
  } else {
    rgm_json_number(j, key, (double)n);
  }
}


static void json_flow(const import *m, rgm_json *j) {
  rgm_json_open(j, "flow", '[');
  for (int i = 0; i < m->flow_count; i++) {
    rgm_json_open(j, NULL, '{');
    rgm_json_string(j, "rule", m->flow[i].rule);
    hidden_count(m, j, "stays", m->flow[i].stays);
    hidden_count(m, j, "patients", m->flow[i].patients);
    rgm_json_close(j, '}');
  }
  rgm_json_close(j, ']');
  rgm_json_open(j, "rows_dropped", '[');
  for (int i = 0; i < m->drop_count; i++) {
    rgm_json_open(j, NULL, '{');
    rgm_json_string(j, "table", m->drop[i].table);
    rgm_json_string(j, "why", m->drop[i].why);
    rgm_json_number(j, "rows", (double)m->drop[i].rows);
    rgm_json_close(j, '}');
  }
  rgm_json_close(j, ']');
}


static void json_variables(const import *m, rgm_json *j) {
  rgm_json_open(j, "variables", '{');
  for (int v = 0; v < m->rules.variable_count; v++) {
    const import_variable *var = &m->rules.variable[v];
    const gaps g = find_gaps(m, v);
    rgm_json_open(j, var->name, '{');
    rgm_json_string(j, "unit", var->unit);
    rgm_json_number(j, "used", (double)var->count.used);
    rgm_json_number(j, "no_number", (double)var->count.no_number);
    rgm_json_number(j, "out_of_range", (double)var->count.out_of_range);
    rgm_json_number(j, "unknown_unit", (double)var->count.unknown_unit);
    rgm_json_number(j, "marked_wrong", (double)var->count.marked_wrong);
    rgm_json_number(j, "missing_held", (double)g.missing / (double)m->panel.rows);
    rgm_json_number(j, "measured_within_1h", (double)g.fresh / (double)m->panel.rows);
    rgm_json_close(j, '}');
  }
  rgm_json_close(j, '}');
}


static void json_table1(const import *m, rgm_json *j) {
  table1 *t = malloc(sizeof *t);
  if (t != NULL && make_table1(m, t)) {
    rgm_json_open(j, "table1", '{');
    for (int i = 0; i < t->count; i++) {
      rgm_json_open(j, t->lines[i].name, '{');
      for (int g = 0; g < t->groups; g++) {
        rgm_json_string(j, t->group[g], t->lines[i].text[g]);
      }
      rgm_json_close(j, '}');
    }
    rgm_json_close(j, '}');
  }
  free(t);
}


static void json_sources(const import *m, rgm_json *j) {
  rgm_json_open(j, "sources", '{');
  for (int i = 0; i < m->source_count; i++) {
    const import_source *s = &m->source[i];
    rgm_json_open(j, s->table, '{');
    rgm_json_string(j, "sha256", s->digest);
    rgm_json_number(j, "rows", (double)s->rows);
    rgm_json_number(j, "bytes", (double)s->bytes);
    rgm_json_number(j, "text_bytes", (double)s->text_bytes);
    rgm_json_close(j, '}');
  }
  rgm_json_close(j, '}');
}


void rgm_import_report_json(const import *m, FILE *out) {
  rgm_json j = {.out = out, .first = {true}};
  rgm_json_open(&j, NULL, '{');
  const int64_t episodes = count_episodes(m);
  rgm_json_string(&j, "digest", m->data->digest);
  rgm_json_string(&j, "rules_sha256", m->rules.digest);
  if (m->rules.key.warning[0] != '\0') {
    rgm_json_string(&j, "warning", m->rules.key.warning);
  }
  rgm_json_number(&j, "episodes", (double)episodes);
  rgm_json_number(&j, "patients", (double)count_patients(m));
  rgm_json_number(&j, "rows", (double)m->panel.rows);
  struct rusage used;
  if (getrusage(RUSAGE_SELF, &used) == 0) {
    rgm_json_number(&j, "cpu_seconds",
                    (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                        1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec));
    rgm_json_number(&j, "peak_memory_kib", (double)used.ru_maxrss);
  }
  rgm_json_number(&j, "transitions", (double)(m->panel.rows - episodes));
  rgm_json_number(&j, "terminated", (double)count_rows(m, m->panel.terminated));
  rgm_json_number(&j, "truncated", (double)count_rows(m, m->panel.truncated));
  if (m->rules.monitor >= 0) {
    rgm_json_number(&j, "monitor_measured", (double)count_fresh(m));
  }
  json_flow(m, &j);
  json_variables(m, &j);
  json_table1(m, &j);
  if (m->edges != NULL) {
    rgm_json_open(&j, "action_edges", '[');
    for (int i = 0; i < m->edge_count; i++) {
      rgm_json_number(&j, NULL, m->edges[i]);
    }
    rgm_json_close(&j, ']');
    rgm_json_open(&j, "action_doses", '[');
    for (int64_t i = 0; i < m->rules.key.bins; i++) {
      rgm_json_number(&j, NULL, m->typical[i]);
    }
    rgm_json_close(&j, ']');
  }
  json_sources(m, &j);
  rgm_json_close(&j, '}');
  fprintf(out, "\n");
}


// ---- notes, CSV --------------------------------------------------------------------------------

// a list of numbers as a note
static rgm_status note_list(const import *m, const char *name, const double *x, int64_t n) {
  char text[4096] = "";
  size_t size = 0;
  for (int64_t i = 0; i < n && size + 32 < sizeof text; i++) {
    size += (size_t)snprintf(text + size, sizeof text - size, "%s%.17g", i > 0 ? ", " : "", x[i]);
  }
  return rgm_dataset_note(m->data, name, text);
}


rgm_status rgm_import_notes(import *m) {
  RGM_TRY(rgm_dataset_note(m->data, "rules", m->rules.text));
  RGM_TRY(rgm_dataset_note(m->data, "rules.sha256", m->rules.digest));
  RGM_TRY(rgm_dataset_note(m->data, "title", m->rules.key.title));
  RGM_TRY(rgm_dataset_note(m->data, "warning", m->rules.key.warning));
  if (m->rules.key.licence[0] != '\0') {
    RGM_TRY(rgm_dataset_note(m->data, "licence", m->rules.key.licence));
  }
  RGM_TRY(rgm_dataset_note(m->data, "version", rgm_version()));
  RGM_TRY(rgm_dataset_note(m->data, "commit", rgm_commit()));
  for (int i = 0; i < m->source_count; i++) {
    char name[64];
    snprintf(name, sizeof name, "source.%s.sha256", m->source[i].table);
    RGM_TRY(rgm_dataset_note(m->data, name, m->source[i].digest));
    char rows[24];
    snprintf(name, sizeof name, "source.%s.rows", m->source[i].table);
    snprintf(rows, sizeof rows, "%lld", (long long)m->source[i].rows);
    RGM_TRY(rgm_dataset_note(m->data, name, rows));
  }
  if (m->edges != NULL) {
    RGM_TRY(note_list(m, "actions.edges", m->edges, m->edge_count));
    RGM_TRY(note_list(m, "actions.doses", m->typical, m->rules.key.bins));
  }
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the report");
  }
  rgm_import_report(m, out);
  rgm_status status = fclose(out) == 0 ? rgm_dataset_note(m->data, "report", text)
                                       : rgm_fail(RGM_EMEMORY, "no memory for the report");
  free(text);
  return status;
}


static void print_cell(FILE *out, double x) {
  if (isnan(x)) {
    fputc(',', out);
  } else {
    fprintf(out, ",%.17g", x);
  }
}


// what was read, before imputation: held values by name, the monitor's as NAME_last and NAME_new
static void print_csv(const import *m, FILE *out) {
  const import_panel *p = &m->panel;
  const int variables = m->rules.variable_count, monitor = m->rules.monitor;
  const bool hospital = m->stay != NULL && m->constant == NULL, ids = m->rules.key.ids && hospital;
  const bool doses = m->dose_count > 0;
  fprintf(out, ids ? "icustay_id,subject_id,hour" : "episode,patient,hour");
  fprintf(out, hospital ? ",source" : "");
  for (int v = 0; v < variables; v++) {
    fprintf(out, ",%s%s", m->rules.variable[v].name, v == monitor ? "_last" : "");
  }
  if (monitor >= 0) {
    fprintf(out, ",%s_new", m->rules.key.outcome);
  }
  fprintf(out, doses ? ",%s_units,%s_bolus_units\n" : ",%s\n", m->rules.key.name,
          m->rules.key.name);
  for (int64_t i = 0; i < p->rows; i++) {
    const int32_t e = p->episode[i];
    fprintf(out, "%lld,%lld,%g", ids ? (long long)m->stay[e].id : (long long)e,
            ids ? (long long)m->stay[e].patient_id : (long long)p->patient[i], p->time[i]);
    if (hospital) {
      fprintf(out, ",%s", m->stay[e].source);
    }
    for (int v = 0; v < variables; v++) {
      print_cell(out, p->value[i * variables + v]);
    }
    if (monitor >= 0) {
      print_cell(out, p->fresh[i]);
    }
    print_cell(out, p->dose[i]);
    if (doses) {
      print_cell(out, p->bolus[i]);
    }
    fputc('\n', out);
  }
}


rgm_status rgm_import_write_csv(const import *m, const char *path) {
  const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); // rows of patients
  FILE *out = file < 0 ? NULL : fdopen(file, "w");
  if (out == NULL) {
    if (file >= 0) {
      close(file);
    }
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  print_csv(m, out);
  const bool failed = ferror(out) != 0;
  if (fclose(out) != 0 || failed) {
    return rgm_fail(RGM_EIO, "%s: cannot be written", path);
  }
  return RGM_OK;
}
