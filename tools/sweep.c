// SPDX-License-Identifier: Apache-2.0
// `regimen sweep`: one worker is this process itself; several are processes of the same program,
// which share nothing but the sweep's folder. The driver only starts, watches and stops them: where
// it dies, they stop at their next step with their progress saved.

#include "tools/sweep.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORKERS = 1024, MAX_ARGUMENTS = 540, STOPPED = 75 };

typedef struct driver {
  const rgm_options *options;
  rgm_sweep_plan plan;
  pid_t pid[MAX_WORKERS];
  int workers, alive;
  bool stopping;
  int done;  // workers that saw the sweep's end
  int worst; // exit code of the others
} driver;


// the command of worker i: this one with its folder, its share of the threads, its GPU
static void start(driver *d, int i) {
  const rgm_options *o = d->options;
  const char *argv[MAX_ARGUMENTS] = {"regimen", "sweep"};
  char threads[48], device[48];
  int n = 2;
  argv[n++] = o->path;
  argv[n++] = "--resume";
  argv[n++] = "--quiet";
  argv[n++] = "--workers";
  argv[n++] = "1";
  argv[n++] = "--out";
  argv[n++] = d->plan.folder;
  for (int k = 0; k < o->set_count && n + 6 < MAX_ARGUMENTS; k++) {
    argv[n++] = "--set";
    argv[n++] = o->set[k];
  }
  if (d->plan.threads == 0) {
    const long share = sysconf(_SC_NPROCESSORS_ONLN) / d->workers;
    snprintf(threads, sizeof threads, "run.threads=%ld", share > 0 ? share : 1);
    argv[n++] = "--set";
    argv[n++] = threads;
  }
  if (d->plan.device_count > 0) {
    snprintf(device, sizeof device, "run.devices=[%d]", d->plan.devices[i % d->plan.device_count]);
    argv[n++] = "--set";
    argv[n++] = device;
  }
  argv[n] = NULL;

  const pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent && freopen("/dev/null", "w", stdout) != NULL) {
      execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
    }
    _exit(70);
  }
  d->pid[i] = pid;
  d->alive += pid > 0;
}


// those that have ended; a worker that was killed leaves its trials to the others
static void reap(driver *d) {
  int status;
  for (int i = 0; i < d->workers; i++) {
    if (d->pid[i] <= 0 || waitpid(d->pid[i], &status, WNOHANG) != d->pid[i]) {
      continue;
    }
    d->pid[i] = 0;
    d->alive--;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    d->done += WIFEXITED(status) && code == 0;
    d->worst = code > d->worst ? code : d->worst;
    if (WIFSIGNALED(status) && d->options->progress != NULL) {
      fprintf(d->options->progress, "worker %d was killed by signal %d; %s\n", i, WTERMSIG(status),
              d->alive > 0 ? "the others go on with its trials" : "--resume goes on");
    }
  }
}


static void watch(driver *d) {
  const struct timespec pause = {0, 50000000};
  int lines = 0, ticks = 0;
  while (d->alive > 0) {
    nanosleep(&pause, NULL);
    reap(d);
    if (d->options->stop != NULL && *d->options->stop && !d->stopping) {
      d->stopping = true;
      for (int i = 0; i < d->workers; i++) {
        if (d->pid[i] > 0) {
          kill(d->pid[i], SIGTERM);
        }
      }
    }
    // a table that is written over in a terminal, one from time to time elsewhere
    FILE *out = d->options->progress;
    const int every = d->options->terminal ? 10 : 200;
    if (out != NULL && d->alive > 0 && ++ticks % every == 0) {
      if (d->options->terminal && lines > 0) {
        fprintf(out, "\033[%dA\033[J", lines);
      }
      rgm_options look = *d->options;
      look.out = d->plan.folder;
      look.json = false;
      (void)rgm_sweep_status(&look, out, &lines);
    }
  }
}


static rgm_status drive(const rgm_options *options, int workers, const rgm_sweep_plan *plan) {
  driver d = {.options = options, .plan = *plan, .workers = workers};
  for (int i = 0; i < workers; i++) {
    start(&d, i);
  }
  if (options->progress != NULL) {
    fprintf(options->progress, "%s: %d workers in %s\n", rgm_version_text(), workers, plan->folder);
  }
  watch(&d);
  rgm_options look = *options;
  look.out = d.plan.folder;
  if (d.done == 0 && (d.worst == STOPPED || d.stopping)) {
    return rgm_fail(RGM_ESTOPPED, "stopped by a signal; the sweep is in %s, go on with --resume",
                    plan->folder);
  }
  if (d.worst != 0 && d.worst != STOPPED) {
    return rgm_fail(d.worst == 64   ? RGM_ECONFIG
                    : d.worst == 65 ? RGM_EDATA
                                    : RGM_EIO,
                    "a worker failed, see above and %s/log.txt; --resume goes on", plan->folder);
  }
  if (d.done == 0) {
    return rgm_fail(RGM_EIO, "all workers were killed; the sweep is in %s, go on with --resume",
                    plan->folder);
  }
  return rgm_sweep_status(&look, options->result, NULL);
}


rgm_status sweep_command(const rgm_options *options) {
  rgm_sweep_plan plan;
  if (options->status) {
    return rgm_sweep_status(options, options->result, NULL);
  }
  if (options->workers == 1) {
    return rgm_sweep_run(options);
  }
  RGM_TRY(rgm_sweep_look(options, &plan));
  const int workers = options->workers > 0    ? options->workers
                      : plan.device_count > 1 ? plan.device_count
                                              : 1;
  return workers == 1 ? rgm_sweep_run(options) : drive(options, workers, &plan);
}
