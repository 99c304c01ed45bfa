"""Several data directories, each on a file system of its own, of which one fails: its partitions go
offline, the broker and the others go on, and with the directory everything comes back."""
import functools
import json
import os
import re
import shutil
import time

from lib.broker import Broker, BrokerError, temp_dir
from lib.clients import is_full, java, kcat_consume, kcat_produce
from lib.file_system import FileSystem
from lib.kafka_wire import (TIMEOUT_S, Connection, array, batch, batch_values, create_topics,
                            delete_topics, fetch, i8, leader_connection, list_offset, metadata,
                            produce, string)
from lib.metrics import metrics_broker, scrape
from lib.testcase import params, timeout

NONE, LEADER_NOT_AVAILABLE, COORDINATOR_NOT_AVAILABLE, STORAGE_ERROR = 0, 5, 15, 56
FIND_COORDINATOR, METADATA, DESCRIBE_LOG_DIRS = 10, 3, 35
TOPIC, PARTITIONS = "spread", 6
REFUSED_WITHIN_S = 60
LARGE_BYTES = 10_000
OPTIONS = {"journal.bytes": "16m", "log.segment.bytes": "2m",
           "offsets.topic.num.partitions": 4}


@functools.cache
def large_batch(records, size):
    """Always the same: the checksum takes its time."""
    values = [b"%d-" % i + b"v" * size for i in range(records)]
    return values, batch(values)


class Cluster:
    """A broker with its journal here and two data directories there, and what it has acknowledged."""

    def __init__(self, broker):
        self.broker, self.connections = broker, {}
        self.acknowledged = {partition: [] for partition in range(PARTITIONS)}

    def create(self):
        with Connection(self.broker) as connection:
            create_topics(connection, [TOPIC], PARTITIONS)
        return self

    def partitions_in(self, fs):
        return {partition for partition in range(PARTITIONS)
                if self.places[partition].startswith(fs.path)}

    def learn_places(self):
        self.places = {partition: self.broker.partition_dir(TOPIC, partition)
                       for partition in range(PARTITIONS)}

    def reconnect(self):
        for connection in self.connections.values():
            connection.close()
        self.connections = {}

    def connection(self, partition):
        """To the node that leads it, or led it."""
        if partition not in self.connections:
            ports, told = partitions_told(self.broker)
            self.connections[partition] = Connection(self.broker, ports[told[partition][0]])
        return self.connections[partition]

    def write(self, partition, records=10, size=100):
        if size < LARGE_BYTES:
            values = [b"%d-%d-" % (partition, len(self.acknowledged[partition]) + i) + b"v" * size
                      for i in range(records)]
            data = batch(values)
        else:
            values, data = large_batch(records, size)
        error, offset = produce(self.connection(partition), TOPIC, data, partition)
        if error == 0:
            assert offset == len(self.acknowledged[partition]), "an offset was given twice"
            self.acknowledged[partition] += values
        return error

    def write_all(self, partitions, times=1, **kind):
        for _ in range(times):
            for partition in partitions:
                assert self.write(partition, **kind) == 0, self.broker.log_tail()

    def write_until_refused(self, partition):
        end = time.monotonic() + REFUSED_WITHIN_S
        while (error := self.write(partition, size=20_000)) == 0:
            assert time.monotonic() < end, self.broker.log_tail()
        assert error == STORAGE_ERROR, error

    def check(self, partitions):
        for partition in partitions:
            connection, found = self.connection(partition), []
            error, end = list_offset(connection, TOPIC, -1, partition)
            assert error == 0, f"{partition}: {error}\n{self.broker.log_tail()}"
            while len(found) < end:
                error, _, data = fetch(connection, TOPIC, len(found), partition)
                values = [(at, value) for at, value in batch_values(data) if at >= len(found)]
                assert error == 0 and values, (partition, error, len(found), end)
                found += [value for _, value in values]
            known = self.acknowledged[partition]
            assert found[:len(known)] == known, f"partition {partition} is not what it was"
            self.acknowledged[partition] = found  # perhaps some that nobody was told of

    def check_offline(self, partitions):
        for partition in partitions:
            connection = self.connection(partition)
            assert self.write(partition) == STORAGE_ERROR
            error, _, _ = fetch(connection, TOPIC, 0, partition, version=10)  # older: NOT_LEADER
            assert error == STORAGE_ERROR, (partition, error)
            for at in (-1, -2, 0):
                assert list_offset(connection, TOPIC, at, partition)[0] == STORAGE_ERROR
        _, told = partitions_told(self.broker)
        assert {partition for partition, (_, offline) in told.items() if offline} == set(partitions)


