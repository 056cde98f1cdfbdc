/* SPDX-License-Identifier: Apache-2.0 */
/* A captured stream through encoder and decoder, as fast as it goes, and what plain compression makes of its pages. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef HCI_HAVE_ZSTD
#include <zstd.h>
#endif

#include "bench.h"
#include "compute/memstream/hash.h"
#include "compute/memstream/parse.h"
#include "compute/memstream/store.h"
#include "unit/compute/memstream/pair.h"

static const uint8_t *map(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st))
		die("cannot open the stream");
	*len = (size_t)st.st_size;
	p = mmap(NULL, *len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		die("cannot map the stream");
	return p;
}

#ifdef HCI_HAVE_ZSTD
struct plain {
	ZSTD_CCtx *page, *stream, *run;
	uint8_t buf[256 << 10], out[512 << 10];
	size_t n, pages, by_page, by_stream, by_run;
	double s_page, s_stream, s_run;
};

static void run_full(struct plain *x)
{
	double from = now_s();

	x->by_run += ZSTD_compressCCtx(x->run, x->out, sizeof(x->out), x->buf, x->n, 1);
	x->s_run += now_s() - from;
	x->n = 0;
}

/* A page alone; one after the other in a stream that is flushed at each (as QEMU's multifd does); 64 together. */
static void page(struct plain *x, const uint8_t *p)
{
	ZSTD_outBuffer out = { x->out, sizeof(x->out), 0 };
	ZSTD_inBuffer in = { p, 4096, 0 };
	double from;

	x->pages++;
	if (mst_is_zero(p))
		return;
	from = now_s();
	x->by_page += ZSTD_compressCCtx(x->page, x->out, sizeof(x->out), p, 4096, 1);
	x->s_page += now_s() - from;
	from = now_s();
	ZSTD_compressStream2(x->stream, &out, &in, ZSTD_e_flush);
	x->by_stream += out.pos;
	x->s_stream += now_s() - from;
	memcpy(x->buf + x->n, p, 4096);
	x->n += 4096;
	if (x->n == sizeof(x->buf))
		run_full(x);
}

static void plain(const uint8_t *stream, size_t len)
{
	static struct plain x;
	struct batch b = { .cap = MST_BATCH_DEFAULT };
	struct parser p;
	size_t at = 0;

	x.page = ZSTD_createCCtx();
	x.stream = ZSTD_createCCtx();
	ZSTD_CCtx_setParameter(x.stream, ZSTD_c_compressionLevel, 1);
	x.run = ZSTD_createCCtx();
	b.raw = malloc(b.cap);
	parser_init(&p);
	while (at < len) {
		uint32_t off = 0;
		bool full;

		at += (size_t)parser_feed(&p, stream + at, len - at, &b, &full);
		parser_cut(&p, &b);
		for (uint32_t i = 0; i < b.n_pieces; off += b.pieces[i++].len)
			if (b.pieces[i].kind >= PIECE_PAGE)
				page(&x, b.raw + off + b.pieces[i].len - 4096);
		batch_reset(&b);
	}
	run_full(&x);
	free(b.raw);
	printf("  \"plain\": {\"pages\": %zu, \"zstd1_by_page\": %zu, \"zstd1_by_page_gb_s\": %.3f, \"zstd1_stream_flushed\": %zu, "
	       "\"zstd1_stream_flushed_gb_s\": %.3f, \"zstd1_by_256k\": %zu, \"zstd1_by_256k_gb_s\": %.3f},\n",
	       x.pages, x.by_page, (double)x.pages * 4096 / x.s_page / 1e9, x.by_stream,
	       (double)x.pages * 4096 / x.s_stream / 1e9, x.by_run, (double)x.pages * 4096 / x.s_run / 1e9);
}
#else
static void plain(const uint8_t *stream, size_t len)
{
	(void)stream;
	(void)len;
}
#endif

static void through(const char *name, const char *path, const struct pair_opts *o)
{
	struct pair_result r;
	size_t len;
	const uint8_t *stream = map(path, &len);
	double from = now_s();

	pair_run(stream, len, o, &r);
	if (r.rc || !r.same)
		die(r.rc ? r.err.message : "the stream came out differently");
	print_stats(name, &r.src, &r.dst, now_s() - from);
	munmap((void *)(uintptr_t)stream, len);
}

int bench_stream(struct stream_run *r)
{
	static const uint8_t id[16] = "image", store_id[16] = "pgst-bench";
	struct mst_store *store = mst_store_new(store_id, GiB);
	struct mst_known *known = mst_known_new(GiB / 4096);
	struct mst_index *index = mst_index_new(id, 4 * MiB);
	struct mst_provider src[2], dst[2];
	struct pair_opts o = { .src = r->opts, .dst = r->opts, .portion = 1 << 20, .seed = 1, .threads = true };
	const uint8_t *stream;
	size_t len;

	mst_known_provider(known, &src[0]);
	mst_store_provider(store, &dst[0]);
	o.src.providers = src;
	o.dst.providers = dst;
	o.src.n_providers = o.dst.n_providers = 1;
	printf("{\n");
	if (r->image) {
		int fd = open(r->image, O_RDONLY);
		double from = now_s();
		int64_t n;

		if (fd < 0 || !mst_file_provider(id, fd, &dst[1]))
			die("cannot open the image");
		mst_index_source(index, &src[1]);
		n = mst_index_scan(index, fd, 0, UINT64_MAX >> 2);
		printf("  \"index\": {\"bytes\": %lld, \"seconds\": %.3f},\n", (long long)n, now_s() - from);
		o.src.n_providers = o.dst.n_providers = 2;
	}
	stream = map(r->stream, &len);
	plain(stream, len);
	through("first", r->stream, &o);
	if (r->second) {
		printf(",\n");
		through("second", r->second, &o);
	}
	printf("\n}\n");
	return 0;
}
