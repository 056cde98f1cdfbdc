/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls: sent when the connection and what they need are there, sent again after failures, ended once. Which errors of
 * etcd are worth another try is decided here (texts: etcd v3.4, etcdserver/api/v3rpc/rpctypes/error.go).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etcd.h"

#define RETRY_FIRST (20 * MS)
#define RETRY_MOST (500 * MS)

struct call *call_new(struct etcd *e, const struct call_kind *kind, const struct hci_store_request *rq)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->e = e;
	c->kind = kind;
	c->rq = rq;
	c->slot = -1;
	c->deadline = NEVER;
	return c;
}

void call_queue(struct etcd *e, struct call *c)
{
	TAILQ_INSERT_TAIL(&e->waiting, c, link);
	e->queued = true;
}

static void take_off(struct etcd *e, struct call *c)
{
	if (c->stream) {
		TAILQ_REMOVE(&e->sent, c, link);
		c->stream = NULL;
	} else {
		TAILQ_REMOVE(&e->waiting, c, link);
	}
}

static void call_free(struct call *c)
{
	buf_free(&c->resp);
	for (size_t i = 0; i < c->npages; i++)
		buf_free(&c->pages[i]);
	free(c->pages);
	kv_list_free(&c->kvs);
	free(c);
}

/* ---- ends ---- */

void call_end(struct etcd *e, struct call *c, struct hci_store_answer *a)
{
	take_off(e, c);
	a->size = sizeof(*a);
	if (c->kind->end)
		c->kind->end(e, c, a->code, a->code == HCI_E_UNAVAILABLE && c->attempts);
	if (c->rq)
		e->host->done(e->host->ctx, c->rq->tag, a);
	call_free(c);
}

void call_fail(struct etcd *e, struct call *c, int code, const char *fmt, ...)
{
	struct hci_store_answer a = { .code = code };
	char text[400];
	va_list ap;
	int n;

	n = snprintf(text, sizeof(text), "store %.100s: ", e->cfg.shown);
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof(text) - (size_t)n, fmt, ap);
	va_end(ap);
	a.message = text;
	call_end(e, c, &a);
}

/* Cancels what is under way. */
static void abandon(struct etcd *e, struct call *c)
{
	if (c->stream)
		h2_cancel(e->h2, c->stream);
}

static bool over(struct call_list *l, uint64_t now, struct call **out)
{
	TAILQ_FOREACH(*out, l, link)
		if ((*out)->deadline <= now)
			return true;
	return false;
}

void call_expire(struct etcd *e, uint64_t now)
{
	struct call *c;

	while (over(&e->waiting, now, &c) || over(&e->sent, now, &c)) {
		abandon(e, c);
		call_fail(e, c, HCI_E_UNAVAILABLE, "no answer in time%s%s; are most members of etcd up, and reachable?",
			  e->why.text[0] ? ": " : "", e->why.text);
	}
}

void call_cancel_all(struct etcd *e)
{
	struct call *c;

	while ((c = TAILQ_FIRST(&e->waiting)) || (c = TAILQ_FIRST(&e->sent))) {
		abandon(e, c);
		call_fail(e, c, HCI_E_CLOSED, "closed before the request was answered");
	}
}

/* ---- once more ---- */

static void back_to_waiting(struct etcd *e, struct call *c)
{
	take_off(e, c);
	c->got = false;
	c->resp.n = 0;
	call_queue(e, c);
}

void call_again(struct etcd *e, struct call *c)
{
	back_to_waiting(e, c);
	c->retry_at = 0;
}

void call_retry(struct etcd *e, struct call *c, uint64_t delay)
{
	back_to_waiting(e, c);
	c->unsure = true;
	c->retry_at = now_ns() + delay;
}

void call_nonsense(struct etcd *e, struct call *c)
{
	call_fail(e, c, HCI_E_PROTO, "%s answered what is no answer of etcd's", e->cfg.ep[e->ep].name);
}

static uint64_t pause_of(const struct call *c)
{
	uint64_t t = RETRY_FIRST << (c->attempts < 6 ? c->attempts : 6);

	return t < RETRY_MOST ? t : RETRY_MOST;
}

/* ---- errors ---- */

static const struct {
	const char *text;
	int code;
	const char *cure;
} hopeless[] = {
	{ "user name is empty", HCI_E_AUTH, "etcd wants a user: give auth-file=FILE in the URL" },
	{ "permission denied", HCI_E_AUTH, "grant the user read and write on the prefix of the URL, and on it with ~ appended" },
	{ "authentication failed", HCI_E_AUTH, "check the auth-file" },
	{ "space exceeded", HCI_E_NOSPACE, "compact and defragment etcd, or raise its --quota-backend-bytes, then etcdctl alarm disarm" },
	{ "request is too large", HCI_E_RANGE, "raise etcd's --max-request-bytes" },
	{ "too many operations", HCI_E_RANGE, "leave etcd's --max-txn-ops at 128 or more" },
};

