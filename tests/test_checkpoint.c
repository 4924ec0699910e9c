// SPDX-License-Identifier: Apache-2.0
// Checkpoints: what is written comes back bit for bit, damage of any byte is noticed, foreign files
// are refused with a reason, a failed write leaves the old file, other HDF5 tools can read ours.

#include "engine/engine.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>


TestSuite(checkpoint, .timeout = 120);


// ---- a folder for each test, and files in it ---------------------------------------------------

static char folder[256];


static const char *in_folder(const char *name) {
  static char path[4][512];
  static int turn;
  turn = (turn + 1) % 4;
  snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
  return path[turn];
}


static void make_folder(void) {
  const char *base = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/rgm_checkpoint_XXXXXX", base != NULL ? base : "/tmp");
  cr_assert(mkdtemp(folder) != NULL, "mkdtemp %s: %s", folder, strerror(errno));
}


static void remove_folder(void) {
  char command[600];
  snprintf(command, sizeof command, "chmod -R u+w '%s' && rm -rf '%s'", folder, folder);
  cr_assert(system(command) == 0);
}


// The bytes of a file; the caller frees them.
static unsigned char *load(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  cr_assert(file != NULL, "%s: %s", path, strerror(errno));
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  unsigned char *data = malloc(*size + 1);
  cr_assert(fread(data, 1, *size, file) == *size);
  fclose(file);
  return data;
}


static void store(const char *path, const void *data, size_t size) {
  FILE *file = fopen(path, "wb");
  cr_assert(file != NULL, "%s: %s", path, strerror(errno));
  cr_assert(fwrite(data, 1, size, file) == size);
  fclose(file);
}


static bool exists(const char *path) {
  return access(path, F_OK) == 0;
}


// ---- a checkpoint to play with -----------------------------------------------------------------

static float weight[2 * 3 * 16];
static float bias[2 * 16];
static double moments[3] = {1.0 / 3.0, -0.0, 1e-310};
static int32_t counters[4] = {0, -1, INT32_MAX, INT32_MIN};

static rgm_record small_records[] = {
    {"policy/0/weight", "replica, in, out", "1", RGM_F32, 3, {2, 3, 16}, weight},
    {"policy/0/bias", "replica, out", "1", RGM_F32, 2, {2, 16}, bias},
    {"moments", "replica", "mg", RGM_F64, 1, {3}, moments},
    {"counters", "replica, kind", "", RGM_I32, 2, {2, 2}, counters},
};

static rgm_attribute small_attributes[] = {
    {"version", "0.1.0"}, {"commit", "abc"}, {"device", "cpu \xc2\xb5"}, {"empty", ""}};

static rgm_checkpoint small = {.schema = RGM_CHECKPOINT_SCHEMA,
                               .step = 12345678901234567u,
                               .config = (char *)"run:\n  seed: 1\n",
                               .attributes = small_attributes,
                               .attribute_count = 4,
                               .records = small_records,
                               .record_count = 4};


static void fill_small(void) {
  for (size_t i = 0; i < sizeof weight / sizeof *weight; i++) {
    weight[i] = (float)i / 7.0f;
  }
  for (size_t i = 0; i < sizeof bias / sizeof *bias; i++) {
    bias[i] = -(float)i;
  }
}


static void write_ok(const char *path, const rgm_checkpoint *checkpoint) {
  rgm_status status = rgm_checkpoint_write(path, checkpoint);
  cr_assert(status == RGM_OK, "%s", rgm_last_error());
}


