/* SPDX-License-Identifier: Apache-2.0 */
/* The scene of a migration: see move.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "sim/move_impl.h"
#include "sim/try.h"

#define SIZE (2 * MiB)
#define PATIENCE (400 * NS_PER_S) /* for the job */
#define SETTLE (120 * NS_PER_S)

void move_fail(void *arg, const char *why)
{
	struct move *m = arg;

	if (!*m->r->why)
		snprintf(m->r->why, sizeof(m->r->why), "%7.3f s: %s", (double)sim_now(m->sim) / 1e9, why);
}

/* ---- node services ---- */

static int place(void *arg, const struct hci_placement_snapshot *s, const struct hci_placement_request *r, uint32_t *out, uint32_t want)
{
	(void)arg;
	if (s->ndisks < want + r->nkeep)
		return HCI_E_NOPLACE;
	for (uint32_t i = 0; i < want; i++)
		out[i] = (uint32_t)((r->seed + i) % s->ndisks);
	return 0;
}

struct service {
	struct move *m;
	unsigned i;
	struct env *e;
};

static int start(struct service *x, struct store *st, struct hci_error *err)
{
	struct move *m = x->m;
	char addr[HCI_NAME_MAX + 16];
	struct core_opts co = { .env = x->e, .store = st, .self = m->v.host[x->i].name, .place = place };
	struct node_opts no = { .name = co.self,
				.listen = addr,
				.run_dir = "/run",
				.compute = (struct compute *)&m->v.host[x->i],
				.hypervisor = &vmm_hypervisor,
				.no_repair = true,
				.mutate = m->o.mutate };
	struct core *c;
	struct node *n;
	int rc = core_open(&co, &c, err);

	if (rc)
		return rc;
	snprintf(addr, sizeof(addr), "tcp:%s:7400", co.self);
	rc = node_start(c, &no, &n, err);
	if (rc) {
		core_close(c);
		return rc;
	}
	m->core[x->i] = c;
	m->node[x->i] = n;
	return 0;
}

static void service_fiber(void *arg)
{
	struct service *x = arg;
	struct hci_error err;
	struct store *st;

	TRY(simstore_open(x->m->store, x->e, &st));
	store_set_timeout(st, 2 * NS_PER_S);
	while (start(x, st, &err)) {
		log_info(env_log(x->e), "the service does not start: %s", err.message);
		fiber_sleep(x->e, 500 * NS_PER_MS);
	}
}

static void live(struct env *e, void *arg)
{
	struct service *x = arg;

	x->e = e;
	TRY(fiber_spawn(e, service_fiber, x, "service"));
}

void move_boot(struct move *m, unsigned i)
{
	struct service *x = vmm_keep(&m->v, sizeof(*x));

	if (m->node[i] || (m->counting && sim_node_up(m->v.host[i].service)))
		return;
	x->m = m;
	x->i = i;
	sim_node_boot(m->v.host[i].service, live, x);
}

/* ---- what there is in the beginning ---- */

static void some_uuid(struct move *m, struct uuid *u)
{
	uint8_t rnd[16];

	for (int k = 0; k < 16; k++)
		rnd[k] = (uint8_t)sim_rand(m->sim);
	uuid_from_random(u, rnd);
}

static void put_records(struct move *m)
{
	struct rec_cluster c = { .format = REC_VERSION, .name = "c" };
	struct rec_pool p = { .name = "pool", .policy = "any", .domain = "node" };
	struct rec_policy y = { .name = "any", .plugin = "/none" };
	char key[REC_KEY];

	some_uuid(m, &m->cluster);
	c.uuid = m->cluster;
	MOVE_PUT(m, cluster, KEY_CLUSTER, &c);
	key_pool(key, p.name);
	MOVE_PUT(m, pool, key, &p);
	key_policy(key, y.name);
	MOVE_PUT(m, policy, key, &y);
	for (unsigned i = 0; i < VMM_HOSTS; i++) {
		struct rec_disk d = { .path = "/d", .pool = "pool", .role = REC_DISK_DATA, .state = REC_DISK_NEW,
				      .log_size = 8 * MiB };

		some_uuid(m, &d.uuid);
		snprintf(d.node, sizeof(d.node), "%s", m->v.host[i].name);
		key_disk(key, &d.uuid);
		MOVE_PUT(m, disk, key, &d);
	}
}

static void create_fiber(void *arg)
{
	struct move *m = arg;
	struct vol_ctx *x = core_vol_ctx(m->core[0]);
	struct vol_create c = { .name = MOVE_VOLUME, .pool = "pool", .policy = "any", .size = SIZE, .segment_size = MiB,
				.replicas = 2, .place = core_place, .arg = m->core[0] };
	struct hci_error err;

	while (vol_create(x, &c, &m->volume, &err))
		fiber_sleep(core_env(m->core[0]), 100 * NS_PER_MS);
	m->created = true;
}

