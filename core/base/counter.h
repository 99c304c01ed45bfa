/* counter.h: counters that one thread writes and others may read at any time.
 *
 * Happy path: counter_add() on the hot path is a load, an addition and a store, without lock prefix
 *   or fence; counter_read() elsewhere sees some recent value, never a torn one. Counters that are
 *   read together are not of one moment.
 * Ownership: they lie in their owner's struct, which counter_calloc() gives cache lines of its own:
 *   a reader never slows the writer of somebody else's.
 * Threads: one writer for each counter, any number of readers. */
#ifndef CORE_BASE_COUNTER_H
#define CORE_BASE_COUNTER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define COUNTER_LINE_BYTES 64u
#define COUNTER_HIST_BUCKETS 32u

static inline uint64_t counter_read(const uint64_t *c)
{
    return __atomic_load_n(c, __ATOMIC_RELAXED);
}

static inline void counter_set(uint64_t *c, uint64_t value)
{
    __atomic_store_n(c, value, __ATOMIC_RELAXED);
}

static inline void counter_add(uint64_t *c, uint64_t n)
{
    counter_set(c, *c + n);
}

/* Buckets by powers of two: bucket i has what is at most 2^i and in none before it, the last one
 * also all that is larger. */
struct counter_hist {
    uint64_t counts[COUNTER_HIST_BUCKETS];
    uint64_t sum;
};

static inline unsigned counter_hist_bucket(uint64_t value)
{
    unsigned bucket = value <= 1 ? 0 : 64u - (unsigned)__builtin_clzll(value - 1);
    return bucket < COUNTER_HIST_BUCKETS ? bucket : COUNTER_HIST_BUCKETS - 1;
}

static inline void counter_hist_add(struct counter_hist *h, uint64_t value)
{
    counter_add(&h->counts[counter_hist_bucket(value)], 1);
    counter_add(&h->sum, value);
}

/* Zeroed, for free(); NULL: no memory. */
static inline void *counter_calloc(size_t bytes)
{
    bytes = (bytes + COUNTER_LINE_BYTES - 1) / COUNTER_LINE_BYTES * COUNTER_LINE_BYTES;
    void *p = aligned_alloc(COUNTER_LINE_BYTES, bytes);
    return p == NULL ? NULL : memset(p, 0, bytes);
}

#endif
