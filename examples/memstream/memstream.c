/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves memory that is being written, from one process to another, by hci/memstream.h alone: what a hypervisor of one's
 * own would do with a guest.
 *
 * A thread plays the guest and changes a region all the time. userfaultfd write-protection tells which pages it wrote:
 * a write to a protected page stops the thread, is noted in a bitmap, and goes on. The main thread sends everything, then
 * round after round what was written meanwhile; when that is little it stops the guest and sends the rest. The child
 * process puts the pages where they belong, in memory that both see, and at the end every page is compared.
 *
 *	example-memstream [MEBIBYTES [WRITES_A_SECOND]]
 */
#include <errno.h>
#include <fcntl.h>
#include <hci/hci.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE HCI_MEMSTREAM_PAGE
#ifndef TRACKER_PAUSE_US
#define TRACKER_PAUSE_US 0 /* a test makes the two steps of a fault lie apart, and begins many rounds */
#define FEW 64 /* pages: stop the guest when no more are to be sent */
#define ROUNDS_MAX 50
#endif

struct guest {
	uint8_t *memory;
	uint64_t pages, *dirty; /* a bit a page */
	unsigned rate;
	/* A page is either marked in dirty and may be written, or not and is protected: what changes both holds this. */
	pthread_mutex_t lock;
	int uffd, stop, settled; /* the guest is to stop; it did, nothing faults any more */
};

static void die(const char *what, const struct hci_error *err)
{
	fprintf(stderr, "example-memstream: %s: %s\n", what, err ? err->message : strerror(errno));
	exit(1);
}

/* ---- which pages are written ---- */

static void protect(struct guest *g, uint64_t first, uint64_t n, int on)
{
	struct uffdio_writeprotect wp = { .range = { (uintptr_t)g->memory + first * PAGE, n * PAGE },
					  .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0 };

	if (ioctl(g->uffd, UFFDIO_WRITEPROTECT, &wp))
		die("write-protection", NULL);
}

/* Each write to a protected page ends up here, once. */
static void *faults(void *arg)
{
	struct guest *g = arg;
	struct pollfd p = { .fd = g->uffd, .events = POLLIN };
	struct uffd_msg m;

	while (!__atomic_load_n(&g->settled, __ATOMIC_ACQUIRE)) {
		uint64_t page;

		if (poll(&p, 1, 20) <= 0 || read(g->uffd, &m, sizeof(m)) != sizeof(m) || m.event != UFFD_EVENT_PAGEFAULT)
			continue;
		page = (m.arg.pagefault.address - (uintptr_t)g->memory) / PAGE;
		pthread_mutex_lock(&g->lock);
		g->dirty[page / 64] |= (uint64_t)1 << page % 64;
		/* A mark that is taken here, before the page may be written, would leave a page that changes and nobody knows. */
		if (TRACKER_PAUSE_US)
			usleep(TRACKER_PAUSE_US);
		protect(g, page, 1, 0); /* and the writer goes on */
		pthread_mutex_unlock(&g->lock);
	}
	return NULL;
}

static int track(struct guest *g)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register reg = { .range = { (uintptr_t)g->memory, g->pages * PAGE }, .mode = UFFDIO_REGISTER_MODE_WP };

	g->uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (g->uffd < 0 || ioctl(g->uffd, UFFDIO_API, &api) || ioctl(g->uffd, UFFDIO_REGISTER, &reg))
		return -1;
	protect(g, 0, g->pages, 1);
	return 0;
}

/*
 * Takes the marks out. A page is protected again before it is read: what the guest writes from then on marks it anew, what
 * it wrote before is read.
 */
static uint64_t take_dirty(struct guest *g, uint64_t *out)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < (g->pages + 63) / 64; i++) {
		pthread_mutex_lock(&g->lock);
		out[i] = g->dirty[i];
		g->dirty[i] = 0;
		for (uint64_t bits = out[i]; bits; bits &= bits - 1, n++)
			protect(g, i * 64 + (uint64_t)__builtin_ctzll(bits), 1, 1);
		pthread_mutex_unlock(&g->lock);
	}
	return n;
}

/* ---- the guest ---- */

