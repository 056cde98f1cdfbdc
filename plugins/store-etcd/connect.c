/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection: which member, TLS, login, is it the right cluster, does it still answer. A member that fails in any of
 * these is left for the next one; after a whole round without success there is a pause.
 */
#include <stdio.h>
#include <string.h>

#include "etcd.h"

#define READY_WITHIN (4 * SEC)  /* from the first packet to the first answer */
#define TCP_WITHIN (1 * SEC)    /* of that, to be connected: no answer at all is a machine that is off */
#define STALL_FIRST (1500 * MS) /* without an answer, though one is waited for; doubled while nobody answers */
#define STALL_MOST (8 * SEC)
#define PAUSE_FIRST (50 * MS)
#define PAUSE_MOST (1 * SEC)

static const char *name(const struct etcd *e)
{
	return e->cfg.ep[e->ep].name;
}

void conn_fail(struct etcd *e, int code, const char *why)
{
	if (e->doom == DOOM_NEXT)
		return;
	e->doom = DOOM_NEXT;
	fail(&e->why, code, "%s: %.200s", name(e), why);
}

void conn_again(struct etcd *e)
{
	if (!e->doom)
		e->doom = DOOM_AGAIN;
}

void conn_close(struct etcd *e)
{
	struct h2 *h = e->h2;

	e->h2 = NULL;
	e->state = CONN_DOWN;
	e->setup = NULL;
	h2_free(h, "the connection was lost");
	net_stop(&e->net);
	e->more = false;
}

static void next_member(struct etcd *e)
{
	e->fails++;
	e->tries++;
	e->ep = (e->ep + 1) % e->cfg.nep;
	if (e->why.code == HCI_E_AUTH)
		e->token[0] = '\0';
	/* What is wrong with all of them will not mend by waiting. */
	if (!e->open_over && e->fails >= e->cfg.nep && e->why.code != HCI_E_UNAVAILABLE)
		engine_opened(e, &e->why);
	if (!e->told_down && e->open_over) {
		say(e, HCI_LOG_WARN, "%s; trying the other members", e->why.text);
		e->told_down = true;
	}
}

static uint64_t pause_of(const struct etcd *e)
{
	unsigned rounds = e->fails / e->cfg.nep;
	uint64_t t = rounds ? PAUSE_FIRST << (rounds < 6 ? rounds - 1 : 5) : 0;

	return t < PAUSE_MOST ? t : PAUSE_MOST;
}

static void carry_out(struct etcd *e, uint64_t now)
{
	bool next = e->doom == DOOM_NEXT;

	conn_close(e);
	e->doom = DOOM_NONE;
	if (next)
		next_member(e);
	e->conn_at = now + pause_of(e);
}

/* ---- login ---- */

static void hello(struct etcd *e);

static void auth_message(void *arg, const void *p, size_t n)
{
	struct etcd *e = arg;
	struct pb_in in = pb_of(p, n);
	struct pb_field f;

	while (pb_next(&in, &f))
		if (f.number == 2 && f.sub.p && pb_len(&f.sub) < sizeof(e->token))
			snprintf(e->token, sizeof(e->token), "%.*s", (int)pb_len(&f.sub), (const char *)f.sub.p);
}

static void auth_closed(void *arg, int status, const char *text)
{
	struct etcd *e = arg;

	e->setup = NULL;
	if (e->state != CONN_AUTH)
		return;
	/* A user without need for one: fine. */
	if ((status == GRPC_OK && e->token[0]) || strstr(text, "authentication is not enabled"))
		hello(e);
	else if (status == GRPC_INVALID_ARGUMENT || status == GRPC_PERMISSION_DENIED || status == GRPC_UNAUTHENTICATED)
		conn_fail(e, HCI_E_AUTH, text);
	else
		conn_fail(e, HCI_E_UNAVAILABLE, status == GRPC_OK ? "login: an empty answer" : text);
}

static const struct stream_ops auth_stream = { auth_message, auth_closed };

static void setup_call(struct etcd *e, enum conn_state state, const char *path, struct buf *b, const struct stream_ops *ops)
{
	e->state = state;
	e->setup = h2_open(e->h2, path, e->token[0] && state != CONN_AUTH ? e->token : NULL, b, true, ops, e);
	if (!e->setup)
		conn_fail(e, HCI_E_NOMEM, "out of memory");
}

static void login(struct etcd *e)
{
	struct buf b = { 0 };

	if (!e->cfg.user[0] || e->token[0]) {
		hello(e);
		return;
	}
	pb_bytes(&b, 1, e->cfg.user, strlen(e->cfg.user));
	pb_bytes(&b, 2, e->cfg.password, strlen(e->cfg.password));
	setup_call(e, CONN_AUTH, "/etcdserverpb.Auth/Authenticate", &b, &auth_stream);
}

/* ---- is it the right cluster, and does it have a leader? ---- */

