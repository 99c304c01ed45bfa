/* time_queue.h: intended send times that wait for memory, first in, first out.
 * Happy path: a zeroed queue is empty; push, look at the head, pop.
 * Failure: push says false when there is no memory; the queue is as it was.
 * Ownership: the queue owns its ring until time_queue_fini. Threads: none. */
#ifndef BENCH_LOAD_TIME_QUEUE_H
#define BENCH_LOAD_TIME_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct time_queue {
    uint64_t *at; /* a ring */
    size_t head, n, cap;
};

bool time_queue_push(struct time_queue *q, uint64_t time_ns);
void time_queue_fini(struct time_queue *q);

/* Both: only of a queue with n > 0. */
static inline uint64_t time_queue_head(const struct time_queue *q)
{
    return q->at[q->head];
}

static inline void time_queue_pop(struct time_queue *q)
{
    q->head = (q->head + 1) % q->cap;
    q->n--;
}

#endif
