# SPDX-License-Identifier: Apache-2.0
"""A place for a system under test, and its end: a scratch folder that is locked while its run lives,
control groups for CPU time and disk throttles, and processes in namespaces of their own that die with us."""
import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CGROUP = "/sys/fs/cgroup"


class Failed(Exception):
    pass


def run(*argv, **kw):
    """Output of a command; its own words are in the error."""
    r = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kw)
    if r.returncode:
        raise Failed(f"{' '.join(map(str, argv))}: exit status {r.returncode}: {r.stdout.strip()[-800:]}")
    return r.stdout


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def load_average():
    return round(os.getloadavg()[0], 1)


class Group:
    """A control group of one controller, in version 1's or version 2's tree. Made outside, found again inside."""

    def __init__(self, controller, name):
        v1 = os.path.join(CGROUP, controller)
        self.v1 = os.path.isdir(v1)
        if not self.v1 and not os.path.exists(f"{CGROUP}/cgroup.controllers"):
            raise Failed(f"no control group controller '{controller}': mount one at {v1}, or version 2 at {CGROUP}")
        self.path = os.path.join(v1 if self.v1 else CGROUP, name)
        os.makedirs(self.path, exist_ok=True)
        if not self.v1 and controller == "io":
            with open(f"{CGROUP}/cgroup.subtree_control", "w") as f:
                f.write("+io")

    def join(self):
        with open(f"{self.path}/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))

    def cpu_seconds(self):
        if self.v1:
            with open(f"{self.path}/cpuacct.usage") as f:
                return int(f.read()) / 1e9
        with open(f"{self.path}/cpu.stat") as f:
            return int(f.readline().split()[1]) / 1e6

    def throttle(self, device, iops, bytes_s):
        """Of a device (major:minor), reads and writes each, for the processes of this group together."""
        if not self.v1:
            with open(f"{self.path}/io.max", "w") as f:
                f.write(f"{device} rbps={bytes_s} wbps={bytes_s} riops={iops} wiops={iops}")
            return
        for what, value in (("read_iops", iops), ("write_iops", iops), ("read_bps", bytes_s), ("write_bps", bytes_s)):
            with open(f"{self.path}/blkio.throttle.{what}_device", "w") as f:
                f.write(f"{device} {value}")

    def drop(self):
        try:
            os.rmdir(self.path)
        except OSError:
            pass


class Arena:
    """with Arena(DIR, 'peers') as a: a.dir is a folder that goes in the end, however that comes about;
    what a killed run left is removed by the next one's beginning."""

    def __init__(self, parent, name):
        self.prefix = f"hci-bench-{name}-"
        self.parent = parent
        self.groups = []
        self.child = None

    def __enter__(self):
        self.sweep()
        self.dir = tempfile.mkdtemp(prefix=self.prefix, dir=self.parent)
        self.tag = os.path.basename(self.dir)
        self.lock = os.open(f"{self.dir}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, self.on_signal)
        return self

    @staticmethod
    def on_signal(number, _):
        raise KeyboardInterrupt(f"signal {number}")

    def group(self, controller):
        g = Group(controller, f"{self.tag}")
        self.groups.append(g)
        return g

    def inside(self, argv, groups=(), env=None):
        """Runs a command in network, mount and PID namespaces of its own. With its end, or ours, all that it started
        ends: its mounts and loop devices go with it."""
        def prepare():
            die_with_parent()
            for g in groups:
                g.join()
        self.child = subprocess.Popen(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child=SIGKILL",
                                       "--mount-proc", "tini", "-s", "--"] + [str(a) for a in argv],
                                      preexec_fn=prepare, env=env)
        status = self.child.wait()
        self.child = None
        return status

    def __exit__(self, *_):
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(s, signal.SIG_IGN)
        if self.child:
            self.child.kill()
            self.child.wait()
        self.remove(self.dir)

    def sweep(self):
        for e in os.listdir(self.parent):
            path = os.path.join(self.parent, e)
            if not e.startswith(self.prefix) or not os.path.exists(f"{path}/lock"):
                continue
            fd = os.open(f"{path}/lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                print(f"removing {path}, left by a run that was killed", file=sys.stderr)
                self.remove(path)
            except BlockingIOError:
                pass  # its run lives
            os.close(fd)

    @staticmethod
    def remove(path):
        """Never through a mount: there should be none, they lived in the namespace."""
        for line in open("/proc/self/mounts"):
            if line.split()[1].startswith(path + "/"):
                raise Failed(f"{line.split()[1]} is still mounted: unmount it, then remove {path}")
        tag = os.path.basename(path)
        groups = [g for g in [f"{CGROUP}/{c}/{tag}" for c in os.listdir(CGROUP)] + [f"{CGROUP}/{tag}"] if os.path.isdir(g)]
        end = time.monotonic() + 10  # a group is busy until the last of what was killed is gone
        for group in groups:
            while os.path.isdir(group):
                try:
                    os.rmdir(group)
                except OSError:
                    if time.monotonic() > end:
                        print(f"{group} cannot be removed yet: remove it with rmdir", file=sys.stderr)
                        break
                    time.sleep(0.1)
        shutil.rmtree(path, ignore_errors=True)


def xfs_on_loop(image, size, where):
    """A file system of its own on a sparse file; call it inside. Returns the loop device's name."""
    with open(image, "wb") as f:
        f.truncate(size)
    run("mkfs.xfs", "-q", "-f", image)
    os.makedirs(where, exist_ok=True)
    run("mount", "-o", "loop", image, where)  # -o loop: the device goes with the mount
    return next(l.split()[0] for l in open("/proc/self/mounts") if l.split()[1] == where)


def device_number(path):
    n = os.stat(path).st_rdev
    return f"{os.major(n)}:{os.minor(n)}"
