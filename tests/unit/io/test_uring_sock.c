#include "test_uring_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/sock.h"

enum { CLIENTS = 50, RECV_BUFFERS = 8 /* as env_make has them */, RECV_BYTES = 4096 };

static struct env *env;
static int listener;

static void setup(const struct io_features *features)
{
    env = env_make(features, 0);
    cr_assert_eq(sock_listen("127.0.0.1", 0, 128, &listener), 0);
}

static void setup_all(void)
{
    setup(NULL);
}

static void teardown(void)
{
    env_destroy(env);
    close(listener);
}

static int client_connect(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((uint16_t)sock_local_port(listener))};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* Both ends are here: no delay, no pacing, whatever the machine does for long ways. */
static void assert_tuned(int fd)
{
    int on = 0;
    char name[32] = "";
    socklen_t len = sizeof(on), name_len = sizeof(name);
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    cr_assert_eq(on, 1);
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &name_len), 0);
    cr_assert_str_eq(name, "reno");
}

struct acceptor {
    struct waited w;
    int fds[CLIENTS], n;
};

static void on_accepted(struct env_op *op)
{
    struct acceptor *a = container_of(container_of(op, struct waited, op), struct acceptor, w);
    cr_assert_geq(op->res, 0, "accept: %s", strerror(-op->res));
    cr_assert(op->more);
    cr_assert(op->busy);
    assert_tuned(op->res);
    cr_assert_lt(a->n, CLIENTS);
    a->fds[a->n++] = op->res;
}

static void accept_n(struct acceptor *a, int n)
{
    uint64_t limit_ns = now_ns() + UINT64_C(10000000000);
    while (a->n < n && now_ns() < limit_ns)
        env_turn(env, limit_ns);
    cr_assert_eq(a->n, n);
}

/* One connection, both ends. */
static void pair_make(int *ret_client, int *ret_server)
{
    static struct acceptor a;
    if (!a.w.op.busy)
        env_accept(env, &a.w.op, listener, on_accepted);
    a.n = 0;
    *ret_client = client_connect();
    accept_n(&a, 1);
    *ret_server = a.fds[0];
}

static void accept_many(void)
{
    struct acceptor *a = calloc(1, sizeof(*a));
    int clients[CLIENTS];
    env_accept(env, &a->w.op, listener, on_accepted);
    for (int round = 1; round <= 2; round++) { /* several in one turn; then again, after a rest */
        for (int i = (round - 1) * CLIENTS / 2; i < round * CLIENTS / 2; i++)
            clients[i] = client_connect();
        accept_n(a, round * CLIENTS / 2);
    }
    for (int i = 0; i < CLIENTS; i++) {
        close(a->fds[i]);
        close(clients[i]);
    }
    teardown(); /* the op is in flight: its memory must live till here */
    free(a);
}

Test(uring_sock, accept_multishot, .init = setup_all)
{
    accept_many();
}

Test(uring_sock, accept_one_at_a_time)
{
    struct io_features features;
    features_get(&features);
    features.accept_multishot = false;
    setup(&features);
    accept_many();
}

static void on_accept_ended(struct env_op *op)
{
    cr_assert_lt(op->res, 0);
    cr_assert(!op->more);
    cr_assert(!op->busy);
    container_of(op, struct waited, op)->done_n++;
}

Test(uring_sock, accept_ends_with_its_socket, .init = setup_all, .fini = teardown)
{
    struct waited w = {0};
    env_accept(env, &w.op, listener, on_accept_ended);
    env_turn(env, 0);
    shutdown(listener, SHUT_RDWR);
    wait_for(env, &w, 1);
    env_accept(env, &w.op, -1, on_accept_ended);
    cr_assert_eq(wait_for(env, &w, 2), -EBADF);
}

