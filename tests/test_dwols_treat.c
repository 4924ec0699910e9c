// SPDX-License-Identifier: Apache-2.0
// Staged rules of treatments with several levels and of doses: what R's DTRreg finds, the truth by
// simulation, resamples against tables that say the same, bits, advice, messages for bad inputs.

#include "algorithms/dwols.h"
#include "kernels/rng.h"
#include "tests/dwols_util.h"

#include <unistd.h>

TestSuite(dwols_treat, .timeout = 300);

enum { PATIENTS = 600, COLUMNS = 8 };

static const char *const levels[] = {"algorithm.outcome=y",
                                     "algorithm.stage1.treatment=a1",
                                     "algorithm.stage2.treatment=a2",
                                     "algorithm.stage1.kind=multinomial",
                                     "algorithm.stage2.kind=multinomial",
                                     NULL};
static const char *const doses[] = {"algorithm.outcome=z",
                                    "algorithm.stage1.treatment=d1",
                                    "algorithm.stage2.treatment=d2",
                                    "algorithm.stage1.kind=continuous",
                                    "algorithm.stage2.kind=continuous",
                                    "algorithm.stage1.square=\"1\"",
                                    "algorithm.stage2.square=\"1\"",
                                    NULL};


// ---- patients ----------------------------------------------------------------------------------

// the minimal standard generator (Park & Miller 1988), exact in doubles: R makes the same
static double uniform(double *state) {
  *state = fmod(48271.0 * *state, 2147483647.0);
  return *state / 2147483647.0;
}


// x1, a1, d1, x2, a2, d2, y, z of tests/dtr_goldens, to the bit
static void draw_patient(double *state, double out[COLUMNS]) {
  const double x1 = 4 * uniform(state) - 2;
  double v = uniform(state) + 0.15 * x1;
  const double a1 = (v > 0.4) + (v > 0.75);
  double t = uniform(state);
  const double d1 = 4 + x1 + 1.5 * (t + uniform(state) - 1);
  const double x2 = 0.5 * x1 + 2 * uniform(state) - 1;
  v = uniform(state) - 0.2 * x2;
  const double a2 = (v > 0.3) + (v > 0.7);
  t = uniform(state);
  const double d2 = 3 - x2 + 1.2 * (t + uniform(state) - 1);
  const double noise = 2 * uniform(state) - 1;
  const double one = (a1 == 1) * (0.5 + x1) + (a1 == 2) * (1 - 0.5 * x1);
  const double two = (a2 == 1) * (1 - x2) + (a2 == 2) * (0.5 * x2);
  const double y = x1 + x1 * x1 + x2 + one + two + noise;
  const double z = x1 + x1 * x1 + x2 + d1 * (1 + 0.3 * x1) - 0.12 * d1 * d1 + d2 * (1 - 0.4 * x2) -
                   0.2 * d2 * d2 + noise;
  const double all[COLUMNS] = {x1, a1, d1, x2, a2, d2, y, z};
  memcpy(out, all, sizeof all);
}


static void write_patients(const char *path, double table[PATIENTS][COLUMNS]) {
  FILE *file = fopen(path, "w");
  cr_assert_not_null(file);
  fprintf(file, "x1,a1,d1,x2,a2,d2,y,z\n");
  for (int i = 0; i < PATIENTS; i++) {
    for (int j = 0; j < COLUMNS; j++) {
      fprintf(file, "%s%.17g", j > 0 ? "," : "", table[i][j]);
    }
    fputc('\n', file);
  }
  fclose(file);
}


static void make_patients(double table[PATIENTS][COLUMNS]) {
  // the last row as R printed it
  static const double last[COLUMNS] = {0.614298881317628,
                                       2,
                                       4.9088325090281817,
                                       0.97958750789034532,
                                       0,
                                       2.2347101921377286,
                                       3.0967064750395243,
                                       5.6860257165645143};
  double state = 20261122;
  for (int i = 0; i < PATIENTS; i++) {
    draw_patient(&state, table[i]);
  }
  cr_assert_eq(memcmp(table[PATIENTS - 1], last, sizeof last), 0);
}


static void table_path(char path[64]) {
  snprintf(path, 64, "/tmp/rgm_treat_%d.csv", (int)getpid());
}


static void make_table(char path[64], double table[PATIENTS][COLUMNS]) {
  table_path(path);
  make_patients(table);
  write_patients(path, table);
}


// a run of two stages over a table: its own keys, then those of a list, ended by NULL, then others
static rgm_status open_stages(const char *path, const char *const *list, const char *const *more,
                              rgm_run **out) {
  char data[128];
  const char *sets[40] = {data,
                          "run.steps=1",
                          "algorithm.name=dwols",
                          "algorithm.stages=2",
                          "algorithm.replicates=0",
                          "algorithm.stage1.propensity=x1",
                          "algorithm.stage2.propensity=x2",
                          "algorithm.stage1.free=x1",
                          "algorithm.stage2.free=x1 + x2",
                          "algorithm.stage1.blip=x1",
                          "algorithm.stage2.blip=x2"};
  int count = 11;
  snprintf(data, sizeof data, "data.path=%s", path);
  for (; *list != NULL; list++) {
    sets[count++] = *list;
  }
  for (; more != NULL && *more != NULL; more++) {
    sets[count++] = *more;
  }
  return open_run(NULL, sets, out);
}


