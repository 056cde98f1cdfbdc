// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's workload: writes numbered, checksummed records to a raw area of the disk and
 * reports each on the console once it is durable, and only then. What it reported can be
 * checked later against the volume (verify.c), whatever happened to the cluster meanwhile.
 *
 * usage: recorder DEVICE [area=OFFSET_MIB,LENGTH_MIB] [slots=N] [rate=RECORDS_PER_SECOND]
 *                        [batch=N] [count=N] [seed=N]
 * The guest's init passes the kernel's command line (hci.area=... and so on). DEVICE may be a
 * regular file on the host: verify-selftest.sh uses that.
 *
 * On the console, a line each; a report is one write(2), so lines do not mix:
 *   HCI-SCAN records=N newest=SEQ corrupt=N holes=N   what the area held at start
 *   HCI-HOLE SEQ           a record below the newest that is not there
 *   HCI-RUN nonce=HEX first=SEQ slots=N area=OFFSET,LENGTH (bytes) rate=N
 *   HCI-ACK SEQ LBA CRC    durable: LBA in 512-byte sectors, CRC32C in hex
 *   HCI-BAD LBA SEQ FOUND  a read returned something else than what was acknowledged
 *   HCI-ERR CALL SEQ ERRNO the guest saw an I/O error (nothing is acknowledged then)
 *   HCI-STAT ms=N acked=N read=N worst=N   once a second; worst wait for one sync, in ms
 *   HCI-END acked=N        ended by count= or SIGTERM
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "record.h"

#define BATCH_MAX 64

struct recorder {
	int fd;       /* O_DIRECT: durable after fdatasync */
	int fd_dsync; /* O_DIRECT | O_DSYNC: durable on return */
	aio_context_t aio;
	struct record_area area;
	struct record *acked; /* by slot; seq 0: nothing of this run */
	uint64_t nonce;
	uint64_t seq; /* the next one */
	uint64_t total, reads, count, rate;
	unsigned int batch;
	uint64_t random;
	uint64_t worst_ms;
	char *blocks;
};

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t next_random(struct recorder *r)
{
	r->random ^= r->random << 13;
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return r->random;
}

static void report_error(const char *call, uint64_t seq, int err)
{
	printf("HCI-ERR %s %llu %d\n", call, (unsigned long long)seq, err);
	fflush(stdout);
}

/* What a previous run left. Its newest number tells where to go on. */
static int scan(struct recorder *r)
{
	uint64_t *found = calloc(r->area.slots, sizeof(*found));
	uint64_t newest = 0, records = 0, corrupt = 0, holes = 0, first;

	if (!found)
		return -ENOMEM;
	for (uint32_t s = 0; s < r->area.slots; s++) {
		uint64_t off = record_slot_offset(&r->area, s);
		struct record rec;

		if (pread(r->fd, r->blocks, RECORD_SIZE, (off_t)off) != RECORD_SIZE) {
			report_error("scan", 0, errno);
			free(found);
			return -EIO;
		}
		switch (record_check(r->blocks, off / 512, &rec)) {
		case RECORD_OK:
			found[s] = rec.seq;
			records++;
			if (rec.seq > newest)
				newest = rec.seq;
			break;
		case RECORD_CORRUPT:
			printf("HCI-BAD %llu 0 0\n", (unsigned long long)(off / 512));
			corrupt++;
			break;
		case RECORD_EMPTY:
			break;
		}
	}
	first = newest > r->area.slots ? newest - r->area.slots + 1 : 1;
	for (uint64_t q = first; q <= newest; q++) {
		if (found[record_slot(&r->area, q)] != q) {
			printf("HCI-HOLE %llu\n", (unsigned long long)q);
			holes++;
		}
	}
	printf("HCI-SCAN records=%llu newest=%llu corrupt=%llu holes=%llu\n",
	       (unsigned long long)records, (unsigned long long)newest, (unsigned long long)corrupt,
	       (unsigned long long)holes);
	fflush(stdout);
	r->seq = newest + 1;
	free(found);
	return 0;
}

