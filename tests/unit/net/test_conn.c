/* Connections on a real ring over loopback: one thread turns the shard and plays the clients. */
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/shard/timers.h"
#include "io/env_uring.h"
#include "io/sock.h"
#include "net/conn.h"

#define TURN_NS 2000000u /* the longest sleep of one turn */
#define TURNS_MAX 2000u
#define QUIET_TURNS 20u
#define LOG_BYTES BLOCK_BYTES
#define API_METADATA 3
#define API_VERSIONS 18

static struct {
    struct broker broker;
    struct shard shard;
    struct env *env;
    struct meta_image *meta;
    void *memory;
    int listen_sock;
    uint16_t port;
} server;

static void server_start(size_t net_bytes)
{
    struct broker *b = &server.broker;
    memset(&server, 0, sizeof(server));
    b->shards_n = b->nodes_n = 1;
    b->nodes[0] = (struct broker_node){.host = "127.0.0.1", .port = 9092, .shards_n = 1};
    topic_config_defaults(&b->topic_defaults);
    b->request_bytes_max = 100u << 20;
    b->connections_max = 2000;
    b->requests_in_flight_max = 8;
    b->connection_idle_ms = 600000;
    server.meta = meta_image_create(&b->topic_defaults);
    cr_assert_eq(sock_listen("127.0.0.1", 0, 1024, &server.listen_sock), 0);
    server.port = (uint16_t)sock_local_port(server.listen_sock);
    struct env_uring_config config = {
        .shard = &server.shard, .recv_buffers = 16, .recv_buffer_bytes = 4096};
    cr_assert_eq(env_uring_create(&config, &server.env), 0);
    server.memory = aligned_alloc(BLOCK_BYTES, net_bytes);
    server.shard = (struct shard){.env = server.env, .broker = b, .meta = server.meta};
    cr_assert_eq(buddy_init(&server.shard.net_memory, server.memory, net_bytes), 0);
    struct net_config net = {&server.listen_sock, 1};
    cr_assert_eq(net_init(&server.shard, &net), 0);
}

/* As shard_turn, but without a log store, and never asleep for long. */
static void turn(void)
{
    struct shard *s = &server.shard;
    uint64_t soon = env_now_ns(s->env) + TURN_NS;
    env_turn(s->env, MIN(timers_deadline_ns(s), soon));
    timers_run_due(s, env_now_ns(s->env));
    s->on_turn(s);
}

static void turns(unsigned n)
{
    while (n-- > 0)
        turn();
}

static void turns_for(uint64_t ns)
{
    for (uint64_t until = env_now_ns(server.env) + ns; env_now_ns(server.env) < until;)
        turn();
}

static void server_stop(void)
{
    net_stop(&server.shard);
    for (unsigned i = 0; !net_stopped(&server.shard); i++) {
        cr_assert_lt(i, TURNS_MAX, "does not stop");
        turn();
    }
    cr_assert_eq(server.shard.net_memory.free_bytes, server.shard.net_memory.size_bytes,
                 "request memory was not given back");
    net_fini(&server.shard);
    timers_fini(&server.shard);
    env_destroy(server.env);
    buddy_fini(&server.shard.net_memory);
    meta_image_destroy(server.meta);
    free(server.memory);
    close(server.listen_sock);
}

/* ---- clients ---- */

