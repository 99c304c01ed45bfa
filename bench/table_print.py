#!/usr/bin/env python3
"""The table of penstock beside Apache Kafka, from the JSON of table.py, as Markdown.

    bench/table_print.py [FILE...]        default: build/bench/table.json

Of each broker the median of its runs. The ratio is penstock's by Kafka's, pair by pair: its median,
and its spread (least .. most). [n] marks what a run of `penstock bench` calls invalid, or
what has no result, and why.
"""
import json
import math
import statistics
import sys

BROKERS = ("kafka", "penstock")
NAMES = {"kafka": "Apache Kafka", "penstock": "penstock"}
DIGITS, DECIMALS_MAX = 3, 5
HEAD = ["row", "figure", *NAMES.values(), "ratio (least .. most)"]


def number(value):
    """Three digits that count, no exponent."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    decimals = DIGITS - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(decimals, 0), DECIMALS_MAX)}f}"


def median(values):
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def ratio(figure):
    """Nothing to divide: both idle, or one of them not measured."""
    if figure["better"] is None:
        return ""
    ratios = [ours / theirs for theirs, ours in zip(*(figure[broker] for broker in BROKERS))
              if theirs and ours is not None]
    if not ratios:
        return "-"
    return f"{number(statistics.median(ratios))} ({number(min(ratios))} .. {number(max(ratios))})"


class Doubts:
    """Numbered by row, broker and code, in the order of the table."""

    def __init__(self):
        self.lines = []

    def marks(self, row, broker):
        found = {}
        for doubt in row["invalid"]:
            if doubt["broker"] == broker:
                found.setdefault(doubt["code"], []).append(doubt)
        return "".join(self.mark(row, broker, doubts) for doubts in found.values())

    def mark(self, row, broker, doubts):
        pairs = sorted({doubt["pair"] for doubt in doubts})
        which = ("pair " if len(pairs) == 1 else "pairs ") + ", ".join(map(str, pairs))
        self.lines.append(f"[{len(self.lines) + 1}] {row['row']}, {NAMES[broker]}, {which}: "
                          f"{doubts[0]['code']}: {doubts[0]['text']}")
        return f" [{len(self.lines)}]"


def table_lines(document, doubts):
    yield HEAD
    for row in document["rows"]:
        marks = {broker: doubts.marks(row, broker) for broker in BROKERS}
        title = row["title"]
        for figure in row["figures"]:
            unit = figure["unit"] + (f" ({figure['better']} is better)" if figure["better"] else "")
            yield [title, f"{figure['title']}, {unit}",
                   *(number(median(figure[broker])) + marks[broker] for broker in BROKERS),
                   ratio(figure)]
            title = ""


def render(document):
    doubts = Doubts()
    rows = list(table_lines(document, doubts))
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
             for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    pairs = document["pairs"]
    lines += ["", f"{document['about']}",
              f"Medians of {pairs} pair{'s' if pairs > 1 else ''} of runs, windows of "
              f"{document['seconds']:g} s, the brokers in turn; ratio: penstock by Apache Kafka, "
              "pair by pair.", ""]
    lines += [f"- {row['note']}" for row in document["rows"] if row["note"]]
    if doubts.lines:
        lines += ["", "Not valid, by what `penstock bench` says of the run, or without result:", "",
                  *(line + "  " for line in doubts.lines)]
    return "\n".join(line.rstrip(" ") if line.startswith("|") else line for line in lines) + "\n"


def main():
    for path in sys.argv[1:] or ["build/bench/table.json"]:
        with open(path) as file:
            sys.stdout.write(render(json.load(file)))


if __name__ == "__main__":
    main()
