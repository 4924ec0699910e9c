// SPDX-License-Identifier: Apache-2.0
// What environments, algorithms and the engine's own files see: typed config fields, the planned
// arena of named tensors, the run, checkpoints, metrics, and the two small structs of function
// pointers through which the engine knows environments and algorithms.

#ifndef RGM_ENGINE_H
#define RGM_ENGINE_H

#include "kernels/kernels.h"

#include <stdio.h>

typedef struct rgm_run rgm_run;
typedef struct rgm_dataset rgm_dataset;         // engine/dataset.h
typedef struct rgm_transitions rgm_transitions; // engine/transitions.h
typedef struct rgm_mdp rgm_mdp;                 // engine/mdp.h
typedef struct rgm_frame rgm_frame;             // engine/frame.h


// ---- config: one table row per key -------------------------------------------------------------

typedef enum rgm_type {
  RGM_BOOL,   // bool        true | false
  RGM_INT,    // int64_t     12, -3, 4000
  RGM_FLOAT,  // double      0.5, 3e-4 (integers are accepted)
  RGM_CHOICE, // int         index into `choices`
  RGM_STRING, // char[RGM_STRING_SIZE]
  RGM_LIST,   // rgm_list    of floats: [0.25, 0.75]; a bare number is a list of one
} rgm_type;

enum { RGM_STRING_SIZE = 256, RGM_LIST_SIZE = 32 };

typedef struct rgm_list {
  int count;
  double value[RGM_LIST_SIZE];
} rgm_list;

enum {
  RGM_SHAPE = 1,      // changes shapes or kernels: a sweep over it makes groups, not replicas
  RGM_PROVENANCE = 2, // says how, not what, is computed: left out of digests
  RGM_ADDED = 4,      // came when runs existed: left out of digests while it has its default
};

// A row of a component's table; the table ends with a row whose key is NULL. A component reads its
// keys from the plain struct that the offsets point into.
typedef struct rgm_field {
  const char *key; // without the section: "noise_sd" of "env.noise_sd"
  rgm_type type;
  size_t offset;
  const char *unit;           // "s", "mg", "1" for a pure number, "" where it makes no sense
  const char *fallback;       // default as it would stand in the file; NULL: the key is required
  double min, max;            // inclusive, for numbers and list elements
  const char *const *choices; // RGM_CHOICE: names, ended by NULL
  unsigned flags;
  const char *doc; // one sentence
} rgm_field;

// A row for a text without unit, range or choices.
#define RGM_TEXT(key, offset, fallback, flags, doc) \
  { key, RGM_STRING, offset, "", fallback, 0, 0, NULL, flags, doc }

typedef struct rgm_config rgm_config;

// Reads a YAML file, the files that it extends (nearest wins) and the `path=value` overrides of the
// command line. Checks syntax, duplicates and nesting only; keys are checked as sections are read.
// `path` may be NULL (overrides only). Errors: RGM_ECONFIG "file:line:col: ..." or RGM_EIO.
rgm_status rgm_config_load(const char *path, const char *const *overrides, int override_count,
                           rgm_config **out);

// The same from text in memory (a checkpoint's resolved config); `name` stands in for the file.
rgm_status rgm_config_parse(const char *name, const char *text, const char *const *overrides,
                            int override_count, rgm_config **out);
void rgm_config_free(rgm_config *config);

// Reads one section ("env") into `values`: unset keys get their default, set ones are checked for
// type and range. Remembers the table, so that finish and emit know it. A value that does not fit
// gives RGM_ECONFIG with file:line:col, the key, what was expected (range, unit, choices).
rgm_status rgm_config_read(rgm_config *config, const char *section, const rgm_field *fields,
                           void *values);

// After the last section: any key that no table claimed is an error that names the nearest key.
rgm_status rgm_config_finish(const rgm_config *config);

// The text of a key as given, or NULL where it is not set; for choosing tables by name.
const char *rgm_config_text(const rgm_config *config, const char *key);

// Whether there is a `sweep:` section, which belongs to no run (engine/space.h).
bool rgm_config_has_sweep(const rgm_config *config);

// "file:line:col" where a key was set ("--set a.b=3" for overrides, "default" when it was not), for
// messages of components that check combinations of keys. Valid as long as the config.
const char *rgm_config_where(const rgm_config *config, const char *key);

