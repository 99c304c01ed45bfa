"""The rows of the table: under which load, and which figures are taken of it.

A row's measure(table, name) makes one run of the broker of that name and returns ({figure's title:
value}, verdicts). What a run of `penstock bench` calls invalid is a verdict. A value of None: it was
not measured.
"""
import os
import socket
import statistics
import time
from collections import namedtuple

import table_brokers
from scale import OUT
from table_brokers import BROKERS, Penstock, settle

MIB, GIB = 1 << 20, 1 << 30
IDLE_S, IDLE_AFTER_S = 5, 3
ROUND_TRIPS = 5000

# better: "less" or "more"; None where the brokers are not compared by it.
Figure = namedtuple("Figure", "title unit better of", defaults=(None,))
Row = namedtuple("Row", "name title figures measure note", defaults=("",))


# -- figures of a run of `penstock bench`

def measured(run):
    return run["windows"]["measure"]


def cpu_by(count):
    """Broker's CPU by GiB of what is counted in bytes."""
    def figure(run):
        moved = measured(run)[count]
        return run["bill"]["cpu_s"] / (moved / GIB) if moved > 0 else None
    return figure


def latency(percentile):
    """None where nothing came through in the window: a broker that the load overran."""
    def figure(run):
        ends = measured(run)["histograms"].get("e2e")
        return ends["percentiles"][percentile] / 1e6 if ends else None
    return figure


def synced_share(run):
    for share in run["limits"]["shares"]:
        if share["name"] == "acknowledged bytes against synced device writes":
            return share["share"] * 100
    return None


def synced_write_us(run):
    """The quickest way to have one 4 KiB block on the device."""
    alone = [write["p50_us"] for write in run["limits"]["device"]["write"]
             if write["depth"] == 1 and "p50_us" in write]
    return min(alone, default=None)


PRODUCE_CPU = Figure("broker CPU", "s/GiB", "less", cpu_by("acked_bytes"))
PRODUCE_RATE = Figure("rate", "MiB/s", "more", lambda run: measured(run)["ack_mib_s"])
CONSUME_CPU = Figure("broker CPU", "s/GiB", "less", cpu_by("consumed_bytes"))
CONSUME_RATE = Figure("rate", "MiB/s", "more", lambda run: measured(run)["consume_mib_s"])
FAN_CPU = Figure("broker CPU", "s/GiB produced", "less", cpu_by("acked_bytes"))
FAN_RATE = Figure("consumed", "MiB/s", None, lambda run: measured(run)["consume_mib_s"])
RECORD_RATE = Figure("rate", "records/s", "more", lambda run: measured(run)["ack_rate"])
REQUEST_RATE = RECORD_RATE._replace(unit="requests/s")
REQUEST_CPU = Figure("broker CPU", "us/request", "less",
                     lambda run: run["bill"]["cpu_s"] * 1e6 / measured(run)["acked"])
SYNCED_SHARE = Figure("of the device's synced write rate", "%", "more", synced_share)
LATENCIES = [Figure(f"end to end, p{percentile}", "ms", "less", latency(percentile))
             for percentile in ("50", "99", "99.9")]
HELD_RATE = Figure("acknowledged", "requests/s", None, RECORD_RATE.of)


# -- rows of one run

def run_once(table, broker, kind, settings, durable):
    topic = table.new_topic()
    if durable and broker.durable_topic:
        broker.create_topic(topic, broker.durable_topic)
        settings = {**settings, "topic-reuse": "true"}
    run = table.bench(kind, broker, {"topic": topic, "acks": "all" if durable else "1", **settings})
    broker.delete_topic(topic)
    return run


def load(kind, settings, figures, durable=False):
    """The `figures` and `measure` of a row that is one run of `penstock bench`."""
    def measure(table, name):
        run = run_once(table, table.broker(name), kind, settings, durable)
        return {figure.title: figure.of(run) for figure in figures}, run["invalid"]
    return figures, measure


BIG = {"rate": "max", "batch-size": "1MiB", "linger-ms": "20"}
SINGLE = {"batch-size": "1", "linger-ms": "0"} # one record a request
# One connection carries what it may have in flight by round trip: of a busy broker that is not enough.
SEVERAL = {"producers": "8"}


