"""The ways in which a row of the table is measured.

Each returns (figures, measure): measure(stage, name) loads the broker of that name and returns
({figure's title: value}, verdicts). What a run of `penstock bench` calls invalid is a verdict. A
value of None: it was not measured.
"""
import contextlib
import json
import os
import socket
import statistics
import subprocess
import time

import table_brokers
from scale import OUT, ROOT
from table_brokers import Failed, Penstock, settle
from table_figures import (ACK_LATENCY, CONSUME_CPU, CONSUME_RATE, FROM_DEVICE, HELD_RECORDS,
                           LATENCIES, MIB, PRODUCE_RATE, REQUEST_CPU, REQUEST_RATE, Figure, latency,
                           measured, raw_loopback_mib_s, raw_write_mib_s, share, synced_write_us, taken)
from table_stage import DRAIN_MAX_S

BIG = {"rate": "max", "batch-size": "1MiB", "linger-ms": "20"}
SINGLE = {"batch-size": "1", "linger-ms": "0"} # one record a request
# One connection carries what it may have in flight by round trip: of a busy broker that is not enough.
SEVERAL = {"producers": "8"}
# A batch has what came while earlier ones were on their way: one record at low load, many at high.
GATHERED = {**SEVERAL, "batch-size": "16KiB", "linger-ms": "0", "record-size": "1KiB", "partitions": "6"}


# -- one run

def run_once(stage, broker, kind, settings, durable):
    topic = stage.new_topic()
    settings = {"topic": topic, "acks": "all" if durable else "1",
                **topic_settings(broker, topic, settings, durable), **settings}
    run = stage.bench(kind, broker, settings)
    broker.delete_topic(topic)
    return run


def topic_settings(broker, topic, settings, durable):
    """Made beforehand where durability is the topic's."""
    if not durable or not broker.durable_topic:
        return {}
    broker.create_topic(topic, broker.durable_topic, int(settings.get("partitions", "1")))
    return {"topic-reuse": "true"}


def load(kind, settings, figures, durable=False):
    def measure(stage, name):
        run = run_once(stage, stage.broker(name), kind, settings, durable)
        return taken(figures, run), run["invalid"]
    return figures, measure


# -- consuming what lies there

FILL_RATES = {"1KiB": "300000", "100": "2000000"} # records/s
HOT_S, COLD_S = 2, 5
# How quickly a topic was filled does not matter, that it was does.
OF_THE_PACE = {"not-steady", "generator-late", "client-cpu", "overload"}
# Of a broker that is told to keep all that in memory, as Kafka's page cache does unasked.
KEEP_ALL = ("--memory", "4g")
CONSUME_FIGURES = [CONSUME_CPU, CONSUME_RATE, FROM_DEVICE]


def fill(stage, broker, topic, settings, seconds):
    filled = stage.bench("produce", broker, {
        "rate": FILL_RATES[settings["record-size"]], "acks": "1", "batch-size": "1MiB", **settings,
        "topic": topic, "warmup-min-s": "0", "warmup-max-s": "0", "duration-s": str(seconds)})
    settle()
    return [verdict for verdict in filled["invalid"] if verdict["code"] not in OF_THE_PACE]


def consume_filled(stage, broker, settings, cold):
    topic = stage.new_topic()
    wrong = fill(stage, broker, topic, settings, COLD_S if cold else HOT_S)
    if cold:
        broker.forget_cached()
    read = stage.bench("consume", broker, {**settings, "topic": topic, "topic-reuse": "true",
                                           "duration-s": "30"})
    broker.delete_topic(topic)
    return read, wrong + read["invalid"]


@contextlib.contextmanager
def broker_with(stage, name, directory, options):
    """The stage's, but for penstock one of its own if it takes options."""
    if name != Penstock.name or not options:
        yield stage.broker(name)
        return
    with Penstock(directory, options) as broker:
        yield broker


def read_hot(stage, name, settings):
    with broker_with(stage, name, "table-penstock-hot", KEEP_ALL) as broker:
        return consume_filled(stage, broker, settings, False)


def consume_hot(settings):
    def measure(stage, name):
        run, wrong = read_hot(stage, name, settings)
        return taken(CONSUME_FIGURES, run), wrong
    return CONSUME_FIGURES, measure


def consume_cold(settings):
    def measure(stage, name):
        run, wrong = consume_filled(stage, stage.broker(name), settings, True)
        return taken(CONSUME_FIGURES, run), wrong
    return CONSUME_FIGURES, measure


# -- one durable request in flight, beside the device and the loopback alone

