/* SPDX-License-Identifier: Apache-2.0 */
/* The growing byte buffer. Owns growth and the sticky failure; knows nothing of what is in it. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

#define FIRST_CAP 128

/* Room for `more` bytes behind len; false (and failed) when there is none. */
static bool reserve(struct buf *b, size_t more)
{
	size_t need, cap;
	uint8_t *p;

	if (b->failed)
		return false;
	if (more <= b->cap - b->len)
		return true;
	if (__builtin_add_overflow(b->len, more, &need) || need > SIZE_MAX / 2) {
		b->failed = true;
		return false;
	}
	cap = b->cap ? b->cap : FIRST_CAP;
	while (cap < need)
		cap *= 2;
	p = mem_realloc(b->data, cap);
	if (!p) {
		b->failed = true;
		return false;
	}
	b->data = p;
	b->cap = cap;
	return true;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
	if (!len || !reserve(b, len))
		return;
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	size_t room;
	int n;

	if (b->failed)
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	room = b->cap - b->len;
	n = vsnprintf(room ? (char *)b->data + b->len : NULL, room, fmt, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = true;
	} else if ((size_t)n < room) {
		b->len += (size_t)n;
	} else if (reserve(b, (size_t)n + 1)) { /* vsnprintf wants the closing NUL as well */
		vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

void buf_free(struct buf *b)
{
	mem_free(b->data);
	*b = BUF_INIT;
}
