/* SPDX-License-Identifier: Apache-2.0 */
/* A volume behind an NBD export. */
#ifndef EXPORT_NBD_VOLUME_H
#define EXPORT_NBD_VOLUME_H

#include "export/nbd.h"
#include "volume/volume.h"

struct nbd_volume;

/*
 * The volume stays the caller's and must outlive the requests: hold and drain, or close, the export
 * before detaching it. *out is filled in for nbd_export_add() or nbd_export_resume().
 */
struct nbd_volume *nbd_volume_new(struct env *e, struct vol *v, struct nbd_backend *out);
/* Nothing may be under way. */
void nbd_volume_free(struct nbd_volume *b);

#endif
