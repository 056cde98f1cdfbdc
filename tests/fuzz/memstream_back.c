/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as messages to an encoder with a stream under way: a byte of what else happens, u16 length, message. */
#include <stdlib.h>
#include <string.h>

#include "compute/memstream/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int lookup(void *ctx, uint64_t quick, uint32_t batch, uint64_t *token)
{
	(void)ctx;
	(void)batch;
	*token = quick;
	return (int)(quick % 3); /* there, on its way, neither */
}

static bool told(void *ctx, uint32_t half)
{
	(void)ctx;
	return half != 0x6c6c7566; /* "full" */
}

static void feed(struct mst_enc *e)
{
	static const uint8_t head[] = { 1, 0, 0, 0, 2, 3, 'r', 'a', 'm', 0, 0, 0, 0, 0, 0, 0, 4, 0x7e, 0, 0, 0, 2, 2, 0, 0, 0, 2 };
	static uint8_t page[8 + MST_PAGE];

	mst_enc_feed(e, head, sizeof(head), NULL);
	for (unsigned i = 0; i < 20; i++) {
		memset(page, (int)i, sizeof(page));
		memset(page, 0, 8);
		page[6] = (uint8_t)(i << 4);
		page[7] = 0x28;
		mst_enc_feed(e, page, sizeof(page), NULL);
	}
	mst_enc_flush(e, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mst_provider provider = { .lookup = lookup, .told = told };
	struct mst_opts o = { .batch = 64 << 10, .cache = 64 * MST_PAGE, .n_providers = 1, .providers = &provider };
	struct mst_hello h = { .decoder = true, .version = MST_VERSION, .codecs = 2, .cache_pages = 64, .window = 4 << 20,
			       .n_ids = 1 };
	struct mst_msg *m = mst_put_hello(&h);
	struct mst_stats stats;
	struct mst_enc *e;

	if (!m || mst_enc_new(&e, &o, NULL))
		abort();
	if (!size || data[0] & 1) /* else the input's own hello */
		if (mst_enc_take(e, m->data, m->len, NULL))
			abort();
	mst_msg_free(m);
	feed(e);
	for (size_t at = 1; at + 3 <= size;) {
		size_t len = get16(data + at + 1);
		uint8_t what = data[at], *copy;

		at += 3;
		len = MIN(len, size - at);
		while ((what & 1) && (m = mst_enc_next(e)))
			mst_msg_free(m);
		if (what & 2)
			feed(e);
		if (what & 4)
			mst_enc_finish(e, NULL);
		copy = malloc(len ? len : 1);
		memcpy(copy, data + at, len);
		at += len;
		mst_enc_take(e, copy, len, NULL);
		free(copy);
	}
	mst_enc_stats(e, &stats);
	if (stats.out > stats.in)
		abort();
	mst_enc_free(e);
	return 0;
}
