#include "io/env_uring.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/base/assert.h"
#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "io/sock.h"
#include "io/uring_env.h"

enum {
    ENTRIES_DEFAULT = 1024,
    CQ_PER_SQ = 4, /* one op can bring several completions, and many wait long for theirs */
    RETRIES_MAX = 100,
    CANCEL_AGAIN_NS = 100 * 1000 * 1000,
    AWAKE_NS = 10 * 1000 * 1000, /* while helpers compute: then they get a share of the core */
    SHARE_NS = 500 * 1000,
    WORKERS_FILES = 16,
    WORKERS_OTHER = 4,
};

static const struct {
    void (*prepare)(struct uring_env *u, struct env_op *op, struct io_uring_sqe *sqe);
    void (*complete)(struct uring_env *u, struct env_op *op, int res, unsigned cqe_flags);
} kinds[ENV_OP_KINDS] = {
    [ENV_OP_READ] = {uring_rw_prepare, uring_rw_complete},
    [ENV_OP_WRITE] = {uring_rw_prepare, uring_rw_complete},
    [ENV_OP_FLUSH] = {uring_flush_prepare, uring_flush_complete},
    [ENV_OP_NAMES] = {NULL, NULL}, /* by the helper thread */
    [ENV_OP_ACCEPT] = {uring_accept_prepare, uring_accept_complete},
    [ENV_OP_RECV] = {uring_recv_prepare, uring_recv_complete},
    [ENV_OP_RECV_ANY] = {uring_recv_any_prepare, uring_recv_any_complete},
    [ENV_OP_SEND] = {uring_send_prepare, uring_send_complete},
    [ENV_OP_CONNECT] = {uring_connect_prepare, uring_connect_complete},
    [ENV_OP_SPLICE] = {uring_splice_prepare, uring_splice_complete},
};

static bool op_has_file(const struct env_op *op)
{
    return op->kind == ENV_OP_READ || op->kind == ENV_OP_WRITE || op->kind == ENV_OP_FLUSH;
}

void uring_op_finish(struct uring_env *u, struct env_op *op, int res)
{
    if (op_has_file(op)) {
        losses_note(op, &op->file->losses, res);
        uring_pace_write_ended(&u->pace, op, u->now_ns);
    }
    op->res = res;
    list_push_tail(&u->done, &op->link);
}

void uring_op_again(struct uring_env *u, struct env_op *op)
{
    ASSERT(!list_linked(&op->link));
    struct list_node *list = &u->pending;
    if (uring_pace_takes(op))
        list = &u->pace.waiting;
    else if (uring_send_is_bulky(op))
        list = &u->bulky;
    list_push_tail(list, &op->link);
}

/* private_[3] counts: a descriptor that answers -EAGAIN for ever (O_NONBLOCK) ends as an error. */
bool uring_op_retry(struct uring_env *u, struct env_op *op, int res)
{
    if (res != -EINTR && res != -EAGAIN)
        return false;
    uintptr_t tries = (uintptr_t)op->private_[3];
    if (tries == RETRIES_MAX)
        return false;
    op->private_[3] = (void *)(tries + 1);
    uring_op_again(u, op);
    return true;
}

static uint64_t uring_now_ns(struct env *env)
{
    return uring_env_of(env)->now_ns;
}

