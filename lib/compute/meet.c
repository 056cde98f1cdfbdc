/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The place where two QEMUs meet without seeing each other. libvirt gives both ends of a migration the same unix
 * path: the destination's QEMU listens there, the source's connects there. On two machines these are two files; on
 * machines that share a directory (or one machine in a test) they are one. So each side makes it its own:
 *
 *   destination  as soon as its QEMU listens, and before the source can hear of that, the socket is moved aside
 *   source       the path is a link to libhci's own socket, made again whenever it is missing; in the destination's directory not
 *                before that has moved its QEMU's socket aside: QEMU makes it in two steps, and finds a link between them in its way
 *
 * The name is random and its directory cannot be listed, so that the hypervisor's user may make a socket there.
 */
#include "compute/compute_impl.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME "/m"
#define ASIDE "/i"

/* path and out may be the same. */
static void dir_of(const char *path, char out[COMPUTE_SOCKET_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? MIN((size_t)(slash - path), COMPUTE_SOCKET_MAX - 1) : 0;

	memmove(out, path, len);
	out[len] = '\0';
}

static void aside_of(const char *path, char out[COMPUTE_SOCKET_MAX])
{
	char dir[COMPUTE_SOCKET_MAX];

	dir_of(path, dir);
	snprintf(out, COMPUTE_SOCKET_MAX, "%.*s" ASIDE, (int)(COMPUTE_SOCKET_MAX - sizeof(ASIDE)), dir);
}

/* ---- destination ---- */

int compute_meet_make(const char *dir, char path[COMPUTE_SOCKET_MAX], struct hci_error *err)
{
	if (strlen(dir) + sizeof(NAME) > COMPUTE_SOCKET_MAX)
		return err_set(err, HCI_E_RANGE, "directory %s is too long for sockets: at most %zu bytes", dir,
			       COMPUTE_SOCKET_MAX - sizeof(NAME));
	if (mkdir(dir, 0700) || chmod(dir, 01733))
		return err_sys(err, HCI_E_SYS, errno, "directory %s cannot be made", dir);
	snprintf(path, COMPUTE_SOCKET_MAX, "%s" NAME, dir);
	return 0;
}

bool compute_meet_take(const char *path, char at[COMPUTE_SOCKET_MAX])
{
	struct stat st;

	aside_of(path, at);
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode))
		(void)!rename(path, at);
	return !lstat(at, &st) && S_ISSOCK(st.st_mode);
}

void compute_meet_remove(const char *path)
{
	char s[COMPUTE_SOCKET_MAX];

	aside_of(path, s);
	unlink(s);
	unlink(path);
	dir_of(path, s);
	rmdir(s);
}

void compute_meet_clean(const char *dir)
{
	char path[COMPUTE_SOCKET_MAX];

	if (snprintf(path, sizeof(path), "%s" NAME, dir) < (int)sizeof(path))
		compute_meet_remove(path);
}

void compute_socket_clean(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct stat st;
	int fd;

	if (strlen(path) >= sizeof(a.sun_path) || lstat(path, &st) || !S_ISSOCK(st.st_mode))
		return;
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) && errno == ECONNREFUSED)
		unlink(path);
	close(fd);
}

/* ---- source ---- */

int compute_meet_prepare(const char *path, unsigned *made, struct hci_error *err)
{
	char dir[COMPUTE_SOCKET_MAX];

	*made = 0;
	dir_of(path, dir);
	if (dir[0] != '/' || strlen(path) >= COMPUTE_SOCKET_MAX)
		return err_set(err, HCI_E_PROTO, "the path %.120s is none for a socket", path);
	for (char *p = dir + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (!mkdir(dir, 0711))
			++*made;
		else if (errno != EEXIST)
			return err_sys(err, HCI_E_SYS, errno, "directory %s, which the destination of a migration uses, cannot be made",
				       dir);
		if (!c)
			return 0;
		*p = c;
	}
}

/* The destination's own directory, by the mode that it gives it, and it still waits for its QEMU. */
static bool not_yet(const char *path)
{
	char s[COMPUTE_SOCKET_MAX];
	struct stat st;

	dir_of(path, s);
	if (lstat(s, &st) || !(st.st_mode & S_ISVTX))
		return false;
	aside_of(path, s);
	return lstat(s, &st);
}

void compute_meet_link(const char *path, const char *to)
{
	struct stat st;

	if (not_yet(path))
		return;
	/* What else is there is the other end's, which moves it away. */
	if (lstat(path, &st) && errno == ENOENT)
		(void)!symlink(to, path);
}

void compute_meet_unlink(const char *path, unsigned made)
{
	char dir[COMPUTE_SOCKET_MAX];
	struct stat st;

	if (!lstat(path, &st) && S_ISLNK(st.st_mode))
		unlink(path);
	dir_of(path, dir);
	while (made-- && dir[0] && !rmdir(dir))
		dir_of(dir, dir);
}
