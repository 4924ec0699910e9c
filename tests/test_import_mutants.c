// SPDX-License-Identifier: Apache-2.0
// Damaged tables (bytes and fields changed at random, seeded; plain and gzip) given to the
// importers: none may crash or hang, and what is refused is refused as bad data. 1,000 of them;
// IMPORT_MUTANTS sets another number (tools/show import_mutants).

#include "tests/import_tables.h"

#include <sys/wait.h>

TestSuite(import_mutants, .timeout = 3600);

enum { BATCH = 100, SECONDS = 60 };


static uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  uint64_t x = *state ^ *state >> 33;
  x *= 0xff51afd7ed558ccdu;
  return x ^ x >> 33;
}


// puts `word` in the place of `length` bytes at `at`
static size_t splice(char *data, size_t size, size_t at, size_t length, const char *word) {
  const size_t n = strlen(word);
  length = at + length > size ? size - at : length;
  if (size - length + n >= TABLE_ROOM) {
    return size;
  }
  memmove(data + at + n, data + at + length, size - at - length);
  memcpy(data + at, word, n);
  return size - length + n;
}


static size_t change(char *data, size_t size, uint64_t *state) {
  static const char *const words[] = {"",
                                      "-1",
                                      "1e308",
                                      "1e999",
                                      "nan",
                                      "99999999999999999999",
                                      "\"",
                                      "\"\"",
                                      ",",
                                      ",,",
                                      "\n",
                                      "\r",
                                      "\r\n",
                                      "\"\n\"",
                                      "0",
                                      "262143",
                                      "262144",
                                      "225152",
                                      "30025",
                                      "51275",
                                      "1000",
                                      "2000",
                                      "-0",
                                      "0.0",
                                      "1.5",
                                      "Uhr",
                                      "units/kg/hour",
                                      "units/hour",
                                      "sec",
                                      "kg",
                                      ">150",
                                      "Rewritten",
                                      "M",
                                      "9999-12-31 23:59:59",
                                      "0000-01-01",
                                      "2110-01-01 10:30:00",
                                      "1800-01-01 00:00:00",
                                      "2110-01-01",
                                      "\xef\xbb\xbf",
                                      "\x1f\x8b",
                                      "\xff",
                                      "SUBJECT_ID",
                                      "ICUSTAY_ID",
                                      "1e-320",
                                      "2147483648",
                                      "4294967296",
                                      "-9e18"};
  size_t at = draw(state) % (size + 1), length = draw(state) % 4;
  switch (draw(state) % 7) {
  case 0:
    data[at < size ? at : size - 1] = (char)draw(state);
    return size;
  case 1:
    data[at < size ? at : size - 1] ^= (char)(1 << draw(state) % 8);
    return size;
  case 2:
    return at > 0 ? at : 1; // cut off
  case 3:
    return splice(data, size, at, draw(state) % 60, "");
  case 4:
    return splice(data, size, at, length, words[draw(state) % COUNT(words)]);
  default: // a field as a whole
    while (at > 0 && data[at - 1] != ',' && data[at - 1] != '\n') {
      at--;
    }
    for (length = 0; at + length < size && data[at + length] != ',' && data[at + length] != '\n';) {
      length++;
    }
    return splice(data, size, at, length, words[draw(state) % COUNT(words)]);
  }
}


// one mutant: a table changed once to four times; some are packed first and changed then
static void put_mutant(uint64_t *state) {
  static char data[TABLE_ROOM];
  char name[64], path[160];
  const int table = (int)(draw(state) % TABLES);
  const bool gzip = draw(state) % 8 == 0;
  put_tables();
  snprintf(name, sizeof name, "%s.csv", table_name[table]);
  size_t size = strlen(table_text[table]);
  memcpy(data, table_text[table], size);
  if (gzip) {
    put_gzip(name, table_text[table]);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    size = fread(data, 1, sizeof data, file);
    fclose(file);
  }
  for (int n = 1 + (int)(draw(state) % 4); n > 0; n--) {
    size = change(data, size, state);
  }
  put_bytes(name, data, size);
}


// exits with 0 when every mutant of a batch was imported or refused as it should be
static void run_batch(uint64_t seed, int count) {
  alarm(SECONDS);
  uint64_t state = seed * 2654435761u + 11;
  int good = 0;
  for (int i = 0; i < count; i++) {
    import *m;
    put_mutant(&state);
    const rgm_status status = run_import("mimic3-heparin", NULL, NULL, NULL, NULL, &m);
    const bool known = status == RGM_OK || status == RGM_EDATA;
    if (status == RGM_OK) {
      good++;
    }
    rgm_import_free(m);
    if (!known) {
      fprintf(stderr, "seed %llu, mutant %d: %d %s\n", (unsigned long long)seed, i, status,
              rgm_last_error());
      _exit(1);
    }
  }
  _exit(good > 0 && good < count ? 0 : 2);
}


Test(import_mutants, damaged_tables, .init = make_folder, .fini = remove_folder) {
  const char *asked = getenv("IMPORT_MUTANTS");
  const int mutants = asked != NULL ? atoi(asked) : 1000;
  for (int b = 0; b * BATCH < mutants; b++) {
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
      run_batch((uint64_t)b, BATCH);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "batch %d: signal %d", b, WTERMSIG(status));
    cr_assert_eq(WEXITSTATUS(status), 0, "batch %d", b);
  }
}
