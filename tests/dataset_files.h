// SPDX-License-Identifier: Apache-2.0
// Small HDF5 files for tests of data sets, written through HDF5 itself.

#ifndef RGM_DATASET_FILES_H
#define RGM_DATASET_FILES_H

#include "engine/dataset.h"

#include <criterion/criterion.h>
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[128];

static inline void make_folder(void) {
  snprintf(folder, sizeof folder, "%s/rgm_data_XXXXXX",
           access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  cr_assert(mkdtemp(folder) != NULL);
}


static inline void remove_folder(void) {
  char command[256];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  cr_assert_eq(system(command), 0);
}


static inline const char *in_folder(const char *name) {
  static char path[4][256];
  static int next;
  next = (next + 1) % 4;
  snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
  return path[next];
}


// a number for a place that no other place is likely to have
static inline double value_at(int64_t row, int64_t column) {
  return (double)((row * 37 + column * 101) % 1009) + 0.25 * (double)(row % 3);
}


static inline void put_array(hid_t where, const char *name, hid_t type, int rank,
                             const hsize_t *dims, const void *data, hid_t memory) {
  hid_t space = rank > 0 ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
  hid_t id = H5Dcreate2(where, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  cr_assert(id >= 0 && H5Dwrite(id, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0, "%s", name);
  H5Dclose(id);
  H5Sclose(space);
}


// rows x width of value_at, from row `first` on; width 0: one dim
static inline void put_values(hid_t where, const char *name, hid_t type, int64_t first,
                              int64_t rows, int64_t width) {
  const hsize_t dims[2] = {(hsize_t)rows, (hsize_t)width};
  const int64_t n = width > 0 ? width : 1;
  double *data = malloc((size_t)(rows * n) * sizeof *data);
  for (int64_t i = 0; i < rows * n; i++) {
    data[i] = value_at(first + i / n, i % n);
  }
  put_array(where, name, type, width > 0 ? 2 : 1, dims, data, H5T_NATIVE_DOUBLE);
  free(data);
}


// flags, 1 where row % period == period - 1 and at the rows that `also` says (-1: none)
static inline void put_flags(hid_t where, const char *name, int64_t rows, int64_t period,
                             int64_t also) {
  const hsize_t dims[1] = {(hsize_t)rows};
  unsigned char *data = calloc((size_t)rows, 1);
  for (int64_t i = 0; i < rows; i++) {
    data[i] = (period > 0 && i % period == period - 1) || i == also;
  }
  put_array(where, name, H5T_STD_I8LE, 1, dims, data, H5T_NATIVE_UINT8);
  free(data);
}


static inline hid_t create_file(const char *path) {
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  cr_assert(file >= 0);
  return file;
}


// 30 rows, 3 observations, 2 actions, an end every 10 rows; arrays named in `without` stay out
static inline hid_t create_d4rl(const char *path, const char *without) {
  hid_t file = create_file(path);
  if (strstr(without, "observations") == NULL) {
    put_values(file, "observations", H5T_IEEE_F32LE, 0, 30, 3);
  }
  if (strstr(without, "actions") == NULL) {
    put_values(file, "actions", H5T_IEEE_F32LE, 50, 30, 2);
  }
  if (strstr(without, "rewards") == NULL) {
    put_values(file, "rewards", H5T_IEEE_F64LE, 90, 30, 0);
  }
  if (strstr(without, "terminals") == NULL) {
    put_flags(file, "terminals", 30, 0, 9);
  }
  if (strstr(without, "timeouts") == NULL) {
    put_flags(file, "timeouts", 30, 10, -1);
  }
  return file;
}


// Minari's main_data.hdf5: 3 episodes of 4, 5 and 6 steps; observations have one more
static inline hid_t create_minari(const char *path) {
  hid_t file = create_file(path);
  for (int e = 0; e < 3; e++) {
    char name[32];
    snprintf(name, sizeof name, "episode_%d", e);
    hid_t group = H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const int64_t steps = 4 + e;
    put_values(group, "observations", H5T_IEEE_F64LE, 100 * e, steps + 1, 2);
    put_values(group, "actions", H5T_STD_I64LE, 100 * e + 30, steps, 0);
    put_values(group, "rewards", H5T_IEEE_F64LE, 100 * e + 60, steps, 0);
    put_flags(group, "terminations", steps, 0, e == 1 ? steps - 1 : -1);
    put_flags(group, "truncations", steps, 0, e == 1 ? -1 : steps - 1);
    H5Gclose(group);
  }
  return file;
}


// d3rlpy 2: 3 episodes of 4, 5 and 6 steps, the second one terminated
static inline hid_t create_d3rlpy(const char *path, int64_t told) {
  hid_t file = create_file(path);
  put_array(file, "num_episodes", H5T_STD_I64LE, 0, NULL, &told, H5T_NATIVE_INT64);
  for (int e = 0; e < 3; e++) {
    char name[32];
    const int64_t steps = 4 + e;
    const unsigned char ended = e == 1;
    snprintf(name, sizeof name, "observations_%d", e);
    put_values(file, name, H5T_IEEE_F32LE, 100 * e, steps, 2);
    snprintf(name, sizeof name, "actions_%d", e);
    put_values(file, name, H5T_IEEE_F32LE, 100 * e + 30, steps, 1);
    snprintf(name, sizeof name, "rewards_%d", e);
    put_values(file, name, H5T_IEEE_F32LE, 100 * e + 60, steps, 1);
    snprintf(name, sizeof name, "terminated_%d", e);
    put_array(file, name, H5T_STD_I8LE, 0, NULL, &ended, H5T_NATIVE_UINT8);
  }
  return file;
}


// a table with every type of cell, 5 episodes of 40 rows
static inline rgm_dataset *small_table(int64_t rows) {
  static const struct {
    const char *name, *unit;
    rgm_role role;
    rgm_cell cell;
  } columns[] = {{"patient", "", RGM_ROLE_PATIENT, RGM_CELL_I32},
                 {"episode", "", RGM_ROLE_EPISODE, RGM_CELL_I64},
                 {"time", "h", RGM_ROLE_TIME, RGM_CELL_F64},
                 {"aptt", "s", RGM_ROLE_STATE, RGM_CELL_F32},
                 {"aptt_missing", "", RGM_ROLE_MISSING, RGM_CELL_U8},
                 {"action", "", RGM_ROLE_ACTION, RGM_CELL_U8},
                 {"reward", "1", RGM_ROLE_REWARD, RGM_CELL_F64},
                 {"terminated", "", RGM_ROLE_TERMINATED, RGM_CELL_U8},
                 {"truncated", "", RGM_ROLE_TRUNCATED, RGM_CELL_U8}};
  rgm_dataset *d = rgm_dataset_new(rows);
  cr_assert(d != NULL);
  for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
    rgm_column *c =
        rgm_dataset_add(d, columns[i].name, columns[i].role, columns[i].cell, columns[i].unit);
    cr_assert(c != NULL);
    for (int64_t r = 0; r < rows; r++) {
      const bool last = r % 40 == 39 || r == rows - 1;
      rgm_cell_set(c, r,
                   i == 0   ? (double)(r / 40 / 2)
                   : i == 1 ? (double)(r / 40)
                   : i == 2 ? (double)(r % 40)
                   : i == 3 ? (r % 7 == 3 ? NAN : value_at(r, 3))
                   : i == 4 ? r % 7 == 3
                   : i == 5 ? (double)((r * 5) % 6)
                   : i == 6 ? value_at(r, 6)
                   : i == 7 ? last && r / 40 % 2 == 0
                            : last && r / 40 % 2 == 1);
    }
  }
  snprintf(d->column[3].doc, sizeof d->column[3].doc, "activated partial thromboplastin time");
  snprintf(d->column[4].of, sizeof d->column[4].of, "aptt");
  d->column[3].low = 10;
  d->column[3].high = 2000;
  d->column[3].fill = 31.5;
  d->column[5].choices = 6;
  cr_assert_eq(rgm_dataset_note(d, "licence", "Some Licence 1.0\nsecond line\n"), RGM_OK);
  cr_assert_eq(rgm_dataset_note(d, "source.LABS.sha256", "0123"), RGM_OK);
  return d;
}

#endif
