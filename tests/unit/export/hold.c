/* SPDX-License-Identifier: Apache-2.0 */
/* Holding an export and resuming it, on the same backend and on another: what live migration stands
 * on. */
#include <unistd.h>

#include "unit/export/client.h"
#include "unit/harness.h"

static struct hci_error err;
static int result;

static void hold(void *arg)
{
	(void)arg;
	nbd_export_hold(rig.export);
}

/* arg: the RAM disk to go on with, or NULL for the same backend. */
static void resume(void *arg)
{
	struct nbd_backend b;

	if (arg)
		ram_backend(arg, &b);
	result = nbd_export_resume(rig.export, arg ? &b : NULL, &err);
}

static void hold_writes(void *arg)
{
	(void)arg;
	nbd_export_hold_writes(rig.export);
}

static void allow_writes(void *arg)
{
	(void)arg;
	nbd_export_allow_writes(rig.export);
}

static void stall(void *arg)
{
	rig.ram.stall = arg != NULL;
	if (!arg)
		ram_go(&rig.ram);
}

static void fence(void *arg)
{
	rig.ram.fail = HCI_E_FENCED;
	rig.ram.fail_n = arg ? 1000000 : 0;
}

static void drain(void *arg)
{
	(void)arg;
	nbd_export_drain(rig.export);
}

static bool one_parked(const struct nbd_stats *s)
{
	return s->parked == 1;
}

static bool three_parked(const struct nbd_stats *s)
{
	return s->parked == 3;
}

static bool two_parked(const struct nbd_stats *s)
{
	return s->parked == 2;
}

static bool one_at_backend(const struct nbd_stats *s)
{
	return s->inflight == 1;
}

static bool asked_twice(const struct nbd_stats *s)
{
	return s->reads + s->writes == 2;
}

static bool three_writes(const struct nbd_stats *s)
{
	return s->writes == 3;
}

static bool asked_six_times(const struct nbd_stats *s)
{
	return s->reads + s->writes == 6;
}

static uint8_t b[8192], got[8192];
static struct cl_reply r;

static void start(bool hold_on_fence, bool without_backend)
{
	struct rig_opts o;

	rig_teardown();
	rig_defaults(&o);
	o.export.hold_on_fence = hold_on_fence;
	if (without_backend)
		o.export.size = RIG_SIZE;
	rig_start(&o);
}

START_TEST(held_requests_run_after_resume)
{
	int fd = cl_open("disk", CL_STRUCTURED);

	rig_call(hold, NULL);
	memset(b, 7, sizeof(b));
	cl_request(fd, NBD_CMD_WRITE, 0, 1, 100, 5000);
	cl_put(fd, b, 5000);
	ck_assert(rig_until(one_parked));
	ck_assert_uint_eq(rig_look().writes, 0);
	ck_assert_uint_eq(rig_look().told, 1);
	ck_assert_int_eq(rig_look().told_status, 0);
	rig_call(resume, NULL);
	ck_assert_int_eq(result, 0);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(r.error, 0);
	ck_assert_uint_eq(cl_read(fd, got, 100, 5000), 0);
	ck_assert_mem_eq(got, b, 5000);
	close(fd);
}
END_TEST

START_TEST(handshake_works_without_a_backend)
{
	int fd;

	start(false, true);
	fd = cl_open("disk", CL_STRUCTURED | CL_META);
	cl_request(fd, NBD_CMD_READ, 0, 1, 0, 4096);
	cl_request(fd, NBD_CMD_BLOCK_STATUS, 0, 2, 0, 4096);
	ck_assert(rig_until(two_parked));
	rig_call(resume, NULL);
	ck_assert_int_eq(result, HCI_E_STATE);
	rig_call(resume, &rig.ram);
	ck_assert_int_eq(result, 0);
	for (int i = 0; i < 2; i++) {
		cl_reply(fd, &r, 0);
		ck_assert_uint_eq(r.error, 0);
	}
	close(fd);
}
END_TEST

