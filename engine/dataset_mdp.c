// SPDX-License-Identifier: Apache-2.0
// Tabular problems in files of our own: mdp.h has the layout. Written like a checkpoint (an image
// in memory, prefix, SHA-256, rename) and read like one: length and digest first, then types and
// shapes of every array, then its values, then the checks of any problem.

#include "engine/image.h"
#include "engine/mdp_private.h"
#include "engine/trajectories.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 16 };


// An array of the group: its name, type and how many elements it has.
typedef struct part {
  const char *name;
  hid_t file, memory;
  void **data;
  size_t size;
  int64_t count;
  bool optional;
} part;

enum { PARTS = 11, ORIGIN_PARTS = 13 };


static void list_parts(rgm_mdp *m, part out[PARTS]) {
  const int64_t S = m->states, N = m->rows, E = m->entries;
  const part all[PARTS] = {
      {"first", H5T_STD_I64LE, H5T_NATIVE_INT64, (void **)&m->first, 8, S + 1, false},
      {"action", H5T_STD_I32LE, H5T_NATIVE_INT32, (void **)&m->action, 4, N, false},
      {"start", H5T_STD_I64LE, H5T_NATIVE_INT64, (void **)&m->start, 8, N + 1, false},
      {"next", H5T_STD_I32LE, H5T_NATIVE_INT32, (void **)&m->next, 4, E, false},
      {"p", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&m->p, 8, E, false},
      {"gain", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&m->gain, 8, E, false},
      {"reward", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&m->reward, 8, N, false},
      {"allowed", H5T_STD_U8LE, H5T_NATIVE_UINT8, (void **)&m->allowed, 1, N, false},
      {"count", H5T_STD_U32LE, H5T_NATIVE_UINT32, (void **)&m->count, 4, E, true},
      {"begin", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&m->begin, 8, S, true},
      {"good", H5T_STD_U8LE, H5T_NATIVE_UINT8, (void **)&m->good, 1, S, true},
  };
  memcpy(out, all, sizeof all);
}


static void list_origin(rgm_mdp_origin *o, part out[ORIGIN_PARTS]) {
  const int64_t D = o->features, N = o->stays, V = o->visits, bins = o->drugs * o->bins;
  const part all[ORIGIN_PARTS] = {
      {"mean", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&o->mean, 8, D, false},
      {"sd", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&o->sd, 8, D, false},
      {"low", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&o->low, 8, D, true},
      {"high", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&o->high, 8, D, true},
      {"scaling", H5T_STD_U8LE, H5T_NATIVE_UINT8, (void **)&o->scaling, 1, D, false},
      {"centre", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, (void **)&o->centre, 4, o->centres * D, false},
      {"edge", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&o->edge, 8, bins, bins == 0},
      {"dose", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, (void **)&o->dose, 8, bins, bins == 0},
      {"first", H5T_STD_I64LE, H5T_NATIVE_INT64, (void **)&o->first, 8, N + 1, false},
      {"held", H5T_STD_U8LE, H5T_NATIVE_UINT8, (void **)&o->held, 1, N, false},
      {"end", H5T_STD_U8LE, H5T_NATIVE_UINT8, (void **)&o->end, 1, N, false},
      {"state", H5T_STD_I32LE, H5T_NATIVE_INT32, (void **)&o->state, 4, V, false},
      {"action", H5T_STD_I32LE, H5T_NATIVE_INT32, (void **)&o->action, 4, V, false},
  };
  memcpy(out, all, sizeof all);
}


// ---- writing -----------------------------------------------------------------------------------

static bool put_part(hid_t group, const part *x) {
  hsize_t dims = (hsize_t)x->count, chunk = x->count < CHUNK ? (hsize_t)x->count : CHUNK;
  hid_t list = rgm_hdf5_creation(H5P_DATASET_CREATE);
  hid_t space = H5Screate_simple(1, &dims, NULL);
  hid_t id = -1;
  if (H5Pset_chunk(list, 1, &chunk) >= 0 && H5Pset_shuffle(list) >= 0 &&
      H5Pset_deflate(list, 1) >= 0 && H5Pset_fletcher32(list) >= 0) {
    id = H5Dcreate2(group, x->name, x->file, space, H5P_DEFAULT, list, H5P_DEFAULT);
  }
  const bool ok = id >= 0 && H5Dwrite(id, x->memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, *x->data) >= 0;
  rgm_hdf5_drop(id);
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(list);
  return ok;
}


