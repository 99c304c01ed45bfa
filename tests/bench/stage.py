"""The runs behind the table and the curve of penstock beside Apache Kafka: bench/table_stage.py, _rows, _measures, curve.py.

A rehearsal goes through every row without a broker: what it would run, and what it takes of the results. A
real broker is killed in the middle of a row. No figure is measured here.
"""
import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree

from lib.broker import BINARY, temp_dir
from lib.timing import best_of, in_time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "bench"))

import curve # noqa: E402
import table_brokers # noqa: E402
import table_figures # noqa: E402
import table_measures # noqa: E402
import table_rows # noqa: E402
import table_stage # noqa: E402

table_stage.BINARY = table_brokers.BINARY = BINARY
PERCENTILES = {"50": 1e6, "99": 2e6, "99.9": 3e6, "99.99": 4e6}


def options(**changes):
    return argparse.Namespace(**{"pairs": 1, "seconds": 1, "settle": 1, "warm": 0.3, **changes})


@contextlib.contextmanager
def replaced(module, **names):
    were = {name: getattr(module, name) for name in names}
    for name, value in names.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in were.items():
            setattr(module, name, value)


# -- what a run's result file has, as far as rows look at it

def run_result(invalid=()):
    window = {"acked": 2000, "acked_bytes": 2 << 30, "consumed_bytes": 4 << 30, "ack_rate": 2000.0,
              "ack_mib_s": 400.0, "consume_mib_s": 500.0, "late_consume_mib_s": 300.0, "histograms": {
                  kind: {"percentiles": PERCENTILES} for kind in ("ack", "e2e")}}
    limits = {"device": {"write": [
        {"block_bytes": 4096, "depth": 1, "flush": "each", "mib_s": 40, "p50_us": 100.0},
        {"block_bytes": 4096, "depth": 4, "flush": "16MiB", "mib_s": 100},
        {"block_bytes": 1 << 20, "depth": 4, "flush": "16MiB", "mib_s": 1600}]},
        "tcp": [{"message_bytes": 1024, "mib_s": 900}, {"message_bytes": 1 << 20, "mib_s": 2000}],
        "shares": [{"name": "acknowledged bytes against synced device writes", "share": 0.8}]}
    return {"windows": {"measure": window}, "limits": limits, "invalid": list(invalid), "bill": {
        "cpu_s": 1.0, "rss_bytes_max": 3 << 20, "device_read_bytes": 5 << 20}}


def document_of(run):
    return {"machine": None, "penstock": {"commit": "abc"}, "runs": [run], "limits": run["limits"], "search": {
        "estimate": 10_000.0, "low": 9000.0, "high": 11_000.0, "limited_by": "broker"}}


class Absent(table_brokers.Broker):
    """Stands where no broker is asked."""
    name = "kafka"
    durable_topic = {"flush.messages": "1"}

    def __init__(self, *_):
        self.address, self.pid, self.topics = "127.0.0.1:1", os.getpid(), []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def create_topic(self, name, settings, partitions):
        self.topics.append((name, settings, partitions))

    def delete_topic(self, name):
        pass


class Rehearsal(table_stage.Stage):
    """Notes each command of a row instead of running it."""

    def __init__(self):
        super().__init__(options(), "table-rehearsal", {"kafka": Absent})
        self.folder, self.commands = temp_dir("rehearsal"), []

    def command(self, kind, broker, settings):
        command, path = super().command(kind, broker, settings)
        self.commands.append(command)
        if kind == "mixed": # started by the row itself; it is there as long as the run beside it
            with open(path, "w") as file:
                json.dump(document_of(run_result()), file)
            return ["sleep", "1"], path
        return command, path


def rehearse(row):
    stage = Rehearsal()
    def answer(command, *_):
        if command not in stage.commands:
            stage.commands.append(command)
        return document_of(run_result())
    nothing = {"settle": lambda: None}
    with replaced(table_stage, run_to_result=answer, **nothing), replaced(table_measures, **nothing):
        return stage.measure(row), stage


def settings_of(command):
    words = [word for word in command[3:] if word != "--quiet"]
    return dict(zip((word[2:] for word in words[::2]), words[1::2], strict=True))


def row_named(name):
    return next(row for row in table_rows.ROWS if row.name == name)


# -- rows

