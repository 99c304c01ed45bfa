#!/usr/bin/env python3
"""Where a GiB's CPU goes: a broker of one shard under two loads, by its own counters.

    bench/where.py [--seconds 5] [--binary build/penstock] [--no-perf]

Produces 1 KiB records (acks=1, batches up to 1 MiB, one partition) at full rate, then consumes them from
their segments. The broker gets the lower half of the CPUs, the client the upper half. Figures are of
a window in the middle of each load: /metrics.json and /proc/PID/task/*/stat at its two ends, and where
perf can be used the functions that took the time. User and system time are what the kernel's timer
ticks saw (10 ms): the sum is exact, the split is sampled. Needs 8 GiB of disk for a moment.
"""
import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICKS = os.sysconf("SC_CLK_TCK")
MIB, GIB = 1 << 20, 1 << 30
PERF_LINES = 12
LOADS = {
    # name: options of `penstock bench`, the counter that says how much was moved, seconds to settle
    "produce": (["--rate", "max", "--acks", "1", "--batch-size", "1MiB"], "append_bytes_total", 2),
    "consume": (["--topic-reuse", "true"], "egress_bytes_total", 0.5),
}


def halves():
    cpus = sorted(os.sched_getaffinity(0))
    half = max(len(cpus) // 2, 1)
    return cpus[:half], cpus[half:] or cpus


def start(command, cpus, **keywords):
    return subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, cpus), **keywords)


