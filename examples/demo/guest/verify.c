// SPDX-License-Identifier: Apache-2.0
/*
 * Holds what the guest reported as durable (console logs) against what the volume holds.
 *
 * usage: verify [--strict] VOLUME CONSOLE_LOG...
 * VOLUME is a raw image or a block device; the logs are given in the order they were written
 * (a guest that migrated has one on each node) and read as one: a line may begin in one log
 * and end in the next.
 *
 * For each slot the newest acknowledged record must be there, or a newer one that was being
 * written. Prints JSON:
 *   acknowledged  records reported;  checked  slots compared;  newer  of them unacknowledged
 *   lost          acknowledged, and nothing was ever there; or a restarted guest missed it
 *   stale         acknowledged, and an older record is there; or a restarted guest went back
 *   corrupt       neither a whole record of this place nor empty; or a running guest read so
 *   guest_errors  I/O errors the guest saw;  garbled  report lines cut short (not counted)
 * Exit status: 0 when lost, stale and corrupt are 0 and something was acknowledged (--strict:
 * and guest_errors is 0), 1 when not, 2 when there was nothing to check with.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "record.h"

struct ack {
	uint64_t seq;
	uint64_t lba;
	uint64_t order;
	uint32_t crc;
};

struct result {
	struct ack *acks;
	size_t nacks, cap;
	uint64_t *holes; /* seq, and how many acks were in the log before it */
	size_t nholes, hole_cap;
	struct record_area area;
	uint64_t last_seq;
	uint64_t runs, checked, newer, lost, stale, corrupt, guest_errors, garbled;
	uint64_t details;
};

/* The first few findings by name, on stderr: a count alone helps nobody to search. */
static void detail(struct result *r, const char *what, uint64_t seq, uint64_t lba, uint64_t found)
{
	if (r->details++ < 20)
		fprintf(stderr, "verify: %s: record %llu at sector %llu, found %llu\n", what,
			(unsigned long long)seq, (unsigned long long)lba,
			(unsigned long long)found);
}

static void *grow(void *p, size_t *cap, size_t used, size_t size)
{
	if (used < *cap)
		return p;
	*cap = *cap ? *cap * 2 : 4096;
	p = realloc(p, *cap * size);
	if (!p) {
		fprintf(stderr, "verify: out of memory\n");
		exit(2);
	}
	return p;
}

static void take_ack(struct result *r, uint64_t seq, uint64_t lba, uint32_t crc)
{
	/* Numbers only grow; a guest that boots goes on after the newest it finds. */
	if (seq <= r->last_seq) {
		r->stale++;
		detail(r, "number used again: the guest saw an older disk", seq, lba, r->last_seq);
	}
	r->last_seq = seq;
	r->acks = grow(r->acks, &r->cap, r->nacks, sizeof(*r->acks));
	r->acks[r->nacks] = (struct ack){ seq, lba, r->nacks, crc };
	r->nacks++;
}

static void take_line(struct result *r, char *line)
{
	unsigned long long a, b, c;
	unsigned int crc;
	char *p = NULL, end;

	/* A report cut short by a crash may be followed by another on the same line. */
	for (char *q = line; (q = strstr(q, "HCI-")); q += 4) {
		if (p && !strncmp(p, "HCI-ACK", 7))
			r->garbled++;
		p = q;
	}
	if (!p)
		return;
	if (!strncmp(p, "HCI-ACK", 7)) {
		if (sscanf(p, "HCI-ACK %llu %llu %8x%c", &a, &b, &crc, &end) == 3 && a &&
		    strlen(strrchr(p, ' ')) == 9)
			take_ack(r, a, b, crc);
		else
			r->garbled++;
	} else if (sscanf(p, "HCI-SCAN records=%llu newest=%llu corrupt=%llu", &a, &b, &c) == 3) {
		if (b < r->last_seq) {
			r->lost++;
			detail(r, "gone when the guest started", r->last_seq, 0, b);
		}
	} else if (sscanf(p, "HCI-HOLE %llu", &a) == 1) {
		r->holes = grow(r->holes, &r->hole_cap, r->nholes + 1, 2 * sizeof(*r->holes));
		r->holes[2 * r->nholes] = a;
		r->holes[2 * r->nholes++ + 1] = r->nacks;
	} else if (!strncmp(p, "HCI-RUN ", 8)) {
		unsigned int slots;
		char *q = strstr(p, "slots=");

		if (q && sscanf(q, "slots=%u area=%llu,%llu", &slots, &a, &b) == 3 && slots &&
		    !(slots & (slots - 1)) && b / slots >= RECORD_SIZE) {
			r->area = (struct record_area){ a, b, slots };
			r->runs++;
		}
	} else if (sscanf(p, "HCI-BAD %llu %llu %llu", &a, &b, &c) == 3) {
		r->corrupt++;
		detail(r, "wrong when the guest read it", b, a, c);
	} else if (!strncmp(p, "HCI-ERR ", 8)) {
		r->guest_errors++;
		if (r->details++ < 20)
			fprintf(stderr, "verify: the guest saw an error: %s\n", p);
	}
}

