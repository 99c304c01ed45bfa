"""`penstock log`: what it says of real data is what was produced, what a start then finds, and what
Kafka's own tool says; damage is named by its offsets; a repair mends what can be mended and loses
nothing."""
import glob
import json
import os
import random
import re
import shutil

from lib.broker import Broker, is_sanitized
from lib.clients import is_full, java, kcat_consume, kcat_produce
from lib.kafka_wire import batch, create_topics, leader_connection, list_offset, produce
from lib.kafka_wire import Connection
from lib.log_tool import (DAMAGE, FINE, USAGE, flip, log_document, log_rows, log_tool, payloads,
                          tree_digest)
from lib.testcase import sanitized, timeout
from lib.text import MIB, sha256, text_file

DUMP = "org.apache.kafka.tools.DumpLogSegments"
OPTIONS = {"log.segment.bytes": MIB, "journal.bytes": "16m"}
CODECS = ("none", "gzip", "snappy", "zstd")


def read_file(path):
    with open(path, "rb") as data:
        return data.read()


def partition_of(document, topic, partition=0):
    found = [row for row in document["partitions"]
             if (row["topic"], row["partition"]) == (topic, partition)]
    assert len(found) == 1, document["partitions"]
    return found[0]


def findings(document, kind):
    return [row for row in document["findings"] if row["kind"] == kind]