static void create_volume(struct env *e, void *arg)
{
	TRY(fiber_spawn(e, create_fiber, arg, "create"));
}

static void put_vm(struct move *m)
{
	struct rec_vm *r = calloc(1, sizeof(*r));
	char key[REC_KEY];

	if (!r)
		abort();
	some_uuid(m, &m->vm);
	r->uuid = m->vm;
	snprintf(r->name, sizeof(r->name), MOVE_VM);
	snprintf(r->node, sizeof(r->node), "%s", m->v.host[MOVE_FROM].name);
	r->wanted = REC_VM_RUNNING;
	r->vcpus = 1;
	r->memory_bytes = 64 * MiB;
	r->ndisks = 1;
	snprintf(r->disks[0].volume, sizeof(r->disks[0].volume), MOVE_VOLUME);
	r->nusb = 1;
	snprintf(r->usb[0].name, sizeof(r->usb[0].name), MOVE_USB);
	snprintf(r->usb[0].node, sizeof(r->usb[0].node), "%s", m->v.host[VMM_HOSTS - 1].name);
	snprintf(r->usb[0].server, sizeof(r->usb[0].server), "unix:/run/nobody");
	key_vm(key, MOVE_VM);
	MOVE_PUT(m, vm, key, r);
	free(r);
}

static void put_job(struct move *m)
{
	struct rec_job *r = calloc(1, sizeof(*r));
	char key[REC_KEY];

	if (!r)
		abort();
	snprintf(r->id, sizeof(r->id), MOVE_JOB);
	snprintf(r->type, sizeof(r->type), "vm-migrate");
	snprintf(r->target, sizeof(r->target), MOVE_VM);
	snprintf(r->node, sizeof(r->node), "%s", m->v.host[MOVE_FROM].name);
	snprintf(r->args[0].key, sizeof(r->args[0].key), "to");
	snprintf(r->args[0].value, sizeof(r->args[0].value), "%s", m->v.host[MOVE_TO].name);
	snprintf(r->args[1].key, sizeof(r->args[1].key), "timeout_ms");
	snprintf(r->args[1].value, sizeof(r->args[1].value), "%" PRIu64, m->o.timeout_ms);
	r->nargs = m->o.timeout_ms ? 2 : 1;
	r->created = r->updated = env_realtime(sim_node_env(m->v.host[0].service));
	key_job(key, MOVE_JOB);
	MOVE_PUT(m, job, key, r);
	free(r);
}

/* ---- steps ---- */

static void strike_later(void *arg)
{
	struct move *m = arg;

	for (unsigned k = 0; k < MOVE_AT_MAX; k++)
		if (m->o.at[k].step && m->o.at[k].step <= m->r->steps) {
			m->o.at[k].step = 0;
			move_strike(m, m->o.at[k].fault);
		}
}

static void on_step(void *arg)
{
	struct move *m = arg;

	if (!m->counting)
		return;
	m->r->steps++;
	for (unsigned k = 0; k < MOVE_AT_MAX; k++)
		if (m->o.at[k].step == m->r->steps)
			sim_at(m->sim, sim_now(m->sim), strike_later, m);
}

static void strike_gone(void *arg)
{
	move_strike(arg, MOVE_GONE_SRC);
}

static void on_ran_on(void *arg, struct host *h)
{
	struct move *m = arg;

	if (!m->counting || !m->o.ran_on || h->index != MOVE_FROM)
		return;
	m->o.ran_on = false;
	sim_at(m->sim, sim_now(m->sim), strike_gone, m);
}

/* ---- the run ---- */

static bool is_up(void *arg)
{
	struct move *m = arg;

	for (unsigned i = 0; i < VMM_HOSTS; i++)
		if (!m->node[i] || list_empty(&m->node[i]->disks) ||
		    !list_first(&m->node[i]->disks, struct node_disk, link)->disk)
			return false;
	return true;
}

static bool is_created(void *arg)
{
	struct move *m = arg;

	return m->created;
}

static bool runs_at_source(void *arg)
{
	struct move *m = arg;

	return move_where(m) == (int)MOVE_FROM && m->v.judge.acks > 5;
}

static bool is_over(void *arg)
{
	static struct rec_job r;
	struct move *m = arg;

	return *m->r->why ||
	       (!m->open && move_job_ended(m, MOVE_JOB, &r) && (!m->stop_asked || move_job_ended(m, MOVE_STOP_JOB, &r)));
}

static bool is_whole(void *arg)
{
	struct move *m = arg;
	char why[200];

	if (*m->r->why)
		return true;
	move_whole(m, why, sizeof(why));
	return !*why;
}

static bool is_verified(void *arg)
{
	struct move *m = arg;
	int at = move_where(m);

	return *m->r->why || (at >= 0 && m->v.host[at].q->verified == VMM_BLOCKS);
}

