/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SSD: opening and formatting it, reads and writes of blocks, and what happens when it does not do as it should.
 * None of that is anybody's failure but the SSD's: it is counted, said once, and the replicas are read instead.
 */
#include "cache/cache_impl.h"

#include <errno.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

#define LOOK (128u * 1024) /* at the beginning: blank, or ours */

/* ---- failures ---- */

void ssd_error(struct cache *c, const char *what, int64_t result)
{
	c->st.errors++;
	metric_add(c->m_error, 1);
	if (!c->said_error)
		log_warn(env_log(c->e), "cache %s: %s failed: %s; what it cannot give is read from the replicas", c->path,
			 what, result < 0 ? strerror((int)-result) : "it ends too early");
	c->said_error = true;
	if (c->st.errors < CACHE_ERRORS_MAX || c->ssd_off)
		return;
	c->ssd_off = true;
	log_error(env_log(c->e), "cache %s: too many failures: it is not used any more, only memory is; "
		  "replace the SSD and open the cache again", c->path);
}

/* Who waits for too long is sent elsewhere; the block may come later, into a buffer of ours. */
static void patience_over(struct env_timer *t)
{
	struct cache *c = container_of(t, struct cache, patience);
	uint64_t now = env_now(c->e);
	bool late = true;
	struct ssd_io *s;

	while (late) { /* what done() does may change the list: begin anew after each */
		struct cache_read *r = NULL;

		list_for_each(s, &c->reads, link) {
			if (!s->r || now - s->begun < CACHE_PATIENCE)
				continue;
			r = s->r;
			s->r = NULL;
			break;
		}
		late = r != NULL;
		if (!late)
			break;
		c->st.errors++;
		metric_add(c->m_error, 1);
		c->ssd_stalled = true;
		if (!c->said_stall)
			log_warn(env_log(c->e), "cache %s: it does not answer; the replicas are read until it does", c->path);
		c->said_stall = true;
		cache_read_part(r, false);
	}
	if (!list_empty(&c->reads))
		env_timer_arm(c->e, &c->patience, now + CACHE_PATIENCE / 4);
}

void ssd_init(struct cache *c)
{
	list_init(&c->reads);
	list_init(&c->writes);
	env_timer_init(&c->patience, patience_over);
}

/* ---- blocks ---- */

struct ssd_io *ssd_io_new(struct cache *c, uint32_t k)
{
	struct ssd_io *s = MEM_NEW(struct ssd_io);

	if (!s)
		return NULL;
	s->c = c;
	s->chunk = k;
	s->other = TAB_NONE;
	s->begun = env_now(c->e);
	list_init(&s->link);
	c->t.chunks[k].pins++;
	return s;
}

static uint64_t slot_off(const struct cache *c, uint32_t slot)
{
	return c->geo.data_off + (uint64_t)slot * c->geo.block;
}

void ssd_read(struct ssd_io *s, uint32_t slot, void (*done)(struct env_io *))
{
	struct cache *c = s->c;

	list_push(&c->reads, &s->link);
	c->nreads++;
	if (!env_timer_armed(&c->patience))
		env_timer_arm(c->e, &c->patience, s->begun + CACHE_PATIENCE);
	env_io_prep(&s->io, ENV_READ, c->file, s->buf, c->geo.block, slot_off(c, slot), done);
	env_submit(c->e, &s->io);
}

void ssd_write(struct ssd_io *s, uint32_t slot, void (*done)(struct env_io *))
{
	struct cache *c = s->c;

	list_push(&c->writes, &s->link);
	c->nwrites++;
	env_io_prep(&s->io, ENV_WRITE, c->file, s->buf, c->geo.block, slot_off(c, slot), done);
	env_submit(c->e, &s->io);
}

void ssd_io_end(struct ssd_io *s)
{
	struct cache *c = s->c;
	uint32_t k = s->chunk;

	if (!list_empty(&s->link)) {
		list_del(&s->link);
		if (s->io.op == ENV_WRITE)
			c->nwrites--;
		else
			c->nreads--;
		if (!c->nreads && !c->nwrites)
			c->ssd_stalled = false;
		if (!c->nreads)
			env_timer_disarm(c->e, &c->patience);
		if (c->closing)
			fiber_cond_signal(c->e, &c->changed);
	}
	c->t.chunks[k].pins--;
	cache_chunk_check(c, k);
	mem_free(s);
}

/* Of the chunk that was read: `other` when it is a candidate. */
bool ssd_good(struct ssd_io *s)
{
	struct cache *c = s->c;
	uint32_t k = s->other == TAB_NONE ? s->chunk : s->other;

	if (s->io.result != c->geo.block)
		ssd_error(c, "a read", s->io.result);
	else if (c->o.mutate & CACHE_MUTATE_NO_CHECK || fp_of(c->key, s->buf) == c->t.chunks[k].fp)
		return true;
	else {
		c->st.corrupt++;
		metric_add(c->m_corrupt, 1);
		if (!c->said_corrupt)
			log_warn(env_log(c->e), "cache %s: a block is not what was written there; it is read from the replicas",
				 c->path);
		c->said_corrupt = true;
	}
	cache_drop_chunk(c, k);
	return false;
}

/* ---- opening ---- */

static bool all_zero(const uint8_t *p, size_t n)
{
	return !p[0] && !memcmp(p, p + 1, n - 1);
}

