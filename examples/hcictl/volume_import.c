/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume import: many writes in flight from one thread. A slot holds one chunk of the image; a slot
 * is free when its completion was reaped. Zeros are gathered to runs and zeroed, which allocates
 * nothing.
 */
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 256
#define GRAIN 65536u /* what a volume gives back as a whole */

struct import {
	struct cli *cli;
	hci_volume *vol;
	hci_queue *q;
	int fd;
	char *buf; /* depth chunks */
	uint32_t depth, nfree, free_slots[DEPTH_MAX];
	uint32_t pending[DEPTH_MAX]; /* requests of a slot that are open */
	uint32_t zeroing;
	uint64_t pos; /* in the volume, of the next byte read */
	uint64_t zero_from, zero_len;
	uint64_t written, zeroed;
};

#define TAG_ZERO UINT64_MAX

/* Takes completions. @return 0, or an exit status. */
static int reap(struct import *im, int32_t timeout_ms)
{
	struct hci_completion c[64];
	int n = hci_queue_reap(im->q, c, 64, timeout_ms);

	for (int i = 0; i < n; i++) {
		if (c[i].status)
			return complain("volume %s: a write failed: %s%s", im->cli->args[0],
					hci_strerror(c[i].status),
					c[i].status == HCI_E_NOSPACE
						? ": a disk of its pool is full: hcictl disk list shows which; add disks "
						  "to the pool and balance it, or delete something"
						: "");
		if (c[i].tag == TAG_ZERO)
			im->zeroing--;
		else if (!--im->pending[c[i].tag])
			im->free_slots[im->nfree++] = (uint32_t)c[i].tag;
	}
	return n < 0 ? complain("queue: %s", hci_strerror(n)) : 0;
}

static int submit_zeros(struct import *im)
{
	uint64_t len = im->zero_len;
	int rc;

	if (!len)
		return 0;
	im->zero_len = 0;
	while ((rc = hci_volume_submit_zero(im->vol, im->q, len, im->zero_from, TAG_ZERO, NULL,
					    &im->cli->err)) == HCI_E_BUSY) {
		if (reap(im, -1))
			return EXIT_FAILED;
	}
	if (rc)
		return failed(im->cli);
	im->zeroing++;
	im->zeroed += len;
	return 0;
}

static int submit_data(struct import *im, uint32_t slot, const char *p, uint64_t len,
		       uint64_t offset)
{
	int rc;

	im->pending[slot]++;
	while ((rc = hci_volume_submit_write(im->vol, im->q, p, len, offset, slot, NULL,
					     &im->cli->err)) == HCI_E_BUSY) {
		if (reap(im, -1))
			return EXIT_FAILED;
	}
	im->written += len;
	return rc ? failed(im->cli) : 0;
}

/* Runs of data are written, runs of zeros added to the run of zeros before them. */
static int submit_chunk(struct import *im, uint32_t slot, char *p, uint64_t len)
{
	uint64_t from = 0;

	/* Held by us, so that a completion in between does not free the slot. */
	im->pending[slot] = 1;
	while (from < len) {
		bool zero = all_zero(p + from, len - from < GRAIN ? len - from : GRAIN);
		uint64_t to = from;
		int rc;

		while (to < len && all_zero(p + to, len - to < GRAIN ? len - to : GRAIN) == zero)
			to += len - to < GRAIN ? len - to : GRAIN;
		if (zero) {
			if (!im->zero_len)
				im->zero_from = im->pos + from;
			im->zero_len += to - from;
		} else {
			rc = submit_zeros(im);
			if (!rc)
				rc = submit_data(im, slot, p + from, to - from, im->pos + from);
			if (rc)
				return rc;
		}
		from = to;
	}
	if (!--im->pending[slot])
		im->free_slots[im->nfree++] = slot;
	im->pos += len;
	return 0;
}

