/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The end of a live migration at its source, either way: FINISH or CANCEL for the destination, what is given up or attached
 * again here, the result; and what a restarted service makes of one that it finds under way.
 */
#include "cluster/handover_impl.h"

#define CALL_TIME (30 * NS_PER_S)
#define FINISH_TIME (60 * NS_PER_S)
#define CANCEL_TIME (20 * NS_PER_S)
#define AGAIN (200 * NS_PER_MS)

int handover_call(struct node *n, const char *to, uint32_t method, struct buf *body, uint64_t timeout_ns,
		  struct rpc_call *call, struct hci_error *err)
{
	struct rpc_conn *c = rpc_peers_get(core_peers(n->core), to, err);
	int rc;

	memset(call, 0, sizeof(*call));
	if (!c) {
		buf_free(body);
		return err ? err->code : HCI_E_UNAVAILABLE;
	}
	call->method = method;
	call->body = *body;
	call->timeout_ns = timeout_ns;
	*body = BUF_INIT;
	rc = rpc_call_wait(c, call);
	rpc_conn_unref(c);
	if (rc)
		err_copy(err, &call->err, rc);
	return rc;
}

static void body_of(struct buf *b, const struct nvm *m, const char *job)
{
	*b = BUF_INIT;
	pk_map(b, 2);
	pk_kv_str(b, "vm", m->name);
	pk_kv_str(b, "job", job);
}

/* What the destination does not know (of a post-copy) stays what it was. */
static int read_finished(struct finished *f, struct rd *r)
{
	uint32_t n = rd_map(r);

	while (n--) {
		struct rd_key k = rd_key(r);
		uint64_t *at = rd_is(k, "total_ms")    ? &f->total_ms :
			       rd_is(k, "downtime_ms") ? &f->downtime_ms :
			       rd_is(k, "bytes")       ? &f->bytes :
			       rd_is(k, "io_pause_ms") ? &f->io_pause_ms :
							 NULL;
		uint64_t v;

		if (!at) {
			rd_skip(r);
			continue;
		}
		v = rd_u64(r);
		if (v)
			*at = v;
	}
	return r->bad ? HCI_E_PROTO : 0;
}

/*
 * Nobody is to start it anew here while it waits there: the key goes together with the record's word that it is here. Until that is
 * written the key stays ours, and with it our duty. True: the destination has it, so it did hear us.
 */
static bool give_up(struct nvm *m, const char *to)
{
	char runner[HCI_NAME_MAX];
	struct hci_error err;
	bool told = false;

	while (nvm_give_run(m, to, &err) && !m->n->stopping) {
		if (!told)
			log_warn(env_log(m->n->e), "VM %s: that it has left for node %s is not in its record yet: %s", m->name, to, err.message);
		told = true;
		fiber_sleep(m->n->e, AGAIN);
	}
	return !nvm_runner(m, runner, &err) && !strcmp(runner, to);
}

static void finish_body(struct buf *b, const struct nvm *m, bool sure)
{
	*b = BUF_INIT;
	pk_map(b, 3);
	pk_kv_str(b, "vm", m->name);
	pk_kv_str(b, "job", "");
	pk_kv_bool(b, "unsure", !sure);
}

/*
 * The guest's memory is there and nowhere else, so the destination is asked for longer than a service that is started anew needs, or
 * one that was cut off until it is alive again.
 */
int handover_finish(struct nvm *m, const char *to, bool sure, struct finished *f, struct hci_error *err)
{
	uint64_t end = env_now(m->n->e) + FINISH_TIME;
	bool there, none;
	int rc;

	sure |= (m->n->o.mutate & HO_MUTATE_FINISH_BLIND) != 0;
	for (;;) {
		struct rpc_call call;
		struct buf body;

		finish_body(&body, m, sure);
		rc = handover_call(m->n, to, HO_FINISH, &body, CALL_TIME, &call, err);
		if (!rc)
			(void)read_finished(f, &call.reply);
		rpc_call_free(&call);
		if (!rc || rc == HCI_E_NOTFOUND || env_now(m->n->e) > end || m->n->stopping)
			break;
		fiber_sleep(m->n->e, AGAIN);
	}
	nvm_unexport(m);
	m->running = false;
	none = rc == HCI_E_NOTFOUND || (rc && !sure); /* that we know of, or may let go on */
	there = rc && !none && !(m->n->o.mutate & HO_MUTATE_GIVE_BLIND) && give_up(m, to);
	m->owned = false;
	if (none || (rc && (m->n->o.mutate & HO_MUTATE_GIVE_BLIND)))
		nvm_drop_run(m);
	if (rc && !sure)
		return err_prefix(err, "VM %s: it is gone from node %s, and does not go on at node %s: it is started anew", m->name,
				  m->n->name, to);
	return rc && !there ? err_prefix(err, "VM %s: it has left for node %s, which does not take it over", m->name, to) : 0;
}

