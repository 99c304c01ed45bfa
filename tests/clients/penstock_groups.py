"""`penstock group` and `penstock config` over the wire, beside other clients' groups and configs.
Against any broker (--peer kafka)."""
import subprocess
import time

from lib.broker import BINARY, Broker, is_peer
from lib.cli import json_of, penstock
from lib.clients import need_module
from lib.testcase import Skip, timeout

HOUR_S = 3600
QUICK = {"group.initial.rebalance.delay.ms": 0}


def consumer_of(broker, group, **settings):
    from confluent_kafka import Consumer
    return Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group,
                     "auto.offset.reset": "earliest", "enable.auto.commit": False,
                     "client.id": "tester", **settings})


def commit(broker, group, topic, offsets):
    """Commit for a group without members; its coordinator may still be on its way."""
    from confluent_kafka import KafkaException, TopicPartition
    consumer = consumer_of(broker, group)
    places = [TopicPartition(topic, p, o) for p, o in offsets.items()]
    end = time.monotonic() + 60
    while True:
        try:
            consumer.commit(offsets=places, asynchronous=False)
            break
        except KafkaException:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    consumer.close()


def clocked(broker, *command, **keywords):
    """Run it; (when it began, when it was done)."""
    began = time.time()
    penstock(broker, *command, **keywords)
    return began, time.time()


@timeout(200)
def test_lag_in_records_seconds_and_time_left():
    need_module("confluent_kafka")
    with Broker(shards=2, options=QUICK) as broker:
        penstock(broker, "topic", "create", "t", "-p", "3", "-c", f"retention.ms={HOUR_S * 1000}")
        first = clocked(broker, "produce", "t", "-p", "0", stdin=b"a\nb\nc\n")
        time.sleep(0.3)
        second = clocked(broker, "produce", "t", "-p", "0", stdin=b"d\ne\n")
        penstock(broker, "produce", "t", "-p", "1", stdin=b"x\n")
        commit(broker, "behind", "t", {0: 1, 1: 1, 2: 0})
        commit(broker, "nearly", "t", {0: 3})

        def described(group):
            began = time.time()
            found, = json_of(broker, "group", "describe", group)["groups"]
            return (found, {p["partition"]: p for p in found["partitions"]},
                    (began, time.time()))

        def is_age(seconds, of, now):
            """So old, within what the times before and after both commands allow."""
            return now[0] - of[1] - 0.002 <= seconds <= now[1] - of[0] + 0.002
        group, partitions, now = described("behind")
        assert (group["group"], group["state"], group["members"]) == ("behind", "Empty", []), group
        assert [partitions[p]["lagRecords"] for p in range(3)] == [4, 0, 0], partitions
        assert group["lagRecords"] == 4 and group["lostRecords"] == 0, group
        assert is_age(partitions[0]["lagSeconds"], first, now), partitions
        assert partitions[1]["lagSeconds"] == 0 == partitions[2]["lagSeconds"], partitions
        assert partitions[1]["timeLeftBy"] == "nothing-unread", partitions
        assert partitions[0]["timeLeftBy"] == "time", partitions
        assert is_age(HOUR_S - partitions[0]["timeLeftSeconds"], first, now), partitions
        _, partitions, now = described("nearly")
        assert partitions[0]["lagRecords"] == 2, partitions
        assert is_age(partitions[0]["lagSeconds"], second, now), partitions
        table = penstock(broker, "group", "describe", "nearly").out.splitlines()
        assert table[0].startswith("group nearly, Empty, "), table
        assert table[2].split()[:5] == ["t", "0", "3", "5", "2"], table