static rgm_run *make_stages(const char *path, const char *const *list, const char *const *more) {
  rgm_run *run;
  cr_assert_eq(open_stages(path, list, more, &run), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(rgm_metrics_memory(&run->metrics), RGM_OK);
  return run;
}


// ---- against DTRreg ----------------------------------------------------------------------------

// Printed by tests/dtr_goldens (R 4.2.2, DTRreg 2.4, nnet 7.3, MASS 7.3; the searches of multinom,
// polr and glm made to end later). psi and sandwich errors of stage 1, then 2, in DTRreg's order of
// terms; the mean outcome under the best treatments. multinom and polr stop at some 1e-8.
static const struct {
  const char *const *list;
  const char *set[4];
  int terms;
  double psi[8], se[8], outcome;
} golden[] = {
    {levels,
     {"algorithm.weight=ipw"},
     8,
     {0.6504848470149, 0.5739436203237, 0.9793193251085, -0.002677709542413, 1.072598643338,
      0.0116746341546, -1.478276134935, 0.06671574157759},
     {0.1407025568519, 0.1638569627675, 0.1473405779829, 0.1710238228547, 0.1392951468344,
      0.1780413404118, 0.1782671066475, 0.255454130083},
     3.678862800704},
    {levels,
     {"algorithm.weight=capped"},
     8,
     {0.6500590069308, 0.5178533705024, 0.9792037954359, 0.0596251884184, 1.078759146094,
      0.01407298640108, -1.489401451489, 0.04884650557657},
     {0.1404136365804, 0.1595526685844, 0.1469754123912, 0.1651664718653, 0.1402540028093,
      0.1761385088777, 0.1795889932092, 0.2479888841661},
     3.625199725482},
    // proportional odds: DTRreg's overlap weights of several levels
    {levels,
     {"algorithm.weight=overlap", "algorithm.stage1.kind=ordinal", "algorithm.stage2.kind=ordinal"},
     8,
     {0.743064480926, 0.5909664391433, 0.7180863440762, 0.02412765152387, 1.006699161787,
      -0.01973252639588, -1.37012709982, 0.1967911027614},
     {0.1336248259121, 0.1620320327637, 0.1470559267933, 0.1666304134681, 0.1377920039548,
      0.1679755196557, 0.1826113879788, 0.2517552721474},
     3.547287269042},
    {levels,
     {"algorithm.method=qlearning"},
     8,
     {0.668129522336, 0.3555891519166, 1.239576865677, 0.8242230856027, 1.08957516395,
      -0.002093398457834, -1.635843746015, -0.4024589477804},
     {0.1383749484307, 0.1770788766163, 0.1445182409739, 0.1607844725104, 0.1386923578147,
      0.1706037003123, 0.1789053135454, 0.211394679488},
     3.451246577258},
    {doses,
     {"algorithm.weight=ipw"},
     6,
     {5.896928289635, -0.7372704790827, 1.804432781764, 3.495162622109, -0.6169436072983,
      -1.492438351094},
     {0.548601253843, 0.06444285564757, 0.09220938837164, 0.7887942420116, 0.1312362740306,
      0.199793685924},
     5.613247677184},
    {doses,
     {"algorithm.weight=capped"},
     6,
     {5.896561088809, -0.7379506799219, 1.809690871587, 3.521211743443, -0.6189124659916,
      -1.500992748991},
     {0.5373767539594, 0.06328891875129, 0.08862175042951, 0.8028241447911, 0.1331370013965,
      0.2008062952753},
     5.61273038598},
    {doses,
     {"algorithm.weight=bins"},
     6,
     {6.741662368365, -0.8390801782656, 1.911329819174, 3.139902640284, -0.5675406873921,
      -1.349575242735},
     {0.5369131518985, 0.06457074535313, 0.09186684314832, 1.268359290642, 0.2046775214209,
      0.2870670340188},
     5.627647194289},
    {doses,
     {"algorithm.weight=overlap"},
     6,
     {3.421771798085, -0.4376553261311, 1.357921470613, 1.900685746299, -0.3404883103421,
      -0.08505326527867},
     {0.9775920033235, 0.118794180018, 0.17098557901, 2.013278315597, 0.3222947513516,
      0.4969959888218},
     5.709922360244},
    {doses,
     {"algorithm.weight=ipw", "algorithm.stage1.family=gamma", "algorithm.stage2.family=gamma"},
     6,
     {2.824274908578, -0.3570207754146, 1.256012387223, 1.572424013902, -0.411944875864,
      -0.8668557789553},
     {0.7963046222733, 0.09690015375066, 0.1742622718486, 0.7444066408494, 0.156153958569,
      0.1587968768375},
     6.103013640699},
    {doses,
     {"algorithm.method=gest"},
     6,
     {1.823942507577, -0.2218695896656, 0.5393138196467, 0.3602181423824, -0.09250367473057,
      -0.3785429471985},
     {0.9235660356915, 0.1137944249987, 0.2509083807123, 1.578168496896, 0.262392943112,
      0.554821402309},
     5.384148432358},
};

Test(dwols_treat, what_dtrreg_finds) {
  // DTRreg's terms in our order: by level, or a's before a^2's
  static const int order[2][4] = {{0, 2, 1, 3}, {0, 2, 1}};
  static double table[PATIENTS][COLUMNS];
  char path[64];
  make_table(path, table);
  for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
    rgm_run *run = make_stages(path, golden[i].list, golden[i].set);
    const int half = golden[i].terms / 2;
    train(run, 1);
    const dwols *d = run->self;
    double y[PATIENTS], outcome = 0.0, all[2 * DWOLS_ALL];
    cr_assert_eq(rgm_read_back(run, d->theta, all), RGM_OK);
    for (int p = 0; p < PATIENTS; p++) {
      y[p] = d->ahead[0].model.y[p];
    }
    for (int k = 0; k < 2; k++) {
      const dwols_stage *s = &d->model->stage[k];
      for (int j = 0; j < half; j++) {
        const int at = k * half + order[half == 3][j];
        const double psi = tensor(run, "psi")[k * half + j], se = golden[i].se[at];
        cr_assert_leq(fabs(psi - golden[i].psi[at]), 3e-7 * se, "%s: psi %d of stage %d: %.13g",
                      golden[i].set[0], j, k + 1, psi);
        close_to(tensor(run, "sandwich") + s->first_all + s->e + s->f + j, &se, 1, 3e-7, "se");
      }
      // regrets recomputed from raw columns and raw psi, on a fine grid of doses
      for (int p = 0; p < PATIENTS; p++) {
        const double x = table[p][3 * k], *psi = tensor(run, "psi") + k * half;
        const double a = table[p][3 * k + (half == 3 ? 2 : 1)];
        double best = 0.0, own = 0.0;
        if (half == 4) {
          const double gain[] = {0.0, psi[0] + psi[1] * x, psi[2] + psi[3] * x};
          best = fmax(gain[0], fmax(gain[1], gain[2]));
          own = gain[(int)a];
        } else {
          const double slope = psi[0] + psi[1] * x, low = s->arms.least, high = s->arms.most;
          best = fmax(slope * low + psi[2] * low * low, slope * high + psi[2] * high * high);
          const double top = -0.5 * slope / psi[2];
          best = top > low && top < high ? fmax(best, slope * top + psi[2] * top * top) : best;
          own = slope * a + psi[2] * a * a;
        }
        y[p] += best - own;
      }
    }
    for (int p = 0; p < PATIENTS; p++) {
      outcome += y[p] / PATIENTS;
    }
    close_to(&outcome, &golden[i].outcome, 1, 1e-7, "outcome under the best treatments");
    rgm_run_free(run);
  }
  unlink(path);
}


