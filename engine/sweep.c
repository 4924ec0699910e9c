// SPDX-License-Identifier: Apache-2.0
// `regimen sweep`: a worker. It joins the sweep's folder, claims brackets, packs trials that are
// ready side by side on the replica axis, runs the pack until the first of them is at its rung, and
// packs anew: trials that were stopped are gone, those that go on stand together with new ones.

#include "engine/sweep.h"

#include "engine/keep.h"
#include "engine/load.h"
#include "engine/pack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const double SAVE_EVERY = 1.0, SHOW_EVERY = 0.25, TELL_EVERY = 2.0; // s
static const double POLL_FIRST = 0.02, POLL_MOST = 0.5, ASK_EVERY = 0.25;


void rgm_sweep_log(const rgm_sweep *s, const char *format, ...) {
  char path[4200], text[1024], line[1200], date[32];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  const time_t now = time(NULL);
  struct tm parts;
  strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", localtime_r(&now, &parts));
  const int n = snprintf(line, sizeof line, "%s pid %ld: %s\n", date, (long)getpid(), text);
  snprintf(path, sizeof path, "%s/log.txt", s->folder);
  // one write, so that lines of many workers do not mix
  const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd >= 0) {
    const ssize_t written = write(fd, line, (size_t)n);
    (void)written;
    close(fd);
  }
}


// ---- the folder --------------------------------------------------------------------------------

// run.steps in rungs
static rgm_status plan_rungs(rgm_sweep *s) {
  const rgm_sweep_keys *k = &s->space->keys;
  const uint64_t steps = (uint64_t)s->space->run->keys.steps;
  const bool pbt = k->scheduler == RGM_SCHEDULE_PBT;
  double first = (double)k->first;
  if (first == 0) {
    first = pbt ? ceil((double)steps / 20) : ceil((double)steps / (k->reduction * k->reduction));
  }
  if (steps == 0 || s->space->run->algorithm->step == NULL) {
    return rgm_fail(RGM_EUSAGE, "a sweep trains: %s has %s", s->space->run->algorithm->name,
                    steps == 0 ? "run.steps: 0" : "nothing to train");
  }
  if (first >= (double)steps && k->scheduler != RGM_SCHEDULE_NONE) {
    return rgm_space_fail(s->space, NULL, "first", "no comparison before run.steps; lower it");
  }
  s->rung_step = calloc(65536, sizeof *s->rung_step);
  if (s->rung_step == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the sweep");
  }
  for (double at = first; k->scheduler != RGM_SCHEDULE_NONE && at < (double)steps;
       at = pbt ? at + first : at * k->reduction) {
    if (s->rungs == 65535) {
      return rgm_space_fail(s->space, NULL, "first", "more than 65,535 comparisons; raise it");
    }
    // a small factor may not come to the next whole step
    if (s->rungs == 0 || s->rung_step[s->rungs - 1] != (uint64_t)at) {
      s->rung_step[s->rungs++] = (uint64_t)at;
    }
  }
  s->rung_step[s->rungs++] = steps;
  return RGM_OK;
}


static void choose_metric(rgm_sweep *s) {
  const rgm_sweep_keys *k = &s->space->keys;
  const rgm_algorithm *a = s->space->run->algorithm;
  const bool automatic = strcmp(k->metric, "auto") == 0;
  const char *metric = automatic ? (a->best_metric != NULL ? a->best_metric : "") : k->metric;
  snprintf(s->metric, sizeof s->metric, "%.47s", metric);
  const bool own = a->best_metric != NULL && strcmp(metric, a->best_metric) == 0;
  s->is_min = k->mode == 0 ? own && a->best_is_min : k->mode == 2;
}


