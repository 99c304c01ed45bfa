/* rpc.h: a client's connection to one broker: requests go out in order, as many as are queued in
 * one send, and answers come back in that order. Happy path: rpc_conn_open(); rpc_send() queues;
 * rpc_conn_pump() at the end of a turn sends what is queued; on_done() gets the answer's body, lent
 * until it returns. Failure: whatever breaks the connection (a lost peer, a malformed answer,
 * rpc_conn_close()) ends each rpc with that error and then calls on_closed, once; the connection
 * may then be opened again. Ownership: an rpc and its bytes are lent from rpc_send() until on_done,
 * which is called from a turn, never from rpc_send(). Threads: that of the environment. */
#ifndef BENCH_LOAD_RPC_H
#define BENCH_LOAD_RPC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/base/list.h"
#include "io/env.h"
#include "io/sock.h"
#include "net/wire/wire.h"

struct rpc;
struct rpc_conn;
/* body: behind the response header, len bytes, mutable; NULL when rc < 0 or nothing is answered. */
typedef void (*rpc_fn)(struct rpc *rpc, int rc, uint8_t *body, uint32_t len);

struct rpc {
    const struct wire_api *api;
    int16_t version;
    bool unanswered;   /* acks=0: done when it is sent */
    struct iovec *iov; /* the whole frame, in pieces */
    unsigned iov_n;    /* at least 1 */
    uint64_t sent_ns;  /* out: when it was given to the kernel; 0: not yet */
    rpc_fn on_done;
    int32_t correlation; /* private from here on; it also stands in the frame */
    struct list_node link;
};

/* Frame of a request with its header; correlation ids are the caller's to choose. The writer keeps
 * the bytes, iov (of iov_cap) gets the pieces. 0; -ENOMEM; -E2BIG: more pieces than iov_cap. */
int rpc_encode(struct rpc *rpc, const struct wire_api *api, int16_t version, int32_t correlation,
               const void *request, struct wire_writer *w, struct iovec *iov, unsigned iov_cap);

enum rpc_conn_state { RPC_CLOSED, RPC_CONNECTING, RPC_OPEN, RPC_CLOSING };
struct rpc_conn {
    struct env *env;
    enum rpc_conn_state state;
    int rc; /* why it closes */
    void (*on_open)(struct rpc_conn *c);
    void (*on_closed)(struct rpc_conn *c, int rc);
    struct sock_addr addr;
    int sock;
    struct env_op connect_op, recv_op, send_op; /* private from here on */
    bool sending_lent;                          /* until the kernel is done with a send's bytes */
    uint8_t *in;
    uint32_t in_len, in_cap, in_cap_least;
    struct iovec *out; /* of the send under way */
    unsigned out_cap;
    struct list_node queued;   /* not sent yet */
    struct list_node sending;  /* in the send under way */
    struct list_node awaiting; /* sent, to be answered */
    uint64_t opened_ns;
};

#define RPC_FRAME_BYTES_MAX (1u << 30)

/* in_bytes: the receive buffer to begin with; it grows for larger answers. */
void rpc_conn_init(struct rpc_conn *c, struct env *env, uint32_t in_bytes,
                   void (*on_open)(struct rpc_conn *), void (*on_closed)(struct rpc_conn *, int));
/* Only when closed. on_open, or on_closed with the error, follows from a turn. */
void rpc_conn_open(struct rpc_conn *c, const struct sock_addr *addr);
/* Closed: nothing happens. */
void rpc_conn_close(struct rpc_conn *c, int rc);
/* It must be closed. */
void rpc_conn_fini(struct rpc_conn *c);

void rpc_send(struct rpc_conn *c, struct rpc *rpc); /* only when open */
void rpc_conn_pump(struct rpc_conn *c);
/* Close, with -ETIMEDOUT, when the oldest request was sent, or connecting began, before that time.
 */
void rpc_conn_expire(struct rpc_conn *c, uint64_t before_ns);

#endif
