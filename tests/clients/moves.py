"""Partitions, and with those of __consumer_offsets groups, move between two nodes all the time while
clients produce and consume: they follow. Kafka's own tool moves them, too."""
import json
import os
import sys
import time

from lib.broker import Broker
from lib.clients import (SOURCES, Child, go_program, java_command, need_command, need_module,
                         python_child, run)
from lib.group_members import wait_for
from lib.kafka_wire import (Connection, batch, create_topics, leader_connection, list_offset,
                            metadata, produce)
from lib.moves import Mover, leaders, wait_until_over
from lib.testcase import params, slow, timeout

sys.path.append(SOURCES)
import groups  # noqa: E402  pylint: disable=wrong-import-position
import python_clients  # noqa: E402  pylint: disable=wrong-import-position

TOOL = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
PARTITIONS = 4
RECORDS = 200_000
NOT_LEADER = 6


def end_of(broker, topic, partition):
    with leader_connection(broker, topic, partition) as connection:
        error, end = list_offset(connection, topic, -1, partition)
    assert error == 0
    return end


def java_producer(broker, topic):
    return Child(java_command("Produce", broker.bootstrap, topic, PARTITIONS, RECORDS, 0,
                              "acks=all", "linger.ms=5", "batch.size=16384"),
                 os.path.join(broker.dir, "java.out"))


def confluent_producer(broker, topic):
    """librdkafka, idempotent: one partition, from a file."""
    need_module("confluent_kafka")
    path = os.path.join(broker.dir, "lines")
    with open(path, "w") as file:
        file.write("some text that is a record\n" * RECORDS)
    return Child(python_child("ack_producer.py", broker.bootstrap, topic, 0, path,
                              os.path.join(broker.dir, "acks"), "enable.idempotence=true"),
                 os.path.join(broker.dir, "confluent.out"))


def offsets_acknowledged(broker):
    with open(os.path.join(broker.dir, "acks")) as lines:
        return [tuple(map(int, line.split())) for line in lines]


def check_java(_broker, lines):
    each = RECORDS // PARTITIONS
    assert lines[-PARTITIONS:] == [f"partition {p} first 0 last {each - 1}"
                                   for p in range(PARTITIONS)], lines[-PARTITIONS:]
    return dict.fromkeys(range(PARTITIONS), each)


def check_confluent(broker, lines):
    assert lines[-1] == f"acknowledged {RECORDS} failed 0", lines[-1]
    assert offsets_acknowledged(broker) == [(i, i) for i in range(RECORDS)]
    return {0: RECORDS}


@slow
@timeout(240)
@params("java", "confluent")
def test_producers_follow(client):
    """Idempotent, several requests in flight: each record once, in order; one kill -9 on the way."""
    start, check = {"java": (java_producer, check_java),
                    "confluent": (confluent_producer, check_confluent)}[client]
    with Broker(options={"log.segment.bytes": "1m", "log.retention.ms": -1}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["t"], PARTITIONS)
        mover = Mover(broker, [("t", p) for p in range(PARTITIONS)], pause_s=0.05)
        with start(broker, "t") as child:
            wait_for(lambda: end_of(broker, "t", 0) > 0)
            mover.start()
            wait_for(lambda: mover.moves >= 10)
            broker.kill9()
            broker.start()
            lines = child.wait(200)
        assert mover.stop() >= 20, mover.moves
        for partition, end in check(broker, lines).items():
            assert end_of(broker, "t", partition) == end, partition


@slow
@timeout(240)
def test_franz_follows():
    """Produces and then consumes; checks offsets and records itself. (When its partition moves it
    opens connections beside those that have requests in flight, and their order is lost: at ten
    moves of a partition a second it meets OUT_OF_ORDER_SEQUENCE_NUMBER of its own making.)"""
    program = go_program("franz")
    with Broker(options={"log.retention.ms": -1}) as broker:  # its records have old timestamps
        with Child([program, broker.bootstrap, "t", str(PARTITIONS), "400000", "snappy"],
                   os.path.join(broker.dir, "franz.out")) as child:
            with Connection(broker) as connection:
                wait_for(lambda: "t" in metadata(connection)[1])
            mover = Mover(broker, [("t", p) for p in range(PARTITIONS)], pause_s=0.2)
            mover.start()
            lines = child.wait(200)
        assert mover.stop() >= 5, mover.moves
        assert lines[:2] == ["produced 400000", "consumed 400000"], lines


