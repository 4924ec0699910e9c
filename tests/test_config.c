// SPDX-License-Identifier: Apache-2.0
// Configuration: loading, `extends:`, overrides, typed reading, messages, emit, explain, nearest.

#include "engine/engine.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

enum { TEXT_SIZE = 2048 };


// ---- two sections with a field of every type ---------------------------------------------------

typedef struct env_values {
  double noise_sd;
  int64_t patients;
  bool blind;
  int method;
  char data[RGM_STRING_SIZE];
  rgm_list quantiles;
  double horizon;
} env_values;

typedef struct run_values {
  int64_t seed;
  double rate;
} run_values;

static const char *const methods[] = {"euler", "heun", "exact", "no", NULL};

static const rgm_field env_fields[] = {
    {"noise_sd", RGM_FLOAT, offsetof(env_values, noise_sd), "1", "0.01", 0, 1, NULL, 0,
     "Standard deviation of the measurement noise."},
    {"patients", RGM_INT, offsetof(env_values, patients), "1", "1000", 1, 1e6, NULL, RGM_SHAPE,
     "Patients simulated side by side."},
    {"blind", RGM_BOOL, offsetof(env_values, blind), "", "false", 0, 0, NULL, 0,
     "Hides the state."},
    {"method", RGM_CHOICE, offsetof(env_values, method), "", "heun", 0, 0, methods, 0,
     "Numerical method."},
    {"data", RGM_STRING, offsetof(env_values, data), "", "", 0, 0, NULL, 0, "Path of a data set."},
    {"quantiles", RGM_LIST, offsetof(env_values, quantiles), "mg", "[0.25, 0.75]", -5, 5, NULL, 0,
     "Quantiles of the dose."},
    {"horizon", RGM_FLOAT, offsetof(env_values, horizon), "h", "inf", 0, INFINITY, NULL, 0,
     "Time after which an episode ends."},
    {0},
};

static const rgm_field run_fields[] = {
    {"seed", RGM_INT, offsetof(run_values, seed), "", "0", -INFINITY, INFINITY, NULL, 0,
     "Seed of all random numbers."},
    {"rate", RGM_FLOAT, offsetof(run_values, rate), "1/s", "0.001", 0, 1, NULL, RGM_PROVENANCE,
     "How often progress is shown."},
    {0},
};


static rgm_config *parse(const char *text) {
  rgm_config *config = NULL;
  rgm_status status = rgm_config_parse("x.yaml", text, NULL, 0, &config);
  cr_assert(status == RGM_OK, "%s\n%s", rgm_last_error(), text);
  return config;
}


static rgm_status read_all(rgm_config *config, env_values *env, run_values *run) {
  RGM_TRY(rgm_config_read(config, "env", env_fields, env));
  RGM_TRY(rgm_config_read(config, "run", run_fields, run));
  return rgm_config_finish(config);
}


// Loads and reads everything; the status of the first failure.
static rgm_status try_text(const char *text, const char *override, env_values *env) {
  env_values other;
  run_values run;
  rgm_config *config = NULL;
  rgm_status status = rgm_config_parse("x.yaml", text, &override, override != NULL, &config);
  cr_assert((status == RGM_OK) == (config != NULL));
  if (status == RGM_OK) {
    status = read_all(config, env == NULL ? &other : env, &run);
  }
  rgm_config_free(config);
  return status;
}


// A text, a file or an override, and the failure that it gives.
typedef struct bad_case {
  const char *text;
  rgm_status status;
  const char *message; // a part of it
} bad_case;


// Expects a failure, and a part of its message.
static void expect_error(rgm_status status, rgm_status wanted, const char *part) {
  cr_expect(status == wanted, "status %d, expected %s", status, part);
  cr_expect(strstr(rgm_last_error(), part) != NULL, "expected\n%s\ngot\n%s", part,
            rgm_last_error());
}


static char *emit_text(const char *text, bool digest_only) {
  env_values env;
  run_values run;
  rgm_config *config = parse(text);
  rgm_status status = read_all(config, &env, &run);
  cr_assert(status == RGM_OK, "%s", rgm_last_error());
  char *emitted = rgm_config_emit(config, digest_only);
  cr_assert(emitted != NULL);
  rgm_config_free(config);
  return emitted;
}


// ---- values ------------------------------------------------------------------------------------

