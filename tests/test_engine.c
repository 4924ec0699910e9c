// SPDX-License-Identifier: Apache-2.0
// The engine as a whole: the planned arena, packs of replicas, resuming, bits across threads and
// instruction sets, guards, early stopping, metrics and tables.

#include "engine/engine.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TestSuite(engine, .timeout = 120);

// odd sizes on purpose: 19 episodes of 301 steps, 37 hidden units
static const char small[] = "run: {steps: 6, seed: 11}\n"
                            "env: {name: propofol, steps: 301}\n"
                            "algorithm: {name: cem, episodes: 19, hidden: 37}\n";


static rgm_run *make_run(const char *text, int count, const char *const *sets) {
  rgm_config *config = NULL;
  rgm_run *run = NULL;
  cr_assert_eq(rgm_config_parse("test", text, sets, count, &config), RGM_OK, "%s",
               rgm_last_error());
  cr_assert_eq(rgm_run_create(config, &run), RGM_OK, "%s", rgm_last_error());
  return run;
}


static void steps(rgm_run *run, int count) {
  for (int i = 0; i < count; i++) {
    cr_assert_eq(run->algorithm->step(run), RGM_OK);
    run->step++;
  }
  cr_assert_eq(rgm_arena_check(run->arena), RGM_OK, "%s", rgm_last_error());
}


static rgm_checkpoint *snapshot(rgm_run *run) {
  rgm_checkpoint *c = NULL;
  cr_assert_eq(rgm_run_snapshot(run, &c), RGM_OK, "%s", rgm_last_error());
  return c;
}


static size_t replica_bytes(const rgm_record *record) {
  size_t bytes = rgm_dtype_size(record->dtype);
  for (int i = 1; i < record->rank; i++) {
    bytes *= (size_t)record->dims[i];
  }
  return bytes;
}


// every record of `alone` (one replica) equals replica r of `pack`; returns how many were compared
static int compare_replica(const rgm_checkpoint *pack, const rgm_checkpoint *alone, int64_t r) {
  int count = 0;
  for (int i = 0; i < alone->record_count; i++) {
    const rgm_record *b = &alone->records[i], *a = rgm_checkpoint_record(pack, b->name);
    cr_assert_not_null(a);
    const size_t bytes = replica_bytes(b);
    cr_assert_eq(bytes, replica_bytes(a));
    cr_assert(memcmp((const uint8_t *)a->data + (size_t)r * bytes, b->data, bytes) == 0,
              "%s of replica %d differs from the run alone", b->name, (int)r);
    count++;
  }
  return count;
}


static void digest_of(rgm_run *run, char hex[65]) {
  rgm_checkpoint *c = snapshot(run);
  rgm_checkpoint_digest(c, hex);
  rgm_checkpoint_free(c);
}


Test(engine, arena_plans_twice_and_seals) {
  rgm_stream *stream = NULL;
  rgm_arena *arena = NULL;
  char note[512];
  const rgm_device_options options = {1, "auto", 0};
  cr_assert_eq(rgm_open("cpu", &options, &stream, note, sizeof note), RGM_OK);
  cr_assert_eq(rgm_arena_create(stream, &arena), RGM_OK);
  rgm_tensor a = {0}, b = {0};
  rgm_mlp net = {0};
  const int64_t width[] = {3, 20, 2};
  for (int pass = 0; pass < 2; pass++) {
    a = rgm_plan(arena, "a", RGM_F32, RGM_STATE, "replica, x", "mg", 3, 5, 0, 0);
    net = rgm_plan_mlp(arena, "net", 3, 2, width, RGM_STATE);
    b = rgm_plan(arena, "b", RGM_U8, RGM_STATE, "x", "", 7, 0, 0, 0);
    cr_assert_eq(a.data == NULL, pass == 0);
    cr_assert_eq((pass == 0 ? rgm_arena_bind : rgm_arena_seal)(arena), RGM_OK);
  }
  // 3 x 32 + 32 and 32 x 16 + 16 floats, aligned, zero, layer by layer
  cr_assert_eq(net.block.stride0, 3 * 32 + 32 + 32 * 16 + 16);
  cr_assert_eq((float *)net.bias[0].data - (float *)net.weight[0].data, 96);
  cr_assert_eq((float *)net.weight[1].data - (float *)net.weight[0].data, 128);
  cr_assert_eq(net.weight[1].dims[1], 32);
  for (int i = 0; i < rgm_arena_count(arena); i++) {
    const rgm_entry *e = rgm_arena_entry(arena, i);
    cr_assert(e->parent >= 0 || (uintptr_t)e->tensor.data % 64 == 0);
  }
  for (int64_t i = 0; i < rgm_elements(net.block); i++) {
    cr_assert_eq(((float *)net.block.data)[i], 0.0f);
  }
  cr_assert_eq(((uint8_t *)b.data)[6], 0);
  cr_assert_eq(rgm_arena_check(arena), RGM_OK);
#ifdef RGM_DEBUG
  // a write past the end is found, and the tensor is named
  ((uint8_t *)a.data)[64] ^= 1;
  cr_assert_eq(rgm_arena_check(arena), RGM_EINTERNAL);
  cr_assert(strstr(rgm_last_error(), "tensor a") != NULL);
#endif
  rgm_arena_free(arena);
  rgm_close(stream);
}


