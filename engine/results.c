// SPDX-License-Identifier: Apache-2.0
// What comes out of a sweep: results.csv with a row for each trial and seed, summary.json with a
// row for each trial (mean, standard error and interquartile mean over its seeds), the winner's run
// folder, and how things stand while it runs. Nothing in the files depends on who computed what and
// when.

#include "engine/sweep.h"

#include "engine/keep.h"
#include "engine/pack.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const statuses[] = {"ready", "resting", "stopped", "failed", "done"};

// All trials, read from the parts.
typedef struct outcome {
  const rgm_sweep *s;
  rgm_bracket **brackets; // (units), NULL where there is no part yet
  rgm_entrant **order;    // (points) better ones first
  int64_t count;
} outcome;


bool rgm_sweep_is_done(const rgm_sweep *s) {
  char path[4200];
  snprintf(path, sizeof path, "%s/results.csv", s->folder);
  return access(path, F_OK) == 0;
}


// the last rung that a trial has scores of, -1 for none
static int last_rung(const rgm_sweep *s, const rgm_entrant *e) {
  int k = s->rungs - 1;
  while (k >= 0 && isnan(e->scores[k * s->space->keys.seeds])) {
    k--;
  }
  return k;
}


// further is better, then the score there, then the lower index
static bool before(const rgm_sweep *s, const rgm_entrant *a, const rgm_entrant *b) {
  const int ra = a->status == RGM_TRIAL_FAILED ? -1 : last_rung(s, a);
  const int rb = b->status == RGM_TRIAL_FAILED ? -1 : last_rung(s, b);
  if (ra != rb || ra < 0) {
    return ra != rb ? ra > rb : a->index < b->index;
  }
  const double x = rgm_entrant_score(s, a, ra), y = rgm_entrant_score(s, b, rb);
  if (rgm_sweep_better(s, x, y) || rgm_sweep_better(s, y, x)) {
    return rgm_sweep_better(s, x, y);
  }
  return a->index < b->index;
}


// merge sort, since qsort has no place for the sweep
static void sort(const rgm_sweep *s, rgm_entrant **list, rgm_entrant **work, int64_t n) {
  if (n < 2) {
    return;
  }
  const int64_t half = n / 2;
  sort(s, list, work, half);
  sort(s, list + half, work, n - half);
  memcpy(work, list, (size_t)n * sizeof *list);
  for (int64_t i = 0, k = half, at = 0; at < n; at++) {
    const bool left = k == n || (i < half && !before(s, work[k], work[i]));
    list[at] = left ? work[i++] : work[k++];
  }
}


// ---- reading -----------------------------------------------------------------------------------

static void free_outcome(outcome *o) {
  for (int64_t u = 0; o->brackets != NULL && u < o->s->units; u++) {
    rgm_bracket_free(o->s, o->brackets[u]);
  }
  free(o->brackets);
  free(o->order);
}


// a bracket as a part has it: the trials as they began, then its table over them
static rgm_status read_part(const rgm_sweep *s, int64_t unit, const char *path, rgm_bracket **out) {
  char *text = NULL;
  RGM_TRY(rgm_bracket_blank(s, unit, out));
  RGM_TRY(rgm_sweep_read_text(path, &text));
  const rgm_status status = rgm_bracket_read_table(s, *out, path, text);
  free(text);
  return status;
}


static rgm_status read_outcome(const rgm_sweep *s, outcome *o) {
  *o = (outcome){.s = s};
  o->brackets = calloc((size_t)s->units, sizeof *o->brackets);
  o->order = calloc(2 * (size_t)s->space->points, sizeof *o->order);
  if (o->brackets == NULL || o->order == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the results of a sweep");
  }
  for (int64_t u = 0; u < s->units; u++) {
    char path[4200];
    if (!rgm_sweep_part(s, u, path, sizeof path)) {
      continue;
    }
    RGM_TRY(read_part(s, u, path, &o->brackets[u]));
    for (int i = 0; i < o->brackets[u]->count; i++) {
      o->order[o->count++] = &o->brackets[u]->trials[i];
    }
  }
  sort(s, o->order, o->order + s->space->points, o->count);
  return RGM_OK;
}


