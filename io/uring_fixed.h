/* uring_fixed.h: a ring's registered memory. The kernel then knows its pages, and reads and writes
 * need not look them up and hold them each time. Private to io/.
 * Happy path: the regions are cut into slabs, none of which is registered at first. find() says in
 *   which slab a buffer lies; one that is not registered yet is noted, and pump(), once a turn,
 *   registers it. What is registered is pinned, so memory is resident from its first use on, not
 *   from the start; and a turn never waits for more than one slab's pages.
 * Failure: what cannot be registered (RLIMIT_MEMLOCK, as a rule), lies in no region or across a cut
 *   is read and written as any memory.
 * Ownership: borrows the regions until fini, which the end of the ring precedes.
 * Threads: the shard's. */
#ifndef IO_URING_FIXED_H
#define IO_URING_FIXED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct io_uring;

#define URING_FIXED_REGIONS_MAX 4u

struct uring_fixed {
    struct io_uring *ring;
    struct iovec regions[URING_FIXED_REGIONS_MAX];
    unsigned first_slab[URING_FIXED_REGIONS_MAX];
    unsigned regions_n, slabs_n, registered_n;
    unsigned slab_shift;
    bool *registered; /* by slab */
    int wanted;       /* the slab that comes next; -1: none */
    bool refused;     /* one was: no more are asked for */
};

int uring_fixed_init(struct uring_fixed *f, struct io_uring *ring, const struct iovec *regions,
                     unsigned n);
void uring_fixed_fini(struct uring_fixed *f);

/* The index of the registered slab that holds all of it, or -1. */
int uring_fixed_find(struct uring_fixed *f, const void *base, size_t len_bytes);
/* Registers what find() did not find, at most one slab. */
void uring_fixed_pump(struct uring_fixed *f);

#endif
