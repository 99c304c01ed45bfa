"""Kafka's consumer groups command against groups made for it: what it prints is compared with what
it prints against Apache Kafka 4.4 (run with --peer kafka, which takes the same expectations)."""
import re
import threading

from lib.broker import Broker, is_peer
from lib.clients import Child, java_command, need_module, python_child, run
from lib.group_members import Members, wait_for
from lib.kafka_wire import Connection, batch, create_topics, leader_connection, produce
from lib.testcase import timeout

TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
OPTIONS = {"group.initial.rebalance.delay.ms": 300, "group.min.session.timeout.ms": 1000}


def tool(broker, *arguments, check=True):
    """Lines of its output, ids and blanks made the same for every run."""
    out, errors = run(java_command(TOOL, "--bootstrap-server", broker.bootstrap, *arguments),
                      check=check)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID",
                  (out + errors).decode())
    text = text.replace(broker.bootstrap.rsplit(":", 1)[0], "HOST")
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()
            if line.strip() and "KIP-848" not in line]


def lines_of_group(lines, group):
    return sorted(line for line in lines if line.startswith(group + " "))


def at_once(broker, calls):
    """Several commands at once: most of their time is the start of a Java machine."""
    answers = [None] * len(calls)

    def ask(i):
        answers[i] = tool(broker, *calls[i], check=False)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def produced(broker, partition):
    with leader_connection(broker, "t", partition) as connection:
        return produce(connection, "t", batch([b"v"] * 10), partition)[0] == 0


def prepare(broker):
    with Connection(broker) as connection:
        create_topics(connection, ["t"], 2)
    for partition in range(2):  # Kafka needs a moment to lead a new one
        wait_for(lambda p=partition: produced(broker, p))
    live = Members("live", broker, "t", "live",
                   lambda path: Child(python_child("group_member.py", "confluent",
                                                   broker.bootstrap, "t", "live"), path))
    gone = Members("gone", broker, "t", "gone",
                   lambda path: Child(python_child("group_member.py", "confluent",
                                                   broker.bootstrap, "t", "gone"), path))
    for members in (live, gone):
        members.add()
    for members in (live, gone):
        members.wait_all_read({0: 10, 1: 10})
    gone.stop()
    return live


@timeout(200)
def test_consumer_groups_command():
    need_module("confluent_kafka")
    with Broker(options=OPTIONS) as broker:
        live = prepare(broker)
        node = 1 if is_peer() else r"\d"
        try:
            offsets, members, state, states, empty, none, refused = at_once(broker, [
                ("--describe", "--group", "live"),
                ("--describe", "--group", "live", "--members", "--verbose"),
                ("--describe", "--group", "live", "--state"),
                ("--list", "--state"),
                ("--list", "--state", "Empty"),
                ("--describe", "--group", "none"),
                ("--delete", "--group", "live"),
            ])
            assert lines_of_group(offsets, "live") == [
                f"live t {p} 10 10 0 rdkafka-UUID /HOST rdkafka" for p in (0, 1)], offsets
            assert lines_of_group(members, "live") == [
                "live rdkafka-UUID /HOST rdkafka 2 - t:0,1 - -"], members
            [line] = lines_of_group(state, "live")
            assert re.fullmatch(rf"live HOST:\d+ \({node}\) range Stable 1", line), state
            assert lines_of_group(states, "live") == ["live Stable"], states
            assert lines_of_group(states, "gone") == ["gone Empty"], states
            assert empty[1:] == ["gone Empty"], empty
            assert any("Group none not found." in line for line in none), none
            assert any("GroupNotEmptyException" in line for line in refused), refused
            moved = tool(broker, "--reset-offsets", "--group", "gone", "--topic", "t:1",
                         "--to-offset", "3", "--execute")
            assert lines_of_group(moved, "gone") == ["gone t 1 3"], moved
            later, = at_once(broker, [("--describe", "--group", "gone")])
            assert lines_of_group(later, "gone") == ["gone t 0 10 10 0 - - -",
                                                     "gone t 1 3 10 7 - - -"], later
            forgotten, = at_once(broker, [("--delete-offsets", "--group", "gone",
                                            "--topic", "t:1")])
            assert any("Request succeeded for deleting offsets" in line for line in forgotten)
            assert "t 1 Successful" in forgotten, forgotten
            deleted, = at_once(broker, [("--delete", "--group", "gone")])
            assert any("('gone') was successful" in line for line in deleted), deleted
            assert tool(broker, "--list") == ["live"]
            live.stop()
        finally:
            live.close()
