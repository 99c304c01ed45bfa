#include "bench/agents_link.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"

enum {
    GONE_AFTER_S = 30,     /* a peer that takes nothing for so long */
    KEEPALIVE_IDLE_S = 10, /* a silent peer is asked whether it is there */
    KEEPALIVE_EACH_S = 5,
    KEEPALIVE_TIMES = 4,
    IN_BYTES_LEAST = 1 << 16,
};

int agents_address_parse(const char *text, char ret_host[AGENTS_HOST_BYTES], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    if (colon == NULL || colon[1] < '0' || colon[1] > '9')
        return -EINVAL;
    unsigned long port = strtoul(colon + 1, &end, 10);
    size_t len = (size_t)(colon - text);
    if (len > 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL) {
        return -EINVAL;
    }
    if (len == 0 || len >= AGENTS_HOST_BYTES || *end != '\0' || port > UINT16_MAX)
        return -EINVAL;
    memcpy(ret_host, text, len);
    ret_host[len] = '\0';
    *ret_port = (uint16_t)port;
    return 0;
}

/* ---- life ---- */

static void option_set(int fd, int level, int option, int value)
{
    int rc = setsockopt(fd, level, option, &value, sizeof(value));
    (void)rc; /* without them a host that vanished is noticed later */
}

void agents_link_open(struct agents_link *k, int fd, const char *peer)
{
    struct timeval limit = {.tv_sec = GONE_AFTER_S};
    *k = (struct agents_link){.fd = fd};
    snprintf(k->peer, sizeof(k->peer), "%s", peer);
    wire_writer_init(&k->out);
    option_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    option_set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, GONE_AFTER_S * 1000);
    option_set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    option_set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    option_set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EACH_S);
    option_set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_TIMES);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

static int connect_within(int fd, const struct sock_addr *addr, int timeout_ms)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (connect(fd, (const struct sockaddr *)&addr->storage, addr->len) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int rc = poll(&p, 1, timeout_ms);
    if (rc <= 0)
        return rc == 0 ? -ETIMEDOUT : -errno;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
        return -errno;
    return -error;
}

int agents_link_connect(struct agents_link *k, const char *name, int timeout_ms)
{
    char host[AGENTS_HOST_BYTES];
    uint16_t port;
    struct sock_addr addr;
    int rc = agents_address_parse(name, host, &port);
    if (rc == 0)
        rc = sock_resolve(host, port, &addr);
    if (rc < 0)
        return rc;
    int fd = socket(addr.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    rc = connect_within(fd, &addr, timeout_ms);
    if (rc == 0 && fcntl(fd, F_SETFL, 0) < 0)
        rc = -errno;
    if (rc < 0) {
        close(fd);
        return rc;
    }
    agents_link_open(k, fd, name);
    return 0;
}

void agents_link_close(struct agents_link *k)
{
    if (k->fd >= 0)
        close(k->fd);
    free(k->in);
    wire_writer_fini(&k->out);
    k->fd = -1;
    k->in = NULL;
    k->in_at = k->in_len = k->in_cap = 0;
}

void agents_link_shut(struct agents_link *k)
{
    shutdown(k->fd, SHUT_RDWR);
}

/* ---- messages ---- */

int agents_link_send(struct agents_link *k)
{
    int rc = k->out.failed ? -ENOMEM : 0;
    for (uint32_t at = 0; rc == 0 && at < k->out.len;) {
        ssize_t n = send(k->fd, k->out.buf + at, k->out.len - at, MSG_NOSIGNAL);
        if (n > 0)
            at += (uint32_t)n;
        else if (n < 0 && errno != EINTR)
            rc = errno == EAGAIN ? -ETIMEDOUT : -errno;
    }
    wire_writer_reset(&k->out);
    return rc;
}

/* Room for the rest of the message that has begun, or for a bit of the next. */
static int in_grow(struct agents_link *k)
{
    memmove(k->in, k->in + k->in_at, k->in_len - k->in_at);
    k->in_len -= k->in_at;
    k->in_at = 0;
    if (k->in_len < k->in_cap)
        return 0;
    size_t cap = MIN(k->in_cap * 2, (size_t)AGENTS_MESSAGE_BYTES_MAX + AGENTS_HEADER_BYTES);
    if (cap <= k->in_cap)
        return -EPROTO; /* whole messages are to be taken out first */
    uint8_t *in = realloc(k->in, cap);
    if (in == NULL)
        return -ENOMEM;
    k->in = in;
    k->in_cap = cap;
    return 0;
}

int agents_link_fill(struct agents_link *k)
{
    if (k->in == NULL) {
        k->in = malloc(IN_BYTES_LEAST);
        if (k->in == NULL)
            return -ENOMEM;
        k->in_cap = IN_BYTES_LEAST;
    }
    int rc = in_grow(k);
    if (rc < 0)
        return rc;
    ssize_t n = recv(k->fd, k->in + k->in_len, k->in_cap - k->in_len, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    k->in_len += (size_t)n;
    return n == 0 ? -ECONNRESET : 0;
}

int agents_link_next(struct agents_link *k, struct agents_message *ret)
{
    size_t used = 0;
    if (k->in == NULL)
        return 0;
    int rc = agents_message_peek(k->in + k->in_at, k->in_len - k->in_at, ret, &used);
    k->in_at += used;
    return rc;
}

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int agents_link_await(struct agents_link *k, int timeout_ms, struct agents_message *ret)
{
    int64_t end_ms = now_ms() + timeout_ms;
    for (;;) {
        int rc = agents_link_next(k, ret);
        if (rc != 0)
            return rc;
        struct pollfd p = {.fd = k->fd, .events = POLLIN};
        rc = poll(&p, 1, (int)MAX(end_ms - now_ms(), 0));
        if (rc == 0)
            return 0;
        if (rc > 0)
            rc = agents_link_fill(k);
        else
            rc = errno == EINTR ? 0 : -errno;
        if (rc < 0)
            return rc;
    }
}

const char *agents_link_why(int rc)
{
    static const struct {
        int rc;
        const char *text;
    } texts[] = {
        {-ECONNRESET, "the connection was closed from the other side"},
        {-EPROTO, "what it says is not the agents' protocol"},
        {-EADDRNOTAVAIL, "no such host"},
        {-EINVAL, "HOST:PORT is wanted"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].rc == rc)
            return texts[i].text;
    return strerror(-rc);
}
