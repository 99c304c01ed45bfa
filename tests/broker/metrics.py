"""What a broker counts is what was done to it; over HTTP, in `penstock top`, and against misuse."""
import json
import os
import socket
import subprocess
import time

from lib.broker import BINARY, Broker
from lib.clients import kcat_consume, kcat_produce
from lib.kafka_wire import (Connection, batch, create_topics, fetch, leader_connection, metadata,
                            produce)
from lib.metrics import get, metrics_broker, parsed, scrape
from lib.testcase import sanitized
from lib.timing import best_of, in_time

KIB = 1 << 10
MIB = 1 << 20


def counted(connection):
    """Notes what goes over this connection."""
    connection.sent = connection.received = 0
    send, receive = connection.send, connection._receive

    def counting_send(data):
        connection.sent += len(data)
        return send(data)

    def counting_receive(size):
        data = receive(size)
        connection.received += len(data or b"")
        return data
    connection.send, connection._receive = counting_send, counting_receive
    return connection


def is_the_only_one_left(broker):
    """The connections before it are gone, so all that was sent to them is counted."""
    figures = scrape(broker)
    return figures.total("connections_accepted_total") == 3 and figures.total("connections") == 1


def top(*arguments):
    return subprocess.run([BINARY, "top", *map(str, arguments)], capture_output=True, text=True,
                          timeout=60)


def top_once(broker, *arguments):
    done = top("--connect", broker.metrics_port, "--once", *arguments)
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout


def until(condition, what, timeout_s=30):
    end = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return value


def is_at_rest(broker):
    """A new journal is filled, and nobody works: figures of one look belong together."""
    turns = scrape(broker).total("turns_total")
    time.sleep(0.1)
    return scrape(broker).total("turns_total") == turns


@sanitized
def test_figures_agree_with_what_was_done():
    """Exactly: records, batches, bytes, requests, connections; and what kcat does beside."""
    with metrics_broker(shards=2, memory="128m", options={"journal.bytes": "16m"}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["t"], 2)
        data = batch([b"v" * 900] * 7)
        with counted(leader_connection(broker, "t", 1)) as connection:
            until(lambda: is_the_only_one_left(broker), "the others are still there")
            until(lambda: is_at_rest(broker), "the shards turn all by themselves")
            before = scrape(broker)
            for number in range(40):
                assert produce(connection, "t", data, partition=1) == (0, number * 7)
            error, _, back = fetch(connection, "t", 0, partition=1)
            assert error == 0 and len(back) == 40 * len(data)

            def egress(figures):
                return sum(figures.total("egress_bytes_total", way) for way in ("send", "send_zc"))
            # What was sent is counted when the shard sees its end, which is later than the client does.
            until(lambda: egress(scrape(broker)) - egress(before) >= connection.received,
                  "less was sent than was received")
            now = scrape(broker)

            def grown(name, label=None):
                return now.total(name, label) - before.total(name, label)
            assert grown("append_batches_total") == 40
            assert grown("append_records_total") == 280
            assert grown("append_bytes_total") == 40 * len(data)
            assert grown("requests_total", "Produce") == 40
            assert grown("requests_total", "Fetch") == 1
            assert grown("requests_total", "Metadata") == 0
            assert grown("received_bytes_total") == connection.sent
            assert egress(now) - egress(before) == connection.received
            assert grown("egress_bytes_total", "splice") == 0
            # One request at a time, each answered when it is durable: a write of its own. After a
            # pause the journal also says, in a write without batches, that the last one is durable.
            assert grown("journal_write_bytes") >= grown("journal_write_seconds") >= 40
            assert now.sum("journal_write_batches") - before.sum("journal_write_batches") == 40
            written = now.sum("journal_write_bytes") - before.sum("journal_write_bytes")
            assert written % 4096 == 0 and written > 40 * len(data), written
            assert now.sum("journal_write_seconds") > before.sum("journal_write_seconds")
            assert now.total("connections") == 1 and now.total("partitions") == 2
            turns, calls = grown("turns_total"), grown("system_calls_total")
            assert turns >= calls >= 41, (turns, calls)
            check_kcat(broker)
        until(lambda: scrape(broker).total("connections") == 0, "connections are not closed")
        check_forms(broker)


def check_kcat(broker):
    before = scrape(broker)
    path = os.path.join(broker.dir, "lines")
    with open(path, "w") as lines:
        lines.writelines(f"record {number}\n" for number in range(5000))
    kcat_produce(broker, "t", path, partition=0)
    kcat_consume(broker, "t", path + ".back", partition=0)
    now = scrape(broker)
    assert now.total("append_records_total") - before.total("append_records_total") == 5000
    sent = sum(now.total("egress_bytes_total", way) - before.total("egress_bytes_total", way)
               for way in ("send", "send_zc"))
    assert sent > os.path.getsize(path)
    assert os.path.getsize(path) == os.path.getsize(path + ".back")
    accepted = now.total("connections_accepted_total") - before.total("connections_accepted_total")
    closed = now.total("connections_closed_total") - before.total("connections_closed_total")
    assert accepted >= 2 and now.total("connections") == 1 + accepted - closed


