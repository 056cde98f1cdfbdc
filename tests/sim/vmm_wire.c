/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of the model's programs, for fibers that wait for bytes. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sim/try.h"
#include "sim/vmm.h"

struct wire {
	struct env *e;
	struct env_conn *c;
	struct fiber_cond cond;
	bool open, over;
	uint32_t have, pos;
	uint8_t buf[8192];
};

static void pull(struct wire *w)
{
	while (!w->over && w->have < sizeof(w->buf)) {
		int64_t n = env_conn_recv(w->c, w->buf + w->have, sizeof(w->buf) - w->have);

		if (n == HCI_E_AGAIN)
			break;
		if (n <= 0)
			w->over = true;
		else
			w->have += (uint32_t)n;
	}
	env_conn_pause(w->c, w->over || w->have == sizeof(w->buf));
}

static void on_open(void *arg)
{
	struct wire *w = arg;

	w->open = true;
	fiber_cond_signal(w->e, &w->cond);
}

static void on_readable(void *arg)
{
	struct wire *w = arg;

	pull(w);
	fiber_cond_signal(w->e, &w->cond);
}

static void on_writable(void *arg)
{
	struct wire *w = arg;

	fiber_cond_signal(w->e, &w->cond);
}

static void on_closed(void *arg, const struct hci_error *err)
{
	struct wire *w = arg;

	(void)err;
	w->over = true;
	fiber_cond_signal(w->e, &w->cond);
}

static const struct env_conn_ops ops = { on_open, on_readable, on_writable, on_closed };

struct wire *wire_of(struct env *e, struct env_conn *c)
{
	struct wire *w = TRY_PTR(MEM_NEW(struct wire));

	w->e = e;
	w->c = c;
	w->open = true;
	fiber_cond_init(&w->cond);
	env_conn_set_ops(c, &ops, w);
	return w;
}

struct wire *wire_connect(struct env *e, const char *addr)
{
	struct wire *w = TRY_PTR(MEM_NEW(struct wire));
	struct hci_error err;

	w->e = e;
	fiber_cond_init(&w->cond);
	w->c = env_connect(e, addr, NULL, &ops, w, &err);
	while (w->c && !w->open && !w->over)
		fiber_cond_wait(e, &w->cond);
	if (w->c && w->open)
		return w;
	if (w->c)
		env_conn_close(w->c, true);
	mem_free(w);
	return NULL;
}

bool wire_get(struct wire *w, void *buf, size_t n)
{
	uint8_t *p = buf;

	while (n) {
		size_t k = MIN(n, (size_t)(w->have - w->pos));

		memcpy(p, w->buf + w->pos, k);
		w->pos += (uint32_t)k;
		p += k;
		n -= k;
		if (w->pos == w->have && !w->over) {
			w->pos = w->have = 0;
			env_conn_pause(w->c, false);
		}
		if (!n)
			break;
		if (w->over)
			return false;
		fiber_cond_wait(w->e, &w->cond);
	}
	return true;
}

bool wire_put(struct wire *w, const void *buf, size_t n)
{
	const uint8_t *p = buf;

	while (n && !w->over) {
		struct iovec v = { (void *)(uintptr_t)p, n };
		int64_t k = env_conn_send(w->c, &v, 1);

		if (k > 0) {
			p += k;
			n -= (size_t)k;
		} else if (k == HCI_E_AGAIN) {
			fiber_cond_wait(w->e, &w->cond);
		} else {
			w->over = true;
		}
	}
	return !n;
}

bool wire_over(const struct wire *w)
{
	return w->over;
}

void wire_close(struct wire *w)
{
	if (!w)
		return;
	env_conn_close(w->c, false);
	mem_free(w);
}
