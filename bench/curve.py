#!/usr/bin/env python3
"""Latency against throughput, penstock and Apache Kafka 4 in one plot, in one interleaved run.

    make bench-curve [ARGS="--quick"]      or, when penstock is built: bench/curve.py [OPTION]...

Rate by rate, each broker in turn, until it has not held two in a row: records of 1 KiB over 6 partitions,
open loop, 8 producers, a batch has what gathered while earlier ones were on their way; acks=1 on the left,
durable (Kafka with flush.messages=1, acks=all) on the right. Writes build/bench/curve.svg (the end-to-end
p50 and p99 against the rate reached, medians of the pairs), curve.json, and curve.html, the report of all
runs. CPUs and brokers are as in bench/table.py.
"""
import argparse
import glob
import json
import os
import signal
import statistics
import subprocess
import sys

from scale import BINARY, OUT, ROOT
from table_brokers import BROKERS, Failed, on_upper_half, settle
from table_figures import latency, measured
from table_measures import GATHERED, run_once
from table_print import NAMES
from table_stage import Stage, one_line, options_add, options_complete, say

RATES = [1000, 2000, 5000, 10_000, 20_000, 30_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000,
         400_000]
RATES_QUICK = [2000, 20_000, 100_000, 300_000]
MISSED_MAX = 2
PERCENTILES = ("50", "99")
PANELS = {False: "acks=1", True: "durable"}
COLORS = {"kafka": "#c2410c", "penstock": "#1d4ed8"}


def point_of(run, asked):
    """What of a run is drawn; a latency is None where nothing came through."""
    return {"asked": asked, "reached": measured(run).get("ack_rate", 0),
            "invalid": [verdict["code"] for verdict in run["invalid"]],
            **{f"p{percentile}_ms": latency(percentile)(run) for percentile in PERCENTILES}}


def held(point):
    return "overload" not in point["invalid"]


class Curve:
    """One broker under one promise, rate by rate: its points, and whether a higher rate is worth a run."""

    def __init__(self, broker, durable):
        self.broker, self.durable, self.points, self.why = broker, durable, [], None
        self.missed = 0

    def done(self):
        return self.missed == MISSED_MAX or self.why is not None

    def add(self, point):
        self.points.append(point)
        self.missed = 0 if held(point) else self.missed + 1

    def said(self):
        return {"broker": self.broker, "durable": self.durable, "points": self.points, "why": self.why}


def point_measure(stage, curve, rate):
    stage.label = f"{'durable' if curve.durable else 'acks1'}-{rate}"
    try:
        run = run_once(stage, stage.broker(curve.broker), "e2e", {
            **GATHERED, "rate": str(rate), "drain-max-s": "5"}, curve.durable)
        curve.add(point_of(run, rate))
        say(f"{stage.label}, {curve.broker}: {curve.points[-1]}")
    except Exception as error: # the other broker's curve can do without this one
        curve.why = one_line(error)
        say(f"{stage.label}, {curve.broker}: {curve.why}")
        stage.stop(curve.broker)
    settle()


def curves_measure(stage, rates):
    """Each pair's curves of their own: how far a broker gets is seen anew."""
    curves = []
    for stage.pair in range(1, stage.options.pairs + 1):
        for durable in PANELS:
            pair = [Curve(name, durable) for name in BROKERS]
            for rate in rates:
                for curve in pair:
                    if not curve.done():
                        point_measure(stage, curve, rate)
            curves += pair
    return [curve.said() for curve in curves]


# -- the plot

def merged(curves, broker, durable, key):
    """[(reached, latency)] of the medians over the pairs, in the order in which rates were asked for."""
    by_rate = {}
    for curve in curves:
        if (curve["broker"], curve["durable"]) == (broker, durable):
            for point in curve["points"]:
                if point[key] is not None and point["reached"] > 0:
                    by_rate.setdefault(point["asked"], []).append((point["reached"], point[key]))
    return [tuple(map(statistics.median, zip(*by_rate[rate]))) for rate in sorted(by_rate)]


