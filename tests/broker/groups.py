"""Requests about groups, made by hand: the wrong node, connections that go away, old versions."""
from lib.broker import Broker
from lib.group_members import coordinator, listed, members_described, wait_for
from lib.kafka_wire import (Connection, array, batch, create_topics, frame, header, i32, i64,
                            leader_connection, metadata, produce_body, string)
from lib.metrics import metrics_broker, scrape
from lib.testcase import params, sanitized

MOSTLY_WAITS = True
PRODUCE, OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 0, 8, 9, 10
JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 11, 12, 13, 14
NOT_COORDINATOR, INVALID_TOPIC, UNKNOWN_MEMBER = 16, 17, 25
OPTIONS = {"group.initial.rebalance.delay.ms": 500, "group.min.session.timeout.ms": 500}


def i32_bytes(data):
    return i32(len(data)) + data


def join_body(group, member="", session_ms=2_000):
    """Version 2: no id is required."""
    protocols = array([string("range") + i32_bytes(b"what I read")])
    return (string(group) + i32(session_ms) + i32(10_000) + string(member) + string("consumer") +
            protocols)


def joined(answer):
    """(error, generation, member id, members that the leader is shown)"""
    answer.i32()
    error, generation = answer.i16(), answer.i32()
    answer.string(), answer.string()
    member = answer.string()
    shown = []
    for _ in range(answer.i32()):
        shown.append(answer.string())
        answer.bytes(answer.i32())
    answer.end()
    return error, generation, member, shown


def groups_of_all_nodes(broker, count):
    """Names of groups so many that each shard has some, where there are two."""
    names = [f"group-{i}" for i in range(count)]
    for name in names:
        coordinator(broker, name).close()
    return names


@sanitized
@params("shard", "host")
def test_clients_that_go_away_while_they_wait(advertise):
    """Their members stay until their sessions end, and nothing of the requests does."""
    with Broker(options=OPTIONS, advertise=advertise) as broker:
        names = groups_of_all_nodes(broker, 6)
        for name in names:
            connection = coordinator(broker, name)
            connection.send(frame(header(JOIN_GROUP, 2) + join_body(name, session_ms=5_000)))
            wait_for(lambda n=name: len(members_described(broker, n)[1]) == 1)
            connection.close()
        for name in names:
            assert len(members_described(broker, name)[1]) == 1, name
        for name in names:
            wait_for(lambda n=name: members_described(broker, n) == ("Empty", []))
        # and one who stays, in each group
        for name in names:
            with coordinator(broker, name) as connection:
                error, generation, member, shown = joined(
                    connection.request(JOIN_GROUP, 2, join_body(name)))
                assert (error, shown) == (0, [member]) and generation > 1
        assert listed(broker) == set(names)


@sanitized
@params("shard", "host")
def test_stop_while_members_wait(advertise):
    """Parked requests do not hold up the end, which Broker asserts to be a clean one."""
    options = {**OPTIONS, "group.initial.rebalance.delay.ms": 60_000}
    with Broker(options=options, advertise=advertise) as broker:
        waiting = []
        for name in groups_of_all_nodes(broker, 6):
            waiting.append(coordinator(broker, name))
            waiting[-1].send(frame(header(JOIN_GROUP, 2) + join_body(name)))
        for name in groups_of_all_nodes(broker, 6):
            wait_for(lambda n=name: len(members_described(broker, n)[1]) == 1)
        broker.stop()
        for connection in waiting:
            connection.close()
        broker.start()


@sanitized
def test_one_member_from_join_to_leave():
    with metrics_broker(options=dict(OPTIONS)) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["t"], 1)
        with coordinator(broker, "g") as c:
            error, generation, member, shown = joined(c.request(JOIN_GROUP, 2, join_body("g")))
            assert (error, generation, shown) == (0, 1, [member])
            who = string("g") + i32(generation) + string(member)
            assert c.request(HEARTBEAT, 0, who).i16() == 0
            given = array([string(member) + i32_bytes(b"all of it")])
            answer = c.request(SYNC_GROUP, 0, who + given)
            assert (answer.i16(), answer.bytes(answer.i32())) == (0, b"all of it")
            check_figures(broker, Stable=1, members=1, rebalances_total=1, commits_total=0, offsets=0)
            commit = who + i64(-1) + array(
                [string("t") + array([i32(0) + i64(7) + string("note"),
                                      i32(1) + i64(7) + string("")])])
            answer = c.request(OFFSET_COMMIT, 2, commit)
            assert answer.i32() == 1 and answer.string() == "t" and answer.i32() == 2
            assert [answer.i32(), answer.i16(), answer.i32(), answer.i16()] == [0, 0, 1, 3]
            answer = c.request(OFFSET_FETCH, 1, string("g") + array([string("t") + array(
                [i32(0), i32(1)])]))
            assert answer.i32() == 1 and answer.string() == "t" and answer.i32() == 2
            assert [answer.i32(), answer.i64(), answer.string(), answer.i16()] == [0, 7, "note", 0]
            assert [answer.i32(), answer.i64(), answer.string(), answer.i16()] == [1, -1, "", 0]
            assert c.request(LEAVE_GROUP, 0, string("g") + string(member)).i16() == 0
            assert c.request(HEARTBEAT, 0, who).i16() == UNKNOWN_MEMBER
        check_figures(broker, Empty=1, members=0, commits_total=1, offsets=1, offsets_expired_total=0)
        broker.restart(kill=True)
        wait_for(lambda: listed(broker) == {"g"})
        check_figures(broker, Empty=1, members=0, commits_total=0, offsets=1)
        figures = scrape(broker)
        assert figures.total("group_loaded_records_total") > 1
        assert figures.total("group_memory_bytes") > 0


def check_figures(broker, **wanted):
    """Groups by state, and what is counted of them, over all shards; states not named have none."""
    figures = scrape(broker)
    for state in ("Empty", "PreparingRebalance", "CompletingRebalance", "Stable"):
        assert figures.total("groups", state) == wanted.pop(state, 0), state
    for name, value in wanted.items():
        assert figures.total("group_" + name) == value, name


@sanitized
def test_the_wrong_node_and_the_wrong_producer():
    with Broker(options=OPTIONS) as broker:
        with coordinator(broker, "g") as right, Connection(broker) as any_node:
            nodes, _ = metadata(any_node)
            port = right.socket.getpeername()[1]
            wrong = [p for _, p in nodes.values() if p != port]
            assert len(wrong) == 1
            with Connection(broker, wrong[0]) as connection:
                answer = connection.request(HEARTBEAT, 0, string("g") + i32(1) + string("x"))
                assert answer.i16() == NOT_COORDINATOR
                assert joined(connection.request(JOIN_GROUP, 2, join_body("g")))[0] == \
                    NOT_COORDINATOR
        topic = "__consumer_offsets"
        with leader_connection(broker, topic) as connection:
            answer = connection.request(PRODUCE, 7, produce_body(topic, batch([b"v"])))
            assert answer.i32() == 1 and answer.string() == topic
            assert answer.i32() == 1 and answer.i32() == 0
            assert answer.i16() == INVALID_TOPIC
