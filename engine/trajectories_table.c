// SPDX-License-Identifier: Apache-2.0
// A long table of stays by steps: columns by the rules, rows checked and put in order, stays
// numbered by their ids, training and held-out ones by patient. Ids are forgotten here.

#include "engine/import.h"
#include "engine/trajectories.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

// Columns of the file.
typedef struct layout {
  int id, patient, step, action, outcome, dose[RGM_DRUGS];
  int feature[RGM_FEATURES];
  import_texts stays, patients;
} layout;


// ---- columns -----------------------------------------------------------------------------------

// the next item of "a | b* | c" without blanks; false after the last
static bool next_item(const char **at, char item[RGM_STRING_SIZE]) {
  while (**at != '\0') {
    size_t size = strcspn(*at, "|");
    const char *from = *at;
    *at += size + ((*at)[size] == '|');
    for (; size > 0 && *from == ' '; size--) {
      from++;
    }
    for (; size > 0 && from[size - 1] == ' ';) {
      size--;
    }
    if (size > 0) {
      snprintf(item, RGM_STRING_SIZE, "%.*s", (int)size, from);
      return true;
    }
  }
  return false;
}


// whether a name is the item, or begins with it where it ends with a star
static bool fits(const char *item, const char *name) {
  const size_t size = strlen(item);
  return size > 0 && item[size - 1] == '*' ? strncasecmp(item, name, size - 1) == 0
                                           : strcasecmp(item, name) == 0;
}


static bool listed(const char *list, const char *name) {
  char item[RGM_STRING_SIZE];
  while (next_item(&list, item)) {
    if (fits(item, name)) {
      return true;
    }
  }
  return false;
}


// every item of a list is some column of the file
static rgm_status check_list(const rgm_csv *csv, const char *key, const char *list) {
  char item[RGM_STRING_SIZE];
  while (next_item(&list, item)) {
    bool any = false;
    for (int c = 0; c < rgm_csv_columns(csv) && !any; c++) {
      any = fits(item, rgm_csv_name(csv, c));
    }
    if (!any) {
      const char *names[256] = {NULL};
      for (int c = 0; c < rgm_csv_columns(csv) && c < 255; c++) {
        names[c] = rgm_csv_name(csv, c);
      }
      const char *nearest = rgm_nearest(item, names);
      return rgm_fail(RGM_EDATA, "%s: columns.%s: there is no column %s%s%s", rgm_csv_path(csv),
                      key, item, nearest != NULL ? "; did you mean " : "",
                      nearest != NULL ? nearest : "");
    }
  }
  return RGM_OK;
}


static rgm_status find_drugs(trajectories *t, const rgm_csv *csv, layout *l) {
  const char *list = t->key.doses;
  char item[RGM_STRING_SIZE];
  while (next_item(&list, item)) {
    if (t->drugs == RGM_DRUGS || strlen(item) >= sizeof t->drug[0]) {
      return rgm_fail(RGM_ECONFIG, "%s: columns.doses: one or two drugs with short names",
                      rgm_csv_path(csv));
    }
    RGM_TRY(rgm_csv_need(csv, item, &l->dose[t->drugs]));
    memcpy(t->drug[t->drugs++], item, strlen(item) + 1);
  }
  if ((t->drugs > 0) == (t->key.action[0] != '\0')) {
    return rgm_fail(RGM_ECONFIG,
                    "%s: name either columns.doses (amounts, to be binned) or columns.action "
                    "(numbers of actions)",
                    rgm_csv_path(csv));
  }
  return RGM_OK;
}


