// SPDX-License-Identifier: Apache-2.0
// From trajectories to a tabular problem, the recipe of AI-Clinician (Komorowski et al. 2018, Nat
// Med 24:1716) and ICU-Sepsis (Choudhary et al. 2024): a long table of stays by steps becomes
// scaled features, states by k-means++ (Arthur & Vassilvitskii 2007), actions by bins of dose,
// counts, and a problem whose rare pairs are masked.
//
// trajectories.c reads the table by a YAML file, _states.c finds the states, _mdp.c counts,
// _report.c tells, _newcomers.c reads who is new. Nothing printed names a patient or shows one's
// value.

#ifndef RGM_TRAJECTORIES_H
#define RGM_TRAJECTORIES_H

#include "engine/csv.h"
#include "engine/mdp.h"

enum { RGM_DRUGS = 2, RGM_BINS = 32, RGM_FEATURES = 512 };

typedef enum rgm_scaling {
  RGM_SCALE_Z,      // x
  RGM_SCALE_LOG,    // log(0.1 + x), for what is skewed
  RGM_SCALE_BINARY, // x, of mean 1/2 and sd 1
} rgm_scaling;

// How a stay ended: CUT, nobody knows.
typedef enum rgm_stay_end { RGM_STAY_CUT, RGM_STAY_DIED, RGM_STAY_SURVIVED } rgm_stay_end;

// Where a problem that was counted from trajectories comes from: what assigns new patients to its
// states, and the visits of all stays, without ids, so that plans can be judged by those that were
// held out. State k has centre k; the two states after them are died and survived.
struct rgm_mdp_origin {
  int64_t features, centres, drugs, bins, stays, visits;
  double *mean, *sd;      // (features) of the feature, of its logarithm
  double *low, *high;     // (features) range in training, in its own unit; NULL in older files
  uint8_t *scaling;       // (features) rgm_scaling
  float *centre;          // (centres, features) scaled
  double *edge;           // (drugs, bins) bin b > 0 ends at edge[b], itself included; the last: inf
  double *dose;           // (drugs, bins) median of the training doses of a bin
  int64_t *first;         // (stays + 1) visits of a stay
  uint8_t *held;          // (stays) 1: the problem was counted without it
  uint8_t *end;           // (stays) rgm_stay_end
  int32_t *state;         // (visits) -1: in a state that was removed
  int32_t *action;        // (visits)
  double pay[3];          // by rgm_stay_end: the reward at the end
  char **feature, **drug; // names
};

void rgm_mdp_origin_free(rgm_mdp_origin *o);

// A feature as the centres have it; NaN stays.
float rgm_origin_scale(const rgm_mdp_origin *o, int64_t feature, double x);

// A centre's feature in the feature's own unit; of a skewed one that is the geometric mean.
double rgm_origin_centre(const rgm_mdp_origin *o, int64_t centre, int64_t feature);

// The state of a patient with features x (features), NaN where not measured: the nearest centre
// over what is there (kernels/tabular.h). *known is how many are there, 0: no state, -1.
int32_t rgm_origin_assign(const rgm_mdp_origin *o, const double *x, float *distance, int *known);

// The bin of a dose of a drug: 0 for none. The bin that an action means, and its dose: the median
// of training, NaN where actions are numbers.
int rgm_origin_bin(const rgm_mdp_origin *o, int64_t drug, double dose);
int rgm_origin_bin_of(const rgm_mdp_origin *o, int64_t drug, int64_t action);
double rgm_origin_dose(const rgm_mdp_origin *o, int64_t drug, int64_t action);

// Why a feature cannot be x (NaN: not measured), NULL where it can.
const char *rgm_origin_refuses(rgm_scaling scaling, double x);

// New patients, a row each: x (rows, features) as importers read them, NaN where empty or the table
// has no such column (`absent`); place is a row's place in the file. Free both with
// rgm_newcomers_free. RGM_EDATA names row and column, or a column whose name is nearly a feature's.
typedef struct rgm_newcomers {
  int64_t rows;
  double *x;
  int64_t *place;
  int absent;
} rgm_newcomers;

