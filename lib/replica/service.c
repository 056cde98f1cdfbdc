/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replica service: which disks it serves, the handles of each connection, opening and dropping.
 * A handle ends with its connection, with CLOSE, or with its disk; requests that are under way then
 * still end as they would have. Reads and writes are in service_io.c.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/uuid.h"
#include "env/fiber.h"
#include "replica/service.h"

void svc_reply(struct rpc_req *req, int status, const char *message)
{
	rpc_reply(req, status, message, NULL, NULL, 0, NULL, NULL);
}

static void reply_map(struct rpc_req *req, struct buf *b)
{
	rpc_reply(req, b->failed ? HCI_E_NOMEM : 0, NULL, b->failed ? NULL : b, NULL, 0, NULL,
		  NULL);
	buf_free(b);
}

/* ---- handles ---- */

static void handle_free(struct handle *h)
{
	list_del(&h->link);
	repl_slot_put(h->slot);
	mem_free(h);
}

void svc_handle_put(struct handle *h)
{
	if (--h->ops == 0 && h->closed)
		handle_free(h);
}

static void handle_close(struct handle *h)
{
	h->closed = true;
	if (h->ops == 0)
		handle_free(h);
}

static struct svc_conn *conn_find(struct rpc_conn *c)
{
	return *rpc_conn_slot(c);
}

struct handle *svc_handle(struct rpc_conn *c, uint64_t n)
{
	struct svc_conn *x = conn_find(c);

	if (!x || n >= x->n || !x->handles[n] || !x->handles[n]->d)
		return NULL;
	return x->handles[n];
}

/* What a token says: connection and number of the handle, then what only its owner knows. */
struct token {
	uint64_t conn, n;
	uint8_t secret[16];
};
_Static_assert(sizeof(struct token) == REPL_TOKEN, "on the wire");

static void token_make(struct handle *h, const struct rpc_conn *c, uint32_t n)
{
	struct token t = { .conn = rpc_conn_id(c), .n = n };

	env_random(h->s->e, t.secret, sizeof(t.secret));
	memcpy(h->token, &t, sizeof(t));
}

struct handle *svc_lent(struct repl_service *s, const void *token, uint32_t len)
{
	struct svc_conn *x;
	struct token t;

	if (len != sizeof(t))
		return NULL;
	memcpy(&t, token, sizeof(t));
	list_for_each(x, &s->conns, link) {
		struct handle *h = rpc_conn_id(x->conn) == t.conn && t.n < x->n ? x->handles[t.n] : NULL;

		if (h)
			return h->d && !memcmp(h->token, token, len) ? h : NULL;
	}
	return NULL;
}

static struct svc_conn *conn_get(struct repl_service *s, struct rpc_conn *c)
{
	struct svc_conn *x = conn_find(c);

	if (x)
		return x;
	x = MEM_NEW(struct svc_conn);
	if (!x)
		return NULL;
	x->conn = c;
	list_push(&s->conns, &x->link);
	*rpc_conn_slot(c) = x;
	return x;
}

static void conn_end(struct svc_conn *x)
{
	*rpc_conn_slot(x->conn) = NULL;
	for (uint32_t i = 0; i < x->n; i++) {
		if (x->handles[i])
			handle_close(x->handles[i]);
	}
	list_del(&x->link);
	mem_free(x->handles);
	mem_free(x);
}

static void on_conn_closed(void *arg, struct rpc_conn *c)
{
	struct svc_conn *x = conn_find(c);

	(void)arg;
	if (x)
		conn_end(x);
}

/* A free place in the connection's table. */
static int handle_place(struct svc_conn *x, uint32_t *n)
{
	uint32_t cap = x->n ? x->n * 2 : 8;
	struct handle **h;

	for (*n = 0; *n < x->n; ++*n) {
		if (!x->handles[*n])
			return 0;
	}
	if (cap > HANDLES_MAX)
		return HCI_E_BUSY;
	h = mem_realloc(x->handles, cap * sizeof(struct handle *));
	if (!h)
		return HCI_E_NOMEM;
	memset(h + x->n, 0, (cap - x->n) * sizeof(struct handle *));
	x->handles = h;
	x->n = cap;
	return 0;
}

