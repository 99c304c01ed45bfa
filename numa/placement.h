/* placement.h: from a machine and a few settings to what each shard gets: core, memory, devices.
 * Happy path: placement_compute() is a pure function: same topology and settings, same placement.
 *   - A core's place is its memory node: the node that its memory comes from. Cores of a node
 *     without memory count to their nearest node that has some.
 *   - One shard per allowed core. Fewer shards are dealt to the places in turn, and within a place
 *     to its L3 caches in turn, so that they spread evenly. More shards than cores are dealt round
 *     robin a second time, and those cores' shards are marked shared.
 *   - Shards are numbered by place, then core. A shard is pinned to the first allowed PU of its
 *     core; the SMT siblings are left to the kernel and to helper threads.
 *   - Memory: the total is split evenly and rounded down to 2 MiB pages. Auto (0) is the lesser of
 *     a quarter of the allowed memory and 256 MiB a shard; on a node too small for that, a
 *     quarter of the node split among its shards.
 * Failure: -errno and ret->reason, one sentence; nothing else of *ret is written and it needs no
 *   fini. -EINVAL: settings out of range; -ENOMEM: they ask for more memory than there is, or leave
 *   a shard under 2 MiB; -ENODEV: no core may be used.
 * Ownership: the caller owns the placement and ends it with placement_fini(); it borrows nothing
 *   from the topology, whose indices it speaks of.
 * Threads: any. */
#ifndef NUMA_PLACEMENT_H
#define NUMA_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "numa/topo.h"

#define PLACEMENT_SHARDS_MAX 1024u
#define PLACEMENT_PAGE_BYTES (UINT64_C(2) << 20)         /* a shard's memory is a multiple of it */
#define PLACEMENT_AUTO_SHARD_BYTES (UINT64_C(256) << 20) /* at most this, when not told */
#define PLACEMENT_AUTO_DIVISOR 4u                        /* and at most this part of the memory */

struct placement_settings {
    unsigned shards;                 /* 0: one per allowed core */
    uint64_t memory_bytes;           /* of all shards together; 0: auto */
    const uint64_t *huge_free_bytes; /* free huge pages by topo node index; NULL: none */
};

struct placement_shard {
    unsigned index;
    int core;             /* index in topo->cores */
    unsigned pu_os_index; /* to pin to */
    bool shared;          /* another shard runs on the same core */
    int node;             /* memory: index in topo->nodes */
    unsigned node_os_index;
    uint64_t memory_bytes;
    bool huge_pages; /* the node's free huge pages suffice for this and all shards before it */
    unsigned
        group; /* dense number of its node, 0..n_groups-1: one Kafka node each in advertise=numa */
    const unsigned *near_nics, *near_blocks; /* indices in topo->nics and topo->blocks */
    size_t n_near_nics, n_near_blocks;
};

struct placement {
    struct placement_shard *shards;
    size_t n_shards;
    size_t n_groups;
    uint64_t memory_bytes; /* what the shards have together */
    unsigned *near;        /* what the shards' near_* point into */
    char reason[192];      /* why placement_compute() failed */
};

int placement_compute(const struct topo *topo, const struct placement_settings *settings,
                      struct placement *ret);

/* Is a device attached where this core is? One that is equally far from all is near to all. */
bool placement_is_near(const struct topo *topo, int core, const struct topo_locality *device);

void placement_fini(struct placement *placement);

#endif
