#!/usr/bin/env python3
"""penstock beside Apache Kafka 4 on this machine, row by row, in one interleaved run.

    make bench-table [ARGS="--quick"]      or, when penstock is built: bench/table.py [OPTION]...

The brokers get the lower half of the CPUs, the client the upper half. Kafka has the heap of its own
start script and is warmed up first. Of each row A B A B, pair by pair. A row that fails says why, and
the next is measured. Prints the table and writes build/bench/NAME.md and NAME.json, after each row
what there is. Exit code 1: some row has no result.
"""
import argparse
import json
import os
import re
import signal
import sys
import time

import table_print
from scale import OUT
from table_brokers import on_upper_half
from table_rows import ROWS
from table_stage import Stage, options_add, options_complete, say


def write(document, name):
    with open(os.path.join(OUT, name + ".json"), "w") as file:
        json.dump(document, file, indent=1)
    with open(os.path.join(OUT, name + ".md"), "w") as file:
        file.write(table_print.render(document))


def rows_measure(stage, rows, on_row):
    begin = time.monotonic()
    for done, row in enumerate(rows):
        spent = time.monotonic() - begin
        left = f", about {spent / done * (len(rows) - done) / 60:.0f} min left" if done else ""
        say(f"{row.name}: row {done + 1} of {len(rows)}{left}")
        on_row(stage.measure(row))


def rows_selected(rows, pattern):
    return [row for row in rows if pattern is None or pattern.search(row.name)]


def options_parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=re.compile, metavar="REGEX", help="those whose name has it; "
                        "'^(one|fan-3)$' for whole names")
    parser.add_argument("--list", action="store_true", help="say which rows there are, and end")
    parser.add_argument("--json", action="store_true", help="print the document, not the table")
    parser.add_argument("--name", default="table", help="of the files in build/bench (table)")
    options_add(parser)
    options = parser.parse_args()
    options_complete(options)
    options.rows = rows_selected(ROWS, options.rows)
    if not options.rows:
        parser.error("no row has a name like that: see --list")
    return options


def main():
    options = options_parse()
    if options.list:
        print("\n".join(f"{row.name:20} {row.title}" for row in options.rows))
        return 0
    on_upper_half()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    document = {"format": "penstock-table/1", "pairs": options.pairs, "seconds": options.seconds,
                "rows": []}
    with Stage(options, options.name) as stage:
        def on_row(said):
            document["rows"].append(said)
            document.update(about=stage.about(), machine=stage.machine)
            write(document, options.name)
        rows_measure(stage, options.rows, on_row)
    sys.stdout.write(json.dumps(document, indent=1) + "\n" if options.json
                     else table_print.render(document))
    return int(any(doubt["code"] == "no-result" for row in document["rows"] for doubt in row["invalid"]))


if __name__ == "__main__":
    sys.exit(main())
