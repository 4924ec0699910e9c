// SPDX-License-Identifier: Apache-2.0
// Packs: trials of one group as the replicas of one run. A trial enters with its state, or as the
// algorithm initialises it, and leaves as a state that any other pack can take in: so that a pack
// is made anew whenever its trials change, and always stands without gaps.

#include "engine/pack.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


// ---- before the first pack ---------------------------------------------------------------------

rgm_status rgm_pack_check_metric(rgm_sweep *s) {
  rgm_run *member = s->space->run, *pack = NULL;
  rgm_run *const members[] = {member};
  const float *values;
  char text[1024];
  rgm_status status = rgm_run_pack(members, 1, s->stream, true, &pack);
  if (status == RGM_OK) {
    status = rgm_metrics_memory(&pack->metrics);
  }
  if (status == RGM_OK && pack->algorithm->report != NULL) {
    status = pack->algorithm->report(pack);
  }
  if (status == RGM_OK && rgm_metrics_values(pack->metrics, s->metric, &values) != RGM_OK) {
    snprintf(text, sizeof text, "%s", rgm_last_error());
    status = rgm_space_fail(s->space, NULL, "metric", text);
  }
  rgm_run_free(pack);
  return status;
}


// bytes of the tensors of a pack of so many members
static rgm_status measure(const rgm_sweep *s, int64_t count, double *bytes) {
  rgm_run *pack = NULL, *members[2] = {s->space->run, s->space->run};
  const rgm_status status = rgm_run_pack(members, count, s->stream, false, &pack);
  *bytes = status == RGM_OK ? (double)rgm_arena_bytes(pack->arena) : 0;
  rgm_run_free(pack);
  return status;
}


