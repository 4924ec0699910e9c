// SPDX-License-Identifier: Apache-2.0
// What the readers and writers of tabular problems share. Private to engine/mdp*.c.

#ifndef RGM_MDP_PRIVATE_H
#define RGM_MDP_PRIVATE_H

#include "engine/csv.h"
#include "engine/mdp.h"

enum { RGM_MDP_SCHEMA = 0x4D440001 }; // of the prefix of our own files

// The next line with numbers: up to `most`; *count -1: the line is text. *done after the last.
rgm_status rgm_numbers_next(rgm_csv *csv, double *value, int most, int *count, bool *done);

// Readers by kind; *out may hold what was read so far after an error, to be freed.
rgm_status rgm_mdp_read_text(const rgm_mdp_source *source, rgm_mdp **out);
rgm_status rgm_mdp_read_icu_sepsis(const rgm_mdp_source *source, rgm_mdp **out);
rgm_status rgm_mdp_read_own(const rgm_mdp_source *source, rgm_mdp **out);
rgm_status rgm_mdp_read_json(const rgm_mdp_source *source, rgm_mdp **out);
rgm_status rgm_mdp_read_petsc(const rgm_mdp_source *source, rgm_mdp **out);
rgm_status rgm_mdp_read_prism(const rgm_mdp_source *source, rgm_mdp **out);
rgm_status rgm_mdp_read_begin(const char *path, rgm_mdp *m);
rgm_status rgm_mdp_read_mask(const char *path, rgm_mdp *m);

// Writers of the allowed rows into an open file.
void rgm_mdp_print_json(const rgm_mdp *m, FILE *out);
void rgm_mdp_print_petsc(const rgm_mdp *m, FILE *out);
void rgm_mdp_print_prism(const rgm_mdp *m, FILE *out);

#endif
