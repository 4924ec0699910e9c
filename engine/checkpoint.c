// SPDX-License-Identifier: Apache-2.0
// What is in a checkpoint: an HDF5 file, built and read in memory only. durable.c moves its bytes.
//
//   /            attributes schema (i32), step (u64)
//   /config      the resolved YAML, one fixed-length string
//   /provenance  one string attribute each, in the order given
//   /tensors     attribute count (i32); one dataset per record, '/' in a name makes groups; its
//                attributes: name, axes, unit, index (i32, its place in the order of records)
//
// The same content gives the same bytes: no time stamps, nothing that depends on addresses.

#include "engine/image.h"

#include <stdlib.h>
#include <string.h>


enum {
  CHUNK = 65536,                      // elements of a chunk, at most
  MAX_OBJECTS = 32 * RGM_MAX_RECORDS, // links below /tensors; only a crafted file has more
};


// ---- element types and chunks ------------------------------------------------------------------

static hid_t file_type(rgm_dtype dtype) {
  const hid_t type[RGM_DTYPES] = {H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_STD_I32LE, H5T_STD_U32LE,
                                  H5T_STD_U8LE};
  return type[dtype];
}


static hid_t memory_type(rgm_dtype dtype) {
  const hid_t type[RGM_DTYPES] = {H5T_NATIVE_FLOAT, H5T_NATIVE_DOUBLE, H5T_NATIVE_INT32,
                                  H5T_NATIVE_UINT32, H5T_NATIVE_UINT8};
  return type[dtype];
}


// The shape of chunks, from the inside out: whole dims while they fit, then equal parts of one,
// then ones. Returns the bytes of all chunks.
static size_t chunk_shape(const rgm_record *record, hsize_t chunk[RGM_MAX_RANK]) {
  size_t bytes = rgm_dtype_size(record->dtype);
  hsize_t left = CHUNK;
  for (int i = record->rank - 1; i >= 0; i--) {
    hsize_t dim = (hsize_t)record->dims[i];
    hsize_t parts = (dim + left - 1) / left;
    chunk[i] = (dim + parts - 1) / parts;
    left /= chunk[i];
    bytes *= parts * chunk[i];
  }
  return bytes;
}


// ---- writing -----------------------------------------------------------------------------------

// Room for the whole file, so that HDF5, which takes a failed extension badly, need not extend it.
static size_t room_for(const rgm_checkpoint *c) {
  const size_t per_object = 4096, per_chunk = 64;
  size_t bytes = 2 * RGM_IMAGE_STEP + (c->config != NULL ? strlen(c->config) : 0);
  bytes += per_object * ((size_t)c->attribute_count + (size_t)c->record_count);
  for (int i = 0; i < c->record_count; i++) {
    const rgm_record *r = &c->records[i];
    hsize_t chunk[RGM_MAX_RANK];
    if (rgm_count_elements(r->rank, r->dims) > 0) {
      size_t data = chunk_shape(r, chunk);
      bytes += data + per_chunk * (data / (CHUNK / 2) + 1);
    }
  }
  return bytes;
}


static bool put_config(hid_t file, const char *text) {
  hid_t list = rgm_hdf5_creation(H5P_DATASET_CREATE);
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t type = rgm_hdf5_text_type(text);
  hid_t dataset = H5Dcreate2(file, "config", type, space, H5P_DEFAULT, list, H5P_DEFAULT);
  bool ok = H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) >= 0;
  rgm_hdf5_drop(dataset);
  rgm_hdf5_drop(type);
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(list);
  return ok;
}


