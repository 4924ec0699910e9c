// SPDX-License-Identifier: Apache-2.0
// What trained policies are worth, by patients that none of them has seen: fitted Q evaluation (Le,
// Voloshin & Yue 2019) of every policy at once, each with a net of its own,
//   y = r + gamma (1 - end) E_{a' ~ pi} Q'(s', t + 1, a'),   L = 1/2 mean (Q(s, t, a) - y)^2,
// and, at evaluation, importance sampling, doubly robust estimates and intervals (estimates.h).
// What is estimated: the discounted sum of rewards until an episode's record ends, or `horizon`
// steps. The step of an episode is an input of the critics (`time`), since a value is about what
// is left of it. A step is `updates` of all critics.

#include "algorithms/bins.h"
#include "algorithms/values.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEY(member) offsetof(rgm_values_keys, member)

static const char *const acting[] = {"likeliest", "draws", NULL};
static const char *const parts[] = {"validation", "test", NULL};
static const char *const fits[] = {"train", "held", NULL};
static const char *const activations[] = {"relu", "tanh", NULL};

static const rgm_field fields[] = {
    RGM_TEXT("runs", KEY(runs), "", RGM_SHAPE,
             "Trained runs (or checkpoints) whose policies are valued, separated by commas."),
    RGM_TEXT("clone", KEY(clone), NULL, RGM_SHAPE,
             "Trained run of bc on the same data: what clinicians do, and how probable it was."),
    RGM_TEXT("baselines", KEY(baselines), "clinician, clone, random, constant", RGM_SHAPE,
             "Who is valued beside them, of clinician, clone, random and constant; none: nobody."),
    RGM_TEXT(
        "model", KEY(model), "", RGM_SHAPE,
        "Trained run of dynamics, mopo or combo in whose model policies are rolled out; empty: "
        "none."),
    {"rollouts", RGM_INT, KEY(rollouts), "1", "4", 1, 10000, NULL, 0,
     "Imagined episodes from the first state of each held-out one."},
    {"constant", RGM_INT, KEY(constant), "1", "-1", -1, RGM_MAX_CLASSES, NULL, 0,
     "The class of `constant`; -1: the commonest of the training rows."},
    {"acts", RGM_CHOICE, KEY(acts), "", "likeliest", 0, 0, acting, 0,
     "What policies of runs do: their likeliest action, as at evaluation, or draws."},
    {"on", RGM_CHOICE, KEY(on), "", "test", 0, 0, parts, RGM_SHAPE,
     "Patients on whom policies are valued."},
    {"fit", RGM_CHOICE, KEY(fit), "", "train", 0, 0, fits, RGM_SHAPE,
     "Patients to whom critics are fitted: those for training, or the held-out ones themselves."},
    {"hidden", RGM_LIST, KEY(hidden), "units", "[64, 64]", 1, 4096, NULL, RGM_SHAPE,
     "Widths of each critic's hidden layers."},
    {"activation", RGM_CHOICE, KEY(activation), "", "relu", 0, 0, activations, RGM_SHAPE,
     "Activation of hidden layers."},
    {"batch", RGM_INT, KEY(batch), "rows", "256", 1, 65536, NULL, RGM_SHAPE,
     "Transitions of an update."},
    {"updates", RGM_INT, KEY(updates), "1", "100", 1, 1e6, NULL, RGM_SHAPE, "Updates of a step."},
    {"lr", RGM_FLOAT, KEY(lr), "1", "1e-3", 0, 1, NULL, 0, "Adam's rate."},
    {"tau", RGM_FLOAT, KEY(tau), "1", "0.05", 0, 1, NULL, 0,
     "Share of the critics that goes into their targets at each update."},
    {"gamma", RGM_FLOAT, KEY(gamma), "1", "1", 0, 1, NULL, 0, "Discount of a step."},
    {"horizon", RGM_INT, KEY(horizon), "steps", "0", 0, 1e9, NULL, 0,
     "Steps that count; 0: as many as the longest episode has."},
    {"time", RGM_BOOL, KEY(time), "", "true", 0, 0, NULL, RGM_SHAPE,
     "Whether the critics see which step of the episode it is."},
    {"resamples", RGM_INT, KEY(resamples), "1", "1000", 0, 1e6, NULL, 0,
     "Bootstrap draws of patients."},
    {"level", RGM_FLOAT, KEY(level), "1", "0.95", 0.01, 0.999, NULL, 0, "Of intervals."},
    {"least_ess", RGM_FLOAT, KEY(least_ess), "episodes", "30", 0, 1e9, NULL, 0,
     "Effective number of episodes below which a policy's estimates are called not reliable."},
    {"least_patients", RGM_INT, KEY(least_patients), "1", "50", 0, 1e9, NULL, 0,
     "Held-out patients below which every estimate is called not reliable."},
    {"support", RGM_FLOAT, KEY(support), "1", "0.05", 0, 1, NULL, 0,
     "An action is outside the clinicians' support where the clone's probability is below this; "
     "continuous: where its density is below this quantile of their own actions'."},
    {"most_outside", RGM_FLOAT, KEY(most_outside), "1", "0.2", 0, 1, NULL, 0,
     "Share of actions outside above which a policy's estimates are called not reliable."},
    {0},
};

