# SPDX-License-Identifier: Apache-2.0
"""libhci from Python, as far as a program needs it that reads and writes volumes: ctypes, no compiler.

More calls are bound the same way. The structs in include/hci hold fixed-width integers, char arrays and pointers only: a
line of a header is a line here. An options struct begins with its own size; what is left zero is the default.
"""
import ctypes as c
import os

_lib = c.CDLL(os.environ.get("HCI_LIBRARY", "libhci.so.0"))


class _Error(c.Structure):  # struct hci_error
    _fields_ = [("code", c.c_int32), ("os_errno", c.c_int32), ("message", c.c_char * 504)]


class _ClusterOpts(c.Structure):  # struct hci_cluster_opts
    _fields_ = [("size", c.c_uint32), ("log_level", c.c_int32)]
    _fields_ += [(name, c.c_char_p) for name in ("store_url", "client_name", "ca_file", "cert_file", "key_file")]
    _fields_ += [("log", c.c_void_p), ("log_arg", c.c_void_p), ("busy_poll_us", c.c_int32), ("reserved", c.c_int32)]


class _AttachOpts(c.Structure):  # struct hci_attach_opts
    _fields_ = [(name, c.c_uint32) for name in ("size", "wait_ms", "lease_ms", "reserved")]


def _bind(name, result, *arguments):
    call = getattr(_lib, name)
    call.restype, call.argtypes = result, arguments
    return call


_err, _out, _u64 = c.POINTER(_Error), c.POINTER(c.c_void_p), c.c_uint64
_strerror = _bind("hci_strerror", c.c_char_p, c.c_int32)
_open = _bind("hci_cluster_open", c.c_int, _out, c.POINTER(_ClusterOpts), _err)
_close = _bind("hci_cluster_unref", None, c.c_void_p)
_attach = _bind("hci_volume_attach", c.c_int, _out, c.c_void_p, c.c_char_p, c.POINTER(_AttachOpts), _err)
_detach = _bind("hci_volume_unref", None, c.c_void_p)
_size = _bind("hci_volume_size", c.c_uint64, c.c_void_p)
_block = _bind("hci_volume_block_size", c.c_uint32, c.c_void_p)
_pread = _bind("hci_volume_pread", c.c_int, c.c_void_p, c.c_void_p, _u64, _u64, _err)
_pwrite = _bind("hci_volume_pwrite", c.c_int, c.c_void_p, c.c_char_p, _u64, _u64, _err)


class HciError(Exception):
    """What libhci said: code is the negative HCI_E_*, name its name."""

    def __init__(self, err):
        super().__init__(err.message.decode())
        self.code, self.name = err.code, _strerror(err.code).decode()


def _must(call, *arguments):
    err = _Error()
    if call(*arguments, c.byref(err)) < 0:
        raise HciError(err)


class _Handle:
    """One reference, given back by close() or at the end of `with`; not used after that."""

    def __init__(self, unref):
        self._p, self._unref = c.c_void_p(), unref

    def close(self):
        p, self._p = self._p, c.c_void_p()
        self._unref(p)  # NULL is fine

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Cluster(_Handle):
    def __init__(self, store, name=None, certs=None):
        """certs: the directory that `hcictl pki issue` filled for `name`; without it there is no TLS."""
        super().__init__(_close)
        o = _ClusterOpts(size=c.sizeof(_ClusterOpts), store_url=store.encode(), client_name=name and name.encode())
        if certs:
            files = (os.path.join(certs, f).encode() for f in ("ca.crt", "node.crt", "node.key"))
            o.ca_file, o.cert_file, o.key_file = files
        _must(_open, c.byref(self._p), c.byref(o))

    def attach(self, name, wait_ms=0):
        return Volume(self, name, wait_ms)


class Volume(_Handle):
    """Attached: we are its only writer until close(). Offsets and lengths are multiples of block_size."""

    def __init__(self, cluster, name, wait_ms):
        super().__init__(_detach)
        o = _AttachOpts(size=c.sizeof(_AttachOpts), wait_ms=wait_ms)
        _must(_attach, c.byref(self._p), cluster._p, name.encode(), c.byref(o))
        self.size, self.block_size = _size(self._p), _block(self._p)

    def write(self, data, offset):
        """Returns when every in-sync replica has it on stable media. ctypes lets other threads run meanwhile."""
        _must(_pwrite, self._p, bytes(data), len(data), offset)

    def read(self, length, offset):
        buf = c.create_string_buffer(length)
        _must(_pread, self._p, buf, length, offset)
        return buf.raw
