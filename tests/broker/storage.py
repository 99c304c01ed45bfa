"""The files: written around the page cache, of fixed size, rolled, sealed, recycled, and readable
by Kafka's own dump tool."""
import errno
import json
import os
import re
import threading
import time

from lib.broker import Broker, is_sanitized
from lib.clients import is_full, java, kcat_consume, kcat_produce, need_command, run
from lib.kafka_wire import (Connection, batch, batch_values, create_topics, delete_topics, fetch,
                            leader_connection, list_offset, metadata, produce)
from lib.testcase import params, sanitized, timeout
from lib.text import MIB, sha256, text_file

DUMP = "org.apache.kafka.tools.DumpLogSegments"
SEGMENT = re.compile(r"\d{20}\.log$")
JOURNAL = re.compile(r"journal\.\d+$")


def files_below(broker, *patterns):
    """Paths of regular files whose name matches one of the patterns."""
    found = []
    for top in broker.data:
        for folder, _, names in os.walk(top):
            found += [os.path.join(folder, name) for name in names
                      if any(pattern.match(name) for pattern in patterns)]
    return sorted(found)


# -- around the page cache, at a fixed size

def resident_pages(paths):
    """{path: pages in the page cache}"""
    need_command("fincore")
    out, _ = run(["fincore", "--json", "--bytes", "--output", "PAGES,FILE", *paths])
    return {entry["file"]: int(entry["pages"]) for entry in json.loads(out)["fincore"]}


def holds_data(file):
    try:
        return os.lseek(file.fileno(), 0, os.SEEK_DATA) >= 0
    except OSError as problem:
        assert problem.errno == errno.ENXIO, problem
        return False


