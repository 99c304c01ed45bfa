#!/usr/bin/env python3
"""Power cuts on real file systems: `make vm-crash` (README.md here says how it works).

Happy path: for each file system record in the virtual machine, plan the power cuts, check them, and
  print "vm-crash FS: ..." with the counts. Exit 0 only if points with acknowledged records were
  checked on every file system asked for, and nothing was wrong.
Failure: each failed point is printed with what is wrong in it; the image as its power cut left it
  stays in build/vm/FS (--dir), with the command that looks at it. Exit 1. Exit 77, reason in the last line:
  the lab cannot be had here.
"""
import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from lib.broker import Ports  # noqa: E402
from vm.lab import Kit, Lab, LabError, LabMissing, SMALL, disk, port_to_file  # noqa: E402

MIB = 1 << 20
KIT = Kit(programs=["penstock", "tests/vm-mapper", "tests/vm-produce", "tests/vm-check",
                    "tests/vm-replay"],
          scripts=["broker.sh", "points.sh"],
          modules=["virtio_blk", "dm-log-writes", "loop", "xfs"])
DEVICE_BYTES, LOG_BYTES = 512 * MIB, 8192 * MIB
SKIP_EXIT = 77
BOOT_TIMEOUT_S, POINT_TIMEOUT_S = 300, 120
GUEST_BOOTSTRAP = "127.0.0.1:9092"
FILE_SYSTEMS = {
    # Nothing is left to be made in the background: the image is the same as after a long while.
    "ext4": {"mkfs": ["mkfs.ext4", "-q", "-F", "-E",
                      "lazy_itable_init=0,lazy_journal_init=0,nodiscard"], "disk": "virtio"},
    "xfs": {"mkfs": ["mkfs.xfs", "-q", "-f", "-K"], "disk": "nvme"},
}
DISKS = {"virtio": "virtio-blk-pci", "nvme": "nvme,serial=data"}
POINT = re.compile(r"^point (\d+) (\w+) (\d+) (\d+) (?:ok (\d+) (\d+)|FAILED (.*))$")


def run_tool(*command, **keywords):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **keywords)
    if done.returncode:
        raise LabError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def make_image(path, size):
    with open(path, "wb") as file:
        file.truncate(size)


class Tally:
    """What the points said."""

    def __init__(self):
        self.checked, self.with_acks, self.acks, self.read = 0, 0, 0, 0
        self.kinds, self.failed = {}, []

    def take(self, line):
        """True when the line was a point's result."""
        match = POINT.match(line)
        if not match:
            return False
        number, kind, entry, seed, acks, read, why = match.groups()
        self.checked += 1
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if why is not None:
            self.failed.append((number, kind, entry, seed))
        else:
            self.with_acks += int(acks) > 0
            self.acks += int(acks)
            self.read += int(read)
        return True


