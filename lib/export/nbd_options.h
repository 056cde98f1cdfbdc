/* SPDX-License-Identifier: Apache-2.0 */
/* What nbd_negotiate.c hands a complete option to. */
#ifndef EXPORT_NBD_OPTIONS_H
#define EXPORT_NBD_OPTIONS_H

#include "export/nbd_negotiate.h"

/* One option (n->opt) with all its data. */
enum nbd_neg_act nbd_option(struct nbd_neg *n, const uint8_t *data, uint32_t len, struct buf *out);
/* An error reply with a sentence for the person at the other end. */
void nbd_option_error(struct nbd_neg *n, struct buf *out, uint32_t type, const char *fmt, ...)
	PRINTF(4, 5);

#endif