static int64_t uring_wall_ms(struct env *env)
{
    struct timespec ts;
    (void)env;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static uint64_t uring_random(struct env *env)
{
    return rng_next(&uring_env_of(env)->rng);
}

/* There may be no steps at all. */
static struct uring_names *names_of(struct uring_env *u, const struct env_op *op)
{
    return op->steps_n > 0 && op->steps->kind == ENV_STEP_RUN ? &u->work : &u->names;
}

static void uring_submit(struct env *env, struct env_op *op)
{
    struct uring_env *u = uring_env_of(env);
    int rc = 0;
    ASSERT(!list_linked(&op->link));
    ASSERT(op->kind == ENV_OP_NAMES || op->len_bytes <= INT32_MAX); /* res must hold it */
    op->private_[3] = NULL;
    if (op->kind == ENV_OP_SPLICE) {
        uring_splice_start(u, op);
        return;
    }
    if (op_has_file(op)) {
        losses_begin(op, &op->file->losses);
        uring_pace_write_began(&u->pace, op, u->now_ns);
    }
    if (op->kind == ENV_OP_NAMES)
        rc = uring_names_submit(names_of(u, op), op);
    else if (op->kind == ENV_OP_ACCEPT)
        rc = uring_accept_start(u, op);
    else if (op->kind == ENV_OP_CONNECT)
        rc = uring_connect_start(op);
    else if (op->kind == ENV_OP_SEND)
        uring_send_start(op);
    if (rc < 0 && op->kind == ENV_OP_ACCEPT)
        op->more = false;
    if (rc < 0)
        uring_op_finish(u, op, rc);
    else if (op->kind != ENV_OP_NAMES)
        uring_op_again(u, op);
}

static void uring_file_close(struct env *env, struct env_file *file)
{
    uring_files_close(&uring_env_of(env)->files, file);
}

static int uring_file_synced(struct env *env, struct env_file *file)
{
    (void)env;
    return losses_synced(&file->losses);
}

static void uring_recv_return(struct env *env, struct env_op *op)
{
    struct uring_env *u = uring_env_of(env);
    ASSERT(op->buf == uring_bufs_at(&u->bufs, op->buf_id));
    uring_bufs_give(&u->bufs, op->buf_id);
}

static void uring_sock_shutdown(struct env *env, int sock)
{
    (void)env;
    shutdown(sock, SHUT_RDWR);
}

static void uring_sock_close(struct env *env, int sock)
{
    (void)env;
    close(sock);
}

static void uring_sock_abort(struct env *env, int sock)
{
    (void)env;
    sock_abort(sock);
}

static uint64_t uring_sock_moved_bytes(struct env *env, int sock)
{
    (void)env;
    return sock_moved_bytes(sock);
}

/* Always done by a worker: the page faults are its. */
static bool uring_populate(struct env *env, void *memory, size_t len_bytes)
{
    struct uring_env *u = uring_env_of(env);
    struct io_uring_sqe *sqe = u->populating ? NULL : io_uring_get_sqe(&u->ring);
    if (sqe == NULL)
        return false;
    io_uring_prep_madvise(sqe, memory, (off_t)len_bytes, MADV_POPULATE_WRITE);
    io_uring_sqe_set_data64(sqe, URING_TAG_POPULATED);
    u->populating = true;
    return true;
}

static void uring_env_post(struct env *env, unsigned to, struct env_msg *msg)
{
    struct uring_env *u = uring_env_of(env);
    ASSERT(to < env->count);
    if (to == env->index) {
        msg->from = to;
        list_push_tail(&u->self, &msg->link);
        return;
    }
    uring_post(u->group, env->index, to, msg);
    u->wakes[to / 64] |= UINT64_C(1) << (to % 64);
}

/* Wake the shards that were posted to and sleep. False: the ring is full, the rest comes later. */
static bool wakes_prepare(struct uring_env *u)
{
    for (unsigned w = 0; w < (u->env.count + 63) / 64; w++) {
        while (u->wakes[w] != 0) {
            unsigned to = w * 64 + (unsigned)__builtin_ctzll(u->wakes[w]);
            if (io_uring_sq_space_left(&u->ring) == 0)
                return false;
            u->wakes[w] &= u->wakes[w] - 1;
            if (!uring_post_settle(u->group, to))
                continue;
            int fd = uring_group_ring_fd(u->group, to);
            if (!u->features.msg_ring || fd < 0) {
                uring_group_ring_bell(u->group, to);
                continue;
            }
            struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
            io_uring_prep_msg_ring(sqe, fd, 0, URING_TAG_WAKE, 0);
            sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
            io_uring_sqe_set_data64(sqe, (uint64_t)to << 3 | URING_TAG_WAKE_SENT);
        }
    }
    return true;
}

static void bell_prepare(struct uring_env *u)
{
    if (u->bell_armed)
        return;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    if (sqe == NULL)
        return;
    io_uring_prep_read(sqe, uring_group_bell_fd(u->group, u->env.index), &u->bell_value,
                       sizeof(u->bell_value), 0);
    io_uring_sqe_set_data64(sqe, URING_TAG_BELL);
    u->bell_armed = true;
}

/* False: the ring is full. */
static bool op_prepare(struct uring_env *u, struct env_op *op)
{
    bool polled = uring_poll_takes(&u->poll, op);
    struct io_uring_sqe *sqe = io_uring_get_sqe(polled ? &u->poll.ring : &u->ring);
    if (sqe == NULL)
        return false;
    list_remove(&op->link);
    kinds[op->kind].prepare(u, op, sqe);
    io_uring_sqe_set_data(sqe, op);
    *(polled ? &u->poll.in_flight : &u->in_kernel) += 1;
    return true;
}

static bool list_prepare(struct uring_env *u, struct list_node *ops)
{
    for (struct list_node *node; (node = list_head(ops)) != NULL;)
        if (!op_prepare(u, container_of(node, struct env_op, link)))
            return false;
    return true;
}

/* Make SQEs of all that waits; false if the ring was full first. */
static bool prepare(struct uring_env *u)
{
    bool all = wakes_prepare(u);
    bell_prepare(u);
    if (u->bufs.returned_n > 0)
        uring_bufs_prepare(&u->bufs, URING_TAG_QUIET);
    if (!list_prepare(u, &u->pending))
        return false;
    /* Behind the writes, which the disk begins first; before what the processor is busy with. */
    struct env_op *op;
    while ((op = uring_pace_next(&u->pace, u->now_ns)) != NULL) {
        if (!op_prepare(u, op))
            return false;
        uring_pace_read_began(&u->pace, op, u->now_ns);
    }
    if (!list_prepare(u, &u->bulky))
        return false;
    return all && u->bell_armed && u->bufs.returned_n == 0;
}

/* wait_n 0: submit and let the kernel finish what it can; else wait, at most for timeout_ns. */
static int enter(struct uring_env *u, unsigned wait_n, uint64_t timeout_ns)
{
    struct __kernel_timespec ts = {.tv_sec = (long long)(timeout_ns / 1000000000u),
                                   .tv_nsec = (long long)(timeout_ns % 1000000000u)};
    bool timed = wait_n > 0 && timeout_ns != UINT64_MAX;
    int rc = compat_enter(&u->ring, compat_sq_flush(&u->ring), wait_n,
                          u->enter_flags | IORING_ENTER_GETEVENTS, timed ? &ts : NULL);
    counter_add(&u->env.counters.syscalls, 1);
    counter_add(&u->env.counters.submissions, rc > 0 ? (unsigned)rc : 0);
    return rc;
}

static bool kernel_has_work(const struct uring_env *u)
{
    unsigned flags = IO_URING_READ_ONCE(*u->ring.sq.kflags);
    return (flags & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
}

static void enter_polled(struct uring_env *u)
{
    if (u->poll.in_flight == 0)
        return;
    int rc = uring_poll_enter(&u->poll, 0);
    counter_add(&u->env.counters.syscalls, 1);
    counter_add(&u->env.counters.submissions, rc > 0 ? (unsigned)rc : 0);
}

static bool has_callbacks(struct uring_env *u)
{
    return !list_empty(&u->done) || !list_empty(&u->self);
}

static bool has_completions(const struct uring_env *u)
{
    return io_uring_cq_ready(&u->ring) > 0 ||
           (u->poll.in_flight > 0 && io_uring_cq_ready(&u->poll.ring) > 0);
}

static bool flush_is_near(const struct uring_env *u)
{
    const struct uring_flushes *f = &u->flushes;
    return f->limit_ns > 0 && f->in_flight > 0 && f->usual_ns <= f->limit_ns;
}

/* Look for work for a while; as long as a device has to be asked, until it has answered. True if
 * there is some, or the deadline is over: then do not sleep. */
static bool busy_poll(struct uring_env *u, uint64_t deadline_ns)
{
    if (u->busy_ns == 0 && !flush_is_near(u))
        return false;
    if (compat_sq_flush(&u->ring) > 0 || kernel_has_work(u))
        enter(u, 0, 0);
    uint64_t now_ns = clock_now_ns(), end_ns = now_ns + u->busy_ns;
    if (flush_is_near(u))
        end_ns = MAX(end_ns, u->flushes.started_ns + 2 * u->flushes.usual_ns);
    while (!has_completions(u) && !kernel_has_work(u) && !uring_post_any(u->group, u->env.index)) {
        if (now_ns >= deadline_ns)
            return true;
        if (u->poll.in_flight == 0 && now_ns >= end_ns)
            return false;
        enter_polled(u);
        now_ns = clock_now_ns();
    }
    return true;
}

static void gap_make(struct uring_env *u)
{
    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = SHARE_NS}, NULL);
    counter_add(&u->env.counters.syscalls, 1);
    u->slept_ns = clock_now_ns();
}