// Reads the file and compares everything in it.
static void expect_same(const char *path, const rgm_checkpoint *want) {
  rgm_checkpoint *got = NULL;
  rgm_status status = rgm_checkpoint_read(path, &got);
  cr_assert(status == RGM_OK, "%s", rgm_last_error());
  cr_expect(got->schema == want->schema && got->step == want->step);
  cr_expect_str_eq(got->config, want->config != NULL ? want->config : "");
  cr_assert(got->attribute_count == want->attribute_count);
  for (int i = 0; i < want->attribute_count; i++) {
    cr_expect_str_eq(got->attributes[i].name, want->attributes[i].name);
    cr_expect_str_eq(got->attributes[i].value, want->attributes[i].value);
  }
  cr_assert(got->record_count == want->record_count);
  for (int i = 0; i < want->record_count; i++) {
    const rgm_record *a = &got->records[i], *b = &want->records[i];
    cr_expect_str_eq(a->name, b->name);
    cr_expect_str_eq(a->axes, b->axes);
    cr_expect_str_eq(a->unit, b->unit);
    cr_assert(a->dtype == b->dtype && a->rank == b->rank, "%s", b->name);
    size_t bytes = rgm_dtype_size(b->dtype);
    for (int k = 0; k < RGM_MAX_RANK; k++) {
      cr_expect(a->dims[k] == (k < b->rank ? b->dims[k] : 1), "%s dim %d", b->name, k);
      bytes *= k < b->rank ? (size_t)b->dims[k] : 1;
    }
    cr_expect(a->data != NULL && (bytes == 0 || memcmp(a->data, b->data, bytes) == 0), "%s",
              b->name);
    cr_expect(rgm_checkpoint_record(got, b->name) == a);
  }
  rgm_checkpoint_free(got);
}


// A file that must be refused: with this status, its path, and (if given) these words.
static void expect_refused(const char *path, rgm_status want, const char *words) {
  rgm_checkpoint *got = (rgm_checkpoint *)&small;
  rgm_status status = rgm_checkpoint_read(path, &got);
  cr_expect(status == want && got == NULL, "%s: status %d: %s", path, status, rgm_last_error());
  cr_expect(strstr(rgm_last_error(), path) != NULL, "no path: %s", rgm_last_error());
  cr_expect(words == NULL || strstr(rgm_last_error(), words) != NULL, "no '%s' in: %s", words,
            rgm_last_error());
}


// ---- contents ----------------------------------------------------------------------------------

Test(checkpoint, round_trip_of_every_dtype_and_rank, .init = make_folder, .fini = remove_folder) {
  static const int64_t shapes[][RGM_MAX_RANK] = {
      {1},    {7},        {70001},       {0},          {3, 5},       {2, 40000},   {0, 5},
      {5, 0}, {2, 3, 16}, {3, 257, 129}, {2, 3, 4, 5}, {1, 1, 1, 1}, {9, 2, 0, 3}, {300, 1, 300, 1},
  };
  static const int ranks[] = {1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 4, 4};
  enum { SHAPES = sizeof ranks / sizeof *ranks, RECORDS = 5 * (SHAPES + 1) };

  // bit patterns of all kinds, NaNs among them; shape SHAPES is the scalar of rank 0
  static unsigned char bits[8 * 100000 + 8];
  uint32_t x = 1;
  for (size_t i = 0; i < sizeof bits; i++) {
    x = x * 1664525u + 1013904223u;
    bits[i] = (unsigned char)(x >> 24);
  }
  static rgm_record records[RECORDS];
  for (int i = 0; i < RECORDS; i++) {
    rgm_record *r = &records[i];
    int shape = i / 5;
    r->dtype = (rgm_dtype)(i % 5);
    r->rank = shape < SHAPES ? ranks[shape] : 0;
    if (shape < SHAPES) {
      memcpy(r->dims, shapes[shape], sizeof r->dims);
    }
    r->data = bits + (i % 2) * 8;
    snprintf(r->name, sizeof r->name, "%s/%d", rgm_dtype_name(r->dtype), shape);
    snprintf(r->axes, sizeof r->axes, "a, b");
    snprintf(r->unit, sizeof r->unit, "%d", i);
  }
  rgm_checkpoint all = {.schema = 1, .records = records, .record_count = RECORDS};
  const char *path = in_folder("all.h5");
  write_ok(path, &all);
  expect_same(path, &all);
}


Test(checkpoint, empty_and_large_texts, .init = make_folder, .fini = remove_folder) {
  // nothing at all, an empty config, one of 200 kB, and as many attributes as anybody may want
  const char *path = in_folder("text.h5");
  rgm_checkpoint c = {.schema = 1};
  write_ok(path, &c);
  expect_same(path, &c);
  c.config = (char *)"";
  write_ok(path, &c);
  expect_same(path, &c);

  static char text[200000];
  memset(text, 'x', sizeof text - 1);
  static rgm_attribute attributes[100];
  for (int i = 0; i < 100; i++) {
    memset(attributes[i].name, 'a' + i % 26, sizeof attributes[i].name - 1);
    snprintf(attributes[i].name, 8, "k%d", 100 - i);
    memset(attributes[i].value, 'v', (size_t)i * 255 / 99);
  }
  c = (rgm_checkpoint){
      .schema = 1, .config = text, .attributes = attributes, .attribute_count = 100};
  write_ok(path, &c);
  expect_same(path, &c);
}


