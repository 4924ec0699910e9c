// SPDX-License-Identifier: Apache-2.0
// The public API of libregimen: run a config, evaluate what came out, look at plans, keys and
// checkpoints. Every function returns RGM_OK or a negative status; rgm_last_error() has the text
// and rgm_exit_code() the program's exit code. Nothing here prints but to the streams that it is
// given.

#ifndef REGIMEN_H
#define REGIMEN_H

#include "kernels/base.h"

#include <signal.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rgm_options {
  const char *path;       // a config.yaml, a run folder or a checkpoint
  const char *const *set; // "a.b=3" overrides, applied in order
  int set_count;
  const char *out;   // run folder, NULL: runs/NAME (NAME is run.name)
  bool resume;       // go on from the newest checkpoint of the run folder, or what is done there
  bool json;         // results as one JSON object
  double seconds;    // of a case of `regimen bench`, 0: one
  int workers;       // of a sweep's driver, 0: as the device asks
  bool status;       // of a sweep: look, do not take part
  bool show_values;  // checking a data set may print single values
  bool profile;      // training tells where its time went, kernel by kernel
  const char *dir;   // of an import: the folder with the tables
  const char *rules; // of an import: the rules file, NULL: the one that comes with the program
  const char *csv;   // of an import: a copy of what was read; of a recommendation: patients
  FILE *result;      // where results go (stdout)
  FILE *progress;    // where progress goes (stderr), NULL: nowhere
  bool terminal;     // progress is one line that is rewritten
  // set by a signal handler: checkpoint at the next step boundary and return RGM_ESTOPPED
  const volatile sig_atomic_t *stop;
} rgm_options;

// Trains, writes the run folder (config.yaml, metrics.jsonl, metrics.csv, log.txt,
// checkpoint-STEP.h5, checkpoint-best.h5). Errors: RGM_ECONFIG, RGM_EDATA, RGM_ENUMERIC, RGM_EIO
// (also where another process trains in the folder), RGM_ESTOPPED, ...
rgm_status rgm_train(const rgm_options *options);

// Evaluates a run (folder or checkpoint), or a config whose algorithm trains nothing, on test
// patients; writes the result as JSON or as tables.
rgm_status rgm_evaluate(const rgm_options *options);

// What a trained rule advises: for the patient that `set` describes ("age=70"), or for every row of
// the table `csv`; from the checkpoint alone.
rgm_status rgm_recommend(const rgm_options *options);

// Prints every tensor of a config with shape, unit and bytes; allocates none of them.
rgm_status rgm_plan_memory(const rgm_options *options);

// Checks config, data and device, and prints what a run, or a sweep, would do. Of a data set (HDF5:
// ours, D4RL, Minari, d3rlpy; or a CSV table of numbers): looks for every kind of defect.
rgm_status rgm_check(const rgm_options *options);

// Runs simulated patients under one of the environment's controllers (`simulate.*` of a config) and
// writes a data set of them to `out`. Errors: RGM_EUSAGE without `out`, RGM_ECONFIG, RGM_EIO.
rgm_status rgm_simulate(const rgm_options *options);

// Prints keys: of everything (topic NULL), of a section, an algorithm, an environment, or one key.
rgm_status rgm_explain(const char *topic, FILE *out);

// Prints step, provenance, tensors and config of a checkpoint, or columns and provenance of a data
// set, after verifying it.
rgm_status rgm_info(const rgm_options *options);

// Checks every checkpoint of a run folder, or one file: prefix, length, SHA-256, schema, digests of
// tensors and config; prints a line for each. RGM_EDATA if any is bad.
rgm_status rgm_verify(const rgm_options *options);

// A worker of a sweep: joins the sweep of a config (its `sweep:` section) or of a sweep's folder,
// takes trials as long as there are any, and returns when the whole sweep is done, by whomever.
// Without `resume` the folder must not hold the sweep yet. Errors as rgm_train.
rgm_status rgm_sweep_run(const rgm_options *options);

// What a driver of several workers needs to know of a sweep before it starts them: its folder, and
// the GPUs that run.devices names (none on the CPU). Errors: what is wrong with the config.
typedef struct rgm_sweep_plan {
  char folder[2048];
  int devices[64], device_count;
  int threads; // run.threads
} rgm_sweep_plan;
rgm_status rgm_sweep_look(const rgm_options *options, rgm_sweep_plan *out);

// How a sweep stands: who works, what is finished, the best trials so far; *lines (may be NULL)
// gets the lines printed.
rgm_status rgm_sweep_status(const rgm_options *options, FILE *out, int *lines);

// Makes a data set from hospital tables, a table, or a tabular problem: `path` is the kind
// (mimic3-heparin, eicu-heparin, csv; mimic3-rrt makes a CSV table; trajectories, mdp),
// `out` the file to write. Prints flow chart, Table 1, missing values and actions.
rgm_status rgm_import(const rgm_options *options);

// "regimen 0.1.0 (commit)".
const char *rgm_version_text(void);

#ifdef __cplusplus
}
#endif
#endif
