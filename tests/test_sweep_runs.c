// SPDX-License-Identifier: Apache-2.0
// Sweeps as they run: claims of many workers, tables and progress on disk, and that a trial in
// whatever pack is the bits of the run alone.

#include "tests/cuda_module.h"
#include "tests/sweep_util.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

TestSuite(sweep_runs, .timeout = 300, .init = make_folder, .fini = remove_folder);


// ---- claims ------------------------------------------------------------------------------------

enum { UNITS = 200, RACERS = 6 };

typedef struct race {
  int owners[UNITS]; // how many got it
  int begun, ended;
} race;


// claims all that it can, each racer from another place on, and holds it until all have tried
static void race_on(race *r, int id) {
  rgm_claims c;
  if (rgm_claims_open(&c, folder, 60) != RGM_OK) {
    _exit(1);
  }
  __atomic_add_fetch(&r->begun, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&r->begun, __ATOMIC_SEQ_CST) < RACERS) {
  }
  for (int i = 0; i < UNITS; i++) {
    // in threes from the same place, so that some race for each
    const int64_t unit = (i + (id % 2) * UNITS / 2) % UNITS;
    int generation = -1;
    if (rgm_claim_take(&c, unit, &generation) != RGM_OK || generation > 0) {
      _exit(2);
    }
    if (generation == 0) {
      __atomic_add_fetch(&r->owners[unit], 1, __ATOMIC_SEQ_CST);
    }
  }
  __atomic_add_fetch(&r->ended, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&r->ended, __ATOMIC_SEQ_CST) < RACERS) {
    usleep(1000);
  }
  rgm_claims_close(&c);
  _exit(0);
}


Test(sweep_runs, no_unit_has_two_owners) {
  race *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  cr_assert(r != MAP_FAILED);
  pid_t pid[RACERS];
  for (int i = 0; i < RACERS; i++) {
    pid[i] = fork();
    cr_assert(pid[i] >= 0);
    if (pid[i] == 0) {
      race_on(r, i);
    }
  }
  for (int i = 0; i < RACERS; i++) {
    int status = 0;
    cr_assert(waitpid(pid[i], &status, 0) == pid[i]);
    cr_expect_eq(status, 0, "racer %d: %x", i, (unsigned)status);
  }
  for (int i = 0; i < UNITS; i++) {
    cr_expect_eq(r->owners[i], 1, "unit %d: %d owners", i, r->owners[i]);
  }
}


static void expect_state(int64_t unit, rgm_claim_state state, int generation, const char *when) {
  rgm_claim_view v;
  cr_assert_eq(rgm_claim_look(folder, 60, unit, &v), RGM_OK, "%s", rgm_last_error());
  cr_expect(v.state == state && v.generation == generation, "%s: state %d generation %d", when,
            (int)v.state, v.generation);
}