/* ---- open, drop, info: from a fiber of their own ---- */

struct call {
	struct repl_service *s;
	struct rpc_req *req;
	struct uuid disk, volume;
	uint64_t gen, segsize, handle;
	uint32_t segment;
	bool ro, has_handle;
};

static bool parse(struct rpc_req *req, struct call *c)
{
	struct rd *r = &req->args;
	uint32_t n = rd_map(r);

	while (n--) {
		struct rd_key k = rd_key(r);

		if (rd_is(k, "disk"))
			rd_uuid(r, &c->disk);
		else if (rd_is(k, "volume"))
			rd_uuid(r, &c->volume);
		else if (rd_is(k, "gen"))
			c->gen = rd_u64(r);
		else if (rd_is(k, "segsize"))
			c->segsize = rd_u64(r);
		else if (rd_is(k, "segment"))
			c->segment = rd_u32(r);
		else if (rd_is(k, "ro"))
			c->ro = rd_bool(r);
		else if (rd_is(k, "handle"))
			c->handle = rd_u64(r), c->has_handle = true;
		else
			rd_skip(r);
	}
	return !r->bad;
}

struct svc_disk *svc_disk(struct repl_service *s, const struct uuid *u)
{
	struct svc_disk *x;

	list_for_each(x, &s->disks, link) {
		if (uuid_eq(&x->uuid, u))
			return x;
	}
	return NULL;
}

/* The caller's disk; NULL: answered. */
static struct repl_disk *call_disk(struct call *c)
{
	struct svc_disk *x = c->s->dead ? NULL : svc_disk(c->s, &c->disk);
	char u[HCI_UUID_STR], text[96];

	if (x)
		return x->d;
	uuid_print(&c->disk, u);
	snprintf(text, sizeof(text), "disk %s is not served by this node", u);
	svc_reply(c->req, HCI_E_UNAVAILABLE, text);
	return NULL;
}

static void call_end(struct call *c)
{
	struct repl_service *s = c->s;

	mem_free(c);
	svc_end(s);
}

static int keep(struct call *c, struct repl_disk *d, struct repl_slot *slot, uint32_t *n)
{
	struct svc_conn *x = conn_get(c->s, c->req->conn);
	struct handle *h = MEM_NEW(struct handle);
	int rc = x && h ? handle_place(x, n) : HCI_E_NOMEM;

	if (rc) {
		mem_free(h);
		return rc;
	}
	h->s = c->s;
	h->slot = slot;
	h->d = d;
	h->lane = svc_disk(c->s, &c->disk)->lane;
	token_make(h, c->req->conn, *n);
	list_push(&c->s->handles, &h->link);
	x->handles[*n] = h;
	return 0;
}

/* The disk or the connection may have gone while the fiber waited. */
static bool still_there(struct call *c, const struct repl_disk *d)
{
	struct svc_disk *x = c->s->dead ? NULL : svc_disk(c->s, &c->disk);

	return x && x->d == d && rpc_conn_ok(c->req->conn);
}

static void open_fiber(void *arg)
{
	struct call *c = arg;
	struct repl_disk *d = call_disk(c);
	struct repl_slot_state st = { 0 };
	struct repl_slot *slot = NULL;
	struct hci_error err = { 0 };
	struct buf b = BUF_INIT;
	uint32_t n = 0;
	int rc;

	if (!d) {
		call_end(c);
		return;
	}
	rc = c->ro ? repl_slot_open_ro(d, &c->volume, &slot, &st, &err)
		   : repl_slot_open(d, &c->volume, c->gen, c->segsize, &slot, &st, &err);
	if (!rc && !still_there(c, d))
		rc = err_set(&err, HCI_E_NOTFOUND, "the disk was taken out of service meanwhile");
	if (!rc) {
		rc = keep(c, d, slot, &n);
		if (rc)
			err_set(&err, rc,
				"no room for one more handle of this connection: close some");
	}
	if (rc) {
		repl_slot_put(slot);
		svc_reply(c->req, rc, err.message);
	} else {
		pk_map(&b, c->ro ? 4 : 5);
		pk_kv_u64(&b, "handle", n);
		pk_kv_u64(&b, "gen", st.generation);
		pk_kv_u64(&b, "last", st.last_seq);
		pk_kv_u64(&b, "stable", st.stable_seq);
		if (!c->ro) {
			pk_str(&b, "token");
			pk_bin(&b, svc_handle(c->req->conn, n)->token, REPL_TOKEN);
		}
		reply_map(c->req, &b);
	}
	call_end(c);
}

