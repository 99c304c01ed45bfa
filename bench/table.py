#!/usr/bin/env python3
"""penstock beside Apache Kafka 4 on this machine, row by row, in one interleaved run.

    make bench-table [ARGS="--quick"]      or, when penstock is built: bench/table.py [OPTION]...

The brokers get the lower half of the CPUs, the client the upper half. Kafka has the heap of its own
start script and is warmed up first. Of each row A B A B, pair by pair. Prints the table and writes
build/bench/table.md and build/bench/table.json, after each row what there is.
"""
import argparse
import contextlib
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time

import table_print
from scale import BINARY, CPUS, HALF, OUT, ROOT
from table_brokers import BROKERS, on_upper_half, settle
from table_rows import ROWS

RUNS = os.path.join(OUT, "table")
RUN_S_MAX = 300


class Table:
    def __init__(self, options, stack):
        self.options, self.stack = options, stack
        self.brokers, self.resident_bytes_max = {}, {}
        self.machine = self.commit = None
        self.pair, self.runs, self.label = 1, 0, "warm-up"

    def broker(self, name):
        """Started and warmed up when it is needed for the first time."""
        if name not in self.brokers:
            broker = self.stack.enter_context(BROKERS[name]())
            self.warm_up(broker)
            self.brokers[name] = broker
        return self.brokers[name]

    def warm_up(self, broker):
        """The JVM compiles what runs often: large and small requests, produced and consumed."""
        say(f"warming up {broker.name}")
        for settings in ({"batch-size": "64KiB"},
                         {"batch-size": "1", "linger-ms": "0", "buffer-memory": "64KiB"}):
            topic = self.new_topic()
            self.bench("e2e", broker, {
                "topic": topic, "record-size": "100", "partitions": "6", "rate": "max", "verify": "off",
                **settings, "warmup-min-s": "0", "warmup-max-s": "0", "duration-s": str(self.options.warm)})
            broker.delete_topic(topic)

    def new_topic(self):
        self.runs += 1
        return f"table-{self.runs}"

    def bench(self, kind, broker, settings):
        """One run of `penstock bench`, as its result file has it."""
        path = os.path.join(RUNS, f"{self.label}-{self.pair}-{broker.name}-{kind}.json")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        settings = {"partitions": "1", "warmup-min-s": "2", "duration-s": str(self.options.seconds),
                    "warmup-max-s": str(self.options.settle), **settings}
        command = [BINARY, "bench", kind, "--bootstrap", broker.address, "--broker-pid",
                   str(broker.pid), "--label", broker.name, "--json", path, "--quiet"]
        for key, value in settings.items():
            command += ["--" + key, value]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                              timeout=RUN_S_MAX, preexec_fn=on_upper_half)
        if done.returncode not in (0, 1) or not os.path.exists(path):
            sys.exit(f"table: {' '.join(command)}: exit {done.returncode}\n"
                     f"{done.stdout}{done.stderr}")
        with open(path) as file:
            document = json.load(file)
        self.machine, self.commit = document["machine"], document["penstock"]["commit"]
        run = document["runs"][0]
        if broker is self.brokers.get(broker.name):
            key = broker.name, self.pair
            self.resident_bytes_max[key] = max(self.resident_bytes_max.get(key, 0),
                                               run["bill"]["rss_bytes_max"])
        return run

    def measure(self, row):
        """What the document says of a row."""
        said = {"row": row.name, "title": row.title, "note": row.note, "invalid": [], "figures": [
            {"title": figure.title, "unit": figure.unit, "better": figure.better,
             **{name: [] for name in BROKERS}} for figure in row.figures]}
        self.label = row.name
        for self.pair in range(1, self.options.pairs + 1):
            for name in BROKERS:
                values, verdicts = row.measure(self, name)
                for figure in said["figures"]:
                    figure[name].append(values.get(figure["title"]))
                said["invalid"] += [{"broker": name, "pair": self.pair, **verdict}
                                    for verdict in verdicts]
                settle()
        return said


def say(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def kafka_version():
    jars = glob.glob(os.path.join(ROOT, "build", "clients", "java", "peer", "kafka_2*.jar"))
    return re.sub(r"^kafka_[0-9.]+-|\.jar$", "", os.path.basename(jars[0])) if jars else "?"


def about(table):
    machine = table.machine
    on = f"{machine['cpus_online']} CPUs ({machine['cpu_model']}), " \
         f"{machine['memory_bytes'] >> 30} GiB, Linux {machine['kernel']}; " if machine else ""
    return (f"{time.strftime('%d %B %Y')}, {on}brokers on CPUs {CPUS[:HALF]}, client on "
            f"{CPUS[HALF:] or CPUS}; penstock {table.commit or ''}, Apache Kafka {kafka_version()}.")


def write(document):
    with open(os.path.join(OUT, "table.json"), "w") as file:
        json.dump(document, file, indent=1)
    with open(os.path.join(OUT, "table.md"), "w") as file:
        file.write(table_print.render(document))


def row_names(text):
    known = [row.name for row in ROWS]
    names = text.split(",")
    wrong = set(names) - set(known)
    if wrong:
        raise argparse.ArgumentTypeError(f"no row {', '.join(sorted(wrong))}; rows: {' '.join(known)}")
    return names


def options_parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=row_names, metavar="A,B", help="these alone: " +
                        " ".join(row.name for row in ROWS))
    parser.add_argument("--pairs", type=int, help="runs of each broker (3)")
    parser.add_argument("--seconds", type=float, help="of a measured window (5)")
    parser.add_argument("--settle", type=float, help="a run's warm-up at most (8)")
    parser.add_argument("--warm", type=float, help="each of a broker's two warm-ups (15)")
    parser.add_argument("--quick", action="store_true",
                        help="1 pair, windows of 3 s, warm-ups of 3 and 8 s: too short to be steady")
    options = parser.parse_args()
    defaults = {"pairs": 1, "seconds": 3, "settle": 3, "warm": 8} if options.quick else \
        {"pairs": 3, "seconds": 5, "settle": 8, "warm": 15}
    for key, value in defaults.items():
        if getattr(options, key) is None:
            setattr(options, key, value)
    return options


def main():
    options = options_parse()
    os.makedirs(RUNS, exist_ok=True)
    on_upper_half()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    document = {"format": "penstock-table/1", "pairs": options.pairs, "seconds": options.seconds,
                "rows": []}
    with contextlib.ExitStack() as stack:
        table = Table(options, stack)
        for row in ROWS:
            if options.rows and row.name not in options.rows:
                continue
            say(row.name)
            document["rows"].append(table.measure(row))
            document.update(about=about(table), machine=table.machine)
            write(document)
    sys.stdout.write(table_print.render(document))


if __name__ == "__main__":
    main()