// polr on raw columns (tests/dtr_goldens): cuts and slope for levels, and for a dose's five bins
Test(dwols_treat, odds_of_polr) {
  static const double of_levels[] = {-0.34952859186, 1.1371546392, 0.61849718226};
  static const double of_bins[] = {-3.1586789163, -0.77961371556, 1.4702992294, 3.714402206,
                                   2.7995368089};
  static double table[PATIENTS][COLUMNS];
  const char *ordinal[] = {"algorithm.stage1.kind=ordinal", NULL};
  char path[64];
  make_table(path, table);
  rgm_run *run = make_stages(path, levels, ordinal);
  train(run, 1);
  close_to(tensor(run, "coefficients"), of_levels, 3, 1e-6, "odds of levels");
  rgm_run_free(run);
  run = make_stages(path, doses, NULL);
  train(run, 1);
  close_to(tensor(run, "coefficients") + 3, of_bins, 5, 1e-6, "odds of bins");
  rgm_run_free(run);
  unlink(path);
}


// E[a] and E[a^2] of a gamma dose by the midpoint rule over its density, at the fitted mean
Test(dwols_treat, moments_of_a_dose) {
  static double table[PATIENTS][COLUMNS];
  const char *gamma[] = {"algorithm.stage1.family=gamma", "algorithm.weight=ipw", NULL};
  char path[64];
  make_table(path, table);
  rgm_run *run = make_stages(path, doses, gamma);
  train(run, 1);
  const dwols_stage *s = &((dwols *)run->self)->ahead[0].model.stage[0];
  const double *theta = tensor(run, "coefficients");
  double beta[DWOLS_TREAT], expected[2 * PATIENTS];
  dwols_standard(s, theta, beta);
  dwols_expected(s, beta, expected);
  for (int i = 0; i < PATIENTS; i += 60) {
    const double mean = exp(theta[0] + theta[1] * table[i][0]), shape = 1 / theta[2];
    double mass = 0.0, first = 0.0, second = 0.0;
    for (int k = 0; k < 20000; k++) {
      const double a = (k + 0.5) * mean * 5 / 20000;
      const double f = exp((shape - 1) * log(a / mean) - shape * (a / mean - 1));
      mass += f;
      first += f * a;
      second += f * a * a;
    }
    cr_assert_float_eq(expected[2 * i] * s->dose, first / mass, 1e-7 * mean);
    cr_assert_float_eq(expected[2 * i + 1] * s->dose * s->dose, second / mass, 1e-7 * mean * mean);
  }
  rgm_run_free(run);
  unlink(path);
}


