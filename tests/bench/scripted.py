"""The scripted Kafka server against real clients: what the load harness is tested against has to be
a Kafka server to others first, and its damage has to be seen by others."""
import os
import socket
import subprocess
import threading
import time

from lib.broker import temp_dir
from lib.clients import kcat_consume, kcat_produce, need_module
from lib.kafka_wire import Connection, batch, batch_values, create_topics, fetch, metadata, produce
from lib.scripted import BINARY, ScriptedBroker
from lib.testcase import alone, params
from lib.text import sha256, text_file
from lib.timing import best_of, in_time

MOSTLY_WAITS = True

MIB = 1 << 20
TOPIC = "scripted"
NOT_LEADER, OUT_OF_ORDER = 6, 45


def produce_all(server, values, **settings):
    """With librdkafka, one partition; the number of values that were acknowledged."""
    need_module("confluent_kafka")
    from confluent_kafka import Producer
    acknowledged = []
    producer = Producer({"bootstrap.servers": server.bootstrap, "log_level": 0, **settings})
    for value in values:
        producer.produce(TOPIC, value, partition=0, on_delivery=lambda error, message:
                         acknowledged.append(message.value()) if error is None else None)
    assert producer.flush(60) == 0, "librdkafka is still waiting"
    return len(acknowledged)


def consume_all(server):
    """With kcat, which checks the CRCs."""
    path = os.path.join(temp_dir("scripted"), "back")
    kcat_consume(server, TOPIC, path)
    with open(path, "rb") as back:
        return back.read().splitlines()


def numbered(first, last):
    return [b"value %d" % number for number in range(first, last + 1)]


@params("none", "gzip", "snappy", "lz4", "zstd")
def test_text_comes_back(codec):
    path = text_file(4 * MIB)
    back = os.path.join(temp_dir("scripted"), "back")
    with open(path, "rb") as text:
        lines = sum(1 for _ in text)
    with ScriptedBroker(partitions=3) as server:
        kcat_produce(server, TOPIC, path, partition=2, settings=[
            "compression.codec=" + codec, "queue.buffering.max.messages=1000000"])
        kcat_consume(server, TOPIC, back, partition=2)
        saw = server.stop()
    assert sha256(back) == sha256(path)
    assert saw["records"] == saw["stored_records"] == lines, (saw, lines)
    assert saw["fetched_bytes"] == saw["record_bytes"]
    if codec != "none":
        assert saw["record_bytes"] < 4 * MIB, "not compressed"


@params("0", "1", "all")
def test_acks(acks):
    values = numbered(1, 1000)
    with ScriptedBroker(service_us=200) as server:
        assert produce_all(server, values, acks=acks) == 1000
        end = time.monotonic() + 10
        while acks == "0" and len(consume_all(server)) < 1000 and time.monotonic() < end:
            time.sleep(0.01)
        assert consume_all(server) == values
        saw = server.stop()
    assert saw["busy_ns"] == saw["produce_requests"] * 200_000


def test_librdkafka_sees_the_damage():
    values = numbered(1, 100)
    with ScriptedBroker(lose_record=10, repeat_record=20, swap_record=30,
                        corrupt_record=40) as server:
        assert produce_all(server, values, **{"acks": "all", "linger.ms": 50}) == 100
        back = consume_all(server)
        saw = server.stop()
    expected = numbered(1, 100)
    expected[29], expected[30] = expected[30], expected[29]
    expected[39] = b"value 4" + bytes([ord("0") ^ 0xff])
    expected[19:20] = expected[19:20] * 2
    del expected[9]
    assert back == expected
    assert [saw[kind + "_records"] for kind in ("lost", "repeated", "swapped", "corrupted")] == \
        [1, 1, 1, 1]


@params(True, False)
def test_a_lost_answer_is_asked_for_again(idempotent):
    """Twice in the log, unless the producer has an id: then the server knows the batch. It leaves
    when it is full, so that it holds all of them however slowly this process gets on."""
    values = numbered(1, 5)
    with ScriptedBroker(lose_ack=1) as server:
        assert produce_all(server, values, **{
            "enable.idempotence": idempotent, "acks": "all",
            "linger.ms": 60_000, "batch.num.messages": 5,
            "request.timeout.ms": 1000, "socket.timeout.ms": 2000}) == 5
        back = consume_all(server)
        saw = server.stop()
    assert saw["lost_acks"] == 1 and saw["produce_requests"] == 2, saw
    assert saw["duplicate_batches"] == (1 if idempotent else 0)
    assert back == values * (1 if idempotent else 2)


@params("error_request", "close_request")
def test_a_failed_request_is_sent_again(behaviour):
    values = numbered(1, 5)
    with ScriptedBroker(**{behaviour: 1}) as server:
        assert produce_all(server, values, acks="all") == 5
        assert consume_all(server) == values
        saw = server.stop()
    assert saw["errored_requests" if behaviour == "error_request" else "closed_requests"] == 1
    assert saw["stored_records"] == 5 and saw["produce_requests"] >= 2, saw