// every replica, at a step of its own, as the run alone there
Test(engine, replica_of_a_pack_equals_the_run_alone) {
  static const char *const pack_sets[] = {"run.replicas=5", "run.threads=2"};
  rgm_run *pack = make_run(small, 2, pack_sets);
  for (uint32_t r = 0; r < 5; r++) {
    ((uint32_t *)pack->clock.data)[r] = r * r;
  }
  steps(pack, 6);
  rgm_checkpoint *whole = snapshot(pack);
  for (int r = 0; r < 5; r++) {
    char seed[32];
    snprintf(seed, sizeof seed, "run.seed=%d", 11 + r);
    const char *const sets[] = {seed, "run.threads=1"};
    rgm_run *run = make_run(small, 2, sets);
    ((uint32_t *)run->clock.data)[0] = (uint32_t)(r * r);
    steps(run, 6);
    rgm_checkpoint *alone = snapshot(run);
    cr_assert_geq(compare_replica(whole, alone, r), 10);
    rgm_checkpoint_free(alone);
    rgm_run_free(run);
  }
  // different seeds do differ
  const rgm_record *weight = rgm_checkpoint_record(whole, "policy/0/weight");
  const size_t bytes = replica_bytes(weight);
  cr_assert(memcmp(weight->data, (uint8_t *)weight->data + bytes, bytes) != 0);
  rgm_checkpoint_free(whole);
  rgm_run_free(pack);
}


Test(engine, bits_do_not_depend_on_threads_or_isa) {
  char first[65] = "", hex[65];
  for (const char *const *isa = rgm_cpu_isas(); *isa != NULL; isa++) {
    for (int threads = 1; threads <= 5; threads += 2) {
      char a[64], b[64];
      snprintf(a, sizeof a, "run.isa=%s", *isa);
      snprintf(b, sizeof b, "run.threads=%d", threads);
      const char *const sets[] = {a, b, "run.replicas=3"};
      rgm_run *run = make_run(small, 3, sets);
      steps(run, 4);
      digest_of(run, hex);
      rgm_run_free(run);
      if (first[0] == '\0') {
        memcpy(first, hex, sizeof hex);
      }
      cr_assert_str_eq(hex, first, "%s with %d threads", *isa, threads);
    }
  }
}


Test(engine, restored_run_goes_on_as_if_never_stopped) {
  static const char *const sets[] = {"run.replicas=3"};
  static const char *const optimizers[] = {"algorithm.optimizer=adam", "algorithm.optimizer=sgd"};
  for (int k = 0; k < 2; k++) {
    char straight[65], resumed[65];
    const char *const both[] = {sets[0], optimizers[k]};
    rgm_run *run = make_run(small, 2, both);
    steps(run, 7);
    digest_of(run, straight);
    rgm_run_free(run);

    run = make_run(small, 2, both);
    steps(run, 3);
    rgm_checkpoint *c = snapshot(run);
    rgm_run_free(run);
    run = make_run(small, 2, both);
    steps(run, 1); // some other state, to be overwritten
    cr_assert_eq(rgm_run_restore(run, c, true), RGM_OK, "%s", rgm_last_error());
    cr_assert_eq(run->step, 3);
    steps(run, 4);
    digest_of(run, resumed);
    cr_assert_str_eq(straight, resumed);
    rgm_checkpoint_free(c);
    rgm_run_free(run);
  }
}


