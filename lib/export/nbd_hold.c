/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate between requests and the backend: open, held, or held for writes. Owns the parked requests and the count
 * of those under way. A request that comes back fenced from a backend that was replaced meanwhile
 * is simply sent again; nothing was acknowledged, so running it twice is running it once.
 */
#include "base/err.h"
#include "export/nbd_internal.h"

static void told_task(struct env_task *t)
{
	struct nbd_export *x = container_of(t, struct nbd_export, told);

	if ((x->held & NBD_HELD_ALL) && !x->closing && x->on_first_held_io)
		x->on_first_held_io(x->arg, x, x->held_status);
}

static void told_write_task(struct env_task *t)
{
	struct nbd_export *x = container_of(t, struct nbd_export, told_write);

	if ((x->held & NBD_HELD_WRITES) && !x->closing && x->on_first_held_write)
		x->on_first_held_write(x->arg, x);
}

void nbd_hold_init(struct nbd_export *x, const struct nbd_export_opts *o)
{
	list_init(&x->parked);
	fiber_cond_init(&x->idle);
	env_task_init(&x->told, told_task);
	env_task_init(&x->told_write, told_write_task);
	x->on_first_held_io = o->on_first_held_io;
	x->on_first_held_write = o->on_first_held_write;
	x->arg = o->arg;
	x->hold_on_fence = o->hold_on_fence;
	x->held = o->held || !o->backend ? NBD_HELD_ALL : 0;
}

static void set_held(struct nbd_export *x, unsigned held)
{
	x->held = held;
	metric_set(x->m[NBD_M_HELD], held != 0);
}

static void hold(struct nbd_export *x, int status)
{
	if (x->held & NBD_HELD_ALL)
		return;
	set_held(x, x->held | NBD_HELD_ALL);
	x->held_told = false;
	x->held_status = status;
}

static void tell_once(struct nbd_export *x, bool *told, struct env_task *t)
{
	if (*told)
		return;
	*told = true;
	env_defer(x->server->env, t);
}

static void park(struct nbd_export *x, struct nbd_req *r)
{
	r->parked = true;
	list_push(&x->parked, &r->out);
	x->stats.parked++;
	if (x->held & NBD_HELD_ALL)
		tell_once(x, &x->held_told, &x->told);
	else
		tell_once(x, &x->writes_told, &x->told_write);
}

static struct nbd_req *unpark_first(struct nbd_export *x)
{
	struct list *n = list_pop(&x->parked);
	struct nbd_req *r = n ? list_entry(n, struct nbd_req, out) : NULL;

	if (r) {
		r->parked = false;
		x->stats.parked--;
	}
	return r;
}

static void io_done(struct nbd_io *io)
{
	struct nbd_req *r = container_of(io, struct nbd_req, io);

	nbd_export_came_back(r->conn->export);
	r->at_backend = false;
	nbd_exec_io_done(r, io->status);
}

static void query_done(struct nbd_query *q)
{
	struct nbd_req *r = container_of(q, struct nbd_req, query);

	nbd_export_came_back(r->conn->export);
	r->at_backend = false;
	nbd_exec_query_done(r, q->result);
}

static bool is_write(const struct nbd_req *r)
{
	return r->h.type == NBD_CMD_WRITE || r->h.type == NBD_CMD_TRIM || r->h.type == NBD_CMD_WRITE_ZEROES;
}

/* In a hold. True: r does not go to the backend now. */
static bool hold_back(struct nbd_export *x, struct nbd_req *r)
{
	bool all = x->held & NBD_HELD_ALL;

	/*
	 * What was acknowledged is durable, so a flush waits for nothing. A QEMU that ends flushes first, also one that has never run its
	 * guest: in a hold that is one half of a migration it must neither wait nor pass for the guest's first request.
	 */
	if (all && r->h.type == NBD_CMD_FLUSH)
		nbd_tx_done(r);
	else if (all || is_write(r))
		park(x, r);
	else
		return false;
	return true;
}