Test(uring_sock, recv_into_a_buffer, .init = setup_all, .fini = teardown)
{
    int client, server;
    char buf[16] = {0};
    struct waited w = {0};
    pair_make(&client, &server);
    env_recv(env, &w.op, server, buf, sizeof(buf), 0, on_waited);
    env_turn(env, 0);
    cr_assert_eq(w.done_n, 0);
    cr_assert_eq(write(client, "hello", 5), 5);
    cr_assert_eq(wait_for(env, &w, 1), 5);
    cr_assert_eq(memcmp(buf, "hello", 5), 0);
    /* All of it, though it comes in pieces. */
    env_recv(env, &w.op, server, buf, 10, ENV_RECV_ALL, on_waited);
    for (int i = 0; i < 5; i++) {
        env_turn(env, now_ns() + 2000000);
        cr_assert_eq(w.done_n, 1);
        cr_assert_eq(write(client, "ab", 2), 2);
    }
    cr_assert_eq(wait_for(env, &w, 2), 10);
    cr_assert_eq(memcmp(buf, "ababababab", 10), 0);
    /* ... or what there was before the end. */
    env_recv(env, &w.op, server, buf, 10, ENV_RECV_ALL, on_waited);
    cr_assert_eq(write(client, "xyz", 3), 3);
    close(client);
    cr_assert_eq(wait_for(env, &w, 3), 3);
    env_recv(env, &w.op, server, buf, 10, 0, on_waited);
    cr_assert_eq(wait_for(env, &w, 4), 0);
    close(server);
}

/* Idle sockets hold no buffer; all lent out is -ENOBUFS for a socket with data, none for others. */
static void recv_any_run(void)
{
    enum { SOCKETS = RECV_BUFFERS * 3 };
    int client[SOCKETS], server[SOCKETS];
    struct waited *w = calloc(SOCKETS, sizeof(*w));
    for (int i = 0; i < SOCKETS; i++) {
        pair_make(&client[i], &server[i]);
        env_recv_any(env, &w[i].op, server[i], on_waited);
    }
    env_turn(env, 0);
    for (int i = 0; i < SOCKETS; i++)
        cr_assert_eq(w[i].done_n, 0, "socket %d: %d", i, w[i].op.res);
    for (int i = 0; i < RECV_BUFFERS; i++) {
        cr_assert_eq(write(client[i], &i, sizeof(i)), sizeof(i));
        cr_assert_eq(wait_for(env, &w[i], 1), (int)sizeof(i));
        cr_assert_eq(memcmp(w[i].op.buf, &i, sizeof(i)), 0);
    }
    /* All are lent. A socket without data does not care, not even a new one. */
    int new_client, new_server;
    struct waited *fresh = calloc(1, sizeof(*fresh));
    pair_make(&new_client, &new_server);
    env_recv_any(env, &fresh->op, new_server, on_waited);
    for (int i = 0; i < 3; i++)
        env_turn(env, now_ns() + 1000000);
    cr_assert_eq(fresh->done_n, 0);
    int late = RECV_BUFFERS;
    cr_assert_eq(write(client[late], "late", 4), 4);
    cr_assert_eq(wait_for(env, &w[late], 1), -ENOBUFS);
    for (int i = late + 1; i < SOCKETS; i++)
        cr_assert_eq(w[i].done_n, 0);
    for (int i = 0; i < RECV_BUFFERS; i++) {
        cr_assert_eq(memcmp(w[i].op.buf, &i, sizeof(i)), 0); /* lent: still ours */
        env_recv_return(env, &w[i].op);
    }
    env_recv_any(env, &w[late].op, server[late], on_waited);
    cr_assert_eq(wait_for(env, &w[late], 2), 4);
    cr_assert_eq(memcmp(w[late].op.buf, "late", 4), 0);
    env_recv_return(env, &w[late].op);
    close(client[SOCKETS - 1]);
    cr_assert_eq(wait_for(env, &w[SOCKETS - 1], 1), 0);
    for (int i = 0; i < SOCKETS - 1; i++)
        close(client[i]);
    close(new_client);
    cr_assert_eq(wait_for(env, fresh, 1), 0);
    free(fresh);
    /* Those never used come to their end; none of the buffers is lost by it. */
    for (int i = late + 1; i < SOCKETS - 1; i++)
        cr_assert_eq(wait_for(env, &w[i], 1), 0);
    teardown();
    free(w);
}