// ---- numbers over seeds ------------------------------------------------------------------------

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}


void rgm_seed_summary(const float *x, int64_t n, rgm_seeds *out) {
  double *sorted = malloc((size_t)n * sizeof *sorted);
  double mean = 0, square = 0, inner = 0, weight = 0;
  *out = (rgm_seeds){NAN, NAN, NAN};
  if (sorted == NULL) {
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    sorted[i] = (double)x[i];
    mean += sorted[i] / (double)n;
  }
  for (int64_t i = 0; i < n; i++) {
    square += (sorted[i] - mean) * (sorted[i] - mean);
  }
  qsort(sorted, (size_t)n, sizeof *sorted, by_value);

  // each value covers 1 / n of the ranks; those between n / 4 and 3 n / 4 count by their share
  const double low = 0.25 * (double)n, high = 0.75 * (double)n;
  for (int64_t i = 0; i < n; i++) {
    const double share = fmin(high, (double)(i + 1)) - fmax(low, (double)i);
    inner += share > 0 ? share * sorted[i] : 0;
    weight += share > 0 ? share : 0;
  }
  out->mean = mean;
  out->error = n > 1 ? sqrt(square / (double)(n - 1) / (double)n) : NAN;
  out->iqm = inner / weight;
  free(sorted);
}


// ---- files -------------------------------------------------------------------------------------

static void write_cell(FILE *out, const char *text) {
  if (strpbrk(text, ",\"\n") == NULL) {
    fprintf(out, ",%s", text);
    return;
  }
  fputs(",\"", out);
  for (const char *c = text; *c != '\0'; c++) {
    fputs(*c == '"' ? "\"\"" : (char[]){*c, '\0'}, out);
  }
  fputc('"', out);
}


static void write_number(FILE *out, float x) {
  if (isfinite(x)) {
    fprintf(out, ",%.9g", (double)x);
  } else {
    fputc(',', out);
  }
}


static void write_rows(const rgm_sweep *s, const rgm_entrant *e, FILE *out) {
  const int64_t seeds = s->space->keys.seeds;
  const int last = last_rung(s, e);
  for (int64_t r = 0; r < seeds; r++) {
    fprintf(out, "%lld,%lld,%s,%llu", (long long)e->index,
            (long long)(rgm_space_seed(s->space, e->index) + r), statuses[e->status],
            (unsigned long long)e->step);
    write_number(out, last >= 0 ? e->scores[last * seeds + r] : NAN);
    for (int d = 0; d < s->space->dim_count; d++) {
      write_cell(out, e->values[d] != NULL ? e->values[d] : "");
    }
    if (s->space->keys.scheduler == RGM_SCHEDULE_PBT) {
      fprintf(out, ",%lld", (long long)e->parent);
    }
    fprintf(out, ",%.16s", e->digest);
    for (int k = 0; k < s->rungs - 1; k++) {
      write_number(out, e->scores[k * seeds + r]);
    }
    fputc('\n', out);
  }
}


static void write_table(const outcome *o, FILE *out) {
  const rgm_sweep *s = o->s;
  fprintf(out, "trial,seed,status,step,%s", s->metric);
  for (int d = 0; d < s->space->dim_count; d++) {
    fprintf(out, ",%s", s->space->dims[d].key);
  }
  fprintf(out, "%s,digest", s->space->keys.scheduler == RGM_SCHEDULE_PBT ? ",parent" : "");
  for (int k = 0; k < s->rungs - 1; k++) {
    fprintf(out, ",%s_%llu", s->metric, (unsigned long long)s->rung_step[k]);
  }
  fputc('\n', out);
  for (int64_t u = 0; u < s->units; u++) {
    for (int i = 0; i < o->brackets[u]->count; i++) {
      write_rows(s, &o->brackets[u]->trials[i], out);
    }
  }
}


