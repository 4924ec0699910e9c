// SPDX-License-Identifier: Apache-2.0
// A data set in memory: columns, notes, episodes, splits, digest. No HDF5 here.

#include "engine/dataset_private.h"
#include "kernels/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const role_names[RGM_ROLES] = {
    "other", "patient", "episode", "time", "state",      "age",       "missing", "action",
    "dose",  "reward",  "outcome", "next", "terminated", "truncated", "split"};
static const char *const cell_names[RGM_CELLS] = {"f32", "f64", "i32", "i64", "u8"};
static const size_t cell_sizes[RGM_CELLS] = {4, 8, 4, 8, 1};
static const char *const split_names[RGM_SPLITS] = {"train", "validation", "test"};


// ---- names -------------------------------------------------------------------------------------

const char *rgm_role_name(rgm_role role) {
  return role_names[role];
}


const char *rgm_cell_name(rgm_cell cell) {
  return cell_names[cell];
}


const char *rgm_split_name(rgm_split split) {
  return split_names[split];
}


size_t rgm_cell_size(rgm_cell cell) {
  return cell_sizes[cell];
}


int rgm_role_index(const char *name) {
  for (int i = 0; i < RGM_ROLES; i++) {
    if (strcmp(name, role_names[i]) == 0) {
      return i;
    }
  }
  return -1;
}


// ---- columns and notes -------------------------------------------------------------------------

rgm_dataset *rgm_dataset_new(int64_t rows) {
  rgm_dataset *d = calloc(1, sizeof *d);
  if (d == NULL) {
    rgm_fail(RGM_EMEMORY, "no memory for a data set");
    return NULL;
  }
  d->rows = rows;
  snprintf(d->format, sizeof d->format, "regimen");
  return d;
}


void rgm_dataset_free(rgm_dataset *d) {
  if (d == NULL) {
    return;
  }
  for (int i = 0; i < d->column_count; i++) {
    free(d->column[i].data);
  }
  for (int i = 0; i < d->note_count; i++) {
    free(d->note[i].text);
  }
  free(d->column);
  free(d->note);
  free(d);
}


rgm_column *rgm_dataset_shape(rgm_dataset *d, const char *name, rgm_role role, rgm_cell cell,
                              const char *unit) {
  if (d->column_count == RGM_MAX_COLUMNS) {
    rgm_fail(RGM_EDATA, "column %.63s: a data set has at most %d columns", name, RGM_MAX_COLUMNS);
    return NULL;
  }
  // room doubles whenever the count is a power of two
  const int n = d->column_count;
  if ((n & (n - 1)) == 0) {
    const size_t room = n > 0 ? 2 * (size_t)n : 1;
    rgm_column *more = realloc(d->column, room * sizeof *more);
    if (more == NULL) {
      rgm_fail(RGM_EMEMORY, "no memory for column %.63s", name);
      return NULL;
    }
    d->column = more;
  }
  rgm_column *c = &d->column[d->column_count++];
  *c = (rgm_column){.role = role, .cell = cell, .low = NAN, .high = NAN, .fill = NAN};
  snprintf(c->name, sizeof c->name, "%s", name);
  snprintf(c->unit, sizeof c->unit, "%s", unit);
  return c;
}


rgm_column *rgm_dataset_add(rgm_dataset *d, const char *name, rgm_role role, rgm_cell cell,
                            const char *unit) {
  rgm_column *c = rgm_dataset_shape(d, name, role, cell, unit);
  if (c != NULL && !rgm_column_allocate(c, d->rows)) {
    d->column_count--;
    return NULL;
  }
  return c;
}


bool rgm_column_allocate(rgm_column *c, int64_t rows) {
  c->data = calloc((size_t)rows + (rows == 0), rgm_cell_size(c->cell));
  if (c->data == NULL) {
    rgm_fail(RGM_EMEMORY, "column %s: no memory for %lld rows; read it piece by piece", c->name,
             (long long)rows);
  }
  return c->data != NULL;
}


