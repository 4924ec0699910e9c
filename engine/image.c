// SPDX-License-Identifier: Apache-2.0
// HDF5 files in memory, for checkpoints and data sets: see image.h.

#include "engine/image.h"

#include <stdlib.h>
#include <string.h>


// ---- errors of HDF5: never printed, the first one is kept --------------------------------------

static herr_t innermost(unsigned n, const H5E_error2_t *entry, void *data) {
  rgm_hdf5_reason *why = data;
  if (n == 0) {
    snprintf(why->text, sizeof why->text, "%s", entry->desc != NULL ? entry->desc : "no reason");
    why->memory = entry->maj_num == H5E_RESOURCE || entry->min_num == H5E_NOSPACE;
  }
  return 0;
}


// Called by HDF5 after each failed call, in place of printing.
static herr_t keep_reason(hid_t stack, void *data) {
  rgm_hdf5_reason *why = data;
  if (why->text[0] == '\0') {
    H5Ewalk2(stack, H5E_WALK_UPWARD, innermost, why);
  }
  return 0;
}


void rgm_hdf5_begin(rgm_hdf5_reason *why) {
  *why = (rgm_hdf5_reason){.text = ""};
  H5Eset_auto2(H5E_DEFAULT, keep_reason, why);
  H5PLset_loading_state(0);
}


void rgm_hdf5_end(void) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}


void rgm_hdf5_drop(hid_t id) {
  if (id >= 0) {
    H5Idec_ref(id);
  }
}


// ---- files in memory ---------------------------------------------------------------------------

static void *image_malloc(size_t size, H5FD_file_image_op_t op, void *data) {
  (void)op;
  rgm_image *file = data;
  return size <= file->capacity ? file->data : NULL;
}


static void *image_memcpy(void *to, const void *from, size_t size, H5FD_file_image_op_t op,
                          void *data) {
  // they are the same: see image_malloc
  (void)from, (void)size, (void)op, (void)data;
  return to;
}


static void *image_realloc(void *old, size_t size, H5FD_file_image_op_t op, void *data) {
  (void)old, (void)op;
  rgm_image *file = data;
  if (size > file->capacity) {
    unsigned char *grown = realloc(file->data, size);
    if (grown == NULL) {
      return NULL;
    }
    memset(grown + file->capacity, 0, size - file->capacity);
    file->data = grown;
    file->capacity = size;
  }
  file->size = size;
  return file->data;
}


static herr_t image_free(void *old, H5FD_file_image_op_t op, void *data) {
  (void)old, (void)op, (void)data;
  return 0;
}


static void *image_share(void *data) {
  return data;
}


static herr_t image_unshare(void *data) {
  (void)data;
  return 0;
}


hid_t rgm_image_access(rgm_image *file, bool existing) {
  H5FD_file_image_callbacks_t callbacks = {.image_malloc = image_malloc,
                                           .image_memcpy = image_memcpy,
                                           .image_realloc = image_realloc,
                                           .image_free = image_free,
                                           .udata_copy = image_share,
                                           .udata_free = image_unshare,
                                           .udata = file};
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  bool ok = H5Pset_fapl_core(access, RGM_IMAGE_STEP, 0) >= 0 &&
            H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
            H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0 &&
            H5Pset_file_image_callbacks(access, &callbacks) >= 0 &&
            (!existing || H5Pset_file_image(access, file->data, file->size) >= 0);
  if (ok) {
    return access;
  }
  rgm_hdf5_drop(access);
  return -1;
}


void rgm_image_name(char name[32], const rgm_image *file) {
  snprintf(name, 32, "regimen-%p", (const void *)file);
}


// ---- property lists and attributes -------------------------------------------------------------

hid_t rgm_hdf5_creation(hid_t class) {
  hid_t list = H5Pcreate(class);
  if (H5Pset_obj_track_times(list, false) >= 0) {
    return list;
  }
  rgm_hdf5_drop(list);
  return -1;
}


bool rgm_hdf5_put(hid_t where, const char *name, hid_t type, hid_t memory, const void *value) {
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t attribute = H5Acreate2(where, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  bool ok = H5Awrite(attribute, memory, value) >= 0;
  rgm_hdf5_drop(attribute);
  rgm_hdf5_drop(space);
  return ok;
}


hid_t rgm_hdf5_text_type(const char *text) {
  hid_t type = H5Tcopy(H5T_C_S1);
  if (H5Tset_size(type, strlen(text) + 1) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0) {
    return type;
  }
  rgm_hdf5_drop(type);
  return -1;
}


bool rgm_hdf5_put_text(hid_t where, const char *name, const char *text) {
  hid_t type = rgm_hdf5_text_type(text);
  bool ok = rgm_hdf5_put(where, name, type, type, text);
  rgm_hdf5_drop(type);
  return ok;
}


bool rgm_image_trim(rgm_image *file) {
  const size_t version_at = RGM_PREFIX_SIZE + 8, end_at = RGM_PREFIX_SIZE + 28;
  if (file->size < end_at + 8 || file->data[version_at] != 3) {
    return false;
  }
  uint64_t end = 0;
  for (int i = 0; i < 8; i++) {
    end |= (uint64_t)file->data[end_at + (size_t)i] << (8 * i);
  }
  if (end > file->size || end < end_at) {
    return false;
  }
  file->size = (size_t)end;
  return true;
}
