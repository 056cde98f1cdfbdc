/* SPDX-License-Identifier: Apache-2.0 */
/* See join.h. Owns both sockets and what was read from each and not taken by the other yet. */
#include "rpc/join.h"

#include "base/err.h"
#include "base/mem.h"

#define CHUNK (64u << 10) /* read at a time, and held back at most */
#define TURN (1u << 20)   /* before others have their turn */

struct end {
	struct rpc_join *j;
	struct env_conn *c; /* NULL: closed */
	uint8_t *buf;       /* CHUNK bytes that came from it */
	uint32_t have, off; /* in buf, and of these what the other has taken */
	bool done;          /* nothing more comes from it */
	bool paused;
};

struct rpc_join {
	struct rpc_join_opts o;
	struct end near, far; /* given, and connected to */
	bool opening;         /* far is not connected yet */
	bool over;
};

static struct end *other(struct end *a)
{
	return a == &a->j->near ? &a->j->far : &a->j->near;
}

static void pause_end(struct end *a, bool paused)
{
	if (a->paused == paused || !a->c)
		return;
	a->paused = paused;
	env_conn_pause(a->c, paused);
}

static void close_end(struct end *a, bool abort_now)
{
	if (a->c)
		env_conn_close(a->c, abort_now);
	a->c = NULL;
}

/* j may be freed by this. */
static void over(struct rpc_join *j, const struct hci_error *err)
{
	if (j->over)
		return;
	j->over = true;
	close_end(&j->far, err->code != 0);
	if (j->o.keep)
		pause_end(&j->near, true);
	else
		close_end(&j->near, err->code != 0);
	j->o.on_over(j->o.arg, j, err);
}

/* What came from a goes to the other. False: it takes no more for now, or all is over, and j may be gone. */
static bool pass(struct end *a)
{
	static const struct hci_error ended = { 0 };
	struct end *b = other(a);

	while (a->off < a->have) {
		struct iovec v = { a->buf + a->off, a->have - a->off };
		int64_t n = env_conn_send(b->c, &v, 1);

		if (n == HCI_E_AGAIN) {
			pause_end(a, true);
			return false;
		}
		if (n < 0) {
			over(a->j, &ended);
			return false;
		}
		a->off += (uint32_t)n;
	}
	if (a->done) {
		over(a->j, &ended);
		return false;
	}
	return true;
}

static bool read_some(struct end *a, uint32_t *turn)
{
	int64_t n = env_conn_recv(a->c, a->buf, CHUNK);

	if (n == HCI_E_AGAIN)
		return false;
	a->done = n <= 0;
	a->off = 0;
	a->have = n > 0 ? (uint32_t)n : 0;
	*turn += a->have;
	if (a->have && a->j->o.before)
		a->j->o.before(a->j->o.arg, a == &a->j->far);
	return pass(a) && *turn < TURN;
}

static void readable(void *arg)
{
	struct end *a = arg;
	uint32_t turn = 0;

	if (a->j->over || a->j->opening || a->off < a->have)
		return;
	while (read_some(a, &turn))
		;
}

static void writable(void *arg)
{
	struct end *b = arg, *a = other(b);

	if (!a->j->over && !a->j->opening && pass(a))
		pause_end(a, false);
}

/* What it sent before was read by then, or is of no use to anybody: so the rest of that goes to the other, and then it is over. */
static void closed(void *arg, const struct hci_error *err)
{
	struct end *a = arg;

	if (a->j->over) {
		close_end(a, true);
		return;
	}
	if (a->j->opening) {
		over(a->j, err);
		return;
	}
	a->done = true;
	(void)pass(a);
}

static void open_(void *arg)
{
	struct end *a = arg;

	if (!a->j->opening)
		return;
	a->j->opening = false;
	pause_end(&a->j->near, false);
}

static const struct env_conn_ops ops = {
	.on_open = open_,
	.on_readable = readable,
	.on_writable = writable,
	.on_closed = closed,
};

struct rpc_join *rpc_join_new(struct env *e, struct env_conn *sock, const char *addr, const struct rpc_join_opts *o,
			      struct hci_error *err)
{
	struct rpc_join *j = MEM_NEW(struct rpc_join);

	if (j) {
		j->near.j = j->far.j = j;
		j->near.buf = mem_alloc(CHUNK);
		j->far.buf = mem_alloc(CHUNK);
	}
	if (!j || !j->near.buf || !j->far.buf) {
		err_set(err, HCI_E_NOMEM, "out of memory for a socket");
		env_conn_close(sock, true);
		rpc_join_free(j);
		return NULL;
	}
	j->o = *o;
	j->opening = true;
	j->near.c = sock;
	j->far.c = env_connect(e, addr, NULL, &ops, &j->far, err);
	if (!j->far.c) {
		rpc_join_free(j);
		return NULL;
	}
	env_conn_set_ops(sock, &ops, &j->near);
	pause_end(&j->near, true);
	return j;
}

void rpc_join_free(struct rpc_join *j)
{
	if (!j)
		return;
	close_end(&j->near, true);
	close_end(&j->far, true);
	mem_free(j->near.buf);
	mem_free(j->far.buf);
	mem_free(j);
}
