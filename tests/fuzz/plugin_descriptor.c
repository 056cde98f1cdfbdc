/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a plugin can hand to libhci. The first byte chooses:
 *	0  a descriptor, its texts and operations, in memory of exactly the length that may be read
 *	1  the file, as far as it is looked at before it is mapped
 *	2  the answer to a placement request: choices, scores, reasons, what it said with fail()
 *	3  the answer to a scheduler request
 * What is let through must be what policy.h promises.
 */
#include <elf.h>
#include <link.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/names.h"
#include "policy/policy_impl.h"

#define CHECK(x)                 \
	do {                     \
		if (!(x))        \
			abort(); \
	} while (0)

static const uint8_t *in;
static size_t left;

/* As much as there is, zeroes after it. */
static void take(void *out, size_t n)
{
	size_t k = MIN(n, left);

	memset(out, 0, n);
	memcpy(out, in, k);
	in += k;
	left -= k;
}

static uint8_t take_byte(void)
{
	uint8_t b;

	take(&b, 1);
	return b;
}

static void *exactly(const void *data, size_t n)
{
	void *p = malloc(n ? n : 1);

	CHECK(p);
	memcpy(p, data, n);
	return p;
}

static void refused_well(int rc, const struct hci_error *err)
{
	CHECK(rc == HCI_E_PLUGIN && err->code == rc);
	CHECK(memchr(err->message, 0, sizeof(err->message)) && strstr(err->message, "plugin"));
}

static void clean(const char *text, size_t cap)
{
	CHECK(memchr(text, 0, cap));
	for (; *text; text++)
		CHECK((unsigned char)*text >= 0x20 && *text != 0x7f);
}

/* ---- descriptor ---- */

/* NULL, or a text that ends with a NUL or after HCI_NAME_MAX bytes. */
static char *take_name(void)
{
	char text[HCI_NAME_MAX];
	uint8_t n = take_byte();

	if (n == 0xff)
		return NULL;
	memset(text, 'n', sizeof(text));
	take(text, MIN(n, sizeof(text)));
	if (n < sizeof(text))
		text[n] = '\0';
	return exactly(text, MIN(strnlen(text, sizeof(text)) + 1, sizeof(text)));
}

static void *take_ops(void)
{
	uint8_t ops[MAX(sizeof(struct hci_placement_ops), sizeof(struct hci_scheduler_ops))];
	uint32_t size;

	if (take_byte() == 0xff)
		return NULL;
	take(ops, sizeof(ops));
	memcpy(&size, ops, sizeof(size));
	/* No more is read of a table whose size is refused. */
	if (size > PLUGIN_STRUCT_MAX)
		size = 4;
	return exactly(ops, MAX(MIN(size, sizeof(ops)), sizeof(size)));
}

static void descriptor(void)
{
	struct policy *p = mem_zalloc(sizeof(*p));
	struct hci_plugin d;
	size_t readable = take_byte();
	struct hci_error err;
	void *ops, *desc;
	char *name, *version;
	int rc;

	CHECK(p);
	readable = MIN(readable, sizeof(d));
	take(&d, offsetof(struct hci_plugin, name));
	d.name = name = take_name();
	d.version = version = take_name();
	d.ops = ops = take_ops();
	desc = exactly(&d, readable);
	rc = plugin_validate(desc, readable, "/p.so", p, &err);
	if (rc) {
		refused_well(rc, &err);
	} else {
		CHECK(readable == sizeof(d) && d.abi == HCI_PLUGIN_ABI && p->kind == d.kind);
		CHECK(!name_check(p->plugin_name, "n", NULL));
		CHECK(!name_check(p->plugin_version, "v", NULL));
		CHECK(p->kind == HCI_PLUGIN_PLACEMENT ? !!p->ops.placement.place
						      : !!p->ops.scheduler.schedule);
	}
	free(desc);
	free(name);
	free(version);
	free(ops);
	mem_free(p);
}

/* ---- file ---- */

static void file(void)
{
	static int fd = -1;
	struct hci_error err;
	ElfW(Ehdr) eh;
	ElfW(Phdr) ph;
	uint64_t size = left;
	int rc;

	if (fd < 0)
		fd = memfd_create("plugin", MFD_CLOEXEC);
	CHECK(fd >= 0 && !ftruncate(fd, 0) && pwrite(fd, in, left, 0) == (ssize_t)left);
	rc = plugin_check_elf(fd, size, "/p.so", &err);
	if (rc) {
		refused_well(rc, &err);
		return;
	}
	memcpy(&eh, in, sizeof(eh));
	for (unsigned i = 0; i < eh.e_phnum; i++) {
		memcpy(&ph, in + eh.e_phoff + i * sizeof(ph), sizeof(ph));
		CHECK(ph.p_type != PT_LOAD ||
		      (ph.p_offset <= size && ph.p_filesz <= size - ph.p_offset));
	}
}

/* ---- answers ---- */

#define N 8u

