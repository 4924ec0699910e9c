// SPDX-License-Identifier: Apache-2.0
// The streaming CSV reader of engine/csv.h. Bytes come from read(2), or through zlib, into one
// buffer of 2 MiB; a record is parsed where it lies. A record that runs over the buffer's end is
// moved to its beginning and parsed again. With a filter, a record without quotes is walked up to
// the filter's column only, and memchr finds its end.

#include "engine/csv.h"
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { BUFFER = 2 * RGM_CSV_RECORD, RAW = 1 << 18 };

// bytes that end a plain run: comma, quote, line ends, NUL
static const unsigned char special[256] = {[','] = 1, ['"'] = 1, ['\n'] = 1, ['\r'] = 1, [0] = 1};

// A field as found: where it is in the buffer, and whether doubled quotes stand in it.
typedef struct span {
  uint32_t start, size; // from the record's start
  bool doubled;
} span;

// Invariant: buffer[at..end) is text not parsed yet; a record that came back lies before `at`.
struct rgm_csv {
  char *path;
  int file;
  bool gzip, raw_done, eof; // raw_done: read(2) gave its last byte; eof: no more text either
  z_stream stream;
  bool inflating; // between the beginning and the end of a gzip member
  unsigned char *raw;
  EVP_MD_CTX *hash;
  char digest[65];
  uint64_t bytes, text_bytes;

  char *buffer;
  size_t at, end;
  int64_t row; // records begun, the header is 1

  int columns;
  char **name;
  span *spans; // columns + 1
  rgm_csv_field *fields;
  int key;
  rgm_csv_keep keep;
  void *arg;
};


// ---- bytes -------------------------------------------------------------------------------------

// reads up to `room` bytes of the file as it is
static rgm_status read_raw(rgm_csv *csv, void *out, size_t room, size_t *got) {
  *got = 0;
  while (*got < room && !csv->raw_done) {
    const ssize_t n = read(csv->file, (char *)out + *got, room - *got);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return rgm_fail(RGM_EIO, "%s: cannot be read: %s", csv->path, strerror(errno));
    }
    csv->raw_done = n == 0;
    *got += (size_t)n;
  }
  csv->bytes += *got;
  if (csv->hash != NULL && *got > 0) {
    EVP_DigestUpdate(csv->hash, out, *got);
  }
  return RGM_OK;
}


// decompresses up to `room` bytes; a file may be several gzip members one after the other
static rgm_status read_gzip(rgm_csv *csv, char *out, size_t room, size_t *got) {
  *got = 0;
  while (*got < room) {
    if (csv->stream.avail_in == 0 && !csv->raw_done) {
      size_t n;
      RGM_TRY(read_raw(csv, csv->raw, RAW, &n));
      csv->stream.next_in = csv->raw;
      csv->stream.avail_in = (uInt)n;
    }
    if (csv->stream.avail_in == 0 && !csv->inflating) {
      return RGM_OK;
    }
    csv->stream.next_out = (Bytef *)out + *got;
    csv->stream.avail_out = (uInt)(room - *got);
    csv->inflating = true;
    const int code = inflate(&csv->stream, Z_NO_FLUSH);
    *got = room - csv->stream.avail_out;
    if (code == Z_STREAM_END) {
      csv->inflating = false;
      inflateReset(&csv->stream);
    } else if (code == Z_BUF_ERROR && csv->raw_done && csv->stream.avail_in == 0) {
      return rgm_fail(RGM_EDATA, "%s: the gzip file is cut off after row %lld; copy it again",
                      csv->path, (long long)csv->row);
    } else if (code != Z_OK) {
      return rgm_fail(code == Z_MEM_ERROR ? RGM_EMEMORY : RGM_EDATA,
                      "%s: the gzip file is damaged after row %lld; copy it again", csv->path,
                      (long long)csv->row);
    }
  }
  return RGM_OK;
}


