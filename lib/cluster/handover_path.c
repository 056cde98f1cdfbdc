/* SPDX-License-Identifier: Apache-2.0 */
/* See handover_path.h. Owns the sockets, the relays and the files; knows nothing of who owns the VM. */
#include "cluster/handover_path.h"

#include <stdlib.h>

#include "cluster/node_impl.h"
#include "compute/hypervisor.h"
#include "compute/memory_path.h"
#include "rpc/relay.h"

#define NAME "mig-" /* begins all that we make in the run directory */
#define CONTROL "control"
#define MEMORY "memory"
#define RELAYS_MAX 8u        /* of each kind, at a time */
#define ASIDE "HCI_MIGRATE_ASIDE" /* when pages go as they are: mst_aside_mode() */
#define PACE (50 * NS_PER_MS) /* see stream_pace.c */

/* What both ends have: sockets that are carried. */
struct side {
	struct node *n;
	const struct hypervisor *h;
	struct compute *c; /* whose calls take that */
	struct list relays; /* struct carried */
	unsigned count[2];  /* control, memory: open now */
	struct ho_stat stat;
	struct content_set *content; /* NULL: nothing is known to be at both ends */
};

struct carried {
	struct list link;
	struct side *side;
	struct ho_out *out; /* one of the two */
	struct ho_in *in;
	struct rpc_relay *y;    /* one of the two */
	struct memory_path *mp;
	bool memory;
};

struct ho_out {
	struct side side;
	char to[HCI_NAME_MAX], vm[HCI_NAME_MAX], job[HCI_NAME_MAX];
	struct env_listener *control, *memory;
	char control_path[COMPUTE_SOCKET_MAX], memory_path[COMPUTE_SOCKET_MAX];
	char meet[COMPUTE_SOCKET_MAX]; /* where both QEMUs think they are */
	unsigned made;
	uint64_t limit, inflight_ns;
	void (*memory_end)(void *arg);
	void (*memory_over)(void *arg);
	void *arg;
	char peer_uri[COMPUTE_SOCKET_MAX + 96], migrate_uri[COMPUTE_SOCKET_MAX + 16];
};

struct ho_in {
	struct side side;
	struct compute_local libvirt;
	char meet[COMPUTE_SOCKET_MAX], memory[COMPUTE_SOCKET_MAX]; /* where it listens, and where that is moved to */
	uint64_t lost_at; /* its memory's stream broke, with some of it not here; 0: it has not */
};

/* ---- both ---- */

static void side_init(struct side *s, struct node *n)
{
	s->n = n;
	s->h = n->o.hypervisor;
	s->c = n->o.compute;
	list_init(&s->relays);
}

static void add_up(const struct carried *c, struct ho_stat *st)
{
	struct mst_stats m;

	if (!c->mp)
		return;
	memory_path_stats(c->mp, &m);
	st->memory_ns = MAX(st->memory_ns, memory_path_ns(c->mp));
	st->memory.in += m.in;
	st->memory.wire += m.wire;
	st->memory.refused += m.refused;
	st->memory.coming += m.coming;
	st->memory.aside[0] += m.aside[0];
	st->memory.aside[1] += m.aside[1];
	st->memory.cpu_ns += m.cpu_ns;
	for (size_t i = 0; i < MST_KINDS; i++)
		st->memory.refs[i] += m.refs[i];
	for (size_t i = 0; i < MST_CLASSES; i++) {
		st->memory.pages[i] += m.pages[i];
		st->memory.wire_of[i] += m.wire_of[i];
	}
	st->memory.rate = m.rate ? m.rate : st->memory.rate;
}

static void carried_free(struct carried *c, const struct hci_error *why)
{
	add_up(c, &c->side->stat);
	c->side->count[c->memory]--;
	list_del(&c->link);
	rpc_relay_free(c->y, why);
	memory_path_free(c->mp, why);
	mem_free(c);
}

static void over(struct carried *c, const struct hci_error *err)
{
	if (err->code && !c->side->stat.err.code) {
		c->side->stat.err = *err;
		log_info(env_log(c->side->n->e), "migration: its %s stream: %s", c->memory ? MEMORY : CONTROL, err->message);
	}
	if (c->in && c->memory && err->code && !c->in->lost_at)
		c->in->lost_at = env_now(c->side->n->e);
	carried_free(c, NULL);
}

static void on_over(void *arg, struct rpc_relay *y, const struct hci_error *err)
{
	(void)y;
	over(arg, err);
}

static void on_memory_end(void *arg)
{
	struct carried *c = arg;

	if (c->out)
		c->out->memory_end(c->out->arg);
}

