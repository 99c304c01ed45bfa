"""A broker under test: its directories, ports, log, and its life and death.

    with Broker(advertise="shard", shards=2) as broker:
        kcat_produce(broker.bootstrap, ...)
        broker.kill9()
        broker.start()

Happy path: start() returns once the ready line is there, stop() sends SIGTERM and asserts exit 0.
Failure: every error names the broker's log and carries its tail. However the broker ended,
leaving the `with` block asserts that its log holds no sanitizer report and no failed assertion.
With PENSTOCK_PEER=kafka the same name makes an Apache Kafka of one node (kafka_peer.py).
"""
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("PENSTOCK_BUILD", os.path.join(ROOT, "build")))
BINARY = os.path.abspath(os.environ.get("PENSTOCK_BINARY", os.path.join(BUILD, "penstock")))

# Below the kernel's ephemeral ports (32768 and up), so that no outgoing connection takes one.
PORT_FIRST, PORT_LAST, PORTS_A_SLOT = 20000, 32000, 40
BAD_LOG = re.compile(r"Sanitizer|runtime error:|assertion failed", re.IGNORECASE)
READY_LINE = re.compile(r"^penstock ready (\S+):(\d+) shards=(\d+) data=(\S.*)$")
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
API_USE_PORT = 38  # of a slot: where a broker under test says what its clients asked


class BrokerError(AssertionError):
    pass


def is_peer():
    """True when the tests run against Apache Kafka instead of penstock."""
    return os.environ.get("PENSTOCK_PEER", "") == "kafka"


def is_sanitized():
    return "asan" in BINARY.split(os.sep)


def temp_dir(prefix):
    """A directory of the test's own on the build's file system (not tmpfs: O_DIRECT)."""
    parent = os.environ.get("PENSTOCK_TEST_TMP") or os.path.join(BUILD, "tmp")
    os.makedirs(parent, exist_ok=True)
    return tempfile.mkdtemp(prefix=prefix + "-", dir=parent)


