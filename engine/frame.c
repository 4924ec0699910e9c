// SPDX-License-Identifier: Apache-2.0
// Tables of patients from CSV files (csv.c): numbers, and words as factors.

#include "engine/csv.h"
#include "engine/frame.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>


int rgm_frame_find(const rgm_frame *frame, const char *name) {
  for (int i = 0; i < frame->columns; i++) {
    if (strcmp(frame->column[i].name, name) == 0) {
      return i;
    }
  }
  return -1;
}


int rgm_frame_level(const rgm_variable *column, const char *level) {
  for (int i = 0; i < column->levels; i++) {
    if (strcmp(column->level[i], level) == 0) {
      return i;
    }
  }
  return -1;
}


const char *rgm_frame_nearest(const rgm_frame *frame, const char *name) {
  const char *names[256] = {NULL};
  for (int i = 0; i < frame->columns && i < 255; i++) {
    names[i] = frame->column[i].name;
  }
  return rgm_nearest(name, names);
}


void rgm_frame_free(rgm_frame *frame) {
  free(frame->column);
  free(frame->value);
  *frame = (rgm_frame){0};
}


static rgm_status allocate(rgm_frame *frame, int64_t rows, int columns) {
  frame->column = calloc((size_t)columns + 1, sizeof *frame->column);
  frame->value = malloc((size_t)(rows * columns + 1) * sizeof *frame->value);
  if (frame->column == NULL || frame->value == NULL) {
    rgm_frame_free(frame);
    return rgm_fail(RGM_EMEMORY, "no memory for a table of %lld rows", (long long)rows);
  }
  frame->rows = rows;
  frame->columns = columns;
  return RGM_OK;
}


rgm_status rgm_frame_copy(const rgm_frame *from, rgm_frame *out) {
  *out = (rgm_frame){0};
  RGM_TRY(allocate(out, from->rows, from->columns));
  memcpy(out->column, from->column, (size_t)from->columns * sizeof *out->column);
  memcpy(out->value, from->value, (size_t)(from->rows * from->columns) * sizeof *out->value);
  memcpy(out->digest, from->digest, sizeof out->digest);
  return RGM_OK;
}


rgm_status rgm_frame_names(const char (*names)[64], int count, rgm_frame *out) {
  *out = (rgm_frame){0};
  RGM_TRY(allocate(out, 0, count));
  for (int i = 0; i < count; i++) {
    memcpy(out->column[i].name, names[i], sizeof names[i]);
  }
  return RGM_OK;
}


// ---- tables in memory --------------------------------------------------------------------------

static _Thread_local struct {
  const rgm_frame *frame;
  char path[128];
} lent;


void rgm_frame_lend(const char *name, const rgm_frame *frame) {
  lent.frame = frame;
  snprintf(lent.path, sizeof lent.path, "memory:%s", name);
}


// ---- reading -----------------------------------------------------------------------------------

static bool is_missing(const char *text) {
  return strcmp(text, "NA") == 0 || strcmp(text, "NaN") == 0 || strcmp(text, ".") == 0;
}


static rgm_status read_names(const rgm_csv *csv, rgm_frame *frame) {
  for (int i = 0; i < frame->columns; i++) {
    const char *name = rgm_csv_name(csv, i);
    if (name[0] == '\0' || strlen(name) >= sizeof frame->column[i].name) {
      return rgm_fail(RGM_EDATA, "%s:1: column %d has no name, or one of more than 63 characters",
                      rgm_csv_path(csv), i + 1);
    }
    if (rgm_frame_find(frame, name) >= 0) {
      return rgm_fail(RGM_EDATA, "%s:1: column %s is there twice", rgm_csv_path(csv), name);
    }
    memcpy(frame->column[i].name, name, strlen(name) + 1);
  }
  return RGM_OK;
}


// a word: its place among the levels seen so far, which it may join
static rgm_status read_word(const rgm_csv *csv, rgm_variable *column, const char *word,
                            double *out) {
  int place = rgm_frame_level(column, word);
  if (place < 0) {
    if (column->levels == RGM_LEVELS || strlen(word) >= RGM_LEVEL_SIZE) {
      return rgm_fail(RGM_EDATA,
                      "%s:%lld: column %s: more than %d different words, or one of more than %d "
                      "characters; numbers or levels of a factor are expected",
                      rgm_csv_path(csv), (long long)rgm_csv_row(csv), column->name, RGM_LEVELS,
                      RGM_LEVEL_SIZE - 1);
    }
    place = column->levels++;
    memcpy(column->level[place], word, strlen(word) + 1);
  }
  *out = place;
  return RGM_OK;
}