def partitions_told(broker):
    """({node: port}, {partition: (its replica, is that offline)}), of Metadata v5."""
    with Connection(broker) as connection:
        answer = connection.request(METADATA, 5, array([string(TOPIC)]) + i8(0))
    answer.i32()
    ports = {}
    for _ in range(answer.i32()):
        node, _, ports[node], _ = answer.i32(), answer.string(), answer.i32(), answer.string()
    answer.string(), answer.i32()
    assert (answer.i32(), answer.i16(), answer.string(), answer.i8()) == (1, 0, TOPIC, 0)
    told = {}
    for _ in range(answer.i32()):
        error, partition, leader = answer.i16(), answer.i32(), answer.i32()
        replicas, in_sync, offline = (answer.array(answer.i32) for _ in range(3))
        assert replicas == in_sync and len(replicas) == 1
        assert (error, leader, offline) in ((NONE, replicas[0], []),
                                            (LEADER_NOT_AVAILABLE, -1, replicas))
        told[partition] = replicas[0], bool(offline)
    answer.end()
    return ports, told


def log_dir_errors(broker):
    """{path: (error, partitions)} as all nodes say."""
    with Connection(broker) as connection:
        nodes, _ = metadata(connection, [])
    told = {}
    for _, port in nodes.values():
        with Connection(broker, port) as connection:
            answer = connection.request(DESCRIBE_LOG_DIRS, 1, array(None))
        answer.i32()
        for _ in range(answer.i32()):
            error, path = answer.i16(), answer.string()
            count = 0
            for _ in range(answer.i32()):
                answer.string()
                for _ in range(answer.i32()):
                    answer.i32(), answer.i64(), answer.i64(), answer.i8()
                    count += 1
            before = told.get(path, (error, 0))
            assert before[0] == error, f"nodes differ about {path}"
            told[path] = error, before[1] + count
    return told


def find_coordinator(broker, group):
    with Connection(broker) as connection:
        answer = connection.request(FIND_COORDINATOR, 0, string(group))
    return answer.i16()


def coordinators(broker):
    """{partition of __consumer_offsets: a group whose it is}."""
    groups = {}
    number = 0
    while len(groups) < OPTIONS["offsets.topic.num.partitions"]:
        name, code = f"group-{number}", 0
        for letter in name:  # as Java's String.hashCode
            code = (31 * code + ord(letter)) & 0xffffffff
        groups.setdefault((code & 0x7fffffff) % OPTIONS["offsets.topic.num.partitions"], name)
        number += 1
    return groups


def wait_for_coordinators(broker):
    end = time.monotonic() + TIMEOUT_S
    while find_coordinator(broker, "group-0") != NONE:
        assert time.monotonic() < end, broker.log_tail()
        time.sleep(0.05)


def run_kcat(broker, partition):
    """Real clients: what is there can be consumed, and more produced."""
    path = os.path.join(broker.dir, "lines")
    with open(path, "w") as out:
        out.writelines(f"line {number}\n" for number in range(100))
    kcat_produce(broker, TOPIC, path, partition)
    back = os.path.join(broker.dir, "back")
    kcat_consume(broker, TOPIC, back, partition)
    with open(path, "rb") as want, open(back, "rb") as got:
        assert got.read().endswith(want.read()), partition


