"""The simulator (README.md in this folder): fixed seeds, the same trace twice, a sample of the
sweep; with --all more seeds, the whole sweep, and broken builds."""
import os
import subprocess
import sys
import time

from lib.testcase import alone, sanitized, slow, timeout

HERE = os.path.dirname(os.path.abspath(__file__))


def binary():
    """Beside the broker under test, so also of the sanitized build."""
    return os.path.join(os.path.dirname(os.environ["PENSTOCK_BINARY"]), "tests", "penstock-sim")


def simulate(*options):
    run = subprocess.run([binary(), "--jobs", "1", *map(str, options)], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace")
    print(run.stdout)
    assert run.returncode == 0, f"exit code {run.returncode}"


@timeout(300)
def test_seeds():
    simulate("--seed", 1, "--seeds", 30)


@timeout(300)
def test_seeds_that_found_something():
    """22, 64: a failed run taken for a durable one. 39: a high watermark below the records. 149: an
    assertion at a stop that could not wait. 305: a shard that spun. 693: a journal forgotten when
    shards became fewer, in a start that failed, and then more. 469, 681: writes counted that another
    file's failed flush had taken. 1028: a stop that gave up before the journal had room."""
    for seed in (22, 39, 64, 149, 305, 469, 681, 693, 1028):
        simulate("--seed", seed)


@sanitized
@timeout(300)
def test_some_seeds():
    simulate("--seed", 1001, "--seeds", 4)


@timeout(300)
def test_same_seed_same_trace():
    simulate("--twice", "--seed", 2001, "--seeds", 3)


@timeout(300)
def test_sample_of_the_sweep():
    """Another sample each day."""
    simulate("--sweep", "--step", 10, "--seed", int(time.time()) // 86400)


@slow
@timeout(3600)
def test_new_seeds():
    simulate("--seed", f"{int(time.time())}000", "--seconds", 900)


@slow
@timeout(3600)
def test_whole_sweep():
    simulate("--sweep")


@slow
@alone
@timeout(5400)
def test_broken_builds_are_caught():
    build = os.path.dirname(os.environ["PENSTOCK_BINARY"])
    subprocess.run([sys.executable, os.path.join(HERE, "mutants.py"), "--build", build],
                   check=True)
