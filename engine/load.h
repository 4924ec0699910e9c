// SPDX-License-Identifier: Apache-2.0
// What a path on the command line is: a config, a run folder or a checkpoint. Private to the
// engine.

#ifndef RGM_LOAD_H
#define RGM_LOAD_H

#include "engine/engine.h"
#include "engine/regimen.h"

// Loads the config that options->path stands for, with the overrides. A run folder or a checkpoint
// gives its resolved config, and the checkpoint itself where `checkpoint` is not NULL (NULL for a
// plain config). Errors: RGM_EUSAGE, RGM_ECONFIG, RGM_EDATA, RGM_EIO.
rgm_status rgm_load_config(const rgm_options *options, rgm_config **config,
                           rgm_checkpoint **checkpoint);

// Reads a run's data table and remembers its digest.
rgm_status rgm_load_table(rgm_run *run, rgm_table *table);

#endif
