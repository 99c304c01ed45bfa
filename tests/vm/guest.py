"""A machine with two NUMA nodes, and a shell in it, for tests that look at it from both sides.

    with Guest(lab, folder, image) as guest:       # booted, with a network to NETWORK.host
        guest.run("mount /dev/nvme0n1 /mnt")        # its output; GuestError if it fails

What it has: four CPUs in two sockets, each with a NUMA node of its own; an NVMe disk with poll queues
  near node 0; a network card with two pairs of queues, on a tap device, near node 1.
Happy path: init's shell() takes one command a line on the serial port, and answers with its exit
  code, the length of its output, and that. Leaving the block turns the machine off.
Failure: GuestError names the command and has its output; LabError has the console.
The tap device is made where we are: in_own_network() starts the program again in a network
  namespace of its own, which ends with it. qemu reads from the tap device by itself, and its
  packets carry virtio's header (vnet_hdr): so the guest's kernel may hand it pages to send.
"""
import os
import socket
import subprocess
import sys
from collections import namedtuple

from vm.lab import LabError, LabMissing, disk, port_to

Network = namedtuple("Network", "host guest tap")
NETWORK = Network(host="10.77.0.1", guest="10.77.0.2", tap="tap0")
NODES = [(0, "0-1"), (1, "2-3")]
POLL_QUEUES = 2
IN_NAMESPACE = "PENSTOCK_VM_NAMESPACE"
BOOT_TIMEOUT_S, COMMAND_TIMEOUT_S, END_TIMEOUT_S = 120, 90, 60
KIT_MODULES = ["virtio_net", "xfs"]


# An emulated kernel that patches its own code while it boots can meet a breakpoint of its own on another
# CPU, and panics; nothing of penstock has run by then.
BOOTS = 3


class GuestError(AssertionError):
    pass


def in_own_network():
    """Returns in the namespace; outside of it, it ends with the exit code of what ran there."""
    if os.environ.get(IN_NAMESPACE):
        return
    for words in (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"]):
        tried = subprocess.run([*words, "ip", "tuntap", "add", "probe0", "mode", "tap"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if tried.returncode == 0:
            os.environ[IN_NAMESPACE] = "1"
            os.execvp("unshare", [*words, sys.executable, *sys.argv])
    raise LabMissing(f"no network namespace with a tap device: {tried.stdout.strip()}")


def network_up():
    for command in ("ip link set lo up",
                    f"ip tuntap add {NETWORK.tap} mode tap vnet_hdr multi_queue",
                    f"ip addr add {NETWORK.host}/24 dev {NETWORK.tap}",
                    f"ip link set {NETWORK.tap} up"):
        done = subprocess.run(command.split(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
        if done.returncode:
            raise LabError(f"{command}: {done.stdout}")


def _hardware(image, port):
    words = ["-smp", "4,sockets=2,cores=2,threads=1", "-m", "2048",
             *port_to(f"socket,path={port}")]  # before the bridges: it is for none of them
    for node, cpus in NODES:
        words += ["-object", f"memory-backend-ram,id=memory{node},size=1024M",
                  "-numa", f"node,nodeid={node},cpus={cpus},memdev=memory{node}",
                  "-device", f"pxb-pcie,id=bridge{node},bus=pcie.0,bus_nr={32 * (node + 1)},"
                  f"numa_node={node}",
                  "-device", f"pcie-root-port,id=slot{node},bus=bridge{node},chassis={node + 1}"]
    words += disk("nvme,serial=data,max_ioqpairs=8,bus=slot0", image, 0)
    words += ["-netdev", f"tap,id=net,ifname={NETWORK.tap},script=no,downscript=no,vnet_hdr=on,"
              "queues=2", "-device", "virtio-net-pci,netdev=net,mq=on,vectors=6,bus=slot1"]
    return words


class Guest:
    def __init__(self, lab, folder, image):
        self.lab, self.console = lab, os.path.join(folder, "console")
        self.port = os.path.join(folder, "port")
        self.image, self.connection, self.answers = image, None, None

    def __enter__(self):
        for _ in range(BOOTS - 1):
            try:
                return self._boot()
            except GuestError as error:
                print(f"the machine did not come up, once more: {error}", flush=True)
        return self._boot()

    def _boot(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.port)
            listener.listen(1)
            listener.settimeout(BOOT_TIMEOUT_S)
            self.machine = self.lab.start(["shell", NETWORK.guest], _hardware(self.image, self.port),
                                          self.console, f"nvme.poll_queues={POLL_QUEUES}")
            self.connection, _ = listener.accept()
        self.connection.settimeout(BOOT_TIMEOUT_S)
        self.answers = self.connection.makefile("rb")
        try:
            self.run("true")
        except BaseException:
            self._end()
            raise
        self.connection.settimeout(COMMAND_TIMEOUT_S)
        return self

    def __exit__(self, kind, *_):
        try:
            self.connection.sendall(b"end\n")
            if kind is None:
                self.lab.finish(self.machine, self.console, END_TIMEOUT_S)
        finally:
            self._end()

    def _end(self):
        self.machine.kill()
        self.machine.wait()
        self.answers.close()
        self.connection.close()
        os.unlink(self.port)

    def try_run(self, command):
        """(exit code, output) of one line for busybox's shell."""
        assert "\n" not in command
        try:
            self.connection.sendall(command.encode() + b"\n")
            head = self.answers.readline().split()
            if len(head) != 2:
                raise GuestError(f"{command}: the machine is gone\n{self._last_words()}")
            return int(head[0]), self.answers.read(int(head[1])).decode(errors="replace")
        except OSError as error:
            raise GuestError(f"{command}: {error}\n{self._last_words()}") from None

    def run(self, command):
        code, said = self.try_run(command)
        if code:
            raise GuestError(f"{command}: exit code {code}\n{said}")
        return said

    def _last_words(self):
        """What the console and, if it has ended, qemu itself said last."""
        with open(self.console, errors="replace") as file:
            lines = file.readlines()[-40:]
        self.machine.kill()
        return "".join(lines) + self.machine.communicate()[0]
