"""What it costs to do nothing, how much memory is resident, and how many system calls a MiB takes."""
import os
import re
import signal
import struct
import time

from lib.broker import CLOCK_TICKS, Broker
from lib.clients import need_command
from lib.kafka_wire import (API_VERSIONS, FETCH, Connection, batch, create_topics, fetch, fetch_body,
                            frame, header, leader_connection, produce)
from lib.metrics import metrics_broker, scrape
from lib.testcase import alone, mostly_waits, never_sanitized, params, timeout
from lib.timing import best_of, in_time

MIB = 1 << 20
IDLE_S = 5


def bytes_written(broker):
    with open(f"/proc/{broker.pid}/io") as counters:
        return int(re.search(r"^write_bytes: (\d+)$", counters.read(), re.MULTILINE).group(1))


def wait_until_it_writes_nothing(broker):
    """A new journal is written through behind the start."""
    before = -1
    while before != bytes_written(broker):
        before = bytes_written(broker)
        time.sleep(0.5)


def check_that_it_idles(broker):
    """At most one tick in five seconds; a machine that is busy with others may add some to one look,
    not to each."""
    wait_until_it_writes_nothing(broker)

    def once():
        begin = broker.cpu_seconds()
        time.sleep(IDLE_S)
        ticks = round((broker.cpu_seconds() - begin) * CLOCK_TICKS)
        in_time(ticks <= 1, f"{ticks} ticks of 1/{CLOCK_TICKS} s in {IDLE_S} s")
    best_of(once)


@mostly_waits
@params("nobody", "consumers")
def test_idle_broker_uses_no_cpu(who):
    """Alone, and with 50 connections, a long poll waiting on each; and metrics that somebody has asked
    for once."""
    with metrics_broker() as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["quiet"], 4)
        connections = []
        for number in range(0 if who == "nobody" else 50):
            connection = leader_connection(broker, "quiet", number % 4)
            connection.request(API_VERSIONS, 0, b"")
            connection.send(frame(header(FETCH, 4) + fetch_body(
                "quiet", 0, number % 4, wait_ms=60_000, min_bytes=1)))
            connections.append(connection)
        assert scrape(broker).total("connections") >= len(connections)
        check_that_it_idles(broker)
        for connection in connections:
            connection.close()


@mostly_waits
def test_idle_after_work():
    """Once the last record is destaged and flushed, it sleeps again."""
    with Broker() as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["busy"])
        with leader_connection(broker, "busy") as connection:
            for _ in range(300):
                assert produce(connection, "busy", batch([b"x" * 1000]))[0] == 0
            check_that_it_idles(broker)


def first_answer_s(begin, broker):
    with Connection(broker) as connection:
        assert connection.request(API_VERSIONS, 0, b"") is not None
    return time.monotonic() - begin


def fresh_start_s():
    broker = Broker()
    begin = time.monotonic()
    with broker:
        return first_answer_s(begin, broker)


def restart_s(broker):
    broker.stop()
    begin = time.monotonic()
    broker.start()
    return first_answer_s(begin, broker)


def check_start(start_s, what):
    def once():
        took_s = start_s()
        in_time(took_s <= 0.2, f"{what}: {took_s:.3f} s")
        print(f"{what}: {took_s:.3f} s")
    best_of(once, 10)


@alone
def test_start_to_first_answer():
    """In an empty directory, and with 100 partitions after a clean stop."""
    check_start(fresh_start_s, "fresh")
    with Broker() as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["many"], 100)
        check_start(lambda: restart_s(broker), "with 100 partitions")


def resident_mib(broker):
    return broker.rss() / MIB


def test_idle_memory():
    """Memory is resident where it was used, not what may be used: at defaults and two shards, fresh
    and after a start with data."""
    with Broker() as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["quiet"], 4)
        fresh = resident_mib(broker)
        for partition in range(4):
            with leader_connection(broker, "quiet", partition) as connection:
                assert produce(connection, "quiet", batch([b"x" * 100]), partition)[0] == 0
        one_each = resident_mib(broker)
        broker.stop()
        broker.start()
        again = resident_mib(broker)
        print(f"{fresh:.0f} MiB, with a record in each partition {one_each:.0f} MiB, "
              f"started again {again:.0f} MiB")
        assert max(fresh, one_each, again) <= 64


