"""A produce request every 5 ms on a connection of its own, timed; in a process of its own, so that
what the test does costs it nothing.

    with Pulse(broker) as pulse:
        pulse.rest()                    the latencies of peace
        with pulse.war():
            ...                         an attack
    assert pulse.has_kept()             says both, and whether it went on as before

Times count from when a request should have been sent: one that has to wait for the answer to the
one before it counts that, too. The request is 8 KiB long, so it needs request memory; it
asks for acks=1, so that what the device is doing for others is not measured.
"""
import contextlib
import os
import subprocess
import sys
import threading
import time

INTERVAL_S = 0.005
RECORD_BYTES = 8192
TOPIC = "pulse"
REST_S = 1
WORSE_FACTOR, WORSE_S = 10, 1  # what the p99 may grow to: noise of a shared machine is in it


def percentile(values, share):
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


class Pulse:
    def __init__(self, broker):
        self.broker, self.samples, self.problem = broker, [], None

    def __enter__(self):
        from lib.kafka_wire import Connection, create_topics, leader_connection
        with Connection(self.broker) as connection:
            create_topics(connection, [TOPIC])
        leader = leader_connection(self.broker, TOPIC)
        self.port = leader.socket.getpeername()[1]
        leader.close()
        self.process = subprocess.Popen([sys.executable, __file__, self.broker.host,
                                         str(self.port)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        return self

    def _read(self):
        for line in self.process.stdout:
            words = line.decode().split()
            if words[0] == "!":
                self.problem = line.decode()
            if words[0] == "!" or len(words) < 2:  # it has been killed
                return
            self.samples.append((float(words[0]), float(words[1])))

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def _wait_for(self, moment):
        """Until it has sent a request due after this moment, and has the answer."""
        end = time.monotonic() + 45
        while not self.samples or self.samples[-1][0] < moment:
            assert self.problem is None, self.problem
            assert time.monotonic() < end, "no answer to a small produce request in 45 s"
            time.sleep(0.01)

    def _between(self, begin, end):
        self._wait_for(end)
        return [seconds for at, seconds in self.samples if begin <= at < end]

    def rest(self):
        self._wait_for(0)
        begin = time.monotonic()
        time.sleep(REST_S)
        self.peace = self._between(begin, time.monotonic())

    @contextlib.contextmanager
    def war(self):
        begin = time.monotonic()
        yield
        self.attacked = self._between(begin, time.monotonic())

    def has_kept(self):
        before, during = (percentile(times, 0.99) for times in (self.peace, self.attacked))
        print(f"p99 of a produce request: {before * 1e3:.1f} ms before, {during * 1e3:.1f} ms under "
              f"attack (longest {max(self.attacked) * 1e3:.0f} ms of {len(self.attacked)})")
        return during <= WORSE_FACTOR * before + WORSE_S


def main(host, port):
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from types import SimpleNamespace

    from lib.kafka_wire import PRODUCE, Connection, batch, produce_body
    body = produce_body(TOPIC, batch([b"p" * RECORD_BYTES]), acks=1)
    with Connection(SimpleNamespace(host=host, port=int(port)), timeout_s=60) as connection:
        due = time.monotonic()
        while True:
            time.sleep(max(due - time.monotonic(), 0))
            answer = connection.request(PRODUCE, 7, body)
            error = answer and (answer.i32(), answer.string(), answer.i32(), answer.i32(),
                                answer.i16())[-1]
            if error != 0:
                print(f"! error {error}" if answer else "! the broker closed the connection",
                      flush=True)
                return
            print(due, time.monotonic() - due, flush=True)
            due += INTERVAL_S


if __name__ == "__main__":
    main(*sys.argv[1:])
