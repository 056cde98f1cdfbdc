/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections to libvirt: one is kept, more are opened while calls overlap, each is used by one thread
 * at a time. (libvirt lets threads share one, but a call was seen to wait there for an unrelated one
 * that takes long: libvirt 9.0.) A lost connection is noticed by the next call that fails on it,
 * since without libvirt's event loop, which is one a process and not ours to take, there are no
 * keepalives.
 */
#include "compute/compute_impl.h"

#include <stdarg.h>

uint64_t compute_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void compute_nap(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };

	while (nanosleep(&t, &t))
		;
}

int compute_fail(struct hci_error *err, const char *fmt, ...)
{
	virErrorPtr e = virGetLastError();
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(err, HCI_E_LIBVIRT, "%s: %s", what, e && e->message ? e->message : "libvirt did not say why");
}

/* libvirt writes errors to stderr unless somebody takes them. They are returned, so nothing is lost. */
static void quiet(void *arg, virErrorPtr e)
{
	(void)arg;
	(void)e;
}

static pthread_once_t quiet_once = PTHREAD_ONCE_INIT;

static void be_quiet(void)
{
	virSetErrorFunc(NULL, quiet);
}

int compute_conn(struct compute *c, virConnectPtr *out, struct hci_error *err)
{
	pthread_mutex_lock(&c->lock);
	*out = c->idle;
	c->idle = NULL;
	pthread_mutex_unlock(&c->lock);
	if (*out && virConnectIsAlive(*out) == 1)
		return 0;
	if (*out)
		virConnectClose(*out);
	*out = virConnectOpen(c->uri);
	return *out ? 0 : compute_fail(err, "libvirt %s cannot be reached, is libvirtd running", c->uri);
}

void compute_conn_put(struct compute *c, virConnectPtr conn)
{
	if (virConnectIsAlive(conn) == 1) {
		pthread_mutex_lock(&c->lock);
		if (!c->idle) {
			c->idle = conn;
			conn = NULL;
		}
		pthread_mutex_unlock(&c->lock);
	}
	if (conn)
		virConnectClose(conn);
}

bool compute_lost(virConnectPtr conn)
{
	virErrorPtr e = virGetLastError();

	return e && (e->domain == VIR_FROM_RPC || e->domain == VIR_FROM_REMOTE || e->code == VIR_ERR_SYSTEM_ERROR ||
		     e->code == VIR_ERR_INVALID_CONN || virConnectIsAlive(conn) != 1);
}

int compute_domain(struct compute *c, const char *name, virConnectPtr *conn, virDomainPtr *out, struct hci_error *err)
{
	for (unsigned tries = 0;; tries++) {
		int rc = compute_conn(c, conn, err);
		bool again;

		if (rc)
			return rc;
		*out = virDomainLookupByName(*conn, name);
		if (*out)
			return 0;
		if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
			rc = err_set(err, HCI_E_NOTFOUND, "VM %s: it does not run here", name);
		else
			rc = compute_fail(err, "VM %s", name);
		again = rc != HCI_E_NOTFOUND && !tries && compute_lost(*conn);
		compute_conn_put(c, *conn);
		if (!again)
			return rc;
	}
}

void compute_domain_put(struct compute *c, virConnectPtr conn, virDomainPtr d)
{
	virDomainFree(d);
	compute_conn_put(c, conn);
}

int compute_open(const struct compute_opts *o, struct compute **out, struct hci_error *err)
{
	struct compute *c;
	virConnectPtr conn;
	int rc;

	*out = NULL;
	pthread_once(&quiet_once, be_quiet);
	c = MEM_NEW(struct compute);
	if (c)
		c->uri = mem_strdup(o->uri);
	if (!c || !c->uri) {
		mem_free(c);
		return err_set(err, HCI_E_NOMEM, "libvirt %s: out of memory", o->uri);
	}
	c->log = o->log;
	pthread_mutex_init(&c->lock, NULL);
	rc = compute_conn(c, &conn, err);
	if (rc) {
		compute_close(c);
		return rc;
	}
	compute_conn_put(c, conn);
	*out = c;
	return 0;
}

void compute_close(struct compute *c)
{
	if (!c)
		return;
	if (c->idle)
		virConnectClose(c->idle);
	pthread_mutex_destroy(&c->lock);
	mem_free(c->uri);
	mem_free(c);
}

const char *compute_uri(const struct compute *c)
{
	return c->uri;
}
