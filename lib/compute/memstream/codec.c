/* SPDX-License-Identifier: Apache-2.0 */
/* The compressors behind one call. zlib is always there; zstd and lz4 when the build found them. */
#include "compute/memstream/codec.h"

#include <hci/error.h>
#include <zlib.h>
#ifdef HCI_HAVE_ZSTD
#include <zstd.h>
#endif
#ifdef HCI_HAVE_LZ4
#include <lz4.h>
#endif

#include "base/mem.h"

struct mst_packer {
	z_stream deflate, inflate;
	int deflate_level; /* 0: not begun */
	bool inflating;
#ifdef HCI_HAVE_ZSTD
	ZSTD_CCtx *zc;
	ZSTD_DCtx *zd;
#endif
#ifdef HCI_HAVE_LZ4
	void *lz4;
#endif
};

/* Measured on pages of a Debian guest, 256 KiB at a time: docs/memstream-format.md has the figures. */
static const struct {
	int8_t zlib, zstd;
	bool lz4;
} levels[MST_LEVELS + 1] = {
	[1] = { 1, -5, true }, [2] = { 1, -1, false }, [3] = { 1, 1, false }, [4] = { 2, 2, false },
	[5] = { 3, 3, false }, [6] = { 4, 5, false },  [7] = { 5, 7, false }, [8] = { 6, 9, false },
};

uint32_t mst_codecs_built(void)
{
	uint32_t bits = 1u << MST_ZLIB;

#ifdef HCI_HAVE_ZSTD
	bits |= 1u << MST_ZSTD;
#endif
#ifdef HCI_HAVE_LZ4
	bits |= 1u << MST_LZ4;
#endif
	return bits;
}

struct mst_packer *mst_packer_new(void)
{
	return MEM_NEW(struct mst_packer);
}

void mst_packer_free(struct mst_packer *p)
{
	if (!p)
		return;
	if (p->deflate_level)
		deflateEnd(&p->deflate);
	if (p->inflating)
		inflateEnd(&p->inflate);
#ifdef HCI_HAVE_ZSTD
	ZSTD_freeCCtx(p->zc);
	ZSTD_freeDCtx(p->zd);
#endif
#ifdef HCI_HAVE_LZ4
	mem_free(p->lz4);
#endif
	mem_free(p);
}

size_t mst_pack_bound(size_t n)
{
	size_t bound = compressBound(n);

#ifdef HCI_HAVE_ZSTD
	bound = MAX(bound, ZSTD_compressBound(n));
#endif
#ifdef HCI_HAVE_LZ4
	bound = MAX(bound, (size_t)LZ4_compressBound((int)n));
#endif
	return bound;
}

static int64_t pack_zlib(struct mst_packer *p, int level, const void *src, size_t n, void *dst, size_t cap)
{
	z_stream *z = &p->deflate;

	if (p->deflate_level != level) {
		if (p->deflate_level)
			deflateEnd(z);
		memset(z, 0, sizeof(*z));
		p->deflate_level = 0;
		if (deflateInit(z, level) != Z_OK)
			return HCI_E_NOMEM;
		p->deflate_level = level;
	} else {
		deflateReset(z);
	}
	z->next_in = (Bytef *)(uintptr_t)src;
	z->avail_in = (uInt)n;
	z->next_out = dst;
	z->avail_out = (uInt)cap;
	if (deflate(z, Z_FINISH) != Z_STREAM_END)
		return HCI_E_INTERNAL;
	return (int64_t)(cap - z->avail_out);
}

static int unpack_zlib(struct mst_packer *p, const void *src, size_t len, void *dst, size_t n)
{
	z_stream *z = &p->inflate;
	int rc;

	if (!p->inflating) {
		memset(z, 0, sizeof(*z));
		if (inflateInit(z) != Z_OK)
			return HCI_E_NOMEM;
		p->inflating = true;
	} else {
		inflateReset(z);
	}
	z->next_in = (Bytef *)(uintptr_t)src;
	z->avail_in = (uInt)len;
	z->next_out = dst;
	z->avail_out = (uInt)n;
	rc = inflate(z, Z_FINISH);
	if (rc == Z_MEM_ERROR)
		return HCI_E_NOMEM;
	return rc == Z_STREAM_END && !z->avail_out && !z->avail_in ? 0 : HCI_E_PROTO;
}

