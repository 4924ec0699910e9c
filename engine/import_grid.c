// SPDX-License-Identifier: Apache-2.0
// Doses become courses (when treatment began, how long it lasted, who is left out), and events
// become an hourly grid: at the beginning of each hour the last value charted, with its age; in
// each hour the amount infused, weighted by time.

#include "engine/import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- courses -----------------------------------------------------------------------------------

// Sets the ends of charted rates: until the next charted time, at most `hold`; the last one holds
// for `last_hold`. Rates charted at the same time are averaged into the first of them, the others
// end when they begin. Doses of a stay are sorted by kind and time.
static void hold_points(const import *m, const import_stay *s) {
  import_dose *d = m->dose + s->dose_at;
  const int64_t most = (int64_t)(m->rules.key.hold * HOUR);
  const int64_t last = (int64_t)(m->rules.key.last_hold * HOUR);
  for (int64_t i = 0; i < s->dose_count;) {
    int64_t next = i + 1;
    if (d[i].kind == DOSE_POINT) {
      double sum = d[i].value;
      for (; next < s->dose_count && d[next].kind == DOSE_POINT && d[next].start == d[i].start;
           next++) {
        sum += d[next].value;
        d[next].value = 0;
        d[next].end = d[next].start;
      }
      d[i].value = sum / (double)(next - i);
      const bool followed = next < s->dose_count && d[next].kind == DOSE_POINT;
      const int64_t gap = followed ? d[next].start - d[i].start : last;
      d[i].end = d[i].start + (followed && gap > most ? most : gap);
    }
    i = next;
  }
}


static int64_t floor_hour(int64_t t) {
  return t - (t % HOUR + HOUR) % HOUR;
}


// t0 = the beginning of the hour of the first rate above 0; total = until the last one ends
static void find_course(const import *m, import_stay *s) {
  int64_t first = INT64_MAX, last = INT64_MIN;
  for (int64_t i = 0; i < s->dose_count; i++) {
    const import_dose *d = &m->dose[s->dose_at + i];
    if (d->kind != DOSE_BOLUS && d->value > 0) {
      first = d->start < first ? d->start : first;
      last = d->end > last ? d->end : last;
    }
  }
  if (first == INT64_MAX) {
    s->used = false;
    return;
  }
  s->t0 = floor_hour(first);
  s->total = (double)(last - s->t0) / HOUR;
  const double most = m->rules.key.hours_max;
  const double hours = ceil(s->total);
  s->hours = (int)(hours > most ? most : hours < 1 ? 1 : hours);

  // what ended it: death or discharge within the last hour come before a stop
  const int64_t end = s->t0 + (int64_t)s->hours * HOUR;
  s->end = hours > most                               ? END_CUT
           : s->death != INT64_MIN && s->death <= end ? END_DEATH
           : s->out != INT64_MIN && s->out <= end     ? END_LEFT
                                                      : END_STOPPED;
}


// the rates per kg that no weight of their row resolved
static void resolve_weights(import *m) {
  for (int64_t i = 0; i < m->stay_count; i++) {
    import_stay *s = &m->stay[i];
    for (int64_t k = 0; k < s->dose_count; k++) {
      import_dose *d = &m->dose[s->dose_at + k];
      if (d->per_kg) {
        d->value *= s->admission_weight; // NaN where there is none
        d->per_kg = false;
        s->unknown_unit |= isnan(d->value);
      }
    }
  }
}


// keeps the used stays, and numbers their patients
static rgm_status compact(import *m) {
  int64_t kept = 0;
  for (int64_t i = 0; i < m->stay_count; i++) {
    if (m->stay[i].used) {
      m->stay[kept++] = m->stay[i];
    }
  }
  m->stay_count = kept;
  RGM_TRY(rgm_import_index_patients(m));
  int32_t patient = -1;
  for (int64_t i = 0; i < kept; i++) {
    import_stay *s = &m->stay[m->by_patient[i]];
    patient += i == 0 || s->patient_id != m->stay[m->by_patient[i - 1]].patient_id;
    s->patient = patient;
  }
  return RGM_OK;
}


