/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a guest's RAM. Its QEMU is a process whose program's name has "qemu" in it, and whose arguments have "-uuid" and the domain's
 * UUID, as libvirt starts it. Arguments lie in a process's own memory: of one that hangs, or means it, to read them may take for ever, so
 * those of other programs are left alone; which program it is the kernel says by itself. How large
 * its RAM is they say as well ("-m", and the size of each memory backend), and QEMU maps a block of RAM by itself, with a page that cannot be
 * touched behind it: so it is the mapping, readable and writable, of exactly such a length. No monitor is asked: that would wait
 * for libvirt's jobs, migrations among them, and mark the domain.
 *
 * Whatever is taken for RAM by mistake does no harm: of what is read nothing leaves but to somebody who proves by a strong hash that he has it
 * already (memstream.h). Both files are opened before they are used, and belong to that process's memory from then on: its number may
 * go to another, and a process that has ended reads as nothing.
 */
#include "compute/guest_ram.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "compute/memstream/memstream.h"

#define BLOCKS 8u /* of RAM: memory backends */
#define ARGS_MAX (256u << 10)
#define PRESENT (UINT64_C(1) << 63) /* of an entry of pagemap: Documentation/admin-guide/mm/pagemap.rst */

struct block {
	uint64_t at, pages;
};

struct guest_ram {
	int mem, map;
	struct block blocks[BLOCKS];
	unsigned n;
	uint64_t pages;
	uint32_t users; /* atomic */
};

/* ---- its process ---- */

/* As the kernel has it, without a look into the process. "qemu-system-x86_64", "qemu-kvm", also with " (deleted)" after an upgrade. */
static bool is_qemu(const char *pid)
{
	char path[300], exe[4096];
	const char *name;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%s/exe", pid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	name = strrchr(exe, '/');
	return name && strstr(name, "qemu");
}

/* All of a small file, with a zero behind it. NULL: it is not there, or longer. */
static char *slurp(const char *path, size_t *len)
{
	char *s = mem_alloc(ARGS_MAX);
	int fd = s ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t got = 1;

	*len = 0;
	while (fd >= 0 && got > 0 && *len < ARGS_MAX - 1) {
		got = read(fd, s + *len, ARGS_MAX - 1 - *len);
		*len += got > 0 ? (size_t)got : 0;
	}
	if (fd >= 0)
		close(fd);
	if (fd < 0 || got) {
		mem_free(s);
		return NULL;
	}
	s[*len] = '\0';
	return s;
}

/* "98312k", "1G", "134217728"; without a letter: unit. */
static uint64_t size_of(const char *s, uint64_t unit)
{
	char *end;
	uint64_t n = strtoull(s, &end, 10);

	switch (*end) {
	case 'k': case 'K':
		return n << 10;
	case 'm': case 'M':
		return n << 20;
	case 'g': case 'G':
		return n << 30;
	case 't': case 'T':
		return n << 40;
	case 'b': case 'B':
		return n;
	default:
		return n * unit;
	}
}

/* Of "1024", "size=98312k,slots=4", "{"qom-type":"memory-backend-ram","id":"pc.ram","size":134217728}", "memory-backend-ram,id=x,size=98312K". */
static uint64_t size_in(const char *arg, uint64_t unit)
{
	const char *at = strstr(arg, "\"size\":"), *plain = strstr(arg, "size=");

	if (at)
		return size_of(at + 7, unit);
	return size_of(plain ? plain + 5 : arg, unit);
}

static void add_size(uint64_t *sizes, unsigned *n, uint64_t size)
{
	if (size && *n < BLOCKS)
		sizes[(*n)++] = size;
}

