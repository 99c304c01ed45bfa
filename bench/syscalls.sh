#!/bin/bash
# System calls and CPU of a broker for a produce run: bench/syscalls.sh [MIB [RECORD_BYTES]]
# Starts build/penstock on a free port with its data in build/tmp, produces with kcat, stops it.
set -eu
cd "$(dirname "$0")/.."
mib=${1:-256} record=${2:-1024}
data=$(mktemp -d build/tmp/bench.XXXXXX 2> /dev/null || { mkdir -p build/tmp && mktemp -d build/tmp/bench.XXXXXX; })
port=$((20000 + RANDOM % 20000))
build/penstock serve --data "$data" --listen 127.0.0.1:$port --shards 1 > "$data/out" 2> "$data/err" &
broker=$!
tracer=
trap 'kill $broker $tracer 2> /dev/null; wait; rm -rf "$data"' EXIT
until grep -q '^penstock ready' "$data/out"; do sleep 0.05; kill -0 $broker; done
cpu() { awk '{ print $14 + $15 }' /proc/$broker/stat; }
produce() {
    head -c $((mib * 1048576 * 3 / 4)) /dev/urandom | base64 -w $record |
        kcat -P -b 127.0.0.1:$port -t bench -p 0 -X acks=all -X linger.ms=5 -X batch.size=1000000 \
            -X queue.buffering.max.kbytes=262144
}
produce # topic made, memory touched
before=$(cpu)
produce
after=$(cpu)
strace -f -c -o "$data/strace" -p $broker 2> /dev/null &
tracer=$!
sleep 0.5
produce
kill -INT $tracer
wait $tracer || true
tracer=
calls=$(awk '/ total$/ { print $4 }' "$data/strace")
awk -v mib="$mib" -v ticks=$((after - before)) -v calls="$calls" -v hz="$(getconf CLK_TCK)" 'BEGIN {
    printf "%d MiB of %s records: %.3f CPU s/GiB (without strace), %.2f system calls/MiB (with)\n",
        mib, "'$record'-byte", ticks / hz * 1024 / mib, calls / mib }'
grep -v '^%\|^---' "$data/strace" | head -5
