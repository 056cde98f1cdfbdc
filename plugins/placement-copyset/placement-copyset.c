/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement policy "copyset": copies only on few distinct groups of disks (Cidon et al., "Copysets: Reducing the
 * Frequency of Data Loss in Cloud Storage", USENIX ATC 2013). With random placement nearly every set of R disks holds all
 * copies of some segment once there are many segments, so losing any R at once loses data; with few groups it seldom
 * does. Configuration: "scatter=N", the number of other disks that a disk shares segments with (default: twice the
 * other copies); larger rebuilds faster, smaller is lost more seldom.
 *
 * The paper cuts random permutations of the nodes into groups. Here permutation p puts domain (a * i + b) mod n at place i, with a
 * prime to n and another a for each p: computed without a table, and groups of different permutations share one
 * domain at most as long as there are enough such a. It is done once for each layer, which has one disk of every domain.
 */
#include "../common/ring.h"

struct copyset {
	struct instance base;
	struct ring ring;
	uint32_t scatter; /* 0: the default */
};

/* The groups that there are for so many copies. */
struct groups {
	const struct ring *g;
	uint32_t r;      /* disks of a group */
	uint32_t layers, perms, per_perm;
	uint32_t nsteps; /* numbers prime to n in 1..n/2 */
};

static const struct policy usable = { .score = NULL, .must_fit = 0 };

static double emptiest(const struct hci_placement_disk *d, const struct hci_placement_request *r)
{
	return preferred(d, r) - ring_fill(d);
}

static const struct policy any = { .score = emptiest, .must_fit = 0 };

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t t = a % b;

		a = b;
		b = t;
	}
	return a;
}

static uint32_t step_at(const struct groups *x, uint32_t k)
{
	uint32_t n = x->g->ndomains;

	for (uint32_t a = 1; a <= n / 2; a++)
		if (gcd(a, n) == 1 && !k--)
			return a;
	return 1;
}

static void groups_make(struct groups *x, const struct ring *g, uint32_t r, uint32_t scatter)
{
	x->g = g;
	x->r = r;
	x->layers = x->nsteps = 0;
	for (uint32_t d = 0; d < g->ndomains; d++)
		if (g->start[d + 1] - g->start[d] > x->layers)
			x->layers = g->start[d + 1] - g->start[d];
	for (uint32_t a = 1; a <= g->ndomains / 2; a++)
		x->nsteps += gcd(a, g->ndomains) == 1;
	if (!scatter)
		scatter = 2 * (r - 1);
	x->perms = r > 1 ? (scatter + r - 2) / (r - 1) : 1;
	x->perms = MIN(x->perms, x->nsteps ? x->nsteps : 1);
	x->per_perm = (g->ndomains + r - 1) / r;
}

/* Index in the snapshot of member t of group k; the last group of a permutation begins anew at its start. */
static uint32_t member(const struct groups *x, uint32_t layer, uint32_t step, uint64_t shift, uint32_t k, uint32_t t)
{
	uint32_t n = x->g->ndomains, place = (k * x->r + t) % n;
	uint32_t domain = (uint32_t)(((uint64_t)step * place + shift) % n);
	uint32_t begin = x->g->start[domain], have = x->g->start[domain + 1] - begin;

	return x->g->disk[begin + layer % have];
}

/* Calls fn for each group with its members until it returns non-zero. */
static void each_group(const struct groups *x, int (*fn)(void *arg, const uint32_t *disks, uint32_t no), void *arg)
{
	uint32_t disks[PLACE_MAX], no = 0;

	for (uint32_t layer = 0; layer < x->layers; layer++) {
		for (uint32_t p = 0; p < x->perms; p++) {
			uint32_t step = step_at(x, (p + layer) % (x->nsteps ? x->nsteps : 1));
			uint64_t shift = (layer + 1) * UINT64_C(2654435761) + p * UINT64_C(40503);

			for (uint32_t k = 0; k < x->per_perm; k++, no++) {
				for (uint32_t t = 0; t < x->r; t++)
					disks[t] = member(x, layer, step, shift, k, t);
				if (fn(arg, disks, no))
					return;
			}
		}
	}
}

/* ---- a whole group ---- */

struct best {
	const struct hci_placement_snapshot *s;
	const struct hci_placement_request *r;
	uint32_t n;
	uint32_t chosen[PLACE_MAX];
	double fill, sum;
	uint64_t tie;
	int found;
};

/* The emptiest is the one whose fullest disk is; then the one with the least on all. */
static int consider_group(void *arg, const uint32_t *disks, uint32_t no)
{
	struct best *b = arg;
	double fill = 0, sum = 0;
	uint64_t t = (b->r->seed ^ no) * UINT64_C(0x9e3779b97f4a7c15);

	t ^= t >> 29;
	for (uint32_t k = 0; k < b->n; k++) {
		const struct hci_placement_disk *d = disk_at(b->s, disks[k]);
		double f;

		if (turn_down(&usable, b->s, b->r, d))
			return 0;
		f = ring_fill(d);
		fill = f > fill ? f : fill;
		sum += f;
	}
	if (b->found && (fill > b->fill || (fill == b->fill && (sum > b->sum || (sum == b->sum && t <= b->tie)))))
		return 0;
	b->found = 1;
	b->fill = fill;
	b->sum = sum;
	b->tie = t;
	memcpy(b->chosen, disks, b->n * sizeof(*disks));
	return 0;
}

/* ---- beside copies that stay ---- */

struct together {
	const struct hci_placement_request *r;
	uint32_t n;
	uint32_t *seen; /* of each disk: bits of the copies that stay with which it is in some group */
};

