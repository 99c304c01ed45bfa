/* uring_names.h: the helper threads that do the blocking name steps of one shard, and others of
 * them that do what takes the processor for long (ENV_STEP_RUN). Private to io/. Happy path: submit
 * queues the op, wake lets the threads begin, a thread runs its steps in order and rings the
 * shard's bell; take hands finished ops back. Threads are started as ops wait: mostly one is
 * enough, but when thousands of partitions want a file, those that fsync at the same time share a
 * commit of the file system. Failure: the first failing step ends the op with its -errno in res and
 * its index in failed_step; what earlier steps made stays made, what a failing step half made is
 * removed again. Threads: init, submit, take and fini on the shard's; the rest on their own.
 * Between submit and take the op and its steps belong to the helper. */
#ifndef IO_URING_NAMES_H
#define IO_URING_NAMES_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

#include "core/base/list.h"
#include "io/env.h"

#define URING_NAMES_THREADS_MAX 8u
#define URING_WORK_THREADS_MAX 4u

struct uring_names_kind {
    const char *thread_name;
    unsigned threads_max;
    /* They compute: wherever the process may run, not where the shard does, and any shard that has
     * something to do goes first. */
    bool computes;
};
extern const struct uring_names_kind uring_names_kind_names, uring_names_kind_work;

/* Nothing in it makes the shard wait for a thread, which may have lost its core to it. */
struct uring_names {
    const struct uring_names_kind *kind;
    _Atomic(struct list_node *) submitted, finished; /* env_op; stacks, linked by `next` */
    sem_t work;                                      /* as many as ops that no thread has */
    _Atomic unsigned unfinished_n;                   /* ops, with a thread or without */
    _Atomic bool stop;
    pthread_mutex_t lock;    /* among the threads */
    struct list_node queued; /* env_op, under lock: were in `submitted`, in order */
    pthread_t threads[URING_NAMES_THREADS_MAX];
    unsigned threads_n, threads_max;
    unsigned owed_n; /* ops that no thread was woken for yet */
    int bell_fd;
};

void uring_names_init(struct uring_names *n, const struct uring_names_kind *kind, int bell_fd);
/* Waits for the jobs at work, frees what undelivered ops opened or read, drops the rest. */
void uring_names_fini(struct uring_names *n);
int uring_names_submit(struct uring_names *n, struct env_op *op);
/* The threads begin on what was submitted; when the shard is about to sleep. A thread that has just
 * been woken is owed processor time by the scheduler, and would have it with the next tick: in the
 * middle of a turn, and for 4 ms. */
void uring_names_wake(struct uring_names *n);
/* Some op has not been run to its end. */
bool uring_names_busy(struct uring_names *n);
/* Moves the finished ops to the end of ret. */
void uring_names_take(struct uring_names *n, struct list_node *ret);

/* uring_steps.c: run one step now. 0 or -errno. Its device is that of the file it opened or looked
 * at, or whose sync failed. */
int uring_step_run(struct env_name_step *step);
/* Undo what the step allocated: its file and its data. */
void uring_step_discard(struct env_name_step *step);

#endif
