"""kafka-python and confluent-kafka (a newer librdkafka than Debian's), by assign()."""
import time

from lib.broker import Broker
from lib.clients import is_full, need_module
from lib.testcase import params, sanitized, timeout

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PARTITIONS = 6
QUEUED_MAX = 50_000
TIME_BASE_MS = 1_700_000_000_000


def record(i):
    return b"key-%d" % i, b"value-%d " % i * (1 + i % 11), [("n", b"%d" % i)], TIME_BASE_MS + i


def check_records(got, total):
    """got: {partition: [(offset, key, value, headers, timestamp)]}; record i is in i % count."""
    assert sum(map(len, got.values())) == total
    for partition, records in got.items():
        for offset, (at, *content) in enumerate(records):
            assert at == offset, f"partition {partition}: offset {at}, expected {offset}"
            assert tuple(content) == record(offset * PARTITIONS + partition), \
                f"partition {partition} offset {offset}: {content}"


# -- kafka-python

def kp_create(broker, topic, partitions=PARTITIONS):
    from kafka.admin import KafkaAdminClient, NewTopic
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics([NewTopic(topic, partitions, 1, topic_configs={"retention.ms": "-1"})])
    admin.close()


def kp_produce(broker, topic, records, codec, **settings):
    from kafka import KafkaProducer
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", linger_ms=5,
                             compression_type=None if codec == "none" else codec, **settings)
    answers = []
    for i in range(records):
        key, value, headers, timestamp = record(i)
        answers.append(producer.send(topic, value, key, headers, i % PARTITIONS, timestamp))
    producer.flush(60)
    for i, answer in enumerate(answers):
        at = answer.get(timeout=30)
        assert (at.partition, at.offset) == (i % PARTITIONS, i // PARTITIONS), (i, at)
    producer.close()


def kp_consumer(broker):
    from kafka import KafkaConsumer
    return KafkaConsumer(bootstrap_servers=broker.bootstrap, auto_offset_reset="none",
                         enable_auto_commit=False, check_crcs=True)


def kp_read_all(consumer, topic, total):
    from kafka import TopicPartition
    parts = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    consumer.assign(parts)
    for part in parts:
        consumer.seek(part, 0)
    got = {p: [] for p in range(PARTITIONS)}
    end = time.monotonic() + 60
    while sum(map(len, got.values())) < total:
        assert time.monotonic() < end, f"{sum(map(len, got.values()))} of {total} after 60 s"
        for part, messages in consumer.poll(500).items():
            got[part.partition] += [(m.offset, m.key, m.value, list(m.headers), m.timestamp)
                                    for m in messages]
    return got


@sanitized
@timeout(240)
def test_kafka_python_codecs():
    need_module("kafka")
    records = 60_000 if is_full() else 6_000
    with Broker() as broker:
        for codec in CODECS:
            kp_create(broker, codec)
            kp_produce(broker, codec, records, codec)
            consumer = kp_consumer(broker)
            check_records(kp_read_all(consumer, codec, records), records)
            consumer.close()


def test_kafka_python_idempotent():
    need_module("kafka")
    with Broker() as broker:
        kp_create(broker, "sure")
        kp_produce(broker, "sure", 6_000, "none", enable_idempotence=True)
        broker.restart(kill=True)
        consumer = kp_consumer(broker)
        check_records(kp_read_all(consumer, "sure", 6_000), 6_000)
        consumer.close()


@sanitized
def test_kafka_python_offsets():
    """Ends, beginnings, and offsets by time: before, at, between and behind the records; then the
    same after a restart, when the index comes from disk."""
    from_module = need_module("kafka")
    part = from_module.TopicPartition("offsets", 0)
    records = 6_000
    each = records // PARTITIONS
    with Broker() as broker:
        kp_create(broker, "offsets")
        kp_produce(broker, "offsets", records, "gzip")
        for turn in range(2):
            consumer = kp_consumer(broker)
            assert consumer.beginning_offsets([part]) == {part: 0}
            assert consumer.end_offsets([part]) == {part: each}
            # Record n of partition 0 has time base + n * PARTITIONS.
            for n in (0, 1, 499, each - 1):
                for early in (0, PARTITIONS - 1):
                    wanted = TIME_BASE_MS + n * PARTITIONS - early
                    found = consumer.offsets_for_times({part: wanted})[part]
                    assert (found.offset, found.timestamp) == (n, TIME_BASE_MS + n * PARTITIONS), \
                        (n, early, found)
            assert consumer.offsets_for_times({part: 0})[part].offset == 0
            behind = TIME_BASE_MS + records * PARTITIONS
            assert consumer.offsets_for_times({part: behind})[part] is None
            consumer.close()
            if turn == 0:
                broker.restart()


# -- confluent-kafka

def ck_admin(broker):
    from confluent_kafka.admin import AdminClient
    return AdminClient({"bootstrap.servers": broker.bootstrap})


def ck_wait(futures):
    return {name: future.result(timeout=30) for name, future in futures.items()}


def ck_create(broker, topic, partitions=PARTITIONS):
    from confluent_kafka.admin import NewTopic
    admin = ck_admin(broker)  # must outlive its futures
    ck_wait(admin.create_topics([NewTopic(topic, partitions, 1, config={"retention.ms": "-1"})]))


def ck_produce(broker, topic, records, codec, **settings):
    """Idempotent; every delivery report must have the offset that the order says."""
    from confluent_kafka import Producer
    producer = Producer({"bootstrap.servers": broker.bootstrap, "compression.type": codec,
                         "enable.idempotence": True, "linger.ms": 5, **settings})
    seen = []

    def report_for(i):
        def report(error, message):
            assert error is None, error
            seen.append(i)
            assert (message.partition(), message.offset()) == (i % PARTITIONS, i // PARTITIONS), i
        return report
    for i in range(records):
        key, value, headers, timestamp = record(i)
        while len(producer) > QUEUED_MAX:  # the library's own queue takes 100,000
            producer.poll(0.1)
        producer.produce(topic, value, key, partition=i % PARTITIONS, timestamp=timestamp,
                         headers=headers, on_delivery=report_for(i))
        producer.poll(0)
    assert producer.flush(60) == 0
    assert len(seen) == records


def ck_consumer(broker):
    from confluent_kafka import Consumer
    # librdkafka wants a group id; assign() with commits off never uses it.
    return Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "unused",
                     "enable.auto.commit": False, "auto.offset.reset": "error",
                     "check.crcs": True, "enable.partition.eof": False})


