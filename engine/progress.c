// SPDX-License-Identifier: Apache-2.0
// Brackets on disk. Progress is a checkpoint file (private: a trial's tensors may hold patients)
// whose config is the bracket's table and whose records are the trials' tensors, those of one group
// stacked: "g0/policy/0/weight" (trials x seeds, ...). A part of the results is the table alone.
//
// The table, a line each, blanks between words:
//
//   trial INDEX STATUS RUNG STEP PARENT DRAWS DIGEST|- GROUP|-1     (-1: no tensors kept)
//   value INDEX DIMENSION TEXT                                      (pbt only)
//   score INDEX RUNG X...                                           (one for each seed)
//
// Every generation of an owner writes files of its own, so that an owner that was thought dead
// cannot meet its successor in one of them.

#include "engine/sweep.h"

#include "engine/checkpoint_private.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const statuses[] = {"ready", "resting", "stopped", "failed", "done", NULL};


// ---- the table ---------------------------------------------------------------------------------

rgm_status rgm_bracket_write_table(const rgm_sweep *s, const rgm_bracket *b, FILE *out) {
  const int64_t seeds = s->space->keys.seeds;
  const bool values = s->space->keys.scheduler == RGM_SCHEDULE_PBT;
  for (int i = 0; i < b->count; i++) {
    const rgm_entrant *e = &b->trials[i];
    fprintf(out, "trial %lld %s %d %llu %lld %lu %s %d\n", (long long)e->index, statuses[e->status],
            e->rung, (unsigned long long)e->step, (long long)e->parent, (unsigned long)e->draws,
            e->digest[0] != '\0' ? e->digest : "-", e->state != NULL ? e->group : -1);
    for (int d = 0; values && d < s->space->dim_count; d++) {
      if (e->values[d] != NULL) {
        fprintf(out, "value %lld %d %s\n", (long long)e->index, d, e->values[d]);
      }
    }
    for (int k = 0; k < s->rungs && k <= e->rung; k++) {
      fprintf(out, "score %lld %d", (long long)e->index, k);
      for (int64_t r = 0; r < seeds; r++) {
        fprintf(out, " %.9g", (double)e->scores[k * seeds + r]);
      }
      fputc('\n', out);
    }
  }
  return ferror(out) ? rgm_fail(RGM_EMEMORY, "no memory for a bracket's table") : RGM_OK;
}


static bool read_trial(const rgm_sweep *s, rgm_entrant *e, const char *line) {
  char status[16] = "", digest[65] = "";
  long long parent = -1;
  unsigned long long step = 0;
  unsigned long draws = 0;
  if (sscanf(line, "trial %*d %15s %d %llu %lld %lu %64s %d", status, &e->rung, &step, &parent,
             &draws, digest, &e->group) != 7 ||
      e->rung < 0 || e->rung >= s->rungs) {
    return false;
  }
  // pbt: what the table does not name is NULL
  for (int d = 0; s->space->keys.scheduler == RGM_SCHEDULE_PBT && d < s->space->dim_count; d++) {
    free(e->values[d]);
    e->values[d] = NULL;
  }
  e->step = step;
  e->parent = parent;
  e->draws = (uint32_t)draws;
  snprintf(e->digest, sizeof e->digest, "%s", digest[0] == '-' ? "" : digest);
  for (int i = 0; statuses[i] != NULL; i++) {
    if (strcmp(statuses[i], status) == 0) {
      e->status = (rgm_trial_status)i;
      return true;
    }
  }
  return false;
}


// whether a text is a value of a dimension
static bool is_value(const rgm_dimension *dim, const char *text) {
  char *end = NULL;
  for (int i = 0; dim->values != NULL && i < dim->count; i++) {
    if (strcmp(dim->values[i], text) == 0) {
      return true;
    }
  }
  const double x = strtod(text, &end);
  return dim->values == NULL && end != text && *end == '\0' && x >= dim->min && x <= dim->max;
}


