/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Openings of a volume on a disk, the fence, and the lists of what is here. A newer generation
 * shuts out all older ones (HCI_E_FENCED); a later opening of the same generation takes the place
 * of the one before (HCI_E_CLOSED), so that requests of a connection that broke cannot arrive late.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "replica/replica_impl.h"

bool op_stale(const struct repl_op *op, int *status)
{
	const struct repl_slot *s = op->slot;
	const struct vol *v = ((const struct op_priv *)op->priv)->vol;

	if (v->gone)
		*status = HCI_E_CLOSED;
	else if (!s || s->ro)
		return false;
	else if (s->d->mutate & REPL_MUTATE_NO_FENCE)
		return false;
	else if (s->gen < v->max_gen)
		*status = HCI_E_FENCED;
	else if (s->opening != v->opening)
		*status = HCI_E_CLOSED;
	return *status != 0;
}

static int check_open(struct repl_disk *d, const struct uuid *volume, uint64_t generation,
		      uint64_t segsize, const struct vol *v, struct hci_error *err)
{
	char u[HCI_UUID_STR];

	uuid_print(volume, u);
	if (d->failed)
		return err_copy(err, &d->fail_err, HCI_E_IO);
	if (d->closing)
		return err_set(err, HCI_E_CLOSED, "disk %s is being closed", d->path);
	if (generation == 0 || generation > REPL_GEN_MAX)
		return err_set(err, HCI_E_INVAL, "volume %s: generation %llu is out of range", u,
			       (unsigned long long)generation);
	if (segsize < LOGF_SEGMENT_MIN || segsize > LOGF_SEGMENT_MAX || segsize % REPL_REGION)
		return err_set(
			err, HCI_E_INVAL,
			"volume %s: segment size %llu is not a multiple of 64 KiB up to 4 GiB", u,
			(unsigned long long)segsize);
	if (v && generation < v->max_gen && !(d->mutate & REPL_MUTATE_NO_FENCE))
		return err_set(err, HCI_E_FENCED,
			       "volume %s on disk %s: generation %llu is refused, a writer of "
			       "generation %llu was here",
			       u, d->path, (unsigned long long)generation,
			       (unsigned long long)v->max_gen);
	if (v && v->segsize != segsize)
		return err_set(err, HCI_E_INVAL,
			       "volume %s on disk %s has segments of %llu bytes, not %llu", u,
			       d->path, (unsigned long long)v->segsize,
			       (unsigned long long)segsize);
	return 0;
}

static struct repl_slot *slot_new(struct vol *v, uint64_t generation, bool ro)
{
	struct repl_slot *s = MEM_NEW(struct repl_slot);

	if (!s)
		return NULL;
	s->d = v->d;
	s->vol = v;
	s->gen = generation;
	s->ro = ro;
	v->refs++;
	return s;
}

void repl_slot_put(struct repl_slot *s)
{
	if (!s)
		return;
	vol_put(s->vol);
	mem_free(s->dropped);
	mem_free(s);
}

bool slot_has_dropped(const struct repl_slot *s, uint32_t segment)
{
	for (uint32_t i = 0; i < s->ndropped; i++) {
		if (s->dropped[i] == segment)
			return true;
	}
	return false;
}

int slot_note_drop(struct repl_slot *s, uint32_t segment)
{
	uint32_t *more;

	if (slot_has_dropped(s, segment))
		return 0;
	more = mem_realloc(s->dropped, (s->ndropped + (size_t)1) * sizeof(*more));
	if (!more)
		return HCI_E_NOMEM;
	s->dropped = more;
	s->dropped[s->ndropped++] = segment;
	return 0;
}

static void get_state(const struct vol *v, struct repl_slot_state *state)
{
	if (!state)
		return;
	state->generation = v->gen;
	state->last_seq = v->last;
	state->stable_seq = v->stable;
}

/* The entry goes behind everything that was submitted before, so when it is durable that is, too.
 */
static int fence(struct repl_slot *s)
{
	struct ctl c = { .op = { .seq = s->gen } };
	struct vol *v = s->vol;
	int rc;

	ENV_MARK(v->d->e, "fence begins");
	v->max_gen = MAX(v->max_gen, s->gen);
	s->opening = ++v->opening;
	c.op.kind = (enum repl_op_kind)OP_FENCE;
	op_priv(&c.op)->vol = v;
	rc = s->d->mutate & REPL_MUTATE_FENCE_UNSYNCED && v->gen ? 0 : log_control(s->d, &c);
	ENV_MARK_STATE(v->d->e, "fenced:yes,overtaken,no", rc ? 2 : s->gen < v->max_gen, 3);
	if (!rc && s->gen < v->max_gen && !(s->d->mutate & REPL_MUTATE_NO_FENCE))
		rc = HCI_E_FENCED;
	if (!rc && s->opening != v->opening)
		rc = HCI_E_CLOSED;
	return rc;
}

static int slot_open(struct repl_disk *d, const struct uuid *volume, uint64_t generation,
		     uint64_t segment_size, struct repl_slot **out, struct repl_slot_state *state,
		     struct hci_error *err)
{
	struct vol *v = vol_find(d, volume);
	struct repl_slot *s;
	int rc = check_open(d, volume, generation, segment_size, v, err);

