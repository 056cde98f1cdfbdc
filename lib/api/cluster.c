/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a cluster: the loop thread, the store, the core, in this order and back. */
#include "api/api_impl.h"

#include <signal.h>
#include <unistd.h>

#include "env/pki.h"
#include "store/store_move.h"

/* ---- the loop thread ---- */

static void *loop_thread(void *arg)
{
	hci_cluster *c = arg;

	env_run(c->env);
	return NULL;
}

/* Signals are the program's business: our threads take none. */
static int start_thread(hci_cluster *c, struct hci_error *err)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&c->thread, NULL, loop_thread, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_sys(err, HCI_E_SYS, rc, "cluster: its loop thread cannot be started");
	c->thread_runs = true;
	return 0;
}

#define BUSY_POLL_NS (100 * NS_PER_US)

/* Workers of the env are started when it is made: they inherit the mask as well. */
static int make_env(hci_cluster *c, const struct hci_cluster_opts *o, struct hci_error *err)
{
	struct env_real_opts eo = { .metrics = c->metrics, .name = "hci" };
	sigset_t all, old;

	if (o) {
		eo.log.level = (enum log_level)o->log_level;
		eo.log.emit = o->log;
		eo.log.arg = o->log_arg;
		c->busy_poll_ns = o->busy_poll_us < 0 ? 0 : (uint64_t)o->busy_poll_us * NS_PER_US;
		if (!o->busy_poll_us)
			c->busy_poll_ns = BUSY_POLL_NS;
	}
	eo.spin_ns = c->busy_poll_ns;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	c->env = env_real_new(&eo, err);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return c->env ? 0 : HCI_E_SYS;
}

/* ---- closing ---- */

static int close_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	(void)arg;
	(void)err;
	api_events_stop(c->events);
	core_close(c->core);
	if (c->store)
		store_close(c->store);
	env_tls_free(c->tls);
	c->core = NULL;
	c->store = NULL;
	c->tls = NULL;
	return 0;
}

static void destroy(hci_cluster *c)
{
	if (c->thread_runs) {
		(void)api_call(c, close_on_loop, NULL, NULL);
		env_stop(c->env);
		pthread_join(c->thread, NULL);
	}
	api_events_free(c->events);
	if (c->env)
		env_free(c->env);
	metrics_free(c->metrics);
	mem_free(c);
}

hci_cluster *hci_cluster_ref(hci_cluster *c)
{
	__atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
	return c;
}

void hci_cluster_unref(hci_cluster *c)
{
	if (c && !__atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL))
		destroy(c);
}

/* ---- opening ---- */

static int skeleton(hci_cluster **out, const struct hci_cluster_opts *o, struct hci_error *err)
{
	hci_cluster *c = MEM_NEW(hci_cluster);
	int rc;

	if (!c)
		return err_set(err, HCI_E_NOMEM, "cluster: out of memory");
	c->refs = 1;
	c->metrics = metrics_new();
	rc = c->metrics ? make_env(c, o, err) : err_set(err, HCI_E_NOMEM, "cluster: out of memory");
	if (!rc)
		rc = start_thread(c, err);
	if (rc) {
		destroy(c);
		return rc;
	}
	*out = c;
	return 0;
}

struct open_args {
	const struct hci_cluster_opts *o;
	char self[HCI_NAME_MAX];
};

/* Peers refuse who calls itself by another name than its certificate's: say so before any of them is asked. */
static int take_name(hci_cluster *c, struct open_args *a, struct hci_error *err)
{
	const char *name = env_tls_name(c->tls);

	if (!a->o->client_name && *name && !name_check(name, "client", NULL))
		snprintf(a->self, sizeof(a->self), "%s", name);
	if (strcmp(a->self, name))
		return err_set(err, HCI_E_AUTH,
			       "certificate %s is of \"%s\", the client's name is \"%s\": issue one for that name",
			       a->o->cert_file, name, a->self);
	return 0;
}

