"""penstock bench against the scripted server (tests/bench/scripted_broker.c), whose behaviour is
known: what the harness says has to be what arithmetic gives, and what was done to a record has to
be named. On virtual time the same is exact (tests/unit/bench/load); here the clock is real, so
latencies are never below what arithmetic gives, and above it by what this machine adds.

A machine that is busy makes a run invalid, as it should ("generator-late", "not-steady", in a window
of a second even "overload"), so tests that are not about time look at the other verdicts only, and
those that are measure again (lib/timing.py).
"""
import json
import math
import os
import re
import subprocess
import time

from lib.broker import BUILD, temp_dir
from lib.clients import need_module
from lib.scripted import ScriptedBroker
from lib.testcase import alone, params, sanitized, slow, timeout
from lib.timing import best_of, in_time

MOSTLY_WAITS = True
BINARY = os.environ.get("PENSTOCK_BINARY") or os.path.join(BUILD, "penstock")
TOPIC = "penstock-bench"
MS = 1_000_000
# The scripted server and the client are tens of microseconds late each on an idle machine.
LATE_NS = 5 * MS
ABOUT_TIME = {"generator-late", "not-steady", "client-cpu", "overload"}
# One second of warm-up, measured whether steady or not.
SHORT = {"warmup.min.s": 1, "warmup.max.s": 1, "duration.s": 1, "drain.max.s": 10}


class Ran:
    """A bench command that has ended: its exit code, what it printed, and its result."""

    def __init__(self, *arguments, bootstrap=None, settings=None, timeout_s=100):
        self.path = os.path.join(temp_dir("bench"), "result.json")
        command = [BINARY, "bench", "--json", self.path, "--quiet"]
        if bootstrap is not None:
            command += ["--bootstrap", bootstrap]
        for key, value in (settings or {}).items():
            command += ["-o", f"{key}={value}"]
        command += map(str, arguments)
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, text=True)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        self.run = None
        if os.path.exists(self.path):
            with open(self.path) as file:
                self.run = json.load(file)["runs"][0]

    def codes(self):
        return {verdict["code"] for verdict in self.run["invalid"]}

    def verdicts(self):
        """Codes, without those of a busy machine."""
        return self.codes() - ABOUT_TIME

    def histogram(self, name, window="measure"):
        return self.run["windows"][window]["histograms"][name]

    def __str__(self):
        return f"exit {self.code}\n{self.out}\n{self.err}"


def bench(server, kind, settings, **more):
    ran = Ran(kind, bootstrap=server.bootstrap, settings={**SHORT, **settings}, **more)
    assert ran.run is not None, str(ran)
    # The exit code is the verdict, and the terminal says what the result says.
    assert ran.code == (0 if ran.run["valid"] else 1), str(ran)
    assert ran.run["valid"] == (not ran.run["invalid"]), ran.run["invalid"]
    for verdict in ran.run["invalid"]:
        assert f"INVALID ({verdict['code']}): {verdict['text']}" in ran.out, str(ran)
    return ran


def percentile(values, percent):
    """Of sorted values, the one of that rank, as HdrHistogram defines it."""
    return values[max(math.ceil(percent * len(values) / 100), 1) - 1]


# -- latencies

@alone
@timeout(200)
def test_a_fixed_service_time():
    """200 records/s, 2 ms each, one at a time: every latency is 2 ms. Steady, so valid."""
    def once():
        with ScriptedBroker(service_us=2000) as server:
            ran = bench(server, "produce", {"rate": 200, "linger.ms": 0, "warmup.max.s": 10,
                                            "duration.s": 3})
            saw = server.stop()
        assert ran.verdicts() == set(), str(ran)
        assert saw["records"] == sum(w["intended"] for w in ran.run["windows"].values())
        for name in ("ack", "ack_send"):
            assert 2 * MS * 0.999 <= ran.histogram(name)["min"], ran.histogram(name)["min"]
        in_time(ran.run["valid"], sorted(ran.codes()))
        assert ran.code == 0
        window = ran.run["windows"]["measure"]
        for name in ("ack", "ack_send"):
            histogram = ran.histogram(name)
            in_time(abs(histogram["count"] - 600) <= 10, histogram["count"])
            in_time(histogram["min"] < 2 * MS + LATE_NS, histogram["min"])
            in_time(histogram["percentiles"]["50"] < 2 * MS + LATE_NS, histogram["percentiles"])
        in_time(abs(window["acked"] - window["intended"]) <= 3, window)
        in_time(abs(window["ack_rate"] - 200) < 4, window["ack_rate"])
        assert ran.run["generator"]["limit"] == "schedule", ran.run["generator"]
    best_of(once)