// packs of before every replica had a clock of its own
Test(engine, one_clock_of_an_older_pack_is_every_replicas) {
  static const char *const sets[] = {"run.replicas=3"};
  char straight[65], resumed[65];
  rgm_run *run = make_run(small, 1, sets);
  steps(run, 3);
  rgm_checkpoint *c = snapshot(run);
  steps(run, 2);
  digest_of(run, straight);
  rgm_run_free(run);
  for (int i = 0; i < c->record_count; i++) {
    c->records[i].dims[0] = strcmp(c->records[i].name, "clock") == 0 ? 1 : c->records[i].dims[0];
  }
  cr_assert_eq(rgm_checkpoint_record(c, "clock")->dims[0], 1);
  run = make_run(small, 1, sets);
  cr_assert_eq(rgm_run_restore(run, c, true), RGM_OK, "%s", rgm_last_error());
  steps(run, 2);
  digest_of(run, resumed);
  cr_assert_str_eq(straight, resumed);
  rgm_checkpoint_free(c);
  rgm_run_free(run);
}


Test(engine, restore_refuses_another_run) {
  rgm_run *run = make_run(small, 0, NULL);
  rgm_checkpoint *c = snapshot(run);
  rgm_run_free(run);
  static const struct {
    const char *set, *message;
    rgm_status status;
  } rows[] = {
      {"env.noise_sd=0.02", "noise_sd: 0.02", RGM_ECONFIG},
      {"algorithm.lr=0.5", "lr: 0.5", RGM_ECONFIG},
      {"run.seed=12", "seed 11", RGM_ECONFIG},
      {"run.replicas=2", "run.replicas", RGM_EDATA},
      {"run.threads=1", NULL, RGM_OK},
      {"run.steps=99", NULL, RGM_OK},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    run = make_run(small, 1, &rows[i].set);
    cr_assert_eq(rgm_run_restore(run, c, true), rows[i].status, "%s: %s", rows[i].set,
                 rgm_last_error());
    if (rows[i].message != NULL) {
      cr_assert(strstr(rgm_last_error(), rows[i].message) != NULL, "%s", rgm_last_error());
    }
    rgm_run_free(run);
  }
  rgm_checkpoint_free(c);
}


Test(engine, guard_names_tensor_replica_and_step) {
  static const char *const sets[] = {"run.replicas=3"};
  rgm_run *run = make_run(small, 1, sets);
  steps(run, 2);
  cr_assert_eq(rgm_guard(run), RGM_OK, "%s", rgm_last_error());
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    if (strcmp(e->name, "policy/1/bias") == 0) {
      ((float *)e->tensor.data)[2 * e->tensor.stride0] = NAN;
    }
  }
  cr_assert_eq(rgm_guard(run), RGM_ENUMERIC);
  cr_assert(strstr(rgm_last_error(), "policy/1/bias of replica 2 (seed 13)") != NULL, "%s",
            rgm_last_error());
  cr_assert(strstr(rgm_last_error(), "step 2") != NULL);
  rgm_run_free(run);
}


Test(engine, finished_replicas_keep_their_bits) {
  static const char *const sets[] = {"run.replicas=3", "algorithm.stop_return=-1e30"};
  rgm_run *run = make_run(small, 2, sets);
  steps(run, 1);
  rgm_checkpoint *before = snapshot(run);
  const uint32_t *active = rgm_checkpoint_record(before, "active")->data;
  const uint32_t *clock = rgm_checkpoint_record(before, "clock")->data;
  cr_assert(active[0] == 0 && active[1] == 0 && active[2] == 0);
  cr_assert(clock[0] == 1 && clock[1] == 1 && clock[2] == 1); // the step in which they finished
  steps(run, 3);
  rgm_checkpoint *after = snapshot(run);
  for (int i = 0; i < before->record_count; i++) {
    const rgm_record *a = &before->records[i], *b = &after->records[i];
    cr_assert(memcmp(a->data, b->data, replica_bytes(a) * (size_t)a->dims[0]) == 0, "%s", a->name);
  }
  rgm_checkpoint_free(before);
  rgm_checkpoint_free(after);
  rgm_run_free(run);
}


