/* SPDX-License-Identifier: Apache-2.0 */
#include "volume/pace.h"

void pace_init(struct pace *p)
{
	p->window = PACE_START;
	p->gap = p->next_at = 0;
}
