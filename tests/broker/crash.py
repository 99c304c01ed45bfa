"""kill -9 while records are acknowledged: every acknowledged record is there once, in order, and so
is every record that a consumer has seen. Only the process is killed: see tests/README.md."""
import itertools
import os
import random
import re
import shutil
import subprocess
import threading
import time

from lib.broker import Broker, temp_dir
from lib.clients import need_module
from lib.kafka_wire import (Connection, batch, batch_values, create_topics, delete_topics, fetch,
                            leader_connection, metadata, produce)
from lib.testcase import Skip, sanitized, slow, timeout

TOPIC = "crash"
PARTITIONS = 3
MIB = 1 << 20
OPTIONS = {"journal.bytes": "32m", "num.partitions": PARTITIONS}


class Client:
    """A producer with acks=all and a consumer, each in a thread, that write down what they hear.

    Record n goes to partition n % PARTITIONS with the value "n padding". `acknowledged` is
    {n: offset}, `seen` is {(partition, offset): value}. consume_from: {partition: offset}, or None
    for no consumer."""

    def __init__(self, broker, first, size=200, consume_from=None, **settings):
        need_module("confluent_kafka")
        self.broker, self.first, self.size = broker, first, size
        self.settings = {"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 2,
                         "log_level": 0, "queue.buffering.max.messages": 20_000, **settings}
        self.next, self.acknowledged, self.failed, self.seen = first, {}, 0, {}
        self.stopping, self.consume_from = threading.Event(), consume_from
        self.problems = []
        works = (self._produce, self._consume) if consume_from else (self._produce,)
        self.threads = [threading.Thread(target=self._guard, args=(work,), daemon=True)
                        for work in works]

    def _guard(self, work):
        try:
            work()
        except Exception as error:  # a thread's own exception would not fail the test
            self.problems.append(f"{work.__name__}: {error!r}")

    def value(self, number):
        return (b"%d " % number).ljust(self.size, b"x")

    def _report_for(self, number):
        def report(error, message):
            if error is not None:
                self.failed += 1
            elif number in self.acknowledged:
                self.problems.append(f"record {number} acknowledged twice")
            else:
                self.acknowledged[number] = message.offset()
        return report

    def _produce(self):
        from confluent_kafka import Producer
        self.producer = Producer(self.settings)
        while not self.stopping.is_set():
            try:
                self.producer.produce(TOPIC, self.value(self.next),
                                      partition=self.next % PARTITIONS,
                                      on_delivery=self._report_for(self.next))
                self.next += 1
                self.producer.poll(0)
            except BufferError:
                self.producer.poll(0.05)

    def _consume(self):
        from confluent_kafka import Consumer, TopicPartition
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "unused",
                             "enable.auto.commit": False, "log_level": 0})
        consumer.assign([TopicPartition(TOPIC, *place) for place in self.consume_from.items()])
        while not self.stopping.is_set():
            for message in consumer.consume(1000, 0.05):
                if message.error() is None:
                    self.seen[message.partition(), message.offset()] = message.value()
        consumer.close()

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def wait_for(self, records, timeout_s=60):
        """So many more acknowledgements."""
        wanted, end = len(self.acknowledged) + records, time.monotonic() + timeout_s
        while len(self.acknowledged) < wanted or (self.consume_from and not self.seen):
            assert not self.problems, self.problems[:5]
            assert time.monotonic() < end, \
                f"{len(self.acknowledged)} of {wanted} acknowledged after {timeout_s} s\n" \
                f"{self.broker.log_tail()}"
            time.sleep(0.002)

    def drop(self):
        """What is not acknowledged by now is never sent again."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), "a client thread does not end"
        self.producer.purge()
        self.producer.poll(0)
        self.producer.flush(30)
        assert not self.problems, self.problems[:5]

    def finish(self):
        """All that was produced gets its acknowledgement."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        left = self.producer.flush(120)
        assert left == 0 and self.failed == 0, f"{left} left, {self.failed} failed"
        assert not self.problems, self.problems[:5]


def create(broker):
    from confluent_kafka.admin import AdminClient, NewTopic
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(60)