// Gives a key a value as if by the command line (a relative data path made absolute, say).
rgm_status rgm_config_set(rgm_config *config, const char *key, const char *value);

// The resolved config, all keys of all tables read, as YAML that loads to the same values. With
// `digest_only` the keys flagged RGM_PROVENANCE are left out. The caller frees the text.
char *rgm_config_emit(const rgm_config *config, bool digest_only);

// Prints a table of keys for `regimen explain`: key, type, unit, range, default, doc.
void rgm_config_explain(FILE *out, const char *section, const rgm_field *fields);

// The name in `names` (ended by NULL) nearest to `word` in edit distance, NULL if none is close.
const char *rgm_nearest(const char *word, const char *const *names);


// ---- arena: named tensors, planned twice, then sealed ------------------------------------------

enum {
  RGM_SCRATCH = 0,  // computed anew in every step
  RGM_STATE = 1,    // goes into checkpoints and digests
  RGM_EXPORTED = 2, // a weight that exports carry
  RGM_PRIVATE = 8,  // with RGM_STATE: into the run's private state file, not its checkpoints
  RGM_BLOCK = 4,    // holds named parts, which carry the flags: zeroed at first, not saved itself
};

// What a planned tensor is called and how it is laid out. Entries may be views of a larger block
// (`parent`), so that a net's layers are contiguous per replica and yet have names of their own.
typedef struct rgm_entry {
  char name[64];    // "policy/0/weight"
  char axes[64];    // "replica, in, out"
  char unit[16];    // "1", "mg", ...
  unsigned flags;   // RGM_STATE | RGM_EXPORTED
  int parent;       // index of the block that holds it, -1 for a block
  int64_t last_dim; // of the last dim, how many elements are meant; the rest is padding (zeros)
  rgm_tensor tensor;
} rgm_entry;

typedef struct rgm_arena rgm_arena;

// Two passes: measure (tensors come back with data NULL), then bind (same calls, real memory).
// After the second pass the arena is sealed: planning more is our bug. Memory is zeroed; debug
// builds fill scratch with NaN and put guard zones around blocks, checked by rgm_arena_check.
rgm_status rgm_arena_create(rgm_stream *stream, rgm_arena **out);
rgm_status rgm_arena_bind(rgm_arena *arena); // ends the measuring pass and allocates
rgm_status rgm_arena_seal(rgm_arena *arena); // ends the binding pass
rgm_status rgm_arena_check(const rgm_arena *arena);
void rgm_arena_free(rgm_arena *arena);
size_t rgm_arena_bytes(const rgm_arena *arena);
int rgm_arena_count(const rgm_arena *arena);
const rgm_entry *rgm_arena_entry(const rgm_arena *arena, int index);

// Names a tensor of dims d0..d3 (0 = unused). `axes` reads "replica, episode, step".
rgm_tensor rgm_plan(rgm_arena *arena, const char *name, rgm_dtype dtype, unsigned flags,
                    const char *axes, const char *unit, int64_t d0, int64_t d1, int64_t d2,
                    int64_t d3);

// Names a part of the newest block planned, per replica from element `offset` on; the part is a
// view with that block's replica stride. `last_dim` as in rgm_entry.
rgm_tensor rgm_plan_part(rgm_arena *arena, rgm_tensor block, int64_t offset, const char *name,
                         unsigned flags, const char *axes, int64_t d1, int64_t d2,
                         int64_t last_dim);


// ---- nets --------------------------------------------------------------------------------------

enum { RGM_MAX_LAYERS = 8, RGM_PAD = 16 };

// An MLP of R replicas: [replica][layer][in][out] with outputs padded to 16; each layer's weights
// are followed by its bias. `layers` counts weight matrices.
typedef struct rgm_mlp {
  int layers;
  int64_t width[RGM_MAX_LAYERS + 1]; // inputs, hidden..., outputs
  rgm_tensor block;                  // (R, W) all parameters
  rgm_tensor weight[RGM_MAX_LAYERS]; // (R, in, padded out)
  rgm_tensor bias[RGM_MAX_LAYERS];   // (R, padded out)
} rgm_mlp;

int64_t rgm_padded(int64_t n);
int64_t rgm_mlp_size(int layers, const int64_t *width); // W
rgm_mlp rgm_plan_mlp(rgm_arena *arena, const char *name, int64_t replicas, int layers,
                     const int64_t *width, unsigned flags);


