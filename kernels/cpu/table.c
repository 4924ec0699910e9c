// SPDX-License-Identifier: Apache-2.0
// The CPU backend of one instruction set: a constant table of rows.

#include "kernels/cpu/cpu.h"

#define ROW(name) .name = RGM_CPU(name),

// clang-format off
const rgm_backend RGM_CPU(backend) = {
    .abi_version = RGM_BACKEND_ABI,
    .size = sizeof(rgm_backend),
    .name = "cpu",
    .isa = RGM_QUOTE(RGM_ISA),

    .open = rgm_cpu_open,
    .close = rgm_cpu_close,
    .describe = rgm_cpu_describe,
    .alloc = rgm_cpu_alloc,
    .release = rgm_cpu_release,
    .copy = rgm_cpu_copy,
    .fill = rgm_cpu_fill,
    .sync = rgm_cpu_sync,
    .graph = rgm_cpu_graph,

    RGM_OWN_ROWS(ROW)
};
