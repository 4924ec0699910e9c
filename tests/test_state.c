// SPDX-License-Identifier: Apache-2.0
// Private state files, the best checkpoint, the lock: what a run folder keeps. An algorithm of this
// program's own, the only one in its table, hoards numbers in a private buffer on which all that it
// computes depends.

// first: it asks for RTLD_NEXT
#include "tests/faulty_io.h"

#include "engine/keep.h"
#include "engine/regimen.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

TestSuite(state, .timeout = 120);


// ---- an algorithm with a private buffer --------------------------------------------------------

enum { BUFFER = 16, WEIGHTS = 4 };

typedef struct hoard_keys {
  double gain;
} hoard_keys;

static const rgm_field hoard_fields[] = {
    {"gain", RGM_FLOAT, 0, "1", "0.5", 0, 1, NULL, 0, "How fast weights follow the buffer."},
    {0},
};

typedef struct hoard {
  rgm_tensor weight; // (R, WEIGHTS)
  rgm_tensor buffer; // (R, BUFFER) private
  rgm_tensor count;  // (R) private
} hoard;

static uint64_t stop_at;   // a signal comes at this step's report
static uint64_t poison_at; // a weight becomes NaN at this step
static uint64_t blank_at;  // the metrics of this step are NaN
static volatile sig_atomic_t stop;


static rgm_status hoard_plan(rgm_run *run) {
  hoard *s = run->self;
  rgm_arena *arena = run->arena;
  const int64_t R = run->replicas;
  s->weight = rgm_plan(arena, "weight", RGM_F32, RGM_STATE | RGM_EXPORTED, "replica, parameter",
                       "1", R, WEIGHTS, 0, 0);
  s->buffer = rgm_plan(arena, "replay/row", RGM_F32, RGM_STATE | RGM_PRIVATE, "replica, row", "mg",
                       R, BUFFER, 0, 0);
  s->count = rgm_plan(arena, "replay/count", RGM_U32, RGM_STATE | RGM_PRIVATE, "replica", "rows", R,
                      0, 0, 0);
  return RGM_OK;
}


// one more row, which the seed, the step and the weights decide, then a look at all rows
static rgm_status hoard_step(rgm_run *run) {
  hoard *s = run->self;
  for (int64_t r = 0; r < run->replicas; r++) {
    const hoard_keys *keys = rgm_algorithm_keys(run, r);
    float *weight = (float *)s->weight.data + r * WEIGHTS, sum = 0.0f;
    float *row = (float *)s->buffer.data + r * BUFFER;
    uint32_t *count = (uint32_t *)s->count.data + r;
    const uint32_t seed = ((const uint32_t *)run->seeds.data)[2 * r];
    const uint32_t noise = (seed * 2654435761u) ^ (uint32_t)run->step * 40503u;
    row[(*count)++ % BUFFER] = (float)(noise % 1000u) * 0.001f + 0.1f * weight[0];
    for (int i = 0; i < BUFFER; i++) {
      sum += row[i];
    }
    for (int i = 0; i < WEIGHTS; i++) {
      weight[i] += (float)keys->gain * (sum / (float)(1 + i) - weight[i]);
    }
    weight[0] = run->step + 1 == poison_at ? NAN : weight[0];
  }
  return RGM_OK;
}


// up and down, so that the best is neither the first nor the last
static rgm_status hoard_report(rgm_run *run) {
  float score[8], cost[8];
  for (int64_t r = 0; r < run->replicas; r++) {
    score[r] = (float)(run->step * 5 % 7) + (float)r;
    cost[r] = -score[r];
  }
  stop = run->step == stop_at;
  score[0] = run->step == blank_at ? NAN : score[0];
  RGM_TRY(rgm_report(run, "score", "1", score));
  return rgm_report(run, "cost", "1", cost);
}


