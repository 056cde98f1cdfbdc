/* SPDX-License-Identifier: Apache-2.0 */
/*
 * USB devices of VMs. QEMU speaks usbredir with a server at the device's node, as if that were behind a socket of this machine:
 *
 *	QEMU -> RUN_DIR/<vm>-usb:<name>.sock -> node service ==== stream "usb" ====> node service -> the server
 *
 * and without the stream where the device is at this node. The socket is there only while the VM runs here, with its disks: at a migration's
 * end the source closes it and the destination opens its own. QEMU tries to connect once a second, and tells the guest that the device
 * was unplugged and plugged in again. The device's node looks up for each stream whether the VM runs where it comes from, and whether the
 * device is that VM's; so nobody else's service gets at it. A server has one client at a time, and a node that lost the VM without knowing
 * keeps its line: so the next one's, a stream or the device's node's own QEMU, ends those before it; and while a node's right to the VM is
 * in doubt its QEMU gets no line at all.
 */
#include "base/names.h"
#include "cluster/node_vm_impl.h"

#define SERVICE "usb"
#define LINES_MAX 256u /* to devices of one node */

struct usb_line;
static void end_lines(struct node *n, const char *vm, const char *usb, const struct usb_line *but, const char *peer);

/* ---- at the VM's node ---- */

int nvm_usb_socket(const struct nvm *m, uint32_t i, char path[NVM_SOCKET], struct hci_error *err)
{
	char what[HCI_NAME_MAX + 8];

	/* No volume's name has a colon. */
	snprintf(what, sizeof(what), "usb:%s", m->rec.usb[i].name);
	return nvm_socket_path(m, what, path, err);
}

static void end_line(struct nvm_usb *u)
{
	rpc_relay_free(u->relay, NULL);
	rpc_join_free(u->join);
	u->relay = NULL;
	u->join = NULL;
	u->connected = u->over = false;
	metric_set(u->m_connected, 0);
}

/*
 * Not while the VM moves: QEMU 7.2 at the destination dies of a device whose connection ended after the guest was stopped and before
 * its state was saved ("usbredirparser_do_write", called for what the guest does next).
 */
static void settle(struct nvm_usb *u)
{
	if (u->over && !u->vm->out)
		end_line(u);
}

/* QEMU connects again in a second, and again: the log has the first of each kind. */
static void line_over(struct nvm_usb *u, const struct hci_error *err)
{
	struct env *e = u->vm->n->e;

	if (u->connected)
		log_info(env_log(e), "VM %s: USB device %s is not connected any more%s%s", u->vm->name, u->rec.name, err->code ? ": " : "",
			 err->code ? err->message : "");
	else if (!u->told)
		log_warn(env_log(e), "VM %s: USB device %s of node %s is not connected, it is tried again each second: %s", u->vm->name,
			 u->rec.name, u->rec.node, err->code ? err->message : "its server ended the connection");
	u->told = u->over = true;
	metric_set(u->m_connected, 0);
	settle(u);
}

static void on_relay_over(void *arg, struct rpc_relay *y, const struct hci_error *err)
{
	(void)y;
	line_over(arg, err);
}

static void on_join_over(void *arg, struct rpc_join *j, const struct hci_error *err)
{
	(void)j;
	line_over(arg, err);
}

static void before(void *arg, bool to_socket)
{
	struct nvm_usb *u = arg;

	if (u->connected || !to_socket)
		return;
	u->connected = true;
	u->told = false;
	metric_set(u->m_connected, 1);
	log_info(env_log(u->vm->n->e), "VM %s: USB device %s at node %s is connected", u->vm->name, u->rec.name, u->rec.node);
}

