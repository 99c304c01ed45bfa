"""Kafka's tools that look at logs and cut them: kafka-delete-records.sh and kafka-log-dirs.sh, as they are."""
import json
import os

from lib import transcript
from lib.broker import Broker
from lib.kafka_wire import Connection, batch, create_topics, leader_connection, produce
from lib.testcase import timeout

TOPIC = "short"


def json_of(broker, name, content):
    path = os.path.join(broker.dir, name)
    with open(path, "w") as out:
        json.dump(content, out)
    return path


@timeout(200)
def test_kafkas_tools():
    with Broker(shards=2, data_dirs=2) as broker:
        with Connection(broker) as connection:
            create_topics(connection, [TOPIC], 4)
        for partition in range(4):
            with leader_connection(broker, TOPIC, partition) as connection:
                for _ in range(5):
                    assert produce(connection, TOPIC, batch([b"v" * 1000] * 10), partition)[0] == 0
        wanted = json_of(broker, "delete.json", {"version": 1, "partitions": [
            {"topic": TOPIC, "partition": partition, "offset": 10 * partition}
            for partition in range(4)]})
        said, lines = transcript.run(broker, [
            ["tool", "org.apache.kafka.tools.DeleteRecordsCommand", "--offset-json-file", wanted],
            ["tool", "org.apache.kafka.tools.LogDirsCommand", "--describe", "--topic-list", TOPIC]],
            mask=False)
        for partition in range(4):
            assert f"partition: {TOPIC}-{partition}\tlow_watermark: {10 * partition}" in "\n".join(said), said
        told = json.loads(lines[-1])
        sizes = {}
        for node in told["brokers"]:
            assert {place["logDir"] for place in node["logDirs"]} == \
                {os.path.realpath(path) for path in broker.data}
            for place in node["logDirs"]:
                assert place["error"] is None, place
                for part in place["partitions"]:
                    assert (part["offsetLag"], part["isFuture"]) == (0, False)
                    folder = os.path.join(place["logDir"], part["partition"])
                    sizes[part["partition"]] = part["size"]
                    assert os.path.dirname(folder) == place["logDir"]
        assert sorted(sizes) == [f"{TOPIC}-{partition}" for partition in range(4)], told
        assert all(5 * 10_000 < size < 60_000 for size in sizes.values()), sizes