static const rgm_tensor none;


// ---- keys --------------------------------------------------------------------------------------

static rgm_status values_check(const rgm_run *run) {
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  const int part = k->on == VALUES_ON_TEST ? RGM_TEST : RGM_VALIDATION;
  const char *where = rgm_config_where(run->config, "algorithm.on");
  RGM_TRY(rgm_bins_check(run));
  if (!t->has_reward) {
    return rgm_fail(RGM_EDATA, "%s: there are no rewards, so no policy can be valued", t->path);
  }
  if (t->part[part] == 0) {
    return rgm_fail(
        RGM_ECONFIG, "%s: algorithm.on: %s has no %s rows; choose another part, or set data.%s",
        where, t->path, rgm_split_name((rgm_split)part), rgm_split_name((rgm_split)part));
  }
  if (k->constant >= t->choices && t->choices > 0) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.constant: class %lld of %lld",
                    rgm_config_where(run->config, "algorithm.constant"), (long long)k->constant,
                    (long long)t->choices);
  }
  return run->replicas <= 64 ? RGM_OK
                             : rgm_fail(RGM_ECONFIG, "%s: run.replicas: 64 seeds are the most",
                                        rgm_config_where(run->config, "run.replicas"));
}


// ---- planning ----------------------------------------------------------------------------------

static rgm_tensor for_all(rgm_tensor t, int64_t replicas) {
  t.dims[0] = replicas;
  t.stride0 = 0;
  return t;
}


// rows of the fitted part, one copy for all replicas
static rgm_ring plan_ring(rgm_run *run, const char *name, int64_t rows, const int64_t *width,
                          int columns) {
  rgm_ring ring = {.columns = columns};
  char full[64];
  for (int k = 0; k < columns; k++) {
    snprintf(full, sizeof full, "%s/%d", name, k);
    ring.column[k] = for_all(rgm_plan(run->arena, full, RGM_F32, RGM_BLOCK, "one, row, column", "",
                                      1, rows, width[k], 0),
                             run->replicas);
  }
  snprintf(full, sizeof full, "%s/head", name);
  ring.head =
      for_all(rgm_plan(run->arena, full, RGM_U32, RGM_BLOCK, "one", "", 1, 0, 0, 0), run->replicas);
  snprintf(full, sizeof full, "%s/count", name);
  ring.count =
      for_all(rgm_plan(run->arena, full, RGM_U32, RGM_BLOCK, "one", "", 1, 0, 0, 0), run->replicas);
  return ring;
}


static rgm_tensor plan_rows(rgm_run *run, const char *name, int64_t d1, int64_t d2, int64_t d3) {
  return rgm_plan(run->arena, name, RGM_F32, RGM_SCRATCH, "replica, ...", "1", run->replicas, d1,
                  d2, d3);
}


static rgm_tensor plan_number(rgm_run *run, const char *name) {
  return rgm_plan(run->arena, name, RGM_F32, RGM_BLOCK, "replica", "1", run->replicas, 0, 0, 0);
}


