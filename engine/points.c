// SPDX-License-Identifier: Apache-2.0
// The points of a search space: counted, drawn, changed by a step, made into the run of a trial.
// Values stay texts: what a table of results shows is what a trial was given, to the last digit.

#include "engine/space.h"

#include "engine/config_private.h"
#include "kernels/rng.h"

#include <math.h>


// a number as a table of results shows it, inside the range
static char *write_value(const rgm_dimension *dim, double x) {
  if (dim->whole) {
    return format_text("%lld", (long long)x);
  }
  char text[40];
  snprintf(text, sizeof text, "%.6g", x);
  const double back = strtod(text, NULL);
  return back < dim->min || back > dim->max
             ? format_text("%.17g", fmin(fmax(x, dim->min), dim->max))
             : format_text("%s", text);
}


// the place u in [0, 1] of a dimension
static char *value_at(const rgm_dimension *dim, double u) {
  if (dim->values != NULL) {
    const int i = (int)(u * dim->count);
    const char *text = dim->values[i < dim->count ? i : dim->count - 1];
    return copy_text(text, strlen(text));
  }
  double low = dim->min, high = dim->max;
  if (dim->whole) {
    // every whole number has the same share
    low -= dim->log ? 0.0 : 0.5;
    high += dim->log ? 0.0 : 0.5;
  }
  const double x = dim->log ? exp(log(low) + u * (log(high) - log(low))) : low + u * (high - low);
  return write_value(dim, dim->whole ? fmin(fmax(nearbyint(x), dim->min), dim->max) : x);
}


