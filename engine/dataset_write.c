// SPDX-License-Identifier: Apache-2.0
// Data sets into files: dataset.h has the layout. A table in memory is built in memory and written
// like a checkpoint; one that comes piece by piece goes into a temporary file by HDF5 itself, is
// sealed with prefix and SHA-256 and renamed.

#include "engine/dataset_private.h"
#include "engine/image.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
  CHUNK = 16384,  // rows of a column's chunk
  DEFLATE = 1,    // the fastest; tables of patients shrink to a third by it
  PIECE = 65536,  // rows that go into HDF5 at once
  ROOM = 1 << 20, // bytes of a disk that stay free
};

// An array of the file that grows with the rows.
typedef struct array {
  hid_t id;
  int width;      // 0: one number a row
  unsigned roles; // of the columns that it repeats; 0 for a column of /table
} array;

enum { VIEWS = 6 };

struct rgm_dataset_writer {
  char *path, *temporary; // temporary NULL: in memory
  rgm_dataset *shape;
  rgm_image image;
  rgm_hdf5_reason why;
  hid_t file;
  hid_t *column;
  array view[VIEWS];
  int views;
  float *matrix; // (PIECE, widest view)
  rgm_hash **hash;
  int64_t rows;
};


static hid_t file_type(rgm_cell cell) {
  const hid_t type[RGM_CELLS] = {H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_STD_I32LE, H5T_STD_I64LE,
                                 H5T_STD_U8LE};
  return type[cell];
}


static hid_t memory_type(rgm_cell cell) {
  const hid_t type[RGM_CELLS] = {H5T_NATIVE_FLOAT, H5T_NATIVE_DOUBLE, H5T_NATIVE_INT32,
                                 H5T_NATIVE_INT64, H5T_NATIVE_UINT8};
  return type[cell];
}


// ---- the empty file ----------------------------------------------------------------------------

