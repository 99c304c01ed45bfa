#include "io/uring_pace.h"

#include "core/base/bytes.h"

void uring_pace_init(struct uring_pace *p)
{
    *p = (struct uring_pace){0};
    list_init(&p->waiting);
}

bool uring_pace_takes(const struct env_op *op)
{
    return op->kind == ENV_OP_READ && op->background;
}

static bool is_write(const struct env_op *op)
{
    return op->kind == ENV_OP_WRITE || op->kind == ENV_OP_FLUSH;
}

void uring_pace_write_began(struct uring_pace *p, const struct env_op *op, uint64_t now_ns)
{
    if (!is_write(op))
        return;
    p->writes_n++;
    p->awaited_n += env_op_is_awaited(op);
    p->writing_bytes += op->len_bytes;
    p->wrote_ns = now_ns;
}

void uring_pace_write_ended(struct uring_pace *p, const struct env_op *op, uint64_t now_ns)
{
    if (!is_write(op))
        return;
    p->writes_n--;
    p->awaited_n -= env_op_is_awaited(op);
    p->writing_bytes -= op->len_bytes;
    p->wrote_ns = now_ns;
}

static void piece_set(struct env_op *op, uint64_t bytes)
{
    op->private_[0] = (void *)(uintptr_t)bytes;
}

uint64_t uring_pace_piece_bytes(const struct env_op *op)
{
    return (uintptr_t)op->private_[0];
}

static bool is_alone(const struct uring_pace *p, uint64_t now_ns)
{
    return p->writes_n == 0 && (p->wrote_ns == 0 || now_ns - p->wrote_ns >= URING_PACE_QUIET_NS);
}

/* A piece that begins now would go before the flush of a write that is under way. */
static bool lets_by(const struct uring_pace *p, uint64_t now_ns)
{
    uint64_t took_ns = p->read_ended_ns - p->read_began_ns;
    return p->awaited_n > 0 && p->writing_bytes < URING_PACE_PIECE_BYTES &&
           now_ns - p->read_ended_ns < 2 * took_ns;
}

/* What may be read beside what is in the kernel already. */
static uint64_t room_bytes(const struct uring_pace *p, uint64_t now_ns)
{
    if (is_alone(p, now_ns))
        return UINT64_MAX;
    if (p->reading_bytes == 0 && lets_by(p, now_ns))
        return 0;
    uint64_t most = MAX(block_floor(p->writing_bytes), (uint64_t)URING_PACE_PIECE_BYTES);
    return most - MIN(most, p->reading_bytes);
}

struct env_op *uring_pace_next(struct uring_pace *p, uint64_t now_ns)
{
    struct list_node *node = list_head(&p->waiting);
    if (node == NULL)
        return NULL;
    struct env_op *op = container_of(node, struct env_op, link);
    uint64_t left = op->len_bytes - op->done_bytes, room = room_bytes(p, now_ns);
    if (room < MIN(left, (uint64_t)URING_PACE_PIECE_BYTES))
        return NULL;
    piece_set(op, MIN(left, room));
    return op;
}

void uring_pace_read_began(struct uring_pace *p, const struct env_op *op, uint64_t now_ns)
{
    if (!uring_pace_takes(op))
        return;
    p->read_began_ns = now_ns;
    p->reading_bytes += uring_pace_piece_bytes(op);
}

void uring_pace_read_ended(struct uring_pace *p, const struct env_op *op, uint64_t now_ns)
{
    if (!uring_pace_takes(op))
        return;
    p->reading_bytes -= uring_pace_piece_bytes(op);
    p->read_ended_ns = now_ns;
}
