// SPDX-License-Identifier: Apache-2.0
// Tests of OMG-RL: the slope of the reward's loss by finite differences in every weighing, what
// trajectories it learns from, rewards at use, a planted reward found again, what weights are
// worth, the same bits whatever computes them, presets, keys that do not fit.

#include "algorithms/omgrl.h"
#include "kernels/rng.h"
#include "tests/cuda_module.h"
#include "tests/omgrl_data.h"

TestSuite(omgrl, .timeout = 300, .init = make_folder, .fini = remove_folder);

// ---- the slope ---------------------------------------------------------------------------------

// The batch of the last reward step, and the net it was learned by, in double.
typedef struct batch_of {
  int64_t rows, steps, count, experts, inputs;
  float *x, *policy, *clone, *alive;
  double *net; // parameters of the MLP's block
  int layers;
  const int64_t *width;
} batch_of;

// r of one row
static double value_of(const batch_of *b, const float *x) {
  double in[64], out[64];
  for (int64_t i = 0; i < b->inputs; i++) {
    in[i] = (double)x[i];
  }
  ask_net(b->net, b->layers, b->width, in, out);
  return out[0];
}


static double add_logs(double a, double b) {
  return fmax(a, b) + log1p(exp(-fabs(a - b)));
}


// x of trajectory j up to step `last`; its return in *total
static double exponent_of(const batch_of *b, int proposal, int64_t j, int64_t last, double *total) {
  double policy = 0.0, clone = 0.0, q;
  const double share = (double)b->experts / (double)b->count;
  *total = 0.0;
  for (int64_t row = j * b->steps; row <= j * b->steps + last; row++) {
    *total += value_of(b, b->x + row * b->inputs);
    policy += (double)b->policy[row];
    clone += b->clone != NULL ? (double)b->clone[row] : 0.0;
  }
  if (proposal == 2) {
    q = add_logs(log(share) + clone, log(1.0 - share) + policy);
  } else {
    q = j >= b->experts ? policy : proposal == 1 ? clone : 0.0;
  }
  return *total - q;
}


// log mean exp of x, and its softmax in w
static double normalise(double *x, int64_t count, double power, double *w) {
  double top = -INFINITY, sum = 0.0;
  for (int64_t j = 0; j < count; j++) {
    top = fmax(top, power * x[j]);
  }
  for (int64_t j = 0; j < count; j++) {
    sum += exp(power * x[j] - top);
  }
  for (int64_t j = 0; j < count; j++) {
    w[j] = exp(power * x[j] - top) / sum;
  }
  return (top + log(sum / (double)count)) / power;
}


// What the net goes down: the loss itself; of prefixes and truncated weights the sum of w r with
// the weights of `fixed`, which are computed anew where it is empty (its first element NaN).
static double loss_of(const batch_of *b, int weights, int proposal, double bend, double *fixed) {
  double loss = 0.0, total, x[64], w[64];
  const bool prefix = weights == RGM_OMGRL_PREFIX, capped = weights == RGM_OMGRL_TRUNCATED;
  const bool fresh = isnan(fixed[0]);
  for (int64_t j = 0; j < b->experts; j++) {
    exponent_of(b, proposal, j, b->steps - 1, &total);
    loss -= total / (double)b->experts;
  }
  for (int64_t g = prefix ? 0 : b->steps - 1; g < b->steps; g++) {
    for (int64_t j = 0; j < b->count; j++) {
      x[j] = exponent_of(b, proposal, j, g, &total);
    }
    const double mean = normalise(x, b->count, weights == RGM_OMGRL_TEMPERED ? bend : 1.0, w);
    if (!prefix && !capped) {
      return loss + mean;
    }
    for (int64_t j = 0; capped && fresh && j < b->count; j++) {
      x[j] = fmin(x[j], mean + log(bend));
    }
    normalise(x, b->count, 1.0, w);
    for (int64_t j = 0; j < b->count; j++) {
      double *own = fixed + (prefix ? g * b->count : 0) + j;
      *own = fresh ? w[j] : *own;
      if (prefix) {
        loss += *own * value_of(b, b->x + (j * b->steps + g) * b->inputs);
      } else {
        exponent_of(b, proposal, j, g, &total);
        loss += *own * total;
      }
    }
  }
  return loss;
}