class SizeWatch:
    """Samples the size of every journal and segment file; a change is a problem, but for a segment
    that is sealed, which is cut to its length once. While its space is being reserved, which takes
    some calls of the file system's own, a file grows; it holds no data then."""

    def __init__(self, broker):
        self.broker, self.sizes, self.problems, self.samples = broker, {}, [], 0
        self.cut, self.used = {}, set()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _sample(self):
        for path in files_below(self.broker, SEGMENT, JOURNAL):
            try:
                with open(path, "rb") as file:
                    data = holds_data(file)
                    status = os.fstat(file.fileno())  # in this order: with data its size is final
            except FileNotFoundError:
                continue
            key = path, status.st_ino
            known = self.sizes.get(key)
            if known not in (None, status.st_size) and (key in self.used or status.st_size < known):
                self._changed(path, known, status.st_size)
            if data:
                self.used.add(key)
            self.sizes[key] = status.st_size
        self.samples += 1

    def _changed(self, path, before, now):
        if path in self.cut or now > before or JOURNAL.search(path):
            self.problems.append(f"{path}: {before} bytes became {now}")
        self.cut[path] = f"{path}: {before} bytes became {now}"

    def _unsealed(self):
        return [said for path, said in self.cut.items()
                if not os.path.exists(path[:-len("log")] + "index")]

    def _check(self):
        """Those that were cut get sealed: they have their index then."""
        end = time.monotonic() + 30
        while self._unsealed() and time.monotonic() < end:
            time.sleep(0.05)
        self.problems += self._unsealed()
        assert not self.problems, self.problems[:5]
        assert self.samples > 10, f"only {self.samples} samples"

    def _watch(self):
        while not self.stopping.is_set():
            self._sample()
            time.sleep(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stopping.set()
        self.thread.join()
        if kind is None:
            self._check()


def append_mixed(broker, topic, mib):
    """Large batches, which go straight to the segment in runs, and small ones, by the journal."""
    large, small = batch([b"L" * 8000] * 120), batch([b"s" * 100] * 5)
    with leader_connection(broker, topic) as connection:
        records, sent = 0, 0
        while sent < mib * MIB:
            for data, count in ((large, 120), (small, 5), (small, 5)):
                assert produce(connection, topic, data) == (0, records)
                records, sent = records + count, sent + len(data)
        assert list_offset(connection, topic, -1) == (0, records)


@timeout(180)
@sanitized
def test_no_page_is_cached_and_no_file_grows():
    mib = 8 if is_sanitized() else 256 if is_full() else 64
    with Broker(memory="256m", options={"journal.bytes": "64m"}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["direct", "text"])
        with SizeWatch(broker) as watch:
            append_mixed(broker, "direct", mib)
            kcat_produce(broker, "text", text_file(mib // 4 * MIB))
            time.sleep(0.5)  # destaging goes on
        files = files_below(broker, SEGMENT, JOURNAL)
        journals = [path for path in files if JOURNAL.search(path)]
        assert len(journals) == broker.shards and len(files) > len(journals), files
        cached = {path: pages for path, pages in resident_pages(files).items() if pages}
        assert not cached, f"resident pages: {cached}"
        kcat_consume(broker, "text", os.path.join(broker.dir, "back"))
        active = journals + [broker.segments(topic, 0)[-1] for topic in ("direct", "text")]
        cached = {path: pages for path, pages in resident_pages(active).items() if pages}
        assert not cached, f"resident pages after reading: {cached}"
        print(f"{len(files)} files, {watch.samples} samples of their sizes")


def test_the_check_itself():
    """A buffered write does show as resident pages: the test above can fail."""
    with Broker(options={"journal.bytes": "16m"}) as broker:
        path = os.path.join(broker.data[0], "buffered")
        with open(path, "wb") as out:
            out.write(b"x" * MIB)
        assert resident_pages([path])[path] > 0


# -- Kafka's dump tool

def dump(paths):
    """{file: [(first offset, last offset, records, codec) of each batch]} as the tool says, every
    record of which it must have listed in order. It complains in words of its own, so every line
    of its output has to be one of those known. It counts what is behind the terminator of an active
    segment, which keeps its size, as "invalid bytes at the end"."""
    lines = java(DUMP, "--deep-iteration", "--files", ",".join(paths), timeout_s=100)
    found, path, next_offset, left = {}, None, None, 0
    for line in lines:
        if line.startswith("| "):
            offset = int(re.match(r"\| offset: (\d+) ", line)[1])
            assert left > 0 and offset == next_offset, f"{path}: {line}"
            next_offset, left = offset + 1, left - 1
            continue
        assert left == 0, f"{path}: {left} records missing before {line}"
        if line.startswith("Dumping "):
            path = line[len("Dumping "):]
            found[path] = []
        elif line.startswith("baseOffset: "):
            first, last, left = map(int, re.match(
                r"baseOffset: (\d+) lastOffset: (\d+) count: (\d+) ", line).groups())
            assert " isvalid: true" in line and " magic: 2 " in line, line
            next_offset = first
            found[path].append((first, last, left, re.search(r" compresscodec: (\w+) ", line)[1]))
        elif line.startswith("Found "):
            check_rest(path, line)
        else:
            start = re.fullmatch(r"Log starting offset: (\d+)", line)
            assert start, f"{path}: the tool complains: {line}"
            assert int(start[1]) == int(os.path.basename(path)[:20]), line
    assert left == 0 and sorted(found) == sorted(paths), "a file is missing in the dump"
    return found


def records_in(found):
    return sum(count for batches in found.values() for _, _, count, _ in batches)


def check_rest(path, line):
    """Only the last segment has a rest, and that begins with the terminator."""
    rest = re.fullmatch(r"Found (\d+) invalid bytes at the end of (\d{20}\.log)", line)
    assert rest and rest[2] == os.path.basename(path), f"{path}: the tool complains: {line}"
    logs = [name for name in os.listdir(os.path.dirname(path)) if SEGMENT.match(name)]
    assert rest[2] == max(logs), f"a sealed segment: {line}"
    with open(path, "rb") as log:
        log.seek(os.path.getsize(path) - int(rest[1]))
        terminator = log.read(17)
    assert terminator[8:12] == b"\x7f\xff\xff\xff", f"{line}: {terminator!r}"


def check_dump(paths, records):
    """The batches of these segments follow each other from offset 0 on and hold so many records."""
    return check_batches(dump(paths), records)


def check_batches(found, records):
    next_offset = 0
    for path in sorted(found):
        base = int(os.path.basename(path)[:20])
        assert base == next_offset or not found[path], f"{path}: {next_offset} expected"
        for first, last, count, _ in found[path]:
            assert first == next_offset and last - first + 1 == count, (path, first, last, count)
            next_offset = last + 1
    assert next_offset == records, f"{next_offset} records in the dump, {records} expected"
    return found


def check_indexes(folder):
    """The index files of sealed segments are there, sane, and agree with the log."""
    logs = sorted(name for name in os.listdir(folder) if SEGMENT.match(name))
    for name in logs[:-1]:
        for suffix in (".index", ".timeindex"):
            assert os.path.exists(os.path.join(folder, name[:20] + suffix)), name[:20] + suffix
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))
             if name.endswith("index")]
    lines = java(DUMP, "--index-sanity-check", "--files", ",".join(paths))
    for path in paths:
        assert f"{path} passed sanity check." in lines, f"{path}: {lines[-5:]}"
    lines = java(DUMP, "--verify-index-only", "--files", ",".join(paths))
    assert lines == [f"Dumping {path}" for path in paths], lines[-5:]