static void plan_batch(rgm_run *run, rgm_values *s, int64_t B) {
  const rgm_transitions *t = run->transitions;
  const bool classes = t->choices > 0;
  const int64_t D = t->actions, X = s->inputs, O = rgm_padded(s->outputs);
  s->items = rgm_plan(run->arena, "batch/items", RGM_U32, RGM_SCRATCH, "replica, row", "",
                      run->replicas, B, 0, 0);
  s->x = plan_rows(run, "batch/x", B, X, 0);
  s->next = plan_rows(run, "batch/next", B, X, 0);
  s->act = plan_rows(run, "batch/act", B, D, 0);
  s->reward = plan_rows(run, "batch/reward", B, 1, 0);
  s->end = plan_rows(run, "batch/end", B, 1, 0);
  s->doing_next = plan_rows(run, "batch/doing", B, classes ? O : D, 0);
  if (!classes) {
    s->in = plan_rows(run, "batch/in", B, X + D, 0);
    s->in_next = plan_rows(run, "batch/in_next", B, X + D, 0);
  }
  s->y = plan_rows(run, "work/y", B, 0, 0);
  s->dq = plan_rows(run, "work/dq", s->count, B, O);
  s->share = plan_rows(run, "work/share", s->count, B, 0);
  s->look = plan_rows(run, "look/x", VALUES_ROWS, X + (classes ? 0 : D), 0);
}


// how many policies the keys name: `count` of words between commas
static int count_words(const char *text) {
  int count = text[0] != '\0' && strcmp(text, "none") != 0;
  for (const char *c = text; count > 0 && *c != '\0'; c++) {
    count += *c == ',';
  }
  return count;
}


static rgm_status values_plan(rgm_run *run) {
  rgm_values *s = run->self;
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  const rgm_transitions *t = run->transitions;
  const bool classes = t->choices > 0;
  const int part = k->fit == VALUES_FIT_TRAIN ? RGM_TRAIN
                   : k->on == VALUES_ON_TEST  ? RGM_TEST
                                              : RGM_VALIDATION;
  s->trained = count_words(k->runs);
  s->count = s->trained + count_words(k->baselines);
  if (s->count == 0 || s->count > VALUES_POLICIES) {
    return rgm_fail(RGM_ECONFIG, "%s: algorithm.runs: %d policies with the baselines; 1 to %d",
                    rgm_config_where(run->config, "algorithm.runs"), s->count, VALUES_POLICIES);
  }
  s->inputs = t->states + k->time;
  s->outputs = classes ? t->choices : 1;
  const int64_t X = s->inputs, D = t->actions, O = rgm_padded(s->outputs);
  const int64_t width[] = {X, X, D, 1, 1}, doing[] = {classes ? O : D};
  s->critic = rgm_plan_nets(run->arena, "critic", run->replicas, s->count, X + (classes ? 0 : D),
                            &k->hidden, s->outputs, k->activation == 0 ? RGM_RELU : RGM_TANH,
                            RGM_STATE, RGM_WITH_TARGET);
  s->digest = rgm_plan(run->arena, "policy/digest", RGM_U32, RGM_STATE, "replica, policy, word", "",
                       run->replicas, s->count, 8, 0);
  s->data = plan_ring(run, "data", t->part[part], width, 5);
  for (int n = 0; n < s->count; n++) {
    char name[32];
    snprintf(name, sizeof name, "doing/%d", n);
    s->doing[n] = plan_ring(run, name, t->part[part], doing, 1);
  }
  plan_batch(run, s, k->batch);
  s->pass = rgm_plan_pass(run->arena, "pass/learn", run->replicas, &s->critic, k->batch,
                          RGM_WAY_BACK_EACH);
  s->target_pass = rgm_plan_pass_in(run->arena, "pass/target", run->replicas, &s->critic, k->batch,
                                    RGM_NO_WAY_BACK, &s->pass);
  s->look_pass = rgm_plan_pass(run->arena, "pass/look", run->replicas, &s->critic, VALUES_ROWS,
                               RGM_NO_WAY_BACK);
  s->loss = plan_number(run, "seen/loss");
  s->lr = rgm_plan_hyper(run, "lr", KEY(lr));
  s->tau = rgm_plan_hyper(run, "tau", KEY(tau));
  s->gamma = rgm_plan_hyper(run, "gamma", KEY(gamma));
  s->beta1 = plan_number(run, "constant/beta1");
  s->beta2 = plan_number(run, "constant/beta2");
  s->eps = plan_number(run, "constant/eps");
  return RGM_OK;
}


// ---- the start ---------------------------------------------------------------------------------

static rgm_status put_column(rgm_run *run, rgm_tensor to, const float *from, int64_t count) {
  rgm_copy(run->stream, to.data, from, (size_t)count * sizeof *from);
  return rgm_sync(run->stream);
}


