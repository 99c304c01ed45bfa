/* around.c: reads that go around what the device cannot read: in one piece, and if that fails block
 * by block, with zeros for the blocks that fail. Zeros are no batch and no record, so whoever
 * verifies finds them damaged. Failure: only when not one block can be read. */
#include "core/log/internal.h"

#include <errno.h>

static void around_next(struct around *a);

static void around_end(struct around *a, int rc)
{
    a->rc = rc;
    a->on_done(a);
}

static void on_around_block(struct env_op *op)
{
    struct around *a = container_of(op, struct around, op);
    uint64_t len = MIN(a->len_bytes - a->at, (uint64_t)BLOCK_BYTES);
    uint64_t got = op->res < 0 ? 0 : (uint64_t)op->res;
    memset(a->buf + a->at + got, 0, len - got);
    a->unreadable_n += op->res < 0;
    if (op->res < 0 && a->first_error == 0)
        a->first_error = op->res;
    a->at += op->res < 0 ? len : got;
    if (op->res >= 0 && got < len) /* the end of the file */
        a->len_bytes = a->at;
    around_next(a);
}

static void around_next(struct around *a)
{
    uint64_t blocks = (a->len_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    if (a->at < a->len_bytes)
        env_read(a->env, &a->op, a->file, a->buf + a->at,
                 MIN(a->len_bytes - a->at, (uint64_t)BLOCK_BYTES), a->offset_bytes + a->at,
                 on_around_block);
    else
        around_end(a, a->unreadable_n > 0 && a->unreadable_n >= blocks ? a->first_error
                                                                       : (int)a->len_bytes);
}

static void on_around_whole(struct env_op *op)
{
    struct around *a = container_of(op, struct around, op);
    if (op->res >= 0 || a->len_bytes <= BLOCK_BYTES)
        around_end(a, op->res);
    else
        around_next(a);
}

void around_read(struct env *env, struct around *a, struct env_file *file, uint8_t *buf,
                 uint64_t len_bytes, uint64_t offset_bytes, void (*on_done)(struct around *a))
{
    *a = (struct around){.op = {.background = true},
                         .env = env,
                         .file = file,
                         .buf = buf,
                         .len_bytes = len_bytes,
                         .offset_bytes = offset_bytes,
                         .on_done = on_done};
    env_read(env, &a->op, file, buf, len_bytes, offset_bytes, on_around_whole);
}

static void on_waited(struct around *a)
{
    a->env = NULL;
}

int around_read_wait(struct env *env, struct env_file *file, uint8_t *buf, uint64_t len_bytes,
                     uint64_t offset_bytes)
{
    struct around a;
    around_read(env, &a, file, buf, len_bytes, offset_bytes, on_waited);
    while (a.env != NULL)
        env_turn(env, UINT64_MAX);
    return a.rc;
}