Test(checkpoint, same_content_gives_same_bytes, .init = make_folder, .fini = remove_folder) {
  // a second apart, since a time stamp would count seconds
  fill_small();
  write_ok(in_folder("a.h5"), &small);
  sleep(1);
  write_ok(in_folder("b.h5"), &small);
  size_t size_a, size_b;
  unsigned char *a = load(in_folder("a.h5"), &size_a), *b = load(in_folder("b.h5"), &size_b);
  cr_assert(size_a == size_b);
  cr_expect(memcmp(a, b, size_a) == 0);

  // the prefix: magic, versions, length, a line for people
  cr_expect(memcmp(a, "REGIMEN\n\1\0\0\0\2\0\0\0", 16) == 0);
  uint64_t length;
  memcpy(&length, a + 16, sizeof length);
  cr_expect(length == size_a - 512);
  cr_expect(memcmp(a + 56, "Regimen checkpoint", 18) == 0);
  cr_expect(memcmp(a + 512, "\x89HDF\r\n\x1a\n", 8) == 0);
  free(a);
  free(b);
}


Test(checkpoint, order_is_kept_and_names_are_found, .init = make_folder, .fini = remove_folder) {
  // neither the order of the alphabet nor that of groups
  static const char *const names[] = {"z", "b/2", "a/1", "b/1", "m/n/o/p", "a/0", "m/n/q", "c"};
  enum { COUNT = sizeof names / sizeof *names };
  rgm_record records[COUNT];
  double value[COUNT];
  for (int i = 0; i < COUNT; i++) {
    value[i] = i;
    records[i] = (rgm_record){.dtype = RGM_F64, .rank = 1, .dims = {1}, .data = &value[i]};
    snprintf(records[i].name, sizeof records[i].name, "%s", names[i]);
  }
  rgm_checkpoint c = {.schema = 1, .records = records, .record_count = COUNT};
  write_ok(in_folder("order.h5"), &c);
  expect_same(in_folder("order.h5"), &c);

  rgm_checkpoint *got;
  fill_small();
  write_ok(in_folder("small.h5"), &small);
  cr_assert(rgm_checkpoint_read(in_folder("small.h5"), &got) == RGM_OK);
  cr_expect(rgm_checkpoint_record(got, "policy/0") == NULL);
  cr_expect(rgm_checkpoint_record(got, "policy/0/bias") == &got->records[1]);
  cr_expect_str_eq(rgm_checkpoint_attribute(got, "commit"), "abc");
  cr_expect(rgm_checkpoint_attribute(got, "nothing") == NULL);
  rgm_checkpoint_free(got);
  rgm_checkpoint_free(NULL);
}


Test(checkpoint, our_own_mistakes_are_internal_errors, .init = make_folder, .fini = remove_folder) {
  static const struct {
    const char *first, *second;
    int rank;
    int64_t dim;
    int dtype;
  } cases[] = {
      {"", "b", 1, 1, 0},     {"a", "a", 1, 1, 0},         {"a/b", "a", 1, 1, 0},
      {"a", "a/b", 1, 1, 0},  {"/a", "b", 1, 1, 0},        {"a/", "b", 1, 1, 0},
      {"a//b", "b", 1, 1, 0}, {"../a", "b", 1, 1, 0},      {"a/.", "b", 1, 1, 0},
      {"a", "b", 5, 1, 0},    {"a", "b", -1, 1, 0},        {"a", "b", 1, -1, 0},
      {"a", "b", 1, 1, 5},    {"a", "b", 4, INT64_MAX, 0},
  };
  const char *path = in_folder("never.h5");
  double value = 0;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    rgm_record records[2] = {
        {.dtype = (rgm_dtype)cases[i].dtype, .rank = cases[i].rank, .data = &value},
        {.dtype = RGM_F64, .rank = 1, .dims = {1}, .data = &value}};
    for (int k = 0; k < RGM_MAX_RANK; k++) {
      records[0].dims[k] = cases[i].dim;
    }
    snprintf(records[0].name, sizeof records[0].name, "%s", cases[i].first);
    snprintf(records[1].name, sizeof records[1].name, "%s", cases[i].second);
    rgm_checkpoint c = {.schema = 1, .records = records, .record_count = 2};
    cr_expect(rgm_checkpoint_write(path, &c) == RGM_EINTERNAL, "case %zu", i);
  }
  rgm_checkpoint no_schema = {.schema = 0};
  cr_expect(rgm_checkpoint_write(path, &no_schema) == RGM_EINTERNAL);
  rgm_attribute twice[2] = {{"a", "1"}, {"a", "2"}};
  rgm_checkpoint c = {.schema = 1, .attributes = twice, .attribute_count = 2};
  cr_expect(rgm_checkpoint_write(path, &c) == RGM_EINTERNAL);
  cr_expect(!exists(path));
}