class Ports:
    """A run of free consecutive ports, kept from other tests by a lock until close(). The locks are
    those of the machine: a broker that is dead for a moment must not find, nor its clients meet,
    one of another tree's tests on its port."""

    def __init__(self, count):
        assert 0 < count <= PORTS_A_SLOT
        folder = os.path.join(tempfile.gettempdir(), "penstock-test-ports")
        os.makedirs(folder, exist_ok=True)
        slots = (PORT_LAST - PORT_FIRST) // PORTS_A_SLOT
        for turn in range(slots):
            slot = (os.getpid() + turn) % slots
            self.first = PORT_FIRST + slot * PORTS_A_SLOT
            self.lock = open(os.path.join(folder, str(self.first)), "w")
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self.lock.close()
                continue
            if all(self._is_free(port) for port in range(self.first, self.first + count)):
                return
            self.lock.close()
        raise BrokerError("no run of free ports found")

    @staticmethod
    def _is_free(port):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True

    def close(self):
        self.lock.close()


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Broker:
    """advertise: shard, numa or host. memory: as --memory, None for the broker's own choice.
    options: {KEY: VALUE} for -o. data: list of directories, else `data_dirs` new ones.
    args: further arguments of `serve`. wrapper: a command put before the binary (strace)."""

    READY_TIMEOUT_S = 90
    STOP_TIMEOUT_S = 60

    def __new__(cls, *_args, **_keywords):
        if cls is Broker and is_peer():
            from lib.kafka_peer import KafkaBroker
            cls = KafkaBroker
        return object.__new__(cls)

    def __init__(self, advertise="shard", shards=2, memory=None, options=None, data=None,
                 data_dirs=1, args=(), wrapper=(), env=None, name="broker", host="127.0.0.1"):
        self.advertise, self.shards, self.memory = advertise, shards, memory
        self.options, self.args, self.wrapper = dict(options or {}), list(args), list(wrapper)
        self.env, self.name, self.host = dict(env or {}), name, host
        self.dir = temp_dir(name)
        self.data = list(data or [os.path.join(self.dir, f"data{i}") for i in range(data_dirs)])
        for path in self.data:
            os.makedirs(path, exist_ok=True)
        self.log_path = os.path.join(self.dir, "stderr.log")
        self.ports_held = Ports(max(shards, 2))
        self.port = self.ports_held.first
        self.process = None
        self.ready_line = None
        self.ready_s = None
        self.stdout_lines = []
        self.start_timeout_scale = 4 if is_sanitized() else 1
        self.records_api_use = "PENSTOCK_RECORD_API_USE" in os.environ and not is_peer() and \
            "metrics.listen" not in self.options
        if self.records_api_use:
            self.options["metrics.listen"] = self.port + API_USE_PORT

    # -- addresses and places

    @property
    def bootstrap(self):
        return f"{self.host}:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def partition_dir(self, topic, partition):
        """Where the partition's files are; it must be in exactly one data directory."""
        paths = [os.path.join(path, f"{topic}-{partition}") for path in self.data]
        there = [path for path in paths if os.path.isdir(path)]
        assert len(there) == 1, f"{topic}-{partition} found in {there} of {self.data}"
        return there[0]

    def segments(self, topic, partition):
        folder = self.partition_dir(topic, partition)
        return sorted(os.path.join(folder, name) for name in os.listdir(folder)
                      if name.endswith(".log"))

    # -- life

    def command(self):
        command = self.wrapper + [BINARY, "serve", "--data", ",".join(self.data),
                                  "--listen", self.bootstrap, "--advertise", self.advertise,
                                  "--shards", str(self.shards)]
        if self.memory is not None:
            command += ["--memory", str(self.memory)]
        for key, value in self.options.items():
            command += ["-o", f"{key}={value}"]
        return command + self.args

    def environment(self):
        env = dict(os.environ)
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
        env.update(self.env)
        return env

    def start(self, timeout_s=None):
        """Start and wait for the ready line. The log goes on in the same file."""
        assert self.process is None, "the broker runs already"
        command = self.command()
        if not os.path.exists(command[len(self.wrapper)]):
            raise BrokerError(f"no broker to test: {command[len(self.wrapper)]} does not exist")
        begin = time.monotonic()
        with open(self.log_path, "ab") as log:
            log.write(f"---- {' '.join(command)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log,
                                            stdout=self._stdout(log), env=self.environment(),
                                            preexec_fn=_die_with_parent)
        self._wait_ready(timeout_s or self.READY_TIMEOUT_S * self.start_timeout_scale)
        self.ready_s = time.monotonic() - begin
        return self

    def _stdout(self, _log):
        return subprocess.PIPE

    def _wait_ready(self, timeout_s):
        arrived = threading.Event()
        self.stdout_lines = []
        threading.Thread(target=self._read_stdout, args=(self.process.stdout, arrived),
                         daemon=True).start()
        if not arrived.wait(timeout_s):
            self._fail_start(f"no ready line within {timeout_s} s")
        line = self.stdout_lines[0] if self.stdout_lines else ""
        match = READY_LINE.match(line)
        if not match:
            self._fail_start(f"first line on stdout is {line!r}, not a ready line"
                             if line else "it ended without a ready line")
        self.ready_line = line
        host, port, shards, data = match.groups()
        if int(port) != self.port or int(shards) != self.shards or not data:
            self._fail_start(f"asked for {self.bootstrap} shards={self.shards}, got {line!r}")
        del host

    def _read_stdout(self, stream, arrived):
        with stream:
            for line in stream:
                self.stdout_lines.append(line.decode(errors="replace").rstrip("\n"))
                arrived.set()
        arrived.set()

    def _fail_start(self, why):
        code = self.process.poll()
        if code is None:
            self.process.kill()
            self.process.wait()
        self.process = None
        ended = "" if code is None else f" (exit {code})"
        raise BrokerError(f"{self.name} did not start{ended}: {why}\n{self.log_tail()}")

    def stop(self):
        """SIGTERM; the broker must end by itself with exit 0."""
        process = self._take_running()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(self.STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise BrokerError(f"{self.name} did not stop within {self.STOP_TIMEOUT_S} s of "
                              f"SIGTERM\n{self.log_tail()}") from None
        if not self._is_clean_exit(code):
            raise BrokerError(f"{self.name} ended with {code} on SIGTERM\n{self.log_tail()}")
        self.check_log()

    @staticmethod
    def _is_clean_exit(code):
        return code == 0

    def kill9(self):
        process = self._take_running()
        process.kill()
        process.wait()
        self.check_log()

    def _take_running(self):
        process, self.process = self.process, None
        assert process is not None, "the broker does not run"
        code = process.poll()
        if code is not None:
            raise BrokerError(f"{self.name} had ended by itself with {code}\n{self.log_tail()}")
        if self.records_api_use:
            self._record_api_use()
        return process

    def _record_api_use(self):
        """[client, API, version, requests] of this life, for broker/claims.py."""
        url = f"http://127.0.0.1:{self.port + API_USE_PORT}/metrics.json"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                shards = json.load(answer)["shards"]
        except OSError as error:
            print(f"not recorded what clients asked for: {error}", flush=True)
            return
        path = os.path.join(os.environ["PENSTOCK_API_USE"], str(os.getpid()))
        with open(path, "a") as record:
            for shard in shards:
                for row in shard["client_requests_total"]:
                    record.write(json.dumps(row) + "\n")

    def restart(self, kill=False):
        if kill:
            self.kill9()
        else:
            self.stop()
        return self.start()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, _value, _trace):
        try:
            if kind is not None:
                self._end_after_failure()
            elif self.process is not None:
                self.stop()
            else:
                self.check_log()
        finally:
            self.ports_held.close()
            if kind is None:
                shutil.rmtree(self.dir, ignore_errors=True)

    def _end_after_failure(self):
        """The test has failed already: say how the broker looks, and leave its own error alone."""
        state = "did not run"
        if self.process is not None:
            code = self.process.poll()
            state = "was running" if code is None else f"had ended with {code}"
            self.process.kill()
            self.process.wait()
            self.process = None
        print(f"---- {self.name} {state} when the test failed\n{self.log_tail()}", flush=True)

    # -- what it says and costs

    def log(self):
        with open(self.log_path, "rb") as log:
            return log.read().decode(errors="replace")

    def log_tail(self, lines=20):
        """The end of the log, and before it the head of a sanitizer's report, if there is one."""
        if not os.path.exists(self.log_path):
            return "(no log)"
        log = self.log().splitlines()
        shown = log[-lines:]
        report = next((i for i, line in enumerate(log) if BAD_LOG.search(line)), None)
        if report is not None:
            shown = log[max(report - 5, 0):report + 30]
        return f"of {self.log_path}:\n" + "\n".join("  | " + line[:300] for line in shown)

    def check_log(self):
        for number, line in enumerate(self.log().splitlines(), 1):
            if BAD_LOG.search(line):
                raise BrokerError(f"{self.log_path}:{number}: {line}\n{self.log_tail()}")

    def rss(self):
        """Resident memory in bytes."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise BrokerError("no VmRSS: the broker has ended")

    def cpu_seconds(self):
        """User and system time of all its threads since its start."""
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
