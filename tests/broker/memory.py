"""Memory far smaller than the load: back-pressure at the connections, never a stall or a loss."""
import threading
import time

from lib.broker import Broker
from lib.clients import need_module
from lib.testcase import params, sanitized, timeout

TOPIC = "tight"


def produce_all(broker, partitions, size, count):
    """Returns how many were acknowledged."""
    from confluent_kafka import Producer
    acknowledged = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all", "linger.ms": 5,
                         "enable.idempotence": True, "queue.buffering.max.kbytes": 100000})
    for i in range(count):
        while True:
            try:
                producer.produce(TOPIC, value=b"%08d" % i + b"v" * size, partition=i % partitions,
                                 callback=lambda error, _: acknowledged.append(error is None))
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0, "not all was answered"
    return sum(acknowledged)


def consume_all(broker, partitions, count, got, deadline):
    from confluent_kafka import Consumer, TopicPartition
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "none",
                         "enable.auto.commit": False, "check.crcs": True})
    consumer.assign([TopicPartition(TOPIC, p, 0) for p in range(partitions)])
    while len(got) < count and time.monotonic() < deadline:
        for message in consumer.consume(500, 0.5):
            assert message.error() is None, message.error()
            got.append((message.partition(), message.offset(), int(message.value()[:8])))
    consumer.close()


LOADS = {"24M": (6, 50000, 2000), "64M": (400, 20000, 5000)} # partitions, record bytes, records


@params(*LOADS)
@sanitized
@timeout(120)
def test_load_larger_than_memory(memory):
    partitions, size, count = LOADS[memory]
    need_module("confluent_kafka")
    from confluent_kafka.admin import AdminClient, NewTopic
    with Broker(shards=2, memory=memory, options={"journal.bytes": "64m"}) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for answer in admin.create_topics([NewTopic(TOPIC, partitions)]).values():
            answer.result()
        got = []
        consumer = threading.Thread(target=consume_all, args=(
            broker, partitions, count, got, time.monotonic() + 100))
        consumer.start()
        assert produce_all(broker, partitions, size, count) == count
        consumer.join()
        assert len(got) == count
        for partition, offset, number in got:
            assert number == offset * partitions + partition
