/* SPDX-License-Identifier: Apache-2.0 */
/* The conformance suite of store drivers: see conformance.h. */
#include "conformance.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define MS NS_PER_MS

/* ---- short forms ---- */

#define PUT(k, v) ((struct store_op){ STORE_PUT, k, v, (uint32_t)strlen(v), 0 })
#define PUT_LEASED(k, v, l) ((struct store_op){ STORE_PUT, k, v, (uint32_t)strlen(v), l })
#define DEL(k) ((struct store_op){ .kind = STORE_DELETE, .key = k })
#define DEL_PREFIX(k) ((struct store_op){ .kind = STORE_DELETE_PREFIX, .key = k })
#define IS_REV(k, r) ((struct store_cmp){ STORE_CMP_MOD_REV, k, r })
#define IS_THERE(k) ((struct store_cmp){ STORE_CMP_EXISTS, k, 0 })

static uint64_t must(struct store *s, struct store_op op)
{
	struct hci_error err;
	uint64_t rev = 0;
	int rc = store_txn(s, NULL, 0, &op, 1, &rev, &err);

	ck_assert_msg(rc == 0, "%s: %s", op.key, err.message);
	return rev;
}

static int txn1(struct store *s, struct store_cmp cmp, struct store_op op)
{
	return store_txn(s, &cmp, 1, &op, 1, NULL, NULL);
}

/* value NULL: must be absent. Returns mod_rev. */
static uint64_t expect(struct store *s, const char *key, const char *value)
{
	struct store_result r;
	struct hci_error err;
	uint64_t rev = 0;
	int rc = store_get(s, key, &r, &err);

	ck_assert_msg(rc == 0, "get %s: %s", key, err.message);
	ck_assert_msg(r.n == (value ? 1 : 0), "%s: %zu found", key, r.n);
	if (value) {
		ck_assert_str_eq(r.kvs[0].key, key);
		ck_assert_uint_eq(r.kvs[0].value_len, strlen(value));
		ck_assert_mem_eq(r.kvs[0].value, value, strlen(value));
		rev = r.kvs[0].mod_rev;
	}
	store_result_free(&r);
	return rev;
}

static uint64_t revision(struct store *s)
{
	struct store_result r;
	uint64_t rev;

	ck_assert_int_eq(store_get(s, "no/such/key", &r, NULL), 0);
	rev = r.revision;
	store_result_free(&r);
	return rev;
}

/* The keys of a range, each with a blank after it. */
static void expect_range(struct store *s, const char *prefix, const char *after, uint32_t limit,
			 const char *keys, bool more)
{
	struct store_result r;
	char got[512] = "";

	ck_assert_int_eq(store_range(s, prefix, after, limit, &r, NULL), 0);
	for (size_t i = 0; i < r.n; i++) {
		strcat(got, r.kvs[i].key);
		strcat(got, " ");
	}
	ck_assert_str_eq(got, keys);
	ck_assert_int_eq(r.more, more);
	store_result_free(&r);
}

/* What a watch saw, as text: "+key=value" and "-key", "|" after each batch, "?" for a lost place.
 */
struct seen {
	struct env *env;
	struct store_watch *w;
	struct fiber_cond cond;
	char text[4096];
	uint64_t last, batches, lost;
	bool close_in_callback, disorder;
};

static void saw(void *arg, const struct store_event *ev, size_t n, uint64_t rev)
{
	struct seen *v = arg;
	size_t len = strlen(v->text);

	if (ev && rev <= v->last)
		v->disorder = true;
	v->last = rev;
	v->batches++;
	if (!ev) {
		v->lost++;
		len += (size_t)snprintf(v->text + len, sizeof(v->text) - len, "?");
	}
	for (size_t i = 0; i < n && len < sizeof(v->text) - 600; i++) {
		if (ev[i].kv.mod_rev != rev)
			v->disorder = true;
		len += (size_t)snprintf(v->text + len, sizeof(v->text) - len,
					ev[i].deleted ? "-%s" : "+%s=%.*s", ev[i].kv.key,
					(int)ev[i].kv.value_len, (char *)ev[i].kv.value);
	}
	if (len < sizeof(v->text) - 600)
		snprintf(v->text + len, sizeof(v->text) - len, "|");
	if (v->close_in_callback) {
		store_watch_close(v->w);
		v->w = NULL;
	}
	fiber_cond_signal(v->env, &v->cond);
}

