#include "io/env.h"

#include "core/base/assert.h"
#include "core/base/bytes.h"

static void op_submit(struct env *env, struct env_op *op, enum env_op_kind kind,
                      env_done_fn on_done)
{
    ASSERT(!op->busy);
    op->kind = kind;
    op->on_done = on_done;
    op->busy = true;
    op->done_bytes = 0;
    op->res = 0;
    env->ops->submit(env, op);
}

static void op_set_iov(struct env_op *op, const struct iovec *iov, unsigned iov_n)
{
    op->iov = iov;
    op->iov_n = iov_n;
    op->len_bytes = 0;
    for (unsigned i = 0; i < iov_n; i++)
        op->len_bytes += iov[i].iov_len;
}

static void op_set_file(struct env_op *op, struct env_file *file, const struct iovec *iov,
                        unsigned iov_n, uint64_t offset_bytes, unsigned flags)
{
    op->file = file;
    op->offset_bytes = offset_bytes;
    op->flags = flags;
    op_set_iov(op, iov, iov_n);
    ASSERT(offset_bytes % BLOCK_BYTES == 0);
    ASSERT(op->len_bytes % BLOCK_BYTES == 0);
}

void env_readv(struct env *env, struct env_op *op, struct env_file *file, const struct iovec *iov,
               unsigned iov_n, uint64_t offset_bytes, env_done_fn on_done)
{
    op_set_file(op, file, iov, iov_n, offset_bytes, 0);
    op_submit(env, op, ENV_OP_READ, on_done);
}

void env_read(struct env *env, struct env_op *op, struct env_file *file, void *buf,
              uint64_t len_bytes, uint64_t offset_bytes, env_done_fn on_done)
{
    op->one = (struct iovec){buf, len_bytes};
    env_readv(env, op, file, &op->one, 1, offset_bytes, on_done);
}

void env_writev(struct env *env, struct env_op *op, struct env_file *file, const struct iovec *iov,
                unsigned iov_n, uint64_t offset_bytes, unsigned flags, env_done_fn on_done)
{
    op_set_file(op, file, iov, iov_n, offset_bytes, flags);
    op_submit(env, op, ENV_OP_WRITE, on_done);
}

void env_write(struct env *env, struct env_op *op, struct env_file *file, const void *buf,
               uint64_t len_bytes, uint64_t offset_bytes, unsigned flags, env_done_fn on_done)
{
    op->one = (struct iovec){(void *)(uintptr_t)buf, len_bytes};
    env_writev(env, op, file, &op->one, 1, offset_bytes, flags, on_done);
}

void env_flush(struct env *env, struct env_op *op, struct env_file *file, env_done_fn on_done)
{
    op_set_file(op, file, NULL, 0, 0, 0);
    op_submit(env, op, ENV_OP_FLUSH, on_done);
}

void env_names(struct env *env, struct env_op *op, struct env_name_step *steps, unsigned steps_n,
               env_done_fn on_done)
{
    op->steps = steps;
    op->steps_n = steps_n;
    op->failed_step = 0;
    op_submit(env, op, ENV_OP_NAMES, on_done);
}

void env_accept(struct env *env, struct env_op *op, int listen_sock, env_done_fn on_done)
{
    op->sock = listen_sock;
    op_submit(env, op, ENV_OP_ACCEPT, on_done);
}

void env_connect(struct env *env, struct env_op *op, const struct sock_addr *addr,
                 env_done_fn on_done)
{
    op->sock = -1;
    op->addr = addr;
    op_submit(env, op, ENV_OP_CONNECT, on_done);
}

void env_sock_shutdown(struct env *env, int sock)
{
    env->ops->sock_shutdown(env, sock);
}

void env_sock_close(struct env *env, int sock)
{
    env->ops->sock_close(env, sock);
}

void env_sock_abort(struct env *env, int sock)
{
    if (env->ops->sock_abort != NULL)
        env->ops->sock_abort(env, sock);
    else
        env->ops->sock_close(env, sock);
}

