/* conn.h: one client connection, and what the connections of a shard share; private to net.
 *
 * Happy path: an idle connection waits in env_recv_any and holds no buffer. What arrives is cut
 *   into frames: each becomes a request with its own memory, of which the rest is received
 *   straight into it. Complete requests are handled at once, several of one receive one after the
 *   other; replies wait in the order of their requests and leave together at the end of the turn,
 *   one send at a time.
 * Back-pressure: a connection is not read while it has requests_in_flight_max requests open, nor
 *   while there is no memory for its next frame (then it waits in a first-come queue; what had
 *   arrived already is kept in a small stash). Who holds memory that others wait for, and does not
 *   take part, is closed (pressure.c).
 * Failure: a frame that makes no sense stops the reading; the replies to what came before it still
 *   leave, then the connection is closed. A broken socket closes it at once.
 * Close: CONN_CLOSED has been shut down and waits for its receive and its sends to come back. What
 *   was sent without a copy comes back when the peer has taken it; if it does not, it is reset.
 * Threads: the shard's. */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "net/client_stats.h"
#include "net/net.h"

#define CONN_IOV_MAX 256u
/* Of one receive: what it brings is still in the processor's cache when it is checked; and it shows
 * that a slow frame moves on. */
#define CONN_RECV_CHUNK_BYTES (256u << 10)
#define CONN_STALLED_MS 30000u /* a frame that has begun and does not move on */
#define CONN_SMALL_FRAME_BYTES (64u << 10)
#define NET_LOG_LINES_PER_SECOND 10u

/* The part of a request that handlers do not see. */
struct conn_request {
    struct request r;
    uint8_t *block; /* the frame's memory from net_memory; NULL: in the arena, or at r.place */
    uint32_t have;  /* of the frame, received so far */
    unsigned sends; /* sends that have pieces of the reply and are not released */
    /* How far the reply is in a send: bytes of reply.buf, whole refs, then of the next ref. */
    uint32_t buf_at, ref_at;
    int32_t ref_iov;
    uint32_t ref_bytes;
    bool failed;     /* close the connection when its turn comes */
    bool queued_all; /* no piece is left to send */
    struct net *net;
    struct conn_request *next_free;
};

enum conn_state { CONN_OPEN, CONN_DRAINING, CONN_CLOSED };
enum conn_pause { CONN_READING, CONN_PAUSED_IN_FLIGHT, CONN_PAUSED_MEMORY };

struct conn {
    struct net *net;
    struct list_node link;  /* net->conns */
    struct list_node dirty; /* net->dirty: has something to send or to resume */
    struct list_node wait;  /* net->small_waiting, large_waiting or starved */
    struct list_node order; /* struct request.link, oldest first */
    unsigned open_requests; /* in order */
    enum conn_state state;
    enum conn_pause pause;
    int sock;
    uint8_t head[4];
    uint32_t head_n;
    struct conn_request *incoming; /* its frame is being received */
    uint8_t *stash;                /* arrived but not consumed while paused; malloc */
    uint32_t stash_at, stash_n;
    uint64_t active_ns; /* last time that something moved */
    /* While memory is short: what its socket had moved when it was last seen to take part. */
    uint64_t watch_bytes;
    unsigned watch_looks; /* since then without it moving */
    unsigned watch_round; /* net->pressed_round of these */
    struct env_op recv_op;
    struct conn_send *sending; /* on_done has not come */
    unsigned sends;            /* not released */
    bool is_local;             /* both ends are on this machine */
    struct client_row *client; /* who it is; NULL until its first request */
    /* Of sends "without a copy": how many the kernel copied all the same, and how many not. */
    uint32_t sends_copied, sends_uncopied;
};

/* One send in flight: lent to the environment until it is released. */
struct conn_send {
    struct env_op op;
    struct conn *conn;
    struct conn_send *next_free;
    unsigned requests_n, iov_n;
    struct conn_request *requests[CONN_IOV_MAX];
    struct iovec iov[CONN_IOV_MAX];
    const struct env_extent *extent; /* not NULL: this instead */
    bool more;                       /* of the last reply */
};