// the file that makes a folder a sweep's is made by one process only, whole
static rgm_status found(rgm_sweep *s, bool *ours) {
  char path[4200], temporary[4200], *text = rgm_space_emit(s->space), *whole = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&whole, &size);
  rgm_status status = text != NULL && out != NULL ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory");
  if (out != NULL) {
    fprintf(out, "# sweep %s\n%s", s->space->digest, text != NULL ? text : "");
    fclose(out);
  }
  snprintf(path, sizeof path, "%s/sweep.yaml", s->folder);
  snprintf(temporary, sizeof temporary, "%s/work/sweep-%ld.yaml", s->folder, (long)getpid());
  if (status == RGM_OK) {
    status = rgm_sweep_write_text(temporary, whole, size);
  }
  if (status == RGM_OK) {
    *ours = link(temporary, path) == 0;
    if (!*ours && errno != EEXIST) {
      status = rgm_fail(RGM_EIO, "%s: %s; choose another --out", path, strerror(errno));
    }
  }
  unlink(temporary);
  free(whole);
  free(text);
  // others made it, and may even have ended the sweep and removed work/
  return access(path, F_OK) == 0 ? RGM_OK : status;
}


// --resume, or the folder itself was named
static bool may_join(const rgm_sweep *s) {
  return s->options->resume || strcmp(s->folder, s->options->path) == 0;
}


static rgm_status already_there(const rgm_sweep *s) {
  return rgm_fail(RGM_EUSAGE,
                  "%s already holds this sweep; --resume joins or goes on with it, --status looks "
                  "at it, --out starts another",
                  s->folder);
}


static rgm_status join_folder(rgm_sweep *s) {
  char path[4200], *text = NULL, digest[65] = "";
  bool ours = false;
  snprintf(path, sizeof path, "%s/sweep.yaml", s->folder);
  if (access(path, F_OK) != 0) {
    RGM_TRY(rgm_make_folder(s->work));
    RGM_TRY(found(s, &ours));
  }
  RGM_TRY(rgm_sweep_read_text(path, &text));
  (void)sscanf(text, "# sweep %64s", digest);
  free(text);
  if (strcmp(digest, s->space->digest) != 0) {
    return rgm_fail(RGM_EUSAGE,
                    "%s holds another sweep (sweep.yaml); choose another --out or "
                    "run.name",
                    s->folder);
  }
  return ours || may_join(s) ? rgm_make_folder(s->work) : already_there(s);
}


// reads the config and plans, without touching the folder
static rgm_status load(rgm_sweep *s, const rgm_options *options) {
  char path[4200];
  rgm_options from = *options;
  struct stat info;
  s->options = options;
  if (options->path != NULL && stat(options->path, &info) == 0 && S_ISDIR(info.st_mode)) {
    snprintf(path, sizeof path, "%s/sweep.yaml", options->path);
    if (access(path, F_OK) != 0) {
      return rgm_fail(RGM_EUSAGE, "%s: no sweep in this folder (no sweep.yaml)", options->path);
    }
    snprintf(s->folder, sizeof s->folder, "%s", options->path);
    from.path = path;
  }
  rgm_config *config = NULL;
  RGM_TRY(rgm_load_config(&from, &config, NULL));
  RGM_TRY(rgm_space_create(config, &s->space));
  if (options->out != NULL) {
    snprintf(s->folder, sizeof s->folder, "%s", options->out);
  } else if (s->folder[0] == '\0') {
    snprintf(s->folder, sizeof s->folder, "runs/%s", s->space->run->keys.name);
  }
  snprintf(s->work, sizeof s->work, "%s/work", s->folder);
  const int64_t bracket = s->space->keys.bracket;
  s->units = (s->space->points + bracket - 1) / bracket;
  choose_metric(s);
  return plan_rungs(s);
}


static void close_sweep(rgm_sweep *s) {
  for (int i = 0; i < s->bracket_count; i++) {
    rgm_bracket_free(s, s->brackets[i]);
  }
  rgm_claims_close(&s->claims);
  rgm_close(s->stream);
  for (int i = 0; i < s->group_count; i++) {
    free(s->groups[i]);
  }
  free(s->groups);
  free(s->brackets);
  free(s->rung_step);
  rgm_space_free(s->space);
}


// ---- brackets of this worker -------------------------------------------------------------------

static bool stopped(const rgm_sweep *s) {
  return s->options->stop != NULL && *s->options->stop;
}