Test(checkpoint, sha256_of_known_texts) {
  static const struct {
    const char *text, *hex;
  } cases[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char hex[65];
    rgm_sha256_hex(cases[i].text, strlen(cases[i].text), hex);
    cr_expect_str_eq(hex, cases[i].hex);
  }
}


// ---- damage ------------------------------------------------------------------------------------

Test(checkpoint, every_flipped_byte_is_detected, .init = make_folder, .fini = remove_folder) {
  fill_small();
  const char *path = in_folder("flip.h5");
  write_ok(path, &small);
  size_t size, missed = 0;
  unsigned char *data = load(path, &size);
  int fd = open(path, O_RDWR);
  for (size_t i = 0; i < size; i++) {
    // one bit here, all bits there
    unsigned char bad = data[i] ^ (unsigned char)(i % 2 == 0 ? 1u << (i / 2 % 8) : 0xffu);
    cr_assert(pwrite(fd, &bad, 1, (off_t)i) == 1);
    rgm_checkpoint *got = NULL;
    missed += rgm_checkpoint_read(path, &got) != RGM_EDATA || got != NULL;
    cr_assert(pwrite(fd, &data[i], 1, (off_t)i) == 1);
  }
  close(fd);
  free(data);
  cr_expect(missed == 0, "%zu of %zu", missed, size);
  expect_same(path, &small);
}


Test(checkpoint, every_truncation_is_detected, .init = make_folder, .fini = remove_folder) {
  fill_small();
  const char *path = in_folder("cut.h5");
  write_ok(path, &small);
  size_t size, missed = 0;
  free(load(path, &size));
  cr_assert(truncate(path, (off_t)size + 1) == 0);
  expect_refused(path, RGM_EDATA, "damaged");
  for (size_t length = size; length-- > 0;) {
    cr_assert(truncate(path, (off_t)length) == 0);
    rgm_checkpoint *got = NULL;
    missed += rgm_checkpoint_read(path, &got) != RGM_EDATA || got != NULL;
  }
  cr_expect(missed == 0, "%zu of %zu", missed, size);
}


