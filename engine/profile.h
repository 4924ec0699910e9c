// SPDX-License-Identifier: Apache-2.0
// Where the time of a run goes, by rows of the kernel table.

#ifndef RGM_PROFILE_H
#define RGM_PROFILE_H

#include "engine/engine.h"

// Forgets the stream's counts and measures the time of every launch from now on.
void rgm_profile_start(rgm_stream *stream);

// What was measured over `elapsed` seconds, as a table or as the member "profile" of an object;
// what kernels did not take is the host's.
void rgm_profile_print(const rgm_stream *stream, double elapsed, FILE *out);
void rgm_profile_json(const rgm_stream *stream, double elapsed, rgm_json *json);

#endif