// Attributes keep the order in which they are made.
static bool put_provenance(hid_t file, const rgm_checkpoint *c) {
  hid_t list = rgm_hdf5_creation(H5P_GROUP_CREATE);
  bool ok = H5Pset_attr_creation_order(list, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0;
  hid_t group = H5Gcreate2(file, "provenance", H5P_DEFAULT, list, H5P_DEFAULT);
  ok = ok && group >= 0;
  for (int i = 0; i < c->attribute_count && ok; i++) {
    ok = rgm_hdf5_put_text(group, c->attributes[i].name, c->attributes[i].value);
  }
  rgm_hdf5_drop(group);
  rgm_hdf5_drop(list);
  return ok;
}


// Makes the groups that a name needs: "policy" and "policy/0" for "policy/0/weight". HDF5 would
// make them itself, but with time stamps.
static bool put_groups(hid_t tensors, const char *name) {
  char part[64];
  hid_t list = rgm_hdf5_creation(H5P_GROUP_CREATE);
  bool ok = list >= 0;
  for (const char *slash = strchr(name, '/'); slash != NULL && ok; slash = strchr(slash + 1, '/')) {
    snprintf(part, sizeof part, "%.*s", (int)(slash - name), name);
    htri_t exists = H5Lexists(tensors, part, H5P_DEFAULT);
    hid_t group = exists == 0 ? H5Gcreate2(tensors, part, H5P_DEFAULT, list, H5P_DEFAULT) : -1;
    ok = exists > 0 || group >= 0;
    rgm_hdf5_drop(group);
  }
  rgm_hdf5_drop(list);
  return ok;
}


static bool put_record(hid_t tensors, const rgm_record *record, int index) {
  // scalars and empty tensors cannot have chunks, and so no fletcher32 either
  hsize_t dims[RGM_MAX_RANK], chunk[RGM_MAX_RANK];
  for (int i = 0; i < record->rank; i++) {
    dims[i] = (hsize_t)record->dims[i];
  }
  bool filled = rgm_count_elements(record->rank, record->dims) > 0;
  hid_t list = rgm_hdf5_creation(H5P_DATASET_CREATE);
  bool ok = put_groups(tensors, record->name);
  if (filled && record->rank > 0) {
    chunk_shape(record, chunk);
    ok = ok && H5Pset_chunk(list, record->rank, chunk) >= 0 && H5Pset_fletcher32(list) >= 0;
  }

  // the values, and what they mean
  int32_t place = index;
  hid_t type = memory_type(record->dtype);
  hid_t space = H5Screate_simple(record->rank, dims, NULL);
  hid_t dataset = H5Dcreate2(tensors, record->name, file_type(record->dtype), space, H5P_DEFAULT,
                             list, H5P_DEFAULT);
  ok = ok && dataset >= 0 &&
       (!filled || H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, record->data) >= 0) &&
       rgm_hdf5_put_text(dataset, "name", record->name) &&
       rgm_hdf5_put_text(dataset, "axes", record->axes) &&
       rgm_hdf5_put_text(dataset, "unit", record->unit) &&
       rgm_hdf5_put(dataset, "index", H5T_STD_I32LE, H5T_NATIVE_INT32, &place);
  rgm_hdf5_drop(dataset);
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(list);
  return ok;
}


static bool put_content(hid_t file, const rgm_checkpoint *c) {
  int32_t schema = c->schema;
  bool ok = rgm_hdf5_put(file, "schema", H5T_STD_I32LE, H5T_NATIVE_INT32, &schema) &&
            rgm_hdf5_put(file, "step", H5T_STD_U64LE, H5T_NATIVE_UINT64, &c->step) &&
            put_config(file, c->config != NULL ? c->config : "") && put_provenance(file, c);
  hid_t list = rgm_hdf5_creation(H5P_GROUP_CREATE);
  hid_t tensors = H5Gcreate2(file, "tensors", H5P_DEFAULT, list, H5P_DEFAULT);
  int32_t count = c->record_count;
  ok = ok && rgm_hdf5_put(tensors, "count", H5T_STD_I32LE, H5T_NATIVE_INT32, &count);
  for (int i = 0; i < c->record_count && ok; i++) {
    ok = put_record(tensors, &c->records[i], i);
  }
  rgm_hdf5_drop(tensors);
  rgm_hdf5_drop(list);
  return ok;
}


static bool build(rgm_image *file, const rgm_checkpoint *c) {
  char name[32];
  rgm_image_name(name, file);
  hid_t access = rgm_image_access(file, false);
  hid_t list = rgm_hdf5_creation(H5P_FILE_CREATE);
  bool ok = access >= 0 && H5Pset_userblock(list, RGM_PREFIX_SIZE) >= 0;
  hid_t handle = ok ? H5Fcreate(name, H5F_ACC_TRUNC, list, access) : -1;
  ok = handle >= 0 && put_content(handle, c) && H5Fflush(handle, H5F_SCOPE_LOCAL) >= 0;
  if (handle >= 0) {
    ok = H5Fclose(handle) >= 0 && ok;
  }
  rgm_hdf5_drop(list);
  rgm_hdf5_drop(access);
  return ok && rgm_image_trim(file);
}


