/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server against a client that plays by the rules, then against those that do not. */
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "unit/export/client.h"
#include "unit/harness.h"

static uint8_t *pattern(uint32_t seed, size_t len)
{
	static uint8_t b[256 << 10];

	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		b[i] = (uint8_t)(seed >> 24) | 1;
	}
	return b;
}

static void knob_stall(void *arg)
{
	rig.ram.stall = arg != NULL;
	if (!arg)
		ram_go(&rig.ram);
}

static void knob_fail(void *arg)
{
	rig.ram.fail = *(int *)arg;
	rig.ram.fail_n = 1;
}

START_TEST(write_then_read)
{
	int fd = cl_open("disk", _i ? CL_STRUCTURED : 0);
	uint8_t got[8192];

	ck_assert_uint_eq(cl_write(fd, pattern(1, 8192), 4096, 8192), 0);
	ck_assert_uint_eq(cl_read(fd, got, 4096, 8192), 0);
	ck_assert_mem_eq(got, pattern(1, 8192), 8192);
	ck_assert_uint_eq(cl_read(fd, got, 0, 4096), 0);
	ck_assert_uint_eq(got[0], 0);
	close(fd);
}
END_TEST

/* Every offset and length around block borders, against a copy kept here. */
START_TEST(unaligned)
{
	static uint8_t model[64 << 10];
	static const uint32_t edges[] = { 0,    1,    511,  512,  4095,  4096,
					  4097, 8191, 8192, 8193, 12288, 12289 };
	uint8_t got[64 << 10];
	int fd = cl_open("disk", CL_STRUCTURED);
	uint32_t seed = 7;

	for (unsigned i = 0; i < ARRAY_SIZE(edges); i++) {
		for (unsigned j = 1; j < ARRAY_SIZE(edges); j++) {
			uint32_t off = edges[i], len = edges[j];
			bool zero = (i + j) % 3 == 0;

			memcpy(model + off, pattern(++seed, len), len);
			if (zero)
				memset(model + off, 0, len);
			if (zero)
				ck_assert_uint_eq(cl_do(fd, NBD_CMD_WRITE_ZEROES, 0, off, len), 0);
			else
				ck_assert_uint_eq(cl_write(fd, model + off, off, len), 0);
			ck_assert_uint_eq(cl_read(fd, got, 0, 32768), 0);
			ck_assert_mem_eq(got, model, 32768);
			ck_assert_uint_eq(cl_read(fd, got, off, len), 0);
			ck_assert_mem_eq(got, model + off, len);
		}
	}
	close(fd);
}
END_TEST

/* Many small writes in flight into the same few blocks: none may be lost in another's
 * read-modify-write. */
START_TEST(unaligned_overlapping)
{
	static uint8_t model[16384], got[16384];
	static struct cl_reply r;
	int fd[2] = { cl_open("disk", 0), cl_open("disk", 0) };

	for (int round = 0; round < 40; round++) {
		rig_call(knob_stall, &rig);
		for (unsigned i = 0; i < 64; i++) {
			uint32_t off = (i * 256 + (unsigned)round) % 16000, len = 200;

			memcpy(model + off, pattern(i + 100 * (unsigned)round, len), len);
			cl_request(fd[i % 2], NBD_CMD_WRITE, 0, i, off, len);
			cl_put(fd[i % 2], model + off, len);
		}
		rig_call(knob_stall, NULL);
		for (int i = 0; i < 64; i++) {
			cl_reply(fd[i % 2], &r, 0);
			ck_assert_uint_eq(r.error, 0);
		}
		ck_assert_uint_eq(cl_read(fd[0], got, 0, sizeof(got)), 0);
		ck_assert_mem_eq(got, model, sizeof(got));
	}
	close(fd[0]);
	close(fd[1]);
}
END_TEST

