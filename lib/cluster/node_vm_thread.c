/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking calls into libvirt from fibers. A migration blocks for minutes, a shutdown for one, a hung
 * libvirtd for ever: so not one of the loop's few workers is lent for that, but a thread of its own. (The
 * simulator's hypervisor parks instead, and gets a fiber.)
 */
#include <signal.h>

#include "cluster/node_vm_impl.h"

static void thread_done(struct env_task *task)
{
	struct vm_thread *t = container_of(task, struct vm_thread, task);

	t->done = true;
	fiber_cond_signal(t->e, &t->cond);
}

static void *thread_main(void *arg)
{
	struct vm_thread *t = arg;

	t->run(t->arg);
	env_post(t->e, &t->task);
	return NULL;
}

static void fiber_main(void *arg)
{
	struct vm_thread *t = arg;

	t->run(t->arg);
	thread_done(&t->task);
}

int vm_thread_start(struct node *n, struct vm_thread *t, void (*run)(void *arg), void *arg, struct hci_error *err)
{
	sigset_t all, old;
	int rc;

	memset(t, 0, sizeof(*t));
	t->e = n->e;
	t->run = run;
	t->arg = arg;
	env_task_init(&t->task, thread_done);
	fiber_cond_init(&t->cond);
	t->is_fiber = n->o.hypervisor->parks;
	if (t->is_fiber)
		return fiber_spawn(n->e, fiber_main, t, "vm-call") ? err_set(err, HCI_E_NOMEM, "no fiber for the hypervisor") : 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc ? err_sys(err, HCI_E_SYS, rc, "no thread for libvirt") : 0;
}

bool vm_thread_wait(struct vm_thread *t, uint64_t deadline)
{
	while (!t->done && env_now(t->e) < deadline)
		fiber_cond_wait_until(t->e, &t->cond, deadline);
	return t->done;
}

void vm_thread_join(struct vm_thread *t)
{
	while (!t->done)
		fiber_cond_wait(t->e, &t->cond);
	if (!t->is_fiber)
		pthread_join(t->thread, NULL);
}

/* ---- the calls ---- */

struct call {
	const struct hypervisor *h;
	struct compute *c;
	int (*fn)(struct call *x);
	const char *name; /* or a path */
	const struct compute_vm *vm;
	uint32_t how; /* to stop; of a nudge: which disk */
	struct compute_state **list;
	size_t *n;
	struct compute_state *state;
	struct compute_migrated *migrated;
	struct compute_needs *needs;
	struct problems *problems;
	bool state_too;
	struct hci_error *err;
	int rc;
};

static void call_run(void *arg)
{
	struct call *x = arg;

	x->rc = x->fn(x);
}

static int call(struct node *n, struct call *x)
{
	struct vm_thread t;
	int rc;

	x->h = n->o.hypervisor;
	x->c = n->o.compute;
	rc = vm_thread_start(n, &t, call_run, x, x->err);
	if (rc)
		return rc;
	vm_thread_join(&t);
	return x->rc;
}

static int do_start(struct call *x)
{
	return x->h->start(x->c, x->vm, x->err);
}

int vm_compute_start(struct node *n, const struct compute_vm *vm, struct hci_error *err)
{
	return call(n, &(struct call){ .fn = do_start, .vm = vm, .err = err });
}

static int do_stop(struct call *x)
{
	return x->h->stop(x->c, x->name, x->how, 60 * NS_PER_S, x->err);
}

int vm_compute_stop(struct node *n, const char *name, uint32_t how, struct hci_error *err)
{
	return call(n, &(struct call){ .fn = do_stop, .name = name, .how = how, .err = err });
}

static int do_list(struct call *x)
{
	return x->h->list(x->c, x->list, x->n, x->err);
}

int vm_compute_list(struct node *n, struct compute_state **out, size_t *cnt, struct hci_error *err)
{
	*out = NULL;
	*cnt = 0;
	return call(n, &(struct call){ .fn = do_list, .list = out, .n = cnt, .err = err });
}

static int do_find(struct call *x)
{
	return x->h->find(x->c, x->name, x->state, x->err);
}

int vm_compute_find(struct node *n, const char *name, struct compute_state *out, struct hci_error *err)
{
	return call(n, &(struct call){ .fn = do_find, .name = name, .state = out, .err = err });
}

static int do_suspend(struct call *x)
{
	return x->h->suspend(x->c, x->name, x->err);
}

int vm_compute_suspend(struct node *n, const char *name, struct hci_error *err)
{
	return call(n, &(struct call){ .fn = do_suspend, .name = name, .err = err });
}

static int do_resume(struct call *x)
{
	return x->h->resume(x->c, x->name, x->err);
}

int vm_compute_resume(struct node *n, const char *name, struct hci_error *err)
{
	return call(n, &(struct call){ .fn = do_resume, .name = name, .err = err });
}

static int do_nudge(struct call *x)
{
	return x->h->nudge(x->c, x->name, x->how, x->err);
}

int vm_compute_nudge(struct node *n, const char *name, uint32_t disk, uint64_t patience_ns, void (*late)(void *arg), void *arg,
		     struct hci_error *err)
{
	struct call x = { .h = n->o.hypervisor, .c = n->o.compute, .fn = do_nudge, .name = name, .how = disk, .err = err };
	struct vm_thread t;
	int rc = vm_thread_start(n, &t, call_run, &x, err);

	if (rc)
		return rc;
	if (!vm_thread_wait(&t, env_now(n->e) + patience_ns))
		late(arg);
	vm_thread_join(&t);
	return x.rc;
}

static int do_needs(struct call *x)
{
	return x->h->needs(x->c, x->name, x->needs, x->err);
}

int vm_compute_needs(struct node *n, const char *name, struct compute_needs *out, struct hci_error *err)
{
	return call(n, &(struct call){ .fn = do_needs, .name = name, .needs = out, .err = err });
}

/* One that adds to a list; that it could not be made is one thing more in it. */
static void list_call(struct node *n, struct call *x)
{
	struct hci_error err;

	x->err = &err;
	if (call(n, x))
		problems_add(x->problems, err.code, "node service", "see what uses up its threads", "%s", err.message);
}

static int do_preflight(struct call *x)
{
	x->h->preflight(x->c, x->needs, x->problems);
	return 0;
}

void vm_compute_preflight(struct node *n, const struct compute_needs *needs, struct problems *p)
{
	list_call(n, &(struct call){ .fn = do_preflight, .needs = (struct compute_needs *)(uintptr_t)needs, .problems = p });
}

static int do_may_leave(struct call *x)
{
	x->h->may_leave(x->c, x->name, x->state_too, x->problems);
	return 0;
}

void vm_compute_may_leave(struct node *n, const char *name, bool state, struct problems *p)
{
	list_call(n, &(struct call){ .fn = do_may_leave, .name = name, .state_too = state, .problems = p });
}

static int do_socket_give(struct call *x)
{
	return x->h->socket_give(x->c, x->name, x->err);
}

int vm_compute_socket_give(struct node *n, const char *path, struct hci_error *err)
{
	return call(n, &(struct call){ .fn = do_socket_give, .name = path, .err = err });
}

static int do_migrated(struct call *x)
{
	return x->h->migrated(x->c, x->name, x->migrated, x->err);
}

int vm_compute_migrated(struct node *n, const char *name, struct compute_migrated *out, struct hci_error *err)
{
	memset(out, 0, sizeof(*out));
	return call(n, &(struct call){ .fn = do_migrated, .name = name, .migrated = out, .err = err });
}