// the elite run again has the bits of the elite recorded: odd batches, one patient and several,
// groups of replicas, one of them finished
Test(engine, cem_records_all_or_the_elites_alone) {
  static const char *const shapes[] = {"19", "21", "70", "2"}, *const patients[] = {"1", "7", "10",
                                                                                    "1"};
  for (int k = 0; k < 4; k++) {
    char hex[2][65], a[64], b[64];
    size_t bytes[2];
    snprintf(a, sizeof a, "algorithm.episodes=%s", shapes[k]);
    snprintf(b, sizeof b, "algorithm.patients=%s", patients[k]);
    for (int elites = 0; elites < 2; elites++) {
      const char *const sets[] = {"run.replicas=5", "run.threads=2", a, b,
                                  elites == 1 ? "algorithm.records=elites"
                                              : "algorithm.records=all"};
      rgm_run *run = make_run(small, 5, sets);
      steps(run, 2);
      ((uint32_t *)run->active.data)[1] = 0;
      steps(run, 3);
      cr_assert_eq(run->algorithm->report(run), RGM_OK, "%s", rgm_last_error());
      cr_assert_eq(rgm_guard(run), RGM_OK, "%s", rgm_last_error());
      bytes[elites] = rgm_arena_bytes(run->arena);
      digest_of(run, hex[elites]);
      rgm_run_free(run);
    }
    cr_assert_str_eq(hex[0], hex[1], "%s episodes", shapes[k]);
    cr_assert(k != 2 || bytes[1] < bytes[0] / 2, "%zu bytes, %zu", bytes[0], bytes[1]);
  }
}


// before the drug acts all returns are equal: ties, for which there are too few places
Test(engine, elites_without_a_place_are_told) {
  static const char *const sets[] = {"run.replicas=2", "env.steps=2", "algorithm.records=elites",
                                     "algorithm.elites=18"};
  rgm_run *run = make_run(small, 3, sets);
  cr_assert_eq(rgm_guard(run), RGM_OK);
  steps(run, 1);
  cr_assert_eq(run->algorithm->report(run), RGM_ENUMERIC);
  const char *text = rgm_last_error();
  cr_assert(strstr(text, "elite/lost of replica 0 (seed 11): 10 elites") != NULL, "%s", text);
  cr_assert(strstr(text, "among 9 by step 1") != NULL, "%s", text);
  cr_assert(strstr(text, "algorithm.elites") != NULL, "%s", text);
  cr_assert_eq(rgm_guard(run), RGM_ENUMERIC); // nothing goes on from a part of the elite
  rgm_run_free(run);

  // one place too few, and enough
  run = make_run(small, 4, sets);
  steps(run, 1);
  cr_assert_eq(run->algorithm->report(run), RGM_ENUMERIC);
  rgm_run_free(run);
  const char *const enough[] = {sets[0], sets[1], sets[2], "algorithm.elites=19"};
  run = make_run(small, 4, enough);
  steps(run, 1);
  cr_assert_eq(run->algorithm->report(run), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_guard(run), RGM_OK);
  rgm_run_free(run);
}


Test(engine, cem_learns) {
  static const char *const sets[] = {"run.replicas=2", "env.steps=200", "env.targets=1",
                                     "algorithm.episodes=16", "algorithm.smooth=0.1"};
  rgm_run *run = make_run(small, 5, sets);
  float first[2], last[2];
  const rgm_tensor *smoothed = NULL;
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    smoothed = strcmp(e->name, "smoothed_return") == 0 ? &e->tensor : smoothed;
  }
  cr_assert_not_null(smoothed);
  steps(run, 20);
  cr_assert_eq(rgm_read_back(run, *smoothed, first), RGM_OK);
  steps(run, 280);
  cr_assert_eq(rgm_read_back(run, *smoothed, last), RGM_OK);
  for (int r = 0; r < 2; r++) {
    // doing nothing costs 100, an untrained policy about 80, a trained one under 25
    cr_assert(last[r] > -30.0f && last[r] > first[r] + 20.0f, "%g -> %g", (double)first[r],
              (double)last[r]);
  }
  rgm_run_free(run);
}