// takes a unit on, if it is free and not finished; *got tells
static rgm_status claim(rgm_sweep *s, int64_t unit, bool *got) {
  char path[4200];
  int generation = -1;
  *got = false;
  if (rgm_sweep_part(s, unit, path, sizeof path)) {
    return RGM_OK;
  }
  RGM_TRY(rgm_claim_take(&s->claims, unit, &generation));
  if (generation < 0) {
    return RGM_OK;
  }
  // its owner may have finished it between our look and our claim
  if (rgm_sweep_part(s, unit, path, sizeof path) || rgm_sweep_is_done(s)) {
    rgm_claim_release(&s->claims, unit);
    return RGM_OK;
  }
  rgm_bracket **grown = realloc(s->brackets, (size_t)(s->bracket_count + 1) * sizeof *grown);
  if (grown == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a bracket");
  }
  s->brackets = grown;
  s->brackets[s->bracket_count] = NULL;
  s->bracket_count++;
  *got = true;
  return rgm_bracket_open(s, unit, generation, &s->brackets[s->bracket_count - 1]);
}


static void forget(rgm_sweep *s, int i) {
  rgm_bracket_free(s, s->brackets[i]);
  s->brackets[i] = s->brackets[--s->bracket_count];
}


// a bracket whose trials are all at their end: kept checkpoints, then the part that ends it
static rgm_status finish(rgm_sweep *s, int i) {
  const rgm_bracket *b = s->brackets[i];
  const int64_t unit = b->unit;
  RGM_TRY(rgm_pack_write_kept(s, b));
  RGM_TRY(rgm_bracket_write_part(s, b));
  rgm_sweep_log(s, "bracket %lld: finished, generation %d", (long long)unit, b->generation);
  rgm_claim_release(&s->claims, unit);
  forget(s, i);
  return RGM_OK;
}


static void tell(rgm_sweep *s, const rgm_bracket *b) {
  char note[RGM_CLAIM_NOTE];
  int ended = 0, best = -1;
  uint64_t least = UINT64_MAX;
  double top = NAN;
  for (int i = 0; i < b->count; i++) {
    const rgm_entrant *e = &b->trials[i];
    ended += e->status > RGM_TRIAL_RESTING;
    least = e->status <= RGM_TRIAL_RESTING && e->step < least ? e->step : least;
    for (int k = 0; k <= e->rung; k++) {
      const double x = rgm_entrant_score(s, e, k);
      if (rgm_sweep_better(s, x, top)) {
        top = x;
        best = i;
      }
    }
  }
  snprintf(note, sizeof note,
           "%d of %d trials ended, the others at step %llu and on, best %.6g (trial %lld)", ended,
           b->count, (unsigned long long)(least == UINT64_MAX ? 0 : least), top,
           best >= 0 ? (long long)b->trials[best].index : -1LL);
  rgm_claim_note(&s->claims, b->unit, note);
}


// decides what can be decided, ends what has ended, drops what others took over
static rgm_status settle(rgm_sweep *s) {
  for (int i = s->bracket_count - 1; i >= 0; i--) {
    rgm_bracket *b = s->brackets[i];
    if (!rgm_claim_held(&s->claims, b->unit, b->generation)) {
      rgm_sweep_log(s, "bracket %lld: taken over by another worker", (long long)b->unit);
      rgm_claim_release(&s->claims, b->unit);
      forget(s, i);
      continue;
    }
    if (rgm_bracket_ready(b) == 0) {
      RGM_TRY(rgm_bracket_decide(s, b));
      tell(s, b);
    }
    if (rgm_bracket_ended(b)) {
      RGM_TRY(finish(s, i));
    }
  }
  return RGM_OK;
}


static int64_t ready_replicas(const rgm_sweep *s) {
  int64_t ready = 0;
  for (int i = 0; i < s->bracket_count; i++) {
    ready += rgm_bracket_ready(s->brackets[i]) * s->space->keys.seeds;
  }
  return ready;
}