/* On behalf of an opening: as late as it may come, it does not touch what a later opening wrote. */
static void drop_by_handle(struct call *c)
{
	struct handle *h = c->s->dead ? NULL : svc_handle(c->req->conn, c->handle);
	struct hci_error err = { 0 };
	int rc;

	if (!h || !h->d || c->segment == UINT32_MAX) {
		svc_reply(c->req, h ? HCI_E_INVAL : HCI_E_NOTFOUND, "no such handle, or no segment named");
		return;
	}
	h->ops++;
	rc = repl_slot_drop(h->slot, c->segment, &err);
	svc_handle_put(h);
	svc_reply(c->req, rc, rc ? err.message : NULL);
}

static void drop_fiber(void *arg)
{
	struct call *c = arg;
	struct repl_disk *d = c->has_handle ? NULL : call_disk(c);
	struct hci_error err = { 0 };

	if (c->has_handle) {
		drop_by_handle(c);
	} else if (d) {
		int rc = repl_drop(d, &c->volume, c->segment, c->gen, &err);

		svc_reply(c->req, rc, rc ? err.message : NULL);
	}
	call_end(c);
}

static void svc_info(void *arg, struct rpc_req *req)
{
	struct call c = { .s = arg, .req = req };
	struct repl_disk_info i;
	struct buf b = BUF_INIT;
	struct repl_disk *d;

	if (!parse(req, &c)) {
		svc_reply(req, HCI_E_PROTO, "the body is not what the method takes");
		return;
	}
	d = call_disk(&c);
	if (!d)
		return;
	repl_disk_info(d, &i);
	pk_map(&b, 9);
	pk_kv_uuid(&b, "disk", &i.uuid);
	pk_kv_str(&b, "path", i.path);
	pk_kv_bool(&b, "failed", i.failed);
	pk_kv_bool(&b, "full", i.full);
	pk_kv_u64(&b, "capacity", i.capacity);
	pk_kv_u64(&b, "free", i.free);
	pk_kv_u64(&b, "log_size", i.log_size);
	pk_kv_u64(&b, "log_used", i.log_used);
	pk_kv_u64(&b, "segments", i.segments);
	reply_map(req, &b);
}

static void spawn(struct repl_service *s, struct rpc_req *req, void (*fn)(void *arg),
		  const char *name)
{
	struct call *c = MEM_NEW(struct call);

	if (!c) {
		svc_reply(req, HCI_E_NOMEM, "out of memory for a request");
		return;
	}
	c->s = s;
	c->req = req;
	c->segment = UINT32_MAX;
	if (!parse(req, c)) {
		mem_free(c);
		svc_reply(req, HCI_E_PROTO, "the body is not what the method takes");
		return;
	}
	s->open++;
	if (fiber_spawn(s->e, fn, c, name)) {
		svc_reply(req, HCI_E_NOMEM, "out of memory for a fiber");
		call_end(c);
	}
}

static void svc_open(void *arg, struct rpc_req *req)
{
	spawn(arg, req, open_fiber, "replica-open");
}

static void svc_drop(void *arg, struct rpc_req *req)
{
	spawn(arg, req, drop_fiber, "replica-drop");
}

static void svc_close(void *arg, struct rpc_req *req)
{
	struct svc_conn *x = conn_find(req->conn);
	bool bad = rd_array(&req->args) < 1;
	uint64_t n = rd_u64(&req->args);

	(void)arg;
	if (bad || req->args.bad) {
		svc_reply(req, HCI_E_PROTO, "the body is not what the method takes");
		return;
	}
	if (!x || n >= x->n || !x->handles[n]) {
		svc_reply(req, HCI_E_NOTFOUND, "no such handle on this connection");
		return;
	}
	handle_close(x->handles[n]);
	x->handles[n] = NULL;
	svc_reply(req, 0, NULL);
}

/* ---- the service ---- */

