/* SPDX-License-Identifier: Apache-2.0 */
/* Where libvirtd listens, and the path at which both QEMUs think they meet: on two file systems and on one. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "compute/compute.h"
#include "unit/harness.h"

static char dir[32];

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/hci-meet.XXXXXX"); /* for each test: they may share a process */
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void tear_down(void)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	ck_assert_int_eq(system(cmd), 0);
}

static const char *in(const char *name)
{
	static char path[4][COMPUTE_SOCKET_MAX];
	static unsigned i;
	char *p = path[i++ % 4];

	snprintf(p, COMPUTE_SOCKET_MAX, "%s/%s", dir, name);
	return p;
}

/* As QEMU does it: whatever is there before goes. */
static int listen_at(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	unlink(path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(listen(fd, 4), 0);
	return fd;
}

/* Who answers at path: fd of the one that gets the connection. */
static bool leads_to(const char *path, int fd)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int c = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), got;
	struct timeval t = { 0, 200000 };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (connect(c, (struct sockaddr *)&a, sizeof(a))) {
		close(c);
		return false;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
	got = accept(fd, NULL, NULL);
	close(c);
	if (got >= 0)
		close(got);
	return got >= 0;
}

static bool there(const char *path)
{
	struct stat st;

	return !lstat(path, &st);
}

START_TEST(libvirtds_socket_is_found_from_the_uri)
{
	struct compute_local l;
	struct hci_error err;
	char uri[200];

	snprintf(uri, sizeof(uri), "qemu:///system?socket=%s", "/a%20b/sock");
	ck_assert_int_eq(compute_local(uri, &l, &err), 0);
	ck_assert_str_eq(l.socket, "/a b/sock");
	ck_assert_str_eq(l.path, "/system");
	ck_assert_int_eq(compute_local("qemu+unix:///session?mode=direct&socket=/x", &l, &err), 0);
	ck_assert_str_eq(l.socket, "/x");
	ck_assert_str_eq(l.path, "/session");
	ck_assert_int_eq(compute_local("qemu:///system?socket=/x%2", &l, &err), HCI_E_INVAL);
	ck_assert_int_eq(compute_local("qemu:///system?socket=/x%00", &l, &err), HCI_E_INVAL);
	ck_assert_int_eq(compute_local("qemu+ssh://host/system", &l, &err), HCI_E_UNSUPPORTED);
	ck_assert_int_eq(compute_local("qemu://host/system", &l, &err), HCI_E_UNSUPPORTED);
	ck_assert_int_eq(compute_local("test:///default", &l, &err), HCI_E_UNSUPPORTED);
	ck_assert_int_eq(compute_local("qemu", &l, &err), HCI_E_UNSUPPORTED);
	memset(uri, 'x', sizeof(uri) - 1);
	memcpy(uri, "qemu:///system?socket=/", 23);
	uri[sizeof(uri) - 1] = '\0';
	ck_assert_int_eq(compute_local(uri, &l, &err), HCI_E_RANGE);
}
END_TEST

START_TEST(session_is_below_the_runtime_directory)
{
	struct compute_local l;
	struct hci_error err;
	int fd;

	setenv("XDG_RUNTIME_DIR", dir, 1);
	ck_assert_int_eq(compute_local("qemu:///session", &l, &err), HCI_E_NOTFOUND);
	ck_assert_ptr_nonnull(strstr(err.message, "is libvirtd running"));
	ck_assert_int_eq(mkdir(in("libvirt"), 0700), 0);
	fd = listen_at(in("libvirt/virtqemud-sock"));
	ck_assert_int_eq(compute_local("qemu:///session", &l, &err), 0);
	ck_assert_str_eq(l.socket, in("libvirt/virtqemud-sock"));
	close(fd);
}
END_TEST

