#!/usr/bin/env python3
"""Fuzzes each target in turn and says how many inputs each has seen.

    tests/fuzz/run.py --time 60                 seconds for each of all targets
    tests/fuzz/run.py --time 600 --targets log,meta
    tests/fuzz/run.py --merge --targets log     what build/fuzz/corpus/log has found, as few and short
                                                inputs as say the same, added to tests/fuzz/corpus/log

`make fuzz TIME=60` builds and runs this. New inputs gather in build/fuzz/corpus/TARGET, from where
the next run goes on. An input that a target fails on is kept in build/fuzz/findings; the exit code
is 1 then, when every target has had its time.
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build", "fuzz")
CORPUS = os.path.join(ROOT, "tests", "fuzz", "corpus")
FINDINGS = os.path.join(BUILD, "findings")
# Longest input worth trying, where it is not 4096: a patch is a few bytes, JSON is wordy.
MAX_BYTES = {"log": 256, "meta": 512, "config": 1024, "report": 8192, "words": 300}
# One input: seconds, MiB. Where one takes a second, something has no bound.
LIMITS = ["-timeout=10", "-rss_limit_mb=2048"]


def program(target):
    return os.path.join(BUILD, "tests", "fuzz-" + target)


def known_targets():
    paths = glob.glob(os.path.join(BUILD, "tests", "fuzz-*"))
    return sorted(os.path.basename(path)[len("fuzz-"):] for path in paths
                  if os.access(path, os.X_OK) and "." not in os.path.basename(path))


def environment():
    env = dict(os.environ)
    # Freed memory is kept from use for less long: several times as many inputs a second.
    env.setdefault("ASAN_OPTIONS", "quarantine_size_mb=4")
    return env


def corpora(target):
    grown = os.path.join(BUILD, "corpus", target)
    kept = os.path.join(CORPUS, target)
    os.makedirs(grown, exist_ok=True)
    return grown, kept


def number(pattern, text):
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def fuzz(target, seconds):
    """(executions, inputs in the corpus, coverage, paths of findings)"""
    grown, kept = corpora(target)
    command = [program(target), f"-max_total_time={seconds}", "-print_final_stats=1",
               f"-max_len={MAX_BYTES.get(target, 4096)}", "-len_control=20", *LIMITS,
               f"-artifact_prefix={FINDINGS}/{target}-", grown, kept]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           errors="replace", env=environment())
    said = ended.stderr
    findings = re.findall(r"Test unit written to (\S+)", said)
    if ended.returncode != 0 and not findings:
        findings = [f"exit code {ended.returncode}"]
    if findings:
        print(f"---- {target}\n{said[-6000:]}", flush=True)
    return (number(r"stat::number_of_executed_units:\s*(\d+)", said),
            number(r"corp: (\d+)/", said), number(r"cov: (\d+)", said), findings)


def fuzz_all(targets, seconds):
    os.makedirs(FINDINGS, exist_ok=True)
    lines, found = [], []
    for target in targets:
        print(f"{target} ...", flush=True)
        executions, inputs, coverage, findings = fuzz(target, seconds)
        lines.append(f"{target:<12} {executions:>12} {executions // max(seconds, 1):>9} "
                     f"{inputs:>7} {coverage:>9} {len(findings):>9}")
        found += [f"{target}: {path}" for path in findings]
    print(f"\n{'target':<12} {'executions':>12} {'a second':>9} {'inputs':>7} {'coverage':>9} "
          f"{'findings':>9}")
    print("\n".join(lines))
    for finding in found:
        print(f"FINDING {finding}")
    return 1 if found else 0


def merge(target):
    """Inputs that are kept stay; what adds coverage to them comes from the grown corpus."""
    grown, kept = corpora(target)
    with tempfile.TemporaryDirectory() as fresh:
        for path in glob.glob(os.path.join(kept, "*")):
            shutil.copy(path, fresh)
        before = set(os.listdir(fresh))
        subprocess.run([program(target), "-merge=1", f"-max_len={MAX_BYTES.get(target, 4096)}",
                        *LIMITS, fresh, grown], check=True, env=environment(),
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name in set(os.listdir(fresh)) - before:
            shutil.copy(os.path.join(fresh, name), os.path.join(kept, name[:12]))
        print(f"{target}: {len(before)} inputs, {len(os.listdir(kept))} now")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=int, default=60, help="seconds for each target")
    parser.add_argument("--targets", help="their names, with commas")
    parser.add_argument("--merge", action="store_true")
    options = parser.parse_args()
    targets = options.targets.split(",") if options.targets else known_targets()
    unknown = [target for target in targets if target not in known_targets()]
    if unknown or not targets:
        print(f"no such target: {', '.join(unknown) or 'none is built'}; see make fuzz")
        return 2
    if options.merge:
        for target in targets:
            merge(target)
        return 0
    return fuzz_all(targets, options.time)


if __name__ == "__main__":
    sys.exit(main())