ROUND_TRIPS = 5000
STAY_AWAKE = ("-o", "flush.poll.us=200")
ONE_WRITE = Figure("one 4 KiB synced write, alone", "us", None)
ONE_TRIP = Figure("one loopback round trip, alone", "us", None)
ONE_SHARE = Figure("of what these two add up to", "%", "more")


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


def one_in_flight(options=()):
    """options: of penstock, for a broker of its own."""
    settings = {**SINGLE, "rate": "max", "record-size": "100", "buffer-memory": "64KiB",
                "max-in-flight-requests-per-connection": "1", "limits": OUT,
                "limits-seconds": "0.3"}

    def measure(stage, name):
        trip_us = round_trip_us()
        with broker_with(stage, name, "table-penstock-one", options) as broker:
            run = run_once(stage, broker, "produce", settings, True)
        rate, write_us = REQUEST_RATE.of(run), synced_write_us(run)
        shared = share(rate * (write_us + trip_us), 1e6) if rate and write_us else None
        return {REQUEST_RATE.title: rate, ONE_WRITE.title: write_us, ONE_TRIP.title: trip_us,
                ONE_SHARE.title: shared, REQUEST_CPU.title: REQUEST_CPU.of(run)}, run["invalid"]
    return [REQUEST_RATE, ONE_WRITE, ONE_TRIP, ONE_SHARE, REQUEST_CPU], measure


# -- share of what the device and the loopback carry

BLOCK, BLOCK_BYTES = "1MiB", MIB
RAW_WRITE = Figure("direct writes of 1 MiB, alone", "MiB/s", None)
RAW_LOOPBACK = Figure("one loopback connection, alone", "MiB/s", None)
RAW_SHARE = Figure("of that", "%", "more")


def beside_raw(rate, raw_figure, raw_of, run_of):
    """The rate of a run beside what the machine does without a broker."""
    def measure(stage, name):
        run, wrong = run_of(stage, name)
        raw = raw_of(stage.limits(BLOCK))
        reached = rate.of(run)
        return {rate.title: reached, raw_figure.title: raw,
                RAW_SHARE.title: share(reached, raw)}, wrong
    return [rate, raw_figure, RAW_SHARE], measure


def written_share(durable):
    def run_of(stage, name):
        run = run_once(stage, stage.broker(name), "produce",
                       {**BIG, "batch-size": BLOCK, "record-size": "1KiB"}, durable)
        return run, run["invalid"]
    return beside_raw(PRODUCE_RATE, RAW_WRITE, lambda limits: raw_write_mib_s(limits, BLOCK_BYTES), run_of)


def sent_share():
    return beside_raw(CONSUME_RATE, RAW_LOOPBACK, raw_loopback_mib_s,
                      lambda stage, name: read_hot(stage, name, {"record-size": "1KiB"}))


# -- a consumer that reads everything from the start, beside those that tail

ALONE_PRODUCE = Figure("produce p99, no replay", "ms", "less")
BESIDE_PRODUCE = Figure("produce p99, replay beside it", "ms", "less")
RISE_PRODUCE = Figure("produce p99, with by without", "times", "less")
ALONE_TAIL = Figure("tail p99, no replay", "ms", "less")
BESIDE_TAIL = Figure("tail p99, replay beside it", "ms", "less")
RISE_TAIL = Figure("tail p99, with by without", "times", "less")
REPLAY_RATE = Figure("replayed", "MiB/s", None)
REPLAY_SLACK_S = DRAIN_MAX_S + 3 # the run beside it may have to drain


def on_what_is_left():
    """Of the client's CPUs: the one that replays does not keep the one that measures waiting."""
    table_brokers.on_upper_half()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class Replay:
    """Reads a topic from its start, again and again, in a process of its own."""

    def __init__(self, stage, broker, topic):
        seconds = stage.options.settle + stage.options.seconds + REPLAY_SLACK_S
        self.command, self.path = stage.command("mixed", broker, {
            "topic": topic, "topic-reuse": "true", "rate": "1", "record-size": "1KiB", "acks": "1",
            "verify": "off", "warmup-min-s": "0", "warmup-max-s": "0", "duration-s": str(seconds)})

    def __enter__(self):
        self.process = subprocess.Popen(self.command, cwd=ROOT, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=on_what_is_left)
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.process.terminate()
        self.process.wait()

    def mib_s(self):
        with open(self.path) as file:
            rate = measured(json.load(file)["runs"][0]).get("late_consume_mib_s")
        if not rate:
            raise Failed("the replay has read nothing")
        return rate


def rise(beside, alone):
    return beside / alone if beside is not None and alone else None


