// SPDX-License-Identifier: Apache-2.0
// Whether off-policy evaluation tells the truth, where the truth is known (as Voloshin et al. 2021
// do for toy problems): for every amount of noise and unmeasured confounding in what clinicians do
// and every number of patients, data sets are simulated, policies learned from them, all of them
// valued on the data set's held-out patients by every method (values.c), and tried out in the
// simulator on patients of whom no data set has any. By method: how often intervals hold the truth,
// errors, how well policies are ranked; by policy: regret. Data sets are worked on side by side, a
// process each (run.threads of them), and what is done stays in the folder: `--resume` goes on.

#include "algorithms/honesty.h"
#include "engine/keep.h"
#include "engine/regimen.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY(member) offsetof(rgm_honesty_keys, member)

static const rgm_field fields[] = {
    RGM_TEXT("simulate", KEY(simulate), NULL, 0, "Config of `regimen simulate` for a data set."),
    RGM_TEXT("clone", KEY(clone), NULL, 0, "Config of the clone, which is a learner too."),
    RGM_TEXT("learners", KEY(learners), "", 0, "Configs of the other learners, between commas."),
    RGM_TEXT("values", KEY(values), NULL, 0,
             "Config of their valuation, whose runs and clone are "
             "set from here."),
    RGM_TEXT(
        "model", KEY(model), "", 0,
        "run.name of the learner in whose learned model policies are rolled out; empty: none."),
    {"noise", RGM_LIST, KEY(noise), "1", "[0.15]", 0, 3, NULL, 0,
     "Values of env.noise: how differently clinicians follow the nomogram."},
    {"kappa", RGM_LIST, KEY(kappa), "s", "[0]", -100, 100, NULL, 0,
     "Values of env.kappa: unmeasured confounding."},
    {"patients", RGM_LIST, KEY(patients), "1", "[1000]", 10, 1e6, NULL, 0,
     "Values of simulate.patients."},
    {"seeds", RGM_INT, KEY(seeds), "1", "20", 1, 10000, NULL, 0, "Data sets of each cell."},
    {"first", RGM_INT, KEY(first), "1", "1", 0, 1e9, NULL, 0, "The first one's seed."},
    {0},
};


// A data set of the table, and the process that works on one.
typedef struct job {
  rgm_honesty_cell cell;
  int64_t seed;
  rgm_honesty_set *set;
} job;

typedef struct worker {
  pid_t pid; // 0: it has nothing to do
  int from;  // what went wrong comes out of here
  const job *at;
} worker;


// ---- learners ----------------------------------------------------------------------------------

// a learner's config, and the name of its runs
static rgm_status add_learner(rgm_honesty_bench *b, const char *path) {
  rgm_config *config = NULL;
  if (b->learners == HONESTY_LEARNERS) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.learners: %d with the clone are the most",
                    rgm_config_where(b->run->config, "algorithm.learners"), HONESTY_LEARNERS);
  }
  RGM_TRY(rgm_config_load(path, NULL, 0, &config));
  const char *name = rgm_config_text(config, "run.name");
  snprintf(b->name[b->learners], sizeof b->name[0], "%.60s", name != NULL ? name : "");
  rgm_config_free(config);
  snprintf(b->learner[b->learners], sizeof b->learner[0], "%s", path);
  for (int i = 0; i <= b->learners; i++) {
    const bool same = i < b->learners && strcmp(b->name[i], b->name[b->learners]) == 0;
    if (same || b->name[i][0] == '\0' || strcmp(b->name[i], "values") == 0) {
      return rgm_fail(RGM_ECONFIG,
                      "%s: run.name: learners need names of their own, none of them "
                      "`values`",
                      path);
    }
  }
  b->learners++;
  return RGM_OK;
}


// the bytes of a config's file onto `text`; files that it extends are not looked at
static rgm_status add_file(const char *path, FILE *text) {
  char part[4096];
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  for (size_t n; (n = fread(part, 1, sizeof part, file)) > 0;) {
    fwrite(part, 1, n, text);
  }
  fputc(0, text);
  const bool ok = ferror(file) == 0;
  fclose(file);
  return ok ? RGM_OK : rgm_fail(RGM_EIO, "%s: cannot be read", path);
}