// moves what is not parsed yet to the buffer's beginning and reads on
static rgm_status refill(rgm_csv *csv) {
  memmove(csv->buffer, csv->buffer + csv->at, csv->end - csv->at);
  csv->end -= csv->at;
  csv->at = 0;
  if (csv->end > RGM_CSV_RECORD) {
    return rgm_fail(RGM_EDATA,
                    "%s: row %lld: a record of more than 1 MiB; is a quote in it never closed?",
                    csv->path, (long long)csv->row + 1);
  }
  size_t room = BUFFER - csv->end;
  room = room > RAW ? RAW : room; // small enough to stay in the cache
  size_t got;
  RGM_TRY(csv->gzip ? read_gzip(csv, csv->buffer + csv->end, room, &got)
                    : read_raw(csv, csv->buffer + csv->end, room, &got));
  csv->end += got;
  csv->text_bytes += got;
  csv->eof = got == 0;
  return RGM_OK;
}


// ---- records -----------------------------------------------------------------------------------

typedef enum outcome { RECORD, SKIPPED, MORE, BROKEN } outcome;

static outcome broken(const rgm_csv *csv, const char *what) {
  rgm_fail(RGM_EDATA, "%s: row %lld: %s", csv->path, (long long)csv->row + 1, what);
  return BROKEN;
}


// a field in quotes from its first quote; *p behind its last one
static outcome quoted(const rgm_csv *csv, const char **p, const char *end, span *s) {
  const char *q = *p + 1;
  s->doubled = false;
  for (;;) {
    const char *quote = memchr(q, '"', (size_t)(end - q));
    if (quote == NULL) {
      return csv->eof ? broken(csv, "a quote is never closed") : MORE;
    }
    if (quote + 1 == end) {
      if (!csv->eof) {
        return MORE;
      }
    } else if (quote[1] == '"') {
      s->doubled = true;
      q = quote + 2;
      continue;
    } else if (quote[1] != ',' && quote[1] != '\n' && quote[1] != '\r') {
      return broken(csv, "text follows a closing quote; quotes in a field are doubled");
    }
    s->start = (uint32_t)(*p + 1 - (csv->buffer + csv->at));
    s->size = (uint32_t)(quote - *p - 1);
    *p = quote + 1;
    return memchr(*p - 1 - s->size, '\0', s->size) != NULL ? broken(csv, "a NUL byte") : RECORD;
  }
}


// Parses the record at `at` as a whole: up to `most` spans, *count of all fields, *next behind it.
static outcome parse(const rgm_csv *csv, span *spans, int most, int *count, const char **next) {
  const char *const start = csv->buffer + csv->at, *const end = csv->buffer + csv->end;
  const char *p = start;
  *count = 0;
  for (;;) {
    span s = {0};
    if (p < end && *p == '"') {
      const outcome done = quoted(csv, &p, end, &s);
      if (done != RECORD) {
        return done;
      }
    } else {
      const char *const from = p;
      while (p < end && !special[(unsigned char)*p]) {
        p++;
      }
      s.start = (uint32_t)(from - start);
      s.size = (uint32_t)(p - from);
    }
    if (p == end && !csv->eof) {
      return MORE;
    }
    if (*count < most) {
      spans[*count] = s;
    }
    ++*count;
    if (p == end) {
      *next = p;
      return RECORD;
    }
    switch (*p++) {
    case ',':
      break;
    case '\n':
      *next = p;
      return RECORD;
    case '\r':
      if (p == end && !csv->eof) {
        return MORE;
      }
      *next = p < end && *p == '\n' ? p + 1 : p;
      return RECORD;
    case '"':
      return broken(csv, "a quote stands inside a field; such fields are quoted as a whole");
    default:
      return broken(csv, "a NUL byte");
    }
  }
}


