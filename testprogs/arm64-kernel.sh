#!/usr/bin/env bash
# Lets programs die under a real arm64 kernel, in a whole emulated machine, and brings back their cores.
#
#   testprogs/setup.sh run testprogs/arm64-kernel.sh FOLDER [CPU]
#
# Fills FOLDER with one folder a case, RELEASE:KIND:MODE, that holds the core, what the program said on
# stderr and what it wrote before. CPU is a model of qemu's, cortex-a72 unless told ("max" has pointer
# authentication and SVE). Needs Debian: kernel and busybox for arm64 come from its packages.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1
cpu=${2:-cortex-a72}
kept=${ALLGS_CACHE:?start it with testprogs/setup.sh run}/arm64-kernel
releases='1.18.10 1.21.13 1.24.13 1.26.11 1.27.4'
kinds='arm64 arm64-s arm64-pie arm64-cgo'
libraries=/usr/aarch64-linux-gnu/lib

say() { printf 'arm64-kernel: %s\n' "$*" >&2; }

# The packages of another architecture are downloaded with lists of their own, and not installed.
apt_arm64() {
  local command=$1 state=$kept/apt
  shift
  mkdir -p "$state"/{lists/partial,cache/archives/partial}
  touch "$state/status"
  "$command" -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
    -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" \
    -o Dir::Cache="$state/cache" "$@"
}

fetch() {
  local image
  [[ -e $kept/fetched ]] && return
  apt_arm64 apt-get update >&2
  image=$(apt_arm64 apt-cache depends linux-image-arm64 | awk '/Depends: linux-image-/ { print $2; exit }')
  [[ -n $image ]] || { say "there is no kernel for arm64"; exit 1; }
  say "fetching $image and busybox-static"
  (cd "$kept" && rm -f ./*.deb && apt_arm64 apt-get download "$image" busybox-static >&2)
  rm -rf "$kept/root"
  for package in "$kept"/*.deb; do dpkg -x "$package" "$kept/root"; done
  touch "$kept/fetched"
}

# The first file below the unpacked packages that matches.
unpacked() { find "$kept/root" -type f "$@" -print -quit; }

# What runs first in the machine, from memory: it takes the programs off one disk and puts the cores
# on the other. Disks are named from the last to the first.
write_init() {
  cat <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t tmpfs -o size=3g tmp /tmp
insmod /virtio_mmio.ko
insmod /virtio_blk.ko
sleep 1
ip link set lo up
echo core > /proc/sys/kernel/core_pattern
cd /tmp && tar xf /dev/vdb
exec 3> /dev/vda
ulimit -c unlimited
while read -r name; do
  kind=${name%:*} mode=${name##*:}
  mkdir -p "$name/out" && cd "$name"
  GOTRACEBACK=crash timeout -s KILL 120 "/tmp/programs/$kind" out "$mode" 2> stderr < /dev/null
  echo "$name: status $?"
  cd /tmp
  # One archive after the other: all cores together would not fit in memory.
  tar cf - "$name" >&3
  rm -r "$name"
done < cases
exec 3>&-
sync
poweroff -f
INIT
}

make_machine() {
  local root=$kept/initramfs library
  rm -rf "$root"
  mkdir -p "$root"/{bin,lib,proc,dev,tmp}
  cp "$(unpacked -name busybox -perm -u+x)" "$root/bin/busybox"
  cp "$(unpacked -name virtio_mmio.ko)" "$(unpacked -name virtio_blk.ko)" "$root"
  for library in ld-linux-aarch64.so.1 libc.so.6 libpthread.so.0; do cp -L "$libraries/$library" "$root/lib"; done
  write_init > "$root/init"
  chmod +x "$root/init"
  (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$kept/initramfs.gz"
}

# The other kinds have the same calls at other places: one end is enough.
modes() { if [[ $1 == arm64 ]]; then echo quit nil fault abort; else echo nil; fi; }

# One line a case, and each program once under the name of its release and kind.
make_programs() {
  local release kind mode
  rm -rf "$kept/in"
  mkdir -p "$kept/in/programs"
  for release in $releases; do
    for kind in $kinds; do
      cp "$("$here/setup.sh" build "$release" "$kind" crash)" "$kept/in/programs/$release:$kind"
      for mode in $(modes "$kind"); do printf '%s:%s:%s\n' "$release" "$kind" "$mode"; done
    done
  done > "$kept/in/cases"
  tar -C "$kept/in" -cf "$kept/in.tar" .
}

run_machine() {
  rm -f "$kept/out.img"
  truncate -s 16G "$kept/out.img"
  say "running $(wc -l < "$kept/in/cases") cases on a $cpu"
  timeout 1800 qemu-system-aarch64 -M virt -cpu "$cpu" -smp 2 -m 4096 -nic none -nographic -no-reboot \
    -kernel "$(unpacked -name 'vmlinuz-*')" -initrd "$kept/initramfs.gz" -append 'console=ttyAMA0 quiet panic=-1' \
    -monitor none -serial file:"$kept/console.log" \
    -drive file="$kept/in.tar",format=raw,if=none,id=in,readonly=on -device virtio-blk-device,drive=in \
    -drive file="$kept/out.img",format=raw,if=none,id=out -device virtio-blk-device,drive=out
  rm -rf "$folder"
  mkdir -p "$folder"
  tar -C "$folder" --ignore-zeros -xf "$kept/out.img" || {
    tail -n 20 "$kept/console.log" >&2
    say "the machine left no cores, see $kept/console.log"
    exit 1
  }
  rm "$kept/out.img"
}

fetch
make_machine
make_programs
run_machine
say "$(find "$folder" -name core | wc -l) cores in $folder"