def queue_with_freezes(start_s, end_s, rate, service_s, first_s, every_s, freeze_s):
    """Latencies, sorted, of the records intended in [start, end) of an open loop's constant rate
    from 0 on, at a server that stands still in [first + k * every, ... + freeze)."""
    found, free = [], 0.0
    for number in range(int(end_s * rate)):
        intended = number / rate
        at, left = max(intended, free), service_s
        while True:
            into = (at - first_s) % every_s
            if at >= first_s and into < freeze_s:
                at += freeze_s - into
            until = first_s if at < first_s else at + every_s - (at - first_s) % every_s
            if at + left <= until:
                break
            left -= until - at
            at = until
        free = at + left
        if intended >= start_s:
            found.append(free - intended)
    return sorted(found)


@slow  # exact, on virtual time, in tests/unit/bench/load/test_truth.c
@alone
@timeout(200)
def test_a_freeze():
    """200 records/s, 1 ms each, frozen for 1 s in every 10 s. A freeze meets 200 records, and 50
    more come until it has caught up (1,000/s go while 200/s come): 250 of 2,000 wait, evenly up
    to 1 s, so that p90 is 0.2 s, p95 0.6 s and p99 0.92 s. A closed loop meets each freeze with
    one record of 9,000, so that its p99.9 is 1 ms. So it is with the time from the actual send,
    one request at a time, in the same run: one record of 2,000, a p99 of 1 ms."""
    def once():
        freeze = {"first_s": 5, "every_s": 10, "freeze_s": 1}
        with ScriptedBroker(service_us=1000, freeze_first_ms=5000, freeze_every_ms=10000,
                            freeze_ms=1000) as server:
            ran = bench(server, "produce", {
                "rate": 200, "linger.ms": 0, "duration.s": 20, "batch.size": 1,
                "max.in.flight.requests.per.connection": 1})
        phase = next(p for p in ran.run["phases"] if p["name"] == "measure")
        ack, send = ran.histogram("ack"), ran.histogram("ack_send")
        window = phase["start_s"], phase["start_s"] + phase["seconds"], 200
        exact = queue_with_freezes(*window, 0.001, **freeze)
        # One at a time, what a request needs beyond its 1 ms slows the catching up.
        slower = queue_with_freezes(*window, send["percentiles"]["90"] / 1e9, **freeze)
        in_time(abs(ack["count"] - len(exact)) <= 10, (ack["count"], len(exact)))
        for percent in ("90", "95", "99", "99.9"):
            least, most = (percentile(values, float(percent)) * 1e9 for values in (exact, slower))
            # The clock of the freezes starts when the first record arrives, a little later than ours.
            in_time(least - LATE_NS < ack["percentiles"][percent] < most + 6 * LATE_NS,
                    f"p{percent} {ack['percentiles'][percent] / MS}, not {least / MS} to {most / MS} ms")
        in_time(abs(ack["max"] - 1e9) < 10 * LATE_NS, ack["max"])
        # The closed loop's view of the same run, hundreds of times less.
        assert 1 * MS * 0.999 <= send["percentiles"]["99"], send["percentiles"]
        in_time(send["percentiles"]["99"] < 50 * MS, send["percentiles"])
        in_time(ack["percentiles"]["99"] > 18 * send["percentiles"]["99"], send["percentiles"])
        in_time(0.9e9 < send["max"] < 1.1e9, send["max"])
    best_of(once)


