// SPDX-License-Identifier: Apache-2.0
// 5,000 damaged configs: bytes and tokens of every file in configs/ and configs/sweeps/ changed at
// random (seeded), then loaded, read, planned (of sweeps: their points drawn) and emitted. None may
// crash, hang or be a bug by our own account; what is accepted must emit a text that is accepted
// and emits itself.

#include "engine/space.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(mutants, .timeout = 300);

enum { MUTANTS = 5000, BATCH = 250, FILES = 64, ROOM = 1 << 15, SECONDS = 20 };

static char folder[256];
static char *text[FILES]; // of configs/*.yaml, in the order of their names
static char name[FILES][128];
static int files;


// ---- random changes ----------------------------------------------------------------------------

static uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  uint64_t x = *state;
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  return x ^ x >> 33;
}


// puts `word` in the place of `length` bytes; what does not fit stays out
static size_t replace(char *data, size_t size, size_t at, size_t length, const char *word) {
  const size_t n = strlen(word);
  if (at + length > size || size - length + n >= ROOM) {
    return size;
  }
  memmove(data + at + n, data + at + length, size - at - length);
  memcpy(data + at, word, n);
  return size - length + n;
}


// the token at or after a random place: letters, digits and what numbers and paths are made of
static size_t find_token(const char *data, size_t size, uint64_t *state, size_t *length) {
  static const char set[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-/";
  size_t at = draw(state) % size;
  while (at > 0 && strchr(set, data[at - 1]) != NULL && data[at - 1] != '\0') {
    at--;
  }
  while (at < size && (data[at] == '\0' || strchr(set, data[at]) == NULL)) {
    at++;
  }
  *length = 0;
  while (at + *length < size && data[at + *length] != '\0' &&
         strchr(set, data[at + *length]) != NULL) {
    ++*length;
  }
  return at;
}


// one text many times: long names, lists and nests
static size_t repeat_word(char *data, size_t size, size_t at, size_t length, uint64_t *state) {
  static const char *const parts[] = {
      "x", "1, ", "1, ", "1, ", "[", "{a: ", "- ", "../", "a.", "\xc2\xb5", "\n"};
  const char *part = parts[draw(state) % (sizeof parts / sizeof *parts)];
  char word[2048] = "";
  const size_t times = (size_t)1 << draw(state) % 9, n = strlen(part);
  const bool list = strcmp(part, "1, ") == 0;
  size_t end =
      (size_t)snprintf(word, sizeof word, "%s", list && data[at - (at > 0)] != '[' ? "[1, " : "");
  for (size_t i = 0; i < times + times / 3 && end + n < sizeof word - 2; i++, end += n) {
    memcpy(word + end, part, n);
  }
  snprintf(word + end, sizeof word - end, "%s",
           list && data[at - (at > 0)] != '[' ? "1]"
           : list                             ? "1"
                                              : "");
  return replace(data, size, at, length, word);
}


static size_t change_token(char *data, size_t size, uint64_t *state) {
  static const char *const words[] = {
      "-1",    "0",      "1e309",     "-1e309",    "nan",         ".inf",   "99999999999999999999",
      "65536", "1e-320", "true",      "null",      "~",           "[]",     "{}",
      "[1, 2", "{a: b}", "&anchor",   "*anchor",   "!!int",       "<<",     "---",
      "...",   "\"\"",   "\"\\x00\"", "'",         "|",           ">",      "? ",
      "%YAML", "\t",     "\xc3\x28",  "\xef\xbb",  "extends",     "run",    "algorithm",
      "env",   "name",   "steps",     "replicas",  "4294967296",  "hidden", "propofol_cem.yaml",
      "sweep", "-",      "#",         "1000000",   "2147483648",  "0x7f",   "9223372036854775807",
      "cem",   "pid",    "replay",    "/dev/zero", "../../../..", "isa",    "data",
  };
  size_t length, other_length;
  const size_t at = find_token(data, size, state, &length);
  char word[256];
  if (draw(state) % 4 == 0) {
    return repeat_word(data, size, at, length, state);
  }
  if (draw(state) % 3 != 0) {
    snprintf(word, sizeof word, "%s", words[draw(state) % (sizeof words / sizeof *words)]);
  } else {
    const size_t other = find_token(data, size, state, &other_length);
    snprintf(word, sizeof word, "%.*s", (int)(other_length < 200 ? other_length : 200),
             data + other);
  }
  return replace(data, size, at, length, word);
}


static size_t change(char *data, size_t size, uint64_t *state) {
  const size_t at = draw(state) % size, from = draw(state) % size;
  const size_t most = size - (at > from ? at : from), length = 1 + draw(state) % most;
  switch (draw(state) % 8) {
  case 0:
    data[at] = (char)draw(state);
    return size;
  case 1:
    data[at] ^= (char)(1 << draw(state) % 8);
    return size;
  case 2: // a piece is lost
    return replace(data, size, at, length % 40, "");
  case 3: // a piece comes twice
    memmove(data + at, data + from, length);
    return size;
  case 4:
    return at + 1;
  default:
    return change_token(data, size, state);
  }
}


static size_t mutate(int k, char *data, int *file) {
  uint64_t state = 20261121u + (uint64_t)k * 7919u;
  *file = (int)(draw(&state) % (uint64_t)files);
  size_t size = strlen(text[*file]);
  memcpy(data, text[*file], size);
  for (int times = 1 + (int)(draw(&state) % 4); times > 0 && size > 1; times--) {
    size = change(data, size, &state);
  }
  return size;
}


// ---- what is done with one ---------------------------------------------------------------------

// the resolved text of a sweep, all of whose first points must be there
static rgm_status resolve_sweep(rgm_config *config, char **out) {
  rgm_space *space = NULL;
  rgm_status status = rgm_space_create(config, &space);
  for (int64_t i = 0; status == RGM_OK && i < space->points && i < 50; i++) {
    char *values[RGM_MAX_DIMENSIONS] = {NULL};
    status = rgm_space_point(space, i, values);
    for (int d = 0; d < RGM_MAX_DIMENSIONS; d++) {
      free(values[d]);
    }
  }
  *out = status == RGM_OK ? rgm_space_emit(space) : NULL;
  rgm_space_free(space);
  return status;
}


// the resolved text of a config, or NULL where it is refused; a bug by our own account ends it all
static char *resolve(const char *path, const char *again) {
  static const char *const sets[] = {"run.threads=1", "run.backend=cpu"};
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  rgm_status status = again == NULL ? rgm_config_load(path, sets, 2, &config)
                                    : rgm_config_parse(path, again, sets, 2, &config);
  char *out = NULL;
  if (status == RGM_OK && rgm_config_has_sweep(config)) {
    status = resolve_sweep(config, &out);
  } else if (status == RGM_OK) {
    status = rgm_run_plan_only(config, &run);
    out = status == RGM_OK ? rgm_config_emit(run->config, false) : NULL;
  }
  rgm_run_free(run);
  if (status == RGM_EINTERNAL || (status != RGM_OK && rgm_last_error()[0] == '\0')) {
    fprintf(stderr, "%s\n", rgm_last_error());
    abort();
  }
  return out;
}


static bool survives(int k, const char *path) {
  static char data[ROOM];
  int file;
  const size_t size = mutate(k, data, &file);
  FILE *out = fopen(path, "wb");
  if (out == NULL || fwrite(data, 1, size, out) != size || fclose(out) != 0) {
    return false;
  }
  char *once = resolve(path, NULL);
  char *twice = once != NULL ? resolve(path, once) : NULL;
  const bool good = once == NULL || (twice != NULL && strcmp(once, twice) == 0);
  const bool accepted = once != NULL;
  free(once);
  free(twice);
  if (!good) {
    fprintf(stderr, "its resolved config is refused or another: %s\n", rgm_last_error());
    abort();
  }
  return accepted;
}


static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}


