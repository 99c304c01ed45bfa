#!/bin/bash
# What it costs the broker to send a GiB, by the way it leaves (egress=...), by where the records are and by
# how many read them: broker CPU seconds for each GiB sent, over loopback.
#   bench/egress.sh [REPEATS [SECONDS [WAY...]]]        or: make bench-egress ARGS="3 4 send splice"
# SECONDS: how long each topic is filled. The broker gets the lower half of the CPUs, the clients the upper half.
# cold: from disk; cached: read once before, which only splice gains by. Splice verifies nothing here
# (egress.verify=false).
set -eu
cd "$(dirname "$0")/.."
repeats=${1:-3} seconds=${2:-3} ways=("${@:3}")
[ ${#ways[@]} -gt 0 ] || ways=(send send_zc splice auto)
cpus=$(nproc) half=$(($(nproc) / 2 > 0 ? $(nproc) / 2 : 1))
out=build/bench
data=$out/egress-data
mkdir -p $out
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
broker=
stop() { [ -z "$broker" ] || { kill "$broker" 2> /dev/null && wait "$broker" || true; }; broker=; }
trap 'stop; rm -rf $data' EXIT

start() { # EGRESS MEMORY
    taskset -c 0-$((half - 1)) build/penstock serve --data $data --listen 127.0.0.1:$port --shards 1 \
        --memory "$2" -o egress="$1" -o egress.verify=false -o log.segment.bytes=64m -o log.scrub.bytes.per.second=0 > $out/egress.out 2>&1 &
    broker=$!
    until grep -q '^penstock ready' $out/egress.out; do sleep 0.05; kill -0 $broker; done
}
bench() { # KIND TOPIC OPTION...
    taskset -c $((cpus > 1 ? half : 0))-$((cpus - 1)) build/penstock bench "$1" --topic "$2" "${@:3}" \
        --bootstrap 127.0.0.1:$port --warmup-min-s 0.5 --warmup-max-s 1 --quiet \
        --json $out/egress.json > $out/egress.txt 2>&1 || [ $? = 1 ]
}
cpu_ticks() { awk '{ print $14 + $15 }' /proc/$broker/stat; }
fill() { # TOPIC SIZE RATE
    bench produce "$1" --record-size "$2" --partitions 1 --rate "$3" --acks 1 --duration-s "$seconds" --batch-size 256KiB
}
# All of the topic, each record READERS times. The client says how many it had in the end.
row() { # TITLE TOPIC SIZE READERS
    local before ticks
    before=$(cpu_ticks)
    bench consume "$2" --topic-reuse true --partitions 1 --record-size "$3" --fan-out "$4" --duration-s 20
    ticks=$(($(cpu_ticks) - before))
    python3 - "$1" $ticks "$(getconf CLK_TCK)" $out/egress.json >> $out/egress.rows << 'EOF'
import json
import sys
title, ticks, hertz, path = sys.argv[1:]
series = json.load(open(path))["runs"][0]["series"]
size = sum(second.get("consumed_bytes", 0) for second in series)
print(title, int(ticks) / int(hertz) * 2 ** 30 / size, size)
EOF
}

rm -rf $data
: > $out/egress.rows
for i in $(seq "$repeats"); do
    for egress in "${ways[@]}"; do
        rm -rf $data
        start $egress 6g
        fill k1 1KiB 400000
        fill b100 100 2000000
        row "hot,1KiB,1 $egress" k1 1KiB 1
        row "hot,100B,1 $egress" b100 100 1
        row "hot,1KiB,3 $egress" k1 1KiB 3
        stop
        start $egress 256m # nothing is in memory after a start
        row "cold,1KiB,1 $egress" k1 1KiB 1
        row "cached,1KiB,1 $egress" k1 1KiB 1
        row "cold,100B,1 $egress" b100 100 1
        row "cached,100B,1 $egress" b100 100 1
        row "cached,1KiB,3 $egress" k1 1KiB 3
        stop
    done
done
python3 - $out/egress.rows "$repeats" "${ways[@]}" << 'EOF'
import statistics
import sys
rows, ways = {}, sys.argv[3:]
for line in open(sys.argv[1]):
    what, egress, cost, _ = line.split()
    rows.setdefault(what, {}).setdefault(egress, []).append(float(cost))
print(f"broker CPU s/GiB sent, median (least .. most) of {sys.argv[2]}")
print(f"{'records,size,readers':22}" + "".join(f"{egress:>26}" for egress in ways))
for what, costs in rows.items():
    print(f"{what:22}" + "".join(
        f"{statistics.median(costs[way]):12.3f} ({min(costs[way]):.3f} .. {max(costs[way]):.3f})"
        for way in ways))
EOF