def read_all(broker, topic):
    offset = high = 0
    with leader_connection(broker, topic) as connection:
        while offset == 0 or offset < high:
            error, high, data = fetch(connection, topic, offset, max_bytes=4 << 20)
            assert error == 0 and data
            while len(data) > 12 and len(data) >= 12 + struct.unpack_from(">i", data, 8)[0]:
                base, length = struct.unpack_from(">qi", data)
                offset = base + struct.unpack_from(">i", data, 23)[0] + 1
                data = data[12 + length:]


@never_sanitized
def test_memory_under_load_is_what_was_configured():
    """Produced, and read again from memory and from disk: several times what there is."""
    memory_mib, load_mib = 64, 256
    with Broker(shards=1, memory=f"{memory_mib}M", options={"journal.bytes": "64m"}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["counted"])
        base = resident_mib(broker)
        produce_mib(broker, load_mib, 1000 << 10)
        read_all(broker, "counted")
        loaded = resident_mib(broker)
        print(f"{base:.0f} MiB idle, {loaded:.0f} MiB after {load_mib} MiB of load")
        assert loaded > memory_mib / 2, "the load was not seen"
        assert loaded <= memory_mib + 24


class Calls:
    """strace -c -f over the broker's whole life; the summary is in its log."""

    ROW = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?([a-z]\w+)$", re.MULTILINE)

    def __init__(self, broker):
        table = broker.log().rpartition("% time")[2]
        self.of = {name: int(calls) for calls, name in self.ROW.findall(table) if name != "total"}
        assert self.of, f"no summary of strace\n{broker.log_tail()}"


def counted(work):
    """System calls by name of a broker's life with this work in it."""
    wrapper = ["strace", "-c", "-f", "--"]
    with Broker(shards=1, wrapper=wrapper, options={"journal.bytes": "64m"}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["counted"])
        work(broker)
        process, broker.process = broker.process, None
        # strace passes no signal on: the broker itself gets it.
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
            child = int(children.read().split()[0])
        os.kill(child, signal.SIGTERM)
        assert process.wait(60) == 0, broker.log_tail()
        return Calls(broker).of


def counters(broker):
    """The broker's own count of its rings' system calls, which it logs at the end."""
    found = re.findall(r"shard \d+: \d+ turns, (\d+) system calls", broker.log())
    return sum(map(int, found))


def produce_mib(broker, mib, batch_bytes):
    data = batch([b"v" * 1000] * (batch_bytes // 1010))
    with leader_connection(broker, "counted") as connection:
        for _ in range(mib * MIB // len(data)):
            assert produce(connection, "counted", data)[0] == 0


@alone
@timeout(180)
@never_sanitized
def test_system_calls_a_mib():
    """With batches of 1 MiB, one at a time: by strace, and by the broker's own counters."""
    need_command("strace")
    mib = 64
    nothing = counted(lambda broker: None)
    calls = counted(lambda broker: produce_mib(broker, mib, 1000 << 10))
    more = {name: count - nothing.get(name, 0) for name, count in calls.items()}
    total = sum(more.values()) / mib
    shown = sorted(more.items(), key=lambda entry: -entry[1])[:5]
    print(f"{total:.1f} system calls a MiB: {', '.join(f'{n} {c}' for n, c in shown)} in {mib} MiB")
    assert calls.get("io_uring_enter", 0) > mib // 2, "the work was not seen"
    assert total < 100, more
    with Broker(shards=1, options={"journal.bytes": "64m"}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["counted"])
        produce_mib(broker, mib, 1000 << 10)
        broker.stop()
        print(f"{counters(broker) / mib:.1f} system calls a MiB by its own counters")
        assert mib // 2 < counters(broker) < 100 * mib
