#!/usr/bin/env bash
# A core of 1.6 GB with 10,000 goroutines, as gcore writes it: how long `allgs list` takes and how much of
# its memory is resident without mapped pages of files. Medians of five, on a warm page cache.
#
#   core.sh ALLGS        (through `make bench-core`)
set -euo pipefail

allgs=$1
folder=$(mktemp -d)
trap 'kill "$LOAD_PID" 2>/dev/null || true; rm -rf "$folder"' EXIT
load=$("$ALLGS_SETUP" build 1.27.4 default load)
coproc LOAD { exec "$load" "$folder" -n 10000 -ballast 1550; }
read -r word pid _ <&"${LOAD[0]}"
[[ $word == READY ]]
gcore -o "$folder/core" "$pid" >/dev/null 2>&1
core=$folder/core.$pid
ls -l "$core" | awk '{ printf "core: %.2f GB\n", $5 / 1e9 }'
cat "$core" >/dev/null

for _ in 1 2 3 4 5; do
  begin=$(date +%s%N)
  "$allgs" list -q "$core" --exe "$load" >/dev/null
  echo $((($(date +%s%N) - begin) / 1000000))
done | sort -n | awk '{ t[NR] = $1 } END { print "wall: " t[3] " ms" }'

# RssAnon at its highest, seen by looking every millisecond or so.
"$allgs" list -q "$core" --exe "$load" | sed -n 3p
"$allgs" list -q "$core" --exe "$load" >/dev/null &
most=0
while kill -0 $! 2>/dev/null; do
  now=$(awk '/RssAnon/ { print $2 }' "/proc/$!/status" 2>/dev/null || true)
  ((${now:-0} > most)) && most=$now
done
echo "resident without files: $((most / 1024)) MB"
