/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bodies of hello and goodbye, and the judgement on a peer's hello. Both sides come to the same
 * verdict on versions and clusters by themselves; the goodbye tells the side that could not know.
 */
#include "base/err.h"
#include "base/names.h"
#include "base/uuid.h"
#include "rpc/impl.h"

struct hello {
	uint32_t min, max;
	uint64_t features;
	char node[HCI_NAME_MAX];
	struct uuid cluster;
};

int rpc_hello_write(const struct rpc *r, struct buf *out)
{
	buf_reset(out);
	pk_map(out, 5);
	pk_kv_u64(out, "min", r->o.version_min);
	pk_kv_u64(out, "max", r->o.version_max);
	pk_kv_u64(out, "features", r->o.features);
	pk_kv_str(out, "node", r->node_name);
	pk_kv_uuid(out, "cluster", &r->o.cluster);
	return out->failed ? HCI_E_NOMEM : 0;
}

static int parse(const void *body, uint32_t len, struct hello *h, struct hci_error *err)
{
	struct rd r = rd_init(body, len);
	unsigned seen = 0;
	uint32_t n = rd_map(&r);

	memset(h, 0, sizeof(*h));
	while (n-- && !r.bad) {
		struct rd_key k = rd_key(&r);

		if (rd_is(k, "min"))
			h->min = rd_u32(&r), seen |= 1;
		else if (rd_is(k, "max"))
			h->max = rd_u32(&r), seen |= 2;
		else if (rd_is(k, "features"))
			h->features = rd_u64(&r);
		else if (rd_is(k, "node"))
			rd_strcpy(&r, h->node, sizeof(h->node)), seen |= 4;
		else if (rd_is(k, "cluster"))
			rd_uuid(&r, &h->cluster), seen |= 8;
		else
			rd_skip(&r);
	}
	if (r.bad || seen != 15 || !h->min || h->min > h->max)
		return err_set(err, HCI_E_PROTO, "the peer's hello makes no sense");
	if (h->node[0] && name_check(h->node, "node", NULL) < 0)
		return err_set(err, HCI_E_PROTO, "the peer's hello holds a node name that is none");
	return 0;
}

static const char *who(const char *node)
{
	return node[0] ? node : "(a client)";
}

static int check_version(struct rpc_conn *c, const struct hello *h, struct hci_error *err)
{
	const struct rpc_opts *o = &c->rpc->o;

	if (h->min > o->version_max || h->max < o->version_min)
		return err_set(err, HCI_E_VERSION,
			       "node %s speaks protocol versions %u to %u, node %s speaks %u to "
			       "%u: upgrade the older one",
			       who(h->node), h->min, h->max, who(c->rpc->node_name), o->version_min,
			       o->version_max);
	c->version = MIN(h->max, o->version_max);
	return 0;
}

static int check_identity(struct rpc_conn *c, const struct hello *h, struct hci_error *err)
{
	const char *cn = c->rpc->o.tls ? env_conn_peer_name(c->io) : "";
	char theirs[HCI_UUID_STR], ours[HCI_UUID_STR];

	if (!uuid_eq(&h->cluster, &c->rpc->o.cluster)) {
		uuid_print(&h->cluster, theirs);
		uuid_print(&c->rpc->o.cluster, ours);
		return err_set(
			err, HCI_E_AUTH,
			"node %s belongs to cluster %s, node %s to cluster %s: check the address",
			who(h->node), theirs, who(c->rpc->node_name), ours);
	}
	if (c->rpc->o.tls && h->node[0] && strcmp(cn, h->node) != 0)
		return err_set(err, HCI_E_AUTH,
			       "the peer says it is node %s, its certificate says %.64s: give each "
			       "node its own certificate",
			       h->node, cn[0] ? cn : "nothing");
	if (c->expect[0] && strcmp(c->expect, h->node) != 0)
		return err_set(err, HCI_E_AUTH,
			       "%s is node %s, node %s was expected: check the node's address",
			       c->addr, who(h->node), c->expect);
	return 0;
}

int rpc_hello_take(struct rpc_conn *c, const void *body, uint32_t len, struct hci_error *err)
{
	struct hello h;
	int rc;

	rc = parse(body, len, &h, err);
	if (!rc)
		rc = check_version(c, &h, err);
	if (!rc)
		rc = check_identity(c, &h, err);
	if (rc)
		return rc;
	memcpy(c->peer, h.node, sizeof(c->peer));
	c->features = h.features & c->rpc->o.features;
	return 0;
}

void rpc_take_text(struct rd *r, char *out, size_t cap)
{
	uint32_t n = 0;
	const char *s = rd_str(r, &n);
	size_t len = 0;

	if (r->bad)
		n = 0;
	for (uint32_t i = 0; i < n && len + 1 < cap; i++)
		out[len++] = (unsigned char)s[i] < 0x20 || s[i] == 0x7f ? '?' : s[i];
	out[len] = '\0';
}

void rpc_goodbye_write(const struct hci_error *why, struct buf *out)
{
	pk_str(out, why->message);
}

void rpc_goodbye_take(const struct frame *f, const void *body, struct hci_error *out)
{
	struct rd r = rd_init(body, f->body_len);
	char text[400];

	rpc_take_text(&r, text, sizeof(text));
	err_set(out, f->status ? f->status : HCI_E_CLOSED, "%s",
		text[0] ? text : "the peer closed the connection");
}
