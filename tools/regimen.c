// SPDX-License-Identifier: Apache-2.0
// The program: `regimen COMMAND [OPTION...] [PATH]`, one table row per command, argp for each.

#include "engine/regimen.h"
#include "tools/bench.h"
#include "tools/sweep.h"

#include <argp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
  MAX_SETS = 256,
  KEY_RESUME = 256,
  KEY_QUIET,
  KEY_JSON,
  KEY_PROFILE,
  KEY_SECONDS,
  KEY_WORKERS,
  KEY_STATUS,
  KEY_DIR,
  KEY_RULES,
  KEY_CSV,
  KEY_VALUES,
};

typedef struct invocation {
  rgm_options options;
  const char *sets[MAX_SETS + 1];
  char threads[64];
  bool quiet;
} invocation;

typedef struct command {
  const char *name;
  rgm_status (*run)(const rgm_options *options);
  const char *argument, *doc;
} command;


static rgm_status explain(const rgm_options *options) {
  return rgm_explain(options->path, options->result);
}


static const command commands[] = {
    {"train", rgm_train, "CONFIG|RUN", "Train what a config describes and leave a run folder."},
    {"eval", rgm_evaluate, "RUN|CONFIG",
     "Evaluate a run, or a config that trains nothing, on test patients."},
    {"plan", rgm_plan_memory, "CONFIG|RUN", "Print every tensor with shape, unit and bytes."},
    {"check", rgm_check, "CONFIG|RUN|DATA",
     "Check config, data and device; say what a run would do. Or look for defects of a data set."},
    {"explain", explain, "[TOPIC]",
     "Print keys: of a section, an algorithm, an environment, or one key (env.noise_sd)."},
    {"info", rgm_info, "RUN|CHECKPOINT|DATA",
     "Verify a checkpoint or a data set and print what is in it."},
    {"verify", rgm_verify, "RUN|CHECKPOINT", "Check every checkpoint of a run, bit by bit."},
    {"sweep", sweep_command, "CONFIG|DIR",
     "Run the sweep of a config, join one (--resume), or look at it (--status)."},
    {"recommend", rgm_recommend, "RUN|CHECKPOINT",
     "What a trained rule advises for a patient (--set age=70 ...) or a table (--csv FILE)."},
    {"import", rgm_import, "KIND",
     "Make a data set from raw tables: mimic3-heparin, mimic3-rrt, eicu-heparin, csv; or a tabular "
     "problem: trajectories, mdp (--dir, -o)."},
    {"simulate", rgm_simulate, "CONFIG",
     "Write a data set of simulated patients under a clinician (-o FILE)."},
    {"bench", bench_command, "[SUITE]",
     "Measure this machine: rollout, mlp, cem, io or dtr, beside its peaks; all without a name."},
    {0},
};


// ---- signals -----------------------------------------------------------------------------------

static volatile sig_atomic_t stop;

// the first signal asks for a checkpoint at the next step, the second ends the program at once
static void on_signal(int number) {
  if (stop) {
    signal(number, SIG_DFL);
    raise(number);
  }
  stop = 1;
}


static void catch_signals(void) {
  static const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
  // SA_RESTART: a write to a slow disk is not cut short by a signal
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    sigaction(numbers[i], &action, NULL);
  }
}


// ---- arguments ---------------------------------------------------------------------------------

static const struct argp_option options[] = {
    {"set", 's', "KEY=VALUE", 0, "Override a key of the config; may be repeated", 0},
    {"out", 'o', "DIR", 0, "Run folder (default: runs/NAME); of an import, the file to write", 0},
    {"dir", KEY_DIR, "DIR", 0, "Of an import: the folder with the tables (CSV, CSV.gz)", 0},
    {"rules", KEY_RULES, "FILE", 0, "Of an import: cohort and variables (default: its own)", 0},
    {"csv", KEY_CSV, "FILE", 0,
     "Of an import: also a copy of what was read; to recommend: patients", 0},
    {"resume", KEY_RESUME, NULL, 0, "Go on from what the run folder holds", 0},
    {"threads", 't', "N", 0, "CPU threads (short for --set run.threads=N)", 0},
    {"quiet", KEY_QUIET, NULL, 0, "No progress", 0},
    {"seconds", KEY_SECONDS, "S", 0, "Measure each case of a bench for S seconds (default: 1)", 0},
    {"profile", KEY_PROFILE, NULL, 0, "Tell where the time of a training went", 0},
    {"workers", KEY_WORKERS, "N", 0,
     "Processes of a sweep (default: one; on GPUs one for each of run.devices)", 0},
    {"status", KEY_STATUS, NULL, 0, "How a sweep stands, without taking part", 0},
    {"show-values", KEY_VALUES, NULL, 0,
     "Let `check` print values of patients (default: rows only)", 0},
    {"json", KEY_JSON, NULL, 0, "Results as one JSON object on stdout", 0},
    {0},
};


