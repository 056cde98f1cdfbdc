/* SPDX-License-Identifier: Apache-2.0 */
/* The pages on a disk as docs/disk-format.md has them. What a batch of the log is: log_format.h. */
#ifndef REPLICA_ON_DISK_H
#define REPLICA_ON_DISK_H

#include "replica/page.h"
#include "replica/replica.h"

#define REGION_BLOCKS (REPL_REGION / HCI_BLOCK)
#define MAP_REGIONS 256u               /* regions of one page of a region table */
#define SUM_REGIONS 62u                /* regions of one page of checksums */
#define SUM_BLOCKS (SUM_REGIONS * REGION_BLOCKS)
#define RING_OFF ((uint64_t)PAGE_PAIR) /* the log file begins with the checkpoint's pair */
#define LOG_SIZE_MIN (4 * MiB)
#define LOG_SIZE_MAX (64 * GiB)

#define SUPER_MAGIC UINT64_C(0x4b53494449434843) /* "CHCIDISK" */
#define CKPT_MAGIC UINT64_C(0x54504b4349434843)  /* "CHCICKPT" */
#define META_MAGIC UINT64_C(0x4154454d49434843)  /* "CHCIMETA" */
#define MAP_MAGIC UINT64_C(0x50414d5249434843)   /* "CHCIRMAP" */
#define SUM_MAGIC UINT64_C(0x534d555349434843)   /* "CHCISUMS" */
#define SCRUB_MAGIC UINT64_C(0x4252435349434843) /* "CHCISCRB" */
#define SCRUB_VERSION 1u
#define SUPER_VERSION 5u
#define CKPT_VERSION 1u
#define META_VERSION 1u
#define MAP_VERSION 2u
#define SUM_VERSION 2u

#define SUPER_CLEAN 1u   /* all is in the segments: the log is not needed */
#define SUPER_EXT_LOG 2u /* the log is on another device, at log_path */

struct super_page {
	struct page_hdr h;
	struct uuid cluster;
	uint64_t log_size; /* bytes of the ring */
	uint64_t epoch;    /* times opened */
	uint64_t created;  /* ns since 1970 */
	uint32_t flags;
	uint32_t block, region;
	uint32_t zero;
	uint64_t lsn;         /* with CLEAN: of the next batch */
	char log_path[256];   /* with EXT_LOG: a directory or a device, as given when formatted */
	uint64_t log_key;     /* random: see struct logf_hdr */
};

struct ckpt_page {
	struct page_hdr h;
	uint64_t tail_lsn, min_epoch;
	uint64_t tail_block; /* of the ring */
	uint64_t epoch;      /* of the last opening: never below the superblock's unless this is an old copy */
};

struct meta_page {
	struct page_hdr h;
	struct uuid volume;
	uint64_t generation, segsize, last_seq, stable_seq;
	uint64_t lsn; /* all batches below it had been durable when this was written */
};

/* Stamped, as are those of checksums. */
struct map_page {
	struct page_hdr h;
	struct uuid volume;
	uint32_t segment, first_region;
	uint32_t regions, zero;
	uint64_t seq[MAP_REGIONS];   /* with REPL_SEQ_ZERO and REPL_SEQ_COPIED */
	uint16_t valid[MAP_REGIONS]; /* bit per block: the segment file has it; without it, it is
					zeroes */
	uint8_t side[MAP_REGIONS / 8]; /* bit per region: it is in the second half of the file */
};

/* Behind the region tables in the same file, pairs as well. */
struct sum_page {
	struct page_hdr h;
	struct uuid volume;
	uint32_t segment, first_region;
	uint32_t regions, zero;
	uint64_t side;            /* bit per region, as in the region table, whose second witness this is */
	uint32_t sum[SUM_BLOCKS]; /* SUM_NONE: the block is not valid */
};
_Static_assert(sizeof(struct sum_page) <= PAGE_STAMPS_AT && sizeof(struct map_page) <= PAGE_STAMPS_AT, "a stamped page");
_Static_assert(sizeof(struct super_page) <= HCI_BLOCK, "a page");

#endif