static bool read_value(const rgm_sweep *s, rgm_entrant *e, const char *line) {
  int dim = -1, used = 0;
  if (s->space->keys.scheduler != RGM_SCHEDULE_PBT ||
      sscanf(line, "value %*d %d %n", &dim, &used) != 1 || dim < 0 || dim >= s->space->dim_count ||
      used == 0 || e->values[dim] != NULL || !is_value(&s->space->dims[dim], line + used)) {
    return false;
  }
  e->values[dim] = strdup(line + used);
  return e->values[dim] != NULL;
}


static bool read_scores(const rgm_sweep *s, rgm_entrant *e, const char *line, int expected) {
  const int64_t seeds = s->space->keys.seeds;
  int rung = -1, used = 0;
  if (sscanf(line, "score %*d %d%n", &rung, &used) != 1 || rung != expected || rung > e->rung) {
    return false;
  }
  char *end = NULL;
  const char *at = line + used;
  for (int64_t r = 0; r < seeds; r++) {
    e->scores[rung * seeds + r] = strtof(at, &end);
    if (end == at) {
      return false;
    }
    at = end;
  }
  return *end == '\0';
}


// Where in a table we are: all lines of a trial stand together, the trials and rungs in order.
typedef struct cursor {
  int trials; // begun
  int scores; // of the newest one
} cursor;

static bool is_whole(const rgm_bracket *b, const cursor *at) {
  return at->trials == 0 || at->scores == b->trials[at->trials - 1].rung + 1;
}


static bool read_line(const rgm_sweep *s, rgm_bracket *b, const char *line, cursor *at) {
  long long index = -1;
  const bool begins = line[0] == 't';
  if (begins && (!is_whole(b, at) || at->trials == b->count)) {
    return false;
  }
  at->trials += begins;
  at->scores = begins ? 0 : at->scores;
  if (at->trials == 0 || sscanf(line, "%*s %lld", &index) != 1 ||
      index != b->trials[at->trials - 1].index) {
    return false;
  }
  rgm_entrant *e = &b->trials[at->trials - 1];
  return begins           ? read_trial(s, e, line)
         : line[0] == 'v' ? at->scores == 0 && read_value(s, e, line)
                          : read_scores(s, e, line, at->scores++);
}


rgm_status rgm_bracket_read_table(const rgm_sweep *s, rgm_bracket *b, const char *path,
                                  const char *text) {
  cursor at = {0, 0};
  int number = 1;
  while (*text != '\0') {
    const size_t length = strcspn(text, "\n");
    char *line = strndup(text, length);
    if (line == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for a bracket's table");
    }
    const bool good = read_line(s, b, line, &at);
    free(line);
    if (!good) {
      return rgm_fail(RGM_EDATA, "%s: line %d of its table is no part of this sweep", path, number);
    }
    text += length + (text[length] == '\n');
    number++;
  }
  return at.trials == b->count && is_whole(b, &at)
             ? RGM_OK
             : rgm_fail(RGM_EDATA, "%s: its table ends at trial %d of %d", path, at.trials,
                        b->count);
}


// ---- progress ----------------------------------------------------------------------------------

static void progress_path(const rgm_sweep *s, int64_t unit, int generation, char *path,
                          size_t size) {
  snprintf(path, size, "%s/progress-%06lld.%d.h5", s->work, (long long)unit, generation);
}


static size_t record_bytes(const rgm_record *record) {
  size_t bytes = rgm_dtype_size(record->dtype);
  for (int i = 0; i < record->rank; i++) {
    bytes *= (size_t)record->dims[i];
  }
  return bytes;
}


// the tensors of a group's trials, stacked in their order
static rgm_status stack_group(const rgm_bracket *b, int group, rgm_checkpoint *c) {
  const rgm_checkpoint *first = NULL;
  int64_t count = 0;
  for (int i = 0; i < b->count; i++) {
    const rgm_entrant *e = &b->trials[i];
    if (e->state != NULL && e->group == group) {
      first = first == NULL ? e->state : first;
      count++;
    }
  }
  for (int k = 0; first != NULL && k < first->record_count; k++) {
    const size_t bytes = record_bytes(&first->records[k]);
    rgm_record *record = &c->records[c->record_count];
    *record = first->records[k];
    const int length =
        snprintf(record->name, sizeof record->name, "g%d/%.55s", group, first->records[k].name);
    RGM_ASSERT(length < (int)sizeof record->name);
    record->dims[0] *= count;
    record->data = malloc((size_t)count * bytes);
    if (record->data == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for the progress of a sweep");
    }
    c->record_count++;
    uint8_t *at = record->data;
    for (int i = 0; i < b->count; i++) {
      const rgm_entrant *e = &b->trials[i];
      if (e->state != NULL && e->group == group) {
        memcpy(at, e->state->records[k].data, bytes);
        at += bytes;
      }
    }
  }
  return RGM_OK;
}


