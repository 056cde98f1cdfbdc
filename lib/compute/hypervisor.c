/* SPDX-License-Identifier: Apache-2.0 */
/* The real hypervisor's table: libvirt's calls, sockets in the file system, this machine's processors and memory. */
#include "compute/hypervisor.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"

#define WORKERS_MAX 4
#define MIRROR (256 * MiB) /* of pages kept at both ends of a migration, for what is sent again; more if that turns out to be too little: */
#define MIRROR_MAX (UINT64_C(1) << 30)

static uint32_t bridges(struct compute *c, struct bridge *out, uint32_t cap)
{
	(void)c;
	return bridge_list(out, cap);
}

static int machine(struct compute *c, char id[BOOT_ID], struct hci_error *err)
{
	(void)c;
	return boot_id(id, err);
}

static int local(struct compute *c, struct compute_local *out, struct hci_error *err)
{
	return compute_local(compute_uri(c), out, err);
}

static int meet_make(struct compute *c, const char *dir, char path[COMPUTE_SOCKET_MAX], struct hci_error *err)
{
	(void)c;
	return compute_meet_make(dir, path, err);
}

static bool meet_take(struct compute *c, const char *path, char at[COMPUTE_SOCKET_MAX])
{
	(void)c;
	return compute_meet_take(path, at);
}

static void meet_remove(struct compute *c, const char *path)
{
	(void)c;
	compute_meet_remove(path);
}

static void meet_clean(struct compute *c, const char *dir)
{
	(void)c;
	compute_meet_clean(dir);
}

static int meet_prepare(struct compute *c, const char *path, unsigned *made, struct hci_error *err)
{
	(void)c;
	return compute_meet_prepare(path, made, err);
}

static void meet_link(struct compute *c, const char *path, const char *to)
{
	(void)c;
	compute_meet_link(path, to);
}

static void meet_unlink(struct compute *c, const char *path, unsigned made)
{
	(void)c;
	compute_meet_unlink(path, made);
}

static void socket_clean(struct compute *c, const char *path)
{
	(void)c;
	compute_socket_clean(path);
}

static void socket_remove(struct compute *c, const char *path)
{
	(void)c;
	(void)!unlink(path);
}

static int socket_private(struct compute *c, const char *path, struct hci_error *err)
{
	(void)c;
	return chmod(path, 0600) ? err_sys(err, HCI_E_SYS, errno, "socket %s", path) : 0;
}

static void codec(struct compute *c, struct mst_opts *o)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	(void)c;
	o->cache = MIRROR;
	o->workers = (uint32_t)MIN(MAX(n, 1), WORKERS_MAX);
	/* Of the memory that nobody uses an eighth; four may be under way. */
	o->cache_max = MIN((uint64_t)MAX(sysconf(_SC_AVPHYS_PAGES), 0) * (uint64_t)sysconf(_SC_PAGESIZE) / 8, MIRROR_MAX);
}

const struct hypervisor hypervisor_libvirt = {
	.start = compute_start,
	.stop = compute_stop,
	.list = compute_list,
	.find = compute_find,
	.suspend = compute_suspend,
	.resume = compute_resume,
	.nudge = compute_nudge,
	.migrate = compute_migrate,
	.migrated = compute_migrated,
	.needs = compute_needs,
	.may_leave = compute_may_leave,
	.preflight = compute_preflight,
	.socket_give = compute_socket_give,
	.bridges = bridges,
	.machine = machine,
	.local = local,
	.meet_make = meet_make,
	.meet_take = meet_take,
	.meet_remove = meet_remove,
	.meet_clean = meet_clean,
	.meet_prepare = meet_prepare,
	.meet_link = meet_link,
	.meet_unlink = meet_unlink,
	.socket_clean = socket_clean,
	.socket_remove = socket_remove,
	.socket_private = socket_private,
	.codec = codec,
};
