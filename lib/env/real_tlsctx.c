/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS contexts of the real env: reads CA, certificate and key, and refuses at once, naming the
 * file, what would only fail at the first connection.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/real_conn.h"
#include "env/real_tls.h"

void tls_ref(struct real_tls *t)
{
	t->refs++;
}

void tls_unref(struct real_tls *t)
{
	if (!t || --t->refs)
		return;
	SSL_CTX_free(t->ctx);
	BIO_meth_free(t->bio);
	mem_free(t->ca_file);
	mem_free(t->cert_file);
	mem_free(t);
}

void real_tls_free(struct env_tls *t)
{
	tls_unref(container_of(t, struct real_tls, base));
}

static const char *why(void)
{
	unsigned long e = ERR_peek_error();
	const char *s = ERR_GET_LIB(e) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(e))
						      : ERR_reason_error_string(e);

	return s ? s : "unknown reason";
}

static int check_dates(const char *file, const X509 *x, struct hci_error *err)
{
	if (X509_cmp_current_time(X509_get0_notAfter(x)) < 0)
		return err_set(
			err, HCI_E_AUTH,
			"certificate %s has expired: issue a new one (or set the clock right)",
			file);
	if (X509_cmp_current_time(X509_get0_notBefore(x)) > 0)
		return err_set(err, HCI_E_AUTH,
			       "certificate %s is not valid yet: is this machine's clock right?",
			       file);
	return 0;
}

static int load_ca(struct real_tls *t, const char *file, struct hci_error *err)
{
	FILE *f = fopen(file, "re");
	X509 *x;
	int r;

	if (!f)
		return err_sys(err, HCI_E_AUTH, errno, "CA file %s cannot be read", file);
	x = PEM_read_X509(f, NULL, NULL, NULL);
	fclose(f);
	if (!x)
		return err_set(err, HCI_E_AUTH, "CA file %s holds no certificate in PEM form: %s",
			       file, why());
	r = check_dates(file, x, err);
	X509_free(x);
	if (r)
		return r;
	if (SSL_CTX_load_verify_file(t->ctx, file) != 1)
		return err_set(err, HCI_E_AUTH, "CA file %s cannot be used: %s", file, why());
	return 0;
}

/* As PostgreSQL has it: the owner's alone; root's may be read by a group, that of the service. */
static int check_private(const char *key, struct hci_error *err)
{
	struct stat st;

	if (stat(key, &st) || !S_ISREG(st.st_mode))
		return 0; /* loading it says what is wrong */
	if (st.st_mode & (st.st_uid ? S_IRWXG | S_IRWXO : S_IWGRP | S_IXGRP | S_IRWXO))
		return err_set(err, HCI_E_AUTH, "key %s is open to others (mode %03o): chmod 600 it, and issue a new one if they may have it",
			       key, (unsigned)st.st_mode & 0777);
	return 0;
}

static int load_own(struct real_tls *t, const char *cert, const char *key, struct hci_error *err)
{
	int r = check_private(key, err);

	if (r)
		return r;
	if (SSL_CTX_use_certificate_chain_file(t->ctx, cert) != 1)
		return err_set(err, HCI_E_AUTH, "certificate %s cannot be read: %s", cert, why());
	if (SSL_CTX_use_PrivateKey_file(t->ctx, key, SSL_FILETYPE_PEM) != 1)
		return err_set(err, HCI_E_AUTH, "key %s cannot be used with certificate %s: %s",
			       key, cert, why());
	return check_dates(cert, SSL_CTX_get0_certificate(t->ctx), err);
}

static void take_name(struct real_tls *t)
{
	X509_NAME *n = X509_get_subject_name(SSL_CTX_get0_certificate(t->ctx));

	if (X509_NAME_get_text_by_NID(n, NID_commonName, t->base.name, sizeof(t->base.name)) < 0)
		t->base.name[0] = '\0';
}

/* Does our own certificate chain to the CA? The peers would ask the same. */
static int check_chain(struct real_tls *t, const char *ca, const char *cert, struct hci_error *err)
{
	STACK_OF(X509) *chain = NULL;
	X509_STORE_CTX *c = X509_STORE_CTX_new();
	int r = 0;

	SSL_CTX_get0_chain_certs(t->ctx, &chain);
	if (!c || !X509_STORE_CTX_init(c, SSL_CTX_get_cert_store(t->ctx),
				       SSL_CTX_get0_certificate(t->ctx), chain))
		r = err_set(err, HCI_E_NOMEM, "certificate %s: out of memory", cert);
	else if (X509_verify_cert(c) != 1)
		r = err_set(err, HCI_E_AUTH, "certificate %s is not of the CA in %s: %s", cert, ca,
			    X509_verify_cert_error_string(X509_STORE_CTX_get_error(c)));
	X509_STORE_CTX_free(c);
	return r;
}

static int setup(struct real_tls *t, bool verify_peer, struct hci_error *err)
{
	t->ctx = SSL_CTX_new(TLS_method());
	t->bio = tls_bio_method();
	if (!t->ctx || !t->bio || !t->ca_file || !t->cert_file)
		return err_set(err, HCI_E_NOMEM, "TLS for certificate %s: out of memory",
			       t->cert_file);
	SSL_CTX_set_min_proto_version(t->ctx, TLS1_3_VERSION);
	SSL_CTX_set_max_proto_version(t->ctx, TLS1_3_VERSION);
	/* Fastest first, where the processor has AES instructions as all our servers do. */
	SSL_CTX_set_ciphersuites(
		t->ctx,
		"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
	SSL_CTX_set_options(t->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_TICKET);
	SSL_CTX_set_num_tickets(t->ctx, 0);
	SSL_CTX_set_session_cache_mode(t->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(t->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(t->ctx,
			   SSL_VERIFY_PEER | (verify_peer ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
			   NULL);
	return 0;
}

struct env_tls *real_tls_new(struct env *e, const char *ca_file, const char *cert_file,
			     const char *key_file, bool verify_peer, struct hci_error *err)
{
	struct real_tls *t = MEM_NEW(struct real_tls);
	int r;

	if (!t) {
		err_set(err, HCI_E_NOMEM, "TLS for certificate %s: out of memory", cert_file);
		return NULL;
	}
	t->base.env = e;
	t->refs = 1;
	t->ca_file = mem_strdup(ca_file);
	t->cert_file = mem_strdup(cert_file);
	ERR_clear_error();
	r = setup(t, verify_peer, err);
	if (!r)
		r = load_ca(t, ca_file, err);
	if (!r)
		r = load_own(t, cert_file, key_file, err);
	if (!r)
		take_name(t);
	if (!r)
		r = check_chain(t, ca_file, cert_file, err);
	ERR_clear_error();
	if (!r)
		return &t->base;
	tls_unref(t);
	return NULL;
}
