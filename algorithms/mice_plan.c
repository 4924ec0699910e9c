// SPDX-License-Identifier: Apache-2.0
// What the chains of mice.c do: missing cells, methods, predictors, derived columns and arms from
// the config; and their random numbers.

#include "algorithms/mice_private.h"
#include "engine/csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const method_names[] = {"pmm", "norm", "logreg", "polyreg", NULL};


// ---- random numbers ----------------------------------------------------------------------------

void mice_start(mice_draws *d, const mice_plan *p, int64_t imputation, int64_t iteration,
                int column, int arm) {
  *d = (mice_draws){.key = p->key,
                    .step = (uint32_t)imputation,
                    .item = (uint32_t)iteration,
                    .member = (uint32_t)(column * MICE_ARMS + arm)};
}


static uint32_t next_word(mice_draws *d) {
  if (d->left == 0) {
    const rgm_words w = rgm_philox(d->key, d->step, d->item, d->draw++, d->member);
    d->word[3] = w.w0;
    d->word[2] = w.w1;
    d->word[1] = w.w2;
    d->word[0] = w.w3;
    d->left = 4;
  }
  return d->word[--d->left];
}


double mice_unit(mice_draws *d) {
  const uint32_t high = next_word(d), low = next_word(d);
  return ((double)(((uint64_t)high << 21) | (low >> 11)) + 0.5) * 0x1p-53;
}


uint32_t mice_below(mice_draws *d, uint32_t count) {
  const uint32_t refused = (0u - count) % count;
  for (;;) {
    const uint64_t product = (uint64_t)next_word(d) * count;
    if ((uint32_t)product >= refused) {
      return (uint32_t)(product >> 32);
    }
  }
}


// Marsaglia's polar method, in double
double mice_normal(mice_draws *d) {
  if (d->has_normal) {
    d->has_normal = false;
    return d->normal;
  }
  for (;;) {
    const double u = 2.0 * mice_unit(d) - 1.0, v = 2.0 * mice_unit(d) - 1.0, s = u * u + v * v;
    if (s > 0.0 && s < 1.0) {
      const double factor = rgm_sqrt64(-2.0 * rgm_log64(s) / s);
      d->normal = v * factor;
      d->has_normal = true;
      return u * factor;
    }
  }
}


// twice a gamma variate of df / 2 (Marsaglia & Tsang 2000), df >= 1
double mice_chi_square(mice_draws *d, double df) {
  const double shape = df / 2.0, add = shape < 1.0 ? 1.0 : 0.0, a = shape + add - 1.0 / 3.0;
  const double c = 1.0 / rgm_sqrt64(9.0 * a);
  for (;;) {
    const double x = mice_normal(d), t = 1.0 + c * x, v = t * t * t;
    if (t > 0.0 && rgm_log64(mice_unit(d)) < 0.5 * x * x + a - a * v + a * rgm_log64(v)) {
      const double less = add > 0 ? rgm_exp64(rgm_log64(mice_unit(d)) / shape) : 1.0;
      return 2.0 * a * v * less;
    }
  }
}


// ---- sorting -----------------------------------------------------------------------------------

// a key in the order of doubles
static uint64_t key_of(double x) {
  const uint64_t bits = rgm_bits64(x);
  return bits >> 63 ? ~bits : bits | 0x8000000000000000u;
}


// words by their upper halves, digit by digit from the lowest; stable. The result is in `spare`.
static void sort_halves(uint64_t *words, int64_t count, uint64_t *spare) {
  enum { DIGITS = 3, BUCKETS = 1 << 11 };
  static const int shift[DIGITS] = {32, 43, 54};
  uint64_t *from = words, *to = spare;
  for (int digit = 0; digit < DIGITS; digit++) {
    int64_t place[BUCKETS + 1] = {0};
    for (int64_t i = 0; i < count; i++) {
      place[(from[i] >> shift[digit] & (BUCKETS - 1)) + 1]++;
    }
    for (int k = 0; k < BUCKETS; k++) {
      place[k + 1] += place[k];
    }
    for (int64_t i = 0; i < count; i++) {
      to[place[from[i] >> shift[digit] & (BUCKETS - 1)]++] = from[i];
    }
    uint64_t *const other = from;
    from = to;
    to = other;
  }
}


