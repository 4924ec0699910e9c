// SPDX-License-Identifier: Apache-2.0
// Our own data sets back from their files (dataset.h has the layout). The prefix and its SHA-256
// were right, so what does not fit here was written by another program, or by somebody who means
// harm. Runs in the child (dataset_child.c).

#include "engine/dataset_format.h"

#include <stdlib.h>
#include <string.h>


// ---- attributes --------------------------------------------------------------------------------

static bool is_scalar(hid_t space) {
  return space >= 0 && H5Sget_simple_extent_type(space) == H5S_SCALAR;
}


// A scalar attribute of exactly this type in the file.
static bool get_number(hid_t where, const char *name, hid_t type, hid_t memory, void *value) {
  hid_t id = H5Aopen(where, name, H5P_DEFAULT);
  hid_t stored = id < 0 ? -1 : H5Aget_type(id);
  hid_t space = id < 0 ? -1 : H5Aget_space(id);
  const bool ok = stored >= 0 && is_scalar(space) && H5Tequal(stored, type) > 0 &&
                  H5Aread(id, memory, value) >= 0;
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(stored);
  rgm_hdf5_drop(id);
  return ok;
}


// A scalar text of fixed length that fits.
static bool get_text(hid_t where, const char *name, char *text, size_t size) {
  hid_t id = H5Aopen(where, name, H5P_DEFAULT);
  hid_t type = id < 0 ? -1 : H5Aget_type(id);
  hid_t space = id < 0 ? -1 : H5Aget_space(id);
  memset(text, 0, size);
  const bool ok = type >= 0 && is_scalar(space) && H5Tget_class(type) == H5T_STRING &&
                  H5Tis_variable_str(type) == 0 && H5Tget_size(type) <= size &&
                  H5Aread(id, type, text) >= 0 && text[size - 1] == '\0';
  text[size - 1] = '\0';
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);
  rgm_hdf5_drop(id);
  return ok;
}


// ---- names of a group --------------------------------------------------------------------------

typedef struct names {
  char (*name)[64];
  int count, most;
  bool ok;
} names;


static herr_t add_name(hid_t group, const char *name, const H5L_info_t *info, void *data) {
  (void)group;
  names *n = data;
  n->ok = n->count < n->most && strlen(name) < 64 && info->type == H5L_TYPE_HARD;
  if (n->ok) {
    memcpy(n->name[n->count++], name, strlen(name) + 1);
  }
  return n->ok ? 0 : -1;
}


static rgm_status list_names(rgm_source *s, const char *group, int most, names *out) {
  *out = (names){.most = most, .ok = true};
  out->name = calloc((size_t)most, sizeof *out->name);
  if (out->name == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", s->in.path);
  }
  bool has;
  RGM_TRY(rgm_input_has(&s->in, group, &has));
  hid_t id = has ? H5Gopen2(s->in.file, group, H5P_DEFAULT) : -1;
  const bool walked =
      id >= 0 && H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, NULL, add_name, out) >= 0;
  rgm_hdf5_drop(id);
  return walked && out->ok
             ? RGM_OK
             : rgm_input_refuse(&s->in, group, "cannot be listed, or holds links or too much");
}


// ---- columns and notes -------------------------------------------------------------------------

// Reads what a column is into its place among the columns.
static rgm_status look_at_column(rgm_source *s, const char *name, rgm_column *column,
                                 int *part_of) {
  rgm_array array;
  hid_t id;
  char path[128], role[32];
  int32_t place = -1;
  snprintf(path, sizeof path, "table/%s", name);
  RGM_TRY(rgm_array_open(&s->in, path, 0, &array, &id));
  rgm_column c = {.cell = array.cell};
  snprintf(c.name, sizeof c.name, "%s", name);
  const bool ok =
      get_number(id, "index", H5T_STD_I32LE, H5T_NATIVE_INT32, &place) &&
      get_text(id, "role", role, sizeof role) && get_text(id, "unit", c.unit, sizeof c.unit) &&
      get_text(id, "doc", c.doc, sizeof c.doc) && get_text(id, "of", c.of, sizeof c.of) &&
      get_number(id, "low", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &c.low) &&
      get_number(id, "high", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &c.high) &&
      get_number(id, "fill", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &c.fill) &&
      get_number(id, "choices", H5T_STD_I64LE, H5T_NATIVE_INT64, &c.choices);
  rgm_hdf5_drop(id);
  const int number = ok ? rgm_role_index(role) : -1;
  if (number < 0 || array.rank != 1 || array.rows != s->table->rows) {
    return rgm_input_refuse(&s->in, path, "is no column of ours: role, attributes or rows");
  }
  c.role = (rgm_role)number;
  if (place < 0 || place >= s->parts || part_of[place] >= 0) {
    return rgm_input_refuse(&s->in, path, "has no place of its own among the columns");
  }
  column[place] = c;
  part_of[place] = 1;
  return RGM_OK;
}


