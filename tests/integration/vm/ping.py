#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks an address for an echo again and again until SIGTERM, and says how long it did not answer at most.

usage: ping.py ADDRESS INTERFACE MAC [INTERVAL-MS]

Prints JSON: sent, answered, longest_ms (between the sending of two requests that were answered, one after the other),
rarp (frames of that protocol with the MAC as their source that INTERFACE saw: QEMU's announcements).
"""
import json
import os
import select
import signal
import socket
import struct
import sys
import time

ECHO = 8
ETH_P_RARP = 0x8035


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def request(ident, number):
    body = struct.pack("!HHI", ident, number & 0xffff, number) + bytes(24)
    return struct.pack("!BBH", ECHO, 0, checksum(struct.pack("!BBH", ECHO, 0, 0) + body)) + body


class Pinger:
    def __init__(self, address, interface, mac, interval):
        self.address, self.interval = address, interval
        self.mac = bytes.fromhex(mac.replace(":", ""))
        self.icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.rarp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_RARP))
        self.rarp.bind((interface, ETH_P_RARP))
        self.ident = os.getpid() & 0xffff
        self.sent = []
        self.answered = set()
        self.rarps = 0
        self.over = False
        signal.signal(signal.SIGTERM, self.stop)

    def stop(self, *_):
        self.over = True

    def read(self, until):
        while not self.over:
            left = until - time.monotonic()
            ready = select.select([self.icmp, self.rarp], [], [], max(left, 0))[0]
            if not ready:
                return
            if self.icmp in ready:
                packet = self.icmp.recv(2048)
                kind, _, _, ident, _, number = struct.unpack_from("!BBHHHI", packet, (packet[0] & 15) * 4)
                if kind == 0 and ident == self.ident and number < len(self.sent):
                    self.answered.add(number)
            if self.rarp in ready:
                self.rarps += self.rarp.recv(2048)[6:12] == self.mac

    def run(self):
        while not self.over:
            self.sent.append(time.monotonic())
            try:
                self.icmp.sendto(request(self.ident, len(self.sent) - 1), (self.address, 0))
            except OSError:
                pass  # nobody answers for the address, for now
            self.read(self.sent[-1] + self.interval)
        times = [self.sent[n] for n in sorted(self.answered)]
        gaps = [b - a for a, b in zip(times, times[1:])]
        if times:  # what was not answered at the end counts, too, but for the last ones, which may be under way
            gaps.append(max(self.sent[-1] - times[-1] - 0.5, 0))
        print(json.dumps({"sent": len(self.sent), "answered": len(times),
                          "longest_ms": round(max(gaps) * 1000) if gaps else -1, "rarp": self.rarps}))


Pinger(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4] if len(sys.argv) > 4 else 20) / 1000).run()
