"""What READMEs claim about the broker is so: the table of APIs and who uses them, the table of traps."""
import os
import re
import subprocess
import sys

from lib import api_table
from lib.broker import BUILD, ROOT, Broker
from lib.client_kinds import CLIENT_KINDS
from lib.clients import is_full, need_command
from lib.kafka_wire import api_ranges
from lib.testcase import Skip, last

# How a test finds out whether a client is installed.
INSTALLED = {"Java": CLIENT_KINDS["java"], "kcat": lambda: need_command("kcat"),
             "confluent": CLIENT_KINDS["confluent"], "kafka-python": CLIENT_KINDS["kafka-python"],
             "franz-go": CLIENT_KINDS["franz"], "Sarama": CLIENT_KINDS["sarama"],
             "kafka-go": CLIENT_KINDS["kafka-go"], "KafkaJS": CLIENT_KINDS["kafkajs"],
             "penstock": lambda: None}


def test_table_of_apis_is_that_of_the_sources():
    """Each API that is served has a row, and no other: name, versions, file; and the broker says so."""
    rows, sources = api_table.rows(), api_table.sources()
    assert [row.key for row in rows] == sorted(sources), "the rows of net/README.md, and net/api.c"
    for row in rows:
        name, handler, advertised, newest, served = sources[row.key]
        assert (row.name, row.served()) == (name, ((served, newest), advertised)), row.line()
        text = "".join(api_table.read("net", *path.split("/")) for path in row.files[:1])
        assert f"void {handler}(" in text, f"{row.name}: no {handler} in {row.files}"
        for column, claims in row.claims.items():
            outside = [v for v in claims if not served <= v <= newest]
            assert not outside, f"{row.name}, {column}: {outside} are not served"
    with Broker(shards=1, memory="64m") as broker:
        told = api_ranges(broker)
    assert told == {row.key: (row.served()[1], row.served()[0][1]) for row in rows}


def claimed_of(column, full):
    """{(API, version)} that the table claims for this run."""
    return {(row.name, version) for row in api_table.rows()
            for version, only_all in row.claims[column].items() if full or not only_all}


def not_installed(column):
    try:
        INSTALLED[column]()
        return None
    except Skip as reason:
        return str(reason).strip()


@last
def test_clients_ask_what_the_table_claims():
    """Each client whose tests ran has asked each API in each version that its column says."""
    if "PENSTOCK_API_USE" not in os.environ or "PENSTOCK_PEER" in os.environ:
        raise Skip("only tests/run.py sees what the clients of the other tests ask")
    if "PENSTOCK_ALL_CLIENTS" not in os.environ:
        raise Skip("not all tests of clients/ are in this run, or some failed: it has not seen all")
    seen = api_table.seen_in(os.environ["PENSTOCK_API_USE"])
    api_table.write_record(os.path.join(BUILD, "api-use.json"), seen, is_full())
    lies, left_out = [], []
    for column, client in api_table.COLUMNS.items():
        claimed = claimed_of(column, is_full())
        assert ("Metadata", "some") in {(api, "some") for api, _ in claimed}, f"{column} claims nothing"
        asked = {(api, version) for api, versions in seen.get(client, {}).items()
                 for version in versions}
        for api, version in sorted(asked - claimed_of(column, True)):
            print(f"not in the table: {column} asked {api} {version}")
        why = not_installed(column)
        if why is not None:
            left_out.append(f"{column}: {why}")
        else:
            lies += [f"{column} {api} {version}" for api, version in sorted(claimed - asked)]
    assert not lies, f"net/README.md claims what no test showed: {lies}; if that is right, " \
        "tests/lib/api_table.py makes the cells from build/api-use.json"
    if left_out:
        raise Skip("not checked for those that are not here: " + "; ".join(left_out))


# -- traps

NOT_HERE = re.compile(r"no (transactions|groups of the new protocol|logins|quotas|ACLs) here\b")


def traps():
    """[(trap, what is right, what shows it)] of tests/README.md."""
    rows = []
    for line in api_table.read("tests", "README.md").split("## Traps")[1].splitlines():
        if line.startswith("## "):
            break
        if line.startswith("| ") and not line.startswith("| trap |"):
            rows.append([cell.strip() for cell in line[1:-1].split("|")])
    return rows


def all_tests():
    """The names of all tests that there are, without [parameter]s."""
    if not any(name.startswith("unit-") for name in os.listdir(os.path.join(BUILD, "tests"))):
        raise Skip("the unit tests are not built")
    env = {key: value for key, value in os.environ.items() if key != "PENSTOCK_PEER"}
    listed = subprocess.run([sys.executable, os.path.join(ROOT, "tests", "run.py"), "--list", "--all",
                             "--build", BUILD], capture_output=True, text=True, env=env, check=True)
    return {name.partition("[")[0] for name in listed.stdout.splitlines()}


def test_each_trap_has_a_test():
    """Each names tests that exist, or what is not here; what is not here is not spoken either."""
    rows, tests = traps(), all_tests()
    assert len(rows) == 60, len(rows)
    spoken = {row.name for row in api_table.rows()}
    absent = {"transactions": "AddOffsetsToTxn", "groups of the new protocol": "ConsumerGroupHeartbeat",
              "logins": "SaslHandshake", "quotas": "AlterClientQuotas", "ACLs": "DescribeAcls"}
    for trap, _, shown in rows:
        named = re.findall(r"`([^`]+)`", shown)
        missing = [name for name in named if name not in tests]
        assert not missing, f"{trap}: {missing} is no test"
        without = NOT_HERE.match(shown)
        assert named or without, f"{trap}: {shown}"
        assert not without or absent[without[1]] not in spoken, f"{trap}: {without[1]} are here now"
