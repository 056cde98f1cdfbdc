/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting, TLS, reading, writing: see net.h. */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <hci/error.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- TLS ---- */

static int tls_failed(struct net *n, int code, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *why = e ? ERR_reason_error_string(e) : NULL;
	long verify = n->ssl ? SSL_get_verify_result(n->ssl) : X509_V_OK;

	if (verify != X509_V_OK)
		why = X509_verify_cert_error_string(verify);
	fail(&n->why, code, "%s: %s", what, why ? why : "the connection was closed");
	ERR_clear_error();
	return -1;
}

/* Made anew for each connection, so that renewed certificates are taken without a restart. */
static SSL_CTX *tls_context(struct net *n, const struct cfg *c)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char what[FILE_MAX + 32];

	if (!ctx) {
		tls_failed(n, HCI_E_NOMEM, "TLS");
		return NULL;
	}
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\2h2", 3);
	snprintf(what, sizeof(what), "%s", c->ca);
	if (SSL_CTX_load_verify_locations(ctx, c->ca, NULL) != 1)
		goto bad;
	if (!c->cert[0])
		return ctx;
	snprintf(what, sizeof(what), "%s", c->cert);
	if (SSL_CTX_use_certificate_chain_file(ctx, c->cert) != 1)
		goto bad;
	snprintf(what, sizeof(what), "%s", c->key);
	if (SSL_CTX_use_PrivateKey_file(ctx, c->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		goto bad;
	return ctx;
bad:
	tls_failed(n, HCI_E_AUTH, what);
	SSL_CTX_free(ctx);
	return NULL;
}

static int tls_start(struct net *n, const struct cfg *c, const struct endpoint *ep)
{
	struct in6_addr any;
	SSL_CTX *ctx;
	bool literal = inet_pton(AF_INET, ep->host, &any) == 1 || inet_pton(AF_INET6, ep->host, &any) == 1;

	ERR_clear_error();
	ctx = tls_context(n, c);
	if (!ctx)
		return -1;
	n->ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	if (!n->ssl || SSL_set_fd(n->ssl, n->fd) != 1)
		return tls_failed(n, HCI_E_NOMEM, "TLS");
	if (literal ? !X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(n->ssl), ep->host)
		    : !SSL_set1_host(n->ssl, ep->host) || !SSL_set_tlsext_host_name(n->ssl, ep->host))
		return tls_failed(n, HCI_E_NOMEM, "TLS");
	SSL_set_connect_state(n->ssl);
	return 0;
}

/* 1: it is to be tried again after polling. */
static int tls_again(struct net *n, int rc)
{
	int e = SSL_get_error(n->ssl, rc);

	n->want_write = e == SSL_ERROR_WANT_WRITE;
	return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

static int tls_step(struct net *n)
{
	const unsigned char *alpn;
	unsigned len;
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(n->ssl);
	if (rc != 1)
		return tls_again(n, rc) ? 0 : tls_failed(n, HCI_E_AUTH, "TLS handshake");
	n->want_write = false;
	SSL_get0_alpn_selected(n->ssl, &alpn, &len);
	if (len != 2 || memcmp(alpn, "h2", 2) != 0) {
		fail(&n->why, HCI_E_PROTO, "the server does not speak HTTP/2: is it etcd?");
		return -1;
	}
	return 1;
}

/* ---- TCP ---- */

static int sys_failed(struct net *n, int e)
{
	fail(&n->why, HCI_E_UNAVAILABLE, "%s", strerror(e));
	return -1;
}

static const struct addrinfo *pick(const struct addrinfo *list, unsigned which)
{
	const struct addrinfo *a;
	unsigned count = 0;

	for (a = list; a; a = a->ai_next)
		count++;
	for (a = list, which %= count; which; which--)
		a = a->ai_next;
	return a;
}

int net_start(struct net *n, const struct cfg *c, const struct endpoint *ep, unsigned which)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = NULL;
	const struct addrinfo *a;
	int one = 1, rc;

	*n = (struct net){ .fd = -1 };
	rc = getaddrinfo(ep->host, ep->port, &hints, &list);
	if (rc || !list) {
		fail(&n->why, HCI_E_UNAVAILABLE, "%s", gai_strerror(rc));
		return -1;
	}
	a = pick(list, which);
	n->fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (n->fd < 0) {
		rc = sys_failed(n, errno);
	} else {
		setsockopt(n->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		n->connecting = n->want_write = true;
		rc = connect(n->fd, a->ai_addr, a->ai_addrlen) && errno != EINPROGRESS ? sys_failed(n, errno) : 0;
	}
	freeaddrinfo(list);
	if (!rc && c->tls)
		rc = tls_start(n, c, ep);
	return rc;
}

int net_step(struct net *n)
{
	struct pollfd p = { .fd = n->fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int e = 0;

	if (n->connecting) {
		if (poll(&p, 1, 0) == 0)
			return 0;
		if (getsockopt(n->fd, SOL_SOCKET, SO_ERROR, &e, &len) || e)
			return sys_failed(n, e ? e : errno);
		n->connecting = n->want_write = false;
	}
	return n->ssl ? tls_step(n) : 1;
}

static ssize_t over(struct net *n)
{
	fail(&n->why, HCI_E_UNAVAILABLE, "it closed the connection");
	return -1;
}

ssize_t net_read(struct net *n, void *p, size_t len)
{
	ssize_t rc;

	if (!n->ssl) {
		rc = recv(n->fd, p, len, 0);
		if (rc > 0)
			return rc;
		if (rc < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		return rc ? sys_failed(n, errno) : over(n);
	}
	ERR_clear_error();
	rc = SSL_read(n->ssl, p, (int)(len > 1 << 20 ? 1 << 20 : len));
	if (rc > 0)
		return rc;
	return tls_again(n, (int)rc) ? 0 : over(n);
}

ssize_t net_write(struct net *n, const void *p, size_t len)
{
	ssize_t rc;

	if (!n->ssl) {
		rc = send(n->fd, p, len, MSG_NOSIGNAL);
		n->want_write = rc < 0 && errno == EAGAIN;
		if (rc >= 0)
			return rc;
		return errno == EAGAIN || errno == EINTR ? 0 : sys_failed(n, errno);
	}
	ERR_clear_error();
	n->want_write = false;
	rc = SSL_write(n->ssl, p, (int)(len > 1 << 20 ? 1 << 20 : len));
	if (rc > 0)
		return rc;
	return tls_again(n, (int)rc) ? 0 : over(n);
}

void net_stop(struct net *n)
{
	SSL_free(n->ssl);
	if (n->fd >= 0)
		close(n->fd);
	n->ssl = NULL;
	n->fd = -1;
}
