/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a volume: where it is allocated, and what one given replica holds. */
#include "volume/volume_impl.h"

#include "base/crc32c.h"
#include "base/err.h"
#include "base/mem.h"

/* Allocated regions of one segment as a bitmap of a byte each. */
static int segment_bits(struct vol *v, uint32_t segment, uint8_t *bits, uint32_t nregions)
{
	uint32_t src = seg_best_source(v, segment, -1);
	struct repl_region *r;
	size_t n;
	int rc;

	if (src == UINT32_MAX)
		return HCI_E_UNAVAILABLE;
	rc = leg_regions(seg_leg(v, &v->segs[segment], src), 0, segment, &r, &n);
	if (rc)
		return rc;
	memset(bits, 0, nregions);
	for (size_t i = 0; i < n; i++)
		bits[r[i].region] = !(r[i].seq & REPL_SEQ_ZERO);
	mem_free(r);
	return 0;
}

int vol_extents(struct vol *v, uint64_t off, uint64_t len, struct vol_extent *out, uint32_t max, struct hci_error *err)
{
	uint32_t nregions = (uint32_t)(v->rec.segment_size / REPL_REGION), n = 0, loaded = UINT32_MAX;
	uint64_t end;
	uint8_t *bits;
	int rc = 0;

	if (!max || !len || off > v->rec.size || len > v->rec.size - off)
		return err_set(err, HCI_E_RANGE, "volume %s: extents of %llu+%llu are outside", v->rec.name,
			       (unsigned long long)off, (unsigned long long)len);
	bits = mem_alloc(nregions);
	if (!bits)
		return err_set(err, HCI_E_NOMEM, "volume %s: out of memory", v->rec.name);
	end = off + len;
	while (off < end) {
		uint32_t seg = (uint32_t)(off / v->rec.segment_size);
		uint32_t region = (uint32_t)(off % v->rec.segment_size / REPL_REGION);
		uint64_t step = MIN(REPL_REGION - off % REPL_REGION, end - off);

		if (seg != loaded) {
			/* An answer about part of the range is an answer: stop after many segments. */
			if (n && seg - (uint32_t)((end - len) / v->rec.segment_size) >= 64)
				break;
			rc = segment_bits(v, seg, bits, nregions);
			if (rc)
				break;
			loaded = seg;
		}
		if (n && out[n - 1].data == bits[region]) {
			out[n - 1].len += step;
		} else if (n == max) {
			break;
		} else {
			out[n].len = step;
			out[n].data = bits[region];
			out[n++].reserved = 0;
		}
		off += step;
	}
	mem_free(bits);
	if (rc && !n)
		return err_set(err, rc, "volume %s: no replica tells what is allocated: %s", v->rec.name,
			       hci_strerror(rc));
	return (int)n;
}

static int peek_open(struct rpc_conn *conn, const struct rec_volume *r, const struct uuid *disk, uint32_t *handle,
		     struct hci_error *err)
{
	struct rpc_call c = { .method = REPL_RPC_OPEN, .timeout_ns = 5 * NS_PER_S };
	struct rd rd;
	uint32_t n;
	int rc;

	pk_map(&c.body, 5);
	pk_kv_uuid(&c.body, "disk", disk);
	pk_kv_uuid(&c.body, "volume", &r->uuid);
	pk_kv_u64(&c.body, "gen", 0);
	pk_kv_u64(&c.body, "segsize", r->segment_size);
	pk_kv_bool(&c.body, "ro", true);
	rc = rpc_call_wait(conn, &c);
	if (rc)
		err_copy(err, &c.err, rc);
	rd = c.reply;
	n = rc ? 0 : rd_map(&rd);
	while (n--) {
		struct rd_key k = rd_key(&rd);

		if (rd_is(k, "handle"))
			*handle = rd_u32(&rd);
		else
			rd_skip(&rd);
	}
	if (!rc && rd.bad)
		rc = err_set(err, HCI_E_PROTO, "volume %s: a replica answered nonsense", r->name);
	rpc_call_free(&c);
	return rc;
}