uint64_t env_sock_moved_bytes(struct env *env, int sock)
{
    return env->ops->sock_moved_bytes == NULL ? env_now_ns(env)
                                              : env->ops->sock_moved_bytes(env, sock);
}

void env_recv(struct env *env, struct env_op *op, int sock, void *buf, uint32_t len_bytes,
              unsigned flags, env_done_fn on_done)
{
    op->sock = sock;
    op->buf = buf;
    op->len_bytes = len_bytes;
    op->flags = flags;
    op_submit(env, op, ENV_OP_RECV, on_done);
}

void env_recv_any(struct env *env, struct env_op *op, int sock, env_done_fn on_done)
{
    op->sock = sock;
    op->buf = NULL;
    op_submit(env, op, ENV_OP_RECV_ANY, on_done);
}

void env_recv_return(struct env *env, struct env_op *op)
{
    env->ops->recv_return(env, op);
    op->buf = NULL;
}

static void op_send(struct env *env, struct env_op *op, int sock, const struct iovec *iov,
                    unsigned iov_n, unsigned flags, env_done_fn on_done, env_done_fn on_released)
{
    op->sock = sock;
    op->flags = flags;
    op->on_released = on_released;
    op_set_iov(op, iov, iov_n);
    op_submit(env, op, ENV_OP_SEND, on_done);
}

void env_sendv(struct env *env, struct env_op *op, int sock, const struct iovec *iov,
               unsigned iov_n, env_done_fn on_done, env_done_fn on_released)
{
    op_send(env, op, sock, iov, iov_n, 0, on_done, on_released);
}

void env_sendv_zc(struct env *env, struct env_op *op, int sock, const struct iovec *iov,
                  unsigned iov_n, env_done_fn on_done, env_done_fn on_released)
{
    op_send(env, op, sock, iov, iov_n, ENV_SEND_ZC, on_done, on_released);
}

void env_sendv_more(struct env *env, struct env_op *op, int sock, const struct iovec *iov,
                    unsigned iov_n, env_done_fn on_done, env_done_fn on_released)
{
    op_send(env, op, sock, iov, iov_n, ENV_SEND_MORE, on_done, on_released);
}

void env_splice(struct env *env, struct env_op *op, int sock, const struct env_extent *extent,
                unsigned flags, env_done_fn on_done, env_done_fn on_released)
{
    ASSERT(extent->len_bytes > 0);
    op->sock = sock;
    op->flags = flags;
    op->extent = extent;
    op->len_bytes = extent->len_bytes;
    op->on_released = on_released;
    op_submit(env, op, ENV_OP_SPLICE, on_done);
}

static void on_wait_done(struct env_op *op)
{
    op->waited = true;
}

static int op_wait(struct env *env, struct env_op *op)
{
    while (!op->waited)
        env_turn(env, UINT64_MAX);
    return op->res;
}

int env_read_wait(struct env *env, struct env_file *file, void *buf, uint64_t len_bytes,
                  uint64_t offset_bytes)
{
    struct env_op op = {0};
    env_read(env, &op, file, buf, len_bytes, offset_bytes, on_wait_done);
    return op_wait(env, &op);
}

int env_write_wait(struct env *env, struct env_file *file, const void *buf, uint64_t len_bytes,
                   uint64_t offset_bytes, unsigned flags)
{
    struct env_op op = {0};
    env_write(env, &op, file, buf, len_bytes, offset_bytes, flags, on_wait_done);
    return op_wait(env, &op);
}

int env_flush_wait(struct env *env, struct env_file *file)
{
    struct env_op op = {0};
    env_flush(env, &op, file, on_wait_done);
    return op_wait(env, &op);
}

int env_names_wait(struct env *env, struct env_name_step *steps, unsigned steps_n)
{
    struct env_op op = {0};
    env_names(env, &op, steps, steps_n, on_wait_done);
    return op_wait(env, &op);
}
