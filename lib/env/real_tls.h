/* SPDX-License-Identifier: Apache-2.0 */
/* TLS contexts of the real env, shared by real_tls.c and real_tlsctx.c. */
#ifndef ENV_REAL_TLS_H
#define ENV_REAL_TLS_H

#include <openssl/ssl.h>

#include "env/env_impl.h"

struct real_tls {
	struct env_tls base;
	SSL_CTX *ctx;
	BIO_METHOD *bio;
	unsigned refs;
	char *ca_file, *cert_file; /* for messages */
};

BIO_METHOD *tls_bio_method(void);

#endif
