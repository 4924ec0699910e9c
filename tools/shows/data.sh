# Data sets: formats, defects, streams, hostile and mutated files. Sourced by tools/show.

ci="$ci data"
more="$more data-stream data-stream-long data-mutants"

# tests_row WHAT PROGRAM FILTER LEAST: tests of the release build that pass
tests_row() {
  local line passed failed
  line=$("$(dirname "$bin")/$2" --verbose --filter "$3" 2>&1 | grep -o 'Tested: .*' | tail -1)
  passed=$(echo "$line" | sed -n 's/.*Passing: \([0-9]*\).*/\1/p')
  failed=$(echo "$line" | sed -n 's/.*Failing: \([0-9]*\) | Crashing: \([0-9]*\).*/\1 + \2/p')
  row "$1" "$4 tests, 0 failing" "${passed:-0} passed, ${failed:-?} failing" \
    "$(holds "${passed:-0} >= $4 && ${failed:-1} == 0")"
}

show_data() {
  local door=$data/door-human-hdf5/door-human.hdf5 shape kinds
  if [ -r "$door" ]; then
    shape=$($bin info "$door" --json | jq -r '[.format, .rows, .episodes,
      ([.columns[] | select(.role == "state")] | length),
      ([.columns[] | select(.role == "action")] | length)] | join(" ")')
    row "door-human: format, rows, demos, obs, actions" "d4rl 6729 25 39 28" "$shape" \
      "$([ "$shape" = "d4rl 6729 25 39 28" ] && echo 1 || echo 0)"
    row "  alarms of regimen check" "0" "$($bin check "$door" --json | jq '.findings | length')" \
      "$($bin check "$door" --json | jq 'if (.findings | length) == 0 then 1 else 0 end')"
  else
    echo "SKIP no $door"
  fi
  kinds=$(grep -cE '^ {4}\{"[a-z_0-9]+", ("|NULL)' tests/test_defects.c || true)
  row "kinds of defect planted" ">= 40" "$kinds" "$(holds "$kinds >= 40")"
  tests_row "  each found with row and column, no other" test_defects 'defects/*' 3
  tests_row "formats: ours, D4RL, Minari, d3rlpy, h5py" test_dataset 'dataset/*' 10
  tests_row "hostile files, each its message, < 200 MB" test_hostile 'hostile/*refused*' 1
}

# stream_of MIB LIMIT_MIB: a file of so many MiB, made and read by programs that may map so many
stream_of() {
  local stream file=$work/large.h5 made read size seconds
  stream=$(dirname "$bin")/stream
  [ -x "$stream" ] || { echo "build the tests first (-DRGM_TESTS=ON)" >&2; exit 64; }
  if [ "$(df -Pm "$work" | awk 'NR == 2 { print $4 }')" -lt $(($1 + $1 / 4 + 256)) ]; then
    echo "SKIP $1 MiB do not fit on the disk of $work"
    return
  fi
  made=$(ulimit -v $(($2 * 1024)); "$stream" make "$file" "$1" || true)
  size=$(($(stat -c %s "$file" 2>/dev/null || echo 0) >> 20))
  row "made in pieces, limit $2 MiB" ">= $1 MiB" "$size MiB" "$(holds "$size >= $1")"
  seconds=$SECONDS
  read=$(ulimit -v $(($2 * 1024)); "$stream" read "$file" || true)
  seconds=$((SECONDS - seconds))
  row "read in pieces, every value compared" "${made:-none}" "${read:-none}" \
    "$([ -n "$made" ] && [ "$read" = "$made wrong 0" ] && echo 1 || echo 0)" | tr -s ' '
  row "  regimen info under the same limit" "$(echo "$made" | cut -d' ' -f2) rows" \
    "$(ulimit -v $(($2 * 1024)); $bin info "$file" --json | jq .rows) rows, $seconds s to read" \
    "$([ "$(ulimit -v $(($2 * 1024)); $bin info "$file" --json | jq .rows)" = "$(echo "$made" | cut -d' ' -f2)" ] && echo 1 || echo 0)"
  rm -f "$file"
}

show_data-stream() {
  stream_of 144 120
}

show_data-stream-long() {
  stream_of 4096 1024
}

# 10,000 mutants, under ASan and UBSan where that build is there
show_data-mutants() {
  local build=build/dev line reports
  [ -x $build/test_hostile ] || { build=build/release; echo "SKIP no build/dev: without sanitizers"; }
  line=$(ASAN_OPTIONS=log_path=$work/asan RGM_MUTANTS=10000 $build/test_hostile --verbose \
    --filter 'hostile/mutants*' 2>&1 | grep -E 'mutants:|Tested' | tail -2 | tr '\n' ' ')
  row "10,000 mutated HDF5 files, $build" "0 crashed or hung" "$line" \
    "$(echo "$line" | grep -c 'Failing: 0 | Crashing: 0' || true)" | tr -s ' '
  # a request of HDF5 for absurd memory, which it is refused, is a warning
  reports=$(cat "$work"/asan* 2>/dev/null | grep -c 'ERROR: ' || true)
  row "  reports of sanitizers" "0" "$reports" "$(holds "$reports == 0")"
}
