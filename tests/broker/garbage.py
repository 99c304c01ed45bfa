"""Garbage at the port: the right error or a closed connection, bounded memory, others unharmed.

Every attack runs under besieged() (tests/lib/siege.py), which sees to the last two of these.
"""
import random
import re
import socket
import struct
import time
import zlib

from lib.broker import is_sanitized
from lib.kafka_wire import (API_VERSIONS, CORRELATION_ID, CREATE_TOPICS, FETCH, INIT_PRODUCER_ID,
                            LIST_OFFSETS, METADATA, PRODUCE, Connection, Reader, api_ranges, array,
                            batch, batch_values, create_topics, create_topics_body, crc32c, fetch,
                            fetch_body, frame, header, i8, i16, i32, i64, leader_connection,
                            list_offset, produce, produce_body, record, string, uvarint)
from lib.siege import FILES_SPARE, MIB, besieged, check_memory, open_files
from lib.testcase import params, sanitized, sanitized_instead, timeout

INT32_MAX = (1 << 31) - 1
TARGET = "target"
NONE, CORRUPT, TOO_LARGE, UNSUPPORTED_VERSION, INVALID_TIMESTAMP, UNKNOWN_CODEC, INVALID = \
    0, 2, 10, 35, 32, 76, 87


def target(broker, **configs):
    """A topic of one partition to attack, and a connection to its leader."""
    with Connection(broker) as connection:
        create_topics(connection, [TARGET], 1,
                      [(key.replace("_", "."), str(value)) for key, value in configs.items()])
    return leader_connection(broker, TARGET)


def assert_empty(broker):
    with leader_connection(broker, TARGET) as connection:
        assert list_offset(connection, TARGET, -1) == (NONE, 0), "garbage was appended"


def closed_after(broker, data, port=None):
    """Send and hear nothing but the end of the connection."""
    with Connection(broker, port) as connection:
        connection.send(data)
        return connection.is_closed()


# -- frames

def random_attack(rng):
    """Plain noise, noise with a possible length, noise behind a possible header."""
    noise = rng.randbytes(rng.choice((1, 3, 4, 8, 50, 2000, 70_000)))
    kind = rng.randrange(3)
    if kind == 0:
        return noise
    if kind == 1:
        return frame(noise)
    return frame(header(rng.randrange(80), rng.randrange(14), rng.randrange(1 << 31)) + noise)


@sanitized_instead
@params("shard", "host")
def test_random_bytes(advertise):
    with besieged(advertise) as broker:
        target(broker).close()
        ports = [broker.port, broker.port + (advertise == "shard")]
        for seed in range(300):
            with Connection(broker, ports[seed % 2]) as connection:
                connection.send(random_attack(random.Random(seed)))
                connection.socket.settimeout(30)
                try:
                    connection.end_of_requests()
                    while connection.socket.recv(65536):
                        pass
                except (ConnectionResetError, OSError) as error:
                    assert not isinstance(error, socket.timeout), f"seed {seed}: never closed"
        assert_empty(broker)


@sanitized_instead
def test_impossible_lengths():
    """Closed as soon as the length is there, whatever follows or not."""
    with besieged() as broker:
        for length in (-1, -2, -(1 << 31), INT32_MAX, 104857601, 1 << 30, 0, 1, 7):
            possible = 0 <= length < 8
            data = struct.pack(">i", length) + b"\0" * (length if possible else 0)
            assert closed_after(broker, data), f"length {length}: still open"
        with Connection(broker) as connection:  # a right request goes before: it is answered
            connection.send(frame(header(API_VERSIONS, 0)) + i32(INT32_MAX))
            assert connection.response()[:4] == i32(CORRELATION_ID)
            assert connection.is_closed()


