// SPDX-License-Identifier: Apache-2.0
// What offline learning sees of a data set: transitions (s, a, r, s', terminated, truncated) of
// patients in parts for training, validation and test, in host memory, and rings of them on the
// device. For the engine and algorithms.
//
// A row of the data set is a transition where what follows is known: from columns of role next, or
// else from the next row of the episode. A row that terminated needs no next state. A last row that
// did not terminate and has none is left out, and so none crosses episodes.

#ifndef RGM_TRANSITIONS_H
#define RGM_TRANSITIONS_H

#include "engine/dataset.h"

enum { RGM_MAX_CLASSES = 4096 }; // of an action

// One column of states or actions. Figures are over training rows.
typedef struct rgm_feature {
  char name[64], unit[32];
  double mean, sd;  // sd has n, and is 1 where the column is constant
  double min, max;  // as they are
  double low, high; // quantiles 0.1 %, 99.9 % (type 7)
  bool fixed;       // the same in all rows of each episode, next states too, of any part
} rgm_feature;

// N transitions in the order of the data set's rows; those of an episode are neighbours. One copy
// serves all runs of a process that read the same file by the same keys.
struct rgm_transitions {
  char path[RGM_STRING_SIZE], format[16], digest[65]; // of the content
  int64_t rows, file_rows, episodes;                  // N; rows of the file; episodes in it
  int64_t part[RGM_SPLITS];                           // transitions of each part
  int64_t left_out;          // rows without a next state that did not terminate
  int64_t terminated_count;  // transitions that did, of any part
  int states, actions;       // S, D
  int64_t choices;           // classes of an action (D = 1), 0: actions are continuous
  bool has_reward, has_next; // whether there are columns of these roles
  float *obs, *next;         // (N, S) in their units; next is obs where only `terminated` is known
  float *action;             // (N, D) in their units, or class numbers
  float *reward;             // (N), NaN where the data set has none
  float *terminated;         // (N) 1 or 0
  uint8_t *truncated;        // (N) 1 or 0
  uint8_t *known;            // (N) 1 where next is of the data, 0 where it stands in
  uint8_t *split;            // (N) rgm_split
  int64_t *row, *episode;    // (N) row of the data set; number of the episode, 0, 1, ...
  int64_t *patient;          // (N) as in the data set, the episode where it has no patients
  rgm_feature *state;        // (S)
  rgm_feature *act;          // (D); of classes only the name
  double *dose, *edge;       // (A), (A - 1) of classes that are bins of a dose: its median over the
                             // training rows, NaN where none has it, and what lies between bins,
                             // NaN where the data set does not say; NULL: no column of role dose
  char dose_unit[32];
  float *mean, *sd;          // (S) as in `state`, what inputs are normalised by
  float *act_low, *act_high; // (D) the box of continuous actions, in their unit; not of classes
  char notes[1024];          // what people should know, a line each, "" where there is nothing
};

// Reads a data set as transitions, or gives another owner to what a run of this process has read
// already: same file, same keys. Errors: those of rgm_dataset_read, and RGM_EDATA with row and
// column of what cannot be learned from: no actions, values that are missing and have no fill,
// classes that are no whole numbers, an episode or a patient in two parts, no row to train on.
rgm_status rgm_transitions_read(const rgm_data_keys *keys, const rgm_transitions **out);

// One of a data set in memory, which it leaves as it is but for the split column; nobody else gets
// it.
rgm_status rgm_transitions_of(rgm_dataset *d, const rgm_data_keys *keys,
                              const rgm_transitions **out);

// An owner less: the last one frees.
void rgm_transitions_free(const rgm_transitions *t);

// Two lines for people: what the file has, and how it is split; then the notes.
void rgm_transitions_print(const rgm_transitions *t, FILE *out);


// ---- on the device -----------------------------------------------------------------------------

// Columns of a ring, in this order; `columns` of rgm_plan_ring is a set of them: 1 <<
// RGM_RING_OBS, ...
enum {
  RGM_RING_OBS,        // (R, C, S)
  RGM_RING_ACTION,     // (R, C, D)
  RGM_RING_REWARD,     // (R, C, 1)
  RGM_RING_NEXT,       // (R, C, S)
  RGM_RING_TERMINATED, // (R, C, 1) 1 or 0
  RGM_RING_ALL,
};
enum { RGM_RING_WHOLE = (1 << RGM_RING_ALL) - 1 };

// Plans a part of the run's transitions as a full ring, "NAME/obs", ...: one copy for all replicas
// (stride 0), which the engine fills when memory is bound and no checkpoint holds. The ring has the
// wanted columns only, in their order. A part without transitions is a ring of no rows.
rgm_ring rgm_plan_ring(rgm_run *run, const char *name, rgm_split part, unsigned columns);

// The same ring for `count` replicas from `first` on.
rgm_ring rgm_slice_ring(const rgm_ring *ring, int64_t first, int64_t count);

// The engine fills what was planned.
rgm_status rgm_fill_rings(rgm_run *run);

#endif
