// SPDX-License-Identifier: Apache-2.0
// A run as a checkpoint and back: every entry flagged RGM_STATE becomes a record of its meant size
// (padding left out), gathered from the replicas' strides; provenance goes beside it. Entries that
// are flagged RGM_PRIVATE too make a second file of the same kind, the private state, whose digest
// the checkpoint carries.

#include "engine/engine.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#ifndef RGM_VERSION
#define RGM_VERSION "0"
#endif
#ifndef RGM_COMMIT
#define RGM_COMMIT "unknown"
#endif


const char *rgm_version(void) {
  return RGM_VERSION;
}


const char *rgm_commit(void) {
  return RGM_COMMIT;
}


// Copies between an entry's device memory and a dense record, row by row of the last dim: `count`
// replicas from `first` on.
static void move_replicas(rgm_run *run, const rgm_entry *entry, int64_t first, int64_t count,
                          uint8_t *dense, bool save) {
  const rgm_tensor t = entry->tensor;
  const size_t size = rgm_dtype_size(t.dtype);
  const int64_t stored = t.dims[t.rank - 1], meant = entry->last_dim;
  if (t.rank == 1) {
    uint8_t *device = (uint8_t *)t.data + (size_t)first * size;
    const size_t all = (size_t)count * size;
    rgm_copy(run->stream, save ? dense : device, save ? device : dense, all);
    return;
  }
  const int64_t rows = rgm_elements(t) / t.dims[0] / stored;
  const size_t bytes = (size_t)meant * size;
  for (int64_t r = first; r < first + count; r++) {
    uint8_t *device = (uint8_t *)t.data + (size_t)(r * t.stride0) * size;
    // whole replicas at a time where nothing is padded
    if (stored == meant) {
      const size_t all = (size_t)(rows * stored) * size;
      rgm_copy(run->stream, save ? dense : device, save ? device : dense, all);
      dense += all;
      continue;
    }
    for (int64_t row = 0; row < rows; row++, dense += bytes) {
      uint8_t *at = device + (size_t)(row * stored) * size;
      rgm_copy(run->stream, save ? dense : at, save ? at : dense, bytes);
    }
  }
}


static void move_entry(rgm_run *run, const rgm_entry *entry, uint8_t *dense, bool save) {
  move_replicas(run, entry, 0, entry->tensor.dims[0], dense, save);
}


static void describe_record(rgm_record *record, const rgm_entry *entry) {
  snprintf(record->name, sizeof record->name, "%s", entry->name);
  snprintf(record->axes, sizeof record->axes, "%s", entry->axes);
  snprintf(record->unit, sizeof record->unit, "%s", entry->unit);
  record->dtype = entry->tensor.dtype;
  record->rank = entry->tensor.rank;
  memcpy(record->dims, entry->tensor.dims, sizeof record->dims);
  record->dims[record->rank - 1] = entry->last_dim;
}


static size_t record_bytes(const rgm_record *record) {
  size_t bytes = rgm_dtype_size(record->dtype);
  for (int i = 0; i < record->rank; i++) {
    bytes *= (size_t)record->dims[i];
  }
  return bytes;
}


static void add_attribute(rgm_checkpoint *c, const char *name, const char *value) {
  rgm_attribute *attribute = &c->attributes[c->attribute_count++];
  snprintf(attribute->name, sizeof attribute->name, "%s", name);
  snprintf(attribute->value, sizeof attribute->value, "%.255s", value);
}


// what both files say of where they come from; `config` is the run's, or a member's
static void add_origin(const rgm_run *run, const rgm_config *config, rgm_checkpoint *c) {
  char hex[65], *text = rgm_config_emit(config, true);
  rgm_sha256_hex(text, strlen(text), hex);
  free(text);
  add_attribute(c, "version", rgm_version());
  add_attribute(c, "commit", rgm_commit());
  add_attribute(c, "algorithm", run->algorithm->name);
  add_attribute(c, "environment", run->env != NULL ? run->env->name : "");
  add_attribute(c, "device", run->device);
  add_attribute(c, "config_digest", hex);
  add_attribute(c, "data_digest", run->data_digest);
  add_attribute(c, "parent_digest", run->parent_digest);
}


