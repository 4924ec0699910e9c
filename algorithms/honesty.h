// SPDX-License-Identifier: Apache-2.0
// Between the files of honesty: honesty.c has keys and the whole, honesty_set.c a data set from its
// simulation to a file of what came out, honesty_report.c what a cell says.

#ifndef RGM_HONESTY_H
#define RGM_HONESTY_H

#include "algorithms/values.h"

enum { HONESTY_LEARNERS = 8, HONESTY_CELLS = 256, HONESTY_WORKERS = 64 };

typedef struct rgm_honesty_keys {
  char simulate[RGM_STRING_SIZE], clone[RGM_STRING_SIZE], learners[RGM_STRING_SIZE];
  char values[RGM_STRING_SIZE], model[RGM_STRING_SIZE];
  rgm_list noise, kappa, patients;
  int64_t seeds, first;
} rgm_honesty_keys;

// One policy on one data set.
typedef struct rgm_honesty_outcome {
  char name[64];
  bool learned;
  double truth, regret, measured; // return, regret, % of measured aPTTs within range
  rgm_interval of[RGM_ESTIMATES];
  bool reliable[RGM_ESTIMATES];
} rgm_honesty_outcome;

// All policies of one data set.
typedef struct rgm_honesty_set {
  bool done;
  int count, redrawn; // redrawn: how often its doses did not fit the bins
  rgm_honesty_outcome policy[VALUES_POLICIES];
} rgm_honesty_set;

typedef struct rgm_honesty_cell {
  double noise, kappa;
  int64_t patients;
} rgm_honesty_cell;

typedef struct rgm_honesty_bench {
  rgm_run *run;
  const rgm_honesty_keys *k;
  char folder[2048]; // --out: what is done lies in sets/, what is worked on in work-SLOT/
  char work[2100];   // the latter's path
  char digest[65];   // of all that decides about a data set but its cell and seed
  int learners;
  char learner[HONESTY_LEARNERS][RGM_STRING_SIZE]; // configs, the clone first
  char name[HONESTY_LEARNERS][64];                 // run.name of each
  double best; // mean optimum of the test patients, NaN while it is unknown
} rgm_honesty_bench;

// Simulates a data set, learns from it, values what was learned, tries it out in the simulator; in
// folder work-SLOT. With one thread, so that several processes share a machine.
rgm_status rgm_honesty_try(rgm_honesty_bench *b, int slot, const rgm_honesty_cell *at, int64_t seed,
                           rgm_honesty_set *out);
void rgm_honesty_clear(const rgm_honesty_bench *b, int slot); // removes that folder

// What came out, as a file: whole or not there. Reading sets `done`, or leaves it where there is no
// file (or none that is whole); and b->best. RGM_EIO; RGM_EUSAGE where it was made with other keys.
rgm_status rgm_honesty_write(const rgm_honesty_bench *b, const rgm_honesty_cell *at, int64_t seed,
                             const rgm_honesty_set *set);
rgm_status rgm_honesty_read(rgm_honesty_bench *b, const rgm_honesty_cell *at, int64_t seed,
                            rgm_honesty_set *out);

// What `seeds` data sets of a cell say; and all rows of one, for honesty.csv.
void rgm_honesty_write_cell(const rgm_honesty_cell *c, const rgm_honesty_set *sets, int seeds,
                            rgm_json *json, FILE *text);
void rgm_honesty_write_rows(FILE *csv, const rgm_honesty_cell *at, int64_t seed,
                            const rgm_honesty_set *set);

#endif
