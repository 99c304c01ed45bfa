/* One measurement is a run: groups of blocks, each group written with up to `depth` in flight,
 * drained, flushed, then the next. Reads are one group without end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench/limits_private.h"
#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/list.h"
#include "core/base/rng.h"
#include "io/env_uring.h"

enum {
    DEPTH = 4,
    LATENCIES_MAX = 1 << 17, /* a run of more groups ends early: enough for any median */
    FILL_BLOCK_BYTES = 1 << 20,
};

const struct limits_traits limits_traits[LIMITS_KINDS] = {
    [LIMITS_WRITE_16MIB] = {.write = true,
                            .depth = DEPTH,
                            .group_bytes = 16 << 20,
                            .flush = true,
                            .flush_name = "16MiB",
                            .text = "writes, 4 in flight, a flush each 16 MiB"},
    [LIMITS_WRITE_GROUP] = {.write = true,
                            .depth = DEPTH,
                            .group_blocks = DEPTH,
                            .flush = true,
                            .flush_name = "4 blocks",
                            .text = "writes, 4 in flight, a flush after each 4"},
    [LIMITS_WRITE_FLUSH] = {.write = true,
                            .depth = 1,
                            .group_blocks = 1,
                            .flush = true,
                            .flush_name = "each",
                            .text = "writes, 1 in flight, a flush after each"},
    [LIMITS_WRITE_DSYNC] = {.write = true,
                            .depth = 1,
                            .group_blocks = 1,
                            .dsync = true,
                            .flush_name = "dsync",
                            .text = "writes, 1 in flight, each synced"},
    [LIMITS_READ] = {.depth = DEPTH, .group_blocks = UINT32_MAX, .text = "reads, 4 in flight"},
};

struct disk { /* what all runs share */
    struct env *env;
    struct env_file *file;
    unsigned char *buffers; /* DEPTH of them, buffer_bytes each */
    size_t buffer_bytes;
    uint64_t file_bytes; /* usable: reserved, then written */
    uint64_t *latencies_ns;
};

struct run;
struct slot {
    struct env_op op;
    struct run *run;
    void *buf;
};

enum run_state {
    RUN_GROUP,    /* blocks of a group are submitted or in flight */
    RUN_FLUSHING, /* all of the group are written */
    RUN_DONE,
};
struct run {
    const struct limits_traits *traits;
    struct disk *disk;
    enum run_state state;
    int rc; /* the first error */
    uint32_t block_bytes;
    uint64_t bytes_max;   /* ends there; 0: at the deadline alone */
    uint64_t bytes_min;   /* not before so many, whatever the clock says */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC, as all times here */
    uint64_t start_ns, end_ns, group_start_ns;
    struct slot slots[DEPTH];
    struct env_op flush_op;
    unsigned in_flight, group_blocks, group_submitted;
    uint64_t at_bytes;                      /* where the next block goes */
    uint64_t submitted_bytes, closed_bytes; /* closed: of groups that are flushed */
    size_t groups_n;
};

static bool run_over(const struct run *r)
{
    if (r->rc < 0 || r->groups_n == LATENCIES_MAX)
        return true;
    if (r->bytes_max > 0 && r->submitted_bytes + r->block_bytes > r->bytes_max)
        return true;
    return r->submitted_bytes >= r->bytes_min && clock_now_ns() >= r->deadline_ns;
}

static void run_pump(struct run *r);

static void on_block_done(struct env_op *op)
{
    struct run *r = container_of(op, struct slot, op)->run;
    r->in_flight--;
    if (op->res != (int)r->block_bytes && r->rc == 0)
        r->rc = op->res < 0 ? op->res : -EIO;
    run_pump(r);
}

static void block_submit(struct run *r, struct slot *slot)
{
    struct disk *d = r->disk;
    if (r->at_bytes + r->block_bytes > d->file_bytes)
        r->at_bytes = 0;
    if (r->group_submitted == 0)
        r->group_start_ns = clock_now_ns();
    if (r->traits->write)
        env_write(d->env, &slot->op, d->file, slot->buf, r->block_bytes, r->at_bytes,
                  r->traits->dsync ? ENV_DSYNC : 0, on_block_done);
    else
        env_read(d->env, &slot->op, d->file, slot->buf, r->block_bytes, r->at_bytes, on_block_done);
    r->at_bytes += r->block_bytes;
    r->submitted_bytes += r->block_bytes;
    r->group_submitted++;
    r->in_flight++;
}

