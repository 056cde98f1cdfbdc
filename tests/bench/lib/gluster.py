# SPDX-License-Identifier: Apache-2.0
"""GlusterFS, replica 2, both bricks on this machine. Runs inside the arena's namespaces."""
import os
import shutil
import subprocess
import time

from arena import Failed, run, xfs_on_loop

NAME = "glusterfs"
NEEDS = ("glusterd", "gluster", "fio")
ENGINE = "gfapi_async"
# Loopback addresses are refused by "gluster volume create".
ADDRESS = "10.88.0.1"
# As its documentation sets them for images of virtual machines opened with O_DIRECT; no cache that answers for the disk.
OPTIONS = {"performance.strict-o-direct": "on", "network.remote-dio": "off", "performance.write-behind": "off",
           "performance.io-cache": "off", "performance.quick-read": "off", "performance.read-ahead": "off",
           "performance.stat-prefetch": "off", "performance.open-behind": "off", "storage.fips-mode-rchecksum": "on"}


def version():
    return run("glusterd", "--version").split("\n")[0].split()[1]


def up(where, size):
    run("ip", "link", "set", "lo", "up")
    run("ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo")
    for system in ("/var/lib/glusterd", "/var/log/glusterfs", "/run/gluster"):
        own = where + system
        if os.path.isdir(system):
            shutil.copytree(system, own, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        os.makedirs(own, exist_ok=True)
        os.makedirs(system, exist_ok=True)
        run("mount", "--bind", own, system)
    log = open(f"{where}/glusterd.out", "w")
    subprocess.Popen(["glusterd", "-N"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    cli(60, "pool", "list")
    bricks = []
    for b in ("b1", "b2"):
        xfs_on_loop(f"{where}/{b}.img", size * 2 + (1 << 30), f"{where}/{b}")
        bricks.append(f"{ADDRESS}:{where}/{b}/brick")
    cli(30, "volume", "create", "v", "replica", "2", *bricks, "force")
    for k, v in OPTIONS.items():
        cli(30, "volume", "set", "v", k, v)
    cli(60, "volume", "start", "v")
    return [f"--ioengine={ENGINE}", "--volume=v", f"--brick={ADDRESS}", "--filename=img", "--group_reporting"]


def cli(seconds, *argv):
    """The daemon needs a moment after its start, and after each change."""
    end = time.monotonic() + seconds
    while True:
        r = subprocess.run(["gluster", "--mode=script", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           stdin=subprocess.DEVNULL)
        if r.returncode == 0:
            return r.stdout
        if time.monotonic() > end:
            raise Failed(f"gluster {' '.join(argv)}: {r.stdout.strip()}")
        time.sleep(0.5)
