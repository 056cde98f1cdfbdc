/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The record that recorder.c writes and verify.c reads: owns its layout, its checksum and
 * where it lies on the disk. Nothing here does I/O.
 *
 * The area is a raw region of the volume outside of the file system, so that a dump of the
 * volume can be checked without mounting anything. It is divided into `slots` equal strides;
 * a record fills the first 4 KiB of its stride, so that even a short run touches many
 * segments of the volume. Sequence numbers start at 1 and never repeat; record S lives in
 *     slot = S * RECORD_STEP mod slots        (slots is a power of two: every slot in turn)
 * and so overwrites record S - slots: a volume that went back in time is found out.
 *
 * Little endian, offsets in bytes:
 *     0  magic "HCIREC01"     8  seq       16  nonce of the run    24  lba (512-byte sectors)
 *    32  filler, a function of seq and nonce                     4092  CRC32C of 0..4091
 */
#ifndef HCI_DEMO_RECORD_H
#define HCI_DEMO_RECORD_H

#include <stdint.h>
#include <string.h>

#define RECORD_SIZE 4096u
#define RECORD_MAGIC "HCIREC01"
#define RECORD_STEP 0x9E3779B1ull

/* What guest and host agree on when the kernel command line does not say otherwise. */
#define AREA_DEFAULT_OFFSET (256ull << 20)
#define AREA_DEFAULT_LENGTH (256ull << 20)
#define SLOTS_DEFAULT 1024u

struct record_area {
	uint64_t offset; /* bytes */
	uint64_t length; /* bytes */
	uint32_t slots;  /* a power of two */
};

struct record {
	uint64_t seq;
	uint64_t nonce;
	uint64_t lba;
	uint32_t crc;
};

enum record_state {
	RECORD_OK,
	RECORD_EMPTY,  /* zeroes: never written */
	RECORD_CORRUPT /* neither */
};

static inline uint32_t crc32c(const void *data, size_t len)
{
	static uint32_t table[256];
	const uint8_t *p = data;
	uint32_t crc = ~0u;

	if (!table[1]) {
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t c = i;

			for (int k = 0; k < 8; k++)
				c = c & 1 ? 0x82F63B78u ^ (c >> 1) : c >> 1;
			table[i] = c;
		}
	}
	while (len--)
		crc = table[(crc ^ *p++) & 0xff] ^ (crc >> 8);
	return ~crc;
}

static inline uint64_t record_slot(const struct record_area *a, uint64_t seq)
{
	return seq * RECORD_STEP & (a->slots - 1);
}

static inline uint64_t record_slot_offset(const struct record_area *a, uint64_t slot)
{
	uint64_t stride = a->length / a->slots / RECORD_SIZE * RECORD_SIZE;

	return a->offset + slot * stride;
}

static inline void record_filler(uint64_t *word, const struct record *r)
{
	uint64_t x = (r->seq * 0x9E3779B97F4A7C15ull) ^ r->nonce;

	if (!x)
		x = 1;
	for (unsigned int i = 4; i < RECORD_SIZE / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		word[i] = x;
	}
}

/* Fills block (4096 bytes, 8-byte aligned) from seq, nonce and lba; sets r->crc. */
static inline void record_make(void *block, struct record *r)
{
	uint64_t *word = block;

	memcpy(block, RECORD_MAGIC, 8);
	word[1] = r->seq;
	word[2] = r->nonce;
	word[3] = r->lba;
	record_filler(word, r);
	r->crc = crc32c(block, RECORD_SIZE - 4);
	memcpy((char *)block + RECORD_SIZE - 4, &r->crc, 4);
}

/* lba is where the block was read: a record found elsewhere than it says is corrupt. */
static inline enum record_state record_check(const void *block, uint64_t lba, struct record *r)
{
	const uint64_t *word = block;
	unsigned int i;

	for (i = 0; i < RECORD_SIZE / 8 && !word[i]; i++)
		;
	if (i == RECORD_SIZE / 8)
		return RECORD_EMPTY;
	r->seq = word[1];
	r->nonce = word[2];
	r->lba = word[3];
	memcpy(&r->crc, (const char *)block + RECORD_SIZE - 4, 4);
	if (memcmp(block, RECORD_MAGIC, 8) || r->lba != lba ||
	    crc32c(block, RECORD_SIZE - 4) != r->crc)
		return RECORD_CORRUPT;
	return RECORD_OK;
}

#endif