	*out = NULL;
	if (rc)
		return rc;
	if (!v)
		v = vol_new(d, volume, segment_size);
	s = v ? slot_new(v, generation, false) : NULL;
	if (!s)
		return err_set(err, HCI_E_NOMEM, "disk %s: out of memory for a slot", d->path);
	rc = fence(s);
	if (rc) {
		if (d->failed)
			err_copy(err, &d->fail_err, rc);
		else
			err_set(err, rc, "disk %s: generation %llu was not admitted: %s", d->path,
				(unsigned long long)generation, hci_strerror(rc));
		repl_slot_put(s);
		return rc;
	}
	get_state(v, state);
	*out = s;
	return 0;
}

int repl_slot_open(struct repl_disk *d, const struct uuid *volume, uint64_t generation,
		   uint64_t segment_size, struct repl_slot **out, struct repl_slot_state *state,
		   struct hci_error *err)
{
	int rc;

	disk_enter(d);
	rc = slot_open(d, volume, generation, segment_size, out, state, err);
	disk_leave(d);
	return rc;
}

int repl_slot_open_ro(struct repl_disk *d, const struct uuid *volume, struct repl_slot **out,
		      struct repl_slot_state *state, struct hci_error *err)
{
	struct vol *v = vol_find(d, volume);
	char u[HCI_UUID_STR];

	*out = NULL;
	if (d->failed)
		return err_copy(err, &d->fail_err, HCI_E_IO);
	if (!v || !vol_real(v)) {
		uuid_print(volume, u);
		return err_set(err, HCI_E_NOTFOUND, "disk %s holds nothing of volume %s", d->path,
			       u);
	}
	*out = slot_new(v, 0, true);
	if (!*out)
		return err_set(err, HCI_E_NOMEM, "disk %s: out of memory for a slot", d->path);
	get_state(v, state);
	return 0;
}

/* ---- what is here ---- */

static uint32_t regions_of(const struct seg *s, uint64_t since, uint32_t from,
			   struct repl_region *out, uint32_t max)
{
	uint32_t total = (uint32_t)(s->vol->segsize / REPL_REGION), n = 0;

	for (uint32_t r = from; r < total && n < max; r++) {
		const struct mpage *p = s->pages[r / MAP_REGIONS];

		if (!p) {
			r = ROUND_DOWN(r, MAP_REGIONS) + MAP_REGIONS - 1;
			continue;
		}
		if ((p->seq[r % MAP_REGIONS] & REPL_SEQ_MASK) <= since)
			continue;
		out[n].segment = s->no;
		out[n].region = r;
		out[n++].seq = p->seq[r % MAP_REGIONS];
	}
	return n;
}

uint32_t repl_regions(struct repl_slot *slot, uint64_t since, uint32_t only_segment,
		      struct repl_region *cursor, struct repl_region *out, uint32_t max)
{
	const struct vol *v = slot->vol;
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->nsegs && n < max; i++) {
		const struct seg *s = v->segs[i];
		uint32_t from = 0;

		if (s->no < cursor->segment ||
		    (only_segment != UINT32_MAX && s->no != only_segment))
			continue;
		if (s->no == cursor->segment)
			from = cursor->region + (cursor->seq != 0);
		n += regions_of(s, since, from, out + n, max - n);
	}
	if (n)
		*cursor = out[n - 1];
	return n;
}

uint64_t seg_bytes(const struct seg *s)
{
	uint64_t regions = 0;

	for (uint32_t i = 0; i < s->npages; i++) {
		const struct mpage *p = s->pages[i];

		for (uint32_t k = 0; p && k < MAP_REGIONS; k++)
			regions += p->valid[k] || (p->nodes && p->nodes[k] && p->nodes[k]->data);
	}
	return regions * REPL_REGION;
}

int repl_held(struct repl_disk *d, struct repl_held **out, size_t *n)
{
	struct repl_held *a;
	struct vol *v;

	*n = 0;
	for (unsigned i = 0; i < VOL_BUCKETS; i++)
		list_for_each(v, &d->vols[i], link)
			*n += vol_real(v);
	*out = a = mem_calloc(*n + 1, sizeof(*a));
	if (!a)
		return HCI_E_NOMEM;
	for (unsigned i = 0; i < VOL_BUCKETS; i++) {
		list_for_each(v, &d->vols[i], link) {
			if (!vol_real(v))
				continue;
			a->volume = v->uuid;
			a->generation = v->gen;
			for (uint32_t k = 0; k < v->nsegs; k++) {
				a->segments += v->segs[k]->real;
				a->bytes += seg_bytes(v->segs[k]);
			}
			a++;
		}
	}
	return 0;
}

int repl_segments(struct repl_disk *d, const struct uuid *volume, uint32_t **out, size_t *n)
{
	const struct vol *v = vol_find(d, volume);

	*n = 0;
	*out = mem_calloc((v ? v->nsegs : 0) + 1u, sizeof(**out));
	if (!*out)
		return HCI_E_NOMEM;
	for (uint32_t i = 0; v && i < v->nsegs; i++) {
		if (v->segs[i]->real)
			(*out)[(*n)++] = v->segs[i]->no;
	}
	return 0;
}