static rgm_status take_digest(rgm_honesty_bench *b) {
  const rgm_eval_keys *eval = &b->run->eval;
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a digest");
  }
  fprintf(out, "%s %lld %lld %lld ", b->k->model, (long long)eval->patients, (long long)eval->seed,
          (long long)eval->optimum);
  rgm_status status = add_file(b->k->simulate, out);
  status = status == RGM_OK ? add_file(b->k->values, out) : status;
  for (int i = 0; i < b->learners && status == RGM_OK; i++) {
    status = add_file(b->learner[i], out);
  }
  fclose(out);
  if (status == RGM_OK) {
    rgm_sha256_hex(text, size, b->digest);
  }
  free(text);
  return status;
}


static rgm_status open_honesty(rgm_run *run, rgm_honesty_bench *b) {
  char path[2200];
  *b = (rgm_honesty_bench){.run = run, .k = rgm_algorithm_keys(run, 0), .best = NAN};
  if (run->out[0] == '\0') {
    return rgm_fail(RGM_EUSAGE, "honesty keeps data sets and runs in a folder: --out DIR");
  }
  snprintf(b->folder, sizeof b->folder, "%.2000s", run->out);
  snprintf(path, sizeof path, "%s/sets", b->folder);
  RGM_TRY(rgm_make_folder(path));
  RGM_TRY(add_learner(b, b->k->clone));
  char text[RGM_STRING_SIZE], *rest = NULL;
  snprintf(text, sizeof text, "%s", b->k->learners);
  for (char *word = strtok_r(text, ", ", &rest); word != NULL; word = strtok_r(NULL, ", ", &rest)) {
    RGM_TRY(add_learner(b, word));
  }
  return take_digest(b);
}


// ---- data sets side by side --------------------------------------------------------------------

// what a worker does; its error, a status and a text, goes through the pipe
static void work(rgm_honesty_bench *b, int slot, const job *j, int to) {
  rgm_status status = rgm_honesty_try(b, slot, &j->cell, j->seed, j->set);
  status = status == RGM_OK ? rgm_honesty_write(b, &j->cell, j->seed, j->set) : status;
  if (status != RGM_OK) {
    dprintf(to, "%d %s", (int)status, rgm_last_error());
  }
  _exit(0);
}


static rgm_status start(rgm_honesty_bench *b, int slot, const job *j, int lock, worker *w) {
  int pipes[2];
  if (pipe(pipes) != 0) {
    return rgm_fail(RGM_EIO, "no pipe to a process: %s", strerror(errno));
  }
  const pid_t parent = getpid();
  fflush(NULL);
  *w = (worker){.pid = fork(), .from = pipes[0], .at = j};
  if (w->pid == 0) {
    // it dies with us, and holds no lock of its own
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(pipes[0]);
    close(lock);
    if (getppid() == parent) {
      work(b, slot, j, pipes[1]);
    }
    _exit(0);
  }
  close(pipes[1]);
  if (w->pid < 0) {
    close(w->from);
    w->pid = 0;
    return rgm_fail(RGM_EIO, "no process for a data set: %s; fewer run.threads, or try again",
                    strerror(errno));
  }
  return RGM_OK;
}


// a worker has ended: its data set is read from its file, as it is after a stop
static rgm_status collect(rgm_honesty_bench *b, worker *w) {
  char text[2048];
  size_t used = 0;
  int how = 0, status = 0, length = 0;
  for (ssize_t n; used + 1 < sizeof text;) {
    n = read(w->from, text + used, sizeof text - 1 - used);
    if (n <= 0 && !(n < 0 && errno == EINTR)) {
      break;
    }
    used += n > 0 ? (size_t)n : 0;
  }
  text[used] = '\0';
  close(w->from);
  while (waitpid(w->pid, &how, 0) < 0 && errno == EINTR) {
  }
  w->pid = 0;
  if (sscanf(text, "%d %n", &status, &length) == 1 && status != RGM_OK) {
    return rgm_fail((rgm_status)status, "%s", text + length);
  }
  RGM_TRY(rgm_honesty_read(b, &w->at->cell, w->at->seed, w->at->set));
  return w->at->set->done ? RGM_OK
                          : rgm_fail(RGM_EIO,
                                     "the process of a data set was killed (signal %d); "
                                     "go on with --resume",
                                     WIFSIGNALED(how) ? WTERMSIG(how) : 0);
}


