// SPDX-License-Identifier: Apache-2.0
// The CUDA backend's table, and the one function by which the module is entered.

#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/module.h"

const char *rgm_cuda_isa(void);


// tabular problems, learned models, regressions; environments
static void fill_more(rgm_backend &t) {
  t.bellman = rgm_cuda_bellman;
  t.mdp_pick = rgm_cuda_mdp_pick;
  t.mdp_solve = rgm_cuda_mdp_solve;
  t.mdp_draw = rgm_cuda_mdp_draw;
  t.mdp_learn = rgm_cuda_mdp_learn;
  t.nearest = rgm_cuda_nearest;
  t.induct = rgm_cuda_induct;
  t.library = rgm_cuda_library;
  t.library_gemm = rgm_cuda_library_gemm;

  t.route = rgm_cuda_route;
  t.model = rgm_cuda_model;
  t.appraise = rgm_cuda_appraise;
  t.decay_weights = rgm_cuda_decay_weights;
  t.adopt = rgm_cuda_adopt;

  t.windows = rgm_cuda_windows;
  t.guide = rgm_cuda_guide;
  t.settle = rgm_cuda_settle;
  t.worth = rgm_cuda_worth;
  t.band = rgm_cuda_band;

  t.env_kernels = rgm_cuda_env_kernels;

  t.products = rgm_cuda_products;
  t.gram = rgm_cuda_gram;
  t.cholesky = rgm_cuda_cholesky;
  t.irls = rgm_cuda_irls;
  t.wls = rgm_cuda_wls;
  t.pseudo = rgm_cuda_pseudo;
  t.predict = rgm_cuda_predict;
  t.resample = rgm_cuda_resample;
  t.staged = rgm_cuda_staged;
}


static rgm_backend table_of(void) {
  rgm_backend t = {};
  t.abi_version = RGM_BACKEND_ABI;
  t.size = sizeof t;
  t.name = "cuda";
  t.isa = rgm_cuda_isa();

  t.open = rgm_cuda_open;
  t.close = rgm_cuda_close;
  t.describe = rgm_cuda_describe;
  t.alloc = rgm_cuda_alloc;
  t.release = rgm_cuda_release;
  t.copy = rgm_cuda_copy;
  t.fill = rgm_cuda_fill;
  t.sync = rgm_cuda_sync;
  t.graph = rgm_cuda_graph;

  t.linear = rgm_cuda_linear;
  t.act_backward = rgm_cuda_act_backward;
  t.linear_dx = rgm_cuda_linear_dx;
  t.linear_dw = rgm_cuda_linear_dw;
  t.linear_dw_adam = rgm_cuda_linear_dw_adam;

  t.softmax_xent = rgm_cuda_softmax_xent;
  t.policy_xent = rgm_cuda_policy_xent;

  t.soft_target = rgm_cuda_soft_target;
  t.critic_loss = rgm_cuda_critic_loss;
  t.actor_loss = rgm_cuda_actor_loss;
  t.dual = rgm_cuda_dual;
  t.action_draw = rgm_cuda_action_draw;
  t.action_score = rgm_cuda_action_score;
  t.schedule = rgm_cuda_schedule;
  t.action_backward = rgm_cuda_action_backward;
  t.gaussian_nll = rgm_cuda_gaussian_nll;
  t.mse = rgm_cuda_mse;

  t.adam = rgm_cuda_adam;
  t.sgd = rgm_cuda_sgd;
  t.ema = rgm_cuda_ema;

  t.gaussian_draw = rgm_cuda_gaussian_draw;
  t.gaussian_refit = rgm_cuda_gaussian_refit;
  t.exponential = rgm_cuda_exponential;

  t.replay_append = rgm_cuda_replay_append;
  t.replay_gather = rgm_cuda_replay_gather;
  t.normalise = rgm_cuda_normalise;
  t.concat = rgm_cuda_concat;
  t.clip_norm = rgm_cuda_clip_norm;

  t.sum = rgm_cuda_sum;
  t.quantile = rgm_cuda_quantile;
  t.select = rgm_cuda_select;
  t.enlist = rgm_cuda_enlist;
  t.uniform = rgm_cuda_uniform;
  t.advance = rgm_cuda_advance;
  t.retire = rgm_cuda_retire;
  t.nonfinite = rgm_cuda_nonfinite;

  t.triad = rgm_cuda_triad;
  t.burn = rgm_cuda_burn;

  fill_more(t);
  return t;
}


extern "C" const rgm_backend *rgm_cuda_backend(rgm_fail_fn fail) {
  static const rgm_backend table = table_of();
  rgm_fail_to(fail);
  return &table;
}