static batch_of read_batch(rgm_run *run, const double *net) {
  const rgm_omgrl *s = run->self;
  const rgm_mlp *mlp = &s->reward.net[0];
  const int64_t size = mlp->block.dims[1];
  batch_of b = {.steps = s->steps, .count = s->experts + s->samples, .experts = s->experts};
  b.rows = b.steps * b.count;
  b.inputs = mlp->width[0];
  b.x = read_tensor(run, "guide/x");
  b.policy = read_tensor(run, "guide/log_policy");
  b.clone = s->clones ? read_tensor(run, "guide/log_clone") : NULL;
  b.alive = read_tensor(run, "guide/alive");
  b.net = malloc((size_t)size * sizeof *b.net);
  memcpy(b.net, net, (size_t)size * sizeof *b.net);
  b.layers = mlp->layers;
  b.width = mlp->width;
  return b;
}


static double *parameters_of(rgm_run *run) {
  const int64_t size = tensor_of(run, "reward/0").dims[1];
  float *net = read_tensor(run, "reward/0");
  double *copy = malloc((size_t)size * sizeof *copy);
  for (int64_t i = 0; i < size; i++) {
    copy[i] = (double)net[i];
  }
  free(net);
  return copy;
}


// Adam's first moment after one step is a tenth of the slope, decay of weights and all. The slope
// by parameters agrees with differences of the loss in double.
Test(omgrl, slope_is_that_of_the_loss) {
  static const char *const names[] = {"step", "prefix", "trajectory", "truncated", "tempered"};
  static const char *const proposals[] = {"one", "bc", "mixture"};
  for (int i = 0; i < 5 * 3; i++) {
    const int weights = i % 5, proposal = i / 5, choices = i % 2 == 0 ? 3 : 0;
    char more[256];
    snprintf(more, sizeof more,
             "weights: %s, proposal: %s, reward_steps: 1, encoding: %s%s, cap: 1.5, kappa: 0.3",
             names[weights], proposals[proposal], choices > 0 ? "onehot" : "scaled",
             choices > 0 ? "" : ", push: rho_sample");
    rgm_run *run = make_model(config_of(write_world("world.h5", 12, choices), "", more));
    const rgm_omgrl *s = run->self;
    double *net = parameters_of(run);
    steps_of(run, (int)rgm_imagined_before(run) + 1);
    batch_of b = read_batch(run, net);
    float *moment = read_tensor(run, "reward/0/m"), *loss = read_tensor(run, "reward/loss");
    double fixed[HORIZON * 64], worst = 0.0;
    fixed[0] = NAN;
    const double bend = weights == RGM_OMGRL_TEMPERED ? (double)0.3f : 1.5;
    const double value = loss_of(&b, weights, proposal, bend, fixed);
    const bool exact = weights != RGM_OMGRL_PREFIX && weights != RGM_OMGRL_TRUNCATED;
    cr_expect(!exact || fabs(value - (double)loss[0]) < 1e-5, "%s: loss %g, %g in double", more,
              (double)loss[0], value);
    for (int64_t at = 0; at < s->reward.net[0].block.dims[1]; at += 3) {
      const double here = b.net[at], step = 1e-5;
      const bool first = at < b.inputs * rgm_padded(b.width[1]);
      b.net[at] = here + step;
      const double above = loss_of(&b, weights, proposal, bend, fixed);
      b.net[at] = here - step;
      const double below = loss_of(&b, weights, proposal, bend, fixed);
      b.net[at] = here;
      const double slope = (above - below) / (2.0 * step) + (first ? (double)0.01f * here : 0.0);
      // weights of further layers decay too; biases do not
      const double got = (double)moment[at] / (1.0 - (double)0.9f);
      const double decayed = slope + (double)0.01f * here;
      worst = fmax(worst, fmin(fabs(got - slope), fabs(got - decayed)));
    }
    cr_expect_lt(worst, 2e-4, "%s: the slope is off by %g", more, worst);
    free(b.x);
    free(b.policy);
    free(b.clone);
    free(b.alive);
    free(b.net);
    free(net);
    free(moment);
    free(loss);
    rgm_run_free(run);
  }
}


// ---- trajectories ------------------------------------------------------------------------------

