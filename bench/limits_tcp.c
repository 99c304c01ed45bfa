/* One connection over loopback: a thread that sends messages, one at a time as order demands, and a
 * thread that receives whatever is there, each with an environment of its own. The end of the
 * stream tells the receiver to stop; an end that fails shuts the connection down, which ends the
 * other. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/limits_private.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/list.h"
#include "io/env_uring.h"
#include "io/sock.h"

enum {
    SENDS = 8, /* so that a next one can go while the kernel still reads the one before */
    RECEIVE_BYTES_MIN = 256 << 10,
};

struct end;
struct send {
    struct env_op op;
    struct end *end;
    bool lent; /* until on_released */
};

struct end { /* one thread's side of the connection */
    int sock;
    int rc;
    size_t buf_bytes;
    void *buf;
    uint64_t start_ns, end_ns; /* CLOCK_MONOTONIC */
    uint64_t cpu_ns;
    uint64_t bytes;
    struct env *env;
    bool done;
    /* Sender: */
    double seconds;
    uint64_t deadline_ns;
    struct iovec message;
    struct send sends[SENDS];
    bool sending;
    unsigned lent_n;
    /* Receiver: */
    struct env_op recv_op;
};

static void sender_pump(struct end *e);

static void on_sent(struct env_op *op)
{
    struct end *e = container_of(op, struct send, op)->end;
    e->sending = false;
    if (op->res < 0)
        e->rc = op->res;
    sender_pump(e);
}

static void on_send_released(struct env_op *op)
{
    struct send *s = container_of(op, struct send, op);
    s->lent = false;
    s->end->lent_n--;
    sender_pump(s->end);
}

static void sender_pump(struct end *e)
{
    bool over = e->rc < 0 || clock_now_ns() >= e->deadline_ns;
    e->done = over && e->lent_n == 0;
    for (unsigned i = 0; i < SENDS && !over && !e->sending; i++) {
        struct send *s = &e->sends[i];
        if (s->lent)
            continue;
        e->sending = s->lent = true;
        e->lent_n++;
        env_sendv(e->env, &s->op, e->sock, &e->message, 1, on_sent, on_send_released);
    }
}

static void sender_start(struct end *e)
{
    e->message = (struct iovec){e->buf, e->buf_bytes};
    e->deadline_ns = e->start_ns + (uint64_t)(e->seconds * 1e9);
    for (unsigned i = 0; i < SENDS; i++)
        e->sends[i].end = e;
    sender_pump(e);
}

static void on_received(struct env_op *op)
{
    struct end *e = container_of(op, struct end, recv_op);
    if (op->res <= 0) {
        e->rc = op->res;
        e->done = true;
        return;
    }
    e->bytes += (unsigned)op->res;
    e->end_ns = clock_now_ns();
    env_recv(e->env, op, e->sock, e->buf, (uint32_t)e->buf_bytes, 0, on_received);
}

static void receiver_start(struct end *e)
{
    env_recv(e->env, &e->recv_op, e->sock, e->buf, (uint32_t)e->buf_bytes, 0, on_received);
}

static void end_run(struct end *e, void (*start)(struct end *))
{
    struct env_uring_config ring = {.entries = 64};
    e->rc = env_uring_create(&ring, &e->env);
    if (e->rc == 0) {
        uint64_t cpu_start_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
        e->start_ns = clock_now_ns();
        start(e);
        while (!e->done)
            env_turn(e->env, UINT64_MAX);
        e->cpu_ns = clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_start_ns;
        env_destroy(e->env);
    }
    shutdown(e->sock, e->rc < 0 ? SHUT_RDWR : SHUT_WR);
}

static void *sender_main(void *arg)
{
    end_run(arg, sender_start);
    return NULL;
}

static void *receiver_main(void *arg)
{
    end_run(arg, receiver_start);
    return NULL;
}

static int pair_connect(int listen_fd, int *ret_connected, int *ret_accepted)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, port = sock_local_port(listen_fd);
    if (port < 0)
        return port;
    to.sin_port = htons((uint16_t)port);
    int connected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connected < 0)
        return -errno;
    int accepted = -1;
    if (connect(connected, (struct sockaddr *)&to, sizeof(to)) == 0)
        accepted = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (accepted < 0) {
        int rc = -errno;
        close(connected);
        return rc;
    }
    setsockopt(connected, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* as Kafka's clients do */
    *ret_connected = connected;
    *ret_accepted = accepted;
    return 0;
}

static int pair_make(int *ret_connected, int *ret_accepted)
{
    int listen_fd;
    int rc = sock_listen("127.0.0.1", 0, 1, &listen_fd);
    if (rc < 0)
        return rc;
    rc = pair_connect(listen_fd, ret_connected, ret_accepted);
    close(listen_fd);
    return rc;
}

static int threads_run(struct end *sender, struct end *receiver)
{
    pthread_t threads[2];
    int rc = pthread_create(&threads[0], NULL, receiver_main, receiver);
    if (rc != 0)
        return -rc;
    rc = pthread_create(&threads[1], NULL, sender_main, sender);
    if (rc != 0)
        shutdown(sender->sock, SHUT_RDWR);
    else
        pthread_join(threads[1], NULL);
    pthread_join(threads[0], NULL);
    if (rc != 0)
        return -rc;
    return sender->rc < 0 ? sender->rc : receiver->rc;
}

static int message_measure(uint32_t message_bytes, double seconds, struct limits_tcp *ret)
{
    struct end sender = {.sock = -1, .buf_bytes = message_bytes, .seconds = seconds};
    struct end receiver = {.sock = -1, .buf_bytes = MAX(message_bytes, RECEIVE_BYTES_MIN)};
    sender.buf = calloc(1, sender.buf_bytes);
    receiver.buf = malloc(receiver.buf_bytes);
    int rc = sender.buf == NULL || receiver.buf == NULL ? -ENOMEM : 0;
    if (rc == 0)
        rc = pair_make(&sender.sock, &receiver.sock);
    if (rc == 0) {
        rc = threads_run(&sender, &receiver);
        close(sender.sock);
        close(receiver.sock);
    }
    if (rc == 0 && receiver.bytes == 0)
        rc = -EIO; /* not one message in all that time */
    if (rc == 0)
        *ret = (struct limits_tcp){
            .message_bytes = message_bytes,
            .mib_s = (double)receiver.bytes / 0x1p20 /
                     ((double)(receiver.end_ns - sender.start_ns) / 1e9),
            .cpu_s_per_gib =
                (double)(sender.cpu_ns + receiver.cpu_ns) / 1e9 / ((double)receiver.bytes / 0x1p30),
        };
    free(sender.buf);
    free(receiver.buf);
    return rc;
}

int limits_tcp_measure(const struct limits_config *config, struct limits *ret,
                       const struct limits_reason *reason)
{
    for (unsigned i = 0; i < config->sizes_n; i++) {
        limits_progress(config, "%u-byte messages over loopback TCP", config->sizes_bytes[i]);
        int rc = message_measure(config->sizes_bytes[i], config->seconds_each, &ret->tcp[i]);
        if (rc < 0)
            return limits_fail(reason, rc, "sending over loopback TCP");
        ret->tcp_n++;
    }
    return 0;
}