static void watch_start(struct seen *v, struct conf *c, struct store *s, const char *prefix,
			uint64_t after)
{
	memset(v, 0, sizeof(*v));
	v->env = c->env;
	fiber_cond_init(&v->cond);
	v->w = store_watch(s, prefix, after, saw, v);
	ck_assert_ptr_nonnull(v->w);
}

/* Until revision `rev` has been delivered. */
static void watch_wait(struct seen *v, uint64_t rev)
{
	uint64_t until = env_now(v->env) + 10 * NS_PER_S;

	while (v->last < rev)
		ck_assert_msg(fiber_cond_wait_until(v->env, &v->cond, until), "watch saw only %s",
			      v->text);
	ck_assert(!v->disorder);
}

/* ---- cases ---- */

static void get_and_put(struct conf *c)
{
	struct store_result r;
	uint64_t r1, r2, r3;

	expect(c->s, "a", NULL);
	r1 = must(c->s, PUT("a", "one"));
	ck_assert_uint_gt(r1, 0);
	ck_assert_uint_eq(expect(c->s, "a", "one"), r1);
	r2 = must(c->s, PUT("b", "two"));
	ck_assert_uint_eq(r2, r1 + 1);
	r3 = must(c->s, PUT("a", ""));
	ck_assert_uint_eq(r3, r2 + 1);
	ck_assert_int_eq(store_get(c->s, "a", &r, NULL), 0);
	ck_assert_uint_eq(r.n, 1);
	ck_assert_uint_eq(r.revision, r3);
	ck_assert_uint_eq(r.kvs[0].create_rev, r1);
	ck_assert_uint_eq(r.kvs[0].mod_rev, r3);
	ck_assert_uint_eq(r.kvs[0].value_len, 0);
	ck_assert_uint_eq(r.kvs[0].lease, 0);
	store_result_free(&r);
}

static void other_client_sees_at_once(struct conf *c)
{
	char v[16];

	for (int i = 0; i < 50; i++) {
		snprintf(v, sizeof(v), "%d", i);
		must(i & 1 ? c->s : c->s2, PUT("k", v));
		expect(i & 1 ? c->s2 : c->s, "k", v);
	}
}

static void compare_holds_or_nothing_is_done(struct conf *c)
{
	uint64_t r1, rev;
	struct store_cmp two[2];
	struct hci_error err;

	ck_assert_int_eq(txn1(c->s, IS_THERE("a"), PUT("a", "x")), HCI_E_CONFLICT);
	ck_assert_int_eq(txn1(c->s, IS_REV("a", 7), PUT("a", "x")), HCI_E_CONFLICT);
	expect(c->s, "a", NULL);
	ck_assert_int_eq(txn1(c->s, IS_REV("a", 0), PUT("a", "1")), 0);
	r1 = expect(c->s, "a", "1");
	ck_assert_int_eq(txn1(c->s, IS_REV("a", 0), PUT("a", "2")), HCI_E_CONFLICT);
	ck_assert_int_eq(txn1(c->s, IS_REV("a", r1 + 1), PUT("a", "2")), HCI_E_CONFLICT);
	ck_assert_int_eq(txn1(c->s2, IS_REV("a", r1), PUT("a", "2")), 0);
	expect(c->s, "a", "2");
	ck_assert_int_eq(txn1(c->s2, IS_THERE("a"), PUT("b", "3")), 0);
	rev = revision(c->s);
	two[0] = IS_THERE("a");
	two[1] = IS_REV("b", 0);
	ck_assert_int_eq(store_txn(c->s, two, 2, &PUT("c", "4"), 1, NULL, &err), HCI_E_CONFLICT);
	ck_assert_int_eq(err.code, HCI_E_CONFLICT);
	ck_assert(err.message[0]);
	expect(c->s, "c", NULL);
	ck_assert_uint_eq(revision(c->s), rev);
}

