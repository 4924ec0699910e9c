// SPDX-License-Identifier: Apache-2.0
// Tests of the streaming CSV reader: hostile files with the message that each gets, the same
// records as libcsv on random texts, with and without filter and gzip, across buffer ends.

#include "engine/csv.h"

#include <criterion/criterion.h>
#include <csv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

TestSuite(csv, .timeout = 240);

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static char folder[64], path[96];


static void setup(void) {
  snprintf(folder, sizeof folder, "/tmp/rgm_csv_XXXXXX");
  cr_assert_not_null(mkdtemp(folder));
  snprintf(path, sizeof path, "%s/t.csv", folder);
}


static void teardown(void) {
  unlink(path);
  rmdir(folder);
}


static void put(const char *data, size_t size) {
  FILE *file = fopen(path, "wb");
  cr_assert_not_null(file);
  cr_assert(fwrite(data, 1, size, file) == size && fclose(file) == 0);
}


static void put_gzip(const char *data, size_t size) {
  gzFile file = gzopen(path, "wb1");
  cr_assert_not_null(file);
  cr_assert(gzwrite(file, data, (unsigned)size) == (int)size && gzclose(file) == Z_OK);
}


// all records as "a|b\n...", or the error's text
static bool read_all(rgm_csv_keep keep, const char *column, char *out, size_t room) {
  rgm_csv *csv;
  rgm_csv_field *f;
  size_t used = 0;
  out[0] = '\0';
  rgm_status status = rgm_csv_open(path, true, &csv);
  if (status != RGM_OK) {
    cr_assert_null(csv);
    return false;
  }
  if (keep != NULL) {
    int index;
    cr_assert_eq(rgm_csv_need(csv, column, &index), RGM_OK);
    rgm_csv_filter(csv, index, keep, (void *)column);
  }
  while ((status = rgm_csv_next(csv, &f)) == RGM_OK && f != NULL) {
    for (int i = 0; i < rgm_csv_columns(csv) && used + f[i].size + 2 < room; i++) {
      cr_assert_eq(strlen(f[i].text), f[i].size);
      used += (size_t)snprintf(out + used, room - used, "%s%s", i > 0 ? "|" : "", f[i].text);
    }
    used += (size_t)snprintf(out + used, room - used, "\n");
  }
  rgm_csv_close(csv);
  return status == RGM_OK;
}


#define TEXT(s) s, sizeof(s) - 1

