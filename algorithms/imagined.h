// SPDX-License-Identifier: Apache-2.0
// Agents that learn from data and from what a learned model imagines: the common part of MOPO (Yu
// et al. 2020) and COMBO (Yu et al. 2021). First the ensemble is trained, or that of another run
// taken. Then, every so many updates, b trajectories of h steps begin at training rows: the policy
// acts, an elite that is drawn for each row at each step predicts, and the transitions go to a ring
// that keeps those of the last k rollouts. Each batch has round(f B) rows of data, the others of
// the model. A trajectory that terminated ends; reaching h is no end, and is bootstrapped from.

#ifndef RGM_IMAGINED_H
#define RGM_IMAGINED_H

#include "algorithms/ensemble.h"
#include "algorithms/judge.h"

typedef struct rgm_imagined_keys {
  rgm_agent_keys agent;
  rgm_ensemble_keys dynamics;
  rgm_push_keys push;
  rgm_list box_low, box_high;
  char model[RGM_STRING_SIZE];
  int64_t dynamics_steps, rollouts, horizon, every, retain, judged;
  double real, doubt_weight;
  int push_kind, doubt, termination;
} rgm_imagined_keys;

extern const char *const rgm_imagined_terminations[]; // "none", "box", NULL

// clang-format off
#define RGM_IMAGINED_KEY(member) offsetof(rgm_imagined_keys, member)
#define RGM_IMAGINED_FIELDS(REAL, HORIZON)                                                         \
  RGM_AGENT_FIELDS, RGM_ENSEMBLE_FIELDS(rgm_imagined_keys),                                        \
  {"dynamics", RGM_STRING, RGM_IMAGINED_KEY(model), "", "", 0, 0, NULL, RGM_SHAPE,                 \
   "Trained run (or checkpoint) whose ensemble is taken; empty: one is trained first."},           \
  {"dynamics_steps", RGM_INT, RGM_IMAGINED_KEY(dynamics_steps), "epochs", "100", 0, 1e9, NULL,     \
   RGM_SHAPE, "First steps of the run, which train the ensemble; once it stopped they are idle."}, \
  {"rollouts", RGM_INT, RGM_IMAGINED_KEY(rollouts), "1", "1000", 1, 1e7, NULL, RGM_SHAPE,          \
   "Trajectories that are imagined at a time, b."},                                                \
  {"horizon", RGM_INT, RGM_IMAGINED_KEY(horizon), "steps", HORIZON, 1, 10000, NULL, RGM_SHAPE,     \
   "Their steps, h."},                                                                             \
  {"rollout_every", RGM_INT, RGM_IMAGINED_KEY(every), "updates", "1000", 1, 1e9, NULL, RGM_SHAPE,  \
   "Updates from one time to the next."},                                                          \
  {"retain", RGM_INT, RGM_IMAGINED_KEY(retain), "1", "5", 1, 10000, NULL, RGM_SHAPE,               \
   "How many times' b h rows are kept; the oldest go first."},                                     \
  {"real", RGM_FLOAT, RGM_IMAGINED_KEY(real), "1", REAL, 0, 1, NULL, 0,                            \
   "Share of a batch that comes from the data, f."},                                               \
  {"termination", RGM_CHOICE, RGM_IMAGINED_KEY(termination), "", "none", 0, 0,                     \
   rgm_imagined_terminations, RGM_SHAPE,                                                           \
   "When an imagined trajectory terminates: never, or where a state leaves a box."},               \
  {"box_low", RGM_LIST, RGM_IMAGINED_KEY(box_low), "", "[0]", -1e30, 1e30, NULL, RGM_SHAPE,        \
   "Least value of each state that is no end, in its unit; -1e30: any."},                          \
  {"box_high", RGM_LIST, RGM_IMAGINED_KEY(box_high), "", "[0]", -1e30, 1e30, NULL, RGM_SHAPE,      \
   "Greatest value of each state that is no end, in its unit; 1e30: any."},                        \
  {"judged", RGM_INT, RGM_IMAGINED_KEY(judged), "episodes", "10", 0, 10000, NULL,                  \
   RGM_SHAPE | RGM_PROVENANCE,                                                                     \
   "Episodes in env.name, where it is given, whose mean return a report gives; 0: none."}
