// SPDX-License-Identifier: Apache-2.0
// What a training process keeps in its run folder: a lock, the newest checkpoints with their
// private state, and the best checkpoint.

#ifndef RGM_KEEP_H
#define RGM_KEEP_H

#include "engine/engine.h"

typedef struct rgm_keep {
  rgm_run *run;
  const char *folder;
  int lock;             // descriptor of FOLDER/lock, -1 while there is none
  rgm_checkpoint *best; // the best report since the last checkpoint, not yet on disk; or NULL
  char newest[4096];    // path of the newest checkpoint, "" before there is one
  char digest[65];      // its digest
} rgm_keep;

// Makes a folder and those above it. RGM_EIO.
rgm_status rgm_make_folder(const char *path);

// Locks the folder for this process until rgm_keep_close or the process ends, in whatever way.
// RGM_EIO, with the pid and host of the other one, where a process trains there already.
rgm_status rgm_keep_lock(rgm_keep *k, const char *folder);

// Restores the newest checkpoint that can be gone on from, if the folder holds any; what was passed
// over is told on `notes`. Run keys decide what the best metric is.
rgm_status rgm_keep_resume(rgm_keep *k, rgm_run *run, FILE *notes);

// After a report: is it the best so far? Then a copy is kept in memory, which the next checkpoint
// (or rgm_keep_save_best, after a failure) puts on disk.
rgm_status rgm_keep_look(rgm_keep *k);
rgm_status rgm_keep_save_best(rgm_keep *k);

// Metrics onto the disk, then the private state, the best and the checkpoint, in this order; then
// old files go. `done`: the run ends here, and its private state goes too.
rgm_status rgm_keep_save(rgm_keep *k, bool done);

void rgm_keep_close(rgm_keep *k);

#endif
