/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names on a simulated disk: a tree of directories, and a journal of the changes that a power loss may
 * still undo. Contents of files are in sim_file.c.
 *
 * The model: each change (create, unlink, rename, mkdir, rmdir) is atomic. Syncing a directory makes
 * its changes durable, and those they build on; it promises nothing of its parent's. After a power
 * loss some prefix of the other changes is there, as a journal replays. What is a few seconds old has
 * been committed by itself.
 */
#include "env/sim_impl.h"

#include <errno.h>
#include <stdlib.h>

#define COMMIT_NS (5 * NS_PER_S)
#define NAME_LIMIT 255u

struct entry {
	char *name;
	struct sim_dent *obj;
};

/* A directory or a file, under any number of names (0 or 1, but for what the journal remembers). */
struct sim_dent {
	uint32_t refs;
	bool dir;
	struct sim_inode *inode;
	struct entry *ent; /* sorted by name */
	size_t n, cap;
	uint64_t mark;
};

struct change {
	struct list link;
	uint64_t seq, time;
	unsigned n;
	struct {
		struct sim_dent *dir, *before, *after;
		char *name;
	} part[2];
};

static struct sim_dent *dent_new(struct sim_inode *i)
{
	struct sim_dent *d = sim_calloc(1, sizeof(*d));

	d->refs = 1;
	d->dir = !i;
	d->inode = i;
	return d;
}

static struct sim_dent *dent_ref(struct sim_dent *d)
{
	if (d)
		d->refs++;
	return d;
}

static void dent_unref(struct sim_dent *d)
{
	if (!d || --d->refs > 0)
		return;
	for (size_t k = 0; k < d->n; k++) {
		free(d->ent[k].name);
		dent_unref(d->ent[k].obj);
	}
	free(d->ent);
	if (d->inode)
		sim_inode_unref(d->inode);
	free(d);
}

