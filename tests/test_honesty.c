// SPDX-License-Identifier: Apache-2.0
// Tests of honesty as a command: the same bytes however many data sets are worked on at a time and
// wherever it was stopped; what is read back is what was written; what is refused.

#include "algorithms/honesty.h"
#include "engine/regimen.h"
#include "tests/dataset_files.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

TestSuite(honesty, .timeout = 180, .init = make_folder, .fini = remove_folder);

enum { PATIENTS = 20, SEEDS = 2, CELLS = 2 };


// ---- configs, as small as they come ------------------------------------------------------------

static void put_text(const char *name, const char *text) {
  FILE *file = fopen(in_folder(name), "w");
  cr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0, "%s", name);
}


static const char *write_configs(const char *hidden) {
  char text[2048];
  put_text("simulate.yaml",
           "run: {name: s}\nenv: {name: heparin}\nalgorithm: {name: pid}\n"
           "simulate: {controller: clinician, bins: 3, validation: 0.1, test: 0.4}\n");
  snprintf(text, sizeof text,
           "run: {name: bc, steps: 1}\ndata: {path: none.h5}\n"
           "algorithm: {name: bc, hidden: [%s], updates: 40}\n",
           hidden);
  put_text("bc.yaml", text);
  put_text("values.yaml",
           "run: {name: values, steps: 1}\ndata: {path: none.h5}\nenv: {name: heparin, steps: 71}\n"
           "algorithm: {name: values, clone: bc, hidden: [8], batch: 16, updates: 5, "
           "resamples: 9}\n");
  snprintf(text, sizeof text,
           "run: {name: h, threads: 1}\nenv: {name: heparin}\n"
           "algorithm: {name: honesty, simulate: %s, clone: %s, values: %s, noise: [0.2, 0.6], "
           "patients: [%d], seeds: %d}\neval: {patients: 8, optimum: 8}\n",
           in_folder("simulate.yaml"), in_folder("bc.yaml"), in_folder("values.yaml"), PATIENTS,
           SEEDS);
  put_text("honesty.yaml", text);
  return in_folder("honesty.yaml");
}


// the command's answer; NULL where it failed
static char *answer(const char *out, bool resume, const char *set) {
  char *text = NULL;
  size_t size = 0;
  FILE *result = open_memstream(&text, &size);
  const char *const sets[] = {set};
  const rgm_options options = {.path = in_folder("honesty.yaml"),
                               .out = in_folder(out),
                               .set = sets,
                               .set_count = set != NULL,
                               .resume = resume,
                               .json = true,
                               .result = result};
  const rgm_status status = rgm_evaluate(&options);
  fclose(result);
  if (status != RGM_OK) {
    free(text);
    return NULL;
  }
  return text;
}


static char *csv_of(const char *out) {
  char name[64];
  snprintf(name, sizeof name, "%s/honesty.csv", out);
  FILE *file = fopen(in_folder(name), "r");
  char *text = calloc(1, 1 << 16);
  cr_assert(file != NULL && text != NULL && fread(text, 1, (1 << 16) - 1, file) > 0, "%s", name);
  fclose(file);
  return text;
}


// how many data sets are done in a folder
static int sets_in(const char *out) {
  char command[512];
  int count = 0;
  snprintf(command, sizeof command, "ls '%s/sets' 2>/dev/null | grep -c 'csv$'", in_folder(out));
  FILE *pipe = popen(command, "r");
  cr_assert(pipe != NULL && fscanf(pipe, "%d", &count) == 1);
  pclose(pipe);
  return count;
}


static void expect_same(const char *out, char *said, char *other, const char *what) {
  char *a = csv_of("whole"), *b = csv_of(out);
  cr_expect_str_eq(said, other, "%s: JSON", what);
  cr_expect_str_eq(a, b, "%s: CSV", what);
  free(a);
  free(b);
}


// ---- stops -------------------------------------------------------------------------------------

// a process that is killed without warning as soon as it has done a data set
static void run_and_kill(const char *out) {
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) {
    free(answer(out, false, "run.threads=2"));
    _exit(0);
  }
  while (sets_in(out) == 0 && waitpid(child, NULL, WNOHANG) == 0) {
    usleep(1000);
  }
  kill(child, SIGKILL);
  while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
  }
}


Test(honesty, is_the_same_however_it_was_stopped) {
  write_configs("8");
  char *whole = answer("whole", false, NULL);
  cr_assert(whole != NULL, "%s", rgm_last_error());
  cr_expect_eq(sets_in("whole"), CELLS * SEEDS);

  run_and_kill("killed");
  const int left = sets_in("killed");
  cr_assert(left >= 1 && left < CELLS * SEEDS, "%d data sets before it was killed", left);
  char *resumed = answer("killed", true, "run.threads=2");
  cr_assert(resumed != NULL, "%s", rgm_last_error());
  expect_same("killed", whole, resumed, "killed, then resumed by two processes");

  // one that was cut short, and what its worker left, are made again; nothing else is
  cr_assert_eq(truncate(in_folder("whole/sets/noise-0.6-kappa-0-patients-20-seed-2.csv"), 300), 0);
  cr_assert_eq(mkdir(in_folder("whole/work-7"), 0700), 0);
  char *again = answer("whole", true, NULL);
  cr_assert(again != NULL, "%s", rgm_last_error());
  expect_same("whole", whole, again, "a file cut short");
  cr_expect_neq(access(in_folder("whole/work-7"), F_OK), 0);

  // fewer seeds of what is there: no work, and the first of them
  char *fewer = answer("whole", true, "algorithm.seeds=1");
  cr_expect(fewer != NULL && strstr(fewer, "\"seeds\": 1") != NULL, "%s", rgm_last_error());
  free(whole);
  free(resumed);
  free(again);
  free(fewer);
}


Test(honesty, refuses_what_it_must_not_mix) {
  write_configs("8");
  free(answer("out", false, "algorithm.seeds=1"));
  cr_expect_null(answer("out", false, "algorithm.seeds=1"));
  cr_expect(strstr(rgm_last_error(), "--resume") != NULL, "%s", rgm_last_error());

  // other test patients, and another clone by the same path
  cr_expect_null(answer("out", true, "eval.patients=9"));
  cr_expect(strstr(rgm_last_error(), "made by other configs") != NULL, "%s", rgm_last_error());
  write_configs("9");
  cr_expect_null(answer("out", true, NULL));
  cr_expect(strstr(rgm_last_error(), "made by other configs") != NULL, "%s", rgm_last_error());

  // doses without noise are too equal for many bins, however often they are drawn again
  put_text("simulate.yaml",
           "run: {name: s}\nenv: {name: heparin}\nalgorithm: {name: pid}\n"
           "simulate: {controller: clinician, bins: 60, validation: 0.1, test: 0.4}\n");
  cr_expect_null(answer("equal", false, "algorithm.noise=[0]"));
  cr_expect(strstr(rgm_last_error(), "equal doses merge") != NULL, "%s", rgm_last_error());

  // a worker's error is the command's
  put_text("bc.yaml", "run: {name: bc, steps: 1}\nalgorithm: {name: bc, hiden: [8]}\n");
  cr_expect_null(answer("bad", false, NULL));
  cr_expect(strstr(rgm_last_error(), "bc.yaml") != NULL, "%s", rgm_last_error());
}
