# How fast it is on this machine, beside what was asked; not in CI, whose machines are shared.
# Sourced by tools/show.

more="$more speed speed-offline speed-peers"

# value SUITE CASE THREADS|any REPLICAS|any FIELD: of a row of the bench
value() {
  jq -r --arg case "$2" --arg threads "$3" --arg replicas "$4" --arg field "$5" \
    '[.[] | select(.case == $case and ($threads == "any" or (.threads | tostring) == $threads)
      and ($replicas == "any" or (.replicas | tostring) == $replicas))][0][$field]' "$work/$1.json"
}

# ratio A B
ratio() {
  awk "BEGIN { printf \"%.2f\", $1 / $2 }"
}

show_speed() {
  local suite rate fraction seconds ours best peer r
  for suite in rollout cem mlp; do
    $bin bench $suite --json --threads 2 2>>"$work/notes" >"$work/$suite.json"
  done
  sort -u "$work/notes"
  rate=$(value rollout rollout_fused 2 any value)
  fraction=$(value rollout rollout_fused 2 any fraction_of_peak)
  row "rollout_fused, 2 threads, env-steps/s" ">= 120 M (stretch 170 M)" \
    "$(echo "$rate" | awk '{ printf "%.1f M", $1 / 1e6 }')" "$(holds "$rate >= 120e6")"
  row "  fraction of the FMA peak" ">= 0.5" "$fraction" "$(holds "$fraction >= 0.5")"
  seconds=$(value cem cem_training_paper 2 1 value)
  row "cem_training_paper, 128 M env-steps" "<= 4.5 s (stretch 3.5)" "$seconds s" \
    "$(holds "$seconds <= 4.5")"
  ours=$(value cem cem_training_packed 2 64 value)
  best=$(value cem cem_training_packed 2 2 value)
  row "64 packed trainings against 2, updates/s" "linear: ratio >= 0.9" \
    "$(awk "BEGIN { printf \"%.0f / %.0f = %.2f\", $ours, $best, $ours / $best }")" \
    "$(holds "$ours >= 0.9 * $best")"
  for r in 1 8 64; do
    ours=$(value mlp layer_forward_backward any $r value)
    best=0
    for peer in onednn_products openblas_products; do
      rate=$(value mlp $peer any $r value)
      [ "$rate" = null ] || best=$(awk "BEGIN { print ($rate > $best) ? $rate : $best }")
    done
    if [ "$best" = 0 ]; then
      echo "SKIP: neither oneDNN nor OpenBLAS is installed (libdnnl2, libopenblas0-pthread)"
    else
      row "layer 256x256x256 forward + backward, R = $r" ">= 0.9 of the better library" \
        "$(awk "BEGIN { printf \"%.0f / %.0f GFLOP/s = %.2f\", $ours / 1e9, $best / 1e9, $ours / $best }")" \
        "$(holds "$ours >= 0.9 * $best")"
    fi
  done
}

# what issue 7 asks of learning from a data set; packs must not be slower than one learner
show_speed-offline() {
  local case one two shared r rate last fraction
  for case in sac_cql_combo_b256 sac_cql_combo_b64; do
    $bin bench offline:$case --json --threads 2 2>>"$work/notes" >"$work/$case.json"
    one=$(value $case $case 1 1 value)
    fraction=$(value $case $case 1 1 fraction_of_peak)
    two=$(value $case $case 2 2 value)
    shared=$(value $case $case 2 1 value)
    if [ $case = sac_cql_combo_b256 ]; then
      row "$case, 1 thread, of the FMA peak" ">= 0.75 (stretch 0.85)" "$fraction ($one/s)" \
        "$(holds "$fraction >= 0.75")"
    else
      row "$case, 1 thread, updates/s" ">= 900" "$one ($fraction of peak)" \
        "$(holds "$one >= 900")"
    fi
    row "  two learners on two threads, updates/s" ">= 2 x one (0.95 counts)" \
      "$two = $(ratio "$two" "$one") x" "$(holds "$two >= 1.9 * $one")"
    row "  one learner on two threads, updates/s" ">= 1.5 x one" \
      "$shared = $(ratio "$shared" "$one") x" "$(holds "$shared >= 1.5 * $one")"
    last=$one
    for r in 8 64; do
      rate=$(value $case $case 1 $r value)
      row "  R = $r on one thread, agent-updates/s" "holds or rises (0.95 counts)" \
        "$rate = $(ratio "$rate" "$last") x" "$(holds "$rate >= 0.95 * $last")"
      last=$rate
    done
  done
  for case in cql_continuous ensemble_step rollout_model; do
    $bin bench offline:$case --json --threads 2 2>>"$work/notes" >"$work/$case.json"
    row "$case, 1 thread" "a row" \
      "$(value $case $case 1 1 value) $(value $case $case 1 1 unit), $(value $case $case 1 1 fraction_of_peak)" \
      "$(holds "$(value $case $case 1 1 value) > 0")"
  done
}

# beside PyTorch and JAX, in one run; installs both in a temporary place
show_speed-peers() {
  tools/bench_peers all | tee "$work/peers"
  row "faster than every peer that runs here" ">= 1 x" \
    "$(grep -o 'regimen is [0-9.]*' "$work/peers" | awk '{ print $3 }' | sort -n | head -1) x at least" \
    "$(holds "$(grep -o 'regimen is [0-9.]*' "$work/peers" | awk '{ print $3 }' | sort -n | head -1 | grep . || echo 0) >= 1")"
}