def valid_requests():
    """(name, api, version, flexible, body) of requests that the broker answers."""
    good = batch([b"one", b"two"])
    flexible_topics = uvarint(2) + uvarint(len(TARGET) + 1) + TARGET.encode() + b"\0"
    return [
        ("ApiVersions", API_VERSIONS, 3, True, uvarint(5) + b"test" + uvarint(2) + b"1" + b"\0"),
        ("Metadata", METADATA, 1, False, array([string(TARGET)])),
        ("Metadata flexible", METADATA, 9, True, flexible_topics + i8(1) + i8(0) + i8(0) + b"\0"),
        ("Produce", PRODUCE, 7, False, produce_body(TARGET, good)),
        ("Fetch", FETCH, 4, False, fetch_body(TARGET, 0)),
        ("ListOffsets", LIST_OFFSETS, 1, False,
         i32(-1) + array([string(TARGET) + array([i32(0) + i64(-1)])])),
        ("CreateTopics", CREATE_TOPICS, 2, False, create_topics_body([TARGET])),
        ("InitProducerId", INIT_PRODUCER_ID, 0, False, string(None) + i32(1000)),
    ]


@sanitized_instead
def test_cut_anywhere():
    """The connection ends inside a request: nothing of it counts."""
    with besieged() as broker:
        target(broker).close()
        leader = leader_connection(broker, TARGET)
        port = leader.socket.getpeername()[1]
        leader.close()
        for name, api, version, flexible, body in valid_requests():
            whole = frame(header(api, version, flexible=flexible) + body)
            for size in range(len(whole)):
                with Connection(broker, port) as connection:
                    connection.send(whole[:size])
                    if size % 4 == 0:  # the others just vanish
                        connection.end_of_requests()
                        assert connection.is_closed(), f"{name} cut at {size}: not closed"
        assert_empty(broker)


@sanitized_instead
def test_truncated_bodies():
    """A right frame around a body that stops too soon: closed, nothing appended."""
    with besieged() as broker:
        target(broker).close()
        leader = leader_connection(broker, TARGET)
        port = leader.socket.getpeername()[1]
        leader.close()
        for name, api, version, flexible, body in valid_requests():
            with Connection(broker, port) as connection:
                answer = connection.request(api, version, body, flexible)
                assert answer is not None, f"{name}: the whole request is not answered"
        with leader_connection(broker, TARGET) as connection:
            assert list_offset(connection, TARGET, -1) == (NONE, 2)
        for name, api, version, flexible, body in valid_requests():
            for size in range(len(body)):
                data = frame(header(api, version, flexible=flexible) + body[:size])
                assert closed_after(broker, data, port), f"{name}: body of {size} bytes answered"
        with leader_connection(broker, TARGET) as connection:
            assert list_offset(connection, TARGET, -1) == (NONE, 2), "a cut request was appended"


@sanitized_instead
def test_unknown_apis_and_versions():
    with besieged() as broker:
        ranges = api_ranges(broker)
        for api in (-1, -32768, 4, 5, 6, 7, 52, 99, 1000, 32767):
            assert api not in ranges
            assert closed_after(broker, frame(header(api, 0))), f"API {api} is not closed"
        for api, (_, high) in ranges.items():
            for version in (high + 1, -1, 32767):
                if api == API_VERSIONS:
                    continue
                assert closed_after(broker, frame(header(api, version) + b"\0" * 64)), \
                    f"API {api} version {version} is not closed"
        for version in (99, 32767):
            with Connection(broker) as connection:
                connection.send(frame(header(API_VERSIONS, version, flexible=True) + b"\xff" * 9))
                answer = Reader(connection.response())
                assert (answer.i32(), answer.i16()) == (CORRELATION_ID, UNSUPPORTED_VERSION)
                entries = answer.array(lambda: (answer.i16(), answer.i16(), answer.i16()))
                answer.end()
                assert (API_VERSIONS, *ranges[API_VERSIONS]) in entries
                connection.send(frame(header(API_VERSIONS, 0)))  # the connection goes on
                assert Reader(connection.response()[4:]).i16() == NONE


