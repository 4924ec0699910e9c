# OMG-RL: slopes and a planted reward, what weights are worth, three commands on the demo and on
# simulated patients, the authors' phase, regret and the number of experts. Sourced by tools/show.

ci="$ci omgrl"
more="$more omgrl-demo omgrl-simulated omgrl-phase omgrl-regret omgrl-experts"

show_omgrl() {
  local log n line
  log=$(OMGRL_TABLE=1 build/release/test_omgrl --verbose 2>&1)
  line=$(echo "$log" | grep -ao 'Tested: .*' | tail -1)
  row "slopes, trajectories, bits (test_omgrl)" "Failing: 0 | Crashing: 0" \
    "$(echo "$line" | cut -d'|' -f1-2 | tr -s ' |' ' ')" \
    "$(echo "$line" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  n=$(echo "$log" | awk '/^grid/ { print $3 }')
  row "4 x 4 grid: correlation with the planted r" "> 0.9" "$n" "$(holds "$n > 0.9")"
  n=$(build/release/test_kernels --filter 'kernels/reference' --verbose 2>&1 |
    grep -c 'PASS.*kernels::reference' || true)
  row "h = 200, |r| up to 50 (test_kernels)" "as in double" "$n of 1" "$n"
  echo "$log" | awk '/^ess/ { printf "%s %s %s %s %s %s\n", $2, $3, $4, $6, $5, $8 }' >"$work/ess"
  while read -r logit r step got trajectory whole; do
    row "ESS, logits $logit, rewards $r: step, trajectory" "$step, $trajectory" "$got, $whole" \
      "$(holds "($got / $step - 1) ^ 2 < 0.04 && ($whole / $trajectory - 1) ^ 2 < 0.09")"
  done <"$work/ess"
  echo "$log" | awk 'BEGIN { print "  logits rewards   step prefix trajectory truncated tempered" }
    /^ess/ { printf "  %6s %7s %6s %6s %10s %9s %8s\n", $2, $3, $6, $7, $8, $9, $10 }'
}

# omgrl_run CONFIG DATA: trains and evaluates on held-out rows; what comes out in $work/eval.json. With
# an environment eval would judge the policy there instead, so its section and what it judges are left out.
omgrl_run() {
  local begun=$(date +%s)
  rm -rf "$work/run"
  awk '/^[a-z]/ { out = /^env:|^eval:/ } !out && !/^  judged/' "$1" |
    sed "s|^extends: |extends: $PWD/configs/|" >"$work/held.yaml"
  $bin train "$work/held.yaml" --out "$work/run" --quiet --set data.path="$2" >/dev/null
  $bin eval "$work/run" --json >"$work/eval.json" 2>/dev/null
  echo "  trained and evaluated in $(($(date +%s) - begun)) s of a clock"
  jq -r '.dynamics.outputs | to_entries[] | [.key, .value.unit, .value.rmse, .value.spread] | @tsv' \
    "$work/eval.json" | awk -F'\t' 'BEGIN { print "  elites, an hour ahead" }
    { printf "  %-12s %-8s rmse %9.4g   spread %9.4g\n", $1, $2, $3, $4 }'
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next }
    { printf "  step %5d   sum r_p %7.2f +- %.2f   sum r_psi %7.2f +- %.2f   ess %4.1f %%\n", $1,
      $c["imagined_aptt"], $c["imagined_aptt_se"], $c["imagined_learned"],
      $c["imagined_learned_se"], $c["reward_ess"] }' "$work/run/metrics.csv"
  jq -r '.imagined | "  policy r_p \(.aptt.policy), clinicians \(.aptt.clinicians)",
    "  policy r_psi \(.learned.policy), clinicians \(.learned.clinicians)",
    "  correlation of r_psi with the reward of the data \(.correlation.mean)"' "$work/eval.json"
}

# figures that must be there and be numbers
omgrl_whole() {
  jq '[.dynamics.outputs[].rmse, .imagined.aptt.policy, .imagined.learned.policy,
    .imagined.aptt.clinicians] | map(select(. == null)) | length' "$work/eval.json"
}

show_omgrl-demo() {
  $bin import mimic3-heparin --dir "$data/mimic3-demo" -o "$work/heparin.h5" --quiet >/dev/null 2>&1
  rm -rf "$work/run"
  local begun=$(date +%s) n
  $bin train configs/heparin_omgrl.yaml --out "$work/run" --quiet --set data.path="$work/heparin.h5" \
    >/dev/null
  n=$(($(date +%s) - begun))
  $bin eval "$work/run" --json >"$work/eval.json" 2>/dev/null
  row "MIMIC-III's demo: import, train, eval" "figures, no gaps" "$(omgrl_whole) gaps, $n s" \
    "$(holds "$(omgrl_whole) == 0")"
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next }
    { printf "  step %5d   sum r_p %7.2f +- %.2f   sum r_psi %7.2f +- %.2f\n", $1,
      $c["imagined_aptt"], $c["imagined_aptt_se"], $c["imagined_learned"],
      $c["imagined_learned_se"] }' "$work/run/metrics.csv"
  $bin eval "$work/run" 2>/dev/null | sed 's/^/  /'
}

