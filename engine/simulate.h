// SPDX-License-Identifier: Apache-2.0
// `regimen simulate` of tabular problems. Private to the engine.

#ifndef RGM_SIMULATE_H
#define RGM_SIMULATE_H

#include "engine/engine.h"
#include "engine/regimen.h"

// Stays of patients in the tabular problem that the config names, as a long table. Takes over
// `config`. Errors: RGM_ECONFIG, RGM_EDATA, RGM_EIO, RGM_EMEMORY.
rgm_status rgm_simulate_stays(rgm_config *config, const rgm_options *options);

#endif