static void hello_message(void *arg, const void *p, size_t n)
{
	struct etcd *e = arg;
	struct hdr h;

	if (e->state != CONN_HELLO)
		return;
	if (!msg_header(p, n, &h) || !h.cluster) {
		conn_fail(e, HCI_E_PROTO, "its answer is none of etcd's");
		return;
	}
	if (e->cluster && e->cluster != h.cluster) {
		conn_fail(e, HCI_E_UNAVAILABLE,
			  "it is of another cluster than the one that was opened (or of one restored from a backup: then start "
			  "this program again)");
		return;
	}
	e->cluster = h.cluster;
}

static void hello_closed(void *arg, int status, const char *text)
{
	struct etcd *e = arg;

	e->setup = NULL;
	if (e->state != CONN_HELLO || e->doom)
		return;
	if (status == GRPC_UNAUTHENTICATED || strstr(text, "auth token") || strstr(text, "revision in header is old")) {
		e->token[0] = '\0';
		conn_fail(e, HCI_E_UNAVAILABLE, text);
	} else if (strstr(text, "permission denied")) {
		conn_fail(e, HCI_E_AUTH, "permission denied: grant the user read and write on the prefix of the URL, and on it with ~ appended");
	} else if (strstr(text, "user name is empty")) {
		conn_fail(e, HCI_E_AUTH, "it wants a user: give auth-file=FILE in the URL");
	} else if (status != GRPC_OK || !e->cluster) {
		conn_fail(e, status == GRPC_UNIMPLEMENTED ? HCI_E_PROTO : HCI_E_UNAVAILABLE, text);
	} else {
		e->state = CONN_READY;
		e->answered_at = now_ns();
		if (e->told_down)
			say(e, HCI_LOG_INFO, "connected to %s", name(e));
		e->told_down = false;
		engine_opened(e, NULL);
	}
}

static const struct stream_ops hello_stream = { hello_message, hello_closed };

static void hello(struct etcd *e)
{
	struct buf b = { 0 };
	struct key k;

	key_set(&k, e->cfg.prefix, "");
	msg_range(&b, &(struct range_ask){ .key = &k, .serializable = true, .count_only = true });
	setup_call(e, CONN_HELLO, "/etcdserverpb.KV/Range", &b, &hello_stream);
}

/* ---- steps ---- */

static void start(struct etcd *e, uint64_t now)
{
	e->conn_at = now + READY_WITHIN;
	e->state = CONN_CONNECTING;
	if (net_start(&e->net, &e->cfg, &e->cfg.ep[e->ep], e->tries / e->cfg.nep))
		conn_fail(e, e->net.why.code, e->net.why.text);
}

static void connecting(struct etcd *e)
{
	int rc = net_step(&e->net);

	if (rc < 0) {
		conn_fail(e, e->net.why.code, e->net.why.text);
	} else if (rc > 0) {
		e->h2 = h2_new(&e->net, name(e), e->cfg.tls);
		if (e->h2)
			login(e);
		else
			conn_fail(e, HCI_E_NOMEM, "out of memory");
	}
}

/* It is there, but does not answer what others would: cut off from the rest, or its machine hangs. */
static void check_stall(struct etcd *e, uint64_t now)
{
	struct call *c = TAILQ_FIRST(&e->sent); /* the oldest */
	uint64_t since;
	char why[60];

	if (!c)
		return;
	since = c->sent_at > e->answered_at ? c->sent_at : e->answered_at;
	if (now < since + e->stall)
		return;
	snprintf(why, sizeof(why), "no answer for %llu ms", (unsigned long long)((now - since) / MS));
	e->stall = e->stall * 2 < STALL_MOST ? e->stall * 2 : STALL_MOST;
	conn_fail(e, HCI_E_UNAVAILABLE, why);
}

void conn_flush(struct etcd *e)
{
	if (e->h2 && !e->doom && !e->net.want_write && h2_flush(e->h2))
		conn_fail(e, e->net.why.code, e->net.why.text);
}

void conn_step(struct etcd *e, uint64_t now)
{
	int rc;

	if (!e->stall || (e->answered_at + e->stall > now && !e->fails))
		e->stall = STALL_FIRST;
	if (e->state == CONN_DOWN && now >= e->conn_at)
		start(e, now);
	if (e->state == CONN_CONNECTING && !e->doom)
		connecting(e);
	if (e->h2 && !e->doom) {
		rc = h2_step(e->h2);
		e->more = rc > 0;
		if (rc < 0)
			conn_fail(e, e->net.why.code, e->net.why.text);
	}
	if (!e->doom && e->state != CONN_DOWN && e->state != CONN_READY && now >= e->conn_at)
		conn_fail(e, HCI_E_UNAVAILABLE, "no answer within 4 s");
	if (!e->doom && e->state == CONN_CONNECTING && e->net.connecting && now + READY_WITHIN >= e->conn_at + TCP_WITHIN)
		conn_fail(e, HCI_E_UNAVAILABLE, "it cannot be reached");
	if (!e->doom && e->state == CONN_READY)
		check_stall(e, now);
	if (e->doom)
		carry_out(e, now);
}
