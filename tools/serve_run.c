#include "tools/serve_run.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/logger.h"
#include "io/env_uring.h"
#include "net/metrics_http.h"
#include "net/net.h"
#include "numa/mem.h"
#include "tools/cmd_version.h"
#include "tools/serve_meta.h"

#define NS_PER_MS UINT64_C(1000000)
#define STOP_WAIT_MS 5000u /* for open requests */
#define STOP_ABORT_MS 500u /* then for closed connections to come back */
#define STOP_POLL_MS 10u
#define RECV_BUFFERS 256u
#define RECV_BUFFER_BYTES (16u << 10)
#define STACK_BYTES ((size_t)8 << 20) /* as Linux gives a program; only touched pages cost */
#define RECV_BYTES ((size_t)RECV_BUFFERS * RECV_BUFFER_BYTES)
#define STACK_GUARD_BYTES ((size_t)64 << 10)

struct runner { /* one shard's thread; lies with its stack on the shard's NUMA node */
    struct serve *serve;
    struct mem_region home; /* guard page, stack, receive buffers, this */
    unsigned index;
    struct shard shard;
    struct env *env;
    struct mem_region memory;
    struct net_config net;
    pthread_t thread;
    struct env_msg stop_msg;
    struct shard_timer poll_timer;
    bool opened, stop_asked, open_at_stop;
    int rc;
    char reason[512];
};

struct serve {
    struct serve_setup *setup;
    struct env_uring_group *group;
    struct runner **runners;
    unsigned shards_n;
    struct serve_meta meta;
    pthread_barrier_t barrier;
    atomic_uint failed, listening, drained, ended;
    int event_fd;                 /* main thread: something changed */
    struct metrics_http *metrics; /* main thread; NULL: off, or not now */
    const struct shard *shards[BROKER_SHARDS_MAX];
};

static void main_wake(struct serve *v)
{
    uint64_t one = 1;
    if (write(v->event_fd, &one, sizeof(one)) < 0)
        log_error("eventfd: %s", strerror(errno));
}

/* ---- start, on the shard's thread ---- */

/* Core, memory, ring. */
static int runner_prepare(struct runner *r)
{
    const struct serve_setup *setup = r->serve->setup;
    unsigned index = r->index;
    const struct placement_shard *place = &setup->placement->shards[index];
    int lock_fds[META_DIRS_MAX + 1];
    int rc = mem_pin_thread((int)place->pu_os_index);
    if (rc < 0)
        log_warn("shard %u: cannot be pinned to CPU %u: %s", index, place->pu_os_index,
                 strerror(-rc));
    rc = mem_map(place->memory_bytes, (int)place->node_os_index, &r->memory);
    if (rc < 0) {
        snprintf(r->reason, sizeof(r->reason), "shard %u: %llu bytes of memory: %s", index,
                 (unsigned long long)place->memory_bytes, strerror(-rc));
        return rc;
    }
    struct iovec fixed = {r->memory.base, r->memory.len_bytes};
    struct env_uring_config config = {.index = index,
                                      .group = r->serve->group,
                                      .fixed = &fixed,
                                      .fixed_n = 1,
                                      .lock_fds = lock_fds,
                                      .lock_fds_n = dirs_lock_fds(&setup->dirs, lock_fds),
                                      .busy_poll_us = setup->busy_poll_us,
                                      .flush_poll_us = setup->flush_poll_us,
                                      .recv_buffers = RECV_BUFFERS,
                                      .recv_buffer_bytes = RECV_BUFFER_BYTES,
                                      .recv_memory = (char *)r - RECV_BYTES,
                                      .shard = &r->shard,
                                      .features = setup->features};
    rc = env_uring_create(&config, &r->env);
    if (rc < 0)
        snprintf(r->reason, sizeof(r->reason), "shard %u: io_uring: %s", index, strerror(-rc));
    return rc;
}

static int runner_open_meta(struct runner *r)
{
    struct serve_setup *setup = r->serve->setup;
    int rc = serve_meta_open(r->env, &setup->dirs, &setup->broker.topic_defaults,
                             &setup->broker.log, setup->broker.nodes[0].node_id, &r->serve->meta,
                             r->reason, sizeof(r->reason));
    if (rc < 0)
        return rc;
    /* Other shards read the broker only behind the next barrier. */
    setup->broker.log.journal_dir = setup->dirs.journal.path;
    setup->broker.log.data_dirs = r->serve->meta.data_dirs;
    setup->broker.log.data_dirs_n = r->serve->meta.image->dirs_n;
    setup->broker.log.dirs_offline = &r->serve->meta.dirs_offline;
    return 0;
}

