"""A Kafka connection made by hand, for what no client library would send.

Requests are bytes put together by the functions below; Connection frames them, adds the header
and says what came back: the bytes of a response, or None when the broker closed the connection.
Produce v7, Fetch v4, ListOffsets v1, Metadata v1 and CreateTopics v2 have helpers of their own;
none of these versions is flexible.
"""
import socket
import struct
import time

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS = 0, 1, 2, 3, 18
CREATE_TOPICS, DELETE_TOPICS, INIT_PRODUCER_ID = 19, 20, 22
LEADER_NOT_AVAILABLE = 5
TIMEOUT_S = 30
CORRELATION_ID = 0x01020304


# -- bytes


def i8(value):
    return struct.pack(">b", value)


def i16(value):
    return struct.pack(">h", value)


def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def string(value):
    return i16(-1) if value is None else i16(len(value)) + value.encode()


def array(items):
    return i32(-1) if items is None else i32(len(items)) + b"".join(items)


def uvarint(value):
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def varint(value):
    return uvarint((value << 1) ^ (value >> 63))


class Reader:
    """Takes a response apart; running over its end raises struct.error."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        value, = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def i8(self):
        return self.take(">b")

    def i16(self):
        return self.take(">h")

    def i32(self):
        return self.take(">i")

    def i64(self):
        return self.take(">q")

    def bytes(self, length):
        value = bytes(self.data[self.at:self.at + max(length, 0)])
        assert len(value) == max(length, 0), "the response is cut short"
        self.at += max(length, 0)
        return value

    def string(self):
        length = self.i16()
        return None if length < 0 else self.bytes(length).decode()

    def array(self, item):
        return [item() for _ in range(self.i32())]

    def end(self):
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes behind the response"


# -- record batches

def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = _crc_table()


def crc32c(data):
    crc, table = 0xffffffff, CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


def record(number, value, key=None):
    body = b"\0" + varint(0) + varint(number)
    body += varint(-1) if key is None else varint(len(key)) + key
    body += varint(len(value)) + value + varint(0)
    return varint(len(body)) + body


def batch(values, count=None, last_delta=None, attributes=0, magic=2, producer=(-1, -1, -1),
          records=None, length=None, crc=None, now_ms=None):
    """A batch of magic 2 with these values; each keyword sets a field to what it should not be."""
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    count = len(values) if count is None else count
    last_delta = count - 1 if last_delta is None else last_delta
    if records is None:
        records = b"".join(record(i, value) for i, value in enumerate(values))
    tail = struct.pack(">hiqqqhii", attributes, last_delta, now_ms, now_ms, *producer, count)
    tail += records
    crc = crc32c(tail) if crc is None else crc
    length = 4 + 1 + 4 + len(tail) if length is None else length
    return struct.pack(">qiibI", 0, length, -1, magic, crc) + tail


def batch_values(data):
    """[(offset, value)] of the whole, uncompressed batches in a fetch response's records."""
    found, at = [], 0
    while len(data) - at >= 12:
        base, length = struct.unpack_from(">qi", data, at)
        if len(data) - at - 12 < length:
            break
        count, = struct.unpack_from(">i", data, at + 57)
        place = at + 61
        for _ in range(count):
            value, delta, place = _record_value(data, place)
            found.append((base + delta, value))
        at += 12 + length
    return found


def _read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value >> 1 ^ -(value & 1), at


def _record_value(data, at):
    length, at = _read_varint(data, at)
    end = at + length
    _, at = _read_varint(data, at + 1)
    delta, at = _read_varint(data, at)
    key, at = _read_varint(data, at)
    size, at = _read_varint(data, at + max(key, 0))
    return bytes(data[at:at + max(size, 0)]), delta, end


# -- connections

def header(api, version, correlation_id=CORRELATION_ID, flexible=False, client="test"):
    return i16(api) + i16(version) + i32(correlation_id) + string(client) + b"\0" * flexible


def frame(payload):
    return i32(len(payload)) + payload


