"""Compacted topics: keyed records with tombstones, held record by record against what was sent, while
the broker is killed again and again; and read by Kafka's own dump tool."""
import os
import random
import re
import time

from lib.broker import Broker
from lib.clients import is_full, java, run
from lib.kafka_wire import Connection, create_topics
from lib.metrics import metrics_broker, scrape
from lib.testcase import params, timeout

TOPIC = "table"
CONFIG = [("cleanup.policy", "compact"), ("segment.bytes", str(1 << 20)),
          ("min.cleanable.dirty.ratio", "0.1")]
OPTIONS = {"log.cleaner.backoff.ms": 50, "journal.bytes": "32m"}
DUMP = "org.apache.kafka.tools.DumpLogSegments"
TOMBSTONE = None


class Table:
    """What was sent, by offset."""

    def __init__(self, keys, seed):
        self.rng, self.keys, self.sent = random.Random(seed), keys, []

    def more(self, count):
        """So many records as lines for kcat; a line without a value is a tombstone."""
        lines = []
        for _ in range(count):
            key = f"k{self.rng.randrange(self.keys)}"
            value = TOMBSTONE if self.rng.random() < 0.1 else f"{self.rng.getrandbits(240):060x}"
            self.sent.append((key, value))
            lines.append(f"{key}\t{value or ''}\n")
        return "".join(lines)

    def newest(self):
        return {key: offset for offset, (key, _) in enumerate(self.sent)}


def produce(broker, table, count, codec):
    path = os.path.join(broker.dir, "lines")
    with open(path, "w") as out:
        out.write(table.more(count))
    run(["kcat", "-P", "-b", broker.bootstrap, "-t", TOPIC, "-p", "0", "-K", "\t", "-Z", "-l",
         "-X", "acks=all", "-X", f"compression.codec={codec}", "-X", "linger.ms=5", path], 100)


def read(broker):
    """[(offset, key, value)]"""
    out, _ = run(["kcat", "-C", "-q", "-b", broker.bootstrap, "-t", TOPIC, "-p", "0", "-o", "0",
                  "-e", "-Z", "-f", "%o\t%k\t%s\n"], 100)
    records = [line.split("\t") for line in out.decode().splitlines()]
    return [(int(offset), key, TOMBSTONE if value == "NULL" else value)
            for offset, key, value in records]


def check(records, table):
    """Each is what was sent at its offset, in order; of each key the newest one is there."""
    assert all(a[0] < b[0] for a, b in zip(records, records[1:])), "offsets go up"
    for offset, key, value in records:
        assert table.sent[offset] == (key, value), f"offset {offset}: {key} {value}"
    there = {offset for offset, _, _ in records}
    missing = [(key, offset) for key, offset in table.newest().items() if offset not in there]
    assert not missing, f"{len(missing)} newest records are missing: {missing[:5]}"


def wait_until_compacted(broker, table, most):
    end = time.monotonic() + 60
    while len(records := read(broker)) > most:
        assert time.monotonic() < end, f"{len(records)} records are left\n{broker.log_tail()}"
        time.sleep(0.2)
    check(records, table)
    return records


@timeout(600)
@params("none", "zstd")
def test_table_under_kill9(codec):
    total, keys, rounds = (1_000_000, 20_000, 20) if is_full() else (50_000, 1_000, 5)
    table = Table(keys, seed=7)
    with metrics_broker(shards=1, memory="64m", options=OPTIONS) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], 1, CONFIG)
        for number in range(rounds):
            produce(broker, table, total // rounds, codec)
            time.sleep(table.rng.random() * 0.3)
            broker.restart(kill=True)
            check(read(broker), table)
        records = wait_until_compacted(broker, table, total * 3 // 5)  # zstd: little is sealed
        compacted = scrape(broker).total("compacted_segments_total")
        broker.restart()
        check(read(broker), table)
        print(f"{codec}: {total} records of {keys} keys, {len(records)} are left; "
              f"{compacted} segments were replaced since the last kill")


@timeout(200)
def test_kafkas_dump_tool_reads_it():
    """The deep iteration of each sealed segment: valid batches, base and last offsets without a hole."""
    table = Table(500, seed=8)
    with Broker(shards=1, memory="64m", options=OPTIONS) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], 1, CONFIG)
        produce(broker, table, 30_000, "none")
        produce(broker, table, 10_000, "gzip")
        records = wait_until_compacted(broker, table, 20_000)
        broker.stop()
        offset, seen = 0, []
        for path in broker.segments(TOPIC, 0):
            for line in java(DUMP, "--deep-iteration", "--print-data-log", "--files", path):
                if found := re.match(r"baseOffset: (\d+) lastOffset: (\d+) count: (\d+) .*"
                                     r"isvalid: (\w+)", line):
                    assert (int(found[1]), found[4]) == (offset, "true"), line
                    offset = int(found[2]) + 1
                elif found := re.match(r"\| offset: (\d+) .*keySize", line):
                    seen.append(int(found[1]))
        assert offset == len(table.sent)
        assert seen == [offset for offset, _, _ in records]
