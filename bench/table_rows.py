"""The rows of the table, in order: under which load, and which figures are taken of it.

To add one: a Row below; its figures and how it is measured come from table_measures.
"""
from collections import namedtuple

from scale import OUT
from table_figures import (ACK_LATENCY, FAN_CPU, FAN_RATE, HELD_REQUESTS, LATENCIES, PRODUCE_CPU,
                           PRODUCE_RATE, RECORD_RATE, REQUEST_CPU, REQUEST_RATE, SYNCED_SHARE)
from table_measures import (BIG, SEVERAL, SINGLE, STAY_AWAKE, consume_cold, consume_hot, load, load_memory,
                            one_in_flight, part_of_saturation, replay_beside, saturation_row,
                            sent_share, start_and_idle, written_share)

Row = namedtuple("Row", "name title figures measure note", defaults=("",))

CODECS = ("gzip", "snappy", "lz4", "zstd")
FAN_RATES = {1: 200_000, 3: 100_000, 10: 30_000} # records/s, of which the client can read so many copies
TIMES = {1: "once", 3: "3 times", 10: "10 times"}
FIRST_NOTES = {
    "hot-1k": "hot: a log just written; Kafka's is in the page cache, penstock is started with "
              "--memory 4g, so that all of it is in its memory.",
    "cold-1k": "cold: read from the device; of Kafka's files the page cache was dropped before, penstock "
               "reads around it and has less memory (its default) than lies in the log.",
    "durable": "durable: Kafka with flush.messages=1, penstock as it is; acks=all on both.",
}


def bulk_rows(partitions):
    """The same loads over any number of partitions."""
    over = f"{partitions} partition" + ("s" if partitions > 1 else "")
    end = "" if partitions == 1 else f"-{partitions}p"

    def row(name, title, measured):
        return Row(name + end, f"{title}, {over}", *measured, "" if end else FIRST_NOTES.get(name, ""))

    def of(size, **more):
        return {"partitions": str(partitions), "record-size": size, **more}

    sizes = (("1k", "1KiB", "1 KiB"), ("100", "100", "100 B"))
    for name, size, said in sizes:
        yield row(f"produce-{name}", f"produce {said}, acks=1, batches of 1 MiB",
                  load("produce", {**BIG, **of(size)}, [PRODUCE_CPU, PRODUCE_RATE]))
    for name, size, said in sizes:
        yield row(f"hot-{name}", f"consume {said}, hot", consume_hot(of(size)))
    for name, size, said in sizes:
        yield row(f"cold-{name}", f"consume {said}, cold", consume_cold(of(size)))
    for readers, rate in FAN_RATES.items():
        yield row(f"fan-{readers}", f"produce 1 KiB and consume it {TIMES[readers]}, {rate:,}/s",
                  load("e2e", {**BIG, **of("1KiB"), "rate": str(rate), "fan-out": str(readers)},
                       [FAN_CPU, FAN_RATE]))
    yield row("one", "one 100 B record a request, acks=1, 8 producers",
              load("produce", {**SINGLE, **SEVERAL, **of("100"), "rate": "max",
                               "buffer-memory": "64KiB"}, [REQUEST_CPU, REQUEST_RATE]))
    yield row("durable", "durable, 1 KiB, batches of 1 MiB",
              load("produce", {**BIG, **of("1KiB"), "limits": OUT, "limits-seconds": "0.5"},
                   [PRODUCE_RATE, PRODUCE_CPU, SYNCED_SHARE], True))
    for rate, name in ((2000, "2k"), (20_000, "20k")):
        for durable, acks in ((False, "acks=1"), (True, "durable")):
            yield row(f"open-{name}" + "-durable" * durable,
                      f"{rate:,} one-record requests/s of 1 KiB, open loop, {acks}",
                      load("e2e", {**SINGLE, **SEVERAL, **of("1KiB"), "rate": str(rate)},
                           [HELD_REQUESTS, *LATENCIES, ACK_LATENCY], durable))


