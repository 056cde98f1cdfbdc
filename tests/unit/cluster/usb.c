/* SPDX-License-Identifier: Apache-2.0 */
/*
 * USB devices of VMs (lib/cluster/node_vm_usb.c): one that node "d" has, of a VM that node "a", "b" or "d" itself runs. Each has the real
 * sockets, rpc and records; what connects to the sockets is a stand-in for QEMU, which tries again each second, and what serves the device
 * one for usbredirserver: whoever is connected first has it, until he goes.
 */
#include "cluster/node_vm_impl.h"
#include "env/sim.h"
#include "sim/try.h"
#include "store/store_sim.h"
#include "unit/harness.h"

#define VM "v1"
#define USB "key"
#define SERVER "tcp:d:4000"
#define LINES 256u

enum { A, B, D, NODES };
static const char *const names[NODES] = { "a", "b", "d" };

struct world;

struct side {
	struct world *w;
	unsigned i;
	struct sim_node *sn;
	struct node n;
	struct node_vm_state s;
	struct nvm m;
	struct store *store;
	bool up, opened, closed;
	int rc; /* of opening */
	/* QEMU's end of the device's socket */
	struct env_conn *qemu;
	bool no_qemu, has; /* has: the device's server has answered it */
	unsigned tries;
};

/* Of the server. */
struct caller {
	struct list link;
	struct world *w;
	struct env_conn *c;
};

struct world {
	struct sim *sim;
	struct simstore *ss;
	struct side side[NODES];
	struct env_listener *server;
	struct list callers; /* the first has the device */
	unsigned served;     /* so many have had it so far */
	int give;            /* result of socket_give() */
};

/* ---- records ---- */

