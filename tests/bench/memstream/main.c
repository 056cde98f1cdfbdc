/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the migration codec costs and saves. JSON on stdout.
 *
 *	bench_memstream                       each stage in GB/s of one core, beside memcpy, zstd and lz4 in the same run
 *	bench_memstream STREAM [options]      a captured stream through encoder and decoder, beside plain zstd
 *	  --image FILE     the destination has this disk image
 *	  --second STREAM  a second guest moves there after the first
 *	  --workers N      threads at each side (default 2)     --level N   fixed level (default: as fast as it goes, level 3)
 *	  --batch BYTES    of stream in a message               --cache BYTES  of pages kept
 *	  --without NAME   a class off: same, ref, delta, raw; may be given again
 *
 * A stream is what QEMU writes: migrate "exec:cat > FILE".
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *what)
{
	fprintf(stderr, "bench_memstream: %s\n", what);
	exit(1);
}

static uint32_t classes(const char *name)
{
	uint32_t bits = mst_class_bits(name);

	if (!bits)
		die("--without takes zero, same, ref, delta or raw");
	return bits;
}

void print_stats(const char *name, const struct mst_stats *s, const struct mst_stats *to, double seconds)
{
	printf("  \"%s\": {\"stream_bytes\": %llu, \"wire_bytes\": %llu, \"ratio\": %.3f, \"seconds\": %.3f, \"cpu_seconds\": %.3f, "
	       "\"decoder_cpu_seconds\": %.3f, "
	       "\"gb_s\": %.3f, \"refused\": %llu,\n    \"pages\": {",
	       name, (unsigned long long)s->in, (unsigned long long)s->wire, (double)s->wire / (double)s->in, seconds,
	       (double)s->cpu_ns / 1e9, (double)to->cpu_ns / 1e9, (double)s->in / seconds / 1e9, (unsigned long long)s->refused);
	for (unsigned c = 0; c < MST_CLASSES; c++)
		printf("%s\"%s\": %llu", c ? ", " : "", mst_class_name(c), (unsigned long long)s->pages[c]);
	printf("},\n    \"wire\": {");
	for (unsigned c = 0; c < MST_CLASSES; c++)
		printf("%s\"%s\": %llu", c ? ", " : "", mst_class_name(c), (unsigned long long)s->wire_of[c]);
	printf("}}");
}

int main(int argc, char **argv)
{
	struct stream_run r = { .opts = { .workers = 2, .level = 3, .inflight_ns = UINT64_MAX } };

	if (argc == 1)
		return bench_stages();
	for (int i = 1; i < argc; i++) {
		const char *v = i + 1 < argc ? argv[i + 1] : "";

		if (argv[i][0] != '-') {
			r.stream = argv[i];
			continue;
		}
		i++;
		if (!strcmp(argv[i - 1], "--image"))
			r.image = v;
		else if (!strcmp(argv[i - 1], "--second"))
			r.second = v;
		else if (!strcmp(argv[i - 1], "--workers"))
			r.opts.workers = (uint32_t)atoi(v);
		else if (!strcmp(argv[i - 1], "--level"))
			r.opts.level = atoi(v);
		else if (!strcmp(argv[i - 1], "--batch"))
			r.opts.batch = (uint32_t)atoi(v);
		else if (!strcmp(argv[i - 1], "--cache"))
			r.opts.cache = strtoull(v, NULL, 10);
		else if (!strcmp(argv[i - 1], "--without"))
			r.opts.without |= classes(v);
		else
			die("unknown option: see the head of tests/bench/memstream/main.c");
	}
	if (!r.stream)
		die("which stream?");
	return bench_stream(&r);
}
