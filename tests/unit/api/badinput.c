/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bad input gets: the right code, a message that names the object, and nothing changed. Frames that
 * are cut off or too long, newer protocol versions and peers with wrong certificates are in tests/unit/rpc
 * and tests/unit/env/tls.c; damaged disks in tests/unit/replica; plugins in depth in tests/unit/policy.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../harness.h"
#include "env/pki.h"
#include "world.h"

#undef MiB
#define MiB (1024u * 1024u)

static struct world w;

/* The call fails with this code, and the message has all of what is listed (NULL: that and no more). */
#define refused(call, want, ...)                                                                                     \
	do {                                                                                                         \
		const char *const texts_[] = { __VA_ARGS__, NULL };                                           \
		int rc_;                                                                                             \
                                                                                                                     \
		memset(&w.err, 0, sizeof(w.err));                                                                    \
		rc_ = (call);                                                                                        \
		ck_assert_msg(rc_ == (want), #call ": %s instead of %s: %s", hci_strerror(rc_), hci_strerror(want),   \
			      w.err.message);                                                                        \
		ck_assert_int_eq(w.err.code, (want));                                                                \
		for (unsigned t_ = 0; texts_[t_]; t_++)                                                              \
			ck_assert_msg(strstr(w.err.message, texts_[t_]), #call ": \"%s\" is not in: %s", texts_[t_],  \
				      w.err.message);                                                                \
	} while (0)

/* ---- options ---- */