static struct rpc_relay *to_node(struct nvm_usb *u, struct env_conn *sock, struct hci_error *err)
{
	struct node *n = u->vm->n;
	struct rpc_relay_opts o = { .before = before, .on_over = on_relay_over, .arg = u, .keep = true };
	struct rpc_conn *conn = rpc_peers_connect(core_peers(n->core), u->rec.node, err);
	struct rpc_stream_opts so = { .service = SERVICE };
	struct buf args = BUF_INIT;
	struct rpc_relay *y;

	if (!conn) {
		env_conn_close(sock, true);
		return NULL;
	}
	pk_map(&args, 2);
	pk_kv_str(&args, "vm", u->vm->name);
	pk_kv_str(&args, "usb", u->rec.name);
	so.args = &args;
	y = rpc_relay_out(n->e, sock, conn, &so, &o, err);
	buf_free(&args);
	return y;
}

static struct rpc_join *to_server(struct nvm_usb *u, struct env_conn *sock, struct hci_error *err)
{
	struct node *n = u->vm->n;

	end_lines(n, u->vm->name, u->rec.name, NULL, n->name);
	return rpc_join_new(n->e, sock, u->rec.server,
			    &(struct rpc_join_opts){ .before = before, .on_over = on_join_over, .arg = u, .keep = true }, err);
}

/* A QEMU that was started anew may connect before the end of its predecessor was seen. */
static void on_qemu(void *arg, struct env_conn *sock)
{
	struct nvm_usb *u = arg;
	const struct nvm *m = u->vm;
	struct hci_error err = { 0 };

	end_line(u);
	if (!nvm_has_right(m)) {
		env_conn_close(sock, true);
		err_set(&err, HCI_E_STATE, "the right of node %s to run the VM is in doubt", m->n->name);
	} else if (strcmp(u->rec.node, m->n->name)) {
		u->relay = to_node(u, sock, &err);
	} else {
		u->join = to_server(u, sock, &err);
	}
	if (!u->relay && !u->join)
		line_over(u, &err);
}

static void metric_begin(struct nvm_usb *u)
{
	char labels[2 * HCI_NAME_MAX + 32];

	if (u->m_connected || !env_metrics(u->vm->n->e))
		return;
	snprintf(labels, sizeof(labels), "vm=\"%s\",usb=\"%s\"", u->vm->name, u->rec.name);
	u->m_connected = metrics_gauge(env_metrics(u->vm->n->e), "hci_vm_usb_connected", "1: a VM's USB device is connected to its server.",
				       labels);
}

static void close_one(struct nvm_usb *u)
{
	if (u->listener)
		env_listener_close(u->listener);
	u->listener = NULL;
	end_line(u);
	if (u->m_connected)
		metrics_remove(env_metrics(u->vm->n->e), u->m_connected);
	u->m_connected = NULL;
}

/* The VM may have been defined anew since it was opened. */
static bool is_old(const struct nvm *m, uint32_t i)
{
	const struct rec_vm_usb *a = &m->usb[i].rec, *b = &m->rec.usb[i];

	return i >= m->rec.nusb || strcmp(a->name, b->name) || strcmp(a->node, b->node) || strcmp(a->server, b->server);
}

static int open_one(struct nvm *m, uint32_t i, struct hci_error *err)
{
	struct nvm_usb *u = &m->usb[i];
	char path[NVM_SOCKET], addr[NVM_SOCKET + 8];
	int rc = u->listener ? 0 : nvm_usb_socket(m, i, path, err);

	if (rc || u->listener)
		return rc;
	*u = (struct nvm_usb){ .vm = m, .rec = m->rec.usb[i] };
	snprintf(addr, sizeof(addr), "unix:%s", path);
	u->listener = env_listen(m->n->e, addr, NULL, on_qemu, u, err);
	if (!u->listener)
		return err_prefix(err, "VM %s: USB device %s", m->name, u->rec.name);
	metric_begin(u);
	metric_set(u->m_connected, 0);
	rc = vm_compute_socket_give(m->n, path, err);
	if (rc) {
		close_one(u);
		err_prefix(err, "VM %s: USB device %s", m->name, u->rec.name);
	}
	return rc;
}

