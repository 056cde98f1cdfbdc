/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 (RFC 8446) on the connections of the real env: handshake, records in and out, and what an
 * error of OpenSSL means. Contexts and their certificates are made in real_tlsctx.c.
 *
 * OpenSSL never touches the socket: its BIO reads through the read-ahead buffer of the conn and
 * writes to its output chunks, so that a turn of the loop costs one system call however many
 * records.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "env/real_conn.h"
#include "env/real_tls.h"

#define RECORD 16384u /* RFC 8446, 5.1: the most that a record holds */
#define FLUSH_AT (128u << 10)
#define FLUSH_SMALL (32u << 10) /* of small pieces: the peer is at the first of them while we encrypt the next */

/* ---- BIO ---- */

static int bio_read(BIO *b, char *buf, int len)
{
	struct real_conn *c = BIO_get_data(b);
	int64_t n;

	BIO_clear_retry_flags(b);
	n = conn_raw_read(c, buf, (size_t)len);
	if (n >= 0)
		return (int)n;
	c->raw_errno = (int)-n;
	if (n == -EAGAIN)
		BIO_set_retry_read(b);
	return -1;
}

static int bio_write(BIO *b, const char *buf, int len)
{
	struct real_conn *c = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (c->tx_dead)
		return len; /* reading finds out why */
	return conn_raw_write(c, buf, (size_t)len) ? -1 : len;
}

static long bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	struct real_conn *c = BIO_get_data(b);

	(void)num;
	(void)ptr;
	if (cmd == BIO_CTRL_EOF)
		return c->rx_eof && !c->rx;
	return cmd == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

BIO_METHOD *tls_bio_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "hci connection");

	if (!m)
		return NULL;
	BIO_meth_set_read(m, bio_read);
	BIO_meth_set_write(m, bio_write);
	BIO_meth_set_ctrl(m, bio_ctrl);
	BIO_meth_set_create(m, bio_create);
	return m;
}

/* ---- what went wrong ---- */

static void fail_alert(struct real_conn *c, int alert)
{
	const char *what = SSL_alert_desc_string_long(alert);

	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
	case SSL_AD_DECRYPT_ERROR:
	case SSL_AD_CERTIFICATE_REQUIRED:
		conn_fail(c, HCI_E_AUTH, 0,
			  "connection with %s: the other side refused our certificate %s (%s): is "
			  "it of this cluster's CA, valid today, and are both clocks right?",
			  c->addr, c->tls->cert_file, what);
		break;
	case SSL_AD_PROTOCOL_VERSION:
		conn_fail(c, HCI_E_VERSION, 0,
			  "connection with %s: the other side does not speak TLS 1.3", c->addr);
		break;
	default:
		conn_fail(c, HCI_E_PROTO, 0, "connection with %s: the other side ended TLS: %s",
			  c->addr, what);
	}
}

static void fail_verify(struct real_conn *c)
{
	long v = SSL_get_verify_result(c->ssl);

	conn_fail(c, HCI_E_AUTH, 0,
		  "connection with %s: its certificate is refused: %s (CA file %s): give it one of "
		  "this cluster's CA, and check both clocks",
		  c->addr, v == X509_V_OK ? "it has none" : X509_verify_cert_error_string(v),
		  c->tls->ca_file);
}