/* All n writes in flight at once. */
static int write_parallel(struct recorder *r, const struct record *rec, unsigned int n)
{
	struct iocb cb[BATCH_MAX], *list[BATCH_MAX];
	struct io_event done[BATCH_MAX];
	unsigned int sent = 0, reaped = 0;
	int err = 0;

	memset(cb, 0, sizeof(cb));
	for (unsigned int i = 0; i < n; i++) {
		cb[i].aio_fildes = (uint32_t)r->fd;
		cb[i].aio_lio_opcode = IOCB_CMD_PWRITE;
		cb[i].aio_buf = (uintptr_t)(r->blocks + i * RECORD_SIZE);
		cb[i].aio_nbytes = RECORD_SIZE;
		cb[i].aio_offset = (int64_t)rec[i].lba * 512;
		list[i] = &cb[i];
	}
	while (sent < n) {
		long k = syscall(SYS_io_submit, r->aio, n - sent, list + sent);

		if (k <= 0) {
			err = k < 0 ? errno : EIO;
			break;
		}
		sent += (unsigned int)k;
	}
	while (reaped < sent) {
		long k = syscall(SYS_io_getevents, r->aio, 1, sent - reaped, done, NULL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return errno;
		for (long i = 0; i < k; i++) {
			if (done[i].res != RECORD_SIZE)
				err = done[i].res < 0 ? (int)-done[i].res : EIO;
		}
		reaped += (unsigned int)k;
	}
	return err;
}

static int write_each(int fd, const char *blocks, const struct record *rec, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		ssize_t k =
			pwrite(fd, blocks + i * RECORD_SIZE, RECORD_SIZE, (off_t)rec[i].lba * 512);

		if (k != RECORD_SIZE)
			return k < 0 ? errno : EIO;
	}
	return 0;
}

/* One round: some records, by one of four ways to make them durable, then the reports. */
static unsigned int write_round(struct recorder *r)
{
	struct record rec[BATCH_MAX];
	char lines[BATCH_MAX * 64];
	unsigned int n = 1, way = next_random(r) % 4;
	uint64_t began;
	size_t used = 0;
	int err;

	if (way >= 2)
		n = 1 + (unsigned int)(next_random(r) % r->batch);
	if (r->count && n > r->count - r->total)
		n = (unsigned int)(r->count - r->total);
	for (unsigned int i = 0; i < n; i++) {
		uint64_t seq = r->seq++;

		rec[i].seq = seq;
		rec[i].nonce = r->nonce;
		rec[i].lba = record_slot_offset(&r->area, record_slot(&r->area, seq)) / 512;
		record_make(r->blocks + i * RECORD_SIZE, &rec[i]);
		/* Old or new are both right from here on until it is durable. */
		r->acked[record_slot(&r->area, seq)].seq = 0;
	}
	began = now_ms();
	if (way == 0)
		err = write_each(r->fd_dsync, r->blocks, rec, n);
	else if (way == 3)
		err = write_parallel(r, rec, n);
	else
		err = write_each(r->fd, r->blocks, rec, n);
	if (err) {
		report_error("write", rec[0].seq, err);
		return n;
	}
	if (way != 0 && fdatasync(r->fd)) {
		report_error("fdatasync", rec[0].seq, errno);
		return n;
	}
	if (now_ms() - began > r->worst_ms)
		r->worst_ms = now_ms() - began;
	for (unsigned int i = 0; i < n; i++) {
		used += (size_t)snprintf(lines + used, sizeof(lines) - used,
					 "HCI-ACK %llu %llu %08x\n", (unsigned long long)rec[i].seq,
					 (unsigned long long)rec[i].lba, rec[i].crc);
		r->acked[record_slot(&r->area, rec[i].seq)] = rec[i];
	}
	fwrite(lines, 1, used, stdout);
	fflush(stdout);
	r->total += n;
	return n;
}

/* A running guest must read what it was told is durable, too. */
static void read_one(struct recorder *r)
{
	struct record *want = &r->acked[next_random(r) % r->area.slots], got = { 0 };
	ssize_t k;

	if (!want->seq)
		return;
	k = pread(r->fd, r->blocks, RECORD_SIZE, (off_t)want->lba * 512);
	if (k != RECORD_SIZE) {
		report_error("read", want->seq, k < 0 ? errno : EIO);
		return;
	}
	r->reads++;
	if (record_check(r->blocks, want->lba, &got) == RECORD_OK && got.seq == want->seq &&
	    got.crc == want->crc)
		return;
	printf("HCI-BAD %llu %llu %llu\n", (unsigned long long)want->lba,
	       (unsigned long long)want->seq, (unsigned long long)got.seq);
	fflush(stdout);
}

static void run(struct recorder *r)
{
	uint64_t start = now_ms(), stat_at = start, done = 0;

	while (!stop && !(r->count && r->total >= r->count)) {
		uint64_t now;

		done += write_round(r);
		if (next_random(r) % 4 == 0)
			read_one(r);
		now = now_ms();
		if (now - stat_at >= 1000) {
			printf("HCI-STAT ms=%llu acked=%llu read=%llu worst=%llu\n",
			       (unsigned long long)now, (unsigned long long)r->total,
			       (unsigned long long)r->reads, (unsigned long long)r->worst_ms);
			fflush(stdout);
			stat_at = now;
			r->worst_ms = 0;
		}
		if (!r->rate)
			continue;
		/* After a stall the rate starts afresh: no burst to catch up. */
		if (now > start + done * 1000 / r->rate + 1000) {
			start = now;
			done = 0;
		}
		if (start + done * 1000 / r->rate > now)
			usleep((useconds_t)(start + done * 1000 / r->rate - now) * 1000);
	}
	printf("HCI-END acked=%llu\n", (unsigned long long)r->total);
	fflush(stdout);
}