START_TEST(zeroes_trim_and_status)
{
	static struct cl_reply r;
	int fd = cl_open("disk", CL_STRUCTURED | CL_META);
	uint8_t b[4096];

	ck_assert_uint_eq(cl_write(fd, pattern(3, 131072), 65536, 131072), 0);
	cl_request(fd, NBD_CMD_BLOCK_STATUS, 0, 5, 0, 1 << 20);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(r.type, NBD_REPLY_BLOCK_STATUS);
	ck_assert_uint_eq(r.len, 4 + 3 * 8);
	ck_assert_uint_eq(nbd_get32(r.data), 1);
	ck_assert_uint_eq(nbd_get32(r.data + 4), 65536);
	ck_assert_uint_eq(nbd_get32(r.data + 8), NBD_STATE_HOLE | NBD_STATE_ZERO);
	ck_assert_uint_eq(nbd_get32(r.data + 12), 131072);
	ck_assert_uint_eq(nbd_get32(r.data + 16), 0);
	ck_assert_uint_eq(nbd_get32(r.data + 20), (1 << 20) - 3 * 65536);
	cl_request(fd, NBD_CMD_BLOCK_STATUS, NBD_CMD_REQ_ONE, 5, 65541, 1000);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(r.len, 4 + 8);
	ck_assert_uint_eq(nbd_get32(r.data + 4), 1000);
	ck_assert_uint_eq(nbd_get32(r.data + 8), 0);

	ck_assert_uint_eq(cl_do(fd, NBD_CMD_TRIM, 0, 65536 + 5, 65536),
			  0); /* no whole run: nothing */
	ck_assert_uint_eq(cl_read(fd, b, 65536, 4096), 0);
	ck_assert_mem_eq(b, pattern(3, 4096), 4096);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_TRIM, NBD_CMD_FUA, 65536 - 100, 65536 + 200), 0);
	cl_request(fd, NBD_CMD_BLOCK_STATUS, 0, 5, 65536, 65537);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(nbd_get32(r.data + 4), 65536);
	ck_assert_uint_eq(nbd_get32(r.data + 8), NBD_STATE_HOLE | NBD_STATE_ZERO);
	ck_assert_uint_eq(nbd_get32(r.data + 12), 1);

	ck_assert_uint_eq(cl_do(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FAST_ZERO, 0, 1 << 20), 0);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FAST_ZERO, 0, 4096), NBD_ENOTSUP);
	ck_assert_uint_eq(
		cl_do(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FAST_ZERO | NBD_CMD_NO_HOLE, 0, 1 << 20),
		NBD_ENOTSUP);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_NO_HOLE, 0, 65536), 0);
	cl_request(fd, NBD_CMD_BLOCK_STATUS, 0, 5, 0, RIG_SIZE);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(r.len, 4 + 2 * 8);
	ck_assert_uint_eq(nbd_get32(r.data + 8), 0);
	close(fd);
}
END_TEST

START_TEST(small_ones)
{
	uint8_t b[16];
	int fd = cl_open("", CL_STRUCTURED);

	ck_assert_uint_eq(cl_do(fd, NBD_CMD_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_CACHE, 0, 4096, 4096), 0);
	ck_assert_uint_eq(cl_read(fd, b, 17, 0), 0);
	ck_assert_uint_eq(cl_write(fd, b, 17, 0), 0);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_TRIM, 0, 0, 0), 0);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_WRITE_ZEROES, 0, 0, 0), 0);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_BLOCK_STATUS, 0, 0, 4096), NBD_EINVAL);
	ck_assert_uint_eq(cl_read(fd, b, RIG_SIZE - 8, 16), NBD_EINVAL);
	ck_assert_uint_eq(cl_write(fd, b, RIG_SIZE - 8, 16), NBD_ENOSPC);
	ck_assert_uint_eq(cl_do(fd, 99, 0, 0, 0), NBD_EINVAL);
	ck_assert_uint_eq(cl_write(fd, b, RIG_SIZE - 16, 16), 0);
	close(fd);
}
END_TEST

START_TEST(a_large_write_past_the_end_is_skipped)
{
	int fd = cl_open("disk", 0);
	uint8_t *big = calloc(1, 32u << 20);

	ck_assert_uint_eq(cl_write(fd, big, 4096, 32u << 20), NBD_ENOSPC);
	ck_assert_uint_eq(cl_write(fd, big, 0, 8u << 20), 0);
	ck_assert_uint_eq(cl_write(fd, big, 1, 4u << 20), 0);
	free(big);
	close(fd);
}
END_TEST

