"""KafkaJS produces, kcat reads back."""
import os

from lib.broker import Broker
from lib.clients import CLIENTS, SOURCES, kcat_consume, need, need_command, run
from lib.testcase import params, sanitized

RECORDS, BATCH, PARTITION = 20_000, 500, 0


def expected_lines():
    for i in range(RECORDS):
        filling = "f" * (i * 31 % 100)
        yield f"{i} key-{i} n={i} kafkajs record {i} {filling}".encode()


def check_produce(*arguments):
    need_command("node")
    modules = os.path.join(CLIENTS, "node", "node_modules")
    need("kafkajs", os.path.isdir(os.path.join(modules, "kafkajs")))
    with Broker() as broker:
        out, _ = run(["node", os.path.join(SOURCES, "kafkajs", "produce.js"), broker.bootstrap,
                      "js", str(PARTITION), str(RECORDS), str(BATCH), *arguments],
                     env=dict(os.environ, NODE_PATH=modules, KAFKAJS_NO_PARTITIONER_WARNING="1"))
        assert out.decode().splitlines()[-1] == f"produced {RECORDS}", out
        path = os.path.join(broker.dir, "back")
        kcat_consume(broker, "js", path, PARTITION, form="%o %k %h %s\n")
        with open(path, "rb") as back:
            for want, line in zip(expected_lines(), back, strict=True):
                assert line.rstrip(b"\n") == want, (line, want)


@sanitized
@params("none", "gzip")
def test_produce(codec):
    check_produce(codec)


def test_idempotent():
    check_produce("gzip", "idempotent")