// An array of no rows yet; width 0 has one dim.
static hid_t make_array(hid_t where, const char *name, hid_t type, int width) {
  hsize_t dims[2] = {0, (hsize_t)width}, most[2] = {H5S_UNLIMITED, (hsize_t)width};
  hsize_t chunk[2] = {width > 0 ? 1 + CHUNK / (hsize_t)width : CHUNK, (hsize_t)width};
  const int rank = width > 0 ? 2 : 1;
  hid_t list = rgm_hdf5_creation(H5P_DATASET_CREATE);
  hid_t space = H5Screate_simple(rank, dims, most);
  hid_t id = -1;
  if (list >= 0 && H5Pset_chunk(list, rank, chunk) >= 0 && H5Pset_shuffle(list) >= 0 &&
      H5Pset_deflate(list, DEFLATE) >= 0 && H5Pset_fletcher32(list) >= 0) {
    id = H5Dcreate2(where, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
  }
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(list);
  return id;
}


static bool put_double(hid_t where, const char *name, double value) {
  return rgm_hdf5_put(where, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}


static bool make_column(rgm_dataset_writer *w, hid_t table, int i) {
  const rgm_column *c = &w->shape->column[i];
  const int32_t place = i;
  const int64_t choices = c->choices;
  const hid_t id = make_array(table, c->name, file_type(c->cell), 0);
  w->column[i] = id;
  return id >= 0 && rgm_hdf5_put(id, "index", H5T_STD_I32LE, H5T_NATIVE_INT32, &place) &&
         rgm_hdf5_put_text(id, "role", rgm_role_name(c->role)) &&
         rgm_hdf5_put_text(id, "unit", c->unit) && rgm_hdf5_put_text(id, "doc", c->doc) &&
         rgm_hdf5_put_text(id, "of", c->of) && put_double(id, "low", c->low) &&
         put_double(id, "high", c->high) && put_double(id, "fill", c->fill) &&
         rgm_hdf5_put(id, "choices", H5T_STD_I64LE, H5T_NATIVE_INT64, &choices);
}


static bool make_table(rgm_dataset_writer *w) {
  hid_t list = rgm_hdf5_creation(H5P_GROUP_CREATE);
  hid_t table = H5Gcreate2(w->file, "table", H5P_DEFAULT, list, H5P_DEFAULT);
  bool ok = table >= 0;
  for (int i = 0; i < w->shape->column_count && ok; i++) {
    ok = make_column(w, table, i);
  }
  rgm_hdf5_drop(table);
  rgm_hdf5_drop(list);
  return ok;
}


static bool make_notes(rgm_dataset_writer *w) {
  hid_t list = rgm_hdf5_creation(H5P_GROUP_CREATE);
  hid_t create = rgm_hdf5_creation(H5P_DATASET_CREATE);
  hid_t group = H5Gcreate2(w->file, "provenance", H5P_DEFAULT, list, H5P_DEFAULT);
  hid_t space = H5Screate(H5S_SCALAR);
  bool ok = group >= 0 && create >= 0;
  for (int i = 0; i < w->shape->note_count && ok; i++) {
    const rgm_note *n = &w->shape->note[i];
    hid_t type = rgm_hdf5_text_type(n->text);
    hid_t id = H5Dcreate2(group, n->name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    ok = id >= 0 && H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, n->text) >= 0;
    rgm_hdf5_drop(id);
    rgm_hdf5_drop(type);
  }
  rgm_hdf5_drop(space);
  rgm_hdf5_drop(group);
  rgm_hdf5_drop(create);
  rgm_hdf5_drop(list);
  return ok;
}


// The arrays of D4RL for which there are columns.
static bool make_views(rgm_dataset_writer *w) {
  static const struct {
    const char *name;
    unsigned roles;
    bool flag, matrix;
  } views[VIEWS] = {{"observations", RGM_SEEN, false, true},
                    {"next_observations", 1u << RGM_ROLE_NEXT, false, true},
                    {"actions", 1u << RGM_ROLE_ACTION, false, true},
                    {"rewards", 1u << RGM_ROLE_REWARD, false, false},
                    {"terminals", 1u << RGM_ROLE_TERMINATED, true, false},
                    {"timeouts", 1u << RGM_ROLE_TRUNCATED, true, false}};
  int widest = 1;
  bool ok = true;
  for (int i = 0; i < VIEWS && ok; i++) {
    const int width = rgm_dataset_width(w->shape, views[i].roles);
    // next observations must be those of every seen column, or say nothing
    const bool whole =
        views[i].roles != 1u << RGM_ROLE_NEXT || width == rgm_dataset_width(w->shape, RGM_SEEN);
    if (width == 0 || !whole) {
      continue;
    }
    array *v = &w->view[w->views];
    v->roles = views[i].roles;
    v->width = views[i].matrix ? width : 0;
    v->id =
        make_array(w->file, views[i].name, views[i].flag ? H5T_STD_U8LE : H5T_IEEE_F32LE, v->width);
    w->views++;
    ok = v->id >= 0;
    widest = width > widest ? width : widest;
  }
  w->matrix = malloc((size_t)PIECE * (size_t)widest * sizeof *w->matrix);
  w->why.memory = w->why.memory || w->matrix == NULL;
  return ok && w->matrix != NULL;
}


static bool make_file(rgm_dataset_writer *w) {
  char name[32];
  rgm_image_name(name, &w->image);
  hid_t access =
      w->temporary == NULL ? rgm_image_access(&w->image, false) : H5Pcreate(H5P_FILE_ACCESS);
  hid_t list = rgm_hdf5_creation(H5P_FILE_CREATE);
  bool ok = access >= 0 && H5Pset_userblock(list, RGM_PREFIX_SIZE) >= 0;
  if (w->temporary != NULL) {
    ok = ok && H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
         H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
         H5Pset_file_locking(access, false, true) >= 0;
  }
  const char *where = w->temporary != NULL ? w->temporary : name;
  w->file = ok ? H5Fcreate(where, H5F_ACC_TRUNC, list, access) : -1;
  const int32_t schema = RGM_DATASET_SCHEMA;
  ok = w->file >= 0 && rgm_hdf5_put_text(w->file, "kind", RGM_DATASET_KIND) &&
       rgm_hdf5_put(w->file, "schema", H5T_STD_I32LE, H5T_NATIVE_INT32, &schema) && make_table(w) &&
       make_notes(w) && make_views(w);
  rgm_hdf5_drop(list);
  rgm_hdf5_drop(access);
  return ok;
}


// ---- rows --------------------------------------------------------------------------------------

// Appends rows to an array; `matrix` is (rows, width).
static bool extend(hid_t id, hid_t type, int width, int64_t at, int64_t rows, const void *data) {
  const int rank = width > 0 ? 2 : 1;
  const hsize_t size[2] = {(hsize_t)(at + rows), (hsize_t)width};
  const hsize_t start[2] = {(hsize_t)at, 0}, count[2] = {(hsize_t)rows, (hsize_t)width};
  if (H5Dset_extent(id, size) < 0) {
    return false;
  }
  hid_t space = H5Dget_space(id);
  hid_t memory = H5Screate_simple(rank, count, NULL);
  const bool ok = H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
                  H5Dwrite(id, type, memory, space, H5P_DEFAULT, data) >= 0;
  rgm_hdf5_drop(memory);
  rgm_hdf5_drop(space);
  return ok;
}


// At most PIECE rows.
static bool append_piece(rgm_dataset_writer *w, int64_t rows, const void *const *data) {
  bool ok = true;
  for (int i = 0; i < w->shape->column_count && ok; i++) {
    ok = extend(w->column[i], memory_type(w->shape->column[i].cell), 0, w->rows, rows, data[i]);
  }
  for (int i = 0; i < w->views && ok; i++) {
    const array *v = &w->view[i];
    rgm_matrix_piece(w->shape, v->roles, rows, data, w->matrix);
    ok = extend(v->id, H5T_NATIVE_FLOAT, v->width, w->rows, rows, w->matrix);
  }
  if (ok) {
    rgm_digest_add(w->shape, w->hash, rows, data);
    w->rows += rows;
  }
  return ok;
}


static rgm_status failed(const rgm_dataset_writer *w) {
  if (w->why.memory) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to build the data set", w->path);
  }
  return rgm_fail(w->temporary != NULL ? RGM_EIO : RGM_EINTERNAL,
                  "%s: HDF5 could not write the data set (%s): check the disk", w->path,
                  w->why.text[0] != '\0' ? w->why.text : "no reason");
}


// HDF5 takes a full disk badly (it dies at exit), so there must be room before it writes.
static rgm_status check_room(const rgm_dataset_writer *w, int64_t rows) {
  struct statvfs disk;
  size_t bytes = 0;
  for (int i = 0; i < w->shape->column_count; i++) {
    bytes += 8 + rgm_cell_size(w->shape->column[i].cell);
  }
  if (w->temporary == NULL || statvfs(w->temporary, &disk) != 0) {
    return RGM_OK;
  }
  const double left = (double)disk.f_bavail * (double)disk.f_frsize;
  if (left < (double)bytes * (double)rows + ROOM) {
    return rgm_fail(RGM_EIO, "%s: cannot write: %s: free space or choose another --out", w->path,
                    strerror(ENOSPC));
  }
  return RGM_OK;
}


rgm_status rgm_dataset_append(rgm_dataset_writer *w, int64_t rows, const void *const *data) {
  RGM_TRY(check_room(w, rows < PIECE ? rows : PIECE));
  const void **at = malloc((size_t)w->shape->column_count * sizeof *at);
  if (at == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to write it", w->path);
  }
  rgm_hdf5_begin(&w->why);
  rgm_status status = RGM_OK;
  for (int64_t r = 0; r < rows && status == RGM_OK; r += PIECE) {
    const int64_t n = rows - r < PIECE ? rows - r : PIECE;
    for (int i = 0; i < w->shape->column_count; i++) {
      at[i] = (const char *)data[i] + (size_t)r * rgm_cell_size(w->shape->column[i].cell);
    }
    status = r > 0 ? check_room(w, n) : RGM_OK;
    if (status == RGM_OK && !append_piece(w, n, at)) {
      status = failed(w);
    }
  }
  rgm_hdf5_end();
  free(at);
  return status;
}


// ---- the writer's life -------------------------------------------------------------------------

static bool close_file(rgm_dataset_writer *w) {
  bool ok = true;
  for (int i = 0; i < w->views; i++) {
    rgm_hdf5_drop(w->view[i].id);
  }
  for (int i = 0; w->column != NULL && i < w->shape->column_count; i++) {
    rgm_hdf5_drop(w->column[i]);
  }
  if (w->file >= 0) {
    ok = H5Fclose(w->file) >= 0;
  }
  w->file = -1;
  w->views = 0;
  free(w->column);
  w->column = NULL;
  return ok;
}


static void free_writer(rgm_dataset_writer *w) {
  char none[65];
  if (w->hash != NULL) {
    rgm_digest_end(w->shape, w->hash, 0, none);
  }
  rgm_dataset_free(w->shape);
  free(w->image.data);
  free(w->matrix);
  free(w->temporary);
  free(w->path);
  free(w);
}


void rgm_dataset_drop(rgm_dataset_writer *w) {
  if (w == NULL) {
    return;
  }
  rgm_hdf5_reason why;
  rgm_hdf5_begin(&why);
  close_file(w);
  rgm_hdf5_end();
  if (w->temporary != NULL) {
    unlink(w->temporary);
  }
  free_writer(w);
}


// The columns and notes of a table without its values.
static rgm_dataset *copy_shape(const rgm_dataset *d) {
  rgm_dataset *copy = rgm_dataset_new(0);
  for (int i = 0; copy != NULL && i < d->column_count; i++) {
    rgm_column *c = rgm_dataset_shape(copy, "", RGM_ROLE_OTHER, RGM_CELL_U8, "");
    if (c == NULL) {
      rgm_dataset_free(copy);
      return NULL;
    }
    *c = d->column[i];
    c->data = NULL;
  }
  for (int i = 0; copy != NULL && i < d->note_count; i++) {
    if (rgm_dataset_note(copy, d->note[i].name, d->note[i].text) != RGM_OK) {
      rgm_dataset_free(copy);
      return NULL;
    }
  }
  return copy;
}


// An empty file of mode 0600 for HDF5 to fill: it would make one that others can read.
static rgm_status make_temporary(rgm_dataset_writer *w) {
  const size_t size = strlen(w->path) + sizeof ".tmp";
  w->temporary = malloc(size);
  if (w->temporary == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory for its name", w->path);
  }
  snprintf(w->temporary, size, "%s.tmp", w->path);
  const int removed = unlink(w->temporary) != 0 && errno != ENOENT ? -1 : 0;
  const int fd =
      removed == 0 ? open(w->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
  if (fd < 0 || close(fd) != 0) {
    const rgm_status status = rgm_fail(RGM_EIO, "%s: cannot create: %s: choose another --out",
                                       w->temporary, strerror(errno));
    free(w->temporary);
    w->temporary = NULL;
    return status;
  }
  return RGM_OK;
}


// `bytes` 0: piece by piece, through a temporary file.
static rgm_status create(const char *path, const rgm_dataset *shape, size_t bytes,
                         rgm_dataset_writer **out) {
  *out = NULL;
  RGM_TRY(rgm_dataset_valid(shape));
  rgm_dataset_writer *w = calloc(1, sizeof *w);
  if (w == NULL) {
    return rgm_fail(RGM_EMEMORY, "%s: no memory to write it", path);
  }
  w->file = -1;
  w->path = strdup(path);
  w->shape = copy_shape(shape);
  w->image.capacity = bytes;
  w->image.data = bytes > 0 ? calloc(1, bytes) : NULL;
  const int columns = shape->column_count;
  w->column = malloc((size_t)columns * sizeof *w->column);
  for (int i = 0; w->column != NULL && i < columns; i++) {
    w->column[i] = -1;
  }
  rgm_status status = RGM_OK;
  if (w->path == NULL || w->shape == NULL || w->column == NULL ||
      (bytes > 0 && w->image.data == NULL) || (w->hash = rgm_digest_begin(shape)) == NULL) {
    status = rgm_fail(RGM_EMEMORY, "%s: no memory to write it (%zu bytes)", path, bytes);
  } else if (bytes == 0) {
    status = make_temporary(w);
  }
  if (status == RGM_OK) {
    rgm_hdf5_begin(&w->why);
    status = make_file(w) ? RGM_OK : failed(w);
    rgm_hdf5_end();
  }
  if (status != RGM_OK) {
    rgm_dataset_drop(w);
    return status;
  }
  *out = w;
  return RGM_OK;
}


rgm_status rgm_dataset_create(const char *path, const rgm_dataset *shape,
                              rgm_dataset_writer **out) {
  return create(path, shape, 0, out);
}


rgm_status rgm_dataset_commit(rgm_dataset_writer *w, char digest[65]) {
  // what is known only now: rows and digest
  rgm_hash **hash = w->hash;
  w->hash = NULL;
  rgm_status status = rgm_digest_end(w->shape, hash, w->rows, digest);
  rgm_hdf5_begin(&w->why);
  bool ok =
      status != RGM_OK ||
      (rgm_hdf5_put(w->file, "rows", H5T_STD_I64LE, H5T_NATIVE_INT64, &w->rows) &&
       rgm_hdf5_put_text(w->file, "digest", digest) && H5Fflush(w->file, H5F_SCOPE_LOCAL) >= 0);
  ok = close_file(w) && ok;
  if (status == RGM_OK && (!ok || (w->temporary == NULL && !rgm_image_trim(&w->image)))) {
    status = failed(w);
  }
  rgm_hdf5_end();

  // prefix and disk
  const uint32_t schema = RGM_DATASET_MARK | RGM_DATASET_SCHEMA;
  if (status == RGM_OK && w->temporary != NULL) {
    status = rgm_durable_seal(w->temporary, w->path, schema);
  } else if (status == RGM_OK) {
    status = rgm_prefix_fill(w->image.data, w->image.size, schema);
    if (status == RGM_OK) {
      status = rgm_durable_write(w->path, w->image.data, w->image.size, 0600);
    }
  } else if (w->temporary != NULL) {
    unlink(w->temporary);
  }
  free_writer(w);
  return status;
}


// Room for the whole file, so that HDF5, which takes a failed extension badly, need not extend it.
static size_t room_for(const rgm_dataset *d) {
  const size_t rows = (size_t)d->rows + CHUNK, per_object = 8192;
  size_t bytes = 8 * RGM_IMAGE_STEP + VIEWS * per_object;
  for (int i = 0; i < d->column_count; i++) {
    bytes += per_object + rows * (rgm_cell_size(d->column[i].cell) + 4 + 1);
  }
  for (int i = 0; i < d->note_count; i++) {
    bytes += per_object + strlen(d->note[i].text);
  }
  return bytes;
}


rgm_status rgm_dataset_write(const char *path, rgm_dataset *d) {
  rgm_dataset_writer *w;
  RGM_TRY(create(path, d, room_for(d), &w));
  const void **data = malloc((size_t)d->column_count * sizeof *data);
  rgm_status status = data != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "%s: no memory", path);
  for (int i = 0; i < d->column_count && status == RGM_OK; i++) {
    data[i] = d->column[i].data;
  }
  if (status == RGM_OK) {
    status = rgm_dataset_append(w, d->rows, data);
  }
  free(data);
  if (status != RGM_OK) {
    rgm_dataset_drop(w);
    return status;
  }
  return rgm_dataset_commit(w, d->digest);
}