#define PUT(w, kind, key, rec)                                                                  \
	do {                                                                                    \
		struct buf b_ = BUF_INIT;                                                       \
		ck_assert_int_eq(rec_##kind##_encode(rec, &b_), 0);                             \
		simstore_put((w)->ss, key, b_.data, (uint32_t)b_.len);                          \
		buf_free(&b_);                                                                  \
	} while (0)

/* other: its device has another server, and the two are the other way round. */
static void put_vm(struct world *w, bool other)
{
	struct rec_vm *vm = MEM_NEW(struct rec_vm);
	char key[REC_KEY];

	*vm = (struct rec_vm){ .name = VM, .node = "a", .vcpus = 1, .memory_bytes = 64 * MiB, .wanted = REC_VM_RUNNING, .nusb = 2 };
	vm->uuid.b[0] = 1;
	vm->usb[other] = (struct rec_vm_usb){ USB, "d", SERVER };
	vm->usb[!other] = (struct rec_vm_usb){ "other", "b", "tcp:b:4000" };
	if (other)
		snprintf(vm->usb[1].server, sizeof(vm->usb[1].server), "tcp:d:4001");
	key_vm(key, VM);
	PUT(w, vm, key, vm);
	mem_free(vm);
}

static void runs_on(struct world *w, const char *node)
{
	struct rec_vmrun r = { .since = 1 };
	char key[REC_KEY];

	snprintf(r.node, sizeof(r.node), "%s", node);
	key_vmrun(key, VM);
	PUT(w, vmrun, key, &r);
}

static void put_records(struct world *w)
{
	struct rec_cluster c = { .format = REC_VERSION, .name = "c" };
	char key[REC_KEY];

	PUT(w, cluster, KEY_CLUSTER, &c);
	for (unsigned i = 0; i < NODES; i++) {
		struct rec_node n = { .wanted = REC_NODE_UP };

		snprintf(n.name, sizeof(n.name), "%s", names[i]);
		snprintf(n.addr, sizeof(n.addr), "tcp:%s:7400", names[i]);
		n.uuid.b[0] = (uint8_t)(i + 1);
		key_node(key, n.name);
		PUT(w, node, key, &n);
	}
	put_vm(w, false);
}

/* ---- the device's server ---- */

static void serve(struct world *w)
{
	struct iovec v = { (void *)(uintptr_t)"hello", 5 };
	struct caller *x;

	if (list_empty(&w->callers))
		return;
	x = list_first(&w->callers, struct caller, link);
	w->served += env_conn_send(x->c, &v, 1) == 5;
}

static void caller_goes(struct caller *x)
{
	struct world *w = x->w;
	bool had = list_first(&w->callers, struct caller, link) == x;

	list_del(&x->link);
	env_conn_close(x->c, true);
	mem_free(x);
	if (had)
		serve(w);
}

static void caller_readable(void *arg)
{
	struct caller *x = arg;
	uint8_t buf[64];
	int64_t n;

	do
		n = env_conn_recv(x->c, buf, sizeof(buf));
	while (n > 0);
	if (n != HCI_E_AGAIN)
		caller_goes(x);
}

static void caller_closed(void *arg, const struct hci_error *err)
{
	(void)err;
	caller_goes(arg);
}

static void nothing(void *arg)
{
	(void)arg;
}

static const struct env_conn_ops caller_ops = { nothing, caller_readable, nothing, caller_closed };

static void on_caller(void *arg, struct env_conn *c)
{
	struct caller *x = TRY_PTR(MEM_NEW(struct caller));
	struct world *w = arg;

	x->w = w;
	x->c = c;
	env_conn_set_ops(c, &caller_ops, x);
	list_push(&w->callers, &x->link);
	if (list_first(&w->callers, struct caller, link) == x)
		serve(w);
}

/* ---- QEMU ---- */

static void qemu_over(struct side *x)
{
	env_conn_close(x->qemu, true);
	x->qemu = NULL;
	x->has = false;
}

static void qemu_readable(void *arg)
{
	struct side *x = arg;
	uint8_t buf[64];
	int64_t n;

	while ((n = env_conn_recv(x->qemu, buf, sizeof(buf))) > 0)
		x->has = true;
	if (n != HCI_E_AGAIN)
		qemu_over(x);
}

static void qemu_closed(void *arg, const struct hci_error *err)
{
	(void)err;
	qemu_over(arg);
}

static void qemu_fiber(void *arg)
{
	static const struct env_conn_ops ops = { nothing, qemu_readable, nothing, qemu_closed };
	struct side *x = arg;
	struct hci_error err;

	for (;; fiber_sleep(x->n.e, NS_PER_S)) {
		if (x->no_qemu && x->qemu)
			qemu_over(x);
		if (x->no_qemu || x->qemu || !sim_unix_answers(x->sn, "/run/" VM "-usb:" USB ".sock"))
			continue;
		x->tries++;
		x->qemu = env_connect(x->n.e, "unix:/run/" VM "-usb:" USB ".sock", NULL, &ops, x, &err);
	}
}

/* ---- nodes ---- */

static int socket_give(struct compute *c, const char *path, struct hci_error *err)
{
	struct world *w = (struct world *)c;

	(void)path;
	return w->give ? err_set(err, w->give, "libvirt cannot be reached") : 0;
}

static const struct hypervisor hypervisor = { .parks = true, .socket_give = socket_give };

static void side_fiber(void *arg)
{
	struct side *x = arg;
	struct core_opts o = { .env = x->n.e, .self = names[x->i] };
	struct hci_error err;
	char addr[32];

	ck_assert_int_eq(simstore_open(x->w->ss, x->n.e, &x->store), 0);
	o.store = x->store;
	ck_assert_msg(!core_open(&o, &x->n.core, &err), "%s", err.message);
	snprintf(addr, sizeof(addr), "tcp:%s:7400", names[x->i]);
	ck_assert_msg(!rpc_listen(core_rpc(x->n.core), addr, &err), "%s", err.message);
	ck_assert_int_eq(vm_usb_register(&x->n, &err), 0);
	if (x->i == D) {
		x->w->server = env_listen(x->n.e, SERVER, NULL, on_caller, x->w, &err);
		ck_assert_ptr_nonnull(x->w->server);
	}
	ck_assert_int_eq(fiber_spawn(x->n.e, qemu_fiber, x, "qemu"), 0);
	x->up = true;
}

static void boot(struct env *e, void *arg)
{
	struct side *x = arg;

	x->n.e = e;
	x->n.o.hypervisor = &hypervisor;
	x->n.o.compute = (struct compute *)x->w;
	x->n.vms = &x->s;
	snprintf(x->n.name, sizeof(x->n.name), "%s", names[x->i]);
	snprintf(x->n.run_dir, sizeof(x->n.run_dir), "/run");
	x->s.n = &x->n;
	x->s.lease_until = UINT64_MAX;
	list_init(&x->s.vms);
	list_init(&x->s.usb_lines);
	fiber_cond_init(&x->s.wake);
	x->m.n = &x->n;
	snprintf(x->m.name, sizeof(x->m.name), VM);
	fiber_mutex_init(&x->m.lock);
	list_push(&x->s.vms, &x->m.link);
	ck_assert_int_eq(fiber_spawn(e, side_fiber, x, "side"), 0);
}

static bool all_up(void *arg)
{
	const struct world *w = arg;

	return w->side[A].up && w->side[B].up && w->side[D].up;
}

static void world_new(struct world *w)
{
	struct sim_opts o = SIM_OPTS_INIT;

	memset(w, 0, sizeof(*w));
	o.seed = 1;
	list_init(&w->callers);
	w->sim = sim_new(&o);
	w->ss = simstore_new(w->sim);
	put_records(w);
	for (unsigned i = 0; i < NODES; i++) {
		w->side[i].w = w;
		w->side[i].i = i;
		w->side[i].sn = sim_node_new(w->sim, names[i]);
		(void)sim_disk_new(w->side[i].sn, "/run", MiB);
		sim_node_boot(w->side[i].sn, boot, &w->side[i]);
	}
	ck_assert(sim_run_until(w->sim, all_up, w, 60 * NS_PER_S));
}

static void open_fiber(void *arg)
{
	struct hci_error err;
	struct side *x = arg;

	x->rc = nvm_read(&x->m, &err);
	if (!x->rc)
		x->rc = nvm_usb_open(&x->m, &err);
	x->opened = true;
}

static void spawn_open(struct env *e, void *arg)
{
	ck_assert_int_eq(fiber_spawn(e, open_fiber, arg, "open"), 0);
}

/* With what is in its memory. */
static void reopen_fiber(void *arg)
{
	struct side *x = arg;

	x->rc = nvm_usb_open(&x->m, NULL);
}

static void spawn_reopen(struct env *e, void *arg)
{
	ck_assert_int_eq(fiber_spawn(e, reopen_fiber, arg, "reopen"), 0);
}

static bool is_opened(void *arg)
{
	return ((struct side *)arg)->opened;
}

/* Its service is sure that the VM runs there. */
static int opens(struct side *x)
{
	x->m.owned = x->m.running = true;
	x->opened = false;
	sim_node_call(x->sn, spawn_open, x);
	ck_assert(sim_run_until(x->w->sim, is_opened, x, 60 * NS_PER_S));
	return x->rc;
}

static void close_now(struct env *e, void *arg)
{
	struct side *x = arg;

	(void)e;
	nvm_usb_close(&x->m);
	x->closed = true;
}

static bool is_closed(void *arg)
{
	return ((struct side *)arg)->closed;
}

static void closes(struct side *x)
{
	x->closed = false;
	sim_node_call(x->sn, close_now, x);
	ck_assert(sim_run_until(x->w->sim, is_closed, x, 60 * NS_PER_S));
}

/* As node_vm_stop() does it. */
static void stop_fiber(void *arg)
{
	struct side *x = arg;

	x->n.stopping = true;
	rpc_forget(core_rpc(x->n.core), &x->s);
	while (x->s.fibers)
		fiber_sleep(x->n.e, NS_PER_MS);
	vm_usb_stop(&x->n);
	x->closed = true;
}

static void spawn_stop(struct env *e, void *arg)
{
	ck_assert_int_eq(fiber_spawn(e, stop_fiber, arg, "stop"), 0);
}

static void world_free(struct world *w)
{
	for (unsigned i = 0; i < NODES; i++)
		closes(&w->side[i]);
	w->side[D].closed = false;
	sim_node_call(w->side[D].sn, spawn_stop, &w->side[D]);
	ck_assert(sim_run_until(w->sim, is_closed, &w->side[D], 60 * NS_PER_S));
	ck_assert_uint_eq(w->side[D].s.n_usb_lines, 0);
	sim_run(w->sim, 10 * NS_PER_S);
	ck_assert_msg(list_empty(&w->callers), "somebody holds on to the device");
	ck_assert_uint_eq(w->side[D].s.fibers, 0);
	simstore_free(w->ss);
	sim_free(w->sim);
}

static bool has(void *arg)
{
	return ((struct side *)arg)->has;
}

static bool gets(struct side *x)
{
	return sim_run_until(x->w->sim, has, x, 10 * NS_PER_S);
}

/* Not in ten seconds, though its QEMU tries. */
static bool gets_not(struct side *x)
{
	unsigned before = x->tries;

	return !gets(x) && x->tries > before + 5;
}

/* ---- who gets it ---- */

START_TEST(the_node_that_runs_it_gets_it)
{
	struct world w;

	world_new(&w);
	runs_on(&w, "a");
	ck_assert_int_eq(opens(&w.side[A]), 0);
	ck_assert(gets(&w.side[A]));
	ck_assert_uint_eq(w.side[D].s.n_usb_lines, 1);
	ck_assert_int_eq(opens(&w.side[B]), 0);
	ck_assert(gets_not(&w.side[B]));
	ck_assert(has(&w.side[A]));
	ck_assert_uint_eq(w.served, 1);
	world_free(&w);
}
END_TEST

START_TEST(nobody_gets_it_while_it_runs_nowhere)
{
	struct world w;

	world_new(&w);
	for (unsigned i = A; i <= B; i++)
		ck_assert_int_eq(opens(&w.side[i]), 0);
	ck_assert(gets_not(&w.side[A]) && gets_not(&w.side[B]));
	ck_assert_uint_eq(w.served, 0);
	world_free(&w);
}
END_TEST

/* The node that had it does not know, and keeps its line. */
START_TEST(the_next_one_takes_it_away)
{
	static const unsigned from[] = { A, A, D, B }, to[] = { B, D, A, D };
	struct world w;

	for (unsigned k = 0; k < ARRAY_SIZE(from); k++) {
		struct side *x, *y;

		world_new(&w);
		x = &w.side[from[k]];
		y = &w.side[to[k]];
		runs_on(&w, names[from[k]]);
		ck_assert_int_eq(opens(x), 0);
		ck_assert(gets(x));
		runs_on(&w, names[to[k]]);
		ck_assert_int_eq(opens(y), 0);
		ck_assert_msg(gets(y), "it stays at %s", x->n.name);
		/* By then it knows. */
		x->m.owned = false;
		sim_run(w.sim, 10 * NS_PER_S);
		ck_assert_msg(has(y) && !has(x), "from %s to %s: it does not stay there", x->n.name, y->n.name);
		world_free(&w);
	}
}
END_TEST

START_TEST(not_while_the_right_is_in_doubt)
{
	struct world w;
	struct side *x;

	for (unsigned i = 0; i < NODES; i += D) {
		world_new(&w);
		x = &w.side[i];
		runs_on(&w, names[i]);
		ck_assert_int_eq(opens(x), 0);
		x->m.suspended = true;
		ck_assert_msg(gets_not(x), "%s", x->n.name);
		x->m.suspended = false;
		x->s.lease_until = 0;
		ck_assert_msg(gets_not(x), "%s", x->n.name);
		x->s.lease_until = UINT64_MAX;
		ck_assert_msg(gets(x), "%s", x->n.name);
		world_free(&w);
	}
}
END_TEST

/* Whatever becomes of the record in the meantime. */
START_TEST(a_qemu_that_is_started_anew_gets_it_again)
{
	struct world w;

	for (unsigned i = 0; i < NODES; i += D) {
		struct side *x;

		world_new(&w);
		x = &w.side[i];
		runs_on(&w, names[i]);
		ck_assert_int_eq(opens(x), 0);
		ck_assert(gets(x));
		x->no_qemu = true;
		sim_run(w.sim, 3 * NS_PER_S);
		ck_assert(list_empty(&w.callers) && !has(x));
		ck_assert_uint_eq(w.side[D].s.n_usb_lines, 0);
		memset(&x->m.rec, 0, sizeof(x->m.rec));
		x->no_qemu = false;
		ck_assert(gets(x));
		ck_assert_uint_eq(w.served, 2);
		world_free(&w);
	}
}
END_TEST

/* The server hangs up on a VM that moves: its QEMU sees nothing of it before that is over. */
START_TEST(a_line_lost_while_the_vm_moves_ends_later)
{
	static char out; /* is not looked into */
	struct world w;

	for (unsigned i = 0; i < NODES; i += D) {
		struct side *x;

		world_new(&w);
		x = &w.side[i];
		runs_on(&w, names[i]);
		ck_assert_int_eq(opens(x), 0);
		ck_assert(gets(x));
		x->m.out = (struct handover_out *)(void *)&out;
		caller_goes(list_first(&w.callers, struct caller, link));
		sim_run(w.sim, 5 * NS_PER_S);
		ck_assert_msg(x->qemu && x->tries == 1 && w.served == 1, "%s", x->n.name);
		x->m.out = NULL;
		nvm_usb_settle(&x->m);
		sim_run(w.sim, 5 * NS_PER_S);
		ck_assert_msg(has(x) && x->tries == 2 && w.served == 2, "%s", x->n.name);
		/* ... and at once of one that does not. */
		caller_goes(list_first(&w.callers, struct caller, link));
		sim_run(w.sim, 5 * NS_PER_S);
		ck_assert_msg(has(x) && w.served == 3, "%s", x->n.name);
		world_free(&w);
	}
}
END_TEST

START_TEST(what_a_vm_of_before_had_is_closed)
{
	struct side *x;
	struct world w;

	world_new(&w);
	x = &w.side[A];
	runs_on(&w, "a");
	put_vm(&w, true);
	ck_assert_int_eq(opens(x), 0);
	ck_assert(gets_not(x)); /* its server is another one's */
	put_vm(&w, false);
	ck_assert_int_eq(opens(x), 0);
	ck_assert(gets(x));
	x->m.rec.nusb = 0;
	sim_node_call(x->sn, spawn_reopen, x);
	sim_run(w.sim, NS_PER_S);
	ck_assert_ptr_null(sim_unix_name(x->sn, 0));
	world_free(&w);
}
END_TEST

START_TEST(a_socket_that_qemu_cannot_use_is_not_left)
{
	struct world w;

	world_new(&w);
	w.give = HCI_E_LIBVIRT;
	ck_assert_int_eq(opens(&w.side[A]), HCI_E_LIBVIRT);
	ck_assert_ptr_null(sim_unix_name(w.side[A].sn, 0));
	ck_assert(nvm_usb_waits(&w.side[A].m));
	w.give = 0;
	ck_assert_int_eq(opens(&w.side[A]), 0);
	ck_assert(!nvm_usb_waits(&w.side[A].m));
	world_free(&w);
}
END_TEST

/* At either end: QEMU tries again. */
START_TEST(it_comes_though_memory_ran_out_once)
{
	unsigned failed = 0;

	for (unsigned i = 0; i < NODES; i += D) {
		bool more = true;

		for (uint64_t n = 1; more; n++, failed++) {
			struct world w;

			world_new(&w);
			runs_on(&w, names[i]);
			ck_assert_int_eq(opens(&w.side[i]), 0);
			mem_fail_nth(n);
			ck_assert_msg(sim_run_until(w.sim, has, &w.side[i], 60 * NS_PER_S), "%s, the %uth allocation", names[i], (unsigned)n);
			more = mem_fail_nth(0) >= n;
			world_free(&w);
		}
	}
	ck_assert_uint_gt(failed, 20);
}
END_TEST

START_TEST(it_ends_with_the_service_of_its_node)
{
	struct world w;

	world_new(&w);
	runs_on(&w, "a");
	ck_assert_int_eq(opens(&w.side[A]), 0);
	ck_assert(gets(&w.side[A]));
	w.side[D].closed = false;
	sim_node_call(w.side[D].sn, spawn_stop, &w.side[D]);
	ck_assert(sim_run_until(w.sim, is_closed, &w.side[D], 60 * NS_PER_S));
	sim_run(w.sim, 5 * NS_PER_S);
	ck_assert(!has(&w.side[A]) && list_empty(&w.callers));
	world_free(&w);
}
END_TEST

/* ---- whatever a peer asks for ---- */

struct stream {
	struct side *x;
	const char *vm, *usb; /* NULL: nonsense instead */
	struct rpc_stream *s;
	bool done, open;
	struct hci_error err;
};

static void on_open(void *arg)
{
	struct stream *t = arg;

	t->open = t->done = true;
}

static void on_stream_closed(void *arg, const struct hci_error *err)
{
	struct stream *t = arg;

	t->err = *err;
	t->done = true;
	rpc_stream_close(t->s, NULL);
	t->s = NULL;
}

static void on_data(void *arg)
{
	struct stream *t = arg;
	struct rpc_stream_message m;

	while (rpc_stream_next(t->s, &m))
		rpc_stream_taken(t->s);
}

static void stream_fiber(void *arg)
{
	static const struct rpc_stream_ops ops = { on_open, on_data, nothing, on_stream_closed };
	struct stream *t = arg;
	struct rpc_conn *c = rpc_peers_connect(core_peers(t->x->n.core), "d", &t->err);
	struct rpc_stream_opts o = { .service = "usb" };
	struct buf args = BUF_INIT;

	ck_assert_ptr_nonnull(c);
	if (t->vm) {
		pk_map(&args, 2);
		pk_kv_str(&args, "vm", t->vm);
		pk_kv_str(&args, "usb", t->usb);
	} else {
		pk_str(&args, "nonsense");
	}
	o.args = &args;
	t->s = rpc_stream_open(c, &o, &ops, t, &t->err);
	ck_assert_ptr_nonnull(t->s);
	buf_free(&args);
}

static void spawn_stream(struct env *e, void *arg)
{
	ck_assert_int_eq(fiber_spawn(e, stream_fiber, arg, "stream"), 0);
}

static bool stream_done(void *arg)
{
	return ((struct stream *)arg)->done;
}

static int asks(struct world *w, unsigned from, const char *vm, const char *usb)
{
	struct stream t = { .x = &w->side[from], .vm = vm, .usb = usb };

	sim_node_call(t.x->sn, spawn_stream, &t);
	ck_assert(sim_run_until(w->sim, stream_done, &t, 60 * NS_PER_S));
	ck_assert_msg(!t.open, "%s: %s is carried", vm ? vm : "nonsense", vm ? usb : "");
	return t.err.code;
}

START_TEST(what_is_not_theirs_is_refused)
{
	char longest[300];
	struct world w;

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	world_new(&w);
	ck_assert_int_eq(asks(&w, A, VM, USB), HCI_E_STATE); /* it runs nowhere */
	runs_on(&w, "a");
	ck_assert_int_eq(asks(&w, B, VM, USB), HCI_E_STATE);
	ck_assert_int_eq(asks(&w, A, "v2", USB), HCI_E_NOTFOUND);
	ck_assert_int_eq(asks(&w, A, VM, "lock"), HCI_E_NOTFOUND);
	ck_assert_int_eq(asks(&w, A, VM, "other"), HCI_E_NOTFOUND); /* which another node has */
	ck_assert_int_eq(asks(&w, A, NULL, NULL), HCI_E_PROTO);
	ck_assert_int_eq(asks(&w, A, "", USB), HCI_E_PROTO);
	ck_assert_int_eq(asks(&w, A, VM, ""), HCI_E_PROTO);
	ck_assert_int_eq(asks(&w, A, VM, "../key"), HCI_E_PROTO);
	ck_assert_int_eq(asks(&w, A, longest, USB), HCI_E_PROTO);
	ck_assert_uint_eq(w.served, 0);
	ck_assert_uint_eq(w.side[D].s.n_usb_lines, 0);
	world_free(&w);
}
END_TEST

static bool flood_done(void *arg)
{
	const struct stream *t = arg;

	for (unsigned k = 0; k < LINES + 20; k++)
		if (!t[k].done)
			return false;
	return true;
}

/* What is asked for while the store does not answer is bounded, and forgotten when it is over. */
START_TEST(no_flood_of_them_takes_more_than_so_much)
{
	struct stream *t = mem_calloc(LINES + 20, sizeof(*t));
	unsigned busy = 0;
	struct world w;

	world_new(&w);
	runs_on(&w, "a");
	simstore_cut(w.ss, w.side[D].sn, true);
	for (unsigned k = 0; k < LINES + 20; k++) {
		t[k] = (struct stream){ .x = &w.side[B], .vm = VM, .usb = USB };
		sim_node_call(w.side[B].sn, spawn_stream, &t[k]);
	}
	ck_assert(sim_run_until(w.sim, flood_done, t, 600 * NS_PER_S));
	for (unsigned k = 0; k < LINES + 20; k++) {
		ck_assert(!t[k].open && t[k].err.code);
		busy += t[k].err.code == HCI_E_BUSY;
	}
	ck_assert_uint_eq(busy, 20);
	simstore_cut(w.ss, w.side[D].sn, false);
	sim_run(w.sim, 60 * NS_PER_S);
	ck_assert_uint_eq(w.side[D].s.n_usb_lines, 0);
	ck_assert_int_eq(opens(&w.side[A]), 0);
	ck_assert(gets(&w.side[A]));
	mem_free(t);
	world_free(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cluster_usb");
	TCase *t = tcase_create("usb");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, the_node_that_runs_it_gets_it);
	tcase_add_test(t, nobody_gets_it_while_it_runs_nowhere);
	tcase_add_test(t, the_next_one_takes_it_away);
	tcase_add_test(t, not_while_the_right_is_in_doubt);
	tcase_add_test(t, a_qemu_that_is_started_anew_gets_it_again);
	tcase_add_test(t, a_line_lost_while_the_vm_moves_ends_later);
	tcase_add_test(t, what_a_vm_of_before_had_is_closed);
	tcase_add_test(t, a_socket_that_qemu_cannot_use_is_not_left);
	tcase_add_test(t, it_comes_though_memory_ran_out_once);
	tcase_add_test(t, it_ends_with_the_service_of_its_node);
	tcase_add_test(t, what_is_not_theirs_is_refused);
	tcase_add_test(t, no_flood_of_them_takes_more_than_so_much);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