START_TEST(backend_errors_reach_the_client)
{
	static const int map[][2] = { { HCI_E_IO, NBD_EIO },
				      { HCI_E_NOSPACE, NBD_ENOSPC },
				      { HCI_E_FENCED, NBD_ESHUTDOWN } };
	uint8_t b[4096] = { 1 };
	int fd = cl_open("disk", _i ? CL_STRUCTURED : 0);

	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		int code = map[i][0];

		rig_call(knob_fail, &code);
		ck_assert_uint_eq(cl_write(fd, b, 0, 4096), (uint32_t)map[i][1]);
		rig_call(knob_fail, &code);
		ck_assert_uint_eq(cl_write(fd, b, 1, 512), (uint32_t)map[i][1]);
		rig_call(knob_fail, &code);
		ck_assert_uint_eq(cl_read(fd, b, 1, 512), (uint32_t)map[i][1]);
	}
	ck_assert_uint_eq(cl_write(fd, b, 0, 4096), 0);
	close(fd);
}
END_TEST

START_TEST(disconnect_waits_for_what_is_under_way)
{
	static struct cl_reply r;
	int fd = cl_open("disk", 0);

	rig_call(knob_stall, &rig);
	cl_request(fd, NBD_CMD_READ, 0, 9, 0, 4096);
	cl_request(fd, NBD_CMD_DISC, 0, 0, 0, 0);
	usleep(20000);
	rig_call(knob_stall, NULL);
	cl_reply(fd, &r, 4096);
	ck_assert_uint_eq(r.cookie, 9);
	ck_assert(cl_closed(fd));
	close(fd);
}
END_TEST

static bool no_conns(const struct nbd_stats *s)
{
	return s->conns == 0;
}

static bool one_conn(const struct nbd_stats *s)
{
	return s->conns == 1;
}

static bool all_asked(const struct nbd_stats *s)
{
	return s->reads == 20 && s->writes == 20;
}

static bool as_many_as_allowed(const struct nbd_stats *s)
{
	return s->inflight == 128;
}

START_TEST(a_client_that_goes_without_a_word_is_noted)
{
	struct nbd_stats s;
	int fd = cl_open("", CL_STRUCTURED);

	cl_request(fd, NBD_CMD_DISC, 0, 0, 0, 0);
	ck_assert(cl_closed(fd));
	close(fd);
	ck_assert(rig_until(no_conns));
	rig_stats(&s);
	ck_assert(!s.cut);
	close(cl_open("", CL_STRUCTURED));
	ck_assert(rig_until(no_conns));
	rig_stats(&s);
	ck_assert(s.cut);
	/* What was before the last one does not count. */
	fd = cl_open("", CL_STRUCTURED);
	rig_stats(&s);
	ck_assert(!s.cut);
	cl_request(fd, NBD_CMD_DISC, 0, 0, 0, 0);
	ck_assert(cl_closed(fd));
	close(fd);
	ck_assert(rig_until(no_conns));
	rig_stats(&s);
	ck_assert(!s.cut);
}
END_TEST

START_TEST(client_gone_with_requests_under_way)
{
	struct nbd_stats s;
	int fd = cl_open("disk", 0);
	uint8_t b[4096] = { 0 };

	rig_call(knob_stall, &rig);
	for (int i = 0; i < 20; i++) {
		cl_request(fd, NBD_CMD_READ, 0, 9, 4096 * (uint64_t)i, 4096);
		cl_request(fd, NBD_CMD_WRITE, 0, 9, 100, 512); /* all but one wait for the first */
		cl_put(fd, b, 512);
	}
	cl_request(fd, NBD_CMD_WRITE, 0, 9, 0, 1 << 20); /* and one that never comes */
	ck_assert(rig_until(all_asked));
	close(fd);
	usleep(20000);
	rig_call(knob_stall, NULL);
	ck_assert(rig_until(no_conns));
	rig_stats(&s);
	ck_assert_uint_eq(s.inflight, 0);
}
END_TEST

/* ---- exports ---- */

