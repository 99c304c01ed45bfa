"""franz-go produces (idempotent, its default) and consumes by direct partitions."""
from lib.broker import Broker
from lib.clients import go_program, run
from lib.testcase import params, sanitized, slow, timeout

PARTITIONS = 6


def roundtrip(codec, records):
    program = go_program("franz")
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
