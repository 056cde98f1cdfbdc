/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole NBD server in the simulator: the input is a script of what up to four clients send
 * (whole requests, or any bytes) and of what happens meanwhile: clients that stop reading or
 * vanish, the backend that stalls, fails or is fenced, hold and resume. In the end everything is
 * let go: the server must close, no request may be left at the backend, and no byte of memory.
 */
#include <stdio.h>
#include <stdlib.h>

#include "env/fiber.h"
#include "env/sim.h"
#include "export/nbd.h"
#include "export/nbd_proto.h"
#include "unit/export/ram.h"

#define SIZE (512 * KiB)
#define CLIENTS 4

#define CHECK(x)                                             \
	do {                                                 \
		if (!(x)) {                                  \
			fprintf(stderr, "failed: %s\n", #x); \
			abort();                             \
		}                                            \
	} while (0)

struct client {
	struct env_conn *conn;
	bool deaf;
};

struct world {
	struct sim *sim;
	struct sim_node *server_node, *client_node;
	struct nbd_server *server;
	struct nbd_export *export;
	struct ram ram[2];
	unsigned backend;
	struct client clients[CLIENTS];
	bool closed;
	/* of the script */
	const uint8_t *p, *end;
	struct client *c;
	uint8_t op;
};

static uint8_t next(struct world *w)
{
	return w->p < w->end ? *w->p++ : 0;
}

/* ---- clients ---- */

static void on_open(void *arg)
{
	(void)arg;
}

static void on_readable(void *arg)
{
	struct client *c = arg;
	uint8_t b[4096];

	while (!c->deaf && env_conn_recv(c->conn, b, sizeof(b)) > 0)
		;
}

static void on_closed(void *arg, const struct hci_error *err)
{
	struct client *c = arg;

	(void)err;
	env_conn_close(c->conn, false);
	c->conn = NULL;
}

static const struct env_conn_ops client_ops = { on_open, on_readable, on_open, on_closed };

static void say(struct client *c, const void *p, size_t n)
{
	struct iovec v = { (void *)p, n };

	if (c->conn && n)
		env_conn_send(c->conn, &v, 1);
}

static void go(struct client *c)
{
	static const uint8_t hello[] =
		"\0\0\0\3"
		"IHAVEOPT\0\0\0\10\0\0\0\0"
		"IHAVEOPT\0\0\0\12\0\0\0\37\0\0\0\4disk\0\0\0\1\0\0\0\17base:allocation"
		"IHAVEOPT\0\0\0\7\0\0\0\12\0\0\0\4disk\0\0";

	say(c, hello, sizeof(hello) - 1);
}

static void request(struct world *w, struct client *c)
{
	static const uint32_t lens[] = { 0, 1, 512, 4095, 4096, 4097, 65536, 131072 };
	uint8_t b[NBD_REQUEST_SIZE], shape = next(w), at = next(w);
	static uint8_t payload[131072];
	uint32_t len = lens[shape >> 5];

	nbd_put32(b, NBD_REQUEST_MAGIC);
	nbd_put16(b + 4, (shape >> 3) & 3);
	nbd_put16(b + 6, shape & 7);
	nbd_put64(b + 8, shape);
	nbd_put64(b + 16, at * 2049u % (SIZE + 4096));
	nbd_put32(b + 24, (shape & 7) == NBD_CMD_FLUSH ? 0 : len);
	say(c, b, sizeof(b));
	if ((shape & 7) == NBD_CMD_WRITE)
		say(c, payload, len);
}

static void client_step(struct env *e, void *arg)
{
	struct world *w = arg;
	struct client *c = w->c;
	size_t n;

	switch (w->op) {
	case 0:
		if (!c->conn)
			c->conn = env_connect(e, "tcp:server:10809", NULL, &client_ops, c, NULL);
		break;
	case 1:
		go(c);
		break;
	case 2:
		n = next(w);
		n = MIN(n, (size_t)(w->end - w->p));
		say(c, w->p, n);
		w->p += n;
		break;
	case 3:
		c->deaf = !c->deaf;
		if (c->conn)
			env_conn_pause(c->conn, c->deaf);
		break;
	case 4:
		if (c->conn)
			env_conn_close(c->conn, next(w) & 1);
		c->conn = NULL;
		break;
	default:
		request(w, c);
	}
}

/* ---- the server's side ---- */

static void on_server_closed(void *arg)
{
	((struct world *)arg)->closed = true;
}

static void resume_again(void *arg, struct nbd_export *x, int status)
{
	/* A fence is resumed from inside the call in which it is told. */
	(void)arg;
	if (status)
		nbd_export_resume(x, NULL, NULL);
}

static void boot(struct env *e, void *arg)
{
	struct world *w = arg;
	struct nbd_server_opts so = { .addr = "tcp:server:10809",
				      .max_requests = 8,
				      .max_bytes = 256 * KiB };
	struct nbd_export_opts xo = { .name = "disk",
				      .hold_on_fence = true,
				      .max_conns = 3,
				      .on_first_held_io = resume_again };
	struct nbd_backend b;

	CHECK(ram_init(&w->ram[0], e, SIZE) && ram_init(&w->ram[1], e, SIZE));
	w->server = nbd_server_open(e, &so, NULL);
	CHECK(w->server);
	ram_backend(&w->ram[0], &b);
	xo.backend = &b;
	w->export = nbd_export_add(w->server, &xo, NULL);
	CHECK(w->export);
}

static void server_step(struct env *e, void *arg)
{
	static const int fails[] = { HCI_E_FENCED, HCI_E_IO, HCI_E_CLOSED, HCI_E_NOSPACE };
	struct world *w = arg;
	struct ram *r = &w->ram[w->backend];
	struct nbd_backend b;

	(void)e;
	switch (w->op) {
	case 0:
		nbd_export_hold(w->export);
		break;
	case 1:
		nbd_export_resume(w->export, NULL, NULL);
		break;
	case 2:
		ram_backend(&w->ram[!w->backend], &b);
		if (!nbd_export_resume(w->export, &b, NULL))
			w->backend = !w->backend;
		break;
	case 3:
		nbd_export_fail_held(w->export, HCI_E_IO);
		break;
	case 4:
		r->stall = true;
		break;
	case 5:
		ram_go(r);
		break;
	case 6:
		r->fail = fails[next(w) % 4];
		r->fail_n = 1 + next(w) % 4;
		break;
	case 7:
		r->delay_ns = next(w) * 10000u;
		break;
	}
}

static void shut(struct env *e, void *arg)
{
	struct world *w = arg;

	(void)e;
	for (int i = 0; i < 2; i++) {
		w->ram[i].delay_ns = 0;
		ram_go(&w->ram[i]);
	}
	nbd_server_close(w->server, on_server_closed, w);
}

static bool is_closed(void *arg)
{
	return ((struct world *)arg)->closed;
}

static void check_end(struct env *e, void *arg)
{
	struct world *w = arg;

	(void)e;
	for (int i = 0; i < 2; i++) {
		CHECK(!w->ram[i].in_flight && list_empty(&w->ram[i].queries));
		ram_fini(&w->ram[i]);
	}
}

static void step(struct world *w)
{
	uint8_t op = next(w);

	w->c = &w->clients[op & 3];
	if (op < 0xa0) {
		w->op = (op >> 2) % 8;
		sim_node_call(w->client_node, client_step, w);
	} else if (op < 0xe0) {
		w->op = (op >> 2) % 8;
		sim_node_call(w->server_node, server_step, w);
	} else {
		sim_run(w->sim, (op & 15) * 200000u);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sim_opts o = SIM_OPTS_INIT;
	static struct world w;

	memset(&w, 0, sizeof(w));
	w.p = data;
	w.end = data + size;
	w.sim = sim_new(&o);
	w.server_node = sim_node_new(w.sim, "server");
	w.client_node = sim_node_new(w.sim, "client");
	sim_node_call(w.server_node, boot, &w);
	for (int i = 0; i < 200 && w.p < w.end; i++)
		step(&w);
	sim_run(w.sim, NS_PER_MS);
	sim_node_call(w.server_node, shut, &w);
	CHECK(w.closed || sim_run_until(w.sim, is_closed, &w, 30 * NS_PER_S));
	sim_node_call(w.server_node, check_end, &w);
	sim_free(w.sim);
	return 0;
}