def read_partition(consumer, partition):
    from confluent_kafka import TopicPartition
    place = TopicPartition(TOPIC, partition, 0)
    low, high = consumer.get_watermark_offsets(place, timeout=30)
    assert low == 0, f"partition {partition} starts at {low}"
    consumer.assign([place])
    values, end = [], time.monotonic() + 60
    while len(values) < high:
        assert time.monotonic() < end, f"{len(values)} of {high} read from partition {partition}"
        for message in consumer.consume(10_000, 0.2):
            assert message.error() is None, message.error()
            assert message.offset() == len(values), (message.offset(), len(values))
            values.append(message.value())
    assert len(values) == high, f"{len(values)} records below the high watermark {high}"
    return values


def read_all(broker):
    """{partition: values by offset}, without a gap."""
    from confluent_kafka import Consumer
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "unused",
                         "enable.auto.commit": False, "auto.offset.reset": "error",
                         "check.crcs": True})
    try:
        return {partition: read_partition(consumer, partition) for partition in range(PARTITIONS)}
    finally:
        consumer.close()


def check(values, client, before=None):
    """values: what is there now; before: what was there before this client began."""
    before = before or {partition: [] for partition in range(PARTITIONS)}
    for partition, old in before.items():
        assert values[partition][:len(old)] == old, f"partition {partition}: older records changed"
    for number, offset in client.acknowledged.items():
        here = values[number % PARTITIONS]
        assert offset < len(here), f"record {number}: acknowledged offset {offset} is lost"
        assert here[offset] == client.value(number), f"record {number} is not at {offset}"
    for (partition, offset), value in client.seen.items():
        assert values[partition][offset:offset + 1] == [value], \
            f"partition {partition}: what a consumer saw at {offset} is gone"
    for partition, here in values.items():
        numbers = [int(value.split(b" ", 1)[0]) for value in here[len(before[partition]):]]
        assert all(a < b for a, b in zip(numbers, numbers[1:])), \
            f"partition {partition}: a record twice, or out of order"
        assert all(client.first <= n < client.next and n % PARTITIONS == partition
                   for n in numbers), f"partition {partition}: a record that nobody sent there"


def kill_again_and_again(turns, seed):
    """Without retries, so that what is there twice was not sent twice."""
    rng = random.Random(seed)
    print(f"seed {seed}")
    options = {**OPTIONS, "journal.bytes": "16m", "log.segment.bytes": "1m"}
    with Broker(memory="256m", options=options) as broker:
        create(broker)
        values, first, acknowledged, seen, slowest = read_all(broker), 0, 0, 0, 0.0
        for _ in range(turns):
            ends = {partition: len(here) for partition, here in values.items()}
            client = Client(broker, first, rng.choice((20, 200, 3000)), ends, retries=0,
                            **{"linger.ms": rng.choice((0, 5)),
                               "compression.type": rng.choice(("none", "lz4"))}).start()
            client.wait_for(rng.choice((1, 50, 2000)))
            time.sleep(rng.random() / 10)
            broker.kill9()
            if rng.random() < 0.5:  # at once, with the clients at the door
                broker.start()
                client.drop()
            else:
                client.drop()
                broker.start()
            slowest = max(slowest, broker.ready_s)
            before, values = values, read_all(broker)
            check(values, client, before)
            first, acknowledged = client.next, acknowledged + len(client.acknowledged)
            seen += len(client.seen)
        assert acknowledged > turns and seen > 0, (acknowledged, seen)
        broker.restart()
        assert read_all(broker) == values, "a clean restart changed it"
        print(f"{turns} kills, {acknowledged} records acknowledged, {seen} seen; "
              f"slowest start {slowest:.2f} s")


@timeout(180)
def test_kill_ten_times():
    kill_again_and_again(10, 1)


@sanitized
@timeout(180)
def test_kill_three_times():
    kill_again_and_again(3, 2)


@slow
@timeout(3600)
def test_kill_two_hundred_times():
    kill_again_and_again(200, int(time.time()))