// what policy n does after each row: log-probabilities padded to the critics' width, or an action
static rgm_status put_doing(rgm_run *run, int n, const rgm_values_rows *fit) {
  rgm_values *s = run->self;
  const rgm_transitions *t = run->transitions;
  const int64_t A = t->choices, W = s->doing[n].column[0].dims[2];
  float *doing = calloc((size_t)(fit->rows * W), sizeof *doing);
  double *log_pi = A > 0 ? malloc((size_t)(fit->rows * A) * sizeof *log_pi) : NULL;
  rgm_status status = doing != NULL && (A == 0 || log_pi != NULL)
                          ? RGM_OK
                          : rgm_fail(RGM_EMEMORY, "no memory for what %s does", s->valued[n].name);
  if (status == RGM_OK && A > 0) {
    status = rgm_values_log_pi(run, n, fit->of, fit->rows, true, log_pi);
    for (int64_t i = 0; i < fit->rows * A && status == RGM_OK; i++) {
      doing[i / A * W + i % A] = (float)fmax(log_pi[i], -1e4);
    }
  } else if (status == RGM_OK) {
    status = rgm_values_actions(run, n, fit->of, fit->rows, true, 0, doing);
  }
  status = status == RGM_OK ? put_column(run, s->doing[n].column[0], doing, fit->rows * W) : status;
  free(doing);
  free(log_pi);
  return status;
}


static rgm_status put_digests(rgm_run *run) {
  rgm_values *s = run->self;
  uint32_t words[VALUES_POLICIES * 8] = {0};
  for (int n = 0; n < s->count; n++) {
    for (int i = 0; i < 8 && s->valued[n].policy != NULL; i++) {
      unsigned word = 0;
      if (sscanf(s->valued[n].policy->digest + 8 * i, "%8x", &word) == 1) {
        words[8 * n + i] = word;
      }
    }
  }
  return rgm_put_rows(run, s->digest, words);
}


static rgm_status put_rows(rgm_run *run, const rgm_values_rows *fit) {
  rgm_values *s = run->self;
  const uint32_t count = (uint32_t)fit->rows, head = 0;
  const float *const from[] = {fit->x, fit->next, fit->act, fit->reward, fit->end};
  for (int k = 0; k < s->data.columns; k++) {
    RGM_TRY(put_column(run, s->data.column[k], from[k], fit->rows * s->data.column[k].dims[2]));
  }
  for (int n = -1; n < s->count; n++) {
    const rgm_ring *ring = n < 0 ? &s->data : &s->doing[n];
    rgm_copy(run->stream, ring->head.data, &head, sizeof head);
    rgm_copy(run->stream, ring->count.data, &count, sizeof count);
    RGM_TRY(rgm_sync(run->stream));
    RGM_TRY(n >= 0 ? put_doing(run, n, fit) : RGM_OK);
  }
  return RGM_OK;
}


static rgm_status values_init(rgm_run *run) {
  rgm_values *s = run->self;
  rgm_values_rows fit = {0};
  uint32_t member = 0;
  rgm_nets_init(run, &s->critic, 0.0f, &member);
  RGM_TRY(rgm_put_number(run, s->beta1, 0.9f));
  RGM_TRY(rgm_put_number(run, s->beta2, 0.999f));
  RGM_TRY(rgm_put_number(run, s->eps, 1e-8f));
  rgm_status status = rgm_values_load(run, &fit);
  status = status == RGM_OK ? put_rows(run, &fit) : status;
  rgm_values_free_rows(&fit);
  return status == RGM_OK ? put_digests(run) : status;
}


static void values_release(rgm_run *run) {
  rgm_values *s = run->self;
  for (int n = 0; n < VALUES_POLICIES; n++) {
    rgm_policy_free(&s->policy[n]);
  }
  rgm_policy_free(&s->clone);
  rgm_world_free(&s->world);
  rgm_values_free_rows(&s->held);
}


// ---- one update --------------------------------------------------------------------------------

static rgm_tensor column_of(rgm_tensor t) {
  rgm_tensor one = rgm_view(t.data, RGM_F32, t.dims[0], t.dims[1], 0, 0);
  one.stride0 = t.stride0;
  return one;
}


