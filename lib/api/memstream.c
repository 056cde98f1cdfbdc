/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hci/memstream.h: the codec of lib/compute/memstream with records in front of it and a length before each message, so
 * that callers have pages at one side and bytes at the other. No cluster, no loop: all happens in the calls.
 */
#include <errno.h>
#include <hci/memstream.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/opts.h"
#include "compute/memstream/codec.h"
#include "compute/memstream/record.h"
#include "compute/memstream/wire.h"

#define PREFIX 4u

struct hci_memstream {
	struct mst_enc *enc; /* a source has this one, a sink the other */
	struct mst_dec *dec;
	int fd;
	bool finished, ended;
	struct hci_error error; /* of our own; code 0: none */

	struct record_writer writer;
	struct buf waiting; /* of a record that was accepted, not taken yet by the encoder */
	size_t waiting_off;
	struct record_reader reader;

	struct mst_msg *out; /* being sent */
	size_t out_off;
	uint8_t prefix[PREFIX]; /* coming in: the length, then the message */
	uint32_t prefix_got;
	uint8_t *in;
	uint32_t in_len, in_got;
};

static void wake(void *ctx)
{
	const hci_memstream *s = ctx;
	uint64_t one = 1;
	ssize_t n;

	do
		n = write(s->fd, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
}

static void quiet(hci_memstream *s)
{
	uint64_t n;

	while (read(s->fd, &n, sizeof(n)) < 0 && errno == EINTR)
		;
}

static int create(hci_memstream **out, bool source, const struct hci_memstream_opts *user, struct hci_error *err)
{
	static const struct hci_memstream_opts defaults = HCI_MEMSTREAM_OPTS_INIT;
	struct hci_memstream_opts o;
	struct mst_opts m;
	hci_memstream *s;
	int rc;

	if (!out)
		return err_set(err, HCI_E_INVAL, "hci_memstream: out is NULL: pass where to put the handle");
	*out = NULL;
	rc = opts_take(&o, &defaults, sizeof(o), user, OPTS_UP_TO(struct hci_memstream_opts, level), "hci_memstream_opts", err);
	if (rc)
		return rc;
	if (o.workers > HCI_MEMSTREAM_WORKERS_MAX || o.level > MST_LEVELS)
		return err_set(err, HCI_E_INVAL, "hci_memstream: workers are 0..%d, level 0..%d", HCI_MEMSTREAM_WORKERS_MAX,
			       MST_LEVELS);
	s = MEM_NEW(hci_memstream);
	if (!s)
		return err_set(err, HCI_E_NOMEM, "hci_memstream: no memory for the handle");
	record_reader_init(&s->reader);
	s->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	m = (struct mst_opts){ .workers = o.workers, .cache = o.cache_bytes, .window = o.window_bytes, .wake = wake, .ctx = s,
			       .inflight_ns = o.inflight_ms * NS_PER_MS, .level = (int32_t)o.level };
	if (s->fd < 0)
		rc = err_sys(err, HCI_E_SYS, errno, "hci_memstream: no eventfd");
	else
		rc = source ? mst_enc_new(&s->enc, &m, err) : mst_dec_new(&s->dec, &m, err);
	if (rc) {
		hci_memstream_unref(s);
		return rc;
	}
	*out = s;
	return 0;
}

int hci_memstream_source(hci_memstream **out, const struct hci_memstream_opts *opts, struct hci_error *err)
{
	return create(out, true, opts, err);
}

int hci_memstream_sink(hci_memstream **out, const struct hci_memstream_opts *opts, struct hci_error *err)
{
	return create(out, false, opts, err);
}

void hci_memstream_unref(hci_memstream *s)
{
	if (!s)
		return;
	mst_enc_free(s->enc);
	mst_dec_free(s->dec);
	if (s->fd >= 0)
		close(s->fd);
	mst_msg_free(s->out);
	buf_free(&s->waiting);
	mem_free(s->in);
	mem_free(s);
}

int hci_memstream_fd(const hci_memstream *s)
{
	return s ? s->fd : -1;
}

/* ---- putting ---- */

/* What was accepted goes to the encoder. 0, HCI_E_BUSY or what ended it. */
static int push(hci_memstream *s, struct hci_error *err)
{
	int64_t n;

	if (s->waiting.failed)
		return err_set(err, HCI_E_NOMEM, "hci_memstream: no memory for a record; the stream is over");
	if (s->waiting_off == s->waiting.len)
		return 0;
	n = mst_enc_feed(s->enc, s->waiting.data + s->waiting_off, s->waiting.len - s->waiting_off, err);
	if (n < 0)
		return (int)n;
	s->waiting_off += (size_t)n;
	if (s->waiting_off < s->waiting.len)
		return err_set(err, HCI_E_BUSY, "hci_memstream: as much as may be is on its way: send and receive first");
	buf_reset(&s->waiting);
	s->waiting_off = 0;
	return 0;
}

/* May a record be put? */
static int ready(hci_memstream *s, struct hci_error *err)
{
	if (!s || !s->enc || s->finished)
		return err_set(err, s ? HCI_E_STATE : HCI_E_INVAL, "hci_memstream: %s",
			       !s ? "the handle is NULL" : !s->enc ? "this is a sink: put at the source" : "it is finished");
	return push(s, err);
}

int hci_memstream_put_page(hci_memstream *s, uint32_t region, uint64_t address, const void *page, struct hci_error *err)
{
	int rc = ready(s, err);

	if (rc)
		return rc;
	if (!page || address % MST_PAGE)
		return err_set(err, HCI_E_INVAL, "hci_memstream: %s", page ? "the address is not a page's" : "the page is NULL");
	record_page(&s->writer, &s->waiting, region, address, page);
	rc = push(s, err);
	return rc == HCI_E_BUSY ? 0 : rc;
}

int64_t hci_memstream_put_dirty(hci_memstream *s, uint32_t region, uint64_t address, const void *memory, uint64_t *bitmap,
				uint64_t npages, struct hci_error *err)
{
	const uint8_t *p = memory;
	int64_t put = 0;

	if (!memory || !bitmap || address % MST_PAGE)
		return err_set(err, HCI_E_INVAL, "hci_memstream: memory or bitmap is NULL, or the address is not a page's");
	for (uint64_t i = 0; i < npages; i++) {
		uint64_t bit = (uint64_t)1 << i % 64;
		int rc;

		if (!bitmap[i / 64]) {
			i |= 63;
			continue;
		}
		if (!(bitmap[i / 64] & bit))
			continue;
		rc = hci_memstream_put_page(s, region, address + i * MST_PAGE, p + i * MST_PAGE, err);
		if (rc == HCI_E_BUSY)
			break;
		if (rc)
			return rc;
		bitmap[i / 64] &= ~bit;
		put++;
	}
	return put;
}

int64_t hci_memstream_put_bytes(hci_memstream *s, const void *data, uint64_t len, struct hci_error *err)
{
	const uint8_t *p = data;
	uint64_t done = 0;
	int rc = ready(s, err);

	if (!rc && len && !data)
		return err_set(err, HCI_E_INVAL, "hci_memstream: data is NULL");
	while (!rc && done < len) {
		size_t n = (size_t)MIN(len - done, (uint64_t)RECORD_BYTES_MAX);

		record_bytes(&s->writer, &s->waiting, p + done, n);
		done += n;
		rc = push(s, err);
	}
	return rc && rc != HCI_E_BUSY ? rc : (int64_t)done;
}

int hci_memstream_flush(hci_memstream *s, struct hci_error *err)
{
	int rc = ready(s, err);

	return rc ? rc : mst_enc_flush(s->enc, err);
}

int hci_memstream_finish(hci_memstream *s, struct hci_error *err)
{
	int rc = ready(s, err);

	if (rc)
		return rc;
	if (!s->ended)
		record_end(&s->writer, &s->waiting);
	s->ended = true;
	rc = push(s, err);
	if (rc)
		return rc;
	s->finished = true;
	return mst_enc_finish(s->enc, err);
}

/* ---- the connection ---- */

static struct mst_msg *next_message(hci_memstream *s)
{
	return s->enc ? mst_enc_next(s->enc) : mst_dec_next(s->dec);
}

static int status(hci_memstream *s, struct hci_error *err)
{
	if (s->error.code)
		return err_copy(err, &s->error, s->error.code);
	return s->enc ? mst_enc_status(s->enc, err) : mst_dec_status(s->dec, err);
}

int64_t hci_memstream_send(hci_memstream *s, void *buf, uint64_t cap, struct hci_error *err)
{
	uint8_t *to = buf;
	uint64_t done = 0;
	int rc;

	if (!s || (cap && !buf))
		return err_set(err, HCI_E_INVAL, "hci_memstream: the handle or the buffer is NULL");
	quiet(s);
	rc = s->enc ? push(s, err) : 0;
	if (rc == HCI_E_BUSY)
		rc = 0;
	while (!rc && done < cap && (s->out || (s->out = next_message(s)))) {
		uint8_t prefix[PREFIX];
		size_t n;

		put32(prefix, s->out->len);
		while (s->out_off < PREFIX && done < cap)
			to[done++] = prefix[s->out_off++];
		if (s->out_off < PREFIX)
			break;
		n = (size_t)MIN(cap - done, (uint64_t)s->out->len + PREFIX - s->out_off);
		memcpy(to + done, s->out->data + s->out_off - PREFIX, n);
		s->out_off += n;
		done += n;
		if (s->out_off == PREFIX + s->out->len) {
			mst_msg_free(s->out);
			s->out = NULL;
			s->out_off = 0;
		}
	}
	if (done)
		return (int64_t)done;
	return rc ? rc : status(s, err);
}

/* The length is there: room for the message. */
static int begin_message(hci_memstream *s, struct hci_error *err)
{
	s->in_len = get32(s->prefix);
	s->in_got = 0;
	if (!s->in_len || s->in_len > MST_MSG_MAX)
		return err_set(err, HCI_E_PROTO, "hci_memstream: a message of %u bytes came: is this a memory stream?", s->in_len);
	s->in = mem_alloc(s->in_len);
	return s->in ? 0 : err_set(err, HCI_E_NOMEM, "hci_memstream: no memory for a message of %u bytes", s->in_len);
}

static int end_message(hci_memstream *s, struct hci_error *err)
{
	int rc = s->enc ? mst_enc_take(s->enc, s->in, s->in_len, err) : mst_dec_take(s->dec, s->in, s->in_len, err);

	mem_free(s->in);
	s->in = NULL;
	s->prefix_got = 0;
	return rc;
}

int hci_memstream_receive(hci_memstream *s, const void *data, uint64_t len, struct hci_error *err)
{
	const uint8_t *p = data;
	struct hci_error why;
	int rc;

	if (!s || (len && !data))
		return err_set(err, HCI_E_INVAL, "hci_memstream: the handle or the data is NULL");
	rc = status(s, &why);
	while (!rc && len) {
		size_t n;

		if (!s->in) {
			s->prefix[s->prefix_got++] = *p++;
			len--;
			if (s->prefix_got == PREFIX)
				rc = begin_message(s, &why);
			continue;
		}
		n = (size_t)MIN(len, (uint64_t)(s->in_len - s->in_got));
		memcpy(s->in + s->in_got, p, n);
		s->in_got += (uint32_t)n;
		p += n;
		len -= n;
		if (s->in_got == s->in_len)
			rc = end_message(s, &why);
	}
	if (rc) {
		s->error = why;
		err_copy(err, &why, rc);
	}
	return rc;
}

/* ---- the sink ---- */

int hci_memstream_next(hci_memstream *s, struct hci_memstream_record *out, uint64_t size, struct hci_error *err)
{
	struct hci_memstream_record rec = { 0 };
	struct record r = { .kind = RECORD_NONE };
	const void *p;
	int64_t n = 0;

	if (!s || !out)
		return err_set(err, HCI_E_INVAL, "hci_memstream: the handle or out is NULL");
	if (!s->dec)
		return err_set(err, HCI_E_STATE, "hci_memstream: this is a source: records come out at the sink");
	quiet(s);
	n = s->error.code ? err_copy(err, &s->error, s->error.code) : 1;
	while (n > 0 && r.kind == RECORD_NONE) {
		n = mst_dec_out(s->dec, &p, err);
		if (n <= 0)
			break;
		n = record_read(&s->reader, p, (size_t)n, &r);
		if (n < 0) {
			err_set(&s->error, HCI_E_PROTO, "hci_memstream: the stream has no records: its source is not hci_memstream_source()");
			err_copy(err, &s->error, HCI_E_PROTO);
			break;
		}
		mst_dec_consume(s->dec, (size_t)n);
	}
	if (n < 0)
		return (int)n;
	rec = (struct hci_memstream_record){ .kind = r.kind, .region = r.region, .address = r.address, .len = r.len,
					     .data = r.len ? r.data : NULL };
	if (r.kind == RECORD_NONE)
		rec = (struct hci_memstream_record){ .kind = HCI_MEMSTREAM_NOTHING };
	memset(out, 0, size);
	memcpy(out, &rec, MIN(size, (uint64_t)sizeof(rec)));
	return 0;
}

int hci_memstream_done(hci_memstream *s)
{
	return s && (s->enc ? mst_enc_done(s->enc) : mst_dec_done(s->dec));
}

int hci_memstream_info(hci_memstream *s, struct hci_memstream_info *out, uint64_t size, struct hci_error *err)
{
	struct hci_memstream_info info;
	struct mst_stats st;

	if (!s || !out)
		return err_set(err, HCI_E_INVAL, "hci_memstream: the handle or out is NULL");
	if (s->enc)
		mst_enc_stats(s->enc, &st);
	else
		mst_dec_stats(s->dec, &st);
	info = (struct hci_memstream_info){ .stream_bytes = st.in, .done_bytes = st.out, .wire_bytes = st.wire, .rate = st.rate,
					    .pages_zero = st.pages[MST_ZERO], .pages_same = st.pages[MST_SAME],
					    .pages_delta = st.pages[MST_DELTA], .pages_new = st.pages[MST_NEW],
					    .pages_raw = st.pages[MST_RAW], .cpu_ns = st.cpu_ns };
	memset(out, 0, size);
	memcpy(out, &info, MIN(size, (uint64_t)sizeof(info)));
	return 0;
}
