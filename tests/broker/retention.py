"""The start of the log as clients see it: DeleteRecords, retention, and what the disk holds."""
import os
import time

from lib.broker import Broker
from lib.clients import run
from lib.kafka_wire import (TIMEOUT_S, Connection, array, batch, batch_values, create_topics, fetch,
                            i32, i64, leader_connection, list_offset, produce, string)
from lib.metrics import metrics_broker, scrape
from lib.testcase import params, sanitized, timeout

DELETE_RECORDS, DESCRIBE_LOG_DIRS = 21, 35
TOPIC = "short"
MIB = 1 << 20
SEGMENT, KEPT = MIB, 4 * MIB
KEPT_MOST = KEPT + 3 * SEGMENT


def delete_records(connection, topic, offset, partition=0, timeout_ms=TIMEOUT_S * 1000):
    """(error code, low watermark)."""
    body = array([string(topic) + array([i32(partition) + i64(offset)])]) + i32(timeout_ms)
    answer = connection.request(DELETE_RECORDS, 1, body)
    assert (answer.i32(), answer.i32(), answer.string()) == (0, 1, topic)
    assert (answer.i32(), answer.i32()) == (1, partition)
    low, error = answer.i64(), answer.i16()
    answer.end()
    return error, low


def first_offset(connection, topic):
    """Of what a fetch from the start of the log brings."""
    error, start = list_offset(connection, topic, -2)
    assert error == 0
    error, _, data = fetch(connection, topic, start)
    assert error == 0, error
    found = [offset for offset, _ in batch_values(data) if offset >= start]
    return start, found[0] if found else None


@sanitized
@params("shard", "host")
def test_delete_records(advertise):
    """Kafka's own codes; the start agrees everywhere at once, and outlives kill -9."""
    with Broker(advertise=advertise) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC])
            create_topics(connection, ["compacted"], configs=[("cleanup.policy", "compact")])
        with leader_connection(broker, TOPIC) as connection:
            for number in range(10):
                assert produce(connection, TOPIC, batch([b"%d" % number] * 10)) == (0, 10 * number)
            assert delete_records(connection, TOPIC, 101) == (1, -1), "beyond the high watermark"
            assert delete_records(connection, TOPIC, -2) == (1, -1)
            assert delete_records(connection, "none", 0) == (3, -1)
            assert delete_records(connection, TOPIC, 0, partition=1) == (3, -1)
            assert delete_records(connection, TOPIC, 25) == (0, 25)
            assert delete_records(connection, TOPIC, 5) == (0, 25), "it never goes back"
            assert first_offset(connection, TOPIC) == (25, 25)
            assert fetch(connection, TOPIC, 24)[0] == 1, "OFFSET_OUT_OF_RANGE"
            assert list_offset(connection, TOPIC, 0) == (0, 25), "by time"
        with leader_connection(broker, "compacted") as connection:
            assert delete_records(connection, "compacted", 0) == (44, -1), "POLICY_VIOLATION"
        broker.restart(kill=True)
        with leader_connection(broker, TOPIC) as connection:
            assert first_offset(connection, TOPIC) == (25, 25)
            assert delete_records(connection, TOPIC, -1) == (0, 100), "to the high watermark"
            assert first_offset(connection, TOPIC) == (100, None)
        broker.restart()
        with leader_connection(broker, TOPIC) as connection:
            assert produce(connection, TOPIC, batch([b"on"])) == (0, 100)
            assert first_offset(connection, TOPIC) == (100, 100)


@sanitized
def test_delete_records_with_little_time():
    """What is not durable in time is answered with error 7, and is deleted all the same."""
    with Broker() as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC])
        with leader_connection(broker, TOPIC) as connection:
            for number in range(10):
                assert produce(connection, TOPIC, batch([b"x"] * 10)) == (0, 10 * number)
            for offset in range(5, 100, 5):
                for timeout_ms in (0, -1):
                    answer = delete_records(connection, TOPIC, offset, timeout_ms=timeout_ms)
                    assert answer in ((7, -1), (0, offset)), answer  # the second: it has gone already
                assert delete_records(connection, TOPIC, offset) == (0, offset)
            assert delete_records(connection, TOPIC, 97, timeout_ms=0) == (7, -1)
            until = time.monotonic() + TIMEOUT_S
            while list_offset(connection, TOPIC, -2) != (0, 97):
                assert time.monotonic() < until, "it is not deleted"
            assert delete_records(connection, TOPIC, 97, timeout_ms=0) == (0, 97)