Test(sweep_runs, claims_pass_on_from_those_who_left_died_or_are_silent) {
  rgm_claims a, b;
  int generation = -1;
  cr_assert_eq(rgm_claims_open(&a, folder, 60), RGM_OK);
  cr_assert_eq(rgm_claims_open(&b, folder, 60), RGM_OK);

  // left: at once
  expect_state(0, RGM_CLAIM_FREE, -1, "before");
  cr_assert(rgm_claim_take(&a, 0, &generation) == RGM_OK && generation == 0);
  rgm_claim_note(&a, 0, "a note, cut where it is long");
  rgm_claim_view v;
  cr_assert_eq(rgm_claim_look(folder, 60, 0, &v), RGM_OK);
  cr_expect(v.pid == (long)getpid() && strcmp(v.note, "a note, cut where it is long") == 0, "%s",
            v.note);
  expect_state(0, RGM_CLAIM_ALIVE, 0, "held");
  cr_expect(rgm_claim_take(&b, 0, &generation) == RGM_OK && generation == -1);
  cr_expect(rgm_claim_held(&a, 0, 0));
  rgm_claim_release(&a, 0);
  expect_state(0, RGM_CLAIM_DEAD, 0, "left");
  cr_expect(rgm_claim_take(&b, 0, &generation) == RGM_OK && generation == 1);
  cr_expect(!rgm_claim_held(&a, 0, 0) && rgm_claim_held(&b, 0, 1));

  // killed: its pid is gone, or a zombie
  const pid_t child = fork();
  if (child == 0) {
    rgm_claims c;
    (void)rgm_claims_open(&c, folder, 60);
    (void)rgm_claim_take(&c, 1, &generation);
    pause();
    _exit(0);
  }
  cr_assert(child > 0);
  for (int i = 0; i < 5000; i++) {
    cr_assert_eq(rgm_claim_look(folder, 60, 1, &v), RGM_OK);
    if (v.state == RGM_CLAIM_ALIVE && v.pid == (long)child) {
      break;
    }
    usleep(1000);
  }
  expect_state(1, RGM_CLAIM_ALIVE, 0, "of a child");
  cr_expect(rgm_claim_take(&b, 1, &generation) == RGM_OK && generation == -1);
  kill(child, SIGKILL);
  siginfo_t info;
  cr_assert_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
  expect_state(1, RGM_CLAIM_DEAD, 0, "a zombie");
  cr_assert_eq(waitpid(child, NULL, 0), child);
  expect_state(1, RGM_CLAIM_DEAD, 0, "killed");
  cr_expect(rgm_claim_take(&b, 1, &generation) == RGM_OK && generation == 1);

  // silent: as of another machine, the last sign of life a lease ago
  char path[600];
  snprintf(path, sizeof path, "%s/claim-000002.0", folder);
  cr_assert(rgm_claim_take(&a, 2, &generation) == RGM_OK && generation == 0);
  struct stat file;
  cr_assert_eq(stat(path, &file), 0);
  file.st_mtim.tv_sec -= 50;
  const struct timespec times[2] = {file.st_mtim, file.st_mtim};
  cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
  expect_state(2, RGM_CLAIM_ALIVE, 0, "50 s of 60");
  file.st_mtim.tv_sec -= 11;
  const struct timespec older[2] = {file.st_mtim, file.st_mtim};
  cr_assert_eq(utimensat(AT_FDCWD, path, older, 0), 0);
  expect_state(2, RGM_CLAIM_DEAD, 0, "61 s of 60");
  cr_expect(rgm_claim_held(&a, 2, 0));
  cr_expect(rgm_claim_take(&b, 2, &generation) == RGM_OK && generation == 1);
  cr_expect(!rgm_claim_held(&a, 2, 0) && rgm_claim_held(&b, 2, 1));
  rgm_claim_release(&a, 2); // of what is lost: harms nobody
  expect_state(2, RGM_CLAIM_ALIVE, 1, "taken over");
  rgm_claims_close(&a);
  rgm_claims_close(&b);
  expect_state(2, RGM_CLAIM_DEAD, 1, "closed");
}


Test(sweep_runs, signs_of_life_keep_a_claim) {
  rgm_claims a, b;
  int generation = -1;
  cr_assert_eq(rgm_claims_open(&a, folder, 0.4), RGM_OK);
  cr_assert_eq(rgm_claims_open(&b, folder, 0.4), RGM_OK);
  cr_assert(rgm_claim_take(&a, 0, &generation) == RGM_OK && generation == 0);
  for (int i = 0; i < 20; i++) {
    usleep(60000);
    cr_assert(rgm_claim_take(&b, 0, &generation) == RGM_OK && generation == -1, "at %d", i);
  }
  rgm_claims_close(&a);
  rgm_claims_close(&b);
}


// ---- tables and progress -----------------------------------------------------------------------

#define PBT                                                                        \
  "  scheduler: pbt\n  trials: 5\n  seeds: 2\n  algorithm.evaluate: [last, ema]\n" \
  "  algorithm.ema: {min: 0.1, max: 0.5, when: {algorithm.evaluate: ema}}\n"
#define HALVING                                     \
  "  scheduler: halving\n  trials: 5\n  seeds: 2\n" \
  "  algorithm.lr: {min: 0.01, max: 1}\n  algorithm.hidden: [16, 32]\n"