// row of the training data whose state this is, or -1
static int64_t find_row(const rgm_transitions *t, const float *obs) {
  for (int64_t i = 0; i < t->rows; i++) {
    if (t->split[i] == RGM_TRAIN &&
        memcmp(t->obs + i * t->states, obs, (size_t)t->states * sizeof *obs) == 0) {
      return i;
    }
  }
  return -1;
}


// Experts' windows are rows of one episode, one after the other, with the density that the clone
// gives them; imagined ones are whole trajectories of the rollout. N episodes teach where N are
// asked for, others with another seed.
Test(omgrl, learns_from_whole_trajectories) {
  const char *data = write_world("world.h5", 30, 3);
  rgm_run *run = make_model(
      config_of(data, "replicas: 2, threads: 2", "weights: trajectory, experts: 3, retain: 1"));
  const rgm_transitions *t = run->transitions;
  const rgm_omgrl *s = run->self;
  steps_of(run, (int)rgm_imagined_before(run) + 1);
  float *obs = read_tensor(run, "guide/obs"), *dreams = read_tensor(run, "model/obs");
  uint32_t *count = read_tensor(run, "reward/experts/count");
  bool taught[2][64] = {{false}};
  for (int r = 0; r < 2; r++) {
    const float *own = obs + r * (7 + 9) * HORIZON * 3, *dream = dreams + r * STARTS * HORIZON * 3;
    for (int j = 0; j < 7; j++) {
      const int64_t row = find_row(t, own + j * HORIZON * 3);
      cr_assert_geq(row, 0);
      taught[r][t->episode[row]] = true;
      for (int k = 1; k < HORIZON; k++) {
        cr_expect_eq(find_row(t, own + (j * HORIZON + k) * 3), row + k);
        cr_expect_eq(t->episode[row + k], t->episode[row]);
      }
    }
    for (int j = 7; j < 16; j++) {
      int start = 0;
      while (start < STARTS &&
             memcmp(dream + start * 3, own + j * HORIZON * 3, 3 * sizeof *own) != 0) {
        start++;
      }
      cr_assert_lt(start, STARTS);
      for (int k = 1; k < HORIZON; k++) {
        cr_expect_eq(
            memcmp(dream + (k * STARTS + start) * 3, own + (j * HORIZON + k) * 3, 3 * sizeof *own),
            0, "step %d of trajectory %d is another's", k, j);
      }
    }
    int episodes = 0;
    for (int e = 0; e < 64; e++) {
      episodes += taught[r][e];
    }
    cr_expect(episodes <= 3 && episodes > 0, "%d episodes teach", episodes);
    // an episode has 20 rows, or 19 whose next state is known
    cr_expect(count[r] >= 3 * (WORLD_LENGTH - HORIZON) &&
              count[r] <= 3 * (WORLD_LENGTH - HORIZON + 1));
  }
  cr_expect_neq(memcmp(taught[0], taught[1], sizeof taught[0]), 0, "both seeds chose the same");
  cr_expect_eq(s->short_ones, 0);
  free(obs);
  free(dreams);
  free(count);
  rgm_run_free(run);
}


// ---- rewards at use ----------------------------------------------------------------------------

// The agent's rewards are the net's as it is, less the mean and over the deviation of experts'; of
// the aPTT they are the band's, by the next state. Only the former change what is learned.
Test(omgrl, rewards_are_computed_at_use) {
  static const char *const kinds[] = {"reward_lr: 0.1, reward_limit: 0.7", "reward: aptt"};
  for (int kind = 0; kind < 2; kind++) {
    rgm_run *run = make_model(config_of(write_world("world.h5", 12, 3), "", kinds[kind]));
    const rgm_transitions *t = run->transitions;
    steps_of(run, (int)rgm_imagined_before(run) + 2);
    float *reward = read_tensor(run, "batch/reward"), *next = read_tensor(run, "batch/next");
    float *obs = read_tensor(run, "batch/obs"), *act = read_tensor(run, "batch/act");
    double *net = kind == 0 ? parameters_of(run) : NULL;
    float *scale = kind == 0 ? read_tensor(run, "reward/scale") : NULL;
    for (int b = 0; b < 11; b++) {
      double want;
      if (kind == 1) {
        const double v = (double)next[3 * b] * t->state[0].sd + t->state[0].mean;
        want = 2.0 / (1.0 + exp(60.0 - v)) - 2.0 / (1.0 + exp(100.0 - v)) - 1.0;
      } else {
        const rgm_omgrl *s = run->self;
        const float x[] = {obs[3 * b],     obs[3 * b + 1], obs[3 * b + 2],
                           act[b] == 0.0f, act[b] == 1.0f, act[b] == 2.0f};
        batch_of one = {.inputs = 6,
                        .net = net,
                        .layers = s->reward.net[0].layers,
                        .width = s->reward.net[0].width};
        want = (value_of(&one, x) - (double)scale[0]) / (double)scale[1];
        want = fmin(fmax(want, -(double)0.7f), (double)0.7f);
      }
      cr_expect(fabs((double)reward[b] - want) < 2e-4, "row %d of kind %d: %g, not %g", b, kind,
                (double)reward[b], want);
    }
    free(reward);
    free(next);
    free(obs);
    free(act);
    free(net);
    free(scale);
    rgm_run_free(run);
  }
}


