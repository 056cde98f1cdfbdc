/* SPDX-License-Identifier: Apache-2.0 */
/* See problems.h. */
#include "compute/problems.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

static struct hci_migrate_problem *append(struct problems *p, int code)
{
	if (p->n == PROBLEMS_MAX)
		return NULL;
	if (p->n == p->cap) {
		uint32_t cap = p->cap ? p->cap * 2 : 8;
		struct hci_migrate_problem *v = mem_realloc(p->v, cap * sizeof(*v));

		p->failed |= !v;
		if (!v)
			return NULL;
		p->v = v;
		p->cap = cap;
	}
	p->code = !p->n || p->code == code ? code : HCI_E_STATE;
	memset(&p->v[p->n], 0, sizeof(p->v[0]));
	p->v[p->n].code = code;
	return &p->v[p->n++];
}

void problems_add(struct problems *p, int code, const char *what, const char *cure, const char *why, ...)
{
	struct hci_migrate_problem *x = append(p, code);
	va_list ap;

	if (!x)
		return;
	snprintf(x->what, sizeof(x->what), "%s", what);
	snprintf(x->cure, sizeof(x->cure), "%s", cure);
	va_start(ap, why);
	vsnprintf(x->why, sizeof(x->why), why, ap);
	va_end(ap);
}

void problems_free(struct problems *p)
{
	mem_free(p->v);
	*p = (struct problems){ 0 };
}

void problems_pack(const struct problems *p, struct buf *out)
{
	pk_str(out, "problems");
	pk_array(out, p->n);
	for (uint32_t i = 0; i < p->n; i++) {
		pk_map(out, 4);
		pk_kv_u64(out, "code", (uint64_t)-(int64_t)p->v[i].code);
		pk_kv_str(out, "what", p->v[i].what);
		pk_kv_str(out, "why", p->v[i].why);
		pk_kv_str(out, "cure", p->v[i].cure);
	}
}

static void read_one(struct problems *p, struct rd *r)
{
	struct hci_migrate_problem x = { .code = HCI_E_STATE }, *at;
	uint32_t n = rd_map(r);

	while (n--) {
		struct rd_key k = rd_key(r);
		uint64_t code;

		if (rd_is(k, "code")) {
			code = rd_u64(r);
			if (code && code < 1000)
				x.code = -(int32_t)code;
		} else if (rd_is(k, "what")) {
			rd_strcpy(r, x.what, sizeof(x.what));
		} else if (rd_is(k, "why")) {
			rd_strcpy(r, x.why, sizeof(x.why));
		} else if (rd_is(k, "cure")) {
			rd_strcpy(r, x.cure, sizeof(x.cure));
		} else {
			rd_skip(r);
		}
	}
	at = r->bad ? NULL : append(p, x.code);
	if (at)
		*at = x;
}

int problems_read(struct problems *p, struct rd *r)
{
	uint32_t n = rd_array(r);

	while (n-- && !r->bad)
		read_one(p, r);
	return r->bad ? HCI_E_PROTO : 0;
}

int problems_error(const struct problems *p, const char *vm, const char *to, struct hci_error *err)
{
	/* Room for what is put before it, and for the hint. */
	char text[380], one[sizeof(p->v->what) + sizeof(p->v->why) + sizeof(p->v->cure) + 8], hint[200] = "";
	size_t len = 0;
	uint32_t i;

	if (p->failed)
		return err_set(err, HCI_E_NOMEM, "VM %s: out of memory", vm);
	if (!p->n)
		return 0;
	for (i = 0; i < p->n; i++) {
		int more = snprintf(one, sizeof(one), "%s%s: %s: %s", i ? "; " : "", p->v[i].what, p->v[i].why, p->v[i].cure);

		/* The first is told in any case. */
		if (i && len + (size_t)more >= sizeof(text))
			break;
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", one);
		len = MIN(len, sizeof(text) - 1);
	}
	if (i < p->n)
		snprintf(hint, sizeof(hint), "; and %u more: hcictl vm migrate %.63s %.63s --check", p->n - i, vm, to);
	return err_set(err, p->code, "%s%s", text, hint);
}