@sanitized
@timeout(180)
def test_idempotent_producer_over_kills():
    """One idempotent producer goes on through four kills: every record once, nothing missing."""
    with Broker(memory="256m", options=OPTIONS) as broker:
        create(broker)
        client = Client(broker, 0, **{"enable.idempotence": True}).start()
        for _ in range(4):
            client.wait_for(3000)
            broker.restart(kill=True)
        client.wait_for(1000)
        client.finish()
        values = read_all(broker)
        check(values, client)
        for partition, here in values.items():
            assert here == [client.value(n) for n in range(partition, client.next, PARTITIONS)]
        broker.restart()
        assert read_all(broker) == values


@timeout(180)
def test_killed_after_the_journal_went_round():
    """Five times the journals' size has gone through them: what was freed is in segments."""
    with Broker(memory="128m", options={**OPTIONS, "journal.bytes": "16m"}) as broker:
        create(broker)
        client = Client(broker, 0, 4000, retries=0, **{"batch.size": 200_000}).start()
        client.wait_for(40_000)
        broker.kill9()
        client.drop()
        broker.start()
        values = read_all(broker)
        check(values, client)
        broker.restart()
        assert read_all(broker) == values


def change_topics(broker, rng, topics):
    """Make topics, with one record in each, and delete them. topics[name] is that record once it is
    acknowledged, False when the topic is gone, None while something was asked for."""
    with Connection(broker) as connection:
        for number in itertools.count():
            name = f"topic-{rng.randrange(40)}"
            there, topics[name] = topics.get(name, False), None
            if there:
                delete_topics(connection, [name])
                topics[name] = False
                continue
            create_topics(connection, [name])
            value = b"%s %d" % (name.encode(), number)
            with leader_connection(broker, name) as leader:
                answer = produce(leader, name, batch([value]))
            if answer is None:  # killed
                return
            assert answer == (0, 0), f"{name}: error and offset {answer} of the first record"
            topics[name] = value


@timeout(180)
def test_topics_over_kills():
    """What was answered about topics holds after kill -9; a topic made again starts empty."""
    rng, topics, problems = random.Random(3), {}, []
    with Broker(options={**OPTIONS, "log.segment.delete.delay.ms": 100}) as broker:
        for _ in range(8):
            thread = threading.Thread(target=change_until_killed,
                                      args=(broker, rng, topics, problems))
            thread.start()
            time.sleep(0.05 + rng.random() / 5)
            broker.kill9()
            thread.join(60)
            assert not problems and not thread.is_alive(), problems
            broker.start()
            check_topics(broker, topics)
        assert len(topics) > 20, "hardly a topic was made"


def change_until_killed(broker, rng, topics, problems):
    try:
        change_topics(broker, rng, topics)
    except (OSError, AttributeError, TypeError):  # no answer: the broker is gone
        pass
    except AssertionError as error:
        problems.append(error)


def check_topics(broker, topics):
    with Connection(broker) as connection:
        found = set(metadata(connection)[1])
    assert found <= set(topics), found - set(topics)
    for name, value in topics.items():
        if value is None:  # either is right, but a later round has to know
            topics[name] = name in found
            continue
        assert bool(value) == (name in found), f"{name}: {value}, listed: {name in found}"
        if value and value is not True:
            with leader_connection(broker, name) as connection:
                values = batch_values(fetch(connection, name, 0)[2])
            assert values == [(0, value)], f"{name}: {values}, not {value}"


def start_and_kill(broker, delay_ms):
    with open(broker.log_path, "ab") as log:
        process = subprocess.Popen(broker.command(), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=log)
        time.sleep(delay_ms / 1000)
        assert process.poll() is None, f"it ended by itself\n{broker.log_tail()}"
        process.kill()
        process.wait()


@sanitized
@timeout(180)
def test_killed_while_starting():
    """Killed again in the middle of recovery, a few times, each a little later."""
    with Broker(memory="256m", options=OPTIONS) as broker:
        create(broker)
        client = Client(broker, 0, 2000, retries=0).start()
        client.wait_for(5000)
        broker.kill9()
        client.drop()
        for delay_ms in (1, 5, 10, 20, 40, 60, 80, 120, 200):
            start_and_kill(broker, delay_ms)
        broker.start()
        check(read_all(broker), client)


