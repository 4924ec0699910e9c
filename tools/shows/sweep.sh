# Sweeps: packs against runs alone, many workers, kills, the sweep that configs/ brings along. Sourced
# by tools/show.

ci="$ci sweep sweep-workers sweep-kills"
more="$more sweep-kills-long sweep-asha"

# sweep_config NAME KEYS: a config of short runs whose sweep section has these lines
sweep_config() {
  cat >"$work/$1.yaml" <<END
extends: $PWD/configs/propofol_cem.yaml
run: {name: $1, steps: 60, threads: 1}
env: {steps: 401}
algorithm: {episodes: 19, hidden: 32}
sweep:
  metric: return_smoothed
$2
END
}

# same A B: 1 if the results of two sweeps are the same, byte for byte
same() {
  local file
  for file in results.csv summary.json summary.txt; do
    cmp -s "$1/$file" "$2/$file" || { echo 0; return; }
  done
  echo 1
}

# seconds COMMAND...: how long it took
seconds() {
  local begun
  begun=$(date +%s.%N)
  "$@" >/dev/null 2>"$work/message" || { cat "$work/message" >&2; echo 1e9; return; }
  echo "$(date +%s.%N) $begun" | awk '{ printf "%.2f", $1 - $2 }'
}

# train_row FOLDER LINE: trains trial LINE of a table of one seed alone and prints both digests
train_row() {
  local trial seed status step score lr episodes digest
  IFS=, read -r trial seed status step score lr episodes digest _ <<<"$2"
  $bin train "$1/base.yaml" --quiet --out "$1/alone$trial" --set run.seed="$seed" \
    --set run.replicas="$seeds" --set algorithm.lr="$lr" --set algorithm.episodes="$episodes" >/dev/null
  echo "$digest $(digest "$1/alone$trial" | cut -c1-16)"
}