Test(uring_sock, recv_any_by_buffer_ring, .init = setup_all)
{
    recv_any_run();
}

Test(uring_sock, recv_any_by_provided_buffers)
{
    struct io_features features;
    features_get(&features);
    features.buf_ring = false;
    setup(&features);
    recv_any_run();
}

/* A stream far bigger than all buffers goes through in order, with more data behind each receive.
 */
static struct {
    int fd;
    size_t bytes;
} pusher;

static void *push_main(void *arg)
{
    unsigned char *data = arg;
    for (size_t at = 0; at < pusher.bytes;) {
        ssize_t n = write(pusher.fd, data + at, pusher.bytes - at);
        cr_assert_gt(n, 0);
        at += (size_t)n;
    }
    shutdown(pusher.fd, SHUT_WR);
    return NULL;
}

Test(uring_sock, recv_any_keeps_a_stream_in_order, .init = setup_all, .fini = teardown)
{
    int client, server;
    pthread_t thread;
    struct waited w = {0};
    pair_make(&client, &server);
    pusher.bytes = 4u << 20;
    pusher.fd = client;
    unsigned char *data = blocks_make(pusher.bytes, 4);
    pthread_create(&thread, NULL, push_main, data);
    size_t at = 0;
    for (int n = 1;; n++) {
        env_recv_any(env, &w.op, server, on_waited);
        int res = wait_for(env, &w, n);
        cr_assert_geq(res, 0);
        if (res == 0)
            break;
        cr_assert_leq(res, RECV_BYTES);
        cr_assert_eq(memcmp(w.op.buf, data + at, (size_t)res), 0);
        at += (size_t)res;
        env_recv_return(env, &w.op);
    }
    cr_assert_eq(at, pusher.bytes);
    cr_assert_eq(env->counters.received_bytes, pusher.bytes);
    pthread_join(thread, NULL);
    close(client);
    close(server);
    free(data);
}

/* 10 MiB to a reader that dawdles: all arrives, done before released, the shard never blocked. It
 * does not read at all until the shard has made some turns: one that waited for it would wait for
 * ever. */
struct reader {
    int fd;
    size_t expect;
    unsigned char *got;
};

static void *read_main(void *arg)
{
    struct reader *r = arg;
    size_t at = 0;
    while (at < r->expect) {
        ssize_t n = read(r->fd, r->got + at, MIN(r->expect - at, (size_t)200000));
        cr_assert_gt(n, 0);
        at += (size_t)n;
        usleep(2000);
    }
    return NULL;
}