// The quick way past a record: RECORD where it must be parsed after all.
static outcome skip(const rgm_csv *csv, const char **next) {
  const char *const end = csv->buffer + csv->end;
  const char *p = csv->buffer + csv->at, *from = p;
  for (int column = 0;; column++) {
    from = p;
    while (p < end && !special[(unsigned char)*p]) {
      p++;
    }
    if (p == end || *p != ',') {
      return RECORD; // short, quoted, or not whole yet
    }
    if (column == csv->key) {
      break;
    }
    p++;
  }
  if (csv->keep(csv->arg, from, (size_t)(p - from))) {
    return RECORD;
  }
  // to the end of the record, over fields in quotes
  for (;;) {
    const char *line = memchr(p, '\n', (size_t)(end - p));
    const char *quote = line == NULL ? NULL : memchr(p, '"', (size_t)(line - p));
    if (line == NULL) {
      return RECORD;
    }
    const char *plain = quote != NULL ? quote : line > p ? line - 1 : p; // CRLF may end it
    if (memchr(p, '\r', (size_t)(plain - p)) != NULL) {
      return RECORD;
    }
    if (quote == NULL) {
      *next = line + 1;
      return SKIPPED;
    }
    span s;
    if (quote[-1] != ',') {
      return RECORD;
    }
    p = quote;
    if (quoted(csv, &p, end, &s) != RECORD) {
      return RECORD; // parsed again, which tells what is wrong
    }
  }
}


// ends every field with NUL and undoes doubled quotes
static void finish(rgm_csv *csv, char *start) {
  for (int i = 0; i < csv->columns; i++) {
    const span s = csv->spans[i];
    char *text = start + s.start;
    size_t size = s.size;
    if (s.doubled) {
      size = 0;
      for (size_t k = 0; k < s.size; k++) {
        text[size++] = text[k];
        k += text[k] == '"';
      }
    }
    text[size] = '\0';
    csv->fields[i] = (rgm_csv_field){text, size};
  }
}


// an empty line: one field of no size that is no pair of quotes
static bool is_empty_line(const rgm_csv *csv, int count, const char *next) {
  const char first = csv->buffer[csv->at];
  return count == 1 && csv->spans[0].size == 0 &&
         (first == '\n' || first == '\r' || next == csv->buffer + csv->at);
}


// the number of fields is the header's, or one more that is empty
static bool is_complete(const rgm_csv *csv, int count) {
  return count == csv->columns || (count == csv->columns + 1 && csv->spans[csv->columns].size == 0);
}


rgm_status rgm_csv_next(rgm_csv *csv, rgm_csv_field **fields) {
  *fields = NULL;
  for (;;) {
    const char *next = NULL;
    int count = 0;
    if (csv->at == csv->end && csv->eof) {
      return RGM_OK;
    }
    outcome done = csv->at == csv->end ? MORE : csv->keep != NULL ? skip(csv, &next) : RECORD;
    if (done == RECORD) {
      done = parse(csv, csv->spans, csv->columns + 1, &count, &next);
    }
    if (done == MORE) {
      RGM_TRY(refill(csv));
      continue;
    }
    if (done == BROKEN) {
      return RGM_EDATA;
    }
    char *const start = csv->buffer + csv->at;
    const bool empty = done == RECORD && is_empty_line(csv, count, next);
    csv->at = (size_t)(next - csv->buffer);
    csv->row += !empty;
    if (empty || done == SKIPPED) {
      continue;
    }
    if (!is_complete(csv, count)) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: %d fields where the header has %d", csv->path,
                      (long long)csv->row, count, csv->columns);
    }
    // quoted keys are still to be asked for
    finish(csv, start);
    if (csv->keep != NULL &&
        !csv->keep(csv->arg, csv->fields[csv->key].text, csv->fields[csv->key].size)) {
      continue;
    }
    *fields = csv->fields;
    return RGM_OK;
  }
}


// ---- opening -----------------------------------------------------------------------------------

// reads the first bytes and tells gzip from text
static rgm_status begin(rgm_csv *csv) {
  size_t got;
  RGM_TRY(read_raw(csv, csv->raw, RAW, &got));
  csv->gzip = got >= 2 && memcmp(csv->raw, "\x1f\x8b", 2) == 0;
  if (csv->gzip) {
    csv->stream.next_in = csv->raw;
    csv->stream.avail_in = (uInt)got;
    if (inflateInit2(&csv->stream, 16 + MAX_WBITS) != Z_OK) {
      csv->gzip = false;
      return rgm_fail(RGM_EMEMORY, "%s: no memory to decompress it", csv->path);
    }
    RGM_TRY(refill(csv));
  } else {
    memcpy(csv->buffer, csv->raw, got);
    csv->end = got;
    csv->text_bytes = got;
    csv->eof = got == 0;
  }
  const unsigned char *text = (const unsigned char *)csv->buffer;
  if (csv->end >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
    csv->at = 3;
  } else if (csv->end >= 2 &&
             ((text[0] == 0xff && text[1] == 0xfe) || (text[0] == 0xfe && text[1] == 0xff))) {
    return rgm_fail(RGM_EDATA, "%s: UTF-16 text; save it as UTF-8", csv->path);
  }
  return RGM_OK;
}


