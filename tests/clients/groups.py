"""Consumer groups of each client: members come, go and die, the broker is killed; what is read, and
what is read again."""
import os
import signal
import threading

from lib.broker import Broker
from lib.client_kinds import CLIENT_KINDS
from lib.clients import Child, go_program, need_command, run
from lib.group_members import (Members, committed, generation, listed, members_described,
                               wait_for)
from lib.kafka_wire import Connection, batch, create_topics, leader_connection, produce
from lib.testcase import Skip, params, slow, timeout

PARTITIONS = 12
# Sessions of three seconds, so that a killed member is noticed soon.
OPTIONS = {"group.initial.rebalance.delay.ms": 300, "group.min.session.timeout.ms": 1000}


class Records:
    """What is in a topic, more of it in each step."""

    def __init__(self, broker, topic):
        self.broker, self.topic = broker, topic
        self.ends = dict.fromkeys(range(PARTITIONS), 0)

    def add(self, each):
        for partition in range(PARTITIONS):
            values = [b"%d" % (self.ends[partition] + i) for i in range(each)]
            wait_for(lambda p=partition, v=values: self._is_taken(p, v))
            self.ends[partition] += each

    def _is_taken(self, partition, values):
        """Kafka needs a moment to lead it."""
        with leader_connection(self.broker, self.topic, partition) as connection:
            return produce(connection, self.topic, batch(values), partition)[0] == 0


def members_of(broker, client, topic, group, instance=None, more=()):
    command_for = CLIENT_KINDS[client]()

    def start(log_path):
        arguments = [broker.bootstrap, topic, group,
                     *([] if instance is None else [instance]), *more]
        command, env = command_for(*arguments)
        return Child(command, log_path, env)
    name = client if instance is None else f"{client}-{instance}"
    return Members(name, broker, topic, group, start)


def in_parallel(jobs):
    """Run all; raise the first failure when all have ended."""
    problems = []

    def guard(job):
        try:
            job()
        except BaseException as problem:  # pylint: disable=broad-except
            problems.append(problem)
    threads = [threading.Thread(target=guard, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def rehearse(broker, clients):
    """All clients at once, each with a topic and a group of its own, the broker's death shared."""
    topics = {client: f"of-{client}" for client in clients}
    with Connection(broker) as connection:
        create_topics(connection, list(topics.values()), PARTITIONS)
    records = {client: Records(broker, topics[client]) for client in clients}
    members = {client: members_of(broker, client, topics[client], f"group-{client}")
               for client in clients}

    def each(step):
        in_parallel([lambda c=c: step(members[c], records[c]) for c in clients])

    def begin(m, r):
        r.add(20)
        for _ in range(3):
            m.add()
        m.wait_all_read(r.ends)

    def lose_one_and_add_one(m, r):
        r.add(20)
        m.kill(0)
        m.add()
        m.wait_all_read(r.ends)

    def go_on(m, r):
        r.add(20)
        m.wait_all_read(r.ends)

    def added_reads(m, r):
        wait_for(lambda: stable_members(broker, m.group) == 3)  # the one that was added, too
        r.add(5)
        m.wait_all_read(r.ends)
        return m.got(3)

    def finish(m, r):
        wait_for(lambda: added_reads(m, r), 60)
        m.stop()
        m.check()
    try:
        each(begin)
        each(lose_one_and_add_one)
        each(lambda m, r: r.add(20))
        broker.restart(kill=True)  # while they read that
        each(go_on)
        each(finish)
    finally:
        for m in members.values():
            m.close()


def available():
    """The clients that are here; test_client_is_here shows which are not, and why."""
    found = []
    for client, kind in CLIENT_KINDS.items():
        try:
            kind()
            found.append(client)
        except Skip as reason:
            print(f"{client} is left out: {reason}", flush=True)
    if not found:
        raise Skip("none of the clients is installed")
    return found


@params(*CLIENT_KINDS)
def test_client_is_here(client):
    """One that is not installed is left out of the tests of many: that is seen as a skip of its own."""
    CLIENT_KINDS[client]()


def lines_of(broker, group, count, topic="plain"):
    """kcat as the only member: what it reads until it has so many, its offsets committed at the end."""
    out, _ = run(["kcat", "-b", broker.bootstrap, "-G", group, "-X", "auto.offset.reset=earliest",
                  "-c", str(count), "-q", "-f", "%p %o %s\n", topic], timeout_s=40)
    return out.decode().splitlines()


def test_kcat_goes_on_where_it_was():
    need_command("kcat")
    with Broker(options=OPTIONS) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["plain"], PARTITIONS)
        records = Records(broker, "plain")
        records.add(10)
        first = lines_of(broker, "g", 120)
        assert len(set(first)) == 120, first
        broker.restart(kill=True)
        records.add(5)
        second = lines_of(broker, "g", 60)
        assert len(set(second)) == 60 and not set(first) & set(second), second


def stable_members(broker, group):
    try:
        state, members = members_described(broker, group)
    except (OSError, AssertionError):
        return 0  # its coordinator is not there yet
    return len(members) if state == "Stable" else 0


def restart_static(client):
    """Two static members; one is killed and started again within its session: the other one never stops, the
    generation stays, and each has the partitions that it had."""
    with Broker(options=OPTIONS) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["fixed"], PARTITIONS)
        records = Records(broker, "fixed")
        stays, goes = (members_of(broker, client, "fixed", "g", name) for name in ("a", "b"))
        try:
            stays.add()
            goes.add()
            wait_for(lambda: stable_members(broker, "g") == 2)
            records.add(5)
            wait_for(lambda: stays.got() and goes.got() and
                     len(stays.got() | goes.got()) >= 5 * PARTITIONS)
            before = generation(broker, "g")
            owned = {p for p, _ in stays.got()}, {p for p, _ in goes.got()}
            goes.kill(0)
            goes.add()
            records.add(5)
            wait_for(lambda: len(stays.got() | goes.got()) == 10 * PARTITIONS)
            assert generation(broker, "g") == before
            assert {p for p, o in goes.got(1) if o >= 5} <= owned[1], owned
            assert {p for p, o in stays.got() if o >= 5} <= owned[0], owned
            stays.stop()
            goes.stop()
        finally:
            stays.close()
            goes.close()


