# Eleveld's patients: the trained controllers where they were not trained. Sourced by tools/show.

ci="$ci eleveld"

# the runs of the README, trained if they are not there yet, and their comparison
eleveld_table() {
  $bin train configs/propofol_cem.yaml --resume --quiet >/dev/null
  $bin train configs/propofol_pid_tuned.yaml --resume --quiet >/dev/null
  $bin eval configs/propofol_eleveld_test.yaml --quiet "$@" \
    --set "env.pk_path=$data/propofol-eleveld2018/eleveld_pk.csv" \
    --set "env.pd_path=$data/propofol-eleveld2018/eleveld_pd.csv" \
    --set "env.covariates_path=$data/nhanes-covariates/nhanes.txt.gz" --set eval.patients=500
}

show_eleveld() {
  local file
  for file in propofol-eleveld2018/eleveld_pk.csv propofol-eleveld2018/eleveld_pd.csv \
    nhanes-covariates/nhanes.txt.gz; do
    if [ ! -f "$data/$file" ]; then
      echo "SKIP: no $data/$file"
      return
    fi
  done
  eleveld_table --json >"$work/eleveld.json"

  # the table, from the same numbers
  jq -r '.scenarios | to_entries[] | .key as $s | .value as $v |
    "\n\($s): \($v.n) patients, highest target out of reach for \($v.unreachable)",
    ($v.controllers | to_entries[] | [.key, .value.mape_median, .value.mape, .value.mape_q25,
      .value.mape_q75, .value.mape_p95, .value.mape_max, .value.oob_abs, .value.oob_rel,
      .value.mpe_median, .value.wobble_median, .value.dose_total_mg] |
      map(if type == "number" then . * 100 | round / 100 | tostring else . end) | @tsv)' \
    "$work/eleveld.json" | awk -F'\t' '
    NF == 1 { print; if ($0 != "") printf "  %-18s %7s %7s %6s %6s %7s %7s %8s %7s %6s %7s %8s\n", "MAPE %:",
      "median", "mean", "q25", "q75", "p95", "worst", "oob.05", "oob5%", "MPE", "wobble", "dose mg" }
    NF > 1 { printf "  %-18s %7s %7s %6s %6s %7s %7s %8s %7s %6s %7s %8s\n", $1, $2, $3, $4, $5, $6, $7,
      $8, $9, $10, $11, $12 }'
  echo

  local s='.scenarios' n
  n=$(jq "$s.individuals.n" "$work/eleveld.json")
  row "adults with PK and PD estimates" "94" "$n" "$(holds "$n == 94")"
  n=$(jq "$s.individual_pk.n" "$work/eleveld.json")
  row "adults with PK estimates" "834" "$n" "$(holds "$n == 834")"
  n=$(jq "[$s[] | .controllers | length] | unique | tostring" -r "$work/eleveld.json")
  row "controllers in every group" "[5]: CEM x 3, PID x 2" "$n" "$([ "$n" = "[5]" ] && echo 1 || echo 0)"
  n=$(jq "[$s[].controllers[] | select((.mape_median, .mape_p95, .mape_max, .oob_abs, .oob_rel,
    .mpe_median, .wobble_median, .dose_total_mg) | type != \"number\")] | length" "$work/eleveld.json")
  row "figures missing or not finite, p95 and worst too" "0" "$n" "$(holds "$n == 0")"
  n=$(jq "[$s[].controllers[] | select((.mape_q25 <= .mape_median and .mape_median <= .mape_q75 and
    .mape_q75 <= .mape_p95 and .mape_p95 <= .mape_max) | not)] | length" "$work/eleveld.json")
  row "controllers whose quantiles are out of order" "0" "$n" "$(holds "$n == 0")"
  n=$(jq "[$s.schnider.controllers.cem_continuous.replicas[].mape_median] | max" "$work/eleveld.json")
  row "schnider is the test of training: worst seed" "<= 1.8 % (500 patients)" "$n" "$(holds "$n <= 1.8")"

  # the population model: golden numbers, and 1,006 measured concentrations
  n=$(build/release/test_eleveld --verbose 2>&1 | grep -o 'Tested: .*' | tail -1)
  row "test_eleveld, golden numbers and double" "Failing: 0" \
    "$(echo "$n" | cut -d'|' -f1-2 | tr -s ' |' ' ')" \
    "$(echo "$n" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  file=$data/propofol-schnider1998/schnider1998.csv
  if [ -f "$file" ]; then
    $bin eval configs/propofol_schnider1998.yaml --json --quiet --set env.model=eleveld \
      --set "data.path=$file" >"$work/s.json"
    n=$(jq .mdape "$work/s.json")
    row "Schnider's volunteers by Eleveld's PK, MDAPE" "18.2 +- 0.2 %" "$n" \
      "$(holds "$n >= 18.0 && $n <= 18.4")"
    n=$(jq .mdpe "$work/s.json")
    row "Schnider's volunteers by Eleveld's PK, MDPE" "-0.4 +- 0.2 %" "$n" \
      "$(holds "$n >= -0.6 && $n <= -0.2")"
  fi
}
