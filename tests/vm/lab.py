"""The laboratory: a virtual machine of qemu with a kernel, an initramfs and disks of our own.

    lab = Lab(build, POWER_CUTS)           # LabMissing with the reason, when something is not there
    lab.run(["record", ...], [*SMALL, *disk(...), *port_to_file(path)], console, timeout_s,
            files={"job/plan": path})

Happy path: the kernel is Debian's cloud kernel, unpacked under build/vm by tests/install.sh --vm; the
  initramfs is packed anew for each run from busybox and what a Kit names: our programs with the
  shared libraries that they name, scripts of this folder, kernel modules with what those need.
  run() returns when the machine is off and its console says "vm: ... s: done"; start() and finish()
  are its two halves, for who has something to do with the machine meanwhile.
Failure: LabMissing for what cannot be had, LabError for a machine that failed or did not end.
Nothing in it needs KVM.
"""
import glob
import lzma
import os
import re
import shutil
import stat
import subprocess
from collections import namedtuple

HERE = os.path.dirname(os.path.abspath(__file__))
Kit = namedtuple("Kit", "programs scripts modules")
SMALL = ["-smp", "2", "-m", "2048"]
DONE = re.compile(r"^vm: [\d.]+ s: done\s*$")
QEMU = "qemu-system-x86_64"
# Emulated: works everywhere, also where there is a /dev/kvm that does not. qemu 7.2 spoils the flags
# of CMPXCHG16B (seen: a garbled EFLAGS, then the kernel's allocator crashes), so the CPU has none.
CPU = ["-accel", "tcg,thread=multi", "-cpu", "Nehalem,-cx16"]


class LabMissing(Exception):
    """What the lab needs is not to be had here; the message says what."""


class LabError(Exception):
    pass


class Initramfs:
    """A cpio archive of the "newc" form (kernel document driver-api/early-userspace/buffer-format)."""

    def __init__(self):
        self.parts, self.names = [], set()

    def _entry(self, name, mode, data):
        number = len(self.names) + 1
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]
        self.names.add(name)

    def folder(self, path):
        if path and path not in self.names:
            self.folder(os.path.dirname(path))
            self._entry(path, stat.S_IFDIR | 0o755, b"")

    def add(self, path, data, mode=0o755):
        path = path.lstrip("/")
        if path not in self.names:
            self.folder(os.path.dirname(path))
            self._entry(path, stat.S_IFREG | mode, data)

    def add_file(self, path, source):
        with open(source, "rb") as file:
            self.add(path, file.read())

    def add_program(self, path, source):
        self.add_file(path, source)
        for library in libraries(source):
            self.add_file(library, library)

    def write(self, path):
        for empty in ("proc", "sys", "dev", "tmp", "bin"):
            self.folder(empty)
        self._entry("TRAILER!!!", 0, b"")
        with open(path, "wb") as file:
            file.write(b"".join(self.parts))


def libraries(program):
    """Paths of the shared libraries and the loader that a program is started with, if any."""
    said = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          text=True).stdout
    return re.findall(r"(?:=> |^\s*)(/\S+)", said, re.MULTILINE)


def disk(device, path, number, *limits):
    """device as -device names it, limits: further words for -drive."""
    # unsafe: what the machine flushes need not be on the host's disk; only what it sent counts
    drive = [f"file={path},format=raw,if=none,id=d{number},cache=unsafe", *limits]
    return ["-drive", ",".join(drive), "-device", f"{device},drive=d{number}"]


def port_to_file(path):
    """What the guest writes to its port goes to this file."""
    return port_to(f"file,path={path}")


def port_to(chardev):
    return ["-device", "virtio-serial-pci", "-chardev", f"{chardev},id=port",
            "-device", "virtserialport,chardev=port,name=port"]


