#!/usr/bin/env bash
# Fuzzes: builds the targets, makes what they begin with, runs each for a while, two at a time.
#
#   run.sh build                      build the targets
#   run.sh seeds                      make the base and the first inputs
#   run.sh run SECONDS [TARGET...]    run all targets, or those named
#   run.sh again TARGET FILE          run one input again
#   run.sh targets                    list the targets
#
# Under AddressSanitizer, which cargo-fuzz builds; with ALLGS_FUZZ_SANITIZER=none without, which is built
# soon and needs cargo alone.
#
# ALLGS_FUZZ_SEED=N makes the same inputs each time.
#
# What is made goes to fuzz/base, fuzz/corpus and fuzz/artifacts; what a target prints to TARGET.log in
# fuzz/logs (or $ALLGS_FUZZ_LOGS). Ends with 1 if a target found something: the input is in
# fuzz/artifacts/TARGET. See docs/FUZZING.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
setup=$here/../testprogs/setup.sh
cache=${ALLGS_CACHE:-$here/../.cache}
logs=${ALLGS_FUZZ_LOGS:-$here/logs}
sanitizer=${ALLGS_FUZZ_SANITIZER:-address}
target_dir=${ALLGS_FUZZ_TARGET_DIR:-$here/target}/$sanitizer
release=1.27.4
export ALLGS_FUZZ_BASE=$here/base
# Inputs are small: threads would only cost.
export RAYON_NUM_THREADS=1

die() {
  printf 'fuzz: error: %s\n' "$*" >&2
  exit 1
}

targets() { sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"/\1/p' "$here/Cargo.toml"; }

# The sanitizer is not stable: RUSTC_BOOTSTRAP lets any toolchain have it.
build_address() {
  "$setup" fuzz
  "$setup" cargo-fuzz
  (cd "$here/.." && RUSTC_BOOTSTRAP=1 "$setup" run cargo fuzz build --target-dir "$target_dir")
}

# What libFuzzer needs to see of a program, and no more.
build_none() {
  local sees='-sanitizer-coverage-level=4 -sanitizer-coverage-inline-8bit-counters'
  sees+=' -sanitizer-coverage-pc-table -sanitizer-coverage-trace-compares'
  local flags='--cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module' flag
  "$setup" fuzz
  for flag in $sees; do flags+=" -Cllvm-args=$flag"; done
  (cd "$here" && RUSTFLAGS=$flags cargo build --locked --release --target "$(triple)" --target-dir "$target_dir")
}

triple() { printf '%s-unknown-linux-gnu' "$(uname -m)"; }

binary() { printf '%s/%s/release/%s' "$target_dir" "$(triple)" "$1"; }

# Runs a command in an empty folder until it dies and moves its core to $1.
die_with_core() {
  local into=$1 dir
  shift
  dir=$(mktemp -d)
  (
    ulimit -c unlimited
    cd "$dir" && mkdir out
    echo 0x33 >/proc/self/coredump_filter
    GOTRACEBACK=crash timeout -s KILL 120 "$@" >/dev/null 2>&1
  ) || true
  if compgen -G "$dir/core*" >/dev/null; then mv "$dir"/core* "$into"; fi
  rm -rf "$dir"
}

make_base() {
  mkdir -p "$here/base"
  cp "$("$setup" build "$release" s crash)" "$here/base/exe"
  die_with_core "$here/base/core" "$here/base/exe" out nil
  if [[ ! -s $here/base/core ]]; then
    # The kernel's cores go elsewhere here.
    local dir=$here/base/gdb
    mkdir -p "$dir/out"
    (cd "$dir" && GOTRACEBACK=crash gdb -nx -batch -ex 'handle SIGQUIT SIGSEGV SIGURG nostop noprint pass' \
      -ex 'run out nil' -ex "generate-core-file $here/base/core" "$here/base/exe" >/dev/null 2>&1) || true
    [[ -s $here/base/core ]] || die "neither the kernel nor gdb left a core"
  fi
  printf 'package main\n\nfunc main() {}\n' >"$here/base/program.go"
  (cd "$here/base" && GOTOOLCHAIN=go$release GOFLAGS= "$setup" run sh -c \
    '"$ALLGS_GO" build -ldflags=-compressdwarf=false -o program program.go')
}

# Writes an input of a target.
seed() { cat >"$here/corpus/$1/$2"; }

# Records (see src/change.rs) of every kind of thing and every way to change one.
records() {
  local prefix=$1 kind how word record
  for kind in 0 1 2 3 4 5; do
    for how in 1 2 4 5; do
      record=$(for word in 0 1 2 3; do
        printf '\\x%02x\\x%02x\\x%02x\\x00\\x%02x\\x00\\x05\\x01\\x00\\x00\\x00\\x00\\x00\\x00' $kind $how $word $((word * 5 + how))
      done)
      # The string is a format on purpose.
      printf "$prefix$record" | seed "$2" "made-$kind-$how"
    done
  done
}

make_seeds() {
  local name file
  [[ -f $here/base/core && -f $here/base/program ]] || make_base
  for name in $(targets); do mkdir -p "$here/corpus/$name" "$here/artifacts/$name"; done
  records '' goroutines
  records '' core_changed
  records '\x00' function_tables
  records '\x00' executable
  die_with_core "$here/base/small" sh -c 'kill -QUIT $$'
  file=$here/base/small
  [[ -s $file ]] || file=$here/base/core
  head -c 6000 "$file" | seed core_file small
  head -c 16000 "$here/base/core" | seed core_file go
  head -c 30000 "$file" | gzip -9 | seed core_file gzip
  ! command -v zstd >/dev/null || head -c 30000 "$file" | zstd -q | seed core_file zstd
  ! command -v lz4 >/dev/null || head -c 30000 "$file" | lz4 -q | seed core_file lz4
  for file in "$here/base/exe" "$here/base/program" "$("$setup" build 1.18.10 default crash)"; do
    objcopy -O binary --only-section=.go.buildinfo "$file" "$here/base/part"
    seed build_info "${file##*/}-$(cksum <"$file" | cut -d ' ' -f 1)" <"$here/base/part"
  done
  {
    printf '\x01'
    objcopy -O binary --only-section=.debug_abbrev --set-section-flags .debug_abbrev=alloc "$here/base/program" "$here/base/part"
    head -c 3000 "$here/base/part"
    printf INFO
    objcopy -O binary --only-section=.debug_info --set-section-flags .debug_info=alloc "$here/base/program" "$here/base/part"
    head -c 9000 "$here/base/part"
  } | seed executable units
  for file in self/maps net/tcp net/tcp6 net/udp net/unix self/syscall; do
    [[ ! -r /proc/$file ]] || head -c 4000 "/proc/$file" | seed kernel_text "${file/\//-}"
  done
}

# Longest input of a target, in bytes.
max_len() {
  case $1 in
    goroutines | core_changed) echo 672 ;; # 48 records
    core_file) echo 16384 ;;
    function_tables | executable) echo 12288 ;;
    *) echo 4096 ;;
  esac
}

