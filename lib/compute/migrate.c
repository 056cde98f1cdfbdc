/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live migration, peer to peer: the two libvirtds do it, this file starts it, watches, cancels, and sees
 * that the domain is left as it was when it fails. The call blocks until the end, so it is made in a thread
 * of its own while the caller's thread watches.
 */
#include "compute/compute_impl.h"

#include <signal.h>

#define WATCH (200 * NS_PER_MS)
#define DOWNTIME_MS 300u /* QEMU's own default */
#define FIRST_DOWNTIME_MS 5u
#define LOOK_AGAIN (30 * NS_PER_S)
#define NO_LIMIT 1000000 /* MiB/s */

struct run {
	virDomainPtr dom, watched; /* the same, on two connections */
	const char *peer;
	virTypedParameterPtr params;
	int nparams;
	unsigned flags;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int result;
	char why[400];
};

static void *run_thread(void *arg)
{
	struct run *r = arg;
	int result = virDomainMigrateToURI3(r->dom, r->peer, r->params, (unsigned)r->nparams, r->flags);
	virErrorPtr e = virGetLastError();

	pthread_mutex_lock(&r->lock);
	r->result = result;
	if (result)
		snprintf(r->why, sizeof(r->why), "%s", e && e->message ? e->message : "libvirt did not say why");
	r->done = true;
	pthread_cond_signal(&r->cond);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static bool wait_done(struct run *r, uint64_t ns)
{
	struct timespec t;
	bool done;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += (long)ns;
	t.tv_sec += t.tv_nsec / (long)NS_PER_S;
	t.tv_nsec %= (long)NS_PER_S;
	pthread_mutex_lock(&r->lock);
	while (!r->done && !pthread_cond_timedwait(&r->cond, &r->lock, &t))
		;
	done = r->done;
	pthread_mutex_unlock(&r->lock);
	return done;
}

static uint64_t stat_of(virTypedParameterPtr p, int n, const char *name)
{
	unsigned long long v = 0;

	return virTypedParamsGetULLong(p, n, name, &v) == 1 ? v : 0;
}

static void look(struct run *r, struct compute_progress *out)
{
	virTypedParameterPtr p = NULL;
	int n = 0, type = 0;

	memset(out, 0, sizeof(*out));
	if (virDomainGetJobStats(r->watched, &type, &p, &n, 0) || type == VIR_DOMAIN_JOB_NONE)
		return;
	out->done = stat_of(p, n, VIR_DOMAIN_JOB_DATA_PROCESSED);
	out->total = stat_of(p, n, VIR_DOMAIN_JOB_DATA_TOTAL);
	out->remaining = stat_of(p, n, VIR_DOMAIN_JOB_DATA_REMAINING);
	out->dirty_rate = stat_of(p, n, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE) * stat_of(p, n, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE);
	out->downtime_ms = stat_of(p, n, VIR_DOMAIN_JOB_DOWNTIME);
	out->pass = stat_of(p, n, VIR_DOMAIN_JOB_MEMORY_ITERATION);
	virTypedParamsFree(p, n);
}

/*
 * How long QEMU may stop the guest. It multiplies that with the pace of the last 100 ms, and sends what is left by then while the
 * guest is stopped. In the first pass over the memory most pages cost next to nothing (they are zero, or known at the other side), so
 * that pace says nothing of the pages that the guest changes, and the guest would be stopped for seconds on a slow link. So
 * the limit is next to nothing until QEMU has had its pace from changed pages alone.
 */
struct patience {
	uint32_t wanted_ms;
	bool low, set;  /* as QEMU was told: that one, the wanted one */
	unsigned later; /* looks that saw a later pass */
};

static void limit_downtime(struct patience *p, virDomainPtr d, uint64_t pass)
{
	if (p->set)
		return;
	/* The first such look may be too early: QEMU's pace is that of the last 100 ms. */
	if (pass >= 2 && p->later++)
		p->set = !virDomainMigrateSetMaxDowntime(d, p->wanted_ms, 0);
	else if (!p->low && pass < 2)
		p->low = !virDomainMigrateSetMaxDowntime(d, FIRST_DOWNTIME_MS, 0);
}

/* Returns why it was stopped: 0 (it was not), HCI_E_CANCELLED or HCI_E_TIMEOUT. */
static int watch(struct run *r, struct compute_migrate *m)
{
	uint64_t end = m->timeout_ns ? compute_now() + m->timeout_ns : UINT64_MAX;
	uint64_t post = m->postcopy_ns ? compute_now() + m->postcopy_ns : UINT64_MAX;
	struct patience patience = { .wanted_ms = m->max_downtime_ms ? m->max_downtime_ms : DOWNTIME_MS };
	struct converge converge = { 0 };
	bool postcopy = false;
	int stop = 0;

	while (!wait_done(r, patience.set ? WATCH : WATCH / 4)) {
		struct compute_progress now;
		bool late;

		look(r, &now);
		converge_look(&converge, now.pass, now.remaining);
		late = compute_now() > post || (m->postcopy_passes && converge.vain >= m->postcopy_passes);
		/* Too early, it is refused, and so it is when all has arrived. */
		if (late && !postcopy && !stop)
			postcopy = !virDomainMigrateStartPostCopy(r->watched, 0);
		limit_downtime(&patience, r->watched, now.pass);
		now.postcopy = postcopy;
		m->bytes = MAX(m->bytes, now.done);
		if (m->progress && m->progress(m->arg, &now) && !stop && !postcopy)
			stop = HCI_E_CANCELLED;
		if (compute_now() > end && !stop && !postcopy)
			stop = HCI_E_TIMEOUT;
		/* Again and again: too early there is no job yet. Too late it is refused, and then it succeeds. */
		if (stop && !postcopy)
			(void)virDomainAbortJob(r->watched);
	}
	return stop;
}

static int params(struct run *r, const struct compute_migrate *m, const char *dest_xml, struct hci_error *err)
{
	int max = 0, rc = 0;

	/*
	 * QEMU takes auto-converge and post-copy as capabilities only before it begins. With the former it slows the guest down by
	 * itself, when the guest twice changed more than half of what a pass carried (migration/ram.c, migration_trigger_throttle()).
	 */
	r->flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_ABORT_ON_ERROR |
		   (m->no_auto_converge ? 0u : VIR_MIGRATE_AUTO_CONVERGE) | (compute_may_postcopy(m) ? VIR_MIGRATE_POSTCOPY : 0u);
	if (m->migrate_uri && *m->migrate_uri)
		rc |= virTypedParamsAddString(&r->params, &r->nparams, &max, VIR_MIGRATE_PARAM_URI, m->migrate_uri);
	if (dest_xml)
		rc |= virTypedParamsAddString(&r->params, &r->nparams, &max, VIR_MIGRATE_PARAM_DEST_XML, dest_xml);
	/* Unless told so libvirt sets none, and a QEMU that has been a destination before goes on with a low one. */
	rc |= virTypedParamsAddULLong(&r->params, &r->nparams, &max, VIR_MIGRATE_PARAM_BANDWIDTH,
				      m->bandwidth ? (m->bandwidth + MiB - 1) / MiB : NO_LIMIT);
	return rc ? compute_fail(err, "VM %s cannot be migrated", m->name) : 0;
}

static int moved_xml(virDomainPtr d, const struct compute_migrate *m, char **out, struct hci_error *err)
{
	char *xml;
	int rc;

	*out = NULL;
	if (!m->npaths)
		return 0;
	xml = virDomainGetXMLDesc(d, VIR_DOMAIN_XML_MIGRATABLE);
	if (!xml)
		return compute_fail(err, "VM %s cannot be described", m->name);
	rc = domain_xml_move(xml, m->paths, m->npaths, out, err);
	free(xml);
	return rc;
}

/* It has failed: the domain must be here, and run if it did. libvirtd may be the one that failed. */
static void settle(struct compute *c, struct compute_migrate *m, bool ran)
{
	uint64_t end = compute_now() + LOOK_AGAIN;
	struct compute_state s;
	struct hci_error err;
	int rc;

	while ((rc = compute_find(c, m->name, &s, &err)) && rc != HCI_E_NOTFOUND && compute_now() < end)
		compute_nap(WATCH);
	m->gone = rc == HCI_E_NOTFOUND;
	m->split = !rc && s.postcopy;
	if (m->split)
		return;
	if (!rc && ran && s.state == HCI_VM_PAUSED && !s.io_error && compute_resume(c, m->name, &err))
		log_warn(&c->log, "VM %s: after its migration failed: %s", m->name, err.message);
}

static int run(struct run *r, struct compute_migrate *m, int *stop, struct hci_error *err)
{
	sigset_t all, old;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, NULL, run_thread, r);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_sys(err, HCI_E_SYS, rc, "VM %s: no thread for its migration", m->name);
	*stop = watch(r, m);
	pthread_join(thread, NULL);
	return 0;
}

