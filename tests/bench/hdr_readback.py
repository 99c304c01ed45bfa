"""Histograms that we log, read back by the independent implementations of HdrHistogram.

build/tests/hist-write makes a log of tagged histograms of random data and says what it reads off
each of them. The Java HdrHistogram, by its HistogramLogReader, and hdrh, the Python one, must read
off the same: every percentile, count, least and greatest value as equal integers, and every value
recorded with its count (as a digest); mean and deviation within float rounding.
"""
import glob
import math
import os

from lib.broker import BUILD, temp_dir
from lib.clients import CLIENTS, need, need_command, need_module, run

WRITER = os.path.join(BUILD, "tests", "hist-write")
JAVA_READER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "HdrReadback.java")
# 16.1 and 64.9 of a thousand are a bit more than 161 and 649 in a double: not to be rounded up.
PERCENTILES = ["0", "0.001", "1", "5", "10", "16.1", "25", "33.3", "50", "64.9", "75", "90", "95",
               "99", "99.5", "99.9", "99.95", "99.99", "99.999", "99.9999", "100"]
TAGS = {"empty", "zeros", "edges", "thousand", "uniform", "exponential", "two-hills", "magnitudes",
        "big-counts", "too-big", "merged", "a-minute", "all-there-is"}
FIELDS = {"count", "min", "max", "mean", "stddev", "digest", "start_ms"}
ROUNDED = {"mean", "stddev"}
DIGEST_MASK = (1 << 64) - 1


def parse(output):
    """Lines of `TAG FIELD VALUE` as {tag: {field: number}}."""
    found = {}
    for line in output.decode().splitlines():
        tag, field, value = line.split()
        number = float(value) if field in ROUNDED else int(value)
        assert found.setdefault(tag, {}).setdefault(field, number) is number, f"twice: {line}"
    return found


def write():
    """The log's path, and what the writer says of it."""
    path = os.path.join(temp_dir("hdr"), "written.hlog")
    said, _ = run([WRITER, path, *PERCENTILES])
    written = parse(said)
    assert set(written) == TAGS
    for tag, fields in written.items():
        assert set(fields) == FIELDS | {"p" + p for p in PERCENTILES}, tag
    return path, written


def compare(written, read):
    assert set(read) == set(written), f"tags {sorted(read)}"
    for tag, fields in written.items():
        for field, number in fields.items():
            other = read[tag][field]
            same = (math.isclose(number, other, rel_tol=1e-12) if field in ROUNDED
                    else number == other)
            assert same, f"{tag} {field}: wrote {number}, read {other}"


def test_java():
    need_command("java")
    jars = glob.glob(os.path.join(CLIENTS, "java", "jars", "HdrHistogram-*.jar"))
    need("java", jars)
    path, written = write()
    said, _ = run(["java", "-XX:TieredStopAtLevel=1", "-cp", jars[0], JAVA_READER, path,
                   *PERCENTILES])
    compare(written, parse(said))


def value_at_java_rank(histogram, steps, percentile):
    """By the rule of the Java class: the last bit off, then rounded up. hdrh rounds half up."""
    held = min(max(math.nextafter(percentile, -math.inf), 0.0), 100.0)
    rank = max(math.ceil(held * histogram.get_total_count() / 100), 1)
    for value, _, to_here in steps:
        if to_here >= rank:
            return histogram.get_lowest_equivalent_value(value) if percentile == 0 else value
    return 0


def read_by_hdrh(histogram):
    steps = [(item.value_iterated_to, item.count_at_value_iterated_to,
              item.total_count_to_this_value) for item in histogram.get_recorded_iterator()]
    digest = 0
    for value, count, _ in steps:
        digest = ((digest * 31 + value) * 31 + count) & DIGEST_MASK
    fields = {"count": histogram.get_total_count(), "min": histogram.get_min_value(),
              "max": histogram.get_max_value(), "mean": histogram.get_mean_value(),
              "stddev": histogram.get_stddev(), "digest": digest,
              "start_ms": int(histogram.get_start_time_stamp())}
    for percentile in PERCENTILES:
        fields["p" + percentile] = value_at_java_rank(histogram, steps, float(percentile))
    return fields


def all_by_hdrh(path):
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader
    reader = HistogramLogReader(path, HdrHistogram(1, 3_600_000_000_000, 3))
    found = {}
    while histogram := reader.get_next_interval_histogram():
        assert histogram.get_tag() not in found
        found[histogram.get_tag()] = histogram
    reader.close()
    return found


def is_whole_rank(percentile, count):
    """Both rules for the rank are the same then."""
    decimals = len(percentile.partition(".")[2])
    return count * int(percentile.replace(".", "")) % (100 * 10 ** decimals) == 0


def test_python():
    need_module("hdrh")
    path, written = write()
    histograms = all_by_hdrh(path)
    compare(written, {tag: read_by_hdrh(h) for tag, h in histograms.items()})
    own_rule = 0
    for tag, histogram in histograms.items():
        for percentile in PERCENTILES:
            if is_whole_rank(percentile, histogram.get_total_count()):
                own_rule += 1
                value = histogram.get_value_at_percentile(float(percentile))
                assert value == written[tag]["p" + percentile], f"{tag} {percentile}: {value}"
    # All percentiles of the three with a million values are among them.
    assert own_rule > 3 * len(PERCENTILES), own_rule


def test_lines():
    """The text around the histograms: header, tags, times, and the greatest value in ms."""
    path, written = write()
    with open(path) as log:
        lines = log.read().splitlines()
    assert lines[:3] == [
        "#[Histogram log format version 1.3]",
        "#[StartTime: 1700000000.000 (seconds since epoch), Tue Nov 14 22:13:20 UTC 2023]",
        '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"']
    assert len(lines) == 3 + len(TAGS)
    for number, line in enumerate(lines[3:]):
        tag, start, length, most, text = line.split(",")
        fields = written[tag.removeprefix("Tag=")]
        assert (start, length) == (f"{number}.000", "1.000"), line[:80]
        assert most == f"{fields['max'] / 1e6:.3f}", line[:80]
        assert text.startswith("HISTFAAA"), line[:80]