// conditions, grids, nests: what no file in configs/ has
static const char nested[] = "extends: propofol_cem.yaml\n"
                             "sweep:\n"
                             "  metric: return_smoothed\n"
                             "  seeds: 3\n"
                             "  scheduler: pbt\n"
                             "  algorithm:\n"
                             "    evaluate: [last, ema]\n"
                             "    lr: {min: 0.001, max: 0.1, log: true, count: 4}\n"
                             "  algorithm.ema:\n"
                             "    values: [0.1, 0.2]\n"
                             "    when: {algorithm.evaluate: ema}\n"
                             "  env.noise_sd: {min: 0, max: 0.02, count: 3}\n";


// a config to change, also beside the changed ones, so that `extends` finds what it names
static void add_config(const char *as, const char *from, const char *given) {
  char path[600];
  cr_assert(files < FILES);
  snprintf(name[files], sizeof name[files], "%.120s", as);
  text[files] = calloc(1, ROOM);
  cr_assert_not_null(text[files]);
  if (given != NULL) {
    snprintf(text[files], ROOM, "%s", given);
  } else {
    FILE *in = fopen(from, "rb");
    cr_assert(in != NULL && fread(text[files], 1, ROOM / 2, in) > 0 && fclose(in) == 0, "%s", from);
  }
  // data are not read: a problem of megabytes for each mutant says nothing of configs
  for (char *at = text[files]; (at = strstr(at, "../shared/")) != NULL;) {
    memcpy(at, "../absent/", 10);
  }
  // all lie in one folder here
  char *up = strstr(text[files], "extends: ../");
  if (up != NULL) {
    memmove(up + strlen("extends: "), up + strlen("extends: ../"), strlen(up + 12) + 1);
  }
  // each point is read as a run: few of them will do
  char *trials = strstr(text[files], "trials: 256");
  if (trials != NULL) {
    memcpy(trials, "trials: 8  ", strlen("trials: 256"));
  }
  snprintf(path, sizeof path, "%s/%s", folder, name[files]);
  FILE *out = fopen(path, "wb");
  cr_assert(out != NULL && fputs(text[files], out) >= 0 && fclose(out) == 0, "%s", path);
  files++;
}