// features: those that are listed, or all columns that are nothing else
static rgm_status find_features(trajectories *t, const rgm_csv *csv, layout *l) {
  const trajectory_keys *k = &t->key;
  for (int c = 0; c < rgm_csv_columns(csv); c++) {
    const char *name = rgm_csv_name(csv, c);
    bool other = c == l->id || c == l->patient || c == l->step || c == l->action ||
                 c == l->outcome || listed(k->ignore, name);
    for (int d = 0; d < t->drugs; d++) {
      other = other || c == l->dose[d];
    }
    if (other || (k->features[0] != '\0' && !listed(k->features, name))) {
      continue;
    }
    if (t->features == RGM_FEATURES || strlen(name) >= sizeof t->name[0]) {
      return rgm_fail(RGM_EDATA, "%s: column %d: at most %d features, with names of 63 characters",
                      rgm_csv_path(csv), c + 1, RGM_FEATURES);
    }
    const bool skewed = listed(k->skewed, name), binary = listed(k->binary, name);
    if (skewed && binary) {
      return rgm_fail(RGM_ECONFIG, "%s: column %s is both skewed and binary", rgm_csv_path(csv),
                      name);
    }
    snprintf(t->name[t->features], sizeof t->name[0], "%s", name);
    t->scaling[t->features] = skewed ? RGM_SCALE_LOG : binary ? RGM_SCALE_BINARY : RGM_SCALE_Z;
    l->feature[t->features++] = c;
  }
  return t->features > 0 ? RGM_OK
                         : rgm_fail(RGM_EDATA, "%s: no column is a feature; see columns.features",
                                    rgm_csv_path(csv));
}


static rgm_status find_columns(trajectories *t, const rgm_csv *csv, layout *l) {
  const trajectory_keys *k = &t->key;
  l->patient = l->action = l->outcome = -1;
  RGM_TRY(rgm_csv_need(csv, k->id, &l->id));
  RGM_TRY(rgm_csv_need(csv, k->step, &l->step));
  RGM_TRY(rgm_csv_need(csv, k->outcome, &l->outcome));
  if (k->patient[0] != '\0') {
    RGM_TRY(rgm_csv_need(csv, k->patient, &l->patient));
  }
  if (k->action[0] != '\0') {
    RGM_TRY(rgm_csv_need(csv, k->action, &l->action));
  }
  RGM_TRY(check_list(csv, "features", k->features));
  RGM_TRY(check_list(csv, "skewed", k->skewed));
  RGM_TRY(check_list(csv, "binary", k->binary));
  RGM_TRY(check_list(csv, "ignore", k->ignore));
  RGM_TRY(find_drugs(t, csv, l));
  return find_features(t, csv, l);
}


// ---- rows --------------------------------------------------------------------------------------

static rgm_status grow(void **array, int64_t room, size_t size) {
  void *larger = realloc(*array, (size_t)room * size + 1);
  if (larger == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld rows", (long long)room);
  }
  *array = larger;
  return RGM_OK;
}


// the arrays of a row, for growing and for sorting
enum { PARTS = 8 };
typedef struct part {
  void **data;
  size_t size;
} part;

static void list_parts(trajectories *t, part out[PARTS]) {
  const part all[PARTS] = {
      {(void **)&t->x, (size_t)t->features * sizeof *t->x},
      {(void **)&t->dose, (size_t)t->drugs * sizeof *t->dose},
      {(void **)&t->action, sizeof *t->action},
      {(void **)&t->step, sizeof *t->step},
      {(void **)&t->stay, sizeof *t->stay},
      {(void **)&t->place, sizeof *t->place},
      {(void **)&t->outcome, sizeof *t->outcome},
      {(void **)&t->patient, sizeof *t->patient},
  };
  memcpy(out, all, sizeof all);
}


static rgm_status make_room(trajectories *t) {
  part parts[PARTS];
  if (t->rows < t->room) {
    return RGM_OK;
  }
  const int64_t room = t->room > 0 ? 2 * t->room : 4096;
  list_parts(t, parts);
  for (int i = 0; i < PARTS; i++) {
    RGM_TRY(grow(parts[i].data, room, parts[i].size));
  }
  t->room = room;
  return RGM_OK;
}


static bool is_missing(const char *text) {
  return strcmp(text, "NA") == 0 || strcasecmp(text, "nan") == 0 || strcmp(text, ".") == 0 ||
         strcasecmp(text, "null") == 0;
}


rgm_status rgm_trajectories_number(const rgm_csv *csv, const rgm_csv_field *fields, int column,
                                   double *out) {
  const rgm_csv_kind kind = rgm_csv_number(fields[column], out);
  if (kind == RGM_CSV_EMPTY || (kind == RGM_CSV_TEXT && is_missing(fields[column].text))) {
    *out = NAN;
    return RGM_OK;
  }
  return kind == RGM_CSV_NUMBER && fabs(*out) < 1e30
             ? RGM_OK
             : rgm_import_bad(csv, column, "no number; a column of texts goes into columns.ignore");
}