struct net_listener {
    struct net *net;
    struct env_op op;
    struct shard_timer retry;
    int sock;
};

/* Since net_init; others may counter_read() them. */
struct net_counters {
    uint64_t requests[NET_APIS_MAX];                      /* by row of net_apis */
    uint64_t requests_failed;                             /* closed their connection */
    uint64_t conns_open;                                  /* now */
    uint64_t conns_accepted, conns_refused, conns_closed; /* refused ones are accepted ones, too */
    uint64_t memory_waits;                                /* a frame did not find memory */
    uint64_t buffer_waits;                                /* no receive buffer was free */
};

struct net { /* shard->net */
    struct shard *shard;
    struct list_node conns, dirty, starved;
    struct list_node small_waiting, large_waiting; /* for memory, by the size of the frame */
    struct log_waiter log_waiter;                  /* some of them wait for memory of the log */
    struct list_node dead; /* struct request.link: released at the end of the turn */
    struct net_counters counters;
    struct client_stats clients;
    unsigned conns_max;
    unsigned requests_n; /* alive, with or without a connection */
    uint32_t frame_bytes_max;
    size_t small_reserve_bytes; /* of the memory for requests, for small frames only */
    struct conn_request *requests_free;
    unsigned requests_free_n;
    struct conn_send *sends_free;
    struct net_listener *listeners;
    unsigned listeners_n;
    unsigned deal_next; /* of the node's shards, the one that gets the next connection */
    struct shard_timer idle_timer, starved_timer, pressed_timer;
    unsigned pressed_round; /* which shortage of memory this is; from 1 */
    uint64_t log_window_ns;
    unsigned log_lines, log_dropped;
    bool told_of_copies; /* in the log: a link that copies what is sent without a copy */
    bool stopping;
    struct data_shard *data;    /* of net/api/data_shard.h; NULL until it is used */
    struct group_coord *groups; /* of core/group */
};

/* ---- conn.c ---- */
void conn_open(struct net *net, int sock); /* takes the socket */
void conn_drain(struct conn *c);           /* no more reading; close when the replies have left */
void conn_close(struct conn *c);
void conn_abandon(
    struct conn *c); /* closed, but the peer does not take what is on its way: drop it */
void conn_mark_dirty(struct conn *c);
void conn_flush(struct conn *c);  /* send what is ready, then read on if that was held up */
void conn_resume(struct conn *c); /* after a pause, or -ENOBUFS */

/* ---- egress.c ---- */
void egress_send(struct conn *c, struct conn_send *send, env_done_fn on_done,
                 env_done_fn on_released); /* by the path that is best for it */
void egress_released(struct conn *c, const struct conn_send *send);

/* ---- request.c ---- */
/* The frame's memory depends on its first bytes, as many as have arrived. NULL: no memory. */
struct conn_request *conn_request_create(struct net *net, uint32_t frame_len, const uint8_t *head,
                                         uint32_t head_len);
void conn_request_drop_later(struct conn_request *x); /* at the end of the turn */
void conn_requests_drop(struct net *net);             /* then: tells on_released, frees */
void conn_request_dispatch(struct conn_request *x);   /* the frame is complete */
/* The next pieces of a reply for a send: fills at most iov_n and says how many; or the next one is
 * a piece of a file, *ret_extent. x->queued_all when there are no more. */
unsigned conn_request_pieces(struct conn_request *x, struct iovec *iov, unsigned iov_n,
                             const struct env_extent **ret_extent);
void conn_requests_fini(struct net *net);

/* ---- pressure.c ---- */
void pressure_arm(struct net *net); /* once a turn */
void pressure_fini(struct net *net);

/* ---- server.c ---- */
void net_wait_log_memory(struct net *net); /* for a frame that is going to wait */
/* A log line that a client can cause: at most so many a second on each shard. */
__attribute__((format(printf, 2, 3))) void net_log(struct net *net, const char *fmt, ...);

#endif