void nbd_export_dispatch(struct nbd_export *x, struct nbd_req *r)
{
	if (x->closing) {
		nbd_tx_error(r, NBD_ESHUTDOWN, "the export is being closed");
		return;
	}
	if (x->held && hold_back(x, r))
		return;
	if (r->h.type == NBD_CMD_BLOCK_STATUS && !x->backend.ops->extents) {
		r->query.out[0] = (struct nbd_extent){ r->query.len, true };
		nbd_exec_query_done(r, 1);
		return;
	}
	r->at_backend = true;
	r->epoch = x->epoch;
	x->inflight++;
	if (r->h.type == NBD_CMD_BLOCK_STATUS) {
		r->query.done = query_done;
		x->backend.ops->extents(x->backend.arg, &r->query);
	} else {
		r->io.done = io_done;
		x->backend.ops->submit(x->backend.arg, &r->io);
	}
}

void nbd_export_came_back(struct nbd_export *x)
{
	x->inflight--;
	if (x->inflight)
		return;
	fiber_cond_signal(x->server->env, &x->idle);
	if (x->closing)
		env_defer(x->server->env, &x->end);
}

bool nbd_export_retry(struct nbd_export *x, struct nbd_req *r, int status)
{
	if (!x->hold_on_fence || x->closing || (status != HCI_E_FENCED && status != HCI_E_CLOSED))
		return false;
	if (r->epoch == x->epoch)
		hold(x, status);
	nbd_exec_restart(r);
	return true;
}

void nbd_export_hold(struct nbd_export *x)
{
	hold(x, 0);
}

void nbd_export_drain(struct nbd_export *x)
{
	while (x->inflight)
		fiber_cond_wait(x->server->env, &x->idle);
}

/* A backend may fail at once and so begin the next hold, and writes may be held still: walks only what is parked now. */
static void restart_parked(struct nbd_export *x)
{
	struct list again, *n;

	list_init(&again);
	list_splice(&again, &x->parked);
	while ((n = list_pop(&again))) {
		struct nbd_req *r = list_entry(n, struct nbd_req, out);

		r->parked = false;
		x->stats.parked--;
		nbd_exec_restart(r);
	}
}

void nbd_export_hold_writes(struct nbd_export *x)
{
	if (x->held & NBD_HELD_WRITES)
		return;
	set_held(x, x->held | NBD_HELD_WRITES);
	x->writes_told = false;
}

void nbd_export_allow_writes(struct nbd_export *x)
{
	if (!(x->held & NBD_HELD_WRITES))
		return;
	set_held(x, x->held & ~NBD_HELD_WRITES);
	if (!x->held)
		restart_parked(x);
}

int nbd_export_resume(struct nbd_export *x, const struct nbd_backend *b, struct hci_error *err)
{
	if (x->closing)
		return err_set(err, HCI_E_STATE, "export %s: it is being closed", x->name);
	if (!b && !x->has_backend)
		return err_set(err, HCI_E_STATE,
			       "export %s: nothing to resume with: give it a backend", x->name);
	if (b && (b->size < x->size || b->size % HCI_BLOCK))
		return err_set(err, HCI_E_INVAL,
			       "export %s: a backend of %llu bytes where clients were told %llu: "
			       "resume with the whole volume",
			       x->name, (unsigned long long)b->size, (unsigned long long)x->size);
	if (b && x->inflight && memcmp(b, &x->backend, sizeof(*b)))
		return err_set(err, HCI_E_BUSY,
			       "export %s: %u requests are still at the old backend: drain first",
			       x->name, x->inflight);
	if (b)
		x->backend = *b;
	x->has_backend = true;
	set_held(x, x->held & ~NBD_HELD_ALL);
	x->held_told = false;
	x->held_status = 0;
	x->epoch++;
	restart_parked(x);
	return 0;
}

void nbd_export_fail_held(struct nbd_export *x, int status)
{
	struct nbd_req *r;
	const char *why = NULL;
	int e = nbd_error_of(status, &why);

	/* Failing one may set another free that waited for its range; it is parked and failed in
	 * turn. */
	while ((r = unpark_first(x)))
		nbd_tx_error(r, e ? e : NBD_EIO, why);
	x->held_told = x->writes_told = false;
}