// the best report so far, for the run that goes on from here
static void add_best(const rgm_best *best, rgm_checkpoint *c) {
  char text[32];
  add_attribute(c, "best_metric", best->metric);
  add_attribute(c, "best_mode", best->metric[0] == '\0' ? "" : best->is_min ? "min" : "max");
  snprintf(text, sizeof text, "%llu", (unsigned long long)best->step);
  add_attribute(c, "best_step", best->any ? text : "");
  snprintf(text, sizeof text, "%.17g", best->value);
  add_attribute(c, "best_value", best->any ? text : "");
}


static void add_digest(rgm_checkpoint *c) {
  char hex[65];
  rgm_checkpoint_digest(c, hex);
  add_attribute(c, "digest", hex);
}


static bool is_private(const rgm_entry *entry) {
  return (entry->flags & RGM_PRIVATE) != 0;
}


bool rgm_run_has_private(const rgm_run *run) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    if (is_private(rgm_arena_entry(run->arena, i))) {
      return true;
    }
  }
  return false;
}


enum { PUBLIC = 1, PRIVATE = 2 };

// the state of `count` replicas from `first` on: records of the wanted kinds
static rgm_status gather_records(rgm_run *run, int kinds, int64_t first, int64_t count,
                                 rgm_checkpoint *c) {
  const int entries = rgm_arena_count(run->arena);
  c->records = calloc((size_t)entries, sizeof *c->records);
  bool complete = c->records != NULL;
  for (int i = 0; complete && i < entries; i++) {
    const rgm_entry *entry = rgm_arena_entry(run->arena, i);
    if ((entry->flags & RGM_STATE) == 0 || (kinds & (is_private(entry) ? PRIVATE : PUBLIC)) == 0) {
      continue;
    }
    rgm_record *record = &c->records[c->record_count];
    RGM_ASSERT(entry->tensor.dims[0] == run->replicas);
    describe_record(record, entry);
    record->dims[0] = count;
    record->data = malloc(record_bytes(record));
    complete = record->data != NULL;
    if (complete) {
      move_replicas(run, entry, first, count, record->data, true);
      c->record_count++;
    }
  }
  return complete ? rgm_sync(run->stream) : rgm_fail(RGM_EMEMORY, "no memory for a checkpoint");
}


// the same with where they come from
static rgm_status gather(rgm_run *run, int kinds, const rgm_config *config, int64_t first,
                         int64_t count, rgm_checkpoint **out) {
  enum { ATTRIBUTES = 32 };
  rgm_checkpoint *c = calloc(1, sizeof *c);
  if (c != NULL) {
    c->attributes = calloc(ATTRIBUTES, sizeof *c->attributes);
    c->config = kinds == PRIVATE ? calloc(1, 1) : rgm_config_emit(config, false);
  }
  rgm_status status = c != NULL && c->attributes != NULL && c->config != NULL
                          ? gather_records(run, kinds, first, count, c)
                          : rgm_fail(RGM_EMEMORY, "no memory for a checkpoint");
  if (status != RGM_OK) {
    rgm_checkpoint_free(c);
    return status;
  }
  c->schema = RGM_CHECKPOINT_SCHEMA;
  c->confidential = (kinds & PRIVATE) != 0;
  c->step = run->step;
  add_origin(run, config, c);
  *out = c;
  return RGM_OK;
}


// what a checkpoint says beside its tensors, given what became of the private state
static void finish(rgm_checkpoint *c, const rgm_best *best, const char *kept,
                   const char *state_digest) {
  add_attribute(c, "contains_patient_rows", "0");
  add_best(best, c);
  add_attribute(c, "state", kept);
  add_attribute(c, "state_digest", state_digest);
  add_digest(c);
}


static void finish_private(rgm_checkpoint *c) {
  add_attribute(c, "contains_patient_rows", "1");
  add_attribute(c, "kind", "state");
  add_digest(c);
}


rgm_status rgm_run_snapshot(rgm_run *run, rgm_checkpoint **out) {
  RGM_TRY(gather(run, PUBLIC, run->config, 0, run->replicas, out));
  finish(*out, &run->best, rgm_run_has_private(run) ? "omitted" : "none", "");
  return RGM_OK;
}


