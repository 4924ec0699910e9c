// SPDX-License-Identifier: Apache-2.0
// Looks at an array of a foreign HDF5 file before reading it, and refuses by name what numbers of a
// data set do not need: see dataset_array.h. A file can say anything: that its values lie in
// another file, that it has 2^40 rows, that a chunk is a terabyte, that code must be loaded to read
// it. Nothing here takes memory for what has not been checked.

#include "engine/dataset_array.h"

#include <string.h>


rgm_status rgm_input_refuse(const rgm_input *in, const char *name, const char *what) {
  if (in->why.memory) {
    return rgm_fail(RGM_EMEMORY, "%s: %s: HDF5 needs more than %d MiB to read it", in->path, name,
                    RGM_CHILD_MEMORY);
  }
  const bool said = in->why.text[0] != '\0';
  return rgm_fail(RGM_EDATA, "%s: %s: %s%s%s%s", in->path, name, what, said ? " (HDF5: " : "",
                  in->why.text, said ? ")" : "");
}


// ---- links and attributes ----------------------------------------------------------------------

rgm_status rgm_input_has(rgm_input *in, const char *name, bool *has) {
  char part[256];
  *has = false;
  const char *end = name;
  do {
    end = strchr(end + 1, '/');
    const size_t length = end != NULL ? (size_t)(end - name) : strlen(name);
    if (length >= sizeof part) {
      return rgm_input_refuse(in, "a name", "is too long");
    }
    snprintf(part, sizeof part, "%.*s", (int)length, name);
    const htri_t exists = H5Lexists(in->file, part, H5P_DEFAULT);
    if (exists < 0) {
      return rgm_input_refuse(in, part, "cannot be looked up: the file is damaged");
    }
    if (exists == 0) {
      return RGM_OK;
    }
    H5L_info_t info;
    if (H5Lget_info(in->file, part, &info, H5P_DEFAULT) < 0) {
      return rgm_input_refuse(in, part, "a link that cannot be read: the file is damaged");
    }
    if (info.type == H5L_TYPE_EXTERNAL) {
      return rgm_input_refuse(in, part,
                              "an external link, which leads to another file; refused: copy the "
                              "values into one file");
    }
    if (info.type == H5L_TYPE_SOFT) {
      return rgm_input_refuse(in, part,
                              "a soft link; refused: copy the values to where it points from");
    }
    if (info.type != H5L_TYPE_HARD) {
      return rgm_input_refuse(in, part, "a link of an unknown kind; refused");
    }
  } while (end != NULL);
  *has = true;
  return RGM_OK;
}


rgm_status rgm_input_attributes(rgm_input *in, const char *name) {
  H5O_info_t info;
  if (H5Oget_info_by_name(in->file, name, &info, H5P_DEFAULT) < 0) {
    return rgm_input_refuse(in, name, "cannot be looked at: the file is damaged");
  }
  if (info.num_attrs > RGM_ARRAY_ATTRIBUTES) {
    return rgm_input_refuse(in, name, "has an absurd number of attributes; refused");
  }
  for (hsize_t i = 0; i < info.num_attrs; i++) {
    hid_t id =
        H5Aopen_by_idx(in->file, name, H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT);
    if (id < 0) {
      return rgm_input_refuse(in, name, "has an attribute that cannot be read");
    }
    const hsize_t bytes = H5Aget_storage_size(id);
    rgm_hdf5_drop(id);
    if (bytes > RGM_ARRAY_ATTRIBUTE) {
      return rgm_input_refuse(in, name, "has an attribute of absurd size; refused");
    }
  }
  return RGM_OK;
}


// ---- type, shape, storage ----------------------------------------------------------------------

static const char *check_integer(hid_t type, rgm_cell *cell) {
  const size_t size = H5Tget_size(type);
  const bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
  *cell = size == 1 && !is_signed                ? RGM_CELL_U8
          : size < 4 || (size == 4 && is_signed) ? RGM_CELL_I32
                                                 : RGM_CELL_I64;
  return size == 1 || size == 2 || size == 4 || size == 8 ? NULL
                                                          : "integers of an odd size; refused";
}


