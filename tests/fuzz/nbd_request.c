/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A NBD request's header under any session: what is let through must be safe to work on. The input
 * is a flags word and a size for the session, then requests one after the other.
 */
#include <stdlib.h>

#include "export/nbd_internal.h"

#define CHECK(x)                 \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

static void replies(const struct nbd_request *r)
{
	uint8_t b[NBD_REPLY_MAX + 8];
	char msg[512];
	const char *why = NULL;

	memset(msg, 'x', sizeof(msg));
	msg[r->len % sizeof(msg)] = '\0';
	CHECK(nbd_put_error(b, r, NBD_EIO, msg) <= NBD_REPLY_MAX);
	CHECK(nbd_put_error(b, r, NBD_EIO, NULL) <= NBD_REPLY_MAX);
	CHECK(nbd_put_data(b, r) == NBD_CHUNK_SIZE + 8 &&
	      nbd_put_hole(b, r) == NBD_CHUNK_SIZE + 12);
	CHECK(nbd_get64(b + 8) == r->cookie);
	CHECK(nbd_error_of(-(int)(r->len % 40), &why) >= 0);
}

static void one(const struct nbd_session *s, const uint8_t *p)
{
	const char *why = NULL;
	struct nbd_request r;
	int e;

	if (!nbd_request_parse(p, &r))
		return;
	e = nbd_request_check(&r, s, &why);
	CHECK(e == 0 || why);
	replies(&r);
	if (e || r.type == NBD_CMD_DISC)
		return;
	CHECK(r.type < NBD_CMDS);
	CHECK(r.off <= s->size && r.len <= s->size - r.off);
	CHECK(nbd_req_bytes(&r) <= NBD_MAX_PAYLOAD + 2 * HCI_BLOCK);
	if (s->flags & NBD_TX_READ_ONLY)
		CHECK(r.type != NBD_CMD_WRITE && r.type != NBD_CMD_TRIM &&
		      r.type != NBD_CMD_WRITE_ZEROES);
	if (r.type == NBD_CMD_BLOCK_STATUS)
		CHECK(s->meta && r.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct nbd_session s = { 0 };

	if (size < 10)
		return 0;
	s.flags = nbd_get16(data);
	s.structured = s.flags & 0x8000;
	s.meta = s.flags & 0x4000;
	s.size = ROUND_DOWN(nbd_get64(data + 2) >> 1, HCI_BLOCK);
	for (size_t at = 10; at + NBD_REQUEST_SIZE <= size; at += NBD_REQUEST_SIZE)
		one(&s, data + at);
	return 0;
}