rgm_status rgm_run_snapshot_pair(rgm_run *run, bool done, rgm_checkpoint **out,
                                 rgm_checkpoint **state) {
  *state = NULL;
  if (!rgm_run_has_private(run)) {
    return rgm_run_snapshot(run, out);
  }
  rgm_checkpoint *c = NULL;
  RGM_TRY(gather(run, PRIVATE, run->config, 0, run->replicas, &c));
  finish_private(c);

  // the digest counts even where the tensors are not kept: it is part of what was computed
  const rgm_status status = gather(run, PUBLIC, run->config, 0, run->replicas, out);
  if (status == RGM_OK) {
    finish(*out, &run->best, done ? "deleted" : "file", rgm_checkpoint_attribute(c, "digest"));
  }
  if (status == RGM_OK && !done) {
    *state = c;
  } else {
    rgm_checkpoint_free(c);
  }
  return status;
}


rgm_status rgm_run_snapshot_member(rgm_run *pack, int64_t m, uint64_t step, rgm_checkpoint **out) {
  const rgm_config *config = pack->members[m]->config;
  const int64_t each = pack->members[m]->replicas, first = m * each;
  rgm_checkpoint *private = NULL;
  const uint64_t before = pack->step;
  pack->step = step;
  rgm_status status = RGM_OK;
  if (rgm_run_has_private(pack)) {
    status = gather(pack, PRIVATE, config, first, each, &private);
    if (status == RGM_OK) {
      finish_private(private);
    }
  }
  if (status == RGM_OK) {
    status = gather(pack, PUBLIC, config, first, each, out);
  }
  if (status == RGM_OK) {
    const rgm_best none = {.any = false};
    finish(*out, &none, private != NULL ? "deleted" : "none",
           private != NULL ? rgm_checkpoint_attribute(private, "digest") : "");
  }
  pack->step = before;
  rgm_checkpoint_free(private);
  return status;
}


rgm_status rgm_run_take(rgm_run *run, int64_t first, int64_t count, rgm_checkpoint **out) {
  rgm_checkpoint *c = *out = calloc(1, sizeof *c);
  if (c == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for a trial's state");
  }
  c->schema = RGM_CHECKPOINT_SCHEMA;
  c->confidential = rgm_run_has_private(run);
  return gather_records(run, PUBLIC | PRIVATE, first, count, c);
}


// ---- back --------------------------------------------------------------------------------------

// the first line in which two resolved configs differ, quoted
static rgm_status refuse_config(const char *theirs, const char *ours) {
  while (*theirs == *ours && *theirs != '\0') {
    // step to the next line when this one is equal throughout
    const size_t a = strcspn(theirs, "\n"), b = strcspn(ours, "\n");
    if (a != b || strncmp(theirs, ours, a) != 0) {
      break;
    }
    theirs += a + (theirs[a] == '\n');
    ours += b + (ours[b] == '\n');
  }
  return rgm_fail(RGM_ECONFIG,
                  "the run folder holds another configuration: there `%.*s`, here `%.*s`; choose "
                  "another run.name or --out, or use run.init_from for fine-tuning",
                  (int)strcspn(theirs, "\n"), theirs, (int)strcspn(ours, "\n"), ours);
}


// both configs as digests see them
static rgm_status check_config(const rgm_run *run, const rgm_checkpoint *checkpoint) {
  const char *digest = rgm_checkpoint_attribute(checkpoint, "config_digest");
  char hex[65], *ours = rgm_config_emit(run->config, true);
  rgm_sha256_hex(ours, strlen(ours), hex);
  rgm_status status = RGM_OK;
  if (digest == NULL || strcmp(digest, hex) != 0) {
    rgm_config *config;
    rgm_run *other;
    status = rgm_config_parse("the checkpoint's config", checkpoint->config, NULL, 0, &config);
    if (status == RGM_OK) {
      status = rgm_run_plan_only(config, &other);
      char *theirs = status == RGM_OK ? rgm_config_emit(other->config, true) : NULL;
      if (theirs != NULL) {
        status = refuse_config(theirs, ours);
      }
      free(theirs);
      rgm_run_free(other);
    }
  }
  free(ours);
  return status;
}


