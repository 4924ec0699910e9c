// SPDX-License-Identifier: Apache-2.0
// Tabular Markov decision problems on the host: transition probabilities as sparse rows per
// state-action pair, rewards, masks, start distribution, names; built from transitions in any
// order, checked, read and written in the formats of the field, and laid out for the kernels.
//
// A file is a prefix as of checkpoints (512 bytes, SHA-256 of all of it) and an HDF5 file with a
// group /mdp: attributes states, actions, gamma; datasets first (S + 1), action (rows), start (rows
// + 1), next, p, gain (entries), reward, allowed (rows); where known count (entries), begin, good
// (S), state_names, action_names.

#ifndef RGM_MDP_H
#define RGM_MDP_H

#include "engine/engine.h"
#include "kernels/tabular.h"

typedef struct rgm_mdp_origin rgm_mdp_origin; // engine/trajectories.h

// Invariants: rows of a state are neighbours, by action; entries of a row ascend by next state,
// each state once; p > 0 or, where it was given, 0; p of a row sums to 1 to `tolerance` of the
// checks. A state without rows is an end. `reward` is the expected one, sum p gain.
typedef struct rgm_mdp {
  int64_t states, actions, rows, entries;
  int64_t *first;    // (states + 1)
  int32_t *action;   // (rows)
  int64_t *start;    // (rows + 1)
  int32_t *next;     // (entries)
  double *p;         // (entries)
  double *gain;      // (entries) reward of the transition
  double *reward;    // (rows)
  uint32_t *count;   // (entries) how often it was seen; NULL: not from counts
  uint8_t *allowed;  // (rows) 0: masked, no policy may take it
  double *begin;     // (states) start distribution, sums to 1; NULL: not known
  char **state_name; // (states), NULL: numbers
  char **action_name;
  int32_t *policy;             // (states) an action each to start from; NULL: none
  uint8_t *good;               // (states) 1: who comes here survives; NULL: not known
  double gamma;                // that comes with it, NaN: none
  int grid_rows, grid_columns; // states as a table to be printed, 0: a list
  rgm_mdp_origin *origin;      // of one counted from trajectories (trajectories.h), else NULL
  int64_t merged;              // rows that were given twice and added up
  int64_t renormalised;        // rows that were scaled to sum 1
  double off;                  // the largest |sum - 1| before that
} rgm_mdp;

void rgm_mdp_free(rgm_mdp *m);

// Hex SHA-256 over sizes and arrays (names and notes lie outside). RGM_EMEMORY.
rgm_status rgm_mdp_digest(const rgm_mdp *m, char hex[65]);

size_t rgm_mdp_bytes(const rgm_mdp *m);


// ---- building ----------------------------------------------------------------------------------

// How rows are checked.
typedef struct rgm_mdp_checks {
  double tolerance; // |sum p - 1| that is taken for rounding; 0: 1e-8
  bool normalise;   // scale every row to sum 1, whatever it sums to
  bool strict;      // a transition that is given twice is an error
} rgm_mdp_checks;

// Collects transitions in any order. `where` is what messages call the source, `unit` what they
// call an item's place in it ("row").
typedef struct rgm_mdp_builder rgm_mdp_builder;
rgm_status rgm_mdp_builder_new(const char *where, rgm_mdp_builder **out);

// One transition; place is its row in the source. RGM_EDATA for p outside [0, 1] (checked with the
// row's sum to tolerance), a reward that is no number, indices below 0 or of 2^31 and more.
rgm_status rgm_mdp_add(rgm_mdp_builder *b, int64_t place, int64_t s, int64_t a, int64_t next,
                       double p, double reward);

// A count of a transition seen; p follows from counts then.
rgm_status rgm_mdp_add_count(rgm_mdp_builder *b, int64_t place, int64_t s, int64_t a, int64_t next,
                             double reward);

// The problem of what was added: `states` and `actions` 0: as many as indices say. Duplicate
// transitions are added up, p = 0 is dropped. Frees the builder, also after an error.
rgm_status rgm_mdp_finish(rgm_mdp_builder *b, int64_t states, int64_t actions,
                          const rgm_mdp_checks *checks, rgm_mdp **out);
void rgm_mdp_builder_free(rgm_mdp_builder *b);

// Names of `count` states or actions, copied. RGM_EMEMORY.
rgm_status rgm_mdp_name(char ***to, const char *const *names, int64_t count);

// Takes the rows of these states away, so that they are ends. RGM_EDATA names one that there is
// not.
rgm_status rgm_mdp_end_states(rgm_mdp *m, const double *states, int count);

// Looks at a whole problem, however it came: RGM_EDATA says what is wrong with which row.
rgm_status rgm_mdp_check(const rgm_mdp *m, const char *where);

// The row of (s, a), -1 where there is none.
int64_t rgm_mdp_row(const rgm_mdp *m, int64_t s, int64_t a);

