/* SPDX-License-Identifier: Apache-2.0 */
/* What io.c, io_read.c and io_write.c share. */
#ifndef VOLUME_IO_IMPL_H
#define VOLUME_IO_IMPL_H

#include "volume/volume_impl.h"

/* io.c */
void piece_run(struct piece *p);
void piece_finish(struct piece *p, int status);
void piece_again(struct piece *p, uint64_t off, uint64_t len); /* a read that nobody works at, with another range */
bool piece_over(struct piece *p); /* the volume is: the piece ends, now or when its last request does */
void piece_stall(struct piece *p);

/* io_read.c */
void read_run(struct piece *p);
/* Before the request goes back to its list: its status, as an answer to the read. */
int read_op_end(struct piece *p, struct leg_op *op, int status, char *why, size_t cap);
void read_answer(struct piece *p, struct leg *l, uint8_t pos, int status, const char *why);
void hedge_timer_fn(struct env_timer *t);

/* io_write.c */
void write_run(struct piece *p);
void write_check(struct piece *p);
void write_answer(struct piece *p, struct leg *l, uint8_t pos, uint16_t round, int status, const char *why);
void write_retry(struct piece *p); /* asks those again that had no space */
void flight_recheck(struct vol *v);
void stable_timer_fn(struct env_timer *t);

#endif
