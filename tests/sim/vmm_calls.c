/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated hypervisor as the node service calls it: compute/hypervisor.h. Made in fibers of the service, each call takes a
 * moment, and fails while libvirtd is down. What compute_migrate() does around libvirt's own call is done here likewise.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <hci/vm.h>

#include "base/err.h"
#include "base/mem.h"
#include "sim/vmm.h"

#define LOOK (2 * NS_PER_MS)
#define WATCH (50 * NS_PER_MS)
#define START_TIME (10 * NS_PER_S)
#define LOOK_AGAIN (30 * NS_PER_S)

static struct host *host_of(struct compute *c)
{
	return (struct host *)c;
}

static struct env *env_of(struct host *h)
{
	return sim_node_env(h->service);
}

/* Its way there, and back when there is nobody. */
static int reach(struct host *h, struct hci_error *err)
{
	struct vmm *v = h->v;

	if (v->on_call)
		v->on_call(v->arg);
	fiber_sleep(env_of(h), 100000 + sim_rand_below(v->sim, 2 * NS_PER_MS));
	return sim_node_up(h->libvirtd) ? 0 : err_set(err, HCI_E_LIBVIRT, "libvirt at %s cannot be reached", h->name);
}

static struct qemu *domain(struct host *h)
{
	return h->q && !h->q->quitting ? h->q : NULL;
}

static int not_here(const char *name, struct hci_error *err)
{
	return err_set(err, HCI_E_NOTFOUND, "VM %s: it does not run here", name);
}

static int call_start(struct compute *c, const struct compute_vm *vm, struct hci_error *err)
{
	struct host *h = host_of(c);
	struct qemu_start s = { .h = h, .uuid = vm->uuid };
	uint64_t until, life;
	int rc = reach(h, err);

	if (rc)
		return rc;
	if (h->q || h->half)
		return err_set(err, HCI_E_EXISTS, "VM %s: it runs already", vm->name);
	snprintf(s.socket, sizeof(s.socket), "%.100s", vm->disks[0].socket);
	snprintf(s.export, sizeof(s.export), "%s", vm->disks[0].export_name);
	qemu_boot(&s);
	life = h->lives;
	until = env_now(env_of(h)) + START_TIME;
	while (domain(h) && h->q->life == life && !h->q->ready && env_now(env_of(h)) < until)
		fiber_sleep(env_of(h), LOOK);
	return domain(h) && h->q->life == life && h->q->ready ? 0 : err_set(err, HCI_E_LIBVIRT, "VM %s: QEMU has ended", vm->name);
}

static int call_stop(struct compute *c, const char *name, uint32_t how, uint64_t timeout_ns, struct hci_error *err)
{
	struct host *h = host_of(c);
	uint64_t until, life;
	int rc = reach(h, err);

	(void)how;
	if (!rc)
		h->half = false;
	if (rc || !h->q)
		return rc;
	life = h->q->life;
	until = env_now(env_of(h)) + timeout_ns;
	vmm_post(h->v, h->qemu_node, qemu_quit, h);
	while (h->q && h->q->life == life) {
		if (!sim_node_up(h->libvirtd) || env_now(env_of(h)) > until)
			return err_set(err, HCI_E_LIBVIRT, "VM %s: whether it has ended is not known", name);
		fiber_sleep(env_of(h), LOOK);
	}
	return 0;
}

static void state_of(struct host *h, struct compute_state *st)
{
	struct qemu *q = h->q;

	memset(st, 0, sizeof(*st));
	snprintf(st->name, sizeof(st->name), "vm1");
	if (!q) {
		st->uuid = h->half_uuid;
		st->state = HCI_VM_PAUSED;
		st->migrating = st->starting = true;
		return;
	}
	st->uuid = q->uuid;
	st->state = q->run ? HCI_VM_RUNNING : HCI_VM_PAUSED;
	st->migrating = q->arriving || (q->out.stopped && h->phase != MIG_NONE);
	st->starting = !q->ready;
	st->io_error = q->io_error;
}