static void on_memory_over(void *arg, struct memory_path *p, const struct hci_error *err)
{
	struct carried *c = arg;

	(void)p;
	if (c->out && !err->code)
		c->out->memory_over(c->out->arg);
	over(c, err);
}

/* QEMU has one memory stream, so what is to fail is of no other. */
static void on_memory_quit(void *arg)
{
	struct carried *c = arg;

	content_set_quit(c->side->content);
}

static struct memory_path_opts memory_opts(struct carried *c)
{
	struct memory_path_opts o = { .on_end = on_memory_end, .on_over = on_memory_over, .quit = on_memory_quit, .arg = c };

	o.codec.without = mst_class_bits(secure_getenv(CONTENT_WITHOUT));
	o.codec.aside = mst_aside_mode(secure_getenv(ASIDE));
	o.codec.hash = content_hash();
	o.codec.providers = content_set_providers(c->side->content, &o.codec.n_providers);
	c->side->h->codec(c->side->c, &o.codec);
	return o;
}

static void side_close(struct side *s, const struct hci_error *why)
{
	while (!list_empty(&s->relays))
		carried_free(list_first(&s->relays, struct carried, link), why);
}

static struct carried *carried_new(struct side *s, bool memory)
{
	struct carried *c = s->count[memory] < RELAYS_MAX ? MEM_NEW(struct carried) : NULL;

	if (!c)
		return NULL;
	c->side = s;
	c->memory = memory;
	s->count[memory]++;
	list_push(&s->relays, &c->link);
	return c;
}

/* ---- source ---- */

/* The destination's answer to libvirt's "prepare" is about to be passed on: then QEMU connects. */
static void before_out(void *arg, bool to_socket)
{
	struct carried *c = arg;

	if (to_socket)
		c->side->h->meet_link(c->side->c, c->out->meet, c->out->memory_path);
}

static void carry(struct ho_out *o, struct env_conn *sock, bool memory)
{
	struct node *n = o->side.n;
	struct carried *c = carried_new(&o->side, memory);
	struct rpc_relay_opts ro = { .before = before_out, .on_over = on_over, .arg = c, .pace_ns = PACE };
	struct memory_path_opts mo;
	struct rpc_stream_opts so = { .service = HO_SERVICE };
	struct buf args = BUF_INIT;
	struct hci_error err = { 0 };
	struct rpc_conn *conn = c ? rpc_peers_connect(core_peers(n->core), o->to, &err) : NULL;

	if (!conn) {
		log_warn(env_log(n->e), "VM %s: its migration's %s socket is not carried: %s", o->vm, memory ? MEMORY : CONTROL,
			 c ? err.message : "too many");
		env_conn_close(sock, true);
		if (c)
			carried_free(c, NULL);
		return;
	}
	pk_map(&args, 3);
	pk_kv_str(&args, "vm", o->vm);
	pk_kv_str(&args, "job", o->job);
	pk_kv_str(&args, "kind", memory ? MEMORY : CONTROL);
	so.args = &args;
	c->out = o;
	if (memory) {
		mo = memory_opts(c);
		mo.codec.inflight_ns = o->inflight_ns;
		c->mp = memory_path_out(n->e, sock, conn, &so, &mo, &err);
	} else {
		c->y = rpc_relay_out(n->e, sock, conn, &so, &ro, &err);
	}
	buf_free(&args);
	if (!c->y && !c->mp) {
		log_warn(env_log(n->e), "VM %s: its migration: %s", o->vm, err.message);
		carried_free(c, NULL);
	} else if (c->mp) {
		memory_path_limit(c->mp, o->limit);
	}
}

static void on_control(void *arg, struct env_conn *sock)
{
	carry(arg, sock, false);
}

static void on_memory(void *arg, struct env_conn *sock)
{
	carry(arg, sock, true);
}

static int open_socket(struct ho_out *o, const char *path, void (*fn)(void *arg, struct env_conn *c),
		       struct env_listener **out, struct hci_error *err)
{
	char addr[COMPUTE_SOCKET_MAX + 8];

	snprintf(addr, sizeof(addr), "unix:%s", path);
	*out = env_listen(o->side.n->e, addr, NULL, fn, o, err);
	if (!*out)
		return err_prefix(err, "VM %s", o->vm);
	/* libvirt gives the memory's to its QEMU's user where that is another one. */
	if (o->side.h->socket_private(o->side.c, path, err))
		return err_prefix(err, "VM %s", o->vm);
	return 0;
}

