// SPDX-License-Identifier: Apache-2.0
// The program from outside: exit codes, messages, run folders, signals, repeating and resuming.

#include "engine/engine.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(cli, .timeout = 120);

static char folder[64];
static char output[1 << 16]; // stdout and stderr of the last call

#define SMALL \
  " configs/propofol_cem.yaml --set run.steps=5 --set run.replicas=2 --set env.steps=201 "


// runs `regimen ARGUMENTS` by the shell and returns its exit code
static int regimen(const char *arguments) {
  char command[2048];
  snprintf(command, sizeof command, "%s %s 2>&1", RGM_PROGRAM, arguments);
  FILE *pipe = popen(command, "r");
  cr_assert_not_null(pipe);
  const size_t size = fread(output, 1, sizeof output - 1, pipe);
  output[size] = '\0';
  const int status = pclose(pipe);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}


static int regimen_in(const char *before, const char *name, const char *after) {
  char arguments[1024];
  snprintf(arguments, sizeof arguments, "%s%s/%s %s", before, folder, name, after);
  return regimen(arguments);
}


// the value of "digest" in the JSON that was printed
static void digest(char hex[65]) {
  const char *at = strstr(output, "\"digest\": \"");
  cr_assert_not_null(at, "%s", output);
  snprintf(hex, 65, "%.64s", at + strlen("\"digest\": \""));
}


static void setup(void) {
  snprintf(folder, sizeof folder, "/tmp/rgm_cli_%s", "XXXXXX");
  cr_assert_not_null(mkdtemp(folder));
}


static void teardown(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  cr_assert_eq(system(command), 0);
}


Test(cli, exit_codes_and_messages) {
  static const struct {
    const char *arguments;
    int code;
    const char *text;
  } rows[] = {
      {"", 64, "Usage"},
      {"--help", 0, "train"},
      {"--version", 0, "regimen 0."},
      {"trian", 64, "no command \"trian\""},
      {"train --help", 0, "--resume"},
      {"train --nonsense", 64, "nonsense"},
      {"train", 64, "a config file"},
      {"train no_such.yaml", 74, "no_such.yaml: No such file"},
      {"check configs/propofol_cem.yaml", 0, "is fine"},
      {"check configs/propofol_cem_population.yaml", 0, "replicas     64"},
      {"check configs/propofol_pid.yaml", 0, "pid"},
      {"check configs/propofol_cem.yaml --set env.nosie_sd=1", 64, "did you mean env.noise_sd?"},
      {"check configs/propofol_cem.yaml --set env.noise_sd=2", 64, "[0, 1]"},
      {"check configs/propofol_cem.yaml --set env.noise_sd", 64, "="},
      {"check configs/propofol_cem.yaml --set run.backend=cuda --set run.isa=auto", 74, "cuda"},
      {"plan configs/propofol_cem.yaml", 0, "policy/0/weight"},
      {"plan configs/propofol_cem.yaml --json", 0, "\"shape\""},
      {"explain", 0, "run.replicas"},
      {"explain cem", 0, "algorithm.percentile"},
      {"explain propofol", 0, "env.noise_sd"},
      {"explain env.ke0", 0, "1/min"},
      {"explain simulate", 0, "simulate.controller"},
      {"explain simulate.bins", 0, "quantiles of the dose"},
      {"explain import", 0, "columns.variable"},
      {"explain cohort.hours_rule", 0, "landmark"},
      {"explain percentil", 64, "nothing is called"},
      {"eval configs/propofol_cem.yaml", 64, "must be trained first"},
      {"train configs/propofol_pid.yaml", 64, "trains nothing"},
      {"info configs/propofol_cem.yaml", 64, "not a run"},
      {"info LICENSE", 64, ""},
      {"eval configs/propofol_schnider1998.yaml --set data.path=LICENSE", 65, "LICENSE:"},
      {"eval configs/propofol_schnider1998.yaml --set data.path=none.csv", 74, "none.csv"},
      {"eval configs/propofol_pid.yaml --set eval.patients=3 --json --quiet > /dev/full", 74, ""},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const int code = regimen(rows[i].arguments);
    cr_assert_eq(code, rows[i].code, "`%s` gave %d: %s", rows[i].arguments, code, output);
    cr_assert(strstr(output, rows[i].text) != NULL, "`%s` said: %s", rows[i].arguments, output);
  }
}