static const rgm_algorithm hoarder = {
    .name = "hoard",
    .paper = "none",
    .doc = "A private buffer and weights that follow it.",
    .fields = hoard_fields,
    .keys_size = sizeof(hoard_keys),
    .self_size = sizeof(hoard),
    .plan = hoard_plan,
    .step = hoard_step,
    .report = hoard_report,
    .best_metric = "score",
};

// in place of the library's table
const rgm_algorithm *const rgm_algorithms[] = {&hoarder, NULL};


// ---- runs --------------------------------------------------------------------------------------

static char folder[256];
static char notes[8192];


static const char *in_folder(const char *name) {
  static char path[4][512];
  static int turn;
  turn = (turn + 1) % 4;
  snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
  return path[turn];
}


static int shell(const char *format, const char *name) {
  char command[1024];
  snprintf(command, sizeof command, format, folder, name);
  return system(command);
}


static void make_folder(void) {
  const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  snprintf(folder, sizeof folder, "%s/rgm_state_XXXXXX", base);
  cr_assert(mkdtemp(folder) != NULL, "mkdtemp %s: %s", folder, strerror(errno));
  FILE *file = fopen(in_folder("a.yaml"), "w");
  cr_assert_not_null(file);
  fputs("run: {replicas: 2, steps: 9, report_every: 1, checkpoint_every: 2, keep: 2, threads: 1}\n"
        "algorithm: {name: hoard}\n",
        file);
  fclose(file);
}


static void remove_folder(void) {
  fault.on = false;
  cr_assert_eq(shell("rm -rf '%s'%s", ""), 0);
}


// trains in FOLDER/name, with --resume; `extra` is NULL or settings with a space between
static rgm_status train(const char *name, const char *extra) {
  char words[512];
  const char *sets[4];
  int count = 0;
  snprintf(words, sizeof words, "%s", extra != NULL ? extra : "");
  for (char *word = strtok(words, " "); word != NULL; word = strtok(NULL, " ")) {
    sets[count++] = word;
  }
  char config[512], out[512];
  snprintf(config, sizeof config, "%s/a.yaml", folder);
  snprintf(out, sizeof out, "%s/%s", folder, name);
  static char printed[1024];
  stop = 0;
  const rgm_options options = {.path = config,
                               .set = sets,
                               .set_count = count,
                               .out = out,
                               .resume = true,
                               .stop = &stop,
                               .result = fmemopen(printed, sizeof printed, "w"),
                               .progress = fmemopen(notes, sizeof notes, "w")};
  const rgm_status status = rgm_train(&options);
  fclose(options.result);
  fclose(options.progress);
  return status;
}


// stops at a step as a signal would
static void train_until(const char *name, uint64_t step) {
  stop_at = step;
  cr_assert_eq(train(name, NULL), RGM_ESTOPPED, "%s", rgm_last_error());
  stop_at = 0;
}


static rgm_status verify(const char *path, char *text, size_t size) {
  const rgm_options options = {.path = in_folder(path), .result = fmemopen(text, size, "w")};
  const rgm_status status = rgm_verify(&options);
  fclose(options.result);
  return status;
}


// how many files of the folder have names that start so
static int count_files(const char *name, const char *head) {
  int count = 0;
  DIR *handle = opendir(in_folder(name));
  const struct dirent *entry;
  while (handle != NULL && (entry = readdir(handle)) != NULL) {
    count += strncmp(entry->d_name, head, strlen(head)) == 0 || strcmp(head, "*.tmp") == 0
                 ? strcmp(head, "*.tmp") != 0 || strstr(entry->d_name, ".tmp") != NULL
                 : 0;
  }
  if (handle != NULL) {
    closedir(handle);
  }
  return count;
}


// all that a run comes to: digest of its newest checkpoint, bytes of the best one and of metrics
typedef struct outcome {
  char digest[65];
  size_t size[3];
  unsigned char data[3][1 << 16];
} outcome;


