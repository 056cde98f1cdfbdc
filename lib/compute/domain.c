/* SPDX-License-Identifier: Apache-2.0 */
/* Domains: started, stopped, found. Transient ones, so that libvirt keeps nothing that the store does not know. */
#include "compute/compute_impl.h"

#define POLL (100 * NS_PER_MS)
#define KVM_TRIAL (2 * NS_PER_S)
#define DESTROY_WAIT (60 * NS_PER_S)

/* ---- what it is doing ---- */

/* libvirt before 8.5 knows no running half that lacks the other for ever. */
static bool is_broken(int state, int reason)
{
#if LIBVIR_VERSION_NUMBER >= 8005000
	if (state == VIR_DOMAIN_RUNNING && reason == VIR_DOMAIN_RUNNING_POSTCOPY_FAILED)
		return true;
#endif
	return state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED;
}

static int state_of(virDomainPtr d, struct compute_state *out)
{
	int state, reason;

	memset(out, 0, sizeof(*out));
	if (virDomainGetState(d, &state, &reason, 0) || virDomainGetUUID(d, out->uuid.b))
		return -1;
	snprintf(out->name, sizeof(out->name), "%s", virDomainGetName(d));
	out->broken = is_broken(state, reason);
	out->postcopy = out->broken || (state == VIR_DOMAIN_RUNNING && reason == VIR_DOMAIN_RUNNING_POSTCOPY) ||
			(state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_POSTCOPY);
	switch (state) {
	case VIR_DOMAIN_RUNNING:
	case VIR_DOMAIN_BLOCKED:
	case VIR_DOMAIN_SHUTDOWN:
		out->state = HCI_VM_RUNNING;
		break;
	case VIR_DOMAIN_PAUSED:
		out->state = HCI_VM_PAUSED;
		out->io_error = reason == VIR_DOMAIN_PAUSED_IOERROR;
		out->starting = reason == VIR_DOMAIN_PAUSED_STARTING_UP;
		out->migrating = out->starting || reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_POSTCOPY;
		break;
	case VIR_DOMAIN_PMSUSPENDED:
		out->state = HCI_VM_PAUSED;
		break;
	case VIR_DOMAIN_CRASHED:
		out->state = HCI_VM_CRASHED;
		break;
	default:
		out->state = HCI_VM_STOPPED;
	}
	return 0;
}

static bool ours(virDomainPtr d)
{
	char *m = virDomainGetMetadata(d, VIR_DOMAIN_METADATA_ELEMENT, COMPUTE_NS, 0);

	free(m);
	return m != NULL;
}

static int list(struct compute *c, virConnectPtr conn, struct compute_state **out, size_t *n, struct hci_error *err)
{
	virDomainPtr *doms = NULL;
	int ndoms = virConnectListAllDomains(conn, &doms, VIR_CONNECT_LIST_DOMAINS_ACTIVE), rc = 0;

	if (ndoms < 0)
		return compute_fail(err, "libvirt %s: list of domains", c->uri);
	*n = 0;
	*out = mem_calloc((size_t)ndoms + 1, sizeof(**out));
	if (!*out)
		rc = err_set(err, HCI_E_NOMEM, "libvirt %s: out of memory", c->uri);
	for (int i = 0; i < ndoms; i++) {
		/* One that ended just now is simply not there. Names longer than ours are not ours. */
		if (!rc && strlen(virDomainGetName(doms[i])) < HCI_NAME_MAX && ours(doms[i]) &&
		    !state_of(doms[i], &(*out)[*n]))
			++*n;
		virDomainFree(doms[i]);
	}
	free(doms);
	return rc;
}

int compute_list(struct compute *c, struct compute_state **out, size_t *n, struct hci_error *err)
{
	*out = NULL;
	*n = 0;
	for (unsigned tries = 0;; tries++) {
		virConnectPtr conn;
		bool again;
		int rc = compute_conn(c, &conn, err);

		if (rc)
			return rc;
		rc = list(c, conn, out, n, err);
		again = rc == HCI_E_LIBVIRT && compute_lost(conn);
		compute_conn_put(c, conn);
		if (!rc || tries || !again)
			return rc;
	}
}

int compute_find(struct compute *c, const char *name, struct compute_state *out, struct hci_error *err)
{
	virConnectPtr conn;
	virDomainPtr d;
	int rc = compute_domain(c, name, &conn, &d, err);

	if (rc)
		return rc;
	if (state_of(d, out))
		rc = virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ?
			     err_set(err, HCI_E_NOTFOUND, "VM %s: it does not run here", name) :
			     compute_fail(err, "VM %s: state", name);
	compute_domain_put(c, conn, d);
	return rc;
}

/* ---- start ---- */

static bool kvm_offered(virConnectPtr conn)
{
	char *x = virConnectGetDomainCapabilities(conn, NULL, "x86_64", NULL, "kvm", 0);

	free(x);
	return x != NULL;
}

static virDomainPtr create(virConnectPtr conn, const struct compute_vm *vm, bool kvm, int *rc, struct hci_error *err)
{
	struct buf xml = BUF_INIT;
	virDomainPtr d = NULL;

	*rc = domain_xml(vm, kvm, &xml, err);
	if (!*rc) {
		d = virDomainCreateXML(conn, (const char *)xml.data, 0);
		if (!d)
			*rc = compute_fail(err, "VM %s cannot be started", vm->name);
	}
	buf_free(&xml);
	return d;
}