def java_sees(broker, broken):
    lines = java("org.apache.kafka.tools.LogDirsCommand", "--bootstrap-server", broker.bootstrap,
                 "--describe")
    nodes = json.loads(lines[-1])["brokers"]
    errors = [(found["logDir"], found["error"]) for node in nodes for found in node["logDirs"]
              if found["error"] is not None]
    wrong = "org.apache.kafka.common.errors.KafkaStorageException"
    assert len(nodes) == 2 and errors == [(broken, wrong)] * 2, lines[-1]


def check_one_offline(cluster, fs, whole, error_of_group):
    broker = cluster.broker
    lost, kept = cluster.partitions_in(fs), cluster.partitions_in(whole)
    cluster.check_offline(lost)
    cluster.check(kept)
    told = log_dir_errors(broker)
    assert told[os.path.realpath(fs.path)] == (STORAGE_ERROR, 0), told
    assert told[os.path.realpath(whole.path)][0] == NONE, told
    figures = scrape(broker)
    assert figures.total("log_directories_offline") == 1
    assert figures.total("partitions_offline") == len(lost) + len(error_of_group)
    for group in error_of_group:
        assert find_coordinator(broker, group) == COORDINATOR_NOT_AVAILABLE


@timeout(180)
@params("ext4")
def test_one_fails_and_comes_back(kind):
    journal = temp_dir("journal")
    with FileSystem(kind) as whole, FileSystem(kind) as fs, \
            metrics_broker(shards=2, memory="96m", options=OPTIONS, data=[whole.path, fs.path],
                           args=["--journal", journal]) as broker:
        cluster = Cluster(broker).create()
        wait_for_coordinators(broker)
        cluster.write_all(range(PARTITIONS), times=3)
        cluster.write_all(range(PARTITIONS), records=20, size=40_000)  # gets them their files
        broker.restart()
        cluster.reconnect()
        cluster.learn_places()
        lost, kept = cluster.partitions_in(fs), cluster.partitions_in(whole)
        assert len(lost) == len(kept) == PARTITIONS // 2, "they are spread"
        groups = coordinators(broker)
        lost_groups = [group for index, group in groups.items()
                       if os.path.exists(os.path.join(fs.path, f"__consumer_offsets-{index}"))]
        run_kcat(broker, min(kept))
        cluster.check(range(PARTITIONS))
        cluster.write_all(range(PARTITIONS), times=5)

        fs.shut_down()
        victim, = [min(lost)]
        cluster.write_until_refused(victim)
        wait_until_offline(broker, len(lost))
        lost_groups = [group for group in groups.values()
                       if find_coordinator(broker, group) != NONE]
        assert len(lost_groups) == 2, lost_groups
        check_one_offline(cluster, fs, whole, lost_groups)
        wait_for_side_files(broker, journal)
        cluster.write_all(kept, times=60, size=20_000)  # the journal goes round meanwhile
        run_kcat(broker, min(kept))
        if is_full():
            java_sees(broker, os.path.realpath(fs.path))

        for kill in (True, False):  # it cannot be read at start, either; the journal is let go again
            broker.restart(kill=kill)
            cluster.reconnect()
            check_one_offline(cluster, fs, whole, lost_groups)
            cluster.write_all(kept, times=5)
        broker.kill9()
        fs.unmount()  # an empty directory is left in its place
        broker.start()
        cluster.reconnect()
        check_one_offline(cluster, fs, whole, lost_groups)
        cluster.write_all(kept, times=60, size=20_000)
        with Connection(broker) as connection:
            create_topics(connection, ["later"], 4)
            delete_topics(connection, ["later"])
        assert os.listdir(fs.path) == [".lock"]
        broker.stop()

        fs.repair()
        broker.start()
        cluster.reconnect()
        assert not any(offline for _, offline in partitions_told(broker)[1].values())
        cluster.check(range(PARTITIONS))
        cluster.write_all(range(PARTITIONS), times=3)
        wait_for_coordinators(broker)
        assert all(find_coordinator(broker, group) == NONE for group in groups.values())
        assert not [name for name in os.listdir(journal) if "parked" in name]
        broker.restart(kill=True)
        cluster.reconnect()
        cluster.check(range(PARTITIONS))
        cluster.reconnect()
    shutil.rmtree(journal)


