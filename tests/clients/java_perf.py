"""The Java client: Kafka's own performance producer, topic tool, and programs of our own."""
import contextlib
import os
import re
import time

from lib import transcript
from lib.broker import Broker, is_peer, temp_dir
from lib.clients import Child, java, java_command
from lib.kafka_wire import Connection, create_topics, metadata
from lib.testcase import Skip, params, sanitized, slow, timeout
from lib.timing import best_of, in_time

PARTITIONS = 6
RECORD_SIZE = 100
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PERF = "org.apache.kafka.tools.ProducerPerformance"
TOPIC_TOOL = "org.apache.kafka.tools.TopicCommand"


def topic_tool(*arguments):
    """A command for one_jvm()."""
    return ["tool", TOPIC_TOOL, *arguments]


def one_jvm(broker, *commands, timeout_s=300):
    """What each command printed: most of the time of a small program is the start of its JVM."""
    return transcript.run(broker, commands, timeout_s)


def create_topic(broker, topic, partitions=PARTITIONS):
    """Produce's records have timestamps of 2023: a broker would remove them 30 s after its start."""
    with Connection(broker) as connection:
        create_topics(connection, [topic], partitions, [("retention.ms", "-1")])


def totals(lines):
    """Of Consume's output: records a partition, records in all, sum of the values."""
    counts = [int(re.fullmatch(r"partition \d+ count (\d+) chain -?\d+", line)[1])
              for line in lines if line.startswith("partition")]
    total, value_sum = re.fullmatch(r"total (\d+) sum (-?\d+)", lines[-1]).groups()
    return counts, int(total), value_sum


def consume(broker, topic, mode="values", partitions=PARTITIONS):
    """Read everything by assign(): offsets contiguous from 0."""
    return ["main", "Consume", broker.bootstrap, topic, partitions, mode]


def check_consumed(lines, records, partitions=PARTITIONS):
    """No partition is left out; the sum of the values."""
    counts, total, value_sum = totals(lines)
    assert len(counts) == partitions and sum(counts) == total == records, lines
    assert all(counts), f"a partition got nothing: {counts}"
    return value_sum


def perf(broker, codecs, records):
    """The values read back must be the very ones that the tool's fixed seed makes; what Consume said of each
    codec."""
    commands = [["main", "PerfPayloads", records, RECORD_SIZE]]
    for codec in codecs:
        topic = f"perf-{codec}"
        commands += [
            topic_tool("--create", "--topic", topic, "--partitions", PARTITIONS),
            ["tool", PERF, "--topic", topic, "--num-records", records, "--record-size", RECORD_SIZE,
             "--throughput", -1, "--command-property", f"compression.type={codec}"],
            consume(broker, topic)]
    payloads, *printed = one_jvm(broker, *commands)
    for codec, sent, back in zip(codecs, printed[1::3], printed[2::3], strict=True):
        assert sent[-1].startswith(f"{records} records sent"), sent
        print(f"{codec}: {sent[-1]}")
        assert payloads[-1] == f"sum {check_consumed(back, records)}", codec
    return printed[2::3]


def consume_again(broker, codecs):
    return one_jvm(broker, *[consume(broker, f"perf-{codec}") for codec in codecs])


def test_perf():
    """The other codecs: below."""
    with Broker() as broker:
        perf(broker, ("gzip", "snappy", "zstd"), 50_000)


@sanitized
@timeout(200)
def test_perf_sanitized_slice():
    """Two codecs and a restart in one broker."""
    with Broker() as broker:
        before = perf(broker, ("none", "lz4"), 20_000)
        broker.restart()
        assert consume_again(broker, ("none", "lz4")) == before


@slow
@timeout(600)
@params(*CODECS)
def test_perf_million(codec):
    with Broker() as broker:
        before = perf(broker, [codec], 1_000_000)
        broker.restart(kill=True)
        assert consume_again(broker, [codec]) == before


def check_described(lines):
    """What the topic tool says of a topic of six partitions."""
    assert "PartitionCount: 6" in lines[0] and "ReplicationFactor: 1" in lines[0], lines
    seen = [int(re.search(r"Partition: (\d+)\s+Leader: \d+\s", line)[1]) for line in lines[1:]]
    assert seen == list(range(6)), lines


def test_topic_tool():
    """create, describe, list, delete; what was deleted is gone and can be made anew, empty."""
    with Broker() as broker:
        *_, described, listed, _, deleted = one_jvm(
            broker,
            topic_tool("--create", "--topic", "one", "--partitions", 6, "--config", "retention.ms=-1"),
            topic_tool("--create", "--topic", "two", "--partitions", 1),
            topic_tool("--describe", "--topic", "one"),
            topic_tool("--list"),
            ["main", "Produce", broker.bootstrap, "one", 6, 600, 0],
            topic_tool("--delete", "--topic", "one"))
        check_described(described)
        assert sorted(listed) == ["one", "two"] and deleted == [], (listed, deleted)
        end = time.monotonic() + 10
        with Connection(broker) as connection:
            while "one" in metadata(connection)[1]:
                assert time.monotonic() < end, "the topic is still there 10 s after its deletion"
        listed, _, _, consumed = one_jvm(
            broker,
            topic_tool("--list"),
            topic_tool("--create", "--topic", "one", "--partitions", 3, "--config", "retention.ms=-1"),
            ["main", "Produce", broker.bootstrap, "one", 3, 300, 0],
            consume(broker, "one", "made", 3))
        assert listed == ["two"], listed
        check_consumed(consumed, 300, 3)