static int runner_open(struct runner *r)
{
    struct serve *v = r->serve;
    int rc = shard_init(&r->shard, r->env, &v->setup->broker, r->memory.base, r->memory.len_bytes,
                        v->meta.image, r->reason, sizeof(r->reason));
    if (rc < 0)
        return rc;
    r->opened = true;
    if (r->shard.index == 0) {
        rc = shard_init_controller(&r->shard, v->meta.log, v->meta.image);
        if (rc < 0)
            snprintf(r->reason, sizeof(r->reason), "controller: %s", strerror(-rc));
    }
    return rc;
}

static int runner_listen(struct runner *r)
{
    int rc = net_init(&r->shard, &r->net);
    if (rc < 0)
        snprintf(r->reason, sizeof(r->reason), "shard %u: network: %s", r->shard.index,
                 strerror(-rc));
    return rc;
}

/* One step that all shards take together; false when any of them failed. */
static bool runner_step(struct runner *r, int (*step)(struct runner *))
{
    r->rc = step == NULL ? 0 : step(r);
    if (r->rc < 0)
        atomic_fetch_add(&r->serve->failed, 1);
    pthread_barrier_wait(&r->serve->barrier);
    bool all_well = atomic_load(&r->serve->failed) == 0;
    pthread_barrier_wait(
        &r->serve->barrier); /* nobody fails the next step before all have looked */
    return all_well;
}

static bool runner_start(struct runner *r)
{
    return runner_step(r, runner_prepare) &&
           runner_step(r, r->index == 0 ? runner_open_meta : NULL) && runner_step(r, runner_open) &&
           runner_step(r, runner_listen);
}

/* ---- stop, on the shard's thread ---- */

static void on_stop(void *shard, struct env_msg *msg)
{
    (void)shard;
    container_of(msg, struct runner, stop_msg)->stop_asked = true;
}

static void on_poll(struct shard_timer *t)
{
    (void)t; /* only ends the turn */
}

static void runner_turn_soon(struct runner *r)
{
    shard_timer_set(&r->shard, &r->poll_timer, env_now_ns(r->env) + STOP_POLL_MS * NS_PER_MS,
                    on_poll);
    shard_turn(&r->shard);
}

static void runner_turn_until_stopped(struct runner *r, uint64_t wait_ms)
{
    uint64_t deadline = env_now_ns(r->env) + wait_ms * NS_PER_MS;
    while (!net_stopped(&r->shard) && env_now_ns(r->env) < deadline)
        runner_turn_soon(r);
}

static void runner_drain(struct runner *r)
{
    net_stop(&r->shard);
    runner_turn_until_stopped(r, STOP_WAIT_MS);
    if (!net_stopped(&r->shard)) {
        net_abort(&r->shard);
        runner_turn_until_stopped(r, STOP_ABORT_MS);
    }
    r->open_at_stop = !net_stopped(&r->shard);
    /* Others may still need this shard for what they have open. */
    atomic_fetch_add(&r->serve->drained, 1);
    while (atomic_load(&r->serve->drained) < r->serve->shards_n)
        runner_turn_soon(r);
    runner_turn_soon(r); /* what the last one to drain has sent here */
    shard_timer_clear(&r->shard, &r->poll_timer);
}

static void runner_close_store(struct runner *r)
{
    if (r->open_at_stop) {
        snprintf(r->reason, sizeof(r->reason), "shard %u: requests did not finish in time",
                 r->shard.index);
        r->rc = -ETIMEDOUT;
        shard_abandon(&r->shard);
        return;
    }
    net_fini(&r->shard);
    r->rc = shard_fini(&r->shard);
    if (r->rc < 0)
        snprintf(r->reason, sizeof(r->reason), "shard %u: %s", r->shard.index, strerror(-r->rc));
}

static void runner_close_meta(struct runner *r)
{
    struct serve *v = r->serve;
    v->meta.image = shard_fini_controller(&r->shard);
    if (atomic_load(&v->failed) == 0) {
        r->rc = serve_meta_stop(&v->meta);
        if (r->rc < 0) {
            atomic_fetch_add(&v->failed, 1);
            snprintf(r->reason, sizeof(r->reason), "metadata log: %s", strerror(-r->rc));
        }
    }
    serve_meta_close(&v->meta);
}