def test_an_overload():
    """2,000/s at a server that takes 1,000/s."""
    def once():
        with ScriptedBroker(rate=1000) as server:
            ran = bench(server, "produce", {"rate": 2000, "linger.ms": 0, "duration.s": 3})
            saw = server.stop()
        assert ran.code == 1
        in_time("unfinished" not in ran.codes(), str(ran))
        assert "overload" in ran.codes() and ran.verdicts() == set(), str(ran)
        assert saw["records"] == sum(w["intended"] for w in ran.run["windows"].values())
        in_time("generator-late" not in ran.codes(), str(ran))
        assert ran.run["generator"]["limit"] == "broker", ran.run["generator"]
        assert re.search(r"^  limit: broker ", ran.out, re.M), str(ran)
        window = ran.run["windows"]["measure"]
        in_time(900 < window["ack_rate"] < 1100, window["ack_rate"])
        in_time(abs(window["intended"] - 6000) < 200, window["intended"])
        # Record k is intended at k / 2 ms and done at k ms: those from 1 s to 4 s wait as long again.
        ack = ran.histogram("ack")
        in_time(abs(ack["percentiles"]["50"] - 2.5e9) < 0.25e9, ack["percentiles"])
        in_time(abs(ack["max"] - 4e9) < 0.3e9, ack["max"])
    best_of(once)


def test_what_is_not_answered_in_time_is_unfinished_and_not_lost():
    with ScriptedBroker(rate=500) as server:
        ran = bench(server, "e2e", {"rate": 2000, "linger.ms": 0, "drain.max.s": 1})
    assert "overload" in ran.codes() and ran.verdicts() == {"unfinished"}, str(ran)
    assert ran.run["verification"]["lost"] == 0


# -- records

@params("lose", "repeat", "swap", "corrupt")
def test_a_record_is_wrong(damage):
    """Record 500, of producer 0 in partition 0: its sequence and offset are 499."""
    kind, key, offset = {"lose": ("lost", "lost", 499),
                         "repeat": ("repeated", "duplicated", 500),
                         "swap": ("reordered", "reordered", 500),
                         "corrupt": ("corrupt", "corrupt", 499)}[damage]
    with ScriptedBroker(**{damage + "_record": 500}) as server:
        # In a swap it is the first that has a follower in its batch.
        ran = bench(server, "e2e", {"rate": 1000, "linger.ms": 10, "duration.s": 0.5})
        saw = server.stop()
    assert saw[{"lose": "lost", "repeat": "repeated", "swap": "swapped",
                "corrupt": "corrupted"}[damage] + "_records"] == 1
    assert ran.code == 1 and ran.verdicts() == {kind}, str(ran)
    found = ran.run["verification"]
    assert [found[name] for name in ("lost", "duplicated", "reordered", "corrupt")] == \
        [int(name == key) for name in ("lost", "duplicated", "reordered", "corrupt")]
    [incident] = found["incidents"]
    if damage == "swap":
        assert incident["offset"] >= 500 and incident["offset"] == incident["sequence"] + 1
        offset = incident["offset"]
    else:
        assert incident["sequence"] == 499
    assert incident == {"kind": kind, "topic": TOPIC, "partition": 0, "offset": offset,
                        "producer": 0, "sequence": incident["sequence"], "count": 1}
    assert re.search(rf"^  {kind}: {TOPIC}-0 at offset {offset}: producer 0, sequence "
                     rf"{incident['sequence']}, 1 records$", ran.out, re.M), str(ran)


@sanitized
@params(1, 2)
def test_a_clean_run_is_clean(threads):
    """Partitions, producers, fan-out and keys, and load threads that share them."""
    with ScriptedBroker(partitions=6) as server:
        ran = bench(server, "e2e", {
            "rate": 5000, "partitions": 6, "producers": 10, "consumers": 3, "fan.out": 3,
            "keys": 100, "partitioner": "keyed", "compression.type": "lz4",
            "value.entropy": 0.5, "threads": threads})
        saw = server.stop()
    assert ran.verdicts() == set(), str(ran)
    found = ran.run["verification"]
    assert found["mode"] == "full" and found["incidents"] == []
    assert found["records_acked"] == saw["records"] == saw["stored_records"]
    assert found["records_seen"] == 3 * saw["records"]
    window = ran.run["windows"]["measure"]
    assert abs(window["intended"] / window["seconds"] - 5000) < 500, window
    assert saw["record_bytes"] < 5 / 6 * saw["records"] * 1024, "not compressed"


@params("lose", "repeat")
def test_without_consumers_the_log_ends_tell(damage):
    with ScriptedBroker(**{damage + "_record": 500}) as server:
        ran = bench(server, "produce", {"rate": 1000})
    kind, by = {"lose": ("lost", -1), "repeat": ("repeated", 1)}[damage]
    assert ran.code == 1 and ran.verdicts() == {kind}, str(ran)
    acked = ran.run["verification"]["records_acked"]
    assert f"the log ends grew by {acked + by}" in ran.out, str(ran)


