# SPDX-License-Identifier: Apache-2.0
"""libhci: VMs whose root disks are volumes with a copy at both nodes, moved by the nodes' services, TLS and all."""
import json
import os
import subprocess
import threading
import time

from bed import BED, NAME, NODES, TESTBED, Meter, Pause, other, said, size, tb, wait_for


class Cluster:
    def __init__(self, a, image, disk):
        self.a, self.image, self.disk = a, image, disk
        b = os.path.abspath(a.build)
        # What is on a volume is to be known soon, not after a while: nobody else needs the disk here.
        self.env = ["env", f"HCI_PLUGIN_DIR={b}/plugins-out", "HCI_MIGRATE_INDEX=now"]
        self.env += [f"{k}={v}" for k, v in os.environ.items() if k == "HCI_MIGRATE_ASIDE"]
        self.ctl, self.node = f"{b}/examples/hcictl/hcictl", f"{b}/examples/hci-node/hci-node"
        self.store, self.pki = f"sqlite:{BED}/shared/cluster.db", f"{BED}/shared/pki"
        self.certs = f"{self.pki}/admin"
        self.at = {}  # guests, and where they are
        self.born = {}  # what their consoles and the node's log had before: an earlier guest of the name may have written there
        self._make()

    def _run(self, *args):
        subprocess.run([self.ctl, *args], check=True, stdout=subprocess.DEVNULL)

    def _make(self):
        self._run("cluster", "create", "bench", "--store", self.store)
        os.makedirs(self.pki, 0o700)
        self._run("pki", "ca", f"{self.pki}/ca", "bench")
        for n, addr in (("n1", "n1,10.77.0.1"), ("n2", "n2,10.77.0.2"), ("admin", "n1")):
            self._run("pki", "issue", f"{self.pki}/ca", n, f"{self.pki}/{n}", "--address", addr)
        for n in NODES:
            self._start(n, "")
        self.hcictl("pool", "create", "main")
        for n in NODES:
            self.hcictl("disk", "add", n, f"{BED}/nodes/{n}/disks/d1/hci", "--pool", "main")

    def _log(self, n):
        return f"{BED}/nodes/{n}/log/node.log"

    def _size(self, n):
        return os.path.getsize(self._log(n)) if os.path.exists(self._log(n)) else 0

    def _start(self, n, without):
        run, c, was = f"{BED}/nodes/{n}/data/run", f"{self.pki}/{n}", self._size(n)
        os.makedirs(run, exist_ok=True)
        os.makedirs(f"{BED}/nodes/{n}/disks/d1/hci", exist_ok=True)
        tb("start", n, "node", *self.env, f"HCI_MIGRATE_WITHOUT={without}", self.node, "--store", self.store, "--name", n,
           "--listen", f"tcp:10.77.0.{n[1]}:7400", "--run-dir", run, "--libvirt", "qemu:///system",
           "--ca", f"{c}/ca.crt", "--cert", f"{c}/node.crt", "--key", f"{c}/node.key")
        was = was if self._size(n) >= was else 0  # a new log
        wait_for(n, 20, lambda: said(self._log(n), "listening on", was))

    def _command(self, *args):
        return [TESTBED, "--name", NAME, "exec", "n1", *self.env, self.ctl, *args, "--store", self.store,
                "--cert-dir", self.certs, "--name", "admin", "--json"]

    def hcictl(self, *args):
        r = subprocess.run(self._command(*args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if r.returncode:
            raise SystemExit(f"bench_migration: hcictl {' '.join(args)}: {r.stderr}")
        return r.stdout

    def guest(self, name, cmdline, node="n1"):
        """A guest with a volume of its own of the same image."""
        self.hcictl("volume", "create", name, "1200M", "--pool", "main", "--replicas", "2")
        self.hcictl("volume", "import", name, self.disk)
        self.hcictl("vm", "define", name, "--node", node, "--memory", f"{self.a.memory}M", "--kernel", f"{self.image}/vmlinuz",
                    "--initrd", f"{self.image}/initrd", "--cmdline", cmdline, "--volume", name)
        self.born[name] = size(self._console(name, node)), self._size(node)
        self.hcictl("vm", "start", name)
        self.at[name] = node

    def _console(self, g, node):
        return f"{BED}/nodes/{node}/data/run/{g}.console"

    def wait_ready(self):
        for g, n in self.at.items():
            wait_for(f"guest {g}", 900, lambda: said(self._console(g, n), self.a.ready, self.born[g][0]))

    def forget(self, without=""):
        """Both services start anew: no pages of guests that moved before. Until each volume's blocks are known again."""
        for n in NODES:
            tb("stop", n, "node")
        was = {n: self._size(n) for n in NODES}
        for n in NODES:
            self._start(n, without)
        was = {n: was[n] if self._size(n) >= was[n] else 0 for n in NODES}
        self.wait_known(was)

    def wait_known(self, since=None):
        for g, n in self.at.items():
            wait_for(f"what is on volume {g}", 120, lambda: said(
                self._log(n), f"volume {g}: what its blocks contain is known", since[n] if since else self.born[g][1]))
        time.sleep(1)

    def _start_move(self, g, timeout):
        return subprocess.Popen(self._command("vm", "migrate", g, other(self.at[g]), "--timeout", f"{timeout}s"),
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _end_move(self, g, p, start):
        said_, why = p.communicate()
        out = {"total_ms": int((time.time() - start) * 1000)}
        if p.returncode:
            out["failed"] = why.strip()[-300:] or said_.strip()[-300:]
            state = tb("exec", self.at[g], "virsh", "-q", "domstate", g).split()
            out["runs_at_source"] = state[:1] == ["running"]
            return out
        job = json.loads(said_)
        r = job.get("result", job)
        r = json.loads(r) if isinstance(r, str) else r
        self.at[g] = other(self.at[g])
        return {**out, "copy_ms": r.get("total_ms"), "memory_ms": r.get("memory_ms"), "downtime_ms": r.get("downtime_ms"), "job": r}

    def move(self, g, timeout):
        consoles = self._console(g, self.at[g]), self._console(g, other(self.at[g]))
        m, start = Meter(self.at[g], consoles[:1]), time.time()
        pause = Pause(*consoles)
        out = m.read(self._end_move(g, self._start_move(g, timeout), start))
        pause.ended |= "failed" in out
        return m.counts({**out, "pause_ms": pause.ms()}, consoles[1:])

    def move_all(self, timeout):
        """All at once. They are at one node."""
        m, start, each = Meter(next(iter(self.at.values())), [self._console(g, n) for g, n in self.at.items()]), time.time(), {}
        running = [(g, self._start_move(g, timeout)) for g in self.at]
        ends = [threading.Thread(target=lambda g=g, p=p: each.update({g: self._end_move(g, p, start)})) for g, p in running]
        for t in ends:
            t.start()
        for t in ends:
            t.join()
        out = m.read({"total_ms": int((time.time() - start) * 1000), "each": each})
        out.update({"failed": f"{g}: {e['failed']}" for g, e in each.items() if "failed" in e})
        return m.counts(out, [self._console(g, n) for g, n in self.at.items()])

    def remove(self, g):
        self.hcictl("vm", "stop", g, "--destroy")
        self.hcictl("vm", "undefine", g)
        self.hcictl("volume", "delete", g)
        del self.at[g]