static int call_list(struct compute *c, struct compute_state **out, size_t *n, struct hci_error *err)
{
	struct host *h = host_of(c);
	int rc = reach(h, err);

	if (rc || (!h->q && !h->half))
		return rc;
	*out = MEM_NEW(struct compute_state);
	if (!*out)
		return err_set(err, HCI_E_NOMEM, "out of memory");
	*n = 1;
	state_of(h, *out);
	return 0;
}

static int call_find(struct compute *c, const char *name, struct compute_state *out, struct hci_error *err)
{
	struct host *h = host_of(c);
	int rc = reach(h, err);

	if (rc)
		return rc;
	if (!h->q && !h->half)
		return not_here(name, err);
	state_of(h, out);
	return 0;
}

static int call_suspend(struct compute *c, const char *name, struct hci_error *err)
{
	struct host *h = host_of(c);
	int rc = reach(h, err);

	if (rc)
		return rc;
	if (!domain(h))
		return not_here(name, err);
	h->q->run = false;
	while (domain(h) && h->q->busy)
		fiber_sleep(env_of(h), LOOK);
	return 0;
}

static int call_resume(struct compute *c, const char *name, struct hci_error *err)
{
	struct host *h = host_of(c);
	int rc = reach(h, err);

	if (rc)
		return rc;
	if (!domain(h))
		return not_here(name, err);
	if (h->q->arriving || h->phase != MIG_NONE)
		return err_set(err, HCI_E_LIBVIRT, "VM %s: it is being migrated", name);
	h->q->io_error = h->q->out.stopped = false;
	h->q->run = true;
	fiber_cond_signal(h->q->e, &h->q->cond);
	return 0;
}

struct nudge {
	struct host *h;
	uint64_t life;
	bool done;
};

static void nudge_fiber(void *arg)
{
	struct nudge *x = arg;
	uint8_t *buf = mem_alloc(HCI_BLOCK);

	if (buf)
		(void)vdisk_io(&x->h->q->disk, VDISK_READ, buf, 0, HCI_BLOCK);
	mem_free(buf);
	x->done = true;
}

static void nudge_begin(struct env *e, void *arg)
{
	struct nudge *x = arg;

	if (!x->h->q || x->h->q->life != x->life || fiber_spawn(e, nudge_fiber, x, "nudge"))
		x->done = true;
}

static int call_nudge(struct compute *c, const char *name, unsigned disk, struct hci_error *err)
{
	struct host *h = host_of(c);
	struct nudge *x;
	int rc = reach(h, err);

	(void)disk;
	if (rc)
		return rc;
	if (!domain(h))
		return not_here(name, err);
	if (h->q->arriving || h->phase != MIG_NONE || !h->q->ready)
		return err_set(err, HCI_E_BUSY, "VM %s: libvirt is at work with it", name);
	x = vmm_keep(h->v, sizeof(*x));
	x->h = h;
	x->life = h->q->life;
	vmm_post(h->v, h->qemu_node, nudge_begin, x);
	while (!x->done && h->q && h->q->life == x->life)
		fiber_sleep(env_of(h), LOOK);
	return 0;
}

/* ---- migration ---- */

static void settle(struct compute *c, struct compute_migrate *m)
{
	struct host *h = host_of(c);
	uint64_t until = env_now(env_of(h)) + LOOK_AGAIN;
	struct compute_state s;
	struct hci_error err;
	int rc;

	while ((rc = call_find(c, m->name, &s, &err)) && rc != HCI_E_NOTFOUND && env_now(env_of(h)) < until)
		fiber_sleep(env_of(h), 4 * WATCH);
	m->gone = rc == HCI_E_NOTFOUND;
	if (!rc && s.state == HCI_VM_PAUSED && !s.io_error)
		(void)call_resume(c, m->name, &err);
}

static void look(struct host *h, const struct mig *g, struct compute_progress *p)
{
	memset(p, 0, sizeof(*p));
	if (!h->q || h->q->life != g->life)
		return;
	p->done = h->q->out.sent;
	p->total = 64 * KiB;
	p->pass = h->q->out.pass + 1;
}

