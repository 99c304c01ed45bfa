#!/usr/bin/env python3
"""What only a bigger machine shows: `make vm-test` (README.md here says how the machine is made).

Happy path: for each file system the machine of guest.py boots with the real broker on it, each
  check asks the guest's kernel, or feeds a client on this side of the tap device. A line
  a check with what was seen, last line "N passed, N failed[, N skipped]", exit 0.
Failure: the check's line says what was wrong; exit 1. Exit 77, reason in the last line: the
  laboratory cannot be had here.
"""
import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from vm.guest import (Guest, GuestError, KIT_MODULES, NETWORK, NODES, in_own_network,  # noqa: E402
                      network_up)
from vm.lab import Kit, Lab, LabError, LabMissing  # noqa: E402

MIB = 1 << 20
SKIP_EXIT = 77
DISK_BYTES = 1024 * MIB
PORT, SHARDS, PARTITIONS = 9092, 4, 8
METRICS = "127.0.0.1:9192"
BOOTSTRAP = f"{NETWORK.guest}:{PORT}"
PAYLOAD_BYTES, RECORD_BYTES = 24 * MIB, 16384
# For polled reads, which are short: so little in each partition.
COLD_BYTES, COLD_PARTITIONS = 6 * MIB, 128
KCAT_TIMEOUT_S = 90
KIT = Kit(programs=["penstock"], scripts=["broker.sh"], modules=KIT_MODULES)
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
        "xfs": ["mkfs.xfs", "-q", "-f"]}


class Box:
    """The guest with the file system mounted and a broker on it."""

    def __init__(self, guest, folder, fs):
        self.guest, self.folder, self.fs = guest, folder, fs
        guest.run(f"mount -t {fs} /dev/nvme0n1 /mnt && . /penstock/broker.sh")

    def start(self, *options):
        words = " ".join(["--shards", str(SHARDS), "--memory", "256m", "-o",
                          f"num.partitions={PARTITIONS}", "-o", f"metrics.listen={METRICS}", "-o", "log.segment.bytes=16m", *options])
        self.guest.run(f"broker_start /mnt/data {BOOTSTRAP} {words} || cat /tmp/broker.err")
        self.pid = int(self.guest.run("echo $broker_pid"))

    @contextlib.contextmanager
    def running(self, *options):
        self.start(*options)
        try:
            yield
        finally:
            self.stop()

    def stop(self):
        self.guest.run("broker_stop || { cat /tmp/broker.err; false; }")

    def read(self, path):
        return self.guest.run(f"cat {path}").strip()

    def doctor(self, words):
        """(exit code, what it found)"""
        code, said = self.guest.try_run(f"penstock doctor --json {words}")
        try:
            return code, json.loads(said)
        except ValueError:
            raise AssertionError(f"doctor {words}: exit code {code}\n{said}") from None

    def file(self, name):
        return os.path.join(self.folder, name)


# -- the client on this side

def kcat(*words, stdin=None, stdout=subprocess.PIPE):
    done = subprocess.run(["kcat", "-b", BOOTSTRAP, *words], stdin=stdin or subprocess.DEVNULL,
                          stdout=stdout, stderr=subprocess.PIPE, timeout=KCAT_TIMEOUT_S)
    assert done.returncode == 0, f"kcat {' '.join(words)}: {done.stderr.decode()}"