static double draw(const rgm_space *space, int64_t trial, int dim, uint32_t count) {
  const uint64_t seed = (uint64_t)space->keys.seed;
  const uint32_t words[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  const rgm_key key = rgm_stream_key(words, RGM_RANDOM_SWEEP);
  return rgm_unit64(rgm_philox(key, (uint32_t)trial, (uint32_t)dim, count, 0).w0);
}


bool rgm_space_holds(const rgm_space *space, int d, char *const *values) {
  const rgm_dimension *dim = &space->dims[d];
  const char *text = NULL;
  if (dim->when_key == NULL) {
    return true;
  }
  for (int k = 0; k < d; k++) {
    text = strcmp(space->dims[k].key, dim->when_key) == 0 ? values[k] : text;
  }
  if (text == NULL) {
    const config_slot *slot = rgm_config_slot(space->config, dim->when_key);
    text = slot != NULL ? slot->text : "";
  }
  for (int i = 0; i < dim->when_count; i++) {
    if (strcmp(dim->when[i], text) == 0) {
      return true;
    }
  }
  return false;
}


// The values at a place of the grid, the last dimension fastest; false where a dimension that does
// not count is not at its first value: the same point stands elsewhere.
static bool grid_place(const rgm_space *space, int64_t place, char **values, bool *memory) {
  bool once = true;
  int index[RGM_MAX_DIMENSIONS];
  for (int d = space->dim_count - 1; d >= 0; d--) {
    index[d] = (int)(place % space->dims[d].count);
    place /= space->dims[d].count;
  }
  for (int d = 0; d < space->dim_count; d++) {
    const rgm_dimension *dim = &space->dims[d];
    values[d] = NULL;
    if (!rgm_space_holds(space, d, values)) {
      once = once && index[d] == 0;
    } else {
      values[d] = dim->values != NULL
                      ? copy_text(dim->values[index[d]], strlen(dim->values[index[d]]))
                      : value_at(dim, dim->count > 1 ? index[d] / (dim->count - 1.0) : 0.5);
      *memory = *memory && values[d] != NULL;
    }
  }
  return once;
}


// how many points there are, and of which search
rgm_status rgm_space_count(rgm_space *space) {
  bool countable = true;
  double points = 1;
  char text[160];
  for (int d = 0; d < space->dim_count; d++) {
    countable = countable && space->dims[d].count > 0;
    points *= space->dims[d].count;
  }
  const rgm_sweep_keys *k = &space->keys;
  space->grid = k->search == RGM_SEARCH_GRID || (k->search == RGM_SEARCH_AUTO && k->trials == 0);
  if (!space->grid) {
    space->points = k->trials;
    return k->trials > 0 ? RGM_OK
                         : rgm_space_fail(space, NULL, "trials", "a random search needs trials: N");
  }
  for (int d = 0; d < space->dim_count && !countable; d++) {
    if (space->dims[d].count == 0) {
      return rgm_space_fail(space, &space->dims[d], NULL,
                            "a range has no end of points: give it a count for a grid, or trials: "
                            "N for a random search");
    }
  }
  if (k->trials > 0 || points > 1e6) {
    snprintf(text, sizeof text, "the grid has %.0f points; %s", points,
             points > 1e6 ? "a random search takes trials: N of them"
                          : "leave trials out, or choose search: random");
    return rgm_space_fail(space, NULL, "trials", text);
  }
  // those that a condition makes alike count once
  const int64_t all = (int64_t)points;
  space->places = malloc((size_t)all * sizeof *space->places);
  if (space->places == NULL) {
    return rgm_config_no_memory();
  }
  for (int64_t place = 0; place < all; place++) {
    char *values[RGM_MAX_DIMENSIONS];
    bool memory = true;
    if (grid_place(space, place, values, &memory)) {
      space->places[space->points++] = place;
    }
    for (int d = 0; d < space->dim_count; d++) {
      free(values[d]);
    }
    RGM_TRY(memory ? RGM_OK : rgm_config_no_memory());
  }
  return RGM_OK;
}


rgm_status rgm_space_point(const rgm_space *space, int64_t index, char **values) {
  bool memory = true;
  if (space->grid) {
    (void)grid_place(space, space->places[index], values, &memory);
    return memory ? RGM_OK : rgm_config_no_memory();
  }
  for (int d = 0; d < space->dim_count; d++) {
    const rgm_dimension *dim = &space->dims[d];
    const bool counts = rgm_space_holds(space, d, values);
    values[d] = counts ? value_at(dim, draw(space, index, d, 0)) : NULL;
    memory = memory && (!counts || values[d] != NULL);
  }
  return memory ? RGM_OK : rgm_config_no_memory();
}


rgm_status rgm_space_perturb(const rgm_space *space, int d, const char *text, int64_t trial,
                             uint32_t count, char **out) {
  const rgm_dimension *dim = &space->dims[d];
  const double u = draw(space, trial, d, count);
  const bool up = u > 0.5;
  if (text == NULL) {
    *out = value_at(dim, u);
  } else if (dim->values == NULL) {
    const double old = strtod(text, NULL);
    const double x = old * (up ? space->keys.factor : 1.0 / space->keys.factor);
    // a small whole number would stay what it is for ever
    const double whole = nearbyint(x) == old ? old + (up ? 1 : -1) : nearbyint(x);
    *out = write_value(dim, fmin(fmax(dim->whole ? whole : x, dim->min), dim->max));
  } else {
    int i = 0;
    while (i < dim->count && strcmp(dim->values[i], text) != 0) {
      i++;
    }
    i += up ? 1 : -1;
    i = i < 0 ? 0 : i >= dim->count ? dim->count - 1 : i;
    *out = copy_text(dim->values[i], strlen(dim->values[i]));
  }
  return *out != NULL ? RGM_OK : rgm_config_no_memory();
}


int64_t rgm_space_seed(const rgm_space *space, int64_t index) {
  const bool own = space->keys.scheduler == RGM_SCHEDULE_PBT;
  return space->run->keys.seed + (own ? index * space->keys.seeds : 0);
}


rgm_status rgm_space_member(const rgm_space *space, int64_t index, char *const *values,
                            rgm_run **out) {
  char *sets[RGM_MAX_DIMENSIONS + 2] = {NULL};
  int count = 0;
  bool good = true;
  *out = NULL;
  for (int d = 0; d < space->dim_count; d++) {
    if (values[d] != NULL) {
      sets[count] = format_text("%s=%s", space->dims[d].key, values[d]);
      good = good && sets[count++] != NULL;
    }
  }
  sets[count] = format_text("run.replicas=%lld", (long long)space->keys.seeds);
  good = good && sets[count++] != NULL;
  sets[count] = format_text("run.seed=%lld", (long long)rgm_space_seed(space, index));
  good = good && sets[count++] != NULL;
  rgm_config *config = NULL;
  rgm_status status =
      good ? rgm_config_parse("sweep", space->base, (const char *const *)sets, count, &config)
           : rgm_config_no_memory();
  for (int i = 0; i < count; i++) {
    free(sets[i]);
  }
  return status == RGM_OK ? rgm_run_read(config, true, out) : status;
}


char *rgm_space_shape(const rgm_config *config) {
  char *text = NULL;
  size_t size = 0;
  FILE *out = open_memstream(&text, &size);
  if (out == NULL) {
    return NULL;
  }
  for (int i = 0; i < config->slot_count; i++) {
    const config_slot *slot = &config->slots[i];
    if (slot->field->flags & RGM_SHAPE) {
      fprintf(out, "%s: %s\n", slot->key, slot->text);
    }
  }
  return rgm_config_close(out, &text) ? text : NULL;
}