def text_of(topic):
    return text_file(2 * MIB if topic == "none" else MIB // 2)


def produce_all(broker):
    """A topic for each codec, idempotent ones among them; "keyed" is lz4, with keys and headers."""
    for codec in CODECS:
        kcat_produce(broker, codec, text_of(codec),
                     settings=["acks=all", f"compression.codec={codec}",
                               f"batch.num.messages={300 if codec == 'none' else 3000}",
                               f"enable.idempotence={str(codec in ('gzip', 'zstd')).lower()}"])
    java("Produce", broker.bootstrap, "keyed", 1, 5_000, 0, "compression.type=lz4",
         "enable.idempotence=true")


# -- usage

def test_help_and_wrong_usage():
    out, _ = log_tool("--help")
    for command in ("ls", "dump", "verify", "repair"):
        assert f"  {command} " in out, out
        text, _ = log_tool(command, "--help")
        assert text.startswith(f"usage: penstock log {command} "), text
        assert "--json" in text and "--journal-dir DIR" in text and "Exit code" in text
    assert "--print-data-log" in log_tool("dump", "--help")[0]
    assert "--dry-run" in log_tool("repair", "--help")[0]
    for wrong in ([], ["frobnicate"], ["ls"], ["ls", "--dry-run", "/"], ["ls", "/nowhere"],
                  ["dump", "/nowhere"], ["dump", "--offsets", "7:5", "/"],
                  ["dump", "--journal", "--metadata", "/"], ["verify", "--partition", "1", "/"],
                  ["dump", "/etc/hostname"], ["repair", "/etc/hostname"]):
        out, errors = log_tool(*wrong, expect=USAGE)
        assert errors and not out, (wrong, out, errors)


# -- a log that was stopped

def check_listing(broker, records):
    listing = log_document("ls", *broker.data)
    assert listing["metadata"]["cleanStop"] and listing["metadata"]["shards"] == broker.shards
    assert listing["totals"]["records"] == sum(records.values())
    for topic, count in records.items():
        row = partition_of(listing, topic)
        assert (row["logStartOffset"], row["endOffset"]) == (0, count), row
        assert row["path"] == broker.partition_dir(topic, 0)
        files = broker.segments(topic, 0)
        assert [segment["baseOffset"] for segment in row["segments"]] == \
            [int(os.path.basename(path)[:20]) for path in files]
        assert [segment["fileBytes"] for segment in row["segments"]] == \
            [os.path.getsize(path) for path in files]
        assert [segment["state"] for segment in row["segments"]] == \
            ["sealed"] * (len(files) - 1) + ["open"], row["segments"]
        assert {segment["index"] for segment in row["segments"][:-1]} <= {"ok"}
        assert sum(segment["records"] for segment in row["segments"]) == count
    assert len(listing["journals"]) == broker.shards
    assert all(journal["usedBytes"] == 0 for journal in listing["journals"]), listing["journals"]
    text, _ = log_tool("ls", *broker.data)
    assert f"{len(records)} partitions" in text.splitlines()[-1], text


def check_verified(broker, records):
    verified = log_document("verify", "--deep-iteration", *broker.data)
    assert verified["ok"] and not verified["findings"], verified["findings"]
    for topic, count in records.items():
        row = partition_of(verified, topic)
        assert (row["records"], row["endOffset"], row["lostOffsets"]) == (count, count, 0), row
    assert "all is well" in log_tool("verify", *broker.data)[0].splitlines()[-1]


def check_same_as_kafka(folder, topics):
    """Line by line what Kafka's tool prints, records and all; it cannot know where an active
    segment ends, and has its own words for empty indexes."""
    paths = [os.path.join(folder(topic), name) for topic in topics
             for name in sorted(os.listdir(folder(topic))) if name.endswith(".log")]
    theirs = java(DUMP, "--deep-iteration", "--print-data-log", "--files", ",".join(paths))
    ours = log_tool("dump", "--print-data-log", "--files", ",".join(paths))[0].splitlines()
    theirs = [line for line in theirs if not line.startswith("Found ")]
    assert ours == theirs, next(pair for pair in zip(ours, theirs) if pair[0] != pair[1])
    paths = [path[:-3] + suffix for path in paths for suffix in ("index", "timeindex")
             if os.path.exists(path[:-3] + suffix) and os.path.getsize(path[:-3] + suffix)]
    theirs = java(DUMP, "--files", ",".join(paths))
    assert log_tool("dump", *paths)[0].splitlines() == theirs and len(paths) > 1
    print(f"{len(ours)} lines the same")


@timeout(200)
def test_a_stopped_log():
    with Broker(options=OPTIONS) as broker:
        produce_all(broker)
        broker.stop()
        before = tree_digest(*broker.data)
        records = {topic: read_file(text_of(topic)).count(b"\n") for topic in CODECS}
        records["keyed"] = 5_000
        check_listing(broker, records)
        check_verified(broker, records)
        for topic in CODECS:
            rows = log_rows("--print-data-log", "--topic", topic, *broker.data)
            assert payloads(rows) == read_file(text_of(topic)), topic
            batches = [row for row in rows if row["type"] == "batch"]
            codecs = [row["compresscodec"] for row in batches]
            # A client sends what does not get smaller as it is.
            assert codecs.count(topic) >= 0.5 * len(codecs), (topic, codecs)
            assert {row["producerId"] >= 0 for row in batches} == {topic in ("gzip", "zstd")}
        rows = log_rows("--print-data-log", broker.partition_dir("keyed", 0))
        assert {row["compresscodec"] for row in rows if row["type"] == "batch"} == {"lz4"}
        row = [row for row in rows if row["type"] == "record"][999]
        assert row["key"] == "key-999" and row["payload"].startswith("value-999-x"), row
        assert row["headers"] == [{"key": "n", "value": "999"}, {"key": "empty", "value": None}]
        assert (row["offset"], row["CreateTime"]) == (999, 1_700_000_000_999), row
        some = log_rows("--print-data-log", "--topic", "zstd", "--partition", 0,
                        "--offsets", "1000:1010", *broker.data)
        assert [row["offset"] for row in some if row["type"] == "record"] == [*range(1000, 1010)]
        check_same_as_kafka(lambda topic: broker.partition_dir(topic, 0), (*CODECS, "keyed"))
        names = [row["name"] for row in log_rows("--metadata", *broker.data) if "name" in row]
        assert sorted(names) == sorted(records), names
        partitions = [row for row in log_rows("--checkpoints", *broker.data)
                      if row["type"] == "checkpointPartition"]
        assert {row["partition"] for row in partitions} == {f"{topic}-0" for topic in records}
        assert tree_digest(*broker.data) == before, "reading has changed something"
        broker.start()


# -- a log whose broker was killed: much of it is in the journal only

@timeout(200)
@sanitized
def test_a_killed_log():
    text = text_file(MIB)
    lines = read_file(text).count(b"\n")
    with Broker(options=OPTIONS) as broker:
        for codec in ("none", "zstd"):
            kcat_produce(broker, codec, text,
                         settings=["acks=all", f"compression.codec={codec}",
                                   "batch.num.messages=300", "enable.idempotence=true"])
        broker.kill9()
        before = tree_digest(*broker.data)
        listing = log_document("ls", *broker.data)
        assert not listing["metadata"]["cleanStop"]
        assert sum(segment["journalBytes"] for row in listing["partitions"]
                   for segment in row["segments"]) > 100000, "nothing is in the journals"
        check_verified(broker, dict.fromkeys(("none", "zstd"), lines))
        for topic in ("none", "zstd"):
            rows = log_rows("--print-data-log", "--topic", topic, *broker.data)
            assert payloads(rows) == read_file(text), topic
        rows = log_rows("--journal", "--print-data-log", *broker.data)
        writes = [row for row in rows if row["type"] == "journalWrite" and row["replayed"]]
        held = [row for row in rows if row["type"] == "journalRecord"]
        assert writes and all(row["isvalid"] for row in held)
        assert {row["partition"] for row in held} == {"none-0", "zstd-0"}
        assert tree_digest(*broker.data) == before, "reading has changed something"
        broker.start()
        for topic in ("none", "zstd"):
            with leader_connection(broker, topic) as connection:
                assert list_offset(connection, topic, -1) == (0, lines)


def test_a_running_broker_is_left_alone():
    with Broker(options=OPTIONS) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["busy"])
        with leader_connection(broker, "busy") as connection:
            assert produce(connection, "busy", batch([b"one"])) == (0, 0)
        for command in ("ls", "dump", "verify"):
            out, errors = log_tool(command, *broker.data, expect=USAGE)
            assert "in use" in errors and "--force-read" in errors and not out
        assert "in use" in log_tool("repair", *broker.data, expect=USAGE)[1]
        _, errors = log_tool("verify", "--force-read", *broker.data, expect=(FINE, DAMAGE))
        assert "read all the same" in errors, errors