/* A whole chunk, less only at the end. */
static ssize_t read_chunk(int fd, char *p)
{
	size_t got = 0;

	while (got < CHUNK) {
		ssize_t n = read(fd, p + got, CHUNK - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (!n)
			break;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

static int copy(struct import *im, struct progress *p, uint64_t total)
{
	uint64_t size = hci_volume_size(im->vol);

	while (!interrupted) {
		uint32_t slot;
		ssize_t n;
		char *at;

		while (!im->nfree)
			if (reap(im, -1))
				return EXIT_FAILED;
		slot = im->free_slots[--im->nfree];
		at = im->buf + (size_t)slot * CHUNK;
		n = read_chunk(im->fd, at);
		if (n < 0)
			return complain("%s: %s", im->cli->args[1], strerror(errno));
		if (!n) {
			im->free_slots[im->nfree++] = slot;
			break;
		}
		/* The last block of an odd image is filled up with zeros. */
		if (n % BLOCK)
			fprintf(stderr, "hcictl: note: %s: no multiple of %u bytes, filled up with %u zeros\n", im->cli->args[1],
				BLOCK, BLOCK - (unsigned)n % BLOCK);
		while (n % BLOCK)
			at[n++] = 0;
		if (im->pos + (uint64_t)n > size)
			return complain("%s: it is larger than volume %s: hcictl volume resize",
					im->cli->args[1], im->cli->args[0]);
		if (submit_chunk(im, slot, at, (uint64_t)n) || reap(im, 0))
			return EXIT_FAILED;
		progress_to(p, im->written + im->zeroed, total, "");
	}
	if (!interrupted && submit_zeros(im))
		return EXIT_FAILED;
	while (im->nfree < im->depth || im->zeroing)
		if (reap(im, -1))
			return EXIT_FAILED;
	return interrupted ? EXIT_STOPPED : EXIT_FINE;
}

static int report(struct import *im, double seconds)
{
	struct table *t = table_new(im->cli, true);

	cell_text(t, "volume", "%s", im->cli->args[0]);
	cell_size(t, "written", im->written);
	cell_size(t, "zero", im->zeroed);
	cell_real(t, "seconds", seconds);
	cell_real(t, "MB per s", seconds > 0 ? (double)im->written / seconds / 1e6 : 0);
	return table_print(t);
}

static int run(struct import *im)
{
	struct progress p;
	struct stat st;
	double seconds;
	int rc;

	if (fstat(im->fd, &st))
		return complain("%s: %s", im->cli->args[1], strerror(errno));
	if (S_ISREG(st.st_mode) && im->pos + (uint64_t)st.st_size > hci_volume_size(im->vol))
		return complain("%s: it is larger than volume %s: hcictl volume resize",
				im->cli->args[1], im->cli->args[0]);
	if (hci_queue_create(&im->q, im->cli->cluster, im->depth, &im->cli->err) ||
	    hci_buffer_alloc((void **)&im->buf, (uint64_t)im->depth * CHUNK, &im->cli->err))
		return failed(im->cli);
	for (uint32_t i = 0; i < im->depth; i++)
		im->free_slots[im->nfree++] = i;
	catch_interrupt();
	progress_start(&p, im->cli, "import", true, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
	rc = copy(im, &p, p.total);
	seconds = progress_end(&p);
	return rc ? rc : report(im, seconds);
}

int volume_import(struct cli *cli)
{
	struct import im = { .cli = cli };
	int rc;

	im.depth = opt_number32(cli, "depth", 16);
	im.pos = opt_size(cli, "offset", 0);
	if (im.depth < 1 || im.depth > DEPTH_MAX)
		usage_error("--depth: give 1 to %d", DEPTH_MAX);
	if (im.pos % BLOCK)
		usage_error("--offset: a multiple of %u", BLOCK);
	im.fd = strcmp(cli->args[1], "-") ? open(cli->args[1], O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (im.fd < 0)
		return complain("%s: %s", cli->args[1], strerror(errno));
	im.vol = volume_attach(cli);
	rc = im.vol ? run(&im) : EXIT_FAILED;
	/* The queue first: it waits for what is open before the memory goes. */
	hci_queue_unref(im.q);
	hci_buffer_free(im.buf);
	hci_volume_unref(im.vol);
	if (im.fd != STDIN_FILENO)
		close(im.fd);
	return rc;
}
