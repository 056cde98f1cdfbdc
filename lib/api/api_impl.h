/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the public API share: the open cluster with its loop thread, and the one way in
 * which a caller's thread has something done on the loop and waits for it.
 */
#ifndef API_IMPL_H
#define API_IMPL_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <hci/hci.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/names.h"
#include "base/opts.h"
#include "base/uuid.h"
#include "cluster/core.h"
#include "env/fiber.h"

#define LOG_SUB "api"

struct api_events;

struct hci_cluster {
	unsigned refs; /* atomic */
	struct env *env;
	pthread_t thread;
	bool thread_runs;
	uint64_t busy_poll_ns; /* see struct hci_cluster_opts */
	struct metrics *metrics;
	struct env_tls *tls;
	struct store *store;
	struct core *core;
	struct api_events *events; /* atomic pointer, set once by hci_event_subscribe() */
	char ca_file[REC_PATH_MAX], cert_file[REC_PATH_MAX], key_file[REC_PATH_MAX];
};

/*
 * Runs fn(c, arg) in a fiber on the loop and waits for it; returns what fn returned. Refused with HCI_E_STATE from
 * the loop's own thread (a callback), which would wait for itself.
 */
int api_call(hci_cluster *c, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg, struct hci_error *err);

/* The same, after the mirror of the records has caught up with the store: callers see their own writes. */
int api_call_fresh(hci_cluster *c, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg,
		   struct hci_error *err);

/*
 * Arrays for list calls, with the caller's idea of an element's size: a shorter one gets the beginning, what a
 * longer one has besides is zero.
 */
struct api_list {
	uint8_t *data; /* becomes the caller's; hci_list_free() */
	uint64_t n, cap, stride, min;
};
/* The whole of a listing call: runs fn, which fills l with api_list_add(), on the loop and hands the array over; out is
 * the address of the caller's pointer. arg is what fn gets. */
int api_list_call(hci_cluster *c, int (*fn)(hci_cluster *c, void *arg, struct hci_error *err), void *arg, struct api_list *l,
		  void *out, uint64_t *n, uint64_t info_size, uint64_t ours, struct hci_error *err);
int api_list_add(struct api_list *l, const void *info, uint64_t ours, struct hci_error *err);
/* One struct out, sized by the caller. */
int api_info_out(void *out, uint64_t info_size, const void *info, uint64_t ours, const char *what, struct hci_error *err);

/* Copies a text that comes from the store or a caller into an info field. */
#define API_TEXT(dst, src) snprintf((dst), sizeof(dst), "%s", (src))

/* disk.c: a UUID or the beginning of one: is it? whose? */
int api_disk_prefix(const char *uuid, struct hci_error *err);
int api_disk_find(hci_cluster *c, const char *prefix, struct uuid *out, struct hci_error *err);

/* vm.c: the record of a VM; rev may be NULL. HCI_E_NOTFOUND. From a fiber. */
int api_vm_get(hci_cluster *c, const char *name, struct rec_vm *r, uint64_t *rev, struct hci_error *err);
/* vm_nic.c: is what the options say of interfaces right? And into the record of a VM that has its name and UUID, on the loop. */
int api_vm_nics_check(const struct hci_vm_opts *o, struct hci_error *err);
int api_vm_nics_fill(hci_cluster *c, const struct hci_vm_opts *o, struct rec_vm *r, struct hci_error *err);
/* vm_usb.c: the same for USB devices. */
int api_vm_usb_check(const struct hci_vm_opts *o, struct hci_error *err);
int api_vm_usb_fill(hci_cluster *c, const struct hci_vm_opts *o, struct rec_vm *r, struct hci_error *err);

/* event.c: NULL is fine. Stop: from a fiber, while core and store are there; free: the loop is over. */
void api_events_stop(struct api_events *e);
void api_events_free(struct api_events *e);

/* "KIND NAME: there is none", and that `hcictl NOUN list` shows those there are. Returns HCI_E_NOTFOUND. */
int api_none(const char *kind, const char *noun, const char *name, struct hci_error *err);
/* vol_lookup() for callers, who get to know that. */
int api_volume_find(hci_cluster *c, const char *name, struct uuid *id, struct rec_volume *out, struct hci_error *err);

/* "argument X must not be NULL" */
int api_null(const char *what, struct hci_error *err);

#endif