static void look(const char *name, outcome *to) {
  static const char *const files[] = {RGM_BEST_NAME, "metrics.jsonl", "metrics.csv"};
  char path[1024];
  rgm_checkpoint *c = NULL;
  memset(to, 0, sizeof *to);
  cr_assert_eq(rgm_checkpoint_newest(in_folder(name), NULL, path, sizeof path, &c), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(c->step, 9);
  snprintf(to->digest, sizeof to->digest, "%s", rgm_checkpoint_attribute(c, "digest"));
  rgm_checkpoint_free(c);
  for (int i = 0; i < 3; i++) {
    snprintf(path, sizeof path, "%s/%s/%s", folder, name, files[i]);
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    to->size[i] = fread(to->data[i], 1, sizeof to->data[i], file);
    cr_assert(to->size[i] > 0 && to->size[i] < sizeof to->data[i]);
    fclose(file);
  }
}


// the same end as of a run that was never stopped, and no private state left
static void expect_end(const char *name, const outcome *whole, const char *when) {
  static outcome got;
  look(name, &got);
  cr_assert_str_eq(got.digest, whole->digest, "%s", when);
  cr_assert(memcmp(got.size, whole->size, sizeof got.size) == 0, "%s: other sizes", when);
  for (int i = 0; i < 3; i++) {
    cr_assert(memcmp(got.data[i], whole->data[i], got.size[i]) == 0, "%s: other file %d", when, i);
  }
  cr_assert_eq(count_files(name, "state-"), 0, "%s", when);
  cr_assert_eq(count_files(name, "*.tmp"), 0, "%s", when);
}


// ---- what is where -----------------------------------------------------------------------------

Test(state, lies_beside_the_checkpoint_for_the_owner_alone, .init = make_folder,
     .fini = remove_folder) {
  struct stat info;
  char text[4096];
  rgm_checkpoint *c = NULL, *state = NULL;
  umask(0);
  train_until("run", 5);
  cr_assert_eq(count_files("run", "checkpoint-"), 3); // 4, 5, best
  cr_assert_eq(count_files("run", "state-"), 2);
  cr_assert_eq(stat(in_folder("run/state-5.h5"), &info), 0);
  cr_expect_eq(info.st_mode & 0777, 0600);
  cr_assert_eq(stat(in_folder("run/checkpoint-5.h5"), &info), 0);
  cr_expect_eq(info.st_mode & 0777, 0644);

  // each tensor in its file, and the digest of one in the other
  cr_assert_eq(rgm_checkpoint_read(in_folder("run/checkpoint-5.h5"), &c), RGM_OK);
  cr_assert_eq(rgm_checkpoint_read(in_folder("run/state-5.h5"), &state), RGM_OK);
  cr_expect(rgm_checkpoint_record(c, "weight") != NULL);
  cr_expect(rgm_checkpoint_record(c, "replay/row") == NULL);
  cr_expect(rgm_checkpoint_record(state, "weight") == NULL && state->record_count == 2);
  cr_expect(rgm_checkpoint_record(state, "replay/row") != NULL);
  cr_expect_str_eq(rgm_checkpoint_attribute(c, "state"), "file");
  cr_expect_str_eq(rgm_checkpoint_attribute(c, "state_digest"),
                   rgm_checkpoint_attribute(state, "digest"));
  cr_expect_str_eq(rgm_checkpoint_attribute(c, "contains_patient_rows"), "0");
  cr_expect_str_eq(rgm_checkpoint_attribute(state, "contains_patient_rows"), "1");
  rgm_checkpoint_free(c);
  rgm_checkpoint_free(state);
  cr_assert_eq(rgm_checkpoint_read(in_folder("run/" RGM_BEST_NAME), &c), RGM_OK);
  cr_expect_str_eq(rgm_checkpoint_attribute(c, "state"), "omitted");
  rgm_checkpoint_free(c);

  // verify looks at all of them; nobody takes a state for a checkpoint
  cr_expect_eq(verify("run", text, sizeof text), RGM_OK, "%s", rgm_last_error());
  cr_expect(strstr(text, "state-4.h5") != NULL && strstr(text, "best") != NULL, "%s", text);
  const rgm_options options = {.path = in_folder("run/state-5.h5"), .result = stdout};
  cr_expect_eq(rgm_info(&options), RGM_EUSAGE);
  cr_expect(strstr(rgm_last_error(), "private state of a run") != NULL, "%s", rgm_last_error());
}


Test(state, resumed_run_is_as_one_never_stopped, .init = make_folder, .fini = remove_folder) {
  static outcome whole;
  char text[64];
  cr_assert_eq(train("whole", NULL), RGM_OK, "%s", rgm_last_error());
  look("whole", &whole);
  for (uint64_t first = 1; first < 8; first++) {
    snprintf(text, sizeof text, "run%d", (int)first);
    train_until(text, first);
    train_until(text, first + 1);
    cr_assert_eq(train(text, NULL), RGM_OK, "%s", rgm_last_error());
    expect_end(text, &whole, text);
  }
  // 5 n mod 7 is largest at n = 4
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_checkpoint_read(in_folder("run3/" RGM_BEST_NAME), &c), RGM_OK);
  cr_expect(c->step == 4 && strcmp(rgm_checkpoint_attribute(c, "best_value"), "6.5") == 0, "%d %s",
            (int)c->step, rgm_checkpoint_attribute(c, "best_value"));
  rgm_checkpoint_free(c);
}


