/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real disk, all of its files, damaged and then opened, read, written and opened again. Two images are made once: of a
 * disk that was closed, and of one that lost power with writes in its log. The input is a list of changes to their files.
 *
 * Whatever the damage: no crash, no hang; and what is read without an error is a whole block that was once written to this
 * very place, or zeroes. (Old content may come back: a log that is damaged ends there. Its writer notices by the numbers.)
 * Only where the input makes checksums right again, anything goes but a crash.
 *
 * Input: a byte (1: the image with a log, 2: mend checksums), then 12 bytes a change: file, kind, u16, u32 place, u32 value.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "env/fiber.h"
#include "env/sim_impl.h"
#include "replica/log_format.h"
#include "replica/page.h"
#include "replica/replica.h"

#define VOLS 2u
#define SEGS 2u
#define SEGMENT (256 * KiB)
#define BLOCKS ((uint32_t)(SEGMENT / HCI_BLOCK))
#define FILES_MAX 24u
#define MAGIC UINT64_C(0x6469736b696d6167)
#define CHANGE 12u

struct file {
	char path[96];
	uint8_t *data;
	uint64_t size;
};

struct image {
	struct file f[FILES_MAX];
	unsigned n;
};

struct world {
	struct sim *sim;
	struct sim_node *node;
	struct sim_disk *disk;
	struct image *img;
	bool crash, mended, done;
};

static struct image images[2];

static void die(const char *what)
{
	fprintf(stderr, "disk_image: %s\n", what);
	abort();
}

static struct repl_disk_opts opts(void)
{
	return (struct repl_disk_opts){ .uuid = { { 1, 2, 3 } }, .cluster = { { 4, 5 } }, .log_size = 4 * MiB, .reserve = MiB };
}

static struct uuid volume(unsigned v)
{
	return (struct uuid){ { 9, 9, (uint8_t)(v + 1) } };
}

/* ---- blocks that say where they belong ---- */

static void fill(uint64_t *p, unsigned v, unsigned s, uint32_t block, uint64_t version)
{
	p[0] = MAGIC;
	p[1] = (uint64_t)v << 32 | s;
	p[2] = block;
	for (unsigned i = 3; i < HCI_BLOCK / 8; i++)
		p[i] = version * UINT64_C(0x9e3779b97f4a7c15) + i;
}

static void judge(const uint64_t *p, unsigned v, unsigned s, uint32_t block)
{
	uint64_t want[HCI_BLOCK / 8], version = (p[3] - 3) * UINT64_C(0xf1de83e19937733d); /* the multiplier's inverse */

	if (p[0] == 0 && !memcmp(p, p + 1, HCI_BLOCK - 8))
		return;
	fill(want, v, s, block, version);
	if (version > 16 || memcmp(p, want, HCI_BLOCK))
		die("wrong data were returned as good");
}

/* ---- requests ---- */

struct request {
	struct repl_op op;
	struct env *e;
	struct fiber *f;
	bool done;
};

static void request_done(struct repl_op *op)
{
	struct request *r = container_of(op, struct request, op);

	r->done = true;
	fiber_wake(r->e, r->f);
}

static int request(struct env *e, struct repl_slot *slot, enum repl_op_kind kind, unsigned s, uint64_t off, uint64_t len,
		   void *buf, uint64_t seq)
{
	struct request r = { .e = e, .f = fiber_self(e) };

	r.op = (struct repl_op){ .kind = kind, .slot = slot, .segment = s, .off = off, .len = len, .buf = buf, .seq = seq,
				 .done = request_done };
	repl_submit(&r.op);
	while (!r.done)
		fiber_park(e);
	return r.op.status;
}

static struct repl_slot *slot_open(struct repl_disk *d, unsigned v, uint64_t gen)
{
	struct uuid u = volume(v);
	struct repl_slot_state st;
	struct repl_slot *s = NULL;
	struct hci_error err;

	return repl_slot_open(d, &u, gen, SEGMENT, &s, &st, &err) ? NULL : s;
}

/* ---- the images ---- */

static void write_some(struct env *e, struct repl_slot *slot, unsigned v, uint64_t *seq, uint64_t version, uint32_t every)
{
	uint64_t *buf = mem_alloc_aligned(HCI_BLOCK);

	for (unsigned s = 0; s < SEGS; s++) {
		for (uint32_t b = 0; b < BLOCKS; b += every) {
			fill(buf, v, s, b, version);
			if (request(e, slot, REPL_WRITE, s, (uint64_t)b * HCI_BLOCK, HCI_BLOCK, buf, ++*seq))
				die("the image cannot be written");
		}
		if (request(e, slot, REPL_ZERO, s, 64 * KiB, 16 * KiB, NULL, ++*seq))
			die("the image cannot be zeroed");
	}
	mem_free_aligned(buf);
}

