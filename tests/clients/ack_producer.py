"""Produce a file line by line and write down every acknowledgement; a program, run by tests.

Usage: ack_producer.py BOOTSTRAP TOPIC PARTITION FILE LOG [PROPERTY=VALUE]...
Record i is "i LINE". LOG gets a line "OFFSET i" for each delivery report without an error, in
the order of the reports, written at once. Failed deliveries go to stdout as "failed i: WHY" and
do not end the program: what counts is what was acknowledged.
Ends when all reports are in, printing "acknowledged A failed F".
"""
import os
import sys

from confluent_kafka import KafkaException, Producer


class AckLog:
    def __init__(self, path):
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.acknowledged = 0
        self.failed = 0

    def report_for(self, number):
        def report(error, message):
            if error is None:
                self.acknowledged += 1
                os.write(self.fd, b"%d %d\n" % (message.offset(), number))
            else:
                self.failed += 1
                print(f"failed {number}: {error}", flush=True)
        return report


def send(producer, topic, partition, value, report):
    while True:
        try:
            producer.produce(topic, value, partition=partition, on_delivery=report)
            return
        except BufferError:
            producer.poll(0.1)


def main(bootstrap, topic, partition, path, log_path, *properties):
    settings = {"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 5,
                "queue.buffering.max.messages": 20000}
    settings.update(entry.split("=", 1) for entry in properties)
    producer = Producer(settings)
    log = AckLog(log_path)
    with open(path, "rb") as lines:
        for number, line in enumerate(lines):
            value = b"%d %s" % (number, line.rstrip(b"\n"))
            send(producer, topic, int(partition), value, log.report_for(number))
            producer.poll(0)
    left = producer.flush(120)
    print(f"acknowledged {log.acknowledged} failed {log.failed}", flush=True)
    if left:
        sys.exit(f"{left} records have no report after 120 s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KafkaException as error:
        sys.exit(f"ack_producer: {error}")