/* Nobody takes it for a guest's first request, and it does not wait; what is written does. */
START_TEST(a_flush_in_a_hold_is_answered)
{
	int fd;

	start(false, true);
	fd = cl_open("disk", 0);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_FLUSH, 0, 0, 0), 0);
	rig_call(resume, &rig.ram); /* and through the loop */
	ck_assert_uint_eq(rig_look().told, 0);
	rig_call(hold, NULL);
	cl_request(fd, NBD_CMD_WRITE, 0, 1, 10, 100);
	cl_put(fd, b, 100);
	ck_assert(rig_until(one_parked));
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_FLUSH, 0, 0, 0), 0);
	rig_call(drain, NULL);
	ck_assert_uint_eq(rig_look().told, 1);
	rig_call(resume, NULL);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(r.error, 0);
	close(fd);
}
END_TEST

START_TEST(moves_to_another_backend)
{
	int fd = cl_open("disk", 0);

	memset(b, 1, sizeof(b));
	ck_assert_uint_eq(cl_write(fd, b, 0, 4096), 0);
	rig_call(hold, NULL);
	rig_fiber(drain, NULL);
	memset(rig.ram2.mem, 2, 4096);
	cl_request(fd, NBD_CMD_READ, 0, 1, 0, 4096);
	ck_assert(rig_until(one_parked));
	rig_call(resume, &rig.ram2);
	cl_reply(fd, &r, 4096);
	ck_assert_uint_eq(r.data[17], 2);
	close(fd);
}
END_TEST

START_TEST(other_backend_only_after_drain)
{
	int fd = cl_open("disk", 0);

	rig_call(stall, &rig);
	cl_request(fd, NBD_CMD_READ, 0, 1, 0, 4096);
	ck_assert(rig_until(one_at_backend));
	rig_call(hold, NULL);
	rig_call(resume, &rig.ram2);
	ck_assert_int_eq(result, HCI_E_BUSY);
	rig_call(stall, NULL);
	rig_fiber(drain, NULL);
	rig_call(resume, &rig.ram2);
	ck_assert_int_eq(result, 0);
	cl_reply(fd, &r, 4096);
	close(fd);
}
END_TEST

START_TEST(fenced_requests_wait_for_the_next_backend)
{
	int fd;

	start(true, false);
	fd = cl_open("disk", 0);
	rig_call(fence, &rig);
	memset(b, 9, sizeof(b));
	cl_request(fd, NBD_CMD_WRITE, 0, 1, 4000, 200);
	cl_put(fd, b, 200);
	cl_request(fd, NBD_CMD_WRITE, 0, 2, 8192, 4096);
	cl_put(fd, b, 4096);
	cl_request(fd, NBD_CMD_READ, 0, 3, 65536, 512);
	ck_assert(rig_until(three_parked));
	ck_assert_uint_eq(rig_look().told, 1);
	ck_assert_int_eq(rig_look().told_status, HCI_E_FENCED);
	memset(rig.ram2.mem, 3, 16384);
	rig_call(resume, &rig.ram2);
	ck_assert_int_eq(result, 0);
	for (int i = 0; i < 3; i++) {
		cl_reply(fd, &r, 0);
		ck_assert_uint_eq(r.error, 0);
		if (r.cookie == 3)
			cl_get(fd, got, 512);
	}
	ck_assert_uint_eq(rig.ram2.mem[3999], 3);
	ck_assert_uint_eq(rig.ram2.mem[4000], 9);
	ck_assert_uint_eq(rig.ram2.mem[4199], 9);
	ck_assert_uint_eq(rig.ram2.mem[4200], 3);
	ck_assert_uint_eq(rig.ram2.mem[8192], 9);
	close(fd);
}
END_TEST

START_TEST(fenced_again_after_resume)
{
	int fd;

	start(true, false);
	fd = cl_open("disk", 0);
	rig_call(fence, &rig);
	cl_request(fd, NBD_CMD_READ, 0, 1, 0, 4096);
	ck_assert(rig_until(one_parked));
	rig_call(resume, NULL);
	ck_assert(rig_until(one_parked));
	usleep(20000);
	ck_assert_uint_eq(rig_look().told, 2);
	rig_call(fence, NULL);
	rig_call(resume, NULL);
	cl_reply(fd, &r, 4096);
	ck_assert_uint_eq(r.error, 0);
	close(fd);
}
END_TEST

static void fail_held(void *arg)
{
	(void)arg;
	nbd_export_fail_held(rig.export, HCI_E_CLOSED);
}