void handover_commit(struct nvm *m, struct handover_out *o)
{
	struct compute_state st;
	struct rpc_call call;
	struct hci_error err;
	struct buf body;
	int rc;

	if (o->committed || vm_compute_find(m->n, m->name, &st, &err) || !st.postcopy || st.state == HCI_VM_RUNNING)
		return;
	if (handover_release(m, o, false))
		return;
	body_of(&body, m, "");
	rc = handover_call(m->n, o->to, HO_FINISH, &body, CALL_TIME, &call, &err);
	rpc_call_free(&call);
	if (rc) {
		log_debug(env_log(m->n->e), "VM %s: not taken over yet by node %s: %s", m->name, o->to, err.message);
		return;
	}
	log_info(env_log(m->n->e), "VM %s: it runs at node %s now, its memory follows", m->name, o->to);
	o->committed = true;
	m->owned = false;
}

int handover_split(struct nvm *m, struct handover_out *o, struct hci_error *err)
{
	struct hci_error why, was = *err;
	char runner[HCI_NAME_MAX];

	fiber_mutex_lock(m->n->e, &o->lock);
	o->failed = true;
	fiber_mutex_unlock(m->n->e, &o->lock);
	m->out = NULL;
	/* The answer to a commit may have been lost. */
	if (!o->committed && (nvm_runner(m, runner, NULL) || strcmp(runner, o->to)))
		handover_cancel(m, o->to);
	if (vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, &why))
		log_warn(env_log(m->n->e), "VM %s: %s", m->name, why.message);
	nvm_release(m);
	return err_set(err, HCI_E_CLOSED, "VM %s: the rest of its memory was lost on its way to node %s, so it is started anew: %s",
		       m->name, o->to, was.message);
}

void handover_cancel(struct nvm *m, const char *to)
{
	uint64_t end = env_now(m->n->e) + CANCEL_TIME;
	struct hci_error err;
	int rc;

	/* One that is dead, or thinks it is, gives up by itself: see handover_in_look(). */
	if (!core_alive(m->n->core, to))
		return;
	for (;;) {
		struct rpc_call call;
		struct buf body;

		body_of(&body, m, "");
		rc = handover_call(m->n, to, HO_CANCEL, &body, CALL_TIME, &call, &err);
		rpc_call_free(&call);
		/* A certificate that is refused is refused the next time, too. */
		if (!rc || rc == HCI_E_AUTH || !core_alive(m->n->core, to) || env_now(m->n->e) > end || m->n->stopping)
			break;
		fiber_sleep(m->n->e, AGAIN);
	}
	if (rc)
		log_warn(env_log(m->n->e), "VM %s: node %s is not told that the migration is off: %s", m->name, to,
			 err.message);
}

void handover_restore(struct nvm *m, struct handover_out *o)
{
	struct hci_error err;
	int rc;

	fiber_mutex_lock(m->n->e, &o->lock);
	o->failed = true;
	fiber_mutex_unlock(m->n->e, &o->lock);
	m->unsettled = true;
	(void)handover_try_stays(m, o, &err); /* before anything that takes long */
	handover_cancel(m, o->to);
	if (o->released) {
		rc = nvm_attach(m, REC_ATT_USER, &err);
		if (!rc)
			rc = nvm_resume_io(m, &err);
		if (rc)
			log_warn(env_log(m->n->e), "VM %s: its disks wait: %s", m->name, err.message);
	}
	handover_stays(m, o);
	if (m->owned)
		nvm_usb_try_open(m);
}