class Connection:
    def __init__(self, broker, port=None, timeout_s=TIMEOUT_S):
        self.socket = socket.create_connection((broker.host, port or broker.port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data):
        """False when the broker does not take it any more."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _receive(self, size):
        data = bytearray()
        while len(data) < size:
            try:
                part = self.socket.recv(size - len(data))
            except ConnectionResetError:
                return None
            if not part:
                return None
            data += part
        return bytes(data)

    def response(self):
        """The next response without its length, or None if the broker closed the connection."""
        length = self._receive(4)
        return length and self._receive(struct.unpack(">i", length)[0])

    def request(self, api, version, body, flexible=False):
        """The response's body, or None."""
        if not self.send(frame(header(api, version, flexible=flexible) + body)):
            return None
        payload = self.response()
        if payload is None:
            return None
        assert payload[:4] == i32(CORRELATION_ID), f"another correlation id: {payload[:4]!r}"
        return Reader(payload[4:])

    def is_closed(self, timeout_s=TIMEOUT_S):
        """True once the broker closes; False when it does not, or sends something."""
        self.socket.settimeout(timeout_s)
        try:
            return not self.socket.recv(1)
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def end_of_requests(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# -- some whole requests

def produce_body(topic, data, acks=-1, partition=0):
    return (string(None) + i16(acks) + i32(TIMEOUT_S * 1000) +
            array([string(topic) + array([i32(partition) + i32(len(data)) + data])]))


def fetch_body(topic, offset, partition=0, max_bytes=1 << 20, wait_ms=0, min_bytes=0, version=4):
    session, epoch, start, forgotten = b"", b"", b"", b""
    if version == 10:  # without a session
        session, epoch, start, forgotten = i32(0) + i32(-1), i32(-1), i64(-1), array([])
    return (i32(-1) + i32(wait_ms) + i32(min_bytes) + i32(max_bytes) + i8(0) + session +
            array([string(topic) + array([i32(partition) + epoch + i64(offset) + start +
                                          i32(max_bytes)])]) + forgotten)


def create_topics_body(topics, partitions=1, configs=()):
    configs = array([string(key) + string(value) for key, value in configs])
    return array([string(topic) + i32(partitions) + i16(1) + array([]) + configs
                  for topic in topics]) + i32(TIMEOUT_S * 1000) + i8(0)


def produce(connection, topic, data, partition=0):
    """(error code, base offset) of one batch, acks=all; None when the connection was closed."""
    answer = connection.request(PRODUCE, 7, produce_body(topic, data, partition=partition))
    if answer is None:
        return None
    assert (answer.i32(), answer.string(), answer.i32(), answer.i32()) == (1, topic, 1, partition)
    error, offset = answer.i16(), answer.i64()
    answer.i64(), answer.i64(), answer.i32()
    answer.end()
    return error, offset


def fetch(connection, topic, offset, partition=0, max_bytes=1 << 20, version=4):
    """(error code, high watermark, records as bytes). Version 4 or 10."""
    answer = connection.request(FETCH, version, fetch_body(topic, offset, partition, max_bytes,
                                                           version=version))
    answer.i32()
    if version == 10:
        assert (answer.i16(), answer.i32()) == (0, 0)
    assert (answer.i32(), answer.string(), answer.i32(), answer.i32()) == (1, topic, 1, partition)
    error, high = answer.i16(), answer.i64()
    answer.i64()
    if version == 10:
        answer.i64()
    aborted = answer.i32()
    assert aborted <= 0, aborted
    records = answer.bytes(answer.i32())
    answer.end()
    return error, high, records


def list_offset(connection, topic, timestamp, partition=0):
    """(error code, offset); timestamp -1 asks for the end, -2 for the start."""
    body = i32(-1) + array([string(topic) + array([i32(partition) + i64(timestamp)])])
    answer = connection.request(LIST_OFFSETS, 1, body)
    assert (answer.i32(), answer.string(), answer.i32(), answer.i32()) == (1, topic, 1, partition)
    error = answer.i16()
    answer.i64()
    return error, answer.i64()


def create_topics(connection, topics, partitions=1, configs=()):
    answer = connection.request(CREATE_TOPICS, 2, create_topics_body(topics, partitions, configs))
    answer.i32()
    results = answer.array(lambda: (answer.string(), answer.i16(), answer.string()))
    bad = [result for result in results if result[1] != 0]
    assert len(results) == len(topics) and not bad, bad[:5]


def delete_topics(connection, topics):
    body = array([string(topic) for topic in topics]) + i32(TIMEOUT_S * 1000)
    answer = connection.request(DELETE_TOPICS, 1, body)
    answer.i32()
    results = answer.array(lambda: (answer.string(), answer.i16()))
    bad = [result for result in results if result[1] != 0]
    assert len(results) == len(topics) and not bad, bad[:5]


def metadata(connection, topics=None, offline=False):
    """({node id: (host, port)}, {topic: {partition: leader}}) of these topics, or of all. offline:
    a partition may be without a leader, which is -1 then."""
    answer = connection.request(METADATA, 1,
                                array(None if topics is None else [string(t) for t in topics]))
    nodes = {}
    for _ in range(answer.i32()):
        node, host, port, _ = answer.i32(), answer.string(), answer.i32(), answer.string()
        nodes[node] = host, port
    answer.i32()
    leaders = {}
    for _ in range(answer.i32()):
        error, topic, _ = answer.i16(), answer.string(), answer.i8()
        assert error == 0, f"{topic}: error {error}"
        leaders[topic] = {}
        for _ in range(answer.i32()):
            error, partition, leader = answer.i16(), answer.i32(), answer.i32()
            answer.array(answer.i32), answer.array(answer.i32)
            gone = offline and (error, leader) == (LEADER_NOT_AVAILABLE, -1)
            assert error == 0 or gone, f"{topic}-{partition}: error {error}"
            leaders[topic][partition] = leader
    answer.end()
    return nodes, leaders


def leader_connection(broker, topic, partition=0, timeout_s=TIMEOUT_S):
    with Connection(broker) as any_node:
        nodes, leaders = metadata(any_node, [topic])
    return Connection(broker, nodes[leaders[topic][partition]][1], timeout_s)


def api_ranges(broker):
    """{api key: (lowest, highest version)} as ApiVersions v0 says."""
    with Connection(broker) as connection:
        answer = connection.request(API_VERSIONS, 0, b"")
    assert answer is not None and answer.i16() == 0
    entries = answer.array(lambda: (answer.i16(), answer.i16(), answer.i16()))
    answer.end()
    return {key: (low, high) for key, low, high in entries}
