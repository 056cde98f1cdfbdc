/* SPDX-License-Identifier: Apache-2.0 */
/* Records: every type round-trips, limits hold both ways, strangers' bytes are told apart, keys. */
#include "store/records.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/pack.h"
#include "base/uuid.h"
#include "record_samples.h"
#include "unit/harness.h"

START_TEST(every_type_round_trips)
{
	for (unsigned i = 0; i < REC_TYPES; i++) {
		const struct rec_type *t = rec_type_at(i);

		for (int full = 0; full < 2; full++) {
			void *in = mem_zalloc(rec_size(t)), *out = mem_alloc(rec_size(t));
			struct buf b = BUF_INIT;
			struct hci_error err;

			sample_fill(t, in, full);
			memset(out, 0xff, rec_size(t));
			ck_assert_msg(rec_encode(t, in, &b, &err) == 0, "%s", err.message);
			ck_assert_msg(rec_decode(t, b.data, b.len, out, &err) == 0, "%s",
				      err.message);
			ck_assert_msg(memcmp(in, out, rec_size(t)) == 0, "%s", rec_type_name(t));
			buf_free(&b);
			mem_free(in);
			mem_free(out);
		}
	}
	ck_assert_ptr_null(rec_type_at(REC_TYPES));
}
END_TEST

/* They become part of a domain's description. */
START_TEST(interfaces_of_vms_are_valid)
{
	static const char *const macs[] = { "", "02:00:00:00:00:0A", "03:00:00:00:00:01", "02:00:00:00:00" };
	static const char *const bridges[] = { "", "a'b", ".." };
	struct rec_vm *r = mem_zalloc(sizeof(*r));
	struct buf b = BUF_INIT;

	sample_fill(&rec_vm_type, r, 0);
	ck_assert_int_eq(rec_encode(&rec_vm_type, r, &b, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(macs); i++) {
		sample_fill(&rec_vm_type, r, 0);
		strcpy(r->nics[0].mac, macs[i]);
		ck_assert_int_eq(rec_encode(&rec_vm_type, r, &b, NULL), HCI_E_INVAL);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bridges); i++) {
		sample_fill(&rec_vm_type, r, 0);
		strcpy(r->nics[0].bridge, bridges[i]);
		ck_assert_int_eq(rec_encode(&rec_vm_type, r, &b, NULL), HCI_E_INVAL);
	}
	sample_fill(&rec_vm_type, r, 0);
	r->nics[0].mtu = REC_MTU_MIN - 1;
	ck_assert_int_eq(rec_encode(&rec_vm_type, r, &b, NULL), HCI_E_INVAL);
	buf_free(&b);
	mem_free(r);
}
END_TEST

START_TEST(usb_devices_of_vms_are_valid)
{
	static const char *const bad[] = { "", "tcp:", "tcp:4000", "tcp:host", "tcp:host:", "tcp:host:0", "tcp:host:04", "tcp:host:65536",
					   "tcp:host:40x", "tcp::4000x", "udp:host:1", "unix:", "unix:relative", "/path" };
	static const char *const good[] = { "tcp:host:1", "tcp:[::1]:65535", "unix:/p" };
	struct rec_vm *r = mem_zalloc(sizeof(*r));
	char longest[128];
	struct buf b = BUF_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_msg(rec_usb_server(good[i]), "%s", good[i]);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(!rec_usb_server(bad[i]), "%s", bad[i]);
		sample_fill(&rec_vm_type, r, 0);
		strcpy(r->usb[0].server, bad[i]);
		ck_assert_int_eq(rec_encode(&rec_vm_type, r, &b, NULL), HCI_E_INVAL);
	}
	snprintf(longest, sizeof(longest), "unix:/%0106d", 0);
	ck_assert(rec_usb_server(longest));
	snprintf(longest, sizeof(longest), "unix:/%0107d", 0);
	ck_assert(!rec_usb_server(longest));
	sample_fill(&rec_vm_type, r, 1);
	strcpy(r->usb[1].name, r->usb[0].name);
	ck_assert_int_eq(rec_encode(&rec_vm_type, r, &b, NULL), HCI_E_INVAL);
	buf_free(&b);
	mem_free(r);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
	for (unsigned i = 0; i < REC_TYPES; i++) {
		const struct rec_type *t = rec_type_at(i);
		void *rec = mem_zalloc(rec_size(t));
		struct buf b = BUF_INIT;

		sample_fill(t, rec, 1);
		ck_assert_int_eq(rec_encode(t, rec, &b, NULL), 0);
		for (size_t n = 0; n < b.len; n++) {
			void *cut =
				mem_alloc(n ? n : 1); /* of its own, so that ASan sees the end */

			memcpy(cut, b.data, n);
			ck_assert_int_eq(rec_decode(t, cut, n, rec, NULL), HCI_E_CORRUPT);
			mem_free(cut);
		}
		buf_append(&b, "x", 1);
		ck_assert_int_eq(rec_decode(t, b.data, b.len, rec, NULL), HCI_E_CORRUPT);
		buf_free(&b);
		mem_free(rec);
	}
}
END_TEST