static void say(struct policy *p, char *reasons, size_t stride, double *scores)
{
	char why[300];

	if (take_byte() & 1) {
		take(why, sizeof(why) - 1);
		why[sizeof(why) - 1] = '\0';
		p->host.fail(p, why);
	}
	for (uint32_t i = 0; i < N && left; i++) {
		if (reasons)
			take(reasons + i * stride, take_byte() & 1 ? stride : 4);
		if (scores)
			take(&scores[i], sizeof(*scores));
	}
}

static int32_t place(void *instance, const struct hci_placement_snapshot *s,
		     const struct hci_placement_request *r, struct hci_placement_answer *a)
{
	int8_t rc = (int8_t)take_byte();

	(void)s;
	for (uint32_t i = 0; i <= r->want; i++) {
		uint8_t c = take_byte();

		if (c < 0x80)
			a->chosen[i] = c;
		else if (c < 0x90)
			take(&a->chosen[i], sizeof(a->chosen[i]));
	}
	say(instance, a->reasons, a->reason_stride, a->scores);
	return rc;
}

static int32_t schedule(void *instance, const struct hci_scheduler_snapshot *s,
			const struct hci_scheduler_request *r, struct hci_scheduler_answer *a)
{
	int8_t rc = (int8_t)take_byte();

	(void)s;
	(void)r;
	for (uint32_t i = 0; i < 2; i++) {
		uint8_t c = take_byte();

		if (c < 0x80)
			a->chosen[i] = c;
	}
	say(instance, a->reasons, a->reason_stride, a->scores);
	return rc;
}

static void failed(void *ctx, const char *message)
{
	struct policy *p = ctx;

	snprintf(p->failed, sizeof(p->failed), "%s", message);
	policy_clean_text(p->failed, sizeof(p->failed));
}

static struct policy fake(uint32_t kind)
{
	struct policy p = { .refs = 1, .name = "p", .plugin_name = "fuzz", .kind = kind };

	p.host.fail = failed;
	if (kind == HCI_PLUGIN_PLACEMENT)
		p.ops.placement.place = place;
	else
		p.ops.scheduler.schedule = schedule;
	return p;
}

static void is_clean(char (*reasons)[256], const double *scores)
{
	for (uint32_t i = 0; i < N; i++) {
		clean(reasons[i], sizeof(reasons[i]));
		CHECK(isfinite(scores[i]));
	}
}

static void placement(void)
{
	static struct hci_placement_disk disk[N];
	struct hci_placement_snapshot s = { sizeof(s), sizeof(*disk), N, 0, disk };
	struct hci_placement_request r = { .size = sizeof(r) };
	struct policy p = fake(HCI_PLUGIN_PLACEMENT);
	uint8_t flags = take_byte(), usable = take_byte();
	uint32_t keep = N - 1, chosen[5];
	static char reasons[N][256];
	static double scores[N];
	struct hci_error err;
	int rc;

	p.instance = &p;
	r.want = 1 + (flags & 3);
	r.keep = &keep;
	r.nkeep = flags >> 2 & 1;
	for (uint32_t i = 0; i < N; i++) {
		disk[i].usable = usable >> i & 1;
		disk[i].domain[0] = (char)('a' + i / 2);
	}
	rc = policy_place(&p, &s, &r, chosen, r.want, flags & 8 ? NULL : reasons,
			  flags & 16 ? NULL : scores, &err);
	if (!(flags & 24))
		is_clean(reasons, scores);
	if (rc) {
		CHECK(rc == HCI_E_PLUGIN || rc == HCI_E_NOPLACE);
		clean(err.message, sizeof(err.message));
		return;
	}
	for (uint32_t i = 0; i < r.want; i++) {
		CHECK(chosen[i] < N && disk[chosen[i]].usable);
		CHECK(!r.nkeep || chosen[i] / 2 != keep / 2);
		for (uint32_t k = 0; k < i; k++)
			CHECK(chosen[i] / 2 != chosen[k] / 2);
	}
}

static void scheduling(void)
{
	static struct hci_scheduler_node node[N];
	struct hci_scheduler_snapshot s = { sizeof(s), sizeof(*node), N, 0, node };
	struct hci_scheduler_request r = { .size = sizeof(r), .vm = "vm" };
	struct policy p = fake(HCI_PLUGIN_SCHEDULER);
	uint8_t usable = take_byte();
	static char reasons[N][256];
	static double scores[N];
	struct hci_error err;
	uint32_t at = 99;
	int rc;

	p.instance = &p;
	for (uint32_t i = 0; i < N; i++)
		node[i].usable = usable >> i & 1;
	rc = policy_schedule(&p, &s, &r, &at, reasons, scores, &err);
	is_clean(reasons, scores);
	if (rc) {
		CHECK((rc == HCI_E_PLUGIN || rc == HCI_E_NOPLACE) && at == 99);
		clean(err.message, sizeof(err.message));
	} else {
		CHECK(at < N && node[at].usable);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(void) = { descriptor, file, placement, scheduling };

	in = data;
	left = size;
	targets[take_byte() % ARRAY_SIZE(targets)]();
	return 0;
}
