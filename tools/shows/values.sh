# What policies are worth: bins of dose in the simulator, estimates against exact values, the table on
# held-out patients, honesty against the truth. Sourced by tools/show.

ci="$ci values"
more="$more values-honesty"

# data, a clone and a policy, all small
values_learn() {
  local small="--quiet --set data.path=$work/values.h5"
  $bin simulate configs/honesty/simulate.yaml -o "$work/values.h5" --quiet --set simulate.patients=200 \
    --set env.noise=0.15 >/dev/null
  $bin train configs/honesty/bc.yaml $small --out "$work/bc" >/dev/null
  $bin train configs/honesty/cql.yaml $small --out "$work/cql" --set run.steps=300 >/dev/null
}

# what trains critics for them, without a folder
values_words() {
  echo "train configs/honesty/values.yaml --quiet --set data.path=$work/values.h5 --set run.steps=2" \
    "--set algorithm.clone=$work/bc --set algorithm.runs=$work/bc,$work/cql --set env.noise=0.15"
}

show_values() {
  local n m a b t
  for t in bins values values_run honesty; do
    n=$(build/release/test_$t --verbose 2>&1 | grep -ao 'Tested: .*' | tail -1)
    row "test_$t" "Failing: 0 | Crashing: 0" "$(echo "$n" | cut -d'|' -f3-4 | tr -s ' ' | sed 's/^ //')" \
      "$(echo "$n" | grep -c 'Failing: 0 | Crashing: 0' || true)"
  done

  # a run that learned bins acts in the simulator: clinical quantities and regret
  values_learn
  $bin eval "$work/cql" --json --quiet --set env.name=heparin --set eval.patients=100 \
    --set eval.optimum=60 >"$work/cql.json"
  n=$(jq '[.controllers | .cql, .nomogram | .measured_in_range, .bleed, .clot, .dose, .regret] |
    map(select(type == "number")) | length' "$work/cql.json")
  row "clinical quantities, regret, beside a nomogram" "10 numbers" "$n" "$(holds "$n == 10")"
  m=$(jq '[.controllers[].regret] | min' "$work/cql.json")
  row "least regret of a controller" "> 0" "$m" "$(holds "$m > 0")"
  n=$($bin eval configs/heparin_oracle.yaml --json --quiet --set eval.patients=100 --set algorithm.grid=60 |
    jq .controllers.nomogram.regret)
  m=$(jq .controllers.nomogram.regret "$work/cql.json")
  row "the nomogram's regret: the oracle's, and eval's" "$n" "$m" "$(holds "($n - $m)^2 < 1e-16")"

  # the table: what clinicians earned holds what they earn; few weights are said
  $bin $(values_words) --out "$work/a" >/dev/null
  $bin eval "$work/a" --json --quiet >"$work/values.json"
  n=$(jq '.simulated.clinician.return' "$work/values.json")
  a=$(jq '.policies.clinician.wis.low' "$work/values.json") b=$(jq '.policies.clinician.wis.high' "$work/values.json")
  row "clinicians' return in the simulator" "$(printf '%.1f to %.1f' "$a" "$b")" "$(printf '%.1f' "$n")" \
    "$(holds "$n >= $a && $n <= $b")"
  n=$(jq -r '.policies.random.wis.not_reliable' "$work/values.json")
  row "a random policy's estimate" "few weights" "$n" "$(echo "$n" | grep -c 'few weights')"
  n=$(jq '.clone.calibration_error' "$work/values.json")
  row "the clone's calibration error" "a number, < 0.2" "$n" "$(holds "$n < 0.2")"

  # two data sets of the honesty benchmark, small: killed after the first one, then resumed
  echo "extends: $PWD/configs/honesty/values.yaml" >"$work/small.yaml"
  printf 'run:\n  steps: 2\n' >>"$work/small.yaml"
  m="--json --quiet --set algorithm.seeds=1 --set algorithm.noise=[0.3,0.5] --set algorithm.kappa=0 --set eval.optimum=16
    --set algorithm.patients=40 --set eval.patients=40 --set algorithm.learners=configs/honesty/cql.yaml
    --set algorithm.values=$work/small.yaml --set run.threads=1"
  $bin eval configs/heparin_honesty.yaml --out "$work/honesty1" $m --set "algorithm.model=''" >"$work/honesty1.json"
  n=$(jq '.cells[0] | [(.methods | length), (.policies | length)] | join(" and ")' -r "$work/honesty1.json")
  row "honesty: methods and policies of a cell" "8 and 6" "$n" "$([ "$n" = "8 and 6" ] && echo 1 || echo 0)"
  $bin eval configs/heparin_honesty.yaml --out "$work/honesty2" $m --set "algorithm.model=''" >/dev/null 2>&1 &
  n=$!
  until ls "$work"/honesty2/sets/*.csv >/dev/null 2>&1 || ! kill -0 $n 2>/dev/null; do sleep 0.02; done
  kill -9 $n 2>/dev/null || true
  wait $n 2>/dev/null || true
  $bin eval configs/heparin_honesty.yaml --out "$work/honesty2" $m --set "algorithm.model=''" --resume >"$work/honesty2.json"
  n=$(cmp "$work/honesty1.json" "$work/honesty2.json" && cmp "$work"/honesty[12]/honesty.csv && echo $(ls "$work/honesty2"))
  row "kill -9, then --resume: the same; what stays" "honesty.csv lock sets" "$n" \
    "$([ "$n" = "honesty.csv lock sets" ] && echo 1 || echo 0)"

  # other threads and vectors, and killed without warning
  $bin $(values_words) --out "$work/b" --set run.threads=1 --set run.isa=avx2 >/dev/null
  a=$(digest "$work/a") b=$(digest "$work/b")
  row "one thread, avx2: digest" "${a:0:16}" "${b:0:16}" "$([ "$a" = "$b" ] && echo 1 || echo 0)"
  $bin $(values_words) --out "$work/c" --set run.checkpoint_every=1 >/dev/null 2>&1 &
  n=$!
  while [ ! -e "$work/c/checkpoint-1.h5" ] && [ ! -e "$work/c/checkpoint-2.h5" ] && kill -0 $n 2>/dev/null; do
    sleep 0.05
  done
  kill -9 $n 2>/dev/null || true
  wait $n 2>/dev/null || true
  $bin $(values_words) --out "$work/c" --set run.checkpoint_every=1 --resume >/dev/null 2>&1
  b=$(digest "$work/c")
  row "kill -9, then --resume: digest" "${a:0:16}" "${b:0:16}" "$([ "$a" = "$b" ] && echo 1 || echo 0)"
}

# the whole benchmark: half an hour on two cores of its own; HONESTY=DIR keeps what is done, and goes on
show_values-honesty() {
  local n out="${HONESTY:-$work/honesty}"
  $bin eval configs/heparin_honesty.yaml --out "$out" --json --quiet --resume >"$work/honesty.json"
  jq -r '.cells[] | [.noise, .kappa, .patients] as $c | .methods | to_entries[] | $c + [.key,
    .value.coverage, .value.rmse, .value.ranking, .value.reliable] | @tsv' "$work/honesty.json"
  jq -r '.cells[] | [.noise, .kappa, .patients] as $c | .policies | to_entries[] | $c + [.key,
    .value.regret, .value.regret_error] | @tsv' "$work/honesty.json"
  n=$(jq '.cells | length' "$work/honesty.json")
  row "cells of noise x confounding x patients" "8, 20 data sets each" "$n, $(jq .seeds "$work/honesty.json") each" \
    "$(holds "$n == 8")"
  n=$(jq '[.cells[].policies[].regret] | min' "$work/honesty.json")
  row "least true regret of a policy" "> 0" "$n" "$(holds "$n > 0")"
}