/* Those that compute run while the shard sleeps (uring_names.h), and on the other cores of the
 * process. A shard that does not sleep makes gaps for them, each shorter than a turn may be. */
static void give_way(struct uring_env *u)
{
    if (!uring_names_busy(&u->work))
        u->slept_ns = u->now_ns;
    else if (clock_now_ns() - u->slept_ns >= AWAKE_NS)
        gap_make(u);
}

/* The one system call of the turn; more only when the queue is too small for what is queued, or to
 * poll. */
static void submit_and_wait(struct uring_env *u, uint64_t deadline_ns)
{
    bool all = prepare(u);
    uring_names_wake(&u->names);
    uring_names_wake(&u->work);
    while (!all) {
        if (enter(u, 0, 0) < 0)
            break; /* -EBUSY, -EAGAIN: completions must be taken first, which comes next */
        enter_polled(u);
        all = prepare(u);
    }
    enter_polled(u);
    uint64_t now_ns = deadline_ns == 0 || deadline_ns == UINT64_MAX ? 0 : clock_now_ns();
    bool wait = all && deadline_ns > now_ns && !has_callbacks(u) && !has_completions(u) &&
                !busy_poll(u, deadline_ns) && uring_post_sleep(u->group, u->env.index);
    if (wait) {
        enter(u, 1, deadline_ns == UINT64_MAX ? UINT64_MAX : deadline_ns - now_ns);
        uring_post_awake(u->group, u->env.index);
        u->slept_ns = clock_now_ns();
    } else if (compat_sq_flush(&u->ring) > 0 || kernel_has_work(u)) {
        enter(u, 0, 0);
    }
}

