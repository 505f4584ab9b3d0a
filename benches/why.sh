#!/usr/bin/env bash
# Measures what `allgs why` costs over `allgs list`, with many goroutines behind one lock.
#
#   why.sh ALLGS [COUNT]    COUNT goroutines, 100,000 unless given; prints medians of 5 runs
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
allgs=$(realpath "$1")
count=${2:-100000}
runs=5

folder=$(mktemp -d)
program=$("$here/../testprogs/setup.sh" build 1.27.4 s crowd)
# The program ends with its stdin, which is this pipe.
mkfifo "$folder/in"
"$program" "$folder" "$count" <"$folder/in" >"$folder/out" &
exec 3>"$folder/in"
trap 'exec 3>&-; wait; rm -r "$folder"' EXIT
until grep -q READY "$folder/out"; do
  kill -0 $! || exit 1
  sleep 0.1
done
pid=$(cut -d ' ' -f 2 "$folder/out")

# Milliseconds of the middle one of the runs.
median() {
  local begin end i
  for ((i = 0; i < runs; i++)); do
    begin=$(date +%s%N)
    "$allgs" "$@" -q >/dev/null
    end=$(date +%s%N)
    printf '%s\n' $(((end - begin) / 1000))
  done | sort -n | sed -n "$((runs / 2 + 1))p"
}

list=$(median list "$pid")
why=$(median why "$pid")
awk -v count="$count" -v list="$list" -v why="$why" 'BEGIN {
  printf "%d goroutines behind one lock: list %.0f ms, why %.0f ms, ratio %.2f\n", count, list / 1000, why / 1000, why / list
}'
