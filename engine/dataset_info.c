// SPDX-License-Identifier: Apache-2.0
// `regimen info` and `regimen check` of a data set. Info reads piece by piece and tells of values
// no more than three quantiles of 20 rows or more, never numbers of patients or what a column of
// role other holds; check tells rows and columns, and values only when asked to.

#include "engine/dataset_private.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  FEWEST = 20,       // values below which nothing is told of them
  SAMPLE = 1 << 22,  // values of a column that quantiles are taken of, at most
  MEMORY = 64 << 20, // bytes of samples at a time
};

// Of a column: its values, evenly spaced where there are more than SAMPLE.
typedef struct profile {
  int64_t missing, count;
  double q05, median, q95;
} profile;

// Of the whole.
typedef struct overview {
  int64_t episodes, patients, terminated, truncated;
  int64_t split[RGM_SPLITS], split_episodes[RGM_SPLITS];
} overview;


// ---- reading -----------------------------------------------------------------------------------

// Rows of the columns that make the structure: patient, episode, flags, split (-1: not there).
typedef struct scan {
  int column[5], place[5];
  double last_episode;
  overview *out;
} scan;

enum { PATIENT, EPISODE, ENDED, CUT, SPLIT };


static void scan_piece(const rgm_dataset *t, scan *s, int64_t rows, const void *const *data) {
  double value[5];
  for (int64_t r = 0; r < rows; r++) {
    for (int k = 0; k < 5; k++) {
      value[k] = 0;
      if (s->column[k] >= 0) {
        rgm_column c = t->column[s->column[k]];
        memcpy(&c.data, &data[s->place[k]], sizeof c.data);
        value[k] = rgm_cell_get(&c, r);
      }
    }
    const bool begins = s->out->episodes == 0 || value[EPISODE] != s->last_episode;
    s->out->episodes += begins;
    s->last_episode = value[EPISODE];
    s->out->terminated += value[ENDED] != 0;
    s->out->truncated += value[CUT] != 0;
    if (value[PATIENT] >= (double)s->out->patients && value[PATIENT] < 0x1p53) {
      s->out->patients = (int64_t)value[PATIENT] + 1;
    }
    if (value[SPLIT] >= 0 && value[SPLIT] < RGM_SPLITS) {
      s->out->split[(int)value[SPLIT]]++;
      s->out->split_episodes[(int)value[SPLIT]] += begins;
    }
  }
}


static rgm_status look_over(rgm_dataset_stream *stream, overview *out) {
  static const rgm_role roles[] = {RGM_ROLE_PATIENT, RGM_ROLE_EPISODE, RGM_ROLE_TERMINATED,
                                   RGM_ROLE_TRUNCATED, RGM_ROLE_SPLIT};
  const rgm_dataset *t = rgm_dataset_table(stream);
  scan s = {.out = out};
  int select[5], count = 0;
  for (int k = 0; k < 5; k++) {
    s.column[k] = rgm_dataset_role(t, roles[k]);
    s.place[k] = count;
    if (s.column[k] >= 0) {
      select[count++] = s.column[k];
    }
  }
  *out = (overview){.episodes = 0};
  if (count == 0) {
    return RGM_OK;
  }
  int64_t first, rows;
  const void *const *data;
  RGM_TRY(rgm_dataset_select(stream, select, count, 65536));
  do {
    RGM_TRY(rgm_dataset_next(stream, &first, &rows, &data));
    scan_piece(t, &s, rows, data);
  } while (rows > 0);
  return RGM_OK;
}


