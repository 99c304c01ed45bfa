"""Load carried by agents: processes beside the conductor, on this host and in network namespaces.

What is checked is that nothing is lost or counted twice on the way from the agents' threads into
the conductor's result, and that everything that can go wrong between the processes ends in a line
that names the agent.
"""
import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import time
import uuid

from lib.broker import BINARY, Broker, temp_dir
from lib.clients import need_command
from lib.testcase import Skip, slow, timeout

MOSTLY_WAITS = True

READY = re.compile(r"^penstock bench agent ready (\S+):(\d+)$")
# What a busy machine may do to the generator; all else that makes a run invalid is about records.
OF_THE_MACHINE = {"generator-late", "client-cpu", "not-steady", "overload"}
HELLO, START = 1, 3
MAGIC, VERSION = b"PSBA", 2


class Agent:
    """`penstock bench agent` as a process; its log is what it says on stderr."""

    def __init__(self, host="127.0.0.1", port=0, wrapper=()):
        self.command = [*wrapper, BINARY, "bench", "agent", "--listen", f"{host}:{port}"]
        self.log_path = os.path.join(temp_dir("agent"), "stderr.log")

    def __enter__(self):
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=log,
                                            stdout=subprocess.PIPE)
        line = self.process.stdout.readline().decode().rstrip()
        ready = READY.match(line)
        if ready is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.command}: {line!r}\n{self.log()}")
        self.host, self.port = ready.group(1), int(ready.group(2))
        self.address = f"{self.host}:{self.port}"
        return self

    def log(self):
        with open(self.log_path, "rb") as log:
            return log.read().decode(errors="replace")

    def await_log(self, text, seconds=20):
        end = time.monotonic() + seconds
        while text not in self.log():
            assert time.monotonic() < end, f"no {text!r} in the agent's log:\n{self.log()}"
            time.sleep(0.05)

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def __exit__(self, kind, _value, _trace):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                code = "killed: it did not end by SIGTERM"
            assert kind is not None or code == 0, f"exit {code}\n{self.log()}"
        self.process.stdout.close()
        if kind is not None:
            print(f"---- agent {self.address}\n{self.log()}", flush=True)
        for word in ("Sanitizer", "runtime error:", "assertion failed"):
            assert word not in self.log(), self.log()


SHAPE = ["--producers", "3", "--consumers", "2", "--partitions", "6", "--rate", "2000",
         "--warmup-min-s", "1", "--warmup-max-s", "4", "--quiet"]


def command(kind, bootstrap, agents, *more, wrapper=()):
    result = os.path.join(temp_dir("agents"), "result.json")
    return [*wrapper, BINARY, "bench", kind, "--bootstrap", bootstrap, "--agents",
            ",".join(agent if isinstance(agent, str) else agent.address for agent in agents),
            "--json", result, *SHAPE, *more], result


def conduct(kind, bootstrap, agents, *more, wrapper=()):
    """A run to its end, and its result: it must be valid, but for what a busy machine does."""
    line, path = command(kind, bootstrap, agents, *more, wrapper=wrapper)
    done = subprocess.run(line, capture_output=True, timeout=200)
    said = done.stdout.decode() + done.stderr.decode()
    assert os.path.exists(path), f"exit {done.returncode}\n{said}"
    with open(path) as result:
        document = json.load(result)
    run = document["runs"][0]
    codes = {verdict["code"] for verdict in run["invalid"]}
    assert codes <= OF_THE_MACHINE, f"{codes}\n{said}"
    assert done.returncode == (0 if run["valid"] else 1), said
    return run


def fails(kind, bootstrap, agents, *more, wrapper=()):
    """A run that cannot be: exit 1; the line that says why."""
    line, path = command(kind, bootstrap, agents, *more, wrapper=wrapper)
    done = subprocess.run(line, capture_output=True, timeout=60)
    assert done.returncode == 1, f"exit {done.returncode}: {done.stderr!r}"
    assert not os.path.exists(path)
    return done.stderr.decode()


def merged(run, agents, seconds):
    """The run's figures are the sums of its agents', and all records came back once."""
    verified, shares = run["verification"], [agent["counts"] for agent in run["agents"]]
    assert [agent["address"] for agent in run["agents"]] == [agent.address for agent in agents]
    for share in shares:
        assert share["acked"] > 0 and share["consumed"] > 0, share
    assert verified["records_acked"] == sum(share["acked"] for share in shares)
    assert verified["records_seen"] == sum(share["consumed"] for share in shares)
    assert verified["records_seen"] == verified["records_acked"]
    assert verified["records_acked"] >= 2000 * seconds * 0.9, verified
    assert [verified[key] for key in ("lost", "duplicated", "reordered", "corrupt")] == [0] * 4
    for name in shares[0]:
        whole = sum(share.get(name, 0) for share in shares)
        windows = sum(window.get(name, 0) for window in run["windows"].values())
        assert 0.5 * whole < windows <= whole, f"{name}: {windows} in windows, {whole} in all"
        seconds_sum = sum(second.get(name, 0) for second in run["series"])
        assert seconds_sum == whole, f"{name}: {seconds_sum} in the series, {whole} in all"
    ack = sum(window["histograms"]["ack"]["count"] for window in run["windows"].values())
    assert ack == verified["records_acked"], f"{ack} latencies of acks"


