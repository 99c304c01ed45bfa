"""Members of consumer groups as child processes, and what all they said taken together.

    seats = Members(name, broker, topic, group, start)      start(log_path) makes a Child
    seats.add(), seats.kill(0) ...
    seats.wait_all_read({partition: end})
    seats.check()                     after a commit nothing is seen twice

Each line of a member is "MICROS got PARTITION OFFSET", and then "MICROS committed PARTITION NEXT", or "MICROS
refused PARTITION NEXT" when its commit was refused as that of one who is no member any more. What two members said
is put in order by MICROS, of the machine's one clock: they must be exact, and never go back within a member.
"""
import os
import signal
import time

from lib.kafka_wire import Connection, array, i32, metadata, string

OFFSET_FETCH, FIND_COORDINATOR, HEARTBEAT, DESCRIBE_GROUPS, LIST_GROUPS = 9, 10, 12, 15, 16
ILLEGAL_GENERATION = 22
SAID = ("got", "committed", "refused")


def coordinator(broker, group):
    """A connection to the node that coordinates it."""
    with Connection(broker) as any_node:
        answer = any_node.request(FIND_COORDINATOR, 0, string(group))
    assert answer is not None, "the connection was closed"
    error, _, _, port = answer.i16(), answer.i32(), answer.string(), answer.i32()
    assert error == 0, f"FindCoordinator {group}: {error}"
    return Connection(broker, port)


def committed(broker, group, topic, partitions):
    """{partition: offset}; -1: none. None: the coordinator is not there or is loading."""
    body = string(group) + array([string(topic) + array([i32(p) for p in partitions])])
    try:
        with coordinator(broker, group) as connection:
            answer = connection.request(OFFSET_FETCH, 1, body)
    except (OSError, AssertionError):
        return None
    if answer is None:
        return None
    found = {}
    for _ in range(answer.i32()):
        answer.string()
        for _ in range(answer.i32()):
            partition, offset, _, error = (answer.i32(), answer.i64(), answer.string(),
                                           answer.i16())
            if error != 0:
                return None
            found[partition] = offset
    return found


def members_described(broker, group):
    """DescribeGroups v0: (state, [(member id, assignment)])."""
    with coordinator(broker, group) as connection:
        answer = connection.request(DESCRIBE_GROUPS, 0, array([string(group)]))
    assert answer.i32() == 1 and answer.i16() == 0 and answer.string() == group
    state, _, _ = answer.string(), answer.string(), answer.string()
    members = []
    for _ in range(answer.i32()):
        member, _, _ = answer.string(), answer.string(), answer.string()
        answer.bytes(answer.i32())
        members.append((member, answer.bytes(answer.i32())))
    answer.end()
    return state, members


def listed(broker):
    """The names that ListGroups v0 of all nodes gives."""
    with Connection(broker) as any_node:
        nodes, _ = metadata(any_node)
    names = set()
    for _, port in nodes.values():
        with Connection(broker, port) as connection:
            answer = connection.request(LIST_GROUPS, 0, b"")
        assert answer.i16() == 0
        for _ in range(answer.i32()):
            names.add(answer.string())
            answer.string()
    return names


def generation(broker, group):
    """The one whose heartbeat is not refused as another one's."""
    member = members_described(broker, group)[1][0][0]
    with coordinator(broker, group) as connection:
        for number in range(1, 100):
            body = string(group) + i32(number) + string(member)
            if connection.request(HEARTBEAT, 0, body).i16() != ILLEGAL_GENERATION:
                return number
    raise AssertionError(f"{group} has no generation below 100")


def wait_for(is_so, timeout_s=40):
    give_up = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up, f"still not so after {timeout_s} s"
        time.sleep(0.1)


class Members:
    def __init__(self, name, broker, topic, group, start):
        self.name, self.broker, self.topic, self.group = name, broker, topic, group
        self.start = start
        self.children = []

    def add(self):
        path = os.path.join(self.broker.dir, f"{self.name}-{len(self.children)}.out")
        self.children.append(self.start(path))
        return self.children[-1]

    def kill(self, index):
        self.children[index].process.kill()
        self.children[index].process.wait()

    def lines_of(self, index):
        """(micros, what, partition, offset), as one member said it."""
        found = []
        for line in self.children[index].output().splitlines():
            words = line.split()
            if len(words) == 4 and words[0].isdigit() and words[1] in SAID:
                found.append((int(words[0]), words[1], int(words[2]), int(words[3])))
        for before, after in zip(found, found[1:]):
            if after[0] < before[0]:
                self.fail(f"the clock of member {index} goes back: {before}, {after}")
        return found

    def lines(self, index=None):
        """Those of one member or of all, by time; what one said stays in its order."""
        chosen = range(len(self.children)) if index is None else [index]
        return sorted(sum(map(self.lines_of, chosen), []), key=lambda line: line[0])

    def got(self, index=None):
        return {(p, o) for _, what, p, o in self.lines(index) if what == "got"}

    def fail(self, why):
        tails = "\n".join(f"-- {i}: {c.output()[-600:]}" for i, c in enumerate(self.children))
        raise AssertionError(f"{self.name}: {why}\n{tails}")

    def wait_all_read(self, ends, timeout_s=40):
        """Until each record is read, and each partition committed to its end. (A member that was
        killed may have committed what it could not say any more: the broker knows.)"""
        give_up = time.monotonic() + timeout_s
        wanted = {(p, o) for p, end in ends.items() for o in range(end)}
        while True:
            missing = wanted - self.got()
            there = None if missing else committed(self.broker, self.group, self.topic, ends)
            if not missing and there == ends:
                return
            if time.monotonic() > give_up:
                self.fail(f"{len(missing)} records are not read, e.g. {sorted(missing)[:5]}; "
                          f"committed: {there} of {ends}")
            time.sleep(0.1)

    def read_in_vain(self):
        """What members read and could not commit, being none any more: a member that was away for longer
        than its session still hands out what it had fetched, until it knows."""
        found = set()
        for index in range(len(self.children)):
            refused = {}  # by partition: up to where, by what is said next of it
            for line in reversed(self.lines_of(index)):
                _, what, partition, offset = line
                if what != "got":
                    refused[partition] = offset if what == "refused" else 0
                elif offset < refused.get(partition, 0):
                    found.add(line)
        return found

    def check(self):
        """Nobody sees what somebody has committed before, and commits it again."""
        in_vain = self.read_in_vain()
        ends = {}
        for line in self.lines():
            micros, what, partition, offset = line
            if what == "committed":
                ends[partition] = max(offset, ends.get(partition, 0))
            elif what == "got" and offset < ends.get(partition, 0) and line not in in_vain:
                self.fail(f"partition {partition} offset {offset} at {micros}, committed up to "
                          f"{ends[partition]} before; {self.around(line)}")

    def around(self, line, seconds=2):
        """What each member said of the partition at about that time; of what it got only the first and last in a
        row."""
        said = []
        for index in range(len(self.children)):
            near = [x for x in self.lines_of(index) if x[2] == line[2] and abs(x[0] - line[0]) < seconds * 1e6]
            said += [f"{index}: {x}" for i, x in enumerate(near)
                     if x[1] != "got" or {y[1] for y in near[max(i - 1, 0):i + 2]} != {"got"}
                     or i in (0, len(near) - 1)]
        return "; ".join(said)

    def stop(self):
        running = [c for c in self.children if c.process.poll() is None]
        for child in running:
            child.process.send_signal(signal.SIGTERM)
        for child in running:
            child.wait(20)

    def close(self):
        for child in self.children:
            child.close()
