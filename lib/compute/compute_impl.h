/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of compute share. */
#ifndef COMPUTE_COMPUTE_IMPL_H
#define COMPUTE_COMPUTE_IMPL_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <hci/vm.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/uuid.h"
#include "compute/compute.h"

#define LOG_SUB "compute"
/* Marks our domains: the namespace of the element in their metadata. */
#define COMPUTE_NS "urn:libhci:vm:1"

struct compute {
	char *uri;
	struct log log;
	pthread_mutex_t lock; /* of what follows */
	virConnectPtr idle;   /* may be NULL */
	int kvm;              /* 0: not tried yet, 1: a guest was seen to run, -1: it does not work */
};

/* A connection for the caller alone, until it gives it back. */
int compute_conn(struct compute *c, virConnectPtr *out, struct hci_error *err);
void compute_conn_put(struct compute *c, virConnectPtr conn);
/* After a failed call: is the connection what failed, so that another one is worth a try? */
bool compute_lost(virConnectPtr conn);
/* Fills err with libvirt's own message behind ours; returns HCI_E_LIBVIRT. */
int compute_fail(struct hci_error *err, const char *fmt, ...) PRINTF(2, 3);
/* A domain of this name that runs, with a connection: both go back with compute_domain_put(). HCI_E_NOTFOUND. */
int compute_domain(struct compute *c, const char *name, virConnectPtr *conn, virDomainPtr *out, struct hci_error *err);
void compute_domain_put(struct compute *c, virConnectPtr conn, virDomainPtr d);

uint64_t compute_now(void); /* monotonic ns */
void compute_nap(uint64_t ns);

/*
 * preflight.c, for its test: libvirt compares the CPU (its test driver does not); its capabilities have this machine type, or name
 * none; those of a domain do not say that it cannot have USB devices of others; the device is there when it is needed.
 */
typedef int preflight_compare(virConnectPtr conn, const char *cpu, unsigned flags);
void preflight_cpu(struct problems *p, virConnectPtr conn, const struct compute_needs *n, preflight_compare *compare);
bool preflight_has_machine(const char *caps, const char *arch, const char *machine);
bool preflight_has_usb(const char *domcaps);
void preflight_ports(const char *xml, struct compute_needs *out);
void preflight_kvm(struct problems *p, const struct compute_needs *n, const char *device);

/* local.c: whom libvirt starts QEMU as, from its capabilities; false: as whom it runs itself */
bool local_qemu_user(const char *caps, uid_t *uid, gid_t *gid);

/* domain_xml.c */
int domain_xml(const struct compute_vm *vm, bool kvm, struct buf *out, struct hci_error *err);
/* The domain's XML with paths replaced; mem_free(*out). */
bool domain_xml_is_kvm(const char *xml);
int domain_xml_move(const char *xml, const struct compute_path *paths, uint32_t n, char **out, struct hci_error *err);

#endif
