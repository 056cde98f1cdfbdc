# SPDX-License-Identifier: Apache-2.0
"""Disks as slow as one says: XFS on loop devices, throttled by the block I/O controller for the processes of one control
group together. What the kernel writes on its own behalf (XFS's journal, flushes) is not throttled; that is little beside data,
which goes there with O_DIRECT. The loop files lie on the fast disk and in the page cache, so the throttle sets the pace."""
import json
import os
import subprocess
import sys

from arena import Arena, Failed, Group, device_number, die_with_parent, run, xfs_on_loop

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))


def add_options(p, iops=0, mb_s=0):
    p.add_argument("--build", default=f"{TOP}/build/release", help="build with the benchmarks (build/release)")
    p.add_argument("--dir", default="/var/tmp", help="folder for scratch files, on a fast disk (/var/tmp)")
    p.add_argument("--scratch", help="(internal)")
    if not iops:
        return
    p.add_argument("--iops", type=int, default=iops, help=f"of a disk, reads and writes each ({iops})")
    p.add_argument("--mb-s", type=int, default=mb_s, help=f"of a disk, reads and writes each ({mb_s})")


def disks(o, n, size):
    """Inside: n of them, and a group that this process is in from now on. Their folders. Without --iops: as fast as they are."""
    throttled = hasattr(o, "iops")
    group = Group("blkio" if os.path.isdir("/sys/fs/cgroup/blkio") else "io", os.path.basename(o.scratch))
    run("ip", "link", "set", "lo", "up")
    where = []
    for i in range(n):
        where.append(f"{o.scratch}/d{i + 1}")
        device = xfs_on_loop(f"{where[-1]}.img", size, where[-1])
        if throttled:
            group.throttle(device_number(device), o.iops, o.mb_s * 1000000)
    if throttled:
        group.join()
    return where


def program(o, name):
    path = f"{o.build}/tests/bench/volume/{name}"
    if not os.access(path, os.X_OK):
        raise Failed(f"there is no {path}: build it (cmake --build --preset release), or name another build with --build")
    return path


def bench(*argv):
    """A benchmark program's JSON. It dies with us."""
    p = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    text = p.communicate()[0]
    if p.returncode:
        raise Failed(f"{argv[0]}: exit status {p.returncode}")
    return json.loads(text)


def main(name, parser, inside, needs):
    """Runs inside(options) in namespaces of its own and prints what it returns."""
    o = parser.parse_args()
    try:
        if o.scratch:
            with open(f"{o.scratch}/out.json", "w") as f:
                json.dump(inside(o), f)
            return
        program(o, needs)
        if os.geteuid():
            raise Failed("namespaces and loop devices need root")
        with Arena(o.dir, name) as arena:
            status = arena.inside([os.path.realpath(sys.argv[0]), *sys.argv[1:], "--scratch", arena.dir])
            if status:
                raise Failed(f"exit status {status}")
            with open(f"{arena.dir}/out.json") as f:
                print(json.dumps(json.load(f), indent=1))
    except Failed as e:
        sys.exit(f"{name}: {e}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; everything was taken down")
