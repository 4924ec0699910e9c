// SPDX-License-Identifier: Apache-2.0
// The files of a run folder by name: which checkpoint is the newest good one, which private state
// goes with it, and which files are to go.
//
// The order in which files are tried: checkpoint-STEP.h5 from the newest to the oldest, then
// checkpoint-best.h5. A checkpoint that needs a state-STEP.h5 counts for resuming only with it.

#include "engine/checkpoint_private.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


// A file called checkpoint-STEP.h5 or state-STEP.h5.
typedef struct candidate {
  uint64_t step;
  char name[48];
} candidate;


bool rgm_parse_step(const char *name, const char *head, uint64_t *step) {
  const size_t length = strlen(head);
  if (strncmp(name, head, length) != 0) {
    return false;
  }
  const char *digits = name + length;
  const size_t count = strspn(digits, "0123456789");
  if (count == 0 || count > 20 || strcmp(digits + count, ".h5") != 0) {
    return false;
  }
  *step = 0;
  for (size_t i = 0; i < count; i++) {
    const uint64_t digit = (uint64_t)(digits[i] - '0');
    if (*step > (UINT64_MAX - digit) / 10) {
      return false;
    }
    *step = *step * 10 + digit;
  }
  return true;
}


// Newest first; the name settles "7" against "07".
static int newer_first(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->step != y->step) {
    return x->step > y->step ? -1 : 1;
  }
  return strcmp(x->name, y->name);
}


static rgm_status append(const char *folder, candidate **list, int *count, const char *name,
                         uint64_t step) {
  // room grows by doubling, from 16
  if (*count == 0 || (*count >= 16 && (*count & (*count - 1)) == 0)) {
    const size_t capacity = *count == 0 ? 16 : 2 * (size_t)*count;
    candidate *grown = realloc(*list, capacity * sizeof *grown);
    if (grown == NULL) {
      return rgm_fail(RGM_EMEMORY, "%s: no memory to list it", folder);
    }
    *list = grown;
  }
  candidate *to = &(*list)[(*count)++];
  to->step = step;
  snprintf(to->name, sizeof to->name, "%.47s", name); // none is longer
  return RGM_OK;
}


// The files HEAD-STEP.h5 of a folder, newest first; `best`, where it is not NULL, tells whether
// there is a checkpoint-best.h5. The caller frees *list, also after an error.
static rgm_status list_folder(const char *folder, const char *head, candidate **list, int *count,
                              bool *best) {
  *list = NULL;
  *count = 0;
  DIR *handle = opendir(folder);
  if (handle == NULL) {
    return errno == ENOMEM ? rgm_fail(RGM_EMEMORY, "%s: no memory to list it", folder)
                           : rgm_cannot_read(folder);
  }

  // readdir tells its errors through errno only
  rgm_status status = RGM_OK;
  const struct dirent *entry;
  while (status == RGM_OK && (errno = 0, (entry = readdir(handle)) != NULL)) {
    uint64_t step;
    if (rgm_parse_step(entry->d_name, head, &step)) {
      status = append(folder, list, count, entry->d_name, step);
    } else if (best != NULL && strcmp(entry->d_name, RGM_BEST_NAME) == 0) {
      *best = true;
    }
  }
  if (status == RGM_OK && errno != 0) {
    status = rgm_cannot_read(folder);
  }
  closedir(handle);
  if (status == RGM_OK && *count > 1) {
    qsort(*list, (size_t)*count, sizeof **list, newer_first);
  }
  return status;
}


// ---- private state -----------------------------------------------------------------------------

void rgm_state_path(const char *checkpoint, uint64_t step, char *path, size_t size) {
  const char *slash = strrchr(checkpoint, '/');
  const int length = slash == NULL ? 0 : (int)(slash - checkpoint) + 1;
  snprintf(path, size, "%.*sstate-%llu.h5", length, checkpoint, (unsigned long long)step);
}


// Attributes that older schemas lack read as "".
static const char *attribute(const rgm_checkpoint *c, const char *name) {
  const char *value = rgm_checkpoint_attribute(c, name);
  return value != NULL ? value : "";
}