static int register_all(struct repl_service *s)
{
	static const struct {
		uint32_t method;
		void (*fn)(void *arg, struct rpc_req *req);
	} m[] = {
		{ REPL_RPC_OPEN, svc_open },       { REPL_RPC_CLOSE, svc_close },
		{ REPL_RPC_READ, svc_read },       { REPL_RPC_WRITE, svc_write },
		{ REPL_RPC_ZERO, svc_zero },       { REPL_RPC_STABLE, svc_stable },
		{ REPL_RPC_REGIONS, svc_regions }, { REPL_RPC_DROP, svc_drop },
		{ REPL_RPC_INFO, svc_info },       { REPL_RPC_ROTTEN, svc_rotten },
		{ REPL_RPC_PULL, svc_pull },       { REPL_RPC_LEND, svc_read },
	};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(m) && !rc; i++)
		rc = rpc_register(s->rpc, m[i].method, m[i].fn, s);
	if (!rc)
		rpc_on_conn_closed(s->rpc, on_conn_closed, s);
	return rc;
}

struct repl_service *repl_service_new(struct env *e, struct rpc *r)
{
	struct repl_service *s = MEM_NEW(struct repl_service);

	if (!s)
		return NULL;
	s->e = e;
	s->rpc = r;
	list_init(&s->disks);
	list_init(&s->conns);
	list_init(&s->handles);
	list_init(&s->free_ios);
	list_init(&s->pulls);
	list_init(&s->pulls_waiting);
	s->open = 1; /* ours */
	if (register_all(s)) {
		repl_service_free(s);
		return NULL;
	}
	return s;
}

void svc_end(struct repl_service *s)
{
	if (--s->open > 0)
		return;
	svc_io_fini(s);
	mem_free(s);
}

void repl_service_free(struct repl_service *s)
{
	if (!s)
		return;
	rpc_forget(s->rpc, s);
	while (!list_empty(&s->disks))
		repl_service_remove(s, list_first(&s->disks, struct svc_disk, link)->d);
	while (!list_empty(&s->conns))
		conn_end(list_first(&s->conns, struct svc_conn, link));
	s->dead = true;
	svc_pulls_cancel(s);
	svc_end(s);
}

void repl_service_peers(struct repl_service *s, struct rpc_peers *p)
{
	s->peers = p;
}

void repl_service_share(struct repl_service *s, uint32_t busy)
{
	s->lane_busy = busy;
}

static void tell_share(struct repl_service *s, struct svc_disk *x)
{
	struct metrics *m = env_metrics(s->e);
	char label[64], id[HCI_UUID_STR];

	if (!m)
		return;
	uuid_print(&x->uuid, id);
	snprintf(label, sizeof(label), "disk=\"%s\"", id);
	x->m_depth = metrics_gauge(m, "hci_replica_copy_depth",
				   "Requests of rebuilds that a disk works on at a time while users have some.", label);
	metric_set(x->m_depth, lane_share(x->lane));
}

int repl_service_add(struct repl_service *s, struct repl_disk *d)
{
	struct repl_disk_info i;
	struct svc_disk *x;

	repl_disk_info(d, &i);
	if (svc_disk(s, &i.uuid))
		return HCI_E_EXISTS;
	x = MEM_NEW(struct svc_disk);
	if (x)
		x->lane = lane_new(s->e, s->lane_busy);
	if (!x || !x->lane) {
		mem_free(x);
		return HCI_E_NOMEM;
	}
	x->d = d;
	x->uuid = i.uuid;
	list_push(&s->disks, &x->link);
	tell_share(s, x);
	return 0;
}

/* Places of its handles in the tables stay taken, and answer NOTFOUND, until the connection ends.
 */
void repl_service_remove(struct repl_service *s, struct repl_disk *d)
{
	struct svc_disk *x, *tmp;
	struct handle *h;

	list_for_each_safe(x, tmp, &s->disks, link) {
		if (x->d != d)
			continue;
		list_del(&x->link);
		lane_close(x->lane);
		metrics_remove(env_metrics(s->e), x->m_depth);
		mem_free(x);
	}
	list_for_each(h, &s->handles, link) {
		if (h->d == d)
			h->d = NULL;
	}
}
