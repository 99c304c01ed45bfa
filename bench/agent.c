#include "bench/agent.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "bench/agent_private.h"
#include "core/base/bytes.h"
#include "core/base/logger.h"

enum {
    BACKLOG = 16,
    REFUSE_MS = 300, /* a refused peer's greeting is waited for, or its reset would hide the why */
    HANDOVER_MS = 300,
    STOP_S = 5, /* threads that are still connecting to a broker are not waited for longer */
};

enum phase {
    PHASE_IDLE,
    PHASE_GREETING, /* others wait in the backlog: it is not yet known to be a conductor */
    PHASE_SERVING,  /* others are refused */
    PHASE_OVER,     /* its thread is to be joined */
};

struct agent {
    int listen_fd, signal_fd, phase_fd;
    atomic_int phase;
    pthread_t thread;
    struct session session;
};

static void phase_set(struct agent *a, enum phase phase)
{
    atomic_store(&a->phase, phase);
    eventfd_write(a->phase_fd, 1);
}

static void *session_run(void *arg)
{
    struct agent *a = arg;
    struct session *s = &a->session;
    int rc = session_greet(s);
    if (rc < 0) {
        log_warn("%s is no conductor of ours: %s", s->link.peer, agents_link_why(rc));
    } else {
        log_info("conductor %s", s->link.peer);
        phase_set(a, PHASE_SERVING);
        rc = session_serve(s);
        log_info("conductor %s left: %s", s->link.peer, agents_link_why(rc));
    }
    phase_set(a, PHASE_OVER);
    return NULL;
}

static void refuse(struct agent *a, int fd, const char *peer)
{
    struct agents_link k;
    struct agents_message m;
    char why[AGENTS_TEXT_BYTES];
    snprintf(why, sizeof(why), "busy with conductor %s", a->session.link.peer);
    agents_link_open(&k, fd, peer);
    agents_link_await(&k, REFUSE_MS, &m);
    agents_encode_text(&k.out, AGENTS_REFUSED, why);
    if (agents_link_send(&k) == 0) {
        shutdown(fd, SHUT_WR);
        agents_link_await(&k, REFUSE_MS, &m);
    }
    agents_link_close(&k);
    log_info("refused %s: %s", peer, why);
}

static void converse(struct agent *a, int fd, const char *peer)
{
    memset(&a->session, 0, sizeof(a->session));
    agents_link_open(&a->session.link, fd, peer);
    atomic_store(&a->phase, PHASE_GREETING);
    int rc = pthread_create(&a->thread, NULL, session_run, a);
    if (rc == 0)
        return;
    log_error("no thread for %s: %s", peer, strerror(rc));
    agents_link_close(&a->session.link);
    atomic_store(&a->phase, PHASE_IDLE);
}

static void on_phase(struct agent *a)
{
    eventfd_t count;
    eventfd_read(a->phase_fd, &count);
    if (atomic_load(&a->phase) != PHASE_OVER)
        return;
    pthread_join(a->thread, NULL);
    agents_link_close(&a->session.link);
    atomic_store(&a->phase, PHASE_IDLE);
}

/* The next conductor may be faster than the end of the one before. */
static void await_idle(struct agent *a)
{
    struct pollfd p = {.fd = a->phase_fd, .events = POLLIN};
    while (atomic_load(&a->phase) != PHASE_IDLE && poll(&p, 1, HANDOVER_MS) > 0)
        on_phase(a);
}

static void on_connection(struct agent *a)
{
    char peer[SOCK_NAME_BYTES];
    int fd = accept4(a->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    sock_peer_name(fd, peer);
    await_idle(a);
    if (atomic_load(&a->phase) == PHASE_IDLE)
        converse(a, fd, peer);
    else
        refuse(a, fd, peer);
}

static void serve(struct agent *a)
{
    for (;;) {
        bool listening = atomic_load(&a->phase) != PHASE_GREETING;
        struct pollfd p[] = {{.fd = a->signal_fd, .events = POLLIN},
                             {.fd = a->phase_fd, .events = POLLIN},
                             {.fd = listening ? a->listen_fd : -1, .events = POLLIN}};
        if (poll(p, ARRAY_LEN(p), -1) < 0)
            continue;
        if (p[0].revents != 0)
            return;
        if (p[1].revents != 0)
            on_phase(a);
        else if (p[2].revents != 0)
            on_connection(a);
    }
}

/* What a session holds dies with the process: only its connection is worth a farewell. */
static void session_stop(struct agent *a)
{
    struct timespec end;
    if (atomic_load(&a->phase) == PHASE_IDLE)
        return;
    agents_link_shut(&a->session.link);
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += STOP_S;
    if (pthread_timedjoin_np(a->thread, NULL, &end) != 0) {
        log_info("ended while a run was beginning");
        _exit(0);
    }
    agents_link_close(&a->session.link);
}

static int fds_open(struct agent *a, const char *host, uint16_t port)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before threads, which inherit it */
    a->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    a->phase_fd = eventfd(0, EFD_CLOEXEC);
    if (a->signal_fd < 0 || a->phase_fd < 0)
        return -errno;
    return sock_listen(host, port, BACKLOG, &a->listen_fd);
}

static void fds_close(const struct agent *a)
{
    const int fds[] = {a->listen_fd, a->signal_fd, a->phase_fd};
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

int agent_serve(const char *address, char *reason, size_t reason_size)
{
    char host[AGENTS_HOST_BYTES];
    uint16_t port;
    struct agent *a = calloc(1, sizeof(*a));
    if (a == NULL || agents_address_parse(address, host, &port) < 0) {
        snprintf(reason, reason_size, "--listen %s: HOST:PORT is wanted", address);
        free(a);
        return -EINVAL;
    }
    a->listen_fd = a->signal_fd = a->phase_fd = -1;
    int rc = fds_open(a, host, port);
    if (rc < 0) {
        snprintf(reason, reason_size, "--listen %s: %s", address, agents_link_why(rc));
    } else {
        printf("penstock bench agent ready %s:%d\n", host, sock_local_port(a->listen_fd));
        fflush(stdout);
        serve(a);
        session_stop(a);
    }
    fds_close(a);
    free(a);
    return rc;
}
