// SPDX-License-Identifier: Apache-2.0
// Faults from outside: the n-th call to the file system fails, for every n; a checkpoint with any
// change is refused.

// first: it asks for RTLD_NEXT
#include "tests/faulty_io.h"

#include "engine/engine.h"
#include "engine/regimen.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

TestSuite(faults, .timeout = 120);


// ---- a folder for each test --------------------------------------------------------------------

static char folder[256];


static void make_folder(void) {
  // in memory where that can be, since these tests fsync thousands of times
  const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  snprintf(folder, sizeof folder, "%s/rgm_faults_XXXXXX", base);
  cr_assert(mkdtemp(folder) != NULL, "mkdtemp %s: %s", folder, strerror(errno));
}


// removes the files of a folder and the folder; there are none inside it
static void remove_flat(const char *path) {
  char file[1024];
  DIR *handle = opendir(path);
  const struct dirent *entry;
  while (handle != NULL && (entry = readdir(handle)) != NULL) {
    snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
    unlink(file);
  }
  if (handle != NULL) {
    closedir(handle);
  }
  rmdir(path);
}


// after a failure too, which leaves folders inside it
static void remove_folder(void) {
  char path[512];
  fault.on = false;
  snprintf(path, sizeof path, "%s/run", folder);
  remove_flat(path);
  snprintf(path, sizeof path, "%s/start", folder);
  remove_flat(path);
  remove_flat(folder);
}


static bool any_temporary(const char *path) {
  bool found = false;
  DIR *handle = opendir(path);
  const struct dirent *entry;
  while (handle != NULL && (entry = readdir(handle)) != NULL) {
    found = found || strstr(entry->d_name, ".tmp") != NULL;
  }
  if (handle != NULL) {
    closedir(handle);
  }
  return found;
}


// ---- a checkpoint ------------------------------------------------------------------------------

static float weight[48];
static rgm_record records[] = {
    {"policy/0/weight", "replica, in, out", "1", RGM_F32, 3, {2, 3, 8}, weight}};
static rgm_attribute attributes[] = {{"version", "0.1.0"}, {"device", "cpu"}};


static rgm_checkpoint make(uint64_t step) {
  for (size_t i = 0; i < sizeof weight / sizeof *weight; i++) {
    weight[i] = (float)(i + step) / 7.0f;
  }
  return (rgm_checkpoint){.schema = RGM_CHECKPOINT_SCHEMA,
                          .step = step,
                          .config = (char *)"run:\n  seed: 1\n",
                          .attributes = attributes,
                          .attribute_count = 2,
                          .records = records,
                          .record_count = 1};
}


// the step of a file that must be whole: its weights are those of its step
static uint64_t step_of(const char *path) {
  rgm_checkpoint *got = NULL;
  cr_assert_eq(rgm_checkpoint_read(path, &got), RGM_OK, "%s", rgm_last_error());
  const uint64_t step = got->step;
  const float *values = got->records[0].data;
  for (size_t i = 0; i < sizeof weight / sizeof *weight; i++) {
    cr_assert(values[i] == (float)(i + step) / 7.0f, "steps are mixed");
  }
  rgm_checkpoint_free(got);
  return step;
}


static const int codes[] = {ENOSPC, EIO, EDQUOT, EINTR, SHORT};
enum { CODES = sizeof codes / sizeof *codes };


Test(faults, every_call_of_a_checkpoint_write, .init = make_folder, .fini = remove_folder) {
  char path[512];
  int cases = 0;
  snprintf(path, sizeof path, "%s/checkpoint-1.h5", folder);
  for (int k = 0; k < CODES; k++) {
    for (int n = 1;; n++) {
      const rgm_checkpoint old = make(1);
      cr_assert_eq(rgm_checkpoint_write(path, &old), RGM_OK, "%s", rgm_last_error());
      const rgm_checkpoint new = make(2);
      fault.left = n;
      fault.code = codes[k];
      fault.which = NULL;
      fault.on = true;
      const rgm_status status = rgm_checkpoint_write(path, &new);
      fault.on = false;
      cr_assert(status == RGM_OK || status == RGM_EIO, "status %d", (int)status);
      const uint64_t step = step_of(path);
      cr_assert_eq(any_temporary(folder), false);
      if (fault.which == NULL) {
        cr_assert(status == RGM_OK && step == 2 && n > (codes[k] == SHORT ? 1 : 8), "%d calls",
                  n - 1);
        break;
      }

      // all or nothing; only the folder's fsync fails after the rename
      cases++;
      cr_assert(status == RGM_OK ? step == 2 : step == 1 || strcmp(fault.which, "fsync") == 0,
                "%s, call %d, %s", fault.which, n, strerror(codes[k]));
      cr_assert(!is_retried() || status == RGM_OK, "%s was not retried", fault.which);
      cr_assert(status == RGM_OK || (strstr(rgm_last_error(), folder) != NULL &&
                                     strstr(rgm_last_error(), strerror(codes[k])) != NULL),
                "%s", rgm_last_error());
    }
  }
  cr_log_info("%d failing calls", cases);
  cr_assert(cases > 40, "%d", cases);
}


