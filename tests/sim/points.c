/* SPDX-License-Identifier: Apache-2.0 */
/* Marked points: see points.h. The linker's order differs between builds, that of names does not. */
#include "sim/points.h"

#include <inttypes.h>
#include <stdlib.h>

struct points {
	const struct env_mark *base;
	size_t n;
	uint32_t *first; /* by place in the section: the target of state 0 */
	const struct env_mark **of;  /* by target */
	uint64_t *count;
	uint32_t ntargets;
};

/* Not reached by seeds, but by tests of their own. */
static const char *const elsewhere[] = {
	"recovery ends at a leftover",  /* needs a batch of exactly the lost one's length: replica_crash */
	"replica lost writes",          /* a medium that lies about flushes */
	"replica lost its log's end",   /* sim_log_end */
	"pull waits for too long",      /* replica_pull */
	"log is lost: short",           /* a file that was cut off by hand: replica_extlog */
	"empty log is made anew",       /* of a disk that was closed clean: likewise */
	"log is full",                  /* writers are held back before: replica_throttle */
	"what passed the log was dropped", /* a writer drops when it has all answers, and the next one's opening ends them: replica_direct */
	"write finds no space: pending",
};

static bool is_elsewhere(const char *name)
{
	for (unsigned k = 0; k < ARRAY_SIZE(elsewhere); k++)
		if (!strcmp(name, elsewhere[k]))
			return true;
	return false;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct env_mark *const *)a)->name, (*(const struct env_mark *const *)b)->name);
}

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

struct points *points_new(void)
{
	struct points *p = must(calloc(1, sizeof(*p)));
	const struct env_mark **sorted;

	p->base = sim_marks(&p->n);
	sorted = must(calloc(p->n + 1, sizeof(struct env_mark *)));
	p->first = must(calloc(p->n + 1, sizeof(*p->first)));
	p->of = must(calloc(p->n * POINT_STATES + 1, sizeof(struct env_mark *)));
	for (size_t k = 0; k < p->n; k++)
		sorted[k] = &p->base[k];
	qsort(sorted, p->n, sizeof(struct env_mark *), by_name);
	for (size_t k = 0; k < p->n; k++) {
		if (sorted[k]->states > POINT_STATES || (k && !strcmp(sorted[k]->name, sorted[k - 1]->name))) {
			fprintf(stderr, "marked point '%s': its name is taken, or it has too many states\n", sorted[k]->name);
			abort();
		}
		p->first[sorted[k] - p->base] = p->ntargets;
		for (uint32_t s = 0; s < sorted[k]->states; s++)
			p->of[p->ntargets++] = sorted[k];
	}
	p->count = must(calloc(p->ntargets + 1, sizeof(*p->count)));
	free(sorted);
	return p;
}

void points_free(struct points *p)
{
	if (!p)
		return;
	free(p->first);
	free(p->of);
	free(p->count);
	free(p);
}

uint32_t points_targets(const struct points *p)
{
	return p->ntargets;
}

uint32_t points_target(const struct points *p, const struct env_mark *m, unsigned state)
{
	return p->first[m - p->base] + MIN(state, m->states - 1);
}

void points_hit(struct points *p, uint32_t target)
{
	p->count[target]++;
}

const char *points_name(const struct points *p, uint32_t target, char *out, size_t cap)
{
	const struct env_mark *m = p->of[target];
	const char *state = strchr(m->name, ':');
	uint32_t k = target - p->first[m - p->base];
	size_t len = state ? (size_t)(state - m->name) : strlen(m->name);

	for (; state && k; k--)
		state = strchr(state + 1, ',');
	if (state)
		snprintf(out, cap, "%.*s: %.*s", (int)len, m->name, (int)strcspn(state + 1, ","), state + 1);
	else
		snprintf(out, cap, "%.*s", (int)len, m->name);
	return out;
}

bool points_missing(const struct points *p, uint32_t target)
{
	char name[80];

	return !p->count[target] && !is_elsewhere(points_name(p, target, name, sizeof(name)));
}

void points_print(const struct points *p, FILE *f)
{
	char name[80];

	for (uint32_t t = 0; t < p->ntargets; t++)
		if (p->count[t] || points_missing(p, t))
			fprintf(f, "%10" PRIu64 " %s\n", p->count[t], points_name(p, t, name, sizeof(name)));
}