static void add_more(void *arg)
{
	struct nbd_export_opts o = { .name = "disk" };
	struct nbd_backend b;
	struct hci_error err;

	ram_backend(&rig.ram2, &b);
	o.backend = &b;
	ck_assert_ptr_null(nbd_export_add(rig.server, &o, &err));
	ck_assert_int_eq(err.code, HCI_E_EXISTS);
	o.name = "bad\"name";
	ck_assert_ptr_null(nbd_export_add(rig.server, &o, &err));
	ck_assert_int_eq(err.code, HCI_E_INVAL);
	o.name = "odd";
	b.size--;
	ck_assert_ptr_null(nbd_export_add(rig.server, &o, &err));
	ck_assert_int_eq(err.code, HCI_E_INVAL);
	b.size++;
	o.name = "second";
	o.read_only = true;
	*(struct nbd_export **)arg = nbd_export_add(rig.server, &o, &err);
	ck_assert_ptr_nonnull(*(struct nbd_export **)arg);
}

static void close_wait(void *arg)
{
	nbd_export_close_wait(arg);
}

START_TEST(two_exports_one_closes)
{
	struct nbd_export *second;
	int a, b, c;
	uint8_t buf[512] = { 5 };

	rig_call(add_more, &second);
	a = cl_open("disk", 0);
	b = cl_open("second", CL_STRUCTURED);
	ck_assert_uint_eq(cl_write(a, buf, 0, 512), 0);
	ck_assert_uint_eq(cl_write(b, buf, 0, 512), NBD_EPERM);
	ck_assert_uint_eq(cl_read(b, buf, 0, 512), 0);
	ck_assert_uint_eq(buf[0], 0);
	rig_fiber(close_wait, second);
	ck_assert(cl_closed(b));
	ck_assert_uint_eq(cl_read(a, buf, 0, 512), 0);
	ck_assert_uint_eq(buf[0], 5);
	c = cl_open("", 0); /* the only one left */
	close(a);
	close(b);
	close(c);
}
END_TEST

START_TEST(close_with_a_client_that_does_not_read)
{
	struct nbd_export *second;
	int fd;

	rig_call(add_more, &second);
	fd = cl_open("second", 0);
	for (int i = 0; i < 100; i++)
		cl_request(fd, NBD_CMD_READ, 0, 9, 0, 1 << 20);
	usleep(50000);
	rig_fiber(close_wait, second); /* takes the 5 s that such a client is given */
	close(fd);
}
END_TEST

/* ---- those who do not play by the rules ---- */

START_TEST(half_handshakes_do_not_shut_others_out)
{
	int fd[80], ok;

	for (int i = 0; i < 80; i++)
		fd[i] = cl_connect();
	ok = cl_open("disk", 0);
	ck_assert_uint_eq(cl_do(ok, NBD_CMD_FLUSH, 0, 0, 0), 0);
	ck_assert(cl_closed(fd[0])); /* the oldest had to go */
	close(ok);
	for (int i = 0; i < 80; i++)
		close(fd[i]);
}
END_TEST

START_TEST(handshake_timeout)
{
	struct rig_opts o;
	int slow, fd;

	rig_teardown();
	rig_defaults(&o);
	o.server.handshake_ns = 200 * NS_PER_MS;
	rig_start(&o);
	fd = cl_open("disk", 0);
	slow = cl_connect();
	cl_put(slow, "\0\0", 2);
	ck_assert(cl_closed(slow));
	usleep(300000);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_FLUSH, 0, 0, 0), 0); /* idle in transmission is fine */
	close(slow);
	close(fd);
}
END_TEST

START_TEST(connections_are_limited)
{
	struct rig_opts o;
	uint8_t b[300];
	uint32_t len = sizeof(b);
	int fd[3];

	rig_teardown();
	rig_defaults(&o);
	o.export.max_conns = 2;
	rig_start(&o);
	fd[0] = cl_open("disk", 0);
	fd[1] = cl_open("disk", 0);
	fd[2] = cl_connect();
	cl_get(fd[2], b, 18);
	cl_put(fd[2], "\0\0\0\3", 4);
	cl_option(fd[2], NBD_OPT_GO, "\0\0\0\4disk\0\0", 10);
	ck_assert_uint_eq(cl_option_reply(fd[2], NBD_OPT_GO, b, &len), NBD_REP_ERR_POLICY);
	close(fd[0]);
	ck_assert(rig_until(one_conn));
	cl_go(fd[2], "disk");
	close(fd[1]);
	close(fd[2]);
}
END_TEST