// ---- truth by simulation -----------------------------------------------------------------------

enum { COHORTS = 60, SIZE = 500 };

static const double truth[7] = {1, 1.5, 0.5, -1, 1, 0.5, -0.15};

// Three levels, then a dose, with what each loses to the best one: y = 3 + 2 exp(x1) + x2 + noise
// less both. Levels by multinomial logits, doses normal, both by the patient's state.
static void simulate(const char *path, uint32_t cohort) {
  FILE *file = fopen(path, "w");
  rgm_rng rng = {.key = {cohort, 77}};
  cr_assert_not_null(file);
  fprintf(file, "x1,a1,x2,d2,y\n");
  for (int i = 0; i < SIZE; i++) {
    float n[4];
    rgm_normals(rgm_rng_next(&rng), rgm_rng_next(&rng), &n[0], &n[1]);
    rgm_normals(rgm_rng_next(&rng), rgm_rng_next(&rng), &n[2], &n[3]);
    const double x1 = rgm_rng_range(&rng, -1.7, 1.7), x2 = 0.5 * x1 + 0.6 * (double)n[0];
    const double e1 = exp(0.2 + x1), e2 = exp(-0.3 - 0.8 * x1);
    const double u = rgm_rng_range(&rng, 0, 1) * (1 + e1 + e2);
    const int a1 = (u > 1) + (u > 1 + e1);
    const double d2 = 3 + 0.7 * x2 + (double)n[1];
    const double gain[] = {0, truth[0] + truth[1] * x1, truth[2] + truth[3] * x1};
    const double slope = truth[4] + truth[5] * x2, top = -0.5 * slope / truth[6];
    const double lost = fmax(0, fmax(gain[1], gain[2])) - gain[a1] +
                        (slope + truth[6] * top) * top - (slope + truth[6] * d2) * d2;
    fprintf(file, "%.9g,%d,%.9g,%.9g,%.9g\n", x1, a1, x2, d2,
            3 + 2 * exp(x1) + x2 - lost + (double)n[2]);
  }
  fclose(file);
}


// the largest bias over cohorts, in its Monte-Carlo errors, of psi of stage 1 and of stage 2
static void bias_of(const char *set, const char *propensity1, const char *propensity2,
                    const char *free1, const char *free2, double worst[2]) {
  double sum[7] = {0}, square[7] = {0};
  char path[64], text[4][320];
  table_path(path);
  snprintf(text[0], sizeof text[0], "algorithm.stage1.propensity=%s", propensity1);
  snprintf(text[1], sizeof text[1], "algorithm.stage2.propensity=%s", propensity2);
  snprintf(text[2], sizeof text[2], "algorithm.stage1.free=%s", free1);
  snprintf(text[3], sizeof text[3], "algorithm.stage2.free=%s", free2);
  const char *const list[] = {"algorithm.outcome=y",
                              "algorithm.stage1.treatment=a1",
                              "algorithm.stage2.treatment=d2",
                              "algorithm.stage1.kind=multinomial",
                              "algorithm.stage2.kind=continuous",
                              "algorithm.stage2.square=\"1\"",
                              "algorithm.stage2.range=-40, 60",
                              "run.threads=1",
                              set,
                              NULL};
  const char *const more[] = {text[0], text[1], text[2], text[3], NULL};
  for (uint32_t cohort = 0; cohort < COHORTS; cohort++) {
    simulate(path, cohort);
    rgm_run *run = make_stages(path, list, more);
    train(run, 1);
    for (int i = 0; i < 7; i++) {
      const double error = tensor(run, "psi")[i] - truth[i];
      sum[i] += error / COHORTS;
      square[i] += error * error / COHORTS;
    }
    rgm_run_free(run);
  }
  worst[0] = worst[1] = 0.0;
  for (int i = 0; i < 7; i++) {
    const double z = fabs(sum[i]) / sqrt((square[i] - sum[i] * sum[i]) / COHORTS);
    worst[i >= 4] = fmax(worst[i >= 4], z);
  }
  unlink(path);
}


