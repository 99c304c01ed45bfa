"""Clients that mean harm, or behave as if they did, and what others notice of them: nothing.

Every attack runs under besieged() (tests/lib/siege.py: memory, descriptors, the bystander's
records) beside a pulse of small produce requests (tests/lib/pulse.py) whose p99 must keep.
"""
import contextlib
import itertools
import resource
import socket
import struct
import time

from lib.broker import Broker
from lib.kafka_wire import (API_VERSIONS, CORRELATION_ID, FETCH, METADATA, PRODUCE, Connection,
                            batch, create_topics, fetch, fetch_body, frame, header, i32,
                            leader_connection, produce)
from lib.pulse import Pulse
from lib.siege import FILES_SPARE, MIB, besieged, check_memory, open_files, wait_for_files
from lib.testcase import Skip, alone, params, sanitized, slow, timeout

TARGET, TARGET_NUMBERS = "target", itertools.count()
HOLD_S, TRIES = 1.5, 3
FILES_OF_TEST = 12_000
VERSIONS = frame(header(API_VERSIONS, 0))
LARGE_BATCH = batch([b"v" * 1000] * 1000)


@contextlib.contextmanager
def beside_a_pulse(**options):
    """A broker that serves a bystander and a pulse, at rest so far."""
    with besieged(**options) as broker:
        with Pulse(broker) as pulse:
            broker.pulse = pulse
            pulse.rest()
            yield broker


def withstand(broker, attack, *arguments):
    """The attack costs the pulse nothing, and is forgotten soon after. Noise of the machine is not
    there three times."""
    before = open_files(broker)
    for _ in range(TRIES):
        with broker.pulse.war():
            attack(broker, *arguments)
            check_memory(broker, "under attack")
        wait_for_files(broker, before + FILES_SPARE)
        if broker.pulse.has_kept():
            return
    raise AssertionError("others have lost their latency")


def target(broker, mib=0):
    """A topic led by the shard that the pulse goes to, with so many MiB of records."""
    for _ in range(20):
        topic = f"{TARGET}{next(TARGET_NUMBERS)}"
        with Connection(broker) as connection:
            create_topics(connection, [topic])
        with leader_connection(broker, topic) as connection:
            if connection.socket.getpeername()[1] != broker.pulse.port:
                continue
            for turn in range(mib):
                assert produce(connection, topic, LARGE_BATCH) == (0, turn * 1000)
        return topic
    raise AssertionError("no topic is led by the shard of the pulse")


def connections(broker, count, spread=False):
    """To the shard that the pulse goes to, or to both."""
    other = 2 * broker.port + 1 - broker.pulse.port
    return [Connection(broker, other if spread and number % 2 else broker.pulse.port)
            for number in range(count)]


def close_all(opened):
    for connection in opened:
        connection.close()


def send_some(connection, data):
    """What the socket takes at once; the number of bytes."""
    connection.socket.setblocking(False)
    try:
        return connection.socket.send(data)
    except (BlockingIOError, ConnectionResetError, BrokenPipeError):
        return 0


def receive_some(connection, most):
    connection.socket.setblocking(False)
    try:
        return len(connection.socket.recv(most))
    except (BlockingIOError, ConnectionResetError):
        return 0


def hold(seconds=HOLD_S, step_s=0.05, turns_min=10):
    """Turns of an attack: the number of each, until the time is over, and there were some: on a machine
    that stands still nobody attacks."""
    end, turn = time.monotonic() + seconds, 0
    while time.monotonic() < end or turn < turns_min:
        yield turn
        turn += 1
        time.sleep(step_s)


# -- readers

def attack_by_slow_readers(broker, seconds):
    """60 clients ask for a MiB each and read it at 20 KiB/s."""
    topic = target(broker, mib=4)
    readers = connections(broker, 60)
    for reader in readers:
        reader.send(frame(header(FETCH, 4) + fetch_body(topic, 0)))
    taken = sum(receive_some(reader, 1024) for _ in hold(seconds) for reader in readers)
    print(f"{taken} bytes taken by 60 readers")
    assert taken > 60 * 1024
    close_all(readers)


def small_window(broker):
    """A connection whose client's kernel takes next to nothing for it."""
    connection = Connection.__new__(Connection)
    connection.socket = socket.socket()
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    connection.socket.connect((broker.host, broker.pulse.port))
    return connection


def ask(connection, topic, offset, **how):
    send_some(connection, frame(header(FETCH, 4) +
                                fetch_body(topic, offset, max_bytes=16 * MIB, **how)))


