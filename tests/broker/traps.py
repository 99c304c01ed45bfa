"""What others who spoke this protocol got wrong: the right answers, by hand. tests/README.md lists them
all, with the tests that show the others."""
import struct
import time

from lib.broker import Broker
from lib.kafka_wire import (API_VERSIONS, FETCH, LIST_OFFSETS, METADATA, PRODUCE, Connection, array,
                            batch, batch_values, crc32c, create_topics, delete_topics, fetch,
                            fetch_body, frame, header, i8, i16, i32, i64, leader_connection,
                            metadata, produce, produce_body, record, string, uvarint, varint)
from lib.testcase import sanitized_instead

LEADER_EPOCH, DESCRIBE_CONFIGS, CREATE_PARTITIONS = 23, 32, 37
NONE, UNKNOWN_TOPIC, INVALID_PARTITIONS, INVALID_RECORD, UNKNOWN_TOPIC_ID = 0, 3, 37, 87, 100
TAGS = b"\0"
NO_ID = bytes(16)
LONG_MS = 60_000  # longer than a test may take


# -- flexible versions

def compact_string(value):
    return uvarint(0) if value is None else uvarint(len(value) + 1) + value.encode()


def compact_array(items):
    return uvarint(0) if items is None else uvarint(len(items) + 1) + b"".join(items)


class Flexible:
    """Takes the response of a flexible version apart."""

    def __init__(self, answer, has_header_tags=True):
        assert answer is not None, "the connection was closed"
        self.answer = answer
        if has_header_tags:
            self.tags()

    def __getattr__(self, name):  # i8 ... i64, bytes, end
        return getattr(self.answer, name)

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.answer.i8() & 0xff
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    def tags(self):
        for _ in range(self.uvarint()):
            self.uvarint()
            self.answer.bytes(self.uvarint())

    def data(self):
        size = self.uvarint()
        return None if size == 0 else self.answer.bytes(size - 1)

    def string(self):
        value = self.data()
        return None if value is None else value.decode()

    def array(self, item):
        """None when it is null."""
        count = self.uvarint()
        return None if count == 0 else [item() for _ in range(count - 1)]


def metadata_of(connection, topics):
    """Version 12: ({node id: port}, controller, {name: (error, id, {partition: leader epoch})});
    topics: names, or None for all."""
    asked = None if topics is None else [NO_ID + compact_string(t) + TAGS for t in topics]
    body = compact_array(asked) + i8(0) + i8(0) + TAGS
    answer = Flexible(connection.request(METADATA, 12, body, flexible=True))
    answer.i32()
    nodes = {}

    def node():
        number, _, port = answer.i32(), answer.string(), answer.i32()
        nodes[number] = port
        answer.string(), answer.tags()

    def partition():
        error, index, leader, epoch = answer.i16(), answer.i32(), answer.i32(), answer.i32()
        assert error == NONE and leader in nodes
        for _ in range(3):
            answer.array(answer.i32)
        answer.tags()
        return index, epoch

    def topic():
        error, name, number = answer.i16(), answer.string(), answer.bytes(16)
        answer.i8()
        partitions = dict(answer.array(partition))
        answer.i32(), answer.tags()
        return name, (error, number, partitions)
    answer.array(node)
    answer.string()
    controller = answer.i32()
    found = answer.array(topic)
    answer.tags(), answer.end()
    return nodes, controller, dict(found)


def one_topic(broker, partitions=1, name="t", configs=()):
    with Connection(broker) as connection:
        create_topics(connection, [name], partitions, configs)
    return leader_connection(broker, name)


# -- ApiVersions, Metadata

@sanitized_instead
def test_api_versions():
    """No tags in the header of any version; a real list; Produce from 0, though 0 to 2 are not served."""
    with Broker(shards=1, memory="64m") as broker, Connection(broker) as connection:
        for version in range(6):
            flexible = version >= 3
            body = b""
            if flexible:
                body = compact_string("test") + compact_string("1")
                body += (compact_string(None) + i32(-1)) * (version >= 5) + TAGS
            answer = connection.request(API_VERSIONS, version, body, flexible)
            assert answer is not None and answer.i16() == NONE, version
            if flexible:
                answer = Flexible(answer, has_header_tags=False)
            ranges = {}

            def entry(answer=answer, ranges=ranges, flexible=flexible):
                key = answer.i16()
                ranges[key] = answer.i16(), answer.i16()
                if flexible:
                    answer.tags()
            answer.array(entry)
            assert len(ranges) > 20 and ranges[PRODUCE][0] == 0, (version, ranges)
            assert ranges[LIST_OFFSETS][1] >= 7, "the largest timestamp is asked for from 7 on"
            if version >= 1:
                answer.i32()
            if flexible:
                answer.tags()
            answer.end()