def lying_requests():
    """Counts and lengths that the bytes behind them do not bear out, and nulls where none may be.
    (Any negative length of what may be null is null, as in Kafka.)"""
    huge, tail = uvarint(INT32_MAX), b"\0" * 200
    produce_head = string(None) + i16(-1) + i32(1000)
    one_topic = i32(1) + string(TARGET)
    return [
        ("client id", header(METADATA, 1)[:8] + i16(32767)),
        ("Metadata count", header(METADATA, 1) + i32(INT32_MAX) + tail),
        ("Metadata name", header(METADATA, 1) + i32(1) + i16(32767) + tail),
        ("Metadata null name", header(METADATA, 1) + i32(1) + i16(-1)),
        ("Metadata compact count", header(METADATA, 9, flexible=True) + huge + tail),
        ("Metadata endless varint", header(METADATA, 9, flexible=True) + b"\xff" * 20),
        ("header tag section", header(METADATA, 9) + huge + tail),
        ("header tag size", header(METADATA, 9) + b"\x01\x05" + huge + tail),
        ("Produce topics", header(PRODUCE, 7) + produce_head + i32(INT32_MAX) + tail),
        ("Produce partitions", header(PRODUCE, 7) + produce_head + one_topic + i32(INT32_MAX)),
        ("Produce records", header(PRODUCE, 7) + produce_head + one_topic + i32(1) + i32(0) +
         i32(INT32_MAX) + tail),
        ("Produce negative topics", header(PRODUCE, 7) + produce_head + i32(-2) + tail),
        ("Fetch topics", header(FETCH, 4) + i32(-1) + i32(0) + i32(0) + i32(1) + i8(0) +
         i32(INT32_MAX) + tail),
        ("Fetch partitions", header(FETCH, 4) + i32(-1) + i32(0) + i32(0) + i32(1) + i8(0) +
         one_topic + i32(INT32_MAX) + tail),
        ("CreateTopics topics", header(CREATE_TOPICS, 2) + i32(INT32_MAX) + tail),
        ("CreateTopics negative topics", header(CREATE_TOPICS, 2) + i32(-2) + tail),
        ("CreateTopics configs", header(CREATE_TOPICS, 2) + i32(1) + string("x") + i32(1) +
         i16(1) + i32(0) + i32(INT32_MAX)),
        ("ListOffsets", header(LIST_OFFSETS, 1) + i32(-1) + i32(INT32_MAX) + tail),
        # The bytes are there, the structures that they would become are 50 times as large.
        ("Metadata of a million names", header(METADATA, 1) + i32(1 << 20) + i16(0) * (1 << 19)),
    ]


@sanitized_instead
def test_lying_counts():
    with besieged() as broker:
        target(broker).close()
        for name, payload in lying_requests():
            with Connection(broker) as connection:
                connection.send(frame(payload))
                assert connection.is_closed(), f"{name}: not closed"
            check_memory(broker, f"after {name}")
        assert_empty(broker)


# -- batches

def bad_batches():
    """(name, the records field, possible error codes). Kafka itself answers these, but for those
    marked, which it lets pass, and unknown codecs, which are an internal error (-1) to it."""
    good = batch([b"a" * 10, b"b" * 10])
    return [
        ("wrong CRC", batch([b"x"], crc=1), {CORRUPT}),
        ("one bit", good[:-1] + bytes([good[-1] ^ 1]), {CORRUPT}),
        ("more records said than there", batch([b"x", b"y"], count=3), {INVALID}),
        ("fewer records said than there", batch([b"x", b"y"], count=1), {INVALID}),
        ("2^31-1 records", batch([b"x"], count=INT32_MAX, last_delta=INT32_MAX - 1), {INVALID}),
        ("no records", batch([]), {INVALID}),
        ("negative count", batch([b"x"], count=-1, last_delta=0), {INVALID}),
        ("last offset delta", batch([b"x", b"y"], last_delta=5), {INVALID}),
        ("offset deltas", batch([b"x", b"y"], records=record(1, b"x") + record(0, b"y")),
         {INVALID}),  # passes
        ("record longer than the batch", batch([b"x"], records=varint_record(1000)), {INVALID}),
        ("length too large", batch([b"x"], length=1000), {CORRUPT, INVALID}),
        ("length too small", batch([b"x"], length=30), {CORRUPT}),
        ("length 0", batch([b"x"], length=0), {CORRUPT}),
        ("negative length", batch([b"x"], length=-1), {CORRUPT}),
        ("length 2^31-1", batch([b"x"], length=INT32_MAX), {CORRUPT, INVALID}),
        ("cut header", good[:40], {CORRUPT, INVALID}),
        ("a few bytes", b"\0" * 5, {CORRUPT, INVALID}),
        ("nothing", b"", {INVALID}),
        ("magic 0", batch([b"x"], magic=0), {INVALID}),
        ("magic 1", batch([b"x"], magic=1), {INVALID}),
        ("magic 3", batch([b"x"], magic=3), {CORRUPT, INVALID}),
        ("message set of magic 1", message_set(), {INVALID}),
        ("two batches", good + good, {INVALID}),
        ("a batch and rubbish", good + b"rubbish", {INVALID, CORRUPT}),  # passes
        ("control bit", batch([b"x"], attributes=0x20), {INVALID}),
        ("unknown codec", batch([b"x"], attributes=7), {UNKNOWN_CODEC}),
        ("producer without sequence", batch([b"x"], producer=(5, 0, -1)), {INVALID}),
        ("a week ahead", batch([b"x"], now_ms=int(time.time() * 1000) + 7 * 86400_000),
         {INVALID_TIMESTAMP}),
    ]