// Either model may be wrong, not both; and weights are needed where the outcome's is.
Test(dwols_treat, truth_by_simulation) {
  static const char top[] = "max(0, max(1 + 1.5 * x1, 0.5 - x1))";
  static const char wrong1[] = "x1";
  static const char wrong2[] = "x1 + x2 + I(a1 == 1) + I(a1 == 2) + I(a1 == 1):x1 + I(a1 == 2):x1";
  static const struct {
    const char *set;
    bool propensity, outcome; // right
    double least, most;       // bias in Monte-Carlo errors
  } rows[] = {
      {"algorithm.weight=stabilised", true, false, 0, 3.5},
      {"algorithm.weight=overlap", true, false, 0, 3.5},
      {"algorithm.method=gest", true, false, 0, 3.5},
      {"algorithm.weight=stabilised", false, true, 0, 3.5},
      {"algorithm.weight=stabilised", false, false, 6, INFINITY},
  };
  char right1[128], right2[256];
  snprintf(right1, sizeof right1, "x1 + exp(x1) + I(%s)", top);
  snprintf(right2, sizeof right2, "%s + exp(x1) + I(x2^2) + I(%s)", wrong2, top);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    double z[2];
    bias_of(rows[i].set, rows[i].propensity ? "x1" : "\"\"", rows[i].propensity ? "x2" : "\"\"",
            rows[i].outcome ? right1 : wrong1, rows[i].outcome ? right2 : wrong2, z);
    for (int k = 0; k < 2; k++) {
      cr_expect(z[k] >= rows[i].least && z[k] <= rows[i].most,
                "%s, propensity %s, outcome %s: bias of stage %d is %.2f errors", rows[i].set,
                rows[i].propensity ? "right" : "wrong", rows[i].outcome ? "right" : "wrong", k + 1,
                z[k]);
    }
  }
}


// ---- resamples ---------------------------------------------------------------------------------

// the table that a resample stands for
static int64_t write_resample(const char *path, double table[PATIENTS][COLUMNS],
                              const uint8_t *counts, int lane) {
  FILE *file = fopen(path, "w");
  int64_t rows = 0;
  cr_assert_not_null(file);
  fprintf(file, "x1,a1,d1,x2,a2,d2,y,z\n");
  for (int i = 0; i < PATIENTS; i++) {
    for (int copy = 0; copy < counts[i * RGM_FIT_LANES + lane]; copy++, rows++) {
      for (int j = 0; j < COLUMNS; j++) {
        fprintf(file, "%s%.17g", j > 0 ? "," : "", table[i][j]);
      }
      fputc('\n', file);
    }
  }
  fclose(file);
  return rows;
}


// every method, kind and weight: psi of a resample are those of its rows as a table
Test(dwols_treat, a_resample_is_its_rows) {
  static const char ordinal[] = "algorithm.stage1.kind=ordinal";
  static const char gamma[] = "algorithm.stage2.family=gamma";
  static const struct {
    const char *const *list;
    const char *set[3];
  } rows[] = {
      {levels, {"algorithm.weight=capped", ordinal}},
      {levels, {"algorithm.weight=stabilised"}},
      {levels, {"algorithm.method=gest"}},
      {doses, {"algorithm.weight=overlap"}},
      {doses, {"algorithm.weight=stabilised", gamma}},
      {doses, {"algorithm.method=gest", gamma}},
  };
  static double table[PATIENTS][COLUMNS];
  char path[64], copy[80];
  make_table(path, table);
  snprintf(copy, sizeof copy, "%s.resample.csv", path);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const bool dose = rows[i].list == doses;
    const char *more[] = {"algorithm.replicates=20",
                          rows[i].set[0],
                          dose ? "algorithm.stage1.range=0, 9" : "run.threads=2",
                          dose ? "algorithm.stage2.range=0, 9" : "run.threads=2",
                          rows[i].set[1],
                          NULL};
    const char *alone[] = {more[1], more[2], more[3], more[4], NULL};
    rgm_run *run = make_stages(path, rows[i].list, more);
    train(run, 1);
    const dwols *d = run->self;
    for (int b = 3; b < 20; b += 16) { // in both groups
      const uint8_t *counts =
          (const uint8_t *)d->counts.data + (b + 1) / RGM_FIT_LANES * PATIENTS * RGM_FIT_LANES;
      cr_assert_eq(write_resample(copy, table, counts, (b + 1) % RGM_FIT_LANES), PATIENTS);
      rgm_run *other = make_stages(copy, rows[i].list, alone);
      train(other, 1);
      const double *got = tensor(run, "replicates") + b * d->model->psi;
      for (int j = 0; j < d->model->psi; j++) {
        const double want = tensor(other, "psi")[j];
        cr_assert_leq(fabs(got[j] - want), 1e-7 * fmax(1, fabs(want)),
                      "%s: resample %d: %.12g, "
                      "not %.12g",
                      rows[i].set[0], b, got[j], want);
      }
      rgm_run_free(other);
    }
    rgm_run_free(run);
  }
  unlink(path);
  unlink(copy);
}