Test(config, defaults_and_values) {
  // nothing set, in several ways
  static const char *const empty[] = {"",   "\n",           "# only this\n", "---\n",
                                      "{}", "\xef\xbb\xbf", "env: {}\n"};
  env_values env;
  for (int i = 0; i < COUNT(empty); i++) {
    memset(&env, 0xff, sizeof env);
    rgm_status status = try_text(empty[i], NULL, &env);
    cr_assert(status == RGM_OK, "%d: %s", i, rgm_last_error());
    cr_assert(env.noise_sd == 0.01 && env.patients == 1000 && !env.blind && env.method == 1);
    cr_assert(env.data[0] == 0 && env.quantiles.count == 2 && env.quantiles.value[1] == 0.75);
    cr_assert(isinf(env.horizon));
  }

  // everything set: block, flow, dotted, quoted; a byte order mark
  static const char *const full[] = {
      "env:\n  noise_sd: 3e-4\n  patients: 1e5\n  blind: true\n  method: exact\n"
      "  data: a/b c.h5\n  quantiles: [-1, 0.5, 2]\n  horizon: 24\n",
      "{env: {noise_sd: 0.0003, patients: 100000, blind: true, method: exact, data: 'a/b c.h5', "
      "quantiles: [-1, .5, 2.], horizon: 2.4e+1}}",
      "env.noise_sd: '0.0003'\nenv.patients: \"+100000\"\nenv: {horizon: 24.0}\nenv.blind: true\n"
      "env.method: exact\nenv.data: \"a/b c\\x2eh5\"\nenv.quantiles:\n- -1\n- 5e-1\n- 2\n",
      "\xef\xbb\xbf"
      "env:\r\n  noise_sd: 3E-04\r\n  patients: 100000.0\r\n  blind: true\r\n  method: exact\r\n"
      "  data: a/b c.h5\r\n  quantiles: [-1, 0.5, 2]\r\n  horizon: 24\r\n",
  };
  for (int i = 0; i < COUNT(full); i++) {
    memset(&env, 0xff, sizeof env);
    rgm_status status = try_text(full[i], NULL, &env);
    cr_assert(status == RGM_OK, "%d: %s", i, rgm_last_error());
    cr_assert(env.noise_sd == 3e-4 && env.patients == 100000 && env.blind, "%d", i);
    cr_assert(env.method == 2 && strcmp(env.data, "a/b c.h5") == 0 && env.horizon == 24, "%d", i);
    cr_assert(env.quantiles.count == 3 && env.quantiles.value[0] == -1, "%d", i);
    cr_assert(env.quantiles.value[1] == 0.5 && env.quantiles.value[2] == 2, "%d", i);
    cr_assert(env.quantiles.value[31] == 0 && env.data[255] == 0, "%d: tails are zero", i);
  }
}


Test(config, ranges_and_spellings) {
  static const struct {
    const char *key, *good, *bad; // separated by blanks
  } cases[] = {
      {"env.noise_sd", "0 1 -0 +1 1.0 0.1e1 1e-300 00.5 1. .5",
       "-1e-9 1.0000001 2 abc 0x1 nan .nan inf -inf 1e999 1e-999 1_0 0,5 1e 1e+ . + - e5 1.2.3 1f"},
      {"env.patients", "1 1000000 1e6 +7 012 5.0 1.5e1",
       "0 1000001 -1 1.5 1e7 0x10 0o7 1_000 12a inf nan 99999999999999999999 --1 +"},
      {"env.blind", "true false", "yes no on off True FALSE y N 1 0 t \"\" truefalse"},
      {"env.method", "euler heun exact no", "eulr Heun 1 h nonsense"},
      {"env.quantiles", "-5 5 [] [5] [-5,5,0] [\"1\"]", "-5.1 6 abc [1,x] [1,6] inf [nan]"},
      {"env.horizon", "inf .inf 1e308 0", "-inf nan -1 infinity INF"},
      {"run.seed", "9223372036854775807 -9223372036854775808 9007199254740992.0 -3",
       "9223372036854775808 -9223372036854775809 9007199254740994.0 1e30"},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    for (int good = 0; good < 2; good++) {
      char values[256], override[256];
      snprintf(values, sizeof values, "%s", good ? cases[i].good : cases[i].bad);
      for (char *save, *v = strtok_r(values, " ", &save); v != NULL;
           v = strtok_r(NULL, " ", &save)) {
        snprintf(override, sizeof override, "%s=%s", cases[i].key, v);
        rgm_status status = try_text("", override, NULL);
        cr_expect(status == (good ? RGM_OK : RGM_ECONFIG), "%s gave %d", override, status);
      }
    }
  }
}


Test(config, strings_and_lists_have_limits) {
  // a string of 255 bytes and a list of 32 numbers, then each with one more
  for (int extra = 0; extra < 3; extra++) {
    char text[TEXT_SIZE], list[2 * RGM_LIST_SIZE + 2] = "";
    env_values env;
    for (int i = 0; i < 2 * (RGM_LIST_SIZE + extra / 2) - 1; i++) {
      list[i] = i % 2 == 0 ? '1' : ',';
    }
    snprintf(text, sizeof text, "env: {data: %0*d, quantiles: [%s]}", 255 + extra % 2, 7, list);
    rgm_status status = try_text(text, NULL, &env);
    cr_expect(status == (extra ? RGM_ECONFIG : RGM_OK), "%d: %s", extra, rgm_last_error());
    cr_expect(extra || (strlen(env.data) == 255 && env.quantiles.count == 32));
    cr_expect(!extra || strstr(rgm_last_error(), extra == 1 ? "(256 bytes)" : "(33 values)"));
  }
}


Test(config, tables_are_checked) {
  // a required key, present and missing
  static const rgm_field dose[] = {
      {"dose", RGM_FLOAT, 0, "mg", NULL, 0, 10, NULL, 0, "First dose."}, {0}};
  double value = 0;
  rgm_config *config = parse("drug: {dose: 3}");
  cr_assert(rgm_config_read(config, "drug", dose, &value) == RGM_OK && value == 3);
  rgm_config_free(config);
  config = parse("env: {}");
  expect_error(rgm_config_read(config, "drug", dose, &value), RGM_ECONFIG,
               "x.yaml: drug.dose: missing; set dose in section drug: a number in [0, 10] (unit "
               "mg). First dose.");
  rgm_config_free(config);

  // defaults that do not fit are our bugs
  static const char *const bad[] = {"11", "abc", "", "[1]"};
  for (int i = 0; i < COUNT(bad); i++) {
    rgm_field fields[] = {dose[0], {0}};
    fields[0].fallback = bad[i];
    config = parse("");
    cr_assert(rgm_config_read(config, "drug", fields, &value) == RGM_EINTERNAL, "%s", bad[i]);
    rgm_config_free(config);
  }
}


