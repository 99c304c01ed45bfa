/* client_conn.h: one connection to a broker, one request under way at a time.
 * Happy path: client_conn_open() connects and asks which API versions the broker speaks;
 *   client_conn_send(); client_conn_receive() when the socket has something, until it says 1;
 *   client_conn_take() decodes the answer.
 * Failure: -errno, and the connection is closed; it may be opened again. An answer that is too
 *   long, malformed, or to another request is -EPROTO. What is held of an answer of which the rest
 *   is awaited is bounded by CLIENT_ANSWER_BYTES_MAX.
 * Ownership: what client_conn_take() decodes lives in the arena. Threads: one. */
#ifndef TOOLS_CLIENT_CONN_H
#define TOOLS_CLIENT_CONN_H

#include <stdint.h>

#include "core/base/arena.h"
#include "net/wire/wire.h"

#define CLIENT_APIS_MAX 128 /* keys below are looked at */
#define CLIENT_ANSWER_BYTES_MAX (512u << 20)

struct client_conn { /* zero is closed */
    char name[280];  /* "HOST:PORT", for messages */
    bool is_open;
    int fd;
    int16_t api_min[CLIENT_APIS_MAX], api_max[CLIENT_APIS_MAX]; /* max -1: not spoken */
    const struct wire_api *api; /* of the request under way; NULL: none */
    int16_t version;
    int32_t correlation;
    uint64_t sent_ns; /* clock_now_ns() then */
    uint8_t *in;      /* the answer as far as it is there, with its length in front */
    uint32_t in_len, in_cap;
};

/* Every address of the host in turn, until one connects. deadline: clock_now_ns(). */
int client_conn_open(struct client_conn *c, const char *host, uint16_t port, uint64_t deadline_ns);
void client_conn_close(struct client_conn *c);

/* The newest version that both sides speak, at most `most`; -1: none. */
int16_t client_conn_version(const struct client_conn *c, int16_t key, int16_t most);

/* Blocks until all is given to the kernel, at most until the deadline. is_answered false: no answer
 * will come (Produce with acks=0). */
int client_conn_send(struct client_conn *c, int16_t key, int16_t version, const void *request,
                     bool is_answered, struct wire_writer *w, uint64_t deadline_ns);
/* What can be had without waiting: 1 the answer is whole, 0 not yet. */
int client_conn_receive(struct client_conn *c);
/* Decode the whole answer. 0, -EPROTO, -ENOMEM. */
int client_conn_take(struct client_conn *c, struct arena *arena, void *ret);
/* Wait for the answer to what was sent, and take it. */
int client_conn_await(struct client_conn *c, uint64_t deadline_ns, struct arena *arena, void *ret);

#endif