static void compare_without_ops_changes_nothing(struct conf *c)
{
	struct store_cmp cmp = IS_THERE("a");
	uint64_t rev = must(c->s, PUT("a", "1")), got = 0;

	ck_assert_int_eq(store_txn(c->s, &cmp, 1, NULL, 0, &got, NULL), 0);
	ck_assert_uint_eq(got, rev);
	ck_assert_int_eq(store_txn(c->s, NULL, 0, NULL, 0, &got, NULL), 0);
	ck_assert_uint_eq(got, rev);
	ck_assert_uint_eq(revision(c->s), rev);
}

static void all_ops_have_one_revision(struct conf *c)
{
	struct store_op ops[] = { PUT("a/1", "x"), PUT("a/2", "y"), DEL("b"), PUT("c", "z") };
	uint64_t rev = 0;

	must(c->s, PUT("b", "old"));
	ck_assert_int_eq(store_txn(c->s, NULL, 0, ops, 4, &rev, NULL), 0);
	ck_assert_uint_eq(expect(c->s, "a/1", "x"), rev);
	ck_assert_uint_eq(expect(c->s, "a/2", "y"), rev);
	ck_assert_uint_eq(expect(c->s, "c", "z"), rev);
	expect(c->s, "b", NULL);
	ck_assert_uint_eq(revision(c->s2), rev);
}

static void deletes(struct conf *c)
{
	uint64_t rev;

	must(c->s, PUT("d/1", ""));
	must(c->s, PUT("d/2", ""));
	must(c->s, PUT("d", ""));
	rev = must(c->s, PUT("d0", ""));
	ck_assert_uint_eq(must(c->s, DEL("absent")), rev); /* nothing changed: no revision */
	ck_assert_uint_eq(must(c->s, DEL_PREFIX("absent/")), rev);
	ck_assert_uint_eq(must(c->s, DEL("d")), rev + 1);
	ck_assert_uint_eq(must(c->s, DEL_PREFIX("d/")), rev + 2);
	expect_range(c->s, "", NULL, 0, "d0 ", false);
	must(c->s, PUT("d/1", "again"));
	ck_assert_uint_eq(expect(c->s, "d/1", "again"), rev + 3);
	ck_assert_uint_eq(must(c->s, DEL_PREFIX("")), rev + 4);
	expect_range(c->s, "", NULL, 0, "", false);
}

