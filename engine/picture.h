// SPDX-License-Identifier: Apache-2.0
// Pictures of trajectories. Private to the engine.

#ifndef RGM_PICTURE_H
#define RGM_PICTURE_H

#include "engine/engine.h"

// The same patient under several controllers: signals[i] is (T, S) of the environment's signals.
typedef struct rgm_picture {
  const rgm_env *env;
  int64_t steps;
  int count;
  const char *names[4];
  const float *signals[4];
} rgm_picture;

void rgm_picture_write(const rgm_picture *picture, FILE *out);

#endif
