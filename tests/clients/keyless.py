"""Records without a key and compacted topics: refused as Kafka refuses them, by hand, for a client
shows its own words for it. With --peer kafka Apache Kafka itself is asked."""
import gzip
import time

from lib.broker import Broker
from lib.cli import penstock
from lib.clients import run
from lib.kafka_wire import PRODUCE, Connection, array, create_topics, i16, i32, string
from lib.kafka_wire import batch, produce, record
from lib.testcase import timeout

INVALID_RECORD = 87
KEYLESS = "Compacted topic cannot accept message without key in topic partition %s-0"


def refusal(connection, topic, data):
    """(error, [(index, message)], message) of one batch, as Produce 8 tells it."""
    body = (string(None) + i16(-1) + i32(30000) +
            array([string(topic) + array([i32(0) + i32(len(data)) + data])]))
    answer = connection.request(PRODUCE, 8, body)
    assert (answer.i32(), answer.string(), answer.i32(), answer.i32()) == (1, topic, 1, 0)
    error = answer.i16()
    answer.i64(), answer.i64(), answer.i64()
    errors = answer.array(lambda: (answer.i32(), answer.string()))
    message = answer.string()
    answer.i32()
    answer.end()
    return error, errors, message


def wait_until_led(connection, topic):
    """Kafka answers before it leads a new partition (6)."""
    end = time.monotonic() + 30
    while refusal(connection, topic, plain([b"first"]))[0] != 0:
        assert time.monotonic() < end
        time.sleep(0.1)


def records(keys, value=b"v"):
    return b"".join(record(i, value, key) for i, key in enumerate(keys))


def packed(keys):
    return batch([], count=len(keys), attributes=1, records=gzip.compress(records(keys)))


def plain(keys, value=b"v"):
    return batch([], count=len(keys), records=records(keys, value))


@timeout(200)
def test_records_without_key_are_refused():
    """Plain, compressed, and so large that it is received where the log keeps it."""
    topic = "keyed"
    with Broker(shards=1, memory="64m") as broker, Connection(broker) as connection:
        create_topics(connection, [topic], 1, [("cleanup.policy", "compact,delete"),
                                               ("max.message.bytes", str(4 << 20))])
        wait_until_led(connection, topic)
        each = KEYLESS % topic
        for make in plain, packed:
            for keys in [None], [b"a", None, b"b", None, None, None], [None, b"a"]:
                index = [i for i, key in enumerate(keys) if key is None]
                shown = ", ".join(f"RecordError(batchIndex={i}, message='{each}')"
                                  for i in index[:3])
                told = refusal(connection, topic, make(keys))
                assert told == (
                    INVALID_RECORD, [(i, each) for i in index],
                    f"One or more records have been rejected due to {len(index)} record errors in "
                    f"total, and only showing the first three errors at most: [{shown}]"), told
        large = refusal(connection, topic, plain([b"a", None], b"v" * (1 << 20)))
        assert large[:2] == (INVALID_RECORD, [(1, each)]), large
        # Nothing of all that is there.
        assert produce(connection, topic, plain([b"a"])) == (0, 1)
        assert produce(connection, topic, packed([b"a", b"", b"b"])) == (0, 2)


@timeout(200)
def test_topic_that_becomes_compact():
    """What it has without keys is dropped with the first pass, and nothing more is taken."""
    topic, filler = "becomes", b"f" * 1000
    with Broker(shards=1, memory="64m", options={"log.cleaner.backoff.ms": 50}) as broker, \
            Connection(broker) as connection:
        create_topics(connection, [topic], 1, [("segment.bytes", str(1 << 20)),
                                              ("min.cleanable.dirty.ratio", "0.1")])
        for i in range(12):
            keys = [None if n % 2 else b"k%d" % n for n in range(100)]
            assert produce(connection, topic, plain(keys, filler)) == (0, 100 * i)
        penstock(broker, "config", "set", "--topic", topic, "cleanup.policy=compact")
        assert refusal(connection, topic, plain([None]))[0] == INVALID_RECORD
        for i in range(12, 36): # behind a roll, so that what is before it can be compacted
            assert produce(connection, topic, plain([b"last"] * 100, filler)) == (0, 100 * i)
        end = time.monotonic() + 60
        while True:
            out, _ = run(["kcat", "-C", "-q", "-b", broker.bootstrap, "-t", topic, "-p", "0", "-o",
                          "0", "-e", "-Z", "-f", "%o %k\n"], 100)
            left = [line.split(" ") for line in out.decode().splitlines()]
            before = [(int(offset), key) for offset, key in left if int(offset) < 1000]
            if not any(key == "NULL" for _, key in before):
                break
            assert time.monotonic() < end, f"{len(before)} are left\n{broker.log_tail()}"
            time.sleep(0.2)
        there = {key: int(offset) for offset, key in left}
        for n in range(0, 100, 2): # the newest of each key, wherever it is
            assert there[f"k{n}"] == 1100 + n, (n, there.get(f"k{n}"))
