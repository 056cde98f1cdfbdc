/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room: a write that is acknowledged must find a place in its segment file later. Blocks in the log
 * that are not in the file yet are reserved; a write for which nothing is left beside the
 * reservations and the reserve is refused while nothing has changed yet.
 */
#include "base/mem.h"
#include "replica/replica_impl.h"

bool space_has(const struct repl_disk *d, uint64_t blocks)
{
	uint64_t need = (d->resv + d->resv_pending + blocks) * HCI_BLOCK + d->reserve;

	return !d->full && need <= d->fs_free;
}

int space_refresh(struct repl_disk *d)
{
	uint64_t free_bytes, total;
	int rc = env_statfs(d->e, d->path, &free_bytes, &total);

	if (rc)
		return rc;
	d->fs_free = free_bytes;
	d->fs_total = total;
	d->statfs_at = env_now(d->e);
	return 0;
}
