/* SPDX-License-Identifier: Apache-2.0 */
/*
 * etcd://HOST[:PORT][,HOST[:PORT]...][/PREFIX][?ca=FILE&cert=FILE&key=FILE&auth-file=FILE]
 *
 * No escapes: names and paths are written as they are. Secrets are in files, never in the URL, which ends up in
 * process lists and messages.
 */
#include "url.h"

#include <errno.h>
#include <fcntl.h>
#include <hci/error.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int fail(struct failure *f, int code, const char *fmt, ...)
{
	va_list ap;

	f->code = code;
	va_start(ap, fmt);
	vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
	return code;
}

static int bad_url(const struct cfg *c, struct failure *f, const char *why)
{
	return fail(f, HCI_E_INVAL,
		    "store %.150s: %s; write etcd://host:2379,host2:2379/prefix?ca=FILE&cert=FILE&key=FILE&auth-file=FILE",
		    c->shown, why);
}

static int take_endpoint(struct cfg *c, const char *s, size_t n, struct failure *f)
{
	struct endpoint *ep = &c->ep[c->nep];
	const char *host = s, *port = "2379";
	size_t host_n = n, port_n = 4;

	if (n && s[0] == '[') {
		const char *close = memchr(s, ']', n);

		if (!close)
			return bad_url(c, f, "an IPv6 address has no ]");
		host = s + 1;
		host_n = (size_t)(close - host);
		port = close + 1;
	} else {
		const char *colon = memchr(s, ':', n);

		if (colon && memchr(colon + 1, ':', n - (size_t)(colon + 1 - s)))
			return bad_url(c, f, "an IPv6 address goes into []");
		host_n = colon ? (size_t)(colon - s) : n;
		port = colon ? colon : s + n;
	}
	if (port < s + n) {
		port_n = (size_t)(s + n - ++port);
		if (port[-1] != ':' || !port_n || port_n > 5 || strspn(port, "0123456789") < port_n)
			return bad_url(c, f, "a port is no number");
	} else {
		port = "2379";
		port_n = 4;
	}
	if (!host_n || host_n > 253)
		return bad_url(c, f, "an address has no host");
	if (c->nep == ENDPOINTS_MAX)
		return bad_url(c, f, "there are more than 16 addresses");
	snprintf(ep->host, sizeof(ep->host), "%.*s", (int)host_n, host);
	snprintf(ep->port, sizeof(ep->port), "%.*s", (int)port_n, port);
	snprintf(ep->name, sizeof(ep->name), strchr(ep->host, ':') ? "[%s]:%s" : "%s:%s", ep->host, ep->port);
	c->nep++;
	return 0;
}

static int take_endpoints(struct cfg *c, const char *s, size_t n, struct failure *f)
{
	const char *end = s + n, *comma;
	int rc = 0;

	for (; !rc; s = comma + 1) {
		comma = memchr(s, ',', (size_t)(end - s));
		rc = take_endpoint(c, s, (size_t)((comma ? comma : end) - s), f);
		if (!comma)
			break;
	}
	return rc;
}

static int take_prefix(struct cfg *c, const char *s, size_t n, struct failure *f)
{
	while (n && *s == '/') {
		s++;
		n--;
	}
	while (n && s[n - 1] == '/')
		n--;
	if (n > PREFIX_MAX)
		return bad_url(c, f, "the prefix has more than 64 bytes");
	for (size_t i = 0; i < n; i++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/", s[i]))
			return bad_url(c, f, "the prefix may have A-Z a-z 0-9 . _ - / only");
	snprintf(c->prefix, sizeof(c->prefix), "%.*s/", n ? (int)n : 3, n ? s : "hci");
	snprintf(c->guard, sizeof(c->guard), "%.*s~/", n ? (int)n : 3, n ? s : "hci");
	return 0;
}

/* One line "user:password". */
static int take_auth(struct cfg *c, const char *path, struct failure *f)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char line[600], *colon;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st)) {
		int e = errno;

		if (fd >= 0)
			close(fd);
		return fail(f, HCI_E_AUTH, "store %.150s: auth-file %.150s: %s", c->shown, path, strerror(e));
	}
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (st.st_mode & 077)
		return fail(f, HCI_E_AUTH, "store %.100s: auth-file %.150s can be read by others: chmod 600 it", c->shown, path);
	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\r\n")] = '\0';
	colon = strchr(line, ':');
	if (!colon || colon == line || (size_t)(colon - line) >= sizeof(c->user) || strlen(colon + 1) >= sizeof(c->password))
		return fail(f, HCI_E_AUTH, "store %.100s: auth-file %.150s: write one line user:password", c->shown, path);
	*colon = '\0';
	memcpy(c->user, line, strlen(line) + 1);
	memcpy(c->password, colon + 1, strlen(colon + 1) + 1);
	return 0;
}

static int take_option(struct cfg *c, const char *s, size_t n, char auth[FILE_MAX], struct failure *f)
{
	struct {
		const char *name;
		char *to;
	} const known[] = { { "ca=", c->ca }, { "cert=", c->cert }, { "key=", c->key }, { "auth-file=", auth } };

	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		size_t k = strlen(known[i].name);

		if (n < k || memcmp(s, known[i].name, k))
			continue;
		if (n - k >= FILE_MAX || n == k || s[k] != '/')
			return bad_url(c, f, "ca, cert, key and auth-file are absolute paths");
		memcpy(known[i].to, s + k, n - k);
		known[i].to[n - k] = '\0';
		return 0;
	}
	return bad_url(c, f, "an option is none of ca, cert, key, auth-file");
}

static int take_options(struct cfg *c, const char *s, struct failure *f)
{
	char auth[FILE_MAX] = "";
	int rc = 0;

	while (*s && !rc) {
		size_t n = strcspn(s, "&");

		rc = take_option(c, s, n, auth, f);
		s += n + (s[n] == '&');
	}
	if (rc)
		return rc;
	c->tls = c->ca[0] != '\0';
	if (!c->cert[0] != !c->key[0])
		return bad_url(c, f, "cert and key go together");
	if (c->cert[0] && !c->tls)
		return bad_url(c, f, "cert and key need ca, the authority that etcd's own certificate is from");
	return auth[0] ? take_auth(c, auth, f) : 0;
}

int cfg_parse(struct cfg *c, const char *url, struct failure *f)
{
	const char *s = url + 7;
	size_t host_n, path_n;
	int rc;

	memset(c, 0, sizeof(*c));
	snprintf(c->shown, sizeof(c->shown), "%.390s", url);
	if (strncmp(url, "etcd://", 7) != 0)
		return bad_url(c, f, "it does not begin with etcd://");
	host_n = strcspn(s, "/?");
	path_n = strcspn(s + host_n, "?");
	rc = take_endpoints(c, s, host_n, f);
	if (!rc)
		rc = take_prefix(c, s + host_n, path_n, f);
	s += host_n + path_n;
	return rc ? rc : take_options(c, *s ? s + 1 : s, f);
}