static void take_logs(struct result *r, char **path, int n)
{
	static char line[4096];
	size_t used = 0;

	for (int i = 0; i < n; i++) {
		FILE *f = fopen(path[i], "r");
		int c;

		if (!f) {
			fprintf(stderr, "verify: cannot read the console log %s: %s\n", path[i],
				strerror(errno));
			exit(2);
		}
		while ((c = getc(f)) != EOF) {
			if (c == '\n') {
				line[used] = 0;
				take_line(r, line);
				used = 0;
			} else if (c && c != '\r' && used < sizeof(line) - 1) {
				line[used++] = (char)c;
			}
		}
		fclose(f);
	}
	/* A last line without its end was not reported. */
}

static int by_seq(const void *x, const void *y)
{
	const struct ack *a = x, *b = y;

	return a->seq < b->seq ? -1 : a->seq > b->seq;
}

static int by_place(const void *x, const void *y)
{
	const struct ack *a = x, *b = y;

	if (a->lba != b->lba)
		return a->lba < b->lba ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

/* A record missing at a restart is only lost if it had been acknowledged before. */
static void check_holes(struct result *r)
{
	qsort(r->acks, r->nacks, sizeof(*r->acks), by_seq);
	for (size_t i = 0; i < r->nholes; i++) {
		struct ack key = { .seq = r->holes[2 * i] };
		struct ack *a =
			r->nacks ? bsearch(&key, r->acks, r->nacks, sizeof(key), by_seq) : NULL;

		if (a && a->order < r->holes[2 * i + 1]) {
			r->lost++;
			detail(r, "missing when the guest started", a->seq, a->lba, 0);
		}
	}
}

static void check_ack(struct result *r, const struct ack *a, const void *block)
{
	struct record found = { 0 };

	r->checked++;
	switch (record_check(block, a->lba, &found)) {
	case RECORD_EMPTY:
		r->lost++;
		detail(r, "lost", a->seq, a->lba, 0);
		break;
	case RECORD_CORRUPT:
		r->corrupt++;
		detail(r, "corrupt", a->seq, a->lba, found.seq);
		break;
	case RECORD_OK:
		if (found.seq == a->seq && found.crc == a->crc)
			break;
		if (found.seq > a->seq) {
			r->newer++;
			break;
		}
		r->stale++;
		detail(r, "stale", a->seq, a->lba, found.seq);
		break;
	}
}

static void read_block(int fd, uint64_t offset, void *block)
{
	ssize_t k = pread(fd, block, RECORD_SIZE, (off_t)offset);

	if (k == RECORD_SIZE)
		return;
	fprintf(stderr, "verify: cannot read the volume at byte %llu: %s\n",
		(unsigned long long)offset, k < 0 ? strerror(errno) : "it ends there");
	exit(2);
}

static int acked_at(const struct result *r, uint64_t lba)
{
	size_t low = 0, high = r->nacks;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (r->acks[mid].lba < lba)
			low = mid + 1;
		else
			high = mid;
	}
	return low < r->nacks && r->acks[low].lba == lba;
}

static void check_volume(struct result *r, int fd)
{
	static uint64_t block[RECORD_SIZE / 8];
	struct record found;

	qsort(r->acks, r->nacks, sizeof(*r->acks), by_place);
	for (size_t i = 0; i < r->nacks; i++) {
		if (i + 1 < r->nacks && r->acks[i + 1].lba == r->acks[i].lba)
			continue; /* overwritten by a later one */
		read_block(fd, r->acks[i].lba * 512, block);
		check_ack(r, &r->acks[i], block);
	}
	/* A first write that was never acknowledged must still be all or nothing. */
	for (uint32_t s = 0; r->runs && s < r->area.slots; s++) {
		uint64_t offset = record_slot_offset(&r->area, s);

		if (acked_at(r, offset / 512))
			continue;
		read_block(fd, offset, block);
		if (record_check(block, offset / 512, &found) == RECORD_CORRUPT) {
			r->corrupt++;
			detail(r, "torn", 0, offset / 512, found.seq);
		}
	}
}

int main(int argc, char **argv)
{
	static struct result r;
	int strict = argc > 1 && !strcmp(argv[1], "--strict"), fd;

	argv += strict;
	argc -= strict;
	if (argc < 3) {
		fprintf(stderr, "usage: verify [--strict] VOLUME CONSOLE_LOG...\n");
		return 2;
	}
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "verify: cannot open the volume %s: %s\n", argv[1],
			strerror(errno));
		return 2;
	}
	take_logs(&r, argv + 2, argc - 2);
	check_holes(&r);
	check_volume(&r, fd);
	printf("{\"acknowledged\": %zu, \"checked\": %llu, \"newer\": %llu, \"lost\": %llu, "
	       "\"stale\": %llu, \"corrupt\": %llu, \"guest_errors\": %llu, \"garbled\": %llu, "
	       "\"runs\": %llu}\n",
	       r.nacks, (unsigned long long)r.checked, (unsigned long long)r.newer,
	       (unsigned long long)r.lost, (unsigned long long)r.stale,
	       (unsigned long long)r.corrupt, (unsigned long long)r.guest_errors,
	       (unsigned long long)r.garbled, (unsigned long long)r.runs);
	free(r.acks);
	free(r.holes);
	close(fd);
	if (!r.nacks) {
		fprintf(stderr, "verify: the logs acknowledge nothing: nothing was shown\n");
		return 2;
	}
	return r.lost || r.stale || r.corrupt || (strict && r.guest_errors);
}