rgm_status rgm_import_courses(import *m) {
  const import_keys *key = &m->rules.key;
  char rule[128];
  for (int64_t i = 0; i < m->stay_count; i++) {
    m->stay[i].used &= m->stay[i].patient_id >= 0;
  }
  snprintf(rule, sizeof rule, "with a charted %.40s rate above 0", key->name);
  rgm_import_note_flow(m, rule);

  resolve_weights(m);
  for (int64_t i = 0; i < m->stay_count; i++) {
    m->stay[i].used &= !m->stay[i].unknown_unit;
  }
  rgm_import_note_flow(m, "with all rates in known units");

  for (int64_t i = 0; i < m->stay_count && !m->ageless; i++) {
    m->stay[i].used &= m->stay[i].age >= key->age_min;
  }
  if (!m->ageless) {
    snprintf(rule, sizeof rule, "aged %g or older", key->age_min);
    rgm_import_note_flow(m, rule);
  }

  for (int64_t i = 0; i < m->stay_count; i++) {
    import_stay *s = &m->stay[i];
    if (s->used) {
      hold_points(m, s);
      find_course(m, s);
    }
    if (s->used && key->hours_rule != HOURS_ALL) {
      s->used = ceil(s->total) >= key->hours_min; // in hours of the grid
      s->first = key->hours_rule == HOURS_LANDMARK ? (int)ceil(key->hours_min) : 0;
      s->used &= s->first < s->hours;
    }
  }
  if (key->hours_rule != HOURS_ALL) {
    snprintf(rule, sizeof rule,
             key->hours_rule == HOURS_PAPER ? "treated for %g h or longer (looks into the future)"
                                            : "still treated after %g h, where learning begins",
             key->hours_min);
    rgm_import_note_flow(m, rule);
  }
  RGM_TRY(compact(m));
  if (m->stay_count == 0) {
    return rgm_fail(RGM_EDATA,
                    "%s: no stay is left after the cohort rules; are dose.* and cohort.* right for "
                    "these tables?",
                    m->folder);
  }
  return RGM_OK;
}


// ---- events ------------------------------------------------------------------------------------

static int compare_events(const import_event *a, const import_event *b) {
  if (a->what != b->what) {
    return a->what < b->what ? -1 : 1;
  }
  if (a->time != b->time) {
    return a->time < b->time ? -1 : 1;
  }
  return a->value < b->value ? -1 : a->value > b->value;
}


static void sift(import_event *e, int64_t root, int64_t count) {
  const import_event moved = e[root];
  for (int64_t child; (child = 2 * root + 1) < count; root = child) {
    child += child + 1 < count && compare_events(&e[child], &e[child + 1]) < 0;
    if (compare_events(&moved, &e[child]) >= 0) {
      break;
    }
    e[root] = e[child];
  }
  e[root] = moved;
}


// heapsort: in place, whatever the order of the rows was
static void sort_events(import_event *e, int64_t count) {
  for (int64_t i = count / 2; i-- > 0;) {
    sift(e, i, count);
  }
  for (int64_t last = count; last-- > 1;) {
    const import_event largest = e[0];
    e[0] = e[last];
    e[last] = largest;
    sift(e, 0, last);
  }
}


// A series of one stay and variable: times ascending, each once.
typedef struct series {
  int64_t count, room;
  double *time, *value; // s from t0
} series;