static int name_sockets(struct ho_out *o, const struct ho_out_opts *opts, struct hci_error *err)
{
	uint64_t tag;
	int a, b;

	env_random(o->side.n->e, &tag, sizeof(tag));
	a = snprintf(o->control_path, sizeof(o->control_path), "%s/" NAME "%016llx.ctl", o->side.n->run_dir,
		     (unsigned long long)tag);
	b = snprintf(o->memory_path, sizeof(o->memory_path), "%s/" NAME "%016llx.mem", o->side.n->run_dir,
		     (unsigned long long)tag);
	if (a >= (int)sizeof(o->control_path) || b >= (int)sizeof(o->memory_path))
		return err_set(err, HCI_E_RANGE, "VM %s: the run directory %s is too long for sockets: at most 80 bytes", o->vm,
			       o->side.n->run_dir);
	/* It goes into a URI of ours. */
	if (opts->libvirt[0] != '/' || strpbrk(opts->libvirt, "?&;#%") || strlen(opts->libvirt) >= 64)
		return err_set(err, HCI_E_PROTO, "VM %s: node %s names its libvirt \"%.63s\"", o->vm, o->to, opts->libvirt);
	snprintf(o->meet, sizeof(o->meet), "%s", opts->memory);
	snprintf(o->migrate_uri, sizeof(o->migrate_uri), "unix://%s", o->meet);
	snprintf(o->peer_uri, sizeof(o->peer_uri), "qemu+unix://%s?socket=%s", opts->libvirt, o->control_path);
	return 0;
}

int ho_out_open(struct node *n, const struct ho_out_opts *opts, struct ho_out **out, struct hci_error *err)
{
	struct ho_out *o = MEM_NEW(struct ho_out);
	int rc;

	*out = NULL;
	if (!o)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", opts->vm);
	side_init(&o->side, n);
	snprintf(o->to, sizeof(o->to), "%s", opts->to);
	snprintf(o->vm, sizeof(o->vm), "%s", opts->vm);
	snprintf(o->job, sizeof(o->job), "%s", opts->job);
	o->inflight_ns = opts->inflight_ns;
	o->memory_end = opts->memory_end;
	o->memory_over = opts->memory_over;
	o->arg = opts->arg;
	rc = name_sockets(o, opts, err);
	if (!rc)
		rc = o->side.h->meet_prepare(o->side.c, o->meet, &o->made, err);
	if (!rc)
		rc = open_socket(o, o->control_path, on_control, &o->control, err);
	if (!rc)
		rc = open_socket(o, o->memory_path, on_memory, &o->memory, err);
	if (rc) {
		ho_out_close(o, NULL);
		return rc;
	}
	o->side.h->meet_link(o->side.c, o->meet, o->memory_path);
	*out = o;
	return 0;
}

const char *ho_out_peer_uri(const struct ho_out *o)
{
	return o->peer_uri;
}

const char *ho_out_migrate_uri(const struct ho_out *o)
{
	return o->migrate_uri;
}

void ho_out_content(struct ho_out *o, struct content_set *s)
{
	o->side.content = s;
}

void ho_out_limit(struct ho_out *o, uint64_t bytes_per_s)
{
	struct carried *c;

	o->limit = bytes_per_s;
	list_for_each(c, &o->side.relays, link)
		if (c->mp)
			memory_path_limit(c->mp, bytes_per_s);
}

void ho_out_hurry(struct ho_out *o)
{
	struct carried *c;

	list_for_each(c, &o->side.relays, link)
		if (c->mp)
			memory_path_hurry(c->mp);
}

void ho_out_stat(const struct ho_out *o, struct ho_stat *out)
{
	struct carried *c;

	*out = o->side.stat;
	out->limit = o->limit;
	list_for_each(c, &o->side.relays, link)
		add_up(c, out);
}

void ho_out_cut(struct ho_out *o, const struct hci_error *why)
{
	side_close(&o->side, why);
}

void ho_out_close(struct ho_out *o, const struct hci_error *why)
{
	if (!o)
		return;
	side_close(&o->side, why);
	if (o->control)
		env_listener_close(o->control);
	if (o->memory)
		env_listener_close(o->memory);
	if (*o->meet)
		o->side.h->meet_unlink(o->side.c, o->meet, o->made);
	content_set_free(o->side.content);
	mem_free(o);
}

/* ---- destination ---- */

int ho_in_open(struct node *n, struct ho_in **out, struct hci_error *err)
{
	struct ho_in *i = MEM_NEW(struct ho_in);
	char dir[COMPUTE_SOCKET_MAX + 64];
	uint64_t tag;
	int rc;

	*out = NULL;
	if (!i)
		return err_set(err, HCI_E_NOMEM, "node %s: out of memory", n->name);
	side_init(&i->side, n);
	rc = i->side.h->local(i->side.c, &i->libvirt, err);
	if (!rc) {
		env_random(n->e, &tag, sizeof(tag));
		snprintf(dir, sizeof(dir), "%.100s/" NAME "%016llx", n->run_dir, (unsigned long long)tag);
		rc = i->side.h->meet_make(i->side.c, dir, i->meet, err);
	}
	if (rc) {
		mem_free(i);
		return rc;
	}
	*out = i;
	return 0;
}