def ck_read_all(consumer, topic, total):
    from confluent_kafka import TopicPartition
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    got = {p: [] for p in range(PARTITIONS)}
    end = time.monotonic() + 60
    count = 0
    while count < total:
        assert time.monotonic() < end, f"{count} of {total} after 60 s"
        for m in consumer.consume(5_000, 0.5):
            assert m.error() is None, m.error()
            got[m.partition()].append((m.offset(), m.key(), m.value(), m.headers(),
                                       m.timestamp()[1]))
            count += 1
    return got


@sanitized
@timeout(240)
def test_confluent_codecs():
    need_module("confluent_kafka")
    records = 120_000 if is_full() else 24_000
    with Broker() as broker:
        for codec in CODECS:
            ck_create(broker, codec)
            ck_produce(broker, codec, records, codec)
            consumer = ck_consumer(broker)
            check_records(ck_read_all(consumer, codec, records), records)
            consumer.close()


@params("shard", "numa", "host", slow=["numa"])
def test_confluent_watermarks(advertise):
    from_module = need_module("confluent_kafka")
    with Broker(advertise=advertise) as broker:
        ck_create(broker, "marks")
        ck_produce(broker, "marks", 6_000, "none")
        consumer = ck_consumer(broker)
        for p in range(PARTITIONS):
            part = from_module.TopicPartition("marks", p)
            assert consumer.get_watermark_offsets(part, timeout=30) == (0, 1_000)
            wanted = from_module.TopicPartition("marks", p, TIME_BASE_MS + 600)
            assert consumer.offsets_for_times([wanted], timeout=30)[0].offset == 100
        consumer.close()


