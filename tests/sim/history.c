/* SPDX-License-Identifier: Apache-2.0 */
/* The per-block history: see history.h. Memory is the test's own (calloc): it outlives crashed nodes. */
#include "sim/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PATTERN_MAGIC UINT64_C(0x6b636f6c62696368) /* "hciblock" */
#define NEVER UINT64_MAX
#define WORDS (HCI_BLOCK / 8)

/* Which write, as far as content shows: zeroes are all alike. */
#define ZEROES 0u

struct write {
	uint64_t block, n;
	uint64_t begin, end; /* end: NEVER while in flight */
	uint32_t session;
	bool zero, acked, open; /* open: its end was not reported yet */
};

struct read {
	uint64_t block, n, begin;
	uint32_t session;
	bool open;
};

struct gone {
	uint64_t id, since;
};

/* cand: ids of writes that may be the content now, in flight or not. gone: those that were ruled out,
 * kept while a read that began before is under way. */
struct block {
	uint64_t *cand;
	struct gone *gone;
	uint32_t ncand, ngone, cand_cap, gone_cap;
	uint32_t inflight, readers;
	uint64_t quiet_since;
};

struct history {
	uint64_t nblocks, seed, clock;
	struct block *blocks;
	struct write *writes; /* by id; 0 is the beginning: zeroes */
	uint64_t nwrites, writes_cap;
	struct read *reads;
	uint64_t nreads, reads_cap;
	uint32_t session;
	struct history_counts counts;
	bool violated;
	char violation[512];
	uint64_t traced;
	uint64_t (*now)(void *arg);
	void *now_arg;
};

static void trace(const struct history *h, uint64_t block, uint64_t n, const char *what, uint64_t id, uint32_t session)
{
	if (!h->now || h->traced < block || h->traced - block >= n)
		return;
	fprintf(stderr, "[%14.9f] block %" PRIu64 " session %" PRIu32 ": %s %" PRIu64 "\n", (double)h->now(h->now_arg) / 1e9,
		h->traced, session, what, id);
}

void history_trace(struct history *h, uint64_t block, uint64_t (*now)(void *arg), void *arg)
{
	h->traced = block;
	h->now = now;
	h->now_arg = arg;
}

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static void *grown(void *p, uint64_t n, uint64_t *cap, size_t size)
{
	if (n < *cap)
		return p;
	*cap = MAX(*cap * 2, (uint64_t)64);
	return must(realloc(p, *cap * size));
}

static void add_cand(struct block *b, uint64_t id)
{
	if (b->ncand == b->cand_cap) {
		b->cand_cap = MAX(b->cand_cap * 2, 4u);
		b->cand = must(realloc(b->cand, b->cand_cap * sizeof(*b->cand)));
	}
	b->cand[b->ncand++] = id;
}

static bool is_cand(const struct block *b, uint64_t id)
{
	for (uint32_t k = 0; k < b->ncand; k++) {
		if (b->cand[k] == id)
			return true;
	}
	return false;
}

/* Ruled out for reads that begin at or after `since`. */
static void rule_out(struct block *b, uint32_t k, uint64_t since)
{
	uint64_t id = b->cand[k];

	b->cand[k] = b->cand[--b->ncand];
	if (b->readers == 0)
		return;
	if (b->ngone == b->gone_cap) {
		b->gone_cap = MAX(b->gone_cap * 2, 4u);
		b->gone = must(realloc(b->gone, b->gone_cap * sizeof(*b->gone)));
	}
	b->gone[b->ngone++] = (struct gone){ id, since };
}

struct history *history_new(uint64_t nblocks, uint64_t seed)
{
	struct history *h = must(calloc(1, sizeof(*h)));

	h->nblocks = nblocks;
	h->seed = seed;
	h->clock = 1;
	h->blocks = must(calloc(nblocks, sizeof(*h->blocks)));
	h->writes = grown(NULL, 0, &h->writes_cap, sizeof(*h->writes));
	h->writes[h->nwrites++] = (struct write){ .zero = true, .acked = true };
	for (uint64_t k = 0; k < nblocks; k++)
		add_cand(&h->blocks[k], 0);
	return h;
}

void history_free(struct history *h)
{
	if (!h)
		return;
	for (uint64_t k = 0; k < h->nblocks; k++) {
		free(h->blocks[k].cand);
		free(h->blocks[k].gone);
	}
	free(h->blocks);
	free(h->writes);
	free(h->reads);
	free(h);
}

const char *history_violation(const struct history *h)
{
	return h->violated ? h->violation : NULL;
}

