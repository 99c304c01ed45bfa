"""A broker under attack: beside whatever a test does to it, another client works as ever.

    with besieged() as broker:
        ...                         anything at the port

At the end of the block the bystander must not have seen one error and have read back exactly what
it wrote; the broker must be alive, within its memory, with as many open files as before. The
bystander is a producer and a consumer of confluent-kafka, each in a thread of the test.
"""
import contextlib
import os
import threading
import time

from lib.kafka_wire import api_ranges
from lib.broker import Broker, is_sanitized
from lib.clients import need_module

MIB = 1 << 20
TOPIC = "bystander"
MEMORY_MIB = 128
RSS_MORE_MIB = 150            # above --memory: code, stacks, rings, and what malloc holds
RSS_MORE_SANITIZED_MIB = 500  # shadow memory, and freed memory in quarantine
PAUSE_S = 0.02
FILES_SPARE = 4              # connections that the bystander's client happens to open or close


class Bystander:
    """Writes records one by one, reads them in another thread, all the time."""

    def __init__(self, broker):
        self.broker, self.sent, self.acknowledged = broker, 0, []
        self.values, self.problems = [], []
        self.stopping, self.end = threading.Event(), None
        self.threads = [threading.Thread(target=self._guard, args=(work,), daemon=True)
                        for work in (self._produce, self._consume)]

    def _guard(self, work):
        try:
            work()
        except Exception as error:  # a thread's own exception would not fail the test
            self.problems.append(f"{work.__name__}: {error!r}")

    def _error(self, error):
        self.problems.append(f"client error: {error}")

    def _delivered(self, error, message):
        if error is not None:
            self.problems.append(f"not delivered: {error}")
        else:
            self.acknowledged.append(message.offset())

    def _produce(self):
        from confluent_kafka import Producer
        producer = Producer({"bootstrap.servers": self.broker.bootstrap, "linger.ms": 1,
                             "enable.idempotence": True, "error_cb": self._error})
        while not self.stopping.is_set():
            producer.produce(TOPIC, b"%d" % self.sent, partition=0, on_delivery=self._delivered)
            self.sent += 1
            producer.poll(PAUSE_S)
        left = producer.flush(60)
        if left:
            self.problems.append(f"{left} records not acknowledged 60 s after the last one")
        self.end = self.sent

    def _consume(self):
        from confluent_kafka import Consumer, TopicPartition
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "unused",
                             "enable.auto.commit": False, "auto.offset.reset": "error",
                             "check.crcs": True, "error_cb": self._error})
        consumer.assign([TopicPartition(TOPIC, 0, 0)])
        deadline = None
        while self.end is None or len(self.values) < self.end:
            for message in consumer.consume(1000, 0.1):
                assert message.error() is None, message.error()
                assert message.offset() == len(self.values), (message.offset(), len(self.values))
                self.values.append(message.value())
            if self.end is not None:
                deadline = deadline or time.monotonic() + 60
                assert time.monotonic() < deadline, f"{len(self.values)} of {self.end} read"
        consumer.close()

    def start(self):
        from confluent_kafka.admin import AdminClient, NewTopic
        admin = AdminClient({"bootstrap.servers": self.broker.bootstrap})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(60)
        for thread in self.threads:
            thread.start()
        self.wait_for_progress()

    def wait_for_progress(self, records=3):
        """So many more of its records go in and come out."""
        wanted = len(self.values) + records
        end = time.monotonic() + 60
        while len(self.values) < wanted and not self.problems:
            assert time.monotonic() < end, f"no {records} records in 60 s\n{self.broker.log_tail()}"
            time.sleep(0.01)
        assert not self.problems, self.problems[:5]

    def finish(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(90)
            assert not thread.is_alive(), "the bystander does not come to an end"
        assert not self.problems, self.problems[:5]
        assert self.acknowledged == list(range(self.sent)), "offsets have gaps"
        assert self.values == [b"%d" % number for number in range(self.sent)]


def open_files(broker):
    """How many, but for segments: those come with the data."""
    folder, count = f"/proc/{broker.pid}/fd", 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            count += not os.readlink(os.path.join(folder, name)).endswith(".log")
    return count


def wait_for_files(broker, wanted, timeout_s=20):
    end = time.monotonic() + timeout_s
    while open_files(broker) > wanted:
        assert time.monotonic() < end, \
            f"{open_files(broker)} open files {timeout_s} s after the attack, {wanted} expected"
        time.sleep(0.05)


def check_memory(broker, when):
    bound = MEMORY_MIB + (RSS_MORE_SANITIZED_MIB if is_sanitized() else RSS_MORE_MIB)
    rss = broker.rss() // MIB
    assert rss <= bound, f"{rss} MiB resident {when}, at most {bound} expected"
    return rss


@contextlib.contextmanager
def besieged(advertise="shard", **options):
    need_module("confluent_kafka")
    options = {"journal.bytes": "32m", **options}
    with Broker(advertise=advertise, memory=f"{MEMORY_MIB}m", options=options) as broker:
        broker.bystander = Bystander(broker)
        broker.bystander.start()
        before = open_files(broker)
        yield broker
        check_memory(broker, "under attack")
        broker.bystander.wait_for_progress()
        wait_for_files(broker, before + FILES_SPARE)
        broker.bystander.finish()
        assert broker.is_running() and 18 in api_ranges(broker)
        rss = check_memory(broker, "afterwards")
        print(f"RSS {rss} MiB, the bystander wrote and read {broker.bystander.sent} records")
