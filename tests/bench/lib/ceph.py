# SPDX-License-Identifier: Apache-2.0
"""Ceph RBD, size 2, two BlueStore OSDs on this machine. Runs inside the arena's namespaces."""
import os
import subprocess
import time
import uuid

from arena import Failed, run

NAME = "ceph"
NEEDS = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "rbd", "monmaptool", "fio")
ENGINE = "rbd"
CONF = """[global]
fsid = {fsid}
mon_host = 127.0.0.1:6789
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 2
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 32
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_data_avail_warn = 1
run_dir = {dir}/run
admin_socket = {dir}/run/$name.$pid.asok
pid_file =
log_file = {dir}/$name.log
crash_dir = {dir}/crash
osd_objectstore = bluestore
bluestore_block_create = true
bluestore_block_size = {block}
osd_memory_target = 2147483648
mon_data = {dir}/mon
mgr_data = {dir}/mgr
osd_data = {dir}/osd.$id
osd_class_load_list = *
rbd_cache = false
"""


def version():
    return run("ceph-osd", "--version").split()[2]


def up(where, size):
    run("ip", "link", "set", "lo", "up")
    fsid = str(uuid.uuid4())
    for d in ("run", "crash", "mon", "mgr", "osd.0", "osd.1"):
        os.makedirs(f"{where}/{d}")
    os.environ["CEPH_CONF"] = conf = f"{where}/ceph.conf"
    with open(conf, "w") as f:
        f.write(CONF.format(fsid=fsid, dir=where, block=max(size * 4, 8 << 30)))
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", "[v2:127.0.0.1:3300,v1:127.0.0.1:6789]", f"{where}/monmap")
    run("ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", f"{where}/monmap")
    daemon(where, "ceph-mon", "a")
    ceph(60, "mon", "stat")
    daemon(where, "ceph-mgr", "x")
    for i in "01":
        osd = str(uuid.uuid4())
        ceph(30, "osd", "new", osd, i)
        run("ceph-osd", "-c", conf, "-i", i, "--mkfs", "--osd-uuid", osd)
        daemon(where, "ceph-osd", i)
    wait("both OSDs to be up", 60, lambda: "2 up" in ceph(30, "osd", "stat"))
    ceph(30, "osd", "pool", "create", "p", "32")
    ceph(30, "osd", "pool", "set", "p", "size", "2")
    wait("the pool's placement groups", 90, clean)
    run("rbd", "-c", conf, "create", "--size", f"{size}B", "p/img", timeout=60)
    return [f"--ioengine={ENGINE}", "--pool=p", "--rbdname=img", "--clientname=admin", "--invalidate=0"]


def clean():
    """All groups, those of the manager's own pool too: "33 pgs: 33 active+clean; ..."."""
    words = ceph(30, "pg", "stat").split()
    return words[0] != "0" and words[2:4] == [words[0], "active+clean;"]


def daemon(where, program, name):
    out = open(f"{where}/{program}.{name}.out", "w")
    subprocess.Popen([program, "-c", f"{where}/ceph.conf", "-i", name, "-f"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                     start_new_session=True)


def ceph(seconds, *argv):
    return run("timeout", seconds, "ceph", "-c", os.environ["CEPH_CONF"], *argv)


def wait(what, seconds, done):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise Failed(f"waited {seconds} s for {what}: {ceph(30, '-s')}")
        time.sleep(0.5)