static int client_open(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(server.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* Sends while the server turns: what is large does not fit into the socket's buffers. */
static void client_send(int fd, const void *data, size_t len)
{
    const char *p = data;
    for (unsigned i = 0; len > 0; i++) {
        cr_assert_lt(i, 20 * TURNS_MAX, "the server does not read");
        ssize_t n = send(fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else {
            cr_assert(errno == EAGAIN, "%s", strerror(errno));
            turn();
        }
    }
}

static bool client_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

/* Exactly len bytes; false when the server closes instead. */
static bool client_recv(int fd, void *ret, size_t len)
{
    char *p = ret;
    for (unsigned i = 0; len > 0; i++) {
        cr_assert_lt(i, TURNS_MAX, "no reply");
        ssize_t n = recv(fd, p, len, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return false;
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else {
            turn();
        }
    }
    return true;
}

/* A reply: its correlation id, or -1 when the connection was closed. */
static int32_t client_reply(int fd)
{
    static uint8_t frame[4 << 20];
    if (!client_recv(fd, frame, 4))
        return -1;
    uint32_t len = be_load32(frame);
    cr_assert(len >= 4 && len <= sizeof(frame));
    cr_assert(client_recv(fd, frame, len));
    return (int32_t)be_load32(frame);
}

/* Metadata v4, no creation, for topics that take `padding` bytes of names; malloc. */
static uint8_t *metadata_request(int32_t correlation_id, uint32_t padding, size_t *ret_len)
{
    enum { NAME_BYTES = 100 };
    uint32_t topics = padding / (NAME_BYTES + 2);
    size_t len = 4 + 2 + 2 + 4 + 2 + 4 + topics * (NAME_BYTES + 2u) + 1;
    uint8_t *p = calloc(1, len), *at = p;
    be_store32(at, (uint32_t)len - 4);
    be_store16(at + 4, API_METADATA);
    be_store16(at + 6, 4);
    be_store32(at + 8, (uint32_t)correlation_id);
    be_store16(at + 12, 0);
    be_store32(at + 14, topics);
    at += 18;
    for (uint32_t i = 0; i < topics; i++) {
        be_store16(at, NAME_BYTES);
        memset(at + 2, 'a' + (int)(i % 26), NAME_BYTES);
        at += NAME_BYTES + 2;
    }
    *ret_len = len;
    return p;
}

static void request_send(int fd, int32_t correlation_id, uint32_t padding)
{
    size_t len;
    uint8_t *frame = metadata_request(correlation_id, padding, &len);
    client_send(fd, frame, len);
    free(frame);
}

/* ---- tests ---- */

Test(conn, pipelined_requests_are_answered_in_order, .timeout = 60)
{
    server_start(4u << 20);
    int fd = client_open();
    enum { MANY = 300 }; /* far more than may be open at a time */
    size_t len = 0;
    uint8_t *all = NULL;
    for (int32_t i = 0; i < MANY; i++) {
        size_t one_len;
        uint8_t *one = metadata_request(i, (uint32_t)i * 13, &one_len);
        all = realloc(all, len + one_len);
        memcpy(all + len, one, one_len);
        len += one_len;
        free(one);
    }
    client_send(fd, all, len);
    for (int32_t i = 0; i < MANY; i++)
        cr_assert_eq(client_reply(fd), i);
    free(all);
    close(fd);
    server_stop();
}

Test(conn, replies_that_are_ready_together_leave_together, .timeout = 60)
{
    server_start(4u << 20);
    int fd = client_open();
    size_t len;
    uint8_t *one = metadata_request(1, 0, &len);
    uint8_t *all = malloc(8 * len);
    for (int i = 0; i < 8; i++)
        memcpy(all + i * (ptrdiff_t)len, one, len);
    uint64_t before = server.env->counters.submissions;
    client_send(fd, all, 8 * len);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(client_reply(fd), 1);
    turns(QUIET_TURNS);
    /* accept, first receive, one send, next receive: far from eight sends */
    cr_assert_leq(server.env->counters.submissions - before, 6);
    free(one);
    free(all);
    close(fd);
    server_stop();
}

Test(conn, a_request_may_arrive_byte_by_byte, .timeout = 60)
{
    server_start(4u << 20);
    int fd = client_open();
    size_t len;
    uint8_t *frame = metadata_request(77, 250, &len);
    for (size_t i = 0; i < len; i++) {
        client_send(fd, frame + i, 1);
        turn();
    }
    cr_assert_eq(client_reply(fd), 77);
    free(frame);
    close(fd);
    server_stop();
}

Test(conn, frames_of_all_sizes_take_their_own_memory, .timeout = 60)
{
    static const uint32_t sizes[] = {0,    1900, 2000,   2048,   2100,    4000,   4096,
                                     4200, 8192, 100000, 500000, 1048576, 1300000};
    server_start(8u << 20);
    int fd = client_open();
    for (int32_t i = 0; i < (int32_t)ARRAY_LEN(sizes); i++) {
        request_send(fd, i, sizes[i]);
        cr_assert_eq(client_reply(fd), i);
    }
    close(fd);
    server_stop();
}

Test(conn, without_memory_it_waits_and_others_go_on, .timeout = 60)
{
    server_start(64u << 10);
    int slow = client_open(), large = client_open(), small = client_open();
    size_t len;
    uint8_t *frame = metadata_request(1, 40000, &len);
    client_send(slow, frame, len / 2); /* holds all the memory */
    turns(QUIET_TURNS);
    cr_assert_eq(server.shard.net_memory.free_bytes, 0);
    request_send(large, 2, 40000);
    request_send(large, 3, 0);
    turns(QUIET_TURNS);
    cr_assert_not(client_readable(large));
    request_send(small, 4, 1000);
    cr_assert_eq(client_reply(small), 4);
    client_send(slow, frame + len / 2, len - len / 2);
    cr_assert_eq(client_reply(slow), 1);
    cr_assert_eq(client_reply(large), 2);
    cr_assert_eq(client_reply(large), 3);
    free(frame);
    close(slow);
    close(large);
    close(small);
    server_stop();
}

/* Of three requests that hold the memory for large ones two stop, and one comes slowly. */
Test(conn, who_stops_while_others_wait_for_its_memory_is_closed, .timeout = 60)
{
    server_start(4u << 20);
    int holders[3], waiting = client_open(), small = client_open();
    size_t len, sent, begun;
    uint8_t *frame = metadata_request(1, 900000, &len);
    for (unsigned i = 0; i < 3; i++) {
        holders[i] = client_open();
        client_send(holders[i], frame, len / 2);
        turns(QUIET_TURNS);
    }
    request_send(small, 2, 60000); /* never has to wait for large ones */
    cr_assert_eq(client_reply(small), 2);
    begun = 50000;
    client_send(waiting, frame, begun); /* what fits into its socket's buffers */
    sent = len / 2;
    while (!client_readable(holders[0]) || !client_readable(holders[1])) {
        cr_assert_lt(sent + 10000, len, "they are not closed");
        client_send(holders[2], frame + sent, 10000);
        sent += 10000;
        turns_for(100000000);
        request_send(small, 3, 60000);
        cr_assert_eq(client_reply(small), 3);
    }
    cr_assert_eq(client_reply(holders[0]), -1);
    cr_assert_eq(client_reply(holders[1]), -1);
    client_send(waiting, frame + begun, len - begun);
    cr_assert_eq(client_reply(waiting), 1);
    client_send(holders[2], frame + sent, len - sent);
    cr_assert_eq(client_reply(holders[2]), 1);
    for (unsigned i = 0; i < 3; i++)
        close(holders[i]);
    close(waiting);
    close(small);
    free(frame);
    server_stop();
}

/* The server does not run for three seconds, in which it cannot see who moves: that is held against
 * nobody. */
Test(conn, who_waits_for_a_server_that_stood_still_is_not_closed, .timeout = 60)
{
    server_start(4u << 20);
    int holders[3], waiting = client_open();
    size_t len, begun = 50000;
    uint8_t *frame = metadata_request(1, 900000, &len);
    for (unsigned i = 0; i < 3; i++) {
        holders[i] = client_open();
        client_send(holders[i], frame, len / 2);
        turns(QUIET_TURNS);
    }
    client_send(waiting, frame, begun);
    turns_for(700000000); /* they were looked at */
    usleep(3000000);
    turns(QUIET_TURNS);
    for (unsigned i = 0; i < 3; i++) {
        client_send(holders[i], frame + len / 2, len - len / 2);
        cr_assert_eq(client_reply(holders[i]), 1);
        close(holders[i]);
    }
    client_send(waiting, frame + begun, len - begun);
    cr_assert_eq(client_reply(waiting), 1);
    close(waiting);
    free(frame);
    server_stop();
}

Test(conn, a_client_that_leaves_while_it_waits_leaves_nothing_behind, .timeout = 60)
{
    server_start(64u << 10);
    size_t len;
    uint8_t *frame = metadata_request(1, 40000, &len);
    for (int round = 0; round < 3; round++) {
        int holder = client_open(), waiter = client_open();
        client_send(holder, frame, len - 10);
        turns(QUIET_TURNS);
        client_send(waiter, frame, len);
        turns(QUIET_TURNS);
        close(waiter);
        turns(QUIET_TURNS);
        close(holder);
        for (unsigned i = 0; server.shard.net_memory.free_bytes != 64u << 10; i++) {
            cr_assert_lt(i, TURNS_MAX, "memory is not given back");
            turn();
        }
    }
    free(frame);
    server_stop();
}

static void assert_closed_after(const void *bytes, size_t len, int32_t reply_before)
{
    int fd = client_open();
    if (reply_before >= 0) {
        request_send(fd, reply_before, 0);
        turns(QUIET_TURNS);
    }
    client_send(fd, bytes, len);
    if (reply_before >= 0)
        cr_assert_eq(client_reply(fd), reply_before);
    cr_assert_eq(client_reply(fd), -1);
    close(fd);
}

Test(conn, what_is_no_request_closes_the_connection, .timeout = 60)
{
    static const struct {
        const char *what;
        uint8_t bytes[18];
        size_t len;
    } cases[] = {
        {"negative length", {0xff, 0xff, 0xff, 0xff}, 4},
        {"2 GiB", {0x7f, 0xff, 0xff, 0xff}, 4},
        {"longer than the memory", {0x05, 0, 0, 0}, 4},
        {"too short for a header", {0, 0, 0, 3, 1, 2, 3}, 7},
        {"empty", {0, 0, 0, 0}, 4},
        {"unknown key", {0, 0, 0, 10, 3, 0, 0, 0, 0, 0, 0, 1, 0, 0}, 14},
        {"unknown version", {0, 0, 0, 10, 0, 3, 0, 99, 0, 0, 0, 1, 0, 0}, 14},
        {"client id cut", {0, 0, 0, 10, 0, 3, 0, 4, 0, 0, 0, 1, 0, 9}, 14},
        {"2^31-1 topics", {0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff}, 18},
    };
    server_start(4u << 20);
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        assert_closed_after(cases[i].bytes, cases[i].len, -1);
        assert_closed_after(cases[i].bytes, cases[i].len, 5); /* what came before is answered */
    }
    server_stop();
}

/* Kafka ignores them, and librdkafka's request for all topics has some. */
Test(conn, bytes_behind_a_body_are_ignored, .timeout = 60)
{
    static const uint8_t ask[] = {0, 0, 0, 17, 0, API_METADATA, 0,    1, 0, 0, 0, 7, 0,
                                  0, 0, 0, 0,  0, 0xca,         0xfe, 9};
    server_start(4u << 20);
    int fd = client_open();
    client_send(fd, ask, sizeof(ask));
    cr_assert_eq(client_reply(fd), 7);
    close(fd);
    server_stop();
}

Test(conn, a_large_first_frame_is_taken, .timeout = 60)
{
    server_start(4u << 20);
    size_t len;
    uint8_t *frame = metadata_request(1, 600u << 10, &len);
    int fd = client_open();
    client_send(fd, frame, len);
    cr_assert_eq(client_reply(fd), 1);
    free(frame);
    close(fd);
    server_stop();
}

Test(conn, an_unknown_version_of_api_versions_is_told_the_known_ones, .timeout = 60)
{
    static const uint8_t ask[] = {0, 0, 0, 12, 0,    API_VERSIONS, 0, 77,
                                  0, 0, 0, 9,  0xde, 0xad,         1, 2};
    static const uint8_t told[] = {0, 0, 0, 16, 0, 0, 0, 9, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5};
    uint8_t got[sizeof(told)];
    server_start(4u << 20);
    int fd = client_open();
    client_send(fd, ask, sizeof(ask));
    cr_assert(client_recv(fd, got, sizeof(got)));
    cr_assert_eq(memcmp(got, told, sizeof(told)), 0);
    request_send(fd, 3, 0); /* and the connection lives on */
    cr_assert_eq(client_reply(fd), 3);
    close(fd);
    server_stop();
}

Test(conn, a_client_that_only_closed_its_sending_half_gets_its_reply, .timeout = 60)
{
    server_start(4u << 20);
    int fd = client_open();
    request_send(fd, 6, 0);
    shutdown(fd, SHUT_WR);
    cr_assert_eq(client_reply(fd), 6);
    cr_assert_eq(client_reply(fd), -1);
    close(fd);
    server_stop();
}

Test(conn, many_idle_connections_hold_no_request_memory, .timeout = 60)
{
    enum { MANY = 1000 };
    static int fds[MANY];
    _Static_assert(sizeof(struct conn) < 2048, "an idle connection is small");
    server_start(4u << 20);
    for (int i = 0; i < MANY; i++) {
        fds[i] = client_open();
        turn();
    }
    const struct net *net = server.shard.net;
    for (unsigned i = 0; net->counters.conns_open < MANY; i++) {
        cr_assert_lt(i, TURNS_MAX);
        turn();
    }
    cr_assert_eq(server.shard.net_memory.free_bytes, server.shard.net_memory.size_bytes);
    cr_assert_eq(net->requests_n, 0);
    request_send(fds[MANY / 2], 8, 0);
    cr_assert_eq(client_reply(fds[MANY / 2]), 8);
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
    server_stop();
}

Test(conn, more_connections_than_allowed_are_closed, .timeout = 60)
{
    server_start(4u << 20);
    struct net *net = server.shard.net;
    net->conns_max = 3;
    int fds[5];
    for (int i = 0; i < 5; i++) {
        fds[i] = client_open();
        turns(QUIET_TURNS);
    }
    cr_assert_eq(net->counters.conns_open, 3);
    cr_assert_eq(client_reply(fds[4]), -1);
    close(fds[0]);
    turns(QUIET_TURNS);
    int again = client_open();
    request_send(again, 1, 0);
    cr_assert_eq(client_reply(again), 1);
    for (int i = 1; i < 5; i++)
        close(fds[i]);
    close(again);
    server_stop();
}

/* Requests on one connection, one every 60 ms, eight times; false: the machine did not let us, and
 * for so long that it may count as idle. */
static bool kept_busy(int fd, uint64_t idle_ns)
{
    uint64_t answered_ns = env_now_ns(server.env);
    for (int i = 0; i < 8; i++) {
        request_send(fd, i, 0);
        int32_t id = client_reply(fd);
        uint64_t now_ns = env_now_ns(server.env);
        if (now_ns - answered_ns >= idle_ns)
            return false;
        cr_assert_eq(id, i);
        answered_ns = now_ns;
        turns_for(60000000);
    }
    return true;
}

Test(conn, idle_connections_are_closed, .timeout = 60)
{
    enum { IDLE_MS = 200, TRIES = 20 };
    server_start(4u << 20);
    server.broker.connection_idle_ms = IDLE_MS;
    int idle, busy;
    for (unsigned tries = 0;; tries++) {
        idle = client_open();
        busy = client_open();
        if (kept_busy(busy, IDLE_MS * UINT64_C(1000000)))
            break;
        cr_assert_lt(tries, TRIES, "the machine is too busy to keep a connection busy");
        close(idle);
        close(busy);
    }
    cr_assert_eq(client_reply(idle), -1);
    request_send(busy, 9, 0);
    cr_assert_eq(client_reply(busy), 9);
    close(idle);
    close(busy);
    server_stop();
}

Test(conn, stopping_closes_the_listener_and_all_connections, .timeout = 60)
{
    server_start(4u << 20);
    int fd = client_open(), half = client_open();
    request_send(fd, 1, 0);
    cr_assert_eq(client_reply(fd), 1);
    client_send(half, "\0\0\1", 3);
    turns(QUIET_TURNS);
    server_stop();
    char byte;
    cr_assert_leq(recv(fd, &byte, 1, 0), 0);
    cr_assert_leq(recv(half, &byte, 1, 0), 0);
    close(fd);
    close(half);
}
