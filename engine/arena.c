// SPDX-License-Identifier: Apache-2.0
// The planned arena: one allocation for all tensors of a run. Invariants: entries are appended in
// the measuring pass only; the binding pass repeats the same calls in the same order (checked by
// name and size) and hands out memory; after sealing, nothing is planned. Blocks start at
// multiples of 64 bytes.

#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, GUARD = 64, GUARD_BYTE = 0xA5 };

#ifdef RGM_DEBUG
enum { DEBUG = 1 };
#else
enum { DEBUG = 0 };
#endif

typedef enum phase { MEASURING, BINDING, SEALED } phase;

struct rgm_arena {
  rgm_stream *stream;
  phase phase;
  rgm_entry *entries;
  size_t *offset; // of each block in memory
  int count, capacity, cursor;
  size_t bytes;
  uint8_t *memory;
};


rgm_status rgm_arena_create(rgm_stream *stream, rgm_arena **out) {
  *out = calloc(1, sizeof **out);
  if (*out == NULL) {
    return rgm_fail(RGM_EMEMORY, "no memory for the plan");
  }
  (*out)->stream = stream;
  return RGM_OK;
}


static void append(rgm_arena *arena, const rgm_entry *entry, size_t offset) {
  if (arena->count == arena->capacity) {
    arena->capacity = arena->capacity > 0 ? 2 * arena->capacity : 32;
    arena->entries = realloc(arena->entries, (size_t)arena->capacity * sizeof *arena->entries);
    arena->offset = realloc(arena->offset, (size_t)arena->capacity * sizeof *arena->offset);
    RGM_ASSERT(arena->entries != NULL && arena->offset != NULL);
  }
  arena->entries[arena->count] = *entry;
  arena->offset[arena->count] = offset;
  arena->count++;
}


static rgm_entry make_entry(const char *name, unsigned flags, const char *axes, const char *unit) {
  rgm_entry entry = {.flags = flags, .parent = -1};
  // what is private is state, and is never exported
  RGM_ASSERT((flags & RGM_PRIVATE) == 0 || (flags & (RGM_STATE | RGM_EXPORTED)) == RGM_STATE);
  RGM_ASSERT(strlen(name) < sizeof entry.name && strlen(axes) < sizeof entry.axes);
  snprintf(entry.name, sizeof entry.name, "%s", name);
  snprintf(entry.axes, sizeof entry.axes, "%s", axes);
  snprintf(entry.unit, sizeof entry.unit, "%s", unit);
  return entry;
}


// in the binding pass the entry of the same call of the measuring pass
static rgm_entry *repeat(rgm_arena *arena, const char *name) {
  RGM_ASSERT(arena->phase == BINDING && arena->cursor < arena->count);
  rgm_entry *entry = &arena->entries[arena->cursor++];
  RGM_ASSERT(strcmp(entry->name, name) == 0);
  return entry;
}