// ---- messages ----------------------------------------------------------------------------------

// texts and a part of the message that each gives
static const struct {
  const char *text, *message;
} messages[] = {
    // keys
    {"env:\n  nosie_sd: 1\n", "x.yaml:2:3: env.nosie_sd: unknown key; did you mean env.noise_sd?\n"
                              "    nosie_sd: 1\n    ^"},
    {"run: {noise_sd: 1}", "x.yaml:1:7: run.noise_sd: unknown key; did you mean env.noise_sd?"},
    {"\xef\xbb\xbf#\r\n\r\nfoo: 1\r\n", "x.yaml:3:1: foo: unknown key; `regimen explain` lists "
                                        "all\n  foo: 1\n  ^"},
    {"\xef\xbb\xbfzzzzzz: 1", "x.yaml:1:1: zzzzzz: unknown key; `regimen explain` lists all"},
    {"enf: {}", "x.yaml:1:1: enf: unknown section; did you mean env?"},
    {"env:\n  noise_sd: 1\n  blind: true\n  noise_sd: 2\n",
     "x.yaml:4:3: env.noise_sd: set twice, first at x.yaml:2:3; delete one of them"},
    {"env.blind: true\nenv: {blind: true}\n",
     "x.yaml:2:7: env.blind: set twice, first at x.yaml:1:1"},
    {"env: {blind: true}\nenv: {data: x}\n", "x.yaml:2:1: env: set twice, first at x.yaml:1:1"},
    {"a b..c: 1", "x.yaml:1:1: \"a b..c\" is not a key"},
    {"\"\": 1", "x.yaml:1:1: \"\" is not a key"},
    {"\"a\\0\": 1", "x.yaml:1:1: \"a\" is not a key"},
    {"? [a]\n: 1", "x.yaml:1:3: a list or map as a key"},
    // kinds of values
    {"env: 3", "x.yaml:1:6: env: expected a map of keys, got \"3\""},
    {"env: [3]", "x.yaml:1:6: env: expected a map of keys, got \"[3]\""},
    {"env:\n", "x.yaml:1:5: env: no value; give a value or delete the line\n  env:\n      ^"},
    {"env: {data: ~}", "x.yaml:1:13: env.data: no value; give a value or delete the line"},
    {"env: {quantiles: [1, ~]}", "x.yaml:1:22: env.quantiles: no value"},
    {"env: {noise_sd: {a: 1}}",
     "x.yaml:1:17: env.noise_sd: expected a number in [0, 1] (unit 1), got a map of keys"},
    {"env: {noise_sd: [1]}", "x.yaml:1:17: env.noise_sd: expected a number in [0, 1] (unit 1), "
                             "got a list [1]\n"},
    {"env:\n  quantiles:\n  - a: 1\n", "x.yaml:3:5: env.quantiles: a map inside a list"},
    {"env: {quantiles: [[1]]}", "x.yaml:1:19: env.quantiles: a list inside a list"},
    // values
    {"env: {noise_sd: abc}", "x.yaml:1:17: env.noise_sd: expected a number in [0, 1] (unit 1), "
                             "got \"abc\"\n  env: {noise_sd: abc}\n                  ^"},
    {"env: {noise_sd: 1.5}",
     "x.yaml:1:17: env.noise_sd: expected a number in [0, 1] (unit 1), got \"1.5\"\n"},
    {"env: {patients: 0}",
     "x.yaml:1:17: env.patients: expected a whole number in [1, 1000000] (unit 1), got \"0\"\n"},
    {"run: {seed: a}", "x.yaml:1:13: run.seed: expected a whole number, got \"a\"\n"},
    {"env: {horizon: -1}",
     "x.yaml:1:16: env.horizon: expected a number >= 0 (unit h), got \"-1\"\n"},
    {"env: {blind: Yes}", "x.yaml:1:14: env.blind: expected true or false, got \"Yes\"; a boolean "
                          "is true or false here, write true\n"},
    {"env: {blind: off}", "x.yaml:1:14: env.blind: expected true or false, got \"off\"; a boolean "
                          "is true or false here, write false\n"},
    {"env: {method: huen}", "x.yaml:1:15: env.method: expected one of euler, heun, exact, no, got "
                            "\"huen\"; did you mean heun?\n"},
    {"env: {quantiles: [1, 9]}", "x.yaml:1:18: env.quantiles: expected a list of at most 32 "
                                 "numbers in [-5, 5] (unit mg), got \"9\" as element 2\n"},
    // YAML that is not taken
    {"env: &a {}", "x.yaml:1:6: env: anchors (&a) are not supported; delete it"},
    {"env: *a", "x.yaml:1:6: env: aliases (*a) are not supported"},
    {"env: {data: !!str x}",
     "x.yaml:1:13: env.data: tags (tag:yaml.org,2002:str) are not supported; delete it"},
    {"&k env: 1", "x.yaml:1:1: anchors (&k)"},
    {"env: {quantiles: [&x 1]}", "x.yaml:1:19: env.quantiles: anchors (&x)"},
    {"env: {}\n---\nrun: {}\n", "x.yaml:2:1: a second document"},
    {"%YAML 1.1\n---\nenv: {}\n", "x.yaml:1:1: % directives are not supported"},
    {"text\n", "x.yaml:1:1: expected `key: value` lines at the top level"},
    {"env: {data: \"a\\0b\"}", "x.yaml:1:13: env.data: text with a NUL character"},
    // syntax
    {"env:\n  quantiles: [1, 2\nrun: {}\n",
     "x.yaml:3:4: did not find expected ',' or ']' (while parsing a flow sequence at 2:14)\n"
     "  run: {}\n     ^"},
    {"env:\n\tblind: true\n", "x.yaml:2:1: found character that cannot start any token (while "
                              "scanning for the next token at 2:1); indent with spaces, not tabs"},
    {"env: \"abc\n", "x.yaml:2:1: found unexpected end of stream"},
    {"a: b: c\n", "x.yaml:1:5: mapping values are not allowed in this context\n  a: b: c\n"
                  "      ^"},
    // characters
    {"a: \xff\xe2\x82",
     "x.yaml:1:4: byte 0xff is not UTF-8; save the file as UTF-8\n  a: ???\n     ^"},
    {"# \xc3\xa9\r\n\r\n \xc0\x80", "x.yaml:3:2: byte 0xc0 is not UTF-8"},
    {"a: \xed\xa0\x80", "x.yaml:1:4: byte 0xed is not UTF-8"},
    {"a: \xf4\x90\x80\x80", "x.yaml:1:4: byte 0xf4 is not UTF-8"},
    {"a: \x01\n", "x.yaml:1:4: control character U+0001"},
    {"\xc2\xb5: 1", "x.yaml:1:1: \"\xc2\xb5\" is not a key"},
    {"env: {data: \xc2\xb5, x: 1}", "x.yaml:1:16: env.x: unknown key"},
    // extends is one path
    {"extends: [a]", "x.yaml:1:10: extends: expected the path of one file"},
    {"extends: ~", "x.yaml:1:10: extends: no value"},
    {"extends: a\nextends: b", "x.yaml:2:1: extends: set twice, first at line 1"},
};


