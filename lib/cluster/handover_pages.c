/* SPDX-License-Identifier: Apache-2.0 */
/* See handover_pages.h. Owns the stores; what is in them is memstream/store.h's. */
#include "cluster/handover_pages.h"

#include "cluster/node_impl.h"
#include "compute/memstream/store.h"

#define STORE_BYTES (256 * MiB) /* of pages that came here */
#define KNOWN_PAGES (STORE_BYTES / MST_PAGE) /* of each other node: what its store has, and no more, which it would refuse; 1 MiB */

struct known {
	struct list link;
	char node[HCI_NAME_MAX];
	struct mst_known *k;
};

struct ho_pages {
	struct node *n;
	struct mst_store *store; /* made when the first VM comes */
	struct list known;       /* struct known: a node each */
};

struct ho_pages *ho_pages_new(struct node *n)
{
	struct ho_pages *p = MEM_NEW(struct ho_pages);

	if (!p)
		return NULL;
	p->n = n;
	list_init(&p->known);
	return p;
}

void ho_pages_free(struct ho_pages *p)
{
	struct list *l;

	if (!p)
		return;
	while ((l = list_pop(&p->known))) {
		struct known *k = list_entry(l, struct known, link);

		mst_known_free(k->k);
		mem_free(k);
	}
	mst_store_free(p->store);
	mem_free(p);
}

bool ho_pages_in(struct ho_pages *p, struct mst_provider *out)
{
	uint8_t id[16] = MST_STORE_PREFIX;
	size_t n = strlen(MST_STORE_PREFIX);

	if (!p->store) {
		env_random(p->n->e, id + n, sizeof(id) - n);
		p->store = mst_store_new(id, STORE_BYTES);
	}
	if (p->store)
		mst_store_provider(p->store, out);
	return p->store;
}

static struct known *find(struct ho_pages *p, const char *node)
{
	struct known *k;

	list_for_each(k, &p->known, link)
		if (!strcmp(k->node, node))
			return k;
	k = MEM_NEW(struct known);
	if (k)
		k->k = mst_known_new(KNOWN_PAGES);
	if (!k || !k->k) {
		mem_free(k);
		return NULL;
	}
	snprintf(k->node, sizeof(k->node), "%s", node);
	list_push(&p->known, &k->link);
	return k;
}

bool ho_pages_out(struct ho_pages *p, const char *to, struct mst_provider *out)
{
	struct known *k = find(p, to);

	if (k)
		mst_known_provider(k->k, out);
	return k;
}