def replay_beside(rate, durable):
    tailing = {**SINGLE, **SEVERAL, "record-size": "1KiB", "rate": str(rate)}
    produce, tail = latency("99", "ack"), latency("99")

    def measure(stage, name):
        broker, log = stage.broker(name), stage.new_topic()
        wrong = fill(stage, broker, log, {"record-size": "1KiB"}, COLD_S)
        alone = run_once(stage, broker, "e2e", tailing, durable)
        broker.forget_cached()
        with Replay(stage, broker, log) as replay:
            beside = run_once(stage, broker, "e2e", tailing, durable)
            if replay.process.poll() is not None:
                raise Failed("the replay ended before the run beside it")
        broker.delete_topic(log)
        values = {ALONE_PRODUCE.title: produce(alone), BESIDE_PRODUCE.title: produce(beside),
                  RISE_PRODUCE.title: rise(produce(beside), produce(alone)),
                  ALONE_TAIL.title: tail(alone), BESIDE_TAIL.title: tail(beside),
                  RISE_TAIL.title: rise(tail(beside), tail(alone)),
                  REPLAY_RATE.title: replay.mib_s()}
        return values, wrong + alone["invalid"] + beside["invalid"]
    return [ALONE_PRODUCE, BESIDE_PRODUCE, RISE_PRODUCE, ALONE_TAIL, BESIDE_TAIL, RISE_TAIL,
            REPLAY_RATE], measure


# -- what a broker can take, and a part of that

SATURATION = Figure("highest rate with p99 <= 100 ms", "records/s", "more")
SATURATION_LOW = Figure("at least", "records/s", None)
SATURATION_HIGH = Figure("at most", "records/s", None)
SEARCH = {"percentile": "99", "bound-ms": "100", "rate-min": "500", "rate-max": "1000000",
          "rate-start": "10000", "tolerance": "0.15", "confidence": "0.9", "reliability": "0.95",
          "trials": "16", "settle": "0.5", "warmup-min-s": "0", "drain-max-s": "2"}


def saturation(stage, name, durable):
    """The search, made once for each broker."""
    return stage.remember((name, durable), lambda: search(stage, stage.broker(name), durable))


def search(stage, broker, durable):
    topic = stage.new_topic()
    document = stage.document("saturate", broker, {
        **GATHERED, **SEARCH, "topic": topic, "acks": "all" if durable else "1",
        **topic_settings(broker, topic, GATHERED, durable),
        "warmup-max-s": str(stage.options.settle / 4), "duration-s": str(stage.options.seconds / 2)})
    broker.delete_topic(topic)
    return document["search"]


def saturation_row(durable):
    def measure(stage, name):
        if stage.pair > 1: # found once
            return {}, []
        found = saturation(stage, name, durable)
        by_client = [{"code": "client-limited", "text": "the client carried no more"}]
        return {SATURATION.title: found["estimate"], SATURATION_LOW.title: found.get("low"),
                SATURATION_HIGH.title: found.get("high")}, \
            by_client if found["limited_by"] == "client" else []
    return [SATURATION, SATURATION_LOW, SATURATION_HIGH], measure


def part_of_saturation(part, durable):
    figures = [HELD_RECORDS, *LATENCIES, ACK_LATENCY]

    def measure(stage, name):
        rate = saturation(stage, name, durable)["estimate"] * part
        run = run_once(stage, stage.broker(name), "e2e", {**GATHERED, "rate": f"{rate:.0f}"}, durable)
        return taken(figures, run), run["invalid"]
    return figures, measure


# -- a broker that has just started, and does nothing

IDLE_S, IDLE_AFTER_S = 5, 3
START = Figure("start to first answer", "s", "less")
IDLE_CPU = Figure("idle CPU", "% of a core", "less")
IDLE_MEMORY = Figure("idle resident memory", "MiB", "less")


def start_and_idle():
    def measure(stage, name):
        with stage.kinds[name](f"table-{name}-fresh") as fresh:
            time.sleep(IDLE_AFTER_S)
            before = fresh.cpu_s()
            time.sleep(IDLE_S)
            return {START.title: fresh.start_s,
                    IDLE_CPU.title: (fresh.cpu_s() - before) / IDLE_S * 100,
                    IDLE_MEMORY.title: fresh.resident_bytes() / MIB}, []
    return [START, IDLE_CPU, IDLE_MEMORY], measure


# -- memory, of all the runs before

LOAD_MEMORY = Figure("highest resident memory", "MiB", "less")


def load_memory():
    def measure(stage, name):
        most = stage.resident_bytes_max.get((name, stage.pair))
        return {LOAD_MEMORY.title: most and most / MIB}, []
    return [LOAD_MEMORY], measure
