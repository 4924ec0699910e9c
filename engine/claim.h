// SPDX-License-Identifier: Apache-2.0
// Who works on what, among processes that share nothing but a folder: units of work are claimed by
// creating a file that only one process can create, FOLDER/claim-UNIT.GENERATION. The owner gives a
// sign of life (the file's time) as long as it lives, from a thread of its own. Where it is dead,
// has let go, or (on another machine) has given no sign for a lease, the unit is claimed anew with
// the next generation; an owner that was merely slow finds that generation and drops the unit.
// Private to the engine.

#ifndef RGM_CLAIM_H
#define RGM_CLAIM_H

#include "engine/engine.h"

#include <pthread.h>

enum { RGM_CLAIM_NOTE = 120 };

typedef struct rgm_claim {
  int64_t unit;
  int generation;
  int fd;
} rgm_claim;

// One process's claims in a folder.
typedef struct rgm_claims {
  const char *folder;
  double lease; // s
  rgm_claim *held;
  int count;
  pthread_t pulse;
  pthread_mutex_t lock; // of held, count, ending
  pthread_cond_t wake;
  bool beating, ending;
} rgm_claims;

// Starts the signs of life. RGM_EIO, RGM_EMEMORY.
rgm_status rgm_claims_open(rgm_claims *c, const char *folder, double lease);

// Claims a unit if nobody alive has it: *generation is ours, or -1 where somebody has it.
rgm_status rgm_claim_take(rgm_claims *c, int64_t unit, int *generation);

// Whether we still have a unit; false after somebody took it over.
bool rgm_claim_held(const rgm_claims *c, int64_t unit, int generation);

// Says what goes on, for those who look (rgm_claim_look). A line, cut at RGM_CLAIM_NOTE - 1.
void rgm_claim_note(rgm_claims *c, int64_t unit, const char *note);

// Lets go of a unit: somebody else may go on with it at once.
void rgm_claim_release(rgm_claims *c, int64_t unit);

// Lets go of all and ends the signs of life.
void rgm_claims_close(rgm_claims *c);

// What there is to see of a unit from outside.
typedef enum rgm_claim_state { RGM_CLAIM_FREE, RGM_CLAIM_ALIVE, RGM_CLAIM_DEAD } rgm_claim_state;
typedef struct rgm_claim_view {
  rgm_claim_state state;
  int generation; // the newest, -1 where there is none
  long pid;
  double age; // s since the last sign of life
  char host[64], note[RGM_CLAIM_NOTE];
} rgm_claim_view;
rgm_status rgm_claim_look(const char *folder, double lease, int64_t unit, rgm_claim_view *out);

#endif