// ---- a planted reward --------------------------------------------------------------------------

enum { SIDE = 4, CELLS = SIDE * SIDE, MOVES = 4, LENGTH = 8, START = 5, EPISODES = 2000 };

static int move(int cell, int action) {
  static const int dx[] = {1, -1, 0, 0}, dy[] = {0, 0, 1, -1};
  const int x = cell % SIDE + dx[action], y = cell / SIDE + dy[action];
  return x < 0 || y < 0 || x >= SIDE || y >= SIDE ? cell : y * SIDE + x;
}


// Episodes of what is as likely as exp R over LENGTH steps from one cell: soft values backwards,
// then their policy, which knows the time. States are ones and zeros.
static const char *write_grid(const double *reward) {
  double value[LENGTH + 1][CELLS] = {{0.0}};
  for (int t = LENGTH - 1; t >= 0; t--) {
    for (int c = 0; c < CELLS; c++) {
      double sum = 0.0;
      for (int a = 0; a < MOVES; a++) {
        sum += exp(value[t + 1][move(c, a)]);
      }
      value[t][c] = reward[c] + log(sum);
    }
  }
  const char *path = in_folder("grid.h5");
  rgm_dataset *d = rgm_dataset_new((int64_t)EPISODES * (LENGTH + 1));
  char name[32];
  rgm_dataset_add(d, "episode", RGM_ROLE_EPISODE, RGM_CELL_F64, "");
  for (int c = 0; c < CELLS; c++) {
    snprintf(name, sizeof name, "cell_%d", c);
    rgm_dataset_add(d, name, RGM_ROLE_STATE, RGM_CELL_F64, "1");
  }
  rgm_dataset_add(d, "move", RGM_ROLE_ACTION, RGM_CELL_F64, "1")->choices = MOVES;
  rgm_dataset_add(d, "r", RGM_ROLE_REWARD, RGM_CELL_F64, "1");
  rgm_dataset_add(d, "terminated", RGM_ROLE_TERMINATED, RGM_CELL_F64, "1");
  uint64_t seed = 5;
  for (int64_t row = 0, cell = 0; row < d->rows; row++) {
    const int t = (int)(row % (LENGTH + 1));
    cell = t == 0 ? START : cell;
    double left = world_uniform(&seed);
    int action = 0;
    while (t < LENGTH && action < MOVES - 1 &&
           (left -= exp(reward[cell] + value[t + 1][move((int)cell, action)] - value[t][cell])) >
               0.0) {
      action++;
    }
    rgm_cell_set(&d->column[0], row, (double)(row / (LENGTH + 1)));
    for (int c = 0; c < CELLS; c++) {
      rgm_cell_set(&d->column[1 + c], row, c == cell ? 1.0 : 0.0);
    }
    rgm_cell_set(&d->column[1 + CELLS], row, (double)action);
    rgm_cell_set(&d->column[2 + CELLS], row, 0.0);
    rgm_cell_set(&d->column[3 + CELLS], row, 0.0);
    cell = move((int)cell, action);
  }
  cr_assert_eq(rgm_dataset_write(path, d), RGM_OK, "%s", rgm_last_error());
  rgm_dataset_free(d);
  return path;
}


static void put(rgm_run *run, const char *name, const void *values) {
  const rgm_tensor t = tensor_of(run, name);
  rgm_copy(run->stream, t.data, values, rgm_bytes(t));
  cr_assert_eq(rgm_sync(run->stream), RGM_OK);
}