def codec_rows(codec):
    """As produce-1k-6p and hot-1k-6p, compressed by the client."""
    settings = {"partitions": "6", "record-size": "1KiB", "compression-type": codec,
                "value-entropy": "0.5"}
    note = "codecs: the client compresses, values shrink to half, bytes are counted uncompressed; what " \
        "is carried is what the client can compress and expand." if codec == CODECS[0] else ""
    yield Row(f"produce-{codec}", f"produce 1 KiB, {codec}, acks=1, batches of 1 MiB, 6 partitions",
              *load("produce", {**BIG, **settings}, [PRODUCE_CPU, PRODUCE_RATE]), note)
    yield Row(f"hot-{codec}", f"consume 1 KiB, {codec}, hot, 6 partitions", *consume_hot(settings))


def saturation_rows(durable):
    acks, end = ("durable", "-durable") if durable else ("acks=1", "")
    note = "" if durable else \
        "saturation: records of 1 KiB, 8 producers, a batch has what gathered while earlier ones were on " \
        "their way; searched once for each broker, the rows below are at a part of its own rate."
    yield Row("saturation" + end, f"saturation, {acks}, 6 partitions", *saturation_row(durable), note)
    for percent in (50, 80):
        yield Row(f"at-{percent}{end}", f"at {percent} % of its own saturation, {acks}, 6 partitions",
                  *part_of_saturation(percent / 100, durable))


ROWS = [
    *bulk_rows(1),
    Row("durable-20", "durable, 1 KiB, batches of 1 MiB, 20 requests in flight, 1 partition",
        *load("produce", {**BIG, "record-size": "1KiB", "enable-idempotence": "false",
                          "max-in-flight-requests-per-connection": "20", "limits": OUT,
                          "limits-seconds": "0.5"}, [PRODUCE_RATE, PRODUCE_CPU, SYNCED_SHARE], True),
        "durable-20: with the 5 requests that an idempotent client may have in flight, each waits for its "
        "own write and flush, and what the device takes in that time is the limit; here it is the device."),
    Row("durable-one", "durable, 100 B, one request in flight", *one_in_flight()),
    Row("durable-one-awake", "the same, penstock with flush.poll.us=200", *one_in_flight(STAY_AWAKE),
        "durable-one-awake: a shard that waits for the device without sleeping, for more of its CPU."),
    Row("start", "start and idle, at defaults", *start_and_idle()),
    Row("partitions", "1 KiB over 1,000 partitions, 5 ms linger, librdkafka, acks=1",
        *load("produce", {"driver": "librdkafka", "record-size": "1KiB", "partitions": "1000",
                          "rate": "max", "linger-ms": "5", "warmup-min-s": "10",
                          "warmup-max-s": "15", "drain-max-s": "10"}, [RECORD_RATE, PRODUCE_CPU]),
        "partitions: after 10 s of load at least, which make the files of all partitions."),
    *bulk_rows(6),
    *(row for codec in CODECS for row in codec_rows(codec)),
    *saturation_rows(False),
    *saturation_rows(True),
    Row("replay", "2,000 one-record requests/s of 1 KiB, acks=1, and one that replays",
        *replay_beside(2000, False),
        "replay: reads 1.4 GiB from its start again and again, the first time from the device, in a "
        "process that gets what the measuring one leaves of the client's CPUs."),
    Row("replay-durable", "2,000 one-record requests/s of 1 KiB, durable, and one that replays",
        *replay_beside(2000, True)),
    Row("share-write", "produce 1 KiB, acks=1, batches of 1 MiB, beside the device",
        *written_share(False),
        "share-write: 1 partition; Kafka with acks=1 writes to the page cache, and may be ahead of the device."),
    Row("share-write-durable", "produce 1 KiB, durable, batches of 1 MiB, beside the device",
        *written_share(True)),
    Row("share-egress", "consume 1 KiB, hot, beside the loopback", *sent_share()),
    Row("memory", "resident memory under this load", *load_memory()),
]
