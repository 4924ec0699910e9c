# Learned models and agents that imagine: tests, the ring, errors one step ahead on both simulators, how
# COMBO and MOPO do from a data set of mixed skill. Sourced by tools/show.

ci="$ci dynamics"
more="$more dynamics-simulators combo"

# tested NAME WHAT: a test program's tally
tested() {
  local line
  line=$(build/release/$1 2>&1 | grep -ao 'Tested: .*' | tail -1)
  row "$2 ($1)" "Failing: 0 | Crashing: 0" "$(echo "$line" | cut -d'|' -f1-2 | tr -s ' |' ' ')" \
    "$(echo "$line" | grep -c 'Failing: 0 | Crashing: 0' || true)"
}

show_dynamics() {
  tested test_ensemble "planted world, stopping, routing, bits"
  tested test_combo "trajectories, ring, doubt, bits"
}

# errors FOLDER: every output beside its spread in training rows, in the data's units
errors() {
  $bin eval "$1" --quiet 2>/dev/null
  $bin eval "$1" --json --quiet 2>/dev/null >"$work/errors.json"
}

show_dynamics-simulators() {
  local value
  $bin simulate configs/cartpole_simulate.yaml -o "$work/cartpole.h5" --quiet >/dev/null
  $bin train configs/cartpole_dynamics.yaml --out "$work/cartpole" --quiet --set data.path="$work/cartpole.h5" >/dev/null
  errors "$work/cartpole"
  value=$(jq '[.outputs | to_entries[] | select(.key != "reward") | .value.rmse / .value.spread] | max' "$work/errors.json")
  row "cartpole, no noise: greatest rmse / spread" "<= 0.1" "$value" "$(holds "$value <= 0.1")"
  $bin simulate configs/heparin_simulate.yaml -o "$work/heparin.h5" --quiet >/dev/null
  $bin train configs/heparin_dynamics.yaml --out "$work/heparin" --quiet --set data.path="$work/heparin.h5" >/dev/null
  errors "$work/heparin"
  value=$(tail -1 "$work/heparin/metrics.csv" | cut -d, -f3)
  row "heparin, mean squares over those of no model" "< 1" "$value" "$(holds "$value < 1")"
}

# returns of the last report: how many reach a bound, the least, the mean
imagined() {
  awk -F, -v bound="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "return") c = i; next }
    { last[$2] = $c }
    END { for (r in last) { n++; good += last[r] >= bound; s += last[r]
                            if (n == 1 || last[r] < least) least = last[r] }
          printf "%d of %d, least %.1f, mean %.1f\n", good, n, least, s / n }' "$1/metrics.csv"
}

show_combo() {
  local name line
  $bin simulate configs/cartpole_simulate.yaml -o "$work/cartpole.h5" --quiet >/dev/null
  for name in combo mopo; do
    $bin train configs/cartpole_$name.yaml --out "$work/$name" --quiet --set data.path="$work/cartpole.h5" >/dev/null
  done
  line=$(imagined "$work/combo" 450)
  row "cartpole by combo from mixed data, >= 450" "10 of 10 seeds" "$line" "$(echo "$line" | grep -c '^10 of 10' || true)"
  line=$(imagined "$work/mopo" 244)
  row "cartpole by mopo, above the data's mean, 244" "mean > 244" "$line" "$(holds "${line##* } > 244")"
}