// Brackets for a full pack: one at a time once there is something to do, so that workers that start
// together share them; where none was free, others are asked again only after a while.
static rgm_status fill(rgm_sweep *s) {
  if (rgm_seconds() < s->ask) {
    return RGM_OK;
  }
  bool got = false;
  for (int64_t unit = 0; unit < s->units && !got && ready_replicas(s) < s->capacity; unit++) {
    bool ours = false;
    for (int i = 0; i < s->bracket_count; i++) {
      ours = ours || s->brackets[i]->unit == unit;
    }
    if (!ours) {
      RGM_TRY(claim(s, unit, &got));
    }
  }
  s->ask = got || ready_replicas(s) >= s->capacity ? 0 : rgm_seconds() + ASK_EVERY;
  return RGM_OK;
}


static rgm_status save_all(rgm_sweep *s) {
  for (int i = 0; i < s->bracket_count; i++) {
    const rgm_bracket *b = s->brackets[i];
    bool any = false;
    for (int k = 0; k < b->count; k++) {
      any = any || b->trials[k].state != NULL;
    }
    if (any && rgm_claim_held(&s->claims, b->unit, b->generation)) {
      RGM_TRY(rgm_bracket_save(s, b));
    }
  }
  s->saved = rgm_seconds();
  return RGM_OK;
}


// ---- the loop ----------------------------------------------------------------------------------

rgm_status rgm_sweep_pulse(rgm_sweep *s) {
  FILE *out = s->options->progress;
  const double now = rgm_seconds();
  if (now > s->tell) {
    s->tell = now + TELL_EVERY;
    for (int i = 0; i < s->bracket_count; i++) {
      tell(s, s->brackets[i]);
    }
  }
  if (out == NULL || now < s->show) {
    return RGM_OK;
  }
  // over the table of before in a terminal; never more than a tenth of the time
  if (s->options->terminal && s->shown_lines > 0) {
    fprintf(out, "\033[%dA\033[J", s->shown_lines);
  }
  const rgm_status status = rgm_sweep_show(s, out, false, &s->shown_lines);
  const double end = rgm_seconds(), pause = s->options->terminal ? SHOW_EVERY : 5.0;
  s->show = end + (10 * (end - now) > pause ? 10 * (end - now) : pause);
  return status;
}


// whether a trial that is ready can be in a pack with `like`
static bool goes_with(const rgm_sweep *s, const rgm_entrant *e, const rgm_entrant *like) {
  const bool timeless = (s->space->run->algorithm->needs & RGM_TIMELESS) != 0;
  return e->status == RGM_TRIAL_READY && e->group == like->group &&
         (timeless || e->step == like->step);
}


// the trials that are ready and go with `like`, in order, into `set`, which may be NULL
static int company(const rgm_sweep *s, const rgm_entrant *like, rgm_entrant **set, int max) {
  int count = 0;
  for (int i = 0; i < s->bracket_count; i++) {
    for (int k = 0; k < s->brackets[i]->count && count < max; k++) {
      rgm_entrant *e = &s->brackets[i]->trials[k];
      if (goes_with(s, e, like)) {
        if (set != NULL) {
          set[count] = e;
        }
        count++;
      }
    }
  }
  return count;
}


// Trials that are ready and can be in one pack, the most that there are, in order; as many as it
// holds.
static int choose(const rgm_sweep *s, rgm_entrant **set, int max) {
  const rgm_entrant *best = NULL, *last = NULL;
  int most = 0;
  for (int i = 0; i < s->bracket_count; i++) {
    for (int k = 0; k < s->brackets[i]->count; k++) {
      const rgm_entrant *e = &s->brackets[i]->trials[k];
      if (e->status != RGM_TRIAL_READY || (last != NULL && goes_with(s, e, last))) {
        continue;
      }
      last = e;
      const int ready = company(s, e, NULL, INT_MAX);
      if (ready > most) {
        most = ready;
        best = e;
      }
    }
  }
  return best != NULL ? company(s, best, set, max) : 0;
}


static rgm_status prepare_all(rgm_sweep *s) {
  for (int i = 0; i < s->bracket_count; i++) {
    for (int k = 0; k < s->brackets[i]->count; k++) {
      if (s->brackets[i]->trials[k].status == RGM_TRIAL_READY) {
        RGM_TRY(rgm_entrant_prepare(s, &s->brackets[i]->trials[k]));
      }
    }
  }
  return RGM_OK;
}