// ---- checkpoints -------------------------------------------------------------------------------

// One dataset of a checkpoint. `data` is host memory, contiguous.
typedef struct rgm_record {
  char name[64];
  char axes[64];
  char unit[16];
  rgm_dtype dtype;
  int rank;
  int64_t dims[RGM_MAX_RANK];
  void *data;
} rgm_record;

typedef struct rgm_attribute {
  char name[48];
  char value[256];
} rgm_attribute;

// The content of a checkpoint: step, resolved config, provenance, named tensors.
typedef struct rgm_checkpoint {
  int schema;        // RGM_CHECKPOINT_SCHEMA when written by this version
  bool confidential; // a private state: the file's mode is 0600
  uint64_t step;
  char *config;              // resolved YAML
  rgm_attribute *attributes; // provenance: version, commit, device, digests, ...
  int attribute_count;
  rgm_record *records;
  int record_count;
} rgm_checkpoint;

// Schema 2 added the private state file and the best checkpoint (attributes of the provenance);
// files of schema 1 are read as runs that have neither.
enum { RGM_CHECKPOINT_SCHEMA = 2, RGM_CHECKPOINT_OLDEST = 1 };

#define RGM_BEST_NAME "checkpoint-best.h5"

// Writes `path` so that a reader sees the old file or the whole new one: HDF5 image built in
// memory, 512-byte prefix with its length and SHA-256, then temporary file, fsync, rename, fsync
// of the folder, read back. Errors: RGM_EIO (with errno's text and what to do), RGM_EMEMORY.
rgm_status rgm_checkpoint_write(const char *path, const rgm_checkpoint *checkpoint);

// Reads and verifies: prefix, length and digest before HDF5 sees a byte, then schema, then values.
// Errors: RGM_EDATA for a damaged or foreign file, RGM_EIO. Free with rgm_checkpoint_free.
rgm_status rgm_checkpoint_read(const char *path, rgm_checkpoint **out);
void rgm_checkpoint_free(rgm_checkpoint *checkpoint);
const rgm_record *rgm_checkpoint_record(const rgm_checkpoint *checkpoint, const char *name);
const char *rgm_checkpoint_attribute(const rgm_checkpoint *checkpoint, const char *name);

// The newest readable checkpoint-STEP.h5 of a folder, or else its checkpoint-best.h5: damaged ones
// are passed over with a line on `notes` (may be NULL). `path_out` gets its path. RGM_EDATA where
// none is readable, RGM_EIO where the folder cannot be read; *out = NULL and RGM_OK where it holds
// no checkpoint at all.
rgm_status rgm_checkpoint_newest(const char *folder, FILE *notes, char *path_out, size_t path_size,
                                 rgm_checkpoint **out);

// The same for going on until step `until`: a checkpoint counts only with the private state that it
// was written with, in *state (NULL where it has none, or where no step is left to do).
rgm_status rgm_checkpoint_resumable(const char *folder, uint64_t until, FILE *notes, char *path_out,
                                    size_t path_size, rgm_checkpoint **out, rgm_checkpoint **state);

// Removes all but the newest `keep` checkpoint-STEP.h5, and every state-STEP.h5 that none of them
// needs. All of those go where `states` is false: RGM_EIO if one stays.
rgm_status rgm_checkpoint_prune(const char *folder, int64_t keep, bool states);

// Removes what writes that were cut short left behind (*.h5.tmp): for who holds the folder's lock.
rgm_status rgm_checkpoint_sweep(const char *folder);

// state-STEP.h5 beside a checkpoint; true for what such a file holds; the private state of `c`,
// read from the file beside `path` and compared with the digest that `c` has of it (RGM_EDATA).
void rgm_state_path(const char *checkpoint, uint64_t step, char *path, size_t size);
bool rgm_checkpoint_is_state(const rgm_checkpoint *c);
rgm_status rgm_state_read(const char *path, const rgm_checkpoint *c, rgm_checkpoint **out);

// Lower-case hex SHA-256 of a buffer.
void rgm_sha256_hex(const void *data, size_t size, char hex[65]);


// ---- environments ------------------------------------------------------------------------------

typedef struct rgm_quantity {
  const char *name, *unit, *doc;
} rgm_quantity;