static bool until(struct move *m, bool (*pred)(void *arg), uint64_t ns, const char *what)
{
	char why[400], more[200] = "";

	if (sim_run_until(m->sim, pred, m, ns))
		return !*m->r->why;
	if (pred == is_whole)
		move_whole(m, more, sizeof(more));
	snprintf(why, sizeof(why), "%s%s%s", what, *more ? ": " : "", more);
	move_fail(m, why);
	return false;
}

static void set_up(struct move *m)
{
	put_records(m);
	for (unsigned i = 0; i < VMM_HOSTS; i++) {
		m->disk[i] = sim_disk_new(m->v.host[i].service, "/d", 16 * GiB);
		(void)sim_disk_new(m->v.host[i].service, "/run", MiB);
		move_boot(m, i);
	}
	if (!until(m, is_up, 60 * NS_PER_S, "the services do not start"))
		return;
	sim_node_call(m->v.host[0].service, create_volume, m);
	if (!until(m, is_created, 60 * NS_PER_S, "the volume is not made"))
		return;
	put_vm(m);
	(void)until(m, runs_at_source, 60 * NS_PER_S, "the guest does not start");
}

/* What the end means for the guest. */
static void judge(struct move *m)
{
	struct rec_job *r = calloc(1, sizeof(*r));
	int at = move_where(m);
	char why[400];

	if (!r || !move_job_ended(m, MOVE_JOB, r))
		abort();
	m->r->job = r->error;
	m->r->at = at;
	m->r->job_ms = (r->updated - r->created) / NS_PER_MS;
	*why = '\0';
	if (m->stop_asked) {
		/* Alone it succeeds. */
		if (m->only_stop && !move_was_stopped(m))
			move_fail(m, "the guest was not stopped");
		free(r);
		return;
	}
	/* The source waits for a minute until it gives up; what has left waits for its node then, and is no failure of ours. */
	if (!m->host_lost && r->error && at != (int)MOVE_FROM &&
	    (at != (int)MOVE_TO || m->longest < 60 * NS_PER_S || !strstr(r->message, "has left for node")))
		snprintf(why, sizeof(why), "the migration failed, and the guest is at n%d: %.300s", at, r->message);
	else if (!m->host_lost && !r->error && at != (int)MOVE_TO)
		snprintf(why, sizeof(why), "the migration went well, and the guest is at n%d", at);
	else if (!m->host_lost && m->v.host[at].q->g.born != m->born)
		snprintf(why, sizeof(why), "the guest was started anew: %.300s", r->message);
	else if (!m->o.at[0].fault && !m->o.timeout_ms && !m->o.at[0].step && m->r->steps == 0)
		snprintf(why, sizeof(why), "nothing happened");
	if (*why)
		move_fail(m, why);
	free(r);
}

static void ending(struct move *m)
{
	int at = move_where(m);

	if (at < 0) {
		put_vm(m);
		if (!until(m, runs_at_source, 60 * NS_PER_S, "the guest cannot be started again"))
			return;
		at = move_where(m);
	}
	m->v.host[at].q->verify = true;
	(void)until(m, is_verified, 60 * NS_PER_S, "the guest makes no progress");
}

static void play(struct move *m)
{
	set_up(m);
	if (*m->r->why)
		return;
	m->born = m->v.host[MOVE_FROM].q->g.born;
	put_job(m);
	m->counting = true;
	if (!until(m, is_over, PATIENCE, "the job does not end"))
		return;
	m->counting = false;
	if (!until(m, is_whole, SETTLE, "two minutes after the end"))
		return;
	judge(m);
	if (!*m->r->why)
		ending(m);
}

static void emit(void *arg, int level, const char *subsystem, const char *line)
{
	(void)arg;
	(void)level;
	fprintf(stderr, "%s: %s\n", subsystem, line);
}

void move_play(const struct move_opts *o, struct move_result *r)
{
	struct move *m = calloc(1, sizeof(*m));
	struct sim_opts so = SIM_OPTS_INIT;

	if (!m)
		abort();
	memset(r, 0, sizeof(*r));
	m->o = *o;
	m->only_stop = o->at[0].fault == MOVE_STOP && !o->at[1].step && !o->ran_on;
	m->r = r;
	so.seed = o->seed;
	if (o->verbose) {
		so.log.emit = emit;
		so.log.level = LOG_DEBUG;
	}
	m->sim = sim_new(&so);
	m->store = simstore_new(m->sim);
	vmm_init(&m->v, m->sim);
	m->v.on_fail = move_fail;
	m->v.on_call = on_step;
	m->v.on_ran_on = on_ran_on;
	m->v.arg = m;
	sim_on_step(m->sim, on_step, m);
	play(m);
	r->events = sim_events(m->sim);
	r->digest = sim_digest(m->sim);
	r->virtual_ns = sim_now(m->sim);
	simstore_free(m->store);
	sim_free(m->sim);
	vmm_free(&m->v);
	free(m);
}
