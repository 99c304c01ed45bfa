#!/bin/bash
# What the load client costs beside the library that users run: the same traffic by our own client and by
# librdkafka, in turn, to a penstock broker of this script's own; CPU a record of each, and the ratio.
#   bench/drivers.sh [REPEATS [SECONDS]]        or: make bench-drivers ARGS="5 10"
# The broker gets the lower half of the CPUs, the client the upper half.
set -eu
cd "$(dirname "$0")/.."
repeats=${1:-3} seconds=${2:-5}
cpus=$(nproc) half=$(($(nproc) / 2 > 0 ? $(nproc) / 2 : 1))
out=build/bench
mkdir -p $out
rm -rf $out/drivers-data
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
taskset -c 0-$((half - 1)) build/penstock serve --data $out/drivers-data --listen 127.0.0.1:$port \
    --shards 1 > $out/drivers.out 2>&1 &
broker=$!
trap 'kill $broker 2> /dev/null; wait; rm -rf $out/drivers-data' EXIT
until grep -q '^penstock ready' $out/drivers.out; do sleep 0.05; kill -0 $broker; done

measure() { # KIND DRIVER OPTION... -> CPU us a record
    taskset -c $((cpus > 1 ? half : 0))-$((cpus - 1)) build/penstock bench "$1" --driver "$2" "${@:3}" \
        --bootstrap 127.0.0.1:$port --partitions 6 --duration-s "$seconds" --warmup-min-s 2 \
        --warmup-max-s 10 --quiet --json $out/driver.json > /dev/null 2>&1 || [ $? = 1 ]
    python3 -c 'import json; run = json.load(open("'$out/driver.json'"))["runs"][0]
print(run["generator"]["cpu_us_per_record"])'
}
compare() { # TITLE KIND OPTION...
    for driver in penstock librdkafka; do : > $out/driver.$driver; done
    for _ in $(seq "$repeats"); do
        for driver in penstock librdkafka; do
            measure "$2" $driver "${@:3}" >> $out/driver.$driver
        done
    done
    python3 - "$1" $out/driver.penstock $out/driver.librdkafka << 'EOF'
import statistics
import sys
own, library = (sorted(float(line) for line in open(path)) for path in sys.argv[2:])
ratio = statistics.median(own) / statistics.median(library)
print(f"{sys.argv[1]:58} {statistics.median(own):7.3f} ({own[0]:.3f} .. {own[-1]:.3f})  "
      f"{statistics.median(library):7.3f} ({library[0]:.3f} .. {library[-1]:.3f})  {ratio:.2f}")
EOF
}
echo "CPU us a record, median (least .. most) of $repeats    own client    librdkafka    own / librdkafka"
compare "produce, 100 B, acks=1, 128 KiB batches, rate=max" produce --record-size 100 --acks 1 \
    --batch-size 128KiB --rate max
compare "produce, 1 KiB, acks=1, 128 KiB batches, rate=max" produce --acks 1 --batch-size 128KiB --rate max
compare "e2e, 1 KiB, acks=all, 128 KiB batches, 20,000/s" e2e --batch-size 128KiB --rate 20000
compare "e2e, 1 KiB, acks=1, 16 KiB batches, 20,000/s" e2e --acks 1 --rate 20000
compare "e2e, 100 B, acks=1, 16 KiB batches, 50,000/s" e2e --acks 1 --record-size 100 --rate 50000