// A controller that an environment brings along, to compare with.
typedef struct rgm_baseline {
  const char *name; // "pid_zn"
  const char *doc;
  rgm_control control;
  int param_count;
  rgm_status (*params)(const void *keys, float *params); // from the env.* keys
  const rgm_quantity *names;                             // of the parameters; NULL: PID's
} rgm_baseline;

// What a publication printed, shown beside our figures.
typedef struct rgm_published {
  const char *controller, *metric, *text;
} rgm_published;

// One subject of a pharmacokinetic data set: doses given and times at which a sample was taken.
typedef struct rgm_subject {
  double age, height, weight; // years, cm, kg
  int male;
  int dose_count;
  const double *dose_time, *dose_amount, *dose_rate; // min, mg, mg/min (rate 0: a bolus)
  int sample_count;
  const double *sample_time; // min, ascending
} rgm_subject;

// Test patients that are made from data and do not come from the environment's own draws.
typedef struct rgm_patients {
  int64_t count;   // 0: there are none, draw them
  float *words;    // (count, patient_words), to be freed
  char digest[65]; // SHA-256 of the data, "" where there is none
} rgm_patients;

// Episodes of a rollout in host memory, one patient each: obs (N, T, O), act (N, T, A), signals (N,
// T, S).
typedef struct rgm_episodes {
  int64_t count, steps; // N, T
  const float *obs, *act, *signals;
  int64_t bins;            // actions of the data set are quantiles of dose
  uint64_t seed;           // of the split by patient
  double validation, test; // shares of it
  bool history;            // what was given before is a state, where the environment knows it
} rgm_episodes;

// A group of test patients by name: the env.* keys that choose it.
enum { RGM_MAX_SETS = 8 };
typedef struct rgm_scenario {
  const char *name, *doc;
  const char *set[RGM_MAX_SETS]; // "env.model=eleveld", ended by NULL
} rgm_scenario;

// A table of simulated patients that is asked for.
typedef struct rgm_cohort_of {
  uint64_t seed;
  uint32_t number; // tells cohorts of one seed apart
  int64_t patients;
  const char *policy; // who decides: "clinician" or a rule of the environment's
} rgm_cohort_of;

// An environment: one header compiled for every backend, and this row.
typedef struct rgm_env {
  const char *name, *paper, *doc;
  const rgm_field *fields; // env.*
  size_t keys_size;        // of the struct that `fields` fill
  size_t config_size;      // of the constants that the loop reads, one copy per replica
  rgm_status (*prepare)(const void *keys, const rgm_config *where, void *config);
  int64_t (*steps)(const void *keys);
  int obs_dim, act_dim, signal_dim, patient_words;
  int choices;                     // > 0: act[0] is one of 0 ... choices - 1
  const float *act_low, *act_high; // (act_dim) the box of actions; NULL: [0, 1] each
  const rgm_quantity *obs, *act, *signals;
  double step_min;                          // minutes of a step
  int plot_value, plot_target, plot_action; // signals that a picture shows; no target: -1
  int metric_count;
  const rgm_quantity *metrics;
  int loss_metric; // the one that comparisons are about, smaller is better
  void (*measure)(const float *signals, int64_t steps, double *metrics); // signals (T, S)
  const rgm_baseline *baselines;                                         // ended by a NULL name
  const rgm_published *published; // ended by a NULL controller
  rgm_status (*predict)(const void *keys, const rgm_subject *subject, double *concentration);
  const rgm_env_kernels *(*kernels)(const rgm_backend *backend); // NULL where it lacks them

  // Where there is more than one kind of patient; each may be NULL.
  const rgm_env_kernels *(*kernels_of)(const void *keys, const rgm_backend *b); // keys choose
  const rgm_scenario *scenarios; // ended by a NULL name
  // patients of data (count 0 where the keys ask for none); `wanted` is eval.patients
  rgm_status (*patients)(const void *keys, const rgm_config *where, const void *config,
                         uint64_t seed, int64_t wanted, rgm_patients *out);
  // whether the largest action brings a patient to the highest target in time
  bool (*reachable)(const void *config, const float *words);

  // the metric that is the sum of rewards; and the greatest expectation of it that any policy can
  // have who knows this patient, by dynamic programming on `grid` points: of all the actions there
  // are, or (`whole` false) of the first one. NULL: unknown.
  int return_metric;
  rgm_status (*optimum)(const void *keys, const void *config, const float *words, int64_t grid,
                        bool whole, double *value);
  // a dose of one step, in `dose_unit`, as an action (act_dim), for agents that learned bins of it
  // from a data set; NULL: its actions are those of data sets
  const char *dose_unit;
  void (*give_dose)(const void *keys, double dose, float *act);
  // episodes as a data set with the columns that imports of real patients have; NULL: it has none
  rgm_status (*record)(const void *keys, const rgm_episodes *episodes, rgm_dataset **out);

  // A tabular problem, for algorithms that need one; such an environment has no loop, and so
  // nothing from `steps` on above but its names. NULL: it is none.
  rgm_status (*tabulate)(const void *keys, const rgm_config *where, rgm_mdp **out);

  // Tables of patients, a row each, for algorithms that judge estimators; no loop either. `known`
  // gives the true blips, at most `most`, and how many there are. NULL: it makes none.
  rgm_status (*cohort)(const void *keys, const rgm_config *where, const rgm_cohort_of *which,
                       rgm_frame *out);
  int (*known)(const void *keys, double *psi, int most);
} rgm_env;

