/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirtd: a migration peer to peer, in libvirt's phases (src/qemu/qemu_migration.c of libvirt has them): prepare at the
 * destination, perform at the source, finish at the destination, which lets the guest run, confirm at the source, which ends its own
 * or lets that run again. Without an answer to "finish" the source's runs again, though the destination's may. A connection that ends
 * before "finish" takes with it what was prepared. Started anew it gives up what was on its way.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sim/try.h"
#include "sim/vmm.h"

#define LOOK (2 * NS_PER_MS)
#define START_TIME (10 * NS_PER_S)
#define LOAD_TIME (30 * NS_PER_S)

enum { L_PREPARE = 1, L_FINISH, L_REPLY };
struct msg {
	uint32_t kind;
	int32_t rc; /* FINISH: 0: all was sent */
	struct uuid uuid;
	char path[SIM_UNIX_MAX], socket[SIM_UNIX_MAX], export[64];
};

/* ---- both ---- */

static struct qemu *same(struct host *h, uint64_t life)
{
	return h->q && h->q->life == life && !h->q->quitting ? h->q : NULL;
}

static bool reply(struct wire *w, int rc)
{
	struct msg m = { .kind = L_REPLY, .rc = rc };

	return wire_put(w, &m, sizeof(m));
}

/* ---- destination ---- */

struct caller {
	struct host *h;
	struct env *e;
	struct wire *w;
	uint64_t life; /* what it prepared */
};

static int prepare(struct caller *c, const struct msg *m)
{
	struct host *h = c->h;
	struct qemu_start s = { .h = h, .uuid = m->uuid };
	uint64_t until = env_now(c->e) + START_TIME;

	if (h->q || h->half)
		return -1;
	memcpy(s.socket, m->socket, sizeof(s.socket));
	memcpy(s.export, m->export, sizeof(s.export));
	memcpy(s.incoming, m->path, sizeof(s.incoming));
	qemu_boot(&s);
	c->life = h->lives;
	while (same(h, c->life) && !h->q->ready && env_now(c->e) < until)
		fiber_sleep(c->e, LOOK);
	return same(h, c->life) && h->q->ready ? 0 : -1;
}

static int finish(struct caller *c, const struct msg *m)
{
	uint64_t until = env_now(c->e) + LOAD_TIME;
	struct host *h = c->h;
	struct qemu *q;

	if (m->rc)
		return -1;
	while (same(h, c->life) && !h->q->loaded && env_now(c->e) < until)
		fiber_sleep(c->e, LOOK);
	q = same(h, c->life);
	if (!q || !q->loaded)
		return -1;
	q->arriving = false;
	q->run = true;
	fiber_cond_signal(q->e, &q->cond);
	return 0;
}

static void drop(struct caller *c)
{
	struct qemu *q = same(c->h, c->life);

	if (q && q->arriving)
		vmm_kill_qemu(c->h);
}

static void caller_fiber(void *arg)
{
	struct caller *c = arg;
	struct msg m;
	int rc;

	if (wire_get(c->w, &m, sizeof(m)) && m.kind == L_PREPARE) {
		rc = prepare(c, &m);
		if (rc)
			drop(c);
		if (reply(c->w, rc) && !rc && wire_get(c->w, &m, sizeof(m)) && m.kind == L_FINISH) {
			rc = finish(c, &m);
			if (rc)
				drop(c);
			(void)reply(c->w, rc);
		}
	}
	drop(c);
	wire_close(c->w);
	mem_free(c);
}

static void on_caller(void *arg, struct env_conn *conn)
{
	struct host *h = arg;
	struct caller *c = TRY_PTR(MEM_NEW(struct caller));

	c->h = h;
	c->e = sim_node_env(h->libvirtd);
	c->w = wire_of(c->e, conn);
	TRY(fiber_spawn(c->e, caller_fiber, c, "caller"));
}

/* ---- source ---- */

static int failed(struct mig *g, const char *why)
{
	snprintf(g->why, sizeof(g->why), "%s", why);
	return -1;
}

/* Calls the CPUs of what is here, unless their disk stopped them. */
static void run_again(struct host *h)
{
	struct qemu *q = h->q;

	if (!q || q->quitting || q->arriving || q->io_error || !q->out.stopped)
		return;
	q->out.stopped = false;
	q->run = true;
	fiber_cond_signal(q->e, &q->cond);
}

static int perform(struct mig *g, struct env *e, struct wire *w)
{
	struct host *h = g->h;
	struct qemu *q = same(h, g->life);

	if (!q)
		return failed(g, "domain is not running");
	memset(&q->out, 0, sizeof(q->out));
	q->out.active = true;
	snprintf(q->out.path, sizeof(q->out.path), "%s", g->path);
	vmm_post(h->v, h->qemu_node, qemu_migrate, h);
	while ((q = same(h, g->life)) && q->out.active) {
		q->out.abort |= g->abort || wire_over(w);
		fiber_sleep(e, LOOK);
	}
	if (!q)
		return failed(g, "domain is gone");
	return q->out.done ? 0 : failed(g, g->abort ? "aborted" : "QEMU: migration failed");
}