static rgm_status push(series *s, double time, double value) {
  if (s->count == s->room) {
    const int64_t room = s->room == 0 ? 256 : 2 * s->room;
    double *t = realloc(s->time, (size_t)room * sizeof *t);
    s->time = t != NULL ? t : s->time;
    double *v = realloc(s->value, (size_t)room * sizeof *v);
    s->value = v != NULL ? v : s->value;
    if (t == NULL || v == NULL) {
      return rgm_fail(RGM_EMEMORY, "no memory for a series of %lld values", (long long)room);
    }
    s->room = room;
  }
  s->time[s->count] = time;
  s->value[s->count++] = value;
  return RGM_OK;
}


// the events [from, to) of one slot, those of the same time averaged (or the largest taken)
static rgm_status collapse(const import_event *e, int64_t from, int64_t to, bool largest,
                           series *out) {
  out->count = 0;
  for (int64_t i = from; i < to;) {
    double sum = 0;
    int64_t n = 0;
    for (; i + n < to && e[i + n].time == e[i].time; n++) {
      sum += e[i + n].value;
    }
    RGM_TRY(push(out, e[i].time, largest ? e[i + n - 1].value : sum / (double)n));
    i += n;
  }
  return RGM_OK;
}


// the part's value at this time, NaN where it was not charted then
static double part_at(const series *part, int64_t *at, double time) {
  while (*at < part->count && part->time[*at] < time) {
    ++*at;
  }
  return *at < part->count && part->time[*at] == time ? part->value[*at] : NAN;
}


static double either(double a, double b, double otherwise) {
  return !isnan(a) ? a : !isnan(b) ? b : otherwise;
}


// Sum of motor, verbal and eye response at every time that one of them was charted. A part that was
// not charted then is the one of the time before, if that was less than 6 h ago, or else normal. A
// verbal response under a tube (0) makes the sum 15 or missing.
static rgm_status sum_gcs(const import_variable *v, const series part[3], series *out) {
  int64_t at[3] = {0};
  double before[3] = {NAN, NAN, NAN}, before_time = -INFINITY;
  out->count = 0;
  for (;;) {
    double time = INFINITY, now[3];
    for (int p = 0; p < 3; p++) {
      time = at[p] < part[p].count ? fmin(time, part[p].time[at[p]]) : time;
    }
    if (isinf(time)) {
      return RGM_OK;
    }
    const bool recent = before_time > time - 6 * HOUR;
    for (int p = 0; p < 3; p++) {
      now[p] = part_at(&part[p], &at[p], time);
      at[p] += !isnan(now[p]);
      before[p] = recent ? before[p] : NAN;
    }
    const bool tube = now[1] == 0 || (isnan(now[1]) && before[1] == 0);
    const bool was_tube = before[1] == 0;
    double sum = 15;
    if (!tube) {
      sum = either(now[0], was_tube ? NAN : before[0], 6) +
            either(now[1], was_tube ? NAN : before[1], 5) +
            either(now[2], was_tube ? NAN : before[2], 4);
    }
    if (!tube || v->tube_score == TUBE_NORMAL) {
      RGM_TRY(push(out, time, sum));
    }
    memcpy(before, now, sizeof before);
    before_time = time;
  }
}


// Daily and admission weights (parts 0 and 1) as one series: the first admission weight counts from
// 2 h before the stay, and before any other weight the first one does, unless `backfill` is off.
static rgm_status join_weights(const series part[2], double begin, bool backfill, series *out) {
  series admit = part[1];
  out->count = 0;
  int64_t a = 0, b = 0;
  if (admit.count > 0 && backfill) {
    // moved to the beginning
    RGM_TRY(push(out, begin, admit.value[0]));
    b = 1;
  }
  while (a < part[0].count || b < admit.count) {
    const bool daily = b == admit.count || (a < part[0].count && part[0].time[a] <= admit.time[b]);
    const double time = daily ? part[0].time[a] : admit.time[b];
    const double value = daily ? part[0].value[a] : admit.value[b];
    if (out->count == 0 && time > begin && backfill) {
      RGM_TRY(push(out, begin, value));
    }
    RGM_TRY(push(out, time, value));
    a += daily;
    b += !daily;
  }

  // what was charted before `begin` goes in front
  for (int64_t i = 1; i < out->count; i++) {
    for (int64_t k = i; k > 0 && out->time[k] < out->time[k - 1]; k--) {
      const double time = out->time[k], value = out->value[k];
      out->time[k] = out->time[k - 1];
      out->value[k] = out->value[k - 1];
      out->time[k - 1] = time;
      out->value[k - 1] = value;
    }
  }
  return RGM_OK;
}