static void reap_one(struct uring_env *u, const struct io_uring_cqe *cqe)
{
    unsigned tag = cqe->user_data & URING_TAG_MASK;
    if (tag == URING_TAG_OP) {
        struct env_op *op = (struct env_op *)(uintptr_t)cqe->user_data;
        if ((cqe->flags & IORING_CQE_F_MORE) == 0)
            u->in_kernel--;
        kinds[op->kind].complete(u, op, cqe->res, cqe->flags);
    } else if (tag == URING_TAG_BELL) {
        u->bell_armed = false;
    } else if (tag == URING_TAG_POPULATED) {
        u->populating = false; /* or not possible: then the first touch waits, as ever */
    } else if (tag == URING_TAG_WAKE_SENT && cqe->res < 0) {
        uring_group_ring_bell(u->group, (unsigned)(cqe->user_data >> 3));
    }
}

static void reap(struct uring_env *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        reap_one(u, cqe);
        n++;
    }
    io_uring_cq_advance(&u->ring, n);
    counter_add(&u->env.counters.completions, n);
}

static void reap_polled(struct uring_env *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    if (u->poll.in_flight == 0)
        return;
    io_uring_for_each_cqe(&u->poll.ring, head, cqe)
    {
        struct env_op *op = (struct env_op *)(uintptr_t)cqe->user_data;
        if (cqe->res == -EOPNOTSUPP) { /* refused before anything was done: not by polling, then */
            op->file->poll_bytes_max = 0;
            uring_pace_read_ended(&u->pace, op, u->now_ns);
            uring_op_again(u, op);
        } else {
            kinds[op->kind].complete(u, op, cqe->res, cqe->flags);
        }
        n++;
    }
    io_uring_cq_advance(&u->poll.ring, n);
    u->poll.in_flight -= n;
    counter_add(&u->env.counters.completions, n);
    counter_add(&u->env.counters.polled, n);
}

static void file_add(struct uring_env *u, struct env_file *file)
{
    uring_files_add(&u->files, file);
    file->poll_bytes_max = file->buffered ? 0 : uring_poll_limit(&u->poll, file->fd);
}

