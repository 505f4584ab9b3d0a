#!/usr/bin/env bash
# The demonstration: starts the stuck service and looks into it with allgs.
#
#   demo.sh ALLGS        (through `make demo`)
set -euo pipefail

allgs=$1
release=1.27.4
folder=$(mktemp -d)

# The service ends when its stdin does; the trap also covers a failed start.
service_pid=
cleanup() {
  [[ -z $service_pid ]] || kill "$service_pid" 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT

service=$("$ALLGS_SETUP" build "$release" default service)
coproc SERVICE { exec "$service" "$folder"; }
service_pid=$SERVICE_PID
read -r word pid <&"${SERVICE[0]}" || true
[[ ${word:-} == READY ]] || {
  echo "demo: the service did not start" >&2
  exit 1
}

# Shows a command and its output, cut where asked.
show() {
  local lines=$1
  shift
  printf '\n$ %s\n' "$*"
  "$@" | head -n "$lines"
}

echo "The service runs as process $pid. Nobody prepared it for this."
show 60 "$allgs" list "$pid"
show 60 "$allgs" dump --limit 3 "$pid"
show 40 "$allgs" dump --limit 3 --format json "$pid"
printf '\nThe service is still running: '
kill -0 "$pid" && echo yes
