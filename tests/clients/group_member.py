"""A member of a consumer group, for groups.py: group_member.py CLIENT BOOTSTRAP TOPIC GROUP [INSTANCE]

CLIENT is confluent or kafka-python. "MICROS got PARTITION OFFSET" of each record, then "MICROS committed
PARTITION NEXT" when the broker has taken the commit. SIGTERM: it leaves its group.
"""
import signal
import sys
import time

SESSION_MS, HEARTBEAT_MS = 3_000, 300


class Stop(Exception):
    pass


def stop(*_):
    raise Stop


def say(what):
    print(int(time.time() * 1e6), what, flush=True)


def say_got(records):
    """Say it of (partition, offset)s; return where to go on, by partition."""
    for partition, offset in records:
        say(f"got {partition} {offset}")
    return {partition: offset + 1 for partition, offset in records}


def say_committed(following):
    for partition, offset in following.items():
        say(f"committed {partition} {offset}")


def confluent(bootstrap, topic, group, instance=None):
    from confluent_kafka import Consumer, KafkaException
    settings = {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
                "auto.offset.reset": "earliest", "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": HEARTBEAT_MS, "reconnect.backoff.max.ms": 500,
                "topic.metadata.refresh.interval.ms": 1_000}
    if instance is not None:
        settings["group.instance.id"] = instance
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    try:
        while True:
            following = say_got([(m.partition(), m.offset()) for m in consumer.consume(50, 0.2)
                                 if m.error() is None])
            if following:
                try:
                    consumer.commit(asynchronous=False)
                    say_committed(following)
                except KafkaException:
                    pass  # not ours any more, or no broker: somebody will read it again
    except Stop:
        consumer.close()


def kafka_python(bootstrap, topic, group, instance=None):
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False,
        auto_offset_reset="earliest", session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS, max_poll_records=50, reconnect_backoff_max_ms=500,
        **({} if instance is None else {"group_instance_id": instance}))
    try:
        while True:
            polled = consumer.poll(200)
            following = say_got([(m.partition, m.offset) for ms in polled.values() for m in ms])
            if following:
                try:
                    consumer.commit()
                    say_committed(following)
                except KafkaError:
                    pass
    except Stop:
        consumer.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    {"confluent": confluent, "kafka-python": kafka_python}[sys.argv[1]](*sys.argv[2:])
