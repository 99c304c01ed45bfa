"""The scripted Kafka server (tests/bench/scripted_broker.c) as a process.

    with ScriptedBroker(service_us=500, lose_record=7) as server:
        kcat_produce(server, "topic", path)
        saw = server.stop()
        assert saw["records"] == 1000

Happy path: entering the `with` block waits for the ready line; stop() sends SIGTERM and returns what
the server saw, the counters of struct script_counters; leaving the block stops it too.
Failure: every error carries what the server said on stderr.
"""
import json
import os
import re
import signal
import subprocess
import tempfile

from lib.broker import BUILD

BINARY = os.path.join(BUILD, "tests", "scripted-broker")
READY_LINE = re.compile(rb"^scripted-broker ready (\S+):(\d+)$")
STOP_TIMEOUT_S = 20


class ScriptedBroker:
    """Keywords are the program's options, with _ for -."""

    def __init__(self, **options):
        self.command = [BINARY, "--listen", "127.0.0.1:0"]
        for name, value in options.items():
            self.command += ["--" + name.replace("_", "-"), str(value)]
        self.errors = tempfile.TemporaryFile()
        self.process = None

    def _said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=self.errors)
        line = self.process.stdout.readline().rstrip()
        ready = READY_LINE.match(line)
        if ready is None:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{' '.join(self.command)}: {line!r}\n{self._said()}")
        self.host, self.port = ready.group(1).decode(), int(ready.group(2))
        self.bootstrap = f"{self.host}:{self.port}"
        return self

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            out, _ = self.process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"scripted-broker does not stop\n{self._said()}") from None
        assert self.process.returncode == 0, f"exit {self.process.returncode}\n{self._said()}"
        return json.loads(out)

    def __exit__(self, kind, *_):
        if self.process.returncode is not None:
            return
        if kind is None:
            self.stop()
            return
        self.process.kill()
        self.process.wait()