int handover_lost(struct nvm *m, struct handover_out *o, struct hci_error *err)
{
	struct hci_error why;

	o->failed = true;
	if (vm_compute_stop(m->n, m->name, HCI_VM_STOP_DESTROY, &why))
		log_warn(env_log(m->n->e), "VM %s: %s", m->name, why.message);
	fiber_mutex_lock(m->n->e, &o->lock); /* a release that is under way uses the disks */
	fiber_mutex_unlock(m->n->e, &o->lock);
	nvm_unexport(m);
	m->running = m->suspended = false;
	return err_set(err, HCI_E_FENCED, "VM %s: node %s lost its right to run it during the migration", m->name, m->n->name);
}

uint64_t handover_saved(const struct mst_stats *s, unsigned class)
{
	uint64_t bytes = s->pages[class] * MST_PAGE;

	return bytes > s->wire_of[class] ? bytes - s->wire_of[class] : 0;
}

/* Where the destination has what was referred to. */
static void refs(struct buf *b, const struct mst_stats *s)
{
	buf_printf(b, ",\"refs\":{");
	for (unsigned k = MST_KIND_STORE; k < MST_KINDS; k++)
		buf_printf(b, "%s\"%s\":%llu", k > MST_KIND_STORE ? "," : "", mst_kind_name(k), (unsigned long long)s->refs[k]);
	buf_printf(b, "}");
}

/* Half of it is of no use to a program. */
static void whole_or_nothing(const struct buf *b, char *out, size_t cap)
{
	snprintf(out, cap, "%.*s", b->failed || b->len >= cap ? 0 : (int)b->len, b->data ? (const char *)b->data : "");
}

static bool is_limited(const struct ho_stat *st)
{
	return st->limit && st->memory.rate >= st->limit;
}

uint64_t handover_rate(const struct ho_stat *st)
{
	return is_limited(st) ? st->limit : st->memory.rate;
}

void handover_phase(const struct compute_progress *p, const struct ho_stat *st, char *out, size_t cap)
{
	const struct mst_stats *s = &st->memory;
	uint64_t saved = s->in > s->wire ? 100 * (s->in - s->wire) / s->in : 0;
	char link[64];

	if (is_limited(st))
		snprintf(link, sizeof(link), "limited to %.1f MB/s", (double)st->limit / 1e6);
	else
		snprintf(link, sizeof(link), "link %llu MB/s", (unsigned long long)(s->rate / 1000000));
	snprintf(out, cap, "%s: pass %llu, %llu MB left, guest changes %llu MB/s, %s, %llu %% saved, pause of %llu ms expected",
		 p->postcopy ? "memory follows the guest" : "copying memory", (unsigned long long)p->pass,
		 (unsigned long long)(p->remaining / 1000000), (unsigned long long)(p->dirty_rate / 1000000), link,
		 (unsigned long long)saved, (unsigned long long)p->downtime_ms);
}

void handover_figures(const struct compute_progress *p, const struct ho_stat *st, char *out, size_t cap)
{
	const struct mst_stats *s = &st->memory;
	struct buf b = BUF_INIT;

	buf_printf(&b, "{\"pass\":%llu,\"remaining\":%llu,\"dirty_rate\":%llu,\"downtime_ms\":%llu,\"postcopy\":%d",
		   (unsigned long long)p->pass, (unsigned long long)p->remaining, (unsigned long long)p->dirty_rate,
		   (unsigned long long)p->downtime_ms, p->postcopy);
	buf_printf(&b, ",\"rate\":%llu,\"bytes\":%llu,\"wire\":%llu,\"saved\":{", (unsigned long long)handover_rate(st),
		   (unsigned long long)s->in, (unsigned long long)s->wire);
	for (unsigned i = 0; i < MST_OTHER; i++)
		buf_printf(&b, "%s\"%s\":%llu", i ? "," : "", mst_class_name(i), (unsigned long long)handover_saved(s, i));
	buf_printf(&b, "}");
	refs(&b, s);
	buf_printf(&b, "}");
	whole_or_nothing(&b, out, cap);
	buf_free(&b);
}

