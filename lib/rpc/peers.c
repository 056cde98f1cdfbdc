/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections by the node's name and a lane, made when somebody asks for one. After an attempt that failed
 * nobody tries again for a while, unless another lane has reached the node since. Owns the table, not the
 * calls on its connections.
 */
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "rpc/impl.h"

#define BUCKETS 64u
#define BACKOFF_MIN (50 * NS_PER_MS)
#define BACKOFF_MAX NS_PER_S
/* A connection that ended sooner than this after its hello counts as a failed attempt. */
#define LIVED (2 * BACKOFF_MAX)

struct peer {
	struct peer *next;
	struct rpc_conn *conn;
	uint64_t backoff; /* 0: the last attempt went well */
	uint64_t next_try;
	struct hci_error err; /* of the last attempt */
	unsigned lane;
	char node[HCI_NAME_MAX];
};

struct rpc_peers {
	struct rpc *rpc;
	int (*resolve)(void *arg, const char *node, char *addr, size_t cap);
	void *arg;
	struct peer *bucket[BUCKETS];
};

struct rpc_peers *rpc_peers_new(struct rpc *r,
				int (*resolve)(void *arg, const char *node, char *addr, size_t cap),
				void *arg)
{
	struct rpc_peers *p = MEM_NEW(struct rpc_peers);

	if (!p)
		return NULL;
	p->rpc = r;
	p->resolve = resolve;
	p->arg = arg;
	return p;
}

void rpc_peers_free(struct rpc_peers *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < BUCKETS; i++) {
		struct peer *it = p->bucket[i], *next;

		for (; it; it = next) {
			next = it->next;
			rpc_conn_unref(it->conn);
			mem_free(it);
		}
	}
	mem_free(p);
}

static struct peer **bucket(struct rpc_peers *p, const char *node, unsigned lane)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (const char *s = node; *s; s++)
		h = (h ^ (uint8_t)*s) * 16777619u;
	return &p->bucket[(h + lane) % BUCKETS];
}

static struct peer *known(struct rpc_peers *p, const char *node, unsigned lane)
{
	struct peer *it = *bucket(p, node, lane);

	while (it && (it->lane != lane || strcmp(it->node, node) != 0))
		it = it->next;
	return it;
}

static struct peer *find(struct rpc_peers *p, const char *node, unsigned lane)
{
	struct peer *it = known(p, node, lane), **head;

	if (it)
		return it;
	it = MEM_NEW(struct peer);
	if (!it)
		return NULL;
	snprintf(it->node, sizeof(it->node), "%s", node);
	it->lane = lane;
	head = bucket(p, node, lane);
	it->next = *head;
	*head = it;
	return it;
}

static void failed(struct peer *it, uint64_t when)
{
	it->backoff = it->backoff ? MIN(it->backoff * 2, BACKOFF_MAX) : BACKOFF_MIN;
	it->next_try = when + it->backoff;
}

/* The connection is over: was it worth the name? */
static void retire(struct peer *it)
{
	struct rpc_conn *c = it->conn;

	rpc_conn_error(c, &it->err);
	if (c->was_ready && c->closed_at - c->ready_at >= LIVED)
		it->backoff = 0;
	else
		failed(it, c->closed_at);
	it->conn = NULL;
	rpc_conn_unref(c);
}

/* Another lane has got to the node after this one's attempt failed: what it failed of is over. */
static bool reached_since(struct rpc_peers *p, const struct peer *it)
{
	uint64_t failed_at = it->next_try - it->backoff;

	for (unsigned lane = 0; lane < RPC_LANES + RPC_BULK_LANES; lane++) {
		const struct peer *other = known(p, it->node, lane);

		if (other && other->conn && rpc_conn_ok(other->conn) && other->conn->was_ready &&
		    other->conn->ready_at > failed_at)
			return true;
	}
	return false;
}

static struct rpc_conn *attempt(struct rpc_peers *p, struct peer *it, struct hci_error *err)
{
	char addr[256];
	int rc;

	if (rpc_is_self(p->rpc, it->node)) {
		it->conn = rpc_loop_connect(p->rpc, err);
		return it->conn ? rpc_conn_ref(it->conn) : NULL;
	}
	rc = p->resolve(p->arg, it->node, addr, sizeof(addr));
	if (rc < 0) {
		err_set(err, rc, "node %s: its address is not known", it->node);
		return NULL;
	}
	it->conn = rpc_connect(p->rpc, addr, it->node, &it->err);
	if (!it->conn) {
		failed(it, env_now(p->rpc->env));
		err_copy(err, &it->err, HCI_E_UNAVAILABLE);
		return NULL;
	}
	return rpc_conn_ref(it->conn);
}

static struct rpc_conn *get(struct rpc_peers *p, const char *node, unsigned lane, struct hci_error *err)
{
	/* With itself there is nothing to spread. */
	struct peer *it = find(p, node, rpc_is_self(p->rpc, node) ? 0 : lane);
	uint64_t now = env_now(p->rpc->env);

	if (!it) {
		err_set(err, HCI_E_NOMEM, "node %s: out of memory", node);
		return NULL;
	}
	if (it->conn && rpc_conn_ok(it->conn))
		return rpc_conn_ref(it->conn);
	if (it->conn)
		retire(it);
	if (it->backoff && now < it->next_try && !reached_since(p, it)) {
		/* A certificate that is not good is not good in a moment either. */
		err_set(err, it->err.code == HCI_E_AUTH ? HCI_E_AUTH : HCI_E_UNAVAILABLE,
			"node %s: next attempt to connect in %llu ms; the last one: %.300s", node,
			(unsigned long long)((it->next_try - now) / NS_PER_MS), it->err.message);
		return NULL;
	}
	return attempt(p, it, err);
}

struct rpc_conn *rpc_peers_get(struct rpc_peers *p, const char *node, struct hci_error *err)
{
	return get(p, node, 0, err);
}

struct rpc_conn *rpc_peers_lane(struct rpc_peers *p, const char *node, unsigned lane, struct hci_error *err)
{
	return get(p, node, lane % RPC_LANES, err);
}

struct rpc_conn *rpc_peers_bulk(struct rpc_peers *p, const char *node, unsigned lane, struct hci_error *err)
{
	return get(p, node, RPC_LANES + lane % RPC_BULK_LANES, err);
}

struct rpc_conn *rpc_peers_connect(struct rpc_peers *p, const char *node, struct hci_error *err)
{
	char addr[256];
	int rc;

	if (rpc_is_self(p->rpc, node)) {
		err_set(err, HCI_E_INVAL, "node %s: that is this node", node);
		return NULL;
	}
	rc = p->resolve(p->arg, node, addr, sizeof(addr));
	if (rc < 0) {
		err_set(err, rc, "node %s: its address is not known", node);
		return NULL;
	}
	return rpc_connect(p->rpc, addr, node, err);
}
