// SPDX-License-Identifier: Apache-2.0
// `regimen import mimic3-rrt`: its flow chart. Private to the engine.

#ifndef RGM_IMPORT_RRT_H
#define RGM_IMPORT_RRT_H

#include "engine/regimen.h"

// Stays, and patients from `first` on, that remain after each rule; who began therapy on day 1, 2,
// 3 among the patients.
typedef struct rrt_flow {
  int64_t stays, adults, stage3, supported, no_esrd, no_rrt, first, rrt_after, early_deaths;
  int64_t patients, starts[3];
} rrt_flow;

// Reads the folder `dir`, writes the table `out` (CSV, mode 0600) and tells the flow chart. Errors:
// RGM_EDATA with table, row and column; RGM_ECONFIG, RGM_EUSAGE, RGM_EIO.
rgm_status rgm_import_rrt(const rgm_options *options);

#endif
