/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding and checking of log batches. See log_format.h. */
#include "replica/log_format.h"

#include "base/crc32c.h"
#include "base/uuid.h"
#include "replica/page.h"

#define REGION_BLOCKS 16u

uint32_t logf_crc(const void *p, uint32_t hdr_bytes)
{
	static const uint32_t zero;
	const uint8_t *b = p;
	const size_t at = offsetof(struct logf_hdr, crc);
	uint32_t crc = crc32c(0, b, at);

	crc = crc32c(crc, &zero, sizeof(zero));
	return crc32c(crc, b + at + sizeof(zero), hdr_bytes - at - sizeof(zero));
}

uint32_t logf_encode(const struct logf_batch *b, void *out)
{
	struct logf_hdr *h = out;
	uint8_t *p = (uint8_t *)out + sizeof(*h);

	memset(h, 0, sizeof(*h));
	h->magic = LOGF_MAGIC;
	h->version = LOGF_VERSION;
	h->disk = b->disk;
	h->lsn = b->lsn;
	h->epoch = b->epoch;
	h->tail_lsn = b->tail_lsn;
	h->durable = b->durable;
	h->key = b->key;
	h->data_blocks = b->data_blocks;
	h->direct_blocks = b->direct_blocks;
	h->nvols = (uint16_t)b->nvols;
	h->nentries = (uint16_t)b->nentries;
	h->prev_bytes = b->prev_bytes;
	h->hdr_bytes = logf_all_bytes(logf_own(h), b->prev_bytes);
	h->hdr_blocks = (uint16_t)((h->hdr_bytes + HCI_BLOCK - 1) / HCI_BLOCK);
	memcpy(p, b->vols, b->nvols * sizeof(b->vols[0]));
	p += b->nvols * sizeof(b->vols[0]);
	memcpy(p, b->entries, b->nentries * sizeof(b->entries[0]));
	p += b->nentries * sizeof(b->entries[0]);
	memcpy(p, b->crcs, (b->data_blocks + b->direct_blocks) * sizeof(b->crcs[0]));
	p += (b->data_blocks + b->direct_blocks) * sizeof(b->crcs[0]);
	memset(p, 0, (size_t)((uint8_t *)out + h->hdr_blocks * HCI_BLOCK - p));
	if (b->prev_bytes)
		memcpy((uint8_t *)out + h->hdr_bytes - b->prev_bytes, b->prev, b->prev_bytes);
	h->crc = logf_crc(h, h->hdr_bytes);
	return h->hdr_blocks;
}

static bool sizes_ok(const struct logf_hdr *h)
{
	return h->magic == LOGF_MAGIC && h->version == LOGF_VERSION && h->nvols <= LOGF_VOLS_MAX &&
	       h->nentries <= LOGF_ENTRIES_MAX && h->data_blocks <= LOGF_DATA_MAX &&
	       h->direct_blocks <= LOGF_DATA_MAX - h->data_blocks && h->prev_bytes <= LOGF_OWN_MAX &&
	       h->hdr_bytes == logf_all_bytes(logf_own(h), h->prev_bytes) &&
	       h->hdr_blocks == (h->hdr_bytes + HCI_BLOCK - 1) / HCI_BLOCK;
}

static bool vol_ok(const struct logf_vol *v)
{
	return v->segsize >= LOGF_SEGMENT_MIN && v->segsize <= LOGF_SEGMENT_MAX &&
	       v->segsize % LOGF_SEGMENT_MIN == 0 && v->generation > 0;
}

static bool entry_ok(const struct logf_view *v, const struct logf_entry *e, uint64_t *data, uint64_t *direct)
{
	uint64_t blocks;

	if (e->vol >= v->hdr->nvols)
		return false;
	blocks = v->vols[e->vol].segsize / HCI_BLOCK;
	switch (e->kind) {
	case LOGF_DIRECT:
		*direct += e->nblocks;
		if (e->block % REGION_BLOCKS || e->nblocks % REGION_BLOCKS)
			return false;
		/* fallthrough */
	case LOGF_WRITE:
		*data += e->kind == LOGF_WRITE ? e->nblocks : 0;
		/* fallthrough */
	case LOGF_ZERO:
		return e->nblocks > 0 && e->block < blocks && e->nblocks <= blocks - e->block &&
		       e->seq > 0;
	case LOGF_FENCE:
	case LOGF_DROP:
		return e->nblocks == 0;
	default:
		return false;
	}
}

