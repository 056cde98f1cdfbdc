/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The destination's end of a live migration: exports that hold the guest's I/O; the volumes attached as
 * soon as the guest asks for them; what the source asks for. When the VM is taken over: handover_take.c.
 */
#include "base/names.h"
#include "cluster/node_vm_impl.h"

#define RELEASE_TIME (10 * NS_PER_S)
#define AGAIN (20 * NS_PER_MS)

/* ---- the guest asks ---- */

struct ask {
	struct nvm *m;
	uint64_t id;
	char source[HCI_NAME_MAX];
};

static bool current(const struct ask *a)
{
	return a->m->in && a->m->in->id == a->id && !a->m->n->stopping;
}

static void read_released(struct handover_in *in, struct rd *r)
{
	uint32_t pairs = rd_map(r);

	while (pairs--) {
		struct rd_key k = rd_key(r);
		uint32_t cnt;

		if (!rd_is(k, "generations")) {
			rd_skip(r);
			continue;
		}
		cnt = rd_array(r);
		for (uint32_t i = 0; i < cnt && i < REC_VM_DISKS_MAX; i++)
			in->released[i] = rd_u64(r);
		if (cnt > REC_VM_DISKS_MAX)
			return;
	}
}

static void ask_fiber(void *arg)
{
	struct ask *a = arg;
	struct nvm *m = a->m;
	struct node *n = m->n;
	struct hci_error err = { 0 };
	int rc = HCI_E_AGAIN;

	while (current(a) && rc == HCI_E_AGAIN) {
		struct buf body = BUF_INIT;
		struct rpc_call call;

		pk_map(&body, 1);
		pk_kv_str(&body, "vm", m->name);
		rc = handover_call(n, a->source, HO_RELEASE, &body, RELEASE_TIME, &call, &err);
		if (!rc && current(a))
			read_released(m->in, &call.reply);
		rpc_call_free(&call);
		if (rc == HCI_E_AGAIN)
			fiber_sleep(n->e, AGAIN);
	}
	/* Refused or lost: FINISH or CANCEL, or the end of the source, will tell what to do. */
	nvm_lock(m);
	if (!rc && current(a))
		rc = nvm_attach(m, REC_ATT_MIGRATE, &err);
	if (!rc && (n->o.mutate & HO_MUTATE_IO_EARLY))
		rc = nvm_resume_io(m, &err);
	if (rc)
		log_info(env_log(n->e), "VM %s: its disks wait for the end of its migration: %s", m->name, err.message);
	nvm_unlock(m);
	mem_free(a);
	vm_fiber_end(n);
}

static void on_first_io(void *arg, struct nbd_export *x, int status)
{
	struct nvm *m = arg;
	struct ask *a;

	(void)x;
	(void)status;
	if (!m->in || m->in->asked_at)
		return;
	m->in->asked_at = env_now(m->n->e);
	a = MEM_NEW(struct ask);
	if (!a)
		return;
	a->m = m;
	a->id = m->in->id;
	snprintf(a->source, sizeof(a->source), "%s", m->in->source);
	if (vm_fiber(m->n, ask_fiber, a, "vm-ask"))
		mem_free(a);
}

/* ---- taken over, or given up; all with the VM's lock held ---- */

void handover_in_free(struct nvm *m)
{
	if (m->in)
		ho_in_close(m->in->path, NULL);
	mem_free(m->in);
	m->in = NULL;
}

void handover_in_drop(struct nvm *m)
{
	struct hci_error err;

	if (!m->in)
		return;
	if (vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, &err))
		log_warn(env_log(m->n->e), "VM %s: %s", m->name, err.message);
	nvm_unexport(m);
	handover_in_free(m);
}

/* ---- what the source asks for ---- */

struct request {
	struct node *n;
	struct rpc_req *req;
	int (*fn)(struct request *q, struct nvm *m, struct buf *reply, struct hci_error *err);
	char vm[HCI_NAME_MAX], job[HCI_NAME_MAX], peer[HCI_NAME_MAX];
	bool unsure;
	struct compute_needs needs;
};

static int check_source(struct request *q, struct nvm *m, struct hci_error *err)
{
	char runner[HCI_NAME_MAX];
	int rc = nvm_runner(m, runner, err);

	if (rc == HCI_E_NOTFOUND || (!rc && strcmp(runner, q->peer)))
		return err_set(err, HCI_E_STATE, "VM %s: it does not run on node %s", m->name, q->peer);
	return rc;
}

/*
 * As many as may leave: each takes memory, threads and a share of the links. The source waits and asks again, having done nothing.
 * No circle of nodes waits for ever: who is refused holds no place at any destination.
 */