def both_forms(broker):
    """Text, and the figures that JSON gave before it and after it."""
    before = scrape(broker)
    kind, text = get(broker, "/metrics")
    assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
    after = scrape(broker)
    return (after, text) if before.shards == after.shards else None


def check_clients(rows, values, at):
    """kcat under its library's name, what has none under its client.id; each API and version."""
    for client, api, version, count in rows:
        labels = [at, ("client", client), ("api", api), ("version", str(version))]
        assert values["penstock_client_requests_total", tuple(sorted(labels))] == count
    made = {(client, api): version for client, api, version, _ in rows}
    assert made.get(("test", "Produce"), 7) == 7, rows
    assert {client for client, *_ in rows} <= {"test", "librdkafka"}, rows
    if ("test", "Produce") in made:
        assert [count for client, api, _, count in rows if (client, api) == ("test", "Produce")] == [40]


def check_forms(broker):
    """Nothing happens any more: Prometheus' parser reads from the text what the JSON says."""
    figures, text = until(lambda: both_forms(broker), "the figures do not stand still")
    samples = parsed(text)
    values = {(name, tuple(sorted(labels.items()))): value for name, labels, value, _, _ in samples}
    assert len(values) == len(samples), "a series is there twice"
    assert all(kind in ("counter", "gauge", "histogram") and text for *_, kind, text in samples)
    for number, shard in enumerate(figures.shards):
        at = ("shard", str(number))
        for name, value in shard.items():
            if name == "shard":
                continue
            if name == "client_requests_total":
                check_clients(value, values, at)
                continue
            name = "penstock_" + name
            if not isinstance(value, dict):
                assert values[name, (at,)] == value, name
            elif "counts" in value:
                assert values[name + "_count", (at,)] == sum(value["counts"]), name
                assert values[name + "_sum", (at,)] == value["sum"], name
                assert values[name + "_bucket", (("le", "+Inf"), at)] == sum(value["counts"])
            else:
                label, = {key for (found, labels) in values if found == name
                          for key, _ in labels if key != "shard"}
                for word, each in value.items():
                    assert values[name, tuple(sorted([(label, word), at]))] == each, (name, word)
    assert values["process_resident_memory_bytes", ()] > MIB
    assert get(broker, "/healthz")[1] == "ok\n"


@sanitized
def test_damage_is_counted():
    """A byte flipped in a sealed segment: the scrub counts it, then a read what is lost."""
    options = {"log.scrub.interval.ms": 1000, "log.scrub.bytes.per.second": "64m"}
    with metrics_broker(shards=1, memory="64m", options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["cold"], 1, [("segment.bytes", str(MIB))])
        data = batch([b"v" * 20_000])
        with leader_connection(broker, "cold") as connection:
            for number in range(80):
                assert produce(connection, "cold", data) == (0, number)
        until(lambda: scrape(broker).total("scrub_bytes_total") >= MIB // 2, "nothing is scrubbed")
        assert scrape(broker).total("scrub_damages_total") == 0
        broker.restart()  # what is in memory still is read from there
        with open(broker.segments("cold", 0)[0], "r+b") as file:
            file.seek(10 * len(data) + 1000)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
            file.flush()
            os.fsync(file.fileno())
        seen = until(lambda: scrape(broker).total("scrub_damages_total"), "damage is not counted")
        with leader_connection(broker, "cold") as connection:
            error, _, _ = fetch(connection, "cold", 10, max_bytes=MIB)
            print(f"damages {seen}, error of the read {error}")
        until(lambda: scrape(broker).total("lost_offsets_total") == 1, "the loss is not counted")
        figures = scrape(broker)
        assert figures.total("damaged_stretches_total") == 1
        assert figures.total("reads_disk_total") >= 1 and figures.total("partitions_failed") == 0
        shown = json.loads(top_once(broker, "--json", "--interval", 0.1))
        assert shown["all"]["scrub_damages"] >= 1 and shown["all"]["lost_offsets"] == 1


def watched(broker, data):
    """What `penstock top` shows of a time in which batches are written, and how many were."""
    watcher = subprocess.Popen([BINARY, "top", "--connect", f"127.0.0.1:{broker.metrics_port}",
                                "--interval", "1.5", "--once", "--json"],
                               stdout=subprocess.PIPE, text=True)
    batches = 0
    with leader_connection(broker, "t") as connection:
        while watcher.poll() is None:
            assert produce(connection, "t", data) is not None
            batches += 1
    shown = json.loads(watcher.communicate()[0])
    assert watcher.returncode == 0
    return shown, batches


def check_rates(broker, leader):
    data = batch([b"v" * 1000] * 50)
    shown, batches = watched(broker, data)
    everything, shard = shown["all"], shown["shards"][leader]
    assert everything["records_per_second"] == shard["records_per_second"]
    assert len(shown["shards"]) == 2 and shown["shards"][1 - leader]["records_per_second"] == 0
    assert abs(everything["in_mib_per_second"] * MIB - everything["records_per_second"] *
               len(data) / 50) < 0.1 * everything["in_mib_per_second"] * MIB
    assert 0.5 < everything["journal_write_batches_mean"] <= 1.001, "a write each, and pauses"
    assert 0 < everything["journal_write_p50_ms"] <= everything["journal_write_p99_ms"]
    assert 25 < everything["journal_write_kib_mean"] < 80 and shown["cpu_percent"] > 0
    assert everything["connections"] == 1 and everything["partitions"] == 2
    assert "zero_copy_not_copied_percent" not in everything, "nothing was sent so"
    records = everything["records_per_second"] * shown["interval_seconds"]
    assert shown["interval_seconds"] > 1.4 and records <= batches * 50 + 0.5, (shown, batches)
    # What it takes to begin and to end is not in the interval.
    in_time(shown["interval_seconds"] < 10 and batches * 50 * 0.3 < records, (shown, batches))
    in_time(everything["journal_write_p99_ms"] < 1000, shown)


def test_top():
    """Rates of known work, as JSON and as text; a broker that is not there is one line and 1."""
    with metrics_broker(shards=2, memory="128m") as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["t"], 2)
            leader = metadata(connection, ["t"])[1]["t"][0]
        best_of(lambda: check_rates(broker, leader))

        text = top_once(broker, "--interval", 0.1).splitlines()
        assert text[0].startswith("penstock ") and text[0].endswith("2 shards"), text[0]
        assert ["partitions", "2", "1", "1"] in [line.split() for line in text], text
        assert "\033" not in "".join(text)
        for port, why in (broker.port, "no HTTP"), (broker.metrics_port - 1, "refused"):
            done = top("--connect", port, "--once")
            assert done.returncode == 1 and done.stdout == "", done
            assert done.stderr.count("\n") == 1 and why in done.stderr, done
    for wrong in ["--interval", "0"], ["--interval", "x"], ["word"], ["--what"]:
        assert top(*wrong).returncode == 2, wrong


