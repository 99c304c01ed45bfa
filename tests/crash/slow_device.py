"""kill -9 with writes in flight to a slow device: they land after the death of the process that
submitted them, and the next one waits for that."""
import os
import re
import shutil
import time

from lib.broker import Broker, temp_dir
from lib.crash_load import Load
from lib.testcase import Skip, alone, slow, timeout

MIB = 1 << 20


class SlowDevice:
    """A control group whose members write to the disk of a directory only so fast."""

    def __init__(self, directory, bytes_per_s):
        device = os.stat(directory).st_dev
        disk = f"{os.major(device)}:{os.minor(device)}"
        if not os.path.isdir(f"/sys/dev/block/{disk}"):
            raise Skip(f"{directory} is on no block device of its own: nothing to throttle")
        if os.path.exists(f"/sys/dev/block/{disk}/partition"):
            raise Skip(f"{directory} is on a partition, and only whole disks can be throttled")
        v1 = os.path.isdir("/sys/fs/cgroup/blkio")
        self.path = f"/sys/fs/cgroup{'/blkio' if v1 else ''}/penstock-crash-{os.getpid()}"
        try:
            if not v1:
                self._write("/sys/fs/cgroup/cgroup.subtree_control", "+io")
            os.mkdir(self.path)
        except OSError as error:
            raise Skip(f"no control group for block I/O can be made: {error}") from None
        try:
            if v1:
                self._write(f"{self.path}/blkio.throttle.write_bps_device", f"{disk} {bytes_per_s}")
            else:
                self._write(f"{self.path}/io.max", f"{disk} wbps={bytes_per_s}")
        except OSError as error:
            os.rmdir(self.path)
            raise Skip(f"block I/O cannot be throttled here: {error}") from None

    @staticmethod
    def _write(path, text):
        with open(path, "w") as out:
            out.write(text)

    def add(self, pid):
        self._write(f"{self.path}/cgroup.procs", str(pid))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for _ in range(300):
            try:
                os.rmdir(self.path)
                return
            except OSError:  # a killed member's writes are still going on
                time.sleep(0.1)


def wait_for_stall(load, quiet_s=0.4, timeout_s=60):
    """Until nothing becomes visible any more: the queue to the device is full."""
    end, last, at = time.monotonic() + timeout_s, load.seen, time.monotonic()
    while time.monotonic() - at < quiet_s:
        assert time.monotonic() < end, "the device does not get slow"
        time.sleep(0.02)
        load.sync()
        if load.seen != last:
            last, at = load.seen, time.monotonic()


@slow
@alone  # what it holds up holds up everybody's flushes
@timeout(240)
def test_killed_with_writes_in_flight_on_a_slow_device():
    """How much is in flight is chance, and a short wait is not logged: so there are a few rounds."""
    directory = temp_dir("slow")
    with SlowDevice(directory, MIB // 4) as device, \
            Broker(memory="256m", options={"journal.bytes": "32m"}, data=[directory]) as broker, \
            Load(broker) as load:
        for turn in range(6):
            load.wait(300)
            device.add(broker.pid)
            wait_for_stall(load)
            load.kill(broker.kill9)
            broker.start(timeout_s=100)
            load.check()
            said = re.search(r"waiting for the lock of \S+: .*", broker.log())
            print(f"{load.acknowledged} acknowledged, ready {broker.ready_s:.1f} s after the kill: "
                  f"{said and said[0]}")
            if said:
                break
        assert said, f"after {turn + 1} rounds the log does not mention the lock"
        assert broker.ready_s > 1, "logged, but not waited"
        load.stop()
        time.sleep(2)  # nothing of the old process may come later
        broker.kill9()
        broker.start()
        load.check()
    shutil.rmtree(directory)
