// SPDX-License-Identifier: Apache-2.0
// `regimen train`: the run folder, the loop over steps, progress, signals, checkpoints and
// resuming.

#include "engine/engine.h"
#include "engine/keep.h"
#include "engine/load.h"
#include "engine/profile.h"
#include "engine/regimen.h"
#include "engine/transitions.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

typedef struct trainer {
  const rgm_options *options;
  rgm_run *run;
  char folder[2048];
  rgm_keep keep; // the files of the folder
  FILE *log;
  uint64_t first;        // step that this process started at
  double begun, printed; // s
} trainer;


// a line with the date, for people; nothing that is compared
static void note(trainer *t, const char *text) {
  char date[32];
  const time_t now = time(NULL);
  struct tm parts;
  strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &parts));
  fprintf(t->log, "%s %s\n", date, text);
  fflush(t->log);
}


// ---- folder ------------------------------------------------------------------------------------

static rgm_status write_text(const char *folder, const char *name, const char *text) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  bool good = file != NULL && fputs(text, file) >= 0;
  good = file != NULL && fclose(file) == 0 && good;
  return good ? RGM_OK : rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
}


// fine-tuning: the weights of another run
static rgm_status start_from(const trainer *t) {
  rgm_options other = {.path = t->run->keys.init_from, .progress = t->options->progress};
  rgm_config *config = NULL;
  rgm_checkpoint *checkpoint = NULL;
  RGM_TRY(rgm_load_config(&other, &config, &checkpoint));
  rgm_config_free(config);
  const rgm_status status = checkpoint != NULL
                                ? rgm_run_init_from(t->run, checkpoint)
                                : rgm_fail(RGM_EUSAGE, "run.init_from: %s is a config, not a run",
                                           t->run->keys.init_from);
  rgm_checkpoint_free(checkpoint);
  return status;
}


// what resuming passed over, for people who watch and for the log
static rgm_status resume(trainer *t) {
  char *text = NULL;
  size_t size = 0;
  FILE *notes = open_memstream(&text, &size);
  if (notes == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the notes of a resumption");
  }
  const rgm_status status = rgm_keep_resume(&t->keep, t->run, notes);
  fclose(notes);
  if (size > 0) {
    text[size - 1] = '\0'; // the last line's end
    note(t, text);
    if (t->options->progress != NULL) {
      fprintf(t->options->progress, "%s\n", text);
    }
  }
  free(text);
  return status;
}