START_TEST(wrong_request_magic)
{
	int fd = cl_open("disk", 0);
	uint8_t junk[28] = { 1, 2, 3 };

	cl_put(fd, junk, sizeof(junk));
	ck_assert(cl_closed(fd));
	close(fd);
}
END_TEST

START_TEST(huge_write_hangs_up)
{
	int fd = cl_open("disk", 0);

	cl_request(fd, NBD_CMD_WRITE, 0, 1, 0, 0xfffff000);
	ck_assert(cl_closed(fd));
	close(fd);
}
END_TEST

/* Never reads a reply: its requests stop being taken, and others are served meanwhile. */
START_TEST(slow_reader_harms_only_itself)
{
	struct nbd_stats s;
	uint8_t b[NBD_REQUEST_SIZE * 64], got[4096];
	int fd = cl_open("disk", 0), other = cl_open("disk", 0);
	size_t sent = 0;

	memset(b, 0, sizeof(b));
	for (int i = 0; i < 64; i++) {
		nbd_put32(b + 28 * i, NBD_REQUEST_MAGIC);
		nbd_put16(b + 28 * i + 6, NBD_CMD_READ);
		nbd_put32(b + 28 * i + 24, 1 << 20);
	}
	for (int idle = 0; idle < 20;) {
		ssize_t n = send(fd, b + sent % sizeof(b), sizeof(b) - sent % sizeof(b),
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0) {
			sent += (size_t)n;
			idle = 0;
		} else {
			usleep(10000);
			idle++;
		}
	}
	rig_stats(&s);
	ck_assert_uint_le(s.reads, 200); /* 64 in flight, and what fits the socket buffer */
	for (int i = 0; i < 50; i++)
		ck_assert_uint_eq(cl_read(other, got, 4096, 4096), 0);
	close(fd);
	close(other);
}
END_TEST