Test(cli, run_folder_is_complete_and_not_overwritten, .init = setup, .fini = teardown) {
  cr_assert_eq(regimen_in("train" SMALL "--out ", "run", "--quiet"), 0, "%s", output);
  static const char *const files[] = {"config.yaml", "metrics.jsonl", "metrics.csv", "log.txt",
                                      "checkpoint-5.h5"};
  char path[128];
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(path, sizeof path, "%s/run/%s", folder, files[i]);
    cr_assert_eq(access(path, R_OK), 0, "%s", path);
  }
  cr_assert_eq(regimen_in("train" SMALL "--out ", "run", "--quiet"), 64);
  cr_assert(strstr(output, "--resume") != NULL, "%s", output);
  cr_assert_eq(regimen_in("train" SMALL "--out ", "run", "--quiet --resume"), 0, "%s", output);
  cr_assert_eq(regimen_in("eval ", "run", "--quiet --json --set eval.patients=5"), 0, "%s", output);
  cr_assert(strstr(output, "\"cem_deterministic\"") != NULL);
  cr_assert(strstr(output, "\"mape_median\"") != NULL);
  cr_assert_eq(regimen_in("check ", "run/config.yaml", ""), 0, "%s", output);

  // the best checkpoint is a RUN like any other
  static const char *const commands[] = {"eval --quiet --set eval.patients=5 ", "info ", "verify "};
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    cr_assert_eq(regimen_in(commands[i], "run/" RGM_BEST_NAME, ""), 0, "%s", output);
  }
}


Test(cli, a_checkpoint_repeats_its_run, .init = setup, .fini = teardown) {
  char first[65], again[65];
  cr_assert_eq(regimen_in("train" SMALL "--out ", "a", "--quiet --json"), 0, "%s", output);
  digest(first);
  char arguments[512];
  snprintf(arguments, sizeof arguments, "train %s/a/checkpoint-5.h5 --out %s/b --quiet --json",
           folder, folder);
  cr_assert_eq(regimen(arguments), 0, "%s", output);
  digest(again);
  cr_assert_str_eq(first, again);
}


Test(cli, fine_tuning_starts_from_the_weights, .init = setup, .fini = teardown) {
  // one replica serves two; other weights at the start give another end
  char arguments[512], tuned[65], fresh[65];
  cr_assert_eq(regimen_in("train" SMALL "--set run.replicas=1 --out ", "a", "--quiet"), 0, "%s",
               output);
  snprintf(arguments, sizeof arguments,
           "train" SMALL "--quiet --json --out %s/b --set run.init_from=%s/a", folder, folder);
  cr_assert_eq(regimen(arguments), 0, "%s", output);
  digest(tuned);
  snprintf(arguments, sizeof arguments, "train" SMALL "--quiet --json --out %s/c", folder);
  cr_assert_eq(regimen(arguments), 0, "%s", output);
  digest(fresh);
  cr_assert_str_neq(tuned, fresh);
  snprintf(arguments, sizeof arguments,
           "train" SMALL "--quiet --out %s/d --set algorithm.hidden=64 --set run.init_from=%s/a",
           folder, folder);
  cr_assert_eq(regimen(arguments), 65, "%s", output);
  cr_assert(strstr(output, "policy/0/weight") != NULL, "%s", output);
}


Test(cli, damaged_newest_checkpoint_falls_back, .init = setup, .fini = teardown) {
  const char *sets = "--quiet --json --set run.checkpoint_every=2 --set run.keep=3";
  char first[65], again[65], path[128];
  cr_assert_eq(regimen_in("train" SMALL "--out ", "run", sets), 0, "%s", output);
  digest(first);
  snprintf(path, sizeof path, "%s/run/checkpoint-5.h5", folder);
  FILE *file = fopen(path, "r+");
  cr_assert_not_null(file);
  fseek(file, 2000, SEEK_SET);
  fputc('x', file);
  fputc('y', file);
  fclose(file);
  cr_assert_eq(regimen_in("info ", "run/checkpoint-5.h5", ""), 65, "%s", output);

  // goes on from step 4, says so, and ends at the same bits
  const char *loud = "--resume --json --set run.checkpoint_every=2 --set run.keep=3";
  cr_assert_eq(regimen_in("train" SMALL "--out ", "run", loud), 0, "%s", output);
  cr_assert(strstr(output, "checkpoint-5.h5") != NULL && strstr(output, "resumed at step 4"), "%s",
            output);
  digest(again);
  cr_assert_str_eq(first, again);
}