extern const rgm_env *const rgm_envs[]; // ended by NULL; envs/envs.c


// ---- algorithms --------------------------------------------------------------------------------

// A controller of an algorithm that evaluation runs.
typedef struct rgm_contender {
  const char *name; // "cem_continuous"
  rgm_control control;
  int hidden;
  rgm_tensor params; // (R, W)

  // A policy that the fused loop does not know: act (R, rows, A) from obs (R, rows, O), for always
  // the same number of rows, of which some may not count. It only enqueues. It is called once for
  // every step of the episodes, which are then stepped (rgm_env_step); NULL: `control` acts.
  void (*act)(rgm_run *run, rgm_stream *s, rgm_tensor act, rgm_tensor obs);
  int64_t rows;
} rgm_contender;

enum {
  RGM_NEEDS_ENV = 1,       // env.* is read
  RGM_NEEDS_TABLE = 2,     // data.* is read: a CSV table
  RGM_TRAINS_NOT = 4,      // nothing to train: eval takes the config itself
  RGM_NEEDS_DATASET = 8,   // data.* is read: a data set, in run->transitions from `check` on
  RGM_TAKES_ENV = 16,      // env.* is read where the config has env.name; else run->env is NULL
  RGM_NEEDS_MDP = 32,      // with RGM_NEEDS_ENV: one that is tabular
  RGM_NEEDS_FRAME = 64,    // with RGM_NEEDS_TABLE: columns of words are factors (engine/frame.h)
  RGM_NEEDS_COHORT = 128,  // with RGM_NEEDS_ENV: one that makes tables of patients
  RGM_EVALUATES_ENV = 256, // of `evaluate` and `contenders`, the latter where there is an env
  RGM_TIMELESS = 512,      // `step` does not look at run->step: trials anywhere share a pack
};

typedef struct rgm_json rgm_json;

// A question to a trained rule about patients: what `regimen recommend` asks.
typedef struct rgm_recommendation {
  const rgm_checkpoint *checkpoint;
  rgm_config *config;     // its own
  const void *keys;       // algorithm.* of it
  const rgm_mdp *mdp;     // of RGM_NEEDS_MDP: the problem that the run was trained on
  const char *const *set; // "age=70", of one patient
  int set_count;
  const char *csv; // or a table of patients, NULL: none
  rgm_json *json;  // where the answer goes, or
  FILE *text;      // NULL: as JSON
} rgm_recommendation;

// Values that keys of an algorithm get by one name, where the config sets none of its own.
enum { RGM_MAX_PRESET = 32 };
typedef struct rgm_preset {
  const char *name;
  const char *set[RGM_MAX_PRESET][2]; // key without its section, value; ended by NULL
} rgm_preset;