/* What the helper thread could not do: the devices are the group's. */
static void step_settle(struct uring_env *u, struct env_name_step *step)
{
    if (step->kind == ENV_STEP_CREATE || step->kind == ENV_STEP_PREWRITE ||
        step->kind == ENV_STEP_OPEN || step->kind == ENV_STEP_OPEN_CACHED) {
        step->ret_file->losses.device = uring_group_device(u->group, step->device);
        file_add(u, step->ret_file);
    }
    if (step->kind == ENV_STEP_STAT)
        step->ret_flushes_failed = losses_counted(uring_group_device(u->group, step->device));
}

static void names_reap(struct uring_env *u)
{
    struct list_node finished, *node;
    list_init(&finished);
    uring_names_take(&u->names, &finished);
    uring_names_take(&u->work, &finished);
    while ((node = list_pop_head(&finished)) != NULL) {
        struct env_op *op = container_of(node, struct env_op, link);
        unsigned ran = op->res == 0 ? op->steps_n : op->failed_step;
        for (unsigned i = 0; i < ran; i++)
            step_settle(u, &op->steps[i]);
        if (op->res < 0 && op->steps[ran].sync_failed)
            losses_count(uring_group_device(u->group, op->steps[ran].device));
        list_push_tail(&u->done, node);
    }
}

static void run_messages(struct uring_env *u)
{
    struct list_node batch, *node;
    list_init(&batch);
    list_splice_tail(&batch, &u->self);
    uring_post_collect(u->group, u->env.index, &batch);
    while ((node = list_pop_head(&batch)) != NULL) {
        struct env_msg *msg = container_of(node, struct env_msg, link);
        counter_add(&u->env.counters.messages, 1);
        msg->run(u->env.shard, msg);
    }
}

static void op_call_back(struct uring_env *u, struct env_op *op)
{
    if (op->kind == ENV_OP_ACCEPT && op->private_[0] != NULL) {
        uring_accept_deliver(u, op);
        return;
    }
    if (op->kind == ENV_OP_SEND) {
        uring_send_deliver(op);
        return;
    }
    if (op->kind == ENV_OP_SPLICE) {
        uring_splice_deliver(op);
        return;
    }
    if (op_has_file(op))
        op->res = losses_end(op, &op->file->losses, op->res);
    op->busy = false;
    op->on_done(op);
}

/* Only what is done by now: what the callbacks finish at once waits for the next turn. */
static void run_done(struct uring_env *u)
{
    struct list_node batch, *node;
    list_init(&batch);
    list_splice_tail(&batch, &u->done);
    while ((node = list_pop_head(&batch)) != NULL)
        op_call_back(u, container_of(node, struct env_op, link));
}

/* What came after the last wait has been done. */
static void turn_ended(struct uring_env *u)
{
    counter_hist_add(&u->env.counters.turn_us, (clock_now_ns() - u->now_ns) / 1000);
}

static void uring_turn(struct env *env, uint64_t deadline_ns)
{
    struct uring_env *u = uring_env_of(env);
    counter_add(&env->counters.turns, 1);
    turn_ended(u);
    submit_and_wait(u, deadline_ns);
    give_way(u);
    u->now_ns = clock_now_ns();
    uring_fixed_pump(&u->fixed);
    reap(u);
    reap_polled(u);
    names_reap(u);
    run_messages(u);
    run_done(u);
}

/* Connects that nobody was told of: not in the kernel yet (res is still 0), or just connected. */
static void discard_connects(const struct list_node *ops)
{
    list_for_each(it, ops) {
        const struct env_op *op = container_of(it, struct env_op, link);
        if (op->kind == ENV_OP_CONNECT && op->res >= 0)
            close(op->sock);
    }
}

/* Cancel until the kernel has nothing of ours. What cannot be cancelled (a write on its way to the
 * device) completes in its own time. Completions are counted, not looked at. */