def fan_out(readers, rate):
    return load("e2e", {**BIG, "record-size": "1KiB", "rate": str(rate), "fan-out": str(readers)},
                [FAN_CPU, FAN_RATE])


def open_loop(rate, durable=False):
    return load("e2e", {**SINGLE, **SEVERAL, "record-size": "1KiB", "rate": str(rate)},
                [HELD_RATE, *LATENCIES], durable)


# -- consuming what lies there

FILL_RATES = {"1KiB": "300000", "100": "2000000"} # records/s
HOT_S, COLD_S = 2, 5
# How quickly a topic was filled does not matter, that it was does.
OF_THE_PACE = {"not-steady", "generator-late", "client-cpu", "overload"}
# Of a broker that is told to keep all that in memory, as Kafka's page cache does unasked.
KEEP_ALL = ("--memory", "4g")


def consume_filled(table, broker, size, cold):
    topic = table.new_topic()
    of = {"topic": topic, "record-size": size}
    filled = table.bench("produce", broker, {
        **of, "rate": FILL_RATES[size], "acks": "1", "batch-size": "1MiB", "warmup-min-s": "0",
        "warmup-max-s": "0", "duration-s": str(COLD_S if cold else HOT_S)})
    settle()
    if cold:
        broker.forget_cached()
    read = table.bench("consume", broker, {**of, "topic-reuse": "true", "duration-s": "30"})
    broker.delete_topic(topic)
    figures = {figure.title: figure.of(read) for figure in (CONSUME_CPU, CONSUME_RATE)}
    figures[FROM_DEVICE.title] = read["bill"]["device_read_bytes"] / MIB
    wrong = [verdict for verdict in filled["invalid"] if verdict["code"] not in OF_THE_PACE]
    return figures, wrong + read["invalid"]


FROM_DEVICE = Figure("read from the device", "MiB", None)
CONSUME_FIGURES = [CONSUME_CPU, CONSUME_RATE, FROM_DEVICE]


def consume_hot(size):
    def measure(table, name):
        if name != Penstock.name:
            return consume_filled(table, table.broker(name), size, False)
        with Penstock("table-penstock-hot", KEEP_ALL) as keeper:
            return consume_filled(table, keeper, size, False)
    return CONSUME_FIGURES, measure


def consume_cold(size):
    def measure(table, name):
        return consume_filled(table, table.broker(name), size, True)
    return CONSUME_FIGURES, measure


# -- one durable request in flight, beside the device and the loopback alone

