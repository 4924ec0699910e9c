// SPDX-License-Identifier: Apache-2.0
// What the tests of staged rules share: runs in memory over the reference data, and their tensors.

#ifndef DWOLS_UTIL_H
#define DWOLS_UTIL_H

#include "engine/engine.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_SETS = 24 };

// skips where the reference data are not there
static inline void need_data(const char *name, char path[512]) {
  const char *root = getenv("REGIMEN_DATA");
  struct stat info;
  snprintf(path, 512, "%s/%s", root != NULL ? root : "../shared/data", name);
  if (stat(path, &info) != 0) {
    cr_skip_test("no data: %s; set REGIMEN_DATA", path);
  }
}


static inline rgm_status open_run(const char *config_path, const char *const *sets, rgm_run **out) {
  rgm_config *config = NULL;
  int count = 0;
  while (sets[count] != NULL) {
    count++;
  }
  *out = NULL;
  const rgm_status status = rgm_config_load(config_path, sets, count, &config);
  return status == RGM_OK ? rgm_run_create(config, out) : status;
}


static inline rgm_run *make_run(const char *config_path, const char *const *sets) {
  rgm_run *run;
  cr_assert_eq(open_run(config_path, sets, &run), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_metrics_memory(&run->metrics), RGM_OK);
  return run;
}


static inline void train(rgm_run *run, int steps) {
  for (int i = 0; i < steps; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK, "%s", rgm_last_error());
    run->step++;
  }
  cr_assert_eq(run->algorithm->report(run), RGM_OK, "%s", rgm_last_error());
}


// the values of a planned tensor, on the CPU
static inline const double *tensor(const rgm_run *run, const char *name) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    if (strcmp(e->name, name) == 0) {
      return e->tensor.data;
    }
  }
  cr_assert_fail("no tensor %s", name);
  return NULL;
}


static inline void close_to(const double *got, const double *want, int count, double tolerance,
                            const char *what) {
  for (int i = 0; i < count; i++) {
    cr_assert_leq(fabs(got[i] - want[i]), tolerance * fabs(want[i]), "%s %d: %.15g, not %.15g",
                  what, i, got[i], want[i]);
  }
}


static inline void digest_of(rgm_run *run, char hex[65]) {
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  rgm_checkpoint_digest(c, hex);
  rgm_checkpoint_free(c);
}

#endif
