"""The two brokers of the table: started on the lower half of the CPUs, asked by hand, stopped.

Each is a context: it answers when entered, and process and data are gone when left. Kafka comes by
kafka.sh, with its own heap and flags; that it removes files of deleted topics after a second, not a
minute, keeps what a run has written from being written back during the next.
"""
import contextlib
import glob
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time

from scale import BINARY, CPUS, HALF, OUT, ROOT, TICKS, Connection, free_ports, string

METADATA, CREATE_TOPICS, DELETE_TOPICS = 3, 19, 20
TIMEOUT_MS = 30_000
START_S, STOP_S = 90, 60
ANSWER_LOOK_S = 0.002
DELETE_S = 1
READY = re.compile(r"^(penstock ready .*|kafka ready \S+ pid=(\d+))$")


class Failed(Exception):
    """A broker or a run did not do; says why."""


def on_all_cpus():
    os.sched_setaffinity(0, CPUS)


def on_lower_half():
    os.sched_setaffinity(0, CPUS[:HALF])


def on_upper_half():
    os.sched_setaffinity(0, CPUS[HALF:] or CPUS)


def stat_fields(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()


def settle():
    """What the run before has left to be removed or written is."""
    time.sleep(DELETE_S + 0.5)
    os.sync()


class Broker:
    name = None

    def __init__(self, directory, ports):
        self.data = os.path.join(OUT, directory)
        self.port = free_ports(ports)
        self.address = f"127.0.0.1:{self.port}"
        self.log_path = self.data + ".log"
        self.pid = None

    def command(self):
        raise NotImplementedError

    def __enter__(self):
        shutil.rmtree(self.data, ignore_errors=True)
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(self.command(), cwd=ROOT, stdout=subprocess.PIPE,
                                            stderr=log, text=True, preexec_fn=on_lower_half)
        try:
            answered = self.first_answer()
            self.pid = self.ready_pid()
        except BaseException:
            self.__exit__()
            raise
        self.start_s = answered - int(stat_fields(self.pid)[19]) / TICKS
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process.stdout.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def kill(self):
        if self.pid: # Kafka's is not the one of its script
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def first_answer(self):
        """When (since the machine's boot) metadata named a broker for the first time."""
        limit = time.monotonic() + START_S
        while time.monotonic() < limit and self.process.poll() is None:
            try:
                answer = Connection(self.port).request(METADATA, 1, struct.pack(">i", 0))
                if struct.unpack_from(">i", answer, 4)[0] > 0:
                    return time.clock_gettime(time.CLOCK_BOOTTIME)
            except (OSError, AssertionError):
                pass # it does not listen yet, or closes what comes too early
            time.sleep(ANSWER_LOOK_S)
        raise Failed(f"{self.name} does not start: {self.log_path}")

    def ready_pid(self):
        for line in self.process.stdout:
            ready = READY.match(line.rstrip())
            if ready:
                return int(ready.group(2) or self.process.pid)
        raise Failed(f"{self.name} does not start: {self.log_path}")

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    def cpu_s(self):
        fields = stat_fields(self.pid)
        return (int(fields[11]) + int(fields[12])) / TICKS

    def create_topic(self, name, settings, partitions):
        configs = b"".join(string(key) + string(value) for key, value in settings.items())
        body = struct.pack(">i", 1) + string(name) + \
            struct.pack(">ihii", partitions, 1, 0, len(settings)) + \
            configs + struct.pack(">ib", TIMEOUT_MS, 0)
        answer = Connection(self.port).request(CREATE_TOPICS, 2, body)
        # correlation, throttle time, one topic: its name, then its error
        error, = struct.unpack_from(">h", answer, 4 + 4 + 4 + 2 + len(name))
        if error != 0:
            raise Failed(f"{self.name} does not make topic {name}: error {error}")

    def delete_topic(self, name):
        body = struct.pack(">i", 1) + string(name) + struct.pack(">i", TIMEOUT_MS)
        Connection(self.port).request(DELETE_TOPICS, 1, body)

    def forget_cached(self):
        """What was written comes from the device when it is read."""


class Kafka(Broker):
    name = "kafka"
    # Each append is flushed before it is acknowledged.
    durable_topic = {"flush.messages": "1"}

    def __init__(self, directory="table-kafka"):
        super().__init__(directory, 2)

    def command(self):
        return ["env", f"KAFKA_OPTIONS=log.segment.delete.delay.ms={DELETE_S * 1000}", "bench/kafka.sh",
                self.address, self.data]

    def forget_cached(self):
        for path in glob.glob(os.path.join(self.data, "log", "*", "*.log")):
            try:
                fd = os.open(path, os.O_RDWR)
            except FileNotFoundError: # of a topic deleted just now
                continue
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


class Penstock(Broker):
    """What it keeps in memory is bounded by configuration: older records come from the device anyway."""
    name = "penstock"
    durable_topic = {} # acks=all is enough

    def __init__(self, directory="table-penstock", options=()):
        super().__init__(directory, HALF)
        self.options = options

    def command(self):
        return [BINARY, "serve", "--data", self.data, "--listen", self.address, *self.options]


BROKERS = {broker.name: broker for broker in (Kafka, Penstock)}