static rgm_status read_text(const rgm_csv *csv, const rgm_csv_field *fields, int column,
                            import_texts *texts, int64_t *number) {
  if (fields[column].size == 0) {
    return rgm_import_bad(csv, column, "no id; every row belongs to somebody");
  }
  return rgm_import_text_add(texts, fields[column].text, fields[column].size, number);
}


static rgm_status read_features(trajectories *t, const rgm_csv *csv, const rgm_csv_field *fields,
                                const layout *l) {
  for (int d = 0; d < t->features; d++) {
    double x;
    RGM_TRY(rgm_trajectories_number(csv, fields, l->feature[d], &x));
    const char *why = rgm_origin_refuses((rgm_scaling)t->scaling[d], x);
    if (why != NULL) {
      char text[128];
      snprintf(text, sizeof text, "%s; take it out of columns.%s", why,
               t->scaling[d] == RGM_SCALE_LOG ? "skewed" : "binary");
      return rgm_import_bad(csv, l->feature[d], text);
    }
    t->x[t->rows * t->features + d] = (float)x;
  }
  return RGM_OK;
}


static rgm_status read_treatment(trajectories *t, const rgm_csv *csv, const rgm_csv_field *fields,
                                 const layout *l) {
  for (int d = 0; d < t->drugs; d++) {
    double dose;
    RGM_TRY(rgm_trajectories_number(csv, fields, l->dose[d], &dose));
    if (isnan(dose) && t->key.missing_dose == DOSE_REFUSE) {
      return rgm_import_bad(csv, l->dose[d],
                            "no dose; where that means none was given, set actions.missing: zero");
    }
    if (dose < 0.0) {
      return rgm_import_bad(csv, l->dose[d], "a negative dose");
    }
    t->dose[t->rows * t->drugs + d] = isnan(dose) ? 0.0 : dose;
  }
  t->action[t->rows] = 0;
  if (l->action >= 0) {
    double a;
    RGM_TRY(rgm_trajectories_number(csv, fields, l->action, &a));
    if (!(a >= 0.0 && a < RGM_BLOCK_ROWS) || floor(a) != a) {
      return rgm_import_bad(csv, l->action, "no action; they are whole numbers from 0 to 4095");
    }
    t->action[t->rows] = (int32_t)a;
  }
  return RGM_OK;
}


static rgm_status read_row(trajectories *t, const rgm_csv *csv, const rgm_csv_field *fields,
                           layout *l) {
  const int64_t row = t->rows;
  RGM_TRY(make_room(t));
  t->place[row] = rgm_csv_row(csv);
  RGM_TRY(read_text(csv, fields, l->id, &l->stays, &t->stay[row]));
  t->patient[row] = t->stay[row];
  if (l->patient >= 0) {
    RGM_TRY(read_text(csv, fields, l->patient, &l->patients, &t->patient[row]));
  }
  RGM_TRY(rgm_trajectories_number(csv, fields, l->step, &t->step[row]));
  if (isnan(t->step[row])) {
    return rgm_import_bad(csv, l->step, "no step; rows of a stay are ordered by it");
  }
  RGM_TRY(read_features(t, csv, fields, l));
  RGM_TRY(read_treatment(t, csv, fields, l));
  const rgm_csv_field *said = &fields[l->outcome];
  t->outcome[row] = said->size == 0 || is_missing(said->text)     ? -1
                    : rgm_import_in_list(t->key.died, said->text) ? 1
                                                                  : 0;
  t->rows++;
  return RGM_OK;
}


// ---- order -------------------------------------------------------------------------------------

typedef struct key {
  int64_t stay, row;
  double step;
} key;


static int by_step(const void *x, const void *y) {
  const key *a = x, *b = y;
  return a->stay != b->stay   ? (a->stay > b->stay) - (a->stay < b->stay)
         : a->step != b->step ? (a->step > b->step) - (a->step < b->step)
                              : (a->row > b->row) - (a->row < b->row);
}


typedef struct named {
  const char *text;
  int64_t number;
} named;


static int by_id(const void *x, const void *y) {
  return rgm_import_compare_ids(((const named *)x)->text, ((const named *)y)->text);
}