bool rgm_checkpoint_is_state(const rgm_checkpoint *c) {
  return strcmp(attribute(c, "kind"), "state") == 0;
}


rgm_status rgm_state_read(const char *path, const rgm_checkpoint *c, rgm_checkpoint **out) {
  char file[4200], hex[65], reason[2048];
  *out = NULL;
  rgm_state_path(path, c->step, file, sizeof file);
  rgm_status status = rgm_checkpoint_read(file, out);
  if (status == RGM_EDATA || status == RGM_EIO) {
    snprintf(reason, sizeof reason, "%s", rgm_last_error());
    return rgm_fail(RGM_EDATA, "%s: its private state is missing or damaged (%s)", path, reason);
  }
  RGM_TRY(status);

  // the one that was written for it, tensor by tensor
  rgm_checkpoint_digest(*out, hex);
  if (!rgm_checkpoint_is_state(*out) || (*out)->step != c->step ||
      strcmp(hex, attribute(c, "state_digest")) != 0) {
    status = rgm_fail(RGM_EDATA,
                      "%s: %s is not its private state (digest %.16s, it asks for %.16s): restore "
                      "the right one",
                      path, file, hex, attribute(c, "state_digest"));
    rgm_checkpoint_free(*out);
    *out = NULL;
  }
  return status;
}


// What a checkpoint needs to go on until step `until`; *state stays NULL where it needs nothing.
static rgm_status find_state(const char *path, const rgm_checkpoint *c, uint64_t until,
                             rgm_checkpoint **state) {
  const char *kept = attribute(c, "state");
  if (strcmp(kept, "file") == 0) {
    return rgm_state_read(path, c, state);
  }
  if (strcmp(kept, "omitted") == 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: it was kept without its private state: it can be evaluated, or serve as "
                    "run.init_from, but no run goes on from it",
                    path);
  }
  if (strcmp(kept, "deleted") == 0 && c->step < until) {
    return rgm_fail(RGM_EDATA,
                    "%s: the run was done at step %llu and its private state is deleted: start a "
                    "new run from its weights with run.init_from",
                    path, (unsigned long long)c->step);
  }
  return RGM_OK;
}


// ---- the newest --------------------------------------------------------------------------------

// One candidate, whole; with `state`, whole enough to go on from.
static rgm_status try_candidate(const char *path, uint64_t until, rgm_checkpoint **out,
                                rgm_checkpoint **state) {
  RGM_TRY(rgm_checkpoint_read(path, out));
  rgm_status status = state != NULL ? find_state(path, *out, until, state) : RGM_OK;
  if (status == RGM_OK && rgm_checkpoint_is_state(*out)) {
    status = rgm_fail(RGM_EDATA, "%s: a private state under the name of a checkpoint", path);
  }
  if (status != RGM_OK) {
    rgm_checkpoint_free(*out);
    *out = NULL;
  }
  return status;
}


// Tries the candidates in turn; RGM_EDATA where all are bad.
static rgm_status first_good(const char *folder, const candidate *list, int count, uint64_t until,
                             FILE *notes, char *path_out, size_t path_size, rgm_checkpoint **out,
                             rgm_checkpoint **state) {
  char reason[2048] = "";
  for (int i = 0; i < count; i++) {
    const int length = snprintf(path_out, path_size, "%s/%s", folder, list[i].name);
    if (length < 0 || (size_t)length >= path_size) {
      return rgm_fail(RGM_EIO, "%s: the path is too long: choose a shorter --out", folder);
    }
    const rgm_status status = try_candidate(path_out, until, out, state);
    if (status != RGM_EDATA && status != RGM_EIO) {
      return status;
    }
    if (notes != NULL) {
      fprintf(notes, "passed over: %s\n", rgm_last_error());
    }
    if (i == 0) {
      snprintf(reason, sizeof reason, "%s", rgm_last_error());
    }
  }
  return rgm_fail(RGM_EDATA,
                  "%s: none of its %d checkpoints can be %s (the newest: %s): restore one from a "
                  "backup or start anew",
                  folder, count, state != NULL ? "resumed" : "read", reason);
}


