#include "io/env_dry.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "io/env_dry_private.h"

static struct dry *dry_of(struct env *env)
{
    return container_of(env, struct dry, env);
}

/* ---- transfers ---- */

static int op_read(struct env_op *op)
{
    struct dry_node *n = op->file->node;
    uint64_t pos = op->offset_bytes, done = 0;
    for (unsigned i = 0; i < op->iov_n && pos + done < n->size_bytes; i++) {
        uint64_t len = MIN(op->iov[i].iov_len, n->size_bytes - pos - done);
        int rc = dry_read(n, op->iov[i].iov_base, len, pos + done);
        if (rc != 0)
            return rc;
        done += len;
    }
    return (int)done;
}

static int op_write(struct dry *d, struct env_op *op)
{
    uint64_t done = 0;
    d->changes++;
    for (unsigned i = 0; i < op->iov_n; i++) {
        int rc = dry_write(d, op->file->node, op->iov[i].iov_base, op->iov[i].iov_len,
                           op->offset_bytes + done);
        if (rc != 0)
            return rc;
        done += op->iov[i].iov_len;
    }
    return (int)done;
}

/* ---- the environment ---- */

static int op_run(struct dry *d, struct env_op *op)
{
    switch (op->kind) {
    case ENV_OP_READ:
        return op_read(op);
    case ENV_OP_WRITE:
        return op_write(d, op);
    case ENV_OP_FLUSH:
        return 0;
    case ENV_OP_NAMES:
        return dry_names(d, op);
    default:
        return -EOPNOTSUPP;
    }
}

static void clock_read(struct dry *d)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    d->now_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t dry_now_ns(struct env *env)
{
    return dry_of(env)->now_ns;
}

static int64_t dry_wall_ms(struct env *env)
{
    struct timespec ts;
    (void)env;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint64_t dry_random(struct env *env)
{
    uint64_t v = dry_of(env)->now_ns; /* if there is no better */
    if (getrandom(&v, sizeof(v), 0) != sizeof(v))
        v *= 0x9e3779b97f4a7c15u;
    return v;
}

static void dry_submit(struct env *env, struct env_op *op)
{
    list_push_tail(&dry_of(env)->pending, &op->link);
}

static void dry_file_close(struct env *env, struct env_file *file)
{
    struct dry_node *n = file->node;
    (void)env;
    if (--n->opens == 0 && n->base_fd >= 0) {
        close(n->base_fd);
        n->base_fd = -1;
    }
    free(file);
}

static int dry_file_synced(struct env *env, struct env_file *file)
{
    (void)env;
    (void)file;
    return 0; /* nothing is lost in memory */
}

static void dry_turn(struct env *env, uint64_t deadline_ns)
{
    struct dry *d = dry_of(env);
    struct list_node due;
    clock_read(d);
    ASSERT(!list_empty(&d->pending) || deadline_ns != UINT64_MAX);
    list_init(&due);
    list_splice_tail(&due, &d->pending);
    if (list_empty(&due) && deadline_ns > d->now_ns) {
        struct timespec left = {.tv_sec = (time_t)((deadline_ns - d->now_ns) / 1000000000u),
                                .tv_nsec = (long)((deadline_ns - d->now_ns) % 1000000000u)};
        nanosleep(&left, NULL);
        clock_read(d);
    }
    for (struct list_node *it; (it = list_pop_head(&due)) != NULL;) {
        struct env_op *op = container_of(it, struct env_op, link);
        op->res = op_run(d, op);
        op->busy = false;
        op->on_done(op);
    }
}

static void dry_destroy(struct env *env)
{
    struct dry *d = dry_of(env);
    struct dry_node *n, *next;
    for (size_t it = 0; (n = map_next(&d->nodes, &it)) != NULL;)
        for (; n != NULL; n = next) {
            next = n->next;
            ASSERT(n->opens == 0);
            dry_node_empty(d, n);
            map_fini(&n->blocks);
            free(n->path);
            free(n);
        }
    map_fini(&d->nodes);
    free(d);
}

static const struct env_ops dry_ops = {
    .now_ns = dry_now_ns,
    .wall_ms = dry_wall_ms,
    .random = dry_random,
    .submit = dry_submit,
    .file_close = dry_file_close,
    .file_synced = dry_file_synced,
    .turn = dry_turn,
    .destroy = dry_destroy,
};

int env_dry_create(uint64_t memory_bytes, struct env **ret)
{
    struct dry *d = calloc(1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    d->env = (struct env){.ops = &dry_ops, .count = 1};
    d->memory_bytes = memory_bytes;
    list_init(&d->pending);
    map_init(&d->nodes);
    clock_read(d);
    *ret = &d->env;
    return 0;
}

uint64_t env_dry_changes(const struct env *env)
{
    return container_of(env, struct dry, env)->changes;
}
