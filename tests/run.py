#!/usr/bin/env python3
"""The test runner: see tests/README.md for what it runs and how to write a test.

Happy path: list everything, run it (some beside each other), print a line a test, say what was
skipped and why, and end with `N passed, N failed[, N skipped]`. Exit 0 only if something passed
and nothing failed.
Failure: a failed test's last output follows its line. What outlives its time, or its test, is
killed by process group.
"""
import argparse
import concurrent.futures
import copy
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

TESTS = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TESTS)
TESTCASE = os.path.join(TESTS, "lib", "testcase.py")
SKIP_EXIT = 77
TAIL_LINES = 100
UNIT_TIMEOUT_S = 300
FUZZ_TIMEOUT_S = 120
SCRIPT_TIMEOUT_S = 120
SANITIZED_TIME_FACTOR = 4

# What lib/testcase.py says of tests: see there.
MARKS = ("alone", "last", "mostly_waits", "never_sanitized", "sanitized", "sanitized_instead",
         "slow")
PASS, FAIL, SKIP = "ok", "FAIL", "skip"


class Result:
    def __init__(self, name, status, seconds, detail=""):
        self.name, self.status, self.seconds, self.detail = name, status, seconds, detail


class Test:
    """One process that is one test."""

    def __init__(self, name, command, timeout_s, **marks):
        self.name, self.command, self.timeout_s = name, command, timeout_s
        self.binary = None
        for mark in MARKS:
            setattr(self, mark, bool(marks.get(mark)))

    def with_binary(self, binary, suffix):
        test = copy.copy(self)
        test.name, test.binary = self.name + suffix, binary
        test.timeout_s *= SANITIZED_TIME_FACTOR if suffix else 1
        return test

    def run(self, env):
        begin = time.monotonic()
        code, output = run_group(self.command, self.timeout_s, dict(env, **self.own_env()))
        seconds = time.monotonic() - begin
        if code is None:
            return [Result(self.name, FAIL, seconds, f"{output}\nkilled after {self.timeout_s} s")]
        if code == SKIP_EXIT:
            lines = [line for line in output.splitlines() if line.strip()]
            return [Result(self.name, SKIP, seconds, lines[-1] if lines else "no reason given")]
        if code:
            return [Result(self.name, FAIL, seconds, f"{output}\nexit code {code}")]
        return [Result(self.name, PASS, seconds)]

    def own_env(self):
        return {"PENSTOCK_BINARY": self.binary} if self.binary else {}