@slow
@timeout(240)
def test_kafka_python_follows():
    need_module("kafka")
    total = 24_000
    with Broker() as broker:
        python_clients.kp_create(broker, "t")
        mover = Mover(broker, [("t", p) for p in range(python_clients.PARTITIONS)], pause_s=0.1)
        mover.start()
        python_clients.kp_produce(broker, "t", total, "none")
        consumer = python_clients.kp_consumer(broker)
        python_clients.check_records(python_clients.kp_read_all(consumer, "t", total), total)
        consumer.close()
        assert mover.stop() >= 5, mover.moves


def add(broker, topic, ends, each):
    """More records in each partition, wherever that is."""
    for partition in ends:
        data = batch([b"%d" % (ends[partition] + i) for i in range(each)])
        while True:
            try:
                with leader_connection(broker, topic, partition) as connection:
                    got = produce(connection, topic, data, partition)
            except (OSError, AttributeError):
                got = None
            if got is not None and got[0] == 0:
                break
            assert got is None or got[0] == NOT_LEADER, got
            time.sleep(0.02)
        ends[partition] += each


@slow
@timeout(240)
@params("java", "confluent", "franz", "kafka-python")
def test_groups_follow(client):
    """Their coordinator moves as well: nothing is lost, after a commit nothing is seen twice."""
    options = dict(groups.OPTIONS, **{"offsets.topic.num.partitions": 3})
    with Broker(options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["t"], PARTITIONS)
        ends = dict.fromkeys(range(PARTITIONS), 0)
        members = groups.members_of(broker, client, "t", "group")
        try:
            add(broker, "t", ends, 20)
            for _ in range(2):
                members.add()
            members.wait_all_read(ends, 90)
            mover = Mover(broker, [("t", p) for p in range(PARTITIONS)] +
                          [("__consumer_offsets", p) for p in range(3)], pause_s=0.3)
            mover.start()
            while mover.moves < 14 and mover.is_alive():  # each partition twice
                add(broker, "t", ends, 20)
                time.sleep(0.2)
            assert mover.stop() >= 14, mover.moves
            members.wait_all_read(ends, 90)
            broker.kill9()
            broker.start()
            add(broker, "t", ends, 20)
            members.wait_all_read(ends, 90)
            members.check()
            members.stop()
        finally:
            members.close()


# -- Kafka's tool

def tool(broker, *arguments):
    out, _ = run(java_command(TOOL, "--bootstrap-server", broker.bootstrap, *arguments), 100)
    return out.decode().splitlines()


def put(broker, name, content):
    path = os.path.join(broker.dir, name)
    with open(path, "w") as file:
        json.dump(content, file)
    return path


def plan(led):
    return {"version": 1, "partitions": [{"topic": "t", "partition": p, "replicas": [node]}
                                         for p, node in sorted(led.items())]}


@slow
@timeout(240)
def test_tool_of_kafka():
    """--generate, --execute, --verify, --list, --cancel of kafka-reassign-partitions."""
    need_command("java")
    with Broker() as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["t"], 3)
            before = leaders(broker, "t")
            topics = put(broker, "topics", {"version": 1, "topics": [{"topic": "t"}]})
            lines = tool(broker, "--generate", "--topics-to-move-json-file", topics,
                         "--broker-list", "0,1")
            assert lines[0] == "Current partition replica assignment", lines
            told = json.loads(lines[1])["partitions"]
            assert {p["partition"]: p["replicas"] for p in told} == {
                p: [node] for p, node in before.items()}
            wanted = {p: 1 - node for p, node in before.items()}
            path = put(broker, "plan", plan(wanted))
            assert tool(broker, "--execute", "--reassignment-json-file", path)[-1] == \
                "Successfully started partition reassignments for t-0,t-1,t-2"
            wait_until_over(connection)
        assert leaders(broker, "t") == wanted
        lines = tool(broker, "--verify", "--reassignment-json-file", path)
        assert lines[:4] == ["Status of partition reassignment:"] + [
            f"Reassignment of partition t-{p} is completed." for p in range(3)], lines
        assert tool(broker, "--list") == ["No partition reassignments found."]
        assert tool(broker, "--cancel", "--reassignment-json-file", path)[0] == \
            "None of the specified partition reassignments are active."