/* Why it was stopped: 0 (it was not). */
static int watch(struct host *h, struct compute_migrate *m, struct mig *g)
{
	struct env *e = env_of(h);
	uint64_t until = m->timeout_ns ? env_now(e) + m->timeout_ns : UINT64_MAX;
	int stop = 0;

	while (!g->done) {
		struct compute_progress p;

		fiber_sleep(e, WATCH);
		if (g->libvirt_life != h->libvirt_lives || !sim_node_up(h->libvirtd)) {
			if (!g->done) { /* the call has failed: its connection has */
				g->rc = -1;
				snprintf(g->why, sizeof(g->why), "connection to libvirt was lost");
			}
			break;
		}
		look(h, g, &p);
		if (m->progress && m->progress(m->arg, &p) && !stop)
			stop = HCI_E_CANCELLED;
		if (env_now(e) > until && !stop)
			stop = HCI_E_TIMEOUT;
		g->abort |= stop != 0;
	}
	return stop;
}

static int call_migrate(struct compute *c, struct compute_migrate *m, struct hci_error *err)
{
	struct host *h = host_of(c);
	const char *peer = strstr(m->peer_uri, "?socket="), *socket;
	uint64_t start = env_now(env_of(h));
	struct mig *g;
	int stop, rc = reach(h, err);

	m->gone = m->split = false;
	if (rc)
		return rc;
	if (!domain(h))
		return not_here(m->name, err);
	if (!h->q->run)
		return err_set(err, HCI_E_STATE, "VM %s: only a running VM can be migrated live", m->name);
	socket = strchr(h->q->disk.addr, ':') + 1;
	for (uint32_t i = 0; i < m->npaths; i++)
		if (!strcmp(m->paths[i].here, socket))
			socket = m->paths[i].there;
	g = libvirt_migrate(h, peer + 8, m->migrate_uri + 7, socket);
	stop = watch(h, m, g);
	m->total_ms = (env_now(env_of(h)) - start) / NS_PER_MS;
	if (!g->rc)
		return 0;
	settle(c, m);
	return stop ? err_set(err, stop, "VM %s: its migration was stopped", m->name) :
		      err_set(err, HCI_E_LIBVIRT, "VM %s cannot be migrated: %s", m->name, g->why);
}

static int call_migrated(struct compute *c, const char *name, struct compute_migrated *out, struct hci_error *err)
{
	struct host *h = host_of(c);
	int rc = reach(h, err);

	memset(out, 0, sizeof(*out));
	return rc ? rc : domain(h) ? 0 : not_here(name, err);
}

static int call_needs(struct compute *c, const char *name, struct compute_needs *out, struct hci_error *err)
{
	struct host *h = host_of(c);
	int rc = reach(h, err);

	memset(out, 0, sizeof(*out));
	return rc ? rc : domain(h) ? 0 : not_here(name, err);
}

static void call_may_leave(struct compute *c, const char *name, bool state, struct problems *out)
{
	struct host *h = host_of(c);
	struct hci_error err;

	if (reach(h, &err))
		problems_add(out, err.code, "libvirt", "see it", "%s", err.message);
	else if (!domain(h))
		problems_add(out, HCI_E_STATE, "VM", "start it", "VM %s does not run", name);
	else if (state && !h->q->run)
		problems_add(out, HCI_E_STATE, "VM", "resume it", "VM %s is paused", name);
}

static void call_preflight(struct compute *c, const struct compute_needs *n, struct problems *out)
{
	struct hci_error err;

	(void)n;
	if (reach(host_of(c), &err))
		problems_add(out, err.code, "libvirt", "see it", "%s", err.message);
}

static uint32_t bridges(struct compute *c, struct bridge *out, uint32_t cap)
{
	(void)c;
	(void)out;
	(void)cap;
	return 0;
}

/* ---- places ---- */

static int machine(struct compute *c, char id[BOOT_ID], struct hci_error *err)
{
	(void)err;
	snprintf(id, BOOT_ID, "%" PRIu64, host_of(c)->boots);
	return 0;
}