show_omgrl-simulated() {
  local n
  for n in 500 2000; do
    $bin simulate configs/heparin_simulate.yaml -o "$work/sim.h5" --quiet \
      --set simulate.patients=$n >/dev/null
    omgrl_run configs/heparin_omgrl_simulated.yaml "$work/sim.h5"
    row "$n simulated patients: train, eval" "figures, no gaps" "$(omgrl_whole) gaps" \
      "$(holds "$(omgrl_whole) == 0")"
  done
}

# by processor time of one thread as well, since other work stops the clock's at any time
show_omgrl-phase() {
  local n cpu
  $bin bench offline:omgrl_phase_paper --json --seconds 3 >"$work/phase.json" 2>/dev/null
  n=$(jq '[.[] | select(.replicas == 1) | 200 / .value] | min' "$work/phase.json")
  cpu=$(jq '[.[] | select(.replicas == 1 and .threads == 1) | .processor_s] | min' "$work/phase.json")
  row "authors' phase, 200 epochs, two cores" "< 1 s" "$(printf '%.2f s, %.2f of one' "$n" "$cpu")" \
    "$(holds "$n < 1")"
}

# true regret of 20 seeds each, packed, 6,000 updates (of the clone at most), beside the nomogram
show_omgrl-regret() {
  local name set n k=configs/heparin_omgrl_simulated.yaml model="$work/model"
  $bin simulate configs/heparin_simulate.yaml -o "$work/sim.h5" --quiet >/dev/null
  $bin train $k --out "$model" --quiet --set data.path="$work/sim.h5" >/dev/null
  for name in bc cql omgrl aptt; do
    case $name in
    omgrl) set="$k --set algorithm.dynamics=$model --set run.steps=6500" ;;
    aptt) set="$k --set algorithm.dynamics=$model --set run.steps=6000 --set algorithm.reward=aptt" ;;
    *) set="configs/heparin_$name.yaml" ;;
    esac
    $bin train $set --out "$work/$name" --quiet --set data.path="$work/sim.h5" --set run.replicas=20 \
      --set run.report_every=$([ $name = bc ] && echo 10 || echo 1000) >/dev/null
    $bin eval "$work/$name" --json --set eval.patients=300 --set eval.optimum=240 \
      >"$work/$name.json" 2>/dev/null
    n=$(jq -r '(.controllers.nomogram | .return + .regret) as $best | .controllers | to_entries[0].value |
      [.replicas[].return] | (add / length) as $m | (map((. - $m) * (. - $m)) | add / (length - 1) / length | sqrt) as $e |
      "\(($best - $m) * 10 | round / 10) +- \($e * 10 | round / 10)"' "$work/$name.json")
    row "regret of $name, 20 seeds" "told" "$n" 1
    awk -F, -v name=$name 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next }
      "return" in c { n[$1]++; s[$1] += $c["return"] }
      END { for (k in n) printf "  %s after %5d steps: mean return of 50 episodes %7.2f\n", name, k, s[k] / n[k] }' \
      "$work/$name/metrics.csv" | sort -n -k3
  done
  jq -r '.controllers | to_entries[1:] | .[] | "  \(.key): regret \(.value.regret * 10 | round / 10) +- \(.value.regret_error * 10 | round / 10)"' \
    "$work/bc.json"
}

# mean and standard error of the true return by number of experts: does it rise and fall?
omgrl_experts() {
  local line
  awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) c[$i] = i; next }
    { k = $c["algorithm.experts"]; x = $c["return"]; n[k]++; s[k] += x; q[k] += x * x }
    END { for (k in n) { m = s[k] / n[k]
      printf "%d %.2f %.2f %d\n", k, m, sqrt((q[k] / n[k] - m * m) / (n[k] - 1)), n[k] } }' "$1" |
    sort -n >"$work/experts"
  awk '{ printf "  %5d experts   return %7.2f +- %.2f   (%d seeds)\n", $1, $2, $3, $4 }' "$work/experts"
  line=$(awk '{ m[NR] = $2; e[NR] = $3 } $1 == 500 { top = NR }
    END { for (i = 1; i <= NR; i++) up += i != top && m[top] - m[i] > 2 * sqrt(e[top] ^ 2 + e[i] ^ 2)
          printf "%d of %d\n", up, NR - 1 }' "$work/experts")
  row "500 experts above other numbers by 2 s.e." "4 of 4 in the paper" "$line" 1
}

show_omgrl-experts() {
  local model="$work/model"
  $bin simulate configs/heparin_simulate.yaml -o "$work/sim.h5" --quiet >/dev/null
  $bin train configs/heparin_omgrl_simulated.yaml --out "$model" --quiet \
    --set data.path="$work/sim.h5" >/dev/null
  $bin sweep configs/sweeps/heparin_omgrl_experts.yaml --out "$work/sweep" --quiet \
    --set data.path="$work/sim.h5" --set algorithm.dynamics="$model" >/dev/null
  omgrl_experts "$work/sweep/results.csv"
}