// ---- pairs that are incomplete -----------------------------------------------------------------

Test(state, incomplete_pairs_are_passed_over_by_name, .init = make_folder, .fini = remove_folder) {
  static const struct {
    const char *damage; // to a run stopped at step 5 that has checkpoints 4 and 5
    const char *words;  // among the notes, or the error where no pair is left
    bool goes_on;
    const char *verdict; // of verify
  } rows[] = {
      {"true", "resumed at step 5", true, NULL},
      {"rm state-5.h5", "checkpoint-5.h5: its private state is missing", true, "1 of 4"},
      {"truncate -s 900 state-5.h5", "missing or damaged", true, "2 of 5"},
      {"printf x | dd of=state-5.h5 bs=1 seek=3000 conv=notrunc status=none", "SHA-256", true,
       "2 of 5"},
      {"cp ../other/state-5.h5 .", "is not its private state", true, "1 of 5"},
      {"cp state-4.h5 state-5.h5", "is not its private state", true, "1 of 5"},
      {"cp checkpoint-5.h5 state-5.h5", "is not its private state", true, ""},
      {"cp state-5.h5 checkpoint-6.h5", "under the name of a checkpoint", true, NULL},
      {"rm checkpoint-5.h5", "resumed at step 4", true, NULL},
      {"cp state-5.h5 state-77.h5.tmp", "resumed at step 5", true, NULL},
      {"rm checkpoint-best.h5", "is lost and sought anew", true, NULL},
      {"rm state-*.h5", "none of its 3 checkpoints can be resumed", false, "2 of 3"},
      {"rm checkpoint-[45].h5", "starts from step 0", true, NULL},
  };
  static outcome whole;
  char command[256], text[4096];
  cr_assert_eq(train("whole", NULL), RGM_OK, "%s", rgm_last_error());
  look("whole", &whole);
  train_until("stopped", 5);
  stop_at = 5;
  cr_assert_eq(train("other", "run.seed=7"), RGM_ESTOPPED);
  stop_at = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cr_assert_eq(shell("cd %s && rm -rf run && cp -rp stopped run%s", ""), 0);
    snprintf(command, sizeof command, "cd %%s/run && %s%%s", rows[i].damage);
    cr_assert_eq(shell(command, ""), 0);
    const rgm_status checked = verify("run", text, sizeof text);
    cr_expect_eq(checked == RGM_OK, rows[i].verdict == NULL, "row %zu: %s", i, text);
    cr_expect(rows[i].verdict == NULL || strstr(rgm_last_error(), rows[i].verdict) != NULL,
              "row %zu: %s", i, rgm_last_error());
    const rgm_status status = train("run", NULL);
    cr_expect(rows[i].goes_on ? status == RGM_OK : status == RGM_EDATA, "row %zu: %s", i,
              rgm_last_error());
    cr_expect(strstr(status == RGM_OK ? notes : rgm_last_error(), rows[i].words) != NULL,
              "row %zu: %s%s", i, notes, rgm_last_error());
    if (rows[i].goes_on && strstr(rows[i].words, "lost") == NULL) {
      expect_end("run", &whole, rows[i].damage);
    }
  }
}


