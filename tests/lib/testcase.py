"""Marks for test functions, and the small program that lists and runs them.

A test is a function `test_*` of a file under tests/clients, tests/broker, tests/bench or tests/crash.
It passes by returning, fails by raising, and skips by raising Skip with the reason. The runner starts every
test as a process of its own: `testcase.py --run FILE NAME`; exit 0, 77 (skip, the reason is the
last line of stdout), or anything else for a failure.
"""
import importlib.util
import inspect
import json
import os
import signal
import sys
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DEFAULT_TIMEOUT_S = 120
SKIP_EXIT = 77


class Skip(Exception):
    """What the test needs is not to be had here; the message says what and why."""


def timeout(seconds):
    """The test is killed, with all that it started, after so many seconds (default 120)."""
    def mark(function):
        function.timeout_s = seconds
        return function
    return mark


def slow(function):
    """Only run with --all."""
    function.slow = True
    return function


def sanitized(function):
    """Also run with the sanitized broker, when there is one, in a default run."""
    function.sanitized = True
    return function


def sanitized_instead(function):
    """In a default run with the sanitized broker only, where there is one: that sees all that the other
    one would, and more. With --all with both."""
    function.sanitized = function.sanitized_instead = True
    return function


def never_sanitized(function):
    """Counts what the sanitizer adds to, as memory or system calls."""
    function.never_sanitized = True
    return function


def alone(function):
    """Measures time or CPU: nothing else runs beside it."""
    function.alone = True
    return function


def last(function):
    """Runs when all others have ended: it looks at what they left."""
    function.last = True
    return function


def params(*values, slow=(), plain=()):
    """One test for each value: the function gets the value as its only argument. Of these values some
    may be only run with --all, and some not sanitized in a default run."""
    def mark(function):
        function.params, function.slow_params, function.plain_params = values, slow, plain
        return function
    return mark


def mostly_waits(function):
    """It costs little CPU, so it has a lane of its own beside the others. A whole file: MOSTLY_WAITS = True."""
    function.mostly_waits = True
    return function


def _load(path):
    if TESTS not in sys.path:
        sys.path.insert(0, TESTS)
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location("test_file_" + name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cases(module):
    """All tests of a file in source order: (name, function, arguments)."""
    found = []
    for name, function in vars(module).items():
        if name.startswith("test_") and inspect.isfunction(function):
            if function.__module__ != module.__name__:
                continue
            values = getattr(function, "params", None)
            if values is None:
                found.append((name, function, ()))
            for value in values or ():
                found.append((f"{name}[{value}]", function, (value,)))
    return found


def _describe(path):
    try:
        module = _load(path)
        cases = _cases(module)
    except BaseException:
        return {"file": path, "error": traceback.format_exc(), "tests": []}
    tests = []
    for name, function, arguments in cases:
        def marked(mark, function=function, arguments=arguments):
            return arguments and arguments[0] in getattr(function, mark, ())
        tests.append({
            "name": name,
            "timeout_s": getattr(function, "timeout_s", DEFAULT_TIMEOUT_S),
            "slow": bool(getattr(function, "slow", False) or marked("slow_params")),
            "alone": getattr(function, "alone", False),
            "last": getattr(function, "last", False),
            "mostly_waits": getattr(function, "mostly_waits",
                                    getattr(module, "MOSTLY_WAITS", False)),
            "never_sanitized": getattr(function, "never_sanitized", False),
            "sanitized_instead": getattr(function, "sanitized_instead", False),
            "sanitized": getattr(function, "sanitized", False) and not marked("plain_params")})
    return {"file": path, "error": None, "tests": tests}


def _run(path, wanted):
    # The same object for `lib.testcase.Skip` here and in the test file.
    sys.path.insert(0, TESTS)
    from lib.testcase import Skip as RaisedSkip
    # An ended runner sends SIGTERM first: unwinding lets fixtures stop what they started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    for name, function, arguments in _cases(_load(path)):
        if name != wanted:
            continue
        try:
            function(*arguments)
        except RaisedSkip as skip:
            sys.stdout.flush()
            print(" ".join(str(skip).split()) or "no reason given", flush=True)
            return SKIP_EXIT
        return 0
    print(f"{path} has no test {wanted}")
    return 1


def main(arguments):
    if arguments[:1] == ["--list"]:
        print(json.dumps([_describe(path) for path in arguments[1:]]))
        return 0
    if arguments[:1] == ["--run"] and len(arguments) == 3:
        return _run(arguments[1], arguments[2])
    print("usage: testcase.py --list FILE... | --run FILE NAME", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