// b trajectories of a policy that takes every move alike, as a rollout of a true model leaves them
static void put_walks(rgm_run *run, int b, uint64_t *seed) {
  const size_t rows = (size_t)b * LENGTH;
  float *obs = calloc(rows * CELLS, sizeof *obs), *act = calloc(rows, sizeof *act);
  float *log_pi = calloc(rows, sizeof *log_pi), *alive = calloc(rows, sizeof *alive);
  const uint32_t count = (uint32_t)rows;
  for (int j = 0; j < b; j++) {
    int cell = START;
    for (int t = 0; t < LENGTH; t++) {
      const int row = t * b + j;
      act[row] = (float)(int)(world_uniform(seed) * MOVES);
      obs[row * CELLS + cell] = 1.0f;
      log_pi[row] = -logf(MOVES);
      alive[row] = 1.0f;
      cell = move(cell, (int)act[row]);
    }
  }
  put(run, "trajectory/obs", obs);
  put(run, "trajectory/act", act);
  put(run, "trajectory/log_pi", log_pi);
  put(run, "trajectory/alive", alive);
  put(run, "trajectory/count", &count);

  // the clone's density of the same moves
  rgm_omgrl *s = run->self;
  const rgm_agent *agent = &s->imagined.agent;
  float *net = read_tensor(run, "clone/0"), *log_clone = calloc(rows, sizeof *log_clone);
  const rgm_mlp *mlp = &s->clone.net[0];
  double *wide = malloc((size_t)mlp->block.dims[1] * sizeof *wide);
  for (int64_t i = 0; i < mlp->block.dims[1]; i++) {
    wide[i] = (double)net[i];
  }
  for (size_t row = 0; row < rows; row++) {
    double hidden[32], z[MOVES], sum = 0.0;
    const int64_t H = mlp->width[1], P = rgm_padded(H), Q = rgm_padded(MOVES);
    for (int64_t h = 0; h < H; h++) {
      hidden[h] = wide[CELLS * P + h];
      for (int c = 0; c < CELLS; c++) {
        const double x = ((double)obs[row * CELLS + (size_t)c] - (double)agent->problem.mean[c]) /
                         (double)agent->problem.sd[c];
        hidden[h] += x * wide[c * P + h];
      }
      hidden[h] = fmax(hidden[h], 0.0);
    }
    const double *last = wide + (CELLS + 1) * P;
    for (int a = 0; a < MOVES; a++) {
      z[a] = last[H * Q + a];
      for (int64_t h = 0; h < H; h++) {
        z[a] += hidden[h] * last[h * Q + a];
      }
      sum += exp(z[a]);
    }
    log_clone[row] = (float)(z[(int)act[row]] - log(sum));
  }
  put(run, "trajectory/log_clone", log_clone);
  free(obs);
  free(act);
  free(log_pi);
  free(alive);
  free(net);
  free(wide);
  free(log_clone);
}


// Pearson's correlation of the learned reward with the planted one over cells and moves
static double correlation(rgm_run *run, const double *planted) {
  const rgm_omgrl *s = run->self;
  const rgm_problem *p = &s->imagined.agent.problem;
  double *net = parameters_of(run), sum[5] = {0.0};
  batch_of one = {.inputs = CELLS + MOVES,
                  .net = net,
                  .layers = s->reward.net[0].layers,
                  .width = s->reward.net[0].width};
  for (int i = 0; i < CELLS * MOVES; i++) {
    float x[CELLS + MOVES] = {0.0f};
    for (int c = 0; c < CELLS; c++) {
      x[c] = ((c == i / MOVES ? 1.0f : 0.0f) - p->mean[c]) / p->sd[c];
    }
    x[CELLS + i % MOVES] = 1.0f;
    const double a = value_of(&one, x), b = planted[i / MOVES];
    const double terms[] = {a, b, a * a, b * b, a * b};
    for (int k = 0; k < 5; k++) {
      sum[k] += terms[k] / (CELLS * MOVES);
    }
  }
  free(net);
  return (sum[4] - sum[0] * sum[1]) / sqrt((sum[2] - sum[0] * sum[0]) * (sum[3] - sum[1] * sum[1]));
}


