/* SPDX-License-Identifier: Apache-2.0 */
/* Options of both sides. */
#ifndef MEMSTREAM_OPTS_H
#define MEMSTREAM_OPTS_H

#include "compute/memstream/memstream.h"

#define MST_WINDOW_MIN (4 * MiB) /* what a decoder grants at least */

/* Checked, with defaults filled in; providers go to the array given. HCI_E_INVAL. */
int mst_opts_fill(struct mst_opts *o, const struct mst_opts *user, struct mst_provider *providers, struct hci_error *err);

#endif
