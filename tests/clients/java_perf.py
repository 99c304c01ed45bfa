"""The Java client: Kafka's own performance producer, topic tool, and programs of our own."""
import os
import re
import time

from lib.broker import Broker, is_peer, temp_dir
from lib.clients import Child, java, java_command
from lib.testcase import Skip, params, sanitized, slow, timeout

PARTITIONS = 6
RECORD_SIZE = 100
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PERF = "org.apache.kafka.tools.ProducerPerformance"
TOPIC_TOOL = "org.apache.kafka.tools.TopicCommand"


def topic_tool(broker, *arguments):
    return java(TOPIC_TOOL, "--bootstrap-server", broker.bootstrap, *arguments)


def create_topic(broker, topic, partitions=PARTITIONS):
    topic_tool(broker, "--create", "--topic", topic, "--partitions", partitions)


def totals(lines):
    """Of Consume's output: records a partition, records in all, sum of the values."""
    counts = [int(re.fullmatch(r"partition \d+ count (\d+) chain -?\d+", line)[1])
              for line in lines if line.startswith("partition")]
    total, value_sum = re.fullmatch(r"total (\d+) sum (-?\d+)", lines[-1]).groups()
    return counts, int(total), value_sum


def consume_all(broker, topic, records, mode="values", partitions=PARTITIONS):
    """Read everything by assign(): offsets contiguous from 0, no partition left out."""
    lines = java("Consume", broker.bootstrap, topic, partitions, mode, timeout_s=300)
    counts, total, value_sum = totals(lines)
    assert len(counts) == partitions and sum(counts) == total == records, lines
    assert all(counts), f"a partition got nothing: {counts}"
    return lines, value_sum


def perf(broker, codec, records):
    """The values read back must be the very ones that the tool's fixed seed makes."""
    topic = f"perf-{codec}"
    create_topic(broker, topic)
    lines = java(PERF, "--bootstrap-server", broker.bootstrap, "--topic", topic,
                 "--num-records", records, "--record-size", RECORD_SIZE, "--throughput", -1,
                 "--command-property", f"compression.type={codec}", timeout_s=300)
    assert lines[-1].startswith(f"{records} records sent"), lines
    print(f"{codec}: {lines[-1]}")
    before, value_sum = consume_all(broker, topic, records)
    assert java("PerfPayloads", records, RECORD_SIZE)[-1] == f"sum {value_sum}"
    return before


@params("gzip", "snappy", "zstd") # the others: below
def test_perf(codec):
    with Broker() as broker:
        perf(broker, codec, 50_000)


@sanitized
def test_perf_sanitized_slice():
    """Two codecs and a restart in one broker."""
    with Broker() as broker:
        for codec in ("none", "lz4"):
            before = perf(broker, codec, 20_000)
            broker.restart()
            assert consume_all(broker, f"perf-{codec}", 20_000)[0] == before


@slow
@timeout(600)
@params(*CODECS)
def test_perf_million(codec):
    with Broker() as broker:
        before = perf(broker, codec, 1_000_000)
        broker.restart(kill=True)
        assert consume_all(broker, f"perf-{codec}", 1_000_000)[0] == before


def test_topic_tool():
    """create, list, delete; what was deleted is gone and can be made anew, empty."""
    with Broker() as broker:
        create_topic(broker, "one", 6)
        create_topic(broker, "two", 1)
        assert sorted(topic_tool(broker, "--list")) == ["one", "two"]
        java("Produce", broker.bootstrap, "one", 6, 600, 0)
        topic_tool(broker, "--delete", "--topic", "one")
        end = time.monotonic() + 10
        while topic_tool(broker, "--list") != ["two"]:
            assert time.monotonic() < end, "the topic is still listed 10 s after its deletion"
        create_topic(broker, "one", 3)
        java("Produce", broker.bootstrap, "one", 3, 300, 0)
        consume_all(broker, "one", 300, "made", partitions=3)


