/* SPDX-License-Identifier: Apache-2.0 */
/* volume compare: every copy of every segment against the first one in sync, block by block */
#include "volume.h"

#include <string.h>

#define COPIES_MAX 16

struct compare {
	struct cli *cli;
	struct hci_volume_info info;
	struct progress progress;
	uint64_t blocks, differing, shown, limit, segments, single, not_in_sync;
	char *a, *b;
};

static int fetch(struct compare *c, const struct hci_replica_info *r, char *buf, uint64_t len,
		 uint64_t offset)
{
	if (hci_volume_read_replica(c->cli->cluster, c->info.name, r->disk, r->segment, buf, len,
				    offset, &c->cli->err))
		return failed(c->cli);
	return 0;
}

static void look(struct compare *c, const struct hci_replica_info *a,
		 const struct hci_replica_info *b, uint64_t len, uint64_t offset)
{
	for (uint64_t k = 0; k < len; k += BLOCK) {
		c->blocks++;
		if (!memcmp(c->a + k, c->b + k, BLOCK))
			continue;
		c->differing++;
		if (c->shown++ < c->limit)
			fprintf(stderr,
				"volume %s: block at %llu (segment %u) differs: %s:%s and %s:%s\n",
				c->info.name,
				(unsigned long long)(a->segment * c->info.segment_bytes + offset +
						     k),
				a->segment, a->node, a->path, b->node, b->path);
	}
}

/* @r: the copies of one segment */
static int compare_segment(struct compare *c, const struct hci_replica_info *r, uint64_t n)
{
	uint64_t start = r->segment * c->info.segment_bytes, len = c->info.bytes - start;
	const struct hci_replica_info *good[COPIES_MAX];
	uint64_t ngood = 0;

	if (len > c->info.segment_bytes)
		len = c->info.segment_bytes;
	c->segments++;
	for (uint64_t i = 0; i < n; i++) {
		if (r[i].state == HCI_REPLICA_IN_SYNC && ngood < COPIES_MAX)
			good[ngood++] = &r[i];
		else
			c->not_in_sync++;
	}
	if (ngood < 2)
		c->single++;
	for (uint64_t at = 0; at < len && ngood > 1 && !interrupted; at += CHUNK) {
		uint64_t part = len - at < CHUNK ? len - at : CHUNK;

		if (fetch(c, good[0], c->a, part, at))
			return EXIT_FAILED;
		for (uint64_t i = 1; i < ngood; i++) {
			if (fetch(c, good[i], c->b, part, at))
				return EXIT_FAILED;
			look(c, good[0], good[i], part, at);
		}
		progress_to(&c->progress, start + at, c->info.bytes, "");
	}
	return 0;
}

static int run(struct compare *c, const struct hci_replica_info *r, uint64_t n)
{
	struct table *t;
	double seconds;

	catch_interrupt();
	progress_start(&c->progress, c->cli, "compare", true, c->info.bytes);
	for (uint64_t i = 0, k; i < n && !interrupted; i = k) {
		for (k = i; k < n && r[k].segment == r[i].segment; k++)
			;
		if (compare_segment(c, &r[i], k - i))
			return EXIT_FAILED;
	}
	seconds = progress_end(&c->progress);
	if (interrupted)
		return EXIT_STOPPED;
	t = table_new(c->cli, true);
	cell_text(t, "volume", "%s", c->info.name);
	cell_number(t, "segments", c->segments);
	cell_number(t, "blocks compared", c->blocks);
	cell_number(t, "blocks differing", c->differing);
	cell_number(t, "copies not in sync", c->not_in_sync);
	cell_number(t, "segments with one copy", c->single);
	cell_real(t, "seconds", seconds);
	table_print(t);
	return c->differing || c->not_in_sync || (c->single && c->info.replicas > 1) ? EXIT_DIFFERS
										     : EXIT_FINE;
}

int volume_compare(struct cli *cli)
{
	struct compare c = { .cli = cli, .limit = opt_number(cli, "limit", 20) };
	struct hci_replica_info *r;
	uint64_t n;
	int rc;

	if (!volume_find(cli, cli->args[0], &c.info))
		return EXIT_FAILED;
	r = volume_replicas(cli, cli->args[0], &n);
	if (!r)
		return EXIT_FAILED;
	if (hci_buffer_alloc((void **)&c.a, CHUNK, &cli->err) ||
	    hci_buffer_alloc((void **)&c.b, CHUNK, &cli->err))
		rc = failed(cli);
	else
		rc = run(&c, r, n);
	hci_buffer_free(c.a);
	hci_buffer_free(c.b);
	hci_list_free(r);
	return rc;
}