@timeout(200)
def test_time_left_by_size_and_without_limit():
    need_module("confluent_kafka")
    with Broker(shards=1, options=QUICK) as broker:
        penstock(broker, "topic", "create", "sized", "-c", "retention.ms=-1",
                 "-c", f"retention.bytes={100 << 20}")
        penstock(broker, "topic", "create", "kept", "-c", "retention.ms=-1")
        penstock(broker, "topic", "create", "compacted", "-c", "cleanup.policy=compact")
        for topic in "sized", "kept", "compacted":
            penstock(broker, "produce", topic, "-k", "key", stdin=b"x" * 99 + b"\n")
        time.sleep(1)  # rates are taken over a second or more
        for _ in range(2):
            penstock(broker, "produce", "sized", "-k", "key", stdin=(b"x" * 99 + b"\n") * 10000)
        for topic in "sized", "kept", "compacted":
            commit(broker, "g", topic, {0: 0})
        found, = json_of(broker, "group", "describe", "g")["groups"]
        of = {p["topic"]: p for p in found["partitions"]}
        assert of["kept"]["timeLeftBy"] == "unbounded" == of["compacted"]["timeLeftBy"], of
        assert of["kept"]["timeLeftSeconds"] is None, of
        size = json_of(broker, "topic", "describe", "sized")["topics"][0]["partitions"][0]["sizeBytes"]
        if size is None:
            assert of["sized"]["timeLeftBy"] == "unknown", of
            return
        assert of["sized"]["timeLeftBy"] == "size", of
        # All of it is unread and came within the age of the oldest: so fast it goes on.
        want = ((100 << 20) - size) / (size / of["sized"]["lagSeconds"])
        assert abs(of["sized"]["timeLeftSeconds"] / want - 1) < 0.2, (of, want)


@timeout(200)
def test_records_that_are_gone():
    """What was deleted before it was read is lost to the group, and passed over by a consumer."""
    need_module("confluent_kafka")
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient
    with Broker(shards=1, options=QUICK) as broker:
        penstock(broker, "produce", "t", stdin=b"a\nb\nc\nd\n")
        commit(broker, "g", "t", {0: 1})
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        for done in admin.delete_records([TopicPartition("t", 0, 3)]).values():
            assert done.result(30).low_watermark == 3
        group, = json_of(broker, "group", "describe", "g")["groups"]
        partition, = group["partitions"]
        assert (partition["lagRecords"], partition["lostRecords"]) == (3, 2), partition
        assert partition["logStartOffset"] == 3 and group["lostRecords"] == 2, group
        done = subprocess.run([BINARY, "consume", "t", "-o", "1", "-e", "--bootstrap",
                               broker.bootstrap], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "d\n"), done
        assert "t-0: offsets 1 to 2 are gone" in done.stderr, done
        beyond = penstock(broker, "consume", "t", "-o", "5", code=1)
        assert "t-0, offset 5: OFFSET_OUT_OF_RANGE" in beyond.errors, beyond


@timeout(200)
def test_members_reset_and_delete():
    need_module("confluent_kafka")
    with Broker(shards=2, options=QUICK) as broker:
        penstock(broker, "topic", "create", "t", "-p", "3")
        for partition in range(3):
            penstock(broker, "produce", "t", "-p", partition, stdin=b"a\nb\nc\n")
        consumer = consumer_of(broker, "g")
        consumer.subscribe(["t"])
        seen = [consumer.poll(30) for _ in range(9)]
        assert all(m is not None and not m.error() for m in seen), seen
        consumer.commit(asynchronous=False)
        groups = json_of(broker, "group", "list")["groups"]
        assert [(g["group"], g["state"]) for g in groups] == [("g", "Stable")], groups
        assert json_of(broker, "group", "list", "--state", "Empty")["groups"] == []
        group, = json_of(broker, "group", "describe", "g")["groups"]
        member, = group["members"]
        assert (member["clientId"], member["partitions"]) == ("tester", 3), group
        assert all(p["memberId"] == member["memberId"] and p["lagRecords"] == 0
                   for p in group["partitions"]), group
        said = penstock(broker, "group", "reset-offsets", "g", "-t", "t", "--to", "end", code=1)
        assert "NON_EMPTY_GROUP" in said.errors, said
        assert "NON_EMPTY_GROUP" in penstock(broker, "group", "delete", "g", code=1).errors
        consumer.close()

        def reset(to, *arguments):
            rows = json_of(broker, "group", "reset-offsets", "g", "--to", to, *arguments)["offsets"]
            return [row["newOffset"] for row in rows]

        def committed():
            group, = json_of(broker, "group", "describe", "g")["groups"]
            return [p["committedOffset"] for p in group["partitions"]]
        assert reset("-2", "-t", "t", "--dry-run") == [1, 1, 1] and committed() == [3, 3, 3]
        assert reset("-2", "-t", "t") == [1, 1, 1] == committed()
        assert reset("+1", "--all-topics") == [2, 2, 2] == committed()
        assert reset("99", "-t", "t") == [3, 3, 3] == committed()
        assert reset("@2001-01-01", "-t", "t") == [0, 0, 0] == committed()
        consumer = consumer_of(broker, "g")
        consumer.subscribe(["t"])
        again = [consumer.poll(30) for _ in range(9)]
        assert sorted((m.partition(), m.offset()) for m in again) == \
            [(p, o) for p in range(3) for o in range(3)]
        consumer.close()
        penstock(broker, "group", "delete", "g")
        assert json_of(broker, "group", "list")["groups"] == []
        for command in ["describe", "g"], ["delete", "g"]:
            assert "GROUP_ID_NOT_FOUND" in penstock(broker, "group", *command, code=1).errors
        penstock(broker, "group", "reset-offsets", "g", "--to", "sometime", "-t", "t", code=2)