// ---- bits and advice ---------------------------------------------------------------------------

// a dose after levels by name, a value missing here and there
static void write_words(const char *path, double table[PATIENTS][COLUMNS]) {
  static const char *const words[] = {"none", "once", "twice"};
  FILE *file = fopen(path, "w");
  cr_assert_not_null(file);
  fprintf(file, "x1,arm,x2,d2,y\n");
  for (int i = 0; i < PATIENTS; i++) {
    const double *p = table[i];
    fprintf(file, "%.9g,%s,", p[0], words[(int)p[1]]);
    fprintf(file, i % 7 == 3 ? "," : "%.9g,", p[3]);
    fprintf(file, "%.9g,%.9g\n", p[5], p[6] + p[5] * (1 + p[3] - 0.3 * p[5]));
  }
  fclose(file);
}


static const char *const words[] = {"algorithm.outcome=y",
                                    "algorithm.stage1.treatment=arm",
                                    "algorithm.stage2.treatment=d2",
                                    "algorithm.stage1.kind=multinomial",
                                    "algorithm.stage2.kind=continuous",
                                    "algorithm.stage2.square=x2",
                                    "algorithm.stage2.range=0.5, 4",
                                    "algorithm.imputations=3",
                                    "run.steps=3",
                                    "algorithm.replicates=20",
                                    NULL};

// any threads, instruction set or device, stopped and resumed
Test(dwols_treat, same_bits) {
  static double table[PATIENTS][COLUMNS];
  const char *one[] = {"run.threads=1", NULL}, *three[] = {"run.threads=3", "run.isa=avx2", NULL};
  const char *cuda[] = {"run.backend=cuda", NULL};
  char path[64], a[65], b[65];
  table_path(path);
  make_patients(table);
  write_words(path, table);
  rgm_run *alone = make_stages(path, words, one), *begun = make_stages(path, words, three);
  train(alone, 3);
  train(begun, 2);
  rgm_checkpoint *stopped = NULL;
  cr_assert_eq(rgm_run_snapshot(begun, &stopped), RGM_OK);
  rgm_run *resumed = make_stages(path, words, three);
  cr_assert_eq(rgm_run_restore(resumed, stopped, true), RGM_OK, "%s", rgm_last_error());
  train(resumed, 1);
  digest_of(alone, a);
  digest_of(resumed, b);
  cr_assert_str_eq(a, b);

  // counts are drawn on the device, fits are the host's; G-estimation of two levels likewise
  setenv("RGM_CUDA_MODULE", RGM_CUDA_HOST_MODULE, 1);
  rgm_run *device = make_stages(path, words, cuda);
  train(device, 3);
  digest_of(device, b);
  cr_assert_str_eq(a, b);
  rgm_run_free(device);
  const char *gest[] = {"algorithm.method=gest",
                        "algorithm.stage1.treatment=arm == \"once\"",
                        "algorithm.stage2.treatment=d2 > 3",
                        "algorithm.stage1.kind=binary",
                        "algorithm.stage2.kind=binary",
                        "algorithm.stage2.square=\"\"",
                        "algorithm.stage2.range=\"\"",
                        "run.backend=cpu",
                        NULL};
  for (int k = 0; k < 2; k++) {
    rgm_run *run = make_stages(path, words, gest);
    train(run, 3);
    digest_of(run, k == 0 ? a : b);
    rgm_run_free(run);
    gest[7] = "run.backend=cuda";
  }
  cr_assert_str_eq(a, b);
  rgm_checkpoint_free(stopped);
  rgm_run_free(alone);
  rgm_run_free(begun);
  rgm_run_free(resumed);
  unlink(path);
}


// the number after a key of a text of JSON, from a place on
static double number_after(const char *text, const char *key) {
  const char *at = strstr(text, key);
  cr_assert_not_null(at, "no %s in %s", key, text);
  return strtod(at + strlen(key), NULL);
}


