// SPDX-License-Identifier: Apache-2.0
// Looking without running: `regimen plan`, `check`, `explain` and `info`.

#include "engine/dataset.h"
#include "engine/engine.h"
#include "engine/import.h"
#include "engine/frame.h"
#include "engine/load.h"
#include "engine/mdp.h"
#include "engine/regimen.h"
#include "engine/sweep.h"
#include "engine/transitions.h"

#include <stdlib.h>
#include <string.h>


const char *rgm_version_text(void) {
  static char text[128];
  snprintf(text, sizeof text, "regimen %s (%s)", rgm_version(), rgm_commit());
  return text;
}


// "10 x 16 x 2000 x 4"
static void format_dims(char text[96], int rank, const int64_t *dims) {
  text[0] = '\0';
  for (int i = 0; i < rank; i++) {
    const size_t used = strlen(text);
    snprintf(text + used, 96 - used, "%s%lld", i > 0 ? " x " : "", (long long)dims[i]);
  }
}


static void format_bytes(char text[32], double bytes) {
  static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int k = 0;
  while (bytes >= 1024.0 && k < 4) {
    bytes /= 1024.0;
    k++;
  }
  snprintf(text, 32, k > 0 ? "%.1f %s" : "%.0f %s", bytes, unit[k]);
}


// ---- plan and check ----------------------------------------------------------------------------

// *out is to be freed also on failure
static rgm_status plan_run(const rgm_options *options, rgm_run **out) {
  rgm_config *config = NULL;
  RGM_TRY(rgm_load_config(options, &config, NULL));
  return rgm_run_plan_only(config, out);
}


static void print_plan(const rgm_run *run, FILE *out) {
  char dims[96], size[32];
  fprintf(out, "%-26s %-5s %-24s %-30s %-6s %12s\n", "tensor", "type", "shape", "axes", "unit",
          "bytes");
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    int64_t meant[RGM_MAX_RANK];
    memcpy(meant, e->tensor.dims, sizeof meant);
    meant[e->tensor.rank - 1] = e->last_dim;
    format_dims(dims, e->tensor.rank, meant);
    format_bytes(size, (double)rgm_bytes(e->tensor));
    fprintf(out, "%s%-*s %-5s %-24s %-30s %-6s %12s%s\n", e->parent >= 0 ? "  " : "",
            e->parent >= 0 ? 24 : 26, e->name, rgm_dtype_name(e->tensor.dtype), dims, e->axes,
            e->unit, e->parent >= 0 ? "part" : size,
            (e->flags & RGM_PRIVATE) ? "  private"
            : (e->flags & RGM_STATE) ? "  saved"
                                     : "");
  }
  format_bytes(size, (double)rgm_arena_bytes(run->arena));
  fprintf(out, "%-94s %12s\n", "total", size);
}


static void json_plan(const rgm_run *run, FILE *out) {
  rgm_json json = {.out = out};
  rgm_json_open(&json, NULL, '{');
  rgm_json_number(&json, "bytes", (double)rgm_arena_bytes(run->arena));
  rgm_json_open(&json, "tensors", '[');
  for (int i = 0; i < rgm_arena_count(run->arena); i++) {
    const rgm_entry *e = rgm_arena_entry(run->arena, i);
    rgm_json_open(&json, NULL, '{');
    rgm_json_string(&json, "name", e->name);
    rgm_json_string(&json, "dtype", rgm_dtype_name(e->tensor.dtype));
    rgm_json_open(&json, "shape", '[');
    for (int d = 0; d < e->tensor.rank; d++) {
      const bool last = d == e->tensor.rank - 1;
      rgm_json_number(&json, NULL, (double)(last ? e->last_dim : e->tensor.dims[d]));
    }
    rgm_json_close(&json, ']');
    rgm_json_string(&json, "axes", e->axes);
    rgm_json_string(&json, "unit", e->unit);
    rgm_json_number(&json, "bytes", e->parent >= 0 ? 0.0 : (double)rgm_bytes(e->tensor));
    rgm_json_string(&json, "saved", (e->flags & RGM_STATE) ? "yes" : "no");
    rgm_json_close(&json, '}');
  }
  rgm_json_close(&json, ']');
  rgm_json_close(&json, '}');
}


