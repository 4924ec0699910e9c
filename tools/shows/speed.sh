# How fast it is on this machine, beside what was asked; not in CI, whose machines are shared.
# Sourced by tools/show.

more="$more speed"

# value SUITE CASE THREADS|any REPLICAS|any FIELD: of a row of the bench
value() {
  jq -r --arg case "$2" --arg threads "$3" --arg replicas "$4" --arg field "$5" \
    '[.[] | select(.case == $case and ($threads == "any" or (.threads | tostring) == $threads)
      and ($replicas == "any" or (.replicas | tostring) == $replicas))][0][$field]' "$work/$1.json"
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