/* A caller with larger structs than ours, or with one that it did not set up. */
#define wrong_sizes(type, init, call)                                                                                \
	do {                                                                                                         \
		struct {                                                                                             \
			struct type o;                                                                               \
			uint32_t more[4];                                                                            \
		} x = { .o = init };                                                                                 \
		struct type *opts = &x.o;                                                                            \
                                                                                                                     \
		opts->size = 0;                                                                                      \
		refused(call, HCI_E_INVAL, #type);                                                                   \
		opts->size = 4;                                                                                      \
		refused(call, HCI_E_INVAL, #type);                                                                   \
		opts->size = 0xdeadbeef;                                                                             \
		refused(call, HCI_E_INVAL, #type);                                                                   \
		opts->size = sizeof(x);                                                                              \
		x.more[2] = 1;                                                                                       \
		refused(call, HCI_E_UNSUPPORTED, #type);                                                             \
	} while (0)

START_TEST(options_of_a_wrong_size)
{
	struct hci_volume_opts vo = HCI_VOLUME_OPTS_INIT;
	struct hci_vm_opts mo = HCI_VM_OPTS_INIT;
	hci_cluster *c;
	hci_export *e;
	hci_volume *v;
	hci_queue *q;
	hci_node *n;
	void *buf;

	world_up(&w, 0);
	world_pool(&w, 0);
	vo.name = "v";
	vo.pool = "p";
	vo.bytes = MiB;
	ok(hci_volume_create(w.client, &vo, &w.err));
	wrong_sizes(hci_cluster_opts, HCI_CLUSTER_OPTS_INIT, hci_cluster_open(&c, opts, &w.err));
	wrong_sizes(hci_node_opts, HCI_NODE_OPTS_INIT, hci_node_start(&n, w.client, opts, &w.err));
	wrong_sizes(hci_node_limits, HCI_NODE_LIMITS_INIT, hci_node_limit(w.client, "n1", opts, &w.err));
	wrong_sizes(hci_disk_opts, HCI_DISK_OPTS_INIT, hci_disk_add(w.client, opts, NULL, &w.err));
	wrong_sizes(hci_pool_opts, HCI_POOL_OPTS_INIT, hci_pool_create(w.client, opts, &w.err));
	wrong_sizes(hci_volume_opts, HCI_VOLUME_OPTS_INIT, hci_volume_create(w.client, opts, &w.err));
	wrong_sizes(hci_vm_opts, HCI_VM_OPTS_INIT, hci_vm_define(w.client, opts, &w.err));
	mo.name = "vm";
	mo.nnics = 1;
	wrong_sizes(hci_vm_nic_opts, HCI_VM_NIC_OPTS_INIT, (mo.nics = opts, opts->bridge = "br0", hci_vm_define(w.client, &mo, &w.err)));
	mo.nnics = 0;
	mo.nusb = 1;
	wrong_sizes(hci_vm_usb_opts, HCI_VM_USB_OPTS_INIT,
		    (mo.usb = opts, opts->name = "k", opts->node = "n1", opts->server = "tcp:h:1", hci_vm_define(w.client, &mo, &w.err)));
	wrong_sizes(hci_migrate_opts, HCI_MIGRATE_OPTS_INIT, hci_vm_migrate(w.client, "vm", opts, NULL, &w.err));
	wrong_sizes(hci_vm_start_opts, HCI_VM_START_OPTS_INIT, hci_vm_start_on(w.client, "vm", opts, NULL, &w.err));
	wrong_sizes(hci_attach_opts, HCI_ATTACH_OPTS_INIT, hci_volume_attach(&v, w.client, "v", opts, &w.err));
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	ok(hci_queue_create(&q, w.client, 4, &w.err));
	ok(hci_buffer_alloc(&buf, 4096, &w.err));
	wrong_sizes(hci_export_opts, HCI_EXPORT_OPTS_INIT, hci_export_start(&e, v, opts, &w.err));
	wrong_sizes(hci_io_opts, HCI_IO_OPTS_INIT, hci_volume_submit_read(v, q, buf, 4096, 0, 0, opts, &w.err));
	hci_buffer_free(buf);
	hci_queue_unref(q);
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

/* What has no meaning yet is refused, so that it can get one. */
#define refused_reserved(type, init, call)                                                                           \
	do {                                                                                                         \
		struct type x = init, *opts = &x;                                                                    \
                                                                                                                     \
		opts->reserved = 7;                                                                                  \
		refused(call, HCI_E_INVAL, #type, "reserved is 7");                                                  \
	} while (0)

START_TEST(options_without_a_meaning)
{
	struct hci_pool_balance_opts balance = HCI_POOL_BALANCE_OPTS_INIT;
	struct hci_migrate_opts migrate = HCI_MIGRATE_OPTS_INIT;
	struct hci_volume_opts vo = HCI_VOLUME_OPTS_INIT;
	hci_cluster *c;
	hci_export *e;
	hci_volume *v, *other;
	hci_node *n;

	world_up(&w, 0);
	world_pool(&w, 0);
	vo.name = "v";
	vo.pool = "p";
	vo.bytes = MiB;
	ok(hci_volume_create(w.client, &vo, &w.err));
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	refused_reserved(hci_cluster_opts, HCI_CLUSTER_OPTS_INIT, (opts->store_url = w.store, hci_cluster_open(&c, opts, &w.err)));
	refused_reserved(hci_node_opts, HCI_NODE_OPTS_INIT,
			 (opts->name = "n9", opts->listen = "tcp:127.0.0.1:0", hci_node_start(&n, w.client, opts, &w.err)));
	refused_reserved(hci_pool_opts, HCI_POOL_OPTS_INIT, (opts->name = "q", hci_pool_create(w.client, opts, &w.err)));
	refused_reserved(hci_disk_set_opts, HCI_DISK_SET_OPTS_INIT, hci_disk_set(w.client, "0123", opts, &w.err));
	refused_reserved(hci_volume_opts, HCI_VOLUME_OPTS_INIT,
			 (*opts = vo, opts->name = "u", opts->reserved = 7, hci_volume_create(w.client, opts, &w.err)));
	refused_reserved(hci_volume_move_opts, HCI_VOLUME_MOVE_OPTS_INIT,
			 (opts->to = "n1", hci_volume_move(w.client, "v", opts, NULL, &w.err)));
	refused_reserved(hci_attach_opts, HCI_ATTACH_OPTS_INIT, hci_volume_attach(&other, w.client, "v", opts, &w.err));
	refused_reserved(hci_export_opts, HCI_EXPORT_OPTS_INIT,
			 (opts->address = "unix:/tmp/none.sock", hci_export_start(&e, v, opts, &w.err)));
	refused_reserved(hci_migrate_opts, HCI_MIGRATE_OPTS_INIT, (opts->to = "n1", hci_vm_migrate(w.client, "vm", opts, NULL, &w.err)));
	migrate.to = "n1";
	migrate.with_storage = 7;
	refused(hci_vm_migrate(w.client, "vm", &migrate, NULL, &w.err), HCI_E_INVAL, "VM vm", "with_storage");
	balance.fill_only = 7;
	refused(hci_pool_balance(w.client, "p", &balance, NULL, &w.err), HCI_E_INVAL, "fill_only");
	vo.name = "u";
	vo.on_full = UINT32_MAX;
	refused(hci_volume_create(w.client, &vo, &w.err), HCI_E_INVAL, "volume u", "on_full");
	hci_volume_unref(v);
	world_down(&w);
}
END_TEST

/* ---- names ---- */

START_TEST(odd_names)
{
	static const char *const odd[] = { "", "a/b", "a b", "-a", ".a", "../x", "a\n", "gr\xc3\xbcn", "a\x01", "a'b", "a\"b", "%s%n",
					   "0123456789012345678901234567890123456789012345678901234567890123" };
	struct hci_volume_opts v = HCI_VOLUME_OPTS_INIT;
	struct hci_pool_opts p = HCI_POOL_OPTS_INIT;
	struct hci_disk_opts d = HCI_DISK_OPTS_INIT;
	struct hci_node_opts n = HCI_NODE_OPTS_INIT;
	struct hci_vm_opts m = HCI_VM_OPTS_INIT;
	hci_volume *vol;
	hci_node *node;
	uint64_t count;

	world_up(&w, 0);
	for (unsigned i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		const char *o = odd[i];
		struct hci_cluster_opts co = HCI_CLUSTER_OPTS_INIT;
		hci_cluster *c;

		v.name = o, v.pool = "p", v.bytes = MiB;
		refused(hci_volume_create(w.client, &v, &w.err), HCI_E_INVAL, "volume name");
		v.name = "v", v.pool = o;
		refused(hci_volume_create(w.client, &v, &w.err), HCI_E_INVAL, "pool name");
		refused(hci_volume_attach(&vol, w.client, o, NULL, &w.err), HCI_E_INVAL, "volume name");
		refused(hci_volume_delete(w.client, o, &w.err), HCI_E_INVAL, "volume name");
		refused(hci_volume_resize(w.client, o, MiB, &w.err), HCI_E_INVAL, "volume name");
		p.name = o;
		refused(hci_pool_create(w.client, &p, &w.err), HCI_E_INVAL, "pool name");
		refused(hci_pool_delete(w.client, o, &w.err), HCI_E_INVAL, "pool name");
		d.node = o, d.path = "/x";
		refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_INVAL, "node name");
		n.name = o, n.listen = "tcp:127.0.0.1:0";
		refused(hci_node_start(&node, w.client, &n, &w.err), HCI_E_INVAL, "node name");
		refused(hci_node_remove(w.client, o, &w.err), HCI_E_INVAL, "node name");
		m.name = o;
		refused(hci_vm_define(w.client, &m, &w.err), HCI_E_INVAL, "name");
		refused(hci_vm_undefine(w.client, o, &w.err), HCI_E_INVAL, "name");
		refused(hci_policy_add(w.client, o, "/x.so", NULL, &w.err), HCI_E_INVAL, "policy name");
		refused(hci_policy_remove(w.client, o, &w.err), HCI_E_INVAL, "policy name");
		co.store_url = w.store;
		co.client_name = o;
		refused(hci_cluster_open(&c, &co, &w.err), HCI_E_INVAL, "name");
		refused(hci_cluster_create(w.store, o, &w.err), HCI_E_INVAL, "cluster name");
		refused(hci_pki_issue(w.dir, o, NULL, w.dir, 0, &w.err), HCI_E_INVAL, "name");
	}
	/* What it is in the message is printable whatever the name was. */
	v.name = "a\x1b[31m\n", v.pool = "p";
	refused(hci_volume_create(w.client, &v, &w.err), HCI_E_INVAL, "\\x1b");
	for (const char *t = w.err.message; *t; t++)
		ck_assert_int_ge(*t, 0x20);
	{
		struct hci_volume_info *l;

		ok(hci_volume_list(w.client, &l, &count, sizeof(*l), &w.err));
		ck_assert_uint_eq(count, 0);
		hci_list_free(l);
	}
	world_down(&w);
}
END_TEST

/* ---- certificates ---- */

static int open_with(const char *ca, const char *crt, const char *key, const char *name, hci_cluster **c)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	char p[3][128];

	snprintf(p[0], sizeof(p[0]), "%s/%s", w.dir, ca);
	snprintf(p[1], sizeof(p[1]), "%s/%s", w.dir, crt);
	snprintf(p[2], sizeof(p[2]), "%s/%s", w.dir, key);
	o.store_url = w.store;
	o.client_name = name;
	o.ca_file = p[0];
	o.cert_file = p[1];
	o.key_file = p[2];
	return hci_cluster_open(c, &o, &w.err);
}

static void folder(const char *name, char out[128])
{
	snprintf(out, 128, "%s/%s", w.dir, name);
	mkdir(out, 0700);
}

/* It has a heartbeat, as the store knows no certificates; its disks would never hold a copy. @p dir is an empty place. */
static void a_node_of_another_ca(hci_cluster *c, const char *dir)
{
	struct hci_node_opts o = HCI_NODE_OPTS_INIT;
	struct hci_disk_opts d = HCI_DISK_OPTS_INIT;
	struct hci_disk_info *list;
	char path[160];
	hci_node *node;
	uint64_t n;

	snprintf(path, sizeof(path), "%s/disk", dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	o.name = "x";
	o.listen = "tcp:127.0.0.1:0";
	o.run_dir = dir;
	o.heartbeat_ms = 500;
	ok(hci_node_start(&node, c, &o, &w.err));
	d.node = "x";
	d.path = path;
	d.pool = "p";
	refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_AUTH, "node x", path, "certificate");
	ok(hci_disk_list(w.client, &list, &n, sizeof(*list), &w.err));
	for (uint64_t i = 0; i < n; i++)
		ck_assert_str_ne(list[i].node, "x");
	hci_list_free(list);
	hci_node_stop(node);
}

START_TEST(wrong_certificates)
{
	struct hci_volume_opts v = HCI_VOLUME_OPTS_INIT;
	char other[128], mine[128], old[128], other_ca[160];
	hci_volume *vol;
	hci_cluster *c;

	world_up(&w, 1);
	world_pool(&w, 0);
	v.name = "v", v.pool = "p", v.bytes = MiB;
	ok(hci_volume_create(w.client, &v, &w.err));
	folder("other", other);
	folder("mine", mine);
	folder("old", old);
	ok(hci_pki_create_ca(other, "other", &w.err));
	ok(hci_pki_issue(other, "x", NULL, other, 0, &w.err));
	ok(hci_pki_issue(w.dir, "x", NULL, mine, 0, &w.err));
	ok(pki_issue(w.dir, "x", old, -2, NULL, &w.err));
	refused(open_with("ca.crt", "old/node.crt", "old/node.key", "x", &c), HCI_E_AUTH, "old/node.crt", "expired");
	refused(open_with("ca.crt", "other/node.crt", "other/node.key", "x", &c), HCI_E_AUTH, "other/node.crt");
	refused(open_with("ca.crt", "mine/node.crt", "other/node.key", "x", &c), HCI_E_AUTH, "node.key");
	refused(open_with("mine/node.key", "mine/node.crt", "mine/node.key", "x", &c), HCI_E_AUTH, "mine/node.key");
	refused(open_with("ca.crt", "nothing.crt", "mine/node.key", "x", &c), HCI_E_AUTH, "nothing.crt");
	refused(open_with("ca.crt", "mine/node.crt", "mine/node.key", "y", &c), HCI_E_AUTH, "\"x\"", "\"y\"");
	snprintf(other_ca, sizeof(other_ca), "%s/ca.crt)", other);
	/* All of one piece, but of another CA: the metadata can be read, no replica answers. */
	ok(open_with("other/ca.crt", "other/node.crt", "other/node.key", "x", &c));
	refused(hci_volume_attach(&vol, c, "v", NULL, &w.err), HCI_E_AUTH, "volume v", "certificate", other_ca);
	a_node_of_another_ca(c, other);
	hci_cluster_unref(c);
	/* Nothing is left in the way of those who may. */
	ok(hci_volume_attach(&vol, w.client, "v", NULL, &w.err));
	hci_volume_unref(vol);
	world_down(&w);
}
END_TEST

/* ---- stores ---- */

static void write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static int open_store(const char *url)
{
	struct hci_cluster_opts o = HCI_CLUSTER_OPTS_INIT;
	hci_cluster *c = (void *)&o;
	int rc;

	o.store_url = url;
	rc = hci_cluster_open(&c, &o, &w.err);
	ck_assert_ptr_null(c);
	return rc;
}

START_TEST(wrong_stores)
{
	char url[192], path[160];
	uint8_t junk[8192];
	FILE *f;

	memset(&w, 0, sizeof(w));
	snprintf(w.dir, sizeof(w.dir), "/var/tmp/hci-api-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(w.dir));
	snprintf(path, sizeof(path), "%s/x.db", w.dir);
	snprintf(url, sizeof(url), "sqlite:%s", path);
	refused(open_store(NULL), HCI_E_INVAL, "store_url");
	refused(open_store("nope:/x"), HCI_E_UNSUPPORTED, "nope:");
	refused(open_store("sqlite:"), HCI_E_INVAL, "sqlite:", "write sqlite:/path");
	refused(hci_cluster_create("sqlite:", "c", &w.err), HCI_E_INVAL, "sqlite:", "write sqlite:/path");
	refused(hci_cluster_create("sqlite:/nonexistent/folder/y.db", "c", &w.err), HCI_E_NOTFOUND, "cannot be made",
		"the folder /nonexistent/folder is not there");
	refused(open_store("sqlite:/nonexistent/folder/y.db"), HCI_E_NOTFOUND, "/nonexistent/folder/y.db");
	refused(open_store(url), HCI_E_NOTFOUND, "x.db");
	ck_assert_int_ne(access(path, F_OK), 0); /* opening makes none */
	memset(junk, 'j', sizeof(junk));
	write_file(path, junk, sizeof(junk));
	refused(open_store(url), HCI_E_CORRUPT, "x.db");
	refused(hci_cluster_create(url, "c", &w.err), HCI_E_CORRUPT, "x.db");
	ck_assert_int_eq(unlink(path), 0);
	ok(hci_cluster_create(url, "c", &w.err));
	refused(hci_cluster_create(url, "c", &w.err), HCI_E_EXISTS, "x.db");
	/* Cut off in the middle. */
	ck_assert_int_eq(truncate(path, 12288), 0);
	refused(open_store(url), HCI_E_CORRUPT, "x.db");
	/* user_version of the file's header, big-endian at 60: made by a later libhci. */
	ck_assert_int_eq(unlink(path), 0);
	ok(hci_cluster_create(url, "c", &w.err));
	f = fopen(path, "r+");
	ck_assert_ptr_nonnull(f);
	fseek(f, 63, SEEK_SET);
	fputc(99, f);
	fclose(f);
	refused(open_store(url), HCI_E_VERSION, "x.db", "99");
	snprintf(path, sizeof(path), "rm -rf %s", w.dir);
	ck_assert_int_eq(system(path), 0);
}
END_TEST

/* ---- plugins ---- */

START_TEST(wrong_plugins)
{
	struct hci_volume_opts v = HCI_VOLUME_OPTS_INIT;
	char path[160], good[200], copy[600];

	world_up(&w, 0);
	world_pool(&w, 0);
	snprintf(good, sizeof(good), "%s/placement-spread.so", getenv("HCI_PLUGIN_DIR"));
	snprintf(path, sizeof(path), "%s/mine.so", w.dir);
	refused(hci_policy_add(w.client, "q", "/nonexistent/x.so", NULL, &w.err), HCI_E_PLUGIN, "/nonexistent/x.so");
	refused(hci_policy_add(w.client, "q", "x.so", NULL, &w.err), HCI_E_PLUGIN, "x.so", "absolute");
	write_file(path, "no plugin\n", 10);
	refused(hci_policy_add(w.client, "q", path, NULL, &w.err), HCI_E_PLUGIN, "mine.so");
	snprintf(copy, sizeof(copy), "cp %s %s && chmod 666 %s", good, path, path);
	ck_assert_int_eq(system(copy), 0);
	refused(hci_policy_add(w.client, "q", path, NULL, &w.err), HCI_E_PLUGIN, "mine.so", "chmod");
	chmod(path, 0644);
	chmod(w.dir, 0777);
	refused(hci_policy_add(w.client, "q", path, NULL, &w.err), HCI_E_PLUGIN, "folder", "chmod");
	chmod(w.dir, 0700);
	refused(hci_policy_add(w.client, "q", TEST_PLUGINS "/bad-abi.so", NULL, &w.err), HCI_E_PLUGIN, "bad-abi.so", "abi");
	refused(hci_policy_add(w.client, "q", TEST_PLUGINS "/bad-no_symbol.so", NULL, &w.err), HCI_E_PLUGIN,
		"bad-no_symbol.so", "hci_plugin_entry");
	refused(hci_policy_add(w.client, "q", TEST_PLUGINS "/bad-op_missing.so", NULL, &w.err), HCI_E_PLUGIN,
		"bad-op_missing.so");
	/* One that loads and then answers nonsense: the volume is not made. */
	ok(hci_policy_add(w.client, "q", TEST_PLUGINS "/answers.so", "twice", &w.err));
	v.name = "v", v.pool = "p", v.bytes = MiB, v.policy = "q";
	refused(hci_volume_create(w.client, &v, &w.err), HCI_E_PLUGIN, "q");
	refused(hci_volume_delete(w.client, "v", &w.err), HCI_E_NOTFOUND, "v");
	v.policy = "none";
	refused(hci_volume_create(w.client, &v, &w.err), HCI_E_NOTFOUND, "none");
	v.policy = NULL;
	ok(hci_volume_create(w.client, &v, &w.err));
	world_down(&w);
}
END_TEST

/* ---- requests ---- */

/* A directory in memory; NULL: none to be had here. */
static const char *in_ram(void)
{
	static char dir[] = "/dev/shm/hci-test-XXXXXX";
	struct statfs fs;

	return !statfs("/dev/shm", &fs) && fs.f_type == TMPFS_MAGIC ? mkdtemp(dir) : NULL;
}

/* Its directory goes: what is said then must not lead anybody to format it. */
static void disk_is_lost(const struct hci_disk_info *d, const char *to)
{
	struct hci_disk_info *list;
	uint64_t n;
	bool told = false;

	world_node_stop(&w, d->node[1] - '1');
	ck_assert_int_eq(rename(d->path, to), 0);
	world_node_start(&w, d->node[1] - '1');
	for (int k = 0; k < 300 && !told; k++) {
		usleep(100000);
		ok(hci_disk_list(w.client, &list, &n, sizeof(*list), &w.err));
		for (uint64_t i = 0; i < n; i++)
			if (!strcmp(list[i].uuid, d->uuid) && list[i].state == HCI_DISK_FAILED)
				told = strstr(list[i].reason, "is it mounted? If it is lost: hcictl disk remove") != NULL;
		hci_list_free(list);
	}
	ck_assert(told);
	ok(hci_disk_remove(w.client, d->uuid, &w.err));
}

START_TEST(directories_of_one_file_system_are_told)
{
	struct hci_disk_info *list;
	uint64_t n, told = 0;

	world_up(&w, 0);
	world_pool(&w, 0);
	/* At once, but for a node whose heartbeat is late on a busy machine: its disks are shown offline until it comes. */
	for (int k = 0; k < 300; k++, usleep(100000)) {
		uint64_t online = 0;

		told = 0;
		ok(hci_disk_list(w.client, &list, &n, sizeof(*list), &w.err));
		for (uint64_t i = 0; i < n; i++) {
			online += list[i].state == HCI_DISK_ONLINE;
			told += list[i].state == HCI_DISK_ONLINE && strstr(list[i].reason, "same file system as disk /") != NULL;
		}
		hci_list_free(list);
		if (online == n)
			break;
	}
	ck_assert_uint_eq(told, n - WORLD_NODES); /* all but the first of each node */
	world_down(&w);
}
END_TEST

START_TEST(disks_that_cannot_be)
{
	char moved[300];
	struct hci_disk_opts d = HCI_DISK_OPTS_INIT;
	struct hci_disk_info *list;
	uint64_t before, after;

	world_up(&w, 0);
	world_pool(&w, 0);
	ok(hci_disk_list(w.client, &list, &before, sizeof(*list), &w.err));
	d.node = list[0].node;
	d.path = "/no/such/directory";
	d.timeout_ms = 600000; /* far more than the test has: the answer does not wait for it */
	refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_NOTFOUND, "node n", "disk /no/such/directory");
	d.path = "/proc";
	refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_EXISTS, "/proc", "not empty", "give an empty one");
	ck_assert_ptr_null(strstr(w.err.message, "remove"));
	d.path = "/etc/passwd";
	refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_INVAL, "disk /etc/passwd", "Not a directory");
	ck_assert_msg(!strstr(strstr(w.err.message, "/etc/passwd") + 1, "/etc/passwd"), "%s", w.err.message);
	d.path = in_ram();
	if (d.path) {
		refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_INVAL, d.path, "tmpfs", "on a disk");
		ck_assert_int_eq(rmdir(d.path), 0); /* nothing was left in there */
	}
	d.path = list[0].path;
	snprintf(moved, sizeof(moved), "%s-was", d.path);
	disk_is_lost(&list[0], moved);
	d.path = moved;
	refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_EXISTS, d.path, "it was disk", list[0].uuid, "empty it");
	d.path = list[0].path;
	d.pool = "nope";
	refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_NOTFOUND, "pool nope", "hcictl pool create");
	d.pool = NULL;
	d.node = "nobody";
	refused(hci_disk_add(w.client, &d, NULL, &w.err), HCI_E_NOTFOUND, "node nobody", "hcictl node list");
	hci_list_free(list);
	ok(hci_disk_list(w.client, &list, &after, sizeof(*list), &w.err));
	ck_assert_uint_eq(before - 1, after); /* the one that was lost */
	hci_list_free(list);
	world_down(&w);
}
END_TEST