// clang-format on

// Room for b trajectories that are imagined side by side.
typedef struct rgm_dream {
  rgm_tensor ones;                         // (G, b)
  rgm_tensor state[2];                     // (G, b, S), by turns
  rgm_tensor seen, act, log_pi, x, routed; // (G, b, S), (G, b, D), (G, b), (G, b, I), (G, E, C, I)
  rgm_tensor reward, terminated;           // (G, b, 1)
  rgm_tensor alive, keep, doubts;          // (G, b)
  rgm_pass act_pass, model_pass;           // (G, b), (G, E, C)
} rgm_dream;

// Where and how trajectories of n replicas from `first` on are imagined. `agent` and `ensemble` are
// those replicas', `dream` too; steps of the agent's clock tell random numbers apart.
typedef struct rgm_dreamer {
  rgm_dream dream;
  rgm_agent agent;
  rgm_ensemble ensemble;
  rgm_tensor box, weight;
  rgm_doubt doubt;
  rgm_draw draw;   // how actions are chosen
  uint32_t random; // added to the streams of random numbers: 0, or RGM_RANDOM_EVAL
} rgm_dreamer;

typedef struct rgm_imagined {
  rgm_agent agent;
  rgm_ensemble ensemble;
  rgm_judge judge;
  rgm_doubt doubt;
  rgm_ring data, model; // T rows, one copy for all; retain b h rows for each replica
  rgm_batch batch;      // (G, B, ...)
  rgm_tensor real;      // (R) u32: rows of data in a batch
  rgm_tensor weight;    // (R) of doubt
  rgm_tensor box;       // (R, 2, S), one copy for all; data NULL: nothing terminates
  rgm_dream dream;      // of b trajectories
  // What an algorithm may add, NULL where it does not. Steps between the ensemble's and the first
  // update, which advance the clock themselves; what follows each step h of a rollout of replicas
  // from `first` on, which the dreamer's room holds, and each rollout; and where rewards are not
  // the model's, those of a batch anew, before each update.
  uint64_t between;
  rgm_status (*prepare)(rgm_run *run);
  void (*dreamt)(const rgm_run *run, rgm_stream *s, const rgm_dreamer *d, int64_t first,
                 uint32_t h);
  void (*rolled)(rgm_run *run);
  void (*relabel)(const rgm_run *run, rgm_stream *s, int64_t first, int64_t n,
                  const rgm_batch *batch);
} rgm_imagined;

enum { RGM_IMAGINED_SLOTS = 5 }; // graphs from 0 on that rgm_imagined_step takes

// What an agent sees and does in the run's data.
rgm_problem rgm_data_problem(const rgm_run *run);

// Room for b trajectories of a group of replicas, "NAME/state/0", ...; `ones` is the caller's to
// fill (rgm_put_number).
rgm_dream rgm_plan_dream(rgm_run *run, const rgm_imagined *s, const char *name, int64_t b);

// Who imagines in n replicas from `first` on, as training does.
void rgm_dreamer_of(const rgm_run *run, const rgm_dream *dream, int64_t first, int64_t n,
                    rgm_dreamer *out);

// Begins at rows drawn from `starts`, a ring whose first column has states; takes step h.
void rgm_dream_begin(rgm_stream *s, const rgm_dreamer *d, const rgm_ring *starts);
void rgm_dream_step(rgm_stream *s, const rgm_dreamer *d, uint32_t h);

// Steps of the run that come before the first update.
uint64_t rgm_imagined_before(const rgm_run *run);

// Parts of an algorithm whose keys are rgm_imagined_keys and whose self begins with rgm_imagined.
rgm_status rgm_imagined_check(const rgm_run *run);
rgm_status rgm_imagined_plan(rgm_run *run, rgm_push push, rgm_doubt doubt);
rgm_status rgm_imagined_init(rgm_run *run);
rgm_status rgm_imagined_step(rgm_run *run);
rgm_status rgm_imagined_report(rgm_run *run);
double rgm_imagined_work(const rgm_run *run);
int rgm_imagined_contenders(rgm_run *run, rgm_contender *out, int max);

#endif