/* Is it the QEMU of this domain? Then how long its blocks of RAM may be. */
static bool read_args(const char *pid, const char *uuid, uint64_t sizes[BLOCKS], unsigned *n)
{
	char path[300];
	bool ours = false;
	uint64_t whole = 0;
	size_t len;
	char *s;

	snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
	s = slurp(path, &len);
	*n = 0;
	for (const char *a = s, *v; s && a < s + len; a = v) {
		v = a + strlen(a) + 1;
		if (v >= s + len)
			break;
		if (!strcmp(a, "-uuid"))
			ours |= !strcasecmp(v, uuid);
		else if (!strcmp(a, "-m")) /* the last one counts */
			whole = size_in(v, MiB);
		else if (!strcmp(a, "-object") && strstr(v, "memory-backend-"))
			add_size(sizes, n, size_in(v, 1));
	}
	add_size(sizes, n, whole);
	mem_free(s);
	return ours;
}

/* ---- its RAM ---- */

static bool wanted(uint64_t len, const uint64_t *sizes, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (len == ROUND_UP(sizes[i], MST_PAGE))
			return true;
	return false;
}

static void find_blocks(struct guest_ram *r, const char *pid, const uint64_t *sizes, unsigned n)
{
	char path[300], *line = NULL;
	size_t cap = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	f = fopen(path, "re");
	while (f && r->n < BLOCKS && getline(&line, &cap, f) > 0) {
		unsigned long long a, b;
		char perms[5];

		if (sscanf(line, "%llx-%llx %4s", &a, &b, perms) != 3 || strncmp(perms, "rw-", 3) != 0 || !wanted(b - a, sizes, n))
			continue;
		r->blocks[r->n++] = (struct block){ a, (b - a) / MST_PAGE };
		r->pages += (b - a) / MST_PAGE;
	}
	free(line);
	if (f)
		fclose(f);
}