static rgm_status find(const char *folder, uint64_t until, FILE *notes, char *path_out,
                       size_t path_size, rgm_checkpoint **out, rgm_checkpoint **state) {
  candidate *list;
  int count;
  bool best = false;
  *out = NULL;
  rgm_status status = list_folder(folder, "checkpoint-", &list, &count, &best);
  const bool alone = count == 0;
  if (status == RGM_OK && best) {
    status = append(folder, &list, &count, RGM_BEST_NAME, 0);
  }
  if (status == RGM_OK && count > 0) {
    status = first_good(folder, list, count, until, notes, path_out, path_size, out, state);
    // a run may die after its first best, before its first checkpoint
    if (status == RGM_EDATA && alone && state != NULL) {
      status = RGM_OK;
      if (notes != NULL) {
        fprintf(notes, "there is no other checkpoint: the run starts from step 0\n");
      }
    }
  }
  if (path_size > 0 && *out == NULL) {
    path_out[0] = '\0';
  }
  free(list);
  return status;
}


rgm_status rgm_checkpoint_newest(const char *folder, FILE *notes, char *path_out, size_t path_size,
                                 rgm_checkpoint **out) {
  return find(folder, 0, notes, path_out, path_size, out, NULL);
}


rgm_status rgm_checkpoint_resumable(const char *folder, uint64_t until, FILE *notes, char *path_out,
                                    size_t path_size, rgm_checkpoint **out,
                                    rgm_checkpoint **state) {
  *state = NULL;
  return find(folder, until, notes, path_out, path_size, out, state);
}


// ---- what goes ---------------------------------------------------------------------------------

static bool remove_file(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return unlink(path) == 0 || errno == ENOENT;
}


// The states that no checkpoint of the list needs. An old file that stays is no harm; private data
// of a run that is done is.
static rgm_status remove_states(const char *folder, const candidate *kept, int count) {
  candidate *list = NULL;
  int states = 0;
  rgm_status status = list_folder(folder, "state-", &list, &states, NULL);
  for (int i = 0; i < states; i++) {
    bool needed = false;
    for (int k = 0; k < count; k++) {
      needed = needed || kept[k].step == list[i].step;
    }
    if (!needed && !remove_file(folder, list[i].name) && status == RGM_OK) {
      status = rgm_fail(RGM_EIO, "%s/%s: cannot remove: %s: it holds private data: remove it",
                        folder, list[i].name, strerror(errno));
    }
  }
  free(list);
  return status;
}


rgm_status rgm_checkpoint_prune(const char *folder, int64_t keep, bool states) {
  candidate *list = NULL;
  int count = 0;
  rgm_status status = list_folder(folder, "checkpoint-", &list, &count, NULL);
  if (status == RGM_OK) {
    // a checkpoint goes before its state, so that none is left without
    for (int i = 0; i < count; i++) {
      if (i >= keep) {
        remove_file(folder, list[i].name);
      }
    }
    status = remove_states(folder, list, !states ? 0 : count < keep ? count : (int)keep);
  }
  free(list);
  return states ? RGM_OK : status;
}


// True for what a write that was cut short leaves: the name of one of our files and ".tmp".
static bool is_stale(const char *name) {
  char stem[64];
  uint64_t step;
  const size_t length = strlen(name);
  if (length < 5 || length >= sizeof stem || strcmp(name + length - 4, ".tmp") != 0) {
    return false;
  }
  snprintf(stem, sizeof stem, "%.*s", (int)(length - 4), name);
  return strcmp(stem, RGM_BEST_NAME) == 0 || rgm_parse_step(stem, "checkpoint-", &step) ||
         rgm_parse_step(stem, "state-", &step);
}


rgm_status rgm_checkpoint_sweep(const char *folder) {
  rgm_status status = RGM_OK;
  const struct dirent *entry;
  DIR *handle = opendir(folder);
  while (handle != NULL && (entry = readdir(handle)) != NULL) {
    if (is_stale(entry->d_name) && !remove_file(folder, entry->d_name) && status == RGM_OK) {
      status = rgm_fail(RGM_EIO, "%s/%s: cannot remove: %s: it may hold private data: remove it",
                        folder, entry->d_name, strerror(errno));
    }
  }
  if (handle != NULL) {
    closedir(handle);
  }
  return status;
}