void handover_result(const struct finished *f, const struct ho_stat *st, char *out, size_t cap)
{
	const struct mst_stats *s = st ? &st->memory : NULL;
	struct buf b = BUF_INIT;

	buf_printf(&b, "{\"total_ms\":%llu,\"downtime_ms\":%llu,\"bytes\":%llu,\"io_pause_ms\":%llu",
		   (unsigned long long)f->total_ms, (unsigned long long)f->downtime_ms, (unsigned long long)f->bytes,
		   (unsigned long long)f->io_pause_ms);
	if (f->postcopy)
		buf_printf(&b, ",\"postcopy\":1");
	if (s) {
		buf_printf(&b, ",\"memory_ms\":%llu", (unsigned long long)(st->memory_ns / NS_PER_MS));
		buf_printf(&b, ",\"wire\":%llu,\"codec_cpu_ms\":%llu,\"refused\":%llu,\"coming\":%llu,\"aside\":[%llu,%llu],\"pages\":{",
			   (unsigned long long)s->wire, (unsigned long long)(s->cpu_ns / NS_PER_MS),
			   (unsigned long long)s->refused, (unsigned long long)s->coming, (unsigned long long)s->aside[0],
			   (unsigned long long)s->aside[1]);
		for (size_t i = 0; i < MST_OTHER; i++)
			buf_printf(&b, "%s\"%s\":%llu", i ? "," : "", mst_class_name((unsigned)i), (unsigned long long)s->pages[i]);
		buf_printf(&b, "}");
		refs(&b, s);
	}
	buf_printf(&b, "}");
	whole_or_nothing(&b, out, cap);
	buf_free(&b);
}

int handover_look(struct nvm *m, struct core_job *j, struct compute_state *st, struct hci_error *err)
{
	bool told = false;
	int rc;

	while ((rc = vm_compute_find(m->n, m->name, st, err)) && rc != HCI_E_NOTFOUND && !m->n->stopping) {
		if (!told)
			log_warn(env_log(m->n->e), "VM %s: whether it has left is not known before its libvirt is back: %s", m->name,
				 err->message);
		told = true;
		fiber_sleep(m->n->e, NS_PER_S);
	}
	j->lost |= rc && rc != HCI_E_NOTFOUND;
	return rc;
}

/*
 * The domain is not here any more. With the machine it would have ended in any case, so whether it had left before, or had gone on here
 * and written, the destination has to know. While the machine lives the record says whether a write can have been acknowledged here
 * since its memory had left (handover_stays.c).
 */
static bool has_left(struct nvm *m, const struct core_job *j)
{
	const char *then = core_job_arg(j, NOTE_MACHINE), *stays = core_job_arg(j, NOTE_STAYS);
	char now[BOOT_ID];
	struct hci_error err;

	if (m->n->o.hypervisor->machine(m->n->o.compute, now, &err)) {
		log_warn(env_log(m->n->e), "VM %s: %s", m->name, err.message);
		return false;
	}
	return then && !strcmp(then, now) && !(stays && *stays);
}

int handover_recover(struct nvm *m, const char *to, struct core_job *j, char *result, size_t cap, struct hci_error *err)
{
	char runner[HCI_NAME_MAX];
	struct finished f = { 0 };
	struct compute_state st;
	struct hci_error why;
	int rc = nvm_runner(m, runner, err);

	if (!rc && !strcmp(runner, to)) {
		handover_result(&f, NULL, result, cap);
		return 0;
	}
	rc = handover_look(m, j, &st, err);
	if (rc == HCI_E_NOTFOUND) {
		rc = handover_finish(m, to, has_left(m, j), &f, err);
		if (!rc)
			handover_result(&f, NULL, result, cap);
		return rc;
	}
	/* It has no disks before it is noted. */
	if (!rc)
		rc = handover_note_stays(m, j, err);
	if (rc)
		return rc;
	handover_cancel(m, to);
	/* Another that is left has to note the same first. Then the rounds bring it up. */
	if (vm_moves_left(m->n, m->name) == 1 && nvm_up(m, &why))
		log_warn(env_log(m->n->e), "VM %s: %s", m->name, why.message);
	return err_set(err, HCI_E_CLOSED, "VM %s: the node service was restarted during its migration: it runs on at node %s",
		       m->name, m->n->name);
}