/* Whatever decodes must encode, and mean the same. */
START_TEST(changed_bytes_are_refused_or_within_limits)
{
	uint32_t seed = 1;

	for (unsigned i = 0; i < REC_TYPES; i++) {
		const struct rec_type *t = rec_type_at(i);
		void *rec = mem_zalloc(rec_size(t)), *again = mem_zalloc(rec_size(t));
		struct buf b = BUF_INIT, c = BUF_INIT;

		sample_fill(t, rec, 0);
		ck_assert_int_eq(rec_encode(t, rec, &b, NULL), 0);
		for (unsigned n = 0; n < 3000; n++) {
			size_t at = (seed = seed * 1103515245u + 12345u) % b.len;
			uint8_t old = b.data[at];

			b.data[at] = (uint8_t)((seed = seed * 1103515245u + 12345u) >> 16);
			if (rec_decode(t, b.data, b.len, rec, NULL) == 0) {
				buf_reset(&c);
				ck_assert_int_eq(rec_encode(t, rec, &c, NULL), 0);
				ck_assert_int_eq(rec_decode(t, c.data, c.len, again, NULL), 0);
				ck_assert_mem_eq(rec, again, rec_size(t));
			}
			b.data[at] = old;
		}
		buf_free(&b);
		buf_free(&c);
		mem_free(rec);
		mem_free(again);
	}
}
END_TEST

static int decode_volname(void (*fill)(struct buf *b), struct hci_error *err)
{
	struct rec_volname r;
	struct buf b = BUF_INIT;
	int rc;

	fill(&b);
	rc = rec_volname_decode(b.data, b.len, &r, err);
	buf_free(&b);
	return rc;
}

static const struct uuid some = { { 1, 2, 3 } };

static void newer(struct buf *b)
{
	pk_map(b, 2);
	pk_kv_u64(b, "v", REC_VERSION + 1);
	pk_kv_str(b, "uuid", "may be anything now");
}

static void more_keys(struct buf *b)
{
	pk_map(b, 4);
	pk_kv_u64(b, "v", 1);
	pk_str(b, "later");
	pk_map(b, 1);
	pk_str(b, "deep");
	pk_array(b, 2);
	pk_nil(b);
	pk_bool(b, true);
	pk_kv_uuid(b, "uuid", &some);
	pk_kv_str(b, "even later", "x");
}

static void key_twice(struct buf *b)
{
	pk_map(b, 3);
	pk_kv_u64(b, "v", 1);
	pk_kv_uuid(b, "uuid", &some);
	pk_kv_uuid(b, "uuid", &some);
}

static void key_missing(struct buf *b)
{
	pk_map(b, 1);
	pk_kv_u64(b, "v", 1);
}

static void version_missing(struct buf *b)
{
	pk_map(b, 1);
	pk_kv_uuid(b, "uuid", &some);
}