// one pack, until its first trial is at its rung or it is time to save
static rgm_status advance(rgm_sweep *s) {
  const int64_t seeds = s->space->keys.seeds;
  const int64_t max = s->capacity / seeds > 0 ? s->capacity / seeds : 1;
  RGM_TRY(prepare_all(s));
  rgm_entrant **set = calloc((size_t)max, sizeof *set);
  if (set == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a pack");
  }
  const int count = choose(s, set, (int)max);
  rgm_status status = rgm_pack_advance(s, set, count, s->saved + SAVE_EVERY);
  free(set);
  RGM_TRY(status);
  if (rgm_seconds() - s->saved > SAVE_EVERY) {
    RGM_TRY(save_all(s));
  }
  return RGM_OK;
}


// brings the results together, if nobody else does
static rgm_status conclude(rgm_sweep *s) {
  int generation;
  RGM_TRY(rgm_claim_take(&s->claims, s->units, &generation));
  if (generation < 0 || rgm_sweep_is_done(s)) {
    return RGM_OK;
  }
  const rgm_status status = rgm_sweep_conclude(s);
  if (status != RGM_OK && rgm_sweep_is_done(s)) {
    return RGM_OK; // by another one, which took us for dead
  }
  if (status == RGM_OK) {
    rgm_sweep_log(s, "the sweep is done: %lld trials", (long long)s->space->points);
  }
  return status;
}


static rgm_status work(rgm_sweep *s) {
  double idle = POLL_FIRST;
  s->saved = rgm_seconds();
  while (!rgm_sweep_is_done(s)) {
    if (stopped(s)) {
      RGM_TRY(save_all(s));
      return rgm_fail(RGM_ESTOPPED, "stopped by a signal; the sweep is in %s, go on with --resume",
                      s->folder);
    }
    RGM_TRY(settle(s));
    RGM_TRY(fill(s));
    if (ready_replicas(s) > 0) {
      idle = POLL_FIRST;
      RGM_TRY(advance(s));
      continue;
    }
    if (s->bracket_count > 0) {
      continue; // all at a rung: the next round decides
    }

    // nothing to do: all is finished, or in the hands of others
    bool all = true;
    for (int64_t unit = 0; unit < s->units && all; unit++) {
      char path[4200];
      all = rgm_sweep_part(s, unit, path, sizeof path);
    }
    if (all) {
      RGM_TRY(conclude(s));
    }
    if (rgm_sweep_is_done(s)) {
      break;
    }
    const struct timespec pause = {0, (long)(1e9 * idle)};
    nanosleep(&pause, NULL);
    idle = 2 * idle < POLL_MOST ? 2 * idle : POLL_MOST;
    RGM_TRY(rgm_sweep_pulse(s));
  }
  return RGM_OK;
}


static rgm_status start(rgm_sweep *s) {
  rgm_run *run = s->space->run;
  RGM_TRY(rgm_run_open_stream(run, &s->stream));
  snprintf(s->device, sizeof s->device, "%s", run->device);
  RGM_TRY(rgm_pack_check_metric(s));
  RGM_TRY(rgm_pack_size(s));
  RGM_TRY(join_folder(s));
  if (rgm_sweep_is_done(s)) {
    rgm_sweep_tidy(s);
    return RGM_OK;
  }
  RGM_TRY(rgm_claims_open(&s->claims, s->work, s->space->keys.lease));
  rgm_sweep_log(s, "%s joins: %s, packs of %lld replicas", rgm_version_text(), s->device,
                (long long)s->capacity);
  if (s->options->progress != NULL) {
    fprintf(s->options->progress, "%s: %lld trials of %s, %lld seed%s each, on %s\n",
            rgm_version_text(), (long long)s->space->points, run->algorithm->name,
            (long long)s->space->keys.seeds, s->space->keys.seeds == 1 ? "" : "s", s->device);
  }
  return work(s);
}