def end(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- one look at the broker

def number(value):
    """Of a counter; with labels all of them together; of a histogram its sum."""
    if not isinstance(value, dict):
        return value
    return value["sum"] if "sum" in value else sum(value.values())


def thread_ticks(pid):
    """{thread: (user, system)}; the kernel's workers of the ring are threads, too."""
    found = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/stat") as stat:
                name, _, rest = stat.read().partition("(")[2].rpartition(")")
        except FileNotFoundError:
            continue
        fields = rest.split()
        found[tid] = name.split("-")[0], int(fields[11]), int(fields[12])
    return found


class Look:
    def __init__(self, broker):
        url = f"http://127.0.0.1:{broker.metrics_port}/metrics.json"
        with urllib.request.urlopen(url, timeout=10) as answer:
            document = json.load(answer)
        self.threads = thread_ticks(broker.process.pid)
        self.shard = document["shards"][0]
        self.seconds = document["clock_seconds"]
        self.cpu = document["cpu_seconds_total"]


class Window:
    """What happened between two looks."""

    def __init__(self, before, after, moved_by):
        self.before, self.after = before, after
        self.seconds = after.seconds - before.seconds
        self.moved = self.grown(moved_by)

    def grown(self, name, label=None):
        before, after = self.before.shard[name], self.after.shard[name]
        return after[label] - before[label] if label else number(after) - number(before)

    def count(self, histogram):
        return sum(self.after.shard[histogram]["counts"]) - \
            sum(self.before.shard[histogram]["counts"])

    def cpu_per_gib(self, mode):
        return (self.after.cpu[mode] - self.before.cpu[mode]) / self.moved * GIB

    def thread_cpu_per_gib(self, kind):
        ticks = 0
        for tid, (name, user, system) in self.after.threads.items():
            _, user_before, system_before = self.before.threads.get(tid, (name, 0, 0))
            if name == kind:
                ticks += user - user_before + system - system_before
        return ticks / TICKS / self.moved * GIB


# -- the broker and its load

class Broker:
    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory
        self.port, self.metrics_port = free_port(), free_port()
        self.broker_cpus, self.client_cpus = halves()
        command = [binary, "serve", "--shards", "1", "--data", os.path.join(directory, "data"),
                   "--listen", f"127.0.0.1:{self.port}", "-o", f"metrics.listen={self.metrics_port}"]
        self.log = open(os.path.join(directory, "log"), "w")
        self.process = start(command, self.broker_cpus, stdout=subprocess.PIPE, stderr=self.log)
        if not self.process.stdout.readline().startswith(b"penstock ready"):
            sys.exit(f"where: the broker does not start: {self.log.name}")

    def load(self, kind, options):
        command = [self.binary, "bench", kind, "--bootstrap", f"127.0.0.1:{self.port}", "--topic",
                   "where", "--partitions", "1", "--record-size", "1KiB", "--duration-s", "600",
                   "--quiet", *options]
        return start(command, self.client_cpus, stdout=self.log, stderr=self.log)

    def measure(self, kind, seconds, perf):
        options, moved_by, settle_s = LOADS[kind]
        client = self.load(kind, options)
        try:
            first = Look(self)
            while Window(first, Look(self), moved_by).moved < 64 * MIB:
                time.sleep(0.1)
                if client.poll() is not None:
                    sys.exit(f"where: {kind}: the client ended: {self.log.name}")
            time.sleep(settle_s)
            before = Look(self)
            functions = perf_record(self, seconds) if perf else time.sleep(seconds)
            window = Window(before, Look(self), moved_by)
            if client.poll() is not None:
                sys.exit(f"where: {kind}: the client ended too soon: {self.log.name}")
        finally:
            end(client)
        return window, functions


# -- perf

def perf_works(directory):
    probe = ["perf", "record", "-q", "-e", "cpu-clock", "-o", os.path.join(directory, "probe"),
             "true"]
    return shutil.which("perf") is not None and subprocess.run(
        probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def perf_record(broker, seconds):
    """[(share, function)] of the broker's CPU time, the largest first."""
    data = tempfile.mktemp(prefix="perf-", dir=broker.directory)
    done = subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-o", data, "-p",
                           str(broker.process.pid), "--", "sleep", str(seconds)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"where: perf record: {done.stderr or done.returncode}")
    report = subprocess.run(["perf", "report", "-i", data, "--stdio", "-q", "--sort", "sym",
                             "--percent-limit", "0.5"], capture_output=True, text=True, check=True)
    rows = []
    for line in report.stdout.splitlines():
        share, _, function = line.strip().partition("%")
        if function:
            where, _, name = function.strip().partition(" ")
            rows.append((float(share) / 100, name + (" (kernel)" if where == "[k]" else "")))
    return rows


# -- the table

ROWS = [
    ("GiB a second", lambda w: w.moved / w.seconds / GIB, 2),
    ("CPU s/GiB", lambda w: w.cpu_per_gib("user") + w.cpu_per_gib("system"), 3),
    ("  user", lambda w: w.cpu_per_gib("user"), 3),
    ("  system", lambda w: w.cpu_per_gib("system"), 3),
    ("  of these: the shard's thread", lambda w: w.thread_cpu_per_gib("shard"), 3),
    ("  the kernel's workers", lambda w: w.thread_cpu_per_gib("iou"), 3),
    ("system calls a MiB", lambda w: w.grown("system_calls_total") / w.moved * MIB, 2),
    ("completions a turn", lambda w: w.grown("completions_total") / w.grown("turns_total"), 2),
    ("KiB moved a completion", lambda w: w.moved / w.grown("completions_total") / 1024, 1),
    ("bytes received, per byte", lambda w: w.grown("received_bytes_total") / w.moved, 3),
    ("bytes sent by send, per byte", lambda w: w.grown("egress_bytes_total", "send") / w.moved, 3),
    ("bytes sent by send_zc", lambda w: w.grown("egress_bytes_total", "send_zc") / w.moved, 3),
    ("bytes sent by splice", lambda w: w.grown("egress_bytes_total", "splice") / w.moved, 3),
    ("bytes to the journal", lambda w: w.grown("journal_write_bytes") / w.moved, 3),
    ("bytes straight to segments", lambda w: w.grown("direct_write_bytes_total") / w.moved, 3),
    ("bytes from memory to segments", lambda w: w.grown("destaged_bytes_total") / w.moved, 3),
    ("bytes read from disk", lambda w: w.grown("device_read_bytes_total") / w.moved, 3),
    ("journal writes a second", lambda w: w.count("journal_write_bytes") / w.seconds, 0),
    ("flushes a second", lambda w: w.grown("device_flushes_total") / w.seconds, 0),
]


def show(windows):
    print(f"{'':34}" + "".join(f"{kind:>10}" for kind in windows))
    for title, figure, decimals in ROWS:
        print(f"{title:34}" + "".join(f"{figure(window):10.{decimals}f}"
                                      for window, _ in windows.values()))
    for kind, (window, functions) in windows.items():
        cpu = window.cpu_per_gib("user") + window.cpu_per_gib("system")
        if functions:
            print(f"\n{kind}: CPU s/GiB by function")
        for share, name in (functions or [])[:PERF_LINES]:
            print(f"  {share * cpu:6.3f}  {name}")


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--binary", default=os.path.join(ROOT, "build", "penstock"))
    options.add_argument("--no-perf", action="store_true")
    options = options.parse_args()
    parent = os.path.join(ROOT, "build", "tmp")
    os.makedirs(parent, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="where-", dir=parent)
    broker = Broker(os.path.abspath(options.binary), directory)
    try:
        perf = not options.no_perf and perf_works(directory)
        windows = {"produce": broker.measure("produce", options.seconds, perf),
                   # Reading is faster: half the time, so that it does not come to the end.
                   "consume": broker.measure("consume", options.seconds / 2, perf)}
    finally:
        end(broker.process)
    print(f"CPUs {broker.broker_cpus} for the broker, {broker.client_cpus} for the client")
    show(windows)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