static int open_of(struct guest_ram *r, const char *pid, const char *file)
{
	char path[300];

	(void)r;
	snprintf(path, sizeof(path), "/proc/%s/%s", pid, file);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* 0; HCI_E_NOTFOUND: another process. */
static int try_process(const char *pid, const char *uuid, struct guest_ram **out, struct hci_error *err)
{
	uint64_t sizes[BLOCKS];
	struct guest_ram *r;
	unsigned n;
	int rc = 0;

	if (!is_qemu(pid) || !read_args(pid, uuid, sizes, &n))
		return HCI_E_NOTFOUND;
	r = MEM_NEW(struct guest_ram);
	if (!r)
		return err_set(err, HCI_E_NOMEM, "domain %s: out of memory", uuid);
	r->users = 1;
	r->mem = open_of(r, pid, "mem");
	r->map = r->mem < 0 ? -1 : open_of(r, pid, "pagemap");
	if (r->mem < 0 || r->map < 0) {
		rc = errno == ENOENT || errno == ESRCH ? HCI_E_NOTFOUND : HCI_E_SYS;
		rc = err_sys(err, rc, errno, "domain %s: the memory of its QEMU, process %s, cannot be read", uuid, pid);
	}
	/* Only what is still that QEMU: the files are its for good by now. */
	if (!rc && !read_args(pid, uuid, sizes, &n))
		rc = HCI_E_NOTFOUND;
	if (!rc)
		find_blocks(r, pid, sizes, n);
	if (!rc && !r->n)
		rc = err_set(err, HCI_E_NOTFOUND, "domain %s: no RAM is found in its QEMU, process %s", uuid, pid);
	if (rc) {
		guest_ram_close(r);
		return rc;
	}
	*out = r;
	return 0;
}

/* What is said of several processes: of one that is none nothing. */
static int better(int was, int rc)
{
	return rc == HCI_E_NOTFOUND ? was : rc;
}

int guest_ram_open(const struct uuid *vm, struct guest_ram **out, struct hci_error *err)
{
	char uuid[HCI_UUID_STR];
	int rc = HCI_E_NOTFOUND;
	struct dirent *d;
	DIR *dir;

	*out = NULL;
	uuid_print(vm, uuid);
	err_set(err, HCI_E_NOTFOUND, "domain %s: none of the processes here is its QEMU", uuid);
	dir = opendir("/proc");
	/* One that may not be read need not be the one. */
	while (dir && (rc == HCI_E_NOTFOUND || rc == HCI_E_SYS) && (d = readdir(dir)))
		if (d->d_name[0] >= '1' && d->d_name[0] <= '9')
			rc = better(rc, try_process(d->d_name, uuid, out, err));
	if (dir)
		closedir(dir);
	return rc;
}

void guest_ram_keep(struct guest_ram *r)
{
	__atomic_add_fetch(&r->users, 1, __ATOMIC_RELAXED);
}

void guest_ram_close(struct guest_ram *r)
{
	if (!r || __atomic_sub_fetch(&r->users, 1, __ATOMIC_ACQ_REL))
		return;
	if (r->mem >= 0)
		close(r->mem);
	if (r->map >= 0)
		close(r->map);
	mem_free(r);
}

uint64_t guest_ram_pages(const struct guest_ram *r)
{
	return r->pages;
}

/* ---- reading ---- */

/* Where a page lies in the process, and how many follow it there. */
static uint64_t address_of(const struct guest_ram *r, uint64_t page, uint64_t *more)
{
	for (unsigned i = 0; i < r->n; i++) {
		if (page < r->blocks[i].pages) {
			*more = r->blocks[i].pages - page;
			return r->blocks[i].at + page * MST_PAGE;
		}
		page -= r->blocks[i].pages;
	}
	*more = 0;
	return 0;
}

/* The bits of pages that are in memory. HCI_E_CLOSED. */
static int present(const struct guest_ram *r, uint64_t at, unsigned n, uint64_t *out)
{
	uint64_t e[GUEST_RAM_RUN];
	ssize_t got = pread(r->map, e, n * sizeof(*e), (off_t)(at / MST_PAGE * sizeof(*e)));

	*out = 0;
	if (got != (ssize_t)(n * sizeof(*e)))
		return HCI_E_CLOSED;
	for (unsigned i = 0; i < n; i++)
		*out |= e[i] & PRESENT ? UINT64_C(1) << i : 0;
	return 0;
}

/* Of one block. */
static int read_run(struct guest_ram *r, uint64_t at, unsigned n, uint8_t *buf, uint64_t *there)
{
	int rc = present(r, at, n, there);

	for (unsigned i = 0, k; !rc && i < n; i = k) {
		for (k = i + 1; k < n && (*there >> k & 1) == (*there >> i & 1); k++)
			;
		/* What cannot be read any more (the guest gave it back) is not there. */
		if ((*there >> i & 1) && pread(r->mem, buf + (size_t)i * MST_PAGE, (size_t)(k - i) * MST_PAGE,
					       (off_t)(at + (uint64_t)i * MST_PAGE)) != (ssize_t)((size_t)(k - i) * MST_PAGE))
			for (unsigned j = i; j < k; j++)
				*there &= ~(UINT64_C(1) << j);
	}
	return rc;
}

int guest_ram_read(struct guest_ram *r, uint64_t first, unsigned n, uint8_t *buf, uint64_t *there)
{
	unsigned done = 0;
	int rc = 0;

	*there = 0;
	while (!rc && done < n) {
		uint64_t more, at = address_of(r, first + done, &more), bits;
		unsigned k = (unsigned)MIN(more, (uint64_t)(n - done));

		if (!k)
			break;
		rc = read_run(r, at, k, buf + (size_t)done * MST_PAGE, &bits);
		*there |= bits << done;
		done += k;
	}
	return rc;
}

int guest_ram_page(struct guest_ram *r, uint64_t page, void *buf)
{
	uint64_t more, at = address_of(r, page, &more), there;

	if (!more || present(r, at, 1, &there) || !there || pread(r->mem, buf, MST_PAGE, (off_t)at) != (ssize_t)MST_PAGE)
		return HCI_E_NOTFOUND;
	return 0;
}
