#!/usr/bin/env python3
"""How long the turns of a shard's loop get while it compacts, and while it packs batches again.

    bench/turns.py [--mib 192] [--binary build/penstock] [--only NAME]

A broker of one shard on the lower half of the CPUs. For each row a topic of keyed 1 KiB records (by default; values
pack to about half): `compact` writes it, turns cleanup.policy=compact on and waits until nothing is left to do;
`recode` writes it to a topic of another compression.type. A turn is from waking up to the next submission, as
the broker's turn_seconds has it, in buckets of powers of two: "longest" is the bound of the last bucket that got
one. Wall time: what else runs on the machine counts, so let nothing run. Needs 1 GiB of disk for a moment.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

from where import MIB, ROOT, end, free_port, halves, start

BEGIN_S = 30 # until the first segment is compacted
QUIET_S = 2  # without another one: done
SEGMENTS = 8 # at least: zstd packs a batch to a fortieth, since it finds the values again
ROWS = {
    # name: what is done, of the producer, of the topic
    "compact, plain batches of 16 KiB": ("compact", {"batch.size": "16KiB"}, {}),
    "compact, plain batches of 1 MiB": ("compact", {"batch.size": "1MiB"}, {}),
    "compact, lz4 batches of 1 MiB": ("compact", {"compression.type": "lz4"}, {}),
    "compact, snappy batches of 1 MiB": ("compact", {"compression.type": "snappy"}, {}),
    "compact, zstd batches of 1 MiB": ("compact", {"compression.type": "zstd"}, {}),
    "compact, gzip batches of 1 MiB": ("compact", {"compression.type": "gzip"}, {}),
    "compact, zstd batches of 4 KiB": ("compact",
                                       {"batch.size": "4KiB", "compression.type": "zstd"}, {}),
    "compact, 2,000,000 keys": ("compact", {"record.size": 100, "keys": 2000000}, {}),
    "recode, plain to zstd, 1 MiB": ("recode", {}, {"compression.type": "zstd"}),
    "recode, plain to zstd level 19, 1 MiB": ("recode", {}, {"compression.type": "zstd",
                                                             "compression.zstd.level": 19}),
    "recode, plain to gzip, 1 MiB": ("recode", {}, {"compression.type": "gzip"}),
    "recode, zstd to gzip, 1 MiB": ("recode", {"compression.type": "zstd"},
                                    {"compression.type": "gzip"}),
}
PRODUCER = {"record.size": 1024, "keys": 2000, "value.entropy": 0.5, "batch.size": "1MiB",
            "linger.ms": 50, "acks": "all", "topic.reuse": "true", "rate": "max",
            "buffer.memory": "8MiB"}
TOPIC = {"segment.bytes": 2 * MIB, "min.cleanable.dirty.ratio": 0.01,
         "max.message.bytes": 2 * MIB}


class Broker:
    def __init__(self, binary, directory):
        self.binary, self.log = binary, open(os.path.join(directory, "log"), "w")
        self.bootstrap, self.metrics_port = f"127.0.0.1:{free_port()}", free_port()
        self.broker_cpus, self.client_cpus = halves()
        command = [binary, "serve", "--shards", "1", "--data", os.path.join(directory, "data"),
                   "--listen", self.bootstrap, "-o", f"metrics.listen={self.metrics_port}",
                   "-o", "log.cleaner.backoff.ms=50"]
        self.process = start(command, self.broker_cpus, stdout=subprocess.PIPE, stderr=self.log)
        if not self.process.stdout.readline().startswith(b"penstock ready"):
            sys.exit(f"turns: the broker does not start: {self.log.name}")

    def look(self):
        url = f"http://127.0.0.1:{self.metrics_port}/metrics.json"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["shards"][0]

    def client(self, *command):
        done = start([self.binary, *map(str, command)], self.client_cpus, stdout=self.log,
                     stderr=self.log)
        if done.wait() != 0:
            sys.exit(f"turns: {' '.join(map(str, command))}: {self.log.name}")

    def produce(self, topic, settings, mib, log_bytes=0):
        """That much, and so long that the log grows by so many bytes, or what ten seconds take."""
        before, records = self.look(), mib * MIB // settings["record.size"]
        options = [text for pair in settings.items() for text in ("-o", "=".join(map(str, pair)))]
        client = start([self.binary, "bench", "produce", "--bootstrap", self.bootstrap, "--topic",
                        topic, "--duration.s", "600", "--quiet", *options],
                       self.client_cpus, stdout=self.log, stderr=self.log)
        until = time.monotonic() + 10
        while time.monotonic() < until and client.poll() is None:
            now = self.look()
            grown = {name: now[name] - before[name] for name in
                     ("append_records_total", "append_bytes_total")}
            if grown["append_records_total"] >= records and \
                    grown["append_bytes_total"] >= log_bytes:
                break
            time.sleep(0.05)
        if client.poll() is not None:
            sys.exit(f"turns: the client ended too soon: {self.log.name}")
        end(client)

    def compact(self, topic):
        first = seen = self.look()["compacted_segments_total"]
        self.client("config", "set", "-b", self.bootstrap, "--topic", topic,
                    "cleanup.policy=compact")
        begun = since = time.monotonic()
        while time.monotonic() < (since + QUIET_S if seen > first else begun + BEGIN_S):
            time.sleep(0.1)
            now = self.look()["compacted_segments_total"]
            seen, since = (now, time.monotonic()) if now != seen else (seen, since)
        if seen == first:
            sys.exit("turns: nothing was compacted")


def measure(broker, number, what, producer, topic_configs, mib):
    """(turns, longest turn in ms, longest of all but one in 1,000, MiB appended, seconds)"""
    topic = f"turns-{number}"
    configs = [text for pair in {**TOPIC, **topic_configs}.items()
               for text in ("-c", "=".join(map(str, pair)))]
    broker.client("topic", "create", "-b", broker.bootstrap, topic, "-p", 1, *configs)
    if what == "compact":
        broker.produce(topic, {**PRODUCER, **producer}, mib, SEGMENTS * TOPIC["segment.bytes"])
    before, begun = broker.look(), time.monotonic()
    if what == "compact":
        broker.compact(topic)
    else:
        broker.produce(topic, {**PRODUCER, **producer}, mib)
    seconds = time.monotonic() - begun - (QUIET_S if what == "compact" else 0)
    after = broker.look()
    broker.client("topic", "delete", "-b", broker.bootstrap, topic)
    counts = [b - a for a, b in zip(before["turn_seconds"]["counts"],
                                    after["turn_seconds"]["counts"])]
    bounds = [bound * 1000 if bound is not None else float("inf")
              for bound in after["turn_seconds"]["le"]]
    most = [bound for n, bound in zip(counts, bounds) if n > 0]
    rare = next(bound for i, bound in enumerate(bounds)
                if sum(counts[i + 1:]) <= sum(counts) / 1000)
    over = sum(n for n, bound in zip(counts, bounds) if bound > 1.1)
    return sum(counts), rare, over, most[-1], seconds


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--mib", type=int, default=192, help="of records a row (default 192)")
    options.add_argument("--binary", default=os.path.join(ROOT, "build", "penstock"))
    options.add_argument("--only", default="", metavar="TEXT", help="rows with that in their name")
    options = options.parse_args()
    parent = os.path.join(ROOT, "build", "tmp")
    os.makedirs(parent, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="turns-", dir=parent)
    broker = Broker(os.path.abspath(options.binary), directory)
    try:
        print(f"{'':40}{'turns':>9}{'99.9 % ms':>11}{'over 1 ms':>11}{'longest ms':>12}{'s':>7}")
        for number, (name, row) in enumerate(ROWS.items()):
            if options.only not in name:
                continue
            turns, rare, over, longest, seconds = measure(broker, number, *row, options.mib)
            print(f"{name:40}{turns:9}{rare:11.3f}{over:11}{longest:12.3f}{seconds:7.1f}",
                  flush=True)
    finally:
        end(broker.process)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
