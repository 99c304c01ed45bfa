"""Configs of topics and brokers, and small admin calls: Kafka's tools, its admin client, kafka-python,
librdkafka, and what no client sends, by hand."""
import glob
import gzip
import os
import struct
import time

from lib import transcript
from lib.broker import Broker, is_peer
from lib.clients import CLIENTS, SOURCES, kcat_consume, kcat_produce, need, need_module
from lib.kafka_wire import (PRODUCE, Connection, Reader, array, batch, create_topics, fetch, frame,
                            header, i8, leader_connection, produce, produce_body, string)
from lib.testcase import sanitized
from lib.text import text_file

DESCRIBE, ALTER, ALTER_INCREMENTAL = 32, 33, 44
TOPIC, BROKER, BROKER_LOGGER = 2, 4, 8
SET, DELETE, APPEND, SUBTRACT = range(4)
PARTITIONS = 4  # over two shards
NODE = {"node.id": 1, "num.partitions": 1}


def test_transcript():
    """What the admin client is told and Kafka's tools print: the same as of Apache Kafka, or listed."""
    jars = os.path.join(CLIENTS, "java", "jars")
    need("java", bool(glob.glob(os.path.join(jars, "kafka_2.13-*.jar"))))  # has kafka-configs
    with Broker(advertise="host", options=NODE) as broker:
        transcript.check(broker, os.path.join(SOURCES, "admin.transcript"))


# -- by hand

def alter(connection, resources, incremental=True, validate_only=False):
    """resources: [(type, name, [(key, operation, value)])]; the error code and message of each."""
    body = array([i8(kind) + string(name) +
                  array([string(key) + (i8(op) if incremental else b"") + string(value)
                         for key, op, value in entries])
                  for kind, name, entries in resources]) + i8(validate_only)
    answer = connection.request(ALTER_INCREMENTAL if incremental else ALTER, 0, body)
    answer.i32()
    results = answer.array(lambda: (answer.i16(), answer.string(), answer.i8(), answer.string()))
    answer.end()
    assert [result[2:] for result in results] == [each[:2] for each in resources], results
    return [result[:2] for result in results]


def set_config(connection, kind, name, key, value, incremental=True):
    op = DELETE if value is None else SET
    got, = alter(connection, [(kind, name, [(key, op, value)])], incremental)
    assert got == (0, None), got


def describe(connection, kind, name, keys=None, version=1):
    """(error code, {key: (value, read only, source, synonyms)})."""
    keys = None if keys is None else [string(key) for key in keys]
    body = array([i8(kind) + string(name) + array(keys)]) + i8(1)
    answer = connection.request(DESCRIBE, version, body)
    answer.i32()

    def entry():
        key = answer.string()
        value, read_only, source, sensitive = answer.string(), answer.i8(), answer.i8(), answer.i8()
        assert not sensitive, key
        return key, (value, read_only, source,
                     answer.array(lambda: (answer.string(), answer.string(), answer.i8())))

    def result():
        error = answer.i16()
        answer.string()
        assert (answer.i8(), answer.string()) == (kind, name)
        return error, dict(answer.array(entry))
    (error, entries), = answer.array(result)
    answer.end()
    return error, entries


def check_produce(connection, size, error):
    """Every partition answers a batch of this size with this error. The peer says that a config is
    changed before all of it knows."""
    end = time.monotonic() + (10 if is_peer() else 0)
    while True:
        errors = {produce(connection, "one", batch([b"x" * size]), partition)[0]
                  for partition in range(PARTITIONS)}
        if errors == {error}:
            return
        assert time.monotonic() < end, f"{size} bytes: errors {errors}, wanted {error}"
        time.sleep(0.1)


def check_refusals(connection):
    node = "1"
    for entries, error in (([("retention.ms", SET, None)], 42),
                           ([("retention.ms", 7, "5")], None if is_peer() else 42),
                           ([("retention.ms", SET, "5"), ("retention.ms", DELETE, None)], 42),
                           ([("cleanup.policy", APPEND, None)], 42),
                           ([("", SET, "5")], 40),
                           ([("segment.bytes", SET, "5"), ("retention.ms", SET, "5")], 40)):
        (got, _), = alter(connection, [(TOPIC, "one", entries)])
        assert error in (None, got), (entries, got)
    for resource, error in (((99, "x", []), 42), ((0, "x", []), 42), ((TOPIC, "", []), 42),
                            ((TOPIC, "a b", []), 17), ((TOPIC, "nono", []), 3),
                            ((BROKER, "77", []), 42), ((BROKER, "x", []), 42),
                            ((BROKER, node, [("node.id", SET, "7")]), 42),
                            ((BROKER_LOGGER, "77", [("root", SET, "INFO")]), 42)):
        assert alter(connection, [resource])[0][0] == error, resource
        kind, name, entries = resource
        if not entries and (kind, name) != (TOPIC, ""):
            assert describe(connection, kind, name)[0] == error, resource
    twice = [(TOPIC, "one", [("retention.ms", SET, "7")]), (TOPIC, "nono", []),
             (TOPIC, "one", [("segment.ms", SET, "7")])]
    assert [code for code, _ in alter(connection, twice)] == [42, 3, 42]
    assert describe(connection, TOPIC, "one", ["retention.ms", "segment.ms"])[1] == {
        key: ("604800000", 0, 5, []) for key in ("retention.ms", "segment.ms")}


