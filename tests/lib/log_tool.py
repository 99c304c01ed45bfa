"""Running `penstock log` and reading what it says."""
import hashlib
import json
import os
import subprocess

from lib.broker import BAD_LOG, BINARY

FINE, DAMAGE, USAGE = 0, 1, 2


def log_tool(*arguments, expect=FINE, timeout_s=100):
    """Run it; assert its exit code; return (stdout, stderr) as text."""
    command = [BINARY, "log", *[str(part) for part in arguments]]
    env = dict(os.environ)
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=env,
                          timeout=timeout_s)
    out, errors = done.stdout.decode(), done.stderr.decode()
    wanted = (expect,) if isinstance(expect, int) else expect
    assert done.returncode in wanted and not BAD_LOG.search(errors), \
        f"{' '.join(command)}: exit code {done.returncode}\n{out[-2000:]}\n{errors[-3000:]}"
    return out, errors


def log_document(*arguments, expect=FINE):
    """What ls, verify or repair print with --json."""
    return json.loads(log_tool(*arguments, "--json", expect=expect)[0])


def log_rows(*arguments, expect=FINE):
    """What dump prints with --json, row by row."""
    out, _ = log_tool("dump", *arguments, "--json", expect=expect)
    return [json.loads(line) for line in out.splitlines()]


def payloads(rows):
    return b"".join(row["payload"].encode() + b"\n" for row in rows if row["type"] == "record")


def tree_digest(*folders):
    """Of all names, sizes, times of change and bytes below."""
    digest = hashlib.sha256()
    for top in folders:
        for folder, subfolders, names in os.walk(top):
            subfolders.sort()
            for name in sorted(names):
                path = os.path.join(folder, name)
                status = os.stat(path)
                digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
                with open(path, "rb") as data:
                    digest.update(hashlib.sha256(data.read()).digest())
    return digest.hexdigest()


def flip(path, at, length=1):
    """Other bytes at this place of a file."""
    with open(path, "r+b") as data:
        data.seek(at)
        old = data.read(length)
        assert len(old) == length, f"{path} ends before {at + length}"
        data.seek(at)
        data.write(bytes(byte ^ 0x5a for byte in old))
