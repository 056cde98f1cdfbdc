/* SPDX-License-Identifier: Apache-2.0 */
/* A writer comes, and stands still for longer than its lease lasts. */
#include "sim/heal.h"
#include "unit/harness.h"

static void pause_client(void *arg)
{
	struct cl_node *n = arg;

	sim_node_pause(n->sim, sim_now(n->cl->sim) + 20 * NS_PER_MS);
}

/* Leases that end before the attachment hangs on them are taken anew; what comes after may still be too late for them. */
static void attach_shortly(struct life *l, void *arg)
{
	struct heal *h = arg;
	struct vol_attach_opts o = { .purpose = REC_ATT_USER, .lease_ttl_ns = 10 * NS_PER_MS, .wait_ns = 10 * NS_PER_S };
	struct hci_error err = { 0 };
	int rc = vol_attach(&l->vol, &h->id, &o, &h->v, &err);

	ck_assert_msg(!strstr(err.message, "lease of the transaction"), "%s", err.message);
	if (!rc)
		vol_detach(h->v);
	h->v = NULL;
}

START_TEST(a_lease_that_ends_before_it_is_used_is_taken_anew)
{
	struct cluster_opts o = CLUSTER_OPTS_INIT;
	struct vol_create v = { .size = 4 * MiB, .segment_size = 4 * MiB, .replicas = 2 };
	struct heal h;

	heal_up(&h, &o, &v);
	for (unsigned k = 0; k < 200; k++) {
		sim_at(h.c->sim, sim_now(h.c->sim) + 50 * k * NS_PER_US, pause_client, &h.c->client[0]);
		heal_call(&h, &h.c->client[0], attach_shortly, &h);
	}
	heal_call(&h, &h.c->client[0], heal_attach, &h);
	heal_call(&h, &h.c->client[0], heal_detach, &h);
	heal_down(&h);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("sim_attach");
	TCase *t = tcase_create("all");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, a_lease_that_ends_before_it_is_used_is_taken_anew);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