static void write_trial(const rgm_sweep *s, const rgm_entrant *e, rgm_json *json) {
  const int64_t seeds = s->space->keys.seeds;
  const int last = last_rung(s, e);
  rgm_seeds over = {NAN, NAN, NAN};
  rgm_json_open(json, NULL, '{');
  rgm_json_number(json, "trial", (double)e->index);
  rgm_json_string(json, "status", statuses[e->status]);
  rgm_json_number(json, "step", (double)e->step);
  if (last >= 0) {
    rgm_seed_summary(e->scores + last * seeds, seeds, &over);
  }
  rgm_json_number(json, s->metric, over.mean);
  if (seeds > 1) {
    rgm_json_number(json, "standard_error", over.error);
    rgm_json_number(json, "interquartile_mean", over.iqm);
  }
  rgm_json_open(json, "values", '{');
  for (int d = 0; d < s->space->dim_count; d++) {
    if (e->values[d] != NULL) {
      rgm_json_string(json, s->space->dims[d].key, e->values[d]);
    }
  }
  rgm_json_close(json, '}');
  rgm_json_close(json, '}');
}


static void count_statuses(const outcome *o, int64_t counts[5]) {
  memset(counts, 0, 5 * sizeof *counts);
  for (int64_t i = 0; i < o->count; i++) {
    counts[o->order[i]->status]++;
  }
}


static void write_summary(const outcome *o, FILE *out) {
  const rgm_sweep *s = o->s;
  rgm_json writer = {.out = out}, *json = &writer;
  int64_t counts[5];
  count_statuses(o, counts);
  rgm_json_open(json, NULL, '{');
  rgm_json_string(json, "sweep", s->space->digest);
  rgm_json_string(json, "metric", s->metric);
  rgm_json_string(json, "mode", s->is_min ? "min" : "max");
  rgm_json_number(json, "trials", (double)s->space->points);
  rgm_json_number(json, "seeds", (double)s->space->keys.seeds);
  for (int i = RGM_TRIAL_STOPPED; i <= RGM_TRIAL_DONE; i++) {
    rgm_json_number(json, statuses[i], (double)counts[i]);
  }
  rgm_json_open(json, "ranking", '[');
  for (int64_t i = 0; i < o->count; i++) {
    write_trial(s, o->order[i], json);
  }
  rgm_json_close(json, ']');
  rgm_json_close(json, '}');
}


static int show_trial(const rgm_sweep *s, const rgm_entrant *e, FILE *out) {
  const int64_t seeds = s->space->keys.seeds;
  const int last = last_rung(s, e);
  rgm_seeds over = {NAN, NAN, NAN};
  if (last >= 0) {
    rgm_seed_summary(e->scores + last * seeds, seeds, &over);
  }
  fprintf(out, "%7lld  %-7s %8llu  %12.6g", (long long)e->index, statuses[e->status],
          (unsigned long long)e->step, over.mean);
  if (seeds > 1) {
    fprintf(out, "  %10.3g  %12.6g", over.error, over.iqm);
  }
  for (int d = 0; d < s->space->dim_count; d++) {
    fprintf(out, "  %12s", e->values[d] != NULL ? e->values[d] : "-");
  }
  fputc('\n', out);
  return 1;
}


static int show_ranking(const outcome *o, FILE *out, int64_t most) {
  const rgm_sweep *s = o->s;
  int lines = 1;
  fprintf(out, "  trial  status      step  %12.12s", s->metric);
  if (s->space->keys.seeds > 1) {
    fprintf(out, "        s.e.  interq. mean");
  }
  for (int d = 0; d < s->space->dim_count; d++) {
    const char *dot = strrchr(s->space->dims[d].key, '.');
    fprintf(out, "  %12.12s", dot + 1);
  }
  fputc('\n', out);
  for (int64_t i = 0; i < o->count && i < most; i++) {
    lines += show_trial(s, o->order[i], out);
  }
  return lines;
}


static void write_ranking(const outcome *o, FILE *out) {
  enum { MOST = 10 };
  int64_t counts[5];
  count_statuses(o, counts);
  fprintf(out, "%lld trials: %lld done, %lld stopped, %lld failed; the best by %s (%s)\n",
          (long long)o->count, (long long)counts[RGM_TRIAL_DONE],
          (long long)counts[RGM_TRIAL_STOPPED], (long long)counts[RGM_TRIAL_FAILED], o->s->metric,
          o->s->is_min ? "least" : "most");
  show_ranking(o, out, MOST);
}


