/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked list, circular with a head, as known from the Linux kernel. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/base.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert_(struct list *n, struct list *prev, struct list *next)
{
	n->prev = prev;
	n->next = next;
	prev->next = n;
	next->prev = n;
}

/* At the front, respectively the back. */
static inline void list_push_front(struct list *head, struct list *n)
{
	list_insert_(n, head, head->next);
}

static inline void list_push(struct list *head, struct list *n)
{
	list_insert_(n, head->prev, head);
}

/* Safe to call twice: a removed node is left as an empty list. */
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

static inline struct list *list_pop(struct list *head)
{
	struct list *n = head->next;

	if (n == head)
		return NULL;
	list_del(n);
	return n;
}

/* All of src to the back of dst; src is empty after. */
static inline void list_splice(struct list *dst, struct list *src)
{
	if (list_empty(src))
		return;
	src->next->prev = dst->prev;
	dst->prev->next = src->next;
	src->prev->next = dst;
	dst->prev = src->prev;
	list_init(src);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) list_entry((head)->next, type, member)
#define list_for_each(it, head, member)                                                             \
	for ((it) = list_entry((head)->next, __typeof__(*(it)), member); &(it)->member != (head);   \
	     (it) = list_entry((it)->member.next, __typeof__(*(it)), member))
/* The current entry may be removed in the body; no other may. */
#define list_for_each_safe(it, tmp, head, member)                                                   \
	for ((it) = list_entry((head)->next, __typeof__(*(it)), member),                            \
	    (tmp) = list_entry((it)->member.next, __typeof__(*(it)), member);                       \
	     &(it)->member != (head);                                                               \
	     (it) = (tmp), (tmp) = list_entry((tmp)->member.next, __typeof__(*(tmp)), member))

#endif