// ---- the grid ----------------------------------------------------------------------------------

// a series into the rows of a stay: last value at or before each hour, not older than lookback
static void hold_last(const import_panel *p, const import_variable *v, int variables, int index,
                      const series *s, int64_t row, int first, int hours) {
  int64_t at = -1;
  for (int h = 0; h < hours; h++) {
    while (at + 1 < s->count && s->time[at + 1] <= (double)h * HOUR) {
      at++;
    }
    if (h < first || at < 0 || s->time[at] < -v->lookback * HOUR) {
      continue;
    }
    const int64_t cell = (row + h - first) * variables + index;
    p->value[cell] = s->value[at];
    p->age[cell] = h - s->time[at] / HOUR;
  }
}


// the monitor: the last value within each hour, and what is held at its end
static void watch(const import_panel *p, const import_variable *v, const series *s, int64_t row,
                  int first, int hours) {
  int64_t at = -1;
  for (int h = 0; h < hours; h++) {
    double fresh = NAN;
    while (at + 1 < s->count && s->time[at + 1] < (double)(h + 1) * HOUR) {
      at++;
      fresh = s->time[at] >= (double)h * HOUR ? s->value[at] : NAN;
    }
    if (h >= first) {
      p->fresh[row + h - first] = fresh;
      // charted on the hour: seen at its beginning
      int64_t end = at;
      while (end + 1 < s->count && s->time[end + 1] <= (double)(h + 1) * HOUR) {
        end++;
      }
      const bool held = end >= 0 && s->time[end] >= -v->lookback * HOUR;
      p->next[row + h - first] = held ? s->value[end] : NAN;
    }
  }
}


// values that a stay has once
static double constant_of(const import *m, int index, const import_stay *s) {
  if (m->constant != NULL) {
    return m->constant[s->id * (m->rules.variable_count + m->panel.outcome_count) + index];
  }
  const int how = m->rules.variable[index].how;
  return how == HOW_AGE         ? s->age
         : how == HOW_MALE      ? (s->male < 0 ? NAN : s->male)
         : how == HOW_ADMISSION ? s->admission_weight
                                : NAN;
}


bool rgm_import_is_constant(const import_variable *v) {
  return v->how == HOW_AGE || v->how == HOW_MALE || v->how == HOW_ADMISSION || v->how == HOW_STATIC;
}


// one variable of one stay, whose events are [from, to)
static rgm_status fill_variable(import *m, const import_stay *s, int index, int64_t from,
                                int64_t to, int64_t row, series part[4]) {
  const import_variable *v = &m->rules.variable[index];
  const import_panel *p = &m->panel;
  const int variables = m->rules.variable_count;
  if (rgm_import_is_constant(v)) {
    for (int64_t i = 0; i < s->hours - s->first; i++) {
      const int64_t cell = (row + i) * variables + index;
      p->value[cell] = constant_of(m, index, s);
      p->age[cell] = isnan(p->value[cell]) ? NAN : 0;
    }
    return RGM_OK;
  }
  for (int k = 0; k < IMPORT_PARTS; k++) {
    int64_t end = from;
    while (end < to && m->rules.slot_part[m->event[end].what & 255] == k) {
      end++;
    }
    RGM_TRY(collapse(m->event, from, end, v->how == HOW_GCS, &part[k]));
    from = end;
  }
  series *result = &part[0];
  if (v->how == HOW_GCS) {
    result = &part[3];
    RGM_TRY(sum_gcs(v, part, result));
  } else if (v->how == HOW_WEIGHT) {
    result = &part[3];
    const double begin = s->in == INT64_MIN ? -1e9 : (double)(s->in - s->t0) - 2 * HOUR;
    RGM_TRY(join_weights(part, begin, v->backfill, result));
  }
  hold_last(p, v, variables, index, result, row, s->first, s->hours);
  if (index == m->rules.monitor) {
    watch(p, v, result, row, s->first, s->hours);
  }
  return RGM_OK;
}