static void *guest(void *arg)
{
	struct guest *g = arg;
	uint64_t x = 88172645463325252u;

	while (!__atomic_load_n(&g->stop, __ATOMIC_ACQUIRE)) {
		for (unsigned i = 0; i < g->rate / 100; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			/* Mostly counters in a few pages, now and then anywhere. */
			*(uint64_t *)(void *)(g->memory + (x >> 32) % (g->pages / (x % 8 ? 16 : 1)) * PAGE + x % 512 * 8) = x;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return NULL;
}

static void fill(struct guest *g)
{
	for (uint64_t i = 0; i < g->pages; i++)
		for (unsigned k = 0; i % 3 && k < PAGE; k += 32) /* a third are zero; some are equal */
			snprintf((char *)g->memory + i * PAGE + k, 32, "record %8u of page %7u", k, (unsigned)(i % 5 ? i : 5));
}

/* ---- the connection ---- */

/* Moves what can be moved; waits up to timeout_ms when nothing can. Returns 0 when the other side is gone. */
static int carry(hci_memstream *s, int sock, int timeout_ms)
{
	static uint8_t in[1 << 16], out[1 << 16];
	static int64_t have, sent;
	struct pollfd p[2] = { { .fd = sock, .events = POLLIN }, { .fd = hci_memstream_fd(s), .events = POLLIN } };
	struct hci_error err;
	ssize_t n;

	if (sent == have) {
		sent = 0;
		have = hci_memstream_send(s, out, sizeof(out), &err);
		if (have < 0)
			die("send", &err);
	}
	if (sent < have) {
		p[0].events |= POLLOUT;
		timeout_ms = timeout_ms ? 100 : 0;
	}
	if (poll(p, 2, timeout_ms) <= 0)
		return 1;
	if (p[0].revents & POLLOUT) {
		n = send(sock, out + sent, (size_t)(have - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			sent += n;
	}
	if (p[0].revents & (POLLIN | POLLHUP)) {
		n = recv(sock, in, sizeof(in), MSG_DONTWAIT);
		if (n == 0)
			return 0;
		if (n > 0 && hci_memstream_receive(s, in, (uint64_t)n, &err))
			die("receive", &err);
	}
	return 1;
}

/* ---- the two sides ---- */

static int sink(uint8_t *memory, uint64_t pages, int sock)
{
	struct hci_memstream_record r = { 0 };
	struct hci_memstream_opts o = HCI_MEMSTREAM_OPTS_INIT;
	struct hci_error err;
	hci_memstream *s;
	int done;

	o.workers = 1;
	if (hci_memstream_sink(&s, &o, &err))
		die("sink", &err);
	for (;;) {
		if (hci_memstream_next(s, &r, sizeof(r), &err))
			die("next", &err);
		if (r.kind == HCI_MEMSTREAM_NOTHING) {
			if (!carry(s, sock, 100)) /* the source had our last word, and left */
				break;
			continue;
		}
		if (r.kind == HCI_MEMSTREAM_IS_BYTES)
			printf("the state came: %.*s\n", (int)r.len, (const char *)r.data);
		if (r.kind != HCI_MEMSTREAM_IS_PAGE && r.kind != HCI_MEMSTREAM_IS_ZERO)
			continue;
		if (r.region != 7 || r.address / PAGE >= pages)
			die("a page that is nowhere", NULL);
		if (r.kind == HCI_MEMSTREAM_IS_PAGE)
			memcpy(memory + r.address, r.data, PAGE);
		else
			memset(memory + r.address, 0, PAGE);
	}
	done = hci_memstream_done(s);
	hci_memstream_unref(s);
	return done ? 0 : 1;
}

static void put_all(hci_memstream *s, struct guest *g, uint64_t *bitmap, int sock)
{
	struct hci_error err;

	for (;;) {
		int64_t n = hci_memstream_put_dirty(s, 7, 0, g->memory, bitmap, g->pages, &err);
		uint64_t left = 0;

		if (n < 0)
			die("put", &err);
		for (uint64_t i = 0; i < (g->pages + 63) / 64; i++)
			left |= bitmap[i];
		if (!left)
			return;
		if (!carry(s, sock, 100))
			die("the sink left", NULL);
	}
}

static void source(struct guest *g, int sock, pthread_t writer)
{
	uint64_t *bitmap = calloc((g->pages + 63) / 64, 8), n = g->pages;
	struct hci_memstream_opts o = HCI_MEMSTREAM_OPTS_INIT;
	struct hci_memstream_info info;
	struct hci_error err;
	hci_memstream *s;

	o.workers = 1;
	if (hci_memstream_source(&s, &o, &err))
		die("source", &err);
	for (uint64_t i = 0; i < g->pages; i++)
		bitmap[i / 64] |= (uint64_t)1 << i % 64;
	for (unsigned round = 0; n > FEW && round < ROUNDS_MAX; round++) {
		put_all(s, g, bitmap, sock);
		n = take_dirty(g, bitmap);
		printf("round %u: %llu pages were written meanwhile\n", round, (unsigned long long)n);
	}
	__atomic_store_n(&g->stop, 1, __ATOMIC_RELEASE);
	pthread_join(writer, NULL);
	__atomic_store_n(&g->settled, 1, __ATOMIC_RELEASE);
	put_all(s, g, bitmap, sock);
	take_dirty(g, bitmap);
	put_all(s, g, bitmap, sock);
	if (hci_memstream_put_bytes(s, "all registers", 13, &err) != 13)
		die("put bytes", &err);
	while (hci_memstream_finish(s, &err) == HCI_E_BUSY)
		carry(s, sock, 100);
	while (!hci_memstream_done(s))
		if (!carry(s, sock, 100))
			die("the sink left", NULL);
	hci_memstream_info(s, &info, sizeof(info), NULL);
	printf("%llu bytes of pages went as %llu: %llu zero, %llu repeated, %llu changed, %llu new, %llu raw\n",
	       (unsigned long long)info.stream_bytes, (unsigned long long)info.wire_bytes, (unsigned long long)info.pages_zero,
	       (unsigned long long)info.pages_same, (unsigned long long)info.pages_delta, (unsigned long long)info.pages_new,
	       (unsigned long long)info.pages_raw);
	hci_memstream_unref(s);
	free(bitmap);
}

int main(int argc, char **argv)
{
	struct guest g = { .pages = (uint64_t)(argc > 1 ? atoi(argv[1]) : 64) * 256, .rate = argc > 2 ? (unsigned)atoi(argv[2]) : 20000 };
	uint8_t *there = mmap(NULL, g.pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t differ = 0;
	pthread_t writer = 0, tracker;
	int sock[2], status;
	pid_t child;

	if (argc > 3 || (argc > 1 && atoi(argv[1]) < 1)) {
		fprintf(stderr, "usage: example-memstream [MEBIBYTES [WRITES_A_SECOND]] (default 64 20000)\n");
		return 2;
	}
	g.memory = mmap(NULL, g.pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (there == MAP_FAILED || g.memory == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, sock))
		die("memory and socket", NULL);
	child = fork();
	if (child == 0) {
		close(sock[0]);
		exit(sink(there, g.pages, sock[1]));
	}
	close(sock[1]);
	pthread_mutex_init(&g.lock, NULL);
	g.dirty = calloc((g.pages + 63) / 64, 8);
	if (!g.dirty)
		die("memory", NULL);
	fill(&g);
	if (track(&g)) {
		fprintf(stderr, "example-memstream: no userfaultfd write-protection here (Linux 5.7, CONFIG_USERFAULTFD)\n");
		return 77;
	}
	if (pthread_create(&tracker, NULL, faults, &g) || pthread_create(&writer, NULL, guest, &g))
		die("threads", NULL);
	source(&g, sock[0], writer);
	pthread_join(tracker, NULL);
	close(sock[0]);
	if (waitpid(child, &status, 0) != child || status)
		die("the sink failed", NULL);
	for (uint64_t i = 0; i < g.pages; i++)
		differ += !!memcmp(g.memory + i * PAGE, there + i * PAGE, PAGE);
	printf("%llu pages compared, %llu differ\n", (unsigned long long)g.pages, (unsigned long long)differ);
	free(g.dirty);
	return differ ? 1 : 0;
}