// advice from a checkpoint alone: gains by hand from psi, levels by name, the best dose in range
Test(dwols_treat, advice) {
  static double table[PATIENTS][COLUMNS];
  static const char *const ask[] = {"x1=-0.5", "x2=0.25"};
  char path[64], *json = NULL;
  size_t size;
  table_path(path);
  make_patients(table);
  write_words(path, table);
  rgm_run *run = make_stages(path, words, NULL);
  train(run, 3);
  rgm_checkpoint *saved = NULL;
  cr_assert_eq(rgm_run_snapshot(run, &saved), RGM_OK);
  FILE *file = open_memstream(&json, &size);
  rgm_json out = {.out = file};
  const rgm_recommendation r = {.checkpoint = saved,
                                .config = run->config,
                                .keys = rgm_algorithm_keys(run, 0),
                                .set = ask,
                                .set_count = 2,
                                .json = &out};
  cr_assert_eq(run->algorithm->recommend(&r), RGM_OK, "%s", rgm_last_error());
  fclose(file);
  const double *psi = tensor(run, "psi"), *total = tensor(run, "total");
  const double twice = psi[2] - 0.5 * psi[3];
  const double slope = psi[4] + 0.25 * psi[5], square = psi[6] + 0.25 * psi[7];
  const char *level = strstr(json, "\"treatment\": \"twice\""),
             *second = strstr(json, "\"stage\": 2");
  cr_assert(level != NULL && second != NULL && level < second, "%s", json);
  const double gain = number_after(level, "\"blip\": "), se = number_after(level, "\"se\": ");
  const double variance = total[2 * 8 + 2] - total[2 * 8 + 3] + 0.25 * total[3 * 8 + 3];
  cr_assert_float_eq(gain, twice, 1e-12);
  cr_assert_float_eq(se, sqrt(variance), 1e-12);
  const double best = number_after(second, "\"crude\": "), top = -0.5 * slope / square;
  cr_assert(square < 0 && top > 0.5 && top < 4, "the vertex %g lies in the range", top);
  cr_assert_float_eq(best, top, 1e-9);
  cr_assert_float_eq(number_after(second, "\"reference\": "), 0.5, 1e-12);
  const double over = slope * (top - 0.5) + square * (top * top - 0.25);
  cr_assert_float_eq(number_after(second, "\"blip\": "), over, 1e-9);
  free(json);
  rgm_checkpoint_free(saved);
  rgm_run_free(run);
  unlink(path);
}


// what an evaluation tells: files and JSON that agree with psi and with the table
Test(dwols_treat, evaluation) {
  static double table[PATIENTS][COLUMNS];
  char path[64], folder[80], file_name[192], *json = NULL, *text = NULL;
  size_t size[2];
  const char *more[] = {"algorithm.weight=capped", "algorithm.replicates=20", NULL};
  make_table(path, table);
  snprintf(folder, sizeof folder, "%s.d", path);
  cr_assert_eq(mkdir(folder, 0700), 0);
  rgm_run *run = make_stages(path, levels, more);
  train(run, 1);
  snprintf(run->out, sizeof run->out, "%s", folder);
  FILE *out = open_memstream(&json, &size[0]), *words_out = open_memstream(&text, &size[1]);
  rgm_json object = {.out = out};
  cr_assert_eq(run->algorithm->evaluate(run, &object, words_out), RGM_OK, "%s", rgm_last_error());
  fclose(out);
  fclose(words_out);
  cr_assert_not_null(strstr(json, "\"kind\": \"multinomial\""));
  cr_assert_not_null(strstr(json, "\"2: x1\""));
  cr_assert_not_null(strstr(text, "1: x2"));

  // what DTRreg finds is the apparent value of the crude rule
  const char *crude = strstr(json, "\"crude\"");
  cr_assert_not_null(crude);
  cr_assert_float_eq(number_after(crude, "\"apparent_value\": "), golden[1].outcome, 1e-6);
  // 337 and 263 of 600 get the second and third level by DTRreg's rule of stage 1
  const char *given = strstr(crude, "\"levels_1\"");
  cr_assert_not_null(given);
  cr_assert_float_eq(number_after(given, "\"1\": "), 337.0 / 600, 1e-12);

  // the flow: all by advice and level received, as many as there are
  rgm_frame flow;
  double received[2][3] = {{0}}, want[2][3] = {{0}}, advised[2][3] = {{0}}, sure[2][3] = {{0}};
  const double *total = tensor(run, "total"), *psi = tensor(run, "psi");
  snprintf(file_name, sizeof file_name, "%s/figure3_flow.csv", folder);
  cr_assert_eq(rgm_frame_read(file_name, &flow), RGM_OK, "%s", rgm_last_error());
  cr_assert_eq(flow.rows, 2 * 9);
  for (int64_t i = 0; i < flow.rows; i++) {
    const double *row = flow.value + i * flow.columns;
    received[(int)row[0] - 1][(int)row[2]] += row[3];
    advised[(int)row[0] - 1][(int)row[1]] += row[3];
  }
  for (int i = 0; i < PATIENTS; i++) {
    want[0][(int)table[i][1]] += 1;
    want[1][(int)table[i][4]] += 1;
    // the better level, if its interval lies above 0
    for (int k = 0; k < 2; k++) {
      const double x = table[i][3 * k], *p = psi + 4 * k;
      const int best = p[2] + p[3] * x > p[0] + p[1] * x ? 2 : 1, at = 4 * k + 2 * (best - 1);
      const double se = sqrt(total[at * 8 + at] + 2 * x * total[at * 8 + at + 1] +
                             x * x * total[(at + 1) * 8 + at + 1]);
      sure[k][psi[at] + psi[at + 1] * x > 1.959963984540054 * se ? best : 0] += 1;
    }
  }
  cr_assert_eq(memcmp(received, want, sizeof want), 0);
  cr_assert_eq(memcmp(advised, sure, sizeof sure), 0);
  cr_assert(sure[0][0] > 0 && sure[0][1] > 0 && sure[0][2] > 0);
  rgm_frame_free(&flow);
  free(json);
  free(text);
  rgm_run_free(run);
  snprintf(file_name, sizeof file_name, "rm -rf %s %s", folder, path);
  cr_assert_eq(system(file_name), 0);
}


