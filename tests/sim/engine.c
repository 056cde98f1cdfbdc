/* SPDX-License-Identifier: Apache-2.0 */
/* The volume engine under the workload: see engine.h. */
#include "sim/engine.h"

#include "base/mem.h"
#include "base/uuid.h"

#define PEEK (64u << 10)

struct attachment {
	struct vol *vol;
	bool fenced;
};

static void fenced(void *arg, struct vol *v)
{
	struct attachment *a = arg;

	(void)v;
	a->fenced = true;
}

static int attach(struct env *e, void *arg, void **handle)
{
	struct engine *g = arg;
	struct attachment *a = TRY_PTR(MEM_NEW(struct attachment));
	struct vol_attach_opts o = { .purpose = REC_ATT_USER, .lease_ttl_ns = g->lease_ttl, .wait_ns = NS_PER_S,
				     .steal_repair = true, .on_fenced = fenced, .arg = a };
	struct hci_error err = { 0 };
	int rc;

	(void)e;
	rc = vol_attach(&g->client->life->vol, &g->volume, &o, &a->vol, &err);
	if (rc)
		mem_free(a);
	else
		*handle = a;
	return rc;
}

static void io_done(struct vol_io *v)
{
	struct wl_io *io = container_of((void *)v, struct wl_io, priv);

	io->status = v->status;
	io->done(io);
}

static void submit(void *handle, struct wl_io *io)
{
	static const enum vol_io_op op[] = { VOL_READ, VOL_WRITE, VOL_ZERO, VOL_FLUSH };
	struct attachment *a = handle;
	struct vol_io *v = (struct vol_io *)(void *)io->priv;

	_Static_assert(sizeof(*v) <= sizeof(io->priv), "struct wl_io has no room for struct vol_io");
	memset(v, 0, sizeof(*v));
	v->op = op[io->op];
	v->vol = a->vol;
	v->buf = io->buf;
	v->off = io->off;
	v->len = io->len;
	v->done = io_done;
	vol_submit(v);
}

static bool over(void *handle)
{
	return ((struct attachment *)handle)->fenced;
}

static void detach(void *handle)
{
	struct attachment *a = handle;

	vol_detach(a->vol);
	mem_free(a);
}

const struct wl_ops engine_ops = { attach, submit, over, detach };

struct vol *engine_vol(void *handle)
{
	return ((struct attachment *)handle)->vol;
}

/* ---- comparing copies ---- */

struct comparing {
	struct life *l;
	const struct uuid *volume;
	bool may_be_lost;
	uint8_t *buf; /* two pieces */
};

static bool peek(struct comparing *c, const struct uuid *disk, uint32_t segment, uint64_t off, uint8_t *buf)
{
	struct life *l = c->l;
	struct hci_error err = { 0 };
	int rc = vol_peek(&l->vol, c->volume, disk, segment, off, buf, PEEK, &err);

	for (unsigned tries = 0; rc && l->node->cl->injected && tries < 3; tries++) { /* it struck us: once */
		fiber_sleep(l->env, NS_PER_S);
		rc = vol_peek(&l->vol, c->volume, disk, segment, off, buf, PEEK, &err);
	}
	if (rc == 0)
		return true;
	if (rc == HCI_E_CORRUPT && c->may_be_lost)
		return false;
	cluster_fail(l->node->cl, "segment %u cannot be read from one of its disks: %s", segment, err.message);
	return false;
}

static void compare_piece(struct comparing *c, const struct rec_volume *v, uint32_t segment, uint64_t off,
			  const struct uuid *one, const struct uuid *other)
{
	struct cluster *cl = c->l->node->cl;

	for (uint64_t b = 0; b < PEEK; b += HCI_BLOCK) {
		if (memcmp(c->buf + b, c->buf + PEEK + b, HCI_BLOCK) == 0)
			continue;
		cluster_fail(cl, "copies of segment %u differ at block %llu of the volume (%s, %s)", segment,
			     (unsigned long long)((segment * v->segment_size + off + b) / HCI_BLOCK),
			     cluster_disk(cl, one)->rec.node, cluster_disk(cl, other)->rec.node);
	}
}

/* Each with the first that can be read. */
static void compare_segment(struct comparing *c, const struct rec_volume *v, uint32_t segment, const struct rec_segment *s)
{
	uint64_t size = MIN(v->segment_size, v->size - segment * v->segment_size);

	for (uint64_t off = 0; off < ROUND_DOWN(size, PEEK) && !c->l->node->cl->failed; off += PEEK) {
		uint32_t first = 0;

		while (first < s->n && !peek(c, &s->r[first].disk, segment, off, c->buf))
			first++;
		for (uint32_t r = first + 1; r < s->n; r++)
			if (peek(c, &s->r[r].disk, segment, off, c->buf + PEEK))
				compare_piece(c, v, segment, off, &s->r[first].disk, &s->r[r].disk);
	}
}

void engine_compare(struct life *l, const struct uuid *volume, bool may_be_lost)
{
	struct rec_volmap *map = TRY_PTR(MEM_NEW(struct rec_volmap));
	struct rec_volume v;
	struct comparing c = { l, volume, may_be_lost, TRY_PTR(mem_alloc_aligned(2 * PEEK)) };
	struct hci_error err = { 0 };
	char key[REC_KEY];
	uint32_t nseg;

	key_volume(key, volume);
	/* Twice: a failure may be injected. */
	if (rec_volume_get(l->store, key, &v, NULL, &err) && rec_volume_get(l->store, key, &v, NULL, &err)) {
		cluster_fail(l->node->cl, "%s", err.message);
		return;
	}
	nseg = (uint32_t)((v.size + v.segment_size - 1) / v.segment_size);
	for (uint32_t i = 0; i < nseg && !l->node->cl->failed; i++) {
		if (i % REC_VOLMAP_CHUNK == 0) {
			key_volmap(key, volume, i / REC_VOLMAP_CHUNK);
			if (rec_volmap_get(l->store, key, map, NULL, &err) &&
			    rec_volmap_get(l->store, key, map, NULL, &err)) {
				cluster_fail(l->node->cl, "%s", err.message);
				return;
			}
		}
		compare_segment(&c, &v, i, &map->seg[i % REC_VOLMAP_CHUNK]);
	}
	mem_free_aligned(c.buf);
	mem_free(map);
}
