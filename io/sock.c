#include "io/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_at(const struct addrinfo *at, int backlog, int *ret_fd)
{
    int on = 1, off = 0;
    int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0)
        return -errno;
    /* A restart must not wait for old connections to time out. */
    int rc = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (rc == 0 && at->ai_family == AF_INET6) /* "::" takes IPv4 as well */
        rc = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (rc == 0)
        rc = bind(fd, at->ai_addr, at->ai_addrlen);
    if (rc == 0)
        rc = listen(fd, backlog);
    if (rc < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    *ret_fd = fd;
    return 0;
}

static int gai_errno(int gai)
{
    if (gai == EAI_SYSTEM)
        return -errno;
    return gai == EAI_MEMORY ? -ENOMEM : -EADDRNOTAVAIL;
}

static int listen_named(const char *host, uint16_t port, int backlog, int *ret_fd)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    int gai = getaddrinfo(host, service, &hints, &found);
    if (gai != 0)
        return gai_errno(gai);
    /* The first that works; a name can have addresses of a family that this machine lacks. An
     * address in use is the answer, though: another family would hide the other broker. */
    int rc = -EADDRNOTAVAIL;
    for (const struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        rc = listen_at(at, backlog, ret_fd);
        if (rc == 0 || rc == -EADDRINUSE)
            break;
    }
    freeaddrinfo(found);
    return rc;
}

int sock_listen(const char *host, uint16_t port, int backlog, int *ret_fd)
{
    if (host != NULL && *host != '\0')
        return listen_named(host, port, backlog, ret_fd);
    int rc = listen_named("::", port, backlog, ret_fd);
    /* Without IPv6 in the kernel, IPv4 is all there is. */
    return rc == 0 || rc == -EADDRINUSE ? rc : listen_named("0.0.0.0", port, backlog, ret_fd);
}

int sock_resolve(const char *host, uint16_t port, struct sock_addr *ret)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    int gai = getaddrinfo(host, service, &hints, &found);
    if (gai != 0)
        return gai_errno(gai);
    *ret = (struct sock_addr){.len = found->ai_addrlen};
    memcpy(&ret->storage, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

int sock_local_port(int fd)
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
        return -errno;
    if (addr.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&addr)->sin_port);
    if (addr.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&addr)->sin6_port);
    return -EAFNOSUPPORT;
}

void sock_peer_name(int fd, char ret[SOCK_NAME_BYTES])
{
    struct sockaddr_storage addr;
    socklen_t len = sizeof(addr);
    char host[48], port[8];
    strcpy(ret, "?");
    if (getpeername(fd, (struct sockaddr *)&addr, &len) < 0 ||
        getnameinfo((const struct sockaddr *)&addr, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    const char *form = strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s";
    snprintf(ret, SOCK_NAME_BYTES, form, host, port);
}

static bool is_loopback(const struct sockaddr_storage *addr)
{
    if (addr->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    if (addr->ss_family != AF_INET6)
        return false;
    const struct in6_addr *ip = &((const struct sockaddr_in6 *)addr)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(ip) ||
           (IN6_IS_ADDR_V4MAPPED(ip) && ip->s6_addr[12] == IN_LOOPBACKNET);
}

static bool same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return a->ss_family == AF_INET6 &&
           IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)a)->sin6_addr,
                              &((const struct sockaddr_in6 *)b)->sin6_addr);
}

bool sock_is_local(int fd)
{
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t own_len = sizeof(own), peer_len = sizeof(peer);
    return getpeername(fd, (struct sockaddr *)&peer, &peer_len) == 0 &&
           getsockname(fd, (struct sockaddr *)&own, &own_len) == 0 &&
           (is_loopback(&peer) || same_host(&own, &peer));
}

/* Each may fail, for a socket that is no TCP one: then there is nothing to set. */
void sock_tune(int fd)
{
    static const char unpaced[] = "reno"; /* always there, allowed to all */
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (sock_is_local(fd))
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, unpaced, sizeof(unpaced) - 1);
}

void sock_abort(int fd)
{
    struct linger reset = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
}

uint64_t sock_moved_bytes(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return 0;
    return info.tcpi_bytes_received + info.tcpi_bytes_acked;
}
