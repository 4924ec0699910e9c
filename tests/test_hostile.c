// SPDX-License-Identifier: Apache-2.0
// Files that mean harm or came to harm: crafted HDF5 (links out of the file, shape bombs, virtual
// data sets, ...), each refused with its own message in little memory, and mutants of good files,
// none of which may crash or hang the program.

#include "engine/checkpoint_private.h"
#include "engine/dataset.h"
#include "tests/dataset_files.h"

#include <errno.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

TestSuite(hostile, .timeout = 600, .init = make_folder, .fini = remove_folder);

#if defined(__SANITIZE_ADDRESS__)
enum { SANITIZED = 1 };

// HDF5 asks malloc for what a mutant says, and takes no for an answer, as it gets it without ASan
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
  return "allocator_may_return_null=1";
}
#else
enum { SANITIZED = 0 };
#endif


// ---- crafted files -----------------------------------------------------------------------------

// a file without observations, which a case makes in its own way
static hid_t base(void) {
  return create_d4rl(in_folder("x.h5"), "observations");
}

// observations of a shape, never written
static void make(hid_t file, hid_t type, int rank, const hsize_t *dims, hid_t list) {
  hid_t space = rank >= 0 ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_NULL);
  hid_t id = H5Dcreate2(file, "observations", type, space, H5P_DEFAULT, list, H5P_DEFAULT);
  cr_assert(id >= 0);
  H5Dclose(id);
  H5Sclose(space);
}

static const hsize_t shape[9] = {30, 3, 1, 1, 1, 1, 1, 1, 1};

static void external_link(hid_t f) {
  H5Fclose(create_d4rl(in_folder("other.h5"), ""));
  H5Lcreate_external(in_folder("other.h5"), "observations", f, "observations", H5P_DEFAULT,
                     H5P_DEFAULT);
}

static void soft_link(hid_t f) {
  H5Lcreate_soft("/actions", f, "observations", H5P_DEFAULT, H5P_DEFAULT);
}

static void external_storage(hid_t f) {
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_external(list, "/etc/passwd", 0, 360);
  make(f, H5T_IEEE_F32LE, 2, shape, list);
}

static void virtual_set(hid_t f) {
  H5Fclose(create_d4rl(in_folder("other.h5"), ""));
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  hid_t space = H5Screate_simple(2, shape, NULL);
  H5Pset_virtual(list, space, in_folder("other.h5"), "/observations", space);
  make(f, H5T_IEEE_F32LE, 2, shape, list);
}

static void unknown_filter(hid_t f) {
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(list, 2, shape);
  H5Pset_filter(list, 32000, H5Z_FLAG_OPTIONAL, 0, NULL);
  make(f, H5T_IEEE_F32LE, 2, shape, list);
}

static void deflate_twice(hid_t f) {
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(list, 2, shape);
  H5Pset_deflate(list, 9);
  H5Pset_deflate(list, 9);
  make(f, H5T_IEEE_F32LE, 2, shape, list);
}

static void many_filters(hid_t f) {
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(list, 2, shape);
  for (int i = 0; i < 6; i++) {
    H5Pset_shuffle(list);
  }
  make(f, H5T_IEEE_F32LE, 2, shape, list);
}

static void shape_bomb(hid_t f) {
  const hsize_t dims[] = {(hsize_t)1 << 40, 64};
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_alloc_time(list, H5D_ALLOC_TIME_LATE);
  make(f, H5T_IEEE_F32LE, 2, dims, list);
}

static void chunked_shape_bomb(hid_t f) {
  const hsize_t dims[] = {(hsize_t)1 << 30, 64}, chunk[] = {1024, 64};
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(list, 2, chunk);
  H5Pset_deflate(list, 1);
  make(f, H5T_IEEE_F32LE, 2, dims, list);
}

static void row_bomb(hid_t f) {
  const hsize_t dims[] = {(hsize_t)1 << 45, 3}, chunk[] = {1024, 3};
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(list, 2, chunk);
  make(f, H5T_IEEE_F32LE, 2, dims, list);
}