def wait_for_side_files(broker, journal):
    """Each shard puts aside what is not in segments."""
    end = time.monotonic() + TIMEOUT_S
    while len([name for name in os.listdir(journal) if re.search(r"\.parked\.\d+$", name)]) < 2:
        assert time.monotonic() < end, broker.log_tail()
        time.sleep(0.05)


def wait_until_offline(broker, at_least):
    end = time.monotonic() + TIMEOUT_S
    while scrape(broker).total("partitions_offline") < at_least:
        assert time.monotonic() < end, broker.log_tail()
        time.sleep(0.05)


# -- what a start makes of the list

def refused(broker, data, *named):
    """It does not start with these directories, and says why."""
    before, broker.data = broker.data, data
    try:
        broker.start()
    except BrokerError as error:
        assert all(name in str(error) for name in named), error
    else:
        raise AssertionError(f"started with {data}")
    broker.data = before


def both_there(broker):
    """Its two partitions are led, and have their record."""
    for partition in range(2):
        with leader_connection(broker, "pair", partition) as connection:
            error, _, data = fetch(connection, "pair", 0, partition)
            assert (error, [value for _, value in batch_values(data)]) == (0, [b"%d" % partition])


def one_is_away(broker, path):
    """So are its partitions, and nothing else."""
    with Connection(broker) as connection:
        _, leaders = metadata(connection, ["pair"], offline=True)
    assert sorted(leader < 0 for leader in leaders["pair"].values()) == [False, True], leaders
    assert f"{path}" in broker.log().rpartition("----")[2], broker.log_tail()


def start_without(broker, path, data=None):
    before = broker.data
    broker.data = data or before
    broker.start()
    one_is_away(broker, path)
    broker.stop()
    broker.data = before


def test_what_a_start_finds():
    """Twins, strangers, newcomers, those that are missing, unlisted or damaged."""
    with Broker(options={"journal.bytes": "16m"}, shards=1, data_dirs=2) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["pair"], 2)
            for partition in range(2):
                assert produce(connection, "pair", batch([b"%d" % partition]), partition)[0] == 0
        broker.stop()
        first, second = broker.data
        twin, link, new = (os.path.join(broker.dir, name) for name in ("twin", "link", "new"))
        shutil.copytree(second, twin)
        os.symlink(second, link)
        refused(broker, [first, second, twin], "same directory.id")
        refused(broker, [first, second, link], "named twice")
        refused(broker, [new, second], "no metadata log")
        shutil.rmtree(new)
        with Broker(options={"journal.bytes": "16m"}, shards=1) as other:
            other.stop()
            refused(broker, [first, second, other.data[0]], "another cluster")

        away = second + ".away"
        os.rename(second, away)
        start_without(broker, second)
        assert not os.path.exists(second), "nothing is made in its place"
        os.mkdir(second)
        start_without(broker, second)
        os.unlink(os.path.join(second, ".lock"))
        os.rmdir(second)
        os.rename(away, second)
        start_without(broker, "directory.id=", [first])
        broker.start()
        both_there(broker)
        broker.stop()

        names = [os.path.join(second, name) for name in ("meta.properties", "meta.properties.copy")]
        with open(names[0]) as good:
            text = good.read()
        for name in names:
            with open(name, "w") as bad:
                bad.write("version=1\n")
        start_without(broker, second)
        with open(names[0], "w") as good:
            good.write(text)
        broker.data = [first, second, new]
        broker.start()
        both_there(broker)
        with Connection(broker) as connection:
            create_topics(connection, ["three"], 3)
        assert set(log_dir_errors(broker)) == {os.path.realpath(path) for path in broker.data}
        assert all(error == (0, 1) or error == (0, 2)
                   for error in log_dir_errors(broker).values()), log_dir_errors(broker)
