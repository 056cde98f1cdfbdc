/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that take over from others: what the store says of them, and what the writer believes that it says. */
#include "sim/heal.h"
#include "unit/harness.h"

#include "base/mem.h"

static struct heal h;

static void end(void)
{
	heal_down(&h);
}

static void read_sync(struct rec_volsync *s)
{
	char key[REC_KEY];
	const void *v;
	uint32_t len;

	key_volsync(key, &h.id);
	v = simstore_peek(h.c->store, key, &len);
	ck_assert(v && !rec_volsync_decode(v, len, s, NULL));
}

/* As a writer leaves it that replaced the disk, long ago, and died before it could strike it off the list. */
static void put_out(const struct cl_disk *d)
{
	struct rec_volsync *s = mem_calloc(1, sizeof(*s));
	struct buf b = BUF_INIT;
	char key[REC_KEY];

	read_sync(s);
	s->out[s->n++] = (struct rec_out){ .disk = d->rec.uuid, .left_seq = 1 };
	ck_assert(!rec_volsync_encode(s, &b));
	key_volsync(key, &h.id);
	simstore_put(h.c->store, key, b.data, (uint32_t)b.len);
	buf_free(&b);
	mem_free(s);
}

static uint32_t disks_out(void)
{
	struct rec_volsync *s = mem_calloc(1, sizeof(*s));
	uint32_t n;

	read_sync(s);
	n = s->n;
	mem_free(s);
	return n;
}

static bool is_home(const struct cl_node *n)
{
	const struct leg *l = leg_find(h.v, &n->disks[0]->rec.uuid);

	return l && l->used;
}

/*
 * One of those that are left takes over, and is in the store's list of those that are out since it had a copy before. Was that
 * not known, the store would have the last copy that there is for out when the other one fails.
 */
START_TEST(a_disk_that_takes_over_again_is_in_the_set_of_the_store_too)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 4 * MiB, .segment_size = 4 * MiB, .replicas = 2 };
	struct cl_node *n;

	o.nodes = 4;
	o.spare_disks = 0;
	heal_up(&h, &o, &v);
	n = h.c->node;
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	ck_assert(is_home(&n[0]) && is_home(&n[1]));
	heal_call(&h, &h.c->client[0], heal_detach, &h);

	put_out(n[2].disks[0]);
	put_out(n[3].disks[0]);
	ck_assert_uint_eq(disks_out(), 2);
	heal_kill_disk(n[1].disks[0]);
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_whole, &h);
	/* Nor is it replaced by the other one at once, as a disk that is away since then. */
	ck_assert(is_home(&n[2]) != is_home(&n[3]));
	ck_assert(!leg_find(h.v, &n[2 + is_home(&n[2])].disks[0]->rec.uuid));
	sim_run(h.c->sim, 2 * NS_PER_S);
	ck_assert_uint_eq(disks_out(), 0);

	cluster_kill(&n[0], true);
	heal_call(&h, &h.c->client[0], heal_fill, &h);
	cluster_kill(&h.c->client[0], false);
	heal_call(&h, &h.c->client[1], heal_attach, &h);
	heal_call(&h, &h.c->client[1], heal_check, &h);
	cluster_boot(&n[0]);
	heal_call(&h, &h.c->client[1], heal_whole, &h);
	heal_call(&h, &h.c->client[1], heal_check, &h);
	heal_call(&h, &h.c->client[1], heal_detach, &h);
	heal_call(&h, &h.c->client[1], heal_compare, &h);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_homes");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 240);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, a_disk_that_takes_over_again_is_in_the_set_of_the_store_too);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
