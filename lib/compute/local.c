/* SPDX-License-Identifier: Apache-2.0 */
/* Where this machine's libvirtd listens, from the URI that we use ourselves; and as whom it starts QEMU. */
#include "compute/compute_impl.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_socket(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISSOCK(st.st_mode);
}

/* %XX of a URI (RFC 3986, 2.1). */
static int decode(const char *s, size_t n, char *out, size_t cap)
{
	size_t o = 0;

	for (size_t i = 0; i < n; i++) {
		char hex[3] = { 0 }, *end;

		if (o + 1 >= cap)
			return HCI_E_RANGE;
		if (s[i] != '%') {
			out[o++] = s[i];
			continue;
		}
		if (i + 2 >= n)
			return HCI_E_INVAL;
		memcpy(hex, s + i + 1, 2);
		out[o++] = (char)strtoul(hex, &end, 16);
		if (*end || !out[o - 1])
			return HCI_E_INVAL;
		i += 2;
	}
	out[o] = '\0';
	return 0;
}

static int from_parameter(const char *query, char *out, size_t cap)
{
	while (query && *query) {
		size_t n = strcspn(query, "&;");

		if (!strncmp(query, "socket=", 7))
			return decode(query + 7, n - 7, out, cap);
		query += n + (query[n] != '\0');
	}
	return HCI_E_NOTFOUND;
}

/* One daemon for all, or one for QEMU alone: https://libvirt.org/daemons.html */
static int usual(const char *dir, char *out, size_t cap)
{
	static const char *const names[] = { "libvirt-sock", "virtqemud-sock" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (snprintf(out, cap, "%s/libvirt/%s", dir, names[i]) < (int)cap && is_socket(out))
			return 0;
	return HCI_E_NOTFOUND;
}

int compute_local(const char *uri, struct compute_local *out, struct hci_error *err)
{
	const char *colon = strstr(uri, "://"), *plus = strchr(uri, '+'), *query = strchr(uri, '?');
	const char *path = colon ? colon + 3 : NULL, *run = getenv("XDG_RUNTIME_DIR");
	size_t len = path ? query ? (size_t)(query - path) : strlen(path) : 0;
	int rc;

	memset(out, 0, sizeof(*out));
	if (!colon || strncmp(uri, "qemu", 4) || (plus && plus < colon && strncmp(plus, "+unix:", 6)) || len < 2 || path[0] != '/')
		return err_set(err, HCI_E_UNSUPPORTED, "libvirt %s: VMs are migrated live between libvirtds of the machines themselves: "
			       "use qemu:///system", uri);
	if (len >= sizeof(out->path))
		return err_set(err, HCI_E_INVAL, "libvirt %s: too long", uri);
	memcpy(out->path, path, len);
	rc = from_parameter(query ? query + 1 : NULL, out->socket, sizeof(out->socket));
	if (rc == HCI_E_NOTFOUND && !strcmp(out->path, "/system"))
		rc = usual("/run", out->socket, sizeof(out->socket));
	else if (rc == HCI_E_NOTFOUND && run)
		rc = usual(run, out->socket, sizeof(out->socket));
	return rc ? err_set(err, rc, "libvirt %s: its socket is not found: is libvirtd running? A URI may name it: "
			    "qemu:///system?socket=PATH", uri) : 0;
}

/* "+64055:+64055": what the security driver "dac" of a privileged libvirtd names. A user's own has none, and starts QEMU as that user. */
bool local_qemu_user(const char *caps, uid_t *uid, gid_t *gid)
{
	static const char label[] = "<baselabel type='qemu'>+";
	const char *dac = strstr(caps, "<model>dac</model>"), *end = dac ? strstr(dac, "</secmodel>") : NULL;
	const char *at = dac ? strstr(dac, label) : NULL;
	unsigned u, g;

	if (!at || at > end || sscanf(at + sizeof(label) - 1, "%u:+%u<", &u, &g) != 2)
		return false;
	*uid = u;
	*gid = g;
	return true;
}

int compute_socket_give(struct compute *c, const char *path, struct hci_error *err)
{
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	virConnectPtr conn;
	char *caps;
	int rc = compute_conn(c, &conn, err);

	if (rc)
		return rc;
	caps = virConnectGetCapabilities(conn);
	if (!caps)
		rc = compute_fail(err, "its capabilities");
	else if (local_qemu_user(caps, &uid, &gid) && chown(path, uid, gid))
		rc = err_sys(err, HCI_E_SYS, errno, "socket %s cannot be given to QEMU's user", path);
	if (!rc && chmod(path, 0600))
		rc = err_sys(err, HCI_E_SYS, errno, "socket %s", path);
	free(caps);
	compute_conn_put(c, conn);
	return rc;
}
