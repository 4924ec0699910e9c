// SPDX-License-Identifier: Apache-2.0
// Tables of numbers from CSV files (libcsv, RFC 4180), or separated by single spaces or tabs where
// the header line has no comma; gzipped files (zlib) are read as they are. Messages name file, row
// and column, never a patient's value.

#include "engine/engine.h"

#include <csv.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

typedef struct csv_reader {
  const char *path;
  rgm_table *table;
  int64_t row; // in the file, the header is row 1
  int column;
  int64_t capacity;
  rgm_status status;
} csv_reader;


static void *grow(csv_reader *reader, void *memory, size_t size) {
  void *larger = realloc(memory, size);
  if (larger == NULL) {
    reader->status =
        rgm_fail(RGM_EMEMORY, "%s: no memory for row %lld", reader->path, (long long)reader->row);
  }
  return larger;
}


static void read_name(csv_reader *reader, const char *text) {
  rgm_table *table = reader->table;
  void *names = grow(reader, table->name, (size_t)(table->columns + 1) * sizeof *table->name);
  if (names == NULL) {
    return;
  }
  table->name = names;
  snprintf(table->name[table->columns], sizeof table->name[0], "%.63s", text);
  table->columns++;
}


static void read_value(csv_reader *reader, const char *text) {
  rgm_table *table = reader->table;
  if (reader->column >= table->columns) {
    reader->status = rgm_fail(RGM_EDATA, "%s:%lld: more fields than the header's %d columns",
                              reader->path, (long long)reader->row, table->columns);
    return;
  }
  if (table->rows == reader->capacity) {
    const int64_t capacity = reader->capacity > 0 ? 2 * reader->capacity : 256;
    const size_t size = (size_t)(capacity * table->columns) * sizeof(double);
    double *value = grow(reader, table->value, size);
    if (value == NULL) {
      return;
    }
    table->value = value;
    reader->capacity = capacity;
  }
  char *end;
  double value = strtod(text, &end);
  if (text[0] == '\0' || strcmp(text, "NA") == 0 || strcmp(text, ".") == 0) {
    value = NAN;
  } else if (end == text || *end != '\0') {
    reader->status = rgm_fail(RGM_EDATA, "%s:%lld: column %s: not a number", reader->path,
                              (long long)reader->row, table->name[reader->column]);
    return;
  }
  table->value[table->rows * table->columns + reader->column] = value;
}


static void on_field(void *data, size_t size, void *reader_) {
  csv_reader *reader = reader_;
  char text[256];
  if (reader->status != RGM_OK) {
    return;
  }
  if (size >= sizeof text) {
    reader->status = rgm_fail(RGM_EDATA, "%s:%lld: a field of %zu characters; numbers are expected",
                              reader->path, (long long)reader->row, size);
    return;
  }
  memcpy(text, data, size);
  text[size] = '\0';
  if (reader->row == 1) {
    read_name(reader, text);
  } else {
    read_value(reader, text);
  }
  reader->column++;
}


static void on_row(int terminator, void *reader_) {
  (void)terminator;
  csv_reader *reader = reader_;
  if (reader->status == RGM_OK && reader->row > 1) {
    if (reader->column != reader->table->columns) {
      reader->status =
          rgm_fail(RGM_EDATA, "%s:%lld: %d fields where the header has %d", reader->path,
                   (long long)reader->row, reader->column, reader->table->columns);
    }
    reader->table->rows++;
  }
  reader->row++;
  reader->column = 0;
}


static rgm_status read_file(const char *path, char **text, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s; set the path of the data in the config", path,
                    strerror(errno));
  }
  size_t capacity = 1 << 16, used = 0;
  char *buffer = malloc(capacity);
  while (buffer != NULL) {
    used += fread(buffer + used, 1, capacity - used, file);
    if (used < capacity) {
      break;
    }
    capacity *= 2;
    char *larger = realloc(buffer, capacity);
    if (larger == NULL) {
      free(buffer);
    }
    buffer = larger;
  }
  const bool failed = ferror(file) != 0;
  fclose(file);
  if (buffer == NULL || failed) {
    free(buffer);
    return rgm_fail(buffer == NULL ? RGM_EMEMORY : RGM_EIO, "%s: cannot be read", path);
  }
  *text = buffer;
  *size = used;
  return RGM_OK;
}


