#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the RAM of one guest in two QEMUs, byte for byte, while neither runs it.

usage: memories.py GUEST MIB INIT-PID-A INIT-PID-B SECONDS

The QEMUs of a domain of this name in the PID namespaces of these two processes. The one may still be loading: it has so many
seconds to become equal.
"""
import os
import sys
import time

PAGE, CHUNK = 4096, 1 << 20


def qemu(guest, init):
    space = os.readlink(f"/proc/{init}/ns/pid")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                args = f.read().split(b"\0")
            if b"qemu-system" in args[0] and any(a.startswith(b"guest=" + guest.encode() + b",") for a in args):
                if os.readlink(f"/proc/{pid}/ns/pid") == space:
                    return int(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass
    sys.exit(f"memories: no QEMU of {guest} in the namespace of {init}")


def ram(pid, size):
    """Where the guest's RAM is: the one mapping of its size; QEMU keeps it out of dumps, so it is merged with no other."""
    found = []
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            a, b = (int(x, 16) for x in line.split()[0].split("-"))
            if b - a == size:
                found.append(a)
    if len(found) != 1:
        sys.exit(f"memories: QEMU {pid} has {len(found)} mappings of {size} bytes")
    return found[0]


def first_difference(files, at, size):
    """Its offset, or None; and how many pages are not zero."""
    used = 0
    for off in range(0, size, CHUNK):
        want = min(CHUNK, size - off)
        x, y = (os.pread(f, want, base + off) for f, base in zip(files, at))
        if len(x) != want or x != y:
            return next((off + i for i in range(0, want, PAGE) if x[i:i + PAGE] != y[i:i + PAGE]), off), used
        used += sum(x[i:i + PAGE] != bytes(PAGE) for i in range(0, want, PAGE)) if any(x) else 0
    return None, used


def tell(files, at, size):
    """What differs, and whether it still changes."""
    read = lambda k, off: os.pread(files[k], PAGE, at[k] + off)
    differ = [o for o in range(0, size, PAGE) if read(0, o) != read(1, o)]
    for off in differ[:8]:
        x, y = read(0, off), read(1, off)
        where = [i for i in range(PAGE) if x[i] != y[i]]
        time.sleep(0.05)
        changes = [name for k, (name, was) in enumerate((("the first", x), ("the second", y))) if read(k, off) != was]
        print(f"memories: {off:#x}: {len(where)} bytes differ, {where[0]:#x} to {where[-1]:#x}: "
              f"{x[where[0]:where[0] + 24].hex()} {y[where[0]:where[0] + 24].hex()}"
              f"{', changing: ' + ' and '.join(changes) if changes else ''}", file=sys.stderr)
    sys.exit(f"memories: {len(differ)} pages differ")


def main():
    # Two pages more than asked for: see add_tcg_memory() in lib/compute/domain_xml.c.
    guest, size, seconds = sys.argv[1], (int(sys.argv[2]) << 20) + 2 * PAGE, float(sys.argv[5])
    pids = [qemu(guest, int(i)) for i in sys.argv[3:5]]
    at = [ram(p, size) for p in pids]
    files = [os.open(f"/proc/{p}/mem", os.O_RDONLY) for p in pids]
    end = time.time() + seconds
    while True:
        where, used = first_difference(files, at, size)
        if where is None:
            if used < size // PAGE // 10:
                sys.exit(f"memories: {used} pages are not zero: this is no guest's memory")
            print(f"identical: {size} bytes, {used} of {size // PAGE} pages not zero")
            return
        if time.time() > end:
            tell(files, at, size)
        time.sleep(0.2)


main()
