# Importers: the demo's reference and flow chart, speed and memory on invented tables of any size,
# damaged tables, the ways out of a PostgreSQL server and of a DuckDB file. Sourced by tools/show.

ci="$ci import import_speed"
more="$more import_speed_long import_mutants import_postgres import_duckdb"

show_import() {
  local demo=$data/mimic3-demo eicu=$data/eicu-demo
  if [ ! -f "$demo/CHARTEVENTS.csv.gz" ]; then
    echo "SKIP: no $demo"
    return
  fi
  $bin import mimic3-heparin --dir "$demo" -o "$work/a.h5" --csv "$work/a.csv" \
    --set import.ids=true --json --quiet >"$work/a.json"
  row "stays, patients" "25, 23" "$(jq -r '"\(.episodes), \(.patients)"' "$work/a.json")" \
    "$(jq '(.episodes == 25 and .patients == 23) | if . then 1 else 0 end' "$work/a.json")"
  row "hourly rows, transitions" "940, 915" "$(jq -r '"\(.rows), \(.transitions)"' "$work/a.json")" \
    "$(jq '(.rows == 940 and .transitions == 915) | if . then 1 else 0 end' "$work/a.json")"
  row "new aPTT results" 99 "$(jq .monitor_measured "$work/a.json")" \
    "$(jq '(.monitor_measured == 99) | if . then 1 else 0 end' "$work/a.json")"

  # the copy in CSV against the reference, cell by cell; the reference rounded ages and doses
  zcat "$demo/derived/heparin_hourly_reference.csv.gz" >"$work/reference.csv"
  local cells
  cells=$(awk -F, 'NR == FNR { line[FNR] = $0; next }
    FNR == 1 { if ($0 != line[1]) bad++; for (i = 1; i <= NF; i++) name[i] = $i; next }
    { split(line[FNR], r, ",")
      for (i = 1; i <= NF; i++) {
        tolerance = name[i] == "age" ? 0.00501 : name[i] ~ /^heparin/ ? 6e-4 : 1e-6 * (r[i] > 1 ? r[i] : 1)
        good = r[i] == $i || (r[i] != "" && $i != "" && (r[i] - $i) ^ 2 <= tolerance ^ 2)
        all++; bad += !good } }
    END { print all + 0, bad + 0 }' "$work/reference.csv" "$work/a.csv")
  row "cells of the reference, different ones" "22560 0" "$cells" "$([ "$cells" = "22560 0" ] && echo 1 || echo 0)"

  # the same content from plain files, with the rows in another order
  mkdir "$work/plain"
  local table file
  for file in "$demo"/{ADMISSIONS,CHARTEVENTS,ICUSTAYS,INPUTEVENTS_CV,INPUTEVENTS_MV,LABEVENTS,PATIENTS}.csv.gz; do
    table=$(basename "$file" .csv.gz)
    zcat "$file" | (IFS= read -r head; echo "$head"; tac) >"$work/plain/$(echo "$table" | tr A-Z a-z).csv"
  done
  $bin import mimic3-heparin --dir "$work/plain" -o "$work/b.h5" --json --quiet >"$work/b.json"
  row "digest, plain files in reverse order" "the same" "$(jq -r .digest[:12] "$work/b.json")" \
    "$([ "$(jq .digest "$work/a.json")" = "$(jq .digest "$work/b.json")" ] && echo 1 || echo 0)"
  row "regimen check of the data set" "no error" \
    "$($bin check "$work/a.h5" 2>&1 | grep -o '[0-9]* errors, [0-9]* warnings' | head -1)" \
    "$($bin check "$work/a.h5" >/dev/null 2>&1 && echo 1 || echo 0)"
  $bin import mimic3-heparin --rules configs/import/mimic3_heparin_paper.yaml --dir "$demo" \
    -o "$work/p.h5" --json --quiet >"$work/p.json"
  row "preset paper" "warns" "$(jq -r .warning[:24] "$work/p.json")..." \
    "$(jq 'if .warning then 1 else 0 end' "$work/p.json")"
  if [ -f "$eicu/infusiondrug.csv.gz" ]; then
    $bin import eicu-heparin --dir "$eicu" -o "$work/e.h5" --json --quiet \
      --set tables.lab=lab_subset_169stays >"$work/e.json"
    row "eICU: stays in, with known units, used" "counted" \
      "$(jq -r '[.flow[1].stays, .flow[2].stays, .episodes] | join(", ")' "$work/e.json")" 1
  fi
  tests_row "a row for each value: by hand, long = wide" test_import_values 'import_values/*' 9
  $bin import mimic3-heparin --dir "$demo" -o "$work/a.h5" --quiet
}

# an invented hospital with about $2 MiB of CHARTEVENTS in folder $1: 3,000 stays, 400 with heparin;
# with $3 = 1 texts are quoted, as in MIMIC-III's own files
synthetic_mimic() {
  mkdir -p "$1"
  awk -v dir="$1" -v quoted="$3" -v srand_=7 'BEGIN {
    srand(srand_); q = quoted ? "\"" : ""
    p = dir "/PATIENTS.csv"; a = dir "/ADMISSIONS.csv"; s = dir "/ICUSTAYS.csv"
    m = dir "/INPUTEVENTS_MV.csv"; c = dir "/INPUTEVENTS_CV.csv"; l = dir "/LABEVENTS.csv"
    b = dir "/block"
    print "SUBJECT_ID,GENDER,DOB" > p
    print "HADM_ID,DEATHTIME,HOSPITAL_EXPIRE_FLAG" > a
    print "ICUSTAY_ID,SUBJECT_ID,HADM_ID,INTIME,OUTTIME,DBSOURCE" > s
    print "ICUSTAY_ID,STARTTIME,ENDTIME,ITEMID,AMOUNT,AMOUNTUOM,RATE,RATEUOM,PATIENTWEIGHT,STATUSDESCRIPTION" > m
    print "ICUSTAY_ID,CHARTTIME,ITEMID,RATE,RATEUOM" > c
    print "SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM" > l
    for (i = 1; i <= 3000; i++) {
      printf "%d,%s,2090-01-01 00:00:00\n", i, i % 2 ? "M" : "F" > p
      printf "%d,,0\n", 100000 + i > a
      printf "%d,%d,%d,2150-01-01 08:00:00,2150-01-09 08:00:00,metavision\n", 200000 + i, i, 100000 + i > s
      if (i <= 400) {
        for (h = 0; h < 20; h++)
          printf "%d,2150-01-02 %02d:00:00,2150-01-02 %02d:00:00,225152,0,units,%d,units/hour,80,Stopped\n",
            200000 + i, h, h + 1, 600 + int(rand() * 1000) > m
        printf "%d,,51275,2150-01-02 06:00:00,%d,%d,sec\n", i, 70, 70 > l
      }
    }
    head = "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,STORETIME,CGID,VALUE,VALUENUM,VALUEUOM,WARNING,ERROR,RESULTSTATUS,STOPPED"
    print head > (dir "/CHARTEVENTS.csv")
    for (n = 0; n < 4194304; n += length(r) + 1) {
      i = 1 + int(rand() * 3000); v = 60 + int(rand() * 100)
      t = sprintf("2150-01-%02d %02d:%02d:00", 1 + rand() * 5, rand() * 24, rand() * 60)
      r = sprintf("%d,%d,%d,%d,%d,%s,%s,%d,%s%d%s,%d,%smmHg%s,0,0,,", 1 + int(rand() * 3e8), i,
        100000 + i, 200000 + i, rand() < 0.15 ? 220179 : 221000 + int(rand() * 8000), t, t,
        14000 + int(rand() * 9000), q, v, q, v, q, q)
      print r > b
    }
  }'
  local i
  for ((i = 0; i < $2; i += 4)); do
    cat "$1/block"
  done >>"$1/CHARTEVENTS.csv"
  rm "$1/block"
}

