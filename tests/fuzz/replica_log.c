/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing a batch of the write log. The input is header and data; its CRCs are made right first, as
 * far as the header's counts make sense, so that what is behind them is reached. The first byte
 * says which.
 */
#include <stdlib.h>

#include "base/crc32c.h"
#include "replica/log_format.h"

#define MAX_BYTES ((LOGF_HDR_MAX + 8) * HCI_BLOCK)

static const struct uuid disk = { { 0x61, 0x62, 0x63 } };

static void mend(uint8_t *p, size_t len, uint8_t how)
{
	struct logf_hdr *h = (void *)p;
	uint32_t *crcs;
	size_t data;

	h->magic = LOGF_MAGIC;
	h->version = LOGF_VERSION;
	h->disk = disk;
	if (how & 1 || h->nvols > LOGF_VOLS_MAX || h->nentries > LOGF_ENTRIES_MAX ||
	    h->data_blocks > LOGF_DATA_MAX || h->prev_bytes > LOGF_OWN_MAX)
		return;
	h->hdr_bytes = logf_all_bytes(logf_hdr_bytes(h->nvols, h->nentries, h->data_blocks), h->prev_bytes);
	h->hdr_blocks = (uint16_t)logf_hdr_blocks(h->nvols, h->nentries, h->data_blocks, h->prev_bytes);
	data = (size_t)h->hdr_blocks * HCI_BLOCK;
	if (how & 2 || data > len)
		return;
	crcs = (void *)(p + logf_hdr_bytes(h->nvols, h->nentries, h->data_blocks) - h->data_blocks * 4);
	for (uint32_t i = 0; i < h->data_blocks && data + (i + 1) * (size_t)HCI_BLOCK <= len; i++)
		crcs[i] = crc32c(0, p + data + i * (size_t)HCI_BLOCK, HCI_BLOCK);
	h->crc = logf_crc(p, h->hdr_bytes);
}

/* What was accepted must keep its promises. */
static void check(const struct logf_view *v, size_t len)
{
	uint64_t data = 0;

	if ((size_t)v->blocks * HCI_BLOCK > len)
		abort();
	for (uint32_t i = 0; i < v->hdr->nentries; i++) {
		const struct logf_entry *e = &v->entries[i];
		uint64_t blocks;

		if (e->vol >= v->hdr->nvols)
			abort();
		blocks = v->vols[e->vol].segsize / HCI_BLOCK;
		if ((uint64_t)e->block + e->nblocks > blocks && e->nblocks)
			abort();
		data += e->kind == LOGF_WRITE ? e->nblocks : 0;
	}
	if (data != v->hdr->data_blocks)
		abort();
}

/* The header of the batch before is inside this one, and all that it says of itself, too. */
static void check_prev(const struct logf_view *v)
{
	const uint8_t *end = (const uint8_t *)v->hdr + v->hdr->hdr_bytes;
	struct logf_view prev;

	if (!logf_prev(v, &prev))
		return;
	if ((const uint8_t *)(prev.crcs + prev.hdr->data_blocks + prev.hdr->direct_blocks) != end)
		abort();
	for (uint32_t i = 0; i < prev.hdr->nentries; i++)
		if (prev.entries[i].vol >= prev.hdr->nvols)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
	struct logf_view v;
	size_t len = size ? (size - 1 + HCI_BLOCK - 1) / HCI_BLOCK * HCI_BLOCK : 0;
	uint8_t *p;

	if (size < 2 || len > MAX_BYTES)
		return 0;
	/* Exactly as large as what the parser is told, so that the sanitizer sees a byte too far.
	 */
	p = aligned_alloc(HCI_BLOCK, len);
	if (!p)
		return 0;
	memset(p, 0, len);
	memcpy(p, in + 1, size - 1);
	mend(p, len, in[0]);
	if (logf_parse(p, len, &disk, &v) == LOGF_OK)
		check(&v, len);
	if (logf_parse_hdr(p, len, &disk, &v) == LOGF_OK)
		check_prev(&v);
	free(p);
	return 0;
}
