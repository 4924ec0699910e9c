// SPDX-License-Identifier: Apache-2.0
// `regimen verify`: every checkpoint and private state of a run folder, or one file, checked as far
// as its bytes go: prefix, length, SHA-256, schema, the digest of its tensors, its config against
// config_digest, and that a checkpoint that needs a private state has it.

#include "engine/checkpoint_private.h"
#include "engine/regimen.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

// What was found out about one file.
typedef struct finding {
  bool good;
  unsigned long long step;
  char digest[65];
  char text[2048]; // what is wrong, or what could not be checked
} finding;


// ---- one file ----------------------------------------------------------------------------------

static rgm_status check_tensors(const char *path, const rgm_checkpoint *c) {
  char hex[65];
  const char *digest = rgm_checkpoint_attribute(c, "digest");
  if (digest == NULL) {
    return rgm_fail(RGM_EDATA, "%s: it has no digest of its tensors: not written by a run", path);
  }
  rgm_checkpoint_digest(c, hex);
  if (strcmp(hex, digest) != 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: its step or tensors were changed (digest %.16s, it says %.16s): use "
                    "another checkpoint",
                    path, hex, digest);
  }
  return RGM_OK;
}


// The digest of a resolved config; an older or newer program may not be able to plan it, which is
// told in `note` and no fault of the file. A device that is not here does not matter.
static rgm_status check_config(const char *path, const rgm_checkpoint *c, char *note, size_t size) {
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  if (rgm_config_parse(path, c->config, NULL, 0, &config) != RGM_OK) {
    return rgm_fail(RGM_EDATA, "%s: its config does not parse (%s)", path, rgm_last_error());
  }
  rgm_status status = rgm_run_plan_only(config, &run);
  if (status == RGM_EMEMORY || run == NULL) {
    rgm_run_free(run);
    return status;
  }
  if (status != RGM_OK && status != RGM_EDEVICE) {
    snprintf(note, size, "config_digest not checked: %s", rgm_last_error());
    rgm_run_free(run);
    return RGM_OK;
  }

  // as it was made when the checkpoint was written
  char hex[65], *text = rgm_config_emit(run->config, true);
  const char *digest = rgm_checkpoint_attribute(c, "config_digest");
  rgm_run_free(run);
  if (text == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the config");
  }
  rgm_sha256_hex(text, strlen(text), hex);
  free(text);
  if (digest == NULL || strcmp(hex, digest) != 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: its config was changed, or means another thing to this version "
                    "(config_digest %.16s, it says %.16s)",
                    path, hex, digest != NULL ? digest : "nothing");
  }
  return RGM_OK;
}


// A checkpoint of a run that went on has its private state beside it; that of one that is done may
// be gone.
static rgm_status check_state(const char *path, const rgm_checkpoint *c, bool done) {
  const char *kept = rgm_checkpoint_attribute(c, "state");
  rgm_checkpoint *state = NULL;
  if (kept == NULL || strcmp(kept, "file") != 0 || done) {
    return RGM_OK;
  }
  const rgm_status status = rgm_state_read(path, c, &state);
  rgm_checkpoint_free(state);
  return status;
}


// Anything but RGM_OK and RGM_EMEMORY is a verdict on the file.
static rgm_status check_file(const char *path, bool done, finding *f) {
  rgm_checkpoint *c = NULL;
  *f = (finding){.good = false};
  rgm_status status = rgm_checkpoint_read(path, &c);
  if (status == RGM_OK) {
    f->step = c->step;
    status = check_tensors(path, c);
  }
  if (status == RGM_OK) {
    snprintf(f->digest, sizeof f->digest, "%s", rgm_checkpoint_attribute(c, "digest"));
    if (!rgm_checkpoint_is_state(c)) {
      status = check_config(path, c, f->text, sizeof f->text);
    }
  }
  if (status == RGM_OK) {
    status = check_state(path, c, done);
  }
  f->good = status == RGM_OK;
  if (!f->good) {
    snprintf(f->text, sizeof f->text, "%s", rgm_last_error());
  }
  rgm_checkpoint_free(c);
  return status == RGM_EMEMORY ? status : RGM_OK;
}


