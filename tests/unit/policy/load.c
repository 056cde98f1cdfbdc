/* SPDX-License-Identifier: Apache-2.0 */
/* Loading: what is let in, and that each refusal names the file and the reason. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/policy/pool.h"

static char dir[64]; /* of the test under way: nobody else's */

static void make_dir(void)
{
	strcpy(dir, "/tmp/hci-policy-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
	char cmd[96];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	ck_assert_int_eq(system(cmd), 0);
}

static const char *in_dir(const char *name)
{
	static char path[2][128];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

/* The first `bytes` of a plugin, as dir/name. */
static size_t copy(const char *plugin, const char *name, size_t bytes, mode_t mode)
{
	static char data[4 << 20];
	int in = open(plugin, O_RDONLY | O_CLOEXEC), out;
	ssize_t n;

	ck_assert_msg(in >= 0, "%s is missing", plugin);
	n = read(in, data, sizeof(data));
	ck_assert(n > 0 && n < (ssize_t)sizeof(data));
	close(in);
	out = open(in_dir(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	ck_assert_int_ge(out, 0);
	ck_assert_int_eq(write(out, data, MIN((size_t)n, bytes)), (ssize_t)MIN((size_t)n, bytes));
	ck_assert_int_eq(fchmod(out, mode), 0);
	close(out);
	return (size_t)n;
}

#define GOOD TEST_PLUGINS "/answers.so"

static void refused(const char *path, const char *why)
{
	struct policy *p = (void *)1;
	struct hci_error err;

	ck_assert_int_eq(policy_load("p", path, "", NULL, &p, &err), HCI_E_PLUGIN);
	ck_assert_ptr_null(p);
	ck_assert_int_eq(err.code, HCI_E_PLUGIN);
	ck_assert_has(err.message, why);
	ck_assert_has(err.message, "plugin");
	/* NULL for the error is fine too. */
	ck_assert_int_eq(policy_load("p", path, "", NULL, &p, NULL), HCI_E_PLUGIN);
}

START_TEST(loads_and_tells_who_it_is)
{
	struct policy *p = load_or_fail(GOOD, "");

	ck_assert_int_eq(policy_kind(p), HCI_PLUGIN_PLACEMENT);
	ck_assert_str_eq(policy_plugin_name(p), "answers");
	ck_assert_str_eq(policy_plugin_version(p), "0.9-rc1");
	ck_assert_ptr_eq(policy_ref(p), p);
	policy_unref(p);
	policy_unref(p);
	policy_unref(NULL);
}
END_TEST

START_TEST(two_instances_keep_their_configuration)
{
	struct policy *a = load_or_fail(GOOD, "range"), *b = load_or_fail(GOOD, "");
	struct pool p;

	pool_make(&p, 5, 1, GiB);
	ck_assert_int_eq(pool_place(&p, a), HCI_E_PLUGIN);
	ck_assert_int_eq(pool_place(&p, b), 0);
	policy_unref(a);
	ck_assert_int_eq(pool_place(&p, b), 0);
	policy_unref(b);
	pool_free(&p);
}
END_TEST

START_TEST(configuration_can_be_refused)
{
	struct hci_error err;
	struct policy *p;

	ck_assert_int_eq(policy_load("p", GOOD, "refuse", NULL, &p, &err), HCI_E_PLUGIN);
	ck_assert_has(err.message, "answers.so");
	ck_assert_has(err.message, "\"refuse\": this will not do");
	ck_assert_int_eq(policy_load("p", GOOD, "refuse-silently", NULL, &p, &err), HCI_E_PLUGIN);
	ck_assert_has(err.message, "no reason given");
	ck_assert_int_eq(policy_load("p", TEST_PLUGINS "/old.so", "x=1", NULL, &p, &err),
			 HCI_E_PLUGIN);
	ck_assert_has(err.message, "takes no configuration");
	policy_unref(load_or_fail(TEST_PLUGINS "/old.so", NULL));
	ck_assert_int_eq(
		policy_load("p", SHIPPED_PLUGINS "/placement-spread.so", "x=1", NULL, &p, &err),
		HCI_E_PLUGIN);
	ck_assert_has(err.message, "it takes none");
}
END_TEST

static const struct {
	const char *name, *why;
} bad[] = {
	{ "abi", "made for plugin ABI 2, this libhci has 1" },
	{ "descriptor_null", "returned no descriptor" },
	{ "descriptor_short", "its descriptor is 32 bytes" },
	{ "descriptor_huge", "its descriptor is 2147483647 bytes" },
	{ "reserved", "reserved field of its descriptor is 1" },
	{ "name_null", "no name" },
	{ "name_long", "its name is longer than 63 bytes" },
	{ "name_odd", "white space" },
	{ "version_null", "no version" },
	{ "kind", "kind 9 is not known" },
	{ "ops_null", "no operations" },
	{ "ops_short", "its operations are 24 bytes" },
	{ "ops_huge", "its operations are 4294967280 bytes" },
	{ "ops_reserved", "reserved field of its operations is 3" },
	{ "op_missing", "required operation place() is missing" },
	{ "schedule_missing", "required operation schedule() is missing" },
	{ "unresolved", "nobody_defines_this" },
	{ "no_symbol", "exports no hci_plugin_entry" },
};

START_TEST(bad_plugins_are_refused)
{
	char path[256];

	snprintf(path, sizeof(path), TEST_PLUGINS "/bad-%s.so", bad[_i].name);
	refused(path, bad[_i].why);
}
END_TEST

START_TEST(paths_that_lead_nowhere_are_refused)
{
	refused(NULL, "must be absolute");
	refused("", "must be absolute");
	refused("placement-spread.so", "must be absolute");
	refused("./plugins/../placement-spread.so", "must be absolute");
	refused(in_dir("missing.so"), "missing.so: cannot be found (if it is one of libhci's own: install libhci, or set HCI_PLUGIN_DIR): No such file");
	refused(dir, "not a regular file");
	refused("/dev/null", "");
	ck_assert_int_eq(mkfifo(in_dir("fifo.so"), 0700), 0);
	refused(in_dir("fifo.so"), "not a regular file");
	ck_assert_int_eq(symlink("nowhere", in_dir("dangling.so")), 0);
	refused(in_dir("dangling.so"), "cannot be found");
	ck_assert_int_eq(symlink("loop.so", in_dir("loop.so")), 0);
	refused(in_dir("loop.so"), "cannot be found");
}
END_TEST

START_TEST(files_that_are_no_plugin_are_refused)
{
	FILE *f = fopen(in_dir("text.so"), "we");

	ck_assert_ptr_nonnull(f);
	fputs("#!/bin/sh\nexit 0\n", f);
	fclose(f);
	refused(in_dir("text.so"), "not a shared object");
	copy(GOOD, "empty.so", 0, 0700);
	refused(in_dir("empty.so"), "not a shared object");
	copy("/bin/true", "program.so", SIZE_MAX, 0700);
	refused(in_dir("program.so"), "");
}
END_TEST

START_TEST(a_copy_that_was_cut_off_is_refused_and_not_mapped)
{
	size_t whole = copy(GOOD, "whole.so", SIZE_MAX, 0600);
	char name[32];

	policy_unref(load_or_fail(in_dir("whole.so"), ""));
	for (size_t part = 0; part < 8; part++) {
		size_t bytes = part ? whole / 32 * part : 100;

		/* Debug information behind what is mapped may go. */
		if (bytes > 8192)
			break;
		snprintf(name, sizeof(name), "cut%zu.so", part);
		copy(GOOD, name, bytes, 0600);
		refused(in_dir(name), "cut off");
	}
}
END_TEST

static void damaged(const char *name, off_t at, int byte)
{
	unsigned char b = (unsigned char)byte;
	int fd;

	copy(GOOD, name, SIZE_MAX, 0700);
	fd = open(in_dir(name), O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

START_TEST(damaged_headers_are_refused)
{
	damaged("class.so", 4, 1); /* EI_CLASS: 32 bits */
	refused(in_dir("class.so"), "word size");
	damaged("type.so", 16, 2); /* e_type: a program */
	refused(in_dir("type.so"), "not a shared object");
	damaged("phentsize.so", 54, 1);
	refused(in_dir("phentsize.so"), "headers make no sense");
	damaged("phnum.so", 57, 0xff);
	refused(in_dir("phnum.so"), "headers make no sense");
	damaged("phoff.so", 39, 0xff); /* the highest byte */
	refused(in_dir("phoff.so"), "cut off");
}
END_TEST

START_TEST(what_others_can_write_is_refused)
{
	static const mode_t modes[] = { 0666, 0620, 0602, 0777 };
	char name[32];

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		snprintf(name, sizeof(name), "m%zo.so", (size_t)modes[i]);
		copy(GOOD, name, SIZE_MAX, modes[i]);
		refused(in_dir(name), "file");
		refused(in_dir(name), "can be written by others: chmod go-w");
	}
	copy(GOOD, "fine.so", SIZE_MAX, 0644);
	policy_unref(load_or_fail(in_dir("fine.so"), ""));
	for (size_t i = 0; i < 3; i++) {
		static const mode_t folder[] = { 0770, 0707, 01777 };

		ck_assert_int_eq(chmod(dir, folder[i]), 0);
		refused(in_dir("fine.so"), "the folder");
		refused(in_dir("fine.so"), "can be written by others");
	}
	ck_assert_int_eq(chmod(dir, 0755), 0);
	policy_unref(load_or_fail(in_dir("fine.so"), ""));
}
END_TEST

START_TEST(what_others_own_is_refused)
{
	if (geteuid() != 0)
		return;
	copy(GOOD, "theirs.so", SIZE_MAX, 0644);
	ck_assert_int_eq(chown(in_dir("theirs.so"), 12345, 0), 0);
	refused(in_dir("theirs.so"), "belongs to uid 12345");
	ck_assert_int_eq(chown(in_dir("theirs.so"), 0, 12345), 0);
	policy_unref(load_or_fail(in_dir("theirs.so"), ""));
	ck_assert_int_eq(chown(dir, 12345, 0), 0);
	refused(in_dir("theirs.so"), "the folder");
	refused(in_dir("theirs.so"), "belongs to uid 12345");
}
END_TEST

START_TEST(links_are_followed_and_both_ends_looked_at)
{
	ck_assert_int_eq(mkdir(in_dir("real"), 0755), 0);
	ck_assert_int_eq(mkdir(in_dir("links"), 0755), 0);
	copy(GOOD, "real/answers.so", SIZE_MAX, 0644);
	ck_assert_int_eq(symlink("../real/answers.so", in_dir("links/p.so")), 0);
	ck_assert_int_eq(symlink("real", in_dir("folder")), 0);
	policy_unref(load_or_fail(in_dir("links/p.so"), ""));
	policy_unref(load_or_fail(in_dir("folder/answers.so"), ""));
	/* Who can write the link's folder can aim it elsewhere. */
	ck_assert_int_eq(chmod(in_dir("links"), 0777), 0);
	refused(in_dir("links/p.so"), "links can be written by others");
	ck_assert_int_eq(chmod(in_dir("links"), 0755), 0);
	ck_assert_int_eq(chmod(in_dir("real"), 0777), 0);
	refused(in_dir("links/p.so"), "real can be written by others");
	refused(in_dir("folder/answers.so"), "can be written by others");
	ck_assert_int_eq(chmod(in_dir("real"), 0755), 0);
	ck_assert_int_eq(chmod(in_dir("real/answers.so"), 0666), 0);
	refused(in_dir("links/p.so"), "can be written by others");
}
END_TEST

START_TEST(out_of_memory_is_an_error)
{
	unsigned failed = 0;

	FOR_EACH_ALLOC_FAILURE(n) {
		struct hci_error err;
		struct policy *p;
		int rc = policy_load("p", GOOD, "", NULL, &p, &err);

		if (rc) {
			ck_assert_int_eq(rc, HCI_E_NOMEM);
			ck_assert_ptr_null(p);
			failed++;
		} else {
			policy_unref(p);
		}
	}
	ck_assert_uint_ge(failed, 1);
}
END_TEST

static char last_line[512];
static int last_level, lines;

static void take_line(void *arg, int level, const char *subsystem, const char *line)
{
	ck_assert_ptr_eq(arg, &lines);
	ck_assert_str_eq(subsystem, "policy");
	snprintf(last_line, sizeof(last_line), "%s", line);
	last_level = level;
	lines++;
}

START_TEST(plugins_log_one_clean_line_under_the_policys_name)
{
	struct log log = { LOG_TRACE, take_line, &lines };
	struct hci_error err;
	struct policy *policy;
	struct pool p;

	ck_assert_int_eq(policy_load("mine", GOOD, "log", &log, &policy, &err), 0);
	memset(&log, 0xee, sizeof(log)); /* it was copied */
	pool_make(&p, 3, 1, GiB);
	ck_assert_int_eq(pool_place(&p, policy), 0);
	ck_assert_int_eq(lines, 2);
	ck_assert_str_eq(last_line, "mine: ");
	ck_assert_int_eq(last_level, LOG_INFO);
	policy_unref(policy);
	pool_free(&p);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("policy_load");
	TCase *t = tcase_create("good");

	tcase_add_test(t, loads_and_tells_who_it_is);
	tcase_add_test(t, two_instances_keep_their_configuration);
	tcase_add_test(t, configuration_can_be_refused);
	tcase_add_test(t, out_of_memory_is_an_error);
	tcase_add_test(t, plugins_log_one_clean_line_under_the_policys_name);
	suite_add_tcase(s, t);
	t = tcase_create("refused");
	tcase_add_checked_fixture(t, make_dir, remove_dir);
	tcase_add_loop_test(t, bad_plugins_are_refused, 0, (int)ARRAY_SIZE(bad));
	tcase_add_test(t, paths_that_lead_nowhere_are_refused);
	tcase_add_test(t, files_that_are_no_plugin_are_refused);
	tcase_add_test(t, a_copy_that_was_cut_off_is_refused_and_not_mapped);
	tcase_add_test(t, damaged_headers_are_refused);
	tcase_add_test(t, what_others_can_write_is_refused);
	tcase_add_test(t, what_others_own_is_refused);
	tcase_add_test(t, links_are_followed_and_both_ends_looked_at);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