rgm_status rgm_checkpoint_write(const char *path, const rgm_checkpoint *checkpoint) {
  RGM_TRY(rgm_checkpoint_check(checkpoint));
  rgm_image file = {.capacity = room_for(checkpoint)};
  file.data = calloc(1, file.capacity);
  if (file.data == NULL) {
    return rgm_fail(RGM_EMEMORY,
                    "%s: no memory to build a checkpoint of %zu bytes: free memory or train fewer "
                    "replicas at a time",
                    path, file.capacity);
  }

  // build, then seal, then write
  rgm_hdf5_reason why;
  rgm_hdf5_begin(&why);
  bool built = build(&file, checkpoint);
  rgm_hdf5_end();
  rgm_status status = RGM_OK;
  if (!built) {
    status = rgm_fail(why.memory ? RGM_EMEMORY : RGM_EINTERNAL,
                      "%s: HDF5 could not build the checkpoint (%s): please report this line", path,
                      why.text[0] != '\0' ? why.text : "unknown layout");
  } else {
    status = rgm_prefix_fill(file.data, file.size, (uint32_t)checkpoint->schema);
  }
  if (status == RGM_OK) {
    const mode_t mode = checkpoint->confidential ? 0600 : 0644;
    status = rgm_durable_write(path, file.data, file.size, mode);
  }
  free(file.data);
  return status;
}


// ---- reading -----------------------------------------------------------------------------------

// A checkpoint on its way in. The digest was right, so what does not fit here was written by
// another program, or by somebody who means harm: sizes are checked before memory is taken.
typedef struct reader {
  const char *path;
  rgm_hdf5_reason why;
  size_t left;       // of the file's bytes, those that no tensor has claimed yet
  int objects;       // links seen below /tensors
  char name[64];     // of the tensor or group at hand, "" outside
  int records;       // filled so far
  rgm_status status; // of the walk
  rgm_checkpoint *out;
} reader;


static rgm_status refuse(const reader *r, const char *what) {
  if (r->why.memory) {
    return rgm_fail(RGM_EMEMORY, "%s: HDF5 has no memory to read it", r->path);
  }
  const char *dot = r->why.text[0] != '\0' ? "; " : "";
  return rgm_fail(RGM_EDATA,
                  "%s: %s%s%s (%s%s%s), though the file is unharmed: not written by Regimen, use "
                  "another checkpoint",
                  r->path, r->name[0] != '\0' ? "tensor " : "", r->name,
                  r->name[0] != '\0' ? "" : "bad content", what, dot, r->why.text);
}


static rgm_status no_memory(const reader *r, size_t bytes) {
  return rgm_fail(RGM_EMEMORY, "%s: no memory for %zu bytes of it", r->path, bytes);
}


// True for a string of fixed length, whose bytes are then in the file and nowhere else.
static bool is_fixed_text(hid_t type) {
  return H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0;
}


static bool is_scalar(hid_t space) {
  return H5Sget_simple_extent_type(space) == H5S_SCALAR;
}


// Reads a scalar attribute of exactly this type in the file.
static rgm_status get_number(reader *r, hid_t where, const char *name, hid_t type, hid_t memory,
                             void *value) {
  hid_t attribute = H5Aopen(where, name, H5P_DEFAULT);
  hid_t stored = attribute < 0 ? -1 : H5Aget_type(attribute);
  hid_t space = attribute < 0 ? -1 : H5Aget_space(attribute);
  rgm_status status = RGM_OK;
  if (stored < 0 || space < 0 || !is_scalar(space) || H5Tequal(stored, type) <= 0 ||
      H5Aread(attribute, memory, value) < 0) {
    status = refuse(r, name);
  }
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(stored);
  rgm_hdf5_drop(attribute);
  return status;
}


// Reads the text of an open attribute into a field.
static bool read_text(hid_t attribute, char *text, size_t size) {
  hid_t type = H5Aget_type(attribute);
  hid_t space = H5Aget_space(attribute);
  memset(text, 0, size);
  bool ok = type >= 0 && space >= 0 && is_scalar(space) && is_fixed_text(type) &&
            H5Tget_size(type) <= size && H5Aread(attribute, type, text) >= 0 &&
            memchr(text, '\0', size) != NULL;
  text[size - 1] = '\0';
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);
  return ok;
}