// Replaces a gzip file's bytes by what they hold; other bytes stay. A table of more than 1 GiB is
// refused.
static rgm_status unzip(const char *path, char **text, size_t *size) {
  enum { MOST = 1 << 30 };
  if (*size < 2 || memcmp(*text, "\x1f\x8b", 2) != 0) {
    return RGM_OK;
  }
  z_stream stream = {.next_in = (Bytef *)*text, .avail_in = (uInt)*size};
  size_t capacity = 4 * *size + 1024;
  char *plain = *size <= MOST ? malloc(capacity) : NULL;
  if (plain == NULL || inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) {
    free(plain);
    return rgm_fail(RGM_EMEMORY, "%s: no memory to decompress it", path);
  }
  int code = Z_OK;
  while (code == Z_OK && capacity <= MOST) {
    stream.next_out = (Bytef *)plain + stream.total_out;
    stream.avail_out = (uInt)(capacity - stream.total_out);
    code = inflate(&stream, Z_NO_FLUSH);
    if (code == Z_OK && stream.avail_out == 0) {
      char *larger = realloc(plain, capacity *= 2);
      code = larger == NULL ? Z_MEM_ERROR : Z_OK;
      plain = larger == NULL ? plain : larger;
    }
  }
  const size_t total = stream.total_out;
  const bool whole = code == Z_STREAM_END && stream.avail_in == 0;
  inflateEnd(&stream);
  if (!whole) {
    free(plain);
    return code == Z_MEM_ERROR || code == Z_OK
               ? rgm_fail(RGM_EMEMORY, "%s: holds more than fits into memory", path)
               : rgm_fail(RGM_EDATA, "%s: the gzip file is damaged or cut off", path);
  }
  free(*text);
  *text = plain;
  *size = total;
  return RGM_OK;
}


static int never(unsigned char c) {
  (void)c;
  return 0;
}


// what separates the header's names: a comma, or else a space or tab
static unsigned char delimiter_of(const char *text, size_t size) {
  const char *end = memchr(text, '\n', size);
  const size_t line = end != NULL ? (size_t)(end - text) : size;
  return memchr(text, ',', line) != NULL    ? ','
         : memchr(text, '\t', line) != NULL ? '\t'
         : memchr(text, ' ', line) != NULL  ? ' '
                                            : ',';
}


rgm_status rgm_table_read_csv(const char *path, rgm_table *out) {
  *out = (rgm_table){0};
  char *text = NULL;
  size_t size = 0;
  RGM_TRY(read_file(path, &text, &size));
  rgm_sha256_hex(text, size, out->digest);
  const rgm_status status = unzip(path, &text, &size);
  if (status != RGM_OK) {
    free(text);
    return status;
  }

  csv_reader reader = {.path = path, .table = out, .row = 1};
  struct csv_parser parser;
  if (csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI | CSV_APPEND_NULL) != 0) {
    free(text);
    return rgm_fail(RGM_EMEMORY, "no memory for the CSV parser");
  }
  const unsigned char delimiter = delimiter_of(text, size);
  csv_set_delim(&parser, delimiter);
  if (delimiter != ',') {
    csv_set_space_func(&parser, never);
  }
  const size_t parsed = csv_parse(&parser, text, size, on_field, on_row, &reader);
  if (parsed != size || csv_fini(&parser, on_field, on_row, &reader) != 0) {
    reader.status = rgm_fail(RGM_EDATA, "%s:%lld: a quote is not closed or stands inside a field",
                             path, (long long)reader.row);
  }
  csv_free(&parser);
  free(text);
  if (reader.status == RGM_OK && out->rows == 0) {
    reader.status = rgm_fail(RGM_EDATA, "%s: no rows under a header line", path);
  }
  if (reader.status != RGM_OK) {
    rgm_table_free(out);
  }
  return reader.status;
}


void rgm_table_free(rgm_table *table) {
  free(table->name);
  free(table->value);
  *table = (rgm_table){0};
}


int rgm_table_column(const rgm_table *table, const char *name) {
  for (int i = 0; i < table->columns; i++) {
    if (strcasecmp(table->name[i], name) == 0) {
      return i;
    }
  }
  return -1;
}