static size_t position(const struct sim_dent *d, const char *name, bool *found)
{
	size_t lo = 0, hi = d->n;

	*found = false;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		int c = strcmp(d->ent[mid].name, name);

		if (c == 0) {
			*found = true;
			return mid;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct sim_dent *lookup(const struct sim_dent *d, const char *name)
{
	bool found;
	size_t at = position(d, name, &found);

	return found ? d->ent[at].obj : NULL;
}

/* The name stands for obj from now on; NULL: for nothing. */
static void set_entry(struct sim_dent *d, const char *name, struct sim_dent *obj)
{
	bool found;
	size_t at = position(d, name, &found);
	struct sim_dent *old = NULL;

	dent_ref(obj);
	if (found) {
		old = d->ent[at].obj;
		d->ent[at].obj = obj;
		if (!obj) {
			free(d->ent[at].name);
			memmove(d->ent + at, d->ent + at + 1, (--d->n - at) * sizeof(*d->ent));
		}
	} else if (obj) {
		if (d->n == d->cap) {
			d->cap = MAX(d->cap * 2, (size_t)8);
			d->ent = sim_realloc(d->ent, d->cap * sizeof(*d->ent));
		}
		memmove(d->ent + at + 1, d->ent + at, (d->n++ - at) * sizeof(*d->ent));
		d->ent[at] = (struct entry){ sim_strdup(name), obj };
	}
	dent_unref(old);
}

/* ---- journal ---- */

static struct change *change_new(struct sim_disk *d)
{
	struct change *c = sim_calloc(1, sizeof(*c));

	c->seq = ++d->ns.seq;
	c->time = d->sim->now;
	list_push(&d->ns.journal, &c->link);
	return c;
}

static void change_bind(struct change *c, struct sim_dent *dir, const char *name, struct sim_dent *obj)
{
	c->part[c->n].dir = dent_ref(dir);
	c->part[c->n].name = sim_strdup(name);
	c->part[c->n].before = dent_ref(lookup(dir, name));
	c->part[c->n].after = dent_ref(obj);
	c->n++;
	set_entry(dir, name, obj);
}

static void change_free(struct change *c)
{
	list_del(&c->link);
	for (unsigned k = 0; k < c->n; k++) {
		dent_unref(c->part[k].before);
		dent_unref(c->part[k].after);
		dent_unref(c->part[k].dir);
		free(c->part[k].name);
	}
	free(c);
}

void sim_ns_commit(struct sim_disk *d, uint64_t min_age)
{
	while (!list_empty(&d->ns.journal)) {
		struct change *c = list_first(&d->ns.journal, struct change, link);

		if (d->sim->now - c->time < min_age)
			return;
		change_free(c);
	}
}

static struct change *change_begin(struct sim_disk *d)
{
	sim_ns_commit(d, COMMIT_NS);
	return change_new(d);
}

/* Back to front, so that what a change builds on goes with it. */
static void commit_dir(struct sim_disk *d, struct sim_dent *dir, uint64_t seq)
{
	uint64_t stamp = ++d->ns.stamp;
	struct list *l, *prev;

	dir->mark = stamp;
	for (l = d->ns.journal.prev; l != &d->ns.journal; l = prev) {
		struct change *c = list_entry(l, struct change, link);
		bool hit = false;

		prev = l->prev;
		for (unsigned k = 0; k < c->n; k++)
			hit |= c->part[k].dir->mark == stamp;
		if (!hit || c->seq > seq)
			continue;
		for (unsigned k = 0; k < c->n; k++)
			c->part[k].dir->mark = stamp;
		change_free(c);
	}
}

void sim_ns_power_loss(struct sim_disk *d)
{
	uint64_t n = 0, keep;
	struct list *l;

	for (l = d->ns.journal.next; l != &d->ns.journal; l = l->next)
		n++;
	keep = sim_rand_below(d->sim, n + 1);
	for (; n > keep; n--) {
		struct change *c = list_entry(d->ns.journal.prev, struct change, link);

		for (unsigned k = c->n; k-- > 0;)
			set_entry(c->part[k].dir, c->part[k].name, c->part[k].before);
		change_free(c);
	}
	sim_ns_commit(d, 0);
}

void sim_ns_init(struct sim_ns *ns)
{
	list_init(&ns->journal);
	ns->root = dent_new(NULL);
}

void sim_ns_free(struct sim_ns *ns)
{
	while (!list_empty(&ns->journal))
		change_free(list_first(&ns->journal, struct change, link));
	dent_unref(ns->root);
	ns->root = NULL;
}

/* ---- paths ---- */

/* The directory that holds the last part of the path, and that part; "" for the root itself. */
static int walk(struct sim_disk *d, const char *rel, struct sim_dent **dir, char name[NAME_LIMIT + 1])
{
	struct sim_dent *at = d->ns.root;

	for (;;) {
		size_t len;

		while (*rel == '/')
			rel++;
		len = strcspn(rel, "/");
		if (len > NAME_LIMIT)
			return -ENAMETOOLONG;
		memcpy(name, rel, len);
		name[len] = '\0';
		rel += len;
		while (*rel == '/')
			rel++;
		if (!*rel)
			break;
		at = lookup(at, name);
		if (!at)
			return -ENOENT;
		if (!at->dir)
			return -ENOTDIR;
	}
	*dir = at;
	return 0;
}

static int find(struct sim_disk *d, const char *rel, struct sim_dent **dir, char *name, struct sim_dent **obj)
{
	int rc = walk(d, rel, dir, name);

	if (rc)
		return rc;
	*obj = name[0] ? lookup(*dir, name) : d->ns.root;
	return *obj ? 0 : -ENOENT;
}

static int find_dir(struct sim_disk *d, const char *rel, struct sim_dent **out)
{
	char name[NAME_LIMIT + 1];
	struct sim_dent *dir;
	int rc = find(d, rel, &dir, name, out);

	if (rc == 0 && !(*out)->dir)
		return -ENOTDIR;
	return rc;
}

/* ---- operations ---- */

int sim_ns_open(struct sim_disk *d, const char *rel, unsigned flags, struct sim_inode **out)
{
	char name[NAME_LIMIT + 1];
	struct sim_dent *dir, *obj;
	int rc = find(d, rel, &dir, name, &obj);

	if (rc == -ENOENT && flags & ENV_O_CREATE) {
		rc = walk(d, rel, &dir, name);
		if (rc)
			return rc;
		if (d->used + HCI_BLOCK > d->capacity)
			return -ENOSPC;
		obj = dent_new(sim_inode_new(d));
		change_bind(change_begin(d), dir, name, obj);
		dent_unref(obj);
	} else if (rc) {
		return rc;
	} else if (flags & ENV_O_CREATE && flags & ENV_O_EXCL) {
		return -EEXIST;
	}
	if (obj->dir)
		return -EISDIR;
	sim_inode_ref(obj->inode);
	*out = obj->inode;
	return 0;
}

int sim_ns_unlink(struct sim_disk *d, const char *rel)
{
	char name[NAME_LIMIT + 1];
	struct sim_dent *dir, *obj;
	int rc = find(d, rel, &dir, name, &obj);

	if (rc)
		return rc;
	if (obj->dir)
		return -EISDIR;
	change_bind(change_begin(d), dir, name, NULL);
	return 0;
}

static bool is_below(const struct sim_dent *top, const struct sim_dent *x)
{
	if (top == x)
		return true;
	for (size_t k = 0; k < top->n; k++) {
		if (top->ent[k].obj->dir && is_below(top->ent[k].obj, x))
			return true;
	}
	return false;
}

int sim_ns_rename(struct sim_disk *d, const char *from, const char *to)
{
	char name[NAME_LIMIT + 1], name2[NAME_LIMIT + 1];
	struct sim_dent *dir, *obj, *dir2, *obj2;
	struct change *c;
	int rc = find(d, from, &dir, name, &obj);

	if (rc == 0)
		rc = walk(d, to, &dir2, name2);
	if (rc)
		return rc;
	if (!name[0] || !name2[0])
		return -EBUSY;
	if (obj->dir && is_below(obj, dir2))
		return -EINVAL;
	obj2 = lookup(dir2, name2);
	if (obj2 == obj)
		return 0;
	if (obj2 && obj2->dir != obj->dir)
		return obj2->dir ? -EISDIR : -ENOTDIR;
	if (obj2 && obj2->n > 0)
		return -ENOTEMPTY;
	dent_ref(obj);
	c = change_begin(d);
	change_bind(c, dir, name, NULL);
	change_bind(c, dir2, name2, obj);
	dent_unref(obj);
	return 0;
}

int sim_ns_mkdir(struct sim_disk *d, const char *rel)
{
	char name[NAME_LIMIT + 1];
	struct sim_dent *dir, *obj;
	int rc = find(d, rel, &dir, name, &obj);

	if (rc == 0)
		return obj->dir ? 0 : -EEXIST;
	if (rc == -ENOENT)
		rc = walk(d, rel, &dir, name);
	if (rc)
		return rc;
	obj = dent_new(NULL);
	change_bind(change_begin(d), dir, name, obj);
	dent_unref(obj);
	return 0;
}

int sim_ns_rmdir(struct sim_disk *d, const char *rel)
{
	char name[NAME_LIMIT + 1];
	struct sim_dent *dir, *obj;
	int rc = find(d, rel, &dir, name, &obj);

	if (rc)
		return rc;
	if (!obj->dir)
		return -ENOTDIR;
	if (!name[0])
		return -EBUSY;
	if (obj->n > 0)
		return -ENOTEMPTY;
	change_bind(change_begin(d), dir, name, NULL);
	return 0;
}

int sim_ns_sync_dir(struct sim_disk *d, const char *rel, uint64_t seq)
{
	struct sim_dent *dir;
	int rc = find_dir(d, rel, &dir);

	if (rc == 0)
		commit_dir(d, dir, seq);
	return rc;
}

/* In no order, as readdir. */
int sim_ns_listdir(struct sim_disk *d, const char *rel, char ***out)
{
	struct sim_dent *dir;
	char **names;
	int rc = find_dir(d, rel, &dir);

	if (rc)
		return rc;
	names = mem_calloc(dir->n + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	for (size_t k = 0; k < dir->n; k++) {
		size_t at = (size_t)sim_rand_below(d->sim, k + 1);

		names[k] = names[at];
		names[at] = mem_strdup(dir->ent[k].name);
		if (names[at])
			continue;
		for (size_t j = 0; j <= k; j++)
			mem_free(names[j]);
		mem_free(names);
		return -ENOMEM;
	}
	*out = names;
	return 0;
}

/* ---- for faults ---- */

static struct sim_inode *match_in(struct sim_dent *dir, char *path, size_t len, size_t cap, const char *match,
				  uint64_t *n)
{
	struct sim_inode *hit = NULL;

	for (size_t k = 0; k < dir->n && !hit; k++) {
		size_t add = strlen(dir->ent[k].name);

		if (len + add + 2 > cap)
			continue;
		path[len] = '/';
		memcpy(path + len + 1, dir->ent[k].name, add + 1);
		if (dir->ent[k].obj->dir)
			hit = match_in(dir->ent[k].obj, path, len + 1 + add, cap, match, n);
		else if (strstr(path, match) && (*n)-- == 0)
			hit = dir->ent[k].obj->inode;
	}
	path[len] = '\0';
	return hit;
}

struct sim_inode *sim_ns_match(struct sim_disk *d, const char *match, uint64_t n)
{
	char path[4096] = "";

	return match_in(d->ns.root, path, 0, sizeof(path), match, &n);
}

static void each_in(struct sim_dent *dir, char *path, size_t len, size_t cap,
		    void (*fn)(void *arg, const char *path, struct sim_inode *i), void *arg)
{
	for (size_t k = 0; k < dir->n; k++) {
		size_t add = strlen(dir->ent[k].name);

		if (len + add + 2 > cap)
			continue;
		path[len] = '/';
		memcpy(path + len + 1, dir->ent[k].name, add + 1);
		if (dir->ent[k].obj->dir)
			each_in(dir->ent[k].obj, path, len + 1 + add, cap, fn, arg);
		else
			fn(arg, path, dir->ent[k].obj->inode);
	}
	path[len] = '\0';
}

void sim_ns_each(struct sim_disk *d, void (*fn)(void *arg, const char *path, struct sim_inode *i), void *arg)
{
	char path[4096] = "";

	each_in(d->ns.root, path, 0, sizeof(path), fn, arg);
}
