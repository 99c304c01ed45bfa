"""The file system fails under the running broker: it is full, has no inodes left, turns read-only,
loses files, its device refuses. Produce gets an error that clients send again on, what is there can
be read, the log names file or partition, the broker never ends, and nothing acknowledged is lost.
After space has come back it goes on by itself."""
import os
import random
import re
import time

from lib.broker import Broker, BrokerError
from lib.clients import is_full
from lib.crash_load import Load
from lib.file_system import FileSystem
from lib.kafka_wire import (Connection, batch, batch_values, create_topics, delete_topics, fetch,
                            leader_connection, list_offset, metadata, produce)
from lib.testcase import params, slow, timeout

MIB = 1 << 20
RETRIABLE = {3, 5, 6, 7, 13, 56}  # as Kafka's clients see them
TOPICS = ("one", "two")
RECORD_BYTES, RECORDS_A_BATCH, BATCHES = 50_000, 4, 8
OPTIONS = {"journal.bytes": "16m", "log.segment.bytes": "2m", "log.segment.delete.delay.ms": 100}
BACK_S = 20  # production goes on by itself within this


def kinds(short):
    """Which file systems: with --all both."""
    return params(*(("ext4", "xfs") if is_full() else (short,)))


def make_batches():
    """A few, sent in turn: the checksums are made only once."""
    rng = random.Random(1)
    values = [[rng.randbytes(RECORD_BYTES) for _ in range(RECORDS_A_BATCH)]
              for _ in range(BATCHES)]
    return values, [batch(some) for some in values]


class Ledger:
    """One writer of two topics, who remembers what was acknowledged."""

    VALUES, DATA = None, None

    def __init__(self, broker):
        if Ledger.VALUES is None:
            Ledger.VALUES, Ledger.DATA = make_batches()
        self.broker, self.connections = broker, {}
        self.acknowledged = {topic: {} for topic in TOPICS}  # {first offset: which batch}
        self.sent = 0
        with Connection(broker) as connection:
            create_topics(connection, TOPICS)

    def _connection(self, topic):
        if topic not in self.connections:
            self.connections[topic] = leader_connection(self.broker, topic)
        return self.connections[topic]

    def reconnect(self):
        for connection in self.connections.values():
            connection.close()
        self.connections = {}

    def write(self, topic):
        """The error code."""
        which, self.sent = self.sent % BATCHES, self.sent + 1
        answer = produce(self._connection(topic), topic, self.DATA[which])
        assert answer is not None, f"the connection was closed\n{self.broker.log_tail()}"
        error, offset = answer
        if error == 0:
            self.acknowledged[topic][offset] = which
        return error

    def write_well(self, topic, batches):
        for _ in range(batches):
            error = self.write(topic)
            assert error == 0, f"{topic}: error {error}\n{self.broker.log_tail()}"

    def write_until_refused(self, topic, batches=2000):
        for turn in range(batches):
            error = self.write(topic)
            if error:
                assert error in RETRIABLE, f"{topic}: error {error}, which clients give up on"
                return turn
        raise AssertionError(f"{topic}: {batches} batches taken, none refused")

    def write_until_taken(self, topic):
        end = time.monotonic() + BACK_S
        while (error := self.write(topic)) != 0:
            assert error in RETRIABLE, f"{topic}: error {error}"
            assert time.monotonic() < end, \
                f"{topic}: error {error} {BACK_S} s after space has come back\n" \
                f"{self.broker.log_tail()}"
            time.sleep(0.2)

    def check(self, topics=TOPICS):
        """Everything acknowledged is there; fetches, metadata and offsets are answered."""
        with Connection(self.broker) as connection:
            offline = len(topics) < len(TOPICS)
            assert set(TOPICS) <= set(metadata(connection, offline=offline)[1])
        for topic in topics:
            self._check_topic(topic)

    def _check_topic(self, topic):
        connection = self._connection(topic)
        error, end = list_offset(connection, topic, -1)
        assert error == 0, f"{topic}: error {error} of ListOffsets"
        offset, found = 0, {}
        while offset < end:
            error, _, data = fetch(connection, topic, offset, max_bytes=4 * MIB)
            values = batch_values(data)
            assert error == 0 and values and values[0][0] == offset, \
                f"{topic}: error {error} at offset {offset} of {end}\n{self.broker.log_tail()}"
            found.update(values)
            offset = values[-1][0] + 1
        for first, which in self.acknowledged[topic].items():
            for i, value in enumerate(self.VALUES[which]):
                assert found.get(first + i) == value, \
                    f"{topic}: offset {first + i} is not what was acknowledged there"