static bool is_hopeless(struct etcd *e, struct call *c, int status, const char *text)
{
	for (size_t i = 0; i < sizeof(hopeless) / sizeof(*hopeless); i++) {
		if (!strstr(text, hopeless[i].text))
			continue;
		call_fail(e, c, hopeless[i].code, "%.120s: %s", text, hopeless[i].cure);
		return true;
	}
	if (status == GRPC_UNIMPLEMENTED)
		call_fail(e, c, HCI_E_VERSION, "%.120s: etcd 3.4 or newer is needed", text);
	else if (status == GRPC_INVALID_ARGUMENT || status == GRPC_NOT_FOUND || status == GRPC_FAILED_PRECONDITION ||
		 status == GRPC_OUT_OF_RANGE || status == GRPC_PERMISSION_DENIED)
		call_fail(e, c, HCI_E_INTERNAL, "etcd refused the request: %.200s", text);
	else
		return false;
	return true;
}

static void call_failed(struct etcd *e, struct call *c, int status, const char *text)
{
	/* Tokens end after some minutes, with the member that gave them, and when users are changed. */
	bool reauth = status == GRPC_UNAUTHENTICATED || strstr(text, "invalid auth token") ||
		      strstr(text, "revision in header is old");

	/* A gone connection says nothing about the call; whoever ended it has said why. */
	if (status != GRPC_LOST)
		fail(&e->why, HCI_E_UNAVAILABLE, "%s: %.200s", e->cfg.ep[e->ep].name, text);
	if (c->kind->error && c->kind->error(e, c, status, text))
		return;
	if (!reauth && is_hopeless(e, c, status, text))
		return;
	call_retry(e, c, status == GRPC_LOST ? 0 : pause_of(c));
	if (reauth) {
		e->token[0] = '\0';
		conn_again(e);
	} else if (strstr(text, "no leader") || strstr(text, "server stopped") || strstr(text, "not capable")) {
		conn_fail(e, HCI_E_UNAVAILABLE, text);
	}
}

/* ---- streams ---- */

static void on_message(void *arg, const void *p, size_t n)
{
	struct call *c = arg;

	if (c->got)
		return;
	buf_add(&c->resp, p, n);
	c->got = !c->resp.oom;
}

static void on_closed(void *arg, int status, const char *text)
{
	struct call *c = arg;
	struct etcd *e = c->e;

	if (status == GRPC_OK && c->got) {
		e->answered_at = now_ns();
		e->fails = 0;
		c->kind->done(e, c);
	} else if (c->resp.oom) {
		call_fail(e, c, HCI_E_NOMEM, "out of memory for an answer");
	} else {
		call_failed(e, c, status == GRPC_OK ? GRPC_UNKNOWN : status, status == GRPC_OK ? "an empty answer" : text);
	}
}

static const struct stream_ops call_stream = { on_message, on_closed };

static void send_one(struct etcd *e, struct call *c, uint64_t now)
{
	struct buf b = { 0 };
	struct stream *s;

	c->attempts++;
	c->kind->build(e, c, &b);
	s = h2_open(e->h2, c->kind->path, e->token[0] ? e->token : NULL, &b, true, &call_stream, c);
	if (!s) {
		call_fail(e, c, HCI_E_NOMEM, "out of memory for a request");
		return;
	}
	TAILQ_REMOVE(&e->waiting, c, link);
	c->stream = s;
	c->sent_at = now;
	TAILQ_INSERT_TAIL(&e->sent, c, link);
}

static void send_round(struct etcd *e, uint64_t now)
{
	struct call *c, *next;

	e->queued = false;
	for (c = TAILQ_FIRST(&e->waiting); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->retry_at > now || c->ask_session)
			continue;
		if (c->kind->clean && !session_clean(e))
			continue;
		if (c->kind->session && (!session_ready(e) || !slot_take(e, c)))
			continue;
		send_one(e, c, now);
	}
}

/* What a call needs first (a session, settling) is queued on the way, and goes out at once. */
void call_send_waiting(struct etcd *e, uint64_t now)
{
	do
		send_round(e, now);
	while (e->queued);
}

uint64_t call_next_time(struct etcd *e, uint64_t now)
{
	uint64_t t = NEVER;
	struct call *c;

	TAILQ_FOREACH(c, &e->waiting, link) {
		t = c->deadline < t ? c->deadline : t;
		if (c->retry_at > now && c->retry_at < t)
			t = c->retry_at;
	}
	TAILQ_FOREACH(c, &e->sent, link)
		t = c->deadline < t ? c->deadline : t;
	return t;
}
