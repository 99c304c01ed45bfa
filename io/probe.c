#include "io/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "io/page_cache.h"
#include "io/uring_compat.h"

enum {
    KERNEL_MIN_MAJOR = 6,
    KERNEL_MIN_MINOR = 1,
    TRIAL_ENTRIES = 8,
    TRIAL_BYTES = 4096,
    TRIAL_WAIT_MS = 2000,
    HUGE_KIB = 2048,
};

/* What the trials share: a ring, and a connected loopback pair with its listener. */
struct trial {
    struct io_uring ring;
    int listener, client, server;
    unsigned char *memory; /* TRIAL_BYTES */
    struct io_features *ret;
};

static int64_t number_read(const char *path)
{
    long long v = -1;
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -1;
    if (fscanf(f, "%lld", &v) != 1)
        v = -1;
    fclose(f);
    return v;
}

static void limits_read(struct io_features *ret)
{
    struct rlimit limit;
    char path[96];
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0)
        ret->memlock_bytes = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        ret->nofile = limit.rlim_cur;
        ret->nofile_max = limit.rlim_max;
    }
    ret->disabled_sysctl = (int)number_read("/proc/sys/kernel/io_uring_disabled");
    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%dkB/free_hugepages",
             HUGE_KIB);
    ret->huge_free_bytes = (uint64_t)MAX(number_read(path), 0) * HUGE_KIB * 1024;
    snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%dkB/nr_hugepages", HUGE_KIB);
    ret->huge_total_bytes = (uint64_t)MAX(number_read(path), 0) * HUGE_KIB * 1024;
}

/* One completion, or -ETIME. */
static int cqe_take(struct io_uring *ring, int *ret_res, unsigned *ret_flags)
{
    struct io_uring_cqe *cqe = NULL;
    struct __kernel_timespec ts = {.tv_sec = TRIAL_WAIT_MS / 1000};
    int rc = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &ts, NULL);
    /* What was submitted is told, and not that a signal or the time ended the wait. */
    if (cqe == NULL && (rc >= 0 || rc == -EINTR))
        rc = io_uring_wait_cqe_timeout(ring, &cqe, &ts);
    if (cqe == NULL)
        return rc < 0 ? rc : -ETIME;
    *ret_res = cqe->res;
    *ret_flags = cqe->flags;
    io_uring_cqe_seen(ring, cqe);
    return 0;
}

/* Cancel all, and wait for the completion of the cancel and `also` others. */
static void cancel_all(struct io_uring *ring, unsigned also)
{
    int res;
    unsigned flags;
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_rw(IORING_OP_ASYNC_CANCEL, sqe, -1, NULL, 0, 0);
    sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
    for (unsigned i = 0; i < also + 1; i++)
        if (cqe_take(ring, &res, &flags) < 0)
            return;
}

static bool ring_makes(unsigned flags)
{
    struct io_uring ring;
    if (io_uring_queue_init(TRIAL_ENTRIES, &ring, flags) < 0)
        return false;
    io_uring_queue_exit(&ring);
    return true;
}

static int listener_open(struct trial *t)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(addr);
    t->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    t->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (t->listener < 0 || t->client < 0 ||
        bind(t->listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        listen(t->listener, 1) < 0 ||
        getsockname(t->listener, (struct sockaddr *)&addr, &len) < 0 ||
        connect(t->client, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        return -errno;
    return 0;
}

/* Leaves the pair connected for the trials after it, by a plain accept if need be. */
static void try_accept(struct trial *t)
{
    int res;
    unsigned flags;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);
    io_uring_prep_multishot_accept(sqe, t->listener, NULL, NULL, SOCK_CLOEXEC);
    if (cqe_take(&t->ring, &res, &flags) == 0 && res >= 0) {
        t->server = res;
        t->ret->accept_multishot = (flags & IORING_CQE_F_MORE) != 0;
        if (t->ret->accept_multishot)
            cancel_all(&t->ring, 1);
    }
    if (t->server < 0)
        t->server = accept4(t->listener, NULL, NULL, SOCK_CLOEXEC);
}

static void try_recv(struct trial *t)
{
    int res;
    unsigned flags;
    struct io_uring_buf_ring *br =
        mmap(NULL, TRIAL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (br == MAP_FAILED)
        return;
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)br, .ring_entries = 2};
    if (io_uring_register_buf_ring(&t->ring, &reg, 0) == 0) {
        for (unsigned short id = 0; id < 2; id++)
            io_uring_buf_ring_add(br, t->memory + id * 64, 64, id, io_uring_buf_ring_mask(2), id);
        io_uring_buf_ring_advance(br, 2);
        struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);
        io_uring_prep_recv_multishot(sqe, t->server, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        if (write(t->client, "x", 1) == 1 && cqe_take(&t->ring, &res, &flags) == 0) {
            t->ret->buf_ring = res == 1 && (flags & IORING_CQE_F_BUFFER) != 0;
            t->ret->recv_multishot = res == 1 && (flags & IORING_CQE_F_MORE) != 0;
        }
        if (t->ret->recv_multishot)
            cancel_all(&t->ring, 1);
        io_uring_unregister_buf_ring(&t->ring, 0);
    }
    munmap(br, TRIAL_BYTES);
}