static void violate(struct history *h, const struct block *b, const char *what, uint64_t id)
{
	size_t n;

	if (h->violated)
		return;
	h->violated = true;
	n = (size_t)snprintf(h->violation, sizeof(h->violation), "block %" PRIu64 ": %s (write %" PRIu64 "); may hold:",
			     (uint64_t)(b - h->blocks), what, id);
	for (uint32_t k = 0; k < b->ncand && n < sizeof(h->violation); k++) {
		const struct write *w = &h->writes[b->cand[k]];

		n += (size_t)snprintf(h->violation + n, sizeof(h->violation) - n, " %" PRIu64 "%s%s", b->cand[k],
				      w->zero ? "z" : "", w->acked ? "" : "?");
	}
}

/* ---- content: a header, then words that follow from it ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 29;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ (x >> 32);
}

static void fill_block(const struct history *h, uint64_t id, uint64_t block, uint64_t *out)
{
	uint64_t x = mix(h->seed ^ mix(id) ^ mix(block + 77)), acc = x;

	out[0] = PATTERN_MAGIC;
	out[1] = id;
	out[2] = block;
	out[3] = h->seed;
	for (size_t k = 4; k < WORDS; k++)
		out[k] = (acc += UINT64_C(0x9e3779b97f4a7c15)) ^ x;
}

void history_fill(const struct history *h, uint64_t id, uint64_t block, uint64_t n, void *buf)
{
	for (uint64_t k = 0; k < n; k++)
		fill_block(h, id, block + k, (uint64_t *)buf + k * WORDS);
}

/* The write that this content is of, ZEROES, or NEVER with the reason when it is none's. */
static uint64_t recognise(const struct history *h, uint64_t block, const void *buf, const char **why)
{
	const uint64_t *w = buf; /* I/O buffers are aligned */
	uint64_t want[WORDS];

	if (w[0] == 0 && memcmp(w, w + 1, HCI_BLOCK - 8) == 0)
		return ZEROES;
	*why = "content that nobody wrote";
	if (w[0] != PATTERN_MAGIC || w[3] != h->seed || w[1] >= h->nwrites)
		return NEVER;
	*why = "content of another block";
	if (w[2] != block || block < h->writes[w[1]].block || block - h->writes[w[1]].block >= h->writes[w[1]].n)
		return NEVER;
	*why = "content torn or damaged";
	fill_block(h, w[1], block, want);
	return memcmp(w, want, HCI_BLOCK) == 0 ? w[1] : NEVER;
}

/* ---- writes ---- */

static void end_inflight(struct history *h, struct write *w)
{
	w->end = h->clock;
	for (uint64_t k = 0; k < w->n; k++) {
		struct block *b = &h->blocks[w->block + k];

		if (--b->inflight == 0)
			b->quiet_since = h->clock;
	}
}

uint32_t history_session(struct history *h)
{
	h->clock++;
	for (uint64_t id = h->nwrites; id-- > 1;) {
		if (h->writes[id].end == NEVER)
			end_inflight(h, &h->writes[id]);
	}
	return ++h->session;
}

uint64_t history_write_begin(struct history *h, uint32_t session, uint64_t block, uint64_t n, bool zero)
{
	uint64_t id = h->nwrites;
	/* One from a writer that has been replaced meanwhile must not have any effect. */
	bool late = session != h->session;

	h->clock++;
	h->writes = grown(h->writes, id, &h->writes_cap, sizeof(*h->writes));
	h->nwrites++;
	trace(h, block, n, zero ? "zero begins" : "write begins", id, session);
	h->writes[id] = (struct write){ block, n, h->clock, late ? h->clock : NEVER, session, zero, false, true };
	for (uint64_t k = 0; k < n && !late; k++) {
		add_cand(&h->blocks[block + k], id);
		h->blocks[block + k].inflight++;
	}
	return id;
}

/* An acknowledged write rules out what ended before it began. */
static void acknowledge(struct history *h, struct block *b, uint64_t id)
{
	uint64_t begin = h->writes[id].begin;

	if (!is_cand(b, id)) {
		for (uint32_t k = 0; k < b->ncand; k++) {
			if (h->writes[b->cand[k]].end >= begin)
				return; /* overwritten meanwhile */
		}
		violate(h, b, "an acknowledged write was lost", id);
		return;
	}
	for (uint32_t k = b->ncand; k-- > 0;) {
		if (h->writes[b->cand[k]].end < begin)
			rule_out(b, k, h->clock);
	}
}

void history_write_end(struct history *h, uint64_t id, bool ok)
{
	struct write *w = &h->writes[id];

	h->clock++;
	if (!w->open)
		return;
	w->open = false;
	trace(h, w->block, w->n, ok ? "write acknowledged" : "write uncertain", id, w->session);
	if (w->end == NEVER)
		end_inflight(h, w);
	w->acked = ok;
	h->counts.acked += ok;
	h->counts.uncertain += !ok;
	for (uint64_t k = 0; k < w->n && ok; k++)
		acknowledge(h, &h->blocks[w->block + k], id);
}