static void version_zero(struct buf *b)
{
	pk_map(b, 2);
	pk_kv_u64(b, "v", 0);
	pk_kv_uuid(b, "uuid", &some);
}

static void wrong_type(struct buf *b)
{
	pk_map(b, 2);
	pk_kv_u64(b, "v", 1);
	pk_kv_u64(b, "uuid", 5);
}

START_TEST(versions_and_keys)
{
	struct hci_error err;

	ck_assert_int_eq(decode_volname(newer, &err), HCI_E_VERSION);
	ck_assert_ptr_nonnull(strstr(err.message, "newer"));
	ck_assert_int_eq(decode_volname(more_keys, &err), 0);
	ck_assert_int_eq(decode_volname(key_twice, &err), HCI_E_CORRUPT);
	ck_assert_ptr_nonnull(strstr(err.message, "uuid"));
	ck_assert_int_eq(decode_volname(key_missing, &err), HCI_E_CORRUPT);
	ck_assert_ptr_nonnull(strstr(err.message, "uuid"));
	ck_assert_int_eq(decode_volname(version_missing, &err), HCI_E_CORRUPT);
	ck_assert_int_eq(decode_volname(version_zero, &err), HCI_E_CORRUPT);
	ck_assert_int_eq(decode_volname(wrong_type, &err), HCI_E_CORRUPT);
}
END_TEST

static void refused(const struct rec_volume *v, const char *field)
{
	struct buf b = BUF_INIT;
	struct hci_error err;

	ck_assert_int_eq(rec_encode(&rec_volume_type, v, &b, &err), HCI_E_INVAL);
	ck_assert_msg(strstr(err.message, field) != NULL, "%s", err.message);
	ck_assert_uint_eq(b.len, 0);
	buf_free(&b);
}

START_TEST(limits_hold_when_encoding)
{
	struct rec_volume good, v;

	memset(&good, 0, sizeof(good));
	sample_fill(&rec_volume_type, &good, 1);
	v = good;
	v.segment_size = 3 * MiB;
	refused(&v, "power of two");
	v = good;
	v.segment_size = REC_SEGMENT_MAX * 2;
	refused(&v, "segment");
	v = good;
	v.segment_size = REC_SEGMENT_MIN / 2;
	refused(&v, "segment");
	v = good;
	v.replicas = 0;
	refused(&v, "replicas");
	v = good;
	v.replicas = REC_REPLICAS_MAX + 1;
	refused(&v, "replicas");
	v = good;
	v.size = 4097;
	refused(&v, "block size");
	v = good;
	v.size = 0;
	refused(&v, "size");
	v = good;
	memset(v.name, 'x', sizeof(v.name));
	refused(&v, "name");
	v = good;
	snprintf(v.name, sizeof(v.name), "../etc");
	refused(&v, "name");
	v = good;
	v.name[0] = '\0';
	refused(&v, "name");
	v = good;
	memset(&v.state, 0x77, sizeof(v.state));
	refused(&v, "state");
	v = good;
	v.policy[0] = '\0'; /* the pool's */
	ck_assert_int_eq(rec_volume_encode(&v, &(struct buf){ .failed = true }), HCI_E_NOMEM);
}
END_TEST

START_TEST(volmap_has_each_disk_once)
{
	struct rec_volmap *m = mem_zalloc(sizeof(*m));
	struct buf b = BUF_INIT;

	m->n = REC_VOLMAP_CHUNK;
	for (uint32_t i = 0; i < m->n; i++) {
		m->seg[i].n = 3;
		for (uint32_t j = 0; j < 3; j++)
			m->seg[i].r[j].disk.b[0] = (uint8_t)((i + j) % 6 + 1);
	}
	ck_assert_int_eq(rec_volmap_encode(m, &b), 0);
	ck_assert_uint_lt(b.len, 6 * 16 + 256 * 4 + 64);
	m->n = REC_VOLMAP_CHUNK + 1;
	ck_assert_int_eq(rec_volmap_encode(m, &b), HCI_E_INVAL);
	m->n = 1;
	m->seg[0].n = REC_COPIES_MAX + 1;
	ck_assert_int_eq(rec_volmap_encode(m, &b), HCI_E_INVAL);
	buf_free(&b);
	mem_free(m);
}
END_TEST

