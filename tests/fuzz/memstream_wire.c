/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as messages to a decoder: u24 lengths and messages behind a true hello. The input may be right about the
 * stream's checksum no more than by luck, so an even first byte has it corrected: instructions are then carried out.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "compute/memstream/dec_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int no_page(void *ctx, uint64_t token, void *page)
{
	(void)ctx;
	memset(page, (int)token, MST_PAGE);
	return token & 1 ? 0 : HCI_E_NOTFOUND;
}

static uint64_t clock_ns;

static uint64_t passing(void *ctx)
{
	(void)ctx;
	return clock_ns += NS_PER_MS;
}

/* Others' pages come all the time, and now and then somebody leaves. */
static uint64_t came(void *ctx, uint32_t *left)
{
	(void)ctx;
	*left = (uint32_t)(clock_ns / (100 * NS_PER_MS));
	return clock_ns;
}

static uint32_t join(void *ctx)
{
	(void)ctx;
	return 1;
}

static void leave(void *ctx, uint32_t who, bool all)
{
	(void)ctx;
	(void)who;
	(void)all;
}

/* Pieces that lead on, the last one, and "not yet", as the question has it. */
static int tell(void *ctx, uint32_t *at, uint32_t *out, unsigned max)
{
	unsigned n = *at % 3 ? MIN(*at, max) : 0;

	(void)ctx;
	if (*at % 5 == 4)
		return HCI_E_AGAIN;
	for (unsigned i = 0; i < n; i++)
		out[i] = i;
	*at = n && *at < 1000000 ? *at + 1 : 0;
	return (int)n;
}

static void strong(const void *page, uint8_t out[MST_STRONG])
{
	memset(out, *(const uint8_t *)page, MST_STRONG);
}

/* What a message by itself would make, to know its checksum. */
static void correct(struct mst_dec *d, uint8_t *p, size_t len)
{
	struct job j = { 0 };
	size_t n;

	if (mst_get_data(p, len, &j.d, NULL))
		return;
	put32(p + 4, d->next_seq);
	n = (size_t)j.d.ops + j.d.lit + j.d.delta + j.d.fresh;
	j.plain = j.unpacked = mem_alloc(n + 1);
	j.out = mem_alloc(j.d.out);
	if (!mst_unpack(d->packer, j.d.codec, j.d.packed_at, j.d.packed, j.unpacked, n) && !job_compile(&j, d->cache_pages)) {
		j.content = mem_zalloc((size_t)j.n_refs * MST_PAGE + 1);
		if (job_run(&j, &d->slots) == HCI_E_CORRUPT)
			put32(p + 12, crc32c(0, j.out, j.d.out));
	}
	mem_free(j.unpacked);
	mem_free(j.out);
	mem_free(j.content);
	mem_free(j.steps);
	mem_free(j.refs);
}

static void drain(struct mst_dec *d)
{
	struct mst_msg *m;
	const void *p;
	int64_t n;

	while ((n = mst_dec_out(d, &p, NULL)) > 0) {
		const uint8_t *byte = p;

		/* Under a sanitizer: are all of them there? */
		if (crc32c(0, byte, (size_t)n) == 0x12345678 && crc32c(1, byte, (size_t)n) == 0x12345678)
			abort();
		mst_dec_consume(d, (size_t)n);
	}
	while ((m = mst_dec_next(d)))
		mst_msg_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct mst_hash hash = { NULL, strong };
	struct mst_provider provider = { .read = no_page, .join = join, .leave = leave, .came = came, .tell = tell };
	struct mst_opts o = { .now = passing, .wait_ns = 20 * NS_PER_MS, .cache = 64 * MST_PAGE, .window = 4 << 20, .n_providers = 1, .providers = &provider, .hash = &hash };
	struct mst_hello h = { .version = MST_VERSION, .codecs = 2, .cache_pages = 64, .window = 4 << 20 };
	struct mst_dec *d;
	struct mst_msg *m = mst_put_hello(&h);
	bool fix;

	if (!m || mst_dec_new(&d, &o, NULL) || mst_dec_take(d, m->data, m->len, NULL))
		abort();
	mst_msg_free(m);
	fix = size && !(data[0] & 1);
	for (size_t at = 1; at + 3 <= size;) {
		size_t len = get16(data + at) | (size_t)data[at + 2] << 16;
		uint8_t *copy;

		at += 3;
		len = MIN(len, size - at);
		copy = malloc(len ? len : 1);
		memcpy(copy, data + at, len);
		at += len;
		if (fix && len)
			correct(d, copy, len);
		if (mst_dec_take(d, copy, len, NULL))
			at = size;
		free(copy);
		drain(d);
	}
	mst_dec_free(d);
	return 0;
}