// ---- a training run ----------------------------------------------------------------------------

static FILE *nowhere;
static char printed[1024]; // the result of the last training


static rgm_status train(const char *out, const char *steps) {
  const char *const sets[] = {"run.replicas=1",
                              "run.threads=1",
                              "env.steps=12",
                              "algorithm.hidden=4",
                              "run.report_every=1",
                              "run.checkpoint_every=1",
                              "algorithm.smooth=1",
                              "algorithm.episodes=2",
                              "run.keep=2",
                              "run.isa=auto",
                              steps};
  const rgm_options options = {.path = "configs/propofol_cem.yaml",
                               .set = sets,
                               .set_count = sizeof sets / sizeof *sets,
                               .out = out,
                               .resume = true,
                               .result = fmemopen(printed, sizeof printed, "w")};
  const rgm_status status = rgm_train(&options);
  fclose(options.result);
  return status;
}


// what a run comes to: the digests of its newest and best checkpoints and its metrics
typedef struct outcome {
  char digest[65], best[65], jsonl[4096], csv[4096];
} outcome;


static void slurp(const char *run, const char *name, char text[4096]) {
  char path[1024];
  snprintf(path, sizeof path, "%s/%s", run, name);
  FILE *file = fopen(path, "r");
  cr_assert_not_null(file, "%s", path);
  text[fread(text, 1, 4095, file)] = '\0';
  fclose(file);
}


static void look(const char *run, outcome *to) {
  char path[1024];
  rgm_checkpoint *c = NULL;
  memset(to, 0, sizeof *to);
  cr_assert_eq(rgm_checkpoint_newest(run, NULL, path, sizeof path, &c), RGM_OK);
  snprintf(to->digest, sizeof to->digest, "%s", rgm_checkpoint_attribute(c, "digest"));
  rgm_checkpoint_free(c);
  snprintf(path, sizeof path, "%s/" RGM_BEST_NAME, run);
  cr_assert_eq(rgm_checkpoint_read(path, &c), RGM_OK, "%s", rgm_last_error());
  snprintf(to->best, sizeof to->best, "%s", rgm_checkpoint_attribute(c, "digest"));
  rgm_checkpoint_free(c);
  slurp(run, "metrics.jsonl", to->jsonl);
  slurp(run, "metrics.csv", to->csv);
}


// every checkpoint that is there is good
static void check_run(const char *run, bool any) {
  const rgm_options options = {.path = run, .result = nowhere};
  const rgm_status status = rgm_verify(&options);
  cr_assert(status == RGM_OK || (!any && strstr(rgm_last_error(), "no checkpoint") != NULL) ||
                (!any && status == RGM_EIO),
            "%s", rgm_last_error());
}


// a message names a path: of the run or of its config
static bool names_path(const char *text) {
  return strstr(text, folder) != NULL || strstr(text, "configs/propofol_cem.yaml") != NULL;
}


// a copy of a folder, without its log
static void copy_flat(const char *from, const char *to) {
  static const char *const names[] = {"config.yaml",     "metrics.jsonl",   "metrics.csv",
                                      "checkpoint-1.h5", "checkpoint-2.h5", RGM_BEST_NAME};
  static char data[1 << 16];
  char path[1024];
  cr_assert_eq(mkdir(to, 0777), 0);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    snprintf(path, sizeof path, "%s/%s", from, names[i]);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    const size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    snprintf(path, sizeof path, "%s/%s", to, names[i]);
    file = fopen(path, "wb");
    cr_assert(file != NULL && fwrite(data, 1, size, file) == size, "%s", path);
    fclose(file);
  }
}


// One run of one step whose n-th call fails, from nothing or from the folder `start`, then one that
// goes on; true once there is no n-th call.
static bool try_call(const char *start, int n, int code, const outcome *whole) {
  const bool resumed = start != NULL;
  const char *steps = resumed ? "run.steps=3" : "run.steps=1";
  char run[512];
  outcome got;
  snprintf(run, sizeof run, "%s/run", folder);
  remove_flat(run);
  if (resumed) {
    copy_flat(start, run);
  }
  fault.left = n;
  fault.code = code;
  fault.which = NULL;
  fault.on = true;
  const rgm_status status = train(run, steps);
  fault.on = false;
  cr_assert(status == RGM_OK || status == RGM_EIO, "%s: %s", fault.which, rgm_last_error());
  cr_assert(status == RGM_OK || names_path(rgm_last_error()), "%s: %s", fault.which,
            rgm_last_error());
  cr_assert(status == RGM_OK || strstr(rgm_last_error(), strerror(code)) != NULL, "%s: %s",
            fault.which, rgm_last_error());
  if (status != RGM_OK) {
    check_run(run, resumed);
  }
  cr_assert_eq(any_temporary(run), false);
  cr_assert(fault.which == NULL || !is_retried() || status == RGM_OK, "%s was not retried: %s",
            fault.which, rgm_last_error());

  // what was left behind goes on to the same end
  if (status != RGM_OK) {
    cr_assert_eq(train(run, steps), RGM_OK, "%s", rgm_last_error());
  }
  char digest[32];
  snprintf(digest, sizeof digest, "digest %.16s", whole->digest);
  cr_assert(strstr(printed, digest) != NULL, "call %d, %s: printed %s", n, fault.which, printed);
  look(run, &got);
  cr_assert(memcmp(&got, whole, sizeof got) == 0, "call %d, %s with %s: another end", n,
            fault.which, strerror(code));
  return fault.which == NULL;
}