// NULL, or why values of this type are none
static const char *check_type(hid_t type, rgm_cell *cell, size_t *size) {
  *size = H5Tget_size(type);
  switch (H5Tget_class(type)) {
  case H5T_INTEGER:
    return check_integer(type, cell);
  case H5T_FLOAT:
    *cell = *size <= 4 ? RGM_CELL_F32 : RGM_CELL_F64;
    return *size == 2 || *size == 4 || *size == 8
               ? NULL
               : "floating-point numbers of an odd size; refused";
  case H5T_ENUM: // h5py's bool
    *cell = RGM_CELL_U8;
    return *size == 1 ? NULL : "an enumeration where numbers are expected; write plain numbers";
  case H5T_STRING:
    return "text where numbers are expected; convert it first";
  case H5T_VLEN:
    return "rows of varying length where numbers are expected; refused";
  case H5T_REFERENCE:
    return "references where numbers are expected; refused";
  case H5T_COMPOUND:
    return "a compound of several values where numbers are expected; write one array for each";
  case H5T_ARRAY:
    return "arrays as elements where numbers are expected; use another dimension";
  default:
    return "opaque values where numbers are expected; refused";
  }
}


static const char *check_space(hid_t space, rgm_array *a) {
  const H5S_class_t class = H5Sget_simple_extent_type(space);
  a->rank = class == H5S_SCALAR ? 0 : class == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space) : -1;
  if (a->rank < 0) {
    return "has no shape at all (a null dataspace); refused";
  }
  if (a->rank > RGM_ARRAY_RANK) {
    return "has too many dimensions; refused";
  }
  if (a->rank > 0 && H5Sget_simple_extent_dims(space, a->dims, NULL) != a->rank) {
    return "has a shape that cannot be read";
  }
  a->width = 1;
  for (int i = 1; i < a->rank; i++) {
    if (a->dims[i] == 0 || a->dims[i] > RGM_ARRAY_WIDTH ||
        (a->width *= (int64_t)a->dims[i]) > RGM_ARRAY_WIDTH) {
      return "rows of no numbers or of more than 4096; images and the like are not read";
    }
  }
  if (a->rank > 0 && a->dims[0] > (hsize_t)1 << 44) {
    return "a shape bomb: it claims more than 2^44 rows; refused";
  }
  a->rows = a->rank > 0 ? (int64_t)a->dims[0] : 1;
  return NULL;
}


// Only what comes with HDF5 itself and runs no other code; *deflate: one of them is deflate.
static const char *check_filters(hid_t list, bool *deflate) {
  const int n = H5Pget_nfilters(list);
  if (n < 0 || n > 4) {
    return "more filters than make sense; refused";
  }
  int deflates = 0;
  for (int i = 0; i < n; i++) {
    unsigned flags, config;
    size_t values = 0;
    const H5Z_filter_t filter =
        H5Pget_filter2(list, (unsigned)i, &flags, &values, NULL, 0, NULL, &config);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE &&
        filter != H5Z_FILTER_FLETCHER32) {
      return "an unknown filter (not deflate, shuffle or fletcher32); write it again with gzip or "
             "without compression";
    }
    deflates += filter == H5Z_FILTER_DEFLATE;
  }
  *deflate = deflates > 0;
  return deflates > 1 ? "deflate twice over; refused" : NULL;
}


static const char *check_chunks(hid_t list, size_t size, rgm_array *a) {
  hsize_t chunk[RGM_ARRAY_RANK];
  if (H5Pget_chunk(list, RGM_ARRAY_RANK, chunk) != a->rank || a->rank == 0) {
    return "chunks of another rank; refused";
  }
  uint64_t bytes = size, band = 1;
  const uint64_t most = (uint64_t)RGM_ARRAY_CHUNK << 20;
  for (int i = 0; i < a->rank; i++) {
    if (chunk[i] == 0 || chunk[i] > most || (bytes *= chunk[i]) > most) {
      return "a chunk bomb: one chunk is larger than 64 MiB; write it again in smaller chunks";
    }
    band *= i > 0 ? (a->dims[i] + chunk[i] - 1) / chunk[i] : 1;
  }
  a->chunk_rows = (int64_t)chunk[0];
  a->band = (size_t)(bytes * band);
  return NULL;
}


// How the values are stored, from the creation properties alone.
static const char *check_layout(hid_t list, size_t size, rgm_array *a, bool *chunked,
                                bool *deflate) {
  const H5D_layout_t layout = H5Pget_layout(list);
  *chunked = layout == H5D_CHUNKED;
  *deflate = false;
  if (layout == H5D_VIRTUAL) {
    return "a virtual data set, whose values lie in other files; refused: copy them into one file";
  }
  if (layout != H5D_CHUNKED && layout != H5D_CONTIGUOUS && layout != H5D_COMPACT) {
    return "an unknown storage layout; refused";
  }
  if (H5Pget_external_count(list) != 0) {
    return "external storage: its values lie in another file; refused: copy them into one file";
  }
  const char *fault = check_filters(list, deflate);
  return fault != NULL || !*chunked ? fault : check_chunks(list, size, a);
}


