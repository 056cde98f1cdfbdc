/* SPDX-License-Identifier: Apache-2.0 */
/* What both ends of a memory stream have: making and freeing, how it is over, the limit of its rate. */
#include "compute/memory_path_impl.h"

#define BURST_NS (50 * NS_PER_MS)
#define BURST_MIN (64 << 10)

/* ---- the pump's next turn ---- */

/* The codec's call, from any thread; ours too: the task may be posted at that moment, so it is never deferred. */
static void wake(void *ctx)
{
	struct memory_path *p = ctx;

	if (!atomic_exchange(&p->posted, true))
		env_post(p->e, &p->task);
}

/* ---- the limit ---- */

static void on_timer(struct env_timer *t)
{
	wake(container_of(t, struct memory_path, limit.timer));
}

static int64_t burst(const struct memory_path *p)
{
	return MAX((int64_t)((double)p->limit.rate * (double)BURST_NS / (double)NS_PER_S), BURST_MIN);
}

static void refill(struct memory_path *p, uint64_t now)
{
	p->limit.tokens += (int64_t)((double)p->limit.rate * (double)(now - p->limit.at) / (double)NS_PER_S);
	p->limit.tokens = MIN(p->limit.tokens, burst(p));
	p->limit.at = now;
}

bool memory_path_may_send(struct memory_path *p)
{
	uint64_t now = env_now(p->e);

	if (!p->limit.rate)
		return true;
	refill(p, now);
	if (p->limit.tokens > 0)
		return true;
	env_timer_arm(p->e, &p->limit.timer,
		      now + NS_PER_MS + (uint64_t)((double)-p->limit.tokens * (double)NS_PER_S / (double)p->limit.rate));
	return false;
}

void memory_path_sent(struct memory_path *p, uint32_t n)
{
	if (p->limit.rate)
		p->limit.tokens -= n;
}

void memory_path_limit(struct memory_path *p, uint64_t bytes_per_s)
{
	if (p->limit.rate == bytes_per_s)
		return;
	if (p->limit.rate)
		refill(p, env_now(p->e));
	p->limit.rate = bytes_per_s;
	if (p->enc)
		mst_enc_set_limited(p->enc, bytes_per_s != 0);
	p->limit.at = env_now(p->e);
	p->limit.tokens = MIN(p->limit.tokens, bytes_per_s ? burst(p) : 0);
	env_timer_disarm(p->e, &p->limit.timer);
	wake(p);
}

/* ---- life ---- */

static uint64_t loop_now(void *ctx)
{
	struct memory_path *p = ctx;

	return env_now(p->e);
}

static void tell_over(struct env_task *t)
{
	struct memory_path *p = container_of(t, struct memory_path, over_task);
	struct hci_error err = p->err;

	p->o.on_over(p->o.arg, p, &err);
}

struct memory_path *memory_path_new(struct env *e, const struct memory_path_opts *o, void (*pump)(struct env_task *t))
{
	struct memory_path *p = MEM_NEW(struct memory_path);

	if (!p)
		return NULL;
	p->e = e;
	p->o = *o;
	p->o.codec.wake = wake;
	p->o.codec.ctx = p;
	/* Without workers all of it is on the loop: then the loop's clock, which a simulator has, too. */
	if (!p->o.codec.workers)
		p->o.codec.now = loop_now;
	p->opening = true;
	env_task_init(&p->task, pump);
	env_task_init(&p->over_task, tell_over);
	env_timer_init(&p->limit.timer, on_timer);
	p->buf = mem_alloc(MEMORY_READ);
	if (!p->buf) {
		mem_free(p);
		return NULL;
	}
	return p;
}

static void free_codec(struct memory_path *p)
{
	memory_path_stats(p, &p->last);
	if (p->o.quit)
		p->o.quit(p->o.arg);
	mst_enc_free(p->enc);
	mst_dec_free(p->dec);
	p->enc = NULL;
	p->dec = NULL;
	env_undefer(p->e, &p->task);
	env_timer_disarm(p->e, &p->limit.timer);
}

void memory_path_drop(struct memory_path *p)
{
	free_codec(p);
	env_undefer(p->e, &p->over_task);
	mem_free(p->buf);
	mem_free(p);
}

void memory_path_ended(struct memory_path *p)
{
	if (!p->end_told && p->o.on_end)
		p->o.on_end(p->o.arg);
	p->end_told = true;
}

void memory_path_crossed(struct memory_path *p)
{
	p->ended = env_now(p->e);
	if (!p->began)
		p->began = p->ended;
}

uint64_t memory_path_ns(const struct memory_path *p)
{
	return p->ended - p->began;
}

void memory_path_pause(struct memory_path *p, bool paused)
{
	if (p->paused == paused || !p->sock)
		return;
	p->paused = paused;
	env_conn_pause(p->sock, paused);
}

static void over(struct memory_path *p, const struct hci_error *err)
{
	memory_path_ended(p);
	if (p->sock)
		env_conn_close(p->sock, err->code != 0);
	p->sock = NULL;
	free_codec(p);
	p->err = *err;
	env_defer(p->e, &p->over_task);
}

void memory_path_fail(struct memory_path *p, const struct hci_error *err)
{
	struct hci_error why = *err;

	if (p->s && rpc_stream_is_offer(p->s))
		rpc_stream_refuse(p->s, why.code, why.message);
	else
		rpc_stream_close(p->s, &why);
	p->s = NULL;
	over(p, &why);
}

void memory_path_closed(struct memory_path *p, const struct hci_error *err)
{
	struct hci_error why = *err;

	rpc_stream_close(p->s, NULL);
	p->s = NULL;
	over(p, &why);
}

void memory_path_stats(const struct memory_path *p, struct mst_stats *out)
{
	if (p->enc)
		mst_enc_stats(p->enc, out);
	else if (p->dec)
		mst_dec_stats(p->dec, out);
	else
		*out = p->last;
}

void memory_path_free(struct memory_path *p, const struct hci_error *why)
{
	if (!p)
		return;
	memory_path_ended(p);
	if (p->sock)
		env_conn_close(p->sock, true);
	if (p->s && rpc_stream_is_offer(p->s))
		rpc_stream_refuse(p->s, why ? why->code : HCI_E_CANCELLED, why ? why->message : "given up");
	else
		rpc_stream_close(p->s, why);
	p->s = NULL;
	memory_path_drop(p);
}