def varint_record(length):
    return uvarint(length << 1) + record(0, b"x")[1:]


def message_set():
    body = i8(1) + i8(0) + i64(0) + i32(-1) + i32(1) + b"x"
    message = struct.pack(">I", zlib.crc32(body)) + body
    return i64(0) + i32(len(message)) + message


@sanitized_instead
def test_bad_batches():
    """Each gets its error on a connection that goes on; none leaves a record."""
    with besieged() as broker:
        with target(broker) as connection:
            for name, data, errors in bad_batches():
                answer = produce(connection, TARGET, data)
                assert answer is not None, f"{name}: closed instead of an error"
                assert answer[0] in errors, f"{name}: error {answer[0]}, expected {errors}"
                assert answer[1] == -1, f"{name}: base offset {answer[1]}"
            assert list_offset(connection, TARGET, -1) == (NONE, 0), "garbage was appended"
            assert produce(connection, TARGET, batch([b"good"])) == (NONE, 0)
            assert batch_values(fetch(connection, TARGET, 0)[2]) == [(0, b"good")]


def compressed_garbage():
    """(codec, bytes): noise, nothing, a cut stream, a stream that unpacks to no records."""
    packed = zlib.compressobj(wbits=31)
    gzip = packed.compress(record(0, b"x" * 100)) + packed.flush()
    for codec in (1, 2, 3, 4):
        yield codec, random.Random(codec).randbytes(300)
        yield codec, b""
    yield 1, gzip[:-12]
    yield 1, gzip[:12]
    bomb = zlib.compressobj(9, wbits=31)
    yield 1, bomb.compress(b"\0" * (64 * MIB)) + bomb.flush()


def refuse_to_pack_again(broker):
    """Where the topic wants another compression a helper thread looks inside: the same errors, for
    what is well packed, too, and the connection goes on."""
    topic = "packs-again"
    with Connection(broker) as connection:
        create_topics(connection, [topic], 1, [("compression.type", "uncompressed")])
    with leader_connection(broker, topic) as connection:
        for codec, data in compressed_garbage():
            answer = produce(connection, topic, batch([b"x"], records=data, attributes=codec))
            assert answer is not None, f"codec {codec}, {len(data)} bytes: closed"
            assert answer[0] in (CORRUPT, INVALID), f"codec {codec}: error {answer[0]}"
            check_memory(broker, f"packed again: after codec {codec}, {len(data)} bytes")
        packed = zlib.compressobj(wbits=31)
        gzip = packed.compress(record(0, b"good")) + packed.flush()
        late = int(time.time() * 1000) + 7 * 86400_000
        for sent, error in ((batch([b"x"], records=gzip, attributes=1, now_ms=late),
                             INVALID_TIMESTAMP),
                            (batch([b"x", b"y"], records=gzip, attributes=1), INVALID),
                            (batch([b"x"], attributes=7), UNKNOWN_CODEC)):
            answer = produce(connection, topic, sent)
            assert answer == (error, -1), f"{answer}, not {error}"
        sent = batch([b"x"], records=gzip, attributes=1)
        assert produce(connection, topic, sent) == (NONE, 0)
        assert batch_values(fetch(connection, topic, 0)[2]) == [(0, b"good")]