class Run:
    """One file system: recorded, replayed, checked."""

    def __init__(self, lab, options, fs):
        self.lab, self.options, self.fs = lab, options, fs
        self.disk = options.disk or FILE_SYSTEMS[fs]["disk"]
        self.dir = os.path.join(options.dir, fs)
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.base, self.log, self.ledger, self.plan = (
            os.path.join(self.dir, name) for name in ("base.img", "log.img", "ledger", "plan"))
        self.tally = Tally()

    def tool(self, name):
        return os.path.join(self.options.build, "tests", "vm-" + name)

    def say(self, text):
        print(f"{self.fs}: {text}", flush=True)

    # -- record

    def record(self):
        make_image(self.base, DEVICE_BYTES)
        run_tool(*FILE_SYSTEMS[self.fs]["mkfs"], self.base,
                 env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))
        device = os.path.join(self.dir, "device.img")
        run_tool("cp", "--sparse=always", self.base, device)
        make_image(self.log, LOG_BYTES)
        names = ("/dev/vda", "/dev/vdb") if self.disk == "virtio" else ("/dev/nvme0n1", "/dev/vda")
        configs = ["write.caching=true"] if self.options.write_caching else []
        begin = time.monotonic()
        console = self.lab.run(
            ["record", GUEST_BOOTSTRAP, self.fs, *names, self.options.seconds,
             self.options.megabytes, self.options.seed, *configs],
            [*SMALL,
             *disk(DISKS[self.disk], device, 0, f"throttling.iops-write={self.options.write_iops}"),
             *disk(DISKS["virtio"], self.log, 1), *port_to_file(self.ledger)],
            os.path.join(self.dir, "console"), BOOT_TIMEOUT_S + 20 * int(self.options.seconds))
        os.unlink(device)
        for line in console:
            if line.startswith(("acknowledged", "first failed")):
                self.say(f"recorded in {time.monotonic() - begin:.0f} s: {line.strip()}")

    def make_plan(self):
        entries = run_tool(self.tool("replay"), "list", self.log).splitlines()
        self.entries = len(entries)
        self.flushes = sum(bool(re.search(r" flush| fua", entry)) for entry in entries)
        self.runs = sum(int(entry.split()[4]) >= MIB for entry in entries)
        plan = run_tool(self.tool("replay"), "plan", self.log, self.options.points,
                        self.options.seed)
        with open(self.plan, "w") as file:
            file.write(plan)
        self.points = len(plan.splitlines())
        self.say(f"{self.entries} entries in the write log, {self.flushes} flushes, "
                 f"{self.points} power cuts planned")

    # -- check

    def check(self):
        if self.options.check == "guest" or not self.host_can_mount():
            self.check_in_guest()
        else:
            self.check_here()
        if self.tally.checked != self.points:
            raise LabError(f"only {self.tally.checked} of {self.points} points have a result")

    def host_can_mount(self):
        """Root, loop devices and the file system are there: tried out."""
        with tempfile.TemporaryDirectory(dir=self.dir) as folder:
            tried = subprocess.run(
                ["unshare", "--mount", "mount", "-t", self.fs, "-o", "loop,ro", self.base, folder],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if tried.returncode and self.options.check == "host":
            raise LabError(f"cannot mount here: {tried.stdout}")
        if tried.returncode:
            self.say(f"checks in the virtual machine, for here: {tried.stdout.strip()}")
        return tried.returncode == 0

    def check_here(self):
        """In a mount namespace of its own: however this ends, mounts and loop devices end too."""
        scratch = tempfile.mkdtemp(prefix="penstock-vm-", dir=self.memory_folder())
        ports, script = Ports(2), None
        try:
            stable, work = os.path.join(scratch, "stable"), os.path.join(scratch, "work")
            run_tool("cp", "--sparse=always", self.base, stable)
            run_tool("cp", "--sparse=always", self.base, work)
            os.mkdir(os.path.join(scratch, "mount"))
            env = dict(os.environ, LOG=self.log, STABLE=stable, WORK=work, FS=self.fs,
                       MOUNT=os.path.join(scratch, "mount"), MOUNT_OPTIONS="-o loop",
                       PLAN=self.plan, LEDGER=self.ledger, OUT=self.dir,
                       BOOTSTRAP=f"127.0.0.1:{ports.first}",
                       TOOLS=os.path.join(self.options.build, "tests"),
                       PATH=os.path.dirname(self.options.binary) + ":" + os.environ["PATH"])
            script = subprocess.Popen(["unshare", "--mount", "sh", os.path.join(HERE, "points.sh")],
                                      env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
            for line in script.stdout:
                self.take(line.rstrip("\n"))
            if script.wait():
                raise LabError("points.sh ended early")
        finally:
            if script and script.poll() is None:
                script.terminate()
                script.wait()
            ports.close()
            shutil.rmtree(scratch)

    @staticmethod
    def memory_folder():
        """Where a flush costs nothing, if there is room for the two images."""
        shm = "/dev/shm"
        if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 4 * DEVICE_BYTES:
            return shm
        return None

    def check_in_guest(self):
        results = os.path.join(self.dir, "results")
        self.lab.run(["points", GUEST_BOOTSTRAP, self.fs, "/dev/vda", "/dev/vdb"],
                     [*SMALL, *disk(DISKS["virtio"], self.base, 0),
                      *disk(DISKS["virtio"], self.log, 1), *port_to_file(results)],
                     os.path.join(self.dir, "console.points"),
                     BOOT_TIMEOUT_S + POINT_TIMEOUT_S * self.points,
                     files={"job/plan": self.plan, "job/ledger": self.ledger})
        with open(results, errors="replace") as file:
            for line in file:
                self.take(line.rstrip("\n"))

    def take(self, line):
        is_result = self.tally.take(line)
        if not is_result or " FAILED " in line:
            self.say(line)
        elif self.tally.checked % 25 == 0:
            self.say(f"{self.tally.checked} of {self.points} points checked, "
                     f"{len(self.tally.failed)} failed")

    # -- the end

    def report(self):
        tally = self.tally
        if tally.failed:
            self.keep_image(*tally.failed[0])
        print(f"vm-crash {self.fs}: disk={self.disk} log entries={self.entries} "
              f"flush points={self.flushes} writes>=1MiB={self.runs} "
              f"points checked={tally.checked} ({self.kinds()}) "
              f"with acknowledged records={tally.with_acks} "
              f"acknowledged records checked={tally.acks} records read={tally.read} "
              f"failures={len(tally.failed)}", flush=True)
        if not tally.failed and not self.options.keep:
            for path in (self.base, self.log):
                os.unlink(path)
        return tally.with_acks > 0 and not tally.failed

    def kinds(self):
        return ", ".join(f"{kind} {count}" for kind, count in sorted(self.tally.kinds.items()))

    def keep_image(self, number, kind, entry, seed):
        """The first failed point once more, as the power cut left it, before any mount."""
        image, stable = os.path.join(self.dir, "failed.img"), os.path.join(self.dir, "failed.stable")
        run_tool("cp", "--sparse=always", self.base, stable)
        run_tool("cp", "--sparse=always", self.base, image)
        run_tool(self.tool("replay"), "cut", self.log, stable, 0, image, kind, entry, seed)
        os.unlink(stable)
        self.say(f"point {number} as the power cut left it: mount -o loop {image} /mnt; "
                 f"the broker's directory is /mnt/data, the ledger {self.ledger} (the first lines "
                 f"count: last column of {self.plan}), the write log {self.log}")


def parse_options():
    parser = argparse.ArgumentParser(description="Power cuts on real file systems.")
    parser.add_argument("--fs", default="ext4,xfs", help="file systems (default: ext4,xfs)")
    parser.add_argument("--points", type=int, default=200, help="power cuts each (default: 200)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of load and points")
    parser.add_argument("--seconds", default="20", help="how long the load lasts (default: 20)")
    parser.add_argument("--megabytes", default="120", help="how much it produces (default: 120)")
    parser.add_argument("--disk", choices=sorted(DISKS),
                        help="(default: ext4 on virtio, without FUA writes; xfs on nvme, with them)")
    parser.add_argument("--write-iops", default="400", help="writes a second of that disk, 0: as "
                        "fast as it can. Slow: what is acknowledged too early is seen (default: 400)")
    parser.add_argument("--check", choices=["auto", "host", "guest"], default="auto",
                        help="where points are mounted (default: here, if that can be done)")
    parser.add_argument("--write-caching", action="store_true",
                        help="topics that acknowledge from memory: this run has to fail")
    parser.add_argument("--keep", action="store_true", help="keep the images")
    parser.add_argument("--dir", help="where images and logs go (default: vm in the build's)")
    parser.add_argument("--build", default="build", help="where `make` put things")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    options.dir = os.path.abspath(options.dir or os.path.join(options.build, "vm"))
    options.binary = os.path.join(options.build, "penstock")
    options.seed, options.points = str(options.seed), str(options.points)
    for fs in options.fs.split(","):
        if fs not in FILE_SYSTEMS:
            parser.error(f"{fs} is none of {', '.join(FILE_SYSTEMS)}")
    return options


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    print(f"seed {options.seed}", flush=True)
    try:
        lab, good = Lab(options.build, KIT), True
        for fs in options.fs.split(","):
            run = Run(lab, options, fs)
            run.record()
            run.make_plan()
            run.check()
            good = run.report() and good
    except LabMissing as missing:
        print(missing)
        return SKIP_EXIT
    except LabError as error:
        print(f"vm-crash: {error}")
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