# -- which side was the limit

def test_as_fast_as_it_goes():
    """The server has no delays: one side's CPU is the limit, and it is far above the other runs."""
    def once():
        with ScriptedBroker(max_records=100_000) as server:
            ran = bench(server, "produce", {"rate": "max", "duration.s": 2})
            saw = server.stop()
        assert ran.verdicts() == set(), str(ran)
        window = ran.run["windows"]["measure"]
        assert "ack" not in window["histograms"], "a closed loop has no intended times"
        assert ran.run["generator"]["limit"] in ("broker", "client")
        assert any("closed loop" in note for note in ran.run["notes"])
        assert saw["records"] == ran.run["verification"]["records_acked"]
        in_time(window["ack_rate"] > 10_000, window["ack_rate"])
        in_time(ran.histogram("ack_send")["count"] > 10_000, window)
    best_of(once)


def test_a_sticky_producer_leaves_no_pieces_of_batches():
    """15 records of 1 KiB fit a batch; a 16th would wait in one of its own, to be sent 300 ms later."""
    with ScriptedBroker(max_records=100_000) as server:
        ran = bench(server, "produce", {"rate": 5000, "partitions": 500, "record.size": "1KiB",
                                        "linger.ms": 300})
    window = ran.run["windows"]["measure"]
    assert window["acked"] > 14 * window["batches"] > 0, window


def test_a_slow_server_is_the_limit():
    """20 ms for a request of a 16 KiB batch, 5 in flight: 750 records/s, 100 ms each."""
    def once():
        with ScriptedBroker(service_us=20_000) as server:
            ran = bench(server, "produce", {"rate": "max", "buffer.memory": "256Ki",
                                            "duration.s": 2})
        assert ran.verdicts() == set(), str(ran)
        in_time(ran.run["generator"]["limit"] == "broker", str(ran))
        rate, median = (ran.run["windows"]["measure"]["ack_rate"],
                        ran.histogram("ack_send")["percentiles"]["50"])
        in_time(700 < rate < 800 and 95 * MS < median < 120 * MS, (rate, median))
    best_of(once)


# -- requests that go wrong

@params("lose_ack", "close_request", "error_request")
def test_a_request_goes_wrong(behaviour):
    """With an idempotent producer it comes again, once in the log."""
    timeout_ms = 500 if behaviour == "lose_ack" else 30_000  # only that one waits for it
    with ScriptedBroker(**{behaviour: 100}) as server:
        ran = bench(server, "e2e", {"rate": 1000, "request.timeout.ms": timeout_ms})
        saw = server.stop()
    assert ran.verdicts() == set(), str(ran)
    found = ran.run["verification"]
    assert found["incidents"] == [] and found["records_acked"] == saw["stored_records"]
    assert any("sent again" in note for note in ran.run["notes"]), ran.run["notes"]
    lost = any("connections were lost" in note for note in ran.run["notes"])
    assert lost == (behaviour != "error_request"), ran.run["notes"]


def test_a_retry_without_idempotence_repeats():
    with ScriptedBroker(lose_ack=100) as server:
        ran = bench(server, "e2e", {"rate": 1000, "request.timeout.ms": 500,
                                    "enable.idempotence": "false"})
        saw = server.stop()
    assert ran.code == 1 and ran.verdicts() == {"repeated"}, str(ran)
    found = ran.run["verification"]
    assert found["duplicated"] == saw["stored_records"] - found["records_acked"] > 0
    assert found["incidents"][0]["kind"] == "repeated"


def test_what_is_refused_for_good_is_failed():
    """Nobody takes the record in time."""
    with ScriptedBroker(rate=100) as server:
        ran = bench(server, "e2e", {"rate": 1000, "linger.ms": 0, "delivery.timeout.ms": 500,
                                    "batch.size": 1})
    assert ran.code == 1 and "failed" in ran.verdicts(), str(ran)
    assert ran.run["verification"]["lost"] == 0, str(ran)


def test_a_log_that_shows_late_what_it_acknowledged_has_not_lost_it():
    with ScriptedBroker(hide_records=4, show_ms=2000) as server:
        ran = bench(server, "produce", {"rate": 100, "acks": "1"})
    assert ran.verdicts() == set(), str(ran)
    with ScriptedBroker(hide_records=4, show_ms=8000) as server:
        ran = bench(server, "produce", {"rate": 100, "acks": "1"})
    assert ran.verdicts() == {"lost"}, str(ran)


