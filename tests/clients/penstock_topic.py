"""`penstock topic` over the wire: what it makes is there for others, what it says is what others see,
and every error has its name. Against any broker (--peer kafka)."""
import contextlib
import os
import re
import socket
import struct
import subprocess
import threading
import time

from lib.broker import BINARY, ROOT, Broker
from lib.cli import Said, json_of, penstock
from lib.clients import java, kcat_produce, need_module
from lib.testcase import sanitized, slow


def lines_file(broker, count):
    path = os.path.join(broker.dir, "lines")
    with open(path, "w") as out:
        out.writelines(f"line {n}\n" for n in range(count))
    return path


def test_topics_come_and_go():
    with Broker(shards=2) as broker:
        assert penstock(broker, "topic", "create", "red", "green", "-p", "3").out == \
            "red: created\ngreen: created\n"
        topics = json_of(broker, "topic", "list")["topics"]
        assert [(t["topic"], t["partitions"], t["internal"]) for t in topics] == \
            [("green", 3, False), ("red", 3, False)], topics
        need_module("confluent_kafka")
        from confluent_kafka.admin import AdminClient
        seen = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=20).topics
        assert {name: len(seen[name].partitions) for name in seen} == {"red": 3, "green": 3}
        penstock(broker, "topic", "alter", "red", "--partitions", "5")
        assert json_of(broker, "topic", "list")["topics"][1]["partitions"] == 5
        penstock(broker, "topic", "delete", "green")
        table = penstock(broker, "topic", "list").out.splitlines()
        assert table[0].split() == ["TOPIC", "PARTITIONS", "REPLICAS", "INTERNAL"], table
        assert [line.split() for line in table[1:]] == [["red", "5", "1", "no"]], table
        check_describe(broker)


def check_describe(broker):
    penstock(broker, "topic", "create", "t", "-p", "2")
    kcat_produce(broker, "t", lines_file(broker, 30), partition=1)
    topic = json_of(broker, "topic", "describe", "t")["topics"][0]
    assert topic["topic"] == "t" and len(topic["topicId"]) == 22, topic
    first, second = topic["partitions"]
    assert (first["partition"], first["logStartOffset"], first["logEndOffset"]) == (0, 0, 0)
    assert (second["partition"], second["logStartOffset"], second["logEndOffset"]) == (1, 0, 30)
    assert second["leader"] in second["replicas"] and second["leaderEpoch"] >= 0, second
    assert first["sizeBytes"] == 0 < second["sizeBytes"], topic
    text = penstock(broker, "topic", "describe", "t").out.splitlines()
    assert text[0].startswith(f"topic t, id {topic['topicId']}, 2 partitions"), text
    assert [line.split()[0] for line in text[2:]] == ["0", "1"], text


def test_topic_errors():
    with Broker(shards=1) as broker:
        def fails(code, error, *arguments):
            said = penstock(broker, "topic", *arguments, code=code)
            assert error in said.errors and said.out == "", said
        penstock(broker, "topic", "create", "t")
        fails(1, "t: TOPIC_ALREADY_EXISTS", "create", "t")
        fails(1, "a/b: INVALID_TOPIC_EXCEPTION", "create", "a/b")
        fails(1, "INVALID_REPLICATION_FACTOR", "create", "u", "-r", "7")
        fails(1, "nope: UNKNOWN_TOPIC_OR_PARTITION", "describe", "nope")
        fails(1, "nope: UNKNOWN_TOPIC_OR_PARTITION", "delete", "nope")
        fails(1, "t: INVALID_PARTITIONS", "alter", "t", "--partitions", "1")
        fails(2, "--partitions is missing", "alter", "t")
        fails(2, "--config must be KEY=VALUE", "create", "u", "-c", "retention.ms")
        fails(2, "bad value for --partitions: -1", "create", "u", "-p", "-1")
        fails(2, "too few arguments", "create")
        penstock(broker, "topic", "create", "t", "--if-not-exists")
        penstock(broker, "topic", "delete", "nope", "--if-exists")
        dry = json_of(broker, "topic", "create", "u", "-p", "4", "--dry-run")["topics"]
        assert dry[0]["created"] is False and dry[0]["partitions"] == 4, dry
        names = [t["topic"] for t in json_of(broker, "topic", "list")["topics"]]
        assert names == ["t"], names
        bad = json_of(broker, "topic", "create", "u", "t", code=1)["topics"]
        assert [t.get("error") for t in bad] == [None, "TOPIC_ALREADY_EXISTS"], bad
        check_addresses(broker)