show_sweep() {
  local keys="  algorithm.lr: {min: 0.001, max: 0.1, log: true}
  algorithm.episodes: [8, 19]" seeds=2 line equal=0 wrong=0 tried=0 row files packed alone
  sweep_config small "  trials: 16
  seeds: $seeds
  bracket: 4
$keys"
  $bin sweep "$work/small.yaml" --quiet --out "$work/one" >/dev/null
  $bin sweep "$work/small.yaml" --quiet --out "$work/three" --workers 3 >/dev/null
  row "tables of 1 and 3 workers" "equal" "$([ "$(same "$work/one" "$work/three")" = 1 ] && echo equal || echo differ)" \
    "$(same "$work/one" "$work/three")"
  sed '/^sweep:/,$d' "$work/small.yaml" >"$work/base.yaml"
  while read -r line; do
    set -- $(train_row "$work" "$line")
    equal=$((equal + $([ "$1" = "$2" ] && echo 1 || echo 0)))
  done < <(tail -n +2 "$work/one/results.csv" | awk -F, '$2 == 1')
  row "trials with the digest of regimen train" "16 of 16" "$equal of 16" "$(holds "$equal == 16")"

  # what is wrong is refused before anything is written
  while read -r row line; do
    sweep_config wrong "  $(printf '%b' "$line")"
    tried=$((tried + 1))
    code=0
    $bin sweep "$work/wrong.yaml" --quiet --out "$work/wrong" >/dev/null 2>"$work/message" || code=$?
    if [ $code = 64 ] && grep -q "wrong.yaml:$row: sweep[.]" "$work/message" && [ ! -e "$work/wrong" ]; then
      wrong=$((wrong + 1))
    else
      cat "$work/message"
    fi
  done <<'END'
7:18   algorithm.lrr: [1, 2]
7:3   trails: 5\n  algorithm.lr: [1, 2]
8:17   trials: 5\n  algorithm.lr: {min: 1, max: 0.1}
8:17   trials: 5\n  algorithm.lr: {min: 0, max: 0.1, log: true}
7:17   algorithm.lr: {min: 0.1, max: 1}
7:17   algorithm.lr: []
7:13   run.seed: [1, 2]
8:23   pack: one\n  algorithm.episodes: [4, 8]
7:17   algorithm.lr: [0.1, 1000]
END
  row "wrong sweeps refused by line and column" "$tried" "$wrong" "$(holds "$wrong == $tried")"
  sed 's/^/  /' "$work/message" | sed "s|$work/||"

  # files of many trials, and their time beside that of a process for each
  sweep_config many "  trials: 1000
  scheduler: halving
  first: 1
$keys"
  $bin sweep "$work/many.yaml" --quiet --out "$work/many" --set run.steps=4 --set env.steps=20 >/dev/null
  files=$(find "$work/many" -type f -not -path '*/best/*' | wc -l)
  row "files of 1,000 trials beside best/" "<= 10" "$files, $(($(wc -l <"$work/many/results.csv") - 1)) rows" \
    "$(holds "$files <= 10")"
  sweep_config speed "  trials: 64
$keys"
  packed=$(seconds $bin sweep "$work/speed.yaml" --quiet --out "$work/speed" --threads 2)
  alone=$(seconds xargs -P 2 -a <(tail -n +2 "$work/speed/results.csv" | awk -F, -v out="$work/speed/r" '{
    print "--set run.replicas=1 --set algorithm.lr=" $6, "--set algorithm.episodes=" $7, "--out " out NR }') \
    -L 1 $bin train "$work/base.yaml" --quiet)
  row "trials per hour: packs, process for each" "shown" \
    "$(awk "BEGIN { printf \"%.0f, %.0f: %.1f x\", 64 * 3600 / $packed, 64 * 3600 / $alone, $alone / $packed }")" \
    "$(holds "$packed > 0 && $alone < 1e8")"
}

show_sweep-workers() {
  local finished twice rows code=0
  sweep_config crowd "  trials: 128
  bracket: 2
  scheduler: halving
  first: 5
  algorithm.lr: {min: 0.001, max: 0.1, log: true}"
  $bin sweep "$work/crowd.yaml" --quiet --out "$work/one" >/dev/null
  $bin sweep "$work/crowd.yaml" --quiet --out "$work/crowd" --workers 32 >/dev/null || code=$?
  row "32 workers at once: exit code" "0" "$code" "$(holds "$code == 0")"
  row "  workers that joined, all named in log.txt" "32" "$(grep -c ' joins: ' "$work/crowd/log.txt")" \
    "$(holds "$(grep -c ' joins: ' "$work/crowd/log.txt") == 32")"
  finished=$(grep -c 'bracket [0-9]*: finished' "$work/crowd/log.txt")
  twice=$(grep -o 'bracket [0-9]*: finished' "$work/crowd/log.txt" | sort | uniq -d | wc -l)
  rows=$(tail -n +2 "$work/crowd/results.csv" | cut -d, -f1 | sort -u | wc -l)
  row "  brackets finished, twice" "64, 0" "$finished, $twice" "$(holds "$finished == 64 && $twice == 0")"
  row "  trials in the table, lines" "128, 128" \
    "$rows, $(($(wc -l <"$work/crowd/results.csv") - 1))" \
    "$(holds "$rows == 128 && $(wc -l <"$work/crowd/results.csv") == 129")"
  row "  the table of one worker" "equal" "$([ "$(same "$work/one" "$work/crowd")" = 1 ] && echo equal || echo differ)" \
    "$(same "$work/one" "$work/crowd")"
}

# a sweep of some seconds, so that progress is saved and taken up
sweep_long="  trials: 24
  bracket: 6
  scheduler: halving
  first: 60
  reduction: 2
  algorithm.lr: {min: 0.001, max: 0.1, log: true}"

# workers_of FOLDER: whoever still works on it
workers_of() {
  pgrep -f -- "--out $1( |\$)" || true
}

# sweep_kill_rounds N: kill -9 of a driver with 3 workers, or of one of the workers, at random moments,
# and on with --resume, to the end; then another sweep, until N have died
sweep_kill_rounds() {
  local rounds=$1 kills=0 drivers=0 runs=0 equal=0 left=0 resumed=0 pid victim folder code
  sweep_config long "$sweep_long"
  $bin sweep "$work/long.yaml" --quiet --out "$work/whole" --set run.steps=3000 >/dev/null
  RANDOM=20261122
  while [ $kills -lt "$rounds" ]; do
    folder=$work/killed$runs
    runs=$((runs + 1))
    code=1
    while [ $code != 0 ]; do
      $bin sweep "$work/long.yaml" --quiet --out "$folder" --set run.steps=3000 --workers 3 --resume \
        >/dev/null 2>"$work/message" &
      pid=$!
      while [ $kills -lt "$rounds" ]; do
        sleep "$(printf '%d.%03d' $((RANDOM % 2)) $((100 + RANDOM % 800)))"
        kill -0 $pid 2>/dev/null || break
        victim=$pid
        [ $((RANDOM % 3)) = 0 ] || victim=$(pgrep -P $pid | shuf -n 1 || true)
        [ -n "$victim" ] && kill -9 "$victim" 2>/dev/null || break
        kills=$((kills + 1))
        [ "$victim" != $pid ] || { drivers=$((drivers + 1)); break; }
      done
      code=0
      wait $pid 2>/dev/null || code=$?
      case $code in 0 | 74 | 137) ;; *) echo "  exit $code"; cat "$work/message"; return ;; esac
    done
    # those whose driver was killed may still be leaving
    for _ in $(seq 100); do
      [ -n "$(workers_of "$folder")" ] || break
      sleep 0.05
    done
    equal=$((equal + $(same "$work/whole" "$folder")))
    resumed=$((resumed + $(grep -c 'goes on from its progress' "$folder/log.txt" || true)))
    left=$((left + $(find "$folder" -path '*/work*' -o -name '*.tmp' | wc -l)))
    rm -rf "$folder"
  done
  row "kill -9 of drivers and workers" "$rounds kills" "$kills, $drivers of drivers" "$(holds "$kills >= $rounds")"
  row "  brackets that went on from progress" "> 0" "$resumed" "$(holds "$resumed > 0")"
  row "  end as of the unbroken sweep" "$runs of $runs" "$equal of $runs" "$(holds "$equal == $runs && $runs > 0")"
  row "  files left in work/" "0" "$left" "$(holds "$left == 0")"
}