rgm_tensor rgm_plan(rgm_arena *arena, const char *name, rgm_dtype dtype, unsigned flags,
                    const char *axes, const char *unit, int64_t d0, int64_t d1, int64_t d2,
                    int64_t d3) {
  const rgm_tensor tensor = rgm_view(NULL, dtype, d0, d1, d2, d3);
  if (arena->phase != MEASURING) {
    rgm_entry *entry = repeat(arena, name);
    RGM_ASSERT(memcmp(entry->tensor.dims, tensor.dims, sizeof tensor.dims) == 0);
    return entry->tensor;
  }
  for (int i = 0; i < arena->count; i++) {
    RGM_ASSERT(strcmp(arena->entries[i].name, name) != 0);
  }
  rgm_entry entry = make_entry(name, flags, axes, unit);
  entry.tensor = tensor;
  entry.last_dim = tensor.dims[tensor.rank - 1];
  const size_t offset = arena->bytes + (DEBUG ? GUARD : 0);
  append(arena, &entry, offset);
  const size_t size = (rgm_bytes(tensor) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  arena->bytes = offset + size + (DEBUG ? GUARD : 0);
  return tensor;
}


rgm_tensor rgm_plan_part(rgm_arena *arena, rgm_tensor block, int64_t offset, const char *name,
                         unsigned flags, const char *axes, int64_t d1, int64_t d2,
                         int64_t last_dim) {
  if (arena->phase != MEASURING) {
    return repeat(arena, name)->tensor;
  }
  // the block is the newest entry that is not a part
  int parent = arena->count - 1;
  while (parent >= 0 && arena->entries[parent].parent >= 0) {
    parent--;
  }
  RGM_ASSERT(parent >= 0 && arena->entries[parent].tensor.stride0 == block.stride0);
  rgm_entry entry = make_entry(name, flags, axes, "1");
  entry.parent = parent;
  entry.tensor = rgm_view(NULL, block.dtype, block.dims[0], d1, d2, 0);
  entry.tensor.stride0 = block.stride0;
  entry.last_dim = last_dim;
  RGM_ASSERT(offset + d1 * (d2 > 0 ? d2 : 1) <= block.stride0);
  append(arena, &entry, (size_t)offset * rgm_dtype_size(block.dtype));
  return entry.tensor;
}


// fills the guard zones, and in debug builds scratch tensors with NaN (all bits set)
static void prepare_memory(rgm_arena *arena) {
  for (int i = 0; i < arena->count; i++) {
    const rgm_entry *entry = &arena->entries[i];
    if (entry->parent >= 0) {
      continue;
    }
    rgm_stream *s = arena->stream;
    uint8_t *data = entry->tensor.data;
    const size_t size = (rgm_bytes(entry->tensor) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    s->backend->fill(s, data - GUARD, GUARD_BYTE, GUARD);
    s->backend->fill(s, data + size, GUARD_BYTE, GUARD);
    if (entry->flags == RGM_SCRATCH && entry->tensor.dtype <= RGM_F64) {
      s->backend->fill(s, data, 0xFF, rgm_bytes(entry->tensor));
    }
  }
}


rgm_status rgm_arena_bind(rgm_arena *arena) {
  RGM_ASSERT(arena->phase == MEASURING);
  void *memory;
  RGM_TRY(arena->stream->backend->alloc(arena->stream, arena->bytes, &memory));
  arena->memory = memory;
  for (int i = 0; i < arena->count; i++) {
    rgm_entry *entry = &arena->entries[i];
    const uint8_t *base =
        entry->parent < 0 ? arena->memory : arena->entries[entry->parent].tensor.data;
    entry->tensor.data = (uint8_t *)(uintptr_t)base + arena->offset[i];
  }
  if (DEBUG) {
    prepare_memory(arena);
  }
  arena->phase = BINDING;
  return RGM_OK;
}


rgm_status rgm_arena_seal(rgm_arena *arena) {
  RGM_ASSERT(arena->phase == BINDING && arena->cursor == arena->count);
  arena->phase = SEALED;
  return RGM_OK;
}


rgm_status rgm_arena_check(const rgm_arena *arena) {
  for (int i = 0; DEBUG && i < arena->count; i++) {
    const rgm_entry *entry = &arena->entries[i];
    if (entry->parent >= 0) {
      continue;
    }
    uint8_t zones[2][GUARD];
    const uint8_t *data = entry->tensor.data;
    const size_t size = (rgm_bytes(entry->tensor) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    rgm_stream *s = arena->stream;
    s->backend->copy(s, zones[0], data - GUARD, GUARD);
    s->backend->copy(s, zones[1], data + size, GUARD);
    RGM_TRY(rgm_sync(s));
    for (int k = 0; k < 2 * GUARD; k++) {
      if (zones[k / GUARD][k % GUARD] != GUARD_BYTE) {
        return rgm_fail(RGM_EINTERNAL, "tensor %s was written past its %s", entry->name,
                        k < GUARD ? "start" : "end");
      }
    }
  }
  return RGM_OK;
}


void rgm_arena_free(rgm_arena *arena) {
  if (arena == NULL) {
    return;
  }
  if (arena->memory != NULL) {
    arena->stream->backend->release(arena->stream, arena->memory);
  }
  free(arena->entries);
  free(arena->offset);
  free(arena);
}


size_t rgm_arena_bytes(const rgm_arena *arena) {
  return arena->bytes;
}


int rgm_arena_count(const rgm_arena *arena) {
  return arena->count;
}


const rgm_entry *rgm_arena_entry(const rgm_arena *arena, int index) {
  RGM_ASSERT(index >= 0 && index < arena->count);
  return &arena->entries[index];
}