// a bracket as it may stand: every status, some with states
static rgm_bracket *make_bracket(rgm_sweep *s, int generation) {
  static const rgm_trial_status status[] = {RGM_TRIAL_READY, RGM_TRIAL_RESTING, RGM_TRIAL_STOPPED,
                                            RGM_TRIAL_FAILED, RGM_TRIAL_DONE};
  rgm_bracket *b = NULL;
  cr_assert_eq(rgm_bracket_blank(s, 0, &b), RGM_OK);
  b->generation = generation;
  for (int i = 0; i < b->count; i++) {
    rgm_entrant *e = &b->trials[i];
    e->status = status[i];
    e->rung = i == 4 ? s->rungs - 1 : i % 3;
    e->step = (uint64_t)(i + 10 * generation);
    e->parent = i - 1;
    e->draws = 4000000000u + (uint32_t)i;
    for (int k = 0; k < 2 * (e->rung + 1); k++) {
      e->scores[k] = k == 1 ? NAN : -1.0f / (float)(i + k + 3);
    }
    if (i == 1 || i == 4) {
      snprintf(e->digest, sizeof e->digest, "%064d", i);
    }
    if (i < 2 || i == 4) {
      cr_assert_eq(rgm_entrant_prepare(s, e), RGM_OK, "%s", rgm_last_error());
      e->state = make_state(s, (float)(i + 100 * generation));
    }
  }
  return b;
}


static char *table_of(const rgm_sweep *s, const rgm_bracket *b) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  cr_assert_eq(rgm_bracket_write_table(s, b, out), RGM_OK);
  cr_assert_eq(fclose(out), 0);
  return text;
}


static rgm_status read_back(const rgm_sweep *s, const char *text, char **again) {
  rgm_bracket *b = NULL;
  cr_assert_eq(rgm_bracket_blank(s, 0, &b), RGM_OK);
  const rgm_status status = rgm_bracket_read_table(s, b, "table", text);
  // what has no tensors here has group -1
  *again = status == RGM_OK ? table_of(s, b) : NULL;
  rgm_bracket_free(s, b);
  return status;
}


// `text` with line `at` left out, twice, or in the place of the next one; or a line put there
static char *edit(const char *text, int at, const char *how) {
  char *out = calloc(1, 3 * strlen(text) + 512), *copy = strdup(text), *held = NULL;
  int number = 0;
  for (char *line = strtok(copy, "\n"); line != NULL; line = strtok(NULL, "\n"), number++) {
    const bool here = number == at;
    if (here && strcmp(how, "drop") == 0) {
      continue;
    }
    if (here && strcmp(how, "swap") == 0) {
      held = line;
      continue;
    }
    const bool put = here && strcmp(how, "twice") != 0;
    sprintf(out + strlen(out), "%s\n", put ? how : line);
    if ((here && strcmp(how, "twice") == 0) || held != NULL) {
      sprintf(out + strlen(out), "%s\n", held != NULL ? held : line);
      held = NULL;
    }
  }
  free(copy);
  return out;
}