// numbers in the order of the ids: rank (count) of each number
static rgm_status rank_ids(const import_texts *texts, int64_t **rank) {
  named *all = malloc((size_t)texts->count * sizeof *all + 1);
  *rank = malloc((size_t)texts->count * sizeof **rank + 1);
  if (all == NULL || *rank == NULL) {
    free(all);
    return rgm_fail(RGM_EMEMORY, "no memory for %lld ids", (long long)texts->count);
  }
  for (int64_t i = 0; i < texts->count; i++) {
    all[i] = (named){texts->text + texts->at[i], i};
  }
  qsort(all, (size_t)texts->count, sizeof *all, by_id);
  for (int64_t i = 0; i < texts->count; i++) {
    (*rank)[all[i].number] = i;
  }
  free(all);
  return RGM_OK;
}


// rows by stay and step, in all arrays
static rgm_status sort_rows(trajectories *t, const int64_t *rank) {
  part parts[PARTS];
  list_parts(t, parts);
  size_t widest = sizeof(double);
  for (int i = 0; i < PARTS; i++) {
    widest = parts[i].size > widest ? parts[i].size : widest;
  }
  key *order = malloc((size_t)t->rows * sizeof *order);
  char *sorted = malloc((size_t)t->rows * widest);
  if (order == NULL || sorted == NULL) {
    free(order);
    free(sorted);
    return rgm_fail(RGM_EMEMORY, "no memory to sort %lld rows", (long long)t->rows);
  }
  for (int64_t i = 0; i < t->rows; i++) {
    t->stay[i] = rank[t->stay[i]];
    order[i] = (key){t->stay[i], i, t->step[i]};
  }
  qsort(order, (size_t)t->rows, sizeof *order, by_step);
  for (int p = 0; p < PARTS; p++) {
    const size_t size = parts[p].size;
    for (int64_t i = 0; i < t->rows; i++) {
      memcpy(sorted + (size_t)i * size, (const char *)*parts[p].data + (size_t)order[i].row * size,
             size);
    }
    memcpy(*parts[p].data, sorted, (size_t)t->rows * size);
  }
  free(order);
  free(sorted);
  return RGM_OK;
}


// ---- stays -------------------------------------------------------------------------------------

// the least distance of two steps of a stay: what is further apart has a gap
static double find_unit(const trajectories *t) {
  double unit = INFINITY;
  for (int64_t row = 1; row < t->rows; row++) {
    const double apart = t->step[row] - t->step[row - 1];
    unit = t->stay[row] == t->stay[row - 1] && apart > 0.0 && apart < unit ? apart : unit;
  }
  return unit;
}


// the end of stay i, from all its rows
static rgm_status find_end(trajectories *t, int64_t i, double unit) {
  int outcome = -1;
  for (int64_t row = t->first[i]; row < t->first[i + 1]; row++) {
    if (row > t->first[i] && t->step[row] == t->step[row - 1]) {
      return rgm_fail(RGM_EDATA, "%s: rows %lld and %lld are the same step of one stay", t->path,
                      (long long)t->place[row - 1], (long long)t->place[row]);
    }
    if (row > t->first[i] && t->patient[row] != t->patient[row - 1]) {
      return rgm_fail(RGM_EDATA, "%s: rows %lld and %lld are one stay of two patients", t->path,
                      (long long)t->place[row - 1], (long long)t->place[row]);
    }
    if (t->outcome[row] >= 0 && outcome >= 0 && t->outcome[row] != outcome) {
      return rgm_fail(RGM_EDATA,
                      "%s: row %lld: the outcome contradicts that of an earlier row of the stay; "
                      "it is one for a stay, in any or all of its rows",
                      t->path, (long long)t->place[row]);
    }
    outcome = t->outcome[row] >= 0 ? t->outcome[row] : outcome;
    t->count.gaps += row > t->first[i] && t->step[row] > t->step[row - 1] + 1.5 * unit;
  }
  t->end[i] = outcome < 0 ? RGM_STAY_CUT : outcome == 1 ? RGM_STAY_DIED : RGM_STAY_SURVIVED;
  return RGM_OK;
}