static rgm_status no_memory(const rgm_csv *csv) {
  return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", csv->path);
}


// the header's names, without blanks around them
static rgm_status read_header(rgm_csv *csv) {
  span *spans = malloc((RGM_CSV_COLUMNS + 1) * sizeof *spans);
  csv->spans = spans;
  if (spans == NULL) {
    return no_memory(csv);
  }
  const char *next = NULL;
  int count = 0;
  for (;;) {
    const outcome done =
        csv->at == csv->end && !csv->eof ? MORE : parse(csv, spans, RGM_CSV_COLUMNS, &count, &next);
    if (done == BROKEN) {
      return RGM_EDATA;
    }
    if (done == MORE) {
      RGM_TRY(refill(csv));
    } else if (csv->at < csv->end && is_empty_line(csv, count, next)) {
      csv->at = (size_t)(next - csv->buffer);
    } else {
      break;
    }
  }
  if (count > RGM_CSV_COLUMNS || (count == 1 && spans[0].size == 0)) {
    return rgm_fail(RGM_EDATA, "%s: %s", csv->path,
                    count == 1 ? "empty; a header line and rows are expected"
                               : "more than 4096 columns");
  }
  csv->columns = count;
  csv->fields = calloc((size_t)count, sizeof *csv->fields);
  csv->name = calloc((size_t)count, sizeof *csv->name);
  if (csv->fields == NULL || csv->name == NULL) {
    return no_memory(csv);
  }
  char *const start = csv->buffer + csv->at;
  csv->at = (size_t)(next - csv->buffer);
  csv->row = 1;
  finish(csv, start);
  for (int i = 0; i < count; i++) {
    char *text = csv->fields[i].text;
    text += strspn(text, " \t");
    size_t size = strlen(text);
    while (size > 0 && strchr(" \t", text[size - 1]) != NULL) {
      size--;
    }
    csv->name[i] = strndup(text, size);
    if (csv->name[i] == NULL) {
      return no_memory(csv);
    }
  }
  return RGM_OK;
}


// a file whose text can be read on from `at`
static rgm_status open_text(const char *path, bool digest, rgm_csv **out) {
  *out = NULL;
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  struct stat about;
  if (fstat(file, &about) == 0 && S_ISDIR(about.st_mode)) {
    close(file);
    return rgm_fail(RGM_EIO, "%s: a folder; a CSV file is expected", path);
  }
  rgm_csv *csv = calloc(1, sizeof *csv);
  if (csv == NULL) {
    close(file);
    return rgm_fail(RGM_EMEMORY, "%s: no memory to read it", path);
  }
  csv->file = file;
  csv->path = strdup(path);
  csv->raw = malloc(RAW);
  csv->buffer = malloc(BUFFER + 1); // a last field needs room for its NUL
  csv->hash = digest ? EVP_MD_CTX_new() : NULL;
  const bool ready =
      csv->path != NULL && csv->raw != NULL && csv->buffer != NULL &&
      (!digest || (csv->hash != NULL && EVP_DigestInit_ex(csv->hash, EVP_sha256(), NULL) == 1));
  const rgm_status status =
      ready ? begin(csv) : rgm_fail(RGM_EMEMORY, "%s: no memory to read it", path);
  if (status != RGM_OK) {
    rgm_csv_close(csv);
    return status;
  }
  *out = csv;
  return RGM_OK;
}


rgm_status rgm_csv_open(const char *path, bool digest, rgm_csv **out) {
  RGM_TRY(open_text(path, digest, out));
  const rgm_status status = read_header(*out);
  if (status != RGM_OK) {
    rgm_csv_close(*out);
    *out = NULL;
  }
  return status;
}


