#include "tools/top_fetch.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sock.h"

#define TIMEOUT_S 5 /* of the connection, and of each wait for bytes */
#define ANSWER_BYTES_MAX (32u << 20)
#define READ_BYTES 65536u
#define HOST_BYTES_MAX 255u

static int reason_errno(char *reason, size_t reason_size, int rc)
{
    snprintf(reason, reason_size, "%s", rc == -EAGAIN ? "no answer" : strerror(-rc));
    return rc;
}

static int reason_text(char *reason, size_t reason_size, int rc, const char *text)
{
    snprintf(reason, reason_size, "%s", text);
    return rc;
}

static int address_parse(const char *text, char host[HOST_BYTES_MAX + 1], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':'), *port = colon == NULL ? text : colon + 1;
    size_t host_len = colon == NULL ? 0 : (size_t)(colon - text);
    char *end;
    unsigned long value = strtoul(port, &end, 10);
    if (*port < '0' || *port > '9' || *end != '\0' || value < 1 || value > UINT16_MAX)
        return -EINVAL;
    if (host_len >= 2 && text[0] == '[' && text[host_len - 1] == ']') {
        text++;
        host_len -= 2;
    }
    if (host_len > HOST_BYTES_MAX)
        return -EINVAL;
    snprintf(host, HOST_BYTES_MAX + 1, "%.*s", (int)host_len, text);
    if (host_len == 0)
        strcpy(host, "127.0.0.1");
    *ret_port = (uint16_t)value;
    return 0;
}

static int connect_to(const struct sock_addr *addr)
{
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    int fd = socket(addr->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (const struct sockaddr *)&addr->storage, addr->len) == 0)
        return fd;
    int rc = errno == EINPROGRESS ? -EAGAIN : -errno;
    close(fd);
    return rc;
}

static int request_send(int fd, const char *address)
{
    char request[512];
    int len =
        snprintf(request, sizeof(request),
                 "GET /metrics.json HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address);
    if (len < 0 || (size_t)len >= sizeof(request))
        return -EINVAL;
    ssize_t sent = send(fd, request, (size_t)len, MSG_NOSIGNAL);
    return sent == len ? 0 : sent < 0 ? -errno : -EIO;
}

/* Until the other side closes. */
static int answer_receive(int fd, char **ret)
{
    size_t len = 0, cap = 0;
    char *buf = NULL;
    for (;;) {
        if (cap - len < READ_BYTES + 1) {
            cap = cap == 0 ? 4 * READ_BYTES : 2 * cap;
            char *more = cap > ANSWER_BYTES_MAX ? NULL : realloc(buf, cap);
            if (more == NULL) {
                free(buf);
                return -EFBIG;
            }
            buf = more;
        }
        ssize_t n = recv(fd, buf + len, READ_BYTES, 0);
        if (n < 0) {
            int rc = -errno;
            free(buf);
            return rc;
        }
        len += (size_t)n;
        if (n == 0)
            break;
    }
    buf[len] = '\0';
    *ret = buf;
    return 0;
}

static int exchange(int fd, const char *address, char **ret_body, char *reason, size_t reason_size)
{
    char *answer = NULL;
    unsigned status = 0;
    int rc = request_send(fd, address);
    if (rc == 0)
        rc = answer_receive(fd, &answer);
    if (rc < 0)
        return reason_errno(reason, reason_size, rc);
    const char *body = strstr(answer, "\r\n\r\n");
    if (sscanf(answer, "HTTP/1.%*1[01] %3u", &status) != 1 || body == NULL)
        rc = reason_text(reason, reason_size, -EPROTO, "that is no HTTP server");
    else if (status != 200)
        rc = reason_text(reason, reason_size, -EPROTO, "no /metrics.json there");
    else
        memmove(answer, body + 4, strlen(body + 4) + 1);
    if (rc < 0)
        free(answer);
    else
        *ret_body = answer;
    return rc;
}

int top_fetch(const char *address, char **ret_body, char *reason, size_t reason_size)
{
    char host[HOST_BYTES_MAX + 1];
    uint16_t port;
    struct sock_addr addr;
    if (address_parse(address, host, &port) < 0)
        return reason_text(reason, reason_size, -EINVAL, "must be HOST:PORT");
    int rc = sock_resolve(host, port, &addr);
    if (rc < 0)
        return reason_errno(reason, reason_size, rc);
    int fd = connect_to(&addr);
    if (fd < 0)
        return reason_errno(reason, reason_size, fd);
    rc = exchange(fd, address, ret_body, reason, reason_size);
    close(fd);
    return rc;
}
