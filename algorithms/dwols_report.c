// SPDX-License-Identifier: Apache-2.0
#include "algorithms/dwols.h"
rgm_status dwols_evaluate(rgm_run *run, rgm_json *json, FILE *text) {
  (void)run;
  (void)json;
  (void)text;
  return RGM_OK;
}
rgm_status dwols_recommend(const rgm_recommendation *r) {
  (void)r;
  return RGM_OK;
}