rgm_status rgm_dataset_note(rgm_dataset *d, const char *name, const char *text) {
  char *copy = strdup(text);
  int at = 0;
  while (at < d->note_count && strcmp(d->note[at].name, name) != 0) {
    at++;
  }
  rgm_note *note = d->note;
  if (copy != NULL && at == d->note_count) {
    note = realloc(d->note, ((size_t)at + 1) * sizeof *note);
    d->note = note != NULL ? note : d->note;
  }
  if (copy == NULL || note == NULL) {
    free(copy);
    return rgm_fail(RGM_EMEMORY, "no memory for note %s", name);
  }
  if (at == d->note_count) {
    note[at] = (rgm_note){.text = NULL};
    snprintf(note[at].name, sizeof note[at].name, "%s", name);
    d->note_count++;
  }
  free(note[at].text);
  note[at].text = copy;
  return RGM_OK;
}


const char *rgm_dataset_note_text(const rgm_dataset *d, const char *name) {
  for (int i = 0; i < d->note_count; i++) {
    if (strcmp(d->note[i].name, name) == 0) {
      return d->note[i].text;
    }
  }
  return NULL;
}


int rgm_dataset_find(const rgm_dataset *d, const char *name) {
  for (int i = 0; i < d->column_count; i++) {
    if (strcmp(d->column[i].name, name) == 0) {
      return i;
    }
  }
  return -1;
}


int rgm_dataset_role(const rgm_dataset *d, rgm_role role) {
  for (int i = 0; i < d->column_count; i++) {
    if (d->column[i].role == role) {
      return i;
    }
  }
  return -1;
}


// ---- cells -------------------------------------------------------------------------------------

double rgm_cell_get(const rgm_column *c, int64_t row) {
  switch (c->cell) {
  case RGM_CELL_F32:
    return (double)((const float *)c->data)[row];
  case RGM_CELL_F64:
    return ((const double *)c->data)[row];
  case RGM_CELL_I32:
    return (double)((const int32_t *)c->data)[row];
  case RGM_CELL_I64:
    return (double)((const int64_t *)c->data)[row];
  default:
    return (double)((const uint8_t *)c->data)[row];
  }
}


// the nearest integer in a range; NaN gives 0
static double whole(double value, double low, double high) {
  const double r = rint(value);
  return r >= high ? high : r <= low ? low : isnan(r) ? 0.0 : r;
}


void rgm_cell_set(rgm_column *c, int64_t row, double value) {
  switch (c->cell) {
  case RGM_CELL_F32:
    ((float *)c->data)[row] = (float)value;
    break;
  case RGM_CELL_F64:
    ((double *)c->data)[row] = value;
    break;
  case RGM_CELL_I32:
    ((int32_t *)c->data)[row] = (int32_t)whole(value, INT32_MIN, INT32_MAX);
    break;
  case RGM_CELL_I64: // 2^63 itself does not fit
    ((int64_t *)c->data)[row] = (int64_t)whole(value, -0x1p63, 0x1.fffffffffffffp62);
    break;
  default:
    ((uint8_t *)c->data)[row] = (uint8_t)whole(value, 0, 255);
  }
}


static bool has_role(const rgm_column *c, unsigned roles) {
  return (roles >> c->role & 1) != 0;
}


int rgm_dataset_width(const rgm_dataset *d, unsigned roles) {
  int n = 0;
  for (int i = 0; i < d->column_count; i++) {
    n += has_role(&d->column[i], roles);
  }
  return n;
}


void rgm_matrix_piece(const rgm_dataset *d, unsigned roles, int64_t rows, const void *const *data,
                      float *out) {
  const int n = rgm_dataset_width(d, roles);
  for (int i = 0, k = 0; i < d->column_count; i++) {
    if (!has_role(&d->column[i], roles)) {
      continue;
    }
    rgm_column c = d->column[i];
    memcpy(&c.data, &data[i], sizeof c.data);
    for (int64_t r = 0; r < rows; r++) {
      const double value = rgm_cell_get(&c, r);
      out[r * n + k] = (float)(isnan(value) ? c.fill : value);
    }
    k++;
  }
}


void rgm_dataset_matrix(const rgm_dataset *d, unsigned roles, float *out) {
  const int n = rgm_dataset_width(d, roles);
  for (int i = 0, k = 0; i < d->column_count; i++) {
    const rgm_column *c = &d->column[i];
    if (has_role(c, roles)) {
      for (int64_t r = 0; r < d->rows; r++) {
        const double value = rgm_cell_get(c, r);
        out[r * n + k] = (float)(isnan(value) ? c->fill : value);
      }
      k++;
    }
  }
}


// ---- episodes and splits -----------------------------------------------------------------------