static const struct {
  const char *what, *text;
  size_t size;
  bool good;
  const char *expected; // records, or a part of the message
} hostile[] = {
    {"plain", TEXT("a,b\n1,2\n3,4\n"), true, "1|2\n3|4\n"},
    {"no last line end", TEXT("a,b\n1,2"), true, "1|2\n"},
    {"CRLF", TEXT("a,b\r\n1,2\r\n"), true, "1|2\n"},
    {"CR", TEXT("a,b\r1,2\r3,4"), true, "1|2\n3|4\n"},
    {"BOM",
     TEXT("\xef\xbb\xbf"
          "a,b\n1,2\n"),
     true, "1|2\n"},
    {"BOM and quotes", TEXT("\xef\xbb\xbf\"a\",b\n1,2\n"), true, "1|2\n"},
    {"empty lines", TEXT("\n\na,b\n\n1,2\n\r\n\n"), true, "1|2\n"},
    {"quotes", TEXT("a,b\n\"x,y\",\"say \"\"hi\"\"\"\n"), true, "x,y|say \"hi\"\n"},
    {"line ends within quotes", TEXT("a,b\n\"x\ny\",\"\r\n\"\n1,2\n"), true, "x\ny|\r\n\n1|2\n"},
    {"empty fields", TEXT("a,b\n,\n\"\",\"\"\n"), true, "|\n|\n"},
    {"only quotes", TEXT("a,b\n\"\"\"\",\"\"\"\"\"\"\n"), true, "\"|\"\"\n"},
    {"blanks kept", TEXT("a,b\n 1 ,2 \n"), true, " 1 |2 \n"},
    {"blanks around names", TEXT(" a ,\tb\n1,2\n"), true, "1|2\n"},
    {"trailing comma", TEXT("a,b\n1,2,\n"), true, "1|2\n"},
    {"header only", TEXT("a,b\n"), true, ""},
    {"quote at the end of the file", TEXT("a,b\n1,\"2\""), true, "1|2\n"},
    {"one column", TEXT("a\n1\n\"\"\n2\n"), true, "1\n\n2\n"},
    {"empty", TEXT(""), false, "empty"},
    {"only line ends", TEXT("\n\r\n"), false, "empty"},
    {"only a BOM", TEXT("\xef\xbb\xbf"), false, "empty"},
    {"UTF-16",
     TEXT("\xff\xfe"
          "a\0,\0b\0"),
     false, "UTF-16"},
    {"NUL", TEXT("a,b\n1,\0002\n"), false, "row 2: a NUL byte"},
    {"NUL in quotes", TEXT("a,b\n1,\"\0002\"\n"), false, "row 2: a NUL byte"},
    {"open quote", TEXT("a,b\n1,2\n3,\"4\n5,6\n"), false, "row 3: a quote is never closed"},
    {"quote in a field", TEXT("a,b\n1,2\"3\n"), false, "row 2: a quote stands inside"},
    {"text after a quote", TEXT("a,b\n1,\"2\"3\n"), false, "row 2: text follows"},
    {"blank after a quote", TEXT("a,b\n\"1\" ,2\n"), false, "row 2: text follows"},
    {"too few fields", TEXT("a,b\n1\n"), false, "row 2: 1 fields where the header has 2"},
    {"too many fields", TEXT("a,b\n1,2,3\n"), false, "row 2: 3 fields where the header has 2"},
    {"two trailing commas", TEXT("a,b\n1,2,,\n"), false, "row 2: 4 fields"},
    {"gzip cut at once", TEXT("\x1f\x8b\x08"), false, "cut off"},
    {"gzip of noise", TEXT("\x1f\x8b\x08\0\0\0\0\0\0\3\377\377\377\377"), false, "damaged"},
};

Test(csv, hostile_files, .init = setup, .fini = teardown) {
  char out[4096];
  for (int i = 0; i < COUNT(hostile); i++) {
    put(hostile[i].text, hostile[i].size);
    const bool good = read_all(NULL, NULL, out, sizeof out);
    cr_assert_eq(good, hostile[i].good, "%s: %s", hostile[i].what, good ? out : rgm_last_error());
    if (good) {
      cr_assert_str_eq(out, hostile[i].expected, "%s", hostile[i].what);
    } else {
      cr_assert_not_null(strstr(rgm_last_error(), hostile[i].expected), "%s: %s", hostile[i].what,
                         rgm_last_error());
      cr_assert_not_null(strstr(rgm_last_error(), "t.csv"), "%s: %s", hostile[i].what,
                         rgm_last_error());
    }
  }
}


Test(csv, columns_by_name, .init = setup, .fini = teardown) {
  put(TEXT("Subject_ID,CHARTTIME,x,X\n1,2,3,4\n"));
  rgm_csv *csv;
  int column;
  cr_assert_eq(rgm_csv_open(path, false, &csv), RGM_OK);
  cr_assert(rgm_csv_need(csv, "subject_id", &column) == RGM_OK && column == 0);
  cr_assert(rgm_csv_need(csv, "charttime", &column) == RGM_OK && column == 1);
  cr_assert_eq(rgm_csv_find(csv, "nothing"), -1);
  cr_assert_eq(rgm_csv_need(csv, "SUBJECTID", &column), RGM_EDATA);
  cr_assert_not_null(strstr(rgm_last_error(), "did you mean Subject_ID?"), "%s", rgm_last_error());
  cr_assert_eq(rgm_csv_need(csv, "x", &column), RGM_EDATA);
  cr_assert_not_null(strstr(rgm_last_error(), "two columns"), "%s", rgm_last_error());
  rgm_csv_close(csv);
  cr_assert_eq(rgm_csv_open("/nowhere/t.csv", false, &csv), RGM_EIO);
  cr_assert_eq(rgm_csv_open(folder, false, &csv), RGM_EIO);
}


