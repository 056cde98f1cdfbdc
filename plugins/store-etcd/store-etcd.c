/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plugin's face to libhci (include/hci/plugin_store.h): opens and closes, puts requests and watches into the
 * thread's inbox. The rest is in etcd.h.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "etcd.h"

static void wake(struct etcd *e)
{
	uint64_t one = 1;

	(void)!write(e->wake_fd, &one, sizeof(one)); /* full: it is awake */
}

/* The host's thread may be the program's: no signal of it ever runs on ours. */
static int start_thread(struct etcd *e)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&e->thread, NULL, engine_main, e);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		pthread_setname_np(e->thread, "hci-store");
	return rc;
}

static void etcd_free(struct etcd *e)
{
	if (e->wake_fd >= 0)
		close(e->wake_fd);
	pthread_cond_destroy(&e->opened);
	pthread_mutex_destroy(&e->lock);
	explicit_bzero(e->cfg.password, sizeof(e->cfg.password));
	free(e);
}

static struct etcd *etcd_new(const struct hci_store_host *host)
{
	struct etcd *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->host = host;
	e->net.fd = -1;
	e->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->opened, NULL);
	TAILQ_INIT(&e->inbox);
	TAILQ_INIT(&e->waiting);
	TAILQ_INIT(&e->sent);
	TAILQ_INIT(&e->watches);
	return e;
}

static void stop_thread(struct etcd *e)
{
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_mutex_unlock(&e->lock);
	wake(e);
	pthread_join(e->thread, NULL);
}

static void store_close(void *instance)
{
	stop_thread(instance);
	etcd_free(instance);
}

/* Until a member was there, or none. */
static int wait_open(struct etcd *e, struct failure *f)
{
	pthread_mutex_lock(&e->lock);
	while (!e->open_over)
		pthread_cond_wait(&e->opened, &e->lock);
	*f = e->open_err;
	pthread_mutex_unlock(&e->lock);
	return f->code;
}

static int32_t store_open(const struct hci_store_host *host, const char *url, void **instance)
{
	struct etcd *e = etcd_new(host);
	struct failure f = { 0 };
	char text[500];
	int rc;

	if (!e || e->wake_fd < 0) {
		fail(&f, HCI_E_NOMEM, "store %.200s: out of memory or descriptors", url);
	} else if (cfg_parse(&e->cfg, url, &f) == 0) {
		e->ep = (unsigned)(random_id() % e->cfg.nep);
		rc = start_thread(e);
		if (rc) {
			fail(&f, HCI_E_SYS, "store %.200s: no thread: %s", url, strerror(rc));
		} else if (wait_open(e, &f)) {
			stop_thread(e);
			snprintf(text, sizeof(text), "store %.150s: cannot be opened: %.280s", e->cfg.shown, f.text);
			snprintf(f.text, sizeof(f.text), "%.299s", text);
		}
	}
	if (f.code) {
		host->fail(host->ctx, f.code, f.text);
		if (e)
			etcd_free(e);
		return -1;
	}
	*instance = e;
	return 0;
}

/* A little earlier than the host gives up: so what failed is known here before anything else is asked. */
static uint64_t deadline_of(const struct hci_store_request *rq)
{
	uint64_t margin = rq->timeout_ns / 10 < 50 * MS ? rq->timeout_ns / 10 : 50 * MS;

	return now_ns() + (rq->timeout_ns - margin < 3600 * SEC ? rq->timeout_ns - margin : 3600 * SEC);
}

static int32_t store_submit(void *instance, const struct hci_store_request *rq)
{
	struct etcd *e = instance;
	struct call *c = call_new(e, kind_of(rq), rq);

	if (!c)
		return -1;
	c->deadline = deadline_of(rq);
	pthread_mutex_lock(&e->lock);
	TAILQ_INSERT_TAIL(&e->inbox, c, link);
	pthread_mutex_unlock(&e->lock);
	wake(e);
	return 0;
}

static int32_t store_watch(void *instance, uint64_t id, const char *prefix, uint64_t after_rev)
{
	struct etcd *e = instance;
	struct watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -1;
	w->e = e;
	w->id = id;
	w->pos = after_rev;
	key_set(&w->key, e->cfg.prefix, prefix);
	key_end(&w->end, &w->key);
	pthread_mutex_lock(&e->lock);
	TAILQ_INSERT_TAIL(&e->watches, w, link);
	pthread_mutex_unlock(&e->lock);
	wake(e);
	return 0;
}

static void store_unwatch(void *instance, uint64_t id)
{
	struct etcd *e = instance;
	struct watch *w;

	pthread_mutex_lock(&e->lock);
	TAILQ_FOREACH(w, &e->watches, link)
		if (w->id == id)
			w->closed = true;
	pthread_mutex_unlock(&e->lock);
	wake(e);
}

static const struct hci_store_ops ops = {
	.size = sizeof(ops),
	.open = store_open,
	.close = store_close,
	.submit = store_submit,
	.watch = store_watch,
	.unwatch = store_unwatch,
};

static const struct hci_plugin plugin = {
	.abi = HCI_PLUGIN_ABI,
	.size = sizeof(plugin),
	.kind = HCI_PLUGIN_STORE,
	.name = "etcd",
	.version = "0.1.0",
	.ops = &ops,
};

const struct hci_plugin *hci_plugin_entry(void)
{
	return &plugin;
}
