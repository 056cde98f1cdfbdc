/* SPDX-License-Identifier: Apache-2.0 */
/* From the bytes of a gRPC stream to messages: by itself, because it takes what strangers send. */
#include <string.h>

#include "h2.h"

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Each message has a byte that says whether it is compressed (we never asked for that), and its length. */
bool grpc_feed(struct buf *rx, const void *p, size_t n, void (*message)(void *arg, const void *p, size_t n), void *arg)
{
	size_t at = 0;

	buf_add(rx, p, n);
	if (rx->oom)
		return false;
	while (rx->n - at >= 5) {
		uint32_t len = be32(rx->p + at + 1);

		if (rx->p[at] != 0 || len > GRPC_MESSAGE_MAX)
			return false;
		if (rx->n - at - 5 < len)
			break;
		message(arg, rx->p + at + 5, len);
		at += 5 + (size_t)len;
	}
	memmove(rx->p, rx->p + at, rx->n - at);
	rx->n -= at;
	return true;
}
