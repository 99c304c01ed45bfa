"""kill -9 at any time, again and again: while records of all kinds of producers are acknowledged,
while topics are made and deleted, while the broker starts and recovers. After each start
everything is read and held against what clients were told. Only the process is killed: see
tests/README.md."""
import os
import random
import re
import struct
import subprocess
import time

from lib.broker import Broker
from lib.crash_load import TOPIC, Load
from lib.testcase import sanitized, slow, timeout
from lib.topic_churn import TopicChurn

SHARDS_MAX = 3
KILLS_OF_A_DIRECTORY = 10
# Small ones, so that segments roll, files are recycled, checkpoints are written and journals go
# round within seconds.
TUNINGS = {"journal.bytes": ("16m", "20m", "32m"), "log.segment.bytes": ("1m", "2m", "16m"),
           "direct.min.bytes": ("64k", "256k", "1m"), "log.index.interval.bytes": ("512", "4096")}
OPTIONS = {"log.segment.delete.delay.ms": 100}
MEMORY = ("96m", "160m", "256m")


CHECKPOINT_HEAD = struct.Struct("<QIIQQQQ")  # magic, version, crc, generation, identity,
                                             # incarnation, tail of the journal


def storage_done(broker):
    """(checkpoints, bytes that went through the journals, sealed segments) as the files say."""
    checkpoints, through, sealed = {}, {}, 0
    for folder, _, names in os.walk(broker.data[0]):
        sealed += sum(name.endswith(".timeindex") for name in names)
        for name in names:
            checkpoint = re.fullmatch(r"journal\.(\d+)\.checkpoint\.[01]", name)
            if checkpoint:
                with open(os.path.join(folder, name), "rb") as file:
                    head = CHECKPOINT_HEAD.unpack(file.read(CHECKPOINT_HEAD.size))
                journal = checkpoint[1]
                checkpoints[journal] = max(checkpoints.get(journal, 0), head[3])
                through[journal] = max(through.get(journal, 0), head[6])
    return sum(checkpoints.values()), sum(through.values()), sealed


class Totals:
    def __init__(self):
        self.kills = self.start_kills = self.acknowledged = self.bytes = self.seen = 0
        self.checks = self.checked_records = self.required_of_memory = self.topic_changes = 0
        self.checkpoints = self.journal_bytes = self.sealed = 0
        self.ready_ms = []

    def add(self, broker, load, churn):
        done = storage_done(broker)
        self.checkpoints += done[0]
        self.journal_bytes += done[1]
        self.sealed += done[2]
        self.acknowledged += load.acknowledged
        self.bytes += load.acknowledged_bytes
        self.seen += load.seen
        self.topic_changes += churn.changes
        self.required_of_memory += load.required_of_memory

    def show(self):
        times = sorted(self.ready_ms)
        marks = ", ".join(f"{name} {times[min(int(len(times) * part), len(times) - 1)]}"
                          for name, part in (("least", 0), ("median", 0.5), ("90 %", 0.9),
                                             ("99 %", 0.99), ("most", 1)))
        print(f"{self.kills} kills ({self.start_kills} of them while starting), "
              f"{self.acknowledged} records of {self.bytes >> 20} MiB acknowledged, "
              f"{self.seen} seen by the consumer, {self.topic_changes} topic changes; "
              f"{self.checks} checks read {self.checked_records} records\n"
              f"{self.checkpoints} checkpoints, {self.journal_bytes >> 20} MiB through journals, "
              f"{self.sealed} segments sealed\n"
              f"ready after, in ms, of {len(times)} starts: {marks}", flush=True)


class Round:
    """One kill or more, a start, a check."""

    def __init__(self, broker, load, churn, rng, totals):
        self.broker, self.load, self.churn, self.rng = broker, load, churn, rng
        self.totals = totals

    def run(self):
        self._work_and_die()
        while self.rng.random() < 0.35:
            self._die_starting()
        if self.rng.random() < 0.2:
            shards = self.rng.randint(1, SHARDS_MAX)
            self.load.leaders_moved |= shards != self.broker.shards
            self.broker.shards = shards
        self._start()
        self.load.check()
        self.totals.checks += 1
        self.totals.checked_records += self.load.checked_records
        self.churn.check()

    def _work_and_die(self):
        churns = self.rng.random() < 0.6
        if churns:
            self.churn.start()
        self.load.wait(self.rng.choice((1, 200, 1000, 3000)))
        time.sleep(self.rng.random() / 10)
        self._kill(self.broker.kill9)
        if churns:
            self.churn.join()

    def _kill(self, kill):
        self.load.kill(kill)
        self.totals.kills += 1

    def _die_starting(self):
        """Somewhere between its first instruction and a little after it would have been ready."""
        delay_s = self.rng.random() * 1.2 * self.totals.ready_ms[-1] / 1000
        with open(self.broker.log_path, "ab") as log:
            process = subprocess.Popen(self.broker.command(), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=log,
                                       env=self.broker.environment())
            time.sleep(delay_s)
            assert process.poll() is None, f"it ended by itself\n{self.broker.log_tail()}"
            self._kill(lambda: (process.kill(), process.wait()))
        self.totals.start_kills += 1

    def _start(self):
        self.broker.start()
        self.totals.ready_ms.append(round(self.broker.ready_s * 1000))


def kill_in_one_directory(kills, rng, totals):
    options = {**OPTIONS, **{key: rng.choice(values) for key, values in TUNINGS.items()}}
    memory = rng.choice(MEMORY)
    broker = Broker(shards=SHARDS_MAX, memory=memory, options=options)
    broker.shards = rng.randint(1, SHARDS_MAX)  # after it has taken ports for the most
    print(f"shards={broker.shards} memory={memory} " +
          " ".join(f"{key}={value}" for key, value in options.items()), flush=True)
    with broker:
        totals.ready_ms.append(round(broker.ready_s * 1000))
        churn = TopicChurn(broker, rng, [TOPIC])
        with Load(broker) as load:
            end = totals.kills + kills
            while totals.kills < end:
                Round(broker, load, churn, rng, totals).run()
            load.stop()
            load.check()
            broker.restart()
            load.check()
            churn.check()
            totals.add(broker, load, churn)


def kill_again_and_again(kills, seed):
    print(f"seed {seed}", flush=True)
    rng, totals = random.Random(seed), Totals()
    while totals.kills < kills:
        kill_in_one_directory(min(KILLS_OF_A_DIRECTORY, kills - totals.kills), rng, totals)
        totals.show()
    assert totals.acknowledged > kills and totals.seen > 0 and totals.required_of_memory > 0
    assert totals.topic_changes > 0 or kills < KILLS_OF_A_DIRECTORY


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
    """`make crash`; CRASH_KILLS and CRASH_SEED say how often, and repeat the same plan."""
    kill_again_and_again(int(os.environ.get("CRASH_KILLS") or 200),
                         int(os.environ.get("CRASH_SEED") or time.time()))