// A reward of cells is found again from what is as likely as exp of it. The walks come from a
// policy that knows nothing. Experts are few beside them: they know the time and their clone does
// not, so it errs about their density, and with as many of them as walks 0.7 comes out.
Test(omgrl, finds_a_planted_reward) {
  double reward[CELLS];
  uint64_t seed = 11;
  for (int c = 0; c < CELLS; c++) {
    reward[c] = 2.0 * world_uniform(&seed) - 1.0;
  }
  const char *data = write_grid(reward);
  char text[1024];
  snprintf(text, sizeof text,
           "run: {name: g, steps: 1000}\ndata: {path: %s, validation: 0.1}\n"
           "algorithm: {name: omgrl, dynamics_steps: 0, dynamics_nets: 1, dynamics_elites: 1,\n"
           "  dynamics_hidden: [4], actor_hidden: [16], critic_hidden: [4], batch: 128,\n"
           "  clone_updates: 500, clone_lr: 0.01, weights: trajectory, horizon: %d,\n"
           "  rollouts: 400, reward_steps: 10, reward_experts: 40, reward_samples: 400,\n"
           "  reward_hidden: [32], reward_decay: 0.001, reward_lr: 0.001,\n"
           "  watched: 0}\n",
           data, LENGTH);
  rgm_run *run = make_model(text);
  steps_of(run, 500);
  float *zero = calloc((size_t)rgm_elements(tensor_of(run, "actor/0")), sizeof *zero);
  put(run, "actor/0", zero); // every move alike, which the mixture asks the actor for
  free(zero);
  for (int i = 0; i < 40; i++) {
    put_walks(run, 400, &seed);
    rgm_omgrl_guide(run, run->stream);
    rgm_advance(run->stream, run->clock, run->active);
  }
  const double found = correlation(run, reward);
  cr_expect_gt(found, 0.9, "correlation %g", found);
  if (getenv("OMGRL_TABLE") != NULL) {
    printf("grid correlation %.3f\n", found);
  }
  cr_expect_eq(rgm_guard(run), RGM_OK, "%s", rgm_last_error());
  rgm_run_free(run);
}


// ---- what weights are worth --------------------------------------------------------------------

enum { TRIES = 30, PATHS = 100, STEPS = 20, CHOICES = 6 };

// a step's reward, and log probability of the action drawn from logits of this spread
static void draw_step(uint64_t *seed, double logit_sd, double reward_sd, float *reward,
                      float *log_pi) {
  double p[CHOICES], sum = 0.0, left = world_uniform(seed);
  int a = 0;
  for (int k = 0; k < CHOICES; k++) {
    p[k] = exp(logit_sd * world_normal(seed));
    sum += p[k];
  }
  left *= sum;
  while (a < CHOICES - 1 && (left -= p[a]) > 0.0) {
    a++;
  }
  *log_pi = (float)log(p[a] / sum);
  *reward = (float)(reward_sd * world_normal(seed));
}


// Share of samples that weights are worth, mean over tries; one expert of no weight stands first.
static double worth_of(rgm_stream *s, rgm_weighing weighing, bool by_step, double logit_sd,
                       double reward_sd) {
  enum { ROWS = (PATHS + 1) * STEPS };
  static float reward[ROWS * 16], policy[ROWS], alive[ROWS], slope[ROWS * 16], weight[ROWS];
  static float total[ROWS];
  const int64_t T = by_step ? 1 : STEPS, M = PATHS + 1, N = M * T;
  float loss, sample, bend = weighing == RGM_WEIGH_TEMPERED ? 0.1f : 10.0f;
  uint32_t active = 1;
  uint64_t seed = 3;
  double mean = 0.0;
  for (int i = 0; i < TRIES; i++) {
    for (int64_t row = 0; row < N; row++) {
      draw_step(&seed, logit_sd, reward_sd, &reward[row * 16], &policy[row]);
      reward[row * 16] = row < T ? -20.0f : reward[row * 16];
      alive[row] = 1.0f;
    }
    const rgm_guide guide = {
        .slope = rgm_view(slope, RGM_F32, 1, N, 16, 0),
        .loss = rgm_view(&loss, RGM_F32, 1, 0, 0, 0),
        .sample = rgm_view(&sample, RGM_F32, 1, 0, 0, 0),
        .total = rgm_view(total, RGM_F32, 1, M, 0, 0),
        .weight = rgm_view(weight, RGM_F32, 1, weighing == RGM_WEIGH_PREFIX ? T : 1, M, 0),
        .reward = rgm_view(reward, RGM_F32, 1, N, 16, 0),
        .log_policy = rgm_view(policy, RGM_F32, 1, N, 0, 0),
        .alive = rgm_view(alive, RGM_F32, 1, N, 0, 0),
        .bend = rgm_view(&bend, RGM_F32, 1, 0, 0, 0),
        .active = rgm_view(&active, RGM_U32, 1, 0, 0, 0),
        .steps = T,
        .experts = 1,
        .weighing = weighing,
    };
    rgm_guide_reward(s, &guide);
    cr_assert_eq(rgm_sync(s), RGM_OK);
    cr_assert(isfinite(loss) && isfinite(sample));
    mean += (double)sample * (double)M / (double)(M - 1) / TRIES;
  }
  return mean;
}


