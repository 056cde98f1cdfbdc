/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU: a program for each domain. It opens its disk and only then is ready; the memory of one that leaves goes in passes while the
 * guest runs, then the CPUs stop, what is under way at the disk ends and is flushed, and what the guest knows goes last. One that
 * waits for its memory and does not get all of it ends.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sim/try.h"
#include "sim/vmm.h"

#define PASSES 3u
#define CHUNK 2048u
#define CHUNKS 12u /* of the first pass; half as many in each that follows */
#define QUIT_TIME (10 * NS_PER_S)

enum { S_PAGES = 0x70616765, S_END = 0x656e6420 };
struct head {
	uint32_t kind, len;
};

/* ---- life ---- */

static struct sim *sim_of(const struct qemu *q)
{
	return q->h->v->sim;
}

static void end_now(void *arg)
{
	struct host *h = arg;
	struct qemu *q = h->q;

	if (!q || !q->quitting)
		return;
	sim_node_crash(h->qemu_node);
	h->q = NULL;
	free(q);
}

/* From its own code, too. */
static void end(struct qemu *q)
{
	if (q->quitting)
		return;
	q->quitting = true;
	q->run = false;
	sim_at(sim_of(q), sim_now(sim_of(q)), end_now, q->h);
}

void vmm_kill_qemu(struct host *h)
{
	if (h->q)
		end(h->q);
}

static void quit_fiber(void *arg)
{
	struct qemu *q = arg;

	/* Its disk's driver flushes at the end; what waits for ever is killed by libvirt. */
	(void)vdisk_io(&q->disk, VDISK_FLUSH, NULL, 0, 0);
	end(q);
}

static void late_fiber(void *arg)
{
	struct qemu *q = arg;

	fiber_sleep(q->e, QUIT_TIME);
	end(q);
}

void qemu_quit(struct env *e, void *host)
{
	struct host *h = host;

	if (!h->q || h->q->quitting)
		return;
	h->q->run = false;
	TRY(fiber_spawn(e, quit_fiber, h->q, "quit"));
	TRY(fiber_spawn(e, late_fiber, h->q, "quit-late"));
}

/* ---- memory arrives ---- */

struct arrival {
	struct qemu *q;
	struct wire *w;
};

static bool read_stream(struct arrival *a)
{
	uint8_t page[CHUNK];
	struct head h;

	for (;;) {
		if (!wire_get(a->w, &h, sizeof(h)))
			return false;
		if (h.kind == S_END)
			return h.len == sizeof(a->q->g) && wire_get(a->w, &a->q->g, sizeof(a->q->g));
		if (h.kind != S_PAGES || h.len > sizeof(page) || !wire_get(a->w, page, h.len))
			return false;
		for (uint32_t i = 0; i < h.len; i++)
			if (page[i] != (uint8_t)(h.len + i))
				vmm_fail(a->q->h->v, "a page of memory arrived at %s as another one", a->q->h->name);
	}
}

static void arrive_fiber(void *arg)
{
	struct arrival *a = arg;
	struct qemu *q = a->q;

	q->loaded = read_stream(a);
	wire_close(a->w);
	mem_free(a);
	if (!q->loaded) /* "load of migration failed" */
		end(q);
	fiber_cond_signal(q->e, &q->cond);
}

static void on_accept(void *arg, struct env_conn *c)
{
	struct qemu *q = arg;
	struct arrival *a;

	if (!q->listener) {
		env_conn_close(c, true);
		return;
	}
	a = TRY_PTR(MEM_NEW(struct arrival));
	a->q = q;
	a->w = wire_of(q->e, c);
	env_listener_close(q->listener);
	q->listener = NULL;
	TRY(fiber_spawn(q->e, arrive_fiber, a, "arrive"));
}

/* ---- the start ---- */

