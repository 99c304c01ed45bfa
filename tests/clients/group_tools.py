"""Kafka's consumer groups command against groups made for it: what it prints is compared with what
it prints against Apache Kafka 4.4 (run with --peer kafka, which takes the same expectations)."""
import re

from lib import transcript
from lib.broker import Broker, is_peer
from lib.clients import Child, need_module, python_child
from lib.group_members import Members, wait_for
from lib.kafka_wire import Connection, batch, create_topics, leader_connection, produce
from lib.testcase import timeout

TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
OPTIONS = {"group.initial.rebalance.delay.ms": 300, "group.min.session.timeout.ms": 1000}


def normal(lines, broker):
    """Of one command, ids and blanks made the same for every run."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID",
                  "\n".join(lines))
    text = text.replace(broker.bootstrap.rsplit(":", 1)[0], "HOST")
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()
            if line.strip() and "KIP-848" not in line]


def tools(broker, *calls):
    """What each call of the command printed, one after the other in one JVM."""
    printed = transcript.run(broker, [["tool", TOOL, *call] for call in calls])
    return [normal(lines, broker) for lines in printed]


def lines_of_group(lines, group):
    return sorted(line for line in lines if line.startswith(group + " "))


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
            (offsets, members, state, states, empty, none, refused, moved, later, forgotten, deleted,
             left) = tools(
                broker,
                ("--describe", "--group", "live"),
                ("--describe", "--group", "live", "--members", "--verbose"),
                ("--describe", "--group", "live", "--state"),
                ("--list", "--state"),
                ("--list", "--state", "Empty"),
                ("--describe", "--group", "none"),
                ("--delete", "--group", "live"),
                ("--reset-offsets", "--group", "gone", "--topic", "t:1", "--to-offset", "3",
                 "--execute"),
                ("--describe", "--group", "gone"),
                ("--delete-offsets", "--group", "gone", "--topic", "t:1"),
                ("--delete", "--group", "gone"),
                ("--list",))
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
            assert lines_of_group(moved, "gone") == ["gone t 1 3"], moved
            assert lines_of_group(later, "gone") == ["gone t 0 10 10 0 - - -",
                                                     "gone t 1 3 10 7 - - -"], later
            assert any("Request succeeded for deleting offsets" in line for line in forgotten)
            assert "t 1 Successful" in forgotten, forgotten
            assert any("('gone') was successful" in line for line in deleted), deleted
            assert left == ["live"], left
            live.stop()
        finally:
            live.close()
