/* sock.h: listening sockets and the names of their ends.
 * Happy path: sock_listen() once, env_accept() on it, sock_peer_name() for the log. The other end:
 *   sock_resolve() once, then env_connect().
 * Failure: -errno; *ret_fd untouched. A host that does not resolve is -EADDRNOTAVAIL.
 * Ownership: the descriptor is the caller's. It is a blocking one, as the ring wants it.
 * Threads: any; a host name that is no address may ask the network, so call it before the loop. */
#ifndef IO_SOCK_H
#define IO_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define SOCK_NAME_BYTES 64 /* fits "[IPv6%scope]:port" */

/* An IPv4 or IPv6 address or a name; NULL or "": all addresses. Port 0: the system picks one. No
 * SO_REUSEPORT: a second broker on the port must fail with -EADDRINUSE. */
int sock_listen(const char *host, uint16_t port, int backlog, int *ret_fd);
/* Where to connect to. The first address of a name that has several. */
struct sock_addr {
    struct sockaddr_storage storage;
    socklen_t len;
};
int sock_resolve(const char *host, uint16_t port, struct sock_addr *ret);
/* The port that a socket is bound to, or -errno. */
int sock_local_port(int fd);
/* "127.0.0.1:40312", "[::1]:40312", or "?" when it is not connected any more. */
void sock_peer_name(int fd, char ret[SOCK_NAME_BYTES]);
/* Both ends are on this machine. */
bool sock_is_local(int fd);
/* Settings of a connection. Nothing waits for more bytes in the kernel; and between two ends on
 * this machine nothing is paced: what some systems do for long ways (BBR) doubles the cost of each
 * byte here, where no queue can build up on the way. */
void sock_tune(int fd);
/* Closes with a reset: what the peer has not acknowledged is dropped. */
void sock_abort(int fd);
/* Bytes received from the peer, and acknowledged by it, since it is connected; 0: not a TCP one. */
uint64_t sock_moved_bytes(int fd);

#endif