rgm_status rgm_pack_size(rgm_sweep *s) {
  const rgm_sweep_keys *k = &s->space->keys;
  const int64_t seeds = k->seeds;
  char *end = NULL;
  const double asked = strtod(k->pack, &end);
  const bool number = end != k->pack && *end == '\0';
  if (strcmp(k->pack, "one") == 0) {
    s->capacity = s->space->points * seeds;
    return RGM_OK;
  }
  if (number && asked >= 1 && asked <= 1e6 && floor(asked) == asked) {
    s->capacity = (int64_t)asked > seeds ? (int64_t)asked : seeds;
    return RGM_OK;
  }
  if (strcmp(k->pack, "auto") != 0) {
    return rgm_space_fail(s->space, NULL, "pack", "expected auto, one, or a number of replicas");
  }

  // what a device works on at a time, as far as the memory goes; the base run may have replicas
  double one, two, budget = k->memory * 0x1p20;
  RGM_TRY(measure(s, 1, &one));
  RGM_TRY(measure(s, 2, &two));
  const double each = (two - one) / (double)s->space->run->replicas;
  if (budget == 0) {
    budget = 0.25 * (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
  }
  const int64_t wanted = rgm_is_cpu(s->stream) ? 16 * rgm_cpu_threads(s->stream) : 4096;
  const double fits = each > 0 ? budget / each : (double)wanted;
  s->capacity = fits < (double)wanted ? (int64_t)fits : wanted;
  s->capacity = s->capacity > seeds ? s->capacity : seeds;
  return RGM_OK;
}


// ---- a pack ------------------------------------------------------------------------------------

static rgm_status fail_memory(rgm_sweep *s, int *count) {
  rgm_sweep_log(s, "%s; packs of half the size from here on", rgm_last_error());
  *count = *count / 2;
  s->capacity = *count * s->space->keys.seeds;
  return RGM_OK;
}


// where memory does not do, half the trials go first
static rgm_status form(rgm_sweep *s, rgm_entrant **set, int *count, rgm_run ***members,
                       rgm_run **pack) {
  rgm_status status;
  for (;;) {
    for (int i = 0; i < *count; i++) {
      (*members)[i] = set[i]->member;
    }
    status = rgm_run_pack(*members, *count, s->stream, true, pack);
    if (status != RGM_EMEMORY || *count == 1) {
      break;
    }
    rgm_run_free(*pack);
    *pack = NULL;
    RGM_TRY(fail_memory(s, count));
  }
  RGM_TRY(status);
  snprintf((*pack)->device, sizeof(*pack)->device, "%s", s->device);
  for (int i = 0; i < *count; i++) {
    if (set[i]->state != NULL) {
      RGM_TRY(rgm_run_put(*pack, i * s->space->keys.seeds, set[i]->state));
    }
  }
  return rgm_metrics_memory(&(*pack)->metrics);
}


static bool stopped(const rgm_sweep *s) {
  return s->options->stop != NULL && *s->options->stop;
}


// steps of the whole pack, in pieces of a tenth of a second, so that people see it live
static rgm_status run_steps(rgm_sweep *s, rgm_run *pack, uint64_t steps, double until,
                            uint64_t *done) {
  uint64_t piece = 1;
  *done = 0;
  while (*done < steps) {
    const uint64_t n = steps - *done < piece ? steps - *done : piece;
    const double begun = rgm_seconds();
    for (uint64_t i = 0; i < n; i++) {
      RGM_TRY(pack->algorithm->step(pack));
      pack->step++;
    }
    RGM_TRY(rgm_sync(pack->stream));
    *done += n;
    const double now = rgm_seconds();
    if (now - begun < 0.05) {
      piece *= 2;
    } else if (now - begun > 0.2 && piece > 1) {
      piece /= 2;
    }
    RGM_TRY(rgm_sweep_pulse(s));
    if (stopped(s) || now > until) {
      break;
    }
  }
  return RGM_OK;
}


// a trial that has come to its rung: scores, health, digest
static rgm_status arrive(rgm_sweep *s, rgm_run *pack, int i, rgm_entrant *e, const float *values) {
  const int64_t seeds = s->space->keys.seeds;
  rgm_checkpoint *c = NULL;
  memcpy(e->scores + e->rung * seeds, values + i * seeds, (size_t)seeds * sizeof *values);
  pack->step = e->step;
  const rgm_status health = rgm_guard_replicas(pack, i * seeds, seeds);
  if (health != RGM_OK && health != RGM_ENUMERIC) {
    return health;
  }
  if (health == RGM_ENUMERIC || isnan(rgm_entrant_score(s, e, e->rung))) {
    rgm_sweep_log(s, "trial %lld failed at step %llu: %s", (long long)e->index,
                  (unsigned long long)e->step,
                  health == RGM_ENUMERIC ? rgm_last_error() : "its metric is not a number");
    e->status = RGM_TRIAL_FAILED;
    e->digest[0] = '\0';
    rgm_checkpoint_free(e->state);
    e->state = NULL;
    return RGM_OK;
  }
  e->status = e->rung == s->rungs - 1 ? RGM_TRIAL_DONE : RGM_TRIAL_RESTING;
  RGM_TRY(rgm_run_snapshot_member(pack, i, e->step, &c));
  snprintf(e->digest, sizeof e->digest, "%s", rgm_checkpoint_attribute(c, "digest"));
  rgm_checkpoint_free(c);
  return RGM_OK;
}


static rgm_status leave(rgm_sweep *s, rgm_run *pack, rgm_entrant **set, int count, uint64_t done) {
  const int64_t seeds = s->space->keys.seeds;
  const float *values = NULL;
  bool any = false;
  for (int i = 0; i < count; i++) {
    set[i]->step += done;
    any = any || set[i]->step == s->rung_step[set[i]->rung];
    rgm_checkpoint_free(set[i]->state);
    set[i]->state = NULL;
    RGM_TRY(rgm_run_take(pack, i * seeds, seeds, &set[i]->state));
  }
  if (any) {
    RGM_TRY(pack->algorithm->report(pack));
    RGM_TRY(rgm_metrics_values(pack->metrics, s->metric, &values));
  }
  for (int i = 0; i < count; i++) {
    if (set[i]->step == s->rung_step[set[i]->rung]) {
      RGM_TRY(arrive(s, pack, i, set[i], values));
    }
  }
  return rgm_arena_check(pack->arena);
}


rgm_status rgm_pack_advance(rgm_sweep *s, rgm_entrant **set, int count, double until) {
  rgm_run *pack = NULL, **members = calloc((size_t)count, sizeof *members);
  if (members == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a pack");
  }
  // a pack that takes long to make works ten times as long, or nothing would get done
  const double begun = rgm_seconds();
  rgm_status status = form(s, set, &count, &members, &pack);
  const double formed = rgm_seconds(), enough = formed + 10.0 * (formed - begun);
  until = until > enough ? until : enough;
  uint64_t steps = UINT64_MAX, done = 0;
  for (int i = 0; i < count; i++) {
    const uint64_t left = s->rung_step[set[i]->rung] - set[i]->step;
    steps = left < steps ? left : steps;
  }
  if (status == RGM_OK) {
    pack->step = set[0]->step; // that of all, but for RGM_TIMELESS
    pack->reports_at = pack->step + steps;
    status = run_steps(s, pack, steps, until, &done);
  }
  if (status == RGM_OK) {
    status = leave(s, pack, set, count, done);
  }
  rgm_run_free(pack);
  free(members);
  return status;
}


// ---- kept checkpoints --------------------------------------------------------------------------

void rgm_pack_kept_path(const rgm_sweep *s, const rgm_bracket *b, const rgm_entrant *e, char *path,
                        size_t size) {
  snprintf(path, size, "%s/kept-%06lld.%lld.%d.h5", s->work, (long long)b->unit,
           (long long)e->index, b->generation);
}


static rgm_status write_kept(rgm_sweep *s, const rgm_bracket *b, rgm_entrant *e) {
  rgm_run *pack = NULL, *members[1], **list = members;
  rgm_checkpoint *c = NULL;
  char path[4200];
  int one = 1;
  RGM_TRY(rgm_entrant_prepare(s, e));
  rgm_status status = form(s, &e, &one, &list, &pack);
  if (status == RGM_OK) {
    status = rgm_run_snapshot_member(pack, 0, e->step, &c);
  }
  if (status == RGM_OK) {
    rgm_pack_kept_path(s, b, e, path, sizeof path);
    status = rgm_checkpoint_write(path, c);
  }
  rgm_checkpoint_free(c);
  rgm_run_free(pack);
  return status;
}


rgm_status rgm_pack_write_kept(rgm_sweep *s, const rgm_bracket *b) {
  // decide() left tensors only to the trials that may be kept
  for (int i = 0; i < b->count; i++) {
    if (b->trials[i].status == RGM_TRIAL_DONE && b->trials[i].state != NULL) {
      RGM_TRY(write_kept(s, b, &b->trials[i]));
    }
  }
  return RGM_OK;
}
