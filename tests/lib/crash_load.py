"""The clients of a crash test (tests/crash/load.c) and the check of what they were told (check.c).

    with Load(broker) as load:
        load.wait(1000)              so many more records are acknowledged
        load.kill(broker.kill9)
        broker.start()
        load.check()                 nothing lost, nothing twice, nothing changed
        load.stop()

The producers and the consumer go on over kills. Failure: what they or the check find raises
CrashFound with their own words.
"""
import os
import subprocess
import time

from lib.broker import BUILD
from lib.kafka_wire import Connection, create_topics

TOPIC = "crash"
PARTITIONS = 4
FLUSH_MS = 120_000  # acks=1: stable within this; a shared disk was seen to answer nothing for 30 s


class CrashFound(AssertionError):
    pass


def program(name):
    path = os.path.join(BUILD, "tests", "crash-" + name)
    assert os.path.exists(path), f"{path} is not built: make test-programs"
    return path


class Load:
    def __init__(self, broker):
        self.broker, self.killed_at_ms = broker, []
        self.leaders_moved = False  # to be set when the broker gets another number of shards
        self.acknowledged = self.acknowledged_bytes = self.seen = 0
        self.checked_records = self.required = self.required_of_memory = 0
        self.events = os.path.join(broker.dir, "events")
        self.view = os.path.join(broker.dir, "view")
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], PARTITIONS, [("flush.ms", str(FLUSH_MS))])
        # librdkafka's idempotent producers poll without a pause while five records or more of a
        # partition are not acknowledged (2.0.2, rd_kafka_toppar_producer_serve: the wake-up is set
        # before the limit is looked at). On two CPUs, with a scheduler that is not always fair
        # (Linux 6.18 with autogroups), that kept the broker from running for half a minute.
        self.process = subprocess.Popen(
            ["nice", "-n", "19", program("load"), broker.bootstrap, TOPIC, str(PARTITIONS),
             self.events],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def _answer(self):
        line = self.process.stdout.readline().decode().strip()
        word, _, numbers = line.partition(" ")
        if word != "ok":
            said = line or f"ended without a word, exit code {self.process.wait(60)}"
            raise CrashFound(f"the clients: {said}\n{self.broker.log_tail()}")
        self.acknowledged, self.acknowledged_bytes, self.seen = map(int, numbers.split())

    def _command(self, text):
        try:
            self.process.stdin.write(text.encode() + b"\n")
        except BrokenPipeError:  # it has said why
            pass
        self._answer()

    def wait(self, records):
        self._command(f"wait {records}")

    def sync(self):
        """The figures as they are now."""
        self._command("sync")

    def kill(self, kill):
        """Ends a life of the broker, and waits until what it still answered has come."""
        self.killed_at_ms.append(int(time.monotonic() * 1000))
        kill()
        self._command("life")

    def check(self):
        """Reads everything while the clients go on."""
        if self.process.poll() is None:
            self.sync()
        done = subprocess.run([program("check"), self.broker.bootstrap, TOPIC, str(PARTITIONS),
                               self.events, self.view, str(FLUSH_MS),
                               "moved" if self.leaders_moved else "stayed",
                               *map(str, self.killed_at_ms)],
                              stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise CrashFound(f"{done.stdout}\n{self.broker.log_tail()}")
        self.checked_records, self.required, self.required_of_memory = \
            map(int, done.stdout.split()[1:])

    def stop(self):
        """All that is queued is sent first; the broker has to run."""
        self._command("stop")
        assert self.process.wait(60) == 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
