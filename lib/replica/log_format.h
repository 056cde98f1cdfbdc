/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of one batch in the write log: header blocks, then data blocks. Pure functions over
 * memory, hostile-input-safe. docs/disk-format.md is the page.
 */
#ifndef REPLICA_LOG_FORMAT_H
#define REPLICA_LOG_FORMAT_H

#include "base/base.h"

#define LOGF_MAGIC UINT64_C(0x31424c4943484843) /* "CHHCILB1" */
#define LOGF_VERSION 2u

#define LOGF_VOLS_MAX 256u
#define LOGF_ENTRIES_MAX 256u
#define LOGF_DATA_MAX 512u /* blocks */
#define LOGF_HDR_MAX 11u   /* blocks: what the three limits above come to, twice: see prev_bytes */

#define LOGF_SEGMENT_MIN (UINT64_C(64) << 10)
#define LOGF_SEGMENT_MAX (UINT64_C(4) << 30)
#define LOGF_ALL UINT32_MAX /* segment of a DROP of the whole slot */

enum logf_kind {
	LOGF_WRITE = 1,
	LOGF_ZERO = 2,
	LOGF_FENCE = 3, /* its meaning is in the volume's record: generation */
	LOGF_DROP = 4,
	LOGF_DIRECT = 5, /* whole regions whose data are in the segment file already, durably */
};

#define LOGF_F_SETSEQ 1u
#define LOGF_F_SIDE 4u /* of DIRECT: in the second half of the file */
#define LOGF_F_ASIS 2u /* the data need not have their sums */

struct logf_hdr {
	uint64_t magic;
	uint32_t crc; /* of hdr_bytes bytes, with this field 0 */
	uint16_t version;
	uint16_t hdr_blocks;
	struct uuid disk;
	uint64_t lsn;   /* number of the batch: one more than that of the one before it */
	uint64_t epoch; /* how often the disk had been opened: never smaller than that of the one
			   before */
	uint64_t tail_lsn;
	uint32_t data_blocks;
	uint32_t hdr_bytes;
	uint16_t nvols;
	uint16_t nentries;
	uint32_t direct_blocks; /* of all DIRECT entries: they have sums, but no data here */
	uint64_t durable;       /* all batches up to this one were on stable media when this one was made */
	uint64_t key;           /* of the superblock: nobody who writes data blocks can make headers */
	uint32_t prev_bytes;    /* behind the sums, at a multiple of 8, is the header of the batch before, without what
				   that has there itself; 0: this is the first */
	uint32_t zero;
};
_Static_assert(sizeof(struct logf_hdr) == 96, "on disk");

struct logf_vol {
	struct uuid uuid;
	uint64_t generation;
	uint64_t stable;
	uint64_t segsize;
	uint64_t zero;
};
_Static_assert(sizeof(struct logf_vol) == 48, "on disk");

struct logf_entry {
	uint16_t vol;
	uint8_t kind;
	uint8_t flags;
	uint32_t segment;
	uint32_t block, nblocks; /* in the segment */
	uint64_t seq;
};
_Static_assert(sizeof(struct logf_entry) == 24, "on disk");

/* A header without the one of the batch before. */
#define LOGF_OWN_MAX                                                                                                  \
	(sizeof(struct logf_hdr) + LOGF_VOLS_MAX * sizeof(struct logf_vol) +                                          \
	 LOGF_ENTRIES_MAX * sizeof(struct logf_entry) + LOGF_DATA_MAX * 4)
_Static_assert(LOGF_OWN_MAX % 8 == 0 && 2 * LOGF_OWN_MAX <= LOGF_HDR_MAX * HCI_BLOCK, "header fits");

/* A batch to be written. */
struct logf_batch {
	struct uuid disk;
	uint64_t lsn, epoch, tail_lsn, durable, key;
	const void *prev; /* logf_own() of the batch before */
	uint32_t prev_bytes;
	uint32_t nvols, nentries, data_blocks, direct_blocks; /* at most LOGF_DATA_MAX together */
	struct logf_vol vols[LOGF_VOLS_MAX];
	struct logf_entry entries[LOGF_ENTRIES_MAX];
	uint32_t crcs[LOGF_DATA_MAX]; /* block_sum() of each data and direct block, in the order of the entries */
};

static inline uint32_t logf_hdr_bytes(uint32_t nvols, uint32_t nentries, uint32_t nsums)
{
	return (uint32_t)(sizeof(struct logf_hdr) + nvols * sizeof(struct logf_vol) +
			  nentries * sizeof(struct logf_entry) + nsums * 4);
}
/* own: logf_hdr_bytes(). */
static inline uint32_t logf_all_bytes(uint32_t own, uint32_t prev)
{
	return prev ? (own + 7) / 8 * 8 + prev : own;
}
static inline uint32_t logf_hdr_blocks(uint32_t nvols, uint32_t nentries, uint32_t nsums, uint32_t prev)
{
	return (logf_all_bytes(logf_hdr_bytes(nvols, nentries, nsums), prev) + HCI_BLOCK - 1) / HCI_BLOCK;
}
/* Of a header that is whole: the bytes that the next one carries along. */
static inline uint32_t logf_own(const struct logf_hdr *h)
{
	return logf_hdr_bytes(h->nvols, h->nentries, h->data_blocks + h->direct_blocks);
}

/* Writes the header blocks to out (LOGF_HDR_MAX blocks of room); returns how many. */
uint32_t logf_encode(const struct logf_batch *b, void *out);

/* A batch that was read; points into what was given. */
struct logf_view {
	const struct logf_hdr *hdr;
	const struct logf_vol *vols;
	const struct logf_entry *entries;
	const uint32_t *crcs;
	uint32_t blocks; /* of the whole batch */
	bool torn;       /* LOGF_BAD because of its data alone: the header is whole */
};

enum logf_result {
	LOGF_OK,
	LOGF_SHORT, /* so far so good, but v->blocks blocks are needed; v->hdr is not to be trusted
		       beyond that */
	LOGF_BAD,   /* not a batch, not of this disk, or not whole */
};
/* Is there a whole batch at p? len: multiple of HCI_BLOCK, p aligned to 8. Data blocks are checked
 * too. */
enum logf_result logf_parse(const void *p, size_t len, const struct uuid *disk,
			    struct logf_view *v);
/* Is the header whole, whatever became of the data? Never sets v->torn. */
enum logf_result logf_parse_hdr(const void *p, size_t len, const struct uuid *disk, struct logf_view *v);
/* The header of the batch before, as v has it along: false when there is none, or it makes no sense. */
bool logf_prev(const struct logf_view *v, struct logf_view *prev);
/* The CRC of a header as it should be; for fuzzing and tests, which make headers by hand. */
uint32_t logf_crc(const void *p, uint32_t hdr_bytes);

#endif