static int check_busy(struct node *n, const struct nvm *but, struct hci_error *err)
{
	uint32_t coming = 0, most = vm_migrations(n);
	struct nvm *m;

	list_for_each(m, &n->vms->vms, link)
		coming += m != but && m->in;
	return coming < most ? 0 : err_set(err, HCI_E_BUSY, "node %s: %u VMs are arriving already, it takes %u at a time: hcictl node limit",
					   n->name, coming, most);
}

static int do_prepare(struct request *q, struct nvm *m, struct buf *reply, struct hci_error *err)
{
	struct node *n = q->n;
	struct content_set *content;
	struct problems p = { 0 };
	int rc = check_source(q, m, err);

	if (!rc)
		rc = check_busy(n, m, err);
	if (rc)
		return rc;
	handover_in_drop(m);
	nvm_unexport(m);
	rc = nvm_read(m, err);
	if (rc)
		return rc;
	handover_lacks(m, &q->needs, &p);
	rc = problems_error(&p, m->name, n->name, err);
	problems_free(&p);
	/* Others may have come meanwhile; from here to m->in nothing parks. */
	if (!rc)
		rc = check_busy(n, m, err);
	if (rc)
		return rc;
	m->in = MEM_NEW(struct handover_in);
	if (!m->in)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name);
	env_random(n->e, &m->in->id, sizeof(m->in->id));
	snprintf(m->in->source, sizeof(m->in->source), "%s", q->peer);
	snprintf(m->in->job, sizeof(m->in->job), "%s", q->job);
	rc = ho_in_open(n, &m->in->path, err);
	if (!rc)
		rc = nvm_export(m, on_first_io, err);
	if (rc) {
		handover_in_free(m);
		return rc;
	}
	if (content_set_in(n->vms->content, m, &content, err))
		log_info(env_log(n->e), "VM %s: %s", m->name, err->message);
	else
		ho_in_content(m->in->path, content);
	pk_map(reply, 5);
	pk_kv_str(reply, "memory", ho_in_memory(m->in->path));
	pk_kv_str(reply, "libvirt", ho_in_libvirt(m->in->path));
	pk_kv_str(reply, "console", m->console);
	pk_str(reply, "sockets");
	pk_array(reply, m->ndisks);
	for (uint32_t i = 0; i < m->ndisks; i++)
		pk_str(reply, m->disks[i].socket);
	pk_str(reply, "usb");
	pk_array(reply, m->rec.nusb);
	for (uint32_t i = 0; i < m->rec.nusb; i++) {
		char path[NVM_SOCKET] = "";

		(void)nvm_usb_socket(m, i, path, NULL); /* "": the run directory is too long, of which it was told */
		pk_str(reply, path);
	}
	return 0;
}

/* It is only asked; the source is not looked at, as it may not run there either. */
static int do_lacks(struct request *q, struct nvm *m, struct buf *reply, struct hci_error *err)
{
	struct problems p = { 0 };
	int rc = m->owned || m->in ? 0 : nvm_read(m, err);

	if (rc)
		return rc;
	handover_lacks(m, &q->needs, &p);
	pk_map(reply, 1);
	problems_pack(&p, reply);
	rc = p.failed ? err_set(err, HCI_E_NOMEM, "VM %s: out of memory", m->name) : 0;
	problems_free(&p);
	return rc;
}

/* Nobody knows whether it is the guest's memory of before: it is not to go on. Also one that an earlier life of this service waited for. */
static int give_up(struct nvm *m, const char *source, struct hci_error *err)
{
	int rc = vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, err);

	if (rc)
		return rc;
	nvm_release(m);
	return err_set(err, HCI_E_NOTFOUND, "VM %s: what has come to node %s may be its memory of before, as it is not known how it left node %s",
		       m->name, m->n->name, source);
}

static int do_finish(struct request *q, struct nvm *m, struct buf *reply, struct hci_error *err)
{
	struct compute_migrated c = { 0 };
	char runner[HCI_NAME_MAX];
	uint64_t pause = 0;
	int rc = 0;

	/* The source may not have heard our first answer. */
	if (!m->owned || !m->running) {
		rc = nvm_runner(m, runner, err);
		if (!rc && strcmp(runner, q->peer) && strcmp(runner, q->n->name))
			return err_set(err, HCI_E_STATE, "VM %s: it runs on node %s", m->name, runner);
		if (rc && rc != HCI_E_NOTFOUND)
			return rc;
		if (q->unsure && (rc || strcmp(runner, q->n->name)))
			rc = handover_take_unbroken(m, q->peer, &pause, err);
		else
			rc = handover_take_over(m, q->peer, &pause, err);
		if (rc == HCI_E_STATE && q->unsure)
			rc = give_up(m, q->peer, err);
		if (rc == HCI_E_NOTFOUND)
			handover_in_drop(m);
	}
	if (rc)
		return rc;
	(void)vm_compute_migrated(q->n, m->name, &c, NULL);
	if (m->in && m->in->taken) {
		pause = m->in->pause_ms;
		handover_in_look(m);
	}
	pk_map(reply, 4);
	pk_kv_u64(reply, "total_ms", c.total_ms);
	pk_kv_u64(reply, "downtime_ms", c.downtime_ms);
	pk_kv_u64(reply, "bytes", c.bytes);
	pk_kv_u64(reply, "io_pause_ms", pause);
	return 0;
}