/* Errors cost the server nothing to make: they are limited all the same. */
START_TEST(flood_of_bad_requests)
{
	uint8_t b[NBD_REQUEST_SIZE * 64];
	int fd = cl_open("disk", 0), idle = 0;
	struct nbd_stats s, t;

	memset(b, 0, sizeof(b));
	for (int i = 0; i < 64; i++) {
		nbd_put32(b + 28 * i, NBD_REQUEST_MAGIC);
		nbd_put16(b + 28 * i + 6, 77);
	}
	/* Whole requests only, or the stream is out of step: a request is less than a socket's
	 * granularity. */
	while (idle < 20) {
		struct pollfd p = { .fd = fd, .events = POLLOUT };

		if (poll(&p, 1, 10) == 1 &&
		    send(fd, b, sizeof(b), MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(b))
			idle = 0;
		else
			idle++;
	}
	rig_stats(&s);
	usleep(50000);
	rig_stats(&t);
	ck_assert_uint_eq(s.errors, t.errors); /* it has come to rest */
	close(fd);
}
END_TEST

START_TEST(many_in_flight_are_bounded)
{
	static struct cl_reply r;
	int fd = cl_open("disk", 0);

	rig_call(knob_stall, &rig);
	for (int i = 0; i < 300; i++)
		cl_request(fd, NBD_CMD_READ, 0, (uint64_t)i, 0, 512);
	ck_assert(rig_until(as_many_as_allowed));
	usleep(50000);
	ck_assert_uint_eq(rig_look().max_in_flight, 128);
	rig_call(knob_stall, NULL);
	for (int i = 0; i < 300; i++)
		cl_reply(fd, &r, 512);
	ck_assert_uint_le(rig_look().max_in_flight, 128);
	close(fd);
}
END_TEST

static void fail_nth(void *arg)
{
	mem_fail_nth(*(uint64_t *)arg);
}

/* Whatever allocation fails, the client gets an answer or the end of its connection. */
START_TEST(out_of_memory)
{
	uint8_t b[NBD_REQUEST_SIZE + 512] = { 0 }, answer[NBD_SIMPLE_SIZE];
	struct pollfd p = { .events = POLLIN };

	for (uint64_t n = 1; n < 12; n++) {
		uint64_t off = 0;
		int fd = cl_open("disk", 0);

		nbd_put32(b, NBD_REQUEST_MAGIC);
		nbd_put16(b + 6, n % 2 ? NBD_CMD_WRITE : NBD_CMD_WRITE_ZEROES);
		nbd_put64(b + 16, 100);
		nbd_put32(b + 24, 512);
		rig_call(fail_nth, &n);
		ck_assert_int_gt(send(fd, b, n % 2 ? sizeof(b) : NBD_REQUEST_SIZE, MSG_NOSIGNAL), 0);
		p.fd = fd;
		ck_assert_int_eq(poll(&p, 1, 5000), 1);
		rig_call(fail_nth, &off);
		if (recv(fd, answer, sizeof(answer), 0) == sizeof(answer))
			ck_assert(nbd_get32(answer + 4) == 0 || nbd_get32(answer + 4) == NBD_ENOMEM);
		close(fd);
		rig_call(fail_nth, &n); /* and in the next handshake */
		fd = cl_connect();
		p.fd = fd;
		send(fd, "\0\0\0\3IHAVEOPT\0\0\0\3\0\0\0", 20, MSG_NOSIGNAL);
		poll(&p, 1, 100);
		close(fd);
		rig_call(fail_nth, &off);
	}
	close(cl_open("disk", 0));
}
END_TEST

START_TEST(metrics_tell)
{
	int fd = cl_open("disk", 0);
	struct buf b = BUF_INIT;
	uint8_t buf[4096] = { 1 };

	ck_assert_uint_eq(cl_write(fd, buf, 0, 4096), 0);
	metrics_print(rig.metrics, &b);
	buf_append(&b, "", 1);
	ck_assert_ptr_nonnull(
		strstr((char *)b.data, "hci_nbd_requests_total{export=\"disk\",op=\"write\"} 1"));
	ck_assert_ptr_nonnull(
		strstr((char *)b.data, "hci_nbd_bytes_total{export=\"disk\",op=\"write\"} 4096"));
	ck_assert_ptr_nonnull(strstr((char *)b.data, "hci_nbd_connections{export=\"disk\"} 1"));
	buf_free(&b);
	close(fd);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("nbd server");
	TCase *t = tcase_create("rules"), *u = tcase_create("no rules");

	tcase_add_checked_fixture(t, rig_setup, rig_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, write_then_read, 0, 2);
	tcase_add_test(t, unaligned);
	tcase_add_test(t, unaligned_overlapping);
	tcase_add_test(t, zeroes_trim_and_status);
	tcase_add_test(t, small_ones);
	tcase_add_test(t, a_large_write_past_the_end_is_skipped);
	tcase_add_loop_test(t, backend_errors_reach_the_client, 0, 2);
	tcase_add_test(t, disconnect_waits_for_what_is_under_way);
	tcase_add_test(t, a_client_that_goes_without_a_word_is_noted);
	tcase_add_test(t, client_gone_with_requests_under_way);
	tcase_add_test(t, two_exports_one_closes);
	tcase_add_test(t, metrics_tell);
	tcase_add_test(t, out_of_memory);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(u, rig_setup, rig_teardown);
	tcase_set_timeout(u, 60);
	tcase_add_test(u, close_with_a_client_that_does_not_read);
	tcase_add_test(u, half_handshakes_do_not_shut_others_out);
	tcase_add_test(u, handshake_timeout);
	tcase_add_test(u, connections_are_limited);
	tcase_add_test(u, wrong_request_magic);
	tcase_add_test(u, huge_write_hangs_up);
	tcase_add_test(u, slow_reader_harms_only_itself);
	tcase_add_test(u, flood_of_bad_requests);
	tcase_add_test(u, many_in_flight_are_bounded);
	suite_add_tcase(s, u);
	return s;
}

HARNESS_MAIN(suite)