/*
 * /dev/kvm being there does not mean that guests run with it: nested, it may stop them at their first unusual
 * instruction. So the first guest is watched for a moment.
 */
static bool kvm_works(virDomainPtr d)
{
	uint64_t end = compute_now() + KVM_TRIAL;

	while (compute_now() < end) {
		int state, reason;

		if (virDomainGetState(d, &state, &reason, 0))
			return false;
		if (state == VIR_DOMAIN_CRASHED || state == VIR_DOMAIN_SHUTOFF ||
		    (state == VIR_DOMAIN_PAUSED && reason != VIR_DOMAIN_PAUSED_IOERROR))
			return false;
		compute_nap(POLL);
	}
	return true;
}

/* libvirt would say "Cannot get interface MTU on 'br0': No such device". */
static int check_bridges(const struct compute_vm *vm, struct hci_error *err)
{
	struct bridge_lack lack;

	for (uint32_t i = 0; i < vm->nnics; i++) {
		struct bridge_port p = { .mtu = vm->nics[i].mtu };

		snprintf(p.bridge, sizeof(p.bridge), "%s", vm->nics[i].bridge);
		if (bridge_lacks(&p, vm->node ? vm->node : "?", false, &lack))
			return err_set(err, HCI_E_STATE, "VM %s: interface %u (%s): %s: %s", vm->name, i, vm->nics[i].mac, lack.why, lack.cure);
	}
	return 0;
}

static int start(struct compute *c, virConnectPtr conn, const struct compute_vm *vm, struct hci_error *err)
{
	virDomainPtr d = virDomainLookupByName(conn, vm->name);
	int kvm, rc;

	if (d) {
		virDomainFree(d);
		return err_set(err, HCI_E_EXISTS, "VM %s: it runs here already", vm->name);
	}
	rc = check_bridges(vm, err);
	if (rc)
		return rc;
	pthread_mutex_lock(&c->lock);
	if (!c->kvm && !kvm_offered(conn))
		c->kvm = -1;
	kvm = c->kvm;
	pthread_mutex_unlock(&c->lock);
	if (kvm >= 0) {
		d = create(conn, vm, true, &rc, err);
		if (d && (kvm || kvm_works(d))) {
			kvm = 1;
		} else {
			if (d)
				(void)virDomainDestroy(d);
			if (d)
				virDomainFree(d);
			d = NULL;
			if (kvm || (rc && rc != HCI_E_LIBVIRT))
				return rc;
			kvm = -1;
			log_info(&c->log, "VM %s: does not run with KVM here, emulated instead", vm->name);
		}
		pthread_mutex_lock(&c->lock);
		c->kvm = kvm;
		pthread_mutex_unlock(&c->lock);
	}
	if (!d)
		d = create(conn, vm, false, &rc, err);
	if (!d)
		return rc;
	virDomainFree(d);
	return 0;
}

int compute_start(struct compute *c, const struct compute_vm *vm, struct hci_error *err)
{
	virConnectPtr conn;
	int rc = compute_conn(c, &conn, err);

	if (rc)
		return rc;
	rc = start(c, conn, vm, err);
	compute_conn_put(c, conn);
	return rc;
}

/* ---- stop, suspend, resume ---- */

static bool gone(virDomainPtr d, uint64_t wait)
{
	uint64_t end = compute_now() + wait;

	for (;;) {
		if (virDomainIsActive(d) != 1)
			return true;
		if (compute_now() >= end)
			return false;
		compute_nap(POLL);
	}
}

int compute_stop(struct compute *c, const char *name, uint32_t how, uint64_t timeout_ns, struct hci_error *err)
{
	virConnectPtr conn;
	virDomainPtr d;
	int rc = compute_domain(c, name, &conn, &d, err);

	if (rc)
		return rc == HCI_E_NOTFOUND ? 0 : rc;
	if (how == HCI_VM_STOP_SHUTDOWN && !virDomainShutdown(d) && gone(d, timeout_ns))
		goto out;
	/* SIGTERM first, SIGKILL when QEMU hangs in I/O. */
	if (virDomainDestroyFlags(d, VIR_DOMAIN_DESTROY_DEFAULT) && virDomainIsActive(d) == 1)
		rc = compute_fail(err, "VM %s cannot be stopped", name);
	else if (!gone(d, DESTROY_WAIT))
		rc = err_set(err, HCI_E_TIMEOUT, "VM %s: its process does not end", name);
out:
	compute_domain_put(c, conn, d);
	return rc;
}

int compute_suspend(struct compute *c, const char *name, struct hci_error *err)
{
	virConnectPtr conn;
	virDomainPtr d;
	int rc = compute_domain(c, name, &conn, &d, err);

	if (rc)
		return rc;
	if (virDomainSuspend(d))
		rc = compute_fail(err, "VM %s cannot be suspended", name);
	compute_domain_put(c, conn, d);
	return rc;
}

int compute_resume(struct compute *c, const char *name, struct hci_error *err)
{
	int rc, state = 0;
	virConnectPtr conn;
	virDomainPtr d;

	rc = compute_domain(c, name, &conn, &d, err);
	if (rc)
		return rc;
	if (virDomainResume(d) && (virDomainGetState(d, &state, NULL, 0) || state != VIR_DOMAIN_RUNNING))
		rc = compute_fail(err, "VM %s cannot be resumed", name);
	compute_domain_put(c, conn, d);
	return rc;
}
