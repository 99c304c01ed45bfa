#include "bench/egress_cost.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/list.h"
#include "core/base/rng.h"
#include "io/env_uring.h"
#include "io/probe.h"
#include "io/sock.h"

enum { FILE_BYTES = 64 << 20, RECEIVE_BYTES = 1 << 20 };
#define PAYS 0.95 /* of the cost of the other way: less is noise */

const char *const egress_way_names[EGRESS_WAYS] = {
    [EGRESS_MEMORY_SEND] = "memory send", [EGRESS_MEMORY_ZC] = "memory send_zc",
    [EGRESS_DISK_SEND] = "disk send",     [EGRESS_DISK_ZC] = "disk send_zc",
    [EGRESS_DISK_SPLICE] = "disk splice", [EGRESS_CACHED_SPLICE] = "cached splice",
};
const uint32_t egress_sizes[EGRESS_SIZES] = {16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20};

struct sending {
    struct env_op op;
    bool released;
};
struct rig {
    const struct egress_cost_config *config;
    struct env *env;
    struct env_file *direct, *cached;
    int cached_fd; /* of the same file: to drop its pages */
    uint8_t *memory;
    int sock, sink; /* sink: the receiver's end; -1: elsewhere */
    pthread_t receiver;
    bool receiving, zc;
    uint32_t crc; /* of what was read */
};

/* ---- the receiver ---- */

static void *receive_main(void *arg)
{
    const struct rig *r = arg;
    char *buf = malloc(RECEIVE_BYTES);
    while (buf != NULL && recv(r->sink, buf, RECEIVE_BYTES, 0) > 0)
        ;
    free(buf);
    return NULL;
}