def timed_end_to_end(run):
    return sum(window["histograms"].get("e2e", {"count": 0})["count"]
               for window in run["windows"].values())


def sane_series(run):
    """Agents' seconds are put on the conductor's clock: ascending, none outside of the run."""
    ends = [second["t"] for second in run["series"]]
    last = run["phases"][-1]
    assert ends == sorted(ends) and ends, ends
    assert ends[0] > 0 and ends[-1] <= last["start_s"] + last["seconds"] + 1, (ends, last)
    assert all(0 < second["seconds"] < 5 for second in run["series"])


@timeout(120)
def test_two_agents_are_one_load():
    with Broker(shards=1) as broker, Agent() as one, Agent() as two:
        run = conduct("e2e", broker.bootstrap, [one, two], "--duration-s", "5")
        merged(run, [one, two], 6)
        sane_series(run)
        # An agent that hears of the end first times no record another one has intended after it.
        seen = run["verification"]["records_seen"]
        assert 0.5 * seen < timed_end_to_end(run) <= seen
        assert not any("clocks" in note for note in run["notes"]), run["notes"]
        for agent in run["agents"]:
            assert agent["threads"] == 1 and agent["machine"]["hostname"] == socket.gethostname()
        # A second run of the same agents: nothing of the first is left in them.
        merged(conduct("e2e", broker.bootstrap, [two, one], "--duration-s", "2", "--threads", "2"),
               [two, one], 3)
        assert one.log().count("the run for") == 2 and two.log().count("is over") == 2


@slow
@timeout(120)
def test_replay_preloads_once_and_catches_up():
    """The preload is shared by all agents: so much, not as often so much as there are agents."""
    with Broker(shards=1) as broker, Agent() as one, Agent() as two:
        run = conduct("replay", broker.bootstrap, [one, two], "--duration-s", "2",
                      "--preload-bytes", "4MiB", "--late-consumers", "2")
        verified = run["verification"]
        assert verified["lost"] == 0 and verified["duplicated"] == 0, verified
        # 4096 records were there, and 2 late consumers share them with what came meanwhile.
        late, acked = verified["records_seen_late"], verified["records_acked"]
        assert 4000 <= late <= 2 * (4096 + acked), verified
        assert one.log().count("is over") == 2


@timeout(90)
def test_an_agent_that_dies_ends_the_run():
    with Broker(shards=1) as broker, Agent() as one, Agent() as two:
        line, path = command("e2e", broker.bootstrap, [one, two], "--duration-s", "60",
                             "--warmup-max-s", "60")
        conductor = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        two.await_log("a run for")
        time.sleep(2)
        two.kill9()
        _, said = conductor.communicate(timeout=30)
        assert conductor.returncode == 1 and f"agent {two.address}: ".encode() in said, said
        assert b"silent" not in said, said  # that it died is known at once
        assert not os.path.exists(path)
        # The other one has stopped its load, and is free for the next run.
        one.await_log("is broken off")
        merged(conduct("e2e", broker.bootstrap, [one], "--duration-s", "1"), [one], 2)


@slow
@timeout(90)
def test_an_agent_that_hangs_ends_the_run():
    with Broker(shards=1) as broker, Agent() as one:
        line, _ = command("produce", broker.bootstrap, [one], "--duration-s", "60")
        conductor = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        one.await_log("a run for")
        time.sleep(1)
        one.process.send_signal(signal.SIGSTOP)
        try:
            _, said = conductor.communicate(timeout=30)
        finally:
            one.process.send_signal(signal.SIGCONT)
        assert conductor.returncode == 1, said
        assert f"agent {one.address}: silent for 10 s".encode() in said, said
        one.await_log("is broken off")


@timeout(90)
def test_an_agent_ends_by_a_signal_in_the_middle():
    with Broker(shards=1) as broker, Agent() as one:
        line, _ = command("produce", broker.bootstrap, [one], "--duration-s", "60")
        conductor = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        one.await_log("a run for")
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(20) == 0
        _, said = conductor.communicate(timeout=30)
        assert conductor.returncode == 1 and f"agent {one.address}: ".encode() in said, said


