"""The scrub of the running broker: it names a damaged place, and the rest is served on."""
import os
import re
import time

from lib.broker import Broker
from lib.kafka_wire import (Connection, batch, batch_values, create_topics, fetch,
                            leader_connection, list_offset, produce)
from lib.testcase import sanitized

TOPIC = "cold"
RECORDS = 120
DAMAGE = re.compile(r"cold-0: scrub: (\S+) is damaged from byte (\d+) to (\d+): "
                    r"offsets (\d+) to (\d+) are lost, the next good one is (\d+)")
PASS = re.compile(r"scrub: (\d+) bytes of sealed segments read in \d+ s, (\d+) damaged places")


def wait_for(broker, pattern, after=0, timeout_s=30):
    end = time.monotonic() + timeout_s
    while (match := pattern.search(broker.log(), after)) is None:
        assert time.monotonic() < end, f"no {pattern.pattern}\n{broker.log_tail()}"
        time.sleep(0.05)
    return match


def flip_byte(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0x10]))
        file.flush()
        os.fsync(file.fileno())


def read_from(connection, offset, end):
    """{offset: value} of what can be read; a damaged batch is an error or nothing, and skipped."""
    values = {}
    while offset < end:
        error, _, data = fetch(connection, TOPIC, offset, max_bytes=1 << 20)
        found = [(at, value) for at, value in batch_values(data) if at >= offset] \
            if error == 0 else []
        values.update(found)
        offset = found[-1][0] + 1 if found else offset + 1
    return values


@sanitized
def test_damage_in_a_sealed_segment_is_named():
    options = {"log.scrub.interval.ms": 1000, "log.scrub.bytes.per.second": "64m",
               "journal.bytes": "32m"}
    with Broker(shards=1, memory="64m", options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], 1, [("segment.bytes", str(1 << 20))])
        value = [b"%06d" % number + b"v" * 20_000 for number in range(RECORDS)]
        with leader_connection(broker, TOPIC) as connection:
            for number in range(RECORDS):
                assert produce(connection, TOPIC, batch([value[number]])) == (0, number)
        sound = wait_for(broker, PASS)
        assert int(sound[1]) > 0 and int(sound[2]) == 0, sound[0]
        broker.restart()  # what is in memory still is read from there

        sealed = broker.segments(TOPIC, 0)[0]
        size = len(batch([value[0]]))
        assert os.path.getsize(sealed) > 20 * size
        flip_byte(sealed, 10 * size + 1000)
        found = wait_for(broker, DAMAGE)
        assert found.groups() == (sealed, str(10 * size), str(11 * size), "10", "10", "11")
        again = wait_for(broker, PASS, found.end())
        assert int(again[2]) == 1, again[0]

        with leader_connection(broker, TOPIC) as connection:
            assert list_offset(connection, TOPIC, -1) == (0, RECORDS)
            back = read_from(connection, 0, RECORDS)
        missing = [number for number in range(RECORDS) if number not in back]
        assert all(back[number] == value[number] for number in back)
        print(f"{found[0]}; offsets not read back: {missing}")
        assert missing == [10], missing