def lines_of(curves, durable):
    """[(title, look, points)] of one promise; those without points are left out."""
    found = [(f"{NAMES[broker]}, p{percentile}", f"dt {2 - number} lc rgb '{COLORS[broker]}'",
              merged(curves, broker, durable, f"p{percentile}_ms"))
             for broker in BROKERS for number, percentile in enumerate(PERCENTILES)]
    return [line for line in found if line[2]]


def panel(name, title, lines):
    """Data and plot of one half of the picture, for gnuplot."""
    data = "".join(f"${name}{number} << EOD\n" + "".join(f"{x:.10g} {y:.10g}\n" for x, y in points) +
                   "EOD\n" for number, (_, _, points) in enumerate(lines))
    plots = [f"${name}{number} using 1:2 with linespoints pt 7 ps 0.4 lw 1.8 {look} title '{what}'"
             for number, (what, look, _) in enumerate(lines)]
    return data, f"set title '{title}'\nplot " + ", \\\n    ".join(plots) + "\n"


def script(curves, about):
    panels = [(name, lines) for durable, name in PANELS.items() for lines in [lines_of(curves, durable)]
              if lines]
    if not panels:
        raise Failed("not one point to draw")
    parts = [panel(f"p{number}x", name, lines) for number, (name, lines) in enumerate(panels)]
    return ("set encoding utf8\n"
            "set terminal svg size 1200,520 dynamic noenhanced font 'sans,13' background rgb 'white'\n"
            "set logscale xy\nset grid lc rgb '#dddddd'\nset key top left\n"
            "set format x '%.0s%c'\nset xlabel 'records/s of 1 KiB reached'\n"
            "set ylabel 'end to end, from the intended time, ms'\nset format y '%g'\n" +
            "".join(data for data, _ in parts) +
            f"set multiplot layout 1,{len(parts)} title '{about}' font ',11'\n" +
            "".join(plot for _, plot in parts) + "unset multiplot\n")


def draw(document, path):
    """Nothing is left at the path when gnuplot fails."""
    about = f"{document['about']}".replace("'", "")
    done = subprocess.run(["gnuplot", "-"], input=script(document["curves"], about).encode(),
                          capture_output=True, check=False, timeout=60)
    if done.returncode != 0 or not done.stdout.rstrip().endswith(b"</svg>"):
        raise Failed(f"gnuplot: exit {done.returncode}: {done.stderr.decode()}")
    with open(path, "wb") as file:
        file.write(done.stdout)


def report(stage, path):
    files = sorted(glob.glob(os.path.join(stage.folder, "*-e2e-*.json")))
    files = [file for file in files if not os.path.basename(file).startswith("warm-up")]
    if files:
        subprocess.run([BINARY, "bench", "report", *files, "-o", path, "--title",
                        "Latency against throughput"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def rates_parse(text):
    rates = sorted(int(rate) for rate in text.split(","))
    if rates[0] < 1:
        raise argparse.ArgumentTypeError("rates are records a second")
    return rates


def options_parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", type=rates_parse, metavar="A,B", help=f"records a second ({RATES})")
    parser.add_argument("--json", action="store_true", help="print the document")
    options_add(parser)
    parser.set_defaults(pairs=1)
    options = parser.parse_args()
    options_complete(options)
    options.rates = options.rates or (RATES_QUICK if options.quick else RATES)
    return options


def main():
    options = options_parse()
    on_upper_half()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with Stage(options, "curve") as stage:
        curves = curves_measure(stage, options.rates)
        document = {"format": "penstock-curve/1", "about": stage.about(), "machine": stage.machine,
                    "pairs": options.pairs, "seconds": options.seconds, "curves": curves}
        with open(os.path.join(OUT, "curve.json"), "w") as file:
            json.dump(document, file, indent=1)
        report(stage, os.path.join(OUT, "curve.html"))
    try:
        draw(document, os.path.join(OUT, "curve.svg"))
    except Failed as error:
        sys.exit(f"curve: {error}")
    print(json.dumps(document, indent=1) if options.json else
          "\n".join(os.path.join("build", "bench", "curve." + end) for end in ("svg", "html", "json")))
    return int(any(curve["why"] for curve in curves))


if __name__ == "__main__":
    sys.exit(main())