// Profiles of `count` columns from `at` on; `sample` is (count, room).
static rgm_status profile_columns(rgm_dataset_stream *stream, int at, int count, double *sample,
                                  int64_t room, profile *out) {
  const rgm_dataset *t = rgm_dataset_table(stream);
  const int64_t stride = (t->rows + room - 1) / (room > 0 ? room : 1);
  int select[RGM_MAX_COLUMNS];
  int64_t first, rows;
  const void *const *data;
  for (int k = 0; k < count; k++) {
    select[k] = at + k;
    out[k] = (profile){.q05 = NAN, .median = NAN, .q95 = NAN};
  }
  RGM_TRY(rgm_dataset_select(stream, select, count, 16384));
  do {
    RGM_TRY(rgm_dataset_next(stream, &first, &rows, &data));
    for (int k = 0; k < count; k++) {
      rgm_column c = t->column[at + k];
      memcpy(&c.data, &data[k], sizeof c.data);
      for (int64_t r = 0; r < rows; r++) {
        const double x = rgm_cell_get(&c, r);
        out[k].missing += isnan(x);
        if ((first + r) % stride == 0 && !isnan(x)) {
          sample[k * room + out[k].count++] = x;
        }
      }
    }
  } while (rows > 0);
  for (int k = 0; k < count; k++) {
    if (out[k].count >= FEWEST) {
      const rgm_summary s = rgm_summarise(sample + k * room, out[k].count);
      out[k].median = s.median;
      out[k].q05 = rgm_quantile_sorted(sample + k * room, out[k].count, 0.05);
      out[k].q95 = s.p95;
    }
  }
  return RGM_OK;
}


static rgm_status profile_all(rgm_dataset_stream *stream, profile *out) {
  const rgm_dataset *t = rgm_dataset_table(stream);
  const int64_t room = t->rows < SAMPLE ? t->rows : SAMPLE;
  int64_t most = room > 0 ? MEMORY / (room * (int64_t)sizeof(double)) : t->column_count;
  most = most < 1 ? 1 : most > t->column_count ? t->column_count : most;
  double *sample = malloc((size_t)(most * room + 1) * sizeof *sample);
  rgm_status status =
      sample == NULL ? rgm_fail(RGM_EMEMORY, "no memory to look at the columns") : RGM_OK;
  for (int at = 0; at < t->column_count && status == RGM_OK; at += (int)most) {
    const int left = t->column_count - at;
    const int count = left < (int)most ? left : (int)most;
    status = profile_columns(stream, at, count, sample, room, out + at);
  }
  free(sample);
  return status;
}


// ---- info --------------------------------------------------------------------------------------

// Whether quantiles of a column say nothing about a single person.
static bool may_tell(const rgm_column *c, const profile *p) {
  static const unsigned told = RGM_SEEN | 1u << RGM_ROLE_TIME | 1u << RGM_ROLE_ACTION |
                               1u << RGM_ROLE_DOSE | 1u << RGM_ROLE_REWARD | 1u << RGM_ROLE_NEXT |
                               1u << RGM_ROLE_OUTCOME;
  return (told >> c->role & 1) != 0 && p->count >= FEWEST;
}


static void print_info(const char *path, const rgm_dataset *t, const overview *o,
                       const profile *profiles, FILE *out) {
  fprintf(out,
          "%s: %s, %" PRId64 " rows, %d columns, %" PRId64 " episodes (%" PRId64
          " terminated, %" PRId64 " truncated), %" PRId64 " patients\n",
          path, t->format, t->rows, t->column_count, o->episodes, o->terminated, o->truncated,
          o->patients);
  if (t->digest[0] != '\0') {
    fprintf(out, "  %-22s %s\n", "digest", t->digest);
  }
  for (int k = 0; k < RGM_SPLITS && rgm_dataset_role(t, RGM_ROLE_SPLIT) >= 0; k++) {
    fprintf(out, "  %-22s %" PRId64 " rows, %" PRId64 " episodes\n", rgm_split_name((rgm_split)k),
            o->split[k], o->split_episodes[k]);
  }
  for (int i = 0; i < t->note_count; i++) {
    const char *text = t->note[i].text, *end = strchr(text, '\n');
    const int length = end != NULL ? (int)(end - text) : (int)strlen(text);
    fprintf(out, "  %-22s %.*s%s\n", t->note[i].name, length < 160 ? length : 160, text,
            end != NULL || length > 160 ? " ..." : "");
  }
  fprintf(out, "\n  %-24s %-10s %-4s %-10s %9s %11s %11s %11s\n", "column", "role", "type", "unit",
          "missing %", "5 %", "median", "95 %");
  for (int i = 0; i < t->column_count; i++) {
    const rgm_column *c = &t->column[i];
    const profile *p = &profiles[i];
    fprintf(out, "  %-24s %-10s %-4s %-10s %9.2f", c->name, rgm_role_name(c->role),
            rgm_cell_name(c->cell), c->unit,
            t->rows > 0 ? 100.0 * (double)p->missing / (double)t->rows : 0.0);
    if (may_tell(c, p)) {
      fprintf(out, " %11.4g %11.4g %11.4g", p->q05, p->median, p->q95);
    } else {
      fprintf(out, " %11s %11s %11s", "-", "-", "-");
    }
    fprintf(out, "%s%s\n", c->doc[0] != '\0' ? "  " : "", c->doc);
  }
}


