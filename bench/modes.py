#!/usr/bin/env python3
"""What the advertise modes cost: the same load on shards that are nodes, and on one node of all shards.

    bench/modes.py [--shards 2,8] [--producers 50] [--partitions 64] [--rate 20000] [--seconds 5]
                   [--binary build/penstock] [--json FILE]

With `advertise=shard` each client has a connection to every shard and splits its batches over them;
with `advertise=host` it has one connection, and the shard at its other end passes on what others own.
Counted by the broker over a window: connections, Produce requests and Fetch requests, record batches a
request, records a batch, messages between shards, turns that slept and woke, CPU a GiB. The broker gets
the lower half of the CPUs, however many shards it has: counts are what is compared, not rates.
`numa` is `host` on a machine of one NUMA node. The last rows are on paper: connections for 64 shards.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import urllib.request

from scale import free_ports
from where import GIB, end, halves, number, start

MODES = ("shard", "host")
PAPER_SHARDS = 64
WARM_UP_S = 2


class Look:
    def __init__(self, metrics_port):
        url = f"http://127.0.0.1:{metrics_port}/metrics.json"
        with urllib.request.urlopen(url, timeout=10) as answer:
            document = json.load(answer)
        self.shards = document["shards"]
        self.seconds = document["clock_seconds"]
        self.cpu = sum(document["cpu_seconds_total"].values())

    def sum(self, name, label=None):
        return sum(shard[name].get(label, 0) if label else number(shard[name])
                   for shard in self.shards)


def grown(before, after, name, label=None):
    return after.sum(name, label) - before.sum(name, label)


def serve(binary, directory, mode, shards, log):
    port = free_ports(shards + 1)
    metrics_port = port + shards
    command = [binary, "serve", "--shards", str(shards), "--advertise", mode,
               "--data", os.path.join(directory, "data"), "--listen", f"127.0.0.1:{port}",
               "-o", f"metrics.listen={metrics_port}"]
    broker = start(command, halves()[0], stdout=-1, stderr=log)
    if not broker.stdout.readline().startswith(b"penstock ready"):
        sys.exit(f"modes: the broker does not start: {log.name}")
    return broker, port, metrics_port


def row(mode, shards, before, after):
    requests = grown(before, after, "requests_total", "Produce")
    batches = grown(before, after, "append_batches_total")
    records = grown(before, after, "append_records_total")
    payload = grown(before, after, "append_bytes_total")
    return {
        "mode": mode, "shards": shards,
        "connections": after.sum("connections"),
        "produce_requests_per_second": requests / (after.seconds - before.seconds),
        "batches_per_request": batches / requests,
        "records_per_batch": records / batches,
        "fetch_requests_per_second":
            grown(before, after, "requests_total", "Fetch") / (after.seconds - before.seconds),
        "messages_per_produce_request": grown(before, after, "messages_total") / requests,
        "turns_per_produce_request": grown(before, after, "turns_total") / requests,
        "records_per_second": records / (after.seconds - before.seconds),
        "cpu_seconds_per_gib": (after.cpu - before.cpu) / payload * GIB,
    }


def measure(options, mode, shards):
    directory = tempfile.mkdtemp(dir=options.directory)
    log = open(os.path.join(directory, "log"), "w")
    broker, port, metrics_port = serve(options.binary, directory, mode, shards, log)
    client = None
    try:
        client = start([options.binary, "bench", "e2e", "--bootstrap", f"127.0.0.1:{port}",
                        "--topic", "modes", "--partitions", str(options.partitions),
                        "--partitioner", "roundrobin", "--producers", str(options.producers),
                        "--rate", str(options.rate), "--record-size", "1KiB", "--acks", "1",
                        "--duration-s", "600", "--quiet"], halves()[1], stdout=log, stderr=log)
        while Look(metrics_port).sum("append_records_total") < options.rate:
            time.sleep(0.1)
            if client.poll() is not None:
                sys.exit(f"modes: the client ended: {log.name}")
        time.sleep(WARM_UP_S)
        before = Look(metrics_port)
        time.sleep(options.seconds)
        return row(mode, shards, before, Look(metrics_port))
    finally:
        if client is not None:
            end(client)
        end(broker)
        shutil.rmtree(directory)


HEADINGS = (
    ("shards", "shards", "{}"), ("mode", "advertise", "{}"), ("connections", "connections", "{:,}"),
    ("produce_requests_per_second", "Produce/s", "{:,.0f}"),
    ("batches_per_request", "batches a request", "{:.1f}"),
    ("records_per_batch", "records a batch", "{:.1f}"),
    ("fetch_requests_per_second", "Fetch/s", "{:,.0f}"),
    ("messages_per_produce_request", "messages a Produce", "{:.2f}"),
    ("turns_per_produce_request", "turns a Produce", "{:.2f}"),
    ("records_per_second", "records/s", "{:,.0f}"),
    ("cpu_seconds_per_gib", "CPU s/GiB", "{:.2f}"),
)


def print_table(rows):
    print("| " + " | ".join(title for _, title, _ in HEADINGS) + " |")
    print("|" + "---|" * len(HEADINGS))
    for r in rows:
        print("| " + " | ".join(form.format(r[key]) for key, _, form in HEADINGS) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--shards", default="2,8", help="default 2,8")
    parser.add_argument("--producers", type=int, default=50)
    parser.add_argument("--partitions", type=int, default=64)
    parser.add_argument("--rate", type=int, default=20000, help="records a second in all")
    parser.add_argument("--seconds", type=float, default=5, help="of each window")
    parser.add_argument("--binary", default=os.path.join(root, "build/penstock"))
    parser.add_argument("--directory", default=os.path.join(root, "build"), help="for the data")
    parser.add_argument("--json", help="a file for the rows")
    options = parser.parse_args()
    rows = []
    for shards in map(int, options.shards.split(",")):
        for mode in MODES:
            print(f"{shards} shards, advertise={mode} ...", file=sys.stderr)
            rows.append(measure(options, mode, shards))
    print_table(rows)
    clients = options.producers + 1
    print(f"\non paper, {PAPER_SHARDS} shards, {clients} clients: advertise=shard "
          f"{clients * PAPER_SHARDS:,} connections, host {clients:,}")
    if options.json:
        with open(options.json, "w") as out:
            json.dump(rows, out, indent=1)


if __name__ == "__main__":
    main()