static bool fits(const rgm_record *record, const rgm_entry *entry) {
  rgm_record meant = {0};
  describe_record(&meant, entry);
  return record->dtype == meant.dtype && record->rank == meant.rank &&
         memcmp(record->dims, meant.dims, sizeof meant.dims) == 0;
}


// Packs of before every replica had a clock of its own have one for all.
static bool restore_clock(rgm_run *run, const rgm_record *record, const rgm_entry *entry) {
  if (entry->tensor.data != run->clock.data || record->dtype != RGM_U32 || record->rank != 1 ||
      record->dims[0] != 1) {
    return false;
  }
  for (int64_t r = 0; r < run->replicas; r++) {
    rgm_copy(run->stream, (uint32_t *)run->clock.data + r, record->data, sizeof(uint32_t));
  }
  return true;
}


// A data set or a problem that has changed makes another run. Tables are read by evaluations only.
static rgm_status check_data(const rgm_run *run, const rgm_checkpoint *checkpoint) {
  const char *digest = rgm_checkpoint_attribute(checkpoint, "data_digest");
  if ((run->transitions == NULL && run->mdp == NULL) || digest == NULL ||
      strcmp(digest, run->data_digest) == 0) {
    return RGM_OK;
  }
  return rgm_fail(RGM_EDATA,
                  "%s: the run was trained on other data (SHA-256 %.16s, now it is %.16s): "
                  "bring the old file back, or choose another run.name or --out",
                  run->mdp != NULL ? run->env->name : run->data.path, digest, run->data_digest);
}


rgm_status rgm_run_restore(rgm_run *run, const rgm_checkpoint *checkpoint, bool exactly) {
  if (exactly) {
    RGM_TRY(check_config(run, checkpoint));
    RGM_TRY(check_data(run, checkpoint));
  }
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *entry = rgm_arena_entry(run->arena, i);
    if ((entry->flags & RGM_STATE) == 0 || is_private(entry)) {
      continue;
    }
    const rgm_record *record = rgm_checkpoint_record(checkpoint, entry->name);
    if (record != NULL && restore_clock(run, record, entry)) {
      continue;
    }
    if (record == NULL || !fits(record, entry)) {
      return rgm_fail(RGM_EDATA,
                      "the checkpoint %s tensor %s of this configuration; was "
                      "run.replicas changed?",
                      record == NULL ? "lacks" : "has another shape of", entry->name);
    }
    if (exactly && strcmp(entry->name, "seeds") == 0) {
      const uint64_t seed = (uint64_t)run->keys.seed;
      const uint32_t *words = record->data;
      if (words[0] != (uint32_t)seed || words[1] != (uint32_t)(seed >> 32)) {
        return rgm_fail(RGM_ECONFIG,
                        "the run folder holds seed %llu, the config asks for %llu; "
                        "choose another run.name or --out",
                        (unsigned long long)words[0] | (unsigned long long)words[1] << 32,
                        (unsigned long long)seed);
      }
    }
    move_entry(run, entry, record->data, false);
  }
  run->step = checkpoint->step;
  const char *digest = rgm_checkpoint_attribute(checkpoint, "digest");
  const char *parent = rgm_checkpoint_attribute(checkpoint, "parent_digest");
  snprintf(run->restored_digest, sizeof run->restored_digest, "%s", digest != NULL ? digest : "");
  snprintf(run->parent_digest, sizeof run->parent_digest, "%s", parent != NULL ? parent : "");
  return rgm_sync(run->stream);
}


rgm_status rgm_run_restore_state(rgm_run *run, const rgm_checkpoint *state) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *entry = rgm_arena_entry(run->arena, i);
    if (!is_private(entry)) {
      continue;
    }
    const rgm_record *record = rgm_checkpoint_record(state, entry->name);
    if (record == NULL || !fits(record, entry)) {
      return rgm_fail(RGM_EDATA,
                      "the private state %s tensor %s of this configuration; was run.replicas "
                      "changed?",
                      record == NULL ? "lacks" : "has another shape of", entry->name);
    }
    move_entry(run, entry, record->data, false);
  }
  return rgm_sync(run->stream);
}