def test_static_members_restart_without_a_rebalance():
    restart_static("confluent")


@slow
@params("java", "kafka-python")
def test_static_members_of_others(client):
    restart_static(client)


def pause(client):
    """One of two members is stopped with records in hand until its session is over, and goes on when the other one
    has read and committed all of them: what it commits of them is refused, and it joins again."""
    with Broker(options=OPTIONS) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["much"], PARTITIONS)
        records = Records(broker, "much")
        members = members_of(broker, client, "much", "g")
        try:
            paused = members.add().process
            members.add()
            wait_for(lambda: stable_members(broker, "g") == 2)
            records.add(5)
            members.wait_all_read(records.ends)
            before = members.got(0)
            records.add(400)
            wait_for(lambda: members.got(0) > before)
            paused.send_signal(signal.SIGSTOP)
            wait_for(lambda: stable_members(broker, "g") == 1)
            members.wait_all_read(records.ends)
            paused.send_signal(signal.SIGCONT)
            wait_for(lambda: stable_members(broker, "g") == 2)
            records.add(20)
            members.wait_all_read(records.ends)
            print(f"{client}: {len(members.read_in_vain())} records read in vain")
            members.check()
            members.stop()
        finally:
            members.close()


def test_a_member_that_was_paused_commits_nothing():
    pause("java")


@slow
@params(*[client for client in CLIENT_KINDS if client not in ("java", "sarama")])
def test_others_that_were_paused_commit_nothing(client):
    """Not Sarama, which does not say whether a commit was taken: one of the same offset by the other member, which
    is all that the broker can be asked for, is no different from its own."""
    pause(client)


@slow
@timeout(300)
def test_cooperative_members_keep_what_stays_theirs():
    """A member that comes takes no more from the others than it is to have; one that dies, nothing."""
    with Broker(options=OPTIONS) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["shared"], PARTITIONS)
        records = Records(broker, "shared")
        members = members_of(broker, "java", "shared", "g", "", [
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"])

        def revoked():
            return [sum(int(line.split()[1]) for line in child.output().splitlines()
                        if line.startswith("revoked ")) for child in members.children]

        def wait_shared(number, wanted):
            wait_for(lambda: stable_members(broker, "g") == number and sum(revoked()) == wanted, 100)
            records.add(20)
            members.wait_all_read(records.ends, 100)
        try:
            for number, wanted in ((1, 0), (2, 6), (3, 10)):
                members.add()
                wait_shared(number, wanted)
            assert revoked() == [8, 2, 0] and all(members.got(i) for i in range(3)), revoked()
            members.kill(1)
            wait_shared(2, 10)
            broker.restart(kill=True)
            wait_shared(2, 10)
            members.check()
            members.stop()
        finally:
            members.close()


@timeout(240)
def test_members_die_and_the_broker_too():
    with Broker(options=OPTIONS) as broker:
        rehearse(broker, available())


@slow
@timeout(300)
def test_a_thousand_members_in_a_hundred_groups():
    """Each group reads the topic once, without an error; then all are listed, stable, with their ten
    members, and with their offsets after a restart."""
    groups, each, records_each = 100, 10, 50
    with Broker(options={"group.initial.rebalance.delay.ms": 3000}) as broker:
        with Connection(broker) as connection:
            create_topics(connection, ["all"], PARTITIONS)
        records = Records(broker, "all")
        records.add(records_each)
        command = [go_program("groups_go"), "many", broker.bootstrap, "all", str(groups), str(each),
                   str(records_each * PARTITIONS)]
        with Child(command, os.path.join(broker.dir, "many.out")) as child:
            wait_for(lambda: "done" in child.output().splitlines() or
                     child.process.poll() is not None, 240)
            assert child.process.poll() is None, child.output()[-2000:]
            names = {f"many-{i}" for i in range(groups)}
            assert listed(broker) == names
            for name in names:
                state, members = members_described(broker, name)
                assert (state, len(members)) == ("Stable", each), name
            print(f"rss {broker.rss() >> 20} MiB, cpu {broker.cpu_seconds():.1f} s")
            child.process.terminate()
            child.wait(60)
        broker.restart(kill=True)
        for name in names:
            wait_for(lambda n=name: committed(broker, n, "all", records.ends) == records.ends)


@slow
@timeout(240)
@params("numa", "host")
def test_the_same_through_one_node(advertise):
    with Broker(options=OPTIONS, advertise=advertise) as broker:
        rehearse(broker, available())
