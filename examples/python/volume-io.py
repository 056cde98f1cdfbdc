#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a block of a volume and reads it back: volume-io.py VOLUME; the cluster as hcictl takes it, from HCI_STORE,
HCI_NAME and HCI_CERT_DIR."""
import os
import sys

import hci


def main():
    env = os.environ.get
    with hci.Cluster(env("HCI_STORE", ""), env("HCI_NAME"), env("HCI_CERT_DIR")) as cluster:
        with cluster.attach(sys.argv[1], wait_ms=10000) as volume:
            print(f"{volume.size} bytes in blocks of {volume.block_size}")
            block = b"It was a bright cold day in April".ljust(volume.block_size, b"\0")
            volume.write(block, volume.block_size)
            read = volume.read(volume.block_size, volume.block_size)
            print("read:", read.rstrip(b"\0").decode())
            try:
                volume.write(b"short", 0)
            except hci.HciError as e:
                print(f"refused: {e} ({e.name})")
            else:
                return 1
            return 0 if read == block else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        sys.exit(main())
    except hci.HciError as e:
        sys.exit(f"{e} ({e.name})")