// ---- kept trials -------------------------------------------------------------------------------

// where the checkpoint of a trial lies, whichever generation of its bracket wrote it
static bool find_kept(const rgm_sweep *s, const rgm_entrant *e, char *path, size_t size) {
  rgm_bracket b = {.unit = e->index / s->space->keys.bracket};
  rgm_claim_view view;
  if (rgm_claim_look(s->work, s->space->keys.lease, b.unit, &view) != RGM_OK) {
    return false;
  }
  for (b.generation = view.generation; b.generation >= 0; b.generation--) {
    rgm_pack_kept_path(s, &b, e, path, size);
    if (access(path, F_OK) == 0) {
      return true;
    }
  }
  return false;
}


static void add_attribute(rgm_checkpoint *c, const char *name, const char *format, ...)
    RGM_PRINTF(3, 4);

static void add_attribute(rgm_checkpoint *c, const char *name, const char *format, ...) {
  rgm_attribute *grown = realloc(c->attributes, (size_t)(c->attribute_count + 1) * sizeof *grown);
  va_list args;
  if (grown == NULL) {
    return;
  }
  c->attributes = grown;
  rgm_attribute *a = &grown[c->attribute_count++];
  memset(a, 0, sizeof *a);
  snprintf(a->name, sizeof a->name, "%s", name);
  va_start(args, format);
  vsnprintf(a->value, sizeof a->value, format, args);
  va_end(args);
}


// a run folder of a trial: a checkpoint that says how many were tried before it was the best
static rgm_status write_folder(const rgm_sweep *s, const rgm_entrant *e, int64_t rank) {
  char from[4200], folder[4200], path[4400];
  rgm_checkpoint *c = NULL;
  if (rank == 0) {
    snprintf(folder, sizeof folder, "%s/best", s->folder);
  } else {
    snprintf(folder, sizeof folder, "%s/trial-%lld", s->folder, (long long)e->index);
  }
  if (!find_kept(s, e, from, sizeof from)) {
    return rgm_fail(RGM_EDATA, "%s: the checkpoint of trial %lld is gone", s->work,
                    (long long)e->index);
  }
  RGM_TRY(rgm_make_folder(folder));
  RGM_TRY(rgm_checkpoint_read(from, &c));
  add_attribute(c, "sweep_digest", "%s", s->space->digest);
  add_attribute(c, "sweep_trial", "%lld", (long long)e->index);
  add_attribute(c, "sweep_trials", "%lld", (long long)s->space->points);
  add_attribute(c, "sweep_rank", "%lld", (long long)rank + 1);
  add_attribute(c, "sweep_metric", "%s %.9g", s->metric, rgm_entrant_score(s, e, s->rungs - 1));
  snprintf(path, sizeof path, "%s/checkpoint-%llu.h5", folder, (unsigned long long)c->step);
  rgm_status status = rgm_checkpoint_write(path, c);
  if (status == RGM_OK) {
    snprintf(path, sizeof path, "%s/config.yaml", folder);
    status = rgm_sweep_write_text(path, c->config, strlen(c->config));
  }
  rgm_checkpoint_free(c);
  return status;
}


void rgm_sweep_tidy(const rgm_sweep *s) {
  DIR *dir = opendir(s->work);
  struct dirent *entry;
  while (dir != NULL && (entry = readdir(dir)) != NULL) {
    char path[4400];
    if (entry->d_name[0] != '.') {
      snprintf(path, sizeof path, "%s/%s", s->work, entry->d_name);
      unlink(path);
    }
  }
  if (dir != NULL) {
    closedir(dir);
    rmdir(s->work);
  }
}


static rgm_status write_file(const outcome *o, const char *name,
                             void (*write)(const outcome *o, FILE *out)) {
  char path[4200], *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the results of a sweep");
  }
  write(o, out);
  rgm_status status =
      fclose(out) == 0 ? RGM_OK : rgm_fail(RGM_EMEMORY, "no memory for the results of a sweep");
  if (status == RGM_OK) {
    snprintf(path, sizeof path, "%s/%s", o->s->folder, name);
    status = rgm_sweep_write_text(path, text, size);
  }
  free(text);
  return status;
}