@sanitized_instead
def test_compressed_garbage():
    """A batch whose records cannot be unpacked is refused, or stored as it came for the consumer to
    refuse: Kafka's broker looks inside, ours where it must. Nothing is unpacked into memory."""
    with besieged() as broker:
        with target(broker, cleanup_policy="compact") as connection:  # must be looked into
            for codec, data in compressed_garbage():
                sent = batch([b"x"], records=data, attributes=codec)
                answer = produce(connection, TARGET, sent)
                assert answer is not None, f"codec {codec}, {len(data)} bytes: closed"
                assert answer[0] in (CORRUPT, INVALID), f"codec {codec}: error {answer[0]}"
                check_memory(broker, f"after codec {codec}, {len(data)} bytes")
            assert list_offset(connection, TARGET, -1) == (NONE, 0)
        refuse_to_pack_again(broker)
        with Connection(broker) as connection:
            create_topics(connection, ["plain"])
        with leader_connection(broker, "plain") as connection:
            for codec, data in compressed_garbage():
                sent = batch([b"x"], records=data, attributes=codec)
                error, offset = produce(connection, "plain", sent)
                assert error in (NONE, CORRUPT, INVALID), f"codec {codec}: error {error}"
                if error == NONE:
                    back = fetch(connection, "plain", offset)[2]
                    assert crc32c(back[21:]) == crc32c(sent[21:]), "stored other bytes"


def test_batch_larger_than_max_message_bytes():
    with besieged() as broker, target(broker, max_message_bytes=10_000) as connection:
        largest = batch([b"x" * (10_000 - len(batch([b"x" * 9_000])) + 9_000)])
        assert len(largest) == 10_000, len(largest)
        assert produce(connection, TARGET, largest) == (NONE, 0)
        assert produce(connection, TARGET, batch([b"x" * len(largest)])) == (TOO_LARGE, -1)
        assert connection.request(API_VERSIONS, 0, b"") is not None
        assert produce(connection, TARGET, batch([b"x" * (3 * MIB)])) == (TOO_LARGE, -1)
        assert produce(connection, TARGET, batch([b"small"])) == (NONE, 1)


# -- many, and slow ones

def wait_for_files(broker, at_least, timeout_s=20):
    end = time.monotonic() + timeout_s
    while open_files(broker) < at_least:
        assert time.monotonic() < end, f"{open_files(broker)} open files, not {at_least}"
        time.sleep(0.05)


def half_a_header(rng):
    whole = frame(header(PRODUCE, 7) + b"\0" * 100)
    return whole[:rng.randrange(1, 20)]


@sanitized
@timeout(180)
def test_silent_connections():
    """1,000 that send nothing and 1,000 that send half a header stay open and cost little."""
    rng = random.Random(1)
    with besieged() as broker:
        before, rss = open_files(broker), broker.rss()
        connections = []
        for number in range(2000):
            connections.append(Connection(broker, broker.port + number % 2))
            if number % 2 == 0:
                connections[-1].send(half_a_header(rng))
        broker.bystander.wait_for_progress(20)
        wait_for_files(broker, at_least=before + 2000 - FILES_SPARE)
        each = (broker.rss() - rss) / 2000
        print(f"{each:.0f} bytes resident a connection")
        with Connection(broker) as another:
            assert another.request(API_VERSIONS, 0, b"") is not None
        for connection in connections:
            connection.close()


def test_slow_loris():
    """Requests that arrive byte by byte, twenty at a time, are answered in the end."""
    with besieged() as broker:
        whole = frame(header(METADATA, 1) + array([]))
        slow_ones = [Connection(broker, broker.port + n % 2) for n in range(20)]
        for byte in whole:
            for connection in slow_ones:
                connection.send(bytes([byte]))
            time.sleep(0.02)
        for connection in slow_ones:
            assert connection.response()[:4] == i32(CORRELATION_ID)
            connection.close()


def test_large_first_request():
    """Not every client asks for ApiVersions first: a connection may begin with a large Produce."""
    with besieged() as broker:
        with target(broker) as connection:
            assert produce(connection, TARGET, batch([b"x" * (900 << 10)])) == (NONE, 0)


def fill(broker, mib):
    """So many MiB of records in TARGET, in batches of 1 MiB."""
    with leader_connection(broker, TARGET) as connection:
        data = batch([b"v" * 1000] * 1000)
        for turn in range(mib):
            assert produce(connection, TARGET, data) == (NONE, turn * 1000)