int64_t *rgm_dataset_episodes(const rgm_dataset *d, int64_t *episodes) {
  const int at = rgm_dataset_role(d, RGM_ROLE_EPISODE);
  const rgm_column *c = at >= 0 ? &d->column[at] : NULL;
  int64_t count = d->rows > 0;
  for (int64_t r = 1; r < d->rows && c != NULL; r++) {
    count += rgm_cell_get(c, r) != rgm_cell_get(c, r - 1);
  }
  int64_t *start = malloc(((size_t)count + 1) * sizeof *start);
  if (start == NULL) {
    rgm_fail(RGM_EMEMORY, "no memory for %lld episodes", (long long)count);
    return NULL;
  }
  start[0] = 0;
  int64_t e = 0;
  for (int64_t r = 1; r < d->rows && c != NULL; r++) {
    if (rgm_cell_get(c, r) != rgm_cell_get(c, r - 1)) {
      start[++e] = r;
    }
  }
  start[count] = d->rows;
  *episodes = count;
  return start;
}


rgm_status rgm_dataset_split(rgm_dataset *d, uint64_t seed, double validation, double test) {
  const int patient = rgm_dataset_role(d, RGM_ROLE_PATIENT);
  if (patient < 0) {
    return rgm_fail(RGM_EDATA, "a data set without a patient column cannot be split by patient");
  }
  int split = rgm_dataset_role(d, RGM_ROLE_SPLIT);
  if (split < 0) {
    if (rgm_dataset_add(d, "split", RGM_ROLE_SPLIT, RGM_CELL_U8, "") == NULL) {
      return RGM_EMEMORY;
    }
    split = d->column_count - 1;
  }

  // a number in [0, 1) of the patient's own: tests first, so that they stay when the rest changes
  const uint32_t words[] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_SPLIT);
  for (int64_t r = 0; r < d->rows; r++) {
    const uint64_t who = (uint64_t)(int64_t)rgm_cell_get(&d->column[patient], r);
    const rgm_words w = rgm_philox(key, (uint32_t)who, (uint32_t)(who >> 32), 0, 0);
    const double u = (double)w.w0 * 0x1p-32;
    const rgm_split part = u < test ? RGM_TEST : u < test + validation ? RGM_VALIDATION : RGM_TRAIN;
    rgm_cell_set(&d->column[split], r, part);
  }
  return RGM_OK;
}


// ---- what a table must be to be written --------------------------------------------------------

static bool is_name(const char *name, size_t size) {
  const char *end = memchr(name, '\0', size);
  bool ok = end != NULL && end > name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
  for (const char *p = name; ok && p < end; p++) {
    ok = *p > ' ' && *p < 0x7f && *p != '/';
  }
  return ok;
}


static bool is_line(const char *text, size_t size) {
  const char *end = memchr(text, '\0', size);
  bool ok = end != NULL;
  for (const char *p = text; ok && p < end; p++) {
    ok = (unsigned char)*p >= ' ' && *p != 0x7f;
  }
  return ok;
}


static const char *column_fault(const rgm_dataset *d, int i) {
  static const unsigned once = 1 << RGM_ROLE_PATIENT | 1 << RGM_ROLE_EPISODE | 1 << RGM_ROLE_TIME |
                               1 << RGM_ROLE_TERMINATED | 1 << RGM_ROLE_TRUNCATED |
                               1 << RGM_ROLE_SPLIT | 1 << RGM_ROLE_REWARD;
  const rgm_column *c = &d->column[i];
  if (!is_name(c->name, sizeof c->name)) {
    return "its name is not of printable characters without blanks and '/'";
  }
  if (!is_line(c->unit, sizeof c->unit) || !is_line(c->doc, sizeof c->doc) ||
      !is_line(c->of, sizeof c->of)) {
    return "unit, doc and of must be single lines";
  }
  if ((unsigned)c->role >= RGM_ROLES || (unsigned)c->cell >= RGM_CELLS || c->choices < 0) {
    return "no such role, type or number of choices";
  }
  if (rgm_dataset_find(d, c->name) != i) {
    return "another column has this name";
  }
  if (has_role(c, once) && rgm_dataset_role(d, c->role) != i) {
    return "another column has this role, which only one can have";
  }
  if (c->of[0] != '\0' && rgm_dataset_find(d, c->of) < 0) {
    return "the column that it is about (of) is not there";
  }
  return NULL;
}


