"""Running the commands of penstock that talk to a broker.

    penstock(broker, "topic", "create", "t").out
    json_of(broker, "topic", "list")["topics"]
    penstock(broker, "topic", "create", "t", code=1).errors
"""
import collections
import json
import subprocess

from lib.broker import BINARY

Said = collections.namedtuple("Said", "code out errors")


def penstock(broker, *arguments, code=0, stdin=b"", text=True, timeout_s=100):
    """Run a command against the broker; its exit code must be `code`."""
    command = [BINARY, *[str(part) for part in arguments], "--bootstrap", broker.bootstrap]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout_s)
    errors = done.stderr.decode(errors="replace")
    assert done.returncode == code, \
        f"{command}\nexit code {done.returncode}, not {code}\n{done.stdout[-2000:]}\n{errors}"
    assert (code == 0) == (errors == ""), f"{command}\nexit code {code}, but said: {errors!r}"
    return Said(code, done.stdout.decode() if text else done.stdout, errors)


def json_of(broker, *arguments, **keywords):
    return json.loads(penstock(broker, *arguments, "--json", **keywords).out)
