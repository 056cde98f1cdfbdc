/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of the real env: what real_net.c (set-up), real_conn.c (bytes) and real_tls.c share.
 */
#ifndef ENV_REAL_CONN_H
#define ENV_REAL_CONN_H

#include "env/real_impl.h"
#include "env/real_tls.h"

#define CONN_SETUP_NS (10 * NS_PER_S) /* to connect and shake hands */
#define CONN_LINGER_NS (2 * NS_PER_S) /* for the peer to see the end of what we sent */
#define CONN_FLUSH_NS (30 * NS_PER_S) /* for what is still to be sent at close */
#define CONN_OUT_MAX (512u << 10)     /* bytes waiting to be sent; then env_conn_send says AGAIN */
#define CONN_DIRECT (32u << 10)       /* plain: as much goes from the caller's memory at once */
#define CONN_TURN_MAX (2u << 20)      /* bytes that one conn may receive in one callback */

enum conn_state {
	CONN_RESOLVING, /* the name is being looked up */
	CONN_CONNECTING,
	CONN_HANDSHAKE, /* TLS */
	CONN_OPEN,
	CONN_ENDED,     /* on_closed is due or told; the socket may still have to send */
	CONN_LINGERING, /* closed by its user: sends what is left, waits for the peer's end */
	CONN_DEAD,      /* in the graveyard */
};

struct real_listener {
	struct env_listener base;
	struct list link; /* real.listeners */
	struct source src;
	int fd;
	char addr[160];
	char unlink[108]; /* path to remove at close, or "" */
	struct real_tls *tls;
	void (*on_accept)(void *arg, struct env_conn *c);
	void *arg;
	struct env_timer again; /* after running out of descriptors */
	struct env_task gone;
	unsigned shaking; /* accepted conns whose handshake is not over */
	bool more;        /* not all was accepted */
};

struct resolve;
struct target { /* where a client connects to; gone once it is connected */
	struct sockaddr_storage ss[ADDR_TRIES];
	socklen_t len[ADDR_TRIES];
	int n, i;
};

struct real_conn {
	struct env_conn base;
	struct list link;         /* real.conns, then real.graveyard */
	struct list ready, flush; /* in real.ready, real.flush */
	struct source src;
	int fd;
	enum conn_state state;
	bool server, told;     /* told: on_closed was called */
	bool sock_rx, sock_tx; /* the socket may have bytes, may take bytes */
	bool rx_more;          /* env_conn_recv has not said AGAIN yet */
	bool rx_eof, hup;      /* the end was read; the end was announced */
	bool paused, want_writable, tx_dead;
	bool opened;       /* the stream below TLS was there */
	int raw_errno;     /* of the last raw read */
	size_t turn_bytes; /* received in this callback */

	const struct env_conn_ops *ops;
	void *arg;
	struct real_listener *listener; /* while its accepted conn shakes hands */
	struct resolve *resolve;
	struct target *target;
	struct env_timer timer; /* set-up; lingering */
	uint64_t deadline;

	struct chunk *rx; /* raw bytes from the socket, read ahead */
	struct list out;  /* chunks of raw bytes to the socket */
	size_t out_len;
	struct chunk *stage; /* TLS: clear bytes that do not fill a record yet */
	SSL *ssl;
	struct real_tls *tls;

	char peer_name[65];   /* CN: at most 64 characters, RFC 5280 A.1 */
	char addr[160];       /* of the peer, for messages */
	struct hci_error err; /* why it ended */
};

static inline struct real_conn *conn_of(struct env_conn *c)
{
	return container_of(c, struct real_conn, base);
}
static inline struct real *conn_real(const struct real_conn *c)
{
	return real_of(c->base.env);
}

/* real_net.c */
struct env_conn *real_connect(struct env *e, const char *addr, struct env_tls *tls,
			      const struct env_conn_ops *ops, void *arg, struct hci_error *err);
struct env_listener *real_listen(struct env *e, const char *addr, struct env_tls *tls,
				 void (*on_accept)(void *arg, struct env_conn *c), void *arg,
				 struct hci_error *err);
const char *real_listener_addr(const struct env_listener *l);
void real_listener_close(struct env_listener *l);
void net_connecting(struct real_conn *c);  /* the socket may be connected */
void net_detach(struct real_conn *c);      /* from look-up, target, listener */
void net_established(struct real_conn *c); /* connected, handshake over: tells the user */

/* real_tune.c */
void tune_socket(int fd, int family); /* a new one */
void tune_path(int fd);               /* one that is connected */

/* real_conn.c */
struct real_conn *conn_new(struct real *r, int fd, bool server);
void conn_ready(struct real_conn *c); /* its callbacks are looked at in this or the next turn */
/* Ends it; on_closed follows from the loop. Takes the first reason only. */
void conn_fail(struct real_conn *c, int code, int os_errno, const char *fmt, ...) PRINTF(4, 5);
void conn_bury(struct real_conn *c);
/* Raw bytes: > 0, 0 at the end of the stream, -errno. */
int64_t conn_raw_read(struct real_conn *c, void *buf, size_t len);
int conn_raw_write(struct real_conn *c, const void *buf, size_t len); /* queues; 0 or -ENOMEM */
void conn_cork(struct real_conn *c);         /* flush at the end of this turn */
void conn_flush_socket(struct real_conn *c); /* as much as the socket takes */
void conn_linger(struct real_conn *c);
struct chunk *chunk_get(struct real *r);
void chunk_put(struct real *r, struct chunk *k);
void real_conn_set_ops(struct env_conn *c, const struct env_conn_ops *ops, void *arg);
int64_t real_conn_recv(struct env_conn *c, void *buf, size_t len);
int64_t real_conn_send(struct env_conn *c, const struct iovec *iov, int n);
void real_conn_pause(struct env_conn *c, bool paused);
const char *real_conn_peer_name(const struct env_conn *c);
void real_conn_close(struct env_conn *c, bool abort_now);

/* real_tls.c */
struct env_tls *real_tls_new(struct env *e, const char *ca_file, const char *cert_file,
			     const char *key_file, bool verify_peer, struct hci_error *err);
void real_tls_free(struct env_tls *t);
void tls_ref(struct real_tls *t);
void tls_unref(struct real_tls *t);
int real_conn_start_tls(struct env_conn *c, struct env_tls *tls, bool server,
			struct hci_error *err);
int tls_start(struct real_conn *c, struct real_tls *t,
	      struct hci_error *err);    /* state is HANDSHAKE after */
void tls_handshake(struct real_conn *c); /* goes on; ends in net_established or conn_fail */
int64_t tls_recv(struct real_conn *c, void *buf, size_t len); /* as env_conn_recv */
int64_t tls_send(struct real_conn *c, const struct iovec *iov, int n,
		 size_t room);          /* bytes or HCI_E_* */
int tls_flush(struct real_conn *c);     /* encrypts what is staged */
void tls_shutdown(struct real_conn *c); /* queues close_notify */
void tls_drop(struct real_conn *c);

#endif