def ask(broker, data, timeout_s=15):
    """All that comes back for these bytes, until the other side closes."""
    with socket.create_connection(("127.0.0.1", broker.metrics_port), timeout=timeout_s) as sock:
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while part := sock.recv(65536):
                answer += part
            return answer
        except OSError as error:
            assert not isinstance(error, TimeoutError), "it does not end the connection"
            return b""


HOSTILE = [
    # what is sent, with which statuses it may be answered; none: closed without an answer
    (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", [405]),
    (b"PUT /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffff\r\n", [405]),
    (b"DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", [405]),
    (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [404]),
    (b"GET /metricsx HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [404]),
    (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [404]),
    (b"GET /metrics HTTP/1.1\r\n\r\n", [400]),
    (b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", [414, None]),
    (b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X-Many: y\r\n" * 100_000 + b"\r\n", [431, None]),
    (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", [400]),
    (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
     [400, 413]),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), [400, None]),
    (bytes(range(256)) * 4000, [400, 414, 431, None]),
    (b"\x00\x00\x00\x10\x00\x12\x00\x00", [None]),
    (b"GET /metrics HTTP/1.1\r\nHo", [None]),
]


@sanitized
def test_hostile_http():
    """Each gets an error or a closed connection; idle ones shut nobody out for long; Kafka's
    clients notice nothing."""
    with metrics_broker(shards=1, memory="64m") as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["t"])
        before = broker.rss()
        for data, allowed in HOSTILE:
            answer = ask(broker, data)
            status = int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else None
            assert status in allowed, (data[:60], answer[:200])
            assert b"penstock_" not in answer
        idle = [socket.create_connection(("127.0.0.1", broker.metrics_port)) for _ in range(200)]
        with leader_connection(broker, "t") as connection:
            for number in range(20):
                assert produce(connection, "t", batch([b"x"])) == (0, number)
        for sock in idle:
            sock.close()
        assert scrape(broker).total("append_records_total") == 20
        if "asan" not in BINARY:
            assert broker.rss() - before < 16 * MIB, f"{broker.rss() - before} bytes more"


def test_off_by_default_and_port_in_use():
    with Broker(shards=1, memory="64m") as broker:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", broker.port + 39)) != 0
        assert "metrics on" not in broker.log()
        command = [BINARY, "serve", "--data", os.path.join(broker.dir, "other"), "--listen",
                   f"127.0.0.1:{broker.port + 20}", "-o", f"metrics.listen={broker.port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1 and done.stdout == "", done
        assert f"listen on 127.0.0.1:{broker.port} (metrics.listen)" in done.stderr, done.stderr
