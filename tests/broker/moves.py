"""Partitions move between the nodes of a broker, by hand: what is refused and in which words, what a
move keeps, what it does to those who wait, and kill -9 at any point of it."""
import os
import random
import threading
import time

from lib.broker import Broker
from lib.group_members import wait_for
from lib.kafka_wire import (FETCH, Connection, Reader, array, batch, batch_values, create_topics,
                            delete_topics, fetch, fetch_body, frame, header, i32, i64,
                            leader_connection, list_offset, metadata, produce, string)
from lib.moves import Mover, alter, leaders, move, under_way, wait_until_over
from lib.testcase import sanitized, slow, timeout

NOT_LEADER, OUT_OF_RANGE = 6, 1
DELETE_RECORDS, CREATE_PARTITIONS = 21, 37


def test_refusals():
    with Broker() as broker, Connection(broker) as connection:
        create_topics(connection, ["t"], 2)
        own = leaders(broker, "t")[0]
        broken = ("The manual partition assignment includes broker 7, but no such broker is "
                  "registered.")
        assert alter(connection, [
            ("t", 0, [7]), ("t", 0, [own, 7, 7]), ("t", 0, [own, own]), ("t", 0, []),
            ("t", 0, [0, 1]), ("t", 2, [0]), ("nono", 0, [0]), ("t", -1, None), ("t", 0, None),
            ("t", 0, [own])]) == [
                (39, broken), (39, broken),
                (39, f"The manual partition assignment includes the broker {own} more than once."),
                (39, "The manual partition assignment includes an empty replica list."),
                (39, "A partition has one replica here, the assignment has 2."),
                (3, "Unable to find partition t:2."), (3, "Unable to find a topic named nono."),
                (3, "Unable to find partition t:-1."),
                (85, "No partition reassignment is in progress."), (0, None)]
        assert alter(connection, [("t", 0, [0, 1])], allow_factor=False) == [
            (38, "The replication factor is changed from 1 to 2")]
        assert alter(connection, [("t", 0, [1 - own]), ("t", 1, None)], version=0) == [
            (0, None), (85, "No partition reassignment is in progress.")]
        wait_until_over(connection)
        assert under_way(connection, [("t", [0, 1])]) == {}
        assert leaders(broker, "t")[0] == 1 - own


class Producer:
    """An idempotent one, by hand, that goes on wherever the partition is."""

    def __init__(self, broker, topic, number):
        self.broker, self.topic, self.number = broker, topic, number
        self.sent = 0
        self.connection = None

    def send(self, again=False):
        """One record, until it is taken; its offset. again: the last one once more."""
        at = self.sent - 1 if again else self.sent
        data = batch([b"%d" % at], producer=(self.number, 0, at))
        end = time.monotonic() + 30
        while True:
            if self.connection is None:
                self.connection = leader_connection(self.broker, self.topic)
            got = produce(self.connection, self.topic, data)
            if got is not None and got[0] == 0:
                self.sent = at + 1
                return got[1]
            assert got is None or got[0] == NOT_LEADER, got
            assert time.monotonic() < end, "nobody takes it"
            self.connection.close()
            self.connection = None


def records(broker, topic, start=0):
    with leader_connection(broker, topic) as connection:
        found, at = [], start
        while True:
            error, high, data = fetch(connection, topic, at)
            assert error == 0, error
            found += batch_values(data)
            if at >= high:
                return found
            at = found[-1][0] + 1


def delete_records(connection, topic, offset):
    answer = connection.request(DELETE_RECORDS, 1, array([string(topic) + array([
        i32(0) + i64(offset)])]) + i32(30000))
    answer.i32(), answer.i32(), answer.string(), answer.i32(), answer.i32()
    return answer.i64(), answer.i16()


def fetch_begin(connection, topic, offset):
    """One that waits for a minute."""
    connection.send(frame(header(FETCH, 4) +
                          fetch_body(topic, offset, wait_ms=60_000, min_bytes=1)))


def fetch_error(connection):
    answer = Reader(connection.response()[4:])
    answer.i32(), answer.i32(), answer.string(), answer.i32(), answer.i32()
    return answer.i16()