static void add_configs(const char *from, const char *prefix) {
  struct dirent **list = NULL;
  const int count = scandir(from, &list, NULL, by_name);
  cr_assert(count > 0, "%s: %s", from, strerror(errno));
  for (int i = 0; i < count; i++) {
    char path[600], as[320];
    const size_t length = strlen(list[i]->d_name);
    if (length > 5 && strcmp(list[i]->d_name + length - 5, ".yaml") == 0) {
      snprintf(path, sizeof path, "%s/%s", from, list[i]->d_name);
      snprintf(as, sizeof as, "%s%s", prefix, list[i]->d_name);
      add_config(as, path, NULL);
    }
    free(list[i]);
  }
  free(list);
}


static void load_configs(void) {
  const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  snprintf(folder, sizeof folder, "%s/rgm_mutants_XXXXXX", base);
  cr_assert(mkdtemp(folder) != NULL, "mkdtemp %s: %s", folder, strerror(errno));
  add_configs("configs", "");
  add_configs("configs/sweeps", "sweep_");
  add_config("nested.yaml", NULL, nested);
}


static void remove_configs(void) {
  char command[600];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  cr_assert_eq(system(command), 0);
}


Test(mutants, five_thousand_configs_and_no_crash, .init = load_configs, .fini = remove_configs) {
  // which one is at work, for when its process dies
  int *at = mmap(NULL, sizeof *at * 2, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  cr_assert(at != MAP_FAILED);
  char path[600], data[200];
  snprintf(path, sizeof path, "%s/mutant.yaml", folder);
  cr_assert(files >= 5);
  int crashes = 0;
  for (int first = 0; first < MUTANTS; first += BATCH) {
    at[0] = first;
    while (at[0] < first + BATCH) {
      const pid_t child = fork();
      if (child == 0) {
        for (; at[0] < first + BATCH; at[0]++) {
          alarm(SECONDS);
          at[1] += survives(at[0], path);
        }
        _exit(0);
      }
      int status = 0;
      cr_assert(child > 0 && waitpid(child, &status, 0) == child);
      if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        FILE *file = fopen(path, "rb");
        data[file != NULL ? fread(data, 1, sizeof data - 1, file) : 0] = '\0';
        cr_log_error("mutant %d: status %x; it begins\n%s", at[0], (unsigned)status, data);
        crashes++;
        at[0]++;
      }
    }
  }
  cr_log_info("%d mutants of %d configs: %d accepted, %d crashes", MUTANTS, files, at[1], crashes);
  cr_expect(at[1] > MUTANTS / 20 && at[1] < MUTANTS * 9 / 10, "%d accepted", at[1]);
  cr_assert_eq(crashes, 0);
}