static void drain(struct uring_env *u)
{
    while (u->poll.in_flight > 0) {
        uring_poll_enter(&u->poll, 1);
        unsigned n = io_uring_cq_ready(&u->poll.ring);
        io_uring_cq_advance(&u->poll.ring, n);
        u->poll.in_flight -= n;
    }
    while (u->in_kernel > 0 || u->bell_armed || u->populating) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
        if (sqe != NULL) {
            io_uring_prep_rw(IORING_OP_ASYNC_CANCEL, sqe, -1, NULL, 0, 0);
            sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
            io_uring_sqe_set_data64(sqe, URING_TAG_QUIET);
        }
        enter(u, 2, CANCEL_AGAIN_NS); /* the cancel's own completion and one more */
        struct io_uring_cqe *cqe;
        unsigned head, n = 0;
        io_uring_for_each_cqe(&u->ring, head, cqe)
        {
            unsigned tag = cqe->user_data & URING_TAG_MASK;
            const struct env_op *op = (const struct env_op *)(uintptr_t)cqe->user_data;
            if (tag == URING_TAG_BELL)
                u->bell_armed = false;
            if (tag == URING_TAG_POPULATED)
                u->populating = false;
            if (tag == URING_TAG_OP && op->kind == ENV_OP_ACCEPT && cqe->res >= 0)
                close(cqe->res);
            if (tag == URING_TAG_OP && op->kind == ENV_OP_CONNECT)
                close(op->sock);
            if (tag == URING_TAG_OP && (cqe->flags & IORING_CQE_F_MORE) == 0)
                u->in_kernel--;
            n++;
        }
        io_uring_cq_advance(&u->ring, n);
    }
}

static void uring_destroy(struct env *env)
{
    struct uring_env *u = uring_env_of(env);
    for (unsigned to = 0; to < env->count; to++)
        if ((u->wakes[to / 64] >> (to % 64) & 1) != 0 && uring_post_settle(u->group, to))
            uring_group_ring_bell(u->group, to);
    uring_group_set_ring(u->group, env->index, -1);
    drain(u);
    uring_names_fini(&u->names);
    uring_names_fini(&u->work);
    uring_accept_discard_all(u);
    discard_connects(&u->pending);
    discard_connects(&u->done);
    io_uring_queue_exit(&u->ring);
    uring_poll_fini(&u->poll);
    uring_pipes_fini(&u->pipes);
    uring_files_fini(&u->files);
    uring_fixed_fini(&u->fixed);
    uring_bufs_fini(&u->bufs);
    env_uring_group_destroy(u->own_group);
    free(u->wakes);
    free(u->msgs);
    free(u);
}

static const struct env_ops uring_ops = {
    .now_ns = uring_now_ns,
    .wall_ms = uring_wall_ms,
    .random = uring_random,
    .submit = uring_submit,
    .file_close = uring_file_close,
    .file_synced = uring_file_synced,
    .recv_return = uring_recv_return,
    .sock_shutdown = uring_sock_shutdown,
    .sock_close = uring_sock_close,
    .sock_abort = uring_sock_abort,
    .sock_moved_bytes = uring_sock_moved_bytes,
    .populate = uring_populate,
    .post = uring_env_post,
    .turn = uring_turn,
    .destroy = uring_destroy,
};

/* Kernel threads do what would block (each fsync, writes that must allocate): few, and on the
 * shard's own cores, not anywhere on the machine. Refused, they are only more and elsewhere. */
static void workers_limit(struct uring_env *u)
{
    unsigned limits[2] = {WORKERS_FILES, WORKERS_OTHER};
    cpu_set_t mine;
    io_uring_register_iowq_max_workers(&u->ring, limits);
    if (sched_getaffinity(0, sizeof(mine), &mine) == 0)
        io_uring_register_iowq_aff(&u->ring, sizeof(mine), &mine);
}

static int ring_open(struct uring_env *u, unsigned entries)
{
    const struct io_features *has = &u->features;
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
                                              IORING_SETUP_SUBMIT_ALL};
    params.cq_entries = entries * CQ_PER_SQ;
    if (has->single_issuer)
        params.flags |= IORING_SETUP_SINGLE_ISSUER;
    if (has->defer_taskrun)
        params.flags |= IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    else if (has->coop_taskrun)
        params.flags |= IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    int rc = io_uring_queue_init_params(entries, &u->ring, &params);
    if (rc < 0)
        return rc;
    /* Saves looking up the ring's descriptor at each enter; only worth trying. */
    if (io_uring_register_ring_fd(&u->ring) == 1)
        u->enter_flags = IORING_ENTER_REGISTERED_RING;
    workers_limit(u);
    return 0;
}