def round_trip_us():
    """Of one byte over loopback, from the client's CPU to the broker's and back: the median."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = os.fork()
        if child == 0:
            table_brokers.on_lower_half()
            echo, _ = server.accept()
            echo.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in iter(lambda: echo.recv(1), b""):
                echo.send(byte)
            os._exit(0)
        before = os.sched_getaffinity(0)
        table_brokers.on_upper_half()
        times = []
        with socket.create_connection(server.getsockname()) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(ROUND_TRIPS):
                begin = time.perf_counter_ns()
                client.send(b"x")
                client.recv(1)
                times.append(time.perf_counter_ns() - begin)
        os.waitpid(child, 0)
        os.sched_setaffinity(0, before)
    return statistics.median(times) / 1e3


ONE_RATE = REQUEST_RATE
ONE_WRITE = Figure("one 4 KiB synced write, alone", "us", None)
ONE_TRIP = Figure("one loopback round trip, alone", "us", None)
ONE_SHARE = Figure("of what these two add up to", "%", "more")


def one_in_flight(table, name):
    settings = {**SINGLE, "rate": "max", "record-size": "100", "buffer-memory": "64KiB",
                "max-in-flight-requests-per-connection": "1", "limits": OUT,
                "limits-seconds": "0.3"}
    trip_us = round_trip_us()
    run = run_once(table, table.broker(name), "produce", settings, True)
    rate, write_us = ONE_RATE.of(run), synced_write_us(run)
    share = rate * (write_us + trip_us) / 1e6 * 100 if write_us else None
    return {ONE_RATE.title: rate, ONE_WRITE.title: write_us, ONE_TRIP.title: trip_us,
            ONE_SHARE.title: share}, run["invalid"]


# -- a broker that has just started, and does nothing

START = Figure("start to first answer", "s", "less")
IDLE_CPU = Figure("idle CPU", "% of a core", "less")
IDLE_MEMORY = Figure("idle resident memory", "MiB", "less")


def start_and_idle(_, name):
    with BROKERS[name](f"table-{name}-fresh") as fresh:
        time.sleep(IDLE_AFTER_S)
        before = fresh.cpu_s()
        time.sleep(IDLE_S)
        return {START.title: fresh.start_s,
                IDLE_CPU.title: (fresh.cpu_s() - before) / IDLE_S * 100,
                IDLE_MEMORY.title: fresh.resident_bytes() / MIB}, []


# -- memory, of all the runs before

LOAD_MEMORY = Figure("highest resident memory", "MiB", "less")


def load_memory(table, name):
    most = table.resident_bytes_max.get((name, table.pair))
    return {LOAD_MEMORY.title: most and most / MIB}, []


ROWS = [
    Row("produce-1k", "produce 1 KiB, acks=1, 1 partition, batches of 1 MiB",
        *load("produce", {**BIG, "record-size": "1KiB"}, [PRODUCE_CPU, PRODUCE_RATE])),
    Row("produce-100", "produce 100 B, acks=1, 1 partition, batches of 1 MiB",
        *load("produce", {**BIG, "record-size": "100"}, [PRODUCE_CPU, PRODUCE_RATE])),
    Row("hot-1k", "consume 1 KiB, hot", *consume_hot("1KiB"),
        "hot: a log just written; Kafka's is in the page cache, penstock is started with "
        "--memory 4g, so that all of it is in its memory."),
    Row("hot-100", "consume 100 B, hot", *consume_hot("100")),
    Row("cold-1k", "consume 1 KiB, cold", *consume_cold("1KiB"),
        "cold: read from the device; of Kafka's files the page cache was dropped before, penstock "
        "reads around it and has less memory (its default) than lies in the log."),
    Row("cold-100", "consume 100 B, cold", *consume_cold("100")),
    Row("fan-1", "produce 1 KiB and consume it once, 200,000/s", *fan_out(1, 200_000)),
    Row("fan-3", "produce 1 KiB and consume it 3 times, 100,000/s", *fan_out(3, 100_000)),
    Row("fan-10", "produce 1 KiB and consume it 10 times, 30,000/s", *fan_out(10, 30_000)),
    Row("one", "one 100 B record a request, acks=1, 8 producers",
        *load("produce", {**SINGLE, **SEVERAL, "rate": "max", "record-size": "100",
                          "buffer-memory": "64KiB"}, [REQUEST_CPU, REQUEST_RATE])),
    Row("durable", "durable, 1 KiB, 1 partition, batches of 1 MiB",
        *load("produce", {**BIG, "record-size": "1KiB", "limits": OUT,
                          "limits-seconds": "0.5"}, [PRODUCE_RATE, PRODUCE_CPU, SYNCED_SHARE], True),
        "durable: Kafka with flush.messages=1, penstock as it is; acks=all on both."),
    Row("durable-one", "durable, 100 B, one request in flight",
        [ONE_RATE, ONE_WRITE, ONE_TRIP, ONE_SHARE], one_in_flight),
    Row("start", "start and idle, at defaults", [START, IDLE_CPU, IDLE_MEMORY], start_and_idle),
    Row("open-2k", "2,000 one-record requests/s of 1 KiB, open loop, acks=1", *open_loop(2000)),
    Row("open-2k-durable", "2,000 one-record requests/s of 1 KiB, open loop, durable", *open_loop(2000, True)),
    Row("open-20k", "20,000 one-record requests/s of 1 KiB, open loop, acks=1", *open_loop(20_000)),
    Row("open-20k-durable", "20,000 one-record requests/s of 1 KiB, open loop, durable",
        *open_loop(20_000, True)),
    Row("partitions", "1 KiB over 1,000 partitions, 5 ms linger, librdkafka, acks=1",
        *load("produce", {"driver": "librdkafka", "record-size": "1KiB", "partitions": "1000",
                          "rate": "max", "linger-ms": "5", "warmup-min-s": "10",
                          "warmup-max-s": "15", "drain-max-s": "10"}, [RECORD_RATE, PRODUCE_CPU]),
        "partitions: after 10 s of load at least, which make the files of all partitions."),
    Row("memory", "resident memory under this load", [LOAD_MEMORY], load_memory),
]