Test(sweep_runs, tables_come_back_and_changed_ones_are_refused) {
  static const char *const keys[] = {PBT, HALVING};
  static const char *const lines[] = {"",
                                      "trial",
                                      "trial 0",
                                      "trial 9 ready 0 0 -1 0 - -1",
                                      "trial -1 ready 0 0 -1 0 - -1",
                                      "trial 99999999999999999999 ready 0 0 -1 0 - -1",
                                      "trial -9223372036854775808 ready 0 0 -1 0 - -1",
                                      "trial 0 reedy 0 0 -1 0 - -1",
                                      "trial 0 ready 4 0 -1 0 - -1",
                                      "trial 0 ready -1 0 -1 0 - -1",
                                      "trial 0 ready 0 0 -1 0 -",
                                      "value 0 9 0.3",
                                      "value 0 -1 0.3",
                                      "value 0 0",
                                      "score 0 0 1",
                                      "score 0 0 1 2 3",
                                      "score 0 0 1 x",
                                      "score 0 4 1 2",
                                      "score 0 -1 1 2",
                                      "score 0 99999999999 1 2",
                                      "other 0 0 1",
                                      "drop",
                                      "swap",
                                      "twice"};
  for (size_t i = 0; i < 2; i++) {
    rgm_sweep *s = make_sweep(keys[i], 4);
    rgm_bracket *b = make_bracket(s, 0);
    for (int k = 0; k < b->count; k++) {
      rgm_checkpoint_free(b->trials[k].state);
      b->trials[k].state = NULL;
    }
    char *text = table_of(s, b), *again = NULL;
    cr_assert_eq(read_back(s, text, &again), RGM_OK, "%s", rgm_last_error());
    cr_expect_str_eq(text, again);
    free(again);

    // line by line
    int count = 0;
    for (const char *c = text; *c != '\0'; c++) {
      count += *c == '\n';
    }
    for (int at = 0; at < count; at++) {
      for (size_t k = 0; k < sizeof lines / sizeof *lines; k++) {
        const bool last = at == count - 1 && strcmp(lines[k], "swap") == 0;
        char *changed = edit(text, at, lines[k]);
        // values of pbt in another order, or one of them less, say the same or a condition's end
        if (!last && !(i == 0 && strstr(changed, "value") != NULL && k >= 21)) {
          cr_expect_eq(read_back(s, changed, &again), RGM_EDATA, "accepted, line %d \"%s\":\n%s",
                       at, lines[k], changed);
          free(again);
        }
        free(changed);
      }
    }

    // bytes at random: no crash, and what is accepted is whole
    uint64_t state = 5;
    int accepted = 0;
    for (int k = 0; k < 5000; k++) {
      char *changed = strdup(text);
      const size_t size = strlen(text);
      for (int n = 1 + (int)(draw(&state) % 3); n > 0; n--) {
        changed[draw(&state) % size] =
            (char)(draw(&state) % 3 == 0 ? draw(&state) % 127 + 1 : '0' + draw(&state) % 10);
      }
      accepted += read_back(s, changed, &again) == RGM_OK;
      free(again);
      free(changed);
    }
    cr_expect(accepted > 50 && accepted < 4500, "%d", accepted);
    free(text);
    rgm_bracket_free(s, b);
    free_sweep(s);
  }
}


static void damage(const char *name, long at) {
  char path[600];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "r+b");
  cr_assert(file != NULL && fseek(file, at, SEEK_SET) == 0);
  const int byte = fgetc(file);
  cr_assert(fseek(file, at, SEEK_SET) == 0 && fputc(byte ^ 1, file) != EOF && fclose(file) == 0);
}


static void expect_restored(rgm_sweep *s, const rgm_bracket *from, const char *when) {
  rgm_bracket *b = NULL;
  bool found = false;
  cr_assert_eq(rgm_bracket_blank(s, 0, &b), RGM_OK);
  b->generation = 5;
  cr_assert_eq(rgm_bracket_restore(s, b, &found), RGM_OK, "%s: %s", when, rgm_last_error());
  cr_assert(found, "%s", when);
  char *expected = table_of(s, from), *got = table_of(s, b);
  cr_expect_str_eq(expected, got, "%s", when);
  for (int i = 0; i < b->count; i++) {
    const rgm_checkpoint *x = from->trials[i].state, *y = b->trials[i].state;
    cr_assert_eq(x != NULL, y != NULL, "%s: trial %d", when, i);
    if (x != NULL) {
      cr_expect(y->record_count == 1 && strcmp(y->records[0].name, x->records[0].name) == 0 &&
                    y->records[0].dims[0] == 2 && y->records[0].dims[1] == 3,
                "%s: trial %d", when, i);
      cr_expect_eq(memcmp(x->records[0].data, y->records[0].data, 6 * sizeof(float)), 0,
                   "%s: trial %d", when, i);
    }
  }
  free(expected);
  free(got);
  rgm_bracket_free(s, b);
}