def log_says(broker, pattern):
    """The broker's log has such a line."""
    said = re.search(pattern, broker.log())
    assert said, f"no line with {pattern}\n{broker.log_tail()}"
    print(said[0])


def wait_for_line(broker, pattern, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not re.search(pattern, broker.log()):
        assert time.monotonic() < end, f"no line with {pattern}\n{broker.log_tail()}"
        time.sleep(0.05)


# -- nothing left, and then something again

def goes_on_by_itself(fs, broker, ledger, use_up):
    for topic in TOPICS:
        ledger.write_well(topic, 15)
    use_up()
    for topic in TOPICS:
        print(topic, ledger.write_until_refused(topic), "batches taken without space")
    ledger.check()
    with Connection(broker) as connection:  # a reserve for what makes space
        create_topics(connection, ["three"])
        delete_topics(connection, ["three"])
    ledger.check()
    fs.free()
    for topic in TOPICS:
        ledger.write_until_taken(topic)
        ledger.write_well(topic, 30)
    ledger.check()


def recovers_in_want(fs, broker, ledger, use_up):
    """Killed and started again while there is nothing left: it serves, and later takes."""
    use_up()
    for topic in TOPICS:
        ledger.write_until_refused(topic)
    ledger.reconnect()
    broker.restart(kill=True)
    ledger.check()
    fs.free()
    for topic in TOPICS:
        ledger.write_until_taken(topic)
        ledger.write_well(topic, 10)
    ledger.reconnect()
    broker.restart(kill=True)
    ledger.check()
    broker.restart()


@timeout(180)
@kinds("xfs")
def test_full(kind):
    with FileSystem(kind) as fs, Broker(memory="96m", options=OPTIONS, data=[fs.path]) as broker:
        ledger = Ledger(broker)
        goes_on_by_itself(fs, broker, ledger, fs.fill)
        log_says(broker, r"one-0: .*No space left.*")
        recovers_in_want(fs, broker, ledger, fs.fill)


@slow
@timeout(180)
@kinds("ext4")
def test_clients_go_on_when_space_is_back(kind):
    """librdkafka's producers, whose records nobody loses and nobody writes twice; then a kill."""
    with FileSystem(kind) as fs, Broker(memory="96m", options=OPTIONS, data=[fs.path]) as broker, \
            Load(broker) as load:
        load.wait(1000)
        fs.fill()
        wait_for_line(broker, r"failed \(No space left on device\), no records are taken")
        time.sleep(1)
        fs.free()
        load.wait(3000)
        load.check()
        load.kill(broker.kill9)
        broker.start()
        load.stop()
        load.check()


@slow
@timeout(180)
def test_no_inodes():
    """ext4 has only so many; XFS makes them of space."""
    with FileSystem("ext4", mkfs=["-N", "256"]) as fs, \
            Broker(memory="96m", options=OPTIONS, data=[fs.path]) as broker:
        ledger = Ledger(broker)
        goes_on_by_itself(fs, broker, ledger, fs.use_inodes)
        log_says(broker, r"one-0: .*No space left.*")
        recovers_in_want(fs, broker, ledger, fs.use_inodes)


# -- broken

def wait_until_refused(ledger, topic):
    """However it is broken: at once, or when the next file is made."""
    print(topic, ledger.write_until_refused(topic), "batches taken before the first error")
    for _ in range(3):
        error = ledger.write(topic)
        assert error in RETRIABLE, f"{topic}: error {error} after the first one"


def survives_until_mended(fs, broker, ledger, break_it, readable):
    """readable: what is on disk can be read while it is broken."""
    for topic in TOPICS:
        ledger.write_well(topic, 40)
    ledger.reconnect()
    broker.restart()  # nothing in memory
    for topic in TOPICS:
        ledger.write_well(topic, 5)  # now something is
    break_it()
    for topic in TOPICS:
        wait_until_refused(ledger, topic)
    if readable:
        ledger.check()
    else:
        assert reads_fail_or_are_right(broker, ledger) > 0, "all was read from a broken device"
    assert broker.is_running()
    recovers_when_mended(fs, broker, ledger)


def recovers_when_mended(fs, broker, ledger):
    ledger.reconnect()
    broker.kill9()
    fs.repair()
    broker.start()
    ledger.check()
    for topic in TOPICS:
        ledger.write_well(topic, 10)
    ledger.reconnect()
    broker.restart(kill=True)
    ledger.check()


def reads_fail_or_are_right(broker, ledger):
    """What is in memory comes, what is not is error 56 (which Fetch has from version 6 on, before it
    is 6) and a line in the log."""
    failed = right = 0
    with Connection(broker) as connection:
        assert set(TOPICS) <= set(metadata(connection)[1])
    for topic in TOPICS:
        for first, which in ledger.acknowledged[topic].items():
            with leader_connection(broker, topic) as connection:
                error, _, data = fetch(connection, topic, first)
            if error != 0:
                assert error in (6, 56), f"{topic}: error {error} at offset {first}"
                failed += 1
                continue
            found = dict(batch_values(data))
            for i, value in enumerate(ledger.VALUES[which]):
                assert found.get(first + i, value) == value
            assert first in found
            right += 1
    print(f"{failed} fetches failed, {right} were right")
    assert right > 0
    if failed:
        log_says(broker, r"(one|two)-0: reading \d{20}\.log at position \d+ failed.*")
    return failed


@slow
@timeout(180)
@kinds("xfs")
def test_shut_down(kind):
    """The file system gives up: every operation on it fails."""
    with FileSystem(kind) as fs, Broker(memory="64m", options=OPTIONS, data=[fs.path]) as broker:
        survives_until_mended(fs, broker, Ledger(broker), fs.shut_down, readable=False)
        log_says(broker, r"/journal\.\d: writing \d+ bytes at position \d+ failed \(Input/output.*")


@slow
@timeout(180)
def test_read_only():
    """ext4 finds an error and turns read-only under the broker."""
    with FileSystem("ext4", options="errors=remount-ro") as fs, \
            Broker(memory="96m", options=OPTIONS, data=[fs.path]) as broker:
        survives_until_mended(fs, broker, Ledger(broker), fs.fail_internally, readable=True)
        log_says(broker, r"failed \((Read-only file system|Input/output error)\), .*")


@timeout(180)
@kinds("ext4")
def test_device_refuses(kind):
    with FileSystem(kind) as fs, Broker(memory="64m", options=OPTIONS, data=[fs.path]) as broker:
        survives_until_mended(fs, broker, Ledger(broker), fs.fail_device, readable=False)
        log_says(broker, r"/journal\.\d: writing \d+ bytes at position \d+ failed \(Input/output.*")


@timeout(180)
@kinds("xfs")
def test_one_of_two_directories_refuses(kind):
    """Its partitions are refused; journal and the others' segments are elsewhere, and go on."""
    with FileSystem(kind) as fs, FileSystem(kind) as whole, \
            Broker(memory="96m", shards=1, options=OPTIONS, data=[whole.path, fs.path]) as broker:
        ledger = Ledger(broker)
        for topic in TOPICS:
            ledger.write_well(topic, 15)
        broken, = [topic for topic in TOPICS if broker.partition_dir(topic, 0).startswith(fs.path)]
        other, = [topic for topic in TOPICS if topic != broken]
        fs.fail_device()
        wait_until_refused(ledger, broken)
        ledger.write_well(other, 200)  # the journal goes round meanwhile
        ledger.check([other])
        log_says(broker, broken + r"-0: \w+ \d{20}\.log.* failed \(Input/output error\), the part.*")
        recovers_when_mended(fs, broker, ledger)


# -- files taken away

@slow
def test_deleted_segment():
    """What is open can be read on; after a restart its offsets are an error, the rest is there."""
    with Broker(memory="64m", options=OPTIONS) as broker:
        ledger = Ledger(broker)
        ledger.write_well("one", 40)
        ledger.write_well("two", 40)
        victim = broker.segments("one", 0)[1]
        os.unlink(victim)
        ledger.write_well("one", 10)
        ledger.check(["two"])
        ledger.reconnect()
        broker.restart()
        check_all_but(broker, ledger, victim)
        missing = rf"one-0: reading {os.path.basename(victim)} at position \d+ failed"
        assert len(re.findall(missing, broker.log())) == 1, broker.log_tail()
        ledger.write_well("one", 10)
        broker.restart(kill=True)


@slow
@params("sealed", "active")
def test_truncated_segment(which):
    with Broker(memory="64m", options=OPTIONS) as broker:
        ledger = Ledger(broker)
        ledger.write_well("one", 40)
        ledger.write_well("two", 40)
        ledger.reconnect()
        broker.restart()
        victim = broker.segments("one", 0)[1 if which == "sealed" else -1]
        os.truncate(victim, 8192)
        ledger.write_well("two", 10)
        check_all_but(broker, ledger, victim)
        for _ in range(20):  # taken, or refused: never lost
            error = ledger.write("one")
            assert error == 0 or error in RETRIABLE, error
        ledger.check(["two"])
        ledger.reconnect()
        broker.restart(kill=True)
        check_all_but(broker, ledger, victim)


def check_all_but(broker, ledger, victim):
    """Every batch outside that file is right; of those in it none is wrong, and some are errors."""
    start = int(os.path.basename(victim)[:20])
    later = [int(os.path.basename(path)[:20]) for path in broker.segments("one", 0)]
    end = min((base for base in later if base > start), default=1 << 62)
    failed = 0
    ledger.check(["two"])
    with leader_connection(broker, "one") as connection:
        for first, which in ledger.acknowledged["one"].items():
            error, _, data = fetch(connection, "one", first)
            found = dict(batch_values(data)) if error == 0 else {}
            wrong = [i for i, value in enumerate(ledger.VALUES[which])
                     if found.get(first + i, value) != value]
            assert not wrong, f"wrong bytes at offset {first + wrong[0]}"
            if start <= first < end:
                failed += first not in found
            else:
                assert first in found, f"error {error} at offset {first}, outside of {victim}"
    print(f"{failed} batches of {os.path.basename(victim)} cannot be read")
    assert failed > 0, "all was read out of a file that is not there"


def refuses_to_start(broker, pattern):
    try:
        broker.start()
    except BrokerError as error:
        assert re.search(pattern, str(error)), error
    else:
        raise AssertionError("it started")


def test_deleted_journal():
    """It is written on; the next start wants it, rather than take all partitions for empty."""
    with Broker(memory="64m", shards=1, options=OPTIONS) as broker:
        ledger = Ledger(broker)
        ledger.write_well("one", 20)
        journal, elsewhere = (os.path.join(folder, "journal.0")
                              for folder in (broker.data[0], broker.dir))
        os.rename(journal, elsewhere)
        for topic in TOPICS:
            ledger.write_well(topic, 50)
        ledger.check()
        ledger.reconnect()
        broker.kill9()
        refuses_to_start(broker, r"/journal\.0 is missing")
        for name in os.listdir(broker.data[0]):  # it does not need the checkpoints to know
            if name.startswith("journal.0.checkpoint"):
                os.rename(os.path.join(broker.data[0], name), os.path.join(broker.dir, name))
        refuses_to_start(broker, r"/journal\.0 is missing")
        for name in os.listdir(broker.dir):
            if name.startswith("journal.0"):
                os.rename(os.path.join(broker.dir, name), os.path.join(broker.data[0], name))
        broker.start()
        ledger.check()


@slow
def test_truncated_journal():
    with Broker(memory="64m", shards=1, options=OPTIONS) as broker:
        ledger = Ledger(broker)
        ledger.write_well("one", 20)
        os.truncate(os.path.join(broker.data[0], "journal.0"), 3 * MIB)
        for topic in TOPICS:
            ledger.write_well(topic, 10)
        ledger.check()
        ledger.reconnect()
        broker.kill9()
        refuses_to_start(broker, r"journal 0 is shorter than its superblock says")