rgm_status rgm_plan_memory(const rgm_options *options) {
  rgm_run *run = NULL;
  const rgm_status status = plan_run(options, &run);
  if (status == RGM_OK) {
    (options->json ? json_plan : print_plan)(run, options->result);
  }
  rgm_run_free(run);
  return status;
}


static rgm_status check(rgm_run *run, const rgm_options *options) {
  FILE *out = options->result;
  char size[32];
  if (run->algorithm->needs & RGM_NEEDS_FRAME) {
    rgm_frame frame;
    RGM_TRY(rgm_frame_read(run->data.path, &frame));
    fprintf(out, "data         %s: %lld rows, %d columns, SHA-256 %.16s\n", run->data.path,
            (long long)frame.rows, frame.columns, frame.digest);
    rgm_frame_free(&frame);
  } else if (run->algorithm->needs & RGM_NEEDS_TABLE) {
    rgm_table table;
    RGM_TRY(rgm_load_table(run, &table));
    fprintf(out, "data         %s: %lld rows, %d columns, SHA-256 %.16s\n", run->data.path,
            (long long)table.rows, table.columns, table.digest);
    rgm_table_free(&table);
  }
  if (run->transitions != NULL) {
    rgm_transitions_print(run->transitions, out);
  }
  format_bytes(size, (double)rgm_arena_bytes(run->arena));
  fprintf(out, "algorithm    %s (%s)\n", run->algorithm->name, run->algorithm->paper);
  if (run->mdp != NULL) {
    fprintf(out, "problem      %s: %lld states, %lld actions, %lld pairs, %lld non-zeros\n",
            run->env->name, (long long)run->mdp->states, (long long)run->mdp->actions,
            (long long)run->mdp->rows, (long long)run->mdp->entries);
  } else if (run->env != NULL && run->env->cohort != NULL) {
    fprintf(out, "environment  %s, tables of patients\n", run->env->name);
  } else if (run->env != NULL) {
    fprintf(out, "environment  %s, %lld steps an episode\n", run->env->name,
            (long long)run->env->steps(run->env_keys));
  }
  fprintf(out, "device       %s\n", run->device);
  fprintf(out, "replicas     %lld, seeds %lld to %lld\n", (long long)run->replicas,
          (long long)run->keys.seed, (long long)(run->keys.seed + run->replicas - 1));
  fprintf(out, "memory       %s in %d tensors (see `regimen plan`)\n", size,
          rgm_arena_count(run->arena));
  if (run->algorithm->work != NULL) {
    fprintf(out, "work         %lld steps, %.3g %s\n", (long long)run->keys.steps,
            (double)run->keys.steps * run->algorithm->work(run), run->algorithm->work_unit);
  }
  fprintf(out, "%s is fine\n", options->path);
  return RGM_OK;
}


rgm_status rgm_check(const rgm_options *options) {
  if (options->path != NULL &&
      (rgm_dataset_is_file(options->path) || rgm_dataset_is_table(options->path))) {
    return rgm_dataset_report(options->path, options->json, options->show_values, options->result);
  }
  if (options->path != NULL && rgm_mdp_is_file(options->path)) {
    return rgm_mdp_report(options->path, options->json, options->result);
  }
  rgm_run *run = NULL;
  rgm_config *config = NULL;
  RGM_TRY(rgm_load_config(options, &config, NULL));
  const bool sweep = rgm_config_has_sweep(config);
  rgm_config_free(config);
  if (sweep) {
    return rgm_sweep_check(options);
  }
  rgm_status status = plan_run(options, &run);
  if (status == RGM_OK) {
    status = check(run, options);
  }
  rgm_run_free(run);
  return status;
}


// ---- explain -----------------------------------------------------------------------------------

