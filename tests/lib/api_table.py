"""The table of APIs in net/README.md: what it says, what the sources say, what clients were seen to do.

    python3 tests/lib/api_table.py build/api-use.json     # fills the cells of clients from a run's record

A run of all client tests leaves that record (broker/claims.py). A cell has the versions that a client's
requests had, `*` behind those that only come with --all.
"""
import json
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
README = os.path.join(ROOT, "net", "README.md")
# Heads of columns, and how the broker knows the client: by its software's name or its client.id.
COLUMNS = {"Java": "apache-kafka-java", "kcat": "librdkafka", "confluent": "confluent-kafka-python",
           "kafka-python": "kafka-python", "franz-go": "kgo", "Sarama": "sarama",
           "kafka-go": "kafka-go", "KafkaJS": "kafkajs", "penstock": "penstock"}
HEAD = ["key", "", "versions", "file", *COLUMNS]


class Row:
    def __init__(self, cells):
        assert len(cells) == len(HEAD), f"{len(cells)} cells: {cells}"
        self.key, self.name, self.versions = int(cells[0]), cells[1], cells[2]
        self.files = re.findall(r"`([^`]+)`", cells[3])
        self.file_cell = cells[3]
        self.claims = {column: parse_cell(cell) for column, cell in zip(COLUMNS, cells[4:])}

    def served(self):
        """(oldest, newest) that is served, and the oldest that is advertised."""
        match = re.fullmatch(r"(\d+)(?:-(\d+))?(?:, advertised from (\d+))?", self.versions)
        assert match, f"{self.name}: versions {self.versions!r}"
        oldest, newest, advertised = match.groups()
        return (int(oldest), int(newest or oldest)), int(advertised or oldest)

    def line(self):
        cells = [str(self.key), self.name, self.versions, self.file_cell]
        return "| " + " | ".join(cells + [cell_text(self.claims[c]) for c in COLUMNS]) + " |"


def parse_cell(cell):
    """{version: only with --all}"""
    found = {}
    for word in cell.split("/") if cell else []:
        match = re.fullmatch(r"(\d+)(\*?)", word)
        assert match, f"not a version: {word!r} in {cell!r}"
        found[int(match[1])] = bool(match[2])
    return found


def cell_text(claims):
    return "/".join(f"{version}{'*' if only_all else ''}"
                    for version, only_all in sorted(claims.items()))


def _lines():
    with open(README) as readme:
        return readme.read().split("\n")


def _place(lines):
    """Where the table's rows are."""
    head = "| " + " | ".join(HEAD).replace("|  |", "| |") + " |"
    begin = lines.index(head) + 2
    end = begin
    while lines[end].startswith("|"):
        end += 1
    return begin, end


def rows():
    lines = _lines()
    begin, end = _place(lines)
    return [Row([cell.strip() for cell in line[1:-1].split("|")]) for line in lines[begin:end]]


# -- what the sources say

def read(*path):
    with open(os.path.join(ROOT, *path)) as file:
        return file.read()


def sources():
    """{key: (name, handler, advertised from, newest, served from)} of net/api.c, names of the schemas."""
    names = {}
    for include in re.findall(r'#include "(net/wire/api_\w+\.def)"', read("net", "wire", "apis.def")):
        for key, name in re.findall(r'^API\((\d+), \w+, "(\w+)",', read(include), re.M):
            names[int(key)] = name
    found = {}
    table = re.search(r"net_apis\[\] = \{(.*?)\n\};", read("net", "api.c"), re.S)[1]
    for row in re.findall(r"\{(\d+), (\d+), (\d+), (\d+), (\w+)\}", table):
        key, oldest, newest, served = map(int, row[:4])
        found[key] = names[key], row[4], oldest, newest, served
    assert len(found) == table.count("{"), "a row of net_apis could not be read"
    return found


# -- what was seen

def seen_in(folder):
    """{client: {API: {versions}}} of the records of brokers."""
    seen = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name)) as record:
            for line in record:
                client, api, version, _ = json.loads(line)
                seen.setdefault(client, {}).setdefault(api, set()).add(version)
    return seen


def write_record(path, seen, full):
    document = {"full": full, "seen": {client: {api: sorted(versions) for api, versions in apis.items()}
                                       for client, apis in seen.items()}}
    with open(path, "w") as out:
        json.dump(document, out, indent=1, sort_keys=True)


def fill(record):
    """New cells: those of a default run as seen; of a full one what it adds, marked."""
    with open(record) as file:
        document = json.load(file)
    lines = _lines()
    begin, end = _place(lines)
    filled = rows()
    for row in filled:
        for column, client in COLUMNS.items():
            seen = document["seen"].get(client, {}).get(row.name, ())
            if document["full"]:
                old = row.claims[column]
                row.claims[column] = {v: old.get(v, True) for v in seen}
            else:
                marked = {v: True for v, only_all in row.claims[column].items() if only_all}
                row.claims[column] = {**marked, **dict.fromkeys(seen, False)}
    lines[begin:end] = [row.line() for row in filled]
    with open(README, "w") as readme:
        readme.write("\n".join(lines))


if __name__ == "__main__":
    fill(sys.argv[1])