def count_lines(path):
    with open(path, "rb") as lines:
        return sum(1 for _ in lines)


@timeout(180)
@params("none", "zstd")
def test_segments_roll_and_the_dump_tool_reads_them(codec):
    text = text_file((6 if codec == "none" else 14) * MIB)
    records = count_lines(text)
    options = {"log.segment.bytes": MIB, "journal.bytes": "32m"}
    with Broker(options=options) as broker:
        kcat_produce(broker, "rolled", text,
                     settings=["acks=all", f"compression.codec={codec}",
                               "batch.num.messages=500"])
        broker.stop() # before that their files come in their own time
        every = broker.segments("rolled", 0)
        assert len(every) > 2, f"only {len(every) - 1} sealed segments"
        assert all(os.path.getsize(path) <= MIB for path in every[:-1])
        found = check_dump(every, records)
        codecs = [entry[3] for path in every for entry in found[path]]
        # A client sends what does not get smaller as it is.
        assert codecs.count(codec) > 0.9 * len(codecs), codecs
        check_indexes(broker.partition_dir("rolled", 0))
        broker.start()
        back = os.path.join(broker.dir, "back")
        kcat_consume(broker, "rolled", back)
        assert sha256(back) == sha256(text)
        kcat_produce(broker, "rolled", text)  # and on, behind what was sealed and stopped
        broker.stop()
        check_dump(broker.segments("rolled", 0), 2 * records)


@timeout(180)
def test_sealed_segments_are_readable_while_the_broker_runs():
    options = {"log.segment.bytes": MIB, "journal.bytes": "32m"}
    with Broker(options=options) as broker:
        text = text_file(6 * MIB)
        kcat_produce(broker, "live", text, settings=["acks=all"])
        end = time.monotonic() + 60
        while True:  # sealing (truncate, index files) follows the roll in its own time
            every = broker.segments("live", 0)
            sealed = [path for path in every[:-1] if os.path.exists(path[:-4] + ".index")]
            # Files come in their own time and any order: one between these may have none yet.
            if len(every) > 3 and len(sealed) == len(every) - 1:
                found, records = dump(sealed), int(os.path.basename(every[-1])[:20])
                if records_in(found) == records:
                    break
            assert time.monotonic() < end, f"{len(sealed)} of {len(every) - 1} sealed after 60 s"
            time.sleep(0.1)
        check_batches(found, records)


@timeout(120)
def test_after_a_kill_and_a_clean_stop():
    """What recovery has put together, the dump tool reads as well."""
    options = {"log.segment.bytes": MIB, "journal.bytes": "32m"}
    with Broker(options=options) as broker:
        text = text_file(3 * MIB)
        kcat_produce(broker, "killed", text, settings=["acks=all"])
        broker.restart(kill=True)
        broker.stop()
        check_dump(broker.segments("killed", 0), count_lines(text))


def test_small_partitions_take_little_disk():
    """One record each: a size class as small as what is in it."""
    with Broker(options={"journal.bytes": "16m"}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["small"], 50)
        for partition in range(50):
            with leader_connection(broker, "small", partition) as connection:
                assert produce(connection, "small", batch([b"one"]), partition) == (0, 0)
        broker.stop()
        used = sum(os.stat(path).st_blocks * 512 for path in files_below(broker, SEGMENT))
        print(f"{used // 50} bytes a partition")
        assert used <= 50 * 64 * 1024, used
        check_dump([broker.segments("small", 7)[0]], 1)


