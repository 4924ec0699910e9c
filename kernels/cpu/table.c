// SPDX-License-Identifier: Apache-2.0
// The CPU backend of one instruction set: a constant table of rows.

#include "kernels/cpu/cpu.h"

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

    .linear = RGM_CPU(linear),
    .act_backward = RGM_CPU(act_backward),
    .linear_dx = RGM_CPU(linear_dx),
    .linear_dw = RGM_CPU(linear_dw),
    .linear_dw_adam = RGM_CPU(linear_dw_adam),

    .softmax_xent = RGM_CPU(softmax_xent),
    .policy_xent = RGM_CPU(policy_xent),

    .soft_target = RGM_CPU(soft_target),
    .critic_loss = RGM_CPU(critic_loss),
    .actor_loss = RGM_CPU(actor_loss),
    .dual = RGM_CPU(dual),
    .action_draw = RGM_CPU(action_draw),
    .action_backward = RGM_CPU(action_backward),
    .action_score = RGM_CPU(action_score),
    .gaussian_nll = RGM_CPU(gaussian_nll),
    .mse = RGM_CPU(mse),

    .schedule = RGM_CPU(schedule),
    .adam = RGM_CPU(adam),
    .sgd = RGM_CPU(sgd),
    .ema = RGM_CPU(ema),

    .gaussian_draw = RGM_CPU(gaussian_draw),
    .gaussian_refit = RGM_CPU(gaussian_refit),
    .exponential = RGM_CPU(exponential),

    .replay_append = RGM_CPU(replay_append),
    .replay_gather = RGM_CPU(replay_gather),
    .normalise = RGM_CPU(normalise),
    .concat = RGM_CPU(concat),
    .clip_norm = RGM_CPU(clip_norm),

    .sum = RGM_CPU(sum),
    .quantile = RGM_CPU(quantile),
    .select = RGM_CPU(select),
    .enlist = RGM_CPU(enlist),
    .uniform = RGM_CPU(uniform),
    .advance = RGM_CPU(advance),
    .retire = RGM_CPU(retire),
    .nonfinite = RGM_CPU(nonfinite),

    .triad = RGM_CPU(triad),
    .burn = RGM_CPU(burn),

    .route = RGM_CPU(route),
    .model = RGM_CPU(model),
    .appraise = RGM_CPU(appraise),
    .decay_weights = RGM_CPU(decay_weights),
    .adopt = RGM_CPU(adopt),
    .bellman = RGM_CPU(bellman),
    .mdp_pick = RGM_CPU(mdp_pick),
    .mdp_solve = RGM_CPU(mdp_solve),
    .mdp_draw = RGM_CPU(mdp_draw),
    .mdp_learn = RGM_CPU(mdp_learn),
    .products = RGM_CPU(products),
    .gram = RGM_CPU(gram),
    .cholesky = RGM_CPU(cholesky),
    .irls = RGM_CPU(irls),
    .wls = RGM_CPU(wls),
    .pseudo = RGM_CPU(pseudo),
    .resample = RGM_CPU(resample),
    .staged = RGM_CPU(staged),
};