static int migrate(struct compute *c, virDomainPtr dom, virDomainPtr watched, struct compute_migrate *m,
		   struct hci_error *err)
{
	struct run r = { .dom = dom, .watched = watched, .peer = m->peer_uri };
	int rc, stop = 0, state = 0, reason;
	pthread_condattr_t attr;
	char *xml = NULL;
	bool ran;

	ran = !virDomainGetState(dom, &state, &reason, 0) && state == VIR_DOMAIN_RUNNING;
	if (!ran)
		return err_set(err, HCI_E_STATE, "VM %s: only a running VM can be migrated live", m->name);
	rc = moved_xml(dom, m, &xml, err);
	if (!rc)
		rc = params(&r, m, xml, err);
	pthread_mutex_init(&r.lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r.cond, &attr);
	pthread_condattr_destroy(&attr);
	if (!rc) {
		rc = run(&r, m, &stop, err);
		if (!rc && r.result) {
			settle(c, m, ran);
			rc = stop == HCI_E_CANCELLED ? err_set(err, stop, "VM %s: its migration was cancelled", m->name) :
			     stop ? err_set(err, stop, "VM %s: its migration did not end within %llu ms", m->name,
					    (unsigned long long)(m->timeout_ns / NS_PER_MS)) :
				    err_set(err, HCI_E_LIBVIRT, "VM %s cannot be migrated to %s: %s", m->name, m->peer_uri,
					    r.why);
		}
	}
	pthread_cond_destroy(&r.cond);
	pthread_mutex_destroy(&r.lock);
	virTypedParamsFree(r.params, r.nparams);
	mem_free(xml);
	return rc;
}