// names as one text, a line each
static bool put_names(hid_t group, const char *name, char *const *names, int64_t count) {
  size_t bytes = 1;
  for (int64_t i = 0; names != NULL && i < count; i++) {
    bytes += strlen(names[i]) + 1;
  }
  char *text = names != NULL ? calloc(1, bytes) : NULL;
  size_t at = 0;
  for (int64_t i = 0; text != NULL && i < count; i++) {
    at += (size_t)snprintf(text + at, bytes - at, "%s\n", names[i]);
  }
  part x = {name, H5T_STD_U8LE, H5T_NATIVE_UINT8, (void **)&text, 1, (int64_t)at, true};
  const bool ok = names == NULL || (text != NULL && (at == 0 || put_part(group, &x)));
  free(text);
  return ok;
}


// the group /origin of a problem that was counted from trajectories
static bool put_origin(hid_t file, const rgm_mdp_origin *o) {
  rgm_mdp_origin copy = *o;
  part all[ORIGIN_PARTS];
  hid_t list = rgm_hdf5_creation(H5P_GROUP_CREATE);
  hid_t group = H5Gcreate2(file, "origin", H5P_DEFAULT, list, H5P_DEFAULT);
  const struct {
    const char *name;
    const int64_t *value;
  } sizes[] = {{"features", &o->features}, {"centres", &o->centres}, {"drugs", &o->drugs},
               {"bins", &o->bins},         {"stays", &o->stays},     {"visits", &o->visits}};
  bool ok = group >= 0;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes && ok; i++) {
    ok = rgm_hdf5_put(group, sizes[i].name, H5T_STD_I64LE, H5T_NATIVE_INT64, sizes[i].value);
  }
  ok = ok && rgm_hdf5_put(group, "died_pays", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &o->pay[1]) &&
       rgm_hdf5_put(group, "survived_pays", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &o->pay[2]);
  list_origin(&copy, all);
  for (int i = 0; i < ORIGIN_PARTS && ok; i++) {
    ok = all[i].count == 0 || *all[i].data == NULL || put_part(group, &all[i]);
  }
  ok = ok && put_names(group, "feature_names", o->feature, o->features) &&
       put_names(group, "drug_names", o->drug, o->drugs);
  rgm_hdf5_drop(group);
  rgm_hdf5_drop(list);
  return ok;
}


static bool put_all(hid_t file, const rgm_mdp *m) {
  rgm_mdp copy = *m;
  part all[PARTS];
  hid_t list = rgm_hdf5_creation(H5P_GROUP_CREATE);
  hid_t group = H5Gcreate2(file, "mdp", H5P_DEFAULT, list, H5P_DEFAULT);
  const int64_t sizes[4] = {m->states, m->actions, m->rows, m->entries};
  const int64_t grid[2] = {m->grid_rows, m->grid_columns};
  bool ok = group >= 0 && rgm_hdf5_put_text(file, "kind", "regimen mdp") &&
            rgm_hdf5_put(group, "states", H5T_STD_I64LE, H5T_NATIVE_INT64, &sizes[0]) &&
            rgm_hdf5_put(group, "actions", H5T_STD_I64LE, H5T_NATIVE_INT64, &sizes[1]) &&
            rgm_hdf5_put(group, "rows", H5T_STD_I64LE, H5T_NATIVE_INT64, &sizes[2]) &&
            rgm_hdf5_put(group, "entries", H5T_STD_I64LE, H5T_NATIVE_INT64, &sizes[3]) &&
            rgm_hdf5_put(group, "grid_rows", H5T_STD_I64LE, H5T_NATIVE_INT64, &grid[0]) &&
            rgm_hdf5_put(group, "grid_columns", H5T_STD_I64LE, H5T_NATIVE_INT64, &grid[1]) &&
            rgm_hdf5_put(group, "gamma", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &m->gamma);
  list_parts(&copy, all);
  for (int i = 0; i < PARTS && ok; i++) {
    ok = *all[i].data == NULL || put_part(group, &all[i]);
  }
  ok = ok && put_names(group, "state_names", m->state_name, m->states) &&
       put_names(group, "action_names", m->action_name, m->actions);
  ok = ok && (m->origin == NULL || put_origin(file, m->origin));
  rgm_hdf5_drop(group);
  rgm_hdf5_drop(list);
  return ok;
}