@sanitized_instead
def test_nodes_that_metadata_names():
    """Each can be reached where it is said to be; the controller is one of them."""
    for advertise in ("shard", "host"):
        with Broker(advertise=advertise) as broker:
            with Connection(broker) as connection:
                nodes, controller, _ = metadata_of(connection, [])
            assert controller in nodes and len(nodes) == (2 if advertise == "shard" else 1)
            for port in nodes.values():
                with Connection(broker, port) as connection:
                    assert set(metadata_of(connection, [])[0]) == set(nodes)


@sanitized_instead
def test_null_and_empty_in_metadata():
    """Null asks for all topics and none is no topic, but in version 0, where none is all."""
    with Broker() as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["a", "b"])
            assert set(metadata_of(connection, None)[2]) == {"a", "b"}
            assert metadata_of(connection, [])[2] == {}
            assert set(metadata(connection, None)[1]) == {"a", "b"}
            assert metadata(connection, [])[1] == {}
            answer = connection.request(METADATA, 0, array([]))
            answer.array(lambda: (answer.i32(), answer.string(), answer.i32()))
            assert answer.i32() == 2


def auto_created(connection, topic, version, allow=b""):
    """Ask until it is there, as clients do; its first answers may say that it has no leader yet."""
    for _ in range(100):
        answer = connection.request(METADATA, version, array([string(topic)]) + allow)
        assert answer is not None
        _, _, topics = metadata_of(connection, None)
        if topic in topics:
            return topics[topic]
        if allow == i8(0):
            return None
        time.sleep(0.05)
    raise AssertionError(f"{topic} is not there")


def configs_of(connection, topic):
    """{key: (value, source)}"""
    answer = connection.request(DESCRIBE_CONFIGS, 1, array([i8(2) + string(topic) + i32(-1)]) + i8(0))
    answer.i32(), answer.i32()
    assert answer.i16() == NONE
    answer.string(), answer.i8(), answer.string()

    def entry():
        key, value = answer.string(), answer.string()
        answer.i8()
        source = answer.i8()
        answer.i8()
        assert answer.i32() == 0
        return key, (value, source)
    return dict(answer.array(entry))


@sanitized_instead
def test_auto_creation():
    """Metadata makes a topic where it may, and what it makes is like one that is made by default."""
    options = {"num.partitions": 3, "log.retention.ms": 123_456}
    with Broker(options=options) as broker, Connection(broker) as connection:
        assert auto_created(connection, "refused", 4, i8(0)) is None
        made = [auto_created(connection, "by-v1", 1), auto_created(connection, "by-v4", 4, i8(1))]
        create = array([string("asked") + i32(-1) + i16(-1) + array([]) + array([])])
        answer = connection.request(19, 4, create + i32(10_000) + i8(0))
        answer.i32(), answer.i32()
        assert (answer.string(), answer.i16()) == ("asked", NONE)
        made.append(metadata_of(connection, ["asked"])[2]["asked"])
        assert [set(partitions) for _, _, partitions in made] == [{0, 1, 2}] * 3
        configs = configs_of(connection, "asked")
        assert configs["retention.ms"][0] == "123456" and len(configs) > 20
        assert configs == configs_of(connection, "by-v1") == configs_of(connection, "by-v4")
    with Broker(options={"auto.create.topics.enable": "false"}) as broker:
        with Connection(broker) as connection:
            answer = connection.request(METADATA, 1, array([string("no")]))
            assert answer is not None
            assert metadata_of(connection, None)[2] == {}


@sanitized_instead
def test_a_topic_that_is_made_again():
    """It has another id, no records, and knows no producer of the one before."""
    with Broker() as broker, one_topic(broker) as connection:
        _, _, topics = metadata_of(connection, ["t"])
        first = topics["t"][1]
        data = batch([b"one", b"two"], producer=(4711, 3, 0))
        assert produce(connection, "t", data) == (NONE, 0)
        assert produce(connection, "t", data) == (NONE, 0), "the same again is where it was"
        delete_topics(connection, ["t"])
        create_topics(connection, ["t"])
        _, _, topics = metadata_of(connection, ["t"])
        assert first != topics["t"][1] != NO_ID and first != NO_ID
        with leader_connection(broker, "t") as another:
            assert fetch(another, "t", 0)[1] == 0, "it has records"
            later = batch([b"three"], producer=(4711, 0, 77))
            assert produce(another, "t", later) == (NONE, 0), "the producer is known"


