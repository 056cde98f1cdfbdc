/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a VMM's stream, in portions that the input's first bytes decide: they come out as they went in. */
#include <stdlib.h>
#include <string.h>

#include "compute/memstream/aside.h"
#include "compute/memstream/memstream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void carry(struct mst_enc *e, struct mst_dec *d)
{
	struct mst_msg *m;

	while ((m = mst_enc_next(e))) {
		if (mst_dec_take(d, m->data, m->len, NULL))
			abort();
		mst_msg_free(m);
	}
	while ((m = mst_dec_next(d))) {
		if (mst_enc_take(e, m->data, m->len, NULL))
			abort();
		mst_msg_free(m);
	}
}

/* What comes out must be the next bytes of what went in. */
static void sink(struct mst_dec *d, const uint8_t *data, size_t size, size_t *out)
{
	const void *p;
	int64_t n;

	while ((n = mst_dec_out(d, &p, NULL)) > 0) {
		if (*out + (size_t)n > size || memcmp(p, data + *out, (size_t)n))
			abort();
		mst_dec_consume(d, (size_t)n);
		*out += (size_t)n;
	}
	if (n < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mst_opts o = { .batch = 64 << 10, .cache = 1 << 20, .window = 4 << 20, .aside = (uint32_t)(size % ASIDE_MODES) };
	size_t portion, in = 0, out = 0;
	struct mst_enc *e;
	struct mst_dec *d;
	bool flush;

	if (size < 3)
		return 0;
	portion = 1 + (data[0] | (size_t)data[1] << 8);
	flush = data[2] & 1;
	data += 3;
	size -= 3;
	if (mst_enc_new(&e, &o, NULL) || mst_dec_new(&d, &o, NULL))
		abort();
	while (in < size) {
		int64_t n;

		carry(e, d);
		n = mst_enc_feed(e, data + in, portion < size - in ? portion : size - in, NULL);
		if (n < 0 || (flush && mst_enc_flush(e, NULL)))
			abort();
		in += (size_t)n;
		carry(e, d);
		sink(d, data, size, &out);
	}
	if (mst_enc_finish(e, NULL))
		abort();
	for (unsigned i = 0; i < 4; i++) {
		carry(e, d);
		sink(d, data, size, &out);
	}
	if (out != size || !mst_enc_done(e) || !mst_dec_done(d))
		abort();
	mst_enc_free(e);
	mst_dec_free(d);
	return 0;
}