/* Where the shard has time to look for work, the network cards and disks are polled, too. */
static void polling_init(struct uring_env *u, const struct env_uring_config *config)
{
    struct compat_napi napi = {.busy_poll_to = config->busy_poll_us, .prefer_busy_poll = 1};
    u->busy_ns = (uint64_t)config->busy_poll_us * 1000;
    u->flushes.limit_ns = (uint64_t)config->flush_poll_us * 1000;
    if (u->busy_ns == 0)
        return;
    if (u->features.napi)
        io_uring_register((unsigned)u->ring.ring_fd, COMPAT_REGISTER_NAPI, &napi, 1);
    if (u->features.iopoll)
        uring_poll_init(&u->poll, u->features.single_issuer, config->lock_fds, config->lock_fds_n);
}

static int parts_init(struct uring_env *u, const struct env_uring_config *config)
{
    int rc = uring_files_init(&u->files, &u->ring, &u->features, config);
    if (rc == 0)
        rc = uring_fixed_init(&u->fixed, &u->ring, config->fixed,
                              u->features.fixed_buffers ? config->fixed_n : 0);
    if (rc == 0)
        rc = uring_bufs_init(&u->bufs, &u->ring, u->features.buf_ring, config->recv_buffers,
                             config->recv_buffer_bytes, config->recv_memory);
    if (rc == 0)
        polling_init(u, config);
    u->msgs = calloc(u->ring.sq.ring_entries, sizeof(*u->msgs));
    u->wakes = calloc((u->env.count + 63) / 64, sizeof(*u->wakes));
    if (rc == 0 && (u->msgs == NULL || u->wakes == NULL))
        rc = -ENOMEM;
    if (rc < 0)
        return rc;
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        seed = clock_now_ns();
    rng_seed(&u->rng, seed);
    int bell_fd = uring_group_bell_fd(u->group, u->env.index);
    uring_names_init(&u->names, &uring_names_kind_names, bell_fd);
    uring_names_init(&u->work, &uring_names_kind_work, bell_fd);
    return 0;
}

/* What a caller may leave out. */
static int defaults_fill(struct uring_env *u, const struct env_uring_config *config)
{
    const char *reason;
    int rc = 0;
    if (config->features != NULL)
        u->features = *config->features;
    else
        rc = io_probe(&u->features, &reason);
    u->group = config->group;
    if (rc == 0 && u->group == NULL) {
        rc = env_uring_group_create(1, &u->own_group);
        u->group = u->own_group;
    }
    if (rc == 0 && config->index >= uring_group_count(u->group))
        rc = -EINVAL;
    return rc;
}

int env_uring_create(const struct env_uring_config *config, struct env **ret)
{
    struct uring_env *u = counter_calloc(sizeof(*u));
    if (u == NULL)
        return -ENOMEM;
    list_init(&u->pending);
    list_init(&u->bulky);
    list_init(&u->done);
    list_init(&u->self);
    list_init(&u->accepts);
    uring_pace_init(&u->pace);
    uring_pipes_init(&u->pipes);
    int rc = defaults_fill(u, config);
    if (rc < 0)
        goto err_free;
    u->env.ops = &uring_ops;
    u->env.index = config->index;
    u->env.count = uring_group_count(u->group);
    u->env.shard = config->shard;
    u->now_ns = clock_now_ns();
    rc = ring_open(u, config->entries > 0 ? config->entries : ENTRIES_DEFAULT);
    if (rc < 0)
        goto err_free;
    rc = parts_init(u, config);
    if (rc < 0)
        goto err_ring;
    uring_group_set_ring(u->group, config->index, u->ring.ring_fd);
    *ret = &u->env;
    return 0;

err_ring:
    ASSERT(rc < 0);
    io_uring_queue_exit(&u->ring);
    uring_poll_fini(&u->poll);
    uring_files_fini(&u->files);
    uring_fixed_fini(&u->fixed);
    uring_bufs_fini(&u->bufs);
    free(u->msgs);
    free(u->wakes);
err_free:
    env_uring_group_destroy(u->own_group);
    free(u);
    return rc;
}

bool env_uring_file_buffered(const struct env_file *file)
{
    return file->buffered;
}

bool env_uring_has_fixed(const struct env *env)
{
    return container_of(env, const struct uring_env, env)->fixed.registered_n > 0;
}