static rgm_status get_text(reader *r, hid_t where, const char *name, char *text, size_t size) {
  hid_t attribute = H5Aopen(where, name, H5P_DEFAULT);
  rgm_status status = RGM_OK;
  if (attribute < 0 || !read_text(attribute, text, size)) {
    status = refuse(r, name);
  }
  rgm_hdf5_drop(attribute);
  return status;
}


// True where the values of a dataset lie in this file, whole and in no form but ours: no external
// or virtual storage, no filter but fletcher32, no chunks larger than the dataset.
static bool stored_plainly(hid_t dataset, int rank, const hsize_t *dims, size_t bytes) {
  hid_t list = H5Dget_create_plist(dataset);
  hsize_t chunk[RGM_MAX_RANK];
  H5D_layout_t layout = list < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(list);
  bool ok = false;
  if (layout == H5D_CHUNKED && H5Pget_chunk(list, RGM_MAX_RANK, chunk) == rank) {
    int filters = H5Pget_nfilters(list);
    unsigned flags, config;
    size_t values = 0;
    ok = filters == 0 || (filters == 1 && H5Pget_filter2(list, 0, &flags, &values, NULL, 0, NULL,
                                                         &config) == H5Z_FILTER_FLETCHER32);
    for (int i = 0; i < rank; i++) {
      ok = ok && chunk[i] <= dims[i];
    }
  } else if (layout == H5D_CONTIGUOUS || layout == H5D_COMPACT) {
    ok = H5Pget_external_count(list) == 0;
  }
  rgm_hdf5_drop(list);
  return ok && (bytes == 0 || H5Dget_storage_size(dataset) >= bytes);
}


static rgm_status get_config(reader *r, hid_t file) {
  hid_t dataset = H5Dopen2(file, "config", H5P_DEFAULT);
  hid_t type = dataset < 0 ? -1 : H5Dget_type(dataset);
  hid_t space = dataset < 0 ? -1 : H5Dget_space(dataset);
  size_t size = type < 0 ? 0 : H5Tget_size(type);
  rgm_status status = RGM_OK;
  if (type < 0 || space < 0 || !is_scalar(space) || !is_fixed_text(type) || size > r->left ||
      !stored_plainly(dataset, 0, NULL, size)) {
    status = refuse(r, "config");
  } else if ((r->out->config = calloc(1, size + 1)) == NULL) {
    status = no_memory(r, size + 1);
  } else if (H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, r->out->config) < 0) {
    status = refuse(r, "config");
  }
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);
  rgm_hdf5_drop(dataset);
  return status;
}


static rgm_status get_provenance(reader *r, hid_t file) {
  hid_t group = H5Gopen2(file, "provenance", H5P_DEFAULT);
  int count = group < 0 ? -1 : H5Aget_num_attrs(group);
  rgm_status status = RGM_OK;
  if (count < 0 || count > RGM_MAX_ATTRIBUTES) {
    status = refuse(r, "provenance");
  } else if ((r->out->attributes = calloc((size_t)count + 1, sizeof(rgm_attribute))) == NULL) {
    status = no_memory(r, ((size_t)count + 1) * sizeof(rgm_attribute));
  }

  // in the order in which they were made
  for (int i = 0; i < count && status == RGM_OK; i++) {
    rgm_attribute *to = &r->out->attributes[i];
    hid_t attribute = H5Aopen_by_idx(group, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, (hsize_t)i,
                                     H5P_DEFAULT, H5P_DEFAULT);
    ssize_t length = attribute < 0 ? -1 : H5Aget_name(attribute, sizeof to->name, to->name);
    if (length <= 0 || (size_t)length >= sizeof to->name ||
        !read_text(attribute, to->value, sizeof to->value)) {
      status = refuse(r, "provenance");
    } else {
      r->out->attribute_count++;
    }
    rgm_hdf5_drop(attribute);
  }
  rgm_hdf5_drop(group);
  return status;
}