START_TEST(keys_are_built_and_taken_apart)
{
	char key[REC_KEY], long_name[HCI_NAME_MAX];
	struct uuid u, v;
	uint32_t chunk = 0;

	ck_assert(uuid_parse("0123abcd-4567-489a-bcde-f0123456789a", &u));
	key_volume(key, &u);
	ck_assert_str_eq(key, "volume/0123abcd-4567-489a-bcde-f0123456789a");
	ck_assert(key_parse_uuid(key, PREFIX_VOLUME, &v) && uuid_eq(&u, &v));
	ck_assert(!key_parse_uuid(key, PREFIX_DISK, &v));
	key_volmap(key, &u, 0x1234ab);
	ck_assert_str_eq(key, "volmap/0123abcd-4567-489a-bcde-f0123456789a/001234ab");
	ck_assert(key_parse_volmap(key, &v, &chunk) && uuid_eq(&u, &v) && chunk == 0x1234ab);
	key[strlen(key) - 1] = 'x';
	ck_assert(!key_parse_volmap(key, &v, &chunk));
	key[strlen(key) - 1] = '\0';
	ck_assert(!key_parse_volmap(key, &v, &chunk));
	key_volmap_prefix(key, &u);
	ck_assert_str_eq(key, "volmap/0123abcd-4567-489a-bcde-f0123456789a/");
	memset(long_name, 'n', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	key_vmrun(key, long_name);
	ck_assert_str_eq(key_tail(key, PREFIX_VMRUN), long_name);
	ck_assert_ptr_null(key_tail(key, PREFIX_VM));
}
END_TEST

START_TEST(enum_names)
{
	ck_assert_str_eq(rec_disk_state_name(REC_DISK_EVACUATING), "evacuating");
	ck_assert_str_eq(rec_job_state_name(REC_JOB_CANCELLED), "cancelled");
	ck_assert_str_eq(rec_vm_wanted_name((enum rec_vm_wanted)99), "?");
	ck_assert_int_eq(rec_disk_class_parse("nvme"), REC_DISK_NVME);
	ck_assert_int_eq(rec_disk_role_parse("spare"), REC_DISK_SPARE);
	ck_assert_int_eq(rec_on_full_parse("fail"), REC_FULL_FAIL);
	ck_assert_int_eq(rec_on_full_parse("Fail"), -1);
}
END_TEST

START_TEST(out_of_memory_while_encoding)
{
	struct rec_volmap *m = mem_zalloc(sizeof(*m));

	sample_fill(&rec_volmap_type, m, 1);
	FOR_EACH_ALLOC_FAILURE(n) {
		struct buf b = BUF_INIT;
		int rc = rec_volmap_encode(m, &b);

		ck_assert(rc == 0 || rc == HCI_E_NOMEM);
		buf_free(&b);
	}
	mem_free(m);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("store/records");
	TCase *tc = tcase_create("records");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, every_type_round_trips);
	tcase_add_test(tc, interfaces_of_vms_are_valid);
	tcase_add_test(tc, usb_devices_of_vms_are_valid);
	tcase_add_test(tc, every_truncation_is_refused);
	tcase_add_test(tc, changed_bytes_are_refused_or_within_limits);
	tcase_add_test(tc, versions_and_keys);
	tcase_add_test(tc, limits_hold_when_encoding);
	tcase_add_test(tc, volmap_has_each_disk_once);
	tcase_add_test(tc, keys_are_built_and_taken_apart);
	tcase_add_test(tc, enum_names);
	tcase_add_test(tc, out_of_memory_while_encoding);
	suite_add_tcase(s, tc);
	return s;
}

HARNESS_MAIN(make_suite)