/* ---- reads ---- */

static bool same_content(const struct history *h, uint64_t id, uint64_t seen)
{
	return seen == ZEROES ? h->writes[id].zero : id == seen;
}

/* Nothing was in flight while it ran: this is what the block holds, from now on for everybody. */
static void resolve(struct history *h, struct block *b, uint64_t seen)
{
	uint64_t keep = NEVER;

	if (b->ncand == 1)
		return;
	for (uint32_t k = 0; k < b->ncand; k++) {
		if (same_content(h, b->cand[k], seen) && (keep == NEVER || b->cand[k] > keep))
			keep = b->cand[k];
	}
	for (uint32_t k = b->ncand; k-- > 0;) {
		if (b->cand[k] != keep)
			rule_out(b, k, b->quiet_since);
	}
	h->counts.resolved++;
}

static bool may_be(const struct history *h, const struct block *b, uint64_t seen)
{
	for (uint32_t k = 0; k < b->ncand; k++)
		if (same_content(h, b->cand[k], seen))
			return true;
	return false;
}

/* It has taken effect, also if it is still in flight: what ended before it began cannot come back. */
static void observe(struct history *h, struct block *b, uint64_t seen)
{
	uint64_t begin = NEVER;

	for (uint32_t k = 0; k < b->ncand; k++)
		if (same_content(h, b->cand[k], seen))
			begin = MIN(begin, h->writes[b->cand[k]].begin); /* zeroes: of the oldest that it may be */
	for (uint32_t k = b->ncand; k-- > 0;)
		if (h->writes[b->cand[k]].end < begin)
			rule_out(b, k, h->clock);
}

static void check_block(struct history *h, uint64_t block, uint64_t begin, bool late, const void *buf)
{
	struct block *b = &h->blocks[block];
	const char *why = NULL;
	uint64_t seen = recognise(h, block, buf, &why);

	h->counts.checked++;
	trace(h, block, 1, "read returns", seen, h->session);
	if (seen == NEVER) {
		violate(h, b, why, ((const uint64_t *)buf)[1]);
		return;
	}
	if (may_be(h, b, seen)) {
		if (!late && b->inflight == 0 && b->quiet_since <= begin)
			resolve(h, b, seen);
		else
			observe(h, b, seen);
		return;
	}
	for (uint32_t k = 0; k < b->ngone; k++) {
		if (same_content(h, b->gone[k].id, seen) && begin < b->gone[k].since)
			return;
	}
	violate(h, b, seen == ZEROES ? "a read returned zeroes" : "a read returned stale or reverted content", seen);
}

uint64_t history_read_begin(struct history *h, uint32_t session, uint64_t block, uint64_t n)
{
	h->clock++;
	h->reads = grown(h->reads, h->nreads, &h->reads_cap, sizeof(*h->reads));
	trace(h, block, n, "read begins", h->nreads, session);
	h->reads[h->nreads] = (struct read){ block, n, h->clock, session, true };
	for (uint64_t k = 0; k < n; k++)
		h->blocks[block + k].readers++;
	return h->nreads++;
}

void history_read_end(struct history *h, uint64_t read, const void *buf)
{
	struct read *r = &h->reads[read];

	h->clock++;
	if (!r->open)
		return;
	r->open = false;
	for (uint64_t k = 0; k < r->n; k++) {
		struct block *b = &h->blocks[r->block + k];

		if (buf)
			check_block(h, r->block + k, r->begin, r->session != h->session,
				    (const uint8_t *)buf + k * HCI_BLOCK);
		if (--b->readers == 0)
			b->ngone = 0;
	}
}

void history_crash(struct history *h, uint32_t session)
{
	for (uint64_t id = 1; id < h->nwrites; id++) {
		if (h->writes[id].open && h->writes[id].session == session)
			history_write_end(h, id, false);
	}
	for (uint64_t r = 0; r < h->nreads; r++) {
		if (h->reads[r].open && h->reads[r].session == session)
			history_read_end(h, r, NULL);
	}
}

void history_counts(const struct history *h, struct history_counts *out)
{
	*out = h->counts;
}

uint64_t history_digest(const struct history *h)
{
	uint64_t d = h->clock;

	for (uint64_t k = 0; k < h->nblocks; k++) {
		for (uint32_t j = 0; j < h->blocks[k].ncand; j++)
			d = mix(d ^ h->blocks[k].cand[j]) + k;
	}
	return d;
}