START_TEST(each_side_has_its_own_on_one_file_system)
{
	char path[COMPUTE_SOCKET_MAX], at[COMPUTE_SOCKET_MAX];
	struct hci_error err;
	unsigned made;
	int ours, qemu;

	ck_assert_int_eq(compute_meet_make(in("mig-1"), path, &err), 0);
	ours = listen_at(in("ours"));
	ck_assert_int_eq(compute_meet_prepare(path, &made, &err), 0);
	ck_assert_uint_eq(made, 0);
	/* Between QEMU's look that nothing is there and its socket nothing may come. */
	compute_meet_link(path, in("ours"));
	ck_assert(!there(path));
	ck_assert_int_eq(symlink(in("ours"), path), 0);
	ck_assert(!compute_meet_take(path, at)); /* a link is no QEMU */
	ck_assert(leads_to(path, ours));
	qemu = listen_at(path);
	compute_meet_link(path, in("ours")); /* not yet: it is the destination's */
	ck_assert(leads_to(path, qemu));
	ck_assert(compute_meet_take(path, at));
	ck_assert(compute_meet_take(path, at)); /* again, for each answer of libvirtd */
	ck_assert(leads_to(at, qemu));
	ck_assert(!there(path));
	compute_meet_link(path, in("ours"));
	ck_assert(leads_to(path, ours));
	ck_assert(leads_to(at, qemu));
	compute_meet_unlink(path, made);
	compute_meet_remove(path);
	ck_assert(!there(in("mig-1")));
	close(ours);
	close(qemu);
}
END_TEST

START_TEST(on_another_file_system_its_directory_is_made_and_goes)
{
	char path[COMPUTE_SOCKET_MAX];
	struct hci_error err;
	unsigned made;
	int ours = listen_at(in("ours"));

	snprintf(path, sizeof(path), "%s", in("run/hci/mig-2/m"));
	ck_assert_int_eq(compute_meet_prepare(path, &made, &err), 0);
	ck_assert_uint_eq(made, 3);
	compute_meet_link(path, in("ours"));
	ck_assert(leads_to(path, ours));
	compute_meet_unlink(path, made);
	ck_assert(!there(in("run")));
	ck_assert_int_eq(compute_meet_prepare("relative/m", &made, &err), HCI_E_PROTO);
	ck_assert_int_eq(compute_meet_prepare("", &made, &err), HCI_E_PROTO);
	close(ours);
}
END_TEST

START_TEST(what_an_earlier_life_left_goes)
{
	char path[COMPUTE_SOCKET_MAX], at[COMPUTE_SOCKET_MAX];
	struct hci_error err;
	int qemu;

	ck_assert_int_eq(compute_meet_make(in("mig-3"), path, &err), 0);
	ck_assert_int_eq(compute_meet_make(in("mig-3"), path, &err), HCI_E_SYS); /* never one that is there */
	qemu = listen_at(path);
	ck_assert(compute_meet_take(path, at));
	close(qemu);
	compute_meet_clean(in("mig-3"));
	ck_assert(!there(in("mig-3")));
}
END_TEST

START_TEST(only_a_socket_that_nobody_listens_at_goes)
{
	char path[COMPUTE_SOCKET_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s", in("v.sock"));
	fd = listen_at(path);
	compute_socket_clean(path);
	ck_assert(there(path));
	close(fd);
	compute_socket_clean(path);
	ck_assert(!there(path));
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	close(fd);
	compute_socket_clean(path);
	ck_assert(there(path));
	ck_assert_int_eq(unlink(path), 0);
	compute_socket_clean(path);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("compute_meet");
	TCase *tc = tcase_create("meet");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, libvirtds_socket_is_found_from_the_uri);
	tcase_add_test(tc, session_is_below_the_runtime_directory);
	tcase_add_test(tc, each_side_has_its_own_on_one_file_system);
	tcase_add_test(tc, on_another_file_system_its_directory_is_made_and_goes);
	tcase_add_test(tc, what_an_earlier_life_left_goes);
	tcase_add_test(tc, only_a_socket_that_nobody_listens_at_goes);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(suite)