static void end_all(worker *w, int count) {
  for (int i = 0; i < count; i++) {
    if (w[i].pid > 0) {
      kill(w[i].pid, SIGKILL);
      close(w[i].from);
      while (waitpid(w[i].pid, NULL, 0) < 0 && errno == EINTR) {
      }
    }
  }
}


// each job that is not done, in order, as soon as one of `count` workers is free
static rgm_status work_off(rgm_honesty_bench *b, const job *jobs, int64_t total, int lock,
                           int count) {
  worker w[HONESTY_WORKERS] = {{0}};
  struct pollfd wait[HONESTY_WORKERS];
  rgm_status status = RGM_OK;
  for (int64_t next = 0, busy = 0; status == RGM_OK && (next < total || busy > 0);) {
    for (int i = 0; i < count && status == RGM_OK; i++) {
      while (next < total && jobs[next].set->done) {
        next++;
      }
      if (w[i].pid == 0 && next < total) {
        status = start(b, i, &jobs[next++], lock, &w[i]);
        busy += status == RGM_OK;
      }
      wait[i] = (struct pollfd){.fd = w[i].pid > 0 ? w[i].from : -1, .events = POLLIN};
    }
    if (busy > 0 && poll(wait, (nfds_t)count, -1) < 0 && errno != EINTR) {
      status = rgm_fail(RGM_EIO, "cannot wait for data sets: %s", strerror(errno));
    }
    for (int i = 0; i < count && status == RGM_OK; i++) {
      if (w[i].pid > 0 && wait[i].revents != 0) {
        status = collect(b, &w[i]);
        busy--;
      }
    }
  }
  end_all(w, count);
  return status;
}


// ---- the whole ---------------------------------------------------------------------------------

static int find_cells(const rgm_honesty_keys *k, rgm_honesty_cell *cells) {
  int count = 0;
  for (int i = 0; i < k->noise.count; i++) {
    for (int j = 0; j < k->kappa.count; j++) {
      for (int n = 0; n < k->patients.count && count < HONESTY_CELLS; n++) {
        cells[count++] =
            (rgm_honesty_cell){k->noise.value[i], k->kappa.value[j], (int64_t)k->patients.value[n]};
      }
    }
  }
  return count;
}


// what is done already; without --resume nothing may be
static rgm_status look(rgm_honesty_bench *b, const job *jobs, int64_t total) {
  int64_t done = 0;
  for (int64_t i = 0; i < total; i++) {
    RGM_TRY(rgm_honesty_read(b, &jobs[i].cell, jobs[i].seed, jobs[i].set));
    done += jobs[i].set->done;
  }
  return done == 0 || b->run->resume
             ? RGM_OK
             : rgm_fail(RGM_EUSAGE,
                        "%s already holds %lld of %lld data sets; --resume goes on with them, "
                        "--out starts anew",
                        b->folder, (long long)done, (long long)total);
}