Test(state, is_gone_when_the_run_is_done, .init = make_folder, .fini = remove_folder) {
  static outcome whole;
  char text[4096];
  cr_assert_eq(train("run", NULL), RGM_OK, "%s", rgm_last_error());
  look("run", &whole);
  cr_expect_eq(verify("run", text, sizeof text), RGM_OK, "%s", rgm_last_error());

  // once more is no error and changes nothing; more steps are refused, with the way out
  cr_expect_eq(train("run", NULL), RGM_OK, "%s", rgm_last_error());
  expect_end("run", &whole, "again");
  cr_expect_eq(train("run", "run.steps=12"), RGM_EDATA);
  cr_expect(strstr(rgm_last_error(), "run.init_from") != NULL, "%s", rgm_last_error());
  snprintf(text, sizeof text, "run.init_from=%s/run", folder);
  cr_expect_eq(train("tuned", text), RGM_OK, "%s", rgm_last_error());

  // a copy that a run which died just before its end left behind goes too
  cr_assert_eq(shell("cd %s && cp run/checkpoint-9.h5 run/state-3.h5%s", ""), 0);
  cr_expect_eq(train("run", NULL), RGM_OK, "%s", rgm_last_error());
  expect_end("run", &whole, "cleaned");
}


// ---- every call fails, and the process dies at every call --------------------------------------

static bool at_call(const char *name, int n, int code) {
  fault.left = n;
  fault.code = code;
  fault.which = NULL;
  if (code != KILL) {
    fault.on = true;
    const rgm_status status = train(name, NULL);
    fault.on = false;
    cr_assert(status == RGM_OK || status == RGM_EIO, "%s, call %d: %s", fault.which, n,
              rgm_last_error());
    cr_assert(fault.which == NULL || !is_retried() || status == RGM_OK, "%s was not retried",
              fault.which);
    return fault.which == NULL;
  }
  const pid_t child = fork();
  if (child == 0) {
    fault.on = true;
    (void)train(name, NULL);
    _exit(0);
  }
  int status = 0;
  cr_assert_eq(waitpid(child, &status, 0), child);
  cr_assert(WIFEXITED(status) || WTERMSIG(status) == SIGKILL, "call %d: status %x", n, status);
  return WIFEXITED(status);
}


// under the sanitizers a run takes ten times as long: every third call will do
#if RGM_DEBUG
enum { EVERY = 3 };
#else
enum { EVERY = 1 };
#endif


// every call of a run of two pairs or, `resumed`, of one that goes on to its end
static int all_calls(int code, bool resumed, const outcome *whole) {
  char text[4096], when[64];
  int n = 1, pairs = 0;
  for (bool over = false; !over; n += EVERY) {
    cr_assert_eq(shell("cd %s && rm -rf run && if [ -n '%s' ]; then cp -rp stopped run; fi",
                       resumed ? "yes" : ""),
                 0);
    over = at_call("run", n, code);
    snprintf(when, sizeof when, "call %d, code %d", n, code);
    pairs += count_files("run", "state-") + count_files("run", RGM_BEST_NAME) >
             count_files("run", "checkpoint-");
    const rgm_status status = verify("run", text, sizeof text);
    cr_assert(status == RGM_OK || strstr(rgm_last_error(), "no checkpoint") != NULL ||
                  (status == RGM_EIO && n < 5),
              "%s: %s", when, rgm_last_error());
    cr_assert_eq(train("run", NULL), RGM_OK, "%s: %s", when, rgm_last_error());
    expect_end("run", whole, when);
  }
  cr_log_info("code %d%s: %d calls, %d with more states than checkpoints", code,
              resumed ? ", resumed" : "", n - 1 - EVERY, pairs);
  return n - 1 - EVERY;
}