Test(checkpoint, foreign_files_are_refused, .init = make_folder, .fini = remove_folder) {
  char spaces[4096];
  memset(spaces, ' ', sizeof spaces);
  store(in_folder("empty"), "", 0);
  expect_refused(in_folder("empty"), RGM_EDATA, "empty");
  store(in_folder("text"), "run:\n", 5);
  expect_refused(in_folder("text"), RGM_EDATA, "not a Regimen checkpoint");
  store(in_folder("spaces"), spaces, sizeof spaces);
  expect_refused(in_folder("spaces"), RGM_EDATA, "not a Regimen checkpoint");
  store(in_folder("magic"), "REGIMEN\n", 8);
  expect_refused(in_folder("magic"), RGM_EDATA, "not a Regimen checkpoint");

  hid_t file = H5Fcreate(in_folder("plain"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  cr_assert(file >= 0 && H5Fclose(file) >= 0);
  expect_refused(in_folder("plain"), RGM_EDATA, "HDF5 file, but not a Regimen checkpoint");

  // what is no file at all
  expect_refused(in_folder("missing"), RGM_EIO, "check the path");
  expect_refused(folder, RGM_EIO, "not a regular file");
  cr_assert(mkfifo(in_folder("pipe"), 0600) == 0);
  expect_refused(in_folder("pipe"), RGM_EIO, "not a regular file");
}


// Puts the right length and digest before a file that HDF5 made, as an attacker or another program
// could.
static void seal(const char *path, uint32_t schema) {
  size_t size;
  char hex[65];
  unsigned char *data = load(path, &size);
  uint64_t length = size - 512;
  memset(data, 0, 512);
  memcpy(data, "REGIMEN\n\1", 9);
  memcpy(data + 12, &schema, 4);
  memcpy(data + 16, &length, 8);
  rgm_sha256_hex(data, size, hex);
  for (size_t i = 0; i < 32; i++) {
    unsigned byte;
    sscanf(hex + 2 * i, "%2x", &byte);
    data[24 + i] = (unsigned char)byte;
  }
  store(path, data, size);
  free(data);
}


static void put(hid_t where, const char *name, hid_t type, const void *value) {
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t attribute = H5Acreate2(where, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  cr_assert(H5Awrite(attribute, type, value) >= 0);
  H5Aclose(attribute);
  H5Sclose(space);
}


// The defects that a crafted file can have, one at a time.
typedef enum defect {
  NONE,
  SOFT_LINK,
  EXTERNAL_LINK,
  LOOP,
  STRAY,
  EXTERNAL_STORAGE,
  SHAPE_BOMB,
  CHUNK_BOMB,
  GZIP,
  INT64,
  RANK5,
  INDEX,
  NAME,
  COUNT,
  VARIABLE_TEXT,
  DEFECTS,
} defect;


static void put_dataset(hid_t tensors, defect d) {
  hsize_t dims[5] = {4, 1, 1, 1, 1}, most[5] = {4, 1, 1, 1, 1}, chunk[5] = {4, 1, 1, 1, 1};
  int rank = d == RANK5 ? 5 : 1;
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  if (d == SHAPE_BOMB) {
    dims[0] = most[0] = (hsize_t)1 << 40;
  }
  if (d == CHUNK_BOMB) {
    most[0] = H5S_UNLIMITED;
    chunk[0] = (hsize_t)1 << 28;
  }
  if (d == EXTERNAL_STORAGE) {
    H5Pset_external(list, "/etc/passwd", 0, 16);
  } else {
    H5Pset_chunk(list, rank, chunk);
  }
  if (d == GZIP) {
    H5Pset_deflate(list, 1);
  }
  hid_t space = H5Screate_simple(rank, dims, most);
  hid_t type = d == INT64 ? H5T_STD_I64LE : H5T_STD_I32LE;
  hid_t set = H5Dcreate2(tensors, "x", type, space, H5P_DEFAULT, list, H5P_DEFAULT);
  cr_assert(set >= 0, "defect %d", d);
  int32_t values[4] = {1, 2, 3, 4}, index = d == INDEX ? 7 : 0;
  if (d != EXTERNAL_STORAGE && d != SHAPE_BOMB && d != CHUNK_BOMB) {
    cr_assert(H5Dwrite(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  }
  hid_t text = H5Tcopy(H5T_C_S1);
  H5Tset_size(text, 2);
  put(set, "name", text, d == NAME ? "y" : "x");
  put(set, "axes", text, "a");
  put(set, "unit", text, "1");
  put(set, "index", H5T_STD_I32LE, &index);
  H5Tclose(text);
  H5Dclose(set);
  H5Sclose(space);
  H5Pclose(list);
}


static void craft(const char *path, defect d) {
  // the user block and what the writer puts at the root
  int32_t schema = 1, count = d == COUNT ? 2 : 1;
  uint64_t step = 1;
  hid_t list = H5Pcreate(H5P_FILE_CREATE);
  H5Pset_userblock(list, 512);
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, list, H5P_DEFAULT);
  put(file, "schema", H5T_STD_I32LE, &schema);
  put(file, "step", H5T_STD_U64LE, &step);
  hid_t text = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
  H5Tset_size(text, d == VARIABLE_TEXT ? H5T_VARIABLE : 4);
  const char *variable = "a: 1", *fixed = "a:1";
  hid_t set = H5Dcreate2(file, "config", text, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  cr_assert(H5Dwrite(set, text, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                     d == VARIABLE_TEXT ? (const void *)&variable : fixed) >= 0);
  H5Dclose(set);
  H5Sclose(space);
  H5Tclose(text);

  // links and tensors
  H5Gclose(H5Gcreate2(file, "provenance", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  hid_t tensors = H5Gcreate2(file, "tensors", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  put(tensors, "count", H5T_STD_I32LE, &count);
  put_dataset(tensors, d);
  if (d == SOFT_LINK) {
    H5Lcreate_soft("/tensors/x", tensors, "y", H5P_DEFAULT, H5P_DEFAULT);
  } else if (d == EXTERNAL_LINK) {
    H5Lcreate_external("/etc/passwd", "/", tensors, "y", H5P_DEFAULT, H5P_DEFAULT);
  } else if (d == LOOP) {
    H5Lcreate_hard(file, "tensors", tensors, "y", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_hard(file, "tensors", tensors, "z", H5P_DEFAULT, H5P_DEFAULT);
  } else if (d == STRAY) {
    H5Lcreate_hard(file, "tensors", file, "more", H5P_DEFAULT, H5P_DEFAULT);
  }
  H5Gclose(tensors);
  cr_assert(H5Fclose(file) >= 0);
  H5Pclose(list);
  seal(path, 1);
}


Test(checkpoint, crafted_files_are_refused, .init = make_folder, .fini = remove_folder) {
  static const char *const words[DEFECTS] = {
      [SOFT_LINK] = "tensor y (a soft or external link)",
      [EXTERNAL_LINK] = "tensor y (a soft or external link)",
      [LOOP] = "tensor y/x (index)",
      [STRAY] = "an unknown link in the root",
      [EXTERNAL_STORAGE] = "tensor x (unknown storage)",
      [SHAPE_BOMB] = "tensor x (larger than the file)",
      [CHUNK_BOMB] = "tensor x (unknown shape)",
      [GZIP] = "tensor x (unknown storage)",
      [INT64] = "tensor x (unknown element type)",
      [RANK5] = "tensor x (unknown shape)",
      [INDEX] = "tensor x (index)",
      [NAME] = "tensor x (name)",
      [COUNT] = "count of tensors",
      [VARIABLE_TEXT] = "config",
  };
  const char *path = in_folder("crafted.h5");

  // the harmless one must pass, or the others prove nothing
  rgm_checkpoint *got;
  craft(path, NONE);
  cr_assert(rgm_checkpoint_read(path, &got) == RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_free(got);
  for (int d = NONE + 1; d < DEFECTS; d++) {
    craft(path, (defect)d);
    expect_refused(path, RGM_EDATA, words[d]);
  }
}


Test(checkpoint, other_schemas_load_or_are_refused_by_name, .init = make_folder,
     .fini = remove_folder) {
  fill_small();
  rgm_checkpoint newer = small, older = small;
  newer.schema = 7;
  write_ok(in_folder("newer.h5"), &newer);
  expect_refused(in_folder("newer.h5"), RGM_EDATA,
                 "written by a newer Regimen (schema 7, this program reads up to 2)");

  // the first one loads; before it there was none
  older.schema = 1;
  write_ok(in_folder("older.h5"), &older);
  expect_same(in_folder("older.h5"), &older);
  seal(in_folder("older.h5"), 0);
  expect_refused(in_folder("older.h5"), RGM_EDATA,
                 "written by an older Regimen (schema 0, this program reads from 1 on)");
}


// ---- the file system ---------------------------------------------------------------------------

// A write that must fail with RGM_EIO and these words. No temporary file may stay; `old` must.
static void expect_unwritable(const char *path, const char *words, const rgm_checkpoint *old) {
  char temporary[600];
  snprintf(temporary, sizeof temporary, "%s.tmp", path);
  rgm_status status = rgm_checkpoint_write(path, &small);
  cr_expect(status == RGM_EIO, "%s: status %d", path, status);
  cr_expect(strstr(rgm_last_error(), words) != NULL, "no '%s' in: %s", words, rgm_last_error());
  cr_expect(strstr(rgm_last_error(), "--out") != NULL, "no advice: %s", rgm_last_error());
  struct stat info;
  cr_expect(stat(temporary, &info) != 0 || S_ISDIR(info.st_mode), "%s stayed", temporary);
  if (old != NULL) {
    expect_same(path, old);
  }
}


Test(checkpoint, failed_writes_leave_the_old_file, .init = make_folder, .fini = remove_folder) {
  fill_small();
  rgm_checkpoint old = {.schema = 1, .step = 1};

  // no such folder; a file as folder; a folder in place of the file, and of the temporary one
  expect_unwritable(in_folder("none/a.h5"), "No such file", NULL);
  store(in_folder("file"), "", 0);
  expect_unwritable(in_folder("file/a.h5"), "Not a directory", NULL);
  cr_assert(mkdir(in_folder("dir.h5"), 0755) == 0);
  expect_unwritable(in_folder("dir.h5"), "Is a directory", NULL);
  write_ok(in_folder("b.h5"), &old);
  cr_assert(mkdir(in_folder("b.h5.tmp"), 0755) == 0);
  expect_unwritable(in_folder("b.h5"), "Is a directory", &old);

  // a limit on the file size acts like a disk that fills up in the middle
  write_ok(in_folder("c.h5"), &old);
  struct rlimit limit, full;
  getrlimit(RLIMIT_FSIZE, &limit);
  full = limit;
  full.rlim_cur = 4096;
  signal(SIGXFSZ, SIG_IGN);
  cr_assert(setrlimit(RLIMIT_FSIZE, &full) == 0);
  expect_unwritable(in_folder("c.h5"), "File too large", &old);
  setrlimit(RLIMIT_FSIZE, &limit);
  write_ok(in_folder("c.h5"), &small);

  // root writes where it likes
  if (geteuid() != 0) {
    write_ok(in_folder("d.h5"), &old);
    chmod(folder, 0555);
    expect_unwritable(in_folder("d.h5"), "Permission denied", &old);
  }
}


Test(checkpoint, stale_temporary_file_is_replaced, .init = make_folder, .fini = remove_folder) {
  fill_small();
  store(in_folder("a.h5.tmp"), "half a checkpoint", 17);
  write_ok(in_folder("a.h5"), &small);
  cr_expect(!exists(in_folder("a.h5.tmp")));
  expect_same(in_folder("a.h5"), &small);

  // a link is removed, not followed; the mode is that of the umask
  store(in_folder("victim"), "precious", 8);
  cr_assert(symlink(in_folder("victim"), in_folder("a.h5.tmp")) == 0);
  umask(027);
  write_ok(in_folder("a.h5"), &small);
  size_t size;
  free(load(in_folder("victim"), &size));
  cr_expect(size == 8);
  struct stat info;
  cr_assert(stat(in_folder("a.h5"), &info) == 0);
  cr_expect((info.st_mode & 0777) == 0640);
}


Test(checkpoint, newest_falls_back_and_says_so, .init = make_folder, .fini = remove_folder) {
  fill_small();
  char path[512], notes[4096] = "";
  rgm_checkpoint *got = &small;
  cr_expect(rgm_checkpoint_newest(in_folder("none"), NULL, path, sizeof path, &got) == RGM_EIO);
  cr_expect(rgm_checkpoint_newest(folder, NULL, path, sizeof path, &got) == RGM_OK);
  cr_expect(got == NULL && path[0] == '\0');

  // by number, not by name; look-alikes do not count
  static const char *const names[] = {"checkpoint-9.h5", "checkpoint-10.h5", "checkpoint-0100.h5"};
  static const char *const others[] = {"checkpoint-999.h5.tmp", "checkpoint-.h5",
                                       "checkpoint-1x.h5", "best-999.h5",
                                       "checkpoint-99999999999999999999.h5"};
  for (size_t i = 0; i < 3; i++) {
    rgm_checkpoint c = {.schema = 1, .step = i};
    write_ok(in_folder(names[i]), &c);
  }
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    store(in_folder(others[i]), "x", 1);
  }
  cr_assert(rgm_checkpoint_newest(folder, NULL, path, sizeof path, &got) == RGM_OK);
  cr_expect_str_eq(path, in_folder("checkpoint-0100.h5"));
  cr_expect(got->step == 2);
  rgm_checkpoint_free(got);

  // the newest damaged: the one before, and a line
  cr_assert(truncate(in_folder("checkpoint-0100.h5"), 1000) == 0);
  FILE *file = fmemopen(notes, sizeof notes, "w");
  cr_assert(rgm_checkpoint_newest(folder, file, path, sizeof path, &got) == RGM_OK);
  fclose(file);
  cr_expect_str_eq(path, in_folder("checkpoint-10.h5"));
  cr_expect(got->step == 1);
  rgm_checkpoint_free(got);
  const char *end = strchr(notes, '\n');
  cr_expect(end != NULL && end[1] == '\0' && strstr(notes, "checkpoint-0100.h5") != NULL, "%s",
            notes);

  // all damaged, one of them a folder; a path that does not fit
  cr_assert(truncate(in_folder("checkpoint-10.h5"), 0) == 0);
  cr_assert(unlink(in_folder("checkpoint-9.h5")) == 0);
  cr_assert(mkdir(in_folder("checkpoint-9.h5"), 0755) == 0);
  cr_expect(rgm_checkpoint_newest(folder, NULL, path, sizeof path, &got) == RGM_EDATA);
  cr_expect(got == NULL && path[0] == '\0');
  cr_expect(strstr(rgm_last_error(), "none of its 3 checkpoints") != NULL);
  cr_expect(rgm_checkpoint_newest(folder, NULL, path, 8, &got) == RGM_EIO);
}


// ---- other people's tools ----------------------------------------------------------------------

// The output of a command, or NULL where it is not installed (its shell then says 127).
static char *output(const char *command) {
  static char text[65536];
  FILE *pipe = popen(command, "r");
  cr_assert(pipe != NULL);
  text[fread(text, 1, sizeof text - 1, pipe)] = '\0';
  int status = pclose(pipe);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    return NULL;
  }
  cr_expect(status == 0, "%s: status %d: %s", command, status, text);
  return text;
}


Test(checkpoint, h5dump_shows_axes_and_units, .init = make_folder, .fini = remove_folder) {
  char command[1024];
  fill_small();
  write_ok(in_folder("dump.h5"), &small);
  snprintf(command, sizeof command, "h5dump -p -B '%s' 2>&1", in_folder("dump.h5"));
  const char *text = output(command);
  if (text == NULL) {
    cr_skip("h5dump is not installed");
  }
  static const char *const words[] = {
      "USERBLOCK_SIZE 512",   "SUPERBLOCK_VERSION 3", "GROUP \"policy\"", "H5T_IEEE_F32LE",
      "\"replica, in, out\"", "ATTRIBUTE \"unit\"",   "\"mg\"",           "CHECKSUM FLETCHER32",
      "12345678901234567",    "(0): \"run:",          "\"0.1.0\""};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    cr_expect(strstr(text, words[i]) != NULL, "h5dump does not show %s", words[i]);
  }
}


Test(checkpoint, h5py_reads_the_values, .init = make_folder, .fini = remove_folder) {
  static const char script[] =
      "import sys\n"
      "try:\n"
      "  import h5py\n"
      "except ImportError:\n"
      "  sys.exit(127)\n"
      "f = h5py.File(sys.argv[1], 'r')\n"
      "w = f['tensors/policy/0/weight']\n"
      "assert f.userblock_size == 512\n"
      "assert f.attrs['schema'] == 2\n"
      "assert f.attrs['step'] == 12345678901234567\n"
      "assert f['config'][()] == b'run:\\n  seed: 1\\n'\n"
      "assert w.shape == (2, 3, 16) and w.dtype == '<f4' and w.fletcher32\n"
      "assert w.attrs['axes'].decode() == 'replica, in, out'\n"
      "assert f['tensors/moments'].attrs['unit'].decode() == 'mg'\n"
      "assert f['tensors/counters'][:].tolist() == [[0, -1], "
      "[2147483647, -2147483648]]\n"
      "p = f['provenance'].attrs\n"
      "assert p['device'].decode() == 'cpu \\u00b5'\n"
      "assert p['empty'] == b''\n"
      "print(float(w[1, 2, 15]))\n";
  char command[1024], want[32];
  fill_small();
  write_ok(in_folder("py.h5"), &small);
  store(in_folder("read.py"), script, sizeof script - 1);
  snprintf(command, sizeof command, "/usr/bin/python3 '%s' '%s' 2>&1", in_folder("read.py"),
           in_folder("py.h5"));
  const char *text = output(command);
  if (text == NULL) {
    cr_skip("/usr/bin/python3 or its h5py is not installed");
  }
  snprintf(want, sizeof want, "%.9g", (double)weight[95]);
  cr_expect(strtod(text, NULL) == (double)weight[95], "%s for %s", text, want);
}
