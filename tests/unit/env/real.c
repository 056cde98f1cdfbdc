/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/env/real.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- env ---- */

struct body {
	struct env *env;
	void (*fn)(struct env *e);
};

static void run_body(void *arg)
{
	struct body *b = arg;

	b->fn(b->env);
	env_stop(b->env);
}

static unsigned count_dir(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

unsigned count_fds(void)
{
	return count_dir("/proc/self/fd");
}

unsigned count_threads(void)
{
	return count_dir("/proc/self/task");
}

void with_env_log(void (*fn)(struct env *e), struct log log)
{
	struct env_real_opts o = { .log = log, .name = "test" };
	struct hci_error err;
	struct body b = { .fn = fn };

	b.env = env_real_new(&o, &err);
	ck_assert_ptr_nonnull(b.env);
	ck_assert_int_eq(fiber_spawn(b.env, run_body, &b, "body"), 0);
	env_run(b.env);
	env_free(b.env);
}

void with_env(void (*fn)(struct env *e))
{
	unsigned before = count_fds();

	with_env_log(fn, (struct log){ 0 });
	ck_assert_uint_eq(count_fds(), before);
}

/* ---- scratch ---- */

static char dir[64];

void scratch_remove(void)
{
	char cmd[128];

	if (!dir[0])
		return;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	if (system(cmd))
		perror(cmd);
	dir[0] = '\0';
}

const char *scratch(void)
{
	if (!dir[0]) {
		snprintf(dir, sizeof(dir), "/var/tmp/hci-env-XXXXXX");
		ck_assert_ptr_nonnull(mkdtemp(dir));
	}
	return dir;
}

const char *scratch_path(const char *name)
{
	static char ring[16][160];
	static unsigned next;
	char *p = ring[next++ % 16];

	snprintf(p, sizeof(ring[0]), "%s/%s", scratch(), name);
	return p;
}

/* ---- streams ---- */

static void on_open(void *arg)
{
	struct chan *ch = arg;

	ch->opened++;
	fiber_cond_signal(ch->env, &ch->cond);
}

static void on_readable(void *arg)
{
	struct chan *ch = arg;

	/* Nobody may be reading: paused until somebody does, or it would be called without end. */
	ch->readable = true;
	env_conn_pause(ch->conn, true);
	fiber_cond_signal(ch->env, &ch->cond);
}

static void on_writable(void *arg)
{
	struct chan *ch = arg;

	ch->writable = true;
	fiber_cond_signal(ch->env, &ch->cond);
}

static void on_closed(void *arg, const struct hci_error *err)
{
	struct chan *ch = arg;

	ch->closed++;
	ch->err = *err;
	fiber_cond_signal(ch->env, &ch->cond);
}

const struct env_conn_ops chan_ops = { on_open, on_readable, on_writable, on_closed };

void chan_init(struct chan *ch, struct env *e)
{
	memset(ch, 0, sizeof(*ch));
	ch->env = e;
	fiber_cond_init(&ch->cond);
}

int chan_connect(struct chan *ch, struct env *e, const char *addr, struct env_tls *tls)
{
	struct hci_error err;

	chan_init(ch, e);
	ch->conn = env_connect(e, addr, tls, &chan_ops, ch, &err);
	if (!ch->conn)
		return err.code;
	while (!ch->opened && !ch->closed)
		fiber_cond_wait(e, &ch->cond);
	return ch->closed ? ch->err.code : 0;
}

int64_t chan_try_send(struct chan *ch, const void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		struct iovec v = { (char *)(uintptr_t)data + done, len - done };
		int64_t n = env_conn_send(ch->conn, &v, 1);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (n != HCI_E_AGAIN)
			return n;
		ch->writable = false;
		while (!ch->writable && !ch->closed)
			fiber_cond_wait(ch->env, &ch->cond);
		if (ch->closed)
			return ch->err.code;
	}
	return (int64_t)done;
}

void chan_send(struct chan *ch, const void *data, size_t len)
{
	ck_assert_int_eq(chan_try_send(ch, data, len), (int64_t)len);
}

int64_t chan_recv(struct chan *ch, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		int64_t n = env_conn_recv(ch->conn, (char *)buf + done, len - done);

		if (n > 0) {
			done += (size_t)n;
			continue;
		}
		if (n != HCI_E_AGAIN)
			return done ? (int64_t)done : n;
		ch->readable = false;
		env_conn_pause(ch->conn, false);
		while (!ch->readable && !ch->closed)
			fiber_cond_wait(ch->env, &ch->cond);
		if (ch->closed && !ch->readable)
			return done ? (int64_t)done : ch->err.code;
	}
	return (int64_t)done;
}

int chan_wait_closed(struct chan *ch)
{
	char sink[256];

	while (!ch->closed) {
		while (chan_recv(ch, sink, sizeof(sink)) > 0)
			;
		if (!ch->closed)
			fiber_cond_wait(ch->env, &ch->cond);
	}
	return ch->err.code;
}

void chan_close(struct chan *ch)
{
	env_conn_close(ch->conn, false);
	ch->conn = NULL;
}

/* ---- server ---- */

static void on_accept(void *arg, struct env_conn *c)
{
	struct server *s = arg;
	struct chan *ch = malloc(sizeof(*ch));

	ck_assert_uint_lt(s->n, ARRAY_SIZE(s->accepted));
	chan_init(ch, s->env);
	ch->conn = c;
	ch->opened = 1;
	env_conn_set_ops(c, &chan_ops, ch);
	s->accepted[s->n++] = ch;
	fiber_cond_signal(s->env, &s->cond);
}

void server_start(struct server *s, struct env *e, const char *addr, struct env_tls *tls)
{
	struct hci_error err;

	memset(s, 0, sizeof(*s));
	s->env = e;
	fiber_cond_init(&s->cond);
	s->l = env_listen(e, addr, tls, on_accept, s, &err);
	ck_assert_msg(s->l != NULL, "%s", s->l ? "" : err.message);
}

struct chan *server_accept_within(struct server *s, uint64_t ns)
{
	uint64_t deadline = env_now(s->env) + ns;

	while (s->taken == s->n) {
		if (!fiber_cond_wait_until(s->env, &s->cond, deadline))
			return NULL;
	}
	return s->accepted[s->taken++];
}

struct chan *server_accept(struct server *s)
{
	struct chan *ch = server_accept_within(s, 5 * NS_PER_S);

	ck_assert_ptr_nonnull(ch);
	return ch;
}

void server_stop(struct server *s)
{
	unsigned i;

	env_listener_close(s->l);
	for (i = 0; i < s->n; i++) {
		env_conn_close(s->accepted[i]->conn, false);
		free(s->accepted[i]);
	}
}
