// SPDX-License-Identifier: Apache-2.0
// Episodes of an agent while it learns. See judge.h.

#include "algorithms/judge.h"


rgm_problem rgm_env_problem(const rgm_run *run) {
  const rgm_env *env = run->env;
  return (rgm_problem){
      .obs = env->obs_dim,
      .dims = env->choices > 0 ? 1 : env->act_dim,
      .choices = env->choices,
      .act_low = env->act_low,
      .act_high = env->act_high,
  };
}


void rgm_judge_plan(rgm_run *run, rgm_judge *j, const rgm_agent *agent, int64_t episodes) {
  const int64_t R = run->replicas, V = j->episodes = run->env != NULL ? episodes : 0;
  rgm_arena *arena = run->arena;
  rgm_bins_plan(run, &j->bins, V);
  if (V == 0) {
    return;
  }
  const struct {
    rgm_tensor *tensor;
    const char *name;
    int64_t width; // 0: one number
  } rows[] = {
      {&j->state, "judge/state", run->env_kernels->words},
      {&j->obs, "judge/obs", run->env->obs_dim},
      {&j->seen, "judge/seen", agent->problem.obs},
      {&j->act, "judge/act", run->env->act_dim},
      {&j->log_pi, "judge/log_pi", 0},
      {&j->reward, "judge/reward", 0},
      {&j->terminated, "judge/terminated", 0},
      {&j->truncated, "judge/truncated", 0},
      {&j->total[0], "judge/total/0", 0},
      {&j->total[1], "judge/total/1", 0},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    *rows[i].tensor = rgm_plan(arena, rows[i].name, RGM_F32, RGM_BLOCK, "replica, episode, ...",
                               "1", R, V, rows[i].width, 0);
  }
  j->zero = rgm_plan(arena, "judge/clock", RGM_U32, RGM_BLOCK, "replica", "", R, 0, 0, 0);
  j->mean = rgm_plan(arena, "judge/mean", RGM_F32, RGM_BLOCK, "replica", "1", R, 0, 0, 0);
  j->pass = rgm_plan_pass(arena, "judge/pass", R, &agent->actor, V, false);
}


rgm_status rgm_judge_init(rgm_run *run, rgm_judge *j) {
  return rgm_bins_init(run, &j->bins);
}


void rgm_judge_act(rgm_run *run, rgm_judge *j, const rgm_agent *agent, rgm_stream *s,
                   rgm_tensor act, rgm_tensor obs) {
  const rgm_tensor state = rgm_bins_see(run, &j->bins, s, obs);
  rgm_agent_act(s, agent, &j->pass, j->seen, state, rgm_bins_choice(&j->bins, act), j->log_pi,
                RGM_DRAW_MEAN, 0);
  rgm_bins_give(&j->bins, s, act);
}


rgm_status rgm_judge_report(rgm_run *run, rgm_judge *j, const rgm_agent *agent) {
  rgm_stream *s = run->stream;
  if (j->episodes == 0) {
    return RGM_OK;
  }
  rgm_stepping step = {
      .state = j->state,
      .obs = j->obs,
      .reward = j->reward,
      .terminated = j->terminated,
      .truncated = j->truncated,
      .act = j->act,
      .config = run->env_config,
      .seeds = run->seeds,
      .clock = j->zero,
      .active = run->active,
      .patient = RGM_RANDOM_PATIENT + RGM_RANDOM_EVAL,
      .noise = RGM_RANDOM_NOISE + RGM_RANDOM_EVAL,
      .steps = run->env->steps(run->env_keys),
      .begin = true,
      .hold = true,
  };
  rgm_env_step(run->env_kernels, s, &step);
  step.begin = false;
  rgm_fill(s, j->total[0], 0);

  // an episode that is over earns nothing more
  for (int64_t t = 0; t < step.steps; t++) {
    rgm_judge_act(run, j, agent, s, j->act, j->obs);
    rgm_env_step(run->env_kernels, s, &step);
    rgm_triad(s, j->total[(t + 1) % 2], j->total[t % 2], j->reward, 1.0f);
  }
  rgm_sum(s, j->mean, j->total[step.steps % 2], 1.0f / (float)j->episodes);
  return rgm_report_vector(run, "return", "1", j->mean);
}
