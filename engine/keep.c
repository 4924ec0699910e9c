// SPDX-License-Identifier: Apache-2.0
// The files that a training process keeps. Invariants, whatever moment the process dies at:
//
//   - a checkpoint that needs a private state has it on disk: the state is written first, and
//     removed last
//   - rows of metrics up to a checkpoint's step are on disk before the checkpoint
//   - checkpoint-best.h5 is what the newest checkpoint says is the best so far, or a later best
//     that the resumed run comes to again

#include "engine/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>


// ---- the folder --------------------------------------------------------------------------------

rgm_status rgm_make_folder(const char *path) {
  char partial[2048];
  snprintf(partial, sizeof partial, "%s", path);
  for (char *c = partial + 1; *c != '\0'; c++) {
    if (*c == '/') {
      *c = '\0';
      mkdir(partial, 0777);
      *c = '/';
    }
  }
  if (mkdir(partial, 0777) != 0 && errno != EEXIST) {
    return rgm_fail(RGM_EIO, "%s: %s; choose another --out", path, strerror(errno));
  }
  return RGM_OK;
}


// ---- the lock ----------------------------------------------------------------------------------

// "pid 123 on host", or "" where the file does not tell
static void read_holder(int fd, char *text, size_t size) {
  const ssize_t n = pread(fd, text, size - 1, 0);
  text[n > 0 ? n : 0] = '\0';
  text[strcspn(text, "\n")] = '\0';
}


static rgm_status take_lock(rgm_keep *k, const char *path) {
  char holder[128] = "", host[64] = "";
  int result;
  do {
    result = flock(k->lock, LOCK_EX | LOCK_NB);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EWOULDBLOCK) {
    read_holder(k->lock, holder, sizeof holder);
    return rgm_fail(RGM_EIO,
                    "%s: another process (%s) trains in this folder: wait for it, or choose "
                    "another run.name or --out",
                    k->folder, holder[0] != '\0' ? holder : "unknown");
  }

  // a file system without locks is no reason not to train; the words are for another one's message
  if (result != 0 && errno != ENOLCK && errno != EOPNOTSUPP && errno != ENOSYS) {
    return rgm_fail(RGM_EIO, "%s: cannot lock: %s; choose another --out", path, strerror(errno));
  }
  (void)gethostname(host, sizeof host - 1);
  const int length = snprintf(holder, sizeof holder, "pid %ld on %s\n", (long)getpid(), host);
  if (ftruncate(k->lock, 0) != 0 || pwrite(k->lock, holder, (size_t)length, 0) != length) {
    return rgm_fail(RGM_EIO, "%s: cannot write: %s; free space or choose another --out", path,
                    strerror(errno));
  }
  return RGM_OK;
}


rgm_status rgm_keep_lock(rgm_keep *k, const char *folder) {
  char path[4096];
  k->folder = folder;
  snprintf(path, sizeof path, "%s/lock", folder);
  do {
    k->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  } while (k->lock < 0 && errno == EINTR);
  if (k->lock < 0) {
    return rgm_fail(RGM_EIO, "%s: %s; choose another --out", path, strerror(errno));
  }
  return take_lock(k, path);
}


void rgm_keep_close(rgm_keep *k) {
  rgm_checkpoint_free(k->best);
  k->best = NULL;
  if (k->lock >= 0) {
    close(k->lock);
  }
  k->lock = -1;
}


// ---- the best ----------------------------------------------------------------------------------

// what the keys ask for
static void choose_best(rgm_run *run) {
  const char *metric = run->keys.keep_best;
  const bool automatic = strcmp(metric, "auto") == 0;
  run->best = (rgm_best){.any = false};
  if (automatic) {
    metric = run->algorithm->best_metric != NULL ? run->algorithm->best_metric : "";
  } else if (strcmp(metric, "none") == 0) {
    metric = "";
  }
  snprintf(run->best.metric, sizeof run->best.metric, "%.47s", metric);
  run->best.is_min = run->keys.best_mode == 0 ? automatic && run->algorithm->best_is_min
                                              : run->keys.best_mode == 2;
}


// The best so far as the checkpoint has it, if it was sought by the same rule and its file is
// there; else the search for it starts anew.
static rgm_status restore_best(rgm_keep *k, const rgm_checkpoint *c, FILE *notes) {
  rgm_best *best = &k->run->best;
  const char *metric = rgm_checkpoint_attribute(c, "best_metric");
  const char *mode = rgm_checkpoint_attribute(c, "best_mode");
  const char *value = rgm_checkpoint_attribute(c, "best_value");
  const char *step = rgm_checkpoint_attribute(c, "best_step");
  if (best->metric[0] == '\0' || metric == NULL || mode == NULL || value == NULL || step == NULL ||
      strcmp(metric, best->metric) != 0 || strcmp(mode, best->is_min ? "min" : "max") != 0 ||
      value[0] == '\0') {
    return RGM_OK;
  }
  best->value = strtod(value, NULL);
  best->step = strtoull(step, NULL, 10);

  // a file of a later step is what a run that died left behind: it comes to it again
  char path[4096];
  rgm_checkpoint *file = NULL;
  snprintf(path, sizeof path, "%s/" RGM_BEST_NAME, k->folder);
  const rgm_status status = rgm_checkpoint_read(path, &file);
  best->any = status == RGM_OK && file->step >= best->step;
  if (status != RGM_OK && status != RGM_EDATA && access(path, F_OK) == 0) {
    return status; // it may be readable another time
  }
  if (!best->any && notes != NULL) {
    fprintf(notes, "the best checkpoint, of step %llu, is lost and sought anew: %s\n",
            (unsigned long long)best->step,
            status != RGM_OK ? rgm_last_error() : "its file is of another step");
  }
  rgm_checkpoint_free(file);
  return RGM_OK;
}