// An algorithm: one file, and this row. plan names tensors and runs twice; step is one resumable
// unit of work and only enqueues; report reads back and calls rgm_report. NULL where there is
// nothing to do.
typedef struct rgm_algorithm {
  const char *name, *paper, *doc;
  const rgm_field *fields; // algorithm.*
  size_t keys_size;        // of the struct that `fields` fill
  size_t self_size;        // of run->self
  unsigned needs;
  const char *work_unit;                   // what a step does: "env-steps"
  double (*work)(const rgm_run *run);      // how many of them
  rgm_status (*check)(const rgm_run *run); // combinations of keys
  rgm_status (*plan)(rgm_run *run);
  rgm_status (*init)(rgm_run *run);
  rgm_status (*step)(rgm_run *run);
  rgm_status (*report)(rgm_run *run);
  int (*contenders)(rgm_run *run, rgm_contender *out, int max);
  rgm_status (*evaluate)(rgm_run *run, rgm_json *json, FILE *text); // in place of contenders
  const char *best_metric; // what `run.keep_best: auto` compares; NULL: nothing
  bool best_is_min;        // less of it is better
  // advice from a checkpoint alone, without data
  rgm_status (*recommend)(const rgm_recommendation *r);
  void (*release)(rgm_run *run); // frees what `self` points at, whatever was reached
  const rgm_preset *presets;     // that algorithm.preset chooses among, ended by a name NULL
} rgm_algorithm;

extern const rgm_algorithm *const rgm_algorithms[]; // ended by NULL; algorithms/algorithms.c


// ---- the run -----------------------------------------------------------------------------------

typedef struct rgm_run_keys {
  char name[RGM_STRING_SIZE], isa[RGM_STRING_SIZE], init_from[RGM_STRING_SIZE];
  char keep_best[RGM_STRING_SIZE];
  int backend;   // index into rgm_backend_names
  int best_mode; // 0 auto, 1 max, 2 min
  rgm_list devices;
  int64_t seed, replicas, steps, threads, report_every, checkpoint_every, keep;
} rgm_run_keys;

typedef struct rgm_eval_keys {
  int64_t patients, seed, optimum;
} rgm_eval_keys;

typedef struct rgm_data_keys {
  char path[RGM_STRING_SIZE];
  int64_t seed; // of data sets only, as what follows
  double validation, test;
} rgm_data_keys;

extern const char *const rgm_backend_names[]; // "auto", "cpu", "cuda", NULL
extern const rgm_field rgm_run_fields[], rgm_eval_fields[];
extern const rgm_field rgm_data_fields[], rgm_dataset_fields[]; // of tables, of data sets
extern const rgm_field rgm_simulate_fields[];                   // of `regimen simulate`

enum { RGM_MAX_HYPERS = 32, RGM_MAX_METRICS = 64, RGM_MAX_RINGS = 4 };

typedef struct rgm_metrics rgm_metrics;

// The best report so far, part of what is resumed.
typedef struct rgm_best {
  char metric[48]; // "" where nothing is compared
  bool is_min;     // less is better
  bool any;        // there was one
  double value;    // mean over the replicas
  uint64_t step;
} rgm_best;

// One run: its keys, its device, its tensors. Keys are per replica, so that a sweep can give each
// its own; `seeds`, `clock`, `active` and `env_config` are planned by the engine.
struct rgm_run {
  rgm_config *config;
  rgm_run_keys keys;
  rgm_eval_keys eval;
  rgm_data_keys data;
  const rgm_env *env;
  const rgm_algorithm *algorithm;
  void *env_keys, *algorithm_keys; // (R) structs of keys_size
  void *self;                      // the algorithm's own struct
  rgm_stream *stream;
  rgm_arena *arena;
  const rgm_env_kernels *env_kernels; // NULL with a tabular problem
  rgm_mdp *mdp;                       // the problem, NULL without one
  int64_t replicas;
  uint64_t step;         // steps done
  uint64_t reports_at;   // a step that a report follows beside those of run.report_every, or 0
  rgm_tensor seeds;      // (R, 2) u32: low, high word of run.seed + r
  rgm_tensor clock;      // (R) u32: steps that a replica has done, on the device
  rgm_tensor active;     // (R) u32
  rgm_tensor env_config; // (R, bytes) u8
  struct {
    rgm_tensor tensor;
    size_t offset;
  } hyper[RGM_MAX_HYPERS];
  int hyper_count;
  const rgm_transitions *transitions; // of the data set, with RGM_NEEDS_DATASET, else NULL
  struct {
    rgm_ring ring;
    int part; // rgm_split
    unsigned columns;
  } rings[RGM_MAX_RINGS]; // to be filled
  int ring_count;
  rgm_run *const *members; // of a pack: replica r is one of members[r / their replicas]; else NULL
  rgm_metrics *metrics;
  char device[512];         // one line: what runs and why
  char data_digest[65];     // of the table's file or the data set's content, "" without
  char parent_digest[65];   // digest of the checkpoint whose weights the run started from
  char restored_digest[65]; // digest of the checkpoint that was restored, "" where none was
  rgm_best best;
  char warning[256]; // of a report, for people and the log; "" once it was told
  char out[2048];    // folder for the files of an evaluation, "" where none are wanted
  bool resume;       // an evaluation that takes long goes on with what it left in that folder
  int acting;        // which of the algorithm's contenders is asked to act
};

