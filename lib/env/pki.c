/* SPDX-License-Identifier: Apache-2.0 */
/* Making keys and certificates with OpenSSL, and the files they live in. TLS itself is in
 * real_tls.c. */
#include "env/pki.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/names.h"

#define CA_DAYS 3650
#define PEM_MAX (64u << 10)
#define PATH_CAP 1024

/* ---- files ---- */

static int join(char out[PATH_CAP], const char *dir, const char *name, struct hci_error *err)
{
	int n = snprintf(out, PATH_CAP, "%s/%s", dir, name);

	if (n < 0 || n >= PATH_CAP)
		return err_set(err, HCI_E_INVAL, "directory %.200s...: the path is too long", dir);
	return 0;
}

static int make_dir(const char *dir, struct hci_error *err)
{
	if (!mkdir(dir, 0700) || errno == EEXIST)
		return 0;
	return err_sys(err, err_from_errno(errno), errno, "directory %s cannot be made", dir);
}

static int write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return fsync(fd) ? -errno : 0;
}

/* Complete or not at all, and a key at no moment readable by others. */
static int write_file(const char *dir, const char *name, mode_t mode, const void *data, size_t len,
		      struct hci_error *err)
{
	char path[PATH_CAP], temp[PATH_CAP];
	int fd, r = join(path, dir, name, err);

	if (r)
		return r;
	if (snprintf(temp, sizeof(temp), "%s/.%s.new", dir, name) >= (int)sizeof(temp))
		return err_set(err, HCI_E_INVAL, "directory %.200s...: the path is too long", dir);
	unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(err, err_from_errno(errno), errno, "%s cannot be written", path);
	r = write_all(fd, data, len);
	if (!r && fchmod(fd, mode))
		r = -errno;
	close(fd);
	if (!r && rename(temp, path))
		r = -errno;
	if (!r)
		return 0;
	unlink(temp);
	return err_sys(err, err_from_errno(-r), -r, "%s cannot be written", path);
}

static int write_bio(const char *dir, const char *name, mode_t mode, BIO *b, struct hci_error *err)
{
	char *data;
	long len = BIO_get_mem_data(b, &data);

	return write_file(dir, name, mode, data, (size_t)len, err);
}

static int write_cert(const char *dir, const char *name, X509 *x, struct hci_error *err)
{
	BIO *b = BIO_new(BIO_s_mem());
	int r;

	if (!b || PEM_write_bio_X509(b, x) != 1)
		r = err_set(err, HCI_E_NOMEM, "certificate %s: out of memory", name);
	else
		r = write_bio(dir, name, 0644, b, err);
	BIO_free(b);
	return r;
}

static int write_key(const char *dir, const char *name, EVP_PKEY *k, struct hci_error *err)
{
	BIO *b = BIO_new(BIO_s_secmem());
	int r;

	if (!b || PEM_write_bio_PrivateKey(b, k, NULL, NULL, 0, NULL, NULL) != 1)
		r = err_set(err, HCI_E_NOMEM, "key %s: out of memory", name);
	else
		r = write_bio(dir, name, 0600, b, err);
	BIO_free(b);
	return r;
}

/* ---- certificates ---- */

struct spec {
	const char *name; /* CN */
	int days;
	const char *const *addrs;
	enum pki_usage usage;
	bool ca;
};

static int add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *ext;
	int r;

	X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
	ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	if (!ext)
		return -1;
	r = X509_add_ext(x, ext, -1) == 1 ? 0 : -1;
	X509_EXTENSION_free(ext);
	return r;
}

static bool is_ip(const char *s)
{
	unsigned char b[16];

	return inet_pton(AF_INET, s, b) == 1 || inet_pton(AF_INET6, s, b) == 1;
}

/* Nothing that could begin another entry in OpenSSL's text form of extensions; and no mistyped IPv4 address: the last part of a
 * host name has a letter (RFC 3696, 2). */