static void ranges(struct conf *c)
{
	static const char *const keys[] = {
		"a", "a/", "a/b", "a/b/c", "a/~", "a0", "a/B", "b", "~~"
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		must(c->s, PUT(keys[i], "v"));
	expect_range(c->s, "", NULL, 0, "a a/ a/B a/b a/b/c a/~ a0 b ~~ ", false);
	expect_range(c->s, "a/", NULL, 0, "a/ a/B a/b a/b/c a/~ ", false);
	expect_range(c->s, "a/", NULL, 2, "a/ a/B ", true);
	expect_range(c->s, "a/", "a/B", 2, "a/b a/b/c ", true);
	expect_range(c->s, "a/", "a/b/c", 2, "a/~ ", false);
	expect_range(c->s, "a/", NULL, 5, "a/ a/B a/b a/b/c a/~ ", false);
	expect_range(c->s, "a/", "a/bb", 0, "a/~ ", false);
	expect_range(c->s, "a/", "A", 0, "a/ a/B a/b a/b/c a/~ ", false);
	expect_range(c->s, "a/", "b", 0, "", false);
	expect_range(c->s, "~", NULL, 0, "~~ ", false);
	expect_range(c->s, "x", NULL, 0, "", false);
}

static void long_range_in_pages(struct conf *c)
{
	char keys[STORE_TXN_MAX][16];
	struct store_op ops[STORE_TXN_MAX];
	struct store_result r;
	char after[16] = "";
	size_t total = 0;
	bool more = true;

	for (unsigned t = 0; t < 20; t++) {
		for (unsigned i = 0; i < STORE_TXN_MAX; i++) {
			snprintf(keys[i], sizeof(keys[i]), "p/%05u", t * STORE_TXN_MAX + i);
			ops[i] = PUT(keys[i], "v");
		}
		ck_assert_int_eq(store_txn(c->s, NULL, 0, ops, STORE_TXN_MAX, NULL, NULL), 0);
	}
	while (more) {
		ck_assert_int_eq(store_range(c->s, "p/", after[0] ? after : NULL, 0, &r, NULL), 0);
		ck_assert_uint_le(r.n, 1000);
		for (size_t i = 0; i < r.n; i++)
			ck_assert_uint_eq(strtoul(r.kvs[i].key + 2, NULL, 10), total++);
		more = r.more;
		if (r.n)
			snprintf(after, sizeof(after), "%s", r.kvs[r.n - 1].key);
		store_result_free(&r);
	}
	ck_assert_uint_eq(total, 20 * STORE_TXN_MAX);
}

static void limits(struct conf *c)
{
	char key[STORE_KEY_MAX + 2], names[STORE_TXN_MAX + 1][8];
	struct store_op many[STORE_TXN_MAX + 1],
		big = { STORE_PUT, "big", NULL, STORE_VALUE_MAX, 0 };
	uint8_t *value = mem_alloc(STORE_VALUE_MAX + 1);
	struct store_result r;

	memset(value, 0xa5, STORE_VALUE_MAX + 1);
	memset(key, 'k', sizeof(key));
	key[STORE_KEY_MAX + 1] = '\0';
	ck_assert_int_eq(store_txn(c->s, NULL, 0, &PUT(key, ""), 1, NULL, NULL), HCI_E_INVAL);
	key[STORE_KEY_MAX] = '\0';
	must(c->s, PUT(key, "long"));
	expect(c->s, key, "long");
	big.value = value;
	must(c->s, big);
	ck_assert_int_eq(store_get(c->s, "big", &r, NULL), 0);
	ck_assert_uint_eq(r.kvs[0].value_len, STORE_VALUE_MAX);
	ck_assert_mem_eq(r.kvs[0].value, value, STORE_VALUE_MAX);
	store_result_free(&r);
	big.value_len++;
	ck_assert_int_eq(store_txn(c->s, NULL, 0, &big, 1, NULL, NULL), HCI_E_RANGE);
	for (unsigned i = 0; i <= STORE_TXN_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "m%u", i);
		many[i] = PUT(names[i], "v");
	}
	ck_assert_int_eq(store_txn(c->s, NULL, 0, many, STORE_TXN_MAX + 1, NULL, NULL),
			 HCI_E_RANGE);
	ck_assert_int_eq(store_txn(c->s, NULL, 0, many, STORE_TXN_MAX, NULL, NULL), 0);
	mem_free(value);
}

static void bad_arguments(struct conf *c)
{
	struct store_op twice[] = { PUT("a", "1"), DEL("a") },
			below[] = { DEL_PREFIX("a/"), PUT("a/b", "1") };
	struct hci_error err;
	struct store_result r;
	uint64_t lease, rev = revision(c->s);

	ck_assert_int_eq(store_get(c->s, "", &r, &err), HCI_E_INVAL);
	ck_assert_int_eq(store_get(c->s, "a b", &r, &err), HCI_E_INVAL);
	ck_assert_ptr_nonnull(strstr(err.message, "0x20"));
	ck_assert_int_eq(store_get(c->s, "a\n", &r, NULL), HCI_E_INVAL);
	ck_assert_int_eq(store_get(c->s, "\xc3\xa4", &r, NULL), HCI_E_INVAL);
	ck_assert_int_eq(store_range(c->s, "a b", NULL, 0, &r, NULL), HCI_E_INVAL);
	ck_assert_int_eq(store_txn(c->s, NULL, 0, twice, 2, NULL, NULL), HCI_E_INVAL);
	ck_assert_int_eq(store_txn(c->s, NULL, 0, below, 2, NULL, NULL), HCI_E_INVAL);
	ck_assert_int_eq(store_lease_grant(c->s, 0, &lease, NULL), HCI_E_RANGE);
	ck_assert_int_eq(store_lease_grant(c->s, UINT64_MAX, &lease, NULL), HCI_E_RANGE);
	ck_assert_ptr_null(store_watch(c->s, "a b", 0, saw, NULL));
	ck_assert_uint_eq(revision(c->s), rev);
}