Test(config, messages) {
  for (int i = 0; i < COUNT(messages); i++) {
    expect_error(try_text(messages[i].text, NULL, NULL), RGM_ECONFIG, messages[i].message);
    cr_expect(strncmp(rgm_last_error(), "x.yaml:", 7) == 0, "%s", messages[i].text);
  }
}


Test(config, long_lines_are_trimmed_around_the_caret) {
  // blanks before, digits after: the caret stands below the value's first character
  static const int blanks[] = {0, 40, 80, 200, 1000};
  for (int i = 0; i < COUNT(blanks); i++) {
    char text[TEXT_SIZE];
    snprintf(text, sizeof text, "env: {noise_sd: %*s@abc, data: %0100d}\nrun: {}\n", blanks[i], "",
             1);
    *strchr(text, '@') = '\'';
    *strstr(text, "c,") = '\'';
    cr_assert(try_text(text, NULL, NULL) == RGM_ECONFIG);
    const char *line = strchr(rgm_last_error(), '\n');
    cr_assert(line != NULL && strchr(line + 1, '\n') != NULL);
    const char *caret = strchr(line + 1, '\n') + 1;
    size_t width = (size_t)(caret - line) - 2;
    cr_expect(width <= 100 && strlen(caret) <= 100, "%s", rgm_last_error());
    cr_expect(line[1 + strlen(caret) - 1] == '\'', "%s", rgm_last_error());
    cr_expect(strcmp(strchr(caret, '^'), "^") == 0, "%s", rgm_last_error());
  }
}


Test(config, hostile_texts) {
  // what each text repeats, how often, and what the error says
  static const struct {
    const char *head, *unit;
    int times;
    const char *fragment;
  } cases[] = {
      {"a: ", "{a: ", 17, "more than 16 maps inside each other"},
      {"a: ", "{a: ", 100000, "more than 16 maps inside each other"},
      {"a: ", "[", 200000, "a list inside a list"},
      {"", "? ", 100000, "a list or map as a key"},
      {"a: ", "- ", 100000, "x.yaml:1:"},
      {"", "x", 1000000, "expected `key: value` lines"},
      {"a: ", "x", 1000000, "a: unknown key"},
      {"a: [", "1,", 5000, "more than 4096 values in a list"},
      {"a: ", "x", 1100000, "larger than 1 MiB"},
      {"a: &a [x,x]\nb: ", "&b [*a,*a]", 1000, "anchors (&a) are not supported"},
      {"a: {b: ", "\n", 100000, "did not find"},
      {"a: \"", "\\", 100000, "end of stream"},
      {"%", "\xff", 1, "x.yaml:1:2: byte 0xff is not UTF-8"},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    size_t head = strlen(cases[i].head), unit = strlen(cases[i].unit);
    char *text = malloc(head + unit * (size_t)cases[i].times + 1);
    cr_assert(text != NULL);
    memcpy(text, cases[i].head, head + 1);
    for (int k = 0; k < cases[i].times; k++) {
      memcpy(text + head + unit * (size_t)k, cases[i].unit, unit + 1);
    }
    expect_error(try_text(text, NULL, NULL), RGM_ECONFIG, cases[i].fragment);
    free(text);
  }

  // more keys than any table has, and keys longer than any
  static char text[40000];
  size_t used = 0;
  for (int i = 0; i < 1025; i++) {
    used += (size_t)snprintf(text + used, sizeof text - used, "k%d: 1\n", i);
  }
  expect_error(try_text(text, NULL, NULL), RGM_ECONFIG, "x.yaml:1025:1: more than 1024 keys");
  snprintf(text, sizeof text, "a: {%0255d: 1}", 1);
  expect_error(try_text(text, NULL, NULL), RGM_ECONFIG, "a full key has at most 255");
}