static void json_info(const char *path, const rgm_dataset *t, const overview *o,
                      const profile *profiles, FILE *out) {
  rgm_json json = {.out = out};
  rgm_json_open(&json, NULL, '{');
  rgm_json_string(&json, "path", path);
  rgm_json_string(&json, "format", t->format);
  rgm_json_string(&json, "digest", t->digest);
  rgm_json_number(&json, "rows", (double)t->rows);
  rgm_json_number(&json, "episodes", (double)o->episodes);
  rgm_json_number(&json, "terminated", (double)o->terminated);
  rgm_json_number(&json, "truncated", (double)o->truncated);
  rgm_json_number(&json, "patients", (double)o->patients);
  if (rgm_dataset_role(t, RGM_ROLE_SPLIT) >= 0) {
    rgm_json_open(&json, "split_rows", '{');
    for (int k = 0; k < RGM_SPLITS; k++) {
      rgm_json_number(&json, rgm_split_name((rgm_split)k), (double)o->split[k]);
    }
    rgm_json_close(&json, '}');
  }
  rgm_json_open(&json, "provenance", '{');
  for (int i = 0; i < t->note_count; i++) {
    rgm_json_string(&json, t->note[i].name, t->note[i].text);
  }
  rgm_json_close(&json, '}');
  rgm_json_open(&json, "columns", '[');
  for (int i = 0; i < t->column_count; i++) {
    const rgm_column *c = &t->column[i];
    const bool told = may_tell(c, &profiles[i]);
    rgm_json_open(&json, NULL, '{');
    rgm_json_string(&json, "name", c->name);
    rgm_json_string(&json, "role", rgm_role_name(c->role));
    rgm_json_string(&json, "type", rgm_cell_name(c->cell));
    rgm_json_string(&json, "unit", c->unit);
    rgm_json_string(&json, "doc", c->doc);
    rgm_json_number(&json, "missing", (double)profiles[i].missing);
    rgm_json_number(&json, "q05", told ? profiles[i].q05 : NAN);
    rgm_json_number(&json, "median", told ? profiles[i].median : NAN);
    rgm_json_number(&json, "q95", told ? profiles[i].q95 : NAN);
    rgm_json_close(&json, '}');
  }
  rgm_json_close(&json, ']');
  rgm_json_close(&json, '}');
}


rgm_status rgm_dataset_info(const char *path, bool json, FILE *out) {
  rgm_dataset_stream *stream;
  overview o;
  RGM_TRY(rgm_dataset_open(path, &stream));
  const rgm_dataset *t = rgm_dataset_table(stream);
  profile *profiles = calloc((size_t)t->column_count, sizeof *profiles);
  rgm_status status = profiles == NULL ? rgm_fail(RGM_EMEMORY, "%s: no memory to look at it", path)
                                       : look_over(stream, &o);
  if (status == RGM_OK) {
    status = profile_all(stream, profiles);
  }
  if (status == RGM_OK) {
    (json ? json_info : print_info)(path, t, &o, profiles, out);
  }
  free(profiles);
  rgm_dataset_close(stream);
  return status;
}


// ---- check -------------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end) {
  const size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}


bool rgm_dataset_is_table(const char *path) {
  return ends_with(path, ".csv") || ends_with(path, ".csv.gz");
}