static void explain_env(const rgm_env *env, FILE *out) {
  fprintf(out, "env.name: %s\n%s\n%s\n\n", env->name, env->doc, env->paper);
  if (env->cohort != NULL) {
    rgm_config_explain(out, "env", env->fields);
    return;
  }
  fprintf(out, "observations\n");
  for (int i = 0; i < env->obs_dim; i++) {
    fprintf(out, "  %-12s %-8s %s\n", env->obs[i].name, env->obs[i].unit, env->obs[i].doc);
  }
  fprintf(out, "actions\n");
  for (int i = 0; i < env->act_dim; i++) {
    fprintf(out, "  %-12s %-8s %s\n", env->act[i].name, env->act[i].unit, env->act[i].doc);
  }
  fprintf(out, "metrics of an evaluation\n");
  for (int i = 0; i < env->metric_count; i++) {
    fprintf(out, "  %-18s %-8s %s\n", env->metrics[i].name, env->metrics[i].unit,
            env->metrics[i].doc);
  }
  fprintf(out, "\n");
  rgm_config_explain(out, "env", env->fields);
}


static void explain_algorithm(const rgm_algorithm *algorithm, FILE *out) {
  fprintf(out, "algorithm.name: %s\n%s\n%s\n\n", algorithm->name, algorithm->doc, algorithm->paper);
  rgm_config_explain(out, "algorithm", algorithm->fields);
}


// a section's table, or one row of it where `key` is not NULL
static bool explain_key(const char *section, const rgm_field *fields, const char *key, FILE *out) {
  const size_t length = strlen(section);
  if (strncmp(key, section, length) != 0 || (key[length] != '.' && key[length] != '\0')) {
    return false;
  }
  if (key[length] == '\0') {
    rgm_config_explain(out, section, fields);
    return true;
  }
  bool found = false;
  for (const rgm_field *f = fields; f->key != NULL; f++) {
    if (strcmp(f->key, key + length + 1) == 0) {
      const rgm_field one[] = {*f, {0}};
      rgm_config_explain(out, section, one);
      found = true;
    }
  }
  return found;
}


// the rules of imports: all of them, a section, or one key
static bool explain_import(const char *topic, FILE *out) {
  bool found = false;
  for (const import_section *s = rgm_import_sections; s->name != NULL; s++) {
    const bool all = strcmp(topic, "import") == 0;
    found = explain_key(s->name, s->fields, all ? s->name : topic, out) || found;
  }
  return found;
}


static void explain_all(FILE *out) {
  rgm_config_explain(out, "run", rgm_run_fields);
  rgm_config_explain(out, "eval", rgm_eval_fields);
  rgm_config_explain(out, "data", rgm_dataset_fields);
  rgm_config_explain(out, "sweep", rgm_sweep_fields);
  rgm_config_explain(out, "simulate", rgm_simulate_fields);
  fprintf(out, "\nrules of imports: `regimen explain import`\n");
  fprintf(out, "\nenvironments (`regimen explain NAME` has the keys)\n");
  for (int i = 0; rgm_envs[i] != NULL; i++) {
    fprintf(out, "  %-12s %s\n", rgm_envs[i]->name, rgm_envs[i]->doc);
  }
  fprintf(out, "\nalgorithms\n");
  for (int i = 0; rgm_algorithms[i] != NULL; i++) {
    fprintf(out, "  %-12s %s\n", rgm_algorithms[i]->name, rgm_algorithms[i]->doc);
  }
}


rgm_status rgm_explain(const char *topic, FILE *out) {
  if (topic == NULL) {
    explain_all(out);
    return RGM_OK;
  }
  bool found = explain_key("run", rgm_run_fields, topic, out) ||
               explain_key("eval", rgm_eval_fields, topic, out) ||
               explain_key("data", rgm_dataset_fields, topic, out) ||
               explain_key("sweep", rgm_sweep_fields, topic, out) ||
               explain_key("simulate", rgm_simulate_fields, topic, out) ||
               explain_import(topic, out);
  const char *names[128] = {"run", "eval", "data", "sweep", "simulate", "import"};
  int count = 6;
  for (int i = 0; rgm_envs[i] != NULL; i++) {
    names[count++] = rgm_envs[i]->name;
    if (strcmp(topic, rgm_envs[i]->name) == 0) {
      explain_env(rgm_envs[i], out);
      found = true;
    }
    found = explain_key("env", rgm_envs[i]->fields, topic, out) || found;
  }
  for (int i = 0; rgm_algorithms[i] != NULL; i++) {
    names[count++] = rgm_algorithms[i]->name;
    if (strcmp(topic, rgm_algorithms[i]->name) == 0) {
      explain_algorithm(rgm_algorithms[i], out);
      found = true;
    }
    found = explain_key("algorithm", rgm_algorithms[i]->fields, topic, out) || found;
  }
  if (found) {
    return RGM_OK;
  }
  const char *nearest = rgm_nearest(topic, names);
  return rgm_fail(RGM_EUSAGE, "nothing is called \"%s\"%s%s%s; `regimen explain` lists all", topic,
                  nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
                  nearest != NULL ? "?" : "");
}