static rgm_status read_rows(rgm_csv *csv, rgm_frame *frame, bool *numbers) {
  int64_t capacity = 0;
  rgm_csv_field *fields;
  RGM_TRY(rgm_csv_next(csv, &fields));
  for (; fields != NULL; frame->rows++) {
    if (frame->rows == capacity) {
      capacity = capacity > 0 ? 2 * capacity : 256;
      const size_t size = (size_t)(capacity * frame->columns) * sizeof(double);
      double *larger = realloc(frame->value, size);
      if (larger == NULL) {
        return rgm_fail(RGM_EMEMORY, "%s: no memory for %lld rows", rgm_csv_path(csv),
                        (long long)capacity);
      }
      frame->value = larger;
    }
    for (int i = 0; i < frame->columns; i++) {
      double *value = &frame->value[frame->rows * frame->columns + i];
      rgm_variable *column = &frame->column[i];
      const rgm_csv_kind kind = rgm_csv_number(fields[i], value);
      if (kind == RGM_CSV_EMPTY || (kind == RGM_CSV_TEXT && is_missing(fields[i].text))) {
        *value = NAN;
      } else if (kind == RGM_CSV_TEXT) {
        RGM_TRY(read_word(csv, column, fields[i].text, value));
      } else {
        numbers[i] = true;
      }
      if (numbers[i] && column->levels > 0) {
        return rgm_fail(RGM_EDATA, "%s:%lld: column %s: words and numbers are mixed",
                        rgm_csv_path(csv), (long long)rgm_csv_row(csv), column->name);
      }
    }
    RGM_TRY(rgm_csv_next(csv, &fields));
  }
  return frame->rows > 0
             ? RGM_OK
             : rgm_fail(RGM_EDATA, "%s: no rows under a header line", rgm_csv_path(csv));
}


static int by_name(const void *a, const void *b) {
  return strcmp(a, b);
}


// levels in alphabetical order, and the values with them
static void sort_levels(rgm_frame *frame) {
  for (int i = 0; i < frame->columns; i++) {
    rgm_variable *column = &frame->column[i];
    rgm_variable before = *column;
    double place[RGM_LEVELS] = {0};
    qsort(column->level, (size_t)column->levels, RGM_LEVEL_SIZE, by_name);
    for (int k = 0; k < column->levels; k++) {
      place[k] = rgm_frame_level(column, before.level[k]);
    }
    for (int64_t row = 0; row < frame->rows && column->levels > 0; row++) {
      double *value = &frame->value[row * frame->columns + i];
      *value = isnan(*value) ? *value : place[(int)*value];
    }
  }
}


rgm_status rgm_frame_read(const char *path, rgm_frame *out) {
  rgm_csv *csv = NULL;
  *out = (rgm_frame){0};
  if (lent.frame != NULL && strcmp(path, lent.path) == 0) {
    return rgm_frame_copy(lent.frame, out);
  }
  RGM_TRY(rgm_csv_open(path, true, &csv));
  const int columns = rgm_csv_columns(csv);
  bool *numbers = calloc((size_t)columns + 1, sizeof *numbers);
  rgm_status status = numbers != NULL ? allocate(out, 0, columns)
                                      : rgm_fail(RGM_EMEMORY, "no memory for %d columns", columns);
  if (status == RGM_OK) {
    status = read_names(csv, out);
  }
  if (status == RGM_OK) {
    status = read_rows(csv, out, numbers);
  }
  if (status == RGM_OK) {
    sort_levels(out);
    rgm_csv_digest(csv, out->digest);
  } else {
    rgm_frame_free(out);
  }
  free(numbers);
  rgm_csv_close(csv);
  return status;
}


// ---- writing -----------------------------------------------------------------------------------

rgm_status rgm_frame_write(const char *path, const rgm_frame *frame) {
  FILE *out = fopen(path, "w");
  if (out == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  for (int j = 0; j < frame->columns; j++) {
    fprintf(out, "%s%s", j > 0 ? "," : "", frame->column[j].name);
  }
  for (int64_t i = 0; i < frame->rows; i++) {
    for (int j = 0; j < frame->columns; j++) {
      const double value = frame->value[i * frame->columns + j];
      const rgm_variable *column = &frame->column[j];
      fputc(j > 0 ? ',' : '\n', out);
      if (!isnan(value) && column->levels > 0) {
        fprintf(out, "%s", column->level[(int)value]);
      } else if (!isnan(value)) {
        // the shortest that reads back the same
        char text[32];
        int digits = 15;
        do {
          snprintf(text, sizeof text, "%.*g", digits, value);
        } while (digits++ < 17 && strtod(text, NULL) != value);
        fprintf(out, "%s", text);
      }
    }
  }
  fputc('\n', out);
  const bool failed = ferror(out) != 0;
  return fclose(out) == 0 && !failed ? RGM_OK : rgm_fail(RGM_EIO, "%s: cannot be written", path);
}
