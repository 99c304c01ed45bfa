#include "tools/client_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "net/wire/messages.h"

enum { KEY_API_VERSIONS = 18, IN_BYTES = 64 << 10, VERSIONS_ARENA_BYTES = 1 << 20 };

#define MS_NS 1000000u

/* 0, -ETIMEDOUT, -errno */
static int wait_for(int fd, short events, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now_ns = clock_now_ns();
        struct pollfd p = {.fd = fd, .events = events};
        if (now_ns >= deadline_ns)
            return -ETIMEDOUT;
        uint64_t wait_ms = MIN((deadline_ns - now_ns) / MS_NS + 1, (uint64_t)60000);
        int n = poll(&p, 1, (int)wait_ms);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

static int connect_to(const struct addrinfo *at, uint64_t deadline_ns)
{
    int on = 1, rc = 0;
    socklen_t len = sizeof(rc);
    int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, at->ai_protocol);
    if (fd < 0)
        return -errno;
    if (connect(fd, at->ai_addr, at->ai_addrlen) < 0 && errno != EINPROGRESS) {
        rc = -errno;
    } else {
        rc = wait_for(fd, POLLOUT, deadline_ns);
        if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &rc, &len) == 0)
            rc = -rc;
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static int connect_by_name(const char *host, uint16_t port, uint64_t deadline_ns)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    char service[8];
    int fd = -EADDRNOTAVAIL;
    snprintf(service, sizeof(service), "%u", port);
    if (getaddrinfo(host, service, &hints, &found) != 0)
        return fd;
    for (const struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next)
        fd = connect_to(at, deadline_ns);
    freeaddrinfo(found);
    return fd;
}

void client_conn_close(struct client_conn *c)
{
    if (c->is_open)
        close(c->fd);
    free(c->in);
    c->is_open = false;
    c->api = NULL;
    c->in = NULL;
    c->in_len = c->in_cap = 0;
}

static int closed(struct client_conn *c, int rc)
{
    client_conn_close(c);
    return rc;
}

/* ---- versions ---- */

int16_t client_conn_version(const struct client_conn *c, int16_t key, int16_t most)
{
    const struct wire_api *api = wire_api_find(key);
    int16_t version = MIN(MIN(c->api_max[key], api->max), most);
    return version < api->min || version < c->api_min[key] ? -1 : version;
}

static int versions_take(struct client_conn *c, const struct api_versions_response *r)
{
    if (r->error_code != 0)
        return -EPROTO;
    for (unsigned key = 0; key < CLIENT_APIS_MAX; key++)
        c->api_max[key] = -1;
    for (int32_t i = 0; i < r->api_keys_n; i++) {
        int16_t key = r->api_keys[i].api_key;
        if (key < 0 || key >= CLIENT_APIS_MAX)
            continue;
        c->api_min[key] = r->api_keys[i].min_version;
        c->api_max[key] = r->api_keys[i].max_version;
    }
    return 0;
}

/* Version 0 is spoken by every broker there is, and tells all that is wanted here. */
static int versions_ask(struct client_conn *c, uint64_t deadline_ns)
{
    struct api_versions_request request;
    struct api_versions_response response;
    struct arena arena;
    struct wire_writer w;
    arena_init(&arena, VERSIONS_ARENA_BYTES);
    wire_writer_init(&w);
    wire_set_defaults(&api_versions_request_schema, &request);
    int rc = client_conn_send(c, KEY_API_VERSIONS, 0, &request, true, &w, deadline_ns);
    if (rc == 0)
        rc = client_conn_await(c, deadline_ns, &arena, &response);
    if (rc == 0)
        rc = versions_take(c, &response);
    wire_writer_fini(&w);
    arena_fini(&arena);
    return rc;
}