static int parse(struct recorder *r, const char *arg)
{
	unsigned long long a, b;

	if (sscanf(arg, "area=%llu,%llu", &a, &b) == 2) {
		r->area.offset = a << 20;
		r->area.length = b << 20;
	} else if (sscanf(arg, "slots=%llu", &a) == 1) {
		r->area.slots = (uint32_t)a;
	} else if (sscanf(arg, "rate=%llu", &a) == 1) {
		r->rate = a;
	} else if (sscanf(arg, "batch=%llu", &a) == 1) {
		r->batch = (unsigned int)a;
	} else if (sscanf(arg, "count=%llu", &a) == 1) {
		r->count = a;
	} else if (sscanf(arg, "seed=%llu", &a) == 1) {
		r->random = a;
	} else {
		return -1;
	}
	return 0;
}

static int check(const struct recorder *r, uint64_t size)
{
	const struct record_area *a = &r->area;

	if (!a->slots || a->slots & (a->slots - 1))
		fprintf(stderr, "recorder: slots=%u: give a power of two\n", a->slots);
	else if (r->batch < 1 || r->batch > BATCH_MAX || r->batch > a->slots)
		fprintf(stderr, "recorder: batch=%u: give 1 to %d, at most slots\n", r->batch,
			BATCH_MAX);
	else if (a->length / a->slots < RECORD_SIZE)
		fprintf(stderr, "recorder: the area is too small for %u slots\n", a->slots);
	else if (a->offset > size || a->length > size - a->offset)
		fprintf(stderr, "recorder: the area ends beyond the device (%llu bytes)\n",
			(unsigned long long)size);
	else
		return 0;
	return -1;
}

static uint64_t device_size(int fd)
{
	struct stat st;
	uint64_t size = 0;

	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		return (uint64_t)st.st_size;
	return ioctl(fd, BLKGETSIZE64, &size) ? 0 : size;
}

int main(int argc, char **argv)
{
	static struct recorder r = {
		.area = { AREA_DEFAULT_OFFSET, AREA_DEFAULT_LENGTH, SLOTS_DEFAULT },
		.rate = 100,
		.batch = 16,
	};
	const char *dev = argc > 1 ? argv[1] : "";

	for (int i = 2; i < argc; i++) {
		if (parse(&r, argv[i]))
			fprintf(stderr, "recorder: '%s' is not an option of mine: ignored\n",
				argv[i]);
	}
	r.fd = open(dev, O_RDWR | O_DIRECT | O_CLOEXEC);
	r.fd_dsync = open(dev, O_RDWR | O_DIRECT | O_DSYNC | O_CLOEXEC);
	if (r.fd < 0 || r.fd_dsync < 0) {
		fprintf(stderr, "recorder: cannot open '%s': %s\n", dev, strerror(errno));
		return 2;
	}
	if (check(&r, device_size(r.fd)))
		return 2;
	/* A young guest has little entropy; distinct is all a nonce must be. */
	if (getrandom(&r.nonce, sizeof(r.nonce), GRND_INSECURE) != sizeof(r.nonce))
		r.nonce = now_ms() ^ (uint64_t)time(NULL) << 20;
	if (!r.random)
		r.random = r.nonce | 1;
	r.acked = calloc(r.area.slots, sizeof(*r.acked));
	r.blocks = aligned_alloc(4096, (size_t)BATCH_MAX * RECORD_SIZE);
	if (!r.acked || !r.blocks || syscall(SYS_io_setup, BATCH_MAX, &r.aio)) {
		fprintf(stderr, "recorder: no memory or no AIO context: %s\n", strerror(errno));
		return 2;
	}
	signal(SIGTERM, on_term);
	signal(SIGINT, on_term);
	if (scan(&r))
		return 1;
	printf("HCI-RUN nonce=%016llx first=%llu slots=%u area=%llu,%llu rate=%llu\n",
	       (unsigned long long)r.nonce, (unsigned long long)r.seq, r.area.slots,
	       (unsigned long long)r.area.offset, (unsigned long long)r.area.length,
	       (unsigned long long)r.rate);
	fflush(stdout);
	run(&r);
	return 0;
}