# -- other commands

def test_consume_reads_what_there_is():
    with ScriptedBroker(partitions=3, lose_record=700) as server:
        settings = {"partitions": 3, "producers": 3, "consumers": 2, "topic.reuse": "true"}
        made = bench(server, "produce", {**settings, "rate": 2000})
        ran = bench(server, "consume", {**settings, "duration.s": 20})
    assert made.verdicts() == {"lost"} and ran.verdicts() == {"lost"}, str(ran)
    found = ran.run["verification"]
    assert found["records_seen"] == made.run["verification"]["records_acked"] - 1
    assert found["lost"] == 1
    [phase] = [p for p in ran.run["phases"] if p["name"] == "measure"]
    assert phase["seconds"] < 10, "it ends when all is read"


@sanitized
def test_mixed_and_replay_read_it_all_again():
    with ScriptedBroker() as server:
        for kind in ("mixed", "replay"):
            ran = bench(server, kind, {"rate": 1000, "preload.bytes": "5MiB",
                                       "late.consumers": 2})
            assert ran.verdicts() == set(), str(ran)
            found = ran.run["verification"]
            assert found["incidents"] == []
            # Each late consumer has read at least what was there before.
            assert found["records_seen_late"] >= 2 * 5 * 1024, found
            assert found["records_seen"] == found["records_acked"]
        names = list(ran.run["windows"])
    assert names == ["warmup", "baseline", "replay", "recovery"], names
    assert "late_consume_rate" in ran.run["windows"]["replay"]
    assert "late_consume_rate" not in ran.run["windows"]["baseline"]


def test_late_consumers_find_damage_too():
    """In what was there before, which no other consumer reads."""
    with ScriptedBroker(lose_record=1000) as server:
        ran = bench(server, "replay", {"rate": 1000, "preload.bytes": "5MiB"})
    assert ran.verdicts() == {"lost"}, str(ran)
    [incident] = ran.run["verification"]["incidents"]
    assert (incident["partition"], incident["offset"], incident["sequence"]) == (0, 999, 999)
    assert "late consumers: 1 records lost" in ran.out, str(ran)


# -- histograms, read by others

def read_v2(text):
    from hdrh.histogram import HdrHistogram
    return HdrHistogram.decode(text)


def steps_of(histogram):
    return [(step.value_iterated_to, step.total_count_to_this_value)
            for step in histogram.get_recorded_iterator()]


def value_of_rank(steps, percent):
    """By the rule of the Java class; hdrh rounds half up."""
    rank = max(math.ceil(math.nextafter(percent, -math.inf) * steps[-1][1] / 100), 1)
    return next(value for value, to_here in steps if to_here >= rank)


@alone
def test_histograms_are_read_by_hdrh():
    need_module("hdrh")
    with ScriptedBroker(service_us=300) as server:
        ran = bench(server, "e2e", {"rate": 1000, "linger.ms": 0, "schedule": "poisson",
                                    "duration.s": 3})
    compared = 0
    for window in ran.run["windows"].values():
        for histogram in window["histograms"].values():
            read = read_v2(histogram["v2"])
            steps = steps_of(read)
            assert read.get_total_count() == histogram["count"]
            assert read.get_max_value() == histogram["max"]
            assert read.get_min_value() == histogram["min"]
            assert math.isclose(read.get_mean_value(), histogram["mean"], rel_tol=1e-8)
            assert math.isclose(read.get_stddev(), histogram["stddev"], rel_tol=1e-8)
            for percent, value in histogram["percentiles"].items():
                assert value_of_rank(steps, float(percent)) == value, percent
                compared += 1
            for percent, value in histogram["curve"]:
                assert percent == 0 or value_of_rank(steps, percent) == value, percent
    assert compared == 2 * 3 * 8


def logged_sums(log):
    """{tag: records} of a log of histograms."""
    from hdrh.histogram import HdrHistogram
    from hdrh.log import HistogramLogReader
    sums = {}
    reader = HistogramLogReader(log, HdrHistogram(1, 3_600_000_000_000, 3))
    while interval := reader.get_next_interval_histogram():
        tag = interval.get_tag()
        sums[tag] = sums.get(tag, 0) + interval.get_total_count()
    reader.close()
    return sums


