# Agents: an update against differences, soft actor-critic that acts, conservative Q-learning from data
# sets. Sourced by tools/show.

ci="$ci agent"
more="$more pendulum cartpole door"

show_agent() {
  local line
  for name in agent actor_critic; do
    line=$(build/release/test_$name --verbose 2>&1 | grep -ao 'Tested: .*' | tail -1)
    row "losses, slopes, bits (test_$name)" "Failing: 0 | Crashing: 0" \
      "$(echo "$line" | cut -d'|' -f1-2 | tr -s ' |' ' ')" \
      "$(echo "$line" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  done
  $bin train configs/door_cql.yaml --out "$work/run" --quiet --set run.steps=1 \
    --set data.path="$data/door-human-hdf5/door-human.hdf5" --set algorithm.samples=1 \
    --set run.replicas=1 --set algorithm.target_entropy=-3 >/dev/null
  row "negative entropy, continuous actions" "held" "held" 1
}

# returns FOLDER BOUND: how many replicas' last return reaches it, the least, the mean
returns() {
  awk -F, -v bound="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "return") c = i; next }
    { last[$2] = $c }
    END { for (r in last) { n++; good += last[r] >= bound; s += last[r]
                            if (n == 1 || last[r] < least) least = last[r] }
          printf "%d of %d, least %.1f, mean %.1f\n", good, n, least, s / n }' "$1/metrics.csv"
}

show_pendulum() {
  $bin train configs/pendulum_sac.yaml --out "$work/run" --quiet >/dev/null
  local line
  line=$(returns "$work/run" -200)
  row "pendulum, 20,000 steps, above -200" "10 of 10 seeds" "$line" "$(echo "$line" | grep -c '^10 of 10')"
}

# a data set of a clinician who is at random more or less often, then conservative Q-learning from it
show_cartpole() {
  local line
  $bin simulate configs/cartpole_simulate.yaml -o "$work/cartpole.h5" --quiet >/dev/null
  $bin train configs/cartpole_cql.yaml --out "$work/run" --quiet --set data.path="$work/cartpole.h5" >/dev/null
  line=$(returns "$work/run" 450)
  row "cartpole from mixed data, >= 450 of 500" "10 of 10 seeds" "$line" \
    "$(echo "$line" | grep -c '^10 of 10')"
}

show_door() {
  local line
  for name in cql bc; do
    $bin train configs/door_$name.yaml --out "$work/$name" --quiet \
      --set data.path="$data/door-human-hdf5/door-human.hdf5" >/dev/null
    line=$(tail -1 "$work/$name/metrics.csv" | tr ',' '\n' | grep -vc '^[-0-9.e+]*$' || true)
    row "door-human by $name: figures that are no numbers" "0" "$line" "$(holds "$line == 0")"
    paste -d' ' <(head -1 "$work/$name/metrics.csv" | tr ',' '\n') \
      <(tail -1 "$work/$name/metrics.csv" | tr ',' '\n') | sed 's/^/  /'
  done
}
