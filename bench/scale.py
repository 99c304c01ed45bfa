#!/usr/bin/env python3
"""What many partitions and connections cost a broker of two shards, beside a few of each.

    bench/scale.py [--partitions 10000] [--connections 5000] [--seconds 6] [--warm 20] [--memory 2g]
    or: make bench-scale ARGS="..."

Rows, each on a broker of its own in an empty directory, full batches of 16 KiB in each, one partition after the
other, as the partitioner of Kafka's own client has it:
    few          10 partitions, no other connection
    partitions   10,000 partitions
    connections  10 partitions, 5,000 connections that have asked once and are silent
measured when --warm seconds of load have made their files and touched all of the memory, which is dear the first time;
and for the last two what the broker's resident memory grew by for each, and its CPU when idle. How busy the CPUs
of both sides and the device were, whoever used them, says what was the limit; of the device also how many writes of
what size it got: where they are much smaller than the broker's, most are the file system's own.
The broker gets the lower half of the CPUs, the load generator the upper half. ext4 looks through the files that
were deleted in the last minutes for each one it makes: two runs in a row are not the same. Exit code 0: rates
within 20 % of the first row's, and no CPU when idle. Results: build/bench/scale-*.json.
"""
import argparse
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUT = os.path.join(ROOT, "build", "bench")
BINARY = os.path.join(ROOT, "build", "penstock")
CPUS = sorted(os.sched_getaffinity(0))
HALF = max(len(CPUS) // 2, 1)
TICKS = os.sysconf("SC_CLK_TCK")
API_VERSIONS, CREATE_TOPICS = 18, 19
FEW = 10
IDLE_S = 5
SERVE = ["--shards", "2", "-o", "log.scrub.bytes.per.second=0"] # idle: also what was written is not looked at again
SECTOR_BYTES = 512 # of /sys/dev/block/*/stat, whatever the device's are


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)

    def request(self, api, version, body):
        head = struct.pack(">hhi", api, version, 1) + string("scale")
        self.socket.sendall(struct.pack(">i", len(head + body)) + head + body)
        length, = struct.unpack(">i", self.receive(4))
        return self.receive(length)

    def receive(self, size):
        data = self.socket.recv(size, socket.MSG_WAITALL)
        assert len(data) == size, "the broker has closed the connection"
        return data


def free_ports(count):
    """So many in a row."""
    while True:
        held = [socket.socket() for _ in range(count)]
        try:
            held[0].bind(("127.0.0.1", 0))
            first = held[0].getsockname()[1]
            for number in range(1, count):
                held[number].bind(("127.0.0.1", first + number))
            return first
        except (OSError, OverflowError):
            continue
        finally:
            for one in held:
                one.close()


class Broker:
    def __init__(self, options):
        self.options = options

    def __enter__(self):
        self.data = os.path.join(OUT, "scale-data")
        shutil.rmtree(self.data, ignore_errors=True)
        self.port = free_ports(2)
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data", self.data, "--listen", f"127.0.0.1:{self.port}", *SERVE,
             *self.options], stdout=subprocess.PIPE, stderr=open(os.path.join(OUT, "scale.log"), "a"),
            preexec_fn=lambda: os.sched_setaffinity(0, SIDES["broker"]))
        assert self.process.stdout.readline().startswith(b"penstock ready"), "it did not start"
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.data, ignore_errors=True)

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def idle_cpu(self):
        """Share of a core, once what the load left behind is done."""
        for _ in range(60):
            before = self.cpu_s()
            time.sleep(1)
            if self.cpu_s() - before <= 1 / TICKS:
                break
        before = self.cpu_s()
        time.sleep(IDLE_S)
        return (self.cpu_s() - before) / IDLE_S

    def create_topic(self, name, partitions):
        body = struct.pack(">i", 1) + string(name) + struct.pack(
            ">ihiiib", partitions, 1, 0, 0, 60_000, 0)
        Connection(self.port).request(CREATE_TOPICS, 2, body)


def cpu_times(cpus):
    """Busy and all, in ticks since boot, of these together."""
    busy = total = 0
    with open("/proc/stat") as stat:
        for line in stat:
            name, *times = line.split()
            if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
                times = [int(ticks) for ticks in times[:8]] # behind these: guests, counted already
                busy += sum(times) - times[3] - times[4] # idle, iowait
                total += sum(times)
    return busy, total


def busy_share(cpus, before):
    busy, total = (now - then for now, then in zip(cpu_times(cpus), before))
    return busy / total if total else 0


def device_counts(path):
    """Writes, their bytes, and ms busy of the device under it; None: it has none that counts."""
    number = os.stat(path).st_dev
    try:
        with open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat") as stat:
            fields = [int(field) for field in stat.read().split()]
    except FileNotFoundError:
        return None
    return fields[4], fields[6] * SECTOR_BYTES, fields[9]