// What the file says it holds against what it can hold.
static const char *check_storage(const rgm_input *in, hid_t id, const rgm_array *a, size_t size,
                                 bool chunked, bool deflate) {
  const hsize_t stored = H5Dget_storage_size(id);
  const double bytes = (double)a->rows * (double)a->width * (double)size;
  if (stored > in->size) {
    return "its chunks claim more bytes than the file has; refused";
  }
  if (bytes > (double)stored * (chunked && deflate ? RGM_ARRAY_DEFLATE : 1)) {
    return "a shape bomb: its shape needs more bytes than the file holds; refused";
  }
  return NULL;
}


rgm_status rgm_array_open(rgm_input *in, const char *name, size_t cached, rgm_array *out,
                          hid_t *id) {
  bool has;
  H5O_info_t info;
  *out = (rgm_array){.rank = 0};
  *id = -1;
  RGM_TRY(rgm_input_has(in, name, &has));
  if (!has) {
    return rgm_input_refuse(in, name, "is not there");
  }
  RGM_TRY(rgm_input_attributes(in, name));
  if (H5Oget_info_by_name(in->file, name, &info, H5P_DEFAULT) < 0 ||
      info.type != H5O_TYPE_DATASET) {
    return rgm_input_refuse(in, name,
                            info.type == H5O_TYPE_GROUP
                                ? "is a group, not an array; values that are dicts or tuples must "
                                  "be flattened first"
                                : "is not an array");
  }

  // a virtual data set must be found out before its shape is asked for
  hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
  H5Pset_chunk_cache(access, 521, cached, 1.0);
  hid_t set = H5Dopen2(in->file, name, access);
  hid_t list = set < 0 ? -1 : H5Dget_create_plist(set);
  hid_t type = set < 0 ? -1 : H5Dget_type(set);
  const char *fault = set < 0 || list < 0 || type < 0 ? "cannot be opened" : NULL;
  if (fault == NULL && H5Pget_layout(list) == H5D_VIRTUAL) {
    fault = "a virtual data set, whose values lie in other files; refused: copy them into one file";
  }
  size_t size = 0;
  bool chunked = false, deflate = false;
  hid_t space = fault == NULL ? H5Dget_space(set) : -1;
  fault = fault != NULL ? fault : space < 0 ? "has no shape" : check_type(type, &out->cell, &size);
  fault = fault != NULL ? fault : check_space(space, out);
  fault = fault != NULL ? fault : check_layout(list, size, out, &chunked, &deflate);
  fault = fault != NULL ? fault : check_storage(in, set, out, size, chunked, deflate);
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(type);
  rgm_hdf5_drop(list);
  rgm_hdf5_drop(access);
  if (fault != NULL) {
    rgm_hdf5_drop(set);
    return rgm_input_refuse(in, name, fault);
  }
  *id = set;
  return RGM_OK;
}


// ---- values ------------------------------------------------------------------------------------

rgm_status rgm_array_read(rgm_input *in, const char *name, const rgm_array *a, hid_t id,
                          int64_t first, int64_t rows, void *out) {
  const hid_t type[RGM_CELLS] = {H5T_NATIVE_FLOAT, H5T_NATIVE_DOUBLE, H5T_NATIVE_INT32,
                                 H5T_NATIVE_INT64, H5T_NATIVE_UINT8};
  hsize_t start[RGM_ARRAY_RANK] = {(hsize_t)first}, count[RGM_ARRAY_RANK];
  memcpy(count, a->dims, sizeof count);
  count[0] = (hsize_t)rows;
  hid_t space = H5Dget_space(id);
  hid_t memory = a->rank > 0 ? H5Screate_simple(a->rank, count, NULL) : H5Screate(H5S_SCALAR);
  const bool ok =
      space >= 0 && memory >= 0 &&
      (a->rank == 0 || H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0) &&
      H5Dread(id, type[a->cell], memory, space, H5P_DEFAULT, out) >= 0;
  rgm_hdf5_drop(memory);
  rgm_hdf5_drop(space);
  return ok ? RGM_OK : rgm_input_refuse(in, name, "its values cannot be read: the file is damaged");
}