rgm_status rgm_text_open(const char *path, rgm_csv **out) {
  return open_text(path, false, out);
}


rgm_status rgm_text_line(rgm_csv *csv, char **line) {
  *line = NULL;
  for (;;) {
    char *const start = csv->buffer + csv->at;
    char *end = memchr(start, '\n', csv->end - csv->at);
    if (end == NULL && !csv->eof) {
      RGM_TRY(refill(csv));
      continue;
    }
    if (end == NULL && csv->at == csv->end) {
      return RGM_OK;
    }
    // the last line may lack its end: the buffer has room for a NUL
    csv->at = end != NULL ? (size_t)(end + 1 - csv->buffer) : csv->end;
    end = end != NULL ? end : csv->buffer + csv->end;
    csv->row++;
    *end = '\0';
    if (end > start && end[-1] == '\r') {
      end[-1] = '\0';
    }
    if (strlen(start) < (size_t)(end - start) - (end > start && end[-1] == '\0')) {
      return rgm_fail(RGM_EDATA, "%s: row %lld: a NUL byte; is it a text file?", csv->path,
                      (long long)csv->row);
    }
    *line = start;
    return RGM_OK;
  }
}


void rgm_csv_close(rgm_csv *csv) {
  if (csv == NULL) {
    return;
  }
  for (int i = 0; i < csv->columns && csv->name != NULL; i++) {
    free(csv->name[i]);
  }
  if (csv->gzip) {
    inflateEnd(&csv->stream);
  }
  EVP_MD_CTX_free(csv->hash);
  close(csv->file);
  free(csv->name);
  free(csv->fields);
  free(csv->spans);
  free(csv->buffer);
  free(csv->raw);
  free(csv->path);
  free(csv);
}


// ---- columns -----------------------------------------------------------------------------------

int rgm_csv_columns(const rgm_csv *csv) {
  return csv->columns;
}


const char *rgm_csv_name(const rgm_csv *csv, int column) {
  return csv->name[column];
}


int rgm_csv_find(const rgm_csv *csv, const char *name) {
  for (int i = 0; i < csv->columns; i++) {
    if (strcasecmp(csv->name[i], name) == 0) {
      return i;
    }
  }
  return -1;
}


rgm_status rgm_csv_need(const rgm_csv *csv, const char *name, int *column) {
  *column = rgm_csv_find(csv, name);
  for (int i = *column + 1; *column >= 0 && i < csv->columns; i++) {
    if (strcasecmp(csv->name[i], name) == 0) {
      return rgm_fail(RGM_EDATA, "%s: two columns are called %s; remove one of them", csv->path,
                      name);
    }
  }
  if (*column >= 0) {
    return RGM_OK;
  }
  const char **names = calloc((size_t)csv->columns + 1, sizeof *names);
  if (names == NULL) {
    return no_memory(csv);
  }
  memcpy(names, csv->name, (size_t)csv->columns * sizeof *names);
  const char *nearest = rgm_nearest(name, names);
  free(names);
  return rgm_fail(RGM_EDATA, "%s: no column %s among %d%s%.60s%s", csv->path, name, csv->columns,
                  nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                  nearest != NULL ? "?" : "; is it the right table, with a header line?");
}


void rgm_csv_filter(rgm_csv *csv, int column, rgm_csv_keep keep, void *arg) {
  RGM_ASSERT(column >= 0 && column < csv->columns);
  csv->key = column;
  csv->keep = keep;
  csv->arg = arg;
}


int64_t rgm_csv_row(const rgm_csv *csv) {
  return csv->row;
}


const char *rgm_csv_path(const rgm_csv *csv) {
  return csv->path;
}


uint64_t rgm_csv_bytes(const rgm_csv *csv) {
  return csv->bytes;
}


uint64_t rgm_csv_text_bytes(const rgm_csv *csv) {
  return csv->text_bytes;
}