# -- several directories

def test_several_directories_and_a_journal_elsewhere():
    broker = Broker(options={"journal.bytes": "16m"}, data_dirs=2)
    journal = os.path.join(broker.dir, "journals")
    broker.args = ["--journal", journal]
    with broker:
        with Connection(broker) as connection:
            create_topics(connection, ["spread"], 6)
        for partition in range(6):
            with leader_connection(broker, "spread", partition) as connection:
                assert produce(connection, "spread", batch([b"x"] * (partition + 1)),
                               partition) == (0, 0)
        broker.stop()
        verified = log_document("verify", "--journal-dir", journal, *broker.data)
        assert sorted(row["records"] for row in verified["partitions"]) == [1, 2, 3, 4, 5, 6]
        assert verified["ok"] and verified["totals"]["records"] == 21, verified
        listing = log_document("ls", "--journal-dir", journal, *broker.data)
        folders = {os.path.dirname(row["path"]) for row in listing["partitions"]}
        assert folders == set(broker.data), folders
        _, errors = log_tool("ls", "--journal-dir", journal, *broker.data, *broker.data,
                             expect=USAGE)
        assert "twice" in errors
        # Without one of them nobody can say what a start would find.
        half = log_document("verify", "--journal-dir", journal, broker.data[0], expect=DAMAGE)
        assert any("is not given" in row["what"] for row in half["findings"]), half["findings"]


# -- damage

def stopped_copy(broker, name):
    """A copy of its data directory to play with."""
    folder = os.path.join(broker.dir, name)
    shutil.copytree(broker.data[0], folder)
    return folder


def batches_of(folder, topic):
    """[(path, row)] of all batches in files."""
    found, path = [], None
    for row in log_rows("--topic", topic, folder):
        if row["type"] == "file":
            path = row["path"]
        elif row["type"] == "batch" and "in" not in row:
            found.append((path, row))
    return found


