// SPDX-License-Identifier: Apache-2.0
// `regimen sweep`.

#ifndef RGM_TOOLS_SWEEP_H
#define RGM_TOOLS_SWEEP_H

#include "engine/regimen.h"

// Takes part in a sweep, by this process alone or by --workers of them, which it starts, watches
// and stops; or shows how it stands.
rgm_status sweep_command(const rgm_options *options);

#endif