/* The two copies one after the other, so that one is whole at any moment. */
static int format(struct cache *c, const struct cache_super *s, void *page)
{
	int64_t rc = 0;

	cache_super_encode(s, page);
	for (int i = 0; i < 2 && rc >= 0; i++) {
		rc = fiber_write(c->e, c->file, page, HCI_BLOCK, (uint64_t)i * HCI_BLOCK, 0);
		if (rc >= 0)
			rc = fiber_fsync(c->e, c->file);
	}
	return rc < 0 ? (int)rc : 0;
}

static int refuse(struct cache *c, int rc, struct hci_error *err)
{
	if (rc == HCI_E_VERSION)
		return err_set(err, rc, "cache %s: it was made by another version of libhci: wipe its first megabyte or name another",
			       c->path);
	if (rc == HCI_E_STATE)
		return err_set(err, rc, "cache %s: it belongs to another cluster: wipe its first megabyte or name another", c->path);
	return err_set(err, HCI_E_EXISTS, "cache %s: it holds something that is no cache: name another, or wipe its first megabyte",
		       c->path);
}

/* What is there: 0 ours and fitting; HCI_E_NOTFOUND to be formatted; refused; or -errno. */
static int look(struct cache *c, uint64_t have, struct cache_super *s, uint8_t *buf)
{
	uint64_t n = MIN(ROUND_UP(have, (uint64_t)HCI_BLOCK), (uint64_t)LOOK);
	int64_t got = 0;
	int rc;

	memset(buf, 0, LOOK);
	if (n)
		got = fiber_read(c->e, c->file, buf, n, 0);
	if (got < 0)
		return (int)got;
	rc = cache_super_decode(buf, s);
	if (rc == HCI_E_NOTFOUND)
		return all_zero(buf + 2 * HCI_BLOCK, LOOK - 2 * HCI_BLOCK) ? rc : HCI_E_EXISTS;
	if (!rc && !uuid_eq(&s->cluster, &c->o.cluster))
		return HCI_E_STATE;
	return rc;
}

/* Space is taken at once, so that the file system cannot run full later. */
static int make_room(struct cache *c, uint64_t have, uint64_t want)
{
	int rc;

	if (have >= want)
		return 0;
	rc = fiber_falloc(c->e, c->file, 0, want);
	return rc == -EOPNOTSUPP ? env_truncate(c->e, c->file, want) : rc;
}

static int prepare(struct cache *c, uint8_t *buf, struct hci_error *err)
{
	struct cache_super s = { .cluster = c->o.cluster };
	uint64_t have = 0, want;
	uint8_t rnd[16];
	int rc = env_file_size(c->e, c->file, &have);

	if (rc)
		return rc;
	want = ROUND_DOWN(c->o.size ? c->o.size : have, 65536);
	if (!c->o.size && !have)
		return err_set(err, HCI_E_INVAL, "cache %s: how large? The file is new or empty: give a size (--cache-size)", c->path);
	if (want < CACHE_SIZE_MIN || want > CACHE_SIZE_MAX || !cache_geo_of(want, c->o.block, &c->geo))
		return err_set(err, HCI_E_INVAL, "cache %s: a size of %llu bytes is not in 1 MiB..16 TiB: name another",
			       c->path, (unsigned long long)want);
	rc = look(c, have, &s, buf);
	if (rc == HCI_E_EXISTS || rc == HCI_E_CORRUPT || rc == HCI_E_STATE || rc == HCI_E_VERSION)
		return refuse(c, rc, err);
	if (rc && rc != HCI_E_NOTFOUND)
		return rc;
	if (!rc && (s.size != want || s.block != c->o.block)) {
		log_info(env_log(c->e), "cache %s: its size or block changed: it begins empty", c->path);
		rc = HCI_E_NOTFOUND;
	}
	if (!rc) {
		c->key = fp_key_new(s.seed, s.block);
		c->id = s.id;
		return make_room(c, have, want);
	}
	rc = make_room(c, have, want);
	if (rc)
		return rc;
	env_random(c->e, rnd, sizeof(rnd));
	uuid_from_random(&s.id, rnd);
	env_random(c->e, s.seed, sizeof(s.seed));
	s.cluster = c->o.cluster;
	s.size = want;
	s.block = c->o.block;
	s.created = env_realtime(c->e);
	c->key = fp_key_new(s.seed, s.block);
	c->id = s.id;
	return format(c, &s, buf);
}

/* HCI_E_*: refused. -errno: passed by. */
static int open_file(struct cache *c, struct hci_error *err)
{
	uint8_t *buf = mem_alloc_aligned(LOOK);
	int rc = buf ? env_open(c->e, c->path, ENV_O_CREATE | ENV_O_DIRECT | ENV_O_LOCK, &c->file) : -ENOMEM;

	if (!rc)
		rc = prepare(c, buf, err);
	mem_free_aligned(buf);
	return rc;
}

int ssd_open(struct cache *c, struct hci_error *err)
{
	struct hci_error refused = { 0 };
	int rc = open_file(c, &refused);

	if (rc && c->file) {
		env_close(c->e, c->file);
		c->file = NULL;
	}
	if (refused.code)
		return err_copy(err, &refused, refused.code);
	if (rc == -EBUSY)
		return err_set(err, HCI_E_BUSY, "cache %s: another process uses it: name another", c->path);
	if (!rc && !c->key)
		return err_set(err, HCI_E_NOMEM, "cache %s: out of memory", c->path);
	if (rc) {
		ssd_error(c, "opening it", rc);
		c->ssd_off = true;
	}
	return 0;
}

void ssd_close(struct cache *c)
{
	if (!c->file)
		return;
	while (c->nreads || c->nwrites)
		fiber_cond_wait(c->e, &c->changed);
	env_close(c->e, c->file);
	c->file = NULL;
}