# CPU time, so that others on the machine do not count; peak memory of the whole import
import_speed() { # label folder asked-MB/s options...
  local label=$1 folder=$2 asked=$3
  shift 3
  $bin import mimic3-heparin --dir "$folder" -o "$work/s.h5" --json --quiet \
    --set "import.variables=age, male, sbp, aptt" --set dose.per_kg=false \
    --set impute.method=none "$@" >"$work/s.json"
  local rate memory
  rate=$(jq '.sources.chartevents.text_bytes / 1e6 / .cpu_seconds | round' "$work/s.json")
  memory=$(jq '.peak_memory_kib / 1024 | round' "$work/s.json")
  row "$label" ">= $asked MB/s" "$rate MB/s of a core" "$(holds "$rate >= $asked")"
  row "  peak memory" "< 256 MB" "$memory MB" "$(holds "$memory < 256")"
}

import_speeds() { # MiB
  local folder=$work/synthetic
  synthetic_mimic "$folder" "$1" 0
  row "synthetic CHARTEVENTS" "$1 MiB" "$(du -m "$folder/CHARTEVENTS.csv" | cut -f1) MiB" 1
  import_speed "plain CSV" "$folder" 150 --set import.digests=false
  import_speed "plain CSV, with its SHA-256" "$folder" 60
  if [ "$1" -le 256 ]; then
    gzip -1 "$folder/CHARTEVENTS.csv"
    import_speed "CSV.gz, with its SHA-256" "$folder" 40
    rm "$folder/CHARTEVENTS.csv.gz"
  fi
  rm -r "$folder"
  synthetic_mimic "$folder" "$1" 1
  import_speed "texts in quotes" "$folder" 120 --set import.digests=false
  rm -r "$folder"
}