static void counters_log(const struct runner *r)
{
    const struct env_counters *c = &r->env->counters;
    uint64_t sent = 0;
    for (unsigned i = 0; i < ENV_EGRESS_PATHS; i++)
        sent += c->egress_bytes[i];
    log_info("shard %u: %llu turns, %llu system calls, %llu operations; bytes: %llu received, %llu "
             "written, %llu read, %llu sent; %llu flushes, %llu messages, %llu polled",
             r->shard.index, (unsigned long long)c->turns, (unsigned long long)c->syscalls,
             (unsigned long long)c->submissions, (unsigned long long)c->received_bytes,
             (unsigned long long)c->write_bytes, (unsigned long long)c->read_bytes,
             (unsigned long long)sent, (unsigned long long)c->flushes,
             (unsigned long long)c->messages, (unsigned long long)c->polled);
}

static void runner_stop(struct runner *r)
{
    counters_log(r); /* of serving, without the stop itself */
    runner_drain(r);
    pthread_barrier_wait(&r->serve->barrier);
    runner_close_store(r);
    if (r->rc < 0)
        atomic_fetch_add(&r->serve->failed, 1);
    pthread_barrier_wait(&r->serve->barrier);
    if (r->shard.index == 0)
        runner_close_meta(r);
    pthread_barrier_wait(&r->serve->barrier);
}

/* After a start that failed: what is open is left as a crash would leave it. */
static void runner_give_up(struct runner *r)
{
    pthread_barrier_wait(&r->serve->barrier);
    if (r->opened)
        shard_abandon(&r->shard);
    if (r->index == 0) {
        if (r->shard.controller != NULL)
            r->serve->meta.image = shard_fini_controller(&r->shard);
        serve_meta_close(&r->serve->meta);
    }
    pthread_barrier_wait(&r->serve->barrier);
}

static void *runner_main(void *arg)
{
    struct runner *r = arg;
    char name[16];
    snprintf(name, sizeof(name), "shard-%u", r->index % 10000);
    pthread_setname_np(pthread_self(), name);
    if (runner_start(r)) {
        if (atomic_fetch_add(&r->serve->listening, 1) + 1 == r->serve->shards_n)
            main_wake(r->serve);
        while (!r->stop_asked)
            shard_turn(&r->shard);
        runner_stop(r);
    } else {
        runner_give_up(r);
    }
    env_destroy(r->env);
    mem_unmap(&r->memory);
    atomic_fetch_add(&r->serve->ended, 1);
    main_wake(r->serve);
    return NULL;
}

/* ---- main thread ---- */

static void ready_print(const struct serve_setup *setup)
{
    bool v6 = strchr(setup->ready_host, ':') != NULL;
    char at[300];
    snprintf(at, sizeof(at), v6 ? "[%s]:%u" : "%s:%u", setup->ready_host, setup->ready_port);
    printf("penstock ready %s shards=%u data=%s", at, setup->broker.shards_n,
           setup->dirs.data[0].path);
    for (unsigned i = 1; i < setup->dirs.data_n; i++)
        printf(",%s", setup->dirs.data[i].path);
    printf("\necho hello | kcat -P -b %s -t demo\nkcat -C -b %s -t demo -e\n", at, at);
    fflush(stdout);
}

/* All shards listen. */
static void metrics_start(struct serve *v)
{
    if (v->setup->metrics_sock < 0)
        return;
    for (unsigned i = 0; i < v->shards_n; i++)
        v->shards[i] = &v->runners[i]->shard;
    struct metrics_http_config config = {v->setup->metrics_sock, v->shards, v->shards_n,
                                         penstock_version()};
    int rc = metrics_http_start(&config, &v->metrics);
    if (rc < 0)
        log_error("no metrics: %s", strerror(-rc));
}

static void metrics_stop(struct serve *v)
{
    metrics_http_stop(v->metrics);
    v->metrics = NULL;
}

static void stop_all(struct serve *v)
{
    metrics_stop(v); /* it looks at the shards */
    for (unsigned i = 0; i < v->shards_n; i++) {
        v->runners[i]->stop_msg.run = on_stop;
        env_uring_group_wake(v->group, i, &v->runners[i]->stop_msg);
    }
}