static void fail_ssl(struct real_conn *c)
{
	unsigned long e = ERR_peek_last_error();
	int reason = ERR_GET_REASON(e);
	const char *text = ERR_reason_error_string(e);

	if (ERR_GET_LIB(e) != ERR_LIB_SSL) {
		conn_fail(c, ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE ? HCI_E_NOMEM : HCI_E_PROTO,
			  0, "connection with %s: TLS failed: %s", c->addr,
			  text ? text : "unknown reason");
		return;
	}
	if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
		fail_alert(c, reason - SSL_AD_REASON_OFFSET);
		return;
	}
	switch (reason) {
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		fail_verify(c);
		break;
	case SSL_R_UNSUPPORTED_PROTOCOL:
		conn_fail(c, HCI_E_VERSION, 0,
			  "connection with %s: the other side does not speak TLS 1.3", c->addr);
		break;
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		conn_fail(c, HCI_E_CLOSED, 0, "connection with %s: cut off by the other side%s",
			  c->addr,
			  SSL_is_init_finished(c->ssl)
				  ? ""
				  : " during the TLS handshake (its log may say why)");
		break;
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_HTTP_REQUEST:
	case SSL_R_HTTPS_PROXY_REQUEST:
	case SSL_R_UNEXPECTED_MESSAGE:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
	case SSL_R_RECORD_LENGTH_MISMATCH:
		conn_fail(c, HCI_E_PROTO, 0,
			  "connection with %s: the other side does not speak TLS: %s", c->addr,
			  text);
		break;
	default:
		conn_fail(c, HCI_E_PROTO, 0, "connection with %s: TLS failed: %s", c->addr,
			  text ? text : "unknown reason");
	}
}

/* After a call of OpenSSL returned ret: true when it only waits for bytes; else the conn is over.
 */
static bool waits(struct real_conn *c, int ret)
{
	switch (SSL_get_error(c->ssl, ret)) {
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return true;
	case SSL_ERROR_ZERO_RETURN:
		c->rx_eof = true;
		conn_fail(c, HCI_E_CLOSED, 0, "connection with %s: closed by the other side",
			  c->addr);
		break;
	case SSL_ERROR_SSL:
		fail_ssl(c);
		break;
	default:
		conn_fail(c, c->raw_errno == ETIMEDOUT ? HCI_E_TIMEOUT : HCI_E_CLOSED, c->raw_errno,
			  "connection with %s broke%s", c->addr,
			  SSL_is_init_finished(c->ssl) ? "" : " during the TLS handshake");
	}
	ERR_clear_error();
	return false;
}

/* ---- handshake ---- */

int tls_start(struct real_conn *c, struct real_tls *t, struct hci_error *err)
{
	BIO *bio;

	if (c->tls != t) {
		tls_unref(c->tls);
		c->tls = t;
		tls_ref(t);
	}
	c->ssl = SSL_new(t->ctx);
	bio = c->ssl ? BIO_new(t->bio) : NULL;
	if (!bio) {
		ERR_clear_error();
		return err_set(err, HCI_E_NOMEM, "connection with %s: out of memory", c->addr);
	}
	BIO_set_data(bio, c);
	SSL_set_bio(c->ssl, bio, bio);
	if (c->server)
		SSL_set_accept_state(c->ssl);
	else
		SSL_set_connect_state(c->ssl);
	c->state = CONN_HANDSHAKE;
	return 0;
}

/* False: a name with a NUL inside, which is no name but an attempt. */
static bool take_peer_name(struct real_conn *c)
{
	X509 *x = SSL_get1_peer_certificate(c->ssl);
	const ASN1_STRING *s = NULL;
	int i, len;

	c->peer_name[0] = '\0';
	if (!x)
		return true;
	i = X509_NAME_get_index_by_NID(X509_get_subject_name(x), NID_commonName, -1);
	if (i >= 0)
		s = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(X509_get_subject_name(x), i));
	len = s ? ASN1_STRING_length(s) : 0;
	if (len > 0 && (size_t)len < sizeof(c->peer_name)) {
		memcpy(c->peer_name, ASN1_STRING_get0_data(s), (size_t)len);
		c->peer_name[len] = '\0';
	}
	X509_free(x);
	return strlen(c->peer_name) == (size_t)len;
}

void tls_handshake(struct real_conn *c)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(c->ssl);
	if (c->out_len)
		conn_cork(c);
	if (r != 1) {
		waits(c, r);
		return;
	}
	if (!take_peer_name(c)) {
		conn_fail(c, HCI_E_AUTH, 0,
			  "connection with %s: the name in its certificate makes no sense",
			  c->addr);
		return;
	}
	net_established(c);
}

int real_conn_start_tls(struct env_conn *cb, struct env_tls *tls, bool server,
			struct hci_error *err)
{
	struct real_conn *c = conn_of(cb);
	int r;

