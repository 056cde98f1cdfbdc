/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clients of the simulated store: how requests and answers travel between a node and the store, and
 * what becomes of them when the way is cut, one is lost, or the node dies. What a request does is
 * store_sim_data.c's.
 *
 * Reads are sent again until the deadline. A write whose answer does not come is not: it ends with
 * HCI_E_UNAVAILABLE and may have happened, also when the node died meanwhile.
 */
#include "store/store_sim_impl.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

#define AGAIN_NS (50 * NS_PER_MS)

struct client {
	struct simstore *ss;
	struct sim_node *node;
	struct store *store;
	struct list ops; /* struct travel, by mine */
};

/* A request on its way there or back. */
struct travel {
	struct sim_op op;
	struct simstore *ss;
	struct list all, mine;
	struct client *client;
	struct store_req *req;
	bool applied, lost;
	bool loses_request, loses_answer; /* injected, once */
};

struct simwatch {
	struct sim_op op;
	struct simstore *ss;
	struct list all; /* ss->watches */
	struct store *store;
	uint64_t id;
};

static bool is_cut(const struct simstore *ss, const struct sim_node *n)
{
	return ss->cut[n->index];
}

static uint64_t latency(struct simstore *ss)
{
	uint64_t ns = sim_range(ss->sim, ss->lat_min, ss->lat_max);

	return sim_chance(ss->sim, 20) ? ns * 20 : ns;
}

static bool is_write(const struct store_req *req)
{
	return req->kind != STORE_REQ_GET && req->kind != STORE_REQ_RANGE;
}

/* ---- requests ---- */

static void travel_free(struct travel *t)
{
	sim_op_end(&t->op);
	list_del(&t->all);
	list_del(&t->mine);
	free(t);
}

static void apply(struct travel *t)
{
	struct mem_arena *prev = mem_arena_set(t->op.ev.node->arena);

	simdata_apply(t->ss, t->req);
	mem_arena_set(prev);
	t->applied = true;
}

static void finish(struct travel *t)
{
	struct store_req *req = t->req;
	struct sim_node *n = t->op.ev.node;
	struct sim_enter en;

	travel_free(t);
	en = sim_enter(n);
	store_req_done(req);
	sim_leave(n, en);
}

/* Nobody will ever know. The caller learns it when the connection breaks, or by his own timeout. */
static void lose(struct travel *t)
{
	struct sim *s = t->ss->sim;
	struct store_req *req = t->req;
	uint64_t now = sim_node_now(t->op.ev.node);

	if (!is_write(req) && now + AGAIN_NS < req->deadline) {
		store_result_free(&req->result);
		t->applied = false;
		sim_ev_in(&t->op.ev, sim_range(s, AGAIN_NS / 2, AGAIN_NS * 2));
		return;
	}
	t->lost = true;
	sim_ev_in(&t->op.ev, now < req->deadline ? sim_range(s, 0, req->deadline - now) : 0);
}

static void arrived(struct sim_ev *ev)
{
	struct travel *t = container_of(ev, struct travel, op.ev);
	struct simstore *ss = t->ss;
	bool cut = is_cut(ss, ev->node);

	if (t->lost) {
		store_result_free(&t->req->result);
		t->req->code = err_set(&t->req->err, HCI_E_UNAVAILABLE, "store (sim): the connection broke");
		finish(t);
	} else if (!t->applied) {
		if (cut || t->loses_request || sim_chance(ss->sim, ss->lose_before)) {
			t->loses_request = false;
			lose(t);
			return;
		}
		apply(t);
		sim_ev_in(ev, latency(ss));
	} else if (cut || t->loses_answer || sim_chance(ss->sim, ss->lose_after)) {
		t->loses_answer = false;
		lose(t);
	} else {
		finish(t);
	}
}

/* The node died: what it had sent may still arrive. */
static void travel_drop(struct sim_op *op, bool power_loss)
{
	struct travel *t = container_of(op, struct travel, op);

	(void)power_loss;
	if (!t->applied && !t->lost && is_write(t->req) && !is_cut(t->ss, op->ev.node) &&
	    sim_chance(t->ss->sim, 500))
		apply(t);
	travel_free(t);
}

static void client_submit(void *d, struct store_req *req)
{
	struct client *c = d;
	struct travel *t = sim_calloc(1, sizeof(*t));

	t->ss = c->ss;
	t->client = c;
	t->req = req;
	t->op.drop = travel_drop;
	t->loses_request = sim_fail_now(c->ss->sim, SIM_FAIL_STORE);
	t->loses_answer = sim_fail_now(c->ss->sim, SIM_FAIL_STORE_ANSWER);
	list_push(&c->ss->ops, &t->all);
	list_push(&c->ops, &t->mine);
	sim_op_start(&t->op, c->node, SIM_EV_STORE, arrived, latency(c->ss));
}

/* ---- watches ---- */

static void deliver(struct sim_ev *ev);

static void watch_drop(struct sim_op *op, bool power_loss)
{
	struct simwatch *sw = container_of(op, struct simwatch, op);

	(void)power_loss;
	sim_op_end(&sw->op);
	list_del(&sw->all);
	free(sw);
}

static int client_watch(void *d, struct store_watch *w)
{
	struct client *c = d;
	struct simwatch *sw = sim_calloc(1, sizeof(*sw));

	sw->ss = c->ss;
	sw->store = c->store;
	sw->id = w->id;
	sw->op.drop = watch_drop;
	w->driver_priv = sw;
	list_push(&c->ss->watches, &sw->all);
	sim_op_start(&sw->op, c->node, SIM_EV_STORE, deliver, latency(c->ss));
	return 0;
}

