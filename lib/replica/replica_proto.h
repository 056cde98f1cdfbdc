/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replica service on the wire, shared by the server (lib/replica) and the writer (lib/volume).
 * Bodies are msgpack arrays of integers unless said otherwise; new fields are appended; a reader
 * ignores what it does not know. docs/wire-format.md is the page.
 */
#ifndef REPLICA_PROTO_H
#define REPLICA_PROTO_H

#include "base/base.h"

enum repl_method {
	/* map {disk: bin16, volume: bin16, gen, segsize, ro: bool} -> map {handle: u32, gen, last, stable, token: bin32 (not
	 * if ro)}. The handle is of this connection; it ends with it. */
	REPL_RPC_OPEN = 0x100,
	REPL_RPC_CLOSE = 0x101,   /* [handle] -> [] */
	/* [handle, segment, off, len, flags] -> [sums: bin, 4 bytes a block] + payload len. The caller compares. */
	REPL_RPC_READ = 0x102,
	/* [handle, segment, off, len, seq, stable, flags, sums: bin, 4 bytes a block] + payload -> [] */
	REPL_RPC_WRITE = 0x103,
	REPL_RPC_ZERO = 0x104,    /* [handle, segment, off, len, seq, stable, flags] -> [] */
	REPL_RPC_STABLE = 0x105,  /* [handle, stable] -> [] */
	/* [handle, since, only_segment, cursor_segment, cursor_region, cursor_seq, max] -> [count, more] + payload: count
	 * entries of 16 bytes, little-endian u32 segment, u32 region, u64 seq */
	REPL_RPC_REGIONS = 0x106,
	/* map {disk, volume, segment (u32, 0xffffffff: all), gen} -> []; with {handle}: on behalf of that opening */
	REPL_RPC_DROP = 0x107,
	/* map {disk} -> map {state...}: for people and tests */
	REPL_RPC_INFO = 0x108,
	/* [handle] -> [segment, region, segment, region...]: what the scrub found damaged; the caller repairs it, it is not
	 * listed again */
	REPL_RPC_ROTTEN = 0x109,
	/* [handle, segment, off, len, seq, flags, patience in ms, node of the source, token there] -> []: fetch it there and
	 * take it as a copy. UNAVAILABLE: the source did not lend it. */
	REPL_RPC_PULL = 0x10a,
	/* [token, segment, off, len, flags] -> as READ: for another node, on behalf of the opening whose token it is */
	REPL_RPC_LEND = 0x10b,
};

#define REPL_TOKEN 32u /* bytes of the token that OPEN for writing gives; means something to its maker only */

#endif
