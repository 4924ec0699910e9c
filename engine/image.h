// SPDX-License-Identifier: Apache-2.0
// HDF5 files in memory and what goes with every use of HDF5: errors, plugins, attributes. Private
// to checkpoint.c and the data sets.

#ifndef RGM_IMAGE_H
#define RGM_IMAGE_H

#include "engine/checkpoint_private.h"

#include <hdf5.h>

enum { RGM_IMAGE_STEP = 65536 }; // HDF5 extends its file in memory by this

// What HDF5 said last.
typedef struct rgm_hdf5_reason {
  char text[128]; // the innermost description of the first error, "" while all is well
  bool memory;    // it was for want of memory
} rgm_hdf5_reason;

// Around every use of HDF5: errors into `why`, and no plugins, which a file could ask for.
void rgm_hdf5_begin(rgm_hdf5_reason *why);
void rgm_hdf5_end(void);

// Closes any identifier; a negative one is what a failed call left.
void rgm_hdf5_drop(hid_t id);

// A property list for creating objects without time stamps; negative after an error, as below.
hid_t rgm_hdf5_creation(hid_t class);

// Scalar attributes: any type, and texts as fixed-length UTF-8 that holds `text` and its NUL.
bool rgm_hdf5_put(hid_t where, const char *name, hid_t type, hid_t memory, const void *value);
hid_t rgm_hdf5_text_type(const char *text);
bool rgm_hdf5_put_text(hid_t where, const char *name, const char *text);

// The bytes of an HDF5 file, prefix included. Through the callbacks HDF5 works right in `data`,
// makes no copies and leaves it behind at close. (H5Fget_file_image of 1.10 is no way to get at the
// bytes: it drops the user block and leaves a stale checksum.)
typedef struct rgm_image {
  unsigned char *data;
  size_t size;     // bytes in use
  size_t capacity; // bytes allocated, zero from `size` on
} rgm_image;

// Access properties of a file in memory, new or existing.
hid_t rgm_image_access(rgm_image *file, bool existing);

// HDF5 takes two open files of one name for the same file, so each gets a name of its own, which is
// not stored.
void rgm_image_name(char name[32], const rgm_image *file);

// Cuts the image to the end of the file as the superblock has it: HDF5 extends in steps and does
// not cut back at close.
bool rgm_image_trim(rgm_image *file);

#endif