static bool body_ok(const struct logf_view *v)
{
	uint64_t data = 0, direct = 0;

	for (uint32_t i = 0; i < v->hdr->nvols; i++) {
		if (!vol_ok(&v->vols[i]))
			return false;
	}
	for (uint32_t i = 0; i < v->hdr->nentries; i++) {
		if (!entry_ok(v, &v->entries[i], &data, &direct))
			return false;
	}
	return data == v->hdr->data_blocks && direct == v->hdr->direct_blocks;
}

static bool data_ok(const struct logf_view *v, const uint8_t *data)
{
	const uint32_t *sums = v->crcs;

	for (uint32_t i = 0; i < v->hdr->nentries; i++) {
		const struct logf_entry *e = &v->entries[i];

		if (e->kind == LOGF_DIRECT)
			sums += e->nblocks;
		if (e->kind != LOGF_WRITE)
			continue;
		if (!(e->flags & LOGF_F_ASIS) && block_sums_wrong(data, e->nblocks, sums))
			return false;
		data += (size_t)e->nblocks * HCI_BLOCK;
		sums += e->nblocks;
	}
	return true;
}

static void set_parts(struct logf_view *v, const struct logf_hdr *h)
{
	v->hdr = h;
	v->blocks = h->hdr_blocks + h->data_blocks;
	v->vols = (const void *)((const uint8_t *)h + sizeof(*h));
	v->entries = (const void *)(v->vols + h->nvols);
	v->crcs = (const void *)(v->entries + h->nentries);
}

/* blocks: how many are needed, of the header alone or with its data. */
static enum logf_result parse(const void *p, size_t len, const struct uuid *disk, bool data, struct logf_view *v)
{
	const struct logf_hdr *h = p;
	uint32_t need;

	memset(v, 0, sizeof(*v));
	if (len < HCI_BLOCK) {
		v->blocks = 1;
		return LOGF_SHORT;
	}
	if (!sizes_ok(h) || !uuid_eq(&h->disk, disk))
		return LOGF_BAD;
	need = h->hdr_blocks + (data ? h->data_blocks : 0);
	if (len / HCI_BLOCK < need) {
		v->hdr = h;
		v->blocks = need;
		return LOGF_SHORT;
	}
	set_parts(v, h);
	return h->crc == logf_crc(p, h->hdr_bytes) && body_ok(v) ? LOGF_OK : LOGF_BAD;
}

enum logf_result logf_parse_hdr(const void *p, size_t len, const struct uuid *disk, struct logf_view *v)
{
	return parse(p, len, disk, false, v);
}

enum logf_result logf_parse(const void *p, size_t len, const struct uuid *disk, struct logf_view *v)
{
	enum logf_result res = parse(p, len, disk, true, v);

	if (res != LOGF_OK)
		return res;
	v->torn = !data_ok(v, (const uint8_t *)p + (size_t)v->hdr->hdr_blocks * HCI_BLOCK);
	return v->torn ? LOGF_BAD : LOGF_OK;
}

/* What is inside a whole header came from a whole header; it is looked at like anything from outside all the same. */
bool logf_prev(const struct logf_view *v, struct logf_view *prev)
{
	const struct logf_hdr *h = v->hdr, *p;

	memset(prev, 0, sizeof(*prev));
	if (h->prev_bytes < sizeof(*p))
		return false;
	p = (const void *)((const uint8_t *)h + h->hdr_bytes - h->prev_bytes);
	if (!sizes_ok(p) || logf_own(p) != h->prev_bytes || !uuid_eq(&p->disk, &h->disk) || p->lsn + 1 != h->lsn ||
	    p->key != h->key)
		return false;
	set_parts(prev, p);
	return body_ok(prev);
}
