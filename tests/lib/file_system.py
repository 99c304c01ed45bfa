"""A small file system of its own in a loop-mounted image, to be broken under a broker.

    with FileSystem("ext4") as fs:               or "xfs"
        with Broker(data=[fs.path]) as broker:
            fs.fill(); fs.free()                 no space; space again
            fs.use_inodes(); fs.free()           no inodes; inodes again
            fs.shut_down(); fs.repair()          every operation fails; unmounted, checked, mounted
            fs.fail_device(); fs.mend_device()   the device refuses every access

Needs root and loop devices, else it is a skip with the reason. The mounts are in a mount namespace
of the test's process, and the loop device is one that goes when nobody has it open: however the
test ends, both go with it and its children.
"""
import array
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time

from lib.broker import temp_dir
from lib.clients import need_command
from lib.testcase import Skip

MIB = 1 << 20
SIZES = {"ext4": 160 * MIB, "xfs": 320 * MIB}  # mkfs.xfs makes none below 300 MiB
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"], "xfs": ["mkfs.xfs", "-q", "-f"]}
FSCK = {"ext4": ["e2fsck", "-f", "-y"], "xfs": ["xfs_repair", "-L"]}
FSCK_FINE = {"ext4": (0, 1), "xfs": (0,)}
CLONE_NEWNS = 0x00020000
GOING_DOWN = 0x8004587d  # _IOR('X', 125, __u32): FS_IOC_SHUTDOWN of XFS and ext4
GOING_DOWN_NOLOGFLUSH = 2
LOOP_SET_STATUS64, LOOP_GET_STATUS64 = 0x4c04, 0x4c05
LOOP_INFO64 = struct.Struct("<5Q4I64s64s32s2Q")
SIZE_LIMIT = 4  # its index in LOOP_INFO64


def run(*command, fine=(0,)):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode in fine, f"{' '.join(command)}: {done.stdout[-1000:]}"
    return done.stdout.strip()


def own_mounts():
    """From here on this process's mounts are its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0:
        raise Skip("mounting a file system needs root")
    if libc.unshare(CLONE_NEWNS) != 0:
        raise Skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    run("mount", "--make-rprivate", "/")


class FileSystem:
    def __init__(self, kind, mkfs=(), options="defaults"):
        """mkfs: further arguments; options: of the mount."""
        own_mounts()
        need_command(MKFS[kind][0])
        self.kind, self.options, self.dir = kind, options, temp_dir(kind)
        self.image, self.path = os.path.join(self.dir, "image"), os.path.join(self.dir, "mounted")
        self.filler = os.path.join(self.path, "filler")
        os.mkdir(self.path)
        with open(self.image, "wb") as image:
            image.truncate(SIZES[kind])
        run(*MKFS[kind], *mkfs, self.image)
        done = subprocess.run(["losetup", "--find", "--show", self.image], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Skip(f"no loop device: {done.stderr.strip()}")
        self.device = done.stdout.strip()
        self.held = os.open(self.device, os.O_RDONLY)
        self.mounted = False
        run("losetup", "--detach", self.device)  # when nobody has it open any more

    def __enter__(self):
        try:
            self._mount()
        except AssertionError as error:
            os.close(self.held)
            raise Skip(f"{self.kind} cannot be mounted here: {error}") from None
        return self

    def __exit__(self, *_):
        self.mend_device()
        if self.mounted:
            self.unmount()
        os.close(self.held)
        shutil.rmtree(self.dir)

    def _mount(self):
        run("mount", "-t", self.kind, "-o", self.options, self.device, self.path)
        self.mounted = True

    def unmount(self):
        end = time.monotonic() + 20
        while subprocess.run(["umount", self.path], stderr=subprocess.DEVNULL).returncode != 0:
            assert time.monotonic() < end, f"{self.path} stays in use"
            time.sleep(0.1)
        self.mounted = False

    # -- space and inodes

    def free_bytes(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def fill(self, leave_bytes=0):
        with open(self.filler, "ab") as filler:
            piece = 16 * MIB
            while piece >= 4096:
                want = min(piece, self.free_bytes() - leave_bytes)
                try:
                    if want < 4096:
                        return
                    os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, want)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    piece //= 2

    def use_inodes(self):
        os.mkdir(self.filler)
        try:
            for number in range(1 << 20):
                os.close(os.open(os.path.join(self.filler, str(number)), os.O_CREAT | os.O_WRONLY))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self):
        before = os.statvfs(self.path)
        self._remove_filler()
        end = time.monotonic() + 20
        while not self._has_more_than(before):  # XFS takes its time
            assert time.monotonic() < end, "nothing comes back"
            time.sleep(0.02)

    def _has_more_than(self, before):
        now = os.statvfs(self.path)
        return now.f_bavail > before.f_bavail or now.f_favail > before.f_favail

    def _remove_filler(self):
        if os.path.isdir(self.filler):
            shutil.rmtree(self.filler)
        else:
            os.unlink(self.filler)

    # -- broken as a whole

    def shut_down(self):
        """As after an error that the file system cannot go on from."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, GOING_DOWN, array.array("I", [GOING_DOWN_NOLOGFLUSH]))
        finally:
            os.close(folder)

    def fail_internally(self):
        """ext4 finds an error in itself, and does as its option errors=... says."""
        with open(f"/sys/fs/ext4/{os.path.basename(self.device)}/trigger_fs_error", "w") as out:
            out.write("by a test")

    def repair(self):
        """Unmounted (nobody may use it), checked, mounted again."""
        self.mend_device()
        if self.mounted:
            self.unmount()
        self._mount()  # its own log first
        self.unmount()
        run(*FSCK[self.kind], self.device, fine=FSCK_FINE[self.kind])
        self._mount()

    # -- the device

    def _limit(self, size_bytes):
        device = os.open(self.device, os.O_RDWR)
        try:
            info = bytearray(LOOP_INFO64.size)
            fcntl.ioctl(device, LOOP_GET_STATUS64, info)
            fields = list(LOOP_INFO64.unpack(info))
            if fields[SIZE_LIMIT] != size_bytes:
                fields[SIZE_LIMIT] = size_bytes
                fcntl.ioctl(device, LOOP_SET_STATUS64, LOOP_INFO64.pack(*fields))
        finally:
            os.close(device)

    def fail_device(self, from_bytes=4096):
        """The device ends there of a sudden: an access behind it is EIO; nothing in it changes."""
        self._limit(from_bytes)

    def mend_device(self):
        self._limit(0)