def device_load(path, before, seconds):
    now = device_counts(path)
    if before is None or now is None:
        return None
    writes, written_bytes, busy_ms = (count - then for count, then in zip(now, before))
    return {"busy": min(busy_ms / 1000 / seconds, 1), "writes": writes / seconds,
            "write_bytes": written_bytes / writes if writes else 0}


SIDES = {"broker": CPUS[:HALF], "client": CPUS[HALF:] or CPUS}


def load(broker, row, partitions, seconds, warm_s, reuse):
    path = os.path.join(OUT, f"scale-{row}.json")
    command = [BINARY, "bench", "produce", "--bootstrap", f"127.0.0.1:{broker.port}",
               "--broker-pid", str(broker.process.pid), "--partitions", str(partitions),
               "--record-size", "1KiB", "--rate", "max", "--acks", "1", "--batch-size", "16KiB",
               "--linger-ms", "1000", "--buffer-memory", "64MiB", "--duration-s", str(seconds),
               "--warmup-min-s", str(warm_s), "--warmup-max-s", str(warm_s), "--topic-reuse", str(reuse).lower(),
               "--json", path, "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL,
                          preexec_fn=lambda: os.sched_setaffinity(0, SIDES["client"])):
        time.sleep(warm_s + 1) # inside the measured window, which begins a moment later
        before = {side: cpu_times(cpus) for side, cpus in SIDES.items()}
        began, device_before = time.monotonic(), device_counts(broker.data)
        time.sleep(max(seconds - 2, 1))
        device = device_load(broker.data, device_before, time.monotonic() - began)
        busy = {side: busy_share(cpus, before[side]) for side, cpus in SIDES.items()}
    with open(path) as file:
        run = json.load(file)["runs"][0]
    return {"row": row, "rate": run["windows"]["measure"]["ack_rate"], "busy": busy, "device": device,
            "cpu": run["bill"]["cpu_s_per_gib"], "resident": run["bill"]["rss_bytes_max"]}


def few_row(args):
    with Broker(args.broker_options) as broker:
        return load(broker, "few", FEW, args.seconds, args.warm, False)


def partitions_row(args):
    with Broker(args.broker_options) as broker:
        before = broker.resident_bytes()
        broker.create_topic("penstock-bench", args.partitions)
        idle = broker.idle_cpu()
        each = (broker.resident_bytes() - before) / args.partitions
        row = load(broker, "partitions", args.partitions, args.seconds, args.warm, True)
        return {**row, "idle": max(idle, broker.idle_cpu()), "each": each}


def connections_row(args):
    with Broker(args.broker_options) as broker:
        before = broker.resident_bytes()
        held = [Connection(broker.port + number % 2) for number in range(args.connections)]
        for one in held:
            one.request(API_VERSIONS, 0, b"")
        each = (broker.resident_bytes() - before) / args.connections
        row = load(broker, "connections", FEW, args.seconds, args.warm, False)
        return {**row, "idle": broker.idle_cpu(), "each": each}


def device_text(device):
    if device is None:
        return ""
    return (f"  device busy {100 * device['busy']:3.0f} %, {device['writes']:6.0f} writes/s of "
            f"{device['write_bytes'] / 1024:4.0f} KiB")


def show(row, first):
    text = (f"{row['row']:12} {row['rate']:9.0f} records/s ({row['rate'] / first['rate']:.2f})  "
            f"{row['cpu']:6.2f} CPU s/GiB  CPUs busy: broker's {100 * row['busy']['broker']:3.0f} %, client's "
            f"{100 * row['busy']['client']:3.0f} %{device_text(row['device'])}  "
            f"{row['resident'] >> 20:5} MiB resident under load")
    if "each" in row:
        text += f"  {row['each'] / 1024:.1f} KiB each when idle, {100 * row['idle']:.1f} % CPU idle"
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--partitions", type=int, default=10000)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--warm", type=int, default=20)
    parser.add_argument("--row", choices=["partitions", "connections"], help="this one alone")
    parser.add_argument("--memory", help="the broker's, of all shards (its default)")
    args = parser.parse_args()
    args.broker_options = ["--memory", args.memory] if args.memory else []
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.makedirs(OUT, exist_ok=True)
    first = few_row(args)
    show(first, first)
    well = True
    for name, measure in (("partitions", partitions_row), ("connections", connections_row)):
        if args.row in (None, name):
            row = measure(args)
            show(row, first)
            well = well and row["rate"] >= 0.8 * first["rate"] and row["idle"] < 1 / TICKS
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