def ck_error_name(future):
    from confluent_kafka import KafkaException
    try:
        future.result(timeout=30)
    except KafkaException as error:
        return error.args[0].name()
    return None


@sanitized
def test_confluent_admin():
    """Topics made, made twice, made wrongly, widened, listed, deleted."""
    need_module("confluent_kafka")
    from confluent_kafka.admin import NewPartitions, NewTopic
    with Broker() as broker:
        admin = ck_admin(broker)
        ck_create(broker, "wide", 2)
        for topic, error in ((NewTopic("wide", 2, 1), "TOPIC_ALREADY_EXISTS"),
                             (NewTopic("bad name!", 1, 1), "TOPIC_EXCEPTION"),
                             (NewTopic("none", 0, 1), "INVALID_PARTITIONS")):
            assert ck_error_name(admin.create_topics([topic])[topic.topic]) == error, topic
        ck_wait(admin.create_partitions([NewPartitions("wide", PARTITIONS)]))
        fewer = admin.create_partitions([NewPartitions("wide", 3)])
        assert ck_error_name(fewer["wide"]) == "INVALID_PARTITIONS"
        ck_produce(broker, "wide", 6_000, "zstd")
        metadata = admin.list_topics(timeout=30).topics
        assert sorted(metadata) == ["wide"] and len(metadata["wide"].partitions) == PARTITIONS
        ck_wait(admin.delete_topics(["wide"]))
        assert ck_error_name(admin.delete_topics(["wide"])["wide"]) == "UNKNOWN_TOPIC_OR_PART"
        end = time.monotonic() + 10
        while admin.list_topics(timeout=30).topics:
            assert time.monotonic() < end, "still listed 10 s after its deletion"


def test_confluent_list_offsets():
    from_module = need_module("confluent_kafka")
    from confluent_kafka.admin import OffsetSpec
    with Broker() as broker:
        ck_create(broker, "listed")
        ck_produce(broker, "listed", 6_000, "lz4")
        admin = ck_admin(broker)
        part = from_module.TopicPartition("listed", 1)
        at = TIME_BASE_MS + 1 + 300 * PARTITIONS
        for spec, offset in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 1_000),
                             (OffsetSpec.max_timestamp(), 999),
                             (OffsetSpec.for_timestamp(at), 300)):
            found = admin.list_offsets({part: spec})[part].result(timeout=30)
            assert found.offset == offset, (spec, found.offset)


@timeout(180)
def test_confluent_consumer_stays_over_kill9():
    """The consumer is assigned once; after kill -9 and restart it reads on."""
    need_module("confluent_kafka")
    from confluent_kafka import TopicPartition
    with Broker() as broker:
        ck_create(broker, "kept")
        consumer = ck_consumer(broker)
        ck_produce(broker, "kept", 6_000, "none")
        check_records(ck_read_all(consumer, "kept", 6_000), 6_000)
        broker.restart(kill=True)
        producer = __import__("confluent_kafka").Producer({"bootstrap.servers": broker.bootstrap})
        for i in range(600):
            producer.produce("kept", b"after %d" % i, partition=0)
        assert producer.flush(30) == 0
        end, values = time.monotonic() + 60, []
        while len(values) < 600:
            assert time.monotonic() < end, f"{len(values)} of 600 after 60 s"
            values += [(m.offset(), m.value()) for m in consumer.consume(600, 0.5)
                       if m.error() is None]
        assert values == [(1_000 + i, b"after %d" % i) for i in range(600)]
        assert consumer.position([TopicPartition("kept", 0)])[0].offset == 1_600
        consumer.close()