int compute_migrate(struct compute *c, struct compute_migrate *m, struct hci_error *err)
{
	uint64_t start = compute_now();
	virConnectPtr conn, watch_conn;
	virDomainPtr dom, watched;
	int rc = compute_domain(c, m->name, &conn, &dom, err);

	m->total_ms = m->bytes = 0;
	m->gone = m->split = false;
	if (rc)
		return rc;
	rc = compute_domain(c, m->name, &watch_conn, &watched, err);
	if (!rc) {
		rc = migrate(c, dom, watched, m, err);
		compute_domain_put(c, watch_conn, watched);
	}
	m->total_ms = (compute_now() - start) / NS_PER_MS;
	compute_domain_put(c, conn, dom);
	return rc;
}

int compute_migrated(struct compute *c, const char *name, struct compute_migrated *out, struct hci_error *err)
{
	virTypedParameterPtr p = NULL;
	int n = 0, type = 0, rc;
	virConnectPtr conn;
	virDomainPtr d;

	memset(out, 0, sizeof(*out));
	rc = compute_domain(c, name, &conn, &d, err);
	if (rc)
		return rc;
	if (virDomainGetJobStats(d, &type, &p, &n, VIR_DOMAIN_JOB_STATS_COMPLETED)) {
		rc = compute_fail(err, "VM %s: figures of its migration", name);
	} else {
		out->total_ms = stat_of(p, n, VIR_DOMAIN_JOB_TIME_ELAPSED);
		out->downtime_ms = stat_of(p, n, VIR_DOMAIN_JOB_DOWNTIME);
		out->bytes = stat_of(p, n, VIR_DOMAIN_JOB_DATA_PROCESSED);
		virTypedParamsFree(p, n);
	}
	compute_domain_put(c, conn, d);
	return rc;
}