@timeout(180)
def test_more_and_fewer_shards():
    """Every start has another number of shards; half of them are after a kill."""
    with Broker(memory="384m", shards=3, options=OPTIONS) as broker:
        create(broker)
        client = Client(broker, 0, retries=0).start()
        client.wait_for(3000)
        broker.kill9()
        client.drop()
        values = None
        for shards, kill in ((1, True), (2, False), (3, True), (1, False), (3, False), (2, True)):
            broker.shards = shards
            broker.start()
            before, values = values, read_all(broker)
            check(values, client, before)
            client = Client(broker, client.next, retries=0).start()
            client.wait_for(500)
            if kill:
                broker.kill9()
                client.drop()
            else:
                client.drop()
                broker.stop()
        broker.start()
        check(read_all(broker), client, values)


# -- on a slow device

class SlowDevice:
    """A control group whose members write to the disk of a directory only so fast."""

    def __init__(self, directory, bytes_per_s):
        device = os.stat(directory).st_dev
        disk = f"{os.major(device)}:{os.minor(device)}"
        if not os.path.isdir(f"/sys/dev/block/{disk}"):
            raise Skip(f"{directory} is on no block device of its own: nothing to throttle")
        if os.path.exists(f"/sys/dev/block/{disk}/partition"):
            raise Skip(f"{directory} is on a partition, and only whole disks can be throttled")
        v1 = os.path.isdir("/sys/fs/cgroup/blkio")
        self.path = f"/sys/fs/cgroup{'/blkio' if v1 else ''}/penstock-crash-{os.getpid()}"
        try:
            if not v1:
                self._write("/sys/fs/cgroup/cgroup.subtree_control", "+io")
            os.mkdir(self.path)
        except OSError as error:
            raise Skip(f"no control group for block I/O can be made: {error}") from None
        try:
            if v1:
                self._write(f"{self.path}/blkio.throttle.write_bps_device", f"{disk} {bytes_per_s}")
            else:
                self._write(f"{self.path}/io.max", f"{disk} wbps={bytes_per_s}")
        except OSError as error:
            os.rmdir(self.path)
            raise Skip(f"block I/O cannot be throttled here: {error}") from None

    @staticmethod
    def _write(path, text):
        with open(path, "w") as out:
            out.write(text)

    def add(self, pid):
        self._write(f"{self.path}/cgroup.procs", str(pid))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(300):
            try:
                os.rmdir(self.path)
                return
            except OSError:  # a killed member's writes are still going on
                time.sleep(0.1)


def wait_for_stall(client, quiet_s=0.4, timeout_s=60):
    """Until nothing is acknowledged any more: the queue to the device is full."""
    end, last, at = time.monotonic() + timeout_s, len(client.acknowledged), time.monotonic()
    while time.monotonic() - at < quiet_s:
        assert time.monotonic() < end, "the device does not get slow"
        time.sleep(0.01)
        if len(client.acknowledged) != last:
            last, at = len(client.acknowledged), time.monotonic()


@timeout(240)
def test_killed_with_writes_in_flight_on_a_slow_device():
    """The killed process's writes land seconds after its death: the next one waits for them. How
    much is in flight is chance, and a short wait is not logged: so there are a few rounds."""
    directory = temp_dir("slow")
    with SlowDevice(directory, MIB) as device, \
            Broker(memory="256m", options=OPTIONS, data=[directory]) as broker:
        create(broker)
        values, first = None, 0
        for turn in range(6):
            client = Client(broker, first, 10_000, retries=0).start()
            client.wait_for(300)
            device.add(broker.pid)
            wait_for_stall(client)
            broker.kill9()
            broker.start(timeout_s=100)
            client.drop()
            before, values = values, read_all(broker)
            check(values, client, before)
            first = client.next
            said = re.search(r"waiting for the lock of \S+: .*", broker.log())
            print(f"{len(client.acknowledged)} acknowledged, ready {broker.ready_s:.1f} s after "
                  f"the kill: {said and said[0]}")
            if said:
                break
        assert said, f"after {turn + 1} rounds the log does not mention the lock"
        assert broker.ready_s > 1, "logged, but not waited"
        time.sleep(2)  # nothing of the old process may come later
        broker.restart(kill=True)
        assert read_all(broker) == values
    shutil.rmtree(directory)
