/* agents_link.h: a connection between a conductor and an agent, as messages of agents_wire.h.
 * Happy path: agents_link_open() with a connected socket; encode into link->out,
 * agents_link_send(); agents_link_await() for the next message; agents_link_close(). Failure:
 * -errno, and the link is of no use any more: -ECONNRESET when the other side has closed, -EPROTO
 * when it speaks something else, -ETIMEDOUT when it has taken nothing for 30 s or its host is gone.
 * agents_link_why() has words for these. Ownership: the link takes the socket. A message is lent
 * until the next call that receives. Threads: one at a time; agents_link_shut() from any. */
#ifndef BENCH_AGENTS_LINK_H
#define BENCH_AGENTS_LINK_H

#include "bench/agents_wire.h"
#include "io/sock.h"

#define AGENTS_HOST_BYTES 256

struct agents_link {
    int fd; /* -1: closed */
    char peer[AGENTS_HOST_BYTES + 8];
    struct wire_writer out;
    uint8_t *in; /* private, all below */
    size_t in_at, in_len, in_cap;
};

/* HOST:PORT or [IPv6]:PORT. -EINVAL. */
int agents_address_parse(const char *text, char ret_host[AGENTS_HOST_BYTES], uint16_t *ret_port);

void agents_link_open(struct agents_link *k, int fd, const char *peer);
/* Connects within so many ms. */
int agents_link_connect(struct agents_link *k, const char *name, int timeout_ms);
void agents_link_close(struct agents_link *k); /* also of a zeroed link with fd -1 */
void agents_link_shut(struct agents_link *k);  /* makes all calls on it fail, soon */

int agents_link_send(struct agents_link *k);
/* Takes in what has come, without waiting: 0, or why there is no more to come. */
int agents_link_fill(struct agents_link *k);
/* The next message of what was taken in: 1; 0: there is none. */
int agents_link_next(struct agents_link *k, struct agents_message *ret);
/* 1: a message; 0: none within so many ms. */
int agents_link_await(struct agents_link *k, int timeout_ms, struct agents_message *ret);

const char *agents_link_why(int rc);

#endif