def send_without_reading(connection, data):
    """Until the broker takes no more; the bytes that it took."""
    connection.socket.setblocking(False)
    taken, last = 0, time.monotonic()
    while time.monotonic() - last < 1 and taken < 64 * MIB:
        try:
            taken += connection.socket.send(data)
            last = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
        except (ConnectionResetError, BrokenPipeError):
            break
    return taken


@sanitized
@timeout(180)
def test_fetch_that_is_never_read():
    """40 clients ask for 16 MiB each, over and over, and read nothing: memory stays bounded."""
    with besieged() as broker:
        target(broker).close()
        fill(broker, 4 if is_sanitized() else 16)
        request = frame(header(FETCH, 4) + fetch_body(TARGET, 0, max_bytes=16 * MIB))
        connections = [leader_connection(broker, TARGET) for _ in range(40)]
        for connection in connections:
            connection.send(request * 20)
        broker.bystander.wait_for_progress(50)
        check_memory(broker, "with unread responses")
        with leader_connection(broker, TARGET) as another:
            assert fetch(another, TARGET, 0)[0] == NONE
        for connection in connections:
            connection.close()


@timeout(180)
def test_requests_whose_responses_are_never_read():
    """Back-pressure: after a while the broker reads no more from who does not read."""
    with besieged() as broker:
        connections = [Connection(broker, broker.port + n % 2) for n in range(4)]
        for connection in connections:
            taken = send_without_reading(connection, frame(header(API_VERSIONS, 0)) * 1000)
            print(f"{taken} bytes of requests taken")
            assert taken < 64 * MIB, "the broker reads on for ever"
        check_memory(broker, "with unread responses")
        for connection in connections:
            connection.close()


@timeout(180)
def test_large_requests_that_never_end():
    """100 requests of 1 MiB, each one byte short: more than the memory that there is for them."""
    with besieged() as broker:
        target(broker).close()
        request = frame(header(PRODUCE, 7) + produce_body(TARGET, batch([b"x" * (900 << 10)])))
        connections = [leader_connection(broker, TARGET) for _ in range(100)]
        for connection in connections:
            send_without_reading_once(connection, request[:-1])
        broker.bystander.wait_for_progress(20)
        check_memory(broker, "with unfinished requests")
        for connection in connections:
            connection.close()
        assert_empty(broker)


def send_without_reading_once(connection, data):
    """As much of it as the broker takes within half a second."""
    connection.socket.settimeout(0.5)
    try:
        connection.socket.sendall(data)
    except socket.timeout:
        pass


# -- what the log says

def wait_for_log(broker, pattern, timeout_s=15):
    end = time.monotonic() + timeout_s
    while not pattern.search(broker.log()):
        assert time.monotonic() < end, f"{timeout_s} s on, the log does not say {pattern.pattern}"
        time.sleep(0.1)


def test_log_names_the_reason_and_is_bounded():
    with besieged() as broker:
        reasons = {
            frame(header(99, 0)): r"closing 127\.0\.0\.1:\d+: .*unknown API key 99",
            frame(header(METADATA, 99)): r"closing .*Metadata v99: version is not served",
            i32(-5): r"closing .*frame of -5 bytes: negative",
            i32(INT32_MAX): r"closing .*frame of 2147483647 bytes: more than a request may have",
            frame(header(METADATA, 1) + i32(INT32_MAX)): r"closing .*Metadata v1: malformed body",
            frame(b"ab"): r"closing .*too short",
        }
        for data, said in reasons.items():
            assert closed_after(broker, data)
            wait_for_log(broker, re.compile(said))
        lines = broker.log().count("\n")
        begin = time.monotonic()
        for _ in range(1500):
            assert closed_after(broker, i32(-5))
        seconds = time.monotonic() - begin
        left_out = re.compile(r"shard 0: \d+ more lines about connections left out")
        wait_for_log(broker, left_out)
        new = broker.log().count("\n") - lines
        print(f"{new} lines for 1500 closed connections in {seconds:.1f} s")
        assert new <= 25 * (seconds + 2), f"{new} lines in {seconds:.1f} s"
        assert new < 1500