static uint64_t grant(struct store *s, uint64_t ttl)
{
	uint64_t lease = 0;

	ck_assert_int_eq(store_lease_grant(s, ttl, &lease, NULL), 0);
	ck_assert_uint_ne(lease, 0);
	return lease;
}

/* Long enough for a few requests, on a disk that others write to if it is a real one. */
static uint64_t short_lease(const struct conf *c)
{
	return MAX(500 * MS, c->driver->lease);
}

static void lease_expires(struct conf *c)
{
	uint64_t lease = grant(c->s, short_lease(c) + 100 * MS), rev;
	struct store_result r;
	struct seen v;

	must(c->s, PUT_LEASED("l/1", "x", lease));
	must(c->s, PUT_LEASED("l/2", "y", lease));
	rev = must(c->s, PUT("l/3", "stays"));
	watch_start(&v, c, c->s2, "l/", rev);
	ck_assert_int_eq(store_get(c->s2, "l/1", &r, NULL), 0);
	ck_assert_uint_eq(r.kvs[0].lease, lease);
	store_result_free(&r);
	fiber_sleep(c->env, 300 * MS);
	expect(c->s2, "l/1", "x");
	watch_wait(&v, rev + 1);
	ck_assert_str_eq(v.text, "-l/1-l/2|"); /* both in one revision */
	expect_range(c->s, "l/", NULL, 0, "l/3 ", false);
	ck_assert_int_eq(store_lease_keepalive(c->s, lease, NULL), HCI_E_NOTFOUND);
	ck_assert_int_eq(store_txn(c->s, NULL, 0, &PUT_LEASED("l/4", "", lease), 1, NULL, NULL),
			 HCI_E_FENCED);
	expect(c->s, "l/4", NULL);
	ck_assert_int_eq(store_lease_revoke(c->s, lease, NULL), 0);
	ck_assert_uint_eq(revision(c->s), rev + 1);
	store_watch_close(v.w);
}

static void lease_lives_while_kept(struct conf *c)
{
	uint64_t ttl = short_lease(c) + c->driver->lease_late, lease = grant(c->s, ttl);

	must(c->s, PUT_LEASED("k", "x", lease));
	for (int i = 0; i < 8; i++) {
		fiber_sleep(c->env, ttl * 3 / 10);
		ck_assert_int_eq(store_lease_keepalive(i & 1 ? c->s : c->s2, lease, NULL), 0);
		expect(c->s2, "k", "x");
	}
	fiber_sleep(c->env, 2 * ttl);
	expect(c->s, "k", NULL);
}

static void lease_revoked(struct conf *c)
{
	uint64_t a = grant(c->s, 60 * NS_PER_S), b = grant(c->s2, 60 * NS_PER_S), rev;

	ck_assert_uint_ne(a, b);
	must(c->s, PUT_LEASED("r/a", "1", a));
	must(c->s, PUT_LEASED("r/b", "1", b));
	must(c->s, PUT_LEASED("r/moved", "1", a));
	must(c->s, PUT_LEASED("r/moved", "2", b)); /* the last put says whose it is */
	must(c->s, PUT_LEASED("r/freed", "1", a));
	rev = must(c->s, PUT("r/freed", "2"));
	ck_assert_int_eq(store_lease_revoke(c->s2, a, NULL), 0);
	ck_assert_uint_eq(revision(c->s), rev + 1);
	expect_range(c->s, "r/", NULL, 0, "r/b r/freed r/moved ", false);
	ck_assert_int_eq(store_lease_keepalive(c->s, a, NULL), HCI_E_NOTFOUND);
	ck_assert_int_eq(store_lease_keepalive(c->s, b, NULL), 0);
	ck_assert_int_eq(store_lease_revoke(c->s, a, NULL), 0);
	ck_assert_int_eq(store_lease_revoke(c->s, b, NULL), 0);
	expect_range(c->s, "r/", NULL, 0, "r/freed ", false);
}

