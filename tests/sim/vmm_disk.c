/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's NBD client, as far as it matters when its server goes: it knows nothing of that until the next request, which fails;
 * that makes it connect again, at once and then 1, 2, 4, ... 16 s later (docs/compute.md, lib/compute/nudge.c).
 */
#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "export/nbd_proto.h"
#include "sim/try.h"
#include "sim/vmm.h"

#define BACKOFF_MAX (16 * NS_PER_S)

struct opt_head {
	uint64_t magic;
	uint32_t opt, len;
} __attribute__((packed));

struct opt_reply {
	uint64_t magic;
	uint32_t opt, type, len;
} __attribute__((packed));

struct request {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie, off;
	uint32_t len;
} __attribute__((packed));

struct simple {
	uint32_t magic, error;
	uint64_t cookie;
} __attribute__((packed));

static bool skip(struct wire *w, uint32_t n)
{
	uint8_t buf[256];

	while (n) {
		uint32_t k = MIN(n, (uint32_t)sizeof(buf));

		if (!wire_get(w, buf, k))
			return false;
		n -= k;
	}
	return true;
}

static bool handshake(struct wire *w, const char *name)
{
	struct {
		uint64_t magic, opt_magic;
		uint16_t flags;
	} __attribute__((packed)) hello;
	uint32_t len = (uint32_t)strlen(name), flags = htobe32(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES), be = htobe32(len);
	struct opt_head h = { htobe64(NBD_OPT_MAGIC), htobe32(NBD_OPT_GO), htobe32(4 + len + 2) };
	uint16_t none = 0;

	if (!wire_get(w, &hello, sizeof(hello)) || be64toh(hello.magic) != NBD_MAGIC || !wire_put(w, &flags, sizeof(flags)) ||
	    !wire_put(w, &h, sizeof(h)) || !wire_put(w, &be, sizeof(be)) || !wire_put(w, name, len) ||
	    !wire_put(w, &none, sizeof(none)))
		return false;
	for (;;) {
		struct opt_reply r;

		if (!wire_get(w, &r, sizeof(r)) || be64toh(r.magic) != NBD_REP_MAGIC || !skip(w, be32toh(r.len)))
			return false;
		if (be32toh(r.type) == NBD_REP_ACK)
			return true;
		if (be32toh(r.type) & 0x80000000u)
			return false;
	}
}

void vdisk_init(struct vdisk *d, struct env *e, const char *socket, const char *export)
{
	memset(d, 0, sizeof(*d));
	d->e = e;
	fiber_mutex_init(&d->lock);
	snprintf(d->addr, sizeof(d->addr), "unix:%s", socket);
	snprintf(d->export, sizeof(d->export), "%s", export);
}

int vdisk_connect(struct vdisk *d)
{
	struct wire *w = wire_connect(d->e, d->addr);

	if (w && handshake(w, d->export)) {
		d->w = w;
		return 0;
	}
	wire_close(w);
	return -1;
}

static void connect_fiber(void *arg)
{
	struct vdisk *d = arg;
	uint64_t wait = NS_PER_S;

	while (vdisk_connect(d)) {
		fiber_sleep(d->e, wait);
		wait = MIN(wait * 2, BACKOFF_MAX);
	}
	d->connecting = false;
}

static int transfer(struct vdisk *d, unsigned type, void *buf, uint64_t off, uint32_t len)
{
	struct request q = { htobe32(NBD_REQUEST_MAGIC), 0,	      htobe16((uint16_t)type),
			     htobe64(++d->cookie),	 htobe64(off), htobe32(len) };
	struct simple r;

	if (!wire_put(d->w, &q, sizeof(q)) || (type == VDISK_WRITE && !wire_put(d->w, buf, len)) || !wire_get(d->w, &r, sizeof(r)))
		return -1;
	if (be32toh(r.magic) != NBD_SIMPLE_MAGIC || be64toh(r.cookie) != d->cookie)
		abort();
	if (r.error)
		return 1;
	return type == VDISK_READ && !wire_get(d->w, buf, len) ? -1 : 0;
}

int vdisk_io(struct vdisk *d, unsigned type, void *buf, uint64_t off, uint32_t len)
{
	int rc = -1;

	fiber_mutex_lock(d->e, &d->lock);
	if (d->w) {
		rc = transfer(d, type, buf, off, len);
		if (rc < 0) {
			wire_close(d->w);
			d->w = NULL;
		}
	} else if (!d->connecting) {
		d->connecting = true;
		TRY(fiber_spawn(d->e, connect_fiber, d, "nbd"));
	}
	fiber_mutex_unlock(d->e, &d->lock);
	return rc ? -1 : 0;
}