/* The group's bytes count from here on. */
static void group_close(struct run *r)
{
    r->end_ns = clock_now_ns();
    r->disk->latencies_ns[r->groups_n++] = r->end_ns - r->group_start_ns;
    r->closed_bytes += (uint64_t)r->group_submitted * r->block_bytes;
    r->group_submitted = 0;
    r->state = RUN_GROUP;
}

static void on_flush_done(struct env_op *op)
{
    struct run *r = container_of(op, struct run, flush_op);
    ASSERT(r->state == RUN_FLUSHING);
    if (op->res < 0 && r->rc == 0)
        r->rc = op->res;
    group_close(r);
    run_pump(r);
}

static void group_fill(struct run *r)
{
    for (unsigned i = 0; i < r->traits->depth; i++) {
        struct slot *slot = &r->slots[i];
        if (slot->op.busy)
            continue;
        if (r->group_submitted == r->group_blocks || run_over(r))
            return;
        block_submit(r, slot);
    }
}

/* The only place that starts anything. */
static void run_pump(struct run *r)
{
    if (r->state != RUN_GROUP)
        return;
    group_fill(r);
    if (r->in_flight > 0)
        return;
    /* Nothing could be submitted and nothing is under way: the group is complete. */
    if (r->rc < 0 || r->group_submitted == 0) {
        r->state = RUN_DONE;
    } else if (r->traits->flush) {
        r->state = RUN_FLUSHING;
        env_flush(r->disk->env, &r->flush_op, r->disk->file, on_flush_done);
    } else {
        group_close(r);
        group_fill(r);
        if (r->in_flight == 0)
            r->state = RUN_DONE;
    }
}

/* rc, or 0 with r->closed_bytes in end_ns - start_ns. */
static int run_run(struct run *r, double seconds)
{
    const struct limits_traits *t = r->traits;
    r->group_blocks =
        t->group_bytes > 0 ? MAX(t->group_bytes / r->block_bytes, t->depth) : t->group_blocks;
    for (unsigned i = 0; i < DEPTH; i++) {
        r->slots[i].run = r;
        r->slots[i].buf = r->disk->buffers + i * r->disk->buffer_bytes;
    }
    r->start_ns = r->end_ns = clock_now_ns();
    r->deadline_ns = r->start_ns + (uint64_t)(seconds * 1e9);
    run_pump(r);
    while (r->state != RUN_DONE)
        env_turn(r->disk->env, UINT64_MAX);
    return r->rc;
}

static int latency_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double median_us(uint64_t *latencies_ns, size_t n)
{
    qsort(latencies_ns, n, sizeof(*latencies_ns), latency_compare);
    size_t middle = n / 2;
    return (double)latencies_ns[middle] / 1e3;
}

static int kind_measure(struct disk *d, const struct limits_config *config, enum limits_kind kind,
                        uint32_t block_bytes, struct limits_figure *ret)
{
    const struct limits_traits *t = &limits_traits[kind];
    struct run r = {.traits = t,
                    .disk = d,
                    .block_bytes = block_bytes,
                    .bytes_min = (uint64_t)block_bytes * t->depth};
    limits_progress(config, "%u-byte %s", block_bytes, t->text);
    int rc = run_run(&r, config->seconds_each);
    if (rc < 0)
        return rc;
    ASSERT(r.closed_bytes > 0);
    *ret = (struct limits_figure){
        .kind = kind,
        .block_bytes = block_bytes,
        .mib_s = (double)r.closed_bytes / 0x1p20 / ((double)(r.end_ns - r.start_ns) / 1e9),
    };
    if (t->write && t->group_blocks > 0)
        ret->p50_us = median_us(d->latencies_ns, r.groups_n);
    return 0;
}

/* Each block once: 100 and 1,000 bytes are both one. Returns how many. */
static unsigned blocks_list(const struct limits_config *config, uint32_t ret[LIMITS_SIZES_MAX])
{
    unsigned n = 0;
    for (unsigned i = 0; i < config->sizes_n; i++) {
        uint32_t block_bytes = (uint32_t)block_ceil(config->sizes_bytes[i]);
        unsigned at = 0;
        while (at < n && ret[at] != block_bytes)
            at++;
        ret[at] = block_bytes;
        n = MAX(n, at + 1);
    }
    return n;
}

/* Overwriting is measured, so all that is measured on must have been written before. */
static int file_fill(struct disk *d, const struct limits_config *config)
{
    static const struct limits_traits fill = {
        .write = true, .depth = DEPTH, .group_bytes = 16 << 20, .flush = true};
    struct run r = {.traits = &fill,
                    .disk = d,
                    .block_bytes = FILL_BLOCK_BYTES,
                    .bytes_max = d->file_bytes,
                    .bytes_min = DEPTH * d->buffer_bytes};
    limits_progress(config, "writing a file of up to %llu MiB",
                    (unsigned long long)(d->file_bytes >> 20));
    int rc = run_run(&r, 2 * config->seconds_each);
    d->file_bytes = r.closed_bytes;
    return rc;
}