# Runs one target; its exit status is the fuzzer's.
fuzz_one() {
  local name=$1 seconds=$2
  timeout -s KILL $((seconds + 600)) "$(binary "$name")" -max_total_time="$seconds" -max_len="$(max_len "$name")" \
    -seed="${ALLGS_FUZZ_SEED:-0}" \
    -timeout=60 -rss_limit_mb=2048 -malloc_limit_mb=1024 -dict="$here/words.dict" -print_final_stats=1 \
    -artifact_prefix="$here/artifacts/$name/" "$here/corpus/$name" >"$logs/$name.log" 2>&1
}

# One line about a target that ran.
tell() {
  local name=$1 status=$2 runs slowest
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$name.log")
  slowest=$(sed -n 's/^stat::slowest_unit_time_sec: *//p' "$logs/$name.log")
  printf 'fuzz: %-16s %12s inputs, slowest %s s, peak %s MB: %s\n' "$name" "${runs:-?}" "${slowest:-?}" \
    "$(sed -n 's/^stat::peak_rss_mb: *//p' "$logs/$name.log")" \
    "$([[ $status == 0 ]] && echo 'nothing found' || echo "FOUND SOMETHING, see $logs/$name.log")"
}

run() {
  local seconds=$1 name failed=0
  shift
  mkdir -p "$logs"
  (($#)) || set -- $(targets)
  for name in "$@"; do
    while (($(jobs -rp | wc -l) >= 2)); do wait -n || failed=1; done
    (
      status=0
      fuzz_one "$name" "$seconds" || status=$?
      tell "$name" "$status"
      exit "$status"
    ) &
  done
  while (($(jobs -p | wc -l) > 0)); do wait -n || failed=1; jobs >/dev/null; done
  return "$failed"
}

case ${1:-} in
  seeds) make_seeds ;;
  build) "build_$sanitizer" ;;
  targets) targets ;;
  run) run "${@:2}" ;;
  again) RUST_BACKTRACE=1 "$(binary "$2")" "$3" ;;
  *) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
esac
