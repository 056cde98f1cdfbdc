/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a volume's record and its pool's say of how it is served: timeouts, the delay and the impact of rebuilds, what a full
 * disk means. A writer takes a change over while it is attached: its record's when it is read again, its pool's at each turn of
 * the fiber that heals. Sizes and copies are not settings: attach.c, reconf.c.
 */
#include "volume/volume_impl.h"

void vol_settings(const struct rec_volume *r, const struct rec_pool *p, struct vol_settings *out)
{
	*out = (struct vol_settings){
		.read_timeout_ns = r->read_timeout_ns ? r->read_timeout_ns : VOL_READ_TIMEOUT,
		.write_timeout_ns = r->write_timeout_ns ? r->write_timeout_ns : VOL_WRITE_TIMEOUT,
		.rebuild_delay_ns = r->rebuild_delay_ns,
		.rebuild_impact = r->rebuild_impact,
		.lease_ns = r->lease_ns ? r->lease_ns : VOL_LEASE_TTL,
	};
	if (!out->rebuild_delay_ns && p)
		out->rebuild_delay_ns = p->rebuild_delay_ns;
	if (!out->rebuild_delay_ns)
		out->rebuild_delay_ns = VOL_REBUILD_DELAY;
	if (!out->rebuild_impact && p)
		out->rebuild_impact = p->rebuild_impact;
	if (!out->rebuild_impact)
		out->rebuild_impact = VOL_REBUILD_IMPACT;
}

static void in_force(const struct vol *v, struct vol_settings *out)
{
	vol_settings(&v->rec, v->x->pool ? v->x->pool(v->x->arg, v->rec.pool) : NULL, out);
}

void vol_settings_now(const struct vol *v, struct vol_settings *out)
{
	in_force(v, out);
	out->read_timeout_ns = v->read_timeout;
	out->rebuild_impact = v->rebuild_impact;
	out->lease_ns = v->lease_ttl;
}

uint64_t settings_rebuild_delay(const struct vol *v)
{
	struct vol_settings s;

	in_force(v, &s);
	return s.rebuild_delay_ns;
}

void settings_refresh(struct vol *v)
{
	struct vol_settings s;

	in_force(v, &s);
	v->rebuild_impact = s.rebuild_impact;
	v->rec.write_timeout_ns = s.write_timeout_ns; /* of our copy of the record: requests look it up there */
	if (v->read_timeout == s.read_timeout_ns)
		return;
	v->read_timeout = s.read_timeout_ns;
	/* Reads that were sent are judged by it too; the timer finds out whose time has come. */
	if (!list_empty(&v->reads))
		env_timer_arm(v->e, &v->hedge_timer, env_now(v->e));
}

void settings_take(struct vol *v, const struct rec_volume *r)
{
	bool full = v->rec.on_full != r->on_full;

	v->rec.on_full = r->on_full;
	v->rec.write_timeout_ns = r->write_timeout_ns;
	v->rec.read_timeout_ns = r->read_timeout_ns;
	v->rec.rebuild_delay_ns = r->rebuild_delay_ns;
	v->rec.rebuild_impact = r->rebuild_impact;
	v->rec.lease_ns = r->lease_ns; /* for show: an attachment keeps the one that it has */
	settings_refresh(v);
	if (full)
		io_recheck(v); /* what waits for room may have to fail */
	fiber_cond_signal(v->e, &v->changed);
}
