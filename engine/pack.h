// SPDX-License-Identifier: Apache-2.0
// Packs of trials on the replica axis. Private to the engine.

#ifndef RGM_PACK_H
#define RGM_PACK_H

#include "engine/sweep.h"

// Whether the metric is one that the algorithm reports: RGM_ECONFIG at sweep.metric.
rgm_status rgm_pack_check_metric(rgm_sweep *s);

// How many replicas a pack has at most (s->capacity), by sweep.pack, memory and device.
rgm_status rgm_pack_size(rgm_sweep *s);

// Packs trials of one group and runs them until the first one is at its rung, the clock is at
// `until` [s of rgm_seconds] or a signal asks to stop. Afterwards every trial has its tensors in
// `state`; those at their rung have scores and a digest and are resting, done or failed.
rgm_status rgm_pack_advance(rgm_sweep *s, rgm_entrant **set, int count, double until);

// The checkpoints of a bracket's best trials as run folders would have them: into work/.
rgm_status rgm_pack_write_kept(rgm_sweep *s, const rgm_bracket *b);
void rgm_pack_kept_path(const rgm_sweep *s, const rgm_bracket *b, const rgm_entrant *e, char *path,
                        size_t size);

// Shows how things stand, now and then (sweep.c).
rgm_status rgm_sweep_pulse(rgm_sweep *s);

#endif