Test(uring_sock, send_to_a_slow_reader, .init = setup_all, .fini = teardown, .timeout = 30)
{
    enum { BYTES = 10 << 20, PIECES = 1500 };
    int client, server, small = 65536;
    static struct iovec iov[PIECES]; /* more than one sendmsg takes */
    struct waited w = {0};
    pair_make(&client, &server);
    setsockopt(server, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    unsigned char *data = blocks_make(BYTES, 11);
    size_t at = 0;
    for (unsigned i = 0; i < PIECES; i++) {
        size_t len = i + 1 < PIECES ? 1 + (i * 37) % 9000 : BYTES - at;
        iov[i] = (struct iovec){data + at, len};
        at += len;
    }
    struct reader reader = {.fd = client, .expect = BYTES, .got = calloc(1, BYTES)};
    pthread_t thread;
    uint64_t limit_ns = now_ns() + UINT64_C(20000000000);
    env_sendv(env, &w.op, server, iov, PIECES, on_waited, on_waited_released);
    for (unsigned i = 0; i < 100; i++) {
        env_turn(env, 0);
        usleep(100);
    }
    cr_assert_eq(w.done_n, 0, "10 MiB fit into the sockets");
    pthread_create(&thread, NULL, read_main, &reader);
    while (w.released_n == 0 && now_ns() < limit_ns) {
        env_turn(env, 0);
        usleep(100);
    }
    cr_assert_eq(w.done_n, 1);
    cr_assert_eq(w.released_n, 1);
    cr_assert_eq(w.op.res, BYTES);
    pthread_join(thread, NULL);
    cr_assert(pattern_is(reader.got, BYTES, 11));
    cr_assert_eq(env->counters.egress_bytes[ENV_EGRESS_SEND], BYTES);
    /* One buffer, and none. */
    env_sendv(env, &w.op, server, iov, 1, on_waited, on_waited_released);
    cr_assert_eq(wait_for(env, &w, 2), (int)iov[0].iov_len);
    env_sendv(env, &w.op, server, iov, 0, on_waited, on_waited_released);
    cr_assert_eq(wait_for(env, &w, 3), 0);
    close(client);
    close(server);
    free(reader.got);
    free(data);
}

/* The peer goes away: an error and the release, no signal. */
Test(uring_sock, send_to_nobody, .init = setup_all, .fini = teardown)
{
    int client, server;
    struct waited w = {0};
    pair_make(&client, &server);
    unsigned char *data = blocks_make(8 << 20, 1);
    struct iovec iov = {data, 8 << 20};
    struct linger hard = {.l_onoff = 1};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    env_sendv(env, &w.op, server, &iov, 1, on_waited, on_waited_released);
    env_turn(env, 0);
    cr_assert_eq(w.done_n, 0);
    close(client);
    int rc = wait_for(env, &w, 1);
    cr_assert(rc == -EPIPE || rc == -ECONNRESET, "%d", rc);
    cr_assert_eq(w.released_n, 1);
    close(server);
    free(data);
}

/* shutdown() is how a connection is closed under a receive that waits. */
Test(uring_sock, shutdown_ends_a_receive, .init = setup_all, .fini = teardown)
{
    int client, server;
    struct waited any = {0}, plain = {0};
    char buf[8];
    pair_make(&client, &server);
    env_recv_any(env, &any.op, server, on_waited);
    env_turn(env, 0);
    shutdown(server, SHUT_RDWR);
    cr_assert_eq(wait_for(env, &any, 1), 0);
    close(server);
    close(client);
    pair_make(&client, &server);
    env_recv(env, &plain.op, server, buf, sizeof(buf), ENV_RECV_ALL, on_waited);
    env_turn(env, 0);
    shutdown(server, SHUT_RDWR);
    cr_assert_eq(wait_for(env, &plain, 1), 0);
    close(server);
    close(client);
}

static void on_no_callback(struct env_op *op)
{
    (void)op;
    cr_assert_fail("called back by env_destroy");
}

/* What is not cancelled waits for peers that never come: then this ends by its timeout. */
Test(uring_sock, destroy_cancels_what_waits_for_peers, .init = setup_all, .timeout = 30)
{
    int client[3], server[3];
    char buf[8];
    struct waited *w = calloc(4, sizeof(*w));
    unsigned char *data = blocks_make(16 << 20, 1);
    struct iovec iov = {data, 16 << 20};
    for (int i = 0; i < 3; i++)
        pair_make(&client[i], &server[i]);
    env_recv_any(env, &w[0].op, server[0], on_no_callback);
    env_recv(env, &w[1].op, server[1], buf, sizeof(buf), 0, on_no_callback);
    env_sendv(env, &w[2].op, server[2], &iov, 1, on_no_callback, on_no_callback);
    env_turn(env, 0);
    teardown();
    free(data);
    free(w);
}

static void address_of(const char *host, int port, struct sock_addr *ret)
{
    cr_assert_eq(sock_resolve(host, (uint16_t)port, ret), 0);
}

Test(uring_sock, connect_reaches_a_listener, .init = setup_all, .fini = teardown)
{
    struct waited w = {0};
    struct sock_addr addr;
    char name[SOCK_NAME_BYTES], expected[SOCK_NAME_BYTES];
    address_of("127.0.0.1", sock_local_port(listener), &addr);
    env_connect(env, &w.op, &addr, on_waited);
    int fd = wait_for(env, &w, 1);
    cr_assert_geq(fd, 0, "%s", strerror(-fd));
    assert_tuned(fd);
    sock_peer_name(fd, name);
    snprintf(expected, sizeof(expected), "127.0.0.1:%d", sock_local_port(listener));
    cr_assert_str_eq(name, expected);
    env_sock_close(env, fd);
    cr_assert_eq(fcntl(fd, F_GETFD), -1);
}

Test(uring_sock, connect_says_when_nobody_listens, .init = setup_all, .fini = teardown)
{
    struct waited w = {0};
    struct sock_addr addr;
    int unused;
    cr_assert_eq(sock_listen("127.0.0.1", 0, 1, &unused), 0);
    int port = sock_local_port(unused);
    close(unused);
    address_of("127.0.0.1", port, &addr);
    env_connect(env, &w.op, &addr, on_waited);
    cr_assert_eq(wait_for(env, &w, 1), -ECONNREFUSED);
    cr_assert_eq(fcntl(w.op.sock, F_GETFD), -1, "the socket of a failed connect stays open");
    cr_assert_eq(sock_resolve("no.such.host.invalid", 1, &addr), -EADDRNOTAVAIL);
}

/* Nobody has been told of these sockets: they must not outlive the environment. */
Test(uring_sock, destroying_closes_what_was_connecting, .init = setup_all)
{
    struct waited sent = {0}, unsent = {0};
    struct sock_addr addr;
    address_of("127.0.0.1", sock_local_port(listener), &addr);
    env_connect(env, &sent.op, &addr, on_waited);
    env_turn(env, 0);
    env_connect(env, &unsent.op, &addr, on_waited);
    int fds[2] = {sent.op.sock, unsent.op.sock};
    bool told = sent.done_n > 0;
    env_destroy(env);
    cr_assert_eq(fcntl(fds[1], F_GETFD), -1);
    cr_assert(told || fcntl(fds[0], F_GETFD) == -1);
    close(listener);
}

/* Turns of a send of a MiB into a socket that takes all of it. */
static unsigned turns_of_large_send(struct env *e)
{
    enum { BYTES = 1 << 20, SOCKET_BYTES = 8 << 20 };
    int fds[2], room = SOCKET_BYTES;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    if (setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
        cr_skip_test("no socket with so much room here: not root");
    struct waited w = {0};
    struct iovec iov = {calloc(1, BYTES), BYTES};
    unsigned turns = 0;
    env_sendv(e, &w.op, fds[0], &iov, 1, on_waited, NULL);
    for (; w.done_n == 0; turns++)
        env_turn(e, now_ns() + 10000000000u);
    cr_assert_eq(w.op.res, BYTES);
    free(iov.iov_base);
    close(fds[0]);
    close(fds[1]);
    return turns;
}

Test(uring_sock, a_large_send_leaves_turns_to_writes_that_somebody_waits_for, .init = setup_all,
     .fini = teardown)
{
    struct test_dir dir;
    dir_make(&dir);
    struct env_file *file = file_make(env, dir_name(&dir, "f"), 1 << 20);
    unsigned char *block = blocks_make(BLOCK_BYTES, 1);
    unsigned before = turns_of_large_send(env), beside = 0;
    for (int i = 0; i < 10 && beside < before + 3; i++) { /* it may stand still in between */
        cr_assert_eq(env_write_wait(env, file, block, BLOCK_BYTES, 0, ENV_DSYNC | ENV_AWAITED),
                     (int)BLOCK_BYTES);
        beside = turns_of_large_send(env);
    }
    cr_assert_geq(beside, before + 3);
    env_file_close(env, file);
    free(block);
    dir_remove(&dir);
}