// A hyperparameter: an f32 vector (R) filled from the double at `offset` in each replica's keys.
rgm_tensor rgm_plan_hyper(rgm_run *run, const char *name, size_t offset);

// The algorithm.* and env.* keys of replica r.
const void *rgm_algorithm_keys(const rgm_run *run, int64_t r);
const void *rgm_env_keys(const rgm_run *run, int64_t r);

// Reads a device tensor back; waits for it. `out` holds rgm_bytes(t) bytes.
rgm_status rgm_read_back(rgm_run *run, rgm_tensor t, void *out);

// Records a metric of this step for every replica: values[R]. The first one is the headline.
rgm_status rgm_report(rgm_run *run, const char *name, const char *unit, const float *values);

// The same of a device vector (R) f32: reads it back first.
rgm_status rgm_report_vector(rgm_run *run, const char *name, const char *unit, rgm_tensor t);

// Fails with RGM_ENUMERIC, naming tensor, replica and step, if an f32 entry flagged RGM_STATE
// holds NaN or Inf.
rgm_status rgm_guard(rgm_run *run);
rgm_status rgm_guard_replicas(rgm_run *run, int64_t first, int64_t n); // of these only

// The seed of replica r.
int64_t rgm_run_seed(const rgm_run *run, int64_t r);

// Makes a run from a loaded config: reads all sections, opens the device, plans, binds,
// initialises. Takes over `config`; *out is to be freed also on failure. rgm_run_plan_only stops
// before memory is bound.
rgm_status rgm_run_create(rgm_config *config, rgm_run **out);
rgm_status rgm_run_plan_only(rgm_config *config, rgm_run **out);
void rgm_run_free(rgm_run *run);

// A run that has its keys only, checked as far as they go by themselves (`check`: also with each
// other); and its device, as run.* says, with `run->device` a line about it. Takes over `config`;
// *out is to be freed also on failure.
rgm_status rgm_run_read(rgm_config *config, bool check, rgm_run **out);
rgm_status rgm_run_open_stream(rgm_run *run, rgm_stream **out);

// A pack: `count` members of rgm_run_read, equal in all keys flagged RGM_SHAPE, side by side on the
// replica axis of one run. Members and stream stay the caller's and must outlive it. Replicas i *
// n ... i * n + n - 1 are member i's n replicas, as that run alone would start. `bound` false stops
// before memory is bound.
rgm_status rgm_run_pack(rgm_run *const *members, int64_t count, rgm_stream *stream, bool bound,
                        rgm_run **out);

// What `count` replicas from `first` on are at this moment, private tensors and all; and back into
// replicas of any run of the same shapes.
rgm_status rgm_run_take(rgm_run *run, int64_t first, int64_t count, rgm_checkpoint **out);
rgm_status rgm_run_put(rgm_run *run, int64_t first, const rgm_checkpoint *taken);

// Member m of a pack as the checkpoint that `regimen train` would leave of it after `step` steps,
// without private state but with its digest.
rgm_status rgm_run_snapshot_member(rgm_run *pack, int64_t m, uint64_t step, rgm_checkpoint **out);

// The run as a checkpoint, without its private state; and with it, for a run that goes on (`done`:
// that does not). *state is NULL where the run has no private tensors, or is done.
rgm_status rgm_run_snapshot(rgm_run *run, rgm_checkpoint **out);
rgm_status rgm_run_snapshot_pair(rgm_run *run, bool done, rgm_checkpoint **out,
                                 rgm_checkpoint **state);

// And back. Restore refuses tensors of another shape; `exactly` (to go on training) refuses another
// configuration or seed too, while evaluation may change what it likes. Private tensors come from
// `state`; without one they stay as they are.
rgm_status rgm_run_restore(rgm_run *run, const rgm_checkpoint *checkpoint, bool exactly);
rgm_status rgm_run_restore_state(rgm_run *run, const rgm_checkpoint *state);
bool rgm_run_has_private(const rgm_run *run);