static rgm_status open_columns(rgm_source *s) {
  names n;
  RGM_TRY(list_names(s, "table", RGM_MAX_COLUMNS, &n));
  rgm_column *column = calloc((size_t)n.count + 1, sizeof *column);
  int *seen = malloc(((size_t)n.count + 1) * sizeof *seen);
  rgm_status status = column != NULL && seen != NULL
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "%s: no memory to read it", s->in.path);
  s->parts = n.count; // as many places as columns, while they are looked at
  for (int i = 0; i < n.count && status == RGM_OK; i++) {
    seen[i] = -1;
  }
  for (int i = 0; i < n.count && status == RGM_OK; i++) {
    status = look_at_column(s, n.name[i], column, seen);
  }
  s->parts = 0;
  for (int i = 0; i < n.count && status == RGM_OK; i++) {
    const int part = rgm_source_array(s, column[i].name, 0);
    rgm_column *c = part < 0 ? NULL
                             : rgm_source_column(s, column[i].name, column[i].role, column[i].cell,
                                                 (rgm_origin){.part = part});
    status = c == NULL ? RGM_EMEMORY : rgm_source_open_whole(s, part);
    if (status == RGM_OK) {
      *c = column[i];
    }
  }
  free(seen);
  free(column);
  free(n.name);
  return status;
}


static rgm_status open_note(rgm_source *s, const char *name) {
  char path[128];
  bool has;
  snprintf(path, sizeof path, "provenance/%s", name);
  RGM_TRY(rgm_input_has(&s->in, path, &has));
  hid_t id = has ? H5Dopen2(s->in.file, path, H5P_DEFAULT) : -1;
  hid_t type = id < 0 ? -1 : H5Dget_type(id);
  hid_t space = id < 0 ? -1 : H5Dget_space(id);
  hid_t list = id < 0 ? -1 : H5Dget_create_plist(id);
  const size_t size = type < 0 ? 0 : H5Tget_size(type);
  const bool plain =
      list >= 0 && is_scalar(space) && H5Tget_class(type) == H5T_STRING &&
      H5Tis_variable_str(type) == 0 && size > 0 && size <= RGM_MAX_NOTE_BYTES + 1 &&
      size <= s->in.size &&
      (H5Pget_layout(list) == H5D_CONTIGUOUS || H5Pget_layout(list) == H5D_COMPACT) &&
      H5Pget_external_count(list) == 0;
  char *text = plain ? calloc(1, size + 1) : NULL;
  const bool ok = text != NULL && H5Dread(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0;
  rgm_hdf5_drop(list);
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);
  rgm_hdf5_drop(id);
  const rgm_status status = ok ? rgm_dataset_note(s->table, name, text)
                               : rgm_input_refuse(&s->in, path, "is no text of ours");
  free(text);
  return status;
}


rgm_status rgm_source_open_own(rgm_source *s) {
  char kind[32];
  int32_t schema = 0;
  hid_t root = s->in.file;
  if (!get_text(root, "kind", kind, sizeof kind) || strcmp(kind, RGM_DATASET_KIND) != 0 ||
      !get_number(root, "schema", H5T_STD_I32LE, H5T_NATIVE_INT32, &schema) ||
      schema != RGM_DATASET_SCHEMA ||
      !get_number(root, "rows", H5T_STD_I64LE, H5T_NATIVE_INT64, &s->table->rows) ||
      s->table->rows < 0 || !get_text(root, "digest", s->table->digest, 65)) {
    return rgm_input_refuse(&s->in, "/", "kind, schema, rows or digest are not those of ours");
  }
  RGM_TRY(open_columns(s));
  names n;
  RGM_TRY(list_names(s, "provenance", RGM_MAX_NOTES, &n));
  rgm_status status = RGM_OK;
  for (int i = 0; i < n.count && status == RGM_OK; i++) {
    status = open_note(s, n.name[i]);
  }
  free(n.name);
  return status == RGM_OK ? rgm_dataset_valid(s->table) : status;
}
