# Environments that are stepped: the fused loop's bits, Gymnasium's trajectories, cartpole solved.
# Sourced by tools/show.

ci="$ci step"

show_step() {
  local n test=build/release/test_step
  n=$($test --filter 'step/*fused_loop' 2>&1 | grep -o 'Tested: .*' | tail -1)
  row "5 environments by steps: bits of the fused loop" "Failing: 0" \
    "$(echo "$n" | cut -d'|' -f1-3 | tr -s ' |' ' ')" "$(echo "$n" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  n=$($test --filter 'step/devices*' 2>&1 | grep -o 'Tested: .*' | tail -1)
  row "AVX2, 2 threads, CUDA on the CPU, graph: bits" "Failing: 0" \
    "$(echo "$n" | cut -d'|' -f1-3 | tr -s ' |' ' ')" "$(echo "$n" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  n=$($test --filter 'step/trajectories*' 2>&1 | grep -o 'Tested: .*' | tail -1)
  row "trajectories of Gymnasium 1.4.0" "within 5e-5, 2e-6" \
    "$(echo "$n" | cut -d'|' -f1-3 | tr -s ' |' ' ')" "$(echo "$n" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  $bin train configs/cartpole_cem.yaml --quiet --out "$work/cartpole" >/dev/null 2>&1
  $bin eval "$work/cartpole" --json --quiet >"$work/cartpole.json"
  n=$(jq '.controllers.cem_deterministic.return * 10 | round / 10' "$work/cartpole.json")
  row "CartPole-v1, cem of ten seeds: mean return" ">= 475 (solved) of 500" "$n" "$(holds "$n >= 475")"
}