// M = 100 trajectories of 20 steps among 6 actions, or as many rows. Asked: a simulation of the
// same by another program, in double, of few tries: hence the allowance.
Test(omgrl, weights_are_worth_what_a_simulation_says) {
  static const double spreads[][2] = {{0.0, 0.3}, {0.0, 1.0}, {1.0, 0.3}, {2.0, 1.0}};
  static const double trajectory[] = {0.25, 0.027, 0.038, 0.020};
  static const double step[] = {0.92, 0.43, 0.46, 0.16};
  rgm_stream *s = NULL;
  char note[256];
  const rgm_device_options options = {.threads = 1, .isa = "auto"};
  cr_assert_eq(rgm_open("cpu", &options, &s, note, sizeof note), RGM_OK);
  for (int i = 0; i < 4; i++) {
    const double sd = spreads[i][0], r = spreads[i][1];
    const double steps = worth_of(s, RGM_WEIGH_TRAJECTORY, true, sd, r);
    const double whole = worth_of(s, RGM_WEIGH_TRAJECTORY, false, sd, r);
    const double prefix = worth_of(s, RGM_WEIGH_PREFIX, false, sd, r);
    const double truncated = worth_of(s, RGM_WEIGH_TRUNCATED, false, sd, r);
    const double tempered = worth_of(s, RGM_WEIGH_TEMPERED, false, sd, r);
    cr_expect(fabs(steps / step[i] - 1.0) < 0.2, "step: %g, asked %g", steps, step[i]);
    cr_expect(fabs(whole / trajectory[i] - 1.0) < 0.3, "trajectory: %g, asked %g", whole,
              trajectory[i]);
    cr_expect(prefix > whole && truncated > whole && tempered > truncated,
              "%g %g %g %g are out of order", whole, prefix, truncated, tempered);
    if (getenv("OMGRL_TABLE") != NULL) {
      printf("ess %g %g %.3f %.3f %.3f %.3f %.3f %.3f %.3f\n", sd, r, step[i], trajectory[i], steps,
             prefix, whole, truncated, tempered);
    }
  }
  rgm_close(s);
}


// ---- bits --------------------------------------------------------------------------------------

static const char *const kinds[] = {
    "weights: step",
    "weights: prefix, proposal: bc, experts: 3, reward_norm: 0.5, clone_patience: 1, clone_look: 1",
    "weights: tempered, encoding: scalar, reward_retain: 2, clone_patience: 2, clone_look: 2, "
    "termination: box, "
    "box_low: [70, -9, -9], box_high: [999, 99, 999]",
    "reward: aptt",
};
enum { KINDS = sizeof kinds / sizeof *kinds };

Test(omgrl, bits_are_the_same_however_computed) {
  // auto would be the module, once it can be found
  static const char *const ways[] = {"backend: cpu, threads: 1", "backend: cpu, threads: 3",
                                     "backend: cpu, isa: avx2", "backend: cuda"};
  const char *data = write_world("world.h5", 12, 3);
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  for (int kind = 0; kind < KINDS; kind++) {
    char first[65], hex[65];
    for (int i = 0; i < 4; i++) {
      char run[64];
      snprintf(run, sizeof run, "replicas: 2, %s", ways[i]);
      rgm_run *made = make_model(config_of(data, run, kinds[kind]));
      steps_of(made, 5);
      state_digest(made, i == 0 ? first : hex);
      rgm_run_free(made);
      if (i > 0) {
        cr_expect_str_eq(hex, first, "%s: %s", kinds[kind], ways[i]);
      }
    }
  }
}