@alone
def test_logs_of_histograms_are_read_by_hdrh():
    """Intervals go by when a record ended, windows by when it was intended: a few differ at the ends."""
    need_module("hdrh")

    def once():
        log = os.path.join(temp_dir("hlog"), "run.hlog")
        with ScriptedBroker(service_us=300) as server:
            logged = Ran("e2e", "--hlog", log, bootstrap=server.bootstrap,
                         settings={**SHORT, "rate": 1000, "duration.s": 3})
        sums = logged_sums(log)
        for name in ("ack", "ack_send", "e2e"):
            total = sum(n for tag, n in sums.items() if tag.startswith(name + "."))
            assert total == sum(w["histograms"][name]["count"] for w in
                                logged.run["windows"].values()), (name, sums)
            count = logged.histogram(name)["count"]
            in_time(abs(sums[f"{name}.measure"] - count) < 100, (name, sums, count))
    best_of(once)


def test_the_series_adds_up_to_the_windows():
    """Each second belongs to one phase, and nothing is in none or two of them."""
    def once():
        with ScriptedBroker(service_us=300) as server:
            ran = bench(server, "e2e", {"rate": 2000, "duration.s": 2.5})
        series = ran.run["series"]
        for name, window in ran.run["windows"].items():
            seconds = [s for s in series if s["phase"] == name]
            for count in ("intended", "acked", "consumed", "requests"):
                # An interval has one phase; that of a machine that stood still at a border had two.
                in_time(sum(s.get(count, 0) for s in seconds) == window[count], (name, count))
            in_time(abs(sum(s["seconds"] for s in seconds) - window["seconds"]) < 0.1, name)
        total = sum(s.get("acked", 0) for s in series)
        assert total == ran.run["verification"]["records_acked"]
        in_time(all(s["seconds"] < 1.2 for s in series), [s["seconds"] for s in series])
    best_of(once)


# -- the command

@params("--no-such-option", "--rate fast", "--linger-ms 5s", "--acks 2", "extra words",
        "--workload /nonexistent/x", "-o rate", "--partitioner keyed", "--rate",
        "--enable-idempotence true --acks 1")
def test_wrong_options(options):
    ran = Ran("produce", *options.split(), bootstrap="127.0.0.1:1")
    assert ran.code == 2, str(ran)
    assert ran.out == "" and len(ran.err.splitlines()) == 1, str(ran)
    assert ran.err.startswith("penstock bench"), ran.err
    assert ran.run is None


def test_no_command_and_unknown_commands():
    for arguments in ((), ("frobnicate",)):
        ran = Ran(*arguments)
        assert ran.code == 2 and ran.out == "" and ran.err, str(ran)


def test_help():
    ran = Ran("--help")
    assert ran.code == 0 and ran.err == "" and "record.size" in ran.out, str(ran)


def test_no_broker():
    """Nobody listens on port 1."""
    ran = Ran("produce", bootstrap="127.0.0.1:1")
    assert ran.code == 1 and ran.out == "", str(ran)
    assert ran.err == "penstock bench produce: 127.0.0.1:1: Connection refused\n", ran.err


@params("produce", "e2e")
def test_a_broker_that_goes_away(kind):
    """The run ends, and its result, up to there, is not lost: it says that it is not valid."""
    def once():
        result = os.path.join(temp_dir("bench"), "result.json")
        with ScriptedBroker() as server:
            command = [BINARY, "bench", kind, "--bootstrap", server.bootstrap, "--json", result]
            for key, value in {**SHORT, "duration.s": 2, "drain.max.s": 1}.items():
                command += ["-o", f"{key}={value}"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True)
            begin = time.monotonic()
            said = process.stderr.readline()
            server.stop()
            stopped_s = time.monotonic() - begin
            out, err = process.communicate(timeout=60)
        in_time(stopped_s < 2, f"the server was stopped after {stopped_s} of 3 s")
        in_time(" warmup " in said, said)
        assert process.returncode == 1, (out, err)
        with open(result) as file:
            ran = json.load(file)["runs"][0]
        codes = {verdict["code"] for verdict in ran["invalid"]}
        assert {"overload", "unfinished"} <= codes and "lost" not in codes, (codes, out, err)
        assert ("unverified" in codes) == (kind == "produce"), codes
        assert any("connections were lost" in note for note in ran["notes"]), ran["notes"]
    best_of(once)