// A CSV table of numbers, whose columns have no roles; row 0 is the file's line 2.
rgm_status rgm_dataset_from_csv(const char *path, rgm_dataset **out) {
  rgm_table table;
  *out = NULL;
  RGM_TRY(rgm_table_read_csv(path, &table));
  rgm_dataset *d = rgm_dataset_new(table.rows);
  for (int i = 0; d != NULL && i < table.columns; i++) {
    rgm_column *c = rgm_dataset_add(d, table.name[i], RGM_ROLE_OTHER, RGM_CELL_F64, "");
    for (int64_t r = 0; c != NULL && r < table.rows; r++) {
      ((double *)c->data)[r] = table.value[r * table.columns + i];
    }
    if (c == NULL) {
      rgm_dataset_free(d);
      d = NULL;
    }
  }
  rgm_table_free(&table);
  if (d == NULL) {
    return RGM_EMEMORY;
  }
  snprintf(d->format, sizeof d->format, "csv");
  d->first_row = 2;
  *out = d;
  return RGM_OK;
}


static const char *const severity_names[] = {"hint", "warning", "error"};


static void print_finding(const rgm_dataset *d, const rgm_finding *f, bool show, FILE *out) {
  fprintf(out, "%-8s %-20s", severity_names[f->severity], f->kind);
  if (f->row >= 0) {
    fprintf(out, " row %" PRId64, f->row + d->first_row);
  }
  if (f->column >= 0) {
    fprintf(out, "%s column %s", f->row >= 0 ? "," : "", d->column[f->column].name);
  }
  if (f->count > 1) {
    fprintf(out, " (%" PRId64 " rows)", f->count);
  }
  if (show && f->row >= 0 && f->column >= 0) {
    fprintf(out, " = %.9g", rgm_cell_get(&d->column[f->column], f->row));
  }
  fprintf(out, "%s %s\n", f->row >= 0 || f->column >= 0 ? ":" : "", f->text);
}


static void json_finding(rgm_json *json, const rgm_dataset *d, const rgm_finding *f, bool show) {
  rgm_json_open(json, NULL, '{');
  rgm_json_string(json, "severity", severity_names[f->severity]);
  rgm_json_string(json, "kind", f->kind);
  if (f->row >= 0) {
    rgm_json_number(json, "row", (double)(f->row + d->first_row));
  }
  if (f->column >= 0) {
    rgm_json_string(json, "column", d->column[f->column].name);
  }
  if (show && f->row >= 0 && f->column >= 0) {
    rgm_json_number(json, "value", rgm_cell_get(&d->column[f->column], f->row));
  }
  rgm_json_number(json, "rows", (double)f->count);
  rgm_json_string(json, "text", f->text);
  rgm_json_close(json, '}');
}


rgm_status rgm_dataset_report(const char *path, bool json, bool show_values, FILE *out) {
  rgm_dataset *d;
  rgm_finding *found;
  int count, of[3] = {0, 0, 0};
  RGM_TRY(rgm_dataset_is_table(path) ? rgm_dataset_from_csv(path, &d) : rgm_dataset_read(path, &d));
  rgm_status status = rgm_dataset_check(d, &found, &count);
  for (int i = 0; i < count; i++) {
    of[found[i].severity]++;
  }
  rgm_json j = {.out = json ? out : NULL};
  rgm_json_open(&j, NULL, '{');
  rgm_json_string(&j, "path", path);
  rgm_json_string(&j, "format", d->format);
  rgm_json_string(&j, "digest", d->digest);
  rgm_json_number(&j, "rows", (double)d->rows);
  rgm_json_number(&j, "columns", d->column_count);
  rgm_json_open(&j, "findings", '[');
  for (int i = 0; i < count; i++) {
    json_finding(&j, d, &found[i], show_values);
    if (!json) {
      print_finding(d, &found[i], show_values, out);
    }
  }
  rgm_json_close(&j, ']');
  rgm_json_close(&j, '}');
  if (status == RGM_OK && !json) {
    fprintf(out,
            "%s: %s, %" PRId64 " rows from row %" PRId64
            " on, %d columns: %d errors, %d warnings, %d hints%s%s\n",
            path, d->format, d->rows, d->first_row, d->column_count, of[RGM_ERROR], of[RGM_WARNING],
            of[RGM_HINT], d->digest[0] != '\0' ? "; digest " : "", d->digest);
  }
  free(found);
  rgm_dataset_free(d);
  if (status == RGM_OK && of[RGM_ERROR] > 0) {
    status = rgm_fail(RGM_EDATA, "%s: %d kinds of error in the data; correct them before training",
                      path, of[RGM_ERROR]);
  }
  return status;
}
