"""5,000 partitions on two shards: made, each written, killed, started again, each read back."""
import os
import time

from lib.broker import Broker, is_sanitized
from lib.kafka_wire import (FETCH, PRODUCE, Connection, array, batch, batch_values, create_topics,
                            i8, i16, i32, i64, metadata, string)
from lib.testcase import params, sanitized, slow, timeout

MIB = 1 << 20
MEMORY_MIB = 512
RSS_MORE_MIB = 150
RSS_MORE_SANITIZED_MIB = 400
DISK_A_PARTITION = 64 * 1024  # a first segment of 16 KiB, its directory and two small files
PARTITIONS_A_REQUEST = 250
JOURNAL_MIB = 32


class Nodes:
    """A connection to every node, and who leads what."""

    def __init__(self, broker):
        with Connection(broker) as any_node:
            nodes, self.leaders = metadata(any_node)
        self.connections = {node: Connection(broker, port, timeout_s=100)
                            for node, (_, port) in nodes.items()}

    def shares(self):
        """(connection, [(topic, partition)]) in portions that fit a request."""
        led = {node: [] for node in self.connections}
        for topic, partitions in sorted(self.leaders.items()):
            for partition, leader in sorted(partitions.items()):
                led[leader].append((topic, partition))
        assert all(led.values()), "a shard leads nothing"
        for node, places in led.items():
            for at in range(0, len(places), PARTITIONS_A_REQUEST):
                yield self.connections[node], places[at:at + PARTITIONS_A_REQUEST]

    def close(self):
        for connection in self.connections.values():
            connection.close()


def by_topic(places, entry):
    """The topic array of a request: entry(topic, partition) makes the bytes of one partition."""
    topics = {}
    for topic, partition in places:
        topics.setdefault(topic, []).append(entry(topic, partition))
    return array([string(topic) + array(entries) for topic, entries in topics.items()])


def value_of(topic, partition, turn):
    return f"{topic} {partition} {turn} ".encode() * 4


def write_all(nodes, turn):
    """One batch of two records to each partition, acks=all."""
    def entry(topic, partition):
        value = value_of(topic, partition, turn)
        data = batch([value, value + b"2"])
        return i32(partition) + i32(len(data)) + data
    written = 0
    for connection, places in nodes.shares():
        answer = connection.request(PRODUCE, 7, string(None) + i16(-1) + i32(60_000) +
                                    by_topic(places, entry))
        assert answer is not None, "Produce was answered by closing"
        for _ in range(answer.i32()):
            topic = answer.string()
            for _ in range(answer.i32()):
                partition, error, offset = answer.i32(), answer.i16(), answer.i64()
                answer.i64(), answer.i64()
                assert (error, offset) == (0, 2 * turn), (topic, partition, error, offset)
                written += 1
    return written


def read_portion(connection, places):
    """{(topic, partition): records as bytes} of one Fetch v4 from offset 0."""
    body = i32(-1) + i32(0) + i32(0) + i32(32 * MIB) + i8(0) + by_topic(
        places, lambda _, partition: i32(partition) + i64(0) + i32(64 * 1024))
    answer = connection.request(FETCH, 4, body)
    assert answer is not None, "Fetch was answered by closing"
    answer.i32()
    found = {}
    for _ in range(answer.i32()):
        topic = answer.string()
        for _ in range(answer.i32()):
            partition, error, high = answer.i32(), answer.i16(), answer.i64()
            answer.i64()
            assert answer.i32() <= 0 and error == 0, (topic, partition, error)
            found[topic, partition] = high, answer.bytes(answer.i32())
    answer.end()
    return found


def read_all(nodes, turns):
    """Every partition has exactly what was written in so many turns."""
    read = 0
    for connection, places in nodes.shares():
        found = read_portion(connection, places)
        assert sorted(found) == sorted(places)
        for (topic, partition), (high, data) in found.items():
            values = [value_of(topic, partition, turn) + more
                      for turn in range(turns) for more in (b"", b"2")]
            assert high == 2 * turns, f"{topic}-{partition}: high watermark {high}"
            assert batch_values(data) == list(enumerate(values)), f"{topic}-{partition}"
            read += 1
    return read


def disk_used(top):
    """Bytes allocated, without the journals, whose size is fixed."""
    total = 0
    for folder, _, names in os.walk(top):
        total += os.stat(folder).st_blocks * 512
        total += sum(os.stat(os.path.join(folder, name)).st_blocks * 512 for name in names
                     if not name.startswith("journal."))
    return total


class Watch:
    """Steps with the time they took, for the record."""

    def __init__(self):
        self.steps, self.at = [], time.monotonic()

    def step(self, name):
        now = time.monotonic()
        self.steps.append(f"{name} {now - self.at:.2f} s")
        self.at = now


def check_costs(broker, count, watch):
    rss, disk = broker.rss(), disk_used(broker.data[0])
    print(", ".join(watch.steps))
    print(f"{count} partitions: RSS {rss // MIB} MiB ({MEMORY_MIB} configured), disk "
          f"{disk // MIB} MiB, last start {broker.ready_s:.2f} s")
    more = RSS_MORE_SANITIZED_MIB if is_sanitized() else RSS_MORE_MIB
    assert rss <= (MEMORY_MIB + more) * MIB, f"{rss // MIB} MiB resident"
    assert disk <= count * DISK_A_PARTITION, f"{disk // count} bytes of disk a partition"


def many(topics, partitions, advertise="shard"):
    count, watch = topics * partitions, Watch()
    names = [f"many-{number}" for number in range(topics)]
    with Broker(advertise=advertise, memory=f"{MEMORY_MIB}m",
                options={"journal.bytes": f"{JOURNAL_MIB}m"}) as broker:
        with Connection(broker, timeout_s=100) as connection:
            create_topics(connection, names, partitions)
        watch.step("create")
        nodes = Nodes(broker)
        watch.step("metadata")
        assert write_all(nodes, 0) == count
        watch.step("write")
        nodes.close()
        broker.restart(kill=True)
        watch.step("restart")
        nodes = Nodes(broker)
        assert read_all(nodes, 1) == count
        watch.step("read")
        assert write_all(nodes, 1) == count
        watch.step("write again")
        nodes.close()
        check_costs(broker, count, watch)
        print(f"start after kill -9: {broker.ready_s:.2f} s")
        broker.stop()
        watch.step("stop")
        broker.start()
        watch.step("start")
        nodes = Nodes(broker)
        assert read_all(nodes, 2) == count
        nodes.close()
        check_costs(broker, count, watch)


@timeout(240)
def test_one_topic_of_5000():
    many(1, 5000)


@slow
@timeout(400)
@params("shard", "host")
def test_a_hundred_topics_of_50(advertise):
    """With host, one node leads all, and every request is spread over both shards."""
    many(100, 50, advertise)


@sanitized
@timeout(120)
def test_a_few_hundred():
    many(3, 100)
