"""A member of a consumer group, for groups.py: group_member.py CLIENT BOOTSTRAP TOPIC GROUP [INSTANCE]

CLIENT is confluent or kafka-python. "MICROS got PARTITION OFFSET" of each record, then "MICROS committed
PARTITION NEXT" when the broker has taken the commit, or "MICROS refused PARTITION NEXT" as from one who is no
member, or not of that partition, any more. SIGTERM: it leaves its group.
"""
import signal
import sys
import time

SESSION_MS, HEARTBEAT_MS = 3_000, 300
STATIC_SESSION_MS = 30_000  # it comes back within that


class Stop(Exception):
    pass


def session_ms(instance):
    return SESSION_MS if instance is None else STATIC_SESSION_MS


def stop(*_):
    raise Stop


def say(what):
    print(int(time.time() * 1e6), what, flush=True)


def say_got(records, uncommitted):
    """Say it of (partition, offset)s, and note where each partition goes on."""
    for partition, offset in records:
        say(f"got {partition} {offset}")
        uncommitted[partition] = offset + 1


def say_refused(uncommitted):
    for partition, offset in uncommitted.items():
        say(f"refused {partition} {offset}")


def say_committed(offsets, uncommitted):
    """What the broker has taken of each partition, and nothing else. What the client did not even ask it to take is
    of partitions that it has lost since."""
    for partition, offset in offsets:
        say(f"committed {partition} {offset}")
        uncommitted.pop(partition, None)
    say_refused(uncommitted)
    uncommitted.clear()


def confluent(bootstrap, topic, group, instance=None):
    from confluent_kafka import Consumer, KafkaError, KafkaException
    settings = {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
                "auto.offset.reset": "earliest", "session.timeout.ms": session_ms(instance),
                "heartbeat.interval.ms": HEARTBEAT_MS, "reconnect.backoff.max.ms": 500,
                "topic.metadata.refresh.interval.ms": 1_000}
    if instance is not None:
        settings["group.instance.id"] = instance
    no_member_any_more = {  # the last two without asking the broker
        KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError._ASSIGNMENT_LOST,
        KafkaError._NO_OFFSET}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    uncommitted = {}
    try:
        while True:
            say_got([(m.partition(), m.offset()) for m in consumer.consume(50, 0.2)
                     if m.error() is None], uncommitted)
            if uncommitted:
                try:
                    done = consumer.commit(asynchronous=False)  # offset < 0: nothing of that one
                    say_committed([(p.partition, p.offset) for p in done
                                   if p.error is None and p.offset >= 0], uncommitted)
                except KafkaException as problem:  # again, with what comes next
                    if problem.args[0].code() in no_member_any_more:
                        say_refused(uncommitted)
    except Stop:
        consumer.close()


def kafka_python(bootstrap, topic, group, instance=None):
    from kafka import ConsumerRebalanceListener, KafkaConsumer
    from kafka.errors import CommitFailedError, KafkaError
    uncommitted = {}

    class Listener(ConsumerRebalanceListener):
        def on_partitions_revoked(self, revoked):
            for taken in revoked:  # what comes back may have gone on elsewhere
                uncommitted.pop(taken.partition, None)

        def on_partitions_assigned(self, assigned):
            pass

    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False,
        auto_offset_reset="earliest", session_timeout_ms=session_ms(instance),
        heartbeat_interval_ms=HEARTBEAT_MS, max_poll_records=50, reconnect_backoff_max_ms=500,
        **({} if instance is None else {"group_instance_id": instance}))
    consumer.subscribe([topic], listener=Listener())
    try:
        while True:
            try:
                polled = consumer.poll(200)
                say_got([(m.partition, m.offset) for ms in polled.values() for m in ms],
                        uncommitted)
                if uncommitted:
                    consumer.commit()  # of all that are assigned, up to what was said
                    say_committed(list(uncommitted.items()), uncommitted)
            except KafkaError as problem:
                if isinstance(problem, CommitFailedError):
                    say_refused(dict(uncommitted))
                time.sleep(0.1)  # again, with what comes next
    except Stop:
        consumer.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    {"confluent": confluent, "kafka-python": kafka_python}[sys.argv[1]](*sys.argv[2:])
