/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Worker threads of a real env: blocking calls run here, their end is posted to the loop. Threads
 * are started when there is work and none is idle, up to the limit, and stay until the env ends.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/mem.h"
#include "env/real_impl.h"

int pool_init(struct pool *p, unsigned max)
{
	int e;

	list_init(&p->queue);
	p->max = max;
	p->threads = mem_calloc(max, sizeof(*p->threads));
	if (!p->threads)
		return -ENOMEM;
	e = pthread_mutex_init(&p->lock, NULL);
	if (!e)
		e = pthread_cond_init(&p->cond, NULL);
	if (e) {
		mem_free(p->threads);
		p->threads = NULL;
	}
	return -e;
}

static void *worker(void *arg)
{
	struct real *r = arg;
	struct pool *p = &r->pool;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct list *n = list_pop(&p->queue);

		if (n) {
			struct env_work *w = list_entry(n, struct env_work, link);

			p->queued--;
			pthread_mutex_unlock(&p->lock);
			w->run(w);
			env_post(&r->env, &w->task);
			pthread_mutex_lock(&p->lock);
			continue;
		}
		if (p->stop)
			break;
		p->idle++;
		pthread_cond_wait(&p->cond, &p->lock);
		p->idle--;
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* With the lock held. Signals are the embedding program's business: none is delivered here. */
static void start_thread(struct real *r)
{
	struct pool *p = &r->pool;
	sigset_t all, old;
	char name[16];

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!pthread_create(&p->threads[p->n], NULL, worker, r)) {
		snprintf(name, sizeof(name), "%s-w%u", r->name, p->n % 100);
		pthread_setname_np(p->threads[p->n], name);
		p->n++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void work_over(struct env_task *t)
{
	struct env_work *w = container_of(t, struct env_work, task);

	real_of(w->env)->work_inflight--;
	w->done(w);
}

/* How many threads there are now. */
static unsigned enqueue(struct real *r, struct env_work *w)
{
	struct pool *p = &r->pool;
	unsigned n;

	pthread_mutex_lock(&p->lock);
	list_push(&p->queue, &w->link);
	p->queued++;
	if (p->queued > p->idle && p->n < p->max)
		start_thread(r);
	else
		pthread_cond_signal(&p->cond);
	n = p->n;
	if (!n) {
		list_del(&w->link);
		p->queued--;
	}
	pthread_mutex_unlock(&p->lock);
	return n;
}

void real_work(struct env *e, struct env_work *w)
{
	struct real *r = real_of(e);

	r->work_inflight++;
	w->env = e;
	env_task_init(&w->task, work_over);
	if (enqueue(r, w))
		return;
	/* Not one thread is to be had: late is better than never. */
	w->run(w);
	env_defer(e, &w->task);
}

void pool_stop(struct real *r)
{
	struct pool *p = &r->pool;
	unsigned i;

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->cond);
	pthread_mutex_unlock(&p->lock);
	for (i = 0; i < p->n; i++)
		pthread_join(p->threads[i], NULL);
	p->n = 0;
}

void pool_fini(struct pool *p)
{
	if (!p->threads)
		return;
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->lock);
	mem_free(p->threads);
}
