// SPDX-License-Identifier: Apache-2.0
// A streaming reader of CSV files (RFC 4180, plain or gzip) in bounded memory: one buffer, one
// record at a time, and a filter on one column that most records need not be parsed for. What the
// importers read tables of any size with.
//
// Accepted: a header line, comma, quotes with doubled quotes, commas and line ends within quotes,
// LF, CRLF or CR, a UTF-8 byte order mark, empty lines (skipped), no line end after the last
// record, one empty field too many at the end of a record. Refused with file and row (the header
// is row 1): a quote inside a field, text after a closing quote, a quote that is never closed, NUL
// bytes, records with another number of fields, records of more than 1 MiB, damaged or cut gzip,
// other encodings. Fields are bytes; leading and trailing spaces are kept.

#ifndef RGM_CSV_H
#define RGM_CSV_H

#include "kernels/base.h"

enum { RGM_CSV_COLUMNS = 4096, RGM_CSV_RECORD = 1 << 20 };

typedef struct rgm_csv_field {
  char *text; // ends with NUL; valid until the next record is asked for
  size_t size;
} rgm_csv_field;

typedef struct rgm_csv rgm_csv;

// Opens a file and reads its header. With `digest` the SHA-256 of the file's bytes is taken along.
// Errors: RGM_EIO, RGM_EDATA, RGM_EMEMORY.
rgm_status rgm_csv_open(const char *path, bool digest, rgm_csv **out);
void rgm_csv_close(rgm_csv *csv);

// The same file as lines of text, plain or gzip: opened by rgm_text_open, without a header, *line
// is NULL after the last one; it ends with NUL, without LF or CRLF, and holds until the next call.
// Lines of more than 1 MiB are refused. rgm_csv_row counts them from 1.
rgm_status rgm_text_open(const char *path, rgm_csv **out);
rgm_status rgm_text_line(rgm_csv *csv, char **line);

// Columns by name in any case, blanks around it ignored; -1: none. rgm_csv_need names the table's
// nearest column where there is none (RGM_EDATA), and refuses one that is there twice.
int rgm_csv_columns(const rgm_csv *csv);
const char *rgm_csv_name(const rgm_csv *csv, int column);
int rgm_csv_find(const rgm_csv *csv, const char *name);
rgm_status rgm_csv_need(const rgm_csv *csv, const char *name, int *column);

// From now on only records whose field `column` passes `keep` come back. Records that do not pass
// are checked for quotes and line ends alone.
typedef bool (*rgm_csv_keep)(void *arg, const char *text, size_t size);
void rgm_csv_filter(rgm_csv *csv, int column, rgm_csv_keep keep, void *arg);

// The next record: *fields has rgm_csv_columns of them. *fields is NULL after the last one.
rgm_status rgm_csv_next(rgm_csv *csv, rgm_csv_field **fields);

// Of the record that came last: its row (the header is 1). Of the file: its path, bytes of it read,
// bytes after decompression, and, after the last record, its digest in hex ("" if none was asked).
int64_t rgm_csv_row(const rgm_csv *csv);
const char *rgm_csv_path(const rgm_csv *csv);
uint64_t rgm_csv_bytes(const rgm_csv *csv);
uint64_t rgm_csv_text_bytes(const rgm_csv *csv);
void rgm_csv_digest(rgm_csv *csv, char hex[65]);

// What a field says. Numbers are decimal, blanks around them ignored; inf, nan and hexadecimal are
// text.
typedef enum rgm_csv_kind { RGM_CSV_EMPTY, RGM_CSV_NUMBER, RGM_CSV_TEXT } rgm_csv_kind;
rgm_csv_kind rgm_csv_number(rgm_csv_field field, double *value);

// A whole number from 0 to 2^62, also spelled 12.0.
rgm_csv_kind rgm_csv_id(rgm_csv_field field, int64_t *value);

// "YYYY-MM-DD HH:MM:SS" (also with T, without time or seconds, with a fraction that is dropped) as
// seconds since 1970 in a calendar without time zones.
rgm_csv_kind rgm_csv_time(rgm_csv_field field, int64_t *seconds);

#endif
