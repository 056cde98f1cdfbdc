/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest: writes numbers, each once, and remembers which it was told are durable. The judge: nobody is told so but a guest that
 * knows of all that were told before. So a second guest that can write, one that goes on from an older moment, a lost
 * write and a write that comes late are all found, at the next acknowledgement or read.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sim/vmm.h"

void guest_born(struct vmm *v, struct guest *g)
{
	memset(g, 0, sizeof(*g));
	g->born = ++v->judge.births;
	g->acks = v->judge.acks;
}

static void wrote(struct qemu *q)
{
	struct vmm *v = q->h->v;
	struct judge *j = &v->judge;
	struct guest *g = &q->g;

	if (g->acks != j->acks)
		vmm_fail(v, "the guest at %s was told that write %" PRIu64 " is durable, but does not know of %" PRIu64
			 " others that were: another one runs as well, or did since",
			 q->h->name, g->pending, j->acks - g->acks);
	g->acks = ++j->acks;
	g->value[g->block] = j->acked[g->block] = g->pending;
	g->known |= UINT64_C(1) << g->block;
	g->pending = 0;
	if (q->out.done && v->on_ran_on)
		v->on_ran_on(v->arg, q->h);
}

static void read_back(struct qemu *q, uint32_t block, uint64_t value)
{
	struct vmm *v = q->h->v;
	struct judge *j = &v->judge;
	struct guest *g = &q->g;

	j->reads++;
	if ((g->known >> block & 1) && value != g->value[block])
		vmm_fail(v, "the guest at %s reads %" PRIu64 " from block %u, and has %" PRIu64 " there", q->h->name, value, block,
			 g->value[block]);
	else if (value < j->acked[block])
		vmm_fail(v, "the guest at %s, which was started anew, reads %" PRIu64 " from block %u: %" PRIu64 " was acknowledged",
			 q->h->name, value, block, j->acked[block]);
	g->known |= UINT64_C(1) << block;
	g->value[block] = j->acked[block] = value;
}

static bool read_one(struct qemu *q, uint64_t *buf, uint32_t block)
{
	if (vdisk_io(&q->disk, VDISK_READ, buf, (uint64_t)block * HCI_BLOCK, HCI_BLOCK))
		return false;
	read_back(q, block, buf[0]);
	return true;
}

/* False: the disk does not answer. */
static bool one_request(struct qemu *q, uint64_t *buf)
{
	struct vmm *v = q->h->v;
	struct guest *g = &q->g;

	if (!g->pending && q->verify && q->verified < VMM_BLOCKS) {
		if (!read_one(q, buf, q->verified))
			return false;
		q->verified++;
		return true;
	}
	if (!g->pending && sim_rand_below(v->sim, 4) == 0)
		return read_one(q, buf, (uint32_t)sim_rand_below(v->sim, VMM_BLOCKS));
	if (!g->pending) {
		g->pending = ++v->judge.issued;
		g->block = (uint32_t)sim_rand_below(v->sim, VMM_BLOCKS);
	}
	for (size_t i = 0; i < HCI_BLOCK / sizeof(*buf); i++)
		buf[i] = g->pending;
	if (vdisk_io(&q->disk, VDISK_WRITE, buf, (uint64_t)g->block * HCI_BLOCK, HCI_BLOCK))
		return false;
	wrote(q);
	return true;
}

void guest_fiber(void *arg)
{
	struct qemu *q = arg;
	uint64_t *buf = mem_alloc(HCI_BLOCK);

	if (!buf)
		abort();
	for (;;) {
		bool ok;

		while (!q->run)
			fiber_cond_wait(q->e, &q->cond);
		q->busy = true;
		ok = one_request(q, buf);
		q->busy = false;
		if (!ok) { /* error_policy='stop' */
			q->io_error = true;
			q->run = false;
			q->out.failed |= q->out.active;
		}
		fiber_cond_signal(q->e, &q->cond);
		fiber_sleep(q->e, 5 * NS_PER_MS + sim_rand_below(q->h->v->sim, 30 * NS_PER_MS));
	}
}