START_TEST(held_requests_can_be_failed)
{
	int fd = cl_open("disk", 0);

	rig_call(hold, NULL);
	/* Three that overlap: only the first is parked, the others wait for it. */
	for (uint64_t i = 0; i < 3; i++) {
		cl_request(fd, NBD_CMD_WRITE, 0, i, 10, 100);
		cl_put(fd, b, 100);
	}
	ck_assert(rig_until(three_writes));
	ck_assert(rig_until(one_parked));
	rig_call(fail_held, NULL);
	for (int i = 0; i < 3; i++) {
		cl_reply(fd, &r, 0);
		ck_assert_uint_eq(r.error, NBD_ESHUTDOWN);
	}
	rig_call(resume, NULL);
	ck_assert_uint_eq(cl_write(fd, b, 10, 100), 0);
	close(fd);
}
END_TEST

static bool none(const struct nbd_stats *s)
{
	return !s->conns && !s->parked;
}

START_TEST(client_gone_while_held)
{
	int fd = cl_open("disk", 0);

	rig_call(hold, NULL);
	for (uint64_t i = 0; i < 5; i++) {
		cl_request(fd, NBD_CMD_WRITE, 0, i, 10 * i, 100);
		cl_put(fd, b, 100);
	}
	cl_request(fd, NBD_CMD_READ, 0, 9, 0, 4096);
	ck_assert(rig_until(asked_six_times));
	close(fd);
	ck_assert(rig_until(none));
	rig_call(resume, NULL);
	fd = cl_open("disk", 0);
	ck_assert_uint_eq(cl_write(fd, b, 10, 100), 0);
	close(fd);
}
END_TEST

static void drop(void *arg)
{
	(void)arg;
	nbd_export_drop(rig.export);
}

START_TEST(dropped_clients_get_no_answer)
{
	int fd = cl_open("disk", 0);

	rig_call(stall, &rig);
	cl_request(fd, NBD_CMD_READ, 0, 1, 0, 4096); /* at the backend */
	ck_assert(rig_until(one_at_backend));
	rig_call(hold, NULL);
	cl_request(fd, NBD_CMD_WRITE, 0, 2, 10, 100); /* parked */
	cl_put(fd, b, 100);
	ck_assert(rig_until(one_parked));
	rig_call(drop, NULL);
	ck_assert(cl_closed(fd));
	close(fd);
	rig_call(stall, NULL);
	ck_assert(rig_until(none));
	fd = cl_open("disk", 0);
	rig_call(resume, NULL);
	ck_assert_uint_eq(cl_write(fd, b, 10, 100), 0);
	close(fd);
}
END_TEST

START_TEST(closing_while_held)
{
	int fd = cl_open("disk", 0);

	rig_call(hold, NULL);
	cl_request(fd, NBD_CMD_WRITE, 0, 1, 10, 100);
	cl_put(fd, b, 100);
	cl_request(fd, NBD_CMD_READ, 0, 1, 0, 4096);
	ck_assert(rig_until(asked_twice));
	/* The teardown closes it; the client gets its answers from there. */
	rig_teardown();
	cl_reply(fd, &r, 4096);
	ck_assert_uint_eq(r.error, NBD_ESHUTDOWN);
	cl_reply(fd, &r, 4096);
	ck_assert_uint_eq(r.error, NBD_ESHUTDOWN);
	ck_assert(cl_closed(fd));
	close(fd);
	rig_setup();
}
END_TEST