// Parts by patient: each one's follows from seed and number alone, as in rgm_dataset_split.
static bool is_held(const trajectory_keys *k, int64_t patient) {
  const uint64_t who = (uint64_t)patient, seed = (uint64_t)k->split_seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_words w = rgm_philox(rgm_stream_key(words, RGM_RANDOM_SPLIT), (uint32_t)who,
                                 (uint32_t)(who >> 32), 0, 0);
  return (double)w.w0 * 0x1p-32 < k->held;
}


static rgm_status find_stays(trajectories *t, int64_t stays, const int64_t *patient_rank) {
  t->stays = stays;
  t->first = calloc((size_t)stays + 1, sizeof *t->first);
  t->held = calloc((size_t)stays + 1, 1);
  t->end = calloc((size_t)stays + 1, 1);
  t->who = calloc((size_t)stays + 1, sizeof *t->who);
  if (t->first == NULL || t->held == NULL || t->end == NULL || t->who == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for %lld stays", (long long)stays);
  }
  for (int64_t row = 0; row < t->rows; row++) {
    t->first[t->stay[row] + 1] = row + 1;
  }
  trajectory_counts *c = &t->count;
  const double unit = find_unit(t);
  for (int64_t i = 0; i < stays; i++) {
    RGM_TRY(find_end(t, i, unit));
    t->who[i] = patient_rank[t->patient[t->first[i]]];
    t->held[i] = is_held(&t->key, t->who[i]);
    c->held_stays += t->held[i];
    c->cut += t->end[i] == RGM_STAY_CUT;
    c->died += t->end[i] == RGM_STAY_DIED;
    c->held_died += t->end[i] == RGM_STAY_DIED && t->held[i] != 0;
  }
  c->rows = t->rows;
  c->stays = stays;
  if (c->held_stays == stays) {
    return rgm_fail(RGM_EDATA, "%s: all %lld stays are held out; lower split.held_out", t->path,
                    (long long)stays);
  }
  if (c->cut == stays) {
    return rgm_fail(RGM_EDATA, "%s: column %s says of no stay how it ended", t->path,
                    t->key.outcome);
  }
  return RGM_OK;
}


static rgm_status put_in_order(trajectories *t, const layout *l) {
  int64_t *rank = NULL, *patient_rank = NULL;
  const bool own = l->patient >= 0;
  rgm_status status = rank_ids(&l->stays, &rank);
  status = status == RGM_OK && own ? rank_ids(&l->patients, &patient_rank) : status;
  status = status == RGM_OK ? sort_rows(t, rank) : status;
  status = status == RGM_OK ? find_stays(t, l->stays.count, own ? patient_rank : rank) : status;
  const int64_t patients = own ? l->patients.count : l->stays.count;
  t->count.patients = patients;
  for (int64_t i = 0; i < patients; i++) {
    t->count.held_patients += is_held(&t->key, i);
  }
  free(rank);
  free(patient_rank);
  return status;
}


rgm_status rgm_trajectories_read(trajectories *t) {
  rgm_csv *csv = NULL;
  layout *l = calloc(1, sizeof *l);
  t->name = calloc(RGM_FEATURES, sizeof *t->name);
  rgm_status status = l != NULL && t->name != NULL ? rgm_csv_open(t->path, true, &csv)
                                                   : rgm_fail(RGM_EMEMORY, "no memory to read");
  status = status == RGM_OK ? find_columns(t, csv, l) : status;
  rgm_csv_field *fields = NULL;
  status = status == RGM_OK ? rgm_csv_next(csv, &fields) : status;
  while (status == RGM_OK && fields != NULL) {
    status = read_row(t, csv, fields, l);
    status = status == RGM_OK ? rgm_csv_next(csv, &fields) : status;
  }
  if (status == RGM_OK && t->rows == 0) {
    status = rgm_fail(RGM_EDATA, "%s: no rows under a header line", t->path);
  }
  status = status == RGM_OK ? put_in_order(t, l) : status;
  if (status == RGM_OK) {
    rgm_csv_digest(csv, t->digest);
  }
  rgm_csv_close(csv);
  if (l != NULL) {
    rgm_import_texts_free(&l->stays);
    rgm_import_texts_free(&l->patients);
  }
  free(l);
  return status;
}