show_sweep-kills() {
  local pid code=0
  sweep_kill_rounds 12
  $bin sweep "$work/long.yaml" --quiet --out "$work/stopped" --set run.steps=3000 --workers 3 >/dev/null 2>&1 &
  pid=$!
  sleep 0.7
  kill -TERM $pid 2>/dev/null || true
  wait $pid 2>/dev/null || code=$?
  row "SIGTERM to the driver: exit code" "75" "$code" "$(holds "$code == 75")"
  row "  workers that stay" "0" "$(workers_of "$work/stopped" | wc -l)" \
    "$(holds "$(workers_of "$work/stopped" | wc -l) == 0")"

  # the driver outlives its workers, and says so; one that is asked to leave does not stop the others
  code=0
  $bin sweep "$work/stopped" --quiet --resume --workers 3 >/dev/null 2>"$work/message" &
  pid=$!
  sleep 0.4
  pkill -9 -P $pid || true
  wait $pid 2>/dev/null || code=$?
  row "all workers killed: exit code" "74" "$code" "$(holds "$code == 74")"
  code=0
  $bin sweep "$work/stopped" --quiet --resume --workers 3 >/dev/null 2>"$work/message" &
  pid=$!
  sleep 0.4
  pkill -TERM -n -P $pid || true
  wait $pid 2>/dev/null || code=$?
  row "SIGTERM to one worker: exit code" "0" "$code" "$(holds "$code == 0")"
  row "  in the end" "equal" \
    "$([ "$(same "$work/whole" "$work/stopped")" = 1 ] && echo equal || echo differ)" \
    "$(same "$work/whole" "$work/stopped")"
}

show_sweep-kills-long() {
  sweep_kill_rounds 200
}

show_sweep-asha() {
  local took
  took=$(seconds $bin sweep configs/sweeps/propofol.yaml --quiet --out "$work/asha")
  row "256 trials of configs/sweeps/propofol.yaml" "<= 120 s" "$took s" "$(holds "$took <= 120")"
  head -3 "$work/asha/summary.txt"
  took=$($bin eval "$work/asha/best" --quiet --json --set eval.patients=1000 | jq -c . | cut -c1-60)
  row "  the best trial is a run that eval takes" "JSON" "${took:0:12}..." "$(holds "${#took} > 20")"
}