def check_full_replacement(connection):
    """AlterConfigs: what is not named returns to its default, and a bad value changes nothing."""
    def full(*pairs):
        entries = [(key, SET, value) for key, value in pairs]
        return alter(connection, [(TOPIC, "one", entries)], incremental=False)[0][0]

    def explicit():
        error, entries = describe(connection, TOPIC, "one")
        assert error == 0 and len(entries) >= 36, entries
        return {key: value for key, (value, _, source, _) in entries.items() if source == 1}
    assert full(("retention.ms", "9"), ("segment.ms", "77")) == 0
    assert explicit() == {"retention.ms": "9", "segment.ms": "77"}
    assert full(("retention.bytes", "9"), ("retention.ms", "-9")) == 40
    assert full(("retention.ms", None)) == 42
    assert explicit() == {"retention.ms": "9", "segment.ms": "77"}
    assert full(("retention.ms", "604800000")) == 0
    assert explicit() == {"retention.ms": "604800000"}  # set, though it is the default
    assert full() == 0
    assert explicit() == {}


def check_effects(connection):
    """At once, on every shard: of the topic, of all topics, of the topic against that of all."""
    check_produce(connection, 1000, 0)
    set_config(connection, TOPIC, "one", "max.message.bytes", "500")
    check_produce(connection, 1000, 10)
    set_config(connection, TOPIC, "one", "max.message.bytes", None)
    check_produce(connection, 1000, 0)
    set_config(connection, BROKER, "", "message.max.bytes", "600")
    check_produce(connection, 1000, 10)
    set_config(connection, BROKER, "1", "message.max.bytes", "5000")
    check_produce(connection, 1000, 0)
    set_config(connection, BROKER, "1", "message.max.bytes", None)
    set_config(connection, TOPIC, "one", "max.message.bytes", "5000")
    check_produce(connection, 1000, 0)
    alter(connection, [(TOPIC, "one", [("max.message.bytes", SET, "5")])], validate_only=True)
    check_produce(connection, 1000, 0)


def check_kept(connection):
    error, entries = describe(connection, TOPIC, "one", ["max.message.bytes", "nono"])
    assert error == 0 and entries == {"max.message.bytes": (
        "5000", 0, 1, [("max.message.bytes", "5000", 1), ("message.max.bytes", "600", 3),
                       ("message.max.bytes", "1048588", 5)])}, entries


def check_max_connections(broker, connection):
    """Those that are there stay; more are let in only when it is raised again."""
    def let_in():
        opened = [Connection(broker) for _ in range(8)]
        answers = [each.request(DESCRIBE, 1, array([]) + i8(0)) for each in opened]
        for each in opened:
            each.socket.close()
        return sum(answer is not None for answer in answers)
    set_config(connection, BROKER, "", "max.connections", "4")
    assert let_in() < 8
    set_config(connection, BROKER, "", "max.connections", None)
    assert let_in() == 8


def check_producer_expiry(broker):
    """A producer that is idle for longer is forgotten (with a checkpoint, here that of a clean stop), and may
    begin anywhere; one that is known may not."""
    def after_restart(producer_id):
        with leader_connection(broker, "one") as connection:
            assert produce(connection, "one", batch([b"v"], producer=(producer_id, 0, 0)))[0] == 0
        broker.restart()
        with leader_connection(broker, "one") as connection:
            return produce(connection, "one", batch([b"v"], producer=(producer_id, 0, 77)))[0]
    key = "producer.id.expiration.ms"
    with Connection(broker) as connection:
        (refused, _), = alter(connection, [(BROKER, "", [(key, SET, "0")])])
        assert refused == 42, refused
        set_config(connection, BROKER, "", key, "1")
        assert describe(connection, BROKER, "1", [key])[1] == {key: ("1", 0, 3, [
            (key, "1", 3), (key, "86400000", 5)])}
    assert after_restart(4711) == 0
    with Connection(broker) as connection:
        set_config(connection, BROKER, "", key, None)
    assert after_restart(4712) == 45


@sanitized
def test_by_hand():
    """Refusals change nothing; what is set holds at once, on all shards, and over kill -9."""
    with Broker(advertise="host", options=NODE) as broker:
        connection = Connection(broker)
        create_topics(connection, ["one"], PARTITIONS)
        check_refusals(connection)
        check_full_replacement(connection)
        check_effects(connection)
        check_kept(connection)
        broker.restart(kill=True)
        connection = Connection(broker)
        check_kept(connection)
        check_produce(connection, 1000, 0)
        check_produce(connection, 6000, 10)
        if not is_peer():
            check_max_connections(broker, connection)
            check_producer_expiry(broker)
            broker.restart()
            check_kept(Connection(broker))


# -- compression