// Numbers whose keys begin alike, by the rest of them; `words` hold which ones.
static void sort_run(const double *x, uint64_t *words, int64_t count, uint64_t *spare) {
  enum { SHORT = 32 };
  for (int64_t i = 0; i < count; i++) {
    const uint64_t which = words[i] & 0xffffffffu;
    words[i] = key_of(x[which]) << 32 | which;
  }
  if (count > SHORT) {
    sort_halves(words, count, spare);
    memcpy(words, spare, (size_t)count * sizeof *words);
    return;
  }
  for (int64_t i = 1; i < count; i++) {
    const uint64_t word = words[i];
    int64_t to = i;
    for (; to > 0 && words[to - 1] > word; to--) {
      words[to] = words[to - 1];
    }
    words[to] = word;
  }
}


// The upper halves of keys, each with its number, are sorted first: few of them are alike.
void mice_sort(const double *x, int64_t count, uint64_t *order, uint64_t *spare) {
  for (int64_t i = 0; i < count; i++) {
    spare[i] = (key_of(x[i]) & 0xffffffff00000000u) | (uint64_t)i;
  }
  sort_halves(spare, count, order);
  for (int64_t first = 0, end; first < count; first = end) {
    const uint64_t half = order[first] >> 32;
    for (end = first + 1; end < count && order[end] >> 32 == half; end++) {
    }
    if (end - first > 1) {
      sort_run(x, order + first, end - first, spare);
    }
  }
  for (int64_t i = 0; i < count; i++) {
    order[i] &= 0xffffffffu;
  }
}


// ---- cells of a file ---------------------------------------------------------------------------

typedef struct cell_file {
  rgm_csv *csv;
  int row, col, sets, set[1024];
} cell_file;


static rgm_status open_cells(const char *path, cell_file *f) {
  *f = (cell_file){0};
  RGM_TRY(rgm_csv_open(path, false, &f->csv));
  RGM_TRY(rgm_csv_need(f->csv, "row", &f->row));
  RGM_TRY(rgm_csv_need(f->csv, "col", &f->col));
  for (f->sets = 0; f->sets < 1024; f->sets++) {
    char name[16];
    snprintf(name, sizeof name, "X%d", f->sets + 1);
    f->set[f->sets] = rgm_csv_find(f->csv, name);
    if (f->set[f->sets] < 0) {
      break;
    }
  }
  return RGM_OK;
}


static rgm_status read_cells(const mice_keys *keys, rgm_frame *frame, int64_t imputations,
                             mice_plan *p, cell_file *f) {
  const char *path = keys->cells;
  int64_t capacity = 0;
  rgm_csv_field *fields;
  if (keys->given && f->sets < imputations) {
    return rgm_fail(RGM_EDATA,
                    "%s: has %d imputations (X1, X2, ...); algorithm.imputations asks "
                    "for %lld",
                    path, f->sets, (long long)imputations);
  }
  for (;;) {
    RGM_TRY(rgm_csv_next(f->csv, &fields));
    if (fields == NULL) {
      return RGM_OK;
    }
    const long long line = (long long)rgm_csv_row(f->csv);
    int64_t row;
    const int column = rgm_frame_find(frame, fields[f->col].text);
    if (rgm_csv_id(fields[f->row], &row) != RGM_CSV_NUMBER || row >= frame->rows) {
      return rgm_fail(RGM_EDATA, "%s:%lld: row is not a number from 0 to %lld", path, line,
                      (long long)frame->rows - 1);
    }
    if (column < 0) {
      return rgm_fail(RGM_EDATA, "%s:%lld: the data have no column %.63s", path, line,
                      fields[f->col].text);
    }
    const int64_t cell = row * frame->columns + column;
    frame->value[cell] = NAN;
    if (!keys->given) {
      continue;
    }
    if (p->given_count == capacity) {
      capacity = capacity > 0 ? 2 * capacity : 1024;
      double *given = realloc(p->given, (size_t)(capacity * f->sets) * sizeof *given);
      p->given = given != NULL ? given : p->given;
      int64_t *cells = realloc(p->given_cell, (size_t)capacity * sizeof *cells);
      p->given_cell = cells != NULL ? cells : p->given_cell;
      if (given == NULL || cells == NULL) {
        return rgm_fail(RGM_EMEMORY, "%s: no memory for its cells", path);
      }
    }
    p->given_cell[p->given_count] = cell;
    for (int k = 0; k < f->sets; k++) {
      double *to = &p->given[p->given_count * f->sets + k];
      if (rgm_csv_number(fields[f->set[k]], to) != RGM_CSV_NUMBER) {
        return rgm_fail(RGM_EDATA, "%s:%lld: column X%d: a number is expected", path, line, k + 1);
      }
    }
    p->given_count++;
    p->given_sets = f->sets;
  }
}