@slow
def test_names_of_errors():
    """Codes, names, and what is tried again, are those of the Java client."""
    java_rows = [tuple(line.split()) for line in java("ErrorNames")]
    with open(os.path.join(ROOT, "tools", "client_errors.h")) as header:
        ours = {code: (code, name, again) for name, code, again in
                re.findall(r"^    X\((\w+), (-?\d+), (true|false)\)", header.read(), re.M)}
    assert len(java_rows) > 130
    assert [ours.pop(row[0], None) for row in java_rows] == java_rows
    newest = max(int(row[0]) for row in java_rows)
    assert all(int(code) > newest for code in ours), ours


VERSIONS = struct.pack(">ihi", 1, 0, 1) + struct.pack(">hhh", 3, 0, 1)  # Metadata 0 to 1


def frame(data):
    return struct.pack(">i", len(data)) + data


@contextlib.contextmanager
def liar(*answers):
    """A server that gives every connection these bytes, one for each request, and closes it; None
    is silence."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        def serve():
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    for answer in answers:
                        if not client.recv(65536):
                            break
                        if answer is None:
                            client.recv(65536)
                            break
                        client.sendall(answer)
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@sanitized
def test_answers_that_lie():
    """Whatever comes back, it ends with exit code 1 and a line that names the peer and the request."""
    topics = 0x7fffffff
    lies = {
        "nothing": [b""],
        "silence": [None],
        "silence after all": [frame(VERSIONS), None],
        "no protocol": [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        "a negative length": [struct.pack(">i", -1)],
        "an endless length": [struct.pack(">i", 0x7fffffff)],
        "an empty answer": [frame(b"")],
        "another correlation id": [frame(struct.pack(">ih", 7, 0) + bytes(4))],
        "too many APIs": [frame(struct.pack(">ihi", 1, 0, 0x7fffffff))],
        "a cut answer": [struct.pack(">i", 100) + b"x"],
        "no Metadata": [frame(struct.pack(">ihi", 1, 0, 0))],
        "too many topics": [frame(VERSIONS), frame(struct.pack(">iiii", 2, 0, -1, topics))],
        "a broker without port": [frame(VERSIONS), frame(
            struct.pack(">iiih", 2, 1, 1, 1) + b"h" + struct.pack(">ihii", 0, -1, 1, 0))],
        "bytes too many": [frame(VERSIONS), frame(struct.pack(">iiii", 2, 0, -1, 0) + b"x")],
    }
    for what, answers in lies.items():
        began = time.monotonic()
        with liar(*answers) as address:
            done = subprocess.run([BINARY, "topic", "list", "--bootstrap", address, "--timeout", "0.3"],
                                  capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and done.stdout == "", (what, done)
        assert done.stderr.count("\n") == 1, (what, done)
        assert done.stderr.startswith(f"penstock topic list: {address}"), (what, done)
        assert time.monotonic() - began < 20, what


def check_addresses(broker):
    """Nobody there, and a list of which the last is the broker."""
    def run(bootstrap, *arguments):
        done = subprocess.run([BINARY, "topic", "list", "--bootstrap", bootstrap, *arguments],
                              capture_output=True, text=True, timeout=60)
        return Said(done.returncode, done.stdout, done.stderr)
    nobody = f"127.0.0.1:{broker.port + 30}"
    said = run(nobody)
    assert said.code == 1 and f"{nobody}: Connection refused" in said.errors, said
    assert run(f"{nobody},{broker.bootstrap}").code == 0
    for wrong in "", "host:", "host:0", "host:70000", "[::1", ":1", "a:b", f"{nobody},":
        said = run(wrong)
        assert said.code == 1 and "bootstrap address" in said.errors, (wrong, said)