@sanitized_instead
def test_leader_epochs():
    """A crash raises them, and where each begins is remembered; a debugging consumer may ask, too."""
    with Broker() as broker:
        with one_topic(broker) as connection:
            assert produce(connection, "t", batch([b"one", b"two"])) == (NONE, 0)
            before = metadata_of(connection, ["t"])[2]["t"][2][0]
        broker.restart(kill=True)
        with leader_connection(broker, "t") as connection:
            now = metadata_of(connection, ["t"])[2]["t"][2][0]
            assert now > before >= 0, (before, now)
            assert produce(connection, "t", batch([b"three"])) == (NONE, 2)
            for replica in (-2, -1):
                for asked, told in ((before, (before, 2)), (now, (now, 3)), (now + 5, (-1, -1))):
                    body = i32(replica) + array([string("t") + array([i32(0) + i32(-1) + i32(asked)])])
                    answer = connection.request(LEADER_EPOCH, 3, body)
                    assert (answer.i32(), answer.i32(), answer.string()) == (0, 1, "t")
                    assert (answer.i32(), answer.i16(), answer.i32()) == (1, NONE, 0)
                    assert (answer.i32(), answer.i64()) == told, (replica, asked)
                    answer.end()
            # The epoch of an offset by time is that of its record, not the leader's.
            assert list_offset_v4(connection, 0) == (NONE, 0, before)
            assert list_offset_v4(connection, -2) == (NONE, 0, before)
            assert list_offset_v4(connection, -1) == (NONE, 3, now)


# -- Produce

@sanitized_instead
def test_acks_0_has_no_answer():
    """Not even an empty one: the next request is answered next. An error ends the connection."""
    with Broker() as broker:
        with one_topic(broker) as connection:
            for number in range(3):
                body = produce_body("t", batch([b"quiet %d" % number]), acks=0)
                connection.send(frame(header(PRODUCE, 7, 1000 + number) + body))
            assert fetch(connection, "t", 0)[0] == NONE
            assert produce(connection, "t", batch([b"loud"])) == (NONE, 3)
        with leader_connection(broker, "t") as connection:
            connection.send(frame(header(PRODUCE, 7) + produce_body("t", batch([b"x"], crc=1), acks=0)))
            assert connection.is_closed()


@sanitized_instead
def test_an_unknown_producer_begins_anywhere():
    """The log that knew it has expired, maybe: what it sends first is its beginning; then it counts."""
    with Broker() as broker, one_topic(broker) as connection:
        assert produce(connection, "t", batch([b"a"], producer=(99, 5, 1234))) == (NONE, 0)
        assert produce(connection, "t", batch([b"b"], producer=(99, 5, 1235))) == (NONE, 1)
        assert produce(connection, "t", batch([b"c"], producer=(99, 5, 1237)))[0] == 45


@sanitized_instead
def test_a_compacted_topic_wants_keys():
    """All of the batch is refused, and which record is at fault is said (Kafka names them all)."""
    with Broker() as broker, one_topic(broker, configs=[("cleanup.policy", "compact")]) as connection:
        records = record(0, b"a", b"key") + record(1, b"b") + record(2, b"c", b"key") + record(3, b"d")
        data = batch([b"a", b"b", b"c", b"d"], records=records)
        answer = connection.request(PRODUCE, 8, produce_body("t", data))
        assert (answer.i32(), answer.string(), answer.i32(), answer.i32()) == (1, "t", 1, 0)
        assert (answer.i16(), answer.i64()) == (INVALID_RECORD, -1)
        answer.i64(), answer.i64()
        errors = answer.array(lambda: (answer.i32(), answer.string()))
        assert [index for index, _ in errors] in ([1], [1, 3]) and errors[0][1], errors
        assert answer.string(), "no message"
        assert fetch(connection, "t", 0)[1] == 0


@sanitized_instead
def test_batches_stay_as_they_came():
    """Every byte but base offset and leader epoch, unused bits of the attributes included."""
    with Broker() as broker, one_topic(broker) as connection:
        sent = [batch([b"plain"]), batch([b"x" * 50] * 3, producer=(7, 1, 0)),
                batch([b"bits"], attributes=0x40 << 8)]
        for data in sent:
            assert produce(connection, "t", data)[0] == NONE
        got = fetch(connection, "t", 0)[2]
        assert len(got) == sum(map(len, sent))
        for data in sent:
            assert got[8:12] == data[8:12] and got[16:len(data)] == data[16:]
            got = got[len(data):]


