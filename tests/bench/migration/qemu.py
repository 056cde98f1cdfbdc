# SPDX-License-Identifier: Apache-2.0
"""QEMU's own ways: two QEMUs and their monitors, the guest on a raw file that both nodes see. No libvirt, no TLS."""
import json
import os
import socket
import subprocess
import time

from bed import BED, Meter, Pause, other, said, tb, wait_for

CAPS = {"plain": (), "plain-ac": ("auto-converge",), "xbzrle": ("xbzrle",), "zlib": ("multifd",), "zstd": ("multifd",)}
ALL = sorted({c for caps in CAPS.values() for c in caps})


class Qmp:
    def __init__(self, path):
        wait_for("QEMU's monitor", 20, lambda: os.path.exists(path))
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.f = self.s.makefile("rw")
        self.f.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **args):
        self.f.write(json.dumps({"execute": command, "arguments": args}) + "\n")
        self.f.flush()
        while True:
            line = self.f.readline()
            if not line:
                raise OSError(f"{command}: QEMU has ended")
            r = json.loads(line)
            if "error" in r:
                raise SystemExit(f"bench_migration: {command}: {r['error']['desc']}")
            if "return" in r:
                return r["return"]


class Guest:
    def __init__(self, a, image, disk, cmdline):
        self.a, self.image, self.count, self.at, self.cmdline = a, image, 0, "n1", cmdline
        self.disk = f"{BED}/shared/plain.img"
        subprocess.run(["cp", "--sparse=always", disk, self.disk], check=True)
        self.qmp = self.start("n1")
        wait_for("the guest", 600, lambda: said(self.serial, a.ready))

    def start(self, node, *more):
        self.count += 1
        mon, self.serial = f"{BED}/shared/q{self.count}.mon", f"{BED}/shared/q{self.count}.serial"
        for old in (mon, self.serial):
            if os.path.exists(old):
                os.unlink(old)
        # Two pages more than a multiple of 64, as libhci gives guests under TCG: else QEMU loses what they write meanwhile.
        tb("start", node, f"qemu{self.count}", "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", f"{self.a.memory * 1024 + 8}K",
           "-display", "none", "-nodefaults", "-serial", f"file:{self.serial}", "-qmp", f"unix:{mon},server=on,wait=off",
           "-kernel", f"{self.image}/vmlinuz", "-initrd", f"{self.image}/initrd", "-append", self.cmdline,
           "-drive", f"file={self.disk},if=virtio,format=raw,cache=unsafe,file.locking=off", *more)
        return Qmp(mon)

    def _set_up(self, way, dest):
        for q in (self.qmp, dest):
            q.ask("migrate-set-capabilities", capabilities=[{"capability": c, "state": c in CAPS[way]} for c in ALL])
            p = {"max-bandwidth": 10 << 30, "downtime-limit": 300}
            if way == "xbzrle":
                p["xbzrle-cache-size"] = 512 << 20
            if way in ("zlib", "zstd"):
                p.update({"multifd-channels": 2, "multifd-compression": way})
            q.ask("migrate-set-parameters", **p)

    def move(self, way, timeout):
        to, console = other(self.at), self.serial
        dest = self.start(to, "-incoming", "defer")
        self._set_up(way, dest)
        dest.ask("migrate-incoming", uri="tcp:0:4444")
        m, pause = Meter(self.at, [console]), Pause(console, self.serial)
        self.qmp.ask("migrate", uri=f"tcp:10.77.0.{to[1]}:4444")
        end = time.time() + timeout
        while True:
            i = self.qmp.ask("query-migrate")
            if i["status"] in ("completed", "failed"):
                break
            if time.time() > end:
                self.qmp.ask("migrate_cancel")
                wait_for("the cancel", 20, lambda: self.qmp.ask("query-migrate")["status"] == "cancelled")
                try:
                    dest.ask("quit")
                except OSError:
                    pass  # it has ended with the migration
                pause.ended, self.serial = True, console
                runs = self.qmp.ask("query-status")["running"]
                return m.read({"failed": f"not within {timeout} s", "limit_s": timeout, "runs_at_source": runs})
            time.sleep(0.1)
        if i["status"] == "failed":
            raise SystemExit(f"bench_migration: {way}: {i}")
        out = m.read({"total_ms": i["total-time"], "downtime_ms": i["downtime"], "passes": i["ram"]["dirty-sync-count"],
                      "pause_ms": pause.ms()})
        self.qmp.ask("quit")
        self.qmp, self.at = dest, to
        return m.counts(out, [self.serial])

    def close(self):
        self.qmp.ask("quit")
        os.unlink(self.disk)