def attack_by_no_readers(broker, seconds):
    """40 clients ask for all that there is, then for whatever comes, and take nothing."""
    topic = target(broker, mib=30)
    fetchers = [small_window(broker) for _ in range(40)]
    for fetcher in fetchers:
        for turn in range(30):
            ask(fetcher, topic, (29 - turn) * 1000)
    with leader_connection(broker, topic) as producer:
        begin = time.monotonic()
        for turn in range(60):
            assert produce(producer, topic, LARGE_BATCH) == (0, (30 + turn) * 1000)
            ask(fetchers[turn % 40], topic, (30 + turn) * 1000)
        took = time.monotonic() - begin
    print(f"60 MiB written in {took:.1f} s meanwhile")
    for _ in hold(seconds):
        pass
    close_all(fetchers)


def attack_behind_a_long_poll(broker, seconds):
    """Ten clients wait for a topic where nothing comes, and ask for all of another one behind that:
    those answers are ready, hold the memory of disk reads, and may not leave yet. Somebody who
    reads that topic from its beginning gets it all the same."""
    quiet, topic = target(broker), target(broker, mib=60)
    fetchers = connections(broker, 10)
    for fetcher in fetchers:
        ask(fetcher, quiet, 0, wait_ms=600_000, min_bytes=1)
        for turn in range(20):
            ask(fetcher, topic, turn * 1000)
    with leader_connection(broker, topic) as reader:
        begin, offset = time.monotonic(), 0
        while offset < 20_000:
            error, _, data = fetch(reader, topic, offset)
            offset += 1000 * (len(data) // len(LARGE_BATCH))
            assert error == 0
            assert time.monotonic() - begin < 60, f"nothing behind offset {offset} for a minute"
    print(f"20 MiB read from disk in {time.monotonic() - begin:.1f} s meanwhile")
    for _ in hold(seconds):
        pass
    close_all(fetchers)


# -- writers

def attack_by_slow_writers(broker, seconds):
    """100 small and 50 large requests, a byte a second."""
    writers = connections(broker, 150)
    for number, writer in enumerate(writers):
        writer.send(i32(MIB) + header(PRODUCE, 7) if number % 3 == 0 else
                    i32(500) + header(METADATA, 1))
    for turn in hold(seconds):
        if turn % 20 == 19:
            for writer in writers:
                send_some(writer, b"\0")
    close_all(writers)


def largest_request(broker):
    """As the log says that memory limits it."""
    return int(broker.log().partition("memory limits a request to ")[2].split()[0])


def attack_by_half_frames(broker, seconds):
    """40 requests of the largest size, of which a half, or the beginning, comes."""
    size = largest_request(broker)
    senders = connections(broker, 40)
    start = i32(size) + header(PRODUCE, 7)
    rest = b"\0" * (size // 2)
    sent = [0] * len(senders)
    for number, sender in enumerate(senders):
        sender.send(start)
    for _ in hold(seconds):
        for number, sender in enumerate(senders):
            if number % 2 == 0 and sent[number] < len(rest):
                sent[number] += send_some(sender, rest[sent[number]:])
    print(f"40 requests of {size} bytes begun, {sum(sent)} bytes of them sent")
    close_all(senders)


# -- many

def attack_by_pipelining(broker, seconds):
    """Eight clients send requests as fast as the broker takes them; four of them read nothing."""
    clients = connections(broker, 8)
    data, sent, received = VERSIONS * 500, [0] * 8, 0
    for _ in hold(seconds, step_s=0.001):
        for number, client in enumerate(clients):
            sent[number] += send_some(client, data[sent[number] % len(VERSIONS):])
            if number < 4:
                received += receive_some(client, MIB)
    print(f"requests taken: {sum(sent[:4]) // len(VERSIONS)} of those who read, "
          f"{sum(sent[4:]) // len(VERSIONS)} of those who do not; {received} bytes answered")
    assert received > 0 and sum(sent[4:]) < 4 * 16 * MIB, "the broker reads on for ever"
    close_all(clients)


def drop_hard(connection):
    """By a reset, which leaves no port of ours in TIME_WAIT."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def attack_by_churn(broker, seconds):
    """Connections opened and dropped as fast as one process can, some with a request, half or
    whole, under way."""
    opened = 0
    for turn in hold(seconds, step_s=0, turns_min=200):
        connection = Connection(broker, broker.pulse.port)
        if turn % 3 > 0:
            connection.send(VERSIONS if turn % 3 == 1 else VERSIONS[:7])
        drop_hard(connection)
        opened += 1
    print(f"{opened} connections in {seconds} s")
    assert opened > 100


def attack_by_half_closed(broker, seconds):
    """Clients, 100 at a time, shut down their sending half: after a request, inside one, or before
    any. What was asked is answered, then the broker closes too."""
    for _ in hold(seconds):
        clients = connections(broker, 100)
        for number, client in enumerate(clients):
            client.send((VERSIONS, VERSIONS + VERSIONS[:9], VERSIONS[:9], b"")[number % 4])
            client.end_of_requests()
        for number, client in enumerate(clients):
            if number % 4 < 2:
                assert client.response()[:4] == i32(CORRELATION_ID), number
            assert client.is_closed(10), f"client {number} is not closed"
        close_all(clients)


ATTACKS = {
    "slow readers": attack_by_slow_readers,
    "no readers": attack_by_no_readers,
    "long poll": attack_behind_a_long_poll,
    "slow writers": attack_by_slow_writers,
    "half frames": attack_by_half_frames,
    "pipelining": attack_by_pipelining,
    "churn": attack_by_churn,
    "half closed": attack_by_half_closed,
}


@alone
@timeout(240)
def test_one_attack_after_the_other():
    with beside_a_pulse() as broker:
        for name, attack in ATTACKS.items():
            print(f"-- {name}")
            withstand(broker, attack, HOLD_S)


@slow
@sanitized
@alone
@timeout(240)
@params(*ATTACKS)
def test_attack_that_outlives_the_timeouts(name):
    with beside_a_pulse() as broker:
        withstand(broker, ATTACKS[name], 35)


# -- descriptors

def raise_file_limit(wanted):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, PermissionError):  # as root
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        return
    if hard < wanted:
        raise Skip(f"the limit of open files is {hard}, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def attack_by_idling(broker):
    """10,000 connections that send nothing."""
    before, rss = open_files(broker), broker.rss()
    idle = connections(broker, 10_000, spread=True)
    end = time.monotonic() + 20
    while open_files(broker) < before + 10_000 - FILES_SPARE:
        assert time.monotonic() < end, f"{open_files(broker)} open files\n{broker.log_tail()}"
        time.sleep(0.05)
    print(f"{(broker.rss() - rss) / 10_000:.0f} bytes resident a connection")
    for connection in idle[::1000]:
        assert connection.request(API_VERSIONS, 0, b"") is not None
    for _ in hold(1):
        pass
    close_all(idle)


@alone
def test_10000_idle_connections():
    raise_file_limit(FILES_OF_TEST)
    with beside_a_pulse() as broker:
        withstand(broker, attack_by_idling)


def attack_beyond_the_maximum(broker):
    clients = connections(broker, 300)
    states = [client.request(API_VERSIONS, 0, b"") is not None for client in clients]
    assert 80 < sum(states) <= 100, f"{sum(states)} of a shard's 100 were let in"
    close_all(clients)


def test_max_connections():
    """What is more is closed at once; those that are there go on."""
    with beside_a_pulse(**{"max.connections": 200}) as broker:
        withstand(broker, attack_beyond_the_maximum)


def is_served(broker):
    with Connection(broker) as connection:
        return connection.request(API_VERSIONS, 0, b"") is not None


def test_more_connections_than_descriptors():
    """With 300 descriptors in all, some are left for the log, and it goes on afterwards."""
    with Broker(shards=1, memory="64m", options={"journal.bytes": "32m"},
                wrapper=["prlimit", "--nofile=300:300"]) as broker:
        with Connection(broker) as producer:
            create_topics(producer, ["written"], 1, [("segment.bytes", str(2 << 20))])
            clients = [Connection(broker) for _ in range(600)]
            for turn in range(24):  # takes new segment files
                answer = produce(producer, "written", LARGE_BATCH)
                assert answer == (0, turn * 1000), (turn, answer)
            end = time.monotonic() + 20
            while len(broker.segments("written", 0)) < 10:
                assert time.monotonic() < end, f"no files for segments\n{broker.log_tail()}"
                time.sleep(0.05)
            close_all(clients)
            wait_for_files(broker, 100)
        # Clients that were still queued when all descriptors were in use are accepted now, and count
        # until the broker sees that they have gone: meanwhile others may be refused.
        end = time.monotonic() + 20
        while not is_served(broker):
            assert time.monotonic() < end, f"no new connection is served\n{broker.log_tail()}"
            time.sleep(0.05)


