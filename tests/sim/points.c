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

uint64_t points_count(const struct points *p, uint32_t target)
{
	return p->count[target];
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

uint32_t points_print(const struct points *p, FILE *f)
{
	uint32_t never = 0;
	char name[80];

	for (uint32_t t = 0; t < p->ntargets; t++) {
		fprintf(f, "%10" PRIu64 " %s\n", p->count[t], points_name(p, t, name, sizeof(name)));
		never += p->count[t] == 0;
	}
	return never;
}