static error_t parse(int key, char *value, struct argp_state *state) {
  invocation *in = state->input;
  char *rest;
  switch (key) {
  case 's':
  case 't':
    if (in->options.set_count == MAX_SETS) {
      argp_error(state, "more than %d overrides", MAX_SETS);
    }
    if (key == 't') {
      snprintf(in->threads, sizeof in->threads, "run.threads=%.40s", value);
      value = in->threads;
    }
    in->sets[in->options.set_count++] = value;
    return 0;
  case KEY_DIR:
    in->options.dir = value;
    return 0;
  case KEY_RULES:
    in->options.rules = value;
    return 0;
  case KEY_CSV:
    in->options.csv = value;
    return 0;
  case 'o':
    in->options.out = value;
    return 0;
  case KEY_RESUME:
    in->options.resume = true;
    return 0;
  case KEY_QUIET:
    in->quiet = true;
    return 0;
  case KEY_SECONDS:
    in->options.seconds = strtod(value, &rest);
    if (*rest != '\0' || !(in->options.seconds > 0 && in->options.seconds <= 3600)) {
      argp_error(state, "--seconds: %s is not a time between 0 and 3600", value);
    }
    return 0;
  case KEY_PROFILE:
    in->options.profile = true;
    return 0;
  case KEY_WORKERS:
    in->options.workers = (int)strtol(value, &rest, 10);
    if (*rest != '\0' || in->options.workers < 1 || in->options.workers > 1024) {
      argp_error(state, "--workers: %s is not a number from 1 to 1024", value);
    }
    return 0;
  case KEY_STATUS:
    in->options.status = true;
    return 0;
  case KEY_VALUES:
    in->options.show_values = true;
    return 0;
  case KEY_JSON:
    in->options.json = true;
    return 0;
  case ARGP_KEY_ARG:
    if (in->options.path != NULL) {
      argp_error(state, "one path is enough, got a second: %s", value);
    }
    in->options.path = value;
    return 0;
  default:
    return ARGP_ERR_UNKNOWN;
  }
}


static void usage(FILE *out) {
  fprintf(out, "Usage: regimen COMMAND [OPTION...] [PATH]\n"
               "Trains and evaluates treatment policies from config files.\n\n");
  for (const command *c = commands; c->name != NULL; c++) {
    fprintf(out, "  %-9s %-19s %s\n", c->name, c->argument, c->doc);
  }
  fprintf(out,
          "\n`regimen COMMAND --help` lists options. Exit codes: 0 done, 64 usage or config, "
          "65 bad data,\n70 our bug, 74 files or memory, 75 stopped by a signal with the state "
          "saved.\n");
}


static int run_command(const command *c, int argc, char **argv) {
  char name[64], doc[256];
  snprintf(name, sizeof name, "regimen %s", c->name);
  snprintf(doc, sizeof doc, "%s", c->doc);
  const struct argp argp = {options, parse, c->argument, doc, NULL, NULL, NULL};
  invocation in = {0};
  in.options.set = in.sets;
  in.options.result = stdout;
  in.options.stop = &stop;
  argv[1] = name;
  argp_parse(&argp, argc - 1, argv + 1, 0, NULL, &in);
  in.options.progress = in.quiet ? NULL : stderr;
  in.options.terminal = isatty(STDERR_FILENO) != 0;
  if (c->run == rgm_train || c->run == sweep_command) {
    catch_signals();
  }
  const rgm_status status = c->run(&in.options);
  if (status != RGM_OK) {
    fprintf(stderr, "regimen: %s\n", rgm_last_error());
  }
  if (fflush(stdout) != 0 && status == RGM_OK) {
    fprintf(stderr, "regimen: the result could not be written to stdout\n");
    return rgm_exit_code(RGM_EIO);
  }
  return rgm_exit_code(status);
}


int main(int argc, char **argv) {
  if (argc < 2) {
    usage(stderr);
    return 64;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
    usage(stdout);
    return 0;
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("%s\n", rgm_version_text());
    return 0;
  }
  for (const command *c = commands; c->name != NULL; c++) {
    if (strcmp(argv[1], c->name) == 0) {
      return run_command(c, argc, argv);
    }
  }
  fprintf(stderr, "regimen: no command \"%s\"\n\n", argv[1]);
  usage(stderr);
  return 64;
}
