/* SPDX-License-Identifier: Apache-2.0 */
/* When and where faults strike: at random, and from ambush. See trouble.h. */
#include "sim/reconf.h"
#include "sim/ssd.h"
#include "sim/stops.h"

#include <stdlib.h>

static const struct {
	const char *name;
	uint8_t weight;
	uint8_t ambush; /* weight of what waits at a point */
} kinds[TR_KINDS] = {
	[TR_KILL] = { "kill", 8, 12 },
	[TR_POWER] = { "power", 7, 10 },
	[TR_POWER_ALL] = { "power-all", 2, 3 },
	[TR_CLIENT] = { "client", 4, 8 },
	[TR_PAUSE] = { "pause", 4, 8 },
	[TR_CUT] = { "cut", 6, 5 },
	[TR_ISOLATE] = { "isolate", 4, 3 },
	[TR_SPLIT] = { "split", 4, 3 },
	[TR_RESET] = { "reset", 4, 5 },
	[TR_DISK] = { "disk", 7, 6 },
	[TR_FULL] = { "full", 3, 1 },
	[TR_STORE_CUT] = { "store-cut", 4, 4 },
	[TR_STORE_LOSS] = { "store-loss", 2, 0 },
	[TR_COMPACT] = { "compact", 1, 0 },
	[TR_CLOCK] = { "clock", 2, 0 },
	[TR_AMBUSH] = { "ambush", 60, 0 },
	[TR_DISK_DEATH] = { "disk-death", 1, 0 },
	[TR_ROT] = { "rot", 12, 6 },
	[TR_REPLICAS] = { "replicas", 2, 0 },
	[TR_EVACUATE] = { "evacuate", 2, 0 },
	[TR_MOVE] = { "move", 4, 0 },
	[TR_LOG_END] = { "log-end", 2, 0 },
	[TR_CACHE] = { "cache", 4, 1 },
	[TR_SSD] = { "ssd", 4, 4 },
	[TR_SSD_AWAY] = { "ssd-away", 7, 7 },
	[TR_SSD_BLANK] = { "ssd-blank", 3, 1 },
	[TR_SSD_SWAP] = { "ssd-swap", 3, 1 },
	[TR_SSD_LOST] = { "ssd-lost", 2, 0 },
	[TR_SSD_OLD] = { "ssd-old", 3, 0 },
	[TR_STOP] = { "stop", 0, 0 }, /* chosen in stops.c */
	[TR_UNMOUNT] = { "unmount", 0, 0 },
};

const char *trouble_name(enum trouble_kind k)
{
	return kinds[k].name;
}

/* TR_KINDS when nothing is left to choose from. */
static enum trouble_kind choose(struct trouble *t, bool ambush)
{
	unsigned total = 0, w;
	uint64_t x;

	for (unsigned k = 0; k < TR_KINDS; k++)
		total += t->mask >> k & 1 ? (ambush ? kinds[k].ambush : kinds[k].weight) : 0;
	x = tr_pick(t, total ? total : 1);
	for (unsigned k = 0; k < TR_KINDS; k++, x -= w) {
		w = t->mask >> k & 1 ? (ambush ? kinds[k].ambush : kinds[k].weight) : 0;
		if (x < w)
			return (enum trouble_kind)k;
	}
	return TR_KINDS;
}

/* ---- ambushes ---- */

/* In the place of an old one when all are taken: those that wait longest wait at the rarest points, so any. */
static void lay_ambush(struct trouble *t)
{
	struct ambush *a = &t->ambush[tr_pick(t, TR_AMBUSHES)];
	enum trouble_kind kind = choose(t, true);

	for (unsigned k = 0; k < TR_AMBUSHES && a->armed; k++)
		if (!t->ambush[k].armed)
			a = &t->ambush[k];
	if (kind == TR_KINDS)
		return;
	a->armed = true;
	a->kind = kind;
	a->target = (uint32_t)tr_pick(t, points_targets(t->points));
	a->skip = tr_pick(t, 2) ? 0 : (uint32_t)tr_pick(t, 8);
}

struct strike {
	struct list link; /* trouble.strikes */
	struct trouble *t;
	struct cl_node *at;
	enum trouble_kind kind;
};

static void strike_fire(void *arg)
{
	struct strike *s = arg;

	if (s->kind == TR_DISK_DEATH)
		death_second(s->t);
	else if (!s->t->over && !s->t->quiet && !s->t->healing)
		fault_begin(s->t, stops_instead(s->t, s->kind, s->at), s->at);
	list_del(&s->link);
	free(s);
}

static struct cl_node *node_of(struct cluster *c, const struct sim_node *n)
{
	for (unsigned k = 0; k < c->o.nodes; k++)
		if (c->node[k].sim == n)
			return &c->node[k];
	for (unsigned k = 0; k < c->o.clients; k++)
		if (c->client[k].sim == n)
			return &c->client[k];
	return NULL;
}

/* Nothing more of the node's turn runs: the fault comes before what would follow. */
static void strike(struct trouble *t, struct sim_node *n, enum trouble_kind kind)
{
	struct strike *s = calloc(1, sizeof(*s));

	if (!s)
		abort();
	*s = (struct strike){ .t = t, .at = node_of(t->c, n), .kind = kind };
	list_init(&s->link);
	list_push(&t->strikes, &s->link);
	sim_node_pause(n, sim_now(t->c->sim));
	sim_at(t->c->sim, sim_now(t->c->sim), strike_fire, s);
}