static int note_group(void *arg, const uint32_t *disks, uint32_t no)
{
	struct together *x = arg;
	uint32_t mask = 0;

	(void)no;
	for (uint32_t t = 0; t < x->n; t++)
		for (uint32_t k = 0; k < x->r->nkeep; k++)
			if (x->r->keep[k] == disks[t])
				mask |= 1u << k;
	for (uint32_t t = 0; mask && t < x->n; t++)
		x->seen[disks[t]] |= mask;
	return 0;
}

/*
 * One more copy: on a disk that shares groups with those that have it, so that no new ones arise; a spare that takes over
 * does so for all of a lost disk's groups, the same for the same copies.
 */
static int32_t beside(struct copyset *x, const struct groups *gr, const struct hci_placement_request *r,
		      struct hci_placement_answer *a)
{
	const struct hci_placement_snapshot *s = gr->g->s;
	struct together t = { .r = r, .n = gr->r };
	struct candidate best = { .index = UINT32_MAX };
	uint64_t seed = 0;

	t.seen = calloc(s->ndisks ? s->ndisks : 1, sizeof(*t.seen));
	if (!t.seen)
		return refuse(x->base.host, "out of memory");
	if (gr->g->ndomains >= gr->r)
		each_group(gr, note_group, &t);
	for (uint32_t k = 0; k < r->nkeep; k++)
		seed ^= text_hash(disk_at(s, r->keep[k])->uuid, 1);
	for (uint32_t i = 0; i < s->ndisks; i++) {
		struct candidate c = { .disk = disk_at(s, i), .index = i };

		if (turn_down(&usable, s, r, c.disk))
			continue;
		c.score = preferred(c.disk, r) + 200.0 * __builtin_popcount(t.seen[i]) - ring_fill(c.disk);
		if (preferred(c.disk, r) > 0)
			c.score = preferred(c.disk, r);
		c.tie = tie(c.disk, seed);
		if (a->scores)
			a->scores[i] = c.score;
		if (best.index == UINT32_MAX || better(&c, &best))
			best = c;
	}
	free(t.seen);
	for (uint32_t i = 0; a->reasons && i < s->ndisks; i++) {
		const char *why = turn_down(&usable, s, r, disk_at(s, i));

		say(a, i, why ? why : i == best.index ? "chosen: it shares groups with the copies that stay" : "others have a better score");
	}
	if (best.index == UINT32_MAX)
		return refuse(x->base.host, "no usable disk is in another failure domain: add disks on other nodes");
	a->chosen[0] = best.index;
	return 0;
}

static void explain_group(const struct hci_placement_snapshot *s, const struct hci_placement_request *r,
			  struct hci_placement_answer *a)
{
	for (uint32_t i = 0; i < s->ndisks; i++) {
		const char *why = turn_down(&usable, s, r, disk_at(s, i));

		say(a, i, why ? why : "not in the emptiest group");
	}
	for (uint32_t k = 0; k < r->want; k++) {
		char text[48];

		snprintf(text, sizeof(text), "chosen as copy %u of the group", k + 1);
		say(a, a->chosen[k], text);
	}
}

static int32_t place(void *instance, const struct hci_placement_snapshot *s, const struct hci_placement_request *r,
		     struct hci_placement_answer *a)
{
	struct copyset *x = instance;
	struct best b = { .s = s, .r = r, .n = r->want };
	struct groups gr;

	if (s->disk_stride < END_OF(struct hci_placement_disk, volume_segments) ||
	    r->size < END_OF(struct hci_placement_request, volume) ||
	    a->size < END_OF(struct hci_placement_answer, reasons))
		return refuse(x->base.host, "this libhci is too old for the plugin");
	if (!r->want || r->want > PLACE_MAX || !r->replicas || r->replicas > PLACE_MAX)
		return refuse(x->base.host, "from 1 to 16 copies can be placed");
	if (!ring_make(&x->ring, s))
		return refuse(x->base.host, "out of memory");
	groups_make(&gr, &x->ring, r->replicas, x->scatter);
	if (r->want == 1 && r->nkeep)
		return beside(x, &gr, r, a);
	if (r->want == r->replicas && x->ring.ndomains >= r->want)
		each_group(&gr, consider_group, &b);
	/* No group is whole at present: better a new one than no place. */
	if (!b.found)
		return place_by_score(instance, &any, s, r, a);
	memcpy(a->chosen, b.chosen, r->want * sizeof(*a->chosen));
	for (uint32_t k = 0; a->scores && k < r->want; k++)
		a->scores[b.chosen[k]] = -ring_fill(disk_at(s, b.chosen[k]));
	if (a->reasons)
		explain_group(s, r, a);
	return 0;
}

static int32_t copyset_open(const struct hci_plugin_host *host, const char *config, void **out)
{
	struct copyset *x;
	unsigned long scatter = 0;
	char *end = NULL;

	if (*config) {
		if (!strncmp(config, "scatter=", 8) && config[8] >= '0' && config[8] <= '9')
			scatter = strtoul(config + 8, &end, 10);
		if (!end || *end || !scatter || scatter > 1000)
			return refuse(host, "the configuration is \"scatter=N\" with N from 1 to 1000");
	}
	x = calloc(1, sizeof(*x));
	if (!x)
		return refuse(host, "out of memory");
	x->base.host = host;
	x->scatter = (uint32_t)scatter;
	*out = x;
	return 0;
}

static void copyset_close(void *instance)
{
	ring_free(&((struct copyset *)instance)->ring);
	free(instance);
}

static const struct hci_placement_ops ops = {
	.size = sizeof(ops),
	.open = copyset_open,
	.close = copyset_close,
	.place = place,
};

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_PLACEMENT,
	.name = "placement-copyset",
	.version = "1.0",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