static void chunk_bomb(hid_t f) {
  const hsize_t dims[] = {1 << 28, 3}, chunk[] = {1 << 28, 3};
  hid_t list = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_chunk(list, 2, chunk);
  make(f, H5T_IEEE_F32LE, 2, dims, list);
}

static void images(hid_t f) {
  const hsize_t dims[] = {30, 84, 84, 3};
  make(f, H5T_STD_U8LE, 4, dims, H5P_DEFAULT);
}

static void many_dims(hid_t f) {
  make(f, H5T_IEEE_F32LE, 9, shape, H5P_DEFAULT);
}

static void no_shape(hid_t f) {
  make(f, H5T_IEEE_F32LE, -1, shape, H5P_DEFAULT);
}

static void text(hid_t f) {
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, 8);
  make(f, type, 1, shape, H5P_DEFAULT);
}

static void varying(hid_t f) {
  make(f, H5Tvlen_create(H5T_IEEE_F32LE), 1, shape, H5P_DEFAULT);
}

static void compound(hid_t f) {
  hid_t type = H5Tcreate(H5T_COMPOUND, 16);
  H5Tinsert(type, "a", 0, H5T_IEEE_F64LE);
  H5Tinsert(type, "b", 8, H5T_IEEE_F64LE);
  make(f, type, 1, shape, H5P_DEFAULT);
}

static void references(hid_t f) {
  make(f, H5T_STD_REF_OBJ, 1, shape, H5P_DEFAULT);
}

static void opaque(hid_t f) {
  make(f, H5Tcreate(H5T_OPAQUE, 1 << 20), 1, shape, H5P_DEFAULT);
}

static void element_arrays(hid_t f) {
  const hsize_t dims[] = {1 << 20};
  make(f, H5Tarray_create2(H5T_IEEE_F64LE, 1, dims), 1, shape, H5P_DEFAULT);
}

static void odd_float(hid_t f) {
  hid_t type = H5Tcopy(H5T_IEEE_F32LE);
  H5Tset_fields(type, 31, 23, 8, 0, 23);
  H5Tset_size(type, 5);
  make(f, type, 2, shape, H5P_DEFAULT);
}

static void odd_integer(hid_t f) {
  hid_t type = H5Tcopy(H5T_STD_I64LE);
  H5Tset_size(type, 1024);
  make(f, type, 2, shape, H5P_DEFAULT);
}

static void wide_enum(hid_t f) {
  const int value = 1;
  hid_t type = H5Tenum_create(H5T_NATIVE_INT);
  H5Tenum_insert(type, "a", &value);
  make(f, type, 2, shape, H5P_DEFAULT);
}

