/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster's CA: files, modes, names in certificates, refusals; checked with the openssl
 * program. */
#include <sys/stat.h>
#include <unistd.h>

#include "env/pki.h"
#include "unit/env/real.h"

static unsigned mode_of(const char *path)
{
	struct stat st;

	ck_assert_msg(!stat(path, &st), "%s", path);
	return st.st_mode & 07777;
}

/* Output of a shell command. */
static const char *output(const char *fmt, const char *arg, const char *arg2)
{
	static char out[16384];
	char cmd[512];
	FILE *p;
	size_t n;

	snprintf(cmd, sizeof(cmd), fmt, arg, arg2);
	p = popen(cmd, "r");
	n = fread(out, 1, sizeof(out) - 1, p);
	out[n] = '\0';
	pclose(p);
	return out;
}

static void has(const char *text, const char *word)
{
	ck_assert_msg(strstr(text, word) != NULL, "no \"%s\" in: %s", word, text);
}

START_TEST(ca_and_node_certificates)
{
	static const char *const addrs[] = { "10.1.2.3", "fd00::7", "node1.example", NULL };
	const char *ca = scratch_path("ca"), *n1 = scratch_path("n1"), *text;
	struct hci_error err;
	struct stat a, b;

	ck_assert_int_eq(pki_create_ca(ca, "lab", &err), 0);
	ck_assert_uint_eq(mode_of(scratch_path("ca/ca.key")), 0600);
	ck_assert_uint_eq(mode_of(scratch_path("ca/ca.crt")), 0644);
	stat(scratch_path("ca/ca.key"), &a);
	ck_assert_int_eq(pki_create_ca(ca, "lab", &err), HCI_E_EXISTS);
	stat(scratch_path("ca/ca.key"), &b);
	ck_assert_uint_eq(a.st_ino, b.st_ino);

	ck_assert_int_eq(pki_issue(ca, "node1", n1, 365, addrs, &err), 0);
	ck_assert_uint_eq(mode_of(scratch_path("n1/node.key")), 0600);
	ck_assert_uint_eq(mode_of(scratch_path("n1/node.crt")), 0644);
	text = output("openssl x509 -noout -text -in %s/node.crt", n1, NULL);
	has(text, "CN = node1");
	has(text, "Issuer: CN = lab CA");
	has(text,
	    "DNS:node1, IP Address:10.1.2.3, IP Address:FD00:0:0:0:0:0:0:7, DNS:node1.example");
	has(text, "TLS Web Server Authentication, TLS Web Client Authentication");
	has(text, "prime256v1");
	has(text, "CA:FALSE");
	has(output("openssl verify -x509_strict -purpose sslserver -CAfile %s/ca.crt %s/node.crt",
		   ca, n1),
	    ": OK");
	has(output("openssl verify -x509_strict -purpose sslclient -CAfile %s/ca.crt %s/node.crt",
		   n1, n1),
	    ": OK");
	has(output("openssl verify -verify_hostname node1.example -verify_ip 10.1.2.3 -CAfile "
		   "%s/ca.crt %s/node.crt",
		   ca, n1),
	    ": OK");
	/* A new one replaces it. */
	ck_assert_int_eq(pki_issue(ca, "node1", n1, -3, NULL, &err), 0);
	has(output("openssl verify -CAfile %s/ca.crt %s/node.crt 2>&1", ca, n1), "expired");
}
END_TEST

START_TEST(layouts_of_others)
{
	const char *ca = scratch_path("ca"), *n = scratch_path("n");

	ck_assert_int_eq(pki_create_ca(ca, "lab", NULL), 0);
	ck_assert_int_eq(pki_issue(ca, "n", n, 10, NULL, NULL), 0);
	ck_assert_int_eq(pki_lay_out(n, scratch_path("q"), PKI_LAYOUT_QEMU, NULL), 0);
	ck_assert_uint_eq(mode_of(scratch_path("q/server-key.pem")), 0600);
	ck_assert_uint_eq(mode_of(scratch_path("q/client-key.pem")), 0600);
	has(output("openssl verify -CAfile %s/ca-cert.pem %s/client-cert.pem", scratch_path("q"),
		   scratch_path("q")),
	    ": OK");
	ck_assert_int_eq(pki_lay_out(n, scratch_path("l"), PKI_LAYOUT_LIBVIRT, NULL), 0);
	ck_assert_uint_eq(mode_of(scratch_path("l/libvirt/private/serverkey.pem")), 0600);
	has(output("openssl verify -CAfile %s/CA/cacert.pem %s/libvirt/servercert.pem",
		   scratch_path("l"), scratch_path("l")),
	    ": OK");
	ck_assert_int_eq(
		pki_lay_out(scratch_path("none"), scratch_path("x"), PKI_LAYOUT_QEMU, NULL),
		HCI_E_NOTFOUND);
}
END_TEST

START_TEST(refusals)
{
	static const char *const mistyped[] = { "10.77.0.300", "10.77.0", "10.77.0.1.", "1077", "fd00::7::1" };
	static const char *const odd[] = { "7.example", "n1.4lab", "10.77.0.1", "n1.lab.", NULL };
	static const char *const evil[] = { "1.2.3.4,DNS:evil", NULL }, *const empty[] = { "",
											   NULL };
	const char *ca = scratch_path("ca"), *n = scratch_path("n");
	struct hci_error err;

	ck_assert_int_eq(pki_create_ca(ca, "a b", &err), HCI_E_INVAL);
	ck_assert_int_eq(pki_create_ca(scratch_path("no/such/dir"), "ab", &err), HCI_E_NOTFOUND);
	ck_assert_int_eq(pki_issue(ca, "node1", n, 1, NULL, &err), HCI_E_NOTFOUND);
	ck_assert_int_eq(pki_create_ca(ca, "ab", &err), 0);
	ck_assert_int_eq(pki_issue(ca, "n,DNS:x", n, 1, NULL, &err), HCI_E_INVAL);
	ck_assert_int_eq(pki_issue(ca, "../n", n, 1, NULL, &err), HCI_E_INVAL);
	ck_assert_int_eq(pki_issue(ca, "n", n, 1, evil, &err), HCI_E_INVAL);
	ck_assert_int_eq(pki_issue(ca, "n", n, 1, empty, &err), HCI_E_INVAL);
	for (unsigned i = 0; i < ARRAY_SIZE(mistyped); i++) {
		ck_assert_int_eq(pki_issue(ca, "n", n, 1, (const char *const[]){ mistyped[i], NULL }, &err), HCI_E_INVAL);
		has(err.message, mistyped[i]);
	}
	ck_assert_int_eq(pki_issue(ca, "n", n, 1, odd, &err), 0);
	ck_assert_int_eq(unlink(scratch_path("ca/ca.key")), 0);
	ck_assert_int_eq(pki_issue(ca, "n", n, 1, NULL, &err), HCI_E_NOTFOUND);
	has(err.message, "ca.key");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("env_pki");
	TCase *t = tcase_create("pki");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, NULL, scratch_remove);
	tcase_add_test(t, ca_and_node_certificates);
	tcase_add_test(t, layouts_of_others);
	tcase_add_test(t, refusals);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