Test(state, survives_a_fault_at_every_call, .init = make_folder, .fini = remove_folder) {
  static const int codes[] = {ENOSPC, EIO, EINTR, SHORT};
  static outcome whole;
  cr_assert_eq(train("whole", NULL), RGM_OK, "%s", rgm_last_error());
  look("whole", &whole);
  train_until("stopped", 5);
  for (size_t k = 0; k < sizeof codes / sizeof *codes; k++) {
    const int calls = all_calls(codes[k], true, &whole);
    cr_assert(calls > (codes[k] == SHORT ? 4 : 80), "%d calls", calls);
  }
}


Test(state, survives_a_kill_at_every_call, .init = make_folder, .fini = remove_folder) {
  static outcome whole;
  cr_assert_eq(train("whole", NULL), RGM_OK, "%s", rgm_last_error());
  look("whole", &whole);
  train_until("stopped", 5);
  cr_assert(all_calls(KILL, false, &whole) > 150);
  cr_assert(all_calls(KILL, true, &whole) > 80);
}


// ---- a power cut -------------------------------------------------------------------------------

static char synced[4096]; // metrics.jsonl as a power cut would leave it
static int checkpoints_seen;


static void on_sync(int fd) {
  char link[64], path[512];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = '\0';
  if (strstr(path, "metrics.jsonl") != NULL) {
    const ssize_t n = pread(fd, synced, sizeof synced - 1, 0);
    synced[n > 0 ? n : 0] = '\0';
  }
}


// the rows up to a checkpoint's step are safe before the checkpoint is there
static void on_rename(const char *to) {
  uint64_t step = 0;
  char row[64];
  const char *at = strstr(to, "/checkpoint-");
  if (at == NULL || strstr(to, "best") != NULL) {
    return;
  }
  step = strtoull(at + strlen("/checkpoint-"), NULL, 10);
  snprintf(row, sizeof row, "{\"step\": %llu, \"replica\": 1", (unsigned long long)step);
  cr_assert(strstr(synced, row) != NULL, "checkpoint %llu is ahead of its metrics: %s",
            (unsigned long long)step, synced);
  checkpoints_seen++;
}


Test(state, metrics_are_on_disk_before_the_checkpoint, .init = make_folder, .fini = remove_folder) {
  fault.synced = on_sync;
  fault.renamed = on_rename;
  train_until("run", 5);
  cr_assert_eq(train("run", NULL), RGM_OK, "%s", rgm_last_error());
  cr_expect_eq(checkpoints_seen, 6); // 2, 4, 5, 6, 8, 9
}


// ---- the best ----------------------------------------------------------------------------------