// units infused and given at once in every hour
static void fill_doses(const import *m, const import_stay *s, int64_t row) {
  for (int64_t i = 0; i < s->dose_count; i++) {
    const import_dose *d = &m->dose[s->dose_at + i];
    for (int h = s->first; h < s->hours; h++) {
      const int64_t begin = s->t0 + (int64_t)h * HOUR, end = begin + HOUR;
      if (d->kind == DOSE_BOLUS) {
        m->panel.bolus[row + h - s->first] += d->start >= begin && d->start < end ? d->value : 0;
        continue;
      }
      const int64_t from = d->start > begin ? d->start : begin, to = d->end < end ? d->end : end;
      if (to > from) {
        m->panel.dose[row + h - s->first] += (double)(to - from) / HOUR * d->value;
      }
    }
  }
}


static rgm_status fill_stay(import *m, int64_t index, int64_t row, series part[4]) {
  const import_stay *s = &m->stay[index];
  import_panel *p = &m->panel;
  const int n = s->hours - s->first;
  for (int i = 0; i < n; i++) {
    const bool last = i == n - 1;
    const bool cut = s->end == END_CUT || (s->end == END_STOPPED && !m->rules.key.stop_terminates);
    p->episode[row + i] = (int32_t)index;
    p->patient[row + i] = s->patient;
    p->time[row + i] = s->first + i;
    p->terminated[row + i] = last && !cut;
    p->truncated[row + i] = last && cut;
    p->end[row + i] = (uint8_t)s->end;
    for (int k = 0; k < p->outcome_count; k++) {
      p->outcome[(row + i) * p->outcome_count + k] =
          m->constant != NULL ? constant_of(m, m->rules.variable_count + k, s)
          : s->died < 0       ? NAN
                              : s->died;
    }
  }
  fill_doses(m, s, row);
  int64_t from = s->event_at;
  for (int v = 0; v < m->rules.variable_count; v++) {
    int64_t to = from;
    while (to < s->event_at + s->event_count &&
           m->rules.slot_variable[m->event[to].what & 255] == v) {
      to++;
    }
    RGM_TRY(fill_variable(m, s, v, from, to, row, part));
    from = to;
  }
  return RGM_OK;
}


rgm_status rgm_import_grid(import *m) {
  sort_events(m->event, m->event_count);
  for (int64_t i = 0; i < m->event_count; i++) {
    import_stay *s = &m->stay[m->event[i].what >> 8];
    s->event_at = s->event_count == 0 ? i : s->event_at;
    s->event_count++;
  }
  int64_t rows = 0;
  for (int64_t i = 0; i < m->stay_count; i++) {
    rows += m->stay[i].hours - m->stay[i].first;
  }
  if (m->constant == NULL) {
    snprintf(m->panel.outcome_name[0], 64, "died_in_hospital");
    m->panel.outcome_count = 1;
  }
  RGM_TRY(rgm_import_panel_alloc(m, rows));
  series part[4] = {0};
  rgm_status status = RGM_OK;
  int64_t row = 0;
  for (int64_t i = 0; i < m->stay_count && status == RGM_OK; i++) {
    status = fill_stay(m, i, row, part);
    row += m->stay[i].hours - m->stay[i].first;
  }
  for (int k = 0; k < 4; k++) {
    free(part[k].time);
    free(part[k].value);
  }
  return status;
}