Test(csv, huge_fields, .init = setup, .fini = teardown) {
  // a record of just under 1 MiB is read, a longer one refused, in little memory
  for (int over = 0; over < 2; over++) {
    const size_t field = over ? 5u << 20 : (1u << 20) - 100;
    char *text = malloc(field + 64);
    size_t size = (size_t)sprintf(text, "a,b\n1,\"");
    memset(text + size, '\n', field);
    size += field;
    size += (size_t)sprintf(text + size, "\"\n");
    put(text, size);
    char *out = malloc(field + 64);
    cr_assert_eq(read_all(NULL, NULL, out, field + 64), !over, "%s", rgm_last_error());
    cr_assert(over || strlen(out) == field + 3);
    cr_assert(!over || strstr(rgm_last_error(), "more than 1 MiB") != NULL);
    free(out);
    free(text);
  }
}


// ---- against libcsv ----------------------------------------------------------------------------

typedef struct peer {
  char *out;
  size_t used, room;
  int columns, fields, kept; // of the header, of this record
  bool bad, last_empty;
} peer;

static int never(unsigned char c) {
  (void)c;
  return 0;
}


static void on_field(void *data, size_t size, void *p_) {
  peer *p = p_;
  if (p->columns > 0 && p->fields < p->columns && p->used + size + 2 < p->room) {
    p->used += (size_t)sprintf(p->out + p->used, "%s", p->fields > 0 ? "|" : "");
    memcpy(p->out + p->used, data, size);
    p->used += size;
  }
  p->last_empty = size == 0;
  p->fields++;
}


static void on_row(int end, void *p_) {
  (void)end;
  peer *p = p_;
  if (p->columns == 0) {
    p->columns = p->fields;
  } else {
    p->bad |= p->fields != p->columns && !(p->fields == p->columns + 1 && p->last_empty);
    p->out[p->used++] = '\n';
  }
  p->fields = 0;
}


static bool read_by_libcsv(const char *text, size_t size, char *out, size_t room) {
  struct csv_parser parser;
  peer p = {.out = out, .room = room};
  cr_assert_eq(csv_init(&parser, CSV_STRICT | CSV_STRICT_FINI), 0);
  csv_set_space_func(&parser, never);
  const bool parsed = csv_parse(&parser, text, size, on_field, on_row, &p) == size &&
                      csv_fini(&parser, on_field, on_row, &p) == 0;
  csv_free(&parser);
  out[p.used] = '\0';
  return parsed && !p.bad;
}


static uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  uint64_t x = *state ^ *state >> 33;
  x *= 0xff51afd7ed558ccdu;
  return x ^ x >> 33;
}


static bool keep_all(void *arg, const char *text, size_t size) {
  (void)arg, (void)text, (void)size;
  return true;
}


// the first field's first letter is no a
static bool keep_some(void *arg, const char *text, size_t size) {
  (void)arg;
  return size == 0 || text[0] != 'a';
}


// records of `all` that keep_some lets through
static void filter_text(const char *all, char *out) {
  while (*all != '\0') {
    const size_t size = strcspn(all, "\n") + 1;
    if (*all != 'a') {
      memcpy(out, all, size);
      out += size;
    }
    all += size;
  }
  *out = '\0';
}


