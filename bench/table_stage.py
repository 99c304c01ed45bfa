"""Both brokers side by side, and runs of `penstock bench` on them: what the table and the curve share.

Happy path: a Stage is a context; stage.broker(name) starts and warms up a broker when it is first
needed; stage.measure(row) makes pairs of runs, the brokers in turn, and returns what the document
says of the row. Failure: whatever ends a broker's part of a row is said in the document, as a
verdict `no-result`; that broker is stopped, and started anew for the next row that needs it.
"""
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

from scale import BINARY, CPUS, HALF, OUT, ROOT
from table_brokers import BROKERS, Failed, on_all_cpus, on_upper_half, settle

RUN_S_MAX = 300
WARM_UP_MIN_S = 2
DRAIN_MAX_S = 10 # of a broker that the load has overrun: it has no percentiles worth waiting for
LIMITS_S = 0.5
WHY_CHARS = 300
STOLEN_MAX = 3 # % of the CPUs that the host of a virtual machine may give to others meanwhile

# --quick's, and those without it.
DEFAULTS = {True: {"pairs": 1, "seconds": 3, "settle": 3, "warm": 8},
            False: {"pairs": 3, "seconds": 5, "settle": 8, "warm": 15}}


def say(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def one_line(error):
    """Why, as a line of the table: the class only where it says more than the text."""
    text = " ".join(str(error).split())
    if not isinstance(error, Failed):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= WHY_CHARS else "... " + text[-WHY_CHARS:]


class Stolen:
    """What a host has taken of this machine's CPUs since."""

    def __init__(self):
        self.before = self.look()

    @staticmethod
    def look():
        with open("/proc/stat") as stat:
            ticks = [int(field) for field in stat.readline().split()[1:9]]
        return ticks[7], sum(ticks)

    def percent(self):
        (taken, all_of_it), (taken_before, before) = self.look(), self.before
        return 100 * (taken - taken_before) / max(all_of_it - before, 1)

    def verdicts(self):
        percent = self.percent()
        return [] if percent <= STOLEN_MAX else [
            {"code": "stolen", "text": f"the host gave {percent:.0f} % of this machine's CPUs to others"}]


def options_add(parser):
    """Those that say how long a broker is looked at."""
    parser.add_argument("--pairs", type=int, help="runs of each broker (3)")
    parser.add_argument("--seconds", type=float, help="of a measured window (5)")
    parser.add_argument("--settle", type=float, help="a run's warm-up at most (8)")
    parser.add_argument("--warm", type=float, help="each of a broker's two warm-ups (15)")
    parser.add_argument("--quick", action="store_true",
                        help="1 pair, windows of 3 s, warm-ups of 3 and 8 s: too short to be steady")


def options_complete(options):
    for key, value in DEFAULTS[options.quick].items():
        if getattr(options, key) is None:
            setattr(options, key, value)


def kafka_version():
    jars = glob.glob(os.path.join(ROOT, "build", "clients", "java", "peer", "kafka_2*.jar"))
    return re.sub(r"^kafka_[0-9.]+-|\.jar$", "", os.path.basename(jars[0])) if jars else "?"


class Stage:
    def __init__(self, options, name, kinds=None):
        """Results of runs are kept in build/bench/NAME."""
        self.options, self.folder = options, os.path.join(OUT, name)
        self.kinds = BROKERS if kinds is None else kinds
        self.brokers, self.resident_bytes_max, self.remembered = {}, {}, {}
        self.machine = self.commit = None
        self.pair, self.runs, self.label = 1, 0, ""

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        return self

    def __exit__(self, *_):
        for name in list(self.brokers):
            self.stop(name)

    # -- brokers

    def broker(self, name):
        """Started and warmed up when it is needed for the first time."""
        if name not in self.brokers:
            broker = self.kinds[name]()
            broker.__enter__()
            try:
                self.warm_up(broker)
            except BaseException:
                broker.__exit__()
                raise
            self.brokers[name] = broker
        return self.brokers[name]

    def stop(self, name):
        broker = self.brokers.pop(name, None)
        if broker:
            broker.__exit__()

    def warm_up(self, broker):
        """The JVM compiles what runs often: large and small requests, produced and consumed."""
        say(f"warming up {broker.name}")
        label, self.label = self.label, "warm-up"
        for settings in ({"batch-size": "64KiB"},
                         {"batch-size": "1", "linger-ms": "0", "buffer-memory": "64KiB"}):
            topic = self.new_topic()
            self.bench("e2e", broker, {
                "topic": topic, "record-size": "100", "partitions": "6", "rate": "max", "verify": "off",
                **settings, "warmup-min-s": "0", "warmup-max-s": "0", "duration-s": str(self.options.warm)})
            broker.delete_topic(topic)
        self.label = label

    # -- runs of penstock bench

    def number(self):
        self.runs += 1
        return self.runs

    def new_topic(self):
        return f"table-{self.number()}"

    def command(self, kind, broker, settings):
        """The command, and where its result will be."""
        path = os.path.join(
            self.folder, f"{self.label}-{self.pair}-{broker.name}-{kind}-{self.number()}.json")
        settle_s = self.options.settle
        settings = {"partitions": "1", "warmup-min-s": str(min(WARM_UP_MIN_S, settle_s)),
                    "warmup-max-s": str(settle_s), "duration-s": str(self.options.seconds),
                    "drain-max-s": str(DRAIN_MAX_S), **settings}
        command = [BINARY, "bench", kind, "--bootstrap", broker.address, "--broker-pid",
                   str(broker.pid), "--label", broker.name, "--json", path, "--quiet"]
        for key, value in settings.items():
            command += ["--" + key, value]
        return command, path

    def document(self, kind, broker, settings):
        """What `penstock bench` has written, of one or of many runs."""
        command, path = self.command(kind, broker, settings)
        document = run_to_result(command, path, on_upper_half)
        self.machine, self.commit = document["machine"], document["penstock"]["commit"]
        if broker is self.brokers.get(broker.name):
            key = broker.name, self.pair
            self.resident_bytes_max[key] = max(self.resident_bytes_max.get(key, 0), *(
                run["bill"]["rss_bytes_max"] for run in document["runs"]))
        return document

    def bench(self, kind, broker, settings):
        return self.document(kind, broker, settings)["runs"][0]

    def limits(self, block):
        """What device and loopback carry, at this size of block; on all CPUs, as a broker and its client."""
        path = os.path.join(self.folder, f"{self.label}-{self.pair}-limits-{self.number()}.json")
        command = [BINARY, "bench", "limits", "--limits", OUT, "--limits-seconds", str(LIMITS_S),
                   "--batch-size", block, "--json", path, "--quiet"]
        return run_to_result(command, path, on_all_cpus)["limits"]

    def remember(self, key, find):
        """What find() found the first time; None in later pairs is the caller's matter."""
        if key not in self.remembered:
            self.remembered[key] = find()
        return self.remembered[key]

    def about(self):
        machine = self.machine
        on = f"{machine['cpus_online']} CPUs ({machine['cpu_model']}), " \
             f"{machine['memory_bytes'] >> 30} GiB, Linux {machine['kernel']}; " if machine else ""
        return (f"{time.strftime('%d %B %Y')}, {on}brokers on CPUs {CPUS[:HALF]}, client on "
                f"{CPUS[HALF:] or CPUS}; penstock {self.commit or ''}, Apache Kafka {kafka_version()}.")

    # -- rows

    def measure(self, row):
        said = {"row": row.name, "title": row.title, "note": row.note, "invalid": [], "figures": [
            {"title": figure.title, "unit": figure.unit, "better": figure.better,
             **{name: [] for name in self.kinds}} for figure in row.figures]}
        self.label = row.name
        failed = set()
        for self.pair in range(1, self.options.pairs + 1):
            for name in self.kinds:
                values = {} if name in failed else self.measure_one(row, name, said)
                if values is None:
                    failed.add(name)
                for figure in said["figures"]:
                    figure[name].append((values or {}).get(figure["title"]))
                settle()
        return said

    def measure_one(self, row, name, said):
        """A row's figures of one run; None when there are none: the document says why."""
        verdicts, stolen = [], Stolen()
        try:
            values, verdicts = row.measure(self, name)
            verdicts = verdicts + stolen.verdicts()
            return values
        except Exception as error: # whatever it was, the other rows can do without this one
            verdicts = [{"code": "no-result", "text": one_line(error)}]
            say(f"{row.name}, {name}: {verdicts[0]['text']}")
            self.stop(name)
            return None
        finally:
            said["invalid"] += [{"broker": name, "pair": self.pair, **verdict} for verdict in verdicts]


def run_to_result(command, path, on_cpus):
    """Exit 1 is a run that calls itself invalid, and has a result all the same."""
    what = " ".join(command[1:3])
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False,
                              timeout=RUN_S_MAX, preexec_fn=on_cpus)
    except subprocess.TimeoutExpired:
        raise Failed(f"{what}: not done after {RUN_S_MAX} s") from None
    if done.returncode not in (0, 1) or not os.path.exists(path):
        raise Failed(f"{what}: exit {done.returncode}: {done.stdout}{done.stderr}")
    with open(path) as file:
        return json.load(file)