# -- Fetch

@sanitized_instead
def test_fetch_inside_a_batch_and_below_its_size():
    """The batch that has the offset, whole, also when it is larger than all limits."""
    with Broker() as broker, one_topic(broker) as connection:
        first = batch([b"%d" % i * 100 for i in range(5)])
        assert produce(connection, "t", first) == (NONE, 0)
        assert produce(connection, "t", batch([b"more"])) == (NONE, 5)
        for offset in range(5):
            for max_bytes in (1, 1 << 20):
                error, high, data = fetch(connection, "t", offset, max_bytes=max_bytes)
                values = [o for o, _ in batch_values(data)]
                assert (error, high) == (NONE, 6)
                assert values == list(range(5 if max_bytes == 1 else 6)), (offset, max_bytes)
        assert batch_values(fetch(connection, "t", 5, max_bytes=1)[2]) == [(5, b"more")]


@sanitized_instead
def test_fetch_waits_for_nothing_but_data():
    """An error is told at once; a wait that is over is no error, and has no records, not null; one who waits
    holds up nobody, and may go away."""
    with Broker() as broker, one_topic(broker) as connection:
        begin = time.monotonic()
        answer = connection.request(FETCH, 4, fetch_body("t", 99, wait_ms=LONG_MS, min_bytes=1))
        assert fetched(answer)[0] == 1
        answer = connection.request(FETCH, 4, fetch_body("t", 0, 7, wait_ms=LONG_MS, min_bytes=1))
        assert fetched(answer)[0] == UNKNOWN_TOPIC
        for wait_ms in (0, 1, 100):
            answer = connection.request(FETCH, 4, fetch_body("t", 0, wait_ms=wait_ms, min_bytes=1))
            assert fetched(answer) == (NONE, 0, b"")
        waiting = [leader_connection(broker, "t") for _ in range(4)]
        for each in waiting:
            each.send(frame(header(FETCH, 4) + fetch_body("t", 0, wait_ms=LONG_MS, min_bytes=1)))
        waiting.pop().close()
        assert produce(connection, "t", batch([b"for all"])) == (NONE, 0)
        for each in waiting:
            assert each.response() is not None
            each.close()
        assert time.monotonic() - begin < LONG_MS / 2000, "something waited for its time to be over"


def fetched(answer):
    """(error, high watermark, records) of Fetch 4 for one partition."""
    answer.i32()
    assert answer.i32() == 1
    answer.string()
    assert answer.i32() == 1
    answer.i32()
    error, high, _ = answer.i16(), answer.i64(), answer.i64()
    assert answer.i32() <= 0
    size = answer.i32()
    assert size >= 0, "null records"
    return error, high, answer.bytes(size)


def fetch_by_id(connection, session, epoch, ids, wait_ms=0):
    """Version 13: (session, {id: error}) of partition 0 of these topics."""
    partition = i32(0) + i32(-1) + i64(0) + i32(-1) + i64(-1) + i32(1 << 20) + TAGS
    topics = [number + compact_array([partition]) + TAGS for number in ids]
    body = (i32(-1) + i32(wait_ms) + i32(1) + i32(1 << 20) + i8(0) + i32(session) + i32(epoch) +
            compact_array(topics) + compact_array([]) + compact_string("") + TAGS)
    answer = Flexible(connection.request(FETCH, 13, body, flexible=True))
    answer.i32()
    assert answer.i16() == NONE
    session = answer.i32()

    def told():
        answer.i32()
        error = answer.i16()
        answer.i64(), answer.i64(), answer.i64()
        answer.array(lambda: (answer.i64(), answer.i64(), answer.tags()))
        answer.i32(), answer.data(), answer.tags()
        return error

    def topic():
        number, errors = answer.bytes(16), answer.array(told)
        answer.tags()
        return number, errors[0]
    found = dict(answer.array(topic))
    answer.tags(), answer.end()
    return session, found


