"""The table of penstock beside Apache Kafka (bench/table_print.py): its cells are the JSON's figures."""
import json
import os
import subprocess
import sys

from lib.broker import temp_dir

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PRINT = os.path.join(ROOT, "bench", "table_print.py")

DOCUMENT = {
    "format": "penstock-table/1", "pairs": 3, "seconds": 5, "about": "A machine.",
    "rows": [
        {"row": "produce", "title": "produce 1 KiB", "note": "A note.", "figures": [
            # Pair by pair 0.25, 0.1, 0.5: their median is not the medians' ratio, 0.2.
            {"title": "CPU", "unit": "s/GiB", "better": "less",
             "kafka": [2.0, 4.0, 1.0], "penstock": [0.5, 0.4, 0.5]},
            {"title": "rate", "unit": "MiB/s", "better": "more",
             "kafka": [500, 400, None], "penstock": [1000, 1600, 1500]},
            {"title": "device", "unit": "us", "better": None,
             "kafka": [50.04, 51, 49], "penstock": [52, 52, 52]}],
         "invalid": [
             {"broker": "kafka", "pair": 1, "code": "overload", "text": "too slow"},
             {"broker": "kafka", "pair": 3, "code": "overload", "text": "too slow again"},
             {"broker": "penstock", "pair": 2, "code": "not-steady", "text": "too short"}]},
        {"row": "idle", "title": "idle", "note": "", "invalid": [], "figures": [
            {"title": "CPU", "unit": "%", "better": "less",
             "kafka": [0, 0, 0], "penstock": [0, 0, 0]},
            {"title": "small", "unit": "ms", "better": "less",
             "kafka": [10000, 10000, 10000], "penstock": [0.8, 0.0801, 0.0123]},
            {"title": "never", "unit": "s", "better": "less",
             "kafka": [None, None, None], "penstock": [1.25, 12.34, 0.0123]}]},
    ],
}

CELLS = [
    ["row", "figure", "Apache Kafka", "penstock", "ratio (least .. most)"],
    ["produce 1 KiB", "CPU, s/GiB (less is better)", "2.00 [1]", "0.500 [2]",
     "0.250 (0.100 .. 0.500)"],
    ["", "rate, MiB/s (more is better)", "450 [1]", "1,500 [2]", "3.00 (2.00 .. 4.00)"],
    ["", "device, us", "50.0 [1]", "52.0 [2]", ""],
    ["idle", "CPU, % (less is better)", "0", "0", "-"],
    ["", "small, ms (less is better)", "10,000", "0.0801", "0.00001 (0.00000 .. 0.00008)"],
    ["", "never, s (less is better)", "-", "1.25", "-"],
]
BELOW = [
    "A machine.",
    "- A note.",
    "[1] produce, Apache Kafka, pairs 1, 3: overload: too slow",
    "[2] produce, penstock, pair 2: not-steady: too short",
]


def printed(document):
    path = os.path.join(temp_dir("table"), "table.json")
    with open(path, "w") as file:
        json.dump(document, file)
    return subprocess.run([sys.executable, PRINT, path], capture_output=True, text=True, check=True,
                          timeout=30).stdout


def test_table_has_the_figures_and_the_doubts():
    lines = [line.rstrip() for line in printed(DOCUMENT).splitlines()]
    table = [line for line in lines if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert set("".join(cells.pop(1))) == {"-"}, table[1]
    assert cells == CELLS, cells
    assert len({len(line) for line in table}) == 1, "columns are not aligned"
    for line in BELOW:
        assert line in lines, line
    assert sum(line.startswith("[") for line in lines) == 2, lines


def test_table_of_valid_runs_has_no_doubts():
    rows = [{**row, "invalid": []} for row in DOCUMENT["rows"]]
    said = printed({**DOCUMENT, "rows": rows})
    assert "[" not in said and "Not valid" not in said, said