rgm_status rgm_newcomers_read(const rgm_mdp_origin *o, const char *path, rgm_newcomers *out);
void rgm_newcomers_free(rgm_newcomers *p);


// ---- the table, for the files named above ------------------------------------------------------

typedef struct rgm_options rgm_options;

typedef struct trajectory_keys {
  // columns.*
  char id[RGM_STRING_SIZE], patient[RGM_STRING_SIZE], step[RGM_STRING_SIZE];
  char features[RGM_STRING_SIZE], skewed[RGM_STRING_SIZE], binary[RGM_STRING_SIZE];
  char ignore[RGM_STRING_SIZE], doses[RGM_STRING_SIZE], action[RGM_STRING_SIZE];
  char outcome[RGM_STRING_SIZE];
  // states.*, actions.*, counts.*, outcome.*, split.*, run.*
  int64_t states, restarts, iterations, seed, bins, least, split_seed, threads;
  double share, held, died_pays, survived_pays;
  int missing_dose, rare, backend;
  char died[RGM_STRING_SIZE], isa[RGM_STRING_SIZE];
} trajectory_keys;

enum { DOSE_REFUSE, DOSE_ZERO };
enum { RARE_MERGE, RARE_REMOVE, RARE_FREQUENT };

// What is told of a table and what became of it.
typedef struct trajectory_counts {
  int64_t rows, stays, patients, held_stays, held_patients, cut, died, held_died, gaps, empty_rows;
  int64_t pairs, kept, removed, transitions, kept_transitions, held_visits, held_kept, lost_visits;
  int64_t fitted; // rows that k-means saw
  int restarts_done, sweeps;
  double inertia, worst_inertia;         // of the best and worst restart, a row
  double distance[2], missing[2];        // training, held out: mean distance, share not measured
  int64_t feature_missing[RGM_FEATURES]; // rows without it
} trajectory_counts;

// Rows in order of stay and step. Free with rgm_trajectories_free.
typedef struct trajectories {
  const char *path;
  trajectory_keys key;
  int64_t rows, stays, room;
  int features, drugs;
  char (*name)[64]; // (features)
  char drug[RGM_DRUGS][64];
  uint8_t scaling[RGM_FEATURES];
  float *x;              // (rows, features) as read, then scaled
  double *dose;          // (rows, drugs)
  int32_t *action;       // (rows)
  double *step;          // (rows)
  int64_t *stay, *place; // (rows) number of the stay, row of the file
  int8_t *outcome;       // (rows) -1: not said
  int64_t *patient;      // (rows)
  int64_t *first;        // (stays + 1)
  uint8_t *held, *end;   // (stays)
  int64_t *who;          // (stays) patient
  int32_t *state;        // (rows)
  float *distance;       // (rows) to its centre
  char digest[65];
  trajectory_counts count;
  rgm_mdp_origin *origin;
  rgm_mdp *mdp;
} trajectories;

void rgm_trajectories_free(trajectories *t);

// _table.c: the file; a number of it, NaN where there is none
rgm_status rgm_trajectories_read(trajectories *t);
rgm_status rgm_trajectories_number(const rgm_csv *csv, const rgm_csv_field *fields, int column,
                                   double *out);

// _states.c: scaling and centres of training rows into t->origin; states of all rows by the
// centres whose `alive` is set.
rgm_status rgm_trajectories_states(trajectories *t, rgm_stream *stream);
rgm_status rgm_trajectories_assign(trajectories *t, rgm_stream *stream, const uint8_t *alive);

// _mdp.c: bins of doses; the problem, with states renumbered
rgm_status rgm_trajectories_actions(trajectories *t);
rgm_status rgm_trajectories_count(trajectories *t, rgm_stream *stream);

// _report.c
void rgm_trajectories_report(const trajectories *t, const char *out, FILE *text, rgm_json *json);

// `regimen import trajectories`.
rgm_status rgm_import_trajectories(const rgm_options *options);

#endif