Test(cli, signals_save_and_exit_75, .init = setup, .fini = teardown) {
  static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    char out[128];
    snprintf(out, sizeof out, "%s/run%zu", folder, i);
    const pid_t child = fork();
    if (child == 0) {
      execl(RGM_PROGRAM, "regimen", "train", "configs/propofol_cem.yaml", "--quiet", "--out", out,
            "--set", "run.steps=1000000", "--set", "run.replicas=1", (char *)NULL);
      _exit(99);
    }
    usleep(700000);
    kill(child, numbers[i]);
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 75, "status %x", (unsigned)status);
    char name[32];
    snprintf(name, sizeof name, "run%zu", i);
    cr_assert_eq(regimen_in("info ", name, ""), 0, "%s", output);
  }
}

// a checkpoint as schema 1 had it: no best, no private state
Test(cli, a_run_of_an_older_schema_goes_on, .init = setup, .fini = teardown) {
  const char *sets = "--quiet --json --set run.checkpoint_every=2 --set run.keep=3";
  char whole[65], again[65], path[128], command[256];
  rgm_checkpoint *c = NULL;
  cr_assert_eq(regimen_in("train" SMALL "--out ", "run", sets), 0, "%s", output);
  digest(whole);
  snprintf(path, sizeof path, "%s/run/checkpoint-4.h5", folder);
  cr_assert_eq(rgm_checkpoint_read(path, &c), RGM_OK, "%s", rgm_last_error());
  int count = 0;
  for (int i = 0; i < c->attribute_count; i++) {
    const char *name = c->attributes[i].name;
    if (strncmp(name, "best_", 5) != 0 && strncmp(name, "state", 5) != 0) {
      c->attributes[count++] = c->attributes[i];
    }
  }
  cr_assert_eq(count, c->attribute_count - 6);
  c->attribute_count = count;
  c->schema = 1;
  cr_assert_eq(rgm_checkpoint_write(path, c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_free(c);
  snprintf(command, sizeof command, "cd %s/run && rm checkpoint-[25].h5 " RGM_BEST_NAME, folder);
  cr_assert_eq(system(command), 0);
  cr_assert_eq(regimen_in("verify ", "run", ""), 0, "%s", output);
  cr_assert_eq(regimen_in("train" SMALL "--resume --out ", "run", sets), 0, "%s", output);
  digest(again);
  cr_assert_str_eq(whole, again);
}


// writes a checkpoint anew, with a file digest that is right, after a change to what is in it
static void forge(const char *what) {
  char path[128];
  rgm_checkpoint *c = NULL;
  snprintf(path, sizeof path, "%s/run/checkpoint-4.h5", folder);
  cr_assert_eq(rgm_checkpoint_read(path, &c), RGM_OK, "%s", rgm_last_error());
  char *at = strstr(c->config, "noise_sd: 0.0");
  cr_assert_not_null(at);
  if (strcmp(what, "tensor") == 0) {
    *(unsigned char *)c->records[c->record_count - 1].data ^= 1;
  } else if (strcmp(what, "step") == 0) {
    c->step++;
  } else if (strcmp(what, "value") == 0) {
    at[strlen("noise_sd: 0.")] = '1';
  } else if (strcmp(what, "syntax") == 0) {
    at[strlen("noise_sd:")] = '[';
  } else if (strcmp(what, "key") == 0) {
    at[0] = 'm';
  } else {
    c->attributes[c->attribute_count - 1].name[0] = 'D';
  }
  cr_assert_eq(rgm_checkpoint_write(path, c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_free(c);
}


Test(cli, verify_checks_every_checkpoint, .init = setup, .fini = teardown) {
  static const struct {
    const char *change; // to checkpoint-4.h5 before: a forgery, or (with a space) a shell command
    const char *path;
    int code;
    const char *text;
  } rows[] = {
      {NULL, "run", 0, "checkpoint-5.h5: step 5, digest"},
      {NULL, "run --json", 0, "\"bad\": 0"},
      {NULL, "run/checkpoint-2.h5", 0, "ok   "},
      {NULL, "none", 74, "none: No such file"},
      {NULL, "run/config.yaml", 65, "not a Regimen checkpoint"},
      {"mkdir empty", "empty", 65, "no checkpoint in this folder"},
      {"tensor", "run", 65, "1 of 4 checkpoints are bad"},
      {"tensor", "run/checkpoint-4.h5", 65, "step or tensors were changed"},
      {"tensor", "run --json", 65, "\"bad\": 1"},
      {"tensor", "run/checkpoint-5.h5", 0, "ok   "},
      {"step", "run", 65, "step or tensors were changed"},
      {"value", "run", 65, "config_digest"},
      {"syntax", "run", 65, "does not parse"},
      {"key", "run", 0, "config_digest not checked"},
      {"digest", "run", 65, "no digest of its tensors"},
      {"printf x | dd of=run/checkpoint-4.h5 bs=1 seek=3000 conv=notrunc", "run", 65, "SHA-256"},
      {"truncate -s 3000 run/checkpoint-4.h5", "run", 65, "bytes follow its prefix"},
      {"truncate -s 0 run/checkpoint-4.h5", "run", 65, "the file is empty"},
      {"printf Q | dd of=run/checkpoint-4.h5 bs=1 seek=8 conv=notrunc", "run", 65, "newer Regimen"},
  };
  const char *sets = "--quiet --set run.checkpoint_every=2 --set run.keep=3";
  char command[512];
  cr_assert_eq(regimen_in("train" SMALL "--out ", "run", sets), 0, "%s", output);
  snprintf(command, sizeof command, "cp %s/run/checkpoint-4.h5 %s/good", folder, folder);
  cr_assert_eq(system(command), 0);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    // from the good file each time
    const char *change = rows[i].change;
    const bool shell = change != NULL && strchr(change, ' ') != NULL;
    snprintf(command, sizeof command, "cd %s && cp good run/checkpoint-4.h5 && (%s) 2>/dev/null",
             folder, shell ? change : "true");
    cr_assert_eq(system(command), 0);
    if (change != NULL && !shell) {
      forge(change);
    }
    const int code = regimen_in("verify ", rows[i].path, "");
    cr_expect_eq(code, rows[i].code, "row %zu gave %d: %s", i, code, output);
    cr_expect(strstr(output, rows[i].text) != NULL, "row %zu said: %s", i, output);
  }
}


// how often a text occurs in what was printed
static int occurrences(const char *text) {
  int count = 0;
  for (const char *at = output; (at = strstr(at, text)) != NULL; at++) {
    count++;
  }
  return count;
}


// what scripts read of a bench: every row has every member, and no value is null or 0
Test(cli, bench_tells_rows) {
  cr_assert_eq(regimen("bench io --json --quiet --seconds 0.002 --threads 1"), 0, "%s", output);
  static const char *const members[] = {"suite", "case",  "threads", "value",
                                        "unit",  "flops", "bytes",   "fraction_of_peak"};
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
    char member[64];
    snprintf(member, sizeof member, "\"%s\": ", members[i]);
    cr_expect_eq(occurrences(member), 12, "%s: %s", member, output);
  }
  cr_expect_eq(occurrences("null"), 0);
  cr_expect_eq(occurrences("\"value\": 0,"), 0);

#if !RGM_DEBUG
  // one case of a suite: three packs, with floors and memory (a minute under the sanitizers)
  cr_assert_eq(
      regimen("bench offline:sac_cql_combo_b64 --json --quiet --seconds 0.002 --threads 1"), 0,
      "%s", output);
  cr_expect_eq(occurrences("\"floor_bytes_s\": "), 3, "%s", output);
  cr_expect_eq(occurrences("\"case\": \"sac_cql_combo_b64\""), 3, "%s", output);
#endif
  cr_expect_eq(regimen("bench billiards"), 64);
  cr_expect_not_null(strstr(output, "rollout, mlp, cem, io"), "%s", output);
  cr_expect_eq(regimen("bench io --seconds never"), 64);
}


// the kernels' seconds and the host's are the whole
Test(cli, profile_adds_up, .init = setup, .fini = teardown) {
  cr_assert_eq(regimen_in("train" SMALL "--quiet --json --profile --out ", "run", ""), 0, "%s",
               output);
  double all = 0.0, sum = 0.0, value;
  for (const char *at = output; (at = strstr(at, "\"seconds\": ")) != NULL; at++) {
    cr_assert_eq(sscanf(at, "\"seconds\": %lf", &value), 1);
    cr_expect(value >= 0.0);
    sum += all > 0.0 ? value : 0.0;
    all = all > 0.0 ? all : value;
  }
  cr_expect_float_eq(sum, all, 1e-6 * all, "%g of %g s: %s", sum, all, output);
  static const char *const rows[] = {"rollout", "policy_xent", "adam", "host"};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char row[64];
    snprintf(row, sizeof row, "\"kernel\": \"%s\"", rows[i]);
    cr_expect_eq(occurrences(row), 1, "%s: %s", row, output);
  }
}
