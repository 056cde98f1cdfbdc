/* SPDX-License-Identifier: Apache-2.0 */
/* volume read: the contents to a file, through the writer's side or from one given copy */
#include "volume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct out {
	int fd;
	bool sparse;
	uint64_t at;
};

static int put(struct out *o, const char *p, uint64_t n)
{
	if (o->sparse && all_zero(p, n)) {
		o->at += n;
		return 0;
	}
	while (n) {
		ssize_t w = o->sparse ? pwrite(o->fd, p, n, (off_t)o->at) : write(o->fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return -1;
		p += w;
		n -= (uint64_t)w;
		o->at += (uint64_t)w;
	}
	return 0;
}

/* The disk that holds copy number @copy (from 1) of a segment; NULL: there is none. */
static const struct hci_replica_info *copy_of(const struct hci_replica_info *r, uint64_t n,
					      uint64_t segment, uint64_t copy)
{
	for (uint64_t i = 0; i < n; i++)
		if (r[i].segment == segment && !--copy)
			return &r[i];
	return NULL;
}

struct source {
	struct cli *cli;
	hci_volume *vol; /* NULL: by replica */
	struct hci_replica_info *replicas;
	uint64_t nreplicas, copy, segment_bytes;
};

static int fetch(struct source *s, char *buf, uint64_t len, uint64_t offset)
{
	const struct hci_replica_info *r;
	uint64_t segment;

	if (s->vol)
		return hci_volume_pread(s->vol, buf, len, offset, &s->cli->err) ? failed(s->cli)
										: 0;
	segment = offset / s->segment_bytes;
	r = copy_of(s->replicas, s->nreplicas, segment, s->copy);
	if (!r)
		return complain("volume %s: segment %llu has no copy %llu: see hcictl volume show "
				"--replicas",
				s->cli->args[0], (unsigned long long)segment,
				(unsigned long long)s->copy);
	if (hci_volume_read_replica(s->cli->cluster, s->cli->args[0], r->disk, (uint32_t)segment,
				    buf, len, offset % s->segment_bytes, &s->cli->err))
		return failed(s->cli);
	return 0;
}

static int copy_out(struct source *s, struct out *o, uint64_t offset, uint64_t length)
{
	struct progress p;
	uint64_t end = offset + length;
	char *buf;
	int rc = 0;

	if (hci_buffer_alloc((void **)&buf, CHUNK, &s->cli->err))
		return failed(s->cli);
	catch_interrupt();
	progress_start(&p, s->cli, "read", true, length);
	for (uint64_t at = offset; at < end && !rc && !interrupted;) {
		/* Never across the border of a segment: those are at multiples of at least CHUNK.
		 */
		uint64_t n = CHUNK - at % CHUNK;

		n = n < end - at ? n : end - at;
		rc = fetch(s, buf, n, at);
		if (!rc && put(o, buf, n))
			rc = complain("%s: %s", s->cli->args[1], strerror(errno));
		at += n;
		progress_to(&p, at - offset, length, "");
	}
	progress_end(&p);
	hci_buffer_free(buf);
	if (!rc && o->sparse && ftruncate(o->fd, (off_t)length))
		rc = complain("%s: %s", s->cli->args[1], strerror(errno));
	return rc ? rc : interrupted ? EXIT_STOPPED : EXIT_FINE;
}

int volume_read(struct cli *cli)
{
	uint64_t offset = opt_size(cli, "offset", 0), length;
	struct source s = { .cli = cli, .copy = opt_number(cli, "replica", 0) };
	struct out o = { .fd = STDOUT_FILENO };
	struct hci_volume_info info;
	int rc = EXIT_FAILED;

	if (!volume_find(cli, cli->args[0], &info))
		return EXIT_FAILED;
	length = opt_size(cli, "length", offset < info.bytes ? info.bytes - offset : 0);
	if (offset % BLOCK || length % BLOCK)
		usage_error("--offset and --length: multiples of %u", BLOCK);
	if (offset > info.bytes || length > info.bytes - offset)
		return complain("volume %s: it has only %llu bytes", cli->args[0],
				(unsigned long long)info.bytes);
	s.segment_bytes = info.segment_bytes;
	if (s.copy)
		s.replicas = volume_replicas(cli, cli->args[0], &s.nreplicas);
	else
		s.vol = volume_attach(cli);
	if (strcmp(cli->args[1], "-")) {
		o.fd = open(cli->args[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		o.sparse = true;
	}
	if (o.fd < 0)
		rc = complain("%s: %s", cli->args[1], strerror(errno));
	else if (s.vol || s.replicas)
		rc = copy_out(&s, &o, offset, length);
	if (o.sparse && o.fd >= 0 && close(o.fd) && !rc)
		rc = complain("%s: %s", cli->args[1], strerror(errno));
	hci_list_free(s.replicas);
	hci_volume_unref(s.vol);
	return rc;
}
