#!/bin/bash
# penstock against Apache Kafka 4 on this machine, in one interleaved run: A B A B, pair by pair.
#   bench/compare.sh [OPTION]...        or: make bench-compare [ARGS="..."]
#   --quick            two workloads, one pair, short windows: does it work at all?
#   --pairs N          pairs of runs a workload (3)
#   --seconds S        measured window of a run (15)
#   --workload NAME    of bench/workloads, may be repeated; default: a selection
#   --kind KIND        e2e (default) or produce
# The brokers get the lower half of the CPUs, the load generator the upper half. Kafka is warmed up
# with millions of records first. Results: build/bench/compare.json and compare.html.
# Any further option goes to `penstock bench compare`.
set -eu
cd "$(dirname "$0")/.."
pairs=3 seconds=15 warm=20 kind=e2e names=() extra=()
while [ $# -gt 0 ]; do
    case $1 in
    --quick) pairs=1 seconds=5 warm=8 names=(1KiB-6p 1KiB-1p-small); shift ;;
    --pairs) pairs=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --workload) names+=("$2"); shift 2 ;;
    --kind) kind=$2; shift 2 ;;
    -h | --help) sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3-; exit 0 ;;
    *) extra+=("$1"); shift ;;
    esac
done
[ ${#names[@]} -gt 0 ] || names=(1KiB-6p 1KiB-6p-acks1 100B-6p 10KiB-6p 1KiB-1p-small 1KiB-6p-lz4)
cpus=$(nproc)
half=$((cpus / 2 > 0 ? cpus / 2 : 1))
broker_cpus=0-$((half - 1)) client_cpus=$((cpus > 1 ? half : 0))-$((cpus - 1))
out=build/bench
mkdir -p $out
rm -rf $out/penstock-data
started=() load=
finish() {
    for pid in $load "${started[@]}"; do kill "$pid" 2> /dev/null || true; done
    wait
    rm -rf $out/penstock-data $out/kafka
}
trap finish EXIT
trap 'exit 1' INT TERM

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
await() { # FILE PATTERN PID
    for _ in $(seq 900); do
        grep -q "$2" "$1" 2> /dev/null && return 0
        kill -0 "$3" 2> /dev/null || break
        sleep 0.1
    done
    echo "compare.sh: it did not start:" >&2
    cat "$1" >&2
    exit 1
}

kafka_at=127.0.0.1:$(free_port)
taskset -c $broker_cpus bench/kafka.sh "$kafka_at" $out/kafka > $out/kafka.out 2>&1 &
started+=($!)
await $out/kafka.out '^kafka ready' $!
kafka_pid=$(sed -n 's/^kafka ready .* pid=//p' $out/kafka.out)

penstock_at=127.0.0.1:$(free_port)
taskset -c $broker_cpus build/penstock serve --data $out/penstock-data --listen "$penstock_at" \
    > $out/penstock.out 2>&1 &
penstock_pid=$!
started+=($penstock_pid)
await $out/penstock.out '^penstock ready' $penstock_pid

# In the background, for a signal is only taken while the shell waits.
load() {
    taskset -c $client_cpus build/penstock bench "$@" &
    load=$!
    wait $load
}
# The JVM compiles what it runs often: both get the same load first, in large and in small requests.
warm_up() { # ADDRESS OPTION...
    load e2e --bootstrap "$@" --rate max --record-size 100 --partitions 6 --warmup-min-s 0 \
        --warmup-max-s 0 --duration-s $warm --quiet > $out/warmup.out || [ $? = 1 ] # invalid: not steady
    grep 'measure,' $out/warmup.out >&2 || { cat $out/warmup.out >&2; exit 1; }
}
for at in $kafka_at $penstock_at; do
    echo "warming up $at" >&2
    warm_up "$at" --batch-size 64KiB
    warm_up "$at" --batch-size 1 --linger-ms 0 --buffer-memory 64KiB
done
files=()
for name in "${names[@]}"; do files+=(--workload "bench/workloads/$name.properties"); done
status=0
load compare "kafka=$kafka_at@$kafka_pid" "penstock=$penstock_at@$penstock_pid" "${files[@]}" \
    --kind "$kind" --pairs "$pairs" --duration-s "$seconds" --warmup-max-s 30 --settle 2 \
    --limits $out --limits-seconds 1 --json $out/compare.json --report $out/compare.html "${extra[@]}" || status=$?
echo "wrote $out/compare.json and $out/compare.html"
exit $status