static void print_finding(const char *path, const finding *f, rgm_json *json, FILE *out) {
  if (json != NULL) {
    rgm_json_open(json, NULL, '{');
    rgm_json_string(json, "path", path);
    rgm_json_string(json, "verdict", f->good ? "ok" : "bad");
    rgm_json_number(json, "step", (double)f->step);
    rgm_json_string(json, "digest", f->digest);
    rgm_json_string(json, "text", f->text);
    rgm_json_close(json, '}');
  } else if (f->good) {
    fprintf(out, "ok   %s: step %llu, digest %.16s%s%s\n", path, f->step, f->digest,
            f->text[0] != '\0' ? "; " : "", f->text);
  } else {
    fprintf(out, "BAD  %s\n", f->text);
  }
}


// ---- a folder ----------------------------------------------------------------------------------

// the place of a file in the report: by step, a state before its checkpoint, the best at the end
static bool place_of(const char *name, uint64_t *step, int *kind) {
  *kind = strcmp(name, RGM_BEST_NAME) == 0 ? 2 : rgm_parse_step(name, "checkpoint-", step);
  *step = *kind == 2 ? UINT64_MAX : *step;
  return *kind > 0 || rgm_parse_step(name, "state-", step);
}


static int is_ours(const struct dirent *entry) {
  uint64_t step = 0;
  int kind;
  return place_of(entry->d_name, &step, &kind);
}


static int older_first(const struct dirent **a, const struct dirent **b) {
  uint64_t x = 0, y = 0;
  int i = 0, j = 0;
  place_of((*a)->d_name, &x, &i);
  place_of((*b)->d_name, &y, &j);
  return x != y ? (x > y) - (x < y) : i - j;
}


// true where the newest checkpoint says that the run is done and its private state deleted
static bool is_done(const char *folder) {
  char path[4096];
  rgm_checkpoint *c = NULL;
  if (rgm_checkpoint_newest(folder, NULL, path, sizeof path, &c) != RGM_OK || c == NULL) {
    return false;
  }
  const char *kept = rgm_checkpoint_attribute(c, "state");
  const bool done = kept != NULL && strcmp(kept, "deleted") == 0;
  rgm_checkpoint_free(c);
  return done;
}


static rgm_status check_all(const rgm_options *options, bool folder, struct dirent **list,
                            int count) {
  rgm_json json = {.out = options->result}, *to = options->json ? &json : NULL;
  rgm_status status = RGM_OK;
  char path[4096];
  finding f;
  int bad = 0;
  const bool done = folder && is_done(options->path);
  if (to != NULL) {
    rgm_json_open(to, NULL, '{');
    rgm_json_string(to, "path", options->path);
    rgm_json_open(to, "files", '[');
  }
  for (int i = 0; i < count && status == RGM_OK; i++) {
    snprintf(path, sizeof path, "%s%s%s", options->path, folder ? "/" : "",
             folder ? list[i]->d_name : "");
    status = check_file(path, done, &f);
    if (status == RGM_OK) {
      print_finding(path, &f, to, options->result);
      bad += !f.good;
    }
  }
  if (to != NULL) {
    rgm_json_close(to, ']');
    rgm_json_number(to, "checked", count);
    rgm_json_number(to, "bad", bad);
    rgm_json_close(to, '}');
  }
  if (status == RGM_OK && bad > 0) {
    status = rgm_fail(RGM_EDATA, "%s: %d of %d checkpoint%s bad", options->path, bad, count,
                      count == 1 ? " is" : "s are");
  }
  return status;
}


rgm_status rgm_verify(const rgm_options *options) {
  struct stat info;
  if (options->path == NULL) {
    return rgm_fail(RGM_EUSAGE, "a run folder or a checkpoint is needed");
  }
  if (stat(options->path, &info) != 0) {
    return rgm_fail(RGM_EIO, "%s: %s", options->path, strerror(errno));
  }
  if (!S_ISDIR(info.st_mode)) {
    return check_all(options, false, NULL, 1);
  }

  // a run: all that it holds, the oldest first
  struct dirent **list = NULL;
  const int count = scandir(options->path, &list, is_ours, older_first);
  if (count < 0) {
    return rgm_fail(RGM_EIO, "%s: %s", options->path, strerror(errno));
  }
  const rgm_status status =
      count > 0
          ? check_all(options, true, list, count)
          : rgm_fail(RGM_EDATA, "%s: no checkpoint in this folder; train first", options->path);
  for (int i = 0; i < count; i++) {
    free(list[i]);
  }
  free(list);
  return status;
}