@timeout(90)
def test_a_conductor_that_vanishes_ends_the_load():
    with Broker(shards=1) as broker, Agent() as one:
        line, _ = command("produce", broker.bootstrap, [one], "--duration-s", "60")
        conductor = subprocess.Popen(line, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        one.await_log("a run for")
        said = fails("produce", broker.bootstrap, [one])
        assert f"agent {one.address} refuses: busy with conductor 127.0.0.1:" in said, said
        conductor.kill()
        conductor.wait()
        one.await_log("is broken off")


def frame(kind, body):
    return struct.pack(">IB", len(body) + 1, kind) + body


def closes(agent, data, seconds=10):
    """What the agent answers before it closes the connection."""
    with socket.create_connection((agent.host, agent.port), timeout=seconds) as peer:
        answer = b""
        with contextlib.suppress(ConnectionError):
            peer.sendall(data)
            while chunk := peer.recv(65536):
                answer += chunk
        return answer


@timeout(90)
def test_garbage_does_no_harm():
    greeting = frame(HELLO, MAGIC + struct.pack(">HH", VERSION, 0))
    with Broker(shards=1) as broker, Agent() as one:
        assert closes(one, b"GET / HTTP/1.1\r\n\r\n") == b""
        assert closes(one, os.urandom(100000)) == b""
        assert closes(one, struct.pack(">IB", 0x7fffffff, HELLO)) == b""
        # One of another version learns which one it is.
        other = closes(one, frame(HELLO, MAGIC + struct.pack(">H", 77)))
        assert other[5:11] == MAGIC + struct.pack(">H", VERSION), other[:20]
        for rubbish in (frame(START, b""), frame(START, os.urandom(5000)), frame(HELLO, b""),
                        frame(10, os.urandom(300)), frame(99, b"")):
            answer = closes(one, greeting + rubbish)
            assert answer[4:9] == bytes([HELLO]) + MAGIC, answer[:20]
        merged(conduct("e2e", broker.bootstrap, [one], "--duration-s", "1"), [one], 2)
        assert one.log().count("is no conductor of ours") >= 4, one.log()


@timeout(60)
def test_what_is_no_agent_is_named():
    with Broker(shards=1) as broker, Agent() as one:
        said = fails("produce", broker.bootstrap, [one, broker.bootstrap])
        assert f"agent {broker.bootstrap} does not greet" in said, said
        said = fails("produce", broker.bootstrap, ["127.0.0.1:1"])
        assert "agent 127.0.0.1:1: Connection refused" in said, said
        said = fails("produce", broker.bootstrap, ["nonsense"])
        assert "agent nonsense: HOST:PORT is wanted" in said, said
        said = fails("produce", broker.bootstrap, [one, one])
        assert f"agent {one.address} refuses: busy" in said, said


@timeout(60)
def test_an_agent_wants_an_address():
    """Never on all addresses but when told so."""
    for arguments, code, why in (([], 2, b"--listen HOST:PORT is wanted"),
                                 (["--listen", ":7000"], 1, b"HOST:PORT is wanted"),
                                 (["--listen", "127.0.0.1:x"], 1, b"HOST:PORT is wanted")):
        done = subprocess.run([BINARY, "bench", "agent", *arguments], capture_output=True,
                              timeout=20)
        assert done.returncode == code and why in done.stderr, (arguments, done)


# -- hosts, as network namespaces joined by a bridge in one more


def ip(*arguments):
    done = subprocess.run(["ip", *arguments], capture_output=True)
    if done.returncode:
        raise Skip(f"network namespaces cannot be made: ip {' '.join(arguments)}: "
                   f"{done.stderr.decode().strip()}")


class Hosts:
    """So many namespaces, 10.213.7.1 and up, on one bridge; nothing of it on the host's own."""

    def __init__(self, count):
        need_command("ip")
        if os.geteuid() != 0:
            raise Skip("network namespaces cannot be made: not root")
        self.prefix = f"ps{os.getpid() % 100000}"
        self.names = [f"{self.prefix}-{i}" for i in range(count)]
        self.hub = f"{self.prefix}-hub"

    @staticmethod
    def address(index):
        return f"10.213.7.{index + 1}"

    def enter(self, index):
        """The command that runs another one on that host."""
        return ["ip", "netns", "exec", self.names[index]]

    def enter_as_another_machine(self, index):
        """As enter(), but the kernel tells it another boot, and so another clock."""
        boot_id = os.path.join(temp_dir("boot"), "id")
        with open(boot_id, "w") as text:
            text.write(f"{uuid.uuid4()}\n")
        mount = f"mount --bind {boot_id} /proc/sys/kernel/random/boot_id"
        if subprocess.run([*self.enter(index), "sh", "-c", mount], capture_output=True).returncode:
            raise Skip("a file cannot be mounted over the boot id")
        return [*self.enter(index), "sh", "-c", mount + ' && exec "$@"', "sh"]

    def __enter__(self):
        try:
            ip("netns", "add", self.hub)
            ip("-n", self.hub, "link", "add", "name", "bridge0", "type", "bridge")
            ip("-n", self.hub, "link", "set", "bridge0", "up")
            for index, name in enumerate(self.names):
                self._add(index, name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _add(self, index, name):
        ip("netns", "add", name)
        ip("-n", self.hub, "link", "add", "name", f"port{index}", "type", "veth", "peer", "name", "eth0",
           "netns", name)
        ip("-n", self.hub, "link", "set", f"port{index}", "master", "bridge0", "up")
        ip("-n", name, "address", "add", f"{self.address(index)}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")

    def __exit__(self, *_):
        for name in [*self.names, self.hub]:
            subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)


@timeout(120)
def test_agents_in_network_namespaces():
    """The conductor, the broker and two agents on four addresses, over veth pairs. They share the
    host's clock, so that end to end is timed between any two of them."""
    port = 7919  # each namespace has all ports to itself
    with Hosts(4) as hosts, \
            Broker(shards=1, host=hosts.address(1), wrapper=hosts.enter(1)) as broker, \
            Agent(hosts.address(2), port, hosts.enter(2)) as one, \
            Agent(hosts.address(3), port, hosts.enter(3)) as two:
        run = conduct("e2e", broker.bootstrap, [one, two], "--duration-s", "5",
                      wrapper=hosts.enter(0))
        merged(run, [one, two], 6)
        sane_series(run)
        # An agent that hears of the end first times no record another one has intended after it.
        seen = run["verification"]["records_seen"]
        assert 0.5 * seen < timed_end_to_end(run) <= seen
        # They were there: the conductor's own namespace made no load.
        assert f"conductor {hosts.address(0)}:" in one.log()
        assert f"conductor {hosts.address(0)}:" in two.log()
    # A broker that only the conductor can reach: the agent says so, in its own name.
    with Hosts(2) as hosts, Broker(shards=1, wrapper=hosts.enter(0)) as broker, \
            Agent(hosts.address(1), port, hosts.enter(1)) as one:
        said = fails("produce", broker.bootstrap, [one], wrapper=hosts.enter(0))
        assert f"agent {one.address}: {broker.bootstrap}: Connection refused" in said, said


@slow
@timeout(120)
def test_clocks_of_two_machines_are_not_compared():
    """What one agent made and the other consumed has no end-to-end latency; the result says so,
    and verification is not touched by it."""
    with Hosts(3) as hosts, \
            Broker(shards=1, host=hosts.address(0), wrapper=hosts.enter(0)) as broker, \
            Agent(hosts.address(1), 7919, hosts.enter(1)) as one, \
            Agent(hosts.address(2), 7919, hosts.enter_as_another_machine(2)) as two:
        run = conduct("e2e", broker.bootstrap, [one, two], "--duration-s", "2",
                      wrapper=hosts.enter(0))
        merged(run, [one, two], 3)
        boots = {agent["machine"]["boot_id"] for agent in run["agents"]}
        assert len(boots) == 2, boots
        # 3 producers and 2 consumers on 2 machines: about half of the records stay on theirs.
        timed, seen = timed_end_to_end(run), run["verification"]["records_seen"]
        assert 0.2 * seen < timed < 0.8 * seen, f"{timed} of {seen}"
        other = sum(agent["counts"]["other_clock"] for agent in run["agents"])
        assert timed + other <= seen, f"{timed} timed, {other} of another clock, {seen} seen"
        said = f"e2e latencies leave out {other} of {seen} consumed records"
        assert any(said in note for note in run["notes"]), run["notes"]


@slow
@timeout(120)
def test_many_pairs_are_exchanged():
    """What 100 producers made in 200 partitions goes to all agents in parts, each verified."""
    with Broker(shards=1) as broker, Agent() as one, Agent() as two:
        run = conduct("e2e", broker.bootstrap, [one, two], "--duration-s", "2", "--producers", "100",
                      "--partitions", "200", "--partitioner", "roundrobin", "--rate", "20000",
                      "--record-size", "100", "--buffer-memory", "1MiB", "--linger-ms", "50")
        verified = run["verification"]
        assert verified["records_seen"] == verified["records_acked"] > 0, verified
        assert verified["lost"] == 0, verified