static uint64_t ns_of(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

/* Of the process, the kernel's workers for it included, but not of the receiver. */
static uint64_t cpu_ns(const struct rig *r)
{
    struct rusage all;
    struct timespec ts = {0};
    clockid_t clock;
    getrusage(RUSAGE_SELF, &all);
    if (r->receiving && pthread_getcpuclockid(r->receiver, &clock) == 0)
        clock_gettime(clock, &ts);
    return ns_of(all.ru_utime) + ns_of(all.ru_stime) -
           ((uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec);
}

/* ---- one message ---- */

static void on_sent(struct env_op *op)
{
    (void)op;
}

static void on_released(struct env_op *op)
{
    container_of(op, struct sending, op)->released = true;
}

static int send_wait(struct rig *r, struct sending *s)
{
    while (s->op.busy || !s->released)
        env_turn(r->env, UINT64_MAX);
    return s->op.res < 0 ? s->op.res : 0;
}

static int send_memory(struct rig *r, uint8_t *at, uint32_t bytes, bool zc, bool *ret_copied)
{
    struct sending s = {0};
    struct iovec iov = {at, bytes};
    if (zc)
        env_sendv_zc(r->env, &s.op, r->sock, &iov, 1, on_sent, on_released);
    else
        env_sendv(r->env, &s.op, r->sock, &iov, 1, on_sent, on_released);
    int rc = send_wait(r, &s);
    *ret_copied |= zc && s.op.copied;
    return rc;
}

static int send_disk(struct rig *r, uint64_t pos, uint32_t bytes, bool zc, bool *ret_copied)
{
    int rc = env_read_wait(r->env, r->direct, r->memory, bytes, pos);
    if (rc != (int)bytes)
        return rc < 0 ? rc : -EIO;
    r->crc ^= crc32c(r->memory, bytes);
    return send_memory(r, r->memory, bytes, zc, ret_copied);
}

static int send_spliced(struct rig *r, uint64_t pos, uint32_t bytes)
{
    struct sending s = {0};
    struct env_extent x = {.file = r->cached, .offset_bytes = pos, .len_bytes = bytes};
    env_splice(r->env, &s.op, r->sock, &x, 0, on_sent, on_released);
    return send_wait(r, &s);
}

static int message(struct rig *r, enum egress_way way, uint64_t pos, uint32_t bytes,
                   bool *ret_copied)
{
    switch (way) {
    case EGRESS_MEMORY_SEND:
    case EGRESS_MEMORY_ZC:
        return send_memory(r, r->memory + pos % (4u << 20), bytes, way == EGRESS_MEMORY_ZC,
                           ret_copied);
    case EGRESS_DISK_SEND:
    case EGRESS_DISK_ZC:
        return send_disk(r, pos, bytes, way == EGRESS_DISK_ZC, ret_copied);
    default:
        if (pos == 0 && way == EGRESS_DISK_SPLICE)
            posix_fadvise(r->cached_fd, 0, 0, POSIX_FADV_DONTNEED);
        return send_spliced(r, pos, bytes);
    }
}

/* ---- one figure ---- */

static bool is_possible(const struct rig *r, enum egress_way way)
{
    if (way == EGRESS_MEMORY_ZC || way == EGRESS_DISK_ZC)
        return r->zc;
    return (way != EGRESS_DISK_SPLICE && way != EGRESS_CACHED_SPLICE) || r->cached != NULL;
}

/* All pages in memory, or on their way to the peer before the clock runs. */
static int warm_up(struct rig *r, enum egress_way way, uint32_t bytes)
{
    bool copied = false;
    int rc = 0;
    uint64_t total = way == EGRESS_CACHED_SPLICE ? FILE_BYTES : 4u << 20;
    for (uint64_t pos = 0; rc == 0 && pos < total; pos += bytes)
        rc = message(r, way, pos, bytes, &copied);
    return rc;
}

static int figure(struct rig *r, enum egress_way way, uint32_t bytes, double *ret, bool *ret_copied)
{
    int rc = warm_up(r, way, bytes);
    uint64_t sent = 0, cpu = cpu_ns(r),
             deadline = clock_now_ns() + (uint64_t)(r->config->seconds_each * 1e9);
    while (rc == 0 && clock_now_ns() < deadline)
        for (uint64_t pos = 0; rc == 0 && pos < FILE_BYTES && clock_now_ns() < deadline;
             pos += bytes) {
            rc = message(r, way, pos, bytes, ret_copied);
            sent += bytes;
        }
    *ret = sent == 0 ? -1 : (double)(cpu_ns(r) - cpu) / (double)sent;
    return rc;
}

/* ---- the rig ---- */

static int file_open(struct rig *r, char *path)
{
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_UNLINK, .path = path},
        {.kind = ENV_STEP_PREWRITE, .path = path, .size_bytes = FILE_BYTES},
    };
    struct env_name_step cached = {.kind = ENV_STEP_OPEN_CACHED, .path = path};
    struct env_name_step gone = {.kind = ENV_STEP_UNLINK, .path = path};
    int rc = env_names_wait(r->env, steps, ARRAY_LEN(steps));
    if (rc < 0)
        return rc;
    r->direct = steps[1].ret_file;
    for (uint64_t pos = 0; rc >= 0 && pos < FILE_BYTES; pos += 4u << 20)
        rc = env_write_wait(r->env, r->direct, r->memory, 4u << 20, pos, 0);
    if (rc >= 0)
        rc = env_flush_wait(r->env, r->direct);
    if (env_names_wait(r->env, &cached, 1) == 0)
        r->cached = cached.ret_file;
    r->cached_fd = open(path, O_RDONLY | O_CLOEXEC);
    env_names_wait(r->env, &gone, 1);
    return rc < 0 ? rc : 0;
}