class CriterionProgram:
    """One criterion program: each of its tests counts as one."""

    alone = last = mostly_waits = False

    def __init__(self, path, suffix):
        self.path, self.suffix = path, suffix
        self.program = os.path.basename(path)
        self.wanted = None
        self.error = None
        self.tests = self._list()

    def _list(self):
        """`--list` prints the suites as `name: N tests` and their tests below, drawn as a tree."""
        code, output = run_group([self.path, "--list"], UNIT_TIMEOUT_S, os.environ)
        if code != 0:
            self.error = f"{output}\n--list: exit code {code}"
            return []
        tests, suite = [], ""
        for line in output.splitlines():
            if re.match(r"^\S+: \d+ tests?$", line):
                suite = line.partition(":")[0]
            elif "──" in line:
                tests.append((suite, line.split()[1]))
        return tests

    def name_of(self, suite, test):
        return f"{self.program} {suite}::{test}{self.suffix}"

    def names(self):
        return [self.name_of(*test) for test in self.tests]

    @property
    def name(self):
        return self.program + self.suffix

    def select(self, pattern):
        """Keep what matches; a program whose own name matches, or that broke, stays whole."""
        if pattern.search(self.name) or self.error or not self.tests:
            return bool(pattern.search(self.name))
        self.wanted = [test for test in self.tests if pattern.search(self.name_of(*test))]
        return bool(self.wanted)

    def run(self, env):
        if self.error or not self.tests:
            return [Result(self.name, FAIL, 0.0, self.error or "the program lists no tests")]
        if self.wanted is None:
            return self._run_once(env, [], self.tests)
        results = []
        for suite, test in self.wanted:
            results += self._run_once(env, ["--filter", f"{suite}/{test}"], [(suite, test)])
        return results

    def _run_once(self, env, options, expected):
        begin = time.monotonic()
        fd, tap_path = tempfile.mkstemp(dir=env["PENSTOCK_TMP"])
        os.close(fd)
        code, output = run_group([self.path, f"--tap={tap_path}", "--jobs", "1"] + options,
                                 UNIT_TIMEOUT_S, env)
        with open(tap_path, errors="replace") as tap:
            results = self._parse_tap(tap.read(), output)
        os.unlink(tap_path)
        # With --filter, criterion reports all others as skipped.
        names = {self.name_of(*test) for test in expected}
        results = [result for result in results if result.name in names]
        return results + self._check_whole(code, output, results, names,
                                           time.monotonic() - begin)

    @staticmethod
    def _output_of(suite, test, output):
        """Criterion writes what a test said above its [FAIL] line."""
        block = []
        for line in output.splitlines():
            block.append(line)
            if line.startswith("[FAIL]"):
                if line.split()[1].rstrip(":") == f"{suite}::{test}":
                    return "\n".join(block)
                block = []
        return output

    def _parse_tap(self, tap, output):
        results = []
        line_form = re.compile(r"^(ok|not ok) - (\S+)::(.+?)\s*(?:\((-?[\d.]+)s\))?"
                               r"(?:\s*# SKIP(.*))?$")
        for line in tap.splitlines():
            match = line_form.match(line)
            if not match:
                continue
            word, suite, test, seconds, reason = match.groups()
            test = test.split()[0]
            status = FAIL if word == "not ok" else PASS if reason is None else SKIP
            detail = (reason or "").strip() or "no reason given" if status == SKIP else ""
            if status == FAIL:
                detail = self._output_of(suite, test, output)
            results.append(Result(self.name_of(suite, test), status, float(seconds or 0), detail))
        return results

    def _check_whole(self, code, output, results, expected, seconds):
        """The program as a whole must agree with its lines: no crash, no test left out."""
        seen = {result.name for result in results}
        missing = sorted(expected - seen)
        if code is None:
            return [Result(self.name, FAIL, seconds, f"{output}\nkilled after {UNIT_TIMEOUT_S} s")]
        if missing:
            return [Result(self.name, FAIL, seconds,
                           f"{output}\nno result of: {', '.join(missing)} (exit code {code})")]
        if code and all(result.status != FAIL for result in results):
            return [Result(self.name, FAIL, seconds, f"{output}\nexit code {code}")]
        return []


