#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/sock.h"

static int connect_v4(int port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
        return fd;
    close(fd);
    return -1;
}

Test(sock, a_free_port_is_found_and_named)
{
    int fd = -1;
    cr_assert_eq(sock_listen("127.0.0.1", 0, 8, &fd), 0);
    int port = sock_local_port(fd);
    cr_assert_gt(port, 0);
    int client = connect_v4(port), server = accept(fd, NULL, NULL);
    cr_assert_geq(client, 0);
    char name[SOCK_NAME_BYTES], expect[SOCK_NAME_BYTES];
    snprintf(expect, sizeof(expect), "127.0.0.1:%d", sock_local_port(client));
    sock_peer_name(server, name);
    cr_assert_str_eq(name, expect);
    close(client);
    close(server);
    sock_peer_name(fd, name);
    cr_assert_str_eq(name, "?");
    close(fd);
}

Test(sock, a_port_in_use_is_refused)
{
    int fd = -1, other = -1;
    cr_assert_eq(sock_listen("127.0.0.1", 0, 8, &fd), 0);
    uint16_t port = (uint16_t)sock_local_port(fd);
    cr_assert_eq(sock_listen("127.0.0.1", port, 8, &other), -EADDRINUSE);
    cr_assert_eq(sock_listen("localhost", port, 8, &other), -EADDRINUSE);
    cr_assert_eq(other, -1);
    /* Old connections do not hinder a restart. */
    int client = connect_v4(port), server = accept(fd, NULL, NULL);
    close(server);
    close(client);
    close(fd);
    cr_assert_eq(sock_listen("127.0.0.1", port, 8, &other), 0);
    close(other);
}

Test(sock, names_and_bad_names)
{
    int fd = -1;
    cr_assert_eq(sock_listen("localhost", 0, 8, &fd), 0);
    close(fd);
    cr_assert_eq(sock_listen("256.1.1.1.invalid", 0, 8, &fd), -EADDRNOTAVAIL);
    cr_assert_eq(sock_listen("192.0.2.1", 0, 8, &fd), -EADDRNOTAVAIL, "not ours");
}

Test(sock, all_addresses)
{
    int fd = -1;
    cr_assert_eq(sock_listen(NULL, 0, 8, &fd), 0);
    int client = connect_v4(sock_local_port(fd));
    cr_assert_geq(client, 0, "IPv4 reaches it");
    close(client);
    close(fd);
}

Test(sock, ipv6)
{
    int fd = -1;
    int rc = sock_listen("::1", 0, 8, &fd);
    if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL)
        cr_skip_test("this machine has no IPv6 loopback");
    cr_assert_eq(rc, 0);
    struct sockaddr_in6 addr;
    socklen_t len = sizeof(addr);
    getsockname(fd, (struct sockaddr *)&addr, &len);
    int client = socket(AF_INET6, SOCK_STREAM, 0);
    cr_assert_eq(connect(client, (struct sockaddr *)&addr, len), 0);
    int server = accept(fd, NULL, NULL);
    char name[SOCK_NAME_BYTES];
    sock_peer_name(server, name);
    cr_assert_eq(strncmp(name, "[::1]:", 6), 0, "%s", name);
    close(server);
    close(client);
    close(fd);
}