# -- files that come back

def wait_until(what, wanted, timeout_s=30):
    end = time.monotonic() + timeout_s
    while not wanted():
        assert time.monotonic() < end, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)


def pool_files(broker):
    """{inode: path} of the segment files that are free for reuse."""
    found = {}
    for top in broker.data:
        for folder in os.listdir(top):
            if folder.startswith(".pool"):
                for name in os.listdir(os.path.join(top, folder)):
                    path = os.path.join(top, folder, name)
                    found[os.stat(path).st_ino] = path
    return found


def deleted_dirs(broker):
    return [name for top in broker.data for name in os.listdir(top) if name.endswith("-delete")]


def fill(broker, topic, letter, batches=20):
    """20,000 records of 1000 times this letter; the same batches to the byte but for the letter."""
    data = batch([letter * 1000] * 1000)
    with leader_connection(broker, topic) as connection:
        for turn in range(batches):
            assert produce(connection, topic, data) == (0, turn * 1000)


def read_letters(broker, topic):
    """(records, set of values) of the whole partition."""
    with leader_connection(broker, topic) as connection:
        end = list_offset(connection, topic, -1)[1]
        offset, values = 0, set()
        while offset < end:
            error, _, data = fetch(connection, topic, offset, max_bytes=8 * MIB)
            found = batch_values(data)
            assert error == 0 and found and found[0][0] == offset, (error, offset, found[:1])
            values |= {value for _, value in found}
            offset = found[-1][0] + 1
        return offset, values


@timeout(120)
def test_files_of_a_deleted_topic_are_used_again():
    """Old records in a recycled file never show: to a reader, after kill -9, in a dump."""
    options = {"log.segment.bytes": 4 * MIB, "log.segment.delete.delay.ms": 100,
               "journal.bytes": "32m"}
    with Broker(shards=1, options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["old"])
            fill(broker, "old", b"o")
            old = {os.stat(path).st_ino for path in broker.segments("old", 0)}
            delete_topics(connection, ["old"])
        wait_until("the deleted topic's files go to the pool",
                   lambda: not deleted_dirs(broker) and pool_files(broker))
        pooled = old & set(pool_files(broker))
        assert pooled, f"none of {len(old)} files is in the pool"
        with Connection(broker) as connection:
            create_topics(connection, ["new"])
        fill(broker, "new", b"n", 10)
        again = pooled & {os.stat(path).st_ino for path in broker.segments("new", 0)}
        assert again, "the pool's files were not used again"
        print(f"{len(old)} files, {len(pooled)} pooled, {len(again)} used again")
        assert read_letters(broker, "new") == (10_000, {b"n" * 1000})
        broker.restart(kill=True)
        assert read_letters(broker, "new") == (10_000, {b"n" * 1000})
        broker.stop()
        check_dump(broker.segments("new", 0), 10_000)
        broker.start()
        assert read_letters(broker, "new") == (10_000, {b"n" * 1000})


@timeout(120)
@params("kill", "stop")
def test_deleted_directories_do_not_stay(how):
    """Killed or stopped before a deleted topic's files are gone: the next start removes them, and a
    new topic of that name is empty."""
    options = {"log.segment.delete.delay.ms": 2000, "journal.bytes": "32m"}
    with Broker(options=options) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["gone", "stays"], 4)
        fill(broker, "gone", b"g", 3)
        fill(broker, "stays", b"s", 3)
        with Connection(broker) as connection:
            delete_topics(connection, ["gone"])
            create_topics(connection, ["gone"], 4)
        broker.restart(kill=how == "kill")
        with Connection(broker) as connection:
            assert sorted(metadata(connection)[1]) == ["gone", "stays"]
        assert read_letters(broker, "gone") == (0, set())
        assert read_letters(broker, "stays") == (3000, {b"s" * 1000})
        wait_until("the directories of deleted partitions go", lambda: not deleted_dirs(broker))
        fill(broker, "gone", b"G", 3)
        broker.restart(kill=True)
        assert read_letters(broker, "gone") == (3000, {b"G" * 1000})