Test(faults, every_call_of_a_training_run, .init = make_folder, .fini = remove_folder) {
  char run[512], start[512];
  outcome one, three;
  int cases = 0;
  nowhere = fopen("/dev/null", "w");
  snprintf(run, sizeof run, "%s/run", folder);
  snprintf(start, sizeof start, "%s/start", folder);
  cr_assert_eq(train(run, "run.steps=1"), RGM_OK, "%s", rgm_last_error());
  look(run, &one);
  cr_assert_eq(train(start, "run.steps=2"), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(train(run, "run.steps=3"), RGM_OK, "%s", rgm_last_error());
  look(run, &three);
  for (int k = 0; k < CODES; k++) {
    for (int resumed = 0; resumed < 2; resumed++) {
      int n = 1;
      while (!try_call(resumed ? start : NULL, n, codes[k], resumed ? &three : &one)) {
        cases++;
        n++;
      }
      cr_assert(n > (codes[k] == SHORT ? 1 : 25), "%d calls", n - 1);
    }
  }
  fclose(nowhere);
  cr_log_info("%d failing calls", cases);
  cr_assert(cases > 200, "%d", cases);
}


// ---- a file with one change --------------------------------------------------------------------

static uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  uint64_t x = *state;
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  return x ^ x >> 33;
}


// One random change: bytes set, a block zeroed or moved, an end cut off or added. Returns the size.
static size_t mutate(unsigned char *data, size_t size, size_t room, uint64_t *state) {
  const size_t at = draw(state) % size, from = draw(state) % size, left = size - at;
  const size_t most = size - (at > from ? at : from), length = 1 + draw(state) % most;
  switch (draw(state) % 6) {
  case 0:
    for (size_t i = 0; i < 1 + length % 8; i++) {
      data[draw(state) % size] = (unsigned char)draw(state);
    }
    return size;
  case 1:
    memset(data + at, draw(state) % 2 != 0 ? 0 : 255, 1 + draw(state) % left);
    return size;
  case 2:
    memmove(data + at, data + from, length);
    return size;
  case 3:
    return at;
  case 4:
    memset(data + size, (int)(draw(state) % 256), room - size);
    return size + 1 + draw(state) % (room - size);
  default:
    data[at] = (unsigned char)(data[at] + 1);
    return size;
  }
}


// writes the bytes over what is in the file and reads it as a checkpoint
static bool is_accepted(const char *path, const unsigned char *data, size_t size) {
  rgm_checkpoint *got = NULL;
  FILE *file = fopen(path, "wb");
  cr_assert(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
  const rgm_status status = rgm_checkpoint_read(path, &got);
  cr_assert(status == RGM_OK || (status == RGM_EDATA && got == NULL), "status %d: %s", (int)status,
            rgm_last_error());
  rgm_checkpoint_free(got);
  return status == RGM_OK;
}


Test(faults, no_changed_checkpoint_is_accepted, .init = make_folder, .fini = remove_folder) {
  enum { ROOM = 1 << 15, TIMES = 10000 };
  static unsigned char good[ROOM], data[2 * ROOM];
  char path[512];
  snprintf(path, sizeof path, "%s/a.h5", folder);
  const rgm_checkpoint checkpoint = make(1);
  cr_assert_eq(rgm_checkpoint_write(path, &checkpoint), RGM_OK, "%s", rgm_last_error());
  FILE *file = fopen(path, "rb");
  const size_t size = fread(good, 1, sizeof good, file);
  fclose(file);
  cr_assert(size > 1000 && size < ROOM && is_accepted(path, good, size));

  // single bits all over the file
  int flips = 0, mutants = 0;
  uint64_t state = 20260101;
  memcpy(data, good, size);
  for (size_t i = 0; i < TIMES; i++) {
    const size_t bit = i * (8 * size) / TIMES;
    data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    flips += is_accepted(path, data, size);
    data[bit / 8] = good[bit / 8];
  }

  // and larger changes, but for those that change nothing
  int tried = 0;
  while (tried < TIMES) {
    memcpy(data, good, size);
    const size_t now = mutate(data, size, sizeof data, &state);
    if (now != size || memcmp(data, good, size) != 0) {
      tried++;
      mutants += is_accepted(path, data, now);
    }
  }
  cr_log_info("%d flips and %d mutants of %zu bytes: %d and %d accepted", TIMES, tried, size, flips,
              mutants);
  cr_assert(flips == 0 && mutants == 0);
}
