/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of healing share: see heal.h. */
#include "sim/heal.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void heal_up(struct heal *h, const struct cluster_opts *o, const struct vol_create *volume)
{
	memset(h, 0, sizeof(*h));
	h->c = cluster_new(o);
	ck_assert_msg(!h->c->failed, "%s", h->c->why);
	h->create = *volume;
	h->create.name = "v";
	h->create.pool = "pool";
	h->create.place = cluster_place;
	h->create.arg = h->c;
	if (!h->create.write_timeout_ns)
		h->create.write_timeout_ns = NS_PER_S;
	heal_call(h, &h->c->client[0], heal_create, h);
}

void heal_down(struct heal *h)
{
	cluster_free(h->c);
	h->c = NULL;
}

void heal_call(struct heal *h, struct cl_node *n, void (*fn)(struct life *l, void *arg), void *arg)
{
	ck_assert_msg(cluster_call(n, fn, arg, 600 * NS_PER_S), "%s did not come back", n->name);
	ck_assert_msg(!h->c->failed, "%s", h->c->why);
}

void heal_create(struct life *l, void *arg)
{
	struct heal *h = arg;
	struct hci_error err = { 0 };

	ck_assert_msg(!vol_create(&l->vol, &h->create, &h->id, &err), "%s", err.message);
}

void heal_attach(struct life *l, void *arg)
{
	struct heal *h = arg;
	struct vol_attach_opts o = { .purpose = REC_ATT_USER, .lease_ttl_ns = 2 * NS_PER_S, .wait_ns = 10 * NS_PER_S };
	struct hci_error err = { 0 };

	ck_assert_msg(!vol_attach(&l->vol, &h->id, &o, &h->v, &err), "%s", err.message);
}

void heal_detach(struct life *l, void *arg)
{
	struct heal *h = arg;

	(void)l;
	vol_detach(h->v);
	h->v = NULL;
}

/* What block b holds after so many rounds of writing. */
static void pattern(uint8_t *p, uint64_t b, uint64_t round)
{
	for (unsigned i = 0; i < HCI_BLOCK / 16; i++) {
		memcpy(p + i * 16u, &b, 8);
		memcpy(p + i * 16u + 8, &round, 8);
	}
}

#define CHUNK (1u << 20)

void heal_fill(struct life *l, void *arg)
{
	struct heal *h = arg;
	uint8_t *buf = mem_alloc_aligned(CHUNK);

	(void)l;
	h->round++;
	for (uint64_t at = 0; at < h->create.size; at += CHUNK) {
		uint64_t n = MIN((uint64_t)CHUNK, h->create.size - at);

		for (uint64_t b = 0; b < n / HCI_BLOCK; b++)
			pattern(buf + b * HCI_BLOCK, at / HCI_BLOCK + b, h->round);
		ck_assert_int_eq(vol_rw(h->v, VOL_WRITE, buf, at, n), 0);
	}
	mem_free_aligned(buf);
}

void heal_check(struct life *l, void *arg)
{
	struct heal *h = arg;
	uint8_t *buf = mem_alloc_aligned(CHUNK), *want = mem_alloc_aligned(HCI_BLOCK);

	(void)l;
	for (uint64_t at = 0; at < h->create.size; at += CHUNK) {
		uint64_t n = MIN((uint64_t)CHUNK, h->create.size - at);

		ck_assert_int_eq(vol_rw(h->v, VOL_READ, buf, at, n), 0);
		for (uint64_t b = 0; b < n / HCI_BLOCK; b++) {
			pattern(want, at / HCI_BLOCK + b, h->round);
			ck_assert_msg(!memcmp(buf + b * HCI_BLOCK, want, HCI_BLOCK), "block %llu is wrong",
				      (unsigned long long)(at / HCI_BLOCK + b));
		}
	}
	mem_free_aligned(want);
	mem_free_aligned(buf);
}

void heal_compare(struct life *l, void *arg)
{
	engine_compare(l, &((struct heal *)arg)->id, false);
}

bool heal_is_whole(struct heal *h)
{
	struct vol_status st;

	vol_status(h->v, &st);
	if (st.out || st.segments_degraded)
		return false;
	/* Nor is there one whose failure has not been noticed yet. */
	for (uint32_t i = 0; i < h->v->nlegs; i++)
		if (h->v->legs[i]->used && cluster_disk(h->c, &h->v->legs[i]->disk)->dead)
			return false;
	return true;
}

void heal_whole(struct life *l, void *arg)
{
	struct heal *h = arg;
	uint64_t end = env_now(l->env) + 300 * NS_PER_S;

	while (!heal_is_whole(h) && env_now(l->env) < end)
		fiber_sleep(l->env, NS_PER_MS);
	ck_assert_msg(heal_is_whole(h), "the volume does not become whole");
}

void heal_kill_disk(struct cl_disk *d)
{
	d->dead = true;
	d->serving = false;
	d->fault = SIM_DISK_EIO;
	d->rec.state = REC_DISK_REMOVED;
	sim_disk_fault(d->sd, SIM_DISK_EIO);
}