Test(state, best_follows_its_keys, .init = make_folder, .fini = remove_folder) {
  // means over the two replicas: score 5.5 3.5 1.5 6.5 4.5 2.5 0.5 5.5 3.5, cost = -score
  static const struct {
    const char *sets;
    int step;         // of the best; 0: there is no such file
    const char *text; // of the error, or NULL
  } rows[] = {
      {"run.keep_best=auto", 4, NULL},
      {"run.keep_best=none", 0, NULL},
      {"run.keep_best=score run.best_mode=max run.keep=1", 4, NULL},
      {"run.keep_best=score run.best_mode=min", 7, NULL},
      {"run.keep_best=auto run.best_mode=min", 7, NULL},
      {"run.keep_best=cost", 7, NULL},
      {"run.keep_best=cost run.best_mode=min run.keep=1", 4, NULL},
      {"run.keep_best=score run.report_every=3", 9, NULL},
      {"run.keep_best=scoer", 0, "did you mean score?"},
      {"run.best_mode=most", 0, "run.best_mode"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rgm_checkpoint *c = NULL;
    cr_assert_eq(shell("rm -rf %s/run%s", ""), 0);
    const rgm_status status = train("run", rows[i].sets);
    cr_expect_eq(status, rows[i].text == NULL ? RGM_OK : RGM_ECONFIG, "%s", rows[i].sets);
    cr_expect(rows[i].text == NULL || strstr(rgm_last_error(), rows[i].text) != NULL, "%s",
              rgm_last_error());
    const rgm_status got = rgm_checkpoint_read(in_folder("run/" RGM_BEST_NAME), &c);
    cr_expect_eq(got == RGM_OK, rows[i].step > 0, "%s", rows[i].sets);
    cr_expect(c == NULL || c->step == (uint64_t)rows[i].step, "%s: %d", rows[i].sets,
              c != NULL ? (int)c->step : 0);
    rgm_checkpoint_free(c);
  }
}


// the step of FOLDER/run's best
static int best_step(void) {
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_checkpoint_read(in_folder("run/" RGM_BEST_NAME), &c), RGM_OK, "%s",
               rgm_last_error());
  const int step = (int)c->step;
  rgm_checkpoint_free(c);
  return step;
}


Test(state, best_outlives_a_run_that_diverges, .init = make_folder, .fini = remove_folder) {
  // no checkpoint was due yet; what is not finite never counts, and of equals the first stays
  poison_at = 6;
  cr_expect_eq(train("run", "run.checkpoint_every=100"), RGM_ENUMERIC);
  cr_expect(strstr(rgm_last_error(), "weight of replica 0") != NULL, "%s", rgm_last_error());
  cr_expect_eq(best_step(), 4);
  poison_at = 0;
  for (blank_at = 1; blank_at <= 4; blank_at += 3) {
    cr_assert_eq(shell("rm -rf %s/run%s", ""), 0);
    cr_expect_eq(train("run", NULL), RGM_OK, "%s", rgm_last_error());
    cr_expect_eq(best_step(), blank_at == 1 ? 4 : 1);
  }
}


Test(state, best_is_sought_anew_under_another_rule, .init = make_folder, .fini = remove_folder) {
  train_until("run", 5);
  cr_assert_eq(train("run", "run.best_mode=min"), RGM_OK, "%s", rgm_last_error());
  cr_expect_eq(best_step(), 7);
}


// ---- one process at a time ---------------------------------------------------------------------

Test(state, second_process_is_told_who_is_first, .init = make_folder, .fini = remove_folder) {
  int ready[2];
  char byte = 0, text[64];
  cr_assert_eq(mkdir(in_folder("run"), 0755), 0);
  cr_assert_eq(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    rgm_keep first = {.lock = -1};
    byte = rgm_keep_lock(&first, in_folder("run")) == RGM_OK ? 'y' : 'n';
    if (write(ready[1], &byte, 1) == 1) {
      pause();
    }
    _exit(1);
  }
  cr_assert(read(ready[0], &byte, 1) == 1 && byte == 'y');
  cr_expect_eq(train("run", NULL), RGM_EIO);
  snprintf(text, sizeof text, "another process (pid %d on ", (int)child);
  cr_expect(strstr(rgm_last_error(), text) != NULL, "%s", rgm_last_error());
  cr_expect(access(in_folder("run/log.txt"), F_OK) != 0 &&
                access(in_folder("run/metrics.csv"), F_OK) != 0,
            "the second one wrote into the folder");

  // nothing stale stays behind a kill
  kill(child, SIGKILL);
  cr_assert_eq(waitpid(child, NULL, 0), child);
  cr_expect_eq(train("run", NULL), RGM_OK, "%s", rgm_last_error());
}