static int do_cancel(struct request *q, struct nvm *m, struct buf *reply, struct hci_error *err)
{
	(void)reply;
	if (m->in && strcmp(m->in->source, q->peer))
		return err_set(err, HCI_E_STATE, "VM %s: it is not coming from node %s", m->name, q->peer);
	if (m->in && m->in->taken)
		return err_set(err, HCI_E_STATE, "VM %s: it runs here already", m->name);
	handover_in_drop(m);
	return 0;
}

static void request_fiber(void *arg)
{
	struct request *q = arg;
	struct node *n = q->n;
	struct nvm *m = nvm_get(n, q->vm);
	struct buf reply = BUF_INIT;
	struct hci_error err = { 0 };
	int rc;

	if (m) {
		nvm_lock(m);
		rc = q->fn(q, m, &reply, &err);
		nvm_unlock(m);
		if (!rc && reply.failed)
			rc = err_set(&err, HCI_E_NOMEM, "VM %s: out of memory", q->vm);
	} else {
		rc = err_set(&err, HCI_E_NOMEM, "VM %s: out of memory", q->vm);
	}
	rpc_reply(q->req, rc, rc ? err.message : NULL, rc ? NULL : &reply, NULL, 0, NULL, NULL);
	buf_free(&reply);
	mem_free(q);
	vm_fiber_end(n);
}

static void on_request(struct node_vm_state *s, struct rpc_req *req, __typeof__(((struct request *)0)->fn) fn)
{
	struct request *q = MEM_NEW(struct request);
	uint32_t pairs = rd_map(&req->args);

	while (q && pairs--) {
		struct rd_key k = rd_key(&req->args);

		if (rd_is(k, "vm"))
			rd_strcpy(&req->args, q->vm, sizeof(q->vm));
		else if (rd_is(k, "job"))
			rd_strcpy(&req->args, q->job, sizeof(q->job));
		else if (rd_is(k, "unsure"))
			q->unsure = rd_bool(&req->args);
		else if (!handover_needs_read(&q->needs, k, &req->args))
			rd_skip(&req->args);
	}
	if (!q || req->args.bad || name_check(q->vm, "VM", NULL)) {
		rpc_reply(req, q ? HCI_E_PROTO : HCI_E_NOMEM, NULL, NULL, NULL, 0, NULL, NULL);
		mem_free(q);
		return;
	}
	q->n = s->n;
	q->req = req;
	q->fn = fn;
	snprintf(q->peer, sizeof(q->peer), "%s", rpc_conn_peer(req->conn));
	if (vm_fiber(s->n, request_fiber, q, "vm-handover")) {
		rpc_reply(req, HCI_E_NOMEM, NULL, NULL, NULL, 0, NULL, NULL);
		mem_free(q);
	}
}

static void on_prepare(void *arg, struct rpc_req *req)
{
	on_request(arg, req, do_prepare);
}

static void on_lacks(void *arg, struct rpc_req *req)
{
	on_request(arg, req, do_lacks);
}

static void on_finish(void *arg, struct rpc_req *req)
{
	on_request(arg, req, do_finish);
}

static void on_cancel(void *arg, struct rpc_req *req)
{
	on_request(arg, req, do_cancel);
}

/* ---- the streams of the source's libvirt and QEMU ---- */

static struct ho_in *find_path(void *arg, const struct ho_offer *o)
{
	struct node_vm_state *s = arg;
	struct nvm *m = nvm_find(s->n, o->vm);

	if (!m || !m->in || strcmp(m->in->job, o->job) || strcmp(m->in->source, o->source) || s->n->stopping)
		return NULL;
	return m->in->path;
}

static void on_stream(void *arg, struct rpc_stream *s, struct rd *args)
{
	ho_in_take(s, args, find_path, arg);
}

int handover_in_register(struct node *n, struct hci_error *err)
{
	struct rpc *r = core_rpc(n->core);

	if (rpc_register(r, HO_PREPARE, on_prepare, n->vms) || rpc_register(r, HO_FINISH, on_finish, n->vms) ||
	    rpc_register(r, HO_CANCEL, on_cancel, n->vms) || rpc_register(r, HO_LACKS, on_lacks, n->vms) ||
	    rpc_stream_serve(r, HO_SERVICE, on_stream, n->vms))
		return err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name);
	return 0;
}