static void unknown_lease_fails_the_transaction(struct conf *c)
{
	struct store_op ops[] = { PUT("u/1", "x"), PUT_LEASED("u/2", "y", 987654321) };
	struct hci_error err;
	uint64_t rev = revision(c->s);

	ck_assert_int_eq(store_txn(c->s, NULL, 0, ops, 2, NULL, &err), HCI_E_FENCED);
	ck_assert(err.message[0]);
	expect_range(c->s, "u/", NULL, 0, "", false);
	ck_assert_int_eq(store_lease_keepalive(c->s, 987654321, &err), HCI_E_NOTFOUND);
	ck_assert_uint_eq(revision(c->s), rev);
}

static void watch_sees_all_in_order(struct conf *c)
{
	struct store_op ops[] = { PUT("w/a", "2"), PUT("other", "o"), PUT("w/b", "3") };
	struct seen v, all;
	uint64_t rev = 0;

	watch_start(&v, c, c->s2, "w/", 0);
	watch_start(&all, c, c->s, "", 0);
	must(c->s, PUT("w/a", "1"));
	must(c->s2, PUT("w", "no"));
	ck_assert_int_eq(store_txn(c->s, NULL, 0, ops, 3, NULL, NULL), 0);
	must(c->s, DEL("w/a"));
	rev = must(c->s2, DEL_PREFIX("w/"));
	watch_wait(&v, rev);
	ck_assert_str_eq(v.text, "+w/a=1|+w/a=2+w/b=3|-w/a|-w/b|");
	watch_wait(&all, rev);
	ck_assert_str_eq(all.text, "+w/a=1|+w=no|+w/a=2+other=o+w/b=3|-w/a|-w/b|");
	store_watch_close(v.w);
	must(c->s, PUT("w/a", "late"));
	fiber_sleep(c->env, 200 * MS);
	ck_assert_str_eq(v.text, "+w/a=1|+w/a=2+w/b=3|-w/a|-w/b|");
	store_watch_close(all.w);
}

static void watch_starts_in_the_past(struct conf *c)
{
	struct seen v;
	uint64_t r1, rev;

	must(c->s, PUT("p/1", "a"));
	r1 = must(c->s, PUT("p/2", "b"));
	must(c->s, DEL("p/1"));
	rev = must(c->s, PUT("p/3", "c"));
	watch_start(&v, c, c->s2, "p/", r1);
	watch_wait(&v, rev);
	ck_assert_str_eq(v.text, "-p/1|+p/3=c|");
	rev = must(c->s, PUT("p/4", "d"));
	watch_wait(&v, rev);
	ck_assert_str_eq(v.text, "-p/1|+p/3=c|+p/4=d|");
	store_watch_close(v.w);
}

static void watch_closed_by_its_own_callback(struct conf *c)
{
	struct seen v;

	must(c->s, PUT("x/1", "a"));
	must(c->s, PUT("x/2", "b"));
	watch_start(&v, c, c->s, "x/", 0);
	v.close_in_callback = true;
	watch_wait(&v, 1);
	must(c->s, PUT("x/3", "c"));
	fiber_sleep(c->env, 200 * MS);
	ck_assert_str_eq(v.text, "+x/1=a|");
	ck_assert_ptr_null(v.w);
}

static void watch_wakes_soon(struct conf *c)
{
	unsigned soon = 0;
	struct seen v;

	watch_start(&v, c, c->s2, "t/", 0);
	watch_wait(&v, must(c->s, PUT("t/1", "it has begun")));
	for (int i = 0; i < 10; i++) {
		uint64_t rev = must(c->s, PUT("t/1", "x")), start = env_now(c->env);

		watch_wait(&v, rev);
		soon += env_now(c->env) - start <= MAX(50 * MS, c->driver->news_within);
		fiber_sleep(c->env, 20 * MS);
	}
	ck_assert_uint_ge(soon, 7); /* others may have the processor now and then */
	store_watch_close(v.w);
}

/* Many fibers count up one key by compare-and-swap, through two clients. */
struct counting {
	struct conf *c;
	struct fiber_cond done;
	int running, conflicts;
};
#define COUNTERS 16
#define COUNTS 20

