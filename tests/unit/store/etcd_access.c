/* SPDX-License-Identifier: Apache-2.0 */
/* Who may: TLS with client certificates, users and passwords; what is wrong with a URL is said. */
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "etcd_world.h"
#include "unit/harness.h"

static struct etcd_world etcd;
static struct world loop;
static char tried[1200];
static int code;
static struct hci_error error;

static void try_open(struct world *w)
{
	struct store *s;

	code = store_open(w->env, tried, &s, &error);
	if (code)
		return;
	world_put(s, "k", "x");
	store_close(s);
}

static void expect(const char *u, int want, const char *words)
{
	snprintf(tried, sizeof(tried), "%s", u);
	world_run(&loop, try_open);
	ck_assert_msg(code == want, "%s: %d %s", u, code, code ? error.message : "");
	if (code)
		ck_assert_msg(strstr(error.message, words), "%s: %s", u, error.message);
}

static const char *with(const char *fmt, ...) PRINTF(1, 2);
static const char *with(const char *fmt, ...)
{
	static char out[1200];
	char more[800];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(more, sizeof(more), fmt, ap);
	va_end(ap);
	etcd_world_url(&etcd, out, sizeof(out), more);
	return out;
}

START_TEST(urls)
{
	static const struct {
		const char *url, *words;
	} bad[] = {
		{ "etcd:127.0.0.1", "etcd://" },
		{ "etcd://", "host" },
		{ "etcd://h:1,", "host" },
		{ "etcd://h:port", "port" },
		{ "etcd://h:123456", "port" },
		{ "etcd://::1:2379", "IPv6" },
		{ "etcd://[::1:2379", "IPv6" },
		{ "etcd://a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", "16" },
		{ "etcd://h/a b", "prefix" },
		{ "etcd://h/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "prefix" },
		{ "etcd://h?tls=1", "option" },
		{ "etcd://h?ca=relative", "absolute" },
		{ "etcd://h?ca=/a&cert=/b", "together" },
		{ "etcd://h?cert=/b&key=/c", "ca" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect(bad[i].url, HCI_E_INVAL, bad[i].words);
	expect("etcd://h?auth-file=/no/such/file", HCI_E_AUTH, "/no/such/file");
}
END_TEST

START_TEST(nobody_there)
{
	expect("etcd://127.0.0.1:1,127.0.0.1:2", HCI_E_UNAVAILABLE, "127.0.0.1:");
}
END_TEST

START_TEST(tls_with_client_certificates)
{
	etcd_world_make(&etcd, 3, true);
	expect(with("?ca=%s/ca.pem&cert=%s/client.pem&key=%s/client.key", etcd.dir, etcd.dir, etcd.dir), 0, "");
	expect(with("?ca=%s/ca.pem", etcd.dir), HCI_E_UNAVAILABLE, "127.0.0.1:");
	expect(with("?ca=%s/client.pem&cert=%s/client.pem&key=%s/client.key", etcd.dir, etcd.dir, etcd.dir), HCI_E_AUTH,
	       "certificate");
	expect(with("?ca=%s/ca.pem&cert=%s/no.pem&key=%s/client.key", etcd.dir, etcd.dir, etcd.dir), HCI_E_AUTH, "no.pem");
	expect(with("?ca=%s/ca.pem&cert=%s/client.pem&key=%s/server.key", etcd.dir, etcd.dir, etcd.dir), HCI_E_AUTH,
	       "server.key");
	expect(with("%s", ""), HCI_E_UNAVAILABLE, "127.0.0.1:");
	etcd_world_remove(&etcd);
}
END_TEST

static void write_auth(const char *name, const char *line, mode_t mode)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", etcd.dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fprintf(f, "%s\n", line);
	fclose(f);
	ck_assert_int_eq(chmod(path, mode), 0);
}

/* Tokens live in the member's memory: after a restart the client has to log in again by itself. */
static void over_restart(struct world *w)
{
	struct hci_error err;
	struct store *s;

	REQUIRE(store_open(w->env, tried, &s, &err) == 0, "%s", err.message);
	store_set_timeout(s, 30 * NS_PER_S);
	world_put(s, "k", "1");
	etcd_member_kill(&etcd, 0);
	etcd_member_start(&etcd, 0);
	world_put(s, "k", "2");
	/* A change of any user makes all tokens old. */
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "--user root:top user add somebody:else"), 0);
	world_put(s, "k", "3");
	store_close(s);
}

START_TEST(users_and_passwords)
{
	etcd_world_make(&etcd, 1, false);
	write_auth("hci", "hci:secret", 0600);
	write_auth("wrong", "hci:wrong", 0600);
	write_auth("guest", "guest:guest", 0600);
	write_auth("open", "hci:secret", 0644);
	write_auth("empty", "", 0600);
	/* Not needed yet: no harm. */
	expect(with("?auth-file=%s/hci", etcd.dir), 0, "");
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "user add root:top"), 0);
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "user add hci:secret"), 0);
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "user add guest:guest"), 0);
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "role add hci"), 0);
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "role grant-permission hci --prefix=true readwrite t"), 0);
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "user grant-role hci hci"), 0);
	ck_assert_int_eq(etcdctl(&etcd, NULL, 0, "auth enable"), 0);
	expect(with("?auth-file=%s/hci", etcd.dir), 0, "");
	expect(with("?auth-file=%s/wrong", etcd.dir), HCI_E_AUTH, "authentication failed");
	expect(with("?auth-file=%s/guest", etcd.dir), HCI_E_AUTH, "permission denied");
	expect(with("?auth-file=%s/open", etcd.dir), HCI_E_AUTH, "chmod 600");
	expect(with("?auth-file=%s/empty", etcd.dir), HCI_E_AUTH, "user:password");
	expect(with("%s", ""), HCI_E_AUTH, "auth-file");
	snprintf(tried, sizeof(tried), "%s", with("?auth-file=%s/hci", etcd.dir));
	world_run(&loop, over_restart);
	etcd_world_remove(&etcd);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("store/etcd access");
	TCase *tc = tcase_create("access");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, urls);
	tcase_add_test(tc, nobody_there);
	tcase_add_test(tc, tls_with_client_certificates);
	tcase_add_test(tc, users_and_passwords);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	return etcd_suite_main(make_suite);
}