rgm_status rgm_sweep_run(const rgm_options *options) {
  rgm_sweep s = {0};
  rgm_status status = load(&s, options);
  if (status == RGM_OK) {
    status = start(&s);
  }
  if (status != RGM_OK && s.claims.beating) {
    char why[2048];
    snprintf(why, sizeof why, "%s", rgm_last_error());
    rgm_sweep_log(&s, "%s", why);
    status = rgm_fail(status, "%s", why);
  }
  // whoever ends last leaves nothing of all the claims and looks at the end of a sweep
  rgm_claims_close(&s.claims);
  if (status == RGM_OK) {
    rgm_sweep_tidy(&s);
  }
  if (status == RGM_OK && options->result != NULL) {
    status = rgm_sweep_show(&s, options->result, options->json, NULL);
  }
  close_sweep(&s);
  return status;
}


// groups of all trials, as far as they are checked one by one
static rgm_status count_groups(rgm_sweep *s) {
  enum { COUNTED = 4096 };
  for (int64_t i = 0; i < s->space->points && i < COUNTED; i++) {
    rgm_entrant e = {.index = i};
    rgm_status status = rgm_space_point(s->space, i, e.values);
    if (status == RGM_OK) {
      status = rgm_entrant_prepare(s, &e);
    }
    rgm_run_free(e.member);
    for (int d = 0; d < s->space->dim_count; d++) {
      free(e.values[d]);
    }
    RGM_TRY(status);
  }
  return RGM_OK;
}


rgm_status rgm_sweep_check(const rgm_options *options) {
  rgm_sweep s = {0};
  FILE *out = options->result;
  rgm_status status = load(&s, options);
  if (status == RGM_OK) {
    status = rgm_run_open_stream(s.space->run, &s.stream);
  }
  if (status == RGM_OK) {
    status = rgm_pack_check_metric(&s);
  }
  if (status == RGM_OK) {
    status = rgm_pack_size(&s);
  }
  if (status == RGM_OK) {
    status = count_groups(&s);
  }
  if (status == RGM_OK) {
    const rgm_space *space = s.space;
    fprintf(out, "device       %s\n", space->run->device);
    fprintf(out, "trials       %lld (%s), %lld seed%s each, by %s (%s)\n", (long long)space->points,
            space->grid ? "a grid" : "drawn", (long long)space->keys.seeds,
            space->keys.seeds == 1 ? "" : "s", s.metric, s.is_min ? "least" : "most");
    fprintf(out, "brackets     %lld of up to %lld trials, compared at step", (long long)s.units,
            (long long)space->keys.bracket);
    for (int k = 0; k < s.rungs; k++) {
      fprintf(out, "%s %llu", k > 0 ? "," : "", (unsigned long long)s.rung_step[k]);
    }
    fprintf(out, "\npacks        of up to %lld replicas, from %d group%s of equal shapes\n",
            (long long)s.capacity, s.group_count, s.group_count == 1 ? "" : "s");
    fprintf(out, "folder       %s\n", s.folder);
  }
  close_sweep(&s);
  return status;
}


rgm_status rgm_sweep_look(const rgm_options *options, rgm_sweep_plan *out) {
  rgm_sweep s = {0};
  char path[4200];
  *out = (rgm_sweep_plan){.threads = 0};
  rgm_status status = load(&s, options);
  if (status == RGM_OK) {
    const rgm_run_keys *k = &s.space->run->keys;
    snprintf(out->folder, sizeof out->folder, "%s", s.folder);
    out->threads = (int)k->threads;
    for (int i = 0; i < k->devices.count; i++) {
      out->devices[out->device_count++] = (int)k->devices.value[i];
    }
    snprintf(path, sizeof path, "%s/sweep.yaml", s.folder);
    if (!may_join(&s) && access(path, F_OK) == 0) {
      status = already_there(&s);
    }
  }
  close_sweep(&s);
  return status;
}


rgm_status rgm_sweep_status(const rgm_options *options, FILE *out, int *lines) {
  rgm_sweep s = {0};
  char path[4200];
  rgm_status status = load(&s, options);
  if (status == RGM_OK) {
    snprintf(path, sizeof path, "%s/sweep.yaml", s.folder);
    status = access(path, F_OK) == 0
                 ? rgm_sweep_show(&s, out, options->json, lines)
                 : rgm_fail(RGM_EUSAGE, "%s: no sweep there yet; start it first", s.folder);
  }
  close_sweep(&s);
  return status;
}
