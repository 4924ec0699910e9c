// SPDX-License-Identifier: Apache-2.0
// What the tests of sweeps share: a folder, spaces of texts, sweeps that run nothing.

#ifndef RGM_TEST_SWEEP_UTIL_H
#define RGM_TEST_SWEEP_UTIL_H

#include "engine/regimen.h"
#include "engine/sweep.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// the sweep section starts at line 4, its keys at line 5
#define BASE                                              \
  "run: {name: s, steps: 12, threads: 1, backend: cpu}\n" \
  "env: {name: propofol, steps: 20}\n"                    \
  "algorithm: {name: cem, episodes: 4, hidden: 16}\n"
#define SWEEP BASE "sweep:\n"

static char folder[256];


static inline void make_folder(void) {
  const char *base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
  snprintf(folder, sizeof folder, "%s/rgm_sweep_XXXXXX", base);
  cr_assert(mkdtemp(folder) != NULL, "mkdtemp %s: %s", folder, strerror(errno));
}


static inline void remove_folder(void) {
  char command[600];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  cr_assert_eq(system(command), 0);
}


static inline void write_file(const char *name, const char *text) {
  char path[600];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "w");
  cr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0, "%s", path);
}


static inline uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  uint64_t x = *state;
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  return x ^ x >> 33;
}


static inline rgm_status try_space(const char *text, rgm_space **out) {
  rgm_config *config = NULL;
  *out = NULL;
  RGM_TRY(rgm_config_parse("sweep.yaml", text, NULL, 0, &config));
  return rgm_space_create(config, out);
}


static inline rgm_space *space_of(const char *text) {
  rgm_space *space;
  cr_assert_eq(try_space(text, &space), RGM_OK, "%s\n%s", rgm_last_error(), text);
  return space;
}


// runs FOLDER/a.yaml into FOLDER/name with settings, NULL at their end
static inline rgm_status run_sweep(const char *name, const char *const *sets) {
  char config[512], out[512];
  int count = 0;
  snprintf(config, sizeof config, "%s/a.yaml", folder);
  snprintf(out, sizeof out, "%s/%s", folder, name);
  while (sets != NULL && sets[count] != NULL) {
    count++;
  }
  const rgm_options options = {.path = config, .set = sets, .set_count = count, .out = out};
  return rgm_sweep_run(&options);
}


// a sweep that runs nothing: `rungs` rungs of 2 steps, the config's keys
static inline rgm_sweep *make_sweep(const char *keys, int rungs) {
  static const rgm_options options;
  char text[1024];
  rgm_sweep *s = calloc(1, sizeof *s);
  cr_assert_not_null(s);
  snprintf(text, sizeof text, SWEEP "%s", keys);
  s->options = &options;
  s->space = space_of(text);
  s->rungs = rungs;
  s->rung_step = calloc((size_t)rungs, sizeof *s->rung_step);
  for (int k = 0; k < rungs; k++) {
    s->rung_step[k] = 2 * (uint64_t)(k + 1);
  }
  const int64_t bracket = s->space->keys.bracket;
  s->units = (s->space->points + bracket - 1) / bracket;
  s->is_min = s->space->keys.mode == 2;
  snprintf(s->metric, sizeof s->metric, "return_smoothed");
  snprintf(s->folder, sizeof s->folder, "%s", folder);
  snprintf(s->work, sizeof s->work, "%s", folder);
  return s;
}


static inline void free_sweep(rgm_sweep *s) {
  for (int i = 0; i < s->group_count; i++) {
    free(s->groups[i]);
  }
  free(s->groups);
  free(s->rung_step);
  rgm_space_free(s->space);
  free(s);
}


// a state of one tensor (seeds, 3) whose numbers tell whose it is
static inline rgm_checkpoint *make_state(const rgm_sweep *s, float tag) {
  const int64_t seeds = s->space->keys.seeds;
  rgm_checkpoint *c = calloc(1, sizeof *c);
  c->records = calloc(1, sizeof *c->records);
  c->record_count = 1;
  rgm_record *r = c->records;
  snprintf(r->name, sizeof r->name, "policy/0/weight");
  snprintf(r->axes, sizeof r->axes, "replica, parameter");
  r->dtype = RGM_F32;
  r->rank = 2;
  r->dims[0] = seeds;
  r->dims[1] = 3;
  float *x = r->data = malloc((size_t)seeds * 3 * sizeof *x);
  for (int64_t i = 0; i < seeds * 3; i++) {
    x[i] = tag + 0.001f * (float)i;
  }
  return c;
}

#endif