static int local(struct compute *c, struct compute_local *out, struct hci_error *err)
{
	(void)c;
	(void)err;
	snprintf(out->socket, sizeof(out->socket), VMM_LIBVIRT);
	snprintf(out->path, sizeof(out->path), "/system");
	return 0;
}

static int meet_make(struct compute *c, const char *dir, char path[COMPUTE_SOCKET_MAX], struct hci_error *err)
{
	(void)c;
	(void)err;
	snprintf(path, COMPUTE_SOCKET_MAX, "%.100s/m", dir);
	return 0;
}

static void aside(const char *path, char at[COMPUTE_SOCKET_MAX])
{
	snprintf(at, COMPUTE_SOCKET_MAX, "%.*s/i", (int)(strrchr(path, '/') - path), path);
}

static bool meet_take(struct compute *c, const char *path, char at[COMPUTE_SOCKET_MAX])
{
	struct sim_node *n = host_of(c)->service;

	aside(path, at);
	if (sim_unix_is_socket(n, path))
		sim_unix_rename(n, path, at);
	return sim_unix_is_socket(n, at);
}

static void meet_remove(struct compute *c, const char *path)
{
	struct sim_node *n = host_of(c)->service;
	char at[COMPUTE_SOCKET_MAX];

	aside(path, at);
	sim_unix_unlink(n, path);
	sim_unix_unlink(n, at);
}

static void meet_clean(struct compute *c, const char *dir)
{
	char path[COMPUTE_SOCKET_MAX];

	snprintf(path, sizeof(path), "%.100s/m", dir);
	meet_remove(c, path);
}

static int meet_prepare(struct compute *c, const char *path, unsigned *made, struct hci_error *err)
{
	(void)c;
	(void)path;
	(void)err;
	*made = 0;
	return 0;
}

static void meet_link(struct compute *c, const char *path, const char *to)
{
	sim_unix_link(host_of(c)->service, path, to);
}

static void meet_unlink(struct compute *c, const char *path, unsigned made)
{
	(void)made;
	if (sim_unix_is_link(host_of(c)->service, path))
		sim_unix_unlink(host_of(c)->service, path);
}

static void socket_clean(struct compute *c, const char *path)
{
	struct sim_node *n = host_of(c)->service;

	if (sim_unix_is_socket(n, path) && !sim_unix_answers(n, path))
		sim_unix_unlink(n, path);
}

static void socket_remove(struct compute *c, const char *path)
{
	sim_unix_unlink(host_of(c)->service, path);
}

/* libvirt says to whom. */
static int socket_give(struct compute *c, const char *path, struct hci_error *err)
{
	struct host *h = host_of(c);

	(void)path;
	return sim_node_up(h->libvirtd) ? 0 : err_set(err, HCI_E_LIBVIRT, "libvirt at %s cannot be reached", h->name);
}

static int socket_private(struct compute *c, const char *path, struct hci_error *err)
{
	(void)c;
	(void)path;
	(void)err;
	return 0;
}

/* One thread, the loop's; and nothing that would wait for the loop. */
static void codec(struct compute *c, struct mst_opts *o)
{
	(void)c;
	o->cache = MiB;
	o->window = MiB;
	o->n_providers = 0;
	o->providers = NULL;
}

const struct hypervisor vmm_hypervisor = {
	.parks = true,
	.start = call_start,
	.stop = call_stop,
	.list = call_list,
	.find = call_find,
	.suspend = call_suspend,
	.resume = call_resume,
	.nudge = call_nudge,
	.migrate = call_migrate,
	.migrated = call_migrated,
	.needs = call_needs,
	.may_leave = call_may_leave,
	.preflight = call_preflight,
	.bridges = bridges,
	.machine = machine,
	.local = local,
	.meet_make = meet_make,
	.meet_take = meet_take,
	.meet_remove = meet_remove,
	.meet_clean = meet_clean,
	.meet_prepare = meet_prepare,
	.meet_link = meet_link,
	.meet_unlink = meet_unlink,
	.socket_clean = socket_clean,
	.socket_remove = socket_remove,
	.socket_give = socket_give,
	.socket_private = socket_private,
	.codec = codec,
};