/* The name is gone as soon as the file is open: nothing stays behind, whatever happens. */
static int file_open(struct disk *d, const char *dir)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/.penstock-limits-%016llx", dir,
             (unsigned long long)env_random(d->env));
    struct env_name_step steps[] = {
        {.kind = ENV_STEP_CREATE, .path = path, .size_bytes = d->file_bytes},
        {.kind = ENV_STEP_UNLINK, .path = path},
    };
    int rc = env_names_wait(d->env, steps, ARRAY_LEN(steps));
    d->file = steps[0].ret_file; /* the environment closes it at the latest */
    return rc;
}

/* Random bytes: a device that compresses or drops zeros would shine. */
static int buffers_make(struct disk *d)
{
    size_t bytes = DEPTH * d->buffer_bytes;
    struct rng rng;
    d->buffers = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (d->buffers == MAP_FAILED) {
        d->buffers = NULL;
        return -ENOMEM;
    }
    rng_seed(&rng, clock_now_ns());
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t))
        le_store64(d->buffers + at, rng_next(&rng));
    d->latencies_ns = malloc(LATENCIES_MAX * sizeof(*d->latencies_ns));
    return d->latencies_ns == NULL ? -ENOMEM : 0;
}

static void disk_fini(struct disk *d)
{
    env_destroy(d->env);
    if (d->buffers != NULL)
        munmap(d->buffers, DEPTH * d->buffer_bytes);
    free(d->latencies_ns);
}

static int disk_init(struct disk *d, const struct limits_config *config,
                     const struct limits_reason *reason)
{
    int rc = buffers_make(d);
    if (rc < 0)
        return limits_fail(reason, rc, "memory to measure the device with");
    struct iovec fixed = {d->buffers, DEPTH * d->buffer_bytes};
    struct env_uring_config ring = {.entries = 64, .fixed = &fixed, .fixed_n = 1};
    rc = env_uring_create(&ring, &d->env);
    if (rc < 0)
        return limits_fail(reason, rc, "a ring to measure the device with");
    rc = file_open(d, config->dir);
    return rc < 0 ? limits_fail(reason, rc, "making a file in the directory of the limits") : 0;
}

static int disk_run(struct disk *d, const struct limits_config *config,
                    const uint32_t *blocks_bytes, unsigned blocks_n, struct limits *ret,
                    const struct limits_reason *reason)
{
    int rc = disk_init(d, config, reason);
    if (rc < 0)
        return rc;
    rc = file_fill(d, config);
    if (rc < 0)
        return limits_fail(reason, rc, "writing the file to measure on");
    for (unsigned i = 0; i < blocks_n; i++) {
        for (unsigned kind = 0; kind < LIMITS_KINDS; kind++) {
            rc = kind_measure(d, config, kind, blocks_bytes[i], &ret->figures[ret->figures_n++]);
            if (rc < 0)
                return limits_fail(reason, rc, limits_traits[kind].text);
        }
    }
    ret->direct = !env_uring_file_buffered(d->file);
    ret->file_bytes = d->file_bytes;
    ret->device_measured = true;
    return 0;
}

int limits_disk_measure(const struct limits_config *config, struct limits *ret,
                        const struct limits_reason *reason)
{
    uint32_t blocks_bytes[LIMITS_SIZES_MAX];
    unsigned blocks_n = blocks_list(config, blocks_bytes);
    struct disk d = {.buffer_bytes = FILL_BLOCK_BYTES};
    int rc = device_describe(config->dir, &ret->device);
    if (rc < 0)
        return limits_fail(reason, rc, "looking at the directory of the limits");
    for (unsigned i = 0; i < blocks_n; i++)
        d.buffer_bytes =
            MAX(d.buffer_bytes, (size_t)round_up_u64(blocks_bytes[i], FILL_BLOCK_BYTES));
    d.file_bytes =
        round_down_u64(MIN(config->file_bytes_max, ret->device.free_bytes / 4), FILL_BLOCK_BYTES);
    if (d.file_bytes < DEPTH * d.buffer_bytes)
        return limits_fail(reason, -ENOSPC, "a file for 4 blocks in a quarter of the free space");
    snprintf(ret->dir, sizeof(ret->dir), "%s", config->dir);
    rc = disk_run(&d, config, blocks_bytes, blocks_n, ret, reason);
    disk_fini(&d);
    return rc;
}
