# Data sets for offline learning, and behaviour cloning: what a data set becomes, planted policies found
# again, held-out figures of human demonstrations, kills. Sourced by tools/show.

ci="$ci clone"
more="$more clone-cartpole"

# clone_tests NAME WHAT
clone_tests() {
  local line
  line=$(build/release/test_$1 --verbose 2>&1 | grep -ao 'Tested: .*' | tail -1)
  row "$2 (test_$1)" "Failing: 0 | Crashing: 0" "$(echo "$line" | cut -d'|' -f3-4 | tr -s ' ' | sed 's/^ //')" \
    "$(echo "$line" | grep -c 'Failing: 0 | Crashing: 0' || true)"
}

show_clone() {
  local a b n
  clone_tests transitions "terminated, truncated, parts, refusals"
  clone_tests bc "planted policies, slopes, bits, packs"
  clone_tests cartpole "the clinician and its data set"

  # human demonstrations: rows of held-out episodes, beside one answer for all
  local small="--quiet --set run.replicas=2 --set run.steps=6 --set algorithm.updates=40"
  small="$small --set data.path=$data/door-human-hdf5/door-human.hdf5"
  $bin train configs/door_bc.yaml $small --out "$work/a" >/dev/null
  $bin eval "$work/a" --json --quiet >"$work/door.json"
  n=$(jq '.validation.log_likelihood * 100 | round / 100' "$work/door.json")
  row "door-human, held out: log-likelihood" "a number, > 15 nat" "$n nat" "$(holds "$n > 15")"
  n=$(jq '[.validation.error[] | .mean / .one_for_all] | add / length * 1000 | round / 1000' "$work/door.json")
  row "|error| of 28 actions beside one for all" "< 0.8" "$n" "$(holds "$n < 0.8")"
  n=$($bin info "$work/a" --json | jq '[.tensors[]?.name | select(startswith("data/"))] | length')
  row "tensors of patients' rows in the checkpoint" "0" "$n" "$(holds "$n == 0")"

  # other threads, and killed without warning
  $bin train configs/door_bc.yaml $small --out "$work/b" --set run.threads=1 --set run.isa=avx2 >/dev/null
  a=$(digest "$work/a") b=$(digest "$work/b")
  row "one thread, avx2: digest" "${a:0:16}" "${b:0:16}" "$([ "$a" = "$b" ] && echo 1 || echo 0)"
  $bin train configs/door_bc.yaml $small --set run.checkpoint_every=1 --out "$work/c" >/dev/null 2>&1 &
  n=$!
  while [ ! -e "$work/c/checkpoint-2.h5" ] && [ ! -e "$work/c/checkpoint-3.h5" ] && kill -0 $n 2>/dev/null; do
    sleep 0.05
  done
  kill -9 $n 2>/dev/null || true
  wait $n 2>/dev/null || true
  $bin train configs/door_bc.yaml $small --set run.checkpoint_every=1 --out "$work/c" --resume >/dev/null 2>&1
  b=$(digest "$work/c")
  row "kill -9, then --resume: digest" "${a:0:16}" "${b:0:16}" "$([ "$a" = "$b" ] && echo 1 || echo 0)"
}

# the mixed data set of cartpole, and what imitation alone makes of it
show_clone-cartpole() {
  local n
  $bin simulate configs/cartpole_simulate.yaml -o "$work/cartpole.h5" --quiet >/dev/null
  n=$($bin info "$work/cartpole.h5" --json | jq .rows)
  row "mixed data set: rows" "20,000 to 50,000" "$n" "$(holds "$n >= 20000 && $n <= 50000")"
  $bin train configs/cartpole_bc.yaml --quiet --out "$work/bc" --set data.path="$work/cartpole.h5" >/dev/null
  $bin eval "$work/bc" --json --quiet >"$work/bc.json"
  for name in bc expert clinician random; do
    echo "  $name: return $(jq ".controllers.$name.return * 10 | round / 10" "$work/bc.json")"
  done
  n=$(jq '.controllers.bc.return' "$work/bc.json")
  row "clones beside the clinician" "more" "$n" "$(holds "$n > $(jq .controllers.clinician.return "$work/bc.json")")"
}