static int peek_read(struct rpc_conn *conn, uint32_t handle, uint32_t segment, uint64_t off, void *buf, uint32_t len,
		     struct hci_error *err)
{
	struct rpc_call c = { .method = REPL_RPC_READ, .timeout_ns = 10 * NS_PER_S, .reply_buf = buf, .reply_cap = len };
	uint32_t *sums = mem_alloc(len / HCI_BLOCK * sizeof(*sums) + 1);
	int rc;

	if (!sums)
		return err_set(err, HCI_E_NOMEM, "volume: out of memory");
	pk_array(&c.body, 5);
	pk_u64(&c.body, handle);
	pk_u64(&c.body, segment);
	pk_u64(&c.body, off);
	pk_u64(&c.body, len);
	pk_u64(&c.body, REPL_F_VERIFY);
	rc = rpc_call_wait(conn, &c);
	if (rc)
		err_copy(err, &c.err, rc);
	else if (c.reply_payload_len != len || !leg_reply_sums(&c, len, sums))
		rc = err_set(err, HCI_E_PROTO, "a replica answered %u bytes instead of %u", c.reply_payload_len, len);
	else if (block_sums_wrong(buf, len / HCI_BLOCK, sums))
		rc = err_set(err, HCI_E_CORRUPT, "segment %u at %llu is damaged on this replica: a scrub repairs it",
			     segment, (unsigned long long)off);
	rpc_call_free(&c);
	mem_free(sums);
	return rc;
}

static void peek_close(struct rpc_conn *conn, uint32_t handle)
{
	struct rpc_call c = { .method = REPL_RPC_CLOSE, .timeout_ns = 5 * NS_PER_S };

	pk_array(&c.body, 1);
	pk_u64(&c.body, handle);
	(void)rpc_call_wait(conn, &c);
	rpc_call_free(&c);
}

struct vol_reader {
	struct rpc_conn *conn;
	uint32_t handle;
	bool there; /* somebody has written, or opened it for that */
};

int vol_reader_open(struct vol_ctx *x, const struct uuid *id, const struct uuid *disk, struct vol_reader **out,
		    struct hci_error *err)
{
	struct rec_volume *v = MEM_NEW(struct rec_volume);
	struct vol_reader *r = MEM_NEW(struct vol_reader);
	const struct rec_disk *d = x->disk(x->arg, disk);
	char key[REC_KEY], node[HCI_NAME_MAX];
	int rc = v && r ? 0 : err_set(err, HCI_E_NOMEM, "volume: out of memory");

	*out = NULL;
	key_volume(key, id);
	if (!rc && !d)
		rc = err_set(err, HCI_E_NOTFOUND, "disk is not known to the cluster");
	if (!rc)
		snprintf(node, sizeof(node), "%s", d->node);
	if (!rc)
		rc = rec_volume_get(x->store, key, v, NULL, err);
	if (!rc) {
		r->conn = rpc_peers_get(x->peers, node, err);
		rc = r->conn ? rpc_conn_wait(r->conn, err) : HCI_E_UNAVAILABLE;
	}
	if (!rc) {
		rc = peek_open(r->conn, v, disk, &r->handle, err);
		r->there = !rc;
		if (rc == HCI_E_NOTFOUND)
			rc = 0;
	}
	mem_free(v);
	if (rc) {
		vol_reader_close(r);
		return rc;
	}
	*out = r;
	return 0;
}

int vol_reader_read(struct vol_reader *r, uint32_t segment, uint64_t off, void *buf, uint32_t len, struct hci_error *err)
{
	if (r->there)
		return peek_read(r->conn, r->handle, segment, off, buf, len, err);
	memset(buf, 0, len);
	return 0;
}

void vol_reader_close(struct vol_reader *r)
{
	if (!r)
		return;
	if (r->there)
		peek_close(r->conn, r->handle);
	rpc_conn_unref(r->conn);
	mem_free(r);
}

int vol_peek(struct vol_ctx *x, const struct uuid *id, const struct uuid *disk, uint32_t segment, uint64_t off, void *buf,
	     uint32_t len, struct hci_error *err)
{
	struct vol_reader *r;
	int rc = vol_reader_open(x, id, disk, &r, err);

	if (!rc)
		rc = vol_reader_read(r, segment, off, buf, len, err);
	vol_reader_close(r);
	return rc;
}
