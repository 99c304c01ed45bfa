#include "io/uring_poll.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "io/uring_files.h"

enum { ENTRIES = 256, CQ_ENTRIES = 4096 /* more than a shard ever has in flight */ };

void uring_poll_init(struct uring_poll *p, bool single_issuer, const int *lock_fds,
                     unsigned lock_fds_n)
{
    struct io_uring_params params = {.flags = IORING_SETUP_IOPOLL | IORING_SETUP_CQSIZE |
                                              IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL,
                                     .cq_entries = CQ_ENTRIES};
    if (single_issuer)
        params.flags |= IORING_SETUP_SINGLE_ISSUER;
    if (io_uring_queue_init_params(ENTRIES, &p->ring, &params) < 0)
        return;
    if (lock_fds_n > 0 && io_uring_register_files(&p->ring, lock_fds, lock_fds_n) < 0) {
        io_uring_queue_exit(&p->ring);
        return;
    }
    if (io_uring_register_ring_fd(&p->ring) == 1)
        p->enter_flags = IORING_ENTER_REGISTERED_RING;
    p->on = true;
}

void uring_poll_fini(struct uring_poll *p)
{
    if (p->on)
        io_uring_queue_exit(&p->ring);
    *p = (struct uring_poll){0};
}

/* A partition has no queue of its own: its disk has, one folder up. -1: not told. */
static long queue_number(dev_t dev, const char *name)
{
    static const char *const forms[] = {"/sys/dev/block/%u:%u/queue/%s",
                                        "/sys/dev/block/%u:%u/../queue/%s"};
    for (unsigned i = 0; i < 2; i++) {
        char path[96];
        long v;
        snprintf(path, sizeof(path), forms[i], major(dev), minor(dev), name);
        FILE *f = fopen(path, "re");
        if (f == NULL)
            continue;
        bool read = fscanf(f, "%ld", &v) == 1;
        fclose(f);
        return read ? v : -1;
    }
    return -1;
}

static uint32_t device_limit(dev_t dev)
{
    long max_kib = queue_number(dev, "max_sectors_kb");
    return queue_number(dev, "io_poll") == 1 && max_kib > 0 && max_kib < 1 << 20
               ? (uint32_t)max_kib << 10
               : 0;
}

uint32_t uring_poll_limit(struct uring_poll *p, int fd)
{
    struct stat st;
    if (!p->on || fstat(fd, &st) < 0)
        return 0;
    for (unsigned i = 0; i < p->devices_n; i++)
        if (p->devices[i].dev == st.st_dev)
            return p->devices[i].limit_bytes;
    uint32_t limit_bytes = device_limit(st.st_dev);
    if (p->devices_n < URING_POLL_DEVICES_MAX) {
        p->devices[p->devices_n].dev = st.st_dev;
        p->devices[p->devices_n++].limit_bytes = limit_bytes;
    }
    return limit_bytes;
}

bool uring_poll_takes(const struct uring_poll *p, const struct env_op *op)
{
    return p->on && op->kind == ENV_OP_READ && op->len_bytes <= op->file->poll_bytes_max;
}

int uring_poll_enter(struct uring_poll *p, unsigned wait_n)
{
    return compat_enter(&p->ring, compat_sq_flush(&p->ring), wait_n,
                        p->enter_flags | IORING_ENTER_GETEVENTS, NULL);
}
