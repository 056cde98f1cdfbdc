/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who runs the loop. As a rule its own thread, the home. A thread that would wait for what the loop does may run
 * it meanwhile (a guest): nobody has to be woken then, neither the loop for a request nor the guest for its end.
 *
 * drive.owner says who may touch what belongs to the loop, and is handed on only between two turns, where no fiber
 * runs:
 *	HOME -> FREE	by the home, at the wish of a guest; it parks
 *	FREE -> GUEST	by a guest that begins	GUEST -> FREE	by a guest that has what it waited for
 *	FREE -> HOME	by the home, when it is called
 * A guest that is likely to be back at once leaves the loop to nobody: that is what makes it cheap. So that nothing
 * waits for it in vain, the home is called by each post (push, then look at owner; who leaves sets owner, then looks
 * at what was posted: one of the two sees the other) and looks by itself each DRIVE_LOOK: what else could bring work, an
 * event or a timer, comes later by two of these at most when a guest stays away.
 */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "env/real_impl.h"

#define DRIVE_AWAY (500 * NS_PER_US)  /* the home takes the loop back when nobody drove it for so long */
#define DRIVE_LOOK (1000 * NS_PER_US)
#define DRIVE_ASK (2 * NS_PER_MS)     /* a guest does not wait longer for the home to end its turn */
#define TURNS_AFTER 2u                /* let out what these turns gathered, then go */

static bool become(struct real *r, uint32_t from, uint32_t to)
{
	return atomic_compare_exchange_strong(&r->drive.owner, &from, to);
}

int drive_init(struct real *r)
{
	struct drive *d = &r->drive;
	pthread_condattr_t a;
	int e;

	atomic_store(&d->owner, DRIVE_HOME);
	e = pthread_condattr_init(&a);
	if (e)
		return -e;
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->home, &a);
	pthread_cond_init(&d->guest, &a);
	pthread_condattr_destroy(&a);
	d->made = true;
	return 0;
}

void drive_fini(struct real *r)
{
	if (!r->drive.made)
		return;
	pthread_cond_destroy(&r->drive.home);
	pthread_cond_destroy(&r->drive.guest);
	pthread_mutex_destroy(&r->drive.lock);
}

/* With the lock held. */
static int wait_for(struct drive *d, pthread_cond_t *c, uint64_t ns)
{
	uint64_t end = real_clock() + ns;
	struct timespec ts = { (time_t)(end / NS_PER_S), (long)(end % NS_PER_S) };

	return pthread_cond_timedwait(c, &d->lock, &ts);
}

/* ---- the home ---- */

void drive_call_home(struct real *r)
{
	struct drive *d = &r->drive;

	pthread_mutex_lock(&d->lock);
	d->called = true;
	pthread_cond_signal(&d->home);
	pthread_mutex_unlock(&d->lock);
}

/* With the lock held. */
static bool wanted_home(struct real *r)
{
	struct drive *d = &r->drive;

	return d->called || atomic_load(&r->stop) || real_clock() - atomic_load(&d->left_at) >= DRIVE_AWAY;
}

void drive_park(struct real *r)
{
	struct drive *d = &r->drive;

	pthread_mutex_lock(&d->lock);
	if (!d->asking) { /* does not wait any longer */
		pthread_mutex_unlock(&d->lock);
		return;
	}
	d->called = false;
	atomic_store(&d->left_at, real_clock());
	atomic_store(&d->owner, DRIVE_FREE);
	pthread_cond_signal(&d->guest);
	for (;;) {
		/* Began after we were called, and sees to it. */
		if (atomic_load(&d->owner) == DRIVE_GUEST)
			d->called = false;
		if (wanted_home(r) && become(r, DRIVE_FREE, DRIVE_HOME))
			break;
		(void)wait_for(d, &d->home, DRIVE_LOOK);
	}
	d->called = false;
	atomic_store(&r->thread, d->home_thread);
	pthread_mutex_unlock(&d->lock);
	r->env.now = real_clock();
}

/* ---- guests ---- */

/* The home lets go of it after its turn. False: it is too busy, or somebody else asks. */
static bool ask(struct real *r)
{
	struct drive *d = &r->drive;
	bool mine = false, late = false;

	pthread_mutex_lock(&d->lock);
	if (d->asking) {
		pthread_mutex_unlock(&d->lock);
		return false;
	}
	d->asking = true;
	atomic_store(&d->want, true);
	if (atomic_load(&r->sleeping) && atomic_exchange(&r->sleeping, false))
		real_wake(r);
	while (!(mine = become(r, DRIVE_FREE, DRIVE_GUEST)) && !late)
		late = wait_for(d, &d->guest, DRIVE_ASK) == ETIMEDOUT;
	atomic_store(&d->want, false);
	d->asking = false;
	pthread_mutex_unlock(&d->lock);
	return mine;
}

static void leave(struct real *r)
{
	atomic_store(&r->thread, r->drive.home_thread);
	atomic_store(&r->drive.left_at, real_clock());
	atomic_store(&r->drive.owner, DRIVE_FREE);
	if (atomic_load(&r->posted) || atomic_load(&r->stop))
		drive_call_home(r);
}

static void drive(struct real *r, uint64_t until, bool (*done)(void *arg), void *arg)
{
	unsigned after = 0;
	bool busy;

	for (;;) {
		busy = real_turn(r);
		if (done(arg) && (!busy || ++after == TURNS_AFTER))
			return;
		if (r->env.now >= until)
			return;
		real_sleep(r, busy || after, until);
	}
}

enum env_drive env_drive(struct env *e, uint64_t until, bool (*done)(void *arg), void *arg)
{
	struct real *r = real_of(e);
	enum env_drive how = ENV_DRIVE_OK;
	sigset_t all, old;
	int cancel;

	if (!become(r, DRIVE_FREE, DRIVE_GUEST)) {
		if (atomic_load(&r->drive.owner) == DRIVE_GUEST || !ask(r))
			return ENV_DRIVE_NO;
		how = ENV_DRIVE_ASKED;
	}
	/* A handler must not run on a fiber's stack: signals come while the loop sleeps. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	atomic_store(&r->thread, pthread_self());
	r->sigmask = &old;
	r->env.now = real_clock();
	drive(r, until, done, arg);
	r->sigmask = NULL;
	leave(r);
	pthread_setcancelstate(cancel, &cancel);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return how;
}

/* Who posts will drive the loop in a moment: nobody is called for it when nobody has the loop. */
void env_post_quiet(struct env *e, struct env_task *t)
{
	real_push(real_of(e), t);
}
