/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of guests that run here. The guests are processes with the arguments of a QEMU: this program, which then only has memory
 * and does as it is told through a pipe: it fills, changes and gives back pages, and ends.
 */
#include "../harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "compute/guest_pages.h"
#include "compute/memstream/hash.h"

#define PAGES 1026u /* odd, as a guest's under TCG */
#define RUN 64u

/* ---- the guest ---- */

struct order {
	char what; /* f: fill [from, to) by seed; z: give back; q: end */
	uint32_t from, to;
	uint64_t seed;
};

static void content(uint8_t *page, uint64_t seed, uint32_t i)
{
	uint64_t x = (seed << 32 | i) + 1;

	for (unsigned k = 0; k < MST_PAGE; k += 8) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		memcpy(page + k, &x, 8);
	}
}

static int be_guest(void)
{
	/* As QEMU does: in a reservation, with what cannot be touched behind it. */
	uint8_t *all = mmap(NULL, ((size_t)PAGES + 2) * MST_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *ram = mmap(all + MST_PAGE, (size_t)PAGES * MST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	struct order o;

	while (ram != MAP_FAILED && read(0, &o, sizeof(o)) == (ssize_t)sizeof(o) && o.what != 'q') {
		for (uint32_t i = o.from; o.what == 'f' && i < o.to; i++)
			content(ram + (size_t)i * MST_PAGE, o.seed, i);
		if (o.what == 'z')
			madvise(ram + (size_t)o.from * MST_PAGE, (size_t)(o.to - o.from) * MST_PAGE, MADV_DONTNEED);
		if (write(1, "k", 1) != 1)
			break;
	}
	return 0;
}

struct vm {
	struct uuid uuid;
	pid_t pid;
	int to, from;
};

static void tell(struct vm *v, char what, uint32_t from, uint32_t to, uint64_t seed)
{
	struct order o;
	char k;

	memset(&o, 0, sizeof(o));
	o.what = what;
	o.from = from;
	o.to = to;
	o.seed = seed;
	ck_assert_int_eq(write(v->to, &o, sizeof(o)), sizeof(o));
	if (what != 'q')
		ck_assert_int_eq(read(v->from, &k, 1), 1);
}

/* This program under the name of a QEMU, which the kernel will tell of it. */
static int as_qemu(void)
{
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = memfd_create("qemu-system-x86_64", MFD_CLOEXEC);
	ssize_t n;

	do
		n = sendfile(to, from, NULL, 1 << 30);
	while (n > 0);
	ck_assert(!n && from >= 0);
	close(from);
	return to;
}

/* size: what its arguments say of its RAM. decoy: it only says that it is a QEMU. */
static void vm_start_as(struct vm *v, uint8_t number, const char *size, bool decoy)
{
	char id[HCI_UUID_STR];
	const char *const words[] = { "qemu-system-x86_64", "-name", "guest=x", "-m", "size=1024k", "-uuid", id, "-m", size, NULL };
	char *const *args = (char *const *)(uintptr_t)words;
	int in[2], out[2], exe = as_qemu();

	memset(v, 0, sizeof(*v));
	for (unsigned i = 0; i < sizeof(v->uuid.b); i++)
		v->uuid.b[i] = (uint8_t)(number + i * 7 + (unsigned)getpid() % 200);
	uuid_print(&v->uuid, id);
	ck_assert(!pipe(in) && !pipe(out));
	v->pid = fork();
	ck_assert_int_ge(v->pid, 0);
	if (!v->pid) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		close(out[0]);
		if (decoy)
			execv("/proc/self/exe", args);
		else
			fexecve(exe, args, environ);
		_exit(1);
	}
	close(exe);
	close(in[0]);
	close(out[1]);
	v->to = in[1];
	v->from = out[0];
}

static void vm_start_with(struct vm *v, uint8_t number, const char *size)
{
	vm_start_as(v, number, size, false);
}

static void vm_start(struct vm *v, uint8_t number)
{
	vm_start_with(v, number, "size=4104k"); /* PAGES */
	tell(v, 'f', 0, 0, 0); /* it is there */
}

static void vm_end(struct vm *v)
{
	if (!v->pid)
		return;
	tell(v, 'q', 0, 0, 0);
	waitpid(v->pid, NULL, 0);
	close(v->to);
	close(v->from);
	v->pid = 0;
}

/* ---- what is known of it ---- */

static struct guest_pages *make(uint64_t memory, uint64_t rest_ms)
{
	struct guest_pages_opts o = { .memory = memory, .pace = UINT64_C(1) << 40, .rest_ns = rest_ms * NS_PER_MS };
	struct guest_pages *g;

	memcpy(o.id, "xxxxrandom", 10);
	g = guest_pages_new(&o);
	ck_assert_ptr_nonnull(g);
	return g;
}

static void until(struct guest_pages *g, bool (*is)(const struct guest_pages_stat *s, uint64_t n), uint64_t n)
{
	struct guest_pages_stat s;

	for (unsigned i = 0; i < 20000; i++) {
		guest_pages_stat(g, &s);
		if (is(&s, n))
			return;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	ck_abort_msg("%u guests, %llu known, %llu passes", s.guests, (unsigned long long)s.known, (unsigned long long)s.passes);
}

static bool passed(const struct guest_pages_stat *s, uint64_t n)
{
	return s->passes >= n;
}

static bool knows(const struct guest_pages_stat *s, uint64_t n)
{
	return s->known == n;
}

static uint64_t passes(struct guest_pages *g)
{
	struct guest_pages_stat s;

	guest_pages_stat(g, &s);
	return s.passes;
}

/* All that it tells. */
static struct mst_told *all_told(struct guest_pages *g, unsigned max, uint32_t most, struct mst_provider *src)
{
	struct mst_told *t = mst_told_new(GUEST_PAGES_PREFIX, MST_KIND_GUEST, most);
	uint32_t at = 0, *half = mem_calloc(max, sizeof(*half));
	struct mst_provider dst;

	guest_pages_provider(g, &dst);
	mst_told_provider(t, src);
	ck_assert(src->match(src->ctx, dst.id));
	do {
		uint32_t was = at;
		int n = dst.tell(dst.ctx, &at, half, max);

		if (n == HCI_E_AGAIN) {
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
			continue;
		}
		ck_assert_int_ge(n, 0);
		ck_assert_int_le(n, (int)max);
		ck_assert(!at || (n && at > was));
		for (int i = 0; i < n; i++)
			if (!src->told(src->ctx, half[i]))
				at = 0;
		if (!at)
			break;
	} while (1);
	mem_free(half);
	return t;
}

/* How many of the pages of this content the source may refer to, and gets: right ones only, as the decoder compares. */
static void count(struct guest_pages *g, const struct mst_provider *src, uint64_t seed, uint32_t from, uint32_t to, unsigned *offered,
		  unsigned *right)
{
	uint8_t want[MST_PAGE], got[MST_PAGE], a[MST_STRONG], b[MST_STRONG];
	struct mst_provider dst;
	uint64_t token;

	guest_pages_provider(g, &dst);
	*offered = *right = 0;
	for (uint32_t i = from; i < to; i++) {
		content(want, seed, i);
		if (src->lookup(src->ctx, mst_quick(want), 0, &token) != MST_HAS)
			continue;
		++*offered;
		if (dst.read(dst.ctx, token, got))
			continue;
		mst_strong(want, a);
		mst_strong(got, b);
		*right += !memcmp(a, b, sizeof(a));
		ck_assert_int_eq(!memcmp(a, b, sizeof(a)), !memcmp(want, got, sizeof(got)));
	}
}

START_TEST(pages_of_a_guest_that_runs_here_are_found)
{
	struct guest_pages *g = make(MiB, 20);
	struct mst_provider src;
	unsigned offered, right;
	struct mst_told *t;
	struct vm v;

	vm_start(&v, 1);
	tell(&v, 'f', 10, PAGES, 5); /* the first ten were never touched */
	guest_pages_seen(g, &v.uuid, 1);
	guest_pages_hurry(g);
	until(g, passed, 1);
	until(g, knows, PAGES - 10);
	t = all_told(g, 16384, 1 << 20, &src);
	count(g, &src, 5, 0, PAGES, &offered, &right);
	ck_assert_uint_eq(offered, PAGES - 10);
	ck_assert_uint_eq(right, PAGES - 10);
	count(g, &src, 6, 0, PAGES, &offered, &right);
	ck_assert_uint_le(offered, 1);
	ck_assert_uint_eq(right, 0);
	mst_told_free(t);
	/* In pieces, however small. */
	t = all_told(g, 4, 1 << 20, &src);
	count(g, &src, 5, 0, PAGES, &offered, &right);
	ck_assert_uint_eq(offered, PAGES - 10);
	mst_told_free(t);
	guest_pages_free(g);
	vm_end(&v);
}
END_TEST

START_TEST(what_only_says_that_it_is_a_qemu_is_left_alone)
{
	struct guest_pages *g = make(MiB, 20);
	struct mst_provider src;
	unsigned offered, right;
	struct vm decoy, v;
	struct mst_told *t;

	/* The first of them is looked at first. */
	vm_start_as(&decoy, 1, "size=4104k", true);
	tell(&decoy, 'f', 0, PAGES, 6);
	vm_start(&v, 1);
	ck_assert(uuid_eq(&decoy.uuid, &v.uuid));
	tell(&v, 'f', 0, PAGES, 5);
	guest_pages_seen(g, &v.uuid, 1);
	until(g, passed, 1);
	t = all_told(g, 16384, 1 << 20, &src);
	count(g, &src, 5, 0, PAGES, &offered, &right);
	ck_assert_uint_eq(right, PAGES);
	mst_told_free(t);
	guest_pages_free(g);
	vm_end(&v);
	vm_end(&decoy);
}
END_TEST

static int hang[2];
static bool hangs, back;

static int open_hangs(const struct uuid *vm, struct guest_ram **out, struct hci_error *err)
{
	char c;

	(void)vm;
	*out = NULL;
	__atomic_store_n(&hangs, true, __ATOMIC_SEQ_CST);
	ck_assert_int_eq(read(hang[0], &c, 1), 1);
	__atomic_store_n(&back, true, __ATOMIC_SEQ_CST);
	return err_set(err, HCI_E_NOTFOUND, "gone");
}

static void until_is(const bool *what)
{
	while (!__atomic_load_n(what, __ATOMIC_SEQ_CST))
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

START_TEST(a_process_that_hangs_holds_up_no_end)
{
	struct guest_pages_opts o = { .memory = MiB, .open = open_hangs };
	struct guest_pages *g;
	struct uuid vm = { .b = { 1 } };

	ck_assert(!pipe(hang));
	g = guest_pages_new(&o);
	guest_pages_seen(g, &vm, 1);
	until_is(&hangs);
	guest_pages_free(g);
	ck_assert(!back);
	/* It frees all when it comes back. */
	ck_assert_int_eq(write(hang[1], "x", 1), 1);
	until_is(&back);
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	close(hang[0]);
	close(hang[1]);
}
END_TEST

static int page_hangs(struct guest_ram *r, uint64_t page, void *buf)
{
	char c;

	__atomic_store_n(&hangs, true, __ATOMIC_SEQ_CST);
	ck_assert_int_eq(read(hang[0], &c, 1), 1);
	return guest_ram_page(r, page, buf);
}

struct reader {
	struct mst_provider dst;
	uint64_t token;
	uint8_t page[MST_PAGE];
	int rc;
};

/* As a decoder's worker: it was told that it may leave when it comes back. */
static void *read_one(void *arg)
{
	struct reader *r = arg;

	r->rc = r->dst.read(r->dst.ctx, r->token, r->page);
	r->dst.keep(r->dst.ctx, false);
	return NULL;
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

START_TEST(a_read_that_hangs_holds_up_neither_the_others_nor_the_end)
{
	struct guest_pages_opts o = { .memory = MiB, .pace = UINT64_C(1) << 40, .rest_ns = 20 * NS_PER_MS, .page = page_hangs };
	struct guest_pages *g = guest_pages_new(&o);
	struct reader r = { .rc = 1 };
	uint8_t want[MST_PAGE];
	pthread_t thread;
	uint64_t at;
	struct vm v;

	ck_assert(!pipe(hang));
	hangs = false;
	vm_start(&v, 1);
	tell(&v, 'f', 0, PAGES, 5);
	guest_pages_seen(g, &v.uuid, 1);
	until(g, knows, PAGES);
	content(want, 5, 17);
	r.token = mst_quick(want);
	guest_pages_provider(g, &r.dst);
	r.dst.keep(r.dst.ctx, true);
	ck_assert(!pthread_create(&thread, NULL, read_one, &r));
	until_is(&hangs);
	/* The index is brought up to date meanwhile, also by what takes the whole of it. */
	until(g, passed, passes(g) + 3);
	guest_pages_seen(g, NULL, 0);
	until(g, knows, 0);
	at = clock_ns();
	guest_pages_free(g);
	ck_assert_msg(clock_ns() - at < NS_PER_S, "its end waited for the one that hangs");
	/* What that uses is there until it comes back, also the guest's memory. */
	ck_assert_int_eq(write(hang[1], "x", 1), 1);
	pthread_join(thread, NULL);
	ck_assert_int_eq(r.rc, 0);
	ck_assert(!memcmp(r.page, want, sizeof(want)));
	close(hang[0]);
	close(hang[1]);
	vm_end(&v);
}
END_TEST

START_TEST(pages_that_change_underneath_are_never_taken_for_others)
{
	struct guest_pages *g = make(MiB, 3600 * 1000);
	struct mst_provider src;
	unsigned offered, right;
	struct mst_told *t;
	struct vm v;

	vm_start(&v, 1);
	tell(&v, 'f', 0, PAGES, 5);
	guest_pages_seen(g, &v.uuid, 1);
	until(g, passed, 1);
	t = all_told(g, 16384, 1 << 20, &src);
	tell(&v, 'f', 100, 300, 7); /* other content */
	tell(&v, 'z', 300, 400, 0); /* given back: not there, and not made to be */
	count(g, &src, 5, 0, PAGES, &offered, &right);
	ck_assert_uint_eq(offered, PAGES);
	ck_assert_uint_eq(right, PAGES - 300);
	mst_told_free(t);
	guest_pages_free(g);
	vm_end(&v);
}
END_TEST

START_TEST(what_is_known_follows_the_guest)
{
	struct guest_pages *g = make(MiB, 5);
	struct mst_provider src;
	unsigned offered, right;
	struct mst_told *t;
	struct vm v;

	vm_start(&v, 1);
	tell(&v, 'f', 0, PAGES, 5);
	guest_pages_seen(g, &v.uuid, 1);
	until(g, passed, 1);
	tell(&v, 'f', 100, 300, 7);
	/* The pass under way, the one that finds it, and the one that forgets what was there. */
	until(g, passed, passes(g) + 3);
	until(g, knows, PAGES);
	t = all_told(g, 16384, 1 << 20, &src);
	count(g, &src, 7, 100, 300, &offered, &right);
	ck_assert_uint_eq(right, 200);
	count(g, &src, 5, 100, 300, &offered, &right);
	ck_assert_uint_le(offered, 1);
	mst_told_free(t);
	guest_pages_free(g);
	vm_end(&v);
}
END_TEST

START_TEST(a_guest_that_ends_is_forgotten)
{
	struct guest_pages *g = make(MiB, 5);
	struct vm v, w;
	struct mst_provider src, dst;
	struct uuid both[2];
	uint8_t page[MST_PAGE];
	unsigned offered, right;
	struct mst_told *t;

	vm_start(&v, 1);
	vm_start(&w, 90);
	both[0] = v.uuid;
	both[1] = w.uuid;
	tell(&v, 'f', 0, PAGES, 5);
	tell(&w, 'f', 0, PAGES, 6);
	guest_pages_seen(g, both, 2);
	until(g, passed, 2);
	until(g, knows, 2 * PAGES);
	t = all_told(g, 16384, 1 << 20, &src);
	/* Killed, and nobody has said so: it reads as nothing, and is forgotten soon. */
	kill(v.pid, SIGKILL);
	waitpid(v.pid, NULL, 0);
	close(v.to);
	close(v.from);
	/* Its memory goes with the last who looks into it, which may be the index. */
	for (int i = 0; i < 500; i++) {
		count(g, &src, 5, 0, PAGES, &offered, &right);
		ck_assert_uint_eq(offered, PAGES);
		if (!right)
			break;
		usleep(10000);
	}
	ck_assert_uint_eq(right, 0);
	until(g, knows, PAGES);
	count(g, &src, 6, 0, PAGES, &offered, &right);
	ck_assert_uint_eq(right, PAGES);
	/* Said to be gone, though its process lives: it moved away. */
	guest_pages_seen(g, both, 1);
	until(g, knows, 0);
	guest_pages_provider(g, &dst);
	content(page, 6, 0);
	ck_assert_int_eq(dst.read(dst.ctx, mst_quick(page), page), HCI_E_NOTFOUND);
	mst_told_free(t);
	guest_pages_free(g);
	vm_end(&w);
}
END_TEST

START_TEST(memory_is_bounded)
{
	uint64_t room = 256;
	struct guest_pages *g = make(room * 16, 5);
	struct mst_provider src;
	struct guest_pages_stat s;
	unsigned offered, right;
	struct mst_told *t;
	struct vm v;

	vm_start(&v, 1);
	tell(&v, 'f', 0, PAGES, 5);
	guest_pages_seen(g, &v.uuid, 1);
	until(g, passed, 2);
	guest_pages_stat(g, &s);
	ck_assert_uint_le(s.known, room);
	ck_assert_uint_ge(s.known, room * 8 / 10);
	/* Nor does a source remember more than it has room for. */
	t = all_told(g, 4, 100, &src);
	count(g, &src, 5, 0, PAGES, &offered, &right);
	ck_assert_uint_le(offered, 100);
	ck_assert_uint_ge(offered, 90);
	mst_told_free(t);
	guest_pages_free(g);
	ck_assert_ptr_null(guest_pages_new(&(struct guest_pages_opts){ .memory = 15 }));
	vm_end(&v);
}
END_TEST

/* One index grows with the guests, and keeps what it has. */
static int fake_open(const struct uuid *vm, struct guest_ram **out, struct hci_error *err)
{
	(void)vm;
	*out = NULL;
	return err_set(err, HCI_E_NOTFOUND, "none of the processes is its QEMU");
}

START_TEST(guests_whose_memory_is_not_found_are_left_alone)
{
	struct guest_pages_opts o = { .memory = MiB, .open = fake_open };
	struct guest_pages *g = guest_pages_new(&o);
	struct uuid many[300];
	struct mst_provider dst;
	struct guest_pages_stat s;
	uint32_t at = 0, half[16];

	memset(many, 0, sizeof(many));
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		memcpy(many[i].b, &(uint32_t){ i + 1 }, 4);
	guest_pages_seen(g, many, ARRAY_SIZE(many));
	guest_pages_seen(g, NULL, 0);
	guest_pages_seen(g, many, ARRAY_SIZE(many));
	guest_pages_provider(g, &dst);
	ck_assert_int_eq(dst.tell(dst.ctx, &at, half, 16), 0);
	ck_assert_uint_eq(at, 0);
	at = 77777777; /* beyond all there is */
	ck_assert_int_eq(dst.tell(dst.ctx, &at, half, 16), 0);
	ck_assert_uint_eq(at, 0);
	guest_pages_stat(g, &s);
	ck_assert_uint_eq(s.guests, 0);
	guest_pages_free(g);
	guest_pages_free(NULL);
}
END_TEST

/* ---- guest_ram.h ---- */

START_TEST(the_ram_is_the_mapping_of_its_length)
{
	static const char *const right[] = { "size=4104k", "4104k", "size=4202496b,slots=4,maxmem=1G" };
	uint8_t buf[RUN * MST_PAGE], want[MST_PAGE];
	struct guest_ram *r;
	struct hci_error err;
	uint64_t there;
	struct vm v;

	for (unsigned i = 0; i < ARRAY_SIZE(right); i++) {
		vm_start_with(&v, 1, right[i]);
		tell(&v, 'f', 3, 5, 9);
		ck_assert_msg(!guest_ram_open(&v.uuid, &r, &err), "%s: %s", right[i], err.message);
		ck_assert_uint_eq(guest_ram_pages(r), PAGES);
		ck_assert_int_eq(guest_ram_read(r, 0, RUN, buf, &there), 0);
		ck_assert_uint_eq(there & 0x1f, 3u << 3);
		content(want, 9, 4);
		ck_assert_mem_eq(buf + 4 * MST_PAGE, want, MST_PAGE);
		ck_assert_int_eq(guest_ram_page(r, 4, buf), 0);
		ck_assert_mem_eq(buf, want, MST_PAGE);
		ck_assert_int_eq(guest_ram_page(r, 900, buf), HCI_E_NOTFOUND);
		ck_assert_int_eq(guest_ram_page(r, PAGES, buf), HCI_E_NOTFOUND);
		ck_assert_int_eq(guest_ram_page(r, UINT64_C(1) << 36, buf), HCI_E_NOTFOUND);
		vm_end(&v);
		ck_assert_int_eq(guest_ram_page(r, 4, buf), HCI_E_NOTFOUND);
		ck_assert_int_eq(guest_ram_read(r, 0, RUN, buf, &there), HCI_E_CLOSED);
		guest_ram_close(r);
	}
	vm_start_with(&v, 1, "size=4108k");
	tell(&v, 'f', 0, 0, 0);
	ck_assert_int_eq(guest_ram_open(&v.uuid, &r, &err), HCI_E_NOTFOUND);
	ck_assert_ptr_nonnull(strstr(err.message, "no RAM"));
	v.uuid.b[3] ^= 1;
	ck_assert_int_eq(guest_ram_open(&v.uuid, &r, &err), HCI_E_NOTFOUND);
	ck_assert_ptr_nonnull(strstr(err.message, "none of the processes"));
	vm_end(&v);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("guest_pages");
	TCase *t = tcase_create("pages");

	tcase_set_timeout(t, 60);
	tcase_add_test(t, pages_of_a_guest_that_runs_here_are_found);
	tcase_add_test(t, what_only_says_that_it_is_a_qemu_is_left_alone);
	tcase_add_test(t, a_process_that_hangs_holds_up_no_end);
	tcase_add_test(t, a_read_that_hangs_holds_up_neither_the_others_nor_the_end);
	tcase_add_test(t, pages_that_change_underneath_are_never_taken_for_others);
	tcase_add_test(t, what_is_known_follows_the_guest);
	tcase_add_test(t, a_guest_that_ends_is_forgotten);
	tcase_add_test(t, memory_is_bounded);
	tcase_add_test(t, guests_whose_memory_is_not_found_are_left_alone);
	suite_add_tcase(s, t);
	t = tcase_create("ram");
	tcase_add_test(t, the_ram_is_the_mapping_of_its_length);
	suite_add_tcase(s, t);
	return s;
}

int main(int argc, char **argv)
{
	SRunner *runner;
	int failed;

	if (argc > 1 && strstr(argv[0], "qemu"))
		return be_guest();
	runner = srunner_create(suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