// ---- bad inputs --------------------------------------------------------------------------------

static const struct {
  const char *set[3], *message;
} bad[] = {
    {{"algorithm.stage1.kind=trinary"}, "algorithm.stage1.kind"},
    {{"algorithm.stage1.kind=multinomial", "algorithm.stage1.treatment=x"},
     "stage 1: the treatment x has more than 8 levels; is it a dose"},
    {{"algorithm.stage2.kind=multinomial", "algorithm.stage2.treatment=b * 0"},
     "stage 2: the treatment b * 0 has 1 level in 12"},
    {{"algorithm.stage2.kind=multinomial", "algorithm.stage2.treatment=log(b)"},
     ":2: stage 2: the treatment log(b) is infinite"},
    {{"algorithm.stage1.kind=ordinal", "algorithm.stage1.treatment=log(-x)"},
     ":2: stage 1: the treatment log(-x) is missing"},
    {{"algorithm.stage1.square=x"}, "stage 1: only a dose has one; set stage1.kind: continuous"},
    {{"algorithm.stage2.range=0, 1"}, "algorithm.stage2.range: stage 2: only a dose has one"},
    {{"algorithm.stage2.kind=continuous", "algorithm.stage2.range=1"},
     "algorithm.stage2.range: stage 2: expected the least and the largest dose"},
    {{"algorithm.stage2.kind=continuous", "algorithm.stage2.range=3, 2"},
     "stage 2: expected the least and the largest dose"},
    {{"algorithm.stage2.kind=continuous", "algorithm.stage2.treatment=b * 0 + 2"},
     "stage 2: the dose b * 0 + 2 is the same in all 12"},
    {{"algorithm.stage1.kind=continuous", "algorithm.stage1.family=gamma"},
     ":2: stage 1: the treatment a is not above 0, as doses of a gamma distribution are"},
    {{"algorithm.weight=bins"}, "bins are of doses, stage 1 has levels; use ipw"},
    {{"algorithm.weight=stabilised", "algorithm.single=true"},
     "algorithm.single: treatments of several levels, doses and stabilised weights are in double"},
    {{"algorithm.bins=1"}, "algorithm.bins"},
    {{"algorithm.stage1.kind=continuous", "algorithm.stage1.square=nope"},
     "algorithm.stage1.square: \"nope\": the data have no column nope"},
    {{"algorithm.stage1.kind=continuous", "algorithm.stage1.square=log(x - 1)",
      "algorithm.hierarchy=as_published"},
     ":2: stage 1: square: the term log(x-1) is infinite"},
    {{"algorithm.stage1.kind=continuous", "algorithm.stage1.square=\"1\""},
     "stage 1: blip: the term a^2: 1 follows from"},
    {{"algorithm.stage1.kind=multinomial", "algorithm.stage1.propensity=I(a + x * 0)"},
     "stage 1: propensity: they separate the treatments"},
    {{"algorithm.stage1.kind=continuous", "algorithm.stage1.treatment=z",
      "algorithm.stage1.propensity=z"},
     "stage 1: propensity: the equations are singular"},
};

Test(dwols_treat, bad_inputs) {
  static const char clean[] = "y,a,b,x,z\n1,0,0,1,5\n2,1,0,2,3\n3,0,1,4,4\n2,1,1,3,9\n5,0,0,6,1\n"
                              "4,1,1,5,2\n6,0,0,8,7\n3,1,0,7,6\n7,0,1,9,8\n5,1,1,1,2\n4,0,0,3,3\n"
                              "8,1,1,2,4\n";
  static const char *const own[] = {"algorithm.outcome=y",           "algorithm.stage1.treatment=a",
                                    "algorithm.stage1.propensity=x", "algorithm.stage1.free=x",
                                    "algorithm.stage1.blip=\"\"",    "algorithm.stage2.treatment=b",
                                    "algorithm.stage2.propensity=z", "algorithm.stage2.free=z",
                                    "algorithm.stage2.blip=\"\"",    NULL};
  char path[64];
  table_path(path);
  FILE *file = fopen(path, "w");
  cr_assert_not_null(file);
  fputs(clean, file);
  fclose(file);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const char *more[] = {bad[i].set[0], bad[i].set[1], bad[i].set[2], NULL};
    rgm_run *run = NULL;
    rgm_status status = open_stages(path, own, more, &run);
    if (status == RGM_OK) {
      status = run->algorithm->step(run);
    }
    cr_expect_neq(status, RGM_OK, "case %d is accepted", (int)i);
    cr_expect_not_null(strstr(rgm_last_error(), bad[i].message), "case %d says: %s", (int)i,
                       rgm_last_error());
    rgm_run_free(run);
  }
  unlink(path);
}