int nvm_usb_open(struct nvm *m, struct hci_error *err)
{
	int rc = 0;

	for (uint32_t i = 0; i < ARRAY_SIZE(m->usb); i++)
		if (m->usb[i].listener && is_old(m, i))
			close_one(&m->usb[i]);
	for (uint32_t i = 0; i < m->rec.nusb && !rc; i++)
		rc = open_one(m, i, err);
	return rc;
}

void nvm_usb_try_open(struct nvm *m)
{
	struct hci_error err;

	if (nvm_usb_open(m, &err))
		log_warn(env_log(m->n->e), "%s", err.message);
}

bool nvm_usb_waits(const struct nvm *m)
{
	for (uint32_t i = 0; i < m->rec.nusb; i++)
		if (!m->usb[i].listener)
			return true;
	return false;
}

void nvm_usb_settle(struct nvm *m)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(m->usb); i++)
		if (m->usb[i].listener)
			settle(&m->usb[i]);
}

void nvm_usb_close(struct nvm *m)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(m->usb); i++)
		if (m->usb[i].listener)
			close_one(&m->usb[i]);
}

/* ---- at the device's node ---- */

/* A stream of a VM's node to a server here. */
struct usb_line {
	struct list link;
	struct node *n;
	struct rpc_stream *s;    /* until it is looked up */
	struct rpc_relay *relay; /* from then on */
	char vm[HCI_NAME_MAX], usb[HCI_NAME_MAX], peer[HCI_NAME_MAX];
};

static void line_free(struct usb_line *l, const struct hci_error *why)
{
	l->n->vms->n_usb_lines--;
	list_del(&l->link);
	rpc_relay_free(l->relay, why);
	mem_free(l);
}

static void on_line_over(void *arg, struct rpc_relay *y, const struct hci_error *err)
{
	struct usb_line *l = arg;

	(void)y;
	if (err->code)
		log_info(env_log(l->n->e), "USB device %s of VM %s at node %s: %s", l->usb, l->vm, l->peer, err->message);
	line_free(l, NULL);
}

static int look_up(const struct usb_line *l, char server[REC_PATH_MAX], struct hci_error *err)
{
	struct rec_vm *vm = MEM_NEW(struct rec_vm);
	const struct rec_vm_usb *u = NULL;
	struct rec_vmrun run;
	char key[REC_KEY];
	int rc;

	if (!vm)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", l->vm);
	key_vm(key, l->vm);
	rc = rec_vm_get(core_store(l->n->core), key, vm, NULL, err);
	if (rc == HCI_E_NOTFOUND)
		err_set(err, rc, "VM %s: there is none of this name", l->vm);
	for (uint32_t i = 0; !rc && i < vm->nusb; i++)
		if (!strcmp(vm->usb[i].name, l->usb) && !strcmp(vm->usb[i].node, l->n->name))
			u = &vm->usb[i];
	if (!rc && !u)
		rc = err_set(err, HCI_E_NOTFOUND, "VM %s: it has no USB device %s at node %s", l->vm, l->usb, l->n->name);
	if (u)
		snprintf(server, REC_PATH_MAX, "%s", u->server);
	mem_free(vm);
	key_vmrun(key, l->vm);
	if (!rc)
		rc = rec_vmrun_get(core_store(l->n->core), key, &run, NULL, err);
	if (rc == HCI_E_NOTFOUND && u)
		rc = err_set(err, HCI_E_STATE, "VM %s: it runs on no node", l->vm);
	if (!rc && strcmp(run.node, l->peer))
		rc = err_set(err, HCI_E_STATE, "VM %s: it runs on node %s, not on %s", l->vm, run.node, l->peer);
	return rc;
}

