// SPDX-License-Identifier: Apache-2.0
// `regimen recommend`: what a trained rule advises for a patient, from its checkpoint alone.

#include "engine/load.h"
#include "engine/mdp.h"
#include "engine/regimen.h"

#include <string.h>


// the problem that the run was trained on, once more
static rgm_status read_problem(rgm_run *run, const rgm_checkpoint *checkpoint) {
  const char *trained = rgm_checkpoint_attribute(checkpoint, "data_digest");
  RGM_TRY(run->env->tabulate(run->env_keys, run->config, &run->mdp));
  RGM_TRY(rgm_mdp_digest(run->mdp, run->data_digest));
  return trained != NULL && strcmp(trained, run->data_digest) == 0
             ? RGM_OK
             : rgm_fail(RGM_EDATA,
                        "the problem of %s is not what the run was trained on any more; train "
                        "again",
                        run->env->name);
}


static rgm_status recommend(const rgm_options *options, rgm_run *run,
                            const rgm_checkpoint *checkpoint) {
  rgm_json json = {.out = options->json ? options->result : NULL};
  const rgm_recommendation r = {
      .checkpoint = checkpoint,
      .config = run->config,
      .keys = rgm_algorithm_keys(run, 0),
      .mdp = run->mdp,
      .set = options->set,
      .set_count = options->set_count,
      .csv = options->csv,
      .json = &json,
      .text = options->json ? NULL : options->result,
  };
  if (run->algorithm->recommend == NULL) {
    return rgm_fail(RGM_EUSAGE, "%s is a run of %s, which recommends nothing", options->path,
                    run->algorithm->name);
  }
  return run->algorithm->recommend(&r);
}


rgm_status rgm_recommend(const rgm_options *options) {
  rgm_options plain = {.path = options->path, .progress = options->progress};
  rgm_config *config = NULL;
  rgm_checkpoint *checkpoint = NULL;
  rgm_run *run = NULL;
  if (options->path == NULL) {
    return rgm_fail(RGM_EUSAGE, "recommend needs a run folder or a checkpoint");
  }
  RGM_TRY(rgm_load_config(&plain, &config, &checkpoint));
  rgm_status status = rgm_run_read(config, true, &run);
  if (status == RGM_OK && checkpoint == NULL) {
    status = rgm_fail(RGM_EUSAGE, "%s is a config, which must be trained first: regimen train %s",
                      options->path, options->path);
  }
  if (status == RGM_OK && run->algorithm->recommend != NULL && run->env != NULL &&
      run->env->tabulate != NULL) {
    status = read_problem(run, checkpoint);
  }
  if (status == RGM_OK) {
    status = recommend(options, run, checkpoint);
  }
  rgm_run_free(run);
  rgm_checkpoint_free(checkpoint);
  return status;
}