static void client_unwatch(void *d, struct store_watch *w)
{
	(void)d;
	watch_drop(&((struct simwatch *)w->driver_priv)->op, false);
}

/* Matching events of the next revision, from index *at on; 0 at the end. */
static size_t next_batch(struct simstore *ss, const char *prefix, size_t *at, struct store_event *out, uint64_t *rev)
{
	size_t n = 0;

	while (n == 0 && *at < ss->nhist) {
		*rev = ss->hist[*at].kv.mod_rev;
		for (; *at < ss->nhist && ss->hist[*at].kv.mod_rev == *rev; ++*at) {
			if (store_key_matches(ss->hist[*at].kv.key, prefix))
				out[n++] = ss->hist[*at];
		}
	}
	return n;
}

/* Most events that one revision can hold. */
static size_t widest(const struct simstore *ss, size_t at)
{
	size_t max = 0, run = 0;

	for (size_t k = at; k < ss->nhist; k++) {
		run = k > at && ss->hist[k].kv.mod_rev == ss->hist[k - 1].kv.mod_rev ? run + 1 : 1;
		max = MAX(max, run);
	}
	return max;
}

/* Runs on the node. Sometimes stops in the middle, the rest comes later. */
static void deliver_batches(struct simstore *ss, struct store *store, uint64_t id)
{
	struct store_watch *w = store_watch_find(store, id);
	size_t at = simdata_after(ss, w->rev), n;
	struct store_event *ev = sim_calloc(widest(ss, at), sizeof(*ev));
	uint64_t rev = ss->rev;

	while (w && (n = next_batch(ss, w->prefix, &at, ev, &rev)) > 0) {
		store_watch_deliver(w, ev, n, rev);
		w = store_watch_find(store, id);
		if (w && at < ss->nhist && sim_chance(ss->sim, 100)) {
			sim_ev_in(&((struct simwatch *)w->driver_priv)->op.ev, latency(ss));
			free(ev);
			return;
		}
	}
	if (w && at == ss->nhist)
		store_watch_progress(w, ss->rev);
	free(ev);
}

static void deliver(struct sim_ev *ev)
{
	struct simwatch *sw = container_of(ev, struct simwatch, op.ev);
	struct simstore *ss = sw->ss;
	struct sim_node *n = ev->node;
	struct store_watch *w;
	struct sim_enter en;

	if (is_cut(ss, n)) {
		sim_ev_in(ev, sim_range(ss->sim, AGAIN_NS, AGAIN_NS * 4));
		return;
	}
	en = sim_enter(n);
	w = store_watch_find(sw->store, sw->id);
	if (w && w->rev < ss->compacted)
		store_watch_deliver(w, NULL, 0, ss->rev);
	else if (w && w->rev < ss->rev)
		deliver_batches(ss, sw->store, sw->id);
	sim_leave(n, en);
}

void simstore_changed(struct simstore *ss)
{
	struct simwatch *sw;

	list_for_each(sw, &ss->watches, all) {
		if (!sim_ev_queued(&sw->op.ev))
			sim_ev_in(&sw->op.ev, latency(ss));
	}
}

/* ---- opening and closing ---- */

static void client_close(void *d)
{
	struct client *c = d;

	while (!list_empty(&c->ops)) {
		struct travel *t = list_first(&c->ops, struct travel, mine);
		struct store_req *req = t->req;

		if (!t->applied && !t->lost && is_write(req) && sim_chance(c->ss->sim, 500))
			apply(t);
		travel_free(t);
		store_result_free(&req->result);
		req->code = err_set(&req->err, HCI_E_CLOSED, "store (sim): closed");
		store_req_done(req);
	}
	mem_free(c);
}

static const struct store_driver driver = {
	.name = "sim",
	.submit = client_submit,
	.watch = client_watch,
	.unwatch = client_unwatch,
	.close = client_close,
};

int simstore_open(struct simstore *ss, struct env *e, struct store **out)
{
	struct client *c = MEM_NEW(struct client);

	if (!c)
		return HCI_E_NOMEM;
	c->ss = ss;
	c->node = sim_node_of(e);
	list_init(&c->ops);
	*out = c->store = store_new(e, &driver, c);
	if (*out)
		return 0;
	mem_free(c);
	return HCI_E_NOMEM;
}

struct simstore *simstore_new(struct sim *s)
{
	struct simstore *ss = sim_calloc(1, sizeof(*ss));

	ss->sim = s;
	ss->lat_min = 100 * NS_PER_US;
	ss->lat_max = 1500 * NS_PER_US;
	list_init(&ss->ops);
	list_init(&ss->watches);
	simdata_init(ss);
	return ss;
}

void simstore_free(struct simstore *ss)
{
	if (!ss)
		return;
	while (!list_empty(&ss->ops))
		travel_free(list_first(&ss->ops, struct travel, all));
	while (!list_empty(&ss->watches))
		watch_drop(&list_first(&ss->watches, struct simwatch, all)->op, false);
	simdata_free(ss);
	free(ss);
}

/* ---- faults ---- */

void simstore_cut(struct simstore *ss, struct sim_node *node, bool cut)
{
	sim_fold(ss->sim, SIM_EV_FAULT | (uint64_t)cut << 8 | (uint64_t)(node ? node->index : 255) << 16);
	if (node) {
		ss->cut[node->index] = cut;
		return;
	}
	for (unsigned k = 0; k < SIM_NODES_MAX; k++)
		ss->cut[k] = cut;
}

void simstore_loss(struct simstore *ss, uint32_t before, uint32_t after)
{
	ss->lose_before = before;
	ss->lose_after = after;
}

void simstore_latency(struct simstore *ss, uint64_t min, uint64_t max)
{
	ss->lat_min = min;
	ss->lat_max = max;
}