// ---- info --------------------------------------------------------------------------------------

static void json_info(const rgm_checkpoint *c, const char *path, FILE *out) {
  rgm_json json = {.out = out};
  rgm_json_open(&json, NULL, '{');
  rgm_json_string(&json, "path", path);
  rgm_json_number(&json, "schema", c->schema);
  rgm_json_number(&json, "step", (double)c->step);
  rgm_json_open(&json, "provenance", '{');
  for (int i = 0; i < c->attribute_count; i++) {
    rgm_json_string(&json, c->attributes[i].name, c->attributes[i].value);
  }
  rgm_json_close(&json, '}');
  rgm_json_open(&json, "tensors", '[');
  for (int i = 0; i < c->record_count; i++) {
    const rgm_record *r = &c->records[i];
    rgm_json_open(&json, NULL, '{');
    rgm_json_string(&json, "name", r->name);
    rgm_json_string(&json, "dtype", rgm_dtype_name(r->dtype));
    rgm_json_open(&json, "shape", '[');
    for (int d = 0; d < r->rank; d++) {
      rgm_json_number(&json, NULL, (double)r->dims[d]);
    }
    rgm_json_close(&json, ']');
    rgm_json_string(&json, "axes", r->axes);
    rgm_json_string(&json, "unit", r->unit);
    rgm_json_close(&json, '}');
  }
  rgm_json_close(&json, ']');
  rgm_json_string(&json, "config", c->config);
  rgm_json_close(&json, '}');
}


static void print_info(const rgm_checkpoint *c, const char *path, FILE *out) {
  char dims[96];
  fprintf(out, "%s: schema %d, step %llu, length and SHA-256 verified\n", path, c->schema,
          (unsigned long long)c->step);
  for (int i = 0; i < c->attribute_count; i++) {
    fprintf(out, "  %-22s %s\n", c->attributes[i].name, c->attributes[i].value);
  }
  fprintf(out, "\n");
  for (int i = 0; i < c->record_count; i++) {
    const rgm_record *r = &c->records[i];
    format_dims(dims, r->rank, r->dims);
    fprintf(out, "  %-22s %-4s %-20s (%s) %s\n", r->name, rgm_dtype_name(r->dtype), dims, r->axes,
            r->unit);
  }
  fprintf(out, "\n%s", c->config);
}


rgm_status rgm_info(const rgm_options *options) {
  if (options->path != NULL && rgm_dataset_is_file(options->path)) {
    return rgm_dataset_info(options->path, options->json, options->result);
  }
  if (options->path != NULL && rgm_mdp_is_file(options->path)) {
    return rgm_mdp_info(options->path, options->json, options->result);
  }
  rgm_config *config = NULL;
  rgm_checkpoint *checkpoint = NULL;
  RGM_TRY(rgm_load_config(options, &config, &checkpoint));
  rgm_config_free(config);
  if (checkpoint == NULL) {
    return rgm_fail(RGM_EUSAGE, "%s is a config, not a run; `regimen check` looks at configs",
                    options->path);
  }
  if (options->json) {
    json_info(checkpoint, options->path, options->result);
  } else {
    print_info(checkpoint, options->path, options->result);
  }
  rgm_checkpoint_free(checkpoint);
  return RGM_OK;
}
