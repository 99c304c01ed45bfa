"""Starting the foreign clients: kcat, Java, Node, Go, and children in the tests' Python.

Everything here raises Skip with the reason when its client could not be installed, and Failed,
with the client's own output, when the client says no.
"""
import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import sys

from lib.broker import BUILD, ROOT
from lib.testcase import Skip

CLIENTS = os.path.join(BUILD, "clients")
SOURCES = os.path.join(ROOT, "tests", "clients")
JAVA_FLAGS = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
# Default runs are short: the quick compiler alone makes them shorter.
JAVA_FLAGS_SHORT = ["-XX:TieredStopAtLevel=1"]


class Failed(AssertionError):
    pass


def is_full():
    """Full sizes, as with --all."""
    return bool(os.environ.get("PENSTOCK_FULL"))


def need(name, is_there):
    """Skip, with what the installer said about `name`, unless `is_there`."""
    if is_there:
        return
    try:
        with open(os.path.join(CLIENTS, name + ".missing")) as note:
            raise Skip(note.read())
    except FileNotFoundError:
        raise Skip(f"{name} is not installed: run tests/install.sh") from None


def need_command(name):
    need(name, shutil.which(name) is not None)


def run(command, timeout_s=100, stdin=None, env=None, check=True):
    """Run to the end; return (stdout, stderr) as bytes. A non-zero exit raises Failed."""
    shown = " ".join(str(part) for part in command)
    shown = shown if len(shown) < 300 else shown[:140] + " ... " + shown[-140:]
    try:
        done = subprocess.run(command, stdin=stdin or subprocess.DEVNULL, capture_output=True,
                              timeout=timeout_s, env=env)
    except subprocess.TimeoutExpired as late:
        raise Failed(f"{shown}\nstill running after {timeout_s} s\n{_text(late.stdout)}"
                     f"{_text(late.stderr)}") from None
    if check and done.returncode != 0:
        raise Failed(f"{shown}\nexit code {done.returncode}\n{_text(done.stdout)}"
                     f"{_text(done.stderr)}")
    return done.stdout, done.stderr


def _text(data):
    return (data or b"")[-2000:].decode(errors="replace")


# -- kcat

def kcat_produce(broker, topic, path, partition=0, settings=(), timeout_s=100):
    """Produce a file line by line. kcat leaves out empty lines."""
    need_command("kcat")
    command = ["kcat", "-P", "-b", broker.bootstrap, "-t", topic, "-p", str(partition)]
    for setting in settings:
        command += ["-X", setting]
    with open(path, "rb") as lines:
        _, errors = run(command, timeout_s, stdin=lines)
    # kcat exits 0 when deliveries failed; it says so on stderr.
    if b"Delivery failed" in errors or b"ERROR" in errors:
        raise Failed(f"kcat -P: {_text(errors)}")


def kcat_consume(broker, topic, path, partition=0, form=None, offset="beginning", wait_ms=None,
                 timeout_s=100):
    """Read a partition (None: all) from `offset` to its end into a file; return what kcat said. wait_ms:
    how long the broker may wait before it says that there is no more, if not librdkafka's 500."""
    need_command("kcat")
    command = ["kcat", "-C", "-b", broker.bootstrap, "-t", topic, "-o", str(offset), "-e", "-q",
               "-X", "check.crcs=true"]
    if partition is not None:
        command += ["-p", str(partition)]
    if wait_ms is not None:
        command += ["-X", f"fetch.wait.max.ms={wait_ms}"]
    if form is not None:
        command += ["-f", form]
    with open(path, "wb") as out:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out,
                              stderr=subprocess.PIPE, timeout=timeout_s)
    if done.returncode != 0 or done.stderr.strip():
        raise Failed(f"{' '.join(command)}\nexit code {done.returncode}\n{_text(done.stderr)}")


# -- Java

@contextlib.contextmanager
def _locked(path):
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def jars_of(folder, name):
    """The jars of a client, of which `name` is one."""
    need_command("java")
    jars = os.path.join(CLIENTS, folder, "jars")
    need(folder, bool(glob.glob(os.path.join(jars, name + "-*.jar"))))
    return jars