def kill_group(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run_group(command, timeout_s, env):
    """Run a command as a process group of its own; return (exit code or None, output).
    Whatever of the group is left at the end is killed."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, cwd=ROOT, env=env,
                                   start_new_session=True)
        LIVE_GROUPS.add(process.pid)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            kill_group(process.pid)
            process.wait()
            LIVE_GROUPS.discard(process.pid)
        out.seek(0)
        return code, out.read().decode(errors="replace")


LIVE_GROUPS = set()


def end_runner(*_):
    for group in list(LIVE_GROUPS):
        kill_group(group)
    os._exit(130)


# ---- finding tests

def programs(options, kind):
    """(path, suffix) of the built test programs; with --all also those of the sanitized build."""
    folders = [(options.build, "")]
    if options.all:
        folders.append((os.path.join(options.build, "asan"), "[asan]"))
    for folder, suffix in folders:
        for path in sorted(glob.glob(os.path.join(folder, "tests", kind + "-*"))):
            if os.access(path, os.X_OK) and os.path.isfile(path):
                yield path, suffix


def find_units(options):
    return [CriterionProgram(path, suffix) for path, suffix in programs(options, "unit")]


def find_fuzz(options):
    """A replay of a whole corpus is one test; one without inputs fails, as it shows nothing.
    The programs are always those of the sanitized build."""
    found = []
    for path in sorted(glob.glob(os.path.join(options.build, "asan", "tests", "fuzz-*"))):
        target = os.path.basename(path)[len("fuzz-"):]
        corpus = sorted(glob.glob(os.path.join(TESTS, "fuzz", "corpus", target, "*")))
        name = f"fuzz-{target} ({len(corpus)} inputs)"
        command = [path] + corpus
        if not corpus:
            command = ["sh", "-c", f"echo tests/fuzz/corpus/{target} is empty; exit 1"]
        found.append(Test(name, command, FUZZ_TIMEOUT_S))
    return found


def header_field(lines, field):
    for line in lines:
        match = re.match(rf"#\s*{field}(?::\s*(\S+))?\s*$", line)
        if match:
            return match.group(1) or "yes"
    return None


def find_shell_scripts():
    found = []
    for path in sorted(glob.glob(os.path.join(TESTS, "wire", "*.sh"))):
        with open(path, errors="replace") as script:
            head = script.read().splitlines()[:20]
        found.append(Test(os.path.relpath(path, TESTS), ["/bin/bash", path],
                          int(header_field(head, "timeout") or SCRIPT_TIMEOUT_S),
                          sanitized=bool(header_field(head, "sanitized")),
                          slow=bool(header_field(head, "slow"))))
    return found


def find_python_tests(python):
    files = sorted(path for folder in ("clients", "broker", "bench", "sim", "crash")
                   for path in glob.glob(os.path.join(TESTS, folder, "*.py")))
    if not files:
        return []
    listed = subprocess.run([python, TESTCASE, "--list"] + files, stdout=subprocess.PIPE,
                            check=True, text=True)
    found = []
    for entry in json.loads(listed.stdout):
        name = os.path.relpath(entry["file"], TESTS)
        if entry["error"]:
            found.append(Test(f"{name} (cannot be loaded)",
                              [python, TESTCASE, "--run", entry["file"], ""], SCRIPT_TIMEOUT_S))
        for test in entry["tests"]:
            found.append(Test(f"{name}::{test['name']}",
                              [python, TESTCASE, "--run", entry["file"], test["name"]],
                              test["timeout_s"], **{mark: test[mark] for mark in MARKS}))
    return found


def python_for_tests(build):
    """The one with the Python clients in it, where tests/install.sh could make it."""
    path = os.path.join(build, "clients", "venv", "bin", "python3")
    return path if os.access(path, os.X_OK) else sys.executable


def collect(options):
    """All tests to run, in order: quick and narrow ones first; and whether all client tests are there."""
    units = find_units(options)
    fuzz = find_fuzz(options)
    scripts = find_shell_scripts() + find_python_tests(python_for_tests(options.build))
    scripts = [test for test in scripts if options.all or not test.slow]
    plain = options.binary or os.path.join(options.build, "penstock")
    asan = os.path.join(options.build, "asan", "penstock")
    suffix = "[asan]" if "asan" in plain.split(os.sep) else ""
    chosen = [test.with_binary(plain, suffix) for test in scripts]
    if not options.binary and not options.peer and os.access(asan, os.X_OK):
        if not options.all:
            chosen = [test for test in chosen if not test.sanitized_instead]
        # The slice in a default run; all Python tests but the slow ones with --all.
        chosen += [test.with_binary(asan, "[asan]") for test in scripts
                   if test.sanitized or (options.all and test.name.partition("::")[1]
                                         and not test.slow and not test.last
                                         and not test.never_sanitized)]
    if options.peer:
        units, fuzz = [], []
        chosen = [test for test in chosen if "clients/" in test.name]
    clients = {test.name for test in chosen if is_client_test(test)}
    if options.filter:
        pattern = re.compile(options.filter)
        units = [unit for unit in units if unit.select(pattern)]
        fuzz = [test for test in fuzz if pattern.search(test.name)]
        chosen = [test for test in chosen if pattern.search(test.name)]
    return units + fuzz + chosen, clients <= {test.name for test in chosen}


def is_client_test(test):
    return test.name.startswith("clients/")


# ---- running and reporting

class Report:
    def __init__(self):
        self.lock = threading.Lock()
        self.results = []

    def add(self, results):
        with self.lock:
            for result in results:
                self.results.append(result)
                self._print(result)

    @staticmethod
    def _print(result):
        if result.status == SKIP:
            print(f"skip: {result.name}: {result.detail}", flush=True)
            return
        print(f"{result.status:4}  {result.name}  ({result.seconds:.2f} s)", flush=True)
        if result.status == FAIL:
            for line in result.detail.splitlines()[-TAIL_LINES:]:
                print(f"      | {line}", flush=True)

    def count(self, status):
        return sum(result.status == status for result in self.results)

    def failed(self, prefix):
        return any(result.status == FAIL and result.name.startswith(prefix)
                   for result in self.results)

    def summary(self):
        skips = [result for result in self.results if result.status == SKIP]
        if skips:
            print("\nskipped:")
        for result in skips:
            print(f"  {result.name}: {result.detail}")
        failures = [result for result in self.results if result.status == FAIL]
        if failures:
            print("\nfailed:")
        for result in failures:
            print(f"  {result.name}")
        last = f"{self.count(PASS)} passed, {self.count(FAIL)} failed"
        if skips:
            last += f", {len(skips)} skipped"
        print(last, flush=True)
        return 0 if self.count(PASS) and not self.count(FAIL) else 1


def run_one(test, env, report):
    folder = tempfile.mkdtemp(prefix="test-", dir=env["PENSTOCK_TMP"])
    env = dict(env, PENSTOCK_TEST_TMP=folder)
    if is_client_test(test) and "PENSTOCK_PEER" not in env:
        env["PENSTOCK_RECORD_API_USE"] = "1"
    try:
        report.add(test.run(env))
    except Exception as error:  # the runner's own trouble is a failed test, never a lost one
        report.add([Result(test.name, FAIL, 0.0, f"the runner failed: {error!r}")])
    finally:
        if "PENSTOCK_KEEP" not in env:
            shutil.rmtree(folder, ignore_errors=True)


def run_all(tests, env, jobs):
    """Those that mostly wait have a lane of their own: the others need the cores."""
    report = Report()
    together = [test for test in tests if not test.alone and not test.last]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool, \
            concurrent.futures.ThreadPoolExecutor(1) as waiters:
        for done in [(waiters if test.mostly_waits and jobs > 1 else pool)
                     .submit(run_one, test, env, report) for test in together]:
            done.result()
    for test in tests:
        if test.alone and not test.last:
            run_one(test, env, report)
    if report.failed("clients/"):  # what they would have asked was not seen
        env.pop("PENSTOCK_ALL_CLIENTS", None)
    for test in tests:
        if test.last:
            run_one(test, env, report)
    return report


def parse_options():
    parser = argparse.ArgumentParser(description="Run the tests of penstock.")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"), metavar="DIR",
                        help="where `make` put things (default: build)")
    parser.add_argument("--binary", metavar="PATH",
                        help="the broker to test (default: penstock in the build directory)")
    parser.add_argument("--all", action="store_true", help="also the slow tests, full sizes")
    parser.add_argument("--filter", metavar="RE", help="only tests whose name matches")
    parser.add_argument("--list", action="store_true", help="print the names, run nothing")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), metavar="N",
                        help="so many tests beside each other (default: 2)")
    parser.add_argument("--peer", choices=["kafka"],
                        help="run the client tests against Apache Kafka instead (tests/README.md)")
    parser.add_argument("--keep", action="store_true", help="leave the tests' files in build/tmp")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.binary = options.binary and os.path.abspath(options.binary)
    return options


def environment(options):
    env = dict(os.environ, PENSTOCK_BUILD=options.build, PYTHONUNBUFFERED="1",
               PYTHONDONTWRITEBYTECODE="1", LC_ALL="C.UTF-8",
               PENSTOCK_TMP=os.path.join(options.build, "tmp"))
    if options.all:
        env["PENSTOCK_FULL"] = "1"
    if options.peer:
        env["PENSTOCK_PEER"] = options.peer
    if options.keep:
        env["PENSTOCK_KEEP"] = "1"
    os.makedirs(env["PENSTOCK_TMP"], exist_ok=True)
    return env


def main():
    options = parse_options()
    signal.signal(signal.SIGINT, end_runner)
    signal.signal(signal.SIGTERM, end_runner)
    env = environment(options)
    os.environ.update(env)
    tests, has_all_clients = collect(options)
    if options.list:
        for test in tests:
            names = test.names() if isinstance(test, CriterionProgram) else [test.name]
            print("\n".join(names))
        return 0
    if has_all_clients:
        env["PENSTOCK_ALL_CLIENTS"] = "1"
    with tempfile.TemporaryDirectory(prefix="api-use-", dir=env["PENSTOCK_TMP"]) as folder:
        env["PENSTOCK_API_USE"] = folder
        return run_all(tests, env, options.jobs).summary()


if __name__ == "__main__":
    sys.exit(main())