rgm_status rgm_mdp_file_write(const char *path, const rgm_mdp *m) {
  rgm_hdf5_reason why;
  rgm_image image = {0};
  char name[32];
  rgm_hdf5_begin(&why);
  rgm_image_name(name, &image);
  hid_t access = rgm_image_access(&image, false);
  hid_t list = rgm_hdf5_creation(H5P_FILE_CREATE);
  const bool placed = access >= 0 && H5Pset_userblock(list, RGM_PREFIX_SIZE) >= 0;
  hid_t file = placed ? H5Fcreate(name, H5F_ACC_TRUNC, list, access) : -1;
  bool ok = file >= 0 && put_all(file, m) && H5Fflush(file, H5F_SCOPE_LOCAL) >= 0;
  ok = (file < 0 || H5Fclose(file) >= 0) && ok;
  rgm_hdf5_drop(list);
  rgm_hdf5_drop(access);
  rgm_hdf5_end();
  rgm_status status =
      ok && rgm_image_trim(&image)
          ? rgm_prefix_fill(image.data, image.size, RGM_MDP_SCHEMA)
          : rgm_fail(why.memory ? RGM_EMEMORY : RGM_EINTERNAL, "%s: HDF5: %s", path, why.text);
  // visits of patients are for whoever made the file
  const mode_t mode = m->origin != NULL ? 0600 : 0666;
  status = status == RGM_OK ? rgm_durable_write(path, image.data, image.size, mode) : status;
  free(image.data);
  return status;
}


// ---- reading -----------------------------------------------------------------------------------

static rgm_status refuse(const char *path, const char *what) {
  return rgm_fail(RGM_EDATA, "%s: is no tabular problem of ours: %s", path, what);
}


static bool get_size(hid_t group, const char *name, int64_t most, int64_t *out) {
  hid_t id = H5Aexists(group, name) > 0 ? H5Aopen(group, name, H5P_DEFAULT) : -1;
  hid_t type = id < 0 ? -1 : H5Aget_type(id), space = id < 0 ? -1 : H5Aget_space(id);
  const bool ok = type >= 0 && H5Tequal(type, H5T_STD_I64LE) > 0 &&
                  H5Sget_simple_extent_type(space) == H5S_SCALAR &&
                  H5Aread(id, H5T_NATIVE_INT64, out) >= 0 && *out >= 0 && *out <= most;
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);
  rgm_hdf5_drop(id);
  return ok;
}


// An array of exactly this type and length, read; `count` negative: any length up to `most`.
static rgm_status get_part(const char *path, hid_t group, part *x, int64_t most) {
  if (H5Lexists(group, x->name, H5P_DEFAULT) <= 0) {
    return x->optional ? RGM_OK : refuse(path, x->name);
  }
  hid_t id = H5Dopen2(group, x->name, H5P_DEFAULT);
  hid_t type = id < 0 ? -1 : H5Dget_type(id), space = id < 0 ? -1 : H5Dget_space(id);
  hsize_t dims[32] = {0};
  const bool flat = space >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                    H5Sget_simple_extent_dims(space, dims, NULL) == 1;
  bool ok = type >= 0 && H5Tequal(type, x->file) > 0 && flat && dims[0] <= (hsize_t)most &&
            (x->count < 0 || dims[0] == (hsize_t)x->count);
  x->count = (int64_t)dims[0];
  *x->data = ok ? calloc((size_t)x->count + 1, x->size) : NULL;
  ok = *x->data != NULL && H5Dread(id, x->memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, *x->data) >= 0;
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);
  rgm_hdf5_drop(id);
  return ok ? RGM_OK : refuse(path, x->name);
}


static rgm_status get_names(const char *path, hid_t group, const char *name, int64_t count,
                            char ***out) {
  char *text = NULL;
  part x = {name, H5T_STD_U8LE, H5T_NATIVE_UINT8, (void **)&text, 1, -1, true};
  rgm_status status = get_part(path, group, &x, INT32_MAX);
  const char **names = text != NULL ? calloc((size_t)count + 1, sizeof *names) : NULL;
  char *at = text;
  for (int64_t i = 0; status == RGM_OK && names != NULL && i < count; i++) {
    char *end = at != NULL ? strchr(at, '\n') : NULL;
    if (end == NULL) {
      status = refuse(path, name);
      break;
    }
    *end = '\0';
    names[i] = at;
    at = end + 1;
  }
  if (status == RGM_OK && names != NULL) {
    status = rgm_mdp_name(out, names, count);
  }
  free(names);
  free(text);
  return status;
}