static rgm_status open_folder(trainer *t) {
  rgm_run *run = t->run;
  if (t->options->out != NULL) {
    snprintf(t->folder, sizeof t->folder, "%s", t->options->out);
  } else {
    snprintf(t->folder, sizeof t->folder, "runs/%s", run->keys.name);
  }
  RGM_TRY(rgm_make_folder(t->folder));
  RGM_TRY(rgm_keep_lock(&t->keep, t->folder));
  char path[4096];
  snprintf(path, sizeof path, "%s/log.txt", t->folder);
  t->log = fopen(path, "a");
  if (t->log == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  if (!t->options->resume) {
    rgm_checkpoint *other = NULL;
    RGM_TRY(rgm_checkpoint_newest(t->folder, t->options->progress, path, sizeof path, &other));
    const unsigned long long step = other != NULL ? other->step : 0;
    rgm_checkpoint_free(other);
    if (other != NULL) {
      return rgm_fail(RGM_EUSAGE,
                      "%s already holds a run at step %llu; --resume goes on with it, --out or "
                      "--set run.name=NAME starts another",
                      t->folder, step);
    }
  }
  RGM_TRY(resume(t));
  if (t->keep.newest[0] == '\0' && run->keys.init_from[0] != '\0') {
    RGM_TRY(start_from(t));
  }
  t->first = run->step;
  char *text = rgm_config_emit(run->config, false);
  const rgm_status status = text != NULL ? write_text(t->folder, "config.yaml", text)
                                         : rgm_fail(RGM_EMEMORY, "no memory for the config");
  free(text);
  RGM_TRY(status);
  return rgm_metrics_open(t->folder, run->step, &run->metrics);
}


static rgm_status save(trainer *t) {
  char text[4200];
  RGM_TRY(rgm_keep_save(&t->keep, t->run->step == (uint64_t)t->run->keys.steps));
  snprintf(text, sizeof text, "wrote %s, digest %s", t->keep.newest, t->keep.digest);
  note(t, text);
  return RGM_OK;
}


// ---- progress ----------------------------------------------------------------------------------

static void format_time(double s, char text[32]) {
  if (s >= 3600) {
    snprintf(text, 32, "%dh%02dm", (int)(s / 3600), (int)fmod(s / 60, 60));
  } else if (s >= 60) {
    snprintf(text, 32, "%dm%02ds", (int)(s / 60), (int)fmod(s, 60));
  } else {
    snprintf(text, 32, "%.1fs", s);
  }
}


static void show_progress(trainer *t, bool last) {
  FILE *out = t->options->progress;
  const rgm_run *run = t->run;
  const double now = rgm_seconds(), interval = t->options->terminal ? 0.2 : 5.0;
  if (out == NULL || (!last && now - t->printed < interval)) {
    return;
  }
  t->printed = now;
  const uint64_t total = (uint64_t)run->keys.steps, done = run->step - t->first;
  const double rate = done > 0 ? (double)done / (now - t->begun) : 0.0;
  const char *metric;
  const double headline = rgm_metrics_headline(run->metrics, &metric);
  char eta[32] = "?";
  if (rate > 0) {
    format_time((double)(total - run->step) / rate, eta);
  }
  fprintf(out, "%sstep %llu/%llu %3.0f %%  %.0f steps/s", t->options->terminal ? "\r\033[K" : "",
          (unsigned long long)run->step, (unsigned long long)total,
          total > 0 ? 100.0 * (double)run->step / (double)total : 100.0, rate);
  if (run->algorithm->work != NULL) {
    fprintf(out, "  %.1f M %s/s", 1e-6 * rate * run->algorithm->work(run),
            run->algorithm->work_unit);
  }
  fprintf(out, "  ETA %s", eta);
  if (metric != NULL) {
    fprintf(out, "  %s %.2f", metric, headline);
  }
  fputs(t->options->terminal && !last ? "" : "\n", out);
  fflush(out);
}


// ---- the loop ----------------------------------------------------------------------------------

// the rows of this step; a message names the folder and what to do
static rgm_status flush_metrics(const trainer *t) {
  const rgm_status status = rgm_metrics_flush(t->run->metrics, t->run->step);
  return status != RGM_EIO ? status
                           : rgm_fail(RGM_EIO,
                                      "%s/%s; free space or check the disk, then go on with "
                                      "--resume",
                                      t->folder, rgm_last_error());
}


// is this report the best so far?
static rgm_status look(trainer *t) {
  return t->run->algorithm->report != NULL ? rgm_keep_look(&t->keep) : RGM_OK;
}


// what a report warns of: to the log, and to who watches
static void tell_warning(trainer *t) {
  if (t->run->warning[0] == '\0') {
    return;
  }
  note(t, t->run->warning);
  if (t->options->progress != NULL) {
    fprintf(t->options->progress, "%swarning: %s\n", t->options->terminal ? "\r\033[K" : "",
            t->run->warning);
  }
  t->run->warning[0] = '\0';
}


static rgm_status loop(trainer *t) {
  rgm_run *run = t->run;
  const uint64_t total = (uint64_t)run->keys.steps;
  while (run->step < total) {
    if (t->options->stop != NULL && *t->options->stop) {
      RGM_TRY(save(t));
      show_progress(t, true);
      return rgm_fail(RGM_ESTOPPED,
                      "stopped by a signal at step %llu; the state is in %s, go on with --resume",
                      (unsigned long long)run->step, t->folder);
    }
    RGM_TRY(run->algorithm->step(run));
    run->step++;
    const bool last = run->step == total;
    if (last || run->step % (uint64_t)run->keys.report_every == 0) {
      RGM_TRY(rgm_sync(run->stream));
      if (run->algorithm->report != NULL) {
        RGM_TRY(run->algorithm->report(run));
        RGM_TRY(flush_metrics(t));
        tell_warning(t);
      }
      RGM_TRY(rgm_guard(run));
      RGM_TRY(look(t));
    }
    if (last || run->step % (uint64_t)run->keys.checkpoint_every == 0) {
      RGM_TRY(save(t));
    }
    show_progress(t, last);
  }
  return RGM_OK;
}


static void write_result(const trainer *t, double elapsed) {
  const rgm_run *run = t->run;
  const char *metric;
  const double headline = rgm_metrics_headline(run->metrics, &metric);
  if (t->options->json) {
    rgm_json json = {.out = t->options->result};
    rgm_json_open(&json, NULL, '{');
    rgm_json_string(&json, "run", t->folder);
    rgm_json_string(&json, "checkpoint", t->keep.newest);
    rgm_json_string(&json, "digest", t->keep.digest);
    rgm_json_number(&json, "step", (double)run->step);
    rgm_json_number(&json, "replicas", (double)run->replicas);
    rgm_json_number(&json, "seconds", elapsed);
    if (metric != NULL) {
      rgm_json_number(&json, metric, headline);
    }
    if (t->options->profile) {
      rgm_profile_json(run->stream, elapsed, &json);
    }
    rgm_json_close(&json, '}');
  } else {
    char took[32];
    format_time(elapsed, took);
    fprintf(t->options->result, "%s: step %llu in %s, digest %.16s\n", t->folder,
            (unsigned long long)run->step, took, t->keep.digest);
    if (t->options->profile) {
      rgm_profile_print(run->stream, elapsed, t->options->result);
    }
  }
}


// what is learned from and what was left out of it, for people who watch and for the log
static rgm_status tell_data(trainer *t) {
  char *text = NULL;
  size_t size = 0;
  if (t->run->transitions == NULL) {
    return RGM_OK;
  }
  FILE *lines = open_memstream(&text, &size);
  if (lines == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for what is told of the data");
  }
  rgm_transitions_print(t->run->transitions, lines);
  fclose(lines);
  if (t->options->progress != NULL) {
    fputs(text, t->options->progress);
  }
  text[size > 0 ? size - 1 : 0] = '\0'; // the last line's end
  note(t, text);
  free(text);
  return RGM_OK;
}


static rgm_status train(trainer *t, rgm_config *config) {
  RGM_TRY(rgm_run_create(config, &t->run));
  rgm_run *run = t->run;
  if (run->algorithm->step == NULL) {
    return rgm_fail(RGM_EUSAGE, "%s trains nothing; use `regimen eval %s`", run->algorithm->name,
                    t->options->path);
  }
  RGM_TRY(open_folder(t));
  char text[1024];
  snprintf(text, sizeof text, "%s, %s on %s, step %llu of %lld", rgm_version_text(),
           run->algorithm->name, run->device, (unsigned long long)run->step,
           (long long)run->keys.steps);
  note(t, text);
  if (t->options->progress != NULL) {
    fprintf(t->options->progress,
            "%s: %s on %s\n%.1f MiB of tensors, %lld replica%s, run folder %s\n",
            rgm_version_text(), run->algorithm->name, run->device,
            (double)rgm_arena_bytes(run->arena) / 0x1p20, (long long)run->replicas,
            run->replicas == 1 ? "" : "s", t->folder);
    if (run->step > 0) {
      fprintf(t->options->progress, "resumed at step %llu of %lld\n", (unsigned long long)run->step,
              (long long)run->keys.steps);
    }
  }
  RGM_TRY(tell_data(t));
  if (t->options->profile) {
    rgm_profile_start(run->stream);
  }
  t->begun = t->printed = rgm_seconds();
  const rgm_status status = loop(t);
  if (status != RGM_OK) {
    // what failed is told, whatever becomes of the best so far
    char why[2048];
    snprintf(why, sizeof why, "%s", rgm_last_error());
    note(t, why);
    (void)rgm_keep_save_best(&t->keep);
    return rgm_fail(status, "%s", why);
  }
  note(t, "done");
  write_result(t, rgm_seconds() - t->begun);
  return RGM_OK;
}


rgm_status rgm_train(const rgm_options *options) {
  trainer t = {.options = options, .keep = {.lock = -1}};
  rgm_config *config = NULL;
  rgm_status status = rgm_load_config(options, &config, NULL);
  if (status == RGM_OK) {
    status = train(&t, config);
  }
  rgm_run_free(t.run);
  if (t.log != NULL) {
    fclose(t.log);
  }
  rgm_keep_close(&t.keep);
  return status;
}
