// SPDX-License-Identifier: Apache-2.0
// Data sets larger than memory: `stream make FILE MIB` writes one in pieces until the file has so
// many MiB, `stream read FILE` reads it back in pieces and compares every value. The caller limits
// the memory (tools/show data-stream). No test: it takes its time.

#include "engine/dataset.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { STATES = 12, COLUMNS = STATES + 7, PIECE = 65536, STEPS = 72 };


static double noise(int64_t row, int column) {
  uint64_t x = (uint64_t)row * 0x9E3779B97F4A7C15u + (uint64_t)column * 0xD1B54A32D192ED03u;
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93u;
  x ^= x >> 32;
  return (double)(x >> 40) * 0x1p-24;
}


static double expected(int64_t row, int column) {
  const bool last = row % STEPS == STEPS - 1;
  switch (column - STATES) {
  case 0:
    return (double)(row / STEPS / 2);
  case 1:
    return (double)(row / STEPS);
  case 2:
    return (double)(row % STEPS);
  case 3:
    return (double)((int64_t)(noise(row, column) * 6));
  case 5:
    return last;
  case 6:
    return 0;
  default:
    return noise(row, column);
  }
}


static rgm_dataset *make_shape(int64_t rows) {
  static const struct {
    const char *name;
    rgm_role role;
    rgm_cell cell;
  } others[] = {{"patient", RGM_ROLE_PATIENT, RGM_CELL_I32},
                {"episode", RGM_ROLE_EPISODE, RGM_CELL_I32},
                {"time", RGM_ROLE_TIME, RGM_CELL_I32},
                {"action", RGM_ROLE_ACTION, RGM_CELL_U8},
                {"reward", RGM_ROLE_REWARD, RGM_CELL_F32},
                {"truncated", RGM_ROLE_TRUNCATED, RGM_CELL_U8},
                {"terminated", RGM_ROLE_TERMINATED, RGM_CELL_U8}};
  rgm_dataset *d = rgm_dataset_new(rows);
  for (int i = 0; d != NULL && i < COLUMNS; i++) {
    char name[32];
    snprintf(name, sizeof name, "state_%d", i);
    const bool state = i < STATES;
    if (rgm_dataset_add(d, state ? name : others[i - STATES].name,
                        state ? RGM_ROLE_STATE : others[i - STATES].role,
                        state ? RGM_CELL_F32 : others[i - STATES].cell, "1") == NULL) {
      return NULL;
    }
  }
  return d;
}


static rgm_status make(const char *path, long mib) {
  rgm_dataset *d = make_shape(PIECE);
  rgm_dataset_writer *w = NULL;
  RGM_TRY(d == NULL ? RGM_EMEMORY : rgm_dataset_create(path, d, &w));
  char temporary[4096], digest[65];
  const void *data[COLUMNS];
  struct stat info = {.st_size = 0};
  rgm_status status = RGM_OK;
  int64_t row = 0;
  snprintf(temporary, sizeof temporary, "%s.tmp", path);
  while (status == RGM_OK && info.st_size < (off_t)mib << 20) {
    for (int i = 0; i < COLUMNS; i++) {
      for (int64_t r = 0; r < PIECE; r++) {
        rgm_cell_set(&d->column[i], r, expected(row + r, i));
      }
      data[i] = d->column[i].data;
    }
    status = rgm_dataset_append(w, PIECE, data);
    row += PIECE;
    stat(temporary, &info);
  }
  rgm_dataset_free(d);
  if (status != RGM_OK) {
    rgm_dataset_drop(w);
    return status;
  }
  RGM_TRY(rgm_dataset_commit(w, digest));
  printf("rows %lld digest %s\n", (long long)row, digest);
  return RGM_OK;
}


static rgm_status read_back(const char *path) {
  rgm_dataset_stream *s;
  RGM_TRY(rgm_dataset_open(path, &s));
  const rgm_dataset *t = rgm_dataset_table(s);
  const void *const *data;
  int64_t first, rows, wrong = 0, total = 0;
  rgm_status status = RGM_OK;
  do {
    status = rgm_dataset_next(s, &first, &rows, &data);
    for (int i = 0; status == RGM_OK && i < COLUMNS; i++) {
      rgm_column c = t->column[i];
      memcpy(&c.data, &data[i], sizeof c.data);
      for (int64_t r = 0; r < rows; r++) {
        wrong += rgm_cell_get(&c, r) != expected(first + r, i);
      }
    }
    total += rows;
  } while (status == RGM_OK && rows > 0);
  printf("rows %lld digest %s wrong %lld\n", (long long)total, t->digest, (long long)wrong);
  rgm_dataset_close(s);
  return status;
}


int main(int argc, char **argv) {
  if (argc < 3 || (strcmp(argv[1], "make") == 0) != (argc == 4)) {
    fprintf(stderr, "stream make FILE MIB | stream read FILE\n");
    return 64;
  }
  const rgm_status status =
      argc == 4 ? make(argv[2], strtol(argv[3], NULL, 10)) : read_back(argv[2]);
  if (status != RGM_OK) {
    fprintf(stderr, "%s\n", rgm_last_error());
  }
  return rgm_exit_code(status);
}