// Offsets ascend, indices lie inside, numbers are numbers.
static rgm_status check_arrays(const char *path, const rgm_mdp *m) {
  bool ok = m->first[0] == 0 && m->first[m->states] == m->rows && m->start[0] == 0 &&
            m->start[m->rows] == m->entries;
  for (int64_t s = 0; s < m->states && ok; s++) {
    ok = m->first[s] <= m->first[s + 1] && m->first[s + 1] <= m->rows;
  }
  for (int64_t n = 0; n < m->rows && ok; n++) {
    ok = m->start[n] < m->start[n + 1] && m->start[n + 1] <= m->entries && m->action[n] >= 0 &&
         m->action[n] < m->actions && m->allowed[n] <= 1 && isfinite(m->reward[n]);
    double sum = 0.0;
    for (int64_t i = m->start[n]; i < m->start[n + 1] && ok; i++) {
      ok = m->next[i] >= 0 && m->next[i] < m->states && m->p[i] >= 0.0 && isfinite(m->gain[i]);
      sum += m->p[i];
    }
    ok = ok && fabs(sum - 1.0) <= 1e-6;
  }
  return ok ? rgm_mdp_check(m, path) : refuse(path, "offsets, indices or probabilities");
}


// What can be trusted of visits and centres: indices lie inside, numbers are numbers.
static bool check_origin(const rgm_mdp *m, const rgm_mdp_origin *o) {
  bool ok = o->centres <= m->states && o->first[0] == 0 && o->first[o->stays] == o->visits &&
            o->feature != NULL && (o->drugs == 0 || o->drug != NULL) &&
            (o->low != NULL) == (o->high != NULL);
  for (int64_t d = 0; d < o->features && ok; d++) {
    ok = isfinite(o->mean[d]) && o->sd[d] > 0.0 && isfinite(o->sd[d]) &&
         o->scaling[d] <= RGM_SCALE_BINARY &&
         (o->low == NULL ||
          (isfinite(o->low[d]) && isfinite(o->high[d]) && o->low[d] <= o->high[d]));
  }
  for (int64_t i = 0; i < o->centres * o->features && ok; i++) {
    ok = isfinite(o->centre[i]);
  }
  for (int64_t i = 0; i < o->stays && ok; i++) {
    ok = o->first[i] < o->first[i + 1] && o->first[i + 1] <= o->visits && o->held[i] <= 1 &&
         o->end[i] <= RGM_STAY_SURVIVED;
  }
  for (int64_t i = 0; i < o->visits && ok; i++) {
    ok = o->state[i] >= -1 && o->state[i] < o->centres && o->action[i] >= 0 &&
         o->action[i] < m->actions;
  }
  return ok;
}


static bool get_number(hid_t group, const char *name, double *out) {
  hid_t id = H5Aexists(group, name) > 0 ? H5Aopen(group, name, H5P_DEFAULT) : -1;
  hid_t type = id < 0 ? -1 : H5Aget_type(id), space = id < 0 ? -1 : H5Aget_space(id);
  const bool ok = type >= 0 && H5Tequal(type, H5T_IEEE_F64LE) > 0 &&
                  H5Sget_simple_extent_type(space) == H5S_SCALAR &&
                  H5Aread(id, H5T_NATIVE_DOUBLE, out) >= 0 && isfinite(*out);
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);
  rgm_hdf5_drop(id);
  return ok;
}


