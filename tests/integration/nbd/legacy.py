# SPDX-License-Identifier: Apache-2.0
# The socket is in $NBD_SOCKET. A client of the simplest kind, and the options one by one.
import os

import nbd

sock = os.environ["NBD_SOCKET"]
h = nbd.NBD()
h.set_request_structured_replies(False)
h.set_export_name("ram")
h.connect_unix(sock)
assert not h.get_structured_replies_negotiated()
h.pwrite(b"z" * 600, 77)
assert h.pread(602, 76)[1:601] == b"z" * 600
h.shutdown()

h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix(sock)
names = []
h.opt_list(lambda name, desc: names.append((name, desc)))
assert names == [("ram", "a RAM disk")], names
h.set_export_name("nothing")
try:
    h.opt_info()
except nbd.Error:
    pass
else:
    raise AssertionError("an export that is not there")
h.set_export_name("")
h.opt_info()
assert h.get_size() == 64 << 20
h.opt_abort()

h = nbd.NBD()
h.set_handshake_flags(0)
h.set_export_name("ram")
h.connect_unix(sock)
assert h.get_size() == 64 << 20
assert h.get_protocol() == "newstyle"
assert len(h.pread(4096, 0)) == 4096
h.shutdown()
