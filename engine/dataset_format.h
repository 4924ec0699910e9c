// SPDX-License-Identifier: Apache-2.0
// A foreign file as a table: where each column comes from. Between dataset_format.c and
// dataset_own.c, in the child that reads.

#ifndef RGM_DATASET_FORMAT_H
#define RGM_DATASET_FORMAT_H

#include "engine/dataset_array.h"

#include <unistd.h>

typedef enum rgm_format {
  RGM_FORMAT_OWN,
  RGM_FORMAT_D4RL,
  RGM_FORMAT_MINARI,
  RGM_FORMAT_D3RLPY,
} rgm_format;

typedef enum rgm_from {
  RGM_FROM_ARRAY,   // `element` of each row of a part
  RGM_FROM_EPISODE, // its number
  RGM_FROM_STEP,    // of the row within its episode
  RGM_FROM_ENDED,   // last row of an episode with its flag set
  RGM_FROM_CUT,     // last row of one without
  RGM_FROM_NOTHING, // 0
} rgm_from;

typedef struct rgm_origin {
  rgm_from kind;
  int part;
  int64_t element;
} rgm_origin;

// An array of the file, or one per episode.
typedef struct rgm_source_part {
  char name[64];
  rgm_array array; // of all rows, or of episode 0
  hid_t id;        // kept open, or -1
  int shift;       // rows to skip at the start of each episode
} rgm_source_part;

struct rgm_source {
  rgm_input in;
  rgm_format format;
  rgm_dataset *table;    // without data
  rgm_origin *origin;    // of each column
  rgm_source_part *part; // (parts)
  int parts;
  size_t caches; // bytes of those kept open
  int kept;
  int64_t episodes;      // of a foreign file
  int64_t *start;        // (episodes + 1) first rows
  unsigned char *flag;   // (episodes) d3rlpy: it terminated
  unsigned char *buffer; // RGM_CHILD_PIECE MiB
};

// Adds a part or a column; -1 or NULL where memory is short.
int rgm_source_array(rgm_source *s, const char *name, int shift);
rgm_column *rgm_source_column(rgm_source *s, const char *name, rgm_role role, rgm_cell cell,
                              rgm_origin origin);
rgm_status rgm_source_open_whole(rgm_source *s, int part);

// Adds 1 to sum[i] where a flag of rows first... is not 0.
rgm_status rgm_source_flags(rgm_source *s, int part, int64_t first, int64_t rows, double *sum);

// Our own layout (dataset_own.c).
rgm_status rgm_source_open_own(rgm_source *s);

#endif
