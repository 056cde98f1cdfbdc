# SPDX-License-Identifier: Apache-2.0
# The URI is in $NBD_URI. Allocation, zeroes, trims, unaligned ranges, errors, connections.
import errno
import os

import nbd

uri = os.environ["NBD_URI"]
h = nbd.NBD()
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri(uri)
size = h.get_size()


def status(off, length, flags=0):
    out = []

    def extent(ctx, offset, entries, err):
        assert ctx == nbd.CONTEXT_BASE_ALLOCATION and offset == off and err.value == 0
        out.extend(zip(entries[0::2], entries[1::2]))

    h.block_status(length, off, extent, flags)
    return out


def fails(code, fn, *args):
    try:
        fn(*args)
    except nbd.Error as e:
        assert e.errnum == code, e
    else:
        raise AssertionError("no error")


h.zero(size, 0, nbd.CMD_FLAG_FAST_ZERO)
assert status(0, size) == [(size, 3)]
h.pwrite(b"x" * 1000, 200000)
assert status(0, 1 << 20) == [(196608, 3), (65536, 0), ((1 << 20) - 262144, 3)]
assert status(200001, 5, nbd.CMD_FLAG_REQ_ONE) == [(5, 0)]
assert status(100, 300000, nbd.CMD_FLAG_REQ_ONE) == [(196508, 3)]
assert h.pread(1002, 199999) == b"\0" + b"x" * 1000 + b"\0"
chunks = []
df = h.pread_structured(200000, 100000, lambda buf, off, kind, err: chunks.append((off, len(buf), kind)), nbd.CMD_FLAG_DF)
assert df[99999:101001] == b"\0" + b"x" * 1000 + b"\0"
assert chunks == [(100000, 200000, nbd.READ_DATA)], chunks
chunks = []
h.pread_structured(65536, 1 << 20, lambda buf, off, kind, err: chunks.append((off, kind)))
assert chunks == [(1 << 20, nbd.READ_HOLE)], chunks
h.trim(65536, 196608)
assert status(0, size) == [(size, 3)]
h.zero(65536, 0, nbd.CMD_FLAG_NO_HOLE)
assert status(0, 131072) == [(65536, 0), (65536, 3)]
h.pwrite(b"y" * 4096, 4096, nbd.CMD_FLAG_FUA)
h.zero(10, 5000)
assert h.pread(4096, 4096) == b"y" * 904 + b"\0" * 10 + b"y" * 3182
h.cache(1 << 20, 0)
h.flush()

h.set_strict_mode(0)
fails(errno.EINVAL, h.pread, 10, size - 5)
fails(errno.ENOSPC, h.pwrite, b"1234567890", size - 5)
fails(errno.ENOSPC, h.zero, 10, size - 5)
fails(errno.EINVAL, h.trim, 10, size - 5)
fails(errno.EINVAL, h.pread, 10, 0, 1 << 15)
fails(errno.ENOTSUP, h.zero, 4096, 4096, nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(1, 0) == b"\0"

# What one connection wrote and flushed, another reads: can_multi_conn.
g = nbd.NBD()
g.connect_uri(uri)
assert g.can_multi_conn()
for i in range(50):
    h.pwrite(bytes([i]) * 700, 100 + i)
    assert g.pread(700, 100 + i) == bytes([i]) * 700

# Many unaligned writes at once from both, into the same blocks.
pending = []
for i in range(200):
    c = h if i % 2 else g
    pending.append((c, c.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i % 251]) * 100), 8192 + i * 100)))
for c, cookie in pending:
    while not c.aio_command_completed(cookie):
        c.poll(-1)
want = b"".join(bytes([i % 251]) * 100 for i in range(200))
assert h.pread(len(want), 8192) == want
g.shutdown()
h.shutdown()