Test(omgrl, replica_of_a_pack_is_the_run_alone) {
  const char *data = write_world("world.h5", 12, 3);
  for (int kind = 0; kind < KINDS; kind++) {
    rgm_run *pack = make_model(config_of(data, "replicas: 3, seed: 4", kinds[kind]));
    steps_of(pack, 7);
    for (int64_t r = 0; r < 3; r++) {
      char run[32];
      snprintf(run, sizeof run, "seed: %d", (int)(4 + r));
      rgm_run *alone = make_model(config_of(data, run, kinds[kind]));
      steps_of(alone, 7);
      expect_replica(pack, alone, r);
      rgm_run_free(alone);
    }
    rgm_run_free(pack);
  }
}


// stopped while the clone learns, and between a rollout and the next
Test(omgrl, resumed_is_never_stopped) {
  const char *data = write_world("world.h5", 12, 3);
  for (int at = 2; at <= 5; at += 3) {
    char digest[2][65];
    rgm_run *straight = make_model(config_of(data, "replicas: 2", kinds[2]));
    rgm_run *resumed = make_model(config_of(data, "replicas: 2", kinds[2]));
    rgm_checkpoint *c = NULL, *state = NULL;
    steps_of(straight, at);
    cr_assert_eq(rgm_run_snapshot_pair(straight, false, &c, &state), RGM_OK);
    cr_assert_eq(rgm_run_restore(resumed, c, true), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(rgm_run_restore_state(resumed, state), RGM_OK, "%s", rgm_last_error());
    resumed->step = c->step;
    steps_of(straight, 9 - at);
    steps_of(resumed, 9 - at);
    state_digest(straight, digest[0]);
    state_digest(resumed, digest[1]);
    cr_expect_str_eq(digest[0], digest[1], "stopped after %d steps", at);
    rgm_checkpoint_free(c);
    rgm_checkpoint_free(state);
    rgm_run_free(straight);
    rgm_run_free(resumed);
  }
}


// ---- keys --------------------------------------------------------------------------------------

// A preset is what keys have that nobody set.
Test(omgrl, presets_give_way_to_keys) {
  const char *data = write_world("world.h5", 12, 3);
  char text[512];
  snprintf(text, sizeof text,
           "data: {path: %s, validation: 0.25}\n"
           "algorithm: {name: omgrl, preset: authors-code, tau: 0.2, dynamics_hidden: [5]}\n",
           data);
  rgm_run *run = make_model(text);
  const rgm_omgrl_keys *k = rgm_algorithm_keys(run, 0);
  cr_expect_eq(k->imagined.rollouts, 10);
  cr_expect_eq(k->imagined.agent.batch, 64);
  cr_expect_eq(k->encoding, RGM_OMGRL_SCALAR);
  cr_expect_not(k->standardise);
  cr_expect_eq(k->imagined.agent.tau, 0.2);
  cr_expect_eq(k->imagined.dynamics.hidden.value[0], 5.0);
  rgm_run_free(run);
}


Test(omgrl, refuses_keys_that_do_not_fit) {
  static const struct {
    int choices;
    rgm_status status;
    const char *more, *says;
  } cases[] = {
      {0, RGM_ECONFIG, "push: rho_sample", "onehot is for classes of actions"},
      {3, RGM_ECONFIG, "reward: aptt", "a reward of the state aptt, which"},
      {3, RGM_ECONFIG, "band: [100, 60]", "two ascending values"},
      {3, RGM_ECONFIG, "experts: 1000", "training episodes are long enough"},
      {3, RGM_EDATA, "weights: trajectory, horizon: 21", "no training episode has 21 steps"},
      {3, RGM_ECONFIG, "preset: papre", "preset"},
      {3, RGM_ECONFIG, "push: rho, preset: paper", "push"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    rgm_run *run = NULL;
    char text[1024];
    snprintf(text, sizeof text,
             "run: {backend: cpu}\ndata: {path: %s, validation: 0.25}\n"
             "algorithm: {name: omgrl, %s}\n",
             write_world("world.h5", 12, cases[i].choices), cases[i].more);
    cr_expect_eq(try_model(text, &run), cases[i].status, "%s", cases[i].more);
    cr_expect(strstr(rgm_last_error(), cases[i].says) != NULL, "%s", rgm_last_error());
    rgm_run_free(run);
  }
}