def check_nodes(broker, lines):
    """Nodes, controller, and a leader, replica and ISR that are a listed node each."""
    nodes = dict(node.split(":") for node in lines[0].split()[1:])
    in_shard_mode = broker.advertise == "shard" and not is_peer()
    ports = {str(broker.port + i) for i in range(2 if in_shard_mode else 1)}
    assert set(nodes.values()) == ports, lines[0]
    assert lines[1].split()[1] in nodes, lines[1]
    leaders = set()
    for p, line in enumerate(lines[2:]):
        form = rf"described {p} leader (\d+) replicas (\d+) isr (\d+)"
        leader, replica, isr = re.fullmatch(form, line).groups()
        assert leader == replica == isr and leader in nodes, line
        leaders.add(leader)
    assert len(lines) == 2 + 6 and leaders == set(nodes), lines


def test_admin_describe():
    """A broker of each kind."""
    with contextlib.ExitStack() as stack:
        brokers = [stack.enter_context(Broker(advertise=advertise))
                   for advertise in ("shard", "numa", "host")[:1 if is_peer() else 3]]
        for broker in brokers:
            create_topic(broker, "described")
        told = one_jvm(brokers[0], *[["main", "Topics", b.bootstrap, "described"] for b in brokers])
        for broker, lines in zip(brokers, told, strict=True):
            check_nodes(broker, lines)


@timeout(200)
@params("shard", "host")
def test_keyed_records(advertise):
    """Keys, headers, timestamps; offsets answered one by one; two producers one after another; one with five
    small requests in flight at a time keeps the order."""
    with Broker(advertise=advertise) as broker:
        create_topic(broker, "keyed")
        create_topic(broker, "flight")
        first, second, keyed, flight, in_order = one_jvm(
            broker,
            ["main", "Produce", broker.bootstrap, "keyed", 6, 30_000, 0],
            ["main", "Produce", broker.bootstrap, "keyed", 6, 30_000, 30_000,
             "compression.type=zstd", "linger.ms=20"],
            consume(broker, "keyed", "made"),
            ["main", "Produce", broker.bootstrap, "flight", 6, 60_000, 0,
             "enable.idempotence=true", "max.in.flight.requests.per.connection=5",
             "batch.size=2000", "linger.ms=0"],
            consume(broker, "flight", "made"))
        assert said(first) == [f"partition {p} first 0 last 4999" for p in range(6)], first
        assert said(second) == [f"partition {p} first 5000 last 9999" for p in range(6)], second
        assert said(flight) == [f"partition {p} first 0 last 9999" for p in range(6)], flight
        check_consumed(keyed, 60_000)
        check_consumed(in_order, 60_000)


def said(lines):
    """Of Produce, without its progress on stderr."""
    return [line for line in lines if not line.startswith("acknowledged ")]


def wait_for_line(child, wanted, timeout_s):
    end = time.monotonic() + timeout_s
    while True:
        code = child.process.poll()
        if wanted in child.output().splitlines():
            return
        if code is not None:  # before it was looked at
            child.fail(f"ended with {code} before {wanted!r}")
        if time.monotonic() > end:
            child.fail(f"no line {wanted!r} within {timeout_s} s")
        time.sleep(0.1)


@timeout(240)
def test_consumer_stays_over_restart():
    """A consumer kept open goes on where it was after the broker is gone and back, by kill -9 and cleanly."""
    rounds, each = 3, 12_000
    folder = temp_dir("follow")
    with Broker() as broker:
        create_topic(broker, "followed")
        command = java_command("Consume", broker.bootstrap, "followed", PARTITIONS, "follow",
                               rounds * each)
        with Child(command, os.path.join(folder, "consumer.log")) as consumer:
            for turn in range(rounds):
                if turn:
                    broker.restart(kill=turn == 1)
                java("Produce", broker.bootstrap, "followed", PARTITIONS, each, turn * each)
                if turn < rounds - 1:
                    wait_for_line(consumer, f"got {(turn + 1) * each}", 60)
            _, total, _ = totals(consumer.wait(60))
            assert total == rounds * each


@timeout(240)
def test_producer_stays_over_restart():
    """An idempotent producer kept open over kill -9: every record there once, in order."""
    if is_peer():
        raise Skip("Apache Kafka 4.4.0 appends the batch in flight twice now and then")
    best_of(lambda: produce_over_a_restart(600_000))


def produce_over_a_restart(records):
    folder = temp_dir("produce")
    with Broker() as broker:
        create_topic(broker, "kept")
        command = java_command("Produce", broker.bootstrap, "kept", PARTITIONS, records, 0,
                               "linger.ms=5", "delivery.timeout.ms=120000")
        with Child(command, os.path.join(folder, "producer.log")) as producer:
            wait_for_line(producer, "acknowledged 50000", 60)
            broker.kill9()
            in_time(producer.process.poll() is None, "the producer ended before the kill")
            broker.start()
            lines = producer.wait(150)
        each = records // PARTITIONS
        assert lines[-PARTITIONS:] == [f"partition {p} first 0 last {each - 1}"
                                       for p in range(PARTITIONS)], lines[-20:]
        consumed, = one_jvm(broker, consume(broker, "kept", "made"))
        check_consumed(consumed, records)