show_import_speed() {
  import_speeds 64
}

show_import_speed_long() {
  import_speeds 2048
}

# 10,000 damaged tables of MIMIC-III, eICU, a wide and a long table in turn, under ASan and UBSan where
# there is such a build
show_import_mutants() {
  local program=build/dev/test_import_mutants
  [ -x $program ] || { program=build/release/test_import_mutants; echo "SKIP no build/dev: without sanitizers"; }
  if IMPORT_MUTANTS=10000 $program >"$work/log" 2>&1; then
    row "damaged tables, $(dirname $program)" "10000, no crash, no hang" "10000" 1
  else
    row "damaged tables, $(dirname $program)" "10000, no crash, no hang" "see below" 0
    tail -20 "$work/log"
  fi
}

mimic_tables="ADMISSIONS CHARTEVENTS ICUSTAYS INPUTEVENTS_CV INPUTEVENTS_MV LABEVENTS PATIENTS"

# the statement that makes table $1 for file $2: types by name, as mimic-code's schema has them
mimic_schema() {
  zcat "$2" | head -1 | tr -d '\r' | awk -F, -v t="$1" '{
    printf "CREATE TABLE %s (", t
    for (i = 1; i <= NF; i++) {
      type = "varchar"
      if ($i ~ /(time|dob|dod|dod_hosp|dod_ssn|date)$/) type = "timestamp(0)"
      if ($i ~ /(_id|itemid|cgid)$/ || $i == "hospital_expire_flag" || $i == "error") type = "int"
      if ($i ~ /^(amount|rate|valuenum|patientweight|totalamount|originalamount|originalrate)$/)
        type = "double precision"
      printf "%s%s %s", (i > 1 ? ", " : ""), $i, type }
    print ");" }'
}

# the same data set from the files of the demo and from those exported into $work/export
same_digest() { # server
  $bin import mimic3-heparin --dir "$data/mimic3-demo" -o "$work/a.h5" --json --quiet >"$work/a.json"
  $bin import mimic3-heparin --dir "$work/export" -o "$work/b.h5" --json --quiet >"$work/b.json"
  row "digest, files and $1" "the same" "$(jq -r .digest[:12] "$work/a.json"), $(jq -r .digest[:12] "$work/b.json")" \
    "$([ "$(jq .digest "$work/a.json")" = "$(jq .digest "$work/b.json")" ] && echo 1 || echo 0)"
}