def test_rows_have_names_of_their_own_and_cover_what_is_compared():
    names = [row.name for row in table_rows.ROWS]
    assert len(set(names)) == len(names), names
    for row in table_rows.ROWS:
        titles = [figure.title for figure in row.figures]
        assert len(set(titles)) == len(titles), (row.name, titles)
    for name in ("produce-1k", "hot-1k", "cold-1k", "fan-3", "fan-10", "one", "durable", "open-20k-durable"):
        assert name in names and name + "-6p" in names, name
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        assert {f"produce-{codec}", f"hot-{codec}"} <= set(names)


def test_every_row_asks_for_what_bench_knows_and_finds_its_figures():
    usage = subprocess.run([BINARY, "bench", "--help"], capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^  (?:--)?([a-z][a-z.-]+)", usage, re.MULTILINE))
    for row in table_rows.ROWS:
        if row.name == "start": # starts brokers
            continue
        said, stage = rehearse(row)
        # Whether the host has taken CPUs away meanwhile says nothing of the row.
        invalid = [one for one in said["invalid"] if one["code"] != "stolen"]
        assert not invalid, (row.name, invalid)
        for figure in said["figures"]:
            # Memory is that of runs before, and here there were none.
            assert (figure["kafka"][0] is None) == (row.name == "memory"), (row.name, figure)
        for command in stage.commands:
            for key, value in settings_of(command).items():
                assert key in known or key.replace("-", ".") in known, (row.name, key)
                assert value, (row.name, key)


def test_durable_rows_make_their_topic_so_that_each_append_is_flushed():
    for name, partitions in (("durable", 1), ("durable-6p", 6), ("at-50-durable", 6)):
        _, stage = rehearse(row_named(name))
        topic, settings, count = stage.brokers["kafka"].topics[-1]
        assert settings == {"flush.messages": "1"} and count == partitions, (name, count)
        asked = settings_of(stage.commands[-1])
        assert (asked["topic"], asked["topic-reuse"], asked["acks"]) == (topic, "true", "all"), asked
    _, stage = rehearse(row_named("open-20k"))
    assert stage.brokers["kafka"].topics == [] and settings_of(stage.commands[-1])["acks"] == "1"


def test_parts_of_the_saturation_are_of_its_estimate_and_the_search_is_made_once():
    _, stage = rehearse(row_named("at-80"))
    kinds = [command[2] for command in stage.commands]
    assert kinds[-2:] == ["saturate", "e2e"], kinds
    assert settings_of(stage.commands[-1])["rate"] == "8000"
    with replaced(table_stage, run_to_result=lambda *_: document_of(run_result()), settle=lambda: None):
        stage.measure(row_named("at-50"))
    assert settings_of(stage.commands[-1])["rate"] == "5000"
    assert sum(command[2] == "saturate" for command in stage.commands) == 1


def test_figures_are_those_of_the_run():
    run = run_result()
    assert table_figures.PRODUCE_CPU.of(run) == 0.5 and table_figures.CONSUME_CPU.of(run) == 0.25
    assert table_figures.REQUEST_CPU.of(run) == 500
    assert [figure.of(run) for figure in table_figures.LATENCIES] == [1, 2, 3, 4]
    values = {figure["title"]: figure["kafka"][0] for figure in rehearse(row_named("share-write"))[0]["figures"]}
    assert values == {"rate": 400, "direct writes of 1 MiB, alone": 1600, "of that": 25}, values
    values = {figure["title"]: figure["kafka"][0] for figure in rehearse(row_named("share-egress"))[0]["figures"]}
    assert values == {"rate": 500, "one loopback connection, alone": 2000, "of that": 25}, values
    values = {figure["title"]: figure["kafka"][0] for figure in rehearse(row_named("replay"))[0]["figures"]}
    assert values["tail p99, with by without"] == 1 and values["replayed"] == 300, values
    idle = {**run, "windows": {"measure": {"histograms": {}}}}
    for figure in (table_figures.PRODUCE_CPU, table_figures.PRODUCE_RATE, table_figures.REQUEST_CPU,
                   *table_figures.LATENCIES):
        assert figure.of(idle) is None, figure.title


# -- a broker that goes away

class Short(table_brokers.Penstock):
    def __init__(self):
        super().__init__("stage-test-penstock")


def a_row_dies():
    """What is said of a row whose broker is killed and of the one after it; the pids of their brokers."""
    figures, produce = table_measures.load(
        "produce", {"rate": "1000", "record-size": "100"}, [table_figures.RECORD_RATE])
    pids = []

    def killed(stage, name):
        broker = stage.broker(name)
        pids.append(broker.pid)
        os.kill(broker.pid, signal.SIGKILL)
        broker.process.wait()
        return produce(stage, name)

    def counted(stage, name):
        pids.append(stage.broker(name).pid)
        return produce(stage, name)

    dies = table_rows.Row("dies", "a row", figures, killed)
    lives = table_rows.Row("lives", "another", figures, counted)
    with replaced(table_stage, settle=lambda: None), \
            table_stage.Stage(options(pairs=2), "stage-test", {"penstock": Short}) as stage:
        return stage.measure(dies), stage.measure(lives), pids


def test_a_row_that_fails_says_why_and_the_rest_goes_on():
    def once():
        first, second, pids = a_row_dies()
        assert first["figures"][0]["penstock"] == [None, None]
        why, = first["invalid"] # it is not tried again
        assert why["code"] == "no-result" and why["broker"] == "penstock" and why["pair"] == 1, why
        assert "bench produce: exit 1" in why["text"], why
        assert "no-result" not in {doubt["code"] for doubt in second["invalid"]}, second
        assert len(pids) == 3 and pids[0] != pids[1] == pids[2], pids
        rates = second["figures"][0]["penstock"]
        in_time([abs(rate - 1000) < 100 for rate in rates] == [True, True], second)
    best_of(once)


# -- the curve

def test_a_curve_ends_where_two_rates_in_a_row_are_not_held():
    one = curve.Curve("kafka", False)
    overloaded = curve.point_of(run_result([{"code": "overload"}, {"code": "not-steady"}]), 2000)
    assert overloaded["invalid"] == ["overload", "not-steady"] and overloaded["p99_ms"] == 2
    late = curve.point_of(run_result([{"code": "generator-late"}]), 1000)
    for point, done in ((overloaded, False), (late, False), (overloaded, False), (overloaded, True)):
        one.add(point)
        assert one.done() == done, one.said()


def test_a_curve_that_fails_says_why():
    class Fails(table_stage.Stage):
        def broker(self, name):
            raise table_brokers.Failed("it does not start")
    one = curve.Curve("kafka", False)
    with replaced(curve, settle=lambda: None):
        curve.point_measure(Fails(options(), "curve-test"), one, 1000)
    assert one.done() and one.said()["why"] == "it does not start" and not one.points


def points(*reached, p99=2.0):
    return [{"asked": 1000 * (i + 1), "reached": rate, "p50_ms": 1.0, "p99_ms": p99, "invalid": []}
            for i, rate in enumerate(reached)]


def curves():
    return [{"broker": broker, "durable": durable, "points": points(1000, 1900, 2500), "why": None}
            for durable in (False, True) for broker in ("kafka", "penstock")]


def drawn(document):
    path = os.path.join(temp_dir("curve"), "curve.svg")
    curve.draw(document, path)
    return "".join(xml.etree.ElementTree.parse(path).getroot().itertext())


def test_both_brokers_are_in_one_plot():
    said = drawn({"about": "A machine's.", "curves": curves()})
    for name in ("Apache Kafka", "penstock"):
        for percentile in ("p50", "p99"):
            assert said.count(f"{name}, {percentile}") >= 2, said
    assert "acks=1" in said and "durable" in said
    said = drawn({"about": "", "curves": [one for one in curves() if not one["durable"]]})
    assert "acks=1" in said and "durable" not in said, said
    try:
        drawn({"about": "", "curves": [{**one, "points": []} for one in curves()]})
        raise AssertionError("a plot of nothing")
    except table_brokers.Failed as error:
        assert "not one point" in str(error)


def test_points_are_medians_of_the_pairs():
    pairs = [{"broker": "kafka", "durable": False, "points": points(1000, 1900, p99=p99), "why": None}
             for p99 in (2.0, 9.0, 3.0)]
    pairs[0]["points"][1]["p99_ms"] = None
    pairs[1]["points"].pop()
    assert curve.merged(pairs, "kafka", False, "p99_ms") == [(1000, 3.0), (1900, 3.0)]
    assert curve.merged(pairs, "penstock", False, "p99_ms") == []


# -- the command

def table(*arguments):
    return subprocess.run([sys.executable, os.path.join(ROOT, "bench", "table.py"), *arguments],
                          capture_output=True, text=True, check=False, timeout=30)


def test_rows_are_selected_by_a_regular_expression():
    def names(pattern):
        return [line.split()[0] for line in table("--list", "--rows", pattern).stdout.splitlines()]
    assert names("^fan-(3|10)$") == ["fan-3", "fan-10"]
    assert names("20k-durable") == ["open-20k-durable", "open-20k-durable-6p"]
    nothing = table("--list", "--rows", "nothing")
    assert nothing.returncode == 2 and "no row" in nothing.stderr