#ifdef HCI_HAVE_ZSTD
static int64_t pack_zstd(struct mst_packer *p, int level, const void *src, size_t n, void *dst, size_t cap)
{
	size_t got;

	if (!p->zc && !(p->zc = ZSTD_createCCtx()))
		return HCI_E_NOMEM;
	got = ZSTD_compressCCtx(p->zc, dst, cap, src, n, level);
	return ZSTD_isError(got) ? HCI_E_NOMEM : (int64_t)got;
}

static int unpack_zstd(struct mst_packer *p, const void *src, size_t len, void *dst, size_t n)
{
	if (!p->zd && !(p->zd = ZSTD_createDCtx()))
		return HCI_E_NOMEM;
	return ZSTD_decompressDCtx(p->zd, dst, n, src, len) == n ? 0 : HCI_E_PROTO;
}
#endif

#ifdef HCI_HAVE_LZ4
static int64_t pack_lz4(struct mst_packer *p, const void *src, size_t n, void *dst, size_t cap)
{
	if (!p->lz4 && !(p->lz4 = mem_alloc((size_t)LZ4_sizeofState())))
		return HCI_E_NOMEM;
	return LZ4_compress_fast_extState(p->lz4, src, dst, (int)n, (int)cap, 1);
}
#endif

static int64_t pack_stored(const void *src, size_t n, void *dst, uint8_t *codec)
{
	*codec = MST_STORED;
	memcpy(dst, src, n);
	return (int64_t)n;
}

int64_t mst_pack(struct mst_packer *p, uint32_t codecs, int level, const void *src, size_t n, void *dst, size_t cap,
		 uint8_t *codec)
{
	int64_t got = 0;

	if (!n) {
		*codec = MST_STORED;
		return 0;
	}
	if (!codecs)
		return pack_stored(src, n, dst, codec);
	level = MAX(1, MIN(level, MST_LEVELS));
	*codec = MST_ZLIB;
#ifdef HCI_HAVE_LZ4
	if (codecs & 1u << MST_LZ4 && levels[level].lz4)
		*codec = MST_LZ4;
#endif
#ifdef HCI_HAVE_ZSTD
	if (codecs & 1u << MST_ZSTD && *codec != MST_LZ4)
		*codec = MST_ZSTD;
#endif
	switch (*codec) {
#ifdef HCI_HAVE_ZSTD
	case MST_ZSTD:
		got = pack_zstd(p, levels[level].zstd, src, n, dst, cap);
		break;
#endif
#ifdef HCI_HAVE_LZ4
	case MST_LZ4:
		got = pack_lz4(p, src, n, dst, cap);
		break;
#endif
	default:
		got = pack_zlib(p, levels[level].zlib, src, n, dst, cap);
	}
	if (got < 0)
		return got;
	return got && (size_t)got < n ? got : pack_stored(src, n, dst, codec);
}

int mst_unpack(struct mst_packer *p, uint8_t codec, const void *src, size_t len, void *dst, size_t n)
{
	switch (codec) {
	case MST_STORED:
		if (len != n)
			return HCI_E_PROTO;
		if (n)
			memcpy(dst, src, n);
		return 0;
	case MST_ZLIB:
		return unpack_zlib(p, src, len, dst, n);
#ifdef HCI_HAVE_ZSTD
	case MST_ZSTD:
		return unpack_zstd(p, src, len, dst, n);
#endif
#ifdef HCI_HAVE_LZ4
	case MST_LZ4:
		return LZ4_decompress_safe(src, dst, (int)len, (int)n) == (int)n ? 0 : HCI_E_PROTO;
#endif
	default:
		return HCI_E_PROTO;
	}
}