static rgm_status write_csv(const rgm_honesty_bench *b, const job *jobs, int64_t total) {
  char path[2200];
  snprintf(path, sizeof path, "%s/honesty.csv", b->folder);
  FILE *csv = fopen(path, "w");
  if (csv == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  fprintf(csv, "noise,kappa,patients,seed,policy,truth,regret,method,value,low,high,reliable\n");
  for (int64_t i = 0; i < total; i++) {
    rgm_honesty_write_rows(csv, &jobs[i].cell, jobs[i].seed, jobs[i].set);
  }
  return fclose(csv) == 0 ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


static void write_all(const rgm_honesty_bench *b, const rgm_honesty_cell *cells, int count,
                      const rgm_honesty_set *sets, rgm_json *json, FILE *text) {
  const int seeds = (int)b->k->seeds;
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "seeds", (double)seeds);
  rgm_json_number(json, "test_patients", (double)b->run->eval.patients);
  rgm_json_open(json, "cells", '[');
  for (int c = 0; c < count; c++) {
    rgm_honesty_write_cell(&cells[c], sets + c * seeds, seeds, json, text);
  }
  rgm_json_close(json, ']');
  rgm_json_number(json, "optimum", b->best);
  rgm_json_close(json, '}');
  if (text != NULL) {
    fprintf(
        text,
        "\nThe optimum of patients who are known: %.1f. coverage: share of 95 %% intervals that "
        "hold the truth;\nranking: Spearman's correlation of a data set's policies; reliable: "
        "share not refused; *: of those.\n",
        b->best);
  }
}


// a data set of every cell, then the next one of each: what is done when somebody stops compares
static rgm_status try_all(rgm_honesty_bench *b, int lock, rgm_json *json, FILE *text) {
  rgm_honesty_cell cells[HONESTY_CELLS];
  const int count = find_cells(b->k, cells), seeds = (int)b->k->seeds;
  const int64_t total = (int64_t)count * seeds;
  const int threads = rgm_is_cpu(b->run->stream) ? rgm_cpu_threads(b->run->stream) : 1;
  rgm_honesty_set *sets = calloc((size_t)total, sizeof *sets);
  job *jobs = calloc((size_t)total, sizeof *jobs);
  rgm_status status =
      sets != NULL && jobs != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the results");
  for (int64_t i = 0; i < total && status == RGM_OK; i++) {
    const int64_t c = i % count, s = i / count;
    jobs[i] = (job){cells[c], b->k->first + s, &sets[c * seeds + s]};
  }
  status = status == RGM_OK ? look(b, jobs, total) : status;
  if (status == RGM_OK) {
    status = work_off(b, jobs, total, lock, threads < HONESTY_WORKERS ? threads : HONESTY_WORKERS);
  }
  status = status == RGM_OK ? write_csv(b, jobs, total) : status;
  if (status == RGM_OK) {
    write_all(b, cells, count, sets, json, text);
  }
  free(jobs);
  free(sets);
  return status;
}


// workers of a run that was killed may hold its lock for a moment
static rgm_status take_lock(rgm_keep *keep, const char *folder) {
  rgm_status status = rgm_keep_lock(keep, folder);
  for (int i = 0; i < 50 && status != RGM_OK; i++) {
    rgm_keep_close(keep);
    usleep(100000);
    status = rgm_keep_lock(keep, folder);
  }
  return status;
}


static rgm_status honesty_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  rgm_honesty_bench b;
  rgm_keep keep = {.run = run, .lock = -1};
  char why[2048];
  RGM_TRY(open_honesty(run, &b));
  RGM_TRY(take_lock(&keep, b.folder));
  const rgm_status status = try_all(&b, keep.lock, json, text);

  // what was worked on is made again by the same command; it may have been left by a stop
  snprintf(why, sizeof why, "%s", rgm_last_error());
  for (int slot = 0; slot < HONESTY_WORKERS; slot++) {
    rgm_honesty_clear(&b, slot);
  }
  rgm_keep_close(&keep);
  return status == RGM_OK ? RGM_OK : rgm_fail(status, "%s", why);
}


static rgm_status honesty_check(const rgm_run *run) {
  if (run->env->record == NULL || run->env->optimum == NULL || run->env->give_dose == NULL) {
    return rgm_fail(RGM_ECONFIG, "%s: env.name: %s writes no data sets whose truth is known",
                    rgm_config_where(run->config, "env.name"), run->env->name);
  }
  return run->eval.optimum >= 8 ? RGM_OK
                                : rgm_fail(RGM_ECONFIG,
                                           "%s: eval.optimum: regret needs 8 points "
                                           "or more; 120 is usual",
                                           rgm_config_where(run->config, "eval.optimum"));
}


static rgm_status honesty_plan(rgm_run *run) {
  (void)run;
  return RGM_OK;
}


const rgm_algorithm rgm_honesty = {
    .name = "honesty",
    .paper = "Voloshin et al. 2021",
    .doc = "Off-policy evaluation against the truth, by noise, confounding, patients.",
    .fields = fields,
    .keys_size = sizeof(rgm_honesty_keys),
    .self_size = 1,
    .needs = RGM_NEEDS_ENV | RGM_TRAINS_NOT,
    .check = honesty_check,
    .plan = honesty_plan,
    .evaluate = honesty_evaluate,
};