def damage_batch(folder, path, row, at):
    flip(path, row["position"] + at)
    verified = log_document("verify", folder, expect=DAMAGE)
    lost = findings(verified, "lost")
    assert len(lost) == 1 == len(verified["findings"]), verified["findings"]
    named = (lost[0]["partition"], lost[0]["firstOffset"], lost[0]["lastOffset"],
             lost[0]["position"], lost[0]["size"], lost[0]["path"])
    assert named == ("rolled-0", row["baseOffset"], row["lastOffset"], row["position"],
                     row["size"], path), (named, row, at)
    text, _ = log_tool("verify", folder, expect=DAMAGE)
    assert f"rolled-0: offsets {row['baseOffset']} to {row['lastOffset']} are lost" in text, text
    flip(path, row["position"] + at)


@timeout(200)
def test_damage_is_named_by_its_offsets():
    with Broker(shards=1, options=OPTIONS) as broker:
        kcat_produce(broker, "rolled", text_file(3 * MIB),
                     settings=["acks=all", "batch.num.messages=200"])
        broker.stop()
        folder = stopped_copy(broker, "damaged")
        batches = batches_of(folder, "rolled")
        rng = random.Random(7)
        picked = rng.sample(batches, 4) + [batches[0], batches[-1]]
        # base offset, length, leader epoch, magic, CRC, last offset delta, count, a record
        for (path, row), at in zip(picked, (3, 10, 15, 16, 20, 26)):
            damage_batch(folder, path, row, at)
        path, row = picked[0]
        damage_batch(folder, path, row, row["size"] - 1)
        # A whole sector, over the border of two batches.
        path, row = batches[3]
        flip(path, row["position"] - 256, 512)
        verified = log_document("verify", folder, expect=DAMAGE)
        lost = findings(verified, "lost")
        assert lost[0]["firstOffset"] == batches[2][1]["baseOffset"], lost
        assert lost[-1]["lastOffset"] == row["lastOffset"], lost
        assert sum(one["lastOffset"] - one["firstOffset"] + 1 for one in lost) == \
            batches[2][1]["count"] + row["count"] == verified["totals"]["lostOffsets"]
        # A sealed file that is gone: all that was in it.
        path = batches[0][0]
        end = next(row["baseOffset"] for other, row in batches if other != path)
        os.unlink(path)
        verified = log_document("verify", folder, expect=DAMAGE)
        assert any((one["firstOffset"], one["lastOffset"]) == (0, end - 1)
                   for one in findings(verified, "lost")), verified["findings"]


LOST_LINE = re.compile(r"(\S+-\d+): offsets (\d+) to (\d+) are lost")


@timeout(200)
def test_damage_in_the_journal_is_what_a_start_then_says():
    with Broker(shards=1, options=OPTIONS) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["small"], 2)
        for partition in range(2):
            with leader_connection(broker, "small", partition) as connection:
                for turn in range(40):
                    data = batch([b"%d" % turn * 300] * 3)
                    assert produce(connection, "small", data, partition) == (0, 3 * turn)
        broker.kill9()
        path = os.path.join(broker.data[0], "journal.0")
        rows = log_rows("--journal", "--deep-iteration", *broker.data)
        held = []  # (partition, first, last, place in the file of the record's body)
        for row in rows:
            if row["type"] == "journalWrite":
                place = row["position"]
            elif row["type"] == "journalRecord":
                held.append((row["partition"], row["baseOffset"], row["lastOffset"], place))
        assert len(held) >= 80 and len({one[3] for one in held}) >= 40, len(held)
        named = []
        for partition, first, last, place in (held[10], held[41]):
            # Each write holds one record here: header, record, body.
            flip(path, place + 72 + 80 + 100)
            named.append((partition, first, last))
        verified = log_document("verify", *broker.data, expect=DAMAGE)
        lost = [(one["partition"], one["firstOffset"], one["lastOffset"])
                for one in findings(verified, "lost")]
        assert sorted(lost) == sorted(named), (lost, named)
        broker.start()
        said = [(match[1], int(match[2]), int(match[3]))
                for match in LOST_LINE.finditer(broker.log())]
        assert sorted(said) == sorted(named), (said, named)
        for partition in range(2):
            with leader_connection(broker, "small", partition) as connection:
                assert list_offset(connection, "small", -1, partition) == (0, 120)