rgm_status rgm_bracket_save(const rgm_sweep *s, const rgm_bracket *b) {
  char path[4200];
  size_t size = 0, records = 1;
  rgm_checkpoint *c = calloc(1, sizeof *c);
  for (int i = 0; i < b->count; i++) {
    records += b->trials[i].state != NULL ? (size_t)b->trials[i].state->record_count : 0;
  }
  FILE *out = c != NULL ? open_memstream(&c->config, &size) : NULL;
  rgm_status status = RGM_EMEMORY;
  if (out != NULL) {
    status = rgm_bracket_write_table(s, b, out);
    fclose(out);
    c->records = calloc(records, sizeof *c->records);
    c->attributes = calloc(4, sizeof *c->attributes);
  }
  if (c == NULL || c->config == NULL || c->records == NULL || c->attributes == NULL) {
    rgm_checkpoint_free(c);
    return rgm_fail(RGM_EMEMORY, "no memory for the progress of a sweep");
  }
  c->schema = RGM_CHECKPOINT_SCHEMA;
  c->confidential = true;
  snprintf(c->attributes[0].name, sizeof c->attributes[0].name, "kind");
  snprintf(c->attributes[0].value, sizeof c->attributes[0].value, "sweep");
  snprintf(c->attributes[1].name, sizeof c->attributes[1].name, "sweep_digest");
  snprintf(c->attributes[1].value, sizeof c->attributes[1].value, "%s", s->space->digest);
  c->attribute_count = 2;
  for (int g = 0; g < s->group_count && status == RGM_OK; g++) {
    status = stack_group(b, g, c);
  }
  if (status == RGM_OK) {
    progress_path(s, b->unit, b->generation, path, sizeof path);
    status = rgm_checkpoint_write(path, c);
  }
  rgm_checkpoint_free(c);
  return status;
}


// a trial's share of its group's records, the `place`th
static rgm_status unstack(const rgm_sweep *s, const rgm_checkpoint *c, rgm_entrant *e,
                          int64_t place) {
  char prefix[16];
  const int length = snprintf(prefix, sizeof prefix, "g%d/", e->group);
  rgm_checkpoint *state = e->state = calloc(1, sizeof *state);
  if (state != NULL) {
    state->records = calloc((size_t)c->record_count + 1, sizeof *state->records);
  }
  if (state == NULL || state->records == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the progress of a sweep");
  }
  for (int i = 0; i < c->record_count; i++) {
    const rgm_record *from = &c->records[i];
    if (strncmp(from->name, prefix, (size_t)length) != 0) {
      continue;
    }
    rgm_record *record = &state->records[state->record_count];
    *record = *from;
    snprintf(record->name, sizeof record->name, "%s", from->name + length);
    record->dims[0] = s->space->keys.seeds;
    const size_t bytes = record_bytes(record);
    record->data = NULL;
    if ((size_t)(place + 1) * bytes <= record_bytes(from)) {
      record->data = malloc(bytes);
    }
    if (record->data == NULL) {
      return rgm_fail(RGM_EDATA, "the progress of trial %lld is not whole", (long long)e->index);
    }
    memcpy(record->data, (const uint8_t *)from->data + (size_t)place * bytes, bytes);
    state->record_count++;
  }
  return state->record_count > 0
             ? RGM_OK
             : rgm_fail(RGM_EDATA, "the progress of trial %lld is not there", (long long)e->index);
}


