// SPDX-License-Identifier: Apache-2.0
// The search space of a sweep: the `sweep:` section of a config, and the points in it.
//
//   sweep:
//     metric: return_smoothed
//     trials: 256
//     algorithm.lr: {min: 1e-3, max: 0.1, log: true}
//     algorithm.episodes: [8, 16, 32]
//     algorithm.momentum: {values: [0, 0.9], when: {algorithm.optimizer: sgd}}
//
// A key with a dot in it is a dimension, a key without one belongs to rgm_sweep_fields. Private to
// the engine.

#ifndef RGM_SPACE_H
#define RGM_SPACE_H

#include "engine/engine.h"

enum { RGM_MAX_DIMENSIONS = 32 };

typedef enum rgm_search { RGM_SEARCH_AUTO, RGM_SEARCH_GRID, RGM_SEARCH_RANDOM } rgm_search;
typedef enum rgm_scheduler {
  RGM_SCHEDULE_NONE,
  RGM_SCHEDULE_HALVING,
  RGM_SCHEDULE_ASHA, // halving, by the name that users know
  RGM_SCHEDULE_PBT,
} rgm_scheduler;

typedef struct rgm_sweep_keys {
  char metric[RGM_STRING_SIZE], pack[RGM_STRING_SIZE];
  int mode; // 0 auto, 1 max, 2 min
  int search, scheduler;
  int64_t trials, seed, seeds, first, bracket, keep;
  double reduction, quantile, factor, memory, lease;
} rgm_sweep_keys;

extern const rgm_field rgm_sweep_fields[];

// One dimension: a list of texts, or a range. It counts where `when_key` is NULL or has one of the
// texts of `when`; elsewhere the key keeps the config's value.
typedef struct rgm_dimension {
  char key[256];
  char **values;            // of a list, else NULL
  int count;                // of the list, or of a range's points in a grid (0: none were given)
  bool log, whole, counted; // counted: a count was given
  double min, max;
  char *when_key;
  char **when;
  int when_count;
  int entry; // of the config: where it stands, for messages
} rgm_dimension;

typedef struct rgm_space {
  rgm_config *config; // the base, without its sweep section
  rgm_run *run;       // the base read as a run; owns `config`
  char *base;         // its resolved text: what all trials share
  char *section;      // the sweep section resolved, keys only
  rgm_sweep_keys keys;
  rgm_dimension *dims;
  int dim_count;
  bool grid;
  int64_t points;  // trials
  int64_t *places; // of a grid: which combination each is
  char digest[65]; // of all that decides the results
} rgm_space;

// Takes the sweep out of a loaded config and checks every dimension: that its key exists and may be
// swept, and that each of its values is one that a run takes. Takes over `config`; *out is to be
// freed also on failure. Errors: RGM_ECONFIG with file, line and column.
rgm_status rgm_space_create(rgm_config *config, rgm_space **out);
void rgm_space_free(rgm_space *space);

// How many points there are, and of which search. RGM_ECONFIG where that is not clear.
rgm_status rgm_space_count(rgm_space *space);

// The values of a point, one text for each dimension, NULL where its condition does not hold. The
// caller frees each. A point of a random search depends on sweep.seed and its index alone.
rgm_status rgm_space_point(const rgm_space *space, int64_t index, char **values);

// Whether the condition of a dimension holds, given the values of those before it.
bool rgm_space_holds(const rgm_space *space, int dim, char *const *values);

// A step of pbt away from a text: times or over `factor` in a range (kept inside; a whole number by
// 1 at least), a neighbour in a list; anywhere in the dimension for NULL. `draw` counts the draws
// of a trial. The caller frees *out.
rgm_status rgm_space_perturb(const rgm_space *space, int dim, const char *text, int64_t trial,
                             uint32_t draw, char **out);

// The run of a point, its keys read and checked, as `regimen train` would read them: to be a member
// of a pack. Free with rgm_run_free.
rgm_status rgm_space_member(const rgm_space *space, int64_t index, char *const *values,
                            rgm_run **out);

// The first seed of a trial: run.seed, so that trials share their noise; under pbt, where weights
// are handed on, each trial has seeds of its own.
int64_t rgm_space_seed(const rgm_space *space, int64_t index);

// What trials must have in common to be packed: the keys that change shapes, as text. The caller
// frees it; NULL without memory.
char *rgm_space_shape(const rgm_config *config);

// Fails at a dimension, or at a key of the sweep section.
rgm_status rgm_space_fail(const rgm_space *space, const rgm_dimension *dim, const char *key,
                          const char *text);

// The whole as YAML that loads to the same sweep. The caller frees it.
char *rgm_space_emit(const rgm_space *space);

#endif
