"""Kafka Connect, standalone: its file source into a topic, its file sink out of it again, byte for byte, while
the worker and the broker end and come back in the middle."""
import os
import random
import signal

from lib.broker import Broker
from lib.clients import Child, jars_of, java_command
from lib.group_members import wait_for
from lib.kafka_wire import Connection, create_topics
from lib.testcase import params, slow, timeout

WORKER = "org.apache.kafka.connect.cli.ConnectStandalone"
OPTIONS = {"group.initial.rebalance.delay.ms": 300}
CONVERTERS = {"text": "org.apache.kafka.connect.storage.StringConverter",
              "json": "org.apache.kafka.connect.json.JsonConverter"}
ASCII = "abc 123\t\"\\{}<>%'"
# After the last restart only: the source notes its place in characters, and goes back to it in bytes.
UNICODE = ASCII + "äß€語слово🙂\u2028"


class Source:
    """The file that is read: it grows. Lines are empty, or begin with their number."""

    def __init__(self, path):
        self.path, self.random, self.lines = path, random.Random(11), []
        with open(path, "wb"):
            pass

    def _line(self, alphabet):
        number = len(self.lines) + 1
        if number % 7 == 0:
            return b""
        size = 100_000 if number % 500 == 0 else self.random.randrange(200)
        return f"{number} {''.join(self.random.choices(alphabet, k=size))}".encode()

    def add(self, count, alphabet=ASCII):
        before = len(self.lines)
        for _ in range(count):
            self.lines.append(self._line(alphabet))
        with open(self.path, "ab") as out:
            out.write(b"".join(line + b"\n" for line in self.lines[before:]))

    def bytes(self):
        with open(self.path, "rb") as data:
            return data.read()


class Worker:
    """One that reads the source and writes the file `back`, again and again."""

    def __init__(self, broker, converter, source):
        self.broker, self.source, self.children = broker, source, []
        self.back = os.path.join(broker.dir, "back")
        self.files = [self._write("worker", {
            "bootstrap.servers": broker.bootstrap, "listeners": "http://127.0.0.1:0",
            "key.converter": CONVERTERS[converter], "value.converter": CONVERTERS[converter],
            "plugin.path": jars_of("streams", "connect-file"), "plugin.discovery": "service_load",
            "offset.storage.file.filename": os.path.join(broker.dir, "offsets"),
            "offset.flush.interval.ms": 500, "consumer.session.timeout.ms": 6000,
            "consumer.heartbeat.interval.ms": 300,
        }), self._write("source", {
            "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
            "name": "source", "topic": "lines", "file": source.path,
            "batch.size": 1_000_000,  # what is left of a batch it forgets until the file grows
        }), self._write("sink", {
            "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
            "name": "sink", "topics": "lines", "file": self.back,
        })]

    def _write(self, name, settings):
        path = os.path.join(self.broker.dir, name + ".properties")
        with open(path, "w") as out:
            out.writelines(f"{key}={value}\n" for key, value in settings.items())
        return path

    def start(self):
        path = os.path.join(self.broker.dir, f"worker-{len(self.children)}.out")
        self.children.append(Child(java_command(WORKER, *self.files), path))

    def stop(self):
        process = self.children[-1].process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM, self.children[-1].output()[-3000:]

    def kill(self):
        process = self.children[-1].process
        assert process.poll() is None, self.children[-1].output()[-3000:]
        process.kill()
        process.wait()

    def size(self):
        return os.path.getsize(self.back) if os.path.exists(self.back) else 0

    def wait_for(self, is_so):
        def looked():
            if self.children[-1].process.poll() is not None:
                self.children[-1].fail("ended by itself")
            return is_so()
        wait_for(looked, 120)

    def get_to_work(self):
        """Until some of what is new has come out, and more is to come."""
        count = 2000
        while True:
            before = self.size()
            self.source.add(count)
            self.wait_for(lambda: self.size() > before)
            if self.size() < os.path.getsize(self.source.path):
                return
            count *= 2

    def finish(self):
        self.source.add(1500, UNICODE)
        self.source.add(1)
        last = self.source.lines[-1] + b"\n"

        def is_last_there():
            with open(self.back, "rb") as data:
                data.seek(-min(len(last), self.size()), os.SEEK_END)
                return data.read() == last
        self.wait_for(is_last_there)
        self.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.close()


def make(converter):
    broker = Broker(options=OPTIONS)
    source = Source(os.path.join(broker.dir, "source"))
    return broker, source, Worker(broker, converter, source)


def begin(broker, worker):
    with Connection(broker) as connection:
        create_topics(connection, ["lines"], 1)
    worker.start()


@slow
@timeout(600)
@params("text", "json")
def test_worker_is_restarted(converter):
    """Told to end, it notes where it was: each line comes once."""
    broker, source, worker = make(converter)
    with broker, worker:
        begin(broker, worker)
        for _ in range(2):
            worker.get_to_work()
            worker.stop()
            broker.restart()
            worker.start()
        worker.finish()
        with open(worker.back, "rb") as back:
            assert back.read() == source.bytes()


class Repeated:
    """Lines of the source from its beginning to its end, some of them again, none left out."""

    def __init__(self, lines):
        self.lines, self.reached, self.again = lines, 0, 0

    def _index(self, pieces, i, before):
        """Which line the piece i is; of an empty one its neighbours tell."""
        if pieces[i]:
            return int(pieces[i].split(b" ", 1)[0]) - 1
        after = pieces[i + 1] if i + 1 < len(pieces) else b""
        if after and self.lines[int(after.split(b" ", 1)[0]) - 2] == b"":
            return int(after.split(b" ", 1)[0]) - 2
        return before + 1

    def take(self, data, is_cut):
        """What one worker wrote; is_cut: it was killed, perhaps in the middle of a line."""
        *pieces, rest = data.split(b"\n")
        before = -1
        for i in range(len(pieces)):
            index = self._index(pieces, i, before)
            assert index <= self.reached, f"{pieces[i][:50]} follows line {self.reached}"
            assert pieces[i] == self.lines[index], (index, pieces[i][:100], self.lines[index][:100])
            self.again += index < self.reached
            self.reached = max(self.reached, index + 1)
            before = index
        assert is_cut or rest == b"", rest
        assert any(line.startswith(rest) for line in self.lines[:self.reached + 1]), rest


@slow
@timeout(600)
def test_worker_and_broker_are_killed():
    """kill -9: lines may come again, none is left out, none is changed."""
    broker, source, worker = make("text")
    with broker, worker:
        begin(broker, worker)
        ends = []
        for _ in range(2):
            worker.get_to_work()
            worker.kill()
            ends.append(worker.size())
            worker.start()
            worker.get_to_work()
            broker.restart(kill=True)
            worker.get_to_work()
        worker.finish()
        repeated = Repeated(source.lines)
        with open(worker.back, "rb") as back:
            for begin_at, end in zip([0] + ends, ends):
                repeated.take(back.read(end - begin_at), is_cut=True)
            repeated.take(back.read(), is_cut=False)
        assert repeated.reached == len(source.lines)
        print(f"{repeated.again} of {len(source.lines)} lines again")