# -- repair

def damage_what_can_be_mended(folder):
    """One of each kind; how many findings that makes."""
    partition = os.path.join(folder, "rolled-0")
    indexes = sorted(name for name in os.listdir(partition) if name.endswith(".timeindex"))
    assert len(indexes) >= 4, indexes
    flip(os.path.join(folder, "penstock-metadata.1.b"), 4200)
    flip(os.path.join(folder, "meta.properties"), 30)
    flip(os.path.join(folder, "journal.0"), 4096 + 20)
    checkpoint = max((os.path.join(folder, f"journal.0.checkpoint.{i}") for i in range(2)),
                     key=os.path.getmtime)
    flip(checkpoint, os.path.getsize(checkpoint) // 2 + 100)
    flip(os.path.join(partition, indexes[0]), 3)
    os.unlink(os.path.join(partition, indexes[1]))
    os.unlink(os.path.join(partition, indexes[2].replace("timeindex", "index")))
    with open(os.path.join(partition, indexes[3].replace("timeindex", "log")), "ab") as log:
        log.write(b"torn" * 100)
    os.makedirs(os.path.join(folder, "nobodys-3"))
    with open(os.path.join(folder, "nobodys-3", "0" * 20 + ".log"), "wb") as log:
        log.write(b"left behind")
    shutil.copy(os.path.join(partition, indexes[0].replace("timeindex", "log")),
                os.path.join(partition, "00000000000099999999.log"))
    return 10


@timeout(200)
@sanitized
def test_repair():
    text = text_file(5 * MIB)
    with Broker(shards=1, options=OPTIONS) as broker:
        kcat_produce(broker, "rolled", text,
                     settings=["acks=all", "batch.num.messages=500"])
        broker.stop()
        folder = broker.data[0]
        original = stopped_copy(broker, "original")
        wanted = damage_what_can_be_mended(folder)
        before = tree_digest(folder)
        damages = [row for row in log_document("verify", folder, expect=DAMAGE)["findings"]]
        assert len(damages) == wanted, damages
        dry = log_document("repair", "--dry-run", folder, expect=DAMAGE)
        assert len(dry["plan"]) == wanted and not dry["kept"]
        assert all(row["action"] and not row["done"] for row in dry["plan"]), dry["plan"]
        out, _ = log_tool("repair", "--dry-run", folder, expect=DAMAGE)
        assert out.count("would ") == wanted, out
        assert tree_digest(folder) == before, "a dry run has changed something"

        out, _ = log_tool("repair", folder)
        assert out.count("will ") == wanted and len(re.findall("^kept in ", out, re.M)) == 1, out
        assert "nothing to mend" in log_tool("repair", folder)[0]
        assert log_document("repair", folder) == \
            {"dryRun": False, "plan": [], "kept": [], "damagesLeft": 0}
        check_verified(broker, {"rolled": read_file(text).count(b"\n")})
        check_kept(folder, original)
        broker.start()
        back = os.path.join(broker.dir, "back")
        kcat_consume(broker, "rolled", back)
        assert sha256(back) == sha256(text)


def check_kept(folder, original):
    """All is as before the damage, byte for byte, and what was taken away is in one folder."""
    kept = [name for name in os.listdir(folder) if name.startswith(".repair-")]
    assert len(kept) == 1, kept
    for top, _, names in os.walk(original):
        for name in names:
            path = os.path.join(top, name)
            mended = os.path.join(folder, os.path.relpath(path, original))
            assert name == ".lock" or read_file(mended) == read_file(path), mended
    extra = set(os.listdir(folder)) - set(os.listdir(original)) - set(kept)
    assert not extra, extra
    kept = os.path.join(folder, kept[0])
    assert read_file(os.path.join(kept, "nobodys-3", "0" * 20 + ".log")) == b"left behind"
    tails = [name for name in os.listdir(os.path.join(kept, "rolled-0")) if ".log.at-" in name]
    assert len(tails) == 1
    assert read_file(os.path.join(kept, "rolled-0", tails[0])) == b"torn" * 100


def test_repair_leaves_what_it_cannot_mend():
    with Broker(shards=1, options=OPTIONS) as broker:
        kcat_produce(broker, "rolled", text_file(MIB),
                     settings=["acks=all", "batch.num.messages=500"])
        broker.stop()
        folder = broker.data[0]
        path, row = batches_of(folder, "rolled")[1]
        flip(path, row["position"] + 100)
        # Where something is lost, nobody can tell that this file counts for nothing.
        shutil.copy(path, os.path.join(folder, "rolled-0", "00000000000099999999.log"))
        with open(os.path.join(folder, "notes.txt"), "w") as notes:
            notes.write("the operator's own")
        before = tree_digest(os.path.join(folder, "rolled-0"))
        report = log_document("repair", folder, expect=DAMAGE)
        assert report["damagesLeft"] == 1 and not report["kept"], report
        assert [one["kind"] for one in report["plan"] if one["action"] is None] == \
            ["lost", "stale", "stray"], report["plan"]
        assert tree_digest(os.path.join(folder, "rolled-0")) == before
        assert os.path.exists(os.path.join(folder, "notes.txt"))


# -- anything at all

def scramble(rng, folder):
    """Damage somewhere in some file: a byte, a sector, or the end cut off."""
    paths = [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names]
    path = rng.choice([path for path in paths if os.path.getsize(path) > 512])
    used = min(os.path.getsize(path), 200000)
    how = rng.randrange(4)
    if how == 0:
        os.truncate(path, rng.randrange(used))
    elif how == 1:
        at = rng.randrange(used - 511)
        with open(path, "r+b") as data:
            data.seek(at)
            data.write(rng.randbytes(512))
    else:
        for _ in range(rng.choice((1, 1, 20))):
            flip(path, rng.randrange(used))
    return f"{how} {path}"


@sanitized
def test_files_cut_off_below_what_the_journal_says_is_in_them():
    with Broker(shards=1, options={"log.segment.bytes": MIB, "journal.bytes": "16m"}) as broker:
        kcat_produce(broker, "a", text_file(2 * MIB),
                     settings=["acks=all", "batch.num.messages=100"])
        broker.kill9()
        for size in (0, 1, 511, 4096, 10000, 100000):
            folder = stopped_copy(broker, f"cut{size}")
            for path in glob.glob(os.path.join(folder, "a-0", "*.log")):
                os.truncate(path, min(size, os.path.getsize(path)))
            for command in ("ls", "verify"):
                log_document(command, folder, expect=(FINE, DAMAGE))
            log_rows("--deep-iteration", folder, expect=(FINE, DAMAGE))


@timeout(300)
@sanitized
def test_scrambled_data_never_ends_it():
    rounds = 200 if is_full() else 3 if is_sanitized() else 8
    rng = random.Random(11)
    options = {"log.segment.bytes": MIB, "journal.bytes": "16m"}
    with Broker(shards=1, options=options) as broker:
        kcat_produce(broker, "a", text_file(2 * MIB),
                     settings=["acks=all", "batch.num.messages=100"])
        kcat_produce(broker, "b", text_file(MIB // 8),
                     settings=["acks=all", "compression.codec=lz4", "enable.idempotence=true"])
        broker.kill9()
        for turn in range(rounds):
            folder = stopped_copy(broker, f"scrambled{turn}")
            done = [scramble(rng, folder) for _ in range(rng.choice((1, 2, 5)))]
            for command in ("ls", "verify", "repair"):
                try:
                    log_document(command, folder, expect=(FINE, DAMAGE))
                except (AssertionError, json.JSONDecodeError) as problem:
                    raise AssertionError(f"{command} after {done}") from problem
            for what in ((), ("--journal", "--deep-iteration"), ("--checkpoints",),
                         ("--metadata",), ("--indexes",)):
                log_rows(*what, folder, expect=(FINE, DAMAGE, USAGE))
            shutil.rmtree(folder)
        print(f"{rounds} rounds")