def sizes(connection):
    """{partition: bytes} of TOPIC, as DescribeLogDirs says."""
    body = array([string(TOPIC) + array([i32(0)])])
    answer = connection.request(DESCRIBE_LOG_DIRS, 1, body)
    answer.i32()
    found = {}

    def topic():
        assert answer.string() == TOPIC
        for index, size, lag, future in answer.array(
                lambda: (answer.i32(), answer.i64(), answer.i64(), answer.i8())):
            assert (lag, future) == (0, 0)
            found[index] = size
    answer.array(lambda: (answer.i16(), answer.string(), answer.array(topic)))
    answer.end()
    return found


@sanitized
def test_sizes_after_a_crash():
    """Exact at once, also of segments that were sealed since the last checkpoint and that nobody reads."""
    with Broker(shards=1, memory="64m") as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], configs=[("segment.bytes", str(SEGMENT))])
            data = batch([b"v" * 1000] * 60)
            for number in range(100):
                assert produce(connection, TOPIC, data) == (0, 60 * number)
            assert sizes(connection) == {0: 100 * len(data)}
        for kill in (True, True, False):
            broker.restart(kill=kill)
            with Connection(broker) as connection:
                assert sizes(connection) == {0: 100 * len(data)}


def disk_bytes(broker):
    """(files of the partition, files in the pools), as allocated."""
    def allocated(folder):
        total = 0
        for name in os.listdir(folder):
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:  # it goes just now
                pass
        return total
    pools = [os.path.join(broker.data[0], name) for name in os.listdir(broker.data[0])
             if name.startswith(".pool.")]
    return allocated(broker.partition_dir(TOPIC, 0)), sum(map(allocated, pools))


def segment_size(broker):
    """Of the largest file; they come and go."""
    sizes = [0]
    for path in broker.segments(TOPIC, 0):
        try:
            sizes.append(os.path.getsize(path))
        except FileNotFoundError:
            pass
    return max(sizes)


def wait_until_trimmed(broker):
    """What is too much is gone a little after the last record came; then nothing more goes."""
    until = time.monotonic() + TIMEOUT_S
    while disk_bytes(broker)[0] > KEPT_MOST:
        assert time.monotonic() < until, f"{disk_bytes(broker)} bytes stay\n{broker.log_tail()}"
        time.sleep(0.05)
    time.sleep(1)


@timeout(200)
def test_ten_times_the_retention():
    """Under load: the disk holds little more than what is kept, no segment's file grows, files come
    from the pool, and a consumer that is late starts again at the beginning."""
    options = {"log.retention.check.interval.ms": 100, "journal.bytes": "32m"}
    with metrics_broker(shards=1, memory="64m", options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], 1, [("segment.bytes", str(SEGMENT)),
                                                   ("retention.bytes", str(KEPT))])
        data = batch([b"v" * 1000] * 60)
        most, largest, count = 0, 0, 10 * KEPT // len(data)
        with leader_connection(broker, TOPIC) as connection:
            for number in range(count):
                assert produce(connection, TOPIC, data) == (0, 60 * number)
                if number % 50 == 49:
                    most = max(most, sum(disk_bytes(broker)))
                    largest = max(largest, segment_size(broker))
                    time.sleep(0.05)
            assert fetch(connection, TOPIC, 0)[0] == 1, "OFFSET_OUT_OF_RANGE"
            wait_until_trimmed(broker)
            start, first = first_offset(connection, TOPIC)
        files, pooled = disk_bytes(broker)
        figures = scrape(broker)
        trimmed, taken = (figures.total(name) for name in ("segments_trimmed_total",
                                                           "pool_taken_total"))
        print(f"{count * len(data) / MIB:.0f} MiB written, {most / MIB:.1f} MiB at most on disk, "
              f"{files / MIB:.1f} + {pooled / MIB:.1f} MiB at the end; {trimmed} segments went, "
              f"{taken} files came from the pool; the log begins at {start}")
        assert first == start and start > 0
        assert KEPT - SEGMENT < files <= KEPT_MOST, files  # the last may have no file yet
        assert most < 3 * KEPT, most
        assert 0 < largest <= SEGMENT, largest
        assert trimmed > 30 and taken > trimmed * 2 // 3
        out, _ = run(["kcat", "-C", "-q", "-b", broker.bootstrap, "-t", TOPIC, "-p", "0", "-o", "0",
                      "-c", "1", "-f", "%o", "-X", "auto.offset.reset=smallest"])
        assert int(out) == start, out
        broker.restart(kill=True)
        with leader_connection(broker, TOPIC) as connection:
            again, first = first_offset(connection, TOPIC)
        assert again >= start and first == again