/* What changes the disk waits, what reads or flushes it does not; told once. */
START_TEST(held_writes_wait_and_reads_do_not)
{
	struct nbd_stats s;
	int fd = cl_open("disk", 0);

	memset(b, 3, sizeof(b));
	ck_assert_uint_eq(cl_write(fd, b, 0, 4096), 0);
	rig_call(hold_writes, NULL);
	rig_call(hold_writes, NULL);
	ck_assert_uint_eq(cl_read(fd, got, 0, 4096), 0);
	ck_assert_uint_eq(cl_do(fd, NBD_CMD_FLUSH, 0, 0, 0), 0);
	ck_assert_uint_eq(rig_look().told_writes, 0);
	memset(b, 4, sizeof(b));
	cl_request(fd, NBD_CMD_WRITE, 0, 1, 100, 100); /* reads its block first, when it may */
	cl_put(fd, b, 100);
	cl_request(fd, NBD_CMD_WRITE_ZEROES, 0, 2, 8192, 4096);
	cl_request(fd, NBD_CMD_TRIM, 0, 3, 1 * MiB, 1 * MiB);
	ck_assert(rig_until(three_parked));
	rig_stats(&s);
	ck_assert(s.writes_held && !s.held);
	ck_assert_uint_eq(rig_look().writes, 1);
	ck_assert_uint_eq(rig_look().told_writes, 1);
	ck_assert_uint_eq(rig_look().told, 0);
	ck_assert_uint_eq(cl_read(fd, got, 0, 4096), 0);
	ck_assert_uint_eq(got[100], 3);
	rig_call(allow_writes, NULL);
	for (int i = 0; i < 3; i++) {
		cl_reply(fd, &r, 0);
		ck_assert_uint_eq(r.error, 0);
	}
	ck_assert_uint_eq(cl_read(fd, got, 0, 4096), 0);
	ck_assert_uint_eq(got[100], 4);
	rig_stats(&s);
	ck_assert(!s.writes_held && !s.parked);
	close(fd);
}
END_TEST

/* A hold that comes and goes meanwhile, with another backend, does not let them through; nor does their permission end the hold. */
START_TEST(held_writes_wait_through_a_hold)
{
	int fd = cl_open("disk", CL_STRUCTURED);

	rig_call(hold_writes, NULL);
	cl_request(fd, NBD_CMD_WRITE, 0, 1, 0, 4096);
	cl_put(fd, b, 4096);
	ck_assert(rig_until(one_parked));
	rig_call(hold, NULL);
	rig_fiber(drain, NULL);
	rig_call(resume, &rig.ram2);
	ck_assert_int_eq(result, 0);
	ck_assert_uint_eq(cl_read(fd, got, 0, 4096), 0);
	ck_assert(rig_until(one_parked));
	rig_call(hold, NULL);
	rig_call(allow_writes, NULL);
	cl_request(fd, NBD_CMD_READ, 0, 2, 0, 4096);
	ck_assert(rig_until(two_parked));
	rig_call(resume, NULL);
	for (int i = 0; i < 2; i++) {
		cl_reply(fd, &r, 0);
		ck_assert_uint_eq(r.error, 0);
	}
	ck_assert_uint_eq(rig_look().told_writes, 1);
	close(fd);
}
END_TEST

START_TEST(client_gone_while_its_writes_are_held)
{
	int fd = cl_open("disk", 0);

	rig_call(hold_writes, NULL);
	cl_request(fd, NBD_CMD_WRITE, 0, 1, 0, 4096);
	cl_put(fd, b, 4096);
	ck_assert(rig_until(one_parked));
	close(fd);
	ck_assert(rig_until(none));
	fd = cl_open("disk", 0);
	cl_request(fd, NBD_CMD_WRITE, 0, 2, 0, 4096);
	cl_put(fd, b, 4096);
	ck_assert(rig_until(one_parked));
	rig_call(allow_writes, NULL);
	cl_reply(fd, &r, 0);
	ck_assert_uint_eq(r.error, 0);
	close(fd);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("nbd hold");
	TCase *t = tcase_create("hold");

	tcase_add_checked_fixture(t, rig_setup, rig_teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, held_requests_run_after_resume);
	tcase_add_test(t, handshake_works_without_a_backend);
	tcase_add_test(t, a_flush_in_a_hold_is_answered);
	tcase_add_test(t, moves_to_another_backend);
	tcase_add_test(t, other_backend_only_after_drain);
	tcase_add_test(t, fenced_requests_wait_for_the_next_backend);
	tcase_add_test(t, fenced_again_after_resume);
	tcase_add_test(t, held_requests_can_be_failed);
	tcase_add_test(t, client_gone_while_held);
	tcase_add_test(t, dropped_clients_get_no_answer);
	tcase_add_test(t, closing_while_held);
	tcase_add_test(t, held_writes_wait_and_reads_do_not);
	tcase_add_test(t, held_writes_wait_through_a_hold);
	tcase_add_test(t, client_gone_while_its_writes_are_held);
	suite_add_tcase(s, t);
	return s;
}

HARNESS_MAIN(suite)