rgm_status rgm_keep_look(rgm_keep *k) {
  rgm_best *best = &k->run->best;
  double mean;
  if (best->metric[0] == '\0') {
    return RGM_OK;
  }
  if (rgm_metrics_mean(k->run->metrics, best->metric, &mean) != RGM_OK) {
    char reason[1024];
    snprintf(reason, sizeof reason, "%s", rgm_last_error());
    return rgm_fail(RGM_ECONFIG, "%s: run.keep_best: %s",
                    rgm_config_where(k->run->config, "run.keep_best"), reason);
  }
  const bool better = best->is_min ? mean < best->value : mean > best->value;
  if (!isfinite(mean) || (best->any && !better)) {
    return RGM_OK;
  }
  best->any = true;
  best->value = mean;
  best->step = k->run->step;
  rgm_checkpoint_free(k->best);
  k->best = NULL;
  return rgm_run_snapshot(k->run, &k->best);
}


rgm_status rgm_keep_save_best(rgm_keep *k) {
  char path[4096];
  if (k->best == NULL) {
    return RGM_OK;
  }
  snprintf(path, sizeof path, "%s/" RGM_BEST_NAME, k->folder);
  RGM_TRY(rgm_checkpoint_write(path, k->best));
  rgm_checkpoint_free(k->best);
  k->best = NULL;
  return RGM_OK;
}


// ---- checkpoints -------------------------------------------------------------------------------

rgm_status rgm_keep_resume(rgm_keep *k, rgm_run *run, FILE *notes) {
  rgm_checkpoint *checkpoint = NULL, *state = NULL;
  char path[4096];
  k->run = run;
  choose_best(run);
  const uint64_t until = (uint64_t)run->keys.steps;
  RGM_TRY(rgm_checkpoint_sweep(k->folder));
  RGM_TRY(
      rgm_checkpoint_resumable(k->folder, until, notes, path, sizeof path, &checkpoint, &state));
  if (checkpoint == NULL) {
    return RGM_OK;
  }
  rgm_status status = rgm_run_restore(run, checkpoint, true);
  if (status == RGM_OK && state != NULL) {
    status = rgm_run_restore_state(run, state);
  } else if (status == RGM_OK && rgm_run_has_private(run) && run->step < until) {
    status = rgm_fail(RGM_EDATA,
                      "%s: it has no private state, which this version of %s needs to go on: start "
                      "a new run from its weights with run.init_from",
                      path, run->algorithm->name);
  }
  if (status == RGM_OK) {
    snprintf(k->newest, sizeof k->newest, "%s", path);
    snprintf(k->digest, sizeof k->digest, "%s", run->restored_digest);
    status = restore_best(k, checkpoint, notes);
  }

  // what a run that died just before its end did not come to
  if (status == RGM_OK && run->step >= until) {
    status = rgm_checkpoint_prune(k->folder, run->keys.keep, false);
  }
  rgm_checkpoint_free(checkpoint);
  rgm_checkpoint_free(state);
  return status;
}


// the private state, then the best, then the checkpoint that tells of both
static rgm_status write_files(rgm_keep *k, const rgm_checkpoint *checkpoint,
                              const rgm_checkpoint *state, const char *path) {
  char state_path[4200];
  if (state != NULL) {
    rgm_state_path(path, state->step, state_path, sizeof state_path);
    RGM_TRY(rgm_checkpoint_write(state_path, state));
  }
  RGM_TRY(rgm_keep_save_best(k));
  return rgm_checkpoint_write(path, checkpoint);
}


rgm_status rgm_keep_save(rgm_keep *k, bool done) {
  rgm_run *run = k->run;
  rgm_checkpoint *checkpoint = NULL, *state = NULL;
  char path[4096];
  RGM_TRY(rgm_guard(run));
  if (rgm_metrics_sync(run->metrics) != RGM_OK) {
    char reason[1024];
    snprintf(reason, sizeof reason, "%s", rgm_last_error());
    return rgm_fail(RGM_EIO, "%s/%s; free space or check the disk, then go on with --resume",
                    k->folder, reason);
  }
  RGM_TRY(rgm_run_snapshot_pair(run, done, &checkpoint, &state));
  snprintf(path, sizeof path, "%s/checkpoint-%llu.h5", k->folder, (unsigned long long)run->step);
  rgm_status status = write_files(k, checkpoint, state, path);
  if (status == RGM_OK) {
    snprintf(k->newest, sizeof k->newest, "%s", path);
    snprintf(k->digest, sizeof k->digest, "%s", rgm_checkpoint_attribute(checkpoint, "digest"));
    status = rgm_checkpoint_prune(k->folder, run->keys.keep, !done);
  }
  rgm_checkpoint_free(checkpoint);
  rgm_checkpoint_free(state);
  return status;
}