# a private cluster in a temporary folder, run by a user that is not root
show_import_postgres() {
  local demo=$data/mimic3-demo programs as folder=$work/pg
  programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
  if [ ! -f "$demo/CHARTEVENTS.csv.gz" ] || [ ! -x "$programs/initdb" ]; then
    echo "SKIP: no $demo, or no PostgreSQL (apt-get install postgresql)"
    return
  fi
  as=""
  mkdir "$folder" "$work/export"
  if [ "$(id -u)" = 0 ]; then
    as="runuser -u postgres --"
    chmod 755 "$work"
    chown postgres "$folder" "$work/export"
  fi
  (cd / && $as "$programs/initdb" -D "$folder/data" -A trust -U mimic >/dev/null)
  (cd / && $as "$programs/pg_ctl" -D "$folder/data" -w -l "$folder/log" \
    -o "-k $folder -c listen_addresses='' -c fsync=off" start >/dev/null)
  trap '(cd / && '"$as $programs/pg_ctl -D $folder/data"' -m immediate stop >/dev/null 2>&1); rm -rf "$work"' EXIT
  local psql="psql -q -X -h $folder -U mimic" table lower
  $psql -d postgres -c "CREATE DATABASE mimic"
  $psql -d mimic -c "CREATE SCHEMA mimiciii"
  for table in $mimic_tables; do
    lower=mimiciii.$(echo "$table" | tr A-Z a-z)
    {
      mimic_schema "$lower" "$demo/$table.csv.gz"
      echo "\\copy $lower FROM PROGRAM 'zcat $(realpath "$demo")/$table.csv.gz' WITH (FORMAT csv, HEADER)"
    } >"$work/load.sql"
    $psql -d mimic -v ON_ERROR_STOP=1 -f "$work/load.sql"
  done
  $psql -d mimic -v dir="$work/export" -f tools/sql/mimic3_postgres.sql
  same_digest server
  row "server" "PostgreSQL" "$($psql -d mimic -At -c 'SHOW server_version' | cut -c1-24)" 1
  row "chart rows loaded, exported" "all, of stays with it" \
    "$($psql -d mimic -At -c 'SELECT count(*) FROM mimiciii.chartevents'), $(jq .sources.chartevents.rows "$work/b.json")" 1
}

# a DuckDB file with the tables of the demo; the program is the one of its Python package, which is
# installed into a temporary environment where there is none
show_import_duckdb() {
  local demo=$data/mimic3-demo python=python3 table lower log=$work/pip.log
  if [ ! -f "$demo/CHARTEVENTS.csv.gz" ]; then
    echo "SKIP: no $demo (no demo)"
    return
  fi
  if ! $python -c 'import duckdb' 2>/dev/null; then
    if ! { python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q duckdb; } >"$log" 2>&1; then
      echo "SKIP: DuckDB cannot be installed: $(tail -1 "$log" | cut -c1-80) (no duckdb)"
      return
    fi
    python=$work/venv/bin/python
  fi
  for table in $mimic_tables; do
    lower=$(echo "$table" | tr A-Z a-z)
    mimic_schema "$lower" "$demo/$table.csv.gz" | sed 's/timestamp(0)/timestamp/g'
    echo "COPY $lower FROM '$(realpath "$demo")/$table.csv.gz' (HEADER, DELIMITER ',', QUOTE '\"', ESCAPE '\"');"
  done >"$work/load.sql"
  mkdir "$work/export"
  cat >"$work/run.py" <<'END'
import duckdb, sys
base = duckdb.connect(sys.argv[1])
for name in sys.argv[2:]:
    for statement in base.extract_statements(open(name).read()):
        base.execute(statement)
print(duckdb.__version__, base.execute("SELECT count(*) FROM chartevents").fetchone()[0])
END
  local sql made
  sql=$(realpath tools/sql/mimic3_duckdb.sql)
  made=$(cd "$work/export" && "$python" "$work/run.py" "$work/mimic3.db" "$work/load.sql" "$sql")
  row "DuckDB, chart rows loaded" "758355" "$made" "$([ "${made#* }" = 758355 ] && echo 1 || echo 0)"
  same_digest DuckDB
}
