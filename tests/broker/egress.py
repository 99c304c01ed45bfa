"""Each way out of the broker, forced: what consumers get is what was produced, bit by bit, from
memory and from disk, for several at a time, beside one that dawdles, one that is killed and a
partition that is deleted under its readers."""
import json
import os
import signal
import socket
import struct
import subprocess
import time

from lib.broker import BINARY, BUILD
from lib.clients import kcat_consume, kcat_produce, need_command
from lib.kafka_wire import (FETCH, Connection, batch, batch_values, create_topics, delete_topics,
                            fetch, fetch_body, frame, header, leader_connection, produce)
from lib.metrics import metrics_broker, scrape
from lib.testcase import params, sanitized
from lib.text import MIB, sha256, text_file
from lib.timing import best_of, in_time

TOPIC = "text"
SEGMENT_BYTES = 2 * MIB
VERSION = 10  # older clients cannot be sent what was not looked at
COPIES = "the kernel copies what is sent to"


def consumer(broker, out):
    return subprocess.Popen(["kcat", "-C", "-b", broker.bootstrap, "-t", TOPIC, "-p", "0", "-o",
                             "beginning", "-e", "-q", "-X", "check.crcs=true"],
                            stdin=subprocess.DEVNULL, stdout=out)


def check_fan_out(broker, path, expected, readers=3):
    """All read everything at once; one more is killed in the middle."""
    outs = [f"{path}.{number}" for number in range(readers)]
    files = [open(name, "wb") for name in outs]
    victim = consumer(broker, subprocess.DEVNULL)
    children = [consumer(broker, file) for file in files]
    time.sleep(0.03)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert [child.wait(timeout=60) for child in children] == [0] * readers
    for file, name in zip(files, outs):
        file.close()
        assert sha256(name) == expected, name


def check_slow_reader(broker):
    """Takes its reply by and by, with a small window: partial sends, late releases."""
    with leader_connection(broker, TOPIC) as quick:
        _, _, wanted = fetch(quick, TOPIC, 0, max_bytes=2 * MIB, version=VERSION)
    with leader_connection(broker, TOPIC) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        slow.send(frame(header(FETCH, VERSION) +
                        fetch_body(TOPIC, 0, max_bytes=2 * MIB, version=VERSION)))
        size, = struct.unpack(">i", slow.socket.recv(4, socket.MSG_WAITALL))
        got = bytearray()
        while len(got) < size:
            piece = slow.socket.recv(min(30_000, size - len(got)))
            assert piece, f"closed after {len(got)} of {size} bytes"
            got += piece
            time.sleep(0.002)
    assert batch_values(bytes(got[-len(wanted):])) == batch_values(wanted)


def check_small_window(broker):
    """A receive buffer like that of the Java client: packets must not be charged for more than they
    hold, or the window closes and the reply comes by the persist timer, 200 ms a packet."""
    with leader_connection(broker, TOPIC) as reader:
        address = reader.socket.getpeername()
        reader.socket.close()
        reader.socket = socket.socket()
        reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        reader.socket.connect(address)

        def once():
            started = time.monotonic()
            for _ in range(6):
                _, _, data = fetch(reader, TOPIC, 0, max_bytes=4 * MIB, version=VERSION)
                assert len(data) > MIB // 2
            took_s = time.monotonic() - started
            in_time(took_s < 5, f"6 replies took {took_s:.1f} s")
        best_of(once)