/* Until every thread has ended. */
static void main_wait(struct serve *v, int signal_fd)
{
    bool told_ready = false, stopping = false;
    struct pollfd fds[2] = {{.fd = v->event_fd, .events = POLLIN},
                            {.fd = signal_fd, .events = POLLIN}};
    while (atomic_load(&v->ended) < v->shards_n) {
        if (poll(fds, ARRAY_LEN(fds), -1) < 0)
            continue;
        uint64_t count;
        struct signalfd_siginfo info;
        if ((fds[0].revents & POLLIN) && read(v->event_fd, &count, sizeof(count)) > 0 &&
            !told_ready && !stopping && atomic_load(&v->listening) == v->shards_n) {
            metrics_start(v);
            ready_print(v->setup);
            told_ready = true;
        }
        if (!(fds[1].revents & POLLIN) || read(signal_fd, &info, sizeof(info)) <= 0)
            continue;
        if (stopping) {
            log_error("second signal: stopped at once");
            _exit(1);
        }
        log_info("%s: stopping", strsignal((int)info.ssi_signo));
        stopping = true;
        stop_all(v);
    }
}

/* Whoever touches a page first, it is on the shard's node: the main thread touches the top of the
 * stack, where the thread's own variables lie. */
static int runner_map(struct serve *v, unsigned index)
{
    const struct placement_shard *place = &v->setup->placement->shards[index];
    struct mem_region home;
    size_t below_bytes = STACK_GUARD_BYTES + STACK_BYTES + RECV_BYTES;
    int rc = mem_map_plain(below_bytes + sizeof(struct runner), (int)place->node_os_index, &home);
    if (rc < 0)
        return rc;
    struct runner *r = (void *)((char *)home.base + below_bytes);
    r->serve = v;
    r->home = home;
    r->index = index;
    v->runners[index] = r;
    return mprotect(home.base, STACK_GUARD_BYTES, PROT_NONE) < 0 ? -errno : 0;
}

static int runners_map(struct serve *v)
{
    int rc = 0;
    v->runners = calloc(v->shards_n, sizeof(struct runner *));
    if (v->runners == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < v->shards_n && rc == 0; i++)
        rc = runner_map(v, i);
    return rc;
}

static void runners_unmap(struct serve *v)
{
    for (unsigned i = 0; v->runners != NULL && i < v->shards_n; i++) {
        struct mem_region home =
            v->runners[i] != NULL ? v->runners[i]->home : (struct mem_region){0};
        mem_unmap(&home);
    }
    free(v->runners);
}

static int thread_start(struct runner *r)
{
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return rc;
    rc = pthread_attr_setstack(&attr, (char *)r->home.base + STACK_GUARD_BYTES, STACK_BYTES);
    if (rc == 0)
        rc = pthread_create(&r->thread, &attr, runner_main, r);
    pthread_attr_destroy(&attr);
    return rc;
}

static int threads_start(struct serve *v)
{
    for (unsigned i = 0; i < v->shards_n; i++) {
        struct runner *r = v->runners[i];
        const struct broker *b = &v->setup->broker;
        const struct broker_node *node = &b->nodes[b->node_of_shard[i]];
        if (node->first_shard == i) /* the others of its node are dealt their connections */
            r->net = (struct net_config){&v->setup->listen_socks[b->node_of_shard[i]], 1};
        int rc = thread_start(r);
        if (rc != 0) { /* those that run wait at a barrier that will never be complete */
            fprintf(stderr, "penstock: thread for shard %u: %s\n", i, strerror(rc));
            _exit(1);
        }
    }
    return 0;
}

static int result_tell(const struct serve *v)
{
    for (unsigned i = 0; i < v->shards_n; i++) {
        if (v->runners[i]->rc >= 0)
            continue;
        fprintf(stderr, "penstock: %s\n", v->runners[i]->reason);
        return 1;
    }
    log_info("stopped");
    return 0;
}

static int serve_threads(struct serve *v, int signal_fd)
{
    int rc = env_uring_group_create(v->shards_n, &v->group);
    if (rc < 0) {
        fprintf(stderr, "penstock: io_uring: %s\n", strerror(-rc));
        return 1;
    }
    pthread_barrier_init(&v->barrier, NULL, v->shards_n);
    threads_start(v);
    main_wait(v, signal_fd);
    for (unsigned i = 0; i < v->shards_n; i++)
        pthread_join(v->runners[i]->thread, NULL);
    pthread_barrier_destroy(&v->barrier);
    env_uring_group_destroy(v->group);
    return result_tell(v);
}

int serve_run(struct serve_setup *setup)
{
    struct serve v = {.setup = setup, .shards_n = setup->broker.shards_n};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before threads, which inherit it */
    int exit_code = 1, signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    v.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = signal_fd < 0 || v.event_fd < 0 ? -errno : runners_map(&v);
    if (rc < 0)
        fprintf(stderr, "penstock: %s\n", strerror(-rc));
    else
        exit_code = serve_threads(&v, signal_fd);
    runners_unmap(&v);
    close(v.event_fd);
    close(signal_fd);
    return exit_code;
}
