"""`penstock produce` and `penstock consume` over the wire: what goes in comes out, to each other and to
other clients, with keys, headers, nulls and every codec. Against any broker (--peer kafka)."""
import base64
import glob
import json
import os
import signal
import subprocess
import time

from lib.broker import BINARY, Broker, is_peer
from lib.cli import json_of, penstock
from lib.clients import is_full, kcat_consume, kcat_produce, need_module
from lib.testcase import Skip, sanitized, timeout


def write_lines(broker, count, form="key-{0}:value {0}"):
    path = os.path.join(broker.dir, "lines")
    with open(path, "w") as out:
        out.writelines(form.format(n) + "\n" for n in range(count))
    return path


def read(path):
    with open(path, "rb") as file:
        return file.read()


def records_of(broker, topic, *arguments):
    out = penstock(broker, "consume", topic, "-e", "--json", *arguments).out
    return [json.loads(line) for line in out.splitlines()]


@sanitized
@timeout(200)
def test_there_and_back():
    """Each codec, through kcat both ways; keys, headers, nulls and bytes that are no text."""
    with Broker(shards=2) as broker:
        path, back = write_lines(broker, 5000), os.path.join(broker.dir, "back")
        for codec in "none", "gzip", "snappy", "lz4", "zstd":
            penstock(broker, "produce", codec, path, "-z", codec)
            if codec == "zstd" or is_full():
                kcat_consume(broker, codec, back)
                assert read(back) == read(path), codec
            assert penstock(broker, "consume", codec, "-e", text=False).out == read(path), codec
        kcat_produce(broker, "kcat", path, settings=["compression.codec=lz4"])
        assert penstock(broker, "consume", "kcat", "-e", text=False).out == read(path)

        penstock(broker, "produce", "odd", "-K", "::", "-Z", "-H", "a=1", "-H", "b=",
                 stdin=b"k1::v1\nk2::\nno key\n::no key either\n\xff\x00::\xfe")
        seen = records_of(broker, "odd")
        headers = [{"key": "a", "value": "1"}, {"key": "b", "value": ""}]
        assert all(r["headers"] == headers and r["partition"] == 0 for r in seen), seen
        assert [r["offset"] for r in seen] == [0, 1, 2, 3, 4]
        assert all(abs(r["timestamp"] / 1000 - time.time()) < 60 for r in seen), seen
        assert [(r.get("key"), r.get("value")) for r in seen] == \
            [("k1", "v1"), ("k2", None), (None, "no key"), (None, "no key either"), (None, None)]
        assert base64.b64decode(seen[4]["keyBase64"]) == b"\xff\x00"
        assert base64.b64decode(seen[4]["valueBase64"]) == b"\xfe"
        form = "%t %p %o %k(%K) %s(%S) %h\\n"
        kcat_consume(broker, "odd", back, form=form.replace("\\n", "\n"))
        assert penstock(broker, "consume", "odd", "-e", "-f", form, text=False).out == read(back)
        text = penstock(broker, "consume", "odd", "-c", "2", "-K", " -> ", "-H", "-Z").out
        assert text == "a=1,b=\tk1 -> v1\na=1,b=\tk2 -> NULL\n", text
        hexed = penstock(broker, "consume", "odd", "-o", "4", "-e", "-O", "hex").out
        assert " key: 2 bytes\n  000000  ff 00 " in hexed, hexed


