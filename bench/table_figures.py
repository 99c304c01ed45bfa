"""The figures of the table: what is taken of a run of `penstock bench`, by its result file.

A Figure's of(run) is None where the run has nothing to say: it was not measured.
"""
from collections import namedtuple

MIB, GIB = 1 << 20, 1 << 30

# better: "less" or "more"; None where the brokers are not compared by it.
Figure = namedtuple("Figure", "title unit better of", defaults=(None,))


def measured(run):
    return run["windows"]["measure"]


def cpu_by(count):
    """Broker's CPU by GiB of what is counted in bytes."""
    def figure(run):
        moved = measured(run).get(count, 0)
        return run["bill"]["cpu_s"] / (moved / GIB) if moved > 0 else None
    return figure


def latency(percentile, kind="e2e"):
    """In ms. None where nothing came through in the window: a broker that the load overran."""
    def figure(run):
        found = measured(run)["histograms"].get(kind)
        return found["percentiles"][percentile] / 1e6 if found else None
    return figure


def synced_share(run):
    for share in run["limits"]["shares"]:
        if share["name"] == "acknowledged bytes against synced device writes":
            return share["share"] * 100
    return None


def raw_write_mib_s(limits, block_bytes):
    """Sequential direct writes of this size: 4 in flight, a flush each 16 MiB."""
    return next((write["mib_s"] for write in limits["device"]["write"]
                 if write["block_bytes"] == block_bytes and write["flush"] == "16MiB"), None)


def raw_loopback_mib_s(limits):
    return max(tcp["mib_s"] for tcp in limits["tcp"])


def synced_write_us(run):
    """The quickest way to have one 4 KiB block on the device."""
    alone = [write["p50_us"] for write in run["limits"]["device"]["write"]
             if write["depth"] == 1 and "p50_us" in write]
    return min(alone, default=None)


def in_window(count):
    """Absent where there was none of it."""
    return lambda run: measured(run).get(count)


def cpu_us_by_request(run):
    acked = measured(run).get("acked", 0)
    return run["bill"]["cpu_s"] * 1e6 / acked if acked else None


def share(part, whole):
    """In %."""
    return part / whole * 100 if part is not None and whole else None


PRODUCE_CPU = Figure("broker CPU", "s/GiB", "less", cpu_by("acked_bytes"))
PRODUCE_RATE = Figure("rate", "MiB/s", "more", in_window("ack_mib_s"))
CONSUME_CPU = Figure("broker CPU", "s/GiB", "less", cpu_by("consumed_bytes"))
CONSUME_RATE = Figure("rate", "MiB/s", "more", in_window("consume_mib_s"))
FROM_DEVICE = Figure("read from the device", "MiB", None,
                     lambda run: run["bill"].get("device_read_bytes", 0) / MIB)
FAN_CPU = Figure("broker CPU", "s/GiB produced", "less", cpu_by("acked_bytes"))
FAN_RATE = Figure("consumed", "MiB/s", None, in_window("consume_mib_s"))
RECORD_RATE = Figure("rate", "records/s", "more", in_window("ack_rate"))
REQUEST_RATE = RECORD_RATE._replace(unit="requests/s")
REQUEST_CPU = Figure("broker CPU", "us/request", "less", cpu_us_by_request)
SYNCED_SHARE = Figure("of the device's synced write rate", "%", "more", synced_share)
LATENCIES = [Figure(f"end to end, p{percentile}", "ms", "less", latency(percentile))
             for percentile in ("50", "99", "99.9", "99.99")]
ACK_LATENCY = Figure("acknowledged after, p99", "ms", "less", latency("99", "ack"))
HELD_REQUESTS = Figure("acknowledged", "requests/s", None, in_window("ack_rate"))
HELD_RECORDS = HELD_REQUESTS._replace(unit="records/s")


def taken(figures, run):
    return {figure.title: figure.of(run) for figure in figures}
