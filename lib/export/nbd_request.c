/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of strangers, judged (proto.md, "Transmission phase" and "Error values"), and the bytes
 * of replies. Owns no memory. Fuzzed.
 */
#include "export/nbd_request.h"

#include <hci/error.h>

bool nbd_request_parse(const uint8_t *b, struct nbd_request *r)
{
	r->flags = nbd_get16(b + 4);
	r->type = nbd_get16(b + 6);
	r->cookie = nbd_get64(b + 8);
	r->off = nbd_get64(b + 16);
	r->len = nbd_get32(b + 24);
	return nbd_get32(b) == NBD_REQUEST_MAGIC;
}

static uint16_t allowed_flags(const struct nbd_request *r, const struct nbd_session *s)
{
	uint16_t f = NBD_CMD_FUA; /* clients set it on anything: "MUST accept all commands with this
				     bit" */

	switch (r->type) {
	case NBD_CMD_READ:
		return f | (s->flags & NBD_TX_DF ? NBD_CMD_DF : 0);
	case NBD_CMD_WRITE_ZEROES:
		return f | NBD_CMD_NO_HOLE | (s->flags & NBD_TX_FAST_ZERO ? NBD_CMD_FAST_ZERO : 0);
	case NBD_CMD_BLOCK_STATUS:
		return f | NBD_CMD_REQ_ONE;
	}
	return f;
}

static bool writes(const struct nbd_request *r)
{
	return r->type == NBD_CMD_WRITE || r->type == NBD_CMD_TRIM ||
	       r->type == NBD_CMD_WRITE_ZEROES;
}

static int refuse(const char **why, int error, const char *text)
{
	*why = text;
	return error;
}

static int check_range(const struct nbd_request *r, const struct nbd_session *s, const char **why)
{
	if (r->off <= s->size && r->len <= s->size - r->off)
		return 0;
	if (r->type == NBD_CMD_WRITE || r->type == NBD_CMD_WRITE_ZEROES)
		return refuse(why, NBD_ENOSPC, "past the end of the export");
	return refuse(why, NBD_EINVAL, "past the end of the export");
}

int nbd_request_check(const struct nbd_request *r, const struct nbd_session *s, const char **why)
{
	/* Larger than anyone may expect to be served: not worth reading through. */
	if (r->type == NBD_CMD_WRITE && r->len > NBD_MAX_PAYLOAD)
		return refuse(why, NBD_FATAL, "write of more than 32 MiB");
	if (r->type >= NBD_CMDS)
		return refuse(why, NBD_EINVAL, "unknown command");
	if (r->type == NBD_CMD_DISC)
		return 0;
	if (r->flags & ~allowed_flags(r, s))
		return refuse(why, NBD_EINVAL, "flag not known for this command");
	if (writes(r) && s->flags & NBD_TX_READ_ONLY)
		return refuse(why, NBD_EPERM, "the export is read-only");
	if (r->type == NBD_CMD_FLUSH) {
		if (r->off || r->len)
			return refuse(why, NBD_EINVAL, "flush takes no offset and no length");
		return 0;
	}
	if (r->type == NBD_CMD_READ && r->len > NBD_MAX_PAYLOAD)
		return refuse(why, s->structured ? NBD_EOVERFLOW : NBD_EINVAL,
			      "read of more than 32 MiB");
	if (r->type == NBD_CMD_BLOCK_STATUS && (!s->meta || !r->len))
		return refuse(why, NBD_EINVAL,
			      s->meta ? "block status of nothing" : "no context was selected");
	return check_range(r, s, why);
}

int nbd_error_of(int status, const char **why)
{
	switch (status) {
	case 0:
		return 0;
	case HCI_E_NOSPACE:
		return refuse(why, NBD_ENOSPC, "the pool is full: add disks or free space");
	case HCI_E_NOMEM:
		return refuse(why, NBD_ENOMEM, "the server is out of memory");
	case HCI_E_INVAL:
	case HCI_E_RANGE:
	case HCI_E_ALIGN:
		return refuse(why, NBD_EINVAL, "the volume refused the range");
	case HCI_E_READONLY:
		return refuse(why, NBD_EPERM, "the volume is read-only");
	case HCI_E_UNSUPPORTED:
		return refuse(why, NBD_ENOTSUP, "not supported by the volume");
	case HCI_E_FENCED:
		return refuse(why, NBD_ESHUTDOWN, "another writer has taken the volume over");
	case HCI_E_CLOSED:
	case HCI_E_CANCELLED:
		return refuse(why, NBD_ESHUTDOWN, "the export is being closed");
	case HCI_E_TIMEOUT:
	case HCI_E_UNAVAILABLE:
		return refuse(why, NBD_EIO, "no replica answered in time");
	case HCI_E_CORRUPT:
		return refuse(why, NBD_EIO, "no replica holds a good copy");
	}
	return refuse(why, NBD_EIO, "the volume failed");
}

/* ---- replies ---- */

static uint32_t chunk(uint8_t *p, const struct nbd_request *r, uint16_t type, uint32_t len)
{
	nbd_put32(p, NBD_CHUNK_MAGIC);
	nbd_put16(p + 4, NBD_REPLY_DONE); /* every reply of ours is one chunk */
	nbd_put16(p + 6, type);
	nbd_put64(p + 8, r->cookie);
	nbd_put32(p + 16, len);
	return NBD_CHUNK_SIZE;
}

uint32_t nbd_put_simple(uint8_t *p, const struct nbd_request *r, uint32_t error)
{
	nbd_put32(p, NBD_SIMPLE_MAGIC);
	nbd_put32(p + 4, error);
	nbd_put64(p + 8, r->cookie);
	return NBD_SIMPLE_SIZE;
}

uint32_t nbd_put_none(uint8_t *p, const struct nbd_request *r)
{
	return chunk(p, r, NBD_REPLY_NONE, 0);
}

uint32_t nbd_put_data(uint8_t *p, const struct nbd_request *r)
{
	uint32_t n = chunk(p, r, NBD_REPLY_OFFSET_DATA, 8 + r->len);

	nbd_put64(p + n, r->off);
	return n + 8;
}

uint32_t nbd_put_hole(uint8_t *p, const struct nbd_request *r)
{
	uint32_t n = chunk(p, r, NBD_REPLY_OFFSET_HOLE, 12);

	nbd_put64(p + n, r->off);
	nbd_put32(p + n + 8, r->len);
	return n + 12;
}

uint32_t nbd_put_status(uint8_t *p, const struct nbd_request *r, uint32_t extents)
{
	uint32_t n = chunk(p, r, NBD_REPLY_BLOCK_STATUS, 4 + 8 * extents);

	nbd_put32(p + n, NBD_META_ALLOCATION);
	return n + 4;
}

uint32_t nbd_put_error(uint8_t *p, const struct nbd_request *r, uint32_t error, const char *msg)
{
	size_t len = msg ? MIN(strlen(msg), (size_t)NBD_REPLY_MAX - NBD_CHUNK_SIZE - 6) : 0;
	uint32_t n = chunk(p, r, NBD_REPLY_ERROR, (uint32_t)(6 + len));

	nbd_put32(p + n, error);
	nbd_put16(p + n + 4, (uint16_t)len);
	memcpy(p + n + 6, msg ? msg : "", len);
	return n + 6 + (uint32_t)len;
}
