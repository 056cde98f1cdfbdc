/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The structured heap of the guest that bench_migration moves: records with text, linked as a program's are, changed in
 * random places at a set rate. Of each change two words of the record are other ones, of every sixteenth its text, too.
 * Runs in the guest; linked statically. It also writes a dot to a terminal fifty times a second, by which the host sees whether
 * the guest runs.
 *
 * usage: churn MIB CHANGES-PER-SECOND TERMINAL      prints "ready" when the heap is made
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TURNS 100 /* a second */

struct record {
	struct record *next;
	uint64_t id, changes, changed_at;
	char *name, *mail;
	uint32_t flags, score;
};

static uint64_t seed;

static uint64_t roll(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void rename_it(struct record *r)
{
	snprintf(r->name, 32, "user%llu %llx", (unsigned long long)r->id, (unsigned long long)(roll() & 0xffffff));
	snprintf(r->mail, 80, "user%llu@department%llu.example.org", (unsigned long long)r->id,
		 (unsigned long long)(roll() % 40));
}

static struct record *make(struct record *next, uint64_t id)
{
	struct record *r = calloc(1, sizeof(*r));

	if (!r || !(r->name = calloc(1, 32)) || !(r->mail = calloc(1, 80)))
		exit(1);
	r->next = next;
	r->id = id;
	r->flags = (uint32_t)roll() & 0xff;
	rename_it(r);
	return r;
}

int main(int argc, char **argv)
{
	uint64_t bytes = argc > 1 ? strtoull(argv[1], NULL, 10) << 20 : 0, rate = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	uint64_t n = bytes / (sizeof(struct record) + 32 + 80 + 3 * 16), at, turn = 0;
	int tty = argc > 3 ? open(argv[3], O_WRONLY | O_NOCTTY) : -1;
	struct record **all = n ? malloc(n * sizeof(*all)) : NULL, *last = NULL;

	/* Guests of one image do not have one heap. */
	seed = (now_ns() ^ (uint64_t)time(NULL) << 32) | 1;
	if (n && !all)
		return 1;
	for (uint64_t i = 0; i < n; i++)
		all[i] = last = make(last, i);
	puts("ready");
	fflush(stdout);
	for (at = now_ns(); n; at += 1000000000u / TURNS) {
		struct timespec until = { (time_t)(at / 1000000000u), (long)(at % 1000000000u) };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		if (now_ns() - at > 1000000000u)
			at = now_ns(); /* it was stopped, or is too slow: nothing is made up for */
		if (tty >= 0 && turn++ % 2 && write(tty, ".", 1) < 0)
			return 1;
		for (uint64_t i = 0; i < rate / TURNS; i++) {
			struct record *r = all[roll() % n];

			r->changes++;
			r->changed_at = at;
			if (!(r->changes % 16))
				rename_it(r);
		}
	}
	return 0;
}