static bool plain_host(const char *s)
{
	const char *last = strrchr(s, '.');

	last = last && last[1] ? last + 1 : s;
	return *s && strlen(s) < 254 && last[strspn(last, "0123456789.")] &&
	       !s[strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_")];
}

static int add_names(X509 *x, X509 *issuer, const struct spec *s)
{
	struct buf b = BUF_INIT;
	const char *const *a;
	int r;

	buf_printf(&b, "DNS:%s", s->name);
	for (a = s->addrs; a && *a; a++)
		buf_printf(&b, ",%s:%s", is_ip(*a) ? "IP" : "DNS", *a);
	buf_append(&b, "", 1);
	r = b.failed ? -1 : add_ext(x, issuer, NID_subject_alt_name, (char *)b.data);
	buf_free(&b);
	return r;
}

static int add_exts(X509 *x, X509 *issuer, const struct spec *s)
{
	static const char *const usage[] = { [PKI_BOTH] = "serverAuth,clientAuth",
					     [PKI_CLIENT] = "clientAuth",
					     [PKI_SERVER] = "serverAuth" };

	if (add_ext(x, issuer, NID_basic_constraints,
		    s->ca ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") ||
	    /* Without key encipherment libvirt refuses it, though TLS 1.3 has no use for that. */
	    add_ext(x, issuer, NID_key_usage,
		    s->ca ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature,keyEncipherment") ||
	    add_ext(x, issuer, NID_subject_key_identifier, "hash"))
		return -1;
	if (s->ca)
		return 0;
	if (add_ext(x, issuer, NID_authority_key_identifier, "keyid") ||
	    add_ext(x, issuer, NID_ext_key_usage, usage[s->usage]))
		return -1;
	return add_names(x, issuer, s);
}

static int set_serial(X509 *x)
{
	unsigned char b[16];
	BIGNUM *n;
	int r;

	if (RAND_bytes(b, sizeof(b)) != 1)
		return -1;
	b[0] = (b[0] & 0x7f) | 0x40; /* positive, of full length: RFC 5280, 4.1.2.2 */
	n = BN_bin2bn(b, sizeof(b), NULL);
	r = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) ? 0 : -1;
	BN_free(n);
	return r;
}

static int set_dates(X509 *x, int days)
{
	/* Begins an hour early: the clocks of a cluster may not quite agree yet. */
	long from = days < 0 ? ((long)days - 30) * 86400 : -3600, to = (long)days * 86400;

	return X509_gmtime_adj(X509_getm_notBefore(x), from) &&
			       X509_gmtime_adj(X509_getm_notAfter(x), to)
		       ? 0
		       : -1;
}

/* issuer NULL: signs itself. NULL when out of memory. */
static X509 *make_cert(const struct spec *s, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key)
{
	X509 *x = X509_new();
	X509_NAME *n = x ? X509_get_subject_name(x) : NULL;

	if (n && X509_set_version(x, X509_VERSION_3) && !set_serial(x) && !set_dates(x, s->days) &&
	    X509_set_pubkey(x, key) &&
	    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const unsigned char *)s->name, -1,
				       -1, 0) &&
	    X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : n) &&
	    !add_exts(x, issuer ? issuer : x, s) &&
	    X509_sign(x, issuer_key ? issuer_key : key, EVP_sha256()))
		return x;
	X509_free(x);
	ERR_clear_error();
	return NULL;
}

static int write_pair(const char *dir, const char *cert_name, const char *key_name, X509 *x,
		      EVP_PKEY *key, struct hci_error *err)
{
	/* The key first: a certificate that is there has its key. */
	int r = write_key(dir, key_name, key, err);

	return r ? r : write_cert(dir, cert_name, x, err);
}

int pki_create_ca(const char *dir, const char *cluster_name, struct hci_error *err)
{
	struct spec s = { .days = CA_DAYS, .ca = true };
	char path[PATH_CAP], cn[HCI_NAME_MAX + 16];
	EVP_PKEY *key;
	X509 *x = NULL;
	int r = name_check(cluster_name, "cluster", err);

	if (!r)
		r = make_dir(dir, err);
	if (!r)
		r = join(path, dir, "ca.key", err);
	if (r)
		return r;
	if (!access(path, F_OK))
		return err_set(err, HCI_E_EXISTS, "%s: there is a CA already; it is left as it is",
			       path);
	/* A CN has at most 64 characters. */
	snprintf(cn, sizeof(cn), "%.55s CA", cluster_name);
	s.name = cn;
	key = EVP_EC_gen("P-256");
	if (key)
		x = make_cert(&s, key, NULL, NULL);
	r = x ? write_pair(dir, "ca.crt", "ca.key", x, key, err)
	      : err_set(err, HCI_E_NOMEM, "CA of cluster %s: OpenSSL cannot make it", cluster_name);
	X509_free(x);
	EVP_PKEY_free(key);
	return r;
}

/* ---- issuing ---- */

static int load_ca(const char *dir, X509 **x, EVP_PKEY **key, struct hci_error *err)
{
	char path[PATH_CAP];
	FILE *f;
	int r = join(path, dir, "ca.crt", err);

	if (r)
		return r;
	f = fopen(path, "re");
	*x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
	if (f)
		fclose(f);
	if (!*x)
		return err_set(err, HCI_E_NOTFOUND,
			       "CA certificate %s is missing or damaged: make a CA first", path);
	r = join(path, dir, "ca.key", err);
	if (r)
		return r;
	f = fopen(path, "re");
	*key = f ? PEM_read_PrivateKey(f, NULL, NULL, NULL) : NULL;
	if (f)
		fclose(f);
	ERR_clear_error();
	if (!*key)
		return err_set(err, HCI_E_NOTFOUND,
			       "CA key %s is missing or damaged: issue where the CA was made",
			       path);
	if (X509_check_private_key(*x, *key) != 1)
		return err_set(err, HCI_E_AUTH, "CA key %s does not fit ca.crt beside it", path);
	return 0;
}

