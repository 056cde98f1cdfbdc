/* SPDX-License-Identifier: Apache-2.0 */
/* A page as changes of another: see delta.h. */
#include "compute/memstream/delta.h"

#include "compute/memstream/ops.h"

#define WORDS (HCI_BLOCK / 8)

static inline uint64_t word(const uint8_t *p, unsigned i)
{
	uint64_t v;

	memcpy(&v, p + (size_t)i * 8, sizeof(v));
	return v;
}

unsigned delta_make(const void *base, const void *page, uint8_t *out)
{
	const uint8_t *a = base, *b = page;
	unsigned n = 0, i = 0;

	while (i < WORDS) {
		unsigned from = i, same;

		while (i < WORDS && word(a, i) == word(b, i))
			i++;
		same = i - from;
		from = i;
		/* A single equal word between different ones costs less as one of them. */
		while (i < WORDS && (word(a, i) != word(b, i) ||
				     (i + 1 < WORDS && word(a, i + 1) != word(b, i + 1) && i > from)))
			i++;
		if (n + 4 + (i - from) * 8 > DELTA_MAX)
			return 0;
		n += put_varint(out + n, same);
		if (from == WORDS)
			break;
		n += put_varint(out + n, i - from);
		memcpy(out + n, b + (size_t)from * 8, (size_t)(i - from) * 8);
		n += (i - from) * 8;
	}
	return n;
}

bool delta_apply(void *page, const uint8_t **p, const uint8_t *end)
{
	uint8_t *to = page;
	uint64_t at = 0, n;

	while (at < WORDS) {
		if (!get_varint(p, end, &n) || n > WORDS - at)
			return false;
		at += n;
		if (at == WORDS)
			break;
		if (!get_varint(p, end, &n) || !n || n > WORDS - at || (uint64_t)(end - *p) < n * 8)
			return false;
		memcpy(to + at * 8, *p, n * 8);
		*p += n * 8;
		at += n;
	}
	return true;
}