def stored(connection, topic):
    """The codec of each batch, by its number in the batch's header."""
    codecs, offset = [], 0
    while True:
        error, high, records = fetch(connection, topic, offset, version=10)
        assert error == 0
        if offset >= high:
            return codecs
        at = 0
        while at + 61 <= len(records):
            length, = struct.unpack_from(">i", records, at + 8)
            attributes, last = struct.unpack_from(">hi", records, at + 21)
            base, = struct.unpack_from(">q", records, at)
            if base >= offset:
                codecs.append(attributes & 7)
                offset = base + last + 1
            at += 12 + length


def test_compression():
    """A topic's compression.type is that of its batches from then on, whatever the producer's; what is
    read is what was written."""
    text = text_file(1 << 18)
    codecs = ["uncompressed", "gzip", "snappy", "lz4", "zstd"]
    with Broker(advertise="host", options=NODE) as broker:
        connection = Connection(broker)
        create_topics(connection, ["one"], 1)
        seen = 0
        for number, wanted in enumerate(codecs):
            set_config(connection, TOPIC, "one", "compression.type", wanted)
            time.sleep(0.5 if is_peer() else 0)
            came = codecs[(number + 1) % 5].replace("uncompressed", "none")
            kcat_produce(broker, "one", text, settings=["acks=all", f"compression.codec={came}"])
            found = stored(connection, "one")
            assert found[seen:] and set(found[seen:]) == {number}, (wanted, came, found)
            seen = len(found)
        back = os.path.join(broker.dir, "back")
        kcat_consume(broker, "one", back)
        with open(text, "rb") as source, open(back, "rb") as copy:
            assert copy.read() == source.read() * len(codecs)
        set_config(connection, TOPIC, "one", "compression.type", "uncompressed")
        set_config(connection, TOPIC, "one", "max.message.bytes", "3000")
        time.sleep(0.5 if is_peer() else 0)
        big = gzip_batch(b"x" * 5000)
        assert len(big) < 3000 and produce(connection, "one", big)[0] == 10  # unpacked it is larger


def test_compression_keeps_the_order():
    """Requests on one connection, none waited for: large batches that the broker packs again, and small
    ones that have the topic's compression already."""
    number = 16
    with Broker(advertise="host", options=NODE) as broker, Connection(broker) as connection:
        create_topics(connection, ["one"], 1, [("compression.type", "gzip")])
        while is_peer() and produce(connection, "one", gzip_batch(b"first"))[0] != 0:
            time.sleep(0.1)
        first = 1 if is_peer() else 0
        for i in range(number):
            data = gzip_batch(b"small") if i % 2 else batch([os.urandom(300_000)])
            connection.send(frame(header(PRODUCE, 7, i) + produce_body("one", data)))
        for i in range(number):
            answer = Reader(connection.response())
            assert answer.i32() == i
            answer.i32(), answer.string(), answer.i32(), answer.i32()
            assert (answer.i16(), answer.i64()) == (0, first + i)
        assert set(stored(connection, "one")) == {1}


def gzip_batch(value):
    plain = batch([value])
    return batch([value], attributes=1, records=gzip.compress(plain[61:]))


# -- clients

def kafka_python(broker):
    """Tells the old request from the new one, and asks for producers."""
    need_module("kafka")
    from kafka import KafkaProducer, TopicPartition
    from kafka.admin import ConfigResource, KafkaAdminClient
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    for incremental in (False, True):
        value = "1111" if incremental else "2222"
        admin.alter_configs([ConfigResource("TOPIC", "one", {"retention.ms": value})],
                            incremental=incremental)
        told = admin.describe_configs([ConfigResource("TOPIC", "one")], config_filter="all")
        assert value in str(told), told
    admin.reset_configs([ConfigResource("TOPIC", "one", {"retention.ms": None})])
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, enable_idempotence=True)
    for _ in range(3):
        producer.send("one", b"x", partition=2).get(timeout=30)
    told = admin.describe_producers([TopicPartition("one", 2), TopicPartition("one", 3)])
    counts = [len(told[TopicPartition("one", p)].active_producers) for p in (2, 3)]
    assert counts == [1, 0], told
    producer.close()
    admin.close()


def confluent(broker):
    need_module("confluent_kafka")
    from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource,
                                       ResourceType)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    resource = ConfigResource(ResourceType.TOPIC, "one", set_config={"retention.ms": "3333"})
    admin.alter_configs([resource])[resource].result(timeout=30)
    append = ConfigResource(ResourceType.TOPIC, "one", incremental_configs=[
        ConfigEntry("cleanup.policy", "compact",
                    incremental_operation=AlterConfigOpType.APPEND)])
    admin.incremental_alter_configs([append])[append].result(timeout=30)
    asked = ConfigResource(ResourceType.TOPIC, "one")
    told = admin.describe_configs([asked])[asked].result(timeout=30)
    assert told["retention.ms"].value == "3333" and told["retention.ms"].source == 1
    assert sorted(told["cleanup.policy"].value.split(",")) == ["compact", "delete"]
    assert told["segment.ms"].source == 5 and told["segment.ms"].is_default


def test_python_clients():
    with Broker(options=NODE) as broker:
        create_topics(Connection(broker), ["one"], PARTITIONS)
        kafka_python(broker)
        confluent(broker)
