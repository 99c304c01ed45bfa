"""Kafka Streams, at least once: a word count with a store on disk, one in memory, their changelogs and a
repartition topic, while instances and the broker are killed. streams/WordCount.java says what it keeps of a
word: the set of its lines, which must be exactly right whatever was done twice, and how often it was counted,
which is exactly right when nothing was killed and may be too high else, never too low."""
import os
import random
import shutil
import signal
import time
from collections import Counter

from lib import transcript
from lib.broker import Broker
from lib.clients import Child, kcat_consume, streams_command
from lib.group_members import committed, wait_for
from lib.kafka_wire import (Connection, batch, create_topics, leader_connection, list_offset,
                            produce)
from lib.testcase import slow, timeout

PARTITIONS = 4
APP = "count"
INPUT, REPARTITION = "lines", APP + "-words-repartition"
CHANGELOGS = [APP + "-words-changelog", APP + "-hours-changelog"]
OPTIONS = {"group.initial.rebalance.delay.ms": 300, "group.min.session.timeout.ms": 1000}
HOUR_MS = 3_600_000
# Of late, that they are kept.
FIRST_MS = (int(time.time() * 1000) // HOUR_MS - 24) * HOUR_MS
WORDS = [f"word{i}" for i in range(150)] + ["Größe", "слово", "語"]


def hour_of(line):
    """Some lines of each chunk are of an earlier hour than those before them."""
    return (line // 400) + (line % 7 == 0) * 2


class Text:
    """Numbered lines in the input topic, and the right tallies of all of them."""

    def __init__(self, broker):
        self.broker, self.random, self.lines = broker, random.Random(7), 0
        self.ends = dict.fromkeys(range(PARTITIONS), 0)
        self.occurrences, self.sets = Counter(), Counter()
        with Connection(broker) as connection:
            create_topics(connection, [INPUT, "tallies", "hourly"], PARTITIONS)

    def _send(self, partition, stamp, lines):
        def is_taken():
            with leader_connection(self.broker, INPUT, partition) as connection:
                return produce(connection, INPUT, batch(lines, now_ms=stamp), partition)[0] == 0
        wait_for(is_taken)  # Kafka needs a moment to lead a new one, and after a start
        self.ends[partition] += len(lines)

    def _line(self):
        number, hour = self.lines, hour_of(self.lines)
        words = self.random.choices(WORDS, k=self.random.randrange(1, 12))
        for word in words:
            for key in (word, f"{word}@{FIRST_MS // HOUR_MS + hour}"):
                self.occurrences[key] += 1
                self.sets[key] |= 1 << number
        self.lines += 1
        return hour, f"{number} {' '.join(words)}".encode()

    def add(self, count):
        for partition in range(PARTITIONS):
            by_hour = {}
            for _ in range(count // PARTITIONS):
                hour, line = self._line()
                by_hour.setdefault(hour, []).append(line)
            for hour, lines in by_hour.items():
                self._send(partition, FIRST_MS + hour * HOUR_MS, lines)

    def read(self):
        """How many lines the application has committed."""
        there = committed(self.broker, APP, INPUT, self.ends) or {}
        return sum(max(offset, 0) for offset in there.values())

    def wait_read(self, ahead=0):
        """Until all but so many are."""
        total = sum(self.ends.values())
        wait_for(lambda: self.read() >= total - ahead, 200)

    def feed(self, count):
        """Never far ahead of the application, so that whatever comes then meets it at work."""
        for _ in range(0, count, 200):
            self.add(200)
            self.wait_read(ahead=600)

    def wait_settled(self):
        """All that was read has gone through the repartition topic too; what is committed is flushed."""
        self.wait_read()
        ends = {p: offset_of(self.broker, REPARTITION, p, -1) for p in range(PARTITIONS)}
        wait_for(lambda: committed(self.broker, APP, REPARTITION, ends) == ends, 200)

    def check(self, tallies, is_exact):
        """tallies: {key: "OCCURRENCES SET"}, of words and of words by hour."""
        assert set(tallies) == set(self.occurrences), set(tallies) ^ set(self.occurrences)
        for key, tally in tallies.items():
            occurrences, lines = tally.split()
            assert int(lines, 16) == self.sets[key], f"{key}: other lines than those it is in"
            most = self.occurrences[key] if is_exact else float("inf")
            assert self.occurrences[key] <= int(occurrences) <= most, (key, occurrences)
        counted = sum(int(tally.split()[0]) for tally in tallies.values())
        print(f"counted {counted} of {sum(self.occurrences.values())} in {self.lines} lines")


class Application:
    """Instances of it, each with a state directory of its own."""

    def __init__(self, broker):
        self.broker, self.children = broker, []

    def directory(self, name):
        return os.path.join(self.broker.dir, f"state-{name}")

    def start(self, name, *arguments):
        command = streams_command("WordCount", self.broker.bootstrap, APP, self.directory(name),
                                  *arguments)
        path = os.path.join(self.broker.dir, f"{name}-{len(self.children)}.out")
        self.children.append(Child(command, path))
        return self.children[-1]

    def stop(self, child):
        child.process.send_signal(signal.SIGTERM)
        return child.wait(60)

    def kill(self, child):
        if child.process.poll() is not None:
            child.fail("ended by itself")
        child.process.kill()
        child.process.wait()

    def wipe(self, name):
        shutil.rmtree(self.directory(name))

    def stores(self):
        """What a new instance finds in its stores, which it fills from the changelogs."""
        child = self.start("dump", "dump")
        wait_for(lambda: "state RUNNING" in child.output() or child.process.poll() is not None, 200)
        found = [line.split(" ", 2) for line in child.wait(60)]
        return {key: tally for what, key, tally in
                (words for words in found if words[0] in ("word", "hour"))}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.close()


def offset_of(broker, topic, partition, timestamp):
    with leader_connection(broker, topic, partition) as connection:
        error, offset = list_offset(connection, topic, timestamp, partition)
    assert error == 0, f"{topic}-{partition}: {error}"
    return offset


def last_values(broker, topic):
    """{key: the last value} of a topic of text."""
    found = {}
    for partition in range(PARTITIONS):
        path = os.path.join(broker.dir, "last")
        kcat_consume(broker, topic, path, partition, form="%k %s\n")
        with open(path) as lines:
            found.update(line.rstrip("\n").split(" ", 1) for line in lines)
    return found


def check_configs(broker):
    """What Streams asks for when it creates its topics is what they say."""
    keys = ["cleanup.policy", "segment.bytes", "retention.ms", "retention.bytes",
            "message.timestamp.type"]
    answers = transcript.run(broker, [["describe", "TOPIC", topic, *keys]
                                      for topic in [REPARTITION, *CHANGELOGS]])
    sources = [dict(line.split(" ")[0].split("=") for line in lines if "DYNAMIC_TOPIC" in line)
               for lines in answers]
    created = {"message.timestamp.type": "CreateTime"}
    assert sources == [
        {"cleanup.policy": "delete", "segment.bytes": "52428800", "retention.ms": "-1", **created},
        {"cleanup.policy": "compact", **created},
        {"cleanup.policy": "compact,delete", "retention.ms": str(49 * HOUR_MS), **created},
    ], sources


def check_purged(broker):
    """What has been read of the repartition topic is deleted (DeleteRecords)."""
    def starts():
        return [offset_of(broker, REPARTITION, p, -2) for p in range(PARTITIONS)]
    wait_for(lambda: all(starts()), 30)


def check_end(text, application, is_exact):
    """Stores filled anew, changelogs and what was put out agree, and are right."""
    broker = text.broker
    stores = application.stores()
    text.check(stores, is_exact)
    tallies, hourly = last_values(broker, "tallies"), last_values(broker, "hourly")
    assert {**tallies, **hourly} == stores, "what was put out is not what is in the stores"
    assert last_values(broker, CHANGELOGS[0]) == tallies, "the changelog is not the store"


@slow
@timeout(600)
def test_word_count():
    """Nothing is killed: each count is exact. Internal topics are as asked for, and are purged."""
    with Broker(options=OPTIONS) as broker, Application(broker) as application:
        text = Text(broker)
        one = application.start("one")
        text.feed(2000)
        text.wait_settled()
        check_configs(broker)
        check_purged(broker)
        application.stop(one)
        check_end(text, application, is_exact=True)


@slow
@timeout(900)
def test_word_count_survives_kills():
    """Instances are killed, come back to what they had on disk or to nothing, and take over from each
    other; the broker is killed, alone and with one of them: no line is lost from any word."""
    with Broker(options=OPTIONS) as broker, Application(broker) as application:
        text = Text(broker)
        one = application.start("one")
        text.feed(1000)
        text.add(200)
        application.kill(one)
        one = application.start("one")
        text.feed(1000)
        text.add(200)
        broker.restart(kill=True)
        text.feed(1000)
        two = application.start("two")
        text.feed(1000)
        text.add(200)
        application.kill(one)  # two takes over, from the changelogs
        broker.restart(kill=True)
        text.feed(1000)
        application.wipe("one")
        one = application.start("one")
        text.feed(1000)
        text.add(200)
        application.kill(two)
        text.feed(1000)
        text.wait_settled()
        check_configs(broker)
        check_purged(broker)
        application.stop(one)
        broker.restart(kill=True)
        check_end(text, application, is_exact=False)