static void make_fiber(void *arg)
{
	struct world *w = arg;
	struct env *e = sim_node_env(w->node);
	struct repl_disk_opts o = opts();
	struct repl_slot *slot[VOLS];
	struct repl_disk *d;
	struct hci_error err;
	uint64_t seq = 0;

	if (repl_disk_format(e, "/d", &o, &err) || repl_disk_open(e, "/d", &o, &d, &err))
		die(err.message);
	for (unsigned v = 0; v < VOLS; v++)
		slot[v] = slot_open(d, v, 1);
	for (unsigned v = 0; v < VOLS; v++)
		write_some(e, slot[v], v, &seq, 1, 1);
	fiber_sleep(e, 2 * NS_PER_S); /* written back */
	for (unsigned v = 0; v < VOLS; v++)
		write_some(e, slot[v], v, &seq, 2, 3);
	for (unsigned v = 0; v < VOLS; v++)
		repl_slot_put(slot[v]);
	if (!w->crash)
		repl_disk_close(d, false);
	w->done = true;
}

static void save_file(struct world *w, struct env *e, const char *path)
{
	struct file *f = &w->img->f[w->img->n++];
	struct env_file *h;
	uint8_t *buf;

	if (w->img->n > FILES_MAX)
		die("more files than expected");
	snprintf(f->path, sizeof(f->path), "%s", path);
	if (env_open(e, path, ENV_O_RDONLY, &h) || env_file_size(e, h, &f->size))
		die(path);
	f->data = calloc(1, ROUND_UP(f->size, (uint64_t)HCI_BLOCK) + HCI_BLOCK);
	buf = mem_alloc_aligned((size_t)f->size + 1);
	if (f->size && fiber_read(e, h, buf, f->size, 0) != (int64_t)f->size)
		die(path);
	memcpy(f->data, buf, f->size);
	mem_free_aligned(buf);
	env_close(e, h);
}

static void save_dir(struct world *w, struct env *e, const char *dir)
{
	char **names, path[96];
	struct env_file *h;

	if (env_listdir(e, dir, &names))
		die(dir);
	for (unsigned i = 0; names[i]; i++) {
		snprintf(path, sizeof(path), "%.60s/%.30s", dir, names[i]);
		if (strlen(names[i]) == 36 || !strcmp(names[i], "vol"))
			snprintf(path, sizeof(path), "%.40s/%.40s", dir, names[i]), save_dir(w, e, path);
		else if (!env_open(e, path, ENV_O_RDONLY, &h))
			env_close(e, h), save_file(w, e, path);
		mem_free(names[i]);
	}
	mem_free(names);
}

static void save_fiber(void *arg)
{
	struct world *w = arg;

	save_dir(w, sim_node_env(w->node), "/d");
	w->done = true;
}

static bool is_done(void *arg)
{
	return ((struct world *)arg)->done;
}

static void start(struct env *e, void *arg);
static void (*todo)(void *arg);

static void start(struct env *e, void *arg)
{
	if (fiber_spawn(e, todo, arg, "fuzz"))
		die("no fiber");
}

static void run(struct world *w, void (*fn)(void *arg))
{
	w->done = false;
	todo = fn;
	sim_node_boot(w->node, start, w);
	if (!sim_run_until(w->sim, is_done, w, 3600 * NS_PER_S))
		die("it hangs");
}

static void world_begin(struct world *w, unsigned which)
{
	struct sim_opts so = SIM_OPTS_INIT;

	memset(w, 0, sizeof(*w));
	w->sim = sim_new(&so);
	w->node = sim_node_new(w->sim, "n");
	w->disk = sim_disk_new(w->node, "/d", 64 * MiB);
	w->img = &images[which];
	w->crash = which;
}

static void make_images(void)
{
	struct world w;

	for (unsigned which = 0; which < 2; which++) {
		world_begin(&w, which);
		run(&w, make_fiber);
		if (w.crash)
			sim_node_power_loss(w.node);
		run(&w, save_fiber);
		sim_free(w.sim);
	}
}

/* ---- damage ---- */

static void mend(uint8_t *block)
{
	struct page_hdr *h = (void *)block;
	struct logf_hdr *l = (void *)block;

	if (l->magic == LOGF_MAGIC) {
		if (l->hdr_bytes >= sizeof(*l) && l->hdr_bytes <= HCI_BLOCK)
			l->crc = logf_crc(block, l->hdr_bytes);
		return;
	}
	h->crc = 0;
	h->crc = crc32c(0, block, HCI_BLOCK);
}