Test(config, garbage, .timeout = 120) {
  // random strings of what YAML is made of; whatever loads also emits and loads again
  static const char *const tokens[] = {
      "env",       "run",          ":",        ": ",     "{",        "}",    "[",    "]",
      ", ",        "\n",           "\n  ",     "- ",     "? ",       "\"",   "'",    "|\n",
      ">",         "&a",           "*a",       "!!str",  "#",        "%",    "---",  "...",
      "~",         "\t",           "\r",       "\\",     "noise_sd", "data", "0.5",  "\xff",
      "\xc2",      "\xe2",         "\xc3\xa9", "null",   ".",        "seed", "1e-3", "extends",
      "\x01",      "blind",        "true",     "\n    ", "@",        "`",    "<<",   "=",
      "quantiles", "\xef\xbb\xbf",
  };
  uint32_t state = 12345;
  int good = 0;
  for (int i = 0; i < 5000; i++) {
    char text[256] = "", override[256] = "";
    for (int k = 0; k < 40; k++) {
      state = state * 1664525u + 1013904223u;
      int size = (int)(i % 40), token = (int)((state >> 8) % (uint32_t)COUNT(tokens));
      char *to = k <= size / 2 ? text : override;
      if (k < size && strlen(to) < 200) {
        strncat(to, tokens[token], 40);
      }
    }
    rgm_config *config = NULL;
    const char *one = override;
    env_values env;
    run_values run;
    if (rgm_config_parse("x.yaml", text, &one, i % 3 == 0, &config) != RGM_OK) {
      cr_assert(rgm_last_error()[0] != 0 && config == NULL);
      continue;
    }
    if (read_all(config, &env, &run) == RGM_OK) {
      char *emitted = rgm_config_emit(config, false);
      char *again = emit_text(emitted, false);
      cr_assert_str_eq(emitted, again);
      free(emitted);
      free(again);
      good++;
    }
    rgm_config_set(config, "env.data", override);
    rgm_config_free(config);
  }
  cr_assert(good > 10, "%d", good);
}


// ---- files -------------------------------------------------------------------------------------