static void try_msg_ring(struct trial *t)
{
    struct io_uring other;
    int res;
    unsigned flags, setup = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    if (io_uring_queue_init(TRIAL_ENTRIES, &other, t->ret->defer_taskrun ? setup : 0) < 0)
        return;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);
    io_uring_prep_msg_ring(sqe, other.ring_fd, 7, 1, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    if (io_uring_submit(&t->ring) == 1 && cqe_take(&other, &res, &flags) == 0)
        t->ret->msg_ring = res == 7;
    io_uring_queue_exit(&other);
}

/* The first completion is the send's; with F_MORE a second one reports the buffer's release. */
static bool send_zc_once(struct trial *t, unsigned zc_flags, int *ret_notif)
{
    int res, notif = 0;
    unsigned flags;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);
    io_uring_prep_send_zc(sqe, t->client, t->memory, 64, 0, zc_flags);
    if (cqe_take(&t->ring, &res, &flags) < 0)
        return false;
    bool sent = res == 64;
    if ((flags & IORING_CQE_F_MORE) != 0 && cqe_take(&t->ring, &notif, &flags) < 0)
        return false;
    *ret_notif = notif;
    return sent && recv(t->server, t->memory, 64, MSG_WAITALL) == 64;
}

static void try_send_zc(struct trial *t)
{
    int notif;
    t->ret->send_zc = send_zc_once(t, 0, &notif);
    if (!t->ret->send_zc)
        return;
    t->ret->send_zc_report = send_zc_once(t, COMPAT_SEND_ZC_REPORT_USAGE, &notif);
    t->ret->send_zc_copied =
        t->ret->send_zc_report && ((unsigned)notif & COMPAT_NOTIF_USAGE_ZC_COPIED) != 0;
}

static void try_splice(struct trial *t)
{
    int pipe_fds[2], res;
    unsigned flags;
    int fd = memfd_create("penstock-probe", MFD_CLOEXEC);
    if (fd < 0)
        return;
    if (pipe2(pipe_fds, O_CLOEXEC) == 0) {
        if (write(fd, t->memory, TRIAL_BYTES) == TRIAL_BYTES) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&t->ring);
            io_uring_prep_splice(sqe, fd, 0, pipe_fds[1], -1, TRIAL_BYTES, SPLICE_F_NONBLOCK);
            if (cqe_take(&t->ring, &res, &flags) == 0)
                t->ret->splice = res == TRIAL_BYTES;
            t->ret->cachestat = page_cache_pages(fd, 0, TRIAL_BYTES) == TRIAL_BYTES / 4096;
        }
        close(pipe_fds[0]);
        close(pipe_fds[1]);
    }
    close(fd);
}

/* Registering more than RLIMIT_MEMLOCK works only for the privileged. A limit too big to try is
 * taken as one that does not hinder. */
static void try_fixed(struct trial *t)
{
    enum { TRY_BYTES_MAX = 64 << 20 };
    struct iovec small = {t->memory, TRIAL_BYTES};
    t->ret->fixed_buffers = io_uring_register_buffers(&t->ring, &small, 1) == 0;
    if (!t->ret->fixed_buffers)
        return;
    io_uring_unregister_buffers(&t->ring);
    t->ret->fixed_unlimited = true;
    if (t->ret->memlock_bytes > TRY_BYTES_MAX)
        return;
    size_t bytes = block_ceil(t->ret->memlock_bytes) + TRIAL_BYTES;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct iovec big = {p, bytes};
    t->ret->fixed_unlimited = p != MAP_FAILED && io_uring_register_buffers(&t->ring, &big, 1) == 0;
    if (t->ret->fixed_unlimited)
        io_uring_unregister_buffers(&t->ring);
    if (p != MAP_FAILED)
        munmap(p, bytes);
}