// The dtype, rank and dims of a dataset, and its bytes, if it is one of ours.
static rgm_status get_shape(reader *r, hid_t dataset, rgm_record *to, size_t *bytes) {
  hid_t type = H5Dget_type(dataset);
  hid_t space = H5Dget_space(dataset);
  int dtype = 0;
  while (dtype < RGM_DTYPES && type >= 0 && H5Tequal(type, file_type((rgm_dtype)dtype)) <= 0) {
    dtype++;
  }
  H5S_class_t class = space < 0 ? H5S_NO_CLASS : H5Sget_simple_extent_type(space);
  int rank = class == H5S_SCALAR ? 0 : class == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space) : -1;
  hsize_t dims[RGM_MAX_RANK] = {1, 1, 1, 1}, most[RGM_MAX_RANK] = {1, 1, 1, 1};
  bool fixed = rank >= 0 && rank <= RGM_MAX_RANK &&
               (rank == 0 || H5Sget_simple_extent_dims(space, dims, most) == rank) &&
               memcmp(dims, most, sizeof dims) == 0;
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);

  // sizes before memory
  if (type < 0 || dtype == RGM_DTYPES) {
    return refuse(r, "unknown element type");
  }
  if (!fixed) {
    return refuse(r, "unknown shape");
  }
  to->dtype = (rgm_dtype)dtype;
  to->rank = rank;
  for (int i = 0; i < RGM_MAX_RANK; i++) {
    to->dims[i] = dims[i] > INT64_MAX ? -1 : (int64_t)dims[i];
  }
  int64_t count = rgm_count_elements(rank, to->dims);
  if (count < 0 || (uint64_t)count > r->left / rgm_dtype_size(to->dtype)) {
    return refuse(r, "larger than the file");
  }
  *bytes = (size_t)count * rgm_dtype_size(to->dtype);
  return stored_plainly(dataset, rank, dims, *bytes) ? RGM_OK : refuse(r, "unknown storage");
}


// Reads the dataset called r->name into its place among the records.
static rgm_status get_record(reader *r, hid_t dataset) {
  int32_t place = -1;
  RGM_TRY(get_number(r, dataset, "index", H5T_STD_I32LE, H5T_NATIVE_INT32, &place));
  if (place < 0 || place >= r->out->record_count || r->out->records[place].data != NULL) {
    return refuse(r, "index");
  }

  // what it is: its own idea of its name must be ours
  rgm_record *to = &r->out->records[place];
  size_t bytes = 0;
  RGM_TRY(get_text(r, dataset, "name", to->name, sizeof to->name));
  if (strcmp(to->name, r->name) != 0) {
    return refuse(r, "name");
  }
  RGM_TRY(get_text(r, dataset, "axes", to->axes, sizeof to->axes));
  RGM_TRY(get_text(r, dataset, "unit", to->unit, sizeof to->unit));
  RGM_TRY(get_shape(r, dataset, to, &bytes));

  // its values; an empty tensor has a pointer too
  r->left -= bytes;
  r->records++;
  to->data = malloc(bytes + (bytes == 0));
  if (to->data == NULL) {
    return no_memory(r, bytes);
  }
  bool ok = bytes == 0 ||
            H5Dread(dataset, memory_type(to->dtype), H5S_ALL, H5S_ALL, H5P_DEFAULT, to->data) >= 0;
  return ok ? RGM_OK : refuse(r, "values");
}


// Visits one link below /tensors, and through groups all below it.
static herr_t visit(hid_t parent, const char *name, const H5L_info_t *info, void *data) {
  reader *r = data;
  size_t length = strlen(r->name);
  int added =
      snprintf(r->name + length, sizeof r->name - length, "%s%s", length > 0 ? "/" : "", name);
  if (added < 0 || (size_t)added >= sizeof r->name - length || ++r->objects > MAX_OBJECTS) {
    r->status = refuse(r, "too many groups");
    return -1;
  }
  if (info->type != H5L_TYPE_HARD) {
    r->status = refuse(r, "a soft or external link");
    return -1;
  }

  // a group: all of it; a dataset: a record
  hid_t object = H5Oopen(parent, name, H5P_DEFAULT);
  H5I_type_t type = object < 0 ? H5I_BADID : H5Iget_type(object);
  if (type == H5I_GROUP) {
    if (H5Literate(object, H5_INDEX_NAME, H5_ITER_INC, NULL, visit, r) < 0 && r->status == RGM_OK) {
      r->status = refuse(r, "a group that cannot be listed");
    }
  } else {
    r->status = type == H5I_DATASET ? get_record(r, object) : refuse(r, "neither group nor tensor");
  }
  rgm_hdf5_drop(object);
  r->name[length] = '\0';
  return r->status == RGM_OK ? 0 : -1;
}


