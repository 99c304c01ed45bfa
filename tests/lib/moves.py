"""Moving partitions between nodes by hand: AlterPartitionReassignments, ListPartitionReassignments."""
import threading
import time

from lib.kafka_wire import Connection, i8, i32, metadata, uvarint

ALTER_REASSIGNMENTS, LIST_REASSIGNMENTS = 45, 46
NO_TAGS = b"\0"


def compact_string(value):
    return b"\0" if value is None else uvarint(len(value) + 1) + value.encode()


def compact_array(items):
    return b"\0" if items is None else uvarint(len(items) + 1) + b"".join(items)


def _uvarint(answer):
    value = shift = 0
    while True:
        byte = answer.i8() & 0xff
        value |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            return value


def _string(answer):
    length = _uvarint(answer)
    return None if length == 0 else answer.bytes(length - 1).decode()


def _array(answer, item):
    return [item() for _ in range(_uvarint(answer) - 1)]


def alter(connection, moves, version=1, allow_factor=True):
    """moves: [(topic, partition, nodes or None)]; [(error code, message)] in the same order."""
    topics = [compact_string(topic) +
              compact_array([i32(partition) +
                             compact_array(nodes and [i32(node) for node in nodes]
                                           if nodes != [] else []) + NO_TAGS]) + NO_TAGS
              for topic, partition, nodes in moves]
    body = (i32(30000) + (i8(allow_factor) if version > 0 else b"") +
            compact_array(topics) + NO_TAGS)
    answer = connection.request(ALTER_REASSIGNMENTS, version, body, flexible=True)
    assert answer is not None, "closed"
    answer.i8(), answer.i32()
    if version > 0:
        assert answer.i8() == allow_factor
    assert (answer.take(">h"), _string(answer)) == (0, None)

    def partition():
        told = answer.i32(), answer.i16(), _string(answer)
        answer.i8()
        return told

    def topic():
        told = _string(answer), _array(answer, partition)
        answer.i8()
        return told
    told = _array(answer, topic)
    answer.i8()
    answer.end()
    assert [(name, rows[0][0]) for name, rows in told] == [move[:2] for move in moves], told
    return [rows[0][1:] for _, rows in told]


def under_way(connection, topics=None):
    """{(topic, partition): (replicas, adding, removing)}; topics: [(name, partitions)]."""
    asked = None if topics is None else [
        compact_string(name) + compact_array([i32(p) for p in partitions]) + NO_TAGS
        for name, partitions in topics]
    answer = connection.request(LIST_REASSIGNMENTS, 0,
                                i32(30000) + compact_array(asked) + NO_TAGS, flexible=True)
    assert answer is not None, "closed"
    answer.i8(), answer.i32()
    assert (answer.i16(), _string(answer)) == (0, None)
    found = {}

    def topic():
        name = _string(answer)

        def partition():
            index = answer.i32()
            found[name, index] = tuple(_array(answer, answer.i32) for _ in range(3))
            answer.i8()
        _array(answer, partition)
        answer.i8()
    _array(answer, topic)
    answer.i8()
    answer.end()
    return found


def leaders(broker, topic):
    with Connection(broker) as connection:
        return metadata(connection, [topic])[1][topic]


def wait_until_over(connection, timeout_s=60):
    end = time.monotonic() + timeout_s
    while under_way(connection):
        assert time.monotonic() < end, f"still under way: {under_way(connection)}"
        time.sleep(0.002)


def move(broker, topic, partition, node):
    """Returns when it is led by that node."""
    with Connection(broker) as connection:
        got, = alter(connection, [(topic, partition, [node])])
        assert got == (0, None), got
        wait_until_over(connection)
    assert leaders(broker, topic)[partition] == node, (topic, partition, node)


class Mover(threading.Thread):
    """Moves partitions to whichever of two nodes they are not at, one after the other, until
    stop(). A broker that is not there is waited for."""

    def __init__(self, broker, places, pause_s=0.0):
        super().__init__(daemon=True)
        self.broker, self.places, self.pause_s = broker, places, pause_s
        self.moves = 0
        self.failure = None
        self.ends = threading.Event()

    def move_all(self):
        with Connection(self.broker) as connection:
            nodes, led = metadata(connection, sorted({topic for topic, _ in self.places}))
            assert len(nodes) == 2
            for topic, partition in self.places:
                if self.ends.is_set():
                    return
                to = next(node for node in nodes if node != led[topic][partition])
                got, = alter(connection, [(topic, partition, [to])])
                assert got == (0, None), got
                wait_until_over(connection)
                self.moves += 1
                self.ends.wait(self.pause_s)

    def run(self):
        while not self.ends.is_set():
            try:
                self.move_all()
            except (OSError, AttributeError):  # refused, or closed before there was an answer
                time.sleep(0.05)
            except AssertionError as problem:
                if str(problem) != "closed":
                    self.failure = problem
                    return

    def stop(self):
        """How many moves there were."""
        self.ends.set()
        self.join()
        if self.failure is not None:
            raise self.failure
        return self.moves