static void try_registrations(struct trial *t)
{
    struct compat_napi napi = {.busy_poll_to = 1};
    t->ret->sparse_files = io_uring_register_files_sparse(&t->ring, TRIAL_ENTRIES) == 0;
    if (io_uring_register((unsigned)t->ring.ring_fd, COMPAT_REGISTER_NAPI, &napi, 1) == 0) {
        t->ret->napi = true;
        io_uring_register((unsigned)t->ring.ring_fd, COMPAT_UNREGISTER_NAPI, &napi, 1);
    }
}

static void trials_run(struct trial *t)
{
    if (io_uring_queue_init(TRIAL_ENTRIES, &t->ring, 0) < 0)
        return;
    t->ret->ext_arg = (t->ring.features & IORING_FEAT_EXT_ARG) != 0;
    t->ret->nodrop = (t->ring.features & IORING_FEAT_NODROP) != 0;
    try_registrations(t);
    try_fixed(t);
    try_msg_ring(t);
    try_splice(t);
    if (listener_open(t) == 0)
        try_accept(t);
    if (t->server >= 0) {
        try_recv(t);
        try_send_zc(t); /* last: a late notification would confuse another trial */
    }
    io_uring_queue_exit(&t->ring);
}

static void features_try(struct io_features *ret)
{
    struct trial t = {.listener = -1, .client = -1, .server = -1, .ret = ret};
    ret->single_issuer = ring_makes(IORING_SETUP_SINGLE_ISSUER);
    ret->defer_taskrun = ring_makes(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                    IORING_SETUP_TASKRUN_FLAG);
    ret->coop_taskrun = ring_makes(IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
    ret->iopoll = ring_makes(IORING_SETUP_IOPOLL);
    t.memory = mmap(NULL, TRIAL_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (t.memory == MAP_FAILED)
        return;
    trials_run(&t);
    munmap(t.memory, TRIAL_BYTES);
    const int fds[] = {t.listener, t.client, t.server};
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static const char *refusal_reason(const struct io_features *f, int rc)
{
    if (rc == -ENOSYS)
        return "this kernel has no io_uring, or a seccomp filter (a container's?) hides it";
    if (rc != -EPERM && rc != -EACCES)
        return "io_uring cannot make a ring: out of memory or descriptors";
    if (f->disabled_sysctl == 2)
        return "io_uring is switched off: sysctl kernel.io_uring_disabled=2";
    if (f->disabled_sysctl == 1)
        return "io_uring is for the privileged: sysctl kernel.io_uring_disabled=1 and no "
               "CAP_SYS_ADMIN or kernel.io_uring_group membership";
    return "io_uring is forbidden: a seccomp filter (a container's?) or a security module";
}

int io_probe(struct io_features *ret, const char **ret_reason)
{
    static _Thread_local char too_old[96];
    struct utsname name;
    *ret = (struct io_features){0};
    limits_read(ret);
    if (uname(&name) < 0 ||
        sscanf(name.release, "%u.%u", &ret->kernel_major, &ret->kernel_minor) != 2)
        ret->kernel_major = ret->kernel_minor = 0;
    struct io_uring ring;
    int rc = io_uring_queue_init(TRIAL_ENTRIES, &ring, 0);
    if (rc < 0) {
        *ret_reason = refusal_reason(ret, rc);
        return -ENOSYS;
    }
    io_uring_queue_exit(&ring);
    ret->io_uring = true;
    features_try(ret);
    bool old = ret->kernel_major < KERNEL_MIN_MAJOR ||
               (ret->kernel_major == KERNEL_MIN_MAJOR && ret->kernel_minor < KERNEL_MIN_MINOR);
    if (old || !ret->ext_arg || !ret->nodrop) {
        snprintf(too_old, sizeof(too_old), "kernel %u.%u is too old: %d.%d or later is needed",
                 ret->kernel_major, ret->kernel_minor, KERNEL_MIN_MAJOR, KERNEL_MIN_MINOR);
        *ret_reason = too_old;
        return -ENOSYS;
    }
    if (!ret->sparse_files) {
        *ret_reason = "registering files with a ring is refused (a seccomp filter?), and the locks "
                      "of directories need it";
        return -ENOSYS;
    }
    return 0;
}