static void on_mark(void *arg, struct sim_node *n, const struct env_mark *m, unsigned state)
{
	struct trouble *t = arg;
	uint32_t target = points_target(t->points, m, state);

	points_hit(t->points, target);
	if (t->stops && !strcmp(m->name, "empty log is made anew"))
		ssd_log_made_anew(node_of(t->c, n));
	if (t->over || t->quiet || sim_now(t->c->sim) < t->hush_until)
		return;
	if (t->healing) {
		/* A rebuild is under way: the moment for the second. */
		if (t->second && tr_pick(t, 24) == 0)
			strike(t, n, TR_DISK_DEATH);
		return;
	}
	for (unsigned k = 0; k < TR_AMBUSHES; k++) {
		struct ambush *a = &t->ambush[k];

		if (!a->armed || a->target != target || a->skip-- > 0)
			continue;
		/* What recovers from it is struck at the same place again. */
		a->armed = tr_pick(t, 3) == 0;
		a->skip = 0;
		strike(t, n, a->kind);
	}
}

/* ---- the schedule ---- */

static void tick(void *arg)
{
	struct trouble *t = arg;
	struct sim *s = t->c->sim;
	enum trouble_kind kind;

	if (t->over)
		return;
	/* Now and then several at once: what recovers from one is hit by the next. */
	if (t->burst)
		t->burst--;
	else if (!t->quiet && tr_pick(t, 6) == 0)
		t->burst = 1 + (unsigned)tr_pick(t, 4);
	sim_at(s, sim_now(s) + (t->burst ? tr_pick(t, 20 * NS_PER_MS) : tr_pick(t, 2 * t->mean_ns)), tick, t);
	if (t->healing) {
		t->healing = t->second || sim_now(s) < t->hold_until || !trouble_volumes_whole(t);
		if (t->second && sim_now(s) - t->died_at > 8 * NS_PER_S)
			t->second = false;
		if (t->healing && sim_now(s) - t->died_at > 6 * NS_PER_S)
			death_removed(t);
		return;
	}
	if (t->quiet) {
		death_first(t);
		return;
	}
	if (sim_now(s) < t->hush_until)
		return;
	kind = choose(t, false);
	if (kind == TR_AMBUSH)
		lay_ambush(t);
	else if (kind == TR_DISK_DEATH && !t->burst && t->deaths_left)
		death_first(t);
	else if (kind == TR_LOG_END && !t->burst) {
		t->log_end_next = true;
		death_first(t);
	} else if (kind == TR_SSD_LOST || kind == TR_SSD_OLD) {
		if (t->burst || (kind == TR_SSD_OLD && !ssd_old_ready(t)))
			return;
		t->ssd_next = kind;
		death_first(t);
	} else if (kind != TR_DISK_DEATH && kind != TR_LOG_END && kind != TR_KINDS)
		fault_begin(t, kind, NULL);
}

void trouble_init(struct trouble *t)
{
	if (!t->lies)
		t->mask &= ~(1u << TR_ROT);
	if (!t->log_ends)
		t->mask &= ~(1u << TR_LOG_END);
	if (!t->c->nssds)
		t->mask &= ~((1u << TR_SSD_OLD) * 2 - (1u << TR_SSD));
	list_init(&t->undos);
	list_init(&t->strikes);
	t->quiet = true; /* nothing yet */
	sim_on_mark(t->c->sim, on_mark, t);
}

void trouble_start(struct trouble *t)
{
	t->quiet = false;
	t->calm_since = sim_now(t->c->sim);
	for (unsigned k = 0; k < TR_AMBUSHES / 2 && t->mask >> TR_AMBUSH & 1; k++)
		lay_ambush(t);
	stops_start(t);
	tick(t);
}

void trouble_free(struct trouble *t)
{
	struct list *l;

	while ((l = list_pop(&t->strikes)))
		free(list_entry(l, struct strike, link));
	faults_free(t);
	sim_image_free(t->old_image);
}

void trouble_end(struct trouble *t)
{
	struct cluster *c = t->c;

	t->over = true;
	sim_net_heal(c->sim);
	simstore_cut(c->store, NULL, false);
	simstore_loss(c->store, 0, 0);
	death_removed(t);
	reconf_end(t);
	ssd_mend(t);
	for (unsigned k = 0; k < c->ndisks; k++) {
		c->disk[k].full = false;
		sim_disk_set_capacity(c->disk[k].sd, c->o.disk_size);
		if (c->disk[k].dead)
			continue;
		c->disk[k].fault = SIM_DISK_OK;
		sim_disk_fault(c->disk[k].sd, SIM_DISK_OK);
	}
	stops_mend(t);
	for (unsigned k = 0; k < c->o.nodes; k++)
		cluster_boot(&c->node[k]);
	for (unsigned k = 0; k < c->o.clients; k++) {
		if (c->client[k].cache_disk)
			sim_disk_fault(c->client[k].cache_disk, SIM_DISK_OK);
		cluster_boot(&c->client[k]);
	}
}