Test(csv, agrees_with_libcsv_on_random_texts, .init = setup, .fini = teardown) {
  // mostly right records, with some bytes changed
  static const char *const fields[] = {"",
                                       "a",
                                       "12",
                                       "\"x\"",
                                       "\"p,q\"",
                                       "\"\"",
                                       "a b",
                                       "\"\"\"\"",
                                       "\"r\"\"s\"",
                                       "b\"c",
                                       "\"d",
                                       "\"e\"f",
                                       "long text that goes on",
                                       "abc",
                                       "-1.5",
                                       "a"};
  uint64_t state = 20261122;
  int good = 0, bad = 0;
  char text[2048], one[8192], two[8192], some[8192];
  for (int n = 0; n < 6000; n++) {
    size_t size = (size_t)sprintf(text, "h,i,j%s", draw(&state) % 2 ? "\n" : "\r\n");
    const int rows = (int)(draw(&state) % 6);
    for (int r = 0; r < rows; r++) {
      for (int c = 0; c < 3; c++) {
        // quotes out of place are rare
        int k = (int)(draw(&state) % 16);
        k = k >= 9 && k <= 11 && draw(&state) % 8 != 0 ? 0 : k;
        size += (size_t)sprintf(text + size, "%s%s", c > 0 ? "," : "", fields[k]);
      }
      size += (size_t)sprintf(text + size, "%s", draw(&state) % 3 ? "\n" : "\r\n");
    }
    const bool changed = draw(&state) % 3 == 0;
    if (changed) {
      text[6 + draw(&state) % (size - 5)] = ",\"\n\ra"[draw(&state) % 5];
    }
    put(text, size);
    const bool peer_good = read_by_libcsv(text, size, one, sizeof one);
    const bool our_good = read_all(NULL, NULL, two, sizeof two);
    cr_assert_eq(our_good, peer_good, "%d: \"%s\": libcsv %d, ours %d %s", n, text, peer_good,
                 our_good, rgm_last_error());
    good += our_good;
    bad += !our_good;
    if (our_good) {
      cr_assert_str_eq(two, one, "%d: \"%s\"", n, text);
      cr_assert(read_all(keep_all, "h", two, sizeof two));
      cr_assert_str_eq(two, one, "filtered %d: \"%s\"", n, text);
      cr_assert(read_all(keep_some, "h", two, sizeof two));
      if (!changed) { // records are lines
        filter_text(one, some);
        cr_assert_str_eq(two, some, "some of %d: \"%s\"", n, text);
      }
    }
  }
  cr_assert(good > 2000 && bad > 500, "%d good, %d bad", good, bad);
}