static int open_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct open_args *a = arg;
	struct core_opts o = { .env = c->env, .self = a->self };
	int rc = 0;

	if (a->o->ca_file) {
		c->tls = env_tls_new(c->env, a->o->ca_file, a->o->cert_file, a->o->key_file, true, err);
		if (!c->tls)
			return err && err->code ? err->code : HCI_E_AUTH;
		rc = take_name(c, a, err);
	}
	if (!rc && !store_present(a->o->store_url))
		rc = err_set(err, HCI_E_NOTFOUND,
			     "store %s: there is none: make it with hci_cluster_create() or hcictl cluster create",
			     a->o->store_url);
	if (!rc)
		rc = store_open(c->env, a->o->store_url, &c->store, err);
	if (rc)
		return rc;
	o.store = c->store;
	o.tls = c->tls;
	o.store_url = a->o->store_url;
	return core_open(&o, &c->core, err);
}

static int check_opts(const struct hci_cluster_opts *o, struct hci_error *err)
{
	if (!o->store_url)
		return err_set(err, HCI_E_INVAL, "cluster: store_url is missing: give one such as sqlite:/var/lib/hci/cluster.db");
	if (!o->ca_file != !o->cert_file || !o->ca_file != !o->key_file)
		return err_set(err, HCI_E_INVAL, "cluster: ca_file, cert_file and key_file go together: give all three or none");
	if (o->log_level < HCI_LOG_ERROR || o->log_level > HCI_LOG_TRACE)
		return err_set(err, HCI_E_INVAL, "cluster: log level %d is not in %d..%d", o->log_level, HCI_LOG_ERROR,
			       HCI_LOG_TRACE);
	return o->client_name ? name_check(o->client_name, "client", err) : 0;
}

int hci_cluster_open(hci_cluster **out, const struct hci_cluster_opts *opts, struct hci_error *err)
{
	static const struct hci_cluster_opts defaults = HCI_CLUSTER_OPTS_INIT;
	struct hci_cluster_opts o;
	struct open_args a = { .o = &o };
	hci_cluster *c;
	int rc;

	if (!out)
		return api_null("out", err);
	*out = NULL;
	rc = opts_take(&o, &defaults, sizeof(o), opts, OPTS_UP_TO(struct hci_cluster_opts, log_arg),
		       "hci_cluster_opts", err);
	if (!rc)
		rc = opts_reserved(o.reserved, "hci_cluster_opts", err);
	if (!rc)
		rc = check_opts(&o, err);
	if (!rc)
		rc = skeleton(&c, &o, err);
	if (rc)
		return rc;
	if (o.client_name)
		snprintf(a.self, sizeof(a.self), "%s", o.client_name);
	else
		snprintf(a.self, sizeof(a.self), "client-%d", (int)getpid());
	if (o.ca_file) {
		snprintf(c->ca_file, sizeof(c->ca_file), "%s", o.ca_file);
		snprintf(c->cert_file, sizeof(c->cert_file), "%s", o.cert_file);
		snprintf(c->key_file, sizeof(c->key_file), "%s", o.key_file);
	}
	rc = api_call(c, open_on_loop, &a, err);
	if (rc) {
		hci_cluster_unref(c);
		return rc;
	}
	*out = c;
	return 0;
}

/* ---- moving ---- */

struct copy_args {
	const char *from, *to;
	struct hci_store_copy_info info;
};

static int copy_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct copy_args *a = arg;
	struct store_move m = { .from_url = a->from, .to_url = a->to };
	int rc;

	if (!store_present(a->from))
		return err_set(err, HCI_E_NOTFOUND, "store %s: there is none", a->from);
	rc = store_open(c->env, a->from, &c->store, err); /* closed with the handle */
	if (!rc)
		rc = store_open(c->env, a->to, &m.to, err);
	if (rc)
		return rc;
	m.from = c->store;
	rc = store_move(&m, err);
	store_close(m.to);
	a->info.keys = m.keys;
	a->info.bytes = m.bytes;
	return rc;
}

int hci_store_copy(const char *from_url, const char *to_url, struct hci_store_copy_info *out, uint64_t info_size,
		   struct hci_error *err)
{
	struct copy_args a = { .from = from_url, .to = to_url };
	hci_cluster *c;
	int rc;

