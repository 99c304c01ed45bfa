"""Topics that are made and deleted without end, and what was answered about them.

    churn = TopicChurn(broker, rng)
    churn.start()        in a thread, until the broker is killed
    ...
    churn.join()
    churn.check()        with the broker started again: what was answered holds
"""
import itertools
import threading

from lib.kafka_wire import (Connection, batch, batch_values, create_topics, delete_topics, fetch,
                            leader_connection, metadata, produce)


class TopicChurn:
    NAMES = 40
    INTERNAL = {"__consumer_offsets"}  # made when the first consumer looks for its coordinator
    UNKNOWN = object()  # asked for something, and no answer came

    def __init__(self, broker, rng, others=()):
        """others: topics that are not the churn's."""
        self.broker, self.rng, self.others = broker, rng, set(others)
        self.topics = {}  # name: the record in it (None: not known), False: deleted, or UNKNOWN
        self.changes, self.problem, self.thread = 0, None, None

    def start(self):
        self.thread = threading.Thread(target=self._guard, daemon=True)
        self.thread.start()

    def join(self):
        self.thread.join(60)
        assert not self.thread.is_alive(), "no answer, though the broker is gone"
        if self.problem:
            raise self.problem

    def _guard(self):
        try:
            self._change_all()
        except (OSError, AttributeError, TypeError):  # no answer: the broker is gone
            pass
        except AssertionError as error:
            self.problem = error

    def _change_all(self):
        """A new topic gets one record, which is the first; what is there is deleted."""
        with Connection(self.broker) as connection:
            for number in itertools.count():
                name = f"topic-{self.rng.randrange(self.NAMES)}"
                there, self.topics[name] = self.topics.get(name, False), self.UNKNOWN
                if there is not False:
                    delete_topics(connection, [name])
                    self.topics[name] = False
                else:
                    create_topics(connection, [name])
                    value = b"%s %d" % (name.encode(), number)
                    with leader_connection(self.broker, name) as leader:
                        answer = produce(leader, name, batch([value]))
                    if answer is None:  # killed
                        return
                    assert answer == (0, 0), f"{name}: error and offset {answer} of its first record"
                    self.topics[name] = value
                self.changes += 1

    def check(self):
        with Connection(self.broker) as connection:
            found = set(metadata(connection)[1]) - self.others - self.INTERNAL
        assert found <= set(self.topics), found - set(self.topics)
        for name, there in self.topics.items():
            if there is self.UNKNOWN:  # either is right, but a later round has to know
                self.topics[name] = None if name in found else False
                continue
            assert (there is not False) == (name in found), \
                f"{name}: {there}, listed: {name in found}"
            if there:
                self._check_record(name, there)

    def _check_record(self, name, value):
        with leader_connection(self.broker, name) as connection:
            values = batch_values(fetch(connection, name, 0)[2])
        assert values == [(0, value)], f"{name}: {values}, not {value}"