void rgm_csv_digest(rgm_csv *csv, char hex[65]) {
  hex[0] = '\0';
  unsigned char digest[32];
  unsigned size = 0;
  if (csv->hash != NULL && EVP_DigestFinal_ex(csv->hash, digest, &size) == 1) {
    for (unsigned i = 0; i < size && i < 32; i++) {
      snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    }
    EVP_MD_CTX_free(csv->hash);
    csv->hash = NULL;
  }
}


// ---- fields ------------------------------------------------------------------------------------

// the field without blanks around it
static rgm_csv_field trim(rgm_csv_field f) {
  while (f.size > 0 && (*f.text == ' ' || *f.text == '\t')) {
    f.text++;
    f.size--;
  }
  while (f.size > 0 && (f.text[f.size - 1] == ' ' || f.text[f.size - 1] == '\t')) {
    f.size--;
  }
  return f;
}


rgm_csv_kind rgm_csv_number(rgm_csv_field field, double *value) {
  const rgm_csv_field f = trim(field);
  *value = NAN;
  if (f.size == 0) {
    return RGM_CSV_EMPTY;
  }
  for (size_t i = 0; i < f.size; i++) {
    const char c = f.text[i];
    if (!((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.' || c == 'e' || c == 'E')) {
      return RGM_CSV_TEXT;
    }
  }
  char *end;
  const double x = strtod(f.text, &end);
  if (end != f.text + f.size || !isfinite(x)) {
    return RGM_CSV_TEXT;
  }
  *value = x;
  return RGM_CSV_NUMBER;
}


rgm_csv_kind rgm_csv_id(rgm_csv_field field, int64_t *value) {
  rgm_csv_field f = trim(field);
  *value = -1;
  if (f.size == 0) {
    return RGM_CSV_EMPTY;
  }
  if (f.size > 2 && memcmp(f.text + f.size - 2, ".0", 2) == 0) {
    f.size -= 2;
  }
  int64_t x = 0;
  for (size_t i = 0; i < f.size; i++) {
    if (f.text[i] < '0' || f.text[i] > '9' || f.size > 18) {
      return RGM_CSV_TEXT;
    }
    x = 10 * x + (f.text[i] - '0');
  }
  *value = x;
  return RGM_CSV_NUMBER;
}


// two or four digits
static bool digits(const char *text, int n, int64_t *value) {
  *value = 0;
  for (int i = 0; i < n; i++) {
    if (text[i] < '0' || text[i] > '9') {
      return false;
    }
    *value = 10 * *value + (text[i] - '0');
  }
  return true;
}


// days from 1970-01-01 in the Gregorian calendar, the year taken to begin in March
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
  const int64_t y = month <= 2 ? year - 1 : year;
  const int64_t era = y / 400, of_era = y - era * 400;
  const int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}


static int64_t days_in(int64_t year, int64_t month) {
  static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  return days[month - 1] + (month == 2 && leap);
}


rgm_csv_kind rgm_csv_time(rgm_csv_field field, int64_t *seconds) {
  const rgm_csv_field f = trim(field);
  *seconds = 0;
  if (f.size == 0) {
    return RGM_CSV_EMPTY;
  }
  int64_t y, mo, d, h = 0, mi = 0, s = 0;
  const char *t = f.text;
  bool good = f.size >= 10 && digits(t, 4, &y) && t[4] == '-' && digits(t + 5, 2, &mo) &&
              t[7] == '-' && digits(t + 8, 2, &d) && mo >= 1 && mo <= 12 && d >= 1 &&
              d <= days_in(y, mo);
  if (good && f.size > 10) {
    good = f.size >= 16 && (t[10] == ' ' || t[10] == 'T') && digits(t + 11, 2, &h) &&
           t[13] == ':' && digits(t + 14, 2, &mi) && h < 24 && mi < 60;
  }
  if (good && f.size > 16) {
    good = f.size >= 19 && t[16] == ':' && digits(t + 17, 2, &s) && s < 60;
  }
  if (good && f.size > 19) {
    good = t[19] == '.' && strspn(t + 20, "0123456789") == f.size - 20;
  }
  if (!good) {
    return RGM_CSV_TEXT;
  }
  *seconds = 86400 * days_of(y, mo, d) + 3600 * h + 60 * mi + s;
  return RGM_CSV_NUMBER;
}