Test(sweep_runs, progress_falls_back_and_another_sweeps_is_refused) {
  static const char *const keys[] = {PBT, HALVING};
  for (size_t i = 0; i < 2; i++) {
    rgm_sweep *s = make_sweep(keys[i], 4);
    rgm_bracket *old = make_bracket(s, 0), *new = make_bracket(s, 2), *b = NULL;
    bool found = true;
    cr_assert_eq(rgm_bracket_blank(s, 0, &b), RGM_OK);
    cr_assert(rgm_bracket_restore(s, b, &found) == RGM_OK && !found);
    cr_assert_eq(rgm_bracket_save(s, old), RGM_OK, "%s", rgm_last_error());
    expect_restored(s, old, "the only one");
    cr_assert_eq(rgm_bracket_save(s, new), RGM_OK, "%s", rgm_last_error());
    expect_restored(s, new, "the newer one");
    damage("progress-000000.2.h5", 3000);
    expect_restored(s, old, "the newer one damaged");

    // of another sweep; then all damaged: from the start
    char digest[65];
    snprintf(digest, sizeof digest, "%s", s->space->digest);
    s->space->digest[0] ^= 1;
    cr_expect_eq(rgm_bracket_restore(s, b, &found), RGM_EDATA);
    cr_expect(strstr(rgm_last_error(), "progress of another sweep") != NULL, "%s",
              rgm_last_error());
    snprintf(s->space->digest, sizeof s->space->digest, "%s", digest);
    damage("progress-000000.0.h5", 3000);
    cr_expect(rgm_bracket_restore(s, b, &found) == RGM_OK && !found, "%s", rgm_last_error());
    char command[600];
    snprintf(command, sizeof command, "rm -f '%s'/progress-*", folder);
    cr_assert_eq(system(command), 0);
    rgm_bracket_free(s, old);
    rgm_bracket_free(s, new);
    rgm_bracket_free(s, b);
    free_sweep(s);
  }
}


// ---- runs --------------------------------------------------------------------------------------

static const char *read_file(const char *name) {
  static char text[8][1 << 16];
  static int turn;
  char path[600];
  char *out = text[turn = (turn + 1) % 8];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  cr_assert_not_null(file, "%s", path);
  out[fread(out, 1, sizeof text[0] - 1, file)] = '\0';
  fclose(file);
  return out;
}


// the sweep with so many replicas in a pack: its results.csv
static const char *results(const char *pack, const char *const *more) {
  char name[64], set[64];
  const char *sets[8] = {set};
  static int runs;
  for (int i = 0; more != NULL && more[i] != NULL; i++) {
    sets[i + 1] = more[i];
  }
  snprintf(name, sizeof name, "out%d", runs++);
  snprintf(set, sizeof set, "sweep.pack=%s", pack);
  cr_assert_eq(run_sweep(name, sets), RGM_OK, "%s: %s", pack, rgm_last_error());
  snprintf(name + strlen(name), 32, "/results.csv");
  return read_file(name);
}


// Steps a run alone and compares digests: a row "index,seed,status,step,score,KEY,KEY,digest,..."
// of its first seed. Returns false where the trial has no digest.
static bool check_alone(const char *base, const char *const keys[2], const char *row, int seeds,
                        char *cell[16]) {
  static char text[1024];
  char first[80], second[80], replicas[80];
  int count = 0;
  snprintf(text, sizeof text, "%.*s", (int)strcspn(row, "\n"), row);
  for (char *at = text; at != NULL && count < 16;) {
    cell[count++] = strsep(&at, ",");
  }
  cr_assert(count > 7, "%s", row);
  if (cell[7][0] == '\0') {
    return false;
  }
  snprintf(first, sizeof first, "%s=%s", keys[0], cell[5]);
  snprintf(second, sizeof second, "%s=%s", keys[1], cell[6]);
  snprintf(replicas, sizeof replicas, "run.replicas=%d", seeds);
  const char *sets[] = {first, second, replicas};
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  rgm_checkpoint *c = NULL, *state = NULL;
  cr_assert_eq(rgm_config_parse("alone", base, sets, 3, &config), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_run_create(config, &run), RGM_OK, "%s", rgm_last_error());
  for (uint64_t i = strtoull(cell[3], NULL, 10); i > 0; i--) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK);
    run->step++;
  }
  cr_assert_eq(rgm_run_snapshot_pair(run, true, &c, &state), RGM_OK);
  cr_expect(strncmp(rgm_checkpoint_attribute(c, "digest"), cell[7], 16) == 0, "%s alone: %s", row,
            rgm_checkpoint_attribute(c, "digest"));
  rgm_checkpoint_free(c);
  rgm_run_free(run);
  return true;
}


#define SPACE                                      \
  SWEEP "  trials: 11\n  seeds: 3\n  bracket: 4\n" \
        "  algorithm.lr: {min: 0.001, max: 1, log: true}\n  algorithm.hidden: [16, 32]\n"

static const char *const space_keys[] = {"algorithm.lr", "algorithm.hidden"};