def _java_classes(folder, *jars):
    """Compile tests/clients/FOLDER once for its sources and jars; return the class path."""
    sources = sorted(glob.glob(os.path.join(SOURCES, folder, "*.java")))
    digest = hashlib.sha256(" ".join(sorted(sum(map(os.listdir, jars), []))).encode())
    for source in sources:
        with open(source, "rb") as text:
            digest.update(text.read())
    made = os.path.join(BUILD, "tests", folder)  # not beside the jars: trees may share these
    os.makedirs(made, exist_ok=True)
    classes = os.path.join(made, "classes-" + digest.hexdigest()[:16])
    with _locked(os.path.join(made, "lock")):
        if not os.path.isdir(classes):
            for old in glob.glob(os.path.join(made, "classes-*")):
                shutil.rmtree(old)
            making = os.path.join(made, "making")
            path = [jar for name in ("kafka-clients", "kafka-streams") for each in jars
                    for jar in glob.glob(os.path.join(each, name + "-*.jar"))]
            run(["javac", "-Xlint:all", "-Werror", "-d", making, "-cp", ":".join(path), *sources])
            os.rename(making, classes)
    return ":".join([classes] + [os.path.join(each, "*") for each in jars])


def _java(class_path, main_class, arguments):
    flags = JAVA_FLAGS + ([] if is_full() else JAVA_FLAGS_SHORT)
    return ["java", *flags, f"-Dlog4j2.configurationFile={SOURCES}/java/log4j2.properties",
            "-cp", class_path, main_class, *[str(part) for part in arguments]]


def java_command(main_class, *arguments):
    class_path = _java_classes("java", jars_of("java", "kafka-tools"))
    return _java(class_path, main_class, arguments)


def streams_command(main_class, *arguments):
    """A class of tests/clients/streams."""
    class_path = _java_classes("streams", jars_of("streams", "kafka-streams"),
                               jars_of("java", "kafka-clients"))
    return _java(class_path, main_class, arguments)


def java(main_class, *arguments, timeout_s=100):
    """Run a class to its end; return the lines of its stdout."""
    out, _ = run(java_command(main_class, *arguments), timeout_s)
    return out.decode().splitlines()


# -- Go

def go_program(name):
    """Build tests/clients/NAME, which the installer has built once, for its dependencies; return its path.
    Go's own cache makes that quick."""
    note = os.path.join(CLIENTS, "go.path")
    need("go", os.path.exists(note))
    need(name, os.path.isdir(os.path.join(CLIENTS, name)) and
         not os.path.exists(os.path.join(CLIENTS, name + ".missing")))
    with open(note) as line:
        go = line.read().strip()
    program = os.path.join(BUILD, "tests", "go", name)
    run([go, "-C", os.path.join(SOURCES, name), "build", "-o", program, "."])
    return program


# -- a client that goes on beside the test

class Child:
    """A client that writes lines to stdout while the test does other things."""

    def __init__(self, command, log_path, env=None):
        self.command, self.log_path = command, log_path
        self.log = open(log_path, "w+b")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT, env=env)

    def output(self):
        with open(self.log_path, "rb") as log:
            return log.read().decode(errors="replace")

    def fail(self, why):
        raise Failed(f"{self.command[0]} {self.command[-3:]}: {why}\n{self.output()[-3000:]}")

    def wait(self, timeout_s):
        """Wait for exit 0; return its lines."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.close()
            self.fail(f"still running after {timeout_s} s")
        if code != 0:
            self.fail(f"exit code {code}")
        return self.output().splitlines()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def python_child(script, *arguments):
    """The command of a helper script under tests/clients in the Python that runs this test."""
    return [sys.executable, os.path.join(SOURCES, script), *[str(part) for part in arguments]]


# -- Python modules

def need_module(name):
    try:
        return __import__(name)
    except ImportError as error:
        need("venv", False)
        raise Skip(f"{name} cannot be imported: {error}") from None