rgm_status rgm_sweep_conclude(rgm_sweep *s) {
  outcome o;
  rgm_status status = read_outcome(s, &o);
  if (status == RGM_OK && o.count != s->space->points) {
    status = rgm_fail(RGM_EDATA, "%s: parts of %lld of %lld trials", s->work, (long long)o.count,
                      (long long)s->space->points);
  }
  for (int64_t i = 0; i < o.count && i < s->space->keys.keep && status == RGM_OK; i++) {
    if (o.order[i]->status == RGM_TRIAL_DONE) {
      status = write_folder(s, o.order[i], i);
    }
  }
  // the table of all trials comes last: it says that the sweep is done
  static const struct {
    const char *name;
    void (*write)(const outcome *o, FILE *out);
  } files[] = {{"summary.json", write_summary},
               {"summary.txt", write_ranking},
               {"results.csv", write_table}};
  for (size_t i = 0; i < sizeof files / sizeof *files && status == RGM_OK; i++) {
    status = write_file(&o, files[i].name, files[i].write);
  }
  free_outcome(&o);
  if (status == RGM_OK) {
    rgm_sweep_tidy(s);
  }
  return status;
}


// ---- how things stand --------------------------------------------------------------------------

// the brackets that are in work or left behind
static rgm_status show_work(const rgm_sweep *s, FILE *out, int64_t most, int *lines) {
  int64_t alive = 0, waiting = 0, shown = 0, finished = 0;
  for (int64_t u = 0; u < s->units; u++) {
    char path[4200];
    rgm_claim_view v;
    if (rgm_sweep_part(s, u, path, sizeof path)) {
      finished++;
      continue;
    }
    RGM_TRY(rgm_claim_look(s->work, s->space->keys.lease, u, &v));
    alive += v.state == RGM_CLAIM_ALIVE;
    waiting += v.state != RGM_CLAIM_ALIVE;
    if (v.state == RGM_CLAIM_ALIVE && shown < most) {
      shown++;
      *lines += 1;
      fprintf(out, "bracket %lld: pid %ld on %s: %s\n", (long long)u, v.pid, v.host, v.note);
    }
  }
  *lines += 1;
  fprintf(out, "%lld of %lld brackets finished, %lld in work, %lld waiting\n", (long long)finished,
          (long long)s->units, (long long)alive, (long long)waiting);
  return RGM_OK;
}


// as the conclusion wrote it
static rgm_status show_done(const rgm_sweep *s, FILE *out, bool json, int *lines) {
  char path[4200], *text = NULL;
  snprintf(path, sizeof path, "%s/%s", s->folder, json ? "summary.json" : "summary.txt");
  RGM_TRY(rgm_sweep_read_text(path, &text));
  fputs(text, out);
  for (const char *c = text; *c != '\0'; c++) {
    *lines += *c == '\n';
  }
  free(text);
  if (!json) {
    *lines += 1;
    fprintf(out, "%s: all trials in results.csv; `regimen eval %s/best` tests the winner\n",
            s->folder, s->folder);
  }
  return RGM_OK;
}


rgm_status rgm_sweep_show(const rgm_sweep *s, FILE *out, bool json, int *lines) {
  const int64_t most = 10;
  int count = 0;
  outcome o;
  if (rgm_sweep_is_done(s)) {
    const rgm_status status = show_done(s, out, json, &count);
    if (lines != NULL) {
      *lines = count;
    }
    return status;
  }
  rgm_status status = read_outcome(s, &o);
  if (status != RGM_OK && rgm_sweep_is_done(s)) {
    status = show_done(s, out, json, &count); // its parts went while we looked
  } else if (status == RGM_OK && json) {
    write_summary(&o, out);
  } else if (status == RGM_OK) {
    status = show_work(s, out, most, &count);
    if (o.count > 0) {
      count += show_ranking(&o, out, most);
    }
  }
  free_outcome(&o);
  fflush(out);
  if (lines != NULL) {
    *lines = count;
  }
  return status;
}