Test(engine, config_errors_name_place_and_key) {
  static const struct {
    const char *set, *message;
  } rows[] = {
      {"algorithm.name=cen", "did you mean cem?"},
      {"env.name=propofoll", "did you mean propofol?"},
      {"algorithm.patients=5", "does not divide"},
      {"env.weight=[100, 50]", "low <= high"},
      {"env.age=[18, 200]", "101"},
      {"algorithm.percentile=1.5", "[0, 1]"},
      {"run.isa=avx1024", "does not run"},
      {"algorithm.hidden=0", "1024"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rgm_config *config = NULL;
    rgm_run *run = NULL;
    cr_assert_eq(rgm_config_parse("test", small, &rows[i].set, 1, &config), RGM_OK);
    cr_assert_lt(rgm_run_create(config, &run), 0, "%s", rows[i].set);
    cr_assert(strstr(rgm_last_error(), rows[i].message) != NULL, "%s: %s", rows[i].set,
              rgm_last_error());
    rgm_run_free(run);
  }
}


static char *make_folder(char path[64]) {
  snprintf(path, 64, "/tmp/rgm_engine_%s", "XXXXXX");
  cr_assert_not_null(mkdtemp(path));
  return path;
}


Test(engine, metrics_are_cut_back_to_the_checkpoint) {
  char folder[64], path[128], line[256];
  const float values[2] = {-1.5f, NAN};
  make_folder(folder);
  for (int pass = 0; pass < 2; pass++) {
    // the second pass resumes from step 20 and repeats 30
    rgm_metrics *m = NULL;
    cr_assert_eq(rgm_metrics_open(folder, pass == 0 ? 0 : 20, &m), RGM_OK);
    for (int step = pass == 0 ? 10 : 30; step <= 30; step += 10) {
      cr_assert_eq(rgm_metrics_add(m, "return", "1", values, 2), RGM_OK);
      cr_assert_eq(rgm_metrics_flush(m, (uint64_t)step), RGM_OK);
    }
    rgm_metrics_close(m);
  }
  static const char *const files[] = {"metrics.jsonl", "metrics.csv"};
  static const char *const last[] = {"{\"step\": 30, \"replica\": 1, \"return\": null}\n",
                                     "30,1,\n"};
  for (int k = 0; k < 2; k++) {
    int count = 0;
    snprintf(path, sizeof path, "%s/%s", folder, files[k]);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
      count++;
    }
    fclose(file);
    unlink(path);
    cr_assert_eq(count, 6 + k, "%s has %d rows", files[k], count);
    cr_assert_str_eq(line, last[k]);
  }
  rmdir(folder);
}


Test(engine, tables_tell_file_row_and_column_but_no_value) {
  static const struct {
    const char *text, *message; // message NULL: fine
  } rows[] = {
      {"ID,DV\n1,2.5\n2,NA\n", NULL},
      {"\"ID\",\"DV\"\r\n1,\"2.5\"\r\n", NULL},
      {"ID,DV\n1,2.5\n2,secret77\n", ":3: column DV: not a number"},
      {"ID,DV\n1,2.5,9\n", ":2: more fields"},
      {"ID,DV\n1\n", ":2: 1 fields"},
      {"ID,DV\n", "no rows"},
      {"", "no rows"},
      {"ID,DV\n1,\"2\n", "quote"},
  };
  char folder[64], path[128];
  make_folder(folder);
  snprintf(path, sizeof path, "%s/table.csv", folder);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rgm_table table;
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(rows[i].text, file);
    fclose(file);
    const rgm_status status = rgm_table_read_csv(path, &table);
    if (rows[i].message == NULL) {
      cr_assert_eq(status, RGM_OK, "%s", rgm_last_error());
      cr_assert_eq(rgm_table_column(&table, "dv"), 1);
      cr_assert_eq(table.value[1], 2.5);
      cr_assert_eq(strlen(table.digest), 64);
      rgm_table_free(&table);
    } else {
      cr_assert_eq(status, RGM_EDATA);
      cr_assert(strstr(rgm_last_error(), rows[i].message) != NULL, "%s", rgm_last_error());
      cr_assert(strstr(rgm_last_error(), "secret77") == NULL);
    }
  }
  unlink(path);
  rmdir(folder);
}