	if (c->state != CONN_OPEN || c->ssl)
		return err_set(err, HCI_E_STATE,
			       "connection with %s: TLS can be started once, on an open stream",
			       c->addr);
	c->server = server;
	r = tls_start(c, container_of(tls, struct real_tls, base), err);
	if (r)
		return r;
	c->deadline = cb->env->now + CONN_SETUP_NS;
	env_timer_arm(cb->env, &c->timer, c->deadline);
	conn_ready(c);
	return 0;
}

/* ---- records ---- */

int64_t tls_recv(struct real_conn *c, void *buf, size_t len)
{
	size_t got = 0;

	ERR_clear_error();
	while (got < len) {
		size_t n;
		int r = SSL_read_ex(c->ssl, (char *)buf + got, len - got, &n);

		if (r == 1) {
			got += n;
			continue;
		}
		if (waits(c, r)) {
			c->rx_more = false;
			break;
		}
		if (!got)
			return c->rx_eof && c->err.code == HCI_E_CLOSED ? 0 : c->err.code;
		break;
	}
	if (c->out_len) /* a key update's answer: RFC 8446, 4.6.3 */
		conn_cork(c);
	return got ? (int64_t)got : HCI_E_AGAIN;
}

static int encrypt(struct real_conn *c, const void *buf, size_t len, size_t flush_at)
{
	size_t n;
	int r;

	ERR_clear_error();
	r = SSL_write_ex(c->ssl, buf, len, &n);
	if (r == 1 && n == len) {
		if (c->out_len >= flush_at)
			conn_flush_socket(c);
		return 0;
	}
	if (waits(c, r))
		conn_fail(c, HCI_E_INTERNAL, 0, "connection with %s: TLS took no bytes", c->addr);
	return c->err.code;
}

static void drop_stage(struct real_conn *c)
{
	chunk_put(conn_real(c), c->stage);
	c->stage = NULL;
}

static int flush_stage(struct real_conn *c)
{
	struct chunk *k = c->stage;
	size_t len = k->tail;

	k->tail = 0; /* before: the conn may end in encrypt(), and the stage with it */
	return len ? encrypt(c, k->data, len, FLUSH_SMALL) : 0;
}

int tls_flush(struct real_conn *c)
{
	int r = c->stage ? flush_stage(c) : 0;

	drop_stage(c);
	return r;
}

/* Whole records straight from the caller's memory, the rest through the stage. */
static int send_piece(struct real_conn *c, const char *p, size_t len)
{
	while (len) {
		size_t n;
		int r;

		if (len >= RECORD && (!c->stage || !c->stage->tail)) {
			n = ROUND_DOWN(MIN(len, FLUSH_AT), RECORD);
			r = encrypt(c, p, n, FLUSH_AT);
		} else {
			if (!c->stage)
				c->stage = chunk_get(conn_real(c));
			if (!c->stage) {
				conn_fail(c, HCI_E_NOMEM, 0, "connection with %s: out of memory",
					  c->addr);
				return HCI_E_NOMEM;
			}
			n = MIN(len, RECORD - c->stage->tail);
			memcpy(c->stage->data + c->stage->tail, p, n);
			c->stage->tail += (uint32_t)n;
			r = c->stage->tail == RECORD ? flush_stage(c) : 0;
		}
		if (r)
			return r;
		p += n;
		len -= n;
	}
	return 0;
}

int64_t tls_send(struct real_conn *c, const struct iovec *iov, int n, size_t room)
{
	size_t took = 0;
	int i, r;

	for (i = 0; i < n && took < room; i++) {
		size_t len = MIN(iov[i].iov_len, room - took);

		r = send_piece(c, iov[i].iov_base, len);
		if (r)
			return r;
		took += len;
	}
	return (int64_t)took;
}

void tls_shutdown(struct real_conn *c)
{
	if (c->state == CONN_OPEN && !tls_flush(c)) {
		ERR_clear_error();
		SSL_shutdown(c->ssl);
		ERR_clear_error();
	}
}

void tls_drop(struct real_conn *c)
{
	SSL_free(c->ssl);
	c->ssl = NULL;
}
