/* SPDX-License-Identifier: Apache-2.0 */
/* Where etcd is and how to speak to it, from the URL of a store. */
#ifndef ETCD_URL_H
#define ETCD_URL_H

#include <stdbool.h>
#include <stdint.h>

#define ENDPOINTS_MAX 16
#define FILE_MAX 1024
#define PREFIX_MAX 64

struct endpoint {
	char host[256]; /* without the brackets of IPv6 */
	char port[8];
	char name[272]; /* as it is shown, and in the authority header */
};

struct cfg {
	struct endpoint ep[ENDPOINTS_MAX];
	unsigned nep;
	char prefix[PREFIX_MAX + 2]; /* keys begin with it: "hci/" */
	char guard[PREFIX_MAX + 3];  /* those of transactions: "hci~/" */
	bool tls;
	char ca[FILE_MAX], cert[FILE_MAX], key[FILE_MAX]; /* cert "": none */
	char user[256], password[256];                    /* user "": none */
	char shown[400];                                  /* the URL in messages */
};

struct failure {
	int code; /* HCI_E_* */
	char text[300];
};
int fail(struct failure *f, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* 0, or f is filled in. Reads the file with user and password. */
int cfg_parse(struct cfg *c, const char *url, struct failure *f);

#endif
