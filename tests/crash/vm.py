"""Power cuts on real file systems, recorded in a virtual machine: a short run of tests/vm/run.py."""
import os
import subprocess
import sys

from lib.broker import BUILD, ROOT, temp_dir
from lib.testcase import Skip, params, slow, timeout

SKIP_EXIT = 77


def vm_crash(*arguments):
    """(exit code, output) of a run that is a skip where the laboratory cannot be had."""
    done = subprocess.run(
        [sys.executable, os.path.join(ROOT, "tests", "vm", "run.py"), "--build", BUILD, "--dir",
         temp_dir("vm"), "--seconds", "8", "--megabytes", "40", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    if done.returncode == SKIP_EXIT:
        raise Skip(done.stdout.splitlines()[-1])
    return done.returncode, done.stdout


@slow
@timeout(1800)
@params("ext4", "xfs")
def test_power_cuts(fs):
    code, _ = vm_crash("--fs", fs, "--points", "60")
    assert code == 0, "see above"


@slow
@timeout(1800)
def test_records_acknowledged_from_memory_are_missed():
    """The rig can see a loss: topics with write.caching lose what was acknowledged last."""
    code, said = vm_crash("--fs", "ext4", "--points", "100", "--seed", "1", "--write-caching",
                          "--write-iops", "50")
    assert code == 1 and "is lost" in said, "no loss was found"