static void group(hid_t f) {
  H5Gclose(H5Gcreate2(f, "observations", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}

static void named_type(hid_t f) {
  H5Tcommit2(f, "observations", H5Tcopy(H5T_IEEE_F32LE), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
}

static void many_attributes(hid_t f) {
  put_values(f, "observations", H5T_IEEE_F32LE, 0, 30, 3);
  for (int i = 0; i < 500; i++) {
    char name[32];
    snprintf(name, sizeof name, "a%d", i);
    hid_t space = H5Screate(H5S_SCALAR);
    H5Aclose(H5Acreate2(f, name, H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
  }
}

static void large_attribute(hid_t f) {
  // beyond 64 KiB attributes need the newer format
  H5Fclose(f);
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  f = H5Fcreate(in_folder("x.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  put_values(f, "observations", H5T_IEEE_F32LE, 0, 30, 3);
  put_values(f, "actions", H5T_IEEE_F32LE, 0, 30, 2);
  put_values(f, "rewards", H5T_IEEE_F32LE, 0, 30, 0);
  put_flags(f, "terminals", 30, 10, -1);
  const hsize_t dims[] = {1 << 20};
  hid_t space = H5Screate_simple(1, dims, NULL);
  hid_t set = H5Dopen2(f, "observations", H5P_DEFAULT);
  H5Aclose(H5Acreate2(set, "a", H5T_STD_I32LE, space, H5P_DEFAULT, H5P_DEFAULT));
  H5Dclose(set);
  H5Fclose(f);
}

static void few_rows(hid_t f) {
  put_values(f, "observations", H5T_IEEE_F32LE, 0, 29, 3);
}

static void wide_next(hid_t f) {
  put_values(f, "observations", H5T_IEEE_F32LE, 0, 30, 3);
  put_values(f, "next_observations", H5T_IEEE_F32LE, 0, 30, 4);
}

static void nothing(hid_t f) {
  (void)f;
}

static void cut(hid_t f) {
  put_values(f, "observations", H5T_IEEE_F32LE, 0, 30, 3);
  H5Fclose(f);
  cr_assert_eq(truncate(in_folder("x.h5"), 3000), 0);
}

static void bytes(const char *text_, size_t size) {
  FILE *file = fopen(in_folder("x.h5"), "wb");
  cr_assert(file != NULL && fwrite(text_, 1, size, file) == size);
  fclose(file);
}

static void empty(hid_t f) {
  H5Fclose(f);
  bytes("", 0);
}

static void no_hdf5(hid_t f) {
  H5Fclose(f);
  bytes("a,b\n1,2\n", 8);
}

static void pipe_of_a_name(hid_t f) {
  H5Fclose(f);
  unlink(in_folder("x.h5"));
  cr_assert_eq(mkfifo(in_folder("x.h5"), 0600), 0);
}

static void minari_gap(hid_t f) {
  H5Fclose(f);
  f = create_minari(in_folder("x.h5"));
  H5Lmove(f, "episode_1", f, "episode_7", H5P_DEFAULT, H5P_DEFAULT);
  H5Fclose(f);
}

static void minari_width(hid_t f) {
  H5Fclose(f);
  f = create_minari(in_folder("x.h5"));
  H5Ldelete(f, "episode_2/observations", H5P_DEFAULT);
  put_values(f, "episode_2/observations", H5T_IEEE_F64LE, 0, 7, 3);
  H5Fclose(f);
}

static void minari_link(hid_t f) {
  H5Fclose(f);
  f = create_minari(in_folder("x.h5"));
  H5Ldelete(f, "episode_2", H5P_DEFAULT);
  H5Lcreate_external("/etc/passwd", "/", f, "episode_2", H5P_DEFAULT, H5P_DEFAULT);
  H5Fclose(f);
}

static void d3rlpy_lie(hid_t f) {
  H5Fclose(f);
  H5Fclose(create_d3rlpy(in_folder("x.h5"), 1000000));
}

// Our own file changed through HDF5, and sealed again: its digest is right.
static void own(hid_t f, void (*change)(hid_t file)) {
  H5Fclose(f);
  unlink(in_folder("x.h5"));
  rgm_dataset *d = small_table(100);
  cr_assert_eq(rgm_dataset_write(in_folder("y.h5"), d), RGM_OK);
  rgm_dataset_free(d);
  f = H5Fopen(in_folder("y.h5"), H5F_ACC_RDWR, H5P_DEFAULT);
  cr_assert(f >= 0);
  change(f);
  H5Fclose(f);
  cr_assert_eq(
      rgm_durable_seal(in_folder("y.h5"), in_folder("x.h5"), RGM_DATASET_MARK | RGM_DATASET_SCHEMA),
      RGM_OK);
}

static void link_table(hid_t f) {
  H5Ldelete(f, "table/aptt", H5P_DEFAULT);
  H5Lcreate_external("/etc/passwd", "/", f, "table/aptt", H5P_DEFAULT, H5P_DEFAULT);
}

static void change_value(hid_t f) {
  static const double values[100];
  hid_t set = H5Dopen2(f, "table/reward", H5P_DEFAULT);
  H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
  H5Dclose(set);
}

static void no_role_attribute(hid_t f) {
  H5Adelete_by_name(f, "table/aptt", "role", H5P_DEFAULT);
}

static void no_kind(hid_t f) {
  H5Adelete(f, "kind");
}

static void lose_note(hid_t f) {
  H5Ldelete(f, "provenance/licence", H5P_DEFAULT);
  put_values(f, "provenance/licence", H5T_IEEE_F64LE, 0, 3, 0);
}

static void own_link(hid_t f) {
  own(f, link_table);
}

static void own_value(hid_t f) {
  own(f, change_value);
}

static void own_role(hid_t f) {
  own(f, no_role_attribute);
}

static void own_kind(hid_t f) {
  own(f, no_kind);
}

static void own_note(hid_t f) {
  own(f, lose_note);
}

static void own_damaged(hid_t f) {
  own(f, nothing);
  FILE *file = fopen(in_folder("x.h5"), "r+b");
  cr_assert(file != NULL);
  fseek(file, 5000, SEEK_SET);
  const int c = fgetc(file);
  fseek(file, 5000, SEEK_SET);
  fputc(c ^ 4, file);
  fclose(file);
}

static void own_prefix(hid_t f) {
  own(f, nothing);
  FILE *file = fopen(in_folder("x.h5"), "r+b");
  cr_assert(file != NULL);
  fputc('r', file);
  fclose(file);
}

static void newer(hid_t f) {
  own(f, nothing);
  rename(in_folder("x.h5"), in_folder("z.h5"));
  cr_assert_eq(rgm_durable_seal(in_folder("z.h5"), in_folder("x.h5"),
                                RGM_DATASET_MARK | (RGM_DATASET_SCHEMA + 1)),
               RGM_OK);
}

static void checkpoint(hid_t f) {
  H5Fclose(f);
  rgm_checkpoint c = {.schema = RGM_CHECKPOINT_SCHEMA};
  cr_assert_eq(rgm_checkpoint_write(in_folder("x.h5"), &c), RGM_OK);
}


static const struct hostile {
  const char *name, *message;
  void (*craft)(hid_t file);
  bool closes; // the file itself
} hostile[] = {
    {"external link", "observations: an external link, which leads to another file", external_link,
     false},
    {"soft link", "observations: a soft link", soft_link, false},
    {"external storage", "external storage: its values lie in another file", external_storage,
     false},
    {"virtual data set", "a virtual data set, whose values lie in other files", virtual_set, false},
    {"unknown filter", "an unknown filter", unknown_filter, false},
    {"deflate twice", "deflate twice over", deflate_twice, false},
    {"many filters", "more filters than make sense", many_filters, false},
    {"shape bomb", "a shape bomb: its shape needs more bytes", shape_bomb, false},
    {"chunked shape bomb", "observations: a shape bomb: its shape needs", chunked_shape_bomb,
     false},
    {"row bomb", "a shape bomb: it claims more than 2^44 rows", row_bomb, false},
    {"chunk bomb", "a chunk bomb: one chunk is larger than 64 MiB", chunk_bomb, false},
    {"images", "images and the like are not read", images, false},
    {"many dims", "has too many dimensions", many_dims, false},
    {"no shape", "has no shape at all", no_shape, false},
    {"text", "text where numbers are expected", text, false},
    {"varying length", "rows of varying length", varying, false},
    {"compound", "a compound of several values", compound, false},
    {"references", "references where numbers", references, false},
    {"opaque", "opaque values", opaque, false},
    {"arrays as elements", "arrays as elements", element_arrays, false},
    {"odd float", "floating-point numbers of an odd size", odd_float, false},
    {"odd integer", "integers of an odd size", odd_integer, false},
    {"wide enumeration", "an enumeration where numbers", wide_enum, false},
    {"group", "is a group, not an array", group, false},
    {"named type", "is not an array", named_type, false},
    {"many attributes", "absurd number of attributes", many_attributes, false},
    {"large attribute", "an attribute of absurd size", large_attribute, true},
    {"few rows", "observations has 29 rows where rewards asks for 30", few_rows, false},
    {"wide next", "has another width than observations", wide_next, false},
    {"nothing known", "no data set that is known", nothing, false},
    {"cut off", "HDF5 cannot open it: it is damaged or cut off", cut, true},
    {"empty", "the file is empty", empty, true},
    {"no HDF5", "not HDF5, so no data set", no_hdf5, true},
    {"pipe", "not a regular file", pipe_of_a_name, true},
    {"Minari with a gap", "episode_1/rewards: is not there", minari_gap, true},
    {"Minari of two widths", "episode_2/observations: has another width", minari_width, true},
    {"Minari with a link", "episode_2: an external link", minari_link, true},
    {"d3rlpy that lies", "num_episodes: is not the number", d3rlpy_lie, true},
    {"ours with a link", "table: cannot be listed, or holds links", own_link, true},
    {"ours with other values", "do not have the digest that it tells", own_value, true},
    {"ours without a role", "table/aptt: is no column of ours", own_role, true},
    {"ours without a kind", "kind, schema, rows or digest", own_kind, true},
    {"ours with a wrong note", "provenance/licence: is no text of ours", own_note, true},
    {"ours, damaged", "the file is damaged (its SHA-256 does not match)", own_damaged, true},
    {"ours with a damaged prefix", "a data set of ours whose prefix is damaged", own_prefix, true},
    {"ours of a newer schema", "a data set of another Regimen (schema 2", newer, true},
    {"a checkpoint", "a checkpoint, not a data set", checkpoint, true},
};

enum { HOSTILE = sizeof hostile / sizeof *hostile, MEMORY_MIB = 200 };


Test(hostile, each_is_refused_with_its_own_message_in_little_memory) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  for (int i = 0; i < HOSTILE; i++) {
    const struct hostile *h = &hostile[i];
    hid_t file = base();
    if (strcmp(h->name, "nothing known") == 0) {
      H5Ldelete(file, "actions", H5P_DEFAULT);
    }
    h->craft(file);
    if (!h->closes) {
      H5Fclose(file);
    }
    H5close(); // identifiers that cases left open

    // in a process of its own, so that its memory is known
    int *seen = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *message = (char *)(seen + 1);
    const pid_t child = fork();
    if (child == 0) {
      rgm_dataset *d;
      alarm(30);
      *seen = rgm_dataset_read(in_folder("x.h5"), &d);
      snprintf(message, 4000, "%s", *seen != RGM_OK ? rgm_last_error() : "");
      _exit(0);
    }
    int status = 0;
    struct rusage used;
    cr_assert(child > 0 && wait4(child, &status, 0, &used) == child);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status %x", h->name,
              (unsigned)status);
    cr_expect(*seen == RGM_EDATA || *seen == RGM_EIO, "%s: %d", h->name, *seen);
    cr_expect(strstr(message, h->message) != NULL, "%s: %s", h->name, message);
    cr_expect(SANITIZED || used.ru_maxrss < MEMORY_MIB * 1024, "%s: %ld KiB", h->name,
              used.ru_maxrss);
    munmap(seen, 4096);
    unlink(in_folder("x.h5"));
  }

  // no child of theirs took more either
  struct rusage used;
  cr_assert_eq(getrusage(RUSAGE_CHILDREN, &used), 0);
  cr_log_info("%d hostile files, at most %ld KiB", HOSTILE, used.ru_maxrss);
  cr_expect(SANITIZED || used.ru_maxrss < MEMORY_MIB * 1024);
}


Test(hostile, there_are_forty_and_no_two_messages_are_alike) {
  cr_expect_geq(HOSTILE, 40);
  for (int i = 0; i < HOSTILE; i++) {
    for (int k = 0; k < i; k++) {
      cr_expect_neq(strcmp(hostile[i].message, hostile[k].message), 0, "%s", hostile[i].name);
    }
  }
}


// ---- mutants -----------------------------------------------------------------------------------

static uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  uint64_t x = *state;
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  return x ^ x >> 33;
}


static size_t load(const char *path, unsigned char **data) {
  FILE *file = fopen(path, "rb");
  cr_assert(file != NULL);
  *data = malloc(1 << 20);
  const size_t size = fread(*data, 1, 1 << 20, file);
  fclose(file);
  return size;
}


// bits, bytes, runs, numbers of HDF5's sizes, pieces copied, or the end cut off
static size_t mutate(unsigned char *data, size_t size, uint64_t *state) {
  static const uint64_t numbers[] = {0,          1,          0xff,       0xffff,
                                     0x7fffffff, 0xffffffff, UINT64_MAX, 1 << 20};
  const int changes = 1 + (int)(draw(state) % 4);
  for (int i = 0; i < changes; i++) {
    // most of what HDF5 reads lies in its first kilobytes
    const size_t reach = draw(state) % 2 == 0 && size > 4096 ? 4096 : size;
    const size_t at = draw(state) % reach, n = 1 + draw(state) % 8;
    const uint64_t number = numbers[draw(state) % 8];
    switch (draw(state) % 6) {
    case 0:
      data[at] ^= (unsigned char)(1u << draw(state) % 8);
      break;
    case 1:
      data[at] = (unsigned char)draw(state);
      break;
    case 2:
      for (size_t k = 0; k < n && at + k < size; k++) {
        data[at + k] = (unsigned char)draw(state);
      }
      break;
    case 3:
      memcpy(data + at, &number, at + n <= size ? n : size - at);
      break;
    case 4:
      memmove(data + at, data + draw(state) % (size - 64), at + 64 <= size ? 64 : size - at);
      break;
    default:
      return draw(state) % 8 == 0 ? 1 + draw(state) % size : size;
    }
  }
  return size;
}


// What came of a mutant: 0 accepted, 1 refused, 2 the reader died and the program lives, 3 took
// longer than 5 s.
static int survives(const unsigned char *data, size_t size, const char *path) {
  FILE *file = fopen(path, "wb");
  struct timespec begin, end;
  rgm_dataset *d = NULL;
  if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
    return 3;
  }
  clock_gettime(CLOCK_MONOTONIC, &begin);
  const rgm_status status = rgm_dataset_read(path, &d);
  rgm_finding *found = NULL;
  int n;
  if (status == RGM_OK && rgm_dataset_check(d, &found, &n) != RGM_OK) {
    return 3;
  }
  free(found);
  rgm_dataset_free(d);
  clock_gettime(CLOCK_MONOTONIC, &end);
  if ((double)(end.tv_sec - begin.tv_sec) > 5) {
    return 3;
  }
  const bool died =
      status != RGM_OK && strstr(rgm_last_error(), "the process that read it") != NULL;
  return status == RGM_OK ? 0 : died ? 2 : 1;
}


static void run_mutants(int first, int last, int *count) {
  static const char *const names[] = {"a.h5", "b.h5", "c.h5", "d.h5"};
  unsigned char *seeds[4];
  size_t sizes[4];
  H5Fclose(create_d4rl(in_folder("a.h5"), ""));
  H5Fclose(create_minari(in_folder("b.h5")));
  H5Fclose(create_d3rlpy(in_folder("c.h5"), 3));
  rgm_dataset *d = small_table(100);
  cr_assert_eq(rgm_dataset_write(in_folder("d.h5"), d), RGM_OK);
  rgm_dataset_free(d);
  unsigned char *data = malloc(1 << 20);
  for (int k = 0; k < 4; k++) {
    sizes[k] = load(in_folder(names[k]), &seeds[k]);
  }
  for (int i = first; i < last; i++) {
    uint64_t state = (uint64_t)i * 0x9E3779B97F4A7C15u + 1;
    const int k = i % 4;
    memcpy(data, seeds[k], sizes[k]);
    size_t size = mutate(data, sizes[k], &state);
    const bool same = size == sizes[k] && memcmp(data, seeds[k], size) == 0;
    const int what = survives(data, size, in_folder("mutant.h5"));
    count[what]++;
    count[4] += what == 0 && k == 3 && !same;
    if (what >= 2) {
      cr_log_info("mutant %d of %s: %s", i, names[k], rgm_last_error());
    }
  }
  for (int k = 0; k < 4; k++) {
    free(seeds[k]);
  }
  free(data);
}


// RGM_MUTANTS: how many (tools/show data-mutants: 10,000)
Test(hostile, mutants_do_not_crash_or_hang) {
  const char *wanted = getenv("RGM_MUTANTS");
  const int n = wanted != NULL ? atoi(wanted) : SANITIZED ? 1200 : 4000;
  int count[5] = {0};
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  run_mutants(0, n, count);
  cr_log_info("%d mutants: %d accepted, %d refused, %d readers died, %d hung; %d of ours accepted",
              n, count[0], count[1], count[2], count[3], count[4]);
  cr_expect_eq(count[3], 0);
  cr_expect_eq(count[4], 0, "a changed file of ours was accepted");
  cr_expect_gt(count[1], n / 4);
  cr_expect_lt(count[2], n / 20);
}
