# What strategies are worth: speed, forests, simulated patients whose truth is known, audits of
# estimators on thousands of cohorts. Sourced by tools/show.

ci="$ci aki"
more="$more aki-truth aki-faults adr-whole"

# aki_row WHAT FILE SUITE: all biases at once and the mean coverage of an audit
aki_row() {
  local p c n
  n=$(jq .cohorts "$2") p=$(jq ".$3.bias_p" "$2") c=$(jq ".$3.coverage" "$2")
  row "$1: biases, $n cohorts" "p > 0.001" "p = $(printf %.3g "$p")" "$(holds "$p > 0.001")"
  row "$1: 95 % intervals cover" "0.95, within 0.02" "$(printf %.4f "$c")" "$(holds "$c > 0.93 && $c < 0.97")"
}

# aki_blips WHAT FILE: biases over an estimate's deviation (a quarter is of no account, Efron & Tibshirani
# 1993, 10.3), and coverage. Some are seen in 2,000
# cohorts: stages before the last take max(blip, 0) of estimates for what the rule earns later, which is
# too much (Robins 2004), and treatment-free models that are linear leave what the untreated lose
aki_blips() {
  local z c p
  z=$(jq '[.dwols.estimands[] | (.bias / .sd) | fabs] | max' "$2")
  c=$(jq .dwols.coverage "$2") p=$(jq .dwols.bias_p "$2")
  row "$1: largest bias, deviations" "< 0.25" "$(printf %.3f "$z")" "$(holds "$z < 0.25")"
  row "$1: 95 % intervals cover" "0.95, within 0.02" "$(printf %.4f "$c")" "$(holds "$c > 0.93 && $c < 0.97")"
  printf '  %s: all twelve biases at once, p = %.3g (largest |z| %.2f)\n' "$1" "$p" "$(jq .dwols.largest_z "$2")"
}

# aki_bias WHAT FILE SUITE ESTIMAND: a bias that is known, over its error
aki_bias() {
  local z b
  z=$(jq ".$3.estimands.\"$4\".z" "$2") b=$(jq ".$3.estimands.\"$4\".bias" "$2")
  row "$1" "a bias (|z| > 4)" "$(printf '%.3g, z = %.1f' "$b" "$z")" "$(holds "$z * $z > 16")"
}

show_aki() {
  local n
  dtr_tests test_forest "forests: exhaustive search, scikit-learn"
  $bin simulate configs/rrt_simulate.yaml -o "$work/c.csv" --quiet --set env.bounded=true >/dev/null
  n=$(wc -l <"$work/c.csv")
  row "patients of the development cohort" 3748 "$((n - 1))" "$([ "$n" = 3749 ] && echo 1 || echo 0)"
  n=$(awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next } { s += $c["a3"] } END { print s / (NR - 1) }' "$work/c.csv")
  row "who start within three days" "0.107" "$n" "$(holds "$n > 0.087 && $n < 0.127")"
  $bin eval configs/rrt_audit_values.yaml --quiet --json --set algorithm.cohorts=60 \
    --set algorithm.truth=50000 >"$work/a.json"
  n=$(jq .adr.bias_p "$work/a.json")
  row "adr, 60 cohorts, biases at once" "p > 0.001" "p = $(printf %.3g "$n")" "$(holds "$n > 0.001")"
  n=$(jq .wis.bias_p "$work/a.json")
  row "wis, 60 cohorts, biases at once" "p > 0.001" "p = $(printf %.3g "$n")" "$(holds "$n > 0.001")"
  $bin eval configs/rrt_wis.yaml --quiet --out "$work/f" >/dev/null
  n=$(wc -l <"$work/f/figure4_strategies.csv")
  row "data of figure 4: strategies x quantities" "4 x 3" "$((n - 1)) rows" "$([ "$n" = 13 ] && echo 1 || echo 0)"
}

# 2,000 cohorts each: values, blips, blips where nothing helps, the last stage with a right model
show_aki-truth() {
  local z
  $bin eval configs/rrt_audit_values.yaml --quiet --json >"$work/v.json"
  aki_row "adr" "$work/v.json" adr
  aki_row "wis" "$work/v.json" wis
  $bin eval configs/rrt_audit.yaml --quiet --json >"$work/d.json"
  aki_blips "dwols" "$work/d.json"
  $bin eval configs/rrt_audit.yaml --quiet --json --set env.effect=0 >"$work/z.json"
  aki_blips "dwols, nothing helps" "$work/z.json"
  $bin eval configs/rrt_audit.yaml --quiet --json --set algorithm.rule=configs/rrt_audit_dwols_last.yaml >"$work/l.json"
  z=$(jq '[.dwols.estimands | ."psi 10", ."psi 11", ."psi 12" | .z | fabs] | max' "$work/l.json")
  row "dwols, last stage right: largest |z|" "< 4" "$(printf %.2f "$z")" "$(holds "$z < 4")"
}

# what is known to be wrong, beside the cure
show_aki-faults() {
  local out=$work/x.json few="--quiet --json --set algorithm.cohorts=1000"
  $bin eval configs/rrt_audit_values.yaml $few --set 'algorithm.sampling=""' \
    --set algorithm.advantage=configs/rrt_audit_adr_published.yaml >"$out"
  aki_bias "adr as published, observed starts" "$out" adr "observed - never"
  $bin eval configs/rrt_audit_values.yaml $few --set 'algorithm.sampling=""' --set env.clones=0.147 \
    --set algorithm.advantage=configs/rrt_audit_adr_rows.yaml >"$out"
  printf '  folds by row, clones in both: '
  jq -c '.adr.estimands | map_values([.bias, .bias_error] | map(. * 100 | round / 100))' "$out"
  $bin eval configs/rrt_audit_values.yaml $few --set 'algorithm.sampling=""' --set env.clones=0.147 >"$out"
  printf '  folds by patient:             '
  jq -c '.adr.estimands | map_values([.bias, .bias_error] | map(. * 100 | round / 100))' "$out"
  # a quarter of an hour of one processor; coverage is told, not asked: missing values bias it
  $bin eval configs/rrt_audit.yaml $few --set env.missing=1 \
    --set algorithm.rule=configs/rrt_audit_dwols_mice.yaml >"$out"
  printf '  missing at random, five imputations: coverage %.4f +- %.4f, %s cohorts\n' \
    "$(jq .dwols.coverage "$out")" "$(jq .dwols.coverage_error "$out")" "$(jq .cohorts "$out")"
  aki_bias "|change of pH|, of which 25 to 44 % imputed" "$out" dwols "psi 8"
  printf '  missing at random, z of all 12: '
  jq -c '[.dwols.estimands[].z * 10 | round / 10]' "$out"
}

# 20 imputed sets x 999 resamples, pooled, from one file
show_adr-whole() {
  local n
  awk 'NR == 1 { print "set," $0; next } { r[NR] = $0 } END { for (m = 1; m <= 20; m++) for (i = 2; i <= NR; i++) print m "," r[i] }' \
    "$data/rrt/val_cohort.csv" >"$work/sets.csv"
  n=$({ TIMEFORMAT=%U; time $bin eval configs/rrt_evaluate.yaml --quiet --set data.path="$work/sets.csv" \
    --set algorithm.imputation=set --set algorithm.replicates=999 --threads 2 >"$work/pooled.txt"; } 2>&1)
  cat "$work/pooled.txt"
  row "adr 20 x 999, linear: processor time" "<= 6 s (3 s, two idle cores)" "$n s" "$(holds "$n <= 6")"
}
