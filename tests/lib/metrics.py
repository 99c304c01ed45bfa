"""What a broker says at metrics.listen.

    with metrics_broker(shards=2) as broker:
        before = scrape(broker)
        ...
        assert scrape(broker).total("append_records_total") == before.total(...) + 100

The text form is read by Prometheus' own client library (Debian's, so in Debian's python3).
"""
import json
import os
import subprocess
import urllib.request

from lib.broker import Broker
from lib.clients import need

DEBIAN_PYTHON = "/usr/bin/python3"
PARSE = """
import json, sys
from prometheus_client.parser import text_string_to_metric_families
print(json.dumps([[s.name, s.labels, s.value, family.type, family.documentation]
      for family in text_string_to_metric_families(sys.stdin.read()) for s in family.samples]))
"""
PORT_OFFSET = 39  # behind those of the nodes, in the slot that the test holds


def metrics_broker(**keywords):
    broker = Broker(**keywords)
    broker.metrics_port = broker.port + PORT_OFFSET
    broker.options["metrics.listen"] = broker.metrics_port
    return broker


def get(broker, path):
    """(content type, body) of a page that is there."""
    with urllib.request.urlopen(f"http://127.0.0.1:{broker.metrics_port}{path}",
                                timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def parsed(text):
    """[name, labels, value, type, help] of each sample."""
    need("prometheus-client", os.path.exists(DEBIAN_PYTHON))
    done = subprocess.run([DEBIAN_PYTHON, "-c", PARSE], input=text, capture_output=True, text=True,
                          timeout=30, env={"PATH": os.environ["PATH"]})
    need("prometheus-client", "No module named 'prometheus_client'" not in done.stderr)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Figures:
    """Of one look: values of /metrics.json."""

    def __init__(self, document):
        self.document, self.shards = document, document["shards"]

    def total(self, name, label=None):
        """Of all shards; of a histogram how many values it has."""
        return sum(self._number(shard[name], label) for shard in self.shards)

    def sum(self, name):
        """The values of a histogram added up."""
        return sum(shard[name]["sum"] for shard in self.shards)

    @staticmethod
    def _number(value, label):
        if isinstance(value, dict) and "counts" in value:
            return sum(value["counts"])
        return value if label is None else value[label]


def scrape(broker):
    kind, body = get(broker, "/metrics.json")
    assert kind == "application/json", kind
    return Figures(json.loads(body))