def payload(path, size_bytes):
    """Lines of random letters: each a record."""
    with open(path, "wb") as file:
        for _ in range(size_bytes // RECORD_BYTES):
            file.write(os.urandom(RECORD_BYTES // 2).hex().encode()[:RECORD_BYTES - 1] + b"\n")


def digest(path):
    """Of the lines, whatever their order: kcat reads partition by partition."""
    with open(path, "rb") as file:
        return hashlib.sha256(b"".join(sorted(file))).hexdigest()


def produce(box, topic, size_bytes, *words):
    payload(box.file(topic), size_bytes)
    with open(box.file(topic), "rb") as file:
        kcat("-P", "-t", topic, "-X", "acks=all", *words, stdin=file)


def consume(box, topic):
    """All of it, and it must be what was produced."""
    with open(box.file("got"), "wb") as file:
        kcat("-C", "-t", topic, "-e", "-q", stdout=file)
    assert digest(box.file("got")) == digest(box.file(topic)), "other bytes came back"


# -- the checks

class NotHere(Exception):
    """What the check is of is not in this build; the message says what."""


def machine_is_as_built(box):
    for node, cpus in NODES:
        assert box.read(f"/sys/devices/system/node/node{node}/cpulist") == cpus
    assert box.read("/sys/block/nvme0n1/queue/io_poll") == "1"
    shown = box.guest.run("penstock topo")
    assert "4 shards on 4 cores, 2 NUMA nodes" in shown, shown
    return "2 NUMA nodes, 4 cores, NVMe with poll queues near node 0, network near node 1"


def shards_are_pinned(box):
    seen = {}
    for line in box.guest.run(f"cd /proc/{box.pid}/task; for t in *; do echo $(cat $t/comm) "
                              "$(grep Cpus_allowed_list $t/status); done; cd /").splitlines():
        name, _, cpus = line.split()
        if name.startswith("shard-"):
            seen[name] = cpus
    expected = {f"shard-{cpu}": str(cpu) for cpu in range(SHARDS)}
    assert seen == expected, seen
    return f"each on a CPU of its own: {seen}"


def consumer_outside_is_fed(box):
    before = int(box.read("/sys/class/net/eth0/statistics/tx_bytes"))
    produce(box, "outside", PAYLOAD_BYTES)
    consume(box, "outside")
    tx = int(box.read("/sys/class/net/eth0/statistics/tx_bytes")) - before
    assert tx >= PAYLOAD_BYTES, f"only {tx} bytes left the guest"
    return f"{PAYLOAD_BYTES // MIB} MiB over {PARTITIONS} partitions came back the same"


def metric(box, name):
    """Of all shards together; name: a pattern of grep."""
    said = box.guest.run(f"wget -q -O - http://{METRICS}/metrics | grep '^penstock_{name}' || true")
    return sum(int(line.split()[-1]) for line in said.splitlines())


def send_zc_does_not_copy(box):
    """By the usage reports that the kernel gives with each release of a buffer."""
    if "|send_zc" not in box.guest.run("penstock serve --help | grep ' egress='"):
        raise NotHere("this build does not send with SEND_ZC")
    names = ("egress_bytes_total.*send_zc", "zero_copy_not_copied_total",
             "zero_copy_copied_total")
    before = [metric(box, name) for name in names]
    consume(box, "outside")
    taken, not_copied, copied = [metric(box, name) - old for name, old in zip(names, before)]
    said = f"{taken} bytes by send_zc; reports: {not_copied} not copied, {copied} copied"
    assert taken > PAYLOAD_BYTES // 2 and not_copied > 10 * copied, said  # a retransmission may be
    return said


def memory_is_on_its_node(box):
    code, found = box.doctor(f"--pid {box.pid}")
    assert code == 0 and found["ok"] and found["numa"], found
    assert [(node["node"], node["shards"]) for node in found["nodes"]] == [(0, 2), (1, 2)], found
    placed, astray = kernels_count(box)
    for node in found["nodes"]:
        number = node["node"]
        assert node["placed_kib"] == placed[number] > 4 * 1024, (found, placed)
        assert node["ring_kib"] > 0, found
    assert astray == 0, astray
    return f"KiB placed by node {placed}, astray {astray}; rings and stacks too"


def kernels_count(box):
    """numa_maps once more, without doctor: KiB by node asked for, and KiB on another."""
    placed, astray = {0: 0, 1: 0}, 0
    for line in box.read(f"/proc/{box.pid}/numa_maps").splitlines():
        policy = re.match(r"\S+ (?:prefer|bind)[^:]*:(\d+) ", line)
        if not policy:
            continue
        kib = int((re.search(r"kernelpagesize_kB=(\d+)", line) or [0, 4])[1])
        for node, pages in re.findall(r" N(\d+)=(\d+)", line):
            if node == policy[1]:
                placed[int(node)] += int(pages) * kib
            else:
                astray += int(pages) * kib
    return placed, astray


def memory_elsewhere_is_seen(box):
    """The check can fail: a shard sent to the other node is next to none of its memory."""
    found = f"grep -ls shard-0 /proc/{box.pid}/task/*/comm || [ $? = 2 ]" # 2: a thread has ended meanwhile
    thread = box.guest.run(found).split("/")[4]
    box.guest.run(f"taskset -pc 3 {thread}")
    code, found = box.doctor(f"--pid {box.pid}")
    box.guest.run(f"taskset -pc 0 {thread}")
    assert code == 1 and any("shard-0: its stack" in error for error in found["errors"]), found
    return found["errors"][0]


def settings(box):
    """What doctor would write, and what is there now."""
    _, found = box.doctor("--data /mnt/data --memory 256m")
    wanted = {s["path"]: s["want"] for rung in found["settings"] for s in rung["settings"]}
    return wanted, {path: box.read(path) for path in wanted}


def doctor_applies(box):
    """The broker is down; the next one finds huge pages. Returns what undo must bring back."""
    box.wanted, box.before = settings(box)
    kinds = ("nr_hugepages", "numa_balancing", "smp_affinity_list", "xps_cpus", "rps_flow_cnt",
             "rq_affinity")
    for kind in kinds:
        assert any(kind in path for path in box.wanted), (kind, box.wanted)
    words = "--data /mnt/data --memory 256m"
    box.guest.run(f"penstock doctor --apply {words}")
    assert settings(box) == (box.wanted, box.before), "a dry run has changed something"
    box.guest.run(f"penstock doctor --apply --yes {words}")
    for path, want in box.wanted.items():
        now = box.read(path)
        assert now == want or f"[{want}]" in now, (path, want, now)
    assert settings(box)[0] == {}, "something is left to do"
    return f"{len(box.wanted)} settings made"


def broker_uses_huge_pages(box):
    pool = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    with box.running():
        lines = [line for line in box.read(f"/proc/{box.pid}/numa_maps").splitlines()
                 if " huge" in line]
        total, free, reserved = (int(box.read(f"{pool}/{name}_hugepages"))
                                 for name in ("nr", "free", "resv"))
        code, found = box.doctor(f"--pid {box.pid}")
    nodes = sorted(re.search(r" (?:prefer|bind)[^:]*:(\d+) ", line)[1] for line in lines)
    assert nodes == ["0", "0", "1", "1"], lines
    assert total > 0 and free == reserved, (total, free, reserved)
    assert code == 0, found
    return f"the memory of each shard is of its node's huge pages, all {total} are taken"


def doctor_undoes(box):
    box.guest.run("penstock doctor --undo")
    box.guest.run("penstock doctor --undo --yes")
    after = {path: box.read(path) for path in box.before}
    changed = {path: (box.before[path], now) for path, now in after.items()
               if now != box.before[path]}
    assert not changed, changed
    code, said = box.guest.try_run("ls /run/penstock-doctor.state")
    assert code != 0, said
    return f"{len(after)} settings are as before"


def counters(box):
    """The kernel's own: requests that the disk has finished, its queues' interrupts, packets that
    were fetched by busy polling."""
    words = box.read("/sys/block/nvme0n1/stat").split()
    interrupts = sum(int(number) for line in box.read("/proc/interrupts").splitlines()
                     if re.search(r"nvme0q[1-9]", line) for number in line.split()[1:1 + SHARDS])
    names, values = [line.split() for line in box.read("/proc/net/netstat").splitlines()[:2]]
    # reads, writes and discards (flushes are not told apart on every kernel)
    return {"requests": int(words[0]) + int(words[4]) + int(words[11]), "interrupts": interrupts,
            "packets": int(values[names.index("BusyPollRxPackets")])}


def consume_cold(box, *options):
    """What it took, by the kernel's counters, to read the topic from the disk."""
    with box.running(*options):
        before = counters(box)
        consume(box, "cold")
        after = counters(box)
    return {name: after[name] - before[name] for name in after}


def disk_and_network_are_polled(box):
    with box.running("-o", f"num.partitions={COLD_PARTITIONS}"):
        produce(box, "cold", COLD_BYTES, "-X", "sticky.partitioning.linger.ms=0")
    slept = consume_cold(box)
    polled = consume_cold(box, "-o", "busy.poll.us=100")
    by_broker = sum(int(n) for n in re.findall(r"(\d+) polled", box.read("/tmp/broker.err")))
    said = f"without busy.poll.us {slept}; with it {polled}, {by_broker} reads polled"
    assert slept["requests"] > 100 and slept["interrupts"] > 10 and slept["packets"] == 0, said
    assert by_broker >= polled["requests"] // 2 > 50, said
    assert polled["interrupts"] < slept["interrupts"] // 4, said
    assert polled["packets"] > 0, said
    return said


WITH_BROKER = [machine_is_as_built, shards_are_pinned, consumer_outside_is_fed,
               send_zc_does_not_copy, memory_is_on_its_node, memory_elsewhere_is_seen]
WITHOUT_BROKER = [disk_and_network_are_polled, doctor_applies, broker_uses_huge_pages, doctor_undoes]


class Tally:
    def __init__(self):
        self.passed, self.failed, self.skipped = 0, 0, 0

    def check(self, fs, function, box):
        begin = time.monotonic()
        name = f"{fs}: {function.__name__.replace('_', ' ')}"
        try:
            said = function(box)
        except NotHere as reason:
            self.skipped += 1
            print(f"skipped {name}: {reason}", flush=True)
            return
        except (AssertionError, subprocess.TimeoutExpired) as error:
            self.failed += 1
            print(f"FAILED {name}: {error}", flush=True)
            if not str(error):
                traceback.print_exc(file=sys.stdout)
            return
        self.passed += 1
        print(f"ok {name} ({time.monotonic() - begin:.1f} s): {said}", flush=True)


def run(lab, folder, fs, tally):
    folder = os.path.join(folder, fs)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    image = os.path.join(folder, "disk.img")
    with open(image, "wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run([*MKFS[fs], image], check=True,
                   env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))
    begin = time.monotonic()
    with Guest(lab, folder, image) as guest:
        print(f"{fs}: booted in {time.monotonic() - begin:.1f} s", flush=True)
        box = Box(guest, folder, fs)
        with box.running():
            for function in WITH_BROKER:
                tally.check(fs, function, box)
        for function in WITHOUT_BROKER:
            tally.check(fs, function, box)
        guest.run("unmount /mnt")
    shutil.rmtree(folder)


def parse_options():
    parser = argparse.ArgumentParser(description="Checks on a machine with two NUMA nodes.")
    parser.add_argument("--fs", default="ext4,xfs", help="file systems (default: ext4,xfs)")
    parser.add_argument("--build", default="build", help="where `make` put things")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    for fs in options.fs.split(","):
        if fs not in MKFS:
            parser.error(f"{fs} is none of {', '.join(MKFS)}")
    return options


def main():
    options, tally = parse_options(), Tally()
    try:
        in_own_network()
        lab = Lab(options.build, KIT)
        network_up()
        for fs in options.fs.split(","):
            run(lab, os.path.join(options.build, "vm", "test"), fs, tally)
    except LabMissing as missing:
        print(missing)
        return SKIP_EXIT
    except (LabError, GuestError) as error:
        print(f"FAILED {error}")
        tally.failed += 1
    skipped = f", {tally.skipped} skipped" if tally.skipped else ""
    print(f"{tally.passed} passed, {tally.failed} failed{skipped}")
    return 1 if tally.failed or not tally.passed else 0


if __name__ == "__main__":
    sys.exit(main())