static void put_file(const char *folder, const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  cr_assert(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}


// Loads a file and reads everything.
static rgm_status load_file(const char *folder, const char *name, rgm_config **config,
                            env_values *env) {
  char path[256];
  run_values run;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  RGM_TRY(rgm_config_load(path, NULL, 0, config));
  return read_all(*config, env, &run);
}


static const struct {
  const char *name, *text;
} files[] = {
    {"base.yaml", "env:\n  noise_sd: 0.5\n  patients: 5\n  data: base\nrun: {seed: 9}\n"},
    {"mid.yaml", "extends: base.yaml\nenv: {patients: 6, data: mid}\n"},
    {"sub/top.yaml", "env.data: top\nextends: ../mid.yaml\n"},
    {"typo.yaml", "extends: wrong.yaml\nenv: {blind: true}\n"},
    {"wrong.yaml", "env:\n  bilnd: true\n"},
    {"hidden.yaml", "extends: wrong.yaml\nenv.bilnd: 1\n"},
    {"lost.yaml", "run: {}\nextends: nowhere.yaml\n"},
    {"folder.yaml", "extends: sub\n"},
    {"a.yaml", "extends: ./b.yaml\n"},
    {"b.yaml", "extends: sub/../a.yaml\n"},
    {"self.yaml", "extends: self.yaml\n"},
    {"zero.yaml", "a: 1"},
    {"low.yaml", "a: {b: {c: 1, d: 2}, bb: 3}"},
    {"high.yaml", "extends: low.yaml\na.b: [5]\n"},
    {"utf16.yaml", "\xff\xfe\x61"},
};

static const bad_case bad_files[] = {
    {"typo.yaml", RGM_ECONFIG, "wrong.yaml:2:3: env.bilnd: unknown key; did you mean env.blind?"},
    {"hidden.yaml", RGM_ECONFIG, "hidden.yaml:2:1: env.bilnd: unknown key"},
    {"lost.yaml", RGM_EIO, "lost.yaml:2:10: extends: "},
    {"lost.yaml", RGM_EIO, "nowhere.yaml cannot be read: No such file or directory"},
    {"folder.yaml", RGM_EIO, "sub cannot be read: Is a directory"},
    {"nowhere.yaml", RGM_EIO, "nowhere.yaml: cannot be read: No such file or directory"},
    {"a.yaml", RGM_ECONFIG, "b.yaml:1:10: extends: files extend each other in a circle: "},
    {"utf16.yaml", RGM_ECONFIG, "utf16.yaml:1:1: byte 0xff is not UTF-8"},
    {"self.yaml", RGM_ECONFIG, "self.yaml:1:10: extends: files extend each other in a circle: "},
    {"deep9.yaml", RGM_ECONFIG, "deep1.yaml:1:10: extends: more than 8 files extend each other: "},
};


Test(config, files_extend_files) {
  char folder[] = "/tmp/test_config_XXXXXX", text[TEXT_SIZE], name[64];
  cr_assert(mkdtemp(folder) != NULL);
  snprintf(text, sizeof text, "%s/sub", folder);
  cr_assert(mkdir(text, 0700) == 0);
  for (int i = 0; i < COUNT(files); i++) {
    put_file(folder, files[i].name, files[i].text);
  }
  for (int i = 0; i < 12; i++) {
    snprintf(name, sizeof name, "deep%d.yaml", i);
    snprintf(text, sizeof text, i == 0 ? "run: {seed: 4}\n" : "extends: deep%d.yaml\n", i - 1);
    put_file(folder, name, text);
  }

  // the nearest file wins, and its place is told
  env_values env;
  rgm_config *config = NULL;
  cr_assert(load_file(folder, "sub/top.yaml", &config, &env) == RGM_OK, "%s", rgm_last_error());
  cr_assert(env.noise_sd == 0.5 && env.patients == 6 && strcmp(env.data, "top") == 0);
  snprintf(text, sizeof text, "%s/sub/top.yaml:1:1", folder);
  cr_assert_str_eq(rgm_config_where(config, "env.data"), text);
  snprintf(text, sizeof text, "%s/sub/../base.yaml:5:7", folder);
  cr_assert_str_eq(rgm_config_where(config, "run.seed"), text);
  rgm_config_free(config);

  // eight parents are allowed
  cr_assert(load_file(folder, "deep8.yaml", &config, &env) == RGM_OK, "%s", rgm_last_error());
  rgm_config_free(config);

  // a value hides a parent's map and what is in it
  load_file(folder, "high.yaml", &config, &env);
  cr_assert(rgm_config_text(config, "a.b.d") == NULL && rgm_config_text(config, "a.bb") != NULL);
  rgm_config_free(config);

  // what goes wrong
  for (int i = 0; i < COUNT(bad_files); i++) {
    config = NULL;
    expect_error(load_file(folder, bad_files[i].text, &config, &env), bad_files[i].status,
                 bad_files[i].message);
    rgm_config_free(config);
  }

  // a NUL where C would see the end
  snprintf(text, sizeof text, "%s/zero.yaml", folder);
  cr_assert(truncate(text, 5000) == 0);
  expect_error(load_file(folder, "zero.yaml", &config, &env), RGM_ECONFIG,
               "1:5: control character U+0000");

  // leave nothing behind
  snprintf(text, sizeof text, "rm -r '%s'", folder);
  cr_expect(system(text) == 0);
}


// ---- overrides ---------------------------------------------------------------------------------

Test(config, overrides) {
  // the later one wins over the earlier one and over the file, maps are merged into it
  static const char *const overrides[] = {"env.noise_sd=0.3",          "env.noise_sd= 4e-1 ",
                                          "env.quantiles=[1, 2]",      "env={blind: true}",
                                          "env.data=C:/a: b #1 = [x]", "run.seed=-3"};
  env_values env;
  run_values run;
  rgm_config *config = NULL;
  cr_assert(rgm_config_parse("x.yaml", "env:\n  noise_sd: 0.2\n  patients: 7\nrun: {seed: 1}\n",
                             overrides, COUNT(overrides), &config) == RGM_OK,
            "%s", rgm_last_error());
  cr_assert(read_all(config, &env, &run) == RGM_OK, "%s", rgm_last_error());
  cr_assert(env.noise_sd == 0.4 && env.patients == 7 && env.quantiles.count == 2 && env.blind);
  cr_assert(strcmp(env.data, "C:/a: b #1 = [x]") == 0 && run.seed == -3);

  // where and what
  cr_assert_str_eq(rgm_config_where(config, "env.noise_sd"), "--set env.noise_sd=4e-1 ");
  cr_assert_str_eq(rgm_config_where(config, "env.patients"), "x.yaml:3:3");
  cr_assert_str_eq(rgm_config_where(config, "env.method"), "default");
  cr_assert_str_eq(rgm_config_text(config, "env.noise_sd"), "4e-1");
  cr_assert_str_eq(rgm_config_text(config, "env.quantiles"), "[1, 2]");
  cr_assert(rgm_config_text(config, "env.method") == NULL);

  // set replaces once more; texts handed out before stay valid; a bad one changes nothing
  const char *before = rgm_config_where(config, "env.patients");
  cr_assert(rgm_config_set(config, "env.patients", "8") == RGM_OK);
  cr_assert(rgm_config_set(config, "env", "{horizon: 5, horizon: 6}") == RGM_ECONFIG);
  cr_assert_str_eq(rgm_config_where(config, "env.horizon"), "default");
  cr_assert(rgm_config_set(config, "env.quantiles", "'3'") == RGM_OK);
  cr_assert(read_all(config, &env, &run) == RGM_OK, "%s", rgm_last_error());
  cr_assert(env.patients == 8 && env.quantiles.count == 1 && env.quantiles.value[0] == 3);
  cr_assert_str_eq(before, "x.yaml:3:3");
  cr_assert_str_eq(rgm_config_where(config, "env.patients"), "--set env.patients=8");
  rgm_config_free(config);

  // a value replaces a map and what is in it
  config = parse("a: {b: {c: 1, d: 2}, bb: 3}");
  cr_assert(rgm_config_set(config, "a.b", "[5]") == RGM_OK);
  cr_assert(rgm_config_text(config, "a.b.d") == NULL && rgm_config_text(config, "a.bb") != NULL);
  rgm_config_free(config);

  // no file at all
  const char *one = "run.seed=12";
  cr_assert(rgm_config_load(NULL, &one, 1, &config) == RGM_OK);
  cr_assert(read_all(config, &env, &run) == RGM_OK && run.seed == 12);
  rgm_config_free(config);
}


Test(config, bad_overrides) {
  static const bad_case cases[] = {
      {"env.blind", RGM_EUSAGE, "--set env.blind: expected KEY=VALUE, as in --set run.seed=3"},
      {"=3", RGM_EUSAGE, "--set =3: expected KEY=VALUE"},
      {"env.bilnd=true", RGM_ECONFIG,
       "--set env.bilnd=true: env.bilnd: unknown key; did you mean env.blind?"},
      {"env.noise_sd=2", RGM_ECONFIG,
       "--set env.noise_sd=2: env.noise_sd: expected a number in [0, 1] (unit 1), got \"2\""},
      {"env.data=", RGM_ECONFIG, "--set env.data=: env.data: no value; give a value"},
      {"env.data=~", RGM_ECONFIG, "--set env.data=~: env.data: no value"},
      {"env.data=[1, 2", RGM_ECONFIG, "--set env.data=[1, 2: did not find expected ',' or ']'"},
      {"env.data=[{a: 1}]", RGM_ECONFIG, "--set env.data=[{a: 1}]: env.data: a map inside a list"},
      {"env.data=&a x", RGM_ECONFIG, "--set env.data=&a x: env.data: anchors (&a)"},
      {"env.data=!x y", RGM_ECONFIG, "--set env.data=!x y: env.data: tags (!x)"},
      {"env.data=*a", RGM_ECONFIG, "--set env.data=*a: env.data: aliases (*a)"},
      {"env.data='a' b", RGM_ECONFIG, "--set env.data='a' b: "},
      {"env data=3", RGM_ECONFIG, "--set env data=3: \"env data\" is not a key"},
      {"env=3", RGM_ECONFIG, "--set env=3: env: expected a map of keys, got \"3\""},
      {"env={blind: true, blind: true}", RGM_ECONFIG, "env.blind: set twice"},
      {"env.data=\xff", RGM_ECONFIG, "--set env.data=?: byte 0xff is not UTF-8"},
      {"env.data=a\x02", RGM_ECONFIG, "--set env.data=a?: control character U+0002"},
      {"extends=a.yaml", RGM_ECONFIG, "--set extends=a.yaml: extends: belongs in a file"},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    expect_error(try_text("", cases[i].text, NULL), cases[i].status, cases[i].message);
  }
}


// ---- emit --------------------------------------------------------------------------------------

Test(config, emit) {
  // the exact text, and without provenance
  char *text = emit_text("run: {rate: 0.50, seed: 1e3}\nenv: {noise_sd: -0.0, data: a b}\n", false);
  cr_expect_str_eq(text, "env:\n  noise_sd: 0\n  patients: 1000\n  blind: false\n  method: heun\n"
                         "  data: \"a b\"\n  quantiles: [0.25, 0.75]\n  horizon: inf\n"
                         "run:\n  seed: 1000\n  rate: 0.5\n");
  free(text);
  text = emit_text("run: {rate: 0.5}", true);
  cr_expect(strstr(text, "run:\n  seed: 0\n") != NULL && strstr(text, "rate") == NULL, "%s", text);
  free(text);

  // different spellings of the same values give the same bytes
  static const char *const same[] = {
      "env: {noise_sd: 0.0003, quantiles: [1], method: \"no\", data: /a/b}\nrun: {seed: 12}\n",
      "run.seed: +12.0\nenv:\n  data: '/a/b'\n  quantiles: 1.0\n  method: no\n  noise_sd: 3e-4\n",
  };
  char *first = emit_text(same[0], true), *second = emit_text(same[1], true);
  cr_expect_str_eq(first, second);
  free(first);
  free(second);

  // a section read twice, at first with no key that counts
  run_values run;
  rgm_config *config = parse("run: {rate: 0.25}");
  for (int i = 1; i >= 0; i--) {
    cr_assert(rgm_config_read(config, "run", run_fields + i, &run) == RGM_OK);
    text = rgm_config_emit(config, i == 1);
    cr_expect_str_eq(text, i == 1 ? "" : "run:\n  rate: 0.25\n  seed: 0\n");
    free(text);
  }
  rgm_config_free(config);
}


Test(config, emitted_text_reads_back) {
  // numbers, by a generator of our own
  uint64_t state = 1;
  env_values env, back;
  run_values run;
  for (int i = 0; i < 500; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    double noise = (double)(state >> 11) * 0x1p-53;
    double horizon = ldexp(noise, (int)(state % 2000) - 1000);
    int64_t seed = (int64_t)(state ^ state >> 31);
    char text[TEXT_SIZE];
    snprintf(text, sizeof text,
             "env: {noise_sd: %.17g, horizon: %.25g, quantiles: [%.20e, 0.1]}\n"
             "run: {seed: %" PRId64 "}\n",
             noise, horizon, noise, seed);
    char *emitted = emit_text(text, false);
    rgm_config *config = parse(emitted);
    cr_assert(read_all(config, &env, &run) == RGM_OK, "%s", rgm_last_error());
    cr_assert(env.noise_sd == noise && env.horizon == horizon && run.seed == seed, "%s", emitted);
    cr_assert(env.quantiles.value[0] == noise && env.quantiles.value[1] == 0.1, "%s", emitted);
    rgm_config_free(config);
    free(emitted);
  }

  // texts that YAML would take for something else, or fold, or refuse; one in quotes on each line
  char texts[] = "plain\n/a/b-c.h5\nno\nNull\nnull\n~\n3\n1e3\n-x\n lead\ntrail \na: b\na #b\n#c\n"
                 "'r'\n[x]\n{y}\n---\n...\n*a\n&b\n!t\n%d\n@x\n`y`\nyes\n2024-01-01\nx: \n?\n-\n"
                 "a,b\n=\n<<\n|\n>\n''\n\xc3\xa9\n\xf0\x9f\x92\x8a\n\\\"q\\\"\nback\\\\slash\n"
                 "new\\nline\ntab\\there\ncr\\rlf\\n\n\\x01\\x1f\\x7f\n\\N\n\\x80\\x9f\n\\L\\P\n"
                 "\\ufeff\n\\ufffe\\uffff\n\\_";
  for (char *save, *line = strtok_r(texts, "\n", &save); line != NULL;
       line = strtok_r(NULL, "\n", &save)) {
    char text[TEXT_SIZE];
    snprintf(text, sizeof text, "env: {data: \"%s\"}\n", line);
    cr_assert(try_text(text, NULL, &env) == RGM_OK, "%s: %s", text, rgm_last_error());
    cr_assert(strchr(line, '\\') != NULL || strcmp(env.data, line) == 0, "%s", line);
    char *emitted = emit_text(text, false);
    cr_assert(try_text(emitted, NULL, &back) == RGM_OK, "%s: %s", emitted, rgm_last_error());
    cr_assert(memcmp(env.data, back.data, sizeof env.data) == 0, "%s", emitted);
    free(emitted);
  }
}


// ---- explain and nearest -----------------------------------------------------------------------

Test(config, explain) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  cr_assert(out != NULL);
  rgm_config_explain(out, "run", run_fields);
  fclose(out);
  cr_expect_str_eq(text, "key       type   unit  default  range\n"
                         "run.seed  int          0        any\n"
                         "    Seed of all random numbers.\n"
                         "run.rate  float  1/s   0.001    [0, 1]\n"
                         "    How often progress is shown.\n");
  free(text);

  // long texts are broken at 100 columns, also where long keys leave them little room
  static const char *const names[] = {"alpha beta gamma delta epsilon zeta", "eta theta iota kappa",
                                      "lambda omicron upsilon epsilon delta", NULL};
  rgm_field fields[3] = {
      {"choice", RGM_CHOICE, 0, "\xc2\xb5g", NULL, 0, 0, names, 0,
       "A sentence that is a good deal longer than the hundred columns of the terminal that it is "
       "meant for, and so has to be broken."},
      {0},
  };
  for (int rows = 1; rows <= 2; rows++) {
    out = open_memstream(&text, &size);
    rgm_config_explain(out, "section", fields);
    fclose(out);
    int lines = 0;
    for (char *save, *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
      lines++;
      cr_expect(strlen(line) <= 101 && line[strlen(line) - 1] != ' ', "%s", line);
    }
    cr_expect(lines == (rows == 1 ? 5 : 10), "%d", lines);
    free(text);
    fields[1] = (rgm_field){"a_long_key_that_leaves_little_room_for_what",
                            RGM_LIST,
                            0,
                            "ug/(kg min)",
                            "[0.25, 0.75]",
                            0,
                            INFINITY,
                            NULL,
                            0,
                            "Short."};
  }
}


