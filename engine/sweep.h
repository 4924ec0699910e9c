// SPDX-License-Identifier: Apache-2.0
// What the files of a sweep share: trials, brackets of trials, and the sweep itself. A sweep's
// folder holds
//
//   sweep.yaml                  the sweep, resolved; its first line is the digest of what it is
//   results.csv                 one row for each trial and seed; written last: the sweep is done
//   summary.json summary.txt    one row for each trial; the best of them
//   best/ trial-INDEX/          run folders of the winner and of others that sweep.keep asks for
//   log.txt                     who claimed and finished what; no part of the results
//   work/                       until then: claims (claim.h), progress-UNIT.GENERATION.h5 and
//                               part-UNIT.GENERATION of brackets, kept-UNIT.INDEX.GENERATION.h5
//
// What is in the results depends on sweep.yaml alone: trials are compared inside their bracket
// only, a bracket has one owner at a time, and whatever moment a process dies at, the next owner
// goes on from the bracket's last progress to the same bits. Private to the engine.

#ifndef RGM_SWEEP_H
#define RGM_SWEEP_H

#include "engine/claim.h"
#include "engine/regimen.h"
#include "engine/space.h"

typedef enum rgm_trial_status {
  RGM_TRIAL_READY,   // has steps to do until its next rung
  RGM_TRIAL_RESTING, // is at a rung and waits for the rest of its bracket
  RGM_TRIAL_STOPPED, // others were better
  RGM_TRIAL_FAILED,  // a tensor is not finite
  RGM_TRIAL_DONE,    // has done all steps
} rgm_trial_status;

// A trial: one point of the space, run with sweep.seeds seeds.
typedef struct rgm_entrant {
  int64_t index;
  rgm_trial_status status;
  int rung;                         // that it goes to, or rests at
  uint64_t step;                    // done
  char *values[RGM_MAX_DIMENSIONS]; // NULL: the config's
  int64_t parent;                   // pbt: whose weights it took over last, -1 for none
  uint32_t draws;                   // pbt: perturbations drawn
  float *scores;                    // (rungs, seeds) of the metric; NaN where it was not
  char digest[65];                  // of its tensors at `step`, "" before there is one
  rgm_checkpoint *state;            // its tensors, NULL at step 0 and where it is not wanted
  rgm_run *member;                  // its keys, NULL before they are needed
  int group;                        // trials of one group can be packed
} rgm_entrant;

// Trials that are compared with each other, the unit that is claimed.
typedef struct rgm_bracket {
  int64_t unit;
  int generation;
  int count;
  rgm_entrant *trials;
} rgm_bracket;

typedef struct rgm_sweep {
  const rgm_options *options;
  rgm_space *space;
  char folder[2048], work[2080];
  char metric[48];
  bool is_min;
  int rungs;
  uint64_t *rung_step; // (rungs), the last one is run.steps
  int64_t units;       // brackets; the unit after the last one is bringing the results together

  // of a worker
  rgm_stream *stream;
  char device[512];
  int64_t capacity; // replicas of a pack
  rgm_claims claims;
  rgm_bracket **brackets;
  int bracket_count;
  char **groups; // what the trials of a group have in common
  int group_count;
  double saved, ask, tell, show; // s: when it was saved, and when what is due
  int shown_lines;
} rgm_sweep;


// ---- sweep.c -----------------------------------------------------------------------------------

// A line with date and pid into log.txt; nothing that is compared.
void rgm_sweep_log(const rgm_sweep *s, const char *format, ...) RGM_PRINTF(2, 3);

// `regimen check` of a config with a sweep: what it would do.
rgm_status rgm_sweep_check(const rgm_options *options);

// ---- bracket.c: what a bracket is, how it is decided, saved and finished -----------------------

// The trials of a unit: from the newest progress there is, or from the start.
rgm_status rgm_bracket_open(rgm_sweep *s, int64_t unit, int generation, rgm_bracket **out);
void rgm_bracket_free(const rgm_sweep *s, rgm_bracket *b);

// The trials of a unit as they begin.
rgm_status rgm_bracket_blank(const rgm_sweep *s, int64_t unit, rgm_bracket **out);

// Where no trial is ready: who goes on. Returns with some ready, or with all at their end.
rgm_status rgm_bracket_decide(rgm_sweep *s, rgm_bracket *b);
bool rgm_bracket_ended(const rgm_bracket *b);
int rgm_bracket_ready(const rgm_bracket *b);

// The mean of a trial's metric over its seeds at a rung.
double rgm_entrant_score(const rgm_sweep *s, const rgm_entrant *e, int rung);

// Whether x is better than y; NaN is worse than anything.
bool rgm_sweep_better(const rgm_sweep *s, double x, double y);

// Reads the keys of a trial and finds its group, once.
rgm_status rgm_entrant_prepare(rgm_sweep *s, rgm_entrant *e);

// ---- progress.c: brackets on disk ---------------------------------------------------------------

// The table of a bracket as text, and back: one that does not fit is RGM_EDATA.
rgm_status rgm_bracket_write_table(const rgm_sweep *s, const rgm_bracket *b, FILE *out);
rgm_status rgm_bracket_read_table(const rgm_sweep *s, rgm_bracket *b, const char *path,
                                  const char *text);

// Progress with all states; restore takes the newest readable one of any generation, *found false
// where there is none.
rgm_status rgm_bracket_save(const rgm_sweep *s, const rgm_bracket *b);
rgm_status rgm_bracket_restore(rgm_sweep *s, rgm_bracket *b, bool *found);

// The part of the results, which ends the unit; and whether, and under which name, it is there.
rgm_status rgm_bracket_write_part(const rgm_sweep *s, const rgm_bracket *b);
bool rgm_sweep_part(const rgm_sweep *s, int64_t unit, char *path, size_t size);

// A whole small text onto the disk, atomically. And back; the caller frees it.
rgm_status rgm_sweep_write_text(const char *path, const char *text, size_t size);
rgm_status rgm_sweep_read_text(const char *path, char **text);

// ---- results.c: what comes out -----------------------------------------------------------------

// Over the seeds of a trial: mean, standard error (NaN for one), and the mean of the middle half
// (Agarwal et al. 2021).
typedef struct rgm_seeds {
  double mean, error, iqm;
} rgm_seeds;
void rgm_seed_summary(const float *x, int64_t n, rgm_seeds *out);

// Brings all parts together: best/, other kept trials, summary.json, results.csv; then work/ goes.
rgm_status rgm_sweep_conclude(rgm_sweep *s);

// Ends what a conclusion that was cut short had left.
void rgm_sweep_tidy(const rgm_sweep *s);
bool rgm_sweep_is_done(const rgm_sweep *s);

// The state of a sweep for people, or with --json: how far it is, who works, the best trials.
// Returns the lines printed through *lines (may be NULL).
rgm_status rgm_sweep_show(const rgm_sweep *s, FILE *out, bool json, int *lines);

#endif
