# SPDX-License-Identifier: Apache-2.0
"""The test bed of bench_migration, and what is read from it: the wire's counter, CPU time of all that takes part."""
import os
import subprocess
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTBED = os.path.join(HERE, "../../testbed/testbed")
NAME = "bench-migration"
BED = os.path.join(os.environ.get("HCI_TESTBED_DIR", "/var/tmp/hci-testbed"), NAME)
NODES = ("n1", "n2")


def tb(*args, **kw):
    return subprocess.run([TESTBED, "--name", NAME, *args], check=True, stdout=subprocess.PIPE, text=True, **kw).stdout


def other(node):
    return "n2" if node == "n1" else "n1"


def up(owner):
    tb("up", "--nodes", "2", "--disks", "1", "--disk-size", "8G", "--libvirt", "--owner", str(owner))
    # BBR reckons with a round trip of a microsecond between namespaces, and then does not fill the link. For all ways alike. Not every
    # kernel lets a namespace choose CUBIC; Reno is there in all.
    for n in NODES:
        tb("exec", n, "sh", "-c", "sysctl -qw net.ipv4.tcp_congestion_control=cubic 2>/dev/null || sysctl -qw net.ipv4.tcp_congestion_control=reno")


def down():
    subprocess.run([TESTBED, "--name", NAME, "down"], stdout=subprocess.DEVNULL)


def rate(r):
    for n in NODES:
        tb("rate", n, r)


def wait_for(what, seconds, test):
    end = time.time() + seconds
    while not test():
        if time.time() > end:
            raise SystemExit(f"bench_migration: {what}: not within {seconds} s")
        time.sleep(0.2)


def said(path, text, since=0):
    try:
        with open(path, errors="replace") as f:
            f.seek(since)
            return text in f.read()
    except FileNotFoundError:
        return False


def cpu():
    """Seconds of all that belongs to it, by who and where: of those that run, and (the init's) of those that ended."""
    out = {}
    for n in NODES:
        for line in tb("exec", n, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || :").splitlines():
            name, rest = line[line.index("(") + 1:line.rindex(")")], line[line.rindex(")") + 2:].split()
            ticks = 0
            if name.startswith(("qemu-system", "hci-node", "libvirtd")):
                ticks = int(rest[11]) + int(rest[12])
            if line.startswith("1 "):
                name, ticks = "ended", int(rest[13]) + int(rest[14])
            if ticks:
                who = f"{name.removesuffix('-x86')} {n}"
                out[who] = out.get(who, 0) + ticks / os.sysconf("SC_CLK_TCK")
    return out


def used(now, before):
    """By who; nobody computes backwards: what ended has left its own line for the init's."""
    by = {who: now.get(who, 0) - before.get(who, 0) for who in {*now, *before}}
    return sum(by.values()), {who: round(s, 1) for who, s in sorted(by.items()) if round(s, 1)}


def sent(node):
    return int(tb("exec", node, "cat", "/sys/class/net/eth0/statistics/tx_bytes"))


def size(path):
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


class Pause(threading.Thread):
    """How long a guest was silent: from its last dot at the source's console to its first at the destination's."""

    def __init__(self, source, destination):
        super().__init__(daemon=True)
        self.paths, self.ended, self.last, self.first = (source, destination), False, None, None
        self.start()

    def run(self):
        was = [size(p) for p in self.paths]
        while not self.ended and not self.first:
            time.sleep(0.005)
            now = [size(p) for p in self.paths]
            if now[0] > was[0]:
                self.last = time.time()
            if now[1] > was[1]:
                self.first = time.time()
            was = now

    def ms(self):
        wait_until = time.time() + 5
        while self.is_alive() and time.time() < wait_until:
            time.sleep(0.01)
        self.ended = True
        return round((self.first - self.last) * 1000) if self.first and self.last else None


ALIVE = 10  # bytes a second at the console: a guest that runs says fifty


class Meter:
    """What crossed the source's interface and what all parties computed, from now on; whether the guests run, by their consoles."""

    def __init__(self, source, consoles):
        before, t, said_ = cpu(), time.time(), [size(c) for c in consoles]
        time.sleep(1.5)
        self.source, self.consoles = source, consoles
        self.beats = min((size(c) - s) / (time.time() - t) for c, s in zip(consoles, said_))
        self.before = [size(c) for c in consoles]
        self.cpu, self.start = cpu(), time.time()
        self.idle = used(self.cpu, before)[0] / (self.start - t)
        self.wire = sent(source)

    def read(self, out):
        out["wire"] = sent(self.source) - self.wire
        took, (all_of_it, by) = time.time() - self.start, used(cpu(), self.cpu)
        out["cpu_s"] = round(all_of_it, 1)
        # Under TCG the guest's own work is most of it: what it took a second before.
        out["cpu_guest_s"] = round(min(self.idle * took, all_of_it), 1)
        out["cpu_by"] = by
        out["guest_beats_s"] = round(self.beats)
        return out

    def counts(self, out, arrived):
        """A move counts if each guest ran, and so changed memory, before it, on its way and after it. arrived: its new consoles."""
        if "failed" in out:
            return out
        still = [c for c, s in zip(self.consoles, self.before) if size(c) == s]
        if self.beats < ALIVE:
            why = f"before it: {self.beats:.0f} bytes a second at its console"
        elif still:
            why = "while its memory was copied"
        else:
            was = [size(c) for c in arrived]
            end = time.time() + 10
            while any(size(c) == s for c, s in zip(arrived, was)) and time.time() < end:
                time.sleep(0.05)
            if all(size(c) > s for c, s in zip(arrived, was)):
                return out
            why = "within 10 s after it"
        return {"failed": f"does not count: the guest did not run {why}", "of": out}
