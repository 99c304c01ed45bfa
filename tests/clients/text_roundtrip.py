"""A real text goes in line by line with kcat and comes back byte for byte, whatever happens."""
import os
import time

from lib.broker import Broker, is_sanitized
from lib.clients import (Child, is_full, kcat_consume, kcat_produce, need_command, need_module,
                         python_child)
from lib.testcase import params, sanitized, slow, timeout
from lib.text import MIB, sha256, text_file
from lib.timing import best_of, in_time

TOPIC = "text"


def text_size():
    if is_sanitized():
        return 4 * MIB
    return 48 * MIB if is_full() else 10 * MIB


def check_back(broker, text, times=1):
    """The partition holds the text `times` times, and nothing else."""
    back = os.path.join(broker.dir, "back")
    kcat_consume(broker, TOPIC, back)
    want = text if times == 1 else os.path.join(broker.dir, "want")
    if times > 1:
        with open(text, "rb") as source, open(want, "wb") as out:
            out.write(source.read() * times)
    assert os.path.getsize(back) == os.path.getsize(want), "another number of bytes came back"
    assert sha256(back) == sha256(want)


@sanitized
@timeout(300)
@params("shard", "numa", "host", slow=["numa"], plain=["host"])  # numa: as host, on one NUMA node
def test_roundtrip(advertise):
    """acks=1 from kcat's default, then acks=all; after a clean restart; after kill -9 at rest."""
    text = text_file(text_size())
    with Broker(advertise=advertise) as broker:
        kcat_produce(broker, TOPIC, text)
        check_back(broker, text)
        broker.restart()
        check_back(broker, text)
        kcat_produce(broker, TOPIC, text, settings=["acks=all"])
        broker.restart(kill=True)
        check_back(broker, text, times=2)


@timeout(300)
@params("gzip", "snappy", "lz4", "zstd")
def test_roundtrip_compressed(codec):
    text = text_file(text_size())
    with Broker() as broker:
        kcat_produce(broker, TOPIC, text, settings=["acks=all", f"compression.codec={codec}"])
        check_back(broker, text)
        broker.restart(kill=True)
        check_back(broker, text)


def wait_for_acks(log_path, producer, wanted):
    end = time.monotonic() + 60
    while True:
        if os.path.exists(log_path):
            with open(log_path, "rb") as log:
                if log.read().count(b"\n") >= wanted:
                    return
        in_time(producer.process.poll() is None, f"it ended before {wanted} acks were seen")
        if time.monotonic() > end:
            producer.fail(f"{wanted} records not acknowledged after 60 s")
        time.sleep(0.01)


def read_acks(log_path):
    """{record number: offset}, each acknowledged once."""
    acks = {}
    with open(log_path, "rb") as log:
        for line in log:
            offset, number = map(int, line.split())
            assert number not in acks, f"record {number} acknowledged twice"
            acks[number] = offset
    return acks


def read_back(broker):
    """The values by offset; kcat must give them in order, without a gap, from 0."""
    path = os.path.join(broker.dir, "back")
    kcat_consume(broker, TOPIC, path, form="%o %s\n")
    values = []
    with open(path, "rb") as back:
        for line in back:
            offset, _, value = line.rstrip(b"\n").partition(b" ")
            assert int(offset) == len(values), f"offset {int(offset)} after {len(values) - 1}"
            values.append(value)
    return values


def numbered(lines):
    return [b"%d %s" % (number, line) for number, line in enumerate(lines)]


def check_acknowledged(values, acks, lines, first):
    """Every acknowledged record is at its offset, and nowhere else."""
    for number, offset in acks.items():
        want = b"%d %s" % (number, lines[number])
        assert first <= offset < len(values), f"record {number}: offset {offset} is lost"
        assert values[offset] == want, f"offset {offset}: {values[offset]!r}, not {want!r}"
    second_pass = values[first:]
    assert len(set(second_pass)) == len(second_pass), "a record is there twice"
    numbers = [int(value.partition(b" ")[0]) for value in second_pass]
    assert numbers == sorted(numbers), "records changed their order"
    assert set(second_pass) <= set(numbered(lines)), "a record that nobody sent"


def kill_in_the_middle(broker, text, settings):
    """Produce the text with an acknowledgement log; kill -9 at about a sixth, start at once."""
    log_path = os.path.join(broker.dir, "acks")
    with open(text, "rb") as source:
        lines = source.read().split(b"\n")[:-1]
    command = python_child("ack_producer.py", broker.bootstrap, TOPIC, 0, text, log_path, *settings)
    with Child(command, os.path.join(broker.dir, "producer.log")) as producer:
        wait_for_acks(log_path, producer, len(lines) // 6)
        broker.kill9()
        in_time(producer.process.poll() is None, "the producer was done before the kill")
        broker.start()
        said = producer.wait(120)
    acks = read_acks(log_path)
    assert said[-1].startswith(f"acknowledged {len(acks)} failed "), said[-1]
    return lines, acks


def first_pass(broker, text):
    kcat_produce(broker, TOPIC, text, settings=["acks=all"])
    broker.restart()


@sanitized
@timeout(300)
@params("shard", "numa", "host", slow=["numa"], plain=["host"])  # numa: as host, on one NUMA node
def test_kill9_second_pass(advertise):
    """An idempotent producer goes on through the kill: the whole text once, in order."""
    need_module("confluent_kafka")
    best_of(lambda: second_pass(advertise, text_file(text_size())))


def second_pass(advertise, text):
    with Broker(advertise=advertise) as broker:
        first_pass(broker, text)
        lines, acks = kill_in_the_middle(broker, text, ["enable.idempotence=true"])
        assert len(acks) == len(lines), f"{len(acks)} of {len(lines)} acknowledged"
        values = read_back(broker)
        assert values[:len(lines)] == lines, "the first pass changed"
        check_acknowledged(values, acks, lines, first=len(lines))
        assert values[len(lines):] == numbered(lines)
        broker.restart()
        assert read_back(broker) == values, "a clean restart changed it"


@timeout(300)
def test_kill9_without_retries():
    """A producer that never sends anything twice: what it got acknowledged is there once."""
    need_module("confluent_kafka")
    text = text_file(text_size())

    def once():
        with Broker() as broker:
            first_pass(broker, text)
            lines, acks = kill_in_the_middle(broker, text, ["retries=0", "message.timeout.ms=5000"])
            values = read_back(broker)
            assert values[:len(lines)] == lines, "the first pass changed"
            check_acknowledged(values, acks, lines, first=len(lines))
            in_time(len(acks) < len(lines), "the kill hit nothing: all was acknowledged")
    best_of(once)


@slow
@timeout(900)
def test_kill9_again_and_again():
    """Ten kills over one text: each record once, in order."""
    need_module("confluent_kafka")
    need_command("kcat")
    text = text_file(text_size())
    with open(text, "rb") as source:
        lines = source.read().split(b"\n")[:-1]
    with Broker() as broker:
        log_path = os.path.join(broker.dir, "acks")
        command = python_child("ack_producer.py", broker.bootstrap, TOPIC, 0, text, log_path,
                               "enable.idempotence=true")
        with Child(command, os.path.join(broker.dir, "producer.log")) as producer:
            for turn in range(10):
                wait_for_acks(log_path, producer, (turn + 1) * len(lines) // 12)
                broker.restart(kill=True)
            producer.wait(300)
        acks = read_acks(log_path)
        values = read_back(broker)
        assert values == numbered(lines)
        assert acks == {number: number for number in range(len(lines))}