Test(sweep_runs, trials_in_whatever_pack_are_the_run_alone) {
  static const char *const rows[] = {"", "  scheduler: halving\n  first: 3\n  reduction: 2\n"};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char text[1024], *cell[16];
    snprintf(text, sizeof text, SPACE "%s", rows[i]);
    write_file("a.yaml", text);
    const char *whole = results("auto", NULL);
    int count = 0, short_of_end = 0, groups[2] = {0};
    for (const char *row = strchr(whole, '\n') + 1; *row != '\0'; row = strchr(row, '\n') + 1) {
      if (count++ % 3 == 0) {
        cr_assert(check_alone(BASE, space_keys, row, 3, cell), "%s", row);
        cr_expect_eq(strtol(cell[0], NULL, 10), count / 3);
        short_of_end += strcmp(cell[2], "stopped") == 0;
        groups[strcmp(cell[6], "32") == 0]++;
      }
    }
    cr_expect_eq(count, 33);
    cr_expect(groups[0] > 2 && groups[1] > 2, "%d %d", groups[0], groups[1]);
    // of 4, 4 and 3: 2, 2 and 1 go on from 3 to 6 steps, then one each to 12
    cr_expect_eq(short_of_end, i == 0 ? 0 : 8, "%d", short_of_end);
    cr_expect_str_eq(results("1", NULL), whole);
    cr_expect_str_eq(results("3", NULL), whole);
    cr_expect_str_eq(results("7", NULL), whole);
    cr_expect_str_eq(results("auto", (const char *const[]){"run.threads=2", NULL}), whole);
  }
}


// What an agent does depends on its step: first it acts at random, and before a report it looks at
// its losses. Trials of two brackets are at different ones when they could be packed.
Test(sweep_runs, phases_of_a_trial_are_those_of_the_run_alone) {
#define AGENT                                                             \
  "run: {name: s, steps: 9, threads: 1, backend: cpu, report_every: 4}\n" \
  "env: {name: pendulum, steps: 6}\n"                                     \
  "algorithm: {name: sac, start: 4, batch: 5, actor_hidden: [9], critic_hidden: [7]}\n"
  static const char *const keys[] = {"algorithm.actor_lr", "algorithm.critic_lr"};
  char *cell[16];
  int count = 0, short_of_end = 0;
  write_file("a.yaml", AGENT "sweep:\n  trials: 9\n  seeds: 2\n  bracket: 4\n"
                             "  metric: critic_loss\n  mode: min\n"
                             "  scheduler: halving\n  first: 3\n  reduction: 2\n"
                             "  algorithm.actor_lr: {min: 0.001, max: 0.1, log: true}\n"
                             "  algorithm.critic_lr: {min: 0.001, max: 0.1, log: true}\n");
  const char *whole = results("auto", NULL);
  for (const char *row = strchr(whole, '\n') + 1; *row != '\0'; row = strchr(row, '\n') + 1) {
    if (count++ % 2 == 0) {
      cr_expect(check_alone(AGENT, keys, row, 2, cell), "%s", row);
      cr_expect(cell[3][0] == '3' || strtod(cell[4], NULL) > 0.0, "nobody looked: %s", row);
      short_of_end += strcmp(cell[2], "stopped") == 0;
    }
  }
  cr_expect_eq(count, 18);
  cr_expect(short_of_end > 2, "%d", short_of_end);
  cr_expect_str_eq(results("2", NULL), whole);
  cr_expect_str_eq(results("6", NULL), whole);
}


// Packs come and go on one stream, whose graphs must go with them.
Test(sweep_runs, packs_on_cuda_are_the_cpus) {
  static const char *const cpu[] = {"run.steps=6", "run.backend=cpu", NULL};
  static const char *const cuda[] = {"run.steps=6", "run.backend=cuda", NULL};
  write_file("a.yaml", SPACE "  scheduler: halving\n  first: 2\n  reduction: 2\n");
  setenv("RGM_CUDA_MODULE", cuda_module(), 1);
  const char *whole = results("auto", cpu);
  cr_expect_str_eq(results("auto", cuda), whole);
  cr_expect_str_eq(results("4", cuda), whole);
}