@sanitized
def test_there_and_back():
    """Records, sequences, the start of the log and who waits; a stop, and kill -9."""
    with Broker() as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["t"], 1)
        producer = Producer(broker, "t", 7)
        for _ in range(100):
            producer.send()
        with leader_connection(broker, "t") as connection:
            assert delete_records(connection, "t", 10) == (10, 0)
        for turn in range(6):
            old = leaders(broker, "t")[0]
            with leader_connection(broker, "t") as waiting, \
                    leader_connection(broker, "t") as former:
                fetch_begin(waiting, "t", producer.sent)
                move(broker, "t", 0, 1 - old)
                assert fetch_error(waiting) == NOT_LEADER
                assert fetch(former, "t", 50)[0] == NOT_LEADER
                assert produce(former, "t", batch([b"x"]))[0] == NOT_LEADER
                assert delete_records(former, "t", 20)[1] == NOT_LEADER
            assert producer.send(again=True) == producer.sent - 1, "not known as a duplicate"
            assert producer.send() == producer.sent - 1
            if turn == 2:
                broker.stop()
                broker.start()
            if turn in (3, 4):
                broker.kill9()
                broker.start()
            with leader_connection(broker, "t") as connection:
                assert list_offset(connection, "t", -2) == (0, 10)
                assert fetch(connection, "t", 9)[0] == OUT_OF_RANGE
            assert records(broker, "t", 10) == [(i, b"%d" % i) for i in range(10, producer.sent)]
        assert not [name for name in os.listdir(broker.data[0]) if name.endswith(".new")]


@slow
@sanitized
@timeout(300)
def test_killed_while_moving():
    """Partitions of some topics move all the time while all are written to; kill -9 at any time."""
    draw = random.Random(11)
    topics = [f"t{i}" for i in range(4)]
    with Broker(options={"log.segment.bytes": "1m", "journal.bytes": "16m"}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, topics, 1)
        producers = [Producer(broker, topic, i) for i, topic in enumerate(topics)]
        for _ in range(12):
            stop = threading.Event()

            def produce_on(producer):
                while not stop.is_set():
                    try:
                        producer.send()
                    except (OSError, AssertionError):
                        producer.connection = None
                        return
            threads = [threading.Thread(target=produce_on, args=[p]) for p in producers]
            mover = Mover(broker, [(topic, 0) for topic in topics])
            for thread in threads:
                thread.start()
            mover.start()
            time.sleep(draw.uniform(0.2, 2))
            broker.kill9()
            stop.set()
            mover.stop()
            for thread in threads:
                thread.join()
            broker.start()
            for producer in producers:
                got = [value for _, value in records(broker, producer.topic)]
                ahead = len(got) - producer.sent  # one may be there, unanswered
                assert ahead in (0, 1), f"{producer.topic}: {len(got)} of {producer.sent}"
                assert got == [b"%d" % i for i in range(len(got))], producer.topic
                producer.connection = None


@slow
def test_meets_other_changes():
    """A topic that is deleted, gets partitions and other configs while its partitions move."""
    with Broker() as broker:
        for turn in range(30):
            topic = f"t{turn}"
            with Connection(broker) as connection:
                create_topics(connection, [topic], 4)
                own = leaders(broker, topic)
                producer = Producer(broker, topic, turn)
                producer.send()
                assert set(alter(connection, [(topic, p, [1 - own[p]]) for p in own])) == {
                    (0, None)}
                if turn % 2:
                    delete_topics(connection, [topic])
                    wait_until_over(connection)
                    assert topic not in metadata(connection)[1]
                    continue
                answer = connection.request(CREATE_PARTITIONS, 0, array([string(topic) + i32(6) + i32(-1)]) +
                                            i32(30000) + b"\0")
                answer.i32(), answer.i32(), answer.string()
                assert answer.i16() == 0
                wait_until_over(connection)
                assert {p: leaders(broker, topic)[p] for p in own} == {
                    p: 1 - own[p] for p in own}
            producer.send()
            assert [value for _, value in records(broker, topic)] == [b"0", b"1"]
        broker.stop()
        broker.start()
        wait_for(lambda: not [name for name in os.listdir(broker.data[0])
                              if name.endswith(".moved")])  # behind the first checkpoint