def test_an_idempotent_producer_keeps_its_order():
    """What follows a batch that went wrong is refused until that one has come, as by any broker."""
    def send(sequence, epoch=0):
        return produce(connection, TOPIC, batch([b"x"], producer=(7, epoch, sequence)))
    with ScriptedBroker(error_request=2) as server, Connection(server) as connection:
        create_topics(connection, [TOPIC])
        assert send(5) == (0, 0), "it may begin anywhere"
        assert send(6)[0] == NOT_LEADER
        assert send(7)[0] == OUT_OF_ORDER and send(4)[0] == OUT_OF_ORDER
        assert [send(6), send(7), send(6)] == [(0, 1), (0, 2), (0, 1)], "the last is there already"
        assert send(0, epoch=1) == (0, 3)
        assert produce(connection, TOPIC, batch([b"of nobody"])) == (0, 4)


def test_old_batches_make_room():
    with ScriptedBroker(max_records=100) as server, Connection(server) as connection:
        create_topics(connection, [TOPIC])
        for number in range(50):
            assert produce(connection, TOPIC, batch(numbered(1, 10))) == (0, number * 10)
        assert fetch(connection, TOPIC, 0)[0] == 1, "the start is out of range"
        error, high, records = fetch(connection, TOPIC, 400)
        assert (error, high) == (0, 500)
        assert batch_values(records) == list(enumerate(numbered(1, 10) * 10, 400))


# -- time, as another process sees it

# Answers are never early. On an idle machine they are a thousand times less late.
LATE_S = 0.05


def timed_produce(connection):
    data = batch([b"x"])
    begin = time.monotonic()
    assert produce(connection, TOPIC, data)[0] == 0
    return begin, time.monotonic()


def ten_at_once():
    """Of ten requests on connections of their own: when each began and was answered."""
    with ScriptedBroker(service_us=20_000) as server:
        connections = [Connection(server) for _ in range(10)]
        create_topics(connections[0], [TOPIC])
        took = []
        threads = [threading.Thread(target=lambda c=c: took.append(timed_produce(c)))
                   for c in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.stop()["busy_ns"] == 200_000_000
    return took


@alone
def test_requests_are_served_one_after_another():
    """Ten connections at once: the answers come 20 ms apart."""
    def once():
        took = ten_at_once()
        begin, ends = min(begin for begin, _ in took), sorted(end for _, end in took)
        for number, end in enumerate(ends, 1):
            late = end - begin - 0.02 * number
            assert late >= 0, (number, late)
            in_time(late < LATE_S, (number, late))
    best_of(once)


def check_freeze(begin, end):
    """Whether a freeze was met by a request that was under way from begin to end."""
    freeze = next((f for f in (0.3, 1.3) if begin < f + 0.2 and f < end), None)
    if freeze is None or end - begin <= 0.1:
        assert 0.001 <= end - begin
        in_time(end - begin < LATE_S, (begin, end))
        return False
    # The first request came to the server a little after the clock here began.
    in_time(0 < end - freeze - 0.2 < LATE_S, (begin, end))
    return True


@alone
def test_a_freeze_delays_what_it_meets():
    def once():
        with ScriptedBroker(service_us=1000, freeze_first_ms=300, freeze_every_ms=1000,
                            freeze_ms=200) as server, Connection(server) as connection:
            create_topics(connection, [TOPIC])
            first, _ = timed_produce(connection)
            met = 0
            while time.monotonic() < first + 2.2:
                begin, end = timed_produce(connection)
                met += check_freeze(begin - first, end - first)
        in_time(met == 2, f"{met} of 2 freezes met")
    best_of(once)


@alone
def test_a_bounded_rate():
    """2000 records in batches of 100 at 4000 a second."""
    def once():
        with ScriptedBroker(rate=4000) as server, Connection(server) as connection:
            create_topics(connection, [TOPIC])
            data = batch(numbered(1, 100))
            begin = time.monotonic()
            for _ in range(20):
                assert produce(connection, TOPIC, data)[0] == 0
            took = time.monotonic() - begin
        assert took >= 0.5, took
        in_time(took < 1, took)
    best_of(once)


# -- the program

@params("--rate x", "--freeze-ms 5 --freeze-every-ms 5", "--listen nowhere", "--what 1", "word",
        "--service-us -1")
def test_bad_options_are_refused(options):
    done = subprocess.run([BINARY] + options.split(), capture_output=True, timeout=20)
    assert done.returncode == 2 and done.stderr and not done.stdout, done


def test_a_taken_port_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run([BINARY, "--listen", listen], capture_output=True, timeout=20)
    assert done.returncode == 1 and b"in use" in done.stderr, done


def test_garbage_closes_the_connection_only():
    with ScriptedBroker() as server:
        for data in (b"\0\0\0\4abcd", b"\xff\xff\xff\xff", b"\0\0\0\0"):
            with Connection(server) as connection:
                connection.send(data)
                assert connection.is_closed()
        with Connection(server) as connection:
            assert metadata(connection)