// Index of the first cumulated weight above u; the last with any weight where rounding leaves none.
int64_t rgm_mdp_choose(const double *weight, int64_t count, double u);

// A state that is never left, whatever is done; and an end: one that pays nothing either.
bool rgm_mdp_is_absorbing(const rgm_mdp *m, int64_t s);
bool rgm_mdp_is_end(const rgm_mdp *m, int64_t s);

// Rows of a state that are equal to 1e-15 in p and reward are one choice: keeps the first, masks
// the others. Returns how many were masked.
int64_t rgm_mdp_mask_twins(rgm_mdp *m);

// Masks rows that equal the mean of their state's other, distinct rows: how ICU-Sepsis 2 stores
// actions that no clinician took. Returns how many.
int64_t rgm_mdp_mask_means(rgm_mdp *m);


// ---- files -------------------------------------------------------------------------------------

// What a reader needs to know beside the path.
typedef struct rgm_mdp_source {
  const char *path;
  const char *kind;  // of rgm_mdp_kinds, "auto": by content and name
  const char *begin; // a file with the start distribution, or ""
  const char *mask;  // a file of s,a pairs that are allowed, or ""
  rgm_mdp_checks checks;
} rgm_mdp_source;

extern const char *const rgm_mdp_kinds[]; // "auto", "text", "icu-sepsis", "mdp", NULL

// Reads a problem. Errors name file and row: RGM_EDATA, RGM_EIO, RGM_EMEMORY, RGM_EUSAGE.
rgm_status rgm_mdp_read(const rgm_mdp_source *source, rgm_mdp **out);

// A stochastic policy from a text file, a line of probabilities of all actions for each state, as
// weight (rows): of what is allowed, scaled to sum 1; "" and states without any: all actions alike.
// RGM_EDATA, RGM_EIO.
rgm_status rgm_mdp_read_policy(const char *path, const rgm_mdp *m, double *weight);

// Writes one by the end of the name: .h5 our own file; the allowed rows as .tsv lines of s a s' p
// r, .json (Gymnasium's table), .petsc (its binary matrix) or .tra (PRISM), the last two without
// rewards. Whole or not at all. RGM_EIO, RGM_EUSAGE.
rgm_status rgm_mdp_write(const char *path, const rgm_mdp *m);

// Our own file.
rgm_status rgm_mdp_file_write(const char *path, const rgm_mdp *m);
rgm_status rgm_mdp_file_read(const char *path, rgm_mdp **out);

// Whether a file is one of ours, by its prefix; `regimen info` of it; `regimen check`, which tells
// what readers of its answers should know. RGM_EDATA where it is damaged.
bool rgm_mdp_is_file(const char *path);
rgm_status rgm_mdp_info(const char *path, bool json, FILE *out);
rgm_status rgm_mdp_report(const char *path, bool json, FILE *out);


// ---- layout ------------------------------------------------------------------------------------

typedef struct rgm_mdp_layout {
  rgm_mdp_rows rows;   // allowed rows in host memory: one replica, stride0 0
  rgm_mdp_rows chosen; // for a row of each state: first, block, slice, start, and shapes
  int64_t *row;        // (rows of the layout) the problem's row of each
  void *memory;
} rgm_mdp_layout;

// Lays the allowed rows out. `compact` rounds p to multiples of 1 / 65535 so that rows still sum to
// 1; RGM_EDATA where a next state is more than 32767 away. RGM_EMEMORY.
rgm_status rgm_mdp_lay_out(const rgm_mdp *m, bool compact, rgm_mdp_layout *out);
void rgm_mdp_layout_free(rgm_mdp_layout *l);


// A model without data: next states within `spread` of the state (0: anywhere), all else random.
enum { RGM_MODEL_SUCCESSORS = 256 };
typedef struct rgm_mdp_model {
  int64_t states, actions, successors, spread;
  uint64_t seed;
  bool compact;
} rgm_mdp_model;

// Makes one on a CPU stream's threads; `chosen` and `row` stay empty. RGM_EMEMORY.
rgm_status rgm_mdp_make_model(const rgm_mdp_model *model, rgm_stream *stream, rgm_mdp_layout *out);


// Walker's alias table (1977, by Vose's method) of `size` weights: column k keeps its own share[k]
// of 1, the rest is alias[k]. share may be weight.
void rgm_mdp_alias_table(const double *weight, int64_t size, double *share, uint32_t *alias);


// ---- structure ---------------------------------------------------------------------------------

// States that some policy never leaves although they are no ends (`all`), or that every allowed
// action keeps from the ends: marks them in `trapped` (states) and returns how many. `policy`
// (states) rows that are followed; NULL: any allowed one.
int64_t rgm_mdp_traps(const rgm_mdp *m, const int64_t *policy, uint8_t *trapped);

#endif