static void learn_policy(const rgm_run *run, rgm_stream *stream, int n) {
  const rgm_values *s = run->self;
  const bool classes = run->transitions->choices > 0;
  const rgm_gather gather = {
      .row = {s->doing_next},
      .items = s->items,
      .from = &s->doing[n],
      .seeds = run->seeds,
      .clock = s->critic.updates[0],
      .active = run->active,
      .random = RGM_RANDOM_REPLAY,
      .given = true,
  };
  rgm_replay_gather(stream, &gather);
  if (!classes) {
    rgm_concat(stream, s->in_next, s->next, s->doing_next, 0);
  }
  rgm_forward_net(stream, &s->critic, n, true, classes ? s->next : s->in_next, &s->target_pass);
  const rgm_target target = {
      .y = s->y,
      .q = rgm_part_of_net(s->target_pass.out, n, 0, s->target_pass.out.dims[2]),
      .head = classes ? s->doing_next : none,
      .log_pi = column_of(s->end), // of no account without a temperature
      .reward = column_of(s->reward),
      .terminated = column_of(s->end),
      .gamma = s->gamma,
      .active = run->active,
      .actions = classes ? (int)s->outputs : 1,
  };
  rgm_soft_target(stream, &target);

  // the critic: a step towards it
  const rgm_tensor in = classes ? s->x : s->in;
  rgm_forward_net(stream, &s->critic, n, false, in, &s->pass);
  const rgm_critic critic = {
      .dq = rgm_part_of_net(s->dq, n, 0, s->dq.dims[2]),
      .loss = rgm_share_of_net(s->share, n),
      .q = rgm_part_of_net(s->pass.out, n, 0, s->pass.out.dims[2]),
      .action = classes ? column_of(s->act) : none,
      .y = s->y,
      .active = run->active,
      .push = RGM_PUSH_NONE,
      .actions = classes ? (int)s->outputs : 1,
  };
  rgm_critic_loss(stream, &critic);
  const rgm_descent step = {
      .lr = s->lr,
      .beta1 = s->beta1,
      .beta2 = s->beta2,
      .eps = s->eps,
      .rate = s->tau,
      .active = run->active,
  };
  rgm_backward_net(stream, &s->critic, n, in, &s->pass, s->dq, none, &step);
}


static void enqueue_update(void *run_, rgm_stream *stream) {
  const rgm_run *run = run_;
  const rgm_values *s = run->self;
  const rgm_gather gather = {
      .row = {s->x, s->next, s->act, s->reward, s->end},
      .items = s->items,
      .from = &s->data,
      .seeds = run->seeds,
      .clock = s->critic.updates[0],
      .active = run->active,
      .random = RGM_RANDOM_REPLAY,
  };
  rgm_replay_gather(stream, &gather);
  if (run->transitions->choices == 0) {
    rgm_concat(stream, s->in, s->x, s->act, 0);
  }
  for (int n = 0; n < s->count; n++) {
    learn_policy(run, stream, n);
  }
  rgm_sum(stream, s->loss, s->share, 1.0f / (float)s->count);
}


static rgm_status values_step(rgm_run *run) {
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  for (int64_t u = 0; u < k->updates; u++) {
    rgm_graph(run->stream, 0, enqueue_update, run);
  }
  rgm_advance(run->stream, run->clock, run->active);
  return RGM_OK;
}


static rgm_status values_report(rgm_run *run) {
  const rgm_values *s = run->self;
  return rgm_report_vector(run, "loss", "1", s->loss);
}


static double values_work(const rgm_run *run) {
  const rgm_values_keys *k = rgm_algorithm_keys(run, 0);
  return (double)run->replicas * (double)k->updates * (double)k->batch;
}


const rgm_algorithm rgm_values_of_policies = {
    .name = "values",
    .paper = "Le et al. 2019; Precup et al. 2000; Jiang & Li 2016; Thomas & Brunskill 2016",
    .doc =
        "What policies are worth on held-out patients: fitted Q evaluation, importance sampling.",
    .fields = fields,
    .keys_size = sizeof(rgm_values_keys),
    .self_size = sizeof(rgm_values),
    .needs = RGM_NEEDS_DATASET | RGM_TAKES_ENV,
    .work_unit = "rows",
    .work = values_work,
    .check = values_check,
    .plan = values_plan,
    .init = values_init,
    .step = values_step,
    .report = values_report,
    .contenders = rgm_values_contenders,
    .evaluate = rgm_values_evaluate,
    .release = values_release,
};
