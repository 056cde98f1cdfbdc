/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets of simulated machines: names, of sockets and of links to them, that outlive who listens there, as a file does. A
 * machine is one node, or several that share one (sim_node_join()). Directories are not kept: a path is a name.
 */
#include "env/sim_net_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct sim_name {
	struct list link; /* net->names */
	struct sim_node *machine;
	char path[SIM_UNIX_MAX], to[SIM_UNIX_MAX]; /* to: "": a socket */
	struct sim_listener *l;                    /* NULL: nobody listens (any more) */
};

static struct sim_name *find(struct sim_node *n, const char *path)
{
	struct sim_name *m;

	list_for_each(m, &n->sim->net->names, link)
		if (m->machine == n->machine && !strcmp(m->path, path))
			return m;
	return NULL;
}

static void name_free(struct sim_name *m)
{
	list_del(&m->link);
	free(m);
}

static struct sim_name *name_new(struct sim_node *n, const char *path)
{
	struct sim_name *m = sim_calloc(1, sizeof(*m));

	m->machine = n->machine;
	snprintf(m->path, sizeof(m->path), "%s", path);
	list_push(&n->sim->net->names, &m->link);
	return m;
}

bool sim_name_take(struct sim_listener *l, const char *path)
{
	struct sim_name *m = find(l->node, path);

	if (m && (m->l || *m->to))
		return false;
	if (!m)
		m = name_new(l->node, path);
	m->l = l;
	return true;
}

/* closed: by its program, which removes the name that it made; else that died. */
void sim_name_leave(struct sim_listener *l, bool closed)
{
	struct sim_name *m, *tmp;

	list_for_each_safe(m, tmp, &l->node->sim->net->names, link) {
		if (m->l != l)
			continue;
		m->l = NULL;
		if (closed && !strcmp(m->path, l->path))
			name_free(m);
	}
}

struct sim_listener *sim_name_listener(struct sim_node *n, const char *path)
{
	struct sim_name *m = find(n, path);

	for (int hops = 0; m && *m->to && hops < 8; hops++)
		m = find(n, m->to);
	return m ? m->l : NULL;
}

void sim_names_free(struct sim_net *net)
{
	while (!list_empty(&net->names))
		name_free(list_first(&net->names, struct sim_name, link));
}

/* What is in a directory, each once. */
int sim_names_list(struct sim_node *n, const char *dir, char ***names)
{
	size_t len = strlen(dir), have = 0;
	struct sim_name *m;

	while ((*names)[have])
		have++;
	list_for_each(m, &n->sim->net->names, link) {
		char name[SIM_UNIX_MAX], **more;
		bool known = false;

		if (m->machine != n->machine || strncmp(m->path, dir, len) || m->path[len] != '/')
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(m->path + len + 1, "/"), m->path + len + 1);
		for (size_t i = 0; i < have; i++)
			known |= !strcmp((*names)[i], name);
		if (known)
			continue;
		more = mem_realloc(*names, (have + 2) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		*names = more;
		more[have] = mem_strdup(name);
		if (!more[have])
			return -ENOMEM;
		more[++have] = NULL;
	}
	return 0;
}

/* ---- for the world's programs that are not ours ---- */

bool sim_unix_is_socket(struct sim_node *n, const char *path)
{
	struct sim_name *m = find(n, path);

	return m && !*m->to;
}

bool sim_unix_answers(struct sim_node *n, const char *path)
{
	struct sim_name *m = find(n, path);

	return m && m->l;
}

void sim_unix_rename(struct sim_node *n, const char *from, const char *to)
{
	struct sim_name *m = find(n, from);

	if (!m)
		return;
	sim_unix_unlink(n, to);
	snprintf(m->path, sizeof(m->path), "%s", to);
}

void sim_unix_link(struct sim_node *n, const char *path, const char *to)
{
	if (!find(n, path))
		snprintf(name_new(n, path)->to, SIM_UNIX_MAX, "%s", to);
}

bool sim_unix_is_link(struct sim_node *n, const char *path)
{
	struct sim_name *m = find(n, path);

	return m && *m->to;
}

void sim_unix_unlink(struct sim_node *n, const char *path)
{
	struct sim_name *m = find(n, path);

	if (m)
		name_free(m);
}

const char *sim_unix_name(struct sim_node *n, unsigned i)
{
	struct sim_name *m;

	list_for_each(m, &n->sim->net->names, link)
		if (m->machine == n->machine && !i--)
			return m->path;
	return NULL;
}