static void change(struct image *img, const uint8_t *in, bool mends)
{
	struct file *f = &img->f[in[0] % img->n], *g = &img->f[in[2] % img->n];
	uint32_t place, value;
	uint64_t blocks = f->size / HCI_BLOCK, b;

	memcpy(&place, in + 4, 4);
	memcpy(&value, in + 8, 4);
	if (!blocks)
		return;
	b = place / HCI_BLOCK % blocks;
	switch (in[1] % 6) {
	case 0:
		f->data[b * HCI_BLOCK + place % HCI_BLOCK] ^= (uint8_t)(value | 1);
		break;
	case 1:
		memcpy(f->data + b * HCI_BLOCK + place % HCI_BLOCK / 4 * 4, &value, 4);
		break;
	case 2: /* misdirected */
		memcpy(f->data + b * HCI_BLOCK, f->data + value % blocks * HCI_BLOCK, HCI_BLOCK);
		break;
	case 3:
		memset(f->data + b * HCI_BLOCK, 0, HCI_BLOCK);
		break;
	case 4:
		f->size = place % (f->size + 1);
		return;
	default:
		if (g->size >= HCI_BLOCK)
			memcpy(f->data + b * HCI_BLOCK, g->data + value % (g->size / HCI_BLOCK) * HCI_BLOCK, HCI_BLOCK);
		break;
	}
	if (mends)
		mend(f->data + b * HCI_BLOCK);
}

/* Names are made as they were, contents block by block, but for zeroes. */
static void install(struct world *w, const struct image *img)
{
	static const uint8_t zeroes[HCI_BLOCK];

	for (unsigned i = 0; i < img->n; i++) {
		const struct file *f = &img->f[i];
		char dir[96];
		struct sim_inode *ino;

		snprintf(dir, sizeof(dir), "%s", f->path + 2);
		for (char *p = strchr(dir + 1, '/'); p; p = strchr(p + 1, '/')) {
			*p = '\0';
			sim_ns_mkdir(w->disk, dir);
			*p = '/';
		}
		if (sim_ns_open(w->disk, f->path + 2, ENV_O_CREATE, &ino))
			die("cannot make a file");
		sim_inode_truncate(ino, f->size);
		for (uint64_t off = 0; off < f->size; off += HCI_BLOCK) {
			struct iovec v = { f->data + off, (size_t)MIN((uint64_t)HCI_BLOCK, f->size - off) };

			if (memcmp(v.iov_base, zeroes, v.iov_len))
				sim_inode_write(ino, &v, 1, off, true);
		}
		sim_inode_unref(ino);
	}
}

/* ---- what is done with it ---- */

static void read_all(struct world *w, struct env *e, struct repl_slot *slot, unsigned v)
{
	uint64_t *buf = mem_alloc_aligned(HCI_BLOCK);
	struct repl_region cur = { 0 }, out[8];

	for (unsigned s = 0; s < SEGS; s++)
		for (uint32_t b = 0; b < BLOCKS; b++)
			if (!request(e, slot, REPL_READ, s, (uint64_t)b * HCI_BLOCK, HCI_BLOCK, buf, 0) && !w->mended)
				judge(buf, v, s, b);
	for (unsigned k = 0; k < 64 && repl_regions(slot, 0, UINT32_MAX, &cur, out, 8); k++)
		;
	mem_free_aligned(buf);
}

static void use(struct world *w, struct env *e, struct repl_disk *d)
{
	uint64_t *buf = mem_alloc_aligned(HCI_BLOCK);

	for (unsigned v = 0; v < VOLS; v++) {
		struct repl_slot *slot = slot_open(d, v, REPL_GEN_MAX);

		if (!slot)
			continue;
		read_all(w, e, slot, v);
		fill(buf, v, 0, 7, 3);
		(void)request(e, slot, REPL_WRITE, 0, 7 * HCI_BLOCK, HCI_BLOCK, buf, UINT64_C(1) << 40);
		(void)request(e, slot, REPL_ZERO, 1, 0, SEGMENT, NULL, (UINT64_C(1) << 40) + 1);
		read_all(w, e, slot, v);
		repl_slot_put(slot);
	}
	mem_free_aligned(buf);
}

static void use_fiber(void *arg)
{
	struct world *w = arg;
	struct env *e = sim_node_env(w->node);
	struct repl_disk_opts o = opts();
	struct hci_error err;

	for (unsigned round = 0; round < 2; round++) {
		struct repl_disk *d;

		if (repl_disk_open(e, "/d", &o, &d, &err))
			break;
		use(w, e, d);
		repl_disk_close(d, round);
	}
	w->done = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image copy;
	struct world w;

	if (size < 1 || size > 1 + 32 * CHANGE)
		return 0;
	if (!images[0].n)
		make_images();
	world_begin(&w, data[0] & 1);
	w.mended = data[0] & 2;
	copy = *w.img;
	for (unsigned i = 0; i < copy.n; i++) {
		copy.f[i].data = malloc(ROUND_UP(copy.f[i].size, (uint64_t)HCI_BLOCK) + HCI_BLOCK);
		memcpy(copy.f[i].data, w.img->f[i].data, ROUND_UP(copy.f[i].size, (uint64_t)HCI_BLOCK));
	}
	for (size_t at = 1; at + CHANGE <= size; at += CHANGE)
		change(&copy, data + at, w.mended);
	install(&w, &copy);
	run(&w, use_fiber);
	sim_free(w.sim);
	for (unsigned i = 0; i < copy.n; i++)
		free(copy.f[i].data);
	return 0;
}
