"""One damaged sector anywhere in a small data directory while the broker is stopped: it starts, and a
real consumer gets exactly what was produced, but for batches with bytes in that sector, whose offsets
the broker's log names; and it takes new records. unit/core/log/test_damage.c holds the same of every
byte on the modelled device; this is the whole broker, real files and librdkafka."""
import os
import random
import re
import shutil
import time

from lib.broker import Broker, temp_dir
from lib.clients import kcat_consume
from lib.kafka_wire import Connection, batch, create_topics, leader_connection, produce
from lib.metrics import metrics_broker, scrape
from lib.testcase import params, slow, timeout

TOPIC = "damage"
PARTITIONS = 3
SECTOR = 512
SLICE = 48  # of a batch, looked for in the files to know where it lies
HOUR_MS = 3600000
OPTIONS = {"journal.bytes": "16m", "log.segment.bytes": 1 << 20, "direct.min.bytes": "16k",
           "log.roll.ms": HOUR_MS, "log.index.interval.bytes": 4096}
LOST = re.compile(r" " + TOPIC + r"-(\d+): offsets (\d+) to (\d+) are lost")
KINDS = ("flip", "zeros", "garbage")


def wait_for_another_write(broker):
    """To the journal. It may have been before the first look: then nothing comes any more."""
    def writes():
        return scrape(broker).total("journal_write_seconds")
    before, end = writes(), time.monotonic() + 5
    while writes() == before and time.monotonic() < end:
        time.sleep(0.01)


class Directory:
    """A data directory as it was when the broker stopped, and all that was acknowledged in it."""

    def __init__(self, path, clean):
        self.random = random.Random(31)
        self.path, self.batches = path, []  # (partition, base offset, values, bytes)
        with metrics_broker(shards=1, memory="64m", options=dict(OPTIONS), data=[path]) as broker:
            with Connection(broker) as connection:
                create_topics(connection, [TOPIC], PARTITIONS)
            self._fill(broker, 15, 30)
            self._fill(broker, 15, 20)  # later by more than roll.ms: seals what was before
            broker.restart()
            self._fill(broker, 8, 10)
            self._fill(broker, 8, 0)
            wait_for_another_write(broker)  # it says of the last one that it is durable
            if not clean:
                broker.kill9()
        self.files = {}
        for folder, _, names in os.walk(path):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    self.files[os.path.relpath(os.path.join(folder, name), path)] = file.read()
        self.places = {name: self._places(data) for name, data in self.files.items()}

    def _fill(self, broker, rounds, hours_ago):
        self.now_ms = int(time.time() * 1000) - hours_ago * HOUR_MS
        with leader_connection(broker, TOPIC) as connection:
            for i in range(rounds):
                self._produce(connection, 0, 1 + i % 3, 60)
                self._produce(connection, 1, 1, self.random.randrange(1000, 9000))
                if i % 5 == 4:
                    self._produce(connection, 2, 3, 9000)  # a direct run

    def _produce(self, connection, partition, count, size):
        values = [self.random.randbytes(size // 2).hex().encode() for _ in range(count)]
        data = batch(values, now_ms=self.now_ms)
        error, offset = produce(connection, TOPIC, data, partition)
        assert error == 0, error
        self.batches.append((partition, offset, values, data))

    def _places(self, data):
        """[(from, to, batch)]: where slices of the batches lie in a file."""
        found, data = [], data.rstrip(b"\0")
        for number, (_, _, _, raw) in enumerate(self.batches):
            for at in range(21, len(raw) - SLICE, 2 * SLICE):
                place = data.find(raw[at:at + SLICE])
                while place >= 0:
                    found.append((place - 2 * SLICE, place + 3 * SLICE, number))
                    place = data.find(raw[at:at + SLICE], place + 1)
        return found

    def sectors(self):
        """(file, offset) of all that holds anything, and of some that do not."""
        blank = 0
        for name in sorted(self.files):
            data = self.files[name]
            for at in range(0, len(data), SECTOR):
                if not data[at:at + SECTOR].strip(b"\0"):
                    blank += 1
                    if blank % 1000:
                        continue
                yield name, at

    def restore(self, path, name, at, kind):
        """The directory anew at path, with that sector damaged."""
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self.path, path)
        sector = bytearray(self.files[name][at:at + SECTOR])
        for i, byte in enumerate(sector):
            sector[i] = {"flip": byte ^ (1 << self.random.randrange(8)), "zeros": 0,
                         "garbage": self.random.randrange(256)}[kind]
        with open(os.path.join(path, name), "r+b") as file:
            file.seek(at)
            file.write(sector)

    def may_lose(self, name, at):
        return {number for first, last, number in self.places[name]
                if first < at + SECTOR and last > at}


def consumed(broker, path):
    """Of each partition {offset: value} that a consumer gets."""
    kcat_consume(broker, TOPIC, path, None, form="%p %o %s\n", wait_ms=10)
    got = [{} for _ in range(PARTITIONS)]
    with open(path, "rb") as lines:
        for partition, offset, value in (line.split() for line in lines):
            assert got[int(partition)].setdefault(int(offset), value) is value, "an offset came twice"
    return got


def check(directory, broker, name, at, scratch):
    """How many batches were lost; asserts that it is no more than may be, and all by name."""
    with leader_connection(broker, TOPIC) as connection:
        for partition in range(PARTITIONS):
            error, _ = produce(connection, TOPIC, batch([b"after"]), partition)
            assert error == 0, error
    got = consumed(broker, scratch)
    named = [(int(p), int(first), int(last)) for p, first, last in LOST.findall(broker.log())]
    may_lose, lost = directory.may_lose(name, at), 0
    for number, (partition, base, values, _) in enumerate(directory.batches):
        back = [got[partition].pop(base + i, None) for i in range(len(values))]
        if back == values:
            continue
        assert back == [None] * len(values), f"{partition}: wrong records at {base}"
        assert number in may_lose, f"{partition}: {base} is lost without a byte there"
        assert any(p == partition and first <= base and base + len(values) - 1 <= last
                   for p, first, last in named), f"{partition}: {base} is lost and not named"
        lost += 1
    for partition in range(PARTITIONS):
        assert list(got[partition].values()) == [b"after"], got[partition]
    assert lost > 0 or not named, f"nothing is lost, but the log says so: {named}"
    return lost


def sweep(clean, step):
    base, place = temp_dir("damage-base"), temp_dir("damage")
    directory = Directory(os.path.join(base, "data"), clean)
    scratch, data = os.path.join(place, "consumed"), os.path.join(place, "data")
    positions = list(directory.sectors())
    tried = exact = losses = 0
    for turn, (name, at) in enumerate(positions[step // 2::step]):
        kind = KINDS[turn % len(KINDS)]
        directory.restore(data, name, at, kind)
        try:
            with Broker(shards=1, memory="64m", options=OPTIONS, data=[data]) as broker:
                lost = check(directory, broker, name, at, scratch)
        except AssertionError as error:
            raise AssertionError(f"{name} at {at}, {kind}: {error}") from error
        tried, exact, losses = tried + 1, exact + (lost == 0), losses + lost
    print(f"{tried} of {len(positions)} positions: {exact} exact, {losses} batches lost by name")
    assert exact > 0 and losses > 0
    shutil.rmtree(base)
    shutil.rmtree(place)


@params("killed", "stopped")
def test_a_sample_of_sectors(how):
    sweep(how == "stopped", 400)


@slow
@timeout(3600)
@params("killed", "stopped")
def test_every_sector(how):
    sweep(how == "stopped", 1)