@timeout(200)
def test_members_of_the_new_protocol():
    """A group of KIP-848 is described, and reset when it is empty, like a classic one."""
    need_module("confluent_kafka")
    if not is_peer():
        raise Skip("needs a broker with the group protocol of KIP-848: --peer kafka")
    with Broker() as broker:
        penstock(broker, "topic", "create", "t", "-p", "3")
        for partition in range(3):
            penstock(broker, "produce", "t", "-p", partition, stdin=b"a\nb\n")
        consumer = consumer_of(broker, "g", **{"group.protocol": "consumer"})
        consumer.subscribe(["t"])
        seen = [consumer.poll(60) for _ in range(6)]
        assert all(m is not None and not m.error() for m in seen), seen
        consumer.commit(asynchronous=False)
        group, = json_of(broker, "group", "describe", "g")["groups"]
        member, = group["members"]
        assert (group["groupType"], group["state"]) == ("consumer", "Stable"), group
        assert (member["clientId"], member["partitions"]) == ("tester", 3), group
        assert [(p["committedOffset"], p["memberId"]) for p in group["partitions"]] == \
            [(2, member["memberId"])] * 3, group
        consumer.close()
        rows = json_of(broker, "group", "reset-offsets", "g", "-t", "t", "--to", "1")["offsets"]
        assert [(row["oldOffset"], row["newOffset"]) for row in rows] == [(2, 1)] * 3, rows
        assert json_of(broker, "group", "describe", "g")["groups"][0]["lagRecords"] == 3


def test_configs():
    with Broker(shards=1) as broker:
        penstock(broker, "topic", "create", "t", "-c", "retention.ms=1000")

        def configs(*arguments):
            rows = json_of(broker, "config", "get", "--topic", "t", *arguments)["configs"]
            return {row["name"]: row["value"] for row in rows}
        assert configs() == {"retention.ms": "1000"}
        penstock(broker, "config", "set", "--topic", "t", "retention.ms=2000",
                 "cleanup.policy+=compact")
        assert configs() == {"retention.ms": "2000", "cleanup.policy": "delete,compact"}
        penstock(broker, "config", "delete", "--topic", "t", "retention.ms")
        assert configs() == {"cleanup.policy": "delete,compact"}
        assert configs("retention.ms") == {"retention.ms": "604800000"}
        assert len(configs("--all")) > 20
        penstock(broker, "config", "set", "--topic", "t", "retention.ms=5", "--dry-run")
        assert configs() == {"cleanup.policy": "delete,compact"}
        for wrong in "retention.ms=often", "no.such.config=1":
            said = penstock(broker, "config", "set", "--topic", "t", wrong, code=1)
            assert "INVALID_CONFIG" in said.errors, said
        said = penstock(broker, "config", "get", "--topic", "nope", code=1)
        assert "UNKNOWN_TOPIC_OR_PARTITION" in said.errors, said
        penstock(broker, "config", "get", code=2)
        penstock(broker, "config", "set", "--topic", "t", "retention.ms", code=2)
        node = json_of(broker, "topic", "describe", "t")["topics"][0]["partitions"][0]["leader"]
        rows = json_of(broker, "config", "get", "--broker", node, "--all")["configs"]
        assert "num.partitions" in {row["name"] for row in rows}, rows
