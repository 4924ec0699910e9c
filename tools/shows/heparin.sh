# Heparin: the simulated patients against what was published of them, the nomogram's regret, the data
# sets that the simulator writes. Sourced by tools/show.

ci="$ci heparin"

# figure CONTROLLER METRIC of the evaluated baselines
heparin_figure() {
  jq ".controllers.$1.$2 * 100 | round / 100" "$work/heparin.json"
}

show_heparin() {
  local n m file
  $bin eval configs/heparin_nomogram.yaml --json --quiet >"$work/heparin.json"
  n=$(heparin_figure raschke threshold_24h)
  row "Raschke 1993, above threshold by 24 h" "97 % (89-99.6)" "$n %" "$(holds "$n >= 87 && $n <= 99.6")"
  m=$(heparin_figure standard_care threshold_24h)
  row "its comparator, 5,000 U and 1,000 U/h" "77 % (63-88)" "$m %" "$(holds "$m >= 63 && $m <= 88")"
  row "difference" "20 points, 10-30" "$(awk "BEGIN { print $n - $m }")" \
    "$(holds "$n - $m >= 10 && $n - $m <= 30")"
  n=$(build/release/test_heparin --verbose 2>&1 | grep -o 'Tested: .*' | tail -1)
  row "half-lives, steady state, aPTT, hazards (tests)" "Failing: 0" \
    "$(echo "$n" | cut -d'|' -f1-2 | tr -s ' |' ' ')" "$(echo "$n" | grep -c 'Failing: 0 | Crashing: 0' || true)"

  # the optimum and the regret
  $bin eval configs/heparin_oracle.yaml --json --quiet --set eval.patients=60 >"$work/oracle.json"
  n=$(jq '[.half_grid_percent, .half_grid_percent_first] | max' "$work/oracle.json")
  row "optimum: half the grid changes it by" "< 0.1 %" "$(printf '%.4f %%' "$n")" "$(holds "$n < 0.1")"
  n=$(jq '.controllers | [.nomogram, .clinician, .raschke, .standard_care][] | select(.regret <= 0)' \
    "$work/oracle.json" | wc -l)
  row "controllers above the optimum" "0" "$n" "$(holds "$n == 0")"
  jq -r '.controllers | to_entries[] | [.key, (.value.return * 10 | round / 10),
    (.value.regret * 10 | round / 10)] | @tsv' "$work/oracle.json" |
    awk -F'\t' '{ printf "  %-16s return %6s   regret %6s\n", $1, $2, $3 }'

  # data sets: no errors, the same file again, confounding as set
  file=$work/heparin.h5
  $bin simulate configs/heparin_simulate.yaml -o "$file" --quiet --set simulate.patients=400 >/dev/null
  n=$($bin simulate configs/heparin_simulate.yaml -o "$work/again.h5" --json --quiet \
    --set simulate.patients=400 --set run.threads=1 | jq -r .digest)
  m=$($bin info "$file" --json | jq -r .digest)
  row "data set written twice: digest" "${m:0:16}" "${n:0:16}" "$([ "$n" = "$m" ] && echo 1 || echo 0)"
  n=$($bin check "$file" | grep -c '^error' || true)
  row "defects that check finds in it" "0 errors" "$n" "$(holds "$n == 0")"
}
