"""`penstock bench report`: its numbers are the JSON's, its page needs nothing but itself."""
import copy
import html.parser
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree

from lib.broker import BINARY, temp_dir
from lib.testcase import params

VOID = {"meta", "br", "hr", "link", "img", "input"}
WINDOWS = {"replay": ("warmup", "baseline", "replay", "recovery")}
PERCENTILES = ("50", "75", "90", "95", "99", "99.9", "99.99", "99.999")


def histogram(median_ns, count, stall_ns=0):
    """Made up, but of the right shape: percentiles rise, and a stall lifts the last hundredth."""
    values = {p: int(median_ns * (1 + 3 * index)) + index * 7 for index, p in enumerate(PERCENTILES)}
    if stall_ns:
        values.update({p: max(values[p], stall_ns) for p in PERCENTILES[4:]})
    curve = [[float(p), value] for p, value in values.items()] + [[100.0, values["99.999"] + 99]]
    return {"unit": "ns", "count": count, "min": median_ns // 3, "mean": median_ns * 1.1 + 0.25,
            "max": curve[-1][1], "percentiles": values, "curve": curve, "v2": "HISTFAAA"}


def window(seconds, rate, size, median_ns, stall_ns=0):
    count = int(seconds * rate)
    return {"seconds": seconds, "intended": count + 1, "sent": count, "acked": count - 1,
            "acked_bytes": count * size, "requests": count // 40, "batches": count // 20,
            "errors": 1, "consumed": count - 2, "consumed_bytes": count * size,
            "ack_rate": rate * 0.99991, "ack_mib_s": rate * size / 2**20,
            "consume_rate": rate * 0.9998, "consume_mib_s": rate * size / 2**20 - 0.001,
            "histograms": {"ack": histogram(median_ns, count, stall_ns),
                           "ack_send": histogram(median_ns * 9 // 10, count),
                           "e2e": histogram(median_ns * 2, count, stall_ns)}}


def series(windows, rate, median_ns):
    items, t = [], 0
    for phase in (*windows, "drain"):
        for _ in range(5):
            t += 1
            latency = {"p50": median_ns, "p99": median_ns * 4, "p99.9": median_ns * 6,
                       "max": median_ns * (7 + t % 3)}
            items.append({"t": float(t), "seconds": 1.0, "phase": phase, "sent": rate + t,
                          "acked": rate - t, "acked_bytes": rate * 1024, "errors": t % 2,
                          "consumed": rate, "consumed_bytes": rate * 1024, "ack": latency,
                          "e2e": latency, "client_cpu": 0.4, "broker_cpu": 1.1 + t / 100,
                          "broker_rss_bytes": 300 << 20})
    return items


def run(label, rate=20000, size=1024, acks="all", median_ns=2_000_000, command="e2e"):
    windows = WINDOWS.get(command, ("warmup", "measure"))
    phases = [{"name": name, "start_s": 7 * i, "seconds": 7.5}
              for i, name in enumerate(("connect", *windows, "drain"))]
    return {
        "label": label, "bootstrap": "127.0.0.1:9092", "driver": "penstock",
        "broker": {"cluster_id": "MkU3OEVBNTcwNTJENDM2Qk", "nodes": 1},
        "workload": {"name": f"{size}B-acks-{acks}", "record.size": size, "partitions": 6,
                     "acks": acks, "rate": rate, "linger.ms": 5, "keyed": "no"},
        "phases": phases, "steady": {"method": "three like windows", "reached": True, "at_s": 7.0},
        "windows": {name: window(30 + i, rate, size, median_ns * (1 + i % 2), i * 10**9)
                    for i, name in enumerate(windows)},
        "series": series(windows, rate, median_ns),
        "verification": {"mode": "full", "records_acked": 600001, "records_seen": 599998,
                         "lost": 3, "duplicated": 1, "reordered": 0, "corrupt": 0,
                         "incidents": [{"kind": "lost", "topic": "bench", "partition": 4,
                                        "offset": 98231, "producer": 1, "sequence": 5,
                                        "count": 3}]},
        "generator": {"limit": "schedule", "text": "the broker kept up", "cpu_seconds": 7.25,
                      "lateness": histogram(50_000, 9), "cpu_share": 0.24,
                      "cpu_us_per_record": 0.31},
        "bill": {"pid": 4242, "command": label, "seconds": 30.0, "cpu_user_s": 12.31,
                 "cpu_system_s": 6.02, "cpu_s_per_gib": 31.25, "cpu_s_per_million_records": 30.5,
                 "rss_bytes_max": 512 << 20, "device_written_bytes": 614400000,
                 "voluntary_switches": 123456, "page_faults": 77},
        "limits": {"device": {"write": [{"block_bytes": 65536, "depth": 4, "flush": "each",
                                         "mib_s": 388.5}],
                              "read": [{"block_bytes": 1 << 20, "depth": 4, "mib_s": 1850.1}]},
                   "tcp": [{"message_bytes": 65536, "mib_s": 3012.4, "cpu_s_per_gib": 0.61}],
                   "shares": [{"name": "device", "mib_s": 19.5, "limit_mib_s": 388.5,
                               "share": 0.0502}]},
        "valid": True, "invalid": [], "notes": []}


def result(command, runs, **more):
    return {"format": "penstock-bench/1", "command": command, "created": "2026-11-25T21:50:00Z",
            "penstock": {"version": "0.1", "commit": "abc123"},
            "machine": {"hostname": "bench-1", "cpu_model": "AMD EPYC", "cpus_online": 2,
                        "memory_bytes": 8 << 30, "kernel": "6.18.2", "clocksource": "kvm-clock"},
            "runs": runs, **more}


def comparison(name):
    a, b = [3000000, 3100000, 2900000], [1500000.5, 1600000, 3000000]
    ratios = [y / x for x, y in zip(a, b)]
    metric = {"name": "ack p99", "unit": "ns", "better": "lower", "a": a, "b": b, "ratios": ratios,
              "median_ratio": sorted(ratios)[1], "min_ratio": min(ratios),
              "max_ratio": max(ratios)}
    faster = {"name": "rate", "unit": "rec/s", "better": "higher", "a": [100], "b": [150],
              "ratios": [1.5], "median_ratio": 1.5, "min_ratio": 1.4, "max_ratio": 1.6}
    return {"a": "kafka", "b": "penstock", "pairs": 3, "workload": name,
            "metrics": [metric, faster]}


def search(rates):
    return {"method": "bisection", "percentile": 99, "bound_ns": 20000000, "confidence": 0.95,
            "reliability": 0.8, "tolerance": 0.05, "estimate": 21000.5, "low": 20000,
            "high": 22000, "stopped": "confident", "limited_by": "broker",
            "trials": [{"rate": rate, "pass": rate < 21000, "value_ns": rate * 700, "run": i,
                        "low": 10000, "high": 50000 - 5000 * i} for i, rate in enumerate(rates)]}


def results(kind):
    rates = (5000, 40000, 20000, 21500)
    if kind == "compare":
        runs = [run(label, size=size) for size in (100, 1024) for _ in range(3)
                for label in ("kafka", "penstock")]
        return [result("compare", runs, comparison=[comparison("100 B"), comparison("1 KiB")])]
    if kind == "saturate":
        return [result("saturate", [run("penstock", rate=rate) for rate in rates],
                       search=search(rates))]
    if kind == "sweep":
        return [result("sweep", [run("penstock", rate, size, acks) for rate in rates
                                 for size in (100, 1024) for acks in ("1", "all")])]
    if kind == "several":
        return [result("produce", [run("kafka")]), result("produce", [run("penstock")]),
                result("consume", [run("other", size=10240)]), results("compare")[0]]
    return [result(kind, [run("penstock", command=kind)])]


KINDS = ("produce", "consume", "e2e", "mixed", "sweep", "saturate", "replay", "compare", "several")


class Page(html.parser.HTMLParser):
    """Elements that carry a number, attributes, ids, links, and a check that tags are balanced."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.text, self.figures, self.attributes, self.ids, self.open = text, [], [], [], []
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        values = dict(attrs)
        assert len(values) == len(attrs), f"an attribute twice in {tag} {attrs}"
        self.attributes += attrs
        if "id" in values:
            self.ids.append(values["id"])
        if "data-path" in values:
            self.figures.append(values)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> in {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.words += data


def resolve(document, path):
    """What a data-path leads to: members as JavaScript writes them."""
    value = document
    for name, index, quoted in re.findall(r'\.?([A-Za-z_]\w*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]',
                                          path):
        value = value[int(index)] if index else value[json.loads(quoted) if quoted else name]
    return value


def make_page(documents, *options):
    """The page's text; the files and their directory are gone when it is returned."""
    arguments, directory = [BINARY, "bench", "report"], temp_dir("report")
    try:
        paths = []
        for index, document in enumerate(documents):
            paths.append(os.path.join(directory, f"{index}.json"))
            with open(paths[-1], "w", encoding="utf-8") as out:
                json.dump(document, out)
        page = os.path.join(directory, "page.html")
        done = subprocess.run([*arguments, *paths, "-o", page, *options], cwd=directory,
                              stdin=subprocess.DEVNULL, timeout=110, capture_output=True,
                              text=True)
        assert done.returncode == 0 and done.stderr == "", f"{done.returncode}: {done.stderr}"
        left = sorted(os.listdir(directory))
        assert left == sorted([os.path.basename(p) for p in paths] + ["page.html"]), left
        with open(page, encoding="utf-8") as made:
            return made.read()
    finally:
        shutil.rmtree(directory)


def same_numbers(page, documents):
    for figure in page.figures:
        value = resolve(documents[int(figure["data-file"])], figure["data-path"])
        shown = json.loads(figure["data-value"])
        assert type(value) in (int, float) and value == shown and type(value) is type(shown), \
            f"{figure} is {value!r}"


def numbers_below(value, path=""):
    """All numbers of a document by path, but those that only plots show."""
    if isinstance(value, dict):
        for name, member in value.items():
            if name not in ("series", "curve"):
                key = f".{name}" if re.fullmatch(r"[A-Za-z_]\w*", name) else f"[{json.dumps(name)}]"
                yield from numbers_below(member, (path + key).lstrip("."))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from numbers_below(item, f"{path}[{index}]")
    elif type(value) in (int, float):
        yield path


@params(*KINDS)
def test_numbers_are_those_of_the_json(kind):
    documents = results(kind)
    page = Page(make_page(documents))
    assert len(page.figures) > 50, len(page.figures)
    same_numbers(page, documents)
    shown = {(int(f["data-file"]), f["data-path"]) for f in page.figures}
    # What the page rightly leaves out: finer detail of what it shows.
    fine = re.compile(r"start_s|acked_bytes|consumed_bytes|lateness\.|\.min$"
                      r'|percentiles\["(75|95|99\.999)"\]|search\.trials\[\d+\]\.run')
    for index, document in enumerate(documents):
        for path in numbers_below(document):
            assert fine.search(path) or (index, path) in shown, f"{path} is not in the page"


@params(*KINDS)
def test_page_needs_nothing_but_itself(kind):
    text = make_page(results(kind), "--title", "Nothing <else>")
    page = Page(text)
    for outside in ("http:", "https:", "src=", "url(", "@import", "//", "<link", "<img", "<iframe"):
        assert outside not in text, outside
    for name, value in page.attributes:
        assert name != "href" or value[1:] in page.ids and value[0] == "#", value
        assert not name.startswith("on"), (name, value)
    assert len(page.ids) == len(set(page.ids)), "an id twice"
    assert "Nothing &lt;else&gt;</title>" in text


@params(*KINDS)
def test_plots_follow_the_theme(kind):
    text = make_page(results(kind))
    style = text[text.index("<style>"):text.index("</style>")]
    dark = re.search(r"@media\(prefers-color-scheme:dark\)\{:root\{(.*?)\}\}", style, re.S)
    light = re.search(r":root\{(.*?)\}", style, re.S)
    themes = [set(re.findall(r"(--[\w-]+):#", theme.group(1))) for theme in (light, dark)]
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert themes[0] == themes[1] and used <= themes[0], (themes, used)
    plots = re.findall(r"<svg.*?</svg>", text, re.S)
    drawn = [plot for plot in plots if 'class="plot"' in plot]
    assert len(drawn) >= 5, len(drawn)
    for plot in plots:
        xml.etree.ElementTree.fromstring(plot)
    for plot in drawn:
        fixed = re.findall(r"#[0-9a-fA-F]{3,8}\b|rgb\(|[\"'](?:black|white|gr[ae]y)[\"']", plot)
        assert not fixed, fixed
        for role in ("--axis", "--grid", "--ink-2"):
            assert f"var({role})" in plot, f"{role} in {plot[:200]}"


def test_absent_is_not_zero():
    whole = results("e2e")[0]
    page = make_page([whole])
    for member, sign in (("bill", ">The broker's bill<"), ("limits", ">Share of the limits<"),
                         ("verification", ">Verification<"), ("series", ">Records a second<"),
                         ("windows", ">Windows<"), ("phases", ">Phases: ")):
        document = copy.deepcopy(whole)
        del document["runs"][0][member]
        without = make_page([document])
        same_numbers(Page(without), [document])
        assert sign in page and sign not in without, sign
    bare = result("produce", [{"label": "bare"}])
    for figure in Page(make_page([bare])).figures:
        assert figure["data-path"].startswith("machine."), figure


def test_invalid_runs_and_incidents_are_named():
    document = results("e2e")[0]
    document["runs"][0].update(valid=False, invalid=[
        {"code": "records-lost", "text": "3 records <lost>"}], notes=["Beware of \u2028 & <i>"])
    page = Page(make_page([document]))
    assert "INVALID: 1 of 1 runs." in page.words
    assert "records-lost 3 records <lost>" in page.words
    assert "Beware of \u2028 & <i>" in page.words
    paths = {figure["data-path"]: figure["data-value"] for figure in page.figures}
    assert paths["runs[0].verification.incidents[0].offset"] == "98231"
    assert paths["runs[0].verification.incidents[0].partition"] == "4"


def test_digits_are_kept():
    document = results("e2e")[0]
    measured = document["runs"][0]["windows"]["measure"]
    measured.update(ack_rate=19999.123456789012, intended=2**53 + 1, sent=2**64 - 2, errors=-1)
    page = Page(make_page([document]))
    same_numbers(page, [document])
    values = {figure["data-path"]: figure["data-value"] for figure in page.figures}
    assert values["runs[0].windows.measure.intended"] == "9007199254740993"
    assert values["runs[0].windows.measure.sent"] == "18446744073709551614"
    assert values["runs[0].windows.measure.ack_rate"] == repr(measured["ack_rate"])


def test_bad_usage_and_bad_files():
    arguments, directory = [BINARY, "bench", "report"], temp_dir("report")
    bad = os.path.join(directory, "bad.json")
    with open(bad, "w", encoding="utf-8") as out:
        out.write('{"format": "penstock-bench/1", "runs": [')
    try:
        for more, code, said in (([], 2, "no result file"), (["--no-such"], 2, "no-such"),
                                 ([bad], 1, "bad.json: not JSON"),
                                 ([bad + ".none"], 1, "No such file")):
            done = subprocess.run([*arguments, *more], cwd=directory, stdin=subprocess.DEVNULL,
                                  timeout=30, capture_output=True, text=True)
            assert done.returncode == code and said in done.stderr and done.stdout == "", done
        assert os.listdir(directory) == ["bad.json"]
    finally:
        shutil.rmtree(directory)
