# SPDX-License-Identifier: Apache-2.0
"""The loads of bench_volume, done by fio."""
import json
import os
import subprocess

from arena import Failed

# name: rw, block size, depth; as in tests/bench/volume/main.c
LOADS = {
    "randread_4k_qd1": ("randread", 4096, 1),
    "randread_4k_qd32": ("randread", 4096, 32),
    "randwrite_4k_qd1": ("randwrite", 4096, 1),
    "randwrite_4k_qd32": ("randwrite", 4096, 32),
    "read_1m_qd8": ("read", 1 << 20, 8),
    "write_1m_qd8": ("write", 1 << 20, 8),
}


def fio(engine, size, rw, bs, depth, seconds=None, ios=None):
    """Runs one job; engine is its list of fio options. What fio says of it."""
    argv = ["fio", "--name=b", f"--size={size}", f"--rw={rw}", f"--bs={bs}", f"--iodepth={depth}", "--direct=1",
            "--norandommap", "--randrepeat=0", "--refill_buffers=0", "--output-format=json", "--thread"] + engine
    argv += [f"--number_ios={ios}"] if ios else []
    argv += ["--time_based", f"--runtime={seconds}"] if seconds else []
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.environ.get("TMPDIR", "/tmp"))
    if r.returncode:
        raise Failed(f"{' '.join(argv)}: {r.stderr.strip()[-800:]} {r.stdout[-400:]}")
    job = json.loads(r.stdout[r.stdout.index("{"):])["jobs"][0]
    if job["error"]:
        raise Failed(f"{' '.join(argv)}: fio's job ended with error {job['error']}")
    return job["read" if "read" in rw else "write"]


def measure(engine, size, load, seconds, group=None, start_cpu=0):
    """start_cpu: seconds of CPU that fio's own start and end cost, taken off."""
    rw, bs, depth = LOADS[load]
    before = group.cpu_seconds() if group else 0
    d = fio(engine, size, rw, bs, depth, seconds)
    ops = max(d["total_ios"], 1)
    out = {"ops": d["total_ios"], "iops": round(d["iops"]), "mb_s": round(d["bw_bytes"] / 1e6, 1),
           "p50_us": round(d["clat_ns"]["percentile"]["50.000000"] / 1e3),
           "p99_us": round(d["clat_ns"]["percentile"]["99.000000"] / 1e3)}
    if group:
        out["cpu_us_per_op"] = round(max(group.cpu_seconds() - before - start_cpu, 0) * 1e6 / ops, 1)
    return out


def start_cost(engine, size, group):
    """CPU seconds of a fio that does next to nothing with that engine."""
    before = group.cpu_seconds()
    fio(engine, size, "randread", 4096, 1, ios=1)
    return group.cpu_seconds() - before