rgm_status rgm_dataset_valid(const rgm_dataset *d) {
  if (d->rows < 0 || d->column_count < 1 || d->column_count > RGM_MAX_COLUMNS ||
      d->note_count > RGM_MAX_NOTES) {
    return rgm_fail(RGM_EINTERNAL, "data set: %lld rows, %d columns, %d notes", (long long)d->rows,
                    d->column_count, d->note_count);
  }
  for (int i = 0; i < d->column_count; i++) {
    const char *fault = column_fault(d, i);
    if (fault != NULL) {
      return rgm_fail(RGM_EINTERNAL, "data set: column %d (%.63s): %s", i, d->column[i].name,
                      fault);
    }
  }
  for (int i = 0; i < d->note_count; i++) {
    const rgm_note *n = &d->note[i];
    if (!is_name(n->name, sizeof n->name) || n->text == NULL ||
        strlen(n->text) > RGM_MAX_NOTE_BYTES) {
      return rgm_fail(RGM_EINTERNAL, "data set: note %d has no proper name or text", i);
    }
  }
  return RGM_OK;
}


// ---- the digest --------------------------------------------------------------------------------

// one NaN for all, so that the digest is of values, not of how they came about
static void hash_cells(rgm_hash *hash, rgm_cell cell, int64_t rows, const void *data) {
  enum { BLOCK = 1024 };
  if (cell != RGM_CELL_F32 && cell != RGM_CELL_F64) {
    rgm_hash_add(hash, data, (size_t)rows * cell_sizes[cell]);
    return;
  }
  for (int64_t r = 0; r < rows; r += BLOCK) {
    const int64_t n = rows - r < BLOCK ? rows - r : BLOCK;
    float f[BLOCK];
    double g[BLOCK];
    for (int64_t i = 0; i < n; i++) {
      if (cell == RGM_CELL_F32) {
        f[i] = ((const float *)data)[r + i];
        f[i] = isnan(f[i]) ? (float)NAN : f[i];
      } else {
        g[i] = ((const double *)data)[r + i];
        g[i] = isnan(g[i]) ? NAN : g[i];
      }
    }
    rgm_hash_add(hash, cell == RGM_CELL_F32 ? (const void *)f : g, (size_t)n * cell_sizes[cell]);
  }
}


rgm_hash **rgm_digest_begin(const rgm_dataset *d) {
  rgm_hash **hash = calloc((size_t)d->column_count, sizeof *hash);
  for (int i = 0; hash != NULL && i < d->column_count; i++) {
    const rgm_column *c = &d->column[i];
    hash[i] = rgm_hash_new();
    if (hash[i] != NULL) {
      // each text with its end, so that no two headers run together alike
      rgm_hash_add(hash[i], c->name, strlen(c->name) + 1);
      rgm_hash_add(hash[i], role_names[c->role], strlen(role_names[c->role]) + 1);
      rgm_hash_add(hash[i], c->unit, strlen(c->unit) + 1);
      rgm_hash_add(hash[i], cell_names[c->cell], strlen(cell_names[c->cell]) + 1);
    }
  }
  return hash;
}


void rgm_digest_add(const rgm_dataset *d, rgm_hash **hash, int64_t rows, const void *const *data) {
  for (int i = 0; hash != NULL && i < d->column_count; i++) {
    hash_cells(hash[i], d->column[i].cell, rows, data[i]);
  }
}


rgm_status rgm_digest_end(const rgm_dataset *d, rgm_hash **hash, int64_t rows, char hex[65]) {
  rgm_hash *all = rgm_hash_new();
  char line[96];
  snprintf(line, sizeof line, "regimen dataset, %lld rows, %d columns\n", (long long)rows,
           d->column_count);
  rgm_hash_add(all, line, strlen(line));
  bool ok = hash != NULL;
  for (int i = 0; hash != NULL && i < d->column_count; i++) {
    ok = rgm_hash_end(hash[i], line) && ok;
    rgm_hash_add(all, line, 64);
  }
  free(hash);
  ok = rgm_hash_end(all, hex) && ok;
  return ok ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the digest of a data set");
}


rgm_status rgm_dataset_digest(rgm_dataset *d, char hex[65]) {
  rgm_hash **hash = rgm_digest_begin(d);
  for (int i = 0; hash != NULL && i < d->column_count; i++) {
    hash_cells(hash[i], d->column[i].cell, d->rows, d->column[i].data);
  }
  RGM_TRY(rgm_digest_end(d, hash, d->rows, d->digest));
  memmove(hex, d->digest, 65);
  return RGM_OK;
}