// ---- lists of the config -----------------------------------------------------------------------

// the next item of a list at commas, trimmed; false at its end
static bool next_item(const char **at, char *item, size_t size) {
  while (**at == ' ' || **at == ',') {
    (*at)++;
  }
  if (**at == '\0') {
    return false;
  }
  size_t length = strcspn(*at, ",");
  const char *begin = *at;
  *at += length;
  while (length > 0 && begin[length - 1] == ' ') {
    length--;
  }
  snprintf(item, size, "%.*s", (int)(length < size ? length : size - 1), begin);
  return true;
}


static rgm_status find_column(const mice_plan *p, const char *where, const char *name, int *out) {
  *out = rgm_frame_find(&p->frame, name);
  const char *nearest = rgm_frame_nearest(&p->frame, name);
  return *out >= 0 ? RGM_OK
                   : rgm_fail(RGM_EDATA, "%s: the data have no column %s%s%s%s", where, name,
                              nearest != NULL ? "; did you mean " : "",
                              nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
}


// "column = text" of an item; the text's place in it
static rgm_status split_item(const mice_plan *p, const char *where, char *item, int *column,
                             char **text) {
  char *equals = strchr(item, '=');
  if (equals == NULL) {
    return rgm_fail(RGM_ECONFIG, "%s: \"%s\": expected column = ...", where, item);
  }
  *text = equals + 1 + strspn(equals + 1, " ");
  *equals = '\0';
  for (char *end = equals; end > item && end[-1] == ' '; end--) {
    end[-1] = '\0';
  }
  return find_column(p, where, item, column);
}


typedef struct choices {
  const rgm_config *config;
  const char *section;
  char where[256];
  int method[256]; // by column, -1: the default
  bool excluded[256], derived[256];
  const char *predictors[256]; // where in the config's text, NULL: all
  int order[256], ordered;
} choices;


static const char *at_key(choices *c, const char *key) {
  char name[64];
  snprintf(name, sizeof name, "%s.impute.%s", c->section, key);
  snprintf(c->where, sizeof c->where, "%.180s: %.60s", rgm_config_where(c->config, name), name);
  return c->where;
}


static rgm_status read_methods(mice_plan *p, choices *c) {
  const char *at = p->keys->methods, *where = at_key(c, "methods");
  char item[RGM_STRING_SIZE], *text;
  while (next_item(&at, item, sizeof item)) {
    int column, method = 0;
    RGM_TRY(split_item(p, where, item, &column, &text));
    while (method_names[method] != NULL && strcmp(method_names[method], text) != 0) {
      method++;
    }
    if (method_names[method] == NULL) {
      return rgm_fail(RGM_ECONFIG, "%s: no method \"%s\"; there are pmm, norm, logreg, polyreg",
                      where, text);
    }
    c->method[column] = method;
  }
  return RGM_OK;
}


static rgm_status read_derived(mice_plan *p, choices *c) {
  const char *at = p->keys->derived, *where = at_key(c, "derived");
  char item[RGM_STRING_SIZE], *text;
  while (next_item(&at, item, sizeof item)) {
    int column;
    RGM_TRY(split_item(p, where, item, &column, &text));
    mice_derived *larger = realloc(p->derived, (size_t)(p->derived_count + 1) * sizeof *p->derived);
    if (larger == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for derived columns");
    }
    p->derived = larger;
    p->derived[p->derived_count].column = column;
    RGM_TRY(rgm_formula_parse(where, text, &p->frame, true, &p->derived[p->derived_count].formula));
    p->derived_count++;
    c->derived[column] = true;
  }
  return RGM_OK;
}


static rgm_status read_lists(mice_plan *p, choices *c) {
  char item[RGM_STRING_SIZE];
  int column;
  for (int i = 0; i < 256; i++) {
    c->method[i] = -1;
  }
  RGM_TRY(read_methods(p, c));
  RGM_TRY(read_derived(p, c));
  const char *at = p->keys->exclude, *where = at_key(c, "exclude");
  while (next_item(&at, item, sizeof item)) {
    RGM_TRY(find_column(p, where, item, &column));
    c->excluded[column] = true;
  }
  at = p->keys->visit;
  where = at_key(c, "visit");
  while (next_item(&at, item, sizeof item)) {
    RGM_TRY(find_column(p, where, item, &column));
    c->order[c->ordered++] = column;
  }
  for (column = 0; column < p->frame.columns && p->keys->visit[0] == '\0'; column++) {
    c->order[c->ordered++] = column;
  }
  at = p->keys->predictors;
  where = at_key(c, "predictors");
  for (const char *begin = at; next_item(&at, item, sizeof item); begin = at) {
    char *text;
    RGM_TRY(split_item(p, where, item, &column, &text));
    begin += strspn(begin, " ,");
    c->predictors[column] = strchr(begin, '=') + 1;
  }
  return RGM_OK;
}


// ---- arms, design, targets ---------------------------------------------------------------------

static rgm_status find_arms(mice_plan *p, choices *c) {
  const int64_t N = p->frame.rows;
  double value[MICE_ARMS];
  p->arm = calloc((size_t)N, sizeof *p->arm);
  p->arms = 1;
  if (p->arm == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the arms");
  }
  if (p->keys->arms[0] == '\0') {
    return RGM_OK;
  }
  const char *where = at_key(c, "arms");
  rgm_formula formula;
  RGM_TRY(rgm_formula_parse(where, p->keys->arms, &p->frame, true, &formula));
  p->arms = 0;
  for (int64_t row = 0; row < N; row++) {
    const double x = rgm_formula_value(&formula, p->frame.value + row * p->frame.columns);
    int k = 0;
    while (k < p->arms && value[k] != x) {
      k++;
    }
    if (isnan(x) || k == MICE_ARMS) {
      return rgm_fail(RGM_EDATA, "%s:%lld: %s: the arm is missing, or there are more than %d",
                      p->path, (long long)row + 2, where, MICE_ARMS);
    }
    value[k] = x;
    p->arms += k == p->arms;
    p->arm[row] = k;
  }
  return RGM_OK;
}


// levels that occur in a column, in order
static int find_levels(const rgm_frame *f, int column, double level[RGM_LEVELS]) {
  int count = 0;
  for (int64_t row = 0; row < f->rows; row++) {
    const double x = f->value[row * f->columns + column];
    int k = 0;
    while (k < count && level[k] < x) {
      k++;
    }
    if (isnan(x) || (k < count && level[k] == x)) {
      continue;
    }
    if (count == RGM_LEVELS) {
      return RGM_LEVELS + 1;
    }
    memmove(level + k + 1, level + k, (size_t)(count - k) * sizeof *level);
    level[k] = x;
    count++;
  }
  return count;
}


static rgm_status add_wide(mice_plan *p, int column, bool is_level, double level) {
  double sum = 0.0, square = 0.0, seen = 0.0;
  for (int64_t row = 0; row < p->frame.rows; row++) {
    const double x = p->frame.value[row * p->frame.columns + column];
    const double value = is_level ? x == level : x;
    if (!isnan(x)) {
      sum += value;
      seen += 1.0;
    }
  }
  for (int64_t row = 0; row < p->frame.rows; row++) {
    const double x = p->frame.value[row * p->frame.columns + column];
    const double d = (is_level ? x == level : x) - sum / seen;
    square += isnan(x) ? 0.0 : d * d;
  }
  if (p->width == MICE_WIDTH) {
    return rgm_fail(RGM_EDATA, "%s: imputation: more than %d predictors; exclude some", p->path,
                    MICE_WIDTH);
  }
  const double sd = sqrt(square / seen);
  p->wide[p->width++] = (mice_column){column, is_level, level, sum / seen, sd > 0 ? sd : 1.0};
  return RGM_OK;
}


// which columns of the design predict a target
static rgm_status find_predictors(const mice_plan *p, choices *c, mice_target *t) {
  bool wanted[256];
  for (int i = 0; i < p->frame.columns; i++) {
    wanted[i] = c->predictors[t->column] == NULL && i != t->column;
  }
  // what is computed from a target does not predict it: the chain would stand still
  for (int i = 0; i < p->derived_count; i++) {
    uint8_t used[256] = {0};
    rgm_formula_uses(&p->derived[i].formula, used);
    if (used[t->column]) {
      wanted[p->derived[i].column] = false;
    }
  }
  if (c->predictors[t->column] != NULL) {
    char list[RGM_STRING_SIZE], *rest = NULL;
    const char *text = c->predictors[t->column];
    snprintf(list, sizeof list, "%.*s", (int)strcspn(text, ","), text);
    for (char *word = strtok_r(list, " +", &rest); word != NULL;
         word = strtok_r(NULL, " +", &rest)) {
      int column;
      RGM_TRY(find_column(p, at_key(c, "predictors"), word, &column));
      wanted[column] = column != t->column;
    }
  }
  t->predictor[t->predictors++] = 0;
  for (int i = 1; i < p->width; i++) {
    if (wanted[p->wide[i].column]) {
      t->predictor[t->predictors++] = i;
    }
    if (p->wide[i].column == t->column && t->place == 0) {
      t->place = i;
    }
    if (p->wide[i].column == t->column || c->derived[p->wide[i].column]) {
      t->write[t->written++] = i;
    }
  }
  return RGM_OK;
}


static rgm_status add_target(mice_plan *p, choices *c, int column) {
  const rgm_frame *f = &p->frame;
  mice_target *t = &p->target[p->target_count];
  *t = (mice_target){.column = column, .method = c->method[column]};
  t->row = calloc((size_t)f->rows, sizeof *t->row);
  t->lacks = calloc((size_t)f->rows, 1);
  p->target_count++;
  if (t->row == NULL || t->lacks == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the missing cells");
  }
  int64_t seen[MICE_ARMS] = {0};
  for (int64_t row = 0; row < f->rows; row++) {
    t->lacks[row] = isnan(f->value[row * f->columns + column]) != 0;
    if (t->lacks[row]) {
      t->row[t->missing++] = row;
      t->missing_in[p->arm[row]]++;
    }
    seen[p->arm[row]] += !t->lacks[row];
  }
  const int levels = find_levels(f, column, t->level);
  t->levels = levels;
  if (t->method < 0) {
    t->method = f->column[column].levels == 0 ? MICE_PMM : levels > 2 ? MICE_POLYREG : MICE_LOGREG;
  }
  if ((t->method == MICE_LOGREG && levels != 2) ||
      (t->method == MICE_POLYREG && (levels < 2 || levels > RGM_LEVELS))) {
    return rgm_fail(RGM_EDATA, "%s: column %s: %s, but it has %s%d levels", p->path,
                    f->column[column].name, method_names[t->method],
                    levels > RGM_LEVELS ? "more than " : "",
                    levels > RGM_LEVELS ? RGM_LEVELS : levels);
  }
  RGM_TRY(find_predictors(p, c, t));
  for (int arm = 0; arm < p->arms; arm++) {
    if (t->missing_in[arm] > 0 && seen[arm] < 2) {
      return rgm_fail(RGM_EDATA, "%s: column %s: fewer than two values%s to impute from", p->path,
                      f->column[column].name, p->arms > 1 ? " in an arm" : "");
    }
  }
  return RGM_OK;
}


static rgm_status plan_chains(mice_plan *p, choices *c) {
  rgm_frame *f = &p->frame;
  if (f->columns > 255) {
    return rgm_fail(RGM_EDATA, "%s: imputation of more than 255 columns", p->path);
  }
  RGM_TRY(read_lists(p, c));
  RGM_TRY(find_arms(p, c));

  // the design: factors as indicators of all levels but the first
  p->wide[p->width++] = (mice_column){.column = -1, .scale = 1.0};
  for (int column = 0; column < f->columns; column++) {
    double level[RGM_LEVELS + 1];
    const bool factor = f->column[column].levels > 2 || c->method[column] == MICE_POLYREG;
    const int levels = find_levels(f, column, level);
    if (c->excluded[column]) {
      continue;
    }
    if (levels == 0) {
      return rgm_fail(RGM_EDATA, "%s: column %s is empty; exclude it from imputation", p->path,
                      f->column[column].name);
    }
    for (int k = 1; k < levels && factor && levels <= RGM_LEVELS; k++) {
      RGM_TRY(add_wide(p, column, true, level[k]));
    }
    if (!factor && levels > 1) {
      RGM_TRY(add_wide(p, column, false, 0.0));
    }
  }
  for (int i = 0; i < c->ordered; i++) {
    const int column = c->order[i];
    bool lacks = false;
    for (int64_t row = 0; row < f->rows && !lacks; row++) {
      lacks = isnan(f->value[row * f->columns + column]) != 0;
    }
    if (lacks && !c->excluded[column] && !c->derived[column]) {
      if (p->target_count == MICE_TARGETS) {
        return rgm_fail(RGM_EDATA, "%s: imputation of more than %d columns", p->path, MICE_TARGETS);
      }
      RGM_TRY(add_target(p, c, column));
    }
  }
  return RGM_OK;
}


rgm_status mice_prepare(const rgm_config *config, const char *section, const mice_keys *keys,
                        const char *path, rgm_frame *frame, int64_t imputations, int64_t seed,
                        mice_plan **out) {
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)((uint64_t)seed >> 32)};
  *out = NULL;
  mice_plan *p = calloc(1, sizeof *p);
  choices *c = calloc(1, sizeof *c);
  rgm_status status =
      p != NULL && c != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for imputations");
  if (status == RGM_OK) {
    *p = (mice_plan){.keys = keys, .path = path, .imputations = imputations};
    p->key = rgm_stream_key(words, RGM_RANDOM_IMPUTE);
    *c = (choices){.config = config, .section = section};
  }
  if (status == RGM_OK && keys->cells[0] != '\0') {
    cell_file f;
    status = open_cells(keys->cells, &f);
    if (status == RGM_OK) {
      status = read_cells(keys, frame, imputations, p, &f);
    }
    rgm_csv_close(f.csv);
  }
  bool any = false;
  for (int64_t i = 0; status == RGM_OK && i < frame->rows * frame->columns && !any; i++) {
    any = isnan(frame->value[i]) != 0;
  }
  if (status == RGM_OK && any) {
    status = rgm_frame_copy(frame, &p->frame);
  }
  // one table with holes is fitted as it is, where no stage reads them
  const bool wanted = any && (imputations > 1 || keys->given || keys->cells[0] != '\0');
  if (status == RGM_OK && wanted && !keys->given) {
    status = plan_chains(p, c);
    p->traces =
        calloc((size_t)(imputations * keys->iterations * frame->columns), 2 * sizeof *p->traces);
    if (status == RGM_OK && p->traces == NULL) {
      status = rgm_fail(RGM_EMEMORY, "no memory for traces of imputations");
    }
  }
  free(c);
  if (status != RGM_OK || !wanted) {
    mice_free(p);
    return status;
  }
  *out = p;
  return RGM_OK;
}


void mice_free(mice_plan *plan) {
  if (plan == NULL) {
    return;
  }
  for (int i = 0; i < plan->target_count; i++) {
    free(plan->target[i].row);
    free(plan->target[i].lacks);
  }
  free(plan->derived);
  free(plan->arm);
  free(plan->given);
  free(plan->given_cell);
  free(plan->block);
  free(plan->traces);
  rgm_frame_free(&plan->frame);
  free(plan);
}