int pki_issue_for(const char *dir, const char *name, const char *out_dir, int days,
		  const char *const *addrs, enum pki_usage usage, struct hci_error *err)
{
	struct spec s = { .name = name, .days = days, .addrs = addrs, .usage = usage };
	EVP_PKEY *ca_key = NULL, *key = NULL;
	X509 *ca = NULL, *x = NULL;
	const char *const *a;
	int r = name_check(name, "node", err);

	if (r)
		return r;
	for (a = addrs; a && *a; a++) {
		if (!is_ip(*a) && !plain_host(*a))
			return err_set(
				err, HCI_E_INVAL,
				"node %s: \"%.100s\" is neither an IP address nor a host name",
				name, *a);
	}
	r = make_dir(out_dir, err);
	if (!r)
		r = load_ca(dir, &ca, &ca_key, err);
	if (!r) {
		key = EVP_EC_gen("P-256");
		x = key ? make_cert(&s, key, ca, ca_key) : NULL;
		r = x ? write_pair(out_dir, "node.crt", "node.key", x, key, err)
		      : err_set(err, HCI_E_NOMEM, "certificate of node %s: OpenSSL cannot make it",
				name);
	}
	if (!r)
		r = write_cert(out_dir, "ca.crt", ca, err);
	X509_free(x);
	X509_free(ca);
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca_key);
	return r;
}

int pki_issue(const char *dir, const char *node_name, const char *out_dir, int days,
	      const char *const *addrs, struct hci_error *err)
{
	return pki_issue_for(dir, node_name, out_dir, days, addrs, PKI_BOTH, err);
}

/* ---- as others want it ---- */

static int copy(const char *from_dir, const char *from, const char *to_dir, const char *to,
		mode_t mode, struct hci_error *err)
{
	char path[PATH_CAP], *data;
	ssize_t n = -1;
	int fd, r = join(path, from_dir, from, err);

	if (r)
		return r;
	data = mem_alloc(PEM_MAX);
	if (!data)
		return err_set(err, HCI_E_NOMEM, "%s: out of memory", path);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		n = read(fd, data, PEM_MAX);
	if (n <= 0)
		r = err_sys(err, HCI_E_NOTFOUND, n < 0 ? errno : ENODATA, "%s cannot be read",
			    path);
	else
		r = write_file(to_dir, to, mode, data, (size_t)n, err);
	if (fd >= 0)
		close(fd);
	mem_free(data);
	return r;
}

struct item {
	const char *from, *dir, *to;
	mode_t mode;
};
static const struct item qemu_layout[] = {
	{ "ca.crt", "", "ca-cert.pem", 0644 },       { "node.crt", "", "client-cert.pem", 0644 },
	{ "node.crt", "", "server-cert.pem", 0644 }, { "node.key", "", "client-key.pem", 0600 },
	{ "node.key", "", "server-key.pem", 0600 },  { 0 },
};
static const struct item libvirt_layout[] = {
	{ NULL, "/CA", NULL, 0 },
	{ "ca.crt", "/CA", "cacert.pem", 0644 },
	{ NULL, "/libvirt", NULL, 0 },
	{ "node.crt", "/libvirt", "clientcert.pem", 0644 },
	{ "node.crt", "/libvirt", "servercert.pem", 0644 },
	{ NULL, "/libvirt/private", NULL, 0 },
	{ "node.key", "/libvirt/private", "clientkey.pem", 0600 },
	{ "node.key", "/libvirt/private", "serverkey.pem", 0600 },
	{ 0 },
};

int pki_lay_out(const char *node_dir, const char *out_dir, enum pki_layout layout,
		struct hci_error *err)
{
	const struct item *i = layout == PKI_LAYOUT_QEMU ? qemu_layout : libvirt_layout;
	int r = make_dir(out_dir, err);

	for (; !r && i->dir; i++) {
		char dir[PATH_CAP];

		if (snprintf(dir, sizeof(dir), "%s%s", out_dir, i->dir) >= (int)sizeof(dir))
			return err_set(err, HCI_E_INVAL,
				       "directory %.200s...: the path is too long", out_dir);
		r = i->from ? copy(node_dir, i->from, dir, i->to, i->mode, err)
			    : make_dir(dir, err);
	}
	return r;
}