static rgm_status get_records(reader *r, hid_t file) {
  int32_t count = -1;
  hid_t tensors = H5Gopen2(file, "tensors", H5P_DEFAULT);
  rgm_status status = get_number(r, tensors, "count", H5T_STD_I32LE, H5T_NATIVE_INT32, &count);
  if (status == RGM_OK && (count < 0 || count > RGM_MAX_RECORDS)) {
    status = refuse(r, "count of tensors");
  }
  if (status == RGM_OK) {
    r->out->records = calloc((size_t)count + 1, sizeof(rgm_record));
    status = r->out->records == NULL ? no_memory(r, (size_t)count * sizeof(rgm_record)) : RGM_OK;
  }

  // every place is filled once
  if (status == RGM_OK) {
    r->out->record_count = count;
    bool walked = H5Literate(tensors, H5_INDEX_NAME, H5_ITER_INC, NULL, visit, r) >= 0;
    status = r->status;
    if (status == RGM_OK && (!walked || r->records != count)) {
      status = refuse(r, "count of tensors");
    }
  }
  rgm_hdf5_drop(tensors);
  return status;
}


// The root holds hard links to config, provenance and tensors, and nothing else.
static herr_t check_root(hid_t file, const char *name, const H5L_info_t *info, void *data) {
  (void)file, (void)data;
  bool known = strcmp(name, "config") == 0 || strcmp(name, "provenance") == 0 ||
               strcmp(name, "tensors") == 0;
  return known && info->type == H5L_TYPE_HARD ? 0 : -1;
}


static rgm_status get_content(reader *r, hid_t file, uint32_t prefix_schema) {
  int32_t schema;
  RGM_TRY(get_number(r, file, "schema", H5T_STD_I32LE, H5T_NATIVE_INT32, &schema));
  if ((uint32_t)schema != prefix_schema) {
    return refuse(r, "schema");
  }
  r->out->schema = schema;
  RGM_TRY(get_number(r, file, "step", H5T_STD_U64LE, H5T_NATIVE_UINT64, &r->out->step));
  if (H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, NULL, check_root, NULL) < 0) {
    return refuse(r, "an unknown link in the root");
  }
  RGM_TRY(get_config(r, file));
  RGM_TRY(get_provenance(r, file));
  return get_records(r, file);
}


// Opens the verified bytes and reads all of them into r->out.
static rgm_status parse(reader *r, rgm_image *bytes, uint32_t schema) {
  char name[32];
  rgm_image_name(name, bytes);
  hid_t access = rgm_image_access(bytes, true);
  hid_t file = access < 0 ? -1 : H5Fopen(name, H5F_ACC_RDONLY, access);
  rgm_status status = file < 0 ? refuse(r, "not HDF5") : get_content(r, file, schema);
  rgm_hdf5_drop(file);
  rgm_hdf5_drop(access);
  return status;
}


rgm_status rgm_checkpoint_read(const char *path, rgm_checkpoint **out) {
  *out = NULL;
  rgm_image bytes;
  uint32_t schema;
  RGM_TRY(rgm_durable_read(path, &bytes.data, &bytes.size, &schema));
  bytes.capacity = bytes.size;

  // a schema that is not ours may hold anything: do not look
  reader r = {.path = path, .left = bytes.size};
  rgm_status status = rgm_schema_check(path, schema);
  if (status == RGM_OK && (r.out = calloc(1, sizeof *r.out)) == NULL) {
    status = no_memory(&r, sizeof *r.out);
  }
  if (status == RGM_OK) {
    rgm_hdf5_begin(&r.why);
    status = parse(&r, &bytes, schema);
    rgm_hdf5_end();
  }
  free(bytes.data);
  if (status != RGM_OK) {
    rgm_checkpoint_free(r.out);
    return status;
  }
  *out = r.out;
  return RGM_OK;
}