def check_deletion(broker, cold):
    """A reply that is not taken yet stays whole while its partition goes and others come, on the
    same files and memory."""
    values = [bytes([65 + number]) * 100_000 for number in range(20)]
    with Connection(broker) as connection:
        create_topics(connection, ["goes"], 1, [("segment.bytes", str(MIB))])
    with leader_connection(broker, "goes") as connection:
        for value in values:
            assert produce(connection, "goes", batch([value]))[0] == 0
    if cold:
        broker.restart()
        with leader_connection(broker, "goes") as first:
            assert len(fetch(first, "goes", 0, max_bytes=4 * MIB, version=VERSION)[2]) > 500_000
        time.sleep(0.1)
    with leader_connection(broker, "goes") as reader, Connection(broker) as connection:
        reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        reader.send(frame(header(FETCH, VERSION) +
                          fetch_body("goes", 0, max_bytes=4 * MIB, version=VERSION)))
        assert reader.socket.recv(1, socket.MSG_PEEK), "closed"  # the reply is under way
        delete_topics(connection, ["goes"])
        create_topics(connection, ["comes"], 1, [("segment.bytes", str(MIB))])
        with leader_connection(broker, "comes") as other:
            for _ in range(40):
                assert produce(other, "comes", batch([b"z" * 100_000]))[0] == 0
        data = reader.response()
    assert data is not None and len(data) > 5 * len(values[0])
    for value in values[:len(data) // (len(values[0]) + 200)]:
        assert value in data, f"{value[:1]} did not come whole"


@params("send", "send_zc", "splice", "auto")
@sanitized
def test_what_comes_out_is_what_went_in(egress):
    need_command("kcat")
    path = text_file(6 * MIB)
    expected = sha256(path)
    options = {"egress": egress, "egress.verify": "false"}
    with metrics_broker(shards=1, memory="64m", options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], 1, [("segment.bytes", str(SEGMENT_BYTES))])
        kcat_produce(broker, TOPIC, path)
        out = os.path.join(broker.dir, "out")
        check_fan_out(broker, out + ".hot", expected)
        broker.restart()  # from now on from disk
        kcat_consume(broker, TOPIC, out)
        assert sha256(out) == expected
        check_fan_out(broker, out + ".cold", expected)
        if egress in ("send_zc", "splice"):  # memory, or a file, is lent for as long as a reader likes
            check_slow_reader(broker)
            check_small_window(broker)
            check_deletion(broker, cold=egress == "splice")
        assert (COPIES in broker.log()) == (egress == "auto"), broker.log_tail()
        spliced = scrape(broker).total("egress_bytes_total", "splice")
        assert (spliced > MIB // 2) == (egress == "splice"), spliced


@params("once", "false")
def test_what_is_verified_before_it_is_spliced(verify):
    """What an earlier reader has verified; all that is sealed."""
    need_command("kcat")
    path = text_file(6 * MIB)
    options = {"egress": "splice", "egress.verify": verify, "log.scrub.bytes.per.second": 0}
    with metrics_broker(shards=1, memory="64m", options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], 1, [("segment.bytes", str(SEGMENT_BYTES))])
        kcat_produce(broker, TOPIC, path)
        broker.restart()
        out, spliced = os.path.join(broker.dir, "out"), [0]
        for _ in range(2):
            kcat_consume(broker, TOPIC, out)
            assert sha256(out) == sha256(path)
            spliced.append(scrape(broker).total("egress_bytes_total", "splice"))
    first, second = spliced[1] - spliced[0], spliced[2] - spliced[1]
    assert second > MIB, spliced
    # The first batch that a read leaves out is verified, too.
    assert first > MIB // 2 if verify == "false" else first < second / 2, spliced


def bench_egress(*arguments):
    done = subprocess.run([BINARY, "bench", "egress", "--seconds", "0.01", *arguments],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_auto_goes_by_what_was_measured():
    need_command("kcat")
    path = text_file(6 * MIB)
    options = {"egress.verify": "false"}
    with metrics_broker(shards=1, memory="64m", options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], 1, [("segment.bytes", str(SEGMENT_BYTES))])
        kcat_produce(broker, TOPIC, path)
        broker.stop()
        profile = os.path.join(broker.dir, "data0", "egress.properties")
        out, text = os.path.join(broker.dir, "out"), bench_egress("--dir", broker.dir,
                                                                  "--save", profile)
        assert "cached splice" in text and "splice pays: " in text, text
        saved = open(profile).read()
        never = "local.splice.min.bytes=never" in saved
        assert never == ("splice pays: never" in text), saved
        for limit, spliced in ("65536", True), ("never", False):
            with open(profile, "w") as file:
                file.write(f"local.splice.min.bytes={limit}\n")
            broker.start()
            kcat_consume(broker, TOPIC, out)
            assert sha256(out) == sha256(path)
            assert (scrape(broker).total("egress_bytes_total", "splice") > 0) == spliced
            broker.stop()
        with open(profile, "w") as file:
            file.write("local.splice.min.bytes=much\n")
        wrong = subprocess.run([BINARY, "serve", "--data", os.path.dirname(profile), "--listen",
                                f"127.0.0.1:{broker.port}"], capture_output=True, text=True,
                               timeout=20)
        assert wrong.returncode == 1 and "egress.properties" in wrong.stderr, wrong.stderr


def test_figures_of_ways_out_as_json():
    figures = json.loads(bench_egress("--dir", os.path.join(BUILD, "tmp"), "--json"))
    assert figures["local"] is True
    for way in "memory send", "disk send":
        assert len(figures["ns_per_byte"][way]) == 5, figures