static void migrate(struct mig *g, struct env *e, struct wire *w)
{
	struct host *h = g->h;
	struct qemu *q = same(h, g->life);
	struct msg m = { .kind = L_PREPARE };

	if (!q) {
		g->rc = failed(g, "domain is not running");
		return;
	}
	m.uuid = q->uuid;
	snprintf(m.path, sizeof(m.path), "%s", g->path);
	snprintf(m.socket, sizeof(m.socket), "%s", g->socket);
	snprintf(m.export, sizeof(m.export), "%s", q->disk.export);
	if (!wire_put(w, &m, sizeof(m)) || !wire_get(w, &m, sizeof(m))) {
		g->rc = failed(g, "connection to the other libvirt was lost");
		return;
	}
	if (m.rc) {
		g->rc = failed(g, "the other libvirt cannot prepare it");
		return;
	}
	h->phase = MIG_PERFORM;
	g->rc = perform(g, e, w);
	h->phase = MIG_FINISH;
	m = (struct msg){ .kind = L_FINISH, .rc = g->rc };
	if (!wire_put(w, &m, sizeof(m)) || !wire_get(w, &m, sizeof(m)))
		g->rc = failed(g, "connection to the other libvirt was lost");
	else if (m.rc && !g->rc)
		g->rc = failed(g, "the other libvirt cannot finish it");
	h->phase = MIG_CONFIRM;
	if (g->rc) {
		run_again(h);
		return;
	}
	vmm_post(h->v, h->qemu_node, qemu_quit, h);
	while (h->q && h->q->life == g->life)
		fiber_sleep(e, LOOK);
}

static void migrate_fiber(void *arg)
{
	struct mig *g = arg;
	struct env *e = sim_node_env(g->h->libvirtd);
	char addr[SIM_UNIX_MAX + 8];
	struct wire *w;

	snprintf(addr, sizeof(addr), "unix:%s", g->peer);
	w = wire_connect(e, addr);
	if (w)
		migrate(g, e, w);
	else
		g->rc = failed(g, "the other libvirt is not reached");
	wire_close(w);
	g->h->phase = MIG_NONE;
	g->done = true;
}

static void begin_migration(struct env *e, void *arg)
{
	TRY(fiber_spawn(e, migrate_fiber, arg, "migrate"));
}

struct mig *libvirt_migrate(struct host *h, const char *peer, const char *path, const char *socket)
{
	struct mig *g = vmm_keep(h->v, sizeof(*g));

	g->h = h;
	g->life = h->q ? h->q->life : 0;
	g->libvirt_life = h->libvirt_lives;
	snprintf(g->peer, sizeof(g->peer), "%s", peer);
	snprintf(g->path, sizeof(g->path), "%s", path);
	snprintf(g->socket, sizeof(g->socket), "%s", socket);
	vmm_post(h->v, h->libvirtd, begin_migration, g);
	return g;
}

/* ---- life ---- */

/* What the last life left: qemuProcessRecoverMigration() of libvirt's src/qemu/qemu_process.c. */
static void recover(struct host *h)
{
	struct qemu *q = h->q;
	int phase = h->phase;

	h->phase = MIG_NONE;
	if (!q || q->quitting)
		return;
	if (q->arriving) {
		vmm_kill_qemu(h);
		return;
	}
	q->out.abort |= q->out.active;
	/* Sent, and the destination may have been told: libvirt leaves it as it is. */
	if (phase == MIG_PERFORM || phase == MIG_CONFIRM || (phase == MIG_FINISH && sim_rand_below(h->v->sim, 2)))
		run_again(h);
}

static void libvirtd_fiber(void *arg)
{
	struct host *h = arg;
	struct hci_error err;

	recover(h);
	h->listener = TRY_PTR(env_listen(sim_node_env(h->libvirtd), "unix:" VMM_LIBVIRT, NULL, on_caller, h, &err));
}

static void live(struct env *e, void *arg)
{
	TRY(fiber_spawn(e, libvirtd_fiber, arg, "libvirtd"));
}

void vmm_boot_libvirtd(struct host *h)
{
	if (h->libvirt_lives && sim_node_up(h->libvirtd))
		return;
	h->libvirt_lives++;
	sim_node_boot(h->libvirtd, live, h);
}

/*
 * QEMU's process begins when libvirtd has prepared all: if that ends before, so does the process, and the domain was saved without one. The
 * next life knows it and does nothing about it (qemuProcessReconnectHelper() of libvirt's src/qemu/qemu_process.c).
 */
void vmm_kill_libvirtd(struct host *h)
{
	if (sim_node_up(h->libvirtd) && h->q && !h->q->ready && !h->q->quitting && sim_rand_below(h->v->sim, 2)) {
		h->half = true;
		h->half_uuid = h->q->uuid;
		vmm_kill_qemu(h);
	}
	sim_node_crash(h->libvirtd);
}
