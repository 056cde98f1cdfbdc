/* SPDX-License-Identifier: Apache-2.0 */
/* Calls into the loop, and the helpers for what goes back to callers. */
#include "api/api_impl.h"

#include "volume/volume.h"

#include <stdlib.h>

struct call {
	struct env_task task;
	hci_cluster *c;
	int (*fn)(hci_cluster *c, void *arg, struct hci_error *err);
	void *arg;
	struct hci_error err;
	int rc;
	bool fresh;
	bool done;            /* guarded by lock */
	pthread_mutex_t lock; /* guards done between the loop and the waiting thread */
	pthread_cond_t cond;
};

static void call_end(struct call *x)
{
	pthread_mutex_lock(&x->lock);
	x->done = true;
	pthread_cond_signal(&x->cond);
	pthread_mutex_unlock(&x->lock);
}

static void call_fiber(void *arg)
{
	struct call *x = arg;

	x->rc = x->fresh ? core_catch_up(x->c->core, &x->err) : 0;
	if (!x->rc)
		x->rc = x->fn(x->c, x->arg, &x->err);
	call_end(x);
}

static void call_task(struct env_task *t)
{
	struct call *x = container_of(t, struct call, task);

	if (fiber_spawn(x->c->env, call_fiber, x, "api")) {
		x->rc = err_set(&x->err, HCI_E_NOMEM, "out of memory for a fiber");
		call_end(x);
	}
}

static int call(hci_cluster *c, bool fresh, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg,
		struct hci_error *err)
{
	struct call x = { .c = c, .fn = fn, .arg = arg, .fresh = fresh };

	if (c->thread_runs && env_runs_here(c->env))
		return err_set(err, HCI_E_STATE, "libhci was called from one of its own callbacks: hand the work to another thread");
	env_task_init(&x.task, call_task);
	pthread_mutex_init(&x.lock, NULL);
	pthread_cond_init(&x.cond, NULL);
	env_post(c->env, &x.task);
	pthread_mutex_lock(&x.lock);
	while (!x.done)
		pthread_cond_wait(&x.cond, &x.lock);
	pthread_mutex_unlock(&x.lock);
	pthread_cond_destroy(&x.cond);
	pthread_mutex_destroy(&x.lock);
	if (x.rc)
		err_copy(err, &x.err, x.rc);
	return x.rc;
}

int api_call(hci_cluster *c, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg, struct hci_error *err)
{
	return call(c, false, fn, arg, err);
}

int api_call_fresh(hci_cluster *c, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg,
		   struct hci_error *err)
{
	return call(c, true, fn, arg, err);
}

int api_none(const char *kind, const char *noun, const char *name, struct hci_error *err)
{
	return err_set(err, HCI_E_NOTFOUND, "%s %s: there is none of this name: hcictl %s list shows those there are", kind, name, noun);
}

int api_volume_find(hci_cluster *c, const char *name, struct uuid *id, struct rec_volume *out, struct hci_error *err)
{
	int rc = vol_lookup(core_vol_ctx(c->core), name, id, out, err);

	return rc == HCI_E_NOTFOUND ? api_none("volume", "volume", name, err) : rc;
}

int api_null(const char *what, struct hci_error *err)
{
	return err_set(err, HCI_E_INVAL, "argument %s must not be NULL", what);
}

int api_list_call(hci_cluster *c, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg, struct api_list *l,
		  void *out, uint64_t *n, uint64_t info_size, uint64_t ours, struct hci_error *err)
{
	int rc;

	memset(l, 0, sizeof(*l));
	if (!c || !out || !n)
		return api_null(!c ? "c" : out ? "n" : "out", err);
	if (info_size < 8 || info_size > 65536)
		return err_set(err, HCI_E_INVAL, "info_size %llu: pass sizeof of the info struct",
			       (unsigned long long)info_size);
	l->stride = info_size;
	l->min = MIN(info_size, ours);
	rc = api_call_fresh(c, fn, arg, err);
	if (rc) {
		mem_free(l->data);
		return rc;
	}
	memcpy(out, &l->data, sizeof(l->data));
	*n = l->n;
	return 0;
}

int api_list_add(struct api_list *l, const void *info, uint64_t ours, struct hci_error *err)
{
	if (l->n == l->cap) {
		uint64_t cap = l->cap ? l->cap * 2 : 16;
		uint8_t *data = mem_realloc(l->data, cap * l->stride);

		if (!data)
			return err_set(err, HCI_E_NOMEM, "out of memory for a list of %llu", (unsigned long long)cap);
		l->data = data;
		l->cap = cap;
	}
	memset(l->data + l->n * l->stride, 0, l->stride);
	memcpy(l->data + l->n * l->stride, info, MIN(l->stride, ours));
	l->n++;
	return 0;
}

void hci_list_free(void *list)
{
	mem_free(list);
}

int api_info_out(void *out, uint64_t info_size, const void *info, uint64_t ours, const char *what, struct hci_error *err)
{
	if (!out)
		return api_null("out", err);
	if (info_size < 8 || info_size > 65536)
		return err_set(err, HCI_E_INVAL, "%s: size %llu: pass sizeof of the struct", what,
			       (unsigned long long)info_size);
	memset(out, 0, info_size);
	memcpy(out, info, MIN(info_size, ours));
	return 0;
}