START_TEST(every_event_type_has_a_name)
{
	for (int32_t a = HCI_EVENT_NODE_UP; a <= HCI_EVENT_DISK_FULL; a++) {
		ck_assert_str_ne(hci_event_name(a), "?");
		for (int32_t b = HCI_EVENT_NODE_UP; b < a; b++)
			ck_assert_str_ne(hci_event_name(a), hci_event_name(b));
	}
	ck_assert_str_eq(hci_event_name(0), "?");
	ck_assert_str_eq(hci_event_name(INT32_MIN), "?");
	ck_assert_str_eq(hci_event_name(HCI_EVENT_DISK_FULL + 1), "?");
}
END_TEST

START_TEST(wrong_requests)
{
	struct hci_node_limits limits = HCI_NODE_LIMITS_INIT;
	struct hci_volume_opts vo = HCI_VOLUME_OPTS_INIT;
	struct hci_export_opts eo = HCI_EXPORT_OPTS_INIT;
	struct hci_volume_status s;
	struct hci_completion done[4];
	hci_volume *v, *second;
	hci_export *x;
	hci_queue *q, *foreign, *none;
	uint8_t *buf;

	world_up(&w, 0);
	world_pool(&w, 0);
	vo.name = "v", vo.pool = "p", vo.bytes = 8 * MiB, vo.segment_bytes = MiB;
	ok(hci_volume_create(w.client, &vo, &w.err));
	refused(hci_volume_create(w.client, &vo, &w.err), HCI_E_EXISTS, "volume v");
	vo.name = "u", vo.segment_bytes = 3 * MiB;
	refused(hci_volume_create(w.client, &vo, &w.err), HCI_E_INVAL, "volume u", "segment size");
	vo.segment_bytes = 0, vo.bytes = UINT64_C(1) << 60;
	refused(hci_volume_create(w.client, &vo, &w.err), HCI_E_INVAL, "volume u", "more than 2^50");
	vo.bytes = 4097;
	refused(hci_volume_create(w.client, &vo, &w.err), HCI_E_INVAL, "volume u", "round it up");
	ok(hci_volume_attach(&v, w.client, "v", NULL, &w.err));
	eo.address = "unix:/etc/passwd";
	refused(hci_export_start(&x, v, &eo, &w.err), HCI_E_EXISTS, "unix:/etc/passwd", "no socket");
	refused(hci_volume_attach(&second, w.cluster[0], "v", NULL, &w.err), HCI_E_BUSY, "volume v", "client");
	/* The same process and handle is a second writer as well. */
	refused(hci_volume_attach(&second, w.client, "v", NULL, &w.err), HCI_E_BUSY, "volume v", "client");
	ok(hci_queue_create(&q, w.client, 2, &w.err));
	ok(hci_queue_create(&foreign, w.cluster[0], 2, &w.err));
	ok(hci_buffer_alloc((void **)&buf, 65 * MiB, &w.err));
	refused(hci_volume_submit_write(v, q, buf, 4095, 0, 0, NULL, &w.err), HCI_E_ALIGN, "volume v");
	refused(hci_volume_submit_write(v, q, buf, 4096, 1, 0, NULL, &w.err), HCI_E_ALIGN, "volume v");
	refused(hci_volume_submit_write(v, q, buf + 8, 4096, 0, 0, NULL, &w.err), HCI_E_ALIGN, "volume v", "buffer");
	refused(hci_volume_submit_read(v, q, buf, 4096, 8 * MiB, 0, NULL, &w.err), HCI_E_RANGE, "volume v");
	refused(hci_volume_submit_read(v, q, buf, 0, 0, 0, NULL, &w.err), HCI_E_RANGE, "volume v");
	refused(hci_volume_submit_read(v, q, buf, 4096, 0xfffffffffffff000, 0, NULL, &w.err), HCI_E_RANGE, "volume v");
	refused(hci_volume_submit_zero(v, q, 0xfffffffffffff000, 4096, 0, NULL, &w.err), HCI_E_RANGE, "volume v");
	refused(hci_volume_submit_read(v, foreign, buf, 4096, 0, 0, NULL, &w.err), HCI_E_INVAL, "volume v", "queue");
	refused(hci_volume_submit_read(v, q, NULL, 4096, 0, 0, NULL, &w.err), HCI_E_INVAL, "buf");
	refused(hci_volume_submit_read(NULL, q, buf, 4096, 0, 0, NULL, &w.err), HCI_E_INVAL, "vol");
	refused(hci_queue_create(&none, w.client, 0, &w.err), HCI_E_INVAL, "queue");
	refused(hci_queue_create(&none, w.client, 1u << 20, &w.err), HCI_E_INVAL, "queue");
	/* None of them left anything to reap, nor kept a place of the queue. */
	ck_assert_int_eq(hci_queue_reap(q, done, 4, 0), 0);
	ok(hci_volume_submit_read(v, q, buf, 4096, 0, 1, NULL, &w.err));
	ok(hci_volume_submit_read(v, q, buf + 4096, 4096, 0, 2, NULL, &w.err));
	refused(hci_volume_submit_read(v, q, buf + 8192, 4096, 0, 3, NULL, &w.err), HCI_E_BUSY, "queue");
	for (int n = 0; n < 2;)
		n += hci_queue_reap(q, done, 4, 10000);
	refused(hci_volume_status(v, &s, 3, &w.err), HCI_E_INVAL, "status");
	refused(hci_volume_read_replica(w.client, "v", "nonsense", 0, buf, 4096, 0, &w.err), HCI_E_INVAL, "nonsense");
	refused(hci_volume_read_replica(w.client, "v", "00000000-0000-0000-0000-000000000001", 0, buf, 4096, 0, &w.err),
		HCI_E_NOTFOUND, "disk");
	refused(hci_volume_delete(w.client, "v", &w.err), HCI_E_BUSY, "volume v", "client");
	refused(hci_pool_delete(w.client, "p", &w.err), HCI_E_BUSY, "pool p");
	refused(hci_node_remove(w.client, "n1", &w.err), HCI_E_STATE, "n1");
	refused(hci_node_limit(w.client, "n9", &limits, &w.err), HCI_E_NOTFOUND, "n9");
	ck_assert_int_eq(hci_node_limit(w.client, "n1", &limits, &w.err), 0);
	limits.migrations = 65;
	refused(hci_node_limit(w.client, "n1", &limits, &w.err), HCI_E_INVAL, "n1");
	refused(hci_disk_remove(w.client, "ffffffff", &w.err), HCI_E_NOTFOUND, "ffffffff");
	hci_volume_unref(v);
	hci_queue_unref(q);
	hci_queue_unref(foreign);
	hci_buffer_free(buf);
	/* Giving back what there is not is fine. */
	hci_volume_unref(NULL);
	hci_queue_unref(NULL);
	hci_cluster_unref(NULL);
	hci_node_stop(NULL);
	hci_export_stop(NULL);
	hci_job_unref(NULL);
	world_down(&w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("api_badinput");
	TCase *t = tcase_create("badinput");

	tcase_set_timeout(t, 120);
	tcase_add_test(t, options_of_a_wrong_size);
	tcase_add_test(t, options_without_a_meaning);
	tcase_add_test(t, odd_names);
	tcase_add_test(t, wrong_certificates);
	tcase_add_test(t, wrong_stores);
	tcase_add_test(t, wrong_plugins);
	tcase_add_test(t, disks_that_cannot_be);
	tcase_add_test(t, directories_of_one_file_system_are_told);
	tcase_add_test(t, wrong_requests);
	tcase_add_test(t, every_event_type_has_a_name);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