def test_topic_tool_describe():
    with Broker() as broker:
        create_topic(broker, "described", 6)
        lines = topic_tool(broker, "--describe", "--topic", "described")
        assert "PartitionCount: 6" in lines[0] and "ReplicationFactor: 1" in lines[0], lines
        seen = [int(re.search(r"Partition: (\d+)\s+Leader: \d+\s", line)[1]) for line in lines[1:]]
        assert seen == list(range(6)), lines


@params("shard", "numa", "host")
def test_admin_describe(advertise):
    """Nodes, controller, and a leader, replica and ISR that are a listed node each."""
    with Broker(advertise=advertise, shards=2) as broker:
        create_topic(broker, "described", 6)
        lines = java("Topics", broker.bootstrap, "described")
        nodes = dict(node.split(":") for node in lines[0].split()[1:])
        in_shard_mode = advertise == "shard" and not is_peer()
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


@params("shard", "host")
def test_keyed_records(advertise):
    """Keys, headers, timestamps; offsets answered one by one; two producers one after another."""
    with Broker(advertise=advertise) as broker:
        create_topic(broker, "keyed")
        first = java("Produce", broker.bootstrap, "keyed", 6, 30_000, 0)
        assert first == [f"partition {p} first 0 last 4999" for p in range(6)], first
        second = java("Produce", broker.bootstrap, "keyed", 6, 30_000, 30_000,
                      "compression.type=zstd", "linger.ms=20")
        assert second == [f"partition {p} first 5000 last 9999" for p in range(6)], second
        consume_all(broker, "keyed", 60_000, "made")


def test_five_in_flight():
    """Idempotence with five small requests in flight at a time keeps the order."""
    with Broker() as broker:
        create_topic(broker, "flight")
        lines = java("Produce", broker.bootstrap, "flight", 6, 60_000, 0, "enable.idempotence=true",
                     "max.in.flight.requests.per.connection=5", "batch.size=2000", "linger.ms=0")
        assert lines == [f"partition {p} first 0 last 9999" for p in range(6)], lines
        consume_all(broker, "flight", 60_000, "made")


def wait_for_line(child, wanted, timeout_s):
    end = time.monotonic() + timeout_s
    while wanted not in child.output().splitlines():
        if child.process.poll() is not None:
            child.fail(f"ended with {child.process.returncode} before {wanted!r}")
        if time.monotonic() > end:
            child.fail(f"no line {wanted!r} within {timeout_s} s")
        time.sleep(0.1)


@timeout(240)
@params("kill9", "stop")
def test_consumer_stays_over_restart(how):
    """A consumer kept open goes on where it was after the broker is gone and back, twice."""
    rounds, each = 3, 12_000
    folder = temp_dir("follow")
    with Broker() as broker:
        create_topic(broker, "followed")
        command = java_command("Consume", broker.bootstrap, "followed", PARTITIONS, "follow",
                               rounds * each)
        with Child(command, os.path.join(folder, "consumer.log")) as consumer:
            for turn in range(rounds):
                if turn:
                    broker.restart(kill=how == "kill9")
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
    records = 600_000
    folder = temp_dir("produce")
    with Broker() as broker:
        create_topic(broker, "kept")
        command = java_command("Produce", broker.bootstrap, "kept", PARTITIONS, records, 0,
                               "linger.ms=5", "delivery.timeout.ms=120000")
        with Child(command, os.path.join(folder, "producer.log")) as producer:
            wait_for_line(producer, "acknowledged 50000", 60)
            broker.kill9()
            assert producer.process.poll() is None, "the producer ended before the kill"
            broker.start()
            lines = producer.wait(150)
        each = records // PARTITIONS
        assert lines[-PARTITIONS:] == [f"partition {p} first 0 last {each - 1}"
                                       for p in range(PARTITIONS)], lines[-20:]
        consume_all(broker, "kept", records, "made")