@sanitized_instead
def test_an_unknown_id_stays_in_a_fetch_session():
    """It is told in every answer, at once, beside one that has nothing to tell."""
    with Broker() as broker, one_topic(broker) as connection:
        known = metadata_of(connection, ["t"])[2]["t"][1]
        unknown = struct.pack(">QQ", 0x1234567812344567, 0x8123456789abcdef)
        session, found = fetch_by_id(connection, 0, 0, [known, unknown])
        assert session > 0 and found == {known: NONE, unknown: UNKNOWN_TOPIC_ID}
        begin = time.monotonic()
        for epoch in range(1, 6):
            again, found = fetch_by_id(connection, session, epoch, [], wait_ms=LONG_MS)
            assert (again, found) == (session, {unknown: UNKNOWN_TOPIC_ID}), epoch
        assert time.monotonic() - begin < LONG_MS / 2000


# -- ListOffsets

def list_offset_v4(connection, timestamp):
    """(error, offset, leader epoch) of partition 0 of "t"."""
    body = i32(-1) + i8(0) + array([string("t") + array([i32(0) + i32(-1) + i64(timestamp)])])
    answer = connection.request(LIST_OFFSETS, 4, body)
    assert (answer.i32(), answer.i32(), answer.string()) == (0, 1, "t")
    assert (answer.i32(), answer.i32()) == (1, 0)
    error, _, offset, epoch = answer.i16(), answer.i64(), answer.i64(), answer.i32()
    answer.end()
    return error, offset, epoch


def list_offset_v7(connection, timestamp, isolation=0):
    """(error, timestamp, offset)"""
    partition = i32(0) + i32(-1) + i64(timestamp) + TAGS
    body = (i32(-1) + i8(isolation) +
            compact_array([compact_string("t") + compact_array([partition]) + TAGS]) + TAGS)
    answer = Flexible(connection.request(LIST_OFFSETS, 7, body, flexible=True))
    answer.i32()

    def told():
        answer.i32()
        found = answer.i16(), answer.i64(), answer.i64()
        answer.i32(), answer.tags()
        return found

    def topic():
        assert answer.string() == "t"
        found, = answer.array(told)
        answer.tags()
        return found
    found, = answer.array(topic)
    answer.tags(), answer.end()
    return found


def timed_batch(base_ms, deltas):
    """Records whose times are so much after the first one's, in any order."""
    records = b""
    for number, delta in enumerate(deltas):
        body = b"\0" + varint(delta) + varint(number) + varint(-1) + varint(1) + b"v" + varint(0)
        records += varint(len(body)) + body
    data = batch([b"v"] * len(deltas), records=records, now_ms=base_ms)
    tail = data[21:35] + struct.pack(">q", base_ms + max(deltas)) + data[43:]
    return data[:17] + struct.pack(">I", crc32c(tail)) + tail


@sanitized_instead
def test_offsets_by_time():
    """Of the first record that is not earlier, wherever in its batch, with its own time; and -3: of the first
    that has the largest time."""
    base = 1_700_000_000_000
    with Broker() as broker, one_topic(broker, configs=[("retention.ms", "-1")]) as connection:
        assert list_offset_v7(connection, -3) == (NONE, -1, -1)
        assert produce(connection, "t", timed_batch(base, [0, 50, 20, 70, 60])) == (NONE, 0)
        assert produce(connection, "t", timed_batch(base + 40, [0, 100, 90, 100])) == (NONE, 5)
        times = [0, 50, 20, 70, 60, 40, 140, 130, 140]
        for isolation in (0, 1):
            for asked in range(0, 160, 5):
                first = next((i for i, t in enumerate(times) if t >= asked), None)
                want = (NONE, -1, -1) if first is None else (NONE, base + times[first], first)
                assert list_offset_v7(connection, base + asked, isolation) == want, asked
        assert list_offset_v7(connection, -3) == (NONE, base + 140, 6)


# -- CreatePartitions

@sanitized_instead
def test_create_partitions_answers_for_each_topic():
    with Broker() as broker, Connection(broker) as connection:
        create_topics(connection, ["a", "b"], 2)
        asked = (("a", 4), ("b", 2), ("no", 3))
        topics = array([string(name) + i32(count) + i32(-1) for name, count in asked])
        answer = connection.request(CREATE_PARTITIONS, 0, topics + i32(10_000) + i8(0))
        answer.i32()
        told = answer.array(lambda: (answer.string(), answer.i16(), answer.string()))
        answer.end()
        assert {name: error for name, error, _ in told} == \
            {"a": NONE, "b": INVALID_PARTITIONS, "no": UNKNOWN_TOPIC}, told
        assert set(metadata_of(connection, ["a"])[2]["a"][2]) == {0, 1, 2, 3}