static void count_once(struct counting *n, struct store *s)
{
	int rc = HCI_E_CONFLICT;

	while (rc == HCI_E_CONFLICT) {
		struct store_result r;
		uint64_t rev;
		char v[16];

		ck_assert_int_eq(store_get(s, "count", &r, NULL), 0);
		rev = r.n ? r.kvs[0].mod_rev : 0;
		snprintf(v, sizeof(v), "%d", r.n ? atoi((char *)r.kvs[0].value) + 1 : 1);
		store_result_free(&r);
		rc = store_txn(
			s, &IS_REV("count", rev), 1,
			&(struct store_op){ STORE_PUT, "count", v, (uint32_t)strlen(v) + 1, 0 }, 1,
			NULL, NULL);
		n->conflicts += rc == HCI_E_CONFLICT;
	}
	ck_assert_int_eq(rc, 0);
}

static void counter(void *arg)
{
	struct counting *n = arg;
	struct store *s = n->running++ & 1 ? n->c->s : n->c->s2;

	for (int i = 0; i < COUNTS; i++)
		count_once(n, s);
	if (--n->running == 0)
		fiber_cond_signal(n->c->env, &n->done);
}

static void concurrent_compare_and_swap(struct conf *c)
{
	struct counting n = { .c = c };
	struct store_result r;
	struct seen v;

	fiber_cond_init(&n.done);
	watch_start(&v, c, c->s, "count", 0);
	for (int i = 0; i < COUNTERS; i++)
		ck_assert_int_eq(fiber_spawn(c->env, counter, &n, "counter"), 0);
	fiber_cond_wait(c->env, &n.done);
	ck_assert_int_eq(store_get(c->s, "count", &r, NULL), 0);
	ck_assert_int_eq(atoi((char *)r.kvs[0].value), COUNTERS * COUNTS);
	watch_wait(&v, r.kvs[0].mod_rev);
	ck_assert_uint_eq(v.batches, COUNTERS * COUNTS);
	ck_assert_uint_eq(v.lost, 0);
	store_result_free(&r);
	store_watch_close(v.w);
}

/* Whoever watches from a range's revision on has all: what is older than the range says is in it. */
#define LONG_KEYS 600u
#define LONG_PUTS 4096u

struct changing {
	struct conf *c;
	uint64_t revs[LONG_PUTS]; /* of the first key */
	unsigned n;
	bool stop, over;
	struct fiber_cond done;
};

static void changer(void *arg)
{
	struct changing *x = arg;

	while (!x->stop && x->n < LONG_PUTS) {
		x->revs[x->n] = must(x->c->s2, PUT("long/000", "y"));
		x->n++;
	}
	x->over = true;
	fiber_cond_signal(x->c->env, &x->done);
}

static void long_range_while_it_changes(struct conf *c)
{
	static struct changing x;
	char key[16];

	x = (struct changing){ .c = c };
	fiber_cond_init(&x.done);
	for (unsigned i = 0; i < LONG_KEYS; i++) {
		snprintf(key, sizeof(key), "long/%03u", i);
		must(c->s, PUT(key, "x"));
	}
	ck_assert_int_eq(fiber_spawn(c->env, changer, &x, "changer"), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct store_result r;

		ck_assert_int_eq(store_range(c->s, "long/", NULL, 1000, &r, NULL), 0);
		ck_assert_uint_eq(r.n, LONG_KEYS);
		for (unsigned k = 0; k < x.n; k++)
			ck_assert_msg(x.revs[k] <= r.kvs[0].mod_rev || x.revs[k] > r.revision,
				      "range of revision %llu has the key as of %llu, and not as of %llu", (unsigned long long)r.revision,
				      (unsigned long long)r.kvs[0].mod_rev, (unsigned long long)x.revs[k]);
		store_result_free(&r);
	}
	x.stop = true;
	while (!x.over)
		fiber_cond_wait(c->env, &x.done);
}

/* Closing answers what is under way. */
struct busy {
	struct conf *c;
	struct store *s;
	int started, ended;
};

static void busy_putter(void *arg)
{
	struct busy *b = arg;
	int rc = 0;

	b->started++;
	while (rc == 0)
		rc = store_txn(b->s, NULL, 0, &PUT("busy", "x"), 1, NULL, NULL);
	ck_assert_int_eq(rc, HCI_E_CLOSED);
	b->ended++;
}