static rgm_status get_origin(const char *path, hid_t file, int64_t most, rgm_mdp *m) {
  if (H5Lexists(file, "origin", H5P_DEFAULT) <= 0) {
    return RGM_OK;
  }
  rgm_mdp_origin *o = m->origin = calloc(1, sizeof *o);
  hid_t group = o != NULL ? H5Gopen2(file, "origin", H5P_DEFAULT) : -1;
  const bool sized =
      group >= 0 && get_size(group, "features", RGM_FEATURES, &o->features) &&
      get_size(group, "centres", INT32_MAX, &o->centres) &&
      get_size(group, "drugs", RGM_DRUGS, &o->drugs) &&
      get_size(group, "bins", RGM_BINS, &o->bins) && get_size(group, "stays", most, &o->stays) &&
      get_size(group, "visits", most, &o->visits) && get_number(group, "died_pays", &o->pay[1]) &&
      get_number(group, "survived_pays", &o->pay[2]);
  rgm_status status = sized && o->stays > 0 && o->features > 0 ? RGM_OK : refuse(path, "origin");
  part all[ORIGIN_PARTS];
  if (status == RGM_OK) {
    list_origin(o, all);
  }
  for (int i = 0; i < ORIGIN_PARTS && status == RGM_OK; i++) {
    status = get_part(path, group, &all[i], most);
  }
  status =
      status == RGM_OK ? get_names(path, group, "feature_names", o->features, &o->feature) : status;
  status = status == RGM_OK ? get_names(path, group, "drug_names", o->drugs, &o->drug) : status;
  if (status == RGM_OK && !check_origin(m, o)) {
    status = refuse(path, "visits or centres");
  }
  rgm_hdf5_drop(group);
  return status;
}


static rgm_status get_all(const char *path, hid_t file, size_t bytes, rgm_mdp *m) {
  hid_t group = H5Lexists(file, "mdp", H5P_DEFAULT) > 0 ? H5Gopen2(file, "mdp", H5P_DEFAULT) : -1;
  int64_t grid[2] = {0, 0};
  // deflate makes at most a thousand of one
  const int64_t most = bytes < INT64_MAX / 1100 ? (int64_t)bytes * 1100 : INT64_MAX;
  const bool sized = group >= 0 && get_size(group, "states", INT32_MAX, &m->states) &&
                     get_size(group, "actions", INT32_MAX, &m->actions) &&
                     get_size(group, "rows", most, &m->rows) &&
                     get_size(group, "entries", most, &m->entries) &&
                     get_size(group, "grid_rows", INT32_MAX, &grid[0]) &&
                     get_size(group, "grid_columns", INT32_MAX, &grid[1]);
  rgm_status status = sized && m->states > 0 && m->rows > 0 ? RGM_OK : refuse(path, "sizes");
  const bool table = sized && grid[0] > 0 && grid[1] > 0 && m->states / grid[0] == grid[1] &&
                     m->states % grid[0] == 0;
  m->grid_rows = table ? (int)grid[0] : 0;
  m->grid_columns = table ? (int)grid[1] : 0;
  part all[PARTS];
  list_parts(m, all);
  for (int i = 0; i < PARTS && status == RGM_OK; i++) {
    status = get_part(path, group, &all[i], most);
  }
  status = status == RGM_OK ? check_arrays(path, m) : status;
  status =
      status == RGM_OK ? get_names(path, group, "state_names", m->states, &m->state_name) : status;
  status = status == RGM_OK ? get_names(path, group, "action_names", m->actions, &m->action_name)
                            : status;
  status = status == RGM_OK ? get_origin(path, file, most, m) : status;
  rgm_hdf5_drop(group);
  return status;
}


rgm_status rgm_mdp_file_read(const char *path, rgm_mdp **out) {
  rgm_image bytes = {0};
  uint32_t schema;
  rgm_hdf5_reason why;
  char name[32];
  *out = NULL;
  RGM_TRY(rgm_durable_read(path, &bytes.data, &bytes.size, &schema));
  bytes.capacity = bytes.size;
  rgm_mdp *m = *out = calloc(1, sizeof *m);
  rgm_status status = m == NULL ? rgm_fail(RGM_EMEMORY, "%s: no memory to read it", path)
                      : schema != RGM_MDP_SCHEMA ? refuse(path, "another kind of file")
                                                 : RGM_OK;
  if (status == RGM_OK) {
    m->gamma = NAN;
    rgm_hdf5_begin(&why);
    rgm_image_name(name, &bytes);
    hid_t access = rgm_image_access(&bytes, true);
    hid_t file = access < 0 ? -1 : H5Fopen(name, H5F_ACC_RDONLY, access);
    status = file < 0 ? refuse(path, "not HDF5") : get_all(path, file, bytes.size, m);
    rgm_hdf5_drop(file);
    rgm_hdf5_drop(access);
    rgm_hdf5_end();
  }
  free(bytes.data);
  if (status != RGM_OK) {
    rgm_mdp_free(m);
    *out = NULL;
  }
  return status;
}


rgm_status rgm_mdp_read_own(const rgm_mdp_source *source, rgm_mdp **out) {
  return rgm_mdp_file_read(source->path, out);
}