class Lab:
    def __init__(self, build, kit):
        self.build, self.kit = build, kit
        self.folder = os.path.join(build, "vm")
        os.makedirs(self.folder, exist_ok=True)
        kernels = sorted(glob.glob(os.path.join(self.folder, "kernel", "boot", "vmlinuz-*")))
        if not kernels:
            reason = os.path.join(self.folder, "kernel.missing")
            why = open(reason).read().strip() if os.path.exists(reason) else \
                "not installed: tests/install.sh --vm"
            raise LabMissing(f"the kernel of the virtual machine: {why}")
        self.kernel = kernels[-1]
        self.busybox = self._need("busybox", "/bin/busybox", "/usr/bin/busybox")
        for command in (QEMU, "mkfs.ext4", "mkfs.xfs"):
            self._need(command, shutil.which(command, path=os.environ["PATH"] + ":/usr/sbin"))

    @staticmethod
    def _need(name, *paths):
        for path in paths:
            if path and os.path.exists(path):
                return path
        raise LabMissing(f"{name} is not installed: tests/install.sh --vm")

    # -- the initramfs

    def _module(self, name):
        """The module's bytes, unpacked, and the names of those that it needs."""
        version = os.path.basename(self.kernel)[len("vmlinuz-"):]
        tree = os.path.join(self.folder, "kernel", "lib", "modules", version, "kernel")
        for spelled in {name, name.replace("_", "-"), name.replace("-", "_")}:
            for path in glob.glob(os.path.join(tree, "**", spelled + ".ko.xz"), recursive=True):
                with lzma.open(path) as file:
                    data = file.read()
                needs = re.search(rb"\0depends=([^\0]*)\0", data).group(1).decode()
                return data, [need for need in needs.split(",") if need]
        raise LabMissing(f"the kernel has no module {name}")

    def _add_module(self, archive, name, order):
        if name in order:
            return
        data, needs = self._module(name)
        for need in needs:
            self._add_module(archive, need, order)
        archive.add(f"modules/{name}.ko", data)
        order.append(name)

    def _pack(self, path, files):
        archive, order = Initramfs(), []
        archive.add_file("init", os.path.join(HERE, "init"))
        archive.add_program("bin/busybox", self.busybox)
        for name in self.kit.modules:
            self._add_module(archive, name, order)
        archive.add("modules/order", "".join(f"{name}.ko\n" for name in order).encode())
        for name in self.kit.scripts:
            archive.add_file("penstock/" + name, os.path.join(HERE, name))
        for name in self.kit.programs:
            archive.add_program("penstock/" + os.path.basename(name),
                                os.path.join(self.build, name))
        for name, source in files.items():
            archive.add_file(name, source)
        archive.write(path)

    # -- the machine

    def start(self, arguments, hardware, console, kernel_words="", files=None):
        """hardware: words for qemu: processors, memory, devices; console: a file that is written."""
        initramfs = os.path.join(os.path.dirname(console), "initramfs")
        self._pack(initramfs, files or {})
        command = [QEMU, "-machine", "q35", *CPU, *hardware, "-display", "none", "-no-reboot",
                   "-nodefaults", "-serial", f"file:{console}", "-kernel", self.kernel, "-initrd",
                   initramfs, "-append",
                   f"console=ttyS0 quiet loglevel=4 panic=-1 {kernel_words} -- " + " ".join(arguments)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)

    def finish(self, machine, console, timeout_s):
        """The console's lines, when the machine has turned itself off and all went well."""
        try:
            said, _ = machine.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            said = f"not off after {timeout_s} s"
        finally:
            machine.kill()
            machine.wait()
            os.unlink(os.path.join(os.path.dirname(console), "initramfs"))
        with open(console, errors="replace") as file:
            lines = file.read().splitlines()
        if not any(DONE.match(line) for line in lines):
            raise LabError("\n".join([f"the virtual machine failed: {said}", *lines[-60:]]))
        return lines

    def run(self, arguments, hardware, console, timeout_s, files=None):
        return self.finish(self.start(arguments, hardware, console, files=files), console,
                           timeout_s)
