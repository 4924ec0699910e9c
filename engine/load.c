// SPDX-License-Identifier: Apache-2.0
// From a path on the command line to a config, and where there is one, its checkpoint.

#include "engine/load.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>


static bool ends_with(const char *text, const char *end) {
  const size_t n = strlen(text), m = strlen(end);
  return n >= m && strcmp(text + n - m, end) == 0;
}


rgm_status rgm_load_config(const rgm_options *options, rgm_config **config,
                           rgm_checkpoint **checkpoint) {
  struct stat info;
  rgm_checkpoint *found = NULL;
  char path[4096];
  if (checkpoint != NULL) {
    *checkpoint = NULL;
  }
  if (options->path == NULL) {
    return rgm_fail(RGM_EUSAGE, "a config file, a run folder or a checkpoint is needed");
  }
  if (stat(options->path, &info) != 0) {
    return rgm_fail(RGM_EIO, "%s: %s", options->path, strerror(errno));
  }
  if (!S_ISDIR(info.st_mode) && !ends_with(options->path, ".h5")) {
    return rgm_config_load(options->path, options->set, options->set_count, config);
  }

  // a run: its newest checkpoint, or the one that is named
  if (S_ISDIR(info.st_mode)) {
    RGM_TRY(rgm_checkpoint_newest(options->path, options->progress, path, sizeof path, &found));
    if (found == NULL) {
      return rgm_fail(RGM_EDATA, "%s: no checkpoint in this folder; train first", options->path);
    }
  } else {
    snprintf(path, sizeof path, "%s", options->path);
    RGM_TRY(rgm_checkpoint_read(path, &found));
    if (rgm_checkpoint_is_state(found)) {
      rgm_checkpoint_free(found);
      return rgm_fail(RGM_EUSAGE,
                      "%s is the private state of a run, not a checkpoint; give checkpoint-STEP.h5 "
                      "or the run folder",
                      path);
    }
  }
  const rgm_status status =
      rgm_config_parse(path, found->config, options->set, options->set_count, config);
  if (status == RGM_OK && checkpoint != NULL) {
    *checkpoint = found;
  } else {
    rgm_checkpoint_free(found);
  }
  return status;
}


rgm_status rgm_load_table(rgm_run *run, rgm_table *table) {
  RGM_TRY(rgm_table_read_csv(run->data.path, table));
  snprintf(run->data_digest, sizeof run->data_digest, "%s", table->digest);
  return RGM_OK;
}
