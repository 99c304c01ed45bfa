"""The penstock command: what it accepts, what it says when it does not, how it starts and stops."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from lib.broker import BINARY, Broker, BrokerError, Ports, temp_dir
from lib.clients import kcat_consume, kcat_produce, need_command, run
from lib.kafka_wire import Connection, create_topics, metadata
from lib.testcase import params, sanitized

SMALL_JOURNAL = {"journal.bytes": "16m"}

# As Apache Kafka 4 ships it, without its comments.
STOCK_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
"""


class Done:
    """A command that ran to its end by itself."""

    def __init__(self, *arguments, timeout_s=30):
        done = subprocess.run([BINARY, *arguments], stdin=subprocess.DEVNULL, timeout=timeout_s,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.arguments, self.code = arguments, done.returncode
        self.out, self.err = done.stdout, done.stderr

    def refused(self, code, *named):
        """Nothing on stdout, one line on stderr that names these, log lines aside."""
        said = [line for line in self.err.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT", line)]
        about = f"{self.arguments}: exit {self.code}, stdout {self.out!r}, stderr {self.err!r}"
        assert self.code == code, about
        assert self.out == "" and len(said) == 1 and said[0].startswith("penstock"), about
        for name in named:
            assert name in said[0], f"{name!r} is not named: {about}"


class Place:
    """A data directory and ports for a command that is going to fail."""

    def __enter__(self):
        self.dir, self.ports = temp_dir("command"), Ports(2)
        self.data = os.path.join(self.dir, "data")
        return self

    def serve(self, *arguments):
        return Done("serve", "--data", self.data, "--listen", f"127.0.0.1:{self.ports.first}",
                    "--shards", "1", "-o", "journal.bytes=16m", *arguments)

    def file(self, name, text):
        path = os.path.join(self.dir, name)
        with open(path, "w") as out:
            out.write(text)
        return path

    def __exit__(self, *_):
        self.ports.close()
        shutil.rmtree(self.dir)


# -- without a broker

@sanitized
def test_help():
    everything = Done("--help")
    assert everything.code == 0 and everything.err == ""
    for command in ("serve", "topo", "doctor", "version"):
        assert re.search(rf"^  {command} +\S", everything.out, re.MULTILINE), command
        done = Done(command, "--help")
        assert done.code == 0 and done.err == "", (command, done.err)
        assert done.out.startswith(f"usage: penstock {command}"), done.out[:80]
    serve = Done("serve", "--help").out
    for option in ("--config", "--data", "--journal", "--listen", "--advertise",
                   "--advertised-host", "--shards", "--memory", "-o KEY=VALUE", "--log-level"):
        assert option in serve, option


def test_version():
    done = Done("version")
    assert done.code == 0 and re.match(r"penstock \d+\.\d+", done.out), done.out


@sanitized
def test_usage_errors():
    Done("nonsense").refused(2, "nonsense")
    for command in ("serve", "topo", "doctor", "version"):
        Done(command, "--nonsense").refused(2, "--nonsense")
        Done(command, "surplus").refused(2, "surplus")
    for option in ("-o", "--data", "--config", "--listen", "--shards"):
        Done("serve", option).refused(2, option)
    Done("serve", "-o", "without-a-value").refused(2, "without-a-value")
    bare = Done()
    assert bare.code == 2 and bare.err.startswith("usage: penstock"), bare.err


@sanitized
def test_bad_values():
    with Place() as place:
        for arguments, *named in (
                (("-o", "no.such.key=1"), "no.such.key"),
                (("-o", "num.partitions=many"), "num.partitions", "many"),
                (("-o", "num.partitions=0"), "num.partitions", "0"),
                (("-o", "log.segment.bytes=5"), "log.segment.bytes", "5"),
                (("-o", "log.message.timestamp.type=Never"), "log.message.timestamp.type", "Never"),
                (("--shards", "two"), "shards", "two"),
                (("--shards", "-1"), "shards", "-1"),
                (("--memory", "lots"), "memory", "lots"),
                (("--memory", "1k"), "memory"),
                (("--advertise", "all"), "advertise", "all"),
                (("--log-level", "loud"), "log.level", "loud"),
                (("--listen", "nowhere"), "listen", "nowhere"),
                (("--listen", "127.0.0.1:99999"), "99999"),
                (("--listen", "127.0.0.1:x"), "127.0.0.1:x"),
                (("--data", "/proc/none"), "/proc/none"),
                (("--data", f"{place.dir},{place.dir}"), place.dir)):
            place.serve(*arguments).refused(1, *named)
        for listener in ("SSL://127.0.0.1:9092", "PLAINTEXT://127.0.0.1", "127.0.0.1:9092"):
            Done("serve", "--data", place.data, "-o",
                 f"listeners={listener}").refused(1, "listeners", listener)


def test_bad_config_files():
    with Place() as place:
        missing = os.path.join(place.dir, "missing.properties")
        place.serve("--config", missing).refused(1, missing)
        place.serve("--config", place.dir).refused(1, place.dir)
        for text, *named in (("num.partitions=3\nno.such.key=1\n", "no.such.key", "2"),
                             ("num.partitions=three\n", "num.partitions", "three", "1"),
                             ("# all is well\n\nadvertise=everybody\n", "advertise", "3")):
            path = place.file("bad.properties", text)
            place.serve("--config", path).refused(1, path, *named)


@params("topo", "doctor")
def test_json(command):
    with Place() as place:
        arguments = ("--data", place.data) if command == "doctor" else ()
        done = Done(command, *arguments, "--json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        assert isinstance(found, dict) and found, done.out
        text = Done(command, *arguments)
        assert text.code == 0 and len(text.out.splitlines()) > 3


def test_topo_of_another_machine():
    """Two sockets of 8 cores with two threads each: 16 shards."""
    machine = ("--synthetic", "pack:2 numa:1 core:8 pu:2")
    found = json.loads(Done("topo", *machine, "--json").out)
    shards = found["placement"]["shards"] if "placement" in found else found["shards"]
    assert len(shards) == 16, shards
    picture = Done("topo", *machine, "--svg")
    assert picture.code == 0 and "<svg" in picture.out and picture.out.rstrip().endswith("</svg>")


# -- what is taken already

def test_directory_in_use():
    with Broker(options=SMALL_JOURNAL) as broker, Place() as place:
        begin = time.monotonic()
        done = Done("serve", "--data", broker.data[0], "--listen",
                    f"127.0.0.1:{place.ports.first}", "--shards", "1", timeout_s=60)
        done.refused(1, broker.data[0], "in use")
        # For one that is being killed it waits for a minute.
        assert time.monotonic() - begin < 30, "it waited for a process that is alive"
        assert broker.is_running()
        with Connection(broker) as connection:
            metadata(connection)


def test_port_in_use():
    with Place() as place, socket.socket() as taken:
        taken.bind(("127.0.0.1", place.ports.first + 1))
        taken.listen()
        place.serve("--shards", "2").refused(1, f"127.0.0.1:{place.ports.first + 1}", "in use")
    with Broker(options=SMALL_JOURNAL) as broker, Place() as place:
        place.serve("--listen", broker.bootstrap).refused(1, broker.bootstrap, "in use")


# -- start and stop

@sanitized
def test_ready_lines():
    """Three lines on stdout and no more: the ready line, and two to paste."""
    need_command("kcat")
    with Broker(options=SMALL_JOURNAL) as broker:
        assert broker.ready_line == (f"penstock ready 127.0.0.1:{broker.port} shards=2 "
                                     f"data={os.path.realpath(broker.data[0])}")
        end = time.monotonic() + 30
        while len(broker.stdout_lines) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        ready, produce, consume = broker.stdout_lines
        assert produce.startswith("echo ") and "| kcat -P" in produce, produce
        assert consume.startswith("kcat -C"), consume
        run(["sh", "-c", produce], 30)
        out, _ = run(["sh", "-c", consume], 30)
        said = re.match(r"echo (\S+) ", produce)[1]
        assert out.decode() == f"{said}\n", out
        broker.stop()
        assert broker.stdout_lines == [ready, produce, consume]


def test_stop_and_start_again():
    """Also with connections open, and with SIGINT."""
    with Broker(options=SMALL_JOURNAL) as broker:
        path = os.path.join(broker.dir, "lines")
        with open(path, "w") as out:
            out.writelines(f"line {number}\n" for number in range(10_000))
        kcat_produce(broker, "kept", path)
        idle = [Connection(broker, broker.port + n % 2) for n in range(20)]
        begin = time.monotonic()
        broker.stop()
        assert time.monotonic() - begin < 30, "idle connections held it up"  # for ten minutes
        for connection in idle:
            assert connection.is_closed()
            connection.close()
        broker.start()
        assert "replayed" not in broker.log(), "a clean stop leaves nothing to replay"
        process, broker.process = broker.process, None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        broker.start()
        back = os.path.join(broker.dir, "back")
        kcat_consume(broker, "kept", back)
        with open(path, "rb") as want, open(back, "rb") as got:
            assert got.read() == want.read()


def test_stop_while_a_consumer_waits():
    """A long poll of a minute does not hold up the end."""
    need_command("kcat")
    with Broker(options=SMALL_JOURNAL) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["quiet"])
        waiting = subprocess.Popen(["kcat", "-C", "-b", broker.bootstrap, "-t", "quiet", "-p", "0",
                                    "-X", "fetch.wait.max.ms=60000"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        begin = time.monotonic()
        broker.stop()
        seconds = time.monotonic() - begin
        waiting.kill()
        waiting.wait()
        assert seconds < 30, f"{seconds:.1f} s"


# -- configuration

def kcat_brokers(broker):
    """{node id: host:port} as kcat -L lists them."""
    need_command("kcat")
    out, _ = run(["kcat", "-L", "-b", broker.bootstrap])
    return dict(re.findall(r"^  broker (\d+) at (\S+?)(?: \(controller\))?$", out.decode(),
                           re.MULTILINE))


@params("shard", "numa", "host")
def test_advertised_nodes(advertise):
    with Broker(advertise=advertise, options=SMALL_JOURNAL) as broker:
        nodes = kcat_brokers(broker)
        want = {"0": broker.bootstrap}
        if advertise == "shard":
            want["1"] = f"127.0.0.1:{broker.port + 1}"
        if advertise == "numa":  # as many as there are NUMA nodes with shards
            assert "0" in nodes and 1 <= len(nodes) <= 2 and nodes["0"] == broker.bootstrap, nodes
        else:
            assert nodes == want, nodes


def test_advertised_host_and_node_ids():
    with Broker(options={**SMALL_JOURNAL, "node.id": 7, "broker.rack": "r1"},
                args=("--advertised-host", "localhost")) as broker:
        assert kcat_brokers(broker) == {"7": f"localhost:{broker.port}",
                                        "8": f"localhost:{broker.port + 1}"}
    named = Broker(advertise="host", options=SMALL_JOURNAL)
    named.options["advertised.listeners"] = f"PLAINTEXT://log.example:{named.port}"
    with named as broker:
        assert kcat_brokers(broker) == {"0": f"log.example:{broker.port}"}


def test_config_file_and_precedence():
    """Options win over -o, which wins over the file; syntax as in Kafka's properties."""
    with Broker(options={"journal.bytes": "16m", "default.replication.factor": 1}) as broker:
        broker.stop()
        path = os.path.join(broker.dir, "own.properties")
        with open(path, "w") as out:
            out.write("# a comment\n! another\n\n  num.partitions = 5\nlog.level: debug\n"
                      "auto.create.topics.enable=\\\n   true\nshards=1\nmemory.bytes=64m\n"
                      "journal.bytes=128m\nadvertise=host\n")
        broker.args = ["--config", path]
        broker.start()  # --shards 2 and --advertise shard are given as options
        assert len(kcat_brokers(broker)) == 2
        assert " 64 MiB" in broker.log() and " 16 MiB a shard" in broker.log()
        with Connection(broker) as connection:
            metadata_with_creation(connection, "made")
            assert len(metadata(connection, ["made"])[1]["made"]) == 5


def metadata_with_creation(connection, topic):
    """The first answer may say that the topic is not there yet."""
    end = time.monotonic() + 30
    while True:
        try:
            return metadata(connection, [topic])
        except AssertionError:
            assert time.monotonic() < end, f"{topic} was not created"
            time.sleep(0.05)


def test_stock_server_properties():
    """Kafka's own file starts it: what has no meaning here is named in a warning."""
    with Broker(shards=1, options={}) as broker:
        broker.stop()
        text = STOCK_PROPERTIES.replace(":9092", f":{broker.port}")
        text = text.replace("/tmp/kraft-combined-logs", broker.data[0])
        text = text.replace("PLAINTEXT://:", f"PLAINTEXT://127.0.0.1:")
        path = os.path.join(broker.dir, "server.properties")
        with open(path, "w") as out:
            out.write(text)
        shutil.rmtree(broker.data[0])
        broker.command = lambda: [BINARY, "serve", "--config", path, "--shards", "1"]
        broker.start()
        assert kcat_brokers(broker) == {"1": f"localhost:{broker.port}"}
        for key in ("process.roles", "num.network.threads", "controller.quorum.bootstrap.servers"):
            assert re.search(rf"warn .*{re.escape(key)}", broker.log()), f"{key} is not mentioned"


def test_auto_creation_off():
    with Broker(options={**SMALL_JOURNAL, "auto.create.topics.enable": "false"}) as broker:
        with Connection(broker) as connection:
            try:
                metadata(connection, ["absent"])
            except AssertionError as error:
                assert str(error) == "absent: error 3", error
            else:
                raise AssertionError("the topic was created")
            assert metadata(connection)[1] == {}


def test_log_level():
    sizes = {}
    for level in ("error", "warn", "info", "debug"):
        with Broker(options=SMALL_JOURNAL, args=("--log-level", level)) as broker:
            broker.stop()
            lines = [line for line in broker.log().splitlines() if not line.startswith("----")]
            sizes[level] = len(lines)
            for line in lines:
                assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warn|info|debug) ",
                                line), line
    assert sizes["error"] == sizes["warn"] == 0 < sizes["info"] <= sizes["debug"], sizes


def test_journal_on_its_own_and_two_data_directories():
    journal = temp_dir("journal")
    with Broker(data_dirs=2, options=SMALL_JOURNAL, args=("--journal", journal)) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["spread"], 8)
        path = os.path.join(broker.dir, "lines")
        with open(path, "w") as out:
            out.writelines(f"line {number}\n" for number in range(1000))
        for partition in range(8):
            kcat_produce(broker, "spread", path, partition)
        broker.restart(kill=True)
        broker.restart()  # now all is in the segments
        used = {os.path.dirname(broker.partition_dir("spread", partition))
                for partition in range(8)}
        assert used == set(broker.data), f"all partitions are in {used}"
        assert any(name.startswith("journal.") for name in os.listdir(journal))
        for partition in range(8):
            back = os.path.join(broker.dir, "back")
            kcat_consume(broker, "spread", back, partition)
            with open(path, "rb") as want, open(back, "rb") as got:
                assert got.read() == want.read(), partition
    shutil.rmtree(journal)


def test_mistyped_data_directory_leaves_no_trace():
    with Broker(options=SMALL_JOURNAL) as broker, Place() as place:
        broker.stop()
        place.serve("--journal", broker.data[0], "--shards", "2").refused(1, "log.dirs", "missing")
        assert not os.path.exists(place.data)
        broker.start()


def test_killed_before_its_first_properties():
    """The next start makes up for it, whatever the metadata log has by then."""
    need_command("strace")
    broker = Broker(options=SMALL_JOURNAL)
    new = os.path.join(broker.data[0], "meta.properties.new")
    broker.wrapper = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", new, "-e",
                      "inject=rename:signal=SIGKILL", "--"]
    try:
        broker.start()
        raise AssertionError("it was not killed")
    except BrokerError as error:
        assert "without a ready line" in str(error), error
    assert os.path.exists(new) and "metadata" in " ".join(os.listdir(broker.data[0]))
    broker.wrapper = []
    with broker:
        pass
