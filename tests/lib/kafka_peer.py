"""Apache Kafka of one node behind the interface of Broker, to prove tests against the original.

Its jars come from Maven through `tests/install.sh --peer`. Data directories, log and ports are
as for penstock; `advertise`, `shards` and `memory` have no meaning to it and are left out, and
options go into its server.properties as they are.
"""
import os
import re
import subprocess
import time

from lib.broker import BUILD, Broker, BrokerError
from lib.testcase import Skip

JARS = os.path.join(BUILD, "clients", "java", "peer")
STARTED = re.compile(r"Kafka Server started")
HEAP = ["-Xmx1G", "-Xms1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
        "-XX:InitiatingHeapOccupancyPercent=35"]
LOGGING = """status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""


class KafkaBroker(Broker):
    READY_TIMEOUT_S = 90

    def __init__(self, *args, **keywords):
        super().__init__(*args, **keywords)
        if not os.path.isdir(JARS):
            raise Skip("no Apache Kafka here: run tests/install.sh --peer")
        self.properties = os.path.join(self.dir, "server.properties")
        self._write_config()

    def _write_config(self):
        controller = self.port + 1
        settings = {
            "process.roles": "broker,controller", "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": ",".join(self.data), "num.partitions": 1,
            "offsets.topic.replication.factor": 1, "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1, "transaction.state.log.min.isr": 1,
        }
        settings.update(self.options)
        with open(self.properties, "w") as out:
            out.writelines(f"{key}={value}\n" for key, value in settings.items())
        with open(os.path.join(self.dir, "log4j2.properties"), "w") as out:
            out.write(LOGGING)

    def _java(self, *arguments):
        return ["java", *HEAP, f"-Dlog4j2.configurationFile={self.dir}/log4j2.properties",
                "-cp", os.path.join(JARS, "*"), *arguments]

    def command(self):
        return self.wrapper + ["/usr/bin/env"] + self._java("kafka.Kafka", self.properties)

    def start(self, timeout_s=None):
        if not os.path.exists(os.path.join(self.data[0], "meta.properties")):
            self._format()
        return super().start(timeout_s)

    def _format(self):
        tool = self._java("kafka.tools.StorageTool")
        uuid = subprocess.run(tool + ["random-uuid"], check=True, capture_output=True, text=True)
        subprocess.run(tool + ["format", "-t", uuid.stdout.split()[-1], "-c", self.properties],
                       check=True, capture_output=True)

    def _stdout(self, log):
        return log

    def _wait_ready(self, timeout_s):
        # The log goes on over restarts: look behind the last start only.
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if STARTED.search(self.log().rpartition("\n---- ")[2]):
                return
            if self.process.poll() is not None:
                self._fail_start("it ended before it was ready")
            time.sleep(0.1)
        self._fail_start(f"not ready within {timeout_s} s")

    @staticmethod
    def _is_clean_exit(code):
        return code in (0, 143)  # the JVM reports the signal


__all__ = ["KafkaBroker", "BrokerError"]
