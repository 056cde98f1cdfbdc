/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watches, each a stream. One begins (and begins again, after a connection that broke) by asking for the store's
 * revision: a watch that is ahead of it belongs to a store that was restored, and etcd would let it wait silently.
 * Then it goes on after the last revision that was told; if etcd has compacted that away the watch is told that its place is lost.
 */
#include <stdlib.h>
#include <string.h>

#include "etcd.h"

#define RETRY (200 * MS)

static void watch_free(struct watch *w)
{
	if (w->check)
		w->check->watch = NULL;
	if (w->stream)
		h2_cancel(w->e->h2, w->stream);
	free(w);
}

/* Only this thread takes watches off the list; others add to it and mark them. */
static void drop_closed(struct etcd *e)
{
	struct watch *w, *next;

	pthread_mutex_lock(&e->lock);
	for (w = TAILQ_FIRST(&e->watches); w; w = next) {
		next = TAILQ_NEXT(w, link);
		if (!w->closed)
			continue;
		TAILQ_REMOVE(&e->watches, w, link);
		watch_free(w);
	}
	pthread_mutex_unlock(&e->lock);
}

void watch_free_all(struct etcd *e)
{
	struct watch *w;

	while ((w = TAILQ_FIRST(&e->watches))) {
		TAILQ_REMOVE(&e->watches, w, link);
		watch_free(w);
	}
}

/* ---- what comes ---- */

static void tell(struct watch *w, const struct hci_store_event *ev, size_t n, uint64_t revision)
{
	struct hci_store_change ch = {
		.size = sizeof(ch),
		.event_stride = sizeof(*ev),
		.events = ev,
		.nevents = (uint32_t)n,
		.lost = !n,
		.revision = revision,
	};

	w->pos = revision;
	w->e->host->changed(w->e->host->ctx, w->id, &ch);
}

static void start_again(struct watch *w, uint64_t delay)
{
	if (w->stream)
		h2_cancel(w->e->h2, w->stream);
	w->stream = NULL;
	w->retry_at = now_ns() + delay;
}

static struct hci_store_event *grown(struct hci_store_event *ev, size_t *cap)
{
	size_t want = *cap ? *cap * 2 : 16;
	struct hci_store_event *p = realloc(ev, want * sizeof(*ev));

	if (!p) {
		free(ev);
		return NULL;
	}
	*cap = want;
	return p;
}

/* etcd sends the changes in order, those of one revision in one message. False: nonsense, or no memory. */
static bool take_events(struct watch *w, struct watch_answer *a)
{
	struct hci_store_event *ev = NULL, next;
	size_t n = 0, cap = 0;

	while (msg_watch_event(a, strlen(w->e->cfg.prefix), &next)) {
		if (n && next.kv.mod_rev != ev[0].kv.mod_rev) {
			tell(w, ev, n, ev[0].kv.mod_rev);
			n = 0;
		}
		if (next.kv.mod_rev <= w->pos)
			continue;
		if (n == cap && !(ev = grown(ev, &cap)))
			return false;
		ev[n++] = next;
	}
	if (n && !a->events.bad)
		tell(w, ev, n, ev[0].kv.mod_rev);
	free(ev);
	return !a->events.bad;
}

static void on_message(void *arg, const void *p, size_t n)
{
	struct watch *w = arg;
	struct watch_answer a;

	if (!w->stream)
		return;
	if (!msg_watch_answer(p, n, &a)) {
		start_again(w, RETRY);
	} else if (a.canceled) {
		w->lost |= a.compact_revision != 0;
		fail(&w->e->why, HCI_E_UNAVAILABLE, "%s: watch: %s", w->e->cfg.ep[w->e->ep].name, a.reason);
		if (strstr(a.reason, "no leader"))
			conn_fail(w->e, HCI_E_UNAVAILABLE, a.reason);
		start_again(w, w->lost ? 0 : RETRY);
	} else if (!take_events(w, &a)) {
		start_again(w, RETRY);
	}
}

static void on_closed(void *arg, int status, const char *text)
{
	struct watch *w = arg;

	w->stream = NULL;
	w->retry_at = status == GRPC_LOST ? 0 : now_ns() + RETRY;
	if (strstr(text, "no leader"))
		conn_fail(w->e, HCI_E_UNAVAILABLE, text);
	else if (status == GRPC_UNAUTHENTICATED || strstr(text, "auth token")) {
		w->e->token[0] = '\0';
		conn_again(w->e);
	}
}

static const struct stream_ops watch_stream = { on_message, on_closed };

/* ---- beginning ---- */

static void open_stream(struct etcd *e, struct watch *w)
{
	struct buf b = { 0 };
	size_t m = pb_begin(&b, 1);

	pb_bytes(&b, 1, w->key.p, w->key.n);
	pb_bytes(&b, 2, w->end.p, w->end.n);
	pb_uint(&b, 3, w->pos + 1);
	pb_end(&b, m);
	w->stream = h2_open(e->h2, "/etcdserverpb.Watch/Watch", e->token[0] ? e->token : NULL, &b, false, &watch_stream, w);
	if (!w->stream)
		w->retry_at = now_ns() + RETRY;
}

void watch_checked(struct etcd *e, struct watch *w, bool ok, uint64_t revision)
{
	w->check = NULL;
	w->retry_at = ok ? 0 : now_ns() + RETRY;
	if (!ok || e->doom || e->state != CONN_READY)
		return;
	if (w->lost || w->pos > revision)
		tell(w, NULL, 0, revision);
	w->lost = false;
	open_stream(e, w);
}

static void check(struct etcd *e, struct watch *w)
{
	struct call *c = call_new(e, &kind_revision, NULL);

	if (!c) {
		w->retry_at = now_ns() + RETRY;
		return;
	}
	c->watch = w;
	w->check = c;
	call_queue(e, c);
}

void watch_step(struct etcd *e, uint64_t now)
{
	struct watch *w;

	drop_closed(e);
	if (e->state != CONN_READY)
		return;
	/* Others only add at the tail, which does not disturb the walk once the first is known. */
	pthread_mutex_lock(&e->lock);
	TAILQ_FOREACH(w, &e->watches, link)
		if (!w->stream && !w->check && now >= w->retry_at)
			check(e, w);
	pthread_mutex_unlock(&e->lock);
}

uint64_t watch_next_time(struct etcd *e)
{
	uint64_t t = NEVER;
	struct watch *w;

	pthread_mutex_lock(&e->lock);
	TAILQ_FOREACH(w, &e->watches, link)
		if (!w->stream && !w->check && w->retry_at < t)
			t = w->retry_at;
	pthread_mutex_unlock(&e->lock);
	return e->state == CONN_READY ? t : NEVER;
}