static void main_fiber(void *arg)
{
	struct qemu *q = arg;
	char addr[SIM_UNIX_MAX + 8];
	struct hci_error err;

	fiber_sleep(q->e, 2 * NS_PER_MS + sim_rand_below(sim_of(q), 20 * NS_PER_MS));
	if (vdisk_connect(&q->disk)) {
		end(q);
		return;
	}
	if (*q->incoming) {
		snprintf(addr, sizeof(addr), "unix:%s", q->incoming);
		q->listener = env_listen(q->e, addr, NULL, on_accept, q, &err);
		if (!q->listener) {
			end(q);
			return;
		}
	}
	q->ready = true;
	q->run = !q->arriving;
	TRY(fiber_spawn(q->e, guest_fiber, q, "guest"));
}

static void begin(struct env *e, void *arg)
{
	struct qemu *q = arg;

	q->e = e;
	fiber_cond_init(&q->cond);
	q->disk.e = e;
	TRY(fiber_spawn(e, main_fiber, q, "qemu"));
}

static void boot(void *arg)
{
	struct host *h = arg;

	if (h->q && !h->q->e)
		sim_node_boot(h->qemu_node, begin, h->q);
}

void qemu_boot(const struct qemu_start *s)
{
	struct host *h = s->h;
	struct qemu *q = calloc(1, sizeof(*q));

	if (!q || h->q)
		abort();
	q->h = h;
	q->life = ++h->lives;
	q->uuid = s->uuid;
	vdisk_init(&q->disk, NULL, s->socket, s->export);
	snprintf(q->incoming, sizeof(q->incoming), "%s", s->incoming);
	q->arriving = *s->incoming != '\0';
	if (!q->arriving)
		guest_born(h->v, &q->g);
	h->q = q;
	sim_at(h->v->sim, sim_now(h->v->sim), boot, h);
}

/* ---- memory leaves ---- */

static bool given_up(const struct qemu *q)
{
	return q->out.abort || q->out.failed;
}

static bool send_passes(struct qemu *q, struct wire *w)
{
	uint8_t page[CHUNK];
	struct head h = { S_PAGES, CHUNK };

	for (uint32_t i = 0; i < CHUNK; i++)
		page[i] = (uint8_t)(CHUNK + i);
	for (q->out.pass = 0; q->out.pass < PASSES; q->out.pass++) {
		for (uint32_t i = 0; i < CHUNKS >> q->out.pass; i++) {
			if (given_up(q) || !wire_put(w, &h, sizeof(h)) || !wire_put(w, page, sizeof(page)))
				return false;
			q->out.sent += sizeof(page);
			fiber_sleep(q->e, 5 * NS_PER_MS);
		}
	}
	return !given_up(q);
}

static bool stop_and_send(struct qemu *q, struct wire *w)
{
	struct head h = { S_END, sizeof(q->g) };

	if (!q->run)
		return false;
	q->run = false;
	q->out.stopped = true;
	while (q->busy)
		fiber_cond_wait(q->e, &q->cond);
	if (vdisk_io(&q->disk, VDISK_FLUSH, NULL, 0, 0)) {
		q->io_error = true;
		return false;
	}
	return !given_up(q) && wire_put(w, &h, sizeof(h)) && wire_put(w, &q->g, sizeof(q->g)) && !wire_over(w);
}

static void leave_fiber(void *arg)
{
	struct qemu *q = arg;
	char addr[SIM_UNIX_MAX + 8];
	struct wire *w;
	bool ok;

	snprintf(addr, sizeof(addr), "unix:%s", q->out.path);
	w = wire_connect(q->e, addr);
	ok = w && send_passes(q, w) && stop_and_send(q, w);
	wire_close(w);
	q->out.active = false;
	q->out.done = ok;
	q->out.failed = !ok;
	/* It failed: as it was before. */
	if (!ok && q->out.stopped && !q->io_error)
		q->run = true;
	if (!ok)
		q->out.stopped = false;
	fiber_cond_signal(q->e, &q->cond);
}

void qemu_migrate(struct env *e, void *host)
{
	struct host *h = host;

	if (h->q && h->q->out.active)
		TRY(fiber_spawn(e, leave_fiber, h->q, "leave"));
}
