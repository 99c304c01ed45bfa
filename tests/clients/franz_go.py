"""franz-go produces (idempotent, its default) and consumes by direct partitions."""
import os

from lib.broker import Broker
from lib.clients import CLIENTS, SOURCES, need, run
from lib.testcase import params, sanitized, slow, timeout

PARTITIONS = 6


def build():
    """Bring the program up to date with its source; Go's own cache makes that quick."""
    note = os.path.join(CLIENTS, "go.path")
    need("go", os.path.exists(note))
    with open(note) as line:
        go = line.read().strip()
    program = os.path.join(CLIENTS, "franz", "franz")
    need("franz", os.path.exists(program))
    run([go, "-C", os.path.join(SOURCES, "franz"), "build", "-o", program, "."])
    return program


def roundtrip(codec, records):
    program = build()
    with Broker() as broker:
        out, _ = run([program, broker.bootstrap, "franz", str(PARTITIONS), str(records), codec])
        assert out.decode().split("\n")[:2] == [f"produced {records}", f"consumed {records}"], out


@sanitized
def test_produce_and_consume():
    roundtrip("snappy", 60_000)


def test_large_requests():
    """Uncompressed and many: requests near 1 MiB, also as the first of a connection."""
    roundtrip("none", 300_000)


@slow
@timeout(240)
@params("none", "gzip", "snappy", "lz4", "zstd")
def test_each_codec(codec):
    roundtrip(codec, 600_000)
