// SPDX-License-Identifier: Apache-2.0
// Trained policies read from checkpoints and asked about rows of a data set, on the host: what bc,
// cql, sac_offline, mopo, combo and whatever else has an actor learned (agent.h, bc.h). No data set
// and no simulator of theirs is opened.

#ifndef RGM_POLICIES_H
#define RGM_POLICIES_H

#include "engine/transitions.h"

// An MLP of one replica in host memory.
typedef struct rgm_host_net {
  int layers;
  int64_t width[RGM_MAX_LAYERS + 1]; // inputs, hidden ..., outputs
  float *weight[RGM_MAX_LAYERS];     // (in, out), out padded with zeros to a multiple of 8
  float *bias[RGM_MAX_LAYERS];       // (out), likewise
  rgm_act act;                       // of hidden layers
} rgm_host_net;

// The net whose tensors are NAME/0/weight, ... of replica `replica`, RGM_EDATA where there is none;
// and a record of so many numbers a replica. `path` is what messages name.
rgm_status rgm_host_net_take(const rgm_checkpoint *checkpoint, const char *path, const char *name,
                             int64_t replica, rgm_act act, rgm_host_net *out);
rgm_status rgm_host_take(const rgm_checkpoint *checkpoint, const char *path, const char *name,
                         int64_t replica, int64_t count, float **out);
void rgm_host_net_free(rgm_host_net *net);

// out (rows, outputs) at x (rows, inputs), each row as if alone; work has room for
// rgm_host_net_work numbers, however many rows there are.
void rgm_host_net_ask(const rgm_host_net *net, int64_t rows, const float *x, float *work,
                      float *out);
int64_t rgm_host_net_work(const rgm_host_net *net);

// A net with its scales, or one of two rules. Classes, or a tanh-Gaussian.
typedef struct rgm_policy {
  char name[64];
  enum { RGM_POLICY_NET, RGM_POLICY_EVEN, RGM_POLICY_ALWAYS } kind;
  int states, dims; // S, D
  int64_t choices;  // A, 0: continuous
  int64_t always;   // the class of a constant
  rgm_host_net net;
  float *mean, *sd;               // (S)
  float *scale, *shift;           // (D), not of classes
  double log_sd_low, log_sd_high; // of log sigma
  char digest[65];                // of the checkpoint
} rgm_policy;

// The policy of a run folder or checkpoint, or of a checkpoint in memory that came from `path`:
// replica `replica` of it, for the rows of `t`. The name is the path's last part, without ".h5".
// RGM_EDATA where it acts in something else than these rows: other states, classes, doses of bins.
rgm_status rgm_policy_read(const char *path, const rgm_transitions *t, int64_t replica,
                           rgm_policy *out);
rgm_status rgm_policy_of(const rgm_checkpoint *checkpoint, const char *path,
                         const rgm_transitions *t, int64_t replica, rgm_policy *out);
void rgm_policy_free(rgm_policy *policy);

// Heads at states (rows, S): logits (rows, A), or (rows, 2 D) mu and log sigma before the clamp.
// RGM_EMEMORY.
rgm_status rgm_policy_ask(const rgm_policy *policy, const float *state, int64_t rows, float *head);
int64_t rgm_policy_width(const rgm_policy *policy);

// log pi (A) of classes from a head; `likeliest`: 0 for the greatest, the first of equals, and
// -INFINITY for the others.
void rgm_policy_log_pi(const rgm_policy *policy, const float *head, bool likeliest, double *log_pi);

// The log-density of an action (D) in its unit, as rgm_action_score has it; and an action of it,
// the mean or (eps (D) not NULL) a draw.
double rgm_policy_density(const rgm_policy *policy, const float *head, const float *act);
void rgm_policy_act(const rgm_policy *policy, const float *head, const float *eps, float *act);

#endif