	if (!from_url || !to_url)
		return api_null(from_url ? "to_url" : "from_url", err);
	rc = skeleton(&c, NULL, err);
	if (rc)
		return rc;
	rc = api_call(c, copy_on_loop, &a, err);
	hci_cluster_unref(c);
	if (!rc && out)
		rc = api_info_out(out, info_size, &a.info, sizeof(a.info), "hci_store_copy_info", err);
	return rc;
}

/* ---- creating ---- */

struct create_args {
	const char *url, *name;
};

static int create_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	const struct create_args *a = arg;
	struct rec_cluster r = { .format = REC_VERSION };
	uint8_t rnd[16];
	int rc = store_open(c->env, a->url, &c->store, err);

	if (!rc)
		rc = store_check_moved(c->store, a->url, err);
	if (rc)
		return rc;
	env_random(c->env, rnd, sizeof(rnd));
	uuid_from_random(&r.uuid, rnd);
	snprintf(r.name, sizeof(r.name), "%s", a->name);
	rc = rec_cluster_put(c->store, KEY_CLUSTER, &r, 0, 0, NULL, err);
	if (rc == HCI_E_CONFLICT)
		rc = err_set(err, HCI_E_EXISTS, "cluster %s: there is a cluster in the store %s already", a->name, a->url);
	return rc;
}

int hci_cluster_create(const char *store_url, const char *name, struct hci_error *err)
{
	struct create_args a = { store_url, name };
	hci_cluster *c;
	int rc;

	if (!store_url || !name)
		return api_null(store_url ? "name" : "store_url", err);
	rc = name_check(name, "cluster", err);
	if (!rc)
		rc = skeleton(&c, NULL, err);
	if (rc)
		return rc;
	rc = api_call(c, create_on_loop, &a, err);
	hci_cluster_unref(c);
	return rc;
}

/* ---- what it is ---- */

static bool count_node(void *arg, const struct rec_node *n)
{
	(void)n;
	((struct hci_cluster_info *)arg)->nodes++;
	return true;
}

static bool count_disk(void *arg, const struct rec_disk *d)
{
	struct hci_cluster_info *i = arg;

	if (d->state == REC_DISK_REMOVED)
		return true;
	i->disks++;
	i->disks_online += d->state == REC_DISK_ONLINE;
	return true;
}

static bool count_pool(void *arg, const struct rec_pool *p)
{
	(void)p;
	((struct hci_cluster_info *)arg)->pools++;
	return true;
}

static int count_keys(hci_cluster *c, const char *prefix, uint32_t *n, struct hci_error *err)
{
	struct store_result r;
	char *after = NULL;
	bool more = true;
	int rc = 0;

	*n = 0;
	while (more && !rc) {
		rc = store_range(c->store, prefix, after, 1000, &r, err);
		if (rc)
			break;
		*n += (uint32_t)r.n;
		mem_free(after);
		after = r.n ? mem_strdup(r.kvs[r.n - 1].key) : NULL;
		more = r.more && after;
		store_result_free(&r);
	}
	mem_free(after);
	return rc;
}

static int info_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct hci_cluster_info *i = arg;
	const struct rec_cluster *r = core_cluster(c->core);
	int rc;

	API_TEXT(i->name, r->name);
	uuid_print(&r->uuid, i->uuid);
	i->format = r->format;
	core_each_node(c->core, count_node, i);
	core_each_disk(c->core, count_disk, i);
	core_each_pool(c->core, count_pool, i);
	rc = count_keys(c, PREFIX_ALIVE, &i->nodes_alive, err);
	if (!rc)
		rc = count_keys(c, PREFIX_VOLUME, &i->volumes, err);
	if (!rc)
		rc = count_keys(c, PREFIX_VM, &i->vms, err);
	return rc;
}

int hci_cluster_info(hci_cluster *c, struct hci_cluster_info *out, uint64_t info_size, struct hci_error *err)
{
	struct hci_cluster_info i = { 0 };
	int rc;

	if (!c)
		return api_null("c", err);
	rc = api_call_fresh(c, info_on_loop, &i, err);
	return rc ? rc : api_info_out(out, info_size, &i, sizeof(i), "cluster info", err);
}