// Starts a run from the weights (entries flagged RGM_EXPORTED) of another one, for fine-tuning; one
// replica there serves all here. Step, moments and random numbers start anew.
rgm_status rgm_run_init_from(rgm_run *run, const rgm_checkpoint *checkpoint);

// The same of entries whose names begin with `prefix`, for an algorithm that starts with a part of
// another one's; `key` is the key that asked for it.
rgm_status rgm_run_take_weights(rgm_run *run, const rgm_checkpoint *checkpoint, const char *prefix,
                                const char *key);

// Hex SHA-256 over step, data digest, every record's name, type, dims and bytes, and the digest of
// the private state where there is one.
void rgm_checkpoint_digest(const rgm_checkpoint *checkpoint, char hex[65]);

// Version and commit of this build.
const char *rgm_version(void);
const char *rgm_commit(void);


// ---- metrics -----------------------------------------------------------------------------------

// Opens FOLDER/metrics.jsonl and metrics.csv; rows after `step` (of a run that went on and was
// resumed from an older checkpoint) are dropped.
rgm_status rgm_metrics_open(const char *folder, uint64_t step, rgm_metrics **out);
rgm_status rgm_metrics_add(rgm_metrics *m, const char *name, const char *unit, const float *values,
                           int64_t replicas);
rgm_status rgm_metrics_flush(rgm_metrics *m, uint64_t step); // writes the rows of this step
rgm_status rgm_metrics_sync(rgm_metrics *m);                 // all rows onto the disk
double rgm_metrics_headline(const rgm_metrics *m, const char **name); // mean over replicas

// The mean over replicas of the metric called `name` as last reported. RGM_ECONFIG where there is
// none of this name.
rgm_status rgm_metrics_mean(const rgm_metrics *m, const char *name, double *mean);

// The same for every replica; and metrics that no file holds, to be asked only.
rgm_status rgm_metrics_values(const rgm_metrics *m, const char *name, const float **values);
rgm_status rgm_metrics_memory(rgm_metrics **out);
void rgm_metrics_close(rgm_metrics *m);


// ---- JSON --------------------------------------------------------------------------------------

// A writer of one JSON document; keys are NULL inside arrays. Numbers print shortest round-trip;
// NaN and infinities become null.
struct rgm_json {
  FILE *out; // NULL: everything is dropped
  int depth;
  bool first[16];
};

void rgm_json_open(rgm_json *j, const char *key, char bracket); // '{' or '['
void rgm_json_close(rgm_json *j, char bracket);
void rgm_json_number(rgm_json *j, const char *key, double value);
void rgm_json_string(rgm_json *j, const char *key, const char *value);


// ---- tables ------------------------------------------------------------------------------------

// A CSV table of numbers with named columns; what does not parse as a number is an error with row.
typedef struct rgm_table {
  int64_t rows;
  int columns;
  char (*name)[64];
  double *value;   // (rows, columns); NaN where empty or NA
  char digest[65]; // SHA-256 of the file
} rgm_table;

// RFC 4180 with a header line, or single spaces or tabs in place of its commas; gzip is undone.
// Errors: RGM_EIO, RGM_EDATA "file:row: column NAME: ..."; values are
// never printed.
rgm_status rgm_table_read_csv(const char *path, rgm_table *out);
void rgm_table_free(rgm_table *table);

// The index of a column by name in any case, or -1.
int rgm_table_column(const rgm_table *table, const char *name);


// ---- statistics --------------------------------------------------------------------------------

typedef struct rgm_summary {
  double mean, sd, median, q25, q75, p95, max, min;
} rgm_summary;

// Sorts x (NaN last) and summarises it; sd has n - 1; quantiles are type 7.
rgm_summary rgm_summarise(double *x, int64_t n);
double rgm_quantile_sorted(const double *x, int64_t n, double q);

// The k-th smallest (k from 0) of x, which is reordered.
double rgm_order_statistic(double *x, int64_t n, int64_t k);
double rgm_median(double *x, int64_t n); // reorders x

// Two-sided p-value of Student's t with df degrees of freedom.
double rgm_t_test(double t, double df);

#endif
