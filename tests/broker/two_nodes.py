"""The broker on a machine with two NUMA nodes: tests/vm/test.py, in a virtual machine."""
import os
import subprocess
import sys

from lib.broker import BUILD, ROOT
from lib.testcase import SKIP_EXIT, Skip, slow, timeout


@slow
@timeout(900)
def test_two_nodes():
    done = subprocess.run(
        [sys.executable, os.path.join(ROOT, "tests", "vm", "test.py"), "--build", BUILD],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    if done.returncode == SKIP_EXIT:
        raise Skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, "see above"