static void close_with_requests_under_way(struct conf *c)
{
	struct busy b = { .c = c };
	struct seen v;

	ck_assert_int_eq(c->driver->open(c, &b.s, NULL), 0);
	watch_start(&v, c, b.s, "busy", 0);
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(fiber_spawn(c->env, busy_putter, &b, "putter"), 0);
	watch_wait(&v, 1);
	ck_assert_int_eq(b.started, 8);
	/* Fibers that go on after the close must not touch the store: those of this test are in a
	 * call. */
	store_close(b.s);
	for (int i = 0; i < 200 && b.ended < 8; i++)
		fiber_sleep(c->env, 50 * MS);
	ck_assert_int_eq(b.ended, 8);
	ck_assert_uint_gt(v.batches, 0);
	expect(c->s, "busy", "x");
}

static void survives_its_clients(struct conf *c)
{
	struct store *s;
	struct seen v;
	uint64_t rev = must(c->s, PUT("keep", "me"));

	must(c->s, PUT_LEASED("leased", "me", grant(c->s, 60 * NS_PER_S)));
	ck_assert_int_eq(c->driver->open(c, &s, NULL), 0);
	ck_assert_uint_eq(expect(s, "keep", "me"), rev);
	watch_start(&v, c, s, "", rev);
	watch_wait(&v, rev + 1);
	ck_assert_str_eq(v.text, "+leased=me|");
	store_close(s);
	ck_assert_int_eq(c->driver->open(c, &s, NULL), 0);
	expect(s, "keep", "me");
	expect(s, "leased", "me");
	store_close(s);
}

/* ---- the suite ---- */

static const struct {
	const char *name;
	void (*body)(struct conf *c);
} cases[] = {
	{ "get_and_put", get_and_put },
	{ "other_client_sees_at_once", other_client_sees_at_once },
	{ "compare_holds_or_nothing_is_done", compare_holds_or_nothing_is_done },
	{ "compare_without_ops_changes_nothing", compare_without_ops_changes_nothing },
	{ "all_ops_have_one_revision", all_ops_have_one_revision },
	{ "deletes", deletes },
	{ "ranges", ranges },
	{ "long_range_in_pages", long_range_in_pages },
	{ "long_range_while_it_changes", long_range_while_it_changes },
	{ "limits", limits },
	{ "bad_arguments", bad_arguments },
	{ "lease_expires", lease_expires },
	{ "lease_lives_while_kept", lease_lives_while_kept },
	{ "lease_revoked", lease_revoked },
	{ "unknown_lease_fails_the_transaction", unknown_lease_fails_the_transaction },
	{ "watch_sees_all_in_order", watch_sees_all_in_order },
	{ "watch_starts_in_the_past", watch_starts_in_the_past },
	{ "watch_closed_by_its_own_callback", watch_closed_by_its_own_callback },
	{ "watch_wakes_soon", watch_wakes_soon },
	{ "concurrent_compare_and_swap", concurrent_compare_and_swap },
	{ "close_with_requests_under_way", close_with_requests_under_way },
	{ "survives_its_clients", survives_its_clients },
};

/* One driver a test program. */
static const struct conf_driver *driver;
static int current;

static void run_case(struct conf *c)
{
	struct hci_error err;

	c->driver = driver;
	ck_assert_msg(driver->open(c, &c->s, &err) == 0, "open: %s", err.message);
	ck_assert_int_eq(driver->open(c, &c->s2, NULL), 0);
	cases[current].body(c);
	store_close(c->s);
	store_close(c->s2);
}

START_TEST(conforms)
{
	current = _i;
	driver->run(driver, run_case);
}
END_TEST

void conf_add(Suite *suite, const struct conf_driver *d)
{
	driver = d;
	for (int i = 0; i < (int)ARRAY_SIZE(cases); i++) {
		TCase *tc = tcase_create(cases[i].name);

		tcase_set_timeout(tc, 60);
		tcase_add_loop_test(tc, conforms, i, i + 1);
		suite_add_tcase(suite, tc);
	}
}