static int loopback_pair(struct rig *r)
{
    int listener, rc = sock_listen("127.0.0.1", 0, 1, &listener);
    if (rc < 0)
        return rc;
    struct sock_addr addr;
    rc = sock_resolve("127.0.0.1", (uint16_t)sock_local_port(listener), &addr);
    r->sock = rc < 0 ? -1 : socket(addr.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (r->sock >= 0 && connect(r->sock, (struct sockaddr *)&addr.storage, addr.len) == 0)
        r->sink = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    if (r->sink < 0)
        return -errno;
    rc = pthread_create(&r->receiver, NULL, receive_main, r);
    r->receiving = rc == 0;
    return -rc;
}

static int sink_connect(struct rig *r)
{
    struct sock_addr addr;
    int rc = sock_resolve(r->config->sink_host, r->config->sink_port, &addr);
    if (rc < 0)
        return rc;
    r->sock = socket(addr.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (r->sock < 0 || connect(r->sock, (struct sockaddr *)&addr.storage, addr.len) < 0)
        return -errno;
    return 0;
}

static int rig_open(struct rig *r, const struct egress_cost_config *config, const char **ret_what)
{
    struct io_features features;
    struct rng rng;
    char path[4096];
    *r = (struct rig){.config = config, .sock = -1, .sink = -1, .cached_fd = -1};
    signal(SIGPIPE, SIG_IGN);
    int rc = io_probe(&features, ret_what);
    if (rc < 0)
        return rc;
    r->zc = features.send_zc;
    r->memory = aligned_alloc(BLOCK_BYTES, 8u << 20);
    *ret_what = "memory";
    if (r->memory == NULL)
        return -ENOMEM;
    rng_seed(&rng, 1);
    for (size_t at = 0; at < 8u << 20; at += 8)
        memcpy(r->memory + at, &(uint64_t){rng_next(&rng)}, 8);
    *ret_what = "the ring";
    rc = env_uring_create(&(struct env_uring_config){.features = &features}, &r->env);
    if (rc < 0)
        return rc;
    *ret_what = "the file in the directory";
    snprintf(path, sizeof(path), "%.4000s/.egress-cost.%d", config->dir, (int)getpid());
    rc = file_open(r, path);
    if (rc < 0)
        return rc;
    *ret_what = "the connection";
    rc = config->sink_host == NULL ? loopback_pair(r) : sink_connect(r);
    if (rc == 0)
        sock_tune(r->sock);
    return rc;
}

static void rig_close(struct rig *r)
{
    if (r->sock >= 0)
        shutdown(r->sock, SHUT_RDWR);
    if (r->receiving)
        pthread_join(r->receiver, NULL);
    env_destroy(r->env);
    int fds[] = {r->sock, r->sink, r->cached_fd};
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(r->memory);
}

static int measure_all(struct rig *r, struct egress_cost *ret)
{
    int rc = 0;
    for (unsigned way = 0; way < EGRESS_WAYS; way++)
        for (unsigned i = 0; rc == 0 && i < EGRESS_SIZES; i++) {
            ret->ns_per_byte[way][i] = -1;
            if (!is_possible(r, way))
                continue;
            if (r->config->on_progress != NULL)
                r->config->on_progress(egress_way_names[way], egress_sizes[i]);
            rc = figure(r, way, egress_sizes[i], &ret->ns_per_byte[way][i], &ret->copied);
        }
    return rc;
}

int egress_cost_measure(const struct egress_cost_config *config, struct egress_cost *ret,
                        char *reason, size_t reason_size)
{
    struct rig r;
    const char *what = "measuring";
    *ret = (struct egress_cost){0};
    int rc = rig_open(&r, config, &what);
    if (rc == 0) {
        what = "sending";
        ret->local = sock_is_local(r.sock);
        rc = measure_all(&r, ret);
    }
    rig_close(&r);
    if (rc < 0)
        snprintf(reason, reason_size, "%s: %s", what, strerror(-rc));
    return rc;
}

/* ---- what follows ---- */

static bool pays(const struct egress_cost *cost, enum egress_way way, enum egress_way against,
                 unsigned size)
{
    double ours = cost->ns_per_byte[way][size], theirs = cost->ns_per_byte[against][size];
    return ours >= 0 && (theirs < 0 || ours < theirs * PAYS);
}

uint32_t egress_cost_zc_bytes(const struct egress_cost *cost)
{
    unsigned from = EGRESS_SIZES;
    while (!cost->copied && from > 0 && pays(cost, EGRESS_MEMORY_ZC, EGRESS_MEMORY_SEND, from - 1))
        from--;
    return from == EGRESS_SIZES ? 0 : egress_sizes[from];
}

static bool splice_pays(const struct egress_cost *cost, unsigned size)
{
    static const enum egress_way ways[] = {EGRESS_DISK_SPLICE, EGRESS_CACHED_SPLICE};
    static const enum egress_way against[] = {EGRESS_DISK_SEND, EGRESS_DISK_ZC};
    for (unsigned i = 0; i < ARRAY_LEN(ways); i++)
        for (unsigned k = 0; k < ARRAY_LEN(against); k++)
            if (!pays(cost, ways[i], against[k], size))
                return false;
    return true;
}

uint32_t egress_cost_splice_bytes(const struct egress_cost *cost)
{
    unsigned from = EGRESS_SIZES;
    while (from > 0 && splice_pays(cost, from - 1))
        from--;
    return from == EGRESS_SIZES ? 0 : egress_sizes[from];
}