void ho_in_content(struct ho_in *i, struct content_set *s)
{
	i->side.content = s;
}

const char *ho_in_memory(const struct ho_in *i)
{
	return i->meet;
}

const char *ho_in_libvirt(const struct ho_in *i)
{
	return i->libvirt.path;
}

uint64_t ho_in_lost_at(const struct ho_in *i)
{
	return i->lost_at;
}

void ho_in_close(struct ho_in *i, const struct hci_error *why)
{
	if (!i)
		return;
	side_close(&i->side, why);
	content_set_free(i->side.content);
	i->side.h->meet_remove(i->side.c, i->meet);
	mem_free(i);
}

/* libvirtd is about to answer; if it was "prepare", its QEMU listens by now. */
static void before_in(void *arg, bool to_socket)
{
	struct carried *c = arg;

	if (!to_socket)
		(void)c->side->h->meet_take(c->side->c, c->in->meet, c->in->memory);
}

static void take(struct ho_in *i, struct rpc_stream *s, bool memory)
{
	char addr[COMPUTE_SOCKET_MAX + 8];
	struct memory_path_opts mo;
	struct carried *c;

	if (memory && !i->side.h->meet_take(i->side.c, i->meet, i->memory)) {
		rpc_stream_refuse(s, HCI_E_STATE, "no QEMU listens here for this migration");
		return;
	}
	c = carried_new(&i->side, memory);
	if (!c) {
		rpc_stream_refuse(s, HCI_E_BUSY, "too many streams of one migration");
		return;
	}
	c->in = i;
	snprintf(addr, sizeof(addr), "unix:%s", memory ? i->memory : i->libvirt.socket);
	if (memory) {
		mo = memory_opts(c);
		c->mp = memory_path_in(i->side.n->e, s, addr, &mo);
	} else {
		c->y = rpc_relay_in(i->side.n->e, s, addr,
				    &(struct rpc_relay_opts){
					    .before = before_in, .on_over = on_over, .arg = c, .pace_ns = PACE });
	}
	if (!c->y && !c->mp)
		carried_free(c, NULL);
}

static int read_offer(struct rd *r, struct ho_offer *o)
{
	uint32_t n = rd_map(r);

	memset(o, 0, sizeof(*o));
	while (n--) {
		struct rd_key k = rd_key(r);

		if (rd_is(k, "vm"))
			rd_strcpy(r, o->vm, sizeof(o->vm));
		else if (rd_is(k, "job"))
			rd_strcpy(r, o->job, sizeof(o->job));
		else if (rd_is(k, "kind"))
			rd_strcpy(r, o->kind, sizeof(o->kind));
		else
			rd_skip(r);
	}
	return r->bad ? HCI_E_PROTO : 0;
}

void ho_in_take(struct rpc_stream *s, struct rd *args, struct ho_in *(*find)(void *arg, const struct ho_offer *o), void *arg)
{
	struct ho_offer o;
	struct ho_in *i;

	if (read_offer(args, &o) || (strcmp(o.kind, CONTROL) && strcmp(o.kind, MEMORY))) {
		rpc_stream_refuse(s, HCI_E_PROTO, "what the stream is for cannot be read");
		return;
	}
	o.source = rpc_stream_peer(s);
	i = find(arg, &o);
	if (!i)
		rpc_stream_refuse(s, HCI_E_STATE, "this migration is not prepared here");
	else
		take(i, s, !strcmp(o.kind, MEMORY));
}

/* ---- what an earlier life left ---- */

void ho_clean(struct node *n)
{
	char **names, path[COMPUTE_SOCKET_MAX + REC_PATH_MAX];

	if (env_listdir(n->e, n->run_dir, &names))
		return;
	for (size_t k = 0; names[k]; k++) {
		size_t len = strlen(names[k]);

		snprintf(path, sizeof(path), "%s/%.90s", n->run_dir, names[k]);
		/* Exports that a VM which was to come here never used. */
		if (len > 5 && !strcmp(names[k] + len - 5, ".sock"))
			n->o.hypervisor->socket_clean(n->o.compute, path);
		if (!strncmp(names[k], NAME, strlen(NAME))) {
			if (strchr(names[k], '.'))
				n->o.hypervisor->socket_remove(n->o.compute, path);
			else
				n->o.hypervisor->meet_clean(n->o.compute, path);
		}
		mem_free(names[k]);
	}
	mem_free(names);
}