// groups are numbered anew in this process, so places are counted by the file's numbers
static rgm_status take_in(rgm_sweep *s, rgm_bracket *b, const char *path, const rgm_checkpoint *c) {
  const char *digest = rgm_checkpoint_attribute(c, "sweep_digest");
  if (digest == NULL || strcmp(digest, s->space->digest) != 0) {
    return rgm_fail(RGM_EDATA, "%s: progress of another sweep", path);
  }
  RGM_TRY(rgm_bracket_read_table(s, b, path, c->config));
  for (int i = 0; i < b->count; i++) {
    rgm_entrant *e = &b->trials[i];
    int64_t place = 0;
    for (int k = 0; k < i; k++) {
      place += b->trials[k].group == e->group;
    }
    if (e->group >= 0) {
      RGM_TRY(unstack(s, c, e, place));
    } else if (e->step > 0 && e->status <= RGM_TRIAL_RESTING) {
      return rgm_fail(RGM_EDATA, "%s: no tensors of trial %lld", path, (long long)e->index);
    }
  }
  return RGM_OK;
}


rgm_status rgm_bracket_restore(rgm_sweep *s, rgm_bracket *b, bool *found) {
  *found = false;
  for (int g = b->generation; g >= 0 && !*found; g--) {
    char path[4200];
    rgm_checkpoint *c = NULL;
    progress_path(s, b->unit, g, path, sizeof path);
    if (access(path, F_OK) != 0) {
      continue;
    }
    rgm_status status = rgm_checkpoint_read(path, &c);
    if (status == RGM_OK) {
      status = take_in(s, b, path, c);
      rgm_checkpoint_free(c);
      // half taken in would be neither this nor that
      RGM_TRY(status);
      *found = true;
    } else if (status == RGM_EDATA) {
      rgm_sweep_log(s, "%s; the one before it is taken", rgm_last_error());
    } else {
      return status;
    }
  }
  // groups as this process numbers them
  for (int i = 0; i < b->count && *found; i++) {
    rgm_entrant *e = &b->trials[i];
    if (e->status <= RGM_TRIAL_RESTING || e->state != NULL) {
      RGM_TRY(rgm_entrant_prepare(s, e));
    }
  }
  return RGM_OK;
}


// ---- parts of the results ----------------------------------------------------------------------

rgm_status rgm_sweep_write_text(const char *path, const char *text, size_t size) {
  return rgm_durable_write(path, (const unsigned char *)text, size, 0666);
}


rgm_status rgm_sweep_read_text(const char *path, char **text) {
  FILE *file = fopen(path, "rb"), *out = NULL;
  char block[65536];
  size_t n, size = 0;
  *text = NULL;
  if (file == NULL) {
    return rgm_fail(RGM_EIO, "%s: %s", path, strerror(errno));
  }
  out = open_memstream(text, &size);
  while (out != NULL && (n = fread(block, 1, sizeof block, file)) > 0) {
    fwrite(block, 1, n, out);
  }
  const bool failed = ferror(file) != 0;
  fclose(file);
  if (out == NULL || fclose(out) != 0) {
    free(*text);
    *text = NULL;
    return rgm_fail(RGM_EMEMORY, "%s: no memory for it", path);
  }
  return failed ? rgm_fail(RGM_EIO, "%s: cannot be read", path) : RGM_OK;
}


rgm_status rgm_bracket_write_part(const rgm_sweep *s, const rgm_bracket *b) {
  char path[4200], *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a part of the results");
  }
  rgm_status status = rgm_bracket_write_table(s, b, out);
  if (fclose(out) != 0) {
    status = rgm_fail(RGM_EMEMORY, "no memory for a part of the results");
  }
  if (status == RGM_OK) {
    snprintf(path, sizeof path, "%s/part-%06lld.%d", s->work, (long long)b->unit, b->generation);
    status = rgm_sweep_write_text(path, text, size);
  }
  free(text);
  return status;
}


bool rgm_sweep_part(const rgm_sweep *s, int64_t unit, char *path, size_t size) {
  // whoever finished it had one of the generations so far
  for (int g = 0;; g++) {
    char claim[4200];
    snprintf(path, size, "%s/part-%06lld.%d", s->work, (long long)unit, g);
    if (access(path, F_OK) == 0) {
      return true;
    }
    snprintf(claim, sizeof claim, "%s/claim-%06lld.%d", s->work, (long long)unit, g);
    if (access(claim, F_OK) != 0) {
      return false;
    }
  }
}
