/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that are used again: see pool.h. */
#include "compute/memstream/pool.h"

#include <pthread.h>

#include "base/mem.h"
#include "compute/memstream/wire.h"

#define KEPT 16u

struct msg_pool {
	pthread_mutex_t lock;
	struct list kept;
	uint32_t n, users; /* users: messages that are out, and the maker */
	size_t cap;
	bool closed;
};

struct msg_pool *msg_pool_new(size_t cap)
{
	struct msg_pool *p = MEM_NEW(struct msg_pool);

	if (!p)
		return NULL;
	pthread_mutex_init(&p->lock, NULL);
	list_init(&p->kept);
	p->cap = cap;
	p->users = 1;
	return p;
}

/* One user less; the lock is held, and is let go. */
static void leave(struct msg_pool *p)
{
	bool last = !--p->users;

	pthread_mutex_unlock(&p->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&p->lock);
	mem_free(p);
}

void msg_pool_close(struct msg_pool *p)
{
	struct list *l;

	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->closed = true;
	while ((l = list_pop(&p->kept)))
		mem_free(list_entry(l, struct mst_msg, link));
	leave(p);
}

struct mst_msg *msg_pool_take(struct msg_pool *p)
{
	struct mst_msg *m;
	struct list *l;

	pthread_mutex_lock(&p->lock);
	l = list_pop(&p->kept);
	m = l ? list_entry(l, struct mst_msg, link) : mst_msg_new(p->cap);
	p->n -= l != NULL;
	p->users += m != NULL;
	pthread_mutex_unlock(&p->lock);
	if (!m)
		return NULL;
	list_init(&m->link);
	m->len = 0;
	m->pool = p;
	return m;
}

void msg_pool_give(struct mst_msg *m)
{
	struct msg_pool *p = m->pool;

	pthread_mutex_lock(&p->lock);
	if (UNDER_ASAN || p->closed || p->n == KEPT) {
		mem_free(m);
	} else {
		list_push_front(&p->kept, &m->link);
		p->n++;
	}
	leave(p);
}
