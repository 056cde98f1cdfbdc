/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines that run VMs, in the simulated world: on each a libvirtd and a QEMU, which are programs of their own beside the node
 * service and outlive it. What they do is what a live migration depends on, as libvirt 9 and QEMU 7.2 do it:
 *
 *   vmm_wire.c     bytes over connections, from fibers
 *   vmm_disk.c     QEMU's NBD client: connections that end are noticed by the next request, which fails
 *   vmm_guest.c    a guest that writes numbers, and the judge of what it is told about them
 *   vmm_qemu.c     QEMU: its guest runs, is stopped, its memory leaves or arrives
 *   vmm_libvirt.c  libvirtd: peer-to-peer migration in its five phases, what it does when started anew
 *   vmm_calls.c    the table of calls (compute/hypervisor.h) by which the node service reaches them
 *
 * All state is the test's own memory; fibers and connections are their programs' and die with them.
 */
#ifndef TESTS_SIM_VMM_H
#define TESTS_SIM_VMM_H

#include "compute/hypervisor.h"
#include "env/fiber.h"
#include "env/sim.h"

#define VMM_HOSTS 3
#define VMM_BLOCKS 16 /* that the guest writes to */
#define VMM_LIBVIRT "/run/libvirt/libvirt-sock"

struct vmm;
struct host;

/* ---- the guest, and what it knows: this is its memory, which moves with it ---- */

struct guest {
	uint64_t born;             /* which start it lives since */
	uint64_t acks;             /* the judge's count when it was last told of a write */
	uint64_t value[VMM_BLOCKS];
	uint64_t known;            /* bits: blocks that it has read or written */
	uint64_t pending;          /* number under way, 0: none */
	uint32_t block;            /* where */
	uint32_t pass;
};

struct judge {
	uint64_t issued, acks, births;
	uint64_t acked[VMM_BLOCKS];
	uint64_t reads;
};

/* ---- QEMU ---- */

struct wire;
struct vdisk {
	struct env *e;
	struct wire *w; /* NULL: not connected, as far as we know */
	struct fiber_mutex lock;
	char addr[SIM_UNIX_MAX + 8], export[64];
	bool connecting;
	uint64_t cookie;
};

struct qemu {
	struct host *h;
	struct env *e;
	uint64_t life;
	struct uuid uuid;
	struct vdisk disk;
	struct guest g;
	struct fiber_cond cond;
	char incoming[SIM_UNIX_MAX]; /* "": it was started here */
	struct env_listener *listener;
	bool ready;       /* its disk is open, and it listens if it is to */
	bool run;         /* its CPUs */
	bool busy;        /* a request of the guest is under way */
	bool io_error;
	bool arriving;    /* until libvirtd lets it run */
	bool loaded;      /* all of its memory is here */
	bool quitting;
	struct {
		bool active, stopped, abort, failed, done; /* stopped: the CPUs, for it */
		char path[SIM_UNIX_MAX];
		uint64_t sent;
		uint32_t pass;
	} out;
	bool verify; /* the test asks for all blocks to be read */
	uint32_t verified;
};

/* ---- a machine ---- */

struct host {
	struct vmm *v;
	char name[HCI_NAME_MAX];
	unsigned index;
	struct sim_node *service, *libvirtd, *qemu_node;
	struct qemu *q; /* NULL: no domain, but for what is half made */
	bool half;      /* libvirtd ended before QEMU had begun: a domain without a process, until it is destroyed */
	struct uuid half_uuid;
	uint64_t lives;
	uint64_t boots; /* of the machine */
	struct env_listener *listener; /* libvirtd's */
	uint64_t libvirt_lives;
	enum { MIG_NONE, MIG_PERFORM, MIG_FINISH, MIG_CONFIRM } phase; /* of one that leaves */
};

struct vmm {
	struct sim *sim;
	struct host host[VMM_HOSTS];
	struct judge judge;
	struct list kept; /* memory */
	void (*on_call)(void *arg); /* before a call of a node service takes effect */
	void (*on_fail)(void *arg, const char *why);
	void (*on_ran_on)(void *arg, struct host *h); /* a guest there was told of a write, after all of its memory had left */
	void *arg;
	bool failed;
};

void *vmm_keep(struct vmm *v, size_t size); /* zeroed, until the end */
void vmm_init(struct vmm *v, struct sim *s);
void vmm_free(struct vmm *v);
void vmm_fail(struct vmm *v, const char *fmt, ...) PRINTF(2, 3);
void vmm_kill_qemu(struct host *h);
void vmm_kill_libvirtd(struct host *h);
void vmm_boot_libvirtd(struct host *h);
/* Runs fn on a node a moment later, from wherever. */
void vmm_post(struct vmm *v, struct sim_node *n, void (*fn)(struct env *e, void *arg), void *arg);
extern const struct hypervisor vmm_hypervisor; /* struct compute is struct host */

/* ---- between its files ---- */

/* vmm_wire.c: from fibers. */
struct wire *wire_connect(struct env *e, const char *addr); /* NULL: it did not come about */
struct wire *wire_of(struct env *e, struct env_conn *c);    /* accepted; NULL: out of memory */
bool wire_get(struct wire *w, void *buf, size_t n);         /* all of it; false: the other side has ended */
bool wire_put(struct wire *w, const void *buf, size_t n);
bool wire_over(const struct wire *w);
void wire_close(struct wire *w);

/* vmm_disk.c: from fibers of its QEMU. */
void vdisk_init(struct vdisk *d, struct env *e, const char *socket, const char *export);
int vdisk_connect(struct vdisk *d); /* at the start */
enum { VDISK_READ = 0, VDISK_WRITE = 1, VDISK_FLUSH = 3 };
int vdisk_io(struct vdisk *d, unsigned type, void *buf, uint64_t off, uint32_t len);

/* vmm_guest.c */
void guest_born(struct vmm *v, struct guest *g);
void guest_fiber(void *arg); /* struct qemu */

/* vmm_qemu.c */
struct qemu_start {
	struct host *h;
	struct uuid uuid;
	char socket[SIM_UNIX_MAX], export[64], incoming[SIM_UNIX_MAX];
};
/* Starts the program; it is there at once, and ready some time later, or gone again. Not from its own code. */
void qemu_boot(const struct qemu_start *s);
void qemu_migrate(struct env *e, void *host); /* on its node: begins to send q->out.path */
void qemu_quit(struct env *e, void *host);    /* on its node: flushes, and ends */

/* vmm_libvirt.c */
struct mig {
	struct host *h;
	uint64_t life, libvirt_life;
	char peer[SIM_UNIX_MAX], path[SIM_UNIX_MAX], socket[SIM_UNIX_MAX];
	bool abort, done;
	int rc;
	char why[120];
};
struct mig *libvirt_migrate(struct host *h, const char *peer, const char *path, const char *socket);

#endif