/* Whoever had it before node peer; also that node itself, with an earlier QEMU. */
static void end_lines(struct node *n, const char *vm, const char *usb, const struct usb_line *but, const char *peer)
{
	struct usb_line *o, *next;
	struct hci_error why;

	err_set(&why, HCI_E_STATE, "VM %s: USB device %s is used by node %s now", vm, usb, peer);
	list_for_each_safe(o, next, &n->vms->usb_lines, link)
		if (o != but && o->relay && !strcmp(o->vm, vm) && !strcmp(o->usb, usb))
			line_free(o, &why);
}

/* The VM runs elsewhere, and this node may not know yet. */
static void end_own(struct node *n, const char *vm, const char *usb)
{
	struct nvm *m = nvm_find(n, vm);

	for (uint32_t i = 0; m && i < ARRAY_SIZE(m->usb); i++)
		if (m->usb[i].join && !strcmp(m->usb[i].rec.name, usb)) {
			log_info(env_log(n->e), "VM %s: USB device %s is used by another node now", vm, usb);
			end_line(&m->usb[i]);
		}
}

static void line_fiber(void *arg)
{
	struct usb_line *l = arg;
	struct node *n = l->n;
	char server[REC_PATH_MAX];
	struct hci_error err;
	int rc = look_up(l, server, &err);

	if (!rc && n->stopping)
		rc = err_set(&err, HCI_E_CLOSED, "node %s: its service is being stopped", n->name);
	if (rc) {
		rpc_stream_refuse(l->s, rc, err.message);
	} else {
		end_lines(n, l->vm, l->usb, l, l->peer);
		end_own(n, l->vm, l->usb);
		l->relay = rpc_relay_in(n->e, l->s, server, &(struct rpc_relay_opts){ .on_over = on_line_over, .arg = l });
	}
	l->s = NULL;
	if (!l->relay)
		line_free(l, NULL);
	vm_fiber_end(n);
}

static bool read_args(struct usb_line *l, struct rd *r)
{
	uint32_t pairs = rd_map(r);

	while (pairs-- && !r->bad) {
		struct rd_key k = rd_key(r);

		if (rd_is(k, "vm"))
			rd_strcpy(r, l->vm, sizeof(l->vm));
		else if (rd_is(k, "usb"))
			rd_strcpy(r, l->usb, sizeof(l->usb));
		else
			rd_skip(r);
	}
	return !r->bad && !name_check(l->vm, "VM", NULL) && !name_check(l->usb, "USB device", NULL);
}

static void on_stream(void *arg, struct rpc_stream *s, struct rd *args)
{
	struct node_vm_state *vms = arg;
	bool room = vms->n_usb_lines < LINES_MAX;
	struct usb_line *l = room ? MEM_NEW(struct usb_line) : NULL;

	if (!l) {
		rpc_stream_refuse(s, room ? HCI_E_NOMEM : HCI_E_BUSY, room ? "out of memory" : "too many USB devices of this node are in use");
		return;
	}
	l->n = vms->n;
	l->s = s;
	list_push(&vms->usb_lines, &l->link);
	vms->n_usb_lines++;
	snprintf(l->peer, sizeof(l->peer), "%s", rpc_stream_peer(s));
	if (!read_args(l, args))
		rpc_stream_refuse(s, HCI_E_PROTO, "what the stream is for cannot be read");
	else if (vm_fiber(l->n, line_fiber, l, "vm-usb"))
		rpc_stream_refuse(s, HCI_E_NOMEM, "out of memory");
	else
		return;
	line_free(l, NULL);
}

int vm_usb_register(struct node *n, struct hci_error *err)
{
	return rpc_stream_serve(core_rpc(n->core), SERVICE, on_stream, n->vms) ?
		       err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name) : 0;
}

void vm_usb_stop(struct node *n)
{
	struct hci_error why;

	err_set(&why, HCI_E_CLOSED, "node %s: its service is stopped", n->name);
	while (!list_empty(&n->vms->usb_lines))
		line_free(list_first(&n->vms->usb_lines, struct usb_line, link), &why);
}