int client_conn_open(struct client_conn *c, const char *host, uint16_t port, uint64_t deadline_ns)
{
    client_conn_close(c);
    snprintf(c->name, sizeof(c->name), strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
    int fd = connect_by_name(host, port, deadline_ns);
    if (fd < 0)
        return fd;
    c->fd = fd;
    c->is_open = true;
    int rc = versions_ask(c, deadline_ns);
    return rc < 0 ? closed(c, rc) : 0;
}

/* ---- sending ---- */

static int send_all(int fd, const uint8_t *data, size_t len, uint64_t deadline_ns)
{
    int rc = 0;
    while (len > 0 && rc == 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n >= 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            rc = wait_for(fd, POLLOUT, deadline_ns);
        } else if (errno != EINTR) {
            rc = -errno;
        }
    }
    return rc;
}

int client_conn_send(struct client_conn *c, int16_t key, int16_t version, const void *request,
                     bool is_answered, struct wire_writer *w, uint64_t deadline_ns)
{
    const struct wire_api *api = wire_api_find(key);
    struct wire_request_header h = {.api_key = key,
                                    .api_version = version,
                                    .correlation_id = ++c->correlation,
                                    .client_id = wire_str_of("penstock")};
    wire_writer_reset(w);
    wire_frame_begin(w);
    wire_encode_request_header(w, api, &h);
    wire_encode(api->request, version, wire_request_flexible(api, version), request, w);
    wire_frame_end(w);
    if (w->failed)
        return -EINVAL;
    int rc = send_all(c->fd, w->buf, w->len, deadline_ns);
    if (rc < 0)
        return closed(c, rc);
    c->api = is_answered ? api : NULL;
    c->version = version;
    c->sent_ns = clock_now_ns();
    c->in_len = 0;
    return 0;
}

/* ---- receiving ---- */

/* How many bytes the answer has as far as is known: its length first. */
static uint32_t bytes_wanted(const struct client_conn *c)
{
    return c->in_len < 4 ? 4 : be_load32(c->in) + 4;
}

/* The buffer grows with what has arrived, not with what is announced. */
static int in_reserve(struct client_conn *c)
{
    if (c->in_len < c->in_cap)
        return 0;
    uint32_t cap = MAX(c->in_cap * 2, (uint32_t)IN_BYTES);
    uint8_t *in = realloc(c->in, cap);
    if (in == NULL)
        return -ENOMEM;
    c->in = in;
    c->in_cap = cap;
    return 0;
}

int client_conn_receive(struct client_conn *c)
{
    for (;;) {
        uint32_t wanted = bytes_wanted(c);
        if (c->in_len == wanted && wanted > 4)
            return 1;
        if (wanted <= c->in_len || wanted > CLIENT_ANSWER_BYTES_MAX)
            return closed(c, -EPROTO);
        int rc = in_reserve(c);
        if (rc < 0)
            return closed(c, rc);
        ssize_t n = recv(c->fd, c->in + c->in_len, MIN(wanted, c->in_cap) - c->in_len, 0);
        if (n == 0)
            return closed(c, -ECONNRESET);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno != EINTR)
            return closed(c, -errno);
        c->in_len += n > 0 ? (uint32_t)n : 0;
    }
}

int client_conn_take(struct client_conn *c, struct arena *arena, void *ret)
{
    uint32_t len = c->in_len - 4, body_at;
    int32_t correlation;
    const struct wire_api *api = c->api;
    uint8_t *frame = arena_dup(arena, c->in + 4, len); /* decoded values borrow it */
    c->api = NULL;
    if (frame == NULL)
        return closed(c, -ENOMEM);
    int rc = wire_decode_response_header(frame, len, api, c->version, &correlation, &body_at);
    if (rc == 0 && correlation != c->correlation)
        rc = -EPROTO;
    if (rc == 0)
        rc = wire_decode(api->response, c->version, wire_response_flexible(api, c->version),
                         frame + body_at, len - body_at, arena, ret);
    return rc < 0 ? closed(c, rc) : 0;
}

int client_conn_await(struct client_conn *c, uint64_t deadline_ns, struct arena *arena, void *ret)
{
    int rc;
    while ((rc = client_conn_receive(c)) == 0)
        if ((rc = wait_for(c->fd, POLLIN, deadline_ns)) < 0)
            return closed(c, rc); /* its late answer would be taken for that to another request */
    return rc < 0 ? rc : client_conn_take(c, arena, ret);
}