Test(sweep_runs, pbt_is_the_same_in_whatever_pack) {
  write_file("a.yaml", SWEEP "  scheduler: pbt\n  first: 2\n  trials: 9\n  bracket: 5\n"
                             "  seeds: 2\n  quantile: 0.4\n"
                             "  algorithm.lr: {min: 0.001, max: 1, log: true}\n"
                             "  algorithm.evaluate: [last, ema]\n"
                             "  algorithm.ema: {min: 0.1, max: 0.5, when: "
                             "{algorithm.evaluate: ema}}\n");
  const char *whole = results("auto", NULL);
  int heirs = 0, rows = 0;
  for (const char *row = strchr(whole, '\n') + 1; *row != '\0'; row = strchr(row, '\n') + 1) {
    char text[512], *at = text, *cell = NULL;
    snprintf(text, sizeof text, "%.*s", (int)strcspn(row, "\n"), row);
    for (int i = 0; i <= 8; i++) {
      cell = strsep(&at, ",");
    }
    heirs += strcmp(cell, "-1") != 0;
    rows++;
  }
  cr_expect(rows == 18 && heirs >= 6, "%d of %d\n%s", heirs, rows, whole);
  cr_expect_str_eq(results("1", NULL), whole);
  cr_expect_str_eq(results("6", NULL), whole);
}


// Adam without a floor under its root divides by zero: tensors of that trial are not finite
Test(sweep_runs, a_failed_trial_fails_alone) {
  static const char *const all = "sweep.algorithm.eps=[1e-8, 1e-30, 1e-6]";
  static const char *const good = "sweep.algorithm.eps=[1e-8, 1e-6]";
  char *cell[16], rows[6][1024] = {""};
  write_file("a.yaml", BASE "sweep: {seeds: 2}\n");
  const char *const more[] = {"algorithm.beta2=0", "run.steps=30", all, NULL};
  const char *const less[] = {"algorithm.beta2=0", "run.steps=30", good, NULL};
  const char *table = results("auto", more), *other = results("auto", less);
  cr_expect_str_eq(results("2", more), table);
  int count = 0, failed = 0;
  for (const char *row = strchr(table, '\n') + 1; *row != '\0'; row = strchr(row, '\n') + 1) {
    char text[1024], *at = text;
    cr_assert(count < 6);
    snprintf(rows[count], sizeof rows[count], "%.1000s", row);
    rows[count][strcspn(rows[count], "\n")] = '\0';
    snprintf(text, sizeof text, "%.1000s", rows[count]);
    for (int i = 0; i < 7; i++) {
      cell[i] = strsep(&at, ",");
    }
    const bool bad = count == 2 || count == 3;
    cr_expect_str_eq(cell[2], bad ? "failed" : "done", "%s", rows[count]);
    cr_expect_eq(cell[6][0] == '\0', bad, "digest \"%s\"", cell[6]);
    failed += bad;
    count++;
  }
  cr_expect(count == 6 && failed == 2, "%s", table);

  // without it the others are what they were, but for their number
  const int kept[] = {0, 1, 4, 5};
  int k = 0;
  for (const char *row = strchr(other, '\n') + 1; *row != '\0'; row = strchr(row, '\n') + 1, k++) {
    char text[1024];
    snprintf(text, sizeof text, "%.1000s", row);
    text[strcspn(text, "\n")] = '\0';
    cr_assert(k < 4);
    cr_expect_str_eq(strchr(text, ','), strchr(rows[kept[k]], ','));
  }
  cr_expect_eq(k, 4);

  // one that came to a rung before: the digest of then is not that of its tensors now
  const char *const late[] = {"algorithm.beta2=0",
                              "run.steps=30",
                              "sweep.scheduler=halving",
                              "sweep.first=2",
                              "sweep.algorithm.eps=[1e-30, 1e-30, 1e-30, 1e-30]",
                              NULL};
  failed = 0;
  table = results("auto", late);
  for (const char *row = strchr(table, '\n') + 1; *row != '\0'; row = strchr(row, '\n') + 1) {
    if (strncmp(row + 4, "failed", 6) == 0) {
      cr_expect(strstr(row, ",1e-30,,") != NULL, "%s", row);
      failed += strncmp(row + 4, "failed,2,", 9) != 0;
    }
  }
  cr_expect(failed > 0, "%s", table);
}