Test(csv, the_same_through_gzip_and_across_buffers, .init = setup, .fini = teardown) {
  // 3 MB, so that records lie across every end of a buffer; two gzip members; then cut off
  const size_t room = 3u << 20;
  char *text = malloc(room + 256), *one = malloc(2 * room), *two = malloc(2 * room);
  size_t size = (size_t)sprintf(text, "h,i,j\n");
  uint64_t state = 7;
  while (size < room) {
    const int n = (int)(draw(&state) % 40);
    size += (size_t)sprintf(text + size, "%d,\"%.*s\"\"\n\",%s\n", n, n,
                            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", n % 2 ? "" : "a");
  }
  put(text, size);
  cr_assert(read_all(NULL, NULL, one, 2 * room), "%s", rgm_last_error());
  put_gzip(text, size);
  cr_assert(read_all(keep_all, "i", two, 2 * room), "%s", rgm_last_error());
  cr_assert(strcmp(one, two) == 0);

  // members one after the other
  size_t half = size / 2;
  while (text[half - 1] != '\n' || text[half] == '"') {
    half++;
  }
  gzFile file = gzopen(path, "wb1");
  cr_assert(gzwrite(file, text, (unsigned)half) > 0 && gzclose(file) == Z_OK);
  file = gzopen(path, "ab1");
  cr_assert(gzwrite(file, text + half, (unsigned)(size - half)) > 0 && gzclose(file) == Z_OK);
  cr_assert(read_all(NULL, NULL, two, 2 * room), "%s", rgm_last_error());
  cr_assert(strcmp(one, two) == 0);

  // cut anywhere: an error, never fewer rows
  put_gzip(text, size);
  FILE *whole = fopen(path, "rb");
  const size_t packed = fread(two, 1, 2 * room, whole);
  fclose(whole);
  char *copy = malloc(packed);
  memcpy(copy, two, packed);
  for (int k = 1; k < 40; k++) {
    put(copy, packed - (k < 20 ? (size_t)k : packed * (size_t)k / 41));
    cr_assert(!read_all(NULL, NULL, two, 2 * room), "cut %d", k);
    cr_assert(strstr(rgm_last_error(), "cut off") != NULL, "%s", rgm_last_error());
  }
  free(copy);
  free(text);
  free(one);
  free(two);
}


// ---- fields ------------------------------------------------------------------------------------

static rgm_csv_field field(const char *text) {
  static char room[64];
  snprintf(room, sizeof room, "%s", text);
  return (rgm_csv_field){room, strlen(room)};
}


Test(csv, numbers_ids_and_times) {
  static const struct {
    const char *text;
    rgm_csv_kind kind;
    double value;
  } numbers[] = {
      {"1.5", RGM_CSV_NUMBER, 1.5}, {" -2e3 ", RGM_CSV_NUMBER, -2000}, {"", RGM_CSV_EMPTY, 0},
      {"  ", RGM_CSV_EMPTY, 0},     {">150", RGM_CSV_TEXT, 0},         {"nan", RGM_CSV_TEXT, 0},
      {"inf", RGM_CSV_TEXT, 0},     {"0x10", RGM_CSV_TEXT, 0},         {"1e999", RGM_CSV_TEXT, 0},
      {"1 2", RGM_CSV_TEXT, 0},     {"1,5", RGM_CSV_TEXT, 0},          {".5", RGM_CSV_NUMBER, 0.5},
      {"e", RGM_CSV_TEXT, 0},       {"+3", RGM_CSV_NUMBER, 3},         {"1.2.3", RGM_CSV_TEXT, 0}};
  for (int i = 0; i < COUNT(numbers); i++) {
    double x;
    cr_assert_eq(rgm_csv_number(field(numbers[i].text), &x), numbers[i].kind, "%s",
                 numbers[i].text);
    cr_assert(numbers[i].kind == RGM_CSV_NUMBER ? x == numbers[i].value : isnan(x));
  }
  static const struct {
    const char *text;
    rgm_csv_kind kind;
    int64_t value;
  } ids[] = {{"204881", RGM_CSV_NUMBER, 204881},
             {"12.0", RGM_CSV_NUMBER, 12},
             {"", RGM_CSV_EMPTY, -1},
             {"-1", RGM_CSV_TEXT, 0},
             {"1.5", RGM_CSV_TEXT, 0},
             {"9999999999999999999", RGM_CSV_TEXT, 0}},
    times[] = {{"1970-01-02 00:00:01", RGM_CSV_NUMBER, 86401},
               {"2164-10-23 21:10:15", RGM_CSV_NUMBER, 6147695415},
               {"1800-02-28", RGM_CSV_NUMBER, -5359651200},
               {"2000-02-29T12:30", RGM_CSV_NUMBER, 951827400},
               {"2000-02-29 12:30:00.25", RGM_CSV_NUMBER, 951827400},
               {"", RGM_CSV_EMPTY, 0},
               {"1900-02-29 00:00:00", RGM_CSV_TEXT, 0},
               {"2100-13-01 00:00:00", RGM_CSV_TEXT, 0},
               {"2100-01-01 24:00:00", RGM_CSV_TEXT, 0},
               {"2100-01-01 00:00:0", RGM_CSV_TEXT, 0},
               {"01/02/2100", RGM_CSV_TEXT, 0}};
  for (int i = 0; i < COUNT(ids); i++) {
    int64_t x;
    cr_assert_eq(rgm_csv_id(field(ids[i].text), &x), ids[i].kind, "%s", ids[i].text);
    cr_assert(ids[i].kind != RGM_CSV_NUMBER || x == ids[i].value, "%s", ids[i].text);
  }
  for (int i = 0; i < COUNT(times); i++) {
    int64_t x;
    cr_assert_eq(rgm_csv_time(field(times[i].text), &x), times[i].kind, "%s", times[i].text);
    cr_assert(times[i].kind != RGM_CSV_NUMBER || x == times[i].value, "%s: %lld", times[i].text,
              (long long)x);
  }
}
