/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hci/event.h: changes of records become events in a bounded ring. The loop writes, any thread reads;
 * the lock guards the ring, which is short work on both sides.
 */
#include "api/api_impl.h"
#include "api/whole.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEPTH 4096u

struct api_events {
	hci_cluster *c;
	struct core_watcher watcher;
	struct whole *whole; /* the loop's, as are these */
	bool watching, loading, load_again, closing;
	pthread_mutex_t lock; /* guards ring, head, n, overflow */
	struct hci_event *ring;
	uint32_t depth, head, n;
	bool overflow;
	int fd;
};

void api_events_free(struct api_events *e)
{
	if (!e)
		return;
	close(e->fd);
	pthread_mutex_destroy(&e->lock);
	mem_free(e->ring);
	mem_free(e);
}

/* ---- on the loop ---- */

static void push(struct api_events *e, const struct hci_event *ev)
{
	uint64_t one = 1;

	pthread_mutex_lock(&e->lock);
	if (e->n == e->depth)
		e->overflow = true;
	else
		e->ring[(e->head + e->n++) % e->depth] = *ev;
	pthread_mutex_unlock(&e->lock);
	while (write(e->fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void set(struct hci_event *ev, int32_t type, const char *object, const char *node, const char *text)
{
	ev->type = type;
	snprintf(ev->object, sizeof(ev->object), "%s", object);
	snprintf(ev->node, sizeof(ev->node), "%s", node);
	snprintf(ev->text, sizeof(ev->text), "%.255s", text);
}

static bool of_disk(struct hci_event *ev, const void *value, size_t len)
{
	struct rec_disk d;
	char id[HCI_UUID_STR], text[640];

	if (!value || rec_disk_decode(value, len, &d, NULL))
		return false;
	uuid_print(&d.uuid, id);
	snprintf(text, sizeof(text), "%s %s", rec_disk_state_name(d.state), d.reason);
	set(ev, d.state == REC_DISK_ONLINE && d.why == HCI_E_NOSPACE ? HCI_EVENT_DISK_FULL : HCI_EVENT_DISK_STATE, id, d.node, text);
	return true;
}

static bool of_job(struct hci_event *ev, const void *value, size_t len)
{
	struct rec_job *j = MEM_NEW(struct rec_job);
	char text[640];
	bool told = false;

	/* Begin and end; progress is for those who look at the job. */
	if (j && value && !rec_job_decode(value, len, j, NULL) &&
	    (j->state != REC_JOB_RUNNING || (!j->done && !*j->phase))) {
		snprintf(text, sizeof(text), "%s %s: %s %.150s", j->type, j->target, rec_job_state_name(j->state),
			 j->message);
		set(ev, HCI_EVENT_JOB, j->id, j->node, text);
		told = true;
	}
	mem_free(j);
	return told;
}

static bool of_attach(struct hci_event *ev, const char *id, const void *value, size_t len)
{
	struct rec_volatt a;

	if (!value) {
		set(ev, HCI_EVENT_VOLUME_DETACHED, id, "", "");
		return true;
	}
	if (rec_volatt_decode(value, len, &a, NULL))
		return false;
	set(ev, HCI_EVENT_VOLUME_ATTACHED, id, a.holder, rec_att_purpose_name(a.purpose));
	return true;
}

static bool of_vm(struct hci_event *ev, const char *name, const void *value, size_t len)
{
	struct rec_vmrun r;

	if (value && rec_vmrun_decode(value, len, &r, NULL))
		return false;
	set(ev, HCI_EVENT_VM_STATE, name, value ? r.node : "", value ? rec_vm_runs_name(r.runs) : "stopped");
	return true;
}

/* That it does not run its other record tells, by its end. */
static bool of_crash(struct hci_event *ev, const char *name, const void *value, size_t len)
{
	struct rec_vm *r = MEM_NEW(struct rec_vm);
	bool told = r && value && !rec_vm_decode(value, len, r, NULL) && r->crashed;

	if (told)
		set(ev, HCI_EVENT_VM_STATE, name, r->node, "crashed");
	mem_free(r);
	return told;
}

static bool translate(struct hci_event *ev, const char *key, const void *value, size_t len)
{
	const char *t;

	if ((t = key_tail(key, PREFIX_ALIVE))) {
		set(ev, value ? HCI_EVENT_NODE_UP : HCI_EVENT_NODE_DOWN, t, t, value ? "heartbeat" : "no heartbeat");
		return true;
	}
	if (key_tail(key, PREFIX_DISK))
		return of_disk(ev, value, len);
	if (key_tail(key, PREFIX_JOB))
		return of_job(ev, value, len);
	if ((t = key_tail(key, PREFIX_VOLATT)))
		return of_attach(ev, t, value, len);
	if ((t = key_tail(key, PREFIX_VMRUN)))
		return of_vm(ev, t, value, len);
	if ((t = key_tail(key, PREFIX_VM)))
		return of_crash(ev, t, value, len);
	return false;
}

static void on_whole(void *arg, const struct whole_news *n)
{
	struct api_events *e = arg;
	struct hci_event ev = { .time = env_realtime(e->c->env), .revision = n->revision };
	char id[HCI_UUID_STR], text[200];

	uuid_print(n->volume, id);
	if (n->whole)
		snprintf(text, sizeof(text), "%s: all in sync", n->name);
	else if (n->out)
		snprintf(text, sizeof(text), "%s: %u disks out of sync", n->name, n->out);
	else if (n->short_of)
		snprintf(text, sizeof(text), "%s: %u segments have fewer copies in sync than wanted", n->name, n->short_of);
	else
		snprintf(text, sizeof(text), "%s: copies of %u segments are being made", n->name, n->joining);
	set(&ev, n->whole ? HCI_EVENT_VOLUME_HEALTHY : HCI_EVENT_VOLUME_DEGRADED, id, "", text);
	push(e, &ev);
}

static void load_fiber(void *arg)
{
	struct api_events *e = arg;
	struct hci_error err;

	while (e->load_again && !e->closing) {
		e->load_again = false;
		if (whole_load(e->whole, e->c->store, &err)) {
			log_warn(env_log(e->c->env), "events: volumes cannot be read again yet: %s", err.message);
			e->load_again = true;
			fiber_sleep(e->c->env, 500 * NS_PER_MS);
		}
	}
	e->loading = false;
}

/* Without a fiber: with the next record that is heard. */
static void load_again(struct api_events *e)
{
	e->load_again = true;
	if (!e->loading && !e->closing)
		e->loading = !fiber_spawn(e->c->env, load_fiber, e, "events-reload");
}

static void on_record(struct core_watcher *w, const char *key, const void *value, size_t len, uint64_t revision)
{
	struct api_events *e = container_of(w, struct api_events, watcher);
	struct hci_event ev = { .time = env_realtime(e->c->env), .revision = revision };

	if (!key) {
		set(&ev, HCI_EVENT_OVERFLOW, "", "", "the store's history was lost: list anew");
		push(e, &ev);
		load_again(e);
		return;
	}
	if (e->load_again)
		load_again(e);
	if (translate(&ev, key, value, len))
		push(e, &ev);
	whole_record(e->whole, key, value, len, revision);
}

void api_events_stop(struct api_events *e)
{
	if (!e)
		return;
	e->closing = true;
	if (e->watching)
		core_unwatch(e->c->core, &e->watcher);
	while (e->loading)
		fiber_sleep(e->c->env, 5 * NS_PER_MS);
	whole_free(e->whole);
	e->whole = NULL;
}

/* ---- the program's side ---- */

static int subscribe_on_loop(hci_cluster *c, void *arg, struct hci_error *err)
{
	struct api_events *e = arg;
	int rc;

	e->whole = whole_new(c->env, on_whole, e);
	if (!e->whole)
		return err_set(err, HCI_E_NOMEM, "events: out of memory");
	core_watch(c->core, &e->watcher);
	e->watching = e->loading = true;
	rc = whole_load(e->whole, c->store, NULL);
	e->loading = false;
	/* The store is away: events come when it is back. */
	if (rc || e->load_again)
		load_again(e);
	return 0;
}

int hci_event_subscribe(hci_cluster *c, uint32_t depth, struct hci_error *err)
{
	struct api_events *e, *none = NULL;

	if (!c)
		return api_null("c", err);
	if (depth > 1u << 20)
		return err_set(err, HCI_E_INVAL, "events: a depth of %u is more than 1048576", depth);
	if (__atomic_load_n(&c->events, __ATOMIC_ACQUIRE))
		return err_set(err, HCI_E_EXISTS, "events: this cluster handle has subscribed already");
	e = MEM_NEW(struct api_events);
	if (!e)
		return err_set(err, HCI_E_NOMEM, "events: out of memory");
	e->c = c;
	e->depth = depth ? depth : DEPTH;
	e->watcher.fn = on_record;
	pthread_mutex_init(&e->lock, NULL);
	e->ring = mem_calloc(e->depth, sizeof(*e->ring));
	e->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!e->ring || e->fd < 0 ||
	    !__atomic_compare_exchange_n(&c->events, &none, e, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		int rc = none ? HCI_E_EXISTS : HCI_E_NOMEM;

		api_events_free(e);
		return err_set(err, rc, "events: %s", none ? "subscribed already" : "out of memory or descriptors");
	}
	return api_call(c, subscribe_on_loop, e, err);
}

int hci_event_fd(const hci_cluster *c)
{
	struct api_events *e = __atomic_load_n(&c->events, __ATOMIC_ACQUIRE);

	return e ? e->fd : -1;
}

static bool take(struct api_events *e, struct hci_event *ev)
{
	uint64_t v;
	bool got = true;

	pthread_mutex_lock(&e->lock);
	if (e->n) {
		*ev = e->ring[e->head];
		e->head = (e->head + 1) % e->depth;
		e->n--;
	} else if (e->overflow) {
		memset(ev, 0, sizeof(*ev));
		set(ev, HCI_EVENT_OVERFLOW, "", "", "events were left out: list anew");
		e->overflow = false;
	} else {
		got = false;
	}
	if (!e->n && !e->overflow && read(e->fd, &v, sizeof(v)) < 0)
		v = 0; /* nothing was written since: fine */
	pthread_mutex_unlock(&e->lock);
	return got;
}

int hci_event_next(hci_cluster *c, struct hci_event *out, uint64_t event_size, int32_t timeout_ms, struct hci_error *err)
{
	struct api_events *e;
	struct hci_event ev;

	if (!c || !out)
		return api_null(c ? "out" : "c", err);
	e = __atomic_load_n(&c->events, __ATOMIC_ACQUIRE);
	if (!e)
		return err_set(err, HCI_E_STATE, "events: call hci_event_subscribe() first");
	while (!take(e, &ev)) {
		struct pollfd p = { .fd = e->fd, .events = POLLIN };
		int n = timeout_ms ? poll(&p, 1, timeout_ms) : 0;

		if (n == 0 || (n < 0 && errno != EINTR))
			return 0;
	}
	return api_info_out(out, event_size, &ev, sizeof(ev), "event", err) ? HCI_E_INVAL : 1;
}

const char *hci_event_name(int32_t type)
{
	static const char *const names[] = {
		[HCI_EVENT_NODE_UP] = "node-up",
		[HCI_EVENT_NODE_DOWN] = "node-down",
		[HCI_EVENT_DISK_STATE] = "disk-state",
		[HCI_EVENT_VOLUME_DEGRADED] = "volume-degraded",
		[HCI_EVENT_VOLUME_HEALTHY] = "volume-healthy",
		[HCI_EVENT_VOLUME_ATTACHED] = "volume-attached",
		[HCI_EVENT_VOLUME_DETACHED] = "volume-detached",
		[HCI_EVENT_VM_STATE] = "vm-state",
		[HCI_EVENT_JOB] = "job",
		[HCI_EVENT_OVERFLOW] = "overflow",
		[HCI_EVENT_DISK_FULL] = "disk-full",
	};

	return type > 0 && (size_t)type < ARRAY_SIZE(names) ? names[type] : "?";
}