rgm_status rgm_run_put(rgm_run *run, int64_t first, const rgm_checkpoint *taken) {
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *entry = rgm_arena_entry(run->arena, i);
    if ((entry->flags & RGM_STATE) == 0) {
      continue;
    }
    const rgm_record *record = rgm_checkpoint_record(taken, entry->name);
    rgm_record meant = {0};
    describe_record(&meant, entry);
    if (record == NULL || record->dtype != meant.dtype || record->rank != meant.rank ||
        memcmp(record->dims + 1, meant.dims + 1, sizeof meant.dims - sizeof meant.dims[0]) != 0) {
      return rgm_fail(RGM_EDATA, "the state of a trial %s tensor %s of its configuration",
                      record == NULL ? "lacks" : "has another shape of", entry->name);
    }
    RGM_ASSERT(first + record->dims[0] <= run->replicas);
    move_replicas(run, entry, first, record->dims[0], record->data, false);
  }
  return rgm_sync(run->stream);
}


rgm_status rgm_run_take_weights(rgm_run *run, const rgm_checkpoint *checkpoint, const char *prefix,
                                const char *key) {
  int taken = 0;
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *entry = rgm_arena_entry(run->arena, i);
    if ((entry->flags & RGM_EXPORTED) == 0 || strncmp(entry->name, prefix, strlen(prefix)) != 0) {
      continue;
    }
    const rgm_record *record = rgm_checkpoint_record(checkpoint, entry->name);
    rgm_record meant = {0};
    describe_record(&meant, entry);
    const bool same =
        record != NULL && record->dtype == meant.dtype && record->rank == meant.rank &&
        memcmp(record->dims + 1, meant.dims + 1, sizeof meant.dims - sizeof meant.dims[0]) == 0;
    if (!same || (record->dims[0] != meant.dims[0] && record->dims[0] != 1)) {
      return rgm_fail(RGM_EDATA,
                      "%s: %s is missing there or has another shape; the nets and "
                      "run.replicas must be equal (or one replica there)",
                      key, entry->name);
    }
    // one replica after the other, so that a single one can serve all
    const size_t step = record->dims[0] == 1 ? 0 : record_bytes(&meant) / (size_t)meant.dims[0];
    for (int64_t r = 0; r < entry->tensor.dims[0]; r++) {
      move_replicas(run, entry, r, 1, (uint8_t *)record->data + (size_t)r * step, false);
    }
    taken++;
  }
  if (taken == 0) {
    return rgm_fail(RGM_EUSAGE, "%s: %s has no weights to start from", key, run->algorithm->name);
  }
  return rgm_sync(run->stream);
}


rgm_status rgm_run_init_from(rgm_run *run, const rgm_checkpoint *checkpoint) {
  RGM_TRY(rgm_run_take_weights(run, checkpoint, "", "run.init_from"));
  const char *digest = rgm_checkpoint_attribute(checkpoint, "digest");
  snprintf(run->parent_digest, sizeof run->parent_digest, "%s", digest != NULL ? digest : "");
  return RGM_OK;
}


void rgm_checkpoint_digest(const rgm_checkpoint *c, char hex[65]) {
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  unsigned char digest[EVP_MAX_MD_SIZE];
  const char *data_digest = rgm_checkpoint_attribute(c, "data_digest");
  RGM_ASSERT(context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1);
  EVP_DigestUpdate(context, &c->step, sizeof c->step);
  EVP_DigestUpdate(context, data_digest != NULL ? data_digest : "",
                   data_digest != NULL ? strlen(data_digest) : 0);
  const char *state_digest = rgm_checkpoint_attribute(c, "state_digest");
  if (state_digest != NULL) {
    EVP_DigestUpdate(context, state_digest, strlen(state_digest));
  }
  for (int i = 0; i < c->record_count; i++) {
    const rgm_record *record = &c->records[i];
    const int32_t shape[2] = {(int32_t)record->dtype, record->rank};
    EVP_DigestUpdate(context, record->name, strlen(record->name) + 1);
    EVP_DigestUpdate(context, shape, sizeof shape);
    EVP_DigestUpdate(context, record->dims, sizeof record->dims);
    EVP_DigestUpdate(context, record->data, record_bytes(record));
  }
  EVP_DigestFinal_ex(context, digest, NULL);
  EVP_MD_CTX_free(context);
  for (int i = 0; i < 32; i++) {
    snprintf(hex + 2 * i, 3, "%02x", digest[i]);
  }
}
