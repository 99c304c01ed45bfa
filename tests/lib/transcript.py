"""Transcripts: commands, and below each what must be printed.

    # a comment
    > describe TOPIC one retention.ms
    retention.ms=5 DYNAMIC_TOPIC_CONFIG LONG
    penstock| what only penstock prints
    kafka| what only Apache Kafka prints; the comment above says why

A command's words are split as a shell would. What differs from run to run is replaced on both sides.
"""
import json
import os
import re
import shlex

from lib.broker import is_peer, temp_dir
from lib.clients import java

NOISE = re.compile(r"^\s+at \S+\(.*\)$")
VOLATILE = [(re.compile(r"TopicId: \S+"), "TopicId: *"),
            (re.compile(r"--bootstrap-server \S+"), "--bootstrap-server *"),
            (re.compile(r"^\[\d{4}-[^]]*\]"), "[TIME]"),
            (re.compile(r'"log_dirs":\["/[^]]*\]'), '"log_dirs":"*"'),
            (re.compile(r'"logDir":"[^"]*"'), '"logDir":"*"')]


def _in_order(line):
    """Java's tools print the keys of JSON objects in the order of the day."""
    try:
        return json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"))
    except ValueError:
        return line


def _masked(line):
    for pattern, instead in VOLATILE:
        line = pattern.sub(instead, line)
    line = line.rstrip()
    return _in_order(line) if line.startswith("{") else line


def read(path):
    """[(words of the command, lines that must follow)]"""
    skipped, chosen = ("penstock| ", "kafka| ") if is_peer() else ("kafka| ", "penstock| ")
    commands = []
    with open(path) as lines:
        for line in lines:
            line = line.rstrip("\n")
            if line.startswith("#") or line.startswith(skipped.rstrip()) or not line:
                continue
            if line.startswith("> "):
                commands.append((shlex.split(line[2:]), []))
                continue
            line = line[len(chosen):] if line.startswith(chosen.rstrip()) else line
            commands[-1][1].append(_masked(line))
    return commands


def run(broker, commands, timeout_s=200, mask=True):
    """The words of the commands through AdminScript: for each, the lines that it printed."""
    script = os.path.join(temp_dir("script"), "script")
    with open(script, "w") as out:
        for words in commands:
            out.write("\t".join(map(str, words)) + "\n")
            if is_peer() and ("alter" in "".join(map(str, words)) or "--delete" in words):
                out.write("sleep\t300\n")  # it answers before its nodes know
    printed = []
    for line in java("AdminScript", broker.bootstrap, script, timeout_s=timeout_s):
        if line.startswith("> "):
            is_sleep = line.startswith("> sleep")
            printed += [] if is_sleep else [[]]
        elif line.strip() and not NOISE.match(line):
            printed[-1].append(_masked(line) if mask else line.rstrip())
    return printed


def check(broker, path):
    commands = read(path)
    printed = run(broker, [words for words, _ in commands])
    assert len(printed) == len(commands), f"{len(commands)} commands, {len(printed)} answers"
    wrong = [f"> {shlex.join(words)}\n  wanted: {want}\n  got:    {got}"
             for (words, want), got in zip(commands, printed) if want != got]
    assert not wrong, "\n".join(wrong)