@timeout(200)
def test_which_records():
    """Partitions are chosen as Java's client does; offsets, times and limits are kept to."""
    need_module("confluent_kafka")
    from confluent_kafka import Producer
    with Broker(shards=2) as broker:
        path = write_lines(broker, 2000)
        penstock(broker, "topic", "create", "ours", "theirs", "-p", "7")
        sums = json_of(broker, "produce", "ours", path, "-K", ":")
        assert sums["records"] == sums["acknowledged"] == 2000, sums
        assert sum(p["lastOffset"] - p["firstOffset"] + 1 for p in sums["partitions"]) == 2000, sums
        producer = Producer({"bootstrap.servers": broker.bootstrap,
                             "partitioner": "murmur2_random"})
        for line in read(path).splitlines():
            key, _, value = line.partition(b":")
            producer.produce("theirs", value, key)
        producer.flush(30)
        form = ["-e", "-f", "%p %k %s\\n"]
        ours = sorted(penstock(broker, "consume", "ours", *form).out.splitlines())
        theirs = sorted(penstock(broker, "consume", "theirs", *form).out.splitlines())
        assert len(ours) == 2000 and ours == theirs

        def offsets(*arguments):
            return [(r["partition"], r["offset"]) for r in records_of(broker, "ours", *arguments)]
        end = {p["partition"]: p["lastOffset"] + 1 for p in sums["partitions"]}
        assert offsets("-p", "3", "-o", "-2") == [(3, end[3] - 2), (3, end[3] - 1)]
        assert offsets("-p", "3", "-o", "7", "-c", "2") == [(3, 7), (3, 8)]
        assert sorted(offsets("-p", "0-1,6", "-o", "-1")) == [(p, end[p] - 1) for p in (0, 1, 6)]
        assert offsets("-o", "end") == []
        time.sleep(0.05)
        now_ms = int(time.time() * 1000)
        penstock(broker, "produce", "ours", "-p", "5", stdin=b"late\n")
        assert offsets("-o", f"@{now_ms}") == [(5, end[5])]
        assert offsets("-o", "@2100-01-01T00:00:00Z") == []
        for wrong in (["-o", "x"], ["-p", "1-"], ["-f", "%q"], ["-O", "xml"], ["-c", "-1"]):
            penstock(broker, "consume", "ours", *wrong, code=2)
        assert "UNKNOWN_TOPIC_OR_PARTITION" in penstock(broker, "consume", "no", code=1).errors
        said = penstock(broker, "produce", "ours", "-p", "7", stdin=b"x\n", code=1)
        assert "ours-7: UNKNOWN_TOPIC_OR_PARTITION" in said.errors, said
        big = penstock(broker, "produce", "ours", "-w", "-p", "0", stdin=b"x" * (2 << 20), code=1)
        assert "MESSAGE_TOO_LARGE" in big.errors and "0 of the 1 records" in big.errors, big


@timeout(200)
def test_follow_through_a_restart():
    """Neither a consumer nor a producer that waits for more input loses anything by a restart."""
    with Broker(shards=2) as broker:
        penstock(broker, "topic", "create", "t", "-p", "4")
        address = ["--bootstrap", broker.bootstrap, "--timeout", "60"]
        consumer = subprocess.Popen([BINARY, "consume", "t", *address], stdout=subprocess.PIPE)
        producer = subprocess.Popen([BINARY, "produce", "t", "-K", ":", *address],
                                    stdin=subprocess.PIPE)
        try:
            for turn in range(3):
                producer.stdin.write(b"".join(b"%d:%d\n" % (n, n)
                                              for n in range(turn * 100, turn * 100 + 100)))
                producer.stdin.flush()
                got = sorted(int(consumer.stdout.readline()) for _ in range(100))
                assert got == list(range(turn * 100, turn * 100 + 100)), got
                if turn == 1:
                    broker.restart(kill=True)
            producer.stdin.close()
            assert producer.wait(60) == 0
        finally:
            for process in consumer, producer:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


@timeout(200)
def test_only_what_is_true():
    """Aborted records are hidden, and a wrong checksum is named."""
    if not is_peer():
        raise Skip("needs transactions, and a broker that sends damaged batches: --peer kafka")
    need_module("confluent_kafka")
    from confluent_kafka import Producer
    with Broker(shards=1) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "transactional.id": "t"})
        producer.init_transactions(30)
        for turn in range(6):
            producer.begin_transaction()
            for n in range(10):
                producer.produce("t", f"{turn} {n}".encode())
            producer.flush(30)
            (producer.abort_transaction if turn % 2 else producer.commit_transaction)(30)
        seen = penstock(broker, "consume", "t", "-e").out.splitlines()
        assert seen == [f"{turn} {n}" for turn in (0, 2, 4) for n in range(10)], seen
        assert len(penstock(broker, "consume", "t", "-e", "--read-uncommitted").out.splitlines()) == 60
        penstock(broker, "produce", "u", stdin=b"damage me\n")
        broker.stop()
        segment, = glob.glob(os.path.join(broker.data[0], "u-0", "*.log"))
        with open(segment, "r+b") as log:
            data = log.read()
            log.seek(data.index(b"damage"))
            log.write(b"Damage")
        broker.start()
        said = penstock(broker, "consume", "u", "-e", code=1)
        assert "u-0: the batch at offset 0 has a wrong checksum" in said.errors, said
        assert said.out == "", said