Test(config, nearest) {
  static const char *const names[] = {
      "env.noise_sd", "env.patients", "algorithm.gamma", "algorithm.tau",
      "run.seed",     "lr",           "batch_size",      NULL};
  static const char *const cases[][2] = {{"env.noise_sd", "env.noise_sd"},
                                         {"env.nosie_sd", "env.noise_sd"},
                                         {"env.noisesd", "env.noise_sd"},
                                         {"ENV.NOISE_SD", "env.noise_sd"},
                                         {"algorithm.noise_sd", "env.noise_sd"},
                                         {"run.nosie_sd", "env.noise_sd"},
                                         {"gama", "algorithm.gamma"},
                                         {"algorithm.tua", "algorithm.tau"},
                                         {"algorithm.seed", "run.seed"},
                                         {"rl", "lr"},
                                         {"lx", "lr"},
                                         {"xy", ""},
                                         {"batchsize", "batch_size"},
                                         {"bach_sie", "batch_size"},
                                         {"b_s", ""},
                                         {"", ""},
                                         {"completely_different", ""}};
  for (int i = 0; i < COUNT(cases); i++) {
    const char *found = rgm_nearest(cases[i][0], names);
    cr_expect_str_eq(found == NULL ? "" : found, cases[i][1]);
  }

  // nothing to choose from, and a word longer than any key
  char word[1000];
  memset(word, 'a', sizeof word);
  word[sizeof word - 1] = 0;
  cr_expect(rgm_nearest(word, names) == NULL);
  cr_expect(rgm_nearest("seed", names + 7) == NULL);
}
